/*
 * merge/run_read.c - reading a run: by block, each checked against the checksum that was kept in memory when it was
 * written, before anything of it is used (I-6).
 *
 * A place is found by binary search over the separators. One that was cut may not tell; then the block itself is read
 * and its first record tells. Since everything before a block is below its separator, the record sought, or the last
 * one before a place, is in the last block whose separator is not past that place, or at the start of the next.
 */
#include "base/hash.h"
#include "merge/run.h"

#define READ_LEVEL 1 /* the context only decompresses */

void run_room_init(struct run_room *room)
{
    *room = (struct run_room){.z = zst_new(READ_LEVEL), .stored = BUF_INIT(BUF_BYTES_MAX)};
}

void run_room_release(struct run_room *room)
{
    zst_free(room->z);
    buf_release(&room->stored);
    room->z = NULL;
}

void run_reader_init(struct run_reader *r, const struct run *run, struct run_room *room)
{
    *r = (struct run_reader){.run = run, .room = room, .plain = BUF_INIT(BUF_BYTES_MAX)};
}

void run_reader_release(struct run_reader *r)
{
    buf_release(&r->plain);
}

static int damaged(const struct run_reader *r, struct error *err)
{
    return error_set(err, ERROR_CORRUPT,
                     "block %zu of the sort file %s is not what was written: the disk or the memory of this host is at "
                     "fault; check it and start again",
                     r->block, r->run->file.path);
}

static int read_block(struct run_reader *r, const struct run_block *b, struct error *err)
{
    struct run_room *room = r->room;
    struct file file = r->run->file; /* only read by position: readers share the descriptor */

    buf_clear(&room->stored);
    buf_clear(&r->plain);
    TRY(file_read_at(&file, b->at, b->stored_bytes, &room->stored, err));
    if (hash64(buf_slice(&room->stored)) != b->checksum)
        return damaged(r, err);
    if (zst_decompress(room->z, buf_slice(&room->stored), b->plain_bytes, &r->plain, err) < 0)
        return damaged(r, err);
    return r->plain.n == b->plain_bytes ? 0 : damaged(r, err);
}

static void rewind_block(struct run_reader *r)
{
    r->rest = cursor_of(buf_slice(&r->plain));
    r->has_passed = false;
}

static int load(struct run_reader *r, size_t block, struct error *err)
{
    if (r->loaded && r->block == block)
        return 0;
    r->loaded = false;
    r->block = block;
    TRY(read_block(r, &r->run->blocks[block], err));
    r->loaded = true;
    rewind_block(r);
    return 0;
}

static int compare(uint32_t table, struct slice key, uint64_t sequence, uint32_t other_table, struct slice other_key,
                   uint64_t other_sequence)
{
    if (table != other_table)
        return table < other_table ? -1 : 1;
    int order = slice_compare(key, other_key);
    if (order != 0)
        return order;
    return (sequence > other_sequence) - (sequence < other_sequence);
}

static int compare_record(const struct record *r, uint32_t table, struct slice key, uint64_t sequence)
{
    return compare(r->table, r->key, r->sequence, table, key, sequence);
}

/* Does the block begin at or before the place? By its separator where that tells, else by its first record. */
static int begins_by(struct run_reader *r, size_t block, uint32_t table, struct slice key, uint64_t sequence,
                     bool *ret, struct error *err)
{
    const struct run_block *b = &r->run->blocks[block];
    struct slice kept = slice_of(r->run->keys.p + b->key_at, b->key_bytes);
    struct record first;

    if (!b->key_cut || b->table != table || key.n < kept.n || memcmp(key.p, kept.p, kept.n) != 0) {
        *ret = compare(b->table, kept, b->sequence, table, key, sequence) <= 0;
        return 0;
    }
    TRY(load(r, block, err));
    rewind_block(r);
    TRY(record_decode(&r->rest, &first, err));
    *ret = compare_record(&first, table, key, sequence) <= 0;
    return 0;
}

/* The number of blocks that begin at or before the place. */
static int blocks_by(struct run_reader *r, uint32_t table, struct slice key, uint64_t sequence, size_t *ret,
                     struct error *err)
{
    size_t low = 0, high = r->run->blocks_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        bool by = false;

        TRY(begins_by(r, middle, table, key, sequence, &by, err));
        if (by)
            low = middle + 1;
        else
            high = middle;
    }
    *ret = low;
    return 0;
}

int run_reader_next(struct run_reader *r, struct record *ret, struct error *err)
{
    if (cursor_done(&r->rest)) {
        size_t next = r->loaded ? r->block + 1 : r->run->blocks_count;

        if (next >= r->run->blocks_count)
            return 0;
        TRY(load(r, next, err));
    }
    r->has_passed = false;
    TRY(record_decode(&r->rest, ret, err));
    return 1;
}

/*
 * Read on to the first record of the block at or past the place. Places that are asked for in order, as most are,
 * cost one walk through the block, not one each.
 */
static int skip_in_block(struct run_reader *r, uint32_t table, struct slice key, uint64_t sequence, struct error *err)
{
    if (!r->has_passed || compare_record(&r->passed, table, key, sequence) >= 0)
        rewind_block(r);
    while (!cursor_done(&r->rest)) {
        struct cursor before = r->rest;
        struct record record;

        TRY(record_decode(&r->rest, &record, err));
        if (compare_record(&record, table, key, sequence) >= 0) {
            r->rest = before;
            return 0;
        }
        r->passed = record;
        r->has_passed = true;
    }
    return 0;
}

int run_reader_seek(struct run_reader *r, uint32_t table, struct slice key, uint64_t sequence, struct error *err)
{
    size_t count = 0;

    TRY(blocks_by(r, table, key, sequence, &count, err));
    if (r->run->blocks_count == 0)
        return 0;
    TRY(load(r, count > 0 ? count - 1 : 0, err));
    return skip_in_block(r, table, key, sequence, err);
}

int run_reader_last_before(struct run_reader *r, uint32_t table, struct slice key, uint64_t sequence,
                           struct record *ret, struct error *err)
{
    size_t count = 0;

    if (sequence <= r->run->sequence_min)
        return 0; /* all of the run is younger */
    /* A block that begins right at the place has nothing before it: so look for the moment before, which there is. */
    TRY(blocks_by(r, table, key, sequence - 1, &count, err));
    if (count == 0)
        return 0;
    TRY(load(r, count - 1, err));
    TRY(skip_in_block(r, table, key, sequence, err));
    if (!r->has_passed || r->passed.table != table || !slice_equal(r->passed.key, key))
        return 0;
    *ret = r->passed;
    return 1;
}
