"""A cache that is damaged, left half made, somebody else's or nowhere: it mends itself, or one sentence says what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from launcher import cache, comfyui, commands, demo_models, devices, environment, virtual_environment
from launcher.errors import LoomError
from launcher.processes import clean_environment

from .launcher_machine import ROOT, fake_comfyui, private_machine  # noqa: F401 - for all tests here


def refuse(*_arguments, **_options):
    raise PermissionError(13, "Permission denied")


class TestNoHome:
    @pytest.fixture(autouse=True)
    def nobody(self, monkeypatch):
        pwd = pytest.importorskip("pwd")

        def unknown(_user):
            raise KeyError

        monkeypatch.delenv("HOME")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", unknown)

    def test_a_named_cache_is_enough(self):
        copy = fake_comfyui(cache.cache_folder() / "comfyui-0.30.0")
        assert comfyui.find_comfyui().path == copy

    def test_without_a_cache_it_is_asked_for(self, monkeypatch):
        monkeypatch.delenv("LOOM_CACHE")
        with pytest.raises(LoomError, match="no home folder.*LOOM_CACHE"):
            cache.cache_folder()

    @pytest.mark.parametrize("variable", ["LOOM_CACHE", "COMFYUI_PATH"])
    def test_tilde(self, monkeypatch, variable):
        monkeypatch.setenv(variable, "~/somewhere")
        with pytest.raises(LoomError, match="'~/somewhere' begins with a home folder"):
            comfyui.find_comfyui()


def test_home_of_another_user_is_passed_over(monkeypatch):
    """As `sudo -E` keeps it."""
    system_stat = os.stat

    def stat(path, **options):
        return refuse() if "comfy/ComfyUI" in str(path) else system_stat(path, **options)

    copy = fake_comfyui(cache.cache_folder() / "comfyui-0.30.0")
    monkeypatch.setattr(os, "stat", stat)
    assert comfyui.find_comfyui().path == copy


def test_a_named_folder_that_must_not_be_read_is_not_said_to_lack_files(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(LoomError, match="is not ComfyUI: Permission denied"):
        comfyui.find_comfyui(str(tmp_path))


def test_version_file_in_another_encoding(tmp_path):
    path = fake_comfyui(tmp_path / "ComfyUI")
    (path / "comfyui_version.py").write_bytes(b'# caf\xe9\n__version__ = "0.31.0"\n')
    assert comfyui.find_comfyui(str(path)).version == "0.31.0"


class TestDamagedComfyUI:
    @pytest.fixture(autouse=True)
    def repository(self, monkeypatch):
        def clone(command: list, log_path: Path, **_settings) -> int:
            fake_comfyui(command[-1])
            return 0

        monkeypatch.setattr(comfyui, "download_archive", lambda *_: None)
        monkeypatch.setattr(comfyui, "run_logged", clone)
        monkeypatch.setattr(comfyui.shutil, "which", lambda _: "git")

    @pytest.fixture
    def copy(self) -> Path:
        return comfyui.find_comfyui().path

    def test_a_missing_file(self, copy, capsys):
        (copy / "requirements.txt").unlink()
        comfyui.find_comfyui()
        assert (copy / "requirements.txt").is_file()
        assert "is damaged" in capsys.readouterr().out

    def test_a_file_cut_short(self, copy, capsys):
        (copy / "comfyui_version.py").write_text("")
        assert comfyui.find_comfyui().version == "0.30.0"
        assert "'comfyui_version.py' has another size" in capsys.readouterr().out
        assert (copy / "comfyui_version.py").read_text()

    @pytest.mark.parametrize("what", ["folder", "file", "damaged list of sizes"])
    def test_what_is_no_copy_at_all(self, copy, what):
        if what == "damaged list of sizes":
            (copy / ".sizes.json").write_text("[")
        else:
            shutil.rmtree(copy)
            copy.mkdir() if what == "folder" else copy.touch()
        assert comfyui.is_comfyui(comfyui.find_comfyui().path)

    def test_what_comfyui_adds_is_no_damage(self, copy, capsys):
        (copy / "comfy" / "__pycache__").mkdir()
        (copy / "comfy" / "__pycache__" / "x.pyc").touch()
        capsys.readouterr()
        comfyui.find_comfyui()
        assert capsys.readouterr().out == ""

    def test_a_copy_of_an_earlier_loom_is_kept(self, copy, capsys):
        (copy / ".sizes.json").unlink()
        capsys.readouterr()
        comfyui.find_comfyui()
        assert capsys.readouterr().out == ""


class TestDemoModels:
    @pytest.fixture(autouse=True)
    def assemble(self, monkeypatch):
        def run(command: list, _log: Path, **_settings) -> int:
            for folder, name in (("checkpoints", "loom_demo"), ("animatediff_models", "loom_demo_motion")):
                (command[-1] / folder).mkdir()
                (command[-1] / folder / f"{name}.safetensors").write_text("weights")
            return 0

        monkeypatch.setattr(demo_models, "run_logged", run)

    @pytest.fixture
    def models(self, tmp_path):
        self.comfyui = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        return demo_models.demo_models(self.comfyui, Path(sys.executable))

    @pytest.mark.parametrize("content", ["we", None])
    def test_damaged(self, models, content):
        models.checkpoint.unlink()
        if content is not None:
            models.checkpoint.write_text(content)
        demo_models.demo_models(self.comfyui, Path(sys.executable))
        assert models.checkpoint.read_text() == "weights"

    def test_somebody_elses(self, models, monkeypatch):
        monkeypatch.setattr(os, "utime", refuse)
        assert demo_models.demo_models(self.comfyui, Path(sys.executable)) == models


class TestDamagedEnvironment:
    newly_made = "all"

    @pytest.fixture(autouse=True)
    def pip(self, monkeypatch):
        """Makes environments at once; says of each whether Python runs in it and finds all modules."""

        def make(folder: Path, _log: Path) -> Path:
            python = virtual_environment.python_of(folder)
            python.parent.mkdir(parents=True)
            python.write_text(self.newly_made)
            return python

        def missing(python: Path, needed) -> list[str] | None:
            lacks = {"all": [], "no torch": ["torch"]}.get(python.read_text())
            return None if lacks is None else [name for name in needed if name in lacks]

        monkeypatch.setattr(environment, "make_bare_environment", make)
        monkeypatch.setattr(environment, "run_pip", lambda *_: 0)
        monkeypatch.setattr(environment, "require_disk_space", lambda *_: None)
        monkeypatch.setattr(environment, "missing_modules", missing)

    @pytest.mark.parametrize(("state", "said"), [("no torch", "it lacks torch"), (None, "its Python is gone")])
    def test_made_again(self, tmp_path, capsys, state, said):
        own = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        python = environment.cached_python(own)
        python.unlink()
        if state is not None:
            python.write_text(state)
        environment.cached_python(own)
        assert python.read_text() == "all"
        assert said in capsys.readouterr().out

    def test_a_file_in_its_place(self, tmp_path):
        own = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        folder = environment.cached_python(own).parents[1]
        shutil.rmtree(folder)
        folder.touch()
        assert environment.cached_python(own).read_text() == "all"

    def test_one_that_does_not_run_just_now_is_kept(self, tmp_path):
        own = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        python = environment.cached_python(own)
        python.write_text("out of memory")
        with pytest.raises(LoomError, match="does not run.*remove"):
            environment.cached_python(own)
        assert python.is_file()

    def test_what_it_never_had_is_no_damage(self, tmp_path, capsys):
        self.newly_made = "no torch"
        own = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        environment.cached_python(own)
        capsys.readouterr()
        environment.cached_python(own)
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("content", ["complete\n", "3"])
    def test_one_of_an_earlier_loom_is_kept(self, tmp_path, capsys, content):
        own = comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))
        python = environment.cached_python(own)
        (python.parents[1] / ".ready").write_text(content)
        capsys.readouterr()
        environment.cached_python(own)
        assert capsys.readouterr().out == ""
        python.write_text("no torch")
        environment.cached_python(own)
        assert python.read_text() == "all"

    def test_others_that_were_left_half_made_go(self, tmp_path, capsys):
        for name in ("python-3.11-half", "python-3.11-whole"):
            (cache.cache_folder() / name).mkdir()
            (cache.cache_folder() / f"{name}.lock").touch()
        (cache.cache_folder() / "python-3.11-whole" / ".ready").touch()
        environment.cached_python(comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI"))))
        assert not (cache.cache_folder() / "python-3.11-half").exists()
        assert "which you can remove if unused: python-3.11-whole." in capsys.readouterr().out


class TestAccelerators:
    @pytest.fixture
    def asked(self, monkeypatch):
        answer = subprocess.CompletedProcess([], 0, stdout="True\n")
        monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: answer)
        devices.has_accelerator.cache_clear()
        return cache.cache_folder() / "accelerators.json"

    @pytest.mark.parametrize("content", ["[1]", "1", "{", "[" * 100_000, '{"%s": "yes"}', None])
    def test_damaged(self, asked, content):
        asked.unlink()
        if content is None:
            asked.mkdir()
        else:
            key = json.dumps(devices.memory_key(Path(sys.executable)))[1:-1]
            asked.write_text(content.replace("%s", key))
        assert devices.has_accelerator(Path(sys.executable)) is True
        assert not list(asked.parent.glob("*.partial-*"))

    def test_somebody_elses(self, asked, monkeypatch):
        asked.unlink()
        monkeypatch.setattr(Path, "write_text", refuse)
        assert devices.has_accelerator(Path(sys.executable)) is True


class TestLeftovers:
    def test_of_a_killed_process_go(self):
        folder = cache.cache_folder()
        (folder / "comfyui-0.30.0.partial-99").mkdir()
        (folder / "comfyui-0.30.0.partial-work-abc").mkdir()
        (folder / "comfyui-0.30.0.lock").write_text("99")
        (folder / "accelerators.json.partial-99").touch()
        hour_ago = time.time() - 3600
        os.utime(folder / "accelerators.json.partial-99", (hour_ago, hour_ago))
        cache.remove_leftovers()
        assert not list(folder.glob("*.partial-*"))

    def test_what_another_process_is_making_stays(self):
        target = cache.cache_folder() / "comfyui-0.30.0"
        partial = target.with_name(f"{target.name}.partial-99")
        partial.mkdir()
        code = (
            "import sys, pathlib; from launcher import cache\n"
            "with cache.lock(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
        )
        command, pipe = [sys.executable, "-c", code, str(target)], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=clean_environment(PYTHONPATH=str(ROOT))) as maker:
            maker.stdout.readline()
            cache.remove_leftovers()
            assert partial.exists()
            maker.communicate()
        cache.remove_leftovers()
        assert not partial.exists()


def test_lock_that_is_a_folder(tmp_path):
    (tmp_path / "thing.lock").mkdir()
    with pytest.raises(LoomError, match=r"thing\.lock': .*Remove that folder"), cache.lock(tmp_path / "thing"):
        pass


def test_cache_that_must_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LoomError, match="Permission denied.*LOOM_CACHE"), cache.lock(tmp_path / "thing"):
        pass


def test_disk_that_fills_up_names_the_place(tmp_path):
    with pytest.raises(LoomError, match=r"thing' \(No space left.*LOOM_CACHE"), cache.create_atomically(tmp_path / "thing"):
        raise OSError(28, "No space left on device")


def test_half_a_gigabyte_is_not_called_0(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage(2**20))
    with pytest.raises(LoomError, match=r"needs about 0\.5 GB"):
        cache.require_disk_space(tmp_path, 0.5, "It")


@pytest.mark.parametrize("what", ["file", "not writable"])
def test_settings_of_the_editor_are_kept_with_the_images_where_the_cache_takes_none(tmp_path, monkeypatch, capsys, what):
    if what == "file":
        (cache.cache_folder() / "user").touch()
    else:
        monkeypatch.setattr(commands.tempfile, "TemporaryFile", refuse)
    folder = commands._user_folder(tmp_path)
    assert folder == tmp_path / "user"
    assert folder.is_dir()
    assert str(folder) in capsys.readouterr().out
