"""Drives the salvor program in a temporary folder of its own: configuration, commands, a running `salvor run`."""
import contextlib
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import psycopg2
from scratch import scratch

SALVOR = os.environ.get("SALVOR") or str(pathlib.Path(__file__).resolve().parents[2] / "build/release/src/cmd/salvor")


def parse_lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


PATIENCE_S = 90  # nothing is given up sooner: a machine with other work on it may need long for what takes a second elsewhere


def wait_for(what, test, timeout=PATIENCE_S, told=None):
    """The first true value of test(), asked every 50 ms; where told() is given: when that has changed, and each half second."""
    timeout = max(timeout, PATIENCE_S)
    deadline = time.monotonic() + timeout
    while True:
        before = told() if told else None
        found = test()
        asked = time.monotonic()
        if found:
            return found
        if asked > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.05)
        while told and told() == before and time.monotonic() < asked + 0.5:
            time.sleep(0.02)


class Result:
    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"status {self.status}\n{self.out}\n{self.err}"


class Salvor:
    """One configuration with its state and vault. sources: {name: {option: value}}; vault defaults to main."""

    def __init__(self, sources, vaults=None, parent=None):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="salvor-box-", dir=parent or scratch()))
        os.chmod(self.root, 0o755)
        self.state = self.root / "state"
        self.vaults = vaults or {"main": {"driver": "posix", "path": self.root / "vault"}}
        self.sources = sources
        self.config = self.root / "salvor.conf"
        self.log_path = self.root / "run.log"
        self.process = None
        self.env = {}  # what is added to the environment of every process
        self.write_config()

    # -- configuration

    def write_config(self):
        lines = ["[salvor]", f"state = {self.state}"]
        for name, options in self.vaults.items():
            lines += [f"[vault {name}]", *(f"{k} = {v}" for k, v in options.items())]
        for name, options in self.sources.items():
            settings = {"engine": "postgres", "vault": "main", "local_auth": "trust", "prove": "no", **options}
            lines += [f"[source {name}]", *(f"{k} = {v}" for k, v in settings.items() if v is not None)]
        self.config.write_text("\n".join(lines) + "\n")

    # -- commands

    def run_command(self, *args, timeout=240, env=None):
        return Result(subprocess.run([SALVOR, "--config", str(self.config), *map(str, args)], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                                     env={**os.environ, **self.env, **(env or {})}))

    def spawn(self, *args):
        """A command that the test kills or waits for itself; what it says goes to a file beside the log."""
        with open(self.root / "spawned.log", "ab") as log:
            return subprocess.Popen([SALVOR, "--config", str(self.config), *map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ok(self, *args, **options):
        r = self.run_command(*args, **options)
        assert r.status == 0, f"salvor {' '.join(map(str, args))}: {r}\n{self.log_tail()}"
        return r

    def fails(self, status, *args, says=None, **options):
        r = self.run_command(*args, **options)
        assert r.status == status, f"salvor {' '.join(map(str, args))}: wanted status {status}: {r}"
        assert r.err.count("\n") <= 3 or says, f"not one clear sentence: {r.err}"
        if says:
            assert says in r.err + r.out, f"{says!r} is not in: {r}"
        return r

    def status(self, source=None):
        """The status object of one source (the first when not named)."""
        found = self.ok("status", *([source] if source else []), "--json").json["sources"]
        return found[0]

    def recover(self, source, *args, **options):
        return self.ok("recover", source, *args, "--json", **options).json

    # -- salvor run

    def start(self, env=None):
        assert self.process is None
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([SALVOR, "--config", str(self.config), "run"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env={**os.environ, **self.env, **(env or {})})
        return self

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(90)
            self.process = None

    def kill9(self):
        """Supervisor and roles at once: they die with it."""
        self.process.kill()
        self.process.wait(60)
        self.process = None

    def role_pid(self, role):
        """The process that has this role now (`capture shop`, `keeper`), or None: it is just being started again."""
        wanted = ["role", *role.split()]
        for path in glob.glob("/proc/[0-9]*/cmdline") if self.process else []:
            with contextlib.suppress(OSError):
                with open(path, encoding="utf-8", errors="replace") as f:
                    argv = f.read().split("\0")
                if str(self.config) in argv and argv[argv.index(str(self.config)) + 1:-1] == wanted:
                    return int(path.split("/")[2])
        return None

    def kill_role(self, role):
        """SIGKILL to that process; False: there was none at this moment."""
        pid = self.role_pid(role)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def capture_pid(self, source):
        return json.loads((self.state / source / "status.json").read_text())["pid"]

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self):
        return "\n".join(self.log_text().splitlines()[-40:])

    # -- waiting

    def wait(self, what, test, timeout=60, told=None):
        try:
            return wait_for(what, test, timeout, told)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log_tail()}") from None

    def wait_status(self, source, what, test, timeout=60):
        """For what test(status) makes of what capture knows: the command is asked when capture has told anew, since asking costs more than most of what is waited for."""
        def told():
            with contextlib.suppress(FileNotFoundError):
                return os.stat(self.state / source / "status.json").st_mtime_ns
        return self.wait(what, lambda: test(self.status(source)), timeout, told)

    def wait_streaming(self, source, timeout=60):
        return self.wait_status(source, f"{source} to stream", lambda s: s if s["state"] == "streaming" else None, timeout)

    def wait_snapshots(self, source, count=1, timeout=90):
        return self.wait(f"{count} snapshots of {source}",
                         lambda: (lambda s: s if len(s["snapshots"]) >= count else None)(self.status(source)), timeout)

    def wait_durable(self, source, lsn, timeout=30):
        """Until every commit at or before lsn ('0/16B3748') is durable in the spool."""
        wanted = parse_lsn(lsn)
        return self.wait_status(source, f"{lsn} to be durable", lambda s: s["durable_position"] and parse_lsn(s["durable_position"]) >= wanted, timeout)

    def wait_vault(self, source, lsn, timeout=60):
        wanted = parse_lsn(lsn)
        return self.wait_status(source, f"{lsn} to be in the vault", lambda s: s["vault_position"] and parse_lsn(s["vault_position"]) >= wanted, timeout)

    # -- targets

    def recovered(self, result, dbname=None, user="postgres"):
        """A session with a recovered local server."""
        c = psycopg2.connect(result["conninfo"])
        c.autocommit = True
        return c

    def stop_target(self, directory):
        """Ends a local server that a recovery started."""
        data = os.path.join(str(directory), "data")
        pid_file = os.path.join(data, "postmaster.pid")
        if os.path.exists(pid_file):
            with open(pid_file, encoding="ascii") as f:
                pid = int(f.readline())
            try:
                os.kill(pid, signal.SIGQUIT)
                wait_for("the recovered server to end", lambda: not os.path.exists(pid_file), 20)
            except ProcessLookupError:
                pass

    def destroy(self):
        if self.process:
            self.process.kill()
            self.process.wait(60)
        for data in self.root.glob("*/data/postmaster.pid"):
            self.stop_target(data.parent.parent)
        for pid in self.strays():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not os.environ.get("SALVOR_TEST_KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)

    def strays(self):
        """Processes that were started for something in this folder and outlived it: the server of a recovery that was killed."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                with open(path, encoding="utf-8", errors="replace") as f:
                    if str(self.root) in f.read():
                        found.append(int(path.split("/")[2]))
        return found

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.destroy()
