"""Ends a process group and removes its folder when their starter is gone, however it ended.

Run by path, with a folder or none. Standard input brings the pid of the group's leader; only the starter holds the other
end of it, so it ends when the starter does, kill -9 included. Standard library only, nothing else of the launcher.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

_PATIENCE = 5.0  # seconds


def signal_group(leader: int, force: bool) -> None:
    """Ask every process of a group to end, or end it."""
    if os.name == "nt":
        command = ["taskkill", "/F", "/T", "/PID", str(leader)]
        subprocess.run(command, capture_output=True, check=False)
        return
    # The leader's pid names the group as long as one member lives, even after the leader died.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL if force else signal.SIGTERM)


def _is_alive(leader: int) -> bool:
    if os.name == "nt":
        return False
    try:
        os.killpg(leader, 0)
    except OSError:
        return False
    return True


def main() -> None:
    if leader := sys.stdin.read().strip():
        signal_group(int(leader), force=False)
        deadline = time.monotonic() + _PATIENCE
        while _is_alive(int(leader)) and time.monotonic() < deadline:
            time.sleep(0.1)
        signal_group(int(leader), force=True)
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
