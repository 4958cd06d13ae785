"""Child processes that never outlive this one."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from . import guard
from .errors import LoomError

# The last two: the terminal window was closed, on POSIX and on Windows.
_STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
# Where a parent process's Python looks for modules must not leak into another Python: with
# PYTHONSAFEPATH ComfyUI doesn't find itself, with PYTHONPATH it may find somebody else's `nodes`.
_PYTHON_SETTINGS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONSTARTUP")

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def clean_environment(**additions: str) -> dict[str, str]:
    """This process's environment for another Python: neither our paths nor user site-packages."""
    environment = {k: v for k, v in os.environ.items() if k not in _PYTHON_SETTINGS}
    environment |= {"PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return environment | additions


def open_standard_streams() -> None:
    """Replace standard streams that are closed (``>&-``), and let the others print any text."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Otherwise the next file that is opened, such as a log, becomes the children's standard output.
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes, and not every terminal takes UTF-8


def exit_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into an exception, so that ``with`` blocks end as on Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in _STOP_SIGNALS:
        if number != signal.SIGINT:
            signal.signal(number, leave)


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Hold signals back: one that arrived between a fork and its return would lose the child."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only reach the main thread
        return
    arrived: list[tuple[int, Any]] = []
    previous = {
        number: signal.signal(number, lambda *call: arrived.append(call))
        for number in _STOP_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            if handler is not None:  # None: not set from Python, and no way to set it again
                signal.signal(number, handler)
        for number, frame in arrived:
            handler = previous[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
            elif handler == signal.SIG_DFL:
                raise SystemExit(128 + number)


def _own_group() -> dict[str, Any]:
    """``Popen``'s options for a process that Ctrl-C in this one's terminal doesn't reach."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
    return {"start_new_session": True}


class ProcessGroup:
    """A command in a process group of its own, which ends as a whole when the block is left or this process dies.

    Args:
        command: Program and arguments; paths are turned into text.
        log: Where standard output and standard error go.
        cwd: Working directory; None is the current one.
        environment: The whole environment; None is ``clean_environment()``.
        folder: A folder to remove if this process is killed.
    """

    def __init__(
        self,
        command: Sequence[object],
        log: IO[Any],
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._command = [str(word) for word in command]
        self._options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": subprocess.STDOUT,
            "cwd": cwd,
            "env": dict(environment) if environment is not None else clean_environment(),
        }
        self._folder = folder
        self._guard: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        with _signals_deferred():
            self._guard = self._start_guard()
            try:
                self.process = subprocess.Popen(self._command, **self._options, **_own_group())
                assert self._guard.stdin is not None
                self._guard.stdin.write(str(self.process.pid).encode())
                self._guard.stdin.flush()
            except BaseException:
                self.stop()
                raise
        return self.process

    def _start_guard(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", guard.__file__, *([str(self._folder)] if self._folder else [])]
        null = subprocess.DEVNULL
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, **_own_group())

    def stop(self, patience: float = 5.0) -> None:
        """End every process of the group: politely, and after ``patience`` seconds for sure."""
        try:
            if self.process is not None and self.process.poll() is None:
                guard.signal_group(self.process.pid, force=False)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
        finally:  # also on a second Ctrl-C
            if self.process is not None:
                guard.signal_group(self.process.pid, force=True)
                self.process.wait()
                self.process = None
            if self._guard is not None:
                self._guard.kill()
                self._guard.communicate()
                self._guard = None

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def read_log(path: Path) -> str:
    """A log without its colours; empty if there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return _COLOURS.sub("", text)


def last_lines(path: Path, count: int = 25) -> str:
    """The end of a log, for an error message."""
    return "\n".join(read_log(path).splitlines()[-count:])


def run_logged(
    command: Sequence[object],
    log_path: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a command to its end with its output added to a log; returns its exit code."""
    with log_path.open("ab") as log:
        log.write(f"$ {' '.join(map(str, command))}\n".encode(errors="backslashreplace"))
        log.flush()
        try:
            with ProcessGroup(command, log, cwd, environment) as process:
                return process.wait()
        except FileNotFoundError as error:
            raise LoomError(f"'{command[0]}' is not there or can't be run.") from error


def replace_this_process(
    command: Sequence[object], environment: Mapping[str, str], cwd: Path | None = None
) -> NoReturn:
    """Go on as another command, which gets this process's terminal, signals and exit code."""
    words = [str(word) for word in command]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # exec there returns to the shell at once, so wait for a child instead
        child = subprocess.Popen(words, env=dict(environment), cwd=cwd)
        while True:
            # Ctrl-C goes to every process of the console: the child tidies up, then we leave.
            with contextlib.suppress(KeyboardInterrupt):
                raise SystemExit(child.wait())
    if cwd is not None:
        os.chdir(cwd)
    os.execve(words[0], words, dict(environment))
