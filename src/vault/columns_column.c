/*
 * vault/columns_column.c - the values of a column as streams of numbers.
 *
 * A text is taken apart by a template: what stands between runs of letters and runs of digits is the same in all its texts, a run of
 * digits is a number, a run of letters a place in the list of words that the slot has had. Values of real columns (names,
 * dates, JSON documents of one shape, identifiers) mostly fit one that the column already has, and the one of the value before is tried
 * first. A pattern becomes a template when it is seen the second time; free text has another pattern each time and is soon
 * left alone, as are hashes and tokens, whose letters and digits alternate. Which way a value takes changes the size alone: what comes back is the concatenation of what was taken apart.
 */
#include "vault/columns_column.h"

#include <endian.h>

#include "base/hash.h"

#define MISSES_MANY 12u
#define MISSES_MAX 24u
#define MISSES_A_HIT 4u /* that a hit outweighs: where less than a fifth fits, trying costs more than it saves */
#define TRY_AGAIN_EACH 16u
#define MIXED_MAX 4u /* letters beside digits in a text; more of it is a hash or a token, and each has another pattern */
#define NARROW_VALUES_MIN 256u /* that had one word in a slot, to make it literal */
#define NARROWED_MAX 4u        /* templates of a column */
#define WORDS_TABLE_MIN ((size_t)32)

#define CLASS_LITERAL 0u
#define CLASS_WORD 1u
#define CLASS_DIGIT 2u
#define CLASS_NEVER 3u /* stands for a slot in patterns */

static const uint8_t class_of[256] = {
    [0 ... SLOT_FIXED] = CLASS_NEVER, ['0' ... '9'] = CLASS_DIGIT,    ['A' ... 'Z'] = CLASS_WORD,
    ['a' ... 'z'] = CLASS_WORD,       [0x80 ... 0xff] = CLASS_WORD,
};

/* --- words ------------------------------------------------------------------------------------------------------- */

static inline uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    memcpy(&v, p, n);
    return v;
}

/* Together with its length it is the word, up to 8 bytes. */
static inline uint64_t word_key(const uint8_t *p, size_t n)
{
    if (n >= 8)
        return load(p, 8) ^ (n > 8 ? load(p + n - 8, 8) << 1 : 0);
    if (n >= 4)
        return load(p, 4) | load(p + n - 4, 4) << 32;
    return (uint64_t)p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
}

static inline size_t word_place(uint64_t key, size_t n, size_t size)
{
    return (size_t)(((key + n) * UINT64_C(0x9e3779b97f4a7c15)) >> 40) & (size - 1);
}

static inline struct word *word_next(const struct words *w, struct word *x)
{
    return x + 1 < w->table + w->table_size ? x + 1 : w->table;
}

static void words_grow(struct words *w)
{
    struct words old = *w;

    w->table_size = old.table_size > 0 ? old.table_size * 4 : WORDS_TABLE_MIN;
    w->table = mem_zalloc(w->table_size, sizeof *w->table);
    for (size_t i = 0; i < old.table_size; i++) {
        struct word *x = w->table + word_place(old.table[i].key, old.table[i].n, w->table_size);

        if (old.table[i].n == 0)
            continue;
        while (x->n != 0)
            x = word_next(w, x);
        *x = old.table[i];
    }
    free(old.table);
}

static uint32_t words_add(struct words *w, const uint8_t *p, size_t n)
{
    MEM_GROW(w->at, w->cap, w->count);
    w->at[w->count] = (uint32_t)w->text.n;
    buf_put(&w->text, p, n);
    buf_put_u8(&w->text, '\n');
    return (uint32_t)w->count++;
}

static inline bool word_is(const struct words *w, const struct word *x, const uint8_t *p, size_t n, uint64_t key)
{
    return x->key == key && x->n == n && (n <= 8 || memcmp(w->text.p + w->at[x->place], p, n) == 0);
}

/* Where it is looked for lies rarely in the nearest cache: asked for as soon as the word is known, and taken later. */
static inline void words_expect(const struct words *w, uint64_t key, size_t n)
{
    if (w->table_size > 0)
        __builtin_prefetch(w->table + word_place(key, n, w->table_size));
}

static uint32_t words_place(struct words *w, const uint8_t *p, size_t n, uint64_t key)
{
    if (w->count >= w->table_size / 2)
        words_grow(w);
    struct word *x = w->table + word_place(key, n, w->table_size);
    for (; x->n != 0; x = word_next(w, x)) {
        if (word_is(w, x, p, n, key))
            return x->place;
    }
    *x = (struct word){.key = key, .n = (uint32_t)n, .place = words_add(w, p, n)};
    return x->place;
}

static void words_clear(struct words *w)
{
    if (w->count > 0)
        memset(w->table, 0, w->table_size * sizeof *w->table);
    w->count = 0;
    buf_clear(&w->text);
}

static void words_release(struct words *w)
{
    buf_release(&w->text);
    free(w->at);
    free(w->table);
}

/* --- templates --------------------------------------------------------------------------------------------------- */

/* A slot's share of a text: a number, or a word's bytes. */
struct share {
    const uint8_t *p;
    size_t n;
    uint64_t number; /* of a word: word_key */
};

#define EACH(byte_) (UINT64_C(0x0101010101010101) * (byte_))

/* The top bit of each byte that belongs to a word. */
static inline uint64_t words_in(uint64_t bytes)
{
    uint64_t lower = (bytes | EACH(0x20)) & EACH(0x7f);

    return (((lower + EACH(0x80 - 'a')) & ~(lower + EACH(0x7f - 'z'))) | bytes) & EACH(0x80);
}

static inline const uint8_t *word_end(const uint8_t *p, const uint8_t *end)
{
    for (; end - p >= 8; p += 8) {
        uint64_t others = words_in(le64toh(load(p, 8))) ^ EACH(0x80);

        if (others != 0)
            return p + __builtin_ctzll(others) / 8;
    }
    while (p < end && class_of[*p] == CLASS_WORD)
        p++;
    return p;
}

/* NULL: not so many digits, or too many. `width` 0: as many as there are, without leading zeros. */
static inline const uint8_t *number_end(const uint8_t *p, const uint8_t *end, size_t width, uint64_t *ret)
{
    const uint8_t *begin = p;
    size_t most = width > 0 ? width : COLUMNS_DIGITS_MAX;
    uint64_t v = 0;

    if ((size_t)(end - p) > most)
        end = p + most;
    for (; p < end && (unsigned)(*p - '0') <= 9; p++)
        v = v * 10 + (unsigned)(*p - '0');
    size_t n = (size_t)(p - begin);
    if (n == 0 || (width > 0 ? n != width : *begin == '0' && n > 1))
        return NULL;
    *ret = v;
    return p;
}

static inline const uint8_t *literal_end(const uint8_t *p, const uint8_t *end, const uint8_t *literal, size_t n)
{
    if ((size_t)(end - p) < n)
        return NULL;
    for (; n >= 8; n -= 8, p += 8, literal += 8) {
        if (load(p, 8) != load(literal, 8))
            return NULL;
    }
    if (end - p >= 8)
        return n == 0 || le64toh(load(p, 8) ^ load(literal, 8)) << (64 - 8 * n) == 0 ? p + n : NULL;
    for (; n > 0; n--) {
        if (*p++ != *literal++)
            return NULL;
    }
    return p;
}

/* False: the text does not fit. */
static bool template_match(const struct template *t, struct slice text, struct share *shares)
{
    const uint8_t *p = text.p, *end = text.p + text.n;
    const struct slot *slot = t->slots;

    for (const struct token *k = t->tokens; k < t->tokens + t->tokens_count; k++) {
        if (k->kind == 0) {
            p = literal_end(p, end, t->pattern + k->at, k->n);
        } else if (k->kind == SLOT_WORD) {
            const uint8_t *begin = p;

            p = word_end(p, end);
            if (p == begin)
                return false;
            *shares = (struct share){.p = begin, .n = (size_t)(p - begin), .number = word_key(begin, (size_t)(p - begin))};
            words_expect(&slot->words, shares->number, shares->n);
            shares++;
            slot++;
        } else {
            p = number_end(p, end, k->width, &shares->number);
            shares++;
            slot++;
        }
        if (!p)
            return false;
    }
    return p == end;
}

static void template_take(struct template *t, const struct share *shares)
{
    struct slot *slot = t->slots;

    for (const struct token *k = t->tokens; k < t->tokens + t->tokens_count; k++) {
        if (k->kind == 0)
            continue;
        numbers_add(&slot->values, k->kind == SLOT_WORD ? words_place(&slot->words, shares->p, shares->n, shares->number) : shares->number);
        slot++;
        shares++;
    }
    t->used = true;
}

static void template_free(struct template *t)
{
    for (size_t i = 0; i < t->slots_count; i++) {
        free(t->slots[i].values.v);
        words_release(&t->slots[i].words);
    }
    free(t->tokens);
    free(t->slots);
    free(t);
}

/* Appends a run of digits; false: too long for a number. */
static bool pattern_digits(struct buf *b, const uint8_t *p, size_t n)
{
    if (n > COLUMNS_DIGITS_MAX)
        return false;
    buf_put_u8(b, n > 1 && *p == '0' ? SLOT_FIXED : SLOT_NATURAL);
    if (n > 1 && *p == '0')
        buf_put_u8(b, (uint8_t)n);
    return true;
}

/* The pattern of a text; false: it has none. */
static bool pattern_of(struct slice text, struct buf *b)
{
    const uint8_t *p = text.p, *end = text.p + text.n;
    unsigned slots = 0, mixed = 0;

    while (p < end) {
        const uint8_t *begin = p;
        uint8_t class = class_of[*p];

        if (class == CLASS_NEVER)
            return false;
        if (class == CLASS_LITERAL) {
            buf_put_u8(b, *p++);
            continue;
        }
        while (p < end && class_of[*p] == class)
            p++;
        mixed += p < end && class_of[*p] == (class ^ CLASS_WORD ^ CLASS_DIGIT);
        if (++slots > COLUMNS_SLOTS_MAX || mixed > MIXED_MAX)
            return false;
        if (class == CLASS_WORD)
            buf_put_u8(b, SLOT_WORD);
        else if (!pattern_digits(b, begin, (size_t)(p - begin)))
            return false;
    }
    return slots > 0 && !b->overflow;
}

static struct template *template_new(struct slice pattern)
{
    struct template *t = mem_zalloc(1, sizeof *t);

    memcpy(t->pattern, pattern.p, pattern.n);
    t->pattern_bytes = (uint16_t)pattern.n;
    t->tokens = mem_zalloc(pattern.n, sizeof *t->tokens);
    t->slots = mem_zalloc(COLUMNS_SLOTS_MAX, sizeof *t->slots);
    for (size_t i = 0; i < pattern.n; i++) {
        struct token *last = t->tokens_count > 0 ? &t->tokens[t->tokens_count - 1] : NULL;

        if (t->pattern[i] > SLOT_FIXED && last && last->kind == 0) {
            last->n++;
            continue;
        }
        struct token *k = &t->tokens[t->tokens_count++];
        *k = (struct token){.at = (uint16_t)i, .n = 1};
        if (t->pattern[i] > SLOT_FIXED)
            continue;
        k->kind = t->pattern[i];
        k->width = k->kind == SLOT_FIXED ? t->pattern[++i] : 0;
        t->slots[t->slots_count++].words.text = BUF_INIT(BUF_BYTES_MAX);
    }
    t->slots = mem_resize(t->slots, t->slots_count + (size_t)1, sizeof *t->slots); /* one that became literal has none */
    return t;
}

/*
 * The template with the words that a whole block had but one of as literals; NULL: there is none of them. The names of a JSON document's
 * members are such words, and a literal is neither looked up nor stored.
 */
static struct template *template_narrow(const struct template *t)
{
    uint8_t room[COLUMNS_PATTERN_MAX];
    struct buf b = {.p = room, .cap = sizeof room, .max = sizeof room};
    const struct slot *slot = t->slots;
    bool any = false;

    for (const struct token *k = t->tokens; k < t->tokens + t->tokens_count; k++) {
        bool same = k->kind == SLOT_WORD && slot->words.count == 1 && slot->values.count >= NARROW_VALUES_MIN;

        if (same)
            buf_put(&b, slot->words.text.p, slot->words.text.n - 1);
        else
            buf_put(&b, t->pattern + k->at, k->kind == SLOT_FIXED ? 2 : k->n);
        any |= same;
        slot += k->kind != 0;
    }
    return any && !b.overflow ? template_new(buf_slice(&b)) : NULL;
}

/* --- values ------------------------------------------------------------------------------------------------------ */

static void put_code(struct column *c, unsigned code)
{
    buf_put_u8(&c->codes, (uint8_t)code);
}

static bool add_by_template(struct column *c, uint32_t i, struct slice text)
{
    struct share shares[COLUMNS_SLOTS_MAX];

    if (!template_match(c->templates[i], text, shares))
        return false;
    template_take(c->templates[i], shares);
    put_code(c, CODE_TEMPLATE + i);
    c->last = i;
    return true;
}

/* A pattern that comes the second time becomes a template. */
static void learn(struct column *c, struct slice text)
{
    uint8_t room[COLUMNS_PATTERN_MAX + 1];
    struct buf b = {.p = room, .cap = COLUMNS_PATTERN_MAX, .max = COLUMNS_PATTERN_MAX};

    if (c->templates_count == COLUMNS_TEMPLATES_MAX || !pattern_of(text, &b))
        return;
    uint32_t hash = (uint32_t)hash64(buf_slice(&b)) | 1;
    uint32_t *seen = &c->seen[hash / 2 % COLUMN_SEEN];
    if (*seen == hash)
        c->templates[c->templates_count++] = template_new(buf_slice(&b));
    *seen = hash;
}

static bool add_templated(struct column *c, struct slice text)
{
    if (text.n == 0 || text.n > COLUMNS_TEXT_MAX)
        return false;
    if (c->templates_count > 0 && add_by_template(c, c->last, text))
        return true;
    if (c->misses >= MISSES_MANY && ++c->skipped % TRY_AGAIN_EACH != 0)
        return false;
    for (uint32_t i = 0; i < c->templates_count; i++) {
        if (i != c->last && add_by_template(c, i, text))
            return true;
    }
    uint32_t before = c->templates_count;
    learn(c, text);
    return c->templates_count > before && add_by_template(c, before, text);
}

static bool add_time(struct column *c, struct slice text)
{
    int64_t us;
    bool utc;

    if (!time_parse(text, &c->time_seen, &us, &utc))
        return false;
    numbers_add(&c->times, (uint64_t)us);
    put_code(c, utc ? CODE_TIME_UTC : CODE_TIME);
    return true;
}

static bool add_uuid(struct column *c, struct slice text)
{
    uint8_t uuid[UUID_BYTES];

    if (!uuid_parse(text.p, uuid))
        return false;
    buf_put(&c->uuids, uuid, sizeof uuid);
    put_code(c, CODE_UUID);
    return true;
}

static void add_text(struct column *c, struct slice text)
{
    if (text.n == UUID_TEXT_BYTES && add_uuid(c, text))
        return;
    if (text.n >= 19 && text.n <= TIME_TEXT_BYTES_MAX && text.p[4] == '-' && text.p[10] == ' ' && add_time(c, text))
        return;
    if (add_templated(c, text)) {
        c->misses = c->misses > MISSES_A_HIT ? c->misses - MISSES_A_HIT : 0;
        return;
    }
    c->misses += c->misses < MISSES_MAX;
    put_code(c, CODE_RAW);
    numbers_add(&c->raw_bytes, text.n);
    buf_put_slice(&c->raw, text);
}

void column_add(struct column *c, const struct value *v)
{
    if (!c->codes.max)
        c->codes = c->raw = c->uuids = BUF_INIT(BUF_BYTES_MAX);
    if (v->state == VALUE_TEXT)
        add_text(c, v->text);
    else
        put_code(c, (unsigned)v->state);
}

/* --- out --------------------------------------------------------------------------------------------------------- */

static void template_put(const struct template *t, struct columns_out *out)
{
    const struct slot *slot = t->slots;

    buf_put_bytes(out->b, slice_of(t->pattern, t->pattern_bytes));
    for (const struct token *k = t->tokens; k < t->tokens + t->tokens_count; k++) {
        if (k->kind == 0)
            continue;
        if (k->kind == SLOT_WORD)
            columns_put_bytes(out, buf_slice(&slot->words.text));
        columns_put_numbers(out, &slot->values);
        slot++;
    }
}

/* Those that this block uses, numbered anew. */
static void templates_put(struct column *c, struct columns_out *out, uint32_t used_count)
{
    buf_put_varint(out->b, used_count);
    for (uint32_t i = 0; i < c->templates_count; i++) {
        if (c->templates[i]->used)
            template_put(c->templates[i], out);
    }
}

static uint32_t renumber(struct column *c)
{
    uint8_t code[CODE_END_];
    uint32_t used = 0;

    for (uint32_t i = 0; i < CODE_TEMPLATE; i++)
        code[i] = (uint8_t)i;
    for (uint32_t i = 0; i < c->templates_count; i++) {
        code[CODE_TEMPLATE + i] = (uint8_t)(CODE_TEMPLATE + used);
        used += c->templates[i]->used;
    }
    if (used < c->templates_count) {
        for (size_t i = 0; i < c->codes.n; i++)
            c->codes.p[i] = code[c->codes.p[i]];
    }
    return used;
}

static void codes_put(const struct column *c, struct columns_out *out)
{
    bool same = true;

    for (size_t i = 1; i < c->codes.n && same; i++)
        same = c->codes.p[i] == c->codes.p[0];
    buf_put_varint(out->b, c->codes.n);
    buf_put_u8(out->b, same ? 0 : 1);
    buf_put_varint(out->b, same && c->codes.n > 0 ? c->codes.p[0] : 0);
    if (!same) {
        buf_put(out->b, c->codes.p, c->codes.n);
        columns_cut(out, c->codes.n);
    }
}

void column_put(struct column *c, struct columns_out *out)
{
    uint32_t used = renumber(c);

    codes_put(c, out);
    buf_put_u8(out->b, (uint8_t)((c->raw_bytes.count > 0 ? COLUMN_HAS_RAW : 0) | (c->uuids.n > 0 ? COLUMN_HAS_UUID : 0) |
                                 (c->times.count > 0 ? COLUMN_HAS_TIME : 0) | (used > 0 ? COLUMN_HAS_TEMPLATES : 0)));
    if (c->raw_bytes.count > 0) {
        columns_put_numbers(out, &c->raw_bytes);
        columns_put_bytes(out, buf_slice(&c->raw));
    }
    if (c->uuids.n > 0)
        columns_put_bytes(out, buf_slice(&c->uuids));
    if (c->times.count > 0)
        columns_put_numbers(out, &c->times);
    if (used > 0)
        templates_put(c, out, used);
}

/* Its streams are empty, or about to be. */
static void narrow(struct column *c, uint32_t i)
{
    struct template *narrow = c->narrowed < NARROWED_MAX ? template_narrow(c->templates[i]) : NULL;

    if (!narrow)
        return;
    template_free(c->templates[i]);
    c->templates[i] = narrow;
    c->narrowed++;
}

void column_clear(struct column *c)
{
    buf_clear(&c->codes);
    buf_clear(&c->raw);
    buf_clear(&c->uuids);
    c->raw_bytes.count = c->times.count = 0;
    for (uint32_t i = 0; i < c->templates_count; i++) {
        narrow(c, i);
        struct template *t = c->templates[i];

        for (size_t k = 0; t->used && k < t->slots_count; k++) {
            t->slots[k].values.count = 0;
            words_clear(&t->slots[k].words);
        }
        t->used = false;
    }
}

void column_release(struct column *c)
{
    buf_release(&c->codes);
    buf_release(&c->raw);
    buf_release(&c->uuids);
    free(c->raw_bytes.v);
    free(c->times.v);
    for (uint32_t i = 0; i < c->templates_count; i++)
        template_free(c->templates[i]);
}

static size_t template_bytes(const struct template *t)
{
    size_t bytes = sizeof *t + t->slots_count * sizeof *t->slots + t->pattern_bytes * sizeof *t->tokens;

    for (size_t i = 0; i < t->slots_count; i++) {
        const struct slot *s = &t->slots[i];

        bytes += s->values.cap * sizeof *s->values.v + s->words.text.cap + s->words.cap * sizeof *s->words.at +
                 s->words.table_size * sizeof *s->words.table;
    }
    return bytes;
}

size_t column_bytes(const struct column *c)
{
    size_t bytes = sizeof *c + c->codes.cap + c->raw.cap + c->uuids.cap + (c->raw_bytes.cap + c->times.cap) * sizeof(uint64_t);

    for (uint32_t i = 0; i < c->templates_count; i++)
        bytes += template_bytes(c->templates[i]);
    return bytes;
}
