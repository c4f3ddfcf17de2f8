/*
 * vault/url.c - a vault's place in one word, for people and for the command line.
 *
 * What does not begin with "s3://" is a directory. Names of a query are the options of the configuration file. Secrets
 * have no place in it (I-13): "user:password@" is refused.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vault/vault.h"

#define SCHEME        "s3://"
#define URL_BYTES_MAX 4096

struct parameter {
    const char *name;
    size_t offset; /* of the text in struct vault_config */
};

#define PARAMETER(name_) {#name_, offsetof(struct vault_config, name_)}
static const struct parameter parameters[] = {PARAMETER(endpoint), PARAMETER(region),           PARAMETER(style),
                                              PARAMETER(ca_file),  PARAMETER(credentials_file), PARAMETER(profile)};

static const char **text_at(struct vault_config *c, const struct parameter *p)
{
    return (const char **)(void *)((char *)c + p->offset);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. A NUL or a control character is nothing that a place is made of. */
static int decode(char *text, struct error *err)
{
    char *to = text;

    for (const char *p = text; *p; p++) {
        char c = *p;

        if (c == '%') {
            int high = hex_digit(p[1]), low = high < 0 ? -1 : hex_digit(p[2]);
            if (low < 0)
                return error_set(err, ERROR_USAGE, "\"%%\" without two hex digits in the vault's address");
            c = (char)(high * 16 + low);
            p += 2;
        }
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return error_set(err, ERROR_USAGE, "a control character in the vault's address");
        *to++ = c;
    }
    *to = '\0';
    return 0;
}

static int take_parameter(struct vault_config *c, char *text, struct error *err)
{
    char *value = strchr(text, '=');

    if (value)
        *value++ = '\0';
    for (size_t i = 0; value && i < sizeof parameters / sizeof *parameters; i++) {
        if (strcmp(text, parameters[i].name) != 0)
            continue;
        TRY(decode(value, err));
        *text_at(c, &parameters[i]) = value;
        return 0;
    }
    return error_set(err, ERROR_USAGE,
                     "\"%.80s\" is no part of a vault's address: after the ? stand endpoint=, region=, style=, "
                     "ca_file=, credentials_file=, profile=",
                     text);
}

static int take_query(struct vault_config *c, char *query, struct error *err)
{
    while (query && *query) {
        char *next = strchr(query, '&');

        if (next)
            *next++ = '\0';
        TRY(take_parameter(c, query, err));
        query = next;
    }
    return 0;
}

static char *trim_slashes(char *text)
{
    text += strspn(text, "/");
    for (size_t n = strlen(text); n > 0 && text[n - 1] == '/'; n--)
        text[n - 1] = '\0';
    return text;
}

static int take_s3(struct vault_config *c, char *text, struct error *err)
{
    char *query = strchr(text, '?');

    c->driver = "s3";
    if (query)
        *query++ = '\0';
    if (strchr(text, '@'))
        return error_set(err, ERROR_USAGE, "a vault's address holds no user and no keys: those come from the "
                                           "environment or a credentials file");
    char *prefix = strchr(text, '/');
    if (prefix)
        *prefix++ = '\0';
    if (!*text)
        return error_set(err, ERROR_USAGE, "the vault's address names no bucket: s3://BUCKET/PREFIX?endpoint=...");
    c->bucket = text;
    if (prefix) {
        TRY(decode(prefix, err));
        c->prefix = trim_slashes(prefix);
    }
    return take_query(c, query, err);
}

int vault_config_parse_url(const char *url, const char *name, struct vault_url *ret, struct error *err)
{
    size_t n = strlen(url), name_n = strlen(name);

    if (n == 0 || n > URL_BYTES_MAX)
        return error_set(err, ERROR_USAGE, "a vault's address has 1 to %d characters", URL_BYTES_MAX);
    CLEANUP(mem_free_ptr) char *memory = mem_alloc(name_n + n + 2);
    memcpy(memory, name, name_n + 1);
    char *text = memory + name_n + 1;
    memcpy(text, url, n + 1);
    struct vault_config c = {.name = memory, .driver = "posix", .path = text};
    if (strncmp(url, SCHEME, strlen(SCHEME)) == 0) {
        c.path = NULL;
        TRY(take_s3(&c, text + strlen(SCHEME), err));
    }
    *ret = (struct vault_url){.config = c, .memory = memory};
    memory = NULL;
    return 0;
}

void vault_url_release(struct vault_url *u)
{
    free(u->memory);
    *u = (struct vault_url){0};
}

static void put_encoded(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("/:._~-", *text))
            buf_put_u8(b, (uint8_t)*text);
        else
            buf_printf(b, "%%%02X", (unsigned char)*text);
    }
}

char *vault_config_url(const struct vault_config *config)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT((size_t)16 * URL_BYTES_MAX);
    struct vault_config c = *config;
    char separator = '?';

    if (strcmp(c.driver, "s3") != 0)
        return mem_strdup(c.path);
    buf_printf(&b, SCHEME "%s", c.bucket);
    if (c.prefix && *c.prefix) {
        buf_put_u8(&b, '/');
        put_encoded(&b, c.prefix);
    }
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        const char *value = *text_at(&c, &parameters[i]);

        if (!value)
            continue;
        buf_printf(&b, "%c%s=", separator, parameters[i].name);
        put_encoded(&b, value);
        separator = '&';
    }
    return mem_strdup(buf_cstr(&b));
}
