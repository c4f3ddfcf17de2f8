"""Upload and download of 1 GiB against a Ceph gateway on this machine, as a ratio to 8 parallel curl processes with the same total.

One OSD with a memstore: a disk would be what is measured. curl sends UNSIGNED-PAYLOAD, so it hashes nothing; Salvor sends, and Ceph checks, the SHA-256
of every byte. Salvor puts and gets one object (in parts and ranges, 8 at a time), curl 8 objects of an eighth each, into /dev/null; Salvor reads windows
of 128 MiB into memory that it uses again. On a machine with other work on it 8 processes get more of the processors than one with a few threads: the ratio then
says little, unless all of it runs with a priority of its own (nice -n -20).
"""
import os
import pathlib
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


def curl(ceph, path, *args):
    import cephserver
    return subprocess.Popen(["curl", "-sS", "-f", "-m", "300", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{cephserver.ACCESS}:{cephserver.SECRET}",
                             "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-o", "/dev/null", *args, f"{ceph.endpoint}{path}"])


def curls(ceph, bucket, run, args_of):
    began = time.monotonic()
    running = [curl(ceph, f"/{bucket}/curl-{run}-{i}", *args_of(i)) for i in range(CURLS)]
    if any(p.wait() for p in running):
        raise RuntimeError("curl failed")
    return time.monotonic() - began


def salvor(tool, place, operation, env):
    began = time.monotonic()
    done = subprocess.run([str(tool), place, "fenced", "60000"], input=operation + "\n", text=True, capture_output=True, env=env, timeout=600)
    if not done.stdout.startswith("ok"):
        raise RuntimeError(done.stdout + done.stderr)
    return time.monotonic() - began


def measure(ceph, tool, folder, runs, note):
    from cephserver import ACCESS, SECRET
    env = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    bucket = ceph.bucket("bench")
    place = f"s3://{bucket}/salvor?endpoint={ceph.endpoint}"
    whole, part = folder / "whole", folder / "part"
    block = os.urandom(MIB)
    whole.write_bytes(b"".join(block[i % MIB:] + block[:i % MIB] for i in range(TOTAL // MIB)))
    part.write_bytes(whole.read_bytes()[:TOTAL // CURLS])
    times = {"upload": ([], []), "download": ([], [])}
    for run in range(runs + 1):
        turn = [curls(ceph, bucket, run, lambda i: ["-T", str(part)]), salvor(tool, place, f"upload whole-{run} {whole}", env),
                curls(ceph, bucket, run, lambda i: []), salvor(tool, place, f"fetch whole-{run}", env)]
        note("curl up {:.2f} s, salvor up {:.2f} s; curl down {:.2f} s, salvor down {:.2f} s{}".format(*turn, "" if run else " (warm-up, not counted)"))
        for (peer, ours), pair in zip(times.values(), (turn[:2], turn[2:])) if run else ():
            peer.append(pair[0])
            ours.append(pair[1])
        salvor(tool, place, f"remove whole-{run}", env)
        for i in range(CURLS):
            ceph.request("DELETE", f"/{bucket}/curl-{run}-{i}")
    return times


def bench_s3(result, note, runs, parent):
    from cephserver import CephServer
    tool = build_tool()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="salvor-bench-s3-", dir=parent))
    ceph = CephServer(bytes_max=16 << 30)
    try:
        ceph.start()
        for name, (peer, ours) in measure(ceph, tool, folder, runs, note).items():
            peer_s, ours_s = min(peer), statistics.median(ours)
            result(f"s3 {name} of {TOTAL // MIB} MiB, time / the best of {CURLS} curls", ours_s / peer_s, 1.11, "",
                   f"[salvor {TOTAL / MIB / ours_s:.0f} MiB/s, curl {TOTAL / MIB / peer_s:.0f} MiB/s at best; Ceph with one memstore OSD on this machine; "
                   f"salvor sends SHA-256, curl none]")
    finally:
        ceph.destroy()
        shutil.rmtree(folder, ignore_errors=True)
