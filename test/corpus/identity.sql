--@ group: Schema changes of what identifies rows, with identity = full
--@ database: whole
--@ case: new table from a query, its rows changed
CREATE TABLE s (id int PRIMARY KEY, v text);
INSERT INTO s SELECT i, 'v' || i FROM generate_series(1, 12) i;
--@ after
CREATE TABLE t AS SELECT id % 4 AS id, 'alike' AS v, repeat('t', 3000 + id % 2) AS big FROM s;
UPDATE t SET v = 'changed' WHERE id = 1;
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 2);
SELECT id, v INTO u FROM s WHERE id < 6;
DELETE FROM u WHERE id = 2;
INSERT INTO u VALUES (1, 'v1');
--@ case: new table from a query, then a key
CREATE TABLE s (id int PRIMARY KEY, v text);
INSERT INTO s SELECT i, repeat('x', 3000 + i) FROM generate_series(1, 12) i;
--@ after
CREATE TABLE t AS SELECT * FROM s;
UPDATE t SET v = 'before the key' WHERE id < 4;
DELETE FROM t WHERE id = 5;
ALTER TABLE t ADD PRIMARY KEY (id);
UPDATE t SET id = id + 100 WHERE id > 8;
ALTER TABLE t REPLICA IDENTITY DEFAULT;
UPDATE t SET id = id - 99 WHERE id > 100;
DELETE FROM t WHERE id = 1;
--@ case: key dropped, and another one added by another command
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text, big text);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, i % 10, 'v', repeat('x', 3000 + i % 3) FROM generate_series(1, 20) i;
--@ after
UPDATE t SET v = 'before' WHERE id < 5;
UPDATE t SET id = 100 - id WHERE id BETWEEN 6 AND 8;
ALTER TABLE t DROP CONSTRAINT t_pkey;
UPDATE t SET id = 1, v = 'alike', big = 'small' WHERE k = 1;
UPDATE t SET v = 'between', k = k + 1000 WHERE k IN (2, 3);
INSERT INTO t SELECT * FROM t WHERE k = 4;
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE k = 4);
DELETE FROM t WHERE id = 1 AND ctid = (SELECT max(ctid) FROM t WHERE id = 1);
UPDATE t SET k = n FROM (SELECT ctid AS at, row_number() OVER (ORDER BY id, ctid) AS n FROM t) x WHERE t.ctid = x.at;
ALTER TABLE t ADD PRIMARY KEY (k);
UPDATE t SET v = 'after', id = 3 WHERE k IN (7, 8);
DELETE FROM t WHERE k = 9;
ALTER TABLE t REPLICA IDENTITY DEFAULT;
UPDATE t SET k = 500 WHERE k = 10;
UPDATE t SET k = 10 WHERE k = 11;
UPDATE t SET k = 11 WHERE k = 500;
--@ case: key dropped for good
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'v' FROM generate_series(1, 9) i;
--@ after
UPDATE t SET id = id + 10 WHERE id > 7;
ALTER TABLE t DROP CONSTRAINT t_pkey;
INSERT INTO t SELECT * FROM t;
ALTER TABLE t ALTER id DROP NOT NULL;
INSERT INTO t VALUES (NULL, NULL);
DELETE FROM t WHERE ctid IN (SELECT min(ctid) FROM t GROUP BY id HAVING id % 2 = 0);
UPDATE t SET v = NULL WHERE id IS NULL OR id = 3;
--@ case: column of the key dropped, the key with it
CREATE TABLE t (id int, k int, v text, PRIMARY KEY (id, k));
INSERT INTO t SELECT i, i % 3, 'v' || i % 2 FROM generate_series(1, 15) i;
--@ after
UPDATE t SET v = 'w' WHERE id = 5;
UPDATE t SET id = id + 50, k = 7 WHERE id > 12;
DELETE FROM t WHERE id = 3;
ALTER TABLE t DROP COLUMN id;
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE k = 0);
UPDATE t SET v = 'x' WHERE k = 1 AND v = 'v1';
INSERT INTO t VALUES (1, 'x');
--@ case: key exchanged for a wider one of the same name
CREATE TABLE t (id int PRIMARY KEY, v text, next_id bigint);
INSERT INTO t SELECT i, repeat('v', 3000) FROM generate_series(1, 20) i;
--@ after
UPDATE t SET next_id = id WHERE id < 11;
UPDATE t SET id = id + 40 WHERE id > 18;
UPDATE t SET next_id = id WHERE next_id IS NULL;
ALTER TABLE t ALTER next_id SET NOT NULL;
DELETE FROM t WHERE id = 4;
ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (next_id);
UPDATE t SET v = 'both are there' WHERE next_id = 6;
ALTER TABLE t DROP COLUMN id;
ALTER TABLE t RENAME next_id TO id;
UPDATE t SET id = 5000000000 WHERE id = 7;
DELETE FROM t WHERE id = 8;
INSERT INTO t VALUES ('new', 6000000000);
--@ case: key dropped and added again within savepoints
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text);
INSERT INTO t SELECT i, -i, repeat('s', 2500) FROM generate_series(1, 10) i;
--@ after
BEGIN;
UPDATE t SET k = k - 100 WHERE id = 2;
SAVEPOINT a;
ALTER TABLE t DROP CONSTRAINT t_pkey;
UPDATE t SET id = 77;
ROLLBACK TO a;
UPDATE t SET id = 20 WHERE id = 3;
SAVEPOINT b;
ALTER TABLE t DROP CONSTRAINT t_pkey;
UPDATE t SET id = 20, v = 'twice' WHERE id < 3;
SAVEPOINT c;
DELETE FROM t;
ROLLBACK TO c;
DELETE FROM t WHERE k = -102;
RELEASE b;
ALTER TABLE t ADD PRIMARY KEY (k);
UPDATE t SET k = k + 1000 WHERE id = 20;
COMMIT;
UPDATE t SET k = 5 WHERE k = -5;
BEGIN;
DELETE FROM t WHERE k = -6;
ALTER TABLE t REPLICA IDENTITY DEFAULT;
UPDATE t SET id = 6 WHERE k = -7;
PREPARE TRANSACTION 'corpus identity';
COMMIT PREPARED 'corpus identity';
DELETE FROM t WHERE k = 5;
--@ case: key of a partitioned table dropped, and another one added
CREATE TABLE t (id int, p int NOT NULL, v text, PRIMARY KEY (id, p)) PARTITION BY RANGE (p);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t SELECT i, i, 'v' FROM generate_series(0, 19) i;
--@ after
UPDATE t SET p = p + 10 WHERE id < 3;
ALTER TABLE t DROP CONSTRAINT t_pkey;
UPDATE t SET p = 3, id = 3 WHERE id IN (11, 12);
DELETE FROM t WHERE id = 19;
UPDATE t SET v = 'u' || ctid::text || p WHERE id = 3;
ALTER TABLE t ADD PRIMARY KEY (v, id, p);
UPDATE t SET p = 15, v = 'w' WHERE id = 4;
DELETE FROM t WHERE id = 5;
--@ case: index that identifies rows dropped
CREATE TABLE t (a int NOT NULL, b text);
CREATE UNIQUE INDEX by_a ON t (a);
ALTER TABLE t REPLICA IDENTITY USING INDEX by_a;
INSERT INTO t SELECT i, 'b' FROM generate_series(1, 8) i;
--@ after
UPDATE t SET a = a + 10 WHERE a > 6;
DROP INDEX by_a;
UPDATE t SET a = 1 WHERE a < 4;
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1);
