/*
 * os/run.c - spawn_run: one program from start to end, its three streams served at once.
 *
 * One poll() loop feeds stdin and drains stdout and stderr, all of them non-blocking, so that neither side can wait
 * for the other for ever. It ends with the child, not with the pipes: a daemon that the child leaves behind may hold
 * them open as long as it lives.
 */
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define STDERR_TAIL_BYTES ((size_t)4096)
#define PIECE_BYTES ((size_t)65536)
#define WATCH_STEP_MS 20 /* how often we look where the kernel has no pidfd */
#define STDERR_SHOWN_BYTES 800

struct pump {
    pid_t pid;
    int pid_fd; /* readable when the child has ended; -1: not to be had */
    int in_fd, out_fd, err_fd; /* our ends; -1: closed */
    struct slice in;
    struct buf *out;
    struct buf errors;
    bool errors_through;
    uint8_t *piece;
};

static void close_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void pump_close(struct pump *p)
{
    close_end(&p->in_fd);
    close_end(&p->out_fd);
    close_end(&p->err_fd);
}

static void pump_release(struct pump *p)
{
    pump_close(p);
    close_end(&p->pid_fd);
    buf_release(&p->errors);
    mem_free_ptr(&p->piece);
}

/* A pipe whose `ours` end does not block; the other end goes to the child. */
static int make_pipe(bool we_write, int *ret_ours, int *ret_childs, struct error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "cannot make a pipe");
    *ret_ours = fds[we_write ? 1 : 0];
    *ret_childs = fds[we_write ? 0 : 1];
    if (fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0)
        return error_errno(err, errno, "cannot prepare a pipe");
    return 0;
}

static void feed(struct pump *p)
{
    ssize_t n = write(p->in_fd, p->in.p, p->in.n);

    if (n > 0)
        p->in = slice_of(p->in.p + n, p->in.n - (size_t)n);
    /* A child that does not want the rest is no error here: its status says what it thinks of it. */
    if (p->in.n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_end(&p->in_fd);
}

static void take_output(struct pump *p, struct slice s)
{
    if (p->out)
        buf_put_slice(p->out, s);
}

/* The last STDERR_TAIL_BYTES are kept. */
static void take_errors(struct pump *p, struct slice s)
{
    struct buf *b = &p->errors;

    if (p->errors_through) {
        ssize_t written = write(STDERR_FILENO, s.p, s.n); /* nobody is left to tell where that fails */
        (void)written;
    }
    if (s.n > STDERR_TAIL_BYTES)
        s = slice_of(s.p + s.n - STDERR_TAIL_BYTES, STDERR_TAIL_BYTES);
    if (b->n + s.n > STDERR_TAIL_BYTES) {
        size_t drop = b->n + s.n - STDERR_TAIL_BYTES;

        memmove(b->p, b->p + drop, b->n - drop);
        b->n -= drop;
    }
    buf_put_slice(b, s);
}

/* One read; false: nothing there now, or the end. */
static bool drain(struct pump *p, int *fd, void (*take)(struct pump *, struct slice))
{
    ssize_t n;

    do
        n = read(*fd, p->piece, PIECE_BYTES);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        take(p, slice_of(p->piece, (size_t)n));
    else if (n == 0 || errno != EAGAIN)
        close_end(fd);
    return n > 0;
}

/*
 * What the child itself wrote is in the pipes when it has ended. No more than a pipe can hold: a process that it left
 * behind may write for ever.
 */
static void drain_rest(struct pump *p)
{
    size_t pieces_max = ((size_t)1 << 20) / PIECE_BYTES;

    for (size_t i = 0; i < pieces_max && p->out_fd >= 0 && drain(p, &p->out_fd, take_output); i++)
        ;
    for (size_t i = 0; i < pieces_max && p->err_fd >= 0 && drain(p, &p->err_fd, take_errors); i++)
        ;
}

static bool child_has_ended(const struct pump *p)
{
    siginfo_t info = {0};

    /* WNOWAIT: spawn_wait collects the status. */
    return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == p->pid;
}

static int poll_timeout_ms(const struct pump *p, int64_t deadline_mono_us)
{
    int64_t ms = 1000; /* the loop looks again */

    if (deadline_mono_us != 0) {
        int64_t left_ms = (deadline_mono_us - clock_mono_us()) / CLOCK_US_PER_MS + 1;

        ms = left_ms < ms ? left_ms : ms;
    }
    if (p->pid_fd < 0 && ms > WATCH_STEP_MS)
        ms = WATCH_STEP_MS;
    return ms > 0 ? (int)ms : 0;
}

static void pump_turn(struct pump *p, int64_t deadline_mono_us)
{
    struct pollfd fds[] = {
        {.fd = p->in_fd, .events = POLLOUT},
        {.fd = p->out_fd, .events = POLLIN},
        {.fd = p->err_fd, .events = POLLIN},
        {.fd = p->pid_fd, .events = POLLIN},
    };

    if (poll(fds, 4, poll_timeout_ms(p, deadline_mono_us)) <= 0)
        return;
    if (fds[0].revents)
        feed(p);
    if (fds[1].revents)
        (void)drain(p, &p->out_fd, take_output);
    if (fds[2].revents)
        (void)drain(p, &p->err_fd, take_errors);
}

/* Until the child has ended, the deadline has passed or the output is more than is allowed. */
static void pump_run(struct pump *p, int64_t deadline_mono_us)
{
    while (!child_has_ended(p)) {
        if (deadline_mono_us != 0 && clock_mono_us() >= deadline_mono_us)
            return;
        if (p->out && p->out->overflow)
            return;
        pump_turn(p, deadline_mono_us);
    }
    drain_rest(p);
}

/*
 * A write to a pipe that the child has closed must give EPIPE, not kill us, whatever the process does with SIGPIPE; and
 * must leave none pending behind.
 */
struct no_sigpipe {
    sigset_t before;
    bool was_pending;
};

static void sigpipe_block(struct no_sigpipe *state)
{
    sigset_t pipe_only, pending;

    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)sigpending(&pending);
    state->was_pending = sigismember(&pending, SIGPIPE) == 1;
    ASSERT(pthread_sigmask(SIG_BLOCK, &pipe_only, &state->before) == 0);
}

static void sigpipe_restore(const struct no_sigpipe *state)
{
    struct timespec now = {0};
    sigset_t pipe_only;

    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    if (!state->was_pending)
        (void)sigtimedwait(&pipe_only, NULL, &now);
    ASSERT(pthread_sigmask(SIG_SETMASK, &state->before, NULL) == 0);
}

/* What the child gets, and our ends of it. The child's own ends are closed by the caller. */
struct ends {
    int fds[3];
};

static void ends_release(struct ends *e)
{
    for (size_t i = 0; i < 3; i++)
        close_end(&e->fds[i]);
}

static int pump_open(struct pump *p, struct spawn *s, struct ends *ends, struct error *err)
{
    if (p->in.n > 0) {
        TRY(make_pipe(true, &p->in_fd, &ends->fds[0], err));
        s->stdin_fd = ends->fds[0];
    }
    if (p->out) {
        TRY(make_pipe(false, &p->out_fd, &ends->fds[1], err));
        s->stdout_fd = ends->fds[1];
    } else if (s->stdout_fd < 0) {
        ends->fds[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (ends->fds[1] < 0)
            return error_errno(err, errno, "cannot open /dev/null");
        s->stdout_fd = ends->fds[1];
    }
    if (s->stderr_fd < 0) {
        TRY(make_pipe(false, &p->err_fd, &ends->fds[2], err));
        s->stderr_fd = ends->fds[2];
    }
    return 0;
}

static int pump_start(struct pump *p, const struct spawn *spec, struct error *err)
{
    CLEANUP(ends_release) struct ends ends = {{-1, -1, -1}};
    struct spawn s = *spec;

    if (pump_open(p, &s, &ends, err) < 0)
        return error_prefix(err, "cannot start %s", s.argv[0]);
    TRY(spawn_start(&s, &p->pid, err));
    p->pid_fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    return 0;
}

/* The end of what the program said, as one line that fits a message. */
static const char *last_words(struct pump *p)
{
    struct buf *b = &p->errors;

    while (b->n > 0 && (b->p[b->n - 1] == '\n' || b->p[b->n - 1] == ' '))
        b->n--;
    size_t skip = b->n > STDERR_SHOWN_BYTES ? b->n - STDERR_SHOWN_BYTES : 0;
    while (skip < b->n && skip > 0 && (b->p[skip] & 0xc0) == 0x80)
        skip++;
    for (size_t i = skip; i < b->n; i++) {
        if (b->p[i] < ' ')
            b->p[i] = ' ';
    }
    return b->n > skip ? buf_cstr(b) + skip : "it said nothing";
}

static int pump_end(struct pump *p, const char *program, int64_t deadline_mono_us, struct error *err)
{
    bool too_much = p->out && p->out->overflow;
    bool late = !child_has_ended(p);
    int status = 0;

    /* A child that is to stop may be writing to us: with the pipes closed it cannot hang there. */
    pump_close(p);
    int rc = spawn_wait(p->pid, late ? 1 : deadline_mono_us, &status, err);
    if (too_much)
        return error_set(err, ERROR_LIMIT, "%s wrote more than the %zu bytes that are allowed here", program,
                         p->out->max);
    if (rc == -ERROR_TIMEOUT)
        return error_set(err, ERROR_TIMEOUT, "%s did not end before its deadline and was stopped: %s", program,
                         last_words(p));
    TRY(rc);
    if (status != 0)
        return error_set(err, ERROR_IO, "%s failed with status %d: %s", program, status, last_words(p));
    return 0;
}

int spawn_run(const struct spawn *s, struct slice in, int64_t deadline_mono_us, struct buf *out, struct error *err)
{
    CLEANUP(pump_release) struct pump p = {.pid_fd = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1, .in = in, .out = out};
    struct no_sigpipe sigpipe;

    p.errors = BUF_INIT(STDERR_TAIL_BYTES);
    p.errors_through = s->stderr_through;
    p.piece = mem_alloc(PIECE_BYTES);
    TRY(pump_start(&p, s, err));
    sigpipe_block(&sigpipe);
    pump_run(&p, deadline_mono_us);
    int rc = pump_end(&p, s->argv[0], deadline_mono_us, err);
    sigpipe_restore(&sigpipe);
    return rc;
}
