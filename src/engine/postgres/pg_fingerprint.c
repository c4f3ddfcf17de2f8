/*
 * engine/postgres/pg_fingerprint.c - a digest of the catalogue, to notice that the schema changed.
 *
 * One query of many parts, one part a kind of object: the rows as text, in the order of a unique key, digested; and a digest of
 * these digests. Rows hold what a person can declare. Left out is
 *   - what maintenance changes: statistics, file nodes, freeze limits, relhas* flags (VACUUM clears them), TOAST tables
 *     (VACUUM FULL makes new ones), the OIDs of indexes and indexes that are not valid (REINDEX and CREATE INDEX
 *     CONCURRENTLY make and drop them; an index goes by its name);
 *   - temporary objects and all that hangs on them, Salvor's own schema, publications and event triggers;
 *   - what only a superuser may read (passwords, connection strings of subscriptions).
 * Objects of the system (OID below 16384) count where a dump would show them: their grants.
 *
 * Everything else is by OID: an object that was dropped and made again has changed, even if it looks the same. And where no event trigger of Salvor's
 * records commands (pg_recording), a column also by the transaction that last wrote its row in the catalogue: ALTER COLUMN ... TYPE ... USING that keeps the type writes all rows of
 * the table anew, without an event and with the same declaration. (VACUUM FULL and CLUSTER write the rows of columns that had a constant default when they were
 * added: one change too many is seen there.)
 */
#include "engine/postgres/pg_catalog.h"
#include "engine/postgres/pg_protect.h"

#define QUERY_BYTES_MAX ((size_t)256 << 10)
#define UP_TO_ANY 999999

struct part {
    const char *name;
    int from_version, to_version; /* to_version is the first one that does not have it */
    const char *row;
    const char *source;
    const char *order;
};

#define HIDDEN(catalogue_, column_)                                                                                    \
    " UNION ALL SELECT o.oid FROM " catalogue_ " o WHERE o." column_ " IN (SELECT oid FROM hidden)"

/*
 * Shared by the parts: ns schemas that count; rel relations but no indexes; left_out the temporary objects and Salvor's, for
 * the catalogues that know an object only by its OID; recorded whether commands are, as pg_recording says it.
 */
static const char common[] =
    "ns AS MATERIALIZED (SELECT n.* FROM pg_namespace n, me WHERE n.nspname !~ '^pg_(toast|temp_)'"
    " AND n.nspname <> me.helper), "
    "rel AS MATERIALIZED (SELECT c.* FROM pg_class c WHERE c.relkind NOT IN ('t', 'i', 'I') AND c.oid >= 16384"
    " AND c.relnamespace IN (SELECT oid FROM ns)), "
    "hidden AS MATERIALIZED (SELECT n.oid FROM pg_namespace n, me WHERE n.nspname ~ '^pg_temp_'"
    " OR n.nspname = me.helper), "
    "left_out AS MATERIALIZED (SELECT c.oid FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM hidden)"
    " UNION ALL SELECT oid FROM hidden"
    HIDDEN("pg_type", "typnamespace") HIDDEN("pg_proc", "pronamespace") HIDDEN("pg_constraint", "connamespace")
    HIDDEN("pg_statistic_ext", "stxnamespace") HIDDEN("pg_operator", "oprnamespace") HIDDEN("pg_opclass", "opcnamespace")
    HIDDEN("pg_opfamily", "opfnamespace") HIDDEN("pg_collation", "collnamespace")
    HIDDEN("pg_conversion", "connamespace") HIDDEN("pg_ts_config", "cfgnamespace") HIDDEN("pg_ts_dict", "dictnamespace")
    HIDDEN("pg_ts_parser", "prsnamespace") HIDDEN("pg_ts_template", "tmplnamespace")
    " UNION ALL SELECT g.oid FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid"
    " WHERE c.relnamespace IN (SELECT oid FROM hidden)"
    " UNION ALL SELECT w.oid FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class"
    " WHERE c.relnamespace IN (SELECT oid FROM hidden)"
    " UNION ALL SELECT l.oid FROM pg_policy l JOIN pg_class c ON c.oid = l.polrelid"
    " WHERE c.relnamespace IN (SELECT oid FROM hidden)"
    " UNION ALL SELECT e.oid FROM pg_event_trigger e, me WHERE " /* Salvor's: their function lies in its schema */
    " e.evtfoid IN (SELECT oid FROM pg_proc WHERE pronamespace IN (SELECT oid FROM hidden))"
    " UNION ALL SELECT b.oid FROM pg_publication b, me WHERE b.pubname IN (me.helper || '_rows', me.helper || '_keys')), "
    "recorded AS MATERIALIZED (SELECT (SELECT count(*) = 2 FROM pg_event_trigger e, me WHERE e.evtname IN (me.helper || '_ddl', me.helper || '_drop')"
    " AND e.evtenabled = 'A') AND NOT EXISTS (SELECT FROM pg_publication WHERE " PG_BARS_RECORDS ") AS is)";

#define ALWAYS 0, UP_TO_ANY
#define USER_MADE(alias_) " WHERE " alias_ ".oid >= 16384"
#define IN_SCHEMA(column_) " AND " column_ " IN (SELECT oid FROM ns)"
#define COUNTS(column_) column_ " NOT IN (SELECT oid FROM left_out)"
#define CONSTRAINTS "pg_constraint s WHERE " COUNTS("s.oid") IN_SCHEMA("s.connamespace")

static const struct part parts[] = {
    {"database", ALWAYS, "ROW(d.datdba, d.encoding, d.datcollate, d.datctype, d.datconnlimit, d.datacl)",
     "pg_database d WHERE d.datname = current_database()", "d.oid"},
    {"database setting", ALWAYS, "s",
     "pg_db_role_setting s WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
     "s.setrole"},
    {"schema", ALWAYS, "n", "ns n", "n.oid"},
    {"relation", ALWAYS,
     "ROW(c.oid, c.relname, c.relnamespace, c.reloftype, c.relowner, c.relam, c.reltablespace, c.relpersistence, c.relkind,"
     " c.relchecks, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition, c.reloptions, c.relacl,"
     " c.relpartbound, toast.reloptions, c.relispopulated)",
     "rel c LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid", "c.oid"},
    {"grant on system relation", ALWAYS, "ROW(c.oid, c.relacl)", "pg_class c WHERE c.oid < 16384 AND c.relacl IS NOT NULL",
     "c.oid"},
    /* The hot part: thousands of rows, and a record's text would take twice as long. */
    {"column", ALWAYS,
     "concat_ws(' ', a.attrelid, a.attnum, a.atttypid, a.atttypmod, a.attndims, a.attcollation, a.attnotnull,"
     " a.atthasdef, a.attidentity, a.attgenerated, a.attstorage, a.attislocal, a.attinhcount,"
     " coalesce(a.attstattarget, -1), CASE WHEN num_nonnulls(a.attacl, a.attoptions, a.attfdwoptions) > 0"
     " THEN ROW(a.attacl, a.attoptions, a.attfdwoptions)::text END, CASE WHEN NOT recorded.is THEN a.xmin END, a.attname)",
     "recorded, rel c JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attnum > 0 AND NOT a.attisdropped", "a.attrelid, a.attnum"},
    {"compression", 140000, UP_TO_ANY, "ROW(a.attrelid, a.attnum, a.attcompression)",
     "rel c JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attnum > 0 AND NOT a.attisdropped"
     " AND a.attcompression <> ''", "a.attrelid, a.attnum"},
    {"default", ALWAYS, "ROW(d.adrelid, d.adnum, d.adbin)", "rel c JOIN pg_attrdef d ON d.adrelid = c.oid",
     "d.adrelid, d.adnum"},
    {"constraint", ALWAYS,
     "ROW(s.oid, s.conname, s.connamespace, s.contype, s.condeferrable, s.condeferred, s.convalidated, s.conrelid, s.contypid,"
     " s.conparentid, s.confrelid, s.confupdtype, s.confdeltype, s.confmatchtype, s.conislocal, s.coninhcount,"
     " s.connoinherit, s.conkey, s.confkey, s.conpfeqop, s.conppeqop, s.conffeqop, s.conexclop, s.conbin)",
     CONSTRAINTS, "s.oid"},
    {"columns of SET NULL", 150000, UP_TO_ANY, "ROW(s.oid, s.confdelsetcols)",
     CONSTRAINTS " AND s.confdelsetcols IS NOT NULL", "s.oid"},
    {"enforcement of constraint", 180000, UP_TO_ANY, "ROW(s.oid, s.conenforced, s.conperiod)", CONSTRAINTS, "s.oid"},
    {"index", ALWAYS,
     "ROW(c.relname, c.relnamespace, c.relowner, c.relam, c.reltablespace, c.relkind, c.reloptions, x.indrelid, x.indkey,"
     " x.indnkeyatts, x.indcollation, x.indclass, x.indoption, x.indexprs, x.indpred, x.indisunique, x.indisprimary,"
     " x.indisexclusion, x.indimmediate, x.indisclustered, x.indisreplident, x.indisvalid, h.relname, h.relnamespace)",
     "pg_index x JOIN rel t ON t.oid = x.indrelid JOIN pg_class c ON c.oid = x.indexrelid"
     " LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class h ON h.oid = i.inhparent"
     " WHERE x.indisvalid OR c.relkind = 'I'",
     "c.relnamespace, c.relname"},
    /* Once more, for what CLUSTER and REFRESH change, which no event trigger tells of: by what a command on the index does not change. */
    {"clustered", ALWAYS, "ROW(x.indrelid, x.indkey)", "pg_index x JOIN rel t ON t.oid = x.indrelid WHERE x.indisclustered", "x.indrelid"},
    {"view without contents", ALWAYS, "c.oid", "rel c WHERE c.relkind = 'm' AND NOT c.relispopulated", "c.oid"},
    {"nulls not distinct", 150000, UP_TO_ANY, "ROW(c.relname, c.relnamespace)",
     "pg_index x JOIN rel t ON t.oid = x.indrelid JOIN pg_class c ON c.oid = x.indexrelid"
     " WHERE x.indnullsnotdistinct AND x.indisvalid",
     "c.relnamespace, c.relname"},
    {"statistics target of index column", ALWAYS, "ROW(c.relname, c.relnamespace, a.attnum, a.attstattarget)",
     "pg_index x JOIN rel t ON t.oid = x.indrelid JOIN pg_class c ON c.oid = x.indexrelid"
     " JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attstattarget >= 0 AND x.indisvalid",
     "c.relnamespace, c.relname, a.attnum"},
    {"inheritance", ALWAYS, "i", "pg_inherits i JOIN rel c ON c.oid = i.inhrelid", "i.inhrelid, i.inhseqno"},
    {"partitioned table", ALWAYS, "p", "pg_partitioned_table p JOIN rel c ON c.oid = p.partrelid", "p.partrelid"},
    {"sequence", ALWAYS, "s", "pg_sequence s JOIN rel c ON c.oid = s.seqrelid", "s.seqrelid"},
    {"dependency", ALWAYS, "d",
     "pg_depend d WHERE (d.deptype IN ('e', 'x') OR (d.deptype IN ('a', 'i') AND d.classid = 'pg_class'::regclass"
     " AND d.refobjsubid > 0 AND d.objid IN (SELECT seqrelid FROM pg_sequence))) AND d.objid >= 16384"
     " AND " COUNTS("d.objid"),
     "d.classid, d.objid, d.objsubid, d.refclassid, d.refobjid, d.refobjsubid, d.deptype"},
    {"trigger", ALWAYS, "g", "pg_trigger g JOIN rel c ON c.oid = g.tgrelid WHERE NOT g.tgisinternal", "g.oid"},
    {"rule", ALWAYS, "w", "pg_rewrite w JOIN rel c ON c.oid = w.ev_class", "w.oid"},
    {"policy", ALWAYS, "l", "pg_policy l JOIN rel c ON c.oid = l.polrelid", "l.oid"},
    {"statistics object", ALWAYS, "x", "pg_statistic_ext x" USER_MADE("x") IN_SCHEMA("x.stxnamespace"), "x.oid"},
    {"function", ALWAYS, "p", "pg_proc p" USER_MADE("p") IN_SCHEMA("p.pronamespace"), "p.oid"},
    {"grant on system function", ALWAYS, "ROW(p.oid, p.proacl)",
     "pg_proc p WHERE p.oid < 16384 AND p.proacl IS NOT NULL", "p.oid"},
    {"aggregate", ALWAYS, "a",
     "pg_aggregate a WHERE a.aggfnoid::oid >= 16384 AND " COUNTS("a.aggfnoid::oid"), "a.aggfnoid::oid"},
    /* Row types and array types follow their table or element. */
    {"type", ALWAYS, "t",
     "pg_type t LEFT JOIN rel c ON c.oid = t.typrelid" USER_MADE("t") IN_SCHEMA("t.typnamespace")
     " AND t.typcategory <> 'A' AND (t.typrelid = 0 OR c.relkind = 'c')",
     "t.oid"},
    {"grant on system type", ALWAYS, "ROW(t.oid, t.typacl)", "pg_type t WHERE t.oid < 16384 AND t.typacl IS NOT NULL",
     "t.oid"},
    {"enum", ALWAYS, "e", "pg_enum e WHERE " COUNTS("e.enumtypid"), "e.oid"},
    {"range", ALWAYS, "r", "pg_range r WHERE r.rngtypid >= 16384 AND " COUNTS("r.rngtypid"), "r.rngtypid"},
    {"operator", ALWAYS, "o", "pg_operator o" USER_MADE("o") IN_SCHEMA("o.oprnamespace"), "o.oid"},
    {"operator class", ALWAYS, "o", "pg_opclass o" USER_MADE("o") IN_SCHEMA("o.opcnamespace"), "o.oid"},
    {"operator family", ALWAYS, "o", "pg_opfamily o" USER_MADE("o") IN_SCHEMA("o.opfnamespace"), "o.oid"},
    {"operator of family", ALWAYS, "o", "pg_amop o" USER_MADE("o"), "o.oid"},
    {"function of family", ALWAYS, "o", "pg_amproc o" USER_MADE("o"), "o.oid"},
    {"access method", ALWAYS, "o", "pg_am o" USER_MADE("o"), "o.oid"},
    {"cast", ALWAYS, "o", "pg_cast o" USER_MADE("o") " AND " COUNTS("o.castsource") " AND " COUNTS("o.casttarget"), "o.oid"},
    {"conversion", ALWAYS, "o", "pg_conversion o" USER_MADE("o") IN_SCHEMA("o.connamespace"), "o.oid"},
    {"collation", ALWAYS, "o", "pg_collation o" USER_MADE("o") IN_SCHEMA("o.collnamespace"), "o.oid"},
    {"language", ALWAYS, "o", "pg_language o", "o.oid"},
    {"transform", ALWAYS, "o", "pg_transform o" USER_MADE("o"), "o.oid"},
    {"text search configuration", ALWAYS, "o", "pg_ts_config o" USER_MADE("o") IN_SCHEMA("o.cfgnamespace"), "o.oid"},
    {"text search mapping", ALWAYS, "o", "pg_ts_config_map o WHERE o.mapcfg >= 16384 AND o.mapcfg IN"
     " (SELECT oid FROM pg_ts_config t WHERE t.cfgnamespace IN (SELECT oid FROM ns))",
     "o.mapcfg, o.maptokentype, o.mapseqno"},
    {"text search dictionary", ALWAYS, "o", "pg_ts_dict o" USER_MADE("o") IN_SCHEMA("o.dictnamespace"), "o.oid"},
    {"text search parser", ALWAYS, "o", "pg_ts_parser o" USER_MADE("o") IN_SCHEMA("o.prsnamespace"), "o.oid"},
    {"text search template", ALWAYS, "o", "pg_ts_template o" USER_MADE("o") IN_SCHEMA("o.tmplnamespace"), "o.oid"},
    {"extension", ALWAYS, "o", "pg_extension o", "o.oid"},
    {"event trigger", ALWAYS, "o", "pg_event_trigger o WHERE " COUNTS("o.oid"), "o.oid"},
    {"foreign-data wrapper", ALWAYS, "o", "pg_foreign_data_wrapper o", "o.oid"},
    {"foreign server", ALWAYS, "o", "pg_foreign_server o", "o.oid"},
    {"foreign table", ALWAYS, "o", "pg_foreign_table o", "o.ftrelid"},
    {"user mapping", ALWAYS, "ROW(o.umid, o.srvid, o.umuser)", "pg_user_mappings o", "o.umid"},
    {"default grant", ALWAYS, "o", "pg_default_acl o", "o.oid"},
    {"publication", ALWAYS, "o", "pg_publication o WHERE " COUNTS("o.oid"), "o.oid"},
    {"table of publication", ALWAYS, "o", "pg_publication_rel o WHERE " COUNTS("o.prpubid"), "o.oid"},
    {"schema of publication", 150000, UP_TO_ANY, "o", "pg_publication_namespace o WHERE " COUNTS("o.pnpubid"), "o.oid"},
    {"subscription", ALWAYS, "ROW(o.oid, o.subname, o.subowner, o.subenabled, o.subslotname, o.subpublications)",
     "pg_subscription o WHERE o.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())", "o.oid"},
    {"comment", ALWAYS, "ROW(o.classoid, coalesce(x.relname, o.objoid::text), o.objsubid, o.description)",
     "pg_description o LEFT JOIN pg_class x ON o.classoid = 'pg_class'::regclass AND x.oid = o.objoid"
     " AND x.relkind IN ('i', 'I') WHERE (o.objoid >= 16384 OR o.classoid = 'pg_namespace'::regclass)"
     " AND o.classoid <> 'pg_event_trigger'::regclass AND " COUNTS("o.objoid"),
     "o.classoid, x.relname, x.relnamespace, CASE WHEN x.oid IS NULL THEN o.objoid END, o.objsubid"},
    {"comment on database", ALWAYS, "o.description",
     "pg_shdescription o WHERE o.classoid = 'pg_database'::regclass AND o.objoid ="
     " (SELECT oid FROM pg_database WHERE datname = current_database())",
     "o.objoid"},
    {"comment on event trigger", ALWAYS, "ROW(o.objoid, o.description)",
     "pg_description o WHERE o.classoid = 'pg_event_trigger'::regclass AND " COUNTS("o.objoid"), "o.objoid"},
    {"security label of event trigger", ALWAYS, "o",
     "pg_seclabel o WHERE o.classoid = 'pg_event_trigger'::regclass AND " COUNTS("o.objoid"), "o.objoid, o.provider"},
    {"security label", ALWAYS, "o", "pg_seclabel o WHERE o.classoid <> 'pg_event_trigger'::regclass AND " COUNTS("o.objoid"),
     "o.classoid, o.objoid, o.objsubid, o.provider"},
};

static bool is_among(const char *name, const char *const *list)
{
    for (size_t i = 0; list[i]; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

/*
 * A fingerprint has three digests: of what event triggers tell of, of what they do not, and of the database itself, of which they do not tell either.
 *
 * Not told are changes of event triggers, with their comments and labels; CLUSTER, which marks an index; REFRESH, which is not recorded (it is no change where a view has contents before and
 * after). In the same seconds as a recorded command they would be taken for its work, and a recovery would give the mark, or a view's state, of another moment. New
 * files alone, as CLUSTER, VACUUM FULL and REFRESH make them, are in no fingerprint and need not be: a recovery that follows a table across a command
 * compares its file, and refuses where it is another (recover/bridge_event.c); all others keep the rows that they had.
 */
static int whose(const char *name)
{
    static const char *const of_database[] = {"database", "database setting", "comment on database", NULL};
    static const char *const not_told[] = {"event trigger", "comment on event trigger", "security label of event trigger", "clustered", "view without contents", NULL};

    return is_among(name, of_database) ? 2 : is_among(name, not_told);
}

bool pg_fingerprint_told_same(const char *a, const char *b)
{
    size_t n = strcspn(a, "-");

    return n == strcspn(b, "-") && memcmp(a, b, n) == 0;
}

bool pg_fingerprint_untold_same(const char *a, const char *b)
{
    const char *x = strchr(a, '-'), *y = strchr(b, '-');

    return x && y && strcmp(x, y) == 0;
}

bool pg_fingerprint_objects_same(const char *a, const char *b)
{
    const char *x = strrchr(a, '-'), *y = strrchr(b, '-');

    return x && y && x - a == y - b && memcmp(a, b, (size_t)(x - a)) == 0;
}

static void put_query(const struct pg_conn *c, const char *helper_schema, struct buf *sql)
{
    const char *between = "";

    buf_printf(sql, "WITH me (helper) AS MATERIALIZED (VALUES (");
    pg_quote_literal(sql, helper_schema);
    buf_printf(sql, "::text)), %s SELECT string_agg(digest, '-' ORDER BY whose) FROM"
                    " (SELECT whose, md5(string_agg(digest, ' ' ORDER BY place)) AS digest FROM (", common);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct part *p = &parts[i];

        if (c->server_version < p->from_version || c->server_version >= p->to_version)
            continue;
        buf_printf(sql, "%sSELECT %zu AS place, %d AS whose, md5(coalesce(string_agg((%s)::text, E'\\n' ORDER BY %s), '')) AS digest FROM %s",
                   between, i, whose(p->name), p->row, p->order, p->source);
        between = " UNION ALL ";
    }
    buf_printf(sql, ") parts GROUP BY whose) digests");
}

int pg_schema_fingerprint(struct pg_conn *sql, const char *helper_schema, char **ret, struct error *err)
{
    CLEANUP(buf_release) struct buf query = BUF_INIT(QUERY_BYTES_MAX);

    put_query(sql, helper_schema, &query);
    return pg_query_value(sql, buf_cstr(&query), PG_QUERY_TIMEOUT_MS, ret, err);
}

/*
 * What pg_dump 15 has written out by functions: views, rules, triggers, constraints, expressions, indexes, statistics objects, signatures and bodies of functions; and by the output of
 * regproc, regoperator, regdictionary and their like. An expression may name a sequence, an index or a text search configuration by a constant. All else it reads as rows, by its snapshot.
 *
 * Of relations the row types: TRUNCATE writes the row in pg_class, and changes nothing. Indexes and sequences have none.
 */
#define WRITTEN(catalogue_, where_) "(SELECT concat(count(*), '/', sum(xmin::text::int8)) FROM " catalogue_ where_ ")"
#define NOT_TEMPORARY(column_) " WHERE " column_ " NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_')"

int pg_schema_stamp(struct pg_conn *sql, char **ret, struct error *err)
{
    static const char query[] =
        "SELECT concat_ws(' ', " WRITTEN("pg_type", NOT_TEMPORARY("typnamespace")) ", " WRITTEN("pg_proc", NOT_TEMPORARY("pronamespace")) ", "
        WRITTEN("pg_constraint", NOT_TEMPORARY("connamespace")) ", " WRITTEN("pg_operator", NOT_TEMPORARY("oprnamespace")) ", "
        WRITTEN("pg_opclass", NOT_TEMPORARY("opcnamespace")) ", " WRITTEN("pg_collation", NOT_TEMPORARY("collnamespace")) ", "
        WRITTEN("pg_attribute", " WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE relpersistence <> 't' AND relkind NOT IN ('t', 'i', 'I'))") ", "
        WRITTEN("pg_rewrite", " WHERE ev_class IN (SELECT oid FROM pg_class WHERE relpersistence <> 't')") ", "
        WRITTEN("pg_trigger", " WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relpersistence <> 't')") ", "
        WRITTEN("pg_enum", " WHERE enumtypid IN (SELECT oid FROM pg_type" NOT_TEMPORARY("typnamespace") ")") ", " WRITTEN("pg_namespace", " WHERE nspname !~ '^pg_(toast_)?temp_'") ", "
        WRITTEN("pg_statistic_ext", NOT_TEMPORARY("stxnamespace")) ", " WRITTEN("pg_ts_config", NOT_TEMPORARY("cfgnamespace")) ", "
        WRITTEN("pg_ts_dict", NOT_TEMPORARY("dictnamespace")) ", " WRITTEN("pg_ts_parser", NOT_TEMPORARY("prsnamespace")) ", "
        WRITTEN("pg_ts_template", NOT_TEMPORARY("tmplnamespace")) ")";

    return pg_query_value(sql, query, PG_QUERY_TIMEOUT_MS, ret, err);
}

/* A row that the snapshot sees, and somebody has written since, names the first of them; that one may have failed, or may not have ended. */
int pg_schema_touched(struct pg_conn *then, char **ret, struct error *err)
{
    static const char query[] =
        "SELECT coalesce(string_agg(concat_ws('/', oid, xmin, xmax, relfilenode), ' '), '') FROM pg_class"
        " WHERE oid >= 16384 AND relkind IN ('S', 'i', 'I') AND relpersistence <> 't' AND relnamespace <> 'pg_toast'::regnamespace AND xmax::text <> '0'";

    return pg_query_value(then, query, PG_QUERY_TIMEOUT_MS, ret, err);
}

/* Either nobody's writing counts yet, or the first one's was also the last, and made a new file. */
int pg_schema_only_rewritten(struct pg_conn *now, const char *touched, bool *ret, struct error *err)
{
    const char *params[] = {touched};
    CLEANUP(pg_result_free) PGresult *r = NULL;

    TRY(pg_query(now,
                 "SELECT count(*) FROM unnest(string_to_array($1, ' ')) t (was) LEFT JOIN pg_class c ON c.oid = split_part(was, '/', 1)::oid"
                 " WHERE c.oid IS NULL OR NOT (c.xmin::text = split_part(was, '/', 2)"
                 " OR (c.xmin::text = split_part(was, '/', 3) AND c.relfilenode::text <> split_part(was, '/', 4)))",
                 params, 1, PG_QUERY_TIMEOUT_MS, &r, err));
    *ret = strcmp(PQgetvalue(r, 0, 0), "0") == 0;
    return 0;
}
