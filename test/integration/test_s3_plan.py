"""What a plan costs in requests to a bucket: each footer once, by several calls at a time, and no segment read a second time for its digest."""
import collections
import re

import pytest

from conftest import begin, prepare
from s3stub import S3Stub
from s3tool import keys_of

SEGMENTS = 30
ROW = "INSERT INTO t (what) SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 2400)"  # its segment is sealed at once


def in_stub(servers, boxes, stub):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE TABLE t (id bigserial PRIMARY KEY, what text)", dbname="shop")
    box = prepare(server, boxes, segment_size="64KiB")
    box.vaults = {"main": {"driver": "s3", "endpoint": stub.endpoint, "bucket": "bucket", "prefix": "p"}}
    box.env = keys_of("AKSTUB", "SKstub")
    box.write_config()
    begin(server, box)
    return server, box


def segments_of(stub):
    return [key for key in list(stub.objects) if re.search(r"/rows/.*\.seg$", key)]


def fill(server, box, stub, segments):
    """At least so many more: where several rows came into one, further rows."""
    wanted = len(segments_of(stub)) + segments
    while (missing := wanted - len(segments_of(stub))) > 0:
        for _ in range(missing):
            server.sql(ROW, dbname="shop")
        box.wait_vault("shop", server.sql("SELECT pg_current_wal_insert_lsn()", dbname="shop")[0][0])


def test_requests_of_a_plan(servers, boxes):
    with S3Stub() as stub:
        server, box = in_stub(servers, boxes, stub)
        fill(server, box, stub, SEGMENTS)
        box.stop()
        segments = segments_of(stub)
        assert len(segments) >= SEGMENTS
        stub.seen.clear()
        box.ok("recover", "shop", "--dry-run")
        asked = collections.Counter(line.split()[1] for line in stub.seen if ".seg" in line)
        # Small ones come whole with their end, and are kept; a larger one is asked for its end, its header, its block and what stands behind that.
        assert len(asked) <= len(segments) and max(asked.values()) <= 5, asked
        assert sum(asked.values()) <= 4 * len(segments) + 8, asked


@pytest.mark.parametrize("by", ["latest", "time"])
def test_a_purge_beside_a_plan(servers, boxes, by):
    """What lay before the snapshot goes between the plan's listing and its first reading: the plan is made again from what is there. To a time the history is read while it is chosen."""
    with S3Stub() as stub:
        server, box = in_stub(servers, boxes, stub)
        fill(server, box, stub, 5)
        box.ok("snapshot", "shop")
        snapshot = box.status("shop")["snapshots"][-1]["id"].split("-")[0]
        fill(server, box, stub, 3)
        box.stop()
        latest = box.ok("recover", "shop", "--dry-run", "--json").json
        wish = ["--to", latest["reached_commit_time"]] if by == "time" else []
        wanted = box.ok("recover", "shop", "--dry-run", "--json", *wish).json
        assert wanted["reached_position"] == latest["reached_position"]
        old = [key for key in stub.objects if (end := re.search(r"/rows/.*-(\w+)\.seg$", key)) and end[1] < snapshot]
        assert len(old) >= 5, (old, snapshot)

        def purge(key):
            if key in old:
                stub.removed.append(key)
                for k in old:
                    stub.objects.pop(k, None)
        stub.server.removed = []
        stub.server.before_get = purge
        planned = box.ok("recover", "shop", "--dry-run", "--json", *wish).json
        assert stub.removed and planned == {**wanted, "warnings": planned["warnings"]}
