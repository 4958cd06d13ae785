"""What a moving preview costs: making one, next to a sampling step.

    python3 loom.py run benchmarks.preview_cost [--frames 16] [--pixels 512] [--step-pixels 64] [--repeats 5]

The preview is that of a clip of ``--pixels``; it is made of latents, whatever the UNet. The step is one call of a full-size
SD1.5 UNet with a v3 motion model, random weights, frames x 2 conds, called as a sampler calls it. On a CPU a step at 512
pixels takes minutes, so it is taken at ``--step-pixels``; a larger one takes longer, at least as its pixels are more, so the
ratio that is printed is an upper bound. At most four previews a second are made, however short the steps are.
"""

from __future__ import annotations

import argparse
import statistics

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.model_management
import torch

from ..nodes.host import types
from ..nodes.host.motion.steered import MotionSettings
from ..nodes.host.runs.applying import apply_motion_model
from ..nodes.host.runs.moving_preview import as_film, frames_to_show
from .out_of_range import CONDS, one_step, seconds


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--step-pixels", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channels", type=int, default=full_size.FULL_WIDTH, help="of the outermost level (%(default)s, full size)")
    options = parser.parse_args()
    types.logger.setLevel("ERROR")  # few frames are worth a warning, but not here
    model = full_size.make_sd15(torch.float32, options.channels)
    model = apply_motion_model(model, full_size.make_motion_model(options.channels), MotionSettings())
    sigma = float(model.get_model_object("model_sampling").percent_to_sigma(0.5))
    conds = [[[torch.randn(1, 77, 768), {"pooled_output": None}]] for _ in range(CONDS)]
    noise = torch.randn(options.frames, 4, options.step_pixels // 8, options.step_pixels // 8)
    device = comfy.model_management.get_torch_device()
    latents = torch.randn(options.frames, 4, options.pixels // 8, options.pixels // 8, device=device)
    steps, previews = [], []
    for turn in range(options.repeats + 1):
        step = one_step(model, noise, sigma, conds)
        start = seconds()
        film = as_film(frames_to_show(latents, model.model.latent_format, clips=1))
        preview = seconds() - start
        if turn:  # the first one warms up
            steps.append(step)
            previews.append(preview)
    step, preview = statistics.median(steps), statistics.median(previews)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; {options.frames} frames x {CONDS} conds")
    print(f"step   : {step:.3f} s at {options.step_pixels} px")
    print(f"preview: {1000 * preview:.1f} ms at {options.pixels} px, {len(film) / 1024:.0f} KiB")
    print(f"ratio  : {100 * preview / step:.3f} %")


if __name__ == "__main__":
    main()
