/* Spool header, segment header, trailer, key and footer: round trips, every bit, and what is refused. */
#include "vault/support.h"

#include "vault/object.h"
#include "vault/segment_format.h"

static void test_spool_header(void **state)
{
    struct spool_header h = {.sequence = 12, .epoch = 3, .after = {7, 0x16B3748}, .source_hash = 42}, back;
    uint8_t b[SPOOL_HEADER_BYTES];
    struct error err;

    (void)state;
    spool_header_encode(&h, b);
    assert_memory_equal(b, "SLVSPOL1", 8);
    assert_ok(spool_header_decode(slice_of(b, sizeof b), &back, &err), err);
    assert_true(back.sequence == 12 && back.epoch == 3 && back.source_hash == 42);
    assert_int_equal(position_compare(back.after, h.after), 0);
    for (size_t bit = 0; bit < sizeof b * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_fails(spool_header_decode(slice_of(b, sizeof b), &back, &err), err, ERROR_CORRUPT);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < sizeof b; n++)
        assert_fails(spool_header_decode(slice_of(b, n), &back, &err), err, ERROR_CORRUPT);
}

static void seal(uint8_t *b, size_t n)
{
    uint64_t h = hash64(slice_of(b, n - 8));

    for (size_t i = 0; i < 8; i++)
        b[n - 8 + i] = (uint8_t)(h >> 8 * i);
}

static void test_header_of_another_version(void **state)
{
    struct spool_header h = {.sequence = 12, .epoch = 3}, back;
    uint8_t b[SPOOL_HEADER_BYTES];
    struct error err;

    (void)state;
    spool_header_encode(&h, b);
    b[8] = 2; /* format */
    seal(b, sizeof b);
    assert_fails(spool_header_decode(slice_of(b, sizeof b), &back, &err), err, ERROR_REFUSED);
    b[8] = 1;
    b[12] = 4; /* an incompatible flag */
    seal(b, sizeof b);
    assert_fails(spool_header_decode(slice_of(b, sizeof b), &back, &err), err, ERROR_REFUSED);
    b[12] = 0;
    b[28] = 4; /* a compatible one */
    seal(b, sizeof b);
    assert_ok(spool_header_decode(slice_of(b, sizeof b), &back, &err), err);
    memset(b + 16, 0, 8); /* sequence */
    seal(b, sizeof b);
    assert_fails(spool_header_decode(slice_of(b, sizeof b), &back, &err), err, ERROR_CORRUPT);
    memset(b + 16, 0xff, 8);
    seal(b, sizeof b);
    assert_fails(spool_header_decode(slice_of(b, sizeof b), &back, &err), err, ERROR_CORRUPT);
    memset(b + 17, 0, 7);
    memset(b + 24, 0xff, 4); /* epoch */
    seal(b, sizeof b);
    assert_fails(spool_header_decode(slice_of(b, sizeof b), &back, &err), err, ERROR_CORRUPT);
}

static void test_segment_header(void **state)
{
    struct segment_header h = {.sequence = 999999999999, .epoch = 999999, .after = {1, 2}, .source_hash = 3}, back;
    uint8_t b[SEGMENT_HEADER_BYTES];
    struct error err;

    (void)state;
    h.previous = digest_of(slice_str("x"));
    segment_header_encode(&h, b);
    assert_ok(segment_header_decode(slice_of(b, sizeof b), &back, &err), err);
    assert_true(back.sequence == h.sequence && back.epoch == h.epoch && back.source_hash == 3);
    assert_true(digest_equal(&back.previous, &h.previous));
    for (size_t bit = 0; bit < sizeof b * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_fails(segment_header_decode(slice_of(b, sizeof b), &back, &err), err, ERROR_CORRUPT);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static struct segment_trailer trailer(void)
{
    return (struct segment_trailer){.footer_offset = 1000,
                                    .footer_stored_bytes = 100,
                                    .footer_plain_bytes = 300,
                                    .footer_checksum = 1,
                                    .filter_offset = 900,
                                    .filter_bytes = 100,
                                    .blocks_count = 2,
                                    .filter_checksum = 2,
                                    .header_checksum = 3,
                                    .object_bytes = 1196};
}

static int trailer_check(const struct segment_trailer *t, struct error *err)
{
    uint8_t b[SEGMENT_TRAILER_BYTES];
    struct segment_trailer back;

    segment_trailer_encode(t, b);
    return segment_trailer_decode(slice_of(b, sizeof b), 1196, &back, err);
}

static void test_trailer(void **state)
{
    struct segment_trailer t = trailer(), back;
    uint8_t b[SEGMENT_TRAILER_BYTES];
    struct error err;

    (void)state;
    segment_trailer_encode(&t, b);
    assert_ok(segment_trailer_decode(slice_of(b, sizeof b), 1196, &back, &err), err);
    assert_memory_equal(&t, &back, sizeof t);
    for (size_t bit = 0; bit < sizeof b * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_fails(segment_trailer_decode(slice_of(b, sizeof b), 1196, &back, &err), err, ERROR_CORRUPT);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_fails(segment_trailer_decode(slice_of(b, sizeof b), 1197, &back, &err), err, ERROR_CORRUPT);
}

/* Right checksums and sections that lie over one another, outside, or are larger than any. */
static void test_hostile_trailers(void **state)
{
    struct segment_trailer t;
    struct error err;

    (void)state;
#define HOSTILE(change_)                                                                                               \
    t = trailer();                                                                                                     \
    change_;                                                                                                           \
    assert_fails(trailer_check(&t, &err), err, ERROR_CORRUPT)
    t = trailer();
    assert_ok(trailer_check(&t, &err), err);
    HOSTILE(t.footer_offset = UINT64_MAX);
    HOSTILE(t.footer_offset = 1101);
    HOSTILE(t.footer_offset = 999);
    HOSTILE(t.footer_stored_bytes = UINT32_MAX);
    HOSTILE(t.footer_stored_bytes = 101);
    HOSTILE(t.footer_plain_bytes = UINT32_MAX);
    HOSTILE(t.filter_offset = UINT64_MAX);
    HOSTILE(t.filter_offset = 1001);
    HOSTILE(t.filter_offset = 899);
    HOSTILE(t.filter_bytes = UINT32_MAX);
    HOSTILE(t.filter_bytes = 99);
    HOSTILE((t.filter_offset = 127, t.filter_bytes = 873));
    HOSTILE(t.object_bytes = 1195);
#undef HOSTILE
}

static void test_key(void **state)
{
    struct segment_id id = {.sequence = 12, .epoch = 3, .first = {0, 0x16B3748}, .last = {1, 0xABCDEF}}, back;
    char key[VAULT_KEY_BYTES];
    struct error err;

    (void)state;
    segment_key(key, "shop", "0001", &id);
    assert_string_equal(key, "sources/shop/0001/rows/000000000012-000003-"
                             "0000000000000000000000000"
                             "16b3748-"
                             "00000000000000010000000000abcdef.seg");
    assert_ok(segment_parse_key(key, &back, &err), err);
    assert_true(back.sequence == 12 && back.epoch == 3);
    assert_int_equal(position_compare(back.first, id.first), 0);
    assert_int_equal(position_compare(back.last, id.last), 0);
    assert_ok(segment_parse_key(strrchr(key, '/') + 1, &back, &err), err);
    /* Every cut of the name, and every byte of it as something else. */
    char *name = strrchr(key, '/') + 1;
    for (size_t n = strlen(name); n-- > 0;) {
        char changed[VAULT_KEY_BYTES];
        (void)snprintf(changed, sizeof changed, "%.*s", (int)n, name);
        assert_fails(segment_parse_key(changed, &back, &err), err, ERROR_CORRUPT);
        (void)snprintf(changed, sizeof changed, "%s", name);
        changed[n] = 'x';
        assert_fails(segment_parse_key(changed, &back, &err), err, ERROR_CORRUPT);
    }
    name[0] = name[10] = name[11] = '0';
    assert_fails(segment_parse_key(key, &back, &err), err, ERROR_CORRUPT);
}

/* A footer of two blocks that agrees with its trailer. */
static json_t *footer(void)
{
    static const char text[] =
        "{'source':'shop','incarnation':'0001','sequence':5,'epoch':1,'after':'0/64','first':'0/C8','last':'0/190',"
        "'first_wall_us':1,'last_wall_us':2,'previous':'"
        "0000000000000000000000000000000000000000000000000000000000000000','transactions':3,'events':4,"
        "'plain_bytes':1500,'xid_max':7,'oldest_open_sequence':3,"
        "'blocks':[{'offset':128,'stored':300,'plain':700,'checksum':'0000000000000001','first':'0/C8','last':'0/12C',"
        "'first_wall_us':1,'last_wall_us':1},"
        "{'offset':444,'stored':440,'plain':800,'checksum':'0000000000000002','first':'0/190','last':'0/190',"
        "'first_wall_us':1,'last_wall_us':2}],"
        "'open':[{'xid':9,'session':1,'sequence':3}],'filter':{'offset':900,'bytes':100,'hashes':7,'keys':80},"
        "'unkeyed':[5,9],'notes':[{'kind':'session'}]}";
    char *json = mem_strdup(text);
    json_t *o;
    struct error err;

    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    assert_ok(json_parse(slice_str(json), "footer", &o, &err), err);
    free(json);
    return o;
}

static int footer_check(const json_t *o, struct error *err)
{
    struct buf b = BUF_INIT(1 << 16);
    struct segment_index x = {0};
    struct segment_trailer t = trailer();

    json_dump(o, &b);
    int rc = segment_index_decode(buf_slice(&b), "footer", &x, err);
    if (rc >= 0)
        rc = segment_index_check(&x, &t, err);
    segment_index_release(&x);
    buf_release(&b);
    return rc;
}

static void test_footer_members(void **state)
{
    struct error err;
    json_t *o = footer(), *member;
    const char *name;
    void *next;

    (void)state;
    assert_ok(footer_check(o, &err), err);
    json_object_foreach_safe(o, next, name, member)
    {
        json_t *bad = footer();
        json_object_del(bad, name);
        assert_fails(footer_check(bad, &err), err, ERROR_CORRUPT);
        json_decref(bad);
        bad = footer();
        json_object_set_new(bad, name, json_real(0.5));
        assert_fails(footer_check(bad, &err), err, ERROR_CORRUPT);
        json_decref(bad);
    }
    json_decref(o);
}

/* path: members and array places parted by blanks; value as JSON. */
static void hostile(const char *path, const char *value, const char *expected)
{
    char *copy = mem_strdup(path), *save = NULL, *last = copy;
    json_t *o = footer(), *at = o, *v;
    struct error err;

    assert_ok(json_parse(slice_str(value), "value", &v, &err), err);
    for (char *part = strtok_r(copy, " ", &save); part; part = strtok_r(NULL, " ", &save)) {
        last = part;
        if (!save || !*save)
            break;
        at = json_is_array(at) ? json_array_get(at, (size_t)(*part - '0')) : json_object_get(at, part);
    }
    if (json_is_array(at))
        assert_int_equal(json_array_set_new(at, (size_t)(*last - '0'), v), 0);
    else
        assert_int_equal(json_object_set_new(at, last, v), 0);
    assert_fails(footer_check(o, &err), err, ERROR_CORRUPT);
    if (!strstr(err.message, expected))
        fail_msg("%s = %s: \"%s\" does not contain \"%s\"", path, value, err.message, expected);
    json_decref(o);
    free(copy);
}

static void test_hostile_footers(void **state)
{
    (void)state;
    hostile("blocks 0 offset", "0", "block 0");
    hostile("blocks 0 offset", "129", "block 0");
    hostile("blocks 0 offset", "9223372036854775807", "block 0");
    hostile("blocks 1 offset", "128", "block 1"); /* over the first one */
    hostile("blocks 0 stored", "4294967295", "block 0");
    hostile("blocks 0 stored", "4294967296", "too large");
    hostile("blocks 0 stored", "0", "block 0");
    hostile("blocks 0 stored", "299", "block 1");
    hostile("blocks 1 stored", "439", "do not fill");
    hostile("blocks 1 stored", "441", "block 1");
    hostile("blocks 0 plain", "0", "block 0");
    hostile("blocks 0 plain", "4294967295", "block 0");
    hostile("blocks 0 plain", "699", "do not fill");
    hostile("blocks 0 first", "\"0/64\"", "out of order");
    hostile("blocks 0 first", "\"0/12D\"", "out of order");
    hostile("blocks 0 first", "\"0/0\"", "half a range");
    hostile("blocks 1 last", "\"0/0\"", "half a range");
    hostile("blocks 1 first", "\"0/12C\"", "out of order");
    hostile("blocks 0 checksum", "\"00\"", "16 hex digits");
    hostile("blocks 0", "7", "missing");
    hostile("blocks", "[]", "do not agree");
    hostile("blocks", "{}", "not an array");
    hostile("first", "\"0/C9\"", "not that of its blocks");
    hostile("last", "\"0/191\"", "not that of its blocks");
    hostile("after", "\"0/C8\"", "out of order");
    hostile("plain_bytes", "1501", "do not fill");
    hostile("filter offset", "899", "do not agree");
    hostile("filter bytes", "99", "do not agree");
    hostile("filter bytes", "-1", "at least 0");
    hostile("filter hashes", "8", "hashes");
    hostile("filter", "[]", "missing");
    hostile("open 0 sequence", "0", "open transaction");
    hostile("open 0 sequence", "6", "open transaction");
    hostile("open 0 sequence", "4", "oldest open");
    hostile("open 0 xid", "4294967296", "too large");
    hostile("open 0", "[]", "missing");
    hostile("oldest_open_sequence", "5", "oldest open");
    hostile("unkeyed 0", "-1", "unkeyed");
    hostile("unkeyed 1", "4294967296", "unkeyed");
    hostile("unkeyed", "false", "unkeyed");
    hostile("notes 0", "{}", "kind");
    hostile("notes 0", "3", "kind");
    hostile("source", "\"Shop\"", "no source");
    hostile("source", "{\"hex\": \"ff\"}", "no source");
    hostile("incarnation", "\"001\"", "no source");
    hostile("incarnation", "\"000x\"", "no source");
    hostile("source", "\"12345678901234567890123456789012345678901\"", "source");
}

static void test_footer_round_trip(void **state)
{
    struct segment_index x, y;
    struct buf a = BUF_INIT(1 << 16), b = BUF_INIT(1 << 16);
    json_t *o = footer();
    struct error err;

    (void)state;
    json_dump(o, &a);
    assert_ok(segment_index_decode(buf_slice(&a), "footer", &x, &err), err);
    segment_index_encode(&x, slice_str("{\"kind\":\"session\"},{\"kind\":\"gap\"}"), &b);
    assert_ok(segment_index_decode(buf_slice(&b), "footer", &y, &err), err);
    assert_int_equal(json_array_size(y.footer.notes), 2);
    assert_int_equal(y.footer.blocks_count, 2);
    assert_memory_equal(x.footer.blocks, y.footer.blocks, 2 * sizeof *x.footer.blocks);
    assert_memory_equal(x.unkeyed, y.unkeyed, 2 * sizeof *x.unkeyed);
    x.unkeyed_all = true;
    buf_clear(&b);
    segment_index_release(&y);
    segment_index_encode(&x, slice_str(""), &b);
    assert_ok(segment_index_decode(buf_slice(&b), "footer", &y, &err), err);
    assert_true(y.unkeyed_all);
    assert_int_equal(json_array_size(y.footer.notes), 0);
    struct buf small = BUF_INIT(100);
    segment_index_encode(&x, slice_str(""), &small);
    assert_true(small.overflow);
    buf_release(&small);
    segment_index_release(&x);
    segment_index_release(&y);
    json_decref(o);
    buf_release(&a);
    buf_release(&b);
}

int main(void)
{
#define ROW(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        ROW(test_spool_header),   ROW(test_header_of_another_version), ROW(test_segment_header),
        ROW(test_trailer),        ROW(test_hostile_trailers),          ROW(test_key),
        ROW(test_footer_members), ROW(test_hostile_footers),           ROW(test_footer_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
