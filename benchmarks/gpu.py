"""What only a graphics card can show: speed, memory and accuracy of everything, in one program of under 8 minutes.

    python3 loom.py run benchmarks.gpu [--minutes 8] [--dtypes float16 bfloat16] [--pixels 512] [--frames 16 32] [--json FILE]

It needs a ComfyUI and its PyTorch, no models: UNets and motion models have random weights in full size. Each row is a run of a few
steps of Euler's, cond and uncond in one batch; the first step, which loads, is not counted. Columns:

- s / step, and that relative to the same UNet alone.
- peak: the most memory that PyTorch had allocated on the device.

Then come checks: the largest difference to the CPU in float32, relative to its largest value; a motion model that is saved and loaded
again; and the same with DynamicVRAM, as ComfyUI switches it on, in a process of its own. A row or check that fails is named at the
end, the others go on, and the exit code is 1; so are those for which no time was left. Without a graphics card it runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.memory_management
import comfy.model_management
import comfy.sample
import comfy.sd
import folder_paths
import torch
import torch._dynamo.utils
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..launcher.pack import RUN
from ..motion_models.companions.low_rank import LowRank
from ..nodes.host.files.loading import load_motion_model
from ..nodes.host.files.lora_files import add_lora, lora_patcher
from ..nodes.host.files.saving import save_motion_model
from ..nodes.host.motion.lora_branches import add_steered_lora
from ..nodes.host.motion.steered import MotionSettings, Steered
from ..nodes.host.runs.applying import apply_motion_model
from ..nodes.host.types import logger
from ..nodes.reuse_motion import ReuseMotionNode
from ..nodes.windows import ContextWindowsNode, ViewWindowsNode
from .full_size_files import FILES, config_of, make_file

STEPS, STEPS_WITH_REUSE = 4, 14
ALLOWED = {"float32": 2e-2, "float16": 5e-2, "bfloat16": 0.2}  # of the largest value: random networks of such depth amplify rounding
CONTEXT_WIDTH = {"SD1.5": 768, "SDXL": 2048}


@dataclass(frozen=True)
class Row:
    """One measured run."""

    name: str
    dtype: str
    frames: int
    seconds_per_step: float
    to_unet_alone: float
    peak_gb: float


class TooLate(Exception):
    """No time is left for what remains."""


class Bench:
    """Runs and checks, and what came of them."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder = options, folder
        self.deadline = time.monotonic() + 60 * options.minutes
        self.rows: list[Row] = []
        self.checks: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def attempt(self, name: str, function: Callable[[], object]) -> None:
        """Run one part; what goes wrong in it is noted, and the next part runs."""
        try:
            if time.monotonic() > self.deadline:
                raise TooLate(f"not run: the {self.options.minutes:g} minutes were over")
            function()
        except Exception as error:  # noqa: BLE001 -- each part is tried, whatever becomes of the others
            self.failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"FAILED {name}: {self.failed[name]}", flush=True)

    def measure(self, name: str, dtype: str, frames: int, model: ModelPatcher, base: str = "SD1.5", steps: int = STEPS) -> None:
        def run() -> None:
            seconds, peak, out = timed_run(model, frames, self.options.pixels, steps, CONTEXT_WIDTH[base])
            if not torch.isfinite(out).all():
                raise ArithmeticError("the frames are not finite")
            alone = next((row for row in self.rows if (row.name, row.dtype, row.frames) == (f"{base} alone", dtype, frames)), None)
            ratio = 1.0 if alone is None else seconds / alone.seconds_per_step
            self.rows.append(Row(name, dtype, frames, seconds, ratio, peak / 1e9))
            print(table(self.rows[-1:]).splitlines()[-1], flush=True)

        self.attempt(f"{name}, {dtype}, {frames} frames", run)

    def motion(self, name: str) -> ModelPatcher:
        """A motion model of random weights, from a file."""
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            make_file(path, config_of(name, self.options.channels), FILES[name][-1], torch.float16)
        return load_motion_model(str(path))

    # --- what is run --------------------------------------------------------------------------------------------------

    def sd15(self, dtype: str) -> None:
        few, many = self.options.frames[0], self.options.frames[-1]
        unet = full_size.make_sd15(getattr(torch, dtype), self.options.channels)
        for frames in self.options.frames:
            self.measure("SD1.5 alone", dtype, frames, unet)
        for name in ("v1", "v2", "v3"):
            self.attempt(f"{name}, {dtype}", lambda name=name: self.measure(name, dtype, few, animated(unet, self.motion(name))))
        motion = self.motion("v3")
        model = animated(unet, motion)
        self.measure("v3", dtype, many, model)
        self.measure("v3, context windows of 16", dtype, many, ContextWindowsNode.execute(model, 16, 4).result[0])
        self.measure("v3, view windows of 16", dtype, many, ViewWindowsNode.execute(model, 16, 4).result[0])
        layers = random_lora(motion)
        merged, beside = motion.clone(), motion.clone()
        add_lora(merged, layers, 1.0)
        add_steered_lora(beside, lora_patcher(layers), Steered.of("strength", 1.0, [1.0] * few))
        self.measure("v3, LoRA merged", dtype, few, animated(unet, merged))
        self.measure("v3, LoRA of varying strength", dtype, few, animated(unet, beside))
        if not self.options.no_compile:
            self.attempt(f"v3, compiled, {dtype}", lambda: self.compiled(dtype, unet, motion))
        self.measure("v3, interval 3", dtype, few, ReuseMotionNode.execute(model, 3).result[0], steps=STEPS_WITH_REUSE)
        self.measure("v3, interval 3, deep 3", dtype, few, ReuseMotionNode.execute(model, 3, 3).result[0], steps=STEPS_WITH_REUSE)

    def compiled(self, dtype: str, unet: ModelPatcher, motion: ModelPatcher) -> None:
        graphs = torch._dynamo.utils.counters["stats"]
        before, model = graphs["unique_graphs"], apply_motion_model(unet, motion, MotionSettings(compile=True))
        self.measure("v3, compiled", dtype, self.options.frames[0], model)
        if graphs["unique_graphs"] == before:
            raise RuntimeError("nothing was compiled, so its time is that of v3")

    def sdxl(self, dtype: str) -> None:
        frames = self.options.frames[0]
        unet = full_size.make_sdxl(getattr(torch, dtype), self.options.channels)
        self.measure("SDXL alone", dtype, frames, unet, "SDXL")
        self.measure("AnimateDiff-SDXL", dtype, frames, animated(unet, self.motion("AnimateDiff-SDXL")), "SDXL")

    def reloaded(self) -> None:
        motion = self.motion("v3")
        folder_paths.set_output_directory(str(self.folder))
        saved = load_motion_model(str(save_motion_model(motion, "saved", "fp16")))
        unet = full_size.make_sd15(getattr(torch, self.options.dtypes[0]), self.options.channels)
        first, second = (timed_run(animated(unet, each), 16, 64, 1)[2] for each in (motion, saved))
        if not torch.equal(first, second):
            raise ArithmeticError(f"its frames differ by {(first - second).abs().max().item():.3g}")
        self.checks["saved and loaded again"] = "the same frames, bit for bit"

    def accuracy(self, reference: Tensor, dtype: str) -> None:
        model = seeded_model(self.options.channels)
        model.set_model_compute_dtype(getattr(torch, dtype))
        difference = ((one_call(model) - reference).abs().max() / reference.abs().max()).item()
        self.checks[f"difference to the CPU's float32, {dtype}"] = f"{difference:.2e} of the largest value"
        if not difference < ALLOWED[dtype]:
            raise ArithmeticError(f"{difference:.2e} of the largest value; {ALLOWED[dtype]:g} is allowed")

    def dynamic_vram(self) -> None:
        if not torch.cuda.is_available():
            self.checks["DynamicVRAM"] = "not tried: it needs an NVIDIA card"
            return
        found = self.folder / "dynamic.json"
        child = start_child("--dynamic", str(found), "--channels", str(self.options.channels), "--pixels", str(self.options.pixels))
        if child.wait(timeout=240) or not found.is_file():
            raise RuntimeError(f"its process ended with {child.returncode}")
        for row in json.loads(found.read_text(encoding="utf-8")):
            self.rows.append(Row(**row))


def animated(unet: ModelPatcher, motion: ModelPatcher) -> ModelPatcher:
    return apply_motion_model(unet, motion, MotionSettings())


def random_lora(motion: ModelPatcher, rank: int = 16) -> dict[str, LowRank]:
    """A LoRA for all attention weights of a motion model."""
    weights = {name: weight.shape for name, weight in motion.model.state_dict().items() if ".attention_blocks." in name and weight.ndim == 2}
    return {name: LowRank(torch.randn(rank, into) * 0.02, torch.randn(out, rank) * 0.02) for name, (out, into) in weights.items()}


def synchronize() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed_run(model: ModelPatcher, frames: int, pixels: int, steps: int, context_width: int = 768) -> tuple[float, int, Tensor]:
    """Seconds a step without the first one, the peak of memory in bytes (0 on a CPU), and the latents."""
    noise = torch.randn(frames, 4, pixels // 8, pixels // 8, generator=torch.Generator().manual_seed(1))
    prompts = ([[torch.randn(1, 77, context_width, generator=torch.Generator().manual_seed(n)), {"pooled_output": None}]] for n in (2, 3))
    times = [synchronize()]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    out = comfy.sample.sample(
        model, noise, steps, 7.5, "euler", "normal", *prompts, torch.zeros_like(noise), disable_pbar=True, seed=1,
        callback=lambda *_: times.append(synchronize()),
    )  # fmt: skip
    counted = times[1:] if steps > 1 else times
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return (counted[-1] - counted[0]) / (len(counted) - 1), peak, out


def seeded_model(channels: int) -> ModelPatcher:
    """SD1.5 with a v3 motion model in float32, the same weights on every machine."""
    torch.manual_seed(0)
    return animated(full_size.make_sd15(torch.float32, channels, on_cpu=True), full_size.make_motion_model(channels))


def one_call(model: ModelPatcher) -> Tensor:
    return timed_run(model, 16, 128, 1)[2].float().cpu()


# --- processes of their own -------------------------------------------------------------------------------------------


def start_child(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(RUN), "benchmarks.gpu", *arguments], env={**os.environ, **environment})


def write_dynamic(path: Path, options: argparse.Namespace) -> None:
    """Measure with DynamicVRAM, which ComfyUI's main program switches on where it starts."""
    weights = full_size.make_sd15(torch.float16, options.channels).model.diffusion_model.state_dict()
    import main as comfyui_main  # noqa: F401 -- ComfyUI's

    if not comfy.memory_management.aimdo_enabled:
        raise RuntimeError("ComfyUI did not switch DynamicVRAM on.")
    unet = comfy.sd.load_diffusion_model_state_dict(weights)
    bench = Bench(options, path.parent)
    bench.measure("SD1.5 alone", "float16", 16, unet)
    bench.measure("v3", "float16", 16, animated(unet, bench.motion("v3")))
    if bench.failed:
        raise RuntimeError(str(bench.failed))
    rows = [asdict(row) | {"name": f"{row.name}, DynamicVRAM"} for row in bench.rows]
    path.write_text(json.dumps(rows), encoding="utf-8")


def reference_of(options: argparse.Namespace, folder: Path) -> Callable[[], Tensor]:
    """The CPU's result in float32, worked out in a process of its own while the card is at work."""
    if not torch.cuda.is_available():
        return lambda: one_call(seeded_model(options.channels))
    path = folder / "reference.pt"
    child = start_child("--reference", str(path), "--channels", str(options.channels), CUDA_VISIBLE_DEVICES="")

    def wait() -> Tensor:
        if child.wait(timeout=240):
            raise RuntimeError(f"the process that works on the CPU ended with {child.returncode}")
        return torch.load(path, weights_only=True)

    return wait


# --- the report -------------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| run | dtype | frames | s / step | to UNet alone | peak |", "|---|---|---|---|---|---|"]
    for row in rows:
        peak = f"{row.peak_gb:.2f} GB" if row.peak_gb else "unknown"
        lines.append(f"| {row.name} | {row.dtype} | {row.frames} | {row.seconds_per_step:.3f} | {row.to_unet_alone:.3f} | {peak} |")
    return "\n".join(lines)


def report(bench: Bench, device: str) -> None:
    print(f"\n{device}\n\n{table(bench.rows)}\n")
    for name, result in bench.checks.items():
        print(f"{name}: {result}")
    print(f"failed: {', '.join(bench.failed) or 'nothing'}")
    if bench.options.json:
        found = {"device": device, "rows": [asdict(row) for row in bench.rows], "checks": bench.checks, "failed": bench.failed}
        bench.options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def run_all(bench: Bench) -> None:
    reference = reference_of(bench.options, bench.folder)
    for number, dtype in enumerate(bench.options.dtypes):
        bench.attempt(f"SD1.5 in {dtype}", lambda dtype=dtype: bench.sd15(dtype))
        comfy.model_management.unload_all_models()
        if number == 0:
            bench.attempt("saved and loaded again", bench.reloaded)
            bench.attempt("difference to the CPU", lambda: compare(bench, reference()))
            bench.attempt("DynamicVRAM", bench.dynamic_vram)
            bench.attempt(f"SDXL in {dtype}", lambda dtype=dtype: bench.sdxl(dtype))
            comfy.model_management.unload_all_models()


def compare(bench: Bench, reference: Tensor) -> None:
    for dtype in ("float32", *bench.options.dtypes):
        bench.attempt(f"difference to the CPU's float32, {dtype}", lambda dtype=dtype: bench.accuracy(reference, dtype))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing is begun after that (%(default)s)")
    parser.add_argument("--dtypes", nargs="+", default=["float16", "bfloat16"])
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--channels", type=int, default=full_size.FULL_WIDTH, help="of the outermost level (%(default)s, full size)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes on few cores")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dynamic", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logger.setLevel("ERROR")
    if options.reference:
        torch.save(one_call(seeded_model(options.channels)), options.reference)
    elif options.dynamic:
        write_dynamic(options.dynamic, options)
    else:
        device = comfy.model_management.get_torch_device()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(options, Path(folder))
            run_all(bench)
        report(bench, f"torch {torch.__version__}, {name}; {options.pixels} px")
        if bench.failed:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
