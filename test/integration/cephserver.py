"""A throw-away Ceph cluster with an S3 gateway: mon, mgr, OSDs and radosgw of Debian, in a temporary folder, on free ports."""
import datetime
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import orphans
from pgserver import free_port

ACCESS, SECRET = "AKSALVORTEST", "SKsalvortestSKsalvortest"
IP = "127.0.0.1"


def wait_until(what, seconds, probe):
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def s3_request(endpoint, method, path, query="", body=b"", headers=None, access=ACCESS, secret=SECRET, timeout=30):
    """One signed request; returns (status, body, headers). query is canonical: sorted, encoded, '=' on every name."""
    host = urllib.parse.urlparse(endpoint).netloc
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now, **(headers or {})}
    names = ";".join(sorted(signed))
    canonical = "\n".join([method, urllib.parse.quote(path), query, *(f"{n}:{signed[n]}" for n in sorted(signed)), "", names, digest])
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    request = urllib.request.Request(endpoint + urllib.parse.quote(path) + ("?" + query if query else ""), data=body or None,
                                     method=method, headers=signed)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as r:
            return r.status, r.read(), dict(r.headers)
    except urllib.error.HTTPError as e:
        return e.code, e.read(), dict(e.headers)


class CephServer:
    """CephServer(osds=1|3, store="memstore"|"bluestore"). Replication is osds, min_size 1: right for tests only. Its processes end with
    ours, unless outlives."""

    def __init__(self, osds=1, store="memstore", bytes_max=4 << 30, outlives=False):
        self.outlives = outlives
        self.osds, self.store, self.bytes_max = osds, store, bytes_max
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="salvor-ceph-"))
        self.processes = {}
        self.mon_port, self.mon_v1_port, self.port = (free_port() for _ in range(3))
        self.endpoint = f"http://{IP}:{self.port}"
        self.users = set()

    # --- starting and ending ---------------------------------------------------------------------------------------

    def _configuration(self):
        d = self.folder
        return f"""[global]
fsid = {uuid.uuid4()}
mon host = [v2:{IP}:{self.mon_port},v1:{IP}:{self.mon_v1_port}]
public addr = {IP}
cluster addr = {IP}
auth cluster required = none
auth service required = none
auth client required = none
run dir = {d}/run
admin socket = {d}/run/$name.$pid.asok
pid file = {d}/run/$name.pid
log file = {d}/log/$name.log
crash dir = {d}/crash
osd pool default size = {self.osds}
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 1
debug ms = 0/0
[mon]
mon data = {d}/mon
mon cluster log file = {d}/log/cluster.log
auth allow insecure global id reclaim = false
[mgr]
mgr data = {d}/mgr
mgr initial modules =
[osd]
osd data = {d}/osd$id
osd objectstore = {self.store}
bluestore block create = true
bluestore block size = {self.bytes_max}
bluestore block db create = false
bluestore block wal create = false
osd memory target = 939524096
memstore device bytes = {self.bytes_max}
osd crush update on start = true
[client.rgw]
rgw data = {d}/rgw
ms mon client mode = crc
rgw frontends = beast endpoint={IP}:{self.port}
rgw dns name = localhost
rgw enable usage log = false
rgw run sync thread = false
rgw bucket quota ttl = 0
rgw user quota bucket sync interval = 1
rgw override bucket index max shards = 1
log file = {d}/log/rgw.log
"""

    def _run(self, *argv, seconds=60, check=True):
        env = {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}
        r = subprocess.run([argv[0], "-c", str(self.folder / "ceph.conf"), *argv[1:]], capture_output=True, text=True,
                           timeout=seconds, env=env)
        if check and r.returncode:
            raise AssertionError(f"{' '.join(argv)}: {r.stderr[-2000:]}")
        return r.stdout

    def _spawn(self, name, *argv):
        """In the foreground, so that its pid is ours to end."""
        start = subprocess.Popen if self.outlives else orphans.popen
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self.processes[name] = start([argv[0], "-f", "-c", str(self.folder / "ceph.conf"), *argv[1:]], stdout=log, stderr=log,
                                         stdin=subprocess.DEVNULL, start_new_session=True)

    def start(self):
        for name in ("run", "log", "mon", "mgr", "rgw"):
            (self.folder / name).mkdir()
        (self.folder / "ceph.conf").write_text(self._configuration())
        fsid = next(line.split()[-1] for line in (self.folder / "ceph.conf").read_text().splitlines() if line.startswith("fsid"))
        monmap = self.folder / "monmap"
        subprocess.run(["monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a",
                        f"[v2:{IP}:{self.mon_port},v1:{IP}:{self.mon_v1_port}]", str(monmap)], check=True, capture_output=True)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", str(monmap))
        self.start_mon()
        self._run("ceph", "mon", "stat", seconds=120)
        self._spawn("mgr", "ceph-mgr", "-i", "x")
        for i in range(self.osds):
            osd_uuid = str(uuid.uuid4())
            (self.folder / f"osd{i}").mkdir()
            self._run("ceph", "osd", "new", osd_uuid)
            self._run("ceph-osd", "-i", str(i), "--mkfs", "--osd-uuid", osd_uuid, seconds=180)
            self.start_osd(i)
        self.wait_osds(self.osds)
        self.start_rgw()
        self.user(ACCESS, SECRET, uid="salvor")
        return self

    def start_mon(self):
        self._spawn("mon", "ceph-mon", "-i", "a")

    def start_osd(self, i):
        self._spawn(f"osd{i}", "ceph-osd", "-i", str(i))

    def start_rgw(self):
        self._spawn("rgw", "radosgw", "-n", "client.rgw")
        self.wait_answer()

    def wait_osds(self, count, seconds=120):
        wait_until(f"{count} OSDs up", seconds,
                   lambda: json.loads(self._run("ceph", "osd", "stat", "-f", "json") or "{}").get("num_up_osds") == count)

    def wait_answer(self, seconds=120):
        def answers():
            try:
                urllib.request.urlopen(self.endpoint, timeout=5).read()
                return True
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False
        wait_until("radosgw answers", seconds, answers)

    def kill(self, *names):
        """SIGKILL, at the same moment as far as one process can."""
        for name in names:
            self.processes[name].send_signal(signal.SIGKILL)
        for name in names:
            self.processes.pop(name).wait()

    def kill_all(self):
        self.kill(*list(self.processes))

    def start_all(self):
        """After kill_all (not with memstore: its content is gone)."""
        self.start_mon()
        self._run("ceph", "mon", "stat", seconds=120)
        self._spawn("mgr", "ceph-mgr", "-i", "x")
        for i in range(self.osds):
            self.start_osd(i)
        self.start_rgw()

    def destroy(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- users, buckets ----------------------------------------------------------------------------------------------

    def admin(self, *argv):
        return self._run("radosgw-admin", *argv)

    def user(self, access, secret, uid=None):
        uid = uid or f"u{access.lower()}"
        self.admin("user", "create", f"--uid={uid}", f"--display-name={uid}", f"--access-key={access}", f"--secret={secret}")
        self.users.add(uid)
        return uid

    def request(self, method, path, query="", body=b"", headers=None, **options):
        return s3_request(self.endpoint, method, path, query, body, headers, **options)

    def bucket(self, name=None, versioned=False, access=ACCESS, secret=SECRET):
        name = name or f"b-{uuid.uuid4().hex[:12]}"
        status, answer, _ = wait_until("bucket made", 60, lambda: (lambda r: r if r[0] != 503 else None)(
            self.request("PUT", f"/{name}", access=access, secret=secret)))
        assert status == 200, answer
        if versioned:
            body = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>'
            status, answer, _ = self.request("PUT", f"/{name}", "versioning=", body)
            assert status == 200, answer
        return name
