/*
 * capture/chain_kept.c - the segments of a chain, opened once where they are looked at often.
 *
 * A plan reads the notes of all footers, then looks for the place where it begins, for single commits, and reads the way. Each opening
 * costs requests to the store and a footer that is decompressed and parsed; an object never changes, so the footers that were read last stay, within
 * a bound, and small objects whole. What is read of the blocks of others is not kept.
 */
#include <string.h>

#include "base/mem.h"
#include "capture/chain_internal.h"

static size_t find(const struct chain *c, size_t item)
{
    size_t i = 0;

    while (i < c->kept_count && c->kept[i].item != item)
        i++;
    return i;
}

static struct segment *take(struct chain *c, size_t i)
{
    struct segment *s = c->kept[i].segment;

    c->kept_bytes -= c->kept[i].bytes;
    memmove(c->kept + i, c->kept + i + 1, (--c->kept_count - i) * sizeof *c->kept);
    return s;
}

bool chain_is_kept(const struct chain *c, size_t item) { return find(c, item) < c->kept_count; }

int chain_open_segment(struct chain *c, size_t item, struct segment **ret, struct error *err)
{
    const struct segment_ref ref = {.id = c->items[item].id, .bytes = c->items[item].bytes};
    size_t i = find(c, item);

    ASSERT(!c->items[item].in_spool);
    if (i < c->kept_count) {
        *ret = take(c, i);
        return 0;
    }
    int rc = chain_ahead_take(c, item, ret, err);
    return rc == 0 ? segment_open_listed(c->vault, c->source, c->incarnation, &ref, ret, err) : rc;
}

/* It may be open twice: to read on, and to look at something again. */
void chain_close_segment(struct chain *c, size_t item, struct segment *s)
{
    if (!s || chain_is_kept(c, item)) {
        segment_free(s);
        return;
    }
    struct chain_kept k = {.item = item, .segment = s, .bytes = segment_rest(s)};
    while (c->kept_count > 0 && (c->kept_count == CHAIN_KEPT_MAX || c->kept_bytes + k.bytes > CHAIN_KEPT_BYTES))
        segment_free(take(c, 0));
    c->kept[c->kept_count++] = k;
    c->kept_bytes += k.bytes;
}

int chain_footer(struct chain *c, size_t item, const struct segment_footer **ret, struct error *err)
{
    struct segment *s;

    if (c->stand.segment && c->stand.item == item) {
        *ret = segment_footer(c->stand.segment);
        return 0;
    }
    if (!chain_is_kept(c, item)) {
        TRY(chain_open_segment(c, item, &s, err));
        chain_close_segment(c, item, s);
    }
    *ret = segment_footer(c->kept[find(c, item)].segment);
    return 0;
}

void chain_forget_segments(struct chain *c)
{
    while (c->kept_count > 0)
        segment_free(take(c, c->kept_count - 1));
}
