/* base/banned.h - functions that are too easily misused do not compile. Force-included into every file of src/. */
#ifndef SALVOR_BASE_BANNED_H
#define SALVOR_BASE_BANNED_H

/* The headers that declare them come first, so that only uses are poisoned. */
#include <alloca.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Macros in glibc; a poisoned name that is still a macro is a warning. */
#undef alloca
#undef basename

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok atoi atol atoll sscanf
#pragma GCC poison gmtime localtime ctime asctime basename dirname mktemp alloca system popen

#endif
