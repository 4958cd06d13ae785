"""Which Python runs ComfyUI: its own if that has everything, else an environment in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .cache import cache_folder, ensure_complete, remove, remove_unless_locked, require_disk_space
from .comfyui import ComfyUI
from .errors import LoomError
from .pack import PACK_ROOT
from .paths import absolute
from .processes import clean_environment, last_lines
from .virtual_environment import make_bare_environment, python_of, run_pip

REQUIREMENTS = PACK_ROOT / "tests" / "requirements.txt"
# The last two tell a Python with ComfyUI's requirements from one that only has PyTorch.
NEEDED_TO_RUN = (
    *("torch", "aiohttp", "PIL", "safetensors"),
    *("comfy_aimdo", "comfyui_frontend_package"),
)
NEEDED_TO_TEST = (*NEEDED_TO_RUN, "pytest", "xdist", "diffusers", "hypothesis", "playwright")
_MODULES = (*NEEDED_TO_TEST, "accelerate")

_READY = ".ready"  # the modules an environment came with; written last: without it, it is half made
_ENVIRONMENT_GIB = 8.0
_QUESTION = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]))
"""


def find_python(
    comfyui: ComfyUI, option: str | None = None, needed: Iterable[str] = NEEDED_TO_RUN
) -> Path:
    """A Python with all needed modules; the cached environment is set up the first time.

    Args:
        comfyui: The ComfyUI it is to run.
        option: The Python the user named, which then must do; or None.
        needed: Modules it must have.

    Raises:
        LoomError: The named Python lacks a module, or the environment can't be made.
    """
    needed = tuple(needed)
    if option is not None:
        python = absolute(shutil.which(option) or option)
        missing = missing_modules(python, needed)
        if missing is None:
            raise LoomError(f"'{python}' (--python) does not run as Python.")
        if missing:
            raise LoomError(f"'{python}' (--python) lacks {', '.join(missing)}.")
        return python
    if comfyui.is_users_own:
        for python in _own_pythons(comfyui.path):
            if missing_modules(python, needed) == []:
                return python
        print(f"No Python of '{comfyui.path}' has all of {', '.join(needed)}; using Loom's own.")
    return cached_python(comfyui, needed)


def _own_pythons(comfyui: Path) -> Iterator[Path]:
    pythons = [python_of(comfyui / "venv"), python_of(comfyui / ".venv")]
    pythons.append(comfyui.parent / "python_embeded" / "python.exe")  # sic: the portable build
    pythons.append(Path(sys.executable))  # an activated environment, a container
    # Unlike Path.is_file, this doesn't raise where the folder may not be read.
    return (python for python in pythons if os.path.isfile(python))


def missing_modules(python: Path, needed: Iterable[str]) -> list[str] | None:
    """Which modules a Python lacks; it is asked, nothing is imported. None: it doesn't run."""
    command = [str(python), "-I", "-c", _QUESTION, *needed]  # -I: not what lies in the current folder
    try:
        answer = subprocess.run(
            command, env=clean_environment(), capture_output=True, text=True, check=True
        )
        missing: list[str] = json.loads(answer.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return missing


def cached_python(comfyui: ComfyUI, needed: Iterable[str] = NEEDED_TO_RUN) -> Path:
    """The Python of the environment for this ComfyUI's requirements, set up if it is missing or damaged."""
    folder = cache_folder() / f"python-{environment_key(comfyui.requirements)}"
    python = python_of(folder)

    def damage() -> str:
        came_with = _came_with(folder)
        if came_with is None:
            return "its set-up was stopped"
        if not python.is_file():  # follows the link to the Python that it was made with
            return "its Python is gone"
        # What it never had would be missing again: not every system has every module.
        missing = missing_modules(python, [name for name in needed if name in came_with])
        if missing is None:  # perhaps for want of memory: no reason to throw gigabytes away
            raise LoomError(f"'{python}' does not run. Should it never, remove '{folder}', and the next run makes it anew.")
        return f"it lacks {', '.join(missing)}" if missing else ""

    ensure_complete(folder, damage, lambda: make_environment(folder, comfyui.requirements))
    return python


def _came_with(folder: Path) -> list[str] | None:
    """The modules that were in an environment when it was complete; None if it never was."""
    try:
        names = json.loads((folder / _READY).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        names = None
    return names if isinstance(names, list) else list(_MODULES)  # an earlier Loom wrote no list


def _tidy_up_beside(folder: Path) -> None:
    """Remove half-made environments; others may be in use or for another ComfyUI, so the user decides."""
    others = {path for path in folder.parent.glob("python-*") if path.is_dir()} - {folder}
    for path in sorted(others):
        if not (path / _READY).is_file():
            remove_unless_locked(path, path)
    if names := ", ".join(path.name for path in sorted(others) if path.is_dir()):
        print(f"Other environments in the same folder, which you can remove if unused: {names}.")


def environment_key(requirements: Path) -> str:
    """Changes with our pins, ComfyUI's requirements and the Python version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(f"{version} {sys.platform} {platform.machine()}".encode())
    for path in (REQUIREMENTS, requirements):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        digest.update("\n".join(["", *wanted]).encode())
    return f"{version}-{digest.hexdigest()[:12]}"


def make_environment(folder: Path, comfyui_requirements: Path) -> None:
    """Make the environment where it stays, since environments can't be moved.

    On any exception, Ctrl-C included, it is removed again; a killed set-up is seen by the missing
    marker, and its rest is removed here. So call this only under ``lock(folder)``.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (folder / _READY).unlink()  # first, should the removal be stopped
    remove(folder)
    require_disk_space(folder.parent, _ENVIRONMENT_GIB, "A Python environment with PyTorch")
    log_path = folder.with_name(f"{folder.name}.log")
    log_path.unlink(missing_ok=True)
    print(
        "Setting up a Python environment with PyTorch and ComfyUI's requirements (once; this takes a few minutes "
        f"and about 7 GB):\n  folder {folder}\n  log {log_path}",
        flush=True,
    )
    try:
        python = make_bare_environment(folder, log_path)
        wanted = ["install", "-r", REQUIREMENTS, "-r", comfyui_requirements]
        if run_pip(python, wanted, log_path) != 0:
            raise LoomError(
                "pip could not install the requirements; the end of its log:",
                last_lines(log_path, 15),
            )
        missing = missing_modules(python, _MODULES) or []
        came_with = [name for name in _MODULES if name not in missing]
        (folder / _READY).write_text(json.dumps(came_with), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _tidy_up_beside(folder)
