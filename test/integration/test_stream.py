"""Transactions that are sent before they have ended: subtransactions that were undone, several at once, schema changes inside; at every commit the
whole database is what it was."""
import contextlib
import json
import os
import random
import re
import signal
import threading
import time

import psycopg2
import pytest
from salvorbox import parse_lsn
from truth import compare, contents

SOAK = os.environ.get("SALVOR_SOAK") == "1"

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
        self.server, self.said, self.latest = server, [], {}

    def note(self, what, locked=()):
        """locked: tables that an open transaction has for itself, so that nothing of them has changed since they were looked at last."""
        lsn = self.server.value("SELECT pg_current_wal_insert_lsn()::text")
        self.look(set(self.latest) - set(locked))
        self.said.append((lsn, what, dict(self.latest)))

    def look(self, only=None):
        with contextlib.closing(self.server.connect("shop")) as c:
            self.latest.update(contents(c, only))

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


@pytest.mark.timeout(600)
def test_interleaved(servers, protected):
    server = shop(servers)
    box = protected(server)
    truths = Truths(server)
    truths.look()
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


def notes(box, kind):
    return [n for n in (json.loads(line).get("note") for line in box.ok("log", "shop", "--json").out.splitlines()) if n and n["kind"] == kind]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("admin", [True, False])
def test_schema_changes_inside(servers, protected, admin):
    """What is undone has not happened, whatever was sent of it; what commits is noted at its commit and not before. With event triggers
    and without."""
    server = shop(servers)
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT salvor TO postgres", dbname="shop")
    if not admin:
        server.sql("ALTER TABLE a OWNER TO salvor; ALTER TABLE b OWNER TO salvor; ALTER TABLE whole OWNER TO salvor; GRANT CREATE ON DATABASE shop TO salvor", dbname="shop")
    box = protected(server, admin=admin, poll="10s" if admin else "2s")
    truths = Truths(server)
    truths.look()
    one, small = Client(server), Client(server)
    # A table that is first seen in what is undone, then used by others.
    one("BEGIN", "SAVEPOINT s")
    one.rows("b", 1, 3000)
    one("ROLLBACK TO s")
    small("INSERT INTO b VALUES (100000, 1, 'small')")
    one.rows("b", 5000, 3000)
    one("COMMIT")
    truths.note("first seen in an undone subtransaction")
    one("BEGIN")
    one.rows("a", 1000, 3000)
    one("ROLLBACK")
    small("UPDATE a SET n = 5 WHERE id = 3")
    truths.note("first seen in an undone transaction")
    # The table changes its shape in a subtransaction, is written, and all of that is undone.
    one("BEGIN")
    one.rows("b", 10000, 2000)
    one("SAVEPOINT s", "ALTER TABLE b ADD COLUMN extra text DEFAULT 'more'")
    one.rows("b", 20000, 3000)
    one("SAVEPOINT inner_one", "ALTER TABLE b DROP COLUMN n")
    one.rows("b", 30000, 3000)
    one("ROLLBACK TO s")
    one.rows("b", 40000, 3000)
    one("CREATE TABLE passing (id int PRIMARY KEY, t text)")
    one.rows("passing", 1, 3000)
    one("ROLLBACK TO s")
    one.rows("b", 50000, 3000)
    small("INSERT INTO a VALUES (900001, 1, 'small')")
    truths.note("while the other has changed and undone")
    one("COMMIT")
    truths.note("all changes undone")
    small("INSERT INTO b VALUES (900002, 1, 'small')", "INSERT INTO a VALUES (900002, 1, 'small')")
    truths.note("small ones behind it")
    box.wait_durable("shop", truths.said[-1][0])
    if not admin:  # what a poll finds begins at the poll before: that one has to lie behind all of this
        server.sql("SELECT pg_logical_emit_message(true, 'x', 'y')", dbname="shop")
        box.wait("the schema to be known up to here", lambda: parse_lsn(box.status("shop")["schema_seen"] or "0/0") >= parse_lsn(truths.said[-1][0]))
    assert notes(box, "schema_changed") == []
    truths.check(box)
    # Now it commits, and is known for whoever comes later.
    one("BEGIN")
    one.rows("a", 200000, 2000)
    one("ALTER TABLE b ADD COLUMN extra text")
    one.rows("b", 200000, 3000)
    held = truths.said[-1][2]
    small("INSERT INTO whole VALUES (900003, 'small')")
    lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
    with contextlib.closing(server.connect("shop")) as c:
        truths.said.append((lsn, "before the change commits", {**held, "public.whole": contents(c, ["public.whole"])["public.whole"]}))
    before = len(truths.said) - 1
    one("COMMIT")
    small("INSERT INTO b VALUES (900004, 1, 'small', 'more')", "INSERT INTO a VALUES (900004, 1, 'small')")
    lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait_durable("shop", lsn)
    changed = notes(box, "schema_changed")
    assert changed and {n["how"] for n in changed} <= ({"trigger", "relation"} if admin else {"relation", "poll"}), changed
    if admin:
        truths.check(box, {before})  # without a record, the change is known to lie behind the table's last use
        box.ok("snapshot", "shop")  # it is crossed: none comes by itself
    box.wait_snapshots("shop", 2)
    truths.said.clear()
    truths.look()
    one.rows("b", 300000, 100)
    truths.note("behind the next snapshot")
    truths.check(box)
    assert slot_figures(server)["spilled"] == 0


@pytest.mark.timeout(600)
def test_prepared(servers, protected):
    """Prepared transactions arrive at COMMIT PREPARED: small ones and streamed ones, across restarts of both sides, and one that was
    prepared before a snapshot and committed after it."""
    server = shop(servers)
    box = protected(server, slot_timeout="1s")
    truths = Truths(server)
    truths.look()
    clients = [Client(server) for _ in range(4)]
    for i, c in enumerate(clients):
        c("BEGIN")
        c.rows("a", 10000 * (i + 1), 3000 if i % 2 else 20)
        c("SAVEPOINT s")
        c.rows("b", 10000 * (i + 1), 3000)
        c("ROLLBACK TO s" if i < 3 else "RELEASE s", f"PREPARE TRANSACTION 'p{i}'")
    small = Client(server)
    small("INSERT INTO whole VALUES (1, 'prepared, none committed')")
    truths.note("four are prepared")
    box.ok("snapshot", "shop")
    server.sql("COMMIT PREPARED 'p0'", dbname="shop")
    truths.note("a small one")
    box.wait("a capture process", lambda: box.kill_role("capture shop"), 20)
    server.sql("COMMIT PREPARED 'p1'", dbname="shop")
    truths.note("a streamed one, capture was killed in between")
    for c in [*clients, small]:
        c.connection.close()
    server.kill9()
    server.start()
    box.wait_streaming("shop")
    server.sql("ROLLBACK PREPARED 'p2'", dbname="shop")
    server.sql("INSERT INTO whole VALUES (2, 'one undone')", dbname="shop")
    truths.note("one undone, the server was killed in between")
    server.sql("COMMIT PREPARED 'p3'", dbname="shop")
    truths.note("the last one, with its subtransaction")
    truths.check(box)
    assert box.ok("snapshot", "shop", "--json").json["findings"] == []


class Actor(Client):
    """A session that does something at random, on rows and a table of its own, so that it never waits for another."""

    def __init__(self, server, number, rnd):
        super().__init__(server)
        self.first, self.own, self.rnd = 1000000 * (number + 1), f"own_{number}", rnd
        self.next, self.open, self.depth, self.locks = self.first, False, 0, False

    def change(self):
        table = self.rnd.choice(["a", "b", self.own])
        kind = self.rnd.random()
        if kind < 0.6:
            count = self.rnd.choice([1, 30, 300, 800])
            self.rows(table, self.next, count)
            self.next += count
        elif kind < 0.8:
            self(f"UPDATE {table} SET n = n + 1, t = CASE WHEN id % 7 = 0 THEN NULL ELSE t END WHERE id BETWEEN {self.first} AND {self.next} AND id % 5 = {self.rnd.randint(0, 4)}")
        elif kind < 0.9:
            self(f"DELETE FROM {table} WHERE id BETWEEN {self.first} AND {self.next} AND id % 11 = {self.rnd.randint(0, 10)}")
        elif kind < 0.93:
            self(f"TRUNCATE {self.own}")
            self.locks = True
        elif kind < 0.95:
            self("SELECT pg_logical_emit_message(true, 'somebody', 'text'), pg_logical_emit_message(false, 'somebody', 'overtakes')")
        elif self.depth:
            self(f"ALTER TABLE {self.own} ADD COLUMN IF NOT EXISTS extra text DEFAULT 'undone below'")
            self.must_undo = self.locks = True

    def step(self):
        """True: something was committed."""
        kind = self.rnd.random()
        if not self.open:
            self("BEGIN")
            self.open, self.depth, self.must_undo = True, 0, False
        elif kind < 0.6:
            self.change()
        elif kind < 0.72:
            self.depth += 1
            self(f"SAVEPOINT s{self.depth}")
        elif kind < 0.86 and self.depth:
            back = self.rnd.randint(1, self.depth)
            if self.must_undo or self.rnd.random() < 0.6:
                back = 1 if self.must_undo else back
                self(f"ROLLBACK TO s{back}")
                self.depth, self.must_undo = back, False
            else:
                self(f"RELEASE s{back}")
                self.depth = back - 1
        elif kind > 0.93:
            undone = self.must_undo or self.rnd.random() < 0.15
            self("ROLLBACK" if undone else "COMMIT")
            self.open = self.locks = False
            return not undone
        return False


def random_streams(server, box, rnd, truths, kills, disturb, per_kill=24, actors_count=4):
    """Sessions take turns at random; disturb() after every so many steps, from a thread, at no moment in particular."""
    make = lambda: [Actor(server, i, rnd) for i in range(actors_count)]  # noqa: E731
    actors = make()
    truths.look()
    for number in range(kills):
        timer = threading.Timer(rnd.uniform(0, 0.7), disturb, args=(number,))
        timer.start()
        try:
            for _ in range(per_kill):
                actor = rnd.choice(actors)
                if not actor.step():
                    continue
                truths.look({f"public.{actor.own}"})
                if rnd.random() < 0.4:
                    truths.note(f"round {number}", {f"public.{a.own}" for a in actors if a.locks})
        except psycopg2.Error:
            timer.join()
            box.wait("the server", lambda: server_is_up(server), 30)
            tops = [a.next for a in actors]
            actors = make()
            for a, top in zip(actors, tops):
                a.next = top
            truths.look()
        timer.join()
    for a in actors:
        a.connection.close()  # what is open is undone
    server.sql("INSERT INTO whole VALUES (0, 'the end')", dbname="shop")
    truths.note("the end")


def server_is_up(server):
    with contextlib.suppress(psycopg2.Error):
        server.value("SELECT 1")
        return True
    return False


def own_tables(count=4):
    return SCHEMA + "".join(f"CREATE TABLE own_{i} (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, t text);" for i in range(count))


def check_random(server, box, rnd, truths, what):
    status = box.wait_streaming("shop")
    box.wait_durable("shop", truths.said[-1][0], 60)
    status = box.status("shop")
    said = box.log_text()
    if status["incarnation"] != "0001" and "could not map filenode" in said:
        # PostgreSQL 15 itself: begun again behind a table that was made anew, it decodes otherwise than before, and fails. That must be noticed, and is.
        assert "is not the one that was captured" in said, what
        pytest.skip(f"{what}: the server could not decode its log again; Salvor began anew")
    assert status["gaps"] == [] and status["inexact"] == [] and status["incarnation"] == "0001", f"{what}: {status}"
    assert notes(box, "schema_changed") == [], what
    last = len(truths.said) - 1
    truths.check(box, {last, *rnd.sample(range(last), min(last, 30 if SOAK else 4))})
    assert box.ok("snapshot", "shop", "--json").json["findings"] == [], what
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == [], what


@pytest.mark.timeout(7200 if SOAK else 600)
def test_capture_killed_inside(servers, protected):
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    rnd = random.Random(seed)
    server = shop(servers, own_tables())
    box = protected(server, rpo="1s", segment_size="256KiB", heartbeat="200ms", poll="300ms")
    truths = Truths(server)
    lives = [0]

    def kill(number):
        # The supervisor starts a role again five times in five minutes, then it waits.
        if lives[0] < 4:
            box.wait("a capture process", lambda: box.kill_role("capture shop"), 20)
            lives[0] += 1
        else:
            box.kill9()
            box.start()
            lives[0] = 0

    random_streams(server, box, rnd, truths, 300 if SOAK else 20, kill)
    check_random(server, box, rnd, truths, f"seed {seed}")
    assert slot_figures(server)["streamed"] > 0


@pytest.mark.timeout(600)
def test_nothing_is_left(servers, protected):
    """A transaction of which all was undone is streamed, with its commit; sent again it comes whole, and the server then leaves it out."""
    server = shop(servers)
    box = protected(server, rpo="1s", heartbeat="1h")
    box.wait_streaming("shop")
    truths = Truths(server)
    truths.look()
    one = Client(server)
    for number in range(3):
        one("BEGIN", "SAVEPOINT s1")
        one.rows("a", 1000, 3000)
        one("ROLLBACK TO s1", "COMMIT")
        truths.note(f"nothing {number}")
        box.wait_durable("shop", truths.said[-1][0])
        assert box.kill_role("capture shop")
        one(f"INSERT INTO whole VALUES ({number}, 'y')")
        truths.note(f"behind it {number}")
        box.wait_durable("shop", truths.said[-1][0])
    status = box.status("shop")
    assert status["incarnation"] == "0001" and status["gaps"] == [], status
    truths.check(box)


@pytest.mark.timeout(7200 if SOAK else 600)
def test_server_killed_inside(servers, protected):
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    rnd = random.Random(seed)
    server = shop(servers, own_tables())
    box = protected(server, rpo="1s", segment_size="256KiB", heartbeat="200ms", poll="300ms", probe="1min")
    truths = Truths(server)

    def kill(number):
        server.kill9()
        server.start()

    random_streams(server, box, rnd, truths, 60 if SOAK else 4, kill)
    check_random(server, box, rnd, truths, f"seed {seed}")


HUGE = 5000000 if SOAK else 300000


def confirmed_in_the_middle(server, box):
    """Small transactions go on, and are in the vault: the server need not send again what lies before them, but for what the huge one has of it."""
    middle = server.value("SELECT pg_current_wal_insert_lsn()::text")

    def confirmed():
        server.sql("INSERT INTO whole VALUES (1, 'small')", dbname="shop")
        return server.value("SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots", middle)
    box.wait("the slot to be behind the half", confirmed)


@pytest.mark.timeout(3600 if SOAK else 600)
def test_huge_transaction_killed(servers, protected):
    """One huge transaction: nothing is spilled without a reconnect; capture is killed in its middle, and then no more than had been confirmed, and that is shown; memory stays bounded on every way."""
    server = shop(servers, **({"logical_decoding_work_mem": "64MB", "max_slot_wal_keep_size": "20GB", "max_wal_size": "8GB"} if SOAK else {}))
    box = protected(server, rpo="1s")
    one = Client(server)
    one("BEGIN")
    one.rows("a", 1000, HUGE // 2)
    confirmed_in_the_middle(server, box)
    before = slot_figures(server)
    assert before["spilled"] == 0 and before["streamed"] > HUGE * 50, before
    killed = box.wait("a capture process", lambda: box.role_pid("capture shop"), 20)
    peak = peak_mib(killed)
    os.kill(killed, signal.SIGKILL)
    assert peak < 128, peak
    one.rows("a", 1000 + HUGE // 2, HUGE // 2)
    one("UPDATE a SET n = 1 WHERE id % 10 = 0", "COMMIT")
    lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait_durable("shop", lsn, 600 if SOAK else 120)
    assert peak_mib(box.capture_pid("shop")) < 128
    figures = slot_figures(server)
    assert 0 < figures["spilled"] < 1.1 * before["streamed"] < 0.6 * figures["streamed"], (before, figures)  # once confirmed, and all of it
    box.wait("the status to show it", lambda: (lambda s, f: (s["spill_bytes"], s["stream_bytes"]) == (f["spilled"], f["streamed"]))(box.status("shop"), slot_figures(server)))
    shown = re.search(r"large transactions .* sent before their end, (.+) written into files", box.ok("status", "shop").out)
    assert shown and shown.group(1) != "0 B", shown
    server.sql("CREATE DATABASE recovered TEMPLATE template0")
    process = box.spawn("recover", "shop", "--to", "latest", "--into", server.conninfo("recovered"))
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            peak = max(peak, peak_mib(process.pid))
        time.sleep(0.05)
    assert process.returncode == 0, (box.root / "spawned.log").read_text()
    assert peak < 512, peak
    with contextlib.closing(server.connect("recovered")) as recovered, contextlib.closing(server.connect("shop")) as source:
        compare(contents(recovered), contents(source), "after one huge transaction")
    # Once more without a kill, while all the rest of it is compared and read.
    process = box.spawn("log", "shop", "--table", "public.none")
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            peak = max(peak, peak_mib(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0 and peak < 128, peak
    assert box.ok("snapshot", "shop", "--json").json["findings"] == []


def peak_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


@pytest.mark.timeout(600)
def test_a_huge_value(servers, protected):
    """One text value of 300 MB, in a transaction that is streamed: captured, kept and recovered."""
    server = shop(servers, default_toast_compression="lz4")  # the other one takes most of the time, and none of it is Salvor's
    box = protected(server)
    one = Client(server)
    one("BEGIN")
    one.rows("a", 1000, 2000)
    one("SAVEPOINT s", "INSERT INTO b VALUES (1, 1, repeat(md5('undone'), 3000000))", "ROLLBACK TO s")
    one("INSERT INTO b SELECT 2, 1, string_agg(md5(i::text), '') FROM generate_series(1, 9400000) i", "UPDATE b SET n = 2")
    one.rows("a", 10000, 2000)
    one("COMMIT")
    box.wait_durable("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"), 120)
    server.sql("CREATE DATABASE recovered TEMPLATE template0")
    box.recover("shop", "--to", "latest", "--into", server.conninfo("recovered"))
    sums = [server.sql("SELECT id, n, length(t), md5(t) FROM b", dbname=name) for name in ("shop", "recovered")]
    assert sums[0] == sums[1] and sums[0][0][2] == 300800000, sums
    assert box.status("shop")["inexact"] == []
