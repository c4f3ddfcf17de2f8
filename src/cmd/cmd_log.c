/* cmd/cmd_log.c - events, as a person or a program reads them. Works with no server and no daemon. */
#include "base/clock.h"
#include "base/mem.h"
#include "capture/chain.h"
#include "cmd/command.h"
#include "cmd/vault_choice.h"
#include "os/file.h"

#define VALUE_SHOWN_BYTES_MAX 200

struct printer {
    bool json;
    const char *table; /* "schema.name" or NULL */
    uint64_t events;   /* that were printed */
    struct buf line;
};

static const char *op_name(enum event_op op)
{
    switch (op) {
    case EVENT_INSERT: return "insert";
    case EVENT_UPDATE: return "update";
    case EVENT_DELETE: return "delete";
    case EVENT_TRUNCATE: return "truncate";
    case EVENT_MESSAGE: return "message";
    case EVENT_SUBTRANSACTION: return "subtransaction";
    case EVENT_OVERSIZE: return "oversize";
    }
    return "unknown";
}

/* Values that are not text are words of their own: null, {"unchanged":true}, {"absent":true}. */
static json_t *value_json(const struct value *v)
{
    if (v->state == VALUE_TEXT)
        return json_bytes(v->text);
    if (v->state == VALUE_NULL)
        return json_null();
    json_t *j = json_object();
    json_set_bool(j, v->state == VALUE_UNCHANGED ? "unchanged" : "absent", true);
    return j;
}

static json_t *values_json(const struct relation *r, const struct value *values, uint32_t count)
{
    json_t *j = json_object();

    for (uint32_t i = 0; i < count && i < r->columns_count; i++)
        if (values[i].state != VALUE_ABSENT)
            json_object_set_new_nocheck(j, r->columns[i].name, value_json(&values[i]));
    return j;
}

/* On one line, and nothing that a terminal would obey. */
static void print_text(struct slice text)
{
    bool cut = text.n > VALUE_SHOWN_BYTES_MAX;
    size_t n = cut ? VALUE_SHOWN_BYTES_MAX : text.n;

    while (cut && n > 0 && (text.p[n] & 0xc0) == 0x80) /* not in the middle of a character */
        n--;
    putchar('\'');
    for (size_t i = 0; i < n; i++) {
        if (text.p[i] == '\n')
            printf("\\n");
        else if (text.p[i] < ' ' || text.p[i] == 0x7f)
            printf("\\x%02x", text.p[i]);
        else
            putchar(text.p[i]);
    }
    printf("'%s", cut ? "..." : "");
}

static void print_values(const char *label, const struct relation *r, const struct value *values, uint32_t count)
{
    printf(" %s", label);
    for (uint32_t i = 0; i < count && i < r->columns_count; i++) {
        const struct value *v = &values[i];
        if (v->state == VALUE_ABSENT)
            continue;
        printf(" %s=", r->columns[i].name);
        if (v->state == VALUE_NULL)
            printf("NULL");
        else if (v->state == VALUE_UNCHANGED)
            printf("(unchanged)");
        else
            print_text(v->text);
    }
}

static bool wanted(const struct printer *p, const struct relation *r)
{
    if (!p->table)
        return true;
    if (!r)
        return false;
    size_t n = strlen(r->schema);
    bool whole = strncmp(p->table, r->schema, n) == 0 && p->table[n] == '.' && strcmp(p->table + n + 1, r->name) == 0;
    return whole || strcmp(p->table, r->name) == 0;
}

static int on_event(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e,
                    struct error *err)
{
    struct printer *p = user;
    char position[POSITION_TEXT_BYTES], time[CLOCK_TEXT_BYTES];

    (void)err;
    if (!wanted(p, r))
        return 0;
    p->events++;
    position_format(t->position, position);
    clock_format_wall(t->commit_time_wall_us, time);
    if (!p->json) {
        printf("%s %s xid %u %s", position, time, t->xid, op_name(e->op));
        if (r)
            printf(" %s.%s", r->schema, r->name);
        if (e->op == EVENT_MESSAGE)
            printf(" %.*s (%zu bytes)", (int)e->prefix.n, (const char *)e->prefix.p, e->content.n);
        if (r && e->old_count)
            print_values("old", r, e->old, e->old_count);
        if (r && e->row_count)
            print_values("row", r, e->row, e->row_count);
        printf("\n");
        return 0;
    }
    JSON_AUTO j = json_object();
    json_set_str(j, "position", position);
    json_set_str(j, "commit_time", time);
    json_set_u64(j, "xid", t->xid);
    json_set_str(j, "op", op_name(e->op));
    if (r) {
        json_set_str(j, "schema", r->schema);
        json_set_str(j, "table", r->name);
    }
    if (r && e->old_count)
        json_object_set_new(j, "old", values_json(r, e->old, e->old_count));
    if (r && e->row_count)
        json_object_set_new(j, "row", values_json(r, e->row, e->row_count));
    if (e->op == EVENT_MESSAGE)
        json_object_set_new(j, "prefix", json_bytes(e->prefix));
    print_json(j);
    return 0;
}

static int on_note(void *user, const json_t *note, struct error *err)
{
    struct printer *p = user;

    (void)err;
    if (p->table)
        return 0;
    buf_clear(&p->line);
    json_dump(note, &p->line);
    printf(p->json ? "{\"note\":%s}\n" : "note %s\n", buf_cstr(&p->line));
    return 0;
}

static int print_chain(const struct chain_config *config, struct printer *p, struct position from, struct position to,
                       struct error *err)
{
    struct chain_visitor visitor = {.event = on_event, .note = on_note, .user = p};
    struct chain *chain;

    TRY(chain_open(config, &chain, err));
    int result = chain_seek(chain, from, err);
    if (result >= 0)
        result = chain_visit(chain, from, to, &visitor, err);
    chain_free(chain);
    return result;
}

static int parse_position(const char *flag, const char *text, struct position *ret, struct error *err)
{
    if (text && position_parse(slice_str(text), ret, err) < 0)
        return error_prefix(err, "%s", flag);
    return 0;
}

int command_log(const struct invocation *in, struct error *err)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    struct printer p = {.line = BUF_INIT(BUF_BYTES_MAX)};
    struct position from = POSITION_ZERO, to = POSITION_MAX;
    const char *name = NULL, *from_text = NULL, *to_text = NULL, *vault = NULL;
    const struct argument flags[] = {{"--json", NULL, &p.json}, {"--table", &p.table, NULL}, {"--from", &from_text, NULL}, {"--to", &to_text, NULL}, {"--vault", &vault, NULL}};
    struct incarnation *list;
    size_t count;

    TRY(arguments_parse(in, command_find("log"), flags, 5, &name, err));
    TRY(parse_position("--from", from_text, &from, err));
    TRY(parse_position("--to", to_text, &to, err));
    if (position_compare(to, from) < 0)
        return error_set(err, ERROR_USAGE, "--to %s lies before --from %s", to_text, from_text);
    TRY(config_load(in->config_path, &c, err));
    TRY(source_context_open_in(&c, name, vault, SOURCE_NEEDS_VAULTS | SOURCE_ANY_VAULT, &s, err));
    vault_choose(&s, &(struct vault_wish){.command = "log", .kind = RECOVER_POSITION, .position = to});
    TRY(incarnation_list(s.vaults[0], s.name, &list, &count, err));
    if (count == 0) {
        free(list);
        return error_set(err, ERROR_NOT_FOUND, "vault %s holds nothing of source %s yet: is `salvor run` running?",
                         s.vaults[0]->name, s.name);
    }
    CLEANUP(mem_free_ptr) char *spool = mem_printf("%s/%s/spool", s.state_directory, list[count - 1].id);
    struct chain_config chain = {.vault = s.vaults[0], .spool_directory = file_exists(spool) ? spool : NULL, .source = s.name,
                                 .incarnation = list[count - 1].id};
    int result = print_chain(&chain, &p, from, to, err);
    if (result >= 0 && p.table && p.events == 0)
        fprintf(stderr, "salvor log: there is no event of table %s between these positions (incarnation %s)\n", p.table, list[count - 1].id);
    buf_release(&p.line);
    free(list);
    return result;
}
