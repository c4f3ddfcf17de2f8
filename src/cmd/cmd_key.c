/*
 * cmd/cmd_key.c - the keys of encrypted vaults: new, rotate, export, import.
 *
 * A secret goes to a file of mode 0600 that was not there, or, where asked for, to standard output; never elsewhere.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/journaled.h"
#include "vault/object.h"

static int usage(struct error *err)
{
    const struct command *c = command_find("key");

    return error_set(err, ERROR_USAGE, "usage: salvor key %s", c->arguments);
}

static int find_vault(const struct config *c, const char *name, struct vault_config *ret, struct error *err)
{
    const struct config_section *v = config_vault(c, name);

    if (!v)
        return error_set(err, ERROR_USAGE, "there is no [vault %s] in %s", name, c->path);
    config_vault_fill(v, ret);
    return 0;
}

static void vault_done(struct vault **v)
{
    vault_free(*v);
}

static int open_encrypted(const struct vault_config *vc, struct vault **ret, struct error *err)
{
    TRY(vault_open(vc, ret, err));
    if ((*ret)->keys)
        return 0;
    return error_set(err, ERROR_REFUSED, "vault %s is not encrypted: it has no keys. A vault is made encrypted, by `salvor init`",
                     vc->name);
}

static int key_new(const char *path, struct error *err)
{
    TRY(vault_key_file_make(path, err));
    printf("%s has a new key. Keep a copy of it away from this host and from the vault: without it the vault is lost.\n", path);
    return 0;
}

/* number: of the key; 0: of all. */
static void journal_key(const struct config *c, const char *kind, const struct vault_config *vc, uint32_t number)
{
    json_t *members = json_object();

    json_set_str(members, "vault", vc->name);
    if (number > 0)
        json_set_u64(members, "key", number);
    journaled_add(c, kind, NULL, members);
}

static int key_rotate(const struct config *c, const struct vault_config *vc, const struct vault_key_source *to, struct error *err)
{
    CLEANUP(vault_done) struct vault *v = NULL;
    bool another = to->key_file || to->passphrase_file;
    uint32_t n;

    TRY(open_encrypted(vc, &v, err));
    TRY(vault_keys_rotate(v->keys, another ? to : NULL, &n, err));
    journal_key(c, "key_rotated", vc, n);
    printf("vault %s: keys/%06u.json counts now: new objects are sealed with data key %u.\n", vc->name, n, n);
    if (another)
        printf("Name %s in [vault %s] and start `salvor run` again: the old key does not open the vault any more.\n",
               to->key_file ? to->key_file : to->passphrase_file, vc->name);
    printf("Recovery kits from before are out of date: `salvor key export %s`.\n", vc->name);
    return 0;
}

static int write_out(const char *path, struct slice text, struct error *err)
{
    CLEANUP(file_release) struct file f = FILE_INIT;

    TRY(file_open(&f, FILE_CREATE, path, err));
    TRY(file_write(&f, text, err));
    TRY(file_sync(&f, err));
    return file_close(&f, err);
}

static int key_export(const struct config *c, const struct vault_config *vc, const char *out, struct error *err)
{
    CLEANUP(vault_done) struct vault *v = NULL;
    CLEANUP(buf_release_secret) struct buf text = BUF_INIT((size_t)64 << 20);

    TRY(open_encrypted(vc, &v, err));
    TRY(vault_keys_export(v->keys, vc->path, &text, err));
    journal_key(c, "key_exported", vc, 0); /* before it can be read anywhere */
    if (out) {
        TRY(write_out(out, buf_slice(&text), err));
        fprintf(stderr, "%s holds the key of vault %s: whoever reads it reads the whole vault. Move it to a safe place.\n", out,
                vc->name);
        return 0;
    }
    fprintf(stderr, "What follows on standard output is the key of vault %s: whoever sees it reads the whole vault.\n", vc->name);
    struct file to = {.fd = STDOUT_FILENO, .path = (char *)(uintptr_t) "standard output"};
    return file_write(&to, buf_slice(&text), err);
}

/* The vault need not open: that is what import is for. */
static int key_import(const struct vault_config *vc, const char *kit, struct error *err)
{
    struct error why = ERROR_INIT;
    uint32_t count;

    TRY(vault_keys_restore(vc, kit, &count, err));
    printf("vault %s: %u keys objects brought back\n", vc->name, count);
    struct vault *v = NULL;
    if (vault_open(vc, &v, &why) < 0)
        printf("It does not open yet: %s\n", why.message);
    vault_free(v);
    return 0;
}

int command_key(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    struct vault_key_source to = {0};
    const char *out = NULL, *kit = NULL, *name = NULL;
    const struct argument rotate_flags[] = {{"--new-key-file", &to.key_file, NULL},
                                            {"--new-passphrase-file", &to.passphrase_file, NULL}};
    const struct argument export_flags[] = {{"--out", &out, NULL}};
    struct invocation rest = *in;
    struct vault_config vc;

    if (in->argc < 2)
        return usage(err);
    const char *what = in->argv[0];
    rest.argc--;
    rest.argv++;
    if (strcmp(what, "new") == 0)
        return rest.argc == 1 ? key_new(rest.argv[0], err) : usage(err);
    if (strcmp(what, "import") == 0) {
        if (rest.argc != 2)
            return usage(err);
        name = rest.argv[0];
        kit = rest.argv[1];
    } else if (strcmp(what, "rotate") == 0) {
        TRY(arguments_parse(&rest, command_find("key"), rotate_flags, 2, &name, err));
    } else if (strcmp(what, "export") == 0) {
        TRY(arguments_parse(&rest, command_find("key"), export_flags, 1, &name, err));
    }
    if (!name || (to.key_file && to.passphrase_file))
        return usage(err);
    TRY(config_load(in->config_path, &c, err));
    TRY(find_vault(&c, name, &vc, err));
    if (kit)
        return key_import(&vc, kit, err);
    return strcmp(what, "rotate") == 0 ? key_rotate(&c, &vc, &to, err) : key_export(&c, &vc, out, err);
}
