"""What motion scale and strength mean, worked out directly, and a record of what motion modules did."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import comfy.samplers
import comfy_extras.nodes_context_windows
import torch
from pack.motion_models.motion_model import MotionModule
from torch import Tensor
from torch.nn import functional

FRAMES = 4

# SD1.5's four levels, of one block instead of two.
UNET = {"num_res_blocks": [1] * 4, "transformer_depth": [1, 1, 1, 0], "transformer_depth_output": [1] * 6 + [0] * 2}
MOTION = {"layers_per_block": 1}
LEVELS = [1, 2, 3, 4], [4], [4, 4, 3, 3, 2, 2, 1, 1]
"""Of the modules of the down, middle and up blocks, in the order in which this UNet runs them; 1 is the outermost."""

WITHOUT_MID = 12
"""Modules of a motion model that has none in the middle."""

PLACES = [(part, level) for part, levels in zip(("down", "mid", "up"), LEVELS, strict=True) for level in levels]


class Call(NamedTuple):
    """One call of a motion module: what it got, and what it gave back."""

    module: MotionModule
    x: Tensor
    encoding: Tensor
    motion_scale: Any
    strength: Any
    out: Tensor


def record_calls(monkeypatch) -> list[Call]:
    """All calls of motion modules from now on."""
    record, original = [], MotionModule.forward

    def forward(self, hidden_states, inputs, *, strength, **options):
        x = hidden_states.clone()
        out = original(self, hidden_states, inputs, strength=strength, **options)
        record.append(Call(self, x, inputs.encoding, inputs.motion_scale, strength, out.clone()))
        return out

    monkeypatch.setattr(MotionModule, "forward", forward)
    return record


def encoding_of(positions: list[float], channels: int) -> Tensor:
    """``pe[k, 2i] = sin(k * 10000^(-2i/C))``, ``pe[k, 2i+1] = cos`` of the same."""
    rows = []
    for k in positions:
        angles = [k * 10000 ** (-2 * i / channels) for i in range(channels // 2)]
        rows.append([wave(angle) for angle in angles for wave in (math.sin, math.cos)])
    return torch.tensor(rows, dtype=torch.float64)


def apply_module(module: MotionModule, x: Tensor, scale: Tensor, strength: Tensor) -> Tensor:
    """``x (1 - s) + module(x) s`` for ``x``, ``(b f) c h w``; the keys times scale; both ``f h w``. In float64."""
    weights = {name.removeprefix("temporal_transformer."): value.double() for name, value in module.state_dict().items()}
    x = x.double()
    f, h, w = scale.shape
    bf, c = x.shape[:2]

    def linear(name: str, tokens: Tensor) -> Tensor:
        out = tokens @ weights[f"{name}.weight"].T
        return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out

    def layer_norm(name: str, tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, (c,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def by_pixel(frames: Tensor) -> Tensor:
        return frames.flatten(2).permute(2, 0, 1)  # f c h w to (h w) f c

    normed = functional.group_norm(x, 32, weights["norm.weight"], weights["norm.bias"], eps=1e-6)
    pe, block = encoding_of(list(range(f)), c), "transformer_blocks.0"
    through = torch.empty_like(x)
    for clip in range(bf // f):
        frames = slice(clip * f, (clip + 1) * f)
        t = linear("proj_in", by_pixel(normed[frames]))
        for number in range(2):
            name = f"{block}.attention_blocks.{number}"
            u = layer_norm(f"{block}.norms.{number}", t) + pe
            k = linear(f"{name}.to_k", u) * by_pixel(scale[:, None])
            q, k, v = (part.unflatten(-1, (8, c // 8)).transpose(1, 2) for part in (linear(f"{name}.to_q", u), k, linear(f"{name}.to_v", u)))
            mixed = (q @ k.transpose(2, 3) / math.sqrt(c // 8)).softmax(-1) @ v
            t = t + linear(f"{name}.to_out.0", mixed.transpose(1, 2).flatten(2))
        value, gate = linear(f"{block}.ff.net.0.proj", layer_norm(f"{block}.ff_norm", t)).chunk(2, dim=-1)
        t = t + linear(f"{block}.ff.net.2", value * functional.gelu(gate))
        through[frames] = linear("proj_out", t).permute(1, 2, 0).unflatten(2, (h, w)) + x[frames]
    s = strength.repeat(bf // f, 1, 1)[:, None]
    return x * (1 - s) + through * s


def resized(mask: Tensor, size: int) -> Tensor:
    """A mask ``f h w`` bilinearly at a block's ``size``: between the four pixels around each block pixel's middle."""

    def along(values: Tensor, dim: int) -> Tensor:
        length = values.shape[dim]
        places = [(i + 0.5) * length / size - 0.5 for i in range(size)]
        picked = []
        for place in places:
            place = min(max(place, 0.0), length - 1)
            low = int(place)
            high, share = min(low + 1, length - 1), place - low
            picked.append(values.select(dim, low) * (1 - share) + values.select(dim, high) * share)
        return torch.stack(picked, dim)

    return along(along(mask.double(), 1), 2)


def check_calls(calls: list[Call], expected, places=PLACES) -> None:
    """Compare what one step's modules gave back with the definition at their motion scale and strength."""
    assert len(calls) == len(places)
    for call, place in zip(calls, places, strict=True):
        size = call.x.shape[-1]
        assert size == 8 >> (place[1] - 1)
        values = [value.double().expand(FRAMES, size, size) for value in expected(place, size)]
        wanted = apply_module(call.module, call.x, *values)
        assert (call.out.double() - wanted).abs().max() < 2e-5 * wanted.abs().max(), place


def number(value: float) -> Tensor:
    return torch.tensor(value).view(1, 1, 1)


def per_frame(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


GENERATOR = torch.Generator().manual_seed(11)
MASK = torch.rand(8, 8, generator=GENERATOR)
MASKS = torch.rand(FRAMES, 16, 16, generator=GENERATOR)
LIST = [1.5, 0.0, 0.5, 1.0]


def schedule_of(model, steps: int, denoise: float = 1.0, sampler: str = "euler") -> list[float]:
    settings = {"device": "cpu", "sampler": sampler, "scheduler": "normal", "denoise": denoise}
    return comfy.samplers.KSampler(model, steps=steps, **settings).sigmas.tolist()


def windowed(model, **options):
    settings = {
        "context_length": 8, "context_overlap": 4, "context_schedule": "standard_static", "context_stride": 1,
        "closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False, "causal_window_fix": False,
    }  # fmt: skip
    return comfy_extras.nodes_context_windows.ContextWindowsManualNode.execute(model, **{**settings, **options})[0]
