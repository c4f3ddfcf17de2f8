"""Concurrent clients that change the tables of everything.sql in all the ways that the rows lane must carry."""
import random
import threading

import psycopg2


def key_changes(cur, rnd):
    cur.execute("UPDATE keyed_text SET \"Schlüssel ß\" = \"Schlüssel ß\" || 'x' WHERE \"quo\"\"te\" = %s", (rnd.randint(1, 500),))  # big stays: unchanged TOAST moves
    cur.execute("UPDATE keyed_composite SET a = a + 1000 WHERE ctid = (SELECT ctid FROM keyed_composite ORDER BY random() LIMIT 1)")


def swap(cur, rnd):
    a, b = rnd.sample(range(1, 300), 2)
    cur.execute("UPDATE by_index SET b = 1000000 WHERE a = %s RETURNING 1", (a,))
    if cur.rowcount != 1:
        return
    cur.execute("SELECT b FROM by_index WHERE a = %s", (b,))
    row = cur.fetchone()
    if row:
        cur.execute("UPDATE by_index SET b = %s WHERE a = %s", (2000000 + rnd.randint(0, 10**6), b))
        cur.execute("UPDATE by_index SET b = %s WHERE a = %s", (row[0], a))


def scalars(cur, rnd):
    i = rnd.randint(2000, 10**6)
    cur.execute("INSERT INTO scalars (id, t, d, jb, tz, by, ar) VALUES (%s, %s, %s, %s, clock_timestamp(), %s, %s) ON CONFLICT (id) DO UPDATE SET t = EXCLUDED.t",
                (i, rnd.choice(["", "a\tb\nc\\N", "ü☃", None, "y" * 5000]), rnd.random() * 10**rnd.randint(-300, 300), '{"r": %d}' % i, bytes(rnd.randrange(256) for _ in range(20)),
                 [i, None]))
    cur.execute("UPDATE scalars SET b = b + 1, e = 'ok' WHERE id = %s", (rnd.randint(1, 400),))
    if rnd.random() < 0.2:
        cur.execute("DELETE FROM scalars WHERE id = %s", (rnd.randint(300, 400),))  # cascades into child


def toast(cur, rnd):
    cur.execute("UPDATE keyed_text SET \"quo\"\"te\" = \"quo\"\"te\" WHERE \"quo\"\"te\" = %s", (rnd.randint(1, 500),))
    cur.execute("UPDATE keyed_text SET big = repeat(md5(%s::text), 250) WHERE \"quo\"\"te\" = %s", (rnd.random(), rnd.randint(1, 500)))


def full(cur, rnd):
    cur.execute("UPDATE full_identity SET a = a + 1 WHERE ctid IN (SELECT ctid FROM full_identity WHERE a = %s LIMIT 3)", (rnd.randint(0, 19),))
    cur.execute("INSERT INTO full_identity VALUES (%s, 'dup1', NULL), (%s, 'dup1', NULL)", (rnd.randint(0, 3),) * 2)
    cur.execute("DELETE FROM full_identity WHERE ctid = (SELECT ctid FROM full_identity WHERE t = 'dup1' LIMIT 1)")


def inserts(cur, rnd):
    cur.execute("INSERT INTO no_key_log (what) SELECT 'line ' || i %% 3 FROM generate_series(1, %s) i", (rnd.randint(1, 5),))
    cur.execute("INSERT INTO no_columns DEFAULT VALUES")
    cur.execute("INSERT INTO generated (a) VALUES (%s), (%s)", (rnd.randint(1, 99), rnd.randint(1, 99)))
    cur.execute('INSERT INTO "Mixed Case"."Täble ""x""" ("Änderung") VALUES (%s)', ("neu" * rnd.randint(0, 4),))
    cur.execute("SELECT nextval('free_running'), nextval('falling')")


def partitions(cur, rnd):
    i = rnd.randint(1000, 300000)
    cur.execute("INSERT INTO other.parent VALUES (%s, %s, 'new') ON CONFLICT DO NOTHING", (i, rnd.choice(["eu", "us"])))
    cur.execute("UPDATE other.parent SET region = CASE region WHEN 'eu' THEN 'us' ELSE 'eu' END WHERE id = %s", (rnd.randint(1, 600),))  # moves across partitions
    cur.execute("UPDATE other.parent SET id = id + 200000 WHERE id = %s AND region = 'us'", (rnd.randint(1, 600),))


def subtransactions(cur, rnd):
    cur.execute("SAVEPOINT a")
    cur.execute("INSERT INTO keyed_uuid VALUES (gen_random_uuid(), clock_timestamp(), '{\"sub\": 1}')")
    cur.execute("SAVEPOINT b")
    cur.execute("UPDATE keyed_uuid SET body = body || '{\"x\": 1}' WHERE id = md5(%s)::uuid", (str(rnd.randint(1, 2000)),))
    cur.execute("ROLLBACK TO b" if rnd.random() < 0.5 else "RELEASE b")
    if rnd.random() < 0.3:
        cur.execute("ROLLBACK TO a")
    cur.execute("DELETE FROM keyed_uuid WHERE id = md5(%s)::uuid", (str(rnd.randint(1, 2000)),))


def numeric_scales(cur, rnd):
    i = rnd.randint(1, 200)
    cur.execute("UPDATE keyed_numeric SET n = (n::text || '0')::numeric WHERE n = %s", (i + 0.5,))  # 1.50 is equal to 1.5 and other bytes
    cur.execute("UPDATE keyed_nd SET k = upper(k), v = v + 1 WHERE v %% 3 = %s", (rnd.randint(0, 2),))
    cur.execute("UPDATE child SET v = 'w' WHERE id = %s", (rnd.randint(1, 500),))
    cur.execute("UPDATE inherited_base SET v = v || '.' WHERE id = %s", (rnd.randint(1, 100),))


def bulk(cur, rnd):
    base = rnd.randint(10, 10**6) * 1000
    cur.execute("INSERT INTO keyed_composite SELECT %s + i, 'bulk', '2026-01-01', repeat('z', i) FROM generate_series(1, 100) i ON CONFLICT DO NOTHING", (base,))
    cur.execute("UPDATE keyed_composite SET v = v || '+' WHERE c = '2026-01-01' AND a BETWEEN %s AND %s", (base, base + 50))


def truncate(cur, rnd):
    cur.execute("TRUNCATE empty_table")
    cur.execute("INSERT INTO empty_table SELECT generate_series(1, %s)", (rnd.randint(0, 9),))
    cur.execute("TRUNCATE secret, inherited_child")
    cur.execute("INSERT INTO secret SELECT i, 'salvor' FROM generate_series(1, 9) i")


WORK = [key_changes, swap, scalars, toast, full, inserts, partitions, subtransactions, numeric_scales, bulk]


class Writers:
    """clients threads, each running random transactions (some rolled back) until stop()."""

    def __init__(self, conninfo, clients=4, seed=1):
        self.conninfo, self.stopping, self.errors, self.commits = conninfo, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.work, args=(seed * 100 + i, i), daemon=True) for i in range(clients)]
        self.lock = threading.Lock()

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def work(self, seed, number):
        rnd = random.Random(seed)
        connection = psycopg2.connect(self.conninfo)
        while not self.stopping.is_set():
            try:
                with connection.cursor() as cur:
                    for _ in range(rnd.randint(1, 3)):
                        rnd.choice(WORK)(cur, rnd)
                    if number == 0 and rnd.random() < 0.02:
                        truncate(cur, rnd)
                connection.rollback() if rnd.random() < 0.1 else connection.commit()
                with self.lock:
                    self.commits += 1
            except (psycopg2.errors.DeadlockDetected, psycopg2.errors.UniqueViolation, psycopg2.errors.SerializationFailure, psycopg2.errors.CardinalityViolation,
                    psycopg2.errors.ForeignKeyViolation, psycopg2.errors.NumericValueOutOfRange):
                connection.rollback()  # the clients' own quarrels
            except psycopg2.Error as e:
                self.errors.append(e)
                return
        connection.close()

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)
        assert not self.errors, self.errors
        return self.commits
