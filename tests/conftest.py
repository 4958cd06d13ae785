"""The pack under a fixed name, whatever its folder is called, and without running its ComfyUI entry point."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import types
from collections.abc import Generator
from pathlib import Path

import hypothesis
import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent


def _register(name: str, path: Path) -> None:
    package = types.ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package


_register("pack", ROOT)
_register("launcher", ROOT / "launcher")
_register("migration", ROOT / "migration")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# For networks of 32 channels threads cost more than they bring, in servers, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Several workers must collect the tests in the same order, be they made from a set.
os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))


# How long an example takes says nothing on a machine at work. The same examples at every run: a failure comes with its change.
hypothesis.settings.register_profile("loom", deadline=None, derandomize=True)
hypothesis.settings.load_profile("loom")


def pytest_configure(config: pytest.Config) -> None:
    def interrupt(*_: object) -> None:
        if config.pluginmanager.hasplugin("dsession"):  # xdist would only ask its workers to end after their test
            for child in psutil.Process().children():
                child.terminate()
        raise KeyboardInterrupt

    # A run that is ended ends its servers, as on Ctrl-C. Pytest takes SystemExit for a failure of the test, and goes on.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), interrupt)
    # Shells start background jobs with Ctrl-C ignored, which children would inherit; the launcher's tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    import torch

    torch.manual_seed(0)


# --- several workers (-n 2) -------------------------------------------------------------------------------------------

# The tests of a folder that share a server or a browser stay on one worker, and start first, being many.
SHARE_A_SERVER = ("server", "editor")
# Half of the editor's tests, which would last longest: they have a server and a browser of their own.
OTHER_EDITOR = ("editor/test_editor.py", "editor/test_preview.py", "editor/test_report.py")
OWN_PROCESSES = ("server/test_train_program.py", "server/test_versions.py")  # no server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.nodeid.partition("/")[0] not in SHARE_A_SERVER)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()  # what is imported stays: there is no need to walk through it, now or whenever garbage is collected
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        """A file stays on one worker: it makes its fixtures once."""

        def _split_scope(self, nodeid: str) -> str:
            folder = nodeid.partition("/")[0]
            if nodeid.startswith(OTHER_EDITOR):
                return "other editor"
            if nodeid.startswith(OWN_PROCESSES):
                return super()._split_scope(nodeid)
            return folder if folder in SHARE_A_SERVER else super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduler(config, log)
