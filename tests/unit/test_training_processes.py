"""Several processes train together what one would alone: through ``accelerate``, on the CPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
from pack.motion_models.training.trainer import Trainer

from . import training_process
from .toy_training import ToyBase, ToyClips, settings, toy_model

pytest.importorskip("accelerate")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that need no imports of their own are forked")


def run_processes(count: int, folder: Path, batch_size: int, accumulation: int = 1, stop_at: int = 0) -> dict:
    output, fork = folder / "report.pt", multiprocessing.get_context("fork")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = str(free.getsockname()[1])
    processes = []
    for rank in map(str, range(count)):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        with pytest.MonkeyPatch.context() as environment:
            for name, value in place.items():
                environment.setenv(name, value)
            processes.append(fork.Process(target=training_process.main, args=(output, batch_size, accumulation, stop_at)))
            processes[-1].start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
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


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    report, trainer = run_processes(2, tmp_path, batch_size=2), train_alone(batch_size=4)
    assert report["processes"] == 2
    assert report["spread"] == 0.0  # both end with the same weights
    assert report["losses"] == pytest.approx(trainer.losses, rel=1e-5)
    assert_same_weights(report["weights"], trainer.weights())


def test_processes_stop_together_and_one_goes_on_for_them(tmp_path):
    stopped = run_processes(2, tmp_path, batch_size=1, accumulation=2, stop_at=2)
    assert 2 <= len(stopped["losses"]) < 6
    resumed, whole = train_alone(4, tmp_path / "checkpoints"), train_alone(4)
    assert resumed.first_step == len(stopped["losses"])
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-5)
    assert_same_weights(resumed.weights(), whole.weights())
