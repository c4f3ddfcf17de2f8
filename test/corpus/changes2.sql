--@ group: Schema changes of partitions and inheritance
--@ database: schema
--@ case: partition made
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
INSERT INTO p VALUES (1, 'a');
--@ after
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
INSERT INTO p VALUES (2, 'b'), (12, 'c');
UPDATE p SET id = 13 WHERE id = 1;
--@ case: partition detached
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
INSERT INTO p VALUES (1, 'a'), (11, 'b');
--@ after
ALTER TABLE p DETACH PARTITION p_2;
UPDATE p_2 SET v = 'alone';
INSERT INTO p_2 VALUES (100, 'beyond');
--@ case: partition detached concurrently
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
INSERT INTO p VALUES (1, 'a');
--@ after
ALTER TABLE p DETACH PARTITION p_1 CONCURRENTLY;
UPDATE p_1 SET v = 'alone';
--@ case: partition attached
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
UPDATE t SET v = 'before' WHERE id = 1;
ALTER TABLE p ATTACH PARTITION t FOR VALUES FROM (0) TO (10);
UPDATE p SET v = 'after' WHERE id = 2;
INSERT INTO p VALUES (3, 'c');
--@ case: partition dropped
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
INSERT INTO p VALUES (1, 'a'), (11, 'b');
--@ after
DROP TABLE p_1;
INSERT INTO p VALUES (12, 'c');
--@ case: partitions turned round
CREATE TABLE p (at date, v text, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
INSERT INTO p VALUES ('2020-05-01', 'old');
--@ after
BEGIN;
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
INSERT INTO p VALUES ('2021-05-01', 'new');
ALTER TABLE p DETACH PARTITION p_1;
DROP TABLE p_1;
COMMIT;
--@ case: partitioned table made with its partitions
--@ after
BEGIN;
CREATE TABLE p (id int, r text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a');
CREATE TABLE p_d PARTITION OF p DEFAULT;
INSERT INTO p VALUES (1, 'a'), (2, 'z');
COMMIT;
UPDATE p SET r = 'a';
--@ case: column added to a partitioned table
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
INSERT INTO p VALUES (1, 'a');
--@ after
ALTER TABLE p ADD w int DEFAULT 3;
INSERT INTO p VALUES (2, 'b', 4);
--@ case: index on a partitioned table
CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
INSERT INTO p VALUES (1, 'a');
--@ after
CREATE INDEX on_v ON p (v);
CREATE INDEX only_parent ON ONLY p (id, v);
INSERT INTO p VALUES (2, 'b');
--@ case: inheritance made and taken
CREATE TABLE b (id int PRIMARY KEY, v text);
CREATE TABLE c (id int PRIMARY KEY, v text);
CREATE TABLE d (PRIMARY KEY (id)) INHERITS (b);
INSERT INTO c VALUES (1, 'c');
INSERT INTO d VALUES (2, 'd');
--@ after
ALTER TABLE c INHERIT b;
ALTER TABLE d NO INHERIT b;
UPDATE b SET v = 'x';
--@ case: column added to the parent
CREATE TABLE b (id int PRIMARY KEY, v text);
CREATE TABLE c (w int, PRIMARY KEY (id)) INHERITS (b);
INSERT INTO b VALUES (1, 'b');
INSERT INTO c VALUES (2, 'c', 3);
--@ after
ALTER TABLE b ADD x int DEFAULT 8;
UPDATE b SET x = 9 WHERE id = 2;
--@ case: table loses its type
CREATE TYPE ty AS (id int, v text);
CREATE TABLE t OF ty (PRIMARY KEY (id));
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TABLE t NOT OF;
ALTER TABLE t ADD w int;
INSERT INTO t VALUES (2, 'b', 3);
