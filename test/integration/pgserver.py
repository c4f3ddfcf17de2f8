"""A throw-away PostgreSQL server for a test: its own temporary folder, a free port below 32768, no system service.

When the test runs as root the server runs as the system user `postgres` (PostgreSQL refuses root), else as we are.
Only the processes started here are ever signalled, by their own pid.
"""
import atexit
import contextlib
import fcntl
import glob
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2
from scratch import scratch

# What a source needs; a test may say otherwise in start(conf).
DEFAULTS = {
    "wal_level": "logical",
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "max_slot_wal_keep_size": "1GB",
    "max_prepared_transactions": 10,
    "fsync": "off",
    "log_min_messages": "warning",
    "listen_addresses": "127.0.0.1",
}


def bin_directory():
    """Programs of the newest installed server, or of $SALVOR_TEST_PG_BIN."""
    if os.environ.get("SALVOR_TEST_PG_BIN"):
        return os.environ["SALVOR_TEST_PG_BIN"]
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    if not found:
        raise RuntimeError("no PostgreSQL server is installed below /usr/lib/postgresql")
    return os.path.dirname(max(found, key=lambda p: int(re.search(r"/(\d+)/bin", p).group(1))))


PORT_LOCKS = "/tmp/salvor-test-ports"
held_ports = {}


def free_port():
    """A port that nobody listens on, and that no other run of tests on this machine is about to listen on: it is ours until release_port or the end
    of this process. Below 20000: from there on Salvor chooses, at random, for the servers that it makes."""
    os.makedirs(PORT_LOCKS, exist_ok=True)
    with contextlib.suppress(OSError):
        os.chmod(PORT_LOCKS, 0o1777)
    for port in range(10000 + os.getpid() % 5000, 20000):
        with contextlib.suppress(OSError):
            lock = os.open(os.path.join(PORT_LOCKS, str(port)), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.closing(socket.socket()) as s:
                    s.bind(("127.0.0.1", port))
                held_ports[port] = lock
                return port
            except OSError:
                os.close(lock)
    raise RuntimeError("no free port between 10000 and 20000")


def release_port(port):
    if port in held_ports:
        os.close(held_ports.pop(port))


class PgServer:
    """One server. The superuser is `postgres`; local connections are trusted, unless `hba` says otherwise. Servers of one process are copies of
    one that initdb made once; where the system identifier must be another one: own_identifier."""

    templates = {}  # initdb's options: a data directory

    def __init__(self, parent=None, initdb_options=(), hba=None, own_identifier=False):
        self.bin = bin_directory()
        self.system_user = "postgres" if os.geteuid() == 0 else None
        self.root = tempfile.mkdtemp(prefix="salvor-pg-", dir=parent or scratch())
        os.chmod(self.root, 0o755)
        if self.system_user:
            entry = pwd.getpwnam(self.system_user)
            os.chown(self.root, entry.pw_uid, entry.pw_gid)
        self.datadir = os.path.join(self.root, "data")
        self.socket_dir = self.root
        self.log_path = os.path.join(self.root, "log")
        self.port = free_port()
        self.pid = None
        if own_identifier:
            self.initdb(self.datadir, initdb_options)
        else:
            subprocess.run(["cp", "-a", self.template(initdb_options), self.datadir], check=True, timeout=180)
        if hba is not None:
            self.write("pg_hba.conf", hba)

    def initdb(self, directory, options):
        self.run("initdb", "-D", directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", *options)

    def template(self, options):
        key = tuple(options)
        if key not in self.templates:
            root = tempfile.mkdtemp(prefix="salvor-pg-template-", dir=scratch())
            atexit.register(shutil.rmtree, root, ignore_errors=True)
            if self.system_user:
                entry = pwd.getpwnam(self.system_user)
                os.chown(root, entry.pw_uid, entry.pw_gid)
            self.initdb(os.path.join(root, "data"), options)
            self.templates[key] = os.path.join(root, "data")
        return self.templates[key]

    # -- programs and files

    def command(self, program, *args):
        argv = [os.path.join(self.bin, program), *args]
        return ["runuser", "-u", self.system_user, "--", *argv] if self.system_user else argv

    def run(self, program, *args, timeout=180, **options):
        done = subprocess.run(self.command(program, *args), cwd="/", stdin=subprocess.DEVNULL, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
        if done.returncode != 0:
            raise RuntimeError("%s: %s" % (program, done.stdout))
        return done.stdout

    def write(self, name, text):
        """A file of the data directory, by its owner's hand."""
        path = os.path.join(self.datadir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        if self.system_user:
            entry = pwd.getpwnam(self.system_user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    # -- life

    def start(self, conf=None, wait=True):
        settings = {**DEFAULTS, **(conf or {}), "port": self.port, "unix_socket_directories": self.socket_dir}
        self.write("postgresql.auto.conf", "".join("%s = '%s'\n" % item for item in settings.items()))
        with open(self.log_path, "ab") as log:
            if self.system_user:
                os.chmod(self.log_path, 0o666)
            done = subprocess.run(self.command("pg_ctl", "start", "-D", self.datadir, "-l", self.log_path, "-s", "-t", "90",
                                               "-w" if wait else "-W"),
                                  cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=120)
        if done.returncode != 0:
            raise RuntimeError("pg_ctl start: " + self.log()[-2000:])
        self.pid = self.postmaster_pid()
        return self

    def postmaster_pid(self):
        try:
            with open(os.path.join(self.datadir, "postmaster.pid"), encoding="ascii") as f:
                return int(f.readline())
        except (OSError, ValueError):
            return None

    def alive(self):
        if self.pid is None:
            return False
        return not self.is_zombie(self.pid)

    def stop(self, mode="fast"):
        """mode: smart, fast, immediate."""
        if self.alive():
            self.run("pg_ctl", "stop", "-D", self.datadir, "-m", mode, "-s", "-w", "-t", "60", timeout=70)
        self.pid = None

    def kill9(self):
        """The whole server at once, as a power cut of it: the postmaster, and its children that would linger."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)  # no more children
        children = self.children()
        for pid in [self.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while any(os.path.exists("/proc/%d" % pid) and not self.is_zombie(pid) for pid in [self.pid, *children]):
            if time.monotonic() > deadline:
                raise RuntimeError("the killed server is still there")
            time.sleep(0.01)
        # Where nobody reaps orphans a dead postmaster keeps its pid, and the next one would believe that it lives.
        for path in (os.path.join(self.datadir, "postmaster.pid"), os.path.join(self.socket_dir, ".s.PGSQL.%d.lock" % self.port)):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self.pid = None

    def children(self):
        found = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(path, encoding="utf-8", errors="replace") as f:
                    if int(f.read().rpartition(")")[2].split()[1]) == self.pid:
                        found.append(int(path.split("/")[2]))
        return found

    @staticmethod
    def is_zombie(pid):
        """Has the process ended? Where nobody reaps orphans it keeps its number, and a signal 0 would still find it."""
        with contextlib.suppress(OSError):
            with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
                return f.read().rpartition(")")[2].split()[0] in "ZX"
        return True

    def restart(self, conf=None, mode="fast"):
        self.stop(mode)
        return self.start(conf)

    def destroy(self):
        """Stops it, however it is, and removes its folder."""
        if self.alive():
            with contextlib.suppress(Exception):
                self.stop("immediate")
            self.kill9()
        shutil.rmtree(self.root, ignore_errors=True)
        release_port(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.destroy()

    # -- sessions

    def conninfo(self, dbname="postgres", user="postgres", tcp=False):
        host = "127.0.0.1" if tcp else self.socket_dir
        return "host=%s port=%d dbname=%s user=%s" % (host, self.port, dbname, user)

    def connect(self, dbname="postgres", user="postgres", autocommit=True, **options):
        c = psycopg2.connect(self.conninfo(dbname, user), connect_timeout=60, **options)
        c.autocommit = autocommit
        return c

    def sql(self, text, *params, dbname="postgres", user="postgres"):
        """Runs it in a session of its own; the rows of the last statement that gives some."""
        with contextlib.closing(self.connect(dbname, user)) as c, c.cursor() as cur:
            cur.execute(text, params or None)
            return cur.fetchall() if cur.description else []

    def value(self, text, *params, dbname="postgres", user="postgres"):
        rows = self.sql(text, *params, dbname=dbname, user=user)
        return rows[0][0] if rows else None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()
