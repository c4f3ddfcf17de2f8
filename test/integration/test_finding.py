"""A change that capture never saw is found by the next snapshot: shown, and never recovered across."""
import os

from ledger import OPTIONS, SCHEMA
from truth import compare, contents


def hidden_change(server):
    """A row that is gone from its page, and nobody deleted it: as if the stream had lost who did."""
    server.sql("SELECT heap_force_kill('plain', ARRAY(SELECT ctid FROM plain WHERE id = 50))", dbname="shop")


def settle(server, box):
    box.wait_durable("shop", server.value("SELECT pg_current_wal_insert_lsn()::text"))


def test_a_change_that_was_not_captured(servers, protected):
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(SCHEMA + "CREATE TABLE plain (id int PRIMARY KEY, what text); CREATE EXTENSION pg_surgery;", dbname="shop")
    box = protected(server, **OPTIONS)
    server.sql("INSERT INTO plain SELECT i, 'row ' || i FROM generate_series(1, 100) i", dbname="shop")
    settle(server, box)
    first = box.ok("snapshot", "shop", "--json").json
    assert first["findings"] == []
    hidden_change(server)
    server.sql("INSERT INTO plain VALUES (101, 'seen')", dbname="shop")
    settle(server, box)
    between = box.status("shop")["durable_position"]
    second = box.ok("snapshot", "shop", "--json").json
    assert any("plain" in text for text in second["findings"]), second
    status = box.status("shop")
    assert [f["snapshot"] for f in status["findings"]] == [second["id"]] * len(second["findings"]), status
    assert "FINDING" in box.ok("status", "shop").out
    # Before it: told. From it on: exact again, from the new base.
    server.sql("CREATE DATABASE before TEMPLATE template0")
    told = box.recover("shop", "--to", between, "--into", server.conninfo("before"))
    assert any(second["id"] in text for text in told["warnings"]), told
    server.sql("CREATE DATABASE latest TEMPLATE template0")
    assert box.recover("shop", "--into", server.conninfo("latest"))["snapshot"] == second["id"]
    with server.connect("shop") as source, server.connect("latest") as recovered:
        compare(contents(recovered), contents(source), "from the new base")
    # Without the new base nothing leads past it.
    box.stop()
    for path in (box.root / "vault").rglob("manifest*"):
        if second["id"] in str(path):
            os.truncate(path, path.stat().st_size // 2)
    server.sql("CREATE DATABASE past TEMPLATE template0")
    box.fails(3, "recover", "shop", "--into", server.conninfo("past"), says="not what the events give")
