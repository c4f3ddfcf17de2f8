"""Where the throw-away servers and folders of tests lie.

In memory, where there is plenty of it: nothing of them has to outlive the test, let alone the machine, and to make and to remove thousands of files on a disk takes longer
than most of what is tested with them. What a disk loses when the power goes is tried in test/crash.
"""
import os

MEMORY = "/dev/shm"
FREE_BYTES_LEAST = 6 << 30  # several tests at once, of which the largest (a value of 300 MB: log, spool, vault, target) takes 2 GiB


def available_bytes():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("MemAvailable:"))


def scratch():
    """A directory that anybody may make folders in: $SALVOR_TEST_SCRATCH, else in memory, else /tmp, where the long runs always are."""
    if os.environ.get("SALVOR_TEST_SCRATCH"):
        return os.environ["SALVOR_TEST_SCRATCH"]
    try:
        found = os.statvfs(MEMORY)
        small = min(found.f_bavail * found.f_frsize, available_bytes()) < FREE_BYTES_LEAST
    except (OSError, StopIteration):
        return "/tmp"
    # From where nothing may be executed no library can be preloaded either.
    return "/tmp" if small or found.f_flag & os.ST_NOEXEC or os.environ.get("SALVOR_SOAK") == "1" or not os.access(MEMORY, os.W_OK) else MEMORY
