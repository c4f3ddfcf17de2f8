/*
 * engine/postgres/pg_protect_internal.h - what check, setup, teardown and the polls share. Private to this folder.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_PROTECT_INTERNAL_H
#define SALVOR_ENGINE_POSTGRES_PG_PROTECT_INTERNAL_H

#include "engine/postgres/pg_protect.h"

#define PROTECT_SQL_BYTES_MAX ((size_t)64 << 20)

/* --- findings --- */

void findings_add(struct pg_findings *f, enum pg_severity severity, const char *code, const char *object,
                  const char *mend, const char *text, ...) PRINTF_LIKE(6, 7); /* object and mend may be NULL */

/* What there is to say of a server of this version (PQserverVersion). */
void findings_add_version(struct pg_findings *f, int version);

/* --- helpers: what trigger mode installs (helpers.sql) --- */

/* The whole script with its words filled in, without BEGIN and COMMIT. role: the source's own, who may call the sweep.
 */
void helpers_script(const struct pg_protect_config *config, const struct pg_names *names, const char *role,
                    struct buf *out);
/* What the publication's comment begins with, before the oids of tables that were given REPLICA IDENTITY FULL. */
#define GIVEN_COMMENT "Salvor gave REPLICA IDENTITY FULL to"

/* --- the state of a source --- */

/* What there is of Salvor's in the database, and what the session may do. */
struct protect_state {
    char role[64]; /* of the session */
    bool superuser;
    bool may_create;                               /* CREATE on the database */
    bool rows_exists, rows_all_tables, rows_right; /* right: publishes insert and truncate, leaf by leaf */
    bool keys_exists, keys_right;                  /* right: publishes update and delete of plain tables, whole rows */
    bool schema_exists, schema_trusted;            /* trusted: a superuser owns it */
    bool triggers;                                 /* all three event triggers are there, always enabled */
    bool sweep;                                    /* the session may call the sweep */
    bool marks;                                    /* the event triggers can mark what they cannot tell; false: those of an older setup */
};
MUST_CHECK int protect_state_get(struct pg_conn *sql, const struct pg_names *names, struct protect_state *ret,
                                 struct error *err);
/* Trigger mode: the helpers and a publication for all tables are there. */
static inline bool protect_state_has_triggers(const struct protect_state *s)
{
    return s->schema_exists && s->rows_exists && s->rows_all_tables;
}

/* One ordinary, permanent table outside of system and helper schemas. */
struct table_state {
    uint32_t id;
    char *label;       /* schema.name, as a configuration names it */
    char *quoted;      /* for SQL */
    char *why;         /* why its rows cannot be identified; NULL: they can */
    uint64_t changes;  /* updates and deletes that the server's statistics have counted */
    bool nothing;      /* its owner said REPLICA IDENTITY NOTHING */
    bool full;         /* REPLICA IDENTITY FULL */
    char *loose_index; /* for SQL: its identity is an index that no constraint holds, so DROP INDEX CONCURRENTLY can
                          take it */
    bool in_rows, in_keys;
    bool owned; /* by the session's role or one that it is a member of */
    bool readable;
    bool hides_rows; /* row security applies to the session */
};
struct table_states {
    size_t count;
    struct table_state *items;
};
void table_states_release(struct table_states *t);
/* Ordered by oid. one: a table's oid, 0: all. */
MUST_CHECK int table_states_get(struct pg_conn *sql, const struct pg_names *names, uint32_t one,
                                struct table_states *ret, struct error *err);

/* What the configuration wants for a table without identity. */
enum pg_identity_choice identity_choice_of(const struct pg_protect_config *config, const char *label);
/* True if setup is to give it REPLICA IDENTITY FULL. */
bool table_wants_full(const struct pg_protect_config *config, const struct table_state *t);

/* --- waits --- */

/*
 * Who stands in the way, as a phrase: "process 4711 (user app, application \"psql\", transaction since ...)". The query
 * gives at most one row: pid, user, application, since, statement, gid of a prepared transaction (pid NULL). "" when
 * nobody does or nobody can be asked.
 */
void blocker_describe(struct pg_conn *sql, const char *query, struct buf *out);
void blocker_of_session(struct pg_conn *sql, int pid, struct buf *out); /* who blocks that server process */
void blocker_of_table(struct pg_conn *sql, uint32_t id, struct buf *out);
void blocker_of_publication(struct pg_conn *sql, const char *publication, struct buf *out);

/*
 * Makes the permanent slot by a session of the source's own role.
 *   watcher  a session that may look at others; for the blocker's name
 * Errors: TIMEOUT older transactions did not end: named, and no slot is left; SERVER.
 */
MUST_CHECK int slot_make(const struct pg_protect_config *config, const char *slot, struct pg_conn *watcher,
                         uint64_t *ret_consistent_point, struct error *err);

/* --- list mode --- */

/*
 * Puts one table on the right side of both lists in a transaction of its own: its identity is looked at again under a
 * lock that keeps it so. give_full: by REPLICA IDENTITY FULL where it has none. lock_ms bounds the wait for its lock.
 * Errors: TIMEOUT somebody holds the table or the publications; SERVER.
 */
MUST_CHECK int list_settle(struct pg_conn *sql, const struct pg_names *names, const struct table_state *t,
                           bool give_full, int lock_ms, struct error *err);
/* True if list_settle has something to do. */
bool list_is_wrong(const struct table_state *t, bool give_full);
/* The statements of the same, for a person. */
void list_print(const struct pg_names *names, const struct table_state *t, bool give_full, struct buf *out);

#endif
