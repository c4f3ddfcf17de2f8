/*
 * cmd/fleet.c - groups are taken apart when the configuration is read: one ordinary source for each database.
 *
 * Each gets the group's options, the conninfo with its own dbname, and its own folder below the target's directory. Names of other
 * sections that begin with GROUP__ are the group's too: such a section is one of its databases, with settings of its own.
 */
#include "cmd/fleet.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "engine/postgres/pg_conn.h"

static bool is_group(const struct config_section *s)
{
    return s->kind == SECTION_SOURCE && config_text(s, OPTION_DATABASES);
}

static void wish_of(const struct config_section *group, struct fleet_wish *ret)
{
    struct error ignored = ERROR_INIT;
    int parsed = fleet_wish_parse(config_text(group, OPTION_DATABASES), ret, &ignored);

    ASSERT(parsed >= 0); /* at load */
}

bool fleet_is_open(const struct config_section *group)
{
    struct fleet_wish w;

    wish_of(group, &w);
    bool open = w.all;
    fleet_wish_release(&w);
    return open;
}

const struct config_section *fleet_group(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->groups_count; i++)
        if (strcmp(c->groups[i].name, name) == 0)
            return &c->groups[i];
    return NULL;
}

char *fleet_list_path(const struct config *c, const struct config_section *group)
{
    return mem_printf("%s/%s/databases.json", config_text(&c->salvor, OPTION_STATE), group->name);
}

char *fleet_said(const struct config_section *source)
{
    return source->group ? mem_printf("%s/%s", source->group->name, source->database) : mem_strdup(source->name);
}

/* --- what is checked before -------------------------------------------------------------------------------------------- */

static bool belongs_to(const char *name, const char *group)
{
    size_t n = strlen(group);

    return strncmp(name, group, n) == 0 && strncmp(name + n, FLEET_PARTED, sizeof FLEET_PARTED - 1) == 0;
}

const struct config_section *fleet_own_section(const struct config *c, const struct config_section *group, const char *database)
{
    for (size_t i = 0; i < c->sources_count; i++) {
        const struct config_section *s = &c->sources[i];
        CLEANUP(mem_free_ptr) char *dbname = NULL;

        if (!s->group && belongs_to(s->name, group->name) && config_text(s, OPTION_CONNINFO) &&
            pg_conninfo_value(config_text(s, OPTION_CONNINFO), "dbname", &dbname, NULL) >= 0 && dbname && strcmp(dbname, database) == 0)
            return s;
    }
    return NULL;
}

static int check_group(const struct config *c, const struct config_section *g, struct error *err)
{
    size_t n = strlen(g->name);

    if (n > FLEET_GROUP_BYTES_MAX || g->name[n - 1] == '_')
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] has databases, so its name may have %d characters at most and not end in _", c->path, g->line,
                         g->name, FLEET_GROUP_BYTES_MAX);
    if (fleet_is_open(g) && !config_text(g, OPTION_CONNINFO))
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] has databases = * and no conninfo: who should be asked for them?", c->path, g->line, g->name);
    if (config_number(g, OPTION_TARGET_PORT) != 0)
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] has databases, whose targets cannot all have one target_port: leave it out, or give [source %s"
                         FLEET_PARTED "DATABASE] a section of its own", c->path, g->values[OPTION_TARGET_PORT].line, g->name, g->name);
    return 0;
}

/* Who has a name that begins as the databases of a group do must be one of them. */
static int check_name(const struct config *c, const struct config_section *g, const struct config_section *s, struct error *err)
{
    CLEANUP(mem_free_ptr) char *dbname = NULL;

    if (!belongs_to(s->name, g->name))
        return 0;
    if (is_group(s))
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] begins as the databases of [source %s] do: name one of them otherwise", c->path, s->line,
                         s->name, g->name);
    if (!config_text(s, OPTION_CONNINFO))
        return 0; /* only recovered from */
    TRY(pg_conninfo_value(config_text(s, OPTION_CONNINFO), "dbname", &dbname, err));
    if (!dbname)
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] is one of the databases of [source %s] by its name: say which by dbname in its conninfo, or name it otherwise",
                         c->path, s->line, s->name, g->name);
    return 0;
}

static int check_groups(const struct config *c, struct error *err)
{
    for (size_t i = 0; i < c->sources_count; i++) {
        if (!is_group(&c->sources[i]))
            continue;
        TRY(check_group(c, &c->sources[i], err));
        for (size_t k = 0; k < c->sources_count; k++)
            TRY(check_name(c, &c->sources[i], &c->sources[k], err));
    }
    return 0;
}

/* --- taking apart ------------------------------------------------------------------------------------------------------ */

static void set_value(struct config_section *s, enum option_id id, char *text, const char *origin)
{
    free(s->values[id].text);
    s->values[id].text = text;
    s->values[id].origin = origin;
}

static int fill_member(const struct config_section *group, struct config_section *s, struct error *err)
{
    const char *conninfo = config_text(group, OPTION_CONNINFO), *target = config_text(group, OPTION_TARGET);
    const char *keywords[] = {"dbname", NULL}, *values[] = {s->database};
    char *own;

    for (int i = 0; i < OPTION_COUNT_; i++) {
        if (options[i].section != SECTION_SOURCE || i == OPTION_DATABASES)
            continue;
        set_value(s, (enum option_id)i, mem_strdup(group->values[i].text), NULL);
        s->values[i].line = group->values[i].line;
    }
    if (conninfo) {
        TRY(pg_conninfo_with(conninfo, keywords, values, &own, err));
        set_value(s, OPTION_CONNINFO, own, "with the dbname of this database");
    }
    if (target)
        set_value(s, OPTION_TARGET, mem_printf("%s/%s", target, s->name + strlen(group->name) + sizeof FLEET_PARTED - 1), "a folder below it for this database");
    return 0;
}

static int add_member(struct config *c, const struct config_section *group, const char *name, const char *database,
                      const struct fleet_member *m, struct error *err)
{
    c->sources = mem_resize(c->sources, c->sources_count + 1, sizeof *c->sources);
    struct config_section *s = &c->sources[c->sources_count++];
    config_section_init(s, SECTION_SOURCE, name, group->line);
    s->group = group;
    s->database = mem_strdup(database);
    if (m && m->gone_wall_us) {
        s->gone = true;
        s->problem = mem_printf("the server has no database %s any more: it was dropped. What is in the vault stays recoverable", database);
    } else if (m && m->taken_down) {
        s->taken_down = true;
        s->problem = mem_printf("it was taken down; `salvor setup %s/%s` protects it again", group->name, database);
    } else if (m && !m->set_up) {
        s->to_set_up = true;
        s->problem = m->problem ? mem_printf("it is not set up: %s", m->problem) : mem_strdup("it is not set up yet");
    }
    return fill_member(group, s, err);
}

static bool has_source(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->sources_count; i++)
        if (strcmp(c->sources[i].name, name) == 0)
            return true;
    return false;
}

/* databases = shop, crm: who is meant is known without asking anybody. */
static int expand_named(struct config *c, const struct config_section *group, const struct fleet_wish *w, struct error *err)
{
    for (size_t i = 0; i < w->count; i++) {
        if (fleet_own_section(c, group, w->names[i]))
            continue;
        uint32_t salt = 0;
        char *name = fleet_source_name(group->name, w->names[i], salt);
        while (has_source(c, name)) {
            free(name);
            name = fleet_source_name(group->name, w->names[i], ++salt);
        }
        int result = add_member(c, group, name, w->names[i], NULL, err);
        free(name);
        TRY(result);
    }
    return 0;
}

static int expand_open(struct config *c, const struct config_section *group, const struct fleet_wish *w, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = fleet_list_path(c, group);
    CLEANUP(fleet_list_release) struct fleet_list list = {0};

    if (fleet_list_load(path, &list, err) < 0)
        return error_prefix(err, "the databases of [source %s] (remove the file and they are looked up anew)", group->name);
    for (size_t i = 0; i < list.count; i++) {
        const struct fleet_member *m = &list.members[i];
        if (fleet_wish_has(w, m->database) && !fleet_own_section(c, group, m->database) && !has_source(c, m->source))
            TRY(add_member(c, group, m->source, m->database, m, err));
    }
    return 0;
}

/* Groups out of the sources; the others stay, in their order. */
static void part(struct config *c)
{
    size_t kept = 0;

    for (size_t i = 0; i < c->sources_count; i++) {
        if (!is_group(&c->sources[i])) {
            c->sources[kept++] = c->sources[i];
            continue;
        }
        c->groups = mem_resize(c->groups, c->groups_count + 1, sizeof *c->groups);
        c->groups[c->groups_count++] = c->sources[i];
    }
    c->sources_count = kept;
}

int fleet_expand(struct config *c, struct error *err)
{
    TRY(check_groups(c, err));
    part(c);
    for (size_t i = 0; i < c->groups_count; i++) {
        CLEANUP(fleet_wish_release) struct fleet_wish w = {0};

        wish_of(&c->groups[i], &w);
        TRY(w.all ? expand_open(c, &c->groups[i], &w, err) : expand_named(c, &c->groups[i], &w, err));
    }
    return 0;
}

/* --- selecting --------------------------------------------------------------------------------------------------------- */

void fleet_selection_release(struct fleet_selection *s)
{
    free(s->sources);
    *s = (struct fleet_selection){0};
}

/* fleet (all of it), fleet/shop, fleet__shop, shop */
static bool is_meant(const struct config *c, const struct config_section *s, const char *name, size_t group_bytes)
{
    if (!name || strcmp(s->name, name) == 0)
        return true;
    const struct config_section *group = s->group;
    for (size_t i = 0; !group && i < c->groups_count; i++) /* a section of its own */
        if (belongs_to(s->name, c->groups[i].name))
            group = &c->groups[i];
    if (!group || strlen(group->name) != group_bytes || strncmp(group->name, name, group_bytes) != 0)
        return false;
    if (name[group_bytes] == '\0')
        return true;
    const char *database = name + group_bytes + 1;
    if (s->database)
        return strcmp(s->database, database) == 0;
    CLEANUP(mem_free_ptr) char *usual = fleet_source_name(group->name, database, 0);
    if (config_text(s, OPTION_CONNINFO))
        return fleet_own_section(c, group, database) == s;
    return strcmp(usual, s->name) == 0; /* only recovered from: its name is all that is known */
}

bool fleet_is_known(const struct config *c, const struct config_section *group)
{
    for (size_t i = 0; i < c->sources_count; i++)
        if (c->sources[i].group == group)
            return true;
    return false;
}

int fleet_select(const struct config *c, const char *name, struct fleet_selection *ret, struct error *err)
{
    struct fleet_selection s = {.sources = mem_zalloc(c->sources_count + 1, sizeof *s.sources)};
    CLEANUP(mem_free_ptr) char *group = name ? mem_strndup(name, strcspn(name, "/")) : NULL;

    for (size_t i = 0; i < c->sources_count; i++)
        if (is_meant(c, &c->sources[i], name, group ? strlen(group) : 0))
            s.sources[s.count++] = &c->sources[i];
    *ret = s;
    if (s.count > 0 || (!name && c->groups_count > 0))
        return 0;
    fleet_selection_release(ret);
    if (!name)
        return error_set(err, ERROR_USAGE, "%s names no [source NAME]: there is nothing to do", c->path);
    const struct config_section *g = fleet_group(c, group);
    if (g && fleet_is_open(g))
        return error_set(err, ERROR_USAGE, "no database %s of [source %s] is known: `salvor check %s` asks the server, `salvor run` does so all the time",
                         name[strlen(group)] ? name + strlen(group) + 1 : "at all", group, group);
    if (g)
        return error_set(err, ERROR_USAGE, "[source %s] in %s does not name the database %s", group, c->path, name + strlen(group) + 1);
    return error_set(err, ERROR_USAGE, "there is no [source %s] in %s", name, c->path);
}

static int refuse_several(const char *name, const struct fleet_selection *s, struct error *err)
{
    CLEANUP(buf_release) struct buf names = BUF_INIT(BUF_BYTES_MAX);

    for (size_t i = 0; i < s->count && i < 5; i++) {
        CLEANUP(mem_free_ptr) char *said = fleet_said(s->sources[i]);
        buf_printf(&names, "%s%s", i ? ", " : "", said);
    }
    return error_set(err, ERROR_USAGE, "[source %s] stands for %zu databases, and this is done for one at a time: name it, like %s%s", name, s->count,
                     buf_cstr(&names), s->count > 5 ? ", ..." : "");
}

int config_source(const struct config *c, const char *name, const struct config_section **ret, struct error *err)
{
    CLEANUP(fleet_selection_release) struct fleet_selection s = {0};

    if (!name && c->sources_count != 1)
        return error_set(err, ERROR_USAGE, "name a source: the configuration has %zu", c->sources_count);
    TRY(fleet_select(c, name, &s, err));
    if (name && fleet_group(c, name))
        return refuse_several(name, &s, err);
    *ret = s.sources[0];
    return 0;
}
