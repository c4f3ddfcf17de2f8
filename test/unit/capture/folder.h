/*
 * test/unit/capture/folder.h - a new folder in memory where there is such a place: these tests sync thousands of times,
 * and what a disk does with that is not their question.
 */
#ifndef SALVOR_TEST_FOLDER_H
#define SALVOR_TEST_FOLDER_H

#include "unit.h"

static inline char *memory_folder(void)
{
    char *path = strdup("/dev/shm/salvor-unit-XXXXXX");

    assert_non_null(path);
    if (mkdtemp(path))
        return path;
    free(path);
    return unit_folder();
}

#endif
