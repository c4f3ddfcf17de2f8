/* os/lock: one holder over processes, which a kill -9 frees. */
#include "unit.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/file.h"

#define CONTEND_TURNS 10000

static char *folder, *path;

static int setup(void **state)
{
    (void)state;
    folder = unit_folder();
    path = mem_printf("%s/lock", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;

    assert_ok(dir_remove_all(folder, &err), err);
    free(folder);
    free(path);
    return 0;
}

/* A child that holds the lock until it is killed; returns when it has it. */
static pid_t holder(void)
{
    int fds[2];
    char byte = 0;

    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct error err = ERROR_INIT;
        struct file lock = FILE_INIT;

        if (lock_take(&lock, path, &err) >= 0 && write(fds[1], "y", 1) == 1)
            (void)pause();
        _exit(1);
    }
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    (void)close(fds[0]);
    return pid;
}

static void kill_and_wait(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void between_processes(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct file lock = FILE_INIT;
    char number[32];
    pid_t pid = holder();

    (void)snprintf(number, sizeof number, "process %ld", (long)pid);
    assert_fails(lock_take(&lock, path, &err), err, ERROR_BUSY);
    assert_contains(err.message, number);
    assert_contains(err.message, path);
    assert_int_equal(lock.fd, -1);
    assert_int_equal(error_class_of(err.code), ERROR_CLASS_RETRY);
    kill_and_wait(pid);
    assert_ok(lock_take(&lock, path, &err), err);
    file_release(&lock);
}

static void within_a_process(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct file one = FILE_INIT, two = FILE_INIT;

    assert_ok(lock_take(&one, path, &err), err);
    assert_fails(lock_take(&two, path, &err), err, ERROR_BUSY);
    file_release(&one);
    assert_ok(lock_take(&two, path, &err), err);
    file_release(&two);
    assert_true(file_exists(path));
}

static void a_removed_file_is_no_lock(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct file one = FILE_INIT, two = FILE_INIT;

    assert_ok(lock_take(&one, path, &err), err);
    assert_ok(file_remove(path, &err), err);
    assert_ok(lock_take(&two, path, &err), err);
    file_release(&one);
    assert_fails(lock_take(&one, path, &err), err, ERROR_BUSY);
    file_release(&two);
}

/* Takes, looks whether it is alone, removes the file and releases, again and again. */
static void contend(atomic_int *inside)
{
    struct error err = ERROR_INIT;

    for (int i = 0; i < CONTEND_TURNS; i++) {
        struct file lock = FILE_INIT;

        if (lock_take(&lock, path, &err) < 0)
            continue;
        if (atomic_fetch_add(inside, 1) != 0)
            _exit(2);
        (void)getppid();
        if (atomic_fetch_sub(inside, 1) != 1)
            _exit(2);
        if (file_remove(path, &err) < 0)
            _exit(3);
        file_release(&lock);
    }
    _exit(0);
}

static void removal_never_makes_two_holders(void **state)
{
    (void)state;
    atomic_int *inside =
        mmap(NULL, sizeof *inside, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[4];

    assert_true(inside != MAP_FAILED);
    for (size_t i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            contend(inside);
    }
    for (size_t i = 0; i < 4; i++) {
        int status = -1;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(munmap(inside, sizeof *inside), 0);
}

static void odd_content_is_survived(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct file lock = FILE_INIT;
    pid_t pid = holder();

    /* In place: a replacement would be another file. */
    struct file f = FILE_INIT;
    assert_ok(file_open(&f, FILE_READ_WRITE, path, &err), err);
    assert_ok(file_write_at(&f, 0, slice_str("rubbish from elsewhere, longer than any number is\n"), &err), err);
    assert_fails(lock_take(&lock, path, &err), err, ERROR_BUSY);
    assert_contains(err.message, "another process");
    assert_ok(file_truncate(&f, 0, &err), err);
    assert_fails(lock_take(&lock, path, &err), err, ERROR_BUSY);
    file_release(&f);
    kill_and_wait(pid);
}

static void no_folder_no_lock(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct file lock = FILE_INIT;

    assert_fails(lock_take(&lock, "/nowhere/at/all/lock", &err), err, ERROR_NOT_FOUND);
    assert_fails(lock_take(&lock, folder, &err), err, ERROR_IO);
}

#define IN_FOLDER(test_) cmocka_unit_test_setup_teardown(test_, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(between_processes),
        IN_FOLDER(within_a_process),
        IN_FOLDER(a_removed_file_is_no_lock),
        IN_FOLDER(removal_never_makes_two_holders),
        IN_FOLDER(odd_content_is_survived),
        IN_FOLDER(no_folder_no_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
