"""SIGKILL of a recovery in each of its phases, at a call of it that is chosen among those counted there, across schema changes, into a directory and into a database. The same command again gives
all of it, or refuses because all of it is there; nothing that the killed one had started is left."""
import contextlib
import os
import random
import shutil
import time

import psycopg2
import pytest
from killat import KillAt
from ledger import OPTIONS, SCHEMA, Load
from pgserver import PgServer, free_port, release_port
from salvorbox import wait_for
from test_equality import difference
from truth import compare, contents, schema

SOAK = os.environ.get("SALVOR_SOAK") == "1"
ROUNDS = 20 if SOAK else 1
PHASES = ["plan", "provision", "schema", "load", "large objects", "indexes", "sequences", "analyze", "verify", "ready"]
SHOP = SCHEMA + """
CREATE TABLE wide (id int PRIMARY KEY, a uuid NOT NULL, b text);
INSERT INTO wide SELECT i, md5(i::text)::uuid, repeat(md5((i * 7)::text), 4) FROM generate_series(1, 6000) i;
CREATE INDEX ON wide (b, a); CREATE INDEX ON wide (a);
CREATE MATERIALIZED VIEW summed AS SELECT a, count(*) AS n FROM wide GROUP BY a;
CREATE SEQUENCE numbers; SELECT nextval('numbers') FROM generate_series(1, 10);
SELECT lo_from_bytea(4711, convert_to(repeat('large', 20000), 'UTF8'));
"""
CHANGES = """ALTER TABLE wide RENAME b TO c; ALTER TABLE wide ADD COLUMN d int DEFAULT 7; UPDATE wide SET d = 8 WHERE id % 9 = 0; CREATE INDEX ON wide (d);
CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later SELECT generate_series(1, 50); ALTER TABLE lines ADD COLUMN more text DEFAULT 'm'; DROP TABLE passing"""


class Local:
    """A new server in a directory."""

    def __init__(self, server, box):
        self.server, self.box, self.directory, self.port = server, box, box.root / "target", free_port()
        self.conninfo = f"host=127.0.0.1 port={self.port} dbname=shop user=postgres"
        self.command = ["recover", "shop", "--local", self.directory, "--port", self.port]

    def processes(self):
        """In its data directory, whether that is still there or not, and those whose words name it."""
        found = set(self.box.strays())
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/cwd").startswith(str(self.directory / "data")):
                    found.add(int(pid))
        return {pid for pid in found if not PgServer.is_zombie(pid)}

    def left_over(self):
        """But the one server that is in charge of the directory: the same command ends it."""
        postmaster = None
        with contextlib.suppress(OSError, ValueError):
            postmaster = int((self.directory / "data/postmaster.pid").read_text().split("\n")[0])
        return [pid for pid in self.processes() if postmaster not in (pid, parent(pid))]

    def clear(self):
        self.box.stop_target(self.directory)
        wait_for("the recovered server to be gone", lambda: not self.processes())
        shutil.rmtree(self.directory)

    def close(self):
        release_port(self.port)


class Into:
    """A database of a server that runs."""

    def __init__(self, server, box):
        self.server, self.box, self.conninfo = server, box, server.conninfo("recovered")
        self.command = ["recover", "shop", "--into", self.conninfo]
        self.clear()

    def left_over(self):
        return [*self.box.strays(), *self.server.sql("SELECT pid, application_name, query FROM pg_stat_activity WHERE datname = 'recovered'")]

    def clear(self):
        self.server.sql("DROP DATABASE IF EXISTS recovered")
        self.server.sql("CREATE DATABASE recovered TEMPLATE template0")

    def close(self):
        self.server.sql("DROP DATABASE recovered")


def parent(pid):
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
        return int(f.read().rpartition(")")[2].split()[1])
    return None


class Truth:
    def __init__(self, server):
        self.server = server
        with contextlib.closing(server.connect("shop")) as c:
            self.held = self.read(c)
        self.text = schema(server, server.conninfo("shop"))

    @staticmethod
    def read(connection):
        held = contents(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT md5(string_agg(s::text, ' ' ORDER BY a)) FROM public.summed s")
            held["public.summed"] = cursor.fetchone()
            cursor.execute("SELECT oid::text, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1")
            held["large objects"] = cursor.fetchall()
        return held

    def check(self, conninfo, what):
        with contextlib.closing(psycopg2.connect(conninfo)) as c:
            compare(self.read(c), self.held, what)
        differ = difference(self.text, schema(self.server, conninfo))
        if differ:
            pytest.fail(f"{what}: schemas differ:\n" + "\n".join(differ))


def shop(servers, protected, seed):
    """A source, its snapshot, changes of rows and of the schema behind it; Salvor is at rest."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(SHOP, dbname="shop")
    box = protected(server, **OPTIONS)
    load = Load(server.conninfo("shop"), seed=seed).start()
    load.wait_acknowledged(100)
    load.stop()
    server.sql(CHANGES, dbname="shop")
    server.sql("REFRESH MATERIALIZED VIEW summed", dbname="shop")
    box.wait_durable("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))
    box.wait("the schema to be captured", lambda: box.status("shop")["schema_captured"])
    box.stop()
    assert len(box.status("shop")["snapshots"]) == 1
    return server, box


def call(rnd, count):
    """Among those of a phase, as often near its begin or its end: there is most of what is done once."""
    count = max(1, count * 9 // 10)  # there may be some less the next time
    near = min(count, 30)
    return rnd.choice([rnd.randint(1, count), rnd.randint(1, near), rnd.randint(count - near + 1, count)])


def killed(case, killat, phase, after, what):
    """The phase in which it died; nothing that it had started is left, but for the server in the directory."""
    status, killed_in, _ = killat.run(case.command, phase, after)
    assert killed_in, f"{what}: it was never killed: status {status}"
    wait_for(f"{what}: nothing to be left of it", lambda: not case.left_over())
    return killed_in


def recovered_after(case, truth, killed_in, what):
    """The same command again. True: it refused, since all of it was there."""
    again = case.box.run_command(*case.command, "--json")
    if again.status == 3 and "not empty" in again.err:
        assert killed_in == "ready", f"{what}: {again}"
    else:
        assert again.status == 0 and again.json["verified"], f"{what}: {again}"
        case.box.fails(3, *case.command, says="not empty")  # what is ready is nobody's leftover
    truth.check(case.conninfo, what)
    wait_for(f"{what}: nothing to be left besides what was recovered", lambda: not case.left_over())
    left = [p.name for p in (case.box.state / "shop").iterdir() if p.name.startswith("recover.")]
    assert not left, f"{what}: {left}"
    return again.status == 3


@contextlib.contextmanager
def case_of(kind, servers, protected, seed):
    server, box = shop(servers, protected, seed)
    case = kind(server, box)
    killat = KillAt(box, "shop", PHASES)
    try:
        status, _, counts = killat.run(case.command)
        assert status == 0 and all(counts.values()), (counts, killat.log.read_text())
        yield case, Truth(server), killat, counts
    finally:
        case.close()
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []


@pytest.mark.timeout(7200 if SOAK else 300)
@pytest.mark.parametrize("kind", [Into, Local] if SOAK else [Into])
def test_killed_in_each_phase(servers, protected, kind, record_property):
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    rnd = random.Random(seed)
    with case_of(kind, servers, protected, seed) as (case, truth, killat, counts):
        began, ready = time.monotonic(), 0
        for phase in PHASES * ROUNDS:
            case.clear()
            after = call(rnd, counts[phase])
            what = f"SALVOR_SEED={seed}, {kind.__name__}, killed at call {after} of {counts[phase]} in {phase}"
            ready += recovered_after(case, truth, killed(case, killat, phase, after, what), what)
        record_property("tells", f"{len(PHASES) * ROUNDS} kills in {time.monotonic() - began:.0f} s, {ready} when all was there; calls counted {counts}; SALVOR_SEED={seed}")


@pytest.mark.timeout(7200 if SOAK else 300)
@pytest.mark.parametrize("kind", [Into, Local] if SOAK else [Local])
def test_killed_again_and_again(servers, protected, kind, record_property):
    """Each time what the one before has left behind, a phase later."""
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    rnd = random.Random(seed)
    with case_of(kind, servers, protected, seed) as (case, truth, killat, counts):
        began, ready, kills = time.monotonic(), 0, []
        for _ in range(ROUNDS):
            case.clear()
            # What lies between is the same with both kinds.
            some = PHASES if SOAK else [*PHASES[:2], *sorted(rnd.sample(PHASES[2:8], 2), key=PHASES.index), *PHASES[8:]]
            for phase in some:
                after = call(rnd, counts[phase])
                kills.append(f"{after} of {counts[phase]} in {phase}")
                what = f"SALVOR_SEED={seed}, {kind.__name__}, killed at call {', '.join(kills[-len(some):])}"
                died_in = killed(case, killat, phase, after, what)
            ready += recovered_after(case, truth, died_in, what)
        record_property("tells", f"{len(kills)} kills in {time.monotonic() - began:.0f} s ({', '.join(kills[-10:])}), {ready} times all was there; SALVOR_SEED={seed}")


WAITS = """CREATE FUNCTION waits(i int, k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(k); RETURN i; END';
CREATE TABLE slow (id int PRIMARY KEY); INSERT INTO slow VALUES (1), (2);
CREATE INDEX ON slow (waits(id, 1)); CREATE MATERIALIZED VIEW view AS SELECT waits(id, 2) FROM slow"""


@pytest.mark.timeout(300)
def test_what_its_sessions_were_at(servers, protected):
    """A session of a killed recovery may be in the middle of what takes an hour, and does not notice that nobody waits for it: it must not be in the way of the next one. An index, which a
    program of PostgreSQL's makes, and a view, which the recovery fills itself."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(WAITS, dbname="shop")
    box = protected(server)
    box.stop()
    case, before = Into(server, box), set()

    def begin():
        process = box.spawn(*case.command)
        in_the_middle(process)
        return process

    def in_the_middle(process):
        """Alone; nobody who was so before."""
        waiting = lambda: {pid for pid, in server.sql("SELECT pid FROM pg_stat_activity WHERE datname = 'recovered' AND wait_event_type = 'Lock'")}
        found = box.wait("a recovery to be in the middle, alone", lambda: process.poll() is not None or (lambda w: len(w) == 1 and not w & before and w)(waiting()))
        assert process.poll() is None, (box.root / "spawned.log").read_text()
        before.update(found)

    def kill(process):
        process.kill()
        process.wait(60)

    with contextlib.closing(server.connect("recovered")) as holder:
        holder.cursor().execute("SELECT pg_advisory_lock(1), pg_advisory_lock(2)")
        kill(begin())
        second = begin()
        holder.cursor().execute("SELECT pg_advisory_unlock(1)")
        in_the_middle(second)
        kill(second)
        third = begin()
        holder.cursor().execute("SELECT pg_advisory_unlock(2)")
        assert third.wait(120) == 0, (box.root / "spawned.log").read_text()
        wait_for("its sessions to be gone", lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'recovered'") == 1)
    assert server.value("SELECT count(*) FROM view", dbname="recovered") == 2
    case.close()
