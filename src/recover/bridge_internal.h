/* recover/bridge_internal.h - what the bridge's files share. For src/recover/bridge*.c alone. */
#ifndef SALVOR_RECOVER_BRIDGE_INTERNAL_H
#define SALVOR_RECOVER_BRIDGE_INTERNAL_H

#include "capture/idmap.h"
#include "engine/postgres/pg_protect.h"
#include "recover/bridge.h"

#define BRIDGE_NONE UINT32_MAX

/* Rows and events of a table for as long as its identity is another one (bridge_stage.c). */
struct stage {
    struct changes *changes; /* NULL: they are only looked at */
    struct layout_table table; /* the target's columns, and behind them those that identify rows and are gone there */
    struct relation shape;     /* the same */
    struct rowmap *map;        /* how the snapshot's rows become its own; NULL: none are poured into it */
};

/* A table on its way: as it is where the stream stands now. */
struct trace {
    uint32_t id;
    uint32_t to;     /* in the target's manifest; BRIDGE_NONE: it is gone there */
    bool known;      /* `now` says what it is; else it was made by a command that has not ended yet */
    bool made;       /* by a change on the way */
    bool in_snapshot;
    bool rows;       /* it may have some: it had or was given some, and was not emptied since */
    bool touched;    /* a command on the way was about it: only then may a new file be a rewrite, or older rows lack what the catalogue said of them */
    bool doubtful;   /* for a time nothing identified its rows: who changed them then was not captured */
    struct layout_table now;
    struct position recorded; /* of the commit of the transaction whose record `now` is */
    bool emptied;    /* by TRUNCATE since that record */
    struct position written; /* of the commit of the transaction that wrote rows of it last */
    const struct renewal *since; /* its rows begin there; NULL: in the snapshot, or on the way */
    char *barred;    /* in a survey: why it cannot be followed; owned */
    struct stage *stage; /* its rows are identified otherwise now; NULL: they are not */
    bool alike;      /* a command was about it while its whole rows identified it: the key may have been gone, and rows alike in it */
    bool merged;     /* rows or events of it stand with the target's */
    const struct relation *shape; /* of the events, as last compared with `now`; NULL: never */
    uint32_t *from;  /* per column of the target, or of its stage: the event's, or BRIDGE_NONE */
};

struct bridge {
    struct pg_names names;
    struct layout from, to; /* of snapshot and target */
    struct relation *shapes; /* of the target's tables */
    struct rowmap **maps;
    bool *poured;
    uint32_t gone;
    uint64_t records_expected, records;
    const struct renewals *renewals;
    bool survey;
    struct idmap by_id;
    struct trace **traces;
    size_t traces_count, traces_cap;
    struct changes_config stages; /* directory NULL: events are only looked at */
    json_t *labels; /* of enums, as they were seen first */
    struct event_columns room;
};

struct trace *bridge_trace(struct bridge *b, uint32_t id);
/* rc, or 0 where a survey sets a table aside that was refused. */
int bridge_bar(const struct bridge *b, struct trace *t, int rc, struct error *err);
/* bridge_stage.c */
/* What an event of it is written in: the columns of its stage, or of the target. */
const struct layout_table *bridge_columns(const struct bridge *b, const struct trace *t);
bool bridge_same_identity(const struct layout_table *a, const struct layout_table *b);
bool bridge_stage_needed(const struct layout_table *now, const struct layout_table *to);
MUST_CHECK int bridge_stage_open(const struct bridge *b, const struct trace *t, struct stage **ret, struct error *err);
/* A record gave the table `now`: its rows move on where that is another identity. Errors: REFUSED. */
MUST_CHECK int bridge_stage_move(struct bridge *b, struct trace *t, struct changes *changes, struct error *err);
void bridge_stage_free(struct stage *s);

/* The first of the labels that is not what it was; NULL. All are remembered. */
const json_t *bridge_label_changed(struct bridge *b, const json_t *enums);

/* bridge_choose.c: the captures that have exactly the changes up to the target, in the order in which they are to be tried. Errors: REFUSED there is none. Owner: caller. */
struct captures;
MUST_CHECK int bridge_captures(const struct bridge_config *c, const struct manifest *from, struct captures **ret, struct error *err);
int bridge_refuse_uncaptured(const struct bridge_config *c, struct error *err); /* none stands for the target */
void bridge_captures_free(struct captures *k);
uint64_t bridge_captures_between(const struct captures *k); /* changes between snapshot and target: each has its records */
struct capture_choice {
    struct manifest at; /* position and digest by which the schema is found */
    bool is_snapshot;   /* then it is that snapshot's manifest */
};
/*
 * The next one into an initialized choice. 1; 0: there is none any more. Errors: NOT_FOUND, CORRUPT the manifest of the snapshot that ret->at.id names cannot be read, and
 * the one behind it is next.
 */
MUST_CHECK int bridge_captures_next(const struct bridge_config *c, struct captures *k, struct capture_choice *ret, struct error *err);

/* bridge_capture.c: what is taken of a capture. */
struct capture_read {
    struct capture_choice choice;
    struct layout layout;
    struct manifest next; /* sequences and properties */
    struct buf dump;
};
void bridge_capture_init(struct capture_read *r, size_t dump_bytes_max);
void bridge_capture_release(struct capture_read *r);
/* The first of them that can be read, with a warning for each that cannot. Errors: REFUSED none can, or none stands for the target. */
MUST_CHECK int bridge_capture_read(const struct bridge_config *c, struct captures *k, const struct manifest *from, struct capture_read *r, struct error *err);
/* The layout in the snapshot that is begun with. Errors: REFUSED it cannot be read. */
MUST_CHECK int bridge_read_beginning(const struct bridge_config *c, const struct manifest *from, struct layout *ret, struct error *err);

#endif
