"""A migration of 50 statements while clients go on writing into the same tables: every moment inside it is recovered exactly, schema and contents, or
refused with its reason; and it costs no more than the rewritten table's rows read anew, or one snapshot."""
import os
import threading
import time

import psycopg2
import pytest
from salvorbox import parse_lsn
from test_schema import History, recovered_at

SOAK = os.environ.get("SALVOR_SOAK") == "1"
SECONDS = 180 if SOAK else 0  # of the migration; 0: as fast as the schema is captured where somebody looks
CLIENTS = 3
TOO_CLOSE = "changes followed too closely"

BASE = """
CREATE ROLE teller; CREATE ROLE auditor;
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE TABLE customer (id int PRIMARY KEY, email text NOT NULL, name text, visits int NOT NULL DEFAULT 0);
CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL, total int NOT NULL, state state NOT NULL DEFAULT 'new', note text, placed timestamptz DEFAULT now());
CREATE TABLE line (id bigint PRIMARY KEY, orders bigint NOT NULL, sku text, amount int);
CREATE TABLE event (id bigint, day date NOT NULL, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE event_d PARTITION OF event DEFAULT;
CREATE TABLE ledger (client int, n int, what text, PRIMARY KEY (client, n));
INSERT INTO customer SELECT i, 'c' || i || '@example.com', 'name ' || i FROM generate_series(0, 299) i;
INSERT INTO orders SELECT i, i % 300, i, CASE i % 2 WHEN 0 THEN 'new' ELSE 'paid' END::state, repeat('n', i % 3000) FROM generate_series(1, 600) i;
INSERT INTO line SELECT i, i % 600 + 1, 'sku' || i % 40, i % 7 FROM generate_series(1, 1500) i;
INSERT INTO event SELECT i, date '2026-01-01' + i % 50, 'event' FROM generate_series(1, 300) i;
"""

# Ten parts of five. What stands behind !! rewrites a table: from there on a snapshot is needed.
PARTS = [p.strip().split(";\n") for p in r"""
CREATE TABLE address (id int PRIMARY KEY, customer int NOT NULL, street text, city text);
INSERT INTO address SELECT id, id, 'street ' || id, 'city' FROM customer WHERE id % 3 = 0;
ALTER TABLE address ADD CONSTRAINT address_customer FOREIGN KEY (customer) REFERENCES customer NOT VALID;
ALTER TABLE address VALIDATE CONSTRAINT address_customer;
CREATE INDEX CONCURRENTLY address_customer_idx ON address (customer)
--
ALTER TABLE customer ADD COLUMN phone text;
ALTER TABLE customer ADD COLUMN tier smallint NOT NULL DEFAULT 1;
COMMENT ON COLUMN customer.tier IS 'from 1 to 3';
ALTER TABLE customer ADD CONSTRAINT tiers CHECK (tier BETWEEN 1 AND 3) NOT VALID;
ALTER TABLE customer VALIDATE CONSTRAINT tiers
--
CREATE VIEW spent AS SELECT customer, sum(total) AS total FROM orders GROUP BY customer;
CREATE FUNCTION worth(c int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT coalesce(sum(total), 0) FROM orders WHERE customer = c';
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := left('stamped ' || coalesce(NEW.note, ''), 100); RETURN NEW; END $$;
CREATE TRIGGER stamped BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
GRANT SELECT ON spent TO teller
--
ALTER TYPE state ADD VALUE 'sent' AFTER 'paid';
UPDATE orders SET state = 'sent' WHERE id % 10 = 0;
ALTER TABLE orders RENAME COLUMN note TO remark;
DROP TRIGGER stamped ON orders;
CREATE INDEX CONCURRENTLY orders_customer ON orders (customer, state)
--
CREATE TABLE event_2 (LIKE event INCLUDING ALL);
INSERT INTO event_2 SELECT id + 100000, date '2026-03-01' + (id % 20)::int, 'loaded' FROM event WHERE id < 50;
ALTER TABLE event ATTACH PARTITION event_2 FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
ALTER TABLE event ADD COLUMN source text DEFAULT 'web';
CREATE INDEX event_what ON event (what)
--
CREATE SCHEMA archive;
CREATE TABLE archive.orders AS SELECT * FROM orders WHERE id <= 100;
ALTER TABLE archive.orders ADD PRIMARY KEY (id);
ALTER TABLE line RENAME TO item;
CREATE VIEW line AS SELECT * FROM item
--
ALTER TABLE item DROP COLUMN sku CASCADE;
ALTER TABLE item ADD COLUMN product int;
CREATE SEQUENCE product_number START 1000;
ALTER TABLE item ALTER COLUMN product SET DEFAULT nextval('product_number');
DROP VIEW IF EXISTS line
--
ALTER TABLE customer ALTER COLUMN name SET DEFAULT 'nobody', ALTER COLUMN visits DROP NOT NULL;
!! ALTER TABLE orders ALTER COLUMN total TYPE numeric(12,2) USING total / 100.0;
DROP VIEW IF EXISTS spent;
ALTER TABLE orders ADD CONSTRAINT positive CHECK (total >= 0) NOT VALID;
ALTER DEFAULT PRIVILEGES IN SCHEMA archive GRANT SELECT ON TABLES TO auditor
--
ALTER TABLE event DETACH PARTITION event_1;
ALTER TABLE event_1 SET SCHEMA archive;
ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON customer TO teller USING (id > 10);
CREATE STATISTICS together ON customer, state FROM orders
--
DROP FUNCTION worth(int);
ALTER TABLE address OWNER TO teller;
REVOKE ALL ON address FROM auditor;
DROP INDEX CONCURRENTLY address_customer_idx;
COMMENT ON TABLE orders IS 'migrated'
""".split("--\n")]
# Before the view can go the column's type cannot change.
PARTS[7][1], PARTS[7][2] = PARTS[7][2], PARTS[7][1]
LOOKED_AT_WITHIN = (1, 4, 8)  # parts in whose middle somebody looks as well


class Traffic:
    """Clients that write into the tables of the migration, and each transaction into the ledger. What a change has taken from under them fails, and they go on."""

    def __init__(self, server):
        self.server, self.gate, self.over = server, threading.Condition(), False
        self.inside, self.closed = 0, False
        self.written, self.failed = [0] * CLIENTS, [0] * CLIENTS
        self.threads = [threading.Thread(target=self.client, args=(c,), daemon=True) for c in range(CLIENTS)]
        for t in self.threads:
            t.start()

    def client(self, c):
        connection = self.server.connect("shop", autocommit=False)
        n = 0
        while not self.over:
            n += 1
            with self.gate:
                self.gate.wait_for(lambda: not self.closed or self.over)
                self.inside += 1
            try:
                self.transaction(connection, c, n)
            finally:
                with self.gate:
                    self.inside -= 1
                    self.gate.notify_all()
            time.sleep(0.01)  # the rate of the writing, nothing waits for it
        connection.close()

    def transaction(self, connection, c, n):
        own = n * CLIENTS + c
        steps = [f"INSERT INTO orders (id, customer, total) VALUES ({100000 + own}, {own % 300}, {own % 500})",
                 f"UPDATE customer SET visits = visits + 1 WHERE id % {CLIENTS} = {c} AND id % 50 = {n % 50}",
                 f"UPDATE orders SET total = total + 1 WHERE id % {CLIENTS} = {c} AND id < 100 AND id % 7 = {n % 7}",
                 f"INSERT INTO {('line', 'item')[n % 2]} (id, orders, amount) VALUES ({100000 + own}, {own % 600 + 1}, {n % 9})",
                 f"INSERT INTO event (id, day, what) VALUES ({10**6 + own}, date '2026-01-01' + {n % 28}, 'traffic')",
                 f"UPDATE event SET day = day + 31 WHERE id % {CLIENTS} = {c} AND id = {10**6 + own - 30 * CLIENTS}",
                 f"DELETE FROM orders WHERE id = {100000 + own - 40 * CLIENTS}"]
        try:
            with connection.cursor() as cursor:
                cursor.execute(steps[n % len(steps)])
                cursor.execute(f"INSERT INTO ledger VALUES ({c}, {n}, {n % len(steps)})")
            connection.commit()
            self.written[c] += 1
        except psycopg2.Error:
            connection.rollback()
            self.failed[c] += 1

    def __enter__(self):
        """Between their transactions."""
        with self.gate:
            self.closed = True
            self.gate.wait_for(lambda: self.inside == 0)

    def __exit__(self, *exc):
        with self.gate:
            self.closed = False
            self.gate.notify_all()

    def end(self):
        self.over = True
        with self.gate:
            self.gate.notify_all()
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a client does not end"


def look(history, traffic, name):
    with traffic:
        history.see(name)


def run_part(server, history, traffic, number, spacing):
    """Its statements one after the other; the moments that are looked at."""
    for i, statement in enumerate(PARTS[number]):
        server.sql(statement.removeprefix("!! "), dbname="shop")
        if number in LOOKED_AT_WITHIN and i == 2:
            look(history, traffic, f"within part {number + 1}")
        if spacing:
            time.sleep(spacing)  # the speed of the migration, nothing waits for it
    look(history, traffic, f"behind part {number + 1}")
    if not spacing:
        history.captured()


def taken(box):
    """Beyond the first snapshot."""
    snapshots = box.status("shop")["snapshots"]
    return ["a snapshot"] * (len(snapshots) - 1) + [f"the rows of {', '.join(r['tables'])}" for s in snapshots for r in s.get("renewals", [])]


def recover_moment(server, box, moment, number, allowed):
    """Exact, or refused for one of these reasons."""
    r = box.run_command("recover", "shop", "--to", moment[1], "--into", server.conninfo("postgres"), "--dry-run")
    if r.status == 3 and "schema changed" in r.err:
        if not any(words in r.err for words in allowed):
            pytest.fail(f"{moment[0]}: {r.err}{box.log_tail()}", pytrace=False)
        return "refused"
    recovered_at(server, box, moment, number)
    return "exact"


@pytest.mark.timeout(900)
def test_migration(servers, protected, record_property):
    assert [len(p) for p in PARTS] == [5] * 10
    server = servers()
    server.sql("CREATE DATABASE shop")
    server.sql(BASE, dbname="shop")
    box = protected(server, identity="full", **({} if SOAK else {"snapshot_quiet": "2s"}))
    if SOAK:
        box.stop()
        box.sources["shop"].update(snapshot_quiet="60s", snapshot_spacing="15min")
        box.write_config()
        box.start()
        box.wait_streaming("shop")
    history, traffic = History(server, box), Traffic(server)
    try:
        look(history, traffic, "before the migration")
        for number in range(len(PARTS)):
            run_part(server, history, traffic, number, SECONDS / 50)
            if number == 7 and not SOAK:
                box.wait("what the rewrite needs, by itself", lambda: taken(box))
    finally:
        traffic.end()
    box.wait("what the rewrite needs, by itself", lambda: taken(box), 120)
    box.wait_durable("shop", history.moments[-1][1])
    rewritten = next(parse_lsn(at) for name, at, *_ in history.moments if name == "behind part 8")
    outcomes = {}
    for number, moment in enumerate(history.moments[1:]):
        at = parse_lsn(moment[1])
        not_yet = at == rewritten or SOAK and at > rewritten
        allowed = [*["of another type", "rewritten"] * not_yet, *[TOO_CLOSE] * (SOAK or moment[0].startswith("within"))]
        outcomes[moment[0]] = recover_moment(server, box, moment, number, allowed)
    assert outcomes["behind part 8"] == "refused", outcomes
    assert len(taken(box)) == 1, box.status("shop")["snapshots"]
    assert all(n > 50 for n in traffic.written), traffic.written
    exact = sum(o == "exact" for o in outcomes.values())
    assert exact >= (5 if SOAK else 9), outcomes
    record_property("tells", f"50 statements beside {sum(traffic.written)} transactions ({sum(traffic.failed)} that a change made fail): of {len(outcomes)} moments {exact} exact, "
                             f"{len(outcomes) - exact} refused; {taken(box)[0]} taken for it")
