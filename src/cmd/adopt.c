/*
 * cmd/adopt.c - see adopt.h. Facts come from the objects themselves; the journal adds what the lost host's configuration
 * said. Where it says nothing, the sources are there all the same, and a person fills in the conninfo.
 */
#include "cmd/adopt.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/fleet.h"

void adopted_release(struct adopted *a)
{
    vault_free(a->vault);
    location_release(&a->location);
    journal_entries_release(&a->journal);
    json_decref(a->sources);
    *a = (struct adopted){0};
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

static void set_position(json_t *o, const char *key, struct position p)
{
    char text[POSITION_TEXT_BYTES];

    json_set_str(o, key, position_format(p, text));
}

static void set_time(json_t *o, const char *key, int64_t wall_us)
{
    char text[CLOCK_TEXT_BYTES];

    json_set_str(o, key, wall_us ? clock_format_wall(wall_us, text) : NULL);
}

/* Where the chain of a history ends in this vault. */
static int add_range(struct vault *v, const char *source, const char *incarnation, json_t *o, struct error *err)
{
    struct chain_config config = {.vault = v, .source = source, .incarnation = incarnation, .holes = true};
    struct chain_range range;
    struct chain *chain;

    TRY(chain_open(&config, &chain, err));
    int rc = chain_range(chain, &range, err);
    chain_free(chain);
    TRY(rc);
    if (position_is_zero(range.last))
        return 0;
    set_position(o, "to", range.last);
    set_time(o, "to_time", range.last_wall_us);
    return 0;
}

static int add_snapshots(struct vault *v, const char *source, const char *incarnation, json_t *o, struct error *err)
{
    char **ids;
    size_t count;
    uint64_t proved = 0;
    int rc = 0;

    TRY(snapshot_list(v, source, incarnation, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        struct position p;
        uint32_t proofs = 0;

        if (i == 0 && snapshot_position(ids[i], &p, NULL) >= 0)
            set_position(o, "from", p);
        if (rc >= 0)
            rc = proof_count(v, source, incarnation, ids[i], &proofs, err);
        proved += proofs > 0;
        free(ids[i]);
    }
    free(ids);
    json_set_u64(o, "snapshots", count);
    json_set_u64(o, "proved", proved);
    return rc;
}

/* What cannot be read is said in "error", and the rest goes on. */
static json_t *read_incarnation(struct vault *v, const char *source, const struct incarnation *i)
{
    json_t *o = json_object();
    struct error err = ERROR_INIT;

    json_set_str(o, "id", i->id);
    json_set_str(o, "database", i->database);
    json_set_u64(o, "server_version", i->server_version);
    set_time(o, "begun", i->begun_wall_us);
    json_set_str(o, "reason", i->reason);
    if (add_snapshots(v, source, i->id, o, &err) < 0 || add_range(v, source, i->id, o, &err) < 0)
        json_set_str(o, "error", err.message);
    return o;
}

static const json_t *source_settings(const struct adopted *a, const char *source)
{
    struct journal_facts facts;

    journal_fold(&a->journal, source, &facts);
    return facts.settings ? facts.settings->members : NULL;
}

static void add_known(const struct adopted *a, const char *source, json_t *o)
{
    const json_t *settings = source_settings(a, source);
    const json_t *options_known = json_object_get(settings, "source");
    struct journal_facts facts;

    journal_fold(&a->journal, source, &facts);
    json_set_bool(o, "settings_known", settings != NULL);
    json_set_str(o, "rpo", json_string_value(json_object_get(options_known, "rpo")));
    json_set_str(o, "rto", json_string_value(json_object_get(options_known, "rto")));
    set_time(o, "last_proof", facts.proof ? facts.proof->wall_us : 0);
}

static int read_source(struct adopted *a, const char *name, struct error *err)
{
    json_t *o = json_object(), *list = json_array();
    struct incarnation *all;
    size_t count;

    json_array_append_new(a->sources, o);
    json_set_str(o, "name", name);
    json_object_set_new(o, "incarnations", list);
    add_known(a, name, o);
    TRY(incarnation_list(a->vault, name, &all, &count, err));
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, read_incarnation(a->vault, name, &all[i]));
    free(all);
    return 0;
}

static int read_sources(struct adopted *a, struct error *err)
{
    char **names;
    size_t count;

    TRY(vault_sources(a->vault, &names, &count, err));
    int rc = 0;
    for (size_t i = 0; i < count; i++) {
        if (rc >= 0)
            rc = read_source(a, names[i], err);
        free(names[i]);
    }
    free(names);
    return rc;
}

int adopt_open(const struct location_words *words, struct adopted *ret, struct error *err)
{
    CLEANUP(adopted_release) struct adopted a = {.sources = json_array()};

    TRY(location_parse(words, &a.location, err));
    TRY(location_open(&a.location, &a.vault, err));
    TRY(journal_read_vault(a.vault, &a.journal, err));
    journal_entries_sort(&a.journal);
    *ret = a;
    a = (struct adopted){0};
    return 0;
}

int adopt_read(const struct location_words *words, struct adopted *ret, struct error *err)
{
    CLEANUP(adopted_release) struct adopted a = {0};

    TRY(adopt_open(words, &a, err));
    TRY(read_sources(&a, err));
    *ret = a;
    a = (struct adopted){0};
    return 0;
}

/* --- the list --------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key, const char *none)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : none;
}

static long long number_of(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static void list_source(const json_t *o, const char *prefix, struct buf *out)
{
    size_t i;
    json_t *n;

    buf_printf(out, "%ssource %s: rpo %s, rto %s, last proof %s%s\n", prefix, text_of(o, "name", "?"), text_of(o, "rpo", "not known"),
               text_of(o, "rto", "not known"), text_of(o, "last_proof", "none in the journal"),
               json_is_true(json_object_get(o, "settings_known")) ? "" : "; its old configuration is not in the journal");
    json_array_foreach(json_object_get(o, "incarnations"), i, n) {
        buf_printf(out, "%s  incarnation %s of database %s, begun %s: %lld snapshots, %lld proved; recoverable %s to %s (%s)\n", prefix,
                   text_of(n, "id", "?"), text_of(n, "database", "?"), text_of(n, "begun", "?"), number_of(n, "snapshots"),
                   number_of(n, "proved"), text_of(n, "from", "-"), text_of(n, "to", "-"), text_of(n, "to_time", "no events"));
        if (json_object_get(n, "error"))
            buf_printf(out, "%s    not all of it can be read: %s\n", prefix, text_of(n, "error", ""));
    }
}

void adopt_list(const struct adopted *a, const char *prefix, struct buf *out)
{
    size_t i;
    json_t *source;

    buf_printf(out, "%svault %s at %s\n", prefix, a->vault->id, a->location.place);
    if (json_array_size(a->sources) == 0)
        buf_printf(out, "%sit holds no source\n", prefix);
    json_array_foreach(a->sources, i, source)
        list_source(source, prefix, out);
}

/* --- the configuration ------------------------------------------------------------------------------------------------ */

/* Texts that came through the vault: one line each, whatever they hold. */
static void put_option(struct buf *out, const char *comment, const char *name, const char *value)
{
    if (strpbrk(value, "\n\r"))
        return;
    buf_printf(out, "%s%s = %s\n", comment, name, value);
}

static bool is_for_a_person(const char *name)
{
    static const char *const names[] = {"automation", "target", "target_port", "cutover", "cutover_timeout", "pg_bin",
                                        "prove_dir", "local_user"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool is_known_option(enum option_section kind, const char *name)
{
    for (int i = 0; i < OPTION_COUNT_; i++)
        if (options[i].section == kind && strcmp(options[i].name, name) == 0)
            return true;
    return false;
}

/* A vault of the old configuration, by its id where it is this one. */
static bool is_this(const struct adopted *a, const json_t *vault)
{
    return strcmp(text_of(vault, "id", ""), a->vault->id) == 0;
}

/* How this vault stood in the lost host's configuration; NULL where nobody knows. */
static const json_t *own_settings(const struct adopted *a)
{
    for (size_t i = 0; i < json_array_size(a->sources); i++) {
        const json_t *settings = source_settings(a, text_of(json_array_get(a->sources, i), "name", ""));
        const json_t *vaults = json_object_get(settings, "vaults");

        for (size_t k = 0; k < json_array_size(vaults); k++)
            if (is_this(a, json_array_get(vaults, k)) && text_is_name(text_of(json_array_get(vaults, k), "name", "")))
                return json_array_get(vaults, k);
    }
    return NULL;
}

static const char *own_name(const struct adopted *a)
{
    const json_t *settings = own_settings(a);

    return settings ? text_of(settings, "name", "") : LOCATION_NAME;
}

static void put_section_options(struct buf *out, enum option_section kind, const json_t *o, bool commands_too)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        if (!json_is_string(v) || !is_known_option(kind, key))
            continue;
        if (!is_for_a_person(key))
            put_option(out, "", key, json_string_value(v));
        else if (commands_too)
            put_option(out, "# as on the lost host; decide anew: ", key, json_string_value(v));
    }
}

/* The other vaults of the sources, each once; one of a name that is taken is left out of a source's list as well. */
static void put_other_vaults(const struct adopted *a, json_t *names, struct buf *out)
{
    for (size_t i = 0; i < json_array_size(a->sources); i++) {
        const json_t *settings = source_settings(a, text_of(json_array_get(a->sources, i), "name", ""));
        const json_t *vaults = json_object_get(settings, "vaults");

        for (size_t k = 0; k < json_array_size(vaults); k++) {
            const json_t *v = json_array_get(vaults, k);
            const char *name = text_of(v, "name", "");

            if (is_this(a, v) || !text_is_name(name) || json_object_get(names, name))
                continue;
            json_set_bool(names, name, true);
            buf_printf(out, "\n[vault %s]\n", name);
            put_section_options(out, SECTION_VAULT, v, true);
        }
    }
}

/* The names of a source's vaults that are in this configuration. */
static void put_vault_list(const struct adopted *a, const json_t *settings, const json_t *names, struct buf *out)
{
    const json_t *vaults = json_object_get(settings, "vaults");
    const char *parted = "";

    buf_printf(out, "vault = ");
    for (size_t k = 0; k < json_array_size(vaults); k++) {
        const char *name = text_of(json_array_get(vaults, k), "name", "");

        if (!is_this(a, json_array_get(vaults, k)) && !json_object_get(names, name))
            continue;
        buf_printf(out, "%s%s", parted, is_this(a, json_array_get(vaults, k)) ? own_name(a) : name);
        parted = ", ";
    }
    buf_printf(out, "%s\n", *parted ? "" : own_name(a));
}

/* A database of a group that the server had no more when the journal ended. */
static bool was_dropped(const struct adopted *a, const char *source)
{
    bool dropped = false;

    for (size_t i = 0; i < a->journal.count; i++) {
        const struct journal_entry *e = &a->journal.entries[i];
        if (strcmp(e->source, source) == 0 && strncmp(e->kind, "database_", 9) == 0)
            dropped = strcmp(e->kind, "database_gone") == 0;
    }
    return dropped;
}

/* One of its sources has said how the group's section read. */
static void put_group(const struct adopted *a, const char *source, const json_t *names, json_t *groups, struct buf *out)
{
    const json_t *settings = source_settings(a, source), *group = json_object_get(settings, "group");
    const char *name = text_of(group, "name", ""), *conninfo = text_of(group, "conninfo", NULL);
    JSON_AUTO known = json_copy(json_object_get(settings, "source"));

    if (!text_is_name(name) || json_object_get(groups, name) || !json_is_string(json_object_get(group, "databases")))
        return;
    json_set_bool(groups, name, true);
    buf_printf(out, "\n# those of its databases that have no section of their own (%s" FLEET_PARTED "...)\n[source %s]\n", name, name);
    put_option(out, "", "databases", text_of(group, "databases", ""));
    put_vault_list(a, settings, names, out);
    (void)json_object_del(known, "vault");
    (void)json_object_del(known, "conninfo");
    (void)json_object_del(known, "target");
    if (conninfo)
        put_option(out, "", "conninfo", conninfo);
    put_section_options(out, SECTION_SOURCE, known, true);
}

static void put_source(const struct adopted *a, const char *name, const json_t *names, json_t *groups, struct buf *out)
{
    const json_t *settings = source_settings(a, name);
    JSON_AUTO known = json_copy(json_object_get(settings, "source"));

    put_group(a, name, names, groups, out);
    buf_printf(out, "\n[source %s]\n", name);
    if (was_dropped(a, name)) {
        buf_printf(out, "# its database was dropped: it can be recovered, and is not captured\n");
        (void)json_object_del(known, "conninfo");
    }
    put_vault_list(a, settings, names, out);
    (void)json_object_del(known, "vault");
    put_section_options(out, SECTION_SOURCE, known, true);
    if (!json_object_get(known, "conninfo"))
        buf_printf(out, "# conninfo =   how this host reaches the database (no password: PGPASSFILE or a service file); without it\n"
                        "#              the source can be recovered, and is not captured\n");
}

/* Options that say where a vault is and how it is opened: those that it was just opened by count, not what they were elsewhere. */
static bool is_of_the_place(const char *name)
{
    static const char *const names[] = {"driver", "path", "endpoint", "bucket", "prefix", "region", "style", "ca_file"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool is_secrets_file(const char *name)
{
    static const char *const names[] = {"credentials_file", "profile", "key_file", "passphrase_file"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* What this vault had beside its place: prices and bandwidth as they were, files of secrets to be found again. */
static void put_known_options(const json_t *known, struct buf *out)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)known, key, v) {
        if (!json_is_string(v) || !is_known_option(SECTION_VAULT, key) || is_of_the_place(key))
            continue;
        put_option(out, is_secrets_file(key) ? "# as on the lost host: " : "", key, json_string_value(v));
    }
}

/* What opened the vault now and is not in a file has to be there for `salvor run` too. */
static void put_needs(const struct adopted *a, struct buf *out)
{
    const struct vault_config *c = &a->location.url.config;
    const char *name = own_name(a);

    if (strcmp(c->driver, "s3") == 0 && !c->credentials_file)
        buf_printf(out, "# credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of `salvor run`, or the instance's role;\n"
                        "#              or credentials_file = FILE\n");
    if (a->vault->keys && !a->location.key_file && !a->location.passphrase_file) {
        buf_printf(out, "# the key: SALVOR_PASSPHRASE_");
        for (const char *p = name; *p; p++)
            buf_put_u8(out, (uint8_t)toupper((unsigned char)*p));
        buf_printf(out, " in the environment of `salvor run`, or key_file = FILE, or passphrase_file = FILE\n");
    }
}

static void put_own_vault(const struct adopted *a, struct buf *out)
{
    buf_printf(out, "\n[vault %s]\n", own_name(a));
    location_options(&a->location, out);
    put_known_options(own_settings(a), out);
    put_needs(a, out);
}

void adopt_configuration(const struct adopted *a, const char *state, struct buf *out)
{
    JSON_AUTO names = json_object();
    JSON_AUTO groups = json_object();
    char now[CLOCK_TEXT_BYTES];
    size_t i;
    json_t *source;

    buf_printf(out, "# Written by `salvor adopt` at %s from\n", clock_format_wall(clock_wall_us(), now));
    adopt_list(a, "# ", out);
    buf_printf(out, "\n[salvor]\nstate = %s\n", state);
    put_own_vault(a, out);
    json_set_bool(names, own_name(a), true);
    put_other_vaults(a, names, out);
    json_array_foreach(a->sources, i, source)
        put_source(a, text_of(source, "name", "?"), names, groups, out);
}

void adopt_for_recovery(const struct adopted *a, const char *source, struct buf *out)
{
    const json_t *known = json_object_get(source_settings(a, source), "source");
    const char *large_objects = json_string_value(json_object_get(known, "large_objects"));

    buf_printf(out, "[vault %s]\n", LOCATION_NAME);
    location_options(&a->location, out);
    buf_printf(out, "[source %s]\nvault = %s\n", source, LOCATION_NAME);
    if (large_objects)
        put_option(out, "", "large_objects", large_objects);
}
