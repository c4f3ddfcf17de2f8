/* cmd/journaled.c - see journaled.h. */
#include "cmd/journaled.h"

#include "base/log.h"
#include "base/mem.h"
#include "journal/stock.h"
#include "keep/record.h"

int journaled_open(const struct config *c, struct journal **ret, struct error *err)
{
    return journal_open(&(struct journal_config){.state_directory = config_text(&c->salvor, OPTION_STATE)}, ret, err);
}

void journaled_add(const struct config *c, const char *kind, const char *source, json_t *members)
{
    CLEANUP(journal_done) struct journal *j = NULL;
    JSON_AUTO owned = members;
    struct error err = ERROR_INIT;

    if (journaled_open(c, &j, &err) < 0 || journal_add(j, kind, source, owned, &err) < 0)
        log_warn("the journal did not take the entry %s: %s", kind, err.message);
}

/* The first objects of those that are gone: `verify` tells all. */
struct lost {
    size_t count;
    char first[VAULT_KEY_BYTES];
};

static void on_lost(void *user, const char *kind, const char *key, const char *text)
{
    struct lost *l = user;

    (void)kind;
    (void)text;
    if (l->count++ == 0)
        (void)snprintf(l->first, sizeof l->first, "%s", key);
}

int journaled_stock(struct journal *j, struct vault *v, const char *source, struct error *err)
{
    struct lost lost = {0};
    const struct journal_check check = {.find = on_lost, .user = &lost};

    TRY(journal_stock_take(j, v, NULL, &check, err));
    if (source)
        TRY(journal_stock_take(j, v, source, &check, err));
    if (lost.count > 0)
        log_error("ALERT: vault %s has lost %zu object%s that this host saw there, %s%s: `salvor verify` names what is gone", v->name,
                  lost.count, lost.count == 1 ? "" : "s", lost.first, lost.count == 1 ? "" : " first");
    return 0;
}

void journaled_ship(const struct config *c, const char *source, struct vault *const *vaults, size_t count)
{
    CLEANUP(journal_done) struct journal *j = NULL;
    struct error err = ERROR_INIT;

    if (journaled_open(c, &j, &err) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        if (journaled_stock(j, vaults[i], source, &err) < 0 || journal_ship(j, vaults[i], &err) < 0)
            log_debug("the journal is not in vault %s yet: %s", vaults[i]->name, err.message);
}

void journaled_measured(const struct source_context *s, const char *objective, double objective_s, double measured_s)
{
    CLEANUP(journal_done) struct journal *j = NULL;
    struct error err = ERROR_INIT;

    if (journaled_open(s->config, &j, &err) < 0 ||
        breach_measured(j, s->name, objective, objective_s, measured_s, NULL, &err) < 0)
        log_warn("%s: the journal did not take what was measured: %s", s->name, err.message);
}

json_t *journaled_recovery(const char *source, const struct recover_result *r)
{
    static const char *const left_out[] = {"conninfo", "admin_conninfo", "table_results", "sequences", "source", "bytes",
                                           "from_spool", "materialized_views"};
    json_t *o = recover_result_json(source, r);

    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++)
        (void)json_object_del(o, left_out[i]);
    return o;
}

/* Every option that the configuration sets; none of them can be a secret (a password is refused when it is read). */
static void put_options(json_t *o, const struct config_section *s)
{
    for (int i = 0; i < OPTION_COUNT_; i++)
        if (options[i].section == s->kind && s->values[i].line > 0)
            json_object_set_new(o, options[i].name, json_bytes(slice_str(s->values[i].text)));
}

/* Of one database of a group: what the group's section says, from which `adopt` makes it again. */
static json_t *group_of(const struct config_section *s)
{
    const char *conninfo = config_text(s->group, OPTION_CONNINFO);
    json_t *o = json_object();

    json_set_str(o, "name", s->group->name);
    json_object_set_new(o, "databases", json_bytes(slice_str(config_text(s->group, OPTION_DATABASES))));
    json_object_set_new(o, "conninfo", conninfo ? json_bytes(slice_str(conninfo)) : json_null());
    json_object_set_new(o, "database", json_bytes(slice_str(s->database)));
    return o;
}

static json_t *settings_of(const struct source_context *s)
{
    json_t *members = json_object(), *source = json_object(), *vaults = json_array();
    char **names = config_list(s->section, OPTION_VAULTS);

    put_options(source, s->section);
    if (s->conninfo) /* where it is now: it may have been moved */
        json_object_set_new(source, options[OPTION_CONNINFO].name, json_bytes(slice_str(s->conninfo)));
    for (size_t i = 0; names[i]; i++) {
        json_t *vault = json_object();
        put_options(vault, config_vault(s->config, names[i]));
        json_set_str(vault, "name", names[i]);
        json_set_str(vault, "id", i < s->vaults_count && s->vaults[i]->id[0] ? s->vaults[i]->id : NULL); /* one that cannot be opened now: not known */
        json_array_append_new(vaults, vault);
    }
    config_list_free(names);
    json_object_set_new(members, "source", source);
    json_object_set_new(members, "vaults", vaults);
    if (s->section->group)
        json_object_set_new(members, "group", group_of(s->section));
    return members;
}

void journaled_settings(const struct source_context *s)
{
    CLEANUP(journal_done) struct journal *j = NULL;
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;
    JSON_AUTO members = settings_of(s);
    struct journal_facts facts;
    struct error err = ERROR_INIT;

    int rc = journaled_open(s->config, &j, &err);
    if (rc >= 0)
        rc = journal_read_local(j, &e, &err);
    journal_entries_sort(&e);
    journal_fold(&e, s->name, &facts);
    if (rc >= 0 && (!facts.settings || !json_equal(facts.settings->members, members)))
        rc = journal_add(j, "settings", s->name, members, &err);
    if (rc < 0)
        log_warn("%s: the journal did not take the settings: %s", s->name, err.message);
}
