/*
 * capture/continuity.c - the rules in the order in which they are tried; the first that applies decides.
 *
 * They err on the side of a break: a break costs a fresh snapshot, a wrong continuation costs the truth.
 */
#include "capture/continuity.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define LSN_FORMAT "%X/%X"
#define LSN_PARTS(lsn_) (unsigned)((lsn_) >> 32), (unsigned)((lsn_) & UINT32_MAX)

struct facts {
    const struct continuity_ours *o;
    const struct continuity_theirs *t;
};

static bool first(const struct facts *f) { return !f->o->any && f->t->slot_usable; }
static bool first_without_slot(const struct facts *f) { return !f->o->any; }
static bool other_system(const struct facts *f) { return strcmp(f->o->system_id, f->t->system_id) != 0; }
static bool other_database(const struct facts *f) { return f->o->database_oid != f->t->database_oid; }
static bool other_timeline(const struct facts *f) { return f->o->timeline != f->t->timeline; }
static bool rolled_back(const struct facts *f) { return f->t->flushed_lsn < f->o->end_lsn; }
static bool slot_gone(const struct facts *f) { return f->o->any && !f->t->slot_exists; }
static bool slot_useless(const struct facts *f) { return f->o->any && !f->t->slot_usable; }
static bool slot_ahead(const struct facts *f) { return f->t->confirmed_flush_lsn > f->o->end_lsn; }
static bool always(const struct facts *f)
{
    (void)f;
    return true;
}

static void say_system(const struct facts *f, char *to, size_t n)
{
    (void)snprintf(to, n, "the server has system identifier %s, not %s: it is another cluster", f->t->system_id, f->o->system_id);
}

static void say_database(const struct facts *f, char *to, size_t n)
{
    (void)snprintf(to, n, "the database has oid %u, not %u: it was dropped and made again, or it is another one", f->t->database_oid,
                   f->o->database_oid);
}

static void say_timeline(const struct facts *f, char *to, size_t n)
{
    (void)snprintf(to, n, "the server is on timeline %u, not %u: a standby was promoted or a backup restored", f->t->timeline,
                   f->o->timeline);
}

static void say_rolled_back(const struct facts *f, char *to, size_t n)
{
    (void)snprintf(to, n,
                   "the server's log ends at " LSN_FORMAT ", before " LSN_FORMAT " which it had sent already: its disk was rolled back",
                   LSN_PARTS(f->t->flushed_lsn), LSN_PARTS(f->o->end_lsn));
}

static void say_slot_gone(const struct facts *f, char *to, size_t n)
{
    (void)snprintf(to, n, "the slot is gone: what was committed after " LSN_FORMAT " and before a new one is lost",
                   LSN_PARTS(f->o->end_lsn));
}

static void say_slot_useless(const struct facts *f, char *to, size_t n)
{
    (void)snprintf(to, n,
                   "the slot lost the log it needs or is not ours: what was committed after " LSN_FORMAT
                   " and before a new one is lost",
                   LSN_PARTS(f->o->end_lsn));
}

static void say_slot_ahead(const struct facts *f, char *to, size_t n)
{
    (void)snprintf(to, n,
                   "the slot stands at " LSN_FORMAT ", past " LSN_FORMAT
                   " which is the last that is durable here: somebody made it again or moved it",
                   LSN_PARTS(f->t->confirmed_flush_lsn), LSN_PARTS(f->o->end_lsn));
}

static const struct rule {
    const char *name;
    bool (*applies)(const struct facts *f);
    enum continuity_verdict verdict;
    bool gap; /* positions of this same history are missing */
    void (*say)(const struct facts *f, char *to, size_t n);
    const char *why;
} rules[] = {
    {"first", first, CONTINUITY_FIRST, false, NULL, "nothing was captured yet, the slot says where it begins"},
    {"no slot", first_without_slot, CONTINUITY_NO_SLOT, false, NULL, "nothing was captured yet and setup made no slot"},
    {"system", other_system, CONTINUITY_BROKEN, false, say_system, "positions of another cluster mean nothing here"},
    {"database", other_database, CONTINUITY_BROKEN, false, say_database, "another database has another history"},
    {"timeline", other_timeline, CONTINUITY_BROKEN, false, say_timeline, "where the histories part is not known from here"},
    {"rolled back", rolled_back, CONTINUITY_BROKEN, false, say_rolled_back, "what we have was never committed there"},
    {"slot gone", slot_gone, CONTINUITY_BROKEN, true, say_slot_gone, "the server kept nothing for us"},
    {"slot useless", slot_useless, CONTINUITY_BROKEN, true, say_slot_useless, "the log it needs is gone"},
    {"slot ahead", slot_ahead, CONTINUITY_BROKEN, true, say_slot_ahead, "the server will not send what lies in between"},
    {"go on", always, CONTINUITY_GO_ON, false, NULL, "to be proved by the transactions that are sent again"},
};

void continuity_judge(const struct continuity_ours *ours, const struct continuity_theirs *theirs, struct continuity *ret)
{
    const struct facts f = {.o = ours, .t = theirs};
    const struct rule *r = rules;

    while (!r->applies(&f))
        r++;
    *ret = (struct continuity){.verdict = r->verdict, .rule = r->name, .gap = r->gap};
    if (r->say)
        r->say(&f, ret->reason, sizeof ret->reason);
}

const char *continuity_rule(unsigned i, const char **ret_why)
{
    if (i >= sizeof rules / sizeof *rules)
        return NULL;
    *ret_why = rules[i].why;
    return rules[i].name;
}
