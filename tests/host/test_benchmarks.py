"""Every benchmark runs, imported as ``loom.py run benchmarks.NAME`` does it, if only on networks of 32 channels."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from launcher.comfyui import find_comfyui
from launcher.demo_models import demo_models
from pack.nodes.host.training import frozen_base
from pack.nodes.host.types import logger

from .world import SMALL_UNET

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NARROW = ["--channels", "32"]
RUNS = {
    # its arguments, and what it prints
    "endless": ([*NARROW, "--frames", "24"], r"24 frames: copies Loom with noise [\d.]+, Loom [\d.]+, ComfyUI [\d.]+; ratio"),
    "full_size_files": ([*NARROW, "--only", "HotshotXL", "--dtypes", "float16"], r"HotshotXL_float16\S+: .* finite, moved"),
    "gpu": ([*NARROW, "--pixels", "32", "--frames", "2", "--dtypes", "float32", "--no-compile"], r"failed: nothing"),
    "loading": ([*NARROW, "--repeats", "1", "--dtypes", "float32"], r"seconds  : Loom [\d.]+ s, load_file [\d.]+ s, ratio"),
    "motion_overhead": ([*NARROW, "--pixels", "64", "--dtypes", "float32", "--repeats", "1", "--profile"], r"profile: \w+ [\d.]+%(.|\n)*in situ, Loom : diffusers = -?[\d.]+"),
    "out_of_range": ([*NARROW, "--frames", "4", "--repeats", "1"], r"in range    : [\d.]+ s a call at best"),
    "preview_cost": ([*NARROW, "--frames", "4", "--step-pixels", "64", "--repeats", "1"], r"preview: .* KiB\nratio  : [\d.]+ %"),
    "render_memory": (["--frames", "6", "--size", "32", "--chunk", "4"], r"6 frames: \d+ MB beyond \d+ MB with the models"),
    "reuse": (
        [*NARROW, "--pixels", "32", "--frames", "2", "--steps", "5", "--intervals", "3"],
        r"interval 3, deep 3: calls of motion modules 0.60, of UNet blocks 0.6",
    ),
    "training_memory": (["--size", "64", "--frames", "2", "--dtypes", "fp32"], r"fp32, without gradient checkpointing: base .*peak"),
    "windows": ([*NARROW, "--pixels", "32", "--frames", "24", "--repeats", "1"], r"memory, 48 : 12 frames = [\d.]+"),
}


def test_every_benchmark_is_run_here():
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*RUNS, "full_size"}


@pytest.mark.parametrize("name", RUNS)
def test_benchmark_runs(name, monkeypatch, capsys, tmp_path):
    arguments, printed = RUNS[name]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(frozen_base, "_MOST_SCORES", frozen_base._MOST_SCORES)  # put back what benchmarks change
    monkeypatch.setattr(logger, "level", logger.level)
    benchmark = importlib.import_module(f"pack.benchmarks.{name}")
    if name == "render_memory":
        sys.argv += ["--models", str(demo_models(find_comfyui(None), Path(sys.executable)).checkpoint.parents[1])]
    if name == "loading":  # without starting a process for each reader
        monkeypatch.setattr(benchmark, "in_a_process", lambda reader, dtype, path: benchmark.measure(reader, str(path)))
    if name == "training_memory":  # whose tensors have no contents, so that its time is that of the UNet's depth
        for key, value in SMALL_UNET.items():
            monkeypatch.setitem(benchmark.SD15, key, value)
    with torch.inference_mode(False):
        benchmark.main()
    assert re.search(printed, capsys.readouterr().out)
