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


@pytest.fixture
def train(comfyui, models, tmp_path):
    """Write a configuration and start the training; returns the process."""
    clips = tmp_path / "videos"
    clips.mkdir()
    for level in (60, 160):
        first, *rest = (Image.new("RGB", (SIZE, SIZE), (level, 20 * number, 0)) for number in range(FRAMES))
        first.save(clips / f"{level}.webp", save_all=True, append_images=rest, lossless=True)
        (clips / f"{level}.txt").write_text(f"level {level}")

    def start(name: str = "mine", processes: int = 1, **training: object) -> subprocess.Popen[str]:
        settings = {"steps": 2, "batch_size": 1, "dtype": "fp32", "checkpoint_every": 1, **training}
        lines = "\n".join(f"{key} = {value!r}" for key, value in settings.items())
        (tmp_path / "train.toml").write_text(
            f'[model]\ncheckpoint = "{models.checkpoint.as_posix()}"\n'
            f'[data]\nfolder = "videos"\nwidth = {SIZE}\nheight = {SIZE}\nframes = {FRAMES}\nstride = 1\n'
            f'[training]\n{lines}\n[output]\nfolder = "results"\nname = "{name}"\ndtype = "fp32"\n'
        )
        command = [sys.executable, PACK_ROOT / "loom.py", "train", tmp_path / "train.toml", "--processes", str(processes)]
        command += ["--comfyui", comfyui, "--python", sys.executable]
        environment = clean_environment(OMP_NUM_THREADS="1")
        return subprocess.Popen(
            list(map(str, command)), env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    return start


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


def test_from_videos_to_a_motion_model_and_on(train, tmp_path):
    output = finish(train())
    assert "2 clips, 2 samples of 4 frames." in output
    assert "Training starts, to step 2." in output
    assert "step 2/2, loss " in output
    file = tmp_path / "results" / "mine.safetensors"
    assert f"Saved '{file}'" in output
    config, weights, _ = checkpoint.convert(load_file(file))
    assert config.family.name == "V3"
    assert any(tensor.any() for name, tensor in weights.items() if "proj_out" in name)
    with safe_open(file, framework="pt") as saved:
        assert saved.metadata()["loom_steps"] == "2"
    first = losses(tmp_path)

    output = finish(train(steps=3))
    assert "Training goes on from step 2, to step 3." in output
    assert losses(tmp_path)[:2] == first
    assert len(losses(tmp_path)) == 3

    assert "loom: '" in (output := finish(train(steps=3, learning_rate=0.5), code=1))
    assert "learning_rate is 0.5, in the checkpoint 0.0001" in output
    assert "Traceback" not in output


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_stop_saves_what_there_is_and_the_same_command_goes_on(train, tmp_path):
    done = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = train(steps=1_000_000, checkpoint_every=1_000_000)
        assert process.stdout is not None
        begun = ""
        for line in process.stdout:
            begun += line
            if line.startswith(f"step {done + 1}/"):
                break
        assert done == 0 or f"Training goes on from step {done}, to step 1000000." in begun
        process.send_signal(number)
        output = finish(process)
        assert "the same command goes on from there" in output
        assert len(losses(tmp_path)) > done
        done = len(losses(tmp_path))
        assert f"Stopped after step {done};" in output


def test_two_processes_train_what_one_does(train, tmp_path):
    pytest.importorskip("accelerate")
    output = finish(train("two", processes=2, batch_size=1))
    assert output.count("Training starts") == 1
    finish(train("one", batch_size=2))
    assert losses(tmp_path, "two") == pytest.approx(losses(tmp_path, "one"), rel=1e-5)


def test_wrong_values_are_named_without_a_traceback(train):
    output = finish(train(stepss=3), code=1)
    assert "'training.stepss' is unknown. Known are: steps," in output
    assert "Traceback" not in output
    output = finish(train(ema_decay=2.0), code=1)
    assert "train.toml': training.ema_decay is 2.0. Expected 0.0 to 0.99999." in output
    assert "Traceback" not in output
