/*
 * test/unit/capture/role_made.h - what the capture role's files work on, without its threads: a state directory and one vault or two.
 */
#ifndef SALVOR_TEST_ROLE_MADE_H
#define SALVOR_TEST_ROLE_MADE_H

#include "folder.h"

#include "base/mem.h"
#include "capture/role.h"

#define ROLE_SOURCE "shop"

struct role {
    char *folder, *state_directory;
    struct vault *vaults[2];
    struct capture_config config;
    struct capture c;
    struct line line;
};

static inline struct vault *role_vault(const char *folder, const char *name)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", folder, name);
    struct vault_config config = {.name = name, .driver = "posix", .path = path};
    struct error err = ERROR_INIT;
    struct vault *v;

    assert_ok(vault_make(&config, &err), err);
    assert_ok(vault_open(&config, &v, &err), err);
    return v;
}

static inline void role_fill(struct capture *c, const struct capture_config *config)
{
    *c = (struct capture){.config = config, .epoch = 1, .wake_fd = -1};
    pg_names_of(config->protect.source, &c->names);
    assert_int_equal(pthread_mutex_init(&c->mutex, NULL), 0);
    assert_int_equal(pthread_mutex_init(&c->files_mutex, NULL), 0);
    c->pending_notes = json_array();
    c->schema_changed = json_array();
    c->inexact = json_array();
    c->words = json_array();
    c->gaps = json_array();
}

static inline void role_empty(struct capture *c)
{
    json_decref(c->pending_notes);
    json_decref(c->schema_changed);
    json_decref(c->inexact);
    json_decref(c->words);
    json_decref(c->gaps);
    (void)pthread_mutex_destroy(&c->mutex);
    (void)pthread_mutex_destroy(&c->files_mutex);
}

/* Nothing in memory: the next life of the process, on the same files. */
static inline void role_restart(struct role *r)
{
    struct line *line = r->c.line;

    role_empty(&r->c);
    role_fill(&r->c, &r->config);
    r->c.line = line;
}

static inline int role_new(void **state)
{
    struct role *r = mem_zalloc(1, sizeof *r);
    struct error err = ERROR_INIT;

    r->folder = memory_folder();
    r->state_directory = mem_printf("%s/state", r->folder);
    assert_ok(dir_make_all(r->state_directory, 0700, &err), err);
    r->vaults[0] = role_vault(r->folder, "main");
    r->vaults[1] = role_vault(r->folder, "west");
    r->config = (struct capture_config){
        .protect.source = ROLE_SOURCE, .state_directory = r->state_directory, .vaults = r->vaults, .vaults_count = 1};
    role_fill(&r->c, &r->config);
    *state = r;
    return 0;
}

static inline int role_free(void **state)
{
    struct role *r = *state;
    struct error err = ERROR_INIT;

    line_close(&r->line);
    role_empty(&r->c);
    for (size_t i = 0; i < 2; i++)
        vault_free(r->vaults[i]);
    assert_ok(dir_remove_all(r->folder, &err), err);
    free(r->folder);
    free(r->state_directory);
    free(r);
    return 0;
}

static inline struct pg_identity role_server(const char *system_id)
{
    struct pg_identity server = {.timeline = 1, .database_oid = 16384, .database = "shop", .server_version = 150018};

    (void)snprintf(server.system_id, sizeof server.system_id, "%s", system_id);
    return server;
}

/* A line of that server's, begun at `start_lsn`, in r->line. */
static inline void role_begin(struct role *r, const char *system_id, uint64_t start_lsn)
{
    struct pg_identity server = role_server(system_id);
    struct error err = ERROR_INIT;

    line_close(&r->line);
    assert_ok(line_begin(&r->c, &server, start_lsn, "the first", &r->line, &err), err);
    r->c.line = &r->line;
}

/* Into the spool's file at hand, or a new one that goes on after `after`. */
static inline void role_append(struct line *l, struct position after, struct slice frames, bool seal)
{
    struct spool_header h = {.sequence = spool_sequence(l->spool) + 1,
                             .epoch = 1,
                             .after = after,
                             .source_hash = spool_source_hash(ROLE_SOURCE, l->incarnation.id)};
    struct error err = ERROR_INIT;

    if (!spool_is_begun(l->spool))
        assert_ok(spool_begin(l->spool, &h, &err), err);
    assert_ok(spool_append(l->spool, frames, &err), err);
    if (seal)
        assert_ok(spool_seal(l->spool, &err), err);
}

/* One file with a transaction that commits at `lsn`, after what was there; sealed or not. */
static inline void role_commit(struct line *l, struct position after, uint64_t lsn, uint32_t session, bool seal)
{
    CLEANUP(buf_release) struct buf frames = BUF_INIT((size_t)1 << 20);
    struct frame_part p = {.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT,
                           .xid = 700,
                           .session = session,
                           .commit_start = position_of_lsn(lsn - 8),
                           .position = position_of_lsn(lsn),
                           .commit_time_wall_us = 1750000000000000 + (int64_t)lsn};

    size_t at = frame_begin_part(&frames);
    frame_end_part(&frames, at, &p);
    role_append(l, after, buf_slice(&frames), seal);
}

/* A file that holds nothing but a note. */
static inline void role_note(struct line *l, struct position after)
{
    CLEANUP(buf_release) struct buf frames = BUF_INIT((size_t)1 << 20);
    JSON_AUTO note = json_pack("{s:s,s:s}", "kind", "schema_seen", "at", "0/10");

    frame_put_note(&frames, note);
    role_append(l, after, buf_slice(&frames), true);
}

/* A segment of that number with one commit, as another host would have written it. */
static inline void role_foreign_segment(struct role *r, const char *incarnation, uint64_t sequence, struct position after, uint64_t lsn)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/segment.tmp", r->folder);
    CLEANUP(buf_release) struct buf frames = BUF_INIT((size_t)1 << 20);
    struct frame_part p = {.flags = FRAME_PART_FIRST | FRAME_PART_COMMIT,
                           .xid = 700,
                           .session = 9,
                           .commit_start = position_of_lsn(lsn - 8),
                           .position = position_of_lsn(lsn),
                           .commit_time_wall_us = 1750000000000000 + (int64_t)lsn};
    struct spool_header h = {.sequence = sequence, .epoch = 1, .after = after, .source_hash = spool_source_hash(ROLE_SOURCE, incarnation)};
    struct error err = ERROR_INIT;
    struct digest previous = {0}, digest;
    struct segment_writer *w;
    struct segment_id id;
    char key[VAULT_KEY_BYTES];

    size_t at = frame_begin_part(&frames);
    frame_end_part(&frames, at, &p);
    (void)remove(path);
    assert_ok(segment_writer_new(path, &h, ROLE_SOURCE, incarnation, &previous, 1, &w, &err), err);
    assert_ok(segment_writer_add(w, buf_slice(&frames), &err), err);
    assert_ok(segment_writer_end(w, &id, &digest, &err), err);
    segment_writer_free(w);
    segment_key(key, ROLE_SOURCE, incarnation, &id);
    assert_ok(driver_put_file(r->vaults[0]->driver, key, path, &err), err);
}

#endif
