/* merge/key_text.h - a key as a person reads it, for messages. Inside src/merge only. */
#ifndef SALVOR_MERGE_KEY_TEXT_H
#define SALVOR_MERGE_KEY_TEXT_H

#include "event/relation.h"

/*
 * Of a table with a key: "id = 42, name = \"a\""; else the row. Bytes that are not printable as \xNN, cut to what fits.
 */
#define KEY_TEXT_BYTES 240
const char *key_text(const struct relation *r, struct slice key, char text[static KEY_TEXT_BYTES]);

#endif
