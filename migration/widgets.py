"""The order in which the editor saves the values of other packs' nodes, in every version of them that was published.

Source: the history of ComfyUI-AnimateDiff-Evolved up to d8d163c, of comfyui-animatediff (ArtVentureX) and of ComfyUI, by
reading their INPUT_TYPES. A list that is shorter than today's was saved by an older version; what it lacks had the default
of its time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Widgets:
    """The widgets of a node.

    Attributes:
        names: in today's order.
        defaults: of those that a list may lack.
        older: orders of lists of other lengths, where they are not just today's cut short.
    """

    names: tuple[str, ...]
    defaults: dict[str, Any] = field(default_factory=dict)
    older: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def named(self, values: list[Any]) -> dict[str, Any]:
        """Give the values of a list their names."""
        values = list(values)
        # Some versions of 2024 add an empty entry for a note.
        while values and values[-1] in ("", None) and len(values) not in self.older and len(values) > len(self.names):
            values.pop()
        while values and values[-1] in ("", None) and len(values) <= len(self.names) and _is_filler(values, self.names):
            values.pop()
        names = self.older.get(len(values), self.names)
        return self.cleaned({name: value for name, value in zip(names, values, strict=False) if name != CONTROL})

    def cleaned(self, values: dict[str, Any]) -> dict[str, Any]:
        """Named values, and defaults for what lacks; numbers that some tools write as texts are numbers again."""
        read = {name: value if name in _TEXTS else _number_of(value) for name, value in values.items()}
        return {**self.defaults, **{name: value for name, value in read.items() if _is_plain(value)}}


CONTROL = "control_after_generate"
"""What the editor keeps after a seed."""


def _is_filler(values: list[Any], names: tuple[str, ...]) -> bool:
    """Whether a last entry that says nothing stands where a number or a switch belongs."""
    return names[len(values) - 1] not in _TEXTS


_TEXTS = frozenset({
    "add_noise", "app_text", "beta_schedule", "ckpt_name", "context_schedule", "crop", "filename_prefix", "filter", "format",
    "fuse_method", "init_type", "inject_method", "lora_name", "model_name", "name", "noise_type", "pre_text", "preview_method",
    "return_with_leftover_noise", "sampler_name", "sampling", "save_image", "scale_method", "scaling", "scheduler", "seed_gen",
    "append_text", "prepend_text", "preset", "prompts", "tensor_interp", "text", "unlimited_area_hack", "vae_decode", "value_key", "values",
})  # fmt: skip


def _number_of(value: Any) -> Any:
    """The number or switch that a text says; ``None`` if it says none."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None


def _is_plain(value: Any) -> bool:
    """Whether a widget may have this value: a text, a switch or a finite number."""
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _of(names: str, older: dict[int, str] | None = None, **defaults: Any) -> Widgets:
    return Widgets(tuple(names.split()), defaults, {n: tuple(line.split()) for n, line in (older or {}).items()})


_WINDOW_END: dict[str, Any] = {"use_on_equal_length": False, "start_percent": 0.0, "guarantee_steps": 1}

WIDGETS: dict[str, Widgets] = {
    # --- AnimateDiff-Evolved: motion models ---
    "ADE_AnimateDiffLoaderWithContext": _of(
        "model_name beta_schedule motion_scale apply_v2_models_properly", motion_scale=1.0, apply_v2_models_properly=False
    ),
    "ADE_AnimateDiffLoaderGen1": _of("model_name beta_schedule", beta_schedule="autoselect"),
    "ADE_UseEvolvedSampling": _of("beta_schedule", beta_schedule="autoselect"),
    "ADE_LoadAnimateDiffModel": _of("model_name"),
    "ADE_ApplyAnimateDiffModel": _of("start_percent end_percent", start_percent=0.0, end_percent=1.0),
    "ADE_ApplyAnimateDiffModelSimple": _of(""),
    "ADE_ApplyAnimateDiffModelWithPIA": _of("start_percent end_percent", start_percent=0.0, end_percent=1.0),
    "ADE_InputPIA_Multival": _of(""),
    "ADE_InputPIA_PaperPresets": _of("preset batch_index print_values", batch_index=0, print_values=False),
    "ADE_LoadAnimateLCMI2VModel": _of("model_name"),
    "ADE_InjectI2VIntoAnimateDiffModel": _of("model_name"),
    "ADE_InjectPIAIntoAnimateDiffModel": _of("model_name"),
    "ADE_ApplyAnimateLCMI2VModel": _of(
        "ref_drift apply_ref_when_disabled start_percent end_percent", {3: "ref_drift start_percent end_percent"},
        ref_drift=0.0, apply_ref_when_disabled=False, start_percent=0.0, end_percent=1.0,
    ),
    "AnimateDiffLoaderV1": _of(
        "model_name unlimited_area_hack beta_schedule",
        {2: "model_name unlimited_area_hack", 4: "model_name axes_factor ignore_factor_on_trunc unlimited_area_hack"},
        beta_schedule="sqrt_linear (AnimateDiff)",
    ),
    "ADE_AnimateDiffLoaderV1Advanced": _of(
        "model_name unlimited_area_hack context_length context_stride context_overlap context_schedule closed_loop "
        "beta_schedule",
        beta_schedule="sqrt_linear (AnimateDiff)",
    ),
    "ADE_AnimateDiffLoaderLegacy": _of("model_name unlimited_area_hack", beta_schedule="sqrt_linear (AnimateDiff)"),
    "AnimateDiffLoaderLegacy": _of(
        "model_name unlimited_area_hack", {4: "model_name width height frame_number"}, beta_schedule="sqrt_linear (AnimateDiff)"
    ),
    **dict.fromkeys(("ADE_AnimateDiffUnload", "AnimateDiffUnload", "AnimatedDiffUnload"), _of("")),
    "ADE_AnimateDiffLoRALoader": _of("name strength", strength=1.0),
    # --- settings that vary ---
    "ADE_MultivalDynamic": _of("float_val", float_val=1.0),
    "ADE_MultivalDynamicFloatInput": _of(""),
    "ADE_MultivalDynamicFloats": _of(""),
    "ADE_FloatToFloats": _of(""),
    "ADE_MultivalScaledMask": _of("min_float_val max_float_val scaling", scaling="absolute"),
    "ADE_AnimateDiffKeyframe": _of("start_percent inherit_missing guarantee_steps", inherit_missing=True, guarantee_steps=1),
    "ADE_PIA_AnimateDiffKeyframe": _of("start_percent inherit_missing guarantee_steps", inherit_missing=True, guarantee_steps=1),
    "ADE_PromptScheduling": _of("prompts print_schedule max_length tensor_interp"),
    "ADE_PromptSchedulingLatents": _of("prompts print_schedule tensor_interp"),
    "ADE_ValueScheduling": _of("values print_schedule max_length"),
    "ADE_ValueSchedulingLatents": _of("values print_schedule"),
    # --- windows ---
    "ADE_AnimateDiffUniformContextOptions": _of(
        "context_length context_stride context_overlap context_schedule closed_loop fuse_method use_on_equal_length "
        "start_percent guarantee_steps",
        fuse_method="flat", **_WINDOW_END,
    ),
    "ADE_LoopedUniformContextOptions": _of(
        "context_length context_stride context_overlap closed_loop fuse_method use_on_equal_length start_percent "
        "guarantee_steps",
        fuse_method="pyramid", **_WINDOW_END,
    ),
    "ADE_StandardUniformContextOptions": _of(
        "context_length context_stride context_overlap fuse_method use_on_equal_length start_percent guarantee_steps",
        fuse_method="pyramid", **_WINDOW_END,
    ),
    "ADE_StandardStaticContextOptions": _of(
        "context_length context_overlap fuse_method use_on_equal_length start_percent guarantee_steps",
        fuse_method="pyramid", **_WINDOW_END,
    ),
    "ADE_BatchedContextOptions": _of("context_length start_percent guarantee_steps", start_percent=0.0, guarantee_steps=1),
    "ADE_ViewsOnlyContextOptions": _of(
        "start_percent guarantee_steps", {3: "use_on_equal_length start_percent guarantee_steps"}, start_percent=0.0
    ),
    "ADE_StandardStaticViewOptions": _of("view_length view_overlap fuse_method", fuse_method="pyramid"),
    "ADE_StandardUniformViewOptions": _of("view_length view_stride view_overlap fuse_method", fuse_method="pyramid"),
    "ADE_LoopedUniformViewOptions": _of(
        "view_length view_stride view_overlap closed_loop fuse_method use_on_equal_length", fuse_method="pyramid"
    ),
    # --- sampling ---
    "ADE_AnimateDiffSamplingSettings": _of(
        "batch_offset noise_type seed_gen seed_offset adapt_denoise_steps",
        {1: "seed_gen", 6: "batch_offset noise_type seed_gen seed_offset seed_override adapt_denoise_steps"},
        batch_offset=0, noise_type="default", seed_gen="comfy", seed_offset=0, adapt_denoise_steps=False,
    ),
    "ADE_CustomCFGSimple": _of("cfg", cfg=8.0),
    "ADE_SigmaSchedule": _of("beta_schedule"),
    "ADE_IterationOptsFreeInit": _of(
        "iterations filter d_s d_t n_butterworth sigma_step apply_to_1st_iter init_type iter_batch_offset iter_seed_offset",
        apply_to_1st_iter=False, iter_batch_offset=0, iter_seed_offset=1,
    ),
    "ADE_IterationOptsDefault": _of("iterations iter_batch_offset iter_seed_offset", iterations=1),
    # --- settings of a motion model ---
    "ADE_AnimateDiffSettings": _of(""),
    "ADE_AdjustPESweetspotStretch": _of("sweetspot new_sweetspot print_adjustment", sweetspot=16, new_sweetspot=16),
    "ADE_AdjustPEFullStretch": _of("pe_stretch print_adjustment", pe_stretch=0),
    "ADE_AdjustPEManual": _of(
        "cap_initial_pe_length interpolate_pe_to_length initial_pe_idx_offset final_pe_idx_offset print_adjustment",
        cap_initial_pe_length=0, interpolate_pe_to_length=0, initial_pe_idx_offset=0, final_pe_idx_offset=0,
    ),
    "ADE_AdjustWeightAllMult": _of("all_MULT print_adjustment", all_MULT=1.0),
    "ADE_AnimateDiffModelSettingsSimple": _of(
        "motion_pe_stretch min_motion_scale max_motion_scale", motion_pe_stretch=0, min_motion_scale=1.0, max_motion_scale=1.0
    ),
    "ADE_AnimateDiffModelSettings": _of(
        "pe_strength attn_strength other_strength motion_pe_stretch cap_initial_pe_length interpolate_pe_to_length "
        "initial_pe_idx_offset final_pe_idx_offset min_motion_scale max_motion_scale",
        {
            6: "pe_strength attn_strength other_strength cap_initial_pe_length interpolate_pe_to_length initial_pe_idx_offset",
            7: "pe_strength attn_strength other_strength cap_initial_pe_length interpolate_pe_to_length initial_pe_idx_offset "
            "final_pe_idx_offset",
        },
        motion_pe_stretch=0, final_pe_idx_offset=0, min_motion_scale=1.0, max_motion_scale=1.0,
    ),
    "ADE_AnimateDiffModelSettingsAdvancedAttnStrengths": _of(
        "pe_strength attn_strength attn_q_strength attn_k_strength attn_v_strength attn_out_weight_strength "
        "attn_out_bias_strength other_strength motion_pe_stretch cap_initial_pe_length interpolate_pe_to_length "
        "initial_pe_idx_offset final_pe_idx_offset min_motion_scale max_motion_scale",
        min_motion_scale=1.0, max_motion_scale=1.0,
    ),
    # --- beside the motion ---
    "CheckpointLoaderSimpleWithNoiseSelect": _of(
        "ckpt_name beta_schedule use_custom_scale_factor scale_factor", use_custom_scale_factor=False, scale_factor=0.18215
    ),
    "ADE_EmptyLatentImageLarge": _of("width height batch_size"),
    "ADE_AnimateDiffCombine": _of(
        "frame_rate loop_count filename_prefix format pingpong save_image",
        {4: "frame_rate loop_count save_image filename_prefix", 5: "frame_rate loop_count save_image filename_prefix pingpong"},
        format="image/gif", pingpong=False, save_image=True,
    ),
    "ADE_AnimateDiffCombineVideo": _of(
        "frame_rate save_image filename_prefix pingpong", format="video/h264-mp4", pingpong=False, save_image=True
    ),
    **dict.fromkeys(("ADE_UpscaleAndVAEEncode", "ADE_UpscaleAndVaeEncode"), _of("scale_method crop", crop="center")),
    # --- ArtVentureX ---
    "AnimateDiffModuleLoader": _of("model_name"),
    "AnimateDiffLoraLoader": _of("lora_name alpha", alpha=1.0),
    "AnimateDiffSlidingWindowOptions": _of(
        "context_length context_stride context_overlap context_schedule closed_loop", closed_loop=False
    ),
    "AnimateDiffSampler": _of(
        f"inject_method frame_number seed {CONTROL} steps cfg sampler_name scheduler denoise", denoise=1.0
    ),
    **dict.fromkeys(
        ("AnimateDiffCombine", "AnimateDiffCombile"),
        _of("frame_rate loop_count save_image filename_prefix format pingpong", format="image/gif", pingpong=False),
    ),
    # --- ComfyUI's, whose values a translation may have to change ---
    "KSampler": _of(f"seed {CONTROL} steps cfg sampler_name scheduler denoise", denoise=1.0),
    "KSamplerAdvanced": _of(
        f"add_noise noise_seed {CONTROL} steps cfg sampler_name scheduler start_at_step end_at_step return_with_leftover_noise"
    ),
    "KSampler (Efficient)": _of(
        f"seed {CONTROL} steps cfg sampler_name scheduler denoise preview_method vae_decode", denoise=1.0
    ),
    "KSampler Adv. (Efficient)": _of(
        f"add_noise noise_seed {CONTROL} steps cfg sampler_name scheduler start_at_step end_at_step return_with_leftover_noise "
        "preview_method vae_decode"
    ),
    "SamplerCustom": _of(f"add_noise noise_seed {CONTROL} cfg"),
    "CFGGuider": _of("cfg"),
    "RandomNoise": _of(f"noise_seed {CONTROL}"),
    "EmptyLatentImage": _of("width height batch_size"),
    "ModelSamplingDiscrete": _of("sampling zsnr", zsnr=False),
}
