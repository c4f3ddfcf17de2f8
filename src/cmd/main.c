/*
 * cmd/main.c - the entry of the salvor program: global flags, the command's row, the exit status.
 */
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypt.h"
#include "base/log.h"
#include "cmd/command.h"
#include "vault/vault.h"

#define SILENCE_TOLD_US (15 * CLOCK_US_PER_S)
#define SILENCE_MAX_US  (5 * 60 * CLOCK_US_PER_S)

/* What take_globals found instead of a command. */
enum { ASKED_HELP = -1, ASKED_VERSION = -2, WRONG_USAGE = -3 };

static int wrong_usage(const char *what, const char *arg)
{
    if (what)
        fprintf(stderr, "salvor: %s '%s'\n", what, arg);
    fprintf(stderr, "usage: salvor [--config FILE] COMMAND ...\n`salvor help` lists the commands.\n");
    return WRONG_USAGE;
}

static bool is_help(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* `salvor COMMAND --help` is `salvor help COMMAND`, wherever it stands. */
static bool is_help_asked(const struct invocation *in)
{
    for (int i = 0; i < in->argc; i++)
        if (is_help(in->argv[i]))
            return true;
    return false;
}

/* --config stands before the command; SALVOR_CONFIG names the file where it does not. */
static int take_globals(int argc, char **argv, const char **config_path)
{
    int i = 1;
    const char *env = getenv("SALVOR_CONFIG");

    *config_path = env && *env ? env : CONFIG_PATH_DEFAULT;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0)
            *config_path = argv[i] + 9;
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            *config_path = argv[++i];
        else if (is_help(argv[i]))
            return ASKED_HELP;
        else if (strcmp(argv[i], "--version") == 0)
            return ASKED_VERSION;
        else
            return wrong_usage(strcmp(argv[i], "--config") == 0 ? "a value is missing after" : "what is", argv[i]);
    }
    return i < argc ? i : wrong_usage(NULL, NULL);
}

/* It ends as if it had been killed, which every command survives: a call that does not come back cannot be taken back. */
static void on_silence(const char *place, const char *key, int64_t waited_us)
{
    bool over = waited_us >= SILENCE_MAX_US;
    char waited[CLOCK_TEXT_BYTES];

    fprintf(stderr, "salvor: the vault at %s has not answered for %s%s%s%s: does the file system that it lies on hang? %s\n", place,
            clock_format_duration(waited_us - waited_us % CLOCK_US_PER_S, waited), *key ? " (" : "", key, *key ? ")" : "",
            over ? "Given up: run the command again when it answers." : "Waiting on.");
    if (over)
        _exit(1);
}

/* Somebody waits for the end of every command but these two, which report a silent vault in their own way. */
static bool is_awaited(const struct command *c)
{
    return c->run != command_run && c->run != command_role;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    struct invocation in = {.program = argv[0]};

    setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    crypt_stay_at_exit();
    log_init(LOG_INFO, "");
    int at = take_globals(argc, argv, &in.config_path);
    if (at == ASKED_VERSION)
        return command_version(&in, &err);
    if (at == ASKED_HELP)
        return command_help(&in, &err);
    if (at < 0)
        return 2;
    const struct command *command = command_find(argv[at]);
    if (!command) {
        (void)wrong_usage("there is no command", argv[at]);
        return 2;
    }
    in.argc = argc - at - 1;
    in.argv = argv + at + 1;
    if (is_help_asked(&in)) {
        print_command_help(command);
        return 0;
    }
    if (is_awaited(command))
        vault_watch(SILENCE_TOLD_US, on_silence);
    int status = command->run(&in, &err);
    if (status < 0) {
        fprintf(stderr, "salvor %s: %s\n", command->name, err.message);
        status = error_exit_status(err.code);
    }
    if (fflush(stdout) != 0 && status == 0)
        status = 1;
    return status;
}
