"""``-p tests.style``: ruff and mypy run beside the tests, in processes of their own, and fail the run as a test does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from launcher.cache import cache_folder

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("ruff check .", "mypy")


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    if hasattr(session.config, "workerinput"):  # one of xdist's workers
        return (yield)
    # Kept beyond this clone: mypy reads PyTorch once, in half a minute, and afterwards what has changed.
    environment = {"MYPY_CACHE_DIR": str(cache_folder() / "mypy"), **os.environ}
    with contextlib.ExitStack() as ended:
        running = []
        for tool in TOOLS:
            output = ended.enter_context(tempfile.TemporaryFile())
            command = [sys.executable, "-m", *tool.split()]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
            ended.callback(process.kill)
            running.append((tool, process, output))
        result = yield
        for tool, process, output in running:
            outcome = "failed" if process.wait() else "passed"
            output.seek(0)
            report = pytest.TestReport(tool, (tool, None, tool), {}, outcome, output.read().decode() or None, "call")
            session.config.hook.pytest_runtest_logreport(report=report)
    return result
