/*
 * os/spawn.h - other programs: pg_dump, initdb, the cut-over command, and Salvor itself under another role.
 *
 * No shell is ever involved. Descriptors other than 0-2 are not inherited. A child of ours dies with us only if asked
 * (die_with_parent: SIGKILL when the thread that started it ends, so start such a child from a thread that stays).
 * Signals of the child are all at their defaults and unblocked. Secrets go by environment or file, never by argv (I-13).
 */
#ifndef SALVOR_OS_SPAWN_H
#define SALVOR_OS_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/error.h"

struct spawn {
    const char *const *argv;     /* argv[0] is looked up in PATH unless it has a slash; NULL-terminated */
    const char *const *env;      /* "NAME=value", added to the environment; may be NULL */
    const char *user;            /* run as this system user (its groups, HOME, USER, LOGNAME); NULL: as we are */
    const char *directory;       /* working directory; NULL: ours */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null for stdin, ours for the others */
    bool stderr_through;         /* spawn_run: what it says is also written to our stderr, as it comes */
    bool die_with_parent;
    bool new_session;            /* setsid: a server that outlives us */
};

#define SPAWN_INIT ((struct spawn){.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1})

MUST_CHECK int spawn_start(const struct spawn *s, pid_t *ret_pid, struct error *err);

/*
 * Wait for a child until deadline_mono_us (0: none). When it passes: SIGTERM, 3 s, SIGKILL, and TIMEOUT;
 * the signals go to its whole process group where it leads one (new_session). The child is collected in any case.
 *   ret_status  exit status 0..255, or 128 + signal
 */
MUST_CHECK int spawn_wait(pid_t pid, int64_t deadline_mono_us, int *ret_status, struct error *err);

/* Ends a child whose outcome does not matter any more: SIGTERM, 3 s, then as spawn_wait. *pid becomes 0 once it is collected; 0 before: nothing. */
void spawn_stop(pid_t *pid);

/*
 * Run to the end, feeding `in` (may be empty) to its stdin and collecting stdout into `out` (may be NULL: discarded)
 * and the end of stderr into the error message. A descriptor set in *s is left to the child where there is nothing of
 * ours to connect (no `in`, no `out`; stderr). It ends with the child, even if a process that the child left behind
 * still holds the pipes. A status other than 0 is an error (IO) that names the program; NOT_FOUND: no such program;
 * LIMIT: more output than `out` may hold, the child is stopped.
 */
MUST_CHECK int spawn_run(const struct spawn *s, struct slice in, int64_t deadline_mono_us, struct buf *out,
                         struct error *err);

#endif
