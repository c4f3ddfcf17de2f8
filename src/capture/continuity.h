/*
 * capture/continuity.h - is the server the continuation of what was captured? A pure function over what both sides say.
 *
 * Asked at every connect, before the stream starts. That the answer is GO_ON is not the whole proof: the transactions that the
 * server then sends again are compared one by one (capture/overlap.h). Invariants: I-3, I-4.
 */
#ifndef SALVOR_CAPTURE_CONTINUITY_H
#define SALVOR_CAPTURE_CONTINUITY_H

#include <stdbool.h>
#include <stdint.h>

/* What this host has of the source. */
struct continuity_ours {
    bool any;             /* false: nothing was ever captured */
    char system_id[32];
    uint32_t timeline;
    uint32_t database_oid;
    uint64_t end_lsn;     /* of the last durable commit; of the incarnation's start where there is none */
};

/* What the server says. */
struct continuity_theirs {
    char system_id[32];
    uint32_t timeline;
    uint32_t database_oid;
    uint64_t flushed_lsn; /* the end of its log */
    bool slot_exists;
    bool slot_usable;     /* pgoutput, of this database, its log still there */
    uint64_t confirmed_flush_lsn;
};

enum continuity_verdict {
    CONTINUITY_GO_ON,
    CONTINUITY_FIRST,    /* nothing captured yet: the first incarnation begins at the slot */
    CONTINUITY_BROKEN,   /* a new incarnation begins */
    CONTINUITY_NO_SLOT,  /* nothing captured yet and no slot: `salvor setup` was not run */
};

struct continuity {
    enum continuity_verdict verdict;
    const char *rule;  /* the rule's name */
    char reason[256];  /* BROKEN: a sentence */
    bool gap;          /* BROKEN: positions of the same history are missing, not only another history begun */
    bool slot_stuck;   /* BROKEN: what the slot would send next cannot be sent: one must be made anew */
};

void continuity_judge(const struct continuity_ours *ours, const struct continuity_theirs *theirs, struct continuity *ret);

/* The rules as a table, for documentation and tests: name and why; NULL past the last. */
const char *continuity_rule(unsigned i, const char **ret_why);

#endif
