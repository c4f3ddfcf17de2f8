/*
 * test/unit/engine/test_pg_conn.c - what pg_conn.h promises without a server: conninfos, quoting, log positions, the cleaning
 * of libpq's messages, and what a server that is not there gives.
 */
#include "unit.h"

#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/postgres/pg_wait.h"

static void test_conninfo_check(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(pg_conninfo_check("host=db1 dbname=shop user=salvor", &err), err);
    assert_ok(pg_conninfo_check("postgresql://salvor@db1/shop?sslmode=require", &err), err);
    assert_ok(pg_conninfo_check("service=shop passfile=/etc/salvor/pass", &err), err);
    static const char *const secret[] = {"host=db1 password=hunter2", "postgresql://salvor:hunter2@db1/shop",
                                         "host=db1 sslpassword=hunter2"};
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) {
        assert_fails(pg_conninfo_check(secret[i], &err), err, ERROR_USAGE);
        assert_null(strstr(err.message, "hunter2"));
        assert_contains(err.message, "PGPASSFILE");
    }
}

/* libpq would quote what it does not understand, and that may be the password. */
static void test_conninfo_errors_show_nothing(void **state)
{
    static const char *const broken[] = {"host=db1 password=hunter1 hunter2", "hunter2", "hunter2=1", "host='hunter2"};
    struct error err = ERROR_INIT;
    struct pg_conn c;

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_fails(pg_conninfo_check(broken[i], &err), err, ERROR_USAGE);
        assert_null(strstr(err.message, "hunter2"));
        assert_fails(pg_connect(broken[i], PG_SESSION_SQL, "test", 1000, &c, &err), err, ERROR_USAGE);
        assert_null(strstr(err.message, "hunter2"));
    }
}

static void assert_with(const char *conninfo, const char *keyword, const char *value, const char *expected)
{
    const char *const keywords[] = {keyword, NULL}, *const values[] = {value};
    struct error err = ERROR_INIT;
    char *text;

    assert_ok(pg_conninfo_with(conninfo, keywords, values, &text, &err), err);
    assert_string_equal(text, expected);
    free(text);
}

static void test_conninfo_with(void **state)
{
    const char *const keywords[] = {"nonsense", NULL}, *const values[] = {"1"};
    struct error err = ERROR_INIT;
    char *text;

    (void)state;
    assert_with("host=a dbname=x", "dbname", "it's \\ y", "dbname='it\\'s \\\\ y' host=a");
    assert_with("host=a dbname=x", "dbname", NULL, "host=a");
    assert_with("host=a", "port", "5433", "host=a port=5433");
    assert_with("postgresql://u@h:1/d%20b", "user", "v", "user=v dbname='d b' host=h port=1");
    assert_with("host=a", "host", "", "host=''");
    assert_fails(pg_conninfo_with("host=a", keywords, values, &text, &err), err, ERROR_BUG);
}

static void assert_quoted(void (*quote)(struct buf *, const char *), const char *text, const char *expected)
{
    struct buf b = BUF_INIT(100);

    quote(&b, text);
    assert_string_equal(buf_cstr(&b), expected);
    buf_release(&b);
}

static void test_quoting(void **state)
{
    (void)state;
    assert_quoted(pg_quote_ident, "a", "\"a\"");
    assert_quoted(pg_quote_ident, "sel\"ect; --", "\"sel\"\"ect; --\"");
    assert_quoted(pg_quote_literal, "a", "'a'");
    assert_quoted(pg_quote_literal, "it's", "'it''s'");
    assert_quoted(pg_quote_literal, "\\'; drop", " E'\\\\''; drop'");
    assert_quoted(pg_quote_literal, "", "''");
}

static void test_parse_lsn(void **state)
{
    static const char *const wrong[] = {"",         "0",    "/",      "0/",       "/0",          "0/123456789",
                                        "g/0",      "0/0 ", " 0/0",   "0x1/0",    "-1/0",        "123456789/0",
                                        "0/\x10",   "1/2/3", "0/@",    "ffffffffff/ffffffffff"};
    struct error err = ERROR_INIT;
    uint64_t lsn;

    (void)state;
    assert_ok(pg_parse_lsn("0/16B3748", &lsn, &err), err);
    assert_int_equal(lsn, 0x16B3748);
    assert_ok(pg_parse_lsn("16/b374d848", &lsn, &err), err);
    assert_int_equal(lsn, 0x16b374d848);
    assert_ok(pg_parse_lsn("FFFFFFFF/FFFFFFFF", &lsn, &err), err);
    assert_true(lsn == UINT64_MAX);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_fails(pg_parse_lsn(wrong[i], &lsn, &err), err, ERROR_PROTOCOL);
    assert_fails(pg_parse_lsn(NULL, &lsn, &err), err, ERROR_PROTOCOL);
}

static void assert_cleaned(const char *text, const char *expected, const char *expected_state)
{
    struct buf b = BUF_INIT(1000);
    char sqlstate[6] = "";

    pg_clean_message(text, &b, sqlstate);
    assert_string_equal(buf_cstr(&b), expected);
    assert_string_equal(sqlstate, expected_state);
    buf_release(&b);
}

static void test_clean_message(void **state)
{
    (void)state;
    assert_cleaned("", "", "");
    assert_cleaned("connection to server at \"::1\", port 1 failed: Connection refused\n\tIs it there?\n",
                   "connection to server at \"::1\", port 1 failed: Connection refused; Is it there?", "");
    assert_cleaned("server failed: FATAL:  57P03: the database system is starting up\nLOCATION:  ProcessStartup, x.c:1\n",
                   "server failed: FATAL:  the database system is starting up", "57P03");
    assert_cleaned("a: FATAL:  28000: no\nLOCATION:  f\nb: FATAL:  28P01: no\nDETAIL:  why\n",
                   "a: FATAL:  no; b: FATAL:  no; DETAIL:  why", "28P01");
    assert_cleaned("FATAL:  short", "FATAL:  short", "");
    assert_cleaned("FATAL:  57P03", "FATAL:  57P03", "");
    assert_cleaned("FATAL:  57p03: x", "FATAL:  57p03: x", "");
}

/* A listener that never accepts: the kernel completes the connection, and then nobody says a word. */
static void test_silent_server(void **state)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    struct error err = ERROR_INIT;
    struct pg_conn c;
    char conninfo[100];

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    (void)snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d dbname=x user=x", ntohs(a.sin_port));
    int64_t before = clock_mono_us();
    assert_fails(pg_connect(conninfo, PG_SESSION_SQL, "test", 200, &c, &err), err, ERROR_CONNECT);
    assert_in_range(clock_mono_us() - before, 200 * CLOCK_US_PER_MS, 5000 * CLOCK_US_PER_MS);
    assert_contains(err.message, "no answer within 200 ms");
    (void)close(fd);
    assert_fails(pg_connect(conninfo, PG_SESSION_SQL, "test", 2000, &c, &err), err, ERROR_CONNECT);
    assert_contains(err.message, "refused");
}

/* What a session gives whose statement had to be given up. */
static void test_closed_session(void **state)
{
    struct pg_conn c = {0};
    struct error err = ERROR_INIT;
    PGresult *r;
    char *value;

    (void)state;
    assert_fails(pg_exec(&c, "SELECT 1", 100, &err), err, ERROR_CONNECT);
    assert_fails(pg_execf(&c, 100, &err, "SELECT %d", 1), err, ERROR_CONNECT);
    assert_fails(pg_query(&c, "SELECT 1", NULL, 0, 100, &r, &err), err, ERROR_CONNECT);
    assert_fails(pg_query_value(&c, "SELECT 1", 100, &value, &err), err, ERROR_CONNECT);
    pg_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conninfo_check), cmocka_unit_test(test_conninfo_errors_show_nothing),
        cmocka_unit_test(test_conninfo_with),  cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_parse_lsn),      cmocka_unit_test(test_clean_message),
        cmocka_unit_test(test_silent_server),  cmocka_unit_test(test_closed_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
