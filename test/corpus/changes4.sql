--@ group: Schema changes beside columns whose text depends on other objects
--@ database: named
--@ case: column added beside a name
CREATE TABLE t (id int PRIMARY KEY, what regtype);
INSERT INTO t VALUES (1, 'int'::regtype);
CREATE TABLE u (id int PRIMARY KEY);
INSERT INTO u VALUES (1);
--@ refused: depends on the names of other objects
--@ after
ALTER TABLE u ADD w int DEFAULT 3;
INSERT INTO u VALUES (2, 4);
--@ case: table renamed that a row names
CREATE TABLE t (id int PRIMARY KEY);
CREATE TABLE u (id int PRIMARY KEY, what regclass);
INSERT INTO u VALUES (1, 'changes4_table_renamed_that_a_row_names.t'::regclass);
--@ refused: depends on the names of other objects
--@ after
ALTER TABLE t RENAME TO s;
INSERT INTO u VALUES (2, 'changes4_table_renamed_that_a_row_names.s'::regclass);
