"""Fixtures: throw-away PostgreSQL servers and Salvor folders, destroyed at the end of each test."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cephserver import CephServer  # noqa: E402
from pgserver import PgServer  # noqa: E402
from salvorbox import Salvor  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    """What a test has to tell even when it passes: record_property("tells", ...)."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "tells":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")


@pytest.fixture
def servers():
    """servers(conf=..., **PgServer options) starts one more server."""
    made = []

    def make(conf=None, **options):
        server = PgServer(**options)
        made.append(server)
        return server.start(conf)

    yield make
    for server in made:
        server.destroy()


# In the order of what they take.
LONG = ["test_corpus", "test_random_histories", "test_a_huge_value", "test_recovery_goes_on_from_renewed_tables", "test_server_killed_inside", "test_killed_during_a_renewal", "test_at_snapshots",
        "test_rows_that_stay", "test_between_snapshots", "test_migration", "test_what_left_no_record", "test_an_inexact_table_is_renewed_by_itself", "test_a_snapshot_where_needed",
        "test_killed_again_and_again"]


def begins(item):
    """What one worker does alone, and what takes longest, begins first: nobody waits for it in the end."""
    groups = [m.args[0] for m in item.iter_markers("xdist_group")]
    return "ceph" not in groups, not groups, LONG.index(item.originalname) if item.originalname in LONG else len(LONG)


def pytest_collection_modifyitems(items):
    items.sort(key=begins)


@pytest.fixture(scope="session")
def ceph():
    """One cluster with a gateway for all tests of a worker: mark them xdist_group("ceph")."""
    server = CephServer()
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture
def boxes():
    """boxes(sources, ...) makes one more Salvor folder."""
    made = []

    def make(*args, **options):
        box = Salvor(*args, **options)
        made.append(box)
        return box

    yield make
    for box in made:
        box.destroy()


def prepare(server, boxes, dbname="shop", role="salvor", **options):
    """A non-superuser role and a box with fast settings for tests; nothing is made yet."""
    server.sql(f"DO $$ BEGIN CREATE ROLE {role} LOGIN REPLICATION BYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    server.sql(f"GRANT pg_read_all_data TO {role}")
    settings = {"conninfo": server.conninfo(dbname, role, tcp=True), "rpo": "8s", "heartbeat": "500ms", "poll": "1s",
                "snapshot_schedule": "none", "snapshot_quiet": "1s", "snapshot_spacing": "0s", "probe": "300ms", **options}
    return boxes({dbname: settings})


def begin(server, box, dbname="shop", admin=True):
    """The usual start: init, setup, run, the first snapshot."""
    box.ok("init")
    box.ok("setup", dbname, *(["--admin", server.conninfo(dbname, "postgres", tcp=True)] if admin else []))
    box.start()
    box.wait_streaming(dbname)
    box.wait_snapshots(dbname, 1)
    return box


def protect(server, boxes, dbname="shop", admin=True, role="salvor", **options):
    return begin(server, prepare(server, boxes, dbname, role, **options), dbname, admin)


@pytest.fixture
def protected(boxes):
    return lambda server, **options: protect(server, boxes, **options)
