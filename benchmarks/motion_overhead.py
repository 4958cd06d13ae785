"""What motion costs: against the UNet alone, against the bare matrix products, and against diffusers, in one run.

    python3 loom.py run benchmarks.motion_overhead [--pixels 128 256] [--dtypes float32 bfloat16] [--repeats 5]

16 frames x 2 conds through a full-size SD1.5 UNet with random weights. Everything is measured in turns in one process,
so that what else the machine does falls on all alike, and the best of the turns counts: the least disturbed. Columns:

- of GEMM limit: time of the motion modules' matrix products alone (their inputs ready made), over the modules' time.
- in situ: (UNet with motion - UNet alone) / UNet alone.
- moved: bytes read and written by all operations but matrix products and attention.
- layout copies: copies that change the order of elements, for each module.
- memory: the most that the process grew by during a call.

With --profile, also the share of each of PyTorch's operations in the time of Loom's modules.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from functools import partial

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.model_management
import psutil
import torch
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch.utils._python_dispatch import TorchDispatchMode

from ..motion_models.attention_inputs import AttentionInputs
from ..motion_models.layers import sinusoidal_positions
from ..motion_models.motion_model import MotionModel
from ..nodes.host.motion.injection import CPU_BLOCK_TOKENS, KEY, ModelInCall, MotionCall, MotionStep, with_layer_handler
from ..nodes.host.motion.unet import modules_by_layer

FRAMES, CONDS = 16, 2
SMALLER = (1, 2, 4, 8)  # a level's features than the latent
MODULES_PER_LEVEL = 5
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_scaled_dot_product", "mkldnn_linear", "linear")


class DiffusersModule(torch.nn.Module):
    """Diffusers' motion module, to run where one of Loom's does."""

    def __init__(self, channels: int):
        super().__init__()
        self.inner = AnimateDiffTransformer3D(
            num_attention_heads=8, attention_head_dim=channels // 8, in_channels=channels,
            positional_embeddings="sinusoidal", num_positional_embeddings=32,
        )

    def forward(self, hidden_states):
        return self.inner(hidden_states, num_frames=FRAMES)


class Traffic(TorchDispatchMode):
    """Counts bytes touched outside matrix products, and copies that change a layout."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.layout_copies = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.__name__.split(".")[0]
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in function._schema.returns)
        tensors = [t for t in (*args, out) if isinstance(t, torch.Tensor)]
        if not is_view and name not in ("empty", "empty_like", "detach") and not name.startswith(_PRODUCTS):
            self.bytes += sum(t.nbytes for t in tensors)
            self.layout_copies += self._changes_layout(name, tensors)
        return out

    @staticmethod
    def _changes_layout(name: str, tensors: list[torch.Tensor]) -> bool:
        if not name.startswith(("copy_", "clone", "_to_copy", "add", "cat", "contiguous")):
            return False
        full = [t for t in tensors if t.shape == tensors[-1].shape and 0 not in t.stride() and t.numel() > 1]
        orders = {tuple(sorted(range(t.ndim), key=lambda i: (-t.stride(i), i))) for t in full if t.ndim > 1}
        return len(orders) > 1


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best seconds of each function, run one after the other in each of ``repeats`` turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: min(values) for name, values in times.items()}


def peak_growth(function: Callable[[], object]) -> int:
    """Bytes by which the process grew, at the most, while the function ran."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated() - before
    process, running = psutil.Process(), threading.Event()
    running.set()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while running.is_set():
            highest = max(highest, process.memory_info().rss)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    function()
    running.clear()
    watcher.join()
    return highest - before


def products(module: torch.nn.Module, tokens: int, dtype, device) -> Callable[[], None]:
    """The module's linear layers on inputs of the right shapes, and nothing else."""
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = [torch.randn(tokens, layer.in_features, dtype=dtype, device=device) for layer in layers]
    plain = [(layer.weight, layer.bias) for layer in layers]

    def run() -> None:
        for x, (weight, bias) in zip(inputs, plain, strict=True):
            torch.nn.functional.linear(x, weight, bias)

    return run


def measure_modules(pixels: int, dtype, repeats: int, motion: MotionModel, device) -> None:
    total = dict.fromkeys(("products", "Loom", "diffusers"), 0.0)
    traffic = {"Loom": Traffic(), "diffusers": Traffic()}
    block_tokens = CPU_BLOCK_TOKENS if device.type == "cpu" else None
    for level, (channels, factor) in enumerate(zip(motion.config.block_channels, SMALLER, strict=True)):
        size = pixels // 8 // factor
        x = torch.randn(CONDS * FRAMES, channels, size, size, dtype=dtype, device=device)
        encoding = sinusoidal_positions(torch.arange(FRAMES, device=device), channels).to(dtype)
        ours = motion.down_blocks[level].motion_modules[0]
        theirs = DiffusersModule(channels).to(device, dtype)
        functions = {
            "products": products(ours, CONDS * FRAMES * size * size, dtype, device),
            "Loom": lambda m=ours, x=x, e=encoding: m(x, AttentionInputs(e), block_tokens=block_tokens),
            "diffusers": lambda m=theirs, x=x: m(x),
        }
        for name, value in in_turns(functions, repeats).items():
            total[name] += MODULES_PER_LEVEL * value
        for name, counter in traffic.items():
            with counter:
                functions[name]()
    for name, counter in traffic.items():
        print(
            f"  modules, {name:9}: {total['products'] / total[name]:.3f} of GEMM limit "
            f"({total[name] * 1e3:.0f} ms, GEMMs {total['products'] * 1e3:.0f} ms); "
            f"moved {counter.bytes * MODULES_PER_LEVEL / 1e9:.2f} GB; {counter.layout_copies / len(SMALLER):.1f} layout copies",
            flush=True,
        )


def profile_modules(pixels: int, dtype, motion: MotionModel, device, most: int = 10) -> None:
    block_tokens = CPU_BLOCK_TOKENS if device.type == "cpu" else None
    calls = []
    for level, (channels, factor) in enumerate(zip(motion.config.block_channels, SMALLER, strict=True)):
        size = pixels // 8 // factor
        x = torch.randn(CONDS * FRAMES, channels, size, size, dtype=dtype, device=device)
        encoding = sinusoidal_positions(torch.arange(FRAMES, device=device), channels).to(dtype)
        module = motion.down_blocks[level].motion_modules[0]
        calls.append(partial(module, x, AttentionInputs(encoding), block_tokens=block_tokens))
    for call in calls:
        call()
    with torch.profiler.profile() as profiler:
        for call in calls:
            call()
    on_gpu = device.type == "cuda"
    times = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in profiler.key_averages()}
    shares = sorted(((time / sum(times.values()), name) for name, time in times.items()), reverse=True)[:most]
    print("  profile: " + ", ".join(f"{name.removeprefix('aten::')} {share:.1%}" for share, name in shares), flush=True)


def measure_in_situ(pixels: int, dtype, repeats: int, model, motion: MotionModel, device) -> None:
    unet = model.model.diffusion_model
    size = pixels // 8
    x = torch.randn(CONDS * FRAMES, 4, size, size, dtype=dtype, device=device)
    timesteps = torch.full((len(x),), 500.0, device=device)
    context = torch.randn(len(x), 77, 768, dtype=dtype, device=device)
    ours = modules_by_layer(unet, motion)
    theirs = {layer: DiffusersModule(module.channels).to(device, dtype) for layer, module in ours.items()}

    def run(steps: dict | None) -> None:
        options = {"cond_or_uncond": [0, 1], "patches": {}}
        if steps:
            options = with_layer_handler(options)
            options[KEY] = MotionCall(FRAMES, {layer: [step] for layer, step in steps.items()})
        unet(x, timesteps, context=context, transformer_options=options)

    steps = {layer: MotionStep(module, ModelInCall()) for layer, module in ours.items()}
    their_steps = {layer: lambda x, call, options, module=module: module(x) for layer, module in theirs.items()}
    functions = {"alone": lambda: run(None), "Loom": lambda: run(steps), "diffusers": lambda: run(their_steps)}
    times = in_turns(functions, repeats)
    overhead = {name: times[name] / times["alone"] - 1 for name in ("Loom", "diffusers")}
    for name, value in overhead.items():
        extra = peak_growth(functions[name]) - peak_growth(functions["alone"])
        print(f"  in situ, {name:9}: overhead {value:.3f} ({times[name]:.2f} s, UNet alone {times['alone']:.2f} s); memory {extra / 1e6:+.0f} MB")
    print(f"  in situ, Loom : diffusers = {overhead['Loom'] / overhead['diffusers']:.3f}", flush=True)


@torch.no_grad()  # inference mode would hide what composite operations are made of from Traffic
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channels", type=int, default=full_size.FULL_WIDTH, help="of the outermost level (%(default)s, full size)")
    parser.add_argument("--profile", action="store_true", help="show the time by operation, too")
    parser.add_argument("--modules-only", action="store_true", help="leave the whole UNet out")
    options = parser.parse_args()
    device = comfy.model_management.get_torch_device()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; {FRAMES} frames x {CONDS} conds")
    for name in options.dtypes:
        dtype = getattr(torch, name)
        motion = full_size.make_motion_model(options.channels, dtype).model.to(device)
        model = None if options.modules_only else full_size.make_sd15(dtype, options.channels)
        if model is not None:
            model.model.diffusion_model.to(device)
        for pixels in options.pixels:
            print(f"{name}, {pixels} px", flush=True)
            measure_modules(pixels, dtype, options.repeats, motion, device)
            if options.profile:
                profile_modules(pixels, dtype, motion, device)
            if model is not None:
                measure_in_situ(pixels, dtype, options.repeats, model, motion, device)


if __name__ == "__main__":
    main()
