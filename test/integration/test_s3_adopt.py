"""A bucket is all that is left: host, state and configuration are lost. And an encrypted vault in a bucket through its whole life: snapshot, ship,
verify, recover, prove, rotate, purge."""
import json
import os
import shutil
import subprocess
import time

import pytest
from ledger import OPTIONS, SCHEMA, Load, check_ledger, check_log
from s3tool import keys_of
from s3vault import Bucket, protect_in
from salvorbox import SALVOR
from truth import compare, contents

pytestmark = [pytest.mark.xdist_group("ceph"), pytest.mark.timeout(600)]
CANARY = "canary-4711-nobody-may-read-this"
TABLE = f"CREATE TABLE secret (id int PRIMARY KEY, a text); INSERT INTO secret SELECT i, '{CANARY}-' || i FROM generate_series(1, 2000) i;"
# As short as they may be.
PURGED = {"keep": "60s", "purge_grace": "60s", "purge_every": "30d", "rpo": "4s"}


def bare_command(folder, *args, status=0, says=None, env=None):
    """On a host without a configuration, in a directory that relative paths begin in."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    r = subprocess.run([SALVOR, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, cwd=folder,
                       env={**clean, "SALVOR_CONFIG": "/nonexistent/salvor.conf", **(env or {})})
    assert r.returncode == status, f"{args}: {r.returncode} {r.stdout} {r.stderr}"
    if status:
        assert r.stderr.count("\n") == 1 and r.stdout == "", f"not one sentence: {r.stderr} {r.stdout}"
        assert not says or says in r.stderr, r
    return r


def write(server, box, number):
    """A change of every kind; the position after it, in the vault, and what the source holds there."""
    server.sql(f"INSERT INTO secret SELECT {number} * 10000 + i, '{CANARY}' FROM generate_series(1, 50) i; "
               f"UPDATE secret SET a = a || '{number}' WHERE id % 7 = {number}; DELETE FROM secret WHERE id % 97 = {number}", dbname="shop")
    position = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait_vault("shop", position)
    with server.connect("shop") as c:
        return position, contents(c)


def check_recovers(server, run, position, truth, name):
    """A recovery to this position, into an empty database of the source's own server, gives exactly this."""
    server.sql(f"CREATE DATABASE {name} TEMPLATE template0")
    assert json.loads(run("--to", position, "--into", server.conninfo(name), "--json"))["verified"]
    with server.connect(name) as c:
        compare(contents(c), truth, name)
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


def purge(box, *args):
    return box.ok("purge", "shop", "--json", *args).json["purges"][0]


def removed(report):
    return {s["id"] for s in report["snapshots"] if s["remove"]}


def lose_host(box):
    box.kill9()
    shutil.rmtree(box.state)
    box.config.unlink()


def bare(boxes):
    box = boxes({}, vaults={})
    box.config.unlink()
    return box


def epochs(bucket):
    return {key.split("/")[-1].split("-")[1] for key in bucket.objects("sources/shop/0001/rows/") if key.endswith(".seg")}


def adopt(bucket, folder, new, *key, env=None):
    """A configuration from the bucket alone, written by a command that names it with relative paths."""
    url = bucket.url(**({} if env else {"credentials_file": "keys"}))
    listed = json.loads(bare_command(folder, "adopt", url, *key, "--json", env=env).stdout)
    source = listed["sources"][0]
    assert source["name"] == "shop" and source["settings_known"] is True and source["incarnations"][0]["to"]
    bare_command(folder, "adopt", url, *key, "--output", new.config, "--state", new.state, env=env)
    text = new.config.read_text()
    assert "[vault west]" in text and f"bucket = {bucket.name}" in text and f"endpoint = {bucket.ceph.endpoint}" in text
    assert f"\ncredentials_file = {bucket.keys}" in text if not env else "AWS_ACCESS_KEY_ID" in text
    assert bucket.secret not in text and "conninfo = " in text
    return url


@pytest.mark.parametrize("kind", ["encrypted", "plain"] if os.environ.get("SALVOR_SOAK") else ["encrypted"])
def test_whole_life_in_a_bucket(ceph, servers, boxes, tmp_path, kind):
    bucket = Bucket(ceph, tmp_path)
    encrypted = kind == "encrypted"
    server, box = protect_in(bucket, servers, boxes, schema=TABLE, key=encrypted, **PURGED)
    first = box.status()["snapshots"][0]["id"]
    write(server, box, 4)
    second = box.ok("snapshot", "shop", "--json").json["id"]
    proof = box.ok("prove", "shop", "--json").json
    assert proof["verified"] and proof["snapshot"] == second
    marks = [write(server, box, 1)]
    if encrypted:
        box.ok("key", "rotate", "west")
    marks.append(write(server, box, 2))
    for number, (position, truth) in enumerate(marks):
        check_recovers(server, lambda *a: box.ok("recover", "shop", *a).out, position, truth, f"early{number}")
    in_the_clear = [key for key in bucket.objects("sources/") if CANARY.encode() in plain(bucket.content(key))]
    assert in_the_clear == [] if encrypted else in_the_clear

    # The host is lost. Without the key, or with another one: a sentence, and nothing else happened.
    key = ()
    if encrypted:
        box.ok("key", "export", "west", "--out", tmp_path / "kit")
        box.ok("key", "new", tmp_path / "other")
        key = ("--key-file", "kit")
    lose_host(box)
    url = bucket.url(credentials_file="keys")
    by_url = lambda *a: bare_command(tmp_path, "recover", "shop", "--vault", url, *key, *a).stdout
    stood = set(bucket.objects())
    for command in (("adopt", url), ("recover", "shop", "--vault", url, "--local", tmp_path / "never")) if encrypted else ():
        bare_command(tmp_path, *command, status=2, says="--key-file")
        bare_command(tmp_path, *command, "--key-file", "other", status=3, says="is not the one")
        bare_command(tmp_path, *command, "--key-file", "nothing", status=2, says="nothing")
        assert not (tmp_path / "never").exists()
    assert set(bucket.objects()) == stood
    new = bare(boxes)
    adopt(bucket, tmp_path, new, *key)
    for number, (position, truth) in enumerate(marks):
        check_recovers(server, by_url, position, truth, f"bare{number}")

    # Capture goes on, as a new epoch.
    assert f"key_file = {tmp_path}/kit" in new.config.read_text() or not encrypted
    new.start()
    new.wait_streaming("shop")
    marks.append(write(server, new, 3))
    status = new.status()
    assert status["incarnation"] == "0001" and status["gaps"] == [] and len(epochs(bucket)) == 2

    # Once the second snapshot, which is proved, is older than the window, what only the first one needed is named, and nothing is gone yet.
    new.wait("the first snapshot to leave the window", lambda: removed(purge(new, "--dry-run")) == {first}, 180)
    before = set(bucket.objects())
    announced = time.monotonic()
    report = purge(new)
    assert report["removed_objects"] == 0 and report["announced_objects"] > 0 and report["tombstones"]
    assert before <= set(bucket.objects())
    if encrypted:
        new.ok("key", "new", tmp_path / "newer")
        new.ok("key", "rotate", "west", "--new-key-file", tmp_path / "newer")
        bare_command(tmp_path, "adopt", url, *key, status=3, says="rotated")
        key = ("--key-file", "newer")
        new.config.write_text(new.config.read_text().replace(f"{tmp_path}/kit", f"{tmp_path}/newer"))
    report = new.wait("the grace to be over", lambda: (lambda r: r if r["removed_objects"] else None)(purge(new)), 240)
    assert time.monotonic() - announced >= 60
    gone = before - set(bucket.objects())
    assert [key for key in gone if first in key] and not [key for key in gone if second in key]
    assert [s["id"] for s in new.status()["snapshots"]] == [second]
    assert "all as it was written" in new.ok("verify").out
    for number, (position, truth) in enumerate(marks):
        check_recovers(server, by_url, position, truth, f"last{number}")


def plain(data):
    """What can be read of an object with zstd and no key."""
    at = data.find(b"\x28\xb5\x2f\xfd")
    return data + (subprocess.run(["zstd", "-dcq"], input=data[at:], capture_output=True).stdout if at >= 0 else b"")


def test_a_plain_bucket_is_adopted_under_load(ceph, servers, boxes, tmp_path):
    """Credentials from the environment; clients write all the time."""
    bucket = Bucket(ceph, tmp_path)
    env = keys_of(bucket.access, bucket.secret)
    server, box = protect_in(bucket, servers, boxes, schema=SCHEMA, rpo="4s", **OPTIONS)
    load = Load(server.conninfo("shop"), rate=100).start()
    load.wait_acknowledged(100)
    box.wait_vault("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))
    box.wait("the settings in the vault",
             lambda: json.loads(bare_command(tmp_path, "adopt", bucket.url(), "--json", env=env).stdout)["sources"][0]["settings_known"])
    lose_host(box)
    load.wait_acknowledged(50)
    new = bare(boxes)
    url = adopt(bucket, tmp_path, new, env=env)
    server.sql("CREATE DATABASE bare TEMPLATE template0")
    result = json.loads(bare_command(tmp_path, "recover", "shop", "--vault", url, "--into", server.conninfo("bare"), "--json", env=env).stdout)
    assert result["verified"] and result["from_spool"] is False
    bare_command(tmp_path, "recover", "nothing", "--vault", url, "--into", server.conninfo("bare"), status=3, says="holds nothing of a source nothing", env=env)
    # The passphrase of another vault in the environment is no key of this one.
    bare_command(tmp_path, "adopt", url, status=3, says="is not encrypted", env={**env, "SALVOR_PASSPHRASE_MAIN": "correct horse battery staple"})
    new.env = env
    new.start()
    new.wait_streaming("shop")
    load.wait_acknowledged(100)
    load.stop()
    assert load.interruptions == 0
    position = server.value("SELECT pg_current_wal_insert_lsn()::text")
    new.wait_vault("shop", position)
    status = new.status()
    assert status["incarnation"] == "0001" and status["gaps"] == [] and status["inexact"] == [] and len(epochs(bucket)) == 2
    check_log(new, "shop", load.acknowledged)
    with server.connect("shop") as c:
        truth = contents(c)
    check_recovers(server, lambda *a: bare_command(tmp_path, "recover", "shop", "--vault", url, *a, env=env).stdout, "latest", truth, "afterwards")
    server.sql("CREATE DATABASE afterwards TEMPLATE template0")
    new.recover("shop", "--into", server.conninfo("afterwards"))
    with server.connect("afterwards") as c:
        check_ledger(c, load, "adopted")
    assert "all as it was written" in new.ok("verify").out
