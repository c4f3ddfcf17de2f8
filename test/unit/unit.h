/*
 * test/unit/unit.h - what every unit test includes: cmocka with the headers that it wants before it, and a few
 * assertions of our own.
 */
#ifndef SALVOR_TEST_UNIT_H
#define SALVOR_TEST_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

/* Shows the error's own sentence when a call fails that should not. */
#define assert_ok(call_, err_)                                                                                         \
    do {                                                                                                               \
        int unit_rc_ = (call_);                                                                                        \
        if (unit_rc_ < 0)                                                                                              \
            fail_msg("%s: %s: %s", #call_, error_name((err_).code), (err_).message);                                   \
    } while (0)

/* The call fails with this code, and both ways of telling say so. */
#define assert_fails(call_, err_, code_)                                                                               \
    do {                                                                                                               \
        (err_) = ERROR_INIT;                                                                                           \
        assert_int_equal((call_), -(int)(code_));                                                                      \
        assert_string_equal(error_name((err_).code), error_name(code_));                                               \
        assert_true((err_).message[0] != '\0');                                                                        \
    } while (0)

#define assert_contains(text_, part_)                                                                                  \
    do {                                                                                                               \
        if (!strstr((text_), (part_)))                                                                                 \
            fail_msg("\"%s\" does not contain \"%s\"", (text_), (part_));                                              \
    } while (0)

/* A new folder for one test; the caller removes it with dir_remove_all and frees the name. */
static inline char *unit_folder(void)
{
    char *path = strdup("/tmp/salvor-unit-XXXXXX");

    assert_non_null(path);
    assert_non_null(mkdtemp(path));
    return path;
}

#endif
