/* test/crash/shots.c - see shots.h. */
#include "shots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "os/file.h"
#include "snapshot/rowsort.h"

void shot_release(struct shot *s)
{
    manifest_release(&s->m);
    tombstones_free(s->tombstones);
    *s = (struct shot){0};
}

/* --- its rows ----------------------------------------------------------------------------------------------------- */

struct putting {
    struct vault *vault;
    const struct tombstones *tombstones;
};

static int put_chunk(void *user, const struct chunk_ref *ref, struct buf *stored, struct error *err)
{
    struct putting *p = user;

    return chunk_put(p->vault, STREAM_SOURCE, ref, buf_slice(stored), p->tombstones, err);
}

static int add_rows(struct rowsort_input *in, unsigned table, uint64_t i, struct error *err)
{
    size_t count;
    const char *const *rows = stream_texts(table, i, &count);

    for (size_t k = 0; k < count; k++)
        TRY(rowsort_add(in, slice_str(rows[k]), err));
    return 0;
}

static int sort_rows(struct rowsort *s, unsigned table, uint64_t i, struct error *err)
{
    struct rowsort_input *in;

    TRY(rowsort_open(s, &in, err));
    int rc = add_rows(in, table, i, err);
    if (rc >= 0)
        return rowsort_close(in, err);
    rowsort_abandon(in);
    return rc;
}

static void rowsort_free_ptr(struct rowsort **s) { rowsort_free(*s); }

static int take_table(struct vault *v, const char *sort_folder, unsigned table, uint64_t i, const struct tombstones *avoid, struct snapshot_table *ret,
                      struct error *err)
{
    const struct rowsort_config config = {.directory = sort_folder, .name = table == 0 ? "t" : "n", .relation = stream_relation(table),
                                          .memory_bytes_max = (size_t)1 << 20, .chunk_bytes_target = (size_t)16 << 10, .zstd_level = 1};
    CLEANUP(rowsort_free_ptr) struct rowsort *s = rowsort_new(&config);
    CLEANUP(rowsort_result_release) struct rowsort_result result = {0};
    struct putting p = {.vault = v, .tombstones = avoid};
    const struct rowsort_output out = {.put = put_chunk, .user = &p};

    TRY(sort_rows(s, table, i, err));
    TRY(rowsort_finish(s, &out, &result, err));
    relation_copy(&ret->relation, stream_relation(table));
    ret->rows = result.rows;
    ret->plain_bytes = result.plain_bytes;
    ret->hash = result.hash;
    ret->chunks_count = result.chunks_count;
    ret->chunks = result.chunks;
    result.chunks = NULL;
    result.chunks_count = 0;
    return 0;
}

static int take_tables(struct vault *v, const char *sort_folder, uint64_t i, struct shot *s, struct error *err)
{
    const unsigned first = s->m.renews[0] ? 1 : 0;
    struct manifest *m = &s->m;

    m->tables_count = STREAM_TABLES - first;
    m->tables = mem_zalloc(m->tables_count, sizeof *m->tables);
    for (unsigned t = 0; t < m->tables_count; t++) {
        TRY(take_table(v, sort_folder, first + t, i, s->tombstones, &m->tables[t], err));
        m->rows += m->tables[t].rows;
        m->plain_bytes += m->tables[t].plain_bytes;
        for (uint32_t k = 0; k < m->tables[t].chunks_count; k++)
            m->stored_bytes += m->tables[t].chunks[k].stored_bytes;
    }
    return 0;
}

/* --- from its intent to its manifest ------------------------------------------------------------------------------ */

static int fill_head(struct vault *v, const char *incarnation, uint64_t i, uint64_t renews, struct manifest *m, struct error *err)
{
    char key[POSITION_KEY_BYTES];
    uint32_t salt;

    random_bytes(&salt, sizeof salt);
    m->position = position_of_lsn(stream_end(i));
    (void)snprintf(m->source, sizeof m->source, STREAM_SOURCE);
    (void)snprintf(m->incarnation, sizeof m->incarnation, "%s", incarnation);
    (void)snprintf(m->id, sizeof m->id, "%s-%08x", position_key(m->position, key), salt);
    m->begun_wall_us = m->ended_wall_us = m->position_wall_us = stream_wall_us(i);
    m->server_version = 150018;
    m->base = !renews;
    m->database = json_object();
    m->unprotected = json_array();
    if (!renews)
        return 0;
    TRY(shot_find(v, incarnation, renews, m->renews, err));
    return m->renews[0] ? 0 : error_set(err, ERROR_NOT_FOUND, "there is no snapshot to be renewed");
}

int shot_begin(struct vault *v, const char *sort_folder, const char *incarnation, uint64_t i, uint64_t renews, struct shot *s, struct error *err)
{
    manifest_init(&s->m);
    s->tombstones = tombstones_new();
    TRY(shot_give_up(v, incarnation, i, err));
    TRY(fill_head(v, incarnation, i, renews, &s->m, err));
    TRY(dir_remove_all(sort_folder, err));
    TRY(dir_make_all(sort_folder, 0700, err));
    TRY(snapshot_intent(v, &s->m, err));
    TRY(tombstones_refresh(s->tombstones, v, STREAM_SOURCE, err));
    TRY(take_tables(v, sort_folder, i, s, err));
    s->begun = true;
    return dir_remove_all(sort_folder, err);
}

int shot_commit(struct vault *v, struct shot *s, struct error *err)
{
    const struct slice sql = slice_str("CREATE TABLE t ();\nCREATE TABLE n ();\n");
    struct digest d = digest_of(sql);

    TRY(tombstones_refresh(s->tombstones, v, STREAM_SOURCE, err));
    for (uint32_t t = 0; t < s->m.tables_count; t++)
        for (uint32_t k = 0; k < s->m.tables[t].chunks_count; k++)
            TRY(chunk_secure(v, STREAM_SOURCE, &s->m.tables[t].chunks[k], s->tombstones, err));
    (void)digest_format(&d, s->m.schema_digest);
    TRY(schema_put(v, &s->m, slice_str("a dump"), sql, err));
    return manifest_put(v, &s->m, err);
}

static int is_there(struct vault *v, const char *incarnation, uint64_t i, uint64_t renews, bool *ret, struct error *err)
{
    char id[SNAPSHOT_ID_BYTES], **ids;
    size_t count = 0;

    TRY(shot_find(v, incarnation, renews ? renews : i, id, err));
    *ret = id[0] != '\0';
    if (!renews || !*ret)
        return 0;
    TRY(renewal_list(v, STREAM_SOURCE, incarnation, id, &ids, &count, err));
    for (size_t k = 0; k < count; k++)
        free(ids[k]);
    free(ids);
    *ret = count > 0;
    return 0;
}

int shot_take(struct vault *v, const char *sort_folder, const char *incarnation, uint64_t i, uint64_t renews, struct error *err)
{
    CLEANUP(shot_release) struct shot s = {0};
    bool there;

    TRY(is_there(v, incarnation, i, renews, &there, err));
    if (there)
        return 0;
    TRY(shot_begin(v, sort_folder, incarnation, i, renews, &s, err));
    return shot_commit(v, &s, err);
}

int shot_find(struct vault *v, const char *incarnation, uint64_t i, char id[static SNAPSHOT_ID_BYTES], struct error *err)
{
    struct position p;
    char **ids;
    size_t count;

    id[0] = '\0';
    TRY(snapshot_list(v, STREAM_SOURCE, incarnation, &ids, &count, err));
    for (size_t k = 0; k < count; k++) {
        if (!id[0] && snapshot_position(ids[k], &p, NULL) >= 0 && p.offset == stream_end(i))
            (void)snprintf(id, SNAPSHOT_ID_BYTES, "%s", ids[k]);
        free(ids[k]);
    }
    free(ids);
    return 0;
}

/* --- intents ------------------------------------------------------------------------------------------------------ */

#define SHOTS_MAX 64

struct seeing {
    size_t count, intents, manifests;
    char ids[SHOTS_MAX][SNAPSHOT_ID_BYTES]; /* of intents */
    char done[SHOTS_MAX][SNAPSHOT_ID_BYTES];
};

static int see(void *user, const char *key, uint64_t bytes, struct error *err)
{
    struct seeing *s = user;
    const char *slash = strrchr(key, '/'), *id = slash;

    (void)bytes, (void)err;
    while (id > key && id[-1] != '/')
        id--;
    ASSERT(s->intents < SHOTS_MAX && s->manifests < SHOTS_MAX);
    if (strcmp(slash, "/intent") == 0)
        (void)snprintf(s->ids[s->intents++], SNAPSHOT_ID_BYTES, "%.*s", (int)(slash - id), id);
    else if (strcmp(slash, "/manifest.json.zst") == 0 || strncmp(slash, "/renewal-", 9) == 0)
        (void)snprintf(s->done[s->manifests++], SNAPSHOT_ID_BYTES, "%.*s", (int)(slash - id), id);
    return 0;
}

static bool is_done(const struct seeing *s, const char *id)
{
    for (size_t i = 0; i < s->manifests; i++)
        if (strcmp(s->done[i], id) == 0)
            return true;
    return false;
}

/* The intents that are left in `s` are those without a manifest. */
static int see_all(struct vault *v, const char *incarnation, struct seeing *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *prefix = mem_printf("sources/" STREAM_SOURCE "/%s/snapshots/", incarnation);
    size_t left = 0;

    *s = (struct seeing){0};
    TRY(v->driver->ops->list(v->driver, prefix, see, s, err));
    for (size_t i = 0; i < s->intents; i++)
        if (!is_done(s, s->ids[i]))
            memmove(s->ids[left++], s->ids[i], SNAPSHOT_ID_BYTES);
    s->intents = left;
    return 0;
}

int shot_give_up(struct vault *v, const char *incarnation, uint64_t i, struct error *err)
{
    struct position p;
    struct seeing s;

    TRY(see_all(v, incarnation, &s, err));
    for (size_t k = 0; k < s.intents; k++)
        if (snapshot_position(s.ids[k], &p, NULL) >= 0 && p.offset == stream_end(i))
            TRY(snapshot_intent_remove(v, STREAM_SOURCE, incarnation, s.ids[k], err));
    return 0;
}

int shot_intents(struct vault *v, const char *incarnation, size_t *ret, struct error *err)
{
    struct seeing s;

    TRY(see_all(v, incarnation, &s, err));
    *ret = s.intents;
    return 0;
}
