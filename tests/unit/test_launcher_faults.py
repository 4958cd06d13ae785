"""What goes wrong around loom.py: closed streams, Ctrl-C at any moment, kill -9, odd paths and arguments, a full disk."""

from __future__ import annotations

import ast
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from launcher import comfyui, commands, demo, environment, pack, virtual_environment
from launcher.demo_settings import DemoSettings
from launcher.errors import LoomError, exit_code
from PIL import Image

import loom

from .launcher_machine import (
    ROOT,
    SERVING_MAIN,
    fake_comfyui,
    fake_python,
    is_alive,
    posix_only,
    private_machine,  # noqa: F401 - for all tests here
    wait_until,
    with_models,
)

HELLO = """
import sys
from . import words
def main():
    print(words.HELLO, *sys.argv[1:])
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone in a folder with a colon, with small programs of its own."""
    folder = tmp_path / ("a:b" if os.name != "nt" else "a b") / "loom"
    for name in ("launcher", "migration"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "loom.py", folder / "loom.py")
    (folder / "demo").mkdir()
    (folder / "demo" / "words.py").write_text("HELLO = 'hello'")
    (folder / "demo" / "hello.py").write_text(HELLO)
    return folder


@pytest.fixture
def machine(tmp_path) -> list[object]:
    """Arguments that name a ComfyUI and a Python."""
    return ["--comfyui", with_models(fake_comfyui(tmp_path / "ComfyUI", main=SERVING_MAIN)), "--python", fake_python(tmp_path)]


def run(*command: object, **options) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *map(str, command)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(words, text=True, timeout=60, check=False, **streams)


def run_in_shell(script: str, *command: object, **options) -> subprocess.CompletedProcess[str]:
    words = ["sh", "-c", script, "sh", sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **options)


class TestPrograms:
    def test_every_program_can_be_named(self):
        def has_main(path: Path) -> bool:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)

        files = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "demo").glob("*.py")]
        assert set(pack.programs()) == {f"{path.parent.name}.{path.stem}" for path in files if has_main(path)}

    @pytest.mark.parametrize("name", ["nonexistent", "demo", "demo.clips", "launcher.demo", "demo/claims.py"])
    def test_an_unknown_one(self, name):
        result = run(ROOT / "loom.py", "run", name)
        assert result.returncode == 1
        assert result.stderr.startswith(f"loom: There is no program '{name}'. There are: benchmarks.")
        assert len(result.stderr.splitlines()) == 1

    @posix_only
    def test_of_a_clone_in_a_folder_with_a_colon(self, clone, machine, tmp_path):
        for name in ("launcher.py", "words.py", "demo.py"):  # of the folder where the user is; not to be imported
            (tmp_path / name).write_text("raise SystemExit('the wrong one')")
        result = run(clone / "loom.py", "run", *machine, "demo.hello", "--help", cwd=tmp_path)
        assert (result.stdout, result.stderr) == ("hello --help\n", "")

    def test_modules_of_comfyui_come_first(self, clone, tmp_path, monkeypatch):
        """It has a `server`, a `nodes` and others whose names are also the launcher's or the pack's."""
        path = fake_comfyui(tmp_path / "ComfyUI")
        (path / "server.py").write_text("NAME = 'of ComfyUI'")
        (clone / "demo" / "words.py").write_text("import server; HELLO = server.NAME")
        monkeypatch.setenv("COMFYUI_PATH", str(path))
        assert run(clone / "launcher" / "run.py", "demo.hello").stdout == "of ComfyUI\n"

    def test_modules_of_the_launcher_have_no_short_names(self, clone):
        """Others may try to import a `cache` or an `environment` that is none of ours."""
        code = "try: import environment\nexcept ModuleNotFoundError: HELLO = 'not found'\nelse: HELLO = environment.__file__"
        (clone / "demo" / "words.py").write_text(code)
        assert run(clone / "launcher" / "run.py", "demo.hello").stdout == "not found\n"

    def test_its_failures_are_sentences(self, clone):
        (clone / "demo" / "hello.py").write_text("def main(): open('nothing')")
        result = run(clone / "launcher" / "run.py", "demo.hello")
        assert (result.returncode, result.stderr) == (1, "loom: 'nothing': No such file or directory.\n")


class TestArguments:
    @pytest.mark.parametrize(
        "words", ["demo --comfyui", "test --python", "serve --out", "demo --checkpoint", "demo --motion-model", "train"]
    )
    def test_an_empty_one(self, words, capsys):
        with pytest.raises(SystemExit):
            loom.parser().parse_args([*words.split(), " "])
        assert "it is empty" in capsys.readouterr().err

    def test_an_empty_prompt_is_a_prompt(self, machine, monkeypatch, tmp_path):
        started: list[DemoSettings] = []
        monkeypatch.setattr(commands, "demo_models", lambda *_: commands.DemoModels(tmp_path, tmp_path))
        start = lambda words, _: started.append(DemoSettings.from_json(words[-1]))  # noqa: E731
        monkeypatch.setattr(commands, "replace_this_process", start)
        for prompt in ("", "a cat"):
            commands.demo(loom.parser().parse_args(["demo", "--prompt", prompt, *map(str, machine)]))
        commands.demo(loom.parser().parse_args(["demo", *map(str, machine)]))
        assert [settings.prompt for settings in started] == ["", "a cat", "a blue square moving down"]

    @pytest.mark.parametrize("command", ["demo", "serve"])
    def test_out_that_is_a_file_is_told_at_once(self, tmp_path, machine, command):
        (tmp_path / "file").touch()
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            result = run(ROOT / "loom.py", command, "--out", out, *machine)
            assert (result.returncode, result.stdout) == (1, "")
            assert result.stderr == f"loom: '{tmp_path / 'file'}' (--out) is not a folder.\n"

    def test_out_that_must_not_be_written_is_told_at_once(self, tmp_path, machine, monkeypatch):
        def refuse(**_options):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(commands.tempfile, "TemporaryFile", refuse)
        args = loom.parser().parse_args(["demo", "--out", str(tmp_path / "new"), *map(str, machine)])
        with pytest.raises(LoomError, match=r"new' \(--out\) can't be written: Read-only file system"):
            commands.demo(args)
        assert not (tmp_path / "new").exists()

    def test_home_of_nobody(self, capsys):
        with pytest.raises(SystemExit):
            loom.parser().parse_args(["demo", "--out", "~no-such-user/out"])
        assert "write out the whole path" in capsys.readouterr().err

    @posix_only
    def test_folder_that_was_deleted(self, tmp_path):
        result = run_in_shell('mkdir gone; cd gone; rmdir ../gone; exec "$@"', ROOT / "loom.py", "demo", cwd=tmp_path)
        assert "current folder does not exist" in result.stderr
        assert "Traceback" not in result.stderr

    @posix_only
    def test_a_relative_python_runs_in_any_folder(self, tmp_path, monkeypatch):
        fake_python(tmp_path)
        monkeypatch.chdir(tmp_path)
        own = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        assert environment.find_python(own, "./python") == tmp_path / "python"

    @posix_only
    def test_python_in_a_folder_that_must_not_be_read(self, tmp_path, monkeypatch):
        own = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        system_stat = os.stat

        def stat(path, **options):
            if str(path).startswith(str(virtual_environment.python_of(own.path / "venv"))):
                raise PermissionError(errno.EACCES, "Permission denied")
            return system_stat(path, **options)

        monkeypatch.setattr(os, "stat", stat)
        monkeypatch.setattr(environment, "missing_modules", lambda *_: [])
        assert environment.find_python(own) == Path(sys.executable)


class TestStreams:
    @posix_only
    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_closed(self, machine, closed):
        result = run_in_shell(f'exec "$@" {closed}', ROOT / "loom.py", "test", *machine, "--version")
        assert result.returncode == 0
        assert "pytest" in result.stdout or ">&-" in closed
        assert "Traceback" not in result.stderr

    @posix_only
    def test_reader_that_has_left(self, clone):
        reading, writing = os.pipe()
        os.close(reading)
        result = run(clone / "launcher" / "run.py", "demo.hello", stdout=writing)
        os.close(writing)
        assert (result.returncode, result.stderr) == (141, "")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    def test_full(self, clone):
        with open("/dev/full", "w") as full:
            result = run(clone / "launcher" / "run.py", "demo.hello", stdout=full)
        assert (result.returncode, result.stderr) == (1, "loom: No space left on device.\n")

    @posix_only
    def test_names_that_are_no_text(self, tmp_path):
        path = fake_comfyui(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")))
        result = run(ROOT / "loom.py", "test", "--comfyui", path, "--python", fake_python(tmp_path), "--version")
        assert result.returncode == 0, result.stderr
        assert "caf\\udce9" in result.stdout

    def test_errors_of_the_system_name_the_path(self, capsys):
        assert exit_code(lambda: Path("nothing/here").write_text("")) == 1
        assert capsys.readouterr().err == "loom: 'nothing/here': No such file or directory.\n"


@posix_only
class TestCtrlC:
    def interrupt(self, folder: Path, *command: object, **options) -> tuple[int, str]:
        """Start a command that makes a file ``importing`` and then waits in an import; press Ctrl-C there."""
        words = [sys.executable, *map(str, command)]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=folder, **options) as process:
            assert wait_until((folder / "importing").exists)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        return process.returncode, errors

    def slow_module(self, path: Path) -> None:
        path.write_text("import pathlib, time; pathlib.Path('importing').touch(); time.sleep(30)")

    def test_while_loom_py_is_imported(self, tmp_path):
        self.slow_module(tmp_path / "argparse.py")
        surroundings = os.environ | {"PYTHONPATH": str(tmp_path)}
        assert self.interrupt(tmp_path, ROOT / "loom.py", "demo", env=surroundings) == (-signal.SIGINT, "")

    def test_while_a_program_is_imported(self, clone, tmp_path):
        self.slow_module(clone / "demo" / "words.py")
        assert self.interrupt(tmp_path, clone / "launcher" / "run.py", "demo.hello") == (-signal.SIGINT, "")

    def test_while_pytest_is_imported(self, tmp_path):
        self.slow_module(tmp_path / "pytest.py")
        assert self.interrupt(tmp_path, "-c", commands._PYTEST) == (-signal.SIGINT, "")

    def test_while_a_program_runs(self, clone, tmp_path):
        self.slow_module(clone / "demo" / "words.py")
        (clone / "demo" / "hello.py").write_text("def main(): from . import words")
        code, errors = self.interrupt(tmp_path, clone / "launcher" / "run.py", "demo.hello")
        assert (code, errors) == (130, "\nStopped.\n")


@posix_only
def test_kill_leaves_nothing(tmp_path, machine, monkeypatch):
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    words = [sys.executable, ROOT / "loom.py", "serve", *machine]
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert wait_until(lambda: "http://127.0.0.1" in process.stdout.readline())
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        process.kill()
    assert wait_until(lambda: not any(map(is_alive, pids)))
    assert wait_until(lambda: not list((tmp_path / "tmp").iterdir()))


class TestSaving:
    @contextmanager
    def files_of_at_most(self, size: int):
        """As on a disk with so many bytes left."""
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    @pytest.fixture(scope="class")
    def animation(self) -> bytes:
        frames = [Image.effect_noise((64, 64), 100 + n).convert("RGB") for n in range(3)]
        file = io.BytesIO()
        frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], quality=20)
        return file.getvalue()

    @pytest.mark.parametrize(
        ("left", "kept", "named"),
        [(0.5, [], "animation_0001.webp"), (1.1, ["animation_0001.webp"], "animation_0001_frame_01.png")],
    )
    def test_full_disk(self, tmp_path, animation, left, kept, named):
        sentence = f"{named}' can't be saved: File too large"
        with self.files_of_at_most(int(left * len(animation))), pytest.raises(LoomError, match=sentence):
            demo.save(animation, tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == kept

    def test_what_is_there_is_kept(self, tmp_path, animation):
        (tmp_path / "animation_0001.webp").write_text("mine")
        saved = demo.save(animation, tmp_path)
        names = [f"animation_0002{end}" for end in (".webp", "_frame_01.png", "_frame_02.png", "_frame_03.png")]
        assert [path.name for path in saved] == names
        assert (tmp_path / "animation_0001.webp").read_text() == "mine"
