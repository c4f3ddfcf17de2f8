"""Statistics of a recovered database: coarse ones of big tables serve at once, and the server's own autovacuum makes the full ones."""
import contextlib

from ledger import OPTIONS
from salvorbox import wait_for

SCHEMA = """
CREATE TABLE big (id int PRIMARY KEY, "the name" text NOT NULL);
INSERT INTO big SELECT i, md5(i::text) FROM generate_series(1, 40000) i;
CREATE TABLE small (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO small SELECT i, md5(i::text) FROM generate_series(1, 2000) i;
CREATE TABLE computed (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO computed SELECT i, md5(i::text) FROM generate_series(1, 40000) i;
CREATE INDEX by_end ON computed (substr(name, 30));
CREATE TABLE own_rules (id int PRIMARY KEY, name text NOT NULL) WITH (autovacuum_enabled = off);
INSERT INTO own_rules SELECT i, md5(i::text) FROM generate_series(1, 40000) i;
CREATE TABLE parted (id int PRIMARY KEY, name text NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE parted_all PARTITION OF parted FOR VALUES FROM (0) TO (1000000);
INSERT INTO parted SELECT i, md5(i::text) FROM generate_series(1, 40000) i;
"""
FULL = {"big": 101, "small": 101, "computed": 101, "own_rules": 101, "parted": 101, "parted_all": 101, "by_end": 101}


def bounds(c):
    """How many bounds the histograms have, the widest of each table's columns."""
    with c.cursor() as cur:
        cur.execute("SELECT tablename, max(cardinality(histogram_bounds::text::text[])) FROM pg_stats WHERE schemaname = 'public' GROUP BY 1")
        return dict(cur.fetchall())


def unanalyzed(c, table):
    with c.cursor() as cur:
        cur.execute("SELECT n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = %s", (table,))
        return cur.fetchone()[0]


def test_coarse_statistics_are_made_full_by_the_server(servers, protected):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA, dbname="shop")
    box = protected(server, **OPTIONS)
    box.ok("snapshot", "shop")
    # Where autovacuum is off, nobody would come.
    server.sql("ALTER SYSTEM SET autovacuum = off")
    server.sql("SELECT pg_reload_conf()")
    server.sql("CREATE DATABASE without TEMPLATE template0")
    box.recover("shop", "--into", server.conninfo("without"))
    with server.connect("without") as c:
        assert bounds(c) == FULL
    # A local server will have it, though it is off while it is loaded.
    result = box.recover("shop", "--local", box.root / "local")
    with contextlib.closing(box.recovered(result)) as c, c.cursor() as cur:
        assert bounds(c) == {**FULL, "big": 11} and unanalyzed(c, "big") == 40000 and unanalyzed(c, "computed") == 0
        cur.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        cur.execute("SELECT pg_reload_conf()")
        wait_for("autovacuum to make the full statistics", lambda: bounds(c) == FULL)
    box.stop_target(box.root / "local")
