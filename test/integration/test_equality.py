"""A recovered database is the source as it was: schema, every value of every row, sequences as bounded; at latest and at random earlier
commits, with PostgreSQL's own point-in-time recovery as the truth."""
import json
import os
import pathlib
import random
import shutil

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


class Polls:
    """What capture noted of sequences, as `salvor log` tells it: what a recovery may set them to follows from that."""

    UNSEEN_S = 15  # polls are at most 5 s apart, and at most three may have seen no change before the source was lost

    def __init__(self, box):
        notes = [e["note"] for e in map(json.loads, box.ok("log", "shop", "--json").out.splitlines()) if e.get("note", {}).get("kind") == "sequences"]
        self.notes = [(parse_lsn(n["at"]), n["wall_us"] / 1e6, {(v["schema"], v["name"]): v for v in n["values"]}) for n in notes]
        assert len(self.notes) >= 3, notes
        times = [wall for _, wall, _ in self.notes]
        self.interval_s = max(0.5, min(b - a for a, b in zip(times, times[1:])))

    def last(self, name, lsn):
        """The last value that was noted at or before lsn; None: none, or it had never been drawn from."""
        found = None
        for at, _, values in self.notes:
            if at <= lsn and name in values:
                found = values[name]["last_value"] if values[name]["is_called"] else None
        return found

    def calls_unseen(self, name, cache):
        """As many calls as may have been made unseen, at the highest rate that was observed."""
        values = [v[name]["last_value"] for _, _, v in self.notes if name in v]
        step = next(v[name]["increment"] for _, _, v in self.notes if name in v)
        most = max((abs(b - a) / abs(step) for a, b in zip(values, values[1:])), default=0)
        return most / self.interval_s * self.UNSEEN_S + cache + 33  # PostgreSQL's own log is ahead by 32


def check_sequences(polls, lsn, recovered, truth, what):
    """Never behind the last poll, and no further beyond it or the truth than the observed rate explains."""
    assert set(recovered) == set(truth), what
    checked = 0
    for name, (value, step, cache) in truth.items():
        got, polled = recovered[name][0], polls.last(name, parse_lsn(lsn))
        if polled is None:
            continue
        assert got is not None and (got - polled) / step >= 0, f"{what}: sequence {name}: recovered {got} is behind the poll's {polled}"
        ahead = min((got - known) / step for known in (polled, value) if known is not None)
        assert ahead <= polls.calls_unseen(name, cache), f"{what}: sequence {name}: recovered {got}, poll {polled}, truth {value}, {ahead} calls beyond"
        checked += 1
    assert checked >= 3, (what, recovered, polls.notes[:2])


def check_not_behind_data(connection, what):
    with connection.cursor() as cursor:
        for table, column, sequence in (("public.generated", "id", "public.generated_id_seq"), ("public.generated", "s", "public.generated_s_seq")):
            cursor.execute(f"SELECT (SELECT max({column}) FROM {table}) <= (SELECT last_value FROM {sequence})")
            assert cursor.fetchone()[0], f"{what}: {sequence} is behind its data"


def check_at(polls, truth, lsn, recovered, target_server, conninfo, what):
    with truth.at(lsn, "shop") as (server, connection):
        compare(contents(recovered), contents(connection), what)
        check_sequences(polls, lsn, sequences(recovered), sequences(connection), what)
        wanted, got = schema(server, server.conninfo("shop")), schema(server, conninfo)
        if got != wanted:  # no assert: pytest would take hours to explain two long texts
            pytest.fail(f"{what}: schemas differ:\n" + "\n".join(difference(wanted, got)))
    check_not_behind_data(recovered, what)


def difference(a, b):
    import difflib
    return list(difflib.unified_diff(a.splitlines(), b.splitlines(), "truth", "recovered", lineterm="", n=1))[:60]


def take_snapshot(box):
    """A TRUNCATE of the writers can come between its tries, or wait for it while it waits; then it says so, and is asked again."""
    for _ in range(10):
        r = box.run_command("snapshot", "shop")
        if r.status == 0:
            return
        assert r.status == 1 and ("meanwhile" in r.err or "taken again later" in r.err), r
    raise AssertionError(r)


def commit_positions(box):
    """Every commit position, as `salvor log` tells them."""
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
    polls = Polls(box)
    target = servers()
    for number, lsn in enumerate(chosen):
        name = f"at_{number}"
        target.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        result = box.recover("shop", "--to", lsn, "--into", target.conninfo(name))
        assert result["verified"] and result["reached_position"] == lsn, result
        with psycopg2.connect(target.conninfo(name)) as recovered:
            check_at(polls, truth, lsn, recovered, target, target.conninfo(name), f"seed {seed}, {mode}, position {lsn}")
        target.sql(f"DROP DATABASE {name} WITH (FORCE)")

    directory = box.root / "latest"
    result = box.recover("shop", "--to", "latest", "--local", str(directory))
    assert parse_lsn(result["reached_position"]) >= parse_lsn(positions[-1])
    with psycopg2.connect(result["conninfo"]) as recovered:
        check_at(polls, truth, result["reached_position"], recovered, None, result["conninfo"], f"seed {seed}, {mode}, latest")
        with recovered.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'salvor%'")
            assert cursor.fetchone()[0] == 0
            cursor.execute("SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_replication_slots)")
            assert cursor.fetchone()[0] == 0
            cursor.execute("SELECT count(*) FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'autovacuum') AND setting <> 'on'")
            assert cursor.fetchone()[0] == 0
    assert box.ok("verify", "--json").json["vaults"][0]["findings"] == []


def test_no_sequence_is_behind_its_column(servers, protected):
    """All numbers were drawn since the last poll: only the columns tell of them: of whatever type, and beside rows that somebody numbered by hand."""
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql("""CREATE SEQUENCE n; CREATE TABLE of_numeric (id numeric PRIMARY KEY DEFAULT nextval('n'));
        CREATE DOMAIN inner_ AS int; CREATE DOMAIN outer_ AS inner_; CREATE SEQUENCE d; CREATE TABLE of_domain (id outer_ PRIMARY KEY DEFAULT nextval('d'));
        CREATE TABLE by_hand (id serial PRIMARY KEY); CREATE TABLE small (id smallserial PRIMARY KEY);
        CREATE TABLE falls (id int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -3 MINVALUE -100000) PRIMARY KEY)""", dbname="shop")
    box = protected(server, poll="10s")
    tables = ["of_numeric", "of_domain", "by_hand", "small", "falls"]
    server.sql("INSERT INTO of_numeric VALUES ('NaN'), (2999.5), ('-Infinity'); INSERT INTO by_hand VALUES (2147483647); INSERT INTO falls VALUES (-100000)", dbname="shop")
    for table in tables:
        server.sql(f"INSERT INTO {table} SELECT FROM generate_series(1, 3000)", dbname="shop")
    at = server.value("SELECT pg_current_wal_insert_lsn()::text")
    box.wait_durable("shop", at)
    server.sql("CREATE DATABASE recovered TEMPLATE template0")
    assert box.recover("shop", "--to", at, "--into", server.conninfo("recovered"))["verified"]
    for table in tables:
        server.sql(f"INSERT INTO {table} DEFAULT VALUES", dbname="recovered")


def test_a_target_needs_no_tablespace_of_the_source(servers, protected):
    """What lies in one is in the default tablespace of a recovered server, as check has said."""
    server = servers()
    place = os.path.join(server.root, "place")
    os.mkdir(place)
    shutil.chown(place, server.system_user)
    server.sql("CREATE DATABASE shop")
    server.sql(f"CREATE TABLESPACE place LOCATION '{place}'")
    server.sql("""CREATE TABLE t (id int PRIMARY KEY USING INDEX TABLESPACE place, v text) TABLESPACE place; INSERT INTO t SELECT i, 'v' FROM generate_series(1, 9) i; CREATE INDEX ON t (v) TABLESPACE place;
        CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id) TABLESPACE place; CREATE TABLE p_1 PARTITION OF p DEFAULT TABLESPACE place; INSERT INTO p VALUES (1);
        CREATE MATERIALIZED VIEW m TABLESPACE place AS SELECT count(*) FROM t; ALTER DATABASE shop SET default_tablespace = place""", dbname="shop")
    box = protected(server)
    assert "puts everything into its default tablespace" in box.ok("check", "shop").out
    result = box.recover("shop", "--to", "latest", "--local", str(box.root / "local"))
    assert result["verified"]
    with server.connect("shop") as source, psycopg2.connect(result["conninfo"]) as recovered:
        compare(contents(recovered), contents(source), "without its tablespace")
