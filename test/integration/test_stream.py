"""Transactions that are sent before they have ended: subtransactions that were undone, several at once, schema changes inside; at every commit the
whole database is what it was."""
import contextlib
import os
import random

import psycopg2
import pytest
from pgserver import free_port
from truth import compare, contents

# Everything of some size is sent in blocks of 64 kB.
CONF = {"logical_decoding_work_mem": "64kB", "max_prepared_transactions": "20"}
SCHEMA = """
CREATE TABLE a (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, t text);
CREATE TABLE b (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, t text);
CREATE TABLE whole (k int, t text);
ALTER TABLE whole REPLICA IDENTITY FULL;
INSERT INTO a SELECT i, 0, repeat(md5(i::text), 3) FROM generate_series(1, 500) i;
"""


def shop(servers, schema=SCHEMA, **conf):
    server = servers(conf={**CONF, **conf})
    server.sql("CREATE DATABASE shop")
    server.sql(schema, dbname="shop")
    return server


class Client:
    """A session whose transactions are begun and ended by the test."""

    def __init__(self, server):
        self.connection = psycopg2.connect(server.conninfo("shop"))
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()

    def __call__(self, *statements):
        for s in statements:
            self.cursor.execute(s)

    def rows(self, table, first, count):
        self(f"INSERT INTO {table} (id, t) SELECT i, repeat(md5(i::text), 4) FROM generate_series({first}, {first + count - 1}) i")


class Truths:
    """What the source held after each commit, by the position up to which a recovery has it."""

    def __init__(self, server):
        self.server, self.said = server, []

    def note(self, what):
        with contextlib.closing(self.server.connect("shop")) as c:
            self.said.append((self.server.value("SELECT pg_current_wal_insert_lsn()::text"), what, contents(c)))

    def check(self, box, wanted=None):
        target = self.server
        box.wait_durable("shop", self.said[-1][0])
        for i, (lsn, what, held) in enumerate(self.said):
            if wanted and i not in wanted:
                continue
            name = f"recovered_{i}"
            target.sql(f"CREATE DATABASE {name} TEMPLATE template0")
            box.recover("shop", "--to", lsn, "--into", target.conninfo(name))
            with contextlib.closing(target.connect(name)) as c:
                compare(contents(c), held, f"{what} ({lsn})")
            target.sql(f"DROP DATABASE {name}")


def slot_figures(server):
    return dict(zip(("spilled", "streamed"), server.sql("SELECT spill_bytes, stream_bytes FROM pg_stat_replication_slots")[0]))


@pytest.mark.timeout(240)
def test_interleaved(servers, protected):
    server = shop(servers)
    box = protected(server)
    truths = Truths(server)
    one, two, small = Client(server), Client(server), Client(server)
    truths.note("before all")
    one("BEGIN")
    one.rows("a", 1000, 3000)
    two("BEGIN")
    two.rows("b", 1, 3000)
    small("INSERT INTO whole VALUES (1, 'x'), (1, 'x')")
    truths.note("small between two streamed ones")
    one("SAVEPOINT s1")
    one.rows("a", 10000, 3000)
    one("UPDATE a SET n = n + 1 WHERE id <= 500", "ROLLBACK TO s1")
    one.rows("a", 20000, 2000)
    one("SAVEPOINT s2", "DELETE FROM a WHERE id BETWEEN 1000 AND 1999", "RELEASE s2")
    small("UPDATE whole SET t = 'y' WHERE ctid = '(0,1)'")
    truths.note("another small one")
    two("SAVEPOINT s1")
    two.rows("b", 10000, 3000)
    two("SAVEPOINT s2")
    two.rows("b", 20000, 3000)
    two("ROLLBACK TO s1")
    two.rows("b", 30000, 3000)
    two("COMMIT")
    truths.note("the second one")
    one("SAVEPOINT s3", "TRUNCATE b")
    one.rows("b", 1, 2000)
    one("ROLLBACK TO s3", "SELECT pg_logical_emit_message(true, 'somebody', repeat('x', 1000))")
    one.rows("a", 40000, 3000)
    one("COMMIT")
    truths.note("the first one")
    # Undone as a whole, and one that truncates.
    one("BEGIN")
    one.rows("a", 50000, 4000)
    one("ROLLBACK")
    small("INSERT INTO whole VALUES (2, 'z')")
    truths.note("behind one that was undone")
    one("BEGIN")
    one.rows("a", 50000, 4000)
    one("TRUNCATE a, whole")
    one.rows("a", 60000, 4000)
    one("COMMIT")
    truths.note("behind a truncate")
    truths.check(box)
    figures = slot_figures(server)
    assert figures["streamed"] > 1000000 and figures["spilled"] == 0, figures
    assert box.ok("snapshot", "shop", "--json").json["findings"] == []
