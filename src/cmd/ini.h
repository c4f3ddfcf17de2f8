/*
 * cmd/ini.h - the INI form of the configuration: [section] or [kind name], name = value, # comments.
 *
 * Debian's inih cuts lines at 200 bytes and does not tell its handler the line, so this is our own (docs/adr/0003).
 * A comment begins with '#' or ';' at the start of a line, or with " #" after a value. There is no quoting and no
 * continuation: a value is the rest of its line without blanks at both ends.
 */
#ifndef SALVOR_CMD_INI_H
#define SALVOR_CMD_INI_H

#include "base/bytes.h"

#define INI_FILE_BYTES_MAX ((size_t)1 << 20)

/* Called for each section line (name empty) and each name = value line. < 0 stops and is returned. */
typedef int (*ini_handler_fn)(void *user, int line, struct slice kind, struct slice section, struct slice name,
                              struct slice value, struct error *err);

/* Errors: USAGE "<path>:<line>: ..."; those of the handler. */
MUST_CHECK int ini_parse(struct slice text, const char *path, ini_handler_fn handler, void *user, struct error *err);

#endif
