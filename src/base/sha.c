/* base/sha.c - see sha.h; the one file that knows OpenSSL's headers. */
#include "base/sha.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/mem.h"
#include "base/text.h"

struct sha256_stream {
    EVP_MD_CTX *context;
};

struct sha256 sha256_of(struct slice s)
{
    struct sha256 h;

    ASSERT(EVP_Digest(s.n ? s.p : (const uint8_t *)"", s.n, h.b, NULL, EVP_sha256(), NULL) == 1);
    return h;
}

struct sha256 sha256_hmac(struct slice key, struct slice message)
{
    struct sha256 h;

    ASSERT(HMAC(EVP_sha256(), key.p, (int)key.n, message.p, message.n, h.b, NULL));
    return h;
}

const char *sha256_format(const struct sha256 *h, char text[static SHA256_TEXT_BYTES])
{
    text_hex(slice_of(h->b, sizeof h->b), text);
    return text;
}

struct sha256_stream *sha256_stream_new(void)
{
    struct sha256_stream *s = mem_zalloc(1, sizeof *s);

    s->context = EVP_MD_CTX_new();
    ASSERT(s->context && EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) == 1);
    return s;
}

void sha256_stream_add(struct sha256_stream *s, struct slice more)
{
    ASSERT(EVP_DigestUpdate(s->context, more.p, more.n) == 1);
}

struct sha256 sha256_stream_end(struct sha256_stream *s)
{
    struct sha256 h;

    ASSERT(EVP_DigestFinal_ex(s->context, h.b, NULL) == 1);
    return h;
}

void sha256_stream_free(struct sha256_stream *s)
{
    if (!s)
        return;
    EVP_MD_CTX_free(s->context);
    mem_free_ptr(&s);
}

bool md5_base64(struct slice s, char text[static MD5_BASE64_BYTES])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    text[0] = '\0';
    if (EVP_Digest(s.n ? s.p : (const uint8_t *)"", s.n, digest, &n, EVP_md5(), NULL) != 1 || n != 16)
        return false;
    (void)EVP_EncodeBlock((unsigned char *)text, digest, (int)n);
    return true;
}
