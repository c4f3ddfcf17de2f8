/*
 * event/row_scan.h - finds the bytes that mean something in COPY text, eight at a time. Private to src/event.
 *
 * Special are 0x00 (in no text of PostgreSQL), 0x08..0x0d (\b \t \n \v \f \r) and the backslash. Both tests are exact a
 * byte, so the lowest marked byte is the first special one.
 */
#ifndef SALVOR_EVENT_ROW_SCAN_H
#define SALVOR_EVENT_ROW_SCAN_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ROW_SCAN_ALL(byte_) (UINT64_C(0x0101010101010101) * (byte_))

/* The high bit of each byte of x that is zero. */
static inline uint64_t row_scan_zero(uint64_t x)
{
    return ~(((x & ROW_SCAN_ALL(0x7f)) + ROW_SCAN_ALL(0x7f)) | x | ROW_SCAN_ALL(0x7f));
}

/* The high bit of each special byte of x. */
static inline uint64_t row_scan_marks(uint64_t x)
{
    uint64_t low = x & ROW_SCAN_ALL(0x7f);
    /* 0x80 - 0x08 carries into the high bit from 0x08 on, 0x80 - 0x0e from 0x0e on. */
    uint64_t control = (low + ROW_SCAN_ALL(0x78)) & ~(low + ROW_SCAN_ALL(0x72)) & ~x & ROW_SCAN_ALL(0x80);

    return control | row_scan_zero(x) | row_scan_zero(x ^ ROW_SCAN_ALL(0x5c));
}

static inline uint64_t row_scan_load(const uint8_t *p)
{
    uint64_t x;

    memcpy(&x, p, sizeof x);
    return le64toh(x);
}

/* The 1 to 7 bytes p[0..n), by loads that overlap; zeros above. */
static inline uint64_t row_scan_load_few(const uint8_t *p, size_t n)
{
    uint32_t low, high;

    if (n < 4)
        return p[0] | (uint64_t)p[n / 2] << 8 * (n / 2) | (uint64_t)p[n - 1] << 8 * (n - 1);
    memcpy(&low, p, sizeof low);
    memcpy(&high, p + n - 4, sizeof high);
    return le32toh(low) | (uint64_t)le32toh(high) << 8 * (n - 4);
}

static inline size_t row_scan_first(uint64_t marks)
{
    return (size_t)__builtin_ctzll(marks) / 8;
}

/* The place of the first special byte of p[0..n); n: there is none. */
static inline size_t row_scan(const uint8_t *p, size_t n)
{
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        uint64_t marks = row_scan_marks(row_scan_load(p + i));

        if (marks)
            return i + row_scan_first(marks);
    }
    if (i == n)
        return n;
    /* The zeros above are marked too: where nothing else is, the first of them gives n. */
    return i + row_scan_first(row_scan_marks(row_scan_load_few(p + i, n - i)));
}

#endif
