/* vault/s3/fail.c - what a store's refusals and silences mean, as one sentence with what to do. */
#include <stdio.h>
#include <string.h>

#include "vault/s3/s3.h"

const char *s3_call_place(const struct s3_driver *d, const struct s3_call *c, char text[static S3_KEY_BYTES])
{
    (void)snprintf(text, S3_KEY_BYTES, "s3://%s/%s%s", d->bucket, d->prefix, c->key ? c->key : "");
    return text;
}

static bool code_is(const struct s3_call *c, const char *code)
{
    return strcmp(c->code, code) == 0;
}

static bool is_quota(const struct s3_call *c)
{
    return c->http.status == 507 || code_is(c, "QuotaExceeded") || code_is(c, "EntityTooLarge") || code_is(c, "XMinioStorageFull");
}

static int refused(const struct s3_driver *d, const struct s3_call *c, const char *place, struct error *err)
{
    char origin[512];

    s3_credentials_origin(d->credentials, origin, sizeof origin);
    if (code_is(c, "RequestTimeTooSkewed"))
        return error_set(err, ERROR_IO, "cannot %s %s: this host's clock differs too much from the store's; set it right (NTP)",
                         c->what, place);
    if (code_is(c, "AccessDenied") || !c->code[0])
        return error_set(err, ERROR_IO,
                         "cannot %s %s: the store denies access (%s) to the key from %s; give it the permissions of "
                         "docs/operations/s3.md, or name another key",
                         c->what, place, c->code[0] ? c->code : "403", origin);
    return error_set(err, ERROR_IO,
                     "cannot %s %s: the store refuses the credentials from %s (%s); renew them there, nothing needs to be "
                     "restarted where they are in a file",
                     c->what, place, origin, c->code);
}

static int wrong_region(const struct s3_driver *d, const struct s3_call *c, const char *place, struct error *err)
{
    return error_set(err, ERROR_USAGE, "cannot %s %s: the bucket is elsewhere than in region %s; set region = %s and its endpoint",
                     c->what, place, d->region, c->http.region[0] ? c->http.region : "the bucket's");
}

int s3_fail(const struct s3_driver *d, const struct s3_call *c, struct error *err)
{
    char place[S3_KEY_BYTES];
    int status = c->http.status;

    (void)s3_call_place(d, c, place);
    if (is_quota(c))
        return error_set(err, ERROR_NO_SPACE,
                         "cannot %s %s: the bucket's or user's quota is used up (%s); raise it. What the vault holds already is not "
                         "affected",
                         c->what, place, c->code[0] ? c->code : "507");
    if (code_is(c, "NoSuchBucket"))
        return error_set(err, ERROR_IO, "cannot %s %s: there is no bucket %s; make it, or name another", c->what, place, d->bucket);
    if (status == 404 && code_is(c, "NoSuchKey") && strcmp(c->method, "GET") == 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no %s", place);
    if (status == 403 || status == 401 || code_is(c, "InvalidToken") || code_is(c, "ExpiredToken"))
        return refused(d, c, place, err);
    if (status / 100 == 3 || code_is(c, "AuthorizationHeaderMalformed"))
        return wrong_region(d, c, place, err);
    if (status / 100 == 5 || status == 429)
        return error_set(err, ERROR_CONNECT, "cannot %s %s: the store answers %d %s %s (%u attempts)", c->what, place, status, c->code,
                         c->text, c->attempts);
    return error_set(err, ERROR_PROTOCOL, "cannot %s %s: the store answers %d %s %s", c->what, place, status, c->code, c->text);
}

int s3_unanswered(const struct s3_driver *d, const struct s3_call *c, struct error *err)
{
    char place[S3_KEY_BYTES];
    enum error_code code = c->http.outcome == HTTP_TIMED_OUT ? ERROR_TIMEOUT : ERROR_CONNECT;

    (void)s3_call_place(d, c, place);
    if (c->http.outcome == HTTP_TOO_LARGE)
        return error_set(err, ERROR_LIMIT, "%s is larger than is allowed here", place);
    if (c->http.outcome == HTTP_REFUSED)
        return error_set(err, ERROR_USAGE, "cannot %s %s: %s; look at endpoint and ca_file", c->what, place, c->http.reason);
    return error_set(err, code, "cannot %s %s: the store at %s does not answer: %s (%u attempts)", c->what, place, d->host,
                     c->http.reason, c->attempts);
}
