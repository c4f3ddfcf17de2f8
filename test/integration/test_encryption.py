"""An encrypted vault through its whole life, a wrong key on every command, and a plain vault read with `zstd` and `psql` alone."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import begin, prepare
from ledger import OPTIONS
from salvorbox import parse_lsn
from truth import contents

pytestmark = pytest.mark.timeout(600)

CANARY = "canary-4711-nobody-may-read-this"
SCHEMA = f"""
CREATE TABLE secret (id int PRIMARY KEY, a text);
INSERT INTO secret SELECT i, '{CANARY}-' || md5(i::text) FROM generate_series(1, 3000) i;
CREATE TABLE wide (id int PRIMARY KEY, a text);
INSERT INTO wide SELECT i, md5(i::text) || md5((i * 3)::text) FROM generate_series(1, 60000) i;
"""


def make_source(servers, boxes, key=True, **options):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA, dbname="shop")
    box = prepare(server, boxes, **{**OPTIONS, "rpo": "4s", "heartbeat": "500ms", **options})
    if key:
        box.ok("key", "new", box.root / "key")
        box.vaults["main"]["key_file"] = box.root / "key"
        box.write_config()
    return server, begin(server, box)


def change(server, number):
    server.sql(f"INSERT INTO secret SELECT i, '{CANARY}-{number}' FROM generate_series({number * 10000}, {number * 10000 + 50}) i", dbname="shop")
    server.sql(f"UPDATE wide SET a = '{CANARY}' WHERE id % 97 = {number}", dbname="shop")
    return server.value("SELECT pg_current_wal_insert_lsn()::text")


def write(server, box, number):
    box.wait_vault("shop", change(server, number))


def files_with(directory, text):
    """Files below a directory in which a text stands, also inside of what zstd opens."""
    wanted, hits = text.encode(), []
    for path in sorted(p for p in pathlib.Path(directory).rglob("*") if p.is_file()):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        at = data.find(b"\x28\xb5\x2f\xfd")
        plain = b""
        while at >= 0 and len(plain) < 1 << 24:
            plain += subprocess.run(["zstd", "-dcq"], input=data[at:], capture_output=True).stdout
            at = data.find(b"\x28\xb5\x2f\xfd", at + 4) if path.suffix == ".seg" else -1
        if wanted in data or wanted in plain:
            hits.append(path)
    return hits


def recovered_contents(box, directory, **options):
    result = box.recover("shop", "--local", directory, **options)
    try:
        with box.recovered(result) as c:
            return contents(c)
    finally:
        box.stop_target(directory)


def test_whole_life(servers, boxes):
    server, box = make_source(servers, boxes)
    write(server, box, 1)
    box.ok("key", "rotate", "main")
    write(server, box, 2)
    box.kill9()
    box.ok("key", "new", box.root / "key2")
    box.ok("key", "rotate", "main", "--new-key-file", box.root / "key2")
    box.fails(3, "verify", says="rotated")
    box.vaults["main"]["key_file"] = box.root / "key2"
    box.write_config()
    box.start()
    box.wait_streaming("shop")
    box.ok("snapshot", "shop")
    write(server, box, 3)
    box.ok("verify")
    # Not a row to be seen, neither in the vault nor in what this host keeps, while it runs.
    assert files_with(box.root / "vault", CANARY) == []
    assert files_with(box.state, CANARY) == []
    box.stop()
    # What a purge tells of is what the objects take there, encrypted.
    box.sources["shop"]["keep"] = "30d"
    box.write_config()
    [report] = json.loads(box.ok("purge", "shop", "--dry-run", "--json").out)["purges"]
    vault = box.root / "vault"
    stands = {str(p.relative_to(vault)): p.stat().st_size for folder in ("sources", "proofs") for p in (vault / folder).rglob("*") if p.is_file()}
    assert {row["key"]: row["bytes"] for row in report["objects"]} == stands
    with server.connect("shop") as c:
        truth = contents(c)
    # A bare host: the kit, the vault, nothing else.
    box.ok("key", "export", "main", "--out", box.root / "kit")
    assert (box.root / "kit").stat().st_mode & 0o777 == 0o600
    shutil.rmtree(box.state)
    for name in ("key", "key2"):
        (box.root / name).unlink()
    box.vaults["main"]["key_file"] = box.root / "kit"
    box.write_config()
    assert recovered_contents(box, box.root / "new") == truth
    # The newest keys object lost and brought back.
    newest = sorted((box.root / "vault/keys").iterdir())[-1]
    newest.unlink()
    box.fails(3, "verify")
    assert "1 keys objects brought back" in box.ok("key", "import", "main", box.root / "kit").out
    box.ok("verify")


COMMANDS = (["status"], ["verify"], ["log", "shop"], ["recover", "shop", "--local", "/tmp/salvor-never"], ["snapshot", "shop"],
            ["role", "capture", "shop"], ["role", "keeper"], ["run"], ["key", "rotate", "main"], ["key", "export", "main"])


def test_wrong_and_missing_keys(boxes):
    box = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=shop user=nobody"}})
    box.ok("key", "new", box.root / "key")
    box.ok("key", "new", box.root / "other")
    box.vaults["main"]["key_file"] = box.root / "key"
    box.write_config()
    assert "made, encrypted," in box.ok("init").out
    for value, status, says in ((None, 2, "no key is given"), (box.root / "other", 3, "is not the one of vault main"),
                                (box.root / "none", 2, "none")):
        box.vaults["main"].pop("key_file", None)
        if value:
            box.vaults["main"]["key_file"] = value
        box.write_config()
        for command in COMMANDS:
            r = box.run_command(*command)
            text = r.err + r.out
            assert says in text, (command, r)
            assert r.status == status or command == ["status"], (command, r)
            assert not pathlib.Path("/tmp/salvor-never").exists()
            if command == ["run"]:
                assert text.count("\n") == 1 and not (box.state / "shop").exists(), r
    box.vaults["main"]["key_file"] = box.root / "key"
    (box.root / "key").chmod(0o644)
    box.write_config()
    box.fails(2, "verify", says="chmod 600")
    plain = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=shop user=nobody"}})
    plain.ok("init")
    (box.root / "key").chmod(0o600)
    plain.vaults["main"]["key_file"] = box.root / "key"
    plain.write_config()
    plain.fails(3, "verify", says="is not encrypted")


def test_run_checks_the_keys_that_it_can(boxes):
    """Of two vaults one is away: that stops nothing, and a wrong key that is found once it is back is an alert; a wrong key of the other one ends it."""
    away = {"driver": "posix", "path": None}
    box = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=shop user=nobody"}, "till": {"vault": "away"}},
                {"main": {"driver": "posix", "path": None}, "away": away})
    for name in ("main", "away"):
        box.ok("key", "new", box.root / f"{name}.key")
        box.vaults[name].update(path=box.root / name, key_file=box.root / f"{name}.key")
    box.write_config()
    box.ok("init")
    (box.root / "away").rename(box.root / "elsewhere")
    box.sources["shop"]["vault"] = "away"
    away["key_file"] = box.root / "main.key"
    box.write_config()
    box.start()
    box.wait("the vault to be missed", lambda: "the key of vault away is not checked yet: " in box.log_text() and "the capture of shop ended" in box.log_text())
    (box.root / "elsewhere").rename(box.root / "away")
    box.wait("a wrong key", lambda: f"the key in {box.root}/main.key is not the one of vault away" in box.log_text())
    box.wait("an alert", lambda: "ALERT: the capture of shop failed" in box.log_text())
    box.stop()
    (box.root / "away").rename(box.root / "elsewhere")
    box.vaults["main"]["key_file"] = box.root / "away.key"
    box.write_config()
    box.fails(3, "run", says=f"the key in {box.root}/away.key is not the one of vault main")


def test_passphrase(boxes):
    box = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=shop user=nobody"}})
    words = {"SALVOR_PASSPHRASE_MAIN": "correct horse battery staple"}
    box.ok("init", env=words)
    box.ok("verify", env=words)
    box.fails(2, "verify", says="SALVOR_PASSPHRASE_MAIN")
    r = box.fails(3, "verify", env={"SALVOR_PASSPHRASE_MAIN": "correct horse battery stapler"}, says="is not the one")
    assert "horse" not in r.err + r.out
    # The vault named by its place alone.
    box.fails(2, "adopt", box.root / "vault", says="add --key-file FILE or --passphrase-file FILE, or set SALVOR_PASSPHRASE_MAIN")
    box.fails(3, "adopt", box.root / "vault", env={"SALVOR_PASSPHRASE_MAIN": "correct horse battery stapler"}, says="is not the one")
    assert "SALVOR_PASSPHRASE_MAIN in the environment of `salvor run`" in box.ok("adopt", box.root / "vault", env=words).out
    (box.root / "words").write_text(words["SALVOR_PASSPHRASE_MAIN"] + "\n")
    (box.root / "words").chmod(0o600)
    assert f"\npassphrase_file = {box.root}/words\n" in box.ok("adopt", box.root / "vault", "--passphrase-file", box.root / "words").out


def test_state_plain(servers, boxes):
    server, box = make_source(servers, boxes, state_plain="yes", rpo="1h")  # it stays in the spool until it is looked at
    at = change(server, 1)
    box.wait_durable("shop", at)
    assert files_with(box.state / "shop/0001/spool", CANARY) != []
    box.stop()
    assert parse_lsn(box.status("shop")["vault_position"]) >= parse_lsn(at)
    assert files_with(box.root / "vault", CANARY) == []


def test_a_plain_vault_is_read_with_zstd_and_psql(servers, boxes):
    """What is written down in docs/operations/encryption.md, with nothing of Salvor."""
    server, box = make_source(servers, boxes, key=False)
    box.stop()
    base = box.root / "vault/sources/shop"
    manifest = next(base.glob("0001/snapshots/*/manifest.json.zst"))
    schema = next(base.glob("0001/schemas/*.sql.zst"))
    server.sql("CREATE DATABASE byhand")
    psql = [str(pathlib.Path(server.bin) / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.conninfo("byhand")]
    text = subprocess.run(["zstd", "-dcq", schema], capture_output=True, check=True).stdout
    subprocess.run(psql, input=text, check=True, capture_output=True)
    tables = json.loads(subprocess.run(["zstd", "-dcq", manifest], capture_output=True, check=True).stdout)["tables"]
    for table in tables:
        for chunk in table["chunks"]:
            rows = subprocess.run(["zstd", "-dcq", base / "chunks" / chunk["digest"][:2] / chunk["digest"]], capture_output=True, check=True).stdout
            copy = f'COPY "{table["relation"]["schema"]}"."{table["relation"]["name"]}" FROM STDIN'
            subprocess.run([*psql, "-c", copy], input=rows, check=True, capture_output=True, env={**os.environ, "PGOPTIONS": "-c session_replication_role=replica"})
    for name in ("secret", "wide"):
        query = f"SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM {name} t"
        assert server.value(query, dbname="byhand") == server.value(query, dbname="shop")
