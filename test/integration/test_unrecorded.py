"""Changes of the catalogue that leave no record are never taken for the work of a command that left one, however close to it and whatever stays open: positions
from them on are refused until a snapshot. About 20 s."""
import pytest
from salvorbox import parse_lsn
from test_schema import BASE, History, recovered_at
from truth import compare, contents

pytestmark = pytest.mark.timeout(300)

EXTRA = """
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION g() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER mine ON ddl_command_end WHEN TAG IN ('CREATE CAST') EXECUTE FUNCTION g();
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
CREATE POLICY own ON pair TO reader USING (b > 0);
"""
UNRECORDED = [
    "UPDATE pg_proc SET procost = 7 WHERE proname = 'f'",  # as any command would of which no event trigger is told
    "COMMENT ON EVENT TRIGGER mine IS 'mine'",
    "ALTER EVENT TRIGGER salvor_shop_ddl DISABLE; ALTER TABLE loose ALTER v SET DEFAULT 6; ALTER EVENT TRIGGER salvor_shop_ddl ENABLE ALWAYS",
    "CREATE PUBLICATION others FOR ALL TABLES; CREATE VIEW hidden AS SELECT 1 AS one; CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "CREATE VIEW hidden_too AS SELECT 2 AS two",  # while that publication is there
]


def begin(servers, protected):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(BASE + EXTRA, dbname="shop")
    box = protected(server, snapshot_quiet="1h", slot_timeout="1s", identity="full", identity_inserts="public.log, public.keyless")
    box.wait("the schema to be looked at", lambda: box.status("shop")["schema_seen"])
    return server, box


def here(server):
    return server.value("SELECT pg_current_wal_insert_lsn()::text")


def test_what_left_no_record(servers, protected):
    server, box = begin(servers, protected)
    open_all_the_time = server.connect("shop", autocommit=False)
    open_all_the_time.cursor().execute("INSERT INTO log VALUES (5, 'open')")
    h = History(server, box)
    for number, statement in enumerate(UNRECORDED):
        if number < 4:
            server.sql(f"CREATE TABLE recorded_{number} (id int PRIMARY KEY)", dbname="shop")
            h.captured()
        before = here(server)
        server.sql(statement, dbname="shop")
        server.sql("INSERT INTO loose (id) VALUES (%s)", 1000 + number, dbname="shop")
        after = here(server)
        box.wait(f"a poll to tell of {statement}", lambda: any(c["how"] == "poll" and parse_lsn(c["to"]) > parse_lsn(before) for c in box.status("shop")["schema_changed"]))
        box.wait_durable("shop", after)
        box.fails(3, "recover", "shop", "--to", after, "--dry-run", says="no event trigger has told")
        box.ok("snapshot", "shop")
    open_all_the_time.commit()
    h.see("in the end")
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, h.moments[-1], 0)["verified"]


def test_rights_that_are_dropped_with_their_owner(servers, protected):
    """DROP OWNED of a role that stands in default privileges and policies alone names nothing that it alters."""
    server, box = begin(servers, protected)
    h = History(server, box)
    server.sql("DROP OWNED BY reader", dbname="shop")
    h.captured()
    h.see("dropped")
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, h.moments[-1], 0)["verified"]
    assert [c["how"] for c in box.status("shop")["schema_changed"]].count("trigger") >= 1


UNTOLD = "all tables are inexact (somebody held what an event trigger needs to tell of a command"


@pytest.mark.parametrize("open_meanwhile", [False, True])
def test_a_record_that_could_not_be_written(servers, protected, open_meanwhile):
    """Somebody holds the table of records: the command succeeds, and what it did is not taken for nothing, though the catalogue reads as before and another command
    that is recorded stands beside it. open_meanwhile: it is committed long after the poll has told."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE TABLE plain (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY, v text); INSERT INTO plain SELECT i, 'v' FROM generate_series(1, 50) i", dbname="shop")
    box = protected(server)
    snapshots = len(box.status("shop")["snapshots"])
    before = here(server)
    with server.connect("shop") as c:
        rows_before = contents(c)
    box.wait("that to be known as good", lambda: parse_lsn(box.status("shop")["schema_seen"] or "0/0") > parse_lsn(before))
    if not open_meanwhile:
        box.stop()
    holder, command = server.connect("shop", autocommit=False), server.connect("shop", autocommit=False)
    holder.cursor().execute("LOCK TABLE salvor_shop.ddl IN ACCESS EXCLUSIVE MODE")
    command.cursor().execute("ALTER TABLE plain ALTER COLUMN v TYPE text USING v || 'x'")
    holder.rollback()
    if open_meanwhile:
        box.wait("a poll to tell", lambda: box.status("shop")["inexact"])
    command.commit()
    server.sql("ALTER TABLE other ADD COLUMN recorded int", dbname="shop")
    server.sql("INSERT INTO plain VALUES (100, 'after')", dbname="shop")
    at = here(server)
    if not open_meanwhile:
        box.start()
    box.wait_durable("shop", at)
    box.wait("a poll behind it", lambda: parse_lsn(box.status("shop")["schema_seen"] or "0/0") > parse_lsn(at))
    box.fails(3, "recover", "shop", "--to", at, "--dry-run", says=UNTOLD)
    box.wait_snapshots("shop", snapshots + 1)
    box.wait("the rows to be read anew", lambda: box.run_command("recover", "shop", "--dry-run").status == 0)
    server.sql("UPDATE plain SET v = 'u' WHERE id = 7", dbname="shop")
    box.wait_durable("shop", here(server))
    wanted = [("latest", "latest", None)]
    if open_meanwhile:  # (a restart does not keep each poll's position)
        wanted.append(("before", before, rows_before))
    for into, to, rows in wanted:
        server.sql(f"CREATE DATABASE {into} TEMPLATE template0")
        box.recover("shop", "--to", to, "--into", server.conninfo(into))
        with server.connect(into) as c, server.connect("shop") as shop:
            compare(contents(c), rows or contents(shop), into)
