"""Small prompts with AnimateDiff-Evolved's nodes, and the models they run on; for recording it and for comparing Loom with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

CHECKPOINT = "tiny_sd15.safetensors"
V1, V2, V3 = "mm_sd_v15.safetensors", "mm_sd_v15_v2.safetensors", "v3_sd15_mm.safetensors"
LORA = "zoom_lora.safetensors"
UNET = "tiny_with_middle.safetensors"
V2_MIDDLE, LCM = "mm_sd_v15_v2_middle.safetensors", "AnimateLCM_sd15_t2v.safetensors"
"""The demo's UNet and motion model have no middle block; these have one."""
LINEAR = "sqrt_linear (AnimateDiff)"
SIZE = 32  # pixels; the UNet sees 4 x 4

Prompt = dict[str, dict[str, Any]]


def write_models(demo_motion_model: Path, motion_folder: Path, lora_folder: Path, for_evolved: bool = False) -> None:
    """Write the demo's motion model as families that AnimateDiff-Evolved tells apart, and a motion LoRA for it."""
    weights = {name: tensor.float() for name, tensor in load_file(demo_motion_model).items()}
    first = weights | {name: tensor[:, :24].contiguous() for name, tensor in weights.items() if name.endswith("pos_encoder.pe")}
    save_file(weights, motion_folder / V3)
    save_file(first, motion_folder / V1)
    # The demo's UNet has no middle block: AnimateDiff-Evolved ignores what is for one, Loom refuses it.
    part = "down_blocks.0.motion_modules.0."
    middle = {name.replace(part, "mid_block.motion_modules.0."): tensor.clone() for name, tensor in weights.items() if part in name}
    save_file(weights | middle if for_evolved else first, motion_folder / V2)
    save_file(weights | middle, motion_folder / V2_MIDDLE)
    save_file({name: tensor for name, tensor in (weights | middle).items() if "pos_encoder" not in name}, motion_folder / LCM)
    random, lora = torch.Generator().manual_seed(0), {}
    for name, tensor in weights.items():
        if ".attention_blocks." in name and name.endswith((".to_q.weight", ".to_v.weight")):
            stem, layer = name.removesuffix(".weight").rsplit(".", 1)
            lora[f"{stem}.processor.{layer}_lora.down.weight"] = 0.05 * torch.randn(2, tensor.shape[1], generator=random)
            lora[f"{stem}.processor.{layer}_lora.up.weight"] = 0.05 * torch.randn(tensor.shape[0], 2, generator=random)
    save_file(lora, lora_folder / LORA)


def write_unet(demo_checkpoint: Path, unet_folder: Path) -> None:
    """Write the demo's UNet with a middle block, which has the weights of its first block."""
    prefix = "model.diffusion_model."
    weights = {name.removeprefix(prefix): tensor for name, tensor in load_file(demo_checkpoint).items() if name.startswith(prefix)}
    for place, origin in enumerate(("input_blocks.1.0.", "input_blocks.1.1.", "input_blocks.1.0.")):
        added = {name.replace(origin, f"middle_block.{place}."): tensor.clone() for name, tensor in weights.items() if name.startswith(origin)}
        weights |= added
    save_file(weights, unet_folder / UNET)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _still(frames: int) -> Prompt:
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text="a red circle moving left"),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text=""),
        "frames": node("EmptyLatentImage", width=SIZE, height=SIZE, batch_size=frames),
        "saved": node("SaveLatent", samples=["sampled", 0], filename_prefix="latents"),
    }


def _sampler(**inputs: Any) -> dict[str, Any]:
    given = {"seed": 5, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0} | inputs
    links = {"model": ["animated", 0], "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["frames", 0]}
    return node("KSampler", **links | given)


def _legacy(name: str = V3, beta: str = LINEAR, scale: float = 1.0, **links: Any) -> dict[str, Any]:
    return node(
        "ADE_AnimateDiffLoaderWithContext",
        **{
            "model": ["checkpoint", 0], "model_name": name, "beta_schedule": beta, "motion_scale": scale,
            "apply_v2_models_properly": True,
        } | links,
    )  # fmt: skip


def _case(animated: dict[str, Any], frames: int = 8, sampler: dict[str, Any] | None = None, **others: dict[str, Any]) -> Prompt:
    return {**_still(frames), "animated": animated, "sampled": _sampler(**sampler or {}), **others}


def _windows(
    kind: str, frames: int = 20, sampler: dict[str, Any] | None = None, animated: dict[str, Any] | None = None, **options: Any
) -> Prompt:
    context = {"context_length": 8, "use_on_equal_length": False, "start_percent": 0.0, "guarantee_steps": 1} | options
    if kind != "Batched":
        context = {"context_overlap": 3, "fuse_method": "pyramid"} | context
    else:
        context.pop("use_on_equal_length")
    if kind in ("AnimateDiffUniform", "LoopedUniform"):
        context = {"context_stride": 1, "closed_loop": False} | context
    elif kind == "StandardUniform":
        context = {"context_stride": 1} | context
    if kind == "AnimateDiffUniform":
        context["context_schedule"] = "uniform"
    animated = animated or _legacy()
    animated["inputs"]["context_options"] = ["context", 0]
    return _case(animated, frames, sampler, context=node(f"ADE_{kind}ContextOptions", **context))


def _settings(frames: int = 8, sampler: dict[str, Any] | None = None, windows: Prompt | None = None, **options: Any) -> Prompt:
    given = {"batch_offset": 0, "noise_type": "default", "seed_gen": "comfy", "seed_offset": 0, "adapt_denoise_steps": False}
    others = {name: value for name, value in options.items() if isinstance(value, dict)}
    links = {name: [name, 0] for name in others}
    values = {name: value for name, value in options.items() if name not in others}
    prompt = windows or _case(_legacy(), frames, sampler)
    prompt["animated"]["inputs"]["sample_settings"] = ["settings", 0]
    return {**prompt, "settings": node("ADE_AnimateDiffSamplingSettings", **given | values | links), **others}


def _on_frames(prompt: Prompt) -> Prompt:
    """On the latents of another sampler instead of empty ones, whose model has no motion."""
    first = _sampler(model=["checkpoint", 0], steps=1)
    prompt["sampled"]["inputs"]["latent_image"] = ["first", 0]
    return {**prompt, "first": first}


def _gen2(models: list[tuple[str, dict[str, Any]]], steps: int = 2, **others: dict[str, Any]) -> Prompt:
    prompt = {**_still(8), "sampled": _sampler(steps=steps), **others}
    before: dict[str, Any] = {}
    for number, (name, inputs) in enumerate(models):
        prompt[f"loaded{number}"] = node("ADE_LoadAnimateDiffModel", model_name=name)
        prompt[f"applied{number}"] = node(
            "ADE_ApplyAnimateDiffModel", motion_model=[f"loaded{number}", 0],
            **{"start_percent": 0.0, "end_percent": 1.0} | before | inputs,
        )  # fmt: skip
        before = {"prev_m_models": [f"applied{number}", 0]}
    last = [f"applied{len(models) - 1}", 0]
    prompt["animated"] = node("ADE_UseEvolvedSampling", model=["checkpoint", 0], m_models=last, beta_schedule=LINEAR)
    return prompt


def _adjusted(animated: dict[str, Any], **adjusts: dict[str, Any]) -> Prompt:
    settings = {name: [name, 0] for name in adjusts if name.endswith("_adjust")}
    animated["inputs"]["ad_settings"] = ["ad_settings", 0]
    return _case(animated, ad_settings=node("ADE_AnimateDiffSettings", **settings), **adjusts)


def _multival(value: Any, **links: Any) -> dict[str, Any]:
    return node("ADE_MultivalDynamic", float_val=value, **links)


def cases() -> Iterator[tuple[str, Prompt]]:
    """Yield each case's name and prompt."""
    yield "gen1", _case(node("ADE_AnimateDiffLoaderGen1", model=["checkpoint", 0], model_name=V3, beta_schedule="autoselect"))
    yield "legacy, scale 1.2", _case(_legacy(scale=1.2))
    yield "v1", _case(_legacy(V1))
    lcm = {"sampler_name": "lcm", "cfg": 1.0}
    for beta in ("lcm", "lcm >> sqrt_linear", "lcm[100_ots]", "lcm avg(sqrt_linear,linear)"):
        yield beta, _case(_legacy(beta=beta), sampler=lcm)
    # Of "sqrt" the noise begins at 3e17, and rounding alone decides what becomes of it.
    for beta in ("linear (HotshotXL/default)", "linear (AnimateDiff-SDXL)", "avg(sqrt_linear,linear)", "use existing", "cosine"):
        yield beta, _case(_legacy(beta=beta))
    sampling = node("ModelSamplingDiscrete", model=["checkpoint", 0], sampling="lcm", zsnr=False)
    yield "a schedule that is thrown away", _case(_legacy(model=["sampling", 0]), sampling=sampling)
    yield "range of v1", _gen2([(V1, {"start_percent": 0.2, "end_percent": 0.6})], steps=6)
    improper = _legacy(V2, apply_v2_models_properly=False)
    yield "v2 as v1, windows", _windows("StandardStatic", 12, animated=improper)
    numbers = {"scale": _multival(1.1), "effect": _multival(0.8)}
    yield "numbers", _gen2([(V3, {"scale_multival": ["scale", 0], "effect_multival": ["effect", 0]})], **numbers)
    grey, white = (node("EmptyImage", width=SIZE, height=SIZE, batch_size=1, color=color) for color in (0x808080, 0xFFFFFF))
    masks = {"both": node("ImageBatch", image1=["grey", 0], image2=["white", 0])}
    masks["mask"] = node("ImageToMask", image=["both", 0], channel="red")
    linked = {"scale": _multival(1.2, mask_optional=["mask", 0]), "effect": _multival(0.9, mask_optional=["mask", 0])}
    both = {"scale_multival": ["scale", 0], "effect_multival": ["effect", 0]}
    yield "masks of fewer frames", _gen2([(V3, both)], grey=grey, white=white, **masks, **linked)
    keyframes = {
        "first": node("ADE_AnimateDiffKeyframe", start_percent=0.0, inherit_missing=True, guarantee_steps=1, scale_multival=["scale", 0]),
        "keyframes": node(
            "ADE_AnimateDiffKeyframe", start_percent=0.45, inherit_missing=False, guarantee_steps=1, prev_ad_keyframes=["first", 0],
            effect_multival=["effect", 0],
        ),
        "scale": _multival(1.4), "effect": _multival(0.6),
    }  # fmt: skip
    for scheduler in ("normal", "karras"):
        yield f"keyframes, {scheduler}", _case(
            _legacy(ad_keyframes=["keyframes", 0]), sampler={"steps": 5, "scheduler": scheduler}, **keyframes
        )
    yield "unload", {
        **_case(_legacy()), "off": node("ADE_AnimateDiffUnload", model=["animated", 0]), "sampled": _sampler(model=["off", 0]),
    }  # fmt: skip
    yield from _window_cases()
    yield from _settings_cases()
    sweetspot = node("ADE_AdjustPESweetspotStretch", sweetspot=6, new_sweetspot=8, print_adjustment=False)
    yield "positions stretched", _adjusted(_legacy(), pe_adjust=sweetspot)
    old = node("ADE_AnimateDiffModelSettingsSimple", motion_pe_stretch=3, min_motion_scale=1.0, max_motion_scale=1.0)
    yield "all positions stretched", _case(_legacy(ad_settings=["old", 0]), old=old)
    weights = node("ADE_AdjustWeightAllMult", all_MULT=1.01, print_adjustment=False)
    lora = node("ADE_AnimateDiffLoRALoader", name=LORA, strength=0.7)
    yield "weights x 1.01, motion LoRA", _adjusted(_legacy(motion_lora=["lora", 0]), weight_adjust=weights, lora=lora)


    yield from _schedule_cases()
    yield from _scheduled_cases()
    yield from _middle_cases()


def _middle_cases() -> Iterator[tuple[str, Prompt]]:
    def animated(name: str, beta: str = LINEAR, **more: Any) -> dict[str, Any]:
        return _legacy(name, beta, **{"model": ["unet", 0]} | more)

    unet = {"unet": node("UNETLoader", unet_name=UNET, weight_dtype="default")}
    yield "v2 with a middle block", _windows("LoopedUniform", 12, animated=animated(V2_MIDDLE)) | unet
    yield "v2 with a middle block, as v1", _case(animated(V2_MIDDLE, apply_v2_models_properly=False)) | unet
    lcm = {"sampler_name": "lcm", "cfg": 1.0}
    yield "AnimateLCM", _windows("StandardUniform", 12, lcm, animated(LCM, "autoselect")) | unet
    yield "AnimateLCM, improper", _case(animated(LCM, "lcm[100_ots]", apply_v2_models_properly=False), sampler=lcm) | unet


def _scheduled_cases() -> Iterator[tuple[str, Prompt]]:
    """Prompts and values over the frames, and a start that is scaled to a latent's size."""
    scaled = {
        "values": node("ADE_ValueScheduling", values="0 = 0.5, 3: = 1.5, 6 = 1.0", print_schedule=False, max_length=0),
        "scale": node("ADE_MultivalDynamic", float_val=["values", 0]),
        "more": node("ADE_ValueSchedulingLatents", values='"0": 1.2, "0.5": 0.6, "-2": 1.1', latent=["frames", 0], print_schedule=False),
        "effect": node("ADE_MultivalDynamicFloats", floats=["more", 1]),
    }
    yield "values over the frames", _gen2([(V3, {"scale_multival": ["scale", 0], "effect_multival": ["effect", 0]})], **scaled)
    before = node("PrimitiveString", value="bright, ")
    for name, text in (("one prompt over the frames", '0 = "a red circle"'), ("prompts over the frames", '0 = "a red circle", 6 = "a blue square"')):
        prompts = node("ADE_PromptSchedulingLatents", prompts=text, clip=["checkpoint", 1], latent=["frames", 0], print_schedule=False)
        prompts["inputs"] |= {"tensor_interp": "lerp", "prepend_text": ["before", 0]}
        yield name, _case(_legacy(), sampler={"latent_image": ["positive", 1]}) | {"positive": prompts, "before": before}
    images = {
        "white": node("EmptyImage", width=48, height=40, batch_size=8, color=0xFFFFFF),
        "padded": node("ImagePadForOutpaint", image=["white", 0], left=24, top=8, right=0, bottom=0, feathering=0),
        "start": node(
            "ADE_UpscaleAndVAEEncode", image=["padded", 0], vae=["checkpoint", 2], latent_size=["frames", 0], scale_method="bilinear",
            crop="center",
        ),
    }  # fmt: skip
    yield "a scaled start", _case(_legacy(), sampler={"latent_image": ["start", 0], "denoise": 0.6}) | images


def _schedule_cases() -> Iterator[tuple[str, Prompt]]:
    """Noise schedules beside the motion: set without any, before it, for others, and in its place."""

    def evolved(beta: str, **links: Any) -> dict[str, Any]:
        return node("ADE_UseEvolvedSampling", **{"model": ["checkpoint", 0], "beta_schedule": beta} | links)

    def noise_select(beta: str) -> dict[str, Any]:
        return node("CheckpointLoaderSimpleWithNoiseSelect", ckpt_name=CHECKPOINT, beta_schedule=beta)

    sampling = node("ModelSamplingDiscrete", model=["checkpoint", 0], sampling="lcm", zsnr=False)
    lcm = {"sampler_name": "lcm", "cfg": 1.0}
    yield "no motion, windows", _windows("StandardStatic", 12, animated=evolved(LINEAR))
    yield "no motion, lcm", _case(evolved("lcm"), sampler=lcm)
    yield "no motion, lcm thrown away", _case(evolved(LINEAR, model=["sampling", 0]), sampling=sampling)
    yield "no motion, autoselect", _case(evolved("autoselect", model=["sampling", 0]), sampler=lcm, sampling=sampling)
    yield "a checkpoint's schedule", {
        **_on_frames(_case(_legacy(beta="use existing"), sampler={"denoise": 0.6})), "checkpoint": noise_select(LINEAR),
    }  # fmt: skip
    yield "a checkpoint's lcm, thrown away", {
        **_on_frames(_case(_legacy(), sampler={"denoise": 0.6})), "checkpoint": noise_select("lcm"),
    }  # fmt: skip
    prompt = _on_frames(_case(_legacy(model=["sampling", 0]), sampler={"denoise": 0.6}, sampling=sampling))
    prompt["first"]["inputs"] |= {"model": ["sampling", 0], **lcm}
    yield "a schedule that others need", prompt
    free_u = node("FreeU_V2", model=["sampling", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    prompt = _on_frames(_case(_legacy(model=["free_u", 0]), sampler={"denoise": 0.6}, sampling=sampling, free_u=free_u))
    prompt["first"]["inputs"] |= {"model": ["free_u", 0], **lcm}
    yield "a schedule that others need behind another node", prompt
    first = _legacy(V1, beta="lcm", scale=1.3)
    yield "two loaders in a row", _case(_legacy(model=["first", 0]), first=first)


def _window_cases() -> Iterator[tuple[str, Prompt]]:
    yield "no windows, 24 frames", _case(_legacy(), 24)
    yield "uniform, flat", _windows("AnimateDiffUniform", fuse_method="flat")
    yield "uniform, closed", _windows("AnimateDiffUniform", closed_loop=True)
    yield "looped", _windows("LoopedUniform")
    yield "standard uniform", _windows("StandardUniform")
    for fuse in ("pyramid", "relative", "overlap-linear"):
        yield f"static, {fuse}", _windows("StandardStatic", fuse_method=fuse)
    yield "batched", _windows("Batched")
    yield "looped, overlap-linear", _windows("LoopedUniform", fuse_method="overlap-linear")
    yield "looped, from the midst, two calls a step", _windows(
        "LoopedUniform", 12, {"denoise": 0.5, "steps": 3, "sampler_name": "dpm_2"}
    )
    for stride in (2, 3):
        yield f"looped, stride {stride}", _windows("LoopedUniform", context_stride=stride)
    yield "standard uniform, stride 2", _windows("StandardUniform", context_stride=2)  # of 3 it fails on 20 frames
    yield "looped, stride 3, closed, 4 steps", _windows(
        "LoopedUniform", 21, {"steps": 4}, context_stride=3, context_overlap=5, closed_loop=True, fuse_method="overlap-linear"
    )
    yield "static, overlap-linear, more than half", _windows("StandardStatic", context_overlap=5, fuse_method="overlap-linear")
    for closed in (False, True):
        for equal in (False, True):
            name = f"as many frames as a window, {'closed' if closed else 'open'}{', used' if equal else ''}"
            yield name, _windows("LoopedUniform", 8, closed_loop=closed, use_on_equal_length=equal)
    view = node("ADE_StandardStaticViewOptions", view_length=6, view_overlap=2, fuse_method="pyramid")
    context = node("ADE_ViewsOnlyContextOptions", view_opts_req=["view", 0], start_percent=0.0, guarantee_steps=1)

    def viewed() -> Prompt:
        return _case(_legacy(context_options=["context", 0]), 12, context=context, view=view)

    yield "views", viewed()
    yield "views, FreeNoise", _settings(noise_type="FreeNoise", windows=viewed())


def _settings_cases() -> Iterator[tuple[str, Prompt]]:
    yield "default settings", _settings()
    yield "FreeNoise", _settings(noise_type="FreeNoise", windows=_windows("StandardStatic"))
    yield "seed offset, euler", _settings(seed_offset=1)
    yield "seed offset, ancestral", _settings(seed_offset=1, sampler={"sampler_name": "euler_ancestral", "steps": 3})
    yield "custom CFG", _settings(sampler={"cfg": 9.0}, custom_cfg=node("ADE_CustomCFGSimple", cfg=2.0))
    yield "no noise", _settings(noise_type="empty")
    yield "repeated context", _settings(noise_type="repeated_context", windows=_windows("StandardStatic"))
    yield "constant noise", _settings(noise_type="constant")
    free_init = node(
        "ADE_IterationOptsFreeInit", iterations=2, filter="gaussian", d_s=0.25, d_t=0.25, n_butterworth=4, sigma_step=999,
        apply_to_1st_iter=False, init_type="FreeInit [sampler sigma]", iter_batch_offset=0, iter_seed_offset=1,
    )  # fmt: skip
    yield "FreeInit", _settings(iteration_opts=free_init)
    again = node(free_init["class_type"], **free_init["inputs"] | {"iterations": 3, "filter": "butterworth", "n_butterworth": 2})
    yield "FreeInit thrice, FreeNoise, seed offset", _settings(
        noise_type="FreeNoise", seed_offset=3, windows=_windows("StandardStatic", 12), iteration_opts=again
    )
    yield "seeds per frame, offsets, FreeNoise", _settings(
        noise_type="FreeNoise", seed_gen="auto1111", seed_offset=-7, batch_offset=2, windows=_windows("LoopedUniform", 24)
    )
    ancestral = {"sampler_name": "euler_ancestral", "steps": 3}
    seed = node("PrimitiveInt", value=77)
    yield "seed of a link, repeated, first frame 1, ancestral", _settings(
        noise_type="repeated_context", batch_offset=1, seed_override=seed, windows=_windows("Batched", 20, ancestral)
    )
    noisy_latents = {"sampler_name": "dpmpp_sde", "denoise": 0.5, "seed": 9}
    yield "no noise, on frames", _on_frames(_settings(noise_type="empty", sampler=noisy_latents))
    yield "sigma schedule", _settings(sigma_schedule=node("ADE_SigmaSchedule", beta_schedule="linear (HotshotXL/default)"))
