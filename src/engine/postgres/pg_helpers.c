/*
 * engine/postgres/pg_helpers.c - helpers.sql with its words filled in.
 *
 * A word stands between two @; all that are filled in are names of ours ([a-z0-9_]), quoted identifiers or quoted
 * literals, so that the text is the same statement whatever the configuration says. An unknown word is our own fault.
 */
#include "engine/postgres/pg_protect_internal.h"

#include <string.h>

/* Made from helpers.sql by the build. */
extern const char pg_helpers_template[];

struct word {
    const char *name;
    const char *value;
};

/* An array literal for ANY (...::text[]); the elements are quoted inside it, the whole is quoted for SQL. */
static void put_text_array(struct buf *out, const char *const *items)
{
    CLEANUP(buf_release) struct buf array = BUF_INIT(PROTECT_SQL_BYTES_MAX);

    buf_put_u8(&array, '{');
    for (size_t i = 0; items && items[i]; i++) {
        buf_printf(&array, "%s\"", i > 0 ? "," : "");
        for (const char *p = items[i]; *p; p++) {
            if (*p == '"' || *p == '\\')
                buf_put_u8(&array, '\\');
            buf_put_u8(&array, (uint8_t)*p);
        }
        buf_put_u8(&array, '"');
    }
    buf_put_u8(&array, '}');
    pg_quote_literal(out, buf_cstr(&array));
}

static const char *value_of(const struct word *words, size_t count, const char *name, size_t n)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(words[i].name) == n && memcmp(words[i].name, name, n) == 0)
            return words[i].value;
    }
    return NULL;
}

static void fill_in(const char *template, const struct word *words, size_t count, struct buf *out)
{
    for (const char *p = template; *p;) {
        size_t plain = strcspn(p, "@");

        buf_put(out, p, plain);
        p += plain;
        if (!*p)
            break;
        size_t n = strcspn(p + 1, "@");
        const char *value = value_of(words, count, p + 1, n);
        ASSERT(value && p[n + 1] == '@');
        buf_put(out, value, strlen(value));
        p += n + 2;
    }
}

void helpers_script(const struct pg_protect_config *config, const struct pg_names *names, const char *role,
                    struct buf *out)
{
    CLEANUP(buf_release) struct buf quoted_role = BUF_INIT(PROTECT_SQL_BYTES_MAX);
    CLEANUP(buf_release) struct buf full = BUF_INIT(PROTECT_SQL_BYTES_MAX);
    CLEANUP(buf_release) struct buf inserts = BUF_INIT(PROTECT_SQL_BYTES_MAX);

    pg_quote_ident(&quoted_role, role);
    put_text_array(&full, config->identity_full_tables);
    put_text_array(&inserts, config->identity_inserts_tables);
    const struct word words[] = {
        {"schema", names->schema},
        {"rows", names->publication_rows},
        {"keys", names->publication_keys},
        {"slot", names->slot},
        {"role", buf_cstr(&quoted_role)},
        {"full", config->identity == PG_IDENTITY_FULL ? "true" : "false"},
        {"full_tables", buf_cstr(&full)},
        {"inserts_tables", buf_cstr(&inserts)},
        {"given", GIVEN_COMMENT},
        {"trigger_start", names->trigger_start},
        {"trigger_ddl", names->trigger_ddl},
        {"trigger_drop", names->trigger_drop},
    };

    fill_in(pg_helpers_template, words, sizeof words / sizeof *words, out);
}
