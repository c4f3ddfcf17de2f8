"""Kills `salvor recover` at a counted operation of a named phase: what test/integration/killat.c is preloaded for, from the side of the tests."""
import os
import pathlib
import shutil
import signal
import struct
import subprocess

from protecttool import tool_path
from salvorbox import SALVOR

NONE = 0xFFFFFFFF
FORM = struct.Struct("<64s" + "32s" * 16 + "IIiIII16I")  # struct shared of killat.c


class KillAt:
    """For one source and one box. phases: in their order, as a recovery tells of them."""

    def __init__(self, box, source, phases):
        self.box, self.source, self.phases = box, source, phases
        self.path, self.log = box.root / "killat", box.root / "killed.log"
        self.library = shutil.copy(pathlib.Path(tool_path()).parent / "killat.so", box.root)  # a blank in its path would end the list of preloads

    def run(self, args, phase=None, after=0):
        """(exit status, the phase in which it was killed or None, calls counted of each phase)."""
        names = [n.encode() for n in self.phases] + [b""] * (16 - len(self.phases))
        self.path.write_bytes(FORM.pack(self.source.encode(), *names, NONE if phase is None else self.phases.index(phase), after, 0, NONE, 0, NONE, *[0] * 16))
        self.path.chmod(0o666)  # programs that run as the server's user count, too
        env = {**os.environ, **self.box.env, "LD_PRELOAD": str(self.library), "SALVOR_KILLAT": str(self.path), "ASAN_OPTIONS": "verify_asan_link_order=0"}
        with open(self.log, "wb") as log:
            process = subprocess.Popen([SALVOR, "--config", str(self.box.config), *map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
            try:
                status = process.wait(240)
            finally:
                process.kill()
                process.wait(60)
        found = FORM.unpack(self.path.read_bytes())
        killed, killed_in, counts = found[21], found[22], found[23:]
        assert (status == -signal.SIGKILL) == (killed == 1), f"{args}: status {status}, killed {killed}\n{self.log.read_text()}"
        return status, self.phases[killed_in] if killed else None, dict(zip(self.phases, counts))
