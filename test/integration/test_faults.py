"""What goes wrong around Salvor: each fault gives one clear sentence and the right exit status, is shown while it lasts, and loses nothing."""
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time

import psycopg2
import pytest
from conftest import begin, prepare
from enginetool import tool_path
from ledger import OPTIONS, SCHEMA, Load, check_ledger, check_log
from mounts import switchable, tmpfs
from pgserver import free_port, release_port
from proxy import Proxy
from salvorbox import SALVOR, Salvor, parse_lsn, wait_for
from truth import compare, contents

pytestmark = pytest.mark.timeout(300)


def shop(servers, schema=SCHEMA, conf=None, **options):
    server = servers(conf, **options)
    server.sql("CREATE DATABASE shop")
    server.sql(schema, dbname="shop")
    return server


def write(server, commits=40, first=0, **options):
    load = Load(server.conninfo("shop"), rate=300, first=first, **options).start()
    load.wait_acknowledged(commits)
    return load.stop()


def position(server):
    return server.value("SELECT pg_current_wal_insert_lsn()::text")


def settle(server, box, source="shop"):
    box.wait_durable(source, position(server))


def check_exact(server, box, what, source="shop", into="recovered"):
    """A recovery of what is durable now gives what the source holds now."""
    settle(server, box, source)
    server.sql(f"CREATE DATABASE {into} TEMPLATE template0")
    result = box.recover(source, "--into", server.conninfo(into))
    with server.connect(source) as truth, server.connect(into) as recovered:
        compare(contents(recovered), contents(truth), what)
    return result


def refused(server, box, says, *args, status=3):
    """A recovery is refused with that reason, before the target is touched."""
    name = f"refused_{time.monotonic_ns()}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE template0")
    r = box.fails(status, "recover", "shop", *args, "--into", server.conninfo(name), says=says)
    assert server.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", dbname=name) == 0, r
    box.fails(status, "recover", "shop", *args, "--dry-run", says=says)
    return r


def anchored_anew(box, incarnation="0002", timeout=60):
    return box.wait(f"incarnation {incarnation} with a snapshot",
                    lambda: (lambda s: s if s["state"] == "streaming" and s.get("incarnation") == incarnation and s["snapshots"] else None)(box.status("shop")), timeout)


def loud(box, *words):
    lines = [line for line in box.log_text().splitlines() if any(w in line.lower() for w in ("warn", "error", "alert"))]
    assert any(all(w in line for w in words) for line in lines), f"no loud line with {words} in:\n{box.log_tail()}"


# -- the source is not what it was

@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("made_again", [True, False], ids=["made again", "gone"])
def test_slot_dropped(servers, protected, running, made_again):
    server = shop(servers)
    box = protected(server, **OPTIONS)
    write(server)
    settle(server, box)
    before = box.status("shop")["durable_position"]
    if not running:
        box.stop()
    holder = server.connect("shop", autocommit=False)  # no slot is begun beside an open transaction: however quick Salvor is, it sees nothing of what follows
    holder.cursor().execute("SELECT txid_current()")

    def drop():
        server.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'salvor_shop' AND active")
        try:
            server.sql("SELECT pg_drop_replication_slot('salvor_shop')")
            return True
        except psycopg2.errors.ObjectInUse:
            return False

    wait_for("the slot to be dropped", drop, 20)
    with server.connect("shop") as c, c.cursor() as cur:
        cur.execute("INSERT INTO hot VALUES (1001, 1, 'unseen')")
        cur.execute("SELECT pg_current_wal_insert_lsn()::text")
        unseen = cur.fetchone()[0]
        cur.execute("INSERT INTO hot VALUES (1002, 1, 'unseen')")
    holder.close()
    if made_again:
        try:
            server.sql("SELECT pg_create_logical_replication_slot('salvor_shop', 'pgoutput')", dbname="shop")
        except psycopg2.errors.DuplicateObject:
            assert running  # Salvor was quicker
    if not running:
        box.start()
    status = anchored_anew(box)
    assert len(status["gaps"]) >= 1, status
    gap = status["gaps"][0]
    assert parse_lsn(gap["from"]) <= parse_lsn(unseen) <= parse_lsn(gap["to"]) and len(gap["reason"]) > 20, gap
    loud(box, "incarnation")
    write(server, first=10**6)
    check_exact(server, box, "after the slot was dropped")
    refused(server, box, "gap", "--to", unseen)
    # What was captured before is not lost by it.
    server.sql("CREATE DATABASE earlier TEMPLATE template0")
    result = box.recover("shop", "--to", before, "--into", server.conninfo("earlier"))
    assert parse_lsn(result["reached_position"]) <= parse_lsn(before)
    assert server.value("SELECT count(*) FROM ledger", dbname="earlier") >= 40
    assert server.value("SELECT count(*) FROM hot WHERE id > 1000", dbname="earlier") == 0
    check_gap_is_verified(box, unseen)


def check_gap_is_verified(box, unseen):
    """`verify` finds the gap, and nothing else; so does whoever has nothing but the vault."""
    box.wait("the gap to be in the vault", lambda: box.run_command("verify").status == 4)
    findings = box.fails(4, "verify", "--json", says="gap").json["vaults"][0]["findings"]
    assert len(findings) == 1 and findings[0]["kind"] == "gap", (findings, unseen)
    known = box.status("shop")["gaps"]
    with Salvor({"shop": {}}, vaults=box.vaults) as bare:
        gaps = bare.status("shop")["gaps"]
        assert [(g["incarnation"], g["from"], g["to"]) for g in gaps] == [(g["incarnation"], g["from"], g["to"]) for g in known], (gaps, known)
        assert parse_lsn(gaps[0]["from"]) <= parse_lsn(unseen) <= parse_lsn(gaps[0]["to"]) and len(gaps[0]["reason"]) > 20, gaps
        assert "GAP" in bare.ok("status").out
        bare.fails(3, "recover", "shop", "--to", unseen, "--dry-run", says="gap")


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_server_rolled_back(servers, protected, running):
    """A copy of the data directory takes the server's place: the same identity, timeline and slot name, and another history."""
    server = shop(servers)
    box = protected(server, **OPTIONS, rpo="2s")
    write(server)
    settle(server, box)
    aside = server.datadir + ".aside"
    server.stop()
    shutil.copytree(server.datadir, aside, copy_function=shutil.copy2)
    server.start()
    write(server, 60, first=10**6, seed=2)
    settle(server, box)
    if not running:
        box.stop()
    server.stop()
    shutil.rmtree(server.datadir)
    os.rename(aside, server.datadir)
    if server.system_user:
        server_owns(server)
    server.start()
    write(server, 200, first=2 * 10**6, seed=3)  # the copy goes past what was captured
    if not running:
        box.start()
    status = anchored_anew(box)
    loud(box, "incarnation")
    load = write(server, first=3 * 10**6, seed=4)
    check_exact(server, box, "after the server was replaced by a copy")
    with server.connect("recovered") as c:
        check_ledger_rows(c, load)
    assert status["incarnation"] == "0002"
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []


def server_owns(server):
    import pwd
    entry = pwd.getpwnam(server.system_user)
    for directory, folders, files in os.walk(server.datadir):
        for name in [directory, *(os.path.join(directory, f) for f in folders + files)]:
            os.chown(name, entry.pw_uid, entry.pw_gid)


def check_ledger_rows(connection, load):
    with connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM ledger WHERE id = ANY(%s)", (sorted(load.acknowledged),))
        assert cur.fetchone()[0] == len(load.acknowledged)


def test_another_server_at_the_address(servers, protected):
    server = shop(servers)
    box = protected(server, **OPTIONS)
    write(server)
    settle(server, box)
    before = box.status("shop")["durable_position"]
    server.stop()
    other = servers(own_identifier=True)
    other.stop()
    release_port(other.port)
    other.port = server.port
    other.start()
    other.sql("CREATE DATABASE shop")
    other.sql(SCHEMA, dbname="shop")
    other.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
    box.wait("a loud state", lambda: (lambda s: s["state"] != "streaming" and len(s["error"]) > 20)(box.status("shop")))
    box.stop()
    box.ok("setup", "shop", "--admin", other.conninfo("shop", "postgres", tcp=True))
    box.start()
    anchored_anew(box)
    loud(box, "incarnation")
    write(other, first=10**6)
    check_exact(other, box, "of the other server")
    # And the lost one is still there.
    other.sql("CREATE DATABASE old TEMPLATE template0")
    old = box.run_command("recover", "shop", "--to", before, "--into", other.conninfo("old"), "--json")
    assert old.status in (0, 3), old


def test_a_database_that_was_dropped_or_made_again_is_an_alert(servers, boxes):
    """Somebody answers, so it is no loss and nothing is acted upon; a person is told, in log and status, until it is protected again."""
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS, automation="act", loss_after="3s", loss_probes="2")
    box.sources["shop"]["target"] = f"local {box.root / 'target'}"
    box.write_config()
    begin(server, box)
    assert box.status("shop")["guard"]["alert"] == ""

    def alert(says):
        box.wait(f"an alert that says {says!r}", lambda: says in box.status("shop")["guard"]["alert"])
        assert says in box.ok("status", "shop").out and "ALERT" in box.ok("status", "shop").out
        loud(box, "ALERT", "salvor recover shop")
        guard = box.status("shop")["guard"]
        assert guard["state"] == "watching" and guard["outcome"] == "" and not (box.root / "target").exists(), guard

    def drop():
        server.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'salvor_shop' AND active")
        try:
            server.sql("SELECT pg_drop_replication_slot('salvor_shop') FROM pg_replication_slots WHERE slot_name = 'salvor_shop'")
            server.sql("DROP DATABASE shop WITH (FORCE)")
            return True
        except (psycopg2.errors.ObjectInUse, psycopg2.errors.UndefinedObject):
            return False

    wait_for("the database to be dropped", drop, 30)
    alert('does not exist')
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA, dbname="shop")
    alert("not the one that is protected")
    box.ok("setup", "shop", "--admin", server.conninfo("shop", "postgres", tcp=True))
    box.wait("the alert to be over", lambda: box.status("shop")["guard"]["alert"] == "", 90)
    anchored_anew(box)
    assert "the alert is over" in box.log_text()
    check_exact(server, box, "of the database that was made again")


def test_a_crash_takes_the_counts_of_changes(servers, boxes):
    """An update that nobody captured, counted by statistics that a crash throws away: the table is inexact all the same, and one that was promised not to be updated is not."""
    server = shop(servers)
    server.sql("CREATE TABLE bare (id int, note text); CREATE TABLE promised (id int); INSERT INTO bare VALUES (1, 'as it was')", dbname="shop")
    box = prepare(server, boxes, **dict(OPTIONS, poll="10s", identity_inserts="public.lines, public.promised", snapshot_quiet="1h"))
    begin(server, box)
    write(server)
    settle(server, box)
    server.sql("UPDATE bare SET note = 'changed'", dbname="shop")
    server.kill9()  # long before the next poll
    server.start()
    box.wait_streaming("shop", 60)
    inexact = box.wait("the inexact table", lambda: box.status("shop")["inexact"], 120)
    assert [i["table"] for i in inexact] == ["public.bare"], inexact
    refused(server, box, "public.bare")


def test_log_removed_by_the_server(servers, protected):
    """Salvor was away for too long: the server kept its limit and invalidated the slot."""
    server = shop(servers, conf={"max_slot_wal_keep_size": "2MB"}, initdb_options=("--wal-segsize=1",))
    box = protected(server, **OPTIONS)
    write(server)
    settle(server, box)
    before = box.status("shop")["durable_position"]
    box.stop()
    unseen = position(server)
    server.sql("CREATE TABLE filler (t text)", dbname="postgres")

    def lost():
        server.sql("INSERT INTO filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, 4000) i; CHECKPOINT")
        return server.value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'salvor_shop'") == "lost"

    with server.connect("shop") as c, c.cursor() as cur:
        cur.execute("INSERT INTO hot VALUES (1001, 1, 'unseen')")
        cur.execute("SELECT pg_current_wal_insert_lsn()::text")
        unseen = cur.fetchone()[0]
    wait_for("the slot to be invalidated", lost, 30)
    box.start()
    status = anchored_anew(box)
    gap = status["gaps"][0]
    assert parse_lsn(gap["from"]) <= parse_lsn(unseen) <= parse_lsn(gap["to"]), gap
    loud(box, "incarnation")
    write(server, first=10**6)
    check_exact(server, box, "after the slot was invalidated")
    refused(server, box, "gap", "--to", unseen)
    server.sql("CREATE DATABASE earlier TEMPLATE template0")
    box.recover("shop", "--to", before, "--into", server.conninfo("earlier"))
    assert server.value("SELECT count(*) FROM hot WHERE id > 1000", dbname="earlier") == 0


# -- this host and the vault

def test_vault_read_only(servers, boxes):
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS, rpo="2s")
    with switchable(box.root / "vault") as readonly:
        begin(server, box)
        load = Load(server.conninfo("shop"), rate=100).start()
        load.wait_acknowledged(30)
        readonly(True)
        status = box.wait("the state vault_down", lambda: (lambda s: s if s["state"] == "vault_down" else None)(box.status("shop")))
        assert "main" in status["error"] + status["warning"] + str(status["vaults"]), status
        load.wait_acknowledged(30)
        settle(server, box)  # capture goes on into the spool
        assert box.status("shop")["exposure_host_lost_s"] > 0
        r = box.fails(1, "snapshot", "shop", says="ead-only")
        assert "vault" in r.err, r
        # A recovery needs nothing but to read it.
        load.stop()
        result = check_exact(server, box, "from a vault that cannot be written", into="meanwhile")
        assert result["from_spool"] is True
        readonly(False)
        box.wait_vault("shop", position(server))
        box.wait_streaming("shop")
        write(server, first=10**6)
        check_exact(server, box, "after the vault came back")
        check_log(box, "shop", load.acknowledged)
        box.stop()
        assert box.status("shop")["incarnation"] == "0001" and box.status("shop")["gaps"] == []
        assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []


def test_vault_hangs(servers, boxes):
    """A network file system whose server has gone answers nothing, not even an error: capture and the guard go on, and status says so."""
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS, rpo="2s")
    flag = box.root / "hanging"
    hang = shutil.copy(pathlib.Path(tool_path()).parent / "hang.so", box.root)  # a blank in its path would end the list of preloads
    env = {"LD_PRELOAD": str(hang), "SALVOR_HANG_PATH": str(box.root / "vault"), "SALVOR_HANG_WHILE": str(flag), "ASAN_OPTIONS": "verify_asan_link_order=0"}
    box.ok("init")
    box.ok("setup", "shop", "--admin", server.conninfo("shop", "postgres", tcp=True))
    box.start(env=env)
    box.wait_streaming("shop")
    box.wait_snapshots("shop", 1)
    load = Load(server.conninfo("shop"), rate=60).start()
    load.wait_acknowledged(30)
    flag.touch()
    with open(box.root / "verify.out", "w") as out:  # a command that somebody waits for does not stand still in silence
        verify = subprocess.Popen([SALVOR, "--config", str(box.config), "verify"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  env={**os.environ, **env})
    box.wait("the state vault_down", lambda: box.status("shop")["state"] == "vault_down")
    box.wait("verify to say what it waits for", lambda: f"the vault at {box.root}/vault has not answered for" in (box.root / "verify.out").read_text())
    assert verify.poll() is None
    assert "main has not answered for" in box.status("shop")["warning"], box.status("shop")
    settle(server, box)  # into the spool
    assert server.value("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'salvor capture'") == 1
    # A status that cannot ask the vault either says what this host knows.
    asked = json.loads(box.ok("status", "shop", "--json", env=env).out)["sources"][0]
    assert "no answer from the vault (main)" in asked["error"] and asked["durable_position"] and asked["recoverable"] is None, asked
    # The guard probes on. A capture process that begins anew meanwhile says what it waits for; the source keeps the rest.
    probed = box.status("shop")["guard"]["wall_us"]
    box.wait("further probes", lambda: box.status("shop")["guard"]["wall_us"] > probed)
    box.wait("a capture process", lambda: box.kill_role("capture shop"))
    box.wait("the log to say why it does not begin", lambda: "vault main has not answered within" in box.log_text())
    load.wait_acknowledged(30)
    load.stop()
    assert load.interruptions == 0
    flag.unlink()
    assert verify.wait(90) == 0, (box.root / "verify.out").read_text()
    box.wait_vault("shop", position(server))
    box.wait_streaming("shop")
    check_exact(server, box, "after the vault hung")
    check_log(box, "shop", load.acknowledged)
    assert box.status("shop")["incarnation"] == "0001" and box.status("shop")["gaps"] == []


def test_disk_full_in_the_spool(servers, boxes):
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS)
    with tmpfs(box.state, "12m"):
        begin(server, box)
        load = Load(server.conninfo("shop"), rate=200).start()
        load.wait_acknowledged(30)
        ballast = box.state / "ballast"
        fill(ballast)
        box.wait("the full disk to be told", lambda: box.status("shop")["state"] == "spool_full" or "o space left" in box.log_text())
        stuck = box.status("shop")["durable_position"]
        load.wait_acknowledged(100)
        # The source feels nothing and keeps the log; the stream stays open.
        assert load.interruptions == 0
        wait_for("the stream", lambda: server.value("SELECT count(*) FROM pg_stat_replication WHERE application_name LIKE 'salvor%'") == 1, 20)
        ballast.unlink()
        # What a full disk kept from being told is not known for a moment.
        box.wait("the spool to go on", lambda: parse_lsn(box.status("shop")["durable_position"] or "0/0") > parse_lsn(stuck or "0/0"), 90)
        load.wait_acknowledged(30)
        load.stop()
        check_exact(server, box, "after the disk was full")
        check_log(box, "shop", load.acknowledged)
        status = box.wait_streaming("shop")
        assert status["incarnation"] == "0001" and status["gaps"] == [], status
        box.stop()


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


def test_state_directory_lost(servers, protected):
    """This host's disk is gone: the vault has all that the source was told it may forget, and the source sends the rest again."""
    server = shop(servers)
    box = protected(server, **OPTIONS, rpo="2s", segment_size="64KiB")
    load = Load(server.conninfo("shop"), rate=200).start()
    load.wait_acknowledged(150)
    # What the schema was is in the vault, too: else nobody could say that it has not changed.
    box.wait("a look at the schema to be told", lambda: '"kind":"schema_seen"' in box.ok("log", "shop", "--json").out)
    box.wait_vault("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))
    box.kill9()
    shutil.rmtree(box.state)
    load.wait_acknowledged(30)
    box.start()
    box.wait_streaming("shop")
    load.wait_acknowledged(30)
    load.stop()
    check_exact(server, box, "after the state directory was lost")
    check_log(box, "shop", load.acknowledged)
    status = box.status("shop")
    assert status["incarnation"] == "0001" and status["gaps"] == [], status
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []


def test_two_hosts_take_turns(servers, boxes):
    """Each waits while the other has the slot, and goes on from what that one shipped: one history, without a gap."""
    server = shop(servers)
    east = prepare(server, boxes, **OPTIONS, rpo="1s", segment_size="64KiB")
    west = boxes(east.sources, vaults=east.vaults)
    begin(server, east)
    loads = [Load(server.conninfo("shop"), rate=200, first=i * 10**6, seed=i + 1) for i in range(3)]
    here, other = east, west
    for load in loads:
        if other.process is None:
            other.start()
        load.start().wait_acknowledged(40)
        other.wait("the other host to wait", lambda: other.status("shop")["state"] == "waiting", 60)
        assert "in use" in other.status("shop")["error"]
        load.wait_acknowledged(40)
        here.kill9()
        load.wait_acknowledged(20)
        other.wait_streaming("shop", 90)
        load.wait_acknowledged(20)
        load.stop()
        assert load.interruptions == 0
        here, other = other, here
    check_exact(server, here, "after three changes of the host")
    check_log(here, "shop", set().union(*(load.acknowledged for load in loads)))
    status = here.status("shop")
    assert status["incarnation"] == "0001" and status["gaps"] == [], status
    assert "the vaults have now" in east.log_text() + west.log_text(), "nobody had to look at the vault again: the test shows nothing"
    here.stop()
    assert here.ok("verify", "--json").json["vaults"][0]["findings"] == []


def test_vault_lost_its_newest_segments(servers, protected):
    """What the source has forgotten and the vault no longer has is a gap, never silence."""
    server = shop(servers)
    box = protected(server, **OPTIONS, rpo="1s")
    write(server)
    box.wait_vault("shop", position(server))
    write(server, first=10**6)
    box.wait_vault("shop", position(server))
    server.sql("INSERT INTO hot VALUES (1001, 1, 'shipped')", dbname="shop")
    lost = position(server)
    box.wait_vault("shop", lost)
    last = server.value("SELECT pg_logical_emit_message(true, 'test', '')::text", dbname="shop")
    box.wait("the source to be told", lambda: parse_lsn(server.value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'salvor_shop'")) > parse_lsn(last))
    box.stop()
    segments = sorted((box.root / "vault/sources/shop/0001/rows").iterdir())
    first_lost = next(i for i, s in enumerate(segments) if int(s.stem.split("-")[3][16:], 16) >= parse_lsn(lost))
    for s in segments[first_lost:]:
        s.unlink()
    shutil.rmtree(box.state)
    box.start()
    status = anchored_anew(box)
    assert len(status["gaps"]) >= 1, status
    loud(box, "incarnation")
    write(server, first=2 * 10**6)
    check_exact(server, box, "after the vault lost objects")


# -- rights

HBA = """local all all trust
host all salvor 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


def test_wrong_password(servers, boxes, tmp_path, monkeypatch):
    server = shop(servers, hba=HBA)
    passfile = tmp_path / "pgpass"

    def know(password):
        passfile.touch(0o600)
        passfile.write_text(f"*:*:*:salvor:{password}\n")

    monkeypatch.setenv("PGPASSFILE", str(passfile))
    box = prepare(server, boxes, **OPTIONS, loss_after="3s", loss_probes="2", probe="300ms")
    server.sql("ALTER ROLE salvor PASSWORD 'right secret'")
    box.ok("init")
    know("wrong secret")
    for status, command in ((3, ["check", "shop"]), (3, ["check", "shop", "--json"]), (1, ["setup", "shop"])):
        r = box.fails(status, *command, says="password authentication failed")
        assert "secret" not in r.err + r.out
    (finding,) = box.run_command("check", "--json").json["sources"][0]["findings"]
    assert finding["code"] == "unreachable" and finding["severity"] == "refuse", finding
    know("right secret")
    begin(server, box)
    write(server)
    know("wrong secret")
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'salvor'")
    write(server, first=10**6)
    box.wait("the error in the status", lambda: (lambda s: s["state"] != "streaming" and "password" in s["error"])(box.status("shop")))
    # A server that refuses us is alive.
    probes = box.status("shop")["guard"]["wall_us"]
    box.wait("probes for longer than loss_after", lambda: box.status("shop")["guard"]["wall_us"] > probes + 4_000_000)
    guard = box.status("shop")["guard"]
    assert guard["state"] == "watching" and guard["last_probe"] == "sign of life", guard
    assert "secret" not in box.log_text() and "LOST" not in box.log_text()
    know("right secret")
    box.wait_streaming("shop", 90)
    check_exact(server, box, "after the password was right again")


TLS_HBA = """local all all trust
hostssl all salvor 127.0.0.1/32 trust
hostssl all postgres 127.0.0.1/32 trust
"""


def certificates(directory):
    """An authority of our own and a certificate of it for localhost; another authority that signed nothing."""

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=directory, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    for name in ("authority", "stranger"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN=salvor test {name}",
                "-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2", "-out", "server.crt")
    return directory


def test_tls_only_and_a_collation_of_icu(servers, boxes, tmp_path):
    """A server that takes nobody without TLS, whose certificate is verified against an authority of ours; its database sorts by ICU. All
    sessions and programs of Salvor come in, and a recovery into a new server has the same collation."""
    tmp_path.chmod(0o755)
    made = certificates(tmp_path)
    server = servers(hba=TLS_HBA, initdb_options=("--locale-provider=icu", "--icu-locale=de-AT"))
    for name in ("server.crt", "server.key"):
        server.write(name, (made / name).read_text())
        os.chmod(os.path.join(server.datadir, name), 0o600)
    server.restart({"ssl": "on"})
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA + "CREATE TABLE words (w text PRIMARY KEY); INSERT INTO words VALUES ('Zoo'), ('Äpfel'), ('apfel'), ('Öl'), ('oma'), ('ß')", dbname="shop")

    def conninfo(user, authority, dbname="shop", host="localhost"):
        return f"host={host} hostaddr=127.0.0.1 port={server.port} dbname={dbname} user={user} sslmode=verify-full sslrootcert={made / authority}.crt"

    box = prepare(server, boxes, **OPTIONS, conninfo=conninfo("salvor", "stranger"))
    box.ok("init")
    box.fails(3, "check", "shop", says="certificate verify failed")
    box.sources["shop"]["conninfo"] = conninfo("salvor", "authority", host="elsewhere")
    box.write_config()
    box.fails(3, "check", "shop", says="does not match host name")
    box.sources["shop"]["conninfo"] = f"host=localhost hostaddr=127.0.0.1 port={server.port} dbname=shop user=salvor sslmode=disable"
    box.write_config()
    box.fails(3, "check", "shop", says="no encryption")
    box.sources["shop"]["conninfo"] = conninfo("salvor", "authority")
    box.write_config()
    box.ok("setup", "shop", "--admin", conninfo("postgres", "authority"))
    box.start()
    box.wait_streaming("shop")
    box.wait_snapshots("shop", 1)
    write(server)
    server.sql("INSERT INTO words VALUES ('Zebra'), ('ähre')", dbname="shop")
    settle(server, box)
    assert server.value("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'salvor' AND NOT ssl") == 0
    server.sql("CREATE DATABASE recovered TEMPLATE template0")
    box.recover("shop", "--into", conninfo("postgres", "authority", dbname="recovered"))
    target, port = box.root / "target", free_port()
    result = box.recover("shop", "--local", str(target), "--port", str(port))
    locale = "SELECT datlocprovider::text, daticulocale, datcollate FROM pg_database WHERE datname = current_database()"
    sort = "SELECT string_agg(w, ',' ORDER BY w) FROM public.words"
    with server.connect("shop") as truth, server.connect("recovered") as into, psycopg2.connect(result["conninfo"]) as local:
        for recovered in (into, local):
            compare(contents(recovered), contents(truth), "over TLS")
        with local.cursor() as cur:
            cur.execute(locale)
            assert [cur.fetchone()] == server.sql(locale, dbname="shop")
            cur.execute(sort)
            assert cur.fetchone()[0] == server.value(sort, dbname="shop") == "ähre,apfel,Äpfel,Öl,oma,ß,Zebra,Zoo"
    release_port(port)


ROW_SECURITY = SCHEMA + """
CREATE TABLE secret (id int PRIMARY KEY, who text);
INSERT INTO secret SELECT i, CASE WHEN i % 2 = 0 THEN 'salvor' ELSE 'other' END FROM generate_series(1, 100) i;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON secret USING (who = current_user);
"""


def test_row_security(servers, boxes):
    """Without BYPASSRLS a session sees half of the table. It must never be taken for the whole."""
    server = shop(servers, ROW_SECURITY)
    box = prepare(server, boxes, **OPTIONS)
    server.sql("ALTER ROLE salvor NOBYPASSRLS")
    box.ok("init")
    r = box.fails(3, "check", "shop", "--json")
    finding = next(f for f in r.json["sources"][0]["findings"] if f["severity"] == "refuse" and "bypassrls" in f["code"].lower())
    assert "BYPASSRLS" in finding["mend"], finding
    box.fails(3, "setup", "shop", "--admin", server.conninfo("shop", tcp=True), says="BYPASSRLS")
    server.sql(finding["mend"])
    begin(server, box)
    taken = len(box.status("shop")["snapshots"])
    server.sql("ALTER ROLE salvor NOBYPASSRLS")
    r = box.run_command("snapshot", "shop")
    assert r.status in (1, 3) and "secret" in r.err and ("row" in r.err or "BYPASSRLS" in r.err), r
    assert len(box.status("shop")["snapshots"]) == taken
    server.sql("ALTER ROLE salvor BYPASSRLS")
    server.sql("UPDATE secret SET who = 'third' WHERE id = 7", dbname="shop")
    box.ok("snapshot", "shop")
    check_exact(server, box, "with row security")
    assert server.value("SELECT count(*) FROM secret", dbname="recovered") == 100


# -- targets and times

def test_target_not_empty(servers, protected):
    server = shop(servers)
    box = protected(server, **OPTIONS)
    server.sql("CREATE DATABASE used TEMPLATE template0")
    server.sql("CREATE TABLE mine (id int); INSERT INTO mine VALUES (1)", dbname="used")
    box.fails(3, "recover", "shop", "--into", server.conninfo("used"), says="empty")
    assert server.sql("SELECT id FROM mine", dbname="used") == [(1,)]
    assert server.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", dbname="used") == 1
    box.fails(3, "recover", "shop", "--into", server.conninfo("shop"), says="empty")  # the source itself
    folder = box.root / "used"
    folder.mkdir()
    (folder / "mine").write_text("kept")
    box.fails(3, "recover", "shop", "--local", str(folder), says="empty")
    for nowhere in (folder / "mine", folder / "mine" / "below"):
        box.fails(3, "recover", "shop", "--local", str(nowhere), says="is a file, or lies below one")
    assert [p.name for p in folder.iterdir()] == ["mine"] and (folder / "mine").read_text() == "kept"
    r = box.run_command("recover", "shop", "--into", server.conninfo("nowhere"))
    assert r.status == 1 and "nowhere" in r.err, r


def test_impossible_targets(servers, protected):
    server = shop(servers)
    early = position(server)
    box = protected(server, **OPTIONS)
    write(server)
    server.sql("INSERT INTO lines VALUES (7, E'two\\nlines \\x1b[31m' || repeat('ü', 300))", dbname="shop")
    settle(server, box)
    box.stop()
    status = box.status("shop")
    durable = status["durable_position"]
    ahead = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).isoformat(timespec="seconds")
    refused(server, box, "past what was captured", "--to", ahead)
    refused(server, box, status["recoverable"]["from"], "--to", "2001-02-03T04:05:06+01:00")
    refused(server, box, durable, "--to", "FF/0")
    refused(server, box, status["recoverable"]["from"], "--to", early)
    target = box.root / "never"
    box.fails(3, "recover", "shop", "--to", "FF/0", "--local", str(target))
    assert not target.exists()
    box.fails(3, "recover", "shop", "--local", str(target), "--port", server.port, says="in use")
    assert not target.exists()  # a refusal leaves nothing, not even an empty folder
    hot = box.ok("log", "shop", "--table", "public.hot", "--json").out
    assert hot and hot == box.ok("log", "shop", "--table", "hot", "--json").out
    odd = box.ok("log", "shop", "--table", "lines").out.splitlines()[-1]  # one line an event, and nothing that a terminal obeys
    assert odd.endswith("what='two\\nlines \\x1b[31m" + "ü" * 92 + "'..."), odd
    assert "no event of table nosuch" in box.ok("log", "shop", "--table", "nosuch").err
    held = box.ok("hold", "add", "shop", "--position", "FF/0", "--reason", "a slip").out
    assert "lies past what vault main has" in held and "lies past" not in box.ok("hold", "add", "shop", "--position", status["snapshots"][0]["position"],
                                                                                 "--reason", "x").out
    result = box.recover("shop", "--to", status["durable_commit_time"], "--local", str(target), "--port", str(free_port()))
    assert parse_lsn(result["reached_position"]) <= parse_lsn(durable)
    (box.root / "vault").rename(box.root / "not mounted")  # what this host knows is shown; what only the vault knows is unknown, not none
    blind = box.status("shop")
    assert "there is no vault at" in blind["error"] and blind["incarnation"] == "0001" and blind["gaps"] == [], blind
    assert blind["snapshots"] is None and blind["recoverable"] is None and blind["exposure_s"] is None, blind
    assert "unknown: the vault could not be read" in box.ok("status").out


def test_a_password_in_any_form_of_conninfo(boxes):
    for conninfo in ("postgresql://salvor:hunter2@localhost/shop", "host=h password = 'hunter2'", "postgres://h/shop?password=hunter2"):
        box = boxes({"shop": {"conninfo": conninfo}})
        r = box.fails(2, "status", says="PGPASSFILE")
        assert "hunter2" not in r.err + r.out


# -- what the rows lane cannot carry

@pytest.mark.parametrize("admin", [True, False], ids=["trigger", "list"])
def test_schema_change(servers, boxes, admin):
    """Without event triggers positions between a change and the next snapshot are refused; then they are recoverable again, by itself. With them the change is crossed."""
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS, snapshot_quiet="1h")
    if not admin:
        owned_by_salvor(server)
    begin(server, box, admin=admin)
    write(server)
    settle(server, box)
    before = box.status("shop")["durable_position"]
    box.wait("the schema to be known up to here", lambda: parse_lsn(box.status("shop")["schema_seen"] or "0/0") >= parse_lsn(before), 60)
    server.sql("ALTER TABLE passing ADD COLUMN extra text DEFAULT 'some'; CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)", dbname="shop",
               user="postgres" if admin else "salvor")
    write(server, first=10**6)
    settle(server, box)
    box.wait("the change to be noticed", lambda: box.status("shop")["schema_changed"], 20)
    if admin:
        box.wait("the schema to be captured", lambda: box.status("shop").get("schema_captured"))
        check_exact(server, box, "across a schema change", into="across")
    else:
        refused(server, box, "after the newest snapshot that serves") # the schema, or the new table, which was not published until it was seen
    server.sql("CREATE DATABASE earlier TEMPLATE template0")
    box.recover("shop", "--to", before, "--into", server.conninfo("earlier"))
    assert server.value("SELECT to_regclass('public.later') IS NULL", dbname="earlier")
    box.stop()
    box.sources["shop"]["snapshot_quiet"] = "1s"
    box.write_config()
    box.start()
    if admin:  # it is crossed: no snapshot comes by itself
        box.ok("snapshot", "shop")
    box.wait_snapshots("shop", 2)
    write(server, first=2 * 10**6)
    check_exact(server, box, "after a schema change")
    box.wait("nothing to be uncovered", lambda: not box.status("shop")["schema_changed"], 20)


def test_a_key_dropped_without_triggers(servers, boxes):
    """Until Salvor has seen it PostgreSQL refuses updates of the table: seen far sooner than the next poll, and until then without other harm."""
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS, poll="10s", snapshot_quiet="1h")
    owned_by_salvor(server)
    begin(server, box, admin=False)
    waited = []
    for table in ("passing", "ledger", "hot"):
        server.sql(f"INSERT INTO {table} SELECT * FROM {table} WHERE false; ALTER TABLE {table} DROP CONSTRAINT {table}_pkey", dbname="shop", user="salvor")
        began = time.monotonic()

        def updated(table=table):
            try:
                server.sql(f"DELETE FROM {table} WHERE false", dbname="shop", user="salvor")
                return True
            except psycopg2.errors.ObjectNotInPrerequisiteState:
                return False

        wait_for("deletes to work again", updated)
        waited.append(time.monotonic() - began)
    assert sum(waited) < 18, f"each waited for a poll: {waited}"
    assert {i["table"] for i in box.wait("inexact tables", lambda: (lambda s: s if len(s) == 3 else None)(box.status("shop")["inexact"]))} == {
        "public.passing", "public.ledger", "public.hot"}


def owned_by_salvor(server):
    server.sql("GRANT CREATE ON DATABASE shop TO salvor; GRANT ALL ON SCHEMA public TO salvor", dbname="shop")
    for (table,) in server.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", dbname="shop"):
        server.sql(f"ALTER TABLE {table} OWNER TO salvor", dbname="shop")


def test_an_update_that_cannot_be_captured(servers, protected):
    """`lines` has no key and was promised to be only inserted into. The promise is broken: the application feels nothing, the table is inexact."""
    server = shop(servers)
    box = protected(server, **OPTIONS, snapshot_quiet="1h")
    write(server)
    settle(server, box)
    server.sql("UPDATE lines SET what = 'changed' WHERE id % 2 = 0", dbname="shop")
    inexact = box.wait("the inexact table", lambda: box.status("shop")["inexact"], 30)
    assert inexact[0]["table"] == "public.lines" and inexact[0]["reason"], inexact
    write(server, first=10**6)
    settle(server, box)
    refused(server, box, "public.lines")
    box.ok("snapshot", "shop")
    check_exact(server, box, "after a snapshot")


# -- the source's applications

WIDE = SCHEMA + """
CREATE TABLE wide (id int PRIMARY KEY, a text);
INSERT INTO wide SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 60000) i;
"""


def test_an_application_behind_the_locks_of_a_snapshot(servers, boxes):
    server = shop(servers, WIDE)
    with Proxy(server.port) as proxy:
        box = prepare(server, boxes, **OPTIONS, snapshot_quiet="1h", lock_patience="1s",
                      conninfo=f"host=127.0.0.1 port={proxy.port} dbname=shop user=salvor")
        begin(server, box)
        proxy.bytes_per_s = 100_000  # the whole of it would take more than a minute and a half
        snapshot = box.spawn("snapshot", "shop")
        wait_for("the snapshot to read", lambda: server.value(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = 'wide'::regclass AND a.query LIKE 'COPY%'", dbname="shop"), 20)
        began = time.monotonic()
        with server.connect("shop") as c, c.cursor() as cur:
            cur.execute("SET lock_timeout = '60s'; ALTER TABLE wide ADD COLUMN b int")
        waited = time.monotonic() - began
        assert waited < 45, f"ALTER TABLE waited {waited:.1f} s behind a snapshot with lock_patience = 1s"
        assert snapshot.poll() is None or snapshot.returncode != 0, "it never held the lock"
        proxy.bytes_per_s = None
        assert snapshot.wait(120) == 0  # it was taken again
        write(server)
        check_exact(server, box, "after the snapshot let go")


def test_applications_never_see_an_error(servers, protected):
    """While tables come, lose their keys and go, no statement of their writers fails because of Salvor."""
    server = shop(servers)
    during_setup = server.connect("shop", autocommit=False)
    during_setup.cursor().execute("CREATE TABLE born_early (id int); INSERT INTO born_early VALUES (1)")
    timer = threading.Timer(1.0, during_setup.commit)
    timer.start()
    box = protected(server, **OPTIONS, snapshot_quiet="1h")
    timer.join()
    server.sql("CREATE ROLE app LOGIN; GRANT ALL ON SCHEMA public TO app; GRANT ALL ON ALL TABLES IN SCHEMA public TO app", dbname="shop")
    server.sql("ALTER TABLE passing OWNER TO app", dbname="shop")
    statements = """
        UPDATE born_early SET id = 2
        CREATE TABLE keyless (id int, v text)
        INSERT INTO keyless VALUES (1, 'a'), (2, 'b')
        UPDATE keyless SET v = 'c'
        DELETE FROM keyless WHERE id = 1
        CREATE TABLE copied AS SELECT * FROM hot
        UPDATE copied SET n = 1
        SELECT * INTO picked FROM hot
        DELETE FROM picked
        ALTER TABLE passing DROP CONSTRAINT passing_pkey
        UPDATE passing SET body = '{"no": "key"}'
        DELETE FROM passing
        CREATE TABLE by_index (a int NOT NULL, v text)
        CREATE UNIQUE INDEX by_index_a ON by_index (a)
        ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a
        INSERT INTO by_index VALUES (1, 'x')
        UPDATE by_index SET v = 'y'
        DROP INDEX by_index_a
        UPDATE by_index SET v = 'z'
        CREATE TABLE none_at_all (id int PRIMARY KEY, v text)
        INSERT INTO none_at_all VALUES (1, 'x')
        ALTER TABLE none_at_all REPLICA IDENTITY NOTHING
        UPDATE none_at_all SET v = 'y'
        CREATE TABLE deferrable_key (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text)
        INSERT INTO deferrable_key VALUES (1, 'x')
        UPDATE deferrable_key SET v = 'y'
        CREATE TABLE generated_key (a int, b int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY, v text)
        INSERT INTO generated_key VALUES (1), (2)
        UPDATE generated_key SET v = 'y'
        DELETE FROM generated_key WHERE a = 1
        CREATE TABLE parent (id int, v text) PARTITION BY RANGE (id)
        CREATE TABLE part_1 PARTITION OF parent FOR VALUES FROM (0) TO (100)
        INSERT INTO parent VALUES (1, 'x')
        UPDATE parent SET v = 'y'
        INSERT INTO keyless VALUES (3, 'd') ON CONFLICT DO NOTHING
        DROP TABLE copied
    """
    for statement in filter(None, map(str.strip, statements.splitlines())):
        user = "postgres" if "born_early" in statement else "app"
        server.sql(statement, dbname="shop", user=user)
    with server.connect("shop") as c, c.cursor() as cur:  # a replica's session fires no ordinary triggers
        cur.execute("SET session_replication_role = replica")
        cur.execute("CREATE TABLE replica_made (id int); INSERT INTO replica_made VALUES (1); UPDATE replica_made SET id = 2; DELETE FROM replica_made")
        cur.execute("ALTER TABLE ledger DROP CONSTRAINT ledger_pkey; UPDATE ledger SET body = 'x'")
    settle(server, box)
    box.wait("the change to be noticed", lambda: box.status("shop")["schema_changed"], 20)
    refused(server, box, "cannot be recovered")
    # The server's counts are late, and what is counted only behind the snapshot makes it inexact with the rest.
    box.wait("the last changes to be counted", lambda: {"public.part_1", "public.replica_made"} <= {i["table"] for i in box.status("shop")["inexact"]})
    box.ok("snapshot", "shop")
    check_exact(server, box, "after all of it and a snapshot")


def test_a_server_that_shuts_down_does_not_wait_for_salvor(servers, protected):
    """A walsender holds a shutdown up until all is told as flushed, and Salvor always holds one transaction back."""
    server = shop(servers)
    box = protected(server, **OPTIONS, heartbeat="20s", poll="5s")
    for number in range(2):
        load = write(server, first=number * 10**6)
        began = time.monotonic()
        server.stop("fast")
        assert time.monotonic() - began < 45, "the shutdown waited for Salvor"  # wal_sender_timeout is 60 s
        server.start()
        box.wait_streaming("shop")
    check_exact(server, box, "after two shutdowns")
    check_ledger_rows(server.connect("recovered"), load)
    assert box.status("shop")["incarnation"] == "0001" and box.status("shop")["gaps"] == []


# -- more than one

def test_two_sources_in_one_run(servers, boxes):
    server = servers()
    options = {}
    for name in ("east", "west"):
        server.sql(f"CREATE DATABASE {name}")
        server.sql(SCHEMA, dbname=name)
        options[name] = {"conninfo": server.conninfo(name, "salvor", tcp=True), **OPTIONS, "rpo": "2s", "heartbeat": "500ms", "poll": "1s", "snapshot_schedule": "none"}
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
    box = boxes(options)
    box.ok("init")
    for name in options:
        box.ok("setup", name, "--admin", server.conninfo(name, tcp=True))
    box.start()
    loads = {}
    for number, name in enumerate(options):
        box.wait_streaming(name)
        box.wait_snapshots(name, 1)
        loads[name] = Load(server.conninfo(name), clients=2, rate=100, seed=number).start()
    for load in loads.values():
        load.wait_acknowledged(60)
    box.wait("a capture process", lambda: box.kill_role("capture east"), 20)  # the other one does not notice
    for load in loads.values():
        load.wait_acknowledged(60)
        load.stop()
    assert [s["name"] for s in box.ok("status", "--json").json["sources"]] == ["east", "west"]
    for name, load in loads.items():
        box.wait_streaming(name)
        check_exact(server, box, name, source=name, into=f"recovered_{name}")
        with server.connect(f"recovered_{name}") as c:
            check_ledger(c, load, name)
        check_log(box, name, load.acknowledged)
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []
    assert "\nsource west" in box.ok("status").out
