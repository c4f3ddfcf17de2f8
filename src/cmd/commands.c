/* cmd/commands.c - the command table, and what all commands share. */

#include "cmd/command.h"

const struct command commands[] = {
    {"init", "", "make the vaults that the configuration names",
     "Makes each [vault] that is not there yet and probes what its store can do. A vault that exists is left as it is.",
     false, command_init},
    {"check", "[SOURCE] [--json]", "can this source be protected, what would be missed, what mends it",
     "Asks the source, changes nothing. Each finding has the statement or setting that mends it.\n"
     "Exit status: 0 all that is needed is there (warnings may remain), 3 something must be mended first. A source that cannot be\n"
     "reached is such a finding.",
     false, command_check},
    {"setup", "SOURCE [--admin CONNINFO] [--print-sql]", "make publications, slot and helpers in the source",
     "With --admin and a superuser: publications for all tables and event triggers, so that tables made or changed later are\n"
     "protected in the same transaction. Without: the source's own role lists the tables that it owns.\n"
     "--print-sql shows every statement for a DBA and runs none. Running setup again mends what differs.",
     false, command_setup},
    {"teardown", "SOURCE [--admin CONNINFO]", "remove from the source all that setup made (slot first)",
     "The vault and the state of this host stay as they are.", false, command_teardown},
    {"run", "", "capture every source, take snapshots on schedule, watch, act; until SIGTERM",
     "Starts one capture process for each source and one keeper, and starts them again when they end. The first snapshot of a\n"
     "source is taken by itself.",
     false, command_run},
    {"snapshot", "SOURCE [--if-needed] [--json]", "a full snapshot now, while capture goes on",
     "Needs a running or earlier `salvor run`: a snapshot is of no use without the events after it. --if-needed: only where a recovery of the\n"
     "latest state would be refused without it; and where single tables are in the way, only these are read.", false, command_snapshot},
    {"status", "[SOURCE] [--json]", "one screen: exposure, positions, snapshots, recoverable range, gaps",
     "Exposure is what would be lost now, measured from what is durable: if the source is lost, and if this host is lost with it.",
     false, command_status},
    {"prove", "SOURCE [--snapshot ID] [--json]", "recover a snapshot into a scratch server, verify it, record the proof, throw it away",
     "The newest snapshot unless one is named, from the vault alone, with the events after it as far as they go. `salvor run` proves each\n"
     "new snapshot by itself, at low priority (prove = no: not). Needs the disk space of a recovery below prove_dir.",
     false, command_prove},
    {"recover", "SOURCE [--to latest|newest|TIME|POSITION] [--within DURATION] (--into CONNINFO | --local DIR [--port N]) "
     "[--vault NAME|PATH|s3://BUCKET/PREFIX?... [--key-file FILE | --passphrase-file FILE]] [--dry-run] [--json]",
     "rebuild the source as it was at any moment",
     "TIME is RFC 3339 with an offset, like 2026-01-31T12:00:00+01:00, and means the state just before the first transaction, in\n"
     "commit order, whose commit time is later. POSITION is an LSN, like 0/16B3748: every transaction at or before it.\n"
     "newest: latest; where that is refused for something on the way (a schema change that was not captured yet, an inexact table, a gap), the\n"
     "newest position before it that can be had exactly, and the result says what is missing (NOT LATEST). --within 15min: refused where that is\n"
     "further than 15 minutes before the latest.\n"
     "--local makes a new PostgreSQL server in DIR; --into fills an empty database. --dry-run says what would be done.\n"
     "Of the source's vaults the one is read that reaches furthest; one that cannot be read is passed over, and named. --vault NAME reads that\n"
     "one of the configuration alone; with a place no configuration is needed, and none is read (`salvor help adopt` tells how one is named).\n"
     "Exact or refused: exit status 3 says that the promise cannot be kept. Nothing was touched then, unless it\n"
     "was damage that was met on the way: the target is left marked as unfinished.",
     false, command_recover},
    {"verify", "[SOURCE] [--threads N] [--expect-head HEAD] [--json]", "read the whole vault: chains, checksums, references, gaps",
     "--threads: that many read and check at once; as many as there are processors, at most 4, unless said. --expect-head: the vault must have\n"
     "this entry of its journal, as `salvor journal` printed it when it was noted elsewhere. Exit status 4 when something is damaged, missing or a gap.",
     false, command_verify},
    {"purge", "[SOURCE] [--dry-run] [--json]", "remove what the retention does not promise any more",
     "Needs keep in [source]. What is to go is named first and removed by a later purge, once purge_grace is over by every clock\n"
     "that there is; `salvor run` does both by itself. Only what lies below a proved snapshot that is older than keep ever goes.\n"
     "--dry-run changes nothing and says what stays and what goes, and why, with bytes and, where prices are configured, money.",
     false, command_purge},
    {"hold", "add SOURCE [--snapshot ID | --position P] [--incarnation N] --reason TEXT | remove SOURCE N | list SOURCE [--json]",
     "keep a snapshot, a position or a whole source from being purged",
     "Without --snapshot or --position the whole source is held. A held position keeps the snapshot before it and all events from\n"
     "there on; a held snapshot keeps that alone.",
     false, command_hold},
    {"log", "SOURCE [--table [SCHEMA.]TABLE] [--from POSITION] [--to POSITION] [--vault NAME] [--json]", "print events",
     "Transactions of the newest incarnation with from < position <= to, in commit order. A table without its schema is that of any schema. --json prints one object a line, so\n"
     "that a log of any length can be read as it comes; exit status 0 says that it was whole.", false, command_log},
    {"journal", "[SOURCE] [--json]", "what happened and what was measured: the record, from the vaults and from this host",
     "Entries of all writers by time, from the vaults and from this host. `salvor verify` checks chains and signatures.", false,
     command_journal},
    {"adopt", "PATH|s3://BUCKET/PREFIX?... [--key-file FILE | --passphrase-file FILE] [--output FILE] [--state DIR] [--json]", "take up a vault whose host is lost: list its sources, write a configuration",
     "Prints the configuration, or writes it into FILE, never over one that is there. What the lost host did by itself (automation,\n"
     "target, cutover) is in it as a comment. With it `salvor run` goes on capturing: the source has kept what the vault lacks.\n"
     "A bucket: s3://BUCKET/PREFIX?endpoint=https://HOST[:PORT]&region=..&style=path|host&ca_file=FILE&credentials_file=FILE&profile=..,\n"
     "what has a default left out. Without credentials_file: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else the instance's role.\n"
     "The key of an encrypted vault: a key file or recovery kit, a passphrase's file, or SALVOR_PASSPHRASE_MAIN in the environment.",
     false, command_adopt},
    {"key", "new FILE | rotate VAULT [--new-key-file FILE | --new-passphrase-file FILE] | export VAULT [--out FILE] | import VAULT KIT",
     "keys of an encrypted vault: make, rotate, export for the safe, bring back",
     "new: a file with a random key. rotate: new objects get a new data key, and all keys are wrapped again, by the new key\n"
     "file or passphrase if one is named; what is stored stays readable. Then put the new file into the configuration and start\n"
     "`salvor run` again. export: the recovery kit, all that a bare host needs to read the vault. import: keys objects that\n"
     "the store has lost, from a kit.",
     false, command_key},
    {"config", "[--origin]", "the effective configuration, and where each value came from", "", false, command_config},
    {"help", "[COMMAND|config]", "this list, a command, or every option of the configuration", "", false, command_help},
    {"version", "", "the version", "", false, command_version},
    {"role", "capture SOURCE | keeper | keys", "a process of `salvor run`", "", true, command_role},
    {0},
};

const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static int usage_error(const struct command *command, struct error *err, const char *what, const char *arg)
{
    return error_set(err, ERROR_USAGE, "%s '%s'; usage: salvor %s%s%s", what, arg, command->name, *command->arguments ? " " : "",
                     command->arguments);
}

/* What is no flag of the command and no name. */
static int refuse_argument(const struct command *command, const char *arg, struct error *err)
{
    if (strcmp(arg, "--config") == 0 || strncmp(arg, "--config=", 9) == 0)
        return error_set(err, ERROR_USAGE, "--config stands before the command: salvor --config FILE %s", command->name);
    return usage_error(command, err, "what is", arg);
}

static bool is_flag(const struct argument *flag, const char *arg)
{
    size_t n = strlen(flag->flag);

    return strncmp(arg, flag->flag, n) == 0 && (arg[n] == '\0' || (flag->value && arg[n] == '='));
}

/* 1: *i was (or ended) a flag of the table; 0: it is none. *given: a bit for each flag that stood before. */
static int take_flag(const struct invocation *in, const struct command *command, const struct argument *flags,
                     size_t flags_count, uint32_t *given, int *i, struct error *err)
{
    const char *arg = in->argv[*i], *value = strchr(arg, '=');
    size_t f = 0;

    while (f < flags_count && !is_flag(&flags[f], arg))
        f++;
    if (f == flags_count)
        return 0;
    if (*given & (UINT32_C(1) << f))
        return usage_error(command, err, "given twice:", flags[f].flag);
    *given |= UINT32_C(1) << f;
    if (flags[f].set)
        *flags[f].set = true;
    if (!flags[f].value)
        return 1;
    value = value ? value + 1 : ++*i < in->argc ? in->argv[*i] : "";
    if (!*value)
        return usage_error(command, err, "a value is missing after", flags[f].flag);
    *flags[f].value = value;
    return 1;
}

int arguments_parse(const struct invocation *in, const struct command *command, const struct argument *flags,
                    size_t flags_count, const char **name, struct error *err)
{
    uint32_t given = 0;

    ASSERT(flags_count <= 32);
    for (int i = 0; i < in->argc; i++) {
        int taken = take_flag(in, command, flags, flags_count, &given, &i, err);
        TRY(taken);
        if (taken)
            continue;
        if (in->argv[i][0] == '-' || !name || *name)
            return refuse_argument(command, in->argv[i], err);
        *name = in->argv[i];
    }
    return 0;
}

void print_json(const json_t *j)
{
    CLEANUP(buf_release) struct buf text = BUF_INIT(BUF_BYTES_MAX);

    json_dump(j, &text);
    printf("%s\n", buf_cstr(&text));
}
