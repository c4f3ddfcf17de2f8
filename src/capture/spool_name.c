/*
 * capture/spool_name.c - names of spool files, and which of them count.
 *
 * <sequence:12>.spool is a file's first attempt; <sequence:12>.<attempt>.spool holds all that the attempts before it held and
 * more, since it gets its name only when that is durable. So of several the highest counts, at any moment of a crash.
 * Other names (*.tmp, *.bad) are not spool files.
 */
#include "capture/spool_internal.h"

#include <stdio.h>

#include "base/mem.h"

#define SEQUENCE_DIGITS 12
#define SUFFIX ".spool"

/* Decimal digits of s up to a byte that is none; false: none at all, or too many. */
static bool take_number(const char **s, size_t digits_max, uint64_t *ret)
{
    const char *p = *s;
    uint64_t n = 0;

    while (*p >= '0' && *p <= '9' && (size_t)(p - *s) < digits_max)
        n = n * 10 + (uint64_t)(*p++ - '0');
    if (p == *s)
        return false;
    *s = p;
    *ret = n;
    return true;
}

bool spool_name_parse(const char *name, struct spool_name *ret)
{
    const char *p = name;
    uint64_t sequence, attempt = 0;

    if (!take_number(&p, SEQUENCE_DIGITS, &sequence) || p - name != SEQUENCE_DIGITS || sequence == 0)
        return false;
    if (p[0] == '.' && p[1] >= '1' && p[1] <= '9') {
        p++;
        if (!take_number(&p, 9, &attempt))
            return false;
    }
    if (strcmp(p, SUFFIX) != 0)
        return false;
    *ret = (struct spool_name){.sequence = sequence, .attempt = (uint32_t)attempt};
    return true;
}

void spool_name_path(char path[static SPOOL_PATH_BYTES], const char *directory, struct spool_name name)
{
    int n;

    if (name.attempt == 0)
        n = snprintf(path, SPOOL_PATH_BYTES, "%s/%012llu" SUFFIX, directory, (unsigned long long)name.sequence);
    else
        n = snprintf(path, SPOOL_PATH_BYTES, "%s/%012llu.%u" SUFFIX, directory, (unsigned long long)name.sequence,
                     name.attempt);
    ASSERT(n > 0 && n < SPOOL_PATH_BYTES);
}

/* Names sort by sequence, but not by attempt (10 before 9): the greatest is kept in place. */
static void keep_newest(struct spool_name **names, size_t *cap, size_t *count, struct spool_name name)
{
    for (size_t i = *count; i > 0 && (*names)[i - 1].sequence >= name.sequence; i--) {
        if ((*names)[i - 1].sequence != name.sequence)
            continue;
        if ((*names)[i - 1].attempt < name.attempt)
            (*names)[i - 1].attempt = name.attempt;
        return;
    }
    MEM_GROW(*names, *cap, *count);
    (*names)[(*count)++] = name;
}

int spool_names(const char *directory, struct spool_name **ret, size_t *ret_count, struct error *err)
{
    CLEANUP(dir_names_free) struct dir_names all = {0};
    struct spool_name *names = NULL;
    size_t cap = 0, count = 0;

    int rc = dir_list(directory, &all, err);
    if (rc < 0 && rc != -ERROR_NOT_FOUND)
        return rc;
    for (size_t i = 0; rc >= 0 && i < all.count; i++) {
        struct spool_name name;

        if (spool_name_parse(all.names[i], &name))
            keep_newest(&names, &cap, &count, name);
    }
    *ret = names;
    *ret_count = count;
    return 0;
}

int spool_list(const char *directory, uint64_t **ret, size_t *ret_count, struct error *err)
{
    CLEANUP(mem_free_ptr) struct spool_name *names = NULL;
    size_t count;

    TRY(spool_names(directory, &names, &count, err));
    uint64_t *sequences = mem_zalloc(count + 1, sizeof *sequences);
    for (size_t i = 0; i < count; i++)
        sequences[i] = names[i].sequence;
    *ret = sequences;
    *ret_count = count;
    return 0;
}

int spool_path(char path[static SPOOL_PATH_BYTES], const char *directory, uint64_t sequence, struct error *err)
{
    CLEANUP(mem_free_ptr) struct spool_name *names = NULL;
    size_t count;

    TRY(spool_names(directory, &names, &count, err));
    for (size_t i = 0; i < count; i++)
        if (names[i].sequence == sequence) {
            spool_name_path(path, directory, names[i]);
            return 0;
        }
    return error_set(err, ERROR_NOT_FOUND, "%s has no spool file %012llu", directory, (unsigned long long)sequence);
}

int spool_remove(const char *directory, uint64_t sequence, struct error *err)
{
    CLEANUP(dir_names_free) struct dir_names all = {0};

    TRY(dir_list(directory, &all, err));
    for (size_t i = 0; i < all.count; i++) {
        char path[SPOOL_PATH_BYTES];
        struct spool_name name;

        if (!spool_name_parse(all.names[i], &name) || name.sequence != sequence)
            continue;
        spool_name_path(path, directory, name);
        TRY(file_remove(path, err));
    }
    return 0;
}

uint64_t spool_source_hash(const char *source, const char *incarnation)
{
    CLEANUP(mem_free_ptr) char *text = mem_printf("%s/%s", source, incarnation);

    return hash64(slice_str(text));
}
