/*
 * recover/bridge_capture.c - what is read of a capture of the schema: the layout of its tables, sequences, properties, the dump.
 *
 * Each capture that bridge_choose.c names stands for the target as well as the others. One that cannot be read is told of, and the next one is tried.
 */
#include "base/mem.h"
#include "recover/bridge_internal.h"
#include "recover/plan.h"

static int read_sequence(const json_t *j, struct snapshot_sequence *s, struct error *err)
{
    CLEANUP(buf_release) struct buf name = BUF_INIT(RELATION_NAME_BYTES_MAX);
    uint64_t id;

    TRY(json_get_u64(j, "id", "a sequence", &id, err));
    s->id = (uint32_t)id;
    TRY(json_get_bytes(j, "schema", "a sequence", &name, err));
    s->schema = mem_strndup(buf_cstr(&name), name.n);
    buf_clear(&name);
    TRY(json_get_bytes(j, "name", "a sequence", &name, err));
    s->name = mem_strndup(buf_cstr(&name), name.n);
    TRY(json_get_i64(j, "last_value", "a sequence", &s->last_value, err));
    TRY(json_get_bool(j, "is_called", "a sequence", &s->is_called, err));
    return json_get_i64(j, "increment", "a sequence", &s->increment, err);
}

/* Those that the snapshot has go on from its values. */
static void take_values(const struct manifest *from, struct snapshot_sequence *s)
{
    for (uint32_t i = 0; i < from->sequences_count; i++)
        if (from->sequences[i].id == s->id) {
            s->last_value = from->sequences[i].last_value;
            s->is_called = from->sequences[i].is_called;
        }
}

static int read_sequences(const json_t *state, const struct manifest *from, struct manifest *to, struct error *err)
{
    json_t *list;

    TRY(json_get_array(state, "sequences", "the schema's state", &list, err));
    to->sequences = mem_zalloc(json_array_size(list) + 1, sizeof *to->sequences);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct snapshot_sequence *s = &to->sequences[to->sequences_count++];

        TRY(read_sequence(json_array_get(list, i), s, err));
        take_values(from, s);
    }
    return 0;
}

/* A later snapshot's manifest has them itself. */
static void take_sequences(const struct manifest *capture, const struct manifest *from, struct manifest *to)
{
    to->sequences = mem_zalloc((size_t)capture->sequences_count + 1, sizeof *to->sequences);
    for (uint32_t i = 0; i < capture->sequences_count; i++) {
        struct snapshot_sequence *s = &to->sequences[to->sequences_count++];

        *s = capture->sequences[i];
        s->schema = mem_strdup(s->schema);
        s->name = mem_strdup(s->name);
        take_values(from, s);
    }
}

static int read_layout(struct vault *v, const struct manifest *m, json_t **ret_state, struct layout *ret, struct error *err)
{
    TRY(schema_get_state(v, m, ret_state, err));
    return layout_read(json_object_get(*ret_state, "layout"), false, ret, err);
}

static bool is_unreadable(int rc) { return rc == -ERROR_NOT_FOUND || rc == -ERROR_CORRUPT; }

int bridge_read_beginning(const struct bridge_config *c, const struct manifest *from, struct layout *ret, struct error *err)
{
    struct error why = ERROR_INIT;
    JSON_AUTO state = NULL;
    int rc = read_layout(c->vault, from, &state, ret, &why);

    if (is_unreadable(rc))
        return error_set(err, ERROR_REFUSED, "the layout of the tables in the snapshot is not there, or cannot be read: %.400s", why.message);
    if (rc < 0)
        *err = why;
    return rc;
}

static int read_rest(const struct capture_choice *choice, const json_t *state, const struct manifest *from, struct manifest *next,
                     struct error *err)
{
    const json_t *database = choice->is_snapshot ? choice->at.database : json_object_get(state, "database");

    if (!json_is_object(database))
        return error_set(err, ERROR_CORRUPT, "it does not say what the database was");
    json_decref(next->database);
    next->database = json_deep_copy(database);
    if (!choice->is_snapshot)
        return read_sequences(state, from, next, err);
    take_sequences(&choice->at, from, next);
    return 0;
}

void bridge_capture_init(struct capture_read *r, size_t dump_bytes_max)
{
    *r = (struct capture_read){.dump = BUF_INIT(dump_bytes_max)};
    manifest_init(&r->choice.at);
    manifest_init(&r->next);
}

void bridge_capture_release(struct capture_read *r)
{
    manifest_release(&r->choice.at);
    layout_release(&r->layout);
    manifest_release(&r->next);
    buf_release(&r->dump);
}

static int read_all(const struct bridge_config *c, const struct manifest *from, struct capture_read *r, struct error *err)
{
    JSON_AUTO state = NULL;

    TRY(read_layout(c->vault, &r->choice.at, &state, &r->layout, err));
    TRY(read_rest(&r->choice, state, from, &r->next, err));
    return schema_get_dump(c->vault, &r->choice.at, &r->dump, err);
}

static void tell_unreadable(const struct bridge_config *c, const struct capture_choice *choice, const struct error *why)
{
    char at[POSITION_TEXT_BYTES];

    if (*choice->at.id)
        plan_warn(c->warnings, "the schema in snapshot %s is passed over: %s", choice->at.id, why->message);
    else
        plan_warn(c->warnings, "the capture of the schema at %s is passed over: %s", position_format(choice->at.position, at), why->message);
}

/* The next one, whole. 0: there is none any more. */
static int read_next(const struct bridge_config *c, struct captures *k, const struct manifest *from, struct capture_read *r, struct error *err)
{
    size_t dump_bytes_max = r->dump.max;

    bridge_capture_release(r);
    bridge_capture_init(r, dump_bytes_max);
    int rc = bridge_captures_next(c, k, &r->choice, err);
    if (rc <= 0)
        return rc;
    TRY(read_all(c, from, r, err));
    return 1;
}

int bridge_capture_read(const struct bridge_config *c, struct captures *k, const struct manifest *from, struct capture_read *r, struct error *err)
{
    struct error first = ERROR_INIT;
    char target[POSITION_TEXT_BYTES];

    for (;;) {
        struct error why = ERROR_INIT;
        int rc = read_next(c, k, from, r, &why);

        if (rc > 0)
            return 0;
        if (rc == 0 && first.code == ERROR_NONE)
            return bridge_refuse_uncaptured(c, err);
        if (rc == 0)
            return error_set(err, ERROR_REFUSED, "the schema as it was at %s cannot be read: %.400s", position_format(c->target, target), first.message);
        if (!is_unreadable(rc)) {
            *err = why;
            return rc;
        }
        tell_unreadable(c, &r->choice, &why);
        if (first.code == ERROR_NONE)
            first = why;
    }
}

static void captures_free(struct captures **k) { bridge_captures_free(*k); }

bool bridge_has_capture(const struct bridge_config *config, const struct manifest *from)
{
    CLEANUP(captures_free) struct captures *captures = NULL;
    CLEANUP(bridge_capture_release) struct capture_read r;
    struct error ignored = ERROR_INIT;

    bridge_capture_init(&r, 0);
    if (bridge_captures(config, from, &captures, &ignored) < 0)
        return false;
    int rc = bridge_captures_next(config, captures, &r.choice, &ignored);
    return rc > 0 || is_unreadable(rc);
}
