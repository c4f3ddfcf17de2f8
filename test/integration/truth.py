"""What a database holds, said in a form that two of them can be compared by; and PostgreSQL's own answer for any position.

PitrTruth keeps a base backup and the archived log of a server and gives a read-only server that stands exactly at an LSN: the
state that PostgreSQL itself says was committed up to there.
"""
import contextlib
import hashlib
import os
import re
import shutil
import subprocess

import psycopg2
from pgserver import DEFAULTS, PgServer
from salvorbox import parse_lsn, wait_for

RESTRICT = "salvorcompare"


def tables(cursor):
    cursor.execute("""SELECT format('%I.%I', n.nspname, c.relname), (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
                      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT LIKE 'salvor\\_%'
                        AND n.nspname <> 'information_schema' ORDER BY 1""")
    return cursor.fetchall()


class Sorted:
    """Takes COPY output; gives a digest that does not depend on the order of rows."""

    def __init__(self):
        self.parts = []

    def write(self, data):
        self.parts.append(data if isinstance(data, bytes) else data.encode())

    def digest(self):
        rows = b"".join(self.parts).split(b"\n")
        return len(rows) - 1, hashlib.sha256(b"\n".join(sorted(rows))).hexdigest()


def contents(connection, only=None):
    """{table: (rows, digest)}: every value of every row, as text. only: the tables to be read, where others are locked."""
    found = {}
    with connection.cursor() as cursor:
        cursor.execute("SET extra_float_digits = 3; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex'; "
                       "SET search_path = ''; SET row_security = off; SET lc_monetary = 'C'")
        for name, columns in tables(cursor):
            if only and name not in only:
                continue
            out = Sorted()
            cursor.copy_expert(f"COPY (SELECT {columns or ''} FROM ONLY {name}) TO STDOUT", out)
            found[name] = out.digest()
    return found


def sequences(connection):
    """{(schema, name): (last value or None: never drawn from, increment, cache)}"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname, sequencename, last_value, increment_by, cache_size FROM pg_sequences WHERE schemaname NOT LIKE 'salvor\\_%'")
        return {(schema, name): (value, step, cache) for schema, name, value, step, cache in cursor.fetchall()}


def schema(server_or_bin, conninfo):
    """pg_dump --schema-only without Salvor's own objects and without what differs from run to run."""
    bin_directory = server_or_bin if isinstance(server_or_bin, str) else server_or_bin.bin
    done = subprocess.run([os.path.join(bin_directory, "pg_dump"), "--schema-only", f"--restrict-key={RESTRICT}", "-d", conninfo], capture_output=True, encoding="utf-8", errors="backslashreplace",
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    blocks = re.split(r"(?m)^(?=--\n-- Name: )", done.stdout)
    kept = "".join(b for b in blocks if not re.match(r"--\n-- Name: (SCHEMA |[A-Z ]*)?\"?salvor_", b) and "salvor_" not in b.split("\n")[1])
    # What stands between two objects belongs to the one before it, and went with it if that was Salvor's own.
    return "\n".join(line for line in kept.splitlines() if line and not re.match(r"--|SET default_|\\(un)?restrict ", line))


class PitrTruth:
    """Prepare before the writes that are to be asked about; then at(lsn) as often as wanted, in ascending order."""

    def __init__(self, server):
        self.server = server
        self.archive = os.path.join(server.root, "archive")
        self.copy = None

    CONF = {"archive_mode": "on", "archive_timeout": "0"}

    @staticmethod
    def conf(root):
        return {"archive_mode": "on", "archive_command": f"test ! -f {root}/archive/%f && cp %p {root}/archive/%f"}

    def prepare(self):
        """The server must run with conf(server.root)."""
        self.backup = os.path.join(self.server.root, "backup")
        self.server.run("pg_basebackup", "-h", self.server.socket_dir, "-p", str(self.server.port), "-U", "postgres", "-D", self.backup, "-c", "fast", "-X", "stream",
                        "--no-sync")

    def finish(self):
        """All log written so far is in the archive."""
        name = self.server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
        self.server.sql("SELECT pg_logical_emit_message(false, 'truth', ''); SELECT pg_switch_wal()")
        wait_for("the archive", lambda: os.path.exists(os.path.join(self.archive, name)))

    @contextlib.contextmanager
    def at(self, lsn, dbname):
        """A session with a server that stands just after the commit that ends at lsn."""
        with self.started(self.backup, lsn, "pause") as copy:
            wait_for(f"the truth at {lsn}", lambda: copy.value("SELECT pg_get_wal_replay_pause_state() = 'paused'"), 60)
            replayed = copy.value("SELECT pg_last_wal_replay_lsn()::text")
            assert parse_lsn(replayed) >= parse_lsn(lsn) - 8192, (replayed, lsn)
            if not copy.value("SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND granted"):
                with contextlib.closing(copy.connect(dbname)) as c:
                    yield copy, c
                return
        # A transaction that was open there has truncated a table, and the paused server holds its lock: nobody could read it.
        # Promoted, it has been undone; but that server could not go on to the next position, so it is a copy.
        aside = self.backup + ".promoted"
        subprocess.run(["cp", "-a", self.backup, aside], check=True, timeout=120)
        try:
            with self.started(aside, lsn, "promote") as copy:
                wait_for(f"the truth at {lsn}", lambda: not copy.value("SELECT pg_is_in_recovery()"), 60)
                with contextlib.closing(copy.connect(dbname)) as c:
                    yield copy, c
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @contextlib.contextmanager
    def started(self, datadir, lsn, action):
        copy = PgServer.__new__(PgServer)
        copy.__dict__.update(self.server.__dict__)
        copy.datadir, copy.pid = datadir, None
        from pgserver import free_port
        copy.port = free_port()
        copy.log_path = os.path.join(self.server.root, "truth.log")
        copy.write("recovery.signal", "")
        stopped = False
        try:
            copy.start({**DEFAULTS, "archive_mode": "off", "restore_command": f"cp {self.archive}/%f %p", "recovery_target_lsn": lsn,
                        "recovery_target_inclusive": "off", "recovery_target_action": action, "hot_standby": "on", "recovery_target_timeline": "current"})
            yield copy
            copy.stop("fast")
            stopped = True
        finally:
            if not stopped:
                copy.kill9()


def compare(recovered, truth, what):
    """Fails with the tables that differ."""
    differ = [f"{t}: recovered {recovered.get(t)}, truth {truth.get(t)}" for t in sorted(set(recovered) | set(truth)) if recovered.get(t) != truth.get(t)]
    assert not differ, f"{what}: {len(differ)} tables differ:\n" + "\n".join(differ)
