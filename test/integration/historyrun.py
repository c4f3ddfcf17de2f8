"""Runs random histories (history.py) against a real server, recovers to commits of theirs and compares; shrinks one that fails, and replays it.

    SALVOR=build/release/src/cmd/salvor /usr/bin/python3 test/integration/historyrun.py SEED [--crossed | --any] [--shrink]
"""
import contextlib
import dataclasses
import difflib
import io
import random
import re
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
TOO_CLOSE = "changes followed too closely"
BY_POLL = ("is held by another transaction", "captured only from now on")
HIDDEN = "hidden by the transaction's isolation level: another one may have changed"
UNLISTED = re.compile(r"table (\w+\.\w+) is inexact \(rows of it were updated or deleted")
WORDS = re.compile(r"table \w+\.e is inexact \(a transaction wrote values into it before the schema changed")
CHANGED = re.compile(r'"kind":"schema_changed",.*"to":"([0-9A-F/]+)"')
EMPTIED = re.compile(r"table (\w+)\.(\w+) (?:was rewritten or emptied on the way|at [0-9A-F/]+: it was rewritten or emptied)")
# Whose schemas have something that a dump would wait for.
LOCKED = """SELECT DISTINCT n.nspname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.mode = 'AccessExclusiveLock' AND l.granted"""
LARGE = "SELECT oid::text, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1"
RESTS = 3  # while a history changes the schema: moments at which it waits until the schema is captured


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
        self.changing, self.changed_at = set(), []  # transactions that change the schema; positions of their commits
        self.changing_now = set()  # clients whose open transaction has changed it
        self.emptying, self.emptied = {}, []  # tables that a transaction truncates; (position of its commit, table)
        self.points = []  # (position, truth, number of the operation)
        with self.reader.cursor() as cursor:
            cursor.execute(f"DROP SCHEMA IF EXISTS {self.name} CASCADE; CREATE SCHEMA {self.name}; SET search_path = {self.name}; {history.SETUP} {history.MORE if made.kind != 'rows' else ''} {PINNED}")
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
            self.changing_now.discard(op.client)
            if not ends:
                self.skipping[op.client] = op.transaction
            return
        self.follow(op, ends)

    def follow(self, op, ends):
        if op.refusable:
            self.refusable.add(op.transaction)
        if op.changes:
            self.changing.add(op.transaction)
            self.changing_now.add(op.client)
        if op.sql.startswith("PREPARE "):
            self.prepared.add(op.transaction)
        words = op.sql.split()
        if words[0] in ("TRUNCATE", "ALTER", "CREATE", "DROP", "COMMENT", "GRANT", "DO"):
            alone = self.alone(op.client)
            self.locked.setdefault(op.client, set()).update(alone)
            if words[0] == "TRUNCATE":
                self.emptying.setdefault(op.transaction, set()).update(alone)
        if ends:
            self.locked.pop(op.client, None)
            self.changing_now.discard(op.client)
            if words[0] == "COMMIT":
                self.truth()
                at = parse_lsn(self.points[-1][0])
                if op.transaction in self.refusable and not self.refusable_from:
                    self.refusable_from = at
                if op.transaction in self.changing:
                    self.changed_at.append(at)
                self.emptied += [(at, table) for table in self.emptying.get(op.transaction, ())]

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


def next_of(players, rnd):
    """Where recovery must go across changes, no history changes the schema while another's open transaction has: see Generator.change_schema."""
    player = rnd.choice(players)
    others = [p for p in players if p.changing_now and p is not player]
    return rnd.choice(others) if player.history.kind == "crossed" and others and player.history.ops[player.next].changes else player


@dataclasses.dataclass
class Played:
    """Of a play with changes of the schema: the positions at which it was captured, in their order, the last one at the end; at some positions, and at the end, the schema itself."""
    rests: list = dataclasses.field(default_factory=list)
    schemas: dict = dataclasses.field(default_factory=dict)


class Ground:
    """Servers and a box in which batches of histories are played."""

    def __init__(self, server, target, box):
        self.server, self.target, self.box = server, target, box

    def prepare(self, dbname):
        self.server.sql(f"CREATE DATABASE {dbname} TEMPLATE template0")
        self.server.sql(history.SEEING, dbname=dbname)

    def protect(self, dbname):
        self.box.ok("setup", dbname, "--admin", self.server.conninfo(dbname, "postgres", tcp=True))

    def snapshot(self, dbname):
        """A history's TRUNCATE may come between; then it is asked again."""
        for _ in range(5):
            r = self.box.run_command("snapshot", dbname)
            if r.status == 0:
                return
            assert r.status == 1 and ("meanwhile" in r.err or "taken again later" in r.err), r
        raise AssertionError(r)

    def unlock(self, dbname, players):
        """Goes on until nobody has anything for himself that a dump would wait for. The position of that."""
        with contextlib.closing(self.server.connect(dbname)) as c, c.cursor() as cursor:
            while True:
                cursor.execute(LOCKED)
                names = {name for name, in cursor.fetchall()}
                held = [p for p in players if p.name in names and not p.done]
                for player in held:
                    player.step()
                if not held:
                    cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
                    return cursor.fetchone()[0]

    def rest(self, dbname, lsn):
        """Until the schema at a position is captured."""
        self.server.sql("SELECT pg_logical_emit_message(true, 'history', '')", dbname=dbname)
        self.box.wait_durable(dbname, lsn, 120)

        def captured(status):  # what a snapshot beside covers is not listed any more, and is captured all the same
            since = self.box.log_text().rpartition(f"capture {dbname}: incarnation ")[2]
            listed = [c["to"] for c in status["schema_changed"]] + CHANGED.findall("\n".join(x for x in since.splitlines() if f"capture {dbname}: " in x))
            return parse_lsn(status["schema_captured"] or "0/0") >= max(map(parse_lsn, listed), default=0)
        self.box.wait_status(dbname, "the schema to be captured", captured, 180)

    def play(self, dbname, players, rnd, kill=False):
        """All to their ends, one operation of one of them after the other; in the middle a snapshot is taken beside them, and capture may be killed."""
        total, count, beside, played = sum(len(p.history.ops) for p in players), 0, None, Played()
        left = [p for p in players if not p.done]
        changes = any(p.history.kind != "rows" for p in players)
        rests = [total * (i + 1) // (RESTS + 1) for i in range(RESTS)] if changes else []
        looks = [*rnd.sample(rests, 2), rnd.randrange(1, total * 9 // 10)] if changes else []
        for player in players:
            player.truth()
        while left:
            next_of(left, rnd).step()
            count += 1
            if count == total // 2:
                beside = self.box.spawn("snapshot", dbname)
            if kill and count == total // 3:
                self.box.kill_role(f"capture {dbname}")
            if count in rests or count in looks:
                self.see(dbname, players, played, count in looks, count in rests)
            left = [p for p in left if not p.done]
        if changes:
            self.see(dbname, players, played, True, True)
        if beside:
            beside.wait(120)
        return played

    def see(self, dbname, players, played, looks, rests):
        lsn = self.unlock(dbname, players)
        if looks:
            played.schemas[lsn] = schema(self.server, self.server.conninfo(dbname))
        if rests:
            self.rest(dbname, lsn)
            played.rests.append(lsn)

    def refusal(self, players, lsn, sentence, rests):
        """Why this refusal is right, or None: it is not."""
        at = parse_lsn(lsn)
        if TOO_CLOSE in sentence:
            until = min((parse_lsn(r) for r in rests if parse_lsn(r) >= at), default=None)
            between = any(at < change <= (until or change) for p in players for change in p.changed_at)
            return "changes too close to each other" if between else None
        if any(words in sentence for words in BY_POLL):
            return "noticed by a poll"
        if any(p.refusable_from and at >= p.refusable_from for p in players):
            return "a change that is not crossed"
        if HIDDEN in sentence:
            return "another one's change of the same table, hidden from a change by its isolation level"
        if WORDS.search(sentence) and any(change <= at for p in players for change in p.changed_at):
            return "values that were written before a change and committed behind it, beside a snapshot or a start of capture"
        for table in UNLISTED.findall(sentence):
            if f"not listed yet: {table};" in self.box.log_text():
                return "a table that could not be listed at once, another transaction held the list"
        for name, table in EMPTIED.findall(sentence):  # before the place at which the target's schema was captured
            until = min((parse_lsn(r) for r in rests if parse_lsn(r) >= at), default=at)
            if any(p.name == name and any(where <= until and t == table for where, t in p.emptied) for p in players):
                return "a table that was changed and truncated"
        return None

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

    def check(self, dbname, players, lsn, label, text=None):
        """('exact', faults) or ('refused', the sentence); each fault is (player, number of the operation, what). text: the schema there, where it is known."""
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
        if text is not None:
            faults += self.schema_faults(dbname, players, label or lsn, text)
        return "exact", faults

    def schema_faults(self, dbname, players, lsn, wanted):
        got = schema(self.target, self.target.conninfo(f"{dbname}_recovered"))
        lines = list(difflib.unified_diff(wanted.splitlines(), got.splitlines(), "truth", "recovered", lineterm="", n=1))[:20]
        of = next((p for p in players if any(p.name in line for line in lines)), players[0])
        return [(of, of.at(lsn)[1], f"the schema at {lsn} differs:\n" + "\n".join(lines))] if lines else []

    def large_differ(self, dbname):
        """Large objects of what was recovered just now, against the source's as they are."""
        return self.server.sql(LARGE, dbname=dbname) != self.target.sql(LARGE, dbname=f"{dbname}_recovered")


def difference(wanted, found, whole):
    if not whole or wanted is None or found is None:
        return f"recovered {found}, truth {wanted}"
    a, b = wanted.split("\n"), found.split("\n")
    return f"missing {[r[:150] for r in a if r not in b][:4]}, too much {[r[:150] for r in b if r not in a][:4]}"


def settings(server, names):
    """Where the schema changes, tables come and go that nothing but their whole rows identifies."""
    return {name: {"conninfo": server.conninfo(name, "salvor", tcp=True), "rpo": "8s", "heartbeat": "500ms", "poll": "1s", "snapshot_schedule": "none", "snapshot_quiet": "600s",
                   "snapshot_spacing": "600s", "lock_patience": "1s", "probe": "1s", "identity": "inserts" if name == "plain" else "full"} for name in names}


# -- one history alone: replayed, and shrunk

class Alone:
    """A server, a target and a box for single histories, one after the other."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
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
            played = self.ground.play("alone", [player], random.Random(made.seed))
            self.ground.box.wait_durable("alone", player.points[-1][0], 120)
            points = [*(p[0] for p in player.points[1:]), *played.rests]
            chosen = random.Random(made.seed).sample(points, min(positions - 1, len(points))) + [*played.schemas, *points[-1:]]
            found, outcomes = [], {"exact": 0, "refused": 0}
            for lsn in dict.fromkeys(chosen):
                try:
                    outcome, faults = self.ground.check("alone", [player], lsn, None, played.schemas.get(lsn))
                    outcomes[outcome] += 1
                    if outcome == "exact":
                        found += faults
                    elif not self.ground.refusal([player], lsn, faults, played.rests):
                        found.append((player, len(made.ops), faults))
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
                    less = history.History(made.seed, made.kind, [op for op in made.ops if key(op) not in gone])
                    if time.monotonic() < deadline and less.ops and self.faults(less, 3)[0]:
                        made, parts = less, parts[:i] + parts[i + size:]
                        break
                else:
                    size //= 2
        return made


def explain(seed, kind):
    """What a failure says: the command, and the shrunk history where it fails alone."""
    command = f"/usr/bin/python3 test/integration/historyrun.py {seed}{'' if kind == 'rows' else f' --{kind}'} --shrink"
    alone = Alone()
    try:
        made = history.make(seed, kind)
        if not alone.faults(made)[0]:
            return f"alone the history does not fail; again: {command}"
        made = alone.shrink(made)
        faults, _ = alone.faults(made)
        return f"again: {command}\nshrunk to {len(made.ops)} operations:\n" + "\n".join(map(str, made.ops)) + "\n" + "\n".join(f[2] for f in faults[:5])
    finally:
        alone.close()


def main(argv):
    seed, kind = int(argv[1]), next((word[2:] for word in argv if word in ("--crossed", "--any")), "rows")
    alone = Alone()
    try:
        faults, outcomes = alone.faults(history.make(seed, kind), 1000)
    finally:
        alone.close()
    print(f"seed {seed}: {outcomes['exact']} commits exact, {outcomes['refused']} refused, {len(faults)} faults")
    for _, number, text in faults[:10]:
        print(f"  after operation {number}: {text}")
    if faults and "--shrink" in argv:
        print(explain(seed, kind))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
