/*
 * cmd/config.c - reads the configuration into sections of values and checks each against its row in the option table.
 *
 * Everything that can be wrong is found here, with file and line, before anything is touched.
 */
#include "cmd/config.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/fleet.h"
#include "cmd/ini.h"
#include "os/file.h"

struct loader {
    struct config *config;
    struct config_section *current;
};

void config_section_init(struct config_section *s, enum option_section kind, const char *name, int line)
{
    *s = (struct config_section){.kind = kind, .name = mem_strdup(name), .line = line};
    for (int i = 0; i < OPTION_COUNT_; i++)
        if (options[i].section == kind)
            s->values[i].text = mem_strdup(options[i].default_text);
}

void config_section_copy(const struct config_section *from, struct config_section *ret)
{
    *ret = *from;
    ret->name = mem_strdup(from->name);
    ret->database = mem_strdup(from->database);
    ret->problem = mem_strdup(from->problem);
    for (int i = 0; i < OPTION_COUNT_; i++)
        ret->values[i].text = mem_strdup(from->values[i].text);
}

void config_section_release(struct config_section *s)
{
    for (int i = 0; i < OPTION_COUNT_; i++)
        free(s->values[i].text);
    free(s->name);
    free(s->database);
    free(s->problem);
    *s = (struct config_section){0};
}

void config_release(struct config *c)
{
    config_section_release(&c->salvor);
    for (size_t i = 0; i < c->vaults_count; i++)
        config_section_release(&c->vaults[i]);
    for (size_t i = 0; i < c->sources_count; i++)
        config_section_release(&c->sources[i]);
    for (size_t i = 0; i < c->groups_count; i++)
        config_section_release(&c->groups[i]);
    free(c->vaults);
    free(c->sources);
    free(c->groups);
    free(c->path);
    *c = (struct config){0};
}

static const struct config_section *find(const struct config_section *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return NULL;
}

const struct config_section *config_vault(const struct config *c, const char *name)
{
    return find(c->vaults, c->vaults_count, name);
}

static int add_section(struct loader *l, int line, enum option_section kind, const char *name, struct error *err)
{
    struct config *c = l->config;
    bool vault = kind == SECTION_VAULT;
    struct config_section **list = vault ? &c->vaults : &c->sources;
    size_t *count = vault ? &c->vaults_count : &c->sources_count;
    const struct config_section *old = find(*list, *count, name);

    if (old)
        return error_set(err, ERROR_USAGE, "%s:%d: [%s %s] is there twice (first at line %d)", c->path, line,
                         option_section_name(kind), name, old->line);
    *list = mem_resize(*list, *count + 1, sizeof **list);
    config_section_init(&(*list)[*count], kind, name, line);
    l->current = &(*list)[(*count)++];
    return 0;
}

static int on_section(struct loader *l, int line, struct slice kind, struct slice section, struct error *err)
{
    CLEANUP(mem_free_ptr) char *name = mem_strndup((const char *)section.p, section.n);

    if (slice_equal(kind, slice_str("salvor"))) {
        if (section.n > 0)
            return error_set(err, ERROR_USAGE, "%s:%d: [salvor] takes no name", l->config->path, line);
        l->current = &l->config->salvor;
        return 0;
    }
    if (!slice_equal(kind, slice_str("vault")) && !slice_equal(kind, slice_str("source")))
        return error_set(err, ERROR_USAGE, "%s:%d: [%.*s] is not known: use [salvor], [vault NAME] or [source NAME]",
                         l->config->path, line, (int)kind.n, (const char *)kind.p);
    if (!text_is_name(name))
        return error_set(err, ERROR_USAGE, "%s:%d: a name is 1 to 40 of a-z 0-9 _, not '%s'", l->config->path, line, name);
    return add_section(l, line, kind.p[0] == 'v' ? SECTION_VAULT : SECTION_SOURCE, name, err);
}

static int option_find(enum option_section kind, struct slice name)
{
    for (int i = 0; i < OPTION_COUNT_; i++)
        if (options[i].section == kind && slice_equal(name, slice_str(options[i].name)))
            return i;
    return -1;
}

static int on_value(struct loader *l, int line, struct slice name, struct slice value, struct error *err)
{
    const char *path = l->config->path;
    int id = option_find(l->current->kind, name);

    if (id < 0)
        return error_set(err, ERROR_USAGE, "%s:%d: [%s] has no option '%.*s' (salvor help config lists them)", path, line,
                         option_section_name(l->current->kind), (int)name.n, (const char *)name.p);
    struct config_value *v = &l->current->values[id];
    if (v->line)
        return error_set(err, ERROR_USAGE, "%s:%d: '%s' is set twice (first at line %d)", path, line, options[id].name, v->line);
    if (value.n == 0)
        return error_set(err, ERROR_USAGE, "%s:%d: '%s' has no value", path, line, options[id].name);
    free(v->text);
    v->text = mem_strndup((const char *)value.p, value.n);
    v->line = line;
    if (config_value_check(&options[id], v->text, err) < 0) {
        /* A conninfo is not shown: it may hold what we refuse it for. */
        if (options[id].type == TYPE_CONNINFO)
            return error_prefix(err, "%s:%d: '%s'", path, line, options[id].name);
        return error_prefix(err, "%s:%d: '%s = %s'", path, line, options[id].name, v->text);
    }
    return 0;
}

static int on_line(void *user, int line, struct slice kind, struct slice section, struct slice name, struct slice value,
                   struct error *err)
{
    struct loader *l = user;
    return name.n == 0 ? on_section(l, line, kind, section, err) : on_value(l, line, name, value, err);
}

static bool is_named_before(char **names, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(names[i], names[at]) == 0)
            return true;
    return false;
}

static int check_vaults_of(const struct config *c, const struct config_section *s, char **vaults, struct error *err)
{
    int line = s->values[OPTION_VAULTS].line;

    if (!vaults[0])
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] names no vault: add vault = NAME", c->path, s->line, s->name);
    for (size_t i = 0; vaults[i]; i++) {
        if (!config_vault(c, vaults[i]))
            return error_set(err, ERROR_USAGE, "%s:%d: [source %s]: there is no [vault %s]", c->path, line, s->name, vaults[i]);
        if (is_named_before(vaults, i))
            return error_set(err, ERROR_USAGE, "%s:%d: [source %s] names the vault %s twice", c->path, line, s->name, vaults[i]);
    }
    return 0;
}

static int check_source(const struct config *c, const struct config_section *s, struct error *err)
{
    char **vaults = config_list(s, OPTION_VAULTS);
    int result = check_vaults_of(c, s, vaults, err);

    config_list_free(vaults);
    TRY(result);
    if (strcmp(config_text(s, OPTION_AUTOMATION), "act") == 0 && !config_text(s, OPTION_TARGET))
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] has automation = act but no target", c->path,
                         s->values[OPTION_AUTOMATION].line, s->name);
    return 0;
}

/* An option that the vault's driver does not know would be passed over in silence. */
static int check_vault(const struct config *c, const struct config_section *v, struct error *err)
{
    static const enum option_id s3[] = {OPTION_ENDPOINT, OPTION_BUCKET,  OPTION_PREFIX,           OPTION_REGION,
                                        OPTION_STYLE,    OPTION_CA_FILE, OPTION_CREDENTIALS_FILE, OPTION_PROFILE};
    bool posix = strcmp(config_text(v, OPTION_DRIVER), "posix") == 0;
    enum option_id needed = posix ? OPTION_PATH : OPTION_BUCKET;

    if (!config_text(v, needed))
        return error_set(err, ERROR_USAGE, "%s:%d: [vault %s] has no %s", c->path, v->line, v->name, options[needed].name);
    if (!posix && config_text(v, OPTION_PATH))
        return error_set(err, ERROR_USAGE, "%s:%d: [vault %s] has a path, but driver = s3 keeps objects in a bucket", c->path,
                         v->values[OPTION_PATH].line, v->name);
    for (size_t i = 0; posix && i < sizeof s3 / sizeof *s3; i++)
        if (config_text(v, s3[i]))
            return error_set(err, ERROR_USAGE, "%s:%d: [vault %s] has '%s', which is for driver = s3", c->path,
                             v->values[s3[i]].line, v->name, options[s3[i]].name);
    return 0;
}

/* Two vaults at one place would each find what the other has just written. */
static int check_place(const struct config *c, size_t at, struct error *err)
{
    struct vault_config mine, other;

    config_vault_fill(&c->vaults[at], &mine);
    CLEANUP(mem_free_ptr) char *place = vault_config_url(&mine);
    for (size_t i = 0; i < at; i++) {
        config_vault_fill(&c->vaults[i], &other);
        CLEANUP(mem_free_ptr) char *before = vault_config_url(&other);
        if (strcmp(place, before) == 0)
            return error_set(err, ERROR_USAGE, "%s:%d: [vault %s] lies where [vault %s] does: each needs a place of its own", c->path,
                             c->vaults[at].line, c->vaults[at].name, c->vaults[i].name);
    }
    return 0;
}

static int check_whole(const struct config *c, struct error *err)
{
    for (size_t i = 0; i < c->vaults_count; i++)
        if (config_text(&c->vaults[i], OPTION_KEY_FILE) && config_text(&c->vaults[i], OPTION_PASSPHRASE_FILE))
            return error_set(err, ERROR_USAGE, "%s:%d: [vault %s] has key_file and passphrase_file: only one can be",
                             c->path, c->vaults[i].values[OPTION_PASSPHRASE_FILE].line, c->vaults[i].name);
    for (size_t i = 0; i < c->vaults_count; i++)
        TRY(check_vault(c, &c->vaults[i], err));
    for (size_t i = 0; i < c->vaults_count; i++)
        TRY(check_place(c, i, err));
    for (size_t i = 0; i < c->sources_count; i++)
        TRY(check_source(c, &c->sources[i], err));
    return 0;
}

int config_load(const char *path, struct config *ret, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(INI_FILE_BYTES_MAX);

    int result = file_read_all(path, INI_FILE_BYTES_MAX, &text, err);
    if (result == -ERROR_NOT_FOUND)
        return error_set(err, ERROR_USAGE, "there is no configuration file '%s': name one with --config FILE", path);
    if (result < 0) {
        const struct error why = *err;
        return error_set(err, ERROR_USAGE, "the configuration cannot be read: %s", why.message);
    }
    return config_parse(buf_slice(&text), path, ret, err);
}

int config_parse(struct slice text, const char *path, struct config *ret, struct error *err)
{
    struct config c = {.path = mem_strdup(path)};
    struct loader l = {.config = &c};

    config_section_init(&c.salvor, SECTION_SALVOR, "", 0);
    int result = ini_parse(text, path, on_line, &l, err);
    if (result >= 0)
        result = check_whole(&c, err);
    if (result >= 0)
        result = fleet_expand(&c, err);
    if (result < 0) {
        config_release(&c);
        return result;
    }
    *ret = c;
    return 0;
}

void config_vault_fill(const struct config_section *vault, struct vault_config *ret)
{
    *ret = (struct vault_config){
        .name = vault->name,
        .driver = config_text(vault, OPTION_DRIVER),
        .path = config_text(vault, OPTION_PATH),
        .bandwidth_bytes_s = config_rate(vault, OPTION_BANDWIDTH),
        .endpoint = config_text(vault, OPTION_ENDPOINT),
        .bucket = config_text(vault, OPTION_BUCKET),
        .prefix = config_text(vault, OPTION_PREFIX),
        .region = config_text(vault, OPTION_REGION),
        .style = config_text(vault, OPTION_STYLE),
        .ca_file = config_text(vault, OPTION_CA_FILE),
        .credentials_file = config_text(vault, OPTION_CREDENTIALS_FILE),
        .profile = config_text(vault, OPTION_PROFILE),
        .key = {.key_file = config_text(vault, OPTION_KEY_FILE),
                .passphrase_file = config_text(vault, OPTION_PASSPHRASE_FILE)},
    };
}

char *config_source_state(const struct config *c, const struct config_section *source)
{
    return mem_printf("%s/%s", config_text(&c->salvor, OPTION_STATE), source->name);
}

const char *config_target_directory(const struct config_section *source)
{
    const char *text = config_text(source, OPTION_TARGET);
    return text ? text + strlen("local ") : NULL;
}
