"""Runs the corpus against real servers: what test_corpus.py asserts and docs/COVERAGE.md tells comes from here."""
import concurrent.futures
import contextlib
import os
import re
import sys
import time

import psycopg2
from salvorbox import parse_lsn, wait_for
from truth import schema

import corpus

ENCODINGS = {"utf8": ("UTF8", "C.UTF-8"), "latin1": ("LATIN1", "C"), "ascii": ("SQL_ASCII", "C"), "schema": ("UTF8", "C.UTF-8"), "whole": ("UTF8", "C.UTF-8"), "refused": ("UTF8", "C.UTF-8"),
             "named": ("UTF8", "C.UTF-8"), "checked": ("UTF8", "C.UTF-8")}
# The second: it has no key, and is updated about when it gets one, which makes it inexact where nobody has declared that it was only inserted into.
IDENTITY = {"whole": {"identity": "full"}, "schema": {"identity_inserts": "changes_primary_key_added_to_inserted_rows.t"}}
# Names and texts of the cases are UTF-8; a SQL_ASCII database converts nothing, and its rows are read as they are.
psycopg2.extensions.encodings.update(SQLASCII="utf_8", SQL_ASCII="utf_8")
PINNED = ("SET extra_float_digits = 3; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex'; "
          "SET search_path = ''; SET row_security = off; SET lc_monetary = 'C'")
# Columns by name: pg_dump puts inherited ones first.
TABLES = """SELECT n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), c.relpersistence = 'u',
                (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated)
                AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT LIKE 'salvor\\_%' AND n.nspname <> 'information_schema' {} ORDER BY 1, 2"""


class Rows:
    """Takes COPY output; rows() gives its lines in an order of their own."""

    def __init__(self):
        self.parts = []

    def write(self, data):
        self.parts.append(data if isinstance(data, bytes) else data.encode())

    def rows(self):
        return sorted(b"".join(self.parts).split(b"\n")[:-1])


def contents(connection, of_schema=None):
    """{(schema, table): its rows as COPY text}, tables and filled materialized views. Of an unlogged table only that it is there."""
    found = {}
    with connection.cursor() as cursor:
        cursor.execute(PINNED)
        cursor.execute(TABLES.format(f"AND n.nspname = '{of_schema}'" if of_schema else ""))
        for schema_name, name, quoted, unlogged, columns in cursor.fetchall():
            out = Rows()
            if unlogged:
                found[schema_name, name] = [b"unlogged"]
                continue
            cursor.copy_expert(f"COPY (SELECT {columns or ''} FROM ONLY {quoted}) TO STDOUT", out)
            found[schema_name, name] = out.rows()
    return found


def connect(server, dbname):
    connection = server.connect(dbname)
    if connection.encoding not in ("SQLASCII", "SQL_ASCII"):
        connection.set_client_encoding("UTF8")
    return connection


PARTS = 4  # of each crossed change: positions between them are looked at
PROPERTIES = ("", "properties of the database")


def properties(connection):
    """What pg_dump tells of a database only where it makes it."""
    with connection.cursor() as cursor:
        cursor.execute("""SELECT format('%s: %s', CASE WHEN setrole <> 0 THEN setrole::regrole::text END, setting) FROM pg_db_role_setting, unnest(setconfig) setting
                          WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
                          UNION ALL SELECT 'comment: ' || shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database() ORDER BY 1""")
        return [row[0] for row in cursor.fetchall()]


class Moment:
    """A position and the truth about it."""

    def __init__(self, name, lsn, tables, schema_text=None):
        self.name, self.lsn, self.tables, self.schema_text = name, lsn, tables, schema_text


class Database:
    """One database of the source's server with the cases that live in it."""

    def __init__(self, server, name, groups):
        self.server, self.name = server, name
        # Changes that are crossed and those that are not lie apart: behind one of the latter nothing would be given.
        self.groups = [g for g in groups if g.database == ("schema" if name == "refused" else name)]
        self.cases = [c for g in self.groups for c in g.cases if name not in ("schema", "refused") or (name == "refused") == bool(c.refused)]
        encoding, locale = ENCODINGS[name]
        server.sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE '{locale}'")
        self.connection = connect(server, name)
        self.by_schema = {c.schema: c for c in self.cases}
        self.faults = {}  # case (None: the database as a whole): what was wrong
        self.said = {}  # case: what `check` says
        self.current = None  # the case whose schema stands in the search path

    def run(self, case, statements):
        with self.connection.cursor() as cursor:
            for statement in statements:
                try:
                    if self.current is not case:
                        cursor.execute(f"SET search_path = {case.schema}, public" if case else "SET search_path = public")
                        self.current = case
                    corpus.execute(cursor, statement)
                except psycopg2.Error as e:
                    where = f"{case.group.file}: {case.name}" if case else "common"
                    raise AssertionError(f"the corpus itself: {where}: {statement[:300]}: {e}") from None

    def setup(self):
        for group in self.groups:
            self.run(None, group.common)
        for case in self.cases:
            self.run(None, ["\n".join([f"BEGIN; CREATE SCHEMA {case.schema}; SET search_path = {case.schema}, public;", *case.setup, "COMMIT; SET search_path = public;"])])

    def position(self):
        """Behind the last commit of ours. The message sees to it that a heartbeat is not needed to reach it."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
            return cursor.fetchone()[0]

    def pinned(self):
        """The truth is read with settings of its own."""
        self.current = None
        return contents(self.connection)

    def moment(self, name, schema_too=False):
        lsn, tables = self.position(), self.pinned()
        with self.connection.cursor() as cursor:
            cursor.execute(f"RESET ALL; SET client_encoding = '{'SQL_ASCII' if self.name == 'ascii' else 'UTF8'}'")
        return Moment(name, lsn, {**tables, PROPERTIES: properties(self.connection)}, schema(self.server, self.server.conninfo(self.name)) if schema_too else None)

    def blame(self, case, what):
        self.faults.setdefault(case, []).append(what)

    def case_of_line(self, line):
        return next((self.by_schema[w] for w in re.findall(r"\w+", line) if w in self.by_schema), None)

    # -- what check says

    def hear(self, findings):
        for f in findings:
            if f["severity"] == "ok":
                continue
            named = {self.by_schema[w] for w in re.findall(r"\w+", f"{f['object'] or ''} {f['text']}") if w in self.by_schema}
            for case in named or [None]:
                self.said.setdefault(case, []).append((f["severity"], f["code"], f["object"], f["text"]))

    # -- comparing

    def compare(self, recovered, moment, conninfo, tool_server):
        self.compare_contents({**contents(recovered), PROPERTIES: properties(recovered)}, moment)
        if moment.schema_text is not None:
            self.compare_schema(schema(tool_server, conninfo), moment)
        for line in behind(recovered):
            self.blame(self.case_of_line(line), f"{moment.name}: {line}")

    def compare_contents(self, found, moment):
        for table in sorted(set(found) | set(moment.tables)):
            case, wanted, got = self.by_schema.get(table[0]), moment.tables.get(table), found.get(table)
            if wanted == got or (case and table[1] in {**case.not_kept, **case.differs} and got is not None):
                continue
            self.blame(case, f"{moment.name} ({moment.lsn}): {table[1]}: " + difference(wanted, got))

    def compare_schema(self, found, moment):
        import difflib
        lines = list(difflib.unified_diff(moment.schema_text.splitlines(), found.splitlines(), "truth", "recovered", lineterm="", n=2))
        for line in lines[2:]:
            if line[0] in "+-":
                self.blame(self.case_of_line(line), f"{moment.name}: the schema differs: {line}")


def difference(wanted, got):
    if wanted is None or got is None:
        return "the table is missing" if got is None else "the table should not be there"
    less, more = [list(map(lambda r: r[:200], side)) for side in ([r for r in wanted if r not in got], [r for r in got if r not in wanted])]
    return f"{len(got)} rows instead of {len(wanted)}; missing {less[:4]}, too much {more[:4]}"


OWNED = """SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), d.objid::regclass::text, q.seqincrement, q.seqmin, q.seqmax
           FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid JOIN pg_sequence q ON q.seqrelid = d.objid
           WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND NOT q.seqcycle AND c.relkind IN ('r', 'p')"""


def behind(connection):
    """Sequences that would give a value again which their column holds already."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute(OWNED)
        for table, column, sequence, step, least, most in cursor.fetchall():
            cursor.execute(f"SELECT {'max' if step > 0 else 'min'}({column}), (SELECT last_value FROM {sequence}) FROM {table} WHERE {column} BETWEEN {least} AND {most}")
            value, last = cursor.fetchone()
            if value is not None and (value - last) * step > 0:
                found.append(f"{sequence} stands at {last}, and {column} has {value} already")
    return found


def tell(what, began):
    """SALVOR_CORPUS_TIMES=1: where the time goes."""
    if os.environ.get("SALVOR_CORPUS_TIMES"):
        print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr)


class Corpus:
    """The source's server, a target's, and a box that protects all databases."""

    def __init__(self, servers, boxes):
        self.groups = corpus.groups()
        self.server = servers({"logical_decoding_work_mem": "64kB", "log_min_messages": "error"})
        self.target = servers({"log_min_messages": "error", "max_locks_per_transaction": "512"})
        for server in (self.server, self.target):  # a recovery into an existing server finds the roles there
            for group in self.groups:
                if group.database == "server":
                    for statement in group.common:
                        server.sql(statement)
        self.server.sql("CREATE ROLE salvor LOGIN REPLICATION BYPASSRLS; GRANT pg_read_all_data TO salvor")
        self.databases = [Database(self.server, name, self.groups) for name in ENCODINGS if name != "checked"]
        self.checked = Database(self.server, "checked", self.groups)
        self.box = boxes({d.name: {"conninfo": self.server.conninfo(d.name, "salvor", tcp=True), "rpo": "8s", "heartbeat": "500ms", "poll": "1s",
                                   "snapshot_schedule": "none", "snapshot_quiet": "600s", "snapshot_spacing": "600s", "probe": "1s",
                                   "idle_segment": "600s", **IDENTITY.get(d.name, {})} for d in self.databases}
                         | {"checked": {"conninfo": self.server.conninfo("checked", "salvor", tcp=True)}})

    def protect(self):
        began = time.monotonic()
        for database in self.databases:
            database.setup()
        tell("setup", began)
        self.box.ok("init")
        for database in self.databases:
            database.hear(self.box.ok("check", database.name, "--json").json["sources"][0]["findings"])
            self.box.ok("setup", database.name, "--admin", self.server.conninfo(database.name, "postgres", tcp=True))
        self.box.start()
        for database in self.databases:
            self.box.wait_snapshots(database.name, 1, 180)
        tell("protected", began)

    def snapshot(self, database):
        began = time.monotonic()
        self.box.ok("snapshot", database.name)
        tell(f"snapshot {database.name}", began)

    def durable(self, database, lsn):
        self.box.wait_durable(database.name, lsn, 120)

    def dry_run(self, database, lsn):
        return self.box.run_command("recover", database.name, "--to", lsn, "--into", self.target.conninfo("postgres"), "--dry-run")

    def recover(self, database, moment):
        """Into a new database of the target's server, compared, and thrown away."""
        encoding, locale = ENCODINGS[database.name]
        name = f"{database.name}_recovered"
        began = time.monotonic()
        self.target.sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE '{locale}'")
        result = self.box.recover(database.name, "--to", moment.lsn, "--into", self.target.conninfo(name), timeout=600)
        tell(f"recover {database.name} {moment.name}: {result['phases']}", began)
        assert result["verified"], result
        assert moment.lsn == "latest" or parse_lsn(result["reached_position"]) <= parse_lsn(moment.lsn), result
        with contextlib.closing(connect(self.target, name)) as recovered:
            database.compare(recovered, moment, self.target.conninfo(name), self.target)
        self.target.sql(f"DROP DATABASE {name} WITH (FORCE)")
        tell(f"recover and compare {database.name}", began)
        return result

    # -- the ways

    def all_ways(self):
        """Two databases at a time: much of it is waiting. The one with a snapshot for each of its cases takes longest and begins first."""
        ways = {"schema": self.crossed, "whole": self.crossed, "refused": self.refused, "named": self.refused}
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(ways.get(d.name, self.rows), d) for d in sorted(self.databases, key=lambda d: d.name != "refused")]:
                done.result()

    def check_alone(self):
        """What cannot be kept, or would make every recovery fail, is named before anything is protected."""
        database = self.checked
        database.setup()
        database.hear(self.box.run_command("check", "checked", "--json").json["sources"][0]["findings"])
        for case in database.cases:
            severity, words = case.says.split(": ", 1)
            heard = [f for f in database.said.get(case, []) + database.said.get(None, []) if f[0] == severity and words in f[3]]
            if not heard:
                database.blame(case, f"check does not say {severity!r} {words!r}: {database.said.get(case, [])}")

    def crossed(self, database):
        """Changes that recovery goes across: one after the other a part of each case, and the positions before, between and after are exact, all from
        the one snapshot that lies before all of them."""
        self.snapshot(database)
        moments = [database.moment("before the changes", schema_too=True)]
        for part in range(PARTS):
            for case in sorted(database.cases, key=lambda c: not c.polled):
                units = corpus.units(case.after)
                for unit in units[len(units) * part // PARTS:len(units) * (part + 1) // PARTS]:
                    if case.polled:
                        self.looked_at(database, database.position())
                    database.run(case, unit)
                    if case.polled:
                        self.looked_at(database, database.position())
            moments.append(database.moment(f"behind part {part + 1} of {PARTS} of each change", schema_too=True))
            self.captured(database, moments[-1].lsn)
        used = {self.recover(database, moment)["snapshot"] for moment in moments}
        if len(used) != 1:
            database.blame(None, f"several snapshots served: {used}")
        self.snapshot(database)
        self.recover(database, Moment("after the next snapshot", "latest", moments[-1].tables, moments[-1].schema_text))

    def refused(self, database):
        """Changes that it does not go across: what was before is given, what is behind is refused with the reason, until the next snapshot."""
        self.snapshot(database)
        for number, case in enumerate(database.cases):
            if case.polled:
                self.looked_at(database, database.position())
            before = database.moment(f"before {case.name}", schema_too=True) if number == 0 else None
            begin = database.position()
            database.run(case, case.after)
            end = database.position()
            if case.polled:
                self.looked_at(database, end)
            self.snapshot(database)
            self.durable(database, end)
            self.judge_refused(database, case, begin, end)
            if before:
                self.recover(database, before)
        moment = database.moment("behind all changes, after the next snapshot", schema_too=True)
        self.recover(database, Moment(moment.name, "latest", moment.tables, moment.schema_text))

    def judge_refused(self, database, case, begin, end):
        behind = self.dry_run(database, end)
        before = None if case.polled else self.dry_run(database, begin)  # else what is refused begins at the poll before
        # A poll between two commands finds the table itself, and from the poll before that on it is inexact.
        found = lambda r: r.status == 3 and case.refused == "nothing to identify its rows for a time" and "is inexact (" in r.err
        if before and before.status != 0 and not found(before):
            database.blame(case, f"the position before its change is not given: {before}")
        if not found(behind) and (behind.status != 3 or case.refused not in behind.err):
            database.blame(case, f"declared refused with {case.refused!r}, and recover --dry-run says: {behind}")

    def captured(self, database, lsn):
        """Until the schema is captured as it is at lsn."""
        self.durable(database, lsn)
        changed = lambda status: max((parse_lsn(c["to"]) for c in status["schema_changed"]), default=0)
        self.box.wait_status(database.name, "the schema to be captured", lambda s: parse_lsn(s["schema_captured"] or "0/0") >= changed(s), 120)

    def looked_at(self, database, lsn):
        """Until polls have seen the schema as it is at lsn. A heartbeat may be what lies at it."""
        database.connection.cursor().execute("SELECT pg_logical_emit_message(true, 'corpus', '')")
        self.box.wait_status(database.name, "the schema to be looked at", lambda s: parse_lsn(s["schema_seen"] or "0/0") >= parse_lsn(lsn))

    def told_loudly(self):
        """What does not come back is named by check beforehand and by status afterwards."""
        for database in self.databases:
            status = self.box.ok("status", database.name).out if database.cases else ""
            for case, table in ((c, t) for c in database.cases for t in c.not_kept if c.group.database not in corpus.CHANGED):
                for where, text in (("check", str(database.said.get(case))), ("status", status)):
                    if f"{case.schema}.{table}" not in text:
                        database.blame(case, f"{table} does not come back, and {where} does not say so")

    def rows(self, database):
        """Changes of rows: four positions, from two snapshots; the third snapshot must agree with the second and the events."""
        half = len(database.cases) // 2
        moments = []
        for part, name in ((database.cases[:half], "among the changes before the snapshot"), (database.cases[half:], "after all changes before the snapshot")):
            for case in part:
                database.run(case, case.before)
            moments.append(database.moment(name))
        self.snapshot(database)
        for case in database.cases:
            database.run(case, case.after)
        moments.append(database.moment("after the changes behind the snapshot", schema_too=True))
        self.durable(database, moments[-1].lsn)
        self.snapshot(database)
        for moment in moments:
            self.recover(database, moment)
        status = self.box.status(database.name)
        for what in ("gaps", "inexact", "findings", "schema_changed"):
            if status[what]:
                database.blame(None, f"{what}: {status[what]}")
        if [s["compared"] for s in status["snapshots"][1:]] != ["equal"] * 2:
            database.blame(None, f"comparison of snapshots: {status['snapshots']}")
