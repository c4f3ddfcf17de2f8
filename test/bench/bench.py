#!/usr/bin/python3
"""make bench: each figure as a ratio against the named peer, on this machine, in the same run. Medians of several runs.

bench.py SALVOR-PROGRAM [NAME...]: all measurements, or those named (drain latency size memory snapshot recovery). Prints, never fails on a
slow figure; BENCH_SCALE (default 100) sets pgbench's scale, BENCH_RUNS (default 3) the repetitions.
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "integration"))
os.environ["SALVOR"] = str(pathlib.Path(sys.argv[1]).resolve())
from pgserver import PgServer  # noqa: E402
from salvorbox import Salvor, parse_lsn, wait_for  # noqa: E402

SCALE = int(os.environ.get("BENCH_SCALE", "100"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TRANSACTIONS = int(os.environ.get("BENCH_TRANSACTIONS", "400000"))
MORE = int(os.environ.get("BENCH_MORE", "300000"))
TICKS = os.sysconf("SC_CLK_TCK")
# Equal settings for every server that is measured; durable where it is a source.
SOURCE = {"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "max_slot_wal_keep_size": "20GB",
          "autovacuum": "off", "synchronous_commit": "off"}
TARGET = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0",
          "shared_buffers": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "maintenance_work_mem": "512MB", "autovacuum": "off",
          "max_replication_slots": "0", "max_slot_wal_keep_size": "-1"}
report = []


def note(text):
    print(f"  {text}", flush=True)


def result(name, measured, bar, detail):
    line = f"{name}: {measured}  (to reach: {bar})  {detail}"
    report.append(line)
    print(line, flush=True)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid, key="VmRSS"):
    for line in open(f"/proc/{pid}/status", encoding="utf-8"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


# -- the realistic load: uuid, timestamps, json, names

REALISTIC = """
CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref uuid NOT NULL, first_name text, last_name text, mail text,
    born date, created timestamptz NOT NULL, address jsonb, score numeric(10,2), active boolean);
CREATE TABLE names (i int PRIMARY KEY, first_name text, last_name text, city text);
INSERT INTO names SELECT i, (ARRAY['Anna','Ben','Clara','David','Elena','Farid','Greta','Hugo','Ines','Jonas','Katja','Liam','Mara','Noah','Olga','Paul'])[1+i%16],
    (ARRAY['Schmidt','Garcia','Dubois','Rossi','Novak','Jansen','Kowalski','Silva','Larsen','Murphy','Weber','Costa','Moreau','Fischer','Keller','Lopez'])[1+(i/16)%16],
    (ARRAY['Berlin','Madrid','Lyon','Torino','Brno','Utrecht','Gdansk','Porto','Aarhus','Cork'])[1+i%10] FROM generate_series(0, 9999) i;
"""
REALISTIC_SCRIPT = r"""
\set n random(0, 9999)
\set s random(0, 1000000)
INSERT INTO people (ref, first_name, last_name, mail, born, created, address, score, active)
SELECT gen_random_uuid(), first_name, last_name, lower(first_name || '.' || last_name) || :s || '@example.org', date '1940-01-01' + (:s % 25000),
    clock_timestamp(), jsonb_build_object('street', last_name || 'strasse ' || (:s % 200), 'city', city, 'zip', lpad((:s % 99999)::text, 5, '0')),
    (:s % 100000) / 100.0, :n % 2 = 0 FROM names WHERE i = :n;
"""


def pgbench(server, dbname, *args, timeout=1200):
    return server.run("pgbench", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", *args, dbname, timeout=timeout)


def script_file(server, text):
    path = os.path.join(server.root, "script.sql")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o644)
    return path


def make_role(server):
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")


def box_for(server, names, dbname, **options):
    settings = {"conninfo": server.conninfo(dbname, "salvor", tcp=True), "snapshot_schedule": "none", "slot_timeout": "60s", **options}
    box = Salvor({name: dict(settings) for name in names})
    box.ok("init")
    return box


def written_lsn(server, slot):
    text = server.value("SELECT r.write_lsn::text FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = %s",
                        slot)
    return parse_lsn(text) if text else 0


def bench_capture(which):
    """drain, size, memory: a backlog of single-row transactions."""
    with PgServer() as server:
        server.start(SOURCE)
        make_role(server)
        server.sql("CREATE DATABASE load")
        server.sql(REALISTIC, dbname="load")
        names = [f"r{i}" for i in range(RUNS)]
        boxes = [box_for(server, [name], "load", rpo="20s") for name in names]
        for box, name in zip(boxes, names):
            box.ok("setup", name, "--admin", server.conninfo("load", "postgres", tcp=True))
            server.sql("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", f"peer_{name}", dbname="load")
        note(f"writing {TRANSACTIONS} single-row transactions")
        pgbench(server, "load", "-n", "-c", "8", "-j", "2", "-t", str(TRANSACTIONS // 8), "-f", script_file(server, REALISTIC_SCRIPT))
        end = server.value("SELECT pg_current_wal_flush_lsn()::text")
        peer_s, peer_sender, ours_s, ours_cpu, sender_cpu, memory, ratio = [], [], [], [], [], [], []
        for box, name in zip(boxes, names):
            seconds, sender = drain_peer(server, name, end)
            peer_s.append(seconds)
            peer_sender.append(sender)
            seconds, cpu, sender, rss = drain_salvor(server, box, name, end)
            ours_s.append(seconds)
            ours_cpu.append(cpu)
            sender_cpu.append(sender)
            memory.append(rss)
            note(f"run {name}: pg_recvlogical {peer_s[-1]:.2f} s, salvor {ours_s[-1]:.2f} s; salvor's CPU {cpu:.2f} s, walsender's {sender:.2f} s "
                 f"(with pg_recvlogical {peer_sender[-1]:.2f} s), capture's RSS {rss:.0f} MiB")
            if name == names[0]:
                ratio = size_ratio(server, box, name, end)
            box.stop()
            box.destroy()
        m = statistics.median
        result("drain of a backlog, time / pg_recvlogical -f /dev/null", f"{m(ours_s) / m(peer_s):.2f}x", "<= 1.10x",
               f"[{m(ours_s):.2f} s / {m(peer_s):.2f} s]")
        result("drain, Salvor's CPU / the walsender's", f"{m(ours_cpu) / m(sender_cpu):.2f}x", "<= 0.40x", f"[{m(ours_cpu):.2f} s / {m(sender_cpu):.2f} s]")
        result("vault bytes / pgoutput bytes (text)", f"{ratio[0]:.3f}", "<= 0.25", f"[{ratio[1]} / {ratio[2]} bytes; rows of uuid, names, mail, date, timestamptz, jsonb, numeric]")
        result("resident memory of capture", f"{max(memory):.0f} MiB", "<= 64 MiB", "(greatest of the runs, sampled at the end of the drain)")


def drain_peer(server, name, end):
    argv = server.command("pg_recvlogical", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", "-d", "load", "-S", f"peer_{name}", "--start",
                          "-f", "/dev/null", "--endpos", end, "-o", "proto_version=1", "-o", f"publication_names=salvor_{name}_rows,salvor_{name}_keys",
                          "-o", "messages=true", "-n")
    began = time.monotonic()
    process = subprocess.Popen(argv, cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cpu = 0.0
    while process.poll() is None:
        pid = server.value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", f"peer_{name}")
        if pid:
            try:
                cpu = cpu_s(pid)
            except OSError:
                pass
        time.sleep(0.02)
    return time.monotonic() - began, cpu


def drain_salvor(server, box, name, end):
    began = time.monotonic()
    box.start()
    wanted = parse_lsn(end)
    wait_for("the drain", lambda: written_lsn(server, f"salvor_{name}") >= wanted - 1000, 300)
    seconds = time.monotonic() - began
    sender = server.value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", f"salvor_{name}")
    sender_s = cpu_s(sender)
    pid = box.wait("status.json", lambda: (box.state / name / "status.json").exists()) and box.capture_pid(name)
    # Sealing and shipping what was received belongs to the capture's CPU.
    box.wait("the first sealed segments in the vault", lambda: any((box.root / "vault").rglob("*.seg")), 120)
    return seconds, cpu_s(pid), sender_s, rss_mib(pid)


def size_ratio(server, box, name, end):
    plain = server.value("SELECT sum(length(data)) FROM pg_logical_slot_peek_binary_changes(%s, %s, NULL, 'proto_version', '1', 'publication_names', %s, "
                         "'messages', 'true')", undrained_slot(name), end,
                         f"salvor_{name}_rows,salvor_{name}_keys", dbname="load")
    box.wait("everything to be in the vault", lambda: (box.status(name)["vault_position"] or "0/0") and
             parse_lsn(box.status(name)["vault_position"] or "0/0") >= parse_lsn(end) - 1000, 180)
    stored = sum(p.stat().st_size for p in (box.root / "vault").rglob("*.seg"))
    return stored / int(plain), stored, int(plain)


def undrained_slot(name):
    """The peer's slot of the last run has not been drained yet when the first run is measured."""
    return f"peer_r{RUNS - 1}" if RUNS > 1 else f"peer_{name}"


def bench_latency(_which):
    """Commit to durable in the spool at 1,000 commits/s: with Salvor as a synchronous standby a commit returns only then."""
    with PgServer() as server:
        server.start({**SOURCE, "synchronous_commit": "on"})
        make_role(server)
        server.sql("CREATE DATABASE load")
        server.sql(REALISTIC, dbname="load")
        box = box_for(server, ["lat"], "load")
        try:
            box.ok("setup", "lat", "--admin", server.conninfo("load", "postgres", tcp=True))
            box.start()
            box.wait_snapshots("lat")
            figures = {}
            for mode in ("local", "remote_write"):
                server.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
                server.sql(f"ALTER SYSTEM SET synchronous_commit = '{mode}'")
                server.sql("SELECT pg_reload_conf()")
                time.sleep(1)
                prefix = os.path.join(server.root, f"log-{mode}")
                pgbench(server, "load", "-n", "-c", "16", "-j", "1", "-R", "1000", "-T", "20", "-l", "--log-prefix", prefix, "-f",
                        script_file(server, REALISTIC_SCRIPT))
                us = sorted(int(line.split()[2]) - int(line.split()[6] if len(line.split()) > 6 else 0)
                            for p in pathlib.Path(server.root).glob(f"log-{mode}.*") for line in p.read_text().splitlines())
                figures[mode] = (us[len(us) // 2] / 1000, us[int(len(us) * 0.99)] / 1000, us[int(len(us) * 0.999)] / 1000, len(us))
            r, l = figures["remote_write"], figures["local"]
            result("commit -> durable in the spool, p99 at 1,000 commits/s", f"{r[1]:.1f} ms", "<= 25 ms",
                   f"[whole commit with synchronous_commit=remote_write: p50 {r[0]:.1f}, p99 {r[1]:.1f}, p99.9 {r[2]:.1f} ms over {r[3]} commits; "
                   f"local commit alone: p50 {l[0]:.1f}, p99 {l[1]:.1f} ms]")
        finally:
            box.destroy()


def bench_pgbench(which):
    """snapshot and recovery: pgbench at scale 100."""
    with PgServer() as server:
        server.start(SOURCE)
        make_role(server)
        server.sql("CREATE DATABASE bench")
        note(f"pgbench -i -s {SCALE}")
        pgbench(server, "bench", "-i", "-q", "-s", str(SCALE))
        server.sql("CHECKPOINT")
        box = box_for(server, ["bench"], "bench", rpo="20s")
        try:
            box.ok("setup", "bench", "--admin", server.conninfo("bench", "postgres", tcp=True))
            box.start()
            box.wait_snapshots("bench", 1, 120)
            dump = os.path.join(server.root, "dump")
            if "snapshot" in which:
                measure_snapshot(server, box, dump)
            if "recovery" in which:
                measure_recovery(server, box, dump)
        finally:
            box.destroy()


def pg_dump(server, dump):
    shutil.rmtree(dump, ignore_errors=True)
    began = time.monotonic()
    server.run("pg_dump", "-h", server.socket_dir, "-p", str(server.port), "-U", "postgres", "-Fd", "-j2", "-Z1", "-f", dump, "bench", timeout=600)
    return time.monotonic() - began


def measure_snapshot(server, box, dump):
    ours, peer = [], []
    for _ in range(RUNS):
        peer.append(pg_dump(server, dump))
        began = time.monotonic()
        box.ok("snapshot", "bench")
        ours.append(time.monotonic() - began)
        note(f"pg_dump {peer[-1]:.2f} s, salvor snapshot {ours[-1]:.2f} s")
    m = statistics.median
    result(f"snapshot of pgbench scale {SCALE}, time / pg_dump -Fd -j2 -Z1", f"{m(ours) / m(peer):.2f}x", "<= 1.5x", f"[{m(ours):.2f} s / {m(peer):.2f} s]")


def measure_recovery(server, box, dump):
    if not os.path.exists(dump):
        pg_dump(server, dump)
    note(f"{MORE} more pgbench transactions")
    pgbench(server, "bench", "-n", "-c", "8", "-j", "2", "-t", str(MORE // 8))
    end = server.value("SELECT pg_current_wal_flush_lsn()::text")
    box.wait_durable("bench", end, 120)
    box.stop()
    server.stop()
    peer, ours, verify, phases = [], [], [], []
    for _ in range(RUNS):
        with PgServer() as target:
            target.start(TARGET)
            target.sql("CREATE DATABASE peer")
            began = time.monotonic()
            target.run("pg_restore", "-h", target.socket_dir, "-p", str(target.port), "-U", "postgres", "-j2", "-d", "peer", dump, timeout=900)
            peer.append(time.monotonic() - began)
        with PgServer() as target:
            target.start(TARGET)
            target.sql("CREATE DATABASE ours")
            r = box.recover("bench", "--into", target.conninfo("ours", "postgres"), timeout=900)
            seconds = {p["name"]: p["seconds"] for p in r["phases"]}
            verify.append(seconds.get("verify", 0.0))
            ours.append(r["rto_s"] - verify[-1])
            phases.append(seconds)
        note(f"pg_restore {peer[-1]:.2f} s; salvor {ours[-1]:.2f} s + verification {verify[-1]:.2f} s; "
             + ", ".join(f"{k} {v:.2f}" for k, v in phases[-1].items()))
    m = statistics.median
    result(f"recovery of pgbench scale {SCALE} after {MORE} more transactions, time without verification / pg_restore -j2 without them",
           f"{m(ours) / m(peer):.2f}x", "<= 1.0x", f"[{m(ours):.2f} s / {m(peer):.2f} s]")
    result("and its verification on top", f"{m(verify) / m(peer):.2f}x", "<= 0.35x", f"[{m(verify):.2f} s / {m(peer):.2f} s]")


def main():
    which = sys.argv[2:] or ["drain", "latency", "snapshot", "recovery"]
    began = time.monotonic()
    if {"drain", "size", "memory"} & set(which):
        bench_capture(which)
    if "latency" in which:
        bench_latency(which)
    if {"snapshot", "recovery"} & set(which):
        bench_pgbench(which)
    print(f"\nbench: {os.cpu_count()} cores, medians of {RUNS} runs, {time.monotonic() - began:.0f} s")
    for line in report:
        print(f"  {line}")


if __name__ == "__main__":
    main()
