/* test/unit/capture/framed.h - a framer that is given messages, and its frames as a line of text. */
#ifndef SALVOR_TEST_FRAMED_H
#define SALVOR_TEST_FRAMED_H

#include "messages.h"

#include "base/mem.h"
#include "capture/framer.h"

#define T1 16400u
#define T2 16500u

struct scene {
    struct framer *framer;
    struct pg_names names;
    struct buf out, message;
    uint64_t lsn;         /* where the next message comes from */
    struct framed framed; /* of the last message */
};

static inline void open_scene(struct scene *s)
{
    say_xid = 0;
    *s = (struct scene){.out = BUF_INIT((size_t)64 << 20), .message = BUF_INIT((size_t)8 << 20)};
    pg_names_of("shop", &s->names);
    s->framer = framer_new(&s->names);
    framer_begin_session(s->framer, 1, 0, false);
    framer_set_out(s->framer, &s->out, 1);
}

static inline void close_scene(struct scene *s)
{
    framer_free(s->framer);
    buf_release(&s->out);
    buf_release(&s->message);
}

static inline void give(struct scene *s)
{
    struct error err = ERROR_INIT;

    if (s->framed.committed)
        json_decref(s->framed.notes);
    assert_ok(framer_message(s->framer, buf_slice(&s->message), s->lsn, &s->framed, &err), err);
}

#define SAY(scene_, what_, ...)                                                                                        \
    do {                                                                                                               \
        say_##what_(&(scene_)->message, __VA_ARGS__);                                                                  \
        give(scene_);                                                                                                  \
    } while (0)

static inline void end(struct scene *s)
{
    if (s->framed.committed)
        json_decref(s->framed.notes);
    s->framed.committed = false;
    close_scene(s);
}

/* The frames of out as a line: R<id>.<version>, P<flags>:<events>(<ops>), N<kind>. */
static inline char *frames_of(const struct buf *out)
{
    static struct event_columns room;
    struct cursor c = cursor_of(buf_slice(out));
    struct buf line = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;

    while (!cursor_done(&c)) {
        struct frame f;

        assert_ok(frame_decode(&c, &f, &err), err);
        if (f.type == FRAME_RELATION) {
            struct relation r;

            assert_ok(relation_decode(f.body, &r, &err), err);
            buf_printf(&line, "R%s%u.%u ", f.tentative ? "?" : "", r.id, r.version);
            relation_release(&r);
        } else if (f.type == FRAME_NOTE) {
            json_t *note;

            assert_ok(json_parse(f.body, "note", &note, &err), err);
            const char *how = json_string_value(json_object_get(note, "how"));
            buf_printf(&line, "N%s%s%s[%s,%s] ", json_string_value(json_object_get(note, "kind")), how ? "/" : "", how ? how : "",
                       json_string_value(json_object_get(note, "from")), json_string_value(json_object_get(note, "to")));
            json_decref(note);
        } else {
            struct cursor events = cursor_of(f.part.events);

            buf_printf(&line, "P%s%s", f.part.flags & FRAME_PART_FIRST ? "f" : "", f.part.flags & FRAME_PART_COMMIT ? "c" : "");
            if (f.part.flags & FRAME_PART_ABORT)
                buf_printf(&line, "a%u/", f.part.sub_xid);
            buf_printf(&line, "%u:", f.part.part);
            for (uint32_t i = 0; i < f.part.events_count; i++) {
                struct event e;

                assert_ok(event_decode(&events, &room, &e, &err), err);
                buf_printf(&line, "%c", e.op);
                if (e.op == EVENT_SUBTRANSACTION)
                    buf_printf(&line, "%u", e.sub_xid);
                else if (e.op != EVENT_MESSAGE)
                    buf_printf(&line, "%u.%u", e.relation_id, e.relation_version);
            }
            assert_true(cursor_done(&events));
            buf_printf(&line, " ");
        }
    }
    char *text = mem_strdup(buf_cstr(&line));
    buf_release(&line);
    return text;
}

#define assert_frames(scene_, expected_)                                                                               \
    do {                                                                                                               \
        char *frames_ = frames_of(&(scene_)->out);                                                                     \
        assert_string_equal(frames_, expected_);                                                                       \
        free(frames_);                                                                                                 \
        buf_clear(&(scene_)->out);                                                                                     \
    } while (0)

static inline void say_row(struct scene *s, uint64_t start, uint32_t table, const char *values)
{
    SAY(s, begin, start, (uint32_t)start);
    SAY(s, insert, table, values);
    SAY(s, commit, start, start + 40);
}

static inline void expect_protocol(struct scene *s)
{
    struct error err;

    assert_fails(framer_message(s->framer, buf_slice(&s->message), s->lsn, &s->framed, &err), err, ERROR_PROTOCOL);
    framer_abandon(s->framer);
    say_xid = 0;
}

/* Table t, of one column, was used once: version 1, at 0x1000. */
static inline void say_first_row(struct scene *s)
{
    SAY(s, begin, 0x1000, 5);
    SAY(s, relation, T1, "public", "t", "id");
    SAY(s, insert, T1, "1");
    SAY(s, commit, 0x1000, 0x1040);
    buf_clear(&s->out);
}

#endif
