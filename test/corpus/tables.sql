--@ group: Partitions, inheritance, unlogged tables
--@ case: list partitions and moves
CREATE TABLE p (id int NOT NULL, r text NOT NULL, v text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a', 'x');
CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b');
CREATE TABLE p_d PARTITION OF p DEFAULT;
INSERT INTO p SELECT i, (ARRAY['a','b','z'])[1 + i % 3], 'v' FROM generate_series(1, 12) i;
--@ before
UPDATE p SET r = 'b' WHERE id < 4;
UPDATE p SET r = 'q' WHERE id = 5;
--@ after
UPDATE p SET r = 'a', id = id + 100 WHERE r = 'q';
DELETE FROM p WHERE id = 6;
--@ case: range partitions
CREATE TABLE p (at date NOT NULL, id int, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE p_3 PARTITION OF p FOR VALUES FROM ('2021-01-01') TO (MAXVALUE);
INSERT INTO p SELECT date '2019-06-01' + i * 100, i, 'v' FROM generate_series(1, 10) i;
--@ before
UPDATE p SET at = at + 365;
--@ after
UPDATE p SET at = 'infinity' WHERE id = 3;
INSERT INTO p VALUES ('-infinity', 3, 'w');
--@ case: hash partitions
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
CREATE TABLE p_0 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE p_1 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE p_2 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO p SELECT i, 'v' || i FROM generate_series(1, 20) i;
--@ before
UPDATE p SET id = id + 100 WHERE id % 2 = 0;
--@ after
DELETE FROM p WHERE id < 6;
UPDATE p SET id = id - 100 WHERE id > 110;
--@ case: hash partitions by text
CREATE TABLE p (k text PRIMARY KEY, v int) PARTITION BY HASH (k);
CREATE TABLE p_0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE p_1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO p SELECT 'k' || i, i FROM generate_series(1, 12) i;
--@ before
UPDATE p SET k = k || 'x';
--@ after
UPDATE p SET k = left(k, 2) || v;
--@ case: partitions of partitions
CREATE TABLE p (id int, r text, n int, v text, PRIMARY KEY (id, r, n)) PARTITION BY LIST (r);
CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a') PARTITION BY RANGE (n);
CREATE TABLE p_a_1 PARTITION OF p_a FOR VALUES FROM (0) TO (10);
CREATE TABLE p_a_2 PARTITION OF p_a FOR VALUES FROM (10) TO (20);
CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b');
INSERT INTO p SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, i, 'v' FROM generate_series(1, 15) i;
--@ before
UPDATE p SET n = (n + 10) % 20 WHERE r = 'a';
--@ after
UPDATE p SET r = CASE r WHEN 'a' THEN 'b' ELSE 'a' END, v = 'moved';
TRUNCATE p_a_2;
--@ case: a partition whose columns stand in another order
CREATE TABLE p (id int PRIMARY KEY, v text, w int) PARTITION BY RANGE (id);
CREATE TABLE p_1 (w int, gone text, id int NOT NULL, v text);
ALTER TABLE p_1 DROP gone;
ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (100);
INSERT INTO p SELECT i, 'v' || i, -i FROM generate_series(1, 20) i;
--@ before
UPDATE p SET id = id + 20 WHERE id BETWEEN 5 AND 9;
UPDATE p SET w = 0 WHERE id < 5;
--@ after
UPDATE p SET id = 5, v = NULL WHERE id = 15;
DELETE FROM p WHERE id IN (1, 11);
--@ case: a partition with a key of its own
CREATE TABLE p (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
ALTER TABLE p_1 ADD PRIMARY KEY (id);
ALTER TABLE p_2 REPLICA IDENTITY FULL;
INSERT INTO p SELECT i, 'v' FROM generate_series(1, 15) i;
--@ before
UPDATE p_1 SET v = 'one';
UPDATE p_2 SET v = 'two';
--@ after
DELETE FROM p_1 WHERE id < 4;
DELETE FROM p_2 WHERE id > 13;
--@ case: truncate of the parent and of one leaf
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
INSERT INTO p SELECT i, 'v' FROM generate_series(1, 15) i;
--@ before
TRUNCATE p_1;
INSERT INTO p VALUES (3, 'after');
--@ after
TRUNCATE p;
INSERT INTO p VALUES (4, 'x'), (14, 'y');
--@ case: a partitioned table with identity and generated columns
CREATE TABLE p (id int NOT NULL DEFAULT 0, a int, g int GENERATED ALWAYS AS (a + 1) STORED, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
INSERT INTO p (id, a) SELECT i, i FROM generate_series(1, 15) i;
--@ before
UPDATE p SET a = 100 WHERE id = 1;
--@ after
UPDATE p SET id = id + 4 WHERE id = 14;
UPDATE p SET id = 0 WHERE id = 13;
--@ case: foreign keys to and from partitions
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
INSERT INTO p SELECT i, 'v' FROM generate_series(1, 15) i;
INSERT INTO c SELECT i, i FROM generate_series(1, 15) i;
--@ before
DELETE FROM p WHERE id = 3;
--@ after
DELETE FROM p WHERE id = 12;
--@ case: a partitioned table without partitions
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
--@ case: a default partition takes all
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_d PARTITION OF p DEFAULT;
INSERT INTO p VALUES (1, 'a');
--@ before
INSERT INTO p VALUES (2, 'b');
--@ after
UPDATE p SET id = id + 1000000;
--@ case: partitions by expression
CREATE TABLE p (id int, t text) PARTITION BY LIST (lower(t));
CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a');
CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b');
ALTER TABLE p_a REPLICA IDENTITY FULL;
ALTER TABLE p_b REPLICA IDENTITY FULL;
INSERT INTO p VALUES (1, 'A'), (2, 'b');
--@ before
UPDATE p SET t = 'B' WHERE id = 1;
--@ after
UPDATE p SET t = 'a';
--@ case: triggers on partitions
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE log (id int, what text);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (NEW.id, TG_TABLE_NAME); RETURN NEW; END $$;
ALTER FUNCTION f() SET search_path FROM CURRENT;
CREATE TRIGGER tr AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();
INSERT INTO p VALUES (1, 'a');
--@ before
INSERT INTO p VALUES (2, 'b');
--@ after
INSERT INTO p VALUES (3, 'c');
--@ case: inheritance
CREATE TABLE b (id int PRIMARY KEY, v text);
CREATE TABLE c (w text, PRIMARY KEY (id)) INHERITS (b);
INSERT INTO b VALUES (1, 'b'), (2, 'b');
INSERT INTO c VALUES (2, 'c', 'w'), (3, 'c', NULL);
--@ before
UPDATE b SET v = v || '!';
--@ after
DELETE FROM b WHERE id = 2;
UPDATE ONLY b SET id = 10;
--@ case: inheritance from two
CREATE TABLE a (id int PRIMARY KEY, x int);
CREATE TABLE b (id int, y int);
CREATE TABLE c (z int, PRIMARY KEY (id)) INHERITS (a, b);
ALTER TABLE b REPLICA IDENTITY FULL;
INSERT INTO c VALUES (1, 2, 3, 4);
INSERT INTO b VALUES (5, 6);
--@ before
UPDATE a SET x = 7;
--@ after
UPDATE b SET y = 8;
TRUNCATE a;
--@ case: an unlogged table
--@ not kept: u: the server does not log it
CREATE UNLOGGED TABLE u (id int PRIMARY KEY, v text);
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO u VALUES (1, 'a');
--@ before
INSERT INTO u VALUES (2, 'b');
INSERT INTO t VALUES (1);
--@ after
UPDATE u SET v = 'c';
INSERT INTO t VALUES (2);
--@ case: an unlogged partition
--@ not kept: p_u: the server does not log it
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE UNLOGGED TABLE p_u PARTITION OF p FOR VALUES FROM (10) TO (20);
INSERT INTO p VALUES (1, 'a'), (11, 'b');
--@ before
UPDATE p SET v = 'c';
--@ after
UPDATE p SET id = 12 WHERE id = 1;
--@ case: temporary tables leave nothing
CREATE TABLE t (id int PRIMARY KEY);
--@ before
CREATE TEMP TABLE x (id int PRIMARY KEY, v text);
INSERT INTO x VALUES (1, 'a');
INSERT INTO t SELECT id FROM x;
DROP TABLE x;
--@ after
CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 2 AS id;
INSERT INTO t VALUES (2);
--@ case: an empty table
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ case: a table that is emptied by truncate
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a');
--@ before
TRUNCATE t;
--@ after
INSERT INTO t VALUES (1, 'b');
TRUNCATE t;
--@ case: truncate in a transaction with rows before and behind
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ before
BEGIN;
INSERT INTO t VALUES (3, 'c');
TRUNCATE t;
INSERT INTO t VALUES (1, 'new');
COMMIT;
--@ after
BEGIN;
UPDATE t SET id = 2;
TRUNCATE t;
INSERT INTO t VALUES (1, 'newer'), (2, 'newest');
DELETE FROM t WHERE id = 1;
COMMIT;
--@ case: truncate that cascades and restarts
CREATE TABLE p (id serial PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p);
INSERT INTO p SELECT nextval('p_id_seq') FROM generate_series(1, 5);
INSERT INTO c VALUES (1, 1);
--@ before
TRUNCATE p RESTART IDENTITY CASCADE;
INSERT INTO p DEFAULT VALUES;
--@ after
INSERT INTO c VALUES (1, 1);
TRUNCATE p, c;
INSERT INTO p VALUES (77);
--@ case: truncate undone by a savepoint
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ before
BEGIN;
SAVEPOINT a;
TRUNCATE t;
INSERT INTO t VALUES (9, 'no');
ROLLBACK TO a;
INSERT INTO t VALUES (3, 'c');
COMMIT;
--@ after
BEGIN;
TRUNCATE t;
ROLLBACK;
UPDATE t SET v = 'd' WHERE id = 1;
