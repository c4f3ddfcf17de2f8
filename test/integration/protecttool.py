"""Runs test/integration/protect_tool, and reads what a slot gives."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool_path():
    """$SALVOR_PROTECT_TOOL, else beside the salvor under test, else the sanitized build's."""
    named = os.environ.get("SALVOR_PROTECT_TOOL")
    salvor = os.environ.get("SALVOR")
    places = [named, salvor and pathlib.Path(salvor).resolve().parents[2] / "test/integration/protect_tool",
              ROOT / "build/asan/test/integration/protect_tool"]
    for place in places:
        if place and os.path.exists(place):
            return str(place)
    raise RuntimeError("protect_tool is not built: it belongs to a build with -Dtests=true")


class ToolError(Exception):
    def __init__(self, status, text):
        super().__init__("status %d: %s" % (status, text))
        self.status = status
        self.name = text.split(":", 1)[0]
        self.text = text


def tool_run(command, timeout=120, **arguments):
    argv = [tool_path(), command] + ["%s=%s" % item for item in arguments.items()]
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, env=env,
                          stdin=subprocess.DEVNULL)


def tool(command, timeout=120, **arguments):
    """What it prints, parsed where it is JSON."""
    done = tool_run(command, timeout, **arguments)
    if done.returncode != 0 or "Sanitizer" in done.stderr:
        raise ToolError(done.returncode, done.stderr.strip())
    try:
        return json.loads(done.stdout)
    except ValueError:
        return done.stdout


def decode(rows):
    """pgoutput messages of protocol 1 as tuples: ('B',), ('C',), ('I'|'U'|'D', table, values), ('T', [tables])."""
    out, names = [], {}
    for (data,) in rows:
        data = bytes(data)
        kind = chr(data[0])
        if kind == "R":
            schema, name = data[5:].split(b"\0")[:2]
            names[int.from_bytes(data[1:5], "big")] = (schema + b"." + name).decode()
        elif kind in "IUD":
            out.append((kind, names[int.from_bytes(data[1:5], "big")], *tuples(data[5:])))
        elif kind == "T":
            count = int.from_bytes(data[1:5], "big")
            out.append(("T", [names[int.from_bytes(data[6 + 4 * i:10 + 4 * i], "big")] for i in range(count)]))
        elif kind in "BC":
            out.append((kind,))
    return out


def tuples(data):
    """(old or None, new or None) of an I, U or D message behind its table."""
    found, at = {}, 0
    while at < len(data):
        which = chr(data[at])
        columns, at, values = int.from_bytes(data[at + 1:at + 3], "big"), at + 3, []
        for _ in range(columns):
            kind = chr(data[at])
            at += 1
            if kind == "t":
                n = int.from_bytes(data[at:at + 4], "big")
                values.append(data[at + 4:at + 4 + n].decode())
                at += 4 + n
            else:
                values.append(None if kind == "n" else kind)
        found["new" if which == "N" else "old"] = values
    return found.get("old"), found.get("new")
