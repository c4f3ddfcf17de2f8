/*
 * cmd/main.c - the entry of the salvor program.
 */
#include <stdio.h>

int main(void)
{
    return printf("salvor %s\n", SALVOR_VERSION) < 0 ? 1 : 0;
}
