/*
 * vault/trust.c - see trust.h. A witness is small and never changed; a reader takes the highest number. Two hosts that
 * write at the same moment take two numbers, and either is right.
 */
#include "vault/trust.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "os/file.h"
#include "vault/object.h"

#define WITNESSES_KEPT 32u

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t within(int64_t v, int64_t most)
{
    return v < 0 ? 0 : least(v, most);
}

void trust_here(struct trust *ret)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(4096);
    struct error ignored = ERROR_INIT;
    struct timespec t = {0};

    *ret = (struct trust){.wall_us = clock_wall_us()};
    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    ret->boot_us = (int64_t)t.tv_sec * CLOCK_US_PER_S + t.tv_nsec / 1000;
    if (file_read_all("/proc/sys/kernel/random/boot_id", 4096, &text, &ignored) >= 0)
        (void)snprintf(ret->boot, sizeof ret->boot, "%.*s", (int)strcspn(buf_cstr(&text), "\n"), buf_cstr(&text));
}

static bool same_boot(const struct trust *a, const struct trust *b)
{
    return a->boot[0] && strcmp(a->boot, b->boot) == 0 && b->boot_us >= a->boot_us;
}

/* The snapshots' times, each step cut: one that was taken while the clock was wrong counts for little. */
static int64_t by_snapshots(const int64_t *wall_us, size_t count, int64_t now_wall_us)
{
    if (count == 0)
        return 0;
    int64_t t = wall_us[0];
    for (size_t i = 1; i < count; i++)
        t += within(wall_us[i] - wall_us[i - 1], TRUST_STEP_US);
    return t + within(now_wall_us - wall_us[count - 1], TRUST_STEP_US);
}

/* How much more the bound may be, and the ticks. */
static int64_t step_from(struct trust *now, const struct trust *last, int64_t step_us)
{
    int64_t both = least(now->wall_us - last->wall_us, now->commit_wall_us - last->commit_wall_us);

    if (same_boot(last, now)) {
        int64_t passed = now->boot_us - last->boot_us;
        now->ticks_us = last->ticks_us + passed;
        return passed + passed / 4;
    }
    now->ticks_us = last->ticks_us + within(both, step_us);
    return within(both, TRUST_STEP_US);
}

void trust_advance(struct trust *now, const struct trust *last, const int64_t *snapshots_wall_us, size_t count,
                   int64_t step_us)
{
    int64_t clocks = least(now->wall_us, now->commit_wall_us);

    now->ticks_us = 0;
    int64_t more = last ? step_from(now, last, step_us) : 0;
    if (last && last->bound_us > 0) {
        int64_t reached = least(last->bound_us + more, clocks);
        now->bound_us = reached > last->bound_us ? reached : last->bound_us;
    } else {
        now->bound_us = by_snapshots(snapshots_wall_us, count, now->wall_us);
    }
    now->trusted_us = least(now->bound_us, clocks);
}

json_t *trust_to_json(const struct trust *t)
{
    json_t *o = json_object();

    json_set_i64(o, "wall_us", t->wall_us);
    json_set_i64(o, "commit_wall_us", t->commit_wall_us);
    json_set_str(o, "boot", t->boot);
    json_set_i64(o, "boot_us", t->boot_us);
    json_set_i64(o, "bound_us", t->bound_us);
    json_set_i64(o, "trusted_us", t->trusted_us);
    json_set_i64(o, "ticks_us", t->ticks_us);
    return o;
}

int trust_from_json(const json_t *o, const char *what, struct trust *ret, struct error *err)
{
    struct trust t = {0};

    TRY(json_get_i64(o, "wall_us", what, &t.wall_us, err));
    TRY(json_get_i64(o, "commit_wall_us", what, &t.commit_wall_us, err));
    TRY(object_get_text(o, "boot", what, t.boot, sizeof t.boot, err));
    TRY(json_get_i64(o, "boot_us", what, &t.boot_us, err));
    TRY(json_get_i64(o, "bound_us", what, &t.bound_us, err));
    TRY(json_get_i64(o, "trusted_us", what, &t.trusted_us, err));
    TRY(json_get_i64(o, "ticks_us", what, &t.ticks_us, err));
    *ret = t;
    return 0;
}

static void prefix_of(char prefix[static VAULT_KEY_BYTES], const char *source)
{
    (void)snprintf(prefix, VAULT_KEY_BYTES, "sources/%s/witness/", source);
}

int witness_last(struct vault *v, const char *source, struct trust *ret, bool *ret_found, struct error *err)
{
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    uint32_t last, count;

    *ret_found = false;
    prefix_of(prefix, source);
    TRY(object_last_number(v->driver, prefix, ".json", &last, &count, err));
    for (uint32_t n = last; n > 0 && n + WITNESSES_KEPT > last && !*ret_found; n--) {
        JSON_AUTO o = NULL;

        (void)snprintf(key, sizeof key, "%s%06u.json", prefix, n);
        int rc = object_get_json(v->driver, key, &o, NULL, err);
        if (rc == -ERROR_NOT_FOUND || rc == -ERROR_CORRUPT)
            continue;
        TRY(rc);
        TRY(trust_from_json(o, key, ret, err));
        *ret_found = true;
    }
    return 0;
}

int witness_put(struct vault *v, const char *source, const struct trust *t, struct error *err)
{
    char prefix[VAULT_KEY_BYTES];
    JSON_AUTO o = trust_to_json(t);
    uint32_t last;

    prefix_of(prefix, source);
    TRY(object_last_number(v->driver, prefix, ".json", &last, NULL, err));
    return object_put_next(v->driver, prefix, ".json", last, o, NULL, NULL, err);
}

int witness_trim(struct vault *v, const char *source, struct error *err)
{
    char prefix[VAULT_KEY_BYTES], key[VAULT_KEY_BYTES + 32];
    uint32_t last, count;

    prefix_of(prefix, source);
    TRY(object_last_number(v->driver, prefix, ".json", &last, &count, err));
    /* Of a dense series the oldest ones are the first ones; a hole ends it early, and the next time it goes on. */
    for (uint32_t n = last - count + 1; count > WITNESSES_KEPT; n++, count--) {
        (void)snprintf(key, sizeof key, "%s%06u.json", prefix, n);
        TRY(v->driver->ops->remove(v->driver, key, err));
    }
    return 0;
}
