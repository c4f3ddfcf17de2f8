/*
 * test/unit/event/samples.h - repeatable random numbers, and relations, values and parts made from them.
 *
 * The same seed gives the same sample everywhere: a failure is found again by running the test again.
 */
#ifndef SALVOR_TEST_EVENT_SAMPLES_H
#define SALVOR_TEST_EVENT_SAMPLES_H

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "event/event.h"
#include "event/frame.h"

struct samples {
    uint64_t state;
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t sample_u64(struct samples *s)
{
    uint64_t z = s->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t sample_below(struct samples *s, uint64_t limit)
{
    return sample_u64(s) % limit;
}

/* As often small as large: of any number of bits. */
static inline uint64_t sample_any(struct samples *s)
{
    return sample_u64(s) >> sample_below(s, 64);
}

/* Bytes from 1 to 255, where escapes are common. Lives in `room`. */
static inline struct slice sample_text(struct samples *s, uint8_t *room, size_t n_max)
{
    static const uint8_t odd[] = "\b\t\n\v\f\r\\N.'\"\x01\x07\x0e\x5b\x5d\x7f\x80\x88\x89\x8d\xdc\xff";
    size_t n = sample_below(s, n_max + 1);

    for (size_t i = 0; i < n; i++)
        room[i] = sample_below(s, 3) ? (uint8_t)('a' + sample_below(s, 26)) : odd[sample_below(s, sizeof odd - 1)];
    return slice_of(room, n);
}

static inline char *sample_name(struct samples *s)
{
    uint8_t room[40];
    struct slice text = sample_text(s, room, sizeof room);

    return mem_strndup((const char *)text.p, text.n);
}

static inline void sample_relation(struct samples *s, struct relation *ret)
{
    static const uint32_t types[] = {20, 21, 23, 26, 1082, 1114, 1184, 2950, 25, 1700};

    *ret = (struct relation){
        .id = (uint32_t)sample_any(s),
        .version = (uint32_t)sample_below(s, 300),
        .schema = sample_name(s),
        .name = sample_name(s),
        .identity = (enum identity)sample_below(s, IDENTITY_COUNT_),
        .columns_count = 1 + (uint32_t)sample_below(s, 12),
    };
    ret->columns = mem_zalloc(ret->columns_count, sizeof *ret->columns);
    for (uint32_t i = 0; i < ret->columns_count; i++) {
        uint32_t type_id = types[sample_below(s, sizeof types / sizeof types[0])];

        ret->columns[i] = (struct relation_column){
            .name = sample_name(s),
            .type_id = type_id,
            .type_modifier = (int32_t)sample_u64(s),
            .key = i == 0 || sample_below(s, 3) == 0,
            .order = key_order_of_type(type_id),
        };
    }
}

/* A tuple of values in any state; texts lie in `room`, of `count` times 64 bytes. */
static inline void sample_values(struct samples *s, struct value *values, uint32_t count, uint8_t *room)
{
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (struct value){.state = (enum value_state)sample_below(s, 4)};
        if (values[i].state == VALUE_TEXT)
            values[i].text = sample_text(s, room + (size_t)64 * i, 64);
    }
}

#define SAMPLE_COLUMNS_MAX 40

struct sample_room {
    struct event_columns columns;
    uint8_t row[64 * SAMPLE_COLUMNS_MAX], old[64 * SAMPLE_COLUMNS_MAX], prefix[64], content[300];
};

static inline void sample_tuples(struct samples *s, struct sample_room *room, struct event *e)
{
    if (e->op != EVENT_INSERT)
        e->old_kind = (enum event_old)sample_below(s, 3);
    if (e->op == EVENT_DELETE && e->old_kind == EVENT_OLD_NONE)
        e->old_kind = EVENT_OLD_KEY;
    if (e->old_kind != EVENT_OLD_NONE) {
        e->old = room->columns.old;
        e->old_count = (uint32_t)sample_below(s, SAMPLE_COLUMNS_MAX);
        sample_values(s, e->old, e->old_count, room->old);
    }
    if (e->op != EVENT_DELETE) {
        e->row = room->columns.row;
        e->row_count = (uint32_t)sample_below(s, SAMPLE_COLUMNS_MAX);
        sample_values(s, e->row, e->row_count, room->row);
    }
}

static inline void sample_event(struct samples *s, struct sample_room *room, struct event *ret)
{
    static const enum event_op ops[] = {EVENT_INSERT,  EVENT_UPDATE,         EVENT_DELETE,  EVENT_TRUNCATE,
                                        EVENT_MESSAGE, EVENT_SUBTRANSACTION, EVENT_OVERSIZE};

    *ret = (struct event){.op = ops[sample_below(s, sizeof ops / sizeof ops[0])]};
    if (ret->op == EVENT_MESSAGE) {
        ret->prefix = sample_text(s, room->prefix, sizeof room->prefix);
        ret->content = sample_text(s, room->content, sizeof room->content);
        return;
    }
    if (ret->op == EVENT_SUBTRANSACTION) {
        ret->sub_xid = (uint32_t)sample_any(s);
        return;
    }
    ret->relation_id = (uint32_t)sample_any(s);
    ret->relation_version = (uint32_t)sample_any(s);
    if (ret->op == EVENT_TRUNCATE)
        ret->truncate_flags = (uint8_t)sample_below(s, 4);
    else if (ret->op != EVENT_OVERSIZE)
        sample_tuples(s, room, ret);
}

/* A part's fields as they may stand; events_count is 0. */
static inline struct frame_part sample_part(struct samples *s)
{
    struct frame_part p = {
        .xid = (uint32_t)sample_any(s),
        .session = (uint32_t)sample_any(s),
        .part = (uint32_t)sample_below(s, 3),
    };

    p.flags = p.part == 0 ? FRAME_PART_FIRST : 0;
    switch (sample_below(s, 3)) {
    case 0:
        p.flags |= FRAME_PART_ABORT;
        p.sub_xid = (uint32_t)sample_any(s);
        break;
    case 1:
        p.flags |= FRAME_PART_COMMIT;
        p.position = (struct position){.log = sample_below(s, 2), .offset = 1 + sample_any(s) / 2};
        p.commit_start = (struct position){.log = p.position.log, .offset = sample_any(s)};
        p.commit_time_wall_us = (int64_t)sample_u64(s);
        break;
    default:
        break;
    }
    return p;
}

/* A child process runs fn, which breaks a promise: it must abort. */
static inline bool aborts(void (*fn)(void))
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        (void)signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    return waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
