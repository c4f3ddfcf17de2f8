"""The s3 driver against real stores: Ceph's gateway (fences), the same with a versioned bucket (ignores), Swift (refuses); and through a
proxy that does one thing wrong at every request in turn."""
import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
import time

import cephserver
import pytest
import swiftserver
from faultproxy import KINDS, FaultProxy
from s3tool import keys_of, run, url
from s3vault import keys_file
from salvorbox import wait_for
from swiftserver import SwiftServer

pytestmark = pytest.mark.xdist_group("ceph")  # one worker: one cluster for all of them
CEPH_ENV = keys_of(cephserver.ACCESS, cephserver.SECRET)
MIB = 1 << 20
SOAK = os.environ.get("SALVOR_SOAK")


@pytest.fixture(scope="session")
def swift():
    server = SwiftServer()
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """name: (path, what get answers)"""
    folder = tmp_path_factory.mktemp("content")
    made = {}
    for name, size in (("empty", 0), ("one", 1), ("small", 5000), ("other", 5000), ("middle", 20 * MIB + 7), ("large", 33 * MIB + 11)):
        block = hashlib.sha256(name.encode()).digest()
        data = (block * (size // 32 + 1))[:size]
        data = data[:-8] + name.encode()[:5].ljust(8) if size >= 8 else data
        path = folder / name
        path.write_bytes(data)
        made[name] = (path, f"ok {size} {hashlib.sha256(data).hexdigest()}")
    return made


def stores(request):
    """(place, environment, what the probe finds)"""
    kind = request.param
    if kind == "swift":
        server = request.getfixturevalue("swift")
        return (url(server.endpoint, server.bucket("probed"), "v a/ult".replace(" ", "")), keys_of(swiftserver.ACCESS, swiftserver.SECRET),
                "ok atomic=1 condition=3 claims=1 versioned=0")
    server = request.getfixturevalue("ceph")
    versioned = kind == "ceph versioned"
    found = "ok atomic=1 condition=2 claims=1 versioned=1" if versioned else "ok atomic=1 condition=1 claims=0 versioned=0"
    return url(server.endpoint, server.bucket(versioned=versioned), "a/b"), CEPH_ENV, found


@pytest.fixture(params=["ceph", "ceph versioned", "swift"])
def store(request):
    return stores(request)


def test_all_that_a_driver_promises(store, files):
    place, env, found = store
    many = [f"many/{i:04}" for i in range(20)]
    script = [
        (f"put a/small {files['small'][0]}", "ok"),
        (f"put a/small {files['other'][0]}", "EXISTS"),
        ("get a/small", files["small"][1]),
        (f"put a/empty {files['empty'][0]}", "ok"),
        ("get a/empty", files["empty"][1]),
        ("size a/empty", "ok 0"),
        (f"put a/one {files['one'][0]}", "ok"),
        ("get a/one", files["one"][1]),
        (f"upload a-b/middle {files['middle'][0]}", "ok"),
        (f"upload a-b/middle {files['small'][0]}", "EXISTS"),
        ("get a-b/middle", files["middle"][1]),
        (f"upload a-b/large {files['large'][0]}", "ok"),
        (f"upload a-b/large {files['large'][0]}", "EXISTS"),
        ("get a-b/large", files["large"][1]),
        (f"size a-b/large", f"ok {33 * MIB + 11}"),
        ("range a-b/large 0 1", "ok 1 " + hashlib.sha256(files["large"][0].read_bytes()[:1]).hexdigest()),
        (f"range a-b/large {33 * MIB} 11", "ok 11 " + hashlib.sha256(files["large"][0].read_bytes()[-11:]).hexdigest()),
        (f"range a-b/large 5 {20 * MIB}", f"ok {20 * MIB} " + hashlib.sha256(files["large"][0].read_bytes()[5:5 + 20 * MIB]).hexdigest()),
        (f"range a-b/large {33 * MIB} 12", "CORRUPT"),
        (f"range a-b/large {99 * MIB} 1", "CORRUPT"),
        ("range a/empty 0 0", f"ok 0 {hashlib.sha256(b'').hexdigest()}"),
        ("get a/gone", "NOT_FOUND"), ("size a/gone", "NOT_FOUND"), ("range a/gone 0 1", "NOT_FOUND"),
        ("list a/", "ok a/empty:0 a/one:1 a/small:5000"),
        ("list", f"ok a-b/large:{33 * MIB + 11} a-b/middle:{20 * MIB + 7} a/empty:0 a/one:1 a/small:5000"),
        ("names", "ok a-b/ a/"), ("names a/", "ok empty one small"), ("list nothing/", "ok"), ("names nothing/", "ok"),
        *((f"upload {key} {files['one'][0]}", "ok") for key in many),
        ("many " + " ".join(many[1:]) + " many/gone", "ok"),
        ("list many/", "ok many/0000:1"),
        ("remove many/0000", "ok"), ("remove many/0000", "ok"), ("list many/", "ok"),
        ("many a/empty a/one a/small a-b/middle a-b/large", "ok"),
        ("list", "ok"),
    ]
    answers = run(place, [line for line, _ in script], env, fence="probe")
    assert answers[0] == found
    for (line, wanted), answer in zip(script, answers[1:]):
        exact = wanted.startswith("ok")
        assert answer == wanted if exact else answer.startswith(wanted + " "), (line, answer)


@pytest.mark.parametrize("kind", ["ceph", "ceph versioned", "swift"])
def test_what_cannot_be_promised_is_said(request, boxes, tmp_path, kind):
    """By init, and by status from then on."""
    if kind == "swift":
        server = request.getfixturevalue("swift")
        keys, bucket = keys_file(tmp_path / "keys", swiftserver.ACCESS, swiftserver.SECRET), server.bucket("claimed")
    else:
        server = request.getfixturevalue("ceph")
        keys, bucket = keys_file(tmp_path / "keys", cephserver.ACCESS, cephserver.SECRET), server.bucket(versioned=kind != "ceph")
    vault = {"driver": "s3", "endpoint": server.endpoint, "bucket": bucket, "credentials_file": keys}
    box = boxes({"shop": {"conninfo": "host=127.0.0.1 port=1 dbname=shop user=nobody", "vault": "west"}}, vaults={"west": vault})
    words = {"ceph": [], "swift": ["refuses conditional writes", "on one host only"],
             "ceph versioned": ["ignores conditional writes", "on one host only", "keeps versions", "lifecycle rule"]}[kind]
    made, again = box.ok("init").out, box.ok("init").out
    shown, told = box.ok("status").out, box.status()["not_promised"]
    for text in (made, again, shown):
        assert ("NOT PROMISED" in text) == bool(words) and all(w in text for w in words), text
    assert list(told) == (["west"] if words else []) and all(w in told["west"] for w in words)


def test_servers_end_with_a_killed_test():
    program = "import sys, orphans; p = orphans.popen(['sleep', '1000'], start_new_session=True); print(p.pid, flush=True); sys.stdin.read()"
    parent = subprocess.Popen(["/usr/bin/python3", "-c", program], cwd=os.path.dirname(__file__), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert os.path.exists(f"/proc/{child}")
    parent.kill()
    parent.wait()
    wait_for("the server to end", lambda: not os.path.exists(f"/proc/{child}") or "\nState:\tZ" in open(f"/proc/{child}/status").read())


def test_lists_of_many_pages(ceph, files):
    place = url(ceph.endpoint, ceph.bucket(), "p")
    keys = sorted(f"k/{i % 7}/{i:05}" for i in range(1100))
    puts = [f"upload {key} {files['one'][0]}" for key in keys]
    shares = [threading.Thread(target=run, args=(place, puts[i::4], CEPH_ENV)) for i in range(4)]
    for t in shares:
        t.start()
    for t in shares:
        t.join()
    listed, names, folder = run(place, ["list k/", "names k/", "names k/3/"], CEPH_ENV)
    assert listed == "ok " + " ".join(f"{key}:1" for key in keys)
    assert names == "ok " + " ".join(f"{i}/" for i in range(7))
    assert folder == "ok " + " ".join(key[4:] for key in keys if key.startswith("k/3/"))
    removed, left = run(place, ["many " + " ".join(keys[:1050]), "list k/"], CEPH_ENV)
    assert removed == "ok" and left == "ok " + " ".join(f"{key}:1" for key in keys[1050:])


# --- what goes wrong on the way ----------------------------------------------------------------------------------------


def small_script(files):
    """Operations and what they answer with a proxy that does nothing wrong."""
    return [(f"put x/a {files['small'][0]}", "ok"), (f"put x/a {files['other'][0]}", "EXISTS"), (f"upload x/b {files['other'][0]}", "ok"),
            ("get x/a", files["small"][1]), ("range x/b 0 5000", files["other"][1]), ("size x/b", "ok 5000"),
            ("list x/", "ok x/a:5000 x/b:5000"), ("names x/", "ok a b"), ("get x/none", "NOT_FOUND"),
            ("remove x/a", "ok"), (f"put x/c {files['one'][0]}", "ok"), ("many x/c x/none", "ok"), ("list x/", "ok x/b:5000")]


# A status that a proxy makes up is not believed where it can be asked again; where it cannot, an error is what is right.
LIES = {"404": ("PROTOCOL", "IO"), "412": ("PROTOCOL",)}


def stored(ceph, bucket, prefix):
    """{key: "ok SIZE HASH"} of what stands there, asked without the driver."""
    status, listing, _ = ceph.request("GET", f"/{bucket}", f"list-type=2&prefix={prefix}%2F")
    assert status == 200, listing
    found = {}
    for key in re.findall(rb"<Key>([^<]*)</Key>", listing):
        status, data, _ = ceph.request("GET", f"/{bucket}/{key.decode()}")
        assert status == 200
        found[key.decode()[len(prefix) + 1:]] = f"ok {len(data)} {hashlib.sha256(data).hexdigest()}"
    return found


def run_faulty(ceph, bucket, script, kind, n, contents):
    """False: the script has fewer than n requests. Nothing that stands there is half-made or wrong, and where all went well it is what was put."""
    prefix = f"{KINDS.index(kind)}-{n}"
    with FaultProxy(ceph.port, kind, n, delay_s=0.3) as proxy:
        answers = run(url(proxy.endpoint, bucket, prefix), [line for line, _ in script], CEPH_ENV)
        met = proxy.done
    lied = next((i for i, a in enumerate(answers) if a.split()[0] in LIES.get(kind, ())), None)
    check_answers(script[:lied], answers[:lied], kind, n, proxy.seen)
    found = stored(ceph, bucket, prefix)
    for key, content in found.items():
        assert content in contents.get(key, ()), (kind, n, key, content, answers)
    if lied is None:
        assert found == {key: wanted[0] for key, wanted in contents.items() if wanted[0]}, (kind, n, answers)
    return met


def check_answers(script, answers, kind, n, seen):
    wrong = [(line, answer) for (line, wanted), answer in zip(script, answers)
             if not (answer == wanted or (not wanted.startswith("ok") and answer.startswith(wanted + " ")))]
    assert not wrong, (kind, n, wrong, seen)


@pytest.mark.parametrize("kind", KINDS if SOAK else [k for k in KINDS if k != "500"])
def test_one_fault_at_every_request(ceph, files, kind):
    bucket = ceph.bucket()
    script = small_script(files)
    # What each key may hold; first what it holds in the end (None: nothing).
    contents = {"x/a": (None, files["small"][1]), "x/b": (files["other"][1],), "x/c": (None, files["one"][1])}
    n = 1
    while run_faulty(ceph, bucket, script, kind, n, contents):
        n += 1
    assert n > len(script)


@pytest.mark.parametrize("kind", KINDS if SOAK else ["cut after", "412"])
def test_one_fault_at_every_request_of_a_large_upload(ceph, files, kind):
    bucket = ceph.bucket()
    script = [(f"upload x/large {files['large'][0]}", "ok"), ("size x/large", f"ok {33 * MIB + 11}")]
    n = 1
    while run_faulty(ceph, bucket, script, kind, n, {"x/large": (files["large"][1],)}):
        n += 1
    assert n > 7


def test_patience_ends(ceph, files):
    bucket = ceph.bucket()
    with FaultProxy(ceph.port) as proxy:
        place = url(proxy.endpoint, bucket)
    begun = time.monotonic()
    answer = run(place, [f"put a {files['small'][0]}"], CEPH_ENV, patience_ms=1500)[0]
    assert answer.startswith("CONNECT ") and "does not answer" in answer and time.monotonic() - begun < 15, answer


def test_the_bucket_in_the_hosts_name(ceph, files):
    place = url(ceph.endpoint.replace("127.0.0.1", "localhost"), ceph.bucket(), "p", style="host")
    assert run(place, [f"put a {files['small'][0]}", "get a", "list"], CEPH_ENV) == ["ok", files["small"][1], "ok a:5000"]


def test_certificates(ceph, files, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    bucket = ceph.bucket()
    with FaultProxy(ceph.port, certificate=(certificate, key)) as proxy:
        good = run(url(proxy.endpoint, bucket, ca_file=certificate), [f"put a {files['small'][0]}", "get a"], CEPH_ENV)
        unknown = run(url(proxy.endpoint, bucket), ["get a"], CEPH_ENV)[0]
        other = run(url(proxy.endpoint.replace("localhost", "127.0.0.1"), bucket, ca_file=certificate), ["get a"], CEPH_ENV)[0]
    assert good == ["ok", files["small"][1]]
    for answer in (unknown, other):
        assert answer.startswith("USAGE ") and "ca_file" in answer, answer


# --- who we are ----------------------------------------------------------------------------------------------------------


class Metadata(http.server.BaseHTTPRequestHandler):
    """IMDSv2 with one role; `sessions` are handed out in turn."""

    def do_PUT(self):
        self.server.paths.append(self.path)
        self.answer(200 if self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") else 400, "t0ken")

    def do_GET(self):
        self.server.paths.append(self.path)
        base = "/latest/meta-data/iam/security-credentials/"
        if self.headers.get("X-aws-ec2-metadata-token") != "t0ken":
            self.answer(401, "")
        elif self.path == base:
            self.answer(200, "backup-role\n")
        elif self.path == base + "backup-role":
            session = self.server.sessions.pop(0) if len(self.server.sessions) > 1 else self.server.sessions[0]
            self.answer(200, json.dumps({"Code": "Success", "Type": "AWS-HMAC", **session}))
        else:
            self.answer(404, "")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


class Recorder(http.server.BaseHTTPRequestHandler):
    """A store that says yes and keeps what it was sent."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.headers.append(dict(self.headers))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def serve(handler, **attributes):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.__dict__.update(attributes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def session(name, seconds):
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return {"AccessKeyId": f"AK{name}", "SecretAccessKey": f"SK{name}", "Token": f"TOKEN{name}==", "Expiration": ends}


def test_sessions_of_the_metadata_address_are_renewed(files):
    metadata, address = serve(Metadata, paths=[], sessions=[session("1", 200), session("2", 3600)])
    store_, endpoint = serve(Recorder, headers=[])
    env = {k: v for k, v in CEPH_ENV.items() if not k.startswith("AWS_")}
    env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = address
    # The first session ends within the five minutes before which it is renewed, the second does not.
    assert run(url(endpoint, "bucket"), [f"put {key} {files['one'][0]}" for key in "abc"], env) == ["ok"] * 3
    tokens = [{k.lower(): v for k, v in h.items()}["x-amz-security-token"] for h in store_.headers]
    assert tokens == ["TOKEN1==", "TOKEN2==", "TOKEN2=="]
    signed = {k.lower(): v for k, v in store_.headers[1].items()}["authorization"]
    assert "Credential=AK2/" in signed and "x-amz-security-token" in signed and metadata.paths.count("/latest/api/token") == 2
    metadata.shutdown()
    answer = run(url(endpoint, "bucket"), ["get a"], {**env, "AWS_EC2_METADATA_DISABLED": "true"}, patience_ms=1000)[0]
    assert answer.startswith("USAGE ") and "credentials_file" in answer
    store_.shutdown()


def test_refusals_say_what_to_do(ceph, files):
    bucket = ceph.bucket()
    place = url(ceph.endpoint, bucket)
    for env, says in ((keys_of("AKNOBODY", "x" * 20), "InvalidAccessKeyId"), (keys_of(cephserver.ACCESS, "hunter2hunter2"), "SignatureDoesNotMatch")):
        answer = run(place, [f"put a {files['one'][0]}"], env)[0]
        assert answer.startswith("IO ") and says in answer and "hunter2" not in answer and "environment" in answer, answer
    ceph.user("AKSTRANGER", "SKstranger")
    answer = run(place, [f"put a {files['one'][0]}"], keys_of("AKSTRANGER", "SKstranger"))[0]
    assert answer.startswith("IO ") and "denies access" in answer, answer
    answer = run(url(ceph.endpoint, "there-is-none"), ["list"], CEPH_ENV)[0]
    assert answer.startswith("IO ") and "there is no bucket there-is-none" in answer, answer
