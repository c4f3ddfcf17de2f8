/*
 * capture/note.c - the JSON of notes (docs/formats/events.md). Names of a database that is not in UTF-8 are shown as
 * well as UTF-8 can; a table is known by its id.
 */
#include "base/mem.h"
#include "capture/framer.h"

/* The length of the UTF-8 character at p, 0: none. Overlong forms and surrogates are left to jansson's own check. */
static size_t character_bytes(const uint8_t *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xC2 && p[0] < 0xE0 ? 2 : p[0] >= 0xE0 && p[0] < 0xF0 ? 3 : p[0] >= 0xF0 && p[0] < 0xF5 ? 4 : 0;

    if (n == 0 || n > left || p[0] == 0)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    if (n == 3 && ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] >= 0xA0)))
        return 0;
    if (n == 4 && ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] >= 0x90)))
        return 0;
    return n;
}

char *note_text(struct slice s)
{
    char *text = mem_alloc(s.n + 1);
    size_t out = 0;

    for (size_t i = 0; i < s.n;) {
        size_t n = character_bytes(s.p + i, s.n - i);

        if (n == 0) {
            text[out++] = '?';
            i++;
            continue;
        }
        memcpy(text + out, s.p + i, n);
        out += n;
        i += n;
    }
    text[out] = '\0';
    return text;
}

static void set_position(json_t *o, const char *key, struct position p)
{
    char text[POSITION_TEXT_BYTES];

    json_set_str(o, key, position_format(p, text));
}

json_t *note_range(const char *kind, const char *how, struct position from, struct position to, const char *reason)
{
    json_t *o = json_object();
    CLEANUP(mem_free_ptr) char *text = note_text(slice_str(reason));

    json_set_str(o, "kind", kind);
    if (how)
        json_set_str(o, "how", how);
    set_position(o, "from", from);
    set_position(o, "to", to);
    json_set_str(o, "reason", text);
    return o;
}

json_t *note_inexact(const char *table, uint32_t id, struct position from, struct position to, const char *reason)
{
    json_t *o = note_range(NOTE_INEXACT, NULL, from, to, reason);
    CLEANUP(mem_free_ptr) char *text = table ? note_text(slice_str(table)) : NULL;

    if (text)
        json_set_str(o, "table", text);
    json_set_u64(o, "id", id);
    return o;
}
