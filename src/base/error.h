/*
 * base/error.h - how a fallible function fails.
 *
 * A fallible function returns int: 0 or more is success, a negative value is -(enum error_code). Its last parameter
 * is a struct error that the caller owns; it carries the code and one sentence for a person: what failed, on what,
 * and what to do. Libraries never log; who decides what a failure means logs once.
 */
#ifndef SALVOR_BASE_ERROR_H
#define SALVOR_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/* What a caller may do about an error. */
enum error_class {
    ERROR_CLASS_RETRY,     /* the same call may succeed later */
    ERROR_CLASS_PERMANENT, /* it will not, until a person changes something */
    ERROR_CLASS_CORRUPT,   /* stored bytes are not what was written */
    ERROR_CLASS_LIMIT,     /* a bound was met */
    ERROR_CLASS_CANCELLED, /* somebody asked us to stop */
    ERROR_CLASS_BUG,       /* our own fault */
};

/* X(name, class, exit status of the command, text). New codes are added at the end: the numbers are stable. */
#define ERROR_CODES(X)                                                                                                 \
    X(IO, PERMANENT, 1, "input/output error")                                                                          \
    X(NOT_FOUND, PERMANENT, 1, "not found")                                                                            \
    X(EXISTS, PERMANENT, 1, "exists already")                                                                          \
    X(BUSY, RETRY, 1, "in use by another process")                                                                     \
    X(TIMEOUT, RETRY, 1, "deadline passed")                                                                            \
    X(CANCELLED, CANCELLED, 1, "cancelled")                                                                            \
    X(USAGE, PERMANENT, 2, "wrong usage or configuration")                                                             \
    X(REFUSED, PERMANENT, 3, "refused")                                                                                \
    X(CORRUPT, CORRUPT, 4, "damaged")                                                                                  \
    X(GAP, PERMANENT, 3, "positions are missing")                                                                      \
    X(LIMIT, LIMIT, 1, "limit exceeded")                                                                               \
    X(PROTOCOL, PERMANENT, 1, "unexpected answer")                                                                     \
    X(CONNECT, RETRY, 1, "no connection")                                                                              \
    X(SERVER, PERMANENT, 1, "the server reported an error")                                                            \
    X(CONTINUITY, PERMANENT, 1, "the source is not the continuation of what was captured")                             \
    X(NO_SPACE, RETRY, 1, "no space left")                                                                             \
    X(MISMATCH, PERMANENT, 1, "verification failed")                                                                   \
    X(BUG, BUG, 1, "internal error")

enum error_code {
    ERROR_NONE,
#define X(name, class_, exit_, text_) ERROR_##name,
    ERROR_CODES(X)
#undef X
    ERROR_COUNT_
};

#define ERROR_MESSAGE_BYTES 1024

struct error {
    enum error_code code;
    char sqlstate[6]; /* set when a PostgreSQL server reported it, else "" */
    char message[ERROR_MESSAGE_BYTES];
};

#define ERROR_INIT ((struct error){0})

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_, args_) __attribute__((format(printf, fmt_, args_)))
#define CLEANUP(fn_) __attribute__((cleanup(fn_)))

/* Set the error and return -code. A message that does not fit is cut; err may be NULL where only the code counts. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The same with ": <text of errno>" appended; ENOSPC and EDQUOT become NO_SPACE, ENOENT NOT_FOUND, EEXIST EXISTS. */
int error_errno(struct error *err, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put "<context>: " in front of the message. Returns -code, for `return error_prefix(...)`. */
int error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * So that the compiler knows what the contract says: a failure is negative. Else it warns of out-parameters that a
 * failed call left unset.
 */
static inline int error_negative(int rc)
{
    if (rc >= 0)
        __builtin_unreachable();
    return rc;
}

#define error_set(...) error_negative(error_set(__VA_ARGS__))
#define error_errno(...) error_negative(error_errno(__VA_ARGS__))
#define error_prefix(...) error_negative(error_prefix(__VA_ARGS__))

enum error_class error_class_of(enum error_code code);
int error_exit_status(enum error_code code);
const char *error_name(enum error_code code);
const char *error_text(enum error_code code);

/* Return early with a failed call's value. */
#define TRY(expr_)                                                                                                     \
    do {                                                                                                               \
        int try_result_ = (expr_);                                                                                     \
        if (try_result_ < 0)                                                                                           \
            return try_result_;                                                                                        \
    } while (0)

/* Stays on in release: a broken promise of our own aborts; durable state makes that safe. */
#define ASSERT(cond_) ((cond_) ? (void)0 : assert_failed(#cond_, __FILE__, __LINE__))
void assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#endif
