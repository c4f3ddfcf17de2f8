/*
 * cmd/config.h - the configuration as read: every value with its origin, checked against the option table.
 */
#ifndef SALVOR_CMD_CONFIG_H
#define SALVOR_CMD_CONFIG_H

#include "capture/capture.h"
#include "cmd/options.h"
#include "recover/recover.h"
#include "snapshot/snapshot_take.h"

#define CONFIG_PATH_DEFAULT "/etc/salvor/salvor.conf"

struct config_value {
    char *text; /* NULL: not set and no default */
    int line;   /* 0: the default */
    const char *origin; /* what was made of the file's value for one database of a group; NULL: nothing */
};

struct config_section {
    enum option_section kind;
    char *name; /* "" for [salvor] */
    int line;
    struct config_value values[OPTION_COUNT_];
    /* A source that stands for one database of a group (cmd/fleet.h); else NULL. The group lives as long as the configuration. */
    const struct config_section *group;
    char *database; /* as the server spells it */
    char *problem;  /* why nothing of it is captured: not set up, dropped; NULL: it is */
    bool gone;      /* the server has no such database any more */
    bool taken_down; /* a person has taken it down */
    bool to_set_up; /* it never was set up: `salvor run` tries */
};

/* What stands for several databases ([source NAME] with `databases`) is in groups, and each of its databases in sources. */
struct config {
    char *path;
    struct config_section salvor;
    size_t vaults_count, sources_count, groups_count;
    struct config_section *vaults, *sources, *groups;
};

/*
 * Reads and checks a configuration file. Errors: USAGE "<path>:<line>: ..." for what is wrong in it (unknown names, values
 * out of range, a password, a source of an unknown vault); NOT_FOUND.
 */
MUST_CHECK int config_load(const char *path, struct config *ret, struct error *err);
/* The same of a text; `path` is what messages call it. */
MUST_CHECK int config_parse(struct slice text, const char *path, struct config *ret, struct error *err);
void config_release(struct config *c);

/* Values; the option must belong to the section's kind. Checked at load, so they cannot fail. Unset text: NULL. */
const char *config_text(const struct config_section *s, enum option_id id);
int64_t config_duration(const struct config_section *s, enum option_id id);
uint64_t config_number(const struct config_section *s, enum option_id id); /* sizes and numbers */
uint64_t config_rate(const struct config_section *s, enum option_id id);   /* bytes a second; 0: not set */
double config_decimal(const struct config_section *s, enum option_id id);  /* 0: not set */
bool config_bool(const struct config_section *s, enum option_id id);
/* Is a text a value of this option? Errors: USAGE, without its name. */
MUST_CHECK int config_value_check(const struct option *o, const char *text, struct error *err);
/* The parts of NAMES or TABLES, NULL-terminated; freed by config_list_free. */
char **config_list(const struct config_section *s, enum option_id id);
void config_list_free(char **list);

void config_section_init(struct config_section *s, enum option_section kind, const char *name, int line);
/* Texts of its own; only `group` and origins stay the configuration's. */
void config_section_copy(const struct config_section *from, struct config_section *ret);
void config_section_release(struct config_section *s);
/*
 * One source: its name, or GROUP/DATABASE. name NULL: the only source, if there is one.
 * Errors: USAGE there is no such source, or the name is a group's, which stands for several.
 */
MUST_CHECK int config_source(const struct config *c, const char *name, const struct config_section **ret,
                             struct error *err);
const struct config_section *config_vault(const struct config *c, const char *name);
/* Opens the vault of a [vault NAME]. Errors: those of vault_open. */
MUST_CHECK int config_vault_open(const struct config_section *section, struct vault **ret, struct error *err);
/* The same in a thread, since a store may hang: what it has opened once the attempt is over. `opening` is the attempt's, and goes with it. */
struct vault_opening {
    struct config_section section; /* its own: where it is left behind it may outlive the configuration */
    struct vault *vault; /* who takes it puts NULL there */
};
struct attempt *config_vault_attempt(const struct config_section *section, struct vault_opening **opening);
/*
 * Every vault's key, as far as the vaults answer soon. One that does not, or is not there, is passed over with a warning in the log.
 * Errors: those of vault_check_key, of the first.
 */
MUST_CHECK int config_check_keys(const struct config *c, struct error *err);
/* What vault_make and vault_open take; its texts are the configuration's. */
void config_vault_fill(const struct config_section *vault, struct vault_config *ret);
/* STATE/<source>; owner: caller. */
char *config_source_state(const struct config *c, const struct config_section *source);
/* The directory of `target = local DIR`, or NULL. */
const char *config_target_directory(const struct config_section *source);

/*
 * A source ready for the modules: vaults opened, conninfo as it counts now (a source that was recovered by `act` goes on
 * at its new place: STATE/<source>/moved.json).
 */
struct source_context {
    const struct config *config;
    const struct config_section *section;
    const char *name;
    char *state_directory;
    char *conninfo; /* NULL: none */
    bool moved;
    char **identity_full, **identity_inserts;
    size_t vaults_count;
    struct vault **vaults;
    size_t missed_count; /* SOURCE_ANY_VAULT, SOURCE_LATE_VAULTS: those that could not be opened */
    struct source_missed *missed;
    struct pg_protect_config protect;
};

struct source_missed {
    const char *vault; /* the configuration's */
    struct error why;
};

enum source_needs {
    SOURCE_NEEDS_NOTHING = 0,
    SOURCE_NEEDS_CONNINFO = 1,
    SOURCE_NEEDS_VAULTS = 2,
    SOURCE_BRIEFLY = 4, /* somebody waits: a vault that does not answer is given up after seconds */
    SOURCE_ANY_VAULT = 8, /* one vault is enough: fails, as the first one did, only where none can be opened */
    /* The same, and what may come later (vault_may_come) is there all the same, absent, at its place; but not the one whose keys seal what lies on this host. */
    SOURCE_LATE_VAULTS = 16,
};
MUST_CHECK int source_context_open(const struct config *c, const char *name, unsigned needs,
                                   struct source_context *ret, struct error *err);
/* The same with one of the source's vaults alone. Errors: also USAGE it is none of them. */
MUST_CHECK int source_context_open_in(const struct config *c, const char *name, const char *vault, unsigned needs,
                                      struct source_context *ret, struct error *err);
void source_context_release(struct source_context *s);
/* The first that is open; NULL: none is. */
struct vault *source_vault_present(const struct source_context *s);

void source_capture_config(const struct source_context *s, struct capture_config *ret);
void source_snapshot_config(const struct source_context *s, struct snapshot_config *ret);
/* Everything but what to recover and into what. `work` owned by the caller must outlive it. */
void source_recover_config(const struct source_context *s, const char *work, struct recover_config *ret);

/* Where a moved source went; written after a completed cut-over. `configured` is the conninfo it replaces. */
MUST_CHECK int source_moved_write(const char *state_directory, const char *configured, const char *conninfo,
                                  struct error *err);

#endif
