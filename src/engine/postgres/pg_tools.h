/*
 * engine/postgres/pg_tools.h - PostgreSQL's own programs: the schema comes from pg_dump and goes back by pg_restore,
 * a local target from initdb and postgres. They are found in `pg_bin` (configuration), else in
 * /usr/lib/postgresql/<major>/bin of the least major at or past the server's: its own where that is installed.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_TOOLS_H
#define SALVOR_ENGINE_POSTGRES_PG_TOOLS_H

#include "base/json.h"
#include "engine/postgres/pg_protect.h"

/*
 * server_version: 0 for none to suit, then the newest. Errors: NOT_FOUND, REFUSED too old; the message names the package.
 */
MUST_CHECK int pg_tools_find(const char *configured, int server_version, char **ret_bin_directory, struct error *err);

/*
 * pg_dump of the schema under an exported snapshot (NULL: of now), Salvor's own objects left out.
 *   dump  custom format       sql  plain text with a fixed restrict key, stable between runs of equal schemas
 */
MUST_CHECK int pg_dump_schema(const char *bin, const char *conninfo, const char *snapshot, const struct pg_names *names,
                              struct buf *dump, struct buf *sql, struct error *err);
/* Roles with attributes, memberships and settings, tablespaces left out; passwords only where our rights allow. */
MUST_CHECK int pg_dump_globals(const char *bin, const char *conninfo, json_t **ret_statements, struct error *err);

/* Post-data has everything behind the rows but event triggers: what comes after these must run no DDL. */
enum pg_section { PG_SECTION_PRE_DATA, PG_SECTION_POST_DATA, PG_SECTION_EVENT_TRIGGERS };
/*
 * pg_restore of one section of a custom-format dump, Salvor's own objects left out. jobs > 1: in parallel (post-data).
 *   no_owner  without owners and without grants
 */
MUST_CHECK int pg_restore_section(const char *bin, const char *conninfo, const char *dump_path, enum pg_section section,
                                  int jobs, bool no_owner, struct error *err);

/*
 * A local server: a data directory, its socket and port. Where DIR's name is too long for a socket's address, the socket lies
 * in /tmp/salvor-<hash of DIR>.
 */
struct pg_server {
    char *bin;        /* directory of the programs */
    char *directory;  /* DIR; data in DIR/data, socket in DIR/run, log in DIR/log */
    char *system_user; /* who runs it; NULL: as we are */
    int port;
    bool port_chosen; /* by us: where somebody else has taken it meanwhile, pg_server_start chooses another */
};
void pg_server_release(struct pg_server *s);

struct pg_server_options {
    const char *bin, *directory;
    const char *system_user; /* NULL: as we are; as root: "postgres" */
    int port;               /* 0: a free one below 32768 */
    const json_t *database; /* properties of the source: encoding, locale, provider, checksums */
    const char *auth;       /* method for loopback TCP: "scram-sha-256" (default), "trust", "reject", ... */
};
/* Is it missing, empty, or that of an interrupted recovery? Changes nothing. Errors: REFUSED. */
MUST_CHECK int pg_server_check_directory(const char *directory, struct error *err);
/*
 * initdb into an empty or missing directory. A directory that an interrupted recovery of ours left behind (marker file)
 * is emptied first; any other non-empty one is REFUSED.
 */
MUST_CHECK int pg_server_make(const struct pg_server_options *options, struct pg_server *ret, struct error *err);
/* loading: settings for a fast load (no fsync, minimal log); else safe settings. Waits until it accepts connections. */
MUST_CHECK int pg_server_start(struct pg_server *s, bool loading, struct error *err);
MUST_CHECK int pg_server_stop(struct pg_server *s, struct error *err); /* fast shutdown, waits */
/*
 * Data directory and files are synced to disk after a load without fsync.
 *   directory_fd  of options.directory, open since before the first file was made in it; -1: file by file
 */
MUST_CHECK int pg_server_sync(struct pg_server *s, int directory_fd, struct error *err);
/* The recovery is verified: the marker goes, and the directory is refused by the next recovery. Until then it would be emptied. */
MUST_CHECK int pg_server_ready(struct pg_server *s, struct error *err);
/*
 * Ends the server in a directory that still carries the marker, and removes the directory; a missing one is success.
 * Errors: REFUSED there is no marker: it may be somebody's database; BUSY it does not end.
 */
MUST_CHECK int pg_server_discard(const char *directory, struct error *err);
/* By the owned socket, and for clients by loopback TCP; both name the superuser. Owner: caller. */
char *pg_server_conninfo_local(const struct pg_server *s, const char *database);
char *pg_server_conninfo_client(const struct pg_server *s, const char *database);

#endif
