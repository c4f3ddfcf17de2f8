"""Upload and download of 1 GiB against a Ceph gateway on this machine, as a ratio to 8 parallel curl processes with the same total.

One OSD with a memstore: a disk would be what is measured. Salvor puts and gets one object (in parts and ranges, 8 at a time), curl 8 objects of an eighth each, into
/dev/null; Salvor reads windows of 128 MiB into memory that it uses again. On a machine with other work on it 8 processes get more of the processors than
one with a few threads: the ratio then says little, unless all of it runs with a priority of its own (nice -n -20).

The peer of the upload is measured in two ways, because with all of it on the same few cores the gateway's own CPU is most of the time:
  unsigned  curl sends UNSIGNED-PAYLOAD: it hashes nothing, and the gateway checks nothing;
  signed    curl sends the SHA-256 of each file, as Salvor sends that of each part, and the gateway compares what arrived with it. That curl cannot compute it
            of a file that it uploads: it was computed before, and that time is not counted against curl. This is the peer that does what Salvor does, but the hashing.
Beside each figure stands the CPU (user and system) of the client's processes and of the store's for that turn: on a machine with other work these are what compares.
"""
import contextlib
import hashlib
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIB = 1 << 20
TOTAL = int(os.environ.get("BENCH_S3_MIB", "1024")) * MIB
CURLS = 8


def build_tool():
    """The driver by itself, as the release is built."""
    folder = ROOT / "build/bench"
    if not (folder / "build.ninja").exists():
        subprocess.run(["meson", "setup", str(folder), "-Dtests=true", "--buildtype=release"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(folder), "test/integration/s3_tool"], check=True, stdout=subprocess.DEVNULL)
    return folder / "test/integration/s3_tool"


def store_cpu_s(ceph):
    """Of the gateway and what is behind it."""
    ticks = 0
    for process in ceph.processes.values():
        with open(f"/proc/{process.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def turn(ceph):
    """Seconds, CPU seconds of the client's processes (which end inside), and of the store."""
    figures, began, before, store = {}, time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN), store_cpu_s(ceph)
    yield figures
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures.update(s=time.monotonic() - began, store_s=store_cpu_s(ceph) - store,
                   cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def curls(ceph, bucket, run, payload, *args):
    import cephserver
    with turn(ceph) as figures:
        running = [subprocess.Popen(["curl", "-sS", "-f", "-m", "300", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{cephserver.ACCESS}:{cephserver.SECRET}",
                                     "-H", f"x-amz-content-sha256: {payload}", "-o", "/dev/null", *args, f"{ceph.endpoint}/{bucket}/curl-{run}-{i}"])
                   for i in range(CURLS)]
        if any([p.wait() for p in running]):
            raise RuntimeError("curl failed")
    return figures


def salvor(ceph, tool, place, operation, env):
    with turn(ceph) as figures:
        done = subprocess.run([str(tool), place, "fenced", "60000"], input=operation + "\n", text=True, capture_output=True, env=env, timeout=600)
        if not done.stdout.startswith("ok"):
            raise RuntimeError(done.stdout + done.stderr)
    return figures


def measure(ceph, tool, folder, runs, note):
    from cephserver import ACCESS, SECRET
    env = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    bucket = ceph.bucket("bench")
    place = f"s3://{bucket}/salvor?endpoint={ceph.endpoint}"
    whole, part = folder / "whole", folder / "part"
    block = os.urandom(MIB)
    whole.write_bytes(b"".join(block[i % MIB:] + block[:i % MIB] for i in range(TOTAL // MIB)))
    part.write_bytes(whole.read_bytes()[:TOTAL // CURLS])
    payload = hashlib.sha256(part.read_bytes()).hexdigest()
    turns = []
    for run in range(runs + 1):
        turns.append({"unsigned": curls(ceph, bucket, run, "UNSIGNED-PAYLOAD", "-T", str(part)),
                      "signed": curls(ceph, bucket, run, payload, "-T", str(part)),
                      "upload": salvor(ceph, tool, place, f"upload whole-{run} {whole}", env),
                      "get": curls(ceph, bucket, run, "UNSIGNED-PAYLOAD"),
                      "download": salvor(ceph, tool, place, f"fetch whole-{run}", env)})
        note("; ".join("{} {s:.2f} s (CPU {cpu_s:.2f} s, store {store_s:.2f} s)".format(name, **t) for name, t in turns[-1].items()) +
             ("" if run else " (warm-up, not counted)"))
        salvor(ceph, tool, place, f"remove whole-{run}", env)
        for i in range(CURLS):
            ceph.request("DELETE", f"/{bucket}/curl-{run}-{i}")
    return turns[1:]


def bench_s3(result, note, runs, parent):
    from cephserver import CephServer
    tool = build_tool()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="salvor-bench-s3-", dir=parent))
    ceph = CephServer(bytes_max=16 << 30)
    try:
        ceph.start()
        turns = measure(ceph, tool, folder, runs, note)
    finally:
        ceph.destroy()
        shutil.rmtree(folder, ignore_errors=True)

    def middle(name, key):
        return statistics.median(t[name][key] for t in turns)

    for ours, peer, what in (("upload", "unsigned", "that send no hash"), ("upload", "signed", "that send each file's hash, computed before"), ("download", "get", "")):
        best = min(t[peer]["s"] for t in turns)
        result(f"s3 {ours} of {TOTAL // MIB} MiB, speed / the best of {CURLS} curls{' ' if what else ''}{what}", best / middle(ours, "s"), 0.9, "x",
               f"[salvor {TOTAL / MIB / middle(ours, 's'):.0f} MiB/s, its CPU {middle(ours, 'cpu_s'):.2f} s, the store's {middle(ours, 'store_s'):.2f} s; curl {TOTAL / MIB / best:.0f} MiB/s at best "
               f"of {len(turns)}, its CPU {middle(peer, 'cpu_s'):.2f} s, the store's {middle(peer, 'store_s'):.2f} s; Ceph with one memstore OSD on this machine]", more_is_better=True)
