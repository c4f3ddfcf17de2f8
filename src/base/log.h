/*
 * base/log.h - one line an event, on standard error: time, level, role, text. Only roles and commands log; libraries
 * return errors. Never pass a conninfo, a password or row contents.
 */
#ifndef SALVOR_BASE_LOG_H
#define SALVOR_BASE_LOG_H

#include "base/error.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_init(enum log_level level, const char *role); /* role: "capture shop"; copied */
void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
