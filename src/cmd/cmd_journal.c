/*
 * cmd/cmd_journal.c - what happened and what was measured: the entries of every writer, from the vaults and from this host.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/command.h"
#include "cmd/fleet.h"
#include "cmd/journaled.h"
#include "journal/read.h"

#define LINE_BYTES_MAX ((size_t)1 << 20)

/* "a 1, b text": what a person reads of the members. */
static void put_members(struct buf *out, const json_t *members)
{
    const char *key, *parted = "";
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)members, key, v) {
        if (json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0))
            continue;
        buf_printf(out, "%s%s ", parted, key);
        parted = ", ";
        if (json_is_string(v))
            buf_printf(out, "%s", json_string_value(v));
        else if (json_is_integer(v))
            buf_printf(out, "%lld", (long long)json_integer_value(v));
        else if (json_is_real(v))
            buf_printf(out, "%.2f", json_real_value(v));
        else if (json_is_boolean(v))
            buf_printf(out, "%s", json_is_true(v) ? "yes" : "no");
        else
            json_dump(v, out);
    }
}

static void print_entry(const struct journal_entry *e)
{
    CLEANUP(buf_release) struct buf members = BUF_INIT(LINE_BYTES_MAX);
    char time[CLOCK_TEXT_BYTES];

    put_members(&members, e->members);
    printf("%-28s %-12s %-16s %s\n", clock_format_wall(e->wall_us, time), e->source[0] ? e->source : "-", e->kind,
           buf_cstr(&members));
}

static json_t *entry_json(const struct journal_entry *e)
{
    json_t *o = json_object();
    char time[CLOCK_TEXT_BYTES];

    json_set_str(o, "writer", e->writer);
    json_set_u64(o, "sequence", e->sequence);
    json_set_str(o, "time", clock_format_wall(e->wall_us, time));
    json_set_i64(o, "wall_us", e->wall_us);
    json_set_str(o, "kind", e->kind);
    json_set_str(o, "source", e->source[0] ? e->source : NULL);
    json_object_set(o, "members", e->members);
    json_set_digest(o, "previous", &e->previous);
    json_set_digest(o, "digest", &e->digest);
    return o;
}

/* A name of the configuration stands for one source or a group's; any other is taken as it is: the journal may know it. */
struct wanted {
    const char *name; /* NULL: all */
    struct fleet_selection sources;
};

static bool is_wanted(const struct journal_entry *e, const struct wanted *w)
{
    if (!w->name || strcmp(e->source, w->name) == 0)
        return true;
    for (size_t i = 0; i < w->sources.count; i++)
        if (strcmp(e->source, w->sources.sources[i]->name) == 0)
            return true;
    return false;
}

static void print_all(const struct journal_entries *e, const struct wanted *w)
{
    for (size_t i = 0; i < e->count; i++)
        if (is_wanted(&e->entries[i], w))
            print_entry(&e->entries[i]);
}

static void print_all_json(const struct journal_entries *e, const struct wanted *w, json_t *writers)
{
    JSON_AUTO o = json_object();
    json_t *list = json_array();

    for (size_t i = 0; i < e->count; i++)
        if (is_wanted(&e->entries[i], w))
            json_array_append_new(list, entry_json(&e->entries[i]));
    json_object_set_new(o, "entries", list);
    json_object_set(o, "writers", writers);
    json_set_u64(o, "unread", e->unread);
    print_json(o);
}

static bool is_known(const json_t *writers, const char *id)
{
    size_t i;
    json_t *w;

    json_array_foreach(writers, i, w)
        if (strcmp(json_string_value(json_object_get(w, "writer")), id) == 0)
            return true;
    return false;
}

/* Public keys, to be written down elsewhere. */
static void add_writers(struct vault *v, const struct journal_entries *e, json_t *writers)
{
    char key[JOURNAL_PUBLIC_TEXT_BYTES];

    for (size_t i = 0; i < e->count; i++) {
        if (is_known(writers, e->entries[i].writer) || journal_public_key(v, e->entries[i].writer, key, NULL) < 0)
            continue;
        json_t *w = json_object();
        json_set_str(w, "writer", e->entries[i].writer);
        json_set_str(w, "public_key", key);
        json_array_append_new(writers, w);
    }
}

/* A vault that cannot be reached leaves what this host has: said, and the exit status tells it. */
static void read_vault(const struct config_section *section, struct journal_entries *e, json_t *writers, bool *failed)
{
    struct error err = ERROR_INIT;
    struct vault *v;

    int rc = config_vault_open(section, &v, &err);
    if (rc >= 0) {
        rc = journal_read_vault(v, e, &err);
        add_writers(v, e, writers);
        vault_free(v);
    }
    if (rc < 0) {
        fprintf(stderr, "salvor journal: vault %s is not read: %s\n", section->name, err.message);
        *failed = true;
    }
}

/* The newest entry of each, read so far: what a note elsewhere holds the vault to. */
static void add_heads(const struct journal_entries *e, json_t *writers)
{
    char text[JOURNAL_HEAD_TEXT_BYTES], time[CLOCK_TEXT_BYTES];
    size_t i;
    json_t *w;

    json_array_foreach(writers, i, w)
        for (size_t k = e->count; k-- > 0;)
            if (strcmp(json_string_value(json_object_get(w, "writer")), e->entries[k].writer) == 0) {
                json_set_str(w, "head", journal_head_text(&e->entries[k], text));
                json_set_str(w, "head_time", clock_format_wall(e->entries[k].wall_us, time));
                break;
            }
}

static int read_all(const struct config *c, struct journal_entries *e, json_t *writers, bool *failed, struct error *err)
{
    CLEANUP(journal_done) struct journal *j = NULL;

    for (size_t i = 0; i < c->vaults_count; i++)
        read_vault(&c->vaults[i], e, writers, failed);
    add_heads(e, writers); /* of what is in the vaults */
    TRY(journaled_open(c, &j, err));
    TRY(journal_read_local(j, e, err));
    journal_entries_sort(e);
    return 0;
}

static void print_writers(const json_t *writers)
{
    size_t i;
    json_t *w;

    json_array_foreach(writers, i, w)
        printf("writer %s signs with the key %s\n  its newest entry, for `salvor verify --expect-head`: %s, %s\n", json_string_value(json_object_get(w, "writer")),
               json_string_value(json_object_get(w, "public_key")), json_string_value(json_object_get(w, "head")),
               json_string_value(json_object_get(w, "head_time")));
}

int command_journal(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(journal_entries_release) struct journal_entries e = JOURNAL_ENTRIES_INIT;
    struct wanted w = {0};
    struct error unknown = ERROR_INIT;
    bool json = false, failed = false;
    const struct argument flags[] = {{"--json", NULL, &json}};
    JSON_AUTO writers = json_array();

    TRY(arguments_parse(in, command_find("journal"), flags, 1, &w.name, err));
    TRY(config_load(in->config_path, &c, err));
    TRY(read_all(&c, &e, writers, &failed, err));
    if (w.name && fleet_select(&c, w.name, &w.sources, &unknown) < 0)
        w.sources = (struct fleet_selection){0};
    if (json)
        print_all_json(&e, &w, writers);
    else
        print_all(&e, &w);
    if (!json && !w.name)
        print_writers(writers);
    fleet_selection_release(&w.sources);
    if (e.unread > 0)
        fprintf(stderr, "salvor journal: %zu runs of entries cannot be read (`salvor verify` names them): %s\n", e.unread,
                e.first_unread);
    return failed || e.unread > 0 ? 1 : 0;
}
