"""The PostgreSQL engine against a real server: sessions, catalogue, fingerprint, stream, COPY."""
import contextlib
import os
import signal
import threading
import time

import psycopg2
import pytest

from enginetool import Fingerprints, Indexes, engine
from pgserver import PgServer
from salvorbox import wait_for

pytestmark = pytest.mark.xdist_group("engine")


@pytest.fixture(scope="module")
def server():
    with PgServer() as s:
        s.start()
        s.sql("CREATE ROLE plain LOGIN")
        s.sql("CREATE ROLE other")
        yield s


@pytest.fixture
def db(server):
    """A new database's name; slots in it are dropped with it."""
    name = "engine"
    server.sql(f"CREATE DATABASE {name}")
    yield name
    server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def cursor(server, db, autocommit=True):
    c = psycopg2.connect(server.conninfo(db))
    c.autocommit = autocommit
    try:
        yield c.cursor()
    finally:
        c.close()


def values(lines):
    return [line.get("value") for line in lines]


# --- sessions

PINNED = {"DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "3",
          "bytea_output": "hex", "xmloption": "content", "array_nulls": "on", "lc_monetary": "C", "search_path": "pg_catalog",
          "quote_all_identifiers": "off", "row_security": "off", "lock_timeout": "10s", "statement_timeout": "0",
          "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0", "client_encoding": "UTF8",
          "default_transaction_isolation": "read committed",
          "application_name": "salvor test"}


@pytest.mark.parametrize("kind", ["sql", "replication"])
def test_settings_are_pinned_against_role_environment_and_conninfo(server, db, kind):
    server.sql("CREATE ROLE odd LOGIN REPLICATION")
    for setting in ["DateStyle = 'German'", "TimeZone = 'Asia/Tokyo'", "bytea_output = 'escape'", "array_nulls = off", "default_transaction_isolation = 'serializable'",
                    "search_path = 'x'",
                    "client_encoding = 'LATIN1'", "statement_timeout = '1h'", "row_security = on"]:
        server.sql("ALTER ROLE odd SET " + setting)
    try:
        conninfo = server.conninfo(db, "odd") + " client_encoding=LATIN1 application_name=x options='-c IntervalStyle=iso_8601 -c geqo=off'"
        got = engine("session", kind, conninfo, 5000, *["SHOW " + name for name in PINNED], "SHOW geqo",
                     env={"PGTZ": "Europe/Rome", "PGDATESTYLE": "SQL", "PGCLIENTENCODING": "LATIN2", "PGAPPNAME": "y"})
        assert values(got) == [*PINNED.values(), "off"]
    finally:
        server.sql("DROP ROLE odd")


@pytest.mark.parametrize("kind", ["sql", "replication"])
def test_statement_past_its_deadline_is_cancelled_and_the_session_usable(server, db, kind):
    late, after = engine("session", kind, server.conninfo(db), 3000, "SELECT pg_sleep(30)", "SELECT 42")
    assert late["error"] == "TIMEOUT"
    assert after["value"] == "42"
    assert server.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND state = 'active'"
                        " AND pid <> pg_backend_pid()") == 0


def test_errors_have_their_state_and_class(server, db):
    conninfo = server.conninfo(db)
    division, ended, closed = engine("session", "sql", conninfo, 5000, "SELECT 1/0",
                                     "SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1")
    assert (division["error"], division["sqlstate"]) == ("SERVER", "22012")
    assert (ended["error"], ended["sqlstate"]) == ("CONNECT", "57P01")
    assert closed["error"] == "CONNECT"
    for wrong, state in [(server.conninfo("nothere"), "3D000"), (server.conninfo(db, "nobody"), "28000"),
                         (conninfo + " options='-c nonsense=1'", "42704")]:
        [refused] = engine("session", "sql", wrong, 5000)
        assert (refused["error"], refused["sqlstate"]) == ("SERVER", state)
    [absent] = engine("session", "sql", f"host={server.root} port=1", 5000)
    assert absent["error"] == "CONNECT"


def test_refusal_for_now_is_told_from_refusal_for_good(server, db):
    server.sql(f"ALTER DATABASE {db} CONNECTION LIMIT 0")
    [full] = engine("session", "sql", server.conninfo(db, "plain"), 5000)
    assert (full["error"], full["sqlstate"]) == ("CONNECT", "53300")


def test_rows_do_not_show_in_errors(server, db):
    server.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (271828)", dbname=db)
    [twice] = engine("session", "sql", server.conninfo(db), 5000, "INSERT INTO public.t VALUES (271828) RETURNING 1")
    assert twice["sqlstate"] == "23505"
    assert "271828" not in twice["message"]


def test_stopped_server_is_given_up(server, db):
    """A server that answers no more, not even to a cancel request."""
    postmaster = server.pid

    def stop_beside_the_statement():
        with cursor(server, db) as c:
            wait_for("the statement", lambda: c.execute("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND state = 'active'") or c.fetchone())
        os.kill(postmaster, signal.SIGSTOP)

    stopping = threading.Thread(target=stop_beside_the_statement)
    begun = time.monotonic()
    stopping.start()
    try:
        late, closed = engine("session", "sql", server.conninfo(db), 5000, "SELECT pg_sleep(3600)", "SELECT 1")
    finally:
        stopping.join()
        os.kill(postmaster, signal.SIGCONT)
    assert late["error"] == "TIMEOUT"
    assert closed["error"] == "CONNECT" or closed.get("value") == "1"
    assert time.monotonic() - begun < 45


# --- fingerprint

SCHEMA = """
CREATE TABLE a (id int PRIMARY KEY, t text, n int, g int GENERATED ALWAYS AS (id * 2) STORED, arr text[]);
CREATE TABLE p (id int, d date, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE fk (id int PRIMARY KEY, a_id int REFERENCES a);
CREATE INDEX ai ON a (t);
CREATE VIEW v AS SELECT id, t FROM a;
CREATE MATERIALIZED VIEW mv AS SELECT * FROM a;
CREATE UNIQUE INDEX mvu ON mv (id);
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION etf() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE TYPE e AS ENUM ('x', 'y');
CREATE DOMAIN dom AS int CHECK (value > 0);
CREATE TYPE comp AS (a int, b text);
CREATE SEQUENCE s;
CREATE SCHEMA sch;
CREATE TABLE sch.z (a serial, b text);
CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION tf();
CREATE POLICY pol ON a USING (true);
CREATE PUBLICATION pu FOR TABLE a;
INSERT INTO a (id, t) SELECT i, 'x' FROM generate_series(1, 500) i;
INSERT INTO p VALUES (1, '2020-05-05');
"""

CHANGES = """
ALTER TABLE a ADD COLUMN x int
ALTER TABLE a ALTER COLUMN x SET DEFAULT 5
ALTER TABLE a ALTER COLUMN x TYPE bigint
ALTER TABLE a ALTER COLUMN x TYPE bigint USING x + 1
ALTER TABLE a ALTER COLUMN x SET STORAGE PLAIN; ALTER TABLE a ALTER COLUMN t SET STORAGE EXTERNAL
ALTER TABLE a RENAME COLUMN x TO y
ALTER TABLE a ALTER COLUMN y SET STATISTICS 50
ALTER TABLE a ALTER COLUMN t SET COMPRESSION lz4
ALTER TABLE a DROP COLUMN y
ALTER TABLE a ALTER COLUMN t SET NOT NULL
ALTER TABLE a ADD CONSTRAINT ck CHECK (n > 0) NOT VALID
ALTER TABLE a VALIDATE CONSTRAINT ck
ALTER TABLE a RENAME CONSTRAINT ck TO ck2
ALTER TABLE a DROP CONSTRAINT ck2
ALTER TABLE a SET (fillfactor = 80)
ALTER TABLE a SET (toast.autovacuum_enabled = false)
ALTER TABLE a ENABLE ROW LEVEL SECURITY
ALTER TABLE a FORCE ROW LEVEL SECURITY
ALTER TABLE a REPLICA IDENTITY FULL
ALTER TABLE a OWNER TO other
GRANT SELECT ON a TO other
GRANT SELECT (t) ON a TO plain
ALTER TABLE fk RENAME TO fk2
ALTER TABLE fk2 SET SCHEMA sch
ALTER TABLE sch.fk2 DROP CONSTRAINT fk_a_id_fkey
ALTER TABLE a ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY
ALTER TABLE a ALTER COLUMN id SET GENERATED ALWAYS
CREATE TABLE b (LIKE a INCLUDING ALL)
CREATE TABLE b2 () INHERITS (b)
ALTER TABLE b2 NO INHERIT b
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')
ALTER TABLE p DETACH PARTITION p2
CREATE INDEX ON a (n)
CREATE UNIQUE INDEX ui ON a (n) INCLUDE (t)
ALTER INDEX ui RENAME TO uj
ALTER TABLE a CLUSTER ON ai
ALTER TABLE a REPLICA IDENTITY USING INDEX a_pkey
DROP INDEX uj
ALTER INDEX ai SET (fillfactor = 70)
CREATE OR REPLACE VIEW v AS SELECT id, t, n FROM a
ALTER VIEW v SET (security_barrier = true)
CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'
ALTER FUNCTION f() OWNER TO other
GRANT EXECUTE ON FUNCTION f() TO other
REVOKE EXECUTE ON FUNCTION f() FROM public
REVOKE EXECUTE ON FUNCTION pg_catalog.random() FROM public
CREATE PROCEDURE pr() LANGUAGE sql AS ''
CREATE AGGREGATE agg(int) (sfunc = int4pl, stype = int)
ALTER TYPE e ADD VALUE 'z'
ALTER TYPE e RENAME VALUE 'x' TO 'w'
ALTER DOMAIN dom SET DEFAULT 3
ALTER DOMAIN dom ADD CONSTRAINT dc CHECK (value < 100)
ALTER TYPE comp ADD ATTRIBUTE c int
CREATE TYPE r AS RANGE (subtype = float8)
ALTER SEQUENCE s INCREMENT 5
ALTER SEQUENCE s MAXVALUE 1000
ALTER SEQUENCE s OWNED BY b2.n
ALTER SEQUENCE s OWNED BY NONE
CREATE TRIGGER tr2 AFTER INSERT ON a EXECUTE FUNCTION tf()
ALTER TABLE a DISABLE TRIGGER tr2
DROP TRIGGER tr2 ON a
ALTER POLICY pol ON a USING (id > 0)
CREATE RULE ru AS ON UPDATE TO p DO ALSO NOTHING
COMMENT ON TABLE a IS 'hello'
COMMENT ON COLUMN a.t IS 'hello'
COMMENT ON INDEX ai IS 'hello'
COMMENT ON CONSTRAINT a_pkey ON a IS 'hello'
COMMENT ON DATABASE engine IS 'hello'
COMMENT ON SCHEMA public IS 'hello'
CREATE SCHEMA sch2
GRANT USAGE ON SCHEMA sch TO other
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO other
CREATE STATISTICS st ON id, n FROM a
CREATE COLLATION co (locale = 'C')
CREATE CAST (text AS e) WITH INOUT
CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq)
CREATE OPERATOR FAMILY of1 USING btree
CREATE TEXT SEARCH CONFIGURATION tc (copy = simple)
ALTER TEXT SEARCH CONFIGURATION tc ALTER MAPPING FOR word WITH english_stem
CREATE TEXT SEARCH DICTIONARY td (template = simple)
CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION etf()
CREATE FOREIGN DATA WRAPPER fw
CREATE SERVER srv FOREIGN DATA WRAPPER fw
CREATE USER MAPPING FOR other SERVER srv
CREATE FOREIGN TABLE ft (a int) SERVER srv
ALTER PUBLICATION pu ADD TABLE b
CREATE PUBLICATION pu2 FOR ALL TABLES
ALTER PUBLICATION pu2 SET (publish = 'insert')
CREATE PUBLICATION pu3 FOR TABLES IN SCHEMA sch
ALTER DATABASE engine SET work_mem = '10MB'
CREATE MATERIALIZED VIEW mv2 AS SELECT 1 a WITH NO DATA
CREATE UNLOGGED TABLE ul (a int)
ALTER TABLE ul SET LOGGED
CREATE ACCESS METHOD hp TYPE TABLE HANDLER heap_tableam_handler
ALTER TABLE sch.z ALTER b SET DEFAULT 'q'
ALTER TYPE comp OWNER TO other
CREATE CONVERSION cv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8
CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION x WITH (connect = false)
DROP VIEW v
DROP SCHEMA sch2
""".strip().splitlines()

NO_CHANGES = """
INSERT INTO a (id, t) OVERRIDING SYSTEM VALUE VALUES (5000, 'x')
UPDATE a SET t = t || 'y'
DELETE FROM a WHERE id < 100
SELECT nextval('s')
SELECT setval('sch.z_a_seq', 100)
VACUUM
ANALYZE
VACUUM FULL
VACUUM FREEZE
TRUNCATE p
TRUNCATE a RESTART IDENTITY CASCADE
REINDEX TABLE a
REINDEX TABLE CONCURRENTLY a
CLUSTER a
REFRESH MATERIALIZED VIEW mv
REFRESH MATERIALIZED VIEW CONCURRENTLY mv
CHECKPOINT
SELECT lo_create(0)
SELECT pg_stat_reset()
SET work_mem = '1MB'
CREATE TABLE gone (a serial, b text); DROP TABLE gone
""".strip().splitlines()

TEMPORARY = """
CREATE TEMP TABLE tt (a serial PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> '')); CREATE INDEX ON tt (b);
COMMENT ON TABLE tt IS 'x'; COMMENT ON CONSTRAINT tt_pkey ON tt IS 'x'; COMMENT ON COLUMN tt.a IS 'y';
CREATE TEMP VIEW tv AS SELECT * FROM tt; CREATE FUNCTION pg_temp.ff() RETURNS int LANGUAGE sql AS 'SELECT 1';
COMMENT ON FUNCTION pg_temp.ff() IS 'q'; CREATE TYPE pg_temp.te AS ENUM ('a'); CREATE TYPE pg_temp.tr AS RANGE (subtype = int4);
CREATE TRIGGER ttr BEFORE INSERT ON tt FOR EACH ROW EXECUTE FUNCTION tf(); COMMENT ON TRIGGER ttr ON tt IS 'x';
CREATE TEMP TABLE tc () INHERITS (b); CREATE STATISTICS pg_temp.ss ON a, b FROM tt; COMMENT ON STATISTICS pg_temp.ss IS 'x';
CREATE POLICY tp ON tt USING (true); COMMENT ON POLICY tp ON tt IS 'q'; CREATE RULE rr AS ON UPDATE TO tt DO NOTHING;
COMMENT ON RULE rr ON tt IS 'q'; CREATE DOMAIN pg_temp.dd AS int CHECK (value > 1); COMMENT ON TYPE pg_temp.dd IS 'x';
CREATE AGGREGATE pg_temp.ag(int) (sfunc = int4pl, stype = int); GRANT SELECT ON tt TO other;
CREATE TEMP TABLE tpp (a int) PARTITION BY LIST (a); CREATE TEMP TABLE tpp1 PARTITION OF tpp FOR VALUES IN (1);
CREATE OPERATOR pg_temp.=== (leftarg = int, rightarg = int, function = int4eq); COMMENT ON OPERATOR pg_temp.===(int, int) IS 'x';
CREATE COLLATION pg_temp.cx (locale = 'C'); COMMENT ON COLLATION pg_temp.cx IS 'x'; CREATE CAST (pg_temp.te AS text) WITH INOUT
"""

OURS = """
CREATE SCHEMA salvor_x; CREATE TABLE salvor_x.ddl (a serial PRIMARY KEY, b text); COMMENT ON TABLE salvor_x.ddl IS 'x';
CREATE FUNCTION salvor_x.tg() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; GRANT USAGE ON SCHEMA salvor_x TO other;
CREATE EVENT TRIGGER salvor_x_ddl ON ddl_command_end EXECUTE FUNCTION salvor_x.tg(); COMMENT ON EVENT TRIGGER salvor_x_ddl IS 'x';
CREATE PUBLICATION salvor_x_rows FOR ALL TABLES; CREATE PUBLICATION salvor_x_keys FOR TABLE a;
COMMENT ON PUBLICATION salvor_x_rows IS 'x'; ALTER PUBLICATION salvor_x_keys ADD TABLE b
"""


@contextlib.contextmanager
def watched(server, db):
    """A cursor, and the fingerprint as a superuser and a role without rights see it."""
    with cursor(server, db) as c, Fingerprints(server.conninfo(db)) as by_super, \
            Fingerprints(server.conninfo(db, "plain")) as by_plain:
        c.execute(SCHEMA)

        def now():
            digest = by_super.now()
            assert by_plain.now() == digest
            return digest

        yield c, now


def test_fingerprint_sees_changes_of_the_schema(server, db):
    with watched(server, db) as (c, now):
        before = now()
        for statement in CHANGES:
            c.execute(statement)
            after = now()
            assert after != before, statement
            before = after
        c.execute("ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub")


def test_fingerprint_stays_without_changes(server, db):
    with watched(server, db) as (c, now):
        c.execute("CREATE TABLE b (n int); ALTER TABLE a CLUSTER ON ai")
        before = now()
        for statement in NO_CHANGES:
            c.execute(statement)
            assert now() == before, statement
        with cursor(server, db) as temporary:
            for statement in TEMPORARY.split(";"):
                temporary.execute(statement)
                assert now() == before, statement
        assert now() == before
        for statement in OURS.split(";"):
            c.execute(statement)
            assert now() == before, statement


def test_rows_written_anew_count_where_no_command_is_recorded(server, db):
    """Both of Salvor's event triggers are on, and no publication for all tables of somebody else's keeps them from recording."""
    with watched(server, db) as (c, now):
        def seen():
            before = now()
            c.execute("ALTER TABLE fk ALTER COLUMN a_id TYPE int USING a_id + 0")
            return now() != before
        c.execute("ALTER TABLE fk DROP CONSTRAINT fk_a_id_fkey; CREATE SCHEMA salvor_x; CREATE FUNCTION salvor_x.tg() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
        for name, event in (("ddl", "ddl_command_end"), ("drop", "sql_drop")):
            assert seen()
            c.execute(f"CREATE EVENT TRIGGER salvor_x_{name} ON {event} EXECUTE FUNCTION salvor_x.tg(); ALTER EVENT TRIGGER salvor_x_{name} ENABLE ALWAYS")
        assert not seen()
        c.execute("ALTER EVENT TRIGGER salvor_x_ddl DISABLE")
        assert seen()
        c.execute("ALTER EVENT TRIGGER salvor_x_ddl ENABLE ALWAYS; CREATE PUBLICATION salvor_x_rows FOR ALL TABLES")
        assert not seen()
        c.execute("CREATE PUBLICATION theirs FOR ALL TABLES")
        assert seen()


THERE_AND_BACK = """
ALTER VIEW v RENAME TO w; ALTER VIEW w RENAME TO v
ALTER TABLE a RENAME TO aa; ALTER TABLE aa RENAME TO a
ALTER TABLE a RENAME COLUMN t TO tt; ALTER TABLE a RENAME COLUMN tt TO t
ALTER FUNCTION f() RENAME TO ff; ALTER FUNCTION ff() RENAME TO f
ALTER TYPE e RENAME TO ee; ALTER TYPE ee RENAME TO e
ALTER TYPE e RENAME VALUE 'x' TO 'xx'; ALTER TYPE e RENAME VALUE 'xx' TO 'x'
ALTER SCHEMA sch RENAME TO sch0; ALTER SCHEMA sch0 RENAME TO sch
CREATE OR REPLACE VIEW v AS SELECT id, t FROM a WHERE n > 0; CREATE OR REPLACE VIEW v AS SELECT id, t FROM a
ALTER TABLE a RENAME CONSTRAINT a_pkey TO k; ALTER TABLE a RENAME CONSTRAINT k TO a_pkey
ALTER TABLE sch.z SET SCHEMA public; ALTER TABLE z SET SCHEMA sch
ALTER STATISTICS st RENAME TO st0; ALTER STATISTICS st0 RENAME TO st
ALTER TEXT SEARCH CONFIGURATION tc RENAME TO tc0; ALTER TEXT SEARCH CONFIGURATION tc0 RENAME TO tc
ALTER TEXT SEARCH DICTIONARY td RENAME TO td0; ALTER TEXT SEARCH DICTIONARY td0 RENAME TO td
ALTER TEXT SEARCH PARSER tp RENAME TO tp0; ALTER TEXT SEARCH PARSER tp0 RENAME TO tp
ALTER TEXT SEARCH TEMPLATE tt RENAME TO tt0; ALTER TEXT SEARCH TEMPLATE tt0 RENAME TO tt
""".strip().splitlines()

MORE = """
CREATE STATISTICS st ON id, n FROM a; CREATE TEXT SEARCH CONFIGURATION tc (copy = simple); CREATE TEXT SEARCH DICTIONARY td (template = simple);
CREATE TEXT SEARCH TEMPLATE tt (lexize = dsimple_lexize);
CREATE TEXT SEARCH PARSER tp (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype)
"""

# The last command of each also writes the row as one does that changes nothing.
INDEXES_THERE_AND_BACK = """
ALTER INDEX ai RENAME TO aj; ALTER INDEX aj RENAME TO ai
ALTER INDEX ai SET (fillfactor = 70); ALTER INDEX ai RESET (fillfactor)
ALTER INDEX ai RENAME TO aj; ALTER INDEX aj RENAME TO ai; REINDEX INDEX ai
REINDEX INDEX ai; ALTER INDEX ai RENAME TO aj; ALTER INDEX aj RENAME TO ai
DROP INDEX ai; CREATE INDEX ai ON a (t)
ALTER INDEX p_pkey RENAME TO pk; ALTER INDEX pk RENAME TO p_pkey
ALTER SEQUENCE s RENAME TO s0; ALTER SEQUENCE s0 RENAME TO s
ALTER SEQUENCE s SET SCHEMA sch; ALTER SEQUENCE sch.s SET SCHEMA public
ALTER SEQUENCE sch.z_a_seq RENAME TO z0; ALTER SEQUENCE sch.z0 RENAME TO z_a_seq; TRUNCATE sch.z RESTART IDENTITY
""".strip().splitlines()


def test_what_was_changed_and_changed_back_has_another_stamp(server, db):
    with cursor(server, db) as c, Fingerprints(server.conninfo(db)) as by:
        c.execute(SCHEMA + MORE)
        for statement in THERE_AND_BACK:
            before = by.now(), by.stamp
            there, back = statement.split("; ")
            c.execute(there)
            c.execute(back)
            by.now()
            assert by.stamp != before[1], statement
        c.execute("CREATE TABLE b (n int); ALTER TABLE a CLUSTER ON ai")
        by.now()
        stamp = by.stamp
        for statement in [*NO_CHANGES, *TEMPORARY.split(";")]:
            c.execute(statement)
            by.now()
            assert by.stamp == stamp or "CONCURRENTLY" in statement, statement
            stamp = by.stamp


def test_indexes_and_sequences_that_were_changed_and_changed_back(server, db):
    with cursor(server, db) as c, Indexes(server.conninfo(db)) as indexes:
        c.execute(SCHEMA)
        assert indexes.same()  # what the snapshot does not see is not dumped
        for statement in INDEXES_THERE_AND_BACK:
            for command in statement.split("; "):
                c.execute(command)
            assert not indexes.same(), statement
        c.execute("CREATE TABLE b (n int); ALTER TABLE a CLUSTER ON ai")
        for failed in ("ALTER INDEX ai RENAME TO aj", "ALTER SEQUENCE s RENAME TO s0", "REINDEX INDEX ai"):
            c.execute(f"BEGIN; {failed}; ROLLBACK")
            assert indexes.same(), failed
        for statement in [*NO_CHANGES, *TEMPORARY.split(";"), "BEGIN; ALTER INDEX ai RENAME TO open"]:
            if not statement.startswith("REINDEX TABLE CONCURRENTLY"):  # waits for the snapshot to be gone
                c.execute(statement)
                assert indexes.same(), statement


def test_fingerprint_does_not_wait_for_locks(server, db):
    with watched(server, db) as (c, now):
        before = now()
        with cursor(server, db, autocommit=False) as other:
            other.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE; ALTER TABLE a ADD COLUMN y int")
            assert now() == before


# --- the catalogue's tables against the stream's relations

TABLES = """
CREATE SCHEMA "S ü"; SET search_path = "S ü";
CREATE TYPE e AS ENUM ('x', 'y'); CREATE DOMAIN dom AS int CHECK (value > 0); CREATE TYPE comp AS (a int, b text);
CREATE TABLE pk (id int PRIMARY KEY, t varchar(30));
CREATE TABLE nopk (a int, b text);
CREATE TABLE ful (a int, b text); ALTER TABLE ful REPLICA IDENTITY FULL;
CREATE TABLE fulpk (a int PRIMARY KEY, b text); ALTER TABLE fulpk REPLICA IDENTITY FULL;
CREATE TABLE noth (a int PRIMARY KEY); ALTER TABLE noth REPLICA IDENTITY NOTHING;
CREATE TABLE defer (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE idx (a int PRIMARY KEY, b int NOT NULL); CREATE UNIQUE INDEX idx_i ON idx (b);
ALTER TABLE idx REPLICA IDENTITY USING INDEX idx_i;
CREATE TABLE idxdrop (a int PRIMARY KEY, b int NOT NULL); CREATE UNIQUE INDEX ii ON idxdrop (b);
ALTER TABLE idxdrop REPLICA IDENTITY USING INDEX ii; DROP INDEX ii;
CREATE TABLE inc (b int, a int NOT NULL, c int NOT NULL); CREATE UNIQUE INDEX inc_i ON inc (a, c) INCLUDE (b);
ALTER TABLE inc REPLICA IDENTITY USING INDEX inc_i;
CREATE TABLE incpk (b int, a int, c int, PRIMARY KEY (c, a) INCLUDE (b));
CREATE TABLE gen (a int, g int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (g));
CREATE TABLE gen2 (a int, g int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (a, g));
CREATE TABLE gen3 (g int GENERATED ALWAYS AS (a * 2) STORED, a int PRIMARY KEY, b int);
CREATE TABLE dro (a int, b int, c text PRIMARY KEY); ALTER TABLE dro DROP COLUMN a; ALTER TABLE dro ADD z numeric(10,2);
CREATE TABLE typs (a dom PRIMARY KEY, b e, c comp, d int[], e numeric(8,3), f timestamp(3), g varchar(7), h bit(5),
    i interval day to second(2), j char(3), k int4range, l uuid, m tstzrange, "Ödd ""name" text);
CREATE TABLE par (id int, d int, PRIMARY KEY (id, d)) PARTITION BY LIST (d);
CREATE TABLE par1 PARTITION OF par FOR VALUES IN (1);
CREATE TABLE par2 (d int NOT NULL, x int, id int NOT NULL); ALTER TABLE par2 DROP COLUMN x;
ALTER TABLE par ATTACH PARTITION par2 FOR VALUES IN (2);
CREATE TABLE inh (a int PRIMARY KEY); CREATE TABLE inhc (b int) INHERITS (inh); ALTER TABLE inhc ADD PRIMARY KEY (a, b);
CREATE TABLE nocol (); CREATE TABLE onlygen (g int GENERATED ALWAYS AS (5) STORED); CREATE TABLE typed OF comp;
CREATE TABLE "Odd ""T" ("a""b" int PRIMARY KEY);
CREATE TABLE multi (x text, y uuid, z date, PRIMARY KEY (z, x));
CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY);
CREATE PUBLICATION salvor_x_rows FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION salvor_x_keys FOR TABLE pk WITH (publish = 'update, delete');
"""

ROWS = """
INSERT INTO pk VALUES (1); INSERT INTO nopk VALUES (1); INSERT INTO ful VALUES (1); INSERT INTO fulpk VALUES (1);
INSERT INTO noth VALUES (1); INSERT INTO defer VALUES (1); INSERT INTO idx VALUES (1, 1); INSERT INTO idxdrop VALUES (1, 2);
INSERT INTO inc VALUES (1, 2, 3); INSERT INTO incpk VALUES (1, 2, 3); INSERT INTO gen VALUES (1); INSERT INTO gen2 VALUES (1);
INSERT INTO gen3 (a) VALUES (1); INSERT INTO dro VALUES (1, 'c', 3); INSERT INTO typs (a) VALUES (1);
INSERT INTO par VALUES (1, 1), (2, 2); INSERT INTO inh VALUES (1); INSERT INTO inhc VALUES (1, 2);
INSERT INTO nocol DEFAULT VALUES; INSERT INTO onlygen DEFAULT VALUES; INSERT INTO typed VALUES (1, '2');
INSERT INTO "Odd ""T" VALUES (1); INSERT INTO multi VALUES ('x', gen_random_uuid(), now()); INSERT INTO unlogged VALUES (1);
SELECT pg_logical_emit_message(true, 'end', '')
"""

NONE, KEY, FULL = 0, 1, 2
# identity as the stream shows it, and whether that identifies a row
EXPECTED = {"pk": (KEY, True), "nopk": (NONE, False), "ful": (FULL, False), "fulpk": (FULL, False), "noth": (NONE, False),
            "defer": (NONE, False), "idx": (KEY, True), "idxdrop": (NONE, False), "inc": (KEY, True), "incpk": (KEY, True),
            "gen": (NONE, False), "gen2": (KEY, False), "gen3": (KEY, True), "dro": (KEY, True), "typs": (KEY, True),
            "par1": (KEY, True), "par2": (KEY, True), "inh": (KEY, True), "inhc": (KEY, True), "nocol": (NONE, False),
            "onlygen": (NONE, False), "typed": (NONE, False), 'Odd "T': (KEY, True), "multi": (KEY, True)}


@pytest.fixture
def streamed(server, db):
    with cursor(server, db) as c:
        c.execute(TABLES)
        c.execute("SELECT pg_create_logical_replication_slot('salvor_x', 'pgoutput')")
        c.execute(ROWS)
        yield c


STREAM = ["salvor_x", "salvor_x_rows", "salvor_x_keys"]


def test_catalogue_has_the_shapes_of_the_stream(server, db, streamed):
    seen = engine("shapes", server.conninfo(db), *STREAM)
    assert {s["table"]: (s["identity"], s["keyed"]) for s in seen} == EXPECTED
    assert [s["table"] for s in seen if not s["same"]] == []


def test_flushed_position_reaches_the_slot(server, db, streamed):
    before = engine("slot", server.conninfo(db), "salvor_x")[0]
    engine("shapes", server.conninfo(db), *STREAM)
    deadline = time.monotonic() + 60
    while engine("slot", server.conninfo(db), "salvor_x")[0]["confirmed_flush"] <= before["confirmed_flush"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_start_says_what_is_wrong_with_the_slot(server, db, streamed):
    streamed.execute("SELECT pg_create_physical_replication_slot('physical')")
    for slot, said in [("absent", "does not exist"), ("physical", "not of the plugin pgoutput")]:
        [refused] = engine("start", server.conninfo(db), slot, *STREAM[1:])
        assert refused["error"] == "CONTINUITY" and said in refused["message"]
    server.sql("CREATE DATABASE elsewhere")
    try:
        [refused] = engine("start", server.conninfo("elsewhere"), *STREAM)
        assert refused["error"] == "CONTINUITY" and "another database" in refused["message"]
    finally:
        server.sql("DROP DATABASE elsewhere WITH (FORCE)")


def test_slot_is_told_from_none(server, db, streamed):
    [slot] = engine("slot", server.conninfo(db), "salvor_x")
    assert (slot["exists"], slot["active"], slot["invalidated"], slot["plugin"], slot["database"]) == \
        (True, False, False, "pgoutput", db)
    assert 0 < slot["safe_bytes"] and not slot["unlimited"]
    assert not engine("slot", server.conninfo(db), "none")[0]["exists"]


def test_temporary_slot_snapshot(server, db):
    [made] = engine("snapshot", server.conninfo(db), "tmp", 5000)
    assert made["consistent_point"] > 0 and made["snapshot"]
    with cursor(server, db, autocommit=False) as open_transaction:
        open_transaction.execute("CREATE TABLE x ()")
        alive, late = engine("snapshot", server.conninfo(db), "tmp", 800)
        assert alive["alive"] and late["error"] == "TIMEOUT" and "older transactions" in late["message"]


# --- COPY

@pytest.mark.parametrize("table", ["pk", "nopk", "typs", "gen3", "dro", "nocol", "onlygen", 'Odd "T'])
def test_copy_carries_rows_over(server, db, streamed, table):
    c = streamed
    quoted, to = '"' + table.replace('"', '""') + '"', "copied"
    c.execute(f"CREATE TABLE {to} (LIKE {quoted} INCLUDING ALL)")
    [done] = engine("copy", server.conninfo(db), "S ü", table, to, "end", 0)
    assert done["rows"] == 1
    c.execute(f"(TABLE {quoted} EXCEPT ALL TABLE {to}) UNION ALL (TABLE {to} EXCEPT ALL TABLE {quoted})")
    assert c.fetchall() == []


def test_copy_of_block_ranges_and_odd_bytes(server, db):
    with cursor(server, db) as c:
        c.execute(r"CREATE TABLE t (id int, x text); CREATE TABLE u (LIKE t)")
        c.execute(r"INSERT INTO t SELECT g, CASE g % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'a\tb\nc\\d\r\b\f\v'"
                  r" WHEN 3 THEN '\N' ELSE repeat('ü', 500) END FROM generate_series(1, 20000) g")
        for block_from, block_to in [(0, 10), (10, 11), (11, "end")]:
            engine("copy", server.conninfo(db), "public", "t", "u", block_from, block_to)
        c.execute("(TABLE t EXCEPT ALL TABLE u) UNION ALL (TABLE u EXCEPT ALL TABLE t)")
        assert c.fetchall() == []
        c.execute("SELECT count(*) FROM u")
        assert c.fetchone() == (20000,)


def test_copy_leaves_inheritance_children_out(server, db):
    with cursor(server, db) as c:
        c.execute("CREATE TABLE t (id int); CREATE TABLE child () INHERITS (t); CREATE TABLE u (LIKE t)")
        c.execute("INSERT INTO t VALUES (1); INSERT INTO child VALUES (2)")
        for block_from in ["end", 0]:
            assert engine("copy", server.conninfo(db), "public", "t", "u", block_from, "end")[0]["rows"] == 1


def test_failed_load_names_the_place_and_not_the_value(server, db):
    with cursor(server, db) as c:
        c.execute("CREATE TABLE t (id text); CREATE TABLE u (id int)")
        c.execute("INSERT INTO t SELECT CASE g WHEN 7 THEN 'secret' ELSE g::text END FROM generate_series(1, 10) g")
        [failed] = engine("copy", server.conninfo(db), "public", "t", "u", "end", 0)
        assert failed["error"] == "SERVER" and failed["sqlstate"] == "22P02"
        assert "line 7" in failed["message"] and "(COPY u, line 7, column id)" in failed["message"]


# --- sequences and properties

def test_sequences_are_read_as_they_are(server, db):
    with cursor(server, db) as c:
        c.execute("CREATE SEQUENCE fresh START 7; CREATE SEQUENCE used; CREATE SEQUENCE reset; CREATE SEQUENCE down INCREMENT -3;"
                  "CREATE UNLOGGED SEQUENCE volatile; CREATE TABLE t (id serial)")
        c.execute("SELECT nextval('used'), nextval('used'), setval('reset', 100, false), nextval('down')")
    got = {s.pop("name"): tuple(s.values()) for s in engine("sequences", server.conninfo(db))}
    assert got == {"fresh": (1, False, 7), "used": (1, True, 2), "reset": (1, False, 100), "down": (-3, True, -1),
                   "t_id_seq": (1, False, 1)}
    assert engine("sequences", server.conninfo(db, "plain")) == []


def test_more_sequences_than_one_query_takes(server, db):
    with cursor(server, db) as c:
        c.execute("DO $$ BEGIN FOR i IN 1..1201 LOOP EXECUTE format('CREATE SEQUENCE s%s START %s', i, i); END LOOP; END $$")
    assert sorted(s["last_value"] for s in engine("sequences", server.conninfo(db))) == list(range(1, 1202))


def test_what_cannot_be_kept_is_said(server, db):
    assert engine("unprotected", server.conninfo(db)) == [[]]
    with cursor(server, db) as c:
        c.execute("CREATE UNLOGGED TABLE ul (a int); CREATE MATERIALIZED VIEW mv AS SELECT 1 a; SELECT lo_create(0)")
        c.execute("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'; CREATE TABLE gen (a int, own int GENERATED ALWAYS AS (f(a)) STORED, plain int GENERATED ALWAYS AS (a + 1) STORED)")
        c.execute("DO $$ BEGIN FOR i IN 10..30 LOOP EXECUTE format('CREATE UNLOGGED SEQUENCE us%s', i); END LOOP; END $$")
    [sentences] = engine("unprotected", server.conninfo(db, "plain"))
    assert [s.split(" (")[0] for s in sentences] == ["1 unlogged table", "21 unlogged sequences", "1 materialized view",
                                                    "1 generated column with functions of your own", "1 large object"]
    assert "(public.gen.own)" in sentences[3]
    assert "public.us19, ...)" in sentences[1]


def test_properties_of_the_database(server, db):
    server.sql(f"ALTER DATABASE {db} SET work_mem = '5MB'; ALTER ROLE plain IN DATABASE {db} SET statement_timeout = '1s'")
    server.sql(f"COMMENT ON DATABASE {db} IS 'Übung'; GRANT CREATE ON DATABASE {db} TO other WITH GRANT OPTION")
    [p] = engine("properties", server.conninfo(db, "plain"))
    assert (p["database"], p["encoding"], p["owner"], p["comment"]) == (db, "UTF8", "postgres", "Übung")
    assert (p["collate"], p["provider"], p["checksums"], p["connection_limit"]) == ("C.UTF-8", "libc", False, -1)
    assert p["settings"] == [{"role": None, "setting": "work_mem=5MB"}, {"role": "plain", "setting": "statement_timeout=1s"}]
    assert {"grantee": "other", "public": False, "privilege": "CREATE", "grantable": True} in p["grants"]
    assert [e["name"] for e in p["extensions"]] == ["plpgsql"]


def test_database_that_is_not_utf8(server):
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        server.sql("CREATE UNLOGGED TABLE \"Größe\" (a int)", dbname="latin")
        conninfo = server.conninfo("latin")
        assert engine("unprotected", conninfo)[0][0].startswith('1 unlogged table (public."Größe")')
        for kind in ["sql", "replication"]:
            assert values(engine("session", kind, conninfo, 5000, "SHOW client_encoding")) == ["LATIN1"]
    finally:
        server.sql("DROP DATABASE latin WITH (FORCE)")
