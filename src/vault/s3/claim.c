/*
 * vault/s3/claim.c - put-if-absent on a store that does not fence, by claims: put a claim of one's own, list the claims, and
 * put the object only when no other claim stands there.
 *
 * Whoever puts had its claim in the list before it looked, so that of two who claim at the same moment at least one
 * sees the other. The smallest claim waits until the others have withdrawn; the others withdraw, and claim again when none
 * stands. Who
 * died leaves a claim that is passed over once it is older than any put of its maker can be. So exactly one wins, if
 *  - the store's lists show every claim whose put was answered before (Swift's usually do, and do not promise it), and
 *  - no put arrives later than its maker's deadline plus STALE_US.
 * Neither is promised by the store: Salvor says so at init and in status.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "vault/s3/s3.h"

#define HOLD_US      (120 * CLOCK_US_PER_S) /* from the claim's put on its maker begins no put of the object */
#define STALE_US     (900 * CLOCK_US_PER_S)
#define PAUSE_MS     40
#define PAUSE_DOUBLINGS 5
#define SHY_ROUNDS   16

struct claim {
    struct s3_driver *d;
    char folder[128];
    char key[192]; /* "" while none stands */
    char ours[64]; /* date of our claim, by the store */
    bool alone, smallest;
    int64_t made_mono_us;
};

static int claim_put(struct claim *c, struct error *err)
{
    uint8_t random[16];
    char hex[2 * sizeof random + 1];
    struct slice text = slice_str("claim\n");
    struct http_body body = {.parts = &text, .parts_count = 1, .fd = -1, .bytes = text.n};

    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), hex);
    (void)snprintf(c->key, sizeof c->key, "%s%s", c->folder, hex);
    c->made_mono_us = clock_mono_us();
    return s3_put_once(c->d, c->key, &body, 0, err);
}

/* Best effort: one that stays is stale in time. */
static void claim_withdraw(struct claim *c)
{
    if (!c->key[0])
        return;
    int ignored = s3_remove(&c->d->base, c->key, NULL);
    (void)ignored;
    c->key[0] = '\0';
}

static int see_date(void *user, const char *key, uint64_t bytes, const char *modified, struct error *err)
{
    struct claim *c = user;

    (void)bytes;
    (void)err;
    if (strcmp(key, c->key) == 0)
        (void)snprintf(c->ours, sizeof c->ours, "%s", modified);
    return 0;
}

static bool is_stale(const struct claim *c, const char *modified)
{
    int64_t theirs, ours;

    /* Both by the store's clock: before there is a claim of our own nothing is stale. */
    if (clock_parse_wall(slice_str(modified), &theirs, NULL) < 0 || clock_parse_wall(slice_str(c->ours), &ours, NULL) < 0)
        return false;
    return ours - theirs > STALE_US;
}

static int see_claim(void *user, const char *key, uint64_t bytes, const char *modified, struct error *err)
{
    struct claim *c = user;

    (void)bytes;
    (void)err;
    if (strcmp(key, c->key) == 0)
        return 0;
    if (is_stale(c, modified)) {
        int ignored = s3_remove(&c->d->base, key, NULL);
        (void)ignored;
        return 0;
    }
    c->alone = false;
    c->smallest = c->smallest && strcmp(c->key, key) < 0;
    return 0;
}

static int look(struct claim *c, struct error *err)
{
    c->ours[0] = '\0';
    c->alone = c->smallest = true;
    if (c->key[0]) {
        TRY(s3_list_dated(c->d, c->folder, see_date, c, err));
        if (!c->ours[0]) { /* our own is not in the list yet, so others' may not be either */
            c->alone = false;
            return 0;
        }
    }
    return s3_list_dated(c->d, c->folder, see_claim, c, err);
}

/* Who waits for others to withdraw looks often; who withdrew gives way, for twice as long each time. */
static void pause_some(const struct claim *c, unsigned round)
{
    int64_t width_ms = c->key[0] ? PAUSE_MS : (int64_t)PAUSE_MS << (round < PAUSE_DOUBLINGS ? round : PAUSE_DOUBLINGS);
    uint32_t random;

    random_bytes(&random, sizeof random);
    clock_sleep_ms(PAUSE_MS / 2 + (int64_t)random % width_ms);
}

/* 1: the object may be put; 0: not yet. Who finds a claim does not add to it, but now and then: it may be a
 * dead one's, and stale. */
static int contend(struct claim *c, unsigned round, struct error *err)
{
    if (!c->key[0]) {
        TRY(look(c, err));
        if (c->alone || round % SHY_ROUNDS == SHY_ROUNDS - 1)
            TRY(claim_put(c, err));
    }
    if (c->key[0])
        TRY(look(c, err));
    if (c->key[0] && c->alone)
        return 1;
    if (!c->smallest || clock_mono_us() - c->made_mono_us > HOLD_US / 2)
        claim_withdraw(c);
    pause_some(c, round);
    return 0;
}

static int check_free(struct s3_driver *d, const char *key, struct error *err)
{
    uint64_t there;
    int rc = s3_size(&d->base, key, &there, err);

    if (rc == -ERROR_NOT_FOUND)
        return 0;
    return rc < 0 ? rc : s3_exists(d, key, err);
}

static int put_when_alone(struct claim *c, const char *key, const struct http_body *body, struct error *err)
{
    int64_t until = clock_mono_us() + 3 * c->d->patience_ms * CLOCK_US_PER_MS;

    for (unsigned round = 0; clock_mono_us() < until; round++) {
        TRY(check_free(c->d, key, err));
        int rc = contend(c, round, err);
        TRY(rc);
        if (rc == 0)
            continue;
        TRY(check_free(c->d, key, err)); /* whoever stood there before may have put it */
        return s3_put_once(c->d, key, body, c->made_mono_us + HOLD_US, err);
    }
    return error_set(err, ERROR_BUSY, "cannot store %s/%s: others claim the same name again and again", c->d->place, key);
}

int s3_put_claimed(struct s3_driver *d, const char *key, const struct http_body *body, struct error *err)
{
    struct claim c = {.d = d};
    char name[DIGEST_TEXT_BYTES];
    struct digest digest = digest_of(slice_str(key));

    (void)snprintf(c.folder, sizeof c.folder, S3_TEMPORARY "claims/%.32s/", digest_format(&digest, name));
    int rc = put_when_alone(&c, key, body, err);
    claim_withdraw(&c);
    return rc;
}
