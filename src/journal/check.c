/*
 * journal/check.c - is a vault's journal what its writers wrote? Run by run and writer by writer, then across them: what
 * one writer signed that it saw of another must still be there, and what this host shipped as well.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "journal/local.h"
#include "journal/read.h"
#include "journal/run.h"
#include "journal/ship.h"
#include "journal/stock.h"

/* Entries of one writer that somebody saw: sequence and digest. */
struct sight {
    char writer[JOURNAL_WRITER_BYTES];
    uint64_t last;
    struct digest entry;
    char by[64]; /* who saw it */
    int64_t wall_us; /* of the entry, by this host's own; 0: not known */
};

/* What was read of one writer. */
struct chain_seen {
    char writer[JOURNAL_WRITER_BYTES];
    struct digest *digests; /* of entry i + 1; zeros: not read */
    size_t count, cap;
    int64_t last_wall_us; /* of the last entry that was read; 0: none was */
};

struct checking {
    struct vault *v;
    const struct journal_check *check;
    struct sight *sights;
    size_t sights_count, sights_cap;
    struct chain_seen *chains;
    size_t chains_count, chains_cap;
    struct stock stock;
    uint64_t entries;
};

static void checking_release(struct checking *c)
{
    for (size_t i = 0; i < c->chains_count; i++)
        free(c->chains[i].digests);
    free(c->chains);
    free(c->sights);
    stock_release(&c->stock);
}

static void find(struct checking *c, const char *kind, const char *key, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void find(struct checking *c, const char *kind, const char *key, const char *fmt, ...)
{
    char text[ERROR_MESSAGE_BYTES];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->check->find(c->check->user, kind, key, text);
}

static void add_sight(struct checking *c, const char *writer, uint64_t last, const struct digest *entry, const char *by)
{
    struct sight s = {.last = last, .entry = *entry};

    (void)snprintf(s.writer, sizeof s.writer, "%s", writer);
    (void)snprintf(s.by, sizeof s.by, "%s", by);
    MEM_GROW(c->sights, c->sights_cap, c->sights_count);
    c->sights[c->sights_count++] = s;
}

static void add_seen(struct checking *c, const struct journal_run *run)
{
    char by[64];

    (void)snprintf(by, sizeof by, "writer %s", run->head.writer);
    for (size_t i = 0; i < json_array_size(run->head.seen); i++) {
        const json_t *o = json_array_get(run->head.seen, i);
        const char *writer;
        struct digest entry;
        uint64_t last;

        if (json_get_str(o, "writer", "", &writer, NULL) < 0 || json_get_u64(o, "last", "", &last, NULL) < 0 ||
            json_get_digest(o, "entry", "", &entry, NULL) < 0)
            continue;
        add_sight(c, writer, last, &entry, by);
    }
}

static void add_digests(struct chain_seen *chain, const struct journal_run *run)
{
    while (chain->count < run->head.last) {
        MEM_GROW(chain->digests, chain->cap, chain->count);
        chain->digests[chain->count++] = (struct digest){0};
    }
    for (size_t i = 0; i < run->entries_count; i++)
        chain->digests[run->head.first - 1 + i] = run->entries[i].digest;
    if (run->entries_count > 0)
        chain->last_wall_us = run->entries[run->entries_count - 1].wall_us;
}

/* Where a writer's last run ended that could be read; `broken` while the run before the next is not known. */
struct follow {
    uint64_t last;
    struct digest entry, run;
    bool broken;
};

/* It is named by the entry that it must have begun with. */
static void find_missing_run(struct checking *c, const struct journal_head *next, const struct follow *at)
{
    char key[VAULT_KEY_BYTES];

    journal_run_key(key, next->writer, at->last + 1);
    find(c, "missing", key, "the run before ends at entry %llu, and the next begins at %llu", (unsigned long long)at->last,
         (unsigned long long)next->first);
}

static void check_follows(struct checking *c, const char *key, const struct journal_run *run, struct follow *at)
{
    const struct journal_head *h = &run->head;
    const struct digest none = {0};

    if (!at->broken && h->first > at->last + 1)
        find_missing_run(c, h, at);
    else if (!at->broken && h->first != at->last + 1)
        find(c, "chain", key, "it begins at entry %llu, and the run before it ends at %llu", (unsigned long long)h->first,
             (unsigned long long)at->last);
    else if (!at->broken && !digest_equal(&run->entries[0].previous, at->last > 0 ? &at->entry : &none))
        find(c, "chain", key, "its first entry does not follow on the last one of the run before");
    else if (!at->broken && (h->has_previous != (at->last > 0) || (h->has_previous && !digest_equal(&h->previous_run, &at->run))))
        find(c, "chain", key, "its head names another run before it");
    at->last = h->last;
    at->entry = h->entry;
    at->run = run->digest;
    at->broken = false;
}

static void check_run(struct checking *c, const char *writer, uint64_t first, const struct sign_public *by,
                      struct chain_seen *chain, struct follow *at)
{
    CLEANUP(journal_run_release) struct journal_run run = {0};
    struct error err = ERROR_INIT;
    char key[VAULT_KEY_BYTES];
    bool misplaced = false;

    journal_run_key(key, writer, first);
    int rc = journal_run_get(c->v, writer, first, by, &run, &misplaced, &err);
    if (rc < 0) {
        find(c, misplaced ? "misplaced" : rc == -ERROR_NOT_FOUND ? "missing" : "damaged", key, "%s", err.message);
        at->broken = true;
        return;
    }
    check_follows(c, key, &run, at);
    add_digests(chain, &run);
    add_seen(c, &run);
    for (size_t i = 0; i < run.entries_count; i++)
        stock_add(&c->stock, &run.entries[i]);
    c->entries += run.entries_count;
}

static int check_writer(struct checking *c, const char *writer, struct error *err)
{
    CLEANUP(journal_firsts_release) struct journal_firsts f = {0};
    struct error why = ERROR_INIT;
    struct chain_seen chain = {0};
    struct follow at = {0};
    char key[VAULT_KEY_BYTES];
    struct sign_public by;

    TRY(journal_list_runs(c->v, writer, &f, err));
    (void)snprintf(chain.writer, sizeof chain.writer, "%s", writer);
    if (f.has_identity || f.count > 0) {
        journal_identity_key(key, writer);
        int rc = journal_identity_get(c->v, writer, &by, &why);
        if (rc < 0)
            find(c, rc == -ERROR_NOT_FOUND ? "missing" : "damaged", key,
                 "%s: what writer %s wrote cannot be told from a forgery", why.message, writer);
        for (size_t i = 0; i < f.count && rc >= 0; i++)
            check_run(c, writer, f.firsts[i], &by, &chain, &at);
    }
    MEM_GROW(c->chains, c->chains_cap, c->chains_count);
    c->chains[c->chains_count++] = chain;
    return 0;
}

static const struct chain_seen *chain_of(const struct checking *c, const char *writer)
{
    for (size_t i = 0; i < c->chains_count; i++)
        if (strcmp(c->chains[i].writer, writer) == 0)
            return &c->chains[i];
    return NULL;
}

/* Writers ship while a vault is being checked: runs that have come since are the next check's, and nothing is gone. */
static bool grew_meanwhile(const struct checking *c, const char *writer, uint64_t count)
{
    CLEANUP(journal_firsts_release) struct journal_firsts f = {0};
    struct error ignored = ERROR_INIT;

    return journal_list_runs(c->v, writer, &f, &ignored) >= 0 && f.count > 0 && f.firsts[f.count - 1] > count;
}

/* Where it is known of when the entries are, it is told how far the vault has gone back. */
static void find_behind(struct checking *c, const char *key, const struct sight *s, const struct chain_seen *chain)
{
    unsigned long long saw = s->last, has = chain ? chain->count : 0;
    char saw_at[CLOCK_TEXT_BYTES], has_at[CLOCK_TEXT_BYTES], back[CLOCK_TEXT_BYTES];

    if (s->wall_us == 0 || !chain || chain->last_wall_us == 0) {
        find(c, "missing", key, "%s saw entry %llu of this writer, and the vault has %llu: its newest runs are gone", s->by, saw, has);
        return;
    }
    find(c, "missing", key,
         "%s saw entry %llu of this writer, of %s, and the vault has %llu, of %s: its newest runs are gone, or the whole vault has gone back by %s",
         s->by, saw, clock_format_wall(s->wall_us, saw_at), has, clock_format_wall(chain->last_wall_us, has_at),
         clock_format_duration(s->wall_us > chain->last_wall_us ? s->wall_us - chain->last_wall_us : 0, back));
}

static void check_sight(struct checking *c, const struct sight *s)
{
    const struct chain_seen *chain = chain_of(c, s->writer);
    const struct digest none = {0};
    char key[VAULT_KEY_BYTES];

    (void)snprintf(key, sizeof key, "journal/%s/", s->writer);
    if ((!chain || chain->count < s->last) && grew_meanwhile(c, s->writer, chain ? chain->count : 0))
        return;
    if (!chain || chain->count < s->last)
        find_behind(c, key, s, chain);
    else if (s->last > 0 && !digest_equal(&chain->digests[s->last - 1], &s->entry) &&
             !digest_equal(&chain->digests[s->last - 1], &none))
        find(c, "chain", key, "%s saw another entry %llu of this writer", s->by, (unsigned long long)s->last);
}

/* What this host shipped, and that the public key in the vault is its own. */
static void check_ours(struct checking *c, struct journal *j, const struct journal_entries *local)
{
    CLEANUP(journal_writer_release) struct journal_writer w = {0};
    struct journal_shipped shipped;
    struct sign_public by;
    char key[VAULT_KEY_BYTES];

    if (!journal_shipped(j, c->v->id, &shipped) || journal_writer_load(j, &w, NULL) <= 0 || strcmp(w.id, shipped.writer) != 0)
        return;
    add_sight(c, shipped.writer, shipped.last, &shipped.entry, "this host");
    for (size_t i = 0; i < local->count; i++)
        if (local->entries[i].sequence == shipped.last)
            c->sights[c->sights_count - 1].wall_us = local->entries[i].wall_us;
    journal_identity_key(key, w.id);
    if (journal_identity_get(c->v, w.id, &by, NULL) >= 0 && memcmp(&by, &w.key.public_key, sizeof by) != 0)
        find(c, "damaged", key, "it is not the public key of this host's writer");
}

/* What this host knows of the vault, shipped or not. */
static int add_local(struct checking *c, struct journal *j, struct error *err)
{
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;

    TRY(journal_read_local(j, &e, err));
    check_ours(c, j, &e);
    for (size_t i = 0; i < e.count; i++)
        stock_add(&c->stock, &e.entries[i]);
    return 0;
}

const char *journal_head_text(const struct journal_entry *e, char ret[static JOURNAL_HEAD_TEXT_BYTES])
{
    char digest[DIGEST_TEXT_BYTES];

    (void)snprintf(ret, JOURNAL_HEAD_TEXT_BYTES, "%s:%llu:%s", e->writer, (unsigned long long)e->sequence, digest_format(&e->digest, digest));
    return ret;
}

/* What somebody wrote down is one more sight. */
static int add_noted(struct checking *c, const char *noted, struct error *err)
{
    const char *middle = strchr(noted, ':'), *end = middle ? strchr(middle + 1, ':') : NULL;
    char writer[JOURNAL_WRITER_BYTES];
    struct digest entry;
    uint64_t last;

    if (!end || middle - noted != JOURNAL_WRITER_BYTES - 1 ||
        text_parse_u64(slice_of(middle + 1, (size_t)(end - middle) - 1), 1, INT64_MAX, &last, NULL) < 0 ||
        text_unhex(slice_str(end + 1), entry.b, sizeof entry.b, NULL) < 0)
        return error_set(err, ERROR_USAGE, "\"%s\" is not a journal's head as `salvor journal` prints it: WRITER:ENTRY:DIGEST", noted);
    (void)snprintf(writer, sizeof writer, "%.*s", (int)(middle - noted), noted);
    add_sight(c, writer, last, &entry, "who noted its head");
    return 0;
}

int journal_check_vault(struct vault *v, struct journal *j, const struct journal_check *check, uint64_t *ret_entries,
                        struct error *err)
{
    CLEANUP(checking_release) struct checking c = {.v = v, .check = check};
    CLEANUP(journal_writers_release) struct journal_writers w = {0};

    stock_init(&c.stock, v);
    TRY(journal_list_writers(v, &w, err));
    for (size_t i = 0; i < w.count; i++)
        TRY(check_writer(&c, w.ids[i], err));
    if (check->noted)
        TRY(add_noted(&c, check->noted, err));
    if (j)
        TRY(add_local(&c, j, err));
    for (size_t i = 0; i < c.sights_count; i++) {
        bool newer = false;
        /* One finding a writer and cause is enough: only the farthest sight of each writer's is told. */
        for (size_t k = 0; k < c.sights_count && !newer; k++)
            newer = k != i && strcmp(c.sights[k].writer, c.sights[i].writer) == 0 &&
                    (c.sights[k].last > c.sights[i].last || (c.sights[k].last == c.sights[i].last && k < i &&
                     digest_equal(&c.sights[k].entry, &c.sights[i].entry)));
        if (!newer)
            check_sight(&c, &c.sights[i]);
    }
    if (ret_entries)
        *ret_entries = c.entries;
    return stock_check(&c.stock, v, check, err);
}
