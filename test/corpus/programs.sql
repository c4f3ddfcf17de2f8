--@ group: What stands around the rows: views, functions, triggers, rights, comments
--@ common
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist;
CREATE EXTENSION unaccent;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION intarray;
CREATE EXTENSION bloom;
CREATE EXTENSION "uuid-ossp";
CREATE EXTENSION tablefunc;
CREATE EXTENSION postgres_fdw;
COMMENT ON EXTENSION pg_trgm IS 'another comment';
--@ case: views
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE VIEW a AS SELECT * FROM t;
CREATE VIEW b WITH (security_barrier) AS SELECT id, upper(v) AS u FROM a WHERE id > 1 WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW r (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5;
INSERT INTO a VALUES (1, 'x'), (2, 'y');
--@ before
UPDATE a SET v = 'z';
--@ after
INSERT INTO b (id) VALUES (3);
--@ case: a materialized view, refreshed last
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 10) i;
CREATE MATERIALIZED VIEW m AS SELECT v, count(*) FROM t GROUP BY v;
CREATE UNIQUE INDEX ON m (v);
--@ case: a materialized view whose base has changed since
--@ not kept: m: a recovery refreshes it
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 10) i;
CREATE MATERIALIZED VIEW m AS SELECT v, count(*) FROM t GROUP BY v;
--@ before
INSERT INTO t VALUES (11, 5);
--@ after
DELETE FROM t WHERE v = 1;
--@ case: a materialized view over another, and one that is empty
CREATE TABLE t (id int PRIMARY KEY, v int);
INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 10) i;
CREATE MATERIALIZED VIEW z AS SELECT v, count(*) AS n FROM t GROUP BY v;
CREATE MATERIALIZED VIEW a AS SELECT sum(n) FROM z;
CREATE MATERIALIZED VIEW never AS SELECT * FROM a WITH NO DATA;
--@ case: indexes of every kind
CREATE TABLE t (id int PRIMARY KEY, v text, j jsonb, r int4range, a int[], p point, d date);
INSERT INTO t SELECT i, 'v' || i, jsonb_build_object('i', i), int4range(i, i + 2), ARRAY[i], point(i, i), date '2020-01-01' + i FROM generate_series(1, 20) i;
CREATE INDEX b ON t (v DESC NULLS LAST, id) INCLUDE (d) WHERE id > 3;
CREATE INDEX e ON t (lower(v), (id % 7));
CREATE INDEX h ON t USING hash (v);
CREATE INDEX g ON t USING gin (j jsonb_path_ops);
CREATE INDEX g2 ON t USING gin (v gin_trgm_ops);
CREATE INDEX g3 ON t USING gin (a gin__int_ops);
CREATE INDEX s ON t USING gist (r, id);
CREATE INDEX sp ON t USING spgist (p);
CREATE INDEX br ON t USING brin (d) WITH (pages_per_range = 4);
CREATE INDEX bl ON t USING bloom (id);
CREATE INDEX co ON t (v COLLATE "C" text_pattern_ops);
ALTER INDEX e ALTER COLUMN 2 SET STATISTICS 500;
COMMENT ON INDEX e IS 'an index';
--@ before
UPDATE t SET v = 'w' WHERE id = 5;
--@ after
DELETE FROM t WHERE id > 15;
--@ case: functions, procedures, aggregates
CREATE FUNCTION f(int, VARIADIC text[] DEFAULT '{a}') RETURNS TABLE (a int, b text) LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 7 ROWS 3 AS 'SELECT 1, ''x''';
CREATE FUNCTION g(a int) RETURNS int LANGUAGE sql RETURN a + 1;
CREATE FUNCTION h() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET work_mem = '7MB' AS $q$ BEGIN NULL; END $q$;
CREATE PROCEDURE p(INOUT x int) LANGUAGE plpgsql AS $$ BEGIN x := x + 1; END $$;
CREATE AGGREGATE ag (int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT g(1), CHECK (g(n) > 0));
INSERT INTO t VALUES (1);
--@ before
INSERT INTO t VALUES (2);
--@ after
INSERT INTO t VALUES (3, g(7));
--@ case: triggers do not fire again
CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0);
CREATE TABLE log (at int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES (TG_OP); IF TG_OP <> 'DELETE' THEN NEW.n := NEW.n + 1; RETURN NEW; END IF; RETURN OLD; END $$;
ALTER FUNCTION f() SET search_path FROM CURRENT;
CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION f();
CREATE TRIGGER b AFTER TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION f();
ALTER TABLE t ENABLE ALWAYS TRIGGER a;
INSERT INTO t VALUES (1, 'a'), (2, 'b');
--@ before
UPDATE t SET v = 'c' WHERE id = 1;
--@ after
DELETE FROM t WHERE id = 2;
INSERT INTO t VALUES (3, 'x');
--@ case: triggers of other kinds
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER c AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.v IS DISTINCT FROM NEW.v) EXECUTE FUNCTION f();
CREATE TRIGGER tr AFTER UPDATE ON t REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION f('arg', 'it''s');
CREATE TRIGGER off BEFORE UPDATE OF v ON t FOR EACH ROW EXECUTE FUNCTION f();
ALTER TABLE t DISABLE TRIGGER off;
CREATE VIEW vw AS SELECT * FROM t;
CREATE TRIGGER ins INSTEAD OF INSERT ON vw FOR EACH ROW EXECUTE FUNCTION f();
INSERT INTO t VALUES (1, 'a');
--@ before
UPDATE t SET v = 'b';
--@ after
UPDATE t SET v = 'c';
--@ case: rules do not act again
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TABLE log (what text);
CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO log VALUES ('inserted');
CREATE RULE n AS ON DELETE TO t DO INSTEAD NOTHING;
INSERT INTO t VALUES (1, 'a');
--@ before
INSERT INTO t VALUES (2, 'b');
--@ after
DELETE FROM t;
INSERT INTO t VALUES (3, 'c');
--@ case: an event trigger of the user's does not fire
CREATE TABLE fired (tag text);
CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO programs_an_event_trigger_of_the_user_s_does_not_fire.fired VALUES (TG_TAG); END $$;
CREATE EVENT TRIGGER corpus_ddl ON ddl_command_end EXECUTE FUNCTION f();
CREATE EVENT TRIGGER corpus_drop ON sql_drop WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION f();
CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'schemas stay'; END $$;
CREATE EVENT TRIGGER corpus_keep ON sql_drop WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION forbid();
CREATE EVENT TRIGGER corpus_rewrite ON table_rewrite EXECUTE FUNCTION f();
ALTER EVENT TRIGGER corpus_drop DISABLE;
ALTER EVENT TRIGGER corpus_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER corpus_ddl IS 'counts';
CREATE TABLE t (id int PRIMARY KEY);
--@ before
INSERT INTO t VALUES (1);
--@ after
INSERT INTO t VALUES (2);
--@ case: publications of the user's
CREATE TABLE t (id int PRIMARY KEY, v text, w int);
CREATE TABLE u (id int PRIMARY KEY);
CREATE PUBLICATION corpus_all FOR ALL TABLES WITH (publish = 'insert');
CREATE PUBLICATION corpus_one FOR TABLE t (id, v) WHERE (id > 5), u WITH (publish = 'insert, update');
CREATE PUBLICATION corpus_schema FOR TABLES IN SCHEMA programs_publications_of_the_user_s WITH (publish_via_partition_root);
CREATE PUBLICATION corpus_none;
INSERT INTO t VALUES (1, 'a', 2);
--@ before
INSERT INTO t VALUES (7, 'b', 3);
--@ after
DELETE FROM t WHERE id = 1;
--@ case: row security
CREATE TABLE t (id int PRIMARY KEY, who text);
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
ALTER TABLE t FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON t USING (who = current_user) WITH CHECK (who <> 'nobody');
CREATE POLICY positive ON t AS RESTRICTIVE FOR SELECT TO corpus_reader, public USING (id > 0);
ALTER TABLE t OWNER TO corpus_owner;
INSERT INTO t VALUES (1, 'salvor'), (2, 'other');
--@ before
UPDATE t SET who = 'x' WHERE id = 2;
--@ after
INSERT INTO t VALUES (3, 'salvor');
--@ case: grants of every kind
CREATE TABLE t (id serial PRIMARY KEY, v text, w int);
CREATE VIEW vw AS SELECT 1 AS x;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE ty AS ENUM ('a');
GRANT SELECT, INSERT ON t TO corpus_reader WITH GRANT OPTION;
GRANT UPDATE (v), REFERENCES (w) ON t TO corpus_reader;
GRANT SELECT ON vw TO public;
REVOKE ALL ON FUNCTION f() FROM public;
GRANT EXECUTE ON FUNCTION f() TO "corpus Odd ""Role"" ä";
GRANT USAGE ON SEQUENCE t_id_seq TO corpus_member;
GRANT USAGE ON TYPE ty TO corpus_reader;
REVOKE USAGE ON TYPE ty FROM public;
GRANT USAGE, CREATE ON SCHEMA programs_grants_of_every_kind TO corpus_owner;
REVOKE ALL ON t FROM postgres;
SET ROLE corpus_owner;
CREATE TABLE programs_grants_of_every_kind.o (id int PRIMARY KEY);
GRANT ALL ON programs_grants_of_every_kind.o TO corpus_member;
RESET ROLE;
--@ before
INSERT INTO o VALUES (1);
--@ after
INSERT INTO o VALUES (2);
--@ case: default privileges
ALTER DEFAULT PRIVILEGES IN SCHEMA programs_default_privileges GRANT SELECT ON TABLES TO corpus_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE corpus_owner REVOKE EXECUTE ON FUNCTIONS FROM public;
ALTER DEFAULT PRIVILEGES FOR ROLE corpus_owner IN SCHEMA programs_default_privileges GRANT USAGE ON SEQUENCES TO corpus_member WITH GRANT OPTION;
CREATE TABLE t (id int PRIMARY KEY);
--@ before
INSERT INTO t VALUES (1);
--@ after
INSERT INTO t VALUES (2);
--@ case: owners
CREATE TABLE t (id serial PRIMARY KEY);
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE e AS ENUM ('a');
CREATE DOMAIN d AS int;
CREATE VIEW v AS SELECT 1 AS x;
CREATE COLLATION c (locale = 'C');
ALTER TABLE t OWNER TO "corpus Odd ""Role"" ä";
ALTER FUNCTION f() OWNER TO corpus_owner;
ALTER TYPE e OWNER TO corpus_owner;
ALTER DOMAIN d OWNER TO corpus_owner;
ALTER VIEW v OWNER TO corpus_owner;
ALTER COLLATION c OWNER TO corpus_owner;
ALTER SCHEMA programs_owners OWNER TO corpus_member;
--@ before
INSERT INTO t DEFAULT VALUES;
--@ after
DELETE FROM t;
--@ case: comments
CREATE TABLE t (id int PRIMARY KEY, v text CONSTRAINT ck CHECK (v <> ''));
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE e AS ENUM ('a');
CREATE VIEW vw AS SELECT 1 AS x;
CREATE SEQUENCE s;
COMMENT ON SCHEMA programs_comments IS 'schema ''quoted''';
COMMENT ON TABLE t IS E'line\nline \\ ä';
COMMENT ON COLUMN t.v IS 'column';
COMMENT ON CONSTRAINT ck ON t IS 'constraint';
COMMENT ON FUNCTION f() IS 'function';
COMMENT ON TYPE e IS 'type';
COMMENT ON VIEW vw IS 'view';
COMMENT ON COLUMN vw.x IS 'view column';
COMMENT ON SEQUENCE s IS 'sequence';
INSERT INTO t VALUES (1, 'x');
--@ before
INSERT INTO t VALUES (2, 'y');
--@ after
DELETE FROM t WHERE id = 1;
--@ case: statistics, operators, casts, text search
CREATE TABLE t (a int, b int, c text, PRIMARY KEY (a, b));
CREATE STATISTICS st (ndistinct, mcv) ON a, b FROM t;
CREATE STATISTICS ex ON (a + b), c FROM t;
ALTER TABLE t ALTER a SET STATISTICS 300;
ALTER TABLE t ALTER c SET (n_distinct = -0.5);
CREATE FUNCTION eq(box, box) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR === (leftarg = box, rightarg = box, function = eq, commutator = ===);
CREATE TYPE w AS (a int);
CREATE FUNCTION to_w(int) RETURNS w LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1)::programs_statistics_operators_casts_text_search.w';
CREATE CAST (int AS w) WITH FUNCTION to_w(int);
CREATE TEXT SEARCH DICTIONARY di (template = simple, stopwords = english);
CREATE TEXT SEARCH CONFIGURATION cfg (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION cfg ALTER MAPPING FOR asciiword WITH unaccent, di;
CREATE OPERATOR FAMILY of USING btree;
CREATE CONVERSION cv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
INSERT INTO t VALUES (1, 2, 'x');
--@ before
INSERT INTO t VALUES (2, 2, 'y');
--@ after
UPDATE t SET b = 3;
--@ case: types of every kind
CREATE TYPE e AS ENUM ('b', 'a');
ALTER TYPE e ADD VALUE 'between' BEFORE 'a';
CREATE TYPE c AS (x int, y text COLLATE "C", z e);
CREATE DOMAIN d AS c CHECK ((VALUE).x > 0) DEFAULT NULL;
CREATE TYPE r AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = mr);
CREATE TYPE shell;
CREATE TABLE t (id int PRIMARY KEY, e e, es e[], c c, cs c[], d d, r r, m mr);
INSERT INTO t VALUES (1, 'a', '{b,a}', '(1,"a b",b)', ARRAY['(2,,a)']::c[], '(3,x,b)', '[1.5,2)', '{[1,2),[3,4)}');
--@ before
UPDATE t SET e = 'between', c = ROW(5, NULL, 'a');
--@ after
INSERT INTO t VALUES (2, 'b', '{}', NULL, '{NULL}', NULL, 'empty', '{}');
UPDATE t SET r = '(,)' WHERE id = 1;
--@ case: foreign tables
--@ not kept: f: the rows lie elsewhere
CREATE SERVER corpus_far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname 'x');
CREATE USER MAPPING FOR corpus_reader SERVER corpus_far;
CREATE FOREIGN TABLE f (id int NOT NULL, v text OPTIONS (column_name 'w')) SERVER corpus_far OPTIONS (table_name 'y');
--@ case: a table of an extension's kind of index and default
CREATE TABLE t (id uuid PRIMARY KEY DEFAULT uuid_generate_v4(), pw text DEFAULT crypt('x', gen_salt('bf', 4)), a int[]);
INSERT INTO t (a) VALUES ('{1,2}');
--@ before
INSERT INTO t (a) VALUES ('{3}');
--@ after
UPDATE t SET a = sort(a + 1);
--@ case: an extension in a schema of its own
CREATE EXTENSION fuzzystrmatch SCHEMA programs_an_extension_in_a_schema_of_its_own;
CREATE TABLE t (id int PRIMARY KEY, v text GENERATED ALWAYS AS (programs_an_extension_in_a_schema_of_its_own.soundex(id::text)) STORED);
INSERT INTO t VALUES (1);
--@ before
INSERT INTO t VALUES (2);
--@ after
INSERT INTO t VALUES (3);
--@ case: an extension of an older version
CREATE EXTENSION pageinspect VERSION '1.9';
