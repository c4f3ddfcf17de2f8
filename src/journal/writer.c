/*
 * journal/writer.c - who writes: an id and a key pair, made at first use. The order of making is key, empty file of
 * entries, writer.json: a crash before the last leaves no writer, and the next use makes one anew.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "journal/local.h"

#define WRITER_BYTES_MAX 4096u
#define ASIDE_MAX        10000u

void journal_writer_release(struct journal_writer *w)
{
    sign_key_release(&w->key);
    *w = (struct journal_writer){0};
}

static int load_key(const struct journal *j, struct sign_key *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/key", j->directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(256);
    uint8_t seed[SIGN_SEED_BYTES];

    TRY(file_read_all(path, 256, &text, err));
    int rc = text.n == 2 * sizeof seed + 1 && text.p[text.n - 1] == '\n'
                 ? text_unhex(slice_of(text.p, text.n - 1), seed, sizeof seed, NULL)
                 : -1;
    if (text.n > 0)
        sign_wipe(text.p, text.n);
    if (rc < 0)
        return error_set(err, ERROR_CORRUPT, "%s is not a key", path);
    sign_key_from_seed(seed, ret);
    sign_wipe(seed, sizeof seed);
    return 0;
}

static int get_text(const json_t *o, const char *name, const char *path, char *ret, size_t ret_bytes, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, name, path, &text, err));
    (void)snprintf(ret, ret_bytes, "%s", text);
    return 0;
}

static int load_identity(const json_t *o, const char *path, struct journal_writer *w, struct error *err)
{
    char public_key[2 * SIGN_PUBLIC_BYTES + 1], ours[2 * SIGN_PUBLIC_BYTES + 1];
    uint8_t id[8];

    TRY(get_text(o, "writer", path, w->id, sizeof w->id, err));
    TRY(get_text(o, "public_key", path, public_key, sizeof public_key, err));
    TRY(get_text(o, "host", path, w->host, sizeof w->host, err));
    TRY(get_text(o, "reason", path, w->reason, sizeof w->reason, err));
    TRY(get_text(o, "aside", path, w->aside, sizeof w->aside, err));
    TRY(json_get_i64(o, "made_wall_us", path, &w->made_wall_us, err));
    text_hex(slice_of(w->key.public_key.b, sizeof w->key.public_key.b), ours);
    if (text_unhex(slice_str(w->id), id, sizeof id, NULL) < 0 || strcmp(ours, public_key) != 0)
        return error_set(err, ERROR_CORRUPT, "%s does not belong to the key beside it", path);
    return 0;
}

int journal_writer_load(const struct journal *j, struct journal_writer *ret, struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/writer.json", j->directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(WRITER_BYTES_MAX);
    CLEANUP(journal_writer_release) struct journal_writer w = {0};
    JSON_AUTO o = NULL;

    if (!file_exists(path))
        return 0;
    TRY(file_read_all(path, WRITER_BYTES_MAX, &text, err));
    TRY(json_parse(buf_slice(&text), path, &o, err));
    int rc = load_key(j, &w.key, err);
    if (rc == -ERROR_NOT_FOUND)
        return error_set(err, ERROR_CORRUPT, "the key of the journal's writer is gone from %s", j->directory);
    TRY(rc);
    TRY(load_identity(o, path, &w, err));
    *ret = w;
    w = (struct journal_writer){0};
    return 1;
}

static int make_key(const struct journal *j, char public_key[static 2 * SIGN_PUBLIC_BYTES + 1], struct error *err)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/key", j->directory);
    uint8_t seed[SIGN_SEED_BYTES];
    char text[2 * sizeof seed + 2];
    struct sign_key key;

    random_bytes(seed, sizeof seed);
    text_hex(slice_of(seed, sizeof seed), text);
    text[2 * sizeof seed] = '\n';
    int rc = file_replace(path, slice_of(text, 2 * sizeof seed + 1), 0600, err);
    sign_key_from_seed(seed, &key);
    text_hex(slice_of(key.public_key.b, sizeof key.public_key.b), public_key);
    sign_key_release(&key);
    sign_wipe(seed, sizeof seed);
    sign_wipe(text, sizeof text);
    return rc;
}

static void put_identity(struct buf *out, const char *public_key, const char *reason, const char *aside)
{
    JSON_AUTO o = json_object();
    uint8_t random[8];
    char id[JOURNAL_WRITER_BYTES], host[256];

    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), id);
    if (gethostname(host, sizeof host) < 0)
        (void)snprintf(host, sizeof host, "%s", "?");
    host[sizeof host - 1] = '\0';
    json_set_str(o, "writer", id);
    json_set_str(o, "public_key", public_key);
    json_set_str(o, "host", host);
    json_set_str(o, "reason", reason);
    json_set_str(o, "aside", aside);
    json_set_i64(o, "made_wall_us", clock_wall_us());
    json_dump(o, out);
}

int journal_writer_begin(const struct journal *j, const char *reason, const char *aside, struct error *err)
{
    CLEANUP(mem_free_ptr) char *entries = mem_printf("%s/entries.jsonl", j->directory);
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/writer.json", j->directory);
    CLEANUP(buf_release) struct buf text = BUF_INIT(WRITER_BYTES_MAX);
    char public_key[2 * SIGN_PUBLIC_BYTES + 1], kept[512];

    (void)snprintf(kept, sizeof kept, "%s", reason);
    TRY(dir_make_all(j->directory, 0700, err));
    TRY(make_key(j, public_key, err));
    TRY(file_replace(entries, slice_of(NULL, 0), 0600, err));
    put_identity(&text, public_key, kept, aside);
    return file_replace(path, buf_slice(&text), 0600, err);
}

int journal_put_aside(const struct journal *j, const char *reason, struct error *err)
{
    char name[64];

    for (unsigned n = 1; n <= ASIDE_MAX; n++) {
        (void)snprintf(name, sizeof name, "journal.aside.%u", n);
        CLEANUP(mem_free_ptr) char *to = mem_printf("%s/%s", j->state, name);
        if (file_exists(to))
            continue;
        if (rename(j->directory, to) < 0)
            return error_errno(err, errno, "cannot put %s aside as %s", j->directory, to);
        TRY(dir_sync(j->state, err));
        return journal_writer_begin(j, reason, name, err);
    }
    return error_set(err, ERROR_LIMIT, "%s has %u journals that were put aside", j->state, ASIDE_MAX);
}
