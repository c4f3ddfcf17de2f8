"""Retention on a real source: a dry run that explains each object, a hold, two phases, two purges at once beside a snapshot and a recovery, and what is left is what was
promised: verified and recovered. Windows and graces are as short as they may be. SALVOR_SOAK=1: in a bucket too."""
import concurrent.futures
import contextlib
import datetime
import os
import signal

import pytest
from ledger import OPTIONS, SCHEMA
from s3stub import S3Stub
from s3vault import keys_file
from truth import contents

pytestmark = [pytest.mark.xdist_group("purge"), pytest.mark.timeout(900)]

KEEP = 60
PRICE = 23.0  # of a GB a month: so much that a small vault costs something


def write(server, number):
    with server.connect("shop") as c, c.cursor() as q:
        q.execute("CREATE TABLE IF NOT EXISTS thing (id int PRIMARY KEY, a text)" if number == 0 else "SELECT 1")
        q.execute("INSERT INTO thing SELECT %s * 1000 + i, md5(i::text) FROM generate_series(1, 200) i", (number,))
        c.commit()
        q.execute("SELECT pg_current_wal_lsn()")
        return q.fetchone()[0]


def prove(box, name):
    """A recovery writes a proof of the snapshot that it started from."""
    box.recover("shop", "--local", box.root / name)
    box.stop_target(box.root / name)


def purge(box, *args):
    return box.ok("purge", "shop", "--json", *args).json["purges"][0]


def removed(report):
    return {s["id"] for s in report["snapshots"] if s["remove"]}


def check_journal(box, tombstone, ids):
    """What was named, what went, what was held: an entry each."""
    entries = {}
    for e in box.ok("journal", "shop", "--json").json["entries"]:
        entries.setdefault(e["kind"], []).append(e["members"])
    begun, done = entries["purge_begun"][0], entries["purge_done"][0]
    assert (begun["n"], begun["objects"], begun["bytes"]) == (tombstone["n"], tombstone["objects"], tombstone["bytes"]) and "older than" in begun["why"]
    assert [e["n"] for e in entries["purge_done"]].count(begun["n"]) == 1, "two purges at once, and one of them carried it out"
    assert done["n"] == begun["n"] and [s["id"] for s in done["snapshots"]] == [ids[1]] and done["bytes"] > 0 and done["vault"] == "main"
    assert entries["hold_added"][0]["reason"] == "an auditor asked" and entries["hold_removed"][0]["n"] == 1 and "purge_failed" not in entries


class Directory:
    def __init__(self, box):
        self.path = box.root / "vault"

    def objects(self):
        """{key: bytes} of all that stands there."""
        found = {}
        for path in self.path.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and "/tmp/" not in str(path.relative_to(self.path)):
                    found[str(path.relative_to(self.path))] = path.stat().st_size
        return found


class Stub:
    def __init__(self, box, stub, folder):
        self.stub = stub
        box.vaults["main"] = {"driver": "s3", "endpoint": stub.endpoint, "bucket": "bucket", "prefix": "v", "credentials_file": keys_file(folder / "keys", "AK", "SK")}

    def objects(self):
        with self.stub.lock:
            return {key[2:]: len(data) for key, (data, _) in self.stub.objects.items() if not key.startswith("v/tmp/")}


def of_source(objects):
    return {key: size for key, size in objects.items() if key.startswith(("sources/shop/", "proofs/shop/"))}


def check_dry_run(box, place):
    """The JSON names each object that stands there, with its bytes, why it stays or goes and what it costs; and its sums are those of the objects."""
    capture = box.capture_pid("shop")
    os.kill(capture, signal.SIGSTOP)  # nothing is shipped while the report is made
    report, real = purge(box, "--dry-run"), of_source(place.objects())
    os.kill(capture, signal.SIGCONT)
    rows = report["objects"]
    named = {row["key"]: row["bytes"] for row in rows}
    assert len(named) == len(rows) and named == real, (set(named) ^ set(real), {k for k in named if named[k] != real.get(k)})
    goes, stays = [r for r in rows if r["remove"]], [r for r in rows if not r["remove"]]
    assert all(len(r["why"]) > 15 and r["a_month"] == pytest.approx(r["bytes"] / 1e9 * PRICE) for r in rows), rows
    for what, those in (("removable", goes), ("kept", stays)):
        assert (report[f"{what}_objects"], report[f"{what}_bytes"]) == (len(those), sum(r["bytes"] for r in those)), what
        assert report["money"][f"{what}_a_month"] == pytest.approx(report[f"{what}_bytes"] / 1e9 * PRICE) and report["money"]["currency"] == "EUR"
    kept = [r for r in stays if "/rows/" in r["key"]]
    assert [(s["kept"], s["kept_bytes"]) for s in report["segments"]] == [(len(kept), sum(r["bytes"] for r in kept))]
    chunks = [r for r in rows if "/chunks/" in r["key"]]
    assert sum(c["bytes"] for c in report["chunks"].values()) == sum(r["bytes"] for r in chunks) and sum(c["objects"] for c in report["chunks"].values()) == len(chunks)
    for s in report["snapshots"]:
        [manifest] = [r for r in rows if r["key"].endswith(f"/{s['id']}/manifest.json.zst")]
        assert (manifest["remove"], manifest["why"]) == (s["remove"], s["why"])
    assert report["announced_objects"] == len(goes) and report["removed_objects"] == 0
    return report


def purge_twice_at_once(box, ids):
    """Two purges of one vault beside a snapshot and a recovery of what is held, each a process: what the tombstone named goes once and is told once. Gives the rows of
    the recovered database."""
    box.wait("the grace to be over", lambda: purge(box, "--dry-run")["tombstones"][0]["waits_s"] <= 0, 180)
    held = next(s["position"] for s in box.status("shop")["snapshots"] if s["id"] == ids[0])
    commands = [("purge", "shop", "--json"), ("purge", "shop", "--json"), ("snapshot", "shop"),
                ("recover", "shop", "--to", held, "--local", box.root / "beside", "--json")]
    with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
        done = list(pool.map(lambda c: box.run_command(*c), commands))
    assert all(r.status == 0 for r in done), done
    assert max(r.json["purges"][0]["removed_objects"] for r in done[:2]) > 0
    report = purge(box)  # what a purge that came too early for the other's records left
    assert {s["id"] for s in report["snapshots"]} >= {ids[0], ids[2]} and ids[1] not in {s["id"] for s in report["snapshots"]}
    with box.recovered(done[3].json) as c:
        found = contents(c)
    box.stop_target(box.root / "beside")
    return found


@pytest.mark.parametrize("where", ["directory", "bucket"] if os.environ.get("SALVOR_SOAK") else ["directory"])
def test_purge(boxes, servers, tmp_path, where):
    from conftest import begin, prepare
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA + "CREATE TABLE thing (id int PRIMARY KEY, a text);", dbname="shop")
    box = prepare(server, boxes, **{**OPTIONS, "rpo": "1s", "heartbeat": "500ms", "keep": f"{KEEP}s", "purge_grace": "60s",
                                    "purge_every": "30d"})
    with S3Stub() as stub:
        place = Directory(box) if where == "directory" else Stub(box, stub, tmp_path)
        box.vaults["main"].update(price_gb_month=PRICE, price_currency="EUR")
        box.write_config()
        begin(server, box)
        run_purge(server, box, place)


def run_purge(server, box, place):
    with server.connect("shop") as c:
        first = contents(c)
    for number in range(3):
        lsn = write(server, number)
        box.wait_durable("shop", lsn)
        if number:
            server.sql("UPDATE thing SET a = a || 'x' WHERE id % 7 = 0", dbname="shop")
            box.ok("snapshot", "shop")
    early = write(server, 3)
    box.wait_vault("shop", early)
    ids = [s["id"] for s in box.status("shop")["snapshots"]]
    assert len(ids) == 3
    # Nothing is proved: nothing goes, and it says so.
    report = purge(box, "--dry-run")
    assert "nothing is purged" in report["summary"] and report["removable_objects"] == 0 and report["tombstones"] == []
    prove(box, "first")
    held = box.ok("hold", "add", "shop", "--snapshot", ids[0].split("-")[1], "--reason", "an auditor asked").out
    assert "hold 1" in held
    box.fails(1, "hold", "add", "shop", "--snapshot", ids[0][:-8] + "00000000", "--reason", "no such")
    box.wait("the last snapshot to leave the window", lambda: removed(purge(box, "--dry-run")) == {ids[1]}, 180)
    check_dry_run(box, place)
    # The held one stays, the newest is the floor; the dry run explains and has changed nothing.
    text = box.ok("purge", "shop", "--dry-run").out
    for part in ("an auditor asked", f"goes  snapshot {ids[1].split('-')[1]} of ", "EUR a month", "the newest proved snapshot", "`salvor purge shop` would name"):
        assert part in text, text
    report = purge(box)
    assert report["removed_objects"] == 0 and report["announced_objects"] > 0
    [tombstone] = report["tombstones"]
    assert 0 < tombstone["waits_s"] <= 60
    # Again within the grace: nothing new, nothing gone. A clock a year ahead removes nothing either.
    assert purge(box)["removed_objects"] == 0
    names = set(of_source(place.objects()))
    assert purge_twice_at_once(box, ids) == first
    left = set(of_source(place.objects()))
    assert not any(ids[1] in key and "snapshots" in key for key in left) and names - left
    box.ok("verify")
    status = box.status("shop")
    assert [s["alone"] for s in status["snapshots"]] == [True, False, False]
    assert status["recoverable"]["from"] == status["snapshots"][1]["position"]
    # Between the held snapshot and the floor lies nothing that could be had; the held one itself can.
    gone = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)).isoformat()
    box.fails(3, "recover", "shop", "--to", gone, "--local", box.root / "no", "--dry-run")
    box.ok("recover", "shop", "--to", status["snapshots"][0]["position"], "--local", box.root / "no", "--dry-run")
    lsn = write(server, 4)
    box.wait_durable("shop", lsn)
    box.ok("snapshot", "shop")
    with server.connect("shop") as c:
        truth = contents(c)
    result = box.recover("shop", "--local", box.root / "last")
    with box.recovered(result) as c:
        assert contents(c) == truth
    box.stop_target(box.root / "last")
    box.ok("hold", "remove", "shop", 1)
    assert box.ok("hold", "list", "shop", "--json").json["holds"] == []
    check_journal(box, tombstone, ids)
    box.ok("verify")
