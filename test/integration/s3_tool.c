/*
 * test/integration/s3_tool.c - the s3 driver by itself, for tests and measurements: s3_tool URL fenced|claims|probe PATIENCE_MS
 *
 * Reads one operation a line from standard input and answers each with one line: "ok ..." or the error's name and sentence.
 *   put KEY FILE (from memory)   upload KEY FILE   get KEY   range KEY OFFSET N   size KEY   fetch KEY (all of it by windows, no hash)
 *   list PREFIX   names PREFIX   remove KEY   many KEY...
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/sha.h"
#include "base/text.h"
#include "os/file.h"
#include "vault/vault.h"

#define CONTENT_BYTES_MAX ((size_t)1100 << 20)
#define FETCH_BYTES ((size_t)128 << 20)
#define WORDS_MAX         1200

static int told(int rc, const struct error *err)
{
    if (rc < 0)
        printf("%s %s\n", error_name(err->code), err->message);
    return rc;
}

static void tell_content(const struct buf *b)
{
    struct sha256 h = sha256_of(buf_slice(b));
    char text[SHA256_TEXT_BYTES];

    printf("ok %zu %s\n", b->n, sha256_format(&h, text));
}

static int put(struct vault_driver *d, const char *key, const char *path, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(CONTENT_BYTES_MAX);

    TRY(file_read_all(path, CONTENT_BYTES_MAX, &b, err));
    struct slice halves[2] = {slice_of(b.p, b.n / 2), slice_of(b.p + b.n / 2, b.n - b.n / 2)};
    return d->ops->put_if_absent(d, key, halves, 2, err);
}

static int see_key(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)err;
    buf_printf(user, " %s:%llu", key, (unsigned long long)bytes);
    return 0;
}

static int see_name(void *user, const char *name, struct error *err)
{
    (void)err;
    buf_printf(user, " %s", name);
    return 0;
}

static int read_op(struct vault_driver *d, char **w, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(CONTENT_BYTES_MAX);

    if (strcmp(w[0], "range") == 0)
        TRY(d->ops->get_range(d, w[1], strtoull(w[2], NULL, 10), strtoull(w[3], NULL, 10), &b, err));
    else
        TRY(d->ops->get(d, w[1], CONTENT_BYTES_MAX, &b, err));
    tell_content(&b);
    return 0;
}

/* A large object by windows, in memory that is used again. */
static int fetch_op(struct vault_driver *d, const char *key, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(FETCH_BYTES);
    uint64_t bytes;

    TRY(d->ops->size(d, key, &bytes, err));
    for (uint64_t done = 0; done < bytes; done += b.n) {
        buf_clear(&b);
        TRY(d->ops->get_range(d, key, done, bytes - done < FETCH_BYTES ? (size_t)(bytes - done) : FETCH_BYTES, &b, err));
    }
    printf("ok %llu\n", (unsigned long long)bytes);
    return 0;
}

static int list_op(struct vault_driver *d, const char *prefix, bool names, struct error *err)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT((size_t)64 << 20);

    if (names)
        TRY(d->ops->list_names(d, prefix, see_name, &b, err));
    else
        TRY(d->ops->list(d, prefix, see_key, &b, err));
    printf("ok%s\n", buf_cstr(&b));
    return 0;
}

static int size_op(struct vault_driver *d, const char *key, struct error *err)
{
    uint64_t bytes;

    TRY(d->ops->size(d, key, &bytes, err));
    printf("ok %llu\n", (unsigned long long)bytes);
    return 0;
}

static int plain_ok(int rc)
{
    if (rc >= 0)
        printf("ok\n");
    return rc;
}

static int run(struct vault_driver *d, char **w, size_t n, struct error *err)
{
    const char *op = w[0];

    if (strcmp(op, "put") == 0 && n == 3)
        return plain_ok(put(d, w[1], w[2], err));
    if (strcmp(op, "upload") == 0 && n == 3)
        return plain_ok(driver_put_file(d, w[1], w[2], err));
    if (strcmp(op, "remove") == 0 && n == 2)
        return plain_ok(d->ops->remove(d, w[1], err));
    if (strcmp(op, "many") == 0)
        return plain_ok(d->ops->remove_many(d, (const char *const *)(w + 1), n - 1, err));
    if (strcmp(op, "size") == 0 && n == 2)
        return size_op(d, w[1], err);
    if ((strcmp(op, "list") == 0 || strcmp(op, "names") == 0) && n <= 2)
        return list_op(d, n == 2 ? w[1] : "", op[0] == 'n', err);
    if ((strcmp(op, "get") == 0 && n == 2) || (strcmp(op, "range") == 0 && n == 4))
        return read_op(d, w, err);
    if (strcmp(op, "fetch") == 0 && n == 2)
        return fetch_op(d, w[1], err);
    return error_set(err, ERROR_USAGE, "no such operation: %s with %zu words", op, n);
}

static int run_line(struct vault_driver *d, char *line)
{
    char *words[WORDS_MAX], *state = NULL;
    struct error err = ERROR_INIT;
    size_t n = 0;

    for (char *w = strtok_r(line, " \n", &state); w && n < WORDS_MAX; w = strtok_r(NULL, " \n", &state))
        words[n++] = w;
    int rc = n > 0 ? told(run(d, words, n, &err), &err) : 0;
    fflush(stdout);
    return rc;
}

static int open_driver(char **argv, struct vault_url *url, struct vault_driver **ret, struct error *err)
{
    struct vault_capabilities c = {.put_if_absent_atomic = true, .condition = VAULT_CONDITION_HONOURED};

    TRY(vault_config_parse_url(argv[1], "tool", url, err));
    url->config.patience_ms = strtol(argv[3], NULL, 10);
    TRY(s3_driver_open(&url->config, ret, err));
    if (strcmp(argv[2], "probe") == 0)
        TRY((*ret)->ops->probe(*ret, &c, err));
    c.by_claims |= strcmp(argv[2], "claims") == 0;
    (*ret)->ops->configure(*ret, &c);
    if (strcmp(argv[2], "probe") == 0)
        printf("ok atomic=%d condition=%d claims=%d versioned=%d\n", c.put_if_absent_atomic, c.condition, c.by_claims, c.versioned);
    return 0;
}

int main(int argc, char **argv)
{
    struct vault_driver *d = NULL;
    struct vault_url url = {0};
    struct error err = ERROR_INIT;
    char *line = NULL;
    size_t cap = 0;

    if (argc != 4)
        return 2;
    if (told(open_driver(argv, &url, &d, &err), &err) < 0)
        return 1;
    fflush(stdout);
    while (getline(&line, &cap, stdin) >= 0)
        (void)run_line(d, line);
    free(line);
    d->ops->free(d);
    vault_url_release(&url);
    return 0;
}
