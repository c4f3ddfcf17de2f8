/*
 * capture/chain.c - segments, then the spool's tail, frame by frame.
 *
 * The spool is listed before the vault: a spool file is removed only after its segment stands in every vault, so that
 * whatever is not in the one list is in the other. A spool file that vanishes before it is opened is looked for in the vault
 * again. Each step from one item to the next is checked once: numbers dense, positions meeting, the digest that a segment
 * says its predecessor has. Positions of commits must grow.
 */
#include "capture/chain.h"

#include <stdlib.h>

#include "base/mem.h"
#include "capture/chain_internal.h"

#define KEPT_BYTES ((size_t)16 << 20)

static void leave(struct chain *c)
{
    chain_close_segment(c, c->stand.item, c->stand.segment);
    spool_reader_free(c->stand.reader);
    c->stand.segment = NULL;
    c->stand.reader = NULL;
    c->stand.blocks_read = 0;
    c->stand.block = (struct slice){0};
    c->stand.cursor = cursor_of(c->stand.block);
}

void chain_free(struct chain *c)
{
    if (!c)
        return;
    chain_ahead_end(c);
    leave(c);
    chain_forget_segments(c);
    buf_release(&c->stand.plain);
    free(c->items);
    free(c->spool_directory);
    free(c->source);
    free(c->incarnation);
    free(c);
}

/* --- the list ---------------------------------------------------------------------------------------------------- */

int chain_hole(const struct chain *c, size_t item, struct error *err)
{
    uint64_t before = item > 0 ? c->items[item - 1].id.sequence : 0, here = c->items[item].id.sequence;

    if (item == 0 && c->floor.first_sequence == here)
        return error_set(err, ERROR_GAP, "source %s, incarnation %s: the events before segment %llu were purged", c->source, c->incarnation,
                         (unsigned long long)here);
    if (item == 0)
        return error_set(err, ERROR_GAP, "source %s, incarnation %s: %s %llu is the first that is there; what was before it is missing",
                         c->source, c->incarnation, c->items[item].in_spool ? "spool file" : "segment", (unsigned long long)here);
    return error_set(err, ERROR_GAP,
                     "source %s, incarnation %s: segment %llu is missing between %llu and %llu%s; what lies past the "
                     "hole cannot be reached from before it",
                     c->source, c->incarnation, (unsigned long long)before + 1, (unsigned long long)before,
                     (unsigned long long)here, c->items[item].in_spool ? " (in the spool)" : "");
}

static int check_dense(const struct chain *c, struct error *err)
{
    for (size_t i = 1; i < c->count && !c->holes; i++)
        if (!chain_is_dense(c, i))
            return chain_hole(c, i, err);
    return 0;
}

static int list_items(struct chain *c, struct error *err)
{
    CLEANUP(mem_free_ptr) uint64_t *files = NULL;
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t files_count = 0, refs_count = 0;

    if (c->spool_directory)
        TRY(spool_list(c->spool_directory, &files, &files_count, err));
    if (c->vault)
        TRY(segment_list(c->vault, c->source, c->incarnation, &refs, &refs_count, err));
    uint64_t shipped = refs_count ? refs[refs_count - 1].id.sequence : 0;
    struct chain_item *items = mem_zalloc(refs_count + files_count + 1, sizeof *items);
    size_t count = 0;
    for (size_t i = 0; i < refs_count; i++)
        items[count++] = (struct chain_item){.id = refs[i].id, .bytes = refs[i].bytes};
    for (size_t i = 0; i < files_count; i++)
        if (files[i] > shipped)
            items[count++] = (struct chain_item){.in_spool = true, .id.sequence = files[i]};
    free(c->items);
    c->items = items;
    c->count = count;
    if (c->vault && count > 0 && items[0].id.sequence > 1)
        TRY(floor_load(c->vault, c->source, c->incarnation, &c->floor, err));
    return check_dense(c, err);
}

int chain_refresh(struct chain *c, struct error *err)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    size_t refs_count = 0;

    if (c->vault)
        TRY(segment_list(c->vault, c->source, c->incarnation, &refs, &refs_count, err));
    for (size_t i = 0; i < c->count; i++)
        for (size_t k = 0; c->items[i].in_spool && k < refs_count; k++)
            if (refs[k].id.sequence == c->items[i].id.sequence)
                c->items[i] = (struct chain_item){.id = refs[k].id, .bytes = refs[k].bytes};
    return 0;
}

bool chain_has_aged(const struct chain *c)
{
    CLEANUP(mem_free_ptr) struct segment_ref *refs = NULL;
    struct error ignored = ERROR_INIT;
    size_t count = 0;

    if (!c->vault || c->count == 0 || c->items[0].in_spool)
        return false;
    if (segment_list(c->vault, c->source, c->incarnation, &refs, &count, &ignored) < 0)
        return false;
    return count == 0 || refs[0].id.sequence > c->items[0].id.sequence;
}

int chain_open(const struct chain_config *config, struct chain **ret, struct error *err)
{
    struct chain *c = mem_zalloc(1, sizeof *c);

    c->vault = config->vault;
    c->spool_directory = mem_strdup(config->spool_directory);
    c->source = mem_strdup(config->source);
    c->incarnation = mem_strdup(config->incarnation);
    c->holes = config->holes;
    c->kept_bytes_max = config->kept_bytes_max ? config->kept_bytes_max : KEPT_BYTES;
    c->stand.plain = BUF_INIT(BUF_BYTES_MAX);
    int rc = list_items(c, err);
    if (rc < 0) {
        chain_free(c);
        return rc;
    }
    *ret = c;
    return 0;
}

/* --- items ------------------------------------------------------------------------------------------------------- */

static int open_spool_file(struct chain *c, uint64_t sequence, struct spool_reader **ret, struct error *err)
{
    char path[SPOOL_PATH_BYTES];
    struct spool_reader *r;

    TRY(spool_path(path, c->spool_directory, sequence, err));
    TRY(spool_reader_open(path, c->source, c->incarnation, &r, err));
    if (spool_reader_header(r)->sequence != sequence) {
        spool_reader_free(r);
        return error_set(err, ERROR_CORRUPT, "%s is the spool file of another sequence number", path);
    }
    *ret = r;
    return 0;
}

int chain_open_spool(struct chain *c, size_t item, struct spool_reader **ret, struct error *err)
{
    struct chain_item *it = &c->items[item];

    *ret = NULL;
    int rc = open_spool_file(c, it->id.sequence, ret, err);
    if (rc != -ERROR_NOT_FOUND)
        return rc;
    TRY(chain_refresh(c, err));
    if (!it->in_spool)
        return 0;
    /* Not shipped, and yet gone: it was written again under a new name between the listing and the opening. */
    return open_spool_file(c, it->id.sequence, ret, err);
}

int chain_enter(struct chain *c, size_t item, struct error *err)
{
    leave(c);
    c->stand.item = item;
    if (c->items[item].in_spool)
        TRY(chain_open_spool(c, item, &c->stand.reader, err));
    if (!c->items[item].in_spool)
        TRY(chain_open_segment(c, item, &c->stand.segment, err));
    return 0;
}

static int not_linked(const struct chain *c, size_t item, const char *why, struct error *err)
{
    const struct chain_item *it = &c->items[item];

    return error_set(err, ERROR_CORRUPT, "source %s, incarnation %s: %s %llu does not follow the one before it: %s", c->source,
                     c->incarnation, it->in_spool ? "spool file" : "segment", (unsigned long long)it->id.sequence, why);
}

/* The last commit position at the end of an item that is a segment, or that was read to its end just now. */
static struct position end_of(const struct chain *c, size_t item)
{
    return c->items[item].in_spool ? c->last : c->items[item].id.last;
}

static int check_spool_link(struct chain *c, size_t item, struct error *err)
{
    char here[POSITION_TEXT_BYTES], before[POSITION_TEXT_BYTES];
    struct position after = spool_reader_header(c->stand.reader)->after, end = end_of(c, item - 1);

    if (position_is_zero(end) || position_compare(after, end) == 0)
        return 0;
    CLEANUP(mem_free_ptr) char *why = mem_printf("it goes on after %s, that one ends with %s",
                                                 position_format(after, here), position_format(end, before));
    return not_linked(c, item, why, err);
}

static int check_segment_link(struct chain *c, size_t item, struct error *err)
{
    const struct segment_footer *f = segment_footer(c->stand.segment);
    bool same;

    if (position_compare(f->after, c->items[item - 1].id.last) != 0)
        return not_linked(c, item, "its positions do not go on where that one ends", err);
    same = c->items[item - 1].digested && digest_equal(&c->items[item - 1].digest, &f->previous);
    if (!same)
        TRY(segment_has_digest(c->vault, c->source, c->incarnation, &c->items[item - 1].id, &f->previous, &same, err));
    if (!same)
        return not_linked(c, item, "that one has not the digest that it names", err);
    return 0;
}

int chain_check_link(struct chain *c, size_t item, struct error *err)
{
    if (item == 0 || c->items[item].linked)
        return 0;
    if (c->items[item].in_spool)
        return check_spool_link(c, item, err);
    TRY(check_segment_link(c, item, err));
    c->items[item].linked = true;
    return 0;
}

bool chain_in_spool(const struct chain *c) { return c->stand.item < c->count && c->items[c->stand.item].in_spool; }

/* --- frames ------------------------------------------------------------------------------------------------------ */

/* The current item's next block. 1; 0: it has no more. */
static int next_block(struct chain *c, struct error *err)
{
    struct slice frames;

    if (c->stand.segment) {
        if (c->stand.blocks_read == segment_footer(c->stand.segment)->blocks_count)
            return 0;
        buf_clear(&c->stand.plain);
        if (c->stand.blocks_read == 0)
            TRY(segment_follow(c->stand.segment, err));
        TRY(segment_read_block(c->stand.segment, (uint32_t)c->stand.blocks_read, &c->stand.plain, err));
        frames = buf_slice(&c->stand.plain);
    } else {
        c->stand.block_offset = spool_reader_offset(c->stand.reader);
        int rc = spool_reader_next(c->stand.reader, &frames, err);

        if (rc <= 0)
            return rc;
    }
    c->stand.blocks_read++;
    c->stand.block = frames;
    c->stand.cursor = cursor_of(frames);
    return 1;
}

/* The current item was read to its end. What follows it names its digest: it need not be read again for that. */
static int keep_digest(struct chain *c, size_t next, struct error *err)
{
    struct chain_item *it = &c->items[c->stand.item];

    if (!c->stand.segment || it->digested || c->items[next].in_spool || c->items[next].linked)
        return 0;
    int rc = segment_followed(c->stand.segment, &it->digest, err);
    it->digested = rc > 0;
    return rc;
}

/* Who goes on from item to item reads further. */
int chain_go_on(struct chain *c, size_t item, struct error *err)
{
    if (++c->steps > 1 && !chain_ahead_has(c, item))
        chain_ahead_begin(c, item, c->count);
    return chain_enter(c, item, err);
}

/* To the item after this one. 1; 0: this is the last one. */
static int next_item(struct chain *c, struct error *err)
{
    size_t next = c->stand.item + 1;

    if (next >= c->count)
        return 0;
    if (!chain_is_dense(c, next))
        return chain_hole(c, next, err);
    if (c->stand.reader && !spool_reader_sealed(c->stand.reader))
        return error_set(err, ERROR_CORRUPT, "spool file %llu of source %s, incarnation %s is damaged: it is not good to its end",
                         (unsigned long long)c->items[c->stand.item].id.sequence, c->source, c->incarnation);
    if (c->stand.reader && position_is_zero(c->last))
        c->last = spool_reader_header(c->stand.reader)->after; /* it has no commit itself */
    TRY(keep_digest(c, next, err));
    TRY(chain_go_on(c, next, err));
    TRY(chain_check_link(c, next, err));
    return 1;
}

static int check_order(struct chain *c, const struct frame *f, struct error *err)
{
    char here[POSITION_TEXT_BYTES], before[POSITION_TEXT_BYTES];

    if (f->type != FRAME_PART || !(f->part.flags & FRAME_PART_COMMIT))
        return 0;
    if (position_compare(f->part.position, c->last) <= 0)
        return error_set(err, ERROR_CORRUPT, "source %s, incarnation %s, %llu: a commit at %s stands behind one at %s",
                         c->source, c->incarnation, (unsigned long long)c->items[c->stand.item].id.sequence,
                         position_format(f->part.position, here), position_format(c->last, before));
    c->last = f->part.position;
    return 0;
}

int chain_next(struct chain *c, struct frame *ret, struct error *err)
{
    if (c->count == 0)
        return 0;
    if (!c->stand.segment && !c->stand.reader)
        TRY(chain_enter(c, 0, err));
    while (cursor_done(&c->stand.cursor)) {
        int rc = next_block(c, err);

        if (rc == 0)
            rc = next_item(c, err);
        if (rc <= 0)
            return rc;
    }
    int rc = frame_decode(&c->stand.cursor, ret, err);
    if (rc < 0)
        return error_prefix(err, "source %s, incarnation %s, %s %llu", c->source, c->incarnation,
                            chain_in_spool(c) ? "spool file" : "segment", (unsigned long long)c->items[c->stand.item].id.sequence);
    TRY(check_order(c, ret, err));
    return 1;
}

struct chain_place chain_here(const struct chain *c)
{
    ASSERT(c->stand.blocks_read > 0);
    return (struct chain_place){
        .item = c->stand.item, .in_spool = c->stand.reader != NULL, .block = c->stand.blocks_read - 1, .file_offset = c->stand.block_offset};
}

void chain_leave_for(struct chain *c, struct chain_stand *ret)
{
    *ret = c->stand;
    c->stand = (struct chain_stand){.item = c->count, .plain = BUF_INIT(BUF_BYTES_MAX)};
}

void chain_return(struct chain *c, struct chain_stand *to)
{
    leave(c);
    buf_release(&c->stand.plain);
    c->stand = *to;
}

int chain_go(struct chain *c, struct chain_place place, bool *ret_shipped, struct error *err)
{
    *ret_shipped = false;
    if (c->stand.item != place.item || (!c->stand.segment && !c->stand.reader))
        TRY(chain_enter(c, place.item, err));
    if (place.in_spool && c->stand.segment) {
        c->stand.blocks_read = 0;
        *ret_shipped = true;
        return 0;
    }
    if (c->stand.reader)
        spool_reader_go(c->stand.reader, place.file_offset, place.block);
    c->stand.blocks_read = place.block;
    return 0;
}

int chain_block(struct chain *c, struct slice *ret, struct error *err)
{
    int rc = next_block(c, err);

    if (rc > 0)
        *ret = c->stand.block;
    return rc;
}
