/*
 * engine/postgres/pg_protect.c - the names of what Salvor makes in a source, findings, and the event trigger's record.
 *
 * The record is an INSERT into a table that only the owner of the helper schema may write: no role of the source can
 * forge it (I-16). Its text is shown, never run.
 */
#include "engine/postgres/pg_protect_internal.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"

enum { DDL_TAG = 2, DDL_OBJECT, DDL_DETAIL, DDL_STATE, DDL_COLUMNS }; /* behind id and at (helpers.sql) */

void pg_names_of(const char *source, struct pg_names *ret)
{
    /* At most 40 characters: with what is put around them all names fit PostgreSQL's 63. */
    ASSERT(text_is_name(source));
    (void)snprintf(ret->schema, sizeof ret->schema, "salvor_%s", source);
    (void)snprintf(ret->publication_rows, sizeof ret->publication_rows, "salvor_%s_rows", source);
    (void)snprintf(ret->publication_keys, sizeof ret->publication_keys, "salvor_%s_keys", source);
    (void)snprintf(ret->slot, sizeof ret->slot, "salvor_%s", source);
    (void)snprintf(ret->trigger_start, sizeof ret->trigger_start, "salvor_%s_start", source);
    (void)snprintf(ret->trigger_ddl, sizeof ret->trigger_ddl, "salvor_%s_ddl", source);
    (void)snprintf(ret->trigger_drop, sizeof ret->trigger_drop, "salvor_%s_drop", source);
}

/* --- findings ---------------------------------------------------------------------------------------------------- */

void pg_findings_release(struct pg_findings *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->items[i].object);
        free(f->items[i].text);
        free(f->items[i].mend);
    }
    free(f->items);
    *f = (struct pg_findings){0};
}

void findings_add(struct pg_findings *f, enum pg_severity severity, const char *code, const char *object,
                  const char *mend, const char *text, ...)
{
    CLEANUP(mem_free_ptr) char *made = NULL;
    va_list ap;

    va_start(ap, text);
    int n = vasprintf(&made, text, ap);
    va_end(ap);
    if (n < 0)
        made = NULL;
    ASSERT(made && strlen(code) < sizeof f->items->code);
    MEM_GROW(f->items, f->cap, f->count);
    struct pg_finding *item = &f->items[f->count++];
    *item = (struct pg_finding){.severity = severity, .object = mem_strdup(object), .mend = mem_strdup(mend)};
    memcpy(item->code, code, strlen(code) + 1);
    item->text = made;
    made = NULL;
}

/* --- the record of a schema change ------------------------------------------------------------------------------- */

/* An older setup's table has no states. */
static bool has_record_shape(const struct relation *r, const struct event *e, const struct pg_names *names)
{
    if (e->op != EVENT_INSERT || strcmp(r->schema, names->schema) != 0 || strcmp(r->name, "ddl") != 0)
        return false;
    if ((r->columns_count != DDL_COLUMNS && r->columns_count != DDL_STATE) || e->row_count != r->columns_count)
        return false;
    for (uint32_t i = 0; i < e->row_count; i++) {
        if (e->row[i].state != VALUE_TEXT)
            return false;
    }
    return true;
}

bool pg_ddl_record(const struct relation *r, const struct event *e, const struct pg_names *names, struct pg_ddl_record *ret)
{
    if (!has_record_shape(r, e, names))
        return false;
    *ret = (struct pg_ddl_record){
        .tag = e->row[DDL_TAG].text,
        .object = e->row[DDL_OBJECT].text,
        .detail = e->row[DDL_DETAIL].text,
        .state = e->row_count == DDL_COLUMNS ? e->row[DDL_STATE].text : slice_of(NULL, 0),
    };
    return true;
}

bool pg_is_ddl_record(const struct relation *r, const struct event *e, const struct pg_names *names, struct buf *out)
{
    struct pg_ddl_record d;

    if (!pg_ddl_record(r, e, names, &d))
        return false;
    buf_put_slice(out, d.tag);
    if (d.object.n > 0) {
        buf_put(out, ": ", 2);
        buf_put_slice(out, d.object);
    }
    if (d.detail.n > 0) {
        buf_put(out, " (", 2);
        buf_put_slice(out, d.detail);
        buf_put(out, ")", 1);
    }
    return true;
}
