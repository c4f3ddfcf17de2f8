/* capture/spool_scan.h - what a spool file holds, by reading all of it. */
#ifndef SALVOR_CAPTURE_SPOOL_SCAN_H
#define SALVOR_CAPTURE_SPOOL_SCAN_H

#include "base/json.h"
#include "capture/spool.h"

struct spool_summary {
    struct spool_header header;
    uint64_t commits_count;
    struct position first, last;  /* of commits; zero: none */
    struct position last_start;   /* start of the last commit's record */
    int64_t last_wall_us;         /* its commit time */
    uint32_t session;             /* the greatest that it names; 0: none */
    bool sealed;
};

/* notes: not NULL: an array, to which the file's notes are appended. Errors: CORRUPT a frame that does not parse. */
MUST_CHECK int spool_summarize(const char *path, const char *source, const char *incarnation, json_t *notes,
                               struct spool_summary *ret, struct error *err);
MUST_CHECK int spool_header_read(const char *path, const char *source, const char *incarnation, struct spool_header *ret,
                                 struct error *err);

#endif
