"""Small and read-only file systems for a test. Where mounting is not allowed the test is skipped with that reason."""
import contextlib
import subprocess
import time

import pytest


def run(*argv):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)


def mount(*args):
    done = run("mount", *args)
    if done.returncode != 0:
        pytest.skip("mount is not allowed here: " + done.stdout.strip())


def unmount(path):
    """Who still has a file open there is on the way out."""
    deadline = time.monotonic() + 10
    while run("umount", str(path)).returncode != 0:
        if time.monotonic() > deadline:
            run("umount", "-l", str(path))
            return
        time.sleep(0.1)


@contextlib.contextmanager
def tmpfs(path, size):
    """A file system of that size at the (made) directory."""
    path.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path))
    try:
        yield path
    finally:
        unmount(path)


@contextlib.contextmanager
def kept(path):
    """A file that cannot be removed: it is mounted over itself."""
    mount("--bind", str(path), str(path))
    try:
        yield path
    finally:
        unmount(path)


@contextlib.contextmanager
def switchable(path):
    """The directory mounted over itself: yields readonly(bool)."""
    path.mkdir(parents=True, exist_ok=True)
    mount("--bind", str(path), str(path))

    def readonly(on):
        deadline = time.monotonic() + 60
        while True:
            done = run("mount", "-o", "remount,bind," + ("ro" if on else "rw"), str(path))
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, done.stdout  # busy: a file is just being written
            time.sleep(0.02)

    try:
        yield readonly
    finally:
        unmount(path)
