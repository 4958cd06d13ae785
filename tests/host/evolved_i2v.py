"""Small prompts with AnimateDiff-Evolved's nodes for AnimateLCM-I2V; for recording that pack and for comparing translations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pack.motion_models import checkpoint
from pack.motion_models.config import Family

from .evolved_pia import SIZE, Prompt, node
from .i2v_files import make_file
from .world import motion_config, motion_weights

FILE, OTHER = "AnimateLCM_sd15_i2v.safetensors", "v3_sd15_mm.safetensors"


def write_motion_models(folder: Path) -> None:
    config = motion_config(Family.LCM_I2V)
    make_file(folder / FILE, config, motion_weights(config))
    config = motion_config(Family.V3)
    checkpoint.save(folder / OTHER, config, motion_weights(config, 1))


def _case(frames: int = 8, steps: int = 2, drift: float = 0.8, of: str = "encoder", **others: Any) -> Prompt:
    """``others`` are nodes, or inputs of the node that applies; ``of`` is the one that loads the motion model."""
    values = {name: others.pop(name) for name in ("start_percent", "end_percent", "apply_ref_when_disabled") if name in others}
    evolved = {"model": ["checkpoint", 0], "m_models": ["applied", 0], "beta_schedule": "autoselect"}
    evolved |= {"context_options": ["windows", 0]} if "windows" in others else {}
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "image": node("LoadImage", image="a.png"),
        "latent": node("EmptyLatentImage", width=SIZE, height=SIZE, batch_size=frames),
        "reference": node(
            "ADE_UpscaleAndVAEEncode", image=["image", 0], vae=["checkpoint", 2], latent_size=["latent", 0],
            scale_method="bilinear", crop="center",
        ),
        "encoder": node("ADE_LoadAnimateLCMI2VModel", model_name=FILE),
        "applied": node(
            "ADE_ApplyAnimateLCMI2VModel", motion_model=[of, 0], ref_latent=["reference", 0], ref_drift=drift,
            **{"start_percent": 0.0, "end_percent": 1.0, "apply_ref_when_disabled": False} | values,
        ),
        "animated": node("ADE_UseEvolvedSampling", **evolved),
        "sampled": node("KSampler", model=["animated", 0], latent_image=["latent", 0], steps=steps),
        **others,
    }  # fmt: skip


def cases() -> Iterator[tuple[str, Prompt]]:
    """Yield each case's name and prompt. An encoder alone is none of them: AnimateDiff-Evolved 1.5.7 fails there."""
    yield "an image", _case()
    windows = node("ADE_StandardStaticContextOptions", context_length=6, context_overlap=2, fuse_method="pyramid")
    yield "in windows, without drift", _case(10, drift=0.0, windows=windows)
    part = {"start_percent": 0.2, "end_percent": 0.7}
    yield "in a part of the run", _case(steps=4, **part)
    yield "in all of it, with motion in a part", _case(steps=4, apply_ref_when_disabled=True, **part)
    yield "put into another motion model", _case(of="put", put=node("ADE_InjectI2VIntoAnimateDiffModel", model_name=OTHER, motion_model=["encoder", 0]))
