"""Several processes train together what one would alone: through ``accelerate``, on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pack.motion_models.training.trainer import Trainer

from .toy_training import ToyBase, ToyClips, settings, toy_model

pytest.importorskip("accelerate")

_SCRIPT = Path(__file__).with_name("training_process.py")


def run_processes(count: int, folder: Path, batch_size: int, accumulation: int = 1, stop_at: int = 0) -> dict:
    output = folder / "report.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += [str(_SCRIPT), str(output), str(batch_size), str(accumulation), str(stop_at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(output, weights_only=True)


def train_alone(batch_size: int, folder: Path | None = None) -> Trainer:
    motion_model = toy_model()
    changed = settings(batch_size=batch_size, gradient_clip=0.5)
    trainer = Trainer(motion_model, ToyBase(motion_model), ToyClips(), changed, folder)
    trainer.first_step = trainer.step
    for _ in trainer.run():
        pass
    return trainer


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-4, rtol=1e-4)


def test_two_processes_are_one_with_twice_the_batch_and_stop_together(tmp_path):
    """Until they are stopped, and again when one process goes on for them."""
    stopped, whole = run_processes(2, tmp_path, batch_size=1, accumulation=2, stop_at=2), train_alone(4)
    done = len(stopped["losses"])
    assert 2 <= done < 6
    assert stopped["processes"] == 2
    assert stopped["spread"] == 0.0  # both end with the same weights
    assert stopped["losses"] == pytest.approx(whole.losses[:done], rel=1e-5)
    resumed = train_alone(4, tmp_path / "checkpoints")
    assert resumed.first_step == done
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-5)
    assert_same_weights(resumed.weights(), whole.weights())
