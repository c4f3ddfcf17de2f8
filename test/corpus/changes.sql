--@ group: Schema changes of tables
--@ database: schema
--@ case: new table
--@ after
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'first row');
UPDATE t SET v = 'second';
--@ case: new table in the transaction of its rows
--@ after
BEGIN;
CREATE TABLE t (id serial PRIMARY KEY, v text);
INSERT INTO t (v) SELECT 'v' || i FROM generate_series(1, 5) i;
DELETE FROM t WHERE id = 2;
COMMIT;
--@ case: new table from a query
--@ refused: nothing to identify its rows for a time
CREATE TABLE s (id int PRIMARY KEY, v text);
INSERT INTO s VALUES (1, 'a'), (2, 'b');
--@ after
CREATE TABLE t AS SELECT * FROM s;
SELECT * INTO u FROM s WHERE id = 1;
--@ case: new table like another
CREATE TABLE s (id int PRIMARY KEY, v text DEFAULT 'd' CHECK (v <> ''));
--@ after
CREATE TABLE t (LIKE s INCLUDING ALL);
INSERT INTO t VALUES (1, 'a');
--@ case: dropped table
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t VALUES (1);
--@ after
DELETE FROM t;
DROP TABLE t;
--@ case: dropped and made again
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'old');
--@ after
DROP TABLE t;
CREATE TABLE t (v text, id int PRIMARY KEY);
INSERT INTO t VALUES ('new', 1);
--@ case: renamed table
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t RENAME TO u;
INSERT INTO u VALUES (2, 'b');
--@ case: names of two tables exchanged
CREATE TABLE a (id int PRIMARY KEY, v text);
CREATE TABLE b (id int PRIMARY KEY, v text);
INSERT INTO a VALUES (1, 'a');
INSERT INTO b VALUES (1, 'b');
--@ after
BEGIN;
ALTER TABLE a RENAME TO c;
ALTER TABLE b RENAME TO a;
ALTER TABLE c RENAME TO b;
INSERT INTO a VALUES (2, 'into what was b');
COMMIT;
UPDATE b SET v = 'in what was a';
--@ case: table moved to another schema
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
CREATE SCHEMA changes_moved;
ALTER TABLE t SET SCHEMA changes_moved;
INSERT INTO changes_moved.t VALUES (2, 'b');
--@ case: column without default
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
INSERT INTO t VALUES (3, 'before');
ALTER TABLE t ADD w int;
INSERT INTO t VALUES (4, 'after', 4);
UPDATE t SET w = 1 WHERE id = 1;
UPDATE t SET id = 20 WHERE id = 2;
--@ case: column with a constant default
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
ALTER TABLE t ADD w int DEFAULT 42 NOT NULL;
ALTER TABLE t ADD x box DEFAULT '(1,1),(0,0)', ADD y int[] DEFAULT '[0:1]={4,5}', ADD z text DEFAULT 'a, "b" \{c}';
INSERT INTO t VALUES (3, 'c'), (4, 'd');
INSERT INTO t VALUES (5, 'e', 7);
UPDATE t SET v = 'e' WHERE id = 1;
--@ case: column with a stable default
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t ADD w timestamptz DEFAULT now();
INSERT INTO t VALUES (2, 'b');
--@ case: column with a volatile default
--@ refused: rewritten or emptied
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
ALTER TABLE t ADD w uuid DEFAULT gen_random_uuid();
UPDATE t SET v = 'c' WHERE id = 1;
--@ case: column that is serial
--@ refused: rewritten or emptied
CREATE TABLE t (v text);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t VALUES ('a'), ('b');
--@ after
ALTER TABLE t ADD id serial;
INSERT INTO t VALUES ('c');
--@ case: column that is an identity
--@ refused: rewritten or emptied
CREATE TABLE t (k int PRIMARY KEY);
INSERT INTO t VALUES (1), (2);
--@ after
ALTER TABLE t ADD id int GENERATED ALWAYS AS IDENTITY;
INSERT INTO t VALUES (3);
--@ case: column that is generated
--@ refused: rewritten or emptied
CREATE TABLE t (id int PRIMARY KEY, a int);
INSERT INTO t VALUES (1, 2);
--@ after
ALTER TABLE t ADD g int GENERATED ALWAYS AS (a * 2) STORED;
UPDATE t SET a = 3;
--@ case: generation dropped
--@ refused: was generated
CREATE TABLE t (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED);
INSERT INTO t VALUES (1, 2);
--@ after
ALTER TABLE t ALTER g DROP EXPRESSION;
UPDATE t SET a = 3;
--@ case: column dropped
CREATE TABLE t (id int PRIMARY KEY, v text, w int);
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2);
--@ after
UPDATE t SET v = 'before' WHERE id = 1;
ALTER TABLE t DROP v;
INSERT INTO t VALUES (3, 3);
UPDATE t SET w = 9 WHERE id = 2;
--@ case: column dropped and added again
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
ALTER TABLE t DROP v;
ALTER TABLE t ADD v text;
UPDATE t SET v = 'new' WHERE id = 1;
--@ case: column renamed
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
UPDATE t SET v = 'b';
ALTER TABLE t RENAME v TO w;
UPDATE t SET w = 'c';
--@ case: key column renamed
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t RENAME id TO key;
UPDATE t SET key = 2;
INSERT INTO t VALUES (1, 'again');
--@ case: names of two columns exchanged
CREATE TABLE t (id int PRIMARY KEY, a text, b text);
INSERT INTO t VALUES (1, 'a', 'b');
--@ after
BEGIN;
ALTER TABLE t RENAME a TO c;
ALTER TABLE t RENAME b TO a;
ALTER TABLE t RENAME c TO b;
COMMIT;
UPDATE t SET a = 'new a';
--@ case: type widened
CREATE TABLE t (id int PRIMARY KEY, v varchar(5));
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t ALTER v TYPE varchar(10);
UPDATE t SET v = 'longer one';
--@ case: type to text
CREATE TABLE t (id int PRIMARY KEY, v varchar(5));
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t ALTER v TYPE text;
INSERT INTO t VALUES (2, 'longer');
--@ case: precision of numbers and times widened
CREATE TABLE t (id int PRIMARY KEY, n numeric(6,2), u numeric(4,1), s timestamp(3), i interval(0), b varbit(4));
INSERT INTO t VALUES (1, 1234.50, 1.0, '2000-01-01 00:00:00.125', '1 s', B'101'), (2, NULL, NULL, NULL, NULL, NULL);
--@ after
UPDATE t SET n = 9999.99 WHERE id = 2;
ALTER TABLE t ALTER n TYPE numeric(9,2), ALTER u TYPE numeric;
INSERT INTO t VALUES (3, 1234567.89, 3.14159, now(), '2 s', B'1');
ALTER TABLE t ALTER s TYPE timestamp(6), ALTER i TYPE interval(6), ALTER b TYPE varbit(9);
UPDATE t SET s = '2001-02-03 04:05:06.123456', i = '1.5 s', b = B'111111111' WHERE id = 1;
--@ case: text of the key widened
CREATE TABLE t (k varchar(3) PRIMARY KEY, v varchar);
INSERT INTO t VALUES ('b', 'x'), ('a ', 'y'), ('B', 'z'), ('ä', NULL);
--@ after
UPDATE t SET k = 'aa' WHERE k = 'b';
ALTER TABLE t ALTER k TYPE text, ALTER v TYPE text USING v;
DELETE FROM t WHERE k = 'B';
INSERT INTO t VALUES ('a longer key', 'w'), ('', '');
ALTER TABLE t ALTER k TYPE varchar;
UPDATE t SET v = 'last' WHERE k IN ('ä', 'aa');
--@ case: partitions' type to text
CREATE TABLE t (id int, v varchar(5), PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t VALUES (1, 'a'), (11, 'b');
--@ after
ALTER TABLE t ALTER v TYPE text;
UPDATE t SET id = 12, v = 'moved over' WHERE id = 1;
INSERT INTO t VALUES (2, 'a new one');
--@ case: column added beside composite types
CREATE TYPE inner_c AS (n numeric(5,1), w text);
CREATE TYPE c AS (a int, b inner_c, l inner_c[]);
CREATE DOMAIN dc AS c;
CREATE TABLE of_rows (a int, b text);
CREATE TABLE t (id int PRIMARY KEY, v c, d dc, r of_rows);
INSERT INTO t VALUES (1, ROW(1, ROW(1.5, 'x,"y')::inner_c, ARRAY[ROW(2, NULL)::inner_c]), NULL, ROW(1, 'b')), (2, NULL, ROW(NULL, NULL, NULL), NULL);
CREATE TABLE u (id int PRIMARY KEY);
INSERT INTO u VALUES (1);
--@ after
ALTER TABLE u ADD w int DEFAULT 3;
INSERT INTO u VALUES (2, 4);
UPDATE t SET v.a = 7, r = ROW(2, '') WHERE id = 1;
ALTER TYPE inner_c RENAME ATTRIBUTE w TO words;
ALTER TABLE t ADD more c, ADD x int;
INSERT INTO t VALUES (3, NULL, NULL, NULL, ROW(3, ROW(3, 'three'), '{}'), 1);
--@ case: attribute added to a composite type
--@ refused: its attributes were changed
CREATE TYPE c AS (a int);
CREATE TABLE t (id int PRIMARY KEY, v c);
INSERT INTO t VALUES (1, ROW(1));
--@ after
ALTER TYPE c ADD ATTRIBUTE b text;
INSERT INTO t VALUES (2, ROW(2, 'b'));
--@ case: attribute dropped from a composite type
--@ refused: its attributes were changed
CREATE TYPE c AS (a int, b text);
CREATE TABLE t (id int PRIMARY KEY, v c);
INSERT INTO t VALUES (1, ROW(1, 'x'));
--@ after
ALTER TYPE c DROP ATTRIBUTE a;
INSERT INTO t VALUES (2, ROW('b'));
--@ case: type changed with a rewrite
--@ refused: of another type
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 1), (2, 2);
--@ after
UPDATE t SET v = 3 WHERE id = 2;
ALTER TABLE t ALTER v TYPE bigint;
UPDATE t SET v = 5000000000 WHERE id = 1;
--@ case: type changed by an expression
--@ refused: of another type
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, '1'), (2, '2');
--@ after
ALTER TABLE t ALTER v TYPE int USING v::int * 100;
UPDATE t SET v = 7 WHERE id = 1;
--@ case: type of the key changed
--@ refused: of another type
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
ALTER TABLE t ALTER id TYPE text;
UPDATE t SET id = 'x' || id;
--@ case: numeric scale changed
--@ refused: rewritten or emptied
CREATE TABLE t (id int PRIMARY KEY, v numeric(10,1));
INSERT INTO t VALUES (1, 1.5);
--@ after
ALTER TABLE t ALTER v TYPE numeric(12,3);
INSERT INTO t VALUES (2, 2.125);
--@ case: collation changed
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t ALTER v TYPE text COLLATE "C";
UPDATE t SET v = 'b';
--@ case: default set and dropped
CREATE TABLE t (id int PRIMARY KEY, a int DEFAULT 1, b int);
--@ after
ALTER TABLE t ALTER a DROP DEFAULT, ALTER b SET DEFAULT 7;
INSERT INTO t (id) VALUES (1);
--@ case: not null set and dropped
CREATE TABLE t (id int PRIMARY KEY, a int, b int NOT NULL);
INSERT INTO t VALUES (1, 1, 1);
--@ after
ALTER TABLE t ALTER a SET NOT NULL, ALTER b DROP NOT NULL;
INSERT INTO t VALUES (2, 2, NULL);
--@ case: check added, validated, dropped
CREATE TABLE t (id int PRIMARY KEY, a int CHECK (a < 100));
INSERT INTO t VALUES (1, 1);
--@ after
ALTER TABLE t ADD CONSTRAINT pos CHECK (a > 0) NOT VALID;
ALTER TABLE t VALIDATE CONSTRAINT pos;
ALTER TABLE t DROP CONSTRAINT t_a_check;
INSERT INTO t VALUES (2, 1000);
--@ case: foreign key added and dropped
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p int, q int REFERENCES p);
INSERT INTO p VALUES (1);
INSERT INTO c VALUES (1, 1, 1);
--@ after
ALTER TABLE c ADD CONSTRAINT fk FOREIGN KEY (p) REFERENCES p ON DELETE CASCADE;
ALTER TABLE c DROP CONSTRAINT c_q_fkey;
DELETE FROM p;
--@ case: primary key added to inserted rows
CREATE TABLE t (id int, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t ADD PRIMARY KEY (id);
UPDATE t SET v = 'b';
DELETE FROM t;
INSERT INTO t VALUES (2, 'c');
--@ case: primary key dropped
--@ refused: nothing to identify its rows for a time
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t DROP CONSTRAINT t_pkey;
INSERT INTO t VALUES (1, 'b');
--@ case: primary key exchanged by two transactions
--@ refused: nothing to identify its rows for a time
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text);
INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b');
--@ after
ALTER TABLE t DROP CONSTRAINT t_pkey;
ALTER TABLE t ADD PRIMARY KEY (k);
UPDATE t SET id = 1 WHERE k = 20;
--@ case: primary key exchanged, rows changed between
--@ refused: nothing to identify its rows for a time
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text);
INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b');
--@ after
BEGIN;
ALTER TABLE t DROP CONSTRAINT t_pkey;
UPDATE t SET k = k + 1;
ALTER TABLE t ADD PRIMARY KEY (k);
COMMIT;
--@ case: primary key exchanged, rows changed between and emptied in vain
--@ refused: nothing to identify its rows for a time
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text);
INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b');
--@ after
BEGIN;
ALTER TABLE t DROP CONSTRAINT t_pkey;
SAVEPOINT a;
TRUNCATE t;
ROLLBACK TO a;
DELETE FROM t WHERE k = 10;
ALTER TABLE t ADD PRIMARY KEY (k);
COMMIT;
--@ case: new table emptied, filled, and changed before it has a key
--@ refused: nothing to identify its rows for a time
CREATE TABLE s (id int PRIMARY KEY, v text);
INSERT INTO s VALUES (1, 'a'), (2, 'b');
--@ after
BEGIN;
CREATE TABLE t AS SELECT * FROM s;
TRUNCATE t;
INSERT INTO t SELECT * FROM s;
UPDATE t SET v = 'x' WHERE id = 1;
COMMENT ON TABLE t IS 'changed';
TRUNCATE t;
INSERT INTO t SELECT * FROM s;
UPDATE t SET v = 'y' WHERE id = 2;
ALTER TABLE t ADD PRIMARY KEY (id);
COMMIT;
--@ case: emptied after a change, filled again
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
ALTER TABLE t ADD COLUMN c text DEFAULT 'c';
UPDATE t SET v = 'x' WHERE id = 1;
TRUNCATE t;
INSERT INTO t VALUES (2, 'again', DEFAULT), (3, 'd', 'own');
UPDATE t SET v = 'y' WHERE id = 3;
--@ case: emptied before a change, filled again
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
TRUNCATE t;
ALTER TABLE t ADD COLUMN c text DEFAULT 'c';
INSERT INTO t VALUES (2, 'again', DEFAULT), (3, 'd', 'own');
UPDATE t SET v = 'y' WHERE id = 3;
--@ case: emptied between two changes of one transaction
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
BEGIN;
ALTER TABLE t ADD COLUMN c text DEFAULT 'c';
TRUNCATE t;
ALTER TABLE t DROP COLUMN v, ADD COLUMN stamp float8 DEFAULT random();
INSERT INTO t VALUES (2, 'again');
COMMIT;
UPDATE t SET c = 'x';
--@ case: emptied, filled, and changed
--@ refused: rewritten or emptied
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
TRUNCATE t;
INSERT INTO t VALUES (3, 'c');
ALTER TABLE t ADD COLUMN c text DEFAULT 'c';
--@ case: vacuum full after a change
--@ refused: rewritten or emptied
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, repeat('v', 2000) FROM generate_series(1, 30) i;
--@ after
ALTER TABLE t ADD COLUMN c text DEFAULT 'c';
DELETE FROM t WHERE id % 3 > 0;
VACUUM FULL t;
UPDATE t SET c = 'x' WHERE id < 10;
--@ case: rows changed without a key, emptied, and another key
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text);
INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b');
--@ after
BEGIN;
ALTER TABLE t DROP CONSTRAINT t_pkey;
UPDATE t SET v = 'lost' WHERE k = 10;
COMMENT ON TABLE t IS 'without a key';
TRUNCATE t;
ALTER TABLE t ADD PRIMARY KEY (k);
INSERT INTO t VALUES (1, 20, 'c'), (1, 30, 'd');
COMMIT;
UPDATE t SET v = 'e' WHERE k = 30;
--@ case: primary key exchanged
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text);
INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c');
--@ after
UPDATE t SET v = 'before' WHERE id = 1;
BEGIN;
UPDATE t SET v = 'in it' WHERE id = 2;
UPDATE t SET k = 40 WHERE id = 3;
ALTER TABLE t DROP CONSTRAINT t_pkey;
INSERT INTO t VALUES (1, 50, 'while nothing identifies it');
ALTER TABLE t ADD PRIMARY KEY (k);
UPDATE t SET v = 'still in it' WHERE k = 20;
DELETE FROM t WHERE k = 40;
COMMIT;
UPDATE t SET id = 1 WHERE k = 20;
DELETE FROM t WHERE k = 10;
--@ case: primary key dropped and added again, within savepoints
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, repeat('v', 3000) FROM generate_series(1, 6) i;
--@ after
BEGIN;
SAVEPOINT a;
ALTER TABLE t DROP CONSTRAINT t_pkey;
UPDATE t SET id = 1;
ROLLBACK TO a;
UPDATE t SET id = 10 WHERE id = 1;
SAVEPOINT b;
ALTER TABLE t DROP CONSTRAINT t_pkey;
INSERT INTO t VALUES (1, 'b');
SAVEPOINT c;
INSERT INTO t VALUES (1, 'c');
ROLLBACK TO c;
ALTER TABLE t ADD CONSTRAINT another PRIMARY KEY (id);
RELEASE b;
UPDATE t SET id = id + 100 WHERE id < 3;
PREPARE TRANSACTION 'corpus key';
COMMIT PREPARED 'corpus key';
DELETE FROM t WHERE id = 101;
--@ case: key exchanged for a wider one in one transaction
CREATE TABLE t (id int PRIMARY KEY, v text, next_id bigint);
INSERT INTO t SELECT i, repeat('v', 3000 + i) FROM generate_series(1, 20) i;
--@ after
UPDATE t SET next_id = id WHERE id < 11;
UPDATE t SET id = id + 40 WHERE id > 18;
DELETE FROM t WHERE id = 4;
BEGIN;
UPDATE t SET next_id = id WHERE next_id IS NULL;
ALTER TABLE t DROP CONSTRAINT t_pkey;
ALTER TABLE t ADD PRIMARY KEY (next_id);
UPDATE t SET v = 'both are there' WHERE next_id = 6;
ALTER TABLE t DROP COLUMN id;
ALTER TABLE t RENAME next_id TO id;
UPDATE t SET id = 5000000000 WHERE id = 7;
COMMIT;
DELETE FROM t WHERE id = 8;
INSERT INTO t VALUES ('new', 6000000000);
--@ case: two keys that are gone, one after the other
--@ refused: by a column that is gone, and before that otherwise
CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL, c int NOT NULL, v text);
INSERT INTO t SELECT i, i, i, 'v' FROM generate_series(1, 8) i;
--@ after
UPDATE t SET v = 'by a' WHERE a = 1;
ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (b);
UPDATE t SET v = 'by b' WHERE b = 2;
ALTER TABLE t DROP COLUMN a;
ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (c);
ALTER TABLE t DROP COLUMN b;
UPDATE t SET v = 'by c' WHERE c = 3;
--@ case: new table from a query, with a key in the same transaction
CREATE TABLE s (id int PRIMARY KEY, v text);
INSERT INTO s VALUES (1, 'a'), (2, 'b');
--@ after
BEGIN;
CREATE TABLE t AS SELECT * FROM s;
INSERT INTO t VALUES (3, 'c');
ALTER TABLE t ADD PRIMARY KEY (id);
UPDATE t SET v = 'x' WHERE id = 2;
COMMIT;
UPDATE t SET id = 7 WHERE id = 1;
DELETE FROM t WHERE id = 3;
--@ case: replica identity full and back
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
ALTER TABLE t REPLICA IDENTITY FULL;
UPDATE t SET v = 'x' WHERE id = 1;
ALTER TABLE t REPLICA IDENTITY DEFAULT;
DELETE FROM t WHERE id = 2;
--@ case: primary key exchanged by one command
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text, big text);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, i * 10, 'v', repeat('x', 3000 + i) FROM generate_series(1, 20) i;
--@ after
UPDATE t SET v = 'before' WHERE id < 5;
UPDATE t SET id = id + 100 WHERE id BETWEEN 4 AND 6;
UPDATE t SET k = k + 1 WHERE id = 7;
DELETE FROM t WHERE id = 8;
ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k);
UPDATE t SET id = 1 WHERE k IN (20, 30);
UPDATE t SET k = k + 1000, v = 'moved' WHERE k IN (40, 71);
DELETE FROM t WHERE k = 10;
INSERT INTO t VALUES (1, 11, 'new', 'small');
--@ case: primary key exchanged where it was not unique before
CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, v text);
INSERT INTO t VALUES (1, 10, 'a'), (2, 10, 'b'), (3, 30, 'c');
--@ after
UPDATE t SET k = 30 WHERE id = 1;
UPDATE t SET k = id;
ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k);
UPDATE t SET v = 'after', id = 7;
--@ case: primary key exchanged with columns added and dropped
CREATE TABLE t (id int PRIMARY KEY, gone text, k int NOT NULL, v text);
INSERT INTO t SELECT i, 'g', -i, 'v' FROM generate_series(1, 9) i;
--@ after
DELETE FROM t WHERE id = 3;
ALTER TABLE t DROP COLUMN gone, ADD COLUMN more text DEFAULT 'm';
UPDATE t SET more = 'n' WHERE id < 3;
UPDATE t SET id = 40 WHERE id = 4;
ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k, more);
UPDATE t SET more = 'o' WHERE k < -7;
ALTER TABLE t ADD COLUMN last int DEFAULT 5;
DELETE FROM t WHERE k = -1;
--@ case: whole rows from a key on
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'v' FROM generate_series(1, 9) i;
--@ after
UPDATE t SET v = 'keyed' WHERE id < 3;
UPDATE t SET id = id + 10 WHERE id = 9;
ALTER TABLE t REPLICA IDENTITY FULL;
UPDATE t SET v = 'whole' WHERE id IN (1, 5);
DELETE FROM t WHERE id = 2;
ALTER TABLE t DROP CONSTRAINT t_pkey;
INSERT INTO t VALUES (1, 'whole');
UPDATE t SET id = 77 WHERE id = 1;
--@ case: a key from whole rows on
CREATE TABLE t (id int NOT NULL, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t VALUES (1, 'a'), (1, 'a'), (2, 'b'), (3, repeat('t', 4000));
--@ after
INSERT INTO t VALUES (2, 'b');
DELETE FROM t WHERE id = 1;
UPDATE t SET id = 5 WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 2);
ALTER TABLE t ADD PRIMARY KEY (id);
UPDATE t SET v = 'c' WHERE id = 5;
ALTER TABLE t REPLICA IDENTITY DEFAULT;
UPDATE t SET id = 6 WHERE id = 5;
DELETE FROM t WHERE id = 2;
UPDATE t SET id = 4 WHERE id = 3;
--@ case: replica identity by three indexes in turn
CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL UNIQUE, c text NOT NULL UNIQUE, v text);
INSERT INTO t SELECT i, -i, 'c' || i, 'v' FROM generate_series(1, 12) i;
--@ after
UPDATE t SET v = 'a' WHERE a = 1;
ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_key;
UPDATE t SET a = a + 20 WHERE b = -2;
UPDATE t SET b = b - 20 WHERE b = -3;
ALTER TABLE t REPLICA IDENTITY USING INDEX t_c_key;
UPDATE t SET c = 'x' || a, a = 100 - a WHERE b IN (-4, -22);
DELETE FROM t WHERE c = 'c5';
ALTER TABLE t REPLICA IDENTITY FULL;
UPDATE t SET v = NULL WHERE a = 6;
ALTER TABLE t REPLICA IDENTITY USING INDEX t_c_key;
DELETE FROM t WHERE a = 7;
--@ case: key of a partitioned table exchanged
CREATE TABLE t (id int, p int NOT NULL, v text, PRIMARY KEY (id, p)) PARTITION BY RANGE (p);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t SELECT i, i, 'v' FROM generate_series(0, 19) i;
--@ after
UPDATE t SET p = p + 10 WHERE id < 3;
ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (p, id, v);
UPDATE t SET v = 'w' WHERE id > 15;
UPDATE t SET p = 0 WHERE id = 2;
DELETE FROM t WHERE id = 19;
--@ case: replica identity by index
CREATE TABLE t (id int PRIMARY KEY, b int NOT NULL, v text);
CREATE UNIQUE INDEX by_b ON t (b);
INSERT INTO t VALUES (1, 10, 'a'), (2, 20, 'b');
--@ after
ALTER TABLE t REPLICA IDENTITY USING INDEX by_b;
UPDATE t SET b = 30 WHERE id = 1;
UPDATE t SET id = 5 WHERE b = 20;
--@ case: replica identity nothing
--@ refused: nothing to identify its rows for a time
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ after
ALTER TABLE t REPLICA IDENTITY NOTHING;
INSERT INTO t VALUES (1, 'a');
--@ case: unlogged becomes logged
--@ refused: was not made
CREATE UNLOGGED TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t SET LOGGED;
INSERT INTO t VALUES (2, 'b');
--@ case: logged becomes unlogged
--@ not kept: fleeting: the server does not log it
CREATE TABLE fleeting (id int PRIMARY KEY, v text);
INSERT INTO fleeting VALUES (1, 'a');
--@ after
ALTER TABLE fleeting SET UNLOGGED;
INSERT INTO fleeting VALUES (2, 'b');
--@ case: index made and dropped
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE INDEX old ON t (v);
INSERT INTO t VALUES (1, 'a');
--@ after
CREATE INDEX new ON t (lower(v)) WHERE id > 0;
DROP INDEX old;
INSERT INTO t VALUES (2, 'b');
--@ case: index made concurrently
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ after
CREATE INDEX CONCURRENTLY new ON t (v);
INSERT INTO t VALUES (2, 'b');
DROP INDEX CONCURRENTLY new;
CREATE UNIQUE INDEX CONCURRENTLY newer ON t (v);
--@ case: unique constraint from an index
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE UNIQUE INDEX u ON t (v);
--@ after
ALTER TABLE t ADD CONSTRAINT uc UNIQUE USING INDEX u;
INSERT INTO t VALUES (1, 'a');
--@ case: index renamed
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE INDEX old ON t (v);
--@ after
ALTER INDEX old RENAME TO new;
ALTER TABLE t RENAME CONSTRAINT t_pkey TO pk;
INSERT INTO t VALUES (1, 'a');
--@ case: options and storage
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, repeat('x', 5000));
--@ after
ALTER TABLE t SET (fillfactor = 50);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ALTER v SET STATISTICS 7, ALTER v SET COMPRESSION pglz;
INSERT INTO t VALUES (2, repeat('y', 5000));
--@ case: clustered
--@ refused: no event trigger has told
--@ polled: CLUSTER fires no event trigger
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (2, 'a'), (1, 'b');
--@ after
CLUSTER t USING t_pkey;
INSERT INTO t VALUES (3, 'c');
--@ case: vacuum full is no change
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (2, 'a'), (1, 'b');
--@ unseen: nothing of the schema changes
--@ after
VACUUM FULL t;
INSERT INTO t VALUES (3, 'c');
--@ case: reindex is no change
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ unseen: nothing of the schema changes
--@ after
REINDEX TABLE t;
INSERT INTO t VALUES (3, 'c');
--@ case: temporary table is no change
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ unseen: nothing of the schema changes
--@ after
CREATE TEMP TABLE changes_x (id int PRIMARY KEY, v text);
INSERT INTO changes_x VALUES (1, 'a');
ALTER TABLE changes_x ADD w int;
INSERT INTO t SELECT id, v FROM changes_x;
DROP TABLE changes_x;
--@ case: schema change undone
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ unseen: it is rolled back
--@ after
BEGIN;
ALTER TABLE t ADD w int;
INSERT INTO t VALUES (2, 'b', 3);
ROLLBACK;
BEGIN;
SAVEPOINT a;
ALTER TABLE t DROP v;
INSERT INTO t VALUES (9);
ROLLBACK TO a;
INSERT INTO t VALUES (3, 'c');
COMMIT;
--@ case: schema change in a transaction with rows
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
BEGIN;
UPDATE t SET v = 'x' WHERE id = 1;
ALTER TABLE t ADD w int DEFAULT 5;
UPDATE t SET w = 6 WHERE id = 1;
SAVEPOINT a;
ALTER TABLE t DROP v;
DELETE FROM t WHERE id = 2;
RELEASE a;
INSERT INTO t VALUES (3, 9);
COMMIT;
--@ case: schema change in a prepared transaction
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ after
BEGIN;
ALTER TABLE t ADD w int;
UPDATE t SET w = 1;
PREPARE TRANSACTION 'corpus schema';
COMMIT PREPARED 'corpus schema';
INSERT INTO t VALUES (2, 'b', 2);
--@ case: schema change by a function
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE FUNCTION migrate() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER TABLE changes_schema_change_by_a_function.t ADD w int DEFAULT 3'; END $$;
INSERT INTO t VALUES (1, 'a');
--@ after
SELECT migrate();
INSERT INTO t VALUES (2, 'b');
--@ case: many columns at once
CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int);
INSERT INTO t VALUES (1, 1, 2, 3);
--@ after
ALTER TABLE t DROP b, ADD d text DEFAULT 'd', ALTER c SET DEFAULT 9, ADD e int, ADD CHECK (a > 0);
INSERT INTO t (id, a) VALUES (2, 2);
