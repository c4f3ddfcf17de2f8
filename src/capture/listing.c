/*
 * capture/listing.c - list mode: tables are put on the lists of what is published by a poll, and what that leaves out.
 *
 * A table's rows are in the stream from the moment on at which it was listed. What a transaction wrote into it before is not, also where that transaction
 * ends long afterwards: a snapshot among open transactions, taken meanwhile, does not have these rows either, and a snapshot by a slot may not,
 * where its making began before the table was listed. So the note that the table is inexact says which transactions that can be: all whose ids are below `xmax`, the
 * next id after the table was listed. Rows are whole again in a snapshot that such transactions had all ended before (recover/choose.c).
 *
 * A person's setup lists tables as well, and a process that was killed may have listed some without a note. Therefore what counts is the difference between what is
 * listed now and what was when a poll's notes were last known to be durable (watch.json). Where that is lost and no note has told a digest of it that is
 * still right, every table may have been listed a moment ago.
 *
 * In trigger mode there are no lists here: a table is published from its first row, and gets its identity, or loses it, under a lock that lets no writer be open.
 */
#include "capture/listing.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

#define KEYS_BYTES_MAX ((size_t)64 << 20)

void listing_release(struct listing *l)
{
    json_decref(l->listed);
    *l = (struct listing){0};
}

static void put_digest(const json_t *listed, char ret[static LISTING_DIGEST_BYTES])
{
    CLEANUP(buf_release) struct buf keys = BUF_INIT(KEYS_BYTES_MAX);
    const char *key;
    json_t *name;

    json_object_foreach((json_t *)(uintptr_t)listed, key, name)
        buf_printf(&keys, "%s ", key);
    (void)snprintf(ret, LISTING_DIGEST_BYTES, "%016llx", (unsigned long long)hash64(buf_slice(&keys)));
}

void listing_digest(const struct listing *l, char ret[static LISTING_DIGEST_BYTES])
{
    ret[0] = '\0';
    if (l->listed)
        put_digest(l->listed, ret);
}

json_t *listing_added(const json_t *before, const json_t *now)
{
    json_t *added = json_object(), *name;
    const char *key;

    json_object_foreach((json_t *)(uintptr_t)now, key, name) {
        char table[16]; /* what was stored by an older process has no more */

        (void)snprintf(table, sizeof table, "%.*s", (int)strcspn(key, "."), key);
        if (!json_object_get(before, key) && !json_object_get(before, table))
            (void)json_object_set(added, table + 1, name);
    }
    return added;
}

/* What is listed now and was not when that was last known. */
static json_t *added_now(const struct listing *l, const json_t *now)
{
    char digest[LISTING_DIGEST_BYTES];

    put_digest(now, digest);
    if (!l->listed && (!l->lost || strcmp(l->told, digest) == 0))
        return json_object();
    return listing_added(l->listed, now);
}

/* Whatever was written before this was written by transactions with lower ids. */
static int ask_next_xid(struct pg_conn *sql, uint64_t *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    TRY(pg_query_value(sql, "SELECT pg_current_xact_id()", PG_QUERY_TIMEOUT_MS, &text, err));
    return text_parse_u64(slice_str(text), 0, INT64_MAX, ret, err);
}

static int ask_end(struct pg_conn *sql, struct position *ret, struct error *err)
{
    uint64_t lsn;

    TRY(pg_inserted_lsn(sql, &lsn, err));
    *ret = position_of_lsn(lsn);
    return 0;
}

/* --- notes --------------------------------------------------------------------------------------------------------------- */

struct range {
    struct position from, to;
    uint64_t xmax;
};

static void put_note(struct capture *c, const struct range *r, uint32_t id, const char *table, const char *reason)
{
    json_t *note = note_inexact(table, id, r->from, r->to, reason);

    json_set_u64(note, "xmax", r->xmax);
    capture_put_note(c, note);
}

static void put_added(struct capture *c, const struct range *r, const char *id, const json_t *added)
{
    CLEANUP(buf_release) struct buf table = BUF_INIT((size_t)1 << 10);
    uint64_t relation = 0;

    if (json_get_bytes(added, id, "the lists", &table, NULL) < 0)
        buf_clear(&table);
    (void)!text_parse_u64(slice_str(id), 1, UINT32_MAX, &relation, NULL);
    put_note(c, r, (uint32_t)relation, buf_cstr(&table), "somebody put it on a list of published tables: what was written before is not captured");
}

static void put_notes(struct capture *c, const struct range *r, const struct pg_poll_change *changes, size_t count, json_t *added)
{
    const char *id;
    json_t *name;

    for (size_t i = 0; i < count; i++) {
        char own[16];

        (void)snprintf(own, sizeof own, "%u", changes[i].relation_id);
        (void)json_object_del(added, own);
        put_note(c, r, changes[i].relation_id, changes[i].table, changes[i].reason);
    }
    json_object_foreach(added, id, name)
        put_added(c, r, id, added);
}

/* In this order: what was listed, the next transaction's id, the log's end. */
static int see(struct listing *l, struct capture *c, struct pg_conn *sql, struct position from, const struct pg_poll_change *changes, size_t count,
               struct error *err)
{
    JSON_AUTO now = NULL;
    JSON_AUTO added = NULL;
    struct range r = {.from = from};

    TRY(pg_listed(sql, &c->names, &now, err));
    added = added_now(l, now);
    if (count > 0 || json_object_size(added) > 0) {
        TRY(ask_next_xid(sql, &r.xmax, err));
        TRY(ask_end(sql, &r.to, err));
        put_notes(c, &r, changes, count, added);
    }
    json_decref(l->listed);
    l->listed = json_incref(now);
    return 0;
}

int listing_poll(struct listing *l, struct capture *c, struct pg_conn *sql, struct position from, struct error *err)
{
    struct pg_poll_change *changes = NULL;
    size_t count = 0;

    TRY(pg_keep_lists(sql, &c->config->protect, &changes, &count, err));
    int rc = see(l, c, sql, from, changes, count, err);
    for (size_t i = 0; i < count; i++) {
        free(changes[i].table);
        free(changes[i].reason);
    }
    free(changes);
    return rc;
}
