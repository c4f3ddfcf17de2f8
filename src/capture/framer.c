/*
 * capture/framer.c - from pgoutput messages to frames.
 *
 * A transaction is one part or many of about 256 KiB; parts are cut where they are full, where the buffer is handed on, and where a relation has
 * to be defined in the middle. A relation's version changes when it is used with another shape than the one framed last; what a
 * message says of a relation that is never used changes nothing, and transactions that are only compared change nothing either.
 *
 * A change of shape that shows this way was made at some commit after the relation's last use with the old shape and not after
 * this transaction: the note behind the commit says so, in the same block, so that a crash leaves both or neither. A shape whose
 * commit did not come is forgotten again, so that the note is made when the transaction is sent anew. Where an event
 * trigger's record stands in that stretch it has said it better already.
 *
 * Transactions that are sent before they have ended are the matter of framer_stream.c: while a block of one is being sent it is in the
 * place of the open transaction here.
 *
 * Rows of the helper schema are Salvor's own and are not framed, but for the records of schema changes: these say at their place in the
 * transaction what the tables became. Messages that are not part of a transaction are not
 * changes of the database and overtake transactions: they are passed over.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/framer_internal.h"

#define NOTE_BYTES_MAX ((size_t)64 << 10)

static void known_free(struct known *k)
{
    relation_release(&k->framed);
    relation_release(&k->current);
    free(k);
}

struct framer *framer_new(const struct pg_names *names)
{
    struct framer *f = mem_zalloc(1, sizeof *f);

    f->names = *names;
    f->scratch = BUF_INIT(FRAME_BODY_BYTES_MAX);
    return f;
}

/* The open transaction's new shapes stay, or the ones before come back. */
static void settle_shapes(struct framer *f, bool keep)
{
    for (size_t i = f->replaced_count; i-- > 0;) {
        struct replaced *r = &f->replaced[i];

        if (keep) {
            relation_release(&r->before);
            continue;
        }
        relation_release(&r->known->framed);
        r->known->framed = r->before;
        r->known->used_lsn = r->used_before_lsn;
        r->known->same = false;
        r->known->file = 0;
    }
    f->replaced_count = 0;
}

static void forget_notes(struct framer *f)
{
    json_decref(f->notes);
    f->notes = NULL;
    f->by_trigger = false;
}

void framer_free(struct framer *f)
{
    if (!f)
        return;
    forget_notes(f);
    settle_shapes(f, true);
    framer_streams_forget(f);
    free(f->streams);
    free(f->replaced);
    free(f->changes);
    free(f->depending);
    for (size_t i = 0; i < f->all_count; i++)
        known_free(f->all[i]);
    free(f->all);
    idmap_release(&f->relations);
    buf_release(&f->scratch);
    free(f);
}

/* --- relations --------------------------------------------------------------------------------------------------- */

struct known *framer_known(struct framer *f, uint32_t id)
{
    struct known *k = idmap_get(&f->relations, id);

    if (k)
        return k;
    k = mem_zalloc(1, sizeof *k);
    MEM_GROW(f->all, f->all_cap, f->all_count);
    f->all[f->all_count++] = k;
    (void)idmap_put(&f->relations, id, k);
    return k;
}

void framer_know(struct framer *f, const struct relation *r)
{
    struct known *k = framer_known(f, r->id);

    framer_know_version(f, r->id, r->version);
    if (k->framed.version > r->version)
        return;
    relation_release(&k->framed);
    relation_copy(&k->framed, r);
    f->learned = true;
}

void framer_know_version(struct framer *f, uint32_t id, uint32_t version)
{
    struct known *k = framer_known(f, id);

    if (version > k->version_max)
        k->version_max = version;
}

uint32_t framer_next_version(struct framer *f, struct known *k)
{
    k->version_max++;
    if (k->version_max < f->version_floor)
        k->version_max = f->version_floor;
    return k->version_max;
}

void framer_set_version_floor(struct framer *f, uint32_t floor)
{
    f->version_floor = floor;
}

/* What the open transaction has changed does not count yet: the note about it stands behind the commit. */
static const struct relation *committed_shape(const struct framer *f, const struct known *k)
{
    for (size_t i = 0; i < f->replaced_count; i++)
        if (f->replaced[i].known == k)
            return &f->replaced[i].before;
    return &k->framed;
}

bool framer_save(struct framer *f, struct buf *out)
{
    if (!f->learned)
        return false;
    f->learned = false;
    for (size_t i = 0; i < f->all_count; i++)
        if (committed_shape(f, f->all[i])->version > 0)
            frame_put_relation(out, committed_shape(f, f->all[i]));
    return true;
}

bool framer_is_helper(const struct framer *f, const struct relation *r) { return strcmp(r->schema, f->names.schema) == 0; }

static void see_relation(struct framer *f, struct pgoutput *m)
{
    if (f->stream) {
        framer_stream_relation(f, m);
        return;
    }
    struct known *k = framer_known(f, m->relation.id);

    relation_release(&k->current);
    k->current = m->relation;
    m->relation = (struct relation){0};
    k->session = f->session;
    k->used_in = 0;
    k->told_stamp = ++f->stamp;
    k->helper = framer_is_helper(f, &k->current);
    k->same = k->framed.version > 0 && relation_same_shape(&k->framed, &k->current);
}

static int relation_of_event(struct framer *f, uint32_t id, struct known **ret, struct error *err)
{
    struct known *k = f->last;

    if (!k || k->current.id != id)
        k = idmap_get(&f->relations, id);
    if (!k || k->session != f->session)
        return error_set(err, ERROR_PROTOCOL, "the stream has a change of relation %u, which it has not described", id);
    f->last = k;
    *ret = k;
    return 0;
}

void framer_note(struct framer *f, json_t *note)
{
    if (!f->notes)
        f->notes = json_array();
    json_array_append_new(f->notes, note);
}

/* The end of the range is the position of this commit: known only when it comes. */
void framer_note_new_shape(struct framer *f, const struct known *k, const struct relation *shape)
{
    uint64_t from = k->used_lsn > f->seen_lsn ? k->used_lsn : f->seen_lsn;

    /* Since the table was used last, or in this transaction. */
    if (f->trigger_lsn > k->used_lsn || f->by_trigger)
        return;
    CLEANUP(mem_free_ptr) char *reason =
        mem_printf("table %s.%s has another shape or identity than before", shape->schema, shape->name);
    framer_note(f, note_range(NOTE_SCHEMA_CHANGED, "relation", position_of_lsn(from + 1), POSITION_ZERO, reason));
}

static void take_new_shape(struct framer *f, struct known *k)
{
    if (k->framed.version > 0)
        framer_note_new_shape(f, k, &k->current);
    MEM_GROW(f->replaced, f->replaced_cap, f->replaced_count);
    f->replaced[f->replaced_count++] = (struct replaced){.known = k, .before = k->framed, .used_before_lsn = k->used_lsn};
    relation_copy(&k->framed, &k->current);
    k->framed.version = framer_next_version(f, k);
    k->same = true;
    k->file = 0;
}

/* --- parts ------------------------------------------------------------------------------------------------------- */

void framer_end_part(struct framer *f, uint8_t flags, uint32_t sub_xid, uint64_t end_lsn)
{
    struct frame_part p = {.flags = (uint8_t)(flags | (f->part == 0 ? FRAME_PART_FIRST : 0)),
                           .xid = f->xid,
                           .sub_xid = sub_xid,
                           .session = f->session,
                           .part = f->part,
                           .events_count = f->part_events};

    if (flags & FRAME_PART_COMMIT) {
        p.commit_start = position_of_lsn(f->start_lsn);
        p.position = position_of_lsn(end_lsn);
        p.commit_time_wall_us = f->wall_us;
    }
    frame_end_part(f->out, f->part_at, &p);
    ASSERT(!f->out->overflow);
    f->part_open = false;
    f->part_events = 0;
    f->part++;
}

void framer_begin_part(struct framer *f)
{
    if (f->part_open)
        return;
    f->part_at = frame_begin_part(f->out);
    f->part_open = true;
    f->part_sub_xid = f->stream ? f->xid : 0;
    if (f->part == 0)
        f->first_file = f->file;
}

void framer_cut(struct framer *f)
{
    if (f->part_open)
        framer_end_part(f, 0, 0, 0);
}

static void put_subtransaction(struct framer *f)
{
    const struct event e = {.op = EVENT_SUBTRANSACTION, .sub_xid = f->sub_xid};

    event_encode(&e, f->out);
    f->part_sub_xid = f->sub_xid;
    f->part_events++;
}

void framer_put_event(struct framer *f, const struct event *e)
{
    framer_begin_part(f);
    if (f->sub_xid != f->part_sub_xid)
        put_subtransaction(f);
    event_encode(e, f->out);
    ASSERT(!f->out->overflow);
    f->part_events++;
    if (f->out->n - f->part_at >= FRAME_PART_BYTES_TARGET)
        framer_cut(f);
}

/* The version to frame with, defined in this file. */
static void define(struct framer *f, struct known *k)
{
    if (!k->same)
        take_new_shape(f, k);
    if (k->file == f->file)
        return;
    framer_cut(f);
    frame_put_relation(f->out, &k->framed);
    ASSERT(!f->out->overflow);
    k->file = f->file;
}

/* --- events ------------------------------------------------------------------------------------------------------ */

void framer_hash_event(struct hash128 *hash, struct buf *scratch, const struct event *e)
{
    struct event plain = *e;

    plain.relation_version = 0;
    buf_clear(scratch);
    buf_put_u64(scratch, hash->lo);
    buf_put_u64(scratch, hash->hi);
    event_encode(&plain, scratch);
    ASSERT(!scratch->overflow);
    *hash = hash128_of(buf_slice(scratch));
}

static void keep_event(struct framer *f, const struct event *e)
{
    f->events_count++;
    if (!f->compare)
        framer_put_event(f, e);
    else if (!f->binary)
        framer_hash_event(&f->hash, &f->scratch, e);
}

json_t *framer_ddl_note(struct framer *f, const struct relation *r, const struct event *e)
{
    CLEANUP(buf_release) struct buf sentence = BUF_INIT(NOTE_BYTES_MAX);

    if (e->op != EVENT_INSERT || !pg_is_ddl_record(r, e, &f->names, &sentence))
        return NULL;
    json_t *note = note_range(NOTE_SCHEMA_CHANGED, "trigger", POSITION_ZERO, POSITION_ZERO, buf_cstr(&sentence));
    json_set_u64(note, "xid", f->xid);
    return note;
}

/* True: a record of a schema change, which is noted and framed at its place as well. */
static bool note_helper_row(struct framer *f, const struct known *k, const struct event *e)
{
    JSON_AUTO note = framer_ddl_note(f, &k->current, e);

    if (!note)
        return false;
    if (f->compare)
        return true;
    f->by_trigger = true;
    framer_note(f, json_incref(note));
    return true;
}

/* Values in binary form are no text and cannot be kept: one event stands for all changes of the table in this transaction. */
static bool becomes_oversize(struct framer *f, struct known *k, struct event *e)
{
    if (k->oversize_in == f->number)
        return false;
    k->oversize_in = f->number;
    *e = (struct event){.op = EVENT_OVERSIZE, .relation_id = e->relation_id};
    if (!f->compare) {
        CLEANUP(mem_free_ptr) char *table = mem_printf("%s.%s", k->current.schema, k->current.name);
        framer_note(f, note_inexact(table, e->relation_id, POSITION_ZERO, POSITION_ZERO,
                                 "a row of this transaction is too large to be sent as text (1 GB)"));
    }
    return true;
}

static int see_change(struct framer *f, struct event *e, struct error *err)
{
    struct known *k;

    if (!f->in_transaction)
        return error_set(err, ERROR_PROTOCOL, "the stream has a change outside of a transaction");
    if (f->stream)
        return framer_stream_change(f, e, err);
    TRY(relation_of_event(f, e->relation_id, &k, err));
    if (k->helper && !note_helper_row(f, k, e))
        return 0;
    if (f->binary && e->op != EVENT_TRUNCATE && !becomes_oversize(f, k, e))
        return 0;
    if (!f->compare) {
        define(f, k);
        framer_words_use(f, k);
        k->used_lsn = f->start_lsn;
        e->relation_version = k->framed.version;
    }
    keep_event(f, e);
    return 0;
}

static int see_truncate(struct framer *f, struct pgoutput *m, struct error *err)
{
    struct cursor ids = cursor_of(m->truncate_ids);

    for (uint32_t i = 0; i < m->truncate_count; i++) {
        struct event e = m->event;

        e.relation_id = cursor_get_u32_be(&ids);
        TRY(see_change(f, &e, err));
    }
    return 0;
}

static int see_logical_message(struct framer *f, struct pgoutput *m, struct error *err)
{
    if (!m->transactional)
        return 0;
    if (!f->in_transaction)
        return error_set(err, ERROR_PROTOCOL, "the stream has a transactional message outside of a transaction");
    if (f->stream) {
        framer_stream_message(f, &m->event);
        return 0;
    }
    f->messages_count += slice_equal(m->event.prefix, slice_str(FRAMER_HEARTBEAT_PREFIX));
    keep_event(f, &m->event);
    return 0;
}

/* --- transactions ------------------------------------------------------------------------------------------------ */

static int see_begin(struct framer *f, const struct pgoutput *m, struct error *err)
{
    if (f->in_transaction)
        return error_set(err, ERROR_PROTOCOL, "the stream has transaction %u inside transaction %u", m->xid, f->xid);
    f->in_transaction = true;
    f->number++;
    f->compare = m->final_lsn < f->durable_lsn;
    f->xid = m->xid;
    f->first_lsn = f->message_lsn;
    f->depending_count = 0;
    f->start_lsn = m->final_lsn;
    f->wall_us = m->commit_time_wall_us;
    f->part = 0;
    f->events_count = f->messages_count = 0;
    f->hash = (struct hash128){0};
    return 0;
}

/* Ranges that end with this commit get their end; those of what was written in it begin with it too. */
void framer_put_notes(struct framer *f, struct position position)
{
    char text[POSITION_TEXT_BYTES];
    json_t *note;
    size_t i;

    json_array_foreach(f->notes, i, note) {
        const char *how = json_string_value(json_object_get(note, "how"));

        if (!how || strcmp(how, "relation") != 0)
            json_set_str(note, "from", position_format(position, text));
        json_set_str(note, "to", position_format(position, text));
        frame_put_note(f->out, note);
        ASSERT(!f->out->overflow);
    }
}

void framer_tell_commit(struct framer *f, uint64_t end_lsn, struct framed *ret)
{
    *ret = (struct framed){.committed = true,
                           .compared = f->compare,
                           .content_known = !f->binary,
                           .heartbeat = f->events_count == 1 && f->messages_count == 1,
                           .by_trigger = f->by_trigger,
                           .xid = f->xid,
                           .start_lsn = f->start_lsn,
                           .end_lsn = end_lsn,
                           .wall_us = f->wall_us,
                           .events_count = f->events_count,
                           .hash = f->hash,
                           .notes = f->notes};
    f->notes = NULL;
    f->by_trigger = false;
    f->in_transaction = false;
}

static int see_commit(struct framer *f, const struct pgoutput *m, struct framed *ret, struct error *err)
{
    if (!f->in_transaction || f->stream || m->final_lsn != f->start_lsn || m->end_lsn <= m->final_lsn)
        return error_set(err, ERROR_PROTOCOL, "the stream has a commit that does not fit its transaction %u", f->xid);
    if (!f->compare) {
        framer_begin_part(f);
        framer_end_part(f, FRAME_PART_COMMIT, 0, m->end_lsn);
        framer_words_note_all(f);
        framer_put_notes(f, position_of_lsn(m->end_lsn));
        f->learned |= f->replaced_count > 0;
        settle_shapes(f, true);
        if (f->by_trigger) {
            f->trigger_lsn = m->end_lsn;
            framer_words_changed(f, m->end_lsn);
        }
    }
    framer_tell_commit(f, m->end_lsn, ret);
    return 0;
}

static int see_message(struct framer *f, struct pgoutput *m, struct framed *ret, struct error *err)
{
    switch (m->type) {
    case PGOUTPUT_BEGIN:
        return see_begin(f, m, err);
    case PGOUTPUT_COMMIT:
        return see_commit(f, m, ret, err);
    case PGOUTPUT_RELATION:
        see_relation(f, m);
        return 0;
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return see_change(f, &m->event, err);
    case PGOUTPUT_TRUNCATE:
        return see_truncate(f, m, err);
    case PGOUTPUT_MESSAGE:
        return see_logical_message(f, m, err);
    case PGOUTPUT_STREAM_START:
        return framer_stream_start(f, m, err);
    case PGOUTPUT_STREAM_STOP:
        return framer_stream_stop(f, err);
    case PGOUTPUT_STREAM_COMMIT:
        return framer_stream_commit(f, m, ret, err);
    case PGOUTPUT_STREAM_ABORT:
        return framer_stream_abort(f, m, err);
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
        return 0;
    }
    return error_set(err, ERROR_PROTOCOL, "a message of type 0x%02x", (unsigned)m->type);
}

int framer_message(struct framer *f, struct slice message, uint64_t lsn, struct framed *ret, struct error *err)
{
    struct pgoutput m;

    ret->committed = false;
    f->message_lsn = lsn;
    TRY(pgoutput_parse(message, f->stream != NULL, &f->room, &m, err));
    if (f->stream && m.xid)
        f->sub_xid = m.xid;
    int rc = see_message(f, &m, ret, err);
    pgoutput_release(&m);
    return rc;
}

/* --- sessions and buffers ---------------------------------------------------------------------------------------- */

void framer_begin_session(struct framer *f, uint32_t session, uint64_t durable_lsn, bool binary)
{
    ASSERT(!f->in_transaction && f->streams_count == 0);
    f->session = session;
    f->durable_lsn = durable_lsn;
    f->hashes_streams = durable_lsn > 0;
    f->binary = binary;
    f->last = NULL;
}

void framer_set_out(struct framer *f, struct buf *out, uint64_t file)
{
    ASSERT(!f->part_open && file > 0);
    f->out = out;
    f->file = file;
}

void framer_abandon(struct framer *f)
{
    if (f->part_open)
        f->out->n = f->part_at;
    f->part_open = false;
    f->part_events = 0;
    f->in_transaction = false;
    framer_streams_forget(f);
    forget_notes(f);
    settle_shapes(f, false);
}

bool framer_in_transaction(const struct framer *f) { return f->in_transaction; }
bool framer_in_new_transaction(const struct framer *f) { return f->in_transaction && !f->stream && !f->compare; }

void framer_schema_seen(struct framer *f, uint64_t lsn)
{
    if (lsn > f->seen_lsn)
        f->seen_lsn = lsn;
}
