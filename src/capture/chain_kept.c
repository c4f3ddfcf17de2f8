/*
 * capture/chain_kept.c - the segments of a chain, opened once where they are looked at often.
 *
 * A plan reads the notes of all footers, then looks for the place where it begins, for single commits, and reads the way. Each opening
 * costs requests to the store and a footer that is decompressed and parsed; an object never changes, so the footers that were read last stay, within
 * a bound. What is read of the blocks is not kept.
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

    c->kept_footer_bytes -= c->kept[i].footer_bytes;
    memmove(c->kept + i, c->kept + i + 1, (--c->kept_count - i) * sizeof *c->kept);
    return s;
}

int chain_open_segment(struct chain *c, size_t item, struct segment **ret, struct error *err)
{
    size_t i = find(c, item);

    ASSERT(!c->items[item].in_spool);
    if (i == c->kept_count)
        return segment_open(c->vault, c->source, c->incarnation, &c->items[item].id, ret, err);
    *ret = take(c, i);
    return 0;
}

/* It may be open twice: to read on, and to look at something again. */
void chain_close_segment(struct chain *c, size_t item, struct segment *s)
{
    if (!s || find(c, item) < c->kept_count) {
        segment_free(s);
        return;
    }
    struct chain_kept k = {.item = item, .segment = s, .footer_bytes = segment_rest(s)};
    while (c->kept_count > 0 && (c->kept_count == CHAIN_KEPT_MAX || c->kept_footer_bytes + k.footer_bytes > CHAIN_KEPT_FOOTER_BYTES))
        segment_free(take(c, 0));
    c->kept[c->kept_count++] = k;
    c->kept_footer_bytes += k.footer_bytes;
}

int chain_footer(struct chain *c, size_t item, const struct segment_footer **ret, struct error *err)
{
    struct segment *s;

    if (c->stand.segment && c->stand.item == item) {
        *ret = segment_footer(c->stand.segment);
        return 0;
    }
    if (find(c, item) == c->kept_count) {
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
