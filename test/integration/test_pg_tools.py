"""PostgreSQL's own programs: schemas out and back, roles, local servers."""
import glob
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import psycopg2
import pytest

from pgserver import PgServer, bin_directory
from protecttool import ToolError, tool, tool_path
from salvorbox import wait_for

pytestmark = pytest.mark.xdist_group("pg_tools")
AS_ROOT = os.geteuid() == 0

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE SCHEMA "My Schema" AUTHORIZATION app;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE k (id int PRIMARY KEY, m mood, v text DEFAULT 'it''s;'); ALTER TABLE k OWNER TO app;
CREATE TABLE "My Schema"."salvor_x_keys" (id int);
CREATE PUBLICATION mine FOR TABLE k;
CREATE TABLE p (id int, d date) PARTITION BY RANGE (d);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON p (d);
CREATE VIEW v AS SELECT * FROM k;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM k;
CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'an event trigger of the user ran'; END $$;
GRANT SELECT ON k TO reader;
ALTER SCHEMA public OWNER TO app;
COMMENT ON TABLE k IS E'two\\nlines; and a semicolon';
"""


@pytest.fixture(scope="module")
def server():
    with PgServer() as s:
        s.start()
        s.sql("CREATE ROLE app LOGIN; CREATE ROLE reader; CREATE ROLE poor LOGIN; GRANT reader TO app; CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS;"
              "GRANT pg_read_all_data TO salvor; ALTER ROLE app SET work_mem = '8MB';"
              "CREATE ROLE \"odd;'role\" LOGIN PASSWORD 'secret;''x'; COMMENT ON ROLE app IS E'one;\\ntwo'; ")
        s.sql("CREATE DATABASE shop OWNER app")
        s.sql(SCHEMA, dbname="shop")
        yield s


@pytest.fixture
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="salvor-tools-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def dump(server, out, user="salvor"):
    tool("dump", conninfo=server.conninfo("shop", user), out=out)
    return pathlib.Path(f"{out}.sql").read_text()


# -- schema ------------------------------------------------------------------------------------------------------------


def test_the_schema_is_stable_and_without_anything_of_ours(server, folder):
    before = dump(server, folder / "a", user="postgres")
    tool("setup", conninfo=server.conninfo("shop", "salvor"), admin=server.conninfo("shop", "postgres"))
    server.sql("COMMENT ON PUBLICATION salvor_shop_keys IS 'x'; COMMENT ON EVENT TRIGGER salvor_shop_ddl IS 'x'", dbname="shop")
    try:
        protected = dump(server, folder / "b")
        assert protected == dump(server, folder / "c")
        assert "salvor_shop" not in protected and "restrict" not in protected and "Dumped" not in protected
        # A table of the user's with such a name is the user's, and so are other publications.
        assert '"My Schema".salvor_x_keys' in protected and "CREATE PUBLICATION mine" in protected
        assert protected == before
        server.sql("ALTER TABLE k ADD added int", dbname="shop")
        assert protected != dump(server, folder / "d")
        server.sql("ALTER TABLE k DROP added", dbname="shop")
    finally:
        tool("teardown", conninfo=server.conninfo("shop", "salvor"), admin=server.conninfo("shop", "postgres"))


def test_the_schema_under_a_snapshot(server, folder):
    c = server.connect("shop", "postgres", autocommit=False)
    c.set_isolation_level(2)
    cursor = c.cursor()
    cursor.execute("SELECT pg_export_snapshot()")
    snapshot = cursor.fetchone()[0]
    server.sql("CREATE SEQUENCE later", dbname="shop")
    try:
        tool("dump", conninfo=server.conninfo("shop", "salvor"), out=folder / "a", snapshot=snapshot)
        assert "later" not in (folder / "a.sql").read_text()
        assert "later" in dump(server, folder / "b")
    finally:
        c.close()
        server.sql("DROP SEQUENCE later", dbname="shop")


def test_a_schema_goes_back(server, folder):
    """Both sections, with the user's own event trigger, which must not run while its database is rebuilt."""
    tool("setup", conninfo=server.conninfo("shop", "salvor"), admin=server.conninfo("shop", "postgres"))
    try:
        server.sql("CREATE EVENT TRIGGER users_own ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE INDEX') "
                   "EXECUTE FUNCTION noted()", dbname="shop")
        wanted = dump(server, folder / "a")
        server.sql("CREATE DATABASE again OWNER app")
        target = server.conninfo("again", "postgres")
        tool("restore", conninfo=target, dump=folder / "a.dump", section="pre")
        assert server.sql("SELECT 1 FROM pg_indexes WHERE schemaname = 'public'", dbname="again") == []
        server.sql("INSERT INTO k VALUES (1, 'ok')", dbname="again")
        tool("restore", conninfo=target, dump=folder / "a.dump", section="post", jobs=3)
        for query, count in (("SELECT 1 FROM pg_publication WHERE pubname LIKE 'salvor%'", 0),
                             ("SELECT 1 FROM pg_event_trigger WHERE evtname LIKE 'salvor%'", 0),
                             ("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'salvor%'", 0),
                             ("SELECT 1 FROM pg_event_trigger WHERE evtname = 'users_own'", 1),
                             ("SELECT 1 FROM pg_publication WHERE pubname = 'mine'", 1)):
            assert len(server.sql(query, dbname="again")) == count, query
        tool("dump", conninfo=target, out=folder / "b")
        assert (folder / "b.sql").read_text() == wanted
        assert list(folder.glob("*.list")) == []
    finally:
        server.sql("DROP DATABASE IF EXISTS again WITH (FORCE)")
        server.sql("DROP EVENT TRIGGER IF EXISTS users_own", dbname="shop")
        tool("teardown", conninfo=server.conninfo("shop", "salvor"), admin=server.conninfo("shop", "postgres"))


def test_an_error_of_pg_restore_is_one_sentence(server, folder):
    dump(server, folder / "a")
    with PgServer() as other:
        other.start()
        with pytest.raises(ToolError) as e:
            tool("restore", conninfo=other.conninfo(), dump=folder / "a.dump", section="pre")
        assert 'role "app" does not exist' in e.value.text
        other.sql("CREATE DATABASE again")
        tool("restore", conninfo=other.conninfo("again"), dump=folder / "a.dump", section="pre", no_owner=1)
        tool("restore", conninfo=other.conninfo("again"), dump=folder / "a.dump", section="post", no_owner=1)


def test_programs_are_found_and_judged(folder):
    assert tool("find", version=150000) == bin_directory()
    assert tool("find", version=0)
    with pytest.raises(ToolError) as e:
        tool("find", version=990000)
    assert "postgresql-client-99" in e.value.text
    with pytest.raises(ToolError) as e:
        tool("find", bin=folder)
    assert str(folder) in e.value.text
    with pytest.raises(ToolError) as e:
        tool("find", bin=bin_directory(), version=990000)
    assert e.value.status == 3
    assert tool("find", bin=bin_directory()) == bin_directory()


# -- roles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["postgres", "poor"])
def test_roles_come_as_statements_that_can_be_replayed(server, user):
    statements = tool("globals", conninfo=server.conninfo("shop", user))
    text = "\n".join(statements)
    assert not any(s.startswith(("SET ", "\\", "--")) for s in statements)
    assert ("SCRAM-SHA-256" in text) == (user == "postgres")
    assert "COMMENT ON ROLE app IS 'one;\ntwo'" in text and "TABLESPACE" not in text
    with PgServer() as other:
        other.start()
        for _ in range(2):
            for statement in statements:
                try:
                    other.sql(statement)
                except psycopg2.errors.DuplicateObject:
                    assert statement.startswith("CREATE ROLE")
        query = ("SELECT rolname, rolsuper, rolcanlogin, rolreplication, rolbypassrls, rolconfig, shobj_description(oid, 'pg_authid') "
                 "FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1", "SELECT roleid::regrole::text, member::regrole::text FROM "
                 "pg_auth_members WHERE member >= 16384 ORDER BY 1, 2")
        for q in query:
            assert other.sql(q) == server.sql(q)


# -- local servers -----------------------------------------------------------------------------------------------------


class Local:
    """A local server by the tool; the test ends it."""

    def __init__(self, **options):
        self.made = tool("server_make", **options)

    def do(self, action, **options):
        user = {"user": self.made["user"]} if self.made["user"] else {}
        return tool("server", action=action, directory=self.made["directory"], port=self.made["port"], **user, **options)

    def value(self, text, client=False):
        c = psycopg2.connect(self.made["client"] + " user=postgres" if client else self.made["local"])
        c.autocommit = True
        try:
            cursor = c.cursor()
            cursor.execute(text)
            return cursor.fetchone()[0] if cursor.description else None
        finally:
            c.close()

    def pid(self):
        return int((pathlib.Path(self.made["directory"]) / "data/postmaster.pid").read_text().split()[0])


@pytest.fixture
def ended():
    """Folders whose servers are stopped at the end, however they are, and sockets that lay elsewhere."""
    folders, before = [], set(glob.glob("/tmp/salvor-" + "[0-9a-f]" * 16))
    yield folders.append
    for path in set(glob.glob("/tmp/salvor-" + "[0-9a-f]" * 16)) - before:
        shutil.rmtree(path, ignore_errors=True)
    for folder in folders:
        for path in pathlib.Path(folder).rglob("postmaster.pid"):
            pid = int(path.read_text().split()[0])
            if is_running(pid) and os.readlink(f"/proc/{pid}/cwd") == str(path.parent):
                os.kill(pid, signal.SIGQUIT)
                wait_for("the server to end", lambda pid=pid: not is_running(pid))


def is_running(pid):
    """A process that has ended and that nobody has reaped yet does not run."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_local_server_from_making_to_ready(folder, ended):
    ended(folder)
    directory = folder / "with a space, and 'quotes'" / "db"
    database = json.dumps({"encoding": "UTF8", "collate": "C.UTF-8", "ctype": "C.UTF-8", "provider": "icu", "locale": "de-AT",
                           "checksums": True, "wal_segment_bytes": 16777216})
    s = Local(directory=directory, database=database)
    assert s.made["directory"] == str(directory) and 0 < s.made["port"] < 32768
    assert directory.stat().st_mode & 0o777 == 0o700
    owner = pwd.getpwuid(directory.stat().st_uid).pw_name
    assert owner == ("postgres" if AS_ROOT else pwd.getpwuid(os.geteuid()).pw_name)
    s.do("load")
    assert [s.value("SHOW " + n) for n in ("fsync", "wal_level", "autovacuum", "data_checksums", "server_encoding")] == [
        "off", "minimal", "off", "on", "UTF8"]
    assert s.value("SELECT daticulocale FROM pg_database WHERE datname = 'template0'") in ("de-AT", "de_AT")
    s.value("CREATE TABLE t AS SELECT generate_series(1, 1000) g")
    s.do("stop")
    s.do("sync")
    s.do("start")
    assert [s.value("SHOW " + n) for n in ("fsync", "wal_level", "autovacuum", "full_page_writes", "listen_addresses")] == [
        "on", "logical", "on", "on", "127.0.0.1"]
    assert s.value("SHOW max_slot_wal_keep_size") != "-1" and s.value("SELECT count(*) FROM t") == 1000
    # It can be protected again, by its superuser and the socket.
    assert tool("setup", conninfo=s.made["local"], admin=s.made["local"])["mode"] == "triggers"
    # Clients come by a password; who is another system user is not postgres by the socket either.
    with pytest.raises(psycopg2.OperationalError):
        s.value("SELECT 1", client=True)
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(s.made["local"] + " user=nobody")
    s.value("ALTER ROLE postgres PASSWORD 'secret'")
    c = psycopg2.connect(s.made["client"] + " user=postgres password=secret")
    c.close()
    # Not ready yet: the next recovery may take the directory, whatever runs in it.
    pid = s.pid()
    again = Local(directory=directory, auth="trust")
    assert not is_running(pid)
    again.do("start")
    assert again.value("SELECT 1", client=True) == 1
    again.do("ready")
    again.do("stop")
    again.do("stop")
    with pytest.raises(ToolError) as e:
        Local(directory=directory)
    assert e.value.status == 3 and "not empty" in e.value.text


def test_the_server_outlives_its_maker(folder, ended):
    ended(folder)
    s = Local(directory=folder / "db")
    argv = [tool_path(), "server", "action=start", "directory=" + s.made["directory"], "port=%d" % s.made["port"]]
    if s.made["user"]:
        argv.append("user=" + s.made["user"])
    maker = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL)
    assert maker.wait(60) == 0
    assert os.getsid(s.pid()) != maker.pid and s.value("SELECT 1") == 1
    s.do("stop")


def test_directories_that_are_refused(folder):
    (folder / "full").mkdir()
    (folder / "full/somebody's").write_text("x")
    with pytest.raises(ToolError) as e:
        Local(directory=folder / "full")
    assert e.value.status == 3 and "not empty" in e.value.text
    assert (folder / "full/somebody's").exists()


@pytest.mark.skipif(not AS_ROOT, reason="only root can run a server as another user")
def test_a_closed_parent_is_named(folder):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ToolError) as e:
        Local(directory=closed / "a/db")
    assert e.value.status == 3 and f"cannot enter {closed}" in e.value.text and "chmod o+x" in e.value.text
    with pytest.raises(ToolError) as e:
        Local(directory=folder / "db", user="nobody-of-this-name")
    assert "local_user" in e.value.text
    with pytest.raises(ToolError) as e:
        Local(directory=folder / "db", user="root")
    assert "refuses to run as root" in e.value.text


def test_a_long_name_has_its_socket_elsewhere(folder, ended):
    ended(folder)
    directory = folder / ("x" * 60) / ("y" * 60)
    s = Local(directory=directory)
    s.do("start")
    assert "/tmp/salvor-" in s.made["local"] and s.value("SELECT 1") == 1
    s.do("stop")


def test_ports(folder, ended):
    ended(folder)
    with PgServer() as other:
        other.start()
        with pytest.raises(ToolError) as e:
            Local(directory=folder / "db", port=other.port)
        assert e.value.status == 3 and str(other.port) in e.value.text
        s = Local(directory=folder / "db")
        assert s.made["port"] != other.port
        s.made["port"] = other.port
        with pytest.raises(ToolError) as e:
            s.do("start")
        assert "FATAL" in e.value.text
        # One that we chose and somebody else has taken meanwhile is nobody's wish.
        other_port = s.do("load", port_chosen=1)["port"]
        assert other_port != other.port
        s.made["port"] = other_port
        s.do("stop")
