/*
 * engine/postgres/pg_catalog.h - what Salvor asks a database about itself.
 */
#ifndef SALVOR_ENGINE_POSTGRES_PG_CATALOG_H
#define SALVOR_ENGINE_POSTGRES_PG_CATALOG_H

#include "base/json.h"
#include "engine/postgres/pg_conn.h"
#include "event/relation.h"

struct pg_identity {
    char system_id[32];
    uint32_t timeline;
    uint32_t database_oid;
    char database[64];
    char encoding[32];
    int server_version;
    uint64_t flushed_lsn; /* IDENTIFY_SYSTEM's xlogpos */
};
MUST_CHECK int pg_identify(struct pg_conn *replication, struct pg_identity *ret, struct error *err);

struct pg_slot {
    bool exists, active, invalidated; /* invalidated: wal_status = 'lost' */
    char plugin[64];
    char database[64];
    uint64_t confirmed_flush_lsn, restart_lsn;
    uint64_t retained_bytes; /* of the server's log since restart_lsn */
    int64_t safe_bytes;      /* safe_wal_size; 0: nothing left; -1: unlimited */
    uint64_t limit_bytes;    /* max_slot_wal_keep_size; UINT64_MAX: unlimited */
    uint64_t spill_bytes, stream_bytes; /* of open transactions, since the slot's statistics began: written into files, sent before their end */
};
MUST_CHECK int pg_slot_get(struct pg_conn *sql, const char *slot, struct pg_slot *ret, struct error *err);

/*
 * A table as the catalogue shows it in the session's current snapshot: ordinary tables and partitions (leaves), no
 * system, temporary or unlogged ones, none of schema `helper_schema` (Salvor's own).
 */
struct pg_table {
    /* Version 0; the shape of the stream's relation message. With a generated column in the key that has IDENTITY_KEY and
     * yet `keyed` is false: what is marked does not identify a row, and must be taken as IDENTITY_NONE. */
    struct relation relation;
    uint32_t file_node;       /* pg_class.relfilenode in the snapshot */
    uint64_t bytes;           /* of the heap with TOAST */
    char replica_identity;    /* d i f n */
    bool keyed;               /* PostgreSQL can identify its rows without FULL: valid, immediate, not on generated columns */
    bool extension_member;
    char *owner;
};
void pg_table_release(struct pg_table *t);
void pg_tables_free(struct pg_table *tables, size_t count);
MUST_CHECK int pg_tables(struct pg_conn *sql, const char *helper_schema, struct pg_table **ret, size_t *ret_count,
                         struct error *err);

struct pg_sequence {
    uint32_t id;
    char *schema, *name;
    int64_t last_value, increment;
    bool is_called;
};
void pg_sequences_free(struct pg_sequence *s, size_t count);
/*
 * Direct reads (a sequence is not transactional): one query for each 500. Unlogged and unreadable ones are left out. A
 * sequence that is dropped meanwhile makes a query fail and is then left out: not to be called inside a transaction
 * that must go on.
 */
MUST_CHECK int pg_sequences(struct pg_conn *sql, const char *helper_schema, struct pg_sequence **ret,
                            size_t *ret_count, struct error *err);

/*
 * A digest of everything in the catalogue that a schema dump would show, temporary objects and Salvor's own left out.
 * Two polls with equal text had equal schemas. Cost: one query, about 50 ms for a thousand tables.
 */
MUST_CHECK int pg_schema_fingerprint(struct pg_conn *sql, const char *helper_schema, char **ret, struct error *err);
/*
 * Which transactions wrote what a dump's functions look at as it stands now, whatever the snapshot says: it differs also where something was changed and
 * changed back. Rows of tables, TRUNCATE and temporary objects do not count; nor do indexes and sequences (pg_schema_touched), nor the names of roles, of which only a
 * superuser may know who wrote them: there and back during a dump, these are not seen. Cost: one query, about 10 ms for a thousand tables.
 */
MUST_CHECK int pg_schema_stamp(struct pg_conn *sql, char **ret, struct error *err);
/*
 * The same for indexes and sequences. TRUNCATE, REINDEX and REFRESH write their rows in the catalogue, too; they also give them another file, and do not count. (REINDEX CONCURRENTLY
 * does, and ALTER TABLE that makes an index anew.) Asked in this order when the dump has ended.
 *   then     a session in a transaction that has the dump's snapshot
 *   now      one that sees the present; it may be the same, after that transaction
 *   touched  of pg_schema_touched: what was written since the snapshot
 * Cost: two queries, some ms for a thousand tables.
 */
MUST_CHECK int pg_schema_touched(struct pg_conn *then, char **ret, struct error *err);
MUST_CHECK int pg_schema_only_rewritten(struct pg_conn *now, const char *touched, bool *ret, struct error *err);
/* Of two fingerprints: is what event triggers never tell of (the database's own properties, event triggers, the mark of CLUSTER, whether a view has
 * contents) the same? */
bool pg_fingerprint_untold_same(const char *a, const char *b);
/* Is what event triggers tell of the same? */
bool pg_fingerprint_told_same(const char *a, const char *b);
/* Nothing differs but what belongs to the database itself: its settings, owner, rights, comment. */
bool pg_fingerprint_objects_same(const char *a, const char *b);

/*
 * The layout of every table that pg_tables gives, as a JSON text (docs/formats/snapshots.md, "layout"): which column has which number, what older
 * rows have in a column that was added, files, keys, labels of enums, and the id of the table in which the event triggers tell
 * of changes (null where no trigger does, or where others than a superuser could write there). Owner: caller.
 */
MUST_CHECK int pg_layout(struct pg_conn *sql, const char *helper_schema, char **ret, struct error *err);

/* What a snapshot cannot hold, one sentence each: unlogged tables, foreign tables, ...; large objects where they are ignored. */
MUST_CHECK int pg_unprotected(struct pg_conn *sql, bool large_objects_ignored, json_t **ret_sentences, struct error *err);

/*
 * Database properties for the target, one object; null where there is nothing:
 *   database, owner, comment, tablespace, connection_limit, is_template
 *   encoding, collate, ctype, provider ("libc", "icu", "builtin"), locale (of icu and builtin), icu_rules,
 *   collation_version (as recorded), collation_actual_version (of the server's libraries)
 *   server_version (150018), checksums (bool), block_size, wal_segment_bytes
 *   settings    [{role (null: all), setting ("work_mem=64MB")}], of this database only
 *   grants      null: the default; else [{grantee, public (bool; grantee is then "PUBLIC"), privilege, grantable}]
 *   extensions  [{name, version, schema}]
 *   materialized_views  [{schema, name}], those that have been filled
 *   collations  [{schema, name, provider, collate, version, actual_version}], made by users or in use by columns and domains
 */
MUST_CHECK int pg_database_properties(struct pg_conn *sql, json_t **ret, struct error *err);

#endif
