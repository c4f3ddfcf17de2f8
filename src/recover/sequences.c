/*
 * recover/sequences.c - what is known of sequences, and where they are set.
 *
 * Sequences are not transactional and not in the stream: capture polls them every few seconds, and notes their values when one has
 * changed. Between the last poll and the loss more numbers may have been drawn, and given away (an order's number in a letter), than
 * any row shows. So a sequence that was drawn from is set beyond the furthest known value by the calls that its rate makes likely
 * for the time that no poll saw, and by one session's cache.
 *
 * How often was polled is not noted; the least time between two notes tells. A change between two notes happened within one poll's interval.
 *
 * Falling sequences are the mirror image. Nothing is set beyond the sequence's own limits, and values in a column that leave no
 * further one (of rows that somebody numbered by hand) do not count: the source went on in spite of them.
 */
#include "recover/sequences.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/idmap.h"
#include "event/frame.h"

#define POLL_S_MAX 5.0 /* the longest time between polls */
#define POLL_S_MIN 0.5
#define POLLS_UNSEEN 3  /* at most: a note that is older was followed by polls without a change */
#define RATE_FADES 0.9  /* a burst is remembered for some polls */
#define SQL_BYTES_MAX ((size_t)1 << 20)
#define MAX_TIMEOUT_MS (30 * 60 * 1000)

/* --- what is known ------------------------------------------------------------------------------------------------- */

struct poll_state {
    struct idmap by_id; /* to struct watched */
    struct watched {
        struct sequence_seen *seen;
        bool polled; /* there is a value to compare the next with */
        int64_t value;
        bool is_called;
    } *watched;
    uint32_t count;
    int64_t wall_us;   /* of the last note */
    double interval_s; /* between polls, as far as is known */
};

static bool is_further(int64_t a, int64_t b, int64_t increment)
{
    return increment < 0 ? a < b : a > b;
}

static void see_value(struct watched *w, int64_t value, bool is_called, bool counts, double interval_s)
{
    int64_t increment = w->seen->sequence->increment;

    if (w->polled && interval_s > 0 && increment != 0 && is_called) {
        double calls = ((double)value - (double)w->value) / (double)increment + (w->is_called ? 0 : 1);
        double rate = calls / interval_s;

        if (rate > w->seen->calls_per_s)
            w->seen->calls_per_s = rate;
    }
    w->polled = true;
    w->value = value;
    w->is_called = is_called;
    if (!counts)
        return;
    if (is_further(value, w->seen->last_value, increment) || (value == w->seen->last_value && is_called)) {
        w->seen->last_value = value;
        w->seen->is_called = is_called || w->seen->is_called;
    }
}

static double within(double v, double min, double max)
{
    return v < min ? min : v > max ? max : v;
}

static void see_poll(struct poll_state *p, const json_t *note, bool counts)
{
    int64_t wall_us = json_integer_value(json_object_get(note, "wall_us"));
    double gap_s = (double)(wall_us - p->wall_us) / 1e6;
    const json_t *v;
    size_t i;

    if (p->wall_us > 0 && gap_s > 0 && gap_s < p->interval_s)
        p->interval_s = within(gap_s, POLL_S_MIN, POLL_S_MAX);
    p->wall_us = wall_us;
    for (uint32_t k = 0; k < p->count; k++)
        p->watched[k].seen->calls_per_s *= RATE_FADES;
    json_array_foreach(json_object_get(note, "values"), i, v)
    {
        uint64_t id = (uint64_t)json_integer_value(json_object_get(v, "oid"));
        struct watched *w = idmap_get(&p->by_id, id);

        if (w)
            see_value(w, json_integer_value(json_object_get(v, "last_value")),
                      json_is_true(json_object_get(v, "is_called")), counts, p->interval_s);
    }
}

static bool is_poll(const json_t *note)
{
    const char *kind = json_string_value(json_object_get(note, "kind"));

    return kind && strcmp(kind, NOTE_SEQUENCES) == 0;
}

static void see_polls(struct poll_state *p, const struct manifest *m, const json_t *notes, struct position target)
{
    const json_t *note;
    struct position at;
    size_t i;

    json_array_foreach(notes, i, note)
    {
        if (is_poll(note) && position_in(note, "at", &at) && position_compare(at, target) <= 0)
            see_poll(p, note, position_compare(at, m->position) >= 0);
    }
}

static double unseen_s(const struct poll_state *p, const struct manifest *m, int64_t target_wall_us)
{
    int64_t since_us = p->wall_us > m->position_wall_us ? p->wall_us : m->position_wall_us;
    double s = (double)(target_wall_us - since_us) / 1e6;

    return within(s, 0, POLLS_UNSEEN * p->interval_s) + p->interval_s;
}

struct sequence_seen *sequences_seen(const struct manifest *m, const json_t *notes, struct position target,
                                     int64_t target_wall_us)
{
    struct sequence_seen *seen = mem_zalloc(m->sequences_count, sizeof *seen);
    CLEANUP(mem_free_ptr) struct watched *watched = mem_zalloc(m->sequences_count, sizeof *watched);
    struct poll_state p = {.watched = watched, .count = m->sequences_count, .interval_s = POLL_S_MAX};

    for (uint32_t i = 0; i < m->sequences_count; i++) {
        const struct snapshot_sequence *s = &m->sequences[i];

        seen[i] = (struct sequence_seen){.sequence = s, .last_value = s->last_value, .is_called = s->is_called};
        watched[i].seen = &seen[i];
        (void)idmap_put(&p.by_id, s->id, &watched[i]);
    }
    see_polls(&p, m, notes, target);
    for (uint32_t i = 0; i < m->sequences_count; i++)
        seen[i].unseen_s = unseen_s(&p, m, target_wall_us);
    idmap_release(&p.by_id);
    return seen;
}

/* --- where to set it ----------------------------------------------------------------------------------------------- */

static int64_t clamp(__int128 v, const struct sequence_limits *l)
{
    if (v > l->max)
        return l->max;
    return v < l->min ? l->min : (int64_t)v;
}

/* There is a value past this one. */
static bool has_next(int64_t value, const struct sequence_limits *l)
{
    return l->increment < 0 ? (__int128)value + l->increment >= l->min : (__int128)value + l->increment <= l->max;
}

/* The furthest value of which that is so. */
static int64_t last_with_next(const struct sequence_limits *l)
{
    __int128 last = (__int128)(l->increment < 0 ? l->min : l->max) - l->increment;

    return last > INT64_MAX ? INT64_MAX : last < INT64_MIN ? INT64_MIN : (int64_t)last;
}

static void raise_to_data(struct sequence_state *state, const struct sequence_limits *l)
{
    if (!l->has_data || !has_next(l->data, l))
        return;
    if (!is_further(l->data, state->value, l->increment) && (state->is_called || l->data != state->value))
        return;
    state->value = l->data;
    state->is_called = true;
}

struct sequence_state sequence_decide(const struct sequence_seen *s, const struct sequence_limits *l)
{
    struct sequence_state state = {.value = s->last_value, .is_called = s->is_called};
    double calls = within(ceil(s->calls_per_s * s->unseen_s), 0, 1e15);

    raise_to_data(&state, l);
    if (!state.is_called && calls < 1) {
        state.value = clamp(state.value, l);
        return state;
    }
    state.value = clamp(state.value + ((__int128)calls + l->cache) * l->increment, l);
    state.is_called = true;
    __int128 advanced = (__int128)state.value - s->last_value;
    advanced = advanced < 0 ? -advanced : advanced;
    state.advanced = advanced > INT64_MAX ? INT64_MAX : (int64_t)advanced;
    return state;
}

/* --- in the target ------------------------------------------------------------------------------------------------- */

/* One row a sequence and column that it feeds; the column's fields are NULL where there is none. */
static const char limits_sql[] =
    "SELECT n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, f.column, f.owner"
    " FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN LATERAL (SELECT DISTINCT quote_ident(a.attname) AS column, format('%I.%I', tn.nspname, t.relname) AS owner"
    " FROM (SELECT d.refobjid AS rel, d.refobjsubid AS num FROM pg_depend d WHERE d.classid = 'pg_class'::regclass"
    " AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
    " UNION SELECT e.adrelid, e.adnum FROM pg_depend d JOIN pg_attrdef e ON e.oid = d.objid"
    " WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid) fed"
    " JOIN pg_attribute a ON a.attrelid = fed.rel AND a.attnum = fed.num AND NOT a.attisdropped"
    " JOIN pg_class t ON t.oid = fed.rel AND t.relkind IN ('r', 'p') JOIN pg_namespace tn ON tn.oid = t.relnamespace"
    " WHERE EXISTS (WITH RECURSIVE base (id) AS (SELECT a.atttypid UNION SELECT y.typbasetype FROM base b JOIN pg_type y ON y.oid = b.id AND y.typtype = 'd')"
    " SELECT FROM base WHERE id IN (20, 21, 23, 1700))) f ON true"
    " WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

struct limit_row {
    const char *schema, *name;
    int row;
};

static int by_name(const void *a, const void *b)
{
    const struct limit_row *x = a, *y = b;
    int order = strcmp(x->schema, y->schema);

    return order ? order : strcmp(x->name, y->name);
}

static int i64_at(const PGresult *r, int row, int column, int64_t *ret, struct error *err)
{
    const char *text = PQgetvalue(r, row, column);
    bool negative = text[0] == '-';
    uint64_t v;

    TRY(text_parse_u64(slice_str(text + negative), 0, (uint64_t)INT64_MAX + negative, &v, err));
    *ret = negative ? (int64_t)(UINT64_C(0) - v) : (int64_t)v;
    return 0;
}

/* The furthest value of one column that leaves a further one. (A numeric may be none, or between two.) */
static int ask_data(struct pg_conn *sql, const PGresult *r, int row, struct sequence_limits *l, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(SQL_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *found = NULL;
    const char *column = PQgetvalue(r, row, 6);
    bool falls = l->increment < 0;
    int64_t value;

    if (PQgetisnull(r, row, 6))
        return 0;
    buf_printf(&query, "SELECT %s(%s(%s)::numeric)::int8 FROM %s WHERE %s BETWEEN '%lld'::int8 AND '%lld'::int8", falls ? "floor" : "ceil", falls ? "min" : "max", column,
               PQgetvalue(r, row, 7), column, (long long)(falls ? last_with_next(l) : INT64_MIN), (long long)(falls ? INT64_MAX : last_with_next(l)));
    TRY(pg_query(sql, buf_cstr(&query), NULL, 0, MAX_TIMEOUT_MS, &found, err));
    if (PQntuples(found) != 1 || PQgetisnull(found, 0, 0))
        return 0;
    TRY(i64_at(found, 0, 0, &value, err));
    if (!l->has_data || is_further(value, l->data, l->increment))
        l->data = value;
    l->has_data = true;
    return 0;
}

static int read_limits(struct pg_conn *sql, const PGresult *r, int row, struct sequence_limits *l, struct error *err)
{
    if (l->increment == 0) {
        TRY(i64_at(r, row, 2, &l->increment, err));
        TRY(i64_at(r, row, 3, &l->min, err));
        TRY(i64_at(r, row, 4, &l->max, err));
        TRY(i64_at(r, row, 5, &l->cache, err));
    }
    return ask_data(sql, r, row, l, err);
}

static int set(struct pg_conn *sql, const struct snapshot_sequence *s, const struct sequence_state *state, struct error *err)
{
    CLEANUP(buf_release) struct buf name = BUF_INIT(SQL_BYTES_MAX);
    CLEANUP(buf_release) struct buf query = BUF_INIT(SQL_BYTES_MAX);
    CLEANUP(pg_result_free) PGresult *r = NULL;

    pg_quote_ident(&name, s->schema);
    buf_put_u8(&name, '.');
    pg_quote_ident(&name, s->name);
    buf_printf(&query, "SELECT setval(");
    pg_quote_literal(&query, buf_cstr(&name));
    buf_printf(&query, "::regclass, %lld, %s)", (long long)state->value, state->is_called ? "true" : "false");
    return pg_query(sql, buf_cstr(&query), NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err);
}

static json_t *describe(const struct snapshot_sequence *s, const struct sequence_state *state)
{
    CLEANUP(mem_free_ptr) char *name = mem_printf("%s.%s", s->schema, s->name);
    json_t *j = json_object();

    (void)json_object_set_new(j, "name", json_bytes(slice_str(name)));
    json_set_i64(j, "value", state->value);
    json_set_i64(j, "advanced", state->advanced);
    return j;
}

/* Rows of one sequence stand together. */
static int set_one(struct pg_conn *sql, const PGresult *r, const struct limit_row *rows, size_t count,
                   const struct sequence_seen *seen, json_t *out, struct error *err)
{
    const struct snapshot_sequence *s = seen->sequence;
    struct limit_row wanted = {.schema = s->schema, .name = s->name};
    struct sequence_limits limits = {0};
    const struct limit_row *found = count ? bsearch(&wanted, rows, count, sizeof *rows, by_name) : NULL;

    if (!found)
        return error_set(err, ERROR_MISMATCH, "sequence %s.%s is not in the recovered database", s->schema, s->name);
    while (found > rows && by_name(found - 1, &wanted) == 0)
        found--;
    for (; found < rows + count && by_name(found, &wanted) == 0; found++)
        TRY(read_limits(sql, r, found->row, &limits, err));
    struct sequence_state state = sequence_decide(seen, &limits);
    TRY(set(sql, s, &state, err));
    (void)json_array_append_new(out, describe(s, &state));
    return 0;
}

int sequences_set(struct pg_conn *sql, const struct sequence_seen *seen, uint32_t count, json_t **ret, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    JSON_AUTO out = json_array();

    TRY(pg_query(sql, limits_sql, NULL, 0, MAX_TIMEOUT_MS, &r, err));
    size_t n = (size_t)PQntuples(r);
    CLEANUP(mem_free_ptr) struct limit_row *rows = mem_zalloc(n, sizeof *rows);
    for (size_t i = 0; i < n; i++)
        rows[i] = (struct limit_row){PQgetvalue(r, (int)i, 0), PQgetvalue(r, (int)i, 1), (int)i};
    if (n > 1)
        qsort(rows, n, sizeof *rows, by_name);
    for (uint32_t i = 0; i < count; i++)
        TRY(set_one(sql, r, rows, n, &seen[i], out, err));
    *ret = json_incref(out);
    return 0;
}
