/* base/log: one line an event, whatever is in it. */
#include "unit.h"

#include <unistd.h>

#include "base/log.h"

/* What is written to standard error by fn, as a text; static. */
static const char *captured(void (*fn)(void))
{
    static char text[8192];
    int fds[2], before = dup(STDERR_FILENO);

    assert_int_equal(pipe(fds), 0);
    assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
    fn();
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    (void)close(fds[1]);
    (void)close(before);
    ssize_t n = read(fds[0], text, sizeof text - 1);
    (void)close(fds[0]);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void say_some(void)
{
    log_init(LOG_INFO, "capture shop");
    log_debug("not this");
    log_warn("retained %d of\n2026 fake\tline", 5);
}

static void say_much(void)
{
    log_error("%5000s", "x");
}

static void one_line_with_time_level_role(void **state)
{
    (void)state;
    const char *text = captured(say_some);

    assert_contains(text, "Z warn  capture shop: retained 5 of 2026 fake line\n");
    assert_null(strstr(text, "not this"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void say_as_nobody(void)
{
    log_init(LOG_INFO, "");
    log_warn("a command has no role");
}

static void without_a_role(void **state)
{
    (void)state;
    assert_contains(captured(say_as_nobody), "Z warn  a command has no role\n");
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    const char *text = captured(say_much);

    assert_int_equal(strlen(text), 2048);
    assert_int_equal(text[2047], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_with_time_level_role),
        cmocka_unit_test(without_a_role),
        cmocka_unit_test(long_lines_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
