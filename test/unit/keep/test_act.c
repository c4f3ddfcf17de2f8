/*
 * keep/act: the record of an unattended recovery. What one life of the keeper wrote the next one reads: where to go on, into
 * which target, how it ended; and a record that cannot be read is an error, never "nothing has happened".
 */
#include "unit.h"

#include "base/clock.h"
#include "base/mem.h"
#include "keep/act.h"
#include "os/file.h"

#define FIRST_FAILED_US INT64_C(1700000000000000)

static int folder_new(void **state)
{
    *state = unit_folder();
    return 0;
}

static int folder_gone(void **state)
{
    struct error err = ERROR_INIT;
    int result = dir_remove_all(*state, &err);

    free(*state);
    return result;
}

static void begin(struct act *a, const char *folder, const char *target)
{
    struct keeper_source s = {.state_directory = folder, .target_directory = target};
    struct error err = ERROR_INIT;

    assert_ok(act_begin(a, &s, FIRST_FAILED_US, "connection refused", &err), err);
}

/* The next life: all that is known is in the file. */
static void reload(struct act *a, const char *folder)
{
    struct error err = ERROR_INIT;

    act_release(a);
    assert_ok(act_load(a, folder, &err), err);
}

static void write_record(const char *folder, struct slice text)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/act.json", folder);
    struct error err = ERROR_INIT;

    assert_ok(file_replace(path, text, 0600, &err), err);
}

static const char *text_of(const struct act *a, const char *key)
{
    return json_string_value(json_object_get(a->record, key));
}

static void without_a_record_nothing_has_happened(void **state)
{
    CLEANUP(act_release) struct act a = {0};

    reload(&a, *state);
    assert_null(a.record);
    assert_int_equal(act_pending(&a), GUARD_WATCHING);
    assert_false(act_used_target(&a, "/srv/new"));
    assert_false(act_used_target(&a, NULL));
    assert_false(act_committed(&a));
    assert_false(act_unprotected(&a));
    assert_null(act_new_conninfo(&a));
}

static void a_begun_action_survives_a_reload(void **state)
{
    CLEANUP(act_release) struct act a = {0};
    int64_t before = clock_wall_us();

    reload(&a, *state);
    begin(&a, *state, "/srv/new");
    reload(&a, *state);
    assert_int_equal(act_pending(&a), GUARD_RECOVERING);
    assert_string_equal(text_of(&a, "target"), "/srv/new");
    assert_string_equal(text_of(&a, "outcome"), "");
    assert_int_equal(json_array_size(json_object_get(a.record, "steps")), 0);

    const json_t *lost = json_object_get(a.record, "lost");
    assert_int_equal(json_integer_value(json_object_get(lost, "first_failed_wall_us")), FIRST_FAILED_US);
    assert_true(json_integer_value(json_object_get(lost, "confirmed_wall_us")) >= before);
    assert_string_equal(json_string_value(json_object_get(lost, "why")), "connection refused");
}

/* Every state of the guard is written and read back; those before an action began leave nothing to go on with. */
static void every_state_is_gone_on_from(void **state)
{
    struct error err = ERROR_INIT;

    for (int s = 0; s < GUARD_STATE_COUNT_; s++) {
        enum guard_state written = (enum guard_state)s;
        CLEANUP(act_release) struct act a = {0};

        reload(&a, *state);
        begin(&a, *state, "/srv/new");
        assert_ok(act_state(&a, written, &err), err);
        reload(&a, *state);
        assert_string_equal(text_of(&a, "state"), guard_state_name(written));
        assert_int_equal(act_pending(&a), written >= GUARD_RECOVERING ? written : GUARD_WATCHING);
        assert_true(act_used_target(&a, "/srv/new"));
    }
}

static void an_outcome_ends_it_but_the_target_stays_used(void **state)
{
    static const char *const outcomes[] = {"cut over", "abandoned: the source came back", "failed: disk full"};
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        CLEANUP(act_release) struct act a = {0};
        int64_t before = clock_wall_us();

        reload(&a, *state);
        begin(&a, *state, "/srv/new");
        assert_ok(act_outcome(&a, outcomes[i], &err), err);
        reload(&a, *state);
        assert_int_equal(act_pending(&a), GUARD_WATCHING);
        assert_string_equal(text_of(&a, "outcome"), outcomes[i]);
        assert_true(json_integer_value(json_object_get(a.record, "ended_wall_us")) >= before);
        assert_true(act_used_target(&a, "/srv/new"));
        assert_int_equal(act_unprotected(&a), strcmp(outcomes[i], "cut over") == 0);
    }
}

static void giving_up_is_said_and_stays_pending(void **state)
{
    CLEANUP(act_release) struct act a = {0};
    struct error err = ERROR_INIT;

    reload(&a, *state);
    begin(&a, *state, "/srv/new");
    assert_ok(act_gave_up(&a, "no space left", &err), err);
    reload(&a, *state);
    assert_string_equal(text_of(&a, "outcome"), "failed: no space left");
    assert_int_equal(act_pending(&a), GUARD_RECOVERING);
}

static void a_target_is_known_by_its_whole_name(void **state)
{
    static const struct {
        const char *asked;
        bool used;
    } cases[] = {{"/srv/new", true}, {"/srv/ne", false}, {"/srv/new2", false}, {"/srv/old", false}, {"", false}, {NULL, false}};
    CLEANUP(act_release) struct act a = {0};

    reload(&a, *state);
    begin(&a, *state, "/srv/new");
    for (int life = 0; life < 2; life++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            if (act_used_target(&a, cases[i].asked) != cases[i].used)
                fail_msg("life %d, %s", life, cases[i].asked ? cases[i].asked : "no target");
        reload(&a, *state);
    }
}

/* However many actions lie in between: the directory of the first holds a database that somebody may be using. */
static void a_target_of_long_ago_is_no_new_one(void **state)
{
    static const char *const targets[] = {"/srv/first", "/srv/second", "/srv/third"};
    CLEANUP(act_release) struct act a = {0};
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < 3; i++) {
        reload(&a, *state);
        assert_false(act_used_target(&a, targets[i]));
        begin(&a, *state, targets[i]);
        assert_ok(act_outcome(&a, "cut over", &err), err);
    }
    for (int life = 0; life < 2; life++) {
        for (size_t i = 0; i < 3; i++)
            assert_true(act_used_target(&a, targets[i]));
        assert_false(act_used_target(&a, "/srv/fourth"));
        reload(&a, *state);
    }
}

/* What a record says between a step's begin and the next one, as a killed keeper leaves it. */
static void committed_and_unprotected_are_read_from_the_steps(void **state)
{
    static const struct {
        const char *record;
        bool committed, unprotected;
    } cases[] = {
        {"{\"state\":\"recovering\",\"outcome\":\"\",\"steps\":[]}", false, false},
        {"{\"state\":\"recovering\",\"outcome\":\"\",\"steps\":[{\"step\":\"recover\",\"ok\":true}]}", false, false},
        {"{\"state\":\"protecting\",\"outcome\":\"\",\"steps\":[{\"step\":\"recover\",\"ok\":true},{\"step\":\"protect\"}]}",
         true, false},
        {"{\"state\":\"watching\",\"outcome\":\"cut over\",\"steps\":[{\"step\":\"protect\",\"ok\":true}]}", false, false},
        {"{\"state\":\"watching\",\"outcome\":\"cut over\",\"steps\":[{\"step\":\"protect\",\"ok\":false}]}", false, true},
        {"{\"state\":\"watching\",\"outcome\":\"cut over\",\"steps\":[{\"step\":\"protect\",\"ok\":false},"
         "{\"step\":\"cutover\",\"ok\":true},{\"step\":\"protect\",\"ok\":true}]}", false, false},
        {"{\"state\":\"no such state\",\"outcome\":\"\",\"steps\":[{\"step\":\"protect\"}]}", false, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP(act_release) struct act a = {0};

        write_record(*state, slice_of(cases[i].record, strlen(cases[i].record)));
        reload(&a, *state);
        if (act_committed(&a) != cases[i].committed || act_unprotected(&a) != cases[i].unprotected)
            fail_msg("%s", cases[i].record);
    }
}

static void a_damaged_record_is_an_error(void **state)
{
    static const char *const damaged[] = {"", "{", "nonsense", "{\"state\":\"recovering\",\"target\":\"/srv",
                                          "{} {}", "{\"state\":\"watching\",\"state\":\"recovering\"}", "{\"target\":\"\xff\"}"};

    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        CLEANUP(act_release) struct act a = {0};
        struct error err;

        write_record(*state, slice_of(damaged[i], strlen(damaged[i])));
        assert_fails(act_load(&a, *state, &err), err, ERROR_CORRUPT);
        assert_contains(err.message, "act.json");
    }
}

/* However far a record was written, had its replacement not been atomic: no prefix of it is taken for a whole one. */
static void every_cut_of_a_record_is_an_error(void **state)
{
    CLEANUP(act_release) struct act a = {0};
    CLEANUP(buf_release) struct buf whole = BUF_INIT((size_t)1 << 20);
    struct error err = ERROR_INIT;

    reload(&a, *state);
    begin(&a, *state, "/srv/new");
    assert_ok(file_read_all(a.path, (size_t)1 << 20, &whole, &err), err);
    for (size_t n = 0; n < buf_slice(&whole).n; n++) {
        CLEANUP(act_release) struct act cut = {0};

        write_record(*state, slice_of(buf_slice(&whole).p, n));
        assert_fails(act_load(&cut, *state, &err), err, ERROR_CORRUPT);
    }
}

static void what_cannot_be_written_is_an_error(void **state)
{
    CLEANUP(mem_free_ptr) char *missing = mem_printf("%s/missing", (const char *)*state);
    struct keeper_source s = {.state_directory = missing, .target_directory = "/srv/new"};
    CLEANUP(act_release) struct act a = {0};
    struct error err = ERROR_INIT;

    reload(&a, missing);
    assert_true(act_begin(&a, &s, FIRST_FAILED_US, "connection refused", &err) < 0);
    assert_contains(err.message, "act.json");
}

/* In every later life, in a sentence with all that a person needs; "" where the latest was reached, or nothing yet. */
static void what_is_missing_is_told(void **state)
{
    static const struct {
        const char *record, *told[4];
    } cases[] = {
        {"{}", {NULL}},
        {"{\"recovery\":{\"reached_position\":\"0/10\",\"short_of_latest\":null}}", {NULL}},
        {"{\"recovery\":{\"reached_position\":\"0/10\",\"reached_commit_time\":\"T1\",\"short_of_latest\":{\"latest_position\":\"0/20\",\"latest_commit_time\":\"T2\",\"seconds\":1.5,"
         "\"transactions\":7,\"why\":\"because\"}}}",
         {"recovered to 0/10 of T1, not to the latest", "the 1 s after it, up to 0/20 of T2", "7 transactions", ": because"}},
        {"{\"recovery\":{\"reached_position\":\"0/10\",\"reached_commit_time\":\"T1\",\"short_of_latest\":{\"latest_position\":\"0/20\",\"latest_commit_time\":null,\"seconds\":90,"
         "\"transactions\":null,\"why\":\"because\"}}}",
         {"the 1 min 30 s after it, up to 0/20 of ?", "an unknown number of transactions", ": because"}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CLEANUP(act_release) struct act a = {0};

        write_record(*state, slice_str(cases[i].record));
        reload(&a, *state);
        CLEANUP(mem_free_ptr) char *text = act_short_text(&a);
        assert_int_equal(act_short_of_latest(&a) != NULL, cases[i].told[0] != NULL);
        assert_int_equal(text[0] != '\0', cases[i].told[0] != NULL);
        for (size_t k = 0; k < 4 && cases[i].told[k]; k++)
            assert_contains(text, cases[i].told[k]);
    }
}

int main(void)
{
#define IN_FOLDER(test_) cmocka_unit_test_setup_teardown(test_, folder_new, folder_gone)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(without_a_record_nothing_has_happened),
        IN_FOLDER(a_begun_action_survives_a_reload),
        IN_FOLDER(every_state_is_gone_on_from),
        IN_FOLDER(an_outcome_ends_it_but_the_target_stays_used),
        IN_FOLDER(giving_up_is_said_and_stays_pending),
        IN_FOLDER(a_target_is_known_by_its_whole_name),
        IN_FOLDER(a_target_of_long_ago_is_no_new_one),
        IN_FOLDER(committed_and_unprotected_are_read_from_the_steps),
        IN_FOLDER(what_is_missing_is_told),
        IN_FOLDER(a_damaged_record_is_an_error),
        IN_FOLDER(every_cut_of_a_record_is_an_error),
        IN_FOLDER(what_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
