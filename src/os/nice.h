/* os/nice.h - work that can wait for others. */
#ifndef SALVOR_OS_NICE_H
#define SALVOR_OS_NICE_H

/*
 * From here on this process and what it starts give way to others: processor (nice 10) and disk (lowest best-effort
 * priority). What the system refuses is passed over: it is a courtesy.
 */
void nice_lower(void);

#endif
