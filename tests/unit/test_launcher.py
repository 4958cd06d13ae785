"""loom.py and its launcher: what they find, make, refuse and clean up; with a ComfyUI of straw."""

from __future__ import annotations

import ast
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from launcher import cache, comfyui, commands, demo_models, demo_workflow, environment, server, virtual_environment
from launcher.errors import LoomError, PromptRejectedError
from launcher.processes import clean_environment
from launcher.server import ComfyServer

import loom

from .launcher_machine import (
    SERVING_MAIN,
    fake_comfyui,
    fake_python,
    is_alive,
    posix_only,
    private_machine,  # noqa: F401 - for all tests here
    wait_until,
    with_models,
)

ROOT = Path(__file__).resolve().parents[2]
DYING_MAIN = """
print("\\n".join(f"line {n}" for n in range(100)))
raise SystemExit("no such device")
"""


class TestFindingComfyUI:
    def test_order(self, tmp_path, monkeypatch):
        option = fake_comfyui(tmp_path / "named")
        variable = fake_comfyui(tmp_path / "variable")
        enclosing = fake_comfyui(tmp_path / "enclosing")
        comfy_cli = fake_comfyui(Path.home() / "comfy" / "ComfyUI")
        copy = fake_comfyui(cache.cache_folder() / "comfyui-0.30.0")
        monkeypatch.setenv("COMFYUI_PATH", str(variable))
        monkeypatch.setattr(comfyui, "PACK_ROOT", enclosing / "custom_nodes" / "any-name")

        assert comfyui.find_comfyui(str(option)).path == option
        assert comfyui.find_comfyui().path == variable
        assert comfyui.find_comfyui(comfyui.CACHED).path == copy
        monkeypatch.delenv("COMFYUI_PATH")
        assert comfyui.find_comfyui().path == enclosing
        shutil.rmtree(enclosing)
        assert comfyui.find_comfyui().path == comfy_cli
        shutil.rmtree(comfy_cli)
        assert comfyui.find_comfyui().path == copy

    def test_named_folder_that_is_not_comfyui(self, tmp_path, monkeypatch):
        with pytest.raises(LoomError, match=r"--comfyui.*is not ComfyUI"):
            comfyui.find_comfyui(str(tmp_path))
        monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
        with pytest.raises(LoomError, match=r"COMFYUI_PATH.*is not ComfyUI"):
            comfyui.find_comfyui()

    @pytest.mark.parametrize("version", ["0.30.0", "0.30.1", "0.33.0", "0.100.0", "1.0.0"])
    def test_new_enough(self, tmp_path, version):
        path = fake_comfyui(tmp_path / "ComfyUI", version)
        assert comfyui.find_comfyui(str(path)).version == version

    @pytest.mark.parametrize("version", ["0.3.50", "0.29.9"])
    def test_too_old(self, tmp_path, version):
        path = fake_comfyui(tmp_path / "ComfyUI", version)
        with pytest.raises(LoomError, match=rf"{version}.*0\.30\.0"):
            comfyui.find_comfyui(str(path))

    def test_model_folders(self, tmp_path):
        path = fake_comfyui(tmp_path / "ComfyUI")
        (path / "models" / "loras").mkdir(parents=True)
        found = comfyui.find_comfyui(str(path))
        assert found.model_folders() == {"loras": [path / "models" / "loras"]}


class TestCachedComfyUI:
    def left_in_cache(self) -> list[str]:
        return [path.name for path in cache.cache_folder().iterdir() if path.is_dir()]

    def test_wrong_hash_is_an_error_and_no_reason_to_look_elsewhere(self, monkeypatch):
        def download(folder: Path, _log: Path) -> Path:
            archive = folder / "x.tar.gz"
            archive.write_bytes(b"something else")
            return archive

        monkeypatch.setattr(comfyui, "download_archive", download)
        monkeypatch.setattr(comfyui, "_clone", lambda *_: pytest.fail("cloned"))
        with pytest.raises(LoomError, match=r"wrong hash.*de5d0c32"):
            comfyui.find_comfyui()
        assert self.left_in_cache() == []

    def test_pip_says_that_the_hash_is_wrong(self, tmp_path, monkeypatch):
        def refuse(_python, _arguments, log_path: Path) -> int:
            log_path.write_text("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM ...")
            return 1

        monkeypatch.setattr(comfyui, "run_pip", refuse)
        with pytest.raises(LoomError, match="wrong hash"):
            comfyui.download_archive(tmp_path, tmp_path / "log")

    def test_without_an_index_the_repository_is_cloned(self, monkeypatch):
        def clone(command: list, log_path: Path, **_settings) -> int:
            assert command[:2] == ["git", "clone"]
            fake_comfyui(command[-1])
            return 0

        monkeypatch.setattr(comfyui, "run_pip", lambda *_: 1)
        monkeypatch.setattr(comfyui, "run_logged", clone)
        monkeypatch.setattr(comfyui.shutil, "which", lambda _: "git")
        assert comfyui.is_comfyui(comfyui.find_comfyui().path)
        assert self.left_in_cache() == ["comfyui-0.30.0"]

    def test_neither_index_nor_repository(self, monkeypatch):
        def fail(*arguments, **_settings) -> int:
            arguments[-1].write_text("Could not resolve host")
            return 1

        monkeypatch.setattr(comfyui, "run_pip", fail)
        monkeypatch.setattr(comfyui, "run_logged", fail)
        monkeypatch.setattr(comfyui.shutil, "which", lambda _: "git")
        with pytest.raises(LoomError, match="neither") as failure:
            comfyui.find_comfyui()
        assert "Could not resolve host" in failure.value.report()
        assert self.left_in_cache() == []

    def test_interrupted(self, monkeypatch):
        def interrupt(folder: Path, _log: Path) -> Path:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

        monkeypatch.setattr(comfyui, "download_archive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            comfyui.find_comfyui()
        assert self.left_in_cache() == []

    def test_rest_of_a_killed_set_up_is_removed(self, tmp_path):
        (tmp_path / "thing.partial-99").mkdir()
        with cache.create_atomically(tmp_path / "thing") as folder:
            (folder / "file").touch()
        assert [path.name for path in tmp_path.glob("thing*")] == ["thing"]

    def test_only_the_wanted_folder_is_extracted(self, tmp_path):
        archive = tmp_path / "a.tar"
        with tarfile.open(archive, "w") as tar:
            for name in ("p/vendor/main.py", "p/vendor/a/b.py", "p/setup.py"):
                tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        comfyui.extract_folder(archive, "p/vendor/", tmp_path / "out")
        files = {path.relative_to(tmp_path / "out") for path in tmp_path.glob("out/**/*.py")}
        assert files == {Path("main.py"), Path("a/b.py")}

    @pytest.mark.parametrize("name", ["p/vendor/../../evil", "p/vendor//evil"])
    def test_unsafe_entry(self, tmp_path, name):
        archive = tmp_path / "a.tar"
        with tarfile.open(archive, "w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        with pytest.raises(LoomError, match="unsafe"):
            comfyui.extract_folder(archive, "p/vendor/", tmp_path / "out")


class TestEnvironment:
    @pytest.fixture
    def own(self, tmp_path) -> comfyui.ComfyUI:
        return comfyui.find_comfyui(str(fake_comfyui(tmp_path / "ComfyUI")))

    @pytest.fixture
    def pip(self, monkeypatch):
        """Environments that are made at once, by a pip that does what the test says."""
        calls: list[int | BaseException] = []

        def make(folder: Path, _log: Path) -> Path:
            python = virtual_environment.python_of(folder)
            python.parent.mkdir(parents=True)
            python.touch()
            return python

        def run(_python, _arguments, log_path: Path) -> int:
            log_path.write_text("No matching distribution")
            result = calls.pop(0)
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(environment, "make_bare_environment", make)
        monkeypatch.setattr(environment, "run_pip", run)
        monkeypatch.setattr(environment, "require_disk_space", lambda *_: None)
        monkeypatch.setattr(environment, "missing_modules", lambda *_: [])
        return calls

    def test_made_once(self, own, pip):
        pip += [0]
        python = environment.cached_python(own)
        assert environment.cached_python(own) == python

    @pytest.mark.parametrize("failure", [1, KeyboardInterrupt(), SystemExit(143)])
    def test_failure_leaves_nothing(self, own, pip, failure):
        pip += [failure]
        with pytest.raises((LoomError, KeyboardInterrupt, SystemExit)) as raised:
            environment.cached_python(own)
        assert not [path for path in cache.cache_folder().glob("python-*") if path.is_dir()]
        if failure == 1:
            assert "No matching distribution" in raised.value.report()

    def test_half_made_is_made_again(self, own, pip):
        pip += [0, 0]
        folder = environment.cached_python(own).parents[1]
        (folder / ".ready").unlink()
        (folder / "half").touch()
        environment.cached_python(own)
        assert not pip
        assert not (folder / "half").exists()

    def test_key_follows_the_requirements(self, own):
        before = environment.environment_key(own.requirements)
        own.requirements.write_text("# a remark\ntorch\n\n")
        assert environment.environment_key(own.requirements) == before
        own.requirements.write_text("torch\nnumpy\n")
        assert environment.environment_key(own.requirements) != before

    def test_requirements_in_another_encoding(self, own):
        own.requirements.write_bytes(b"# caf\xe9\ntorch\n")
        assert environment.environment_key(own.requirements)

    def test_full_disk(self, tmp_path):
        with pytest.raises(LoomError, match=r"PyTorch needs about 9999999.0 GB .* LOOM_CACHE"):
            cache.require_disk_space(tmp_path, 9999999, "PyTorch")

    def test_own_python_only_if_it_has_all(self, own, pip, monkeypatch):
        python = virtual_environment.python_of(own.path / ".venv")
        python.parent.mkdir(parents=True)
        python.touch()
        lacks = {python: []}
        monkeypatch.setattr(environment, "missing_modules", lambda path, _: lacks.get(path, ["x"]))
        assert environment.find_python(own) == python
        lacks[python] = ["pytest"]
        pip += [0]
        assert cache.cache_folder() in environment.find_python(own).parents

    def test_what_lies_in_the_current_folder_is_no_module(self, tmp_path, monkeypatch):
        (tmp_path / "torch_of_straw.py").touch()
        monkeypatch.chdir(tmp_path)
        assert environment.missing_modules(Path(sys.executable), ["json", "torch_of_straw"]) == ["torch_of_straw"]

    def test_named_python(self, own, tmp_path):
        assert environment.find_python(own, sys.executable, ["json"]) == Path(sys.executable)
        with pytest.raises(LoomError, match="lacks no_such_module"):
            environment.find_python(own, sys.executable, ["json", "no_such_module"])
        with pytest.raises(LoomError, match="does not run as Python"):
            environment.find_python(own, str(tmp_path / "nothing"))


class TestLock:
    HOLDER = (
        "import sys, time, pathlib; from launcher import cache\n"
        "with cache.lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(float(sys.argv[2]))"
    )

    def hold(self, target: Path, seconds: float) -> subprocess.Popen:
        command = [sys.executable, "-c", self.HOLDER, str(target), str(seconds)]
        child_environment = clean_environment(PYTHONPATH=str(ROOT))
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment)
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        return holder

    def test_left_behind(self, tmp_path):
        (tmp_path / "thing.lock").write_text("4194304")
        with cache.lock(tmp_path / "thing"):
            assert (tmp_path / "thing.lock").read_text() == str(os.getpid())

    def test_holder_was_killed(self, tmp_path):
        with self.hold(tmp_path / "thing", 60) as holder:
            holder.kill()
            holder.wait()
            with cache.lock(tmp_path / "thing"):
                pass

    def test_waits_for_a_living_holder(self, tmp_path, capsys):
        with self.hold(tmp_path / "thing", 0.6) as holder, cache.lock(tmp_path / "thing"):
            assert f"process {holder.pid}" in capsys.readouterr().out
            assert wait_until(lambda: holder.poll() is not None, 2)


class TestServer:
    @pytest.fixture
    def serving(self, tmp_path) -> Path:
        return fake_comfyui(tmp_path / "ComfyUI", main=SERVING_MAIN)

    @pytest.fixture
    def pack(self, tmp_path) -> Path:
        folder = tmp_path / "checkout"
        folder.mkdir()
        (folder / "__init__.py").touch()
        return folder

    def test_private_folders_come_and_go(self, serving, pack, tmp_path):
        model = tmp_path / "model.safetensors"
        model.write_text("weights")
        folders = {"loras": [tmp_path / "my loras"]}
        files = {"checkpoints": [model]}
        with ComfyServer(serving, pack=pack, model_folders=folders, model_files=files) as running:
            base = running.base_directory
            link = base / "custom_nodes" / "comfyui-animatediff-loom"
            assert (link / "__init__.py").is_file()
            assert (base / "models" / "checkpoints" / model.name).read_text() == "weights"
            assert "my loras" in (base / "extra_model_paths.yaml").read_text()
            assert f"--base-directory {base}" in running.log_text()
            assert "--cpu" in running.log_text()
        assert not base.exists()
        assert "arguments" in running.log_text()
        assert (pack / "__init__.py").is_file()
        assert model.is_file()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))

    def test_dies_while_starting(self, tmp_path):
        dying = fake_comfyui(tmp_path / "ComfyUI", main=DYING_MAIN)
        broken = ComfyServer(dying, pack=None)
        with pytest.raises(LoomError, match="exit code 1") as raised, broken:
            pytest.fail("started")
        report = raised.value.report().splitlines()
        assert report[-1] == "no such device"
        assert len(report) == 1 + 25
        assert not broken.base_directory.exists()

    def test_never_answers(self, tmp_path):
        silent = fake_comfyui(tmp_path / "ComfyUI", main="import time; time.sleep(60)")
        late = ComfyServer(silent, pack=None, start_timeout=0.3)
        with pytest.raises(LoomError, match="did not answer"), late:
            pytest.fail("started")
        assert not late.base_directory.exists()

    def test_pack_is_missing(self, serving, pack, monkeypatch):
        monkeypatch.setenv("MODULE", "nodes")
        with pytest.raises(LoomError, match="could not load the nodes"), ComfyServer(serving):
            pytest.fail("started")

    def test_import_error_in_a_log(self):
        name = "comfyui-animatediff-loom"
        log = (
            "Traceback (most recent call last):\nother\n\nstarting\n"
            "Traceback (most recent call last):\n  File x\nNameError: x\n\n"
            f"Cannot import /b/custom_nodes/{name} module for custom nodes: x\n"
            f"   0.0 seconds (IMPORT FAILED): /b/custom_nodes/{name}\nTo see the GUI\n"
        )
        lines = server.import_error(log).splitlines()
        assert lines[0].startswith("Traceback")
        assert lines[2] == "NameError: x"
        assert lines[-1].startswith("Cannot import")

    def test_port_in_use(self, serving):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(LoomError, match=f"Port {port} is already in use.*--port"):
                ComfyServer(serving, port=port).__enter__()

    @posix_only
    def test_stubborn_children_are_ended(self, serving, tmp_path, monkeypatch):
        monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
        with ComfyServer(serving, pack=None):
            pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
            assert all(map(is_alive, pids))
        assert wait_until(lambda: not any(map(is_alive, pids)), 2)

    def test_rejected_prompt_names_node_and_input(self):
        problem = {"message": "Value not in list", "details": "sampler_name: 'x'"}
        nodes = {"3": {"class_type": "KSampler", "errors": [problem]}}
        report = PromptRejectedError({"message": "Prompt outputs failed"}, nodes).report()
        assert "node 3 (KSampler): Value not in list: sampler_name: 'x'" in report


class TestCommandLine:
    def loom(self, *arguments: object, **settings: object) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "loom.py"), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **pipes, **settings)

    @pytest.fixture
    def files(self, tmp_path) -> dict[str, Path]:
        return {
            "old": fake_comfyui(tmp_path / "old", "0.3.0"),
            "new": fake_comfyui(tmp_path / "new"),
            "model": Path(__file__),
            "nothing": tmp_path / "nothing",
        }

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ("demo --comfyui {nothing}", "is not ComfyUI"),
            ("serve --comfyui {old}", "is ComfyUI 0.3.0, but AnimateDiff Loom needs 0.30.0"),
            ("test --comfyui {old}", "is ComfyUI 0.3.0, but AnimateDiff Loom needs 0.30.0"),
            ("demo --comfyui {new} --python {nothing}", "does not run as Python"),
            ("demo --checkpoint {model}", "--checkpoint and --motion-model together"),
            ("demo --checkpoint {model} --motion-model {nothing}", "no motion model file"),
        ],
    )
    def test_failure_is_one_sentence(self, files, arguments, sentence):
        process = self.loom(*arguments.format(**files).split())
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert sentence in errors
        assert errors.startswith("loom: ")
        assert len(errors.splitlines()) == 1
        assert output == ""

    def test_port_in_use(self, files):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            process = self.loom("demo", "--comfyui", files["new"], "--port", port)
            assert f"Port {port} is already in use" in process.communicate(timeout=60)[1]
            assert process.returncode == 1

    @posix_only
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
    def test_stopping_leaves_nothing(self, tmp_path, monkeypatch, name):
        number = getattr(signal, name)
        running = with_models(fake_comfyui(tmp_path / "ComfyUI", main=SERVING_MAIN))
        monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
        monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
        (tmp_path / "tmp").mkdir()
        arguments = ("--comfyui", running, "--python", fake_python(tmp_path))
        with self.loom("serve", *arguments, cwd=tmp_path) as process:
            assert process.stdout is not None
            assert wait_until(lambda: "http://127.0.0.1" in process.stdout.readline())
            pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
            process.send_signal(number)
            try:
                _, errors = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()  # or leaving the block would wait for ever
                raise
        assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
        assert "Traceback" not in errors
        assert wait_until(lambda: not any(map(is_alive, pids)), 2)
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_set_up_needs_the_standard_library_only(self):
        # -S: without site-packages
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import launcher.commands"
        assert subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False).returncode == 0

    def test_an_old_python_gets_as_far_as_the_sentence(self):
        ast.parse((ROOT / "loom.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_help_behind_a_module_is_the_modules():
    args = loom.parser().parse_args(["run", "--comfyui", "cached", "demo.claims", "--help", "--out", "folder"])
    assert (args.module, args.comfyui) == ("demo.claims", "cached")
    assert args.module_arguments == ["--help", "--out", "folder"]


def test_demo_models_of_other_weights_go_after_a_week(tmp_path):
    """Another clone may be running with them."""
    folder = tmp_path / "models"
    week = 7 * 24 * 3600
    for name, age in (("demo-models-mine", 2 * week), ("demo-models-recent", week - 60), ("demo-models-old", week + 60), ("other", 2 * week)):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (time.time() - age,) * 2)
    demo_models.remove_unused(folder / "demo-models-mine")
    assert {path.name for path in folder.iterdir()} == {"demo-models-mine", "demo-models-recent", "other"}


class TestServingTheDemo:
    def test_a_comfyui_without_models_gets_the_demos(self, tmp_path, monkeypatch):
        made = demo_models.DemoModels(tmp_path / "made" / "checkpoints" / "a.ckpt", tmp_path / "made" / "animatediff_models" / "b.ckpt")
        for file in (made.checkpoint, made.motion_model):
            file.parent.mkdir(parents=True)
        monkeypatch.setattr(commands, "demo_models", lambda *_: made)
        own = fake_comfyui(tmp_path / "ComfyUI")
        (own / "models" / "checkpoints").mkdir(parents=True)
        (own / "models" / "checkpoints" / "put_checkpoints_here").touch()
        found = comfyui.find_comfyui(str(own))
        folders, has_demo = commands._served_models(found, tmp_path)
        assert has_demo
        assert folders["checkpoints"] == [own / "models" / "checkpoints", made.checkpoint.parent]
        assert folders["animatediff_models"] == [made.motion_model.parent]
        assert commands._served_models(comfyui.find_comfyui(str(with_models(fake_comfyui(tmp_path / "other")))), tmp_path)[1] is False

    def test_what_was_changed_in_the_side_bar_stays(self, tmp_path):
        assert demo_workflow.put_into_side_bar(tmp_path)
        (copy,) = (tmp_path / "default" / "workflows").iterdir()
        assert copy.read_bytes() == demo_workflow.WORKFLOW.read_bytes()
        copy.write_text("mine")
        assert demo_workflow.put_into_side_bar(tmp_path)
        assert copy.read_text() == "mine"

    def test_a_folder_that_cannot_be_written_is_said(self, tmp_path, capsys):
        (tmp_path / "default").touch()
        assert not demo_workflow.put_into_side_bar(tmp_path)
        assert "is not among your workflows" in capsys.readouterr().out
