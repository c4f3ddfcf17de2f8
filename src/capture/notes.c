/*
 * capture/notes.c - notes on their way into the stream, and those that forbid recoveries until a snapshot covers them.
 *
 * The notes in the stream are the truth. What is kept here (open.json of the incarnation, gaps.json of the source) is for
 * `salvor status`, so that it need not read the chain; at a start it is completed from the spool's own notes. A gap is an
 * object of the vaults as well, put there by each shipper before anything else: this host may be lost before the note's segment is shipped.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "capture/chain.h"
#include "capture/role.h"
#include "vault/snapshot.h"

#define WORDS_KEPT_MAX 1000
#define CHANGES_TOLD_MAX 500 /* of the schema, that no snapshot covers yet: the newest */
#define OPEN "open.json"
#define GAPS "gaps.json"

/* With the mutex held. */
static void append(struct capture *c, json_t *note)
{
    json_array_append_new(c->pending_notes, note);
    c->notes_given++;
}

void capture_put_note(struct capture *c, json_t *note)
{
    capture_remember_note(c, note);
    capture_lock(c);
    append(c, note);
    capture_unlock(c);
    capture_wake(c);
}

bool capture_notes_durable(struct capture *c, int64_t timeout_us)
{
    int64_t until_us = clock_mono_us() + timeout_us;

    capture_lock(c);
    uint64_t given = c->notes_given;
    while (c->notes_durable < given && !capture_is_ending(c) && clock_mono_us() < until_us)
        capture_wait(c, &c->changed, until_us - clock_mono_us());
    bool durable = c->notes_durable >= given;
    capture_unlock(c);
    return durable;
}

static json_t *entry_of(const json_t *note)
{
    static const char *const members[] = {"table", "id", "from", "to", "xid", "xmax", "reason", "how"};
    json_t *entry = json_object();

    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (json_object_get(note, members[i]))
            json_object_set(entry, members[i], json_object_get(note, members[i]));
    return entry;
}

static json_t *entry_of_table(json_t *list, const json_t *id)
{
    json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry)
        if (json_equal(json_object_get(entry, "id"), id))
            return entry;
    return NULL;
}

static uint64_t xmax_of(const json_t *entry) { return (uint64_t)json_integer_value(json_object_get(entry, "xmax")); }

static bool has_ended(const json_t *entry) { return json_is_true(json_object_get(entry, "ended")); }

static void grow_xmax(json_t *entry, const json_t *note)
{
    if (xmax_of(note) <= xmax_of(entry))
        return;
    json_object_set(entry, "xmax", json_object_get(note, "xmax"));
    json_object_del(entry, "ended");
}

/* When it begins, as far as what was durable before it tells: for whoever measures what would be lost (exact.h). */
static void date(const struct capture *c, json_t *entry)
{
    int64_t wall_us = exact_marks_before(&c->marks, position_or_zero(entry, "from"));

    (void)json_object_del(entry, "wall_us");
    if (wall_us > 0)
        json_set_i64(entry, "wall_us", wall_us);
}

/* A table that goes on changing has one entry, which grows. True: it was not there. */
static bool add_inexact(struct capture *c, const json_t *note)
{
    json_t *entry = entry_of_table(c->inexact, json_object_get(note, "id"));

    if (!entry) {
        entry = entry_of(note);
        date(c, entry);
        json_array_append_new(c->inexact, entry);
        return true;
    }
    if (position_compare(position_or_zero(note, "from"), position_or_zero(entry, "from")) < 0) {
        json_object_set(entry, "from", json_object_get(note, "from"));
        date(c, entry);
    }
    if (position_compare(position_or_zero(note, "to"), position_or_zero(entry, "to")) > 0)
        json_object_set(entry, "to", json_object_get(note, "to"));
    grow_xmax(entry, note);
    return false;
}

static bool has_all(const json_t *entry, json_t *members)
{
    const char *key;
    json_t *value;

    json_object_foreach(members, key, value)
        if (!json_equal(json_object_get(entry, key), value))
            return false;
    return true;
}

/* For whoever looks; recovery reads the notes in the stream. */
static bool add_schema_changed(struct capture *c, const json_t *note)
{
    JSON_AUTO entry = entry_of(note);
    json_t *list = c->schema_changed, *other;
    size_t i;

    json_array_foreach(list, i, other)
        if (has_all(other, entry))
            return false;
    date(c, entry);
    json_array_append(list, entry);
    if (json_array_size(list) > CHANGES_TOLD_MAX)
        json_array_remove(list, 0);
    return true;
}

/* Up to where the schema changed, and of what event triggers told: a process that was killed knew both, and what it had received does not come again. With
 * the mutex held. */
static void follow_change(struct capture *c, const json_t *change)
{
    const char *how = json_string_value(json_object_get(change, "how"));
    uint64_t to_lsn = position_or_zero(change, "to").offset;

    if (to_lsn > c->changed_lsn)
        c->changed_lsn = to_lsn;
    if ((!how || strcmp(how, "trigger") != 0) && to_lsn > atomic_load(&c->polled_lsn))
        atomic_store(&c->polled_lsn, to_lsn);
    if (how && strcmp(how, "trigger") == 0)
        looks_add_record(&c->looks, (uint32_t)json_integer_value(json_object_get(change, "xid")), to_lsn);
}

/*
 * Written before the schema changed, and committed behind it (framer_words.c): that is in the way of a snapshot that holds the change and not this. As long as none is
 * known it is nothing to tell of; one that is being taken may turn out to be such a one.
 */
static bool bars_snapshot(const struct capture *c, const json_t *note)
{
    const json_t *since = json_object_get(note, "since");

    return !since || position_compare(position_or_zero(json_array_get(since, 0), "at"), c->snapshot_position) <= 0;
}

static bool add_words(struct capture *c, const json_t *note)
{
    if (position_compare(position_or_zero(note, "to"), c->snapshot_position) <= 0)
        return false;
    if (bars_snapshot(c, note))
        return add_inexact(c, note);
    json_array_append_new(c->words, json_deep_copy(note));
    if (json_array_size(c->words) > WORDS_KEPT_MAX)
        json_array_remove(c->words, 0);
    return false;
}

/* With the mutex held. True: it is new, and a snapshot may be wanted. */
static bool remember(struct capture *c, const json_t *note)
{
    const char *kind = json_string_value(json_object_get(note, "kind"));
    bool inexact = kind && strcmp(kind, NOTE_INEXACT) == 0;

    if (!inexact && (!kind || strcmp(kind, NOTE_SCHEMA_CHANGED) != 0))
        return false;
    c->open_notes_changed = true;
    if (inexact && json_object_get(note, "xid"))
        return add_words(c, note);
    if (!inexact)
        follow_change(c, note);
    c->changed_mono_us = clock_mono_us();
    return inexact ? add_inexact(c, note) : add_schema_changed(c, note);
}

/* What recovery may go across is captured first (schemas.c): only then can be judged whether it does. */
static bool is_captured_first(const json_t *note)
{
    const char *how = json_string_value(json_object_get(note, "how"));

    return (how && json_is_integer(json_object_get(note, "xid"))) || (how && strcmp(how, NOTE_HOW_DATABASE) == 0);
}

void capture_remember_note(struct capture *c, const json_t *note)
{
    capture_lock(c);
    bool wanted = remember(c, note);
    if (wanted && !is_captured_first(note)) {
        const char *reason = json_string_value(json_object_get(note, "reason"));

        (void)snprintf(c->want_reason, sizeof c->want_reason, "%s", reason ? reason : "a note without a reason");
    }
    capture_unlock(c);
    if (!wanted)
        return;
    CLEANUP(buf_release) struct buf text = BUF_INIT((size_t)64 << 10);
    json_dump(note, &text);
    log_warn("%s", buf_cstr(&text));
}

/* --- pruning ----------------------------------------------------------------------------------------------------- */

static bool prune_list(json_t *list, struct position snapshot, uint64_t xmin)
{
    bool pruned = false;

    for (size_t i = json_array_size(list); i-- > 0;)
        if (position_compare(position_or_zero(json_array_get(list, i), "to"), snapshot) <= 0 && xmin >= xmax_of(json_array_get(list, i))) {
            json_array_remove(list, i);
            pruned = true;
        }
    return pruned;
}

static bool has_id(const json_t *ids, const json_t *id)
{
    const json_t *one;
    size_t i;

    json_array_foreach(ids, i, one)
        if (json_equal(one, id))
            return true;
    return false;
}

/* As recover/renewals.c has it: taken among open transactions it covers nothing of which it is not known who made it. */
static bool renewal_holds_noted(const json_t *r, const json_t *entry)
{
    if (xmax_of(entry) == 0)
        return !json_is_true(json_object_get(r, "among_open"));
    return (uint64_t)json_integer_value(json_object_get(r, "xmin")) >= xmax_of(entry);
}

static bool is_renewed(const struct capture *c, const json_t *entry)
{
    const char *id;
    json_t *r;

    json_object_foreach(c->renewed, id, r)
        if (has_id(json_object_get(r, "tables"), json_object_get(entry, "id")) &&
            position_compare(position_or_zero(entry, "to"), position_or_zero(r, "position")) <= 0 && renewal_holds_noted(r, entry))
            return true;
    return false;
}

static bool prune_renewed(struct capture *c)
{
    bool pruned = false;

    for (size_t i = json_array_size(c->inexact); i-- > 0;)
        if (is_renewed(c, json_array_get(c->inexact, i))) {
            json_array_remove(c->inexact, i);
            pruned = true;
        }
    return pruned;
}

static json_t *renewal_entry(const struct manifest *m)
{
    char position[POSITION_TEXT_BYTES];
    json_t *entry = json_object(), *tables = json_array();

    json_set_str(entry, "position", position_format(m->position, position));
    json_set_u64(entry, "xmin", manifest_xmin(m));
    json_set_bool(entry, "among_open", m->visibility.present);
    for (uint32_t i = 0; i < m->tables_count; i++)
        json_array_append_new(tables, json_integer(m->tables[i].relation.id));
    json_object_set_new(entry, "tables", tables);
    return entry;
}

static int see_renewal(struct capture *c, struct vault *v, const char *snapshot, const char *id, struct error *err)
{
    CLEANUP(manifest_release) struct manifest m;

    capture_lock(c);
    bool known = json_object_get(c->renewed, id) != NULL;
    capture_unlock(c);
    manifest_init(&m);
    if (known)
        return 0;
    TRY(renewal_get(v, c->config->protect.source, c->line->incarnation.id, snapshot, id, &m, err));
    capture_lock(c);
    json_object_set_new(c->renewed, id, renewal_entry(&m));
    capture_unlock(c);
    return 0;
}

/* Does a table wait for a snapshot that some transactions had ended before? With the mutex held. */
static bool waits_for_xmin(const struct capture *c)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(c->inexact, i, entry)
        if (xmax_of(entry) > 0)
            return true;
    return false;
}

int notes_see_snapshot(struct capture *c, struct vault *v, const char *snapshot, struct error *err)
{
    CLEANUP(manifest_release) struct manifest m;

    capture_lock(c);
    bool needed = waits_for_xmin(c) && strcmp(c->snapshot_read, snapshot) != 0;
    capture_unlock(c);
    manifest_init(&m);
    if (!needed)
        return 0;
    TRY(manifest_get(v, c->config->protect.source, c->line->incarnation.id, snapshot, &m, err));
    capture_lock(c);
    c->snapshot_xmin = manifest_xmin(&m);
    (void)snprintf(c->snapshot_read, sizeof c->snapshot_read, "%s", snapshot);
    capture_unlock(c);
    return 0;
}

int notes_see_renewals(struct capture *c, struct vault *v, const char *snapshot, struct error *err)
{
    struct error ignored = ERROR_INIT;
    char **ids;
    size_t count;

    TRY(renewal_list(v, c->config->protect.source, c->line->incarnation.id, snapshot, &ids, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (see_renewal(c, v, snapshot, ids[i], &ignored) < 0) /* status goes on saying that its tables are inexact */
            log_debug("%s", ignored.message);
        free(ids[i]);
    }
    free(ids);
    return 0;
}

/*
 * A note behind which transactions may be open is told again behind each snapshot that it is not covered by, and once they have ended: who begins from that
 * snapshot need not read what is older, and it may be purged. With the mutex held.
 */
static void tell_again(struct capture *c, const json_t *entry)
{
    json_t *note = entry_of(entry);

    json_set_str(note, "kind", NOTE_INEXACT);
    append(c, note);
}

void notes_settle(struct capture *c, uint64_t xmin)
{
    json_t *entry;
    size_t i;

    capture_lock(c);
    json_array_foreach(c->inexact, i, entry) {
        if (xmax_of(entry) == 0 || xmax_of(entry) > xmin || has_ended(entry))
            continue;
        tell_again(c, entry);
        json_set_bool(entry, "ended", true);
        c->open_notes_changed = true;
        (void)snprintf(c->want_reason, sizeof c->want_reason, "the transactions have ended that were open when a table was listed or a publication was altered");
    }
    capture_unlock(c);
    capture_wake(c);
}

/* Rows that would be read now would still lack what open transactions wrote. */
static bool worth_reading(const struct capture *c)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(c->inexact, i, entry)
        if (xmax_of(entry) == 0 || has_ended(entry))
            return true;
    return false;
}

/* The newest snapshot holds a change, and not who wrote before it. With the mutex held. */
static void settle_words(struct capture *c)
{
    for (size_t i = json_array_size(c->words); i-- > 0;) {
        const json_t *note = json_array_get(c->words, i);
        bool bars = bars_snapshot(c, note) && position_compare(position_or_zero(note, "to"), c->snapshot_position) > 0;

        if (bars && add_inexact(c, note))
            (void)snprintf(c->want_reason, sizeof c->want_reason, "%s", json_string_value(json_object_get(note, "reason")));
        if (bars || position_compare(position_or_zero(note, "to"), c->snapshot_position) <= 0)
            json_array_remove(c->words, i);
    }
}

/* What changes all the time goes on being inexact behind a snapshot or renewal that was to mend it: that is asked for once more. */
static void wish_again(struct capture *c)
{
    const json_t *entry;
    size_t i;
    bool news = position_compare(c->snapshot_position, c->pruned_snapshot) != 0 || json_object_size(c->renewed) != c->pruned_renewals;

    c->pruned_snapshot = c->snapshot_position;
    c->pruned_renewals = json_object_size(c->renewed);
    if (!news || position_is_zero(c->snapshot_position))
        return;
    json_array_foreach(c->inexact, i, entry)
        if (xmax_of(entry) > 0)
            tell_again(c, entry);
    if (worth_reading(c))
        (void)snprintf(c->want_reason, sizeof c->want_reason, "a table is inexact past the newest rows that were read of it");
}

void notes_prune(struct capture *c)
{
    settle_words(c);
    bool schema = prune_list(c->schema_changed, c->snapshot_position, UINT64_MAX);
    bool inexact = prune_list(c->inexact, c->snapshot_position, c->snapshot_xmin), renewed = prune_renewed(c);

    c->open_notes_changed |= schema || inexact || renewed;
    wish_again(c);
}

/* --- keeping ----------------------------------------------------------------------------------------------------- */

static void remember_all(struct capture *c, const json_t *notes)
{
    json_t *note;
    size_t i;

    capture_lock(c);
    json_array_foreach(notes, i, note)
        (void)remember(c, note);
    notes_prune(c);
    capture_unlock(c);
}

static int load_chain(struct capture *c, struct vault *v, struct error *err)
{
    const struct chain_config config = {.vault = v,
                                        .spool_directory = c->line->spool_directory,
                                        .source = c->config->protect.source,
                                        .incarnation = c->line->incarnation.id};
    struct chain *chain;
    JSON_AUTO notes = NULL;

    TRY(chain_open(&config, &chain, err));
    int rc = chain_notes(chain, &notes, err);
    chain_free(chain);
    TRY(rc);
    remember_all(c, notes);
    return 0;
}

int notes_load_from_vault(struct capture *c, struct vault *v, struct error *err) { return load_chain(c, v, err); }

static void note_changes(struct capture *c)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(c->schema_changed, i, entry)
        follow_change(c, entry);
}

int notes_load(struct capture *c, struct error *err)
{
    JSON_AUTO open = NULL;
    struct error why = ERROR_INIT;
    json_t *gaps = NULL;

    json_decref(c->schema_changed);
    json_decref(c->inexact);
    json_decref(c->words);
    json_decref(c->gaps);
    c->schema_changed = json_array();
    c->inexact = json_array();
    c->words = json_array();
    if (state_load_json(c->config->state_directory, GAPS, &gaps, &why) < 0)
        gaps = json_array();
    c->gaps = gaps;
    if (state_load_json(c->line->directory, OPEN, &open, &why) >= 0) {
        json_array_extend(c->schema_changed, json_object_get(open, "schema_changed"));
        json_array_extend(c->inexact, json_object_get(open, "inexact"));
        note_changes(c);
        uint64_t changed_lsn = (uint64_t)json_integer_value(json_object_get(open, "changed"));
        if (changed_lsn > c->changed_lsn)
            c->changed_lsn = changed_lsn;
    }
    return load_chain(c, NULL, err);
}

int notes_store(struct capture *c, struct error *err)
{
    JSON_AUTO open = json_object();

    capture_lock(c);
    bool changed = c->open_notes_changed;
    c->open_notes_changed = false;
    json_object_set_new(open, "schema_changed", json_deep_copy(c->schema_changed));
    json_object_set_new(open, "inexact", json_deep_copy(c->inexact));
    json_set_u64(open, "changed", c->changed_lsn);
    capture_unlock(c);
    return changed ? state_store_json(c->line->directory, OPEN, open, err) : 0;
}

int notes_add_gap(struct capture *c, json_t *gap, struct error *err)
{
    JSON_AUTO copy = NULL;

    capture_lock(c);
    json_array_append_new(c->gaps, gap);
    copy = json_deep_copy(c->gaps);
    capture_unlock(c);
    return state_store_json(c->config->state_directory, GAPS, copy, err);
}

/* Into our list, without its key in the vault. With the mutex held. True: it was not there. */
static bool learn_gap(struct capture *c, const json_t *gap)
{
    if (gap_listed(c->gaps, gap))
        return false;
    json_t *copy = json_deep_copy(gap);
    json_object_del(copy, "key");
    json_array_append_new(c->gaps, copy);
    return true;
}

/* What the vault knows of one incarnation's gaps, and we do not; then the other way. */
static int settle_gaps_of(struct capture *c, struct vault *v, const char *incarnation, bool *ret_learned, struct error *err)
{
    JSON_AUTO theirs = NULL;
    JSON_AUTO ours = NULL;
    json_t *gap;
    size_t i;

    TRY(gap_list(v, c->config->protect.source, incarnation, &theirs, err));
    capture_lock(c);
    json_array_foreach(theirs, i, gap)
        *ret_learned |= learn_gap(c, gap);
    ours = json_deep_copy(c->gaps);
    capture_unlock(c);
    json_array_foreach(ours, i, gap) {
        const char *of = json_string_value(json_object_get(gap, "incarnation"));

        if (of && strcmp(of, incarnation) == 0 && !gap_listed(theirs, gap))
            TRY(gap_store(v, c->config->protect.source, gap, err));
    }
    return 0;
}

int notes_settle_gaps(struct capture *c, struct vault *v, struct error *err)
{
    CLEANUP(mem_free_ptr) struct incarnation *list = NULL;
    JSON_AUTO copy = NULL;
    bool learned = false;
    size_t count;

    TRY(incarnation_list(v, c->config->protect.source, &list, &count, err));
    for (size_t i = 0; i < count; i++)
        TRY(settle_gaps_of(c, v, list[i].id, &learned, err));
    if (!learned)
        return 0;
    capture_lock(c);
    copy = json_deep_copy(c->gaps);
    capture_unlock(c);
    ASSERT(pthread_mutex_lock(&c->files_mutex) == 0);
    int rc = state_store_json(c->config->state_directory, GAPS, copy, err);
    ASSERT(pthread_mutex_unlock(&c->files_mutex) == 0);
    return rc;
}
