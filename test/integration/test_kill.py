"""SIGKILL at random moments: of capture, of the whole of salvor, of the server, of a snapshot. Nothing that was acknowledged is
missing afterwards, nothing is there twice, and the same command again works."""
import os
import random
import signal
import time

import pytest
from ledger import OPTIONS, SCHEMA, Load, check_ledger, check_log
from truth import compare, contents

SOAK = os.environ.get("SALVOR_SOAK") == "1"
CAPTURE_KILLS = 500 if SOAK else 20
SERVER_KILLS = 50 if SOAK else 5
SNAPSHOT_KILLS = 60 if SOAK else 5
# Small segments, shipped at once: every state of a file comes by often.
BUSY = {**OPTIONS, "rpo": "1s", "segment_size": "64KiB", "heartbeat": "200ms", "poll": "300ms"}


@pytest.fixture
def seed():
    value = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", value)
    return value


def shop(servers, schema=SCHEMA):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(schema, dbname="shop")
    return server


def settle(server, box):
    """No writer is left: all of it is durable here."""
    box.wait_durable("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))


def recover_into(server, box, name="recovered"):
    server.sql(f"CREATE DATABASE {name} TEMPLATE template0")
    return box.recover("shop", "--to", "latest", "--into", server.conninfo(name))


def check_all(server, box, load, what):
    """The source, its log in the vault and a recovery of it say the same."""
    settle(server, box)
    status = box.status("shop")
    assert status["gaps"] == [] and status["inexact"] == [] and status["incarnation"] == "0001", f"{what}: {status}"
    check_log(box, "shop", load.acknowledged)
    recover_into(server, box)
    with server.connect("shop") as source, server.connect("recovered") as recovered:
        check_ledger(recovered, load, what)
        compare(contents(recovered), contents(source), what)
    # A snapshot of the source as it is now agrees with the first one and the events since.
    assert box.ok("snapshot", "shop", "--json").json["findings"] == [], what
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == [], what


def entries(path):
    try:
        return {e.name for e in os.scandir(path)}
    except OSError:
        return set()


def moment(box, rnd):
    """Comes back at a random moment, or at one that is rare: a spool file was just begun, a segment is being built, an object put, an epoch claimed."""
    incarnation = box.state / "shop" / "0001"
    vault = box.root / "vault"
    watched = rnd.choice([None, None, incarnation / "spool", incarnation / "ship", vault / "tmp", vault / "sources/shop/epochs"])
    deadline = time.monotonic() + rnd.uniform(0, 1.0)
    if watched is None:
        time.sleep(max(0, deadline - time.monotonic()))
        return
    before = entries(watched)
    while time.monotonic() < deadline and not entries(watched) - before:
        time.sleep(0.0005)
    time.sleep(rnd.choice([0, 0, 0.0005, 0.002]))


@pytest.mark.timeout(3600 if SOAK else 240)
def test_capture_killed(servers, protected, seed):
    rnd = random.Random(seed)
    server = shop(servers)
    box = protected(server, **BUSY)
    load = Load(server.conninfo("shop"), rate=200, seed=seed).start()
    in_this_life = 0
    for number in range(CAPTURE_KILLS):
        moment(box, rnd)
        # The supervisor starts a role again five times in five minutes, then it waits.
        if in_this_life < 4 and rnd.random() < 0.5:
            box.wait("a capture process", lambda: box.kill_role("capture shop"), 20)
            in_this_life += 1
        else:
            box.kill9()
            box.start()
            in_this_life = 0
        if number % 50 == 49:
            print(f"{number + 1} kills, {len(load.acknowledged)} commits", flush=True)
        if number % 7 == 6:
            load.wait_acknowledged(20)
            box.wait_durable("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))
    load.stop()
    assert load.interruptions == 0, "the source's clients noticed Salvor"
    check_all(server, box, load, f"seed {seed}, {CAPTURE_KILLS} kills")


@pytest.mark.timeout(3600 if SOAK else 240)
def test_server_killed(servers, protected, seed):
    rnd = random.Random(seed)
    server = shop(servers)
    box = protected(server, **BUSY)
    load = Load(server.conninfo("shop"), rate=200, seed=seed).start()
    for _ in range(SERVER_KILLS):
        load.wait_acknowledged(rnd.randint(5, 60))
        server.kill9()
        server.start()
        load.wait_acknowledged(5)
        if rnd.random() < 0.5:
            box.wait_streaming("shop")
    load.stop()
    assert load.interruptions > 0
    box.wait_streaming("shop")
    check_all(server, box, load, f"seed {seed}, {SERVER_KILLS} kills of the server")


# Enough to be in the middle of something for a while.
WIDE = SCHEMA + """
CREATE TABLE wide (id int PRIMARY KEY, a uuid NOT NULL, b text);
INSERT INTO wide SELECT i, md5(i::text)::uuid, repeat(md5((i * 7)::text), 4) FROM generate_series(1, 60000) i;
CREATE INDEX ON wide (b, a);
CREATE INDEX ON wide (a);
"""


def kill_in_the_middle(box, rnd, span_s, *args):
    """Runs the command and kills it at a random moment of so many seconds. True: it was still at it."""
    process = box.spawn(*args)
    try:
        process.wait(rnd.uniform(0.02, span_s))
        return False
    except Exception:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        return True


@pytest.mark.timeout(3600 if SOAK else 240)
def test_snapshot_killed(servers, protected, seed):
    rnd = random.Random(seed)
    server = shop(servers, WIDE)
    box = protected(server, **OPTIONS)
    load = Load(server.conninfo("shop"), seed=seed).start()
    began = time.monotonic()
    box.ok("snapshot", "shop")
    whole_s = time.monotonic() - began
    in_the_middle = 0
    for _ in range(4 * SNAPSHOT_KILLS):
        before = [s["id"] for s in box.status("shop")["snapshots"]]
        if not kill_in_the_middle(box, rnd, whole_s, "snapshot", "shop"):
            continue
        after = box.status("shop")["snapshots"]
        if [s["id"] for s in after] == before:  # else it was committed, and was killed on its way out
            in_the_middle += 1
        assert all(s.get("rows") for s in after), after
        if in_the_middle == SNAPSHOT_KILLS:
            break
    assert in_the_middle > 0
    # The server has ended the killed sessions: no lock, no slot but the one of capture.
    box.wait("the slots of killed snapshots to be gone", lambda: server.value("SELECT count(*) FROM pg_replication_slots") == 1, 20)
    box.wait("the sessions of killed snapshots to be gone",
             lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%%snapshot%%' AND pid <> pg_backend_pid()") == 0, 20)
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []
    assert box.ok("snapshot", "shop", "--json").json["findings"] == []
    load.stop()
    check_all(server, box, load, f"seed {seed}, {in_the_middle} kills of a snapshot")
