--@ group: What `check` names before anything is protected
--@ database: checked
--@ case: hash partitions by an enum
--@ says: refuse: its partitions are chosen by the hash of an enum
CREATE TYPE m AS ENUM ('a', 'b', 'c', 'd');
CREATE TABLE p (k m, v int) PARTITION BY HASH (k);
CREATE TABLE p_0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE p_1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE p REPLICA IDENTITY FULL;
ALTER TABLE p_0 REPLICA IDENTITY FULL;
ALTER TABLE p_1 REPLICA IDENTITY FULL;
INSERT INTO p VALUES ('a', 1), ('b', 2), ('c', 3), ('d', 4);
--@ case: large objects
--@ says: warn: large objects are kept as snapshots and comparisons in between see them
CREATE TABLE t (id int PRIMARY KEY, lo oid);
INSERT INTO t VALUES (1, lo_from_bytea(0, '\x00ff'));
--@ case: a table without a key
--@ says: warn: PostgreSQL cannot say which row an update or delete touched
CREATE TABLE t (a int);
--@ case: a key that is deferrable
--@ says: warn: PostgreSQL cannot say which row an update or delete touched
CREATE TABLE t (id int PRIMARY KEY DEFERRABLE);
--@ case: a key on a generated column
--@ says: warn: PostgreSQL cannot say which row an update or delete touched
CREATE TABLE t (a int NOT NULL, id int GENERATED ALWAYS AS (a) STORED PRIMARY KEY);
--@ case: an unlogged table
--@ says: warn: their contents are not captured: the server does not log them
CREATE UNLOGGED TABLE t (id int PRIMARY KEY);
--@ case: an unlogged sequence
--@ says: warn: their values are not captured: the server does not log them
CREATE UNLOGGED SEQUENCE s;
--@ case: a foreign table
--@ says: warn: only their definition is kept: the rows lie elsewhere
CREATE FOREIGN DATA WRAPPER corpus_nothing;
CREATE SERVER corpus_nowhere FOREIGN DATA WRAPPER corpus_nothing;
CREATE FOREIGN TABLE t (id int) SERVER corpus_nowhere;
--@ case: a materialized view
--@ says: warn: a REFRESH makes their contents again
CREATE MATERIALIZED VIEW m AS SELECT 1 AS x;
--@ case: a generated column by a function
--@ says: warn: a recovery computes them again, by the functions as they are then
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (f(id)) STORED, plain int GENERATED ALWAYS AS (id * 2) STORED);
--@ case: an index as identity that no constraint holds
--@ says: warn: its replica identity is an index that no constraint holds
CREATE TABLE t (id int NOT NULL);
CREATE UNIQUE INDEX i ON t (id);
ALTER TABLE t REPLICA IDENTITY USING INDEX i;
--@ case: another publication for all tables
--@ says: warn: another publication for all tables
CREATE PUBLICATION corpus_checked FOR ALL TABLES;
--@ case: a subscription
--@ says: warn: a recovered database does not go on with them
CREATE SUBSCRIPTION corpus_sub CONNECTION 'dbname=nowhere' PUBLICATION none WITH (connect = false);
--@ case: a user mapping with options
--@ says: warn: their options are kept only where the role may read them
CREATE FOREIGN DATA WRAPPER corpus_nothing_2;
CREATE SERVER corpus_nowhere_2 FOREIGN DATA WRAPPER corpus_nothing_2;
CREATE USER MAPPING FOR corpus_reader SERVER corpus_nowhere_2 OPTIONS (secret 'x');
