/*
 * capture/pressure.c - see pressure.h. The size is measured from the files, twice a second; what was appended since counts on top, so
 * that the limit holds at every moment. A file that leaves is seen at the next measurement.
 */
#include "capture/pressure.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "capture/role.h"

#define TURN_OVERHEAD_BYTES 1024 /* of a block, a seal and a new file's header, encrypted or not */
#define RATE_WINDOW_US (30 * CLOCK_US_PER_S)
#define RATE_LEAST_US CLOCK_US_PER_S

/* --- measuring --------------------------------------------------------------------------------------------------- */

static void add_directory(const char *directory, uint64_t *bytes, uint64_t *files)
{
    CLEANUP(mem_free_ptr) uint64_t *sequences = NULL;
    struct error ignored = ERROR_INIT;
    size_t count = 0;

    if (spool_list(directory, &sequences, &count, &ignored) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        char path[SPOOL_PATH_BYTES];
        struct stat st;

        if (spool_path(path, directory, sequences[i], &ignored) >= 0 && stat(path, &st) == 0)
            *bytes += (uint64_t)st.st_size;
    }
    *files += count;
}

/* What earlier incarnations have left. */
static void add_old(const struct capture *c, uint64_t *bytes, uint64_t *files)
{
    for (size_t i = 0; i < c->old_count; i++) {
        CLEANUP(mem_free_ptr) char *directory = mem_printf("%s/%s/spool", c->config->state_directory, c->old[i].id);
        add_directory(directory, bytes, files);
    }
}

static uint64_t most_bytes(const struct capture *c, uint64_t bytes)
{
    uint64_t most = c->config->spool_bytes_max;
    struct statvfs fs;

    if (statvfs(c->line->spool_directory, &fs) != 0)
        return most;
    uint64_t on_disk = bytes + (uint64_t)fs.f_bavail * fs.f_frsize;
    return most == 0 || on_disk < most ? on_disk : most;
}

static void see_rate(struct pressure *p)
{
    int64_t now = clock_mono_us();

    if (p->then_mono_us[0] && now - p->then_mono_us[0] < RATE_WINDOW_US)
        return;
    p->then_bytes[1] = p->then_bytes[0];
    p->then_mono_us[1] = p->then_mono_us[0];
    p->then_bytes[0] = p->bytes;
    p->then_mono_us[0] = now;
}

static void see_alarm(struct capture *c)
{
    struct pressure *p = &c->pressure;
    char held[TEXT_SIZE_BYTES], most[TEXT_SIZE_BYTES];

    (void)text_format_size(p->bytes, held);
    (void)text_format_size(p->most_bytes, most);
    if (!p->alarm && p->most_bytes > 0 && p->bytes >= p->most_bytes / 2) {
        p->alarm = true;
        log_error("ALERT: the spool holds %s of at most %s: when it is full nothing more is read, and the source keeps the rest", held, most);
    } else if (p->alarm && p->bytes < p->most_bytes / 8 * 3) {
        p->alarm = false;
        log_info("the alert is over: the spool holds %s of at most %s", held, most);
    }
}

void pressure_measure(struct capture *c)
{
    struct pressure *p = &c->pressure;
    uint64_t bytes = 0, files = 0;

    capture_lock(c);
    uint64_t appended = p->appended;
    capture_unlock(c);
    add_directory(c->line->spool_directory, &bytes, &files);
    add_old(c, &bytes, &files);
    uint64_t most = most_bytes(c, bytes);
    capture_lock(c);
    p->bytes = bytes;
    p->files = files;
    p->most_bytes = most;
    p->measured_appended = appended;
    see_rate(p);
    see_alarm(c);
    capture_unlock(c);
}

/* --- the limit --------------------------------------------------------------------------------------------------- */

/* Would a vault that takes what is ready free anything? */
static bool anything_waits(const struct capture *c)
{
    for (size_t i = 0; i < c->config->vaults_count; i++) {
        if (!c->vaults[i].reached || c->vaults[i].sequence < c->sealed_sequence)
            return true;
        for (size_t k = 0; k < c->old_count; k++)
            if (!c->old[k].shipped[i])
                return true;
    }
    return false;
}

int pressure_check(struct capture *c, uint64_t bytes, struct error *err)
{
    const struct pressure *p = &c->pressure;
    uint64_t most = c->config->spool_bytes_max;

    capture_lock(c);
    uint64_t held = p->bytes + (p->appended - p->measured_appended);
    bool fits = most == 0 || held + bytes + TURN_OVERHEAD_BYTES <= most || !anything_waits(c);
    capture_unlock(c);
    if (fits)
        return 0;
    return error_set(err, ERROR_NO_SPACE, "spool_max allows %llu bytes, and what it holds waits for the vault", (unsigned long long)most);
}

void pressure_appended(struct capture *c, uint64_t bytes)
{
    capture_lock(c);
    c->pressure.appended += bytes + TURN_OVERHEAD_BYTES;
    capture_unlock(c);
}

/* --- telling ----------------------------------------------------------------------------------------------------- */

/* Seconds until it is full at the rate of the last minute; negative: it does not grow, or that is not known. */
static double eta_s(const struct pressure *p)
{
    size_t from = p->then_mono_us[1] ? 1 : 0;
    int64_t us = clock_mono_us() - p->then_mono_us[from];

    if (us < RATE_LEAST_US || p->most_bytes < p->bytes || p->bytes <= p->then_bytes[from])
        return -1;
    return (double)(p->most_bytes - p->bytes) * ((double)us / 1e6) / (double)(p->bytes - p->then_bytes[from]);
}

void pressure_put(json_t *o, const struct capture *c)
{
    const struct pressure *p = &c->pressure;
    double eta = eta_s(p);

    json_set_u64(o, "spool_bytes", p->bytes);
    json_set_u64(o, "spool_files", p->files);
    json_object_set_new(o, "spool_bytes_max", p->most_bytes > 0 ? json_integer((json_int_t)p->most_bytes) : json_null());
    json_object_set_new(o, "spool_eta_s", eta >= 0 ? json_real(eta) : json_null());
    json_set_str(o, "spool_alarm", c->spool_full ? "full" : p->alarm ? "filling" : "");
}

void pressure_warn(const struct capture *c, const char *vaults, char *to, size_t n)
{
    const struct pressure *p = &c->pressure;
    char held[TEXT_SIZE_BYTES], most[TEXT_SIZE_BYTES], when[CLOCK_TEXT_BYTES], soon[CLOCK_TEXT_BYTES + 32] = "";
    const char *colon = vaults[0] ? ": " : "";
    double eta = eta_s(p);

    if (!p->alarm && !c->spool_full)
        return;
    if (eta >= 0 && !c->spool_full)
        (void)snprintf(soon, sizeof soon, " and is full in %s at this rate", clock_format_duration((int64_t)(eta * 1e6), when));
    (void)text_format_size(p->bytes, held);
    (void)text_format_size(p->most_bytes, most);
    if (c->spool_full)
        (void)snprintf(to, n, "the spool cannot take more, and the source keeps what comes: %s%s%s", c->spool_error, colon, vaults);
    else
        (void)snprintf(to, n, "the spool holds %s of at most %s%s; then the source keeps what comes%s%s", held, most, soon, colon, vaults);
}
