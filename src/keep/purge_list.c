/* keep/purge_list.c - see purge_list.h. */
#include "keep/purge_list.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

void purge_list_release(struct purge_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->objects[i].key);
    free(l->objects);
    *l = (struct purge_list){0};
}

enum purge_group purge_group_of(const char *key)
{
    const char *name = strrchr(key, '/');

    if (strncmp(key, "chunks/", 7) == 0)
        return PURGE_CHUNKS;
    if (strstr(key, "/rows/"))
        return PURGE_SEGMENTS;
    if (strstr(key, "/schemas/") || strstr(key, "/large-objects/"))
        return PURGE_SCHEMAS;
    if (name && (strcmp(name, "/manifest.json.zst") == 0 || strncmp(name, "/renewal-", 9) == 0))
        return PURGE_MANIFESTS;
    return name && strcmp(name, "/intent") == 0 ? PURGE_INTENTS : PURGE_MARKS;
}

struct adding {
    struct purge_list *list;
    bool removable;
};

static void add(const struct adding *a, char *key, uint64_t bytes, bool goes, const char *why)
{
    struct purge_list *l = a->list;

    if (a->removable && !goes) {
        free(key);
        return;
    }
    MEM_GROW(l->objects, l->cap, l->count);
    l->objects[l->count++] =
        (struct purge_object){.key = key, .bytes = bytes, .group = purge_group_of(key), .remove = goes, .why = why};
}

static void add_marks(const struct adding *a, const struct retention *r, const struct retention_snapshot *s)
{
    const struct {
        const char *name;
        uint64_t bytes;
    } marks[] = {{"committed", s->marks.committed}, {"comparison.json", s->marks.comparison}, {"manifest.json.zst", s->marks.manifest}, {"intent", s->marks.intent}};

    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        add(a, mem_printf("%s/snapshots/%s/%s", r->incarnations[s->incarnation].id, s->id, marks[k].name), marks[k].bytes, s->verdict.remove, s->verdict.why);
}

static void add_snapshots(const struct adding *a, const struct retention *r)
{
    for (size_t i = 0; i < r->snapshots_count; i++)
        add_marks(a, r, &r->snapshots[i]);
    for (size_t i = 0; i < r->renewals_count; i++) {
        const struct retention_renewal *n = &r->renewals[i];
        const char *incarnation = r->incarnations[n->incarnation].id;

        add(a, mem_printf("%s/snapshots/%s/renewal-%s.json.zst", incarnation, n->id, n->base), n->bytes, n->verdict.remove, n->verdict.why);
        add(a, mem_printf("%s/snapshots/%s/intent", incarnation, n->id), n->intent_bytes, n->verdict.remove, n->verdict.why);
    }
    for (size_t i = 0; i < r->intents_count; i++) {
        const struct retention_intent *s = &r->intents[i];

        add(a, mem_printf("%s/snapshots/%s/intent", r->incarnations[s->incarnation].id, s->id), s->bytes, s->verdict.remove,
            s->verdict.why);
    }
    for (size_t i = 0; i < r->schemas_count; i++) {
        const struct retention_schema *s = &r->schemas[i];

        add(a, mem_printf("%s/schemas/%s", r->incarnations[s->incarnation].id, s->name), s->bytes, s->verdict.remove, s->verdict.why);
    }
    for (size_t i = 0; i < r->large_count; i++) {
        const struct retention_large *l = &r->large[i];

        add(a, mem_printf("%s/large-objects/%s.json.zst", r->incarnations[l->incarnation].id, l->id), l->bytes, l->verdict.remove,
            l->verdict.why);
    }
}

static void add_segments(const struct adding *a, const struct retention *r)
{
    char key[VAULT_KEY_BYTES];
    size_t prefix_n = strlen("sources/") + strlen(r->source) + 1;

    for (size_t i = 0; i < r->incarnations_count; i++) {
        const struct retention_incarnation *c = &r->incarnations[i];

        for (size_t k = 0; k < c->segments_count; k++) {
            segment_key(key, r->source, c->id, &c->segments[k].id);
            add(a, mem_strdup(key + prefix_n), c->segments[k].bytes, c->segments[k].remove,
                c->segments[k].remove ? "no snapshot that stays needs its events" : c->verdict.why);
        }
    }
}

static void add_chunks(const struct adding *a, const struct retention *r)
{
    char text[DIGEST_TEXT_BYTES];

    for (size_t i = 0; i < r->chunks_count; i++) {
        const struct retention_chunk *c = &r->chunks[i];

        digest_format(&c->digest, text);
        for (unsigned copy = 0; copy < 10; copy++) {
            if (!(c->copies >> copy & 1))
                continue;
            char *key = copy ? mem_printf("chunks/%.2s/%s~%u", text, text, copy) : mem_printf("chunks/%.2s/%s", text, text);
            add(a, key, c->bytes[copy], c->remove, c->why);
        }
    }
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct purge_object *)a)->key, ((const struct purge_object *)b)->key);
}

void purge_list_of(const struct retention *r, bool removable, struct purge_list *ret)
{
    const struct adding a = {.list = ret, .removable = removable};

    *ret = (struct purge_list){0};
    add_snapshots(&a, r);
    add_segments(&a, r);
    add_chunks(&a, r);
    if (ret->count > 1)
        qsort(ret->objects, ret->count, sizeof *ret->objects, by_key);
}

const struct purge_object *purge_list_find(const struct purge_list *l, const char *key)
{
    const struct purge_object sought = {.key = (char *)(uintptr_t)key};

    return l->count ? bsearch(&sought, l->objects, l->count, sizeof sought, by_key) : NULL;
}
