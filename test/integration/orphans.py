"""Servers of a test that end with it, whatever ends it: SIGKILL too."""
import ctypes
import os
import signal
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def popen(argv, **options):
    """subprocess.Popen of a process that is killed when the thread that starts it ends: start servers from the main thread."""
    parent = os.getpid()

    def die_with_parent():  # between fork and exec: nothing here may take a lock
        if LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(127)

    return subprocess.Popen(argv, preexec_fn=die_with_parent, **options)
