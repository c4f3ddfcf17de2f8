/*
 * cmd/main.c - the entry of the salvor program: global flags, the command's row, the exit status.
 */
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/command.h"
#include "vault/vault.h"

#define SILENCE_TOLD_US (15 * CLOCK_US_PER_S)
#define SILENCE_MAX_US  (5 * 60 * CLOCK_US_PER_S)

static int usage(FILE *to)
{
    fprintf(to, "usage: salvor [--config FILE] COMMAND ...\n`salvor help` lists the commands.\n");
    return to == stdout ? 0 : 2;
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
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return -1;
        else if (strcmp(argv[i], "--version") == 0)
            return -2;
        else
            return -3;
    }
    return i;
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
    log_init(LOG_INFO, "");
    int at = take_globals(argc, argv, &in.config_path);
    if (at == -2)
        return command_version(&in, &err);
    if (at < 0 || at >= argc)
        return usage(at == -1 ? stdout : stderr);
    const struct command *command = command_find(argv[at]);
    if (!command) {
        fprintf(stderr, "salvor: there is no command '%s'\n", argv[at]);
        return usage(stderr);
    }
    in.argc = argc - at - 1;
    in.argv = argv + at + 1;
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
