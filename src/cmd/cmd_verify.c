/* cmd/cmd_verify.c - reads the whole vault and names everything that is not as it was written. */
#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/journaled.h"
#include "cmd/shipped.h"
#include "vault/verify.h"

static void on_progress(void *user, const struct verify_result *r)
{
    char size[TEXT_SIZE_BYTES];
    const char *vault = user;

    progress_line("vault %s: %llu objects, %s read, %zu findings", vault, (unsigned long long)r->objects,
                  text_format_size(r->bytes, size), r->findings_count);
}

static json_t *result_json(const char *vault, const struct verify_result *r)
{
    json_t *j = json_object(), *findings = json_array();

    for (size_t i = 0; i < r->findings_count; i++) {
        json_t *f = json_object();
        json_set_str(f, "kind", r->findings[i].kind);
        json_set_str(f, "key", r->findings[i].key);
        json_set_str(f, "text", r->findings[i].text);
        json_array_append_new(findings, f);
    }
    json_set_str(j, "name", vault);
    json_set_u64(j, "objects", r->objects);
    json_set_u64(j, "bytes", r->bytes);
    json_set_u64(j, "segments", r->segments);
    json_set_u64(j, "snapshots", r->snapshots);
    json_set_u64(j, "chunks", r->chunks);
    json_object_set_new(j, "findings", findings);
    return j;
}

static void print_result(const char *vault, const struct verify_result *r)
{
    char size[TEXT_SIZE_BYTES];

    for (size_t i = 0; i < r->findings_count; i++)
        printf("  %-9s %s\n            %s\n", r->findings[i].kind, r->findings[i].key, r->findings[i].text);
    printf("vault %s: %llu objects, %s read: %llu segments, %llu snapshots, %llu chunks: %s\n", vault,
           (unsigned long long)r->objects, text_format_size(r->bytes, size), (unsigned long long)r->segments,
           (unsigned long long)r->snapshots, (unsigned long long)r->chunks,
           r->findings_count == 0 ? "all as it was written" : "NOT as it was written");
}

/* Beside what the vault alone shows. */
struct host_findings {
    struct verify_result *r;
    size_t cap;
};

/* What the vault misses itself it tells better than the journal does. */
static bool is_known(const struct verify_result *r, const char *kind, const char *key)
{
    for (size_t i = 0; i < r->findings_count; i++)
        if (strcmp(r->findings[i].key, key) == 0 && strcmp(r->findings[i].kind, kind) == 0 && key[0] && key[strlen(key) - 1] != '/')
            return true;
    return false;
}

static void on_finding(void *user, const char *kind, const char *key, const char *text)
{
    struct host_findings *j = user;

    if (is_known(j->r, kind, key))
        return;
    struct verify_finding f = {.key = mem_strdup(key), .text = mem_strdup(text)};

    snprintf(f.kind, sizeof f.kind, "%s", kind);
    if (j->cap < j->r->findings_count)
        j->cap = j->r->findings_count;
    MEM_GROW(j->r->findings, j->cap, j->r->findings_count);
    j->r->findings[j->r->findings_count++] = f;
}

/* The journal is the vault's, whichever source is asked for: chains, signatures, and what this host knows of its own and has stored. */
static int verify_by_host(const struct config *c, struct vault *vault, const char *source, const char *noted, struct verify_result *r,
                          struct error *err)
{
    CLEANUP(journal_done) struct journal *j = NULL;
    struct host_findings findings = {.r = r};
    const struct journal_check check = {.find = on_finding, .user = &findings, .noted = noted};

    TRY(journaled_open(c, &j, err));
    TRY(journal_check_vault(vault, j, &check, NULL, err));
    return shipped_check(c, vault, source, &check, err);
}

struct verify_wish {
    const char *noted; /* may be NULL */
    unsigned threads;
    bool json;
};

static int verify_one(const struct config *c, const struct config_section *v, const char *source, const struct verify_wish *w, json_t *list,
                      size_t *findings, struct error *err)
{
    struct verify_result r = {0};
    struct vault *vault;

    TRY(config_vault_open(v, &vault, err));
    int result = vault_verify(vault, source, w->threads, on_progress, v->name, &r, err);
    if (result >= 0)
        result = verify_by_host(c, vault, source, w->noted, &r, err);
    vault_free(vault);
    if (result >= 0 && !w->json)
        print_result(v->name, &r);
    if (result >= 0)
        json_array_append_new(list, result_json(v->name, &r));
    *findings += r.findings_count;
    verify_result_release(&r);
    return result;
}

static bool list_has(char **list, const char *name)
{
    for (size_t i = 0; list && list[i]; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

/* The whole vault, or what it has of the sources that are wanted. */
static int verify_vault(const struct config *c, const struct config_section *v, const struct fleet_selection *wanted, const struct verify_wish *w,
                        json_t *list, size_t *findings, struct error *err)
{
    if (!wanted)
        return verify_one(c, v, NULL, w, list, findings, err);
    for (size_t i = 0; i < wanted->count; i++) {
        char **vaults = config_list(wanted->sources[i], OPTION_VAULTS);
        bool keeps = list_has(vaults, v->name);

        config_list_free(vaults);
        if (keeps)
            TRY(verify_one(c, v, wanted->sources[i]->name, w, list, findings, err));
    }
    return 0;
}

int command_verify(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(fleet_selection_release) struct fleet_selection wanted = {0};
    const char *name = NULL;
    bool json = false;
    const char *threads_text = NULL, *noted = NULL;
    const struct argument flags[] = {{"--json", NULL, &json}, {"--threads", &threads_text, NULL}, {"--expect-head", &noted, NULL}};
    uint64_t threads = 0;
    JSON_AUTO list = json_array();
    size_t findings = 0;

    TRY(arguments_parse(in, command_find("verify"), flags, 3, &name, err));
    if (threads_text && text_parse_u64(slice_str(threads_text), 1, 64, &threads, err) < 0)
        return error_prefix(err, "--threads");
    TRY(config_load(in->config_path, &c, err));
    if (name)
        TRY(fleet_select(&c, name, &wanted, err));
    if (c.vaults_count == 0)
        return error_set(err, ERROR_USAGE, "%s names no [vault NAME]: there is nothing to verify", c.path);
    const struct verify_wish wish = {.noted = noted, .threads = (unsigned)threads, .json = json};
    for (size_t i = 0; i < c.vaults_count; i++)
        TRY(verify_vault(&c, &c.vaults[i], name ? &wanted : NULL, &wish, list, &findings, err));
    if (json) {
        JSON_AUTO object = json_object();
        json_object_set(object, "vaults", list);
        print_json(object);
    }
    return findings > 0 ? 4 : 0;
}
