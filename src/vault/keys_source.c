/*
 * vault/keys_source.c - a wrapping key from a file, from a passphrase in a file, or from the environment.
 *
 * A secret's file that others may read is refused: what they may have read is no secret. Messages name the place, never
 * what is in it (I-13).
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "vault/keys_internal.h"

#define KEY_FILE_BYTES_MAX   ((size_t)64 << 20) /* a kit has the keys objects too */
#define PASSPHRASE_BYTES_MAX 4096u

void key_input_release(struct key_input *in)
{
    secret_free(in->key);
    buf_release_secret(&in->passphrase);
    free(in->from);
    *in = (struct key_input){0};
}

static int check_mode(const char *path, struct error *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return error_errno(err, errno, "cannot look at %s", path);
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) == 0)
        return 0;
    return error_set(err, ERROR_USAGE, "%s holds a secret, and others than its owner may read or write it: chmod 600 it",
                     path);
}

int secret_file_read(const char *path, size_t bytes_max, struct buf *ret, struct error *err)
{
    int rc = check_mode(path, err);

    if (rc >= 0)
        rc = file_read_all(path, bytes_max, ret, err);
    if (rc == -ERROR_NOT_FOUND || rc == -ERROR_IO)
        err->code = ERROR_USAGE; /* it is the configuration that names it */
    return rc < 0 ? -(int)err->code : 0;
}

static struct slice next_line(struct slice *text)
{
    const uint8_t *end = text->n > 0 ? memchr(text->p, '\n', text->n) : NULL;
    struct slice line = slice_of(text->p, end ? (size_t)(end - text->p) : text->n);
    size_t taken = line.n + (end ? 1 : 0);

    *text = slice_of(text->p + taken, text->n - taken);
    while (line.n > 0 && isspace(line.p[line.n - 1]))
        line.n--;
    return line;
}

int key_file_parse(struct slice text, const char *path, struct secret **ret, struct error *err)
{
    CLEANUP(subkey_wipe) struct subkey k;

    while (text.n > 0) {
        struct slice line = next_line(&text);

        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (line.n != 2 * CRYPT_KEY_BYTES || text_unhex(line, k.b, sizeof k.b, NULL) < 0)
            break;
        *ret = secret_new(k.b);
        return 0;
    }
    return error_set(err, ERROR_USAGE,
                     "%s is not a key file: it must have a line of %u hex digits (`salvor key new FILE` makes one)", path,
                     2 * CRYPT_KEY_BYTES);
}

void key_file_format(const struct secret *key, struct buf *out)
{
    char text[2 * CRYPT_KEY_BYTES + 2];

    text_hex(slice_of(secret_bytes(key), CRYPT_KEY_BYTES), text);
    text[2 * CRYPT_KEY_BYTES] = '\n';
    buf_put(out, text, 2 * CRYPT_KEY_BYTES + 1);
    crypt_wipe(text, sizeof text);
}

static char *environment_name(const char *vault_name)
{
    char *name = mem_printf("SALVOR_PASSPHRASE_%s", vault_name);

    for (char *p = name; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    return name;
}

bool vault_key_given(const char *vault_name, const struct vault_key_source *from)
{
    CLEANUP(mem_free_ptr) char *name = environment_name(vault_name);

    return from->key_file || from->passphrase_file || getenv(name);
}

static int read_key_file(const char *path, struct key_input *ret, struct error *err)
{
    CLEANUP(buf_release_secret) struct buf text = BUF_INIT(KEY_FILE_BYTES_MAX);

    TRY(secret_file_read(path, KEY_FILE_BYTES_MAX, &text, err));
    ret->from = mem_strdup(path);
    return key_file_parse(buf_slice(&text), path, &ret->key, err);
}

static int read_passphrase_file(const char *path, struct key_input *ret, struct error *err)
{
    CLEANUP(buf_release_secret) struct buf text = BUF_INIT(PASSPHRASE_BYTES_MAX);

    TRY(secret_file_read(path, PASSPHRASE_BYTES_MAX, &text, err));
    struct slice rest = buf_slice(&text);
    const uint8_t *end = rest.n > 0 ? memchr(rest.p, '\n', rest.n) : NULL;
    buf_put(&ret->passphrase, rest.p, end ? (size_t)(end - rest.p) : rest.n);
    ret->from = mem_strdup(path);
    return 0;
}

static int no_key(const char *vault_name, const struct vault_key_source *from, const char *variable, struct error *err)
{
    if (from->how)
        return error_set(err, ERROR_USAGE, "the vault is encrypted and no key is given: %s, or set %s in the environment", from->how,
                         variable);
    return error_set(err, ERROR_USAGE,
                     "vault %s is encrypted and no key is given: set key_file or passphrase_file in [vault %s], or %s in "
                     "the environment",
                     vault_name, vault_name, variable);
}

int key_input_read(const char *vault_name, const struct vault_key_source *from, struct key_input *ret,
                   struct error *err)
{
    CLEANUP(mem_free_ptr) char *variable = environment_name(vault_name);
    CLEANUP(key_input_release) struct key_input in = {.passphrase = BUF_INIT(PASSPHRASE_BYTES_MAX)};
    const char *text = getenv(variable);

    if (from->key_file) {
        TRY(read_key_file(from->key_file, &in, err));
    } else if (from->passphrase_file) {
        TRY(read_passphrase_file(from->passphrase_file, &in, err));
    } else if (text) {
        buf_put(&in.passphrase, text, strlen(text));
        in.from = mem_strdup(variable);
    } else {
        return no_key(vault_name, from, variable, err);
    }
    if (!in.key && (in.passphrase.n == 0 || in.passphrase.overflow))
        return error_set(err, ERROR_USAGE, "the passphrase in %s is empty or longer than %u bytes", in.from,
                         PASSPHRASE_BYTES_MAX);
    *ret = in;
    in = (struct key_input){0};
    return 0;
}

int vault_key_readable(const char *vault_name, const struct vault_key_source *from, struct error *err)
{
    CLEANUP(key_input_release) struct key_input in = {0};

    return key_input_read(vault_name, from, &in, err);
}

int key_input_wrapping(const struct key_input *in, const struct wrapping *w, struct secret **ret, struct error *err)
{
    if (!in->key)
        return secret_of_passphrase(buf_slice(&in->passphrase), w->salt, w->passes, w->memory_bytes, ret, err);
    *ret = secret_new(secret_bytes(in->key));
    return 0;
}

int key_input_parameters(const struct key_input *in, struct wrapping *ret, struct error *err)
{
    *ret = (struct wrapping){.passphrase = !in->key};
    if (in->key)
        return 0;
    if (in->passphrase.n < KEYS_PASSPHRASE_MIN)
        return error_set(err, ERROR_USAGE,
                         "the passphrase in %s has %zu bytes: whoever has the vault may try passphrases for years, so use "
                         "at least %u, for example six random words",
                         in->from, in->passphrase.n, KEYS_PASSPHRASE_MIN);
    random_bytes(ret->salt, sizeof ret->salt);
    ret->passes = KEYS_PASSES_DEFAULT;
    ret->memory_bytes = KEYS_MEMORY_DEFAULT;
    return 0;
}

int vault_key_file_make(const char *path, struct error *err)
{
    CLEANUP(secret_free_ptr) struct secret *key = secret_random();
    CLEANUP(buf_release_secret) struct buf text = BUF_INIT(1024);
    CLEANUP(file_release) struct file f = FILE_INIT;

    buf_printf(&text, "# A Salvor key: whoever has it reads the vaults that it opens. Without it they are lost.\n");
    key_file_format(key, &text);
    TRY(file_open(&f, FILE_CREATE, path, err));
    TRY(file_write(&f, buf_slice(&text), err));
    TRY(file_sync(&f, err));
    return file_close(&f, err);
}
