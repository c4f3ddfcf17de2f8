/*
 * snapshot/take_schema.c - everything but the rows: the schema, the database's properties, globals, sequences, and what
 * the snapshot does not hold.
 *
 * pg_dump runs in a thread while the rows are copied, under the same snapshot; its sessions have a name of their own,
 * by which the watcher knows them as ours. Sequences know no snapshot: they are read last, so that their values are not
 * behind any row.
 */
#include "snapshot/take.h"

#include "base/mem.h"
#include "base/text.h"
#include "capture/large_take.h"

/*
 * pg_dump reads the catalogue by the snapshot, but the server's functions that write out a view or a function look at
 * what is there now. Only if nothing was changed until it had ended, the schema is the snapshot's.
 */
static int check_unchanged(struct take *t, const char *conninfo, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn now = {0};
    CLEANUP(mem_free_ptr) char *touched = NULL, *fingerprint = NULL, *stamp = NULL;
    bool rewritten;

    TRY(pg_connect(conninfo, PG_SESSION_SQL, "snapshot", PG_CONNECT_TIMEOUT_MS, &now, err));
    TRY(pg_execf(&now, PG_QUERY_TIMEOUT_MS, err, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '%s'", t->snapshot));
    TRY(pg_schema_touched(&now, &touched, err));
    TRY(pg_exec(&now, "COMMIT", PG_QUERY_TIMEOUT_MS, err));
    TRY(pg_schema_fingerprint(&now, t->names.schema, &fingerprint, err));
    TRY(pg_schema_stamp(&now, &stamp, err));
    TRY(pg_schema_only_rewritten(&now, touched, &rewritten, err));
    if (strcmp(fingerprint, t->fingerprint) == 0 && strcmp(stamp, t->stamp) == 0 && rewritten)
        return 0;
    return error_set(err, ERROR_BUSY, "the schema was changed while it was read, the snapshot is taken again");
}

static int dump(struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bin = NULL;
    CLEANUP(mem_free_ptr) char *conninfo = NULL;
    const char *keywords[] = {"application_name", NULL}, *values[] = {t->application};

    TRY(pg_tools_find(t->config->pg_bin, (int)t->manifest->server_version, &bin, err));
    TRY(pg_conninfo_with(t->config->protect.conninfo, keywords, values, &conninfo, err));
    TRY(pg_dump_schema(bin, conninfo, t->snapshot, &t->names, &t->dump, &t->sql, err));
    TRY(check_unchanged(t, conninfo, err));
    return pg_dump_globals(bin, conninfo, &t->globals, err);
}

void *take_schema_main(void *take)
{
    struct take *t = take;
    struct error err = ERROR_INIT;

    if (dump(t, &err) < 0)
        take_fail(t, &err);
    (void)pthread_mutex_lock(&t->mutex);
    t->schema_done = true;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
    return NULL;
}

static int take_layout(struct take *t, struct error *err)
{
    CLEANUP(mem_free_ptr) char *text = NULL;

    json_free_ptr(&t->layout);
    TRY(pg_layout(&t->holder, t->names.schema, &text, err));
    return json_parse_bytes(slice_str(text), "the layout", &t->layout, err);
}

int take_database(struct take *t, struct error *err)
{
    struct manifest *m = t->manifest;

    if (!t->config->protect.large_objects_ignored)
        TRY(large_check_rights(&t->holder, err));
    TRY(pg_schema_fingerprint(&t->holder, t->names.schema, &t->fingerprint, err));
    TRY(pg_schema_stamp(&t->holder, &t->stamp, err));
    TRY(take_layout(t, err));
    json_free_ptr(&m->unprotected);
    TRY(pg_unprotected(&t->holder, t->config->protect.large_objects_ignored, &m->unprotected, err));
    json_free_ptr(&m->database);
    return pg_database_properties(&t->holder, &m->database, err);
}

/* Ids of the sequences that the snapshot, and therefore the schema, has; sorted. */
static int sequences_in_snapshot(struct take *t, uint32_t **ret, size_t *ret_count, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(&t->holder, "SELECT oid FROM pg_class WHERE relkind = 'S' ORDER BY oid", NULL, 0, PG_QUERY_TIMEOUT_MS,
                 &r, err));
    size_t n = (size_t)PQntuples(r);
    CLEANUP(mem_free_ptr) uint32_t *ids = mem_zalloc(n, sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        TRY(text_parse_u64(slice_str(PQgetvalue(r, (int)i, 0)), 0, UINT32_MAX, &id, err));
        ids[i] = (uint32_t)id;
    }
    *ret = ids;
    *ret_count = n;
    ids = NULL;
    return 0;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void add_sequence(struct manifest *m, const struct pg_sequence *s)
{
    m->sequences[m->sequences_count++] = (struct snapshot_sequence){
        .id = s->id,
        .schema = mem_strdup(s->schema),
        .name = mem_strdup(s->name),
        .last_value = s->last_value,
        .is_called = s->is_called,
        .increment = s->increment,
    };
}

int take_sequences(struct take *t, struct pg_conn *sql, struct error *err)
{
    CLEANUP(mem_free_ptr) uint32_t *ids = NULL;
    struct pg_sequence *now;
    size_t ids_count, now_count;

    TRY(sequences_in_snapshot(t, &ids, &ids_count, err));
    TRY(pg_sequences(sql, t->names.schema, &now, &now_count, err));
    t->manifest->sequences = mem_zalloc(now_count, sizeof *t->manifest->sequences);
    for (size_t i = 0; i < now_count; i++) {
        if (ids_count > 0 && bsearch(&now[i].id, ids, ids_count, sizeof *ids, by_id))
            add_sequence(t->manifest, &now[i]);
    }
    pg_sequences_free(now, now_count);
    return 0;
}
