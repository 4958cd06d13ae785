"""Virtual environments: one that sees no other packages, and how to install into it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import LoomError
from .processes import clean_environment, last_lines, run_logged


def python_of(environment: Path) -> Path:
    """Where an environment has its Python on this system."""
    if os.name == "nt":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def make_bare_environment(folder: Path, log_path: Path) -> Path:
    """An environment with nothing but pip; returns its Python."""
    if run_logged([sys.executable, "-m", "venv", folder], log_path) != 0:
        raise LoomError(
            "Python's venv module failed (on Debian and Ubuntu, install it with 'apt install python3-venv'). "
            "The end of its log:",
            last_lines(log_path, 8),
        )
    return python_of(folder)


def run_pip(python: str | Path, arguments: Sequence[object], log_path: Path) -> int:
    """Run a Python's pip with its output in a log; returns its exit code."""
    # A user's settings for their own environments would make pip refuse ours.
    settings = clean_environment(
        PIP_REQUIRE_VIRTUALENV="0", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1"
    )
    command = [python, "-m", "pip", "--no-input", *arguments]
    return run_logged(command, log_path, environment=settings)
