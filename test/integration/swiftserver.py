"""A throw-away OpenStack Swift with its s3api: one node of each server, in a temporary folder. The store that refuses conditional PUT."""
import pathlib
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

import orphans
from cephserver import IP, s3_request, wait_until
from pgserver import free_port, release_port

PYTHON = "/usr/bin/python3"
ACCESS, SECRET = "test:tester", "testing"
KINDS = ("account", "container", "object")


class SwiftServer:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="salvor-swift-"))
        self.ports = {kind: free_port() for kind in (*KINDS, "proxy", "memcached")}
        self.endpoint = f"http://{IP}:{self.ports['proxy']}"
        self.processes = []

    def _write_storage(self, kind):
        d = self.folder
        (d / "etc" / f"{kind}.conf").write_text(f"""[DEFAULT]
bind_ip = {IP}
bind_port = {self.ports[kind]}
workers = 0
user = root
swift_dir = {d}/etc
devices = {d}/node
mount_check = false
disable_fallocate = true
log_level = WARNING
log_address = {d}/log/none
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {d}/cache
""")

    def _write_proxy(self):
        d = self.folder
        filters = {"cache": f"use = egg:swift#memcache\nmemcache_servers = {IP}:{self.ports['memcached']}",
                   "tempauth": "use = egg:swift#tempauth\nuser_test_tester = testing .admin\nstorage_url_scheme = http",
                   "s3api": "use = egg:swift#s3api\nlocation = us-east-1\ns3_acl = false\nmin_segment_size = 5242880\nauto_create_sub_buckets = true"}
        for name in ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "copy", "slo", "dlo", "versioned_writes", "symlink"):
            filters.setdefault(name, f"use = egg:swift#{name}")
        (d / "etc" / "proxy.conf").write_text(f"""[DEFAULT]
bind_ip = {IP}
bind_port = {self.ports['proxy']}
workers = 0
user = root
swift_dir = {d}/etc
log_level = WARNING
log_address = {d}/log/none
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
""" + "".join(f"[filter:{name}]\n{text}\n" for name, text in filters.items()))

    def _spawn(self, name, *argv):
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self.processes.append(orphans.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

    def _build_rings(self):
        for kind in KINDS:
            def ring(*args):
                subprocess.run(["swift-ring-builder", f"{kind}.builder", *args], cwd=self.folder / "etc", check=True, capture_output=True)
            ring("create", "4", "1", "0")
            ring("add", "--region", "1", "--zone", "1", "--ip", IP, "--port", str(self.ports[kind]), "--device", "d1", "--weight", "1")
            ring("rebalance")

    def _healthy(self, port):
        try:
            return urllib.request.urlopen(f"http://{IP}:{port}/healthcheck", timeout=2).status == 200
        except urllib.error.HTTPError as e:
            return e.code == 400  # a storage server, which knows no such path
        except OSError:
            return False

    def start(self):
        for name in ("etc", "log", "cache", "node/d1"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "etc" / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = salvor1\nswift_hash_path_prefix = salvor2\n"
                                                        "[storage-policy:0]\nname = Policy-0\ndefault = yes\n[swift-constraints]\n")
        for kind in KINDS:
            self._write_storage(kind)
        self._write_proxy()
        self._build_rings()
        self._spawn("memcached", "memcached", "-u", "root", "-l", IP, "-p", str(self.ports["memcached"]), "-U", "0", "-m", "16")
        for kind in KINDS:
            self._spawn(kind, PYTHON, f"/usr/bin/swift-{kind}-server", str(self.folder / "etc" / f"{kind}.conf"), "-v")
        for kind in KINDS:  # a request before they listen makes the proxy avoid them
            wait_until(f"swift {kind}", 60, lambda port=self.ports[kind]: self._healthy(port))
        self._spawn("proxy", PYTHON, "/usr/bin/swift-proxy-server", str(self.folder / "etc" / "proxy.conf"), "-v")
        wait_until("swift proxy", 60, lambda: self._healthy(self.ports["proxy"]))
        return self

    def bucket(self, name):
        status, answer, _ = s3_request(self.endpoint, "PUT", f"/{name}", access=ACCESS, secret=SECRET)
        assert status == 200, answer
        return name

    def destroy(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        for port in self.ports.values():
            release_port(port)
        shutil.rmtree(self.folder, ignore_errors=True)
