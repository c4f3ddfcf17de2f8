/* test/unit/recover/test_predict.c - how long it will take, from how long others took. */
#include "unit.h"

#include "recover/plan.h"

static json_t *proof(int bytes, int transactions, double plan, double provision, double load)
{
    return json_pack("{s:i,s:i,s:[{s:s,s:f},{s:s,s:f},{s:s,s:f}]}", "bytes", bytes, "transactions", transactions, "phases", "name", "plan",
                     "seconds", plan, "name", "provision", "seconds", provision, "name", "load", "seconds", load);
}

static void test_scaled(void **state)
{
    JSON_AUTO proofs = json_pack("[o]", proof(100000000, 100000, 1, 2, 10));

    (void)state;
    assert_true(predict_seconds(proofs, 100000000, 100000) == 13);
    assert_true(predict_seconds(proofs, 200000000, 100000) == 23);
    assert_true(predict_seconds(proofs, 50000000, 100000) == 8);
    assert_true(predict_seconds(proofs, 100000000, 300000) == 15);
}

/* What a proof of next to nothing took is what it costs to begin: a day's transactions later it says no hour. */
static void test_little_was_proved(void **state)
{
    JSON_AUTO proofs = json_pack("[o]", proof(1000, 3, 1, 2, 10));

    (void)state;
    assert_true(predict_seconds(proofs, 0, 0) == 13);
    assert_true(predict_seconds(proofs, 16 << 20, 20000) == 13);
    assert_true(predict_seconds(proofs, 1000, 60000) == 15);
    assert_true(predict_seconds(proofs, 32 << 20, 3) == 23);
}

static void test_median(void **state)
{
    JSON_AUTO proofs = json_pack("[o,o,o]", proof(1000, 1, 0, 0, 100), proof(1000, 1, 0, 0, 10), proof(1000, 1, 0, 0, 11));

    (void)state;
    assert_true(predict_seconds(proofs, 1000, 1) == 11);
}

static void test_unknown(void **state)
{
    JSON_AUTO none = json_array();
    JSON_AUTO odd = json_pack("[{},{s:s},{s:[{}]}]", "phases", "x", "phases");

    (void)state;
    assert_true(predict_seconds(none, 1000, 1) == 0);
    assert_true(predict_seconds(odd, 1000, 1) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scaled), cmocka_unit_test(test_little_was_proved), cmocka_unit_test(test_median), cmocka_unit_test(test_unknown)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
