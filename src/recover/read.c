/*
 * recover/read.c - one pass over the chain. What is not in the snapshot goes into the net changes; whatever a recovery could not
 * give back exactly refuses it here, before anything is touched.
 *
 * Tables are known by their ids. The shape of a table is looked at when an event uses it, not when the stream defines it: a
 * definition may be older than the snapshot. Salvor's own helper tables are passed over; their names are in no snapshot.
 */
#include "recover/read.h"

#include "base/mem.h"
#include "capture/idmap.h"
#include "engine/postgres/pg_protect.h"
#include "recover/choose.h"

#define TICK_EVENTS 16384

struct reading {
    const struct read_config *config;
    struct read_result *result;
    struct pg_names names;
    struct idmap tables;    /* by relation id: number in the manifest + 1 */
    struct idmap relations; /* by the address of the stream's relation: the same, or OWN */
};

/* Not a table of the user's. */
#define OWN UINTPTR_MAX

static void reading_release(struct reading *r)
{
    idmap_release(&r->tables);
    idmap_release(&r->relations);
}

bool read_same_shape(const struct relation *in_snapshot, const struct relation *in_stream)
{
    struct relation alike = *in_stream;

    if (relation_same_shape(in_snapshot, in_stream))
        return true;
    /* The stream marks columns as a key that do not identify a row (a generated column belongs to it): only inserts come then. */
    alike.identity = IDENTITY_NONE;
    return in_snapshot->identity == IDENTITY_NONE && in_stream->identity == IDENTITY_KEY &&
           relation_same_shape(in_snapshot, &alike);
}

static int refuse_unknown(const struct relation *r, const struct chain_transaction *t, struct error *err)
{
    char at[POSITION_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED,
                     "table %s.%s was made after the snapshot (first change at %s), and no record says what made it: "
                     "take an earlier target, or one at or past the next snapshot",
                     r->schema, r->name, position_format(t->position, at));
}

static int refuse_shape(const struct relation *r, const struct chain_transaction *t, struct error *err)
{
    char at[POSITION_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED,
                     "table %s.%s has another shape at %s than in the snapshot, and no record says what made it so: take "
                     "an earlier target, or one at or past the next snapshot",
                     r->schema, r->name, position_format(t->position, at));
}

static int find_table(struct reading *d, const struct chain_transaction *t, const struct relation *r, uintptr_t *ret,
                      struct error *err)
{
    uintptr_t known = (uintptr_t)idmap_get(&d->relations, (uint64_t)(uintptr_t)r);

    if (known == 0) {
        bool own = strcmp(r->schema, d->names.schema) == 0;

        known = own ? OWN : (uintptr_t)idmap_get(&d->tables, r->id);
        if (known == 0)
            return refuse_unknown(r, t, err);
        if (!own && !read_same_shape(&d->config->from->tables[known - 1].relation, r))
            return refuse_shape(r, t, err);
        (void)idmap_put(&d->relations, (uint64_t)(uintptr_t)r, (void *)known); /* NOLINT: a number in a pointer's place */
    }
    *ret = known;
    return 0;
}

static int on_begin(void *user, const struct chain_transaction *t, struct error *err)
{
    struct reading *d = user;
    const struct manifest *from = d->config->from, *until = d->config->until;
    (void)err;

    if (from->visibility.present && choose_visible(&from->visibility, t->xid))
        return 0;
    if (until && until->visibility.present && !choose_visible(&until->visibility, t->xid))
        return 0;
    d->result->transactions++;
    return 1;
}

int read_refuse_oversize(const struct relation *r, const struct chain_transaction *t, struct error *err)
{
    char at[POSITION_TEXT_BYTES];

    return error_set(err, ERROR_REFUSED,
                     "table %s.%s: a change at %s was too large to be captured: take an earlier target, or one at or past the "
                     "next snapshot",
                     r->schema, r->name, position_format(t->position, at));
}

/* It was written before a change that the snapshot holds (capture/framer_words.c has those that committed behind it). */
static int check_words(const struct reading *d, const struct chain_transaction *t, const struct relation *r, struct error *err)
{
    char at[POSITION_TEXT_BYTES];

    if (position_compare(t->position, d->config->changed_until) >= 0 || !relation_depends(r) || strcmp(r->schema, d->names.schema) == 0)
        return 0;
    return error_set(err, ERROR_REFUSED, "table %s.%s: a transaction that committed at %s is not in the snapshot, and a change of the schema after it is: its values are captured "
                     "as they read before", r->schema, r->name, position_format(t->position, at));
}

static int on_event(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e,
                    struct error *err)
{
    struct reading *d = user;
    bool bridged = d->config->bridge != NULL;
    uintptr_t table = OWN;

    if (!r)
        return 0; /* a logical message: any role of the source may send one, and it means nothing here (I-16) */
    TRY(check_words(d, t, r, err));
    if (!bridged)
        TRY(find_table(d, t, r, &table, err));
    if (table == OWN && !bridged)
        return 0;
    if (e->op == EVENT_OVERSIZE && !bridged)
        return read_refuse_oversize(r, t, err);
    if (++d->result->events % TICK_EVENTS == 0 && d->config->tick)
        d->config->tick(d->config->user, d->result->events);
    if (bridged)
        return bridge_event(d->config->bridge, t, r, e, d->config->changes, err);
    return d->config->changes ? changes_add(d->config->changes, (uint32_t)(table - 1), e, err) : 0;
}

static int on_commit(void *user, const struct chain_transaction *t, struct error *err)
{
    struct reading *d = user;
    (void)err;

    d->result->last = t->position;
    d->result->last_wall_us = t->commit_time_wall_us;
    d->result->last_in_spool = chain_in_spool(d->config->chain);
    return 0;
}

static void index_tables(struct reading *d, const struct manifest *m)
{
    pg_names_of(m->source, &d->names);
    for (uint32_t i = 0; i < m->tables_count; i++)
        (void)idmap_put(&d->tables, m->tables[i].relation.id, (void *)((uintptr_t)i + 1));
}

int read_chain(const struct read_config *config, struct read_result *ret, struct error *err)
{
    CLEANUP(reading_release) struct reading d = {.config = config, .result = ret};
    struct chain_visitor visitor = {.begin = on_begin, .event = on_event, .commit = on_commit, .user = &d};
    const struct manifest *from = config->from;
    struct position after = from->position;

    *ret = (struct read_result){0};
    index_tables(&d, from);
    if (from->visibility.present) {
        /* No prefix of the commit order: what is not in it may stand before its position. */
        TRY(chain_seek_xid(config->chain, (uint32_t)from->visibility.xmin, err));
        after = POSITION_ZERO;
    } else {
        TRY(chain_seek(config->chain, after, err));
    }
    return chain_visit(config->chain, after, config->to, &visitor, err);
}

/* --- single commits ---------------------------------------------------------------------------------------------- */

struct looking {
    struct chain *chain;
    struct position found;
    int64_t wall_us;
    bool in_spool, first_is_enough;
};

static int skip_events(void *user, const struct chain_transaction *t, struct error *err)
{
    (void)user;
    (void)t;
    (void)err;
    return 0;
}

static int see_commit(void *user, const struct chain_transaction *t, struct error *err)
{
    struct looking *l = user;

    l->found = t->position;
    l->wall_us = t->commit_time_wall_us;
    l->in_spool = chain_in_spool(l->chain);
    return l->first_is_enough ? error_set(err, ERROR_CANCELLED, "found") : 0;
}

static int look(struct looking *l, struct position after, struct position to, struct error *err)
{
    struct chain_visitor visitor = {.begin = skip_events, .commit = see_commit, .user = l};

    l->found = POSITION_ZERO;
    TRY(chain_seek(l->chain, after, err));
    int rc = chain_visit(l->chain, after, to, &visitor, err);
    return rc == -ERROR_CANCELLED && l->first_is_enough ? 0 : rc;
}

/* Commits stand close to each other (a heartbeat every few seconds), so one is found in the log's last bytes before p. */
int read_commit_at(struct chain *chain, struct position p, struct position *ret, int64_t *ret_wall_us,
                   bool *ret_in_spool, struct error *err)
{
    struct looking l = {.chain = chain};

    for (uint64_t back = UINT64_C(1) << 20; position_is_zero(l.found); back <<= 6) {
        bool all = back >= p.offset || back >= UINT64_C(1) << 50;
        struct position after = {.log = all ? 0 : p.log, .offset = all ? 0 : p.offset - back};

        TRY(look(&l, after, p, err));
        if (all)
            break;
    }
    *ret = l.found;
    *ret_wall_us = l.wall_us;
    *ret_in_spool = l.in_spool;
    return 0;
}

int read_commit_past(struct chain *chain, struct position p, struct position *ret, struct error *err)
{
    struct looking l = {.chain = chain, .first_is_enough = true};
    struct error why = ERROR_INIT;

    if (look(&l, p, POSITION_MAX, &why) < 0) {
        if (err)
            *err = why;
        return -(int)why.code;
    }
    *ret = position_is_zero(l.found) ? POSITION_MAX : l.found;
    return 0;
}

/* --- how many ---------------------------------------------------------------------------------------------------- */

struct counting {
    uint64_t transactions;
    bool changes; /* the one that is read changed something */
};

static int begin_counted(void *user, const struct chain_transaction *t, struct error *err)
{
    struct counting *c = user;
    (void)t;
    (void)err;

    c->changes = false;
    return 1;
}

static int see_change(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e, struct error *err)
{
    struct counting *c = user;
    (void)t;
    (void)e;
    (void)err;

    c->changes |= r != NULL;
    return 0;
}

static int end_counted(void *user, const struct chain_transaction *t, struct error *err)
{
    struct counting *c = user;
    (void)t;
    (void)err;

    c->transactions += c->changes;
    c->changes = false;
    return 0;
}

int read_count(struct chain *chain, struct position after, struct position to, uint64_t *ret, struct error *err)
{
    struct counting c = {0};
    struct chain_visitor visitor = {.begin = begin_counted, .event = see_change, .commit = end_counted, .user = &c};

    TRY(chain_seek(chain, after, err));
    TRY(chain_visit(chain, after, to, &visitor, err));
    *ret = c.transactions;
    return 0;
}
