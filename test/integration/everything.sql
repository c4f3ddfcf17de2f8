-- A database of varied types and shapes. Read by test_equality.py; run as a superuser in an empty UTF-8 database.
CREATE ROLE owner_of_shop NOLOGIN;
CREATE ROLE reader NOLOGIN;
CREATE SCHEMA "Mixed Case";
CREATE SCHEMA other AUTHORIZATION owner_of_shop;
COMMENT ON SCHEMA other IS 'a comment with ''quotes'' and ümlauts';
CREATE EXTENSION hstore WITH SCHEMA public;
CREATE EXTENSION citext WITH SCHEMA public;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s fine');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

CREATE TABLE scalars (
    id int PRIMARY KEY, s smallint, b bigint, n numeric, n2 numeric(20,5), r real, d double precision, m money, t text, v varchar(20), c char(8),
    by bytea, ts timestamp, tz timestamptz, da date, ti time, tt timetz, iv interval, bo boolean, u uuid, o oid, x xml, j json, jb jsonb,
    ip inet, ci cidr, ma macaddr, bi bit(5), vb bit varying, po point, bx box, pa path, pg polygon, cr circle, tv tsvector, tq tsquery,
    ar int[], ar2 text[][], ra int4range, mr int4multirange, tr tstzrange, e mood, pr pair, dm positive, h hstore, ct citext, rg regclass, l pg_lsn, ln line);
INSERT INTO scalars (id, s, b, n, n2, r, d, m, t, v, c, by, ts, tz, da, ti, tt, iv, bo, u, o, x, j, jb, ip, ci, ma, bi, vb, po, bx, pa, pg, cr, tv, tq, ar, ar2, ra, mr,
    tr, e, pr, dm, h, ct, rg, l, ln)
SELECT i, (i % 32767)::int2, i::bigint * 922337203685, (i || '.' || repeat('9', i % 40))::numeric, i / 7.0, i / 3.0::real, i / 3.0, (i * 1.01)::numeric::money,
    CASE i % 6 WHEN 0 THEN '' WHEN 1 THEN E'tab\tnew\nline\\N' WHEN 2 THEN 'Grüße ☃ 你好' WHEN 3 THEN repeat('x', 3000) WHEN 4 THEN E'\b\f\r\v' ELSE 'plain' END,
    'v' || i % 20, 'c' || i % 9, decode(md5(i::text), 'hex'), timestamp '2000-01-01' + i * interval '13.123456 hours', timestamptz '1999-12-31 23:59:59.999999+00' + i * interval '1 day',
    date '0044-03-15 BC' + i * 1000, time '00:00' + i * interval '1.5 seconds', timetz '12:00+05:30', make_interval(months => i, days => i, secs => i / 3.0), i % 2 = 0,
    md5(i::text)::uuid, i, '<a>b</a>', ('{"b": 1,  "a": [' || i || ', 1.10, "x"]}')::json, jsonb_build_object('z', i, 'a', ARRAY[1,2]), ('10.0.0.' || i % 250)::inet,
    '192.168.0.0/24', '08:00:2b:01:02:03', (i % 32)::bit(5), B'101', point(i, -i / 3.0), box(point(0,0), point(i, i)), path '((0,0),(1,1),(2,0))', polygon '((0,0),(1,1),(1,0))',
    circle(point(0,0), i), to_tsvector('english', 'the cat ' || i), to_tsquery('english', 'cat & dog'), ARRAY[i, NULL, -i], ARRAY[['a','b'],['c,d','e"f']],
    int4range(i, i + 10), int4multirange(int4range(1, 3), int4range(5, i + 6)), tstzrange('2020-01-01+00', NULL), (ARRAY['sad','ok','it''s fine']::mood[])[1 + i % 3], ROW(i, 'b,"' || i)::pair,
    i + 1, hstore('k', i::text), 'CiText' || i % 10, 'scalars'::regclass, '0/16B3748', line(point(0,0), point(1, i + 1))
    FROM generate_series(1, 400) i;
INSERT INTO scalars (id, r, d, n, ts, tz, da, ar) VALUES
    (1001, 'NaN', 'Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '[5:7]={1,2,3}'), (1002, '-0', '-Infinity', 'Infinity', '-infinity', 'infinity', '4713-01-01 BC', '{}'),
    (1003, '1e-37', '5e-324', repeat('9', 1000)::numeric, '294276-12-31 23:59:59.999999', '4713-01-01 00:00:00+00 BC', '5874897-12-31', NULL);

CREATE TABLE keyed_text ("Schlüssel ß" text PRIMARY KEY, "quo""te" int, big text);
INSERT INTO keyed_text SELECT 'k' || i || repeat('-long', i % 30), i, repeat(md5(i::text), 200) FROM generate_series(1, 500) i;
CREATE TABLE keyed_composite (a int, b text, c date, v text, PRIMARY KEY (c, a, b));
INSERT INTO keyed_composite SELECT i % 50, 'b' || i, date '2020-01-01' + i % 700, 'v' || i FROM generate_series(1, 1500) i;
CREATE TABLE keyed_uuid (id uuid PRIMARY KEY, at timestamptz NOT NULL, body jsonb);
INSERT INTO keyed_uuid SELECT md5(i::text)::uuid, timestamptz '2024-01-01 00:00+00' + i * interval '1 second', jsonb_build_object('i', i) FROM generate_series(1, 2000) i;
CREATE TABLE keyed_numeric (n numeric PRIMARY KEY, v text);
INSERT INTO keyed_numeric SELECT i + 0.5, 'n' || i FROM generate_series(1, 200) i;
CREATE TABLE keyed_nd (k text COLLATE nd PRIMARY KEY, v int);
INSERT INTO keyed_nd VALUES ('Abc', 1), ('dEf', 2), ('straße', 3);
CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, v text);
CREATE UNIQUE INDEX by_index_key ON by_index (b);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_key;
INSERT INTO by_index SELECT i, -i, 'v' || i FROM generate_series(1, 300) i;
CREATE TABLE full_identity (a int, t text, big text);
ALTER TABLE full_identity REPLICA IDENTITY FULL;
INSERT INTO full_identity SELECT i % 20, CASE WHEN i % 4 = 0 THEN NULL ELSE 'dup' || i % 3 END, CASE WHEN i % 10 = 0 THEN repeat(md5((i % 3)::text), 300) END FROM generate_series(1, 300) i;
CREATE TABLE no_key_log (at timestamptz DEFAULT clock_timestamp(), what text);
INSERT INTO no_key_log (what) SELECT 'line ' || i % 7 FROM generate_series(1, 200) i;
CREATE TABLE empty_table (id int PRIMARY KEY);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE generated (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int NOT NULL, twice int GENERATED ALWAYS AS (a * 2) STORED, s serial, dropped int, z text DEFAULT 'z');
INSERT INTO generated (a) SELECT i FROM generate_series(1, 300) i;
ALTER TABLE generated DROP COLUMN dropped;
CREATE TABLE "Mixed Case"."Täble ""x""" ("Id" bigserial PRIMARY KEY, "Änderung" text);
INSERT INTO "Mixed Case"."Täble ""x""" ("Änderung") SELECT 'ä' || i FROM generate_series(1, 100) i;
CREATE TABLE other.parent (id bigint NOT NULL, region text NOT NULL, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE other.parent_eu PARTITION OF other.parent FOR VALUES IN ('eu');
CREATE TABLE other.parent_us PARTITION OF other.parent FOR VALUES IN ('us') PARTITION BY RANGE (id);
CREATE TABLE other.parent_us_1 PARTITION OF other.parent_us FOR VALUES FROM (0) TO (100000);
CREATE TABLE other.parent_us_2 PARTITION OF other.parent_us FOR VALUES FROM (100000) TO (MAXVALUE);
INSERT INTO other.parent SELECT i, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END, 'p' || i FROM generate_series(1, 600) i;
CREATE TABLE inherited_base (id int PRIMARY KEY, v text);
CREATE TABLE inherited_child (w text, PRIMARY KEY (id)) INHERITS (inherited_base);
INSERT INTO inherited_base SELECT i, 'base' FROM generate_series(1, 50) i;
INSERT INTO inherited_child SELECT i, 'child', 'w' FROM generate_series(51, 100) i;
CREATE TABLE child (id int PRIMARY KEY, scalar_id int NOT NULL REFERENCES scalars ON DELETE CASCADE, v text);
INSERT INTO child SELECT i, 1 + i % 400, 'c' || i FROM generate_series(1, 500) i;
CREATE TABLE secret (id int PRIMARY KEY, who text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON secret USING (who = current_user);
INSERT INTO secret SELECT i, CASE WHEN i % 2 = 0 THEN 'salvor' ELSE 'other' END FROM generate_series(1, 40) i;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE INDEX ON scalars USING gin (jb);
CREATE INDEX ON keyed_uuid USING brin (at);
CREATE INDEX ON keyed_text (lower("Schlüssel ß")) WHERE "quo""te" > 5;
CREATE VIEW some_scalars AS SELECT id, t, jb FROM scalars WHERE bo;
CREATE MATERIALIZED VIEW counted AS SELECT region, count(*) FROM other.parent GROUP BY region;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := coalesce(NEW.v, '') || '!'; RETURN NEW; END $$;
CREATE TRIGGER touch_child BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION touch();
CREATE RULE protect_empty AS ON DELETE TO empty_table DO INSTEAD NOTHING;
CREATE SEQUENCE free_running INCREMENT 7 CACHE 10;
CREATE SEQUENCE falling INCREMENT -1 MINVALUE -1000000 MAXVALUE 10 START 10;
CREATE STATISTICS st ON a, b FROM keyed_composite;
GRANT SELECT, INSERT ON scalars TO reader;
GRANT UPDATE (v) ON child TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA other GRANT SELECT ON TABLES TO reader;
ALTER TABLE other.parent OWNER TO owner_of_shop;
COMMENT ON COLUMN scalars.t IS E'text with \\ and newline\nhere';
