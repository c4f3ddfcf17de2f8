/*
 * cmd/options.h - the option table: the whole truth of every option of the configuration file.
 *
 * The reader, `salvor config --origin`, `salvor help config` and docs/operations/configuration.md come from it.
 */
#ifndef SALVOR_CMD_OPTIONS_H
#define SALVOR_CMD_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

enum option_section { SECTION_SALVOR, SECTION_VAULT, SECTION_SOURCE, SECTION_COUNT_ };

enum option_type {
    TYPE_TEXT,
    TYPE_PATH,     /* absolute */
    TYPE_NAMES,    /* names parted by commas */
    TYPE_TABLES,   /* schema.table parted by commas */
    TYPE_DURATION, /* 500ms, 15min, 2h, 30d */
    TYPE_SIZE,     /* 64MiB */
    TYPE_NUMBER,
    TYPE_BOOL,     /* yes, no */
    TYPE_CHOICE,   /* one of `choices` */
    TYPE_CONNINFO, /* libpq conninfo without a password */
    TYPE_SCHEDULE, /* daily 02:00 [Europe/Berlin], hourly, every 6h, weekly sun 02:00, none */
    TYPE_TARGET,   /* local DIRECTORY */
    TYPE_DECIMAL,  /* 0.023 */
    TYPE_RATE,     /* 20MB/s, 8MiB/s */
    TYPE_DATABASES, /* shop, "Odd, name" | *, !scratch */
    TYPE_ZONE,     /* Europe/Berlin */
};

/* X(id, section, name, type, default or NULL, min, max, choices or NULL, help). Durations in microseconds. */
#define OPTION_S INT64_C(1000000)
#define OPTION_ROWS(X)                                                                                                 \
    X(STATE, SALVOR, "state", PATH, "/var/lib/salvor", 0, 0, NULL,                                                     \
      "Where the spool, locks and status of this host lie. On a disk that honours fsync.")                             \
    X(LOG_LEVEL, SALVOR, "log_level", CHOICE, "info", 0, 0, "debug info warn error", "What is written to standard error.") \
    X(DRIVER, VAULT, "driver", CHOICE, "posix", 0, 0, "posix s3", "How the vault is reached.")                         \
    X(PATH, VAULT, "path", PATH, NULL, 0, 0, NULL, "posix: the vault's directory.")                                    \
    X(ENDPOINT, VAULT, "endpoint", TEXT, NULL, 0, 0, NULL, "s3: https://HOST[:PORT] of the store; else AWS's own.")    \
    X(BUCKET, VAULT, "bucket", TEXT, NULL, 0, 0, NULL, "s3: the bucket, which must exist.")                            \
    X(PREFIX, VAULT, "prefix", TEXT, NULL, 0, 0, NULL, "s3: what every key begins with: many vaults in one bucket.")   \
    X(REGION, VAULT, "region", TEXT, NULL, 0, 0, NULL, "s3: the store's region; us-east-1 where none is named.")       \
    X(STYLE, VAULT, "style", CHOICE, NULL, 0, 0, "path host",                                                          \
      "s3: where the bucket's name stands in an address; path where an endpoint is named, else host.")                 \
    X(CA_FILE, VAULT, "ca_file", PATH, NULL, 0, 0, NULL, "s3: certificates (PEM) that the store's is signed by.")      \
    X(CREDENTIALS_FILE, VAULT, "credentials_file", PATH, NULL, 0, 0, NULL,                                             \
      "s3: access keys in AWS's form; else from the environment, else the instance's metadata address.")               \
    X(PROFILE, VAULT, "profile", TEXT, NULL, 0, 0, NULL, "s3: section of the credentials file; AWS_PROFILE, else default.") \
    X(KEY_FILE, VAULT, "key_file", PATH, NULL, 0, 0, NULL,                                                             \
      "File with the key of an encrypted vault (salvor key new makes one). init with it makes the vault encrypted.")    \
    X(PASSPHRASE_FILE, VAULT, "passphrase_file", PATH, NULL, 0, 0, NULL,                                               \
      "The same by a passphrase: the file's first line, or else SALVOR_PASSPHRASE_<VAULT> in the environment.")         \
    X(BANDWIDTH, VAULT, "bandwidth", RATE, NULL, 0, 0, NULL,                                                           \
      "The most that is written to the vault, by all processes of a source together at most twice that: 20MB/s. Reads are not limited.") \
    X(PRICE_GB_MONTH, VAULT, "price_gb_month", DECIMAL, NULL, 0, 0, NULL,                                              \
      "What a gigabyte (10^9 bytes) costs a month: `salvor purge --dry-run` then shows money.")                        \
    X(PRICE_PUT_1000, VAULT, "price_put_1000", DECIMAL, NULL, 0, 0, NULL, "What a thousand writes cost.")              \
    X(PRICE_CURRENCY, VAULT, "price_currency", TEXT, "USD", 0, 0, NULL, "The currency of the prices, as it is shown.") \
    X(STATE_PLAIN, SOURCE, "state_plain", BOOL, "no", 0, 0, NULL,                                                      \
      "Leave spool and sort files of this host unencrypted although the source's vault is encrypted.")                  \
    X(ENGINE, SOURCE, "engine", CHOICE, "postgres", 0, 0, "postgres", "The kind of source.")                           \
    X(CONNINFO, SOURCE, "conninfo", CONNINFO, NULL, 0, 0, NULL,                                                        \
      "libpq connection string of the database, without a password: use PGPASSFILE, a service file or the environment.") \
    X(DATABASES, SOURCE, "databases", DATABASES, NULL, 0, 0, NULL,                                                     \
      "Several databases of the server: shop, crm; or * for all but those behind !: *, !scratch. Each is a source of its own, NAME/DATABASE.") \
    X(VAULTS, SOURCE, "vault", NAMES, NULL, 0, 0, NULL, "The vaults that keep this source: main, west.")               \
    X(RPO, SOURCE, "rpo", DURATION, "15min", 1 * OPTION_S, 30 * 86400 * OPTION_S, NULL,                                \
      "Objective: the most that may be lost, as time; act gives up no more. A quarter of it, at most a minute, is the age of a segment.")    \
    X(RTO, SOURCE, "rto", DURATION, "2h", 1 * OPTION_S, 30 * 86400 * OPTION_S, NULL,                                   \
      "Objective: the longest that a recovery may take.")                                                              \
    X(SNAPSHOT_SCHEDULE, SOURCE, "snapshot_schedule", SCHEDULE, "daily 02:00", 0, 0, NULL,                             \
      "When a full snapshot is taken: daily HH:MM, hourly, every 6h, weekly sun HH:MM, none; a time zone may follow (UTC).") \
    X(PROVE, SOURCE, "prove", BOOL, "yes", 0, 0, NULL,                                                                 \
      "Each new snapshot is proved by itself: recovered into a scratch server, verified, thrown away.")                \
    X(PROVE_DIR, SOURCE, "prove_dir", PATH, NULL, 0, 0, NULL,                                                          \
      "Below which directory proofs make their scratch server; TMPDIR or /var/tmp else.")                              \
    X(SNAPSHOT_QUIET, SOURCE, "snapshot_quiet", DURATION, "60s", 0, 86400 * OPTION_S, NULL,                            \
      "After a schema change that recovery does not go across a snapshot is taken, once nothing changed for so long.")   \
    X(SNAPSHOT_SPACING, SOURCE, "snapshot_spacing", DURATION, "15min", 0, 30 * 86400 * OPTION_S, NULL,                 \
      "And not sooner than this after the last one that was taken for such a reason.")                                 \
    X(KEEP, SOURCE, "keep", DURATION, NULL, 60 * OPTION_S, INT64_C(36500) * 86400 * OPTION_S, NULL,                    \
      "Every moment of so long back stays recoverable, and what lies below is purged. Not set: nothing is ever purged.") \
    X(KEEP_DAILY, SOURCE, "keep_daily", NUMBER, "0", 0, 100000, NULL,                                                  \
      "Beyond that, the newest snapshot of each of so many days stays, for its own position.")                         \
    X(KEEP_WEEKLY, SOURCE, "keep_weekly", NUMBER, "0", 0, 100000, NULL, "The same for weeks (from Monday on).")        \
    X(KEEP_MONTHLY, SOURCE, "keep_monthly", NUMBER, "0", 0, 100000, NULL, "The same for months.")                      \
    X(KEEP_ZONE, SOURCE, "keep_zone", ZONE, "UTC", 0, 0, NULL, "The time zone of those days, weeks and months.")       \
    X(PURGE_GRACE, SOURCE, "purge_grace", DURATION, "24h", 60 * OPTION_S, INT64_C(365) * 86400 * OPTION_S, NULL,       \
      "What is to be purged is named so long before it is removed. Longer than the longest recovery.")                 \
    X(PURGE_EVERY, SOURCE, "purge_every", DURATION, "6h", 10 * OPTION_S, 30 * 86400 * OPTION_S, NULL,                  \
      "How often `salvor run` purges, where keep is set.")                                                             \
    X(AUTOMATION, SOURCE, "automation", CHOICE, "observe", 0, 0, "observe act",                                        \
      "When the source is lost: observe says what it would do, act recovers into target and runs cutover.")            \
    X(TARGET, SOURCE, "target", TARGET, NULL, 0, 0, NULL, "What act recovers into: local DIRECTORY.")                  \
    X(TARGET_PORT, SOURCE, "target_port", NUMBER, "0", 0, 65535, NULL, "Port of a local target; 0: a free one.")       \
    X(CUTOVER, SOURCE, "cutover", PATH, NULL, 0, 0, NULL,                                                              \
      "Program that points clients to the new database; run with the new conninfo once the target is verified.")       \
    X(CUTOVER_TIMEOUT, SOURCE, "cutover_timeout", DURATION, "60s", 1 * OPTION_S, 3600 * OPTION_S, NULL,                \
      "How long cutover may run.")                                                                                     \
    X(IDENTITY, SOURCE, "identity", CHOICE, "ask", 0, 0, "ask full inserts",                                           \
      "Tables without a key: full makes them carry whole old rows, inserts promises that they are only inserted into.") \
    X(IDENTITY_FULL, SOURCE, "identity_full", TABLES, NULL, 0, 0, NULL, "Tables for which identity is full.")          \
    X(IDENTITY_INSERTS, SOURCE, "identity_inserts", TABLES, NULL, 0, 0, NULL, "Tables for which identity is inserts.") \
    X(LARGE_OBJECTS, SOURCE, "large_objects", CHOICE, "capture", 0, 0, "capture ignore",                               \
      "Large objects are captured at snapshots and by comparison in between, or ignored: neither captured nor recovered.") \
    X(LARGE_OBJECTS_COMPARE, SOURCE, "large_objects_compare", DURATION, "5min", 0, 86400 * OPTION_S, NULL,             \
      "How often large objects are compared with what was captured of them, and captured where they differ; 0: they are captured at snapshots alone.") \
    X(SLOT_WAL_UNBOUNDED, SOURCE, "slot_wal_unbounded", BOOL, "no", 0, 0, NULL,                                        \
      "Accept a server whose max_slot_wal_keep_size is unlimited.")                                                    \
    X(SLOT_TIMEOUT, SOURCE, "slot_timeout", DURATION, "30s", 1 * OPTION_S, 3600 * OPTION_S, NULL,                      \
      "How long making a slot may wait for older transactions.")                                                       \
    X(HEARTBEAT, SOURCE, "heartbeat", DURATION, "2s", OPTION_S / 10, 3600 * OPTION_S, NULL,                            \
      "How often an idle source gets a heartbeat commit.")                                                             \
    X(POLL, SOURCE, "poll", DURATION, "5s", OPTION_S / 10, 10 * OPTION_S, NULL,                                        \
      "How often sequences, the schema and lists of tables are looked at.")                                            \
    X(SEGMENT_SIZE, SOURCE, "segment_size", SIZE, "32MiB", 65536, 1 << 30, NULL, "A segment is sealed at this size, or at a quarter of spool_max.")  \
    X(IDLE_SEGMENT, SOURCE, "idle_segment", DURATION, "5min", OPTION_S, 86400 * OPTION_S, NULL,                        \
      "A segment that has heartbeats only is sealed at this age.")                                                     \
    X(SPOOL_MAX, SOURCE, "spool_max", SIZE, "4GiB", 64 << 20, INT64_MAX, NULL,                                         \
      "The most that the spool may hold: an alarm from half of it on, and the source keeps what does not fit.")                                         \
    X(ZSTD_LEVEL, SOURCE, "zstd_level", NUMBER, "1", 1, 19, NULL, "Compression of segments and chunks.")               \
    X(CONNECTIONS, SOURCE, "connections", NUMBER, "2", 1, 64, NULL, "Parallel sessions of a snapshot and of a recovery.") \
    X(SORT_MEMORY, SOURCE, "sort_memory", SIZE, "256MiB", 16 << 20, INT64_MAX, NULL,                                   \
      "Memory of a snapshot's sort and of a recovery's net changes.")                                                  \
    X(SPLIT_TABLES, SOURCE, "split_tables", BOOL, "no", 0, 0, NULL,                                                    \
      "Copy ranges of one table in parallel. Costs the source its cache: such a scan has no ring buffer.")             \
    X(LOCK_PATIENCE, SOURCE, "lock_patience", DURATION, "5s", OPTION_S, 3600 * OPTION_S, NULL,                         \
      "How long others may wait behind the locks of a snapshot before it lets go.")                                    \
    X(PROBE, SOURCE, "probe", DURATION, "1s", OPTION_S / 10, 60 * OPTION_S, NULL, "How often the source is probed.")   \
    X(LOSS_AFTER, SOURCE, "loss_after", DURATION, "30s", 3 * OPTION_S, 86400 * OPTION_S, NULL,                         \
      "No probe has succeeded for so long: the source counts as lost, after a last try by a fresh connection.")        \
    X(LOSS_PROBES, SOURCE, "loss_probes", NUMBER, "5", 2, 10000, NULL, "And at least so many probes have failed in a row.") \
    X(PG_BIN, SOURCE, "pg_bin", PATH, NULL, 0, 0, NULL, "Directory of PostgreSQL's programs; else the newest that fits.") \
    X(LOCAL_USER, SOURCE, "local_user", TEXT, NULL, 0, 0, NULL,                                                        \
      "System user that runs a local target; postgres when Salvor runs as root, else Salvor's own.")                   \
    X(LOCAL_AUTH, SOURCE, "local_auth", CHOICE, "scram-sha-256", 0, 0, "scram-sha-256 md5 trust",                      \
      "How clients of a local target log in over loopback.")

enum option_id {
#define X(id, section, name, type, default_, min, max, choices, help) OPTION_##id,
    OPTION_ROWS(X)
#undef X
    OPTION_COUNT_
};

struct option {
    enum option_section section;
    const char *name;
    enum option_type type;
    const char *default_text; /* NULL: none */
    int64_t min, max;         /* of durations (microseconds), sizes (bytes), numbers */
    const char *choices;      /* parted by blanks */
    const char *help;
};

extern const struct option options[OPTION_COUNT_];

const char *option_section_name(enum option_section s); /* "salvor", "vault", "source" */
const char *option_type_name(enum option_type t);       /* for help: "duration" */

#endif
