/* journal/local: one chain whatever crashes, tears and competes. */
#include "journals.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"

static void first_use_makes_a_writer(void **state)
{
    (void)state;
    struct box b;
    struct stat st;

    box_make(&b);
    CLEANUP(mem_free_ptr) char *key = box_path(&b, "key");
    assert_false(file_exists(key));
    box_add(&b, "set_up", "one");
    box_add(&b, "snapshot", "two");
    assert_kinds(&b, "writer_begun set_up snapshot");
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    box_release(&b);
}

static void the_secret_stays_in_its_file(void **state)
{
    (void)state;
    CLEANUP(buf_release) struct buf secret = BUF_INIT(4096), entries = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    CLEANUP(mem_free_ptr) char *key = box_path(&b, "key");
    CLEANUP(mem_free_ptr) char *identity = box_path(&b, "writer.json");
    assert_ok(file_read_all(key, 4096, &secret, &err), err);
    box_entries(&b, &entries);
    assert_ok(file_read_all(identity, 4096, &entries, &err), err);
    secret.p[64] = '\0';
    assert_null(strstr(buf_cstr(&entries), (const char *)secret.p));
    box_release(&b);
}

/* Whatever part of a line a crash left behind: it was never acknowledged. */
static void a_torn_line_is_cut_off(void **state)
{
    (void)state;
    CLEANUP(buf_release) struct buf all = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    box_entries(&b, &all);
    size_t before = all.n;
    box_add(&b, "snapshot", "two");
    box_entries(&b, &all);
    CLEANUP(mem_free_ptr) char *path = box_path(&b, "entries.jsonl");
    for (size_t n = before; n < all.n; n += n < before + 3 || n + 8 > all.n ? 1 : 7) {
        assert_ok(file_replace(path, slice_of(all.p, n), 0600, &err), err);
        box_add(&b, "proof", "three");
        assert_kinds(&b, "writer_begun set_up proof");
    }
    box_release(&b);
}

/* A file system may write a line's end before its middle. */
static void a_hole_in_the_last_line_is_cut_off_and_told(void **state)
{
    (void)state;
    CLEANUP(buf_release) struct buf all = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    box_entries(&b, &all);
    size_t before = all.n;
    box_add(&b, "snapshot", "two");
    box_entries(&b, &all);
    CLEANUP(mem_free_ptr) char *path = box_path(&b, "entries.jsonl");
    for (size_t i = before; i < all.n - 1; i += i + 30 < all.n ? 9 : 1) {
        uint8_t kept = all.p[i];
        all.p[i] ^= 1;
        if (all.p[i] == '\n') { /* another line structure, told by its own test */
            all.p[i] = kept;
            continue;
        }
        assert_ok(file_replace(path, buf_slice(&all), 0600, &err), err);
        box_add(&b, "proof", "three");
        assert_kinds(&b, "writer_begun set_up journal_repaired proof");
        all.p[i] = kept;
    }
    box_release(&b);
}

static void deeper_damage_begins_a_new_writer(void **state)
{
    (void)state;
    CLEANUP(buf_release) struct buf all = BUF_INIT(1 << 20);
    char before[JOURNAL_WRITER_BYTES], after[JOURNAL_WRITER_BYTES];
    struct error err = ERROR_INIT;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    box_add(&b, "snapshot", "two");
    box_writer(&b, before);
    box_entries(&b, &all);
    CLEANUP(mem_free_ptr) char *path = box_path(&b, "entries.jsonl");
    for (size_t i = all.n / 3; i < all.n - 1; i++)
        if (all.p[i] != '\n')
            all.p[i] = 'x';
    assert_ok(file_replace(path, buf_slice(&all), 0600, &err), err);
    box_add(&b, "proof", "three");
    box_writer(&b, after);
    assert_string_not_equal(before, after);
    assert_kinds(&b, "writer_begun proof");
    box_entries(&b, &all);
    assert_contains(buf_cstr(&all), "journal.aside.1");
    CLEANUP(mem_free_ptr) char *aside = mem_printf("%s/journal.aside.1/entries.jsonl", b.folder);
    assert_true(file_exists(aside));
    box_release(&b);
}

static void a_lost_key_begins_a_new_writer(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    CLEANUP(mem_free_ptr) char *key = box_path(&b, "key");
    assert_ok(file_remove(key, &err), err);
    box_add(&b, "proof", "two");
    assert_kinds(&b, "writer_begun proof");
    box_release(&b);
}

static void a_writer_half_made_is_made_anew(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    CLEANUP(mem_free_ptr) char *identity = box_path(&b, "writer.json");
    assert_ok(file_remove(identity, &err), err); /* as if the crash had come before its last step */
    box_add(&b, "proof", "two");
    assert_kinds(&b, "writer_begun proof");
    box_release(&b);
}

static void too_long_changes_nothing(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    JSON_AUTO members = json_object();
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    CLEANUP(mem_free_ptr) char *text = mem_alloc(JOURNAL_LINE_BYTES_MAX + 1);
    memset(text, 'x', JOURNAL_LINE_BYTES_MAX);
    text[JOURNAL_LINE_BYTES_MAX] = '\0';
    json_set_str(members, "text", text);
    assert_fails(journal_add(b.journal, "proof", NULL, members, &err), err, ERROR_LIMIT);
    assert_kinds(&b, "writer_begun set_up");
    /* As long as it may be: the tail is still found. */
    text[JOURNAL_LINE_BYTES_MAX - 600] = '\0';
    json_set_str(members, "text", text);
    for (int i = 0; i < 4; i++)
        assert_ok(journal_add(b.journal, "proof", NULL, members, &err), err);
    assert_kinds(&b, "writer_begun set_up proof proof proof proof");
    box_release(&b);
}

#define PROCESSES 6
#define EACH      25

static void add_many(const char *folder, int who)
{
    struct error err = ERROR_INIT;
    struct journal *j;
    JSON_AUTO members = json_object();

    json_set_i64(members, "who", who);
    if (journal_open(&(struct journal_config){.state_directory = folder}, &j, &err) < 0)
        _exit(1);
    for (int i = 0; i < EACH; i++)
        if (journal_add(j, "proof", "shop", members, &err) < 0)
            _exit(2);
    _exit(0);
}

static void many_processes_write_one_chain(void **state)
{
    (void)state;
    struct box b;
    int status;

    box_make(&b);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            add_many(b.folder, i);
    for (int i = 0; i < PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    CLEANUP(mem_free_ptr) char *kinds = box_kinds(&b);
    size_t entries = 1;
    for (const char *p = kinds; *p; p++)
        entries += *p == ' ';
    assert_int_equal(entries, PROCESSES * EACH + 1);
    box_release(&b);
}

/* Killed at any moment: what was acknowledged is there, and the chain goes on. */
static void killed_appenders_lose_nothing(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct box b;

    box_make(&b);
    for (int round = 0; round < 30; round++) {
        int acknowledged[2];
        assert_int_equal(pipe(acknowledged), 0);
        pid_t pid = fork();
        if (pid == 0) {
            for (;;)
                if (journal_add(b.journal, "snapshot", "shop", NULL, &err) < 0 || write(acknowledged[1], "x", 1) != 1)
                    _exit(1);
        }
        close(acknowledged[1]);
        usleep((useconds_t)(500 + 700 * round % 9000));
        kill(pid, SIGKILL);
        assert_true(waitpid(pid, NULL, 0) == pid);
        char seen[4096];
        ssize_t count = 0, got;
        while ((got = read(acknowledged[0], seen, sizeof seen)) > 0)
            count += got;
        close(acknowledged[0]);
        box_add(&b, "proof", "after");
        CLEANUP(mem_free_ptr) char *kinds = box_kinds(&b);
        ssize_t snapshots = 0;
        for (const char *p = strrchr(kinds, '\0'); p > kinds; p--)
            snapshots += strncmp(p, " snapshot", 9) == 0;
        static ssize_t all_acknowledged;
        all_acknowledged += count;
        assert_true(snapshots >= all_acknowledged);
        assert_null(strstr(kinds, "journal_repaired"));
        all_acknowledged = snapshots;
    }
    box_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_use_makes_a_writer),
        cmocka_unit_test(the_secret_stays_in_its_file),
        cmocka_unit_test(a_torn_line_is_cut_off),
        cmocka_unit_test(a_hole_in_the_last_line_is_cut_off_and_told),
        cmocka_unit_test(deeper_damage_begins_a_new_writer),
        cmocka_unit_test(a_lost_key_begins_a_new_writer),
        cmocka_unit_test(a_writer_half_made_is_made_anew),
        cmocka_unit_test(too_long_changes_nothing),
        cmocka_unit_test(many_processes_write_one_chain),
        cmocka_unit_test(killed_appenders_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
