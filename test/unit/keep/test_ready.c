/* keep/ready: what would keep an unattended recovery from coming to its end is told while there is time, and that it is mended as well. */
#include "unit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "keep/ready.h"
#include "os/file.h"

struct scene {
    char *folder, *target, *program;
};

static int scene_new(void **state)
{
    struct scene *s = mem_zalloc(1, sizeof *s);

    s->folder = unit_folder();
    s->target = mem_printf("%s/back", s->folder);
    s->program = mem_printf("%s/point-clients", s->folder);
    *state = s;
    return 0;
}

static int scene_free(void **state)
{
    struct scene *s = *state;
    struct error err = ERROR_INIT;

    assert_ok(dir_remove_all(s->folder, &err), err);
    free(s->folder);
    free(s->target);
    free(s->program);
    free(s);
    return 0;
}

static void write_file(const char *path, mode_t mode)
{
    struct error err = ERROR_INIT;

    assert_ok(file_replace(path, slice_str("#!/bin/sh\n"), mode, &err), err);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_what_stands_in_the_way(void **state)
{
    struct scene *s = *state;
    struct error err = ERROR_INIT;
    CLEANUP(mem_free_ptr) char *inside = mem_printf("%s/kept", s->target);

    assert_ok(ready_check(s->target, NULL, &err), err); /* a person cuts over */
    assert_fails(ready_check(s->target, s->program, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "No such file");
    write_file(s->program, 0644);
    assert_fails(ready_check(s->target, s->program, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "not executable");
    assert_fails(ready_check(s->target, s->folder, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "no file");
    write_file(s->program, 0755);
    assert_ok(ready_check(s->target, s->program, &err), err);
    assert_ok(dir_make_all(s->target, 0755, &err), err);
    assert_ok(ready_check(s->target, s->program, &err), err);
    write_file(inside, 0644);
    assert_fails(ready_check(s->target, s->program, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "is not empty");
    assert_fails(ready_check(s->program, s->program, &err), err, ERROR_REFUSED);
    assert_contains(err.message, "is a file");
}

/* Until the look that is under way, or the next one, has been taken in. */
static bool news(struct ready *r, const struct scene *s, int64_t now)
{
    int64_t end = clock_mono_us() + 60 * CLOCK_US_PER_S;
    bool changed = ready_look(r, s->target, s->program, now);

    while (r->running) {
        assert_true(clock_mono_us() < end);
        clock_sleep_ms(1);
        changed |= ready_look(r, s->target, s->program, now);
    }
    return changed;
}

static void test_it_is_told_once_and_so_is_its_end(void **state)
{
    struct scene *s = *state;
    struct ready r = {0};
    int64_t now = CLOCK_US_PER_S;

    assert_true(news(&r, s, now));
    assert_contains(r.text, "cannot be run");
    write_file(s->program, 0755);
    assert_false(news(&r, s, now + READY_EVERY_US - 1)); /* not yet looked at again */
    assert_contains(r.text, "cannot be run");
    assert_true(news(&r, s, now += READY_EVERY_US));
    assert_string_equal(r.text, "");
    assert_false(news(&r, s, now += READY_EVERY_US));
    assert_int_equal(unlink(s->program), 0);
    assert_true(news(&r, s, now += READY_EVERY_US));
    assert_false(news(&r, s, now += READY_EVERY_US)); /* the same as before */
    ready_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_stands_in_the_way, scene_new, scene_free),
        cmocka_unit_test_setup_teardown(test_it_is_told_once_and_so_is_its_end, scene_new, scene_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
