/*
 * vault/object_fields.c - members and numbered keys that several kinds of objects share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "vault/object.h"

void object_set_format(json_t *o, uint64_t format)
{
    json_set_u64(o, "format", format);
    ASSERT(json_object_set_new(o, "compatible", json_array()) == 0);
    ASSERT(json_object_set_new(o, "incompatible", json_array()) == 0);
}

void object_set_incompatible(json_t *o, const char *feature)
{
    ASSERT(json_array_append_new(json_object_get(o, "incompatible"), json_string(feature)) == 0);
}

int object_check_format(const json_t *o, const char *what, uint64_t format, struct error *err)
{
    return object_check_format_but(o, what, format, NULL, NULL, err);
}

int object_check_format_but(const json_t *o, const char *what, uint64_t format, const char *feature, bool *ret_has,
                            struct error *err)
{
    const char *name = NULL;
    bool has = false;
    uint64_t found;
    json_t *features;

    TRY(json_get_u64(o, "format", what, &found, err));
    if (found != format)
        return error_set(err, ERROR_REFUSED,
                         "%s has format %llu, and this salvor knows %llu: use the salvor that wrote it, or a newer one",
                         what, (unsigned long long)found, (unsigned long long)format);
    TRY(json_get_array(o, "incompatible", what, &features, err));
    size_t unknown = json_array_size(features);
    for (size_t i = 0; i < json_array_size(features); i++) {
        const char *text = json_string_value(json_array_get(features, i));
        bool known = feature && text && strcmp(text, feature) == 0;
        has |= known;
        unknown -= known;
        name = known ? name : text;
    }
    if (ret_has)
        *ret_has = has;
    if (unknown == 0)
        return 0;
    return error_set(err, ERROR_REFUSED, "%s uses the feature \"%s\", which this salvor does not know: use a newer one",
                     what, name ? name : "?");
}

void object_set_text(json_t *o, const char *key, const char *text)
{
    ASSERT(json_object_set_new(o, key, json_bytes(slice_str(text))) == 0);
}

int object_get_text(const json_t *o, const char *key, const char *what, char *ret, size_t ret_bytes, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(OBJECT_JSON_BYTES_MAX);

    TRY(json_get_bytes(o, key, what, &b, err));
    if (b.n >= ret_bytes || (b.n > 0 && memchr(b.p, 0, b.n)))
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" has %zu bytes where fewer than %zu may be", what, key, b.n,
                         ret_bytes);
    if (b.n > 0)
        memcpy(ret, b.p, b.n);
    ret[b.n] = '\0';
    return 0;
}

int object_get_u32(const json_t *o, const char *key, const char *what, uint32_t *ret, struct error *err)
{
    uint64_t v;

    TRY(json_get_u64(o, key, what, &v, err));
    if (v > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is too large", what, key);
    *ret = (uint32_t)v;
    return 0;
}

void object_set_position(json_t *o, const char *key, struct position p)
{
    char text[POSITION_TEXT_BYTES];

    json_set_str(o, key, position_format(p, text));
}

int object_get_position(const json_t *o, const char *key, const char *what, struct position *ret, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, key, what, &text, err));
    if (position_parse(slice_str(text), ret, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is not a position", what, key);
    return 0;
}

void object_set_hash64(json_t *o, const char *key, uint64_t v)
{
    char text[17];

    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)v);
    json_set_str(o, key, text);
}

int object_get_hash64(const json_t *o, const char *key, const char *what, uint64_t *ret, struct error *err)
{
    const char *text;
    uint8_t b[8];

    TRY(json_get_str(o, key, what, &text, err));
    if (text_unhex(slice_str(text), b, sizeof b, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is not 16 hex digits", what, key);
    struct cursor c = cursor_of(slice_of(b, sizeof b));
    *ret = cursor_get_u64_be(&c);
    return 0;
}

void object_set_host(json_t *o)
{
    char host[256] = "";

    if (gethostname(host, sizeof host - 1) < 0)
        host[0] = '\0';
    object_set_text(o, "host", host);
    json_set_i64(o, "pid", getpid());
    json_set_i64(o, "wall_us", clock_wall_us());
}

int object_take_number(const char *text, size_t digits, uint64_t *ret, const char **ret_rest)
{
    uint64_t v = 0;

    ASSERT(digits <= 18);
    for (size_t i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -ERROR_CORRUPT;
        v = v * 10 + (uint64_t)(text[i] - '0');
    }
    *ret = v;
    *ret_rest = text + digits;
    return 0;
}

struct numbers {
    size_t prefix_n;
    const char *suffix;
    uint32_t last;
    uint32_t count;
};

static int see_number(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct numbers *n = user;
    const char *rest;
    uint64_t v;

    (void)bytes;
    (void)err;
    if (object_take_number(key + n->prefix_n, 6, &v, &rest) < 0 || strcmp(rest, n->suffix) != 0)
        return 0;
    n->count++;
    if (v > n->last)
        n->last = (uint32_t)v;
    return 0;
}

int object_last_number(struct vault_driver *d, const char *prefix, const char *suffix, uint32_t *ret,
                       uint32_t *ret_count, struct error *err)
{
    struct numbers n = {.prefix_n = strlen(prefix), .suffix = suffix};

    TRY(d->ops->list(d, prefix, see_number, &n, err));
    *ret = n.last;
    if (ret_count)
        *ret_count = n.count;
    return 0;
}

#define SEEN_ONE (-ERROR_EXISTS)

static int see_any(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)key;
    (void)bytes;
    (void)err;
    *(bool *)user = true;
    return SEEN_ONE;
}

int object_any(struct vault_driver *d, const char *prefix, bool *ret, struct error *err)
{
    bool any = false;
    int rc = d->ops->list(d, prefix, see_any, &any, err);

    if (rc < 0 && !any)
        return rc;
    *ret = any;
    return 0;
}

int object_put_next(struct vault_driver *d, const char *prefix, const char *suffix, uint32_t after, json_t *o,
                    const char *number_key, uint32_t *ret_n, struct error *err)
{
    for (uint32_t n = after + 1; n <= OBJECT_NUMBER_MAX; n++) {
        char key[512];

        (void)snprintf(key, sizeof key, "%s%06u%s", prefix, n, suffix);
        if (number_key)
            json_set_u64(o, number_key, n);
        int rc = object_put_json(d, key, o, err);
        if (rc == -ERROR_EXISTS)
            continue;
        TRY(rc);
        if (ret_n)
            *ret_n = n;
        return 0;
    }
    return error_set(err, ERROR_LIMIT, "%s: all numbers up to %u are taken", prefix, OBJECT_NUMBER_MAX);
}
