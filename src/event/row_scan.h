/*
 * event/row_scan.h - finds the bytes that mean something in COPY text, eight at a time. Private to src/event.
 *
 * Special are 0x00 (in no text of PostgreSQL), 0x08..0x0d (\b \t \n \v \f \r) and the backslash. Both tests are exact a
 * byte, so the lowest marked byte is the first special one.
 */
#ifndef SALVOR_EVENT_ROW_SCAN_H
#define SALVOR_EVENT_ROW_SCAN_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ROW_SCAN_ALL(byte_) (UINT64_C(0x0101010101010101) * (byte_))

static inline bool row_special(uint8_t ch)
{
    return ch == 0 || (ch >= 0x08 && ch <= 0x0d) || ch == '\\';
}

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

/* The place of the first special byte of p[0..n); n: there is none. */
static inline size_t row_scan(const uint8_t *p, size_t n)
{
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        uint64_t marks = row_scan_marks(row_scan_load(p + i));

        if (marks)
            return i + (size_t)__builtin_ctzll(marks) / 8;
    }
    while (i < n && !row_special(p[i]))
        i++;
    return i;
}

#endif
