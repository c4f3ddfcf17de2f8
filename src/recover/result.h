/* recover/result.h - what a recovery says of itself: result and proof as JSON. For src/recover alone. */
#ifndef SALVOR_RECOVER_RESULT_H
#define SALVOR_RECOVER_RESULT_H

#include "recover/load.h"
#include "recover/recover.h"

/* [{table, rows, hash}] */
json_t *result_tables(const struct manifest *m, const struct merged_table *merged);
/* The object that is kept in the vault. */
json_t *result_proof(const char *source, const struct manifest *m, const struct recover_result *r);

#endif
