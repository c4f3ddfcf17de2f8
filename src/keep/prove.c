/*
 * keep/prove.c - see prove.h.
 *
 * The scratch directory has a random name, which is durable in STATE/prove.json before the directory is made: whatever kills
 * the proof, the next one finds it, ends the server in it and removes it. The server listens on loopback and lets nobody in
 * there; its directory carries the mark of an unfinished recovery to the end, so it is never taken for a database that may be used.
 */
#include "keep/prove.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "os/nice.h"

#define RECORD_BYTES_MAX 65536u
#define LOCK_WAIT_US     (6 * 3600 * CLOCK_US_PER_S)
#define LOCK_LOOK_MS     500

void prove_result_release(struct prove_result *r)
{
    recover_result_release(&r->recovery);
    *r = (struct prove_result){0};
}

static char *record_path(const char *state)
{
    return mem_printf("%s/prove.json", state);
}

static int lock(const char *state, bool wait, struct file *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/prove.lock", state);
    int64_t deadline = clock_mono_us() + (wait ? LOCK_WAIT_US : 0);

    TRY(dir_make_all(state, 0700, err));
    for (;;) {
        int rc = lock_take(ret, path, err);
        if (rc == -ERROR_BUSY && clock_mono_us() >= deadline)
            return error_prefix(err, "another proof is at work on this host");
        if (rc != -ERROR_BUSY)
            return rc;
        clock_sleep_ms(LOCK_LOOK_MS);
    }
}

/* --- the scratch directory -------------------------------------------------------------------------------------------- */

static int remove_scratch(const char *state, const char *directory, struct error *err)
{
    CLEANUP(mem_free_ptr) char *record = record_path(state);
    CLEANUP(mem_free_ptr) char *target = mem_printf("%s/target", directory);

    TRY(pg_server_discard(target, err));
    TRY(dir_remove_all(directory, err));
    return file_remove(record, err);
}

static int clean_locked(const char *state, struct error *err)
{
    CLEANUP(mem_free_ptr) char *record = record_path(state);
    CLEANUP(buf_release) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    const char *directory;
    JSON_AUTO o = NULL;

    if (!file_exists(record))
        return 0;
    TRY(file_read_all(record, RECORD_BYTES_MAX, &text, err));
    TRY(json_parse(buf_slice(&text), record, &o, err));
    TRY(json_get_str(o, "directory", record, &directory, err));
    if (directory[0] != '/' || !strstr(directory, "/salvor-prove-"))
        return error_set(err, ERROR_CORRUPT, "%s names %s, which is no directory of a proof", record, directory);
    return remove_scratch(state, directory, err);
}

int prove_clean(const char *state, struct error *err)
{
    CLEANUP(mem_free_ptr) char *record = record_path(state);
    CLEANUP(file_release) struct file lock_file = FILE_INIT;

    if (!file_exists(record))
        return 0;
    TRY(lock(state, false, &lock_file, err));
    return clean_locked(state, err);
}

static const char *parent_of(const struct prove_config *config)
{
    const char *tmp = getenv("TMPDIR");

    if (config->scratch_parent)
        return config->scratch_parent;
    return tmp && tmp[0] == '/' ? tmp : "/var/tmp";
}

/* Recorded first. The server's own user has to get through it. */
static int make_scratch(const struct prove_config *config, char **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *record = record_path(config->state);
    CLEANUP(buf_release) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    JSON_AUTO o = json_object();
    uint8_t random[8];
    char hex[2 * sizeof random + 1];

    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), hex);
    TRY(dir_make_all(parent_of(config), 0755, err));
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/salvor-prove-%s", parent_of(config), hex);
    json_set_str(o, "directory", path);
    json_set_str(o, "source", config->recover.source);
    json_dump(o, &text);
    TRY(file_replace(record, buf_slice(&text), 0600, err));
    if (mkdir(path, 0711) < 0 || chmod(path, 0711) < 0)
        return error_errno(err, errno, "cannot make %s", path);
    *ret = path;
    path = NULL;
    return 0;
}

/* --- which snapshot --------------------------------------------------------------------------------------------------- */

static void free_ids(char **ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
}

/* The wanted snapshot of one history, or its newest. 1: found. */
static int find_in(const struct recover_config *c, const char *incarnation, const char *wanted,
                   char ret[static SNAPSHOT_ID_BYTES], struct error *err)
{
    char **ids;
    size_t count;
    int found = 0;

    TRY(snapshot_list(c->vault, c->source, incarnation, &ids, &count, err));
    for (size_t i = count; i-- > 0 && !found;) {
        if (wanted && !snapshot_is(ids[i], wanted))
            continue;
        (void)snprintf(ret, SNAPSHOT_ID_BYTES, "%s", ids[i]);
        found = 1;
    }
    free_ids(ids, count);
    return found;
}

static int find_snapshot(const struct prove_config *config, char incarnation[static VAULT_INCARNATION_BYTES],
                         char ret[static SNAPSHOT_ID_BYTES], struct error *err)
{
    const struct recover_config *c = &config->recover;
    struct incarnation *list;
    size_t count;

    TRY(incarnation_list(c->vault, c->source, &list, &count, err));
    CLEANUP(mem_free_ptr) struct incarnation *all = list;
    for (size_t i = count; i-- > 0;) {
        int found = find_in(c, all[i].id, config->snapshot, ret, err);
        TRY(found);
        if (found) {
            memcpy(incarnation, all[i].id, VAULT_INCARNATION_BYTES);
            return 0;
        }
    }
    if (config->snapshot)
        return error_set(err, ERROR_NOT_FOUND, "source %s has no snapshot %s in vault %s", c->source, config->snapshot,
                         c->vault->name);
    return error_set(err, ERROR_NOT_FOUND, "source %s has no snapshot in vault %s: there is nothing to prove", c->source,
                     c->vault->name);
}

/* --- the proof -------------------------------------------------------------------------------------------------------- */

struct attempt {
    struct recover_config recover;
    char incarnation[VAULT_INCARNATION_BYTES];
    char *target, *work;
    json_t *extra; /* members of the proof of its own */
    void (*progress)(void *user, const struct recover_progress *p);
    void *user;
};

static void attempt_release(struct attempt *a)
{
    free(a->target);
    free(a->work);
    json_decref(a->extra);
}

static int recover_once(struct attempt *a, enum recover_target_kind kind, const char *why_not, struct recover_result *ret,
                        struct error *err)
{
    struct recover_config *c = &a->recover;

    TRY(dir_make_all(a->work, 0700, err));
    c->kind = kind;
    json_set_bool(a->extra, "rolled_forward", kind == RECOVER_LATEST);
    json_set_str(a->extra, "not_rolled_forward_because", why_not);
    return recover_run(c, a->progress, a->user, ret, err);
}

static bool is_barred(int rc)
{
    return rc == -ERROR_REFUSED || rc == -ERROR_GAP || rc == -ERROR_CORRUPT;
}

/* To latest, or where the events do not reach across, at its own position. */
static int prove_it(struct attempt *a, struct prove_result *ret, struct error *err)
{
    struct error why = ERROR_INIT;

    TRY(snapshot_position(a->recover.snapshot, &a->recover.to_position, err));
    int rc = recover_once(a, RECOVER_LATEST, NULL, &ret->recovery, &why);
    ret->rolled_forward = rc >= 0;
    if (rc >= 0)
        return 0;
    if (!is_barred(rc)) {
        *err = why;
        return rc;
    }
    (void)snprintf(ret->why_not, sizeof ret->why_not, "%s", why.message);
    return recover_once(a, RECOVER_POSITION, why.message, &ret->recovery, err);
}

static void fill_attempt(struct attempt *a, const struct prove_config *config, const char *scratch, const char *snapshot)
{
    a->target = mem_printf("%s/target", scratch);
    a->work = mem_printf("%s/work", scratch);
    a->extra = json_object();
    a->recover = config->recover;
    a->recover.state_directory = NULL; /* the vault alone is what must be enough */
    a->recover.work_directory = a->work;
    a->recover.incarnation = a->incarnation;
    a->recover.snapshot = snapshot;
    a->recover.local_directory = a->target;
    a->recover.local_port = 0;
    a->recover.local_auth = "reject";
    a->recover.into = NULL;
    a->recover.scratch = true;
    a->recover.proof_extra = a->extra;
    json_set_str(a->extra, "by", config->background ? "salvor run" : "salvor prove");
}

static int prove_in_scratch(const struct prove_config *config, struct attempt *a, const char *snapshot,
                            struct prove_result *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *scratch = NULL;
    struct error cleaning = ERROR_INIT;

    TRY(make_scratch(config, &scratch, err));
    fill_attempt(a, config, scratch, snapshot);
    int rc = prove_it(a, ret, err);
    int removed = remove_scratch(config->state, scratch, &cleaning);
    if (rc >= 0 && removed < 0) {
        *err = cleaning;
        return removed;
    }
    return rc;
}

int prove_run(const struct prove_config *config, void (*progress)(void *user, const struct recover_progress *p), void *user,
              struct prove_result *ret, char ret_snapshot[static SNAPSHOT_ID_BYTES], struct error *err)
{
    CLEANUP(prove_result_release) struct prove_result result = {0};
    CLEANUP(attempt_release) struct attempt a = {.progress = progress, .user = user};
    CLEANUP(file_release) struct file lock_file = FILE_INIT;

    ret_snapshot[0] = '\0';
    if (config->background)
        nice_lower();
    TRY(lock(config->state, config->background, &lock_file, err));
    TRY(clean_locked(config->state, err));
    TRY(find_snapshot(config, a.incarnation, ret_snapshot, err));
    TRY(prove_in_scratch(config, &a, ret_snapshot, &result, err));
    *ret = result;
    result = (struct prove_result){0};
    return 0;
}
