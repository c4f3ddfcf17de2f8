/*
 * keep/needed.c - see needed.h. The judgement is recovery's own: a second one that only guessed would sooner or later differ from it.
 */
#include "keep/needed.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"

#define STATUS_BYTES_MAX ((size_t)16 << 20)
#define CAPTURE_WAIT_US (60 * CLOCK_US_PER_S)
#define LOOK_EVERY_MS 200
#define STATUS_LATE_MS 2000 /* capture's word is older than what it knows */
#define FILE_TIME_US (20 * CLOCK_US_PER_MS) /* a file's time lags behind the clock by a tick */

void snapshot_wish_fulfil(const char *state_directory, int64_t before_wall_us)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/want_snapshot", state_directory);
    struct error ignored = ERROR_INIT;
    struct stat st;

    if (stat(path, &st) == 0 && (int64_t)st.st_mtim.tv_sec * CLOCK_US_PER_S + st.st_mtim.tv_nsec / 1000 + FILE_TIME_US < before_wall_us &&
        file_remove(path, &ignored) < 0)
        log_warn("%s", ignored.message);
}

/* By capture's own word: a change is known whose result is still being read. */
static bool is_being_captured(const struct recover_config *c)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/status.json", c->state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(STATUS_BYTES_MAX);
    struct position captured;
    JSON_AUTO status = NULL;
    const json_t *change;
    size_t i;

    if (file_read_all(path, STATUS_BYTES_MAX, &text, NULL) < 0 || json_parse(buf_slice(&text), path, &status, NULL) < 0)
        return false;
    captured = position_or_zero(status, "schema_captured");
    json_array_foreach(json_object_get(status, "schema_changed"), i, change)
        if (position_compare(position_or_zero(change, "to"), captured) > 0)
            return true;
    return false;
}

static const char *reason_of(const struct recover_survey *s, size_t i)
{
    const char *text = json_string_value(json_array_get(s->reasons, i));

    return text ? text : "";
}

static enum need judge(const struct recover_survey *s, struct error *why)
{
    const char *more = s->count > 1 ? ", and others" : "";

    if (s->bytes >= s->bytes_total - s->bytes)
        (void)error_set(why, ERROR_REFUSED, "%.600s%s: half of all rows or more would have to be read anew", reason_of(s, 0), more);
    else
        (void)error_set(why, ERROR_REFUSED, "%.600s%s", reason_of(s, 0), more);
    return s->bytes >= s->bytes_total - s->bytes ? NEED_SNAPSHOT : NEED_RENEWAL;
}

enum need snapshot_need(const struct recover_config *config, struct recover_survey *ret, struct error *why)
{
    int64_t deadline_us = clock_mono_us() + CAPTURE_WAIT_US;
    int rc;

    do {
        while (is_being_captured(config) && clock_mono_us() < deadline_us)
            clock_sleep_ms(LOOK_EVERY_MS);
        int64_t asked_wall_us = clock_wall_us();
        recover_survey_release(ret);
        *why = ERROR_INIT;
        rc = recover_survey(config, ret, why);
        if (rc >= 0 && ret->count == 0) {
            snapshot_wish_fulfil(config->state_directory, asked_wall_us);
            return NEED_NOTHING;
        }
        clock_sleep_ms(STATUS_LATE_MS);
    } while (is_being_captured(config) && clock_mono_us() < deadline_us); /* what came meanwhile is not there to be judged yet */
    return rc < 0 ? NEED_SNAPSHOT : judge(ret, why);
}
