/* vault/s3/credentials.c - see credentials.h. The metadata address is metadata.c's. */
#include "vault/s3/credentials.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "vault/s3/metadata.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define RENEW_BEFORE_US (300 * CLOCK_US_PER_S)

enum origin { ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_METADATA };

struct s3_credentials {
    pthread_mutex_t lock;
    enum origin origin;
    char *path, *profile;
    bool loaded;
    bool stale; /* the store refused it */
    struct s3_key key;
    struct timespec modified; /* of the file */
    int64_t ends_wall_us;     /* of a metadata session */
};

static const char *environment(const char *name)
{
    const char *text = getenv(name);

    return text && *text ? text : NULL;
}

struct s3_credentials *s3_credentials_new(const struct vault_config *config)
{
    struct s3_credentials *c = mem_zalloc(1, sizeof *c);
    const char *profile = config->profile ? config->profile : environment("AWS_PROFILE");

    ASSERT(pthread_mutex_init(&c->lock, NULL) == 0);
    c->path = mem_strdup(config->credentials_file);
    c->profile = mem_strdup(profile ? profile : "default");
    c->origin = c->path ? ORIGIN_FILE : environment("AWS_ACCESS_KEY_ID") ? ORIGIN_ENVIRONMENT : ORIGIN_METADATA;
    return c;
}

void s3_credentials_free(struct s3_credentials *c)
{
    if (!c)
        return;
    (void)pthread_mutex_destroy(&c->lock);
    explicit_bzero(&c->key, sizeof c->key);
    mem_free_ptr(&c->path);
    mem_free_ptr(&c->profile);
    mem_free_ptr(&c);
}

void s3_credentials_origin(const struct s3_credentials *c, char *text, size_t text_bytes)
{
    if (c->origin == ORIGIN_FILE)
        (void)snprintf(text, text_bytes, "[%s] in %s", c->profile, c->path);
    else
        (void)snprintf(text, text_bytes, "%s",
                       c->origin == ORIGIN_ENVIRONMENT ? "the environment (AWS_ACCESS_KEY_ID)" : "the instance's metadata address");
}

static int set_text(char *to, size_t to_bytes, struct slice text, const char *what, const char *where, struct error *err)
{
    if (text.n == 0 || text.n >= to_bytes)
        return error_set(err, ERROR_USAGE, "%s: %s is %s", where, what, text.n == 0 ? "empty" : "longer than any key is");
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] <= ' ' || text.p[i] >= 0x7f)
            return error_set(err, ERROR_USAGE, "%s: %s holds a character that no key has", where, what);
    memcpy(to, text.p, text.n);
    to[text.n] = '\0';
    return 0;
}

/* --- environment ------------------------------------------------------------------------------------------------- */

static int load_environment(struct s3_key *key, struct error *err)
{
    const char *secret = environment("AWS_SECRET_ACCESS_KEY"), *token = environment("AWS_SESSION_TOKEN");

    if (!secret)
        return error_set(err, ERROR_USAGE, "AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not");
    TRY(set_text(key->access_key, sizeof key->access_key, slice_str(environment("AWS_ACCESS_KEY_ID")), "AWS_ACCESS_KEY_ID",
                 "environment", err));
    TRY(set_text(key->secret, sizeof key->secret, slice_str(secret), "AWS_SECRET_ACCESS_KEY", "environment", err));
    return token ? set_text(key->token, sizeof key->token, slice_str(token), "AWS_SESSION_TOKEN", "environment", err) : 0;
}

/* --- a file in AWS's form ------------------------------------------------------------------------------------------ */

static struct slice trim(struct slice s)
{
    while (s.n > 0 && s.p[0] <= ' ')
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n > 0 && s.p[s.n - 1] <= ' ')
        s.n--;
    return s;
}

/* "[name]" or "[profile name]", as in AWS's other file. */
static bool section_is(struct slice line, const char *profile)
{
    struct slice name = trim(slice_of(line.p + 1, line.n - 2));

    if (name.n > 8 && memcmp(name.p, "profile ", 8) == 0)
        name = trim(slice_of(name.p + 8, name.n - 8));
    return slice_equal(name, slice_str(profile));
}

static int take_line(struct s3_key *key, struct slice line, const char *path, struct error *err)
{
    const uint8_t *equals = memchr(line.p, '=', line.n);

    if (!equals)
        return 0;
    struct slice name = trim(slice_of(line.p, (size_t)(equals - line.p)));
    struct slice value = trim(slice_of(equals + 1, line.n - (size_t)(equals + 1 - line.p)));
    if (slice_equal(name, slice_str("aws_access_key_id")))
        return set_text(key->access_key, sizeof key->access_key, value, "aws_access_key_id", path, err);
    if (slice_equal(name, slice_str("aws_secret_access_key")))
        return set_text(key->secret, sizeof key->secret, value, "aws_secret_access_key", path, err);
    if (slice_equal(name, slice_str("aws_session_token")))
        return set_text(key->token, sizeof key->token, value, "aws_session_token", path, err);
    return 0;
}

static int parse(struct s3_key *key, struct slice text, const char *path, const char *profile, struct error *err)
{
    bool inside = false, found = false;

    while (text.n > 0) {
        const uint8_t *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        struct slice line = trim(slice_of(text.p, n));

        text = slice_of(text.p + n + (end ? 1 : 0), text.n - n - (end ? 1 : 0));
        if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
            continue;
        if (line.n > 2 && line.p[0] == '[' && line.p[line.n - 1] == ']') {
            inside = section_is(line, profile);
            found |= inside;
        } else if (inside) {
            TRY(take_line(key, line, path, err));
        }
    }
    if (!found)
        return error_set(err, ERROR_USAGE, "credentials file %s has no section [%s]", path, profile);
    if (!key->access_key[0] || !key->secret[0])
        return error_set(err, ERROR_USAGE, "credentials file %s: [%s] lacks aws_access_key_id or aws_secret_access_key", path,
                         profile);
    return 0;
}

static int look_at(const struct s3_credentials *c, struct stat *st, struct error *err)
{
    if (stat(c->path, st) < 0)
        return error_errno(err, errno, "cannot read the credentials file %s", c->path);
    if (st->st_mode & S_IROTH)
        return error_set(err, ERROR_USAGE, "credentials file %s can be read by everybody on this host: chmod 600 it", c->path);
    return 0;
}

static int load_file(const struct s3_credentials *c, struct s3_key *key, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(FILE_BYTES_MAX);

    TRY(file_read_all(c->path, FILE_BYTES_MAX, &text, err));
    int rc = parse(key, buf_slice(&text), c->path, c->profile, err);
    if (text.p)
        explicit_bzero(text.p, text.n);
    return rc;
}

/* Half a file that somebody is writing just now may be read: what is refused then is read again with its new time. */
static int refresh_file(struct s3_credentials *c, struct s3_key *next, bool *ret_new, struct error *err)
{
    struct stat st;

    TRY(look_at(c, &st, err));
    if (c->loaded && st.st_mtim.tv_sec == c->modified.tv_sec && st.st_mtim.tv_nsec == c->modified.tv_nsec)
        return 0;
    TRY(load_file(c, next, err));
    c->modified = st.st_mtim;
    *ret_new = true;
    return 0;
}

/* --- which of them ------------------------------------------------------------------------------------------------- */

static int refresh_metadata(struct s3_credentials *c, struct s3_key *next, bool *ret_new, struct error *err)
{
    int64_t now = clock_wall_us(), ends = 0;

    if (c->loaded && !c->stale && now < c->ends_wall_us - RENEW_BEFORE_US)
        return 0;
    int rc = s3_metadata_load(next, &ends, err);
    if (rc < 0 && c->loaded && !c->stale && now < c->ends_wall_us)
        return 0;
    TRY(rc);
    c->ends_wall_us = ends;
    *ret_new = true;
    return 0;
}

static int refresh(struct s3_credentials *c, struct error *err)
{
    struct s3_key next = {0};
    bool is_new = false;
    int rc = 0;

    if (c->origin == ORIGIN_FILE)
        rc = refresh_file(c, &next, &is_new, err);
    else if (c->origin == ORIGIN_METADATA)
        rc = refresh_metadata(c, &next, &is_new, err);
    else if (!c->loaded && (rc = load_environment(&next, err)) >= 0)
        is_new = true;
    if (rc >= 0 && is_new) {
        next.generation = c->key.generation + 1;
        c->key = next;
        c->loaded = true;
        c->stale = false;
    }
    explicit_bzero(&next, sizeof next);
    return rc;
}

int s3_credentials_get(struct s3_credentials *c, struct s3_key *ret, struct error *err)
{
    ASSERT(pthread_mutex_lock(&c->lock) == 0);
    int rc = refresh(c, err);
    if (rc >= 0)
        *ret = c->key;
    ASSERT(pthread_mutex_unlock(&c->lock) == 0);
    return rc;
}

bool s3_credentials_refused(struct s3_credentials *c, const struct s3_key *key)
{
    ASSERT(pthread_mutex_lock(&c->lock) == 0);
    if (key->generation == c->key.generation)
        c->stale = true;
    int rc = refresh(c, NULL);
    bool other = rc >= 0 && c->key.generation != key->generation;
    ASSERT(pthread_mutex_unlock(&c->lock) == 0);
    return other;
}
