"""``loom.py train`` as a user runs it: from a folder of clips to a motion model, stopped, resumed, in two processes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launcher.pack import PACK_ROOT
from launcher.processes import clean_environment
from pack.motion_models import checkpoint
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

SIZE, FRAMES = 64, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of two clips, and of all that is trained on them."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "videos").mkdir()
    for level in (60, 160):
        first, *rest = (Image.new("RGB", (SIZE, SIZE), (level, 20 * number, 0)) for number in range(FRAMES))
        first.save(folder / "videos" / f"{level}.webp", save_all=True, append_images=rest, lossless=True)
        (folder / "videos" / f"{level}.txt").write_text(f"level {level}")
    return folder


@pytest.fixture(scope="module")
def train(comfyui, models, folder):
    """Write a configuration and start the training; returns the process."""

    def start(name: str = "mine", processes: int = 1, **training: object) -> subprocess.Popen[str]:
        settings = {"steps": 2, "batch_size": 2, "dtype": "fp32", "checkpoint_every": 1, **training}
        lines = "\n".join(f"{key} = {value!r}" for key, value in settings.items())
        (folder / "train.toml").write_text(
            f'[model]\ncheckpoint = "{models.checkpoint.as_posix()}"\n'
            f'[data]\nfolder = "videos"\nwidth = {SIZE}\nheight = {SIZE}\nframes = {FRAMES}\nstride = 1\n'
            f'[training]\n{lines}\n[output]\nfolder = "results"\nname = "{name}"\ndtype = "fp32"\n'
        )
        command = [sys.executable, PACK_ROOT / "loom.py", "train", folder / "train.toml", "--processes", str(processes)]
        command += ["--comfyui", comfyui, "--python", sys.executable]
        environment = clean_environment(OMP_NUM_THREADS="1")
        return subprocess.Popen(
            list(map(str, command)), env=environment, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    return start


@pytest.fixture(scope="module")
def trained(train) -> str:
    """What the program said of two steps, with whose motion model and checkpoints the others begin."""
    return finish(train())


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def losses(folder: Path, name: str = "mine") -> list[float]:
    with (folder / "results" / f"{name}_losses.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "loss"]
    assert [int(step) for step, _ in rows] == list(range(1, len(rows) + 1))
    return [float(loss) for _, loss in rows]


def test_from_videos_to_a_motion_model(trained, folder):
    assert "2 clips, 2 samples of 4 frames." in trained
    assert "Training starts, to step 2." in trained
    assert "step 2/2, loss " in trained
    file = folder / "results" / "mine.safetensors"
    assert f"Saved '{file}'" in trained
    config, weights, _ = checkpoint.convert(load_file(file))
    assert config.family.name == "V3"
    assert any(tensor.any() for name, tensor in weights.items() if "proj_out" in name)
    with safe_open(file, framework="pt") as saved:
        assert saved.metadata()["loom_steps"] == "2"
    assert len(losses(folder)) == 2


def test_two_processes_train_what_one_does(train, trained, folder):
    pytest.importorskip("accelerate")
    output = finish(train("two", processes=2, batch_size=1))
    assert output.count("Training starts") == 1
    assert losses(folder, "two") == pytest.approx(losses(folder)[:2], rel=1e-5)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_stop_saves_what_there_is_and_the_same_command_goes_on(train, trained, folder):
    before = losses(folder)
    done = len(before)
    process = train(steps=1_000_000, checkpoint_every=1_000_000)
    assert process.stdout is not None
    begun = ""
    for line in process.stdout:
        begun += line
        if line.startswith(f"step {done + 1}/"):
            break
    assert f"Training goes on from step {done}, to step 1000000." in begun
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert "the same command goes on from there" in output
    after = losses(folder)
    assert len(after) > done
    assert after[:done] == before
    assert f"Stopped after step {len(after)};" in output


def test_other_settings_than_the_checkpoints_are_refused(train, trained):
    assert "loom: '" in (output := finish(train(steps=3, learning_rate=0.5), code=1))
    assert "learning_rate is 0.5, in the checkpoint 0.0001" in output
    assert "Traceback" not in output


def test_wrong_values_are_named_without_a_traceback(train):
    output = finish(train(ema_decay=2.0), code=1)
    assert "train.toml': training.ema_decay is 2.0. Expected 0.0 to 0.99999." in output
    assert "Traceback" not in output
