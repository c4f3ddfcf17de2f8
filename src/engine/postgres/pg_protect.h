/*
 * engine/postgres/pg_protect.h - check, setup and teardown: what a source needs, makes and gets back.
 *
 * Names in the database of source NAME: schema salvor_NAME (helpers, trigger mode only), publications
 * salvor_NAME_rows (insert, truncate) and salvor_NAME_keys (update, delete), slot salvor_NAME.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_PROTECT_H
#define SALVOR_ENGINE_POSTGRES_PG_PROTECT_H

#include "engine/postgres/pg_catalog.h"
#include "event/event.h"

#define PG_NAME_BYTES 64

struct pg_names {
    char schema[PG_NAME_BYTES];
    char publication_rows[PG_NAME_BYTES];
    char publication_keys[PG_NAME_BYTES];
    char slot[PG_NAME_BYTES];
    char trigger_start[PG_NAME_BYTES];
    char trigger_ddl[PG_NAME_BYTES];
    char trigger_drop[PG_NAME_BYTES];
};
void pg_names_of(const char *source, struct pg_names *ret);

enum pg_identity_choice { PG_IDENTITY_ASK, PG_IDENTITY_FULL, PG_IDENTITY_INSERTS };

/* What the configuration says about protecting a source. */
struct pg_protect_config {
    const char *source;
    const char *conninfo;
    enum pg_identity_choice identity;                 /* identity = full | inserts */
    const char *const *identity_full_tables;          /* per table: "schema.name", NULL-terminated, may be NULL */
    const char *const *identity_inserts_tables;
    bool slot_wal_unbounded;
    bool large_objects_ignored;                       /* large_objects = ignore */
    int slot_timeout_ms;                              /* how long making a slot may wait for old transactions */
};

enum pg_severity { PG_FINDING_OK, PG_FINDING_WARN, PG_FINDING_REFUSE };

struct pg_finding {
    enum pg_severity severity;
    char code[32];   /* stable: "wal_level", "bypassrls", "no_identity", "pooler", ... */
    char *object;    /* a table, a setting; may be NULL */
    char *text;      /* what it means */
    char *mend;      /* the statement or setting that mends it; may be NULL */
};
struct pg_findings {
    size_t count, cap;
    struct pg_finding *items;
};
void pg_findings_release(struct pg_findings *f);

/*
 * Can this source be protected, and what would be missed: server version, wal_level, free slots and senders, slot limit,
 * role attributes (REPLICATION, BYPASSRLS), rights on every table and schema, a pooler in between, tables without identity,
 * large objects, unlogged and foreign tables, row security, encodings, clocks, existing slot and publications.
 * Each is one finding. Errors: only when the server cannot be asked.
 */
MUST_CHECK int pg_check(const struct pg_protect_config *config, struct pg_findings *ret, struct error *err);

enum pg_setup_mode {
    PG_SETUP_TRIGGERS, /* FOR ALL TABLES and event triggers: a superuser (admin) */
    PG_SETUP_LIST,     /* listed tables: the owner of the tables with CREATE on the database */
};

struct pg_setup_result {
    enum pg_setup_mode mode;
    uint64_t consistent_point; /* of the slot */
    bool slot_made;            /* false: it was there already */
};

/*
 * Makes what the source needs; safe to run again (what is right is left, what differs is mended). The order is: helpers
 * and triggers, wait for older transactions, sweep, publications, slot. Every wait has a deadline and names who blocks.
 *   admin_conninfo  a superuser's session for what needs one; NULL: the source's own role makes all (list mode)
 *   print           not NULL: nothing is run, every statement is appended for a DBA to read
 * Errors: REFUSED (a sentence and the mend), SERVER, TIMEOUT.
 */
MUST_CHECK int pg_setup(const struct pg_protect_config *config, const char *admin_conninfo, struct buf *print,
                        struct pg_setup_result *ret, struct error *err);
/* Drops slot, publications, triggers, schema, in that order; what is missing is fine. */
MUST_CHECK int pg_teardown(const struct pg_protect_config *config, const char *admin_conninfo, struct error *err);

/*
 * The slot alone, by the source's own role: one of that name that is ours (it was invalidated, or stands before something that cannot be sent)
 * is dropped first. Errors: REFUSED another's slot has the name; TIMEOUT older transactions did not end, named; SERVER.
 */
MUST_CHECK int pg_slot_renew(const struct pg_protect_config *config, uint64_t *ret_consistent_point, struct error *err);

/* What a poll every few seconds keeps right in list mode: new tables are added, tables that lost their identity leave the second
 * list. *ret_changes: sentences, one for each table that was not captured fully since the poll before. In trigger mode it only looks. */
struct pg_poll_change {
    uint32_t relation_id;
    char *table; /* "schema.name" */
    char *reason;
};
MUST_CHECK int pg_keep_lists(struct pg_conn *sql, const struct pg_protect_config *config, struct pg_poll_change **ret,
                             size_t *ret_count, struct error *err);

/* Of pg_publication: somebody else's that sends what is recorded to its subscribers too; beside one nothing is recorded (helpers.sql, note). */
#define PG_BARS_RECORDS "puballtables AND pubinsert AND pubname !~ '^salvor_[a-z0-9_]+_rows$'"
/*
 * Trigger mode: is each command recorded now? Not where an event trigger is gone or disabled, or a publication of somebody's has all tables (helpers.sql, note).
 *   ret_stamp  what this rests on, as a text that is another one where any of it was touched, there and back too. Owner: caller
 */
MUST_CHECK int pg_recording(struct pg_conn *sql, const struct pg_names *names, char **ret_stamp, bool *ret, struct error *err);
/*
 * {publication: how it stands}: another text where somebody touched it since, there and back too; in trigger mode also where somebody touched its list by hand
 * (helpers.sql, after_ddl). "": it does not publish what it should, or is not there. In trigger mode also {PG_UNTOLD: text}, another one where an event trigger
 * could not tell of a command (helpers.sql, mark); absent: an older setup made the triggers.
 */
#define PG_UNTOLD "untold" /* no publication's name: all begin with salvor_ */
MUST_CHECK int pg_published(struct pg_conn *sql, const struct pg_names *names, json_t **ret, struct error *err);
/* List mode: what is on the two lists, whoever put it there: {"r<relation id>.<the list's own id of it>" (all tables) or "k<...>" (keyed ones): "schema.name"},
 * ordered. A table that was taken off and put back has another id of the list's. Trigger mode: nothing. */
MUST_CHECK int pg_listed(struct pg_conn *sql, const struct pg_names *names, json_t **ret, struct error *err);

/*
 * List mode: which tables that have lost their identity are still on the list of keyed ones? Until pg_keep_lists has seen to them, their applications'
 * updates fail, so this is asked more often. Cost: one look at the publication's tables (some ms for thousands). Trigger mode: none.
 *   ret_lost  "": none; else a text that is the same for the same tables
 */
#define PG_LOST_BYTES 40
MUST_CHECK int pg_keep_look(struct pg_conn *sql, const struct pg_protect_config *config, char ret_lost[static PG_LOST_BYTES],
                            struct error *err);
/*
 * Per table, ordered by id: updates + deletes counted by the server's statistics, to notice uncaptured changes (I-15).
 *   ret_since  since when they are counted, as a text to be compared: another one when they were lost, as by a crash, and each time where nothing is counted. Owner: caller.
 */
struct pg_change_count {
    uint32_t relation_id;
    char *table;
    uint64_t changes;
    bool identified;       /* its updates and deletes are captured now */
    bool inserts_declared; /* identity = inserts: its owner says that it is not updated */
    int64_t identified_mono_us; /* the caller's; 0 here */
};
MUST_CHECK int pg_uncaptured_counts(struct pg_conn *sql, const struct pg_protect_config *config,
                                    struct pg_change_count **ret, size_t *ret_count, char **ret_since, struct error *err);

/* What an event trigger told: the command's tag, what it touched, and the state that it left (docs/formats/events.md). */
struct pg_ddl_record {
    struct slice tag, object, detail;
    struct slice state; /* JSON; empty: it is not known */
};
bool pg_ddl_record(const struct relation *r, const struct event *e, const struct pg_names *names, struct pg_ddl_record *ret);
/* True if this INSERT into the helper schema's ddl table is the event trigger's record; appends its sentence to out. */
bool pg_is_ddl_record(const struct relation *r, const struct event *e, const struct pg_names *names, struct buf *out);

#endif
