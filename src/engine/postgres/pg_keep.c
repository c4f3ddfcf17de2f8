/*
 * engine/postgres/pg_keep.c - the polls of a running capture: lists kept right, changes that nobody captured counted.
 *
 * Trigger mode: event triggers do the work inside the changing transaction; the sweep does what they had to leave
 * (somebody held the publication) and answers DROP INDEX CONCURRENTLY (helpers.sql). List mode: the session's role owns
 * the tables and settles each one that is on the wrong side. Tables that lost their identity go first: their writers
 * are being refused. What a poll finds had not been captured fully since the one before; each is reported once it is
 * found, again while it cannot be mended.
 */
#include "engine/postgres/pg_protect_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

#define LIST_LOCK_MS 100

struct changes {
    struct pg_poll_change *items;
    size_t count, cap;
};

static void changes_release(struct changes *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->items[i].table);
        free(c->items[i].reason);
    }
    free(c->items);
}

/* reason is taken over. */
static void changes_add(struct changes *c, uint32_t id, const char *table, char *reason)
{
    MEM_GROW(c->items, c->cap, c->count);
    c->items[c->count++] = (struct pg_poll_change){.relation_id = id, .table = mem_strdup(table), .reason = reason};
}

/* --- trigger mode ------------------------------------------------------------------------------------------------ */

static char *sweep_reason(const char *outcome, bool done)
{
    if (!done)
        return mem_printf("its updates and deletes are not captured yet: %s", outcome);
    if (strcmp(outcome, "unlisted") == 0)
        return mem_strdup("its rows can no longer be identified: updates and deletes are not captured");
    if (strcmp(outcome, "full") == 0)
        return mem_strdup("it has no key and was given REPLICA IDENTITY FULL only now");
    return mem_strdup("its updates and deletes are captured only from now on");
}

/* A role that only reads may have its transactions read-only by default. */
static int sweep_lists(struct pg_conn *sql, const struct pg_names *names, PGresult **ret, struct error *err)
{
    CLEANUP(mem_free_ptr)
    char *query = mem_printf("SELECT relation, name, outcome, done FROM %s.sweep(0, 0)", names->schema);

    TRY(pg_exec(sql, "BEGIN READ WRITE", PG_QUERY_TIMEOUT_MS, err));
    int rc = pg_query(sql, query, NULL, 0, PG_QUERY_TIMEOUT_MS, ret, err);
    if (rc >= 0)
        return pg_exec(sql, "COMMIT", PG_QUERY_TIMEOUT_MS, err);
    if (sql->pq)
        (void)!pg_exec(sql, "ROLLBACK", PG_QUERY_TIMEOUT_MS, NULL);
    return rc;
}

static int sweep_poll(struct pg_conn *sql, const struct pg_names *names, struct changes *c, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    uint64_t id;

    TRY(sweep_lists(sql, names, &r, err));
    for (int i = 0; i < PQntuples(r); i++) {
        const char *outcome = PQgetvalue(r, i, 2);

        if (strcmp(outcome, "right") == 0)
            continue; /* it was mended between the look and the lock */
        TRY(text_parse_u64(slice_str(PQgetvalue(r, i, 0)), 1, UINT32_MAX, &id, err));
        changes_add(c, (uint32_t)id, PQgetvalue(r, i, 1), sweep_reason(outcome, PQgetvalue(r, i, 3)[0] == 't'));
    }
    return 0;
}

/* --- list mode --------------------------------------------------------------------------------------------------- */

static char *list_reason(const struct table_state *t, bool full, const struct error *failure)
{
    const char *what = !t->in_rows             ? "it was not published until now"
                       : t->why && !t->in_keys ? "its rows cannot be identified"
                       : t->why ? "its rows can no longer be identified: updates and deletes are not captured"
                                : "its updates and deletes are captured only from now on";

    if (failure)
        return mem_printf("%s, and that could not be mended: %s",
                          t->in_rows ? "it is captured in part" : "it is not captured", failure->message);
    return mem_printf("%s%s", what, full ? "; it was given REPLICA IDENTITY FULL" : "");
}

static void list_poll_one(struct pg_conn *sql, const struct pg_protect_config *config, const struct pg_names *names,
                          const struct table_state *t, struct changes *c)
{
    bool full = table_wants_full(config, t) && t->owned;
    struct error failure = ERROR_INIT;
    int rc;

    if (!list_is_wrong(t, full))
        return;
    if (t->owned)
        rc = list_settle(sql, names, t, full, LIST_LOCK_MS, &failure);
    else
        rc = error_set(&failure, ERROR_REFUSED,
                       "the table belongs to another role; its owner must be the source's role or have it "
                       "as a member, or setup must be run with --admin");
    changes_add(c, t->id, t->label, list_reason(t, full, rc < 0 ? &failure : NULL));
}

static int list_poll(struct pg_conn *sql, const struct pg_protect_config *config, const struct pg_names *names,
                     struct changes *c, struct error *err)
{
    CLEANUP(table_states_release) struct table_states tables = {0};

    TRY(table_states_get(sql, names, 0, &tables, err));
    for (int losers = 1; losers >= 0; losers--) {
        for (size_t i = 0; i < tables.count; i++) {
            const struct table_state *t = &tables.items[i];
            if ((t->why && t->in_keys) == (losers == 1))
                list_poll_one(sql, config, names, t, c);
            if (!sql->pq)
                return error_set(err, ERROR_CONNECT, "the session was lost while tables were listed");
        }
    }
    return 0;
}

/* --- both -------------------------------------------------------------------------------------------------------- */

static int must_be_complete(const struct protect_state *st, const struct pg_names *names, struct error *err)
{
    bool triggers = protect_state_has_triggers(st);

    if (!st->rows_exists || !st->keys_exists)
        return error_set(err, ERROR_REFUSED,
                         "the publication %s is gone: changes are not captured; run `salvor setup` again",
                         st->rows_exists ? names->publication_keys : names->publication_rows);
    if (!st->rows_right || !st->keys_right)
        return error_set(
            err, ERROR_REFUSED,
            "somebody altered the publication %s: changes are not captured as they should be; run `salvor setup` again",
            st->rows_right ? names->publication_keys : names->publication_rows);
    if (triggers && (!st->triggers || !st->sweep))
        return error_set(
            err, ERROR_REFUSED,
            "%s: nobody keeps the list of keyed tables right, and a statement of an application could fail; "
            "run `salvor setup` again with --admin",
            st->triggers ? "the sweep may not be called" : "the event triggers are gone or disabled");
    if (!triggers && st->rows_all_tables)
        return error_set(err, ERROR_REFUSED, "the helper schema %s is gone; run `salvor setup` again with --admin",
                         names->schema);
    return 0;
}

int pg_keep_lists(struct pg_conn *sql, const struct pg_protect_config *config, struct pg_poll_change **ret,
                  size_t *ret_count, struct error *err)
{
    CLEANUP(changes_release) struct changes c = {0};
    struct protect_state st;
    struct pg_names names;

    pg_names_of(config->source, &names);
    TRY(protect_state_get(sql, &names, &st, err));
    /* What can be mended is, whatever else is wrong. */
    if (st.keys_exists && st.sweep)
        TRY(sweep_poll(sql, &names, &c, err));
    TRY(must_be_complete(&st, &names, err));
    if (!protect_state_has_triggers(&st))
        TRY(list_poll(sql, config, &names, &c, err));
    *ret = c.items;
    *ret_count = c.count;
    c = (struct changes){0};
    return 0;
}

int pg_keep_look(struct pg_conn *sql, const struct pg_protect_config *config, char ret_lost[static PG_LOST_BYTES], struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct pg_names names;

    pg_names_of(config->source, &names);
    const char *params[] = {names.publication_keys, names.schema};
    /* Where the helpers' schema is there are triggers, and nothing is looked at. */
    TRY(pg_query(sql,
                 "SELECT md5(string_agg(c.oid::text, ',' ORDER BY c.oid)) FROM pg_publication p JOIN pg_publication_rel r "
                 "ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid WHERE p.pubname = $1 AND "
                 "NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = $2) AND c.relreplident <> 'f' AND "
                 "pg_get_replica_identity_index(c.oid) IS NULL",
                 params, 2, PG_QUERY_TIMEOUT_MS, &r, err));
    (void)snprintf(ret_lost, PG_LOST_BYTES, "%s", PQntuples(r) == 1 ? PQgetvalue(r, 0, 0) : "");
    return 0;
}

int pg_published(struct pg_conn *sql, const struct pg_names *names, json_t **ret, struct error *err)
{
    const char *params[] = {names->publication_rows, names->publication_keys, names->schema};
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct protect_state st;

    /* The rows before their judgement: what is touched between the two is seen next time. An older setup has no sequence. */
    TRY(pg_query(sql,
                 "SELECT coalesce((SELECT concat_ws(' ', p.oid, p.xmin) FROM pg_publication p WHERE p.pubname = $1), ''),"
                 " coalesce((SELECT concat_ws(' ', p.oid, p.xmin) FROM pg_publication p WHERE p.pubname = $2), ''),"
                 " (SELECT concat_ws(' ', c.oid, coalesce(pg_sequence_last_value(c.oid), 0)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                 " WHERE n.nspname = $3 AND c.relname = 'untold' AND c.relkind = 'S')",
                 params, 3, PG_QUERY_TIMEOUT_MS, &r, err));
    TRY(protect_state_get(sql, names, &st, err));
    *ret = json_object();
    json_set_str(*ret, names->publication_rows, st.rows_right ? PQgetvalue(r, 0, 0) : "");
    json_set_str(*ret, names->publication_keys, st.keys_right ? PQgetvalue(r, 0, 1) : "");
    if (!PQgetisnull(r, 0, 2))
        json_set_str(*ret, PG_UNTOLD, PQgetvalue(r, 0, 2));
    return 0;
}

int pg_recording(struct pg_conn *sql, const struct pg_names *names, char **ret_stamp, bool *ret, struct error *err)
{
    const char *params[] = {names->trigger_ddl, names->trigger_drop};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    /* A row's xmin is another one after each command that touched it. */
    TRY(pg_query(sql,
                 "WITH t AS (SELECT * FROM (SELECT e.*, e.xmin AS stamp FROM pg_event_trigger e) e WHERE evtname IN ($1, $2)), "
                 "p AS (SELECT b.oid, b.xmin AS stamp FROM pg_publication b WHERE " PG_BARS_RECORDS ") "
                 "SELECT (SELECT count(*) = 2 FROM t WHERE evtenabled = 'A') AND NOT EXISTS (SELECT FROM p), concat("
                 "(SELECT string_agg(concat_ws(' ', oid, evtenabled, stamp), ', ' ORDER BY oid) FROM t), '; ', "
                 "(SELECT string_agg(concat_ws(' ', oid, stamp), ', ' ORDER BY oid) FROM p))",
                 params, 2, PG_QUERY_TIMEOUT_MS, &r, err));
    *ret = PQgetvalue(r, 0, 0)[0] == 't';
    *ret_stamp = mem_strdup(PQgetvalue(r, 0, 1));
    return 0;
}

int pg_listed(struct pg_conn *sql, const struct pg_names *names, json_t **ret, struct error *err)
{
    const char *params[] = {names->publication_rows, names->publication_keys};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(sql,
                 "SELECT CASE p.pubname WHEN $1 THEN 'r' ELSE 'k' END || c.oid || '.' || r.oid, n.nspname || '.' || c.relname FROM pg_publication p JOIN pg_publication_rel r "
                 "ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname IN ($1, $2) AND "
                 "NOT EXISTS (SELECT FROM pg_publication WHERE pubname = $1 AND puballtables) ORDER BY c.oid, p.pubname",
                 params, 2, PG_QUERY_TIMEOUT_MS, &r, err));
    *ret = json_object();
    for (int i = 0; i < PQntuples(r); i++)
        (void)json_object_set_new(*ret, PQgetvalue(r, i, 0), json_bytes(slice_str(PQgetvalue(r, i, 1))));
    return 0;
}

int pg_uncaptured_counts(struct pg_conn *sql, const struct pg_protect_config *config, struct pg_change_count **ret,
                         size_t *ret_count, char **ret_since, struct error *err)
{
    CLEANUP(table_states_release) struct table_states tables = {0};
    CLEANUP(mem_free_ptr) char *since = NULL;
    struct pg_change_count *counts;
    struct pg_names names;
    size_t count = 0;

    pg_names_of(config->source, &names);
    /* Before the counts: what is lost between the two is found by the next poll. Where nothing is counted, counts are always lost. */
    TRY(pg_query_value(sql,
                       "SELECT (SELECT coalesce(stats_reset::text, '') FROM pg_stat_bgwriter) || ' ' || (SELECT coalesce(stats_reset::text, '') "
                       "FROM pg_stat_database WHERE datname = current_database()) || "
                       "CASE current_setting('track_counts') WHEN 'off' THEN ' ' || clock_timestamp() ELSE '' END",
                       PG_QUERY_TIMEOUT_MS, &since, err));
    TRY(table_states_get(sql, &names, 0, &tables, err));
    counts = mem_zalloc(tables.count + 1, sizeof *counts);
    for (size_t i = 0; i < tables.count; i++) {
        struct table_state *t = &tables.items[i];

        counts[count++] = (struct pg_change_count){.relation_id = t->id,
                                                   .table = t->label,
                                                   .changes = t->changes,
                                                   .identified = t->in_keys,
                                                   .inserts_declared = identity_choice_of(config, t->label) == PG_IDENTITY_INSERTS};
        t->label = NULL;
    }
    *ret = counts;
    *ret_count = count;
    *ret_since = since;
    since = NULL;
    return 0;
}
