/*
 * capture/looks.c - does what event triggers told account for what the catalogue became?
 *
 * Each look has the fingerprint of the catalogue as one snapshot of the server saw it. Snapshots of one server are in an order: a later one sees all that an earlier one
 * sees. Where two that follow each other differ, somebody whom only the later one sees has changed something. If none of these transactions left a record, no
 * event trigger saw the change: that is certain, however close to it another command was recorded that both see, and however long other transactions stay
 * open. Judged is only when the stream has passed the later look, so that the records of all that it sees are known.
 *
 * What this cannot tell apart: a recorded command and one without a record between the same two looks. The schema is captured, and so looked at, about a second
 * after each recorded command. What is known to leave no record is told by what it leaves instead (pg_fingerprint.c; pg_recording; PG_UNTOLD), so that no record hides it.
 */
#include "capture/looks.h"

#include "base/mem.h"
#include "engine/postgres/pg_catalog.h"

#define PENDING_MAX 1000   /* the stream does not go on: further looks replace the newest one */
#define RECORDS_MAX 100000 /* between two looks: the oldest are forgotten, and do not account for anything */

void looks_init(struct looks *l) { *l = (struct looks){.pending = json_array(), .records = json_array()}; }

void looks_release(struct looks *l)
{
    json_decref(l->pending);
    json_decref(l->records);
    *l = (struct looks){0};
}

void looks_clear(struct looks *l)
{
    json_array_clear(l->pending);
    json_array_clear(l->records);
}

static uint64_t number(const json_t *o, const char *key) { return (uint64_t)json_integer_value(json_object_get(o, key)); }

static const char *fingerprint_of(const json_t *look)
{
    const char *text = json_string_value(json_object_get(look, "fingerprint"));

    return text ? text : "";
}

/* In the order of their snapshots: of two with one xmax the later one has fewer in progress. */
static bool is_before(const json_t *a, const json_t *b)
{
    uint64_t x = number(a, "xmax"), y = number(b, "xmax");

    return x != y ? x < y : json_array_size(json_object_get(a, "xip")) > json_array_size(json_object_get(b, "xip"));
}

void looks_add(struct looks *l, json_t *look)
{
    size_t at = json_array_size(l->pending);

    if (at == PENDING_MAX)
        json_array_remove(l->pending, --at);
    while (at > 0 && is_before(look, json_array_get(l->pending, at - 1)))
        at--;
    json_array_insert_new(l->pending, at, look);
}

void looks_add_record(struct looks *l, uint32_t xid, uint64_t to_lsn)
{
    const json_t *newest = json_array_get(l->records, json_array_size(l->records) - 1);

    if (newest && number(newest, "xid") == xid)
        return; /* another command of the same transaction */
    if (json_array_size(l->records) == RECORDS_MAX)
        json_array_remove(l->records, 0);
    json_array_append_new(l->records, json_pack("{s:I,s:I}", "xid", (json_int_t)xid, "to", (json_int_t)to_lsn));
}

static bool sees_id(const json_t *look, uint64_t id)
{
    const json_t *open;
    size_t i;

    json_array_foreach(json_object_get(look, "xip"), i, open)
        if ((uint64_t)json_integer_value(open) == id)
            return false;
    return id < number(look, "xmax");
}

bool look_sees(const json_t *look, uint32_t xid)
{
    uint64_t xmax = number(look, "xmax");

    return sees_id(look, xmax + (uint64_t)(int64_t)(int32_t)(xid - (uint32_t)xmax));
}

int look_ask_snapshot(struct pg_conn *sql, json_t **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    TRY(pg_query_value(sql,
                       "SELECT json_build_object('xmin', pg_snapshot_xmin(s)::text::int8, 'xmax', pg_snapshot_xmax(s)::text::int8,"
                       " 'xip', ARRAY(SELECT x::text::int8 FROM pg_snapshot_xip(s) x)) FROM pg_current_snapshot() s",
                       PG_QUERY_TIMEOUT_MS, &text, err));
    return json_parse(slice_str(text), "the server's snapshot", ret, err);
}

/* --- the judgement ------------------------------------------------------------------------------------------------------- */

/* One that was stored without its snapshot is known by its end alone. */
static bool saw(const json_t *last, const json_t *record)
{
    if (!json_object_get(last, "xmax"))
        return number(record, "to") <= number(last, "end");
    return look_sees(last, (uint32_t)number(record, "xid"));
}

/* Takes out what the later look sees. True: one of them is not in the earlier one. */
static bool take_records(struct looks *l, const json_t *last, const json_t *look)
{
    json_t *left = json_array(), *record;
    bool found = false;
    size_t i;

    json_array_foreach(l->records, i, record)
        if (!look_sees(look, (uint32_t)number(record, "xid")))
            json_array_append(left, record);
        else
            found |= !last || !saw(last, record);
    json_decref(l->records);
    l->records = left;
    return found;
}

/* The lowest id of those that the later one sees and the earlier one does not. */
static uint64_t first_between(const json_t *last, const json_t *look)
{
    uint64_t first = number(last, "xmax");
    const json_t *open;
    size_t i;

    json_array_foreach(json_object_get(last, "xip"), i, open)
        if ((uint64_t)json_integer_value(open) < first && sees_id(look, (uint64_t)json_integer_value(open)))
            first = (uint64_t)json_integer_value(open);
    return first;
}

/*
 * What event triggers never tell of is the polls' own (watch_schema.c); and so is every difference between two polls while commands are not
 * recorded. A capture between them is judged in any case: the polls may have missed a change there and back.
 */
static bool is_judged(const json_t *last, const json_t *look)
{
    const char *a = fingerprint_of(last), *b = fingerprint_of(look);
    bool poll = json_object_get(look, "triggers") && json_object_get(last, "triggers");

    if (pg_fingerprint_told_same(a, b) || !pg_fingerprint_untold_same(a, b))
        return false;
    return !poll || json_is_true(json_object_get(look, "triggers"));
}

enum looks_verdict looks_judge(struct looks *l, uint64_t passed_lsn, json_t **last, uint64_t *ret_begun, uint64_t *ret_to_lsn)
{
    json_t *look = json_array_get(l->pending, 0);
    enum looks_verdict verdict = LOOKS_ACCOUNTED;

    if (!look || number(look, "end") > passed_lsn)
        return LOOKS_NONE;
    json_incref(look);
    json_array_remove(l->pending, 0);
    if (*last && is_before(look, *last)) { /* it came late */
        json_decref(look);
        return verdict;
    }
    bool recorded = take_records(l, *last, look);
    if (*last && !recorded && is_judged(*last, look)) {
        verdict = LOOKS_UNACCOUNTED;
        *ret_begun = first_between(*last, look);
        *ret_to_lsn = number(look, "end");
    }
    json_decref(*last);
    *last = look;
    return verdict;
}

/* --- where it may have begun -------------------------------------------------------------------------------------------------- */

void look_starts_add(struct look_starts *s, uint64_t lsn, uint64_t next_xid)
{
    s->at[s->next % LOOK_STARTS].lsn = lsn;
    s->at[s->next % LOOK_STARTS].next_xid = next_xid;
    s->next++;
}

uint64_t look_starts_before(const struct look_starts *s, uint64_t begun, uint64_t otherwise)
{
    uint64_t lsn = otherwise;

    for (size_t i = 0; i < s->next && i < LOOK_STARTS; i++)
        if (s->at[i].next_xid <= begun && s->at[i].lsn > lsn)
            lsn = s->at[i].lsn;
    return lsn;
}
