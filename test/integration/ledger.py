"""A write load whose clients keep a ledger of every commit that the server acknowledged, and what must hold of it afterwards."""
import collections
import json
import random
import threading
import time

import psycopg2
from salvorbox import parse_lsn

SCHEMA = """
CREATE TABLE ledger (id bigint PRIMARY KEY, client int NOT NULL, body text);
CREATE TABLE hot (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0, pad text NOT NULL);
INSERT INTO hot SELECT i, 0, repeat(md5(i::text), 10) FROM generate_series(1, 300) i;
CREATE TABLE passing (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), body jsonb);
CREATE TABLE whole (a int, t text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE lines (id bigint, what text);
"""
# `lines` has no key and is only inserted into.
OPTIONS = {"identity_inserts": "public.lines"}


def transaction(cur, rnd, client, number):
    body = "%032x" % rnd.getrandbits(128) * (200 if number % 13 == 0 else 3)
    cur.execute("INSERT INTO ledger VALUES (%s, %s, %s)", (number, client, body))
    cur.execute("UPDATE hot SET n = n + 1 WHERE id = %s", (rnd.randint(1, 300),))
    cur.execute("INSERT INTO lines VALUES (%s, 'line')", (number % 50,))
    if number % 3 == 0:
        cur.execute("INSERT INTO passing (id, body) VALUES (md5(%s)::uuid, '{}'), (md5(%s)::uuid, NULL)", (f"{number}a", f"{number}b"))
    if number % 4 == 0:
        cur.execute("DELETE FROM passing WHERE id IN (SELECT id FROM passing ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)")
    if number % 5 == 0:
        cur.execute("INSERT INTO whole VALUES (%s, 'same'), (%s, 'same')", (number % 7, number % 7))
        cur.execute("DELETE FROM whole WHERE ctid = (SELECT ctid FROM whole ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)")


class Load:
    """clients threads that write until stop(), about `rate` transactions a second together; after a lost connection they connect
    again. conninfo: text, or a callable that gives it anew for each connection. first: where another load on the same tables ended."""

    def __init__(self, conninfo, clients=3, rate=150, seed=1, first=0):
        self.conninfo = conninfo if callable(conninfo) else lambda: conninfo
        self.acknowledged, self.tried = set(), set()
        self.errors, self.interruptions = [], 0
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.pause_s, self.first = clients / rate, first
        self.threads = [threading.Thread(target=self.work, args=(seed * 100 + i, i), daemon=True) for i in range(clients)]

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def work(self, seed, client):
        rnd = random.Random(seed)
        connection, number = None, client * 10**9 + self.first
        while not self.stopping.is_set():
            number += 1
            try:
                if connection is None:
                    connection = psycopg2.connect(self.conninfo(), connect_timeout=10)
                self.tried.add(number)
                with connection.cursor() as cur:
                    transaction(cur, rnd, client, number)
                connection.commit()
                self.acknowledged.add(number)
            except psycopg2.Error as e:
                if connection is not None and not connection.closed and e.pgcode and not e.pgcode.startswith(("57", "08")):
                    self.errors.append(e)  # a statement failed: nobody may make that happen
                    return
                with self.lock:
                    self.interruptions += 1
                if connection is not None:
                    connection.close()
                connection = None
                self.stopping.wait(0.05)
            except OSError:
                self.stopping.wait(0.05)  # the conninfo is just being replaced
            self.stopping.wait(self.pause_s * rnd.uniform(0.3, 1.7))
        if connection is not None:
            connection.close()

    def wait_acknowledged(self, more, timeout=120):
        """Until so many more commits are acknowledged."""
        goal, deadline = len(self.acknowledged) + more, time.monotonic() + timeout
        while len(self.acknowledged) < goal:
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, f"no {more} commits within {timeout} s"
            self.stopping.wait(0.02)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(60)
        assert not self.errors, self.errors
        return self


def ids(connection):
    with connection.cursor() as cur:
        cur.execute("SELECT id FROM ledger")
        return {row[0] for row in cur.fetchall()}


def check_ledger(connection, load, what, lost_allowed=0):
    """Everything acknowledged is there (but for so many), and nothing that nobody tried."""
    there = ids(connection)
    missing = load.acknowledged - there
    assert len(missing) <= lost_allowed, f"{what}: {len(missing)} acknowledged commits are missing, of {len(load.acknowledged)}: {sorted(missing)[:10]}"
    assert there <= load.tried, f"{what}: rows that nobody wrote: {sorted(there - load.tried)[:10]}"
    return there


def events(box, source, *args):
    return [e for e in map(json.loads, box.ok("log", source, "--json", *args).out.splitlines()) if "op" in e]


def check_log(box, source, wanted):
    """`salvor log`: positions grow strictly from transaction to transaction, each has one xid, and each ledger row arrives once."""
    last, xid, times = 0, None, collections.Counter()
    for e in events(box, source):
        position = parse_lsn(e["position"])
        if position != last:
            assert position > last, f"{e['position']} comes after a later one"
            last, xid = position, e["xid"]
        assert e["xid"] == xid, f"two transactions at {e['position']}: {xid} and {e['xid']}"
        if e.get("table") == "ledger" and e["op"] == "insert":
            times[int(e["row"]["id"])] += 1
    missing = set(wanted) - set(times)
    assert not missing, f"{len(missing)} of {len(wanted)} are not in the log: {sorted(missing)[:10]}"
    twice = [i for i, n in times.items() if n > 1]
    assert not twice, f"twice in the log: {twice[:10]}"
