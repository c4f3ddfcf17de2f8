"""Runs test/integration/snapshot_tool, and reads a vault's snapshots with zstd, as docs/formats/snapshots.md says they can be read."""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

from scratch import scratch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool_path():
    """$SALVOR_SNAPSHOT_TOOL, else beside the salvor under test, else the sanitized build's."""
    named = os.environ.get("SALVOR_SNAPSHOT_TOOL")
    salvor = os.environ.get("SALVOR")
    places = [named, salvor and pathlib.Path(salvor).resolve().parents[2] / "test/integration/snapshot_tool",
              ROOT / "build/asan/test/integration/snapshot_tool"]
    for place in places:
        if place and os.path.exists(place):
            return str(place)
    raise RuntimeError("snapshot_tool is not built: it belongs to a build with -Dtests=true")


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err.strip()

    @property
    def json(self):
        assert self.status == 0, self
        return json.loads(self.out)

    def __repr__(self):
        return f"status {self.status}\n{self.out}\n{self.err}"


class Taker:
    """A state directory and a vault, and the tool on them."""

    def __init__(self, conninfo, parent=None):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="salvor-snapshot-", dir=parent or scratch()))
        self.state, self.vault = self.root / "state", self.root / "vault"
        self.conninfo = conninfo
        self.running = []

    def start(self, **options):
        settings = {"conninfo": self.conninfo, "state": self.state, "vault": self.vault, "source": "shop", **options}
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
        p = subprocess.Popen([tool_path()] + ["%s=%s" % item for item in settings.items()], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        self.running.append(p)
        return p

    def finish(self, p, timeout=120):
        out, err = p.communicate(timeout=timeout)
        self.running.remove(p)
        assert "Sanitizer" not in err and "runtime error" not in err, err
        return Result(p.returncode, out, err)

    def take(self, **options):
        return self.finish(self.start(**options))

    def kill(self, p):
        p.kill()
        p.communicate()
        self.running.remove(p)

    def destroy(self):
        for p in list(self.running):
            self.kill(p)
        shutil.rmtree(self.root, ignore_errors=True)

    # -- the vault, without Salvor

    def snapshots(self, what="manifest.json.zst", vault=None):
        return sorted(p.parent.name for p in (vault or self.vault).glob(f"sources/shop/0001/snapshots/*/{what}"))

    def manifest(self, snapshot, vault=None):
        return json.loads(unpack((vault or self.vault) / f"sources/shop/0001/snapshots/{snapshot}/manifest.json.zst"))

    def chunks(self, table, vault=None):
        """Each chunk's rows; every promise of the manifest about a chunk that can be checked from outside is."""
        found = []
        for chunk in table["chunks"]:
            name = chunk["digest"]
            plain = unpack((vault or self.vault) / "sources/shop/chunks" / name[:2] / name)
            assert hashlib.blake2b(plain, digest_size=32).hexdigest() == name
            assert len(plain) == chunk["plain_bytes"] and plain.endswith(b"\n")
            rows = plain[:-1].split(b"\n")
            assert len(rows) == chunk["rows"]
            found.append(rows)
        return found

    def rows(self, snapshot, name, vault=None):
        """The rows of a table in the order of the snapshot."""
        table = next(t for t in self.manifest(snapshot, vault)["tables"] if t["relation"]["name"] == name)
        rows = [row for chunk in self.chunks(table, vault) for row in chunk]
        assert len(rows) == table["rows"]
        return rows


def unpack(path):
    return subprocess.run(["zstd", "-dcq", str(path)], stdout=subprocess.PIPE, check=True, timeout=60).stdout


@contextlib.contextmanager
def taking(server, dbname="shop", user="salvor", port=None):
    conninfo = "host=127.0.0.1 port=%d dbname=%s user=%s" % (port or server.port, dbname, user)
    taker = Taker(conninfo)
    try:
        yield taker
    finally:
        taker.destroy()
