"""A test run that is ended is over, and its servers and workers with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).parent.parent
SLEEPS = """
import os, time
from pathlib import Path
import pytest

@pytest.fixture
def _same_random_numbers():
    pass  # and no PyTorch

@pytest.fixture(scope="session")
def server():
    yield
    Path(__file__).with_name("server_ended").touch()

def test_sleeps(server):
    Path(__file__).with_name("begun").write_text(str(os.getpid()))
    time.sleep(120)

def test_follows():
    Path(__file__).with_name("went_on").touch()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
@pytest.mark.parametrize(("name", "workers"), [("SIGTERM", 0), ("SIGHUP", 0), ("SIGINT", 0), ("SIGTERM", 2)])
def test_a_run_that_is_ended_ends(tmp_path, name, workers):
    (tmp_path / "test_sleeps.py").write_text(SLEEPS, encoding="utf-8")
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-n", str(workers)]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    run = subprocess.Popen(command, cwd=TESTS.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    begun = tmp_path / "begun"
    try:
        deadline = time.monotonic() + 60
        while not (begun.exists() and begun.read_text()) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        worker = int(begun.read_text())
        run.send_signal(getattr(signal, name))
        output, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert (tmp_path / "server_ended").exists()
    assert not (tmp_path / "went_on").exists()
    assert not psutil.pid_exists(worker)
