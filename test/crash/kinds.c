/* test/crash/kinds.c - see kinds.h. */
#include "kinds.h"

#include "vault/support.h"

#include <fnmatch.h>

#include "vault/snapshots.h"
#include "vault/tombstone.h"

#define HISTORY     "0001"
#define TABLE       SALVOR_FORMATS "/vault.md"
#define TABLE_HEAD  "| key | what | written by, when | format |"
#define KINDS_MAX   64u
#define LATER       (STREAM_TRANSACTIONS + 1) /* a transaction behind the newest snapshot */

static void vault_done(struct vault **v) { life_close(*v); }

static int newest_snapshot(struct vault *v, struct manifest *ret, struct error *err)
{
    char id[SNAPSHOT_ID_BYTES] = "", **ids;
    size_t count;

    TRY(snapshot_list(v, STREAM_SOURCE, HISTORY, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(id, sizeof id, "%s", ids[i]);
        free(ids[i]);
    }
    free(ids);
    return manifest_get(v, STREAM_SOURCE, HISTORY, id, ret, err);
}

static void set_id(struct manifest *m, unsigned number)
{
    char key[POSITION_KEY_BYTES];

    m->position = position_of_lsn(stream_end(LATER));
    (void)snprintf(m->id, sizeof m->id, "%s-%08x", position_key(m->position, key), number);
}

static int add_marks(struct vault *v, const struct manifest *m, struct error *err)
{
    JSON_AUTO outcome = json_pack("{s:[], s:s}", "findings", "text", "a test");
    JSON_AUTO layout = json_pack("{s:[]}", "tables");

    TRY(comparison_put(v, m, outcome, err));
    return schema_put_state(v, m, layout, err);
}

/* Its first table again, as of a later position. */
static int add_renewal(struct vault *v, struct manifest *m, struct error *err)
{
    memcpy(m->renews, m->id, sizeof m->renews);
    set_id(m, 1);
    m->base = false;
    while (m->tables_count > 1)
        snapshot_table_release(&m->tables[--m->tables_count]);
    m->rows = m->tables[0].rows;
    m->plain_bytes = m->tables[0].plain_bytes;
    m->stored_bytes = 0;
    for (uint32_t i = 0; i < m->tables[0].chunks_count; i++)
        m->stored_bytes += m->tables[0].chunks[i].stored_bytes;
    TRY(snapshot_intent(v, m, err));
    TRY(schema_put(v, m, slice_str("a dump"), slice_str("CREATE TABLE t ();\nCREATE TABLE n ();\n"), err));
    return manifest_put(v, m, err);
}

static int add_large_objects(struct vault *v, struct error *err)
{
    CLEANUP(manifest_release) struct manifest m;

    snapshots_head(&m, stream_end(LATER), 2);
    m.schema_digest[0] = '\0';
    free(m.sequences[0].schema);
    free(m.sequences[0].name);
    m.sequences_count = 0;
    snapshots_large(v, &m);
    return large_put(v, &m, err);
}

/* A chunk of the snapshot stands under its second name alone, as where the first one was found damaged and moved away. */
static int move_to_copy(struct vault *v, const struct chunk_ref *ref, struct error *err)
{
    CLEANUP(buf_release) struct buf stored = BUF_INIT(ref->stored_bytes);
    char first[VAULT_KEY_BYTES], copy[VAULT_KEY_BYTES];

    chunk_key(first, v, STREAM_SOURCE, &ref->digest, 0);
    chunk_key(copy, v, STREAM_SOURCE, &ref->digest, 1);
    TRY(v->driver->ops->get(v->driver, first, ref->stored_bytes, &stored, err));
    struct slice bytes = buf_slice(&stored);
    TRY(v->driver->ops->put_if_absent(v->driver, copy, &bytes, 1, err));
    return v->driver->ops->remove(v->driver, first, err);
}

/* Of what was never captured, before the slot was made. */
static int add_gap(struct vault *v, struct error *err)
{
    JSON_AUTO gap = json_pack("{s:s, s:s, s:s, s:s, s:I}", "incarnation", HISTORY, "from", "0/1", "to", "0/2", "reason", "a test", "wall_us",
                              (json_int_t)stream_wall_us(0));

    return gap_store(v, STREAM_SOURCE, gap, err);
}

static int add_tombstone(struct vault *v, struct error *err)
{
    CLEANUP(tombstone_release) struct tombstone t = {0};
    bool goes = true;
    bool found;

    TRY(witness_last(v, STREAM_SOURCE, &t.trust, &found, err));
    tombstone_add(&t, "chunks/00/0000000000000000000000000000000000000000000000000000000000000000", 1, "a test");
    TRY(tombstone_put(v, STREAM_SOURCE, &t, err));
    TRY(tombstone_finalize(v, STREAM_SOURCE, t.n, &t.trust, err));
    return tombstone_decide(v, STREAM_SOURCE, &t, &goes, err);
}

int kinds_add(const char *folder, struct error *err)
{
    CLEANUP(vault_done) struct vault *v = NULL;
    CLEANUP(manifest_release) struct manifest m;
    struct hold hold = {.kind = HOLD_ALL, .reason = "a test"};

    manifest_init(&m);
    TRY(life_open(folder, &v, err));
    TRY(newest_snapshot(v, &m, err));
    TRY(hold_add(v, STREAM_SOURCE, &hold, err));
    TRY(add_marks(v, &m, err));
    TRY(move_to_copy(v, &m.tables[0].chunks[0], err));
    TRY(add_renewal(v, &m, err));
    TRY(add_large_objects(v, err));
    TRY(add_gap(v, err));
    TRY(add_tombstone(v, err));
    return upkeep_tell_stock(folder, v, err);
}

/* --- the table -------------------------------------------------------------------------------------------------------- */

static char complaint[1024];

struct kinds {
    char patterns[KINDS_MAX][256]; /* of fnmatch */
    bool seen[KINDS_MAX];
    size_t count;
};

/* A key as the table writes it: <name:6> is six digits, but for ids of :8, which are hex; <n> one digit; any other <...> is anything. */
static void pattern_of(const char *key, const char *end, char *to)
{
    for (; key < end; key++) {
        if (*key != '<') {
            *to++ = *key;
            continue;
        }
        const char *close = strchr(key, '>'), *colon = memchr(key, ':', (size_t)(close - key));
        long digits = strncmp(key, "<n>", 3) == 0 ? 1 : colon ? strtol(colon + 1, NULL, 10) : 0;
        if (digits == 0 || strncmp(key, "<id", 3) == 0)
            *to++ = '*';
        else
            for (; digits > 0; digits--)
                to = stpcpy(to, "[0-9]");
        key = close;
    }
    *to = '\0';
}

/* All keys of a row's first cell. One that begins with an ellipsis is below a history; one without a slash stands beside the one before it. */
static void read_row(struct kinds *k, const char *row)
{
    const char *end = strstr(row + 1, " |"), *at = row, *folder = NULL;
    char whole[512];

    while ((at = strchr(at, '`')) && at < end) {
        const char *begin = at + 1, *close = strchr(begin, '`');

        at = close + 1;
        if (strncmp(begin, "tmp/", 4) == 0)
            continue; /* no objects */
        if (strncmp(begin, "…", strlen("…")) == 0)
            (void)snprintf(whole, sizeof whole, "sources/<source>/<incarnation>%.*s", (int)(close - begin - (long)strlen("…")), begin + strlen("…"));
        else if (folder && !memchr(begin, '/', (size_t)(close - begin)))
            (void)snprintf(whole, sizeof whole, "%.*s%.*s", (int)((const char *)memrchr(folder, '/', (size_t)(strchr(folder, '`') - folder)) + 1 - folder), folder,
                           (int)(close - begin), begin);
        else
            (void)snprintf(whole, sizeof whole, "%.*s", (int)(close - begin), begin);
        folder = begin;
        ASSERT(k->count < KINDS_MAX);
        pattern_of(whole, whole + strlen(whole), k->patterns[k->count++]);
    }
}

static void read_table(struct kinds *k)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)1 << 20);
    struct error err = ERROR_INIT;

    assert_ok(file_read_all(TABLE, text.max, &text, &err), err);
    char *at = strstr(buf_cstr(&text), TABLE_HEAD), *state = NULL;
    assert_non_null(at);
    *strstr(at, "\n\n") = '\0'; /* the table's end */
    (void)strtok_r(at, "\n", &state);
    (void)strtok_r(NULL, "\n", &state);
    for (char *row = strtok_r(NULL, "\n", &state); row; row = strtok_r(NULL, "\n", &state))
        read_row(k, row);
    assert_true(k->count > 25);
}

const char *kinds_check(char *const *keys, size_t count, bool encrypted)
{
    CLEANUP(mem_free_ptr) struct kinds *k = mem_zalloc(1, sizeof *k);

    read_table(k);
    for (size_t i = 0; i < count; i++) {
        bool known = false;

        for (size_t p = 0; p < k->count; p++)
            if (fnmatch(k->patterns[p], keys[i], FNM_PATHNAME) == 0)
                known = k->seen[p] = true;
        if (!known) {
            (void)snprintf(complaint, sizeof complaint, "%s is of no row of the table in " TABLE, keys[i]);
            return complaint;
        }
    }
    for (size_t p = 0; p < k->count; p++)
        if (!k->seen[p] && (encrypted || strncmp(k->patterns[p], "keys/", 5) != 0)) {
            (void)snprintf(complaint, sizeof complaint, "no object is %s: add it to kinds_add", k->patterns[p]);
            return complaint;
        }
    return NULL;
}
