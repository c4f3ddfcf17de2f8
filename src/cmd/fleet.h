/*
 * cmd/fleet.h - a [source NAME] with `databases` is a group: each database of the server is a source of its own (ADR 0028).
 *
 * PostgreSQL decodes per database, so each has its slot, publications, spool, incarnations and snapshots, under a name that is legal
 * wherever a source's name is. Groups are taken apart once, when the configuration is read (fleet_expand); everything else sees ordinary
 * sources. Which databases `*` stands for is in STATE/<group>/databases.json, written by who has asked the server (fleet_look).
 */
#ifndef SALVOR_CMD_FLEET_H
#define SALVOR_CMD_FLEET_H

#include <stdatomic.h>

#include "cmd/config.h"

#define FLEET_GROUP_BYTES_MAX 24 /* of a group's name: what is left of 40 tells its databases apart */
#define FLEET_PARTED "__"

/* --- names (fleet_name.c) ------------------------------------------------------------------------------------------------ */

/*
 * The name of the source that protects a database of a group, `[a-z0-9_]{1,40}`: GROUP__DATABASE where that is legal, else
 * GROUP__<what is legal of it>_x<10 hex digits of its digest>. Owner: caller.
 *   salt  0; another one gives another name (with digits), for where the first is taken
 */
char *fleet_source_name(const char *group, const char *database, uint32_t salt);

/* What `databases` says. */
struct fleet_wish {
    bool all;     /* `*`; names are then left out */
    size_t count;
    char **names;
};
MUST_CHECK int fleet_wish_parse(const char *text, struct fleet_wish *ret, struct error *err);
void fleet_wish_release(struct fleet_wish *w);
bool fleet_wish_has(const struct fleet_wish *w, const char *database);

/* --- the databases that `*` stands for (fleet_list.c) -------------------------------------------------------------------- */

struct fleet_member {
    char *source, *database;
    uint32_t oid;
    int64_t seen_wall_us;  /* first */
    int64_t gone_wall_us;  /* the server has it no more since; 0: it has */
    bool set_up;           /* once: it is never set up by itself again */
    bool taken_down;       /* by a person, and not set up since */
    char *problem;         /* why setup has failed; NULL: it has not */
};

struct fleet_list {
    char *system_id; /* NULL: not known, the role may not ask */
    size_t count, cap;
    struct fleet_member *members;
};
void fleet_list_release(struct fleet_list *l);
struct fleet_member *fleet_list_find(const struct fleet_list *l, const char *source);
/* A file that is not there is an empty list. Errors: CORRUPT, IO. */
MUST_CHECK int fleet_list_load(const char *path, struct fleet_list *ret, struct error *err);
MUST_CHECK int fleet_list_store(const char *path, const struct fleet_list *l, struct error *err);

enum fleet_news { FLEET_NEW, FLEET_GONE, FLEET_RENAMED, FLEET_MADE_AGAIN };
typedef void (*fleet_tell_fn)(void *user, enum fleet_news news, const struct fleet_member *m, const char *old_database);
struct fleet_database {
    uint32_t oid;
    char *name;
    bool own;    /* a section of its own stands for it */
    bool closed; /* nobody may connect to it, or it is a template: it becomes no source, and one that it is already is not gone */
};
/*
 * Brings the list in line with what the server has. A database is known by its oid: one that was renamed stays the same source; one of a
 * known name with another oid was made again, and is the next incarnation of that source.
 *   taken  is this name one of a section or of another group? Returns true if anything changed.
 */
bool fleet_list_merge(struct fleet_list *l, const struct config_section *group, const struct fleet_database *have, size_t count,
                      bool (*taken)(void *user, const char *name), fleet_tell_fn tell, void *user, int64_t now_wall_us);

/* --- in the configuration (fleet.c) -------------------------------------------------------------------------------------- */

/* Sections with `databases` go from sources to groups, and their databases come in their place. Errors: USAGE, and of the list. */
MUST_CHECK int fleet_expand(struct config *c, struct error *err);
bool fleet_is_open(const struct config_section *group); /* databases = * */
const struct config_section *fleet_group(const struct config *c, const char *name);
/* A section of its own that stands for this database of the group: GROUP__..., whose conninfo names it. NULL: none. */
const struct config_section *fleet_own_section(const struct config *c, const struct config_section *group, const char *database);
char *fleet_list_path(const struct config *c, const struct config_section *group); /* owner: caller */
/* How a person names it: "shop", "fleet/shop". Owner: caller. */
char *fleet_said(const struct config_section *source);

/* Is a database of it known? One with `*` has none until its server was asked. */
bool fleet_is_known(const struct config *c, const struct config_section *group);

/* The sources that a name stands for: one, or all of a group; all there are for NULL. In the configuration's order. */
struct fleet_selection {
    size_t count;
    const struct config_section **sources;
};
MUST_CHECK int fleet_select(const struct config *c, const char *name, struct fleet_selection *ret, struct error *err);
void fleet_selection_release(struct fleet_selection *s);

/* --- asking the server (fleet_look.c) ------------------------------------------------------------------------------------ */

/*
 * Asks the server of a group with `*` which databases it has and writes the list down. *ret_changed: the configuration has to be
 * read again to see it.
 *   adopt  take another server for the same one: a person says so (setup). Errors: REFUSED another server answers; CONNECT, SERVER.
 */
MUST_CHECK int fleet_look(const struct config *c, const struct config_section *group, bool adopt, bool *ret_changed, struct error *err);
/* The configuration for a setup of `name`: after a look where that is (one of) a group with `*`. */
MUST_CHECK int fleet_config_load(const char *path, const char *name, struct config *ret, struct error *err);
/* Setup of a database has ended, well (problem NULL) or not. */
MUST_CHECK int fleet_was_set_up(const struct config *c, const struct config_section *source, const char *problem, struct error *err);

/* A person takes it down, from now on: `salvor run` lets go of its slot within seconds. */
MUST_CHECK int fleet_is_taken_down(const struct config *c, const struct config_section *source, struct error *err);

/* Slots and senders of the server, and how many the databases of a group need beside those that they have. */
struct fleet_room {
    uint32_t databases, slots_had, slots_needed;
    uint32_t slots_max, slots_free, senders_max, senders_free;
};
MUST_CHECK int fleet_room(const struct config *c, const struct config_section *group, struct fleet_room *ret, struct error *err);

/* --- while `salvor run` is at work (fleet_watch.c) ----------------------------------------------------------------------- */

/*
 * Looks at a group until *stop, in a thread of its own: sets up what is new, as the source's own role may, else says what to run.
 *   changed  called after each change, with the configuration as it is now; it may keep nothing of it
 */
void fleet_watch(const char *config_path, const char *group, const atomic_bool *stop, void (*changed)(void *user, const struct config *now),
                 void *user);

#endif
