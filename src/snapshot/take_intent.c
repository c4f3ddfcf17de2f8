/*
 * snapshot/take_intent.c - a snapshot beside a purge: intents, tombstones, and what a dead snapshot left.
 *
 * The intent comes first, then the tombstones are read: what one of them names is not adopted. A purge puts its tombstone
 * first and then reads the intents: while one is there that is older than the tombstone it removes no chunk. Before the
 * manifest the tombstones are read again, and chunks that were adopted before they were named are put under another name.
 *
 * An intent counts for SNAPSHOT_INTENT_US; a snapshot that takes longer than SNAPSHOT_COMMIT_US is not committed, by a
 * clock that also counts while the machine sleeps. STATE/<source>/intent.json names the intents of the running try and those that could not be
 * taken back from all vaults so far: whoever gets the lock after it tries them all, since the ones before are known to have ended.
 */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"
#include "snapshot/take.h"
#include "vault/tombstone.h"

#define RECORD_BYTES_MAX 65536u
#define INTENTS_MAX      100u /* the newest; older ones count for some days */

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

static int store_record(const struct snapshot_config *config, json_t *intents, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = record_path(config);
    CLEANUP(buf_release) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    JSON_AUTO o = json_object();

    if (json_array_size(intents) == 0)
        return file_remove(path, err);
    json_object_set(o, "intents", intents);
    json_dump(o, &text);
    return file_replace(path, buf_slice(&text), 0600, err);
}

static bool names_intent(const json_t *row)
{
    const char *id = json_string_value(json_object_get(row, "id")), *incarnation = json_string_value(json_object_get(row, "incarnation"));
    struct position ignored;

    return id && incarnation && snapshot_position(id, &ignored, NULL) >= 0 && strlen(incarnation) < VAULT_INCARNATION_BYTES;
}

/* The oldest first; none where there is no record that can be read. */
static json_t *load_record(const struct snapshot_config *config)
{
    CLEANUP(mem_free_ptr) char *path = record_path(config);
    CLEANUP(buf_release) struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    json_t *intents = json_array(), *row;
    struct error ignored = ERROR_INIT;
    JSON_AUTO o = NULL;
    size_t i;

    if (file_read_all(path, RECORD_BYTES_MAX, &text, &ignored) < 0 || json_parse(buf_slice(&text), path, &o, &ignored) < 0)
        return intents;
    json_array_foreach(json_object_get(o, "intents"), i, row)
        if (names_intent(row))
            json_array_append(intents, row);
    return intents;
}

static int add_to_record(const struct take *t, struct error *err)
{
    JSON_AUTO intents = load_record(t->config);
    json_t *row = json_object();

    json_set_str(row, "id", t->manifest->id);
    json_set_str(row, "incarnation", t->manifest->incarnation);
    json_array_append_new(intents, row);
    while (json_array_size(intents) > INTENTS_MAX)
        json_array_remove(intents, 0);
    return store_record(t->config, intents, err);
}

int take_intents(struct take *t, struct error *err)
{
    const struct snapshot_config *c = t->config;

    TRY(add_to_record(t, err));
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

/* From one vault, the newest first, up to one that does not go: a vault that is away takes its time to say so, and is asked once. */
static void take_back(const struct snapshot_config *config, struct vault *v, const json_t *intents, bool *left)
{
    struct error ignored = ERROR_INIT;
    size_t i = json_array_size(intents);

    while (i > 0) {
        const json_t *row = json_array_get(intents, i - 1);

        if (snapshot_intent_remove(v, config->protect.source, json_string_value(json_object_get(row, "incarnation")),
                                   json_string_value(json_object_get(row, "id")), &ignored) < 0)
            break;
        i--;
    }
    while (i > 0)
        left[--i] = true;
}

/* A failure only leaves an intent behind, which keeps unreferenced chunks from being purged until the next one who tries. */
void take_intents_forget(const struct snapshot_config *config)
{
    JSON_AUTO intents = load_record(config);
    size_t n = json_array_size(intents);
    CLEANUP(mem_free_ptr) bool *left = mem_zalloc(n + 1, sizeof *left);
    struct error ignored = ERROR_INIT;

    if (n == 0)
        return;
    for (size_t i = 0; i < config->vaults_count; i++)
        take_back(config, config->vaults[i], intents, left);
    for (size_t i = n; i-- > 0;)
        if (!left[i])
            json_array_remove(intents, i);
    (void)!store_record(config, intents, &ignored);
}
