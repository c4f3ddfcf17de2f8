/*
 * cmd/location.c - see location.h. What is relative is made absolute once, where it is read: the same words go into a
 * configuration that another process reads from elsewhere.
 */
#include "cmd/location.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define HOW_TO_GIVE_A_KEY "add --key-file FILE or --passphrase-file FILE"

/* NULL stays NULL. Owner: caller. */
static int make_absolute(const char *path, char **ret, struct error *err)
{
    char here[PATH_MAX];

    *ret = NULL;
    if (!path)
        return 0;
    if (!path[0])
        return error_set(err, ERROR_USAGE, "an empty path");
    if (path[0] != '/' && !getcwd(here, sizeof here))
        return error_errno(err, errno, "cannot find out what directory '%s' begins in", path);
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    *ret = path[0] == '/' ? mem_strdup(path) : mem_printf("%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
    return 0;
}

void location_release(struct location *l)
{
    free(l->place);
    vault_url_release(&l->url);
    free(l->key_file);
    free(l->passphrase_file);
    *l = (struct location){0};
}

/* A word that means a store of another kind is no directory of that name. */
static int refuse_scheme(const char *place, struct error *err)
{
    size_t n = strcspn(place, ":/");

    if (strncmp(place + n, "://", 3) != 0 || strncmp(place, "s3://", 5) == 0)
        return 0;
    return error_set(err, ERROR_USAGE, "'%.*s://' is no place of a vault: name a directory, or s3://BUCKET/PREFIX?endpoint=...", (int)n,
                     place);
}

/* The place in one word again, its paths absolute. */
static int absolute_place(const struct vault_config *given, char **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = NULL;
    CLEANUP(mem_free_ptr) char *ca_file = NULL;
    CLEANUP(mem_free_ptr) char *credentials_file = NULL;
    struct vault_config c = *given;

    TRY(make_absolute(given->path, &path, err));
    TRY(make_absolute(given->ca_file, &ca_file, err));
    TRY(make_absolute(given->credentials_file, &credentials_file, err));
    c.path = path;
    c.ca_file = ca_file;
    c.credentials_file = credentials_file;
    *ret = vault_config_url(&c);
    return 0;
}

static int parse(const struct location_words *words, struct location *l, struct error *err)
{
    CLEANUP(vault_url_release) struct vault_url given = {0};

    TRY(refuse_scheme(words->place, err));
    TRY(vault_config_parse_url(words->place, LOCATION_NAME, &given, err));
    TRY(absolute_place(&given.config, &l->place, err));
    TRY(vault_config_parse_url(l->place, LOCATION_NAME, &l->url, err));
    TRY(make_absolute(words->key_file, &l->key_file, err));
    TRY(make_absolute(words->passphrase_file, &l->passphrase_file, err));
    l->url.config.key = (struct vault_key_source){.key_file = l->key_file, .passphrase_file = l->passphrase_file, .how = HOW_TO_GIVE_A_KEY};
    return 0;
}

int location_parse(const struct location_words *words, struct location *ret, struct error *err)
{
    struct location l = {0};

    if (words->key_file && words->passphrase_file)
        return error_set(err, ERROR_USAGE, "--key-file and --passphrase-file exclude each other");
    int rc = parse(words, &l, err);
    if (rc < 0) {
        location_release(&l);
        return rc;
    }
    *ret = l;
    return 0;
}

int location_open(const struct location *l, struct vault **ret, struct error *err)
{
    return vault_open(&l->url.config, ret, err);
}

static void put_option(struct buf *out, const char *name, const char *value)
{
    if (value && value[0])
        buf_printf(out, "%s = %s\n", name, value);
}

void location_options(const struct location *l, struct buf *out)
{
    const struct vault_config *c = &l->url.config;

    put_option(out, "driver", c->driver);
    put_option(out, "path", c->path);
    put_option(out, "endpoint", c->endpoint);
    put_option(out, "bucket", c->bucket);
    put_option(out, "prefix", c->prefix);
    put_option(out, "region", c->region);
    put_option(out, "style", c->style);
    put_option(out, "ca_file", c->ca_file);
    put_option(out, "credentials_file", c->credentials_file);
    put_option(out, "profile", c->profile);
    put_option(out, "key_file", l->key_file);
    put_option(out, "passphrase_file", l->passphrase_file);
}
