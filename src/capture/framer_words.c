/*
 * capture/framer_words.c - values that a transaction wrote before a change of the schema that waits for no writer, and committed behind it.
 *
 * The server writes values out as the catalogue was at their place in its log: with the labels of an enum, the attributes of a composite type, the names of
 * objects of that moment. Renaming a label, or changing the attributes of a type, locks no table that has values of it. In rows that are there the value
 * reads otherwise from then on; in the stream, what a transaction wrote before and commits later stands in the old words. A recovery from a snapshot that holds
 * the change and not the transaction would take these for values of today: they may be refused at the load, or mean another value.
 *
 * So such a transaction's tables with columns that depend on the catalogue are noted as inexact at its commit, with its id, and with the changes that committed since
 * its first change: from a snapshot that holds none of them the change is one on the way, and is judged where its record stands (recover/choose.c).
 */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/framer_internal.h"

#define CHANGES_KEPT 256 /* of older ones only the last one's place is known */

void framer_words_changed(struct framer *f, uint64_t end_lsn)
{
    if (f->changes_count == CHANGES_KEPT) {
        framer_schema_told(f, f->changes[0].end_lsn);
        memmove(f->changes, f->changes + 1, --f->changes_count * sizeof *f->changes);
    }
    MEM_GROW(f->changes, f->changes_cap, f->changes_count);
    f->changes[f->changes_count++] = (struct schema_commit){.end_lsn = end_lsn, .xid = f->xid};
}

void framer_schema_told(struct framer *f, uint64_t lsn)
{
    if (lsn > f->unlisted_lsn)
        f->unlisted_lsn = lsn;
}

static bool changed_since(const struct framer *f, uint64_t lsn)
{
    return f->unlisted_lsn > lsn || (f->changes_count > 0 && f->changes[f->changes_count - 1].end_lsn > lsn);
}

static json_t *changes_since(const struct framer *f, uint64_t lsn)
{
    json_t *since = json_array();
    char at[POSITION_TEXT_BYTES];

    for (size_t i = 0; i < f->changes_count; i++) {
        if (f->changes[i].end_lsn <= lsn)
            continue;
        json_t *o = json_object();
        json_set_str(o, "at", position_format(position_of_lsn(f->changes[i].end_lsn), at));
        json_set_u64(o, "xid", f->changes[i].xid);
        json_array_append_new(since, o);
    }
    return since;
}

void framer_words_note(struct framer *f, struct known *k, const struct relation *shape)
{
    if (!changed_since(f, f->first_lsn) || k->used_in == f->number || !relation_depends(shape))
        return;
    k->used_in = f->number;
    CLEANUP(mem_free_ptr) char *table = mem_printf("%s.%s", shape->schema, shape->name);
    json_t *note = note_inexact(table, shape->id, POSITION_ZERO, POSITION_ZERO,
                                "a transaction wrote values into it before the schema changed, and committed behind the change: they are captured as they read before");
    json_set_u64(note, "xid", f->xid);
    if (f->unlisted_lsn <= f->first_lsn)
        json_object_set_new(note, "since", changes_since(f, f->first_lsn));
    framer_note(f, note);
}

void framer_words_use(struct framer *f, struct known *k)
{
    if (k->used_in == f->number)
        return;
    k->used_in = f->number;
    if (!relation_depends(&k->current))
        return;
    MEM_GROW(f->depending, f->depending_cap, f->depending_count);
    f->depending[f->depending_count++] = k;
}

void framer_words_note_all(struct framer *f)
{
    f->number++; /* a table whose shape changed in it may stand here twice */
    for (size_t i = 0; i < f->depending_count; i++)
        framer_words_note(f, f->depending[i], &f->depending[i]->framed);
    f->depending_count = 0;
}
