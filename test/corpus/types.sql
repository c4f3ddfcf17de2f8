--@ group: Types, in every place of a row
-- A value as key, as an ordinary column, in a row without key whose whole old image identifies it, in an array, behind a unique index.
--@ types
-- int2 | smallint | key value full array | 1 | -32768 | 32767 | 0 | -1
-- int4 | integer | key value full array | 1 | -2147483648 | 2147483647 | 0 | -1
-- int8 | bigint | key value full array | 1 | -9223372036854775808 | 9223372036854775807 | 0 | 4294967296
-- numeric | numeric | key value full array | 1.0 | -0.00001 | 'NaN' | 'Infinity' | 1e300
-- numeric with scale | numeric(20,5) | key value full array | 1 | -1.5 | 0 | 123456789012345.12345 | 0.00001
-- numeric of 1000 digits | numeric | key value full array | repeat('9', 1000)::numeric | ('0.' \|\| repeat('1', 1000))::numeric | -(repeat('8', 1000)::numeric) | 1 | 10::numeric ^ 500
-- real | real | key value full array | 1.5 | 'NaN' | '-Infinity' | '1e-37' | 3.4028235e38
-- double | double precision | key value full array | 0.1 | 'NaN' | 'Infinity' | 5e-324 | 1.7976931348623157e308
-- money | money | key value full array | 1.01::numeric::money | (-1.5)::numeric::money | 0::money | 92233720368547758.07::numeric::money | 1000::money
-- text | text | key value full array | '' | E'tab\tnew\nline\\N\\.' | 'Grüße ☃ 你好' | repeat('x', 2000) | E'\b\f\r\v\x01'
-- varchar | varchar(20) | key value full array | '' | 'ä' | '  blanks  ' | 'v' | repeat('y', 20)
-- char | char(8) | key value full array | '' | 'a' | 'ab  ' | 'ü' | 'abcdefgh'
-- one char | "char" | key value full array | 'a' | '' | '\200' | ' ' | 'Z'
-- name | name | key value full array | 'a' | 'Ä' | 'b c' | '"q"' | repeat('n', 63)
-- bytea | bytea | key value full array | ''::bytea | '\x00'::bytea | '\x5c4e'::bytea | '\x0a0d09'::bytea | decode(repeat('ff', 100), 'hex')
-- timestamp | timestamp | key value full array | '2000-01-01' | 'infinity' | '-infinity' | '0044-03-15 12:00:00.000001 BC' | '294276-12-31 23:59:59.999999'
-- timestamptz | timestamptz | key value full array | '2000-01-01 00:00+05:30' | 'infinity' | '-infinity' | '4713-01-01 00:00:00+00 BC' | '1883-11-18 12:03:57.123+00'
-- date | date | key value full array | '2000-01-01' | 'infinity' | '-infinity' | '4713-01-01 BC' | '5874897-12-31'
-- time | time | key value full array | '00:00' | '24:00:00' | '23:59:59.999999' | '12:00:00.1' | '00:00:00.000001'
-- timetz | timetz | key value full array | '12:00+05:30' | '00:00-15:59' | '24:00+00' | '12:00:00.5-08' | '01:02:03+00:00:01'
-- interval | interval | key value full array | '1 mon' | '30 days -1 mons +5 hours' | '-178000000 years' | '1.000001 s' | '0'
-- boolean | boolean | value full array | true | false | NULL | true | false
-- uuid | uuid | key value full array | '00000000-0000-0000-0000-000000000000' | 'ffffffff-ffff-ffff-ffff-ffffffffffff' | 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11' | 'a0eebc999c0b4ef8bb6d6bb9bd380a12' | '{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a13}'
-- oid | oid | key value full array | 1 | 0 | 4294967295 | 16384 | 7
-- xid8 | xid8 | key value full array | '1' | '0' | '18446744073709551615' | '7' | '8'
-- pg_lsn | pg_lsn | key value full array | '0/0' | '0/16B3748' | 'FFFFFFFF/FFFFFFFF' | '1/0' | '0/1'
-- inet | inet | key value full array | '10.0.0.1' | '10.0.0.1/8' | '::1' | '::ffff:1.2.3.4/128' | '0.0.0.0/0'
-- cidr | cidr | key value full array | '192.168.0.0/24' | '10/8' | '::/0' | '2001:db8::/32' | '1.2.3.4/32'
-- macaddr | macaddr | key value full array | '08:00:2b:01:02:03' | '0000.0000.0000' | 'ff-ff-ff-ff-ff-ff' | '08:00:2b:01:02:04' | '08:00:2b:01:02:05'
-- macaddr8 | macaddr8 | key value full array | '08:00:2b:01:02:03:04:05' | '08002b010203' | 'ff:ff:ff:ff:ff:ff:ff:ff' | '00:00:00:00:00:00:00:01' | '00:00:00:00:00:00:00:02'
-- bit | bit(5) | key value full array | B'00000' | B'11111' | B'10101' | B'00001' | B'10000'
-- bit varying | bit varying | key value full array | B'' | B'0' | B'00' | B'1' | (repeat('10', 500))::varbit
-- point | point | value array | '(0,0)' | '(-0,1e300)' | '(NaN,Infinity)' | '(0.1,0.2)' | '(1,-1)'
-- line | line | value array | '{1,2,3}' | '{0,1,0}' | '{1,0,-0.5}' | '{0.1,0.2,0.3}' | '{-1,1,0}'
-- lseg | lseg | value array | '[(0,0),(1,1)]' | '[(0,0),(0,0)]' | '[(1,1),(0,0)]' | '[(1e100,0),(0,1)]' | '[(0.1,0.2),(0.3,0.4)]'
-- box | box | value | '(1,1),(0,0)' | '(0,0),(0,0)' | '(2,3),(-2,-3)' | '(0.1,0.2),(0.1,0.1)' | '(Infinity,1),(0,0)'
-- path | path | value array | '((0,0),(1,1),(2,0))' | '[(0,0),(1,1)]' | '((0,0))' | '[(0.1,0.2)]' | '((1,1),(1,1))'
-- polygon | polygon | value array | '((0,0),(1,1),(1,0))' | '((0,0))' | '((0.1,0.1),(1e10,1))' | '((1,1),(2,2))' | '((3,3))'
-- circle | circle | value array | '<(0,0),1>' | '<(0,0),0>' | '<(1,1),Infinity>' | '<(0.1,0.2),0.3>' | '<(-1,-1),2>'
-- json | json | value array | '{"b": 1,  "a": [1.10, "x"]}' | '{"a":1,"a":2}' | 'null' | '"\\u00e4\n"' | '[]'
-- jsonb | jsonb | key value full array | '{"b": 1, "a": [1.10, "x"]}' | '{}' | 'null' | '"ü\\n"' | '1e100'
-- jsonpath | jsonpath | value array | '$' | '$.a[*] ? (@ > 1)' | 'strict $.b' | '$."ä"' | '$.**'
-- xml | xml | value array | '<a>b</a>' | 'text only' | '<?xml version="1.0"?><ä b="c"/>' | '<a><!-- c --></a>' | '<a>&lt;&#10;</a>'
-- tsvector | tsvector | key value full array | '' | to_tsvector('simple', 'the cat') | 'a:1A,2B b:3' | '''quo te'':1' | 'ä'
-- tsquery | tsquery | key value full array | 'cat & dog' | '!a \| b:*' | 'a <-> b' | '''a b''' | 'ä:A'
-- int array | int[] | key value full | '{}' | '{1,NULL,-1}' | '[5:7]={1,2,3}' | '{{1,2},{3,4}}' | '[-1:0][2:3]={{1,2},{3,4}}'
-- text array | text[] | key value full | '{}' | ARRAY['a,b','c"d','','NULL',NULL] | ARRAY[['ä','\'],['{','}']] | '{" "}' | '[0:0]={x}'
-- int4range | int4range | key value full array | 'empty' | '[1,5)' | '(,)' | '[1,)' | '(,7]'
-- int8range | int8range | key value full array | 'empty' | '[1,5)' | '(,)' | '[-9223372036854775808,0)' | '(,7]'
-- numrange | numrange | key value full array | 'empty' | '[1.0,1.00]' | '(,NaN]' | '[0.1,Infinity)' | '(1,2)'
-- tsrange | tsrange | key value full array | 'empty' | '[2000-01-01,infinity)' | '(,)' | '["0044-03-15 BC",2000-01-01]' | '[-infinity,infinity]'
-- tstzrange | tstzrange | key value full array | 'empty' | '[2000-01-01 00:00+02,)' | '(,)' | '(2000-01-01 00:00+00,2000-01-02 00:00+00]' | '[-infinity,infinity]'
-- daterange | daterange | key value full array | 'empty' | '[2000-01-01,2000-01-31]' | '(,)' | '[0001-01-01 BC,infinity]' | '(2000-01-01,)'
-- multirange | nummultirange | key value full array | '{}' | '{[1,2),[3,4]}' | '{(,)}' | '{[1.0,1.00]}' | '{(,0),(5,)}'
-- regclass | regclass | value full array | 'pg_class'::regclass | 0::regclass | 'pg_type'::regclass | 'pg_proc'::regclass | 'pg_namespace'::regclass
-- regtype | regtype | value full array | 'int4'::regtype | 0::regtype | 'text[]'::regtype | 'timestamptz'::regtype | 'numeric'::regtype
-- tid | tid | value array | '(0,1)' | '(4294967295,65535)' | '(1,0)' | '(7,7)' | '(0,0)'
-- hstore | hstore | key value full array | '' | 'a=>1, b=>NULL' | '"q\"uo"=>"\\\\"' | 'ä=>"ü "' | 'a=>""'
-- citext | citext | key value full array | 'Abc' | 'ABD' | 'äÖ' | '' | ' x '
-- ltree | ltree | key value full array | 'a' | 'a.b.c' | '' | 'Top.Science_1' | 'A.b'
-- seg | seg | key value full array | '1' | '1 .. 2' | '1.00' | '~1.5' | '<1'
-- cube | cube | key value full array | '(1)' | '(1,2,3)' | '(0,0),(1,1)' | '(0.1)' | '(-1),(1)'
-- isbn | isbn13 | key value full array | '9780393040029' | '978-0-11-000222-4' | '9780306406157' | '9783161484100' | '9781402894626'
-- enum | corpus_mood | key value full array | 'sad' | 'it''s fine' | 'ok' | 'ä' | ''
-- composite | corpus_pair | key value full array | '(1,b)' | '(,)' | '(,"")' | ROW(2, 'a,"(\')::corpus_pair | '(-1,ä)'
-- domain over int | corpus_positive | key value full array | 1 | 2147483647 | 7 | 5 | 3
-- domain over text | corpus_word | key value full array | 'a' | 'ä' | 'a b' | '.' | 'N'
-- domain over array | corpus_pairs | value full | '{}' | '{1,2}' | '{NULL,1}' | NULL | '[2:3]={7,8}'
-- range of the user's | corpus_range | key value full array | 'empty' | '[a,b)' | '(,)' | '["a b",z]' | '(,ä)'
-- text, case-blind | text COLLATE corpus_nd | key value full | 'Abc' | 'abd' | 'ÄB' | '' | 'z'
-- text in German order | text COLLATE corpus_de | key value full | 'ä' | 'a' | 'Z' | 'ß' | 'ss'
-- text in C | text COLLATE "C" | key value full | 'ä' | 'a' | 'Z' | '' | E'\\'
--@ common
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
CREATE EXTENSION seg;
CREATE EXTENSION cube;
CREATE EXTENSION isn;
CREATE TYPE corpus_mood AS ENUM ('sad', 'ok', 'it''s fine', 'ä', '');
CREATE TYPE corpus_pair AS (a int, b text);
CREATE DOMAIN corpus_positive AS int CHECK (VALUE > 0);
CREATE DOMAIN corpus_word AS text CHECK (VALUE <> '');
CREATE DOMAIN corpus_pairs AS int[] CHECK (array_length(VALUE, 1) <= 2);
CREATE TYPE corpus_range AS RANGE (subtype = text, collation = "C");
CREATE COLLATION corpus_nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION corpus_de (provider = icu, locale = 'de-u-co-phonebk');

--@ shape: key: a primary key
CREATE TABLE t (k $type PRIMARY KEY, n int, v text);
INSERT INTO t VALUES ($1, 1, 'one'), ($2, 2, 'two'), ($3, 3, repeat('three', 2000));
--@ before
UPDATE t SET v = v || '!' WHERE n = 1;
INSERT INTO t VALUES ($4, 4, 'four');
UPDATE t SET k = $5 WHERE n = 3;
DELETE FROM t WHERE n = 2;
--@ after
UPDATE t SET n = n + 10 WHERE n = 3;
INSERT INTO t VALUES ($2, 2, 'two again'), ($3, 3, NULL);
BEGIN;
DELETE FROM t WHERE n = 4;
UPDATE t SET k = $4 WHERE n = 1;
COMMIT;

--@ shape: value: a column beside the key
CREATE TABLE t (id int PRIMARY KEY, v $type, w $type);
INSERT INTO t VALUES (1, $1, $2), (2, $3, NULL), (3, NULL, $4), (4, $5, $5);
--@ before
UPDATE t SET v = w, w = v WHERE id = 1;
UPDATE t SET w = $1 WHERE id = 2;
INSERT INTO t VALUES (5, $4, $3);
--@ after
DELETE FROM t WHERE id = 4;
UPDATE t SET id = id + 10 WHERE id < 3;
INSERT INTO t VALUES (1, $2, NULL), (2, NULL, $5);
UPDATE t SET v = NULL WHERE id = 11;

--@ shape: full: in rows without a key
CREATE TABLE t (v $type, n int);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t VALUES ($1, 1), ($1, 1), ($2, 2), ($3, 3), (NULL, 4), ($4, 5);
--@ before
DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE n = 1);
UPDATE t SET n = 20 WHERE n = 2;
INSERT INTO t VALUES ($5, 6), ($5, 6);
--@ after
UPDATE t SET v = $2 WHERE n = 4;
UPDATE t SET v = $4 WHERE n = 6;
DELETE FROM t WHERE n = 3;

--@ shape: array: in arrays
CREATE TABLE t (id int PRIMARY KEY, a $type[]);
INSERT INTO t VALUES (1, ARRAY[$1, $2]::$type[]), (2, '{}'), (3, NULL), (4, ARRAY[[$3], [$4]]::$type[]);
--@ before
UPDATE t SET a = a || ARRAY[$5]::$type[] WHERE id IN (1, 2);
INSERT INTO t VALUES (5, ARRAY[NULL, $3]::$type[]);
--@ after
UPDATE t SET a[7] = $2 WHERE id = 2;
DELETE FROM t WHERE id = 3;
