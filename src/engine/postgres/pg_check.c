/*
 * engine/postgres/pg_check.c - preflight: can this source be protected, what would be missed, which statement mends it.
 *
 * The server is asked by a plain session and by one for replication; nothing is written. Each finding stands for
 * itself: what refuses is what would break a promise, what warns is what a person must know or choose. A list of tables
 * that all lack the same thing is cut after TABLES_SHOWN, with the number of the rest.
 */
#include "engine/postgres/pg_protect_internal.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#define VERSION_MIN        150000
#define VERSION_TESTED_MAX 159999
#define TABLES_SHOWN       50
#define CLOCK_SKEW_US      (5 * CLOCK_US_PER_S)
#define QUERY_BYTES_MAX    ((size_t)64 << 10)

struct check {
    const struct pg_protect_config *config;
    struct pg_names names;
    struct pg_conn sql;
    struct protect_state state;
    struct pg_findings *out;
};

#define ADD(c_, severity_, code_, object_, mend_, ...)                                                                 \
    findings_add((c_)->out, PG_FINDING_##severity_, code_, object_, mend_, __VA_ARGS__)

static void check_release(struct check *c)
{
    pg_close(&c->sql);
}

static char *quoted(const char *name)
{
    CLEANUP(buf_release) struct buf b = BUF_INIT(QUERY_BYTES_MAX);

    pg_quote_ident(&b, name);
    return mem_strdup(buf_cstr(&b));
}

/* --- the server -------------------------------------------------------------------------------------------------- */

enum server_column {
    SERVER_RECOVERY,
    SERVER_WAL_LEVEL,
    SERVER_SLOTS,
    SERVER_SLOTS_USED,
    SERVER_SENDERS,
    SERVER_SENDERS_USED,
    SERVER_TRACK_COUNTS,
    SERVER_ENCODING,
    SERVER_NOW_US,
    SERVER_BACKEND,
    SERVER_PINNED,
    SERVER_OPEN,
};

static const char server_query[] =
    "SELECT pg_is_in_recovery(), current_setting('wal_level'), current_setting('max_replication_slots')::int,"
    " (SELECT count(*) FROM pg_replication_slots), current_setting('max_wal_senders')::int,"
    " (SELECT count(*) FROM pg_stat_get_wal_senders()), current_setting('track_counts'),"
    " current_setting('server_encoding'), (extract(epoch FROM clock_timestamp()) * 1000000)::int8, pg_backend_pid(),"
    " current_setting('search_path') = 'pg_catalog' AND current_setting('row_security') = 'off',"
    " (SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start < now() - interval '1 "
    "minute')"
    " + (SELECT count(*) FROM pg_prepared_xacts)";

static int64_t number_at(const PGresult *r, int column)
{
    uint64_t v = 0;

    return text_parse_u64(slice_str(PQgetvalue(r, 0, column)), 0, INT64_MAX, &v, NULL) < 0 ? 0 : (int64_t)v;
}

/* Until these releases (of May 2025) a transaction that was open when a table was listed went on leaving its rows out. */
static bool may_leave_out_rows(int version)
{
    static const int first_good[] = {150013, 160009, 170005};

    for (size_t i = 0; i < sizeof first_good / sizeof *first_good; i++)
        if (version / 10000 == first_good[i] / 10000)
            return version < first_good[i];
    return false;
}

void findings_add_version(struct pg_findings *f, int v)
{
    if (v < VERSION_MIN) {
        findings_add(f, PG_FINDING_REFUSE, "server_version", NULL, "upgrade the server to PostgreSQL 15",
                     "the server is PostgreSQL %d.%d: publications that Salvor needs exist from 15 on", v / 10000, v % 10000);
        return;
    }
    if (v > VERSION_TESTED_MAX)
        findings_add(f, PG_FINDING_WARN, "server_version", NULL, NULL, "the server is PostgreSQL %d.%d: Salvor is tested with 15", v / 10000, v % 10000);
    else if (!may_leave_out_rows(v))
        findings_add(f, PG_FINDING_OK, "server_version", NULL, NULL, "PostgreSQL %d.%d", v / 10000, v % 10000);
    if (may_leave_out_rows(v))
        findings_add(f, PG_FINDING_WARN, "server_release", NULL, "bring the server to the newest minor release (at least 15.13, 16.9, 17.5)",
                     "the server is PostgreSQL %d.%d, and may leave rows of a table that came to be published while transactions were open out of what it sends, also after that",
                     v / 10000, v % 10000);
}

static void check_pooler(struct check *c, const PGresult *r)
{
    if (number_at(r, SERVER_BACKEND) == PQbackendPID(c->sql.pq) && PQgetvalue(r, 0, SERVER_PINNED)[0] == 't')
        return;
    ADD(c, REFUSE, "pooler", "conninfo", "name host and port of the server itself",
        "a connection pooler stands between (%s): replication and settings of a session do not pass it",
        PQgetvalue(r, 0, SERVER_PINNED)[0] == 't' ? "the process that answers is not the one that was connected to"
                                                  : "the settings of the session do not reach the server");
}

static void check_wal_level(struct check *c, const PGresult *r)
{
    if (PQgetvalue(r, 0, SERVER_RECOVERY)[0] == 't')
        ADD(c, REFUSE, "standby", NULL, "name the primary in the conninfo",
            "the server is a standby: publications and slots of the source are made on its primary");
    if (strcmp(PQgetvalue(r, 0, SERVER_WAL_LEVEL), "logical") == 0)
        ADD(c, OK, "wal_level", NULL, NULL, "wal_level is logical");
    else
        ADD(c, REFUSE, "wal_level", "wal_level", "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
            "wal_level is %s: the server's log does not hold row changes in a form that can be read",
            PQgetvalue(r, 0, SERVER_WAL_LEVEL));
}

/* One for capture; a second one, for a while, for each snapshot. */
static void check_places(struct check *c, const char *setting, const char *what, int64_t max, int64_t used,
                         bool have_one)
{
    CLEANUP(mem_free_ptr)
    char *mend = mem_printf("ALTER SYSTEM SET %s = %lld; then restart the server", setting, (long long)(used + 5));
    int64_t left = max - used + (have_one ? 1 : 0);

    if (left < 1)
        ADD(c, REFUSE, setting, setting, mend, "all %lld %s are in use", (long long)max, what);
    else if (left < 2)
        ADD(c, WARN, setting, setting, mend, "only one of %lld %s is left: a snapshot needs a second one for a while",
            (long long)max, what);
}

static void check_session_facts(struct check *c, const PGresult *r)
{
    int64_t skew_us = number_at(r, SERVER_NOW_US) - clock_wall_us();
    char text[CLOCK_TEXT_BYTES];

    if (skew_us > CLOCK_SKEW_US || skew_us < -CLOCK_SKEW_US)
        ADD(c, WARN, "clock", NULL, "synchronise the clocks of both hosts",
            "the server's clock is %s %s of this host's: exposure is measured between the two",
            clock_format_duration(skew_us < 0 ? -skew_us : skew_us, text), skew_us < 0 ? "behind" : "ahead");
    if (strcmp(PQgetvalue(r, 0, SERVER_TRACK_COUNTS), "on") != 0)
        ADD(c, WARN, "track_counts", "track_counts", "ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf()",
            "the server counts no changes: a table without identity is inexact from one snapshot to the next, whether it is changed or not");
    if (strcmp(PQgetvalue(r, 0, SERVER_ENCODING), "SQL_ASCII") == 0)
        ADD(c, WARN, "encoding", NULL, NULL,
            "the database is SQL_ASCII: bytes are kept as they are, but nobody knows in which encoding they are");
    if (number_at(r, SERVER_OPEN) > 0)
        ADD(c, WARN, "open_transactions", NULL,
            "SELECT pid, usename, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL",
            "%lld transactions that have written are open for more than a minute or prepared: setup and snapshots wait "
            "for them",
            (long long)number_at(r, SERVER_OPEN));
}

static void check_slot_limit(struct check *c, const struct pg_slot *slot)
{
    static const char mend[] = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf()";
    char size[TEXT_SIZE_BYTES];

    if (slot->limit_bytes != UINT64_MAX)
        ADD(c, OK, "slot_limit", NULL, NULL, "the server keeps at most %s of log for a slot",
            text_format_size(slot->limit_bytes, size));
    else if (c->config->slot_wal_unbounded)
        ADD(c, WARN, "slot_limit", "max_slot_wal_keep_size", mend,
            "the server keeps log for a slot without a limit, which slot_wal_unbounded allows: while Salvor is away, "
            "its disk fills");
    else
        ADD(c, REFUSE, "slot_limit", "max_slot_wal_keep_size", mend,
            "the server keeps log for a slot without a limit: while Salvor is away its disk could fill, and the source "
            "would stop; "
            "or set slot_wal_unbounded = yes");
}

static void check_slot(struct check *c, const struct pg_slot *slot)
{
    if (!slot->exists)
        ADD(c, OK, "slot", c->names.slot, NULL, "not made yet: `salvor setup %s` makes it", c->config->source);
    else if (strcmp(slot->plugin, "pgoutput") != 0 || strcmp(slot->database, PQdb(c->sql.pq)) != 0)
        ADD(c, REFUSE, "slot", c->names.slot, "drop that slot, or give the source another name",
            "a slot of this name belongs to something else (plugin %s, database %s)", slot->plugin, slot->database);
    else if (slot->invalidated)
        ADD(c, WARN, "slot", c->names.slot, "run `salvor setup` again",
            "the server has thrown away log that the slot needed: changes are missing, and a new snapshot is needed");
    else
        ADD(c, OK, "slot", c->names.slot, NULL, "is there");
}

static int check_server(struct check *c, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;
    struct pg_slot slot;

    findings_add_version(c->out, c->sql.server_version);
    TRY(pg_query(&c->sql, server_query, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    TRY(pg_slot_get(&c->sql, c->names.slot, &slot, err));
    check_pooler(c, r);
    check_wal_level(c, r);
    check_places(c, "max_replication_slots", "replication slots", number_at(r, SERVER_SLOTS),
                 number_at(r, SERVER_SLOTS_USED), slot.exists);
    check_places(c, "max_wal_senders", "WAL senders", number_at(r, SERVER_SENDERS), number_at(r, SERVER_SENDERS_USED),
                 slot.active);
    check_slot_limit(c, &slot);
    check_slot(c, &slot);
    check_session_facts(c, r);
    return 0;
}

/* --- the role ---------------------------------------------------------------------------------------------------- */

/* The attribute, and whether pg_hba.conf and everything between lets a replication session through. */
static int check_replication(struct check *c, struct error *err)
{
    CLEANUP(pg_close) struct pg_conn replication = {0};
    CLEANUP(mem_free_ptr) char *role = quoted(c->state.role);
    CLEANUP(mem_free_ptr) char *mend = mem_printf("ALTER ROLE %s REPLICATION", role);
    CLEANUP(mem_free_ptr) char *may = NULL;
    struct error why = ERROR_INIT;

    TRY(pg_query_value(&c->sql, "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user",
                       PG_QUERY_TIMEOUT_MS, &may, err));
    if (may[0] != 't') {
        ADD(c, REFUSE, "replication", c->state.role, mend, "the role may not read the server's log");
        return 0;
    }
    if (pg_connect(c->config->conninfo, PG_SESSION_REPLICATION, "check", PG_CONNECT_TIMEOUT_MS, &replication, &why) >=
        0) {
        ADD(c, OK, "replication", c->state.role, NULL, "may read the server's log");
        return 0;
    }
    if (why.code == ERROR_CONNECT && strcmp(why.sqlstate, "53300") == 0) /* too many: told by max_wal_senders */
        return 0;
    ADD(c, REFUSE, "replication", c->state.role,
        "let the role connect to the database for replication (pg_hba.conf; no pooler between)",
        "a session for replication is refused: %s", why.message);
    return 0;
}

static void check_row_security(struct check *c, const struct table_states *tables, bool bypass)
{
    CLEANUP(mem_free_ptr) char *role = quoted(c->state.role);
    CLEANUP(mem_free_ptr) char *mend = mem_printf("ALTER ROLE %s BYPASSRLS", role);
    size_t hidden = 0;

    if (bypass)
        return;
    for (size_t i = 0; i < tables->count; i++) {
        if (!tables->items[i].hides_rows)
            continue;
        if (++hidden <= TABLES_SHOWN)
            ADD(c, REFUSE, "bypassrls", tables->items[i].label, mend,
                "row security applies to the role %s: a snapshot could not read all rows", c->state.role);
    }
    if (hidden > TABLES_SHOWN)
        ADD(c, REFUSE, "bypassrls", NULL, mend, "row security applies to %zu more tables", hidden - TABLES_SHOWN);
    if (hidden == 0)
        ADD(c, WARN, "bypassrls", c->state.role, mend,
            "no table has row security for this role now; on the day when one gets it, snapshots stop");
}

static int check_role(struct check *c, const struct table_states *tables, struct error *err)
{
    CLEANUP(mem_free_ptr) char *bypass = NULL;

    TRY(check_replication(c, err));
    TRY(pg_query_value(&c->sql, "SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user",
                       PG_QUERY_TIMEOUT_MS, &bypass, err));
    check_row_security(c, tables, bypass[0] == 't');
    return 0;
}

/* What pg_dump locks and sequences that are read, beside the tables that are captured. */
static const char unreadable_query[] =
    "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname NOT IN "
    "('information_schema', $1)"
    " AND NOT (has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, "
    "'SELECT')"
    " ELSE has_table_privilege(c.oid, 'SELECT') END) AND c.relkind IN ('r', 'p', 'S') ORDER BY 1";

static int check_rights(struct check *c, struct error *err)
{
    CLEANUP(mem_free_ptr) char *role = quoted(c->state.role);
    CLEANUP(mem_free_ptr) char *mend = mem_printf("GRANT pg_read_all_data TO %s", role);
    CLEANUP(pg_result_free) PGresult *r = NULL;
    const char *params[] = {c->names.schema};

    TRY(pg_query(&c->sql, unreadable_query, params, 1, PG_QUERY_TIMEOUT_MS, &r, err));
    int count = PQntuples(r);
    for (int i = 0; i < count && i < TABLES_SHOWN; i++)
        ADD(c, REFUSE, "select", PQgetvalue(r, i, 0), mend, "the role %s may not read it", c->state.role);
    if (count > TABLES_SHOWN)
        ADD(c, REFUSE, "select", NULL, mend, "the role %s may not read %d more tables and sequences", c->state.role,
            count - TABLES_SHOWN);
    return 0;
}

/* --- tables ------------------------------------------------------------------------------------------------------ */

static void add_no_identity(struct check *c, const struct table_state *t)
{
    CLEANUP(mem_free_ptr) char *full = mem_printf("ALTER TABLE %s REPLICA IDENTITY FULL", t->quoted);
    CLEANUP(mem_free_ptr)
    char *choose = mem_printf("%s; or choose identity = full or identity = inserts in the configuration", full);

    if (table_wants_full(c->config, t))
        ADD(c, OK, "no_identity", t->label, full, "%s: `salvor setup` gives it REPLICA IDENTITY FULL (identity = full)",
            t->why);
    else if (identity_choice_of(c->config, t->label) == PG_IDENTITY_INSERTS)
        ADD(c, OK, "no_identity", t->label, NULL,
            "%s: only inserts and truncates are captured (identity = inserts); an update or delete makes it inexact",
            t->why);
    else
        ADD(c, WARN, "no_identity", t->label, t->nothing ? full : choose,
            "%s, so PostgreSQL cannot say which row an update or delete touched: only inserts and truncates are "
            "captured, and "
            "anything else makes it inexact until the next snapshot",
            t->why);
}

static void check_identities(struct check *c, const struct table_states *tables)
{
    size_t shown = 0, none = 0;

    for (size_t i = 0; i < tables->count; i++) {
        const struct table_state *t = &tables->items[i];

        none += t->why != NULL;
        if (t->why && shown++ < TABLES_SHOWN)
            add_no_identity(c, t);
        if (t->loose_index && shown++ < TABLES_SHOWN) {
            CLEANUP(mem_free_ptr)
            char *mend = mem_printf("ALTER TABLE %s ADD UNIQUE USING INDEX %s", t->quoted, t->loose_index);
            ADD(c, WARN, "loose_index", t->label, mend,
                "its replica identity is an index that no constraint holds: while Salvor is not running, a DROP INDEX "
                "CONCURRENTLY "
                "of it makes updates fail until it ends");
        }
    }
    if (shown > TABLES_SHOWN)
        ADD(c, WARN, "no_identity", NULL, NULL, "%zu more tables are as those above", shown - TABLES_SHOWN);
    ADD(c, OK, "tables", NULL, NULL, "%zu tables, %zu of them without identity", tables->count, none);
}

static int check_unprotected(struct check *c, struct error *err)
{
    JSON_AUTO sentences = NULL;
    size_t i;
    json_t *one;

    TRY(pg_unprotected(&c->sql, false, &sentences, err));
    json_array_foreach(sentences, i, one)
    {
        const char *text = json_string_value(one);

        if (text)
            ADD(c, WARN, "unprotected", NULL, NULL, "%s", text);
    }
    return 0;
}

/*
 * Partitions by the hash of an enum: the hash is of the value's OID, which is another one in every database, so a row would not be
 * let into the partition that it was in. An enum may be inside of an array, a range, a domain or a row type.
 */
static const char hash_enum_query[] =
    "WITH RECURSIVE inside (id, type) AS (SELECT p.partrelid, a.atttypid FROM pg_partitioned_table p JOIN pg_attribute a"
    " ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs) WHERE p.partstrat = 'h'"
    " UNION SELECT i.id, x.oid FROM inside i JOIN pg_type t ON t.oid = i.type, LATERAL (SELECT t.typelem AS oid"
    " UNION ALL SELECT t.typbasetype UNION ALL SELECT rngsubtype FROM pg_range WHERE t.oid IN (rngtypid, rngmultitypid)"
    " UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped) x"
    " WHERE x.oid <> 0)"
    " SELECT DISTINCT format('%I.%I', n.nspname, c.relname) FROM inside i JOIN pg_type t ON t.oid = i.type"
    " JOIN pg_class c ON c.oid = i.id JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.typtype = 'e' ORDER BY 1";

static int check_hash_partitions(struct check *c, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(&c->sql, hash_enum_query, NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    for (int i = 0; i < PQntuples(r); i++)
        ADD(c, REFUSE, "hash_partitions", PQgetvalue(r, i, 0), "partition by list, or by the hash of another column",
            "its partitions are chosen by the hash of an enum, which differs from database to database: no recovery could put "
            "its rows where they were");
    return 0;
}

static void add_large_objects(struct check *c, bool some, bool readable)
{
    CLEANUP(mem_free_ptr) char *role = quoted(c->state.role);
    CLEANUP(mem_free_ptr) char *mend = mem_printf("GRANT SELECT ON pg_catalog.pg_largeobject TO %s", role);

    if (c->config->large_objects_ignored && some)
        ADD(c, WARN, "large_objects", NULL, NULL, "large objects are neither captured nor recovered (large_objects = ignore)");
    else if (c->config->large_objects_ignored)
        return;
    else if (!readable)
        findings_add(c->out, some ? PG_FINDING_REFUSE : PG_FINDING_WARN, "large_objects", NULL, mend,
            "the role %s may not read large objects%s", c->state.role, some ? ", and there are some" : ": once there are some, no snapshot could be taken");
    else if (some)
        ADD(c, WARN, "large_objects", NULL, NULL,
            "large objects are kept as snapshots and comparisons in between see them, since logical decoding does not show their changes: a "
            "recovery gives them as of the last one before its moment");
}

static int check_large_objects(struct check *c, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(&c->sql,
                 "SELECT EXISTS (SELECT FROM pg_largeobject_metadata), has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')",
                 NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    add_large_objects(c, PQgetvalue(r, 0, 0)[0] == 't', PQgetvalue(r, 0, 1)[0] == 't');
    return 0;
}

/* --- publications ------------------------------------------------------------------------------------------------ */

static int check_others(struct check *c, struct error *err)
{
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(
        &c->sql,
        "SELECT pubname FROM pg_publication WHERE " PG_BARS_RECORDS,
        NULL, 0, PG_QUERY_TIMEOUT_MS, &r, err));
    for (int i = 0; i < PQntuples(r); i++)
        ADD(c, WARN, "publication", PQgetvalue(r, i, 0), NULL,
            "another publication for all tables: its subscribers would stop at the event trigger's record, so schema "
            "changes are "
            "noticed by polling only");
    return 0;
}

/* What the role could do by itself, without --admin. */
static void check_mode(struct check *c, const struct table_states *tables)
{
    const struct protect_state *s = &c->state;
    size_t foreign = 0;

    for (size_t i = 0; i < tables->count; i++)
        foreign += !tables->items[i].owned;
    if (protect_state_has_triggers(s)) {
        if (s->triggers && !s->marks)
            ADD(c, WARN, "setup", NULL, "run `salvor setup` again with --admin",
                "the event triggers are of an older Salvor: nobody notices a schema change that they could not record");
        else if (s->triggers && s->rows_right && s->keys_exists && s->keys_right && s->sweep)
            ADD(c, OK, "setup", NULL, NULL, "publications for all tables are there, event triggers keep them right");
        else
            ADD(c, WARN, "setup", NULL, "run `salvor setup` again with --admin",
                "publications or event triggers are not as setup made them");
    } else if (s->rows_exists && s->keys_exists) {
        ADD(c, WARN, "setup", NULL, "run `salvor setup` with --admin and a superuser's conninfo",
            "publications list their tables: a new one is inexact until a snapshot, and where a key is dropped, "
            "updates of that table "
            "fail until the next poll");
    } else if (!s->superuser && (foreign > 0 || !s->may_create)) {
        ADD(c, WARN, "setup", NULL, "run `salvor setup` with --admin and a superuser's conninfo",
            "setup needs an administrator: the role %s %s", s->role,
            foreign > 0 ? "owns not all tables" : "may not make publications (CREATE on the database)");
    }
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

/* A pooler that refuses the settings of our sessions is a finding, not a failure. */
static int check_connect(struct check *c, bool *ret_pooler, struct error *err)
{
    int rc = pg_connect(c->config->conninfo, PG_SESSION_SQL, "check", PG_CONNECT_TIMEOUT_MS, &c->sql, err);

    *ret_pooler =
        rc < 0 && (strcmp(err->sqlstate, "08P01") == 0 || strstr(err->message, "unsupported startup parameter"));
    if (!*ret_pooler)
        return rc;
    ADD(c, REFUSE, "pooler", "conninfo", "name host and port of the server itself",
        "a connection pooler stands between: %s", err->message);
    return 0;
}

static int check_all(struct check *c, struct error *err)
{
    CLEANUP(table_states_release) struct table_states tables = {0};

    TRY(check_server(c, err));
    if (c->sql.server_version < VERSION_MIN)
        return 0;
    TRY(protect_state_get(&c->sql, &c->names, &c->state, err));
    TRY(table_states_get(&c->sql, &c->names, 0, &tables, err));
    TRY(check_role(c, &tables, err));
    TRY(check_rights(c, err));
    check_identities(c, &tables);
    TRY(check_unprotected(c, err));
    TRY(check_hash_partitions(c, err));
    TRY(check_large_objects(c, err));
    TRY(check_others(c, err));
    check_mode(c, &tables);
    return 0;
}

int pg_check(const struct pg_protect_config *config, struct pg_findings *ret, struct error *err)
{
    CLEANUP(pg_findings_release) struct pg_findings findings = {0};
    CLEANUP(check_release) struct check c = {.config = config, .out = &findings};
    struct error own = ERROR_INIT;
    bool pooler = false;

    err = err ? err : &own;
    pg_names_of(config->source, &c.names);
    TRY(check_connect(&c, &pooler, err));
    if (!pooler)
        TRY(check_all(&c, err));
    *ret = findings;
    findings = (struct pg_findings){0};
    return 0;
}
