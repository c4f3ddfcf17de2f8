/* os/nice.c - lower priorities. The C library has no call for that of the disk. */
#include "os/nice.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE 10
/* ioprio_set(2): IOPRIO_WHO_PROCESS, this process; class best effort (2), lowest level (7). */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_LOWEST      (2 << 13 | 7)

void nice_lower(void)
{
    if (getpriority(PRIO_PROCESS, 0) < NICE)
        (void)!setpriority(PRIO_PROCESS, 0, NICE);
    (void)!syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_LOWEST);
}
