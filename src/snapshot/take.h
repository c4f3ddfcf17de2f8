/*
 * snapshot/take.h - how the files of snapshot_take know each other. Not for others.
 *
 * Threads of one try: the caller's (take_try: it owns the holder's session), one worker a connection (take_copy.c), a
 * watcher (take_watch.c), one that runs pg_dump (take_schema.c) and one for large objects (take_large.c). They share struct take; what is marked so is
 * guarded by its mutex. The first failure sets `stop`, which all of them obey.
 */
#ifndef SALVOR_SNAPSHOT_TAKE_H
#define SALVOR_SNAPSHOT_TAKE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/postgres/pg_catalog.h"
#include "engine/postgres/pg_tools.h"
#include "os/queue.h"
#include "snapshot/rowsort.h"
#include "snapshot/snapshot_take.h"

/* Chunks are this small where the memory of a sort is small. */
#define TAKE_CHUNK_BYTES_MIN (CHUNK_BYTES_TARGET / 2)

/* A table on its way. */
struct take_table {
    const struct pg_table *table;
    struct snapshot_table *out; /* in the manifest; written by the worker that ends the table */
    struct rowsort *sort;       /* mutex */
    uint32_t parts_left;        /* mutex */
    char *inexact;              /* mutex; why its rows cannot be had; owned */
};

/* What a worker copies in one go: a table, or a range of its blocks. */
struct take_part {
    struct take_table *table;
    uint32_t block_from, block_to; /* as pg_copy_out takes them */
    uint64_t bytes;
};

struct take {
    const struct snapshot_config *config;
    struct manifest *manifest;
    struct pg_names names;
    const char *sort_directory;

    struct pg_conn holder; /* holds the locks and the exported snapshot that all others import */
    int holder_pid;        /* its server process */
    char snapshot[64];
    bool lock_first;     /* tables are locked before the snapshot is made: what is rewritten again and again cannot outrun it */
    bool slot_timed_out; /* transactions are open for longer than a slot may take: it is not tried again */
    char *application;   /* application_name of pg_dump's sessions: unique */

    char *fingerprint, *stamp; /* of the schema, in the snapshot */
    json_t *layout;    /* of its tables, in the snapshot */

    struct pg_table *tables;
    size_t tables_count;
    struct take_table *states;
    struct take_part *parts; /* the biggest first */
    size_t parts_count;
    uint64_t bytes_estimated;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    atomic_bool stop;
    struct error error;       /* mutex; the first one */
    size_t parts_taken;       /* mutex */
    size_t parts_copied;      /* mutex; the last row has been read */
    uint32_t workers_running; /* mutex */
    bool schema_done;         /* mutex */
    bool large_begun;         /* mutex; its session sees the snapshot, and needs the holder no more */
    bool large_done;          /* mutex; large objects have been read and stored */
    bool watch_end;           /* mutex */
    int *pids;                /* mutex; server processes of the workers, 0: none */
    uint32_t pids_count;

    atomic_ullong rows, bytes, tables_done;

    struct tombstones **tombstones; /* of each vault: read after the intent and again before the manifest; owned */
    int64_t intent_boot_us;         /* when the intents were put, by a clock that nobody can set */

    struct pg_conn watch; /* the watcher's while it runs */
    struct buf dump, sql; /* of the thread that runs pg_dump, until schema_done */
    json_t *globals;
};

/* Makes everybody stop; the first failure is the one that is told. */
void take_fail(struct take *t, const struct error *err);
static inline bool take_stopped(struct take *t)
{
    return atomic_load_explicit(&t->stop, memory_order_relaxed);
}
/* "schema.name" for messages. */
#define TAKE_NAME_BYTES 300
const char *take_name(const struct relation *r, char text[static TAKE_NAME_BYTES]);

/* take_intent.c: what makes a snapshot safe beside a purge (docs/formats/vault.md, "Purging"). */
MUST_CHECK int take_intents(struct take *t, struct error *err);
/* All chunks stand under names that no tombstone has, and the intents are young enough to count. Errors: BUSY. */
MUST_CHECK int take_secure(struct take *t, struct error *err);
void take_intents_release(struct take *t);
/* Takes back what a snapshot left that ended before its commit. The caller holds the source's snapshot lock. */
void take_intents_forget(const struct snapshot_config *config);

/* take_source.c: a consistent snapshot of the source, its position, its tables. */
MUST_CHECK int take_source(struct take *t, struct error *err);
/* A session in a transaction that sees the snapshot. */
MUST_CHECK int take_import(struct take *t, struct pg_conn *ret, struct error *err);
MUST_CHECK int take_list(struct take *t, struct error *err);
/* t->tables: those that are to be copied. */
MUST_CHECK int take_tables(struct take *t, struct pg_conn *sql, struct error *err);
/* Until a crash of the server could not undo anything that the snapshot has seen. */
MUST_CHECK int take_wait_flushed(struct take *t, struct pg_conn *sql, struct error *err);

/* take_lock.c */
MUST_CHECK int take_lock(struct take *t, struct error *err);
/* Begins the holder's transaction with the locks, before it has a snapshot. */
MUST_CHECK int take_lock_first(struct take *t, struct error *err);
/* The tables that are locked are those of the snapshot and have the files that they had. Errors: BUSY. */
MUST_CHECK int take_check_files(struct take *t, struct error *err);
/* What a failure of a statement means that met somebody else's DDL: BUSY, else what it was. */
int take_busy(const struct relation *r, struct error *err);

/* take_watch.c: lets go of the locks when others wait behind them. */
void *take_watch_main(void *take);

/* take_copy.c */
void take_plan_parts(struct take *t);
MUST_CHECK int take_plan_ranges(struct take *t, struct error *err);
struct take_worker {
    struct take *take;
    uint32_t number;
};
void *take_worker_main(void *worker);

/* take_large.c */
void *take_large_main(void *take);

/* take_schema.c */
void *take_schema_main(void *take);
MUST_CHECK int take_database(struct take *t, struct error *err);
MUST_CHECK int take_sequences(struct take *t, struct pg_conn *sql, struct error *err);

#endif
