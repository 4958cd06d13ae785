"""One of several processes that train the toy together: run by ``torch.distributed.run`` with the file to write."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def main(output: str, batch_size: str, accumulation: str, stop_at: str) -> None:
    for name, path in (("pack", ROOT), ("toys", ROOT / "tests" / "unit")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    toys = importlib.import_module("toys.toy_training")
    trainers = importlib.import_module("pack.motion_models.training.trainer")
    import accelerate

    torch.set_num_threads(1)
    engine = accelerate.Accelerator(cpu=True, mixed_precision="no")
    motion_model = toys.toy_model()
    settings = toys.settings(batch_size=int(batch_size), accumulation=int(accumulation), gradient_clip=0.5)
    folder = Path(output).parent / "checkpoints"
    trainer = trainers.Trainer(motion_model, toys.ToyBase(motion_model), toys.ToyClips(), settings, folder, engine)
    first_step = trainer.step
    for result in trainer.run():
        # One process is asked, as by Ctrl-C; all must stop after the same step.
        if result.step == int(stop_at) and engine.process_index == engine.num_processes - 1:
            trainer.stop()
    weights = torch.cat([tensor.flatten() for tensor in trainer.weights().values()])
    everyones = engine.gather(weights[None])
    if engine.is_main_process:
        report = {
            "processes": engine.num_processes, "first_step": first_step, "losses": trainer.losses,
            "weights": trainer.weights(), "spread": (everyones - weights).abs().max().item(),
        }  # fmt: skip
        torch.save(report, output)
    engine.wait_for_everyone()  # who leaves while another still writes may be ended by a signal
    engine.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
