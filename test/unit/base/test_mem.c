/* base/mem: growth, copies, and the end when a size overflows. */
#include "unit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static void nothing_is_still_a_pointer(void **state)
{
    (void)state;
    void *a = mem_alloc(0), *b = mem_zalloc(0, 8), *c = mem_resize(NULL, 0, 8);

    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    free(a);
    free(b);
    free(c);
}

static void copies(void **state)
{
    (void)state;
    CLEANUP(mem_free_ptr) char *a = mem_strdup("abc");
    CLEANUP(mem_free_ptr) char *b = mem_strndup("abc", 2);
    CLEANUP(mem_free_ptr) char *c = mem_strndup("a\0c", 3);
    CLEANUP(mem_free_ptr) char *d = mem_printf("%s-%d", "x", 5);

    assert_string_equal(a, "abc");
    assert_string_equal(b, "ab");
    assert_string_equal(c, "a");
    assert_string_equal(d, "x-5");
    assert_null(mem_strdup(NULL));
}

static void zeroed(void **state)
{
    (void)state;
    CLEANUP(mem_free_ptr) int *a = mem_zalloc(1000, sizeof *a);

    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(a[i], 0);
}

static void arrays_grow(void **state)
{
    (void)state;
    CLEANUP(mem_free_ptr) size_t *a = NULL;
    size_t cap = 0, resizes = 0;

    for (size_t count = 0; count < 10000; count++) {
        size_t before = cap;

        MEM_GROW(a, cap, count);
        resizes += cap != before;
        assert_true(cap > count);
        a[count] = count;
    }
    assert_true(resizes < 20);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(a[i], i);
}

static void aborts(void (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        (void)close(STDERR_FILENO);
        (void)signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void zalloc_too_much(void)
{
    volatile size_t count = SIZE_MAX / 2;

    free(mem_zalloc(count, 4));
}

static void resize_too_much(void)
{
    volatile size_t count = SIZE_MAX / 4 + 2;

    free(mem_resize(NULL, count, 4)); /* wraps to 4 */
}

static void overflowing_sizes_abort(void **state)
{
    (void)state;
    aborts(zalloc_too_much);
    aborts(resize_too_much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_still_a_pointer),
        cmocka_unit_test(copies),
        cmocka_unit_test(zeroed),
        cmocka_unit_test(arrays_grow),
        cmocka_unit_test(overflowing_sizes_abort),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
