/*
 * engine/postgres/pg_tools_internal.h - running PostgreSQL's own programs. Private to this folder.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_TOOLS_INTERNAL_H
#define SALVOR_ENGINE_POSTGRES_PG_TOOLS_INTERNAL_H

#include "engine/postgres/pg_tools.h"

#define TOOLS_ARGS_MAX 24

extern const char *const tools_env[];

/* Runs `program` of `bin` with the arguments (NULL-terminated, without its own name) as we are. See spawn_run. */
MUST_CHECK int tools_run(const char *bin, const char *program, const char *const *args, struct slice in,
                         int64_t timeout_us, struct buf *out, struct error *err);

/* True for a line of pg_restore -l that is a publication, one of its tables, or an event trigger that setup makes. */
bool tools_entry_is_own(struct slice line);
/* ... an event trigger, or what is said about one. */
bool tools_entry_is_event_trigger(struct slice line);

/*
 * The statements of an SQL script, each without its semicolon: quoted texts and identifiers, dollar quotes and comments
 * are passed over whole; lines that begin with a backslash (psql's own) are left out. Calls fn for each.
 */
void sql_split(struct slice script, void (*fn)(void *user, struct slice statement), void *user);

/* --- local servers --- */

/* Settings for one start, as the text of salvor.conf. */
struct server_settings {
    const char *socket_directory;
    int port;
    uint64_t memory_bytes; /* of the machine */
    uint64_t free_bytes;   /* on the disk of the data */
    int processors;
    bool loading;
};
void server_settings_put(const struct server_settings *s, struct buf *out);
/* Where the socket lies: DIR/run, or a short name below /tmp where that would not fit a socket's address. Owner:
 * caller. */
char *server_socket_directory(const char *directory);

#endif
