/*
 * snapshot/take_intent.c - a snapshot beside a purge: intents, tombstones, and what a dead snapshot left.
 *
 * The intent comes first, then the tombstones are read: what one of them names is not adopted. A purge puts its tombstone
 * first and then reads the intents: while one is there that is older than the tombstone it removes no chunk. Before the
 * manifest the tombstones are read again, and chunks that were adopted before they were named are put under another name.
 *
 * An intent counts for SNAPSHOT_INTENT_US; a snapshot that takes longer than SNAPSHOT_COMMIT_US is not committed, by a
 * clock that also counts while the machine sleeps. STATE/<source>/intent.json names the intents of the running try:
 * whoever gets the lock after it takes back what it left, since the one before is known to have ended.
 */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "snapshot/take.h"
#include "vault/tombstone.h"

#define RECORD_BYTES_MAX 65536u

static int64_t boot_us(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * CLOCK_US_PER_S + t.tv_nsec / 1000;
}

static char *record_path(const struct snapshot_config *config)
{
    return mem_printf("%s/intent.json", config->state_directory);
}

static int write_record(const struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = record_path(t->config);
    CLEANUP(buf_release) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    JSON_AUTO o = json_object();

    json_set_str(o, "id", t->manifest->id);
    json_set_str(o, "incarnation", t->manifest->incarnation);
    json_dump(o, &text);
    return file_replace(path, buf_slice(&text), 0600, err);
}

int take_intents(struct take *t, struct error *err)
{
    const struct snapshot_config *c = t->config;

    TRY(write_record(t, err));
    t->tombstones = mem_zalloc(c->vaults_count + 1, sizeof(struct tombstones *));
    t->intent_boot_us = boot_us();
    for (size_t i = 0; i < c->vaults_count; i++)
        TRY(snapshot_intent(c->vaults[i], t->manifest, err));
    for (size_t i = 0; i < c->vaults_count; i++) {
        t->tombstones[i] = tombstones_new();
        TRY(tombstones_refresh(t->tombstones[i], c->vaults[i], t->manifest->source, err));
    }
    return 0;
}

void take_intents_release(struct take *t)
{
    for (size_t i = 0; t->tombstones && i < t->config->vaults_count; i++)
        tombstones_free(t->tombstones[i]);
    mem_free_ptr(&t->tombstones);
}

static int secure_in(const struct take *t, size_t vault, struct error *err)
{
    const struct manifest *m = t->manifest;

    TRY(tombstones_refresh(t->tombstones[vault], t->config->vaults[vault], m->source, err));
    for (uint32_t i = 0; i < manifest_runs(m); i++)
        for (uint32_t k = 0; k < manifest_run(m, i)->chunks_count; k++)
            TRY(chunk_secure(t->config->vaults[vault], m->source, &manifest_run(m, i)->chunks[k], t->tombstones[vault], err));
    return 0;
}

int take_secure(struct take *t, struct error *err)
{
    for (size_t i = 0; i < t->config->vaults_count; i++)
        TRY(secure_in(t, i, err));
    if (boot_us() - t->intent_boot_us > SNAPSHOT_COMMIT_US)
        return error_set(err, ERROR_TIMEOUT,
                         "the snapshot has taken more than 7 days: a purge may take it for one that was given up, so it is not committed");
    return 0;
}

/* A failure only leaves an intent behind, which keeps unreferenced chunks from being purged for a while. */
void take_intents_forget(const struct snapshot_config *config)
{
    CLEANUP(mem_free_ptr) char *path = record_path(config);
    CLEANUP(buf_release) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    struct error err = ERROR_INIT;
    const char *id, *incarnation;
    struct position ignored;
    JSON_AUTO o = NULL;

    if (file_read_all(path, RECORD_BYTES_MAX, &text, &err) < 0 || json_parse(buf_slice(&text), path, &o, &err) < 0 ||
        json_get_str(o, "id", path, &id, &err) < 0 || json_get_str(o, "incarnation", path, &incarnation, &err) < 0 ||
        snapshot_position(id, &ignored, &err) < 0 || strlen(incarnation) >= VAULT_INCARNATION_BYTES)
        return;
    for (size_t i = 0; i < config->vaults_count; i++)
        if (snapshot_intent_remove(config->vaults[i], config->protect.source, incarnation, id, &err) < 0)
            return; /* the next one tries again */
    (void)!file_remove(path, &err);
}
