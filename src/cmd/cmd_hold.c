/* cmd/cmd_hold.c - holds: what purging leaves alone because a person said so. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "cmd/command.h"
#include "cmd/journaled.h"
#include "vault/tombstone.h"

struct wish {
    const char *verb, *source, *number;
    const char *snapshot, *position, *incarnation, *reason;
    bool json;
};

static int usage(struct error *err)
{
    const struct command *self = command_find("hold");

    return error_set(err, ERROR_USAGE, "usage: salvor hold %s", self->arguments);
}

/* The verb, the source and the hold's number stand first, in this order. */
static int parse(const struct invocation *in, struct wish *w, struct error *err)
{
    const struct argument flags[] = {{"--snapshot", &w->snapshot, NULL}, {"--position", &w->position, NULL},
                                     {"--incarnation", &w->incarnation, NULL}, {"--reason", &w->reason, NULL},
                                     {"--json", NULL, &w->json}};
    const char **words[] = {&w->verb, &w->source, &w->number};
    struct invocation rest = *in;
    size_t count = 0;

    while (rest.argc > 0 && rest.argv[0][0] != '-' && count < 3) {
        *words[count++] = rest.argv[0];
        rest.argv++;
        rest.argc--;
    }
    TRY(arguments_parse(&rest, command_find("hold"), flags, sizeof flags / sizeof *flags, NULL, err));
    return w->verb && w->source ? 0 : usage(err);
}

static int newest_incarnation(const struct source_context *s, struct hold *h, struct error *err)
{
    struct incarnation *list;
    size_t count;

    TRY(incarnation_list(s->vaults[0], s->name, &list, &count, err));
    if (count > 0)
        memcpy(h->incarnation, list[count - 1].id, sizeof h->incarnation);
    free(list);
    return count > 0 ? 0 : error_set(err, ERROR_NOT_FOUND, "vault %s holds nothing of %s yet", s->vaults[0]->name, s->name);
}

/* A snapshot is found in any incarnation. */
static int find_snapshot(const struct source_context *s, const char *wish, struct hold *h, struct error *err)
{
    CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
    size_t count;

    TRY(incarnation_list(s->vaults[0], s->name, &list, &count, err));
    for (size_t i = count; i-- > 0;) {
        char **ids;
        size_t n;

        TRY(snapshot_list(s->vaults[0], s->name, list[i].id, &ids, &n, err));
        for (size_t k = 0; k < n; k++) {
            if (snapshot_is(ids[k], wish)) {
                memcpy(h->incarnation, list[i].id, sizeof h->incarnation);
                (void)snprintf(h->snapshot, sizeof h->snapshot, "%s", ids[k]);
            }
            free(ids[k]);
        }
        free(ids);
    }
    return h->incarnation[0] ? 0 : error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s of %s", wish, s->name);
}

static int make_hold(const struct source_context *s, const struct wish *w, struct hold *h, struct error *err)
{
    if (!w->reason || !*w->reason)
        return error_set(err, ERROR_USAGE, "say why: --reason TEXT");
    if (w->snapshot && w->position)
        return error_set(err, ERROR_USAGE, "--snapshot or --position, not both");
    *h = (struct hold){.kind = w->snapshot ? HOLD_SNAPSHOT : w->position ? HOLD_POSITION : HOLD_ALL};
    if (strlen(w->reason) >= sizeof h->reason)
        return error_set(err, ERROR_USAGE, "--reason has more than %zu bytes", sizeof h->reason - 1);
    (void)snprintf(h->reason, sizeof h->reason, "%s", w->reason);
    if (w->snapshot)
        return find_snapshot(s, w->snapshot, h, err);
    if (!w->position)
        return 0;
    if (position_parse(slice_str(w->position), &h->position, err) < 0)
        return error_prefix(err, "--position");
    if (!w->incarnation)
        return newest_incarnation(s, h, err);
    if (strlen(w->incarnation) != 4 || strspn(w->incarnation, "0123456789") != 4)
        return error_set(err, ERROR_USAGE, "an incarnation has four digits, like 0001");
    (void)snprintf(h->incarnation, sizeof h->incarnation, "%s", w->incarnation);
    return 0;
}

static json_t *hold_json(const struct vault *v, const struct hold *h)
{
    static const char *const kinds[] = {"source", "snapshot", "position"};
    char text[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES];
    json_t *o = json_object();

    json_set_str(o, "vault", v->name);
    json_set_u64(o, "n", h->n);
    json_set_str(o, "kind", kinds[h->kind]);
    json_set_str(o, "incarnation", h->incarnation[0] ? h->incarnation : NULL);
    json_set_str(o, "snapshot", h->kind == HOLD_SNAPSHOT ? h->snapshot : NULL);
    json_set_str(o, "position", h->kind == HOLD_POSITION ? position_format(h->position, text) : NULL);
    json_set_str(o, "since", clock_format_wall(h->wall_us, time));
    (void)json_object_set_new(o, "host", json_bytes(slice_str(h->host)));
    (void)json_object_set_new(o, "reason", json_bytes(slice_str(h->reason)));
    return o;
}

/* A slip of the pen may hold what lies ahead instead of what was meant. */
static int note_ahead(struct vault *v, const char *source, const struct hold *h, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    char wish[POSITION_TEXT_BYTES], last[POSITION_TEXT_BYTES];
    size_t count;

    if (h->kind != HOLD_POSITION)
        return 0;
    TRY(segment_list(v, source, h->incarnation, &refs, &count, err));
    if (count > 0 && position_compare(h->position, refs[count - 1].id.last) <= 0)
        return 0;
    printf("  note: %s lies past what vault %s has of incarnation %s now (%s): what is held begins at its newest snapshot\n",
           position_format(h->position, wish), v->name, h->incarnation, count > 0 ? position_format(refs[count - 1].id.last, last) : "no events yet");
    return 0;
}

static int add(const struct source_context *s, const struct wish *w, struct error *err)
{
    struct hold h;

    if (w->number)
        return usage(err);
    TRY(make_hold(s, w, &h, err));
    h.wall_us = clock_wall_us();
    for (size_t i = 0; i < s->vaults_count; i++) {
        TRY(hold_add(s->vaults[i], s->name, &h, err));
        printf("vault %s: hold %u of %s\n", s->vaults[i]->name, h.n, s->name);
        TRY(note_ahead(s->vaults[i], s->name, &h, err));
        journaled_add(s->config, "hold_added", s->name, hold_json(s->vaults[i], &h));
    }
    journaled_ship(s->config, s->name, s->vaults, s->vaults_count);
    return 0;
}

static int take_away(const struct source_context *s, const struct wish *w, struct error *err)
{
    uint64_t n;

    if (!w->number)
        return usage(err);
    if (text_parse_u64(slice_str(w->number), 1, 999999, &n, err) < 0)
        return error_prefix(err, "the number of the hold");
    for (size_t i = 0; i < s->vaults_count; i++) {
        TRY(hold_remove(s->vaults[i], s->name, (uint32_t)n, err));
        printf("vault %s: hold %llu of %s is removed\n", s->vaults[i]->name, (unsigned long long)n, s->name);
        json_t *members = json_object();
        json_set_str(members, "vault", s->vaults[i]->name);
        json_set_u64(members, "n", n);
        journaled_add(s->config, "hold_removed", s->name, members);
    }
    journaled_ship(s->config, s->name, s->vaults, s->vaults_count);
    return 0;
}

static void print_hold(const struct vault *v, const struct hold *h)
{
    char text[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES];

    printf("vault %s: hold %u since %s: %s%s%s%s: %s\n", v->name, h->n, clock_format_wall(h->wall_us, time),
           h->kind == HOLD_ALL ? "the whole source" : h->kind == HOLD_SNAPSHOT ? "snapshot " : "position ",
           h->kind == HOLD_SNAPSHOT ? h->snapshot : h->kind == HOLD_POSITION ? position_format(h->position, text) : "",
           h->kind == HOLD_ALL ? "" : " of incarnation ", h->kind == HOLD_ALL ? "" : h->incarnation, h->reason);
}

static int list(const struct source_context *s, const struct wish *w, struct error *err)
{
    JSON_AUTO all = json_array();

    for (size_t i = 0; i < s->vaults_count; i++) {
        CLEANUP(mem_free_ptr) struct hold *holds = NULL;
        size_t count;

        TRY(hold_list(s->vaults[i], s->name, &holds, &count, err));
        for (size_t k = 0; k < count; k++) {
            json_array_append_new(all, hold_json(s->vaults[i], &holds[k]));
            if (!w->json)
                print_hold(s->vaults[i], &holds[k]);
        }
    }
    if (!w->json && json_array_size(all) == 0)
        printf("nothing of %s is held\n", s->name);
    if (w->json) {
        JSON_AUTO o = json_object();
        json_object_set(o, "holds", all);
        print_json(o);
    }
    return 0;
}

int command_hold(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    struct wish w = {0};

    TRY(parse(in, &w, err));
    TRY(config_load(in->config_path, &c, err));
    TRY(source_context_open(&c, w.source, SOURCE_NEEDS_VAULTS, &s, err));
    if (strcmp(w.verb, "add") == 0)
        return add(&s, &w, err);
    if (strcmp(w.verb, "remove") == 0)
        return take_away(&s, &w, err);
    return strcmp(w.verb, "list") == 0 ? list(&s, &w, err) : usage(err);
}
