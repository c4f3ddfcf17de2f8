/* cmd/shipped.c - see shipped.h. */
#include "cmd/shipped.h"

#include <stdlib.h>

#include "base/mem.h"
#include "cmd/status_host.h"
#include "vault/segment.h"

/* The newest commit that this host stored in the vault, and of which incarnation; false: nothing is known. */
static bool stored_position(const json_t *status, const char *vault, struct position *ret, const char **ret_incarnation)
{
    const json_t *entry;
    size_t i;

    *ret_incarnation = json_string_value(json_object_get(status, "incarnation"));
    if (!*ret_incarnation || strlen(*ret_incarnation) >= VAULT_INCARNATION_BYTES)
        return false;
    json_array_foreach(json_object_get(status, "vaults"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));

        if (name && strcmp(name, vault) == 0)
            return position_in(entry, "position", ret) && !position_is_zero(*ret);
    }
    return false;
}

static int check_source(const char *state_directory, const char *source, struct vault *v, const struct journal_check *check,
                        struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    char wanted[POSITION_TEXT_BYTES], end[POSITION_TEXT_BYTES];
    JSON_AUTO status = status_state_file(state_directory, "status.json");
    struct position stored, newest = POSITION_ZERO;
    const char *incarnation;
    size_t count;

    if (!status || !stored_position(status, v->name, &stored, &incarnation))
        return 0;
    TRY(segment_list(v, source, incarnation, &refs, &count, err));
    if (count > 0)
        newest = refs[count - 1].id.last;
    if (position_compare(newest, stored) >= 0)
        return 0;
    CLEANUP(mem_free_ptr) char *key = mem_printf("sources/%s/%s/rows/", source, incarnation);
    CLEANUP(mem_free_ptr) char *text =
        mem_printf("this host stored transactions up to %s here, and the newest segment that is left ends at %s: the segments after it are gone",
                   position_format(stored, wanted), position_format(newest, end));
    check->find(check->user, "missing", key, text);
    return 0;
}

int shipped_check(const struct config *c, struct vault *v, const char *source, const struct journal_check *check, struct error *err)
{
    for (size_t i = 0; i < c->sources_count; i++) {
        const struct config_section *s = &c->sources[i];

        if (source && strcmp(source, s->name) != 0)
            continue;
        CLEANUP(mem_free_ptr) char *state = config_source_state(c, s);
        TRY(check_source(state, s->name, v, check, err));
    }
    return 0;
}
