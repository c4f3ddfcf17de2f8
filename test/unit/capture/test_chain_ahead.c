/*
 * test/unit/capture/test_chain_ahead.c - the footers of many segments are read by several calls at a time, each once, told in order, within a
 * bound; and a segment that was read is not read again for its digest.
 */
#include "made.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define SEGMENTS   150u
#define AHEAD_MAX  64u /* of the items that are read next */
#define PATIENCE_S 60

/* --- a driver that counts ------------------------------------------------------------------------------------------ */

static struct {
    const struct vault_driver_ops *inner;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t sizes, ranges, at_once, most_at_once, wait_for;
    uint64_t bytes;
} store = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int count_size(struct vault_driver *d, const char *key, uint64_t *ret_bytes, struct error *err)
{
    store.sizes++;
    return store.inner->size(d, key, ret_bytes, err);
}

/* Until as many calls as are waited for have been at work at once, none comes back. */
static int count_range(struct vault_driver *d, const char *key, uint64_t offset, size_t n, struct buf *out, struct error *err)
{
    struct timespec until;

    assert_return_code(clock_gettime(CLOCK_REALTIME, &until), 0);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&store.lock);
    store.ranges++;
    store.bytes += n;
    if (++store.at_once > store.most_at_once)
        store.most_at_once = store.at_once;
    pthread_cond_broadcast(&store.changed);
    while (store.most_at_once < store.wait_for && pthread_cond_timedwait(&store.changed, &store.lock, &until) == 0)
        continue;
    store.at_once--;
    pthread_mutex_unlock(&store.lock);
    return store.inner->get_range(d, key, offset, n, out, err);
}

static void watch(struct made *m)
{
    static struct vault_driver_ops counting;

    store.inner = m->vault->driver->ops;
    counting = *store.inner;
    counting.get_range = count_range;
    counting.size = count_size;
    m->vault->driver->ops = &counting;
}

static void reset(size_t wait_for)
{
    store.sizes = store.ranges = store.most_at_once = 0;
    store.bytes = 0;
    store.wait_for = wait_for;
}

/* --- a history ------------------------------------------------------------------------------------------------------ */

/* Each segment has one transaction with `rows` rows of `bytes` bytes that do not compress, and one note with its number. */
static void make(struct made *m, uint64_t segments, uint32_t rows, size_t bytes)
{
    CLEANUP(mem_free_ptr) char *text = mem_zalloc(bytes + 1, 1);

    made_open(m);
    for (uint64_t i = 1; i <= segments; i++) {
        char number[24];

        random_bytes(text, bytes);
        for (size_t k = 0; k < bytes; k++)
            text[k] = (char)(' ' + (uint8_t)text[k] % 64);
        made_part(m, i, 0, rows, text, true);
        made_flush(m);
        m->last = made_position(i);
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)i);
        made_note(m, "note", number);
        made_seal(m);
        made_ship(m, i, false);
    }
    watch(m);
}

static struct chain *open_chain(const struct made *m)
{
    const struct chain_config config = {.vault = m->vault, .source = MADE_SOURCE, .incarnation = MADE_INCARNATION};
    struct error err = ERROR_INIT;
    struct chain *c = NULL;

    assert_ok(chain_open(&config, &c, &err), err);
    return c;
}

static void assert_notes(const json_t *notes, uint64_t first, uint64_t last)
{
    assert_int_equal(json_array_size(notes), last + 1 - first);
    for (uint64_t i = first; i <= last; i++) {
        const char *reason = json_string_value(json_object_get(json_array_get(notes, (size_t)(i - first)), "reason"));

        assert_int_equal(strtoull(reason, NULL, 10), i);
    }
}

/* The object of a segment, its last bytes changed: its end cannot be read. */
static void damage(const struct made *m, uint64_t sequence)
{
    struct segment_id id = {.sequence = sequence, .epoch = 1, .first = made_position(sequence), .last = made_position(sequence)};
    CLEANUP(buf_release) struct buf bytes = BUF_INIT(BUF_BYTES_MAX);
    char key[VAULT_KEY_BYTES];
    struct error err = ERROR_INIT;

    segment_key(key, MADE_SOURCE, MADE_INCARNATION, &id);
    assert_ok(store.inner->get(m->vault->driver, key, BUF_BYTES_MAX, &bytes, &err), err);
    bytes.p[bytes.n - 1] ^= 1;
    struct slice part = buf_slice(&bytes);
    assert_ok(store.inner->remove(m->vault->driver, key, &err), err);
    assert_ok(store.inner->put_if_absent(m->vault->driver, key, &part, 1, &err), err);
}

static int count_commit(void *user, const struct chain_transaction *t, struct error *err)
{
    uint64_t *count = user;

    (void)err;
    assert_int_equal(t->position.offset, made_position(++*count).offset);
    return 0;
}

static int visit_all(struct chain *c, uint64_t *ret_count, struct error *err)
{
    struct chain_visitor v = {.commit = count_commit, .user = ret_count};

    *ret_count = 0;
    TRY(chain_seek(c, POSITION_ZERO, err));
    return chain_visit(c, POSITION_ZERO, POSITION_MAX, &v, err);
}

/* --- tests ---------------------------------------------------------------------------------------------------------- */

static void test_notes_by_many_at_once(void **state)
{
    struct made m;
    struct error err = ERROR_INIT;
    JSON_AUTO notes = NULL;

    (void)state;
    make(&m, SEGMENTS, 1, 16);
    struct chain *c = open_chain(&m);
    reset(8);
    assert_ok(chain_notes(c, &notes, &err), err);
    assert_true(store.most_at_once >= 8);
    assert_int_equal(store.ranges, SEGMENTS);
    assert_int_equal(store.sizes, 0);
    assert_notes(notes, 1, SEGMENTS);
    chain_free(c);
    made_close(&m);
}

static void test_failures_are_told_in_order(void **state)
{
    struct made m;
    struct error err = ERROR_INIT;
    JSON_AUTO notes = NULL;

    (void)state;
    make(&m, SEGMENTS, 1, 16);
    damage(&m, 90);
    damage(&m, 40);
    struct chain *c = open_chain(&m);
    reset(0);
    assert_fails(chain_notes(c, &notes, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "000000000040-");
    assert_true(store.ranges <= 40 + AHEAD_MAX + 2); /* the damaged ones twice, and both may be among those */
    err = (struct error)ERROR_INIT;
    assert_fails(chain_notes_from(c, made_position(60), &notes, &err), err, ERROR_CORRUPT);
    assert_contains(err.message, "000000000090-");
    err = (struct error)ERROR_INIT;
    assert_ok(chain_notes_from(c, made_position(92), &notes, &err), err);
    assert_notes(notes, 92, SEGMENTS);
    chain_free(c);
    made_close(&m);
}

/* Small ones come whole with their end: to read them all costs what to open them costs. */
static void test_small_segments_are_read_once(void **state)
{
    struct made m;
    struct error err = ERROR_INIT;
    JSON_AUTO notes = NULL;
    uint64_t count;

    (void)state;
    make(&m, SEGMENTS, 1, 16);
    struct chain *c = open_chain(&m);
    reset(0);
    assert_ok(visit_all(c, &count, &err), err);
    assert_int_equal(count, SEGMENTS);
    assert_int_equal(store.ranges, SEGMENTS);
    assert_int_equal(store.sizes, 0);
    assert_ok(chain_notes(c, &notes, &err), err);
    assert_ok(visit_all(c, &count, &err), err);
    assert_int_equal(store.ranges, SEGMENTS);
    chain_free(c);
    made_close(&m);
}

/* Each byte of a larger one comes once (its end may come twice), although its successor names its digest. */
static void test_large_segments_are_read_once(void **state)
{
    struct made m;
    struct error err = ERROR_INIT;
    uint64_t count, stored = 0;
    struct segment_ref *refs;
    size_t refs_count;

    (void)state;
    make(&m, 6, 1, 600000);
    assert_ok(segment_list(m.vault, MADE_SOURCE, MADE_INCARNATION, &refs, &refs_count, &err), err);
    for (size_t i = 0; i < refs_count; i++)
        stored += refs[i].bytes;
    free(refs);
    assert_true(stored > UINT64_C(6) * 300000);
    struct chain *c = open_chain(&m);
    reset(0);
    assert_ok(visit_all(c, &count, &err), err);
    assert_int_equal(count, 6);
    assert_int_equal(store.sizes, 0);
    assert_true(store.bytes <= stored + UINT64_C(6) * (64 << 10));
    chain_free(c);
    made_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_notes_by_many_at_once),
        cmocka_unit_test(test_failures_are_told_in_order),
        cmocka_unit_test(test_small_segments_are_read_once),
        cmocka_unit_test(test_large_segments_are_read_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
