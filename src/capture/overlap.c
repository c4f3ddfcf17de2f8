/*
 * capture/overlap.c - the transactions of the chain from the slot's confirmed_flush to the last durable one.
 *
 * A thread reads them and puts what identifies each into a bounded queue. The spool alone serves where it reaches back far enough;
 * else a vault is read as well. With no vault at hand only what the spool has is compared, as long as the last durable
 * transaction is in it: an outage of the vault does not stop capture.
 */
#include "capture/overlap.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "capture/spool_scan.h"
#include "os/queue.h"

#define QUEUE_ITEMS 4096

struct expected {
    bool end;          /* nothing more: all was read, or result < 0 */
    uint32_t xid;
    uint64_t start_lsn, end_lsn;
    int64_t wall_us;
    uint64_t events_count;
    struct hash128 hash;
    int result;
    struct error err;  /* large: of the end alone */
};

struct overlap {
    struct overlap_config config;
    char *spool_directory, *source, *incarnation;
    struct queue *queue;
    struct thread *thread;
    struct expected *next; /* taken from the queue, not compared yet */
    atomic_uint_fast64_t readable_lsn; /* older transactions cannot be read now */

    /* Of the thread: the transaction being hashed. */
    struct hash128 hash;
    uint64_t events_count;
    struct buf scratch;
};

/* --- reading ----------------------------------------------------------------------------------------------------- */

static int hash_event(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e,
                      struct error *err)
{
    struct overlap *o = user;

    (void)t;
    (void)r;
    (void)err;
    framer_hash_event(&o->hash, &o->scratch, e);
    o->events_count++;
    return 0;
}

static int begin(void *user, const struct chain_transaction *t, struct error *err)
{
    struct overlap *o = user;

    (void)t;
    (void)err;
    o->hash = (struct hash128){0};
    o->events_count = 0;
    return 1;
}

static int put(struct overlap *o, const struct expected *x, struct error *err)
{
    struct expected *copy = mem_alloc(sizeof *copy);

    *copy = *x;
    if (queue_put(o->queue, copy))
        return 0;
    free(copy);
    return error_set(err, ERROR_CANCELLED, "the session ended");
}

static int commit(void *user, const struct chain_transaction *t, struct error *err)
{
    struct overlap *o = user;
    const struct expected x = {.xid = t->xid,
                               .start_lsn = t->commit_start.offset,
                               .end_lsn = t->position.offset,
                               .wall_us = t->commit_time_wall_us,
                               .events_count = o->events_count,
                               .hash = o->hash};

    return put(o, &x, err);
}

/* From where on the spool alone has every transaction whole; UINT64_MAX: nowhere. */
static int spool_reaches(const struct overlap *o, uint64_t *ret_begin_lsn, struct error *err)
{
    CLEANUP(mem_free_ptr) uint64_t *files = NULL;
    char path[SPOOL_PATH_BYTES];
    struct spool_header header;
    size_t count;

    *ret_begin_lsn = UINT64_MAX;
    TRY(spool_list(o->spool_directory, &files, &count, err));
    for (size_t i = 0; i < count; i++) {
        TRY(spool_path(path, o->spool_directory, files[i], err));
        TRY(spool_header_read(path, o->source, o->incarnation, &header, err));
        if (header.oldest_open_sequence && header.oldest_open_sequence < files[0])
            continue;
        *ret_begin_lsn = header.after.offset;
        break;
    }
    return 0;
}

static void chain_free_ptr(struct chain **c) { chain_free(*c); }

/*
 * At `after`. With holes: where what there is begins later that is an error, not a chain that begins later. The shipper may remove a spool
 * file between one look at the directory and the next.
 */
static int open_chain(const struct overlap *o, struct vault *vault, struct position after, struct chain **ret, struct error *err)
{
    const struct chain_config config = {.vault = vault,
                                        .spool_directory = o->spool_directory,
                                        .source = o->source,
                                        .incarnation = o->incarnation,
                                        .holes = true};
    CLEANUP(chain_free_ptr) struct chain *c = NULL;

    TRY(chain_open(&config, &c, err));
    TRY(chain_seek(c, after, err));
    *ret = c;
    c = NULL;
    return 0;
}

static int visit(struct overlap *o, struct chain *chain, struct position after, struct error *err)
{
    const struct chain_visitor visitor = {.begin = begin, .event = hash_event, .commit = commit, .user = o};

    return chain_visit(chain, after, position_of_lsn(o->config.durable_lsn), &visitor, err);
}

/* *ret_after: transactions behind it come out of *ret. */
static int choose_chain(struct overlap *o, struct chain **ret, struct position *ret_after, struct error *err)
{
    struct error ignored = ERROR_INIT;
    uint64_t begin_lsn;

    *ret_after = position_of_lsn(o->config.from_lsn);
    TRY(spool_reaches(o, &begin_lsn, err));
    if (begin_lsn <= o->config.from_lsn && open_chain(o, NULL, *ret_after, ret, &ignored) >= 0)
        return 0;
    int rc = error_set(err, ERROR_GAP, "no vault is configured");
    for (size_t i = 0; i < o->config.vaults_count; i++) {
        rc = open_chain(o, o->config.vaults[i], *ret_after, ret, err);
        if (rc >= 0)
            return rc;
    }
    TRY(spool_reaches(o, &begin_lsn, err)); /* the shipper may have removed files since */
    if (begin_lsn >= o->config.durable_lsn)
        return error_prefix(err, "what the server sends again cannot be compared without the vault");
    if (begin_lsn > o->config.from_lsn) {
        atomic_store(&o->readable_lsn, begin_lsn);
        *ret_after = position_of_lsn(begin_lsn);
    }
    return open_chain(o, NULL, *ret_after, ret, err);
}

static void *read_chain(void *arg)
{
    struct overlap *o = arg;
    struct expected end = {.end = true, .err = ERROR_INIT};
    struct chain *chain = NULL;
    struct position after;

    end.result = choose_chain(o, &chain, &after, &end.err);
    if (end.result >= 0)
        end.result = visit(o, chain, after, &end.err);
    chain_free(chain);
    (void)put(o, &end, NULL);
    return NULL;
}

struct overlap *overlap_start(const struct overlap_config *config)
{
    struct overlap *o = mem_zalloc(1, sizeof *o);

    o->config = *config;
    o->spool_directory = mem_strdup(config->spool_directory);
    o->source = mem_strdup(config->source);
    o->incarnation = mem_strdup(config->incarnation);
    o->queue = queue_new(QUEUE_ITEMS);
    o->scratch = BUF_INIT(FRAME_BODY_BYTES_MAX);
    o->thread = thread_start("overlap", read_chain, o);
    return o;
}

void overlap_free(struct overlap *o)
{
    void *left;

    if (!o)
        return;
    queue_close(o->queue);
    (void)thread_join(o->thread);
    while ((left = queue_take_now(o->queue)) != NULL)
        free(left);
    free(o->next);
    queue_free(o->queue);
    buf_release(&o->scratch);
    free(o->spool_directory);
    free(o->source);
    free(o->incarnation);
    free(o);
}

/* --- comparing --------------------------------------------------------------------------------------------------- */

static bool fetch(struct overlap *o)
{
    if (!o->next)
        o->next = queue_take_now(o->queue);
    return o->next != NULL;
}

static void pass(struct overlap *o)
{
    free(o->next);
    o->next = NULL;
}

/* A transaction of which nothing is left (all of it undone, or of tables that are nobody's business) is sent where it was streamed and is not where it
 * came whole; which of the two it is, is another matter each time it is sent. The first at or behind lsn that must come. */
static bool fetch_from(struct overlap *o, uint64_t lsn)
{
    while (fetch(o) && !o->next->end && o->next->events_count == 0 && o->next->end_lsn < lsn)
        pass(o);
    return o->next != NULL;
}

#define LSN_FORMAT "%X/%X"
#define LSN_PARTS(lsn_) (unsigned)((lsn_) >> 32), (unsigned)((lsn_) & UINT32_MAX)

static int differs(char reason[static 256], const struct framed *t, const char *what)
{
    (void)snprintf(reason, 256,
                   "the transaction that the server sends again at " LSN_FORMAT " (xid %u) is not the one that was captured: %s",
                   LSN_PARTS(t->end_lsn), t->xid, what);
    return OVERLAP_DIFFERS;
}

static int judge(const struct expected *x, const struct framed *t, char reason[static 256])
{
    if (x->end_lsn != t->end_lsn || x->start_lsn != t->start_lsn) {
        char elsewhere[128];

        (void)snprintf(elsewhere, sizeof elsewhere, "it lies at another position than the next one, " LSN_FORMAT " (xid %u)", LSN_PARTS(x->end_lsn), x->xid);
        return differs(reason, t, elsewhere);
    }
    if (x->xid != t->xid)
        return differs(reason, t, "it has another transaction id");
    if (x->wall_us != t->wall_us)
        return differs(reason, t, "it has another commit time");
    /* Values in binary form cannot be compared with text. */
    if (t->content_known && (x->events_count != t->events_count || !hash128_equal(x->hash, t->hash)))
        return differs(reason, t, "it has other changes");
    return OVERLAP_SAME;
}

/* The thread has come to its end: by an error, or it has nothing more. */
static int at_end(struct overlap *o, struct error *err)
{
    if (o->next->result >= 0)
        return 0;
    if (err)
        *err = o->next->err;
    return o->next->result;
}

int overlap_compare(struct overlap *o, const struct framed *t, char ret_reason[static 256], struct error *err)
{
    if (!fetch_from(o, t->end_lsn))
        return OVERLAP_WAIT;
    if (o->next->end)
        TRY(at_end(o, err));
    /* The spool alone was read and begins later: what comes before cannot be judged. */
    if (t->end_lsn <= atomic_load(&o->readable_lsn))
        return OVERLAP_SKIPPED;
    if (t->events_count == 0 && (o->next->end || o->next->end_lsn > t->end_lsn))
        return OVERLAP_SAME;
    if (o->next->end)
        return differs(ret_reason, t, "there is none so late");
    int rc = judge(o->next, t, ret_reason);
    pass(o);
    return rc;
}

int overlap_end(struct overlap *o, char ret_reason[static 256], struct error *err)
{
    if (!fetch_from(o, UINT64_MAX))
        return OVERLAP_WAIT;
    if (!o->next->end) {
        (void)snprintf(ret_reason, 256,
                       "the server did not send again the transaction that was captured at " LSN_FORMAT " (xid %u)",
                       LSN_PARTS(o->next->end_lsn), o->next->xid);
        return OVERLAP_DIFFERS;
    }
    TRY(at_end(o, err));
    return OVERLAP_SAME;
}
