--@ group: Transactions
--@ case: savepoints
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
BEGIN;
UPDATE t SET v = 'b';
SAVEPOINT a;
UPDATE t SET v = 'no';
INSERT INTO t VALUES (2, 'no');
ROLLBACK TO a;
INSERT INTO t VALUES (2, 'yes');
SAVEPOINT b;
DELETE FROM t;
SAVEPOINT c;
INSERT INTO t VALUES (1, 'again');
ROLLBACK TO b;
RELEASE b;
COMMIT;
--@ after
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
INSERT INTO t VALUES (3, 'x');
RELEASE a;
ROLLBACK;
INSERT INTO t VALUES (3, 'y');
--@ case: a hundred subtransactions
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ before
DO $$ BEGIN FOR i IN 1..100 LOOP BEGIN INSERT INTO t VALUES (i, repeat('x', 100)); IF i % 3 = 0 THEN RAISE division_by_zero; END IF; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
--@ after
DO $$ BEGIN FOR i IN 1..100 LOOP BEGIN UPDATE t SET v = 'y' WHERE id = i; IF i % 4 = 0 THEN RAISE division_by_zero; END IF; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
--@ case: a large transaction with a savepoint undone
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ before
BEGIN;
INSERT INTO t SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 1500) i;
SAVEPOINT a;
DELETE FROM t WHERE id % 2 = 0;
UPDATE t SET id = id + 10000;
ROLLBACK TO a;
DELETE FROM t WHERE id % 5 = 0;
COMMIT;
--@ after
BEGIN;
UPDATE t SET v = 'u' || v;
ROLLBACK;
UPDATE t SET id = -id WHERE id < 700;
--@ case: rolled back
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
BEGIN;
DELETE FROM t;
INSERT INTO t SELECT i, 'no' FROM generate_series(1, 2000) i;
ROLLBACK;
--@ after
BEGIN;
UPDATE t SET id = 2;
ROLLBACK;
UPDATE t SET v = 'b';
--@ case: prepared and committed
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
BEGIN;
UPDATE t SET v = 'b';
INSERT INTO t VALUES (2, 'c');
PREPARE TRANSACTION 'corpus 1';
COMMIT PREPARED 'corpus 1';
--@ after
BEGIN;
SAVEPOINT a;
INSERT INTO t VALUES (3, 'no');
ROLLBACK TO a;
DELETE FROM t WHERE id = 2;
PREPARE TRANSACTION 'corpus ä ''2''';
COMMIT PREPARED 'corpus ä ''2''';
--@ case: prepared and rolled back
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
BEGIN;
UPDATE t SET v = 'b';
PREPARE TRANSACTION 'corpus 3';
ROLLBACK PREPARED 'corpus 3';
--@ after
UPDATE t SET v = 'c';
BEGIN;
DELETE FROM t;
PREPARE TRANSACTION 'corpus 4';
ROLLBACK PREPARED 'corpus 4';
--@ case: a large prepared transaction
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ before
BEGIN;
INSERT INTO t SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 1200) i;
PREPARE TRANSACTION 'corpus 5';
COMMIT PREPARED 'corpus 5';
--@ after
BEGIN;
UPDATE t SET id = id + 5000 WHERE id % 3 = 0;
PREPARE TRANSACTION 'corpus 6';
COMMIT PREPARED 'corpus 6';
--@ case: copy
CREATE TABLE t (id int PRIMARY KEY, v text, n numeric);
--@ before
COPY t FROM STDIN;
1	a\tb\\N	1.0
2	\N	NaN
3		\N
\.
--@ after
COPY t (n, id) FROM STDIN;
1e10	4
-0.0	5
\.
UPDATE t SET v = 'set' WHERE id > 3;
--@ case: copy with freeze into a truncated table
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'gone');
--@ before
BEGIN;
TRUNCATE t;
COPY t FROM STDIN WITH (FREEZE, FORMAT csv);
1,frozen
2,"a,b"
\.
COMMIT;
--@ after
UPDATE t SET v = 'thawed' WHERE id = 1;
--@ case: insert on conflict
CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 1);
INSERT INTO t VALUES (1);
--@ before
INSERT INTO t VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET n = t.n + 1;
--@ after
INSERT INTO t VALUES (1), (3) ON CONFLICT DO NOTHING;
INSERT INTO t VALUES (2) ON CONFLICT (id) DO UPDATE SET id = 20, n = 0;
--@ case: merge
CREATE TABLE t (id int PRIMARY KEY, n int);
INSERT INTO t VALUES (1, 1), (2, 2), (3, 3);
--@ before
MERGE INTO t USING (VALUES (1, 10), (2, NULL), (4, 40)) s (id, n) ON t.id = s.id WHEN MATCHED AND s.n IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET n = s.n WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n);
--@ after
MERGE INTO t USING (VALUES (3)) s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET id = 30;
--@ case: changes by data-modifying CTEs
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TABLE archive (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 9) i;
--@ before
WITH gone AS (DELETE FROM t WHERE id > 6 RETURNING *) INSERT INTO archive SELECT * FROM gone;
--@ after
WITH moved AS (UPDATE t SET id = id + 20 WHERE id < 3 RETURNING id) INSERT INTO archive SELECT id, 'moved' FROM moved;
--@ case: an update that changes nothing
CREATE TABLE t (id int PRIMARY KEY, v text, big text);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
INSERT INTO t VALUES (1, 'a', repeat('x', 4000));
--@ before
UPDATE t SET v = v;
UPDATE t SET id = id;
--@ after
UPDATE t SET big = big;
UPDATE t SET big = big || '';
--@ case: row locks
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
BEGIN;
SELECT * FROM t FOR UPDATE;
UPDATE t SET v = 'b';
COMMIT;
--@ after
BEGIN;
SELECT * FROM t FOR KEY SHARE;
COMMIT;
UPDATE t SET v = 'c';
--@ case: messages of an application
CREATE TABLE t (id int PRIMARY KEY);
--@ before
SELECT pg_logical_emit_message(true, 'app', 'text');
SELECT pg_logical_emit_message(false, 'salvor', 'forged');
INSERT INTO t VALUES (1);
--@ after
BEGIN;
SELECT pg_logical_emit_message(true, 'salvor_utf8', repeat('x', 10000));
INSERT INTO t VALUES (2);
ROLLBACK;
INSERT INTO t VALUES (3);
--@ case: synchronous_commit off
CREATE TABLE t (id int PRIMARY KEY);
--@ before
SET synchronous_commit = off;
INSERT INTO t VALUES (1);
RESET synchronous_commit;
--@ after
SET synchronous_commit = off;
DELETE FROM t;
RESET synchronous_commit;
INSERT INTO t VALUES (2);
--@ case: session_replication_role replica
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
SET session_replication_role = replica;
UPDATE t SET v = 'b';
RESET session_replication_role;
--@ after
SET session_replication_role = replica;
DELETE FROM t;
INSERT INTO t VALUES (2, 'c');
RESET session_replication_role;
--@ case: a row of a megabyte
CREATE TABLE t (id int PRIMARY KEY, v text, w bytea);
INSERT INTO t VALUES (1, repeat('ä', 300000), NULL);
--@ before
INSERT INTO t SELECT 2, NULL, decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 20000) i;
--@ after
UPDATE t SET id = id + 10;
UPDATE t SET v = v || 'x' WHERE id = 11;
--@ case: procedures that commit
CREATE TABLE t (id int PRIMARY KEY);
CREATE PROCEDURE p(n int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN n..n + 4 LOOP INSERT INTO t VALUES (i); IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF; END LOOP; COMMIT; END $$;
--@ before
CALL p(1);
--@ after
CALL p(20);
