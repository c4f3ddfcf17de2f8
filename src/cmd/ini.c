/*
 * cmd/ini.c - see ini.h. One pass, line by line; every error names file and line.
 */
#include "cmd/ini.h"

struct ini_state {
    const char *path;
    int line;
    struct slice kind, section; /* of the section we are in; kind.n == 0: none yet */
    ini_handler_fn handler;
    void *user;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trim(struct slice s)
{
    while (s.n > 0 && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* The line without its comment: '#' or ';' first, or '#' after a blank. */
static struct slice without_comment(struct slice line)
{
    struct slice s = trim(line);

    if (s.n > 0 && (s.p[0] == '#' || s.p[0] == ';'))
        return slice_of(s.p, 0);
    for (size_t i = 1; i < s.n; i++)
        if (s.p[i] == '#' && is_blank(s.p[i - 1]))
            return trim(slice_of(s.p, i));
    return s;
}

static int section_line(struct ini_state *st, struct slice s, struct error *err)
{
    if (s.n < 3 || s.p[s.n - 1] != ']')
        return error_set(err, ERROR_USAGE, "%s:%d: a section must look like [salvor], [vault NAME] or [source NAME]",
                         st->path, st->line);
    struct slice inner = trim(slice_of(s.p + 1, s.n - 2));
    size_t i = 0;
    while (i < inner.n && !is_blank(inner.p[i]))
        i++;
    st->kind = slice_of(inner.p, i);
    st->section = trim(slice_of(inner.p + i, inner.n - i));
    return st->handler(st->user, st->line, st->kind, st->section, slice_of(NULL, 0), slice_of(NULL, 0), err);
}

static int value_line(struct ini_state *st, struct slice s, struct error *err)
{
    const uint8_t *eq = memchr(s.p, '=', s.n);

    if (!eq || eq == s.p)
        return error_set(err, ERROR_USAGE, "%s:%d: expected NAME = VALUE, [SECTION] or a # comment", st->path,
                         st->line);
    if (st->kind.n == 0)
        return error_set(err, ERROR_USAGE, "%s:%d: a value before the first [section]", st->path, st->line);
    struct slice name = trim(slice_of(s.p, (size_t)(eq - s.p)));
    struct slice value = trim(slice_of(eq + 1, s.n - (size_t)(eq + 1 - s.p)));
    return st->handler(st->user, st->line, st->kind, st->section, name, value, err);
}

int ini_parse(struct slice text, const char *path, ini_handler_fn handler, void *user, struct error *err)
{
    struct ini_state st = {.path = path, .handler = handler, .user = user};
    size_t at = 0;

    if (text.n > 0 && memchr(text.p, 0, text.n))
        return error_set(err, ERROR_USAGE, "%s: holds a zero byte: not a configuration file", path);
    while (at < text.n) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t n = end ? (size_t)(end - (text.p + at)) : text.n - at;
        struct slice s = without_comment(slice_of(text.p + at, n));
        st.line++;
        at += n + 1;
        if (s.n == 0)
            continue;
        TRY(s.p[0] == '[' ? section_line(&st, s, err) : value_line(&st, s, err));
    }
    return 0;
}
