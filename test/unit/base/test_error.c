/* base/error: codes, their table, and messages that are cut, prefixed and nested. */
#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void set_and_read(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    memcpy(err.sqlstate, "42P01", 6);
    assert_int_equal(error_set(&err, ERROR_REFUSED, "no %s at %d", "gap", 7), -ERROR_REFUSED);
    assert_int_equal(err.code, ERROR_REFUSED);
    assert_string_equal(err.message, "no gap at 7");
    assert_string_equal(err.sqlstate, "");
    assert_int_equal(error_set(NULL, ERROR_IO, "nobody listens"), -ERROR_IO);
}

static void errno_has_its_code(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_int_equal(error_errno(&err, ENOSPC, "cannot write %s", "x"), -ERROR_NO_SPACE);
    assert_string_equal(err.message, "cannot write x: No space left on device");
    assert_int_equal(error_errno(&err, EDQUOT, "x"), -ERROR_NO_SPACE);
    assert_int_equal(error_errno(&err, ENOENT, "x"), -ERROR_NOT_FOUND);
    assert_int_equal(error_errno(&err, EEXIST, "x"), -ERROR_EXISTS);
    assert_int_equal(error_errno(&err, EACCES, "x"), -ERROR_IO);
    assert_int_equal(error_errno(NULL, EACCES, "x"), -ERROR_IO);
}

static void prefix_keeps_code_and_sqlstate(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERROR_SERVER, "boom");
    memcpy(err.sqlstate, "42P01", 6);
    assert_int_equal(error_prefix(&err, "source %s", "shop"), -ERROR_SERVER);
    assert_string_equal(err.message, "source shop: boom");
    assert_string_equal(err.sqlstate, "42P01");
}

static void own_message_may_be_an_argument(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERROR_IO, "inner");
    (void)error_set(&err, ERROR_CORRUPT, "outer (%s)", err.message);
    assert_string_equal(err.message, "outer (inner)");
}

static void long_messages_are_cut_at_a_character(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char text[ERROR_MESSAGE_BYTES * 2];

    memset(text, 'a', sizeof text);
    text[ERROR_MESSAGE_BYTES - 1] = '\0';
    (void)error_set(&err, ERROR_IO, "%s", text);
    assert_string_equal(err.message, text);
    /* Two bytes of which only the first would fit. */
    memcpy(text + ERROR_MESSAGE_BYTES - 2, "\xc3\xa4zz", 5);
    (void)error_set(&err, ERROR_IO, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 2);
    (void)error_prefix(&err, "context");
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 1);
}

static void the_table_is_whole(void **state)
{
    (void)state;
    for (int code = 1; code < ERROR_COUNT_; code++) {
        assert_true(error_exit_status((enum error_code)code) >= 1 && error_exit_status((enum error_code)code) <= 4);
        assert_true(error_name((enum error_code)code)[0] >= 'A');
        assert_true(error_text((enum error_code)code)[0] != '\0');
    }
    assert_int_equal(error_exit_status(ERROR_NONE), 0);
    assert_int_equal(error_exit_status(ERROR_USAGE), 2);
    assert_int_equal(error_exit_status(ERROR_REFUSED), 3);
    assert_int_equal(error_exit_status(ERROR_GAP), 3);
    assert_int_equal(error_exit_status(ERROR_CORRUPT), 4);
    assert_int_equal(error_class_of(ERROR_CONNECT), ERROR_CLASS_RETRY);
    assert_int_equal(error_class_of(ERROR_COUNT_), ERROR_CLASS_BUG);
    assert_string_equal(error_name(ERROR_NOT_FOUND), "NOT_FOUND");
    assert_int_equal(ERROR_IO, 1); /* the numbers are stable */
    assert_int_equal(ERROR_BUG, 18);
}

static int fails_then_goes_on(bool *went_on)
{
    TRY(7);
    TRY(-ERROR_BUSY);
    *went_on = true;
    return 0;
}

static void try_returns_early(void **state)
{
    (void)state;
    bool went_on = false;

    assert_int_equal(fails_then_goes_on(&went_on), -ERROR_BUSY);
    assert_false(went_on);
}

static void a_broken_promise_aborts(void **state)
{
    (void)state;
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        (void)close(STDERR_FILENO);
        (void)signal(SIGABRT, SIG_DFL);
        ASSERT(1 + 1 == 3);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_and_read),
        cmocka_unit_test(errno_has_its_code),
        cmocka_unit_test(prefix_keeps_code_and_sqlstate),
        cmocka_unit_test(own_message_may_be_an_argument),
        cmocka_unit_test(long_messages_are_cut_at_a_character),
        cmocka_unit_test(the_table_is_whole),
        cmocka_unit_test(try_returns_early),
        cmocka_unit_test(a_broken_promise_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
