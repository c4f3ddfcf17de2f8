--@ group: Roles of the cases
--@ database: server
--@ common
CREATE ROLE corpus_owner NOLOGIN;
CREATE ROLE corpus_reader NOLOGIN CREATEDB VALID UNTIL '2099-01-01 00:00+00';
CREATE ROLE "corpus Odd ""Role"" ä" LOGIN CONNECTION LIMIT 7;
CREATE ROLE corpus_member IN ROLE corpus_reader;
GRANT corpus_owner TO corpus_member WITH ADMIN OPTION;
ALTER ROLE corpus_reader SET statement_timeout = '7s';
COMMENT ON ROLE corpus_reader IS 'reads; ''much''';
