"""Space and pressure: a vault that is down fills the spool to spool_max and no further, a vault with a bandwidth is written to no faster. Nothing is lost by
either, and what `status` tells stays right."""
import bisect
import contextlib
import re
import threading
import time

import pytest
from conftest import begin, prepare
from ledger import OPTIONS, SCHEMA, Load, check_log
from mounts import switchable
from salvorbox import parse_lsn, wait_for
from truth import compare, contents

pytestmark = [pytest.mark.xdist_group("pressure"), pytest.mark.timeout(900)]

MIB = 1 << 20
WIDE = SCHEMA + "CREATE TABLE wide (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);"
HEARTBEAT_S = 0.5


def shop(servers, **conf):
    server = servers({"max_slot_wal_keep_size": "4GB", **conf})
    server.sql("CREATE DATABASE shop")
    server.sql(WIDE, dbname="shop")
    return server


def write_wide(server, mebibytes):
    """A transaction a mebibyte, of text that hardly compresses."""
    with server.connect("shop") as c, c.cursor() as cur:
        for _ in range(mebibytes):
            cur.execute("INSERT INTO wide (v) SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 64) r, generate_series(1, 512) g GROUP BY r")
            c.commit()


def position(server):
    return server.value("SELECT pg_current_wal_insert_lsn()::text")


class Timeline:
    """When each position of the source's log was reached, by the source's clock: what exposure is to be held against."""

    def __init__(self, server):
        self.positions, self.times = [], []
        self.server, self.ending = server, threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        with self.server.connect("shop") as c, c.cursor() as cur:
            c.autocommit = True
            while not self.ending.wait(0.02):
                cur.execute("SELECT pg_current_wal_insert_lsn()::text, extract(epoch FROM clock_timestamp())::float8")
                lsn, at = cur.fetchone()
                self.times.append(at)
                self.positions.append(parse_lsn(lsn))

    def commit_between(self, lsn):
        """(earliest, latest) time of the newest commit at or before lsn, while something commits all the time."""
        known = len(self.times)
        i = bisect.bisect_right(self.positions, lsn, 0, known)
        assert i > 0, "a position from before the timeline"
        return self.times[i - 1] - HEARTBEAT_S, self.times[i] if i < known else time.time()

    def __enter__(self):
        self.thread.start()
        wait_for("the timeline", lambda: self.times)
        return self

    def __exit__(self, *exc):
        self.ending.set()
        self.thread.join(30)


def told_durable(server):
    """What the server was told to be durable on Salvor's host; None: no stream at this moment."""
    found = server.value("SELECT max(write_lsn)::text FROM pg_stat_replication WHERE application_name = 'salvor capture'")
    return parse_lsn(found) if found else None


def in_vault(box):
    """The last commit of the newest segment, from its name."""
    names = [re.fullmatch(r"\d+-\d+-[0-9a-f]+-([0-9a-f]+)\.seg", p.name) for p in (box.root / "vault/sources/shop/0001/rows").iterdir()]
    return max(int(m.group(1)[16:], 16) for m in names if m)


def check_exposure(server, box, timeline):
    """Both figures within a second of what the server was told and of what stands in the vault."""
    before = time.time(), told_durable(server), in_vault(box)
    status = box.status("shop")
    after = time.time(), told_durable(server), in_vault(box)
    for key, i in (("exposure_s", 1), ("exposure_host_lost_s", 2)):
        assert before[i] is not None and after[i] is not None, "no stream"
        least = before[0] - timeline.commit_between(after[i])[1] - 1
        most = after[0] - timeline.commit_between(before[i])[0] + 1
        assert least <= status[key] <= most, f"{key} is {status[key]}, and {least:.2f} to {most:.2f} is right: {status}"
    return status


def spool_bytes(box):
    total = 0
    for path in box.state.glob("shop/*/spool/*.spool"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


class SpoolWatch:
    """The greatest size of the spool's files, looked at all the time."""

    def __init__(self, box):
        self.box, self.greatest, self.ending = box, 0, threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        while not self.ending.wait(0.01):
            self.greatest = max(self.greatest, spool_bytes(self.box))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ending.set()
        self.thread.join(30)


def test_the_spool_fills_to_spool_max_and_no_further(servers, boxes):
    server = shop(servers)
    box = prepare(server, boxes, spool_max="64MiB", **OPTIONS)
    with switchable(box.root / "vault") as readonly:
        begin(server, box)
        with Timeline(server) as timeline, SpoolWatch(box) as spool:
            load = Load(server.conninfo("shop"), rate=60).start()
            load.wait_acknowledged(60)
            box.wait_vault("shop", position(server))
            assert check_exposure(server, box, timeline)["spool_alarm"] == ""
            # The vault is down, and a little is written: no alarm but that of the vault.
            readonly(True)
            write_wide(server, 20)
            box.wait("the vault to be called down", lambda: box.status("shop")["state"] == "vault_down")
            box.wait_durable("shop", position(server))  # capture goes on
            status = check_exposure(server, box, timeline)
            assert status["spool_alarm"] == "" and status["exposure_s"] < status["exposure_host_lost_s"], status
            # More than half: the alarm, in status, log and journal, while there is still room for as much again.
            write_wide(server, 16)
            status = box.wait("the alarm", lambda: (lambda s: s if s["spool_alarm"] else None)(check_exposure(server, box, timeline)))
            assert status["spool_alarm"] == "filling" and "at most 64.0 MiB" in status["warning"] and "main" in status["warning"], status
            assert 32 * MIB <= status["spool_bytes"] < 48 * MIB and status["spool_bytes_max"] == 64 * MIB
            assert "ALERT: the spool holds" in box.log_text() and "SPOOL FILLING" in box.ok("status", "shop").out
            # More than it may hold: it takes what fits, the source keeps the rest, the stream stays open and the source feels nothing.
            write_wide(server, 60)
            status = box.wait("the spool to be full", lambda: (lambda s: s if s["spool_alarm"] == "full" else None)(box.status("shop")))
            assert status["state"] == "spool_full" and "the source keeps what comes" in status["warning"], status
            stuck = wait_for("the durable position to stand still", lambda: stands_still(server))
            load.wait_acknowledged(90)
            assert told_durable(server) == stuck and load.interruptions == 0
            checked = [check_exposure(server, box, timeline) for _ in range(3)]
            assert checked[-1]["exposure_s"] > 1, "nothing stands still: the test shows nothing"
            assert "SPOOL FULL" in box.ok("status", "shop").out
            assert spool.greatest <= 64 * MIB, f"{spool.greatest} bytes in the spool"
            assert spool.greatest > 48 * MIB, f"it was called full with {spool.greatest} bytes"
            # A capture process that begins anew keeps the limit too.
            box.wait("a capture process", lambda: box.kill_role("capture shop"))
            box.wait("the spool to be full again", lambda: box.status("shop")["spool_alarm"] == "full" and told_durable(server))
            # The vault is back: all is caught up with, by itself.
            readonly(False)
            box.wait_vault("shop", position(server), 120)
            status = box.wait("all to be well", lambda: (lambda s: s if s["state"] == "streaming" and not s["spool_alarm"] and s["exposure_host_lost_s"] < 20 else None)(
                check_exposure(server, box, timeline)))
            assert status["incarnation"] == "0001" and status["gaps"] == [], status
            assert spool.greatest <= 64 * MIB, f"{spool.greatest} bytes in the spool"
            load.wait_acknowledged(30)
            load.stop()
        levels = box.wait("the alarm's end in the journal", lambda: (lambda told: told if told[-1:] == ["over"] else None)(
            [e["members"]["level"] for e in box.ok("journal", "shop", "--json").json["entries"] if e["kind"] == "spool_alarm"]))
        assert levels[:2] == ["filling", "full"] and "alert is over" in box.log_text(), levels
        box.wait_durable("shop", position(server))
        server.sql("CREATE DATABASE recovered TEMPLATE template0")
        box.recover("shop", "--into", server.conninfo("recovered"))
        with server.connect("shop") as truth, server.connect("recovered") as recovered:
            compare(contents(recovered), contents(truth), "after a full spool")
        check_log(box, "shop", load.acknowledged)
        box.stop()
        assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []


def stands_still(server):
    """The position told, where it is the same for a second and the source is ahead of it; the load goes on."""
    first = told_durable(server)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if told_durable(server) != first:
            return None
    return first


def vault_bytes(box):
    return sum(p.stat().st_size for p in (box.root / "vault").rglob("*.seg"))


def test_bandwidth(servers, boxes):
    """Segments leave at the configured rate. Meanwhile commits become durable and the server hears of it at once, nothing is called down, what is small goes
    by, and a stop waits for none of it."""
    server = shop(servers)
    box = prepare(server, boxes, **OPTIONS)
    rate = 150_000
    box.vaults["main"]["bandwidth"] = f"{rate // 1000}kB/s"
    box.sources["shop"]["segment_size"] = "1MiB"
    box.write_config()
    begin(server, box)
    box.wait_vault("shop", position(server))
    first, began = vault_bytes(box), time.monotonic()
    while spool_bytes(box) < 16 * MIB:  # half as much when it is compressed: what is in it by then takes a minute
        write_wide(server, 4)
    written_after = time.monotonic() - began
    load = Load(server.conninfo("shop"), rate=60).start()
    seen = []
    while not seen or seen[-1][0] < written_after + 8:
        lsn = position(server)
        box.wait_durable("shop", lsn)
        wait_for("the server to be told", lambda lsn=lsn: (told_durable(server) or 0) >= parse_lsn(lsn))
        status = box.status("shop")
        assert status["state"] == "streaming" and "has not answered" not in status["warning"], status
        seen.append((time.monotonic() - began, vault_bytes(box) - first))
    assert seen[-1][1] > rate * 4, f"{seen[-1]}: the limit is kept by doing nothing"
    # One object goes as fast as it can, a second's worth was saved up, and a pause belongs to it.
    for s, written in seen:
        assert written <= rate * (s + 2) + 2 * 2 * MIB, f"{written} bytes after {s:.1f} s"
    assert spool_bytes(box) > 3 * MIB, "all is there already: the test shows nothing"
    # Nor does another process wait for what this one owes.
    asked = time.monotonic()
    box.ok("hold", "add", "shop", "--reason", "an auditor asked")
    assert time.monotonic() - asked < 10
    load.stop()
    box.stop()
    assert "they are killed" not in box.log_text()  # after 20 s
    box.vaults["main"].pop("bandwidth")
    box.write_config()
    box.start()
    box.wait_vault("shop", position(server), 120)
    check_log(box, "shop", load.acknowledged)


def test_what_a_poll_saw_is_noted_again_where_the_note_was_not_durable(servers, boxes):
    """The spool takes nothing, a poll sees a change that stands in no stream, and capture is killed: the next process must not take it for known."""
    server = shop(servers)
    box = prepare(server, boxes, spool_max="64MiB")
    with switchable(box.root / "vault") as readonly:
        begin(server, box)
        readonly(True)
        write_wide(server, 100)
        box.wait("the spool to be full", lambda: box.status("shop")["spool_alarm"] == "full" and stands_still(server))
        server.sql("ALTER DATABASE shop SET work_mem = '7MB'")
        changed = position(server)
        box.wait("a poll to see it", lambda: "properties differ" in box.log_text())
        seen = server.value("SELECT clock_timestamp()::text")
        later = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'salvor watch' AND query_start > timestamptz '{seen}' + interval '3 s'"
        box.wait("the next polls", lambda: server.value(later) > 0)
        assert box.kill_role("capture shop")
        readonly(False)
        box.wait_durable("shop", changed, 120)
        refused = lambda: (lambda r: r if r.status == 3 else None)(box.run_command("recover", "shop", "--to", changed, "--local", "/nowhere", "--dry-run"))
        assert "properties differ" in box.wait("the change to be noted", refused).err
