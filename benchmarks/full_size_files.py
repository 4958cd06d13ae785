"""Make full-size, full-layout motion-model files of random weights, load each, apply it to SD1.5 and run it.

    python benchmarks/full_size_files.py [--folder FOLDER] [--keep]

Prints size, seconds to load and peak memory of each of v1, v2 and v3 in fp32 and fp16. The files are 0.8 to 1.8 GB.
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
from pack.motion_models.recognise import expected_shapes
from pack.nodes.host.injection import apply_motion_model
from pack.nodes.host.loading import load_motion_model
from pack.nodes.host.steering import MotionSettings

CONFIGS = {
    "v1": MotionModelConfig(Family.V1, max_frames=24),
    "v2": MotionModelConfig(Family.V2, has_mid_block=True),
    "v3": MotionModelConfig(Family.V3),
}


def make_file(path: Path, config: MotionModelConfig, dtype: torch.dtype) -> None:
    weights = {}
    for name, shape in expected_shapes(config).items():
        tensor = torch.empty(shape)
        bound = 0.02 if len(shape) < 2 else (3.0 / shape[1]) ** 0.5
        tensor.uniform_(-bound, bound)
        weights[name] = (tensor + float("norm" in name and name.endswith("weight"))).to(dtype)
    checkpoint.save(path, config, weights)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to put the files; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = full_size.make_sd15(torch.float32)
        cond = [[torch.randn(1, 77, 768), {"pooled_output": None}]]
        latent = torch.zeros(16, 4, 8, 8)
        noise = comfy.sample.prepare_noise(latent, 1)

        def sample(animated) -> torch.Tensor:
            return comfy.sample.sample(animated, noise, 1, 7.5, "euler", "normal", cond, cond, latent, disable_pbar=True)

        still = sample(model)
        for name, config in CONFIGS.items():
            for dtype in (torch.float32, torch.float16):
                path = folder / f"{name}_{str(dtype).removeprefix('torch.')}.safetensors"
                make_file(path, config, dtype)
                before, start = psutil.Process().memory_info().rss, time.perf_counter()
                motion = load_motion_model(str(path))
                seconds = time.perf_counter() - start
                grown = psutil.Process().memory_info().rss - before
                out = sample(apply_motion_model(model, motion, MotionSettings()))
                assert motion.model.config == config
                assert torch.isfinite(out).all()
                assert not torch.equal(out, still)
                parameters = sum(p.numel() for p in motion.model.parameters())
                print(
                    f"{path.name}: {path.stat().st_size / 1e9:.2f} GB, {parameters:,} parameters, loaded in {seconds:.1f} s, "
                    f"memory +{grown / 1e9:.2f} GB; 16 frames sampled, finite, moved by the motion model",
                    flush=True,
                )
                del motion
                comfy.model_management.unload_all_models()
                comfy.model_management.cleanup_models_gc()
                if not options.keep:
                    path.unlink()


if __name__ == "__main__":
    main()
