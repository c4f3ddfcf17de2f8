/*
 * test/crash/crash.h - what the crash tests share: numbered blocks whose content can be told from their number, and
 * reading a spool back.
 */
#ifndef SALVOR_TEST_CRASH_H
#define SALVOR_TEST_CRASH_H

#include "unit.h"

#include "base/mem.h"
#include "capture/spool.h"

#define CRASH_SOURCE "shop"
#define CRASH_INCARNATION "0001"
#define CRASH_BLOCK_BYTES_MAX 20000

/* xorshift64: the test's own numbers, repeatable from the seed that it prints. */
static inline uint64_t crash_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Block n: its number, then bytes that follow from it; 8 to CRASH_BLOCK_BYTES_MAX long, most of them short. */
static inline struct slice crash_block(uint64_t n, uint8_t room[static CRASH_BLOCK_BYTES_MAX])
{
    uint64_t r = n * UINT64_C(0x9E3779B97F4A7C15) + 1;
    size_t bytes = 8 + (size_t)(crash_random(&r) % (n % 16 == 0 ? CRASH_BLOCK_BYTES_MAX - 8 : 300));

    memcpy(room, &n, sizeof n);
    for (size_t i = 8; i < bytes; i++)
        room[i] = (uint8_t)(n + i * 7);
    return slice_of(room, bytes);
}

static inline struct spool_header crash_header(uint64_t sequence)
{
    return (struct spool_header){
        .sequence = sequence, .epoch = 1, .source_hash = spool_source_hash(CRASH_SOURCE, CRASH_INCARNATION)};
}

/* All files in order: blocks must be 0, 1, 2 ... without one missing or doubled. Returns how many there are. */
static inline uint64_t crash_read_all(const char *directory)
{
    CLEANUP(mem_free_ptr) uint64_t *sequences = NULL;
    static uint8_t room[CRASH_BLOCK_BYTES_MAX];
    struct error err = ERROR_INIT;
    uint64_t n = 0;
    size_t count;

    assert_ok(spool_list(directory, &sequences, &count, &err), err);
    for (size_t i = 0; i < count; i++) {
        char path[SPOOL_PATH_BYTES];
        struct spool_reader *r = NULL;
        struct slice frames;
        int rc;

        assert_int_equal(sequences[i], i + 1);
        assert_ok(spool_path(path, directory, sequences[i], &err), err);
        assert_ok(spool_reader_open(path, CRASH_SOURCE, CRASH_INCARNATION, &r, &err), err);
        while ((rc = spool_reader_next(r, &frames, &err)) > 0) {
            if (!slice_equal(frames, crash_block(n, room)))
                fail_msg("block %llu is not what was written", (unsigned long long)n);
            n++;
        }
        assert_ok(rc, err);
        assert_int_equal(spool_reader_sealed(r), i + 1 < count || spool_reader_sealed(r));
        spool_reader_free(r);
    }
    return n;
}

static inline unsigned crash_rounds(unsigned normal) { return getenv("SALVOR_SOAK") ? normal * 25 : normal; }

#endif
