/*
 * vault/s3/sigv4.c - see sigv4.h. Three steps: the canonical request, the string to sign, and a key that is derived for
 * one day, region and service, so that the secret itself signs nothing.
 */
#include "vault/s3/sigv4.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/sha.h"

#define TEXT_BYTES_MAX  ((size_t)64 << 10)
#define SCOPE_BYTES_MAX 256
#define ALGORITHM       "AWS4-HMAC-SHA256"

void sigv4_time(int64_t wall_us, char text[static SIGV4_TIME_BYTES])
{
    time_t s = (time_t)(wall_us / CLOCK_US_PER_S);
    struct tm tm;

    ASSERT(gmtime_r(&s, &tm) && strftime(text, SIGV4_TIME_BYTES, "%Y%m%dT%H%M%SZ", &tm) > 0);
}

void sigv4_encode(struct buf *out, const char *text, bool slash)
{
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~", *text) || (slash && *text == '/'))
            buf_put_u8(out, (uint8_t)*text);
        else
            buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}

/* Without blanks at the ends, runs of blanks as one. */
static void put_trimmed(struct buf *b, const char *value)
{
    bool blank = false, any = false;

    for (; *value; value++) {
        if (*value == ' ') {
            blank = any;
            continue;
        }
        if (blank)
            buf_put_u8(b, ' ');
        blank = false;
        any = true;
        buf_put_u8(b, (uint8_t)*value);
    }
}

static void put_names(struct buf *b, const struct sigv4_request *r)
{
    for (size_t i = 0; i < r->headers_count; i++)
        buf_printf(b, "%s%s", i > 0 ? ";" : "", r->headers[i].name);
}

static struct sha256 hash_canonical(const struct sigv4_request *r)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(TEXT_BYTES_MAX);

    buf_printf(&b, "%s\n%s\n%s\n", r->method, r->path, r->query);
    for (size_t i = 0; i < r->headers_count; i++) {
        ASSERT(i == 0 || strcmp(r->headers[i - 1].name, r->headers[i].name) < 0);
        buf_printf(&b, "%s:", r->headers[i].name);
        put_trimmed(&b, r->headers[i].value);
        buf_put_u8(&b, '\n');
    }
    buf_put_u8(&b, '\n');
    put_names(&b, r);
    buf_printf(&b, "\n%s", r->payload_hash);
    ASSERT(!b.overflow);
    return sha256_of(buf_slice(&b));
}

static struct sha256 hmac_text(struct slice key, const char *text)
{
    return sha256_hmac(key, slice_str(text));
}

static struct sha256 signing_key(const struct sigv4_key *key)
{
    CLEANUP(buf_release) struct buf secret = BUF_INIT(TEXT_BYTES_MAX);
    char day[9];

    (void)snprintf(day, sizeof day, "%.8s", key->time);
    buf_printf(&secret, "AWS4%s", key->secret);
    struct sha256 h = hmac_text(buf_slice(&secret), day);
    explicit_bzero(secret.p, secret.n);
    h = hmac_text(slice_of(h.b, sizeof h.b), key->region);
    h = hmac_text(slice_of(h.b, sizeof h.b), key->service);
    return hmac_text(slice_of(h.b, sizeof h.b), "aws4_request");
}

void sigv4_authorization(const struct sigv4_key *key, const struct sigv4_request *r, struct buf *out)
{
    char scope[SCOPE_BYTES_MAX], hex[SHA256_TEXT_BYTES], text[SCOPE_BYTES_MAX + 128];

    int n = snprintf(scope, sizeof scope, "%.8s/%s/%s/aws4_request", key->time, key->region, key->service);
    ASSERT(n > 0 && (size_t)n < sizeof scope);
    struct sha256 canonical = hash_canonical(r);
    (void)snprintf(text, sizeof text, ALGORITHM "\n%s\n%s\n%s", key->time, scope, sha256_format(&canonical, hex));
    struct sha256 signer = signing_key(key);
    struct sha256 signature = hmac_text(slice_of(signer.b, sizeof signer.b), text);
    explicit_bzero(&signer, sizeof signer);
    buf_printf(out, ALGORITHM " Credential=%s/%s, SignedHeaders=", key->access_key, scope);
    put_names(out, r);
    buf_printf(out, ", Signature=%s", sha256_format(&signature, hex));
}
