/*
 * cmd/main.c - the entry of the salvor program: global flags, the command's row, the exit status.
 */
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/command.h"

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
    int status = command->run(&in, &err);
    if (status < 0) {
        fprintf(stderr, "salvor %s: %s\n", command->name, err.message);
        status = error_exit_status(err.code);
    }
    if (fflush(stdout) != 0 && status == 0)
        status = 1;
    return status;
}
