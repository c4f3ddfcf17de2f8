"""Everything that works on disk, on a real Ceph gateway: init, capture, ship, snapshot, verify, recover, status; and what happens while the
store loses a disk, is gone, full, or refuses us."""
import contextlib
import os
import threading
import time

import cephserver
import pytest
from cephserver import CephServer
from conftest import begin
from salvorbox import parse_lsn

pytestmark = pytest.mark.xdist_group("ceph")
INSERT = "INSERT INTO shelf (what) SELECT repeat(md5(random()::text), 20) FROM generate_series(1, %d)"


def keys_file(path, access, secret):
    path.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    path.chmod(0o600)
    return path


def protect_in(ceph, servers, boxes, tmp_path, **options):
    """A protected source whose only vault is a bucket of its own, with a user of its own."""
    access, secret = f"AK{time.monotonic_ns()}", f"SKsecret{time.monotonic_ns()}"
    uid = ceph.user(access, secret)
    bucket = ceph.bucket(access=access, secret=secret)
    keys = keys_file(tmp_path / "keys", access, secret)
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
    server.sql("CREATE TABLE shelf (id bigserial PRIMARY KEY, what text)", dbname="shop")
    server.sql(INSERT % 2000, dbname="shop")
    vault = {"driver": "s3", "endpoint": ceph.endpoint, "bucket": bucket, "prefix": "a/b", "credentials_file": keys}
    settings = {"conninfo": server.conninfo("shop", "salvor", tcp=True), "vault": "west", "rpo": "8s", "heartbeat": "500ms", "poll": "1s",
                "snapshot_schedule": "none", "snapshot_quiet": "1s", "snapshot_spacing": "0s", "probe": "300ms", **options}
    box = boxes({"shop": settings}, vaults={"west": vault})
    begin(server, box)
    return server, box, uid, bucket, keys, (access, secret)


def add_rows(server, count=50):
    """The position after them, and how many rows there are."""
    server.sql(INSERT % count, dbname="shop")
    return server.sql("SELECT pg_current_wal_insert_lsn()", dbname="shop")[0][0], server.sql("SELECT count(*) FROM shelf", dbname="shop")[0][0]


def assert_recovers(box, target, position, rows):
    result = box.recover("shop", "--to", position, "--local", str(target))
    with contextlib.closing(box.recovered(result)) as c, c.cursor() as cur:
        cur.execute("SELECT count(*), count(DISTINCT id) FROM shelf")
        assert cur.fetchone() == (rows, rows)
    box.stop_target(target)


def wait_error(box, *words, timeout=60):
    """Until status or, sooner than status warns of a vault, the log says all of these in one sentence."""
    def said():
        status = box.status()
        sentences = [status["error"] or "", status["warning"] or "", *box.log_text().splitlines()]
        return next((text for text in sentences if all(w in text for w in words)), None)
    return box.wait(f"status or log to say {words}", said, timeout)


def test_everything_in_a_bucket(ceph, servers, boxes, tmp_path):
    server, box, uid, bucket, keys, (access, secret) = protect_in(ceph, servers, boxes, tmp_path)
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
    keys_file(keys, access + "N", secret + "N")
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


class Writer(threading.Thread):
    """Commits without pause; its last acknowledged count and position."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.ended, self.commits, self.last = server, False, 0, None

    def run(self):
        while not self.ended:
            self.last = add_rows(self.server, 20)
            self.commits += 1
            time.sleep(0.05)

    def end(self):
        self.ended = True
        self.join(30)
        return self.last


def check_exposure(box, seconds):
    """While the store is gone, host-lost exposure grows as the clock does, and source-lost stays small."""
    first, begun = box.status(), time.monotonic()
    while time.monotonic() - begun < seconds:
        status = box.status()
        now = time.monotonic() - begun
        assert abs(status["exposure_host_lost_s"] - first["exposure_host_lost_s"] - now) < 1.0, (status, first, now)
        assert status["exposure_s"] < 5, status
        time.sleep(0.5)


def test_a_disk_and_then_the_store_die_under_load(servers, boxes, tmp_path):
    ceph = CephServer(osds=3, store="bluestore")
    try:
        ceph.start()
        server, box, *_ = protect_in(ceph, servers, boxes, tmp_path)
        writer = Writer(server)
        writer.start()
        box.wait("some commits", lambda: writer.commits > 20)

        ceph.kill("osd1")
        lost_disk = writer.last
        box.wait_vault("shop", lost_disk[0])
        ceph.start_osd(1)

        # The gateway first: what it still holds is not acknowledged. Then everything behind it.
        ceph.kill_all()
        gone = writer.last
        box.wait_durable("shop", gone[0])
        wait_error(box, "does not answer")
        check_exposure(box, float(60 if os.environ.get("SALVOR_SOAK") else 12))
        ceph.start_all()
        position, rows = writer.end()
        box.wait_vault("shop", position, timeout=120)
        box.wait("no error", lambda: not box.status()["error"])
        assert box.status()["exposure_host_lost_s"] < 20
        box.stop()
        assert parse_lsn(box.status()["vault_position"]) >= parse_lsn(position)
        assert_recovers(box, box.root / "end", position, rows)
        assert "all as it was written" in box.ok("verify").out
    finally:
        ceph.destroy()
