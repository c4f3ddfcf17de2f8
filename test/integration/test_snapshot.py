"""A snapshot is the whole source at one moment, whatever others do meanwhile, and never stands in their way for long."""
import contextlib
import os
import pathlib
import subprocess
import threading
import time

import pytest

import mounts
from proxy import Proxy
from pgserver import PgServer
from salvorbox import wait_for
from snapshottool import taking, unpack

EVERYTHING = (pathlib.Path(__file__).parent / "everything.sql").read_text(encoding="utf-8")
PINNED = ("-c DateStyle=ISO,MDY -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex "
          "-c lc_monetary=C -c search_path=pg_catalog")
pytestmark = pytest.mark.xdist_group("snapshot")


@pytest.fixture(scope="module")
def server():
    with PgServer() as s:
        s.start()
        s.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS")
        s.sql("GRANT pg_read_all_data TO salvor")
        yield s


@pytest.fixture
def shop(server):
    """An empty database."""
    server.sql("CREATE DATABASE shop")
    yield server
    server.sql("DROP DATABASE shop WITH (FORCE)")


@pytest.fixture
def taker(shop):
    with taking(shop) as t:
        yield t


def sql(server, text, *params):
    return server.sql(text, *params, dbname="shop")


@contextlib.contextmanager
def transaction(server):
    """A cursor in an open transaction, which is rolled back unless the test commits."""
    c = server.connect("shop", autocommit=False)
    try:
        yield c.cursor()
    finally:
        c.close()


def copied(server, quoted, columns):
    """What COPY gives of a table's own rows."""
    done = subprocess.run([os.path.join(server.bin, "psql"), "-XAtq", "-d", server.conninfo("shop"), "-c",
                           f"COPY (SELECT {columns} FROM ONLY {quoted}) TO STDOUT"],
                          stdout=subprocess.PIPE, check=True, timeout=60, env={**os.environ, "PGOPTIONS": PINNED})
    return done.stdout[:-1].split(b"\n") if done.stdout else []


def tables(server):
    """(id, quoted name, data columns) of every table that a snapshot must hold."""
    return sql(server, "SELECT c.oid::int8, quote_ident(nspname) || '.' || quote_ident(relname), coalesce((SELECT "
               "string_agg(quote_ident(attname), ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 "
               "AND NOT attisdropped AND attgenerated = ''), '') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
               "WHERE relkind = 'r' AND relpersistence = 'p' AND nspname !~ '^(pg_|information_schema)'")


def assert_equals_source(server, taker, snapshot):
    """Row by row, as multisets; returns how many tables there were."""
    held = {t["relation"]["id"]: t for t in taker.manifest(snapshot)["tables"]}
    expected = tables(server)
    assert set(held) == {oid for oid, _, _ in expected}
    for oid, name, columns in expected:
        rows = [row for chunk in taker.chunks(held[oid]) for row in chunk]
        assert sorted(rows) == sorted(copied(server, name, columns)), name
    return len(expected)


def wait_for_copy(server, count=1):
    """Until so many COPYs of a snapshot are running."""
    deadline = time.monotonic() + 90
    while server.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'salvor snapshot' AND query LIKE 'COPY%' "
                       "AND state = 'active'") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- what it holds


def test_every_shape_and_type(shop, taker):
    sql(shop, EVERYTHING)
    try:
        got = taker.take().json
        assert not got["ordinary"] and got["base"]
        assert assert_equals_source(shop, taker, got["id"]) >= 20
        assert any("unlogged" in sentence for sentence in got["unprotected"])
        sequences = {s["name"]: s for s in taker.manifest(got["id"])["sequences"]}
        assert sequences["falling"]["last_value"] == 10 and not sequences["falling"]["is_called"]
        assert sequences["Täble \"x\"_Id_seq"]["last_value"] == 100
        again = taker.take(connections=3, slot_ms=0, sort_mib=1).json
        assert again["ordinary"] and not again["base"] and again["rows"] == got["rows"]
        assert assert_equals_source(shop, taker, again["id"]) >= 20
        chunks = [{c["digest"] for t in taker.manifest(s["id"])["tables"] for c in t["chunks"]} for s in (got, again)]
        assert chunks[0] == chunks[1]  # equal content has one object
    finally:
        shop.sql("DROP DATABASE shop WITH (FORCE)")
        shop.sql("CREATE DATABASE shop")
        shop.sql("DROP ROLE owner_of_shop, reader")


def test_key_order(shop, taker):
    sql(shop, "CREATE TABLE a (id bigint PRIMARY KEY, v text); INSERT INTO a SELECT (i * 7919) % 100003 - 50000, 'v' FROM "
        "generate_series(1, 60000) i")
    sql(shop, "CREATE TABLE b (v int, t timestamp PRIMARY KEY); INSERT INTO b SELECT i, timestamp '2000-01-01' + "
        "(i * 7919 % 10007 - 5000) * interval '30 days' FROM generate_series(1, 9000) i")
    sql(shop, "CREATE TABLE c (k text COLLATE \"C\" PRIMARY KEY); INSERT INTO c SELECT md5(i::text) FROM generate_series(1, 9000) i")
    got = taker.take().json
    assert_equals_source(shop, taker, got["id"])
    ids = [int(row.split(b"\t")[0]) for row in taker.rows(got["id"], "a")]
    assert ids == sorted(ids)
    assert [row.split(b"\t")[1] for row in taker.rows(got["id"], "b")] == [
        t.encode() for t, in sql(shop, "SELECT t::text FROM b ORDER BY t")]
    keys = taker.rows(got["id"], "c")
    assert keys == sorted(keys)


def test_ranges_of_one_table_in_parallel(shop, taker):
    sql(shop, "CREATE TABLE t (id int PRIMARY KEY, pad char(300)); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 220000) i; "
        "UPDATE t SET pad = 'y' WHERE id % 50 = 0; CREATE TABLE small (id int)")
    got = taker.take(split=1, connections=3).json
    assert_equals_source(shop, taker, got["id"])
    ids = [int(row.split(b"\t")[0]) for row in taker.rows(got["id"], "t")]
    assert ids == list(range(1, 220001))


def test_two_vaults(shop, taker):
    sql(shop, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5000)")
    second = taker.root / "second"
    got = taker.take(vault2=second).json
    assert taker.manifest(got["id"]) == taker.manifest(got["id"], second)
    assert len(taker.rows(got["id"], "t", second)) == 5000


def test_a_value_that_no_text_can_carry(shop, taker):
    """The table is inexact, with the reason; all others are there."""
    sql(shop, "CREATE TABLE fine (id int PRIMARY KEY); INSERT INTO fine SELECT generate_series(1, 100)")
    sql(shop, "CREATE TABLE big (id int PRIMARY KEY, v bytea COMPRESSION lz4)")
    sql(shop, "INSERT INTO big VALUES (1, 'x'), (2, convert_to(repeat('a', 600000000), 'UTF8'))")
    got = taker.take(connections=1).json
    held = {t["name"]: t for t in got["tables"]}
    assert held["fine"]["rows"] == 100 and held["fine"]["inexact"] is None
    assert held["big"]["rows"] == 0 and "1 GB" in held["big"]["inexact"]
    assert any(s.startswith("table public.big: ") for s in got["unprotected"])
    assert next(t for t in taker.manifest(got["id"])["tables"] if t["relation"]["name"] == "big")["inexact"]


# -- one moment


BALANCES = ("CREATE TABLE accounts (id int PRIMARY KEY, bid int, balance bigint) WITH (fillfactor = 60); "
            "CREATE TABLE branches (bid int PRIMARY KEY, balance bigint); CREATE TABLE moves (bid int, delta bigint); "
            "INSERT INTO accounts SELECT i, i % 5, 0 FROM generate_series(1, 60000) i; "
            "INSERT INTO branches SELECT i, 0 FROM generate_series(0, 4) i")


def move(server, stop):
    c = server.connect("shop", autocommit=False)
    cur, i = c.cursor(), 0
    while not stop.is_set():
        i += 1
        account, delta = (i * 7919 + threading.get_ident()) % 60000 + 1, i % 1000 - 300
        cur.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (delta, account))
        cur.execute("UPDATE branches SET balance = balance + %s WHERE bid = %s", (delta, i % 5))
        cur.execute("INSERT INTO moves VALUES (%s, %s)", (i % 5, delta))
        c.commit() if i % 10 else c.rollback()
    c.close()


@pytest.mark.parametrize("slot_ms", [10000, 0], ids=["slot", "ordinary"])
def test_all_tables_are_of_one_moment(shop, taker, slot_ms):
    sql(shop, BALANCES)
    stop = threading.Event()
    writers = [threading.Thread(target=move, args=(shop, stop)) for _ in range(3)]
    for w in writers:
        w.start()
    try:
        taken = [taker.take(slot_ms=slot_ms).json for _ in range(3)]
    finally:
        stop.set()
        for w in writers:
            w.join()
    for got in taken:
        assert got["ordinary"] == (slot_ms == 0)
        sums = [sum(int(row.split(b"\t")[column]) for row in taker.rows(got["id"], table))
                for table, column in (("accounts", 2), ("branches", 1), ("moves", 1))]
        assert sums[0] == sums[1] == sums[2]
        assert len(taker.rows(got["id"], "accounts")) == 60000


def test_a_transaction_that_stays_open(shop, taker):
    """No slot in time: an ordinary snapshot, which says what it sees."""
    sql(shop, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    with transaction(shop) as cur:
        cur.execute("INSERT INTO t VALUES (2); SELECT txid_current()")
        xid = cur.fetchone()[0]
        sql(shop, "CREATE TABLE later (id int)")
        got = taker.take(slot_ms=500).json
        cur.connection.commit()
    visibility = taker.manifest(got["id"])["visibility"]
    assert got["ordinary"] and xid in visibility["xip"] and visibility["xmin"] <= xid < visibility["xmax"]
    assert taker.rows(got["id"], "t") == [b"1"]


def test_commits_that_a_crash_could_undo(shop, taker):
    """synchronous_commit = off: what an ordinary snapshot has seen is flushed before the snapshot counts."""
    shop.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    shop.sql("SELECT pg_reload_conf()")
    try:
        sql(shop, "CREATE TABLE t (id int PRIMARY KEY)")
        sql(shop, "SET synchronous_commit = off; INSERT INTO t SELECT generate_series(1, 10)")
        got = taker.take(slot_ms=0).json
        assert sql(shop, "SELECT pg_current_wal_flush_lsn() >= %s", got["position"]) == [(True,)]
        assert len(taker.rows(got["id"], "t")) == 10
    finally:
        shop.sql("ALTER SYSTEM RESET wal_writer_delay")
        shop.sql("SELECT pg_reload_conf()")


# -- others change tables


@pytest.mark.parametrize("change", [
    "TRUNCATE t; INSERT INTO t SELECT i, 'new' FROM generate_series(1, 50) i",
    "ALTER TABLE t ALTER id TYPE bigint; UPDATE t SET v = 'new'",
    "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'new' FROM generate_series(1, 50) i",
    "ALTER TABLE t RENAME TO u; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'new' FROM generate_series(1, 50) i",
    "DROP TABLE t",
], ids=["truncate", "rewrite", "recreate", "rename", "drop"])
def test_a_table_changes_between_snapshot_and_lock(shop, taker, change):
    """Under the first snapshot it would read as empty, or as another table, without an error."""
    sql(shop, "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'old' FROM generate_series(1, 100) i")
    with transaction(shop) as cur:
        cur.execute(change)
        p = taker.start(slot_ms=0)
        deadline = time.monotonic() + 90
        while not shop.value("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted AND "
                             "application_name = 'salvor snapshot'") and p.poll() is None:
            assert time.monotonic() < deadline
        cur.connection.commit()
    got = taker.finish(p).json
    assert_equals_source(shop, taker, got["id"])
    assert len(taker.snapshots()) == 1


def test_the_schema_changes_while_it_is_read(shop):
    """pg_dump shows views and functions as they are now, not as the snapshot sees them."""
    sql(shop, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 200000
        p = taker.start()
        deadline = time.monotonic() + 90
        while not shop.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'salvor snapshot schema%'"):
            assert time.monotonic() < deadline
        proxy.bytes_per_s = 20000  # it is still read when the view comes
        sql(shop, "CREATE VIEW v AS SELECT id + 1 FROM t")
        proxy.bytes_per_s = None
        got = taker.finish(p).json
        assert taker.snapshots("intent") == taker.snapshots() == [got["id"]]  # that of the first try was taken back
        (schema,) = taker.vault.glob("sources/shop/0001/schemas/*.sql.zst")
        assert b"CREATE VIEW public.v AS" in unpack(schema)


def test_a_table_that_others_have_locked(shop, taker):
    sql(shop, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
    with transaction(shop) as cur:
        cur.execute("LOCK TABLE u")
        begun = time.monotonic()
        failed = taker.take(slot_ms=300)
    assert failed.status == 1 and failed.err.startswith("BUSY: ") and "u is locked by postgres" in failed.err
    assert time.monotonic() - begun < 15
    assert taker.snapshots() == []


def alter(server, seconds):
    begun = time.monotonic()
    sql(server, "ALTER TABLE t ALTER v SET DEFAULT 'x'")
    seconds.append(time.monotonic() - begun)


def slow_table(server):
    sql(server, "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 90) FROM generate_series(1, 100000) i; "
        "CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)")


def test_others_queue_behind_our_lock(shop):
    """The snapshot lets go after lock_patience and is taken again."""
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 300000  # half a minute for the whole of it
        p = taker.start(patience_ms=600)
        wait_for_copy(shop)
        waited = []
        alter(shop, waited)
        proxy.bytes_per_s = None
        got = taker.finish(p).json
        assert waited[0] < 25
        assert_equals_source(shop, taker, got["id"])


def test_others_queue_again_and_again(shop):
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 300000  # half a minute for the whole of it
        p, waited = taker.start(patience_ms=300), []
        while p.poll() is None:
            alter(shop, waited)
            time.sleep(0.2)
        failed = taker.finish(p)
        assert failed.status == 1 and failed.err.startswith("BUSY: the snapshot lets go of its locks: ")
        assert "postgres (server process " in failed.err and " table public.t" in failed.err
        assert max(waited) < 25
        assert taker.snapshots() == []


def test_a_worker_meets_who_waits_for_the_holder(shop):
    """With one connection u is copied behind t; an ALTER of u meanwhile would stop it for ever."""
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 300000  # half a minute for the whole of it
        p = taker.start(patience_ms=600, connections=1)
        wait_for_copy(shop)
        begun = time.monotonic()
        sql(shop, "ALTER TABLE u ADD COLUMN v int")
        assert time.monotonic() - begun < 25
        proxy.bytes_per_s = None
        assert_equals_source(shop, taker, taker.finish(p).json["id"])


# -- failures


def test_a_worker_and_an_application_wait_for_each_other(shop):
    """Nothing would move until lock_patience is over: the snapshot lets go at once, not after three minutes."""
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 300000  # half a minute for the whole of it
        p, waited = taker.start(patience_ms=180000, connections=1), []
        wait_for_copy(shop)
        application = threading.Thread(target=lambda: waited.append(sql(shop, "ALTER TABLE u ADD COLUMN v int")))
        application.start()
        deadline = time.monotonic() + 90
        while not shop.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        proxy.bytes_per_s = None  # t is soon read, and then u is wanted
        application.join(90)
        assert waited, "the application still waits"
        assert_equals_source(shop, taker, taker.finish(p).json["id"])


def test_sessions_that_end(shop):
    """Whichever session goes, the snapshot fails soon and says so, and nothing of it is visible."""
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 300000
        for which in ("query LIKE 'COPY%'", "state = 'idle in transaction'", "state = 'idle'"):
            p = taker.start(connections=1)
            wait_for_copy(shop)
            shop.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'salvor snapshot' AND " + which)
            begun = time.monotonic()
            failed = taker.finish(p)
            assert failed.status == 1 and failed.err.startswith("CONNECT: ")
            assert time.monotonic() - begun < 20
        proxy.bytes_per_s = None
        assert taker.snapshots() == [] and list(taker.state.glob("sort/*")) == []
        assert taker.take().status == 0


def test_server_vanishes(shop):
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 150000
        p = taker.start()
        wait_for_copy(shop)
        proxy.close()
        begun = time.monotonic()
        assert taker.finish(p).status == 1
        assert time.monotonic() - begun < 30
        assert taker.snapshots() == []


def test_kill_and_again(shop):
    """What a killed snapshot leaves is invisible, and gone after the next one."""
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        for after in (0, 0.3, 1.5):
            proxy.bytes_per_s = 3000000
            p = taker.start(connections=1)
            wait_for_copy(shop)
            wait_for("its sort files", lambda: list(taker.state.glob("sort/*")))
            time.sleep(after)
            proxy.bytes_per_s = 100000  # it is not at its end before it is killed
            busy = taker.take()
            assert busy.status == 1 and busy.err.startswith("BUSY: another snapshot of this source is being taken")
            taker.kill(p)
            assert taker.snapshots() == []
        proxy.bytes_per_s = None
        got = taker.take().json
        assert_equals_source(shop, taker, got["id"])
        assert not (taker.state / "sort").exists()
        assert taker.snapshots("intent") == [got["id"]]
    assert shop.value("SELECT count(*) FROM pg_replication_slots") == 0


def test_an_intent_that_cannot_be_taken_back(shop):
    """It stops nothing, and whoever comes later takes it back: while it stands a purge removes less."""
    slow_table(shop)
    with Proxy(shop.port) as proxy, taking(shop, port=proxy.port) as taker:
        proxy.bytes_per_s = 300000
        p = taker.start(connections=1)
        wait_for_copy(shop)
        taker.kill(p)
        proxy.bytes_per_s = None
        (left,) = taker.snapshots("intent")
        with mounts.kept(taker.vault / f"sources/shop/0001/snapshots/{left}/intent"):
            first = taker.take().json["id"]
            assert taker.snapshots() == [first] and left in taker.snapshots("intent")
        second = taker.take().json["id"]
        assert taker.snapshots("intent") == taker.snapshots() == sorted([first, second])


def test_refusals(shop, taker):
    sql(shop, "CREATE TABLE t (id int PRIMARY KEY); SELECT lo_create(4711)")
    shop.sql("REVOKE pg_read_all_data FROM salvor")
    try:
        sql(shop, "GRANT SELECT ON t TO salvor")
        refused = taker.take()
        assert refused.status == 3 and "GRANT SELECT ON pg_catalog.pg_largeobject TO salvor" in refused.err
        ignored = taker.take(large_objects="ignore")
        assert ignored.status == 0 and ignored.json["unprotected"] == ["1 large object (4711): they are not captured (large_objects = ignore)"]
        sql(shop, "GRANT SELECT ON pg_largeobject TO salvor")
        assert taker.take().json["unprotected"] == []
    finally:
        shop.sql("GRANT pg_read_all_data TO salvor")
    sql(shop, "SELECT lo_unlink(4711)")
    sql(shop, "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    shop.sql("CREATE ROLE narrow LOGIN REPLICATION")
    try:
        shop.sql("GRANT pg_read_all_data TO narrow")
        with taking(shop, user="narrow") as other:
            refused = other.take()
            assert refused.status == 3 and "row security" in refused.err and "public.t" in refused.err
        shop.sql("REVOKE pg_read_all_data FROM narrow")
        sql(shop, "ALTER TABLE t DISABLE ROW LEVEL SECURITY")
        with taking(shop, user="narrow") as other:
            denied = other.take()
            assert denied.status == 1 and "permission denied for table t" in denied.err
    finally:
        shop.sql("DROP ROLE narrow")


def test_no_room_for_the_sort(shop, taker):
    sql(shop, "CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), v text); INSERT INTO t (v) SELECT repeat('x', 100) FROM "
        "generate_series(1, 60000)")
    with mounts.tmpfs(taker.state, "1m"):
        failed = taker.take()
        assert failed.status == 1 and failed.err.startswith("NO_SPACE: the sort of the largest tables needs about ")
        assert "MiB in " in failed.err and " is free" in failed.err
    assert taker.snapshots() == []
    assert taker.take().status == 0
