"""Large objects: exact at snapshots, as of the newest capture before the moment in between, and told apart."""
import os

import pytest
from conftest import begin, prepare
from largetool import large_objects

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
    server, box = make(servers, boxes)
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
