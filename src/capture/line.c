/*
 * capture/line.c - an incarnation on this host: found, found once more, begun.
 *
 * current.json says which one is captured; where this host has lost that, the newest one of the vaults is gone on with, if the source
 * agrees (continuity.c). Its spool is opened beside what the vaults have of it (line_spool.c).
 *
 * A new incarnation is made in the vaults first, then in the state directory, then current.json points to it. A crash in between
 * leaves an incarnation without segments, and the next start begins another one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "capture/chain.h"
#include "capture/role.h"

#define SPOOL_LOOKS_MAX 100 /* each time a file has left the spool in between */

static bool is_id(const char *name) { return strlen(name) == 4 && strspn(name, "0123456789") == 4; }

void line_close(struct line *l)
{
    spool_free(l->spool);
    free(l->directory);
    free(l->spool_directory);
    *l = (struct line){0};
}

static void name_directories(struct capture *c, struct line *l)
{
    l->directory = mem_printf("%s/%s", c->config->state_directory, l->incarnation.id);
    l->spool_directory = mem_printf("%s/spool", l->directory);
}

/* --- finding ----------------------------------------------------------------------------------------------------- */

static int load_incarnation(struct capture *c, struct line *l, const char *id, struct error *err)
{
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s", c->config->state_directory, id);

    int rc = state_load_incarnation(directory, &l->incarnation, err);
    if (rc >= 0 && strcmp(l->incarnation.id, id) == 0)
        return 0;
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        rc = incarnation_load(c->config->vaults[i], c->config->protect.source, id, &l->incarnation, err);
        if (rc < 0)
            continue;
        TRY(dir_make_all(directory, 0700, err));
        return state_store_incarnation(directory, &l->incarnation, err);
    }
    return error_prefix(err, "incarnation %s", id);
}

/* The state directory is gone: the newest incarnation of any vault. All must be reachable, or a newer one may be overlooked. */
static int newest_in_vaults(struct capture *c, char ret_id[static VAULT_INCARNATION_BYTES], struct error *err)
{
    ret_id[0] = '\0';
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
        size_t count;

        int rc = incarnation_list(c->config->vaults[i], c->config->protect.source, &list, &count, err);
        if (rc < 0)
            return error_prefix(err, "nothing is known on this host of what was captured, and a vault cannot be read");
        if (count > 0 && strcmp(list[count - 1].id, ret_id) > 0)
            memcpy(ret_id, list[count - 1].id, VAULT_INCARNATION_BYTES);
    }
    return ret_id[0] != '\0';
}

static int find_current(struct capture *c, struct current *ret, struct error *err)
{
    *ret = (struct current){.epoch = 1};
    int rc = state_load_current(c->config->state_directory, ret, err);
    if (rc >= 0)
        return 1;
    if (rc != -ERROR_NOT_FOUND)
        log_error("%s; taken as lost, the vault is asked", err->message);
    rc = newest_in_vaults(c, ret->incarnation, err);
    if (rc <= 0)
        return rc;
    log_warn("this host has no state of %s: incarnation %s of the vault is continued if the source agrees", c->config->protect.source,
             ret->incarnation);
    TRY(state_store_current(c->config->state_directory, ret, err));
    return 1;
}

/* Numbers that another host or a lost state directory counted are not known: seconds are greater than any count of sessions. */
static uint32_t session_past_all(void) { return (uint32_t)(clock_wall_us() / CLOCK_US_PER_S); }

static int open_line(struct capture *c, const struct current *current, struct line *ret, struct error *err)
{
    struct line l = {0};

    TRY(load_incarnation(c, &l, current->incarnation, err));
    name_directories(c, &l);
    l.session = current->session;
    int rc = line_open_spool(c, &l, err);
    if (rc < 0) {
        line_close(&l);
        return rc;
    }
    if (l.session == 0 && !position_is_zero(l.last))
        l.session = session_past_all();
    *ret = l;
    return 0;
}

int line_find(struct capture *c, struct line *ret, struct error *err)
{
    struct current current;

    int rc = find_current(c, &current, err);
    if (rc <= 0)
        return rc;
    c->epoch = current.epoch;
    TRY(open_line(c, &current, ret, err));
    return 1;
}

/* --- finding it once more ---------------------------------------------------------------------------------------- */

/* The newest incarnation of the same history in any vault that can be read; ours where there is no newer one. */
static void newest_of_same_history(struct capture *c, const struct incarnation *ours, char ret_id[static VAULT_INCARNATION_BYTES])
{
    memcpy(ret_id, ours->id, VAULT_INCARNATION_BYTES);
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
        struct error ignored = ERROR_INIT;
        size_t count;

        if (incarnation_list(c->config->vaults[i], c->config->protect.source, &list, &count, &ignored) < 0 || count == 0)
            continue;
        const struct incarnation *newest = &list[count - 1];
        if (strcmp(newest->id, ret_id) > 0 && strcmp(newest->system_id, ours->system_id) == 0 &&
            newest->database_oid == ours->database_oid && newest->timeline == ours->timeline)
            memcpy(ret_id, newest->id, VAULT_INCARNATION_BYTES);
    }
}

/* Another host wrote since: its numbers of sessions and of shapes of relations are not known here. */
static int take_over(struct capture *c, struct line *l, struct error *err)
{
    struct current current = {.epoch = c->epoch};

    if (l->session < session_past_all())
        l->session = session_past_all();
    memcpy(current.incarnation, l->incarnation.id, VAULT_INCARNATION_BYTES);
    current.session = l->session;
    TRY(state_forget_relations(l->directory, err));
    return state_store_current(c->config->state_directory, &current, err);
}

int line_find_again(struct capture *c, const struct line *old, struct line *ret, struct error *err)
{
    struct current current = {.epoch = c->epoch, .session = old->session};
    struct line l;
    int rc = 0;

    newest_of_same_history(c, &old->incarnation, current.incarnation);
    bool other = strcmp(current.incarnation, old->incarnation.id) != 0;
    if (other) {
        /* What this host has of the one before is brought together with the vault, too, before the rest of it is shipped. */
        struct current before = current;
        struct line closed;

        memcpy(before.incarnation, old->incarnation.id, VAULT_INCARNATION_BYTES);
        TRY(open_line(c, &before, &closed, err));
        line_close(&closed);
        current.session = 0;
    }
    TRY(open_line(c, &current, &l, err));
    if (!l.vault_read)
        rc = error_set(err, ERROR_REFUSED, "no vault can be read: whether another host has captured what is missing here is not known");
    else if (other || position_compare(l.last, c->durable) != 0)
        rc = take_over(c, &l, err);
    if (rc < 0) {
        line_close(&l);
        return rc;
    }
    if (other)
        log_warn("incarnation %s of %s, which another host began, is gone on with", l.incarnation.id, c->config->protect.source);
    *ret = l;
    return 0;
}

/* --- beginning --------------------------------------------------------------------------------------------------- */

/* Numbers that are taken in any vault or on this host are passed over, so that all vaults can have the same. */
static unsigned next_number(struct capture *c)
{
    unsigned highest = 0;
    CLEANUP(dir_names_free) struct dir_names names = {0};

    for (size_t i = 0; i < c->config->vaults_count; i++) {
        CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
        struct error ignored = ERROR_INIT;
        size_t count;

        if (incarnation_list(c->config->vaults[i], c->config->protect.source, &list, &count, &ignored) < 0 || count == 0)
            continue;
        unsigned n = (unsigned)strtoul(list[count - 1].id, NULL, 10);
        highest = n > highest ? n : highest;
    }
    struct error ignored = ERROR_INIT;
    if (dir_list(c->config->state_directory, &names, &ignored) < 0)
        return highest + 1;
    for (size_t i = 0; i < names.count; i++)
        if (is_id(names.names[i])) {
            unsigned n = (unsigned)strtoul(names.names[i], NULL, 10);
            highest = n > highest ? n : highest;
        }
    return highest + 1;
}

/* In every vault that answers; at least one must. The others get it from their shippers. */
static int store_in_vaults(struct capture *c, struct incarnation *i, struct error *err)
{
    size_t stored = 0;
    int rc = 0;

    for (size_t k = 0; k < c->config->vaults_count; k++) {
        struct error why = ERROR_INIT;

        rc = incarnation_store(c->config->vaults[k], c->config->protect.source, i, &why);
        if (rc >= 0) {
            stored++;
            continue;
        }
        *err = why;
        if (rc == -ERROR_EXISTS)
            return rc;
        log_warn("vault %s: %s", c->config->vaults[k]->name, why.message);
    }
    return stored > 0 ? 0 : rc;
}

static int claim(struct capture *c, struct incarnation *i, struct error *err)
{
    for (unsigned n = next_number(c); n <= 9999; n++) {
        (void)snprintf(i->id, sizeof i->id, "%04u", n);
        int rc = store_in_vaults(c, i, err);
        if (rc != -ERROR_EXISTS)
            return rc;
    }
    return error_set(err, ERROR_LIMIT, "source %s has used up its incarnation numbers", c->config->protect.source);
}

int line_begin(struct capture *c, const struct pg_identity *server, uint64_t start_lsn, const char *reason,
               struct line *ret, struct error *err)
{
    struct line l = {0};
    struct incarnation *i = &l.incarnation;

    (void)snprintf(i->system_id, sizeof i->system_id, "%s", server->system_id);
    (void)snprintf(i->database, sizeof i->database, "%s", server->database);
    (void)snprintf(i->slot, sizeof i->slot, "%s", c->names.slot);
    (void)snprintf(i->reason, sizeof i->reason, "%s", reason);
    i->timeline = server->timeline;
    i->database_oid = server->database_oid;
    i->server_version = (uint32_t)server->server_version;
    i->start = position_of_lsn(start_lsn);
    i->begun_wall_us = clock_wall_us();
    TRY(claim(c, i, err));
    name_directories(c, &l);
    struct current current = {.epoch = c->epoch};
    memcpy(current.incarnation, i->id, VAULT_INCARNATION_BYTES);
    int rc = dir_make_all(l.directory, 0700, err);
    if (rc >= 0)
        rc = state_store_incarnation(l.directory, i, err);
    if (rc >= 0)
        rc = line_open_spool(c, &l, err);
    if (rc >= 0)
        rc = state_store_current(c->config->state_directory, &current, err);
    if (rc < 0) {
        line_close(&l);
        return rc;
    }
    *ret = l;
    return 0;
}

/* --- those before ------------------------------------------------------------------------------------------------ */

static int seal_old(struct capture *c, const char *id, bool *ret_any, struct error *err)
{
    CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s/spool", c->config->state_directory, id);
    CLEANUP(mem_free_ptr) uint64_t *files = NULL;
    struct spool *spool = NULL;
    bool damaged;
    size_t count;
    int rc = 0;

    *ret_any = false;
    TRY(spool_list(directory, &files, &count, err));
    if (count == 0)
        return 0;
    TRY(spool_open(directory, c->config->protect.source, id, &spool, &damaged, err));
    if (damaged)
        log_error("the spool in %s is damaged: what follows the damage is lost", directory);
    if (spool_is_begun(spool))
        rc = spool_seal(spool, err);
    *ret_any = spool_sequence(spool) > 0;
    spool_free(spool);
    return rc;
}

int line_settle_old(struct capture *c, struct error *err)
{
    CLEANUP(dir_names_free) struct dir_names names = {0};
    size_t cap = 0;

    free(c->old);
    c->old = NULL;
    c->old_count = 0;
    TRY(dir_list(c->config->state_directory, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        bool any;

        if (!is_id(names.names[i]) || strcmp(names.names[i], c->line->incarnation.id) == 0)
            continue;
        TRY(seal_old(c, names.names[i], &any, err));
        if (!any)
            continue;
        MEM_GROW(c->old, cap, c->old_count);
        c->old[c->old_count] = (struct old_line){0};
        memcpy(c->old[c->old_count++].id, names.names[i], sizeof "0000");
    }
    return 0;
}

/* --- relations --------------------------------------------------------------------------------------------------- */

/*
 * What stands behind the last commit, or is said to be tentative, was framed by a transaction that will be sent again: its number is
 * not given to another shape, and that is all.
 */
static int know_up_to_commit(struct chain *chain, struct position last, struct framer *f, struct error *err)
{
    bool behind = position_is_zero(last);
    struct frame frame;
    int rc;

    while ((rc = chain_next(chain, &frame, err)) > 0) {
        struct relation r;

        behind |= frame.type == FRAME_PART && (frame.part.flags & FRAME_PART_COMMIT) &&
                  position_compare(frame.part.position, last) >= 0;
        if (frame.type != FRAME_RELATION)
            continue;
        TRY(relation_decode(frame.body, &r, err));
        if (behind || frame.tentative)
            framer_know_version(f, r.id, r.version);
        else
            framer_know(f, &r);
        relation_release(&r);
    }
    return rc;
}

static int know_what_is_in_spool(struct capture *c, const struct line *l, struct framer *f, struct error *err)
{
    struct chain_config config = {
        .spool_directory = l->spool_directory, .source = c->config->protect.source, .incarnation = l->incarnation.id};
    struct chain *chain;

    TRY(chain_open(&config, &chain, err));
    int rc = know_up_to_commit(chain, l->last, f, err);
    chain_free(chain);
    return rc;
}

int line_relations(struct capture *c, struct line *l, struct framer *f, struct error *err)
{
    bool found;

    int rc = state_load_relations(l->directory, f, &found, err);
    if (rc == -ERROR_CORRUPT)
        log_error("%s; shapes of tables are learned anew", err->message);
    else
        TRY(rc);
    /* Versions that were counted before are not known: numbers that are greater than any of them. */
    if (!found && l->shipped)
        framer_set_version_floor(f, l->session);
    /* A file that is not there any more has left for the vault meanwhile, and what it says of relations was kept before. */
    for (int tries = 1; (rc = know_what_is_in_spool(c, l, f, err)) == -ERROR_NOT_FOUND && tries < SPOOL_LOOKS_MAX; tries++)
        ;
    return rc;
}
