"""A source with two vaults, a directory and a bucket: one is enough to recover from, whichever it is."""
import shutil

import pytest
from conftest import begin, prepare
from s3stub import S3Stub
from s3tool import keys_of


@pytest.fixture
def two(servers, boxes):
    """(server, box, stub): `shop` in the vaults main and west, and a position that both have."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE TABLE t (id int PRIMARY KEY)", dbname="shop")
    box = prepare(server, boxes, vault="main, west", rpo="4s")
    with S3Stub() as stub:
        box.vaults["west"] = {"driver": "s3", "endpoint": stub.endpoint, "bucket": "bucket", "prefix": "p"}
        box.env = keys_of("AKSTUB", "SKstub")
        box.write_config()
        begin(server, box)
        yield server, box, stub


def add(server, box, i):
    server.sql(f"INSERT INTO t VALUES ({i})", dbname="shop")
    lsn = server.sql("SELECT pg_current_wal_insert_lsn()", dbname="shop")[0][0]
    box.wait_vault("shop", lsn)
    return lsn


def plan(box, *args):
    return box.ok("recover", "shop", "--dry-run", "--json", *args)


def test_one_of_two_vaults_is_enough(two):
    server, box, stub = two
    add(server, box, 1)
    behind = box.root / "behind"
    shutil.copytree(box.root / "vault", behind)
    add(server, box, 2)
    box.stop()
    shutil.rmtree(box.state / "shop")  # another host: nothing but the vaults

    # Both well: the first, and nothing is said.
    both = plan(box)
    assert both.err == "" and len(box.ok("log", "shop", "--table", "t").out.splitlines()) == 2
    assert plan(box, "--vault", "west").json["reached_position"] == both.json["reached_position"]
    box.fails(1, "recover", "shop", "--dry-run", "--vault", "nowhere/else", says="nowhere/else")

    # The first one is behind: the other one is read, and said.
    shutil.rmtree(box.root / "vault")
    behind.rename(box.root / "vault")
    further = plan(box)
    assert further.json["reached_position"] == both.json["reached_position"]
    assert "vault main has less of shop than vault west, which is read instead" in further.err
    assert plan(box, "--vault", "main").json["reached_position"] != both.json["reached_position"]

    # The first one is gone: a whole recovery from the other.
    (box.root / "vault").rename(behind)
    result = box.ok("recover", "shop", "--local", box.root / "target", "--json")
    assert "vault main is passed over" in result.err and "vault west is read instead" in result.err, result
    with box.recovered(result.json) as c, c.cursor() as cur:
        cur.execute("SELECT count(*) FROM t")
        assert cur.fetchone() == (2,)
    box.stop_target(box.root / "target")
    said = box.ok("log", "shop", "--table", "t")
    assert len(said.out.splitlines()) == 2 and "vault main is passed over" in said.err
    named = box.run_command("recover", "shop", "--dry-run", "--vault", "main")
    assert named.status != 0 and "vault" in named.err

    # The bucket refuses us: the directory is enough, and where it refuses, the sentence names no other.
    behind.rename(box.root / "vault")
    stub.objects.clear()
    left = plan(box)
    assert "vault west is passed over" in left.err and "vault main is read instead" in left.err
    shutil.rmtree(box.root / "vault")
    assert box.run_command("recover", "shop", "--dry-run").status != 0
