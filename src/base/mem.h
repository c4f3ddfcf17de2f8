/*
 * base/mem.h - allocation that cannot fail.
 *
 * Out of memory aborts: what must survive is durable already. A size that comes from outside passes a limit before
 * it gets here.
 */
#ifndef SALVOR_BASE_MEM_H
#define SALVOR_BASE_MEM_H

#include <stddef.h>

#include "base/error.h"

void *mem_alloc(size_t bytes);                                /* not zeroed */
void *mem_zalloc(size_t count, size_t bytes);                 /* zeroed, overflow-checked */
void *mem_resize(void *p, size_t count, size_t bytes);        /* realloc of count * bytes, overflow-checked */
char *mem_strdup(const char *s);                              /* NULL gives NULL */
char *mem_strndup(const char *s, size_t n);                   /* stops at a NUL before n */
char *mem_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);     /* owner: caller, free() */

/* For CLEANUP(mem_free_ptr): frees the pointer that the local variable holds. */
void mem_free_ptr(void *pp);

/* A dynamic array's growth: makes room for count + 1 elements; *p and *cap change. */
void mem_grow(void **p, size_t *cap, size_t count, size_t element_bytes);
/* By a void * of its own: a T ** read as void ** would break the aliasing rules. */
#define MEM_GROW(array_, cap_, count_)                                                                                 \
    do {                                                                                                               \
        void *mem_grown_ = (array_);                                                                                   \
        mem_grow(&mem_grown_, &(cap_), (count_), sizeof *(array_));                                                    \
        (array_) = mem_grown_;                                                                                         \
    } while (0)

#endif
