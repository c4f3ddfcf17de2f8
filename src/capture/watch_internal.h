/*
 * capture/watch_internal.h - what the watcher's files share: watch.c (the thread, its session, the slot), watch_kept.c (what is kept between two processes),
 * watch_schema.c (polls of the catalogue and of what is published) and watch_rows.c (lists, counts, sequences). For src/capture/watch*.c alone.
 */
#ifndef SALVOR_CAPTURE_WATCH_INTERNAL_H
#define SALVOR_CAPTURE_WATCH_INTERNAL_H

#include "capture/listing.h"
#include "capture/looks.h"
#include "capture/watch.h"

enum step { STEP_CONNECT, STEP_HEARTBEAT, STEP_SCHEMA, STEP_KEYS, STEP_LISTS, STEP_COUNTS, STEP_SEQUENCES, STEP_SLOT, STEPS_COUNT_ };

struct watcher {
    struct capture *capture;
    struct pg_conn sql; /* pq NULL: not connected */
    int64_t retry_mono_us, backoff_us;
    int64_t heartbeat_mono_us, poll_mono_us, keys_mono_us; /* when due */
    char keys_lost[PG_LOST_BYTES]; /* as last looked at */
    int64_t looked_mono_us; /* because the server asked */
    char said[STEPS_COUNT_][256]; /* the last error of each step; "": none */

    struct schema_watch schema;
    bool fresh;              /* nothing of this incarnation was captured before: nothing to compare with is as it should be */
    uint64_t noted_seen_lsn; /* of the last schema_seen note */
    int64_t noted_seen_mono_us;
    json_t *look;            /* the last one that was judged (looks.h), with "seen": up to where the schema was known then; NULL: none */
    struct look_starts starts;
    char *recording;         /* what says whether commands are recorded, as last polled; NULL: not known */
    json_t *published;       /* how the publications stood, as last polled (pg_published); NULL: not known */

    struct change_counts counts;
    struct poll_ring ring;
    uint64_t counted_from_lsn; /* all that was changed before it is in counts; 0: not known */
    uint64_t clean_lsn; /* of the last poll that found the lists right */
    struct listing listing;
    uint64_t xmin; /* every transaction with a lower id had ended at the last poll */
    json_t *sequences;  /* values as noted last; NULL: never */
    bool dirty;         /* to be stored */
    int64_t stored_mono_us;
    int64_t slot_mono_us;
    uint64_t slot_retained;
};

/* All was well up to lsn, or at least when the incarnation began. */
uint64_t watch_well_up_to(const struct watcher *w, uint64_t lsn);
/* What was not came past that. */
struct position watch_past(const struct watcher *w, uint64_t lsn);

/* --- watch_kept.c ----------------------------------------------------------------------------------------------- */

void watch_load(struct watcher *w);
/* Where it is due; and not before what was noted is durable. */
void watch_store(struct watcher *w);
/* [[relation, changes]] as they stand in watch.json and, without zeros, in a note. Owner: caller. */
json_t *watch_counts_json(const struct watcher *w, bool with_zeros);

/* --- one poll each; an error leaves what is known as it was -------------------------------------------------------- */

/* ret_lsn: up to where the log was written before. */
MUST_CHECK int watch_poll_schema(struct watcher *w, uint64_t *ret_lsn, struct error *err);
MUST_CHECK int watch_poll_lists(struct watcher *w, uint64_t lsn, struct error *err);
MUST_CHECK int watch_poll_counts(struct watcher *w, uint64_t lsn, struct error *err);
MUST_CHECK int watch_poll_sequences(struct watcher *w, struct error *err);
MUST_CHECK int watch_ask_written_lsn(struct watcher *w, uint64_t *ret, struct error *err);

#endif
