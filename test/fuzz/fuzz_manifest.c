/*
 * test/fuzz/fuzz_manifest.c - checked JSON, checked zstd, manifests and chunks.
 *
 * The first byte says what the rest is taken for: J checked JSON, Z checked zstd, M the text of a manifest, C a chunk's
 * stored bytes. A manifest that is taken must come out of its own JSON unchanged.
 */
#include "base/mem.h"
#include "base/zst.h"
#include "memory_driver.h"
#include "vault/chunk.h"
#include "vault/manifest.h"
#include "vault/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BYTES_MAX ((size_t)64 << 20)

static void check_json(struct slice s)
{
    CLEANUP(buf_release) struct buf again = BUF_INIT(BYTES_MAX);
    struct error err;
    JSON_AUTO o = NULL;
    bool misplaced;

    if (object_decode_json(s, "VAULT", &o, &misplaced, &err) < 0)
        return;
    object_encode_json(o, "VAULT", &again);
    JSON_AUTO back = NULL;
    ASSERT(object_decode_json(buf_slice(&again), "VAULT", &back, &misplaced, &err) >= 0);
    int rc = object_check_format(o, "VAULT", 1, &err);
    ASSERT(rc >= 0 || err.message[0] != '\0');
}

static void check_zst(struct slice s)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BYTES_MAX), again = BUF_INIT(BYTES_MAX);
    struct error err;
    bool misplaced;

    if (object_decode_zst(s, "VAULT", BYTES_MAX, &plain, &misplaced, &err) < 0)
        return;
    ASSERT(object_encode_zst(buf_slice(&plain), "VAULT", &again, &err) >= 0);
}

static void check_manifest(struct slice text)
{
    CLEANUP(manifest_release) struct manifest m = {0}, back = {0};
    struct error err;
    JSON_AUTO o = NULL;

    if (json_parse(text, "manifest", &o, &err) < 0 || manifest_from_json(o, "manifest", &m, &err) < 0)
        return;
    if (manifest_check(&m, &err) < 0)
        return; /* a writer does not put it either */
    JSON_AUTO again = manifest_to_json(&m);
    ASSERT(manifest_from_json(again, "manifest", &back, &err) >= 0);
    ASSERT(manifest_check(&back, &err) >= 0);
    JSON_AUTO third = manifest_to_json(&back);
    ASSERT(json_equal(again, third));
}

/* A reference that believes the bytes: then zstd and the sizes are all that stands between them and the reader. */
static void check_chunk(struct slice stored)
{
    CLEANUP(buf_release) struct buf plain = BUF_INIT(BYTES_MAX);
    struct memory_driver d = memory_driver_of(stored);
    struct vault v = {.driver = &d.base};
    struct chunk_ref ref = {.stored_bytes = (uint32_t)stored.n, .stored_checksum = hash64(stored), .plain_bytes = 100};
    struct error err = ERROR_INIT;
    struct zst *z = zst_new(1);

    int rc = chunk_get(&v, "shop", &ref, z, &plain, &err);
    ASSERT(rc >= 0 ? plain.n == 100 : plain.n == 0 && err.message[0] != '\0');
    zst_free(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice s = slice_of(data + 1, size - 1);
    switch (data[0]) {
    case 'J':
        check_json(s);
        break;
    case 'Z':
        check_zst(s);
        break;
    case 'M':
        check_manifest(s);
        break;
    case 'C':
        check_chunk(s);
        break;
    default:
        break;
    }
    return 0;
}
