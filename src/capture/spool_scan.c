/*
 * capture/spool_scan.c - one pass over a spool file's frames. Events are not decoded.
 */
#include "capture/spool_scan.h"

#include "base/mem.h"

static int see_note(struct spool_summary *s, const struct frame *f, json_t *notes, struct error *err)
{
    JSON_AUTO note = NULL;
    uint64_t session;

    TRY(json_parse(f->body, "a note", &note, err));
    const char *kind = json_string_value(json_object_get(note, "kind"));
    if (kind && strcmp(kind, NOTE_SESSION) == 0) {
        TRY(json_get_u64(note, "session", "a session note", &session, err));
        if (session > s->session && session <= UINT32_MAX)
            s->session = (uint32_t)session;
    }
    if (notes)
        json_array_append(notes, note);
    return 0;
}

static void see_part(struct spool_summary *s, const struct frame_part *p)
{
    if (p->session > s->session)
        s->session = p->session;
    if (!(p->flags & FRAME_PART_COMMIT))
        return;
    if (s->commits_count++ == 0)
        s->first = p->position;
    s->last = p->position;
    s->last_start = p->commit_start;
    s->last_wall_us = p->commit_time_wall_us;
}

static int see_block(struct spool_summary *s, struct slice frames, json_t *notes, struct error *err)
{
    struct cursor c = cursor_of(frames);

    while (!cursor_done(&c)) {
        struct frame f;

        TRY(frame_decode(&c, &f, err));
        if (f.type == FRAME_PART)
            see_part(s, &f.part);
        else if (f.type == FRAME_NOTE)
            TRY(see_note(s, &f, notes, err));
    }
    return 0;
}

int spool_summarize(const char *path, const char *source, const char *incarnation, json_t *notes,
                    struct spool_summary *ret, struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;
    struct spool_summary s = {0};
    struct slice frames;
    int rc;

    TRY(spool_reader_open(path, source, incarnation, &r, err));
    s.header = *spool_reader_header(r);
    while ((rc = spool_reader_next(r, &frames, err)) > 0) {
        rc = see_block(&s, frames, notes, err);
        if (rc < 0)
            return error_prefix(err, "%s", path);
    }
    s.sealed = spool_reader_sealed(r);
    *ret = s;
    return rc;
}

int spool_header_read(const char *path, const char *source, const char *incarnation, struct spool_header *ret,
                      struct error *err)
{
    CLEANUP(spool_reader_free_ptr) struct spool_reader *r = NULL;

    TRY(spool_reader_open(path, source, incarnation, &r, err));
    *ret = *spool_reader_header(r);
    return 0;
}
