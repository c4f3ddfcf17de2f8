/*
 * base/mem.c - allocation that aborts instead of failing; see mem.h for why that is safe.
 *
 * A request for no bytes gives a pointer that may be freed, never NULL: NULL always means "nothing there".
 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROW_COUNT_MIN 8

static void out_of_memory(size_t count, size_t bytes) __attribute__((noreturn));

static void out_of_memory(size_t count, size_t bytes)
{
    (void)fprintf(stderr, "salvor: out of memory: %zu * %zu bytes\n", count, bytes);
    abort();
}

static size_t product(size_t count, size_t bytes)
{
    size_t total;

    if (__builtin_mul_overflow(count, bytes, &total))
        out_of_memory(count, bytes);
    return total > 0 ? total : 1;
}

void *mem_alloc(size_t bytes)
{
    void *p = malloc(bytes > 0 ? bytes : 1);

    if (!p)
        out_of_memory(1, bytes);
    return p;
}

void *mem_zalloc(size_t count, size_t bytes)
{
    void *p = calloc(1, product(count, bytes));

    if (!p)
        out_of_memory(count, bytes);
    return p;
}

void *mem_resize(void *p, size_t count, size_t bytes)
{
    void *grown = realloc(p, product(count, bytes));

    if (!grown)
        out_of_memory(count, bytes);
    return grown;
}

char *mem_strdup(const char *s)
{
    return s ? mem_strndup(s, strlen(s)) : NULL;
}

char *mem_strndup(const char *s, size_t n)
{
    size_t len = s ? strnlen(s, n) : 0;
    char *copy = mem_alloc(len + 1);

    if (len > 0)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *mem_printf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        out_of_memory(1, 0);
    return text;
}

void mem_free_ptr(void *pp)
{
    void *p;

    /* Read as bytes: the caller's variable has a pointer type of its own. */
    memcpy(&p, pp, sizeof p);
    free(p);
}

void mem_grow(void **p, size_t *cap, size_t count, size_t element_bytes)
{
    size_t more;

    if (count < *cap)
        return;
    if (__builtin_mul_overflow(*cap, (size_t)2, &more) || count == SIZE_MAX)
        out_of_memory(count, element_bytes);
    if (more < GROW_COUNT_MIN)
        more = GROW_COUNT_MIN;
    if (more <= count)
        more = count + 1;
    *p = mem_resize(*p, more, element_bytes);
    *cap = more;
}
