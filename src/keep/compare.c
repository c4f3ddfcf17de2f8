/*
 * keep/compare.c - see compare.h. The outcome is kept twice: as an object beside the manifest, which whoever reads the vault
 * later can see, and as STATE/<source>/comparison.json for `salvor status`.
 */
#include "keep/compare.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/file.h"

#define WAIT_US (60 * CLOCK_US_PER_S)
#define LOOK_EVERY_MS 200
#define OUTCOME_BYTES_MAX ((size_t)16 << 20)

/* The newest snapshot of the incarnation before `after`. 1: found; 0: there is none. */
static int find_before(struct vault *vault, const struct manifest *after, struct manifest *ret, struct error *err)
{
    const char *id = NULL;
    char **ids;
    size_t count;

    TRY(snapshot_list(vault, after->source, after->incarnation, &ids, &count, err));
    for (size_t i = 0; i < count && strcmp(ids[i], after->id) != 0; i++)
        id = ids[i];
    int result = id ? manifest_get(vault, after->source, after->incarnation, id, ret, err) : 0;
    int found = id != NULL;
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
    return result < 0 ? result : found;
}

/* The last commit that is durable on this host. */
static int durable_position(const struct chain_config *config, struct position *ret, struct error *err)
{
    struct chain_range range;
    struct chain *chain;

    TRY(chain_open(config, &chain, err));
    int result = chain_range(chain, &range, err);
    chain_free(chain);
    TRY(result);
    *ret = range.last;
    return 0;
}

/* The running capture brings the events up to the snapshot's position within a heartbeat. */
static int wait_for_events(const struct chain_config *config, const struct manifest *after, struct error *err)
{
    int64_t deadline = clock_mono_us() + WAIT_US;
    struct position last;
    char wanted[POSITION_TEXT_BYTES], got[POSITION_TEXT_BYTES];

    for (;;) {
        TRY(durable_position(config, &last, err));
        if (position_compare(last, after->position) >= 0)
            return 0;
        if (clock_mono_us() > deadline)
            return error_set(err, ERROR_TIMEOUT,
                             "the events up to %s did not arrive within %d s (the last is %s): is `salvor run` capturing %s?",
                             position_format(after->position, wanted), (int)(WAIT_US / CLOCK_US_PER_S),
                             position_format(last, got), after->source);
        clock_sleep_ms(LOOK_EVERY_MS);
    }
}

static int store_outcome(struct vault *vault, const char *state_directory, const struct manifest *before,
                         const struct manifest *after, const char *outcome, json_t *findings, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/comparison.json", state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(OUTCOME_BYTES_MAX);
    JSON_AUTO j = json_object();

    json_set_str(j, "snapshot", after->id);
    json_set_str(j, "before", before->id);
    json_set_str(j, "outcome", outcome);
    json_object_set(j, "findings", findings);
    json_set_i64(j, "wall_us", clock_wall_us());
    json_dump(j, &text);
    TRY(file_replace_volatile(path, buf_slice(&text), 0600, err));
    return comparison_put(vault, after, j, err);
}

static int compare(const struct recover_config *config, struct vault *vault, const struct manifest *before,
                   const struct manifest *after, json_t **ret_findings, struct error *err)
{
    const char *outcome = "equal";
    int result = recover_compare_snapshots(config, before, after, ret_findings, err);

    if (result == -ERROR_REFUSED) {
        *ret_findings = json_array();
        CLEANUP(mem_free_ptr) char *why = mem_printf("not comparable: %s", err->message);
        *err = ERROR_INIT;
        return store_outcome(vault, config->state_directory, before, after, why, *ret_findings, err);
    }
    TRY(result);
    if (json_array_size(*ret_findings) > 0)
        outcome = "different: the later snapshot is a new base";
    return store_outcome(vault, config->state_directory, before, after, outcome, *ret_findings, err);
}

int compare_with_previous(const struct pg_protect_config *protect, struct vault *vault, const char *state_directory,
                          const struct manifest *after, size_t memory_bytes_max, json_t **ret_findings, struct error *err)
{
    CLEANUP(manifest_release) struct manifest before;
    CLEANUP(mem_free_ptr) char *spool = mem_printf("%s/%s/spool", state_directory, after->incarnation);
    CLEANUP(mem_free_ptr) char *work = mem_printf("%s/compare", state_directory);
    struct chain_config chain = {.vault = vault, .spool_directory = file_exists(spool) ? spool : NULL, .source = after->source,
                                 .incarnation = after->incarnation};
    struct recover_config config = {.source = protect->source, .vault = vault, .state_directory = state_directory,
                                    .work_directory = work, .incarnation = after->incarnation, .connections = 1,
                                    .memory_bytes_max = memory_bytes_max};
    struct error ignored = ERROR_INIT;

    manifest_init(&before);
    int found = find_before(vault, after, &before, err);
    TRY(found);
    if (!found) {
        *ret_findings = json_array();
        return 0;
    }
    TRY(wait_for_events(&chain, after, err));
    TRY(dir_make_all(work, 0700, err));
    int result = compare(&config, vault, &before, after, ret_findings, err);
    if (dir_remove_all(work, &ignored) < 0 && result >= 0)
        *err = ignored;
    return result;
}
