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
#include "cmd/ini.h"
#include "keep/schedule.h"
#include "os/file.h"

struct loader {
    struct config *config;
    struct config_section *current;
};

static void section_init(struct config_section *s, enum option_section kind, const char *name, int line)
{
    *s = (struct config_section){.kind = kind, .name = mem_strdup(name), .line = line};
    for (int i = 0; i < OPTION_COUNT_; i++)
        if (options[i].section == kind)
            s->values[i].text = mem_strdup(options[i].default_text);
}

static void section_release(struct config_section *s)
{
    for (int i = 0; i < OPTION_COUNT_; i++)
        free(s->values[i].text);
    free(s->name);
}

void config_release(struct config *c)
{
    section_release(&c->salvor);
    for (size_t i = 0; i < c->vaults_count; i++)
        section_release(&c->vaults[i]);
    for (size_t i = 0; i < c->sources_count; i++)
        section_release(&c->sources[i]);
    free(c->vaults);
    free(c->sources);
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
    section_init(&(*list)[*count], kind, name, line);
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

static bool choice_known(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (const char *p = strstr(choices, text); p && n > 0; p = strstr(p + 1, text))
        if ((p == choices || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0))
            return true;
    return false;
}

static int check_range(const struct option *o, int64_t v, struct error *err)
{
    char least[CLOCK_TEXT_BYTES], most[CLOCK_TEXT_BYTES], size[TEXT_SIZE_BYTES];

    if (v >= o->min && v <= o->max)
        return 0;
    if (o->type == TYPE_DURATION)
        return error_set(err, ERROR_USAGE, "is out of range: %s to %s", clock_format_duration(o->min, least),
                         clock_format_duration(o->max, most));
    if (v < o->min)
        return error_set(err, ERROR_USAGE, "is out of range: at least %s", text_format_size((uint64_t)o->min, size));
    return error_set(err, ERROR_USAGE, "is out of range: at most %s", text_format_size((uint64_t)o->max, size));
}

static int check_names(const char *text, struct error *err)
{
    const char *p = text;
    while (*p) {
        size_t n = strcspn(p, ", ");
        CLEANUP(mem_free_ptr) char *name = mem_strndup(p, n);
        if (n > 0 && !text_is_name(name))
            return error_set(err, ERROR_USAGE, "'%s' is not a name", name);
        p += n + strspn(p + n, ", ");
    }
    return 0;
}

static int check_target(const char *text, struct error *err)
{
    if (strncmp(text, "local /", 7) != 0)
        return error_set(err, ERROR_USAGE, "must be: local DIRECTORY, with an absolute path");
    return 0;
}

/* Digits, and perhaps a point and digits. */
static int parse_decimal(const char *text, double *ret, struct error *err)
{
    size_t whole = strspn(text, "0123456789"), part = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    size_t n = whole + (text[whole] == '.' ? 1 + part : 0);

    if (whole == 0 || whole > 12 || (text[whole] == '.' && part == 0) || text[n])
        return error_set(err, ERROR_USAGE, "must be a number like 0.023");
    *ret = strtod(text, NULL);
    return 0;
}

/* 20MB/s: a number, a unit, and "/s". */
static int parse_rate(const char *text, uint64_t *ret, struct error *err)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"B/s", 1}, {"kB/s", 1000}, {"MB/s", 1000000}, {"GB/s", 1000000000},
                 {"KiB/s", 1 << 10}, {"MiB/s", 1 << 20}, {"GiB/s", 1 << 30}};
    size_t n = strspn(text, "0123456789");
    uint64_t v;

    TRY(text_parse_u64(slice_of(text, n), 1, 1000000000, &v, err));
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(text + n, units[i].name) == 0) {
            *ret = v * units[i].bytes;
            return *ret >= 1000 ? 0 : error_set(err, ERROR_USAGE, "is less than 1kB/s");
        }
    return error_set(err, ERROR_USAGE, "must be like 20MB/s or 8MiB/s");
}

static int check_value(const struct option *o, const char *text, struct error *err)
{
    struct slice s = slice_str(text);
    struct schedule schedule;
    uint64_t u;
    int64_t d;
    double money;
    bool b;

    switch (o->type) {
    case TYPE_TEXT:
    case TYPE_TABLES:
        return 0;
    case TYPE_PATH:
        return text[0] == '/' ? 0 : error_set(err, ERROR_USAGE, "must be an absolute path");
    case TYPE_NAMES:
        return check_names(text, err);
    case TYPE_DURATION:
        TRY(text_parse_duration(s, &d, err));
        return check_range(o, d, err);
    case TYPE_SIZE:
        TRY(text_parse_size(s, &u, err));
        return u > INT64_MAX ? error_set(err, ERROR_USAGE, "is out of range") : check_range(o, (int64_t)u, err);
    case TYPE_NUMBER:
        return text_parse_u64(s, (uint64_t)o->min, (uint64_t)o->max, &u, err);
    case TYPE_BOOL:
        return text_parse_bool(s, &b, err);
    case TYPE_CHOICE:
        return choice_known(o->choices, text) ? 0 : error_set(err, ERROR_USAGE, "must be one of: %s", o->choices);
    case TYPE_CONNINFO:
        return pg_conninfo_check(text, err);
    case TYPE_SCHEDULE:
        return schedule_parse(s, &schedule, err);
    case TYPE_TARGET:
        return check_target(text, err);
    case TYPE_DECIMAL:
        return parse_decimal(text, &money, err);
    case TYPE_RATE:
        return parse_rate(text, &u, err);
    }
    return 0;
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
    if (check_value(&options[id], v->text, err) < 0) {
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
    TRY(result);
    return config_parse(buf_slice(&text), path, ret, err);
}

int config_parse(struct slice text, const char *path, struct config *ret, struct error *err)
{
    struct config c = {.path = mem_strdup(path)};
    struct loader l = {.config = &c};

    section_init(&c.salvor, SECTION_SALVOR, "", 0);
    int result = ini_parse(text, path, on_line, &l, err);
    if (result >= 0)
        result = check_whole(&c, err);
    if (result < 0) {
        config_release(&c);
        return result;
    }
    *ret = c;
    return 0;
}

const char *config_text(const struct config_section *s, enum option_id id)
{
    ASSERT(options[id].section == s->kind);
    return s->values[id].text;
}

int64_t config_duration(const struct config_section *s, enum option_id id)
{
    struct error err = ERROR_INIT;
    int64_t v = 0;
    int result = text_parse_duration(slice_str(config_text(s, id)), &v, &err);
    ASSERT(result >= 0);
    return v;
}

uint64_t config_number(const struct config_section *s, enum option_id id)
{
    struct error err = ERROR_INIT;
    struct slice text = slice_str(config_text(s, id));
    uint64_t v = 0;
    int result = options[id].type == TYPE_SIZE ? text_parse_size(text, &v, &err)
                                                 : text_parse_u64(text, 0, UINT64_MAX, &v, &err);
    ASSERT(result >= 0);
    return v;
}

uint64_t config_rate(const struct config_section *s, enum option_id id)
{
    struct error err = ERROR_INIT;
    uint64_t v = 0;

    ASSERT(!config_text(s, id) || parse_rate(config_text(s, id), &v, &err) >= 0);
    return v;
}

double config_decimal(const struct config_section *s, enum option_id id)
{
    struct error err = ERROR_INIT;
    double v = 0;

    ASSERT(!config_text(s, id) || parse_decimal(config_text(s, id), &v, &err) >= 0);
    return v;
}

bool config_bool(const struct config_section *s, enum option_id id)
{
    struct error err = ERROR_INIT;
    bool v = false;
    int result = text_parse_bool(slice_str(config_text(s, id)), &v, &err);
    ASSERT(result >= 0);
    return v;
}

char **config_list(const struct config_section *s, enum option_id id)
{
    const char *p = config_text(s, id) ? config_text(s, id) : "";
    size_t count = 0, cap = 0;
    char **list = NULL;

    for (;;) {
        p += strspn(p, ", ");
        MEM_GROW(list, cap, count);
        if (!*p) {
            list[count] = NULL;
            return list;
        }
        size_t n = strcspn(p, ",");
        while (n > 0 && p[n - 1] == ' ')
            n--;
        list[count++] = mem_strndup(p, n);
        p += strcspn(p, ",");
    }
}

void config_list_free(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

int config_source(const struct config *c, const char *name, const struct config_section **ret, struct error *err)
{
    if (!name && c->sources_count == 1) {
        *ret = &c->sources[0];
        return 0;
    }
    if (!name)
        return error_set(err, ERROR_USAGE, "name a source: the configuration has %zu", c->sources_count);
    *ret = find(c->sources, c->sources_count, name);
    if (!*ret)
        return error_set(err, ERROR_USAGE, "there is no [source %s] in %s", name, c->path);
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
