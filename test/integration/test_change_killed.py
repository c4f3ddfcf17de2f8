"""SIGKILL around schema changes: of capture between a change and its capture, while its dump runs, inside a streamed transaction that changes the schema, beside the
snapshot after a change. Afterwards every moment is exact, or refused because changes followed too closely."""
import contextlib
import os
import random

import pytest
from salvorbox import wait_for
from test_schema import History, recovered_at

SOAK = os.environ.get("SALVOR_SOAK") == "1"
KILLS = 200 if SOAK else 6
TOO_CLOSE = "changes followed too closely"
BASE = """CREATE TABLE item (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
INSERT INTO item SELECT i, repeat('v', i % 50), i FROM generate_series(1, 500) i;
CREATE TABLE log (id int PRIMARY KEY, line text);"""
CHANGES = ["ALTER TABLE item ADD COLUMN c{0} int DEFAULT {0}; UPDATE item SET c{0} = -1 WHERE id % 7 = 0", "CREATE TABLE made_{0} (id int PRIMARY KEY, v text); INSERT INTO made_{0} VALUES (1, 'a')",
           "ALTER TABLE log RENAME TO log_{0}; INSERT INTO log_{0} VALUES ({0}, 'renamed'); ALTER TABLE log_{0} RENAME TO log",
           "CREATE INDEX i{0} ON item (n, id); COMMENT ON TABLE item IS 'change {0}'", "ALTER TABLE log ADD COLUMN x{0} text; ALTER TABLE log DROP COLUMN x{0}; INSERT INTO log VALUES (-{0}, 'x')"]


def back(box):
    """The status is the new process's own, and not what the killed one wrote last."""
    box.wait("capture to be at work again", lambda: (lambda pid: pid and box.capture_pid("shop") == pid and box.status("shop")["state"] == "streaming")(box.role_pid("capture shop")))


def at_once(server, box, change):
    server.sql(change, dbname="shop")
    box.wait("a capture process", lambda: box.kill_role("capture shop"))


def while_dumping(server, box, change):
    """Where the dump was over before somebody saw it, that is one more kill behind it."""
    server.sql(change, dbname="shop")
    with contextlib.closing(server.connect()) as c, c.cursor() as cursor:
        def dumping():
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'salvor schema%'")
            return cursor.fetchone()[0] or box.status("shop")["schema_captured"]
        wait_for("the schema's dump", dumping)
    box.wait("a capture process", lambda: box.kill_role("capture shop"))


def inside_a_stream(server, box, change):
    before = server.value("SELECT coalesce(sum(stream_bytes), 0) FROM pg_stat_replication_slots")
    rows = "INSERT INTO item (id, v) SELECT g, repeat(md5(g::text), 4) FROM generate_series((SELECT max(id) + 1 FROM item), (SELECT max(id) + 2000 FROM item)) g"
    with contextlib.closing(server.connect("shop", autocommit=False)) as c, c.cursor() as cursor:
        cursor.execute(rows)
        cursor.execute(f"SAVEPOINT s; {change}; {rows}; ROLLBACK TO s; {change}; {rows}")
        wait_for("the transaction to be streamed", lambda: server.value("SELECT coalesce(sum(stream_bytes), 0) FROM pg_stat_replication_slots") > before)
        box.wait("a capture process", lambda: box.kill_role("capture shop"))
        cursor.execute("DELETE FROM item WHERE id > 500 AND id % 3 = 0")
        c.commit()


def beside_a_snapshot(server, box, change):
    server.sql(change, dbname="shop")
    taking = box.spawn("snapshot", "shop")
    with contextlib.closing(server.connect()) as c, c.cursor() as cursor:
        def at_work():
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'salvor snapshot%'")
            return cursor.fetchone()[0] or taking.poll() is not None
        wait_for("the snapshot to be at work", at_work)
    taking.kill()
    box.wait("a capture process", lambda: box.kill_role("capture shop"))
    taking.wait(60)


@pytest.mark.timeout(7200 if SOAK else 400)
def test_capture_killed_around_changes(servers, protected, record_property):
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    rnd = random.Random(seed)
    server = servers({"logical_decoding_work_mem": "64kB"})
    server.sql("CREATE DATABASE shop")
    server.sql(BASE, dbname="shop")
    box = protected(server, snapshot_quiet="1h")
    history = History(server, box)
    followed = {}
    for number in range(KILLS):
        if number % 4 == 3:  # the supervisor starts a role again five times in five minutes, then it waits
            box.stop()
            box.start()
            box.wait_streaming("shop")
        way = (at_once, while_dumping, inside_a_stream, beside_a_snapshot)[number % 4]
        way(server, box, rnd.choice(CHANGES).format(number + 1))
        history.see(f"{number}: {way.__name__}")
        back(box)
        followed[history.moments[-1][0]] = number % 3 != 1
        if followed[history.moments[-1][0]]:
            history.captured()
    box.wait_durable("shop", history.moments[-1][1])
    status, exact = box.status("shop"), 0
    assert status["gaps"] == [] and status["inexact"] == [] and status["incarnation"] == "0001", status
    for number, moment in enumerate(history.moments):
        r = box.run_command("recover", "shop", "--to", moment[1], "--into", server.conninfo("postgres"), "--dry-run")
        if r.status == 3 and not followed[moment[0]] and TOO_CLOSE in r.err:
            continue
        recovered_at(server, box, moment, number)
        server.sql(f"DROP DATABASE at_{number}")
        exact += 1
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []
    record_property("tells", f"{KILLS} kills around schema changes: {exact} moments exact, {len(history.moments) - exact} refused; SALVOR_SEED={seed}")
