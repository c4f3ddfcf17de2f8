/*
 * base/json.c - strict reading and deterministic writing of JSON.
 *
 * Keys are sorted and the form is compact, so that equal objects have equal bytes and can be hashed and signed. Out of
 * memory inside jansson ends like ours: the assertions on its set calls.
 */
#include "base/json.h"

#include <stdint.h>

#include "base/mem.h"
#include "base/text.h"

void json_free_ptr(json_t **j)
{
    json_decref(*j);
}

int json_parse(struct slice text, const char *what, json_t **ret, struct error *err)
{
    json_error_t at;
    json_t *j = json_loadb(text.n ? (const char *)text.p : "", text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &at);

    if (!j)
        return error_set(err, ERROR_CORRUPT, "%s: line %d, column %d: %s", what, at.line, at.column, at.text);
    *ret = j;
    return 0;
}

static int member(const json_t *o, const char *key, const char *what, const char *type, bool (*is)(const json_t *),
                  json_t **ret, struct error *err)
{
    json_t *v = json_object_get(o, key);

    if (!v)
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is missing", what, key);
    if (!is(v))
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is not %s", what, key, type);
    *ret = v;
    return 0;
}

static bool is_str(const json_t *v) { return json_is_string(v); }
static bool is_int(const json_t *v) { return json_is_integer(v); }
static bool is_count(const json_t *v) { return json_is_integer(v) && json_integer_value(v) >= 0; }
static bool is_bool(const json_t *v) { return json_is_boolean(v); }
static bool is_array(const json_t *v) { return json_is_array(v); }

int json_get_str(const json_t *o, const char *key, const char *what, const char **ret, struct error *err)
{
    json_t *v;

    TRY(member(o, key, what, "a string", is_str, &v, err));
    *ret = json_string_value(v);
    return 0;
}

int json_get_u64(const json_t *o, const char *key, const char *what, uint64_t *ret, struct error *err)
{
    json_t *v;

    TRY(member(o, key, what, "a whole number of at least 0", is_count, &v, err));
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

int json_get_i64(const json_t *o, const char *key, const char *what, int64_t *ret, struct error *err)
{
    json_t *v;

    TRY(member(o, key, what, "a whole number", is_int, &v, err));
    *ret = json_integer_value(v);
    return 0;
}

int json_get_bool(const json_t *o, const char *key, const char *what, bool *ret, struct error *err)
{
    json_t *v;

    TRY(member(o, key, what, "true or false", is_bool, &v, err));
    *ret = json_is_true(v);
    return 0;
}

int json_get_array(const json_t *o, const char *key, const char *what, json_t **ret, struct error *err)
{
    return member(o, key, what, "an array", is_array, ret, err);
}

int json_get_hash128(const json_t *o, const char *key, const char *what, struct hash128 *ret, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, key, what, &text, err));
    if (hash128_parse(slice_str(text), ret, err) < 0)
        return error_prefix(err, "%s: \"%s\"", what, key);
    return 0;
}

int json_get_digest(const json_t *o, const char *key, const char *what, struct digest *ret, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, key, what, &text, err));
    if (digest_parse(slice_str(text), ret, err) < 0)
        return error_prefix(err, "%s: \"%s\"", what, key);
    return 0;
}

static void set(json_t *o, const char *key, json_t *v)
{
    /* Also where v is NULL: text that is not UTF-8 was to be kept out by the caller. */
    ASSERT(json_object_set_new(o, key, v) == 0);
}

void json_set_u64(json_t *o, const char *key, uint64_t v)
{
    ASSERT(v <= INT64_MAX);
    json_set_i64(o, key, (int64_t)v);
}

void json_set_i64(json_t *o, const char *key, int64_t v)
{
    set(o, key, json_integer(v));
}

void json_set_str(json_t *o, const char *key, const char *v)
{
    set(o, key, v ? json_string(v) : json_null());
}

void json_set_bool(json_t *o, const char *key, bool v)
{
    set(o, key, json_boolean(v));
}

void json_set_hash128(json_t *o, const char *key, struct hash128 v)
{
    char text[HASH128_TEXT_BYTES];

    json_set_str(o, key, hash128_format(v, text));
}

void json_set_digest(json_t *o, const char *key, const struct digest *v)
{
    char text[DIGEST_TEXT_BYTES];

    json_set_str(o, key, digest_format(v, text));
}

static int put_piece(const char *piece, size_t n, void *out)
{
    buf_put(out, piece, n);
    return ((struct buf *)out)->overflow ? -1 : 0;
}

void json_dump(const json_t *j, struct buf *out)
{
    int rc = json_dump_callback(j, put_piece, out, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

    ASSERT(rc == 0 || out->overflow);
}

json_t *json_bytes(struct slice s)
{
    /* A NUL would be written as \u0000, which readers of JSON refuse, ours among them. */
    bool nul = s.n > 0 && memchr(s.p, 0, s.n);
    json_t *j = nul ? NULL : json_stringn(s.n ? (const char *)s.p : "", s.n);

    if (j)
        return j;
    CLEANUP(mem_free_ptr) char *hex = mem_alloc(2 * s.n + 1);
    text_hex(s, hex);
    j = json_object();
    json_set_str(j, "hex", hex);
    return j;
}

static bool is_bytes(const json_t *v)
{
    return json_is_string(v) || (json_object_size(v) == 1 && json_is_string(json_object_get(v, "hex")));
}

static int put_unhex(struct slice hex, struct buf *out, struct error *err)
{
    size_t n = hex.n / 2;

    if (!buf_reserve(out, n))
        return 0; /* the caller looks at overflow */
    TRY(text_unhex(hex, out->p + out->n, n, err));
    out->n += n;
    return 0;
}

int json_get_bytes(const json_t *o, const char *key, const char *what, struct buf *out, struct error *err)
{
    json_t *v;

    TRY(member(o, key, what, "a string or {\"hex\": ...}", is_bytes, &v, err));
    if (json_is_string(v))
        buf_put(out, json_string_value(v), json_string_length(v));
    else if (put_unhex(slice_str(json_string_value(json_object_get(v, "hex"))), out, NULL) < 0)
        return error_set(err, ERROR_CORRUPT, "%s: \"%s\" is not hexadecimal", what, key);
    if (out->overflow)
        return error_set(err, ERROR_LIMIT, "%s: \"%s\" is longer than %zu bytes", what, key, out->max);
    return 0;
}

char *json_bytes_text(const json_t *v)
{
    if (!is_bytes(v))
        return NULL;
    if (json_is_string(v))
        return mem_strdup(json_string_value(v));
    struct slice hex = slice_str(json_string_value(json_object_get(v, "hex")));
    char *text = mem_zalloc(hex.n / 2 + 1, 1);

    if (text_unhex(hex, (uint8_t *)text, hex.n / 2, NULL) >= 0)
        return text;
    free(text);
    return NULL;
}

/* --- text of any encoding ------------------------------------------------------------------------------------------- */

/* Each byte as the character of its number, which is UTF-8 whatever it was; and back. */
static void widen(struct slice bytes, struct buf *out)
{
    for (size_t i = 0; i < bytes.n; i++) {
        if (bytes.p[i] >= 0x80)
            buf_put_u8(out, (uint8_t)(0xc0 | bytes.p[i] >> 6));
        buf_put_u8(out, bytes.p[i] >= 0x80 ? (uint8_t)(0x80 | (bytes.p[i] & 0x3f)) : bytes.p[i]);
    }
}

static json_t *narrowed(const json_t *string)
{
    struct slice s = slice_of(json_string_value(string), json_string_length(string));
    CLEANUP(mem_free_ptr) uint8_t *bytes = mem_alloc(s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        bool pair = s.p[i] >= 0x80 && i + 1 < s.n;

        bytes[n++] = pair ? (uint8_t)((unsigned)s.p[i] << 6 | (s.p[i + 1] & 0x3fu)) : s.p[i];
        i += pair;
    }
    return json_bytes(slice_of(bytes, n));
}

/* Its depth is bounded by the parser's. */
static json_t *narrow(json_t *j)
{
    json_t *v;
    const char *key;
    void *next;
    size_t i;

    if (json_is_string(j))
        return narrowed(j);
    json_array_foreach(j, i, v)
        (void)json_array_set_new(j, i, narrow(v));
    json_object_foreach_safe(j, next, key, v)
        (void)json_object_set_new(j, key, narrow(v));
    return json_incref(j);
}

int json_parse_bytes(struct slice text, const char *what, json_t **ret, struct error *err)
{
    struct error ignored = ERROR_INIT;
    CLEANUP(buf_release) struct buf wide = BUF_INIT(BUF_BYTES_MAX);
    JSON_AUTO j = NULL;

    if (json_parse(text, what, ret, &ignored) >= 0)
        return 0;
    widen(text, &wide);
    TRY(json_parse(buf_slice(&wide), what, &j, err));
    *ret = narrow(j);
    return 0;
}
