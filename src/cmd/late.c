/* cmd/late.c - see late.h. */
#include "cmd/late.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define PAUSE_FIRST_US (5 * CLOCK_US_PER_S)
#define PAUSE_MOST_US (60 * CLOCK_US_PER_S)

void late_init(struct late_vault *l, const struct config_section *section)
{
    *l = (struct late_vault){.section = section, .pause_us = PAUSE_FIRST_US, .next_mono_us = clock_mono_us() + PAUSE_FIRST_US};
}

void late_end(struct late_vault *l)
{
    attempt_free(l->attempt);
    l->attempt = NULL;
    l->opening = NULL;
}

static void put_off(struct late_vault *l, int64_t now_mono_us, const struct error *why)
{
    if (strcmp(l->told, why->message) != 0)
        log_warn("vault %s still cannot be opened, and is tried again: %s", l->section->name, why->message);
    (void)snprintf(l->told, sizeof l->told, "%s", why->message);
    l->pause_us = l->pause_us * 2 < PAUSE_MOST_US ? l->pause_us * 2 : PAUSE_MOST_US;
    l->next_mono_us = now_mono_us + l->pause_us;
}

struct vault *late_look(struct late_vault *l, int64_t now_mono_us)
{
    struct error why = ERROR_INIT;
    struct vault *v = NULL;

    if (!l->attempt && now_mono_us >= l->next_mono_us)
        l->attempt = config_vault_attempt(l->section, &l->opening);
    if (!l->attempt || !attempt_is_over(l->attempt))
        return NULL;
    if (attempt_wait(l->attempt, 0, &why) < 0) {
        put_off(l, now_mono_us, &why);
    } else {
        v = l->opening->vault;
        l->opening->vault = NULL;
    }
    late_end(l);
    return v;
}
