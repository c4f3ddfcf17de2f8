/*
 * merge/kway.c - many sorted sequences read as one, by a heap of their heads.
 *
 * A head is replaced only when the next record is asked for: so the record that was handed out stays readable,
 * without a copy, until then.
 */
#include "merge/kway.h"

#include <stdlib.h>

#include "base/mem.h"

void sorted_of_arena(struct sorted *s, const struct arena *arena)
{
    *s = (struct sorted){.arena = arena};
}

void sorted_of_run(struct sorted *s, const struct run *run, struct run_room *room)
{
    *s = (struct sorted){0};
    run_reader_init(&s->reader, run, room);
}

void sorted_release(struct sorted *s)
{
    run_reader_release(&s->reader);
}

int sorted_seek(struct sorted *s, uint32_t table, struct slice key, uint64_t sequence, struct error *err)
{
    if (s->arena)
        return arena_find(s->arena, table, key, sequence, &s->number, err);
    return run_reader_seek(&s->reader, table, key, sequence, err);
}

int sorted_next(struct sorted *s, struct error *err)
{
    if (!s->arena)
        return run_reader_next(&s->reader, &s->head, err);
    if (s->number >= s->arena->count)
        return 0;
    TRY(arena_get(s->arena, s->number, &s->head, err));
    s->number++;
    return 1;
}

int sorted_last_before(struct sorted *s, uint32_t table, struct slice key, uint64_t sequence, struct record *ret,
                       struct error *err)
{
    size_t number = 0;

    if (!s->arena)
        return run_reader_last_before(&s->reader, table, key, sequence, ret, err);
    TRY(arena_find(s->arena, table, key, sequence, &number, err));
    if (number == 0)
        return 0;
    TRY(arena_get(s->arena, number - 1, ret, err));
    return ret->table == table && slice_equal(ret->key, key);
}

void kway_init(struct kway *k, struct run *const *runs, size_t runs_count, const struct arena *arena)
{
    *k = (struct kway){.count = runs_count + (arena ? 1 : 0)};
    run_room_init(&k->room);
    k->all = mem_zalloc(k->count, sizeof *k->all);
    k->heap = mem_zalloc(k->count, sizeof *k->heap);
    for (size_t i = 0; i < runs_count; i++)
        sorted_of_run(&k->all[i], runs[i], &k->room);
    if (arena)
        sorted_of_arena(&k->all[runs_count], arena);
}

void kway_release(struct kway *k)
{
    for (size_t i = 0; i < k->count; i++)
        sorted_release(&k->all[i]);
    free(k->all);
    free(k->heap);
    run_room_release(&k->room);
    *k = (struct kway){0};
}

static bool before(const struct kway *k, size_t x, size_t y)
{
    const struct record *a = &k->all[x].head, *b = &k->all[y].head;

    if (a->table != b->table)
        return a->table < b->table;
    int order = slice_compare(a->key, b->key);
    return order != 0 ? order < 0 : x < y;
}

static void sift_down(struct kway *k, size_t at)
{
    size_t moving = k->heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < k->heap_count && before(k, k->heap[child + 1], k->heap[child]))
            child++;
        if (child >= k->heap_count || before(k, moving, k->heap[child]))
            break;
        k->heap[at] = k->heap[child];
        at = child;
    }
    k->heap[at] = moving;
}

int kway_seek(struct kway *k, uint32_t table, struct slice key, struct error *err)
{
    k->heap_count = 0;
    k->taken = false;
    for (size_t i = 0; i < k->count; i++) {
        TRY(sorted_seek(&k->all[i], table, key, 0, err));
        int more = sorted_next(&k->all[i], err);
        TRY(more);
        if (more > 0)
            k->heap[k->heap_count++] = i;
    }
    for (size_t i = k->heap_count; i-- > 0;)
        sift_down(k, i);
    return 0;
}

static int replace_taken(struct kway *k, struct error *err)
{
    int more = sorted_next(&k->all[k->heap[0]], err);

    TRY(more);
    if (more == 0)
        k->heap[0] = k->heap[--k->heap_count];
    if (k->heap_count > 0)
        sift_down(k, 0);
    k->taken = false;
    return 0;
}

int kway_next(struct kway *k, struct record *ret, struct error *err)
{
    if (k->taken)
        TRY(replace_taken(k, err));
    if (k->heap_count == 0)
        return 0;
    *ret = k->all[k->heap[0]].head;
    k->taken = true;
    return 1;
}
