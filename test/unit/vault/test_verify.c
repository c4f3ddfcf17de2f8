/* vault_verify: a whole vault has no findings, and whatever is changed in it is named, with the object's key. */
#include "vault/support.h"

#include "base/clock.h"
#include "vault/object.h"
#include "vault/segment_format.h"
#include "vault/whole.h"

static void test_whole(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct verify_result r = verify(x, NULL);

    if (r.findings_count > 0)
        show(&r);
    assert_int_equal(r.findings_count, 0);
    assert_int_equal(r.segments, 3);
    assert_int_equal(r.snapshots, 1);
    assert_int_equal(r.chunks, 4);
    /* VAULT, capabilities, incarnation, 2 epochs, 3 segments, 3 of the snapshot and 2 of its renewal, 2 schemas each, 4 chunks, proof */
    assert_int_equal(r.objects, 22);
    assert_true(r.bytes > 3000);
    verify_result_release(&r);
    r = verify(x, "shop");
    assert_int_equal(r.objects, 20);
    assert_int_equal(r.findings_count, 0);
    verify_result_release(&r);
    r = verify(x, "bank");
    assert_int_equal(r.objects, 0);
    verify_result_release(&r);
    assert_fails(vault_verify(x->v, "../etc", 0, NULL, NULL, &r, &x->err), x->err, ERROR_USAGE);
    manifest_release(&w.m);
}

static void test_empty(void **state)
{
    struct fixture *x = *state;

    assert_clean(x);
    /* What a claim that was cut short leaves. */
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/0001/rows"), 0700, &x->err), x->err);
    assert_clean(x);
}

/* Cut at every length, down to nothing. */
static void test_truncated(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char *keys[] = {mem_strdup("sources/shop/epochs/000001.json"), segment_name(&w.segments[1]),
                    snapshot_name(&w.m, "manifest.json.zst"), chunk_name(&w.m, 0, 0, 0), schema_name(&w.m, "dump")};

    for (size_t i = 0; i < 5; i++) {
        struct buf good = fixture_read(x, keys[i]);
        for (size_t n = 0; n<good.n; n += good.n> 200 ? 13 : 3) {
            fixture_write(x, keys[i], good.p, n);
            assert_found(x, "damaged", keys[i], "");
        }
        fixture_write(x, keys[i], good.p, good.n);
        buf_release(&good);
        free(keys[i]);
    }
    assert_clean(x);
    manifest_release(&w.m);
}

static void remove_object(struct fixture *x, const char *key)
{
    assert_ok(file_remove(fixture_path(x, key), &x->err), x->err);
}

static void test_missing(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct {
        char *key;
        const char *kind, *named, *part;
    } rows[] = {
        {mem_strdup("sources/shop/0001/incarnation.json"), "missing", NULL, "history"},
        {segment_name(&w.segments[0]), "gap", "sources/shop/0001/rows/", "segment 1 is missing"},
        {segment_name(&w.segments[1]), "gap", "sources/shop/0001/rows/", "segment 2 is missing"},
        {segment_name(&w.segments[2]), "gap", "sources/shop/0001/rows/", "segment 3 is missing, and a later writer"},
        {snapshot_name(&w.m, "intent"), "missing", NULL, "announced"},
        {schema_name(&w.m, "sql"), "missing", NULL, ""},
        {schema_name(&w.m, "dump"), "missing", NULL, ""},
        {chunk_name(&w.m, 0, 1, 0), "missing", NULL, "public.item"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf good = fixture_read(x, rows[i].key);
        remove_object(x, rows[i].key);
        assert_only(x, rows[i].kind, rows[i].named ? rows[i].named : rows[i].key, rows[i].part);
        fixture_write(x, rows[i].key, good.p, good.n);
        buf_release(&good);
        free(rows[i].key);
    }
    assert_clean(x);
    manifest_release(&w.m);
}

static void test_missing_manifest(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char *manifest = snapshot_name(&w.m, "manifest.json.zst"), *committed = snapshot_name(&w.m, "committed");
    char proof[VAULT_KEY_BYTES];
    struct verify_result r;

    /* A proof and the mark both know of it. */
    remove_object(x, manifest);
    r = verify(x, NULL);
    assert_int_equal(r.findings_count, 2);
    assert_non_null(find(&r, "missing", manifest));
    verify_result_release(&r);
    remove_object(x, committed);
    assert_only(x, "missing", manifest, "proof");
    /* Without either it is a snapshot that was never finished. */
    (void)snprintf(proof, sizeof proof, "proofs/shop/0001/%s/000001.json", w.m.id);
    remove_object(x, proof);
    assert_clean(x);
    free(manifest);
    free(committed);
    manifest_release(&w.m);
}

static void test_missing_several_segments(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char *keys[] = {segment_name(&w.segments[0]), segment_name(&w.segments[1]), segment_name(&w.segments[2])};

    remove_object(x, keys[0]);
    remove_object(x, keys[1]);
    assert_only(x, "gap", "sources/shop/0001/rows/", "segments 1 to 2 are missing");
    remove_object(x, keys[2]);
    assert_only(x, "gap", "sources/shop/0001/rows/", "segments 1 to 3 are missing");
    for (int i = 0; i < 3; i++)
        free(keys[i]);
    manifest_release(&w.m);
}

static void swapped(struct fixture *x, const char *a, const char *b, const char *kind)
{
    struct verify_result r;

    fixture_swap(x, a, b);
    r = verify(x, NULL);
    if (!find(&r, kind, a) || !find(&r, kind, b)) {
        show(&r);
        fail_msg("%s and %s were swapped", a, b);
    }
    verify_result_release(&r);
    fixture_swap(x, a, b);
}

static void test_swapped(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct manifest other;
    char *keys[10];

    snapshots_take(x, 2000, 7, &other);
    keys[0] = segment_name(&w.segments[0]);
    keys[1] = segment_name(&w.segments[2]);
    keys[2] = snapshot_name(&w.m, "manifest.json.zst");
    keys[3] = snapshot_name(&other, "manifest.json.zst");
    keys[4] = schema_name(&w.m, "sql");
    keys[5] = schema_name(&other, "sql");
    keys[6] = snapshot_name(&w.m, "intent");
    keys[7] = snapshot_name(&other, "committed");
    keys[8] = mem_strdup("sources/shop/epochs/000001.json");
    keys[9] = mem_strdup("sources/shop/epochs/000002.json");
    for (int i = 0; i < 10; i += 2)
        swapped(x, keys[i], keys[i + 1], "misplaced");
    char *a = chunk_name(&w.m, 0, 0, 0), *b = chunk_name(&w.m, 1, 0, 0);
    swapped(x, a, b, "damaged");
    free(a);
    free(b);
    /* A renamed segment: misplaced where it stands, a hole where it stood. */
    struct segment_id id = w.segments[1];
    id.sequence = 9;
    a = segment_name(&id);
    b = segment_name(&w.segments[1]);
    fixture_rename(x, b, a);
    assert_found(x, "misplaced", a, "segment 2");
    assert_found(x, "gap", "sources/shop/0001/rows/", "segment 2 is missing");
    fixture_rename(x, a, b);
    assert_clean(x);
    free(a);
    free(b);
    for (int i = 0; i < 10; i++)
        free(keys[i]);
    manifest_release(&w.m);
    manifest_release(&other);
}

/* A segment that is whole and has its name, and is not the one that its successor names. */
static void test_broken_chain(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct buf frames = BUF_INIT(1 << 20);
    struct spool_header header = frames_header(2, 1, 1000);
    struct digest first;
    char *key = segment_name(&w.segments[1]), *next = segment_name(&w.segments[2]);

    assert_ok(segment_digest(x->v, "shop", "0001", &w.segments[0], &first, &x->err), x->err);
    remove_object(x, key);
    frames_define(&frames, ITEM_ID);
    frames_insert(&frames, 702, 1500, 10, "first");
    frames_insert(&frames, 703, 2000, 11, "altered");
    struct segment_id id = frames_store(x, &header, &first, buf_slice(&frames), NULL);
    assert_memory_equal(&id.last, &w.segments[1].last, sizeof id.last);
    assert_only(x, "chain", next, "does not follow segment 2");
    /* And one that names another predecessor. */
    remove_object(x, key);
    header.after = position_of_lsn(999);
    (void)frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    struct verify_result r = verify(x, NULL);
    assert_int_equal(r.findings_count, 3);
    assert_non_null(find(&r, "chain", key));
    assert_non_null(find(&r, "chain", next));
    assert_string_equal(r.findings[0].key, key);
    assert_contains(r.findings[0].text, "does not follow segment 1");
    assert_contains(r.findings[1].text, "begins after 0/3E7, and segment 1 ends at 0/3E8");
    verify_result_release(&r);
    free(key);
    free(next);
    buf_release(&frames);
    manifest_release(&w.m);
}

static void test_first_names_one_before(void **state)
{
    struct fixture *x = *state;
    uint32_t epoch;
    struct incarnation i = {.reason = "x"};
    struct buf frames = BUF_INIT(1 << 20);
    struct spool_header header = frames_header(1, 1, 0);
    struct digest digest = digest_of(slice_str("x"));

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(epoch_claim(x->v, "shop", "0001", 1, &epoch, &x->err), x->err);
    struct segment_id id = frames_store(x, &header, &digest, buf_slice(&frames), NULL);
    char *key = segment_name(&id);
    assert_only(x, "chain", key, "names one before it");
    free(key);
    buf_release(&frames);
}

/* The last segment was replaced by another whole one: the next writer's claim knows it. */
static void test_claim_knows_the_end(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct buf frames = BUF_INIT(1 << 20);
    struct spool_header header = frames_header(3, 1, 2000);
    struct digest second;
    char *key = segment_name(&w.segments[2]);

    assert_ok(segment_digest(x->v, "shop", "0001", &w.segments[1], &second, &x->err), x->err);
    remove_object(x, key);
    frames_define(&frames, ITEM_ID);
    frames_insert(&frames, 704, 3000, 20, "altered");
    (void)frames_store(x, &header, &second, buf_slice(&frames), NULL);
    struct verify_result r = verify(x, NULL);
    assert_int_equal(r.findings_count, 1);
    assert_string_equal(r.findings[0].kind, "chain");
    assert_string_equal(r.findings[0].key, "sources/shop/epochs/000002.json");
    verify_result_release(&r);
    free(key);
    buf_release(&frames);
    manifest_release(&w.m);
}

/* Segments of a stale writer do not count, and are not damage. */
static void test_unclaimed_epoch(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);

    remove_object(x, "sources/shop/epochs/000001.json");
    assert_only(x, "missing", "sources/shop/epochs/000001.json", "no claim of it");
    manifest_release(&w.m);
}

static void test_stale_writer(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct buf frames = BUF_INIT(1 << 20);
    struct spool_header header = frames_header(4, 1, 3000);
    struct digest third;

    assert_ok(segment_digest(x->v, "shop", "0001", &w.segments[2], &third, &x->err), x->err);
    frames_define(&frames, ITEM_ID);
    frames_insert(&frames, 706, 3500, 30, "stale");
    (void)frames_store(x, &header, &third, buf_slice(&frames), NULL);
    assert_clean(x);
    header.epoch = w.epoch;
    (void)frames_store(x, &header, &third, buf_slice(&frames), NULL);
    assert_clean(x);
    buf_release(&frames);
    manifest_release(&w.m);
}

/* One number and epoch twice, each whole. */
static void test_twice(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct buf frames = BUF_INIT(1 << 20);
    struct spool_header header = frames_header(3, 1, 2000);
    struct digest second;

    assert_ok(segment_digest(x->v, "shop", "0001", &w.segments[1], &second, &x->err), x->err);
    frames_define(&frames, ITEM_ID);
    frames_insert(&frames, 704, 2900, 20, "another");
    (void)frames_store(x, &header, &second, buf_slice(&frames), NULL);
    struct verify_result r = verify(x, NULL);
    assert_true(r.findings_count >= 1);
    assert_string_equal(r.findings[0].kind, "chain");
    assert_contains(r.findings[0].text, "two segments");
    verify_result_release(&r);
    buf_release(&frames);
    manifest_release(&w.m);
}

static void test_recorded_gap(void **state)
{
    struct fixture *x = *state;
    uint32_t epoch;
    struct incarnation i = {.reason = "x"};
    struct buf frames = BUF_INIT(1 << 20);
    struct spool_header header = frames_header(1, 1, 0);
    json_t *note = json_pack("{s:s,s:s,s:s,s:s}", "kind", NOTE_GAP, "from", "0/64", "to", "0/C8", "reason",
                             "the slot was dropped");

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(epoch_claim(x->v, "shop", "0001", 1, &epoch, &x->err), x->err);
    frame_put_note(&frames, note);
    frames_note(&frames, NOTE_SESSION);
    struct segment_id id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    char *key = segment_name(&id);
    assert_only(x, "gap", key, "between 0/64 and 0/C8 was not captured: the slot was dropped");
    remove_object(x, key);
    json_object_clear(note);
    json_set_str(note, "kind", NOTE_GAP);
    buf_clear(&frames);
    frame_put_note(&frames, note);
    id = frames_store(x, &header, NULL, buf_slice(&frames), NULL);
    assert_only(x, "gap", key, "no reason");
    json_decref(note);
    free(key);
    buf_release(&frames);
}

/* Schemas that were kept between snapshots are read as well; no manifest names them. */
static void test_schema_captures(void **state)
{
    static const char *const suffixes[] = {"sql", "dump", "state"};
    struct incarnation i = {.system_id = "7", .timeline = 1, .database_oid = 5, .database = "shop", .slot = "s", .reason = "the first"};
    struct fixture *x = *state;
    char key[VAULT_KEY_BYTES];
    struct manifest m;
    JSON_AUTO layout = json_pack("{s:{}}", "layout");

    snapshots_head(&m, 7000, 1);
    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(schema_put(x->v, &m, slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
    assert_ok(schema_put_state(x->v, &m, layout, &x->err), x->err);
    assert_clean(x);
    for (size_t k = 0; k < 3; k++) {
        schema_key(key, x->v, &m, suffixes[k]);
        struct buf before = fixture_read(x, key);

        fixture_write(x, key, before.p, before.n - 1);
        assert_only(x, "damaged", key, "");
        fixture_write(x, key, before.p, before.n);
        buf_release(&before);
    }
    schema_key(key, x->v, &m, "sql");
    struct digest other = digest_of(slice_str("another text"));
    (void)digest_format(&other, m.schema_digest);
    char moved[VAULT_KEY_BYTES];
    schema_key(moved, x->v, &m, "sql");
    struct buf text = fixture_read(x, key);
    fixture_write(x, moved, text.p, text.n);
    assert_found(x, "misplaced", moved, "");
    buf_release(&text);
    manifest_release(&m);
}

static void test_unknown_objects(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    static const char *const names[] = {
        "README",
        "VAULT2",
        "capabilities/1.json",
        "capabilities/000000.json",
        "keys/000001.json",
        "journal/x/000001.jsonl.zst",
        "proofs/shop/0001/000001.json",
        "proofs/shop/0001/snap/000001.json",
        "proofs/Shop/0001/snap/000001.json",
        "sources/shop/notes.txt",
        "sources/Shop/epochs/000001.json",
        "sources/shop/holds/x/y",
        "sources/shop/0001/rows/x.seg",
        "sources/shop/0001/rows/deep/x.seg",
        "sources/shop/0001/gaps/1.json",
        "sources/shop/0001/other.json",
        "sources/shop/0001/schemas/x.sql.zst",
        "sources/shop/0001/schemas/00000000000000000000000000000000-ab.sql.zst",
        "sources/shop/0001/schemas/00000000000000000000000000000000.sql.zst",
        "sources/shop/0001/snapshots/x/intent",
        "sources/shop/0001/snapshots/00000000000000000000000000000001-00000001/other",
        "sources/shop/0001/snapshots/00000000000000000000000000000001-00000001/deep/er/still",
        "sources/shop/chunks/ab/cd",
        "sources/shop/chunks/x",
        "sources/shop/chunks/ab/0123456789012345678901234567890123456789012345678901234567890123",
        "sources/shop/chunks/01/0123456789012345678901234567890123456789012345678901234567890123~0",
        "sources/shop/chunks/01/0123456789012345678901234567890123456789012345678901234567890123~10",
        "sources/shop/chunks/01/012345678901234567890123456789012345678901234567890123456789012345",
        "sources/shop/epochs/x.json",
        "sources/shop/epochs/000001.json.old",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = mem_strdup(fixture_path(x, names[i])), *slash = strrchr(path, '/');
        *slash = '\0';
        assert_ok(dir_make_all(path, 0700, &x->err), x->err);
        fixture_write(x, names[i], "x", 1);
        assert_only(x, "unknown", names[i], "");
        remove_object(x, names[i]);
        free(path);
    }
    /* A chunk that nothing needs is counted, no more. */
    const char *spare = "sources/shop/chunks/01/0123456789012345678901234567890123456789012345678901234567890123~1";
    assert_ok(dir_make_all(fixture_path(x, "sources/shop/chunks/01"), 0700, &x->err), x->err);
    fixture_write(x, spare, "x", 1);
    assert_clean(x);
    manifest_release(&w.m);
}

/* A newer format is neither good nor damaged. */
static void test_newer_manifest(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct buf plain = BUF_INIT(1 << 20), b = BUF_INIT(1 << 20);
    json_t *o = manifest_to_json(&w.m);
    char *key = snapshot_name(&w.m, "manifest.json.zst");

    json_set_u64(o, "format", 2);
    json_dump(o, &plain);
    assert_ok(object_encode_zst(buf_slice(&plain), key, &b, &x->err), x->err);
    fixture_write(x, key, b.p, b.n);
    assert_only(x, "unknown", key, "format 2");
    json_decref(o);
    free(key);
    buf_release(&plain);
    buf_release(&b);
    manifest_release(&w.m);
}

static void test_other_schema_text(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    struct buf b = BUF_INIT(1 << 20);
    char *key = schema_name(&w.m, "sql");

    assert_ok(object_encode_zst(slice_str("drop table item;"), key, &b, &x->err), x->err);
    fixture_write(x, key, b.p, b.n);
    assert_only(x, "damaged", key, "not the one in its name");
    free(key);
    buf_release(&b);
    manifest_release(&w.m);
}

/* A snapshot of one table whose manifest is put as it is given: what its numbers say is a lie about good chunks. */
static void lie(struct fixture *x, unsigned number, const char *const *chunks, void (*change)(struct manifest *m),
                const char *part)
{
    struct manifest m;

    snapshots_head(&m, 5000, number);
    assert_ok(snapshot_intent(x->v, &m, &x->err), x->err);
    snapshots_table(x->v, &m, ITEM_ID, chunks);
    change(&m);
    snapshots_sum(&m);
    assert_ok(schema_put(x->v, &m, slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
    assert_ok(manifest_put(x->v, &m, &x->err), x->err);
    char *key = snapshot_name(&m, "manifest.json.zst");
    assert_only(x, "damaged", key, part);
    assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/snapshots"), &x->err), x->err);
    free(key);
    manifest_release(&m);
}

static void lie_rows(struct manifest *m)
{
    m->tables[0].chunks[0].rows = 1;
}
static void lie_bytes(struct manifest *m)
{
    m->tables[0].chunks[0].plain_bytes++;
}
static void lie_hash(struct manifest *m)
{
    m->tables[0].chunks[0].hash.hi++;
}
static void lie_first(struct manifest *m)
{
    m->tables[0].chunks[0].first_key[15] = '0';
}
static void lie_last(struct manifest *m)
{
    m->tables[0].chunks[0].last_key[15] = '4';
}
static void lie_stored(struct manifest *m)
{
    m->tables[0].chunks[0].stored_checksum++;
}
static void lie_stored_bytes(struct manifest *m)
{
    m->tables[0].chunks[0].stored_bytes++;
}
static void lie_nothing(struct manifest *m)
{
    (void)m;
}

static void test_lying_manifests(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = {.reason = "x"};
    static const char *const good[] = {"1\tone\n2\ttwo\n3\tthree\n", NULL};
    static const char *const unordered[] = {"1\tone\n3\tthree\n2\ttwo\n4\tfour\n", NULL};
    static const char *const twice[] = {"1\tone\n2\ttwo\n2\ttwo\n3\tthree\n", NULL};

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    lie(x, 1, good, lie_rows, "number of rows");
    lie(x, 2, good, lie_bytes, "size");
    lie(x, 3, good, lie_hash, "content hash");
    lie(x, 4, good, lie_first, "range of keys");
    lie(x, 5, good, lie_last, "range of keys");
    lie(x, 8, unordered, lie_nothing, "order of rows");
    lie(x, 9, twice, lie_nothing, "order of rows");
}

/* Bits that zstd passes over are damage all the same: readers go by the stored bytes. */
static void test_other_stored_bytes(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = {.reason = "x"};
    static const char *const rows[] = {"1\tone\n2\ttwo\n", NULL};

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    for (unsigned k = 0; k < 2; k++) {
        struct manifest m;
        snapshots_head(&m, 5000, k);
        assert_ok(snapshot_intent(x->v, &m, &x->err), x->err);
        snapshots_table(x->v, &m, ITEM_ID, rows);
        (k == 0 ? lie_stored : lie_stored_bytes)(&m);
        snapshots_sum(&m);
        assert_ok(schema_put(x->v, &m, slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
        assert_ok(manifest_put(x->v, &m, &x->err), x->err);
        char *key = chunk_name(&m, 0, 0, 0), *copy = chunk_name(&m, 0, 0, 1);
        assert_only(x, "damaged", key, "its bytes are not the ones");
        /* With a copy beside it a reader finds the content. */
        struct buf stored = fixture_read(x, key);
        fixture_write(x, copy, stored.p, stored.n);
        assert_clean(x);
        remove_object(x, copy);
        buf_release(&stored);
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/snapshots"), &x->err), x->err);
        free(key);
        free(copy);
        manifest_release(&m);
    }
}

/* Chunks that are what their names say and hold no rows of their table. */
static void test_not_rows(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = {.reason = "x"};
    static const char *const texts[] = {"1\tone\n2\ttwo", "x\tone\n", "\\N\tone\n"};
    static const char *const good[] = {"1\tone\n", NULL};

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    for (unsigned k = 0; k < 3; k++) {
        struct buf stored = BUF_INIT(1 << 20);
        struct zst *z = zst_new(3);
        struct manifest m;
        snapshots_head(&m, 5000, k);
        assert_ok(snapshot_intent(x->v, &m, &x->err), x->err);
        snapshots_table(NULL, &m, ITEM_ID, good);
        struct chunk_ref *ref = &m.tables[0].chunks[0];
        assert_ok(zst_compress(z, slice_str(texts[k]), &stored, &x->err), x->err);
        ref->digest = digest_of(slice_str(texts[k]));
        ref->stored_bytes = (uint32_t)stored.n;
        ref->stored_checksum = hash64(buf_slice(&stored));
        ref->plain_bytes = (uint32_t)strlen(texts[k]);
        snapshots_sum(&m);
        assert_ok(chunk_put(x->v, "shop", ref, buf_slice(&stored), NULL, &x->err), x->err);
        assert_ok(schema_put(x->v, &m, slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
        assert_ok(manifest_put(x->v, &m, &x->err), x->err);
        char *key = chunk_name(&m, 0, 0, 0);
        assert_found(x, "damaged", key, "not rows of public.item");
        assert_ok(dir_remove_all(fixture_path(x, "sources/shop/0001/snapshots"), &x->err), x->err);
        free(key);
        zst_free(z);
        buf_release(&stored);
        manifest_release(&m);
    }
}

/* Long keys, and rows without a key that are equal over the border of chunks. */
static void test_long_keys(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = {.reason = "x"};
    struct manifest m;
    char row[400], other[400];
    static const char *const equal[] = {"a\tx\na\tx\n", "a\tx\nb\ty\n", NULL};

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    (void)snprintf(row, sizeof row, "%0100d\tx\n%0100d\ty\n", 1, 2);
    (void)snprintf(other, sizeof other, "%0100d\tx\n", 3);
    const char *const chunks[] = {row, other, NULL};
    snapshots_head(&m, 5000, 1);
    assert_ok(snapshot_intent(x->v, &m, &x->err), x->err);
    snapshots_table(x->v, &m, LOG_ID, chunks);
    snapshots_table(x->v, &m, LOG_ID + 1, equal);
    assert_int_equal(strlen(m.tables[0].chunks[0].last_key), 129);
    assert_ok(schema_put(x->v, &m, slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
    assert_ok(manifest_put(x->v, &m, &x->err), x->err);
    assert_clean(x);
    manifest_release(&m);
}

/* Copies: a damaged first one beside a good one, and the reverse. */
static void test_copies(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char *first = chunk_name(&w.m, 0, 0, 0), *copy = chunk_name(&w.m, 0, 0, 1);
    struct buf good = fixture_read(x, first);

    fixture_write(x, copy, good.p, good.n);
    assert_clean(x);
    fixture_poke(x, first, 12, (uint8_t)~good.p[12]);
    assert_only(x, "damaged", first, "a good copy stands beside it");
    remove_object(x, first);
    assert_clean(x);
    fixture_poke(x, copy, 12, (uint8_t)~good.p[12]);
    assert_only(x, "damaged", copy, "needs it for rows of public.item");
    fixture_write(x, first, good.p, good.n);
    assert_only(x, "damaged", copy, "");
    remove_object(x, copy);
    assert_clean(x);
    buf_release(&good);
    free(first);
    free(copy);
    manifest_release(&w.m);
}

/* Many snapshots, tables and chunks, most of them shared: each chunk is read once. */
static void test_many_chunks(void **state)
{
    struct fixture *x = *state;
    struct incarnation i = {.reason = "x"};
    struct manifest m[3];
    static char text[300][32];
    const char *chunks[301] = {0};

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    for (unsigned k = 0; k < 300; k++) {
        (void)snprintf(text[k], sizeof text[k], "%u\tname\n", k);
        chunks[k] = text[k];
    }
    for (unsigned k = 0; k < 3; k++) {
        snapshots_head(&m[k], 5000 + k, k);
        assert_ok(snapshot_intent(x->v, &m[k], &x->err), x->err);
        snapshots_table(k == 0 ? x->v : NULL, &m[k], ITEM_ID, chunks);
        assert_ok(schema_put(x->v, &m[k], slice_str("D"), slice_str(SNAPSHOTS_SQL), &x->err), x->err);
        assert_ok(manifest_put(x->v, &m[k], &x->err), x->err);
    }
    struct verify_result r = verify(x, NULL);
    assert_int_equal(r.findings_count, 0);
    assert_int_equal(r.snapshots, 3);
    assert_int_equal(r.chunks, 300);
    verify_result_release(&r);
    for (unsigned k = 0; k < 3; k++)
        manifest_release(&m[k]);
}

static void test_more_findings_than_are_kept(void **state)
{
    struct fixture *x = *state;
    char *folder = mem_strdup(fixture_path(x, "journal"));
    int fd;

    assert_ok(dir_make_all(folder, 0700, &x->err), x->err);
    for (int i = 0; i < 10005; i++) {
        char path[400];
        (void)snprintf(path, sizeof path, "%s/%d", folder, i);
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        (void)close(fd);
    }
    struct verify_result r = verify(x, NULL);
    assert_int_equal(r.findings_count, 10001);
    assert_string_equal(r.findings[10000].text, "and 5 further findings");
    verify_result_release(&r);
    free(folder);
}

static void test_unreadable(void **state)
{
    struct fixture *x = *state;
    struct whole w = make_whole(x);
    char *key = segment_name(&w.segments[1]);
    struct verify_result r;

    /* One object that cannot be read is a finding; a vault that cannot be listed is an error. */
    remove_object(x, key);
    assert_int_equal(symlink("/proc/self/mem", fixture_path(x, key)), 0);
    assert_found(x, "damaged", key, "");
    remove_object(x, key);
    assert_int_equal(chmod(fixture_path(x, "sources"), 0), 0);
    if (geteuid() != 0)
        assert_fails(vault_verify(x->v, NULL, 0, NULL, NULL, &r, &x->err), x->err, ERROR_IO);
    assert_int_equal(chmod(fixture_path(x, "sources"), 0700), 0);
    free(key);
    manifest_release(&w.m);
}

static void count_calls(void *user, const struct verify_result *so_far)
{
    assert_true(so_far->objects > 0);
    ++*(unsigned *)user;
}

/* A driver that takes its time, so that a second passes. */
static struct vault_driver_ops slow_ops;
static struct vault_driver *slow_real;

static int slow_get(struct vault_driver *d, const char *key, size_t max, struct buf *out, struct error *err)
{
    (void)d;
    clock_sleep_ms(300);
    return slow_real->ops->get(slow_real, key, max, out, err);
}

static int slow_list(struct vault_driver *d, const char *prefix,
                     int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user,
                     struct error *err)
{
    (void)d;
    return slow_real->ops->list(slow_real, prefix, fn, user, err);
}

static int slow_names(struct vault_driver *d, const char *prefix,
                      int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err)
{
    (void)d;
    return slow_real->ops->list_names(slow_real, prefix, fn, user, err);
}

static int slow_size(struct vault_driver *d, const char *key, uint64_t *ret, struct error *err)
{
    (void)d;
    return slow_real->ops->size(slow_real, key, ret, err);
}

static void test_progress(void **state)
{
    struct fixture *x = *state;
    struct vault_driver slow = {&slow_ops};
    struct vault v = *x->v;
    struct verify_result r;
    unsigned calls = 0;
    json_t *o = json_object();

    for (int i = 0; i < 4; i++)
        assert_ok(object_put_next(x->v->driver, "sources/shop/epochs/", ".json", 0, o, "epoch", NULL, &x->err), x->err);
    slow_real = x->v->driver;
    slow_ops =
        (struct vault_driver_ops){.get = slow_get, .list = slow_list, .list_names = slow_names, .size = slow_size};
    v.driver = &slow;
    assert_ok(vault_verify(&v, NULL, 0, count_calls, &calls, &r, &x->err), x->err);
    assert_true(calls >= 1 && calls <= 4);
    verify_result_release(&r);
    json_decref(o);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
    const struct CMUnitTest tests[] = {
        ROW(test_whole),
        ROW(test_empty),
        ROW(test_truncated),
        ROW(test_missing),
        ROW(test_missing_manifest),
        ROW(test_missing_several_segments),
        ROW(test_swapped),
        ROW(test_broken_chain),
        ROW(test_first_names_one_before),
        ROW(test_claim_knows_the_end),
        ROW(test_unclaimed_epoch),
        ROW(test_stale_writer),
        ROW(test_twice),
        ROW(test_recorded_gap),
        ROW(test_unknown_objects),
        ROW(test_schema_captures),
        ROW(test_newer_manifest),
        ROW(test_other_schema_text),
        ROW(test_lying_manifests),
        ROW(test_other_stored_bytes),
        ROW(test_not_rows),
        ROW(test_long_keys),
        ROW(test_copies),
        ROW(test_many_chunks),
        ROW(test_more_findings_than_are_kept),
        ROW(test_unreadable),
        ROW(test_progress),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
