/*
 * vault/columns_streams.c - where in a packed block each stream lies; their sizes follow one from the other.
 *
 * Nothing that the bytes say is believed: what they have memory made for is bounded by their own number.
 */
#include "vault/columns_streams.h"

#include <stdlib.h>

#include "base/mem.h"

static void get_numbers(struct cursor *c, struct numbers_in *ret)
{
    *ret = (struct numbers_in){.count = (size_t)cursor_get_varint(c)};
    if (ret->count == 0)
        return;
    uint8_t kind = cursor_get_u8(c);
    ret->width = kind & NUMBERS_WIDTH;
    ret->delta = kind & NUMBERS_DELTA;
    ret->base = cursor_get_varint(c);
    /* No block has more numbers than plain bytes. */
    if (ret->width > 8 || (kind & ~(NUMBERS_WIDTH | NUMBERS_DELTA)) || ret->count > COLUMNS_PLAIN_MAX)
        c->failed = true;
    else
        ret->p = cursor_get(c, ret->count * ret->width).p;
}

static void column_in_release(struct column_in *c)
{
    for (uint32_t i = 0; i < c->templates_count; i++) {
        for (uint32_t k = 0; k < c->templates[i].slots_count; k++)
            free(c->templates[i].slots[k].words);
        free(c->templates[i].slots);
        free(c->templates[i].pieces);
    }
    free(c->templates);
}

void columns_release(struct unpacker *u)
{
    for (uint32_t i = 0; i < u->tables_count; i++) {
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; u->tables[i].tuples[k] && n < u->tables[i].columns_count; n++)
                column_in_release(&u->tables[i].tuples[k][n]);
            free(u->tables[i].tuples[k]);
        }
    }
    free(u->tables);
}

/* Texts, each with a line feed. */
static bool find_words(struct slice text, struct slot_in *ret)
{
    size_t count = 0;

    for (size_t i = 0; i < text.n; i++)
        count += text.p[i] == '\n';
    if (text.n > 0 && text.p[text.n - 1] != '\n')
        return false;
    ret->text = text.p;
    ret->words = mem_zalloc(count + 1, sizeof *ret->words);
    const uint8_t *begin = text.p;
    for (; ret->words_count < count; ret->words_count++) {
        const uint8_t *end = memchr(begin, '\n', (size_t)(text.p + text.n - begin));

        ret->words[ret->words_count] = (struct word_in){.at = (uint32_t)(begin - text.p), .n = (uint32_t)(end - begin)};
        begin = end + 1;
    }
    return true;
}

static bool get_slot(struct cursor *c, bool is_word, struct slot_in *ret)
{
    if (is_word && (!find_words(cursor_get_bytes(c), ret) || c->failed))
        return false;
    get_numbers(c, &ret->values);
    return !c->failed;
}

/* How many slots; UINT32_MAX: it is no pattern. */
static uint32_t count_slots(struct slice pattern)
{
    uint32_t count = 0;

    for (size_t i = 0; i < pattern.n; i++) {
        if (pattern.p[i] == 0)
            return UINT32_MAX;
        count += pattern.p[i] <= SLOT_FIXED;
        if (pattern.p[i] == SLOT_FIXED && (++i == pattern.n || pattern.p[i] > COLUMNS_DIGITS_MAX))
            return UINT32_MAX;
    }
    return count;
}

static void find_pieces(struct template_in *t)
{
    const uint8_t *p = t->pattern.p, *end = p + t->pattern.n;

    for (struct piece *piece = t->pieces;; piece++) {
        const uint8_t *begin = p;

        while (p < end && *p > SLOT_FIXED)
            p++;
        *piece = (struct piece){.literal = begin, .n = (uint32_t)(p - begin)};
        if (p == end)
            return;
        piece->kind = *p++;
        piece->width = piece->kind == SLOT_FIXED ? *p++ : 0;
    }
}

static bool get_template(struct cursor *c, struct template_in *ret)
{
    ret->pattern = cursor_get_bytes(c);
    uint32_t count = c->failed ? UINT32_MAX : count_slots(ret->pattern);
    if (count > COLUMNS_SLOTS_MAX)
        return false;
    ret->slots = mem_zalloc(count + 1, sizeof *ret->slots);
    ret->slots_count = count;
    ret->pieces = mem_zalloc(count + 1, sizeof *ret->pieces);
    find_pieces(ret);
    for (uint32_t i = 0; i < count; i++) {
        if (!get_slot(c, ret->pieces[i].kind == SLOT_WORD, &ret->slots[i]))
            return false;
    }
    return true;
}

static bool get_templates(struct cursor *c, struct column_in *ret)
{
    uint64_t count = cursor_get_varint(c);

    if (c->failed || count > COLUMNS_TEMPLATES_MAX)
        return false;
    ret->templates = mem_zalloc((size_t)count + 1, sizeof *ret->templates);
    while (ret->templates_count < count) {
        if (!get_template(c, &ret->templates[ret->templates_count++]))
            return false;
    }
    return true;
}

static bool get_column(struct cursor *c, struct column_in *ret)
{
    get_numbers(c, &ret->codes);
    uint8_t has = cursor_get_u8(c);

    if (has >= COLUMN_HAS_TEMPLATES * 2)
        return false;
    if (has & COLUMN_HAS_RAW) {
        get_numbers(c, &ret->raw_bytes);
        ret->raw = cursor_of(cursor_get_bytes(c));
    }
    if (has & COLUMN_HAS_UUID)
        ret->uuids = cursor_of(cursor_get_bytes(c));
    if (has & COLUMN_HAS_TIME)
        get_numbers(c, &ret->times);
    return !c->failed && (!(has & COLUMN_HAS_TEMPLATES) || get_templates(c, ret));
}

static bool get_table(struct unpacker *u, struct cursor *c, struct table_in *ret)
{
    uint64_t id = cursor_get_varint(c), version = cursor_get_varint(c);
    uint8_t has = cursor_get_u8(c);

    if (c->failed || id > UINT32_MAX || version > UINT32_MAX || has > 3)
        return false;
    *ret = (struct table_in){.id = (uint32_t)id, .version = (uint32_t)version};
    if (has == 0)
        return true;
    uint64_t count = cursor_get_varint(c);
    if (c->failed || count > RELATION_COLUMNS_MAX)
        return false;
    ret->columns_count = (uint32_t)count;
    for (int k = 0; k < 2; k++) {
        if (!(has & 1 << k))
            continue;
        u->columns_count += ret->columns_count;
        if (u->columns_count > COLUMNS_ALL_MAX)
            return false;
        ret->tuples[k] = mem_zalloc(ret->columns_count + 1, sizeof *ret->tuples[k]);
        for (uint32_t n = 0; n < ret->columns_count; n++) {
            if (!get_column(c, &ret->tuples[k][n]))
                return false;
        }
    }
    return true;
}

bool columns_find(struct unpacker *u, struct cursor *c)
{
    for (int i = 0; i < STREAM_COUNT_; i++)
        get_numbers(c, &u->streams[i]);
    u->frames = cursor_of(cursor_get_bytes(c));
    u->messages = cursor_of(cursor_get_bytes(c));
    uint64_t count = cursor_get_varint(c);
    if (c->failed || count > COLUMNS_TABLES_MAX)
        return false;
    u->tables = mem_zalloc((size_t)count + 1, sizeof *u->tables);
    while (u->tables_count < count) {
        if (!get_table(u, c, &u->tables[u->tables_count++]))
            return false;
    }
    return c->p == c->end;
}

static bool column_is_empty(const struct column_in *c)
{
    bool empty = is_empty(&c->codes) && is_empty(&c->raw_bytes) && c->raw.p == c->raw.end && c->uuids.p == c->uuids.end &&
                 is_empty(&c->times);

    for (uint32_t i = 0; i < c->templates_count; i++) {
        for (uint32_t k = 0; k < c->templates[i].slots_count; k++)
            empty &= is_empty(&c->templates[i].slots[k].values);
    }
    return empty;
}

bool columns_are_empty(const struct unpacker *u)
{
    bool empty = u->frames.p == u->frames.end && u->messages.p == u->messages.end;

    for (int i = 0; i < STREAM_COUNT_; i++)
        empty &= is_empty(&u->streams[i]);
    for (uint32_t i = 0; i < u->tables_count; i++) {
        for (int k = 0; k < 2; k++) {
            for (uint32_t n = 0; u->tables[i].tuples[k] && n < u->tables[i].columns_count; n++)
                empty &= column_is_empty(&u->tables[i].tuples[k][n]);
        }
    }
    return empty;
}
