/*
 * vault/vault.c - making and opening a vault, and what it holds.
 *
 * VAULT is written last: a vault without it was never finished, and making it again is good. Objects of sources without
 * a VAULT are a vault that lost it; nothing is made over that.
 */
#include "vault/vault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "vault/capabilities.h"
#include "vault/object.h"
#include "vault/seal.h"

#define VAULT_OBJECT  "VAULT"
#define FEATURE_SEALED "sealed" /* incompatible: objects are encrypted */

static int open_driver(const struct vault_config *config, bool make, struct vault_driver **ret, struct error *err)
{
    if (strcmp(config->driver, "posix") == 0)
        return watched_posix_open(config->path, make, ret, err);
    if (strcmp(config->driver, "s3") == 0)
        return s3_driver_open(config, ret, err);
    return error_set(err, ERROR_USAGE, "vault %s: there is no driver \"%s\"; use posix or s3", config->name, config->driver);
}

static void driver_done(struct vault_driver **d)
{
    if (*d)
        (*d)->ops->free(*d);
}

/* s3://bucket/prefix or a directory. Owner: caller. */
static char *place_of(const struct vault_config *config)
{
    if (strcmp(config->driver, "s3") != 0)
        return mem_strdup(config->path);
    const struct vault_config short_form = {.driver = "s3", .bucket = config->bucket, .prefix = config->prefix};
    return vault_config_url(&short_form);
}

static int refuse_foreign(void *user, const char *name, struct error *err)
{
    const struct vault_config *config = user;
    CLEANUP(mem_free_ptr) char *place = place_of(config);

    if (strcmp(name, "capabilities/") == 0 || strcmp(name, "keys/") == 0)
        return 0; /* of an attempt that was cut short */
    return error_set(err, ERROR_REFUSED,
                     "vault %s: %s holds \"%s\" but no VAULT object; if it was a vault, put its VAULT back, else name "
                     "an empty place",
                     config->name, place, name);
}

static int check_absent(struct vault_driver *d, const struct vault_config *config, struct error *err)
{
    CLEANUP(mem_free_ptr) char *place = place_of(config);
    uint64_t bytes;
    int rc = d->ops->size(d, VAULT_OBJECT, &bytes, err);

    if (rc >= 0)
        return error_set(err, ERROR_EXISTS, "vault %s: there is a vault at %s already", config->name, place);
    if (rc != -ERROR_NOT_FOUND)
        return rc;
    return d->ops->list_names(d, "", refuse_foreign, (void *)(uintptr_t)config, err);
}

static int probe(struct vault_driver *d, const struct vault_config *config, struct error *err)
{
    CLEANUP(mem_free_ptr) char *place = place_of(config);
    struct vault_capabilities capabilities = {0};

    TRY(d->ops->probe(d, &capabilities, err));
    if (!capabilities.put_if_absent_atomic)
        return error_set(err, ERROR_REFUSED,
                         "vault %s: at %s two writers of one name can both believe that they were first; a vault needs "
                         "a store where exactly one is",
                         config->name, place);
    return capabilities_store(d, &capabilities, err);
}

int vault_make(const struct vault_config *config, struct error *err)
{
    CLEANUP(driver_done) struct vault_driver *d = NULL;
    JSON_AUTO o = json_object();
    uint8_t random[16];
    char id[2 * sizeof random + 1];

    TRY(open_driver(config, true, &d, err));
    TRY(check_absent(d, config, err));
    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), id);
    TRY(probe(d, config, err));
    bool sealed = vault_key_given(config->name, &config->key);
    if (sealed)
        TRY(vault_keys_make(d, config->name, &config->key, id, err));
    object_set_format(o, VAULT_FORMAT);
    if (sealed)
        object_set_incompatible(o, FEATURE_SEALED);
    json_set_str(o, "id", id);
    json_set_i64(o, "made_wall_us", clock_wall_us());
    return object_put_json(d, VAULT_OBJECT, o, err);
}

static int no_vault(const struct vault_config *config, struct error *err)
{
    CLEANUP(mem_free_ptr) char *place = place_of(config);
    bool s3 = strcmp(config->driver, "s3") == 0;

    return error_set(err, ERROR_NOT_FOUND,
                     "vault %s: there is no vault at %s; make it with `salvor init`, or, if it should be there, see that %s",
                     config->name, place, s3 ? "bucket and prefix are the right ones" : "its file system is mounted");
}

static int read_identity(struct vault *v, const struct vault_config *config, bool *ret_sealed, struct error *err)
{
    CLEANUP(mem_free_ptr) char *place = place_of(config);
    JSON_AUTO o = NULL;
    const char *id;
    uint8_t b[16];

    int rc = object_get_json(v->driver, VAULT_OBJECT, &o, NULL, err);
    if (rc == -ERROR_NOT_FOUND)
        return no_vault(config, err);
    if (rc < 0)
        return error_prefix(err, "vault %s at %s", config->name, place);
    TRY(object_check_format_but(o, VAULT_OBJECT, VAULT_FORMAT, FEATURE_SEALED, ret_sealed, err));
    TRY(json_get_str(o, "id", VAULT_OBJECT, &id, err));
    if (text_unhex(slice_str(id), b, sizeof b, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "vault %s at %s: VAULT has no id of 32 hex digits", config->name,
                         place);
    memcpy(v->id, id, sizeof v->id);
    return 0;
}

/* A driver that was never configured is the more careful one. */
static int read_capabilities(struct vault *v, struct error *err)
{
    struct vault_capabilities c = {0};
    bool found;

    if (!v->driver->ops->configure)
        return 0;
    TRY(capabilities_load(v->driver, &c, &found, err));
    if (!found)
        return 0;
    v->driver->ops->configure(v->driver, &c);
    capabilities_limits(&c, v->limits, sizeof v->limits);
    return 0;
}

static void vault_done(struct vault **v)
{
    vault_free(*v);
}

/* Puts the sealing driver around the store's own. */
static int open_sealed(struct vault *v, const struct vault_config *config, struct error *err)
{
    TRY(vault_keys_open(v->driver, config->name, v->id, &config->key, &v->keys, err));
    v->driver = seal_driver_new(v->driver, v->keys, v->id);
    crypt_guard_process();
    return 0;
}

static int refuse_key(const struct vault_config *config, struct error *err)
{
    CLEANUP(mem_free_ptr) char *place = place_of(config);

    return error_set(err, ERROR_REFUSED,
                     "vault %s at %s is not encrypted, and a key is configured for it: either this is another vault (or "
                     "somebody put another one there), or take the key out of the configuration",
                     config->name, place);
}

int vault_open(const struct vault_config *config, struct vault **ret, struct error *err)
{
    CLEANUP(vault_done) struct vault *v = mem_zalloc(1, sizeof *v);
    bool sealed;

    v->name = mem_strdup(config->name);
    int rc = open_driver(config, false, &v->driver, err);
    if (rc == -ERROR_NOT_FOUND)
        return no_vault(config, err);
    TRY(rc);
    TRY(read_identity(v, config, &sealed, err));
    TRY(read_capabilities(v, err));
    if (sealed)
        TRY(open_sealed(v, config, err));
    else if (vault_key_given(config->name, &config->key))
        return refuse_key(config, err);
    if (config->bandwidth_bytes_s > 0)
        v->driver = limit_driver_new(v->driver, config->bandwidth_bytes_s, NULL);
    *ret = v;
    v = NULL;
    return 0;
}

int vault_check_key(const struct vault_config *config, struct error *err)
{
    CLEANUP(vault_done) struct vault *v = mem_zalloc(1, sizeof *v);
    bool given = vault_key_given(config->name, &config->key), sealed;

    if (given)
        TRY(vault_key_readable(config->name, &config->key, err));
    if (open_driver(config, false, &v->driver, err) < 0 || read_identity(v, config, &sealed, err) < 0)
        return 0;
    if (!sealed)
        return given ? refuse_key(config, err) : 1;
    int rc = vault_keys_open(v->driver, config->name, v->id, &config->key, &v->keys, err);
    if (rc >= 0)
        return 1;
    return rc == -ERROR_USAGE || rc == -ERROR_REFUSED ? rc : 0;
}

int vault_keys_restore(const struct vault_config *config, const char *kit_path, uint32_t *ret_count, struct error *err)
{
    CLEANUP(vault_done) struct vault *v = mem_zalloc(1, sizeof *v);
    bool sealed;

    int rc = open_driver(config, false, &v->driver, err);
    if (rc == -ERROR_NOT_FOUND)
        return no_vault(config, err);
    TRY(rc);
    TRY(read_identity(v, config, &sealed, err));
    TRY(read_capabilities(v, err));
    if (!sealed)
        return error_set(err, ERROR_REFUSED, "vault %s is not encrypted: it has no keys", config->name);
    return vault_keys_import(v->driver, config->name, v->id, kit_path, ret_count, err);
}

void vault_free(struct vault *v)
{
    if (!v)
        return;
    driver_done(&v->driver);
    vault_keys_free(v->keys);
    mem_free_ptr(&v->name);
    mem_free_ptr(&v);
}

struct digest vault_content_name(const struct vault *v, const struct digest *content)
{
    return v->keys ? vault_keys_name(v->keys, content) : *content;
}

uint64_t vault_stored_bytes(const struct vault *v, uint64_t bytes)
{
    return v->keys ? seal_stored_bytes(bytes) : bytes;
}

struct sources {
    char **names;
    size_t count, cap;
};

static void sources_release(struct sources *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->names[i]);
    free(s->names);
}

static int see_source(void *user, const char *name, struct error *err)
{
    struct sources *s = user;
    size_t n = strlen(name);

    (void)err;
    if (n < 2 || name[n - 1] != '/')
        return 0;
    CLEANUP(mem_free_ptr) char *source = mem_strndup(name, n - 1);
    if (!text_is_name(source))
        return 0;
    MEM_GROW(s->names, s->cap, s->count);
    s->names[s->count++] = source;
    source = NULL;
    return 0;
}

int vault_sources(struct vault *v, char ***ret_names, size_t *ret_count, struct error *err)
{
    CLEANUP(sources_release) struct sources s = {0};

    TRY(v->driver->ops->list_names(v->driver, "sources/", see_source, &s, err));
    *ret_names = s.names;
    *ret_count = s.count;
    s = (struct sources){0};
    return 0;
}

void vault_key(char key[static VAULT_KEY_BYTES], const char *source, const char *incarnation, const char *fmt, ...)
{
    va_list ap;

    int n = snprintf(key, VAULT_KEY_BYTES, "sources/%s/%s/", source, incarnation);
    ASSERT(n > 0 && n < VAULT_KEY_BYTES);
    va_start(ap, fmt);
    int more = vsnprintf(key + n, (size_t)(VAULT_KEY_BYTES - n), fmt, ap);
    va_end(ap);
    ASSERT(more >= 0 && n + more < VAULT_KEY_BYTES);
}
