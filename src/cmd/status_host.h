/* cmd/status_host.h - what this host knows of a source by itself: the files that its processes write, and its journal. No vault is asked. */
#ifndef SALVOR_CMD_STATUS_HOST_H
#define SALVOR_CMD_STATUS_HOST_H

#include "cmd/config.h"

/* A JSON file of STATE/<source>; NULL where there is none or it cannot be read. Owner: caller. */
json_t *status_state_file(const char *state_directory, const char *name);

/* Fills an empty status; what is not known is null. True: capture is at work, and its figures are those of now. */
bool status_host_fill(json_t *o, const struct source_context *s);

#endif
