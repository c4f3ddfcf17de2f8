/*
 * test/unit/capture/test_streams_model.c - random streams against a naive reader.
 *
 * A made-up server has several transactions open, with subtransactions inside each other, and sends blocks of them between each other and
 * between small ones; it undoes and commits, and sessions break, after which it sends again what had not committed. What the framer makes of
 * it goes into spool files and segments of random length. Whoever visits the chain, from any commit to any other, with any memory, must
 * see what the list beside it says: the rows of each transaction in order, without those undone.
 */
#include "made.h"
#include "messages.h"

#include "base/text.h"
#include "capture/framer.h"

#define OPEN_MAX 5
#define DEPTH_MAX 6
#define ROWS_MAX 400
#define COMMITS_MAX 300

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % below;
}

struct row {
    uint32_t sub_xid;
    uint32_t id;
};

/* A transaction of the made-up server. */
struct running {
    uint32_t xid; /* 0: none */
    bool streamed;
    uint32_t stack[DEPTH_MAX]; /* subtransactions that are open; [0] is the transaction */
    uint32_t depth;
    uint32_t parents[64][2]; /* (child, parent) of all there were */
    uint32_t parents_count;
    struct row rows[ROWS_MAX];
    uint32_t rows_count;
};

struct committed {
    struct position position;
    uint32_t xid, rows_count;
    uint64_t sum;
};

struct model {
    struct made made;
    struct framer *framer;
    struct pg_names names;
    struct buf message;
    struct running running[OPEN_MAX];
    struct committed all[COMMITS_MAX];
    size_t all_count;
    uint32_t next_xid, next_row;
    uint64_t next_lsn;
    uint32_t session;
    uint64_t sealed;
    struct position last; /* framed */
};

static uint64_t sum_row(uint64_t sum, uint64_t id) { return (sum ^ id) * UINT64_C(1099511628211) + id; }

static struct committed sum_of(const struct running *t)
{
    struct committed c = {.xid = t->xid, .rows_count = t->rows_count};

    for (uint32_t i = 0; i < t->rows_count; i++)
        c.sum = sum_row(c.sum, t->rows[i].id);
    return c;
}

/* --- what goes out ----------------------------------------------------------------------------------------------- */

static void give(struct model *m)
{
    struct error err = ERROR_INIT;
    struct framed framed;

    assert_ok(framer_message(m->framer, buf_slice(&m->message), 0, &framed, &err), err);
    if (framed.committed)
        m->last = position_of_lsn(framed.end_lsn);
}

static void say_table(struct model *m)
{
    say_relation(&m->message, MADE_TABLE, "public", "t", "id");
    give(m);
}

static void say_new_row(struct model *m, uint32_t id)
{
    char text[16];

    (void)snprintf(text, sizeof text, "%u", id);
    say_insert(&m->message, MADE_TABLE, text);
    give(m);
}

static void flush(struct model *m)
{
    framer_cut(m->framer);
    made_flush(&m->made);
    m->made.last = m->last;
}

static void seal(struct model *m)
{
    flush(m);
    if (!spool_is_begun(m->made.spool))
        return;
    made_seal(&m->made);
    m->made.oldest_open = framer_oldest_open_file(m->framer);
    framer_set_out(m->framer, &m->made.block, spool_sequence(m->made.spool) + 1);
}

static void ship(struct model *m)
{
    if (m->sealed + 1 > spool_sequence(m->made.spool) - spool_is_begun(m->made.spool))
        return;
    made_ship(&m->made, ++m->sealed, draw(3) == 0);
}

/* --- what happens ------------------------------------------------------------------------------------------------ */

static void begin(struct model *m, struct running *t)
{
    *t = (struct running){.xid = m->next_xid++, .depth = 1};
    t->stack[0] = t->xid;
}

static bool is_inside(const struct running *t, uint32_t xid, uint32_t outer)
{
    while (xid != outer) {
        uint32_t i = 0;

        while (i < t->parents_count && t->parents[i][0] != xid)
            i++;
        if (i == t->parents_count)
            return false;
        xid = t->parents[i][1];
    }
    return true;
}

/* The innermost open subtransaction is undone, with all that were inside it. */
static void undo(struct model *m, struct running *t)
{
    uint32_t outer = t->stack[--t->depth], kept = 0;

    for (uint32_t i = t->parents_count; i-- > 0 && t->streamed;)
        if (t->parents[i][0] != outer && is_inside(t, t->parents[i][0], outer)) {
            say_stream_abort(&m->message, t->xid, t->parents[i][0]);
            give(m);
        }
    if (t->streamed) {
        say_stream_abort(&m->message, t->xid, outer);
        give(m);
    }
    for (uint32_t i = 0; i < t->rows_count; i++)
        if (!is_inside(t, t->rows[i].sub_xid, outer))
            t->rows[kept++] = t->rows[i];
    t->rows_count = kept;
}

static void move_depth(struct model *m, struct running *t)
{
    uint32_t kind = draw(3);

    if (kind == 0 && t->depth < DEPTH_MAX && t->parents_count < 64) {
        uint32_t xid = m->next_xid++;

        t->parents[t->parents_count][0] = xid;
        t->parents[t->parents_count++][1] = t->stack[t->depth - 1];
        t->stack[t->depth++] = xid;
    } else if (kind == 1 && t->depth > 1) {
        t->depth--; /* released: its rows are the outer one's to undo */
    } else if (kind == 2 && t->depth > 1) {
        undo(m, t);
    }
}

static void send_block(struct model *m, struct running *t)
{
    say_stream_start(&m->message, t->xid, !t->streamed);
    give(m);
    t->streamed = true;
    if (draw(4) == 0)
        flush(m);
    for (uint32_t n = draw(12) + 1; n > 0 && t->rows_count < ROWS_MAX; n--) {
        say_xid = t->stack[t->depth - 1];
        say_table(m);
        struct row row = {.sub_xid = t->stack[t->depth - 1], .id = m->next_row++};
        t->rows[t->rows_count++] = row;
        say_new_row(m, row.id);
        if (draw(10) == 0)
            flush(m);
    }
    say_stream_stop(&m->message, 0);
    give(m);
}

static void remember(struct model *m, const struct running *t, uint64_t end_lsn)
{
    struct committed c = sum_of(t);

    c.position = position_of_lsn(end_lsn);
    m->all[m->all_count++] = c;
}

static void commit(struct model *m, struct running *t)
{
    uint64_t lsn = m->next_lsn += 100;

    say_stream_commit(&m->message, t->xid, lsn, lsn + 10);
    give(m);
    remember(m, t, lsn + 10);
    t->xid = 0;
}

static void undo_all(struct model *m, struct running *t)
{
    if (draw(4)) { /* else the server crashed: nobody says so */
        say_stream_abort(&m->message, t->xid, t->xid);
        give(m);
    }
    t->xid = 0;
}

static void small_transaction(struct model *m)
{
    uint64_t lsn = m->next_lsn += 100;
    struct running t;

    begin(m, &t);
    say_begin(&m->message, lsn, t.xid);
    give(m);
    say_table(m);
    for (uint32_t n = draw(4); n > 0; n--) {
        t.rows[t.rows_count].id = m->next_row++;
        say_new_row(m, t.rows[t.rows_count++].id);
        if (draw(20) == 0)
            flush(m);
    }
    say_commit(&m->message, lsn, lsn + 10);
    give(m);
    remember(m, &t, lsn + 10);
}

/* What was open comes again from its beginning, in another order of blocks. */
static void break_session(struct model *m)
{
    framer_abandon(m->framer);
    flush(m);
    framer_begin_session(m->framer, ++m->session, 0, false);
    for (size_t i = 0; i < OPEN_MAX; i++) {
        struct running *t = &m->running[i];

        t->streamed = false;
        if (!t->xid || draw(2)) {
            t->xid = 0;
            continue;
        }
        say_stream_start(&m->message, t->xid, true);
        give(m);
        t->streamed = true;
        for (uint32_t k = 0; k < t->rows_count; k++) {
            say_xid = t->rows[k].sub_xid;
            say_table(m);
            say_new_row(m, t->rows[k].id);
            if (draw(30) == 0)
                flush(m);
        }
        say_stream_stop(&m->message, 0);
        give(m);
    }
}

static void step(struct model *m)
{
    struct running *t = &m->running[draw(OPEN_MAX)];
    uint32_t what = draw(100);

    if (what < 2)
        break_session(m);
    else if (what < 12)
        small_transaction(m);
    else if (what < 16)
        seal(m);
    else if (what < 20)
        ship(m);
    else if (what < 24)
        flush(m);
    else if (!t->xid)
        begin(m, t);
    else if (what < 70)
        send_block(m, t);
    else if (what < 90)
        move_depth(m, t);
    else if (t->streamed && what < 97)
        commit(m, t);
    else if (t->streamed)
        undo_all(m, t);
}

/* --- what is read ------------------------------------------------------------------------------------------------ */

struct reader {
    const struct model *model;
    size_t next; /* in model->all */
    struct committed now;
};

static int see_event(void *user, const struct chain_transaction *t, const struct relation *r, const struct event *e, struct error *err)
{
    struct reader *x = user;
    uint64_t id;

    (void)t;
    assert_string_equal(r->name, "t");
    TRY(text_parse_u64(e->row[0].text, 0, UINT32_MAX, &id, err));
    x->now.rows_count++;
    x->now.sum = sum_row(x->now.sum, id);
    return 0;
}

static int see_commit(void *user, const struct chain_transaction *t, struct error *err)
{
    struct reader *x = user;
    const struct committed *c = &x->model->all[x->next++];

    (void)err;
    assert_int_equal(t->position.offset, c->position.offset);
    assert_int_equal(t->xid, c->xid);
    assert_int_equal(x->now.rows_count, c->rows_count);
    assert_true(x->now.sum == c->sum);
    x->now = (struct committed){0};
    return 0;
}

static void read_from(const struct model *m, size_t first, size_t end, size_t kept_bytes_max)
{
    struct chain_config config = {.vault = m->made.vault,
                                  .spool_directory = m->made.spool_directory,
                                  .source = MADE_SOURCE,
                                  .incarnation = MADE_INCARNATION,
                                  .kept_bytes_max = kept_bytes_max};
    struct reader x = {.model = m, .next = first};
    struct chain_visitor v = {.event = see_event, .commit = see_commit, .user = &x};
    struct error err = ERROR_INIT;
    struct chain *c = NULL;

    assert_ok(chain_open(&config, &c, &err), err);
    struct position after = first ? m->all[first - 1].position : POSITION_ZERO;
    assert_ok(chain_seek(c, after, &err), err);
    assert_ok(chain_visit(c, after, end == m->all_count ? POSITION_MAX : m->all[end - 1].position, &v, &err), err);
    assert_int_equal(x.next, end);
    chain_free(c);
}

static void read_all(const struct model *m)
{
    static const size_t memories[] = {1, 200, 2000, 0};

    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        read_from(m, 0, m->all_count, memories[i]);
    for (int n = 0; n < 12; n++) {
        size_t first = draw((uint32_t)m->all_count), end = first + 1 + draw((uint32_t)(m->all_count - first));

        read_from(m, first, end, memories[draw(4)]);
    }
}

static void run(uint64_t seed)
{
    struct model *m = mem_zalloc(1, sizeof *m);

    random_state = seed;
    say_xid = 0;
    made_open(&m->made);
    m->message = BUF_INIT(1 << 16);
    pg_names_of(MADE_SOURCE, &m->names);
    m->framer = framer_new(&m->names);
    m->next_xid = 1000;
    m->session = 1;
    framer_begin_session(m->framer, 1, 0, false);
    framer_set_out(m->framer, &m->made.block, 1);
    for (int n = 0; n < 900 && m->all_count + 1 < COMMITS_MAX; n++)
        step(m);
    small_transaction(m);
    flush(m);
    read_all(m);
    framer_free(m->framer);
    buf_release(&m->message);
    made_close(&m->made);
    free(m);
}

static void test_random_streams(void **state)
{
    const char *wanted = getenv("SALVOR_SEED"), *soak = getenv("SALVOR_SOAK");

    (void)state;
    if (wanted) {
        run(strtoull(wanted, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= (soak ? 5000u : 15u); seed++) {
        (void)printf("seed %llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_streams)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
