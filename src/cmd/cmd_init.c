/* cmd/cmd_init.c - makes the vaults that the configuration names. */
#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/journaled.h"

static void journal_made(const struct config *c, const struct config_section *section)
{
    json_t *members = json_object();
    struct vault *v = NULL;

    json_set_str(members, "vault", section->name);
    json_set_str(members, "driver", config_text(section, OPTION_DRIVER));
    if (config_vault_open(section, &v, NULL) >= 0)
        json_set_str(members, "id", v->id);
    journaled_add(c, "vault_made", NULL, members);
    if (v)
        journaled_ship(c, NULL, &v, 1);
    vault_free(v);
}

/* What the store cannot do is said where the vault is made, not found out when it is needed. */
static int print_limits(const struct vault_config *vc, struct error *err)
{
    struct vault *v;

    TRY(vault_open(vc, &v, err));
    if (v->limits[0])
        printf("vault %s: NOT PROMISED: %s\n", vc->name, v->limits);
    vault_free(v);
    return 0;
}

int command_init(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};

    TRY(arguments_parse(in, command_find("init"), NULL, 0, NULL, err));
    TRY(config_load(in->config_path, &c, err));
    for (size_t i = 0; i < c.vaults_count; i++) {
        const struct config_section *v = &c.vaults[i];
        struct vault_config vc;
        config_vault_fill(v, &vc);
        CLEANUP(mem_free_ptr) char *place = vault_config_url(&vc);
        int result = vault_make(&vc, err);
        if (result < 0 && err->code != ERROR_EXISTS)
            return error_prefix(err, "vault %s", v->name);
        const char *what = vault_key_given(v->name, &vc.key) ? "made, encrypted, in" : "made in";
        printf("vault %s: %s %s\n", v->name, result < 0 ? "is there already:" : what, place);
        if (result >= 0)
            journal_made(&c, v);
        *err = ERROR_INIT;
        TRY(print_limits(&vc, err));
    }
    if (c.vaults_count == 0)
        return error_set(err, ERROR_USAGE, "%s names no [vault NAME]", c.path);
    return 0;
}
