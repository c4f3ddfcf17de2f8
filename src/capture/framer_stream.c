/*
 * capture/framer_stream.c - transactions that the server sends before they have ended, block by block between those of others.
 *
 * Their parts are framed as they come, so that they are durable before the commit is; the number of the session tells a reader which of
 * them count. While a block is being sent its transaction stands in the framer's open one; between blocks it is kept here.
 *
 * What a block says of a relation holds for its transaction alone: the server says it again to others, and again after a
 * subtransaction was undone in which it was said (seen on PostgreSQL 15: a rolled back ALTER TABLE). Only the commit makes it
 * known to all, unless somebody was told later. A version number is given at the first use and belongs to one shape for good; the
 * definition is marked as tentative, so that after a restart a shape counts as known only when its transaction committed.
 * Notes, too, belong to a subtransaction until the commit.
 *
 * While the server sends again what is durable, nobody knows of a transaction whether it is: it is framed and hashed. Undone
 * subtransactions leave the hash by going back to where they began: all changes after a subtransaction's first one belong to what is
 * undone with it.
 *
 * A crash, or a session that breaks, leaves parts without a commit of their session: they are void.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "capture/framer_internal.h"

#define MARKS_MAX ((size_t)1 << 20) /* 48 MiB; with more subtransactions the content is not compared */

/* A relation as a streamed transaction was told of it. */
struct told {
    struct known *known;
    struct relation shape; /* version 0: not used yet */
    uint32_t sub_xid;      /* to which it was told */
    uint64_t file;         /* in which this version was defined last for this transaction */
    uint64_t stamp;
    bool helper;
};

struct stream_note {
    json_t *note;
    uint32_t sub_xid;
    bool by_trigger;
};

/* What was before the first change of a subtransaction. */
struct mark {
    uint32_t sub_xid;
    uint64_t events_count;
    struct hash128 hash;
};

struct stream {
    uint32_t xid;
    uint32_t part;
    uint64_t first_file;
    uint64_t first_lsn; /* of its first change */
    uint64_t events_count, messages_count;
    struct told *told;
    size_t told_count, told_cap;
    struct stream_note *notes;
    size_t notes_count, notes_cap;

    bool hashed; /* all its changes were */
    struct hash128 hash;
    struct mark *marks;
    size_t marks_count, marks_cap;
    struct idmap marked; /* by sub_xid: the place in marks + 1, which may be stale */
};

/* --- the list ---------------------------------------------------------------------------------------------------- */

static struct stream *find(const struct framer *f, uint32_t xid)
{
    for (size_t i = 0; i < f->streams_count; i++)
        if (f->streams[i]->xid == xid)
            return f->streams[i];
    return NULL;
}

static struct stream *add(struct framer *f, uint32_t xid)
{
    struct stream *s = mem_zalloc(1, sizeof *s);

    s->xid = xid;
    s->first_lsn = f->message_lsn;
    s->hashed = f->hashes_streams;
    MEM_GROW(f->streams, f->streams_cap, f->streams_count);
    f->streams[f->streams_count++] = s;
    return s;
}

static void forget_marks(struct stream *s)
{
    free(s->marks);
    idmap_release(&s->marked);
    s->marks = NULL;
    s->marks_count = s->marks_cap = 0;
    s->hashed = false;
}

static void stream_free(struct stream *s)
{
    for (size_t i = 0; i < s->told_count; i++)
        relation_release(&s->told[i].shape);
    for (size_t i = 0; i < s->notes_count; i++)
        json_decref(s->notes[i].note);
    forget_marks(s);
    free(s->told);
    free(s->notes);
    free(s);
}

static void drop(struct framer *f, struct stream *s)
{
    size_t i = 0;

    while (f->streams[i] != s)
        i++;
    f->streams[i] = f->streams[--f->streams_count];
    stream_free(s);
}

void framer_streams_forget(struct framer *f)
{
    while (f->streams_count > 0)
        drop(f, f->streams[f->streams_count - 1]);
    f->stream = NULL;
    f->sub_xid = 0;
}

uint64_t framer_oldest_open_file(const struct framer *f)
{
    bool whole = f->in_transaction && !f->stream && !f->compare && f->part > 0;
    uint64_t oldest = whole ? f->first_file : 0;

    ASSERT(!f->part_open);
    for (size_t i = 0; i < f->streams_count; i++) {
        const struct stream *s = f->streams[i];
        bool here = s == f->stream;
        uint64_t file = (here ? f->part : s->part) == 0 ? 0 : here ? f->first_file : s->first_file;

        if (file && (!oldest || file < oldest))
            oldest = file;
    }
    return oldest;
}

void framer_end_comparison(struct framer *f)
{
    f->hashes_streams = false;
    for (size_t i = 0; i < f->streams_count; i++)
        forget_marks(f->streams[i]);
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

/* The transaction becomes the framer's open one. */
static void enter(struct framer *f, struct stream *s)
{
    f->in_transaction = true;
    f->compare = false;
    f->number++;
    f->xid = f->sub_xid = s->xid;
    f->part = s->part;
    f->first_file = s->first_file;
    f->first_lsn = s->first_lsn;
    f->stream = s;
}

static void leave(struct framer *f)
{
    framer_cut(f);
    f->stream->part = f->part;
    f->stream->first_file = f->first_file;
    f->stream = NULL;
    f->sub_xid = 0;
    f->in_transaction = false;
}

int framer_stream_start(struct framer *f, const struct pgoutput *m, struct error *err)
{
    struct stream *s = find(f, m->xid);

    if (f->in_transaction)
        return error_set(err, ERROR_PROTOCOL, "the stream has a block of transaction %u inside transaction %u", m->xid, f->xid);
    if (m->first != (s == NULL))
        return error_set(err, ERROR_PROTOCOL, "the stream has a block of transaction %u that is %s the first one", m->xid,
                         m->first ? "again" : "not");
    enter(f, s ? s : add(f, m->xid));
    return 0;
}

int framer_stream_stop(struct framer *f, struct error *err)
{
    if (!f->stream)
        return error_set(err, ERROR_PROTOCOL, "the stream has the end of a block that did not begin");
    leave(f);
    return 0;
}

/* --- relations --------------------------------------------------------------------------------------------------- */

/* The newest that it was told of the relation; NULL: nothing. */
static struct told *told_of(const struct stream *s, struct known *k)
{
    if (k->hint_stream == s && k->hint < s->told_count && s->told[k->hint].known == k)
        return &s->told[k->hint];
    for (size_t i = s->told_count; i-- > 0;)
        if (s->told[i].known == k) {
            k->hint_stream = s;
            k->hint = i;
            return &s->told[i];
        }
    return NULL;
}

/* Takes the shape over. */
static struct told *tell(struct framer *f, struct stream *s, struct known *k, struct relation shape, uint32_t sub_xid)
{
    MEM_GROW(s->told, s->told_cap, s->told_count);
    k->hint_stream = s;
    k->hint = s->told_count;
    struct told *t = &s->told[s->told_count++];
    *t = (struct told){.known = k, .shape = shape, .sub_xid = sub_xid, .stamp = ++f->stamp, .helper = framer_is_helper(f, &shape)};
    t->shape.version = 0;
    return t;
}

void framer_stream_relation(struct framer *f, struct pgoutput *m)
{
    struct stream *s = f->stream;
    struct known *k = framer_known(f, m->relation.id);
    struct told *t = told_of(s, k);

    /* The same once more, and it lasts no longer than what was told before. */
    if (t && relation_same_shape(&t->shape, &m->relation) && (t->sub_xid == s->xid || t->sub_xid == f->sub_xid)) {
        t->stamp = ++f->stamp;
        return;
    }
    (void)tell(f, s, k, m->relation, f->sub_xid);
    m->relation = (struct relation){0};
}

static int relation_of_event(struct framer *f, uint32_t id, struct told **ret, struct error *err)
{
    struct known *k = f->last && f->last->current.id == id ? f->last : idmap_get(&f->relations, id);
    struct told *t = k ? told_of(f->stream, k) : NULL;

    if (!t && k && k->session == f->session) {
        struct relation shape;

        relation_copy(&shape, &k->current);
        t = tell(f, f->stream, k, shape, f->stream->xid);
        t->stamp = k->told_stamp;
    }
    if (!t)
        return error_set(err, ERROR_PROTOCOL, "the stream has a change of relation %u, which it has not described to transaction %u", id,
                         f->xid);
    *ret = t;
    return 0;
}

/* One number for one shape: the committed one's, that of an earlier description in this transaction, or a new one. */
static uint32_t version_of(struct framer *f, const struct told *t)
{
    struct known *k = t->known;

    if (k->framed.version > 0 && relation_same_shape(&k->framed, &t->shape))
        return k->framed.version;
    for (size_t i = f->stream->told_count; i-- > 0;) {
        const struct told *other = &f->stream->told[i];

        if (other->known == k && other->shape.version > 0 && relation_same_shape(&other->shape, &t->shape))
            return other->shape.version;
    }
    return framer_next_version(f, k);
}

/* The version is defined in this file. */
static void define(struct framer *f, struct told *t)
{
    struct known *k = t->known;

    if (t->shape.version == 0)
        t->shape.version = version_of(f, t);
    if (t->file == f->file)
        return;
    t->file = f->file;
    bool committed = t->shape.version == k->framed.version;
    if (committed && k->file == f->file)
        return;
    framer_cut(f);
    if (committed) {
        frame_put_relation(f->out, &k->framed);
        k->file = f->file;
    } else {
        frame_put_relation_tentative(f->out, &t->shape);
    }
    ASSERT(!f->out->overflow);
}

/* --- changes ----------------------------------------------------------------------------------------------------- */

static void mark(struct stream *s, uint32_t sub_xid)
{
    size_t at = (size_t)(uintptr_t)idmap_get(&s->marked, sub_xid);

    if (at > 0 && at <= s->marks_count && s->marks[at - 1].sub_xid == sub_xid)
        return;
    if (s->marks_count == MARKS_MAX) {
        forget_marks(s);
        return;
    }
    MEM_GROW(s->marks, s->marks_cap, s->marks_count);
    s->marks[s->marks_count++] = (struct mark){.sub_xid = sub_xid, .events_count = s->events_count, .hash = s->hash};
    (void)idmap_put(&s->marked, sub_xid, (void *)(uintptr_t)s->marks_count); /* NOLINT: a number in a pointer's place */
}

static void back_to_mark(struct stream *s, uint32_t sub_xid)
{
    size_t at = (size_t)(uintptr_t)idmap_get(&s->marked, sub_xid);

    if (at == 0 || at > s->marks_count || s->marks[at - 1].sub_xid != sub_xid)
        return;
    s->hash = s->marks[at - 1].hash;
    s->events_count = s->marks[at - 1].events_count;
    s->marks_count = at - 1;
}

static void keep_event(struct framer *f, const struct event *e)
{
    struct stream *s = f->stream;

    if (s->hashed && f->sub_xid != s->xid)
        mark(s, f->sub_xid);
    if (s->hashed)
        framer_hash_event(&s->hash, &f->scratch, e);
    s->events_count++;
    framer_put_event(f, e);
}

static bool note_helper_row(struct framer *f, const struct told *t, const struct event *e)
{
    struct stream *s = f->stream;
    json_t *note = framer_ddl_note(f, &t->shape, e);

    if (!note)
        return false;
    MEM_GROW(s->notes, s->notes_cap, s->notes_count);
    s->notes[s->notes_count++] = (struct stream_note){.note = note, .sub_xid = f->sub_xid, .by_trigger = true};
    return true;
}

int framer_stream_change(struct framer *f, struct event *e, struct error *err)
{
    struct told *t;

    TRY(relation_of_event(f, e->relation_id, &t, err));
    if (t->helper && !note_helper_row(f, t, e))
        return 0;
    define(f, t);
    f->last = t->known;
    e->relation_version = t->shape.version;
    keep_event(f, e);
    return 0;
}

void framer_stream_message(struct framer *f, const struct event *e)
{
    f->stream->messages_count += slice_equal(e->prefix, slice_str(FRAMER_HEARTBEAT_PREFIX));
    keep_event(f, e);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static void put_abort(struct framer *f, struct stream *s, uint32_t sub_xid)
{
    if (s->part == 0)
        return; /* nothing of it was framed */
    enter(f, s);
    framer_begin_part(f);
    framer_end_part(f, FRAME_PART_ABORT, sub_xid, 0);
    leave(f);
}

static void undo_subtransaction(struct stream *s, uint32_t sub_xid)
{
    size_t told = 0, notes = 0;

    for (size_t i = 0; i < s->told_count; i++) {
        if (s->told[i].sub_xid == sub_xid) {
            relation_release(&s->told[i].shape);
            continue;
        }
        s->told[told] = s->told[i];
        s->told[told].known->hint_stream = s;
        s->told[told].known->hint = told;
        told++;
    }
    for (size_t i = 0; i < s->notes_count; i++) {
        if (s->notes[i].sub_xid == sub_xid)
            json_decref(s->notes[i].note);
        else
            s->notes[notes++] = s->notes[i];
    }
    s->told_count = told;
    s->notes_count = notes;
    if (s->hashed)
        back_to_mark(s, sub_xid);
}

int framer_stream_abort(struct framer *f, const struct pgoutput *m, struct error *err)
{
    struct stream *s = find(f, m->xid);

    if (f->in_transaction)
        return error_set(err, ERROR_PROTOCOL, "the stream undoes transaction %u inside transaction %u", m->xid, f->xid);
    if (!s)
        return 0; /* nothing of it was sent */
    if (m->sub_xid == m->xid) {
        put_abort(f, s, 0);
        drop(f, s);
        return 0;
    }
    put_abort(f, s, m->sub_xid);
    undo_subtransaction(s, m->sub_xid);
    return 0;
}

/* Shapes that were used and are not those framed last: each relation is noted once, whatever it went through. */
static void note_new_shapes(struct framer *f, const struct stream *s)
{
    for (size_t i = 0; i < s->told_count; i++) {
        const struct told *t = &s->told[i];
        struct known *k = t->known;

        if (t->shape.version == 0 || k->framed.version == 0 || k->noted_in == f->number || relation_same_shape(&k->framed, &t->shape))
            continue;
        framer_note_new_shape(f, k, &t->shape);
        k->noted_in = f->number;
    }
}

/* What it used last is what is framed from here on, and known after a restart: it is defined for good before the commit. */
static void settle_shapes(struct framer *f, struct stream *s)
{
    for (size_t i = s->told_count; i-- > 0;) {
        struct told *t = &s->told[i];
        struct known *k = t->known;

        if (t->shape.version == 0 || k->settled_in == f->number)
            continue;
        k->settled_in = f->number;
        if (f->start_lsn > k->used_lsn)
            k->used_lsn = f->start_lsn;
        /* A lower number: somebody committed a newer shape meanwhile. */
        if (t->shape.version <= k->framed.version)
            continue;
        relation_release(&k->framed);
        relation_copy(&k->framed, &t->shape);
        frame_put_relation(f->out, &k->framed);
        ASSERT(!f->out->overflow);
        k->file = f->file;
        f->learned = true;
    }
}

/* The server takes for known to all what it told this one, unless it told somebody later. */
static void share_descriptions(struct framer *f, struct stream *s)
{
    for (size_t i = 0; i < s->told_count; i++) {
        struct told *t = &s->told[i];
        struct known *k = t->known;

        if (k->session == f->session && t->stamp <= k->told_stamp) {
            k->same = k->framed.version > 0 && relation_same_shape(&k->framed, &k->current);
            continue;
        }
        relation_release(&k->current);
        k->current = t->shape;
        k->current.version = 0;
        t->shape = (struct relation){0};
        k->session = f->session;
        k->told_stamp = t->stamp;
        k->helper = t->helper;
        k->same = k->framed.version > 0 && relation_same_shape(&k->framed, &k->current);
    }
}

static void take_notes(struct framer *f, struct stream *s)
{
    for (size_t i = 0; i < s->notes_count; i++) {
        f->by_trigger |= s->notes[i].by_trigger;
        framer_note(f, s->notes[i].note);
    }
    s->notes_count = 0;
}

static void note_words(struct framer *f, const struct stream *s)
{
    for (size_t i = 0; i < s->told_count; i++)
        if (s->told[i].shape.version > 0)
            framer_words_note(f, s->told[i].known, &s->told[i].shape);
}

static void put_commit(struct framer *f, struct stream *s, uint64_t end_lsn)
{
    take_notes(f, s);
    note_new_shapes(f, s);
    note_words(f, s);
    settle_shapes(f, s);
    framer_begin_part(f);
    framer_end_part(f, FRAME_PART_COMMIT, 0, end_lsn);
    framer_put_notes(f, position_of_lsn(end_lsn));
    if (f->by_trigger) {
        f->trigger_lsn = end_lsn;
        framer_words_changed(f, end_lsn);
    }
}

int framer_stream_commit(struct framer *f, const struct pgoutput *m, struct framed *ret, struct error *err)
{
    struct stream *s = find(f, m->xid);

    if (f->in_transaction || !s || m->end_lsn <= m->final_lsn)
        return error_set(err, ERROR_PROTOCOL, "the stream has a commit of transaction %u that does not fit it", m->xid);
    bool compare = m->final_lsn < f->durable_lsn;
    if (compare)
        put_abort(f, s, 0);
    enter(f, s);
    f->start_lsn = m->final_lsn;
    f->wall_us = m->commit_time_wall_us;
    if (!compare)
        put_commit(f, s, m->end_lsn);
    share_descriptions(f, s);
    f->compare = compare;
    f->events_count = s->events_count;
    f->messages_count = s->messages_count;
    f->hash = s->hash;
    framer_tell_commit(f, m->end_lsn, ret);
    ret->content_known = s->hashed;
    f->stream = NULL;
    f->sub_xid = 0;
    drop(f, s);
    return 0;
}

bool framer_is_new_commit(const struct framer *f, struct slice message)
{
    struct error ignored = ERROR_INIT;
    struct pgoutput m;

    if (message.n == 0 || message.p[0] != PGOUTPUT_STREAM_COMMIT || f->stream)
        return false;
    return pgoutput_parse(message, false, NULL, &m, &ignored) >= 0 && m.final_lsn >= f->durable_lsn;
}
