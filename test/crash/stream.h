/*
 * test/crash/stream.h - a source that is a recording: the pgoutput messages of TRANSACTIONS transactions, a server's end of the replication
 * protocol that sends them, and the truth, that is the rows after each of them.
 *
 * The functions of engine/postgres that the capture role calls are wrapped by the linker (meson.build). As a real server does, this one
 * sends again every transaction whose commit record starts at or past what it was told as flushed. What it is told goes into the
 * disk's ledger.
 *
 * Transaction i (from 1) commits at 1000 * i (start of the record) to 1000 * i + 100 (end). Table 16384 `t` has the key id; table
 * 16385 `n` has none. Every seventh transaction is a large one that is
 * sent before it has ended, with a subtransaction in it that is undone.
 */
#ifndef SALVOR_TEST_STREAM_H
#define SALVOR_TEST_STREAM_H

#include "base/bytes.h"
#include "event/relation.h"
#include "vault/snapshot.h"

#define STREAM_TRANSACTIONS 30u
#define STREAM_SOURCE "shop"
#define STREAM_TABLES 2u
#define STREAM_TRUNCATES 19u /* the transaction that truncates n */

#define STREAM_BEGINS 500u /* where the slot was made */

enum { TOLD_WRITTEN = 1, TOLD_FLUSHED = 2 };

static inline uint64_t stream_start(uint64_t i) { return 1000 * i; }
static inline uint64_t stream_end(uint64_t i) { return 1000 * i + 100; }
/* Its commit, by the source's clock: one an hour. */
static inline int64_t stream_wall_us(uint64_t i) { return INT64_C(1750000000000000) + (int64_t)i * 3600 * 1000000; }
/* The last transaction that ends at or before it; 0: none. */
static inline uint64_t stream_number(uint64_t lsn) { return lsn < 100 ? 0 : (lsn - 100) / 1000; }

/* A server that was told `flushed` before, and that has up to `released` transactions now. A later call lets it have more. */
void stream_open(uint64_t flushed, uint64_t released);
void stream_release(uint64_t released);
/* What it was told last: written in this session, flushed ever. */
uint64_t stream_written(void);
uint64_t stream_flushed(void);
/* Until it is told something, at most so long. */
void stream_wait(int64_t timeout_us);

/* The relation of table 0 or 1, version 1 as capture will count it; lives for ever. */
const struct relation *stream_relation(unsigned table);
/* The rows of a table after transaction i: COPY text without newlines, in the order of bytes; they live for ever. */
const char *const *stream_texts(unsigned table, uint64_t i, size_t *ret_count);
/* Those after each transaction are made: processes that are forked later have them. */
void stream_prepare(void);

#endif
