--@ group: A database in LATIN1
--@ database: latin1
--@ case: text, keys and names
CREATE TABLE "Täble" ("Schlüssel" text PRIMARY KEY, "ÿ" varchar(5), c char(4));
INSERT INTO "Täble" VALUES ('ä', 'ßÿ', 'é'), ('z', '', ''), ('Ä', NULL, 'ñ');
COMMENT ON TABLE "Täble" IS 'Grüße';
--@ before
UPDATE "Täble" SET "ÿ" = 'öäü' WHERE "Schlüssel" = 'ä';
UPDATE "Täble" SET "Schlüssel" = 'ü' WHERE "Schlüssel" = 'z';
--@ after
DELETE FROM "Täble" WHERE "Schlüssel" = 'Ä';
INSERT INTO "Täble" VALUES ('Ä', '¡', '¿');
--@ case: rows without a key
CREATE TABLE t (v text, j json, x xml);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t VALUES ('ä', '{"ü": "ö"}', '<ä>ß</ä>'), ('ä', '{"ü": "ö"}', '<ä>ß</ä>');
--@ before
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t);
--@ after
UPDATE t SET v = 'Ü';
--@ case: an enum and a composite
CREATE TYPE e AS ENUM ('ä', 'ö');
CREATE TYPE c AS ("ü" e, b text);
CREATE TABLE t (k e PRIMARY KEY, v c, a e[]);
INSERT INTO t VALUES ('ä', '(ö,ß)', '{ä,ö}');
--@ before
UPDATE t SET k = 'ö';
--@ after
INSERT INTO t VALUES ('ä', NULL, '{}');
--@ case: values out of line
CREATE TABLE t (id int PRIMARY KEY, v text, n int);
ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
INSERT INTO t VALUES (1, repeat('ä', 5000), 1);
--@ before
UPDATE t SET n = 2;
UPDATE t SET id = 2;
--@ after
UPDATE t SET n = 3;
--@ case: functions with text
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''äöü''';
CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT 'ä', g text GENERATED ALWAYS AS (v || 'ß') STORED, CHECK (v <> 'é'));
INSERT INTO t VALUES (1);
--@ before
INSERT INTO t VALUES (2, 'x');
--@ after
UPDATE t SET v = 'ö';
--@ case: bytes
CREATE TABLE t (id int PRIMARY KEY, b bytea, o "char");
INSERT INTO t VALUES (1, '\xe4f6fc', '\344');
--@ before
UPDATE t SET b = b || '\x00';
--@ after
UPDATE t SET o = '\200';
