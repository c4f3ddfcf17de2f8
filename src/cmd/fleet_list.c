/*
 * cmd/fleet_list.c - STATE/<group>/databases.json: which databases `*` stands for, as the server said last.
 *
 * Replaced durably. Should it be lost, the next look at the server makes it again: names are made from the databases' own, so that all but
 * the renamed ones are the same sources as before.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "cmd/fleet.h"
#include "os/file.h"

#define LIST_BYTES_MAX ((size_t)16 << 20)
#define SALT_MAX 1000u

static void member_release(struct fleet_member *m)
{
    free(m->source);
    free(m->database);
    free(m->problem);
}

void fleet_list_release(struct fleet_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        member_release(&l->members[i]);
    free(l->members);
    free(l->system_id);
    *l = (struct fleet_list){0};
}

struct fleet_member *fleet_list_find(const struct fleet_list *l, const char *source)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->members[i].source, source) == 0)
            return &l->members[i];
    return NULL;
}

/* --- the file -------------------------------------------------------------------------------------------------------- */

static int read_member(const json_t *j, const char *path, struct fleet_list *l, struct error *err)
{
    CLEANUP(buf_release) struct buf database = BUF_INIT(256);
    const char *source;
    uint64_t oid;
    struct fleet_member m = {0};

    TRY(json_get_str(j, "source", path, &source, err));
    TRY(json_get_bytes(j, "database", path, &database, err));
    TRY(json_get_u64(j, "oid", path, &oid, err));
    TRY(json_get_i64(j, "seen_wall_us", path, &m.seen_wall_us, err));
    TRY(json_get_i64(j, "gone_wall_us", path, &m.gone_wall_us, err));
    TRY(json_get_bool(j, "set_up", path, &m.set_up, err));
    TRY(json_get_bool(j, "taken_down", path, &m.taken_down, err));
    if (!text_is_name(source) || oid > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, "%s: '%s' is no source of a group", path, source);
    MEM_GROW(l->members, l->cap, l->count);
    m.oid = (uint32_t)oid;
    m.source = mem_strdup(source);
    m.database = mem_strdup(buf_cstr(&database));
    m.problem = mem_strdup(json_string_value(json_object_get(j, "problem")));
    l->members[l->count++] = m;
    return 0;
}

int fleet_list_load(const char *path, struct fleet_list *ret, struct error *err)
{
    CLEANUP(fleet_list_release) struct fleet_list l = {0};
    CLEANUP(buf_release) struct buf text = BUF_INIT(LIST_BYTES_MAX);
    JSON_AUTO j = NULL;
    json_t *array, *one;
    size_t i;

    *ret = l;
    if (!file_exists(path))
        return 0;
    TRY(file_read_all(path, LIST_BYTES_MAX, &text, err));
    TRY(json_parse(buf_slice(&text), path, &j, err));
    TRY(json_get_array(j, "databases", path, &array, err));
    l.system_id = mem_strdup(json_string_value(json_object_get(j, "system_id")));
    json_array_foreach(array, i, one)
        TRY(read_member(one, path, &l, err));
    *ret = l;
    l = (struct fleet_list){0};
    return 0;
}

int fleet_list_store(const char *path, const struct fleet_list *l, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(LIST_BYTES_MAX);
    JSON_AUTO j = json_object();
    json_t *array = json_array();

    json_set_str(j, "system_id", l->system_id);
    json_object_set_new(j, "databases", array);
    for (size_t i = 0; i < l->count; i++) {
        const struct fleet_member *m = &l->members[i];
        json_t *one = json_object();

        json_array_append_new(array, one);
        json_set_str(one, "source", m->source);
        json_object_set_new(one, "database", json_bytes(slice_str(m->database)));
        json_set_u64(one, "oid", m->oid);
        json_set_i64(one, "seen_wall_us", m->seen_wall_us);
        json_set_i64(one, "gone_wall_us", m->gone_wall_us);
        json_set_bool(one, "set_up", m->set_up);
        json_set_bool(one, "taken_down", m->taken_down);
        json_object_set_new(one, "problem", m->problem ? json_bytes(slice_str(m->problem)) : json_null());
    }
    json_dump(j, &text);
    if (text.overflow)
        return error_set(err, ERROR_LIMIT, "%s would be larger than %zu bytes", path, LIST_BYTES_MAX);
    return file_replace(path, buf_slice(&text), 0600, err);
}

/* --- what the server has ---------------------------------------------------------------------------------------------- */

struct merge {
    struct fleet_list *l;
    const struct config_section *group;
    const struct fleet_database *have;
    size_t count;
    bool *matched; /* of each in `have`: it is in the list */
    bool (*taken)(void *user, const char *name);
    fleet_tell_fn tell;
    void *user;
    int64_t now_wall_us;
    bool changed;
};

static void told(struct merge *m, enum fleet_news news, const struct fleet_member *member, const char *old_database)
{
    m->changed = true;
    m->tell(m->user, news, member, old_database);
}

static void match_oid(struct merge *m, struct fleet_member *member, bool *ret_found)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->have[i].oid != member->oid)
            continue;
        m->matched[i] = *ret_found = true;
        m->changed |= member->gone_wall_us != 0;
        member->gone_wall_us = 0;
        if (strcmp(m->have[i].name, member->database) == 0)
            return;
        CLEANUP(mem_free_ptr) char *old = member->database;
        member->database = mem_strdup(m->have[i].name);
        told(m, FLEET_RENAMED, member, old);
        return;
    }
}

/* Not there by its oid: dropped, and perhaps made again. */
static void match_name(struct merge *m, struct fleet_member *member)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->matched[i] || m->have[i].closed || strcmp(m->have[i].name, member->database) != 0)
            continue;
        m->matched[i] = true;
        member->oid = m->have[i].oid;
        member->gone_wall_us = 0;
        member->set_up = member->taken_down = false;
        free(member->problem);
        member->problem = NULL;
        told(m, FLEET_MADE_AGAIN, member, NULL);
        return;
    }
    if (member->gone_wall_us)
        return;
    member->gone_wall_us = m->now_wall_us;
    told(m, FLEET_GONE, member, NULL);
}

static char *free_name(const struct merge *m, const char *database)
{
    for (uint32_t salt = 0; salt < SALT_MAX; salt++) {
        char *name = fleet_source_name(m->group->name, database, salt);
        if (!fleet_list_find(m->l, name) && !m->taken(m->user, name))
            return name;
        free(name);
    }
    ASSERT(!"a thousand digests in a row are taken");
    return NULL;
}

static void add_member(struct merge *m, const struct fleet_database *d)
{
    struct fleet_list *l = m->l;

    MEM_GROW(l->members, l->cap, l->count);
    l->members[l->count] = (struct fleet_member){.source = free_name(m, d->name),
                                                 .database = mem_strdup(d->name),
                                                 .oid = d->oid,
                                                 .seen_wall_us = m->now_wall_us};
    l->count++;
    told(m, FLEET_NEW, &l->members[l->count - 1], NULL);
}

bool fleet_list_merge(struct fleet_list *l, const struct config_section *group, const struct fleet_database *have, size_t count,
                      bool (*taken)(void *user, const char *name), fleet_tell_fn tell, void *user, int64_t now_wall_us)
{
    CLEANUP(mem_free_ptr) bool *matched = mem_zalloc(count + 1, sizeof *matched);
    CLEANUP(mem_free_ptr) bool *found = mem_zalloc(l->count + 1, sizeof *found);
    CLEANUP(fleet_wish_release) struct fleet_wish wish = {0};
    struct merge m = {.l = l, .group = group, .have = have, .count = count, .matched = matched, .taken = taken, .tell = tell,
                      .user = user, .now_wall_us = now_wall_us};
    struct error ignored = ERROR_INIT;
    size_t before = l->count;
    int checked = fleet_wish_parse(config_text(group, OPTION_DATABASES), &wish, &ignored);

    ASSERT(checked >= 0); /* at load */
    for (size_t i = 0; i < before; i++)
        match_oid(&m, &l->members[i], &found[i]);
    for (size_t i = 0; i < before; i++)
        if (!found[i])
            match_name(&m, &l->members[i]);
    for (size_t i = 0; i < count; i++)
        if (!matched[i] && !have[i].closed && !have[i].own && fleet_wish_has(&wish, have[i].name))
            add_member(&m, &have[i]);
    return m.changed;
}
