/*
 * engine/postgres/pg_slot.c - a slot that was lost is made anew by the source's own role, while publications and helpers stay.
 *
 * What was committed between the loss and the new slot is not in any stream: the caller records it. A crash leaves the
 * old slot, none, or the new one; the same call again finishes. A database that was made again has no publications: a slot before
 * them would be of no use, and a setup that makes them would have to make it once more.
 */
#include "engine/postgres/pg_protect_internal.h"

static int drop_slot(struct pg_conn *sql, const char *slot, struct error *err)
{
    const char *params[] = {slot};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    return pg_query(sql, "SELECT pg_drop_replication_slot($1)", params, 1, PG_QUERY_TIMEOUT_MS, &r, err);
}

static int need_publications(struct pg_conn *sql, const struct pg_protect_config *config, const struct pg_names *names, struct error *err)
{
    const char *params[] = {names->publication_rows, names->publication_keys};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(sql, "SELECT FROM pg_publication WHERE pubname IN ($1, $2)", params, 2, PG_QUERY_TIMEOUT_MS, &r, err));
    if (PQntuples(r) == 2)
        return 0;
    return error_set(err, ERROR_REFUSED, "the publications %s and %s are not there: run `salvor setup %s`", names->publication_rows,
                     names->publication_keys, config->source);
}

int pg_slot_renew(const struct pg_protect_config *config, uint64_t *ret_consistent_point, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn sql = {0};
    struct pg_names names;
    struct pg_slot slot;

    pg_names_of(config->source, &names);
    TRY(pg_connect(config->conninfo, PG_SESSION_SQL, "capture", PG_CONNECT_TIMEOUT_MS, &sql, err));
    TRY(pg_slot_get(&sql, names.slot, &slot, err));
    if (slot.exists && (strcmp(slot.plugin, "pgoutput") != 0 || strcmp(slot.database, PQdb(sql.pq)) != 0))
        return error_set(err, ERROR_REFUSED, "the slot %s is not ours (plugin %s, database %s); drop it or rename the source",
                         names.slot, slot.plugin, slot.database);
    TRY(need_publications(&sql, config, &names, err));
    if (slot.exists)
        TRY(drop_slot(&sql, names.slot, err));
    return slot_make(config, names.slot, &sql, ret_consistent_point, err);
}
