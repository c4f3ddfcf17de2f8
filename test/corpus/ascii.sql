--@ group: A database in SQL_ASCII
--@ database: ascii
--@ case: text of two encodings
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'plain'), (2, E'utf8 \303\244'), (3, E'latin1 \344');
--@ before
UPDATE t SET v = E'\377\376' WHERE id = 1;
--@ after
UPDATE t SET id = 4 WHERE id = 3;
INSERT INTO t VALUES (5, E'\200\t\\');
--@ case: keys that are no text of any encoding
CREATE TABLE t (k text PRIMARY KEY, v int);
INSERT INTO t VALUES (E'\344', 1), (E'\303\244', 2), ('a', 3), (E'\377', 4);
--@ before
UPDATE t SET k = k || E'\200' WHERE v < 3;
DELETE FROM t WHERE v = 4;
--@ after
UPDATE t SET v = v + 10;
INSERT INTO t VALUES (E'\344', 1);
--@ case: rows without a key
CREATE TABLE t (v text, w varchar(3), c char(5));
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t VALUES (E'\344', E'\344\366', E'\374'), (E'\344', E'\344\366', E'\374'), (NULL, '', '');
--@ before
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t);
--@ after
UPDATE t SET v = E'\241' WHERE w = '';
--@ case: json and arrays
CREATE TABLE t (id int PRIMARY KEY, j json, a text[]);
INSERT INTO t VALUES (1, '{"a": "x"}', ARRAY[E'\344', 'b,"c']);
--@ before
UPDATE t SET a = array_append(a, E'\377');
--@ after
UPDATE t SET j = '[]';
--@ case: values out of line
CREATE TABLE t (id int PRIMARY KEY, v text, n int);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
INSERT INTO t VALUES (1, repeat(E'\344', 5000), 1);
--@ before
UPDATE t SET n = 2;
UPDATE t SET id = 2;
--@ after
UPDATE t SET n = 3;
--@ case: names and comments beyond ASCII
CREATE TABLE "T\ä" ("Spältchen" int PRIMARY KEY, v text DEFAULT 'ä');
COMMENT ON TABLE "T\ä" IS 'ä';
INSERT INTO "T\ä" VALUES (1);
--@ before
INSERT INTO "T\ä" VALUES (2);
--@ after
UPDATE "T\ä" SET v = 'ö' WHERE "Spältchen" = 1;
