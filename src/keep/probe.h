/* keep/probe.h - is the source there? One try: connect, query; the stream's own sign of life counts too. */
#ifndef SALVOR_KEEP_PROBE_H
#define SALVOR_KEEP_PROBE_H

#include "keep/guard.h"
#include "base/error.h"

/*
 * Returns PROBE_GOOD, PROBE_ALIVE or PROBE_FAILED; ret_why (error.message) tells what the last two are made of.
 *   state_directory  STATE/<source>: a stream that received something within the last 3 s is a sign of life
 */
enum guard_event probe_source(const char *conninfo, const char *state_directory, int timeout_ms, struct error *ret_why);

#endif
