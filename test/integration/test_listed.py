"""Without event triggers a table is published from the poll on that lists it. What a transaction wrote before that is in no event, whenever it ends: a snapshot
that does not hold it either must not be gone on from."""
import contextlib

import pytest
from proxy import Proxy
from salvorbox import parse_lsn
from test_schema import History, recovered_at

pytestmark = pytest.mark.timeout(300)

TABLES = """CREATE TABLE old (id int PRIMARY KEY, v text);
CREATE TABLE late (id int, v text);
INSERT INTO old SELECT i, 'old' FROM generate_series(1, 50) i; INSERT INTO late SELECT i, 'late' FROM generate_series(1, 50) i;"""
# Two tables come to be listed: one that is made, and one that gets its key; before they are, an open transaction writes into both.
MAKES = "CREATE TABLE made (id int PRIMARY KEY, v text); ALTER TABLE made OWNER TO salvor; ALTER TABLE late ADD PRIMARY KEY (id)"
WRITES = "INSERT INTO made VALUES (1, 'unlisted'); UPDATE late SET v = 'unlisted' WHERE id = 7"


def start(servers, protected, **options):
    server = servers(conf={"max_prepared_transactions": 4})
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS")
    server.sql(TABLES + "ALTER TABLE old OWNER TO salvor; ALTER TABLE late OWNER TO salvor; GRANT CREATE ON DATABASE shop TO salvor", dbname="shop")
    return server, protected(server, admin=False, **{"slot_timeout": "1s", "identity_inserts": "public.late", **options})


def inexact(box):
    return sorted(entry["table"] for entry in box.status("shop")["inexact"])


def list_late(server, box, setup=False):
    """Nobody polls while the tables come to be and the transaction writes; then they are listed, by capture or by a person's setup. The open transaction."""
    box.stop()
    server.sql(MAKES, dbname="shop")
    beside = server.connect("shop", autocommit=False)
    beside.cursor().execute(WRITES)
    if setup:
        box.ok("setup", "shop")
    box.start()
    box.wait("the tables to be inexact", lambda: inexact(box) == ["public.late", "public.made"])
    return beside


@pytest.mark.parametrize("by_setup,prepared", [(False, False), (True, True)])
def test_open_when_listed_and_at_the_snapshot(servers, protected, by_setup, prepared):
    server, box = start(servers, protected, snapshot_quiet="1h")
    h = History(server, box)
    beside = list_late(server, box, by_setup)
    if prepared:
        beside.cursor().execute("PREPARE TRANSACTION 'beside'")
    else:
        box.wait("a capture process", lambda: box.kill_role("capture shop"))
        box.wait_streaming("shop")
    assert box.ok("snapshot", "shop", "--json").json["among_open_transactions"]
    if prepared:
        server.sql("COMMIT PREPARED 'beside'", dbname="shop")
    else:
        beside.commit()
    lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait_durable("shop", lsn)
    box.fails(3, "recover", "shop", "--to", lsn, "--dry-run", says="is inexact")
    assert inexact(box) == ["public.late", "public.made"]
    # What the open transaction wrote is in the next one, and nothing is missing from there on.
    assert not box.ok("snapshot", "shop", "--json").json["among_open_transactions"]
    server.sql("INSERT INTO made VALUES (2, 'listed'); UPDATE late SET v = 'listed' WHERE id = 8", dbname="shop")
    h.see("listed")
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, h.moments[-1], 0)["verified"]
    box.wait("them to be exact again", lambda: not inexact(box))


def test_they_are_read_anew_once_the_transaction_has_ended(servers, protected):
    """By the keeper; while the transaction is open nothing that is read would do."""
    server, box = start(servers, protected)
    h = History(server, box)
    beside = list_late(server, box)
    box.wait_snapshots("shop", 2)  # the table that was made calls for one, and it does not have what is open
    beside.commit()
    h.see("after it")
    box.wait("them to be exact again", lambda: not inexact(box))
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, (h.moments[-1][0], "latest", *h.moments[-1][2:]), 0)["verified"]


def test_rows_written_anew_with_the_same_declaration(servers, protected):
    """No event tells of it, and the columns are declared as they were: what lies behind it is refused until a snapshot holds it."""
    server, box = start(servers, protected, snapshot_quiet="1h")
    server.sql("ALTER TABLE old ALTER COLUMN v TYPE text USING v || ' anew'", dbname="shop")
    server.sql("INSERT INTO old VALUES (97, 'behind')", dbname="shop")
    lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait("the change to be noticed", lambda: box.status("shop")["schema_changed"])
    box.wait_durable("shop", lsn)
    box.fails(3, "recover", "shop", "--to", lsn, "--dry-run", says="schema")
    box.ok("snapshot", "shop")
    h = History(server, box)
    h.see("after it")
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, h.moments[-1], 0)["verified"]


class Between(Proxy):
    """Holds a snapshot's session up where it has been given its rows' moment and asks for its position."""

    def __init__(self, port):
        super().__init__(port)
        self.then = None

    def relay(self, pair, source, sink, limited):
        given = False
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if given and self.then and b"pg_current_wal_insert_lsn" in data:
                    then, self.then = self.then, None
                    then()
                given = given or b"pg_current_snapshot()::text" in data
                sink.sendall(data)
        self.end(pair)


def test_what_a_poll_tells_of_while_a_snapshot_is_made(servers, protected):
    """An update that has nothing to identify its row commits behind the snapshot's moment and is told of before its position: it is in neither."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS")
    server.sql(TABLES, dbname="shop")
    with Between(server.port) as between:
        box = protected(server, conninfo=f"host=127.0.0.1 port={between.port} dbname=shop user=salvor", identity_inserts="public.late", slot_timeout="1s", snapshot_quiet="1h")
        beside = server.connect("shop", autocommit=False)
        beside.cursor().execute("INSERT INTO old VALUES (98, 'open')")

        def then():
            server.sql("UPDATE late SET v = 'between' WHERE id = 7", dbname="shop")
            box.wait("the table to be inexact", lambda: inexact(box) == ["public.late"])

        between.then = then
        taken = box.ok("snapshot", "shop", "--json").json
        assert taken["among_open_transactions"] and between.then is None
        lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
        server.sql("INSERT INTO old VALUES (99, 'behind')", dbname="shop")
        box.wait_durable("shop", lsn)
        box.fails(3, "recover", "shop", "--to", lsn, "--dry-run", says="is inexact")
        box.fails(3, "recover", "shop", "--to", taken["position"], "--dry-run", says="is inexact")


def test_whatever_transactions_of_its_role_are_by_default(servers, protected):
    """What an event trigger could not put on the list is put there by the poll, whose session does not take over what the role or the database has for applications."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; ALTER ROLE salvor SET default_transaction_read_only = on; ALTER DATABASE shop SET default_transaction_isolation = 'serializable'")
    box = protected(server, snapshot_quiet="1h")
    h = History(server, box)
    holder = server.connect("shop", autocommit=False)
    holder.cursor().execute("CREATE TABLE held (id int PRIMARY KEY)")
    server.sql("CREATE TABLE made (id int PRIMARY KEY, v text); INSERT INTO made VALUES (1, 'a'), (2, 'b')", dbname="shop")
    holder.commit()
    box.wait("the table to be listed", lambda: server.sql("SELECT 1 FROM pg_publication_rel WHERE prrelid = 'made'::regclass", dbname="shop"))
    box.ok("snapshot", "shop")
    server.sql("UPDATE made SET v = 'c' WHERE id = 2; DELETE FROM made WHERE id = 1", dbname="shop")
    h.see("changed")
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, h.moments[-1], 0)["verified"]


def test_nothing_is_counted(servers, protected):
    """The counts tell who changed a table that nothing identifies. Where the server counts nothing it is taken to be changed all the time."""
    server = servers(conf={"track_counts": "off"})
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE TABLE keyed (id int PRIMARY KEY, v text); CREATE TABLE loose (id int, v text); INSERT INTO loose SELECT i, 'old' FROM generate_series(1, 9) i", dbname="shop")
    box = protected(server, snapshot_quiet="1h")
    assert "counts no changes" in box.run_command("check", "shop").out
    taken = box.ok("snapshot", "shop", "--json").json
    server.sql("UPDATE loose SET v = 'unseen'", dbname="shop")
    lsn = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait("the table to be inexact", lambda: any(e["table"] == "public.loose" and parse_lsn(e["to"]) >= parse_lsn(lsn) for e in box.status("shop")["inexact"]))
    box.wait_durable("shop", lsn)
    box.fails(3, "recover", "shop", "--to", lsn, "--dry-run", says="public.loose is inexact")
    box.ok("recover", "shop", "--to", taken["position"], "--dry-run")
