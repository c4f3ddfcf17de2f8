/*
 * cmd/source.c - a configured source made ready for the modules: vaults open, option structs filled.
 *
 * A source that an unattended recovery moved is found at its new place: STATE/<source>/moved.json holds the new conninfo and the
 * digest of the configured one that it replaces. Once a person writes another conninfo into the configuration, that
 * one counts again.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/spool_seal.h"
#include "cmd/config.h"
#include "os/attempt.h"
#include "os/file.h"
#include "vault/absent.h"

#define BRIEF_PATIENCE_MS  3000
#define PROGRESS_BYTES_MIN ((uint64_t)64 << 20)
#define PROGRESS_EVERY_US  (5 * CLOCK_US_PER_S)
#define MOVED_BYTES_MAX 65536u
#define VAULT_PATIENCE_US (10 * CLOCK_US_PER_S)

static char *moved_path(const char *state_directory)
{
    return mem_printf("%s/moved.json", state_directory);
}

static void conninfo_digest(const char *conninfo, char text[static DIGEST_TEXT_BYTES])
{
    struct digest d = digest_of(slice_str(conninfo));
    digest_format(&d, text);
}

int source_moved_write(const char *state_directory, const char *configured, const char *conninfo, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = moved_path(state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(MOVED_BYTES_MAX);
    JSON_AUTO j = json_object();
    char digest[DIGEST_TEXT_BYTES];
    char now[CLOCK_TEXT_BYTES];

    conninfo_digest(configured, digest);
    json_set_str(j, "conninfo", conninfo);
    json_set_str(j, "replaces", digest);
    json_set_str(j, "at", clock_format_wall(clock_wall_us(), now));
    json_dump(j, &text);
    return file_replace(path, buf_slice(&text), 0600, err);
}

/* ret stays as it is where the source has not moved. */
static int moved_read(const char *state_directory, const char *configured, char **ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = moved_path(state_directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(MOVED_BYTES_MAX);
    JSON_AUTO j = NULL;
    const char *conninfo, *replaces;
    char digest[DIGEST_TEXT_BYTES];

    if (!file_exists(path))
        return 0;
    TRY(file_read_all(path, MOVED_BYTES_MAX, &text, err));
    TRY(json_parse(buf_slice(&text), path, &j, err));
    TRY(json_get_str(j, "conninfo", path, &conninfo, err));
    TRY(json_get_str(j, "replaces", path, &replaces, err));
    conninfo_digest(configured, digest);
    if (strcmp(digest, replaces) == 0)
        *ret = mem_strdup(conninfo);
    return 0;
}

int config_vault_open(const struct config_section *section, struct vault **ret, struct error *err)
{
    struct vault_config vc;

    config_vault_fill(section, &vc);

    return vault_open(&vc, ret, err);
}

static void opening_free(void *arg)
{
    struct vault_opening *o = arg;

    vault_free(o->vault);
    config_section_release(&o->section);
    free(o);
}

static int opening_run(void *arg, struct error *err)
{
    struct vault_opening *o = arg;

    return config_vault_open(&o->section, &o->vault, err);
}

struct attempt *config_vault_attempt(const struct config_section *section, struct vault_opening **opening)
{
    struct vault_opening *o = mem_zalloc(1, sizeof *o);

    config_section_copy(section, &o->section);
    *opening = o;
    return attempt_start("open", opening_run, o, opening_free);
}

static int open_in_time(const struct config_section *section, int64_t patience_us, struct vault **ret, struct error *err)
{
    struct vault_opening *o;
    struct error why = ERROR_INIT;
    CLEANUP(attempt_free_ptr) struct attempt *a = config_vault_attempt(section, &o);
    int result = attempt_wait(a, clock_mono_us() + patience_us, &why);
    if (result == -ERROR_TIMEOUT && !attempt_is_over(a))
        return error_set(err, ERROR_TIMEOUT, "vault %s has not answered within %d s: does the file system that it lies on hang?", section->name,
                         (int)(patience_us / CLOCK_US_PER_S));
    if (result < 0) {
        *err = why;
        return result;
    }
    *ret = o->vault;
    o->vault = NULL;
    return 0;
}

/* A bucket has deadlines of its own; only a directory may hang for good. */
static int open_one(const struct config_section *section, bool briefly, struct vault **ret, struct error *err)
{
    struct vault_config vc;

    config_vault_fill(section, &vc);
    if (strcmp(vc.driver, "posix") == 0)
        return open_in_time(section, briefly ? BRIEF_PATIENCE_MS * CLOCK_US_PER_MS : VAULT_PATIENCE_US, ret, err);
    vc.patience_ms = briefly ? BRIEF_PATIENCE_MS : 0;
    return vault_open(&vc, ret, err);
}

/* --- the keys alone, before anything else is done ----------------------------------------------------------------------- */

static int check_key_run(void *arg, struct error *err)
{
    struct vault_config vc;

    config_vault_fill(arg, &vc);
    vc.patience_ms = BRIEF_PATIENCE_MS;
    return vault_check_key(&vc, err);
}

static void check_key_free(void *arg)
{
    config_section_release(arg);
    free(arg);
}

static int check_key(const struct config_section *vault, struct error *err)
{
    struct config_section *own = mem_zalloc(1, sizeof *own);
    struct error why = ERROR_INIT;

    config_section_copy(vault, own);
    CLEANUP(attempt_free_ptr) struct attempt *a = attempt_start("key", check_key_run, own, check_key_free);
    int rc = attempt_wait(a, clock_mono_us() + VAULT_PATIENCE_US, &why);
    if (rc < 0 && attempt_is_over(a)) {
        *err = why;
        return rc;
    }
    if (rc <= 0)
        log_warn("the key of vault %s is not checked yet: %s", vault->name, why.message);
    return 0;
}

int config_check_keys(const struct config *c, struct error *err)
{
    for (size_t i = 0; i < c->vaults_count; i++)
        TRY(check_key(&c->vaults[i], err));
    return 0;
}

/* What takes long says so, now and then. */
static void tell_progress(void *user, const char *key, uint64_t done_bytes, uint64_t bytes)
{
    static _Atomic int64_t told_mono_us;
    int64_t now = clock_mono_us();
    char done[TEXT_SIZE_BYTES], all[TEXT_SIZE_BYTES];

    if (bytes < PROGRESS_BYTES_MIN || now - told_mono_us < PROGRESS_EVERY_US)
        return;
    told_mono_us = now;
    log_info("vault %s: %s of %s of %s", (const char *)user, text_format_size(done_bytes, done), text_format_size(bytes, all), key);
}

static void miss(struct source_context *s, const char *vault, const struct error *why)
{
    s->missed = mem_resize(s->missed, s->missed_count + 1, sizeof *s->missed);
    s->missed[s->missed_count++] = (struct source_missed){.vault = vault, .why = *why};
}

/* The first vault with keys seals the spool: without it what lies on this host cannot be read, and nothing may be written beside it. */
static bool seals_state(const struct source_context *s, const struct config_section *section)
{
    struct vault_config vc;

    config_vault_fill(section, &vc);
    for (size_t i = 0; i < s->vaults_count; i++)
        if (s->vaults[i]->keys)
            return false;
    return vault_key_given(vc.name, &vc.key);
}

static void add_vault(struct source_context *s, struct vault *v)
{
    s->vaults = mem_resize(s->vaults, s->vaults_count + 1, sizeof *s->vaults);
    s->vaults[s->vaults_count++] = v;
}

static bool goes_on_without(const struct source_context *s, const struct config_section *section, unsigned needs, const struct error *why)
{
    if (needs & SOURCE_LATE_VAULTS)
        return vault_may_come(why) && !seals_state(s, section);
    return needs & SOURCE_ANY_VAULT;
}

/* What cannot be opened is missed. */
static int open_next(struct source_context *s, const struct config_section *section, unsigned needs, struct error *err)
{
    struct error why = ERROR_INIT;
    struct vault *opened;

    int rc = open_one(section, needs & SOURCE_BRIEFLY, &opened, &why);
    if (rc < 0 && goes_on_without(s, section, needs, &why)) {
        miss(s, section->name, &why);
        if (needs & SOURCE_LATE_VAULTS)
            add_vault(s, vault_absent_new(section->name, &why));
        return 0;
    }
    if (rc < 0) {
        *err = why;
        return rc;
    }
    opened->driver->progress = tell_progress;
    opened->driver->progress_user = opened->name;
    add_vault(s, opened);
    return 0;
}

struct vault *source_vault_present(const struct source_context *s)
{
    for (size_t i = 0; i < s->vaults_count; i++)
        if (!vault_is_absent(s->vaults[i]))
            return s->vaults[i];
    return NULL;
}

static int open_vaults(struct source_context *s, const char *only, unsigned needs, struct error *err)
{
    char **names = config_list(s->section, OPTION_VAULTS);
    int result = 0;

    for (size_t i = 0; names[i] && result >= 0; i++)
        if (!only || strcmp(names[i], only) == 0)
            result = open_next(s, config_vault(s->config, names[i]), needs, err);
    config_list_free(names);
    if (result < 0 || source_vault_present(s))
        return result;
    if (s->missed_count == 0)
        return error_set(err, ERROR_USAGE, "source %s has no vault %s: it has %s", s->name, only ? only : "", config_text(s->section, OPTION_VAULTS));
    *err = s->missed[0].why;
    return -(int)err->code;
}

/* The first encrypted vault's keys seal what of the source lies on this host. */
static void seal_state(const struct source_context *s)
{
    bool plain = config_bool(s->section, OPTION_STATE_PLAIN);
    struct vault_keys *keys = NULL;

    for (size_t i = 0; i < s->vaults_count && !keys; i++)
        keys = s->vaults[i]->keys;
    spool_seal_set(s->name, keys, plain);
    if (keys && !plain)
        file_scratch_seal();
}

static enum pg_identity_choice identity_choice(const struct config_section *section)
{
    const char *text = config_text(section, OPTION_IDENTITY);
    if (strcmp(text, "full") == 0)
        return PG_IDENTITY_FULL;
    return strcmp(text, "inserts") == 0 ? PG_IDENTITY_INSERTS : PG_IDENTITY_ASK;
}

static void fill_protect(struct source_context *s)
{
    s->identity_full = config_list(s->section, OPTION_IDENTITY_FULL);
    s->identity_inserts = config_list(s->section, OPTION_IDENTITY_INSERTS);
    s->protect = (struct pg_protect_config){
        .source = s->name,
        .conninfo = s->conninfo,
        .identity = identity_choice(s->section),
        .identity_full_tables = (const char *const *)s->identity_full,
        .identity_inserts_tables = (const char *const *)s->identity_inserts,
        .slot_wal_unbounded = config_bool(s->section, OPTION_SLOT_WAL_UNBOUNDED),
        .large_objects_ignored = strcmp(config_text(s->section, OPTION_LARGE_OBJECTS), "ignore") == 0,
        .slot_timeout_ms = (int)(config_duration(s->section, OPTION_SLOT_TIMEOUT) / CLOCK_US_PER_MS),
    };
}

static int fill(struct source_context *s, const char *only, unsigned needs, struct error *err)
{
    const char *configured = config_text(s->section, OPTION_CONNINFO);

    s->state_directory = config_source_state(s->config, s->section);
    if (configured) {
        TRY(moved_read(s->state_directory, configured, &s->conninfo, err));
        s->moved = s->conninfo != NULL;
        if (!s->moved)
            s->conninfo = mem_strdup(configured);
    } else if (needs & SOURCE_NEEDS_CONNINFO) {
        return error_set(err, ERROR_USAGE, "%s:%d: [source %s] has no conninfo, and this command has to reach the source",
                         s->config->path, s->section->line, s->name);
    }
    fill_protect(s);
    if (!(needs & SOURCE_NEEDS_VAULTS))
        return 0;
    TRY(open_vaults(s, only, needs, err));
    seal_state(s);
    return 0;
}

int source_context_open(const struct config *c, const char *name, unsigned needs, struct source_context *ret,
                        struct error *err)
{
    return source_context_open_in(c, name, NULL, needs, ret, err);
}

int source_context_open_in(const struct config *c, const char *name, const char *vault, unsigned needs, struct source_context *ret,
                           struct error *err)
{
    struct source_context s = {.config = c};

    TRY(config_source(c, name, &s.section, err));
    s.name = s.section->name;
    int result = fill(&s, vault, needs, err);
    if (result < 0) {
        source_context_release(&s);
        return result;
    }
    *ret = s;
    return 0;
}

void source_context_release(struct source_context *s)
{
    if (s->vaults_count > 0 && s->name)
        spool_seal_set(s->name, NULL, false); /* its keys go */
    for (size_t i = 0; i < s->vaults_count; i++)
        vault_free(s->vaults[i]);
    free(s->vaults);
    free(s->missed);
    free(s->state_directory);
    free(s->conninfo);
    config_list_free(s->identity_full);
    config_list_free(s->identity_inserts);
    *s = (struct source_context){0};
}

void source_capture_config(const struct source_context *s, struct capture_config *ret)
{
    *ret = (struct capture_config){
        .protect = s->protect,
        .state_directory = s->state_directory,
        .vaults = s->vaults,
        .vaults_count = s->vaults_count,
        .rpo_us = config_duration(s->section, OPTION_RPO),
        .heartbeat_us = config_duration(s->section, OPTION_HEARTBEAT),
        .poll_us = config_duration(s->section, OPTION_POLL),
        .large_compare_us = config_duration(s->section, OPTION_LARGE_OBJECTS_COMPARE),
        .idle_segment_us = config_duration(s->section, OPTION_IDLE_SEGMENT),
        .segment_bytes = config_number(s->section, OPTION_SEGMENT_SIZE),
        .spool_bytes_max = config_number(s->section, OPTION_SPOOL_MAX),
        .zstd_level = (int)config_number(s->section, OPTION_ZSTD_LEVEL),
        .pg_bin = config_text(s->section, OPTION_PG_BIN),
    };
}

void source_snapshot_config(const struct source_context *s, struct snapshot_config *ret)
{
    *ret = (struct snapshot_config){
        .protect = s->protect,
        .state_directory = s->state_directory,
        .vaults = s->vaults,
        .vaults_count = s->vaults_count,
        .pg_bin = config_text(s->section, OPTION_PG_BIN),
        .connections = (int)config_number(s->section, OPTION_CONNECTIONS),
        .sort_bytes_max = config_number(s->section, OPTION_SORT_MEMORY),
        .zstd_level = (int)config_number(s->section, OPTION_ZSTD_LEVEL),
        .split_tables = config_bool(s->section, OPTION_SPLIT_TABLES),
        .slot_timeout_us = config_duration(s->section, OPTION_SLOT_TIMEOUT),
        .lock_patience_us = config_duration(s->section, OPTION_LOCK_PATIENCE),
    };
}

void source_recover_config(const struct source_context *s, const char *work, struct recover_config *ret)
{
    *ret = (struct recover_config){
        .source = s->name,
        .vault = s->vaults_count > 0 ? s->vaults[0] : NULL,
        .state_directory = s->state_directory,
        .work_directory = work,
        .pg_bin = config_text(s->section, OPTION_PG_BIN),
        .local_user = config_text(s->section, OPTION_LOCAL_USER),
        .local_auth = config_text(s->section, OPTION_LOCAL_AUTH),
        .connections = (int)config_number(s->section, OPTION_CONNECTIONS),
        .memory_bytes_max = config_number(s->section, OPTION_SORT_MEMORY),
        .large_objects_ignored = s->protect.large_objects_ignored,
    };
}
