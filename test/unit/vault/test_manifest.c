/* Manifests: written last, read whole or not at all, never believed against themselves. */
#include "vault/support.h"

#include "vault/object.h"
#include "vault/snapshots.h"

static char *key_of(const struct manifest *m)
{
    char *key = mem_alloc(VAULT_KEY_BYTES);

    manifest_key(key, m->source, m->incarnation, m->id, "manifest.json.zst");
    return key;
}

static void assert_same_chunk(const struct chunk_ref *a, const struct chunk_ref *b)
{
    assert_true(digest_equal(&a->digest, &b->digest));
    assert_true(a->stored_checksum == b->stored_checksum);
    assert_int_equal(a->stored_bytes, b->stored_bytes);
    assert_int_equal(a->plain_bytes, b->plain_bytes);
    assert_int_equal(a->rows, b->rows);
    assert_true(hash128_equal(a->hash, b->hash));
    assert_string_equal(a->first_key, b->first_key);
    assert_string_equal(a->last_key, b->last_key);
}

static void assert_same_tables(const struct manifest *a, const struct manifest *b)
{
    assert_int_equal(a->tables_count, b->tables_count);
    for (uint32_t i = 0; i < a->tables_count; i++) {
        const struct snapshot_table *t = &a->tables[i], *u = &b->tables[i];
        assert_true(relation_same_shape(&t->relation, &u->relation));
        assert_int_equal(t->rows, u->rows);
        assert_int_equal(t->plain_bytes, u->plain_bytes);
        assert_true(hash128_equal(t->hash, u->hash));
        assert_int_equal(t->extension_member, u->extension_member);
        assert_int_equal(t->inexact_reason == NULL, u->inexact_reason == NULL);
        if (t->inexact_reason)
            assert_string_equal(t->inexact_reason, u->inexact_reason);
        assert_int_equal(t->chunks_count, u->chunks_count);
        for (uint32_t j = 0; j < t->chunks_count; j++)
            assert_same_chunk(&t->chunks[j], &u->chunks[j]);
    }
}

static void assert_same(const struct manifest *a, const struct manifest *b)
{
    assert_string_equal(a->id, b->id);
    assert_int_equal(position_compare(a->position, b->position), 0);
    assert_int_equal(a->visibility.present, b->visibility.present);
    assert_true(a->visibility.xmin == b->visibility.xmin && a->visibility.xmax == b->visibility.xmax);
    assert_int_equal(a->visibility.xip_count, b->visibility.xip_count);
    assert_true(manifest_xmin(a) == manifest_xmin(b));
    assert_int_equal(position_compare(manifest_all(a), manifest_all(b)), 0);
    assert_int_equal(position_compare(a->visibility.begun, b->visibility.begun), 0);
    if (a->visibility.xip_count > 0)
        assert_memory_equal(a->visibility.xip, b->visibility.xip, a->visibility.xip_count * 8);
    assert_true(a->begun_wall_us == b->begun_wall_us && a->ended_wall_us == b->ended_wall_us);
    assert_true(a->position_wall_us == b->position_wall_us);
    assert_int_equal(a->server_version, b->server_version);
    assert_int_equal(a->base, b->base);
    assert_string_equal(a->schema_digest, b->schema_digest);
    assert_true(json_equal(a->database, b->database));
    assert_true(json_equal(a->unprotected, b->unprotected));
    assert_int_equal(a->sequences_count, b->sequences_count);
    assert_string_equal(a->sequences[0].name, b->sequences[0].name);
    assert_true(a->sequences[0].last_value == b->sequences[0].last_value);
    assert_int_equal(a->sequences[0].is_called, b->sequences[0].is_called);
    assert_true(a->sequences[0].increment == b->sequences[0].increment);
    assert_true(a->rows == b->rows && a->plain_bytes == b->plain_bytes && a->stored_bytes == b->stored_bytes);
    assert_same_tables(a, b);
}

static void test_round_trip(void **state)
{
    struct fixture *x = *state;
    struct manifest m, back;

    snapshots_head(&m, 1000, 0xabcdef12);
    snapshots_fill(x->v, &m);
    m.base = true;
    m.tables[1].extension_member = true;
    m.tables[2].inexact_reason = mem_strdup("a value of \xff passes 1 GB");
    m.visibility = (struct snapshot_visibility){.present = true, .begun = position_of_lsn(900), .xmin = 700, .xmax = 705, .xip_count = 2};
    m.visibility.xip = mem_zalloc(2, sizeof *m.visibility.xip);
    m.visibility.xip[0] = 700;
    m.visibility.xip[1] = 704;
    assert_fails(manifest_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err, ERROR_NOT_FOUND);
    assert_ok(manifest_put(x->v, &m, &x->err), x->err);
    assert_ok(manifest_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err);
    assert_same(&m, &back);
    manifest_release(&back);
    /* Again with the same content: its answer was lost. With another: never. */
    assert_ok(manifest_put(x->v, &m, &x->err), x->err);
    m.base = false;
    assert_fails(manifest_put(x->v, &m, &x->err), x->err, ERROR_EXISTS);
    manifest_release(&m);
    manifest_release(&m);
}

static void test_bare(void **state)
{
    struct fixture *x = *state;
    struct manifest m, back;

    snapshots_head(&m, 1000, 1);
    json_decref(m.database);
    json_decref(m.unprotected);
    m.database = m.unprotected = NULL;
    m.xmin = 690;
    assert_ok(manifest_put(x->v, &m, &x->err), x->err);
    assert_ok(manifest_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err);
    assert_int_equal(json_object_size(back.database), 0);
    assert_int_equal(json_array_size(back.unprotected), 0);
    assert_int_equal(back.tables_count, 0);
    manifest_release(&m);
    manifest_release(&back);
}

static void test_every_bit_and_length(void **state)
{
    struct fixture *x = *state;
    struct manifest m, back;

    snapshots_take(x, 1000, 1, &m);
    char *key = key_of(&m);
    struct buf good = fixture_read(x, key);
    for (size_t bit = 0; bit < good.n * 8; bit++) {
        fixture_poke(x, key, bit / 8, (uint8_t)(good.p[bit / 8] ^ 1u << bit % 8));
        assert_fails(manifest_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err, ERROR_CORRUPT);
        assert_contains(x->err.message, key);
        fixture_poke(x, key, bit / 8, good.p[bit / 8]);
    }
    for (size_t n = 0; n < good.n; n++) {
        fixture_write(x, key, good.p, n);
        assert_fails(manifest_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err, ERROR_CORRUPT);
    }
    buf_release(&good);
    free(key);
    manifest_release(&m);
}

static void test_misplaced(void **state)
{
    struct fixture *x = *state;
    struct manifest m, n, back;
    char to[VAULT_KEY_BYTES];
    bool misplaced = false;

    snapshots_take(x, 1000, 1, &m);
    snapshots_take(x, 2000, 2, &n);
    char *a = key_of(&m), *b = key_of(&n);
    fixture_swap(x, a, b);
    assert_fails(manifest_get_where(x->v, "shop", "0001", m.id, "", &back, &misplaced, &x->err), x->err, ERROR_CORRUPT);
    assert_true(misplaced);
    assert_contains(x->err.message, "misplaced");
    fixture_swap(x, a, b);
    /* Of another source, though its own key's trailer was forged to fit. */
    assert_ok(dir_make_all(fixture_path(x, "sources/bank/0001/snapshots"), 0700, &x->err), x->err);
    manifest_key(to, "bank", "0001", m.id, "manifest.json.zst");
    json_t *o = manifest_to_json(&m);
    struct buf plain = BUF_INIT(1 << 20);
    json_dump(o, &plain);
    assert_ok(object_put_zst(x->v->driver, to, buf_slice(&plain), &x->err), x->err);
    misplaced = false;
    assert_fails(manifest_get_where(x->v, "bank", "0001", m.id, "", &back, &misplaced, &x->err), x->err, ERROR_CORRUPT);
    assert_true(misplaced);
    assert_contains(x->err.message, "shop/0001");
    json_decref(o);
    buf_release(&plain);
    free(a);
    free(b);
    manifest_release(&m);
    manifest_release(&n);
}

/* A manifest whose object is whole and whose JSON was changed by hand. */
static int get_forged(struct fixture *x, const struct manifest *m, const json_t *o)
{
    struct buf plain = BUF_INIT(1 << 20), b = BUF_INIT(1 << 20);
    struct manifest back;
    char *key = key_of(m);

    json_dump(o, &plain);
    assert_ok(object_encode_zst(buf_slice(&plain), key, &b, &x->err), x->err);
    fixture_write(x, key, b.p, b.n);
    int rc = manifest_get(x->v, "shop", "0001", m->id, &back, &x->err);
    if (rc >= 0)
        manifest_release(&back);
    free(key);
    buf_release(&plain);
    buf_release(&b);
    return rc;
}

/* Each member of `at`, which lies in `o`: gone, and of a wrong type. */
static void each_member(struct fixture *x, const struct manifest *m, json_t *o, json_t *at, const char *optional)
{
    json_t *all = json_copy(at), *v;
    const char *name;

    json_object_foreach(all, name, v)
    {
        assert_int_equal(json_object_set_new(at, name, json_real(0.5)), 0);
        assert_true(strcmp(name, "compatible") == 0 || get_forged(x, m, o) == -ERROR_CORRUPT);
        assert_int_equal(json_object_del(at, name), 0);
        if (!optional || !strstr(optional, name))
            assert_int_equal(get_forged(x, m, o), -ERROR_CORRUPT);
        assert_int_equal(json_object_set(at, name, v), 0);
    }
    assert_int_equal(get_forged(x, m, o), 0);
    json_decref(all);
}

static void test_members(void **state)
{
    struct fixture *x = *state;
    struct manifest m;

    snapshots_take(x, 1000, 1, &m);
    m.visibility.present = true;
    json_t *o = manifest_to_json(&m);
    json_t *table = json_array_get(json_object_get(o, "tables"), 0);
    each_member(x, &m, o, o, "compatible large_objects"); /* manifests of before there were large objects have none */
    each_member(x, &m, o, table, NULL);
    each_member(x, &m, o, json_array_get(json_object_get(table, "chunks"), 0), NULL);
    each_member(x, &m, o, json_array_get(json_object_get(o, "sequences"), 0), NULL);
    each_member(x, &m, o, json_object_get(o, "visibility"), NULL);
    json_decref(o);
    manifest_release(&m);
}

static void forged_member(struct fixture *x, const struct manifest *m, const char *name, json_t *v, int expected)
{
    json_t *o = manifest_to_json(m);

    assert_int_equal(json_object_set_new(o, name, v), 0);
    assert_int_equal(get_forged(x, m, o), expected);
    json_decref(o);
}

static void test_refused_and_odd(void **state)
{
    struct fixture *x = *state;
    struct manifest m;

    snapshots_take(x, 1000, 1, &m);
    forged_member(x, &m, "format", json_integer(2), -ERROR_REFUSED);
    forged_member(x, &m, "incompatible", json_pack("[s]", "sealed"), -ERROR_REFUSED);
    forged_member(x, &m, "key_order", json_string("salvor-2"), -ERROR_REFUSED);
    forged_member(x, &m, "row_hash", json_string("md5"), -ERROR_REFUSED);
    forged_member(x, &m, "source", json_string("bank"), -ERROR_CORRUPT);
    forged_member(x, &m, "incarnation", json_string("0002"), -ERROR_CORRUPT);
    forged_member(x, &m, "position", json_string("0/1"), -ERROR_CORRUPT);
    forged_member(x, &m, "schema", json_string("12"), -ERROR_CORRUPT);
    forged_member(x, &m, "tables", json_pack("[i]", 3), -ERROR_CORRUPT);
    forged_member(x, &m, "visibility", json_pack("{s:i,s:i,s:[f]}", "xmin", 1, "xmax", 2, "xip", 0.5), -ERROR_CORRUPT);
    forged_member(x, &m, "visibility", json_pack("{s:i,s:i,s:[i]}", "xmin", 1, "xmax", 2, "xip", -1), -ERROR_CORRUPT);
    manifest_release(&m);
}

static void assert_fault(struct manifest *m, const char *expected)
{
    struct error err;

    assert_fails(manifest_check(m, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, expected);
}

/* One field is changed, the check says so, and the field is put back. */
#define FAULT(place_, value_, expected_)                                                                               \
    do {                                                                                                               \
        __typeof__(place_) saved_ = (place_);                                                                          \
        (place_) = (value_);                                                                                           \
        assert_fault(&m, (expected_));                                                                                 \
        (place_) = saved_;                                                                                             \
    } while (0)

static char *key64(char ch, const char *end)
{
    static char text[2][140];
    static int turn;

    turn = !turn;
    memset(text[turn], ch, 128);
    (void)snprintf(text[turn] + 128, 12, "%s", end);
    return text[turn];
}

static void test_check(void **state)
{
    struct fixture *x = *state;
    struct manifest m;
    char reason[] = "too large", empty[] = "", odd[] = "123", upper[] = "AB", tilde[] = "12~", low[] = "00",
         high[] = "ff";

    snapshots_head(&m, 1000, 1);
    snapshots_fill(NULL, &m);
    assert_ok(manifest_check(&m, &x->err), x->err);
    struct snapshot_table *t = &m.tables[0];
    struct chunk_ref *c = &t->chunks[0];
    FAULT(m.rows, m.rows + 1, "totals");
    FAULT(m.plain_bytes, m.plain_bytes + 1, "totals");
    FAULT(m.stored_bytes, m.stored_bytes + 1, "totals");
    FAULT(t->rows, t->rows + 1, "not the sum");
    FAULT(t->plain_bytes, t->plain_bytes + 1, "not the sum");
    FAULT(t->hash.lo, t->hash.lo + 1, "not the sum");
    FAULT(c->hash.hi, c->hash.hi + 1, "not the sum");
    FAULT(c->rows, 0, "no rows");
    FAULT(c->rows, (uint64_t)c->plain_bytes + 1, "no rows");
    FAULT(c->plain_bytes, 0, "no rows");
    FAULT(c->plain_bytes, (uint32_t)CHUNK_PLAIN_BYTES_MAX + 1, "no rows");
    FAULT(c->stored_bytes, 0, "a size");
    FAULT(c->stored_bytes, (uint32_t)CHUNK_STORED_BYTES_MAX + 1, "a size");
    FAULT(c->first_key, NULL, "range");
    FAULT(c->first_key, odd, "range");
    FAULT(c->first_key, upper, "range");
    FAULT(c->first_key, tilde, "range");
    FAULT(c->last_key, tilde, "range");
    FAULT(c->first_key, key64('1', "~"), "range");
    FAULT(c->first_key, key64('1', "11"), "range");
    FAULT(c->first_key, high, "ends before");
    FAULT(c->last_key, empty, "ends before");
    FAULT(c->last_key, high, "not in key order");
    FAULT(t->chunks[1].first_key, c->last_key, "not in key order");
    FAULT(t->chunks[1].first_key, low, "not in key order");
    FAULT(t->inexact_reason, reason, "rows and a reason");
    FAULT(t->relation.id, m.tables[1].relation.id, "stands twice");
    FAULT(m.position.offset, 1001, "position");
    FAULT(m.position.log, 1, "position");
    FAULT(m.id[0], 'x', "id of a snapshot");
    FAULT(m.source[0], 'X', "no source");
    FAULT(m.incarnation[3], 'x', "no source");
    FAULT(m.incarnation[3], '\0', "no source");
    FAULT(m.schema_digest[0], 'x', "schema");
    FAULT(m.visibility, ((struct snapshot_visibility){.present = true, .xmin = 2, .xmax = 1}), "visible");
    uint64_t xip[1] = {5};
    FAULT(m.visibility,
          ((struct snapshot_visibility){.present = true, .xmin = 1, .xmax = 5, .xip_count = 1, .xip = xip}), "visible");
    FAULT(m.visibility,
          ((struct snapshot_visibility){.present = true, .xmin = 6, .xmax = 9, .xip_count = 1, .xip = xip}), "visible");
    assert_ok(manifest_check(&m, &x->err), x->err);
    /* What a writer would put like this is its bug, and nothing is written. */
    m.rows++;
    assert_fails(manifest_put(x->v, &m, &x->err), x->err, ERROR_BUG);
    assert_fails(manifest_get(x->v, "shop", "0001", m.id, &m, &x->err), x->err, ERROR_NOT_FOUND);
    manifest_release(&m);
}

/* Where chunks may meet: equal rows without a key, and keys that were cut to the same 64 bytes. */
static void test_ranges_that_meet(void **state)
{
    struct fixture *x = *state;
    struct manifest m;
    static const char *const equal[] = {"a\tx\n", "a\tx\n", NULL};

    (void)state;
    snapshots_head(&m, 1000, 1);
    snapshots_table(NULL, &m, LOG_ID, equal);
    snapshots_fill(NULL, &m);
    m.tables[2].relation.id = 1;
    assert_ok(manifest_check(&m, &x->err), x->err);
    struct snapshot_table *t = &m.tables[1];
    char *last = t->chunks[0].last_key, *first = t->chunks[1].first_key, *end = t->chunks[1].last_key;
    t->chunks[0].last_key = mem_strdup(key64('9', "~"));
    t->chunks[1].first_key = mem_strdup(key64('9', ""));
    t->chunks[1].last_key = mem_strdup(key64('9', "~"));
    assert_ok(manifest_check(&m, &x->err), x->err);
    t->chunks[1].first_key[0] = '8';
    assert_fault(&m, "not in key order");
    free(last);
    free(first);
    free(end);
    manifest_release(&m);
}

static void test_ids(void **state)
{
    struct error err;
    struct position p;
    char id[80] = "0000000000000000000000000"
                  "16b3748-0123abcd",
         changed[80];

    (void)state;
    assert_ok(snapshot_position(id, &p, &err), err);
    assert_true(p.log == 0 && p.offset == 0x16b3748);
    for (size_t i = 0; id[i]; i++) {
        (void)snprintf(changed, sizeof changed, "%.*s", (int)i, id);
        assert_fails(snapshot_position(changed, &p, &err), err, ERROR_CORRUPT);
        (void)snprintf(changed, sizeof changed, "%s", id);
        changed[i] = '/';
        assert_fails(snapshot_position(changed, &p, &err), err, ERROR_CORRUPT);
    }
    (void)snprintf(changed, sizeof changed, "%s0", id);
    assert_fails(snapshot_position(changed, &p, &err), err, ERROR_CORRUPT);
}

static void test_list(void **state)
{
    struct fixture *x = *state;
    struct manifest m[3];
    char **ids, name[VAULT_KEY_BYTES];
    size_t count;

    assert_ok(snapshot_list(x->v, "shop", "0001", &ids, &count, &x->err), x->err);
    assert_int_equal(count, 0);
    free(ids);
    snapshots_take(x, 3000, 1, &m[0]);
    snapshots_take(x, 1000, 2, &m[1]);
    snapshots_head(&m[2], 2000, 3);
    assert_ok(snapshot_intent(x->v, &m[2], &x->err), x->err); /* begun, never committed */
    assert_fails(snapshot_intent(x->v, &m[2], &x->err), x->err, ERROR_EXISTS);
    vault_key(name, "shop", "0001", "snapshots/other/manifest.json.zst");
    json_t *o = json_object();
    assert_ok(object_put_json(x->v->driver, name, o, &x->err), x->err);
    json_decref(o);
    assert_ok(snapshot_list(x->v, "shop", "0001", &ids, &count, &x->err), x->err);
    assert_int_equal(count, 2);
    assert_string_equal(ids[0], m[1].id);
    assert_string_equal(ids[1], m[0].id);
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    for (int i = 0; i < 3; i++)
        manifest_release(&m[i]);
}

/* A renewal is in no list of snapshots, and is found by its snapshot alone. */
static void test_renewal(void **state)
{
    struct fixture *x = *state;
    struct manifest base, other, renewal, back;
    char **ids;
    size_t count;

    snapshots_take(x, 1000, 1, &base);
    snapshots_take(x, 1200, 2, &other);
    snapshots_renew(x, &base, 1500, 3, &renewal);
    assert_ok(renewal_list(x->v, "shop", "0001", base.id, &ids, &count, &x->err), x->err);
    assert_int_equal(count, 1);
    assert_string_equal(ids[0], renewal.id);
    free(ids[0]);
    free(ids);
    assert_ok(renewal_list(x->v, "shop", "0001", other.id, &ids, &count, &x->err), x->err);
    assert_int_equal(count, 0);
    free(ids);
    assert_ok(snapshot_list(x->v, "shop", "0001", &ids, &count, &x->err), x->err);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    assert_ok(renewal_get(x->v, "shop", "0001", base.id, renewal.id, &back, &x->err), x->err);
    assert_string_equal(back.renews, base.id);
    assert_int_equal(back.tables_count, 1);
    assert_true(hash128_equal(back.tables[0].hash, renewal.tables[0].hash));
    manifest_release(&back);
    assert_fails(renewal_get(x->v, "shop", "0001", other.id, renewal.id, &back, &x->err), x->err, ERROR_NOT_FOUND);
    assert_fails(manifest_get(x->v, "shop", "0001", renewal.id, &back, &x->err), x->err, ERROR_NOT_FOUND);
    /* What announced it stays, as with a snapshot. */
    assert_ok(snapshot_intent_remove(x->v, "shop", "0001", renewal.id, &x->err), x->err);
    char intent[VAULT_KEY_BYTES];
    uint64_t bytes;
    manifest_key(intent, "shop", "0001", renewal.id, "intent");
    assert_ok(x->v->driver->ops->size(x->v->driver, intent, &bytes, &x->err), x->err);
    manifest_release(&base);
    manifest_release(&other);
    manifest_release(&renewal);
}

static void test_intent_of_nonsense(void **state)
{
    struct fixture *x = *state;
    struct manifest m;

    snapshots_head(&m, 1000, 1);
    m.id[3] = '.';
    assert_fails(snapshot_intent(x->v, &m, &x->err), x->err, ERROR_CORRUPT);
    manifest_release(&m);
}

static void test_schemas(void **state)
{
    struct fixture *x = *state;
    struct buf out = BUF_INIT(1 << 20);
    struct manifest m;
    char key[VAULT_KEY_BYTES];

    snapshots_head(&m, 1000, 1);
    assert_fails(schema_get_dump(x->v, &m, &out, &x->err), x->err, ERROR_NOT_FOUND);
    assert_fails(schema_get_sql(x->v, &m, &out, &x->err), x->err, ERROR_NOT_FOUND);
    assert_fails(schema_put(x->v, &m, slice_str("D"), slice_str("other"), &x->err), x->err, ERROR_BUG);
    assert_ok(schema_put(x->v, &m, slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
    assert_ok(schema_put(x->v, &m, slice_str("D of another run"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
    assert_ok(schema_get_dump(x->v, &m, &out, &x->err), x->err);
    assert_string_equal(buf_cstr(&out), "D");
    assert_ok(schema_get_sql(x->v, &m, &out, &x->err), x->err);
    assert_string_equal(buf_cstr(&out), "D" SNAPSHOTS_SQL);
    static const char *const suffixes[2] = {"dump", "sql"};
    for (int i = 0; i < 2; i++) {
        schema_key(key, x->v, &m, suffixes[i]);
        struct buf good = fixture_read(x, key);
        for (size_t bit = 0; bit < good.n * 8; bit++) {
            fixture_poke(x, key, bit / 8, (uint8_t)(good.p[bit / 8] ^ 1u << bit % 8));
            int rc = i == 0 ? schema_get_dump(x->v, &m, &out, &x->err) : schema_get_sql(x->v, &m, &out, &x->err);
            assert_int_equal(rc, -ERROR_CORRUPT);
            assert_contains(x->err.message, key);
            fixture_poke(x, key, bit / 8, good.p[bit / 8]);
        }
        fixture_poke(x, key, 10, (uint8_t)~good.p[10]);
        assert_fails(schema_put(x->v, &m, slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err, ERROR_CORRUPT);
        fixture_poke(x, key, 10, good.p[10]);
        buf_release(&good);
    }
    /* A text that is not the one that its name says, in a whole object. */
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    assert_ok(object_put_zst(x->v->driver, key, slice_str("drop table item"), &x->err), x->err);
    buf_clear(&out);
    assert_fails(schema_get_sql(x->v, &m, &out, &x->err), x->err, ERROR_CORRUPT);
    assert_int_equal(out.n, 0);
    buf_release(&out);
    manifest_release(&m);
}

static void test_large_objects(void **state)
{
    struct fixture *x = *state;
    struct manifest m, back;

    snapshots_head(&m, 1000, 1);
    snapshots_fill(x->v, &m);
    snapshots_large(x->v, &m);
    assert_ok(manifest_put(x->v, &m, &x->err), x->err);
    assert_ok(manifest_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err);
    assert_true(back.large.present);
    assert_int_equal(back.large.page_bytes, 2048);
    assert_int_equal(manifest_runs(&back), m.tables_count + 2);
    for (int i = 0; i < LARGE_PARTS_; i++) {
        assert_true(relation_same_shape(&back.large.parts[i].relation, &m.large.parts[i].relation));
        assert_true(back.large.parts[i].rows == m.large.parts[i].rows && m.large.parts[i].rows > 0);
        assert_true(hash128_equal(back.large.parts[i].hash, m.large.parts[i].hash));
        assert_string_equal(back.large.parts[i].chunks[0].last_key, m.large.parts[i].chunks[0].last_key);
    }
    assert_ok(snapshot_chunks_present(x->v, &back, &x->err), x->err);
    manifest_release(&back);
    json_t *o = manifest_to_json(&m);
    each_member(x, &m, o, json_object_get(o, "large_objects"), NULL);
    /* Who does not know them must not read it, and who does must not miss them. */
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "incompatible"), 0)), "large-objects");
    assert_int_equal(json_object_del(o, "large_objects"), 0);
    assert_int_equal(get_forged(x, &m, o), -ERROR_CORRUPT);
    json_decref(o);
    FAULT(m.large.page_bytes, 0, "no size");
    FAULT(m.large.parts[LARGE_PAGES].rows, 7, "not the sum");
    FAULT(m.large.parts[LARGE_OBJECTS].relation.columns[1].type_id, 23, "not what large objects are kept as");
    FAULT(m.large.parts[LARGE_PAGES].relation.columns[0].key, false, "not what large objects are kept as");
    manifest_release(&m);
}

static void test_large_objects_between(void **state)
{
    struct fixture *x = *state;
    struct manifest m, other, back;
    char key[VAULT_KEY_BYTES], id[SNAPSHOT_ID_BYTES], **ids;
    size_t count;

    snapshots_head(&m, 1000, 1);
    m.schema_digest[0] = '\0';
    assert_fails(large_put(x->v, &m, &x->err), x->err, ERROR_BUG); /* neither a snapshot nor large objects */
    snapshots_large(x->v, &m);
    assert_ok(large_put(x->v, &m, &x->err), x->err);
    assert_ok(large_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err);
    assert_true(back.large.parts[LARGE_PAGES].rows == 3 && back.tables_count == 0);
    manifest_release(&back);
    assert_ok(large_list(x->v, "shop", "0001", &ids, &count, &x->err), x->err);
    assert_int_equal(count, 1);
    assert_string_equal(ids[0], m.id);
    free(ids[0]);
    free(ids);
    large_key(key, "shop", "0001", m.id);
    assert_true(large_parse_name(strrchr(key, '/') + 1, id));
    assert_string_equal(id, m.id);
    assert_false(large_parse_name("x.json.zst", id));
    assert_false(large_parse_name(m.id, id));
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
    assert_fails(large_get(x->v, "shop", "0001", m.id, &back, &x->err), x->err, ERROR_NOT_FOUND);
    /* Where a snapshot is expected it is none. */
    snapshots_head(&other, 1000, 1);
    snapshots_fill(x->v, &other);
    assert_ok(manifest_put(x->v, &other, &x->err), x->err);
    json_t *o = manifest_to_json(&m);
    assert_int_equal(get_forged(x, &m, o), -ERROR_CORRUPT);
    assert_contains(x->err.message, "no schema");
    json_decref(o);
    manifest_release(&other);
    manifest_release(&m);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_round_trip),
        ROW(test_bare),
        ROW(test_every_bit_and_length),
        ROW(test_misplaced),
        ROW(test_members),
        ROW(test_refused_and_odd),
        ROW(test_check),
        ROW(test_ranges_that_meet),
        ROW(test_ids),
        ROW(test_list),
        ROW(test_renewal), ROW(test_intent_of_nonsense),
        ROW(test_schemas),
        ROW(test_large_objects),
        ROW(test_large_objects_between),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
