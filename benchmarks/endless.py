"""Memory of long clips in the graph: what a run in context windows holds beside one window's work.

    python3 loom.py run benchmarks.endless [--frames 256 1024 4096] [--pixels 64] [--channels 320]

One step of Euler's, cond and uncond, in static windows of 16 frames that overlap by 4. Counted are the bytes of all storages that
operations make and that are alive at the same time: once in a run of one window, with networks of random weights, and then in runs
of many frames, in which the UNet is left out, so that what is left is what grows with the frames. Columns:

- copies: what each frame more takes, in copies of its latent in float32; with Loom, FreeNoise and Shared Noise, with Loom alone,
  and with ComfyUI's own windows and sampler without a motion model.
- ratio: a run of one window and what more frames take with Loom, FreeNoise and Shared Noise, over a run of one window and the
  finished latents in float16.
"""

from __future__ import annotations

import argparse
import gc

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import torch
from comfy.model_patcher import ModelPatcher

from ..animation.shared_noise import SharedNoise
from ..animation.windowing import Windowing
from ..nodes.host.motion.context_windows import FrameWindowsHandler
from ..nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from ..nodes.host.runs.starting_noise import set_freenoise, set_shared_noise
from .windows import LENGTH, OVERLAP, PeakMemory, animated_model, core_handler, run, with_handler


def without_unet(model: ModelPatcher) -> ModelPatcher:
    model = model.clone()
    model.set_model_unet_function_wrapper(lambda apply_model, options: options["input"])
    return model


def models_of(channels: int) -> dict[str, ModelPatcher]:
    """What is compared, without UNets but the last, which is for one window's work."""
    animated = with_handler(animated_model(channels), FrameWindowsHandler(Windowing(LENGTH, OVERLAP)))
    noisy = without_unet(animated)
    set_freenoise(noisy, LENGTH, OVERLAP, closed_loop=False)
    set_shared_noise(noisy, SharedNoise().cutoff)
    core = with_handler(full_size.make_sd15(torch.float32, 32), core_handler(causal_window_fix=False))
    return {"Loom with noise": noisy, "Loom": without_unet(animated), "ComfyUI": without_unet(core), "window": animated}


def bytes_held(name: str, model: ModelPatcher, frames: int, pixels: int) -> int:
    """Bytes of a run's storages at its peak."""
    gc.collect()
    with PeakMemory() as memory:
        if name == "ComfyUI":
            run(model, frames, pixels)
        else:
            prompts = ([[torch.zeros(1, 77, 768), {"pooled_output": None}]] for _ in range(2))
            latent = {"samples": torch.zeros(frames, 4, pixels // 8, pixels // 8)}
            sample_clips(model, *prompts, latent, 1, SamplerSettings(0, 1, 7.5, "euler", "normal"))
    return memory.peak


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--channels", type=int, default=320, help="of the outermost level; 320 is full size")
    options = parser.parse_args()
    models, frame = models_of(options.channels), (options.pixels // 8) ** 2 * 4 * 4  # bytes of a latent in float32
    window = bytes_held("window", models.pop("window"), LENGTH, options.pixels)
    print(f"one window: {window / 1e6:.1f} MB", flush=True)
    least = {name: bytes_held(name, model, 2 * LENGTH, options.pixels) for name, model in models.items()}
    for frames in options.frames:
        more = {name: bytes_held(name, model, frames, options.pixels) - least[name] for name, model in models.items()}
        copies = ", ".join(f"{name} {count / (frames - 2 * LENGTH) / frame:.1f}" for name, count in more.items())
        ratio = (window + more["Loom with noise"]) / (window + frames * frame / 2)
        print(f"{frames} frames: copies {copies}; ratio {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
