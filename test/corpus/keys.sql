--@ group: Keys and their changes
--@ case: shift of all keys
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50) i;
--@ before
UPDATE t SET id = id + 1000000;
--@ after
UPDATE t SET id = id - 999000;
--@ case: shift onto keys that were just left
CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i;
--@ before
UPDATE t SET id = id + 1;
--@ after
UPDATE t SET id = 22 - id;
--@ case: swap of two keys by a third
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'one'), (2, 'two');
--@ before
BEGIN;
UPDATE t SET id = 3 WHERE id = 1;
UPDATE t SET id = 1 WHERE id = 2;
UPDATE t SET id = 2 WHERE id = 3;
COMMIT;
--@ after
UPDATE t SET id = 3 WHERE id = 1;
UPDATE t SET id = 1 WHERE id = 2;
UPDATE t SET id = 2 WHERE id = 3;
--@ case: swap with values out of line
CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
INSERT INTO t VALUES (1, repeat('one', 2000)), (2, repeat('two', 2000));
--@ before
BEGIN;
UPDATE t SET id = 3 WHERE id = 1;
UPDATE t SET id = 1 WHERE id = 2;
UPDATE t SET id = 2 WHERE id = 3;
COMMIT;
--@ after
UPDATE t SET id = 3 WHERE id = 1;
UPDATE t SET id = 1, n = 7 WHERE id = 2;
UPDATE t SET id = 2 WHERE id = 3;
UPDATE t SET n = n + 1;
--@ case: chain of key changes with a value out of line
CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 4) i;
--@ before
UPDATE t SET id = id + 10;
UPDATE t SET id = id + 10, n = 1;
UPDATE t SET id = id + 10;
--@ after
UPDATE t SET id = id - 30;
UPDATE t SET n = 2;
UPDATE t SET id = id + 1 WHERE id = 4;
INSERT INTO t VALUES (4, 'small');
--@ case: chain that ends at its beginning
CREATE TABLE t (id int PRIMARY KEY, v text);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
INSERT INTO t VALUES (1, repeat('x', 5000));
--@ before
UPDATE t SET id = 2;
UPDATE t SET id = 3;
UPDATE t SET id = 1;
--@ after
UPDATE t SET id = 5;
DELETE FROM t;
INSERT INTO t VALUES (1, 'new');
UPDATE t SET id = 5;
--@ case: rotation of three with values out of line
CREATE TABLE t (id int PRIMARY KEY, v text);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 3) i;
--@ before
BEGIN;
UPDATE t SET id = -id;
UPDATE t SET id = CASE id WHEN -1 THEN 2 WHEN -2 THEN 3 ELSE 1 END;
COMMIT;
--@ after
UPDATE t SET id = -id;
UPDATE t SET id = CASE id WHEN -1 THEN 2 WHEN -2 THEN 3 ELSE 1 END;
UPDATE t SET v = 'short' WHERE id = 2;
--@ case: key whose own value lies out of line
CREATE TABLE t (k text PRIMARY KEY, n int, w text);
ALTER TABLE t ALTER k SET STORAGE EXTERNAL, ALTER w SET STORAGE EXTERNAL;
INSERT INTO t SELECT i || (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 70) j), i, repeat('w', 3000) FROM generate_series(1, 5) i;
--@ before
UPDATE t SET n = n + 10 WHERE n = 1;
UPDATE t SET w = 'short' WHERE n = 2;
UPDATE t SET k = 'x' || k WHERE n = 3;
--@ after
DELETE FROM t WHERE n = 4;
UPDATE t SET n = n + 100;
UPDATE t SET k = 'short' WHERE n = 105;
--@ case: delete and insert of one key in one transaction
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ before
BEGIN;
DELETE FROM t WHERE id = 1;
INSERT INTO t VALUES (1, 'again');
DELETE FROM t WHERE id = 1;
INSERT INTO t VALUES (1, 'and again');
COMMIT;
--@ after
BEGIN;
INSERT INTO t VALUES (3, 'c');
UPDATE t SET id = 4 WHERE id = 3;
DELETE FROM t WHERE id = 4;
COMMIT;
--@ case: insert, value out of line, update of the rest
CREATE TABLE t (id int PRIMARY KEY, v text, n int);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
--@ before
BEGIN;
INSERT INTO t VALUES (1, repeat('y', 5000), 1);
UPDATE t SET n = 2;
COMMIT;
UPDATE t SET n = 3;
--@ after
UPDATE t SET n = 4;
INSERT INTO t VALUES (2, repeat('z', 5000), 1);
UPDATE t SET n = 5;
--@ case: numeric keys that differ in scale only
CREATE TABLE t (k numeric PRIMARY KEY, v text);
INSERT INTO t VALUES (1.0, 'a'), (2.50, 'b'), (3, 'c');
--@ before
UPDATE t SET k = 1.00 WHERE k = 1;
UPDATE t SET v = 'b2' WHERE k = 2.5;
DELETE FROM t WHERE k = 3;
INSERT INTO t VALUES (3.000, 'c again');
--@ after
UPDATE t SET k = 1 WHERE k = 1;
UPDATE t SET k = 2.5000 WHERE k = 2.5;
UPDATE t SET k = 3.0 WHERE k = 3;
UPDATE t SET v = 'end' WHERE k = 3;
--@ case: numeric zero and minus
CREATE TABLE t (k numeric PRIMARY KEY, v text);
INSERT INTO t VALUES (0, 'a'), (-0.5, 'b');
--@ before
UPDATE t SET k = 0.00 WHERE k = 0;
--@ after
UPDATE t SET k = 0 WHERE k = 0;
UPDATE t SET k = -k WHERE k < 0;
--@ case: float key, zero and minus zero
CREATE TABLE t (k float8 PRIMARY KEY, v text);
INSERT INTO t VALUES (0, 'a'), ('NaN', 'n'), ('Infinity', 'i');
--@ before
UPDATE t SET k = '-0' WHERE k = 0;
UPDATE t SET v = 'n2' WHERE k = 'NaN';
--@ after
UPDATE t SET v = 'b' WHERE k = 0;
UPDATE t SET k = 0 WHERE k = 0;
DELETE FROM t WHERE k = 'NaN';
--@ case: citext key changes its case
CREATE TABLE t (k citext PRIMARY KEY, v text);
INSERT INTO t VALUES ('Abc', 'a'), ('dEF', 'd');
--@ before
UPDATE t SET k = 'ABC' WHERE k = 'abc';
UPDATE t SET v = 'd2' WHERE k = 'def';
--@ after
UPDATE t SET k = 'abc' WHERE k = 'ABC';
DELETE FROM t WHERE k = 'DEF';
INSERT INTO t VALUES ('def', 'again');
--@ case: key of a case-blind collation
CREATE TABLE t (k text COLLATE corpus_nd PRIMARY KEY, v text);
INSERT INTO t VALUES ('Abc', 'a'), ('dEF', 'd');
--@ before
UPDATE t SET k = 'ABC' WHERE k = 'abc';
--@ after
UPDATE t SET k = lower(k);
DELETE FROM t WHERE k = 'DEF';
INSERT INTO t VALUES ('DeF', 'again');
--@ case: char key with blanks
CREATE TABLE t (k char(6) PRIMARY KEY, v text);
INSERT INTO t VALUES ('a', 'a'), ('b  ', 'b');
--@ before
UPDATE t SET v = 'a2' WHERE k = 'a     ';
UPDATE t SET k = 'c ' WHERE k = 'b';
--@ after
DELETE FROM t WHERE k = 'a';
INSERT INTO t VALUES (' a', 'x');
UPDATE t SET k = 'a  ' WHERE k = ' a';
--@ case: interval key, equal and other text
CREATE TABLE t (k interval PRIMARY KEY, v text);
INSERT INTO t VALUES ('1 day', 'a'), ('2 mons', 'b');
--@ before
UPDATE t SET k = '24:00:00' WHERE k = '1 day';
--@ after
UPDATE t SET v = 'c' WHERE k = '1 day';
UPDATE t SET k = '60 days' WHERE k = '2 mons';
--@ case: timestamptz key across time zones
CREATE TABLE t (k timestamptz PRIMARY KEY, v text);
INSERT INTO t VALUES ('2024-03-31 01:30+00', 'a'), ('2024-10-27 02:30+02', 'b');
--@ before
SET timezone = 'Europe/Berlin';
UPDATE t SET v = 'a2' WHERE k = '2024-03-31 03:30';
RESET timezone;
--@ after
UPDATE t SET k = k + '1 hour';
--@ case: key of many columns
CREATE TABLE t (a int, b text, c date, d uuid, e numeric, v text, PRIMARY KEY (e, d, a, c, b));
INSERT INTO t SELECT i % 3, 'b' || i % 4, date '2020-01-01' + i % 5, md5((i % 6)::text)::uuid, i / 2.0, 'v' FROM generate_series(1, 30) i;
--@ before
UPDATE t SET b = b || '!' WHERE a = 1;
UPDATE t SET v = 'w' WHERE c = '2020-01-02';
--@ after
UPDATE t SET e = e * 1.0 WHERE a = 2;
DELETE FROM t WHERE a = 0;
--@ case: key of 32 columns
CREATE TABLE t (a01 int, a02 int, a03 int, a04 int, a05 int, a06 int, a07 int, a08 int, a09 int, a10 int, a11 int, a12 int, a13 int, a14 int, a15 int, a16 int, a17 int, a18 int,
    a19 int, a20 int, a21 int, a22 int, a23 int, a24 int, a25 int, a26 int, a27 int, a28 int, a29 int, a30 int, a31 int, a32 int, v text, PRIMARY KEY (a01, a02, a03, a04, a05, a06,
    a07, a08, a09, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32));
INSERT INTO t VALUES (1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,'v');
--@ before
UPDATE t SET a32 = 33;
--@ after
UPDATE t SET v = 'w', a01 = -1;
--@ case: key column that is not the first
CREATE TABLE t (v text, w int, id bigint PRIMARY KEY, x text);
INSERT INTO t VALUES ('a', 1, 1, 'x'), ('b', 2, 2, NULL);
--@ before
UPDATE t SET v = NULL, id = 3 WHERE id = 1;
--@ after
UPDATE t SET x = 'y';
--@ case: table of a key alone
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t SELECT generate_series(1, 9);
--@ before
UPDATE t SET id = id + 100 WHERE id > 5;
DELETE FROM t WHERE id < 3;
--@ after
INSERT INTO t VALUES (1), (106 + 10);
UPDATE t SET id = 2 WHERE id = 1;
--@ case: unique index as identity
CREATE TABLE t (id int PRIMARY KEY, b int NOT NULL, v text);
CREATE UNIQUE INDEX by_b ON t (b);
ALTER TABLE t REPLICA IDENTITY USING INDEX by_b;
INSERT INTO t SELECT i, -i, 'v' || i FROM generate_series(1, 9) i;
--@ before
UPDATE t SET id = id + 100 WHERE id < 4;
UPDATE t SET b = 77 WHERE b = -5;
--@ after
UPDATE t SET v = 'w' WHERE id > 100;
DELETE FROM t WHERE b = 77;
--@ case: unique index of two columns as identity
CREATE TABLE t (a int NOT NULL, b text NOT NULL, v text);
CREATE UNIQUE INDEX ab ON t (b, a) INCLUDE (v);
ALTER TABLE t REPLICA IDENTITY USING INDEX ab;
INSERT INTO t SELECT i % 3, 'b' || i, 'v' FROM generate_series(1, 9) i;
--@ before
UPDATE t SET v = 'w' WHERE a = 1;
UPDATE t SET b = b || b WHERE a = 2;
--@ after
DELETE FROM t WHERE a = 0;
INSERT INTO t VALUES (0, 'b3', 'again');
--@ case: whole old rows beside a primary key
CREATE TABLE t (id int PRIMARY KEY, v text, big text);
ALTER TABLE t REPLICA IDENTITY FULL;
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
INSERT INTO t VALUES (1, 'a', repeat('x', 4000)), (2, NULL, NULL);
--@ before
UPDATE t SET v = 'b' WHERE id = 1;
UPDATE t SET id = 3 WHERE id = 2;
--@ after
UPDATE t SET id = 4, v = NULL WHERE id = 1;
DELETE FROM t WHERE id = 3;
--@ case: equal rows without a key
CREATE TABLE t (a int, b text);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t SELECT 1, 'same' FROM generate_series(1, 10);
INSERT INTO t VALUES (NULL, NULL), (NULL, NULL);
--@ before
DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE a = 1 LIMIT 3);
UPDATE t SET b = 'other' WHERE ctid IN (SELECT ctid FROM t WHERE a = 1 LIMIT 2);
--@ after
UPDATE t SET a = 1, b = 'same' WHERE ctid = (SELECT ctid FROM t WHERE a IS NULL LIMIT 1);
DELETE FROM t WHERE b = 'other';
--@ case: rows without a key, with values out of line
CREATE TABLE t (a int, b text);
ALTER TABLE t REPLICA IDENTITY FULL;
ALTER TABLE t ALTER b SET STORAGE EXTERNAL;
INSERT INTO t SELECT i % 2, repeat('x', 3000) FROM generate_series(1, 6) i;
--@ before
UPDATE t SET a = a + 10 WHERE ctid = (SELECT max(ctid) FROM t);
--@ after
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t);
UPDATE t SET b = repeat('y', 3000) WHERE a = 1;
--@ case: only inserts into a table without key
CREATE TABLE t (at int, what text);
INSERT INTO t VALUES (1, 'x'), (1, 'x');
--@ before
INSERT INTO t VALUES (1, 'x'), (2, NULL);
--@ after
TRUNCATE t;
INSERT INTO t VALUES (3, ''), (3, '');
--@ case: rows without columns
CREATE TABLE t ();
INSERT INTO t DEFAULT VALUES;
--@ before
INSERT INTO t DEFAULT VALUES;
INSERT INTO t DEFAULT VALUES;
--@ after
INSERT INTO t DEFAULT VALUES;
--@ case: deferrable primary key is no identity
CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
INSERT INTO t VALUES (2, 'b');
--@ after
TRUNCATE t;
INSERT INTO t VALUES (3, 'c');
--@ case: nothing as identity
CREATE TABLE t (id int PRIMARY KEY, v text);
ALTER TABLE t REPLICA IDENTITY NOTHING;
INSERT INTO t VALUES (1, 'a');
--@ before
INSERT INTO t VALUES (2, 'b');
--@ after
INSERT INTO t VALUES (3, 'c');
--@ case: key on a generated column
CREATE TABLE t (a int NOT NULL, id int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY, v text);
INSERT INTO t (a, v) VALUES (1, 'a');
--@ before
INSERT INTO t (a, v) VALUES (2, 'b');
--@ after
INSERT INTO t (a, v) VALUES (3, 'c');
--@ case: text keys that sort otherwise in bytes
CREATE TABLE t (k text COLLATE corpus_de PRIMARY KEY, v int);
INSERT INTO t VALUES ('Zebra', 1), ('äpfel', 2), ('apfel', 3), ('ÄPFEL', 4), ('', 5), (E'\t', 6), ('z', 7);
--@ before
UPDATE t SET v = v + 10;
DELETE FROM t WHERE k = 'apfel';
--@ after
UPDATE t SET k = k || 'ß' WHERE v > 14;
INSERT INTO t VALUES ('apfel', 30);
--@ case: keys with a common beginning longer than a key's prefix
CREATE TABLE t (k text PRIMARY KEY, v int);
INSERT INTO t SELECT repeat('p', 100) || i, i FROM generate_series(1, 20) i;
--@ before
UPDATE t SET k = k || 'q' WHERE v % 2 = 0;
--@ after
DELETE FROM t WHERE v % 3 = 0;
INSERT INTO t VALUES (repeat('p', 100), 0), (repeat('p', 64), 64);
--@ case: bytea keys with zeros
CREATE TABLE t (k bytea PRIMARY KEY, v int);
INSERT INTO t VALUES ('\x', 0), ('\x00', 1), ('\x0000', 2), ('\xff', 3);
--@ before
UPDATE t SET k = k || '\x00' WHERE v = 2;
--@ after
UPDATE t SET k = '\x0000' WHERE v = 1;
DELETE FROM t WHERE v = 0;
