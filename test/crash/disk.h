/*
 * test/crash/disk.h - a file system whose every operation is written down, and what a crash may leave of it.
 *
 * While it records, the libc calls that change files (wrapped by the linker: meson.build) do what they always do and are also noted, in one order over
 * all threads, for everything below one folder. Afterwards the folder can be made again as any crash after the n-th operation
 * could have left it. What a machine that goes down may lose: written bytes until the file's fdatasync came back; a name (made,
 * given by link or rename, removed) until the fsync of its folder came back. Nothing else is promised by POSIX, and no more is taken for granted.
 *
 * Recording, too, can be made to fail: one operation, or one reading (a file or folder that is opened, bytes of it), comes back with an error and does nothing.
 */
#ifndef SALVOR_TEST_DISK_H
#define SALVOR_TEST_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum disk_loss {
    DISK_KILLED,    /* the process alone: all n operations are there */
    DISK_LOST,      /* all that was not synced is gone */
    DISK_TORN,      /* as KILLED, but of each file the last write that was not synced came to the disk in part */
    DISK_REORDERED, /* of what was not synced each operation came to the disk or did not */
    DISK_LOSSES_COUNT,
};

/* Forgets what was recorded and records from here on what happens below root, an existing, empty folder. */
void disk_record(const char *root);
void disk_stop(void);
/* The same onto what is there already. Operations can fail; the folder cannot be made again from such a record. */
void disk_record_onto(const char *root);

/* How many operations were recorded; with what is in the ledger in between not counted. */
size_t disk_operations(void);
/* "write sources/shop/..." of operation n, for messages. */
const char *disk_describe(size_t n);

/* The ledger: what the program has told others, in its place among the operations. */
void disk_tell(unsigned kind, uint64_t value);
/* The last value of a kind that was told before operation n; 0: none. */
uint64_t disk_told(size_t n, unsigned kind);

/* Makes the folder again, below `into` (existing, empty), as a crash just after operation n (1: after the first one; 0: before it) may leave it. */
void disk_remake(size_t n, enum disk_loss loss, uint64_t seed, const char *into);

/* Kinds of the ledger from here on say where the program was. */
enum { DISK_PLACE = 16 };
/*
 * Can the folder, or where the program was, be other after operation n than after the one before it? Else a try after n is one after the one before,
 * with no less acknowledged. Not of REORDERED.
 */
bool disk_differs(size_t n, enum disk_loss loss);
/* Has anything been done up to operation n that is not synced? Else a crash loses nothing, in any way. */
bool disk_pending(size_t n);

/* Recording: operation n (from 1) fails once with this errno. 0: none does. */
void disk_fail(size_t n, int errnum);
/* The same of readings, which are counted apart; and how many there were. */
void disk_fail_reading(size_t n, int errnum);
size_t disk_readings(void);
/* Of what the one that failed was; "": none has. */
const char *disk_failed_reading(void);

#endif
