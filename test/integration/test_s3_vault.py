"""Everything that works on disk, on a real Ceph gateway: init, capture, ship, snapshot, verify, recover, status; and what happens while the
store loses a disk, is gone, full, or refuses us, and while what is sent to it or comes from it is damaged on its way."""
import bisect
import datetime
import os
import threading
import time

import pytest
from cephserver import CephServer
from faultproxy import FaultProxy, flipped
from s3vault import INSERT, Bucket, add_rows, assert_recovers, keys_file, protect_in
from salvorbox import parse_lsn

pytestmark = pytest.mark.xdist_group("ceph")
OUTAGE_S = 60 if os.environ.get("SALVOR_SOAK") else 12


def wait_error(box, *words, timeout=60):
    """Until status or, sooner than status warns of a vault, the log says all of these in one sentence."""
    def said():
        status = box.status()
        sentences = [status["error"] or "", status["warning"] or "", *box.log_text().splitlines()]
        return next((text for text in sentences if all(w in text for w in words)), None)
    return box.wait(f"status or log to say {words}", said, timeout)


def test_everything_in_a_bucket(ceph, servers, boxes, tmp_path):
    bucket = Bucket(ceph, tmp_path)
    uid, access, secret = bucket.uid, bucket.access, bucket.secret
    server, box = protect_in(bucket, servers, boxes)
    marks = []
    for _ in range(3):
        marks.append(add_rows(server))
        box.wait_vault("shop", marks[-1][0])
    assert "all as it was written" in box.ok("verify").out
    assert_recovers(box, box.root / "middle", *marks[1])

    # Refused, then let in again: one sentence, the backlog is shipped, nothing is lost.
    ceph.admin("user", "suspend", f"--uid={uid}")
    refused = add_rows(server)
    wait_error(box, "refuses the credentials", "UserSuspended")
    box.wait_durable("shop", refused[0])
    ceph.admin("user", "enable", f"--uid={uid}")
    box.wait_vault("shop", refused[0])
    box.wait("no error", lambda: not box.status()["error"])

    # Renewed keys count at once.
    ceph.admin("key", "create", f"--uid={uid}", "--key-type=s3", f"--access-key={access}N", f"--secret={secret}N")
    ceph.admin("key", "rm", f"--uid={uid}", "--key-type=s3", f"--access-key={access}")
    renewed = add_rows(server)
    wait_error(box, "InvalidAccessKeyId", "renew")
    keys_file(bucket.keys, access + "N", secret + "N")
    box.wait_vault("shop", renewed[0])

    # A quota that is used up.
    ceph.admin("quota", "set", "--quota-scope=user", f"--uid={uid}", "--max-objects=1")
    ceph.admin("quota", "enable", "--quota-scope=user", f"--uid={uid}")
    full = add_rows(server)
    wait_error(box, "quota", "is used up")
    ceph.admin("quota", "disable", "--quota-scope=user", f"--uid={uid}")
    box.wait_vault("shop", full[0])
    box.stop()
    assert_recovers(box, box.root / "end", *full)
    assert "all as it was written" in box.ok("verify").out
    assert secret not in box.log_text() and secret not in box.ok("status").out


def test_a_bucket_that_is_filled(ceph, servers, boxes, tmp_path):
    """By the quota of the bucket itself: capture goes on into the spool, and what is wrong is said; more room, and all of it arrives."""
    bucket = Bucket(ceph, tmp_path)
    server, box = protect_in(bucket, servers, boxes)
    before = add_rows(server)
    box.wait_vault("shop", before[0])
    # Room for some more objects, so that what fills the bucket is what Salvor puts into it.
    room = len(bucket.objects()) + 2
    ceph.admin("quota", "set", "--quota-scope=bucket", f"--bucket={bucket.name}", f"--max-objects={room}")
    ceph.admin("quota", "enable", "--quota-scope=bucket", f"--bucket={bucket.name}")

    def refused():
        add_rows(server)
        status = box.status()
        return status["state"] == "vault_down" and "quota is used up" in status["vaults"][0]["error"] and status
    told = box.wait("status to say that the quota is used up", refused, 120)["vaults"][0]["error"]
    said = next(line for line in box.log_text().splitlines() if "quota is used up" in line)
    for text in (told, said):
        assert "QuotaExceeded" in text and "raise it" in text and bucket.name in text

    # The source is followed as before, and the exposure to the loss of this host tells what is not in the vault.
    while_full = [add_rows(server) for _ in range(3)]
    box.wait_durable("shop", while_full[-1][0])
    full = box.status()
    assert parse_lsn(full["vault_position"]) < parse_lsn(while_full[0][0]) <= parse_lsn(full["durable_position"])
    assert full["exposure_s"] < full["exposure_host_lost_s"], full
    assert len(bucket.objects()) <= room

    ceph.admin("quota", "disable", "--quota-scope=bucket", f"--bucket={bucket.name}")
    box.wait_vault("shop", while_full[-1][0])
    box.wait("no error", lambda: not box.status()["error"])
    box.stop()
    assert "all as it was written" in box.ok("verify").out
    assert_recovers(box, box.root / "end", *while_full[-1])


class Flipper(FaultProxy):
    """Flips a bit in the middle of the first body that is put under a name, and of the first that comes from it."""

    def __init__(self, port):
        super().__init__(port)
        self.met, self.put_answers, self.came_damaged = set(), {}, 0

    def is_first(self, method, path):
        with self.lock:
            first = (method, path) not in self.met
            self.met.add((method, path))
            return first

    def forward(self, method, path, headers, body):
        if "?" in path or method not in ("GET", "PUT"):
            return super().forward(method, path, headers, body)
        flip = self.is_first(method, path)
        sent = flipped(body, len(body) // 2) if flip and body else body
        status, answer_headers, data = super().forward(method, path, headers, sent)
        if method == "PUT":
            with self.lock:
                self.put_answers.setdefault(path, []).append((sent != body, status))
        elif flip and status in (200, 206) and data:
            self.came_damaged += 1
            data = flipped(data, len(data) // 2)
        return status, answer_headers, data


@pytest.mark.parametrize("key", [False, True] if os.environ.get("SALVOR_SOAK") else [False])
def test_every_object_is_damaged_once_on_its_way(ceph, servers, boxes, tmp_path, key):
    """There and back: the store refuses what is not what was signed, and it is sent again; what does not have its checksum is read again."""
    bucket = Bucket(ceph, tmp_path)
    with Flipper(ceph.port) as proxy:
        options = {**bucket.options(), "endpoint": proxy.endpoint}
        bucket.options = lambda: options
        server, box = protect_in(bucket, servers, boxes, key=key)
        for _ in range(3):
            mark = add_rows(server)
            box.wait_vault("shop", mark[0])
        box.stop()
        assert not [line for line in box.log_text().splitlines() if "damaged" in line]
        damaged = {path: answers for path, answers in proxy.put_answers.items() if answers[0][0]}
        assert len(damaged) > 10 and all(400 <= answers[0][1] < 500 for answers in damaged.values()), damaged
        objects = {f"/{bucket.name}/{bucket.prefix}/{name}" for name in bucket.objects()}
        assert len(objects & damaged.keys()) > 10 and all((False, 200) in damaged[path][1:] for path in objects & damaged.keys())

        # Each command is a stranger to what was read before it.
        for read in (lambda: "all as it was written" in box.ok("verify").out, lambda: assert_recovers(box, box.root / "there", *mark) is None):
            proxy.met, proxy.came_damaged = set(), 0
            assert read()
            assert proxy.came_damaged > 10


class Writer(threading.Thread):
    """Commits without pause. Its ledger: when each commit was sent and acknowledged, by this clock, and the position after it."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.ended, self.ledger = server, False, []

    def run(self):
        with self.server.connect("shop") as c:
            c.autocommit = True
            with c.cursor() as cur:
                while not self.ended:
                    sent = time.time()
                    cur.execute(INSERT % 20)
                    acked = time.time()
                    cur.execute("SELECT pg_current_wal_insert_lsn()")
                    self.ledger.append((parse_lsn(cur.fetchone()[0]), sent, acked))
                    time.sleep(0.05)

    def end(self):
        self.ended = True
        self.join(60)
        assert not self.is_alive()

    def bounds(self, position, at):
        """Least and most that the exposure can be at that moment, when what is durable ends there."""
        known = bisect.bisect_right(self.ledger, (position, float("inf"), float("inf")))
        assert known > 0
        newest, first_missing = self.ledger[known - 1], self.ledger[known] if known < len(self.ledger) else None
        return (at - first_missing[2] if first_missing else 0.0), at - newest[1]


class Sampler(threading.Thread):
    """Asks `salvor status` again and again; what it said is judged when all is over."""

    def __init__(self, box):
        super().__init__(daemon=True)
        self.box, self.ended, self.samples, self.failure = box, False, [], None

    def run(self):
        try:
            while not self.ended:
                asked = time.time()
                status = self.box.status()
                self.samples.append((asked, time.time(), status))
                time.sleep(0.2)
        except AssertionError as e:
            self.failure = e

    def end(self):
        self.ended = True
        self.join(60)
        assert not self.is_alive() and not self.failure, self.failure


def judge(samples, writer):
    """Both exposures of every sample, against the client's own clock and ledger: right within a second."""
    worst = 0.0
    for asked, answered, status in samples:
        at = datetime.datetime.fromisoformat(status["measured_at"].replace("Z", "+00:00")).timestamp()
        assert asked - 0.1 <= at <= answered + 0.1, (asked, at, answered)
        for exposure, position in (("exposure_s", "durable_position"), ("exposure_host_lost_s", "vault_position")):
            least, most = writer.bounds(parse_lsn(status[position]), at)
            worst = max(worst, least - status[exposure], status[exposure] - most)
            assert least - 1 <= status[exposure] <= most + 1, (exposure, least, most, status)
    return worst


def test_a_disk_and_then_the_store_die_under_load(servers, boxes, tmp_path):
    ceph = CephServer(osds=3, store="bluestore")
    try:
        ceph.start()
        server, box = protect_in(Bucket(ceph, tmp_path), servers, boxes)
        writer = Writer(server)
        writer.start()
        box.wait("some commits", lambda: len(writer.ledger) > 20)

        ceph.kill("osd1")
        lost_disk = add_rows(server)
        box.wait_vault("shop", lost_disk[0])
        assert not box.status()["error"]
        ceph.start_osd(1)

        # The gateway first: what it still holds is not acknowledged. Then everything behind it.
        samplers = [Sampler(box) for _ in range(2)]
        for sampler in samplers:
            sampler.start()
        begun = time.time()
        ceph.kill_all()
        gone = add_rows(server)
        box.wait_durable("shop", gone[0])
        wait_error(box, "does not answer")

        def seen_enough():
            seen = [s for sampler in samplers for s in sampler.samples if begun + 3 < s[0]]
            return len(seen) >= OUTAGE_S / 6 and max(s[2]["exposure_host_lost_s"] for s in seen) > OUTAGE_S * 0.6 and len({s[2]["durable_position"] for s in seen}) > 1
        box.wait("the outage to last, and to be seen", lambda: time.time() - begun > OUTAGE_S and seen_enough())
        during = add_rows(server)
        box.wait_durable("shop", during[0])
        ended = time.time()
        ceph.start_all()
        box.wait_vault("shop", during[0], timeout=180)
        for sampler in samplers:
            sampler.end()
        writer.end()
        position, rows = add_rows(server)
        box.wait_vault("shop", position, timeout=120)
        box.wait("no error", lambda: not box.status()["error"])

        samples = [s for sampler in samplers for s in sampler.samples]
        worst = judge(samples, writer)
        outage = [s for s in samples if begun + 3 < s[0] and s[1] < ended]
        assert len(outage) >= OUTAGE_S / 6, f"{len(outage)} samples of the outage"
        assert max(s[2]["exposure_host_lost_s"] for s in outage) > OUTAGE_S * 0.6
        assert len({s[2]["durable_position"] for s in outage}) > 1, "capture stood still"
        print(f"{len(samples)} samples, {len(outage)} of them within {ended - begun:.0f} s without a store; exposure off by {worst:.3f} s at worst")
        assert box.status()["exposure_host_lost_s"] < 60
        box.stop()
        assert parse_lsn(box.status()["vault_position"]) >= parse_lsn(position)
        assert_recovers(box, box.root / "end", position, rows)
        assert "all as it was written" in box.ok("verify").out
    finally:
        ceph.destroy()
