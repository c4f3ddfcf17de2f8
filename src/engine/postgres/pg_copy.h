/*
 * engine/postgres/pg_copy.h - rows out of and into a database, as COPY text.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_COPY_H
#define SALVOR_ENGINE_POSTGRES_PG_COPY_H

#include "engine/postgres/pg_conn.h"
#include "event/relation.h"

/*
 * COPY (the relation's columns) FROM ONLY the table TO STDOUT; each row, without its newline, to fn.
 *   block_from, block_to  range [from, to) of blocks, to == UINT32_MAX: to the end; from == UINT32_MAX: the whole table
 *   fn                    < 0 stops and is returned (its error needs a code); the row lives until fn returns
 * Errors: SERVER, CONNECT, TIMEOUT (no byte for minutes), PROTOCOL the server counted other rows than came.
 */
MUST_CHECK int pg_copy_out(struct pg_conn *c, const struct relation *r, uint32_t block_from, uint32_t block_to,
                           int (*fn)(void *user, struct slice row, struct error *err), void *user, struct error *err);

/* The same of the rows of a query. `what`: for messages. */
MUST_CHECK int pg_copy_query(struct pg_conn *c, const char *query, const char *what, int (*fn)(void *user, struct slice row, struct error *err),
                             void *user, struct error *err);

/*
 * COPY the relation's columns FROM STDIN. begin; put any bytes, in pieces of any size, of rows with their newlines in the
 * session's client_encoding; end (checked) or abort. A put that failed is followed by abort.
 */
MUST_CHECK int pg_copy_in_begin(struct pg_conn *c, const struct relation *r, bool freeze, struct error *err);
MUST_CHECK int pg_copy_in_put(struct pg_conn *c, struct slice rows, struct error *err);
MUST_CHECK int pg_copy_in_end(struct pg_conn *c, uint64_t *ret_rows, struct error *err);
void pg_copy_in_abort(struct pg_conn *c);

#endif
