"""Make full-size motion-model files of random weights in all layouts, load each, apply it to its base and run it.

    python benchmarks/full_size_files.py [--only v3 HotshotXL] [--dtypes float16] [--folder FOLDER] [--keep]

Prints size, seconds to load and memory of each. The files are 0.5 to 1.8 GB, and one is there at a time. SD1.5's UNet takes
3.4 GB in float32, SDXL's, which runs in bfloat16, 5.1 GB.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import full_size

full_size.set_up()

import comfy.model_management
import comfy.sample
import psutil
import torch
from pack.motion_models import checkpoint
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.layouts import Layout
from pack.motion_models.recognise import expected_shapes
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.steered import MotionSettings
from pack.nodes.host.runs.applying import apply_motion_model

SDXL = (320, 640, 1280)
FILES = {
    "v1": (MotionModelConfig(Family.V1, max_frames=24), Layout.ANIMATEDIFF),
    "v2": (MotionModelConfig(Family.V2, has_mid_block=True), Layout.ANIMATEDIFF),
    "v3": (MotionModelConfig(Family.V3), Layout.ANIMATEDIFF),
    "AnimateLCM": (MotionModelConfig(Family.LCM, has_mid_block=True, max_frames=64), Layout.ANIMATEDIFF),
    "LongAnimateDiff": (MotionModelConfig(Family.LONG, has_mid_block=True, max_frames=128), Layout.ANIMATEDIFF),
    "v2-diffusers": (MotionModelConfig(Family.V2, has_mid_block=True), Layout.DIFFUSERS),
    "AnimateDiff-SDXL": (MotionModelConfig(Family.SDXL, SDXL), Layout.ANIMATEDIFF),
    "HotshotXL": (MotionModelConfig(Family.HOTSHOT, SDXL, max_frames=24), Layout.HOTSHOT),
}


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

    def __init__(self, name: str):
        is_sdxl = name == "SDXL"
        self.model = full_size.make_sdxl(torch.bfloat16) if is_sdxl else full_size.make_sd15(torch.float32)
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
    parser.add_argument("--folder", type=Path, help="where to put the files; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    options = parser.parse_args()
    bases: dict[str, Base] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.only:
            config, layout = FILES[name]
            if config.base_model not in bases:
                bases.clear()  # one base in memory at a time
                bases[config.base_model] = Base(config.base_model)
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
