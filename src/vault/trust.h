/*
 * vault/trust.h - what time it is, as far as that can be trusted: a clock that jumps must not purge anything.
 *
 * Three clocks that can fail one without the other: this host's wall clock, the commit times of the source (its newest
 * commit in the vault), and the time since boot, which nobody can set. Each purge leaves a *witness* of all three in the
 * vault, and the next one goes on from there:
 *
 *   bound    from one witness to the next it advances by at most 5/4 of the time since boot that has passed (the quarter
 *            lets it catch up after a host was off); across a reboot, or between two hosts, by what both wall clocks say,
 *            and at most TRUST_STEP_US. It never goes back, so that a clock that was wrong once costs nothing later.
 *   trusted  the least of the bound, the host's clock and the source's.
 *   ticks    for a grace period: counts time since boot one to one, across a reboot at most step_us a time.
 *
 * Where there is no witness yet, the times of the snapshots are taken for a series of them. Pure functions but for
 * trust_here.
 */
#ifndef SALVOR_VAULT_TRUST_H
#define SALVOR_VAULT_TRUST_H

#include "base/json.h"
#include "vault/vault.h"

#define TRUST_BOOT_BYTES 64
#define TRUST_STEP_US    INT64_C(604800000000) /* 7 days */

struct trust {
    int64_t wall_us;          /* of the host that looked */
    int64_t commit_wall_us;   /* newest commit in the vault, by the source's clock; 0: none */
    char boot[TRUST_BOOT_BYTES]; /* which boot of which host; "": not known */
    int64_t boot_us;          /* since it */
    int64_t bound_us, trusted_us, ticks_us; /* what trust_advance gave */
};

/* This host's clocks now; commit_wall_us is the caller's. */
void trust_here(struct trust *ret);

/*
 * Sets now's bound, trusted time and ticks from what was known before.
 *   last     the newest witness; NULL: none, then snapshots' begun times in order serve (may be none: nothing is trusted)
 *   step_us  the most that ticks may count where no time since boot tells
 * A commit_wall_us of 0 gives trusted_us 0: without the source's clock nothing is old.
 */
void trust_advance(struct trust *now, const struct trust *last, const int64_t *snapshots_wall_us, size_t count,
                   int64_t step_us);

json_t *trust_to_json(const struct trust *t);
MUST_CHECK int trust_from_json(const json_t *o, const char *what, struct trust *ret, struct error *err);

/* sources/<source>/witness/<n>.json: the newest that can be read. *ret_found false: none. */
MUST_CHECK int witness_last(struct vault *v, const char *source, struct trust *ret, bool *ret_found, struct error *err);
MUST_CHECK int witness_put(struct vault *v, const char *source, const struct trust *t, struct error *err);
/* Removes all but the newest few. */
MUST_CHECK int witness_trim(struct vault *v, const char *source, struct error *err);

#endif
