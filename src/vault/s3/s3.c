/* vault/s3/s3.c - a vault in a bucket: opening it. The rest is in the files around it; s3.h says which. */
#include "vault/s3/s3.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define REGION_DEFAULT "us-east-1"

static void s3_free(struct vault_driver *base)
{
    struct s3_driver *d = s3_of(base);

    for (size_t i = 0; i < d->idle_count; i++)
        http_free(d->idle[i]);
    s3_credentials_free(d->credentials);
    (void)pthread_mutex_destroy(&d->lock);
    (void)pthread_cond_destroy(&d->freed);
    char *const texts[] = {d->url, d->host, d->base_path, d->bucket, d->prefix, d->region, d->ca_file, d->place};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    free(d);
}

static const struct vault_driver_ops s3_ops = {
    .name = "s3",
    .put_if_absent = s3_put_if_absent,
    .put_source_if_absent = s3_put_source_if_absent,
    .get = s3_get,
    .get_range = s3_get_range,
    .size = s3_size,
    .list = s3_list,
    .list_names = s3_list_names,
    .remove = s3_remove,
    .remove_many = s3_remove_many,
    .probe = s3_probe,
    .configure = s3_configure,
    .free = s3_free,
};

static bool only(const char *text, const char *more)
{
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr(more, *text))
            return false;
    return true;
}

static int check_texts(const struct vault_config *c, struct error *err)
{
    const char *prefix = c->prefix ? c->prefix : "";

    if (!c->bucket || strlen(c->bucket) < 3 || strlen(c->bucket) > 63 || !only(c->bucket, ".-_"))
        return error_set(err, ERROR_USAGE, "vault %s: \"%.80s\" is no bucket's name: 3 to 63 of a-z 0-9 . -", c->name,
                         c->bucket ? c->bucket : "");
    if (strlen(prefix) > 400 || !only(prefix, "._~-/ +=@,") || strstr(prefix, "//") || prefix[0] == '/')
        return error_set(err, ERROR_USAGE, "vault %s: \"%.80s\" is no prefix: letters, digits and . _ ~ - in parts between /", c->name,
                         prefix);
    if (c->region && (!*c->region || strlen(c->region) > 60 || !only(c->region, "-_")))
        return error_set(err, ERROR_USAGE, "vault %s: \"%.80s\" is no region", c->name, c->region);
    if (c->style && strcmp(c->style, "path") != 0 && strcmp(c->style, "host") != 0)
        return error_set(err, ERROR_USAGE, "vault %s: style is path or host, not \"%.80s\"", c->name, c->style);
    return 0;
}

/* "https://host[:port]" in two: the scheme with its "://", and the host as in the Host header (no default port). */
static int split_endpoint(const struct vault_config *c, const char *endpoint, char **ret_scheme, char **ret_host, struct error *err)
{
    const char *colons = strstr(endpoint, "://");
    bool secure = strncmp(endpoint, "https://", 8) == 0;

    if (!colons || (!secure && strncmp(endpoint, "http://", 7) != 0) || strchr(endpoint, '@'))
        return error_set(err, ERROR_USAGE, "vault %s: endpoint is https://HOST[:PORT], not \"%.80s\"", c->name, endpoint);
    const char *host = colons + 3;
    size_t n = strcspn(host, "/");
    if (n == 0 || host[n + strspn(host + n, "/")] != '\0')
        return error_set(err, ERROR_USAGE, "vault %s: endpoint is https://HOST[:PORT] without a path, not \"%.80s\"", c->name, endpoint);
    *ret_scheme = mem_strndup(endpoint, (size_t)(host - endpoint));
    *ret_host = mem_strndup(host, n);
    const char *standard = secure ? ":443" : ":80";
    if (n > strlen(standard) && strcmp(*ret_host + n - strlen(standard), standard) == 0)
        (*ret_host)[n - strlen(standard)] = '\0';
    return 0;
}

static int set_address(struct s3_driver *d, const struct vault_config *c, struct error *err)
{
    CLEANUP(mem_free_ptr) char *amazon = mem_printf("https://s3.%s.amazonaws.com", d->region);
    CLEANUP(mem_free_ptr) char *scheme = NULL;
    CLEANUP(mem_free_ptr) char *host = NULL;
    bool by_path = c->style ? strcmp(c->style, "path") == 0 : c->endpoint != NULL;

    TRY(split_endpoint(c, c->endpoint ? c->endpoint : amazon, &scheme, &host, err));
    d->host = by_path ? mem_strdup(host) : mem_printf("%s.%s", c->bucket, host);
    d->base_path = by_path ? mem_printf("/%s", c->bucket) : mem_strdup("");
    d->url = mem_printf("%s%s", scheme, d->host);
    return 0;
}

static void set_prefix(struct s3_driver *d, const char *prefix)
{
    size_t n = prefix ? strlen(prefix) : 0;

    while (n > 0 && prefix[n - 1] == '/')
        n--;
    d->prefix = n > 0 ? mem_printf("%.*s/", (int)n, prefix) : mem_strdup("");
    d->place = mem_printf("s3://%s%s%.*s", d->bucket, n > 0 ? "/" : "", (int)n, prefix ? prefix : "");
}

int s3_driver_open(const struct vault_config *c, struct vault_driver **ret, struct error *err)
{
    TRY(check_texts(c, err));
    struct s3_driver *d = mem_zalloc(1, sizeof *d);
    d->base.ops = &s3_ops;
    ASSERT(pthread_mutex_init(&d->lock, NULL) == 0 && pthread_cond_init(&d->freed, NULL) == 0);
    d->bucket = mem_strdup(c->bucket);
    d->region = mem_strdup(c->region ? c->region : REGION_DEFAULT);
    d->ca_file = mem_strdup(c->ca_file);
    d->patience_ms = c->patience_ms > 0 ? c->patience_ms : S3_PATIENCE_MS;
    d->header_fence = true; /* until it is known what the store does with it */
    set_prefix(d, c->prefix);
    d->credentials = s3_credentials_new(c);
    int rc = set_address(d, c, err);
    if (rc < 0) {
        s3_free(&d->base);
        return rc;
    }
    *ret = &d->base;
    return 0;
}
