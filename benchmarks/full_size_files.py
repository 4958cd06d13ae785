"""Make full-size motion-model files of random weights in all layouts, load each, apply it to its base and run it.

    python3 loom.py run benchmarks.full_size_files [--only v3 HotshotXL] [--dtypes float16] [--folder FOLDER] [--keep]

Prints size, seconds to load and memory of each. The files are 0.5 to 1.8 GB, and one is there at a time. SD1.5's UNet takes
3.4 GB in float32, SDXL's, which runs in bfloat16, 5.1 GB.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.model_management
import comfy.sample
import psutil
import torch

from ..motion_models import checkpoint
from ..motion_models.config import Family, MotionModelConfig
from ..motion_models.layouts import Layout
from ..motion_models.recognise import expected_shapes
from ..nodes.host.files.loading import load_motion_model
from ..nodes.host.motion.steered import MotionSettings
from ..nodes.host.runs.applying import apply_motion_model

FILES = {
    # family, whether it has a module in the middle block, frames it has positions for, layout
    "v1": (Family.V1, False, 24, Layout.ANIMATEDIFF),
    "v2": (Family.V2, True, 32, Layout.ANIMATEDIFF),
    "v3": (Family.V3, False, 32, Layout.ANIMATEDIFF),
    "AnimateLCM": (Family.LCM, True, 64, Layout.ANIMATEDIFF),
    "LongAnimateDiff": (Family.LONG, True, 128, Layout.ANIMATEDIFF),
    "v2-diffusers": (Family.V2, True, 32, Layout.DIFFUSERS),
    "AnimateDiff-SDXL": (Family.SDXL, False, 32, Layout.ANIMATEDIFF),
    "HotshotXL": (Family.HOTSHOT, False, 24, Layout.HOTSHOT),
}


def config_of(name: str, channels: int) -> MotionModelConfig:
    family, has_mid_block, max_frames, _ = FILES[name]
    levels = 3 if family in (Family.SDXL, Family.HOTSHOT) else 4
    return MotionModelConfig(family, full_size.widths(channels, levels), has_mid_block=has_mid_block, max_frames=max_frames)


def make_file(path: Path, config: MotionModelConfig, layout: Layout, dtype: torch.dtype) -> None:
    weights = {}
    for name, shape in expected_shapes(config).items():
        tensor = torch.empty(shape)
        bound = 0.02 if len(shape) < 2 else (3.0 / shape[1]) ** 0.5
        tensor.uniform_(-bound, bound)
        weights[name] = (tensor + float("norm" in name and name.endswith("weight"))).to(dtype)
    checkpoint.save(path, config, weights, layout=layout)


class Base:
    """A full-size random UNet, and what it makes of noise with and without motion."""

    def __init__(self, name: str, channels: int):
        is_sdxl = name == "SDXL"
        self.model = full_size.make_sdxl(torch.bfloat16, channels) if is_sdxl else full_size.make_sd15(torch.float32, channels)
        self.cond = [[torch.randn(1, 77, 2048 if is_sdxl else 768), {"pooled_output": None}]]
        self.still = self.sample(self.model)

    def sample(self, model) -> torch.Tensor:
        latent = torch.zeros(16, 4, 8, 8)
        noise = comfy.sample.prepare_noise(latent, 1)
        return comfy.sample.sample(model, noise, 1, 7.5, "euler", "normal", self.cond, self.cond, latent, disable_pbar=True)


def load_and_run(path: Path, config: MotionModelConfig, base: Base) -> None:
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    motion = load_motion_model(str(path))
    seconds = time.perf_counter() - start
    grown = psutil.Process().memory_info().rss - before
    out = base.sample(apply_motion_model(base.model, motion, MotionSettings()))
    assert motion.model.config == config
    assert torch.isfinite(out).all()
    assert not torch.equal(out, base.still)
    parameters = sum(p.numel() for p in motion.model.parameters())
    print(
        f"{path.name}: {path.stat().st_size / 1e9:.2f} GB, {parameters:,} parameters, loaded in {seconds:.1f} s, "
        f"memory +{grown / 1e9:.2f} GB; 16 frames sampled, finite, moved by the motion model",
        flush=True,
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float16"])
    parser.add_argument("--channels", type=int, default=full_size.FULL_WIDTH, help="of the outermost level (%(default)s, full size)")
    parser.add_argument("--folder", type=Path, help="where to put the files; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    options = parser.parse_args()
    bases: dict[str, Base] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.only:
            config, layout = config_of(name, options.channels), FILES[name][-1]
            if config.base_model not in bases:
                bases.clear()  # one base in memory at a time
                bases[config.base_model] = Base(config.base_model, options.channels)
            for dtype in options.dtypes:
                path = folder / f"{name}_{dtype}.safetensors"
                make_file(path, config, layout, getattr(torch, dtype))
                load_and_run(path, config, bases[config.base_model])
                comfy.model_management.unload_all_models()
                comfy.model_management.cleanup_models_gc()
                if not options.keep:
                    path.unlink()


if __name__ == "__main__":
    main()
