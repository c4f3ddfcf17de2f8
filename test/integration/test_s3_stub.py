"""The s3 driver against a store in memory (s3stub.py): what a real one cannot be made to do, and faults at every request of what costs many of them."""
import concurrent.futures
import contextlib
import os
import socket
import threading
import time

import pytest
from faultproxy import KINDS, FaultProxy
from s3stub import S3Stub
from s3tool import keys_of, run, url
from test_s3 import Metadata, Recorder, serve, session

pytestmark = pytest.mark.timeout(600)
ENV = keys_of("AKSTUB", "SKstub")
SOAK = os.environ.get("SALVOR_SOAK")
# What is not tried again: an answer that a proxy made up, where nothing tells it from the store's.
LIES = {"404": ("PROTOCOL", "IO"), "412": ("PROTOCOL",)}


def kinds(*few):
    return KINDS if SOAK else list(few)


def faults(stub_options, fill, script, kind, fence="fenced", first=1, last=None, after=None):
    """The script once for each of its requests, with that fault at it. Returns how many requests it had. after(stub, lied): what stands then."""
    n = first
    while True:
        with S3Stub(**stub_options) as stub:
            stub.fill(fill)
            with FaultProxy(stub.port, kind, n, delay_s=0.2) as proxy:
                answers = run(url(proxy.endpoint, "bucket", "p"), [line for line, _ in script], ENV, fence=fence)
                met = proxy.done
            lied = next((i for i, a in enumerate(answers) if a.split()[0] in LIES.get(kind, ())), None)
            for (line, wanted), answer in list(zip(script, answers))[:lied]:
                assert answer == wanted or (not wanted.startswith("ok") and answer.startswith(wanted + " ")), (kind, n, line, answer, proxy.seen)
            if after:
                after(stub, lied is not None)
            if not met:
                return n - 1
            n += 1
            if last and n > last:
                return last


@contextlib.contextmanager
def silent():
    """Accepts every connection, and says nothing for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                held.append(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for s in held:
            s.close()


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b"1")
    return path


def test_a_silent_store_ends_by_the_deadline(one):
    """Every kind of call, each within its patience of two seconds and what a loaded machine adds; not the 20 s after which a transfer counts as stalled."""
    operations = [f"put a {one}", f"upload a {one}", "get a", "range a 0 1", "size a", "list", "names", "remove a", "many a b"]
    with silent() as endpoint:
        def ask(line):
            begun = time.monotonic()
            return line, *run(url(endpoint, "bucket"), [line], ENV, patience_ms=2000), time.monotonic() - begun

        with concurrent.futures.ThreadPoolExecutor(len(operations)) as pool:
            for line, answer, seconds in pool.map(ask, operations):
                assert answer.startswith("TIMEOUT cannot ") and "the store at 127.0.0.1" in answer and "does not answer" in answer, (line, answer)
                assert seconds < 18, (line, answer, seconds)


@pytest.mark.parametrize("kind", kinds("cut after", "404"))
def test_claims(one, kind):
    """On a store that does not fence: whichever request goes wrong, who was told that the object is stored stored it, and no claim stays."""
    script = [(f"put x/a {one}", "ok"), (f"put x/a {one}", "EXISTS"), ("list x/", "ok x/a:1")]

    def after(stub, lied):
        standing = sorted(k for k in stub.objects if not k.startswith("p/tmp/"))
        assert standing == ["p/x/a"] or (lied and standing == []), standing
        claims = [k for k in stub.objects if k.startswith("p/tmp/claims/")]
        assert claims == [] or kind in ("404", "412"), claims

    assert faults({"fences": False}, [], script, kind, fence="claims", last=None if SOAK else 10, after=after) >= 10


@pytest.mark.parametrize("fences", [True, False] if SOAK else [True])
@pytest.mark.parametrize("kind", ["cut after", "503"] if SOAK else ["cut after"])
def test_a_probe_finds_the_same(kind, fences):
    """What the store can do does not depend on what goes wrong meanwhile. The race has hundreds of requests; the faults meet those before it."""
    wanted = f"ok atomic=1 condition={1 if fences else 2} claims={0 if fences else 1} versioned=0"
    for n in range(1, 9) if SOAK else [2]:  # the first conditional put is done, and its answer is lost
        with S3Stub(fences=fences) as stub, FaultProxy(stub.port, kind, n) as proxy:
            [found] = run(url(proxy.endpoint, "bucket", "p"), [], ENV, fence="probe")
            assert found == wanted and proxy.done, (kind, n, found, proxy.seen[:12])
            assert [k for k in stub.objects if "/claims/" not in k] == []


@pytest.mark.parametrize("kind", kinds("cut the answer", "corrupt the answer", "404"))
def test_a_list_of_many_pages(kind):
    keys = [f"p/k/{i % 3}/{i:02}" for i in range(23)]
    shown = " ".join(f"{k[2:]}:1" for k in sorted(keys))
    assert faults({"page": 9}, keys, [("list k/", f"ok {shown}"), ("names k/", "ok 0/ 1/ 2/")], kind) >= 4


@pytest.mark.parametrize("kind", kinds("cut after", "corrupt the answer", "503"))
def test_removing_many_with_faults(kind):
    def after(stub, lied):
        assert list(stub.objects) == ["p/k/0"] or lied

    assert faults({}, [f"p/k/{i}" for i in range(6)], [("many k/1 k/2 k/3 k/4 k/5 k/none", "ok"), ("list k/", "ok k/0:1")], kind, after=after) >= 2


@pytest.mark.parametrize("kind,status", [(kind, status) for status in (405, 501) for kind in KINDS] if SOAK else [("cut after", 405), ("404", 501)])
def test_a_store_that_removes_one_by_one(kind, status):
    def after(stub, lied):
        assert list(stub.objects) == ["p/k/0"] or lied
        assert sum(line.startswith("DELETE ") for line in stub.seen) >= 3 or lied

    assert faults({"refuses_many": status}, [f"p/k/{i}" for i in range(4)], [("many k/1 k/2 k/3", "ok"), ("list k/", "ok k/0:1")], kind, after=after) >= 5


def test_objects_that_are_not_removed_are_named():
    """Entries of an answer that is good as a whole: one that passes is asked for again, one that stays is told, one that was gone is as good as removed."""
    with S3Stub() as stub:
        stub.fill([f"p/k/{i}" for i in range(4)])
        place = url(stub.endpoint, "bucket", "p")
        stub.errors.update({"p/k/1": ["InternalError", "SlowDown"], "p/k/2": ["NoSuchKey"]})
        assert run(place, ["many k/1 k/2"], ENV) == ["ok"] and sorted(stub.objects) == ["p/k/0", "p/k/3"]
        stub.errors.update({"p/k/0": ["NoSuchKey"], "p/k/3": ["AccessDenied"]})
        [answer] = run(place, ["many k/0 k/3"], ENV)
        assert answer.startswith("IO cannot remove s3://bucket/p/k/3: the store says AccessDenied"), answer
        stub.errors.update({"p/k/3": ["SlowDown"] * 9})
        [answer] = run(place, ["many k/3"], ENV)
        assert answer.startswith("BUSY cannot remove s3://bucket/p/k/3 now: the store says SlowDown"), answer
        assert len([s for s in stub.seen if s.startswith("POST ")]) == 3 + 1 + 3


# --- credentials from the instance's metadata address ----------------------------------------------------------------------


class Proxy(Recorder):
    """A proxy as the environment names it: the store's requests come here, and nothing else may."""

    def do_PUT(self):
        self.server.paths.append(self.path)
        super().do_PUT()

    def do_GET(self):
        self.server.paths.append(self.path)
        self.send_error(500)


class Hesitant(Metadata):
    """Answers an error to its first request, and cuts its second one."""

    def hesitate(self):
        self.server.asked += 1
        if self.server.asked == 1:
            self.answer(503, "")
        if self.server.asked == 2:
            self.close_connection = True
        return self.server.asked <= 2

    def do_PUT(self):
        return None if self.hesitate() else super().do_PUT()

    def do_GET(self):
        return None if self.hesitate() else super().do_GET()


def metadata_env(address, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and k.lower() not in ("no_proxy", "http_proxy", "all_proxy")}
    return {**env, "AWS_EC2_METADATA_SERVICE_ENDPOINT": address, **more}


def test_the_metadata_address_is_not_asked_by_a_proxy(one):
    metadata, address = serve(Metadata, paths=[], sessions=[session("1", 3600)])
    proxy, proxy_address = serve(Proxy, paths=[], headers=[])
    env = metadata_env(address, http_proxy=proxy_address, ALL_PROXY=proxy_address)
    assert run(url("http://store.invalid:80", "bucket"), [f"put a {one}"], env) == ["ok"]
    assert proxy.paths == ["http://store.invalid:80/bucket/a"] or proxy.paths == ["http://store.invalid/bucket/a"], proxy.paths
    assert len(metadata.paths) == 3 and {k.lower(): v for k, v in proxy.headers[0].items()}["x-amz-security-token"] == "TOKEN1=="
    metadata.shutdown()
    proxy.shutdown()


def test_the_metadata_address_is_asked_again(one):
    metadata, address = serve(Hesitant, paths=[], asked=0, sessions=[session("1", 3600)])
    store, endpoint = serve(Recorder, headers=[])
    assert run(url(endpoint, "bucket"), [f"put a {one}"], metadata_env(address)) == ["ok"]
    assert metadata.asked == 5
    metadata.shutdown()
    store.shutdown()


def test_a_silent_metadata_address(one):
    with silent() as address:
        begun = time.monotonic()
        [answer] = run(url("http://127.0.0.1:9", "bucket"), [f"put a {one}"], metadata_env(address), patience_ms=1000)
        assert answer.startswith("CONNECT there are no credentials for the store") and "does not answer" in answer, answer
        assert time.monotonic() - begun < 20
