/*
 * cmd/cmd_adopt.c - the recovery host, its state and its configuration are gone: a vault is enough to go on.
 */
#include "base/mem.h"
#include "cmd/adopt.h"
#include "cmd/command.h"
#include "cmd/journaled.h"
#include "os/file.h"

#define TEXT_BYTES_MAX ((size_t)64 << 20)

struct wish {
    struct location_words vault;
    const char *output, *state;
    bool json;
};

/* Never over a file that is there. */
static int write_configuration(const char *path, struct slice text, struct error *err)
{
    CLEANUP(file_release) struct file f = FILE_INIT;

    int rc = file_open(&f, FILE_CREATE, path, err);
    if (rc == -ERROR_EXISTS)
        return error_set(err, ERROR_REFUSED, "%s is there already and is left as it is: name another file", path);
    TRY(rc);
    TRY(file_write(&f, text, err));
    TRY(file_sync(&f, err));
    return file_close(&f, err);
}

static void journal_adopted(const char *path, const struct adopted *a)
{
    CLEANUP(config_release) struct config c = {0};
    json_t *members = json_object(), *sources = json_array();
    struct error err = ERROR_INIT;
    size_t i;
    json_t *source;

    json_set_str(members, "vault", a->location.place);
    json_set_str(members, "id", a->vault->id);
    json_array_foreach(a->sources, i, source)
        json_array_append(sources, json_object_get(source, "name"));
    json_object_set_new(members, "sources", sources);
    if (config_load(path, &c, &err) < 0) {
        json_decref(members);
        fprintf(stderr, "salvor adopt: %s\n", err.message);
        return;
    }
    journaled_add(&c, "adopted", NULL, members);
    journaled_ship(&c, NULL, &a->vault, 1);
}

static void print_json_result(const struct adopted *a, const struct wish *w)
{
    JSON_AUTO o = json_object();

    json_set_str(o, "vault", a->location.place);
    json_set_str(o, "id", a->vault->id);
    json_object_set(o, "sources", a->sources);
    json_set_str(o, "configuration", w->output);
    json_set_u64(o, "journal_unread", a->journal.unread);
    print_json(o);
}

static int write_wanted(const struct adopted *a, const struct wish *w, struct error *err)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(TEXT_BYTES_MAX), list = BUF_INIT(TEXT_BYTES_MAX);

    adopt_configuration(a, w->state, &text);
    if (w->output)
        TRY(write_configuration(w->output, buf_slice(&text), err));
    if (w->output)
        journal_adopted(w->output, a);
    if (w->json) {
        print_json_result(a, w);
        return 0;
    }
    if (!w->output) {
        printf("%s", buf_cstr(&text));
        return 0;
    }
    adopt_list(a, "", &list);
    printf("%sthe configuration is in %s: look it through, then `salvor --config %s run`\n", buf_cstr(&list), w->output, w->output);
    return 0;
}

int command_adopt(const struct invocation *in, struct error *err)
{
    CLEANUP(adopted_release) struct adopted a = {0};
    const struct command *self = command_find("adopt");
    struct wish w = {.state = options[OPTION_STATE].default_text};
    const struct argument flags[] = {{"--output", &w.output, NULL},
                                     {"--state", &w.state, NULL},
                                     {"--json", NULL, &w.json},
                                     {"--key-file", &w.vault.key_file, NULL},
                                     {"--passphrase-file", &w.vault.passphrase_file, NULL}};

    TRY(arguments_parse(in, self, flags, 5, &w.vault.place, err));
    if (!w.vault.place)
        return error_set(err, ERROR_USAGE, "name the vault; usage: salvor %s %s", self->name, self->arguments);
    if (w.state[0] != '/')
        return error_set(err, ERROR_USAGE, "--state '%s' must be an absolute path", w.state);
    TRY(adopt_read(&w.vault, &a, err));
    if (a.journal.unread > 0)
        fprintf(stderr, "salvor adopt: %zu runs of the vault's journal cannot be read: %s\n", a.journal.unread,
                a.journal.first_unread);
    return write_wanted(&a, &w, err);
}
