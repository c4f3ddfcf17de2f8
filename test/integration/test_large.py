"""Large objects: exact at snapshots, as of the newest capture before the moment in between, and told apart."""
import json
import os

import pytest
from conftest import begin, prepare
from largetool import large_objects
from mounts import kept
from salvorbox import parse_lsn
from snapshottool import unpack

pytestmark = pytest.mark.timeout(600)

MIB = 1 << 20


def fill(server, count=300):
    """Hundreds of small ones, one of more than 100 MB, sparse ones, one that ends in a hole; owners, grants, comments."""
    for role in ("artist", "critic", "guest"):
        server.sql(f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    run = lambda text: server.sql(text, dbname="shop")
    run("CREATE TABLE picture (id int PRIMARY KEY, content oid)")
    run(f"INSERT INTO picture SELECT i, lo_from_bytea(20000 + i, decode(repeat(md5(i::text), 1 + i * 7 % 400), 'hex')) FROM generate_series(1, {count}) i")
    # Dense, more than 100 MB, hardly compressible; then sparse: three pages, a short one inside, and an end in a hole.
    with server.connect("shop", autocommit=False) as c:
        dense = c.lobject(0, "wb", 30000)
        for _ in range(13):
            dense.write(os.urandom(8 * MIB))
        c.commit()
    run("SELECT lo_create(30001); SELECT lo_put(30001, 0, 'short'); SELECT lo_put(30001, 200000000, 'far away'); SELECT lo_put(30001, 2147483648, 'beyond 2 GB')")
    with server.connect("shop", autocommit=False) as c, c.cursor() as cursor:
        cursor.execute("SELECT lo_create(30002), lo_truncate64(lo_open(30002, 393216), 2048 * 1000)")
        cursor.execute("SELECT lo_create(30003)")
    run("ALTER LARGE OBJECT 20001 OWNER TO artist; ALTER LARGE OBJECT 20002 OWNER TO artist; COMMENT ON LARGE OBJECT 20001 IS E'it''s \\n \\\\ ü'")
    run("GRANT SELECT ON LARGE OBJECT 20001 TO PUBLIC; REVOKE ALL ON LARGE OBJECT 20003 FROM postgres")
    run("SET SESSION AUTHORIZATION artist; GRANT ALL ON LARGE OBJECT 20002 TO critic WITH GRANT OPTION")
    run("SET SESSION AUTHORIZATION critic; GRANT UPDATE ON LARGE OBJECT 20002 TO guest")


def seen(server):
    with server.connect("shop") as c:
        return large_objects(c)


def seen_in(box, result):
    with box.recovered(result) as c:
        return large_objects(c)


def difference(a, b):
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def make(servers, boxes, **options):
    server = servers()
    server.sql("CREATE DATABASE shop")
    box = prepare(server, boxes, **options)
    box.ok("key", "new", box.root / "key")
    box.vaults["main"]["key_file"] = box.root / "key"
    box.write_config()
    return server, box


def test_at_snapshots(servers, boxes):
    """An encrypted vault: everything is as it was at the snapshot, a later recovery says how old they are, and verify knows their chunks."""
    server, box = make(servers, boxes, large_objects_compare="0s")
    fill(server)
    before = seen(server)
    assert len(before) == 304 and int(before[30000][4]) * 2048 == 104 * MIB and before[30002][4] == "1"
    begin(server, box)
    assert "large objects are kept as" in box.ok("check", "shop").out
    result = box.recover("shop", "--local", box.root / "a")
    assert difference(before, seen_in(box, result)) == {}
    assert result["large_objects"]["objects"] == 304 and not result["large_objects"]["between_snapshots"]
    box.stop_target(box.root / "a")
    # What is changed after it is not there later, and that is said.
    server.sql("INSERT INTO picture VALUES (9000, lo_create(40000)); SELECT lo_unlink(20005)", dbname="shop")
    box.wait_vault("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))
    later = box.recover("shop", "--dry-run", "--into", server.conninfo("postgres"))
    assert later["large_objects"]["age_s"] > 0 and later["large_objects"]["capture"] == result["snapshot"]
    assert any("large objects are as of" in w and "before the rows: changes in them after that are not there" in w for w in later["warnings"])
    assert "304 large objects, " in box.ok("recover", "shop", "--dry-run", "--into", server.conninfo("postgres")).out
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []
    # A further snapshot has them as they are now; recovered by a role that is no superuser, into a database of its own.
    box.ok("snapshot", "shop")
    after = seen(server)
    server.sql("CREATE ROLE fetcher LOGIN")
    server.sql("CREATE DATABASE back OWNER fetcher")
    into = box.recover("shop", "--into", server.conninfo("back", "fetcher", tcp=True))
    with server.connect("back") as c:
        found = large_objects(c)
    plain = lambda objects: {k: v[3:] for k, v in objects.items()}  # owners and grants are those of the role
    assert plain(found) == plain(after) and 40000 in found and 20005 not in found
    assert {v[0] for v in found.values()} == {"fetcher"}
    assert into["verified"] is True
    server.sql("CREATE DATABASE other")
    server.sql("SELECT lo_create(5)", dbname="other")
    box.fails(3, "recover", "shop", "--into", server.conninfo("other"), says="not empty: it has the large object 5")


def intents(box):
    """Of captures; a snapshot's stays."""
    snapshots = {s["id"] for s in box.status("shop")["snapshots"]}
    return [p for p in (box.root / "vault").glob("sources/shop/*/snapshots/*/intent") if p.parent.name not in snapshots]


def capture_files(box):
    return sorted((box.root / "vault" / "sources" / "shop").glob("*/large-objects/*.json.zst"))


def position_of(path):
    return int(path.name.split("-")[0][16:], 16)


class Moments:
    """Changes of large objects, each in one transaction, and a position after each at which it is known what there was."""

    def __init__(self, server, box):
        self.server, self.box, self.seen, self.rows = server, box, {}, 0

    def change(self, text):
        self.server.sql(text, dbname="shop")
        return self.settle()

    def captured(self):
        found = (self.box.status("shop")["large_objects"] or {}).get("captured")
        return int(found.split("-")[0][16:], 16) if found else 0

    def settle(self):
        """Until a capture stands that sees what was committed before this; then a row, whose commit is the moment."""
        changed = parse_lsn(self.server.value("SELECT pg_current_wal_insert_lsn()::text"))
        self.box.wait("a capture of large objects", lambda: self.captured() >= changed)
        self.rows += 1
        self.server.sql("INSERT INTO picture VALUES (%s, NULL)", self.rows, dbname="shop")
        at = self.server.value("SELECT pg_current_wal_insert_lsn()::text")
        self.box.wait_vault("shop", at)
        self.seen[at] = seen(self.server)
        return at


def test_between_snapshots(servers, boxes):
    """Captures in between, recoveries to several moments, kill -9 in the middle of one, a chunk that is gone."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE TABLE picture (id int PRIMARY KEY, content oid)", dbname="shop")
    server.sql("CREATE ROLE artist")
    box = prepare(server, boxes, rpo="4s", large_objects_compare="1s", snapshot_quiet="600s")
    begin(server, box)
    m = Moments(server, box)
    first = m.change("SELECT count(lo_from_bytea(20000 + i, decode(repeat(md5(i::text), 1 + i * 7 % 300), 'hex'))) FROM generate_series(1, 300) i")
    second = m.change("SELECT lo_unlink(20000 + i) FROM generate_series(1, 20) i; SELECT lo_put(20030, 1000, 'changed'); SELECT lo_create(20001);"
                      "ALTER LARGE OBJECT 20031 OWNER TO artist; COMMENT ON LARGE OBJECT 20032 IS 'a comment'")
    with server.connect("shop", autocommit=False) as c:
        big = c.lobject(0, "wb", 30000)
        for _ in range(4):
            big.write(os.urandom(8 * MIB))
        c.commit()
    third = m.settle()
    # Killed in the middle, where it waits for a lock: nothing is left of it, and the next one is whole.
    files = capture_files(box)
    with server.connect("shop", autocommit=False) as c:
        c.cursor().execute("LOCK TABLE pg_catalog.pg_largeobject IN ACCESS EXCLUSIVE MODE")
        server.sql("COMMENT ON LARGE OBJECT 20034 IS 'while it is read'", dbname="shop")
        box.wait("a capture that waits", lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%pg_largeobject%'"))
        [state] = (box.state / "shop").glob("*/large.json")
        assert json.loads(state.read_text())["intents"]
        [intent] = intents(box)
        with kept(intent):  # cannot be taken back for a while: that stops nothing
            assert box.kill_role("capture shop")
            c.rollback()
            killed = m.settle()
            box.wait("that to be said", lambda: "could not be taken back, and it is tried again" in box.log_text())
            assert intents(box) == [intent]
    assert files == capture_files(box)[:len(files)]
    box.wait("intents to be taken back", lambda: not intents(box) and not json.loads(state.read_text())["intents"])
    # What is unchanged has the chunks that it had: of 33 MiB one chunk changes.
    chunks = lambda: {p.name: p.stat().st_size for p in (box.root / "vault").glob("sources/shop/chunks/*/*")}
    had = chunks()
    fourth = m.change("SELECT lo_put(30000, 20000000, 'one page'); COMMENT ON LARGE OBJECT 20033 IS 'another'")
    assert sum(size for name, size in chunks().items() if name not in had) < 10 * MIB
    status = box.status("shop")["large_objects"]
    assert status["objects"] == 282 and status["exposure_s"] >= 0 and status["error"] == ""
    assert "282, " in box.ok("status", "shop").out and "their changes of the last" in box.ok("status", "shop").out
    # Counts that stay the same make no capture, and recoveries say that nobody saw a change since.
    count = len(capture_files(box))
    looked = status["compared_time"]
    box.wait("a look", lambda: box.status("shop")["large_objects"]["compared_time"] > looked)
    assert len(capture_files(box)) <= count + 1  # counts may come late once
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []
    for number, at in enumerate((first, second, fourth)):
        server.sql(f"CREATE DATABASE at{number}")
        result = box.recover("shop", "--into", server.conninfo(f"at{number}"), "--to", at)
        with server.connect(f"at{number}") as c:
            assert difference(m.seen[at], large_objects(c)) == {}, at
        assert result["large_objects"]["between_snapshots"] and result["large_objects"]["objects"] == len(m.seen[at])
    # A chunk of the newest capture is gone: verify says whose it was, and a recovery takes the capture before them, and says so.
    box.stop()
    texts = {p: unpack(p) for p in capture_files(box)}
    refs = {p: {c["digest"] for part in ("objects", "pages") for c in json.loads(t)["large_objects"][part]["chunks"]} for p, t in texts.items()}
    newest = max((p for p in refs if position_of(p) <= parse_lsn(fourth)), key=position_of)
    victim = min(refs[newest] - set.union(*(refs[p] for p in refs if p != newest)))
    (box.root / "vault/sources/shop/chunks" / victim[:2] / victim).unlink()
    broken = box.fails(4, "verify", says=victim)
    assert "large-objects/" in broken.out and "pg_largeobject" in broken.out
    server.sql("CREATE DATABASE older")
    result = box.recover("shop", "--into", server.conninfo("older"), "--to", fourth)
    assert any("passed over" in w for w in result["warnings"]) and result["large_objects"]["age_s"] > 0
    with server.connect("older") as c:
        assert difference(m.seen[killed], large_objects(c)) == {}
