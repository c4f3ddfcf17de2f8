/*
 * vault/s3/sigv4.h - AWS Signature Version 4, by header (Amazon Simple Storage Service API, "Authenticating Requests").
 *
 * Pure: no clock, no environment. The path goes in as it stands in the request line: S3 encodes it once.
 */
#ifndef SALVOR_VAULT_S3_SIGV4_H
#define SALVOR_VAULT_S3_SIGV4_H

#include <stdint.h>

#include "base/bytes.h"

#define SIGV4_TIME_BYTES 17 /* "20130524T000000Z" and NUL */

struct sigv4_header {
    const char *name; /* lower case */
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *path;  /* percent-encoded, begins with '/' */
    const char *query; /* canonical: percent-encoded, sorted by name, '=' on every name; "" for none */
    const struct sigv4_header *headers; /* sorted by name, "host" among them */
    size_t headers_count;
    const char *payload_hash; /* hex of the body's SHA-256, or UNSIGNED-PAYLOAD */
};

struct sigv4_key {
    const char *access_key, *secret;
    const char *region, *service;
    char time[SIGV4_TIME_BYTES];
};

void sigv4_time(int64_t wall_us, char text[static SIGV4_TIME_BYTES]);
/* Appends the value of the Authorization header. */
void sigv4_authorization(const struct sigv4_key *key, const struct sigv4_request *r, struct buf *out);
/* Appends text percent-encoded (RFC 3986's unreserved characters stay, and '/' where slash is true). */
void sigv4_encode(struct buf *out, const char *text, bool slash);

#endif
