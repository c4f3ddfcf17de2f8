"""An older copy of a whole vault is put back: each of its objects is good, and all of them agree. Who knows better says so, and nothing is joined to it."""
import shutil
import subprocess

import pytest
from conftest import begin, prepare
from ledger import OPTIONS, SCHEMA
from salvorbox import Salvor
from test_faults import anchored_anew, check_exact, loud, position, refused, shop, write

pytestmark = pytest.mark.timeout(300)


def aged(servers, boxes):
    """A source whose vault went on after a copy of it was made: (server, box, the copy)."""
    server = shop(servers, SCHEMA)
    box = prepare(server, boxes, **OPTIONS, rpo="1s")
    begin(server, box)
    write(server)
    box.wait_vault("shop", position(server))
    box.stop()
    copy = box.root / "copy"
    shutil.copytree(box.root / "vault", copy)
    box.start()
    box.wait_streaming("shop")
    for i in range(1, 3):
        write(server, first=i * 10**6)
        box.wait_vault("shop", position(server))
    return server, box, copy


def put_back(box, copy):
    """In place: whoever has the vault open goes on in it."""
    for name in ("sources", "proofs", "journal"):
        shutil.rmtree(box.root / "vault" / name, ignore_errors=True)
        if (copy / name).exists():
            shutil.copytree(copy / name, box.root / "vault" / name)


def findings(box):
    return box.run_command("verify", "--json").json["vaults"][0]["findings"]


def check_gone_on(server, box):
    """Nothing is silent, nothing is joined to what is missing, and what comes after is whole."""
    status = anchored_anew(box)
    assert [g["incarnation"] for g in status["gaps"]] and all("0001" <= g["incarnation"] <= "0002" for g in status["gaps"]), status
    loud(box, "has lost objects or has gone back")
    write(server, first=9 * 10**6)
    check_exact(server, box, "after an older copy of the vault was put back")


def test_put_back_while_nothing_runs(servers, boxes):
    server, box, copy = aged(servers, boxes)
    box.ok("snapshot", "shop")
    box.stop()
    assert findings(box) == []
    end = position(server)
    noted = box.ok("journal").out.split("--expect-head`: ")[1].split(",")[0]
    box.ok("verify", "--expect-head", noted)
    box.fails(2, "verify", "--expect-head", noted[:-1])
    put_back(box, copy)
    # The copy alone: nobody can tell. With this host's state: verify and recover do.
    alone = Salvor({"shop": {}}, vaults=box.vaults)
    assert findings(alone) == []
    alone.fails(4, "verify", "--expect-head", noted, says="who noted its head saw entry")
    alone.destroy()
    said = box.run_command("verify")
    assert said.status == 4 and "the whole vault has gone back by" in said.out and "the newest segments are gone" in said.out, said
    assert any("/manifest.json.zst" in f["key"] and f["kind"] == "missing" for f in findings(box))
    r = refused(server, box, "as the journal tells, and now ends at")
    box.ok("recover", "shop", "--to", r.err.split("--to ")[1].split()[0], "--dry-run")
    box.fails(3, "recover", "shop", "--to", end, "--dry-run")
    box.start()
    check_gone_on(server, box)
    box.stop()
    # The journal went out again: now the vault itself tells of what it had.
    alone = Salvor({"shop": {}}, vaults=box.vaults)
    assert any("/manifest.json.zst" in f["key"] and "the journal tells" in f["text"] for f in findings(alone))
    alone.destroy()


def test_put_back_while_capture_runs(servers, boxes):
    server, box, copy = aged(servers, boxes)
    put_back(box, copy)
    write(server, first=8 * 10**6)
    check_gone_on(server, box)


def test_the_newest_segment_is_missed_by_the_vault_itself(servers, boxes):
    """The journal in the vault tells how far it had come: without any state, verify finds it and a recovery to latest is refused."""
    server, box, _ = aged(servers, boxes)
    box.ok("snapshot", "shop")  # each command that ships tells
    box.stop()
    rows = sorted((box.root / "vault/sources/shop/0001/rows").iterdir())
    told = subprocess.run(["zstd", "-dcq", *sorted(map(str, (box.root / "vault/journal").glob("*/*.zst")))], capture_output=True, check=True, text=True).stdout
    newest = max(int(line.split('"sequence":')[1].split("}")[0].split(",")[0]) for line in told.splitlines() if '"segments":{"0001"' in line for line in [line.split('"segments":')[1]])
    for path in rows:
        if int(path.name[:12]) >= newest:
            path.unlink()
    # The snapshot that told goes with them: it may lie past all that they held, and nothing would be missing from it.
    shutil.rmtree(max((box.root / "vault/sources/shop/0001/snapshots").iterdir()))
    alone = Salvor({"shop": {}}, vaults=box.vaults)
    assert [f["kind"] for f in findings(alone) if f["key"] == "sources/shop/0001/rows/" and "the newest segments are gone" in f["text"]] == ["missing"]
    r = alone.fails(3, "recover", "shop", "--vault", str(box.root / "vault"), "--dry-run", says="as the journal tells")
    to = r.err.split("--to ")[1].split()[0]
    alone.ok("recover", "shop", "--vault", str(box.root / "vault"), "--to", to, "--dry-run")
    alone.destroy()
