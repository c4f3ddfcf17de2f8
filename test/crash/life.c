/*
 * test/crash/life.c - see life.h.
 *
 * Capture runs as its role does, with all its threads but the one that has an ordinary session. Snapshots are written as snapshot/ does it:
 * intent, sorted rows as chunks, schema, manifest.
 */
#include "life.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/capture.h"
#include "capture/chain.h"
#include "capture/spool_seal.h"
#include "os/file.h"
#include "os/queue.h"
#include "recover/recover.h"
#include "snapshot/rowsort.h"
#include "vault/verify.h"

#define PATIENCE_US (60 * CLOCK_US_PER_S)

struct place {
    char *state, *vault_path, *sort;
    struct vault_config vault;
};

static bool encrypted;
static char *key_files[2];

static struct place place_of(const char *folder)
{
    struct place p = {.state = mem_printf("%s/state/" STREAM_SOURCE, folder), .vault_path = mem_printf("%s/vault", folder)};

    p.sort = mem_printf("%s/sort", p.state);
    p.vault = (struct vault_config){.name = "main", .driver = "posix", .path = p.vault_path};
    p.vault.key.key_file = encrypted ? key_files[0] : NULL;
    return p;
}

static void place_release(struct place *p)
{
    free(p->state);
    free(p->vault_path);
    free(p->sort);
}

static void chain_free_ptr(struct chain **c) { chain_free(*c); }

/* --- keys and the vault ------------------------------------------------------------------------------------------- */

static char *key_folder;

static void remove_keys(void)
{
    struct error ignored = ERROR_INIT;

    (void)!dir_remove_all(key_folder, &ignored);
    for (unsigned i = 0; i < 2; i++)
        free(key_files[i]);
    free(key_folder);
}

/* Beside all folders of lives, as an operator keeps them; removed at the end of the process that made them. */
static void make_keys(void)
{
    char place[] = "/tmp/salvor-crash-keys-XXXXXX";
    struct error err = ERROR_INIT;

    ASSERT(mkdtemp(place));
    key_folder = mem_strdup(place);
    for (unsigned i = 0; i < 2; i++) {
        key_files[i] = mem_printf("%s/key%u", place, i);
        ASSERT(vault_key_file_make(key_files[i], &err) >= 0);
    }
    ASSERT(atexit(remove_keys) == 0);
}

void life_encrypted(bool on)
{
    if (on && !key_folder)
        make_keys();
    encrypted = on;
    if (on)
        file_scratch_seal();
}

const char *life_second_key(void) { return key_files[1]; }

static int open_place(struct place *place, struct vault **ret, struct error *err)
{
    int rc = vault_open(&place->vault, ret, err);

    if (rc == -ERROR_REFUSED && encrypted && place->vault.key.key_file == key_files[0]) {
        place->vault.key.key_file = key_files[1];
        rc = vault_open(&place->vault, ret, err);
    }
    if (rc >= 0)
        spool_seal_set(STREAM_SOURCE, (*ret)->keys, false);
    return rc;
}

int life_open(const char *folder, struct vault **ret, struct error *err)
{
    CLEANUP(place_release) struct place place = place_of(folder);

    return open_place(&place, ret, err);
}

void life_close(struct vault *v)
{
    if (v)
        spool_seal_set(STREAM_SOURCE, NULL, false); /* its keys go */
    vault_free(v);
}

static void life_close_ptr(struct vault **v) { life_close(*v); }

bool life_opens_with_second(const char *folder)
{
    CLEANUP(place_release) struct place place = place_of(folder);
    struct error ignored = ERROR_INIT;
    struct vault *v = NULL;

    place.vault.key.key_file = key_files[1];
    bool opens = vault_open(&place.vault, &v, &ignored) >= 0;
    vault_free(v);
    return opens;
}

/* --- a snapshot --------------------------------------------------------------------------------------------------- */

struct feeding {
    struct rowsort_input *in;
    int rc;
    struct error *err;
};

static void feed(void *user, struct slice row)
{
    struct feeding *f = user;

    if (f->rc >= 0)
        f->rc = rowsort_add(f->in, row, f->err);
}

struct putting {
    struct vault *vault;
};

static int put_chunk(void *user, const struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    struct putting *p = user;

    return chunk_put(p->vault, STREAM_SOURCE, ref, buf_slice(stored), NULL, err);
}

static int sort_rows(struct rowsort *s, unsigned table, uint64_t i, struct error *err)
{
    struct feeding f = {.err = err};

    TRY(rowsort_open(s, &f.in, err));
    stream_rows(table, i, feed, &f);
    if (f.rc >= 0)
        return rowsort_close(f.in, err);
    rowsort_abandon(f.in);
    return f.rc;
}

static void rowsort_free_ptr(struct rowsort **s) { rowsort_free(*s); }

static int take_table(struct vault *v, const struct place *place, unsigned table, uint64_t i, struct snapshot_table *ret, struct error *err)
{
    const struct rowsort_config config = {.directory = place->sort, .name = table == 0 ? "t" : "n", .relation = stream_relation(table),
                                          .memory_bytes_max = (size_t)1 << 20, .chunk_bytes_target = (size_t)16 << 10, .zstd_level = 1};
    CLEANUP(rowsort_free_ptr) struct rowsort *s = rowsort_new(&config);
    CLEANUP(rowsort_result_release) struct rowsort_result result = {0};
    struct putting p = {.vault = v};
    const struct rowsort_output out = {.put = put_chunk, .user = &p};

    TRY(sort_rows(s, table, i, err));
    TRY(rowsort_finish(s, &out, &result, err));
    relation_copy(&ret->relation, stream_relation(table));
    ret->rows = result.rows;
    ret->plain_bytes = result.plain_bytes;
    ret->hash = result.hash;
    ret->chunks_count = result.chunks_count;
    ret->chunks = result.chunks;
    result.chunks = NULL;
    result.chunks_count = 0;
    return 0;
}

static int fill_manifest(struct vault *v, const struct place *place, uint64_t i, struct manifest *m, struct error *err)
{
    char key[POSITION_KEY_BYTES];

    m->position = position_of_lsn(stream_end(i));
    (void)snprintf(m->source, sizeof m->source, STREAM_SOURCE);
    (void)snprintf(m->id, sizeof m->id, "%s-%08llx", position_key(m->position, key), (unsigned long long)clock_mono_us() & 0xffffffff);
    TRY(capture_current(place->state, m->incarnation, err));
    m->begun_wall_us = m->ended_wall_us = m->position_wall_us = stream_wall_us(i);
    m->server_version = 150018;
    m->base = i == life_snapshot_at(0);
    m->database = json_object();
    m->unprotected = json_array();
    m->tables_count = STREAM_TABLES;
    m->tables = mem_zalloc(STREAM_TABLES, sizeof *m->tables);
    TRY(snapshot_intent(v, m, err));
    for (unsigned t = 0; t < STREAM_TABLES; t++) {
        TRY(take_table(v, place, t, i, &m->tables[t], err));
        m->rows += m->tables[t].rows;
        m->plain_bytes += m->tables[t].plain_bytes;
        for (uint32_t k = 0; k < m->tables[t].chunks_count; k++)
            m->stored_bytes += m->tables[t].chunks[k].stored_bytes;
    }
    return 0;
}

static int has_snapshot(struct vault *v, const struct place *place, uint64_t i, bool *ret, struct error *err)
{
    char incarnation[VAULT_INCARNATION_BYTES], **ids;
    struct position p;
    size_t count;

    *ret = false;
    TRY(capture_current(place->state, incarnation, err));
    TRY(snapshot_list(v, STREAM_SOURCE, incarnation, &ids, &count, err));
    for (size_t k = 0; k < count; k++) {
        if (snapshot_position(ids[k], &p, err) >= 0)
            *ret |= p.offset == stream_end(i);
        free(ids[k]);
    }
    free(ids);
    return 0;
}

static int take_snapshot(struct vault *v, const struct place *place, uint64_t i, struct error *err)
{
    CLEANUP(manifest_release) struct manifest m;
    const struct slice sql = slice_str("CREATE TABLE t ();\nCREATE TABLE n ();\n");
    bool there;

    manifest_init(&m);
    TRY(has_snapshot(v, place, i, &there, err));
    if (there)
        return 0;
    TRY(dir_remove_all(place->sort, err));
    TRY(dir_make_all(place->sort, 0700, err));
    TRY(fill_manifest(v, place, i, &m, err));
    struct digest d = digest_of(sql);
    (void)digest_format(&d, m.schema_digest);
    TRY(schema_put(v, &m, slice_str("a dump"), sql, err));
    TRY(manifest_put(v, &m, err));
    return dir_remove_all(place->sort, err);
}

/* --- capture ------------------------------------------------------------------------------------------------------ */

struct capturing {
    struct capture_config config;
    struct vault *vault;
    struct thread *thread;
    volatile bool stop;
    volatile bool ended;
    int rc;
    struct error err;
};

static void *capture_main(void *arg)
{
    struct capturing *c = arg;

    c->rc = capture_run(&c->config, &c->stop, &c->err);
    c->ended = true;
    return NULL;
}

/* Until capture has told the server so. */
static int wait_told(const struct capturing *c, uint64_t (*told)(void), uint64_t lsn, struct error *err)
{
    int64_t until_us = clock_mono_us() + PATIENCE_US;

    while (told() < lsn) {
        if (c->ended)
            return c->rc < 0 ? (*err = c->err, c->rc) : error_set(err, ERROR_BUG, "capture ended by itself");
        if (clock_mono_us() > until_us)
            return error_set(err, ERROR_TIMEOUT, "capture does not get on: it has told %llu", (unsigned long long)told());
        clock_sleep_ms(1);
    }
    return 0;
}

static int go_through(struct capturing *c, const struct place *place, unsigned life, struct error *err)
{
    const uint64_t all = STREAM_TRANSACTIONS + life;


    for (unsigned s = 0; s < LIFE_SNAPSHOTS; s++) {
        stream_release(life_snapshot_at(s));
        TRY(wait_told(c, stream_written, stream_end(life_snapshot_at(s)), err));
        TRY(take_snapshot(c->vault, place, life_snapshot_at(s), err));
    }
    /* One more in each life, as a heartbeat would be: what was sent again is proved by the first new transaction behind it. */
    stream_release(all);
    TRY(wait_told(c, stream_written, stream_end(all), err));
    return wait_told(c, stream_flushed, stream_start(all), err);
}

static int make_vault(const struct place *place, struct error *err)
{
    int rc = vault_make(&place->vault, err);

    return rc == -ERROR_EXISTS ? 0 : rc;
}

static void start_capture(struct capturing *c, const struct place *place)
{
    c->config = (struct capture_config){.protect = {.source = STREAM_SOURCE, .conninfo = "made"},
                                        .state_directory = place->state,
                                        .vaults = &c->vault,
                                        .vaults_count = 1,
                                        .rpo_us = 400 * CLOCK_US_PER_MS,
                                        .heartbeat_us = CLOCK_US_PER_S,
                                        .poll_us = CLOCK_US_PER_S,
                                        .idle_segment_us = 60 * CLOCK_US_PER_S,
                                        .segment_bytes = (uint64_t)8 << 10,
                                        .zstd_level = 1};
    c->thread = thread_start("capture", capture_main, c);
}

static int stop_capture(struct capturing *c, int rc, struct error *err)
{
    c->stop = true;
    (void)thread_join(c->thread);
    if (rc >= 0 && c->rc < 0) {
        *err = c->err;
        rc = c->rc;
    }
    return rc;
}

static int go(struct place *place, unsigned life, struct error *err)
{
    CLEANUP(life_close_ptr) struct vault *v = NULL;
    struct capturing c = {0};

    TRY(make_vault(place, err));
    TRY(open_place(place, &v, err));
    c.vault = v;
    start_capture(&c, place);
    return stop_capture(&c, go_through(&c, place, life, err), err);
}

int life_go(const char *folder, unsigned life, uint64_t flushed, struct error *err)
{
    CLEANUP(place_release) struct place place = place_of(folder);

    /* In a later life the server has all of it from the start. */
    stream_open(flushed, life > 0 ? STREAM_TRANSACTIONS + life - 1 : 0);
    return go(&place, life, err);
}

static int release_last(struct capturing *c, uint64_t last, struct error *err)
{
    stream_release(last);
    TRY(wait_told(c, stream_written, stream_end(last), err));
    return wait_told(c, stream_flushed, stream_start(last), err);
}

int life_capture(const char *folder, uint64_t last, uint64_t flushed, struct error *err)
{
    CLEANUP(place_release) struct place place = place_of(folder);
    CLEANUP(life_close_ptr) struct vault *v = NULL;
    struct capturing c = {0};

    stream_open(flushed, last - 1);
    TRY(open_place(&place, &v, err));
    c.vault = v;
    start_capture(&c, &place);
    return stop_capture(&c, release_last(&c, last, err), err);
}

/* --- the checks --------------------------------------------------------------------------------------------------- */

static char complaint[2 * ERROR_MESSAGE_BYTES];

static const char *complain(const char *fmt, ...) PRINTF_LIKE(1, 2);
static const char *complain(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(complaint, sizeof complaint, fmt, args);
    va_end(args);
    return complaint;
}

/* Nothing half-made, nothing that is referred to and not there. */
static const char *check_vault(struct vault *v)
{
    struct verify_result r = {0};
    struct error err = ERROR_INIT;
    const char *bad = NULL;

    if (vault_verify(v, NULL, 0, NULL, NULL, &r, &err) < 0)
        return complain("the vault cannot be verified: %s", err.message);
    if (r.findings_count > 0)
        bad = complain("verify: %s: %s: %s", r.findings[0].kind, r.findings[0].key, r.findings[0].text);
    verify_result_release(&r);
    return bad;
}

/* Rows as the events leave them. */
struct replay {
    char **rows[STREAM_TABLES];
    size_t count[STREAM_TABLES], cap[STREAM_TABLES];
    uint64_t transactions;
    unsigned expecting; /* compare_rows: the table that it is at */
    const char *bad;
};

static void replay_release(struct replay *p)
{
    for (unsigned t = 0; t < STREAM_TABLES; t++) {
        for (size_t i = 0; i < p->count[t]; i++)
            free(p->rows[t][i]);
        free(p->rows[t]);
    }
}

static size_t find_text(const struct replay *p, unsigned t, const char *start)
{
    size_t n = strlen(start);

    for (size_t i = 0; i < p->count[t]; i++)
        if (strncmp(p->rows[t][i], start, n) == 0)
            return i;
    return SIZE_MAX;
}

static void remove_text(struct replay *p, unsigned t, const char *start)
{
    size_t at = find_text(p, t, start);

    if (at == SIZE_MAX) {
        p->bad = complain("transaction %llu changes a row that is not there: %s", (unsigned long long)p->transactions + 1, start);
        return;
    }
    free(p->rows[t][at]);
    memmove(&p->rows[t][at], &p->rows[t][at + 1], (p->count[t] - at - 1) * sizeof *p->rows[t]);
    p->count[t]--;
}

static char *text_of(const struct value *values)
{
    return mem_printf("%.*s\t%.*s", (int)values[0].text.n, (const char *)values[0].text.p, (int)values[1].text.n, (const char *)values[1].text.p);
}

static int replay_event(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e, struct error *err)
{
    struct replay *p = user;
    unsigned table = r ? r->id - stream_relation(0)->id : 0;

    (void)t, (void)err;
    if (!r || table >= STREAM_TABLES || p->bad)
        return 0;
    if (e->op != EVENT_INSERT) {
        const struct value *old = e->op == EVENT_DELETE ? e->old : e->row; /* the key, or the whole row; an update keeps its key */
        CLEANUP(mem_free_ptr) char *start = table == 0 ? mem_printf("%.*s\t", (int)old[0].text.n, (const char *)old[0].text.p) : text_of(old);

        remove_text(p, table, start);
    }
    if (e->op != EVENT_DELETE) {
        MEM_GROW(p->rows[table], p->cap[table], p->count[table]);
        p->rows[table][p->count[table]++] = text_of(e->row);
    }
    return 0;
}

static int replay_commit(void *user, const struct chain_transaction *t, struct error *err)
{
    struct replay *p = user;

    (void)err;
    p->transactions++;
    if (t->position.offset != stream_end(p->transactions) && !p->bad)
        p->bad = complain("commit %llu of the chain ends at %llu", (unsigned long long)p->transactions, (unsigned long long)t->position.offset);
    return 0;
}

static void expect_row(void *user, struct slice row)
{
    struct replay *p = user;
    CLEANUP(mem_free_ptr) char *text = mem_printf("%.*s", (int)row.n, (const char *)row.p);

    if (!p->bad)
        remove_text(p, p->expecting, text);
}

/* The rows are those that the source had after so many transactions. */
static const char *compare_table(struct replay *p, unsigned table)
{
    p->expecting = table;
    stream_rows(table, p->transactions, expect_row, p);
    if (p->count[table] > 0 && !p->bad)
        p->bad = complain("table %u has %zu rows too many after transaction %llu", table, p->count[table], (unsigned long long)p->transactions);
    return p->bad;
}

static const char *compare_rows(struct replay *p)
{
    for (unsigned t = 0; t < STREAM_TABLES && !p->bad; t++)
        (void)compare_table(p, t);
    return p->bad;
}

static void add_lines(struct replay *p, unsigned table, struct slice text)
{
    const char *at = (const char *)text.p, *end = at + text.n;

    for (const char *line_end; at < end && (line_end = memchr(at, '\n', (size_t)(end - at))); at = line_end + 1) {
        MEM_GROW(p->rows[table], p->cap[table], p->count[table]);
        p->rows[table][p->count[table]++] = mem_printf("%.*s", (int)(line_end - at), at);
    }
}

static const char *load_rows(struct vault *v, const struct manifest *m, unsigned table, struct zst *z, struct replay *p)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)1 << 24);
    struct error err = ERROR_INIT;

    for (uint32_t k = 0; k < m->tables[table].chunks_count; k++)
        if (chunk_get(v, STREAM_SOURCE, &m->tables[table].chunks[k], z, &text, &err) < 0)
            return complain("snapshot %s: %s", m->id, err.message);
    add_lines(p, table, buf_slice(&text));
    return NULL;
}

static const char *check_snapshot_table(struct vault *v, const struct manifest *m, unsigned table, struct zst *z)
{
    CLEANUP(replay_release) struct replay p = {.transactions = stream_number(m->position.offset)};
    const char *bad = load_rows(v, m, table, z, &p);

    return bad ? bad : compare_table(&p, table);
}

static const char *check_snapshot_rows(struct vault *v, const struct manifest *m)
{
    struct zst *z = zst_new(1);
    const char *bad = NULL;

    for (unsigned t = 0; t < m->tables_count && !bad; t++)
        bad = check_snapshot_table(v, m, t, z);
    zst_free(z);
    return bad;
}

static const char *check_snapshots(struct vault *v, const char *incarnation, size_t *ret_count)
{
    struct error err = ERROR_INIT;
    const char *bad = NULL;
    char **ids;

    if (snapshot_list(v, STREAM_SOURCE, incarnation, &ids, ret_count, &err) < 0)
        return complain("the snapshots cannot be listed: %s", err.message);
    for (size_t i = 0; i < *ret_count; i++) {
        CLEANUP(manifest_release) struct manifest m;

        manifest_init(&m);
        if (!bad && manifest_get(v, STREAM_SOURCE, incarnation, ids[i], &m, &err) < 0)
            bad = complain("snapshot %s: %s", ids[i], err.message);
        if (!bad)
            bad = check_snapshot_rows(v, &m);
        free(ids[i]);
    }
    free(ids);
    return bad;
}

/* The rows of the snapshot that was taken after so many transactions; 0: of none, nothing. */
static const char *begin_replay(struct vault *v, const char *incarnation, uint64_t after, struct replay *p)
{
    CLEANUP(manifest_release) struct manifest m;
    struct error err = ERROR_INIT;
    const char *bad = NULL;
    bool found = after == 0;
    struct position at;
    char **ids;
    size_t count;

    p->transactions = after;
    manifest_init(&m);
    if (after == 0)
        return NULL;
    if (snapshot_list(v, STREAM_SOURCE, incarnation, &ids, &count, &err) < 0)
        return complain("the snapshots cannot be listed: %s", err.message);
    for (size_t i = 0; i < count; i++) {
        if (!found && snapshot_position(ids[i], &at, NULL) >= 0 && at.offset == stream_end(after))
            found = manifest_get(v, STREAM_SOURCE, incarnation, ids[i], &m, &err) >= 0;
        free(ids[i]);
    }
    free(ids);
    if (!found)
        return complain("the snapshot after transaction %llu cannot be had: %s", (unsigned long long)after, err.message);
    struct zst *z = zst_new(1);
    for (unsigned t = 0; t < m.tables_count && !bad; t++)
        bad = load_rows(v, &m, t, z, p);
    zst_free(z);
    return bad;
}

/*
 * All transactions of the newest incarnation, in order, each once: from the first one on, or from the snapshot after transaction `after`.
 * spool_directory NULL: the vault alone.
 */
static const char *check_chain(struct vault *v, const char *incarnation, const char *spool_directory, uint64_t after, uint64_t *ret_transactions)
{
    const struct chain_config config = {.vault = v, .spool_directory = spool_directory, .source = STREAM_SOURCE, .incarnation = incarnation};
    const struct position from = after ? position_of_lsn(stream_end(after)) : POSITION_ZERO;
    CLEANUP(replay_release) struct replay p = {0};
    const struct chain_visitor visitor = {.event = replay_event, .commit = replay_commit, .user = &p};
    CLEANUP(chain_free_ptr) struct chain *c = NULL;
    struct error err = ERROR_INIT;
    const char *bad = begin_replay(v, incarnation, after, &p);

    if (bad)
        return bad;
    if (chain_open(&config, &c, &err) < 0 || chain_seek(c, from, &err) < 0 || chain_visit(c, from, POSITION_MAX, &visitor, &err) < 0)
        return complain("the chain cannot be read: %s", err.message);
    *ret_transactions = p.transactions;
    return p.bad ? p.bad : compare_rows(&p);
}

/* What a recovery by this plan reads. A failure to read is a refusal. */
static const char *follow(struct vault *v, const struct recover_plan *plan, uint64_t *ret_transactions)
{
    const struct chain_config config = {.vault = v, .source = STREAM_SOURCE, .incarnation = plan->incarnation};
    CLEANUP(replay_release) struct replay p = {0};
    const struct chain_visitor visitor = {.event = replay_event, .commit = replay_commit, .user = &p};
    CLEANUP(chain_free_ptr) struct chain *c = NULL;
    struct error err = ERROR_INIT;

    if (begin_replay(v, plan->incarnation, stream_number(plan->snapshot_position.offset), &p) || chain_open(&config, &c, &err) < 0 ||
        chain_seek(c, plan->snapshot_position, &err) < 0 ||
        chain_visit(c, plan->snapshot_position, plan->target, &visitor, &err) < 0)
        return NULL;
    *ret_transactions = p.transactions;
    if (!p.bad && p.transactions != stream_number(plan->reached.offset))
        p.bad = complain("%llu transactions, and the plan ends at %llu", (unsigned long long)p.transactions, (unsigned long long)plan->reached.offset);
    return p.bad ? p.bad : compare_rows(&p);
}

const char *life_recover(const char *folder, uint64_t *ret_transactions)
{
    CLEANUP(mem_free_ptr) char *work = mem_printf("%s/recover", folder);
    CLEANUP(life_close_ptr) struct vault *v = NULL;
    struct error refusal = ERROR_INIT;
    struct journal_stored stored;
    struct recover_plan plan;
    bool told;

    *ret_transactions = 0;
    if (life_open(folder, &v, &refusal) < 0)
        return NULL;
    struct recover_config c = {.source = STREAM_SOURCE, .vault = v, .work_directory = work, .kind = RECOVER_LATEST};
    if (journal_stored_last(NULL, v, STREAM_SOURCE, &stored, &told, &refusal) >= 0 && told)
        c.stored = &stored;
    if (recover_plan(&c, &plan, &refusal) < 0)
        return NULL;
    const char *bad = follow(v, &plan, ret_transactions);
    recover_plan_release(&plan);
    return bad;
}

/* What is asked of a folder. */
struct asked {
    uint64_t written, flushed, after; /* after: transactions that may have been purged, but for the snapshot behind them */
    bool complete;
};

static const char *check_counts(const struct asked *a, uint64_t here, uint64_t in_vault, size_t snapshots)
{
    if (here < stream_number(a->written))
        return complain("%llu transactions were acknowledged as written and %llu are there", (unsigned long long)stream_number(a->written),
                        (unsigned long long)here);
    if (in_vault < a->flushed / 1000)
        return complain("the server may forget %llu transactions, and the vault has %llu", (unsigned long long)a->flushed / 1000,
                        (unsigned long long)in_vault);
    if (a->complete && (in_vault < STREAM_TRANSACTIONS || snapshots != LIFE_SNAPSHOTS))
        return complain("in the end the vault has %llu transactions and %zu snapshots", (unsigned long long)in_vault, snapshots);
    return NULL;
}

static const char *check_open(struct vault *v, const struct place *place, const struct asked *a)
{
    CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
    struct error err = ERROR_INIT;
    uint64_t here = 0, in_vault = 0;
    size_t count, snapshots;
    const char *bad = check_vault(v);

    if (bad)
        return bad;
    if (incarnation_list(v, STREAM_SOURCE, &list, &count, &err) < 0)
        return complain("%s", err.message);
    if (count == 0)
        return stream_number(a->written) == 0 ? NULL : complain("something was acknowledged, and there is no incarnation");
    const char *id = list[count - 1].id;
    CLEANUP(mem_free_ptr) char *spool = mem_printf("%s/%s/spool", place->state, id);
    if ((bad = check_chain(v, id, spool, a->after, &here)) || (bad = check_chain(v, id, NULL, a->after, &in_vault)) ||
        (bad = check_snapshots(v, id, &snapshots)))
        return bad;
    return check_counts(a, here, in_vault, snapshots);
}

/* What every row has in it. */
static int look_for_rows(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    const char wanted[] = "as of transaction";
    CLEANUP(buf_release) struct buf b = BUF_INIT((size_t)64 << 20);
    struct error err = ERROR_INIT;

    (void)st, (void)ftw;
    if (kind != FTW_F || file_read_all(path, b.max, &b, &err) < 0 || !memmem(b.p, b.n, wanted, sizeof wanted - 1))
        return 0;
    (void)complain("rows of an encrypted source can be read in %s", path);
    return 1;
}

static const char *check_secret(const char *folder)
{
    return encrypted && nftw(folder, look_for_rows, 16, FTW_PHYS) != 0 ? complaint : NULL;
}

static const char *check(const char *folder, const struct asked *a)
{
    CLEANUP(place_release) struct place place = place_of(folder);
    CLEANUP(life_close_ptr) struct vault *v = NULL;
    struct error err = ERROR_INIT;
    int rc = open_place(&place, &v, &err);
    const char *bad = check_secret(folder);

    if (bad)
        return bad;
    if (rc == -ERROR_NOT_FOUND && stream_number(a->written) == 0 && !a->complete)
        return NULL; /* not made yet */
    if (rc < 0)
        return complain("the vault cannot be opened: %s", err.message);
    return check_open(v, &place, a);
}

const char *life_check(const char *folder, uint64_t written, uint64_t flushed)
{
    return check(folder, &(struct asked){.written = written, .flushed = flushed});
}

const char *life_check_complete(const char *folder)
{
    return check(folder, &(struct asked){.written = stream_end(STREAM_TRANSACTIONS), .flushed = stream_start(STREAM_TRANSACTIONS), .complete = true});
}

const char *life_check_kept(const char *folder, unsigned snapshot, uint64_t written, uint64_t flushed)
{
    return check(folder, &(struct asked){.written = written, .flushed = flushed, .after = life_snapshot_at(snapshot)});
}
