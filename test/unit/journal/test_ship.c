/* journal/ship, run, read, check, fold: what a vault has, whatever is done to it. */
#include "journals.h"

#include "../vault/support.h"
#include "journal/read.h"
#include "journal/run.h"

struct findings {
    size_t count;
    char kind[16], key[256], text[1024]; /* of the last one */
};

static void on_finding(void *user, const char *kind, const char *key, const char *text)
{
    struct findings *f = user;

    f->count++;
    snprintf(f->kind, sizeof f->kind, "%s", kind);
    snprintf(f->key, sizeof f->key, "%s", key);
    snprintf(f->text, sizeof f->text, "%s", text);
}

static struct findings check(struct fixture *x, struct journal *j)
{
    struct findings f = {0};

    assert_ok(journal_check_vault(x->v, j, &(struct journal_check){on_finding, &f}, NULL, &x->err), x->err);
    return f;
}

static void assert_whole(struct fixture *x, struct journal *j)
{
    struct findings f = check(x, j);

    if (f.count > 0)
        fail_msg("%s %s: %s", f.kind, f.key, f.text);
}

static int ship(struct fixture *x, struct box *b)
{
    int rc = journal_ship(b->journal, x->v, &x->err);

    assert_ok(rc, x->err);
    return rc;
}

static size_t entries_in_vault(struct fixture *x)
{
    struct journal_entries e = JOURNAL_ENTRIES_INIT;

    assert_ok(journal_read_vault(x->v, &e, &x->err), x->err);
    journal_entries_sort(&e);
    size_t count = e.count;
    journal_entries_release(&e);
    return count;
}

static void run_key(const struct box *b, uint64_t first, char key[static VAULT_KEY_BYTES])
{
    char writer[JOURNAL_WRITER_BYTES];

    box_writer(b, writer);
    journal_run_key(key, writer, first);
}

static void shipped_whole_and_once(void **state)
{
    struct fixture *x = *state;
    struct box b;

    box_make(&b);
    assert_int_equal(ship(x, &b), 0); /* nothing was ever written: no writer comes from that */
    assert_false(journal_ship_pending(b.journal, x->v));
    box_add(&b, "set_up", "one");
    assert_true(journal_ship_pending(b.journal, x->v));
    assert_int_equal(ship(x, &b), 1);
    assert_false(journal_ship_pending(b.journal, x->v));
    assert_int_equal(ship(x, &b), 0);
    box_add(&b, "snapshot", "two");
    box_add(&b, "proof", "three");
    assert_int_equal(ship(x, &b), 1);
    assert_int_equal(entries_in_vault(x), 4);
    assert_whole(x, b.journal);
    assert_whole(x, NULL);
    box_release(&b);
}

/* As if the crash came between the put and shipped.json: the vault is read, and nothing is there twice. */
static void a_forgotten_put_is_found(void **state)
{
    struct fixture *x = *state;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    ship(x, &b);
    CLEANUP(mem_free_ptr) char *shipped = box_path(&b, "shipped.json");
    assert_ok(file_remove(shipped, &x->err), x->err);
    assert_int_equal(ship(x, &b), 0);
    box_add(&b, "snapshot", "two");
    assert_ok(file_remove(shipped, &x->err), x->err);
    assert_int_equal(ship(x, &b), 1);
    assert_int_equal(entries_in_vault(x), 3);
    assert_whole(x, b.journal);
    box_release(&b);
}

static void a_second_vault_gets_all(void **state)
{
    struct fixture *x = *state;
    struct fixture *y;
    struct box b;

    fixture_new((void **)&y);
    box_make(&b);
    for (int i = 0; i < 5; i++) {
        box_add(&b, "snapshot", "x");
        ship(x, &b);
    }
    ship(y, &b);
    assert_int_equal(entries_in_vault(x), 6);
    assert_int_equal(entries_in_vault(y), 6);
    assert_whole(y, b.journal);
    /* A run of the one is none of the other. */
    char key[VAULT_KEY_BYTES];
    run_key(&b, 1, key);
    struct buf other = fixture_read(x, key);
    assert_ok(file_replace(fixture_path(y, key), buf_slice(&other), 0600, &x->err), x->err);
    struct findings f = check(y, NULL);
    assert_true(f.count >= 1);
    assert_contains(f.text, "another vault");
    buf_release(&other);
    box_release(&b);
    fixture_free((void **)&y);
}

/* Every bit of every object of the journal. */
static void every_bit_is_covered(void **state)
{
    struct fixture *x = *state;
    char keys[3][VAULT_KEY_BYTES], writer[JOURNAL_WRITER_BYTES];
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    ship(x, &b);
    box_add(&b, "snapshot", "two");
    ship(x, &b);
    box_writer(&b, writer);
    run_key(&b, 1, keys[0]);
    run_key(&b, 3, keys[1]);
    journal_identity_key(keys[2], writer);
    for (int i = 0; i < 3; i++) {
        struct buf good = fixture_read(x, keys[i]);
        for (size_t bit = 0; bit < 8 * good.n; bit += 3) {
            good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_ok(file_replace_volatile(fixture_path(x, keys[i]), buf_slice(&good), 0600, &x->err), x->err);
            struct findings f = check(x, NULL);
            if (f.count == 0)
                fail_msg("bit %zu of %s changes nothing", bit, keys[i]);
            good.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_ok(file_replace(fixture_path(x, keys[i]), buf_slice(&good), 0600, &x->err), x->err);
        buf_release(&good);
    }
    assert_whole(x, b.journal);
    box_release(&b);
}

static void missing_runs_are_found(void **state)
{
    struct fixture *x = *state;
    char key[VAULT_KEY_BYTES];
    struct box b, other;

    box_make(&b);
    box_make(&other);
    for (int i = 0; i < 3; i++) {
        box_add(&b, "snapshot", "x");
        ship(x, &b);
    }
    /* In the middle. */
    run_key(&b, 3, key);
    struct buf good = fixture_read(x, key);
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    struct findings f = check(x, NULL);
    assert_string_equal(f.kind, "missing");
    assert_ok(file_replace(fixture_path(x, key), buf_slice(&good), 0600, &x->err), x->err);
    buf_release(&good);
    assert_whole(x, b.journal);
    /* The newest: nobody else saw it, but this host put it. */
    run_key(&b, 4, key);
    good = fixture_read(x, key);
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    assert_int_equal(check(x, NULL).count, 0);
    f = check(x, b.journal);
    assert_string_equal(f.kind, "missing");
    assert_contains(f.text, "this host saw entry 4");
    assert_ok(file_replace(fixture_path(x, key), buf_slice(&good), 0600, &x->err), x->err);
    buf_release(&good);
    /* And then another writer has signed that he saw it. */
    box_add(&other, "adopted", "y");
    ship(x, &other);
    assert_whole(x, NULL);
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    f = check(x, NULL);
    assert_int_equal(f.count, 1);
    assert_string_equal(f.kind, "missing");
    assert_contains(f.text, "its newest runs are gone");
    box_release(&b);
    box_release(&other);
}

static void copy_file(const char *from, const char *to)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;

    assert_ok(file_read_all(from, 1 << 20, &text, &err), err);
    assert_ok(file_replace(to, buf_slice(&text), 0600, &err), err);
}

/* A state directory of yesterday: its chain would give a sequence a second content. */
static void an_older_copy_begins_a_new_writer(void **state)
{
    struct fixture *x = *state;
    char before[JOURNAL_WRITER_BYTES], after[JOURNAL_WRITER_BYTES];
    struct box b, old;

    box_make(&b);
    box_make(&old);
    box_add(&b, "set_up", "one");
    ship(x, &b);
    static const char *const names[] = {"key", "writer.json", "entries.jsonl", "shipped.json"};
    CLEANUP(mem_free_ptr) char *folder = mem_printf("%s/journal", old.folder);
    assert_ok(dir_make_all(folder, 0700, &x->err), x->err);
    for (size_t i = 0; i < 4; i++) {
        CLEANUP(mem_free_ptr) char *from = box_path(&b, names[i]);
        CLEANUP(mem_free_ptr) char *to = box_path(&old, names[i]);
        copy_file(from, to);
    }
    box_add(&b, "snapshot", "today");
    ship(x, &b);
    box_add(&old, "snapshot", "another today");
    box_writer(&old, before);
    assert_int_equal(ship(x, &old), 1);
    box_writer(&old, after);
    assert_string_not_equal(before, after);
    assert_kinds(&old, "writer_begun journal_forked");
    assert_whole(x, b.journal);
    assert_whole(x, old.journal);
    box_release(&b);
    box_release(&old);
}

/* Who has the vault but not the key cannot write as this writer. */
static void a_forgery_is_found(void **state)
{
    struct fixture *x = *state;
    char key[VAULT_KEY_BYTES], writer[JOURNAL_WRITER_BYTES];
    struct box b, forger;

    box_make(&b);
    box_make(&forger);
    box_add(&b, "proof_failed", "the truth");
    ship(x, &b);
    box_writer(&b, writer);
    /* The same writer's name, other entries, another key. */
    box_add(&forger, "proof", "a lie");
    CLEANUP(mem_free_ptr) char *identity = box_path(&forger, "writer.json");
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    assert_ok(file_read_all(identity, 4096, &text, &x->err), x->err);
    char theirs[JOURNAL_WRITER_BYTES];
    box_writer(&forger, theirs);
    char *at = memmem(text.p, text.n, theirs, 16);
    memcpy(at, writer, 16);
    assert_ok(file_replace(identity, buf_slice(&text), 0600, &x->err), x->err);
    CLEANUP(mem_free_ptr) char *entries = box_path(&forger, "entries.jsonl");
    assert_ok(file_replace(entries, slice_of(NULL, 0), 0600, &x->err), x->err);
    box_add(&forger, "proof", "a lie");
    run_key(&b, 1, key);
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    ship(x, &forger);
    struct findings f = check(x, NULL);
    assert_int_equal(f.count, 1);
    assert_contains(f.text, "signature");
    assert_int_equal(entries_in_vault(x), 0);
    /* With its own public key in place as well, the host whose key it was still knows. */
    journal_identity_key(key, writer);
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    CLEANUP(mem_free_ptr) char *shipped = box_path(&forger, "shipped.json");
    assert_ok(file_remove(shipped, &x->err), x->err);
    assert_int_equal(ship(x, &forger), 0);
    assert_int_equal(check(x, NULL).count, 0);
    assert_true(check(x, b.journal).count > 0);
    box_release(&b);
    box_release(&forger);
}

static void facts_follow_from_entries(void **state)
{
    struct fixture *x = *state;
    struct journal_entries e = JOURNAL_ENTRIES_INIT;
    struct journal_facts facts;
    JSON_AUTO breach = json_object();
    JSON_AUTO other = json_object();
    struct box b;

    box_make(&b);
    json_set_str(breach, "objective", "rpo_host_lost");
    json_set_str(other, "objective", "rto_measured");
    box_add(&b, "proof", "first");
    box_add(&b, "proof_failed", "x");
    assert_ok(journal_add(b.journal, "breach_begun", "shop", breach, &x->err), x->err);
    assert_ok(journal_add(b.journal, "breach_begun", "shop", other, &x->err), x->err);
    assert_ok(journal_add(b.journal, "breach_begun", "crm", other, &x->err), x->err);
    assert_ok(journal_add(b.journal, "breach_ended", "shop", breach, &x->err), x->err);
    ship(x, &b);
    assert_ok(journal_read_vault(x->v, &e, &x->err), x->err);
    assert_ok(journal_read_local(b.journal, &e, &x->err), x->err);
    journal_entries_sort(&e);
    assert_int_equal(e.count, 7); /* what both have counts once */
    journal_fold(&e, "shop", &facts);
    assert_int_equal(facts.proof->sequence, 2);
    assert_int_equal(facts.proof_failed->sequence, 3);
    assert_int_equal(facts.breaches_count, 1);
    assert_int_equal(facts.breaches[0]->sequence, 5);
    journal_entries_release(&e);
    box_add(&b, "proof", "second");
    assert_ok(journal_read_local(b.journal, &e, &x->err), x->err);
    journal_entries_sort(&e);
    journal_fold(&e, "shop", &facts);
    assert_int_equal(facts.proof->sequence, 8);
    assert_null(facts.proof_failed);
    journal_entries_release(&e);
    box_release(&b);
}

static void long_journals_are_cut_into_runs(void **state)
{
    struct fixture *x = *state;
    struct journal_firsts f = {0};
    char writer[JOURNAL_WRITER_BYTES];
    struct box b;

    box_make(&b);
    CLEANUP(mem_free_ptr) char *text = mem_alloc(250001);
    memset(text, 'x', 250000);
    text[250000] = '\0';
    for (int i = 0; i < 40; i++)
        box_add(&b, "act", text);
    ship(x, &b);
    box_writer(&b, writer);
    assert_ok(journal_list_runs(x->v, writer, &f, &x->err), x->err);
    assert_int_equal(f.count, 2);
    journal_firsts_release(&f);
    assert_int_equal(entries_in_vault(x), 41);
    assert_whole(x, b.journal);
    box_release(&b);
}

/* Between its look at the runs and its look at what this host shipped, this host ships. */
static struct {
    const struct vault_driver_ops *real;
    struct fixture *x;
    struct box *b;
    bool done;
} meanwhile;

static int list_and_ship(struct vault_driver *d, const char *prefix, int (*fn)(void *user, const char *name, struct error *err), void *user,
                         struct error *err)
{
    int rc = meanwhile.real->list_names(d, prefix, fn, user, err);

    if (strlen(prefix) > strlen("journal/") && !meanwhile.done) {
        meanwhile.done = true;
        box_add(meanwhile.b, "proof", "meanwhile");
        ship(meanwhile.x, meanwhile.b);
    }
    return rc;
}

static void what_is_shipped_meanwhile_is_not_gone(void **state)
{
    struct fixture *x = *state;
    struct vault_driver_ops ops = *x->v->driver->ops;
    struct box b;

    box_make(&b);
    box_add(&b, "set_up", "one");
    ship(x, &b);
    meanwhile.real = x->v->driver->ops;
    meanwhile.x = x;
    meanwhile.b = &b;
    meanwhile.done = false;
    ops.list_names = list_and_ship;
    x->v->driver->ops = &ops;
    assert_whole(x, b.journal);
    x->v->driver->ops = meanwhile.real;
    assert_true(meanwhile.done);
    assert_whole(x, b.journal);
    box_release(&b);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shipped_whole_and_once),
        TEST(a_forgotten_put_is_found),
        TEST(a_second_vault_gets_all),
        TEST(every_bit_is_covered),
        TEST(missing_runs_are_found),
        TEST(an_older_copy_begins_a_new_writer),
        TEST(a_forgery_is_found),
        TEST(facts_follow_from_entries),
        TEST(long_journals_are_cut_into_runs),
        TEST(what_is_shipped_meanwhile_is_not_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
