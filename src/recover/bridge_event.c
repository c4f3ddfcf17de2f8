/*
 * recover/bridge_event.c - the stream across schema changes: records move the tables on, rows are written in the target's columns.
 *
 * The record of a change stands in its transaction where the change was made, so that each event is read with the columns that its table had at that moment. A
 * table that is made with its rows (CREATE TABLE AS) has them before its record: its columns are then as they come, and the record must agree.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "recover/bridge_internal.h"
#include "recover/read.h"

/* Commands that leave rows as they are, or whose effect on them the layouts show. All others are refused. */
static const char *const commands[] = {
    "CREATE TABLE", "CREATE TABLE AS", "SELECT INTO", "ALTER TABLE", "DROP TABLE", "CREATE INDEX", "ALTER INDEX", "DROP INDEX", "REINDEX",
    "CREATE VIEW", "ALTER VIEW", "DROP VIEW", "CREATE MATERIALIZED VIEW", "ALTER MATERIALIZED VIEW", "DROP MATERIALIZED VIEW",
    "CREATE FUNCTION", "ALTER FUNCTION", "DROP FUNCTION", "CREATE PROCEDURE", "ALTER PROCEDURE", "DROP PROCEDURE", "DROP ROUTINE", "ALTER ROUTINE",
    "CREATE TRIGGER", "ALTER TRIGGER", "DROP TRIGGER", "CREATE SEQUENCE", "ALTER SEQUENCE", "DROP SEQUENCE",
    "GRANT", "REVOKE", "COMMENT", "CREATE SCHEMA", "ALTER SCHEMA", "DROP SCHEMA", "CREATE TYPE", "ALTER TYPE", "DROP TYPE",
    "CREATE DOMAIN", "ALTER DOMAIN", "DROP DOMAIN", "CREATE POLICY", "ALTER POLICY", "DROP POLICY", "CREATE RULE", "DROP RULE",
    "CREATE STATISTICS", "ALTER STATISTICS", "DROP STATISTICS", "ALTER DEFAULT PRIVILEGES", "DROP OWNED", "REASSIGN OWNED",
    "ALTER LARGE OBJECT", "SECURITY LABEL", "CREATE PUBLICATION", "ALTER PUBLICATION", "DROP PUBLICATION",
    "CREATE AGGREGATE", "ALTER AGGREGATE", "DROP AGGREGATE", "CREATE OPERATOR", "ALTER OPERATOR", "DROP OPERATOR",
    "CREATE OPERATOR CLASS", "ALTER OPERATOR CLASS", "DROP OPERATOR CLASS", "CREATE OPERATOR FAMILY", "ALTER OPERATOR FAMILY", "DROP OPERATOR FAMILY",
    "CREATE CAST", "DROP CAST", "CREATE CONVERSION", "ALTER CONVERSION", "DROP CONVERSION", "CREATE COLLATION", "ALTER COLLATION", "DROP COLLATION",
    "CREATE TEXT SEARCH CONFIGURATION", "ALTER TEXT SEARCH CONFIGURATION", "DROP TEXT SEARCH CONFIGURATION",
    "CREATE TEXT SEARCH DICTIONARY", "ALTER TEXT SEARCH DICTIONARY", "DROP TEXT SEARCH DICTIONARY",
    "CREATE FOREIGN DATA WRAPPER", "ALTER FOREIGN DATA WRAPPER", "DROP FOREIGN DATA WRAPPER", "CREATE SERVER", "ALTER SERVER", "DROP SERVER",
    "CREATE USER MAPPING", "ALTER USER MAPPING", "DROP USER MAPPING", "CREATE FOREIGN TABLE", "ALTER FOREIGN TABLE", "DROP FOREIGN TABLE",
    "IMPORT FOREIGN SCHEMA", "CREATE LANGUAGE", "ALTER LANGUAGE", "DROP LANGUAGE", "CREATE TRANSFORM", "DROP TRANSFORM", "CREATE ACCESS METHOD",
    "DROP ACCESS METHOD", "CREATE EXTENSION", "ALTER EXTENSION", "DROP EXTENSION", NULL,
};
/* A generated column is computed anew, by what its functions, and what these make use of, are in the target. */
static const char *const computing[] = {
    "CREATE FUNCTION", "ALTER FUNCTION", "ALTER ROUTINE", "DROP FUNCTION", "DROP ROUTINE", "ALTER OPERATOR", "DROP OPERATOR", "CREATE CAST", "DROP CAST",
    "ALTER COLLATION", "ALTER TEXT SEARCH CONFIGURATION", "DROP TEXT SEARCH CONFIGURATION", "ALTER TEXT SEARCH DICTIONARY", "DROP TEXT SEARCH DICTIONARY", NULL,
};

static bool is_among(struct slice tag, const char *const *list)
{
    for (size_t i = 0; list[i]; i++)
        if (slice_equal(tag, slice_str(list[i])))
            return true;
    return false;
}

static int refuse(const struct chain_transaction *t, const struct layout_table *table, const char *name, const char *why, struct error *err)
{
    char at[POSITION_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED, "table %s%s%s at %s: %s", table && table->schema ? table->schema : "", table && table->schema ? "." : "",
                     table && table->name ? table->name : name, position_format(t->position, at), why);
}

/* --- records -------------------------------------------------------------------------------------------------------------- */

static int refuse_command(const struct chain_transaction *t, const struct pg_ddl_record *d, const char *why, struct error *err)
{
    char at[POSITION_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED, "%.*s at %s (%.*s): %s", (int)d->tag.n, (const char *)d->tag.p, position_format(t->position, at),
                     (int)(d->object.n < 200 ? d->object.n : 200), (const char *)d->object.p, why);
}

/* The trigger itself may have said why: sentences that end with "; ". */
static int refuse_unknown(const struct chain_transaction *t, const struct pg_ddl_record *d, struct error *err)
{
    const char *said = (const char *)d->detail.p;
    size_t n = d->detail.n < 200 ? d->detail.n : 200;
    char why[300];

    while (n > 0 && (said[n - 1] == ' ' || said[n - 1] == ';'))
        n--;
    (void)snprintf(why, sizeof why, "what it left behind is not known%s%.*s", n > 0 ? ": " : "", (int)n, n > 0 ? said : "");
    return refuse_command(t, d, why, err);
}

static bool has_generated(const struct layout *l)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->tables[i].generated)
            return true;
    return false;
}

static int check_command(const struct bridge *b, const struct chain_transaction *t, const struct pg_ddl_record *d, const struct layout *l,
                         struct error *err)
{
    if (!is_among(d->tag, commands))
        return refuse_command(t, d, "it is not known to leave rows as they are", err);
    if (d->detail.n > 0 && (memmem(d->detail.p, d->detail.n, "not listed yet: ", 16) || memmem(d->detail.p, d->detail.n, "failed", 6)))
        return refuse_command(t, d, "changes of its rows may not have been captured from there on", err);
    if (l->code)
        return refuse_command(t, d, "by this function values of a type are read or written", err);
    if (is_among(d->tag, computing) && (has_generated(&b->from) || has_generated(&b->to)))
        return refuse_command(t, d, "a generated column may be computed by it", err);
    return 0;
}

/* Its rows came before its record: their columns were taken as they stood. */
static bool agrees_with_rows(const struct trace *t, const struct layout_table *now)
{
    if (t->now.columns_count != now->columns_count)
        return false;
    for (uint32_t i = 0; i < now->columns_count; i++)
        if (now->columns[i].number != i + 1 || now->columns[i].type_id != t->now.columns[i].type_id ||
            now->columns[i].type_modifier != t->now.columns[i].type_modifier || strcmp(now->columns[i].name, t->now.columns[i].name) != 0)
            return false;
    return true;
}

/* From one record to the next of the same transaction, which alone has the table then: the server's counts have not grown, and TRUNCATE has not set them back. */
static bool none_changed(const struct trace *t, const struct chain_transaction *at, const struct layout_table *next)
{
    return next && t->now.counted && next->counted && t->now.changed == next->changed && !t->emptied && position_compare(t->recorded, at->position) == 0;
}

/* A table that the snapshot has without identity is one that rows are only put into; the server's counts tell when they are changed after all. Of
 * others nobody has promised that. next: of the record that ends the stretch; NULL: the target does. */
static void doubt(const struct bridge *b, struct trace *t, const struct chain_transaction *at, const struct layout_table *next)
{
    const struct layout_table *before = t->in_snapshot ? layout_find(&b->from, t->id) : NULL;

    if (t->known && t->rows && !layout_identified(&t->now) && !(before && !layout_identified(before)) && !none_changed(t, at, next))
        t->doubtful = true;
}

/* A column gave way to one of the same name and type within one command: no row shows which of the two it was written with. */
static bool looks_alike(const struct layout_table *before, const struct layout_table *next)
{
    struct relation a, b;

    if (layout_same_columns(before, next))
        return false;
    layout_relation(before, "", "", &a);
    layout_relation(next, "", "", &b);
    bool same = read_same_shape(&a, &b);
    relation_release(&a);
    relation_release(&b);
    return same;
}

/* Event triggers of others may have written rows between the command and its record. */
static int check_others(const struct bridge *b, const struct trace *t, const struct chain_transaction *at, const struct layout_table *next, struct error *err)
{
    if (!t->known || t->to == BRIDGE_NONE || position_compare(t->written, at->position) != 0 || !looks_alike(&t->now, next))
        return 0;
    return refuse(at, &b->to.tables[t->to], "", "a column was replaced by one of the same name in one command, and an event trigger may have written rows between that and its record", err);
}

static int move_on(struct bridge *b, const struct chain_transaction *at, struct layout_table *next, struct changes *changes, struct error *err)
{
    struct trace *t = bridge_trace(b, next->id);
    bool first = !t->known;

    if (!next->permanent && t->to != BRIDGE_NONE)
        return refuse(at, &b->to.tables[t->to], "", "it was unlogged", err);
    if (first && t->rows && !agrees_with_rows(t, next))
        return refuse(at, t->to != BRIDGE_NONE ? &b->to.tables[t->to] : NULL, "", "it was filled before its columns were known", err);
    if (!first && t->rows && t->to != BRIDGE_NONE && t->now.file != next->file)
        return refuse(at, &b->to.tables[t->to], "", "it was rewritten or emptied", err);
    doubt(b, t, at, next);
    t->recorded = at->position;
    t->emptied = false;
    t->alike |= t->known && t->now.identity == 'f' && next->identity == 'f';
    t->known = t->touched = true;
    t->made |= next->made;
    t->shape = NULL;
    layout_table_release(&t->now);
    t->now = *next;
    *next = (struct layout_table){0};
    return t->stage ? bridge_stage_move(b, t, changes, err) : 0;
}

/* Its renewal holds that already; or it was set aside. */
static bool is_past(const struct trace *t, const struct chain_transaction *at)
{
    return t->barred || (t->since && renewal_holds(t->since, at->position, at->xid));
}

static int apply_record(struct bridge *b, const struct chain_transaction *t, const struct pg_ddl_record *d, struct changes *changes, struct error *err)
{
    CLEANUP(layout_release) struct layout l = {0};
    JSON_AUTO state = NULL;

    b->records++;
    if (d->state.n == 0 || json_parse_bytes(d->state, "a record", &state, NULL) < 0 || layout_read(state, true, &l, NULL) < 0)
        return refuse_unknown(t, d, err);
    TRY(check_command(b, t, d, &l, err));
    if (bridge_label_changed(b, l.enums))
        return refuse_command(t, d, "a value of an enum was renamed", err);
    for (size_t i = 0; i < l.count; i++) {
        struct trace *trace = bridge_trace(b, l.tables[i].id);

        if (!is_past(trace, t) && l.others)
            TRY(bridge_bar(b, trace, check_others(b, trace, t, &l.tables[i], err), err));
        if (!is_past(trace, t))
            TRY(bridge_bar(b, trace, move_on(b, t, &l.tables[i], changes, err), err));
    }
    return 0;
}

/* --- rows ------------------------------------------------------------------------------------------------------------------- */

/* Made by a command that has not ended: the columns as they come. */
static void assume(struct trace *t, const struct relation *r)
{
    t->now.columns = mem_zalloc((size_t)r->columns_count + 1, sizeof *t->now.columns);
    t->now.columns_count = r->columns_count;
    for (uint32_t i = 0; i < r->columns_count; i++)
        t->now.columns[i] = (struct layout_column){.number = i + 1, .name = mem_strdup(r->columns[i].name), .type_id = r->columns[i].type_id,
                                                   .type_modifier = r->columns[i].type_modifier};
}

/* Where the columns of the target, or of the stage, are in an event. */
static int map_columns(struct bridge *b, struct trace *t, const struct chain_transaction *at, struct error *err)
{
    const struct layout_table *to = bridge_columns(b, t);

    free(t->from);
    t->from = mem_zalloc((size_t)to->columns_count + 1, sizeof *t->from);
    for (uint32_t i = 0; i < to->columns_count; i++) {
        uint32_t k = t->from[i] = layout_column(&t->now, to->columns[i].number);

        if (k != BRIDGE_NONE && !layout_same_text(&t->now.columns[k], &to->columns[i]))
            return refuse(at, to, "", "a column of it was of another type", err);
        if (k == BRIDGE_NONE && t->known && to->columns[i].number <= t->now.columns_made)
            return refuse(at, to, "", "a column of it was generated", err);
    }
    return 0;
}

/* Is the event's shape the one that the table has now? */
static int compare_shape(struct bridge *b, struct trace *t, const struct chain_transaction *at, const struct relation *r, struct error *err)
{
    struct relation now;

    if (t->known) {
        layout_relation(&t->now, r->schema, r->name, &now);
        bool same = read_same_shape(&now, r);
        relation_release(&now);
        if (!same)
            return refuse(at, NULL, r->name, "it has another shape than its last change left", err);
    } else {
        layout_table_release(&t->now);
        assume(t, r);
    }
    t->shape = r;
    return t->to == BRIDGE_NONE ? 0 : map_columns(b, t, at, err);
}

/* A column that the table did not have yet: in the row that became the target's it has what older rows have. */
static struct value value_of(const struct trace *t, const struct layout_column *c, uint32_t i, const struct value *values, bool key_only)
{
    if (t->from[i] != BRIDGE_NONE)
        return values[t->from[i]];
    if (key_only)
        return (struct value){.state = VALUE_ABSENT};
    return c->missing ? (struct value){.state = VALUE_TEXT, .text = slice_str(c->missing)} : (struct value){.state = VALUE_NULL};
}

/* The whole old row was sent, and the target's key is in it; what an update left where it lay is there too. */
static void identify_by_key(const struct relation *shape, struct event *e)
{
    bool same = e->op == EVENT_UPDATE;

    for (uint32_t i = 0; i < shape->columns_count; i++) {
        if (e->op == EVENT_UPDATE && e->row[i].state == VALUE_UNCHANGED)
            e->row[i] = e->old[i];
        if (!shape->columns[i].key)
            e->old[i] = (struct value){.state = VALUE_ABSENT};
        else if (e->op == EVENT_UPDATE)
            same = same && e->row[i].state == VALUE_TEXT && slice_equal(e->row[i].text, e->old[i].text);
    }
    e->old_kind = same ? EVENT_OLD_NONE : EVENT_OLD_KEY;
    e->old_count = same ? 0 : shape->columns_count;
}

static bool holds_key(const struct trace *t, const struct relation *shape)
{
    for (uint32_t i = 0; i < shape->columns_count; i++)
        if (shape->columns[i].key && t->from[i] == BRIDGE_NONE)
            return false;
    return shape->identity == IDENTITY_KEY;
}

static int add_event(struct bridge *b, struct trace *t, const struct chain_transaction *at, const struct event *e, struct changes *changes,
                     struct error *err)
{
    const struct layout_table *to = &b->to.tables[t->to];
    struct event out = *e;
    bool identifies = e->op == EVENT_UPDATE || e->op == EVENT_DELETE;

    if (!t->stage && !t->merged && (bridge_stage_needed(&t->now, to) || (!t->known && layout_keyed(to)))) { /* who knows what will identify it first */
        TRY(bridge_stage_open(b, t, &t->stage, err));
        TRY(map_columns(b, t, at, err));
    }
    const struct layout_table *columns = bridge_columns(b, t);
    bool otherwise = identifies && !t->stage && !bridge_same_identity(&t->now, to);
    if (otherwise && (t->alike || e->old_kind != EVENT_OLD_FULL || !holds_key(t, &b->shapes[t->to])))
        return refuse(at, to, "", "its rows were identified otherwise", err);
    out.row = b->room.row;
    out.old = b->room.old;
    out.row_count = e->row_count || e->op == EVENT_INSERT || e->op == EVENT_UPDATE ? columns->columns_count : 0;
    out.old_count = identifies && e->old_kind != EVENT_OLD_NONE ? columns->columns_count : 0;
    for (uint32_t i = 0; i < out.row_count; i++)
        out.row[i] = value_of(t, &columns->columns[i], i, e->row, false);
    for (uint32_t i = 0; i < out.old_count; i++)
        out.old[i] = value_of(t, &columns->columns[i], i, e->old, e->old_kind == EVENT_OLD_KEY);
    t->rows |= e->op != EVENT_TRUNCATE;
    if (e->op != EVENT_TRUNCATE)
        t->written = at->position;
    if (otherwise)
        identify_by_key(&b->shapes[t->to], &out);
    if (t->stage)
        return t->stage->changes ? changes_add(t->stage->changes, 0, &out, err) : 0;
    t->merged = true;
    return changes ? changes_add(changes, t->to, &out, err) : 0;
}

/* Whatever was done to its rows, they are gone. */
static void empty(struct trace *t)
{
    t->emptied = true;
    t->rows = t->doubtful = false;
}

static int follow_event(struct bridge *b, struct trace *t, const struct chain_transaction *at, const struct relation *r, const struct event *e,
                        struct changes *changes, struct error *err)
{
    if (e->op == EVENT_OVERSIZE && t->to != BRIDGE_NONE)
        return read_refuse_oversize(r, at, err);
    if (e->op == EVENT_TRUNCATE)
        empty(t);
    if (t->shape != r)
        TRY(compare_shape(b, t, at, r, err));
    if (t->to != BRIDGE_NONE)
        return add_event(b, t, at, e, changes, err);
    t->rows |= e->op != EVENT_TRUNCATE;
    return 0;
}

static bool is_record(const struct bridge *b, const struct relation *r, const struct event *e, struct pg_ddl_record *ret)
{
    return r->id == b->from.record && pg_ddl_record(r, e, &b->names, ret);
}

int bridge_event(struct bridge *b, const struct chain_transaction *t, const struct relation *r, const struct event *e, struct changes *changes,
                 struct error *err)
{
    struct pg_ddl_record d;

    if (is_record(b, r, e, &d))
        return apply_record(b, t, &d, changes, err);
    if (strcmp(r->schema, b->names.schema) == 0)
        return 0;
    struct trace *trace = bridge_trace(b, r->id);
    return is_past(trace, t) ? 0 : bridge_bar(b, trace, follow_event(b, trace, t, r, e, changes, err), err);
}

/* --- the end ----------------------------------------------------------------------------------------------------------------- */

static int check_end(struct bridge *b, uint32_t i, struct error *err)
{
    const struct layout_table *to = &b->to.tables[i];
    struct trace *t = bridge_trace(b, to->id);
    const char *why = NULL;

    doubt(b, t, NULL, NULL);
    if (!t->known)
        why = "was made, and no record of it was found";
    else if (!t->in_snapshot && !t->made)
        why = "was not there before, and was not made";
    else if (t->touched && t->rows && !t->emptied && t->now.file != to->file)
        why = "was rewritten or emptied on the way";
    else if (!layout_same_columns(&t->now, to) || t->now.columns_made != to->columns_made || !layout_same_key(&t->now, to))
        why = "is not what the records of its changes made of it";
    if (!why && t->stage)
        why = "is not identified as the records of its changes say";
    if (!why && t->doubtful)
        why = "had nothing to identify its rows for a time: changes of them were not captured";
    return why ? error_set(err, ERROR_REFUSED, "table %s.%s %s", to->schema, to->name, why) : 0;
}

int bridge_finish(struct bridge *b, struct error *err)
{
    if (b->records != b->records_expected)
        return error_set(err, ERROR_REFUSED, "%llu schema changes were noted, and the records of %llu are there",
                         (unsigned long long)b->records_expected, (unsigned long long)b->records);
    for (uint32_t i = 0; i < b->to.count; i++) {
        struct trace *t = bridge_trace(b, b->to.tables[i].id);

        if (!t->barred)
            TRY(bridge_bar(b, t, check_end(b, i, err), err));
    }
    return 0;
}
