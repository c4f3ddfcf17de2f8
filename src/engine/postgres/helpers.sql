-- engine/postgres/helpers.sql - what `salvor setup --admin` makes in the database of a source (trigger mode).
--
-- The words between two at-signs are filled in by pg_helpers.c.
--
-- The publication @rows@ has all tables and publishes INSERT and TRUNCATE; @keys@ has the tables whose rows
-- PostgreSQL can identify and publishes UPDATE and DELETE. A table in @keys@ without identity would make the
-- application's UPDATE fail, so event triggers keep that list right inside the transaction that changes a table.
-- Rules for everything below:
--   * nothing fails into the application: every exception is caught, a cancel and a time-out too;
--   * nothing waits for a lock: whether @keys@ is held is looked up, and ALTER PUBLICATION has 1 ms for the rest (a waiter
--     could be a deadlock's victim, or make another one so). Where there is no way around one, it is tried again for up to 10 s;
--   * a table is put on the list only while its identity is proved under a lock that keeps it so; under REPEATABLE READ
--     queries see the past, so that there proof comes from pg_get_replica_identity_index and pg_get_publication_tables,
--     which look at the present;
--   * what a transaction changes is written into @schema@.ddl and deleted at once: the INSERT goes the way of all rows,
--     inside the transaction, and the table stays empty. Nobody but the owner of the schema can write there.

-- Event triggers of others would do to what is made here what they do to all that is made: give it to another owner, add columns to it.
SET LOCAL session_replication_role = replica;

CREATE SCHEMA IF NOT EXISTS @schema@;
COMMENT ON SCHEMA @schema@ IS 'Salvor: notices schema changes; made by salvor setup, removed by salvor teardown';
GRANT USAGE ON SCHEMA @schema@ TO PUBLIC;

-- Rows of the table below are checked by it. A member of pg_write_all_data may write any table; but this is a function that only its owner, and a superuser, may call.
CREATE OR REPLACE FUNCTION @schema@.ours() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
REVOKE ALL ON FUNCTION @schema@.ours() FROM PUBLIC;

-- The way of a schema change into the stream. Always empty. Everybody may read it: a pg_dump of the application's locks it.
CREATE TABLE IF NOT EXISTS @schema@.ddl (
    id bigint NOT NULL,
    at timestamptz NOT NULL,
    tag text NOT NULL,
    object text NOT NULL,
    detail text NOT NULL,
    state text NOT NULL DEFAULT '',
    CONSTRAINT ours CHECK (@schema@.ours())
) WITH (vacuum_truncate = off);
DO $salvor$ BEGIN -- made by an older setup
    IF NOT (SELECT r.rolsuper FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.oid = '@schema@.ddl'::pg_catalog.regclass) THEN
        ALTER TABLE @schema@.ddl OWNER TO CURRENT_USER;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = '@schema@.ddl'::pg_catalog.regclass AND attname = 'state') THEN
        ALTER TABLE @schema@.ddl ADD COLUMN state text NOT NULL DEFAULT '';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = '@schema@.ddl'::pg_catalog.regclass AND conname = 'ours') THEN
        ALTER TABLE @schema@.ddl ADD CONSTRAINT ours CHECK (@schema@.ours());
    END IF;
END $salvor$;
REVOKE ALL ON @schema@.ddl FROM PUBLIC;
GRANT SELECT ON @schema@.ddl TO PUBLIC;

-- What could not be told: another value each time, which polls compare (pg_published). A sequence, because LOCK TABLE takes none, and because its value stays where
-- the transaction is open for long or fails; then it was an alarm too many.
CREATE SEQUENCE IF NOT EXISTS @schema@.untold;
REVOKE ALL ON @schema@.untold FROM PUBLIC;
GRANT SELECT ON @schema@.untold TO PUBLIC;

-- Every ordinary table as the current query's snapshot sees it.
--   identified   PostgreSQL can identify its rows (RelationGetReplicaIndex); a key with a generated column would pass there, but
--                its DELETE would arrive without values
--   wants_full   identity = full for it, and its owner has not said otherwise (REPLICA IDENTITY NOTHING)
--   cared_for    Salvor looks after it at all
CREATE OR REPLACE VIEW @schema@.tables AS
    SELECT c.oid AS id, n.nspname || '.' || c.relname AS name, c.relpersistence = 'u' AS unlogged,
           c.oid >= 16384 AND c.relpersistence = 'p'
               AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', '@schema@') AS cared_for,
           EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
                   WHERE r.prrelid = c.oid AND p.pubname = '@keys@') AS listed,
           c.relpersistence = 'p' AND (c.relreplident = 'f' OR EXISTS (
               SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = c.oid
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
                 AND i.indisunique AND i.indisvalid AND i.indislive AND i.indimmediate AND i.indpred IS NULL
                 AND NOT EXISTS (
                     SELECT FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attgenerated <> ''
                       AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])))) AS identified,
           c.relreplident IN ('d', 'i')
               AND CASE WHEN n.nspname || '.' || c.relname = ANY (@inserts_tables@::text[]) THEN false
                        WHEN n.nspname || '.' || c.relname = ANY (@full_tables@::text[]) THEN true
                        ELSE @full@ END AS wants_full
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't';
REVOKE ALL ON @schema@.tables FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.identified(t oid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $salvor$
BEGIN
    RETURN coalesce((SELECT x.identified FROM @schema@.tables x WHERE x.id = t), false);
END
$salvor$;

-- Is it in the list @keys@? Under REPEATABLE READ an ordinary query may not see the present list.
CREATE OR REPLACE FUNCTION @schema@.listed(t oid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $salvor$
BEGIN
    IF current_setting('transaction_isolation') LIKE 'read %' THEN
        RETURN coalesce((SELECT x.listed FROM @schema@.tables x WHERE x.id = t), false);
    END IF;
    RETURN EXISTS (SELECT FROM pg_get_publication_tables('@keys@') g WHERE g.relid = t);
END
$salvor$;

-- Tables that a DROP INDEX CONCURRENTLY of their identity, by their owner, asks to leave the list (before_command).
CREATE OR REPLACE VIEW @schema@.asked_out AS
    SELECT DISTINCT c.oid AS id
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid JOIN pg_catalog.pg_class c ON c.oid = l.objid
    WHERE l.locktype = 'advisory' AND l.classid = 1935767655 AND l.granted AND c.relreplident = 'i'
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
      AND pg_catalog.pg_has_role(a.usesysid, c.relowner, 'USAGE');
REVOKE ALL ON @schema@.asked_out FROM PUBLIC;

-- Something was done of which neither the stream nor the catalogue may tell. The mark is there before the commit, so that no poll behind it misses it. (Not
-- nextval: the application's own lastval() would see it.)
CREATE OR REPLACE FUNCTION @schema@.mark() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1ms' SET jit = off
AS $salvor$
BEGIN
    FOR attempt IN 1..20 LOOP
        BEGIN
            PERFORM setval('@schema@.untold', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
            RETURN;
        EXCEPTION WHEN OTHERS OR query_canceled THEN -- a cancel; or a superuser alters the sequence itself
            NULL;
        END;
    END LOOP;
END
$salvor$;

-- One change of @keys@ or of an identity. All our own commands run here: the triggers know them by this function's name
-- on the call stack, where a person's text may have it too; so that excuses nothing but what only we, or a superuser, can do: what is done to @keys@, and
-- just the statement below. false: somebody else holds what it takes.
--   what   'join', 'leave', 'full', or 'given': the table, which has joined, is put down in the publication's comment, so
--          that teardown takes REPLICA IDENTITY FULL back. 'touch': somebody else's hand was at the list, and may take back what
--          it did before anybody looks: the publication's own row gets another xmin, which polls compare (pg_published)
CREATE OR REPLACE FUNCTION @schema@.change(t oid, what text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1ms' SET jit = off
AS $salvor$
DECLARE
    given text;
BEGIN
    IF what = 'full' THEN
        EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', t::regclass);
        RETURN true;
    END IF;
    IF NOT @schema@.free_to_change() THEN
        RETURN false;
    END IF;
    IF what = 'given' THEN
        SELECT coalesce(obj_description(oid, 'pg_publication'), '@given@') INTO given
        FROM pg_publication WHERE pubname = '@keys@';
        EXECUTE format('COMMENT ON PUBLICATION @keys@ IS %L', given || ' ' || t);
    ELSIF what = 'touch' THEN
        ALTER PUBLICATION @keys@ SET (publish = 'update, delete');
    ELSE
        EXECUTE format('ALTER PUBLICATION @keys@ %s TABLE ONLY %s',
                       CASE what WHEN 'join' THEN 'ADD' ELSE 'DROP' END, t::regclass);
    END IF;
    PERFORM set_config('@schema@.held', 'yes', true);
    RETURN true;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    RETURN false;
END
$salvor$;

-- May @keys@ be changed now? PostgreSQL locks a publication to the end of the transaction that altered it: who comes second
-- would wait for the whole migration of the first. Once in a transaction 40 ms are spent on it. (The two settings are only
-- memory; who forges them costs himself a failed try.)
CREATE OR REPLACE FUNCTION @schema@.free_to_change() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $salvor$
BEGIN
    IF current_setting('@schema@.held', true) = 'yes' THEN
        RETURN true;
    END IF;
    FOR attempt IN 1..20 LOOP
        IF NOT EXISTS (SELECT FROM pg_locks l
                       WHERE l.locktype = 'object' AND l.classid = 'pg_publication'::regclass
                         AND l.objid = (SELECT oid FROM pg_publication WHERE pubname = '@keys@')
                         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                         AND l.pid IS DISTINCT FROM pg_backend_pid()) THEN
            RETURN true;
        END IF;
        EXIT WHEN current_setting('@schema@.waited', true) = 'yes';
        PERFORM pg_sleep(0.002);
    END LOOP;
    PERFORM set_config('@schema@.waited', 'yes', true);
    RETURN false;
END
$salvor$;

-- Puts a table of the current command, which is locked by it, on the right side. Returns what a reader must know.
CREATE OR REPLACE FUNCTION @schema@.settle(t oid, made_here boolean) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $salvor$
DECLARE
    sees_present boolean := current_setting('transaction_isolation') LIKE 'read %' OR made_here;
    label text := t::regclass::text;
    given boolean := false;
    until timestamptz;
    x record;
BEGIN
    SELECT * INTO x FROM @schema@.tables v WHERE v.id = t;
    IF x.id IS NULL OR NOT EXISTS (SELECT FROM pg_publication WHERE pubname = '@keys@') THEN
        RETURN '';
    END IF;
    IF NOT sees_present THEN
        x.listed := @schema@.listed(t);
    END IF;
    IF x.listed AND NOT x.identified THEN
        -- One transaction can hold both ways out: the list, and by a GRANT the table's row in the catalogue. There is no third one, and the application's updates
        -- would fail from the commit on, so this is worth more time; once in a transaction, and without a lock to wait for.
        SELECT clock_timestamp() + least(10000, nullif(setting::integer / 2, 0)) * interval '1 millisecond' INTO until
        FROM pg_settings WHERE name = 'statement_timeout';
        LOOP
            IF x.wants_full AND @schema@.change(t, 'full') THEN
                PERFORM @schema@.change(t, 'given');
                RETURN format('full: %s; ', label);
            END IF;
            IF @schema@.change(t, 'leave') THEN
                RETURN format('unlisted: %s; ', label);
            END IF;
            IF @schema@.change(t, 'full') THEN
                RETURN format('full for want of a lock: %s; ', label);
            END IF;
            EXIT WHEN clock_timestamp() > until OR current_setting('@schema@.waited_long', true) = 'yes';
            PERFORM pg_sleep(0.02);
        END LOOP;
        PERFORM set_config('@schema@.waited_long', 'yes', true);
        RETURN format('failed to unlist: %s; ', label);
    END IF;
    IF x.unlogged THEN
        RETURN format('unlogged: %s; ', label);
    END IF;
    IF x.listed OR NOT x.cared_for THEN
        RETURN '';
    END IF;
    IF NOT x.identified AND x.wants_full THEN
        given := @schema@.change(t, 'full');
        x.identified := given;
    END IF;
    IF NOT x.identified THEN
        RETURN '';
    END IF;
    IF NOT (sees_present OR given OR pg_get_replica_identity_index(t) IS NOT NULL) OR NOT @schema@.change(t, 'join') THEN
        RETURN format('not listed yet: %s; ', label);
    END IF;
    IF given THEN
        PERFORM @schema@.change(t, 'given');
    END IF;
    RETURN format('listed: %s; ', label);
END
$salvor$;

-- Under REPEATABLE READ queries see the past: a row of the catalogue that another transaction replaced since, and beside it what this one made of the replacement.
-- The newest is the one. What identifies the rows of a table:
CREATE OR REPLACE FUNCTION @schema@.identity_index(t oid, identity "char") RETURNS SETOF pg_catalog.pg_index
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $salvor$
    SELECT x.* FROM (SELECT DISTINCT ON (i.indexrelid) i.* FROM pg_index i WHERE i.indrelid = t ORDER BY i.indexrelid, age(i.xmin)) x
    WHERE x.indislive AND x.indisvalid AND x.indisunique AND x.indimmediate AND x.indpred IS NULL
      AND CASE identity WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END
$salvor$;

-- The tables that take part in what is done to one: partitions, inheritors, and those that are made of a type.
CREATE OR REPLACE FUNCTION @schema@.heirs(t oid) RETURNS SETOF oid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $salvor$
    SELECT h.inhrelid FROM pg_inherits h WHERE h.inhparent = t
    UNION ALL
    SELECT k.oid FROM pg_class y, pg_class k WHERE y.oid = t AND y.relkind = 'c' AND k.reloftype = y.reltype AND k.reloftype <> 0
$salvor$;

-- What this session has locked. A command that leaves heirs as they are does not lock them, and another transaction, which may end before this one, can have them in hand: a state
-- told now would be from before that, and stand behind it in the stream.
CREATE OR REPLACE FUNCTION @schema@.locked() RETURNS oid[]
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $salvor$
    SELECT ARRAY(SELECT DISTINCT l.relation FROM pg_locks l WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND l.granted
                 AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
$salvor$;

-- What another transaction changed of these tables, and this one's queries cannot see. Functions that look at the present tell of it: the file, the identity, the columns
-- by their numbers, the partitions that the command has locked. (A change of anything else leaves a state that agrees with no row that is written later.) Other heirs no function
-- tells of.
CREATE OR REPLACE FUNCTION @schema@.hidden(ids oid[], altered oid[], locked oid[]) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1ms' SET jit = off
AS $salvor$
BEGIN
    IF current_setting('transaction_isolation') LIKE 'read %' THEN
        RETURN '';
    END IF;
    RETURN (SELECT coalesce('hidden by the transaction''s isolation level: another one may have changed ' || string_agg(t::regclass::text, ', ') || '; ', '')
            FROM (SELECT unnest(ids) UNION SELECT h.relid FROM unnest(altered) p, pg_partition_tree(p) h
                  WHERE h.isleaf AND h.relid = ANY (locked) AND NOT EXISTS (SELECT FROM pg_class k WHERE k.oid = h.relid AND k.relkind <> 'r')
                  UNION SELECT k.oid FROM pg_class k WHERE k.oid = ANY (altered) AND k.relkind = 'c') u (t)
            LEFT JOIN LATERAL (SELECT k.* FROM pg_class k WHERE k.oid = t ORDER BY age(k.xmin) LIMIT 1) x ON true
            WHERE x.oid IS NULL OR NOT t = ANY (ids) OR (x.relhassubclass AND t = ANY (altered)) OR x.relfilenode <> pg_relation_filenode(t)
               OR pg_get_replica_identity_index(t) IS DISTINCT FROM (SELECT i.indexrelid::regclass FROM @schema@.identity_index(t, x.relreplident) i)
               OR EXISTS (SELECT FROM generate_series(1, x.relnatts + 1) number
                          WHERE (SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t AND a.attnum = number ORDER BY age(a.xmin) LIMIT 1)
                                IS DISTINCT FROM (pg_identify_object_as_address('pg_class'::regclass, t, number)).object_names[3]));
EXCEPTION WHEN OTHERS THEN
    RETURN 'hidden by the transaction''s isolation level, perhaps: ' || SQLERRM || '; ';
END
$salvor$;

-- What the command left behind of the tables and enums that it touched: what their rows are made of, in the words of pg_layout.c. Never the
-- command's text: what a recovery goes by is the state (docs/formats/events.md, "The record of a schema change").
CREATE OR REPLACE FUNCTION @schema@.state_of(ids oid[], made oid[], enums oid[], code boolean) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $salvor$
BEGIN
    RETURN json_build_object('version', 1, 'code', code,
        'others', EXISTS (SELECT FROM pg_event_trigger e WHERE e.evtenabled <> 'D' -- they run by name
                          AND (e.evtevent = 'sql_drop' AND e.evtname <> '@trigger_drop@' OR e.evtevent = 'ddl_command_end' AND e.evtname < '@trigger_ddl@')),
        'enums', (SELECT coalesce(json_object_agg(e.oid, e.enumlabel), '{}') FROM pg_enum e WHERE e.enumtypid = ANY (enums)),
        'tables', (SELECT coalesce(json_agg(json_build_object(
            'id', c.oid::int8, 'made', c.oid = ANY (made), 'permanent', c.relpersistence = 'p', 'file', c.relfilenode::int8,
            'columns_made', c.relnatts, 'identity', c.relreplident,
            'changed', CASE WHEN current_setting('track_counts')::boolean
                            THEN pg_stat_get_xact_tuples_updated(c.oid) + pg_stat_get_xact_tuples_deleted(c.oid) END,
            'keys', (SELECT to_json((x.indkey::int2[])[0:x.indnkeyatts - 1]) FROM @schema@.identity_index(c.oid, c.relreplident) x),
            'columns', (SELECT coalesce(json_agg(json_build_array(a.attnum, a.attname, a.atttypid::int8, a.atttypmod) ORDER BY a.attnum), '[]')
                        FROM (SELECT DISTINCT ON (y.attnum) y.* FROM pg_attribute y WHERE y.attrelid = c.oid AND y.attnum > 0
                              ORDER BY y.attnum, age(y.xmin)) a WHERE NOT a.attisdropped AND a.attgenerated = '')
            ) ORDER BY c.oid), '[]')
            FROM (SELECT DISTINCT ON (k.oid) k.* FROM pg_class k WHERE k.oid = ANY (ids) AND k.relkind = 'r' ORDER BY k.oid, age(k.xmin)) c))::text;
END
$salvor$;

-- Tells the stream. Not where another publication for all tables would carry the row to subscribers that lack the table:
-- there the polled fingerprint of the catalogue has to do. The row is found by its place, because a scan of the table
-- would be a conflict between serializable transactions.
DROP FUNCTION IF EXISTS @schema@.note(text, text, text); -- of an older setup
CREATE OR REPLACE FUNCTION @schema@.note(tag text, object text, detail text, state text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1ms' SET enable_tidscan = on SET enable_seqscan = off SET jit = off
AS $salvor$
DECLARE
    place tid;
BEGIN
    IF EXISTS (SELECT FROM pg_publication WHERE puballtables AND pubinsert AND pubname !~ '^salvor_[a-z0-9_]+_rows$') THEN
        RETURN;
    END IF;
    FOR attempt IN 1..20 LOOP
        BEGIN
            INSERT INTO @schema@.ddl AS d VALUES ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, clock_timestamp(),
                tag, left(object, 1000), left(detail, 4000), CASE WHEN octet_length(state) <= 8388608 THEN state ELSE '' END) RETURNING d.ctid INTO place;
            DELETE FROM @schema@.ddl AS d WHERE d.ctid = place;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN -- somebody else makes the table longer at this moment, or holds it
            IF attempt = 20 THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END
$salvor$;

-- A change of which no more can be told than that it was. Where not even that can be, it is marked: a poll might see no difference (a rewrite that keeps the
-- type), or take it for the work of a command that is recorded beside it.
CREATE OR REPLACE FUNCTION @schema@.note_failed(tag text, why text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $salvor$
BEGIN
    PERFORM @schema@.note(tag, '', 'failed: ' || why, '');
EXCEPTION WHEN OTHERS THEN
    PERFORM @schema@.mark();
END
$salvor$;

-- ddl_command_end: what was made or altered. Commands that only touch temporary or our own objects are nobody's business. (A
-- row that is written between the drop of a publication and its making anew would stop the stream for good.)
-- A cancel or a statement's time-out that falls into our time does not count: the work is begun again, and the
-- application's command, which is done, succeeds.
CREATE OR REPLACE FUNCTION @schema@.after_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = error SET quote_all_identifiers = off SET lc_messages = 'C' SET jit = off
AS $salvor$
DECLARE
    stack text;
    lasting bigint;
    objects text;
    detail text;
    hidden text;
    ids oid[];
    made oid[];
    locked oid[];
    r record;
BEGIN
    FOR attempt IN 1..3 LOOP
    BEGIN
        GET DIAGNOSTICS stack = PG_CONTEXT;
        IF TG_TAG = 'REFRESH MATERIALIZED VIEW' THEN
            RETURN;
        END IF;
        IF TG_TAG = 'ALTER PUBLICATION' AND position('@schema@.change(' IN stack) = 0 AND EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c
                                                    WHERE c.object_identity LIKE '% in publication @keys@') THEN
            IF NOT @schema@.change(0, 'touch') THEN
                PERFORM @schema@.mark();
            END IF;
        END IF;
        SELECT count(*), string_agg(DISTINCT c.object_type || ' ' || c.object_identity, ', ') INTO lasting, objects
        FROM pg_event_trigger_ddl_commands() c
        WHERE c.schema_name IS DISTINCT FROM 'pg_temp' AND c.schema_name IS DISTINCT FROM '@schema@'
          AND NOT (c.object_type = 'publication' AND c.object_identity IN ('@rows@', '@keys@'))
          AND NOT (c.object_type = 'publication relation' AND c.object_identity LIKE '% in publication @keys@')
          AND NOT (c.object_type = 'schema' AND c.object_identity = '@schema@');
        IF lasting = 0 AND TG_TAG NOT IN ('REASSIGN OWNED', 'DROP OWNED') THEN -- these name nothing that they alter
            RETURN;
        END IF;
        -- An identity that change() gives. All of the statement is looked at: a part of it could as well be a comment in somebody's own.
        IF TG_TAG = 'ALTER TABLE' AND position('@schema@.change(' IN stack) > 0 AND (
               SELECT count(*) = 1 AND bool_and(position(concat(chr(10), 'SQL statement "ALTER TABLE ONLY ', c.objid::regclass, ' REPLICA IDENTITY FULL"', chr(10),
                                                                'PL/pgSQL function @schema@.change(') IN stack) = position(chr(10) IN stack))
               FROM pg_event_trigger_ddl_commands() c) THEN
            RETURN;
        END IF;
        detail := '';
        ids := '{}';
        made := '{}';
        locked := '{}';
        IF current_setting('transaction_isolation') NOT LIKE 'read %'
           OR EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c, @schema@.heirs(c.objid) WHERE c.classid = 'pg_class'::regclass) THEN
            locked := @schema@.locked();
        END IF;
        FOR r IN
            WITH RECURSIVE touched (id, made, heir) AS (
                SELECT c.objid, c.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO'), false
                FROM pg_event_trigger_ddl_commands() c
                WHERE c.classid = 'pg_class'::regclass AND c.schema_name IS DISTINCT FROM 'pg_temp'
                UNION
                SELECT h, false, true FROM touched t, @schema@.heirs(t.id) h
            )
            SELECT t.id, bool_or(t.made) AS made
            FROM (SELECT h.id, h.made FROM touched h WHERE NOT h.heir OR h.id = ANY (locked)
                  UNION ALL
                  SELECT l.relation, false FROM pg_locks l
                  WHERE current_setting('@schema@.left', true) <> '' AND l.pid = pg_backend_pid() AND l.granted
                    AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                    AND l.relation::text = ANY (string_to_array(current_setting('@schema@.left', true), ' '))) t
            JOIN pg_class k ON k.oid = t.id AND k.relkind = 'r' GROUP BY t.id
        LOOP
            detail := detail || @schema@.settle(r.id, r.made);
            ids := ids || r.id;
            made := made || CASE WHEN r.made THEN ARRAY[r.id] ELSE '{}' END;
        END LOOP;
        IF current_setting('@schema@.left', true) <> '' THEN
            PERFORM set_config('@schema@.left', '', true);
        END IF;
        BEGIN -- what cannot be told must not undo what was settled (a cancel is no such thing: all is begun again)
            hidden := @schema@.hidden(ids, ARRAY(SELECT c.objid FROM pg_event_trigger_ddl_commands() c WHERE c.classid = 'pg_class'::regclass
                                                 AND c.object_type LIKE ANY ('{%table,%type}')), locked);
            PERFORM @schema@.note(TG_TAG, coalesce(objects, ''), detail || hidden, CASE hidden WHEN '' THEN @schema@.state_of(ids, made,
                ARRAY(SELECT c.objid FROM pg_event_trigger_ddl_commands() c WHERE c.classid = 'pg_type'::regclass),
                EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c JOIN pg_type t ON c.objid IN (t.typinput::oid, t.typoutput::oid)
                        WHERE c.classid = 'pg_proc'::regclass)) ELSE '' END);
        EXCEPTION WHEN OTHERS THEN
            PERFORM @schema@.note_failed(TG_TAG, SQLERRM);
        END;
        RETURN;
    EXCEPTION
        WHEN query_canceled THEN
            CONTINUE;
        WHEN OTHERS THEN
            BEGIN
                PERFORM @schema@.note_failed(TG_TAG, SQLERRM);
                RETURN;
            EXCEPTION WHEN OTHERS OR query_canceled THEN
                EXIT;
            END;
    END;
    END LOOP;
    BEGIN -- cancelled each time
        PERFORM @schema@.mark();
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        NULL; -- a teardown took the schema from under us
    END;
END
$salvor$;

-- sql_drop: a dropped key, column, type ... may have taken a table's identity. Constraints and columns name their table; an
-- index does not, so all tables are looked at that this transaction has locked.
CREATE OR REPLACE FUNCTION @schema@.after_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = error SET quote_all_identifiers = off SET jit = off
AS $salvor$
DECLARE
    stack text;
    lasting bigint;
    objects text;
    detail text;
    hidden text;
    ids oid[];
    r record;
BEGIN
    FOR attempt IN 1..3 LOOP
    BEGIN
        GET DIAGNOSTICS stack = PG_CONTEXT;
        IF TG_TAG = 'ALTER PUBLICATION' AND position('@schema@.change(' IN stack) = 0 AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
                                                    WHERE d.object_identity LIKE '% in publication @keys@') THEN
            IF NOT @schema@.change(0, 'touch') THEN
                PERFORM @schema@.mark();
            END IF;
        END IF;
        SELECT count(*), string_agg(d.object_type || ' ' || d.object_identity, ', ') INTO lasting, objects
        FROM pg_event_trigger_dropped_objects() d
        WHERE d.original AND NOT d.is_temporary AND d.schema_name IS DISTINCT FROM '@schema@'
          AND NOT (d.object_type = 'publication' AND d.object_identity IN ('@rows@', '@keys@'))
          AND NOT (d.object_type = 'publication relation' AND d.object_identity LIKE '% in publication @keys@');
        IF lasting = 0 THEN
            RETURN;
        END IF;
        detail := '';
        ids := '{}';
        FOR r IN
            WITH dropped AS (SELECT * FROM pg_event_trigger_dropped_objects()),
            touched (id) AS (
                SELECT d.objid FROM dropped d WHERE d.object_type = 'table column'
                UNION
                SELECT to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) FROM dropped d
                WHERE d.object_type = 'table constraint'
                UNION
                SELECT l.relation FROM pg_locks l
                WHERE TG_TAG NOT IN ('DROP TABLE', 'ALTER TABLE') AND EXISTS (SELECT FROM dropped d WHERE d.object_type = 'index')
                  AND l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
                  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                                 'AccessExclusiveLock')
            )
            SELECT x.id FROM touched t JOIN @schema@.tables x ON x.id = t.id
        LOOP
            detail := detail || @schema@.settle(r.id, false);
            ids := ids || r.id;
        END LOOP;
        BEGIN -- as in after_ddl
            IF TG_TAG LIKE 'DROP %' OR detail <> '' THEN
                hidden := @schema@.hidden(ids, '{}', '{}');
                PERFORM @schema@.note(TG_TAG, coalesce(objects, ''), detail || hidden,
                                      CASE hidden WHEN '' THEN @schema@.state_of(ids, '{}', '{}', false) ELSE '' END);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            PERFORM @schema@.note_failed(TG_TAG, SQLERRM);
        END;
        RETURN;
    EXCEPTION
        WHEN query_canceled THEN
            CONTINUE;
        WHEN OTHERS THEN
            BEGIN
                PERFORM @schema@.note_failed(TG_TAG, SQLERRM);
                RETURN;
            EXCEPTION WHEN OTHERS OR query_canceled THEN
                EXIT;
            END;
    END;
    END LOOP;
    BEGIN -- cancelled each time
        PERFORM @schema@.mark();
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        NULL; -- a teardown took the schema from under us
    END;
END
$salvor$;

-- The names that stand behind certain words of a text of commands, without comments: (schema or NULL, name). No backslashes
-- here: the application's standard_conforming_strings holds for this text.
CREATE OR REPLACE FUNCTION @schema@.names_behind(words text, command text) RETURNS TABLE (space text, name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $salvor$
    SELECT CASE cardinality(n.parts) WHEN 1 THEN NULL ELSE n.parts[cardinality(n.parts) - 1] END, n.parts[cardinality(n.parts)]
    FROM (SELECT '(?:"(?:[^"]|"")+"|(?:_|[^[:space:][:punct:][:digit:]])(?:[_$]|[^[:space:][:punct:]])*)' AS one) w
    CROSS JOIN LATERAL regexp_matches(
        regexp_replace(regexp_replace(words, '/[*].*?[*]/', ' ', 'g'), '--[^' || chr(10) || ']*', ' ', 'g'),
        concat(replace(command, ' ', '[[:space:]]+'), '[[:space:]]+(?:if[[:space:]]+exists[[:space:]]+)?(?:only[[:space:]]+)?',
               '((?:', w.one, '[[:space:]]*[.][[:space:]]*)*', w.one, ')'),
        'gi') m
    CROSS JOIN LATERAL (SELECT parse_ident(m[1], false) AS parts) n
$salvor$;

-- ddl_command_start of two commands for which the end is too late. The command's own words are the only thing there is to know
-- its table by.
--   ALTER TABLE ... SET UNLOGGED is an error for a listed table, so it leaves the list before. What is not unlogged in the end
--   (the words of one message may be several commands) comes back at the command's end: its oid waits in a setting.
--   DROP INDEX CONCURRENTLY of an identity index commits the loss of identity before its end, and must be the first of its
--   transaction to write. So another session has to unlist the table first: an advisory lock asks the poll of a running
--   Salvor for it, for at most 10 s.
CREATE OR REPLACE FUNCTION @schema@.before_command() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = error SET quote_all_identifiers = off SET jit = off
AS $salvor$
DECLARE
    words text := current_query();
    stack text;
    who text := CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END;
    until timestamptz;
    r record;
BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF position('@schema@.change(' IN stack) > 0 THEN
        RETURN;
    END IF;
    -- Of a function in SQL the stack has the name, and not the statement.
    words := concat(words, ' ', stack, ' ', (SELECT string_agg(p.prosrc, ' ') FROM regexp_matches(stack, 'SQL function "(.*?)" statement [0-9]', 'g') m
                                             JOIN pg_proc p ON p.proname = m[1] JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'sql'));
    IF position(CASE TG_TAG WHEN 'ALTER TABLE' THEN 'unlogged' ELSE 'concurrently' END IN lower(words)) = 0 THEN
        RETURN;
    END IF;
    -- A cancel that comes while we wait is meant for the command, which has not begun; its time-out must leave it some time.
    SELECT clock_timestamp() + least(10000, nullif(setting::integer / 2, 0)) * interval '1 millisecond' INTO until
    FROM pg_settings WHERE name = 'statement_timeout';
    FOR r IN
        SELECT c.oid AS id
        FROM pg_get_publication_tables('@keys@') g JOIN pg_class c ON c.oid = g.relid
        JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE pg_has_role(who, c.relowner, 'USAGE')
          AND CASE TG_TAG WHEN 'ALTER TABLE' THEN EXISTS (
                  SELECT FROM @schema@.names_behind(words, 'alter table') b
                  WHERE b.name = c.relname AND coalesce(b.space = s.nspname, true))
              ELSE c.relreplident = 'i' AND EXISTS (
                  SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                  JOIN @schema@.names_behind(words, 'drop index concurrently') b
                      ON b.name = x.relname AND coalesce(b.space = s.nspname, true)
                  WHERE i.indrelid = c.oid AND i.indisreplident
                    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)) END
    LOOP
        IF TG_TAG = 'ALTER TABLE' THEN
            -- There is no way around the list here, so it is worth more time, most of it before the table is locked.
            WHILE clock_timestamp() < until AND NOT @schema@.free_to_change() LOOP
                PERFORM pg_sleep(0.05);
            END LOOP;
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', r.id::regclass);
            PERFORM set_config('@schema@.left', concat(current_setting('@schema@.left', true), ' ', r.id), true);
            FOR attempt IN 1..100 LOOP
                EXIT WHEN @schema@.change(r.id, 'leave') OR NOT @schema@.listed(r.id) OR clock_timestamp() > until;
                PERFORM pg_sleep(0.02);
            END LOOP;
            CONTINUE;
        END IF;
        PERFORM pg_try_advisory_xact_lock_shared(1935767655,
            (CASE WHEN r.id::bigint > 2147483647 THEN r.id::bigint - 4294967296 ELSE r.id::bigint END)::integer);
        WHILE clock_timestamp() < until AND @schema@.listed(r.id)
            AND EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '@slot@' AND database = current_database() AND active) LOOP
            PERFORM pg_sleep(0.05);
        END LOOP;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$salvor$;

-- Everything that is on the wrong side, for setup and for the poll of the source's own role. Each table is looked at under a
-- lock that keeps its identity as it is.
--   one       a table's oid; 0: all that can be locked at once, at most 200
--   wait_ms   with a single table: how long for its lock. Several are never waited for, or a deadlock could take an application's
--             statement. (An identity is given under ACCESS EXCLUSIVE, where readers queue up behind us: at most 200 ms.)
CREATE OR REPLACE FUNCTION @schema@.sweep(one oid, wait_ms integer)
RETURNS TABLE (relation oid, name text, outcome text, done boolean)
LANGUAGE plpgsql SECURITY DEFINER VOLATILE
SET search_path = pg_catalog, pg_temp SET client_min_messages = error SET quote_all_identifiers = off SET jit = off
AS $salvor$
DECLARE
    r record;
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
        RAISE EXCEPTION 'sweep needs READ COMMITTED';
    END IF;
    FOR r IN
        SELECT x.id, x.name AS label, x.listed, x.identified, x.wants_full AND NOT x.identified AS full_wanted,
               a.id IS NOT NULL AS asked_out
        FROM @schema@.tables x LEFT JOIN @schema@.asked_out a ON a.id = x.id
        WHERE (one = 0 OR x.id = one) AND (x.listed OR x.cared_for)
          AND (x.listed <> (x.identified AND a.id IS NULL) OR (x.wants_full AND NOT x.identified AND x.cared_for))
        ORDER BY x.listed DESC, x.id
        LIMIT 200
    LOOP
        relation := r.id;
        name := r.label;
        done := false;
        BEGIN
            PERFORM set_config('lock_timeout', greatest(1, least(wait_ms, CASE WHEN r.full_wanted THEN 200 ELSE 5000 END)) || 'ms',
                               true);
            EXECUTE format('LOCK TABLE ONLY %s IN %s MODE %s', r.id::regclass,
                           CASE WHEN r.full_wanted THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE UPDATE EXCLUSIVE' END,
                           CASE WHEN one = 0 THEN 'NOWAIT' ELSE '' END);
            outcome := 'right';
            done := true;
            IF r.full_wanted AND NOT @schema@.identified(r.id) THEN
                outcome := 'full';
                done := @schema@.change(r.id, 'full');
            END IF;
            IF @schema@.listed(r.id) AND (r.asked_out OR NOT @schema@.identified(r.id)) THEN
                outcome := 'unlisted';
                done := @schema@.change(r.id, 'leave');
            ELSIF NOT @schema@.listed(r.id) AND @schema@.identified(r.id) THEN
                outcome := CASE outcome WHEN 'full' THEN 'full' ELSE 'listed' END;
                done := @schema@.change(r.id, 'join');
            END IF;
            IF outcome = 'full' AND done THEN
                done := @schema@.change(r.id, 'given');
            END IF;
            IF NOT done THEN
                outcome := 'the publication @keys@ is held by another transaction';
            END IF;
        EXCEPTION WHEN OTHERS THEN
            outcome := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END
$salvor$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA @schema@ FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @schema@.sweep(oid, integer) TO @role@;

-- Left as they are where they are right: who touches them may have kept a command from being recorded, and a running capture takes it so.
DO $salvor$ BEGIN
    IF (SELECT count(*) FROM pg_catalog.pg_event_trigger e
        WHERE e.evtenabled = 'A' AND (e.evtname, e.evtevent, e.evtfoid::oid, coalesce(e.evttags, '{}')) IN (
            ('@trigger_start@', 'ddl_command_start', '@schema@.before_command'::pg_catalog.regproc::oid, '{"ALTER TABLE","DROP INDEX"}'::text[]),
            ('@trigger_ddl@', 'ddl_command_end', '@schema@.after_ddl'::pg_catalog.regproc::oid, '{}'),
            ('@trigger_drop@', 'sql_drop', '@schema@.after_drop'::pg_catalog.regproc::oid, '{}'))) = 3 THEN
        RETURN;
    END IF;
    DROP EVENT TRIGGER IF EXISTS @trigger_start@;
    DROP EVENT TRIGGER IF EXISTS @trigger_ddl@;
    DROP EVENT TRIGGER IF EXISTS @trigger_drop@;
    CREATE EVENT TRIGGER @trigger_start@ ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'DROP INDEX')
        EXECUTE FUNCTION @schema@.before_command();
    CREATE EVENT TRIGGER @trigger_ddl@ ON ddl_command_end EXECUTE FUNCTION @schema@.after_ddl();
    CREATE EVENT TRIGGER @trigger_drop@ ON sql_drop EXECUTE FUNCTION @schema@.after_drop();
    ALTER EVENT TRIGGER @trigger_start@ ENABLE ALWAYS;
    ALTER EVENT TRIGGER @trigger_ddl@ ENABLE ALWAYS;
    ALTER EVENT TRIGGER @trigger_drop@ ENABLE ALWAYS;
END $salvor$;
