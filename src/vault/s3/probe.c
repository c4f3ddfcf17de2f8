/*
 * vault/s3/probe.c - what this store can do, tried and not assumed: whether it fences a conditional PUT (and does so in a
 * race), whether the bucket keeps versions (Ceph then ignores the condition), whether its list shows what was written.
 */
#include <stdio.h>

#include "base/hash.h"
#include "base/text.h"
#include "vault/s3/s3.h"
#include "vault/s3/xml.h"

static int put_probe(struct s3_driver *d, const char *key, struct s3_call *c, struct error *err)
{
    struct slice text = slice_str("probe\n");

    *c = S3_CALL("probe", "PUT", key);
    s3_call_header(c, "if-none-match", "*");
    s3_call_body(c, &text, 1);
    return s3_call(d, c, err);
}

/* What a second conditional PUT to the same key is answered: 412 it counts; 501 it is refused; 200 it is ignored. */
static int probe_condition(struct s3_driver *d, const char *key, struct vault_capabilities *ret, struct error *err)
{
    for (int i = 0; i < 2; i++) {
        CLEANUP(s3_call_release) struct s3_call c = {0};

        TRY(put_probe(d, key, &c, err));
        if (c.http.status == 501 || c.http.status == 400) {
            ret->condition = VAULT_CONDITION_REFUSED;
            return 0;
        }
        if (c.http.status == 412 && (i == 1 || c.maybe_done)) {
            ret->condition = VAULT_CONDITION_HONOURED;
            return 0;
        }
        if (!s3_good(&c))
            return s3_fail(d, &c, err);
    }
    ret->condition = VAULT_CONDITION_IGNORED;
    return 0;
}

/* Who may not ask is not told: then it is unknown, and the condition's own probe decides. */
static int probe_versions(struct s3_driver *d, struct vault_capabilities *ret, struct error *err)
{
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("ask for the versioning of", "GET", NULL);
    char status[32];

    c.query = "versioning=";
    c.answer_bytes_max = S3_ANSWER_BYTES_MAX;
    TRY(s3_call(d, &c, err));
    ret->versioned = s3_good(&c) && xml_find(buf_slice(&c.http.answer), "Status", status, sizeof status) &&
                     strcmp(status, "Enabled") == 0;
    return 0;
}

static int see_probe(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)key;
    (void)bytes;
    (void)err;
    (*(int *)user)++;
    return 0;
}

/* Without this nothing of Salvor's holds: what was written is listed, what was removed is not. */
static int probe_list(struct s3_driver *d, const char *folder, const char *const *keys, size_t count, struct error *err)
{
    int seen = 0;

    for (size_t i = 0; i < count; i++) {
        struct slice text = slice_str("probe\n");
        struct http_body body = {.parts = &text, .parts_count = 1, .fd = -1, .bytes = text.n};
        int rc = s3_put_once(d, keys[i], &body, 0, err);

        if (rc != -ERROR_EXISTS)
            TRY(rc);
    }
    TRY(s3_list(&d->base, folder, see_probe, &seen, err));
    if (seen != (int)count)
        return error_set(err, ERROR_REFUSED, "%s: %zu objects were written and its list shows %d: a vault needs a list that is true",
                         d->place, count, seen);
    TRY(s3_remove_many(&d->base, keys, count, err));
    seen = 0;
    TRY(s3_list(&d->base, folder, see_probe, &seen, err));
    if (seen != 0)
        return error_set(err, ERROR_REFUSED, "%s: objects were removed and its list still shows %d: a vault needs a list that is true",
                         d->place, seen);
    return 0;
}

void s3_configure(struct vault_driver *base, const struct vault_capabilities *c)
{
    struct s3_driver *d = s3_of(base);

    d->header_fence = c->condition != VAULT_CONDITION_REFUSED;
    d->fence_is_proved = c->condition == VAULT_CONDITION_HONOURED && c->put_if_absent_atomic && !c->by_claims;
}

static int race(struct s3_driver *d, const char *folder, struct vault_capabilities *ret, struct error *err)
{
    ret->by_claims = ret->condition != VAULT_CONDITION_HONOURED;
    ret->put_if_absent_atomic = true; /* until the race says otherwise */
    s3_configure(&d->base, ret);
    TRY(driver_race(&d->base, folder, ret, err));
    if (ret->put_if_absent_atomic || ret->by_claims)
        return 0;
    ret->by_claims = true;
    ret->put_if_absent_atomic = true;
    s3_configure(&d->base, ret);
    return driver_race(&d->base, folder, ret, err);
}

int s3_probe(struct vault_driver *base, struct vault_capabilities *ret, struct error *err)
{
    struct s3_driver *d = s3_of(base);
    char folder[64], first[96], second[96];
    const char *const keys[] = {first, second};
    uint8_t random[8];
    char hex[2 * sizeof random + 1];

    random_bytes(random, sizeof random);
    text_hex(slice_of(random, sizeof random), hex);
    (void)snprintf(folder, sizeof folder, S3_TEMPORARY "probe-%s/", hex);
    (void)snprintf(first, sizeof first, "%sa", folder);
    (void)snprintf(second, sizeof second, "%sb", folder);
    *ret = (struct vault_capabilities){.condition = VAULT_CONDITION_NONE};
    TRY(probe_versions(d, ret, err));
    TRY(probe_condition(d, first, ret, err));
    d->header_fence = ret->condition == VAULT_CONDITION_HONOURED;
    TRY(probe_list(d, folder, keys, 2, err));
    TRY(race(d, folder, ret, err));
    s3_configure(base, ret);
    return 0;
}
