"""The journal, proofs, and a vault that is taken up by a bare host."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import psycopg2
import pytest
from conftest import begin, prepare
from ledger import OPTIONS, SCHEMA, Load, check_ledger, check_log
from salvorbox import SALVOR, wait_for
from truth import compare, contents


def shop(servers):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA, dbname="shop")
    return server


# No recovery of it takes less than a second.
SLOW = """CREATE FUNCTION nap(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(1.1); RETURN i; END $$;
CREATE TABLE slow (id int PRIMARY KEY); INSERT INTO slow VALUES (1); CREATE INDEX ON slow (nap(id))"""


def settle(server, box):
    box.wait_durable("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))


def entries(box, *args, kind=None):
    found = box.ok("journal", *args, "--json").json["entries"]
    return [e for e in found if kind is None or e["kind"] == kind]


def scratch(parent):
    return sorted(p for p in pathlib.Path(parent).glob("salvor-prove-*"))


def source_objects(box):
    vault = box.root / "vault"
    return {p.relative_to(vault).as_posix(): p.stat().st_mtime_ns for p in (vault / "sources").rglob("*") if p.is_file()}


def findings(box):
    r = box.run_command("verify", "--json")
    found = r.json["vaults"][0]["findings"]
    assert r.status == (4 if found else 0)
    return found


def prove_parent(box):
    parent = box.root / "scratch"
    parent.mkdir(exist_ok=True)
    os.chmod(parent, 0o755)
    return parent


def server_of_proof(parent):
    """The process of the scratch server that runs now, or None: initdb's own has a negative number, and a restart has none."""
    for path in pathlib.Path(parent).glob("salvor-prove-*/target/data/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(path.read_text().splitlines()[0])
            if pid > 0 and os.readlink(f"/proc/{pid}/cwd") == str(path.parent):
                return pid
    return None


def stopped_beside_its_server(child, parent):
    """Holds a proof while its server runs, and gives the server's process."""
    def held():
        pid = server_of_proof(parent)
        if pid is None:
            assert child.poll() is None, "the proof ended before its server was seen"
            return None
        child.send_signal(signal.SIGSTOP)
        # It may just have been told to end.
        deadline = time.monotonic() + 1
        while server_of_proof(parent) == pid and time.monotonic() < deadline:
            time.sleep(0.05)
        if server_of_proof(parent) == pid:
            return pid
        child.send_signal(signal.SIGCONT)
        return None
    return wait_for("the scratch server", held, 120)


def test_every_kind_of_entry_has_a_test():
    """By the table of kinds in docs/formats/journal.md: whoever adds one writes down what it says, and a test that reads it."""
    root = pathlib.Path(__file__).resolve().parents[2]
    table = (root / "docs/formats/journal.md").read_text().split("\n## Kinds\n")[1]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    kinds = {kind for row in rows for kind in re.findall("`([a-z_]+)`", row)}
    written = set()
    for path in (root / "src").rglob("*.c"):
        text = path.read_text()
        written |= set(re.findall(r"journal(?:ed)?_add\([^;]*?, \"([a-z_]+)\"", text)) | set(re.findall(r"failed_entry = \"([a-z_]+)\"", text))
        written |= set(re.findall(r"recorder_add\([^;]*?, \"([a-z_]+)\"", text)) | set(re.findall(r"put_journal\([^;]*?, \"([a-z_]+)\"", text))
    assert len(kinds) > 30 and len(written) > 20 and written <= kinds, written - kinds
    tests = "".join(p.read_text() for folder in ("integration", "unit", "crash") for p in (root / "test" / folder).rglob("test_*.*"))
    unread = {kind for kind in kinds if not re.search(rf"""["'\s]{kind}["'\s]""", tests)}
    assert unread == set(), unread


def test_failures_are_told(servers, boxes):
    """A snapshot and a purge that fail: an entry each, with the sentence that was said."""
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS, keep="1d")
    begin(server, box)
    box.stop()
    server.sql("ALTER ROLE salvor NOLOGIN")
    said = box.run_command("snapshot", "shop")
    assert said.status == 1
    [failed] = entries(box, "shop", kind="snapshot_failed")
    assert failed["members"]["reason"] and failed["members"]["reason"] in said.err and "not permitted to log in" in said.err, (failed, said)
    (box.root / "vault/sources/shop/0001/incarnation.json").write_text("{}")
    said = box.run_command("purge", "shop")
    assert said.status == 4
    [failed] = entries(box, "shop", kind="purge_failed")
    assert failed["members"]["vault"] == "main" and "incarnation.json" in failed["members"]["reason"] and failed["members"]["reason"] in said.err, (failed, said)


def proved_by_hand(box, *args):
    """Once the keeper's own proof is not at work."""
    def prove():
        r = box.run_command("prove", "shop", "--json", *args)
        if r.status == 1 and "another proof is at work" in r.err:
            return None
        assert r.status == 0, r
        return r.json
    return box.wait("a proof by hand", prove, 120)


@pytest.mark.timeout(300)
def test_prove_and_journal(servers, boxes):
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS)
    parent = prove_parent(box)
    box.sources["shop"]["prove_dir"] = parent
    box.write_config()
    begin(server, box)
    load = Load(server.conninfo("shop"), rate=100).start()
    load.wait_acknowledged(100)
    load.stop()
    box.wait("a segment in the vault", lambda: list((box.root / "vault/sources/shop/0001/rows").glob("*.seg")))
    # By hand: from the vault alone, with the events.
    proof = box.ok("prove", "shop", "--json").json
    assert proof["verified"] and proof["rolled_forward"] and proof["transactions"] > 0 and "conninfo" not in proof
    assert proof["snapshot"] == box.status("shop")["snapshots"][0]["id"]
    assert scratch(parent) == [] and not (box.state / "prove.json").exists()
    status = box.status("shop")
    assert status["snapshots"][0]["proved"] is True
    assert status["last_proof"]["snapshot"] == proof["snapshot"] and status["last_proof"]["age_s"] < 120
    assert "last proof" in box.ok("status", "shop").out
    objects = list((box.root / "vault/proofs").rglob("*.json"))
    assert len(objects) == 1
    stored = json.loads(objects[0].read_text())
    assert stored["rolled_forward"] is True and stored["by"] == "salvor prove" and stored["verified"] is True
    # Killed while its server runs: everything is left behind, and the next one cleans up and proves.
    box.stop()
    before = source_objects(box)
    child = box.spawn("prove", "shop")
    server_pid = stopped_beside_its_server(child, parent)
    left = scratch(parent)[0]
    # A second one meanwhile is told so.
    box.fails(1, "prove", "shop", says="another proof is at work")
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    assert left.exists() and (left / "target/salvor-unfinished").exists()
    again = box.ok("prove", "shop", "--snapshot", proof["snapshot"], "--json").json
    assert again["verified"] and not left.exists() and scratch(parent) == []
    wait_for("the killed proof's server to be gone", lambda: not os.path.exists(f"/proc/{server_pid}/cwd"), 10)
    assert source_objects(box) == before, "a proof wrote into the source's data"
    box.fails(1, "prove", "shop", "--snapshot", "no-such", says="no snapshot")
    # What happened is in the journal, on this host and in the vault.
    kinds = [e["kind"] for e in entries(box)]
    for kind in ("writer_begun", "vault_made", "set_up", "settings", "incarnation", "snapshot", "proof"):
        assert kind in kinds, f"no {kind} in {kinds}"
    assert kinds.count("proof") == 2 and kinds.count("incarnation") == 1
    assert entries(box, "shop", kind="proof")[0]["members"]["phases"][0]["name"] == "plan"
    assert "proof" in box.ok("journal", "shop").out
    secrets = (box.state / "journal/key").read_text().strip()
    text = "".join(json.dumps(e) for e in entries(box)) + box.ok("journal").out
    assert secrets not in text and os.stat(box.state / "journal/key").st_mode & 0o777 == 0o600
    assert findings(box) == []
    # A flipped bit, a run that is gone, one that came back from yesterday.
    runs = sorted((box.root / "vault/journal").glob("*/*.jsonl.zst"))
    assert len(runs) >= 3
    good = runs[1].read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 4
    runs[1].write_bytes(bad)
    assert any(f["key"].endswith(runs[1].name) and f["kind"] == "damaged" for f in findings(box)), findings(box)
    # The others are still read.
    r = box.run_command("journal", "--json")
    assert r.status == 1 and r.json["unread"] == 1 and len(r.json["entries"]) == len(kinds), "this host has them all"
    runs[1].unlink()
    assert any(f["kind"] == "missing" and "journal/" in f["key"] for f in findings(box))
    runs[1].write_bytes(good)
    last = runs[-1].read_bytes()
    runs[-1].unlink()
    assert [f for f in findings(box) if "newest runs are gone" in f["text"]], "a head that went back"
    runs[-1].write_bytes(last)
    assert findings(box) == []


@pytest.mark.timeout(300)
def test_proved_by_itself(servers, boxes):
    server = shop(servers)
    server.sql(SLOW, dbname="shop")
    box = prepare(server, boxes, prove="yes", rto="1s", **OPTIONS)
    parent = prove_parent(box)
    box.sources["shop"]["prove_dir"] = parent
    box.write_config()
    begin(server, box)
    status = box.wait("the first snapshot to be proved", lambda: (lambda s: s if s["snapshots"][0]["proved"] else None)(box.status("shop")), 120)
    assert json.loads(next((box.root / "vault/proofs").rglob("*.json")).read_text())["by"] == "salvor run"
    # The breach is measured, and open.
    box.wait("the breach", lambda: "rto_measured" in [b["objective"] for b in box.status("shop")["breaches"]])
    assert "BREACH" in box.ok("status", "shop").out
    # The schema changes, and the next snapshot comes.
    snapshot = status["snapshots"][0]["id"]
    server.sql("CREATE TABLE later (id int PRIMARY KEY)", dbname="shop")
    settle(server, box)
    box.ok("snapshot", "shop")
    box.wait("the second snapshot to be proved", lambda: all(s["proved"] for s in box.status("shop")["snapshots"]), 120)
    alone = proved_by_hand(box, "--snapshot", snapshot)
    assert alone["verified"] and alone["snapshot"] == snapshot
    if not alone["rolled_forward"]:
        assert alone["not_rolled_forward_because"] and alone["target_position"] == alone["snapshot_position"]
    assert entries(box, "shop", kind="schema_change")
    # A chunk that is damaged: the proof fails, loudly, and is written down.
    box.stop()
    chunk = max((box.root / "vault/sources/shop/chunks").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    good = chunk.read_bytes()
    chunk.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    r = box.run_command("prove", "shop")
    assert r.status in (3, 4) and scratch(parent) == [], r
    assert entries(box, "shop", kind="proof_failed")[-1]["members"]["reason"]
    assert box.status("shop")["proof_failed"]
    # Not enough disk is known before anything is made.
    chunk.write_bytes(good)
    box.ok("prove", "shop")
    assert box.status("shop")["proof_failed"] == ""


def killed(box, *words):
    """SIGKILL to the keeper's child with these words in its command line; False: there is none at this moment."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            argv = path.read_text(errors="replace").split("\0")
            if str(box.config) in argv and all(w in argv for w in words):
                os.kill(int(path.parent.name), signal.SIGKILL)
                return True
    return False


def drop_slot(server):
    def drop():
        try:
            server.sql("SELECT pg_drop_replication_slot('salvor_shop')")
            return True
        except psycopg2.errors.ObjectInUse:
            return False
    wait_for("the slot to be dropped", drop)


@pytest.mark.timeout(600)
def test_what_is_done_is_told(servers, boxes):
    """Each real action and each finding writes its entry, with what an auditor asks for. Purges and holds: test_purge; a full spool: test_pressure; losses: test_act."""
    server = shop(servers)
    server.sql(SLOW, dbname="shop")
    box = prepare(server, boxes, prove="yes", snapshot_quiet="1h", **{**OPTIONS, "rpo": "2s"})
    box.sources["shop"]["prove_dir"] = prove_parent(box)
    box.vaults["safe"] = {"driver": "posix", "path": box.root / "safe", "key_file": box.root / "safe.key"}
    box.ok("key", "new", box.root / "safe.key")
    box.write_config()
    begin(server, box)

    def told(kind, **members):
        """The last entry of that kind, once it is there."""
        def find():
            found = [e["members"] for e in entries(box, kind=kind) if all(e["members"].get(k) == v for k, v in members.items())]
            return found[-1] if found else None
        return box.wait(f"the entry {kind} {members}", find)

    # A proof that is killed can write nothing itself.
    box.wait("a proof at work", lambda: killed(box, "prove", "--background"), 120)
    assert "signal 9" in told("proof_failed")["reason"]
    # An objective that is not kept, and kept again: measured while capture stands still.
    pid = box.capture_pid("shop")
    os.kill(pid, signal.SIGSTOP)
    breach = told("breach_begun", objective="rpo_source_lost")
    os.kill(pid, signal.SIGCONT)
    assert breach["objective_s"] == 2 and breach["measured_s"] > 2
    told("breach_ended", objective="rpo_source_lost")
    told("breach_ended", objective="rpo_host_lost")
    # A table that became inexact.
    server.sql("INSERT INTO lines VALUES (1, 'line')", dbname="shop")
    server.sql("UPDATE lines SET what = 'changed'", dbname="shop")
    assert told("inexact", table="public.lines")["reason"]
    box.ok("snapshot", "shop")
    assert told("snapshot", snapshot=box.status("shop")["snapshots"][-1]["id"])["findings"] == []
    # Recoveries: one with its phases, one that failed; a refusal is none.
    settle(server, box)
    server.sql("CREATE DATABASE recovered TEMPLATE template0")
    result = box.recover("shop", "--into", server.conninfo("recovered"))
    entry = told("recovery")
    assert [p["name"] for p in entry["phases"]] == [p["name"] for p in result["phases"]] and entry["verified"] and entry["rto_s"] > 0
    assert entry["reached_position"] == result["reached_position"] and "conninfo" not in entry
    box.fails(3, "recover", "shop", "--into", server.conninfo("recovered"))
    assert entries(box, kind="recovery_failed") == []
    box.fails(1, "recover", "shop", "--into", server.conninfo("nowhere"))
    assert "nowhere" in told("recovery_failed")["reason"]
    # Keys.
    box.ok("key", "rotate", "safe")
    box.ok("key", "export", "safe")
    assert told("key_rotated")["key"] == 2 and told("key_exported")["vault"] == "safe"
    # A gap.
    box.stop()
    drop_slot(server)
    server.sql("INSERT INTO hot VALUES (1001, 1, 'unseen')", dbname="shop")
    box.start()
    box.wait("a snapshot of the next incarnation", lambda: (lambda s: s.get("incarnation") == "0002" and s["snapshots"])(box.status("shop")), 120)
    assert told("gap")["incarnation"] == "0001" and told("incarnation", incarnation="0002")["reason"]
    # A recovery would take too long by now: predicted, before any did.
    proof = proved_by_hand(box)
    assert told("proof", snapshot=proof["snapshot"])["phases"] == proof["phases"]
    settle(server, box)
    before = box.ok("recover", "shop", "--dry-run", "--json").json["predicted_s"]
    server.sql("DO $$ BEGIN FOR i IN 1..30000 LOOP INSERT INTO lines VALUES (i, 'x'); COMMIT; END LOOP; END $$", dbname="shop")
    box.wait_vault("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"), 120)
    box.stop()
    after = box.ok("recover", "shop", "--dry-run", "--json").json["predicted_s"]
    assert after > before + 0.002
    box.sources["shop"].update(rto=f"{round(500 * (before + after))}ms", prove="no")
    box.write_config()
    box.start()
    breach = told("breach_begun", objective="rto_predicted")
    assert breach["measured_s"] > breach["objective_s"]
    status = box.status("shop")
    assert abs(status["rto_predicted_s"] - breach["measured_s"]) < 1 and "rto_predicted" in [b["objective"] for b in status["breaches"]], status
    text = box.ok("status", "shop").out
    assert "predicted from what was measured" in text and "BEYOND THE OBJECTIVE" in text and "BREACH" in text
    # The next snapshot leaves fewer transactions to read.
    box.ok("snapshot", "shop")
    box.stop()
    box.start()
    told("breach_ended", objective="rto_predicted")
    box.stop()
    box.ok("teardown", "shop", "--admin", server.conninfo("shop", "postgres", tcp=True))
    assert told("torn_down")["by_administrator"] is True
    assert findings(box) == [] or {f["kind"] for f in findings(box)} == {"gap"}


def bare(boxes, vault):
    """A host that has nothing: an empty state directory and no configuration."""
    box = boxes({}, vaults={"main": {"driver": "posix", "path": vault}})
    box.config.unlink()
    return box


def bare_command(*args, status=0):
    r = subprocess.run([SALVOR, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                       env={**os.environ, "SALVOR_CONFIG": "/nonexistent/salvor.conf"})
    assert r.returncode == status, f"{args}: {r.returncode} {r.stdout} {r.stderr}"
    return r


@pytest.mark.timeout(300)
def test_adopted_by_a_bare_host(servers, boxes):
    server = shop(servers)
    old = prepare(server, boxes, rpo="4s", automation="observe", large_objects="ignore", **OPTIONS)
    begin(server, old)
    load = Load(server.conninfo("shop"), rate=150).start()
    load.wait_acknowledged(150)
    # What the new host is to know of the schema has come into the vault as well.
    old.wait("the schema to be known", lambda: old.status("shop")["schema_seen"])
    load.wait_acknowledged(100)
    old.wait_vault("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))
    vault = old.root / "vault"
    old.wait("the settings in the vault", lambda: json.loads(bare_command("adopt", vault, "--json").stdout)["sources"][0]["settings_known"])
    # The host is gone: state and configuration with it. The load goes on.
    old.kill9()
    kept = old.root / "what-the-old-host-had"
    shutil.copytree(old.state, kept)
    shutil.rmtree(old.state)
    new = bare(boxes, vault)
    old_config = old.config.read_text()
    old.config.unlink()
    load.wait_acknowledged(100)
    # Without any configuration: what is there, and a recovery of it.
    listed = bare_command("adopt", vault, "--json").stdout
    source = json.loads(listed)["sources"][0]
    assert source["name"] == "shop" and source["rpo"] == "4s" and source["settings_known"] is True
    assert source["incarnations"][0]["snapshots"] == 1 and source["incarnations"][0]["to"]
    text = bare_command("adopt", vault).stdout
    assert "[source shop]" in text and "# as on the lost host; decide anew: automation = observe" in text
    server.sql("CREATE DATABASE bare TEMPLATE template0")
    recovered = json.loads(bare_command("recover", "shop", "--vault", vault, "--into", server.conninfo("bare"), "--json").stdout)
    assert recovered["verified"] and recovered["from_spool"] is False
    bare_command("recover", "nothing", "--vault", vault, "--into", server.conninfo("bare"), status=3)
    # Adopted, and run again: the same incarnation goes on as a new epoch.
    bare_command("adopt", vault, "--output", new.config, "--state", new.state)
    bare_command("adopt", vault, "--output", new.config, "--state", new.state, status=3)
    assert "conninfo = " in new.config.read_text()
    new.start()
    new.wait_streaming("shop")
    load.wait_acknowledged(150)
    settle(server, new)
    status = new.status("shop")
    assert status["incarnation"] == "0001" and status["gaps"] == [] and status["inexact"] == []
    epochs = sorted(p.name for p in (vault / "sources/shop/epochs").iterdir())
    # The old host comes back, with all that it had, while the new one captures.
    old.config.write_text(old_config)
    shutil.copytree(kept, old.state)
    old.start()
    old.wait("the old host to find the slot taken", lambda: old.status("shop")["state"] == "waiting")
    load.wait_acknowledged(100)
    assert new.status("shop")["state"] == "streaming"
    old.kill9()
    load.stop()
    assert load.interruptions == 0
    settle(server, new)
    new.wait("a segment of the new epoch",
             lambda: len({p.name.split("-")[1] for p in (vault / "sources/shop/0001/rows").glob("*.seg")}) > 1)
    later = sorted(p.name for p in (vault / "sources/shop/epochs").iterdir())
    assert len(later) > 1 and later[0] == epochs[0]
    # Nothing is missing, nothing is twice.
    check_log(new, "shop", load.acknowledged)
    server.sql("CREATE DATABASE recovered TEMPLATE template0")
    new.recover("shop", "--to", "latest", "--into", server.conninfo("recovered"))
    with server.connect("shop") as source_session, server.connect("recovered") as session:
        check_ledger(session, load, "adopted")
        compare(contents(session), contents(source_session), "adopted")
    assert new.ok("snapshot", "shop", "--json").json["findings"] == []
    assert new.ok("verify", "--json").json["vaults"][0]["findings"] == []
    # Two writers, and the second one's first head names what it saw of the first.
    journal = new.ok("journal", "--json").json
    assert len(journal["writers"]) == 2 and [e for e in journal["entries"] if e["kind"] == "adopted"]
    heads = [json.loads(subprocess.run(["zstd", "-dcq", str(p)], capture_output=True, check=True).stdout.splitlines()[-1])
             for p in sorted((vault / "journal").glob("*/*.jsonl.zst"))]
    assert any(h["head"]["seen"] for h in heads)
