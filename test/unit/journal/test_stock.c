/* journal/stock, vault/stock: what was told once is missed, but for what a purge removed. */
#include "journals.h"

#include "../vault/support.h"
#include "journal/stock.h"
#include "vault/object.h"
#include "vault/segment_format.h"
#include "vault/tombstone.h"

#define SHOT   "sources/shop/0001/snapshots/00000000000000000000000000000064-12345678/"
#define SCHEMA "sources/shop/0001/schemas/00000000000000000000000000000064-"

struct findings {
    size_t count;
    char key[256]; /* of the last one */
};

static void on_finding(void *user, const char *kind, const char *key, const char *text)
{
    struct findings *f = user;

    assert_string_equal(kind, "missing");
    assert_contains(text, "journal tells");
    f->count++;
    snprintf(f->key, sizeof f->key, "%s", key);
}

static void put(struct fixture *x, const char *key)
{
    JSON_AUTO o = json_object();

    assert_ok(object_put_json(x->v->driver, key, o, &x->err), x->err);
}

static void take_away(struct fixture *x, const char *key)
{
    assert_ok(x->v->driver->ops->remove(x->v->driver, key, &x->err), x->err);
}

/* How many are lost, as who takes stock hears it. */
static struct findings take(struct fixture *x, struct box *b)
{
    struct findings f = {0};

    assert_ok(journal_stock_take(b->journal, x->v, "shop", &(struct journal_check){.find = on_finding, .user = &f}, &x->err), x->err);
    return f;
}

static size_t told(struct box *b)
{
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;
    struct error err = ERROR_INIT;
    size_t count = 0;

    assert_ok(journal_read_local(b->journal, &e, &err), err);
    for (size_t i = 0; i < e.count; i++)
        count += strcmp(e.entries[i].kind, JOURNAL_STORED) == 0;
    return count;
}

/* With the journal in the vault alone. */
static struct findings by_vault(struct fixture *x, struct box *b)
{
    struct findings f = {0};

    assert_true(journal_ship(b->journal, x->v, &x->err) >= 0);
    assert_ok(journal_check_vault(x->v, NULL, &(struct journal_check){.find = on_finding, .user = &f}, NULL, &x->err), x->err);
    return f;
}

static void each_object_is_told_once_and_missed(void **state)
{
    struct fixture *x = *state;
    struct box b;

    box_make(&b);
    assert_int_equal(take(x, &b).count, 0);
    assert_int_equal(told(&b), 0); /* nothing there: no entry */
    put(x, "sources/shop/epochs/000001.json");
    put(x, "sources/shop/holds/000001.json");
    put(x, "sources/shop/strange.json"); /* nobody's: a person moves it away */
    take(x, &b);
    take(x, &b);
    assert_int_equal(told(&b), 1);
    take_away(x, "sources/shop/strange.json");
    assert_int_equal(take(x, &b).count + by_vault(x, &b).count, 0);
    take_away(x, "sources/shop/holds/000001.json");
    assert_string_equal(take(x, &b).key, "sources/shop/holds/000001.json");
    assert_string_equal(by_vault(x, &b).key, "sources/shop/holds/000001.json");
    put(x, "sources/shop/holds/000001.json"); /* it was found again */
    assert_int_equal(by_vault(x, &b).count, 0);
    assert_int_equal(told(&b), 1);
    box_release(&b);
}

/* More names than one line of the journal may have. */
static void many_objects_are_several_entries(void **state)
{
    struct fixture *x = *state;
    char key[VAULT_KEY_BYTES];
    struct box b;

    box_make(&b);
    for (unsigned i = 1; i <= 2000; i++) {
        snprintf(key, sizeof key, "proofs/shop/0001/00000000000000000000000000000064-12345678/%06u.json", i);
        put(x, key);
    }
    take(x, &b);
    assert_true(told(&b) >= 2);
    take_away(x, key);
    assert_string_equal(by_vault(x, &b).key, key);
    box_release(&b);
}

static void a_snapshot_counts_once_its_manifest_stands(void **state)
{
    struct fixture *x = *state;
    struct box b;

    box_make(&b);
    put(x, SHOT "intent");
    take(x, &b);
    take_away(x, SHOT "intent"); /* it failed, and took its intent back */
    assert_int_equal(take(x, &b).count, 0);
    put(x, SHOT "intent");
    put(x, SHOT "manifest.json.zst");
    put(x, SHOT "committed");
    take(x, &b);
    take_away(x, SHOT "committed");
    assert_string_equal(by_vault(x, &b).key, SHOT "committed");
    box_release(&b);
}

/* Announced alone it must not go; while it is removed, and once a record says so, it may. */
static void what_a_purge_removes_is_not_missed(void **state)
{
    struct fixture *x = *state;
    CLEANUP(tombstone_release) struct tombstone t = {0};
    const char *below = SHOT "manifest.json.zst" + strlen("sources/shop/");
    const struct trust now = {.boot = "one"};
    JSON_AUTO record = json_pack("{s:[],s:[s]}", "snapshots", "removed", below);
    struct box b;

    box_make(&b);
    put(x, SHOT "manifest.json.zst");
    take(x, &b);
    tombstone_add(&t, below, 1, "too old");
    assert_ok(tombstone_put(x->v, "shop", &t, &x->err), x->err);
    take(x, &b);
    take_away(x, SHOT "manifest.json.zst");
    assert_int_equal(by_vault(x, &b).count, 1);
    assert_ok(tombstone_finalize(x->v, "shop", t.n, &now, &x->err), x->err);
    assert_int_equal(by_vault(x, &b).count, 0);
    take(x, &b);
    assert_ok(tombstone_done(x->v, "shop", t.n, record, &x->err), x->err);
    assert_int_equal(by_vault(x, &b).count, 0);
    assert_ok(tombstone_remove(x->v, "shop", t.n, &x->err), x->err);
    assert_int_equal(take(x, &b).count + by_vault(x, &b).count, 0);
    take_away(x, "sources/shop/purged/000001.json"); /* it was told of by now, and with it go the reasons */
    assert_int_equal(by_vault(x, &b).count, 4);
    box_release(&b);
}

/* Entries of two vaults stand in one journal. */
static void each_vault_has_its_own(void **state)
{
    struct fixture *x = *state;
    struct stock s;
    JSON_AUTO members = json_pack("{s:s,s:[s]}", "vault", "another", "objects", "sources/shop/epochs/000009.json");
    struct journal_entry e = {.kind = JOURNAL_STORED, .source = "shop", .members = members};
    struct findings f = {0};

    stock_init(&s, x->v);
    stock_add(&s, &e);
    assert_ok(stock_check(&s, x->v, &(struct journal_check){.find = on_finding, .user = &f}, &x->err), x->err);
    assert_int_equal(f.count, 0);
    json_set_str(members, "vault", x->v->id);
    stock_add(&s, &e);
    assert_ok(stock_check(&s, x->v, &(struct journal_check){.find = on_finding, .user = &f}, &x->err), x->err);
    assert_int_equal(f.count, 1);
    stock_release(&s);
}

static void how_far_a_source_had_come(void **state)
{
    struct fixture *x = *state;
    JSON_AUTO members = json_pack("{s:s,s:[],s:{s:{s:i,s:s},s:{s:i,s:s}}}", "vault", x->v->id, "objects", "segments", "0001", "sequence", 9,
                                  "last", "0/900", "0002", "sequence", 2, "last", "0/1000");
    struct journal_stored last;
    struct box b;
    bool found;

    box_make(&b);
    assert_ok(journal_stored_last(b.journal, x->v, "shop", &last, &found, &x->err), x->err);
    assert_false(found);
    assert_ok(journal_add(b.journal, JOURNAL_STORED, "shop", members, &x->err), x->err);
    assert_ok(journal_stored_last(NULL, x->v, "shop", &last, &found, &x->err), x->err);
    assert_false(found); /* this host alone knows so far */
    assert_int_equal(journal_ship(b.journal, x->v, &x->err), 1);
    assert_ok(journal_stored_last(NULL, x->v, "shop", &last, &found, &x->err), x->err);
    assert_true(found);
    assert_string_equal(last.incarnation, "0002");
    assert_int_equal(last.sequence, 2);
    assert_int_equal(last.last.offset, 0x1000);
    box_release(&b);
}

static void put_segment(struct fixture *x, uint64_t sequence, uint32_t epoch, bool there)
{
    const struct segment_id id = {.sequence = sequence, .epoch = epoch, .first = position_of_lsn(256 * sequence), .last = position_of_lsn(256 * sequence + 16 * epoch)};
    char key[VAULT_KEY_BYTES];

    segment_key(key, "shop", "0001", &id);
    if (there)
        put(x, key);
    else
        take_away(x, key);
}

static void claim(struct fixture *x, uint64_t first_sequence, uint32_t number)
{
    uint32_t epoch;

    assert_ok(epoch_claim(x->v, "shop", "0001", first_sequence, &epoch, &x->err), x->err);
    assert_int_equal(epoch, number);
}

static void assert_last(struct fixture *x, struct box *b, uint64_t sequence, uint32_t epoch)
{
    struct journal_stored last = {0};
    bool found;

    assert_ok(journal_stored_last(b->journal, x->v, "shop", &last, &found, &x->err), x->err);
    assert_int_equal(found, sequence > 0);
    assert_int_equal(last.sequence, sequence);
    assert_int_equal(last.last.offset, sequence ? 256 * sequence + 16 * epoch : 0);
}

/* What a writer puts after it has lost its claim promises nothing, whenever that is noticed; and what went for good is missed. */
static void a_stale_writers_segments_are_no_promise(void **state)
{
    struct fixture *x = *state;
    struct box b;

    box_make(&b);
    claim(x, 1, 1);
    put_segment(x, 1, 1, true);
    put_segment(x, 2, 1, true);
    take(x, &b);
    assert_last(x, &b, 2, 1);
    claim(x, 3, 2);
    put_segment(x, 3, 1, true);
    put_segment(x, 4, 1, true);
    take(x, &b);
    assert_last(x, &b, 2, 1);
    assert_int_equal(by_vault(x, &b).count, 0);
    put_segment(x, 3, 1, false); /* a purge removes what is hidden */
    put_segment(x, 4, 1, false);
    assert_int_equal(take(x, &b).count + by_vault(x, &b).count, 0);
    assert_last(x, &b, 2, 1);

    /* One that counted when it was told of, and is hidden by a claim that was made from an older list. */
    put_segment(x, 3, 2, true);
    take(x, &b);
    assert_last(x, &b, 3, 2);
    claim(x, 3, 3);
    assert_last(x, &b, 0, 0);
    assert_int_equal(take(x, &b).count + by_vault(x, &b).count, 0);

    /* The new writer's own. */
    put_segment(x, 3, 3, true);
    put_segment(x, 4, 3, true);
    take(x, &b);
    assert_last(x, &b, 4, 3);
    put_segment(x, 4, 3, false);
    assert_int_equal(by_vault(x, &b).count, 1);
    assert_last(x, &b, 4, 3);
    box_release(&b);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_object_is_told_once_and_missed),
        TEST(many_objects_are_several_entries),
        TEST(a_snapshot_counts_once_its_manifest_stands),
        TEST(what_a_purge_removes_is_not_missed),
        TEST(each_vault_has_its_own),
        TEST(how_far_a_source_had_come),
        TEST(a_stale_writers_segments_are_no_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
