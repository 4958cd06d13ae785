"""A ComfyUI server for one run: private folders, this pack, and no trace of it afterwards."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .comfyui import environment_for
from .devices import has_accelerator
from .errors import LoomError
from .pack import PACK_NAME, PACK_ROOT
from .processes import ProcessGroup, last_lines, read_log

HOST = "127.0.0.1"
# The server is on this machine: a proxy from the environment must not be asked for it.
_open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ComfyServer:
    """ComfyUI as a child process, from ``__enter__`` (ready to answer) to ``__exit__`` (gone).

    ::

        with ComfyServer(comfyui=Path("/opt/ComfyUI")) as server:
            print(server.url)  # http://127.0.0.1:40231

    Args:
        comfyui: ComfyUI's folder; nothing is written into it.
        python: The Python that has ComfyUI's requirements; None is the running one.
        pack: The pack to load, or None for plain ComfyUI. No other custom node is loaded, but for
        more_packs: other packs to load, by the names of their folders in ``custom_nodes``.
        model_folders: Folders of model files to offer, by ComfyUI's folder name, for example
            ``{"checkpoints": [Path("/data/checkpoints")]}``; they are only read.
        model_files: Single model files to offer under their own names, likewise.
        port: The port to listen on; None takes a free one.
        extra_args: More arguments for ComfyUI's ``main.py``.
        log_path: Where ComfyUI's output goes; None keeps it beside the private folders.
        start_timeout: Seconds until a server that doesn't answer counts as dead.

    Attributes:
        url: ``http://127.0.0.1:<port>``, without a slash at the end.
        base_directory: The private folder with ComfyUI's ``input``, ``output``, ``temp``,
            ``user``, ``models`` and ``custom_nodes``. It is removed at the end.

    Raises:
        LoomError: (by ``with``) The port is taken, ComfyUI died or never answered (with the end of
            its log), or the pack's nodes are missing (with the import error).
    """

    def __init__(
        self,
        comfyui: Path,
        python: Path | None = None,
        *,
        pack: Path | None = PACK_ROOT,
        more_packs: Mapping[str, Path] | None = None,
        model_folders: Mapping[str, Sequence[Path]] | None = None,
        model_files: Mapping[str, Sequence[Path]] | None = None,
        port: int | None = None,
        extra_args: Sequence[str] = (),
        log_path: Path | None = None,
        start_timeout: float = 300.0,
    ) -> None:
        self.comfyui = Path(comfyui).absolute()
        self.python = Path(python or sys.executable)
        self.pack = pack
        self._packs = {**({} if pack is None else {PACK_NAME: pack}), **(more_packs or {})}
        self.port = port or 0
        self.url = ""
        self.base_directory = Path()
        self._model_folders = dict(model_folders or {})
        self._model_files = dict(model_files or {})
        self._extra_args = list(extra_args)
        self._log_path = log_path
        self._start_timeout = start_timeout
        self._group: ProcessGroup | None = None
        self._last_log = ""

    def __enter__(self) -> ComfyServer:
        self.port = claim_port(self.port)
        self.url = f"http://{HOST}:{self.port}"
        # Resolved, since macOS's temporary folder is behind a symbolic link.
        self.base_directory = Path(tempfile.mkdtemp(prefix="animatediff-loom-")).resolve()
        try:
            self._start()
            self._wait_until_ready()
            if self.pack is not None:
                self._check_pack()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    @property
    def log_path(self) -> Path:
        return self._log_path or self.base_directory / "comfyui.log"

    def log_text(self) -> str:
        """Everything ComfyUI has printed so far; after the end, everything it printed."""
        if self._group is None:
            return self._last_log
        return read_log(self.log_path)

    def wait(self, seconds: float | None = None) -> None:
        """Block until the server ends by itself, or for some seconds.

        Raises:
            LoomError: It has ended; with the end of its log.
        """
        if self._group is None or self._group.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._group.process.wait(seconds)
            message = f"ComfyUI ended with exit code {code}; the end of its log:"
            raise LoomError(message, last_lines(self.log_path))

    def stop(self) -> None:
        """End the server's whole process group and remove its private folders; may be repeated."""
        try:
            if self._group is not None:
                self._group.stop()
                self._last_log = self.log_text()
                self._group = None
        finally:
            remove_base_directory(self.base_directory)

    def _start(self) -> None:
        custom_nodes = self.base_directory / "custom_nodes"
        custom_nodes.mkdir()
        for name, folder in self._packs.items():
            link_folder(custom_nodes / name, folder)
        for kind, files in self._model_files.items():
            folder = self.base_directory / "models" / kind
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                link_file(folder / file.name, file.absolute())
        # Without --cpu ComfyUI doesn't even start where PyTorch sees no device of its own.
        device = [] if has_accelerator(self.python) else ["--cpu"]
        command = [self.python, self.comfyui / "main.py", *device, *self._arguments()]
        with self.log_path.open("wb") as log:
            environment = environment_for(self.comfyui)
            self._group = ProcessGroup(command, log, self.comfyui, environment, self.base_directory)
            self._group.start()

    def _arguments(self) -> list[str]:
        arguments = ["--base-directory", str(self.base_directory)]
        arguments += ["--disable-all-custom-nodes", "--disable-api-nodes", "--disable-auto-launch"]
        if self._packs:
            arguments += ["--whitelist-custom-nodes", *self._packs]
        arguments += ["--database-url", "sqlite:///:memory:"]
        arguments += ["--listen", HOST, "--port", str(self.port)]
        if self._model_folders:
            config = self.base_directory / "extra_model_paths.yaml"
            # A byte of a path that is no text becomes an escape sequence, which YAML reads as the same byte.
            text = _model_paths_yaml(self._model_folders)
            config.write_text(text, encoding="utf-8", errors="backslashreplace")
            arguments += ["--extra-model-paths-config", str(config)]
        return arguments + self._extra_args

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not self._answers():
            self.wait(0.1)
            if time.monotonic() > deadline:
                raise LoomError(
                    f"ComfyUI did not answer within {self._start_timeout:.0f} seconds.",
                    last_lines(self.log_path),
                )
        self.wait(0)  # or somebody else answered on a port that ours didn't get

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/system_stats")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _check_pack(self) -> None:
        """ComfyUI only logs a pack that it can't import, and runs on without it."""
        try:
            nodes = node_schemas(self.url)
        except LoomError as error:
            raise LoomError(str(error), last_lines(self.log_path)) from error
        module = f"custom_nodes.{PACK_NAME}"
        if not any(node.get("python_module") == module for node in nodes.values()):
            raise LoomError(
                f"ComfyUI could not load the nodes in '{self.pack}':",
                import_error(self.log_text()) or last_lines(self.log_path),
            )


def node_schemas(url: str) -> dict[str, dict[str, Any]]:
    """The schemas of all nodes of a running ComfyUI, by node type.

    Raises:
        LoomError: There is no ComfyUI, or it does not answer as one.
    """
    try:
        with _open_url(f"{url.rstrip('/')}/object_info", timeout=120) as response:
            nodes: dict[str, dict[str, Any]] = json.load(response)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LoomError(f"ComfyUI at {url} can't list its nodes: {error}.") from error
    return nodes


def claim_port(port: int) -> int:
    """A free port of this machine; 0 picks any.

    Raises:
        LoomError: The wanted port is in use.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name != "nt":  # as ComfyUI binds: a port that was just left is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            reason = "is already in use" if in_use else f"can't be used ({error.strerror})"
            raise LoomError(f"Port {port} {reason}; name another with --port.") from error
        return int(probe.getsockname()[1])


def link_folder(link: Path, target: Path) -> None:
    """Make ``target`` visible as ``link``; on Windows by a junction, which needs no privilege."""
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # type: ignore[attr-defined]
    else:
        link.symlink_to(target, target_is_directory=True)


def link_file(link: Path, target: Path) -> None:
    """Make a file visible as ``link``, in the cheapest way that this system and disk allow."""
    for make in (os.symlink, os.link, shutil.copyfile):
        try:
            make(target, link)
        except OSError:
            if make is shutil.copyfile:
                raise
        else:
            return


def remove_base_directory(base_directory: Path) -> None:
    """Remove a private folder; the links in it go first, so that nothing is removed behind them."""
    if base_directory == Path():
        return
    custom_nodes = base_directory / "custom_nodes"
    for link in custom_nodes.iterdir() if custom_nodes.is_dir() else ():
        if link.is_symlink():
            link.unlink()
        elif link.is_dir():
            link.rmdir()  # a junction; fails on a folder with something in it, as it should
    shutil.rmtree(base_directory, ignore_errors=True)


def import_error(log: str, most: int = 25) -> str:
    """The lines of ComfyUI's log that say why a pack could not be loaded."""
    lines = log.splitlines()
    reports = [i for i, line in enumerate(lines) if PACK_NAME in line and "seconds" not in line]
    if not reports:
        return ""
    end = reports[-1] + 1  # the traceback, if there is one, stands above its report
    starts = [i for i, line in enumerate(lines[:end]) if line.startswith("Traceback")]
    start = starts[-1] if starts else reports[0]
    return "\n".join(lines[max(start, end - most) : end])


def _model_paths_yaml(folders: Mapping[str, Sequence[Path]]) -> str:
    """ComfyUI's extra model paths: one section, a text with one path a line per kind of model."""
    section = {
        kind: "\n".join(str(Path(path).absolute()) for path in paths)
        for kind, paths in folders.items()
        if paths
    }
    return json.dumps({"animatediff_loom": section}, ensure_ascii=False)  # JSON is YAML
