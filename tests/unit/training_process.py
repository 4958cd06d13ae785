"""One of several processes that train the toy together, with the environment that ``torch.distributed.run`` gives them."""

from __future__ import annotations

from pathlib import Path

import torch
from pack.motion_models.training.trainer import Trainer

from .toy_training import ToyBase, ToyClips, settings, toy_model


def main(output: Path, batch_size: int, accumulation: int, stop_at: int) -> None:
    import accelerate

    torch.set_num_threads(1)
    engine = accelerate.Accelerator(cpu=True, mixed_precision="no")
    motion_model = toy_model()
    changed = settings(batch_size=batch_size, accumulation=accumulation, gradient_clip=0.5)
    trainer = Trainer(motion_model, ToyBase(motion_model), ToyClips(), changed, output.parent / "checkpoints", engine)
    first_step = trainer.step
    for result in trainer.run():
        # One process is asked, as by Ctrl-C; all must stop after the same step.
        if result.step == stop_at and engine.process_index == engine.num_processes - 1:
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
