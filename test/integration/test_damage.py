"""A vault that is not as it was written: each kind of damage to each kind of object, on a copy of one vault. `verify` names the object; `recover`
refuses with a sentence, or takes an older snapshot and says so. It never succeeds with other content than the source had."""
import itertools
import json
import pathlib
import random
import shutil

import pytest
from ledger import OPTIONS, SCHEMA, Load
from pgserver import PgServer
from salvorbox import Salvor, parse_lsn
from truth import contents

pytestmark = [pytest.mark.xdist_group("damage"), pytest.mark.timeout(120)]

# More than one chunk of 8 MiB.
ROWS = """
CREATE TABLE wide (id int PRIMARY KEY, a text, b text);
INSERT INTO wide SELECT i, md5(i::text) || md5((i * 3)::text), repeat(md5((i * 7)::text), 4) FROM generate_series(1, 60000) i;
CREATE TABLE still (id int PRIMARY KEY, a text);
INSERT INTO still SELECT i, md5(i::text) FROM generate_series(1, 100) i;
"""


class Original:
    """A source with two snapshots, segments between and after them, and its contents at the end."""

    def __init__(self, server, boxes):
        from conftest import protect
        self.server = server
        server.sql("CREATE DATABASE shop")
        server.sql(SCHEMA + ROWS, dbname="shop")
        self.box = protect(server, boxes, **OPTIONS, rpo="1s", heartbeat="500ms")
        self.batches = 0
        for _ in range(3):
            self.write()
        self.box.ok("snapshot", "shop")
        for number in range(3):
            self.write(changes=number == 0)
        self.box.stop()
        self.box.ok("hold", "add", "shop", "--reason", "a command that ships the journal, which tells what the vault has")
        with server.connect("shop") as c:
            self.truth = contents(c)
        self.earlier = {}
        self.vault = self.box.root / "vault"
        status = self.box.status("shop")
        self.snapshots = [s["id"] for s in status["snapshots"]]
        self.positions = [parse_lsn(s["position"]) for s in status["snapshots"]]
        assert len(self.snapshots) == 2 and status["gaps"] == [], status
        base = self.vault / "sources/shop/0001"
        self.segments = sorted((base / "rows").iterdir())
        # Those that hold a commit, by what they are needed for.
        self.before = [s for s in self.segments if self.last(s) <= self.positions[1] and self.last(s) > self.positions[0] and self.commits(s)]
        self.after = [s for s in self.segments if self.first(s) > self.positions[1]]
        assert len(self.before) >= 2 and len(self.after) >= 3, (self.segments, self.positions)
        self.manifests = [base / "snapshots" / i / "manifest.json.zst" for i in self.snapshots]
        self.chunks = self.read_chunks()

    def write(self, changes=True):
        """A batch of commits that is in the vault when this ends."""
        load = Load(self.server.conninfo("shop"), clients=2, rate=400, seed=self.batches, first=self.batches * 1000000).start()
        load.wait_acknowledged(25)
        load.stop()
        self.batches += 1
        if changes:
            self.server.sql("UPDATE wide SET b = b || 'x' WHERE id BETWEEN 100 AND 110", dbname="shop")
        self.box.wait_vault("shop", self.server.value("SELECT pg_current_wal_insert_lsn()::text"))

    @staticmethod
    def first(segment):
        return int(segment.stem.split("-")[2][16:], 16)

    @staticmethod
    def last(segment):
        return int(segment.stem.split("-")[3][16:], 16)

    @classmethod
    def commits(cls, segment):
        return cls.first(segment) > 0

    def read_chunks(self):
        """Chunks by the snapshots that refer to them: (old only, both, new only)."""
        import subprocess
        found = []
        for path in self.manifests:
            text = subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout
            found.append({c["digest"] for t in json.loads(text)["tables"] for c in t["chunks"]})
        old, new = found
        where = lambda digests: sorted(self.vault / "sources/shop/chunks" / d[:2] / d for d in digests)  # noqa: E731
        assert old - new and old & new and new - old
        return {"old": where(old - new), "both": where(old & new), "new": where(new - old)}

    def truth_at(self, position):
        """The source at the end, or, where rows were written after that position, what the undamaged vault says of it."""
        later = map(json.loads, self.box.ok("log", "shop", "--json", "--from", position).out.splitlines())
        if not any(e.get("op") in ("insert", "update", "delete", "truncate") for e in later):
            return self.truth
        if position not in self.earlier:
            self.server.sql("CREATE DATABASE earlier TEMPLATE template0")
            self.box.recover("shop", "--to", position, "--into", self.server.conninfo("earlier"))
            with self.server.connect("earlier") as c:
                self.earlier[position] = contents(c)
            c.close()
            self.server.sql("DROP DATABASE earlier WITH (FORCE)")
        return self.earlier[position]


@pytest.fixture(scope="module")
def original():
    made = []

    def boxes(*args, **options):
        made.append(Salvor(*args, **options))
        return made[-1]

    with PgServer() as server:
        server.start()
        yield Original(server, boxes)
        for box in made:
            box.destroy()


class Copy:
    """The original's vault in a box of its own, with an empty state: as a new host would see it."""

    numbers = itertools.count()

    def __init__(self, original):
        self.original = original
        self.box = Salvor({"shop": {}})
        shutil.copytree(original.vault, self.box.root / "vault")

    def path(self, path):
        return self.box.root / "vault" / pathlib.Path(path).relative_to(self.original.vault)

    def key(self, path):
        return str(pathlib.Path(path).relative_to(self.original.vault))

    def findings(self):
        r = self.box.run_command("verify", "--json")
        found = r.json["vaults"][0]["findings"]
        assert r.status == (4 if found else 0), r
        return found

    def verify_names(self, *paths):
        found = self.findings()
        for path in paths:
            named = [f for f in found if self.key(path) in f["key"] or self.key(path) in f["text"]]
            assert named, f"{self.key(path)} is not among {found}"
            assert all(len(f["text"]) > 10 for f in named), named
        plain = self.box.run_command("verify")
        assert plain.status == 4 and all(self.key(p) in plain.out for p in paths), plain
        return found

    def recover(self, *args):
        """The result, whose content is compared with the source's, or None: refused, with one sentence."""
        server, name = self.original.server, f"copy_{next(self.numbers)}"
        server.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            r = self.box.run_command("recover", "shop", "--into", server.conninfo(name), "--json", *args)
            if r.status == 0:
                with server.connect(name) as c:
                    assert contents(c) == self.original.truth_at(r.json["reached_position"]), f"other content, with success: {r}"
                return r
            assert r.status in (1, 3, 4), r
            last = [line for line in r.err.splitlines() if line.startswith("salvor")][-1]
            assert len(last) > 30, r
            if "chunk" not in r.err:  # what a chunk holds is known when it is read; all else before anything is touched
                assert server.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", dbname=name) == 0, r
            self.said = r.err
            return None
        finally:
            server.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.box.destroy()


def flip(path, offset, bit=0):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    write(path, data)


def write(path, data):
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def swap(a, b):
    contents_a = a.read_bytes()
    write(a, b.read_bytes())
    write(b, contents_a)


def some_offsets(path, count, seed=1):
    size = path.stat().st_size
    middle = random.Random(seed).sample(range(16, size - 16), min(count, size - 32))
    return sorted({0, 3, 9, size // 2, size - 9, size - 1, *middle})


def test_the_whole_vault_is_right(original):
    with Copy(original) as copy:
        assert copy.findings() == []
        result = copy.recover()
        assert result.json["snapshot"] == original.snapshots[1] and result.json["from_spool"] is False
        assert copy.recover("--to", "%X/%X" % (original.positions[1] >> 32, (original.positions[1] & 0xFFFFFFFF) - 1)).json["snapshot"] == original.snapshots[0]


def objects(original):
    """One of each: the object, and whether an older snapshot can stand in for it."""
    return {"manifest": (original.manifests[1], True), "chunk of the newer snapshot": (original.chunks["new"][0], True),
            "chunk of both snapshots": (original.chunks["both"][0], False), "segment after the snapshots": (original.after[0], False),
            "last segment": (original.after[-1], False), "segment that the newer snapshot covers": (original.before[0], None)}


OBJECTS = ["manifest", "chunk of the newer snapshot", "chunk of both snapshots", "segment after the snapshots", "last segment",
           "segment that the newer snapshot covers"]


def check_recovery(copy, original, falls_back, path):
    """falls_back: True: to the older snapshot; False: refused; None: the newer snapshot does not need the object."""
    result = copy.recover()
    if falls_back is False:
        assert result is None, f"a recovery succeeded over damage: {result}"
        return
    assert result is not None, f"refused: {copy.said}"
    if falls_back is None:
        assert result.json["snapshot"] == original.snapshots[1]
        return
    assert result.json["snapshot"] == original.snapshots[0]
    assert original.snapshots[1] in result.out + result.err, f"it does not say which snapshot was passed over: {result}"


@pytest.mark.parametrize("name", OBJECTS)
def test_a_flipped_bit(original, name):
    path, falls_back = objects(original)[name]
    with Copy(original) as copy:
        mine = copy.path(path)
        good = mine.read_bytes()
        for number, offset in enumerate(some_offsets(path, 6)):
            write(mine, good)
            flip(mine, offset, number % 8)
            found = copy.findings()
            assert any(copy.key(path) in f["key"] + f["text"] for f in found), f"bit {number % 8} of byte {offset} of {len(good)}: {found}"
        for offset in (9, len(good) // 2, len(good) - 4):
            write(mine, good)
            flip(mine, offset, 5)
            check_recovery(copy, original, falls_back, path)
        copy.verify_names(path)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_truncated_object(original, name):
    path, falls_back = objects(original)[name]
    with Copy(original) as copy:
        mine = copy.path(path)
        good = mine.read_bytes()
        for size in (len(good) - 1, len(good) // 2, 7, 0):
            write(mine, good[:size])
            copy.verify_names(path)
        check_recovery(copy, original, falls_back, path)
        write(mine, good[:-1])
        check_recovery(copy, original, falls_back, path)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_missing_object(original, name):
    path, falls_back = objects(original)[name]
    with Copy(original) as copy:
        copy.path(path).unlink()
        if name == "last segment":
            # No other segment refers to it; the journal in the vault does.
            gone = [f for f in copy.findings() if f["key"] == "sources/shop/0001/rows/"]
            assert [f["kind"] for f in gone] == ["missing"] and "the newest segments are gone" in gone[0]["text"], gone
            assert copy.recover() is None and "as the journal tells" in copy.said
            result = copy.recover("--to", copy.said.split("--to ")[1].split()[0])
            assert result is not None and parse_lsn(result.json["reached_position"]) < original.first(path)
            return
        found = copy.findings()
        if "segment" in name:
            number = path.name[:12]
            assert [f["kind"] for f in found if f["key"] == "sources/shop/0001/rows/" and f["text"].startswith(f"segment {int(number)} is missing")] == ["gap"], found
        else:
            assert [f["kind"] for f in found if copy.key(path) == f["key"] or copy.key(path) in f["text"]] == ["missing"], found
        check_recovery(copy, original, falls_back, path)
        if name == "segment after the snapshots":
            assert f"segment {int(number)} " in copy.said, f"the gap is not named: {copy.said}"


def test_the_host_that_stored_it_misses_the_last_segment(original):
    """The vault alone cannot know that it once went further; the state of the host that wrote it does."""
    last, aside = original.after[-1], original.box.root / "aside"
    last.rename(aside)
    try:
        result = original.box.run_command("verify", "shop")
        assert result.status == 4 and "the segments after it are gone" in result.out, result
    finally:
        aside.rename(last)
    assert original.box.run_command("verify", "shop").status == 0


@pytest.mark.parametrize("kind", ["chunks", "segments", "manifests", "old and new chunk"])
def test_swapped_objects(original, kind):
    pair = {"chunks": original.chunks["both"][:2], "segments": original.after[:2],
            "manifests": original.manifests, "old and new chunk": [original.chunks["old"][0], original.chunks["new"][0]]}[kind]
    with Copy(original) as copy:
        swap(*map(copy.path, pair))
        copy.verify_names(*pair)
        assert len(pair) == 2 and copy.recover() is None, "a recovery succeeded over swapped objects"


@pytest.mark.parametrize("part", ["schemas", "epochs", "incarnation.json", "VAULT"])
def test_the_small_objects(original, part):
    with Copy(original) as copy:
        vault = copy.box.root / "vault"
        path = {"schemas": lambda: sorted(vault.glob("sources/shop/0001/schemas/*.dump.zst"))[-1], "epochs": lambda: sorted(vault.glob("sources/shop/epochs/*"))[-1],
                "incarnation.json": lambda: vault / "sources/shop/0001/incarnation.json", "VAULT": lambda: vault / "VAULT"}[part]()
        flip(path, path.stat().st_size // 2, 3)
        if part == "VAULT":  # nothing of a vault whose identity is unknown is read
            for command in (["verify"], ["recover", "shop", "--local", str(copy.box.root / "t")], ["status", "shop"]):
                copy.box.fails(4, *command, says="VAULT")
            return
        assert [f["key"] for f in copy.findings() if f["kind"] == "damaged"] == [str(path.relative_to(vault))]
        result = copy.recover()
        if part == "schemas":
            assert result is not None and result.json["snapshot"] == original.snapshots[0], copy.said if result is None else result
        elif part == "epochs":
            assert result is not None and result.json["snapshot"] == original.snapshots[1]
        else:
            assert result is None and "incarnation.json" in copy.said, result


@pytest.mark.parametrize("there", [False, True])
def test_a_refusal_leaves_no_server(original, there):
    """A local server is made while the events are read. When these turn out to be damaged nothing of it stays, and no process."""
    with Copy(original) as copy:
        flip(copy.path(original.after[0]), copy.path(original.after[0]).stat().st_size // 2, 3)
        target = copy.box.root / "target"
        if there:
            target.mkdir()
        copy.box.fails(3, "recover", "shop", "--local", target, says="segment")
        assert there or not target.exists()
        assert copy.box.strays() == []
        # An older snapshot stands in for the one that turns out to be damaged when its server is being made.
        copy.path(original.after[0]).unlink()
        shutil.copy(original.after[0], copy.path(original.after[0]))
        flip(copy.path(original.chunks["new"][0]), 30, 3)
        result = copy.box.recover("shop", "--local", target)
        assert result["snapshot"] == original.snapshots[0]
        copy.box.stop_target(target)


def test_a_strange_object_is_named(original):
    with Copy(original) as copy:
        strange = copy.box.root / "vault/sources/shop/0001/rows/notes.txt"
        strange.write_text("hello")
        assert any("notes.txt" in f["key"] for f in copy.findings())
        assert copy.recover() is not None
