/*
 * engine/postgres/pg_globals.c - roles with attributes, memberships and settings, as statements, by pg_dumpall.
 *
 * Password verifiers come along where the role may read them (a superuser's), else roles come without. The text is cut
 * into statements here: replaying them one by one is the only way that an existing role (42710) is no obstacle.
 */
#include "engine/postgres/pg_tools.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/postgres/pg_tools_internal.h"

#define GLOBALS_BYTES_MAX  ((size_t)256 << 20)
#define GLOBALS_TIMEOUT_US (5 * 60 * CLOCK_US_PER_S)

/* --- cutting a script -------------------------------------------------------------------------------------------- */

struct scan {
    const uint8_t *p, *end;
};

static bool scan_at(const struct scan *s, const char *text)
{
    size_t n = strlen(text);

    return (size_t)(s->end - s->p) >= n && memcmp(s->p, text, n) == 0;
}

static void scan_line(struct scan *s)
{
    while (s->p < s->end && *s->p != '\n')
        s->p++;
}

/* At an opening quote; ends behind the closing one. A doubled quote closes and opens again, which comes to the same. */
static void scan_quoted(struct scan *s, uint8_t quote, bool backslashes)
{
    s->p++;
    while (s->p < s->end && *s->p != quote)
        s->p += backslashes && *s->p == '\\' && s->end - s->p > 1 ? 2 : 1;
    if (s->p < s->end)
        s->p++;
}

static bool is_word(uint8_t c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

/* At a '$': passes over $tag$ ... $tag$ where it is one. */
static void scan_dollar(struct scan *s)
{
    const uint8_t *tag_end = s->p + 1;

    while (tag_end < s->end && is_word(*tag_end))
        tag_end++;
    if (tag_end >= s->end || *tag_end != '$') {
        s->p++;
        return;
    }
    size_t n = (size_t)(tag_end - s->p) + 1;
    for (const uint8_t *q = s->p + n; (size_t)(s->end - q) >= n; q++) {
        if (memcmp(q, s->p, n) == 0) {
            s->p = q + n;
            return;
        }
    }
    s->p = s->end;
}

/* Passes over one piece of a statement: a quoted thing, a comment, a word, or a single character. */
static void scan_piece(struct scan *s, const uint8_t *statement)
{
    bool in_word = s->p > statement && is_word(s->p[-1]);

    if (*s->p == '\'')
        scan_quoted(s, '\'', in_word && (s->p[-1] | 0x20) == 'e');
    else if (*s->p == '"')
        scan_quoted(s, '"', false);
    else if (*s->p == '$' && !in_word)
        scan_dollar(s);
    else if (scan_at(s, "--"))
        scan_line(s);
    else
        s->p++;
}

/* Blank space, comments and psql's own lines between statements. */
static void scan_between(struct scan *s)
{
    while (s->p < s->end) {
        if (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')
            s->p++;
        else if (scan_at(s, "--") || *s->p == '\\')
            scan_line(s);
        else
            return;
    }
}

void sql_split(struct slice script, void (*fn)(void *user, struct slice statement), void *user)
{
    struct scan s = {script.p, script.n ? script.p + script.n : script.p};

    for (scan_between(&s); s.p < s.end; scan_between(&s)) {
        const uint8_t *begin = s.p;

        while (s.p < s.end && *s.p != ';')
            scan_piece(&s, begin);
        if (s.p > begin)
            fn(user, slice_of(begin, (size_t)(s.p - begin)));
        if (s.p < s.end)
            s.p++;
    }
}

/* --- roles ------------------------------------------------------------------------------------------------------- */

static void take_statement(void *user, struct slice statement)
{
    json_t *list = user;

    /* Settings of the script's own session. */
    if (statement.n >= 4 && memcmp(statement.p, "SET ", 4) == 0)
        return;
    /* A name that is not UTF-8 has no place in JSON; its role is one of those that rights or luck do not reach. */
    json_t *text = json_stringn((const char *)statement.p, statement.n);
    if (text)
        json_array_append_new(list, text);
}

static int run_dumpall(const char *bin, const char *conninfo, bool passwords, struct buf *out, struct error *err)
{
    const char *args[] = {"--roles-only",
                          "--no-password",
                          "--encoding=UTF8",
                          "-d",
                          conninfo,
                          passwords ? NULL : "--no-role-passwords",
                          NULL};

    return tools_run(bin, "pg_dumpall", args, slice_of(NULL, 0), GLOBALS_TIMEOUT_US, out, err);
}

int pg_dump_globals(const char *bin, const char *conninfo, json_t **ret_statements, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(GLOBALS_BYTES_MAX);
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    int rc = run_dumpall(bin, conninfo, true, &text, err);
    if (rc < 0 && strstr(err->message, "pg_authid")) {
        buf_clear(&text);
        rc = run_dumpall(bin, conninfo, false, &text, err);
    }
    if (rc < 0)
        return error_prefix(err, "reading the roles");
    *ret_statements = json_array();
    sql_split(buf_slice(&text), take_statement, *ret_statements);
    return 0;
}
