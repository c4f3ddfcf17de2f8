#!/usr/bin/python3
"""make bench: each figure as a ratio against the named peer, on this machine, in the same run.

bench.py SALVOR-PROGRAM [NAME...]: all measurements, or those named (drain seal latency snapshot recovery verify encryption idle updates tables huge changed s3). A slow figure is
printed as it is and fails nothing; the exit status is 0 when everything was measured.

One by itself: tools/install-packages build bench && make && /usr/bin/python3 test/bench/bench.py build/release/src/cmd/salvor s3
That one starts a Ceph cluster of its own and builds the driver's tool in build/bench; BENCH_S3_MIB (1024) is what goes up and down.

How it is kept fair: Salvor and its peer take turns (peer, Salvor, peer, ...), through the same kind of connection (TCP), against the same
server, over the same rows, and the ratio is that of the medians. Salvor's times begin with the start of its process, and its CPU is
that of every process it starts. What one of the two does and the other does not is said beside the figure.

BENCH_RUNS (3), BENCH_SCALE (100, pgbench's scale), BENCH_TRANSACTIONS (400000, the backlog), BENCH_MORE (300000, transactions
between snapshot and recovery), BENCH_SECONDS (10, of each turn of the steady load), BENCH_HUGE (5000000, rows of the one huge transaction), BENCH_UPDATES (1000000) and BENCH_UPDATES_SCALE (30) and
BENCH_CHANGED (500000, rows that change behind a schema change), BENCH_TABLES_MB (2000, of 40 tables with their indexes), BENCH_VERIFY_SCALE (30) and BENCH_ENCRYPTION_SCALE (10), BENCH_IDLE_SEGMENTS (6) change the amounts; BENCH_DIR (/tmp) says where it all lies.

All of it is to take at most 15 minutes on two cores. For that the 40 tables, whose restores are the longest, have one run less than the others, and
the turns of the steady load are short; who wants the figures to be steadier takes one measurement by its name with more runs.
"""
import contextlib
import os
import pathlib
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "integration"))
PROGRAM = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/src/cmd/salvor").resolve()
os.environ["SALVOR"] = str(PROGRAM)
import psycopg2  # noqa: E402
from bench_s3 import bench_s3  # noqa: E402
from pgserver import PgServer  # noqa: E402
from salvorbox import Salvor, parse_lsn, wait_for  # noqa: E402

PARENT = os.environ.get("BENCH_DIR", "/tmp")
SCALE = int(os.environ.get("BENCH_SCALE", "100"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TRANSACTIONS = int(os.environ.get("BENCH_TRANSACTIONS", "400000"))
MORE = int(os.environ.get("BENCH_MORE", "300000"))
HUGE = int(os.environ.get("BENCH_HUGE", "5000000"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "10"))
VERIFY_SCALE = min(SCALE, int(os.environ.get("BENCH_VERIFY_SCALE", "30")))
ENCRYPTION_SCALE = min(SCALE, int(os.environ.get("BENCH_ENCRYPTION_SCALE", "10")))
IDLE_FASTER = 20  # so many times faster than by default
IDLE_SEGMENTS = int(os.environ.get("BENCH_IDLE_SEGMENTS", "6"))
UPDATES = int(os.environ.get("BENCH_UPDATES", "1000000"))
UPDATES_SCALE = int(os.environ.get("BENCH_UPDATES_SCALE", "30"))
CHANGED_ROWS = int(os.environ.get("BENCH_CHANGED", "500000"))
TABLES = 40
TABLES_MB = int(os.environ.get("BENCH_TABLES_MB", "2000"))
RATE = 1000
TICKS = os.sysconf("SC_CLK_TCK")
MEASURES = ["drain", "seal", "latency", "snapshot", "recovery", "verify", "encryption", "idle", "updates", "tables", "huge", "changed", "s3"]
SOURCE = {"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "max_slot_wal_keep_size": "20GB",
          "autovacuum": "off", "synchronous_commit": "off", "max_replication_slots": "20", "max_wal_senders": "20"}
# Both restores go into servers with these. Autovacuum is as servers have it: where it will come, Salvor leaves it the full statistics of big tables.
TARGET = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0",
          "shared_buffers": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "maintenance_work_mem": "512MB", "autovacuum": "on",
          "max_replication_slots": "0", "max_slot_wal_keep_size": "-1"}
report = []


def note(text):
    print(f"  {text}", flush=True)


def result(name, value, bar, unit, detail, more_is_better=False):
    """value and bar in the unit."""
    verdict = "reached" if (value >= bar if more_is_better else value <= bar) else "NOT REACHED"
    text = f"{name}: {value:.2f}{unit} (to reach: {'>=' if more_is_better else '<='} {bar:g}{unit}, {verdict}) {detail}"
    report.append(text)
    print(text, flush=True)


def median(values):
    return statistics.median(values)


# -- processes

def cpu_s(pid):
    """CPU time of a process, with that of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS


def tree(pid):
    """The process and all below it."""
    parents = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parents.setdefault(int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [pid]
    for p in found:
        found += parents.get(p, [])
    return found


def tree_cpu_s(pid):
    total = 0.0
    for p in tree(pid):
        with contextlib.suppress(OSError):
            total += cpu_s(p)
    return total


def rss_mib(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * resource.getpagesize() / (1 << 20)
    return 0.0


# -- loads

# Every value is drawn by itself; 64 first names, 1,000 last names, 700 streets and 300 towns, in 10,000 combinations.
REALISTIC = """
CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref uuid NOT NULL, first_name text, last_name text, mail text,
    born date, created timestamptz NOT NULL, address jsonb, score numeric(10,2), active boolean);
CREATE TABLE names (i int PRIMARY KEY, first_name text, last_name text, street text, city text);
CREATE FUNCTION word(seed bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT initcap(string_agg(substr('bcdfghklmnprstvz', ((seed >> (6 * j)) % 16)::int + 1, 1) || substr('aeiou', ((seed >> (6 * j + 4)) % 5)::int + 1, 1), ''))
    FROM generate_series(0, 2 + (seed % 2)::int) j $$;
INSERT INTO names SELECT i, word((i % 64 + 7) * 2654435761), word((i % 1000 + 91) * 1640531527), word((i % 700 + 3) * 1442695041) || ' street',
    word((i % 300 + 5) * 2246822519) FROM generate_series(0::bigint, 9999) i;
"""
REALISTIC_SCRIPT = r"""
\set n random(0, 9999)
\set m random(1, 99999)
\set b random(0, 25000)
\set z random(10000, 99999)
\set h random(1, 200)
\set s random(0, 99999)
INSERT INTO people (ref, first_name, last_name, mail, born, created, address, score, active)
SELECT gen_random_uuid(), first_name, last_name, lower(first_name || '.' || last_name) || :m || '@example.org', date '1940-01-01' + :b,
    clock_timestamp(), jsonb_build_object('street', street || ' ' || :h, 'city', city, 'zip', :z), :s / 100.0, :s % 2 = 0
FROM names WHERE i = :n;
"""
ROWS_ARE = "rows of bigint, random uuid, names, mail, date, clock timestamptz, jsonb address, numeric, boolean"


def pgbench(server, dbname, *args, timeout=1200):
    return server.run("pgbench", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", *args, dbname, timeout=timeout)


def script_file(server, text):
    path = os.path.join(server.root, "script.sql")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o644)
    return path


def make_source(settings, dbname):
    server = PgServer(parent=PARENT)
    server.start(settings)
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
    server.sql(f"CREATE DATABASE {dbname}")
    return server


def make_box(server, name, dbname, encrypted=False, **options):
    """Salvor for one source, with the options a user gets who sets none, and set up in the server."""
    box = Salvor({name: {"conninfo": server.conninfo(dbname, "salvor", tcp=True), "snapshot_schedule": "none", "slot_timeout": "60s", "prove": "no", **options}},
                 parent=PARENT)
    if encrypted:
        box.vaults["main"]["key_file"] = box.root / "vault.key"
        box.ok("key", "new", box.vaults["main"]["key_file"])
        box.write_config()
    box.ok("init")
    box.ok("setup", name, "--admin", server.conninfo(dbname, "postgres", tcp=True))
    return box


def vault_bytes(box, pattern):
    return sum(p.stat().st_size for p in (box.root / "vault").rglob(pattern))


# -- drain of a backlog: time, CPU, memory, size in the vault

def publications(name):
    return f"salvor_{name}_rows,salvor_{name}_keys"


def bench_drain():
    with make_source(SOURCE, "load") as server, contextlib.ExitStack() as stack:
        server.sql(REALISTIC, dbname="load")
        names = [f"r{i}" for i in range(RUNS)]
        boxes = {}
        for name in names:
            boxes[name] = stack.enter_context(make_box(server, name, "load"))
            server.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", f"peer_{name}", dbname="load")
        # Only after all were set up: what one setup makes is a change of the schema to the others, and that a cause for another snapshot.
        for name in names:
            # The first snapshot is behind it: what is measured is the drain alone.
            boxes[name].start().wait_snapshots(name)
            boxes[name].stop()
        server.sql("SELECT pg_create_logical_replication_slot('peer_size', 'pgoutput')", dbname="load")
        note(f"writing {TRANSACTIONS} transactions of one INSERT each")
        pgbench(server, "load", "-n", "-c", "8", "-j", "2", "-t", str(TRANSACTIONS // 8), "-f", script_file(server, REALISTIC_SCRIPT))
        server.sql("CHECKPOINT")
        # The last commit of the backlog: both have to get there.
        end = server.value("SELECT pg_logical_emit_message(true, 'bench', 'the end')", dbname="load") and server.value("SELECT pg_current_wal_insert_lsn()::text")
        peers, ours = [], []
        for name in names:
            before_bytes = vault_bytes(boxes[name], "*.seg")
            peers.append(drain_peer(server, name, end))
            ours.append(drain_salvor(server, boxes[name], name, end))
            ours[-1]["stored"] = vault_bytes(boxes[name], "*.seg") - before_bytes
            note("pg_recvlogical {s:.2f} s (walsender's CPU {sender:.2f} s); ".format(**peers[-1]) +
                 "salvor {s:.2f} s (walsender's CPU {sender:.2f} s; salvor's {cpu:.2f} s, {cpu_all:.2f} s when all was in the vault; "
                 "RSS {rss_max:.0f} MiB at most, {rss:.0f} MiB after)".format(**ours[-1]))
        sealed = seal_runs(boxes[names[-1]], names[-1])
        plain = pgoutput_bytes(server, names[0], end)
    seconds, sender, cpu, cpu_all = (median([o[key] for o in ours]) for key in ("s", "sender", "cpu", "cpu_all"))
    peer_s, peer_sender, stored = median([p["s"] for p in peers]), median([p["sender"] for p in peers]), median([o["stored"] for o in ours])
    result("drain of a backlog, time / pg_recvlogical -f /dev/null", seconds / peer_s, 1.10, "x",
           f"[{seconds:.2f} s / {peer_s:.2f} s; {TRANSACTIONS / seconds:.0f} transactions/s; Salvor's time holds its start]")
    result("drain, Salvor's own CPU / the walsender's", cpu / sender, 0.40, "x",
           f"[{cpu:.2f} s / {sender:.2f} s, all of Salvor's processes until the last commit was durable; with what compresses, ships and stops "
           f"afterwards {cpu_all:.2f} s = {cpu_all / sender:.2f}x; the walsender's for pg_recvlogical: {peer_sender:.2f} s]")
    seal_result(sealed, stored, plain)
    result("resident memory of capture, draining", max(o["rss_max"] for o in ours), 64, " MiB", "[greatest of all samples]")


def pgoutput_bytes(server, name, end):
    return int(server.value("SELECT sum(length(data)) FROM pg_logical_slot_peek_binary_changes('peer_size', %s, NULL, 'proto_version', '1', "
                            "'publication_names', %s, 'messages', 'true')", end, publications(name), dbname="load"))


# -- sealing and shipping: from the spool to durable in a posix vault, on one core

def bench_seal():
    """Speed and size of the same rows at the same level. What is timed: test/bench/seal_speed.c from opening a sealed spool file to the segment's put having returned
    (read, opened, checked, taken apart, compared with what comes back, compressed, hashed, encrypted, written, synced), one segment after the other, in one
    thread that is held to one core; the spool files lie in the page cache as they do when they were just written. Bytes are those of the frames. CPU is user and
    system time of that process meanwhile: on a machine with other work it tells more than the time."""
    with make_source(SOURCE, "load") as server:
        server.sql(REALISTIC, dbname="load")
        with make_box(server, "s", "load") as box:
            box.start().wait_snapshots("s")
            box.stop()
            server.sql("SELECT pg_create_logical_replication_slot('peer_size', 'pgoutput')", dbname="load")
            before = vault_bytes(box, "*.seg")
            note(f"writing {TRANSACTIONS} transactions of one INSERT each")
            pgbench(server, "load", "-n", "-c", "8", "-j", "2", "-t", str(TRANSACTIONS // 8), "-f", script_file(server, REALISTIC_SCRIPT))
            end = server.value("SELECT pg_logical_emit_message(true, 'bench', 'the end')", dbname="load") and server.value("SELECT pg_current_wal_insert_lsn()::text")
            drain_salvor(server, box, "s", end)
            stored, plain = vault_bytes(box, "*.seg") - before, pgoutput_bytes(server, "s", end)
            server.stop()
            seal_result(seal_runs(box, "s"), stored, plain)


def seal_runs(box, name):
    """Into a plain vault and into an encrypted one, in turns."""
    runs = [(seal(box, name, False), seal(box, name, True)) for _ in range(max(RUNS, 5))]
    return list(zip(*runs))


def seal_result(sealed, stored, plain):
    """Of two equal things the two figures that trade against each other, together."""
    plain_mb = sealed[0][0][0] / 1e6
    (open_s, open_cpu_s, _), (seal_s, seal_cpu_s, back_s) = ([median([x[i] for x in runs]) for i in (2, 3, 4)] for runs in sealed)
    result("vault bytes / pgoutput bytes", stored / plain, 0.25, "", f"[{stored / 1e6:.1f} MB / {plain / 1e6:.1f} MB; zstd_level as by default; {ROWS_ARE}]")
    result("seal and ship to an encrypted posix vault, one core, plain segment bytes", plain_mb / seal_s, 200, " MB/s",
           f"[the same rows at the same level; of {plain_mb:.1f} MB {sealed[1][0][1] / 1e6:.1f} MB are stored; {seal_s:.3f} s, CPU {seal_cpu_s:.3f} s = {1000 * seal_cpu_s / plain_mb:.2f} ms/MB; "
           f"read back in {back_s:.3f} s; into a plain vault {plain_mb / open_s:.0f} MB/s, CPU {1000 * open_cpu_s / plain_mb:.2f} ms/MB; medians of {len(sealed[0])} runs]", more_is_better=True)


def seal(box, name, encrypted):
    """Plain bytes, stored bytes, seconds to seal and ship, its CPU seconds, seconds to read back: test/bench/seal_speed.c on the box's segments."""
    build = PROGRAM.parents[2]
    subprocess.run(["ninja", "-C", str(build), "--quiet", "test/bench/seal_speed"], check=True, stdout=subprocess.DEVNULL)
    folder = box.root / "seal"
    folder.mkdir()
    core = str(min(os.sched_getaffinity(0)))
    text = subprocess.run(["taskset", "-c", core, str(build / "test/bench/seal_speed"), str(box.root / "vault"), name, "0001", str(folder), "1", "1"],
                          env=dict(os.environ, **({"SALVOR_PASSPHRASE_NEW": "of the bench, not secret"} if encrypted else {})), check=True, stdout=subprocess.PIPE,
                          text=True).stdout
    shutil.rmtree(folder)
    return [float(field) for field in text.split()]


def drain_peer(server, name, end):
    argv = server.command("pg_recvlogical", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", "load", "-S", f"peer_{name}", "--start",
                          "-f", "/dev/null", "--endpos", end, "-o", "proto_version=1", "-o", f"publication_names={publications(name)}",
                          "-o", "messages=true", "-n")
    pid, cpu = None, 0.0
    with contextlib.closing(server.connect()) as session, session.cursor() as cur:
        began = time.monotonic()
        process = subprocess.Popen(argv, cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if not pid:
                cur.execute("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (f"peer_{name}",))
                pid = cur.fetchone()[0]
            with contextlib.suppress(OSError, TypeError):
                cpu = cpu_s(pid)
            time.sleep(0.01)
        seconds = time.monotonic() - began
    if process.returncode != 0:
        raise RuntimeError(f"pg_recvlogical ended with status {process.returncode}")
    return {"s": seconds, "sender": cpu}


def drain_salvor(server, box, name, end):
    """Until the server has been told that the last commit is durable (its write_lsn)."""
    wanted, written, capture, memory = parse_lsn(end), 0, None, []
    with contextlib.closing(server.connect()) as session, session.cursor() as cur:
        began = time.monotonic()
        box.start()
        while written < wanted:
            cur.execute("SELECT r.pid, r.write_lsn::text FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid "
                        "WHERE s.slot_name = %s", (f"salvor_{name}",))
            row = cur.fetchone()
            written = parse_lsn(row[1]) if row and row[1] else 0
            capture = capture or box.role_pid(f"capture {name}")
            memory.append(rss_mib(capture) if capture else 0.0)
            if time.monotonic() - began > 300:
                raise RuntimeError("the drain did not end\n" + box.log_tail())
            time.sleep(0.01)
        seconds = time.monotonic() - began
        sender, cpu = cpu_s(row[0]), tree_cpu_s(box.process.pid)
    time.sleep(3)
    after = rss_mib(capture)
    # An orderly stop ships what was not shipped yet.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    box.stop()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_all = ended.ru_utime + ended.ru_stime - before.ru_utime - before.ru_stime
    return {"s": seconds, "sender": sender, "cpu": cpu, "cpu_all": cpu_all, "rss_max": max(memory), "rss": after}


# -- commit to durable under a steady load

def bench_latency():
    """With Salvor as a synchronous standby (remote_write) a commit returns when it is durable in the spool."""
    with make_source({**SOURCE, "synchronous_commit": "local", "synchronous_standby_names": "*"}, "load") as server:
        server.sql(REALISTIC, dbname="load")
        with make_box(server, "lat", "load") as box:
            box.start().wait_snapshots("lat")
            capture = box.role_pid("capture lat")
            script = script_file(server, REALISTIC_SCRIPT)
            figures, memory, cpu = {"local": [], "remote_write": []}, [], []
            steady_load(server, script, "local", 3)
            for _ in range(RUNS):
                for mode, found in figures.items():
                    began, before = time.monotonic(), tree_cpu_s(box.process.pid)
                    found.append(steady_load(server, script, mode, SECONDS))
                    cpu.append((tree_cpu_s(box.process.pid) - before) / (time.monotonic() - began))
                    memory.append(rss_mib(capture))
                    note(f"{mode}: " + "p50 {:.1f}, p99 {:.1f}, p99.9 {:.1f} ms over {} commits".format(*found[-1]))
    remote, local = ([median([f[i] for f in figures[mode]]) for i in range(3)] for mode in ("remote_write", "local"))
    result(f"commit -> durable in the spool at {RATE} commits/s, p99", remote[1], 25, " ms",
           "[the client's whole transaction with synchronous_commit = remote_write: p50 {:.1f}, p99 {:.1f}, p99.9 {:.1f} ms; ".format(*remote) +
           "with local: p50 {:.1f}, p99 {:.1f}, p99.9 {:.1f} ms]".format(*local))
    result("resident memory of capture, steady", max(memory), 64, " MiB", f"[greatest after {2 * RUNS} turns of {SECONDS} s; all of Salvor takes "
           f"{100 * median(cpu):.0f} % of one core at this rate]")


def steady_load(server, script, mode, seconds):
    """p50, p99, p99.9 in ms of the transactions, p99 counted from when they were due, and how many."""
    prefix = os.path.join(server.root, "latency")
    for path in pathlib.Path(server.root).glob("latency.*"):
        path.unlink()
    server.run("pgbench", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", "-n", "-c", "32", "-j", "1", "-R", str(RATE), "-T", str(seconds),
               "-l", "--log-prefix", prefix, "-f", script, "load", timeout=seconds + 60,
               env={**os.environ, "PGOPTIONS": f"-c synchronous_commit={mode}"})
    # client, number, time since due, script, epoch, us, time between due and begun
    lines = [line.split() for path in pathlib.Path(server.root).glob("latency.*") for line in path.read_text().splitlines()]
    due = sorted(int(f[2]) / 1000 for f in lines)
    begun = sorted((int(f[2]) - int(f[6])) / 1000 for f in lines)
    n = len(lines)
    return begun[n // 2], begun[n * 99 // 100], begun[n * 999 // 1000], due[n * 99 // 100], n


# -- snapshot and recovery of pgbench

def bench_pgbench(which):
    with make_source(SOURCE, "bench") as server:
        note(f"pgbench -i -s {SCALE}")
        pgbench(server, "bench", "-i", "-q", "-s", str(SCALE))
        server.sql("CHECKPOINT")
        dump = os.path.join(server.root, "dump")
        if "snapshot" in which:
            measure_snapshot(server, dump)
        if "recovery" in which:
            if not os.path.exists(dump):
                pg_dump(server, dump)
            measure_recovery(server, dump)


def pg_dump(server, dump):
    shutil.rmtree(dump, ignore_errors=True)
    began = time.monotonic()
    server.run("pg_dump", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-Fd", "-j2", "-Z1", "-f", dump, "bench", timeout=600)
    return time.monotonic() - began


@contextlib.contextmanager
def capturing(box, name):
    """Capture alone: the keeper of `salvor run` would take a first snapshot by itself, and the first is the one to measure."""
    process = box.spawn("role", "capture", name)
    try:
        box.wait_streaming(name)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def measure_snapshot(server, dump):
    """Each time into an empty vault: a later snapshot finds most of its chunks there."""
    ours, peer, stored, cpu, rss = [], [], 0, [], []
    for run in range(RUNS):
        peer.append(pg_dump(server, dump))
        name = f"s{run}"
        with make_box(server, name, "bench") as box:
            with capturing(box, name):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                began = time.monotonic()
                box.ok("snapshot", name)
                ours.append(time.monotonic() - began)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            stored = vault_bytes(box, "chunks/*/*")
            box.ok("teardown", name, "--admin", server.conninfo("bench", "postgres", tcp=True))
        note(f"pg_dump {peer[-1]:.2f} s, salvor snapshot {ours[-1]:.2f} s (its CPU {cpu[-1]:.2f} s)")
    dumped = sum(p.stat().st_size for p in pathlib.Path(dump).glob("*"))
    result(f"snapshot of pgbench scale {SCALE}, time / pg_dump -Fd -j2 -Z1", median(ours) / median(peer), 1.5, "x",
           f"[{median(ours):.2f} s / {median(peer):.2f} s; stored {stored / 1e6:.0f} MB / {dumped / 1e6:.0f} MB; "
           "pg_dump neither sorts nor counts and hashes the rows]")


def plain_sums(vault, threads):
    """The peer: zstd -dc and b2sum over the chunks, in as many pipelines as there are threads, on that many cores."""
    began = time.monotonic()
    subprocess.run(["taskset", "-c", cores(threads), "sh", "-c",
                    f"find {vault}/sources -path '*/chunks/*' -type f -print0 | xargs -0 -P {threads} -n 16 sh -c 'zstd -dcq \"$@\" | b2sum' x"],
                   check=True, stdout=subprocess.DEVNULL, timeout=900)
    return time.monotonic() - began


def cores(threads):
    return ",".join(str(c) for c in sorted(os.sched_getaffinity(0))[:threads])


def bench_verify():
    """A vault of one snapshot and a few segments, its files in the page cache for both, both held to the same cores."""
    with make_source(SOURCE, "bench") as server:
        note(f"pgbench -i -s {VERIFY_SCALE}")
        pgbench(server, "bench", "-i", "-q", "-s", str(VERIFY_SCALE))
        with make_box(server, "v", "bench") as box:
            with capturing(box, "v"):
                box.ok("snapshot", "v")
            vault = box.root / "vault"
            plain = sum(s["bytes"] for s in box.status("v")["snapshots"])
            for threads in (1, 2):
                ours, peer = [], []
                for _ in range(RUNS):
                    peer.append(plain_sums(vault, threads))
                    began = time.monotonic()
                    subprocess.run(["taskset", "-c", cores(threads), str(PROGRAM), "--config", str(box.config), "verify", "--threads", str(threads)],
                                   check=True, stdout=subprocess.DEVNULL, timeout=900)
                    ours.append(time.monotonic() - began)
                result(f"verify, {threads} thread{'s' if threads > 1 else ''}: time / zstd -dc | b2sum", median(ours) / median(peer), 1.25, "x",
                       f"[{plain / 1e6 / median(ours):.0f} MB/s / {plain / 1e6 / median(peer):.0f} MB/s of plain bytes; verify also parses and hashes every row and "
                       "checks the order of keys]")


# -- recovery from an encrypted vault

def bench_encryption():
    """The same database at the same position, from a plain vault and from an encrypted one, in turns, each into a server of its own."""
    with make_source(SOURCE, "bench") as server:
        note(f"pgbench -i -s {ENCRYPTION_SCALE}, two snapshots and {ENCRYPTION_SCALE * 1000} more transactions")
        pgbench(server, "bench", "-i", "-q", "-s", str(ENCRYPTION_SCALE))
        with make_box(server, "plain", "bench") as plain, make_box(server, "sealed", "bench", encrypted=True) as sealed:
            with capturing(plain, "plain"), capturing(sealed, "sealed"):
                plain.ok("snapshot", "plain")
                sealed.ok("snapshot", "sealed")
                pgbench(server, "bench", "-n", "-c", "8", "-j", "2", "-t", str(ENCRYPTION_SCALE * 125))
                end = server.value("SELECT pg_current_wal_insert_lsn()::text")
                plain.wait_durable("plain", end, 120)
                sealed.wait_durable("sealed", end, 120)
            server.stop()
            found = {"plain": [], "sealed": []}
            for _ in range(RUNS):
                for box in (plain, sealed):
                    name = next(iter(box.sources))
                    ours_s, verify_s, _ = restore_salvor(box, name)
                    found[name].append(ours_s + verify_s)
                note("plain {:.2f} s, encrypted {:.2f} s, with verification".format(found["plain"][-1], found["sealed"][-1]))
    result(f"recovery of pgbench scale {ENCRYPTION_SCALE} from an encrypted vault, with verification / from a plain one", median(found["sealed"]) / median(found["plain"]),
           1.10, "x", f"[{median(found['sealed']):.2f} s / {median(found['plain']):.2f} s; single runs " +
           ", ".join(f"{s / p:.2f}" for s, p in zip(found["sealed"], found["plain"])) + "]")


# -- what an idle source costs

def bench_idle():
    """`salvor run` with nothing but heartbeats, every interval by the same factor shorter than by default: the time between two segments is what counts."""
    with make_source(SOURCE, "idle") as server:
        server.sql(REALISTIC, dbname="idle")
        faster = {"rpo": 15 * 60, "heartbeat": 2, "poll": 5, "idle_segment": 5 * 60}
        with make_box(server, "idle", "idle", **{k: f"{s * 1000 // IDLE_FASTER}ms" for k, s in faster.items()}) as box:
            box.start().wait_snapshots("idle")
            rows = box.root / "vault/sources/idle/0001/rows"
            wait_for("the first segment that holds nothing of the start", lambda: len(list(rows.glob("*.seg"))) > 1, 120)
            first = len(list(rows.glob("*.seg"))) - 1
            wait_for("segments", lambda: len(list(rows.glob("*.seg"))) > first + IDLE_SEGMENTS, 300)
            times = [p.stat().st_mtime for p in sorted(rows.glob("*.seg"))][first:]
            size = median([p.stat().st_size for p in sorted(rows.glob("*.seg"))[first:]])
            box.stop()
    between = [b - a for a, b in zip(times, times[1:])]
    day = 86400 / (median(between) * IDLE_FASTER)
    result("segment objects a day of an idle source with rpo = 15min", day, 300, "", f"[one every {median(between) * IDLE_FASTER:.0f} s (shortest {min(between) * IDLE_FASTER:.0f} s, "
           f"{len(between)} counted), with rpo, heartbeat, poll and idle_segment all {IDLE_FASTER} times shorter than by default; {size:.0f} bytes each]")


def measure_recovery(server, dump):
    with make_box(server, "bench", "bench") as box:
        note("the snapshot to recover from")
        box.start().wait_snapshots("bench", 1, 300)
        note(f"{MORE} more pgbench transactions")
        pgbench(server, "bench", "-n", "-c", "8", "-j", "2", "-t", str(MORE // 8))
        server.sql("CHECKPOINT")
        end = server.value("SELECT pg_current_wal_insert_lsn()::text")
        box.wait_durable("bench", end, 120)
        box.stop()
        server.stop()
        peer, ours, verify, phases = restore_in_turns(box, "bench", dump, RUNS)
        middle = sorted(range(RUNS), key=lambda i: ours[i])[RUNS // 2]
    result(f"recovery of pgbench scale {SCALE} after {MORE} more transactions, without verification / pg_restore -j2 without those transactions",
           median(ours) / median(peer), 1.0, "x", f"[{median(ours):.2f} s / {median(peer):.2f} s; Salvor's holds planning and ANALYZE, which pg_restore does "
           "not do; phases: " + ", ".join(f"{k} {v:.1f} s" for k, v in phases[middle].items()) + "]")
    result("its verification, on top", median(verify) / median(peer), 0.35, "x", f"[{median(verify):.2f} s / {median(peer):.2f} s]")


def restore_in_turns(box, name, dump, runs):
    """Of each run the seconds of pg_restore, of Salvor without verification, of its verification, and of all phases."""
    peer, ours, verify, phases = [], [], [], []
    for _ in range(runs):
        peer.append(restore_peer(dump))
        ours_s, verify_s, found = restore_salvor(box, name)
        ours.append(ours_s)
        verify.append(verify_s)
        phases.append(found)
        note(f"pg_restore {peer[-1]:.2f} s; salvor {ours_s:.2f} s + verification {verify_s:.2f} s: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
    return peer, ours, verify, phases


def restore_peer(dump):
    with PgServer(parent=PARENT) as target:
        target.start(TARGET)
        target.sql("CREATE DATABASE restored")
        began = time.monotonic()
        target.run("pg_restore", "-h", "127.0.0.1", "-p", str(target.port), "-U", "postgres", "-j2", "-d", "restored", dump, timeout=900)
        return time.monotonic() - began


def restore_salvor(box, name):
    """Seconds of the whole command but for the verification; those of the verification; all phases."""
    with PgServer(parent=PARENT) as target:
        target.start(TARGET)
        target.sql("CREATE DATABASE restored")
        began = time.monotonic()
        found = box.recover(name, "--into", target.conninfo("restored", "postgres", tcp=True), timeout=900)
        seconds = time.monotonic() - began
        if not found["verified"]:
            raise RuntimeError("the recovery was not verified")
    phases = {p["name"]: p["seconds"] for p in found["phases"]}
    return seconds - phases["verify"], phases["verify"], phases


# -- recovery after a million updates, against a physical restore with replay

PGBACKREST = """[global]
repo1-path={root}/repository
log-path={root}
lock-path={root}
spool-path={root}/spool
log-level-file=off
log-level-console=warn
log-level-stderr=off
compress-type=zst
process-max=2
archive-async=y
start-fast=y
[bench]
pg1-path={datadir}
pg1-socket-path={root}
pg1-port={port}
pg1-user=postgres
"""
# What the replay may have, and a production server has not; but for fsync that of Salvor's own local server while it loads.
REPLAY = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "2GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off",
          "hot_standby": "off", "archive_mode": "off", "wal_level": "replica", "max_slot_wal_keep_size": "-1"}


def pgbackrest(server, *args, timeout=600):
    return server.run("/usr/bin/pgbackrest", f"--config={server.root}/pgbackrest.conf", "--stanza=bench", *args, timeout=timeout)


def make_archive(server):
    """The configuration has to be there before the server archives its first file."""
    path = os.path.join(server.root, "pgbackrest.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(PGBACKREST.format(root=server.root, datadir=server.datadir, port=server.port))
    os.chmod(path, 0o644)
    return f"/usr/bin/pgbackrest --config={path} --stanza=bench archive-push %p"


def scattered_updates(server):
    """UPDATES rows, each once, in transactions of 100 rows from all over every third row of the table."""
    rows = UPDATES_SCALE * 100000 // 3
    path = script_file(server, "".join(
        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid IN "
        f"(SELECT 3 * (({k}::bigint * 100 + j) * 7919 % {rows}) + 1 FROM generate_series(0, 99) j);\n" for k in range(UPDATES // 100)))
    server.run("psql", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", "-d", "bench", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", path,
               timeout=900)


def bench_updates():
    with PgServer(parent=PARENT) as server:
        command = make_archive(server)
        server.start({**SOURCE, "archive_mode": "on", "archive_command": command})
        server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
        server.sql("CREATE DATABASE bench")
        pgbackrest(server, "stanza-create")
        note(f"pgbench -i -s {UPDATES_SCALE}, a backup and a snapshot of it")
        pgbench(server, "bench", "-i", "-q", "-s", str(UPDATES_SCALE))
        with make_box(server, "upd", "bench") as box:
            box.start().wait_snapshots("upd", 1, 300)
            pgbackrest(server, "backup", "--type=full")
            note(f"{UPDATES} updates")
            scattered_updates(server)
            end = server.value("SELECT pg_logical_emit_message(true, 'bench', 'the end')", dbname="bench") and server.value("SELECT pg_current_wal_insert_lsn()::text")
            wanted = server.value("SELECT sum(abalance) FROM pgbench_accounts", dbname="bench")
            box.wait_durable("upd", end, 300)
            box.stop()
            pgbackrest(server, "check")
            server.stop()
            peer, ours, verify, phases, unsynced = [], [], [], [], []
            note("once with fsync on, as a production server replays")
            # Nothing is removed before the end: for a minute or more after that ext4 looks at each inode that was given back, for whoever makes files.
            with contextlib.ExitStack() as kept:
                careful = sum(replay_peer(server, wanted, kept, fsync="on"))
                for run in range(RUNS):
                    restored, replayed, synced = replay_peer(server, wanted, kept)
                    peer.append(restored + replayed + synced)
                    unsynced.append(restored + replayed)
                    ours_s, found = recover_local(box, "upd", os.path.join(server.root, f"local{run}"), wanted)
                    ours.append(ours_s)
                    verify.append(found["verify"])
                    phases.append(found)
                    note(f"pgbackrest restore {restored:.2f} s + replay {replayed:.2f} s + sync {synced:.2f} s; salvor {ours_s:.2f} s: " +
                         ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
    middle = sorted(range(RUNS), key=lambda i: ours[i])[RUNS // 2]
    result(f"recovery of pgbench scale {UPDATES_SCALE} after {UPDATES} updates, with verification / pgBackRest's restore and replay (process-max 2, zst)",
           median(ours) / median(peer), 0.8, "x", f"[{median(ours):.2f} s, of it verification {median(verify):.2f} s / {median(peer):.2f} s; from no server to "
           f"one that takes writes and is on disk; the peer replays without fsync, then its file system is synced as ours is (without: {median(unsynced):.2f} s; once with "
           f"fsync on throughout: {careful:.2f} s); phases: " + ", ".join(f"{k} {v:.1f} s" for k, v in phases[middle].items()) + "]")


def replay_peer(server, wanted, kept, fsync="off"):
    """Seconds of the restore, of the server until it takes writes, and until that is on disk. The server stays in `kept`, stopped."""
    target = kept.enter_context(PgServer(parent=PARENT))
    made = os.path.join(target.root, "made")
    os.rename(target.datadir, made)
    os.mkdir(target.datadir, 0o700)
    shutil.copystat(made, target.datadir)
    os.chown(target.datadir, os.stat(made).st_uid, os.stat(made).st_gid)
    spool = os.path.join(server.root, "spool")
    if os.path.exists(spool):
        os.rename(spool, os.path.join(target.root, "spool"))
    os.sync()  # as before ours
    began = time.monotonic()
    pgbackrest(server, f"--pg1-path={target.datadir}", "restore")
    restored = time.monotonic() - began
    with open(os.path.join(target.datadir, "postgresql.auto.conf"), "a", encoding="utf-8") as f:
        settings = {**REPLAY, "fsync": fsync, "port": target.port, "unix_socket_directories": target.socket_dir}
        f.write("".join("%s = '%s'\n" % item for item in settings.items()))
    began = time.monotonic()
    target.run("pg_ctl", "start", "-D", target.datadir, "-l", target.log_path, "-s", "-W")
    wait_for("the replay to end", lambda: answers(target), 600)
    replayed = time.monotonic() - began
    target.pid = target.postmaster_pid()
    subprocess.run(["sync", "-f", target.datadir], check=True)
    synced = time.monotonic() - began - replayed
    check_sum(target.conninfo("bench", "postgres"), wanted)
    target.stop("immediate")
    return restored, replayed, synced


def answers(target):
    """Without hot_standby it does when it takes writes."""
    with contextlib.suppress(psycopg2.OperationalError):
        return target.value("SELECT NOT pg_is_in_recovery()")
    return False


def recover_local(box, name, directory, wanted):
    """Seconds of the whole command, and of its phases. The directory stays."""
    os.sync()
    try:
        began = time.monotonic()
        found = box.recover(name, "--local", directory, timeout=900)
        seconds = time.monotonic() - began
        if not found["verified"]:
            raise RuntimeError("the recovery was not verified")
        check_sum(found["conninfo"], wanted)
    finally:
        box.stop_target(directory)
    return seconds, {p["name"]: p["seconds"] for p in found["phases"]}


def check_sum(conninfo, wanted):
    """Both must have come to the end."""
    with contextlib.closing(psycopg2.connect(conninfo)) as c, c.cursor() as cur:
        cur.execute("SELECT sum(abalance) FROM public.pgbench_accounts")
        if cur.fetchone()[0] != wanted:
            raise RuntimeError("what was restored is not what was there at the end")


# -- recovery of many tables with indexes

TABLE = """
CREATE TABLE t{n} (id bigint PRIMARY KEY, ref uuid NOT NULL, customer int NOT NULL, name text NOT NULL, mail text, created timestamptz NOT NULL,
    amount numeric(12,2), note text);
INSERT INTO t{n} SELECT i, h::uuid, abs(hashint4(i + {n})) % 20000, initcap(substr(h, 1, 7)), substr(h, 3, 9) || '@example.org',
    timestamptz '2024-01-01 00:00:00Z' + i * interval '1.37 s', i % 99991 / 100.0, substr(h, 5) || substr(h, 1, 9)
    FROM (SELECT i, md5('{n}:' || i) h FROM generate_series(1, {rows}) i) s;
CREATE INDEX ON t{n} (customer);
CREATE INDEX ON t{n} (created);
CREATE UNIQUE INDEX ON t{n} (ref);
"""
TABLE_ROW_BYTES = 256 # with its share of the indexes


def bench_tables():
    runs = max(1, RUNS - 1)
    with make_source(SOURCE, "bench") as server:
        rows = TABLES_MB * 1000000 // TABLES // TABLE_ROW_BYTES
        note(f"{TABLES} tables of {rows} rows")
        makers = []
        for half in (0, 1):
            sql = "".join(TABLE.format(n=n, rows=rows) for n in range(half, TABLES, 2))
            makers.append(subprocess.Popen(server.command("psql", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", "-d", "bench", "-q", "-X",
                                                          "-v", "ON_ERROR_STOP=1", "-c", sql), cwd="/", stdin=subprocess.DEVNULL))
        if any([maker.wait(900) for maker in makers]):
            raise RuntimeError("the tables could not be made")
        server.sql("CHECKPOINT")
        size = server.value("SELECT pg_database_size('bench')")
        dump = os.path.join(server.root, "dump")
        pg_dump(server, dump)
        with make_box(server, "many", "bench") as box:
            box.start().wait_snapshots("many", 1, 300)
            box.stop()
            server.stop()
            peer, ours, verify, phases = restore_in_turns(box, "many", dump, runs)
    middle = sorted(range(runs), key=lambda i: ours[i])[runs // 2]
    result(f"recovery of {size / 1e9:.1f} GB in {TABLES} tables with 4 indexes each, without verification / pg_restore -j2", median(ours) / median(peer), 0.9, "x",
           f"[{median(ours):.2f} s / {median(peer):.2f} s; {runs} runs; with verification {(median(ours) + median(verify)) / median(peer):.2f}x; Salvor's holds "
           "ANALYZE, which pg_restore does not do; phases: " + ", ".join(f"{k} {v:.1f} s" for k, v in phases[middle].items()) + "]")


# -- one huge transaction: from its commit to durable, memory, with capture killed in the middle, in a recovery's window

def peak_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


def slot_figures(server):
    return dict(zip(("spilled", "streamed"), server.sql("SELECT spill_bytes, stream_bytes FROM pg_stat_replication_slots")[0]))


def until_durable(server, end):
    """Seconds until the server has been told that this position is durable in the spool."""
    began = time.monotonic()
    with contextlib.closing(server.connect("huge")) as c, c.cursor() as cur:
        while True:
            cur.execute("SELECT 1 FROM pg_stat_replication WHERE write_lsn >= %s::pg_lsn", (end,))
            if cur.fetchone():
                return time.monotonic() - began
            if time.monotonic() - began > 300:
                raise RuntimeError(f"{end} is not durable after 300 s")
            time.sleep(0.02)


def huge_transaction(server, sql, meanwhile=None):
    """Seconds of the transaction, and from the return of its COMMIT to durable."""
    with contextlib.closing(server.connect("huge")) as c, c.cursor() as cur:
        began = time.monotonic()
        cur.execute("BEGIN")
        other = threading.Thread(target=meanwhile) if meanwhile else None
        if other:
            other.start()
        cur.execute(sql)
        if other:
            other.join()
        cur.execute("COMMIT")
        took = time.monotonic() - began
        cur.execute("SELECT pg_current_wal_insert_lsn()::text")
        return took, until_durable(server, cur.fetchone()[0])


def checksum(connection):
    with connection.cursor() as cur:
        cur.execute("SELECT count(*), sum(hashtextextended(h::text, 0)::numeric) FROM huge h")
        return cur.fetchone()


def recovery_memory(server, box):
    """Peak memory of `salvor recover` alone; what it made is compared."""
    server.sql("CREATE DATABASE recovered")
    process = box.spawn("recover", "huge", "--to", "latest", "--into", server.conninfo("recovered", "postgres", tcp=True))
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            peak = max(peak, peak_mib(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"recover: {box.root}/spawned.log")
    with contextlib.closing(server.connect("recovered")) as a, contextlib.closing(server.connect("huge")) as b:
        if checksum(a) != checksum(b):
            raise RuntimeError("the recovered table is not the source's")
    return peak


def bench_huge():
    # The server's default for the five million, and as much less for fewer.
    with make_source({**SOURCE, "logical_decoding_work_mem": f"{max(64, 65536 * HUGE // 5000000)}kB"}, "huge") as server:
        server.sql("CREATE TABLE huge (id bigint PRIMARY KEY, n int NOT NULL, at timestamptz NOT NULL, name text, mail text)", dbname="huge")
        with make_box(server, "huge", "huge") as box:
            with capturing(box, "huge") as capture:
                box.ok("snapshot", "huge")
                took, wait = huge_transaction(server, f"INSERT INTO huge SELECT i, i % 1000, now(), md5(i::text), left(md5((i * 7)::text), 12) || '@example.org' FROM generate_series(1, {HUGE}) i")
                note(f"one INSERT of {HUGE} rows: {took:.1f} s; {slot_figures(server)}")
                result(f"one transaction of {HUGE} rows: COMMIT to durable", wait, 3, " s", f"[the transaction took {took:.1f} s]")
                result("capture's memory meanwhile", peak_mib(capture.pid), 128, " MiB", "[peak resident, from its start]")
            killed_in_the_middle(server, box)
            result(f"recovery's memory with two transactions of {HUGE} rows in the window", recovery_memory(server, box), 512, " MiB", "[peak resident; the same content as the source]")


def killed_in_the_middle(server, box):
    """The same again as an UPDATE: capture is killed when the server has streamed a part of it."""
    before = slot_figures(server)
    peaks = []

    def kill_and_start():
        wait_for("a part to be streamed", lambda: slot_figures(server)["streamed"] > before["streamed"] + HUGE * 40, 300)
        first.kill()
        first.wait()
        peaks.append(box.spawn("role", "capture", "huge"))

    first = box.spawn("role", "capture", "huge")
    box.wait_streaming("huge")
    took, wait = huge_transaction(server, "UPDATE huge SET n = n + 1", kill_and_start)
    after = slot_figures(server)
    second = peaks[0]
    note(f"{HUGE} updates, {took:.1f} s, capture killed in the middle: durable {wait:.1f} s after COMMIT; the server sent all of it again and "
         f"spilled {(after['spilled'] - before['spilled']) >> 20} MiB")
    result("capture's memory, killed in the middle of the transaction", peak_mib(second.pid), 128, " MiB", "[peak resident, of the process after the kill]")
    second.send_signal(signal.SIGTERM)
    second.wait(60)


# -- changes past a schema change, against the same changes row by row

CHANGED = f"""CREATE TABLE account (id bigint PRIMARY KEY, balance int NOT NULL, filler text NOT NULL);
INSERT INTO account SELECT i, 0, repeat('x', 80) FROM generate_series(1, {CHANGED_ROWS}) i;"""
CHANGES = {"inserts": ("INSERT INTO account SELECT i, i, 'inserted ' || i, i FROM generate_series({0}, {1}) i;", "INSERT INTO account VALUES ({0}, {0}, 'inserted {0}', {0});", 10000000),
           "updates": ("UPDATE account SET balance = balance + 1, later = id WHERE id BETWEEN {0} AND {1};", "UPDATE account SET balance = balance + 1, later = {0} WHERE id = {0};", 1)}
CHANGES_A_TRANSACTION = 1000
ROW_BY_ROW = min(CHANGED_ROWS, 100000)


def run_file(server, dbname, lines):
    path = script_file(server, "".join(lines))
    began = time.monotonic()
    server.run("psql", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", "-d", dbname, "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", path, timeout=900)
    return time.monotonic() - began


def change(server, kind):
    statement, _, first = CHANGES[kind]
    run_file(server, "changed", (statement.format(at, at + CHANGES_A_TRANSACTION - 1) + "\n" for at in range(first, first + CHANGED_ROWS, CHANGES_A_TRANSACTION)))


def row_by_row(kind):
    """Rows a second of psql on one connection, one statement a row, CHANGES_A_TRANSACTION of them a transaction, into a server as the recoveries have."""
    _, statement, first = CHANGES[kind]
    with PgServer(parent=PARENT) as target:
        target.start(TARGET)
        target.sql(CHANGED + "ALTER TABLE account ADD COLUMN later int")
        return ROW_BY_ROW / run_file(target, "postgres", ("BEGIN;" + "".join(statement.format(i) for i in range(at, at + CHANGES_A_TRANSACTION)) + "COMMIT;\n"
                                                         for at in range(first, first + ROW_BY_ROW, CHANGES_A_TRANSACTION)))


def recovered_s(box, to):
    with PgServer(parent=PARENT) as target:
        target.start(TARGET)
        target.sql("CREATE DATABASE restored")
        began = time.monotonic()
        box.recover("changed", "--to", to, "--into", target.conninfo("restored", "postgres", tcp=True), timeout=900)
        return time.monotonic() - began


def bench_changed():
    """Salvor applies no changes behind a schema change: it merges them, as ever. Counted is the whole recovery, from the start of the command to verified."""
    with make_source(SOURCE, "changed") as server:
        server.sql(CHANGED, dbname="changed")
        with make_box(server, "changed", "changed") as box:
            box.start().wait_snapshots("changed", 1, 300)
            server.sql("ALTER TABLE account ADD COLUMN later int", dbname="changed")
            position = lambda: server.value("SELECT pg_current_wal_insert_lsn()::text")
            positions = [position()]
            box.wait("the change to be crossed", lambda: box.run_command("recover", "changed", "--to", positions[0], "--dry-run").status == 0)
            for kind in CHANGES:
                change(server, kind)
                positions.append(position())
            box.wait_durable("changed", positions[-1], 120)
            box.stop()
            server.stop()
            times = [median([recovered_s(box, p) for _ in range(RUNS)]) for p in positions]
    for i, kind in enumerate(CHANGES):
        ours, peer = CHANGED_ROWS / times[i + 1], median([row_by_row(kind) for _ in range(RUNS)])
        result(f"{kind} behind a schema change, merged: rows a second of the whole recovery", ours / 1000, 100, " thousand",
               f"[{CHANGED_ROWS} {kind}, {times[i + 1]:.2f} s; {times[i]:.2f} s without them]", more_is_better=True)
        result("against one statement a row on one connection", ours / peer, 10, "x", f"[{peer / 1000:.1f} thousand rows a second]", more_is_better=True)


def main():
    which = sys.argv[2:] or [m for m in MEASURES if m != "seal"]  # it is part of the drain
    unknown = set(which) - set(MEASURES)
    if unknown:
        sys.exit(f"not a measurement: {' '.join(unknown)}; there are: {' '.join(MEASURES)}")
    began = time.monotonic()
    failed = []
    for measure, run in (("drain", bench_drain), ("seal", bench_seal), ("latency", bench_latency), ("pgbench", lambda: bench_pgbench(which)), ("verify", bench_verify),
                         ("encryption", bench_encryption), ("idle", bench_idle),
                         ("updates", bench_updates), ("tables", bench_tables), ("huge", bench_huge), ("changed", bench_changed),
                         ("s3", lambda: bench_s3(result, note, RUNS, PARENT))):
        if measure not in which and not (measure == "pgbench" and {"snapshot", "recovery"} & set(which)):
            continue
        print(f"== {measure}", flush=True)
        try:
            run()
        except (AssertionError, RuntimeError, OSError, KeyError, subprocess.SubprocessError) as e:
            failed.append(f"{measure}: NOT MEASURED: {e}")
            print(failed[-1], flush=True)
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), "unknown processor")
    print(f"\nbench: {os.cpu_count()} cores of {model}, load before the end {os.getloadavg()[2]:.1f}, medians of {RUNS} runs, "
          f"{time.monotonic() - began:.0f} s in all")
    for line in report + failed:
        print(f"  {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
