/*
 * test/crash/tamper.c - somebody has been at the vault: any object with any bit changed, cut, deleted, put under another's name, replaced by
 * another of its kind, by an older one of its kind, or by the one of the same name of another vault: verify finds it and names it, and a recovery is
 * refused or gives exactly what the source had.
 *
 * The vault is that of a whole life and its upkeep (life.h, upkeep.h), with every other kind of object that a vault can hold (kinds.h); all of it once plain and once
 * encrypted. Exhaustive flips of every bit are in the unit tests of the vault; here every object of every
 * kind meets each kind of tampering. All of it is found by the vault alone, with the journal in it, but for what is_dispensable() names, which is of no
 * use to anybody, and the journal's newest run, which the host misses that shipped it.
 */
#include "kinds.h"

#include "unit.h"

#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "crash.h"
#include "journal/read.h"
#include "os/file.h"
#include "vault/verify.h"

#define FLIPS 8 /* of each object; in a soak 25 times as many */
#define OBJECT_BYTES_MAX ((size_t)64 << 20)

struct objects {
    char **keys;
    size_t count, cap;
};

static struct {
    char *folder, *path;
    struct vault *vault;
    struct objects objects;
    bool encrypted;
    unsigned refused, exact;
} it;

static int note_key(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct objects *o = user;

    (void)bytes, (void)err;
    MEM_GROW(o->keys, o->cap, o->count);
    o->keys[o->count++] = mem_strdup(key);
    return 0;
}

static bool is_found(const char *key);

static int set_up(bool encrypted)
{
    struct error err = ERROR_INIT;

    it.encrypted = encrypted;
    life_encrypted(encrypted);
    it.folder = unit_folder();
    it.path = mem_printf("%s/vault", it.folder);
    assert_ok(upkeep_go(it.folder, UPKEEP_LIFE, false, 0, &err), err);
    assert_ok(kinds_add(it.folder, &err), err);
    assert_ok(life_open(it.folder, &it.vault, &err), err);
    assert_ok(it.vault->driver->ops->list(it.vault->driver, "", note_key, &it.objects, &err), err);
    const char *bad = kinds_check(it.objects.keys, it.objects.count, encrypted);
    if (bad)
        fail_msg("%s", bad);
    assert_false(is_found(""));
    return 0;
}

static int set_up_plain(void **state)
{
    (void)state;
    return set_up(false);
}

static int set_up_encrypted(void **state)
{
    (void)state;
    return set_up(true);
}

static int tear_down(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    print_message("%s: %zu objects; %u recoveries refused, %u exact\n", it.encrypted ? "encrypted" : "plain", it.objects.count, it.refused, it.exact);
    life_close(it.vault);
    for (size_t i = 0; i < it.objects.count; i++)
        free(it.objects.keys[i]);
    free(it.objects.keys);
    assert_ok(dir_remove_all(it.folder, &err), err);
    free(it.folder);
    free(it.path);
    memset(&it, 0, sizeof it);
    return 0;
}

/* What says why something is gone: where that is missing, what it spoke of is found to be. */
static bool is_spoken_of(const char *key, const char *found)
{
    return (strstr(key, "/floors/") && strstr(found, "/rows/")) || (strstr(key, "/purged/") && strstr(found, "/manifest.json.zst"));
}

/* Does a finding name the object, or the place where it stood? "": any does. */
struct search {
    const char *key;
    bool found;
};

static void look(void *user, const char *kind, const char *key, const char *text)
{
    struct search *s = user;
    const char *base = strrchr(s->key, '/') ? strrchr(s->key, '/') + 1 : s->key;

    if (strcmp(kind, "gap") == 0 && strstr(text, "was not captured: a test"))
        return; /* the one that kinds_add put, and as it put it */
    if (!s->key[0])
        print_message("%s %s: %s\n", kind, key, text);
    s->found |= !s->key[0] || strstr(key, s->key) || strstr(s->key, key) || strstr(text, base) || is_spoken_of(s->key, key);
}

/* As `salvor verify` does it: the vault's own check, and the journal's. by_host: with what this host's journal knows. */
static bool is_found_by(const char *key, bool by_host)
{
    struct verify_result r = {0};
    struct error err = ERROR_INIT;
    struct vault *v = NULL;
    struct search s = {.key = key};
    const struct journal_check check = {.find = look, .user = &s};
    CLEANUP(journal_done) struct journal *j = NULL;

    if (life_open(it.folder, &v, &err) < 0)
        return true; /* nobody works with such a vault */
    assert_ok(vault_verify(v, NULL, 0, NULL, NULL, &r, &err), err);
    for (size_t i = 0; i < r.findings_count; i++)
        look(&s, r.findings[i].kind, r.findings[i].key, r.findings[i].text);
    verify_result_release(&r);
    if (by_host)
        assert_ok(upkeep_journal(it.folder, &j, &err), err);
    assert_ok(journal_check_vault(v, j, &check, NULL, &err), err);
    life_close(v);
    return s.found;
}

static bool is_found(const char *key) { return is_found_by(key, false); }

/* No recovery gives what never was. */
static void check_recovery(const char *key, const char *what)
{
    uint64_t transactions;
    const char *bad = life_recover(it.folder, &transactions);

    if (bad)
        fail_msg("%s was %s, and a recovery to transaction %llu differs: %s", key, what, (unsigned long long)transactions, bad);
    if (transactions > 0 && transactions < STREAM_TRANSACTIONS + 2)
        fail_msg("%s was %s, and a recovery of the newest state ends at transaction %llu", key, what, (unsigned long long)transactions);
    it.refused += transactions == 0;
    it.exact += transactions > 0;
}

static char *path_of(const char *key) { return mem_printf("%s/%s", it.path, key); }

static void read_object(const char *key, struct buf *out)
{
    CLEANUP(mem_free_ptr) char *path = path_of(key);
    struct error err = ERROR_INIT;

    buf_clear(out);
    assert_ok(file_read_all(path, OBJECT_BYTES_MAX, out, &err), err);
}

static void write_object(const char *key, struct slice content)
{
    CLEANUP(mem_free_ptr) char *path = path_of(key);
    struct error err = ERROR_INIT;

    assert_ok(file_replace_volatile(path, content, 0600, &err), err);
}

static void remove_object(const char *key)
{
    CLEANUP(mem_free_ptr) char *path = path_of(key);

    assert_int_equal(unlink(path), 0);
}

/* Of witnesses the one with the highest number counts, and those before it are removed in the end. */
static bool is_dispensable(size_t i)
{
    return strstr(it.objects.keys[i], "/witness/") && i + 1 < it.objects.count && strstr(it.objects.keys[i + 1], "/witness/");
}

/* Nothing comes after it. */
static bool is_newest_run(size_t i)
{
    return strstr(it.objects.keys[i], ".jsonl.zst") && !strstr(it.objects.keys[i + 1], ".jsonl.zst");
}

static void test_changed_bits(void **state)
{
    CLEANUP(buf_release) struct buf content = BUF_INIT(OBJECT_BYTES_MAX);
    uint64_t random = 88172645463325252u;

    (void)state;
    for (size_t i = 0; i < it.objects.count; i++) {
        read_object(it.objects.keys[i], &content);
        for (unsigned k = 0; k < crash_rounds(FLIPS) && content.n > 0; k++) {
            size_t bit = (size_t)(crash_random(&random) % (content.n * 8));

            content.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            write_object(it.objects.keys[i], buf_slice(&content));
            if (!is_found(it.objects.keys[i]))
                fail_msg("bit %zu of %s was changed and nobody found it", bit, it.objects.keys[i]);
            check_recovery(it.objects.keys[i], "changed");
            content.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        write_object(it.objects.keys[i], buf_slice(&content));
    }
    assert_false(is_found(""));
}

static void test_cut(void **state)
{
    CLEANUP(buf_release) struct buf content = BUF_INIT(OBJECT_BYTES_MAX);

    (void)state;
    for (size_t i = 0; i < it.objects.count; i++) {
        read_object(it.objects.keys[i], &content);
        for (size_t part = 0; part < 3; part++) {
            write_object(it.objects.keys[i], slice_of(content.p, part == 2 ? content.n - 1 : content.n * part / 2));
            if (!is_found(it.objects.keys[i]))
                fail_msg("%s was cut and nobody found it", it.objects.keys[i]);
            check_recovery(it.objects.keys[i], "cut");
        }
        write_object(it.objects.keys[i], buf_slice(&content));
    }
    assert_false(is_found(""));
}

static void test_deleted(void **state)
{
    CLEANUP(buf_release) struct buf content = BUF_INIT(OBJECT_BYTES_MAX);
    unsigned dispensable = 0, runs = 0;

    (void)state;
    for (size_t i = 0; i < it.objects.count; i++) {
        const char *key = it.objects.keys[i];

        read_object(key, &content);
        remove_object(key);
        if (is_dispensable(i))
            assert_false(is_found_by("", true));
        else if (!is_found_by(key, is_newest_run(i)))
            fail_msg("%s was deleted and nobody found it", key);
        check_recovery(key, "deleted");
        write_object(key, buf_slice(&content));
        dispensable += is_dispensable(i);
        runs += is_newest_run(i);
    }
    assert_false(is_found_by("", true));
    assert_true(dispensable <= 4 && runs == 1);
}

/* Each object gets the content of the one before it, and of the one after it: mostly of its own kind, as the keys are in order. */
static void test_swapped(void **state)
{
    CLEANUP(buf_release) struct buf content = BUF_INIT(OBJECT_BYTES_MAX), other = BUF_INIT(OBJECT_BYTES_MAX);

    (void)state;
    for (size_t i = 0; i < it.objects.count; i++) {
        read_object(it.objects.keys[i], &content);
        for (size_t step = 1; step <= 2; step++) {
            size_t from = (i + (step == 1 ? 1 : it.objects.count - 1)) % it.objects.count;

            read_object(it.objects.keys[from], &other);
            write_object(it.objects.keys[i], buf_slice(&other));
            if (!is_found(it.objects.keys[i]))
                fail_msg("%s was replaced by %s and nobody found it", it.objects.keys[i], it.objects.keys[from]);
            check_recovery(it.objects.keys[i], "replaced by another");
        }
        write_object(it.objects.keys[i], buf_slice(&content));
    }
    assert_false(is_found(""));
}

/* As if it belonged to another source: no object is good under a name that it was not written under. */
static void test_moved_to_another_source(void **state)
{
    CLEANUP(buf_release) struct buf content = BUF_INIT(OBJECT_BYTES_MAX);
    const char start[] = "sources/" STREAM_SOURCE "/";
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < it.objects.count; i++) {
        const char *key = it.objects.keys[i];

        /* Of what nothing there refers to, chunks and schemas are passed over: whoever reads one checks its name. */
        if (strncmp(key, start, sizeof start - 1) != 0 || strstr(key, "/chunks/") || strstr(key, "/schemas/"))
            continue;
        CLEANUP(mem_free_ptr) char *moved = mem_printf("sources/other/%s", key + sizeof start - 1);
        CLEANUP(mem_free_ptr) char *path = path_of(moved);
        CLEANUP(mem_free_ptr) char *folder = mem_strdup(path);
        read_object(key, &content);
        *strrchr(folder, '/') = '\0';
        assert_ok(dir_make_all(folder, 0700, &err), err);
        write_object(moved, buf_slice(&content));
        if (!is_found(moved))
            fail_msg("%s stands under another source and nobody found it", key);
        check_recovery(key, "put under another source too");
        remove_object(moved);
    }
}

/* Up to its last number or digest: objects of one kind in one place. */
static size_t kind_bytes(const char *key)
{
    const char *slash = strrchr(key, '/');

    return slash ? (size_t)(slash - key) : 0;
}

/* Yesterday's: each object gets the content of an older one of its kind. */
static void test_replayed(void **state)
{
    CLEANUP(buf_release) struct buf content = BUF_INIT(OBJECT_BYTES_MAX), older = BUF_INIT(OBJECT_BYTES_MAX);
    unsigned replayed = 0;

    (void)state;
    for (size_t i = 0; i < it.objects.count; i++)
        for (size_t k = 0; k < i; k++) {
            const char *key = it.objects.keys[i], *from = it.objects.keys[k];

            if (kind_bytes(key) != kind_bytes(from) || strncmp(key, from, kind_bytes(key)) != 0)
                continue;
            read_object(key, &content);
            read_object(from, &older);
            write_object(key, buf_slice(&older));
            if (!is_found(key))
                fail_msg("the older %s was put in the place of %s and nobody found it", from, key);
            check_recovery(key, "replaced by an older one");
            write_object(key, buf_slice(&content));
            replayed++;
        }
    assert_true(replayed > 10);
    assert_false(is_found(""));
}

/* Of another vault under the same key, where a name is the same: sealed objects open in their own vault alone. */
static void test_taken_from_another_vault(void **state)
{
    CLEANUP(buf_release) struct buf content = BUF_INIT(OBJECT_BYTES_MAX), theirs = BUF_INIT(OBJECT_BYTES_MAX);
    char *other = unit_folder();
    struct error err = ERROR_INIT;
    unsigned taken = 0;

    (void)state;
    assert_ok(upkeep_go(other, UPKEEP_LIFE, false, 0, &err), err);
    for (size_t i = 0; i < it.objects.count; i++) {
        const char *key = it.objects.keys[i];
        CLEANUP(mem_free_ptr) char *path = mem_printf("%s/vault/%s", other, key);

        buf_clear(&theirs);
        if (strstr(key, "capabilities/") || file_read_all(path, OBJECT_BYTES_MAX, &theirs, &err) < 0)
            continue;
        read_object(key, &content);
        write_object(key, buf_slice(&theirs));
        if (!is_found(key))
            fail_msg("%s was taken from another vault and nobody found it", key);
        check_recovery(key, "taken from another vault");
        write_object(key, buf_slice(&content));
        taken++;
    }
    assert_true(taken > 5);
    assert_false(is_found(""));
    assert_ok(dir_remove_all(other, &err), err);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changed_bits), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_deleted),      cmocka_unit_test(test_swapped),
        cmocka_unit_test(test_replayed),     cmocka_unit_test(test_moved_to_another_source),
        cmocka_unit_test(test_taken_from_another_vault), /* encrypted vaults alone */
    };
    const size_t count = sizeof tests / sizeof *tests;

    log_init(LOG_ERROR, "tamper");
    return _cmocka_run_group_tests("plain", tests, count - 1, set_up_plain, tear_down) +
           _cmocka_run_group_tests("encrypted", tests, count, set_up_encrypted, tear_down);
}
