"""Random histories: what several clients do to the tables of one schema, made from a seed, as plain data.

A history is a list of operations (client, statement, rows of a COPY). Clients never wait for each other: each has rows of its own (their number modulo the
number of clients), and what needs a table for itself (TRUNCATE, a schema change) is only done while nobody else's open transaction has touched it. So one driver can
run them one after the other, and the same seed gives the same history.

Of three kinds: "rows" has no schema changes; "crossed" only such that recovery must go across, truncates no table that it changes, and has one open transaction at a time that
changes the schema; "any" has everything. An event trigger of the user's own writes down what it sees of the changes.
"""
import dataclasses
import random

CLIENTS = 3
SETUP = """
CREATE TABLE k (id int PRIMARY KEY, n int, v text, big text);
ALTER TABLE k ALTER big SET STORAGE EXTERNAL;
CREATE TABLE tk (k text PRIMARY KEY, c int, n numeric, big text);
ALTER TABLE tk ALTER big SET STORAGE EXTERNAL;
CREATE TABLE nk (k numeric PRIMARY KEY, c int, v text);
CREATE TABLE f (c int, a int, b text);
ALTER TABLE f REPLICA IDENTITY FULL;
CREATE TABLE u (a int PRIMARY KEY, b int NOT NULL, c int, v text);
CREATE UNIQUE INDEX u_b ON u (b);
ALTER TABLE u REPLICA IDENTITY USING INDEX u_b;
CREATE TABLE p (id int PRIMARY KEY, v text, g int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (30);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (30) TO (60);
CREATE TABLE p_d PARTITION OF p DEFAULT;
CREATE TABLE o (id int PRIMARY KEY, k int REFERENCES k ON UPDATE CASCADE ON DELETE CASCADE, w int DEFAULT 0);
CREATE TABLE l (c int, what text) WITH (autovacuum_enabled = off);
INSERT INTO k SELECT i, i, 'v' || i, CASE WHEN i % 4 < 2 THEN repeat(md5(i::text), 90) END FROM generate_series(0, 29) i;
INSERT INTO o SELECT i, i FROM generate_series(0, 20) i;
INSERT INTO tk SELECT 'k' || i, i % 3, i / 2.0, repeat('t' || i, 900) FROM generate_series(0, 14) i;
INSERT INTO nk SELECT i + 0.5, i % 3, 'n' FROM generate_series(0, 14) i;
INSERT INTO f SELECT i % 3, i % 5, CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN repeat('f', 2500) ELSE 'dup' END FROM generate_series(0, 29) i;
INSERT INTO u SELECT i, -i, i % 3, 'u' FROM generate_series(0, 14) i;
INSERT INTO p SELECT i * 4, 'p' FROM generate_series(0, 14) i;
"""
# Where the schema changes.
MORE = """
CREATE TABLE kl (c int, a int NOT NULL, v text);
CREATE TABLE seen (tag text);
CREATE TYPE en AS ENUM ('a', 'b', 'c');
CREATE TYPE co AS (x int, y text);
CREATE TABLE e (id int PRIMARY KEY, c int, v en, w co, ws co[]);
CREATE TYPE typ AS (id int, v text);
CREATE TABLE ty OF typ (PRIMARY KEY (id));
CREATE TABLE kx_1 (a int PRIMARY KEY, b int NOT NULL, v text);
ALTER TABLE kx_1 ALTER v SET STORAGE EXTERNAL;
INSERT INTO kx_1 SELECT i, i, repeat('kx', i * 300) FROM generate_series(0, 11) i;
CREATE TABLE kx_2 (a int PRIMARY KEY, b int NOT NULL, v text);
ALTER TABLE kx_2 ALTER v SET STORAGE EXTERNAL;
INSERT INTO kx_2 SELECT i, i, repeat('kx', i * 300) FROM generate_series(0, 11) i;
CREATE TABLE kx_3 (a int PRIMARY KEY, b int NOT NULL, v text);
ALTER TABLE kx_3 ALTER v SET STORAGE EXTERNAL;
INSERT INTO kx_3 SELECT i, i, repeat('kx', i * 300) FROM generate_series(0, 11) i;
INSERT INTO kl SELECT i % 3, i % 6, repeat('kl', i % 3 * 1500) FROM generate_series(0, 11) i;
INSERT INTO e SELECT i, i % 3, CASE i % 4 WHEN 0 THEN 'a' WHEN 1 THEN 'c' END::en, ROW(i, 'y' || i)::co, ARRAY[ROW(i, NULL)::co, NULL] FROM generate_series(0, 14) i;
INSERT INTO ty SELECT i, 'ty' FROM generate_series(0, 14) i;
"""


@dataclasses.dataclass(frozen=True)
class Op:
    client: int
    transaction: int  # number within the history; what shrinking takes away together
    sql: str
    rows: str = None  # of a COPY
    changes: bool = False  # the schema
    refusable: bool = False  # positions behind its commit may be refused

    def __str__(self):
        return f"{self.client}: {self.sql}" + (f" <<< {self.rows!r}" if self.rows else "")


@dataclasses.dataclass
class History:
    seed: int
    kind: str
    ops: list


# -- statements that change rows: each takes the random source and the client, and gives (table, statement) or (table, statement, rows)

def number(r, c, top=60):
    return r.randrange(0, top) * CLIENTS + c


BIGS = ["NULL", "repeat(md5('b'), 100)", "repeat('z', 3000)"]
NUMBERS = ["1.0", "'NaN'", "-0.00", "1e20"]


def text(r):
    return r.choice(["''", "NULL", "'x'", "E'a\\tb\\n\\\\N'", "'ä☃'", "repeat('y', %d)" % r.choice([10, 2500]), "md5('%d')" % r.randrange(99)])


def k_insert(r, c):
    return "k", f"INSERT INTO k VALUES ({number(r, c)}, {r.randrange(9)}, {text(r)}, {r.choice(BIGS)}) ON CONFLICT (id) DO UPDATE SET n = k.n + 1"


def k_update(r, c):
    return "k", f"UPDATE k SET n = n + 1, v = {text(r)} WHERE id % 3 = {c} AND n % 4 = {r.randrange(4)}"


def k_big(r, c):
    return "k", f"UPDATE k SET big = {r.choice([*BIGS, 'big', 'big || NULL'])} WHERE id = {number(r, c)}"


def k_delete(r, c):
    return "k", f"DELETE FROM k WHERE id IN ({number(r, c)}, {number(r, c)})"


def k_key(r, c):
    a, b = number(r, c), number(r, c)
    return "k", f"UPDATE k SET id = {b} WHERE id = {a} AND NOT EXISTS (SELECT FROM k WHERE id = {b})"


def k_swap(r, c):
    a, b, aside = number(r, c, 10), number(r, c, 10), 900000000 + c
    return "k", f"UPDATE k SET id = {aside} WHERE id = {a}; UPDATE k SET id = {a} WHERE id = {b}; UPDATE k SET id = {b} WHERE id = {aside}"


def k_shift(r, c):
    return "k", f"UPDATE k SET id = id {r.choice(['+ 3000', '- 3000', '+ 300', '- 300'])} WHERE id % 3 = {c} AND id {r.choice(['<', '>='])} 300"


def k_bulk(r, c):
    base = (r.randrange(1000, 9000) // CLIENTS * CLIENTS + c) * 1000 // CLIENTS * CLIENTS + c
    return "k", f"INSERT INTO k SELECT {base} + i * 3, i, repeat(md5(i::text), {r.randrange(2, 9)}) FROM generate_series(1, {r.choice([20, 400])}) i ON CONFLICT DO NOTHING"


def k_unbulk(r, c):
    return "k", r.choice([f"DELETE FROM k WHERE id % 3 = {c} AND id > 10000 AND n % {r.randrange(2, 5)} = 0", f"UPDATE k SET v = left(v, 40), n = n + 1 WHERE id % 3 = {c} AND id > 10000"])


def k_copy(r, c):
    ids = r.sample(range(200, 400), r.randrange(1, 6))
    return "k", "COPY k (id, n, v) FROM STDIN", "".join(f"{i * CLIENTS + c}\t{i % 7}\t{r.choice(['', 'plain', chr(92) + 'N', 'tab' + chr(92) + 't'])}\n" for i in ids)


def tk_any(r, c):
    i = r.randrange(15) // CLIENTS * CLIENTS + c
    return "tk", r.choice([
        f"UPDATE tk SET k = k || '{r.choice('ab')}' WHERE c = {c} AND k LIKE 'k{i}%'",
        f"UPDATE tk SET k = left(k, 3), n = n + 1 WHERE c = {c} AND length(k) > 3 AND NOT EXISTS (SELECT FROM tk o WHERE o.k = left(tk.k, 3)) AND k LIKE 'k{i}%'",
        f"UPDATE tk SET big = {r.choice([*BIGS, 'big'])}, n = n * 1.0 WHERE k = 'k{i}'",
        f"INSERT INTO tk VALUES ('k{i}', {c}, {r.choice(NUMBERS)}, {text(r)}) ON CONFLICT DO NOTHING",
        f"DELETE FROM tk WHERE c = {c} AND k LIKE 'k{i}_'"])


def nk_any(r, c):
    i = number(r, c, 8)
    return "nk", r.choice([
        f"UPDATE nk SET k = (k::text || '0')::numeric WHERE c = {c} AND scale(k) < 9",
        f"UPDATE nk SET k = trim_scale(k), v = {text(r)} WHERE c = {c}",
        f"DELETE FROM nk WHERE k = {i}.5",
        f"INSERT INTO nk VALUES ({i}.50, {c}, 'new') ON CONFLICT (k) DO UPDATE SET k = EXCLUDED.k",
        f"UPDATE nk SET v = 'u' WHERE k = {i}.5000"])


def f_any(r, c):
    return "f", r.choice([
        f"INSERT INTO f VALUES ({c}, {r.randrange(5)}, 'dup'), ({c}, {r.randrange(5)}, {text(r)})",
        f"UPDATE f SET a = {r.randrange(5)} WHERE c = {c} AND a = {r.randrange(5)}",
        f"UPDATE f SET b = {text(r)} WHERE c = {c} AND a = {r.randrange(5)} AND b IS NOT NULL",
        f"DELETE FROM f WHERE c = {c} AND a = {r.randrange(5)} AND b = 'dup'"])


def u_any(r, c):
    a, b = number(r, c, 7), number(r, c, 7)
    return "u", r.choice([
        f"INSERT INTO u VALUES ({a}, {-a}, {c}, {text(r)}) ON CONFLICT DO NOTHING",
        f"UPDATE u SET a = a + 300 WHERE c = {c} AND a < 300 AND b % 2 = 0",
        f"UPDATE u SET a = a - 300 WHERE c = {c} AND a >= 300",
        f"UPDATE u SET b = {90000 + b} WHERE a = {a} AND NOT EXISTS (SELECT FROM u o WHERE o.b = {90000 + b})",
        f"DELETE FROM u WHERE c = {c} AND b = {-b}",
        f"UPDATE u SET v = {text(r)} WHERE c = {c}"])


def p_any(r, c):
    a, b = number(r, c, 30), number(r, c, 30)
    return "p", r.choice([
        f"INSERT INTO p VALUES ({a}, {text(r)}) ON CONFLICT DO NOTHING",
        f"UPDATE p SET id = {b} WHERE id = {a} AND NOT EXISTS (SELECT FROM p WHERE id = {b})",
        f"UPDATE p SET id = id + 30 WHERE id = {a} AND NOT EXISTS (SELECT FROM p WHERE id = {a + 30})",
        f"UPDATE p SET v = {text(r)} WHERE id % 3 = {c} AND id < {r.choice([30, 60, 90])}",
        f"DELETE FROM p WHERE id IN ({a}, {b})"])


def o_any(r, c):
    """Rows that belong to rows of k, and go along with them; both tables are one where it comes to locks."""
    return "k", r.choice([
        f"INSERT INTO o SELECT {number(r, c, 200)} + i * 600, id FROM (SELECT id, row_number() OVER (ORDER BY id) AS i FROM k WHERE id % 3 = {c} AND id < 60) x WHERE i < 4 ON CONFLICT DO NOTHING",
        f"UPDATE o SET w = w + 1 WHERE k % 3 = {c}",
        f"UPDATE o SET id = id + 120000 WHERE k % 3 = {c} AND id < 120000",
        f"DELETE FROM o WHERE k % 3 = {c} AND w % 3 = 1"])


def large(r, c):
    """A large object, of a number that no other history has and no other client. Not as of each commit: they are captured at snapshots."""
    at = f"20000 + abs(hashtext(current_schema)::bigint) % 40000000 * 100 + {number(r, c, 10)}"
    change = r.choice([f"PERFORM lo_put(o, {r.randrange(9000)}, 'put')", "PERFORM lo_unlink(o)"])
    return "lo", f"""DO $do$ DECLARE o oid := {at}; BEGIN
    IF EXISTS (SELECT FROM pg_largeobject_metadata WHERE oid = o) THEN {change}; ELSE PERFORM lo_from_bytea(o, convert_to(repeat('large', {r.randrange(1, 900)}), 'UTF8')); END IF; END $do$"""


def l_any(r, c):
    return "l", f"INSERT INTO l SELECT {c}, 'line' || i % 2 FROM generate_series(1, {r.randrange(1, 5)}) i"


ROWS = [k_insert, k_insert, k_update, k_update, k_big, k_delete, k_key, k_key, k_swap, k_shift, k_bulk, k_unbulk, k_copy, tk_any, tk_any, nk_any, nk_any, f_any, f_any, u_any, u_any,
        p_any, p_any, o_any, o_any, l_any, large]
TRUNCATES = [("l", "TRUNCATE l"), ("k", "TRUNCATE k CASCADE"), ("p", "TRUNCATE p_1"), ("p", "TRUNCATE p"), ("f", "TRUNCATE f"), ("tk", "TRUNCATE tk RESTART IDENTITY CASCADE")]

def if_there(table, then, otherwise=""):
    """Tables come and go: what a statement finds is decided when it runs."""
    return f"DO $do$ BEGIN IF to_regclass('{table}') IS NOT NULL THEN {then}; {f'ELSE {otherwise}; ' if otherwise else ''}END IF; END $do$"


def turned(before, after):
    return f"DO $do$ BEGIN IF to_regclass('{before}') IS NOT NULL AND to_regclass('{after}') IS NULL THEN ALTER TABLE {before} RENAME TO {after}; END IF; END $do$"


ATTACHED = """DO $do$ BEGIN
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'p_2'::regclass) THEN ALTER TABLE p DETACH PARTITION p_2;
    ELSE INSERT INTO p_2 (id, v) SELECT id, v FROM p_d WHERE id >= 30 AND id < 60 ON CONFLICT DO NOTHING; DELETE FROM p_d WHERE id >= 30 AND id < 60;
        DELETE FROM p_2 WHERE id < 30 OR id >= 60; ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES FROM (30) TO (60); END IF;
END $do$"""

def keyed_by(n):
    """Another key than `a`, where there is none: of rows alike in it one is left."""
    one = f"DELETE FROM kx_{n} USING kx_{n} o WHERE o.b = kx_{n}.b AND o.ctid < kx_{n}.ctid"
    return if_there(f"kx_{n}", f"IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'kx_{n}'::regclass AND indisprimary) THEN {one}; ALTER TABLE kx_{n} ADD CONSTRAINT kx_{n}_b PRIMARY KEY (b); END IF")


def toggled(condition, then, otherwise):
    return f"DO $do$ BEGIN IF {condition} THEN {then}; ELSE {otherwise}; END IF; END $do$"


def has_attribute(kind, name):
    return f"EXISTS (SELECT FROM pg_attribute WHERE attrelid = '{kind}'::regclass AND attname = '{name}')"


KEY_OF_KL = toggled("EXISTS (SELECT FROM pg_index WHERE indrelid = 'kl'::regclass)", "ALTER TABLE kl DROP CONSTRAINT kl_key",
                    "DELETE FROM kl USING kl o WHERE o.a = kl.a AND o.ctid < kl.ctid; ALTER TABLE kl ADD CONSTRAINT kl_key PRIMARY KEY (a)")
# Publications are of the database: the history's name is in theirs.
PUBLISHED = """DO $do$ DECLARE p text := current_schema || '_{n}'; BEGIN
    IF EXISTS (SELECT FROM pg_publication WHERE pubname = p) THEN EXECUTE format('DROP PUBLICATION %I', p); ELSE EXECUTE format('CREATE PUBLICATION %I FOR TABLE f WITH (publish = ''insert, update'')', p); END IF;
END $do$"""

# Schema changes, each with a name by which it is locked. The first member says whether recovery must go across such a change; positions behind another one may be refused.
CHANGES = [
    (True, "k", "ALTER TABLE k ADD COLUMN IF NOT EXISTS x{n} int"),
    (True, "k", "ALTER TABLE k ADD COLUMN IF NOT EXISTS d{n} int DEFAULT {n}"),
    (True, "k", "ALTER TABLE k DROP COLUMN IF EXISTS d{n}"),
    (True, "f", "ALTER TABLE f ADD COLUMN IF NOT EXISTS x{n} text"),
    (True, "f", "ALTER TABLE f DROP COLUMN IF EXISTS x{n}"),
    (True, "nk", "ALTER TABLE nk DROP COLUMN IF EXISTS v; ALTER TABLE nk ADD COLUMN v text DEFAULT 'v{n}'"),
    (True, "tk", "ALTER TABLE tk RENAME n TO m; ALTER TABLE tk ALTER m SET DEFAULT {n}; ALTER TABLE tk RENAME m TO n"),
    (True, "u", "ALTER TABLE u RENAME TO u_{n}; UPDATE u_{n} SET v = 'renamed' WHERE a % 3 = {n}; ALTER TABLE u_{n} RENAME TO u"),
    (True, "new", "CREATE TABLE IF NOT EXISTS new_{n} (id int PRIMARY KEY, v text); INSERT INTO new_{n} VALUES ({n}, 'first') ON CONFLICT DO NOTHING"),
    (True, "new", "DROP TABLE IF EXISTS new_{n}"),
    (True, "new", turned("new_{n}", "old_{n}")),
    (True, "new", turned("old_{n}", "new_{n}")),
    (True, "ser", "CREATE TABLE IF NOT EXISTS ser_{n} (id serial PRIMARY KEY, i int GENERATED ALWAYS AS IDENTITY, v text); INSERT INTO ser_{n} (v) VALUES ('s'), ('t')"),
    (True, "ser", "DROP TABLE IF EXISTS ser_{n}"),
    (True, "gen", "CREATE TABLE IF NOT EXISTS gen_{n} (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED); INSERT INTO gen_{n} VALUES ({n}, 5) ON CONFLICT DO NOTHING"),
    (True, "gen", if_there("gen_{n}", "ALTER TABLE gen_{n} DROP COLUMN IF EXISTS g")),
    (True, "as", "DROP TABLE IF EXISTS as_{n}; CREATE TABLE as_{n} AS SELECT i AS id, repeat('a', i * 300) AS v FROM generate_series(1, 9) i; ALTER TABLE as_{n} ADD PRIMARY KEY (id); UPDATE as_{n} SET v = 'b' WHERE id < 3"),
    (True, "as", "DROP TABLE IF EXISTS as_{n}; SELECT i % 4 AS id, repeat('s', i % 3 * 900) AS v INTO as_{n} FROM generate_series(1, 12) i"),
    (True, "kx", "CREATE TABLE IF NOT EXISTS kx_{n} (a int PRIMARY KEY, b int NOT NULL, v text); ALTER TABLE kx_{n} ALTER v SET STORAGE EXTERNAL; INSERT INTO kx_{n} SELECT i, i, repeat('kx', i * 300) FROM generate_series(1, 9) i ON CONFLICT DO NOTHING"),
    (True, "kx", "CREATE TABLE IF NOT EXISTS kx_{n} AS SELECT i % 5 AS a, i AS b, repeat('as', i % 3 * 1500) AS v FROM generate_series(1, 9) i"),
    (True, "kx", if_there("kx_{n}", "ALTER TABLE kx_{n} DROP CONSTRAINT IF EXISTS kx_{n}_pkey, DROP CONSTRAINT IF EXISTS kx_{n}_b")),
    (True, "kx", keyed_by("{n}")),
    (True, "kx", if_there("kx_{n}", "ALTER TABLE kx_{n} DROP CONSTRAINT IF EXISTS kx_{n}_pkey") + "; " + keyed_by("{n}")),
    (True, "kx", if_there("kx_{n}", "ALTER TABLE kx_{n} DROP COLUMN IF EXISTS a")),
    (True, "kx", if_there("kx_{n}", "ALTER TABLE kx_{n} ADD COLUMN IF NOT EXISTS x{n} int DEFAULT {n}")),
    (True, "kx", "DROP TABLE IF EXISTS kx_{n}"),
    (True, "kl", KEY_OF_KL),
    (True, "kl", KEY_OF_KL),
    (True, "kl", "CREATE MATERIALIZED VIEW IF NOT EXISTS mv_{n} AS SELECT count(*) AS n, max(v) AS v FROM kl; REFRESH MATERIALIZED VIEW mv_{n}"),
    (True, "kl", "DROP MATERIALIZED VIEW IF EXISTS mv_{n}"),
    (True, "e", "ALTER TYPE en ADD VALUE IF NOT EXISTS 'v{n}'"),
    (True, "e", "ALTER TYPE en ADD VALUE IF NOT EXISTS 'w{n}' BEFORE 'b'"),
    (True, "e", "ALTER TABLE e ADD COLUMN IF NOT EXISTS e{n} en DEFAULT 'b'"),
    (True, "e", "ALTER TABLE e DROP COLUMN IF EXISTS e{n}"),
    (True, "e", toggled(has_attribute("co", "y"), "ALTER TYPE co RENAME ATTRIBUTE y TO z", "ALTER TYPE co RENAME ATTRIBUTE z TO y")),
    (True, "type", toggled("to_regtype('en_{n}') IS NULL", "CREATE TYPE en_{n} AS ENUM ('one'); CREATE TYPE co_{n} AS (a int, b en_{n})", "DROP TYPE co_{n}; DROP TYPE en_{n}")),
    (True, "f", PUBLISHED),
    (True, "temp", "CREATE TEMP TABLE IF NOT EXISTS temp_{n} (id int, v text); INSERT INTO temp_{n} VALUES ({n}, 'temporary'); ALTER TABLE temp_{n} ADD COLUMN IF NOT EXISTS w int"),
    (True, "tk", "CREATE INDEX IF NOT EXISTS i{n} ON tk (n, c)"),
    (True, "tk", "DROP INDEX IF EXISTS i{n}"),
    (True, "k", "COMMENT ON TABLE k IS 'comment {n}'"),
    (True, "index", "COMMENT ON INDEX nk_pkey IS 'comment {n}'"),  # locks no table: another client may have it in hand
    (True, "index", "COMMENT ON INDEX k_pkey IS 'comment {n}'"),
    (True, "view", "CREATE OR REPLACE VIEW vw AS SELECT {n} AS n"),
    (True, "o", "ALTER TABLE o ADD CONSTRAINT o_{n} CHECK (w >= -{n}) NOT VALID; ALTER TABLE o VALIDATE CONSTRAINT o_{n}; ALTER TABLE o DROP CONSTRAINT o_{n}"),
    (True, "p", "CREATE TABLE IF NOT EXISTS p_{n}000 PARTITION OF p FOR VALUES FROM ({n}000) TO ({n}999)"),
    (True, "p", ATTACHED),
    (True, "p", "ALTER TABLE p ADD COLUMN IF NOT EXISTS x{n} int DEFAULT {n}"),
    (True, "f", "GRANT SELECT ON f TO PUBLIC"),
    (True, "u", "ALTER TABLE u REPLICA IDENTITY FULL"),
    (False, "u", "ALTER TABLE u REPLICA IDENTITY USING INDEX u_b"),
    (False, "nk", "ALTER TABLE nk ALTER k TYPE numeric(30,10)"),
    (False, "tk", "ALTER TABLE tk ADD COLUMN IF NOT EXISTS s{n} serial"),
    (False, "k", "ALTER TABLE k ADD COLUMN IF NOT EXISTS g{n} int GENERATED ALWAYS AS (n + {n}) STORED"),
    (False, "e", "ALTER TYPE en RENAME VALUE 'c' TO 'cc'; ALTER TYPE en RENAME VALUE 'cc' TO 'c'"),
    (False, "ty", toggled(has_attribute("typ", "x{n}"), "ALTER TYPE typ DROP ATTRIBUTE x{n} CASCADE", "ALTER TYPE typ ADD ATTRIBUTE x{n} int CASCADE")),
    (False, "view", "CREATE OR REPLACE FUNCTION fn() RETURNS int LANGUAGE sql AS 'SELECT {n}'"),
]
TEMPORARY = "CREATE TEMP"
# Of the whole database, once: what a user's event trigger writes is in the table of the history that it fires for. None may be written by a recovery.
SEEING = """CREATE FUNCTION public.see() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN IF to_regclass('seen') IS NOT NULL THEN INSERT INTO seen VALUES (tg_tag); END IF; END$$;
CREATE EVENT TRIGGER see ON ddl_command_end EXECUTE FUNCTION public.see()"""


def kx_any(r, c):
    """Rows that are identified by a key, by another one, by nothing but themselves; its first column may be gone."""
    n, a, b = r.randrange(1, 4), number(r, c, 5), number(r, c, 5)
    done = r.choice([
        f"INSERT INTO kx_{n} (a, b, v) VALUES ({a}, {b}, {text(r)}) ON CONFLICT DO NOTHING",
        f"INSERT INTO kx_{n} (b, v) SELECT b, v FROM kx_{n} WHERE b % 3 = {c} LIMIT 2",
        f"UPDATE kx_{n} SET a = a + 30 WHERE b % 3 = {c}",
        f"UPDATE kx_{n} SET b = b + 30 WHERE b % 3 = {c} AND b < 30",
        f"UPDATE kx_{n} SET b = b - 30 WHERE b % 3 = {c} AND b >= 30",
        f"UPDATE kx_{n} SET v = {text(r)} WHERE b % 3 = {c} AND b < {r.randrange(15)}",
        f"DELETE FROM kx_{n} WHERE b % 3 = {c} AND a = {a}",
        f"DELETE FROM kx_{n} WHERE ctid = (SELECT min(ctid) FROM kx_{n} WHERE b % 3 = {c})",
    ])
    return "kx", f"DO $do$ BEGIN {done}; EXCEPTION WHEN undefined_table OR undefined_column OR unique_violation OR not_null_violation THEN NULL; END $do$"


def kl_any(r, c):
    """Rows that nothing identifies, until there is a key, and again."""
    a = number(r, c, 8)
    done = r.choice([
        f"INSERT INTO kl VALUES ({c}, {a}, {text(r)}), ({c}, {r.choice([a, a + 3])}, 'again')",
        f"UPDATE kl SET a = a + 30 WHERE c = {c} AND a < 30",
        f"UPDATE kl SET v = {text(r)} WHERE c = {c} AND a % 2 = {r.randrange(2)}",
        f"DELETE FROM kl WHERE ctid = (SELECT min(ctid) FROM kl WHERE c = {c})",
    ])
    return "kl", f"DO $do$ BEGIN {done}; EXCEPTION WHEN unique_violation THEN NULL; END $do$"


def e_any(r, c):
    """Values of enums and of composite types; some of the values are there only behind a change, and not before its commit."""
    i, v = number(r, c, 6), r.choice(["'a'", "'b'", "'c'", "NULL", f"'v{r.randrange(1, 4)}'", f"'w{r.randrange(1, 4)}'"])
    done = r.choice([
        f"INSERT INTO e VALUES ({i}, {c}, {v}, ROW({r.randrange(9)}, {text(r)})::co) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v",
        f"UPDATE e SET v = {v} WHERE c = {c} AND id % 2 = {r.randrange(2)}",
        f"UPDATE e SET w = ROW((w).x + 1, {text(r)})::co, ws = ws || w WHERE c = {c} AND cardinality(ws) < 6",
        f"DELETE FROM e WHERE id = {i}",
        f"UPDATE ty SET v = {text(r)} WHERE id % 3 = {c}"])
    return ("ty" if "UPDATE ty" in done else "e"), f"DO $do$ BEGIN {done}; EXCEPTION WHEN invalid_text_representation OR unsafe_new_enum_value_usage THEN NULL; END $do$"


def come_and_gone(r, c):
    """Rows of tables that changes have made."""
    n = r.randrange(1, 4)
    return r.choice([
        ("new", if_there(f"new_{n}", f"INSERT INTO new_{n} VALUES ({number(r, c)}, {text(r)}) ON CONFLICT (id) DO UPDATE SET v = 'again'")),
        ("new", if_there(f"old_{n}", f"UPDATE old_{n} SET id = id + 90 WHERE id % 3 = {c} AND NOT EXISTS (SELECT FROM old_{n} o WHERE o.id = old_{n}.id + 90)")),
        ("ser", if_there(f"ser_{n}", f"INSERT INTO ser_{n} (v) VALUES ({text(r)}); DELETE FROM ser_{n} WHERE id < (SELECT max(id) - 5 FROM ser_{n})")),
        ("gen", if_there(f"gen_{n}", f"INSERT INTO gen_{n} (id, a) VALUES ({number(r, c)}, {n}) ON CONFLICT (id) DO UPDATE SET a = gen_{n}.a + 1")),
        ("as", if_there(f"as_{n}", f"DELETE FROM as_{n} WHERE id % 3 = {c} AND id > 6; UPDATE as_{n} SET v = {text(r)} WHERE id % 3 = {c}")),
        ("p", f"UPDATE p_2 SET v = {text(r)} WHERE id % 3 = {c}")])


class Client:
    def __init__(self):
        self.open, self.prepared, self.savepoints, self.touched, self.transaction = False, None, 0, set(), None
        self.temporary = False  # such a transaction cannot be prepared
        self.changes = False  # the schema


class Generator:
    """Makes the operations; knows which tables each open transaction holds, and nothing of the rows."""

    def __init__(self, seed, kind):
        self.r, self.kind, self.ops, self.seed = random.Random(f"{seed} {kind}"), kind, [], seed
        self.changed = {"f", "tk", "nk", "u", "p", "k"}
        if kind == "crossed":  # a table that is truncated and changed is not told apart from one that is rewritten
            self.changed = set(self.r.sample(sorted(self.changed), 4))
        self.truncates = [t for t in TRUNCATES if kind != "crossed" or t[0] not in self.changed]
        self.clients, self.transactions = [Client() for _ in range(CLIENTS)], 0
        self.alone = {}  # table: the client that has it for itself

    def emit(self, c, sql, rows=None, **what):
        self.ops.append(Op(c, self.clients[c].transaction, sql, rows, **what))

    def free(self, c, table):
        return self.alone.get(table, c) == c

    def free_for_itself(self, c, table):
        return self.free(c, table) and not any(table in o.touched for i, o in enumerate(self.clients) if i != c)

    def begin(self, c):
        client = self.clients[c]
        client.open, client.savepoints, client.transaction = True, 0, self.transactions
        self.transactions += 1
        self.emit(c, self.r.choice(["BEGIN", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"]))

    def end(self, c):
        client, roll = self.clients[c], self.r.random()
        if roll < 0.12 and not client.temporary:
            client.prepared = f"{self.seed}.{client.transaction}"
            self.emit(c, f"PREPARE TRANSACTION '{client.prepared}'")
            return
        self.emit(c, "ROLLBACK" if roll < 0.22 else "COMMIT")
        self.over(c)

    def end_prepared(self, c):
        self.emit(c, f"{'COMMIT' if self.r.random() < 0.75 else 'ROLLBACK'} PREPARED '{self.clients[c].prepared}'")
        self.over(c)

    def over(self, c):
        self.clients[c] = Client()
        self.alone = {t: o for t, o in self.alone.items() if o != c}

    def change_rows(self, c):
        rows_of = ROWS if self.kind == "rows" else [*ROWS, come_and_gone, come_and_gone, come_and_gone, kx_any, kx_any, kl_any, e_any]
        table, sql, *rows = self.r.choice(rows_of)(self.r, c)
        if self.free(c, table):
            self.clients[c].touched.add(table)
            self.emit(c, sql, *rows)

    def take_alone(self, c, table, sql, **what):
        if self.free_for_itself(c, table):
            self.clients[c].touched.add(table)
            self.clients[c].changes |= what.get("changes", False)
            self.alone[table] = c
            self.emit(c, sql, **what)

    def change_schema(self, c):
        recovered, table, sql = self.r.choice(CHANGES)
        table = "k" if table == "o" else table
        # Whoever makes a table while another's open transaction has made one cannot always have it listed at once; that is seen with "any".
        if self.kind == "crossed" and any(o.changes for i, o in enumerate(self.clients) if i != c):
            return
        if self.kind == "crossed" and (not recovered or table in ("k", "f", "tk", "nk", "u", "p") and table not in self.changed):
            return
        self.clients[c].temporary |= sql.startswith(TEMPORARY)
        self.take_alone(c, table, sql.replace("{n}", str(self.r.randrange(1, 4))), changes=True, refusable=not recovered)

    def savepoint(self, c):
        client = self.clients[c]
        if client.savepoints and self.r.random() < 0.6:
            at = self.r.randrange(client.savepoints)
            undo = self.r.random() < 0.5
            self.emit(c, f"{'ROLLBACK TO' if undo else 'RELEASE'} s{at}")
            client.savepoints = at + undo
            return
        self.emit(c, f"SAVEPOINT s{client.savepoints}")
        client.savepoints += 1

    def step(self):
        c = self.r.randrange(CLIENTS)
        client, roll = self.clients[c], self.r.random()
        if client.prepared:
            if roll < 0.3:
                self.end_prepared(c)
        elif not client.open:
            self.begin(c)
        elif roll < 0.22:
            self.end(c)
        elif roll < 0.36:
            self.savepoint(c)
        elif roll < 0.40:
            self.take_alone(c, *self.r.choice(self.truncates))
        elif roll < 0.46 and self.kind != "rows":
            self.change_schema(c)
        else:
            self.change_rows(c)

    def make(self, length):
        while len(self.ops) < length:
            self.step()
        for c, client in enumerate(self.clients):
            if client.prepared:
                self.end_prepared(c)
            elif client.open:
                self.emit(c, "COMMIT")
        return History(self.seed, self.kind, self.ops)


def make(seed, kind="rows", length=80):
    return Generator(seed, kind).make(length)
