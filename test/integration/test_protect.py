"""Protecting a source: its applications never notice, whatever they do to their tables."""
import contextlib
import shutil
import subprocess
import threading
import time

import psycopg2
import psycopg2.extensions
import pytest

from pgserver import PgServer
from protecttool import ToolError, decode, tool, tool_run

SUPER, APP, SALVOR = "postgres", "app", "salvor"
pytestmark = pytest.mark.xdist_group("protect")


@pytest.fixture(scope="module")
def server():
    with PgServer() as s:
        s.start()
        s.sql("CREATE ROLE app LOGIN")
        s.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS")
        s.sql("GRANT pg_read_all_data TO salvor")
        yield s


class Shop:
    """A database of an application, with its own unprivileged owner, that is or will be protected."""

    def __init__(self, server, owner=APP):
        self.server = server
        self.owner = owner
        self.open = []
        self.drop()
        server.sql(f"CREATE DATABASE shop OWNER {owner}")
        self.sql("ALTER SCHEMA public OWNER TO " + owner)

    def drop(self):
        for c in self.open:
            c.close()
        self.open = []
        self.server.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        deadline = time.monotonic() + 60
        while self.server.value("SELECT count(*) FROM pg_replication_slots WHERE active") and time.monotonic() < deadline:
            time.sleep(0.05)
        self.server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        for gid, in self.server.sql("SELECT gid FROM pg_prepared_xacts", dbname="postgres"):
            self.server.sql("ROLLBACK PREPARED %s", gid, dbname="shop")
        self.server.sql("DROP DATABASE IF EXISTS shop WITH (FORCE)")

    def connect(self, user=APP, **options):
        c = self.server.connect("shop", user, **options)
        self.open.append(c)
        return c

    def session(self, user=APP, isolation=None):
        """A cursor; with an isolation level not in autocommit."""
        c = self.connect(user, autocommit=isolation is None)
        if isolation is not None:
            c.set_isolation_level(isolation)
        return c.cursor()

    def sql(self, text, *params, user=SUPER):
        return self.server.sql(text, *params, dbname="shop", user=user)

    def app(self, text, *params):
        return self.sql(text, *params, user=APP)

    # -- protection

    def arguments(self, admin=True, **more):
        found = {"conninfo": self.server.conninfo("shop", SALVOR if self.owner == APP else self.owner), **more}
        if admin:
            found["admin"] = self.server.conninfo("shop", SUPER)
        return found

    def setup(self, admin=True, **more):
        result = tool("setup", **self.arguments(admin, **more))
        self.changes()
        return result

    def poll(self, **more):
        return {c["table"]: c["reason"] for c in tool("poll", **self.arguments(False, **more))}

    def listed(self, publication="keys"):
        return [r[0] for r in self.sql(f"SELECT relid::regclass::text FROM pg_get_publication_tables('salvor_shop_{publication}') "
                                       "WHERE relid::regclass::text NOT LIKE 'salvor%' ORDER BY 1")]

    def changes(self):
        """Events since the last call, without the records of schema changes."""
        return [c for c in self.stream() if c[0] in "IUDT" and c[1] != "salvor_shop.ddl"]

    def stream(self):
        return decode(self.sql("SELECT data FROM pg_logical_slot_get_binary_changes('salvor_shop', NULL, NULL, 'proto_version', '1', "
                               "'publication_names', 'salvor_shop_rows,salvor_shop_keys')"))

    def records(self):
        """(tag, object, detail) of the schema changes since the last call."""
        return [tuple(c[3][2:5]) for c in self.stream() if c[0] == "I" and c[1] == "salvor_shop.ddl"]

    def residue(self):
        """Everything of Salvor's in database and server."""
        found = self.sql("SELECT 'publication ' || pubname FROM pg_publication WHERE pubname LIKE 'salvor%' "
                         "UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'salvor%' "
                         "UNION ALL SELECT 'trigger ' || evtname FROM pg_event_trigger WHERE evtname LIKE 'salvor%' "
                         "UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name LIKE 'salvor%'")
        return sorted(r[0] for r in found)


@pytest.fixture
def bare(server):
    shop = Shop(server)
    yield shop
    shop.drop()


@pytest.fixture
def shop(bare):
    """Protected, in trigger mode."""
    assert bare.setup()["mode"] == "triggers"
    return bare


@pytest.fixture
def listed_shop(server):
    """The source's role owns everything and is no superuser: list mode."""
    server.sql("DO $$ BEGIN CREATE ROLE owner LOGIN REPLICATION BYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    s = Shop(server, owner="owner")
    yield s
    s.drop()


WRITES = ("INSERT INTO {t} (id, v) VALUES (1, 1), (2, 2)", "UPDATE {t} SET v = 9 WHERE id = 1", "DELETE FROM {t} WHERE id = 2",
          "MERGE INTO {t} USING (VALUES (1)) s (i) ON {t}.id = s.i WHEN MATCHED THEN UPDATE SET v = 10", "UPDATE {t} SET v = v + 1",
          "TRUNCATE {t}")


def write(cursor, table="t", truncate=True):
    """Everything that a writer does; none of it may fail."""
    for statement in WRITES if truncate else (*WRITES[:-1], "DELETE FROM {t}"):
        cursor.execute(statement.format(t=table))


# -- tables made and altered later: their writers never see an error ----------------------------------------------------


@pytest.mark.parametrize("ddl, captured", [
    ("CREATE TABLE t (id int PRIMARY KEY, v int)", True),
    ("CREATE TABLE t (id int, v int)", False),
    ("CREATE TABLE t AS SELECT 0 AS id, 0 AS v", False),
    ("SELECT 0 AS id, 0 AS v INTO t", False),
    ("CREATE TABLE o (id int PRIMARY KEY, v int); CREATE TABLE t (LIKE o INCLUDING ALL)", True),
    ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v int)", False),
    ("CREATE TABLE t (id int PRIMARY KEY INITIALLY DEFERRED DEFERRABLE, v int)", False),
    ("CREATE TABLE t (id int, v int, g int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY)", False),
    ("CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v int)", True),
    ("CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t DROP CONSTRAINT t_pkey", False),
    ("CREATE TABLE t (k int PRIMARY KEY DEFAULT 0, id int, v int); ALTER TABLE t DROP COLUMN k", False),
    ("CREATE DOMAIN d AS int; CREATE TABLE t (k d PRIMARY KEY DEFAULT 0, id int, v int); DROP DOMAIN d CASCADE", False),
    ("CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX i ON t (id); ALTER TABLE t REPLICA IDENTITY USING INDEX i", True),
    ("CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX i ON t (id); ALTER TABLE t REPLICA IDENTITY USING INDEX i; "
     "DROP INDEX i", False),
    ("CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY NOTHING", False),
    ("CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY NOTHING; ALTER TABLE t REPLICA IDENTITY DEFAULT", True),
    ("CREATE TABLE t (id int, v int); ALTER TABLE t REPLICA IDENTITY FULL", True),
    ("CREATE TABLE t (id int, v int); ALTER TABLE t ADD PRIMARY KEY (id)", True),
    ("CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t SET UNLOGGED", False),
    ("CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t SET UNLOGGED; ALTER TABLE t SET LOGGED", True),
    ("CREATE TABLE t (id int PRIMARY KEY, v int); DO $$ BEGIN EXECUTE 'alter table ' || 't set unlogged'; END $$", False),
    ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v int)", False),
    ("CREATE TABLE o (id int PRIMARY KEY, v int); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (o)", True),
    ("CREATE TABLE o (id int PRIMARY KEY, v int); CREATE TABLE t () INHERITS (o)", False),
    ("CREATE TYPE y AS (id int, v int); CREATE TABLE t OF y (PRIMARY KEY (id))", True),
    ("CREATE TABLE x (id int PRIMARY KEY, v int); ALTER TABLE x RENAME TO t", True),
    ("CREATE SCHEMA s CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE s.t SET SCHEMA public", True),
    ("CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t ALTER id TYPE bigint", True),
    ("CREATE TABLE t (id int PRIMARY KEY, v int) ; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)", True),
])
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_writers_of_later_tables_never_fail(shop, ddl, captured, role):
    c = shop.session()
    if role == "replica":
        s = shop.session(SUPER)
        s.execute("GRANT SET ON PARAMETER session_replication_role TO app")
        c.execute("SET session_replication_role = replica")
    c.execute(ddl)
    write(c)
    assert ("t" in shop.listed()) == captured
    seen = [x[0] for x in shop.changes() if x[1] in ("public.t", ["public.t"])]
    unlogged = shop.sql("SELECT relpersistence = 'u' FROM pg_class WHERE relname = 't'")[0][0]
    if unlogged:
        assert not seen
    elif captured:
        assert seen == list("IIUDUUT")
    else:
        assert [k for k in seen if k in "UD"] == [] and seen.count("T") == 1


@pytest.mark.parametrize("isolation", [psycopg2.extensions.ISOLATION_LEVEL_READ_COMMITTED,
                                       psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ,
                                       psycopg2.extensions.ISOLATION_LEVEL_SERIALIZABLE])
def test_writers_inside_the_changing_transaction(shop, isolation):
    c = shop.session(isolation=isolation)
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    write(c)
    c.execute("ALTER TABLE t DROP CONSTRAINT t_pkey")
    write(c)
    c.execute("SAVEPOINT a")
    c.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    write(c)
    c.execute("ROLLBACK TO a")
    write(c)
    c.connection.commit()
    assert shop.listed() == []
    # A schema change is known at its place: what came before it was captured in full.
    kinds = [x[0] if x[1] != "salvor_shop.ddl" else x[3][4] for x in shop.stream() if x[0] in "IUDT"]
    assert kinds == ["listed: public.t; ", *"IIUDUUT", "unlisted: public.t; ", "", *"IIT", *"IIT"]


def test_partitions(shop):
    c = shop.session()
    c.execute("CREATE TABLE p (id int, d int, v int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d)")
    c.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)")
    c.execute("CREATE TABLE p2 (id int NOT NULL, d int NOT NULL, v int)")
    assert shop.listed() == ["p1"]
    c.execute("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)")
    assert shop.listed() == ["p1", "p2"]
    c.execute("INSERT INTO p VALUES (1, 1, 0); UPDATE p SET d = 11; UPDATE p SET v = 5; DELETE FROM p; TRUNCATE p")
    found = [(x[0], x[1]) for x in shop.changes()]
    assert found[:5] == [("I", "public.p1"), ("D", "public.p1"), ("I", "public.p2"), ("U", "public.p2"), ("D", "public.p2")]
    assert found[5][0] == "T" and {"public.p1", "public.p2"} <= set(found[5][1])
    c.execute("ALTER TABLE p DROP CONSTRAINT p_pkey")
    c.execute("INSERT INTO p VALUES (1, 1, 0); UPDATE p SET d = 11; DELETE FROM p")
    assert shop.listed() == []
    c.execute("ALTER TABLE p ADD PRIMARY KEY (id, d)")
    assert shop.listed() == ["p1", "p2"]
    c.execute("ALTER TABLE p DETACH PARTITION p1")
    c.execute("ALTER TABLE p DETACH PARTITION p2 CONCURRENTLY")
    c.execute("INSERT INTO p1 VALUES (1, 1, 0); UPDATE p1 SET v = 2; DELETE FROM p1")
    assert shop.listed() == ["p1", "p2"]
    shop.changes()
    c.execute("INSERT INTO p2 VALUES (1, 11, 0); UPDATE p2 SET v = 2")
    assert [x[:2] for x in shop.changes()] == [("I", "public.p2"), ("U", "public.p2")]
    c.execute("DROP TABLE p1, p2, p")
    assert shop.listed() == []


def test_commands_that_cannot_fail_or_run_in_a_transaction(shop):
    c = shop.session()
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE INDEX j ON t (v)")
    for statement in ("CREATE INDEX CONCURRENTLY i ON t (v)", "REINDEX INDEX CONCURRENTLY i", "REINDEX TABLE CONCURRENTLY t",
                      "DROP INDEX CONCURRENTLY i", "VACUUM FULL t", "CLUSTER t USING t_pkey", "VACUUM t", "ANALYZE t", "REINDEX TABLE t",
                      "CREATE MATERIALIZED VIEW m AS SELECT * FROM t", "CREATE UNIQUE INDEX ON m (id)",
                      "REFRESH MATERIALIZED VIEW m", "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
                      "CREATE TABLE IF NOT EXISTS t (id int)", "CREATE INDEX IF NOT EXISTS j ON t (v)", "COMMENT ON TABLE t IS 'x'",
                      "CREATE TEMP TABLE tt (id int PRIMARY KEY)", "INSERT INTO tt VALUES (1)", "UPDATE tt SET id = 2",
                      "ALTER TABLE tt DROP CONSTRAINT tt_pkey", "DROP TABLE tt", "CREATE SEQUENCE q", "ALTER TABLE t ADD g int",
                      "ALTER INDEX t_pkey RENAME TO t_key"):
        c.execute(statement)
        write(c)
        assert shop.listed() == ["t"], statement


def test_what_is_recorded_and_what_is_not(shop):
    c = shop.session()
    c.execute("CREATE TEMP TABLE tt (id int PRIMARY KEY, v int); DROP TABLE tt")
    c.execute("CREATE TABLE t (id int PRIMARY KEY)")
    c.execute("CREATE TABLE IF NOT EXISTS t (id int)")
    c.execute("CREATE MATERIALIZED VIEW m AS SELECT * FROM t")
    c.execute("REFRESH MATERIALIZED VIEW m")
    c.execute("BEGIN; CREATE TABLE gone (id int); ROLLBACK")
    c.execute("DROP MATERIALIZED VIEW m")
    c.execute("DROP TABLE t")
    assert [(tag, detail) for tag, _, detail in shop.records()] == [
        ("CREATE TABLE", "listed: public.t; "), ("CREATE MATERIALIZED VIEW", ""), ("DROP MATERIALIZED VIEW", ""), ("DROP TABLE", "")]
    # The table of records stays empty, and nobody else may write it.
    assert shop.sql("SELECT count(*) FROM salvor_shop.ddl") == [(0,)]
    for user in (APP, SALVOR):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            shop.sql("INSERT INTO salvor_shop.ddl VALUES (1, now(), 'CREATE TABLE', 'x', '')", user=user)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            shop.sql("SELECT salvor_shop.note('CREATE TABLE', 'x', '', '')", user=user)
    shop.sql("GRANT pg_write_all_data TO app")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        shop.sql("INSERT INTO salvor_shop.ddl VALUES (1, now(), 'CREATE TABLE', 'x', '')", user=APP)
    shop.sql("REVOKE pg_write_all_data FROM app")


def test_nobody_passes_for_salvor_itself(shop):
    """Salvor's own commands are not recorded; they are known by what calls them, and an application's text may say so, too."""
    called = 'PL/pgSQL function salvor_shop.change(oid,text) line 9 at EXECUTE'
    shop.app("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TYPE e AS ENUM ('a'); CREATE INDEX i ON t (v)")
    shop.records()
    commands = [f"ALTER TABLE t ALTER v TYPE text USING v || 'x' -- {called}", f"DROP TYPE e /* {called} */", f"COMMENT ON TABLE t IS '{called}'", f"DROP INDEX i -- {called}",
                f'ALTER TABLE ONLY public.t /* REPLICA IDENTITY FULL"\n{called}\n*/ ADD w int']
    for command in commands:
        shop.app("DO $do$ BEGIN EXECUTE $ex$" + command + "$ex$; END $do$")
    assert [tag for tag, _, _ in shop.records()] == ["ALTER TABLE", "DROP TYPE", "COMMENT", "DROP INDEX", "ALTER TABLE"]
    shop.app("ALTER TABLE t REPLICA IDENTITY FULL")
    assert [tag for tag, _, _ in shop.records()] == ["ALTER TABLE"]


def test_the_applications_own_dump_still_works(shop):
    """By a role that is no superuser and has nothing to do with Salvor."""
    shop.app("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
    for options in ((), ("--schema-only",), ("-Fd", "-j", "2", "-f", "/tmp/salvor-test-dump-%d" % shop.server.port)):
        done = subprocess.run([shop.server.bin + "/pg_dump", "-d", shop.server.conninfo("shop", APP), *options],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    shutil.rmtree("/tmp/salvor-test-dump-%d" % shop.server.port)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        shop.app("CREATE TABLE salvor_shop.x (id int)")


@pytest.mark.parametrize("statement", [
    'ALTER TABLE "T t" SET UNLOGGED', 'alter table if exists only public . "T t" add x int, set unlogged',
    'ALTER /* of */ TABLE -- our\n "T t" SET UNLOGGED', 'ALTER TABLE a ADD x int; ALTER TABLE "T t" SET UNLOGGED; ALTER TABLE a ADD y int',
    "DO $$ BEGIN ALTER TABLE \"T t\" SET UNLOGGED; END $$", "SELECT f()", "SELECT g()"])
def test_unlogged_finds_its_table_and_no_other(shop, statement):
    shop.app('CREATE TABLE "T t" (id int PRIMARY KEY, v int); CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE "set" (id int PRIMARY KEY);'
             'CREATE TABLE a (id int PRIMARY KEY, v int); CREATE SCHEMA s CREATE TABLE "T t" (id int PRIMARY KEY);'
             "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER TABLE ' || '\"T t\" SET UNLOGGED'; END $$;"
             "CREATE FUNCTION g() RETURNS void LANGUAGE sql AS 'ALTER TABLE \"T t\" SET UNLOGGED'")
    busy = shop.session(isolation=1)
    busy.execute('LOCK TABLE t, "set" IN ROW EXCLUSIVE MODE')  # a lock on one of these would be waited for
    c = shop.session()
    c.execute("SET statement_timeout = '10s'")
    c.execute(statement)
    assert shop.sql("SELECT relpersistence::text FROM pg_class WHERE oid = '\"T t\"'::regclass") == [("u",)]
    found = shop.listed()
    assert [n for n in ("a", "t") if n in found] == ["a", "t"] and any("set" in n for n in found)
    write(c, '"T t"')
    write(c, "a")
    if "public" in statement:
        assert 's."T t"' in found
    busy.connection.commit()
    c.execute('ALTER TABLE "T t" SET LOGGED')
    assert '"T t"' in shop.listed()


def test_unlogged_beside_a_migration(shop):
    """SET UNLOGGED is an error for a listed table: it waits a little for the list."""
    c, d = shop.session(), shop.session(isolation=1)
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    d.execute("CREATE TABLE held (id int PRIMARY KEY)")
    runner = threading.Thread(target=lambda: c.execute("ALTER TABLE t SET UNLOGGED"))
    runner.start()
    time.sleep(0.5)
    write(shop.session())
    d.connection.commit()
    runner.join(60)
    assert shop.sql("SELECT relpersistence::text FROM pg_class WHERE relname = 't'") == [("u",)]


def test_drop_owned_and_schemas(shop):
    c = shop.session()
    c.execute("CREATE SCHEMA s CREATE TABLE a (id int PRIMARY KEY) CREATE VIEW w AS SELECT 1")
    c.execute('CREATE TABLE "Ünï ""Cödé" (id int PRIMARY KEY, v int)')
    write(c, '"Ünï ""Cödé"')
    assert len(shop.listed()) == 2
    c.execute('ALTER TABLE "Ünï ""Cödé" DROP CONSTRAINT "Ünï ""Cödé_pkey"')
    write(c, '"Ünï ""Cödé"')
    c.execute("DROP SCHEMA s CASCADE")
    c.execute("CREATE TABLE b (id int PRIMARY KEY)")
    shop.sql("DROP OWNED BY app CASCADE")
    assert shop.listed() == []


def test_settings_of_the_application_do_not_matter(shop):
    c = shop.session()
    c.execute("CREATE TABLE a (id int PRIMARY KEY, v int)")
    c.execute("SET quote_all_identifiers = on; SET plpgsql.extra_errors = 'all'; SET standard_conforming_strings = off; "
              "SET transform_null_equals = on; SET enable_tidscan = off; SET enable_indexscan = off; SET jit_above_cost = 0; "
              "SET search_path = ''; SET client_min_messages = debug1; SET lock_timeout = 1")
    c.execute("CREATE TABLE public.t (id int PRIMARY KEY, v int)")
    write(c, "public.t")
    c.execute("ALTER TABLE public.t DROP CONSTRAINT t_pkey")
    c.execute("ALTER TABLE public.a SET UNLOGGED")
    write(c, "public.t")
    write(c, "public.a")
    assert shop.listed() == []
    assert not any("salvor" in n for n in c.connection.notices if "ERROR" in n or "WARNING" in n)
    assert [d for _, _, d in shop.records()] == ["listed: public.a; ", "listed: public.t; ", "unlisted: public.t; ", "",
                                                 "unlogged: public.a; "]


def test_two_phase(shop):
    c = shop.session()
    c.execute("BEGIN; CREATE TABLE t (id int PRIMARY KEY, v int); PREPARE TRANSACTION 'gid'")
    c.execute("CREATE TABLE u (id int PRIMARY KEY, v int)")
    write(c, "u")
    c.execute("COMMIT PREPARED 'gid'")
    write(c)
    assert shop.listed() == ["t"]
    assert list(shop.poll()) == ["public.u"]
    assert shop.listed() == ["t", "u"]


# -- several at once ---------------------------------------------------------------------------------------------------


def test_a_long_migration_hinders_nobody(shop):
    """Another migration holds the list: nobody waits for it, nobody fails, and the poll mends what was left."""
    c, d = shop.session(), shop.session(isolation=1)
    c.execute("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int)")
    d.execute("CREATE TABLE held (id int PRIMARY KEY)")
    shop.records()
    begun = time.monotonic()
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    c.execute("ALTER TABLE a DROP CONSTRAINT a_pkey")
    c.execute("ALTER TABLE b REPLICA IDENTITY NOTHING")
    assert time.monotonic() - begun < 30  # 40 ms each; who queued would wait for ever
    for table in "tab":
        write(c, table)
    assert [r[2] for r in shop.records()] == ["not listed yet: public.t; ", "full for want of a lock: public.a; ", "",
                                              "full for want of a lock: public.b; "]
    d.connection.commit()
    write(c)
    assert "only from now on" in shop.poll()["public.t"]
    assert shop.listed() == ["a", "b", "held", "t"]
    assert shop.poll() == {}


def test_a_key_dropped_beside_a_migration_that_holds_list_and_table(shop):
    """A GRANT has the table's row in the catalogue, so that no identity can be given, in a transaction that has the list: it is waited for."""
    shop.app("CREATE TABLE t (id int PRIMARY KEY, v int)")
    migration, c = shop.session(isolation="READ COMMITTED"), shop.session()
    migration.execute("CREATE TABLE n (id int PRIMARY KEY); GRANT SELECT ON t TO salvor")
    dropping = threading.Thread(target=c.execute, args=("ALTER TABLE t DROP CONSTRAINT t_pkey",))
    dropping.start()
    dropping.join(1)
    migration.connection.commit()
    dropping.join()
    write(c)
    assert shop.listed() == ["n"]


def test_many_statements_beside_a_long_migration_are_not_slowed(shop):
    c, d = shop.session(), shop.session(isolation=1)

    def make_tables():
        begun = time.monotonic()
        c.execute("BEGIN")
        for i in range(100):
            c.execute(f"CREATE TABLE t{i} (id int PRIMARY KEY)")
        seconds = time.monotonic() - begun
        c.execute("ROLLBACK")
        return seconds

    alone = make_tables()
    d.execute("CREATE TABLE held (id int PRIMARY KEY)")
    assert any(make_tables() < 2 * alone + 2 for _ in range(3))  # 40 ms once, not a hundred times; other work on this machine may slow one of them, not all
    d.connection.commit()


def test_short_timeouts_of_the_application(shop):
    c, d = shop.session(), shop.session(isolation=1)
    c.execute("CREATE TABLE a (id int PRIMARY KEY, v int)")
    d.execute("CREATE TABLE held (id int PRIMARY KEY)")
    c.execute("SET statement_timeout = 30")  # falls into the 40 ms that are spent on the list
    for statement in ("CREATE TABLE t (id int PRIMARY KEY, v int)", "ALTER TABLE a DROP CONSTRAINT a_pkey"):
        for left in range(9, -1, -1):
            try:
                c.execute(statement)
                break
            except psycopg2.errors.QueryCanceled:
                assert left, f"{statement}: ten times in vain"  # a loaded machine may spend the 30 ms elsewhere, but not each time
    c.execute("SET statement_timeout = 0; SET lock_timeout = 1")
    c.execute("CREATE TABLE u (id int PRIMARY KEY, v int)")
    for table in "atu":
        write(c, table)
    d.connection.commit()


def test_no_deadlock_between_migrations(shop):
    """Each holds what the other's trigger would want. Whoever waited for the list would make a deadlock."""
    c, d = shop.session(isolation=1), shop.session(isolation=1)
    shop.app("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int)")
    c.execute("ALTER TABLE a DROP CONSTRAINT a_pkey")  # holds the list and a
    d.execute("LOCK TABLE b")
    waiter = threading.Thread(target=lambda: (c.execute("LOCK TABLE b"), c.connection.commit()))
    waiter.start()
    time.sleep(0.7)  # its deadlock check is at 1 s
    for i in range(20):
        d.execute(f"CREATE TABLE t{i} (id int PRIMARY KEY)")
        time.sleep(0.03)
    d.execute("ALTER TABLE b DROP CONSTRAINT b_pkey")
    d.execute("UPDATE b SET v = 1")
    d.connection.commit()
    waiter.join(60)
    assert not waiter.is_alive()
    write(d, "a")
    write(d, "b")
    d.connection.commit()


def test_serializable_migrations_do_not_conflict(shop):
    c, d = shop.session(isolation=3), shop.session(isolation=3)
    c.execute("CREATE TABLE a (id int PRIMARY KEY)")
    d.execute("CREATE TABLE b (id int PRIMARY KEY)")
    c.execute("DROP TABLE a")
    c.connection.commit()
    d.connection.commit()


def test_repeatable_read_sees_the_past_but_decides_by_the_present(shop):
    shop.app("CREATE TABLE r1 (id int, v int); CREATE TABLE r2 (id int PRIMARY KEY, v int); CREATE TABLE r3 (id int PRIMARY KEY, v int);"
             "CREATE TABLE r4 (id int PRIMARY KEY, v int); CREATE TABLE r5 (id int, v int); ALTER TABLE r5 REPLICA IDENTITY FULL")
    c = shop.session(isolation=2)
    c.execute("SELECT 1")
    # All of this happens after its snapshot:
    shop.app("ALTER TABLE r1 ADD PRIMARY KEY (id); ALTER TABLE r2 DROP CONSTRAINT r2_pkey; ALTER TABLE r4 REPLICA IDENTITY NOTHING;"
             "ALTER TABLE r5 REPLICA IDENTITY DEFAULT")
    c.execute("ALTER TABLE r1 DROP CONSTRAINT r1_pkey")
    c.execute("ALTER TABLE r3 DROP CONSTRAINT r3_pkey")
    for table in ("r2", "r4", "r5"):
        c.execute(f"ALTER TABLE {table} ADD w int")
    c.execute("CREATE TABLE r6 (id int PRIMARY KEY, v int)")
    for table in ("r1", "r2", "r3", "r4", "r5", "r6"):
        write(c, table)
    c.connection.commit()
    d = shop.session()
    for table in ("r1", "r2", "r3", "r4", "r5", "r6"):
        write(d, table)
    assert shop.listed() == ["r6"]
    assert shop.poll() == {}


def test_other_event_triggers_that_forbid_everything(shop):
    shop.app("CREATE TABLE a (id int PRIMARY KEY, v int)")
    shop.sql("CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF tg_tag = 'ALTER PUBLICATION' THEN "
             "RAISE EXCEPTION 'no'; END IF; END $$; CREATE EVENT TRIGGER aaa ON ddl_command_end EXECUTE FUNCTION no()")
    c = shop.session()
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    c.execute("ALTER TABLE a DROP CONSTRAINT a_pkey")
    write(c)
    write(c, "a")


def test_another_publication_for_all_tables_gets_no_foreign_rows(shop):
    """Its subscribers lack the table of records and would stop at one."""
    shop.sql("CREATE PUBLICATION other FOR ALL TABLES")
    shop.sql("SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
    shop.app("CREATE TABLE t (id int PRIMARY KEY, v int)")
    rows = decode(shop.sql("SELECT data FROM pg_logical_slot_get_binary_changes('other', NULL, NULL, 'proto_version', '1', "
                           "'publication_names', 'other')"))
    assert [r for r in rows if r[0] == "I"] == []
    assert shop.listed() == ["t"]


def test_what_cannot_be_told_is_settled_all_the_same(shop):
    """Somebody holds the table through which changes are told: the list is right even so, and no writer fails."""
    shop.app("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int)")
    holder = shop.connect(SUPER, autocommit=False).cursor()
    holder.execute("LOCK TABLE salvor_shop.ddl IN SHARE MODE")
    c = shop.session()
    c.execute("ALTER TABLE t DROP CONSTRAINT t_pkey")
    write(c)
    c.execute("DROP INDEX IF EXISTS nothing; ALTER TABLE u REPLICA IDENTITY NOTHING")
    write(c, "u")
    c.execute("CREATE TABLE n (id int PRIMARY KEY, v int)")
    write(c, "n")
    assert shop.listed() == ["n"]
    untold = "SELECT last_value FROM salvor_shop.untold"
    marked = shop.sql(untold)
    c.execute("CREATE SEQUENCE s; SELECT nextval('s'); DROP TABLE n")
    assert shop.sql(untold) != marked
    c.execute("SELECT lastval()")  # the application's own
    assert c.fetchall() == [(1,)]
    holder.connection.rollback()
    marked = shop.sql(untold)
    c.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    write(c)
    assert shop.listed() == ["t"]
    assert shop.sql(untold) == marked


def test_random_migrations_and_writers_at_once(shop):
    """Four sessions that each change and write tables of their own, beside the poll: no statement fails."""
    failures, stop = [], threading.Event()
    keyed = "CREATE TABLE {t} (id int PRIMARY KEY, v int)"

    def worker(n):
        c, t = shop.session(), f"w{n}"
        try:
            while not stop.is_set():
                for step in (keyed, "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey", "ALTER TABLE {t} ADD PRIMARY KEY (id)",
                             "ALTER TABLE {t} REPLICA IDENTITY NOTHING", "ALTER TABLE {t} REPLICA IDENTITY DEFAULT",
                             "ALTER TABLE {t} REPLICA IDENTITY USING INDEX {t}_pkey", "ALTER TABLE {t} REPLICA IDENTITY FULL",
                             "ALTER TABLE {t} SET UNLOGGED" if n % 2 else "ALTER TABLE {t} ADD w int", "DROP TABLE {t}",
                             "CREATE TABLE {t} AS SELECT 1 AS id, 1 AS v", "DROP TABLE {t}"):
                    if n % 2 == 0 and step != keyed and "DROP TABLE" not in step:
                        c.execute("BEGIN; " + step.format(t=t))
                        write(c, t)
                        c.execute("COMMIT")
                    else:
                        c.execute(step.format(t=t))
                    if "DROP TABLE" not in step:
                        write(c, t)
        except psycopg2.Error as e:
            failures.append(f"{t}: {e}")

    def poller():
        c = shop.session(SALVOR)
        try:
            while not stop.is_set():
                c.execute("SELECT * FROM salvor_shop.sweep(0, 0)")
                time.sleep(0.02)
        except psycopg2.Error as e:
            failures.append(f"poll: {e}")

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(4)] + [threading.Thread(target=poller)]
    for t in threads:
        t.start()
    time.sleep(8)
    stop.set()
    for t in threads:
        t.join(30)
    assert failures == []
    shop.poll()
    # The end is exact: whatever is there and has identity is listed, nothing else.
    assert shop.poll() == {}


def test_drop_index_concurrently_of_an_identity(shop):
    """It commits the loss of the identity long before its end; the poll of a running Salvor unlists the table before."""
    c, old = shop.session(), shop.session(isolation=1)
    c.execute("CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX i ON t (id); ALTER TABLE t REPLICA IDENTITY USING INDEX i")
    assert shop.listed() == ["t"]
    with reading_the_slot(shop):
        old.execute("SELECT * FROM t")  # holds the command up after its first commit
        dropper = threading.Thread(target=lambda: shop.session().execute("DROP INDEX CONCURRENTLY i"))
        dropper.start()
        until(lambda: shop.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        assert "no longer" in shop.poll()["public.t"]
        until(lambda: shop.sql("SELECT 1 FROM pg_index WHERE indexrelid = 'i'::regclass AND NOT indisvalid"))
        write(c, truncate=False)
        shop.poll()
        write(c, truncate=False)
        old.connection.commit()
        dropper.join(60)
        assert not dropper.is_alive()
        write(c)
    assert shop.listed() == []


@contextlib.contextmanager
def reading_the_slot(shop):
    reader = subprocess.Popen([shop.server.bin + "/pg_recvlogical", "-d", shop.server.conninfo("shop", SALVOR), "-S", "salvor_shop",
                               "--start", "-f", "/dev/null", "-o", "proto_version=1", "-o",
                               "publication_names=salvor_shop_rows,salvor_shop_keys"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: shop.sql("SELECT 1 FROM pg_replication_slots WHERE active"))
        yield
    finally:
        reader.terminate()
        reader.wait(60)
        until(lambda: not shop.sql("SELECT 1 FROM pg_replication_slots WHERE active"))


def until(test, timeout=60):
    deadline = time.monotonic() + timeout
    while not test():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


# -- identity = full ---------------------------------------------------------------------------------------------------


def test_identity_full(bare):
    bare.app("CREATE TABLE a (id int, v int); CREATE TABLE b (id int, v int); CREATE TABLE k (id int PRIMARY KEY, v int);"
             "CREATE TABLE mine (id int, v int); ALTER TABLE mine REPLICA IDENTITY FULL")
    options = {"identity": "full", "inserts": "public.b"}
    printed = bare.arguments(print=1, **options)
    assert "REPLICA IDENTITY FULL" in tool("setup", **printed)
    bare.setup(**options)
    identity = lambda: dict(bare.sql("SELECT relname::text, relreplident::text FROM pg_class WHERE relname IN ('a', 'b', 'k', 'mine', 't', 'u')"))
    assert identity() == {"a": "f", "b": "d", "k": "d", "mine": "f"}
    c = bare.session()
    c.execute("CREATE TABLE t AS SELECT 0 AS id, 0 AS v; CREATE TABLE u (id int PRIMARY KEY, v int)")
    c.execute("ALTER TABLE u DROP CONSTRAINT u_pkey")
    c.execute('CREATE TABLE "T x" (id int, v int)')
    assert bare.listed() == ['"T x"', "a", "k", "mine", "t", "u"]
    told = [(tag, detail) for tag, _, detail in bare.records()]  # Salvor's own ALTER TABLE is not
    assert told == [("CREATE TABLE AS", "listed: public.t; "), ("CREATE TABLE", "listed: public.u; "), ("ALTER TABLE", "full: public.u; "), ("ALTER TABLE", ""),
                    ("CREATE TABLE", 'listed: public."T x"; ')]
    for table in ("a", "b", "k", "mine", "t", "u"):
        write(c, table)
    updates = [x for x in bare.changes() if x[0] == "U" and x[1] == "public.a"]
    assert updates[0][2:] == (["1", "1"], ["1", "9"])
    # Teardown gives back what it was, and leaves what somebody else had chosen.
    tool("teardown", **bare.arguments())
    assert identity() == {"a": "d", "b": "d", "k": "d", "mine": "f", "t": "d", "u": "d"}
    assert bare.residue() == []


# -- setup and teardown ------------------------------------------------------------------------------------------------


def test_setup_is_repeatable_and_teardown_complete(bare):
    bare.app("CREATE TABLE k (id int PRIMARY KEY, v int); CREATE TABLE n (id int, v int)")
    first = bare.setup()
    assert first["slot_made"] and bare.listed() == ["k"]
    second = bare.setup()
    assert not second["slot_made"] and bare.listed() == ["k"]
    # What differs is mended.
    bare.sql("ALTER PUBLICATION salvor_shop_keys ADD TABLE n; DROP EVENT TRIGGER salvor_shop_drop; "
             "ALTER PUBLICATION salvor_shop_rows SET (publish = 'insert')")
    with pytest.raises(psycopg2.Error):
        bare.app("INSERT INTO n VALUES (1); UPDATE n SET v = 1")
    bare.setup()
    bare.app("INSERT INTO n VALUES (1); UPDATE n SET v = 1")
    assert bare.listed() == ["k"] and len(bare.residue()) == 7
    tool("teardown", **bare.arguments())
    assert bare.residue() == []
    tool("teardown", **bare.arguments())
    write(bare.session(), "k")
    # The role of the source may be dropped again: nothing depends on it.
    assert bare.sql("SELECT count(*) FROM pg_shdepend WHERE refobjid = 'salvor'::regrole AND dbid = "
                    "(SELECT oid FROM pg_database WHERE datname = current_database())") == [(0,)]


def test_teardown_while_somebody_reads(shop):
    with reading_the_slot(shop), pytest.raises(ToolError) as e:
        tool("teardown", **shop.arguments())
    assert e.value.name == "BUSY" and "stop `salvor run`" in e.value.text
    tool("teardown", **shop.arguments())
    assert shop.residue() == []


def test_printed_sql_runs_as_it_is(bare, tmp_path):
    bare.app("CREATE TABLE k (id int PRIMARY KEY, v int); CREATE TABLE n (id int, v int)")
    printed = tool("setup", **bare.arguments(print=1))
    assert bare.residue() == []
    done = subprocess.run(["psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", bare.server.conninfo("shop", SUPER)], input=printed, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert done.returncode == 0, done.stdout
    assert bare.listed() == ["k"] and len(bare.residue()) == 7
    result = tool("setup", **bare.arguments(admin=False))
    assert result["mode"] == "triggers" and not result["slot_made"]
    c = bare.session()
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    write(c)
    assert bare.listed() == ["k", "t"] and bare.poll() == {}


def test_a_table_made_in_a_transaction_that_was_open_during_setup(bare):
    """Setup waits for it, names it when it takes too long, and has its table in the end."""
    c = bare.session(isolation=1)
    c.execute("CREATE TABLE keyed (id int PRIMARY KEY, v int); CREATE TABLE keyless (id int, v int)")
    bare.app("CREATE TABLE k (id int PRIMARY KEY, v int)")
    with pytest.raises(ToolError) as e:
        bare.setup(slot_timeout_ms=1000)
    assert e.value.name == "TIMEOUT" and "process" in e.value.text and "user app" in e.value.text and "CREATE TABLE keyed" in e.value.text
    assert "slot salvor_shop" not in bare.residue()
    result = []
    runner = threading.Thread(target=lambda: result.append(tool("setup", **bare.arguments())))
    runner.start()
    time.sleep(0.5)
    write(c, "keyed")
    write(c, "keyless")
    c.connection.commit()
    runner.join(90)
    assert result and result[0]["slot_made"]
    assert bare.listed() == ["k", "keyed"]
    d = bare.session()
    write(d, "keyed")
    write(d, "keyless")


def test_a_key_dropped_in_a_transaction_that_was_open_during_setup(bare):
    bare.app("CREATE TABLE t (id int PRIMARY KEY, v int)")
    c = bare.session(isolation=1)
    c.execute("ALTER TABLE t DROP CONSTRAINT t_pkey")
    runner = threading.Thread(target=lambda: tool("setup", **bare.arguments()))
    runner.start()
    time.sleep(0.5)
    write(c)
    c.connection.commit()
    runner.join(90)
    write(c)
    c.connection.commit()
    assert bare.listed() == [] and "slot salvor_shop" in bare.residue()


def test_the_slot_names_who_blocks_it(bare):
    """A transaction of another database holds it up: no trigger would have waited for that one."""
    bare.server.sql("CREATE TABLE IF NOT EXISTS elsewhere (id int)")
    other = bare.server.connect("postgres", SUPER, autocommit=False)
    other.cursor().execute("INSERT INTO elsewhere SELECT length('hunter2')")
    with pytest.raises(ToolError) as e:
        bare.setup(slot_timeout_ms=1500)
    assert e.value.name == "TIMEOUT" and "INSERT INTO elsewhere" in e.value.text and "hunter2" not in e.value.text
    assert "slot salvor_shop" not in bare.residue()
    other.close()
    assert bare.setup()["slot_made"]


def test_prepared_transactions_hold_setup_up_by_name(bare):
    bare.app("BEGIN; CREATE TABLE t (id int PRIMARY KEY); PREPARE TRANSACTION 'stuck'")
    with pytest.raises(ToolError) as e:
        bare.setup(slot_timeout_ms=1000)
    assert "'stuck'" in e.value.text
    bare.app("COMMIT PREPARED 'stuck'")
    bare.setup()
    assert bare.listed() == ["t"]


def test_setup_beside_writers(bare):
    """Updates and migrations go on while setup and teardown come and go; no writer fails."""
    bare.app("".join(f"CREATE TABLE k{i} (id int PRIMARY KEY, v int); CREATE TABLE n{i} (id int, v int);" for i in range(10)))
    failures, stop = [], threading.Event()

    def writer(n):
        c, i = bare.session(), 0
        try:
            while not stop.is_set():
                i += 1
                write(c, f"k{n}")
                write(c, f"n{n}")
                if i % 10 == 0:
                    c.execute(f"ALTER TABLE k{n} DROP CONSTRAINT k{n}_pkey")
                    write(c, f"k{n}")
                    c.execute(f"ALTER TABLE k{n} ADD PRIMARY KEY (id)")
        except psycopg2.Error as e:
            failures.append(str(e))

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    for _ in range(12):
        tool("setup", **bare.arguments())
        tool("teardown", **bare.arguments())
    stop.set()
    for t in threads:
        t.join(30)
    assert failures == [] and bare.residue() == []


def test_a_schema_laid_as_a_trap_is_refused(bare):
    bare.app("CREATE SCHEMA salvor_shop")
    with pytest.raises(ToolError) as e:
        bare.setup()
    assert e.value.status == 3 and "no superuser" in e.value.text


def test_an_administrator_of_another_database_is_refused(bare):
    with pytest.raises(ToolError) as e:
        tool("setup", conninfo=bare.server.conninfo("shop", SALVOR), admin=bare.server.conninfo("postgres", SUPER))
    assert e.value.status == 3 and "another database" in e.value.text
    with pytest.raises(ToolError) as e:
        tool("setup", conninfo=bare.server.conninfo("shop", SALVOR), admin=bare.server.conninfo("shop", APP))
    assert e.value.status == 3 and "superuser" in e.value.text


def test_a_slot_of_somebody_else_is_refused_and_a_missing_one_made(bare):
    bare.setup()
    bare.sql("SELECT pg_drop_replication_slot('salvor_shop')")
    bare.sql("SELECT pg_create_logical_replication_slot('salvor_shop', 'test_decoding')")
    with pytest.raises(ToolError) as e:
        bare.setup()
    assert e.value.status == 3 and "test_decoding" in e.value.text
    bare.sql("SELECT pg_drop_replication_slot('salvor_shop')")
    assert bare.setup()["slot_made"]


# -- list mode ---------------------------------------------------------------------------------------------------------


def test_list_mode(listed_shop):
    s = listed_shop
    s.sql("CREATE TABLE k (id int PRIMARY KEY, v int); CREATE TABLE n (id int, v int); CREATE TABLE d (id int PRIMARY KEY DEFERRABLE, v int);"
          "CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
          user="owner")
    assert s.setup(admin=False)["mode"] == "list"
    assert s.listed() == ["k", "p1"] and s.listed("rows") == ["d", "k", "n", "p1"]
    c = s.session("owner")
    for table in "kndp":
        write(c, table)
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    write(c)
    assert "not published until now" in s.poll()["public.t"]
    assert s.listed() == ["k", "p1", "t"] and s.poll() == {}
    c.execute("ALTER TABLE t DROP CONSTRAINT t_pkey")
    assert "no longer" in s.poll()["public.t"]
    write(c)
    assert s.listed() == ["k", "p1"]
    assert not s.setup(admin=False)["slot_made"]
    tool("teardown", **s.arguments(False))
    assert s.residue() == []


def test_list_mode_printed(listed_shop):
    s = listed_shop
    s.sql("CREATE TABLE k (id int PRIMARY KEY, v int); CREATE TABLE n (id int, v int)", user="owner")
    printed = tool("setup", **s.arguments(False, print=1, identity="full"))
    subprocess.run(["psql", "-v", "ON_ERROR_STOP=1", "-q", "-d", s.server.conninfo("shop", "owner")], input=printed, text=True,
                   check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert s.listed() == ["k", "n"] and not s.setup(admin=False, identity="full")["slot_made"]


def test_list_mode_needs_the_tables(server, bare):
    bare.app("CREATE TABLE k (id int PRIMARY KEY, v int)")
    with pytest.raises(ToolError) as e:
        bare.setup(admin=False)
    assert e.value.status == 3 and "--admin" in e.value.text and "public.k" in e.value.text


def test_from_lists_to_triggers(listed_shop):
    s = listed_shop
    s.sql("CREATE TABLE k (id int PRIMARY KEY, v int)", user="owner")
    s.setup(admin=False)
    assert s.setup()["mode"] == "triggers"
    c = s.session("owner")
    c.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    write(c)
    assert s.listed() == ["k", "t"] and s.poll() == {}
    tool("teardown", **s.arguments())
    assert s.residue() == []


# -- the poll and the counts -------------------------------------------------------------------------------------------


def test_uncaptured_changes_are_counted(shop):
    c = shop.session()
    c.execute("CREATE TABLE n (id int, v int); CREATE TABLE k (id int PRIMARY KEY, v int)")
    count = lambda: tool("counts", **shop.arguments(False))
    assert count() == {"public.n": 0}
    c.execute("INSERT INTO n SELECT 1, 1 FROM generate_series(1, 3); UPDATE n SET v = 2; DELETE FROM n; UPDATE k SET v = 1")
    c.connection.close()
    until(lambda: count() == {"public.n": 6})


def test_a_poll_says_when_protection_is_broken(shop):
    shop.sql("ALTER EVENT TRIGGER salvor_shop_ddl DISABLE")
    with pytest.raises(ToolError) as e:
        shop.poll()
    assert "event triggers" in e.value.text
    shop.setup()
    shop.sql("DROP PUBLICATION salvor_shop_keys")
    with pytest.raises(ToolError) as e:
        shop.poll()
    assert "salvor_shop_keys is gone" in e.value.text
    shop.app("CREATE TABLE t (id int PRIMARY KEY)")
    # What was written meanwhile can never be decoded: the slot is made anew, for capture to notice and anchor anew.
    assert shop.setup()["slot_made"]
    assert shop.listed() == ["t"]


def test_a_busy_table_is_listed_later(shop):
    """Somebody holds the table: nothing waits, and the poll says so until it is done."""
    c = shop.session(isolation=1)
    shop.app("CREATE TABLE t (id int PRIMARY KEY, v int)")
    shop.sql("ALTER PUBLICATION salvor_shop_keys DROP TABLE t")
    c.execute("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE")
    assert "not captured yet" in shop.poll()["public.t"]
    c.connection.commit()
    assert "only from now on" in shop.poll()["public.t"]


# -- check -------------------------------------------------------------------------------------------------------------

OK, WARN, REFUSE = 0, 1, 2


def findings(shop, admin=False, **more):
    return {(f["code"], f["object"]): f for f in tool("check", **{**shop.arguments(False), **more})}


def test_check_of_a_good_source(bare):
    found = findings(bare)
    assert max(f["severity"] for f in found.values()) < REFUSE
    assert "not made yet" in found[("slot", "salvor_shop")]["text"]
    bare.setup()
    found = findings(bare)
    assert all(f["severity"] == OK for f in found.values()), found
    bare.sql("DROP SEQUENCE salvor_shop.untold")  # as an older setup left it
    wrong = [f for f in findings(bare).values() if f["severity"] != OK]
    assert [f["code"] for f in wrong] == ["setup"] and "of an older Salvor" in wrong[0]["text"], wrong
    bare.setup()
    assert all(f["severity"] == OK for f in findings(bare).values())


def test_check_reports_tables_without_identity_and_their_mend(bare):
    bare.app("CREATE TABLE n (id int); CREATE TABLE d (id int PRIMARY KEY DEFERRABLE); CREATE TABLE g (a int, "
             "b int GENERATED ALWAYS AS (a) STORED PRIMARY KEY); CREATE TABLE x (id int PRIMARY KEY); ALTER TABLE x REPLICA IDENTITY NOTHING;"
             "CREATE TABLE i (id int NOT NULL); CREATE UNIQUE INDEX ii ON i (id); ALTER TABLE i REPLICA IDENTITY USING INDEX ii")
    found = findings(bare)
    why = {table: found[("no_identity", "public." + table)]["text"].split(",")[0] for table in "ndgx"}
    assert why == {"n": "it has no primary key", "d": "its key is deferrable", "g": "its key has a generated column",
                   "x": "its replica identity is NOTHING"}
    assert all(found[("no_identity", "public." + t)]["severity"] == WARN for t in "ndgx")
    assert ("no_identity", "public.i") not in found and found[("loose_index", "public.i")]["severity"] == WARN
    bare.app(found[("loose_index", "public.i")]["mend"])
    assert ("loose_index", "public.i") not in findings(bare)
    assert found[("no_identity", "public.n")]["mend"].startswith("ALTER TABLE public.n REPLICA IDENTITY FULL")
    assert findings(bare, identity="inserts")[("no_identity", "public.n")]["severity"] == OK
    bare.app("ALTER TABLE n REPLICA IDENTITY FULL")
    assert ("no_identity", "public.n") not in findings(bare)


def test_check_of_rights(bare):
    bare.server.sql("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN")
    bare.app("CREATE TABLE k (id serial PRIMARY KEY); CREATE TABLE r (id int PRIMARY KEY); ALTER TABLE r ENABLE ROW LEVEL SECURITY;"
             "CREATE POLICY p ON r USING (false)")
    found = findings(bare, conninfo=bare.server.conninfo("shop", "poor"))
    assert {k: found[k]["severity"] for k in [("replication", "poor"), ("bypassrls", "public.r"), ("select", "public.k"),
                                             ("select", "public.k_id_seq")]} == dict.fromkeys(
        [("replication", "poor"), ("bypassrls", "public.r"), ("select", "public.k"), ("select", "public.k_id_seq")], REFUSE)
    for code in ("replication", "bypassrls", "select"):
        mend = next(f["mend"] for (c, _), f in found.items() if c == code)
        bare.sql(mend)
    found = findings(bare, conninfo=bare.server.conninfo("shop", "poor"))
    assert max(f["severity"] for f in found.values()) < REFUSE
    bare.drop()
    bare.server.sql("DROP ROLE poor")


def test_check_of_large_objects_and_what_is_not_protected(bare):
    bare.app("SELECT lo_create(0); CREATE UNLOGGED TABLE u (id int PRIMARY KEY)")
    found = findings(bare)
    assert found[("large_objects", None)]["severity"] == WARN and "as of the last one before its moment" in found[("large_objects", None)]["text"]
    assert "unlogged" in found[("unprotected", None)]["text"]
    assert findings(bare, ignore_large_objects=1)[("large_objects", None)]["severity"] == WARN
    # A role that may not read them, and the statement that mends it.
    bare.server.sql("DROP ROLE IF EXISTS poor")
    bare.server.sql("CREATE ROLE poor LOGIN REPLICATION BYPASSRLS")
    poor = bare.server.conninfo("shop", "poor")
    refused = findings(bare, conninfo=poor)[("large_objects", None)]
    assert refused["severity"] == REFUSE
    bare.sql(refused["mend"])
    assert findings(bare, conninfo=poor)[("large_objects", None)]["severity"] == WARN
    bare.app("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    assert ("large_objects", None) not in findings(bare, conninfo=poor)
    bare.drop()
    bare.server.sql("DROP ROLE poor")


def test_a_pooler_is_recognised(bare):
    """One that passes the start packet on but answers with its own key, and one that refuses our settings."""
    with Pooler(bare.server) as p:
        found = findings(bare, conninfo=f"host=127.0.0.1 port={p.port} dbname=shop user=salvor sslmode=disable gssencmode=disable")
        assert found[("pooler", "conninfo")]["severity"] == REFUSE
    with Pooler(bare.server, refuse=True) as p:
        found = findings(bare, conninfo=f"host=127.0.0.1 port={p.port} dbname=shop user=salvor sslmode=disable gssencmode=disable")
        assert found[("pooler", "conninfo")]["severity"] == REFUSE


class Pooler:
    """Just enough of a connection pooler."""

    def __init__(self, server, refuse=False):
        import socket
        self.server, self.refuse = server, refuse
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.listener.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.session, args=(client,), daemon=True).start()

    def session(self, client):
        import socket
        if self.refuse:
            client.recv(65536)
            body = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)
            client.close()
            return
        upstream = socket.create_connection(("127.0.0.1", self.server.port))

        def pump(a, b, change):
            with contextlib.suppress(OSError):
                while True:
                    data = a.recv(65536)
                    if not data:
                        break
                    b.sendall(change(data))
            for s in (a, b):
                with contextlib.suppress(OSError):
                    s.close()

        def other_key(data):
            at = data.find(b"K\0\0\0\x0c")
            return data if at < 0 else data[:at + 5] + b"\0\0\0\x07" + data[at + 9:]

        threading.Thread(target=pump, args=(upstream, client, other_key), daemon=True).start()
        pump(client, upstream, lambda d: d)


def test_limits_of_the_server_are_refused():
    with PgServer() as s:
        s.start({"max_slot_wal_keep_size": "-1", "wal_level": "replica", "max_replication_slots": 1, "track_counts": "off"})
        s.sql("CREATE ROLE app LOGIN; CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
        shop = Shop(s)
        found = findings(shop)
        assert found[("slot_limit", "max_slot_wal_keep_size")]["severity"] == REFUSE
        assert found[("wal_level", "wal_level")]["severity"] == REFUSE
        assert found[("max_replication_slots", "max_replication_slots")]["severity"] == WARN
        assert found[("track_counts", "track_counts")]["severity"] == WARN
        done = tool_run("setup", **shop.arguments())
        assert done.returncode == 3 and "wal_level" in done.stderr
        shop.drop()
        s.restart({"max_slot_wal_keep_size": "-1"})
        shop = Shop(s)
        done = tool_run("setup", **shop.arguments())
        assert done.returncode == 3 and "max_slot_wal_keep_size" in done.stderr and shop.residue() == []
        assert tool("setup", **shop.arguments(unbounded=1))["slot_made"]
        shop.drop()
