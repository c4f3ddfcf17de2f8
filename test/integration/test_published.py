"""Somebody alters what is published, by hand: what is changed meanwhile is in no event, and no position from then on is given until rows were read anew. About 30 s."""
import threading

import pytest
from salvorbox import parse_lsn, wait_for
from truth import compare, contents

pytestmark = pytest.mark.timeout(300)

ROWS, KEYS = "salvor_shop_rows", "salvor_shop_keys"
TABLES = "CREATE TABLE plain (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY, v text); INSERT INTO plain SELECT i, 'v' FROM generate_series(1, 50) i;"


def start(servers, protected, admin=True, **options):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT CREATE ON DATABASE shop TO salvor")
    server.sql(TABLES + "ALTER TABLE plain OWNER TO salvor; ALTER TABLE other OWNER TO salvor", dbname="shop")
    return server, protected(server, admin=admin, **options)


def write(server, *statements):
    for statement in statements:
        server.sql(statement, dbname="shop")
    return server.value("SELECT pg_current_wal_insert_lsn()::text")


def refused(box, at, reason):
    box.wait_durable("shop", at)
    r = box.fails(3, "recover", "shop", "--to", at, "--dry-run", says=reason)
    assert "a snapshot taken after that serves again" in r.err


def recovered(server, box, into, to, rows):
    server.sql(f"CREATE DATABASE {into} TEMPLATE template0")
    box.recover("shop", "--to", to, "--into", server.conninfo(into))
    with server.connect(into) as c:
        compare(contents(c), rows, into)


def test_until_it_is_mended(servers, protected):
    server, box = start(servers, protected)
    shop = server.connect("shop")
    before = write(server, "INSERT INTO plain VALUES (100, 'published')")
    rows_before = contents(shop)
    box.wait("that to be known as good", lambda: parse_lsn(box.status("shop")["schema_seen"] or "0/0") > parse_lsn(before))
    write(server, f"ALTER PUBLICATION {ROWS} SET (publish = 'truncate')")
    said = f"all tables are inexact (somebody altered the publication {ROWS}"
    for number in (101, 102):
        at = write(server, f"INSERT INTO plain VALUES ({number}, 'lost')")
        box.wait("a poll to tell", lambda: any(parse_lsn(i["to"]) > parse_lsn(at) for i in box.status("shop")["inexact"]))
        refused(box, at, said)
        box.wait_snapshots("shop", 2)  # it has the rows of its moment, and nothing follows from it
    screen = box.ok("status", "shop").out
    assert "INEXACT" in screen and f"somebody altered the publication {ROWS}" in screen and "salvor setup" in screen
    box.ok("setup", "shop", "--admin", server.conninfo("shop", "postgres", tcp=True))
    box.wait("a poll to find it right", lambda: not box.status("shop")["warning"])
    box.wait("the rows to be read anew", lambda: box.run_command("recover", "shop", "--dry-run").status == 0)
    last = write(server, "INSERT INTO plain VALUES (103, 'published'); UPDATE plain SET v = 'u' WHERE id = 101")
    box.wait_durable("shop", last)
    recovered(server, box, "latest", "latest", contents(shop))
    recovered(server, box, "before", before, rows_before)
    refused(box, at, said)


def alter(name, what):
    return f"ALTER PUBLICATION {name} {what}"


BACK = {
    True: [(alter(ROWS, "SET (publish = 'truncate')"), "INSERT INTO plain VALUES (200, 'lost')", alter(ROWS, "SET (publish = 'insert, truncate')"), ROWS),
           (alter(KEYS, "DROP TABLE plain"), "UPDATE plain SET v = 'lost' WHERE id = 7", alter(KEYS, "ADD TABLE plain"), KEYS)],
    False: [(alter(ROWS, "DROP TABLE plain"), "INSERT INTO plain VALUES (200, 'lost')", alter(ROWS, "ADD TABLE plain"), "public.plain is inexact (somebody put it on a list"),
            (alter(KEYS, "SET TABLE plain WHERE (id > 9), other"), "UPDATE plain SET v = 'lost' WHERE id = 7", alter(KEYS, "SET TABLE plain, other"), "public.plain is inexact")],
}


@pytest.mark.parametrize("admin", [True, False])
def test_there_and_back_between_two_polls(servers, protected, admin):
    server, box = start(servers, protected, admin, snapshot_quiet="1h")
    for number, (there, lost, back, says) in enumerate(BACK[admin]):
        box.wait("that to be known as good", lambda: box.status("shop")["schema_seen"])
        box.stop()
        at = write(server, there, lost, back)
        if number == 1:  # what is known of the polls before is in the stream, too
            for path in (box.state / "shop").glob("*/watch.json"):
                path.unlink()
        box.start()
        box.wait("a poll to tell", lambda: any(parse_lsn(i["to"]) >= parse_lsn(at) for i in box.status("shop")["inexact"]))
        refused(box, at, says)
        box.ok("snapshot", "shop")
        last = write(server, f"INSERT INTO other VALUES ({number}, 'published'); UPDATE plain SET v = 'u' WHERE id = {number + 20}")
        box.wait_durable("shop", last)
        with server.connect("shop") as shop:
            recovered(server, box, f"latest_{number}", "latest", contents(shop))


def altered_beside_a_waiter(server, statement):
    """Somebody else waits for the publication when its event trigger looks, so that the trigger cannot touch it."""
    first, second = server.connect("shop", autocommit=False), server.connect("shop", autocommit=False)
    first.cursor().execute(f"COMMENT ON PUBLICATION {KEYS} IS 'held'")
    waiting = lambda: server.value("SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_publication'::regclass AND NOT granted")
    threads = [threading.Thread(target=server.sql, args=(statement,), kwargs={"dbname": "shop"}),
               threading.Thread(target=second.cursor().execute, args=(f"COMMENT ON PUBLICATION {KEYS} IS 'held'",))]
    for number, thread in enumerate(threads, 1):
        thread.start()
        wait_for("it to wait", lambda number=number: waiting() == number)
    first.rollback()
    for thread in threads:
        thread.join()
    second.rollback()


def test_there_and_back_where_it_could_not_be_touched(servers, protected):
    server, box = start(servers, protected, snapshot_quiet="1h")
    box.wait("that to be known as good", lambda: box.status("shop")["schema_seen"])
    box.stop()
    stamp = server.value(f"SELECT xmin::text FROM pg_publication WHERE pubname = '{KEYS}'", dbname="shop")
    altered_beside_a_waiter(server, alter(KEYS, "DROP TABLE plain"))
    write(server, "UPDATE plain SET v = 'lost' WHERE id = 7")
    altered_beside_a_waiter(server, alter(KEYS, "ADD TABLE plain"))
    assert server.value(f"SELECT xmin::text FROM pg_publication WHERE pubname = '{KEYS}'", dbname="shop") == stamp
    at = write(server, "INSERT INTO plain VALUES (100, 'published')")
    box.start()
    box.wait_durable("shop", at)
    box.wait("a poll behind it", lambda: parse_lsn(box.status("shop")["schema_seen"] or "0/0") > parse_lsn(at))
    refused(box, at, "all tables are inexact (somebody held what an event trigger needs to tell of a command")
    box.ok("snapshot", "shop")
    last = write(server, "UPDATE plain SET v = 'u' WHERE id = 8")
    box.wait_durable("shop", last)
    with server.connect("shop") as shop:
        recovered(server, box, "latest", "latest", contents(shop))
