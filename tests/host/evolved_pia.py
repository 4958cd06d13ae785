"""Small prompts with AnimateDiff-Evolved's nodes for PIA; for recording that pack and for comparing what they are translated to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodes
import torch
from comfy_api.latest import io
from comfy_extras.nodes_primitive import Float
from pack.motion_models.config import Family
from pack.motion_models.layouts import Layout, to_layout
from safetensors.torch import save_file
from torch.nn import functional

from .world import make_model, motion_config, motion_weights, sample

FILE, V3 = "pia.safetensors", "v3.safetensors"
SIZE = 64  # pixels

Prompt = dict[str, dict[str, Any]]


def write_motion_models(folder: Path) -> None:
    config, generator = motion_config(Family.V3), torch.Generator().manual_seed(5)
    weights = to_layout(config, motion_weights(config), Layout.ANIMATEDIFF)
    image_input = {"conv_in.weight": 0.1 * torch.randn(32, 9, 3, 3, generator=generator), "conv_in.bias": torch.randn(32)}
    save_file(weights | image_input, folder / FILE)
    save_file(to_layout(config, motion_weights(config, 1), Layout.ANIMATEDIFF), folder / V3)


class _Vae:
    """Averages pixels; the fourth channel is the mean of the others."""

    downscale_ratio = 8

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        x = functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([x, x.mean(1, keepdim=True)], 1) * 8 - 4

    decode = None


class _KSampler:
    FUNCTION = "sample"

    def sample(self, model, latent_image, steps) -> tuple[dict[str, torch.Tensor]]:
        return ({"samples": sample(model, steps=steps, latent=latent_image["samples"])},)


class Runner:
    """Runs prompts whose checkpoint, image and masks are made here."""

    def __init__(self, classes: dict[str, type]):
        self._classes = {**nodes.NODE_CLASS_MAPPINGS, "PrimitiveFloat": Float, "KSampler": _KSampler, **classes}
        random = torch.Generator().manual_seed(1)
        self._given = {
            "checkpoint": (make_model(), None, _Vae()),
            "image": (torch.rand(1, 160, 96, 3, generator=random),),
            "masks": (torch.rand(3, 16, 16, generator=random),),
        }

    def run(self, prompt: Prompt) -> torch.Tensor:
        """The latents that the prompt's sampler gives."""
        done = dict(self._given)

        def of(node: str) -> tuple:
            if node not in done:
                kind, inputs = self._classes[prompt[node]["class_type"]], prompt[node]["inputs"]
                inputs = {name: of(value[0])[value[1]] if isinstance(value, list) else value for name, value in inputs.items()}
                is_new = issubclass(kind, io.ComfyNode)
                done[node] = kind.execute(**inputs).args if is_new else getattr(kind(), kind.FUNCTION)(**inputs)
            return done[node]

        return of("sampled")[0]["samples"]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _case(frames: int = 8, steps: int = 2, **others: Any) -> Prompt:
    """``others`` are nodes, or inputs of the node that applies."""
    links = {name: [name, 0] for name in ("pia_input", "effect_multival") if name in others}
    values = {name: others.pop(name) for name in ("start_percent", "end_percent") if name in others}
    evolved = {"model": ["checkpoint", 0], "m_models": ["applied", 0], "beta_schedule": "autoselect"}
    evolved |= {"context_options": ["windows", 0]} if "windows" in others else {}
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "image": node("LoadImage", image="a.png"),
        "masks": node("LoadImageMask", image="a.png", channel="red"),
        "latent": node("EmptyLatentImage", width=SIZE, height=SIZE, batch_size=frames),
        "loaded": node("ADE_LoadAnimateDiffModel", model_name=FILE),
        "applied": node(
            "ADE_ApplyAnimateDiffModelWithPIA", motion_model=["loaded", 0], image=["image", 0], vae=["checkpoint", 2],
            **{"start_percent": 0.0, "end_percent": 1.0} | values | links,
        ),
        "animated": node("ADE_UseEvolvedSampling", **evolved),
        "sampled": node("KSampler", model=["animated", 0], latent_image=["latent", 0], steps=steps),
        **others,
    }  # fmt: skip


def _preset(preset: str, frame: int, **links: Any) -> dict[str, Any]:
    return node("ADE_InputPIA_PaperPresets", preset=preset, batch_index=frame, print_values=False, **links)


def cases() -> Iterator[tuple[str, Prompt]]:
    """Yield each case's name and prompt."""
    of_factor = node("ADE_InputPIA_Multival", multival=["factor", 0])
    yield "like the image throughout", _case()
    yield "one number", _case(pia_input=of_factor, factor=node("ADE_MultivalDynamic", float_val=0.7))
    masks = node("ADE_MultivalDynamic", float_val=0.8, mask_optional=["masks", 0])
    yield "masks of fewer frames", _case(pia_input=of_factor, factor=masks)
    values = node("ADE_ValueScheduling", values="0 = 1.0, 5 = 0.4", print_schedule=False, max_length=0)
    yield "values of fewer frames", _case(pia_input=of_factor, factor=node("ADE_MultivalDynamic", float_val=["values", 0]), values=values)
    yield "medium motion, to the last frame", _case(pia_input=_preset("Animation (Medium Motion)", -1))
    scaled = {"factor": node("ADE_MultivalDynamic", float_val=0.9)}
    for size, frames in (("Small", 8), ("Large", 9)):
        loop = _preset(f"Loop ({size} Motion)", 0, mult_multival=["factor", 0])
        yield f"{size.lower()} motion in a loop of {frames}, times 0.9", _case(frames, pia_input=loop, **scaled)
    injected = _case(6, both=node("ADE_InjectPIAIntoAnimateDiffModel", motion_model=["loaded", 0], model_name=V3))
    injected["applied"]["inputs"]["motion_model"] = ["both", 0]
    yield "another motion model with its image input", injected
    windows = node("ADE_StandardStaticContextOptions", context_length=6, context_overlap=2, fuse_method="pyramid")
    yield "style in windows, part of the run, half as strong", _case(
        10, 4, pia_input=_preset("Style Transfer (Medium Motion)", 3), windows=windows, start_percent=0.2, end_percent=0.7,
        effect_multival=node("ADE_MultivalDynamic", float_val=0.5),
    )  # fmt: skip
