"""After a change of single tables that recovery does not go across, newer rows of these tables alone make it go on from the old snapshot: exact before the
change and from the renewal on, refused between the two."""
import collections
import os
import pathlib
import random
import shutil
import signal

import pytest
from protecttool import tool_path
from salvorbox import parse_lsn
from test_change_killed import back
from test_schema import BASE, History, recovered_at

pytestmark = pytest.mark.timeout(300)
SOAK = os.environ.get("SALVOR_SOAK") == "1"

BIG = """CREATE TABLE big (id bigint PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
INSERT INTO big SELECT i, repeat(md5(i::text), 20), 0 FROM generate_series(1, 20000) i;"""
# What bars the way, for which tables of public, and what `snapshot --if-needed` and a recovery in between say.
ROUNDS = [
    ("ALTER TABLE item ALTER COLUMN price TYPE numeric(12,4) USING price * 2", ["item"], "rewritten"),
    ("ALTER TABLE item ADD COLUMN stamp float8 DEFAULT random(); ALTER TABLE big ADD COLUMN w int DEFAULT 3; UPDATE big SET w = 4 WHERE id < 50", ["item"], "rewritten"),
    ("ALTER TABLE pair DROP CONSTRAINT pair_pkey; UPDATE pair SET extra = 'not captured'; ALTER TABLE pair ADD PRIMARY KEY (a, b)", ["pair"], "identify its rows for a time"),
    ("TRUNCATE leaving; INSERT INTO leaving (what) VALUES ('again'); ALTER TABLE leaving ADD COLUMN plain int;"
     "ALTER TABLE loose SET UNLOGGED; UPDATE loose SET v = 'unseen' WHERE id = 201; ALTER TABLE loose SET LOGGED", ["leaving", "loose"], "was "),
    ("CREATE TABLE made (id int, v text); INSERT INTO made SELECT i, 'm' FROM generate_series(1, 9) i; UPDATE made SET v = 'u'; ALTER TABLE made ADD PRIMARY KEY (id)",
     ["made"], "identify its rows for a time"),
]
AFTER = """UPDATE item SET name = 'after {0}' WHERE id % 7 = {0}; DELETE FROM item WHERE id = {0} + 100; INSERT INTO item (id, name) VALUES ({0} + 20000, 'after');
UPDATE pair SET extra = 'after {0}' WHERE b = {0} + 30; UPDATE pair SET b = b + 7000 WHERE b = {0} + 60; INSERT INTO keyless VALUES ({0} + 500, 'after');
INSERT INTO leaving (what) VALUES ('after'); UPDATE loose SET v = 'after' WHERE id = 210 + {0}; UPDATE big SET v = 'after' WHERE id BETWEEN {0} * 100 AND {0} * 100 + 20"""


def start(servers, protected, base=BASE + BIG, **options):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(base, dbname="shop")
    return server, protected(server, **{"snapshot_quiet": "1h", "identity_inserts": "public.log, public.keyless", **options})


def take(server, box, number):
    """In one of the rounds beside a transaction that has changed the renewed table, and others, and is open: it is in no renewal."""
    if number != 1:
        return box.run_command("snapshot", "shop", "--if-needed", "--json")
    with server.connect("shop") as beside, beside.cursor() as cursor:
        beside.autocommit = False
        cursor.execute("INSERT INTO item (id, name) VALUES (30000, 'beside'); UPDATE item SET name = 'beside' WHERE id = 77; UPDATE big SET v = 'beside' WHERE id = 19000")
        taken = box.run_command("snapshot", "shop", "--if-needed", "--json")
        beside.commit()
    return taken


def test_recovery_goes_on_from_renewed_tables(servers, protected):
    server, box = start(servers, protected, slot_timeout="2s")
    h = History(server, box)
    h.see("the snapshot")
    between = []
    for number, (statement, tables, says) in enumerate(ROUNDS):
        server.sql(AFTER.format(number), dbname="shop")
        h.see(f"before {number}")
        # What nothing identifies for a time in one transaction: a poll in between would tell of it in other words.
        for one in [statement] if "identify" in says else statement.split(";"):
            server.sql(one, dbname="shop")
        between.append((server.value("SELECT pg_current_wal_insert_lsn()::text"), says))
        h.captured()
        taken = take(server, box, number)
        assert taken.status == 0 and says in taken.err, taken
        assert taken.json["renews"] == h.box.status("shop")["snapshots"][0]["id"] and taken.json["tables"] == len(tables), taken.json
        assert box.ok("snapshot", "shop", "--if-needed", "--json").json == {"source": "shop", "needed": False}
        h.see(f"after {number}")
        server.sql(AFTER.format(number + 10), dbname="shop")
        h.see(f"well after {number}")
    box.wait_durable("shop", h.moments[-1][1])
    status = box.status("shop")
    assert len(status["snapshots"]) == 1
    assert [r["tables"] for r in status["snapshots"][0]["renewals"]] == [[f"public.{t}" for t in tables] for _, tables, _ in ROUNDS]
    assert "renewals" in box.ok("status", "shop").out
    results = [recovered_at(server, box, m, i) for i, m in enumerate(h.moments)]
    assert {r["snapshot"] for r in results} == {status["snapshots"][0]["id"]} and all(r["verified"] for r in results)
    for at, says in between:
        box.fails(3, "recover", "shop", "--to", at, "--dry-run", says=says)
    assert sum(e["kind"] == "renewal" for e in box.ok("journal", "shop", "--json").json["entries"]) == len(ROUNDS)
    box.wait_vault("shop", h.moments[-1][1])
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []


def chunk_files(box):
    return {p for p in (box.root / "vault").rglob("*") if p.is_file() and "chunks" in p.parts}


def damage_newest(server, box, before):
    """A bit of a chunk that the newest renewal alone has: that renewal is passed over and no more, and named, where without it the rows are not exact."""
    newest = box.status("shop")["snapshots"][0]["renewals"][-1]["id"]
    chunk = (chunk_files(box) - before).pop()
    good = chunk.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    chunk.chmod(0o644)
    chunk.write_bytes(bad)
    server.sql("CREATE DATABASE damaged TEMPLATE template0")
    says = box.fails(3, "recover", "shop", "--to", "latest", "--into", server.conninfo("damaged"), says="and without that renewal").err
    assert f"renewal {newest}" in says and "is inexact" in says and "no older snapshot" not in says, says
    chunk.write_bytes(good)


def test_an_inexact_table_is_renewed_by_itself(servers, protected):
    """By the keeper, without a schema change; what is damaged of the renewal is named by verify, and nothing is recovered from it."""
    server, box = start(servers, protected, snapshot_quiet="1s")
    inexact = lambda: [entry["table"] for entry in box.status("shop")["inexact"]]
    server.sql("UPDATE keyless SET v = 'not captured'", dbname="shop")
    first = box.wait("a renewal", lambda: box.status("shop")["snapshots"][0]["renewals"])
    assert [r["tables"] for r in first] == [["public.keyless"]]
    box.wait("it to be exact again", lambda: not inexact())
    h = History(server, box)
    for number in range(2):
        server.sql(AFTER.format(number), dbname="shop")
        h.see(f"after {number}")
    # Renewed once more: of two the newer one counts, and what lies between is given by the older one.
    chunks = chunk_files(box)
    server.sql("UPDATE keyless SET v = 'not captured either' WHERE id < 10", dbname="shop")
    box.wait("a second renewal", lambda: len(box.status("shop")["snapshots"][0]["renewals"]) == 2)
    server.sql(AFTER.format(3), dbname="shop")
    h.see("after both")
    box.wait_vault("shop", h.moments[-1][1])
    recovered_at(server, box, h.moments[-1], 0)
    damage_newest(server, box, chunks)
    assert len(box.status("shop")["snapshots"]) == 1 and box.ok("verify", "--json").json["vaults"][0]["findings"] == []
    # A proof is one of the snapshot: of all its own rows.
    proof = box.ok("prove", "shop", "--json").json
    assert proof["verified"] and not proof["rolled_forward"] and "instead of the snapshot's" in proof["not_rolled_forward_because"], proof
    newest = box.status("shop")["snapshots"][0]["renewals"][-1]["id"]
    manifest = next((box.root / "vault").rglob(f"{newest}/renewal-*.json.zst"))
    text = bytearray(manifest.read_bytes())
    text[len(text) // 2] ^= 1
    manifest.write_bytes(text)
    findings = box.run_command("verify", "--json").json["vaults"][0]["findings"]
    assert any(f["kind"] == "damaged" and newest in f["key"] for f in findings), findings
    box.fails(3, "recover", "shop", "--to", "latest", "--dry-run", says="is inexact")


def test_what_was_changed_just_before_a_key_came(servers, protected):
    """The key is there at the next poll, and what was changed without it is in no event: the server's counts tell all the same."""
    server, box = start(servers, protected, snapshot_quiet="1s", identity_inserts="public.log")
    h = History(server, box)
    latest = lambda: box.ok("recover", "shop", "--to", "latest", "--dry-run", "--json").json["warnings"]
    box.wait("the counts to be told", lambda: any("public.keyless" in w and "would not be seen here" in w for w in latest()))
    h.see("before")
    server.sql("UPDATE keyless SET v = 'lost' WHERE id = 1; DELETE FROM keyless WHERE id = 2; ALTER TABLE keyless ADD PRIMARY KEY (id)", dbname="shop")
    renewed = box.wait("a renewal", lambda: box.status("shop")["snapshots"][-1]["renewals"])
    assert [r["tables"] for r in renewed] == [["public.keyless"]]
    server.sql("UPDATE keyless SET v = 'seen' WHERE id = 3", dbname="shop")
    h.see("after")
    h.captured()
    recovered_at(server, box, h.moments[-1], 0)
    box.fails(3, "recover", "shop", "--to", h.moments[0][1], "--dry-run", says="perhaps before it") # by counts that are late
    assert not any("nothing to identify" in w for w in latest())


# Where a renewal is held: about to say that it begins; about to keep the first rows; about to say what it consists of, from when on it counts.
PLACES = ["/intent", "/chunks/", "/renewal-"]
VICTIMS = ["capture", "the renewal", "everything"]


class Held:
    """Whoever is about to give an object of the vault such a name stands still there."""

    def __init__(self, box):
        self.box, self.flag = box, box.root / "held"
        hang = shutil.copy(pathlib.Path(tool_path()).parent / "hang.so", box.root)  # a blank in its path would end the list of preloads
        box.env = {"LD_PRELOAD": str(hang), "SALVOR_HANG_AT": str(self.flag), "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def at(self, place):
        self.flag.write_text(place)

    def wait(self):
        """The process that stands there."""
        return self.box.wait("the renewal to stand there", lambda: [int(p.suffix[1:]) for p in self.box.root.glob("held.*")])[0]

    def let_go(self):
        self.flag.unlink()
        for path in self.box.root.glob("held.*"):
            path.unlink()


def kill(box, victim, renewing):
    """It works again when this comes back."""
    if victim == "the renewal":
        os.kill(renewing, signal.SIGKILL)
    elif victim == "capture":
        box.wait("a capture process", lambda: box.kill_role("capture shop"))
        back(box)
    else:
        box.kill9()
        box.start()
        back(box)


@pytest.mark.timeout(3600 if SOAK else 300)
def test_killed_during_a_renewal(servers, protected, record_property):
    """Capture, the renewal itself or all of Salvor, by SIGKILL at each place of it, while rows are changed. It comes to its end, or is taken again, by itself; every position before the change and from the
    renewal on is exact, those between are refused as ever."""
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    rnd = random.Random(seed)
    rounds = [(p, v) for p in PLACES for v in VICTIMS] * 3 if SOAK else [*((p, "capture") for p in PLACES), (rnd.choice(PLACES), rnd.choice(VICTIMS[1:]))]
    server, box = start(servers, protected, snapshot_quiet="1s", base=BASE + BIG.replace("20000", "6000"))
    box.stop()
    held = Held(box)
    box.start()
    box.wait_streaming("shop")
    h, renewals, tally = History(server, box), lambda: box.status("shop")["snapshots"][0]["renewals"], collections.Counter()
    for number, (place, victim) in enumerate(rounds):
        if number % 4 == 3:  # the supervisor starts a role again five times in five minutes, then it waits
            box.stop()
            box.start()
            box.wait_streaming("shop")
        before, what = len(renewals()), f"{number}: {victim} killed at {place}"
        server.sql(AFTER.format(number), dbname="shop")
        h.see(f"{what}, before")
        held.at(place)
        server.sql(f"ALTER TABLE item ALTER COLUMN price TYPE numeric({20 + number},2) USING price + 1", dbname="shop")
        h.see(f"{what}, rewritten")
        renewing = held.wait()
        server.sql(AFTER.format(number + 100), dbname="shop")
        h.see(f"{what}, inside")
        kill(box, victim, renewing)
        server.sql(AFTER.format(number + 200), dbname="shop")
        h.see(f"{what}, behind the kill")
        held.let_go()
        box.wait("the renewal", lambda: len(renewals()) > before)
        server.sql(AFTER.format(number + 300), dbname="shop")
        h.see(f"{what}, in the end")
        h.captured()
        box.wait_durable("shop", h.moments[-1][1])
        at, (before_it, *between) = parse_lsn(renewals()[-1]["position"]), h.moments[-5:]
        exact, refused = [m for m in between if parse_lsn(m[1]) >= at], [m for m in between if parse_lsn(m[1]) < at]
        for moment in [before_it, *exact] if SOAK else [rnd.choice([before_it, *exact])]:
            recovered_at(server, box, moment, number)
            server.sql(f"DROP DATABASE at_{number}")
            tally["exact"] += 1
        for moment in refused:
            box.fails(3, "recover", "shop", "--to", moment[1], "--dry-run", says="rewritten")
            tally["refused"] += 1
        tally["inside"] += len(exact) - 1
    status = box.status("shop")
    assert len(status["snapshots"]) == 1 and status["gaps"] == [] and status["inexact"] == [] and status["incarnation"] == "0001", status
    box.wait_vault("shop", h.moments[-1][1])
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []
    record_property("tells", f"{len(rounds)} kills: {tally['exact']} moments exact, {tally['refused']} before the renewal and refused, {tally['inside']} while it was taken or killed and not refused; SALVOR_SEED={seed}")
