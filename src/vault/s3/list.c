/*
 * vault/s3/list.c - keys in byte order, a page of 1000 at a time (ListObjectsV2).
 *
 * A page is held whole, checked and then told; no request is open meanwhile, so that who is told may use the driver.
 * Order is what the format rests on: a list that is not in byte order is refused. What cannot be a key is passed over.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/text.h"
#include "vault/s3/s3.h"
#include "vault/s3/sigv4.h"
#include "vault/s3/xml.h"

#define PAGE_KEYS       1000
#define QUERY_BYTES_MAX ((size_t)16 << 10)
#define PAGE_TRIES      3
#define KEY_CHARACTERS  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-/"

struct entry {
    char *key; /* the driver's prefix included */
    uint64_t bytes;
    char modified[64];
};

struct page {
    struct entry *entries;
    size_t count, cap;
    struct entry current;
    bool complete; /* it says whether more follows */
    bool more;
    char *token;
};

static void page_clear(struct page *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->entries[i].key);
    free(p->current.key);
    free(p->token);
    free(p->entries);
    *p = (struct page){0};
}

static void add(struct page *p, struct entry e)
{
    MEM_GROW(p->entries, p->cap, p->count);
    p->entries[p->count++] = e;
}

static int see_element(void *user, const char *path, const char *text, struct error *err)
{
    struct page *p = user;

    if (strcmp(path, "Contents/Key") == 0) {
        free(p->current.key);
        p->current.key = mem_strdup(text);
    } else if (strcmp(path, "Contents/Size") == 0) {
        TRY(text_parse_u64(slice_str(text), 0, UINT64_MAX, &p->current.bytes, err));
    } else if (strcmp(path, "Contents/LastModified") == 0) {
        (void)snprintf(p->current.modified, sizeof p->current.modified, "%s", text);
    } else if (strcmp(path, "Contents") == 0) {
        if (!p->current.key)
            return error_set(err, ERROR_PROTOCOL, "an entry has no key");
        add(p, p->current);
        p->current = (struct entry){0};
    } else if (strcmp(path, "CommonPrefixes/Prefix") == 0) {
        add(p, (struct entry){.key = mem_strdup(text)});
    } else if (strcmp(path, "IsTruncated") == 0) {
        p->complete = strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
        p->more = strcmp(text, "true") == 0;
    } else if (strcmp(path, "NextContinuationToken") == 0) {
        free(p->token);
        p->token = mem_strdup(text);
    }
    return 0;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

/* Keys, and prefixes that stand for many: each is sorted, together they are not. */
static int check_page(struct page *p, const char *after, struct error *err)
{
    if (!p->complete || (p->more && (!p->token || !p->token[0])))
        return error_set(err, ERROR_PROTOCOL, "it does not say whether it is complete");
    if (p->count > 0)
        qsort(p->entries, p->count, sizeof *p->entries, compare_entries);
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(i > 0 ? p->entries[i - 1].key : after, p->entries[i].key) >= 0)
            return error_set(err, ERROR_PROTOCOL, "its keys are not in byte order: \"%.200s\" follows \"%.200s\"", p->entries[i].key,
                             i > 0 ? p->entries[i - 1].key : after);
    return 0;
}

struct listing {
    struct s3_driver *d;
    const char *prefix;
    bool names;
    char *token; /* of the next page; NULL: the first */
    char *after; /* last key told */
    struct buf query;
    struct page page;
};

static void listing_release(struct listing *l)
{
    page_clear(&l->page);
    free(l->token);
    free(l->after);
    buf_release(&l->query);
}

static void put_query(struct listing *l)
{
    buf_clear(&l->query);
    if (l->token) {
        buf_printf(&l->query, "continuation-token=");
        sigv4_encode(&l->query, l->token, false);
        buf_put_u8(&l->query, '&');
    }
    buf_printf(&l->query, "%slist-type=2&max-keys=%d&prefix=", l->names ? "delimiter=%2F&" : "", PAGE_KEYS);
    sigv4_encode(&l->query, l->d->prefix, false);
    sigv4_encode(&l->query, l->prefix, false);
}

static int parse_page(struct listing *l, const struct s3_call *c, struct error *err)
{
    page_clear(&l->page);
    int rc = xml_walk(buf_slice(&c->http.answer), see_element, &l->page, err);
    if (rc >= 0)
        rc = check_page(&l->page, l->after ? l->after : "", err);
    return rc < 0 ? error_set(err, ERROR_PROTOCOL, "the store's list of %s/%s cannot be used: %s", l->d->place, l->prefix,
                              err ? err->message : "")
                  : 0;
}

static int get_page(struct listing *l, struct error *err)
{
    CLEANUP(s3_call_release) struct s3_call c = S3_CALL("list", "GET", NULL);

    c.query = buf_cstr(&l->query);
    c.answer_bytes_max = S3_ANSWER_BYTES_MAX;
    TRY(s3_call(l->d, &c, err));
    return s3_good(&c) ? parse_page(l, &c, err) : s3_fail(l->d, &c, err);
}

static int next_page(struct listing *l, struct error *err)
{
    struct error local = ERROR_INIT;
    int rc = -1;

    put_query(l);
    for (int i = 0; i < PAGE_TRIES; i++) { /* a page that was damaged on its way is asked for again */
        rc = get_page(l, &local);
        if (rc != -ERROR_PROTOCOL)
            break;
    }
    if (rc < 0 && err)
        *err = local;
    return rc;
}

static bool may_be_key(const struct listing *l, const char *key)
{
    size_t n = strlen(key);

    if (n == 0 || key[0] == '/' || strspn(key, KEY_CHARACTERS) != n || strstr(key, "//"))
        return false;
    if (!l->names && key[n - 1] == '/')
        return false;
    return l->prefix[0] || strncmp(key, S3_TEMPORARY, strlen(S3_TEMPORARY)) != 0;
}

struct teller {
    int (*key)(void *user, const char *key, uint64_t bytes, const char *modified, struct error *err);
    int (*plain)(void *user, const char *key, uint64_t bytes, struct error *err);
    int (*name)(void *user, const char *name, struct error *err);
    void *user;
};

static int tell(const struct listing *l, const struct teller *t, const struct entry *e, struct error *err)
{
    size_t skip = strlen(l->d->prefix);

    if (strncmp(e->key, l->d->prefix, skip) != 0)
        return error_set(err, ERROR_PROTOCOL, "the store lists \"%.200s\" where %s/%s was asked for", e->key, l->d->place, l->prefix);
    const char *key = e->key + skip;
    if (strncmp(key, l->prefix, strlen(l->prefix)) != 0)
        return error_set(err, ERROR_PROTOCOL, "the store lists \"%.200s\" where %s/%s was asked for", e->key, l->d->place, l->prefix);
    if (!may_be_key(l, key))
        return 0;
    if (t->name) {
        const char *name = key + strlen(l->prefix);
        return *name ? t->name(t->user, name, err) : 0;
    }
    return t->key ? t->key(t->user, key, e->bytes, e->modified, err) : t->plain(t->user, key, e->bytes, err);
}

static void move_on(struct listing *l)
{
    struct page *p = &l->page;

    if (p->count > 0) {
        free(l->after);
        l->after = mem_strdup(p->entries[p->count - 1].key);
    }
    free(l->token);
    l->token = p->token;
    p->token = NULL;
}

static int walk(struct s3_driver *d, const char *prefix, const struct teller *t, struct error *err)
{
    CLEANUP(listing_release) struct listing l = {.d = d, .prefix = prefix, .names = t->name != NULL,
                                                 .query = BUF_INIT(QUERY_BYTES_MAX)};
    bool more = true;

    while (more) {
        TRY(next_page(&l, err));
        for (size_t i = 0; i < l.page.count; i++)
            TRY(tell(&l, t, &l.page.entries[i], err));
        more = l.page.more;
        move_on(&l);
    }
    return 0;
}

int s3_list(struct vault_driver *d, const char *prefix,
            int (*fn)(void *user, const char *key, uint64_t bytes, struct error *err), void *user, struct error *err)
{
    return walk(s3_of(d), prefix, &(struct teller){.plain = fn, .user = user}, err);
}

int s3_list_names(struct vault_driver *d, const char *prefix,
                  int (*fn)(void *user, const char *name, struct error *err), void *user, struct error *err)
{
    return walk(s3_of(d), prefix, &(struct teller){.name = fn, .user = user}, err);
}

int s3_list_dated(struct s3_driver *d, const char *prefix,
                  int (*fn)(void *user, const char *key, uint64_t bytes, const char *modified, struct error *err), void *user,
                  struct error *err)
{
    return walk(d, prefix, &(struct teller){.key = fn, .user = user}, err);
}
