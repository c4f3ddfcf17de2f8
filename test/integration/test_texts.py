"""What an open transaction wrote is in the stream in the words of its moment. A change of the catalogue that waits for no writer (labels of an enum, attributes of a
composite type, names) changes these words in all rows; from a snapshot that was taken between the change and the writer's end nobody may go on with the old ones."""
import pytest
from test_schema import History, recovered_at

pytestmark = pytest.mark.timeout(300)

BASE = """CREATE TYPE mood AS ENUM ('low', 'high', 'odd'); CREATE TABLE felt (id int PRIMARY KEY, feeling mood, list mood[]); CREATE TABLE plain (id int PRIMARY KEY, v text);
INSERT INTO felt VALUES (1, 'low', '{high}'); INSERT INTO plain SELECT i, repeat('p', 1000) FROM generate_series(1, 2000) i;"""
# Which tables there are beside, what the open transaction writes, what changes meanwhile.
TEXTS = {
    "felt": ("", "INSERT INTO felt VALUES (2, 'low', '{low,high}')",
             "ALTER TYPE mood RENAME VALUE 'low' TO 'aside'; ALTER TYPE mood RENAME VALUE 'high' TO 'low'; ALTER TYPE mood RENAME VALUE 'aside' TO 'high'"),
    "held": ("CREATE TYPE two AS (a int, b int); CREATE TABLE held (id int PRIMARY KEY, v two); INSERT INTO held VALUES (1, (1, 2));", "INSERT INTO held VALUES (2, (3, 4))",
             "ALTER TYPE two DROP ATTRIBUTE b; ALTER TYPE two ADD ATTRIBUTE c int"),
    "named": ("CREATE TABLE named (id int PRIMARY KEY, what regclass); CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE y (id int PRIMARY KEY); INSERT INTO named VALUES (1, 'x');",
              "INSERT INTO named VALUES (2, 'x'), (3, 'y')", "ALTER TABLE x RENAME TO z; ALTER TABLE y RENAME TO x; ALTER TABLE z RENAME TO y"),
}


def start(servers, protected, tables, **options):
    server = servers(conf={"logical_decoding_work_mem": "64kB"})
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS")
    server.sql(BASE + "".join(TEXTS[t][0] for t in tables), dbname="shop")
    if not options.get("admin", True):
        server.sql("DO $$ DECLARE t name; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP EXECUTE format('ALTER TABLE %I OWNER TO salvor', t); END LOOP; END $$; "
                   "GRANT CREATE ON DATABASE shop TO salvor", dbname="shop")
    return server, protected(server, **{"slot_timeout": "1s", "snapshot_quiet": "1h", **options})


@pytest.mark.parametrize("admin,tables", [(True, ["felt", "held"]), (False, ["felt", "named"])])
def test_written_before_and_committed_behind(servers, protected, admin, tables):
    """By event triggers, and by polls alone. One of the writers is so large that it is streamed; one goes on after capture has begun anew."""
    server, box = start(servers, protected, tables, admin=admin)
    h = History(server, box)
    beside = {table: server.connect("shop", autocommit=False) for table in tables}
    for table in tables:
        beside[table].cursor().execute(TEXTS[table][1])
    beside["felt"].cursor().execute("UPDATE plain SET v = repeat('q', 1000)")
    for table in tables:
        server.sql(TEXTS[table][2], dbname="shop")
    h.captured()
    taken = box.ok("snapshot", "shop", "--json").json
    assert taken["among_open_transactions"]
    h.see("none of them has ended")
    server.sql("INSERT INTO felt VALUES (7, 'low', '{high}')", dbname="shop")
    h.see("others went on")
    box.wait("a capture process", lambda: box.kill_role("capture shop"))
    box.wait_streaming("shop")
    for table in tables:
        beside[table].commit()
        h.see(table)
        box.wait_durable("shop", h.moments[-1][1])
        box.fails(3, "recover", "shop", "--to", h.moments[-1][1], "--dry-run", says="table public.felt is inexact")
    box.wait("it to be said", lambda: sorted(e["table"] for e in box.status("shop")["inexact"]) == [f"public.{t}" for t in tables])
    for i, m in enumerate(h.moments[:2]):
        assert recovered_at(server, box, m, i)["snapshot"] == taken["id"]
    again = box.ok("snapshot", "shop", "--if-needed", "--json").json
    assert again.get("renews") == (None if "named" in tables else taken["id"]), again
    server.sql("INSERT INTO felt VALUES (8, 'low', '{high}'); " + TEXTS[tables[1]][1].replace("2", "12").replace("3,", "13,"), dbname="shop")
    h.see("read again")
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, h.moments[-1], 9)["verified"]
    box.wait("them to be exact again", lambda: not box.status("shop")["inexact"])


def test_written_before_and_no_snapshot_between(servers, protected):
    """From a snapshot before the change it is one on the way, and what was open is nothing to stop at."""
    server, box = start(servers, protected, ["felt"])
    h = History(server, box)
    beside = server.connect("shop", autocommit=False)
    beside.cursor().execute("INSERT INTO felt VALUES (2, 'low', '{low,high}')")
    server.sql("ALTER TYPE mood ADD VALUE 'new' BEFORE 'high'", dbname="shop")
    h.captured()
    beside.commit()
    server.sql("INSERT INTO felt VALUES (3, 'new', '{new}')", dbname="shop")
    h.see("both are there")
    h.captured()
    box.wait_durable("shop", h.moments[-1][1])
    assert recovered_at(server, box, h.moments[-1], 0)["verified"] and box.status("shop")["inexact"] == []
    assert not box.ok("snapshot", "shop", "--if-needed", "--json").json["needed"]
