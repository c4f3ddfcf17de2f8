/* keep/ready.c - see ready.h. */
#include "keep/ready.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/postgres/pg_tools.h"
#include "os/attempt.h"

static int check_cutover(const char *path, struct error *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return error_set(err, ERROR_REFUSED, "the cutover program %s cannot be run: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
        return error_set(err, ERROR_REFUSED, "the cutover program %s cannot be run: it is %s", path,
                         S_ISREG(st.st_mode) ? "not executable (chmod +x)" : "no file");
    return 0;
}

int ready_check(const char *target_directory, const char *cutover, struct error *err)
{
    if (cutover)
        TRY(check_cutover(cutover, err));
    if (pg_server_check_directory(target_directory, err) < 0) {
        const struct error why = *err;
        return error_set(err, ERROR_REFUSED, "the target: %s", why.message);
    }
    return 0;
}

/* --- now and then ---------------------------------------------------------------------------------------------------- */

struct look {
    char *target, *cutover;
};

static void look_free(void *arg)
{
    struct look *l = arg;

    free(l->target);
    free(l->cutover);
    free(l);
}

static int look(void *arg, struct error *err)
{
    const struct look *l = arg;

    return ready_check(l->target, l->cutover, err);
}

static bool say(struct ready *r, const char *text)
{
    if (strcmp(r->text, text) == 0)
        return false;
    (void)snprintf(r->text, sizeof r->text, "%s", text);
    return true;
}

static void begin(struct ready *r, const char *target_directory, const char *cutover, int64_t now_mono_us)
{
    struct look *l = mem_zalloc(1, sizeof *l);

    *l = (struct look){.target = mem_strdup(target_directory), .cutover = cutover ? mem_strdup(cutover) : NULL};
    r->running = attempt_start("ready", look, l, look_free);
    r->begun_mono_us = now_mono_us;
}

bool ready_look(struct ready *r, const char *target_directory, const char *cutover, int64_t now_mono_us)
{
    struct error why = ERROR_INIT;

    if (!r->running && now_mono_us >= r->next_mono_us)
        begin(r, target_directory, cutover, now_mono_us);
    if (!r->running)
        return false;
    if (!attempt_is_over(r->running))
        return now_mono_us - r->begun_mono_us >= READY_PATIENCE_US &&
               say(r, "the target's or the cutover program's file system has not answered: does it hang?");
    int rc = attempt_wait(r->running, now_mono_us, &why);
    attempt_free(r->running);
    r->running = NULL;
    r->next_mono_us = now_mono_us + READY_EVERY_US;
    return say(r, rc < 0 ? why.message : "");
}

void ready_release(struct ready *r)
{
    attempt_free(r->running);
    *r = (struct ready){0};
}
