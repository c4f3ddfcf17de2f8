"""Several databases of one server under one section: named, or all that there are. Each comes back on its own, and new, dropped, renamed and oddly named ones
are what the configuration says of them."""
import json
import shutil

import psycopg2
import pytest
from conftest import prepare
from salvorbox import wait_for
from truth import compare, contents

pytestmark = pytest.mark.timeout(300)

ODD = 'Odd "Näme", 1'
TABLES = """CREATE TABLE t (id int PRIMARY KEY, v text); CREATE SCHEMA "Other"; CREATE TABLE "Other".u (k text PRIMARY KEY, n numeric);
CREATE SEQUENCE s; INSERT INTO t SELECT i, repeat('x', i) FROM generate_series(1, 200) i; INSERT INTO "Other".u VALUES ('a', 1.0), ('b', 1.00)"""
CUTOVER = """#!/bin/sh
echo "$SALVOR_GROUP|$SALVOR_DATABASE|$SALVOR_SOURCE|$1" >> {root}/runs
"""


def make(server, name, owner="postgres"):
    server.sql('CREATE DATABASE "{}" OWNER {}'.format(name.replace('"', '""'), owner))
    fill(server, name, owner)


def fill(server, name, owner="postgres"):
    with session(server, name, owner) as c, c.cursor() as cur:
        cur.execute(TABLES + f"; INSERT INTO t VALUES (1000, '{len(name)} bytes')")


def session(server, name, user="postgres"):
    c = psycopg2.connect(host="127.0.0.1", port=server.port, dbname=name, user=user)
    c.autocommit = True
    return c


def change(server, names):
    """What is committed after the snapshots; the truth of each database from then on, and where it is durable."""
    truths = {}
    for name in names:
        with session(server, name) as c, c.cursor() as cur:
            cur.execute("UPDATE t SET v = 'changed' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0; INSERT INTO t VALUES (2000, 'last')")
            cur.execute("SELECT pg_current_wal_insert_lsn()::text")
            truths[name] = (contents(c), cur.fetchone()[0])
    return truths


def statuses(box):
    return {s["name"]: s for s in box.ok("status", "--json").json["sources"]}


def wait_protected(box, *sources):
    for source in sources:
        box.wait_streaming(source)
        box.wait_snapshots(source, 1)


@pytest.fixture
def fleet(servers, boxes):
    def prepare_fleet(databases, conf=None, **options):
        server = servers(conf)
        box = prepare(server, boxes, dbname="fleet", **{"databases": databases, "conninfo": server.conninfo("postgres", "salvor", tcp=True), **options})
        box.ok("init")
        return server, box

    return prepare_fleet


def test_two_named_databases_of_a_lost_server_both_come_back(fleet):
    server, box = fleet("shop, crm", automation="act", target="local /nowhere", loss_after="3s", loss_probes="3", probe="200ms")
    for name in ("shop", "crm"):
        make(server, name)
    script = box.root / "cutover"
    script.write_text(CUTOVER.format(root=box.root))
    script.chmod(0o755)
    box.sources["fleet"].update({"target": f"local {box.root}/targets", "cutover": script})
    box.write_config()
    admin = server.conninfo("postgres", "postgres", tcp=True)
    # The group and each of it are what commands take; what is of one database alone says so.
    sql = box.ok("setup", "fleet/crm", "--print-sql").out
    assert "salvor_fleet__crm_rows" in sql and "in the database crm" in sql
    assert box.ok("setup", "fleet", "--admin", admin).out.count("is set up") == 2
    found = box.ok("check", "fleet", "--json").json["sources"]
    assert [f["name"] for f in found] == ["fleet", "fleet__shop", "fleet__crm"], found
    assert "2 databases of the group need 0 more" in found[0]["findings"][0]["text"], found[0]
    box.fails(2, "recover", "fleet", "--dry-run", says="fleet/shop, fleet/crm")
    box.fails(2, "snapshot", "fleet/nobody", says="does not name the database nobody")
    origin = box.ok("config", "--origin").out
    assert "dbname=crm host=127.0.0.1" in origin and "with the dbname of this database" in origin, origin
    assert f"target = local {box.root}/targets/crm   # " in origin, origin
    box.start()
    wait_protected(box, "fleet__shop", "fleet__crm")
    box.wait("the guards to be armed", lambda: all(s["guard"].get("armed") for s in statuses(box).values()))
    assert {s["database"] for s in statuses(box).values()} == {"shop", "crm"}
    assert box.ok("snapshot", "fleet", "--json").out.count('"id"') == 2
    truths = change(server, ["shop", "crm"])
    for name, (_, lsn) in truths.items():
        box.wait_durable(f"fleet__{name}", lsn)
    server.kill9()
    shutil.rmtree(server.datadir)

    def cut_over():
        return all(statuses(box)[f"fleet__{n}"].get("guard", {}).get("outcome") == "cut over" for n in truths)

    box.wait("both to be cut over", cut_over, 120)
    runs = dict(line.split("|")[1:4:2] for line in (box.root / "runs").read_text().splitlines())
    try:
        assert set(runs) == {"shop", "crm"}, runs
        for name, (truth, _) in truths.items():
            with psycopg2.connect(runs[name]) as c:
                assert c.info.dbname == name
                compare(contents(c), truth, f"the recovered {name}")
        wait_protected(box, "fleet__shop", "fleet__crm")
    finally:
        box.stop()
        for target in (box.root / "targets").iterdir():
            box.stop_target(target)


def test_all_databases_new_odd_renamed_and_dropped_ones(fleet):
    server, box = fleet("*, !postgres, !scratch")
    server.sql("ALTER ROLE salvor CREATEDB")
    for name, owner in (("shop", "salvor"), (ODD, "salvor"), ("scratch", "salvor"), ("crm", "salvor")):
        make(server, name, owner)
    assert "no database at all" in box.fails(2, "snapshot", "fleet", says="salvor check fleet").err
    # No setup by hand: what the role owns it sets up by itself.
    box.start()
    box.wait("three sources", lambda: len(statuses(box)) == 3)
    odd = next(n for n, s in statuses(box).items() if s["database"] == ODD)
    assert odd.startswith("fleet__odd_") and len(odd) <= 40, odd
    wait_protected(box, "fleet__shop", "fleet__crm", odd)
    # Nobody may connect to it for a while: that is not dropped, and a new one of that kind is no source.
    server.sql("ALTER DATABASE crm ALLOW_CONNECTIONS false")
    server.sql("CREATE DATABASE shut ALLOW_CONNECTIONS false")
    # Made while it runs: by the role, and by somebody who gave it no right.
    make(server, "New2026", "salvor")
    make(server, "foreign")
    new = box.wait("the new database", lambda: next((n for n, s in statuses(box).items() if s["database"] == "New2026"), None))
    assert not statuses(box)["fleet__crm"]["gone"] and "fleet__shut" not in statuses(box) and "was dropped" not in box.log_text()
    server.sql("ALTER DATABASE crm ALLOW_CONNECTIONS true")
    wait_protected(box, new)
    box.wait("the alert", lambda: "Run: salvor setup 'fleet/foreign' --admin" in box.log_text())
    assert "not set up: " in statuses(box)["fleet__foreign"]["not_captured"]
    box.ok("setup", "fleet/foreign", "--admin", server.conninfo("postgres", "postgres", tcp=True))
    wait_protected(box, "fleet__foreign")
    assert not statuses(box)["fleet__foreign"]["not_captured"]
    # Taken down and dropped: told, not set up again, its history stays.
    truths = change(server, ["shop", "crm", ODD, "New2026", "foreign"])
    names = {s["database"]: n for n, s in statuses(box).items()}
    for name, (_, lsn) in truths.items():
        box.wait_vault(names[name], lsn)
    box.ok("teardown", "fleet/crm")
    wait_for("the database to be dropped", lambda: dropped(server, "crm"))
    box.wait("the alert", lambda: "the database crm was dropped" in box.log_text())
    box.wait("status to tell", lambda: statuses(box)["fleet__crm"]["gone"])
    box.wait("its capture to end", lambda: box.role_pid("capture fleet__crm") is None)
    # Renamed while nothing is connected: it stays the same source.
    box.stop()
    server.sql('ALTER DATABASE "New2026" RENAME TO renamed')
    box.start()
    box.wait("the new name", lambda: statuses(box)[new]["database"] == "renamed")
    box.wait_streaming(new)
    assert statuses(box)[new]["incarnation"] == "0001"
    kinds = [e["kind"] for e in box.ok("journal", "fleet", "--json").json["entries"]]
    assert {"database_seen", "database_gone", "database_renamed"} <= set(kinds), kinds
    assert box.ok("verify", "fleet/renamed").status == 0
    with session(server, "renamed") as c, c.cursor() as cur:
        cur.execute("INSERT INTO t VALUES (3000, 'after')")
        cur.execute("SELECT pg_current_wal_insert_lsn()::text")  # behind the commit: of one message both are one transaction
        box.wait_durable(new, cur.fetchone()[0])
        truths["renamed"] = (contents(c), None)
    server.kill9()
    shutil.rmtree(server.datadir)
    box.stop()
    del truths["New2026"]
    odd_truth = truths.pop(ODD)[0]  # by the adopting host, below
    for i, (name, (truth, _)) in enumerate(truths.items()):
        result = box.recover(f"fleet/{name}", "--local", str(box.root / f"back{i}"))
        with psycopg2.connect(result["conninfo"]) as c:
            assert c.info.dbname == ("New2026" if name == "renamed" else name)
            compare(contents(c), truth, f"the recovered {name}")
        box.stop_target(box.root / f"back{i}")
    adopt(box, odd, odd_truth)


def test_one_made_again_is_a_new_history_and_slots_that_are_used_up_are_told(fleet):
    server, box = fleet("*, !postgres", conf={"max_replication_slots": 2, "max_wal_senders": 10})
    for name in ("shop", "crm"):
        make(server, name, "salvor")
    found = box.fails(3, "check", "fleet", says="2 of 2 are free; 2 databases of the group need 3 more")
    assert "ALTER SYSTEM SET max_replication_slots = 3" in found.out, found
    box.start()
    box.wait("two sources", lambda: len(statuses(box)) == 2)
    wait_protected(box, "fleet__shop", "fleet__crm")
    make(server, "third", "salvor")
    box.wait("the alert", lambda: "the database third is not protected: " in box.log_text())
    assert "slots" in statuses(box)["fleet__third"]["not_captured"]
    # A person makes room: the third takes it by itself; what was dropped and made again is the next incarnation of its source.
    box.ok("teardown", "fleet/crm")
    wait_for("the database to be dropped", lambda: dropped(server, "crm"))
    wait_protected(box, "fleet__third")
    box.ok("teardown", "fleet/third")
    assert "taken down" in statuses(box)["fleet__third"]["not_captured"]
    make(server, "crm", "salvor")
    box.wait("the next incarnation", lambda: statuses(box)["fleet__crm"].get("incarnation") == "0002")
    wait_protected(box, "fleet__crm")
    told = [e for e in box.ok("journal", "--json").json["entries"] if e["kind"] == "database_made_again"]
    assert [(e["source"], e["members"]["database"]) for e in told] == [("fleet__crm", "crm")], told
    assert "taken down" in statuses(box)["fleet__third"]["not_captured"]  # and not set up again by itself
    assert not box.ok("verify", "fleet", "--json").json["vaults"][0]["findings"]
    box.stop()
    # Another server at the address is not taken up by itself, but by a person.
    path = box.state / "fleet" / "databases.json"
    listed = json.loads(path.read_text())
    assert listed["system_id"] == server.sql("SELECT system_identifier::text FROM pg_control_system()")[0][0]
    path.write_text(json.dumps({**listed, "system_id": "1"}))
    box.fails(3, "check", "fleet", says="another server answers")
    box.fails(3, "setup", "fleet", says="max_replication_slots")  # of the third; it keeps nobody from the others
    assert json.loads(path.read_text())["system_id"] == listed["system_id"]


def dropped(server, name):
    """Capture's sessions come again every second, and a slot that is read keeps a database from being dropped."""
    try:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        return True
    except psycopg2.Error:
        return False


def adopt(box, odd, truth):
    """The host is lost as well: what `adopt` writes is a configuration that works."""
    written = box.root / "adopted.conf"
    box.ok("adopt", str(box.root / "vault"), "--output", str(written), "--state", str(box.root / "state2"))
    box.config = written
    text = written.read_text()
    assert "[source fleet]\n" in text and "databases = *, !postgres, !scratch\n" in text, text
    sources = {s["name"] for s in box.ok("status", "--json").json["sources"]}
    assert {"fleet__shop", odd} <= sources, sources
    result = box.recover("fleet/" + ODD, "--local", str(box.root / "adopted"))
    with psycopg2.connect(result["conninfo"]) as c:
        compare(contents(c), truth, "the recovered odd one, adopted")
    box.stop_target(box.root / "adopted")
    # What was dropped is there to be recovered, and is not captured.
    assert box.recover("fleet/crm", "--dry-run")["dry_run"]
