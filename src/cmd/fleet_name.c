/*
 * cmd/fleet_name.c - names of the sources of a group, and what `databases` says. Nothing here asks anybody.
 *
 * A name must be legal as a section's, in a vault's keys, in a slot's and publications' names and as a folder, and must be the same whenever it
 * is made again. So what is legal stays as it is, and the rest gets digits of its digest. A database whose own legal name looks like one with
 * digits gets digits as well: otherwise two databases could have one name.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/fleet.h"

#define NAME_BYTES_MAX 40
#define MARK "_x"
#define DIGITS 10

static bool has_digits(const char *name)
{
    size_t n = strlen(name), tail = sizeof MARK - 1 + DIGITS;

    return n >= tail && memcmp(name + n - tail, MARK, sizeof MARK - 1) == 0 && strspn(name + n - DIGITS, "0123456789abcdef") == DIGITS;
}

static char legal_of(char byte)
{
    if (byte >= 'A' && byte <= 'Z')
        return (char)(byte - 'A' + 'a');
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ? byte : '_';
}

/* The head of a database's name as far as there is room, and digits. */
static char *name_with_digits(const char *group, const char *database, uint32_t salt)
{
    CLEANUP(mem_free_ptr) char *salted = salt ? mem_printf("%u/%s", salt, database) : mem_strdup(database);
    size_t room = NAME_BYTES_MAX - strlen(group) - (sizeof FLEET_PARTED - 1) - (sizeof MARK - 1) - DIGITS, n = 0;
    struct digest d = digest_of(slice_str(salted));
    char digits[DIGEST_TEXT_BYTES], head[NAME_BYTES_MAX];

    for (; n < room && database[n]; n++)
        head[n] = legal_of(database[n]);
    return mem_printf("%s" FLEET_PARTED "%.*s" MARK "%.*s", group, (int)n, head, DIGITS, digest_format(&d, digits));
}

char *fleet_source_name(const char *group, const char *database, uint32_t salt)
{
    CLEANUP(mem_free_ptr) char *plain = mem_printf("%s" FLEET_PARTED "%s", group, database);

    ASSERT(strlen(group) <= FLEET_GROUP_BYTES_MAX);
    if (salt == 0 && database[0] && text_is_name(plain) && !has_digits(database))
        return mem_strdup(plain);
    return name_with_digits(group, database, salt);
}

/* --- databases = shop, "Odd, name" | *, !scratch ------------------------------------------------------------------------- */

void fleet_wish_release(struct fleet_wish *w)
{
    for (size_t i = 0; i < w->count; i++)
        free(w->names[i]);
    free(w->names);
    *w = (struct fleet_wish){0};
}

bool fleet_wish_has(const struct fleet_wish *w, const char *database)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->names[i], database) == 0)
            return !w->all;
    return w->all;
}

/* "Odd ""name""": quotes as in SQL. */
static int take_quoted(const char **at, struct buf *out, struct error *err)
{
    const char *p = *at + 1;

    for (; *p && (p[0] != '"' || p[1] == '"'); p++) {
        p += p[0] == '"';
        buf_put_u8(out, (uint8_t)*p);
    }
    if (!*p)
        return error_set(err, ERROR_USAGE, "has a quote without its end (a # after a blank begins a comment)");
    *at = p + 1;
    return 0;
}

static void take_plain(const char **at, struct buf *out)
{
    size_t n = strcspn(*at, ","), end = n;

    while (end > 0 && ((*at)[end - 1] == ' ' || (*at)[end - 1] == '\t'))
        end--;
    buf_put(out, *at, end);
    *at += n;
}

static int add_name(struct fleet_wish *w, const struct buf *name, bool left_out, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = mem_strndup((const char *)name->p, name->n);

    if (name->n == 0 || name->n > 63 || name->overflow)
        return error_set(err, ERROR_USAGE, "must be names of databases (1 to 63 bytes) parted by commas, or *; one with a comma stands in double quotes");
    if (left_out != w->all)
        return error_set(err, ERROR_USAGE, left_out ? "leaves out '%s' from what is not *: write *, !%s" : "names '%s' beside *, which has it already", text, text);
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->names[i], text) == 0)
            return error_set(err, ERROR_USAGE, "names '%s' twice", text);
    w->names = mem_resize(w->names, w->count + 1, sizeof *w->names);
    w->names[w->count++] = mem_strdup(text);
    return 0;
}

static int take_item(struct fleet_wish *w, const char **at, struct error *err)
{
    CLEANUP(buf_release) struct buf name = BUF_INIT(256);
    bool left_out = **at == '!';

    *at += left_out;
    bool quoted = **at == '"';
    if (quoted)
        TRY(take_quoted(at, &name, err));
    else
        take_plain(at, &name);
    if (!left_out && !quoted && name.n == 1 && name.p[0] == '*') {
        if (w->all || w->count > 0)
            return error_set(err, ERROR_USAGE, "must have * once, at its beginning");
        w->all = true;
    } else {
        TRY(add_name(w, &name, left_out, err));
    }
    *at += strspn(*at, " \t");
    if (**at && **at != ',')
        return error_set(err, ERROR_USAGE, "has '%s' behind a name in quotes", *at);
    return 0;
}

int fleet_wish_parse(const char *text, struct fleet_wish *ret, struct error *err)
{
    CLEANUP(fleet_wish_release) struct fleet_wish w = {0};

    for (const char *p = text;; p++) {
        p += strspn(p, " \t");
        TRY(take_item(&w, &p, err));
        if (!*p)
            break;
    }
    *ret = w;
    w = (struct fleet_wish){0};
    return 0;
}
