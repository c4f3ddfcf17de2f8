/*
 * test/unit/vault/whole.h - a vault with one of everything, and what verify says of it.
 */
#ifndef SALVOR_TEST_UNIT_VAULT_WHOLE_H
#define SALVOR_TEST_UNIT_VAULT_WHOLE_H

#include "vault/snapshots.h"
#include "vault/verify.h"

struct whole {
    struct segment_id segments[3];
    struct manifest m;
    uint32_t epoch;
};

static inline struct whole make_whole(struct fixture *x)
{
    struct whole w = {0};
    struct manifest renewal;
    struct incarnation i = {.system_id = "1", .database = "shop", .slot = "salvor_shop", .reason = "first one"};
    json_t *proof = json_object();

    assert_ok(incarnation_claim(x->v, "shop", &i, &x->err), x->err);
    assert_ok(epoch_claim(x->v, "shop", "0001", 1, &w.epoch, &x->err), x->err);
    frames_chain(x, 3, w.segments);
    assert_ok(epoch_claim(x->v, "shop", "0001", 4, &w.epoch, &x->err), x->err);
    snapshots_take(x, 1000, 1, &w.m);
    snapshots_renew(x, &w.m, 1500, 2, &renewal);
    manifest_release(&renewal);
    assert_ok(proof_store(x->v, "shop", "0001", w.m.id, proof, &x->err), x->err);
    json_decref(proof);
    return w;
}

static inline struct verify_result verify(struct fixture *x, const char *source)
{
    struct verify_result r;

    assert_ok(vault_verify(x->v, source, 0, NULL, NULL, &r, &x->err), x->err);
    return r;
}

static inline const struct verify_finding *find(const struct verify_result *r, const char *kind, const char *key)
{
    for (size_t i = 0; i < r->findings_count; i++) {
        if ((!kind || strcmp(r->findings[i].kind, kind) == 0) && strcmp(r->findings[i].key, key) == 0)
            return &r->findings[i];
    }
    return NULL;
}

static inline void show(const struct verify_result *r)
{
    for (size_t i = 0; i < r->findings_count; i++)
        print_message("  %s %s: %s\n", r->findings[i].kind, r->findings[i].key, r->findings[i].text);
}

static inline void assert_clean(struct fixture *x)
{
    struct verify_result r = verify(x, NULL);

    if (r.findings_count > 0)
        show(&r);
    assert_int_equal(r.findings_count, 0);
    verify_result_release(&r);
}

/* Exactly one finding, of this kind, about this object; its sentence holds `part`. */
static inline void assert_only(struct fixture *x, const char *kind, const char *key, const char *part)
{
    struct verify_result r = verify(x, NULL);
    const struct verify_finding *f = find(&r, kind, key);

    if (r.findings_count != 1 || !f || !strstr(f->text, part)) {
        show(&r);
        fail_msg("expected only: %s %s ... %s", kind, key, part);
    }
    verify_result_release(&r);
}

static inline void assert_found(struct fixture *x, const char *kind, const char *key, const char *part)
{
    struct verify_result r = verify(x, NULL);
    const struct verify_finding *f = find(&r, kind, key);

    if (!f || !strstr(f->text, part)) {
        show(&r);
        fail_msg("expected: %s %s ... %s", kind, key, part);
    }
    verify_result_release(&r);
}

static inline char *segment_name(const struct segment_id *id)
{
    char *key = mem_alloc(VAULT_KEY_BYTES);

    segment_key(key, "shop", "0001", id);
    return key;
}

static inline char *snapshot_name(const struct manifest *m, const char *name)
{
    char *key = mem_alloc(VAULT_KEY_BYTES);

    manifest_key(key, "shop", "0001", m->id, name);
    return key;
}

/* Of a plain vault, where content is named by its digest. */
static inline char *chunk_name(const struct manifest *m, uint32_t table, uint32_t chunk, unsigned copy)
{
    static const struct vault plain;
    char *key = mem_alloc(VAULT_KEY_BYTES);

    chunk_key(key, &plain, "shop", &m->tables[table].chunks[chunk].digest, copy);
    return key;
}

static inline char *schema_name(const struct manifest *m, const char *suffix)
{
    static const struct vault plain;
    char *key = mem_alloc(VAULT_KEY_BYTES);

    schema_key(key, &plain, m, suffix);
    return key;
}

#endif
