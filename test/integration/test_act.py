"""Unattended: a lost source is recovered and cut over to by itself, once; a glitch, a restart or a source that comes back is never acted on; a keeper that
is killed in the middle goes on and ends well."""
import json
import os
import shutil
import signal
import time

import psycopg2
import pytest
from conftest import begin, prepare
from ledger import OPTIONS, SCHEMA, Load, check_ledger, ids
from pgserver import PgServer, free_port, release_port
from salvorbox import parse_lsn, wait_for
from truth import compare, contents

pytestmark = pytest.mark.timeout(300)

CUTOVER = """#!/bin/sh
# Points the clients: safe to run twice.
set -e
cd "{root}"
echo "$SALVOR_SOURCE|$SALVOR_CONNINFO|$1" >> runs
if [ -e hold ]; then
    mv hold held
    while [ ! -e go ]; do sleep 0.05; done
fi
printf '%s' "$1" > clients.new.$$
mv clients.new.$$ clients
"""


class Scene:
    """A protected source, clients that read where to connect from a file, and a cut-over program that writes it."""

    def __init__(self, servers, boxes, automation="act", schema=SCHEMA, **options):
        self.server = servers()
        self.server.sql("CREATE DATABASE shop")
        self.server.sql(schema, dbname="shop")
        self.box = prepare(self.server, boxes, **{**OPTIONS, "automation": automation, "loss_after": "3s", "loss_probes": "3", "probe": "200ms", **options})
        self.root = self.box.root
        self.target = self.root / "target"
        script = self.root / "point clients"
        script.write_text(CUTOVER.format(root=self.root))
        script.chmod(0o755)
        self.port = free_port()
        self.box.sources["shop"].update({"target": f"local {self.target}", "target_port": self.port, "cutover": script})
        self.box.write_config()
        self.clients = self.root / "clients"
        self.clients.write_text(self.server.conninfo("shop", tcp=True))
        begin(self.server, self.box)

    def act(self):
        try:
            return json.loads((self.box.state / "shop" / "act.json").read_text())
        except FileNotFoundError:
            return {}

    def guard(self):
        return self.box.status("shop").get("guard", {})

    def runs(self):
        path = self.root / "runs"
        return path.read_text().splitlines() if path.exists() else []

    def wait_outcome(self, outcome, timeout=60):
        self.box.wait(f"the outcome {outcome!r}", lambda: self.act().get("outcome", "").startswith(outcome), timeout)

    def wait_guard(self, state, timeout=30):
        self.box.wait(f"the guard to be {state}", lambda: self.guard().get("state") == state, timeout)

    def lose(self):
        self.server.kill9()
        shutil.rmtree(self.server.datadir)

    def recover_child(self):
        """The `salvor recover` that the keeper runs, or None."""
        for path in os.listdir("/proc"):
            try:
                with open(f"/proc/{path}/cmdline", encoding="utf-8", errors="replace") as f:
                    argv = f.read().split("\0")
            except OSError:
                continue
            if str(self.box.config) in argv and "recover" in argv:
                return int(path)
        return None

    def check_protected(self, load):
        """The new database is protected as a new incarnation, and a recovery of it gives what it holds."""
        self.box.wait("protection of the new database",
                      lambda: (lambda s: s["state"] == "streaming" and s.get("incarnation") == "0002" and len(s["snapshots"]) >= 1)(self.box.status("shop")), 40)
        self.box.wait("status to complain of nothing", lambda: not self.box.status("shop")["warning"])
        load.wait_acknowledged(10)
        load.stop()
        port = free_port()
        with psycopg2.connect(self.clients.read_text()) as now:
            with now.cursor() as cur:
                cur.execute("SELECT pg_current_wal_insert_lsn()::text")
                self.box.wait_durable("shop", cur.fetchone()[0])
            result = self.box.recover("shop", "--local", str(self.root / "again"), "--port", str(port))
            with psycopg2.connect(result["conninfo"]) as again:
                compare(contents(again), contents(now), "a recovery of the new database")
        self.box.stop_target(self.root / "again")
        release_port(port)

    def destroy(self):
        release_port(self.port)


@pytest.fixture
def scene(servers, boxes):
    made = []

    def make(**options):
        made.append(Scene(servers, boxes, **options))
        return made[-1]

    yield make
    for s in made:
        s.destroy()


def check_journal(s):
    """The loss, each phase of the recovery, the cut-over and what it came to; no way to connect."""
    told = {}
    for e in s.box.ok("journal", "shop", "--json").json["entries"]:
        told.setdefault(e["kind"], []).append(e["members"])
    assert len(told["loss"]) == 1 and told["loss"][0]["reason"] and told["loss"][0]["since_wall_us"] > 0
    assert [p["name"] for p in told["recovery"][0]["phases"]][0] == "plan" and told["recovery"][0]["verified"] is True
    assert [c["ok"] for c in told["cutover"]] == [True]
    act = told["act"][-1]
    assert act["outcome"] == "cut over" and [step["step"] for step in act["steps"]] == ["recover", "protect", "cutover"], act
    assert "conninfo" not in str(told["loss"] + told["recovery"] + told["cutover"] + told["act"])


def test_a_lost_source_is_running_again_by_itself(scene):
    s = scene()
    # Salvor as a synchronous standby: what is acknowledged is in the spool, so not one commit may be missing.
    s.server.sql("ALTER SYSTEM SET synchronous_standby_names = '\"salvor capture\"'")
    s.server.sql("ALTER SYSTEM SET synchronous_commit = 'remote_write'")
    s.server.sql("SELECT pg_reload_conf()")
    wait_for("the stream to be synchronous", lambda: s.server.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1, 15)
    load = Load(s.clients.read_text, rate=100).start()
    load.wait_acknowledged(100)
    s.lose()
    at_the_loss = set(load.acknowledged)
    s.wait_outcome("cut over")
    load.wait_acknowledged(50)  # the clients go on by themselves
    act = s.act()
    assert act["recovery"]["verified"] and act["target"] == str(s.target), act
    assert [step["step"] for step in act["steps"]] == ["recover", "protect", "cutover"] and all(step["ok"] for step in act["steps"]), act
    assert len(s.runs()) == 1 and s.runs()[0] == f"shop|{s.clients.read_text()}|{s.clients.read_text()}"
    s.check_protected(load)
    check_journal(s)
    with psycopg2.connect(s.clients.read_text()) as c:
        assert at_the_loss <= check_ledger(c, load, "after cut-over")
        c.rollback()
    # Lost again: the target was used, so a person is needed.
    second = PgServer.__new__(PgServer)
    second.datadir = str(s.target / "data")
    second.socket_dir, second.port = str(s.target / "run"), s.port
    second.pid = second.postmaster_pid()
    second.kill9()
    s.wait_guard("lost")
    failed = s.guard()["failed_probes"]
    s.box.wait("more probes", lambda: s.guard()["failed_probes"] >= failed + 5)
    assert s.guard()["state"] == "lost" and s.guard()["armed"] is False
    assert "not acting" in s.box.log_text() and len(s.runs()) == 1
    assert s.act() == act


def change_uncaptured(s):
    """The schema changes and rows behind it, and it cannot be captured. What there was before, the offset of the last commit before it, and who keeps the dump waiting."""
    s.server.sql("CREATE TABLE note (id int PRIMARY KEY, t text); CREATE TABLE held ()", dbname="shop")
    s.server.sql("INSERT INTO note SELECT g, 'x' || g FROM generate_series(1, 100) g", dbname="shop")
    s.server.sql("ALTER TABLE note ADD COLUMN since text DEFAULT 'then'", dbname="shop")
    first = s.server.value("SELECT pg_current_wal_insert_lsn()::text", dbname="shop")
    s.box.wait("the schema to be captured", lambda: parse_lsn(s.box.status("shop")["schema_captured"] or "0/0") >= parse_lsn(first), 60)
    s.server.sql("UPDATE note SET since = 'now' WHERE id < 50", dbname="shop")
    with s.server.connect("shop") as c:
        truth = contents(c)
    before = s.server.value("SELECT pg_current_wal_insert_lsn()::text", dbname="shop")
    lock = s.server.connect("shop")
    lock.cursor().execute("BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
    s.server.sql("CREATE INDEX note_since ON note (since)", dbname="shop")
    s.server.sql("INSERT INTO note VALUES (1000, 'behind it')", dbname="shop")
    end = s.server.value("SELECT pg_current_wal_flush_lsn()::text", dbname="shop")
    s.box.wait_durable("shop", end)
    s.box.wait("status to tell of it", lambda: "is not captured yet" in s.box.status("shop")["recoverable"].get("short_because", ""))
    told = parse_lsn(s.box.status("shop")["recoverable"]["to"])
    assert parse_lsn(before) <= told < parse_lsn(end)
    return truth, told, lock


def check_note(conninfo, truth):
    with psycopg2.connect(conninfo) as c:
        compare(contents(c), truth, "up to the change")
        with c.cursor() as cur:
            cur.execute("SELECT to_regclass('public.note_since'), (SELECT count(*) FROM public.note WHERE since = 'now')")
            assert cur.fetchone() == (None, 49)


def test_lost_right_after_a_schema_change(scene):
    """Its schema was not captured yet: recovered up to the change by itself, exactly, and said everywhere; by hand latest is refused with that position."""
    s = scene(rpo="10min", snapshot_spacing="1h")
    truth, told, lock = change_uncaptured(s)
    by_hand = s.box.run_command("recover", "shop", "--to", "latest", "--dry-run")
    assert by_hand.status == 3 and "has not been captured" in by_hand.err, by_hand.err
    plan = s.box.ok("recover", "shop", "--to", "newest", "--dry-run", "--json").json
    reached = plan["reached_position"]
    assert parse_lsn(reached) <= told and plan["short_of_latest"]["transactions"] == 2 and f"--to {reached}" in by_hand.err, (plan, by_hand.err)
    asked = s.box.ok("recover", "shop", "--to", reached, "--dry-run", "--json").json
    assert asked["reached_position"] == reached and asked["short_of_latest"] is None, asked
    assert "NOT LATEST" in s.box.ok("recover", "shop", "--to", "newest", "--dry-run").out
    s.lose()
    lock.close()
    s.wait_outcome("cut over")
    act = s.act()
    short = act["recovery"]["short_of_latest"]
    assert act["recovery"]["verified"] and act["recovery"]["reached_position"] == reached and parse_lsn(short["latest_position"]) > told, act
    assert "has not been captured" in short["why"] and short["transactions"] == 2 and 0 < short["seconds"] < 600, short
    assert len(act["steps"]) == 3 and all(step["ok"] for step in act["steps"]), act
    check_note(s.clients.read_text(), truth)
    s.box.wait("status to tell what is missing", lambda: short["latest_position"] in s.guard().get("short_of_latest", ""))
    assert f"recovered to {reached} of" in s.guard()["short_of_latest"] and "2 transactions" in s.guard()["short_of_latest"]
    assert any("ALERT" in line and "not to the latest" in line for line in s.box.log_text().splitlines())
    assert "NOT LATEST" in s.box.ok("status", "shop").out
    entries = s.box.ok("journal", "shop", "--json").json["entries"]
    assert [e["members"]["short_of_latest"] for e in entries if e["kind"] == "act"] == [short]


def test_too_far_from_the_latest_is_a_persons_decision(scene):
    """More would be given up than rpo allows: nothing is cut over to, status calls the objective missed while it lasts, and a person can take what there is."""
    s = scene(rpo="1s", snapshot_spacing="1h")
    truth, told, lock = change_uncaptured(s)
    s.box.wait("status to count what cannot be had", lambda: s.box.status("shop")["exposure_s"] > 2)
    s.box.wait("the breach", lambda: "rpo_source_lost" in [b["objective"] for b in s.box.status("shop")["breaches"]])
    assert "BEYOND THE OBJECTIVE" in s.box.ok("status", "shop").out
    s.lose()
    lock.close()
    s.box.wait("the refusal", lambda: any(step.get("ok") is False for step in s.act().get("steps", [])), 60)
    step = s.act()["steps"][-1]
    assert step["step"] == "recover" and "no more than 1 s was allowed" in step["text"] and "`salvor recover shop --to newest`" in step["text"], step
    assert s.runs() == [] and not s.target.exists()
    result = s.box.recover("shop", "--to", "newest", "--local", str(s.root / "by hand"))
    assert parse_lsn(result["reached_position"]) <= told and result["short_of_latest"]["transactions"] == 2, result
    check_note(result["conninfo"], truth)
    s.box.stop_target(s.root / "by hand")


def test_observe_only_reports(scene):
    s = scene(automation="observe")
    load = Load(s.clients.read_text, rate=100).start()
    load.wait_acknowledged(30)
    s.lose()
    s.wait_guard("lost")
    failed = s.guard()["failed_probes"]
    s.box.wait("more probes", lambda: s.guard()["failed_probes"] >= failed + 5)
    load.stop()
    assert s.guard()["state"] == "lost"
    assert s.act() == {} and s.runs() == [] and not s.target.exists()
    assert "it would run `salvor recover shop" in s.box.log_text()
    # A person does what it says.
    result = s.box.recover("shop", "--to", "latest", "--local", str(s.target), "--port", str(s.port))
    with psycopg2.connect(result["conninfo"]) as c:
        check_ledger(c, load, "by hand", lost_allowed=20)


def signal_server(server, number):
    for pid in [server.pid, *server.children()]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def test_a_glitch_or_a_restart_acts_on_nothing(scene):
    """Each is over well before loss_after: how long a stop and a start take is the machine's business."""
    s = scene(loss_after="60s")
    load = Load(s.clients.read_text, rate=60).start()

    def passes(what):
        s.wait_guard("watching")
        s.box.wait(f"good probes after {what}", lambda: (lambda g: g["failed_probes"] == 0 and g["last_probe"] == "probe good")(s.guard()))
        load.wait_acknowledged(10)
        assert s.act() == {} and s.runs() == [] and not s.target.exists(), what

    load.wait_acknowledged(20)
    signal_server(s.server, signal.SIGSTOP)
    time.sleep(2)
    signal_server(s.server, signal.SIGCONT)
    passes("two seconds of silence")
    s.server.stop("fast")
    wait_for("a failed probe", lambda: s.guard()["last_probe"] != "probe good", 10)
    time.sleep(1)
    s.server.start()
    passes("refused connections")
    s.server.restart(mode="fast")
    passes("a restart")
    s.server.kill9()
    s.server.start()
    passes("a crash")
    load.stop()
    status = s.box.wait_streaming("shop")
    assert status["incarnation"] == "0001" and status["gaps"] == []
    assert "LOST" not in s.box.log_text()


def test_a_source_that_comes_back_is_not_cut_over_from(scene):
    s = scene()
    load = Load(s.clients.read_text, rate=60).start()
    load.wait_acknowledged(20)
    s.server.kill9()
    child = s.box.wait("the recovery", s.recover_child, 30)
    os.kill(child, signal.SIGSTOP)
    s.server.start()
    load.wait_acknowledged(10)  # the clients are back at work at the old place
    os.kill(child, signal.SIGCONT)
    s.wait_outcome("abandoned")
    assert s.runs() == []
    load.wait_acknowledged(10)
    load.stop()
    s.wait_guard("watching")
    status = s.box.wait_streaming("shop")
    assert status["incarnation"] == "0001" and status["gaps"] == [] and "moved" not in status, status
    s.box.wait_durable("shop", s.server.value("SELECT pg_current_wal_insert_lsn()::text"))
    s.server.sql("CREATE DATABASE recovered TEMPLATE template0")
    s.box.recover("shop", "--into", s.server.conninfo("recovered"))
    with s.server.connect("recovered") as recovered, s.server.connect("shop") as source:
        check_ledger(recovered, load, "after a return")
        compare(contents(recovered), contents(source), "after a return")


def kill_keeper(s):
    s.box.wait("the keeper", lambda: s.box.kill_role("keeper"), 20)


def test_a_keeper_killed_in_the_middle_goes_on(scene):
    """Once while it recovers, once while it protects, once while the cut-over program runs."""
    s = scene()
    (s.root / "hold").touch()
    load = Load(s.clients.read_text, rate=60).start()
    load.wait_acknowledged(60)
    s.lose()
    child = s.box.wait("the recovery", s.recover_child, 30)
    os.kill(child, signal.SIGSTOP)
    kill_keeper(s)
    wait_for("the recovery to end with its keeper", lambda: not os.path.exists(f"/proc/{child}") or PgServer.is_zombie(child), 10)
    deadline = time.monotonic() + 240
    while s.act().get("state") != "protecting" and not (s.root / "held").exists():
        assert time.monotonic() < deadline, s.box.log_tail()
        time.sleep(0.001)
    kill_keeper(s)
    s.box.wait("the cut-over program", lambda: (s.root / "held").exists(), 40)
    kill_keeper(s)
    (s.root / "go").touch()
    s.wait_outcome("cut over")
    before = ids(psycopg2.connect(s.clients.read_text()))
    load.wait_acknowledged(30)
    assert len(set(s.runs())) == 1 and len(s.runs()) <= 3, s.runs()
    assert s.runs()[0].split("|")[2] == s.clients.read_text()
    act = s.act()
    assert sum(step["ok"] for step in act["steps"] if step["step"] == "recover" and "ok" in step) == 1, act
    s.check_protected(load)
    with psycopg2.connect(s.clients.read_text()) as c:
        assert before <= check_ledger(c, load, "after three kills of the keeper", lost_allowed=20)
