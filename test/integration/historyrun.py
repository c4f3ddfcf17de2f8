"""Runs random histories (history.py) against a real server, recovers to commits of theirs and compares; shrinks one that fails, and replays it.

    SALVOR=build/release/src/cmd/salvor /usr/bin/python3 test/integration/historyrun.py SEED [--changes] [--shrink]
"""
import contextlib
import difflib
import io
import random
import sys
import time

import psycopg2
from corpusrun import PINNED
from pgserver import PgServer
from salvorbox import Salvor, parse_lsn
from truth import schema

import history

COLUMNS = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = '{}' AND c.relkind = 'r' AND c.relpersistence = 'p' ORDER BY 1"""
# What a refusal may say; anything else is a fault.
REFUSALS = ("the schema changed", "is inexact")


def digest_query(name, tables, whole):
    what = "string_agg(t::text, E'\\n' ORDER BY t::text)" if whole else "count(*) || ' rows ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '')"
    return " UNION ALL ".join(f"SELECT '{t}', {what} FROM ONLY {name}.\"{t}\" t" for t in tables)


def read(cursor, name, whole, leave_out=()):
    """{table: what it holds}, for the tables that nobody has for himself."""
    cursor.execute(COLUMNS.format(name))
    tables = [t for t, in cursor.fetchall() if t not in leave_out]
    if not tables:
        return {}
    cursor.execute(digest_query(name, tables, whole))
    return dict(cursor.fetchall())


class Player:
    """One history in its schema, with its sessions, and the truth after each commit."""

    def __init__(self, server, dbname, made, whole=False):
        self.name, self.history, self.whole = f"h{made.seed}", made, whole
        self.sessions = [server.connect(dbname) for _ in range(history.CLIENTS)]
        self.reader = server.connect(dbname)
        self.next, self.skipping, self.prepared, self.errors = 0, {}, set(), []
        self.locked = {}  # client: tables that its open transaction has for itself
        self.refusable, self.refusable_from = set(), None  # transactions with a change that may be refused; the position of the first one's commit
        self.points = []  # (position, truth, number of the operation)
        with self.reader.cursor() as cursor:
            cursor.execute(f"DROP SCHEMA IF EXISTS {self.name} CASCADE; CREATE SCHEMA {self.name}; SET search_path = {self.name}; {history.SETUP} {PINNED}")
        for session in self.sessions:
            session.cursor().execute(f"SET search_path = {self.name}, public; SET lock_timeout = '30s'")

    def close(self):
        for session in [*self.sessions, self.reader]:
            session.close()

    def truth(self):
        """Tables that another client has for itself have not changed since the last time."""
        locked = set().union(*self.locked.values())
        with self.reader.cursor() as cursor:
            found = read(cursor, self.name, self.whole, locked)
            cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
            lsn = cursor.fetchone()[0]
        before = self.points[-1][1] if self.points else {}
        self.points.append((lsn, {**{t: before[t] for t in locked if t in before}, **found}, self.next))

    @property
    def done(self):
        return self.next >= len(self.history.ops)

    def step(self):
        op = self.history.ops[self.next]
        self.next += 1
        ends = op.sql in ("COMMIT", "ROLLBACK") or " PREPARED '" in op.sql
        if self.skipping.get(op.client) == op.transaction:
            if not ends:
                return
            del self.skipping[op.client]
            if op.sql in ("COMMIT", "ROLLBACK"):
                return
        if " PREPARED '" in op.sql and op.transaction not in self.prepared:
            return
        self.run(op, ends)

    def run(self, op, ends):
        try:
            with self.sessions[op.client].cursor() as cursor:
                if op.rows is not None:
                    cursor.copy_expert(op.sql, io.StringIO(op.rows))
                else:
                    cursor.execute(op.sql)
        except psycopg2.Error as e:
            self.errors.append((str(op), str(e).split("\n")[0]))
            self.sessions[op.client].cursor().execute("ROLLBACK")
            self.locked.pop(op.client, None)
            if not ends:
                self.skipping[op.client] = op.transaction
            return
        self.follow(op, ends)

    def follow(self, op, ends):
        if op.refusable:
            self.refusable.add(op.transaction)
        if op.sql.startswith("PREPARE "):
            self.prepared.add(op.transaction)
        words = op.sql.split()
        if words[0] in ("TRUNCATE", "ALTER", "CREATE", "DROP", "COMMENT", "GRANT"):
            self.locked.setdefault(op.client, set()).update(self.alone(op.client))
        if ends:
            self.locked.pop(op.client, None)
            if words[0] == "COMMIT":
                self.truth()
                if op.transaction in self.refusable and not self.refusable_from:
                    self.refusable_from = parse_lsn(self.points[-1][0])

    def alone(self, client):
        """Tables that this client's session holds so that others cannot read them."""
        with self.reader.cursor() as cursor:
            cursor.execute(f"""SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
                               WHERE n.nspname = '{self.name}' AND l.mode = 'AccessExclusiveLock' AND c.relkind = 'r'
                               AND l.pid = {self.sessions[client].info.backend_pid}""")
            return {row[0] for row in cursor.fetchall()}

    def at(self, lsn):
        """The truth at a position: that of the last commit at or before it."""
        found = None
        for position, truth, number in self.points:
            if parse_lsn(position) <= parse_lsn(lsn):
                found = truth, number
        return found


class Ground:
    """Servers and a box in which batches of histories are played."""

    def __init__(self, server, target, box):
        self.server, self.target, self.box = server, target, box

    def prepare(self, dbname):
        self.server.sql(f"CREATE DATABASE {dbname} TEMPLATE template0")

    def protect(self, dbname):
        self.box.ok("setup", dbname, "--admin", self.server.conninfo(dbname, "postgres", tcp=True))

    def snapshot(self, dbname):
        """A history's TRUNCATE may come between; then it is asked again."""
        for _ in range(5):
            r = self.box.run_command("snapshot", dbname)
            if r.status == 0:
                return
            assert r.status == 1 and "meanwhile" in r.err, r
        raise AssertionError(r)

    def play(self, dbname, players, rnd, kill=False):
        """All to their ends, one operation of one of them after the other; in the middle a snapshot is taken beside them, and capture may be killed."""
        total, count, beside = sum(len(p.history.ops) for p in players), 0, None
        left = [p for p in players if not p.done]
        for player in players:
            player.truth()
        while left:
            player = rnd.choice(left)
            player.step()
            count += 1
            if count == total // 2:
                beside = self.box.spawn("snapshot", dbname)
            if kill and count == total // 3:
                self.box.kill_role(f"capture {dbname}")
            if player.done:
                left.remove(player)
        if beside:
            beside.wait(120)

    def recover(self, dbname, lsn):
        """A session with the recovered database, or the sentence of the refusal."""
        name = f"{dbname}_recovered"
        self.target.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.target.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        r = self.box.run_command("recover", dbname, "--to", lsn, "--into", self.target.conninfo(name), "--json")
        if r.status == 3 and any(words in r.err for words in REFUSALS):
            return None, r.err.strip()
        assert r.status == 0 and r.json["verified"], f"recover to {lsn}: {r}"
        return self.target.connect(name), None

    def check(self, dbname, players, lsn, label):
        """('exact', faults) or ('refused', the sentence); each fault is (player, number of the operation, text)."""
        connection, refusal = self.recover(dbname, lsn)
        if refusal:
            return "refused", refusal
        faults = []
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(PINNED)
            for player in players:
                wanted, number = player.at(label or lsn)
                found = read(cursor, player.name, player.whole)
                for table in sorted(set(wanted) | set(found)):
                    if wanted.get(table) != found.get(table):
                        faults.append((player, number, f"{table} at {lsn}: " + difference(wanted.get(table), found.get(table), player.whole)))
        return "exact", faults

    def schemas_differ(self, dbname):
        name = f"{dbname}_recovered"
        wanted, got = schema(self.server, self.server.conninfo(dbname)), schema(self.target, self.target.conninfo(name))
        return list(difflib.unified_diff(wanted.splitlines(), got.splitlines(), "truth", "recovered", lineterm="", n=1))[:20]


def difference(wanted, found, whole):
    if not whole or wanted is None or found is None:
        return f"recovered {found}, truth {wanted}"
    a, b = wanted.split("\n"), found.split("\n")
    return f"missing {[r[:150] for r in a if r not in b][:4]}, too much {[r[:150] for r in b if r not in a][:4]}"


def settings(server, names):
    return {name: {"conninfo": server.conninfo(name, "salvor", tcp=True), "rpo": "8s", "heartbeat": "500ms", "poll": "1s", "snapshot_schedule": "none", "snapshot_quiet": "600s",
                   "snapshot_spacing": "600s", "lock_patience": "1s", "probe": "1s", "identity": "inserts"} for name in names}


# -- one history alone: replayed, and shrunk

class Alone:
    """A server, a target and a box for single histories, one after the other."""

    def __init__(self, changes):
        self.changes, self.stack = changes, contextlib.ExitStack()
        conf = {"logical_decoding_work_mem": "64kB", "log_min_messages": "fatal"}
        server, target = (self.stack.enter_context(PgServer().start(conf)) for _ in range(2))
        server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
        self.ground = Ground(server, target, self.stack.enter_context(Salvor(settings(server, ["alone"]))))
        self.ground.prepare("alone")
        self.ground.box.ok("init")
        self.ground.protect("alone")
        self.ground.box.start()
        self.ground.box.wait_snapshots("alone", 1)

    def close(self):
        self.stack.close()

    def faults(self, made, positions=6):
        """Plays it; what is wrong at its end and at some commits before."""
        player = Player(self.ground.server, "alone", made, whole=True)
        try:
            self.ground.snapshot("alone")
            self.ground.play("alone", [player], random.Random(made.seed))
            self.ground.box.wait_durable("alone", player.points[-1][0], 120)
            points = [p[0] for p in player.points[1:]]
            chosen = random.Random(made.seed).sample(points, min(positions - 1, len(points))) + points[-1:]
            found, outcomes = [], {"exact": 0, "refused": 0}
            for lsn in dict.fromkeys(chosen):
                try:
                    outcome, faults = self.ground.check("alone", [player], lsn, None)
                    outcomes[outcome] += 1
                    found += faults if outcome == "exact" else []
                except AssertionError as e:
                    found.append((player, len(made.ops), str(e)[:1000]))
            return found, outcomes
        finally:
            player.close()

    def shrink(self, made, seconds=300):
        """Takes away transactions, then statements, as long as a fault is left."""
        deadline = time.monotonic() + seconds
        for key in (lambda op: op.transaction, lambda op: id(op)):
            parts = list(dict.fromkeys(key(op) for op in made.ops))
            size = max(1, len(parts) // 2)
            while size and time.monotonic() < deadline:
                for i in range(0, len(parts), size):
                    gone = set(parts[i:i + size])
                    less = history.History(made.seed, made.changes, [op for op in made.ops if key(op) not in gone])
                    if time.monotonic() < deadline and less.ops and self.faults(less, 3)[0]:
                        made, parts = less, parts[:i] + parts[i + size:]
                        break
                else:
                    size //= 2
        return made


def explain(seed, changes):
    """What a failure says: the command, and the shrunk history where it fails alone."""
    command = f"/usr/bin/python3 test/integration/historyrun.py {seed}{' --changes' if changes else ''} --shrink"
    alone = Alone(changes)
    try:
        made = history.make(seed, changes)
        if not alone.faults(made)[0]:
            return f"alone the history does not fail; again: {command}"
        made = alone.shrink(made)
        faults, _ = alone.faults(made)
        return f"again: {command}\nshrunk to {len(made.ops)} operations:\n" + "\n".join(map(str, made.ops)) + "\n" + "\n".join(f[2] for f in faults[:5])
    finally:
        alone.close()


def main(argv):
    seed, changes = int(argv[1]), "--changes" in argv
    alone = Alone(changes)
    try:
        faults, outcomes = alone.faults(history.make(seed, changes), 1000)
    finally:
        alone.close()
    print(f"seed {seed}: {outcomes['exact']} commits exact, {outcomes['refused']} refused, {len(faults)} faults")
    for _, number, text in faults[:10]:
        print(f"  after operation {number}: {text}")
    if faults and "--shrink" in argv:
        print(explain(seed, changes))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
