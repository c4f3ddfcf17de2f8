/*
 * test/unit/capture/test_looks.c - what records account for: by what two looks see, not by when.
 */
#include "unit.h"

#include "base/mem.h"
#include "capture/looks.h"

static json_t *look(const char *fingerprint, uint64_t xmax, uint64_t open, uint64_t end, int triggers)
{
    json_t *o = json_pack("{s:s,s:I,s:I,s:I,s:[]}", "fingerprint", fingerprint, "xmin", (json_int_t)(open ? open : xmax), "xmax", (json_int_t)xmax, "end",
                          (json_int_t)end, "xip");

    if (open)
        json_array_append_new(json_object_get(o, "xip"), json_integer((json_int_t)open));
    if (triggers >= 0)
        json_set_bool(o, "triggers", triggers);
    return o;
}

struct judged {
    struct looks looks;
    json_t *last;
    uint64_t begun, to_lsn;
};

static enum looks_verdict judge(struct judged *j, uint64_t passed_lsn) { return looks_judge(&j->looks, passed_lsn, &j->last, &j->begun, &j->to_lsn); }

static void add(struct judged *j, const char *fingerprint, uint64_t xmax, uint64_t open, uint64_t end, int triggers)
{
    looks_add(&j->looks, look(fingerprint, xmax, open, end, triggers));
}

static void judged_release(struct judged *j)
{
    looks_release(&j->looks);
    json_decref(j->last);
}

static void test_a_record_accounts_once(void **state)
{
    struct judged j = {0};

    (void)state;
    looks_init(&j.looks);
    add(&j, "a-x-y", 10, 0, 100, 1);
    assert_int_equal(judge(&j, 100), LOOKS_ACCOUNTED);
    looks_add_record(&j.looks, 10, 150);
    add(&j, "b-x-y", 11, 0, 200, -1);
    add(&j, "c-x-y", 12, 0, 300, 1);
    assert_int_equal(judge(&j, 199), LOOKS_NONE); /* records of what it sees may still come */
    assert_int_equal(judge(&j, 300), LOOKS_ACCOUNTED);
    /* Both see the record, and differ. */
    assert_int_equal(judge(&j, 300), LOOKS_UNACCOUNTED);
    assert_int_equal(j.begun, 11);
    assert_int_equal(j.to_lsn, 300);
    assert_int_equal(judge(&j, 300), LOOKS_NONE);
    judged_release(&j);
}

/* 5 is open from before to behind all of it: its record accounts for nothing yet, and it is not who made the change. */
static void test_who_stays_open(void **state)
{
    struct judged j = {0};

    (void)state;
    looks_init(&j.looks);
    add(&j, "a-x-y", 10, 5, 100, 1);
    add(&j, "b-x-y", 12, 5, 200, 1);
    looks_add_record(&j.looks, 5, 250);
    assert_int_equal(judge(&j, 300), LOOKS_ACCOUNTED);
    assert_int_equal(judge(&j, 300), LOOKS_UNACCOUNTED);
    assert_int_equal(j.begun, 10);
    add(&j, "c-x-y", 12, 0, 300, 1);
    assert_int_equal(judge(&j, 300), LOOKS_ACCOUNTED); /* now it is seen */
    add(&j, "d-x-y", 13, 0, 400, 1);
    assert_int_equal(judge(&j, 400), LOOKS_UNACCOUNTED);
    judged_release(&j);
    /* It is who may have made it. */
    j = (struct judged){0};
    looks_init(&j.looks);
    add(&j, "a-x-y", 10, 5, 100, 1);
    add(&j, "b-x-y", 12, 0, 200, 1);
    (void)judge(&j, 300);
    assert_int_equal(judge(&j, 300), LOOKS_UNACCOUNTED);
    assert_int_equal(j.begun, 5);
    judged_release(&j);
}

static void test_what_is_not_judged(void **state)
{
    struct judged j = {0};

    (void)state;
    looks_init(&j.looks);
    add(&j, "a-x-y", 10, 0, 100, 1);
    add(&j, "a-x-z", 11, 0, 110, 1); /* the database's own */
    add(&j, "b-w-z", 12, 0, 120, 1); /* what is never told, as well: the polls' */
    add(&j, "c-w-z", 13, 0, 130, 0); /* nothing is recorded: the polls' */
    add(&j, "c-w-z", 14, 0, 140, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(judge(&j, 200), LOOKS_ACCOUNTED);
    add(&j, "d-w-z", 15, 0, 150, -1); /* a capture between two polls that are alike */
    assert_int_equal(judge(&j, 200), LOOKS_UNACCOUNTED);
    judged_release(&j);
}

static void test_looks_come_in_any_order(void **state)
{
    struct judged j = {0};

    (void)state;
    looks_init(&j.looks);
    add(&j, "b-x-y", 12, 0, 200, 1);
    add(&j, "a-x-y", 12, 11, 180, -1); /* the earlier one */
    looks_add_record(&j.looks, 11, 190);
    assert_int_equal(judge(&j, 300), LOOKS_ACCOUNTED);
    assert_string_equal(json_string_value(json_object_get(j.last, "fingerprint")), "a-x-y");
    assert_int_equal(judge(&j, 300), LOOKS_ACCOUNTED);
    add(&j, "a-x-y", 11, 0, 150, -1); /* too late: what lies behind was judged */
    assert_int_equal(judge(&j, 300), LOOKS_ACCOUNTED);
    assert_string_equal(json_string_value(json_object_get(j.last, "fingerprint")), "b-x-y");
    judged_release(&j);
}

/* What an older process stored has no snapshot: what its position covers counts. */
static void test_without_a_snapshot(void **state)
{
    struct judged j = {0};

    (void)state;
    for (uint64_t to = 90; to <= 110; to += 20) {
        looks_init(&j.looks);
        j.last = json_pack("{s:s,s:I}", "fingerprint", "a-x-y", "end", (json_int_t)100);
        looks_add_record(&j.looks, 7, to);
        add(&j, "b-x-y", 12, 0, 200, 1);
        assert_int_equal(judge(&j, 300), to > 100 ? LOOKS_ACCOUNTED : LOOKS_UNACCOUNTED);
        judged_release(&j);
        j = (struct judged){0};
    }
}

/* Ids of the stream have 32 bits. */
static void test_ids_wrap(void **state)
{
    json_t *o = look("a", ((uint64_t)3 << 32) + 5, ((uint64_t)3 << 32) - 2, 0, 1);

    (void)state;
    assert_true(look_sees(o, 4));
    assert_false(look_sees(o, 5));
    assert_false(look_sees(o, UINT32_MAX - 1));
    assert_true(look_sees(o, UINT32_MAX));
    json_decref(o);
}

static void test_where_it_may_have_begun(void **state)
{
    struct look_starts s = {0};

    (void)state;
    assert_int_equal(look_starts_before(&s, 100, 7), 7);
    for (uint64_t i = 1; i <= 200; i++)
        look_starts_add(&s, i * 10, i);
    assert_int_equal(look_starts_before(&s, 150, 7), 1500);
    assert_int_equal(look_starts_before(&s, 1000, 7), 2000);
    assert_int_equal(look_starts_before(&s, 100, 7), 7); /* not kept any more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_record_accounts_once), cmocka_unit_test(test_who_stays_open),     cmocka_unit_test(test_what_is_not_judged),
        cmocka_unit_test(test_looks_come_in_any_order), cmocka_unit_test(test_without_a_snapshot), cmocka_unit_test(test_ids_wrap),
        cmocka_unit_test(test_where_it_may_have_begun),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
