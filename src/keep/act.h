/*
 * keep/act.h - the durable record of an unattended recovery, and its steps.
 */
#ifndef SALVOR_KEEP_ACT_H
#define SALVOR_KEEP_ACT_H

#include <stdatomic.h>

#include "base/json.h"
#include "keep/guard.h"
#include "keep/keeper.h"

/*
 * STATE/<source>/act.json, replaced durably before each step:
 *   state         the guard's state by name: where to go on after a crash
 *   target        the directory acted into: never a second time
 *   used_targets  those of all earlier actions: neither
 *   lost          {first_failed_wall_us, confirmed_wall_us, why}
 *   steps         [{step, begun_wall_us, ended_wall_us, ok, text}]
 *   recovery      what `salvor recover --json` printed
 *   outcome       "", "cut over", "abandoned: the source came back", "failed: ..."
 */
struct act {
    char *path;
    json_t *record; /* NULL: nothing has ever been acted */
};

MUST_CHECK int act_load(struct act *a, const char *state_directory, struct error *err);
void act_release(struct act *a);
/* Begins a record for a loss. */
MUST_CHECK int act_begin(struct act *a, const struct keeper_source *s, int64_t first_failed_wall_us, const char *why,
                         struct error *err);
MUST_CHECK int act_state(struct act *a, enum guard_state state, struct error *err);
MUST_CHECK int act_outcome(struct act *a, const char *outcome, struct error *err);
/* Has any action ever been begun into this target, in this or an earlier life? */
bool act_used_target(const struct act *a, const char *target_directory);
/* The state to go on from; GUARD_WATCHING when no action is under way. */
enum guard_state act_pending(const struct act *a);

/* Has the action gone so far that clients may be at the new database? Then the source's return changes nothing any more. */
bool act_committed(const struct act *a);
/* Clients were cut over, but the new database has no protection yet. */
bool act_unprotected(const struct act *a);
/* What the new database is captured and probed by; NULL: not recovered. Lives as long as the record. */
const char *act_new_conninfo(const struct act *a);
/* What the recovery could not have exactly, as `salvor recover --json` says it; NULL: nothing, or nothing was recovered. Lives as long as the record. */
const json_t *act_short_of_latest(const struct act *a);
/* What that means, for a person; "": nothing. Owner: caller. */
char *act_short_text(const struct act *a);
/* All tries of a step have failed: said in the record, which stays pending. */
MUST_CHECK int act_gave_up(struct act *a, const char *why, struct error *err);

/* The steps. Each writes its line into the record. 0 or an error whose message is for a person. */
MUST_CHECK int act_recover(struct act *a, const struct keeper_source *s, const atomic_bool *stop, struct error *err);
MUST_CHECK int act_protect(struct act *a, struct keeper_source *s, struct error *err);
MUST_CHECK int act_cut_over(struct act *a, const struct keeper_source *s, struct error *err);

#endif
