/*
 * test/crash/life.c - see life.h.
 *
 * Capture runs as its role does, with all its threads but the one that has an ordinary session. Snapshots are written as snapshot/ does it:
 * intent, sorted rows as chunks, schema, manifest.
 */
#include "life.h"

#include "shots.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdatomic.h>
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

char *life_sort_folder(const char *folder) { return mem_printf("%s/state/" STREAM_SOURCE "/sort", folder); }

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

/*
 * In place of the 128 threads of a probe (unit posix has their race): all that a race writes, by two writers in turn. What it leaves is the same after any
 * crash, and a life has the same operations each time.
 */
int __wrap_driver_race(struct vault_driver *d, const char *prefix, struct vault_capabilities *ret, struct error *err);
int __wrap_driver_race(struct vault_driver *d, const char *prefix, struct vault_capabilities *ret, struct error *err)
{
    const struct slice content = slice_str("a racer's");
    uint32_t salt;

    random_bytes(&salt, sizeof salt);
    CLEANUP(mem_free_ptr) char *key = mem_printf("%srace-%08x", prefix, salt);

    TRY(d->ops->put_if_absent(d, key, &content, 1, err));
    int rc = d->ops->put_if_absent(d, key, &content, 1, err);
    ret->put_if_absent_atomic = rc == -ERROR_EXISTS;
    if (rc < 0 && rc != -ERROR_EXISTS)
        return rc;
    return d->ops->remove(d, key, err);
}

/* --- capture ------------------------------------------------------------------------------------------------------ */

struct capturing {
    struct capture_config config;
    struct vault *vault;
    struct thread *thread;
    atomic_bool stop;
    atomic_bool ended;
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
        stream_wait(20 * CLOCK_US_PER_MS);
    }
    return 0;
}

static int go_to(const struct capturing *c, uint64_t transaction, struct error *err)
{
    stream_release(transaction);
    return wait_told(c, stream_written, stream_end(transaction), err);
}

/* renews: 0, or after which transaction the snapshot was taken of which it is a renewal. */
static int take(struct vault *v, const struct place *place, uint64_t i, uint64_t renews, struct error *err)
{
    char incarnation[VAULT_INCARNATION_BYTES];

    TRY(capture_current(place->state, incarnation, err));
    return shot_take(v, place->sort, incarnation, i, renews, err);
}

static int go_through(struct capturing *c, const struct place *place, unsigned life, struct error *err)
{
    const uint64_t all = STREAM_TRANSACTIONS + life;

    TRY(go_to(c, life_snapshot_at(0), err));
    TRY(take(c->vault, place, life_snapshot_at(0), 0, err));
    TRY(go_to(c, LIFE_RENEWAL_AT, err));
    TRY(take(c->vault, place, LIFE_RENEWAL_AT, life_snapshot_at(0), err));
    TRY(go_to(c, life_snapshot_at(1), err));
    TRY(take(c->vault, place, life_snapshot_at(1), 0, err));
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
    if (e->op == EVENT_TRUNCATE) {
        while (p->count[table] > 0)
            free(p->rows[table][--p->count[table]]);
        return 0;
    }
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

static int compare_texts(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The rows are those that the source had after so many transactions. */
static const char *compare_table(struct replay *p, unsigned table)
{
    size_t count;
    const char *const *expected = stream_texts(table, p->transactions, &count);
    char **rows = p->rows[table];

    if (p->count[table] > 0)
        qsort(rows, p->count[table], sizeof *rows, compare_texts);
    for (size_t i = 0; i < count && i < p->count[table] && !p->bad; i++)
        if (strcmp(rows[i], expected[i]) != 0)
            p->bad = complain("table %u has after transaction %llu: %s; and should have: %s", table, (unsigned long long)p->transactions, rows[i], expected[i]);
    if (p->count[table] != count && !p->bad)
        p->bad = complain("table %u has %zu rows after transaction %llu, and should have %zu", table, p->count[table], (unsigned long long)p->transactions, count);
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

static unsigned table_of(const struct snapshot_table *t) { return t->relation.id - stream_relation(0)->id; }

static const char *load_rows(struct vault *v, const struct manifest *m, const struct snapshot_table *t, struct zst *z, struct replay *p)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)1 << 24);
    struct error err = ERROR_INIT;

    for (uint32_t k = 0; k < t->chunks_count; k++)
        if (chunk_get(v, STREAM_SOURCE, &t->chunks[k], z, &text, &err) < 0)
            return complain("snapshot %s: %s", m->id, err.message);
    add_lines(p, table_of(t), buf_slice(&text));
    return NULL;
}

static const char *check_snapshot_table(struct vault *v, const struct manifest *m, const struct snapshot_table *t, struct zst *z)
{
    CLEANUP(replay_release) struct replay p = {.transactions = stream_number(m->position.offset)};
    const char *bad = load_rows(v, m, t, z, &p);

    return bad ? bad : compare_table(&p, table_of(t));
}

static const char *check_snapshot_rows(struct vault *v, const struct manifest *m)
{
    struct zst *z = zst_new(1);
    const char *bad = NULL;

    for (unsigned t = 0; t < m->tables_count && !bad; t++)
        bad = check_snapshot_table(v, m, &m->tables[t], z);
    zst_free(z);
    return bad;
}

/* base: of renewals; NULL: it is a snapshot. */
static const char *check_one(struct vault *v, const char *incarnation, const char *base, const char *id)
{
    CLEANUP(manifest_release) struct manifest m;
    struct error err = ERROR_INIT;

    manifest_init(&m);
    int rc = base ? renewal_get(v, STREAM_SOURCE, incarnation, base, id, &m, &err) : manifest_get(v, STREAM_SOURCE, incarnation, id, &m, &err);
    if (rc < 0)
        return complain("%s %s: %s", base ? "renewal" : "snapshot", id, err.message);
    return check_snapshot_rows(v, &m);
}

static const char *check_ids(struct vault *v, const char *incarnation, const char *base, char **ids, size_t count)
{
    const char *bad = NULL;

    for (size_t i = 0; i < count; i++) {
        if (!bad)
            bad = check_one(v, incarnation, base, ids[i]);
        free(ids[i]);
    }
    free(ids);
    return bad;
}

static const char *check_renewals(struct vault *v, const char *incarnation, const char *base, size_t *count)
{
    struct error err = ERROR_INIT;
    char **ids;
    size_t n;

    if (renewal_list(v, STREAM_SOURCE, incarnation, base, &ids, &n, &err) < 0)
        return complain("the renewals cannot be listed: %s", err.message);
    *count += n;
    return check_ids(v, incarnation, base, ids, n);
}

/* ret_count: with their renewals. */
static const char *check_snapshots(struct vault *v, const char *incarnation, size_t *ret_count)
{
    struct error err = ERROR_INIT;
    const char *bad = NULL;
    char **ids;
    size_t n;

    if (snapshot_list(v, STREAM_SOURCE, incarnation, &ids, &n, &err) < 0)
        return complain("the snapshots cannot be listed: %s", err.message);
    *ret_count = n;
    for (size_t i = 0; i < n && !bad; i++)
        bad = check_renewals(v, incarnation, ids[i], ret_count);
    const char *worse = check_ids(v, incarnation, NULL, ids, n);
    return bad ? bad : worse;
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
        bad = load_rows(v, &m, &m.tables[t], z, p);
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
    if (a->complete && (in_vault < STREAM_TRANSACTIONS || snapshots != LIFE_SNAPSHOTS + 1))
        return complain("in the end the vault has %llu transactions and %zu snapshots and renewals", (unsigned long long)in_vault, snapshots);
    return NULL;
}

static const char *check_open(struct vault *v, const struct place *place, const struct asked *a)
{
    CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
    struct error err = ERROR_INIT;
    uint64_t here = 0, in_vault = 0;
    size_t count, snapshots = 0;
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

static int look_for_damage(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    size_t n = strlen(path);

    (void)st, (void)kind, (void)ftw;
    if (n < 4 || (strcmp(path + n - 4, ".bad") != 0 && !strstr(path, "/gaps/") && !strstr(path, "/incarnations/0002")))
        return 0;
    (void)complain("there is %s", path);
    return 1;
}

const char *life_check_undamaged(const char *folder)
{
    return nftw(folder, look_for_damage, 16, FTW_PHYS) != 0 ? complaint : NULL;
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
