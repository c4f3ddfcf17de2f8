/* cmd/status_measure: ages of one moment, what can be recovered, what a snapshot has ended, and that the unknown stays null. */
#include "unit.h"

#include "base/clock.h"
#include "cmd/status_measure.h"

static double exposure_of(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static void ages_are_of_one_moment(void **state)
{
    (void)state;
    JSON_AUTO o = json_object();
    int64_t now = clock_wall_us(), wall;

    status_set_exposure(o, "a", now - 5 * CLOCK_US_PER_S, 0);
    assert_true(clock_parse_wall(slice_str(json_string_value(json_object_get(o, "measured_at"))), &wall, NULL) >= 0);
    assert_true(wall >= now);
    clock_sleep_ms(2);
    status_set_exposure(o, "b", now - 5 * CLOCK_US_PER_S, 0);
    assert_true(exposure_of(o, "a") >= 5 && exposure_of(o, "a") == exposure_of(o, "b"));
    /* By the source's clock, which is ahead of this host's. */
    status_set_exposure(o, "c", wall + 7 * CLOCK_US_PER_S, 10 * CLOCK_US_PER_S);
    assert_true(exposure_of(o, "c") == 3.0);
    status_set_exposure(o, "d", wall + CLOCK_US_PER_S, 0); /* never less than nothing */
    assert_true(json_is_real(json_object_get(o, "d")) && exposure_of(o, "d") == 0.0);
    status_set_exposure(o, "e", 0, 0);
    assert_true(json_is_null(json_object_get(o, "e")));
}

/* snapshots: positions, NULL ends them; a position behind ! is kept alone, "?" is unreadable. */
static json_t *status_of(const char *durable, const char *const *snapshots)
{
    json_t *o = json_object(), *list = json_array();

    json_set_str(o, "durable_position", durable);
    for (size_t i = 0; snapshots[i]; i++) {
        json_t *s = json_object();
        bool alone = snapshots[i][0] == '!';
        if (snapshots[i][0] != '?')
            json_set_str(s, "position", snapshots[i] + alone);
        json_set_bool(s, "alone", alone);
        json_array_append_new(list, s);
    }
    json_object_set_new(o, "snapshots", list);
    return o;
}

static void what_can_be_recovered(void **state)
{
    (void)state;
    static const struct {
        const char *durable, *snapshots[4], *from;
    } cases[] = {
        {"0/100", {"0/10", "0/90"}, "0/10"},
        {"0/100", {"!0/10", "?", "0/90"}, "0/90"},
        {"0/90", {"0/90"}, "0/90"},
        {"0/8F", {"0/90"}, NULL}, /* its own events are on their way */
        {"F/0", {"!0/90"}, NULL},
        {"F/0", {NULL}, NULL},
        {NULL, {"0/90"}, NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        JSON_AUTO o = status_of(cases[i].durable, cases[i].snapshots);
        status_set_recoverable(o);
        const json_t *range = json_object_get(o, "recoverable");
        assert_non_null(range);
        if (!cases[i].from) {
            assert_true(json_is_null(range));
            continue;
        }
        assert_string_equal(json_string_value(json_object_get(range, "from")), cases[i].from);
        assert_string_equal(json_string_value(json_object_get(range, "to")), cases[i].durable);
    }
    JSON_AUTO unread = json_object(); /* no vault was read */
    json_object_set_new(unread, "snapshots", json_null());
    status_set_recoverable(unread);
    assert_true(json_is_null(json_object_get(unread, "recoverable")));
}

/* {from, to, and what makes them barred or not}; a change unless it has a table. */
static json_t *barring(const char *from, const char *to, const char *how, int64_t wall_us)
{
    json_t *j = json_pack("{s:s,s:s,s:s}", "from", from, "to", to, "reason", "because");

    if (strcmp(how, "trigger") == 0)
        json_set_u64(j, "xid", 700);
    json_set_str(j, strcmp(how, "table") == 0 ? "table" : "how", how);
    if (wall_us)
        json_set_i64(j, "wall_us", wall_us);
    return j;
}

/* Up to just before the first note that is in the way; what a capture of the schema or a snapshot has is not. */
static void what_keeps_the_latest_from_being_had(void **state)
{
    (void)state;
    static const struct {
        const char *captured, *snapshots[3];
        struct {
            const char *from, *to, *how;
        } notes[3];
        const char *to, *why;
    } cases[] = {
        {"0/50", {"0/10"}, {{"0/40", "0/40", "trigger"}, {"0/50", "0/50", "trigger"}}, "0/100", NULL},
        {"0/50", {"0/10"}, {{"0/40", "0/40", "trigger"}, {"0/60", "0/60", "trigger"}, {"0/70", "0/70", "trigger"}}, "0/5F", "is not captured yet"},
        {"0/50", {"0/10"}, {{"0/70", "0/70", "trigger"}, {"0/60", "0/60", "trigger"}, {"0/40", "0/40", "trigger"}}, "0/5F", "is not captured yet"},
        {NULL, {"0/10"}, {{"0/40", "0/40", "trigger"}}, "0/3F", "is not captured yet"},
        {NULL, {"0/10", "0/40"}, {{"0/40", "0/40", "trigger"}}, "0/100", NULL},
        {NULL, {"0/10"}, {{"0/101", "0/101", "trigger"}}, "0/100", NULL}, /* not durable either */
        {NULL, {"0/10"}, {{NULL}}, "0/100", NULL},
        {"0/50", {"0/10"}, {{"0/30", "0/40", "poll"}}, "0/2F", "until the next snapshot"},   /* of which no record tells: a capture does not help */
        {"0/50", {"0/10"}, {{"0/30", "0/40", "database"}}, "0/100", NULL},
        {"0/50", {"0/10"}, {{"0/30", "0/60", "database"}}, "0/2F", "is not captured yet"},
        {"0/50", {"0/10", "0/35"}, {{"0/30", "0/40", "poll"}}, "0/35", "until the next snapshot"}, /* a snapshot's own position can be had */
        {"0/50", {"0/10"}, {{"0/60", "0/60", "trigger"}, {"0/20", "0/90", "table"}}, "0/1F", "table table is not exact"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        JSON_AUTO o = status_of("0/100", cases[i].snapshots);
        json_t *changed = json_array(), *inexact = json_array();

        for (size_t k = 0; k < 3 && cases[i].notes[k].from; k++)
            json_array_append_new(strcmp(cases[i].notes[k].how, "table") == 0 ? inexact : changed,
                                  barring(cases[i].notes[k].from, cases[i].notes[k].to, cases[i].notes[k].how, 0));
        json_object_set_new(o, "schema_changed", changed);
        json_object_set_new(o, "inexact", inexact);
        json_set_str(o, "schema_captured", cases[i].captured);
        status_prune_covered(o);
        status_set_recoverable(o);
        const json_t *range = json_object_get(o, "recoverable");
        const char *why = json_string_value(json_object_get(range, "short_because"));
        assert_string_equal(json_string_value(json_object_get(range, "to")), cases[i].to);
        assert_int_equal(why != NULL, cases[i].why != NULL);
        if (why)
            assert_contains(why, cases[i].why);
    }
}

/* What is kept behind such a note counts as lost; of when is not known, from the snapshot on. */
static void what_cannot_be_had_is_exposed(void **state)
{
    (void)state;
    static const char *const snapshots[] = {"0/10", NULL};
    const int64_t s = CLOCK_US_PER_S, now = clock_wall_us();
    const struct {
        const char *from, *captured;
        int64_t wall_us, snapshot_us;
        double lost_s, host_lost_s; /* no less, and less than two more; -1: unknown */
    } cases[] = {
        {"0/60", NULL, now - 100 * s, now - 500 * s, 100, 100},
        {"0/60", "0/60", now - 100 * s, now - 500 * s, 1, 30},   /* captured: it is in nobody's way */
        {"0/60", NULL, now - 10 * s, now - 500 * s, 10, 30},     /* the vault has even less */
        {"0/60", NULL, 0, now - 500 * s, 500, 500},
        {"0/60", NULL, 0, 0, -1, -1},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        JSON_AUTO o = status_of("0/100", snapshots);
        json_t *changed = json_array();

        json_array_append_new(changed, barring(cases[i].from, cases[i].from, "trigger", cases[i].wall_us));
        json_object_set_new(o, "schema_changed", changed);
        json_set_str(o, "schema_captured", cases[i].captured);
        status_set_wall(json_array_get(json_object_get(o, "snapshots"), 0), "time", cases[i].snapshot_us);
        status_set_wall(o, "measured_at", now);
        status_set_exposure(o, "exposure_s", now - s, 0);
        status_set_exposure(o, "exposure_host_lost_s", now - 30 * s, 0);
        status_widen_exposure(o);
        for (int host = 0; host < 2; host++) {
            const json_t *v = json_object_get(o, host ? "exposure_host_lost_s" : "exposure_s");
            double wanted = host ? cases[i].host_lost_s : cases[i].lost_s;

            assert_int_equal(json_is_null(v), wanted < 0);
            if (wanted >= 0)
                assert_true(json_number_value(v) >= wanted - 0.01 && json_number_value(v) < wanted + 2);
        }
    }
    JSON_AUTO unknown = status_of("0/100", snapshots); /* and stays it */
    json_object_set_new(unknown, "inexact", json_pack("[o]", barring("0/60", "0/60", "table", now - 100 * s)));
    json_object_set_new(unknown, "exposure_s", json_null());
    status_widen_exposure(unknown);
    assert_true(json_is_null(json_object_get(unknown, "exposure_s")));
}

static json_t *note(const char *to, bool waits)
{
    json_t *j = json_object();

    json_set_str(j, "to", to);
    if (waits)
        json_set_i64(j, "xmax", 700);
    return j;
}

static void what_a_snapshot_has_ended(void **state)
{
    (void)state;
    static const char *const snapshots[] = {"0/10", "0/90", NULL};
    JSON_AUTO o = status_of("0/100", snapshots);
    json_t *changed = json_array(), *inexact = json_array();

    json_array_append_new(changed, note("0/50", false));
    json_array_append_new(changed, note("0/90", false));
    json_array_append_new(changed, note("0/91", false));
    json_array_append_new(inexact, note("0/20", true)); /* who had ended then capture alone knows */
    json_array_append_new(inexact, note(NULL, false));
    json_object_set_new(o, "schema_changed", changed);
    json_object_set_new(o, "inexact", inexact);
    status_prune_covered(o);
    assert_int_equal(json_array_size(changed), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(changed, 0), "to")), "0/91");
    assert_int_equal(json_array_size(inexact), 2);
    json_object_set_new(o, "inexact", json_null()); /* unknown: it stays so */
    status_prune_covered(o);
    assert_true(json_is_null(json_object_get(o, "inexact")));
}

static void large_objects_have_an_age_of_their_own(void **state)
{
    (void)state;
    JSON_AUTO o = json_object();
    JSON_AUTO large = json_object();
    struct manifest m;
    int64_t now = clock_wall_us();

    status_large_fill(o, NULL, 0);
    status_large_finish(o);
    assert_null(json_object_get(o, "large_objects"));
    json_set_i64(large, "compared_wall_us", now - 60 * CLOCK_US_PER_S);
    json_set_u64(large, "objects", 3);
    status_large_fill(o, large, 0);
    manifest_init(&m);
    m.position_wall_us = now - 90 * CLOCK_US_PER_S;
    status_large_count(o, &m); /* it has none */
    m.large.present = true;
    status_large_count(o, &m); /* older than the comparison */
    const json_t *j = json_object_get(o, "large_objects");
    assert_int_equal(status_integer(j, "objects"), 3);
    m.position_wall_us = now - 30 * CLOCK_US_PER_S;
    m.large.parts[LARGE_OBJECTS].rows = 4;
    status_large_count(o, &m);
    assert_int_equal(status_integer(j, "objects"), 4);
    status_large_finish(o);
    assert_true(exposure_of(j, "exposure_s") >= 30 && exposure_of(j, "exposure_s") < 60);
    assert_null(json_object_get(j, "wall_us"));
    manifest_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_are_of_one_moment),
        cmocka_unit_test(what_can_be_recovered),
        cmocka_unit_test(what_keeps_the_latest_from_being_had),
        cmocka_unit_test(what_cannot_be_had_is_exposed),
        cmocka_unit_test(what_a_snapshot_has_ended),
        cmocka_unit_test(large_objects_have_an_age_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
