/*
 * test/fuzz/replay.c - runs a fuzz target over every file of the folders that are named, once each.
 *
 * Each input is copied into memory of exactly its size, so that the sanitizers see a read behind it. A folder that cannot be
 * read, or has no input, fails: a replay of nothing proves nothing.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX ((size_t)64 << 20)
#define PATH_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fail(const char *what, const char *path)
{
    (void)fprintf(stderr, "replay: %s: %s\n", path, what);
    return -1;
}

static int run_file(const char *path, size_t bytes)
{
    uint8_t *data = malloc(bytes ? bytes : 1);
    FILE *f = fopen(path, "rb");
    size_t got = data && f ? fread(data, 1, bytes, f) : 0;

    if (f)
        (void)fclose(f);
    if (!data || !f || got != bytes) {
        free(data);
        return fail("cannot be read whole", path);
    }
    /* Should it abort, this says where. */
    (void)printf("%s\n", path);
    (void)fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, bytes);
    free(data);
    return 1;
}

/* 1: run; 0: not an input; -1: failed. */
static int run_entry(const char *folder, const char *name)
{
    char path[PATH_BYTES];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);

    if (n < 0 || (size_t)n >= sizeof path || stat(path, &st) < 0)
        return fail("cannot be looked at", name);
    if (!S_ISREG(st.st_mode))
        return 0;
    if (st.st_size < 0 || (size_t)st.st_size > INPUT_BYTES_MAX)
        return fail("is too large for an input", path);
    return run_file(path, (size_t)st.st_size);
}

static int run_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    int rc = 0, inputs_count = 0;

    if (!dir)
        return fail("cannot be opened", folder);
    while (rc >= 0 && (entry = readdir(dir)) != NULL) {
        rc = run_entry(folder, entry->d_name);
        inputs_count += rc > 0;
    }
    (void)closedir(dir);
    if (rc < 0)
        return rc;
    (void)printf("%s: %d inputs\n", folder, inputs_count);
    return inputs_count > 0 ? 0 : fail("has no input", folder);
}

int main(int argc, char **argv)
{
    int rc = argc > 1 ? 0 : fail("name the folders of inputs", argv[0]);

    for (int i = 1; i < argc && rc >= 0; i++)
        rc = run_folder(argv[i]);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
