/*
 * vault/s3/metadata.c - see metadata.h.
 *
 * The address means this instance and nobody else: it is never asked by way of a proxy, which would be told a token and answer with its own
 * role. What does not answer soon, or answers that it cannot just now, is asked again, a few times.
 */
#include "vault/s3/metadata.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "vault/s3/http.h"

#define ENDPOINT         "http://169.254.169.254"
#define TIMEOUT_MS       2000 /* it is on this host, so to speak */
#define TRIES            3
#define PAUSE_MS         200
#define ANSWER_BYTES_MAX ((size_t)64 << 10)
#define ROLE_PATH        "/latest/meta-data/iam/security-credentials/"
#define NO_CREDENTIALS                                                                                                 \
    "there are no credentials for the store: set credentials_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in " \
    "the environment"

static const char *endpoint(void)
{
    const char *text = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");

    return text && *text ? text : ENDPOINT;
}

static void http_done(struct http **h)
{
    http_free(*h);
}

static void ask_once(struct http *h, struct http_request *r)
{
    http_start(h, r);
    (void)http_wait(h, clock_mono_us() + 2 * TIMEOUT_MS * CLOCK_US_PER_MS);
    http_cancel_all(h);
}

static bool may_come(const struct http_request *r)
{
    return r->outcome != HTTP_ANSWERED || r->status == 0 || r->status == 429 || r->status / 100 == 5;
}

static int judge(const struct http_request *r, struct error *err)
{
    if (r->outcome != HTTP_ANSWERED || r->status == 0)
        return error_set(err, ERROR_CONNECT, NO_CREDENTIALS " (the instance's metadata address %s does not answer: %s)", endpoint(),
                         r->reason);
    if (r->status == 404)
        return error_set(err, ERROR_USAGE, NO_CREDENTIALS ", or give this instance a role (its metadata address knows none)");
    if (r->status != 200)
        return error_set(err, ERROR_CONNECT, "the instance's metadata address answers status %d for its credentials", r->status);
    return 0;
}

static int ask(struct http *h, const char *method, const char *path, const char *line, struct buf *out, struct error *err)
{
    CLEANUP(mem_free_ptr) char *url = mem_printf("%s%s", endpoint(), path);
    const char *const lines[] = {line};
    struct http_request r = {.method = method, .url = url, .lines = lines, .lines_count = 1, .timeout_ms = TIMEOUT_MS, .direct = true,
                             .answer = BUF_INIT(ANSWER_BYTES_MAX)};

    ask_once(h, &r);
    for (int i = 1; i < TRIES && may_come(&r); i++) {
        clock_sleep_ms(PAUSE_MS);
        ask_once(h, &r);
    }
    int rc = judge(&r, err);
    if (rc >= 0)
        buf_put_slice(out, buf_slice(&r.answer));
    if (r.answer.n > 0)
        explicit_bzero(r.answer.p, r.answer.n);
    buf_release(&r.answer);
    return rc;
}

static int take(const json_t *o, const char *name, char *to, size_t to_bytes, struct error *err)
{
    const char *text;

    TRY(json_get_str(o, name, "credentials of the instance's role", &text, err));
    if (strlen(text) >= to_bytes || strpbrk(text, "\r\n"))
        return error_set(err, ERROR_PROTOCOL, "the %s of the instance's role is not usable", name);
    (void)snprintf(to, to_bytes, "%s", text);
    return 0;
}

static int parse(struct slice text, struct s3_key *ret, int64_t *ret_ends_wall_us, struct error *err)
{
    JSON_AUTO o = NULL;
    const char *ends;

    TRY(json_parse(text, "credentials of the instance's role", &o, err));
    TRY(take(o, "AccessKeyId", ret->access_key, sizeof ret->access_key, err));
    TRY(take(o, "SecretAccessKey", ret->secret, sizeof ret->secret, err));
    TRY(take(o, "Token", ret->token, sizeof ret->token, err));
    TRY(json_get_str(o, "Expiration", "credentials of the instance's role", &ends, err));
    return clock_parse_wall(slice_str(ends), ret_ends_wall_us, err);
}

int s3_metadata_load(struct s3_key *ret, int64_t *ret_ends_wall_us, struct error *err)
{
    const char *disabled = getenv("AWS_EC2_METADATA_DISABLED");
    CLEANUP(buf_release) struct buf token = BUF_INIT(ANSWER_BYTES_MAX), role = BUF_INIT(ANSWER_BYTES_MAX),
                                    text = BUF_INIT(ANSWER_BYTES_MAX);

    if (disabled && strcasecmp(disabled, "true") == 0)
        return error_set(err, ERROR_USAGE, NO_CREDENTIALS);
    CLEANUP(http_done) struct http *h = http_new(NULL);
    TRY(ask(h, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 300", &token, err));
    CLEANUP(mem_free_ptr) char *line = mem_printf("X-aws-ec2-metadata-token: %s", buf_cstr(&token));
    TRY(ask(h, "GET", ROLE_PATH, line, &role, err));
    CLEANUP(mem_free_ptr) char *path = mem_printf(ROLE_PATH "%.*s", (int)strcspn(buf_cstr(&role), "\r\n"), buf_cstr(&role));
    TRY(ask(h, "GET", path, line, &text, err));
    int rc = parse(buf_slice(&text), ret, ret_ends_wall_us, err);
    if (text.n > 0)
        explicit_bzero(text.p, text.n);
    return rc;
}
