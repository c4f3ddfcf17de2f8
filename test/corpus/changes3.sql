--@ group: Schema changes of what stands around the rows
--@ database: schema
--@ common
CREATE EXTENSION hstore;
--@ case: enum value added
CREATE TYPE e AS ENUM ('a', 'b');
CREATE TABLE t (id int PRIMARY KEY, v e);
INSERT INTO t VALUES (1, 'a');
--@ after
ALTER TYPE e ADD VALUE 'c' AFTER 'a';
INSERT INTO t VALUES (2, 'c');
--@ case: enum value renamed
--@ refused: was renamed
CREATE TYPE e AS ENUM ('a', 'b');
CREATE TABLE t (id int PRIMARY KEY, v e);
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ after
UPDATE t SET v = 'a' WHERE id = 2;
ALTER TYPE e RENAME VALUE 'a' TO 'A';
INSERT INTO t VALUES (3, 'A');
--@ case: enum value renamed that is a key
--@ refused: was renamed
CREATE TYPE e AS ENUM ('a', 'b');
CREATE TABLE t (k e PRIMARY KEY, v int);
INSERT INTO t VALUES ('a', 1), ('b', 2);
--@ after
ALTER TYPE e RENAME VALUE 'a' TO 'z';
UPDATE t SET v = v + 1;
--@ case: domain changed
CREATE DOMAIN d AS int CHECK (VALUE > 0);
CREATE TABLE t (id int PRIMARY KEY, v d);
INSERT INTO t VALUES (1, 1);
--@ after
ALTER DOMAIN d ADD CHECK (VALUE < 100) NOT VALID;
ALTER DOMAIN d SET DEFAULT 5;
INSERT INTO t (id) VALUES (2);
--@ case: new types
--@ after
CREATE TYPE e AS ENUM ('x');
CREATE TYPE r AS RANGE (subtype = float8);
CREATE DOMAIN d AS text;
CREATE TABLE t (id int PRIMARY KEY, e e, r r, d d);
INSERT INTO t VALUES (1, 'x', '[1,2)', 'd');
--@ case: type renamed
CREATE TYPE e AS ENUM ('x');
CREATE TABLE t (id int PRIMARY KEY, e e);
INSERT INTO t VALUES (1, 'x');
--@ after
ALTER TYPE e RENAME TO f;
INSERT INTO t VALUES (2, 'x');
--@ case: view made, replaced, dropped
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE VIEW old AS SELECT id FROM t;
CREATE VIEW kept AS SELECT id FROM t;
--@ after
CREATE VIEW new AS SELECT * FROM t;
CREATE OR REPLACE VIEW kept AS SELECT id, v FROM t;
DROP VIEW old;
INSERT INTO new VALUES (1, 'a');
--@ case: materialized view made
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 1), (2, 1);
--@ after
CREATE MATERIALIZED VIEW m AS SELECT v, count(*) FROM t GROUP BY v;
CREATE UNIQUE INDEX ON m (v);
--@ case: materialized view refreshed that was empty
--@ refused: no event trigger has told
--@ polled: no event trigger tells whether it fills one
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 1);
CREATE MATERIALIZED VIEW m AS SELECT sum(v) FROM t;
CREATE MATERIALIZED VIEW empty AS SELECT sum(v) FROM t WITH NO DATA;
--@ after
INSERT INTO t VALUES (2, 5);
REFRESH MATERIALIZED VIEW m;
REFRESH MATERIALIZED VIEW empty;
--@ case: function made, replaced, dropped
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1';
--@ after
CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2';
DROP FUNCTION g();
CREATE PROCEDURE h() LANGUAGE sql AS '';
--@ case: function that a generated column uses is replaced
--@ refused: a generated column may be computed by it
--@ differs: t: a recovery computes generated columns again, by the function as it is then
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (changes3_function_that_a_generated_column_uses_is_replaced.f(id)) STORED);
INSERT INTO t VALUES (1);
--@ after
CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 100';
INSERT INTO t VALUES (2);
--@ case: trigger made and disabled
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := 'by trigger'; RETURN NEW; END $$;
CREATE TRIGGER old BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
--@ after
ALTER TABLE t DISABLE TRIGGER old;
INSERT INTO t VALUES (1, 'a');
CREATE TRIGGER new BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();
UPDATE t SET v = 'b';
--@ case: rule made
CREATE TABLE t (id int PRIMARY KEY);
--@ after
CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING;
INSERT INTO t VALUES (1);
DELETE FROM t;
--@ case: policy and row security
CREATE TABLE t (id int PRIMARY KEY);
--@ after
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t USING (id > 1);
INSERT INTO t VALUES (1), (2);
ALTER POLICY p ON t USING (id > 5);
--@ case: grants
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
--@ after
GRANT SELECT, UPDATE (v) ON t TO corpus_reader;
REVOKE EXECUTE ON FUNCTION f() FROM public;
INSERT INTO t VALUES (1, 'a');
--@ case: owner
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ after
ALTER TABLE t OWNER TO corpus_owner;
INSERT INTO t VALUES (1, 'a');
--@ case: default privileges
--@ after
ALTER DEFAULT PRIVILEGES IN SCHEMA changes3_default_privileges GRANT SELECT ON TABLES TO corpus_reader;
CREATE TABLE t (id int PRIMARY KEY);
--@ case: comments
CREATE TABLE t (id int PRIMARY KEY, v text);
--@ after
COMMENT ON TABLE t IS 'new';
COMMENT ON COLUMN t.v IS 'newer';
INSERT INTO t VALUES (1, 'a');
--@ case: schema made, renamed, dropped
--@ after
CREATE SCHEMA changes3_new;
CREATE TABLE changes3_new.t (id int PRIMARY KEY);
INSERT INTO changes3_new.t VALUES (1);
ALTER SCHEMA changes3_new RENAME TO changes3_newer;
CREATE SCHEMA changes3_gone;
DROP SCHEMA changes3_gone CASCADE;
--@ case: sequence made and changed
CREATE SEQUENCE s;
CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('s'));
--@ after
ALTER SEQUENCE s INCREMENT 10 RESTART 100;
INSERT INTO t DEFAULT VALUES;
CREATE SEQUENCE new OWNED BY t.id;
--@ case: extension made, used, dropped
CREATE TABLE before (id int PRIMARY KEY, v text);
INSERT INTO before VALUES (1, 'Abc');
--@ after
CREATE EXTENSION citext SCHEMA changes3_extension_made_used_dropped;
CREATE TABLE t (id int PRIMARY KEY, v citext);
INSERT INTO t VALUES (1, 'Abc');
ALTER TABLE before ADD w citext DEFAULT 'Xy';
CREATE EXTENSION seg;
DROP EXTENSION seg;
UPDATE t SET v = 'dEF';
--@ case: function that writes values of a type is replaced
--@ refused: values of a type are read or written
CREATE EXTENSION cube SCHEMA changes3_function_that_writes_values_of_a_type_is_replaced;
CREATE TABLE t (id int PRIMARY KEY, v changes3_function_that_writes_values_of_a_type_is_replaced.cube);
INSERT INTO t VALUES (1, '(1,2)');
--@ after
CREATE OR REPLACE FUNCTION cube_out(cube) RETURNS cstring AS '$libdir/cube' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
INSERT INTO t VALUES (2, '(3)');
--@ case: extension updated
CREATE EXTENSION pg_trgm VERSION '1.5' SCHEMA changes3_extension_updated;
--@ after
ALTER EXTENSION pg_trgm UPDATE;
--@ case: extended statistics
CREATE TABLE t (a int PRIMARY KEY, b int);
--@ after
CREATE STATISTICS st ON a, b FROM t;
INSERT INTO t VALUES (1, 2);
--@ case: collation made
--@ after
CREATE COLLATION c (provider = icu, locale = 'sv');
CREATE TABLE t (k text COLLATE c PRIMARY KEY);
INSERT INTO t VALUES ('å'), ('z');
--@ case: operator, cast, text search
--@ after
CREATE OPERATOR === (leftarg = box, rightarg = box, function = box_eq);
CREATE TYPE w AS (a int);
CREATE FUNCTION to_w(int) RETURNS w LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1)::changes3_operator_cast_text_search.w';
CREATE CAST (int AS w) WITH FUNCTION to_w(int);
CREATE TEXT SEARCH CONFIGURATION cfg (COPY = simple);
--@ case: publication of the user's
CREATE TABLE t (id int PRIMARY KEY);
--@ after
CREATE PUBLICATION changes3_pub FOR TABLE t;
ALTER PUBLICATION changes3_pub SET (publish = 'insert');
INSERT INTO t VALUES (1);
--@ case: event trigger of the user's
--@ polled: no event trigger sees commands about event triggers
--@ refused: no event trigger has told
CREATE TABLE fired (tag text);
CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO changes3_event_trigger_of_the_user_s.fired VALUES (TG_TAG); END $$;
--@ after
CREATE EVENT TRIGGER changes3_ddl ON ddl_command_end EXECUTE FUNCTION f();
CREATE TABLE t (id int PRIMARY KEY);
ALTER EVENT TRIGGER changes3_ddl DISABLE;
--@ case: foreign server and table
--@ after
CREATE FOREIGN DATA WRAPPER changes3_fdw;
CREATE SERVER changes3_srv FOREIGN DATA WRAPPER changes3_fdw;
CREATE FOREIGN TABLE f (id int) SERVER changes3_srv;
--@ case: settings of the database
--@ polled: no event trigger sees what belongs to the whole server
--@ after
BEGIN;
ALTER DATABASE schema SET work_mem = '7MB';
COMMENT ON DATABASE schema IS 'the cases of schema changes';
ALTER ROLE corpus_reader IN DATABASE schema SET statement_timeout = '1s';
COMMIT;
--@ case: a role and a membership
--@ unseen: roles belong to the whole server; they come back as of the snapshot, or with the next one
--@ after
CREATE ROLE changes3_role;
GRANT corpus_reader TO changes3_role;
