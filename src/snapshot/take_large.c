/*
 * snapshot/take_large.c - large objects, in a session and thread of their own, while the tables are copied.
 *
 * They need no lock on a table: where there is more to read of them than of all tables, the locks are let go before.
 */
#include "snapshot/take.h"

#include "base/mem.h"
#include "capture/large_take.h"

static void say(struct take *t, bool *what)
{
    (void)pthread_mutex_lock(&t->mutex);
    *what = true;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
}

static int take_large(struct take *t, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn sql = {0};
    const struct large_take_config config = {
        .vaults = t->config->vaults,
        .vaults_count = t->config->vaults_count,
        .source = t->manifest->source,
        .tombstones = t->tombstones,
        .zstd_level = t->config->zstd_level,
        .cancel = &t->stop,
    };

    if (t->config->protect.large_objects_ignored || t->config->renews)
        return 0;
    TRY(take_import(t, &sql, err));
    say(t, &t->large_begun);
    if (large_take(&sql, &config, &t->manifest->large, err) < 0)
        return error_prefix(err, "large objects");
    return 0;
}

void *take_large_main(void *take)
{
    struct take *t = take;
    struct error err = ERROR_INIT;

    if (take_large(t, &err) < 0)
        take_fail(t, &err);
    say(t, &t->large_begun);
    say(t, &t->large_done);
    return NULL;
}
