/*
 * capture/state.c - small files of the state directory (docs/formats/state.md). All of them can be lost: the vault and
 * the source are enough to go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "capture/role.h"

#define JSON_BYTES_MAX ((size_t)64 << 20)
#define RELATIONS_BYTES_MAX ((size_t)256 << 20)
#define REASON_BYTES_MAX 512

int state_load_json(const char *directory, const char *name, json_t **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", directory, name);
    CLEANUP(buf_release) struct buf text = BUF_INIT(JSON_BYTES_MAX);

    TRY(file_read_all(path, JSON_BYTES_MAX, &text, err));
    return json_parse(buf_slice(&text), path, ret, err);
}

int state_store_json(const char *directory, const char *name, const json_t *j, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", directory, name);
    CLEANUP(buf_release) struct buf text = BUF_INIT(JSON_BYTES_MAX);

    json_dump(j, &text);
    buf_put_u8(&text, '\n');
    if (text.overflow)
        return error_set(err, ERROR_LIMIT, "%s would pass %zu bytes", path, JSON_BYTES_MAX);
    return file_replace(path, buf_slice(&text), 0600, err);
}

static int get_text(const json_t *o, const char *key, const char *what, char *ret, size_t room, struct error *err)
{
    const char *s;

    TRY(json_get_str(o, key, what, &s, err));
    if (strlen(s) >= room)
        return error_set(err, ERROR_CORRUPT, "%s: %s is too long", what, key);
    memcpy(ret, s, strlen(s) + 1);
    return 0;
}

static int get_u32(const json_t *o, const char *key, const char *what, uint32_t *ret, struct error *err)
{
    uint64_t v;

    TRY(json_get_u64(o, key, what, &v, err));
    if (v > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, "%s: %s is too large", what, key);
    *ret = (uint32_t)v;
    return 0;
}

/* --- current.json ------------------------------------------------------------------------------------------------ */

#define CURRENT "current.json"

int state_load_current(const char *state_directory, struct current *ret, struct error *err)
{
    JSON_AUTO j = NULL;

    TRY(state_load_json(state_directory, CURRENT, &j, err));
    TRY(get_text(j, "incarnation", CURRENT, ret->incarnation, sizeof ret->incarnation, err));
    TRY(get_u32(j, "epoch", CURRENT, &ret->epoch, err));
    return get_u32(j, "session", CURRENT, &ret->session, err);
}

int state_store_current(const char *state_directory, const struct current *current, struct error *err)
{
    JSON_AUTO j = json_object();

    json_set_str(j, "incarnation", current->incarnation);
    json_set_u64(j, "epoch", current->epoch);
    json_set_u64(j, "session", current->session);
    return state_store_json(state_directory, CURRENT, j, err);
}

int capture_current(const char *state_directory, char ret_incarnation[static VAULT_INCARNATION_BYTES],
                    struct error *err)
{
    struct current current;

    TRY(state_load_current(state_directory, &current, err));
    memcpy(ret_incarnation, current.incarnation, VAULT_INCARNATION_BYTES);
    return 0;
}

/* --- incarnation.json -------------------------------------------------------------------------------------------- */

#define INCARNATION "incarnation.json"

int state_load_incarnation(const char *directory, struct incarnation *ret, struct error *err)
{
    JSON_AUTO j = NULL;
    struct incarnation i = {0};
    const char *start;

    TRY(state_load_json(directory, INCARNATION, &j, err));
    TRY(get_text(j, "id", INCARNATION, i.id, sizeof i.id, err));
    TRY(get_text(j, "system_id", INCARNATION, i.system_id, sizeof i.system_id, err));
    TRY(get_u32(j, "timeline", INCARNATION, &i.timeline, err));
    TRY(get_u32(j, "database_oid", INCARNATION, &i.database_oid, err));
    TRY(get_text(j, "database", INCARNATION, i.database, sizeof i.database, err));
    TRY(get_text(j, "slot", INCARNATION, i.slot, sizeof i.slot, err));
    TRY(get_u32(j, "server_version", INCARNATION, &i.server_version, err));
    TRY(json_get_str(j, "start", INCARNATION, &start, err));
    TRY(position_parse(slice_str(start), &i.start, err));
    TRY(json_get_i64(j, "begun_wall_us", INCARNATION, &i.begun_wall_us, err));
    TRY(get_text(j, "reason", INCARNATION, i.reason, sizeof i.reason, err));
    *ret = i;
    return 0;
}

int capture_identity(const char *state_directory, struct incarnation *ret, struct error *err)
{
    struct current current;

    TRY(state_load_current(state_directory, &current, err));
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s", state_directory, current.incarnation);
    return state_load_incarnation(directory, ret, err);
}

int state_store_incarnation(const char *directory, const struct incarnation *i, struct error *err)
{
    JSON_AUTO j = json_object();
    char start[POSITION_TEXT_BYTES];

    json_set_str(j, "id", i->id);
    json_set_str(j, "system_id", i->system_id);
    json_set_u64(j, "timeline", i->timeline);
    json_set_u64(j, "database_oid", i->database_oid);
    json_set_str(j, "database", i->database);
    json_set_str(j, "slot", i->slot);
    json_set_u64(j, "server_version", i->server_version);
    json_set_str(j, "start", position_format(i->start, start));
    json_set_i64(j, "begun_wall_us", i->begun_wall_us);
    json_set_str(j, "reason", i->reason);
    return state_store_json(directory, INCARNATION, j, err);
}

/* --- relations: one block of the spool's kind -------------------------------------------------------------------- */

#define RELATIONS "relations"

int state_store_relations(const char *directory, struct slice frames, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/" RELATIONS, directory);
    CLEANUP(buf_release) struct buf block = BUF_INIT(RELATIONS_BYTES_MAX);
    uint8_t header[BLOCK_HEADER_BYTES];

    block_header(header, 0, 0, frames);
    buf_put(&block, header, sizeof header);
    buf_put_slice(&block, frames);
    if (block.overflow)
        return error_set(err, ERROR_LIMIT, "%s would pass %zu bytes", path, RELATIONS_BYTES_MAX);
    return file_replace(path, buf_slice(&block), 0600, err);
}

int state_forget_relations(const char *directory, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/" RELATIONS, directory);

    return file_remove(path, err);
}

static int know_relations(struct framer *f, struct slice frames, struct error *err)
{
    struct cursor c = cursor_of(frames);

    while (!cursor_done(&c)) {
        struct relation r;
        struct frame frame;

        TRY(frame_decode(&c, &frame, err));
        if (frame.type != FRAME_RELATION)
            continue;
        TRY(relation_decode(frame.body, &r, err));
        framer_know(f, &r);
        relation_release(&r);
    }
    return 0;
}

int state_load_relations(const char *directory, struct framer *f, bool *ret_found, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/" RELATIONS, directory);
    CLEANUP(buf_release) struct buf bytes = BUF_INIT(RELATIONS_BYTES_MAX);
    struct block block;

    *ret_found = false;
    int rc = file_read_all(path, RELATIONS_BYTES_MAX, &bytes, err);
    if (rc == -ERROR_NOT_FOUND)
        return 0;
    TRY(rc);
    if (block_check(buf_slice(&bytes), 0, &block) != BLOCK_GOOD)
        return error_set(err, ERROR_CORRUPT, "%s is damaged", path);
    TRY(know_relations(f, block.body, err));
    *ret_found = true;
    return 0;
}

/* --- want_snapshot ----------------------------------------------------------------------------------------------- */

/* 1: there was one, which is renewed. */
static int renew(const char *path, struct error *err)
{
    if (utimensat(AT_FDCWD, path, NULL, 0) == 0)
        return 1;
    return errno == ENOENT ? 0 : error_errno(err, errno, "cannot touch %s", path);
}

int capture_renew_wish(const char *state_directory, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/want_snapshot", state_directory);

    TRY(renew(path, err));
    return 0;
}

int capture_want_snapshot(const char *state_directory, const char *reason, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/want_snapshot", state_directory);
    char text[REASON_BYTES_MAX];
    int rc = renew(path, err);

    /* The first reason stays; the time says that there was another. */
    TRY(rc);
    if (rc > 0)
        return 0;
    int n = snprintf(text, sizeof text, "%s", reason);
    return file_replace(path, slice_of(text, n < REASON_BYTES_MAX ? (size_t)n : REASON_BYTES_MAX - 1), 0600, err);
}
