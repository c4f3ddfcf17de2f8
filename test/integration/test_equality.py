"""A recovered database is the source as it was: schema, every value of every row, sequences as bounded; at latest and at random earlier
commits, with PostgreSQL's own point-in-time recovery as the truth."""
import os
import pathlib
import random

import psycopg2
import pytest
from salvorbox import parse_lsn
from truth import PitrTruth, compare, contents, schema, sequences
from writers import Writers

EVERYTHING = (pathlib.Path(__file__).parent / "everything.sql").read_text()
SOAK = os.environ.get("SALVOR_SOAK") == "1"
EARLIER = 10
WRITE_S = 60 if SOAK else 8


def start_source(servers):
    server = servers()
    os.makedirs(os.path.join(server.root, "archive"), exist_ok=True)
    os.chmod(os.path.join(server.root, "archive"), 0o777)
    server.restart(PitrTruth.conf(server.root))
    server.sql("CREATE DATABASE shop")
    server.sql(EVERYTHING, dbname="shop")
    return server


def prepare_role(server, mode):
    """trigger: a role with no more than it needs, setup by a superuser. list: the role owns the tables."""
    server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
    if mode == "list":
        server.sql("GRANT CREATE ON DATABASE shop TO salvor", dbname="shop")
        server.sql("""DO $$ DECLARE t record; BEGIN FOR t IN SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n
                      ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                      LOOP EXECUTE 'ALTER TABLE ' || t.name || ' OWNER TO salvor'; END LOOP; END $$""", dbname="shop")


def check_sequences(recovered, truth, what):
    """Never behind the truth's data; ahead by no more than some seconds of use."""
    assert set(recovered) == set(truth), what
    for name, (value, step) in truth.items():
        got = recovered[name][0]
        if value is None:
            continue
        ahead = ((got if got is not None else value - step) - value) / step
        assert -2000 <= ahead <= 100000, f"{what}: sequence {name}: recovered {got}, truth {value}"


def check_not_behind_data(connection, what):
    with connection.cursor() as cursor:
        for table, column, sequence in (("public.generated", "id", "public.generated_id_seq"), ("public.generated", "s", "public.generated_s_seq")):
            cursor.execute(f"SELECT (SELECT max({column}) FROM {table}) <= (SELECT last_value FROM {sequence})")
            assert cursor.fetchone()[0], f"{what}: {sequence} is behind its data"


def check_at(truth, lsn, recovered, target_server, conninfo, what):
    with truth.at(lsn, "shop") as (server, connection):
        compare(contents(recovered), contents(connection), what)
        check_sequences(sequences(recovered), sequences(connection), what)
        wanted, got = schema(server, server.conninfo("shop")), schema(server, conninfo)
        if got != wanted:  # no assert: pytest would take hours to explain two long texts
            pytest.fail(f"{what}: schemas differ:\n" + "\n".join(difference(wanted, got)))
    check_not_behind_data(recovered, what)


def difference(a, b):
    import difflib
    return list(difflib.unified_diff(a.splitlines(), b.splitlines(), "truth", "recovered", lineterm="", n=1))[:60]


def take_snapshot(box):
    """A TRUNCATE of the writers can come between its tries; then it says so, and is asked again."""
    for _ in range(5):
        r = box.run_command("snapshot", "shop")
        if r.status == 0:
            return
        assert r.status == 1 and "meanwhile" in r.err, r
    raise AssertionError(r)


def commit_positions(box):
    """Every commit position, as `salvor log` tells them."""
    import json
    lines = [json.loads(line) for line in box.ok("log", "shop", "--json").out.splitlines()]
    return sorted({e["position"] for e in lines if "position" in e}, key=parse_lsn)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["trigger", "list"])
def test_every_position_is_exact(servers, protected, mode):
    seed = int(os.environ.get("SALVOR_SEED", random.randrange(10**6)))
    print("SALVOR_SEED =", seed)
    server = start_source(servers)
    prepare_role(server, mode)
    truth = PitrTruth(server)
    box = protected(server, admin=mode == "trigger", identity_inserts="public.no_key_log, public.no_columns")
    truth.prepare()
    writers = Writers(server.conninfo("shop"), seed=seed).start()
    writers.stopping.wait(WRITE_S / 2)
    take_snapshot(box)
    writers.stopping.wait(WRITE_S / 2)
    commits = writers.stop()
    assert commits > 50
    end = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait_durable("shop", end)
    box.stop()
    truth.finish()
    status = box.status("shop")
    assert status["gaps"] == [] and status["inexact"] == [], status

    first = parse_lsn(status["snapshots"][0]["position"])
    positions = [p for p in commit_positions(box) if parse_lsn(p) > first]
    chosen = sorted(random.Random(seed).sample(positions[:-1], EARLIER), key=parse_lsn)
    target = servers()
    for number, lsn in enumerate(chosen):
        name = f"at_{number}"
        target.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        result = box.recover("shop", "--to", lsn, "--into", target.conninfo(name))
        assert result["verified"] and result["reached_position"] == lsn, result
        with psycopg2.connect(target.conninfo(name)) as recovered:
            check_at(truth, lsn, recovered, target, target.conninfo(name), f"seed {seed}, {mode}, position {lsn}")
        target.sql(f"DROP DATABASE {name} WITH (FORCE)")

    directory = box.root / "latest"
    result = box.recover("shop", "--to", "latest", "--local", str(directory))
    assert parse_lsn(result["reached_position"]) >= parse_lsn(positions[-1])
    with psycopg2.connect(result["conninfo"]) as recovered:
        check_at(truth, result["reached_position"], recovered, None, result["conninfo"], f"seed {seed}, {mode}, latest")
        with recovered.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'salvor%'")
            assert cursor.fetchone()[0] == 0
            cursor.execute("SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_replication_slots)")
            assert cursor.fetchone()[0] == 0
            cursor.execute("SELECT count(*) FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'autovacuum') AND setting <> 'on'")
            assert cursor.fetchone()[0] == 0
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []
