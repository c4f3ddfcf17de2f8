"""A source with two vaults, a directory and a bucket: one is enough to recover from, whichever it is."""
import shutil

import pytest
from conftest import begin, prepare
from s3stub import S3Stub
from s3tool import keys_of
from salvorbox import parse_lsn


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
    status = box.status("shop")
    assert [(m["vault"], m["read_instead"]) for m in status["vaults_missed"]] == [("main", "west")] and "vault main" in status["error"], status
    assert len(status["snapshots"]) >= 1 and status["recoverable"]["to"] == status["durable_position"], status
    assert "NOT READ" in box.ok("status").out
    named = box.run_command("recover", "shop", "--dry-run", "--vault", "main")
    assert named.status != 0 and "vault" in named.err

    # The bucket refuses us: the directory is enough, and where it refuses, the sentence names no other.
    behind.rename(box.root / "vault")
    stub.objects.clear()
    left = plan(box)
    assert "vault west is passed over" in left.err and "vault main is read instead" in left.err
    shutil.rmtree(box.root / "vault")
    assert box.run_command("recover", "shop", "--dry-run").status != 0


def vaults_of(status):
    return {v["name"]: v for v in status["vaults"]}


def test_a_vault_that_is_not_there_at_the_start(two):
    """The other one protects meanwhile, and it says so; once it is there it gets all that it missed, in the same history."""
    server, box, stub = two
    add(server, box, 1)
    box.stop()
    (box.root / "vault").rename(box.root / "away")
    box.start()
    box.wait("capture to go on", lambda: box.status("shop")["state"] == "vault_down" and vaults_of(box.status("shop"))["west"]["position"])
    server.sql("INSERT INTO t VALUES (2)", dbname="shop")
    lsn = server.sql("SELECT pg_current_wal_insert_lsn()", dbname="shop")[0][0]
    box.wait("the other vault to have it", lambda: parse_lsn(vaults_of(box.status("shop"))["west"]["position"]) >= parse_lsn(lsn))
    status = box.status("shop")
    assert "there is no vault at" in vaults_of(status)["main"]["error"] and "vault main" in status["error"], status
    assert [(m["vault"], m["read_instead"]) for m in status["vaults_missed"]] == [("main", "west")], status
    assert "NOT READ" in box.ok("status").out and "vault main cannot be opened" in box.log_text()
    seen = status["guard"]["wall_us"]
    box.wait("the guard to go on", lambda: box.status("shop")["guard"]["wall_us"] > seen)
    meanwhile = plan(box)
    assert "vault west is read instead" in meanwhile.err and parse_lsn(meanwhile.json["reached_position"]) >= parse_lsn(lsn), meanwhile

    (box.root / "away").rename(box.root / "vault")
    box.wait("the vault to have all", lambda: parse_lsn(vaults_of(box.status("shop"))["main"]["position"] or "0/0") >= parse_lsn(lsn), 120)
    status = box.wait_streaming("shop")
    assert status["incarnation"] == "0001" and status["gaps"] == [] and status["vaults_missed"] == [] and status["error"] == "", status
    box.wait("the keeper to have it too", lambda: "shop: vault main can be opened now" in box.log_text(), 120)
    assert "ended with status" not in box.log_text(), "a role failed"
    box.stop()
    shutil.rmtree(box.state / "shop")
    assert parse_lsn(plan(box, "--vault", "main").json["reached_position"]) >= parse_lsn(lsn)
    box.ok("verify", "shop")
