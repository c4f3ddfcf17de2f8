#!/usr/bin/python3
"""The demo's application: a steady write load that keeps a ledger of every commit the server acknowledged.

client.py CONNINFO-FILE LEDGER RATE: reads where to connect from CONNINFO-FILE before each connection (the cut-over command
rewrites it), writes about RATE transactions a second until SIGTERM, and appends to LEDGER, one line each:
    try ID WALL_US            before a transaction is begun
    ack ID WALL_US LSN        after its COMMIT was acknowledged; LSN is at or past the commit's end (the greatest
                              where the server was lost before it could be asked)
    down WALL_US / up WALL_US when the database was lost and found again
"""
import random
import signal
import sys
import time
import uuid

import psycopg2

LSN_UNKNOWN = "FFFFFFFF/FFFFFFFF"
stop = False


def on_term(*_):
    global stop
    stop = True


def wall_us():
    return int(time.time() * 1e6)


def connect(path):
    with open(path, encoding="utf-8") as f:
        c = psycopg2.connect(f.read().strip(), connect_timeout=2, application_name="demo client")
    c.autocommit = False
    return c


def transaction(cur, rnd, number):
    customer = rnd.randint(1, 5000)
    product = rnd.randint(1, 2000)
    cur.execute(
        "INSERT INTO orders (ref, customer_id, number, note, details) VALUES (%s, %s, %s, %s, %s) RETURNING id",
        (str(uuid.UUID(int=rnd.getrandbits(128))), customer, number, "tab\there \\ and Grüße" if number % 7 == 0 else None,
         '{"lines": %d, "gift": %s}' % (rnd.randint(1, 9), "true" if number % 3 == 0 else "false")))
    order = cur.fetchone()[0]
    cur.execute("UPDATE stock SET quantity = quantity - 1, changed = now() WHERE product_id = %s", (product,))
    if number % 5 == 0:
        cur.execute("UPDATE customers SET visits = visits + 1, last_seen = now() WHERE id = %s", (customer,))
    if number % 11 == 0:
        cur.execute("DELETE FROM orders WHERE id = (SELECT id FROM orders WHERE id < %s AND number = 0 ORDER BY id LIMIT 1)", (order,))
    cur.execute("INSERT INTO audit_log (what) VALUES (%s)", ("order %d" % order,))


def main():
    conninfo_path, ledger_path, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
    signal.signal(signal.SIGTERM, on_term)
    rnd = random.Random(7)
    number = 0
    connection = None
    up = True
    with open(ledger_path, "a", buffering=1, encoding="utf-8") as ledger:
        while not stop:
            began = time.monotonic()
            try:
                if connection is None:
                    connection = connect(conninfo_path)
                    if not up:
                        ledger.write("up %d\n" % wall_us())
                        up = True
                number += 1
                ledger.write("try %d %d\n" % (number, wall_us()))
                with connection.cursor() as cur:
                    transaction(cur, rnd, number)
                    connection.commit()
                    acknowledged, lsn = wall_us(), LSN_UNKNOWN
                    try:
                        cur.execute("SELECT pg_current_wal_insert_lsn()")
                        lsn = cur.fetchone()[0]
                        connection.rollback()
                    finally:
                        ledger.write("ack %d %d %s\n" % (number, acknowledged, lsn))
            except psycopg2.Error:
                if up:
                    ledger.write("down %d\n" % wall_us())
                    up = False
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.05)
            rest = 1 / rate - (time.monotonic() - began)
            if rest > 0:
                time.sleep(rest)


main()
