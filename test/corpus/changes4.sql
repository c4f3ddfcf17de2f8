--@ group: Schema changes beside columns whose text depends on other objects
--@ database: named
--@ case: attribute added to a composite type
--@ refused: depends on other objects
CREATE TYPE c AS (a int);
CREATE TABLE t (id int PRIMARY KEY, v c);
INSERT INTO t VALUES (1, ROW(1));
--@ after
ALTER TYPE c ADD ATTRIBUTE b text;
INSERT INTO t VALUES (2, ROW(2, 'b'));
--@ case: attribute dropped from a composite type
--@ refused: depends on other objects
CREATE TYPE c AS (a int, b text);
CREATE TABLE t (id int PRIMARY KEY, v c);
INSERT INTO t VALUES (1, ROW(1, 'x'));
--@ after
ALTER TYPE c DROP ATTRIBUTE a;
INSERT INTO t VALUES (2, ROW('b'));
--@ case: column added beside a composite type
CREATE TYPE c AS (a int, b text);
CREATE TABLE t (id int PRIMARY KEY, v c);
INSERT INTO t VALUES (1, ROW(1, 'x'));
CREATE TABLE u (id int PRIMARY KEY);
INSERT INTO u VALUES (1);
--@ refused: depends on other objects
--@ after
ALTER TABLE u ADD w int DEFAULT 3;
INSERT INTO u VALUES (2, 4);
--@ case: table renamed that a row names
CREATE TABLE t (id int PRIMARY KEY);
CREATE TABLE u (id int PRIMARY KEY, what regclass);
INSERT INTO u VALUES (1, 'changes4_table_renamed_that_a_row_names.t'::regclass);
--@ refused: depends on other objects
--@ after
ALTER TABLE t RENAME TO s;
INSERT INTO u VALUES (2, 'changes4_table_renamed_that_a_row_names.s'::regclass);
