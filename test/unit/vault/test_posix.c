/* The posix driver: what its contract in vault/driver.h promises, and what its errors say. */
#include "vault/support.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/clock.h"

struct state {
    char *folder;
    struct vault_driver *d;
    struct error err;
};

static int setup(void **state)
{
    struct state *s = mem_zalloc(1, sizeof *s);

    s->folder = unit_folder();
    assert_ok(posix_driver_open(s->folder, false, &s->d, &s->err), s->err);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct state *s = *state;

    s->d->ops->free(s->d);
    assert_ok(dir_remove_all(s->folder, &s->err), s->err);
    free(s->folder);
    free(s);
    return 0;
}

static int put(struct state *s, const char *key, const char *text)
{
    struct slice part = slice_str(text);

    return s->d->ops->put_if_absent(s->d, key, &part, 1, &s->err);
}

static void assert_content(struct state *s, const char *key, const char *text)
{
    struct buf b = BUF_INIT(1 << 20);

    assert_ok(s->d->ops->get(s->d, key, 1 << 20, &b, &s->err), s->err);
    assert_string_equal(buf_cstr(&b), text);
    buf_release(&b);
}

static char *path_of(const struct state *s, const char *key)
{
    return mem_printf("%s/%s", s->folder, key);
}

static size_t temporaries(struct state *s)
{
    char *path = path_of(s, "tmp");
    struct dir_names names = {0};

    if (file_exists(path))
        assert_ok(dir_list(path, &names, &s->err), s->err);
    size_t count = names.count;
    dir_names_free(&names);
    free(path);
    return count;
}

static void test_put_get(void **state)
{
    struct state *s = *state;
    struct slice parts[3] = {slice_str("one "), slice_str(""), slice_str("two")};
    uint64_t bytes;

    assert_ok(s->d->ops->put_if_absent(s->d, "a/b/c", parts, 3, &s->err), s->err);
    assert_content(s, "a/b/c", "one two");
    assert_ok(s->d->ops->size(s->d, "a/b/c", &bytes, &s->err), s->err);
    assert_int_equal(bytes, 7);
    assert_ok(s->d->ops->put_if_absent(s->d, "a/b/empty", parts, 0, &s->err), s->err);
    assert_content(s, "a/b/empty", "");
    assert_ok(put(s, "top", "x"), s->err);
    assert_content(s, "top", "x");
    assert_int_equal(temporaries(s), 0);
}

static void test_put_never_replaces(void **state)
{
    struct state *s = *state;

    assert_ok(put(s, "k", "first"), s->err);
    assert_fails(put(s, "k", "second"), s->err, ERROR_EXISTS);
    assert_contains(s->err.message, "/k");
    assert_content(s, "k", "first");
    assert_int_equal(temporaries(s), 0);
}

static void test_put_through_a_file_fails(void **state)
{
    struct state *s = *state;

    assert_ok(put(s, "k", "x"), s->err);
    assert_fails(put(s, "k/below", "y"), s->err, ERROR_IO);
    assert_int_equal(temporaries(s), 0);
}

static void test_folder_removed_behind_us(void **state)
{
    struct state *s = *state;
    char *folder = path_of(s, "f");

    assert_ok(put(s, "f/one", "x"), s->err);
    assert_ok(dir_remove_all(folder, &s->err), s->err);
    assert_ok(put(s, "f/one", "y"), s->err);
    assert_content(s, "f/one", "y");
    assert_ok(put(s, "f/g/h/one", "x"), s->err);
    assert_ok(dir_remove_all(folder, &s->err), s->err);
    assert_ok(put(s, "f/g/i/one", "z"), s->err);
    assert_content(s, "f/g/i/one", "z");
    free(folder);
}

static void test_many_folders(void **state)
{
    struct state *s = *state;
    struct state m = {.folder = mem_strdup("/dev/shm/salvor-unit-XXXXXX")}; /* in memory: each folder costs two syncs */
    char key[64];

    (void)s;
    assert_non_null(mkdtemp(m.folder));
    assert_ok(posix_driver_open(m.folder, false, &m.d, &m.err), m.err);
    /* More than the table of known folders holds before it is emptied. */
    for (unsigned i = 0; i < 4200; i++) {
        (void)snprintf(key, sizeof key, "d/%04x/object", i);
        assert_ok(put(&m, key, "x"), m.err);
    }
    assert_fails(put(&m, "d/0000/object", "y"), m.err, ERROR_EXISTS);
    assert_content(&m, "d/1007/object", "x");
    m.d->ops->free(m.d);
    assert_ok(dir_remove_all(m.folder, &m.err), m.err);
    free(m.folder);
}

static void test_get_missing(void **state)
{
    struct state *s = *state;
    struct buf b = BUF_INIT(100);
    uint64_t bytes;

    assert_fails(s->d->ops->get(s->d, "no/thing", 100, &b, &s->err), s->err, ERROR_NOT_FOUND);
    assert_contains(s->err.message, "no/thing");
    assert_fails(s->d->ops->get_range(s->d, "no/thing", 0, 1, &b, &s->err), s->err, ERROR_NOT_FOUND);
    assert_fails(s->d->ops->size(s->d, "no/thing", &bytes, &s->err), s->err, ERROR_NOT_FOUND);
    buf_release(&b);
}

static void test_get_limits(void **state)
{
    struct state *s = *state;
    struct buf b = BUF_INIT(4);

    assert_ok(put(s, "k", "12345"), s->err);
    assert_fails(s->d->ops->get(s->d, "k", 4, &b, &s->err), s->err, ERROR_LIMIT);
    assert_fails(s->d->ops->get(s->d, "k", 5, &b, &s->err), s->err, ERROR_LIMIT);
    buf_clear(&b);
    assert_ok(s->d->ops->get_range(s->d, "k", 1, 3, &b, &s->err), s->err);
    assert_string_equal(buf_cstr(&b), "234");
    buf_clear(&b);
    assert_ok(s->d->ops->get_range(s->d, "k", 5, 0, &b, &s->err), s->err);
    assert_fails(s->d->ops->get_range(s->d, "k", 3, 3, &b, &s->err), s->err, ERROR_CORRUPT);
    assert_fails(s->d->ops->get_range(s->d, "k", 6, 0, &b, &s->err), s->err, ERROR_CORRUPT);
    assert_fails(s->d->ops->get_range(s->d, "k", UINT64_MAX, 2, &b, &s->err), s->err, ERROR_CORRUPT);
    buf_release(&b);
}

static void test_not_a_file(void **state)
{
    struct state *s = *state;
    struct buf b = BUF_INIT(100);
    char *fifo = path_of(s, "fifo");

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_fails(s->d->ops->get(s->d, "fifo", 100, &b, &s->err), s->err, ERROR_IO);
    assert_contains(s->err.message, "regular file");
    assert_ok(put(s, "folder/x", "x"), s->err);
    assert_fails(s->d->ops->get(s->d, "folder", 100, &b, &s->err), s->err, ERROR_IO);
    free(fifo);
    buf_release(&b);
}

static void put_file_of(struct state *s, const char *key, size_t bytes)
{
    char *path = path_of(s, "outside");
    struct buf content = BUF_INIT(BUF_BYTES_MAX), back = BUF_INIT(BUF_BYTES_MAX);

    assert_true(buf_reserve(&content, bytes));
    for (size_t i = 0; i < bytes; i++)
        content.p[i] = (uint8_t)(i * 31 + i / 257);
    content.n = bytes;
    assert_ok(file_replace_volatile(path, buf_slice(&content), 0600, &s->err), s->err);
    assert_ok(driver_put_file(s->d, key, path, &s->err), s->err);
    assert_ok(s->d->ops->get(s->d, key, bytes, &back, &s->err), s->err);
    assert_true(slice_equal(buf_slice(&content), buf_slice(&back)));
    buf_release(&content);
    buf_release(&back);
    free(path);
}

static void test_put_file(void **state)
{
    struct state *s = *state;

    put_file_of(s, "files/empty", 0);
    put_file_of(s, "files/one", 1);
    put_file_of(s, "files/large", 5000001);
    assert_int_equal(temporaries(s), 0);
}

static void test_put_file_from_another_file_system(void **state)
{
    struct state *s = *state;
    char path[64];
    char content[] = "from elsewhere";

    (void)snprintf(path, sizeof path, "/dev/shm/salvor-unit-%d", getpid());
    assert_ok(file_replace_volatile(path, slice_str(content), 0600, &s->err), s->err);
    assert_ok(driver_put_file(s->d, "k", path, &s->err), s->err);
    assert_content(s, "k", content);
    /* copy_file_range gives nothing for files of /proc, and they have no size: more bytes than were announced. */
    assert_fails(driver_put_file(s->d, "proc", "/proc/self/status", &s->err), s->err, ERROR_IO);
    assert_int_equal(unlink(path), 0);
}

static void test_put_file_exists_or_missing(void **state)
{
    struct state *s = *state;

    assert_ok(put(s, "k", "x"), s->err);
    assert_fails(driver_put_file(s->d, "k", "/etc/hostname", &s->err), s->err, ERROR_EXISTS);
    assert_fails(driver_put_file(s->d, "l", "/no/such/file", &s->err), s->err, ERROR_NOT_FOUND);
    assert_content(s, "k", "x");
}

struct listed {
    struct buf text;
    int stop_after;
};

static int see_key(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct listed *l = user;

    buf_printf(&l->text, "%s:%d ", key, (int)bytes);
    if (l->stop_after > 0 && --l->stop_after == 0)
        return error_set(err, ERROR_CANCELLED, "enough");
    return 0;
}

static int see_name(void *user, const char *name, struct error *err)
{
    struct listed *l = user;

    buf_printf(&l->text, "%s ", name);
    if (l->stop_after > 0 && --l->stop_after == 0)
        return error_set(err, ERROR_CANCELLED, "enough");
    return 0;
}

static void assert_list(struct state *s, const char *prefix, const char *expected)
{
    struct listed l = {.text = BUF_INIT(1 << 16)};

    assert_ok(s->d->ops->list(s->d, prefix, see_key, &l, &s->err), s->err);
    assert_string_equal(buf_cstr(&l.text), expected);
    buf_release(&l.text);
}

static void assert_names(struct state *s, const char *prefix, const char *expected)
{
    struct listed l = {.text = BUF_INIT(1 << 16)};

    assert_ok(s->d->ops->list_names(s->d, prefix, see_name, &l, &s->err), s->err);
    assert_string_equal(buf_cstr(&l.text), expected);
    buf_release(&l.text);
}

static void test_list_order(void **state)
{
    struct state *s = *state;

    /* '-' and '.' stand before '/', '0' behind it. */
    assert_ok(put(s, "a/x", "1"), s->err);
    assert_ok(put(s, "a-b", "12"), s->err);
    assert_ok(put(s, "a.b", "123"), s->err);
    assert_ok(put(s, "a0", "1234"), s->err);
    assert_ok(put(s, "a/x-1/y", ""), s->err);
    assert_ok(put(s, "b/z~1", "1"), s->err);
    assert_list(s, "", "a-b:2 a.b:3 a/x:1 a/x-1/y:0 a0:4 b/z~1:1 ");
    assert_list(s, "a/", "a/x:1 a/x-1/y:0 ");
    assert_list(s, "none/", "");
    assert_list(s, "a0/", "");
    assert_names(s, "", "a-b a.b a/ a0 b/ ");
    assert_names(s, "a/", "x x-1/ ");
    assert_names(s, "none/", "");
}

static void test_list_passes_over(void **state)
{
    struct state *s = *state;
    static const char *const others[] = {"lost+found", "tmp", "with blank"};
    char long_name[256], *path;

    assert_ok(put(s, "k", "x"), s->err);
    for (size_t i = 0; i < 3; i++) {
        path = path_of(s, others[i]);
        assert_true(mkdir(path, 0700) == 0 || i == 1);
        free(path);
    }
    path = path_of(s, "tmp/half");
    assert_ok(file_replace_volatile(path, slice_str("half"), 0600, &s->err), s->err);
    free(path);
    path = path_of(s, "socket");
    assert_int_equal(mkfifo(path, 0600), 0);
    free(path);
    path = path_of(s, "dangling");
    assert_int_equal(symlink("/no/such/thing", path), 0);
    free(path);
    path = path_of(s, "linked");
    assert_int_equal(symlink("k", path), 0);
    free(path);
    /* A path longer than any key. */
    memset(long_name, 'x', 250);
    long_name[250] = '\0';
    path = mem_printf("%s/%s/%s/%s", s->folder, long_name, long_name, long_name);
    assert_ok(dir_make_all(path, 0700, &s->err), s->err);
    free(path);
    path = mem_printf("%s/%s/%s/f", s->folder, long_name, long_name);
    assert_ok(file_replace_volatile(path, slice_str(""), 0600, &s->err), s->err);
    free(path);
    struct listed l = {.text = BUF_INIT(1 << 16)};
    assert_ok(s->d->ops->list(s->d, "", see_key, &l, &s->err), s->err);
    assert_true(strncmp(buf_cstr(&l.text), "k:1 linked:1 xxx", 16) == 0);
    buf_release(&l.text);
    /* A folder named tmp further down is as good as any. */
    assert_ok(put(s, "deep/tmp/k", "x"), s->err);
    assert_list(s, "deep/", "deep/tmp/k:1 ");
}

static void test_list_stops(void **state)
{
    struct state *s = *state;
    struct listed l = {.text = BUF_INIT(1 << 16), .stop_after = 2};

    assert_ok(put(s, "a/1", ""), s->err);
    assert_ok(put(s, "a/2", ""), s->err);
    assert_ok(put(s, "a/3", ""), s->err);
    assert_fails(s->d->ops->list(s->d, "", see_key, &l, &s->err), s->err, ERROR_CANCELLED);
    assert_string_equal(buf_cstr(&l.text), "a/1:0 a/2:0 ");
    l.stop_after = 1;
    assert_fails(s->d->ops->list_names(s->d, "a/", see_name, &l, &s->err), s->err, ERROR_CANCELLED);
    buf_release(&l.text);
}

static void test_remove(void **state)
{
    struct state *s = *state;
    struct buf b = BUF_INIT(10);

    assert_ok(put(s, "a/k", "x"), s->err);
    assert_ok(s->d->ops->remove(s->d, "a/k", &s->err), s->err);
    assert_fails(s->d->ops->get(s->d, "a/k", 10, &b, &s->err), s->err, ERROR_NOT_FOUND);
    assert_ok(s->d->ops->remove(s->d, "a/k", &s->err), s->err);
    assert_ok(s->d->ops->remove(s->d, "never/was", &s->err), s->err);
    assert_fails(s->d->ops->remove(s->d, "a", &s->err), s->err, ERROR_IO);
    assert_ok(put(s, "a/k", "y"), s->err);
    buf_release(&b);
}

static void test_probe(void **state)
{
    struct state *s = *state;
    struct vault_capabilities c = {0};

    assert_ok(s->d->ops->probe(s->d, &c, &s->err), s->err);
    assert_true(c.put_if_absent_atomic);
    assert_list(s, "", "");
    assert_int_equal(temporaries(s), 0);
}

/* A driver whose put looks first and writes then: what the race is there to find. */
struct racy {
    struct vault_driver base;
    struct vault_driver *real;
    int failure;
};

static int racy_put(struct vault_driver *d, const char *key, const struct slice *parts, size_t count, struct error *err)
{
    struct racy *r = (struct racy *)d;
    uint64_t bytes;

    (void)count;
    if (r->failure)
        return error_set(err, (enum error_code)r->failure, "no");
    if (r->real->ops->size(r->real, key, &bytes, err) >= 0)
        return error_set(err, ERROR_EXISTS, "there");
    clock_sleep_ms(5);
    int rc = r->real->ops->put_if_absent(r->real, key, parts, 1, err);
    return rc == -ERROR_EXISTS ? 0 : rc;
}

static int racy_get(struct vault_driver *d, const char *key, size_t max, struct buf *out, struct error *err)
{
    return ((struct racy *)d)->real->ops->get(((struct racy *)d)->real, key, max, out, err);
}

static int racy_remove(struct vault_driver *d, const char *key, struct error *err)
{
    return ((struct racy *)d)->real->ops->remove(((struct racy *)d)->real, key, err);
}

static void test_probe_finds_a_race(void **state)
{
    struct state *s = *state;
    struct vault_driver_ops ops = {.put_if_absent = racy_put, .get = racy_get, .remove = racy_remove};
    struct racy r = {.base = {&ops}, .real = s->d};
    struct vault_capabilities c = {.put_if_absent_atomic = true};

    assert_ok(driver_race(&r.base, "tmp/", &c, &s->err), s->err);
    assert_false(c.put_if_absent_atomic);
    r.failure = ERROR_NO_SPACE;
    assert_fails(driver_race(&r.base, "tmp/", &c, &s->err), s->err, ERROR_NO_SPACE);
}

static void test_open(void **state)
{
    struct state *s = *state;
    struct vault_driver *d;
    char *path = path_of(s, "deep/er");

    assert_fails(posix_driver_open(path, false, &d, &s->err), s->err, ERROR_NOT_FOUND);
    assert_ok(posix_driver_open(path, true, &d, &s->err), s->err);
    d->ops->free(d);
    assert_ok(posix_driver_open(path, false, &d, &s->err), s->err);
    d->ops->free(d);
    free(path);
    assert_ok(put(s, "file", "x"), s->err);
    path = path_of(s, "file");
    assert_fails(posix_driver_open(path, false, &d, &s->err), s->err, ERROR_IO);
    assert_fails(posix_driver_open(path, true, &d, &s->err), s->err, ERROR_IO);
    free(path);
}

static void test_stale_temporaries(void **state)
{
    struct state *s = *state;
    struct vault_driver *d;
    char *fresh = path_of(s, "tmp/fresh"), *stale = path_of(s, "tmp/stale"), *folder = path_of(s, "tmp/folder");
    struct timespec times[2] = {{.tv_sec = clock_wall_us() / CLOCK_US_PER_S - 86500}};

    times[1] = times[0];
    assert_ok(dir_make_all(folder, 0700, &s->err), s->err);
    assert_ok(file_replace_volatile(fresh, slice_str("x"), 0600, &s->err), s->err);
    assert_ok(file_replace_volatile(stale, slice_str("x"), 0600, &s->err), s->err);
    assert_int_equal(utimensat(AT_FDCWD, stale, times, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, folder, times, 0), 0);
    assert_ok(posix_driver_open(s->folder, false, &d, &s->err), s->err);
    d->ops->free(d);
    assert_true(file_exists(fresh));
    assert_false(file_exists(stale));
    assert_true(file_exists(folder));
    free(fresh);
    free(stale);
    free(folder);
}

/* Runs fn in a child of its own and gives its result. */
static int in_child(struct state *s, int (*fn)(struct state *))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn(s));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define SKIPPED 77

static int as_nobody(struct state *s)
{
    struct buf b = BUF_INIT(10);

    if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
        return SKIPPED;
    if (put(s, "new", "x") != -ERROR_IO || !strstr(s->err.message, "permission denied") ||
        !strstr(s->err.message, "chown"))
        return 1;
    if (s->d->ops->get(s->d, "k", 10, &b, &s->err) != -ERROR_IO || !strstr(s->err.message, "permission denied"))
        return 2;
    if (s->d->ops->remove(s->d, "k", &s->err) != -ERROR_IO)
        return 3;
    if (s->d->ops->list(s->d, "locked/", see_key, NULL, &s->err) != -ERROR_IO)
        return 4;
    return 0;
}

static void test_permission_denied(void **state)
{
    struct state *s = *state;

    assert_ok(put(s, "k", "x"), s->err);
    assert_ok(put(s, "locked/k", "x"), s->err);
    if (geteuid() != 0)
        skip(); /* one user cannot lock itself out in a way that root could not undo */
    assert_int_equal(in_child(s, as_nobody), 0);
}

static int with_small_tmpfs(struct state *s)
{
    struct vault_driver *d;
    char *big = mem_zalloc(1, 1 << 20);
    struct slice part = slice_of(big, 1 << 20);
    char *outside = path_of(s, "big");

    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", s->folder, "tmpfs", 0, "size=200k") < 0)
        return SKIPPED;
    if (posix_driver_open(s->folder, false, &d, &s->err) < 0)
        return 1;
    if (d->ops->put_if_absent(d, "a/k", &part, 1, &s->err) != -ERROR_NO_SPACE ||
        !strstr(s->err.message, "no space left"))
        return 2;
    if (file_replace_volatile("/dev/shm/salvor-unit-big", part, 0600, &s->err) < 0)
        return 3;
    int rc = driver_put_file(d, "a/k", "/dev/shm/salvor-unit-big", &s->err);
    (void)unlink("/dev/shm/salvor-unit-big");
    if (rc != -ERROR_NO_SPACE)
        return 4;
    /* Nothing half-made is left, and what fits still goes in. */
    part.n = 1000;
    if (temporaries(s) != 0 || d->ops->put_if_absent(d, "a/k", &part, 1, &s->err) < 0)
        return 5;
    if (mount(NULL, s->folder, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return SKIPPED;
    if (d->ops->put_if_absent(d, "a/l", &part, 1, &s->err) != -ERROR_IO || !strstr(s->err.message, "read-only"))
        return 6;
    if (d->ops->remove(d, "a/k", &s->err) != -ERROR_IO || !strstr(s->err.message, "read-only"))
        return 7;
    d->ops->free(d);
    /* A vault that may only be read opens and reads. */
    struct buf b = BUF_INIT(1000);
    if (posix_driver_open(s->folder, false, &d, &s->err) < 0 || d->ops->get(d, "a/k", 1000, &b, &s->err) < 0)
        return 8;
    buf_release(&b);
    d->ops->free(d);
    free(outside);
    free(big);
    return 0;
}

static void test_full_and_read_only(void **state)
{
    int rc = in_child(*state, with_small_tmpfs);

    if (rc == SKIPPED)
        skip(); /* needs the right to mount */
    assert_int_equal(rc, 0);
}

/* Two file systems in one vault: link() cannot cross, and the message says what is needed. */
static int with_a_mount_inside(struct state *s)
{
    char *inside = path_of(s, "other");

    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return SKIPPED;
    if (dir_make_all(inside, 0700, &s->err) < 0 || mount("tmpfs", inside, "tmpfs", 0, "size=200k") < 0)
        return SKIPPED;
    free(inside);
    /* The driver's descriptor is of the other namespace. */
    s->d->ops->free(s->d);
    if (posix_driver_open(s->folder, false, &s->d, &s->err) < 0)
        return 2;
    return put(s, "other/k", "x") == -ERROR_IO && strstr(s->err.message, "one file system") ? 0 : 1;
}

static void test_mount_inside(void **state)
{
    int rc = in_child(*state, with_a_mount_inside);

    if (rc == SKIPPED)
        skip();
    assert_int_equal(rc, 0);
}

static void test_remove_many(void **state)
{
    struct state *s = *state;
    const char *const keys[] = {"a/1", "a/2", "a/gone", "b/c/3", "nowhere/4", "a/5"};
    uint64_t bytes;

    assert_ok(put(s, "a/1", "x"), s->err);
    assert_ok(put(s, "a/2", "x"), s->err);
    assert_ok(put(s, "a/5", "x"), s->err);
    assert_ok(put(s, "b/c/3", "x"), s->err);
    assert_ok(put(s, "b/c/stays", "x"), s->err);
    for (int again = 0; again < 2; again++)
        assert_ok(s->d->ops->remove_many(s->d, keys, sizeof keys / sizeof *keys, &s->err), s->err);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_fails(s->d->ops->size(s->d, keys[i], &bytes, &s->err), s->err, ERROR_NOT_FOUND);
    assert_content(s, "b/c/stays", "x");
    assert_ok(s->d->ops->remove_many(s->d, NULL, 0, &s->err), s->err);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(test_put_get),
        ROW(test_put_never_replaces),
        ROW(test_put_through_a_file_fails),
        ROW(test_folder_removed_behind_us),
        ROW(test_many_folders),
        ROW(test_get_missing),
        ROW(test_get_limits),
        ROW(test_not_a_file),
        ROW(test_put_file),
        ROW(test_put_file_from_another_file_system),
        ROW(test_put_file_exists_or_missing),
        ROW(test_list_order),
        ROW(test_list_passes_over),
        ROW(test_list_stops),
        ROW(test_remove),
        ROW(test_remove_many),
        ROW(test_probe),
        ROW(test_probe_finds_a_race),
        ROW(test_open),
        ROW(test_stale_temporaries),
        ROW(test_permission_denied),
        ROW(test_full_and_read_only),
        ROW(test_mount_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
