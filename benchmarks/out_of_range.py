"""What a motion model costs outside of its part of the run: nothing, if all is well.

    python3 loom.py run benchmarks.out_of_range [--frames 16] [--pixels 64] [--repeats 9]

Frames x 2 conds through a full-size SD1.5 UNet with random weights, called as a sampler calls it, through all of
ComfyUI's wrappers. Three MODELs in turns in one process, at the same noise level: without a motion model, with one that
is out of its range there, and with one that is in it. Printed are seconds per UNet call, the best of the turns and their
median, and their ratios to the model without. On a CPU these are the process's own seconds, which others on the machine
do not add to.
"""

from __future__ import annotations

import argparse
import statistics
import time

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.model_management
import comfy.samplers
import torch

from ..nodes.host import types
from ..nodes.host.motion.steered import MotionSettings
from ..nodes.host.runs.applying import apply_motion_model

CONDS = 2


def one_step(model, noise: torch.Tensor, sigma: float, conds: list[list]) -> float:
    """Sample a step of one UNet call, and return the seconds that the call itself took."""
    taken = []

    def timed(executor, *args, **kwargs):
        start = seconds()
        out = executor(*args, **kwargs)
        taken.append(seconds() - start)
        return out

    model = model.clone()
    model.add_wrapper_with_key("predict_noise", "benchmark", timed)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*conds)
    guider.set_cfg(7.5)
    sigmas = torch.tensor([sigma, 0.0])
    guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True)
    return sum(taken)


def seconds() -> float:
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--channels", type=int, default=full_size.FULL_WIDTH, help="of the outermost level (%(default)s, full size)")
    options = parser.parse_args()
    plain = full_size.make_sd15(torch.float32, options.channels)
    motion = full_size.make_motion_model(options.channels)
    models = {
        "without": plain,
        "out of range": apply_motion_model(plain, motion, MotionSettings(start_percent=0.0, end_percent=0.4)),
        "in range": apply_motion_model(plain, motion, MotionSettings(start_percent=0.4, end_percent=1.0)),
    }
    types.logger.setLevel("ERROR")  # so few frames are worth a warning, but not here
    sigma = float(plain.get_model_object("model_sampling").percent_to_sigma(0.7))
    noise = torch.randn(options.frames, 4, options.pixels // 8, options.pixels // 8)
    conds = [[[torch.randn(1, 77, 768), {"pooled_output": None}]] for _ in range(CONDS)]
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(options.repeats + 1):
        names = list(models)[turn % 3 :] + list(models)[: turn % 3]  # so that none is always first
        for name in names:
            taken = one_step(models[name], noise, sigma, conds)
            if turn:  # the first one warms up
                times[name].append(taken)
    device = comfy.model_management.get_torch_device()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; {options.frames} frames x {CONDS} conds, {options.pixels} px")
    best, median = (
        {name: statistic(values) for name, values in times.items()} for statistic in (min, statistics.median)
    )
    for name in models:
        print(
            f"{name:12}: {best[name]:.3f} s a call at best, {median[name]:.3f} s in the middle; "
            f"{best[name] / best['without']:.3f} and {median[name] / median['without']:.3f} times without",
            flush=True,
        )


if __name__ == "__main__":
    main()
