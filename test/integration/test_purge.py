"""Retention on a real source: a dry run that explains, a hold, two phases, and what is left is what was promised: verified and recovered. Windows and
graces are as short as they may be."""
import datetime

import pytest
from ledger import OPTIONS, SCHEMA
from truth import contents

pytestmark = [pytest.mark.xdist_group("purge"), pytest.mark.timeout(900)]

KEEP = 60


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
    assert done["n"] == begun["n"] and [s["id"] for s in done["snapshots"]] == [ids[1]] and done["bytes"] > 0 and done["vault"] == "main"
    assert entries["hold_added"][0]["reason"] == "an auditor asked" and entries["hold_removed"][0]["n"] == 1 and "purge_failed" not in entries


def test_purge(boxes, servers):
    from conftest import protect
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA + "CREATE TABLE thing (id int PRIMARY KEY, a text);", dbname="shop")
    box = protect(server, boxes, **{**OPTIONS, "rpo": "1s", "heartbeat": "500ms", "keep": f"{KEEP}s", "purge_grace": "60s",
                                    "purge_every": "30d"})
    box.vaults["main"].update(price_gb_month="0.023", price_currency="EUR")
    box.write_config()
    for number in range(3):
        lsn = write(server, number)
        box.wait_durable("shop", lsn)
        if number:
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
    report = box.wait("the grace to be over", lambda: (lambda r: r if r["removed_objects"] else None)(purge(box)), 180)
    assert {s["id"] for s in report["snapshots"]} == {ids[0], ids[2]}
    box.ok("verify")
    status = box.status("shop")
    assert [s["alone"] for s in status["snapshots"]] == [True, False]
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
