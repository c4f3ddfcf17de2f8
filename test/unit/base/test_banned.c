/* The poisoned names must not break any header that the sources use: including them all is the test. */
#include "unit.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>
#include <wchar.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/json.h"

static void reentrant_forms_stay(void **state)
{
    (void)state;
    time_t when = 0;
    struct tm utc;

    assert_non_null(gmtime_r(&when, &utc));
    assert_int_equal(utc.tm_year, 70);
    assert_non_null(localtime_r(&when, &utc));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reentrant_forms_stay)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
