/*
 * cmd/status_read.c - see status_read.h. Put together of what this host knows (status_host.c) and what the vault tells (status_vault.c). A
 * vault that cannot be reached makes its figures unknown, not the status fail, and one that hangs is waited for only so long.
 */
#include "cmd/status_read.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/status_host.h"
#include "cmd/status_measure.h"
#include "cmd/status_vault.h"
#include "os/attempt.h"

#define VAULT_PATIENCE_US (10 * CLOCK_US_PER_S)

/* Was the source ever captured on this host? */
static bool was_captured(const struct config *c, const char *source)
{
    const struct config_section *section;
    struct error ignored = ERROR_INIT;

    if (config_source(c, source, &section, &ignored) < 0)
        return false;
    CLEANUP(mem_free_ptr) char *directory = config_source_state(c, section);
    JSON_AUTO status = status_state_file(directory, "status.json");
    return status != NULL;
}

/* A store that cannot be reached now, or whose file system is not mounted, is no reason to show nothing; one that was never made is. */
static bool may_do_without(const struct config *c, const char *source, const struct error *err)
{
    return err->code == ERROR_CONNECT || err->code == ERROR_TIMEOUT || err->code == ERROR_IO || err->code == ERROR_NO_SPACE ||
           (err->code == ERROR_NOT_FOUND && was_captured(c, source));
}

static void add_limits(json_t *o, const struct source_context *s)
{
    json_t *list = json_object();

    for (size_t i = 0; i < s->vaults_count; i++)
        if (s->vaults[i]->limits[0])
            json_set_str(list, s->vaults[i]->name, s->vaults[i]->limits);
    json_object_set_new(o, "not_promised", list);
}

/* What is shown is another vault's; that these are not there is told all the same. */
static void add_missed(json_t *o, const struct source_context *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->missed_count; i++) {
        json_t *missed = json_object();

        json_set_str(missed, "vault", s->missed[i].vault);
        json_set_str(missed, "error", s->missed[i].why.message);
        json_set_str(missed, "read_instead", s->vaults[0]->name);
        json_array_append_new(list, missed);
    }
    if (s->missed_count > 0 && json_string_length(json_object_get(o, "error")) == 0)
        json_set_str(o, "error", s->missed[0].why.message);
    json_object_set_new(o, "vaults_missed", list);
}

/* --- with a deadline ---------------------------------------------------------------------------------------------- */

/* Reads the whole, from a configuration of its own: it may be left behind when the vault hangs. */
struct whole {
    char *config_path, *source;
    json_t *status;
};

static void whole_free(void *arg)
{
    struct whole *w = arg;

    free(w->config_path);
    free(w->source);
    json_decref(w->status);
    free(w);
}

static int read_whole(void *arg, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0}; /* has names of the configuration's: released before it */
    struct whole *w = arg;

    TRY(config_load(w->config_path, &c, err));
    TRY(source_context_open(&c, w->source, SOURCE_NEEDS_VAULTS | SOURCE_BRIEFLY | SOURCE_ANY_VAULT, &s, err));
    w->status = json_object();
    status_vault_fill(w->status, &s, status_host_fill(w->status, &s));
    add_limits(w->status, &s);
    add_missed(w->status, &s);
    return 0;
}

/* What this host knows by itself: the vault has not answered. */
static int read_without_vault(const struct config *c, const char *source, const struct error *why, json_t **ret, struct error *err)
{
    CLEANUP(source_context_release) struct source_context s = {0};

    TRY(source_context_open(c, source, 0, &s, err));
    CLEANUP(mem_free_ptr) char *vaults = mem_strdup(config_text(s.section, OPTION_VAULTS));
    CLEANUP(mem_free_ptr) char *text = why ? mem_strdup(why->message) :
        mem_printf("no answer from the vault (%s) in time: does the file system that it lies on hang? What only it knows is missing here", vaults);
    *ret = json_object();
    (void)status_host_fill(*ret, &s);
    status_widen_exposure(*ret);
    json_set_str(*ret, "error", text);
    return 0;
}

int status_read(const struct config *c, const char *source, json_t **ret, struct error *err)
{
    struct whole *w = mem_zalloc(1, sizeof *w);

    *w = (struct whole){.config_path = mem_strdup(c->path), .source = mem_strdup(source)};
    CLEANUP(attempt_free_ptr) struct attempt *a = attempt_start("status", read_whole, w, whole_free);
    int result = attempt_wait(a, clock_mono_us() + VAULT_PATIENCE_US, err);
    if (result == -ERROR_TIMEOUT) /* ours, or that of the open inside */
        return read_without_vault(c, source, NULL, ret, err);
    if (result < 0 && may_do_without(c, source, err)) {
        const struct error why = *err;
        return read_without_vault(c, source, &why, ret, err);
    }
    TRY(result);
    *ret = w->status;
    w->status = NULL;
    return 0;
}
