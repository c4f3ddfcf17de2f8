/*
 * cmd/config_value.c - what a value of each type may be, and values as they are used. What was checked at load cannot fail later.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/config.h"
#include "cmd/fleet.h"
#include "keep/schedule.h"

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

int config_value_check(const struct option *o, const char *text, struct error *err)
{
    struct slice s = slice_str(text);
    struct schedule schedule;
    struct fleet_wish wish;
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
    case TYPE_DATABASES:
        TRY(fleet_wish_parse(text, &wish, err));
        fleet_wish_release(&wish);
        return 0;
    case TYPE_ZONE:
        return schedule_check_zone(text, err);
    }
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
