/* base/text.h - strict parsing of what a person writes in a configuration, and the reverse. Errors: USAGE. */
#ifndef SALVOR_BASE_TEXT_H
#define SALVOR_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

MUST_CHECK int text_parse_u64(struct slice text, uint64_t min, uint64_t max, uint64_t *ret, struct error *err);
/* "500ms", "15min", "2h", "30d", "90s"; a number alone is refused. Gives microseconds. */
MUST_CHECK int text_parse_duration(struct slice text, int64_t *ret_us, struct error *err);
/* "64MiB", "1GiB", "512KiB", "100B" */
MUST_CHECK int text_parse_size(struct slice text, uint64_t *ret_bytes, struct error *err);
/* yes/no, true/false, on/off */
MUST_CHECK int text_parse_bool(struct slice text, bool *ret, struct error *err);

#define TEXT_SIZE_BYTES 24
const char *text_format_size(uint64_t bytes, char text[static TEXT_SIZE_BYTES]); /* "12.3 MiB" */

void text_hex(struct slice bytes, char *ret_text);          /* 2 * n + 1 bytes, lower case */
/* Lower case only, exactly 2 * ret_bytes digits; on failure ret is partly written. */
MUST_CHECK int text_unhex(struct slice text, uint8_t *ret, size_t ret_bytes, struct error *err);

/* `[a-z0-9_]{1,40}`: what a source or a vault may be called. */
bool text_is_name(const char *s);

#endif
