/*
 * recover/target.h - where a recovery goes: a new local server, or an empty database of an existing one. For src/recover alone.
 *
 * A target that a recovery has begun with carries a mark: DIR/salvor-unfinished (pg_server.c), or the schema salvor_recovery with a comment that names
 * vault and source. With it the same recovery may clear the target and begin again; it goes away as the last step.
 */
#ifndef SALVOR_RECOVER_TARGET_H
#define SALVOR_RECOVER_TARGET_H

#include "recover/recover.h"

struct target {
    const struct recover_config *config;
    const struct manifest *manifest;
    json_t *warnings;      /* the plan's; borrowed */
    char *bin;             /* PostgreSQL's programs */
    char *database;        /* its name */
    char *conninfo;        /* of the target database, by the rights that restore and load */
    char *maintenance;     /* local: another database of the server */
    struct pg_conn control; /* a session with the target database for the whole recovery */
    struct pg_server server; /* local */
    bool server_running;
    int lock_fd;           /* local: of the directory; -1: none */
    bool directory_made;   /* local: by us, now */
    bool superuser;
    bool owners;           /* roles of owners and grants are there: they are restored */
    struct thread *writer; /* local: target_begin_writing was called */
    struct making *making; /* local: target_begin_making was called, target_provision not yet */
};

/*
 * Everything about the target that can be known before anything is touched: programs, versions, space; that it is empty or
 * our own interrupted recovery's; encoding, extensions, collations, rights. Appends warnings.
 * Errors: REFUSED with the reason; those of the session.
 */
MUST_CHECK int target_check(const struct recover_config *config, const struct manifest *manifest, json_t *warnings,
                            struct error *err);

/* How many sessions load, build indexes and verify at a time. */
int recover_connections(const struct recover_config *config);

void target_init(struct target *t, const struct recover_config *config, json_t *warnings);
/* A local server that is not ready is stopped; the mark stays. One that was not provisioned goes with its directory, if that was not there. */
void target_release(struct target *t);

/*
 * Local: if nothing speaks against it (target_check), a server is made in a thread of its own while the events are read. What fails is no
 * failure yet: target_provision makes another, and tells. Into: nothing.
 */
void target_begin_making(struct target *t, const struct manifest *manifest);
/* The target database, empty and marked; roles as far as rights allow. Clears what an interrupted recovery left. */
MUST_CHECK int target_provision(struct target *t, const struct manifest *manifest, struct error *err);
/* Properties of the database: owner, comment, settings, grants. Last: a setting may be in the way of loading. */
MUST_CHECK int target_properties(struct target *t, struct error *err);
/*
 * Local: what was loaded is written and synced in a thread of its own while it is verified, so that little is left to target_finish, which
 * does it again and tells what failed. Ended by target_finish or target_release; these wait for it. Into: nothing.
 */
void target_begin_writing(struct target *t);
/* Everything is durable, the settings are safe, the mark is gone. */
MUST_CHECK int target_finish(struct target *t, struct error *err);

/* --- of its files --------------------------------------------------------------------------------------------------- */

MUST_CHECK int target_check_local(const struct recover_config *config, const struct manifest *manifest, json_t *warnings,
                                  struct error *err);
MUST_CHECK int target_check_into(const struct recover_config *config, const struct manifest *manifest, json_t *warnings,
                                 struct error *err);
MUST_CHECK int target_provision_local(struct target *t, struct error *err);
/* Local: its server is ended; a directory that was not there before is removed, one that was keeps the mark. Nothing where none is being made. */
void target_give_up_making(struct target *t);
MUST_CHECK int target_provision_into(struct target *t, struct error *err);
/* into: 1 the mark is this recovery's; 0 there is none. Errors: REFUSED another one's. */
MUST_CHECK int into_mark(struct pg_conn *c, const struct recover_config *config, struct error *err);
MUST_CHECK int into_clear(struct pg_conn *c, struct error *err);
MUST_CHECK int into_unmark(struct pg_conn *c, struct error *err);
/* Settings of the sessions that restore and load, as a conninfo's `options`. */
const char *target_session_options(const struct target *t);
/* Roles of the source, as far as rights allow; what is skipped is warned of. */
MUST_CHECK int target_roles(struct target *t, struct pg_conn *c, struct error *err);

#endif
