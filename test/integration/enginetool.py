"""Runs test/integration/engine_tool."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANITIZED = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}


def tool_path():
    """$SALVOR_ENGINE_TOOL, else beside the salvor under test, else the sanitized build's."""
    named = os.environ.get("SALVOR_ENGINE_TOOL")
    salvor = os.environ.get("SALVOR")
    places = [named, salvor and pathlib.Path(salvor).resolve().parents[2] / "test/integration/engine_tool",
              ROOT / "build/asan/test/integration/engine_tool"]
    for place in places:
        if place and os.path.exists(place):
            return str(place)
    raise RuntimeError("engine_tool is not built: it belongs to a build with -Dtests=true")


def engine(*arguments, env=None):
    """The JSON objects that it prints."""
    done = subprocess.run([tool_path(), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, env={**os.environ, **SANITIZED, **(env or {})})
    assert done.stderr == "", done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class Asked:
    """A tool that is asked again and again."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([tool_path(), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **SANITIZED})

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.told()

    def told(self):
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(timeout=90) == 0


class Fingerprints(Asked):
    """One session."""

    def __init__(self, conninfo, helper="salvor_x"):
        super().__init__("fingerprint", conninfo, helper)

    def now(self):
        told = self.ask()
        self.stamp = told["stamp"]
        return told["fingerprint"]


class Indexes(Asked):
    """Were indexes and sequences only rewritten since the snapshot of the answer before?"""

    def __init__(self, conninfo):
        super().__init__("indexes", conninfo)
        self.told()

    def same(self):
        same = self.ask()["same"]
        self.told()
        return same
