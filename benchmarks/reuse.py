"""What reuse saves: calls of motion modules and of the UNet's blocks, and time, in one run.

    python3 loom.py run benchmarks.reuse [--steps 20] [--frames 16] [--pixels 64] [--intervals 3 4] [--repeats 1]

A full-size SD1.5 UNet and a v3 motion model with random weights, cond and uncond, Euler. Whole runs in turns in one process: without
a motion model, with one, and with Reuse Motion at each interval, for the motion modules alone and for the deep layers, too. Columns:

- calls: of motion modules, and of the UNet's residual blocks, relative to those without reuse.
- motion part: (time - time without a motion model), relative to that without reuse.
- whole: time, relative to that without reuse. On a CPU these are the process's own seconds, the best of the turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.model_management
import comfy.sample
import torch

from ..demo.counted import BLOCKS, MOTION, counted_calls
from ..nodes.host import types
from ..nodes.host.motion.steered import MotionSettings
from ..nodes.host.runs.applying import apply_motion_model
from ..nodes.reuse_motion import ReuseMotionNode


def seconds() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def run(model, options: argparse.Namespace) -> None:
    latent = torch.zeros(options.frames, 4, options.pixels // 8, options.pixels // 8)
    prompts = ([[torch.randn(1, 77, 768), {"pooled_output": None}]] for _ in range(2))
    comfy.sample.sample(
        model, torch.randn_like(latent), options.steps, 7.5, "euler", "normal", *prompts, latent, disable_pbar=True, seed=0
    )


def measure(runs: dict[str, Callable[[], None]], motion_model: torch.nn.Module, repeats: int) -> dict[str, tuple[float, dict[str, int]]]:
    """Seconds and calls of each run, in turns."""
    found: dict[str, tuple[float, dict[str, int]]] = {}
    for _ in range(repeats):
        for name, function in runs.items():
            with counted_calls(motion_model) as calls:
                began = seconds()
                function()
                taken = seconds() - began
            found[name] = (min(taken, found.get(name, (taken,))[0]), calls)
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--intervals", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--channels", type=int, default=full_size.FULL_WIDTH, help="of the outermost level (%(default)s, full size)")
    options = parser.parse_args()
    plain, motion = full_size.make_sd15(torch.float32, options.channels), full_size.make_motion_model(options.channels)
    types.logger.setLevel("ERROR")  # so few frames are worth a warning, but not here
    animated = apply_motion_model(plain, motion, MotionSettings())
    models = {"without motion": plain, "without reuse": animated}
    for interval in options.intervals:
        models[f"interval {interval}"] = ReuseMotionNode.execute(animated, interval).result[0]
        models[f"interval {interval}, deep {interval}"] = ReuseMotionNode.execute(animated, interval, interval).result[0]
    device = comfy.model_management.get_torch_device()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; {options.frames} frames x 2 conds, {options.pixels} px, {options.steps} steps")
    run(plain, argparse.Namespace(**{**vars(options), "steps": 1}))  # the first one warms up
    found = measure({name: partial(run, model, options) for name, model in models.items()}, motion.model, options.repeats)
    alone, whole = found["without motion"][0], found["without reuse"]
    for name, (taken, calls) in found.items():
        motion_calls, blocks = (calls[kind] / whole[1][kind] for kind in (MOTION, BLOCKS))
        print(
            f"{name:18}: calls of motion modules {motion_calls:.2f}, of UNet blocks {blocks:.2f}; motion part "
            f"{(taken - alone) / (whole[0] - alone):+.2f}, whole {taken / whole[0]:.2f} ({taken:.1f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
