/* keep/alert.c - see alert.h. The reason may change while it lasts; the newest is told. */
#include "keep/alert.h"

#include <stdio.h>

#include "base/clock.h"

static enum alert_news end(struct alert *a)
{
    bool was_raised = a->text[0] != '\0';

    *a = (struct alert){0};
    return was_raised ? ALERT_OVER : ALERT_NOTHING;
}

enum alert_news alert_see(struct alert *a, const char *reason, int64_t after_us, int64_t now_mono_us)
{
    char age[CLOCK_TEXT_BYTES];

    if (!reason[0])
        return end(a);
    if (!a->since_mono_us)
        a->since_mono_us = now_mono_us;
    if (now_mono_us - a->since_mono_us < after_us)
        return ALERT_NOTHING;
    (void)snprintf(a->text, sizeof a->text, "for %s: %.900s", clock_format_duration(now_mono_us - a->since_mono_us, age), reason);
    if (a->said_mono_us && now_mono_us - a->said_mono_us < ALERT_AGAIN_US)
        return ALERT_NOTHING;
    a->said_mono_us = now_mono_us;
    return ALERT_RAISED;
}
