/* cmd/options.c - the table's one copy; see options.h. */
#include "cmd/options.h"

const struct option options[OPTION_COUNT_] = {
#define X(id, section_, name_, type_, default_, min_, max_, choices_, help_)                                           \
    [OPTION_##id] = {.section = SECTION_##section_,                                                                    \
                     .name = name_,                                                                                    \
                     .type = TYPE_##type_,                                                                           \
                     .default_text = default_,                                                                         \
                     .min = min_,                                                                                      \
                     .max = max_,                                                                                      \
                     .choices = choices_,                                                                              \
                     .help = help_},
    OPTION_ROWS(X)
#undef X
};

const char *option_section_name(enum option_section s)
{
    static const char *const names[SECTION_COUNT_] = {"salvor", "vault", "source"};
    return names[s];
}

const char *option_type_name(enum option_type t)
{
    static const char *const names[] = {"text",   "absolute path", "names",    "tables",   "duration",         "size",
                                        "number", "yes or no",     "one of",   "conninfo", "schedule", "local DIRECTORY",
                                        "decimal number", "bytes a second", "databases", "time zone"};
    return names[t];
}
