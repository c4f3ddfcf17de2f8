/* recover/finish.h - what makes loaded tables a database in use: filled materialized views, statistics. For src/recover alone. */
#ifndef SALVOR_RECOVER_FINISH_H
#define SALVOR_RECOVER_FINISH_H

#include "base/json.h"
#include "engine/postgres/pg_conn.h"

/*
 * Fills the materialized views that had been filled in the source, each after those that it reads. One that fails (it may read what is
 * not reachable from here) is warned of.
 *   views  [{schema, name}]
 *   ret    how many were filled
 */
MUST_CHECK int finish_views(struct pg_conn *c, const json_t *views, json_t *warnings, uint32_t *ret, struct error *err);

/*
 * ANALYZE of everything, by several sessions; big tables coarsely where autovacuum will make their full statistics by itself.
 *   autovacuum  it will be on in this server, whatever it is now
 */
MUST_CHECK int finish_analyze(const char *conninfo, int connections, bool autovacuum, void (*tick)(void *user), void *user, struct error *err);

#endif
