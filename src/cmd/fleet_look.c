/*
 * cmd/fleet_look.c - asks a server which databases it has, and keeps the list of a group with `*` right.
 *
 * Who looks is `salvor run` all the time, and `setup` and `check` of the group when a person runs them: a lock keeps them from writing
 * over each other. The server is asked in the database that the group's conninfo names, else in `postgres`.
 */
#include "cmd/fleet.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/journaled.h"
#include "engine/postgres/pg_conn.h"
#include "os/file.h"

#define LOCK_PATIENCE_US (20 * CLOCK_US_PER_S)
#define LOCK_PAUSE_MS 20

static const char list_query[] = "SELECT oid::text, datname, datallowconn AND NOT datistemplate FROM pg_database ORDER BY datname";

/* The slots that are ours already count as had: theirs are taken. */
static const char room_query[] =
    "SELECT current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots),"
    " current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')";

/* --- asking ------------------------------------------------------------------------------------------------------------ */

static int connect_group(const struct config_section *group, struct pg_conn *ret, struct error *err)
{
    const char *conninfo = config_text(group, OPTION_CONNINFO), *keywords[] = {"dbname", NULL}, *values[] = {"postgres"};
    CLEANUP(mem_free_ptr) char *dbname = NULL, *other = NULL;

    TRY(pg_conninfo_value(conninfo, "dbname", &dbname, err));
    if (!dbname)
        TRY(pg_conninfo_with(conninfo, keywords, values, &other, err));
    return pg_connect(other ? other : conninfo, PG_SESSION_SQL, "databases", PG_CONNECT_TIMEOUT_MS, ret, err);
}

/* NULL: the role may not ask. */
static int ask_system_id(struct pg_conn *sql, char **ret, struct error *err)
{
    int rc = pg_query_value(sql, "SELECT system_identifier::text FROM pg_control_system()", PG_QUERY_TIMEOUT_MS, ret, err);

    return rc < 0 && strcmp(err->sqlstate, "42501") == 0 ? 0 : rc;
}

struct answer {
    char *system_id;
    struct fleet_database *databases;
    size_t count;
};

static void answer_release(struct answer *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->databases[i].name);
    free(a->databases);
    free(a->system_id);
}

static int ask(const struct config *c, const struct config_section *group, struct answer *ret, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn sql = {0};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(connect_group(group, &sql, err));
    TRY(ask_system_id(&sql, &ret->system_id, err));
    TRY(pg_query(&sql, list_query, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    ret->databases = mem_zalloc((size_t)PQntuples(r) + 1, sizeof *ret->databases);
    for (int i = 0; i < PQntuples(r); i++) {
        struct fleet_database *d = &ret->databases[ret->count++];

        d->oid = (uint32_t)strtoul(PQgetvalue(r, i, 0), NULL, 10);
        d->name = mem_strdup(PQgetvalue(r, i, 1));
        d->closed = PQgetvalue(r, i, 2)[0] != 't';
        d->own = fleet_own_section(c, group, d->name) != NULL;
    }
    return 0;
}

/* --- writing it down --------------------------------------------------------------------------------------------------- */

static int lock_list(const struct config *c, const struct config_section *group, struct file *lock, struct error *err)
{
    CLEANUP(mem_free_ptr) char *directory = config_source_state(c, group);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/databases.lock", directory);
    int64_t deadline_us = clock_mono_us() + LOCK_PATIENCE_US;
    int rc;

    TRY(dir_make_all(directory, 0700, err));
    while ((rc = lock_take(lock, path, err)) == -ERROR_BUSY && clock_mono_us() < deadline_us)
        clock_sleep_ms(LOCK_PAUSE_MS);
    return rc;
}

struct teller {
    const struct config *config;
    const struct config_section *group;
};

static void put_journal(const struct teller *t, const char *kind, const struct fleet_member *m, const char *old)
{
    json_t *members = json_object();

    json_object_set_new(members, "database", json_bytes(slice_str(m->database)));
    if (old)
        json_object_set_new(members, "was", json_bytes(slice_str(old)));
    journaled_add(t->config, kind, m->source, members);
}

static void tell(void *user, enum fleet_news news, const struct fleet_member *m, const char *old_database)
{
    const struct teller *t = user;

    switch (news) {
    case FLEET_NEW:
        log_info("%s: the database %s is one of it from now on: source %s", t->group->name, m->database, m->source);
        put_journal(t, "database_seen", m, NULL);
        return;
    case FLEET_GONE:
        log_error("ALERT: %s: the database %s was dropped: nothing of it is captured any more, and what the vault has stays: `salvor recover %s/%s` "
                  "gets it back. If that was meant, leave it out: databases = *, !\"%s\"",
                  t->group->name, m->database, t->group->name, m->database, m->database);
        put_journal(t, "database_gone", m, NULL);
        return;
    case FLEET_RENAMED:
        log_warn("%s: the database %s is called %s now; it stays the source %s", t->group->name, old_database, m->database, m->source);
        put_journal(t, "database_renamed", m, old_database);
        return;
    case FLEET_MADE_AGAIN:
        log_warn("%s: the database %s was dropped and made again: the next incarnation of %s", t->group->name, m->database, m->source);
        put_journal(t, "database_made_again", m, NULL);
        return;
    }
}

static bool is_taken(void *user, const char *name)
{
    const struct teller *t = user;

    for (size_t i = 0; i < t->config->sources_count; i++)
        if (strcmp(t->config->sources[i].name, name) == 0)
            return true;
    return false;
}

static int check_server(const struct config_section *group, const struct fleet_list *list, const struct answer *a, struct error *err)
{
    if (!list->system_id || !a->system_id || strcmp(list->system_id, a->system_id) == 0)
        return 0;
    return error_set(err, ERROR_REFUSED,
                     "another server answers (system identifier %s, not %s): none of its databases is taken up by itself. If it is the one to protect "
                     "from now on, run `salvor setup %s`", a->system_id, list->system_id, group->name);
}

int fleet_look(const struct config *c, const struct config_section *group, bool adopt, bool *ret_changed, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = fleet_list_path(c, group);
    CLEANUP(fleet_list_release) struct fleet_list list = {0};
    CLEANUP(answer_release) struct answer a = {0};
    CLEANUP(file_release) struct file lock = FILE_INIT;
    struct teller t = {.config = c, .group = group};

    *ret_changed = false;
    if (ask(c, group, &a, err) < 0)
        return error_prefix(err, "[source %s]: its server cannot be asked for its databases", group->name);
    TRY(lock_list(c, group, &lock, err));
    TRY(fleet_list_load(path, &list, err));
    if (!adopt)
        TRY(check_server(group, &list, &a, err));
    bool other = a.system_id && (!list.system_id || strcmp(list.system_id, a.system_id) != 0);
    bool changed = fleet_list_merge(&list, group, a.databases, a.count, is_taken, tell, &t, clock_wall_us());
    if (!changed && !other)
        return 0;
    if (other) {
        free(list.system_id);
        list.system_id = mem_strdup(a.system_id);
    }
    TRY(fleet_list_store(path, &list, err));
    *ret_changed = changed;
    return 0;
}

/* What is known of one database is written down. problem NULL: it is set up, or (taken_down) a person takes it down. */
static int note(const struct config *c, const struct config_section *source, const char *problem, bool taken_down, struct error *err)
{
    CLEANUP(fleet_list_release) struct fleet_list list = {0};
    CLEANUP(file_release) struct file lock = FILE_INIT;

    if (!source->group || !fleet_is_open(source->group))
        return 0;
    CLEANUP(mem_free_ptr) char *path = fleet_list_path(c, source->group);
    TRY(lock_list(c, source->group, &lock, err));
    TRY(fleet_list_load(path, &list, err));
    struct fleet_member *m = fleet_list_find(&list, source->name);
    if (!m || (problem && m->problem && strcmp(problem, m->problem) == 0))
        return 0;
    free(m->problem);
    m->problem = mem_strdup(problem);
    m->set_up |= problem == NULL;
    m->taken_down = taken_down;
    return fleet_list_store(path, &list, err);
}

int fleet_was_set_up(const struct config *c, const struct config_section *source, const char *problem, struct error *err)
{
    return note(c, source, problem, false, err);
}

int fleet_is_taken_down(const struct config *c, const struct config_section *source, struct error *err)
{
    return note(c, source, NULL, true, err);
}

int fleet_config_load(const char *path, const char *name, struct config *ret, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(mem_free_ptr) char *wanted = name ? mem_strndup(name, strcspn(name, "/")) : NULL;
    bool changed = false, any = false;

    TRY(config_load(path, &c, err));
    for (size_t i = 0; i < c.groups_count; i++) {
        if (!fleet_is_open(&c.groups[i]) || (wanted && strcmp(wanted, c.groups[i].name) != 0))
            continue;
        TRY(fleet_look(&c, &c.groups[i], true, &changed, err));
        any |= changed;
    }
    if (!any) {
        *ret = c;
        c = (struct config){0};
        return 0;
    }
    return config_load(path, ret, err);
}

/* --- room -------------------------------------------------------------------------------------------------------------- */

static int count_own_slots(struct pg_conn *sql, const struct config *c, const struct config_section *group, struct fleet_room *room, struct error *err)
{
    for (size_t i = 0; i < c->sources_count; i++) {
        const struct config_section *s = &c->sources[i];
        CLEANUP(pg_result_free) PGresult *r = NULL;
        struct pg_names names;

        if (s->group != group || s->gone)
            continue;
        pg_names_of(s->name, &names);
        const char *params[] = {names.slot};
        TRY(pg_query(sql, "SELECT FROM pg_replication_slots WHERE slot_name = $1", params, 1, PG_QUERY_TIMEOUT_MS, &r, err));
        room->databases++;
        room->slots_had += PQntuples(r) > 0;
    }
    room->slots_needed = room->databases - room->slots_had;
    return 0;
}

static uint32_t number_at(const PGresult *r, int column)
{
    return (uint32_t)strtoul(PQgetvalue(r, 0, column), NULL, 10);
}

int fleet_room(const struct config *c, const struct config_section *group, struct fleet_room *ret, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn sql = {0};
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct fleet_room room = {0};

    TRY(connect_group(group, &sql, err));
    TRY(count_own_slots(&sql, c, group, &room, err));
    TRY(pg_query(&sql, room_query, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    uint32_t slots_used = number_at(r, 1), senders_used = number_at(r, 3);
    room.slots_max = number_at(r, 0);
    room.senders_max = number_at(r, 2);
    room.slots_free = room.slots_max > slots_used ? room.slots_max - slots_used : 0;
    room.senders_free = room.senders_max > senders_used ? room.senders_max - senders_used : 0;
    *ret = room;
    return 0;
}
