/*
 * capture/line_spool.c - an incarnation's spool is opened, beside what the vaults have of it.
 *
 * The vault's list of segments is the truth about what was shipped, the spool about what was not. Here the two are brought together: a spool
 * file that a vault has as a segment is not appended to; spool files that do not go on where the newest segment ends (another host
 * wrote meanwhile, or this directory is an old copy) are set aside, and the source, which was never told "flushed" for them, sends
 * their content again. A vault that cannot be read is passed over: what this host has is enough to go on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/role.h"
#include "os/attempt.h"

#define VAULT_PATIENCE_US (10 * CLOCK_US_PER_S)

/* The newest segment over all vaults that can be read, and what else its vault has. */
struct newest {
    bool all_reached, any_reached;
    struct vault *vault; /* NULL: no segment at all */
    struct segment_id id;
    struct segment_ref *refs; /* by sequence */
    size_t count;
};

static void newest_release(struct newest *n) { free(n->refs); }

/* --- what the vaults have ---------------------------------------------------------------------------------------- */

/* A list of segments that is waited for only so long: a vault on a file system that hangs must not keep capture from beginning. */
struct listing {
    struct vault *vault;
    char *source, *incarnation;
    struct segment_ref *refs;
    size_t count;
};

static void listing_free(void *arg)
{
    struct listing *l = arg;

    free(l->source);
    free(l->incarnation);
    free(l->refs);
    free(l);
}

static int list(void *arg, struct error *err)
{
    struct listing *l = arg;

    return segment_list(l->vault, l->source, l->incarnation, &l->refs, &l->count, err);
}

/* The segments of one vault, and with them how many. The caller frees *ret. */
static int list_in_time(struct vault *v, const char *source, const char *incarnation, struct segment_ref **ret, size_t *ret_count,
                        struct error *err)
{
    struct listing *l = mem_zalloc(1, sizeof *l);

    *l = (struct listing){.vault = v, .source = mem_strdup(source), .incarnation = mem_strdup(incarnation)};
    CLEANUP(attempt_free_ptr) struct attempt *a = attempt_start("list", list, l, listing_free);
    TRY(attempt_wait(a, clock_mono_us() + VAULT_PATIENCE_US, err));
    *ret = l->refs;
    *ret_count = l->count;
    l->refs = NULL;
    return 0;
}

static int newest_segment(struct capture *c, const char *incarnation, struct newest *ret, struct error *err)
{
    *ret = (struct newest){.all_reached = true};
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        struct vault *v = c->config->vaults[i];
        CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
        struct error why = ERROR_INIT;
        size_t count;

        int rc = list_in_time(v, c->config->protect.source, incarnation, &refs, &count, &why);
        if (rc == -ERROR_CORRUPT) {
            *err = why;
            return rc;
        }
        if (rc < 0) {
            log_warn("vault %s cannot be read now: %s", v->name, why.message);
            ret->all_reached = false;
            continue;
        }
        ret->any_reached = true;
        if (count > 0 && (!ret->vault || refs[count - 1].id.sequence > ret->id.sequence)) {
            ret->vault = v;
            ret->id = refs[count - 1].id;
            free(ret->refs);
            ret->refs = refs;
            ret->count = count;
            refs = NULL;
        }
    }
    return 0;
}

/* --- spool and vault brought together ---------------------------------------------------------------------------- */

static int set_aside(const char *directory, uint64_t sequence, const char *why, struct error *err)
{
    char path[SPOOL_PATH_BYTES];

    TRY(spool_path(path, directory, sequence, err));
    CLEANUP(mem_free_ptr) char *bad = mem_printf("%s.bad", path);
    log_error("spool file %s is set aside: %s; its content is fetched from the source again", path, why);
    if (rename(path, bad) < 0)
        return error_errno(err, errno, "cannot rename %s", path);
    return dir_sync(directory, err);
}

static int summary_of(const struct line *l, uint64_t sequence, const char *source, struct spool_summary *ret, struct error *err)
{
    char path[SPOOL_PATH_BYTES];

    TRY(spool_path(path, l->spool_directory, sequence, err));
    return spool_summarize(path, source, l->incarnation.id, NULL, ret, err);
}

/* Is the segment of that number made from this file? Of one that is not there (purged, or a hole) nothing is known. */
static bool is_its_segment(const struct newest *newest, uint64_t sequence, const struct spool_summary *s)
{
    struct position end = s->commits_count > 0 ? s->last : s->header.after;

    for (size_t i = 0; i < newest->count; i++)
        if (newest->refs[i].id.sequence == sequence)
            return position_compare(newest->refs[i].id.first, s->first) == 0 && position_compare(newest->refs[i].id.last, end) == 0;
    return true;
}

/* Why a file cannot stay beside the newest segment; NULL: it can. Damage is the spool's own to judge. */
static const char *why_not(const struct line *l, uint64_t sequence, const char *source, const struct newest *newest)
{
    struct error ignored = ERROR_INIT;
    struct spool_summary s;

    if (sequence > newest->id.sequence + 1 || summary_of(l, sequence, source, &s, &ignored) < 0)
        return NULL;
    if (sequence <= newest->id.sequence && !s.sealed)
        return "the vault has a complete segment of that number";
    if (sequence <= newest->id.sequence)
        return is_its_segment(newest, sequence, &s) ? NULL : "the vault has a segment of that number from another host";
    return position_compare(s.header.after, newest->id.last) == 0 ? NULL : "it does not go on where the vault's newest segment ends";
}

/* Did this host ever write segments of this history into one of its vaults? */
static bool has_claimed(const struct capture *c, const struct line *l)
{
    JSON_AUTO epochs = NULL;
    struct error ignored = ERROR_INIT;

    if (state_load_json(l->directory, EPOCHS, &epochs, &ignored) < 0)
        return false;
    for (size_t i = 0; i < c->config->vaults_count; i++)
        if (json_object_get(epochs, c->config->vaults[i]->name))
            return true;
    return false;
}

/*
 * Files leave the spool when every vault has their segments. Where all vaults were read and none has what came before the oldest file,
 * they have lost it, or are older copies of themselves. What is left here can never be joined to it: where the source sends from is
 * a gap then, and a new history begins.
 */
static bool vaults_went_back(const struct capture *c, const struct line *l, const struct newest *newest, uint64_t oldest_file)
{
    if (!newest->all_reached || oldest_file <= newest->id.sequence + 1)
        return false;
    return newest->vault || has_claimed(c, l);
}

static int reconcile(struct capture *c, struct line *l, const struct newest *newest, struct error *err)
{
    CLEANUP(mem_free_ptr) uint64_t *files = NULL;
    const char *why = NULL;
    size_t count;

    TRY(spool_list(l->spool_directory, &files, &count, err));
    if (count > 0 && vaults_went_back(c, l, newest, files[0])) {
        why = "no vault has the segments before it that this host stored: they were lost, or older copies were put back";
        log_error("ALERT: %s: the vault's newest segment is %llu, and this host stored up to %llu: the vault has lost objects or has gone back; "
                  "`salvor verify` names what is gone", c->config->protect.source, (unsigned long long)newest->id.sequence,
                  (unsigned long long)files[0] - 1);
    } else if (!newest->vault) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (!why)
            why = why_not(l, files[i], c->config->protect.source, newest);
        if (why)
            TRY(set_aside(l->spool_directory, files[i], why, err));
        else if (newest->all_reached && c->config->vaults_count == 1 && files[i] < newest->id.sequence)
            TRY(spool_remove(l->spool_directory, files[i], err));
    }
    return 0;
}

/* --- what is durable --------------------------------------------------------------------------------------------- */

static void take_summary(struct line *l, const struct spool_summary *s)
{
    if (s->session > l->session)
        l->session = s->session;
    if (s->commits_count == 0 || position_compare(s->last, l->last) <= 0)
        return;
    l->last = s->last;
    l->last_start = s->last_start;
    l->last_wall_us = s->last_wall_us;
}

/* Newest file first, until one has a commit. */
static int end_in_spool(struct capture *c, struct line *l, struct error *err)
{
    CLEANUP(mem_free_ptr) uint64_t *files = NULL;
    size_t count;

    TRY(spool_list(l->spool_directory, &files, &count, err));
    for (size_t i = count; i-- > 0 && position_is_zero(l->last);) {
        struct spool_summary s;
        char path[SPOOL_PATH_BYTES];

        TRY(spool_path(path, l->spool_directory, files[i], err));
        TRY(spool_summarize(path, c->config->protect.source, l->incarnation.id, NULL, &s, err));
        take_summary(l, &s);
    }
    return 0;
}

static int end_in_vault(struct capture *c, struct line *l, const struct newest *newest, struct error *err)
{
    struct segment *s = NULL;

    if (!newest->vault || position_compare(newest->id.last, l->last) <= 0)
        return 0;
    l->last = newest->id.last;
    l->last_start = POSITION_ZERO;
    TRY(segment_open(newest->vault, c->config->protect.source, l->incarnation.id, &newest->id, &s, err));
    l->last_wall_us = segment_footer(s)->last_wall_us;
    segment_free(s);
    return 0;
}

int line_open_spool(struct capture *c, struct line *l, struct error *err)
{
    CLEANUP(newest_release) struct newest newest = {0};

    TRY(newest_segment(c, l->incarnation.id, &newest, err));
    TRY(reconcile(c, l, &newest, err));
    l->shipped = newest.vault != NULL;
    l->vault_read = newest.any_reached;
    TRY(spool_open(l->spool_directory, c->config->protect.source, l->incarnation.id, &l->spool, &l->damaged, err));
    if (l->damaged)
        log_error("the spool in %s is damaged: what follows the damage was set aside (*.bad) and is fetched from the source again",
                  l->spool_directory);
    if (!spool_is_begun(l->spool))
        spool_skip_to(l->spool, newest.id.sequence);
    TRY(end_in_spool(c, l, err));
    return end_in_vault(c, l, &newest, err);
}
