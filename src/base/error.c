/*
 * base/error.c - filling struct error, and what each code means.
 *
 * Messages are formatted aside and then copied, so that an error's own message may be an argument of the next one.
 * What does not fit is cut at a whole UTF-8 character: messages end in JSON and in the journal.
 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct code_row {
    const char *name;
    enum error_class class;
    int exit_status;
    const char *text;
};

static const struct code_row codes[ERROR_COUNT_] = {
    [ERROR_NONE] = {"NONE", ERROR_CLASS_BUG, 0, "no error"},
#define X(name, class_, exit_, text_) [ERROR_##name] = {#name, ERROR_CLASS_##class_, exit_, text_},
    ERROR_CODES(X)
#undef X
};

static const struct code_row *row_of(enum error_code code)
{
    return &codes[(unsigned)code < ERROR_COUNT_ ? code : ERROR_BUG];
}

/* The end of text as if it were cut to at most `n` bytes, without half a character. */
static size_t cut_at(const char *text, size_t n)
{
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

static void take_message(struct error *err, const char *text)
{
    size_t n = strlen(text);

    if (n >= ERROR_MESSAGE_BYTES)
        n = cut_at(text, ERROR_MESSAGE_BYTES - 1);
    memcpy(err->message, text, n);
    err->message[n] = '\0';
}

/* One byte more than a message, so that a message that was cut is told from one that just fits. */
struct draft {
    char text[ERROR_MESSAGE_BYTES + 4];
};

static void draft_add(struct draft *d, const char *text)
{
    size_t n = strlen(d->text);

    (void)snprintf(d->text + n, sizeof d->text - n, "%s", text);
}

#define DRAFT_FORMAT(draft_, fmt_)                                                                                     \
    do {                                                                                                               \
        va_list ap_;                                                                                                   \
        va_start(ap_, fmt_);                                                                                           \
        (void)vsnprintf((draft_).text, sizeof(draft_).text, fmt_, ap_);                                                \
        va_end(ap_);                                                                                                   \
    } while (0)

int (error_set)(struct error *err, enum error_code code, const char *fmt, ...)
{
    struct draft draft = {0};

    ASSERT(code > ERROR_NONE && code < ERROR_COUNT_);
    if (!err)
        return -(int)code;
    DRAFT_FORMAT(draft, fmt);
    err->code = code;
    err->sqlstate[0] = '\0';
    take_message(err, draft.text);
    return -(int)code;
}

static enum error_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return ERROR_NO_SPACE;
    case ENOENT:
        return ERROR_NOT_FOUND;
    case EEXIST:
        return ERROR_EXISTS;
    default:
        return ERROR_IO;
    }
}

int (error_errno)(struct error *err, int errnum, const char *fmt, ...)
{
    struct draft draft = {0};
    char reason[128];
    enum error_code code = code_of_errno(errnum);

    if (!err)
        return -(int)code;
    DRAFT_FORMAT(draft, fmt);
    draft_add(&draft, ": ");
    draft_add(&draft, strerror_r(errnum, reason, sizeof reason));
    err->code = code;
    err->sqlstate[0] = '\0';
    take_message(err, draft.text);
    return -(int)code;
}

int (error_prefix)(struct error *err, const char *fmt, ...)
{
    struct draft draft = {0};

    ASSERT(err && err->code != ERROR_NONE);
    DRAFT_FORMAT(draft, fmt);
    draft_add(&draft, ": ");
    draft_add(&draft, err->message);
    take_message(err, draft.text);
    return -(int)err->code;
}

enum error_class error_class_of(enum error_code code)
{
    return row_of(code)->class;
}

int error_exit_status(enum error_code code)
{
    return row_of(code)->exit_status;
}

const char *error_name(enum error_code code)
{
    return row_of(code)->name;
}

const char *error_text(enum error_code code)
{
    return row_of(code)->text;
}

void assert_failed(const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "salvor: internal error: %s at %s:%d\n", cond, file, line);
    abort();
}
