/*
 * engine/postgres/pg_copy.h - rows out of and into a database, as COPY text.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_COPY_H
#define SALVOR_ENGINE_POSTGRES_PG_COPY_H

#include "engine/postgres/pg_conn.h"
#include "event/relation.h"

/*
 * COPY (the relation's columns) FROM ONLY the table TO STDOUT; each row, without its newline, to fn.
 *   ctid_from, ctid_to  block range [from, to) or UINT32_MAX for whole table (to == UINT32_MAX: to the end)
 *   fn                  < 0 stops and is returned
 */
MUST_CHECK int pg_copy_out(struct pg_conn *c, const struct relation *r, uint32_t block_from, uint32_t block_to,
                           int (*fn)(void *user, struct slice row, struct error *err), void *user, struct error *err);

/* COPY the relation's columns FROM STDIN. begin, put any bytes of whole rows with newlines, end (checked) or abort. */
MUST_CHECK int pg_copy_in_begin(struct pg_conn *c, const struct relation *r, bool freeze, struct error *err);
MUST_CHECK int pg_copy_in_put(struct pg_conn *c, struct slice rows, struct error *err);
MUST_CHECK int pg_copy_in_end(struct pg_conn *c, uint64_t *ret_rows, struct error *err);
void pg_copy_in_abort(struct pg_conn *c);

#endif
