/* capture/receive.h - the receiving thread's own state. For src/capture/receive*.c alone. */
#ifndef SALVOR_CAPTURE_RECEIVE_H
#define SALVOR_CAPTURE_RECEIVE_H

#include "base/clock.h"
#include "capture/overlap.h"
#include "capture/role.h"
#include "engine/postgres/pg_stream.h"

#define CLOCK_UNKNOWN_US (INT64_MIN / 2)

/* The spool file that turns go into. */
struct file_state {
    uint64_t number;       /* its sequence number */
    uint64_t oldest_open;  /* the least number in which a transaction began that is open before it; 0: none */
    bool used, content;    /* there is something in it; more than heartbeats and polls */
    uint64_t bytes;
    int64_t began_mono_us;
};

struct receiver {
    struct capture *capture;
    struct framer *framer;
    struct turn *turn; /* being filled */
    struct file_state file;
    uint64_t segment_bytes;              /* of a file, then it is sealed */
    int64_t content_age_us, idle_age_us; /* of a file, before it is sealed */

    /* The session. */
    struct pg_stream stream;
    enum pg_stream_mode mode;
    uint64_t confirmed_lsn; /* where the slot stood */
    int64_t feedback_interval_us;
    struct overlap *overlap;  /* NULL: everything was compared */
    struct framed pending;    /* has_pending: waits for the chain to be read */
    bool has_pending;
    bool unproved;            /* a new transaction begins, and it is not known yet whether one before it is missing */
    struct buf held;          /* unproved: the commit of a streamed one, to be taken then */
    bool more;                /* there are messages that were not taken */
    bool reply_wanted;
    bool asked;               /* the server asked in this turn, and had nothing more to send */
    uint64_t last_lsn;        /* end of the last commit that was received, or where the session began */
    uint64_t keepalive_lsn;
    uint64_t told_written_lsn, told_flushed_lsn;
    int64_t told_mono_us, heard_mono_us;
    int64_t received_wall_us;
    int64_t read_mono_us, read_not_before_us; /* of the socket; 0: at once */
    uint64_t taken_bytes;     /* since then */
    bool flowing;             /* data comes faster than it is worth a system call each */
    int64_t handed_mono_us;   /* the last turn */
    int64_t commit_mono_us, commit_wall_us; /* the last commit: when it came, when it was */

    /* The source's clock against ours. */
    int64_t clock_now_us, clock_before_us, clock_began_us;

    /* A transaction that is too large for text. */
    enum pg_stream_mode mode_wanted; /* of the next session */
    uint64_t stuck_after_lsn; /* the stream ended behind the commit that ends here */
    unsigned stuck_count;
    uint64_t release_lsn;     /* it was received: when it is durable the server may forget it; 0: none */

    int64_t backoff_us;
};

/* Connects, judges continuity, starts the stream (receive_connect.c). A break is no error: the line is then ending. */
MUST_CHECK int receive_connect(struct receiver *r, struct error *err);
MUST_CHECK int receive_stream(struct receiver *r, struct error *err);
/* Asks the server what continuity is judged by. Errors: BUSY somebody else streams from the slot. */
MUST_CHECK int receive_ask(struct capture *c, struct pg_conn *replication, struct pg_identity *ret_server,
                           struct continuity_theirs *ret_theirs, struct error *err);

/* --- turns (receive_turn.c) -------------------------------------------------------------------------------------- */

#define FLOW_TURN_US (10 * CLOCK_US_PER_MS) /* under a steady flow a turn gathers for so long */

/* After framer_new: the framer's output is the first turn, the file is the spool's own or the next one. */
void receive_turns_begin(struct receiver *r);
void receive_turns_release(struct receiver *r);
/* This commit was a while ago: in a backlog. */
bool receive_is_old(const struct receiver *r, int64_t wall_us);
/* The turn goes to the writer where it is worth it and the writer is idle. Waits for nothing. */
void receive_hand_over(struct receiver *r);
/* Everything whole that was received is durable when this returns true; false: the disk did not take it in time, or the line ends. */
bool receive_drain(struct receiver *r, bool seal);

/* --- feedback (receive_feedback.c) ------------------------------------------------------------------------------- */

#define ASK_AFTER_US (2 * CLOCK_US_PER_S) /* of silence: the server is asked for a sign of life */

/* What may be said now (I-1); also leaves what the others want to know. */
void receive_weigh(struct receiver *r, uint64_t *ret_written, uint64_t *ret_flushed);
/* Says it where it is due. *ret_wait_us: how long the loop may sleep before it is. */
MUST_CHECK int receive_feedback(struct receiver *r, int64_t *ret_wait_us, struct error *err);

#endif
