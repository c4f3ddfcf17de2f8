/*
 * vault/s3/xml.h - what a store's XML answers say. Wraps expat: nobody else includes it.
 */
#ifndef SALVOR_VAULT_S3_XML_H
#define SALVOR_VAULT_S3_XML_H

#include "base/bytes.h"

/*
 * Calls fn at the end of each element, innermost first, with its path below the root ("Contents/Key"; the root itself is
 * "") and its own text (at most 8 KiB; "" for elements that hold others). fn < 0 stops and is returned. Document types
 * and entities of their own are refused. Errors: PROTOCOL: it is no such document, or nested deeper than 16.
 */
MUST_CHECK int xml_walk(struct slice document, int (*fn)(void *user, const char *path, const char *text, struct error *err),
                        void *user, struct error *err);
/* The text of the element at `path`; false: there is none. For small answers and errors. */
bool xml_find(struct slice document, const char *path, char *text, size_t text_bytes);

#endif
