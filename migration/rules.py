"""The rules of the translation, as data: what each choice of the other packs is in Loom, and what changes with it.

Source: ComfyUI-AnimateDiff-Evolved d8d163c (1.5.7) and comfyui-animatediff (ArtVentureX), read, and run beside Loom on the
demo world's models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .widgets import WIDGETS

LINEAR, SCALED, MEAN = "linear (AnimateDiff)", "scaled_linear (Stable Diffusion)", "mean of linear and scaled_linear"
USE_EXISTING, AUTOSELECT, LCM = "use existing", "autoselect", "lcm"

BETAS = {
    "sqrt_linear (AnimateDiff)": LINEAR,
    "linear (HotshotXL/default)": SCALED,
    "linear (AnimateDiff-SDXL)": "scaled_linear 0.020 (AnimateDiff-SDXL)",
    USE_EXISTING: "keep model's",
    AUTOSELECT: "auto",
    LCM: f"lcm 50, {SCALED}",
    "lcm >> sqrt_linear": f"lcm 50, {LINEAR}",
    "lcm[100_ots]": f"lcm 100, {SCALED}",
    "lcm[25_ots]": f"lcm 50, {SCALED}",
    "lcm avg(sqrt_linear,linear)": f"lcm 50, {MEAN}",
    "avg(sqrt_linear,linear)": MEAN,
    **{name: f"{name} (ComfyUI)" for name in ("sqrt", "cosine")},
}
"""Apply Motion Model's ``beta_schedule``, by what it was."""
NEAR_BETAS = {"lcm[25_ots]": "LCM on 25 timesteps becomes LCM on 50."}
UNKNOWN_BETA = "The noise schedule '{}' has no counterpart; the motion model's own is used."
AS_CHECKPOINT = "as the checkpoint does"
"""Noise Schedule's ``prediction``."""


@dataclass(frozen=True)
class FileFamily:
    """A line of motion models, told by file names.

    Attributes:
        name: for messages.
        pattern: of the names of its files.
        positions: frames that it has positions for, up to which AnimateDiff-Evolved samples without windows.
    """

    name: str
    pattern: re.Pattern[str]
    positions: int


def _family(name: str, pattern: str, positions: int) -> FileFamily:
    return FileFamily(name, re.compile(pattern, re.IGNORECASE), positions)


FAMILIES = (
    _family("PIA", r"(^|[_ -])pia([._ -]|$)", 32),
    _family("AnimateLCM", r"animatelcm|alcm|sd15_t2v", 64),
    _family("AnimateDiff v3", r"v3_sd15|v3", 32),
    _family("HotshotXL", r"hsxl|hotshot", 24),
    _family("AnimateDiff-SDXL", r"sdxl", 32),
    _family("LongAnimateDiff", r"lt_long_mm_16_64", 128),
    _family("LongAnimateDiff", r"lt_long|long_?mm", 64),
    _family("AnimateDiff v2", r"v2|lightning|mm-p", 32),
    _family("AnimateDiff v1", r"mm_sd_v1[45]|mm-stabilized|highlystable|itimacy|temporaldiff|humansmotion|mm_sd", 24),
)
"""In the order in which they are tried."""

UNKNOWN_FAMILY = FileFamily("unknown", re.compile(""), 32)

NORMS, NORMS_V2_AS_V1, ALL_NORMS = "like AnimateDiff-Evolved", "like AnimateDiff-Evolved, v2 as v1", "all over frames"
"""Apply Motion Model's ``group_norms``; ArtVentureX's nodes take all norms over the frames but with v2."""


def family_of(file_name: str) -> FileFamily:
    """The family of a motion-model file, as far as its name tells."""
    base = re.split(r"[\\/]", str(file_name))[-1]
    return next((family for family in FAMILIES if family.pattern.search(base)), UNKNOWN_FAMILY)


CONTEXTS = {
    "ADE_AnimateDiffUniformContextOptions": "looped_uniform",
    "ADE_LoopedUniformContextOptions": "looped_uniform",
    "ADE_StandardUniformContextOptions": "standard_uniform",
    "ADE_StandardStaticContextOptions": "standard_static",
    "ADE_BatchedContextOptions": "batched",
    "AnimateDiffSlidingWindowOptions": "looped_uniform",
}
"""Context Windows' ``context_schedule``, by the node that set the windows."""

FUSES = {"flat": "flat", "pyramid": "pyramid", "relative": "relative", "overlap-linear": "overlap-linear, open ends"}
"""Context Windows' ``fuse_method``."""

NOISE_TYPES = {"empty": "none", "repeated_context": "again in every window", "constant": "the same in all frames"}
"""Starting Noise's ``noise``."""

SEEDINGS = {"comfy [gpu]": "one seed, on the GPU", "auto1111": "a seed per frame", "auto1111 [gpu]": "a seed per frame, on the GPU"}
"""Starting Noise's ``seeding``."""

PIA_PRESETS = {
    **{f"Animation ({size} Motion)": f"{size.lower()} motion" for size in ("Small", "Medium", "Large")},
    **{f"Loop ({size} Motion)": f"mirrored loop, {size.lower()} motion" for size in ("Small", "Medium", "Large")},
    **{f"Style Transfer ({size} Motion)": f"style transfer, {size.lower()} motion" for size in ("Small", "Medium", "Large")},
}
"""PIA Image's ``motion``."""

FREE_INIT_FILTERS = frozenset({"gaussian", "butterworth", "ideal", "box"})

APPLY_LEGACY = ("ADE_AnimateDiffLoaderWithContext", "ADE_AnimateDiffLoaderGen1")
APPLY_V1 = (
    "AnimateDiffLoaderV1", "ADE_AnimateDiffLoaderV1Advanced", "ADE_AnimateDiffLoaderLegacy", "AnimateDiffLoaderLegacy",
)  # fmt: skip
APPLY_EVOLVED = "ADE_UseEvolvedSampling"
APPLY_PIA, APPLY_I2V = "ADE_ApplyAnimateDiffModelWithPIA", "ADE_ApplyAnimateLCMI2VModel"
APPLY_USES = ("ADE_ApplyAnimateDiffModel", "ADE_ApplyAnimateDiffModelSimple", APPLY_PIA, APPLY_I2V)
APPLY_POINTS = (*APPLY_LEGACY, *APPLY_V1, APPLY_EVOLVED)
"""Nodes whose output is an animated MODEL."""

NOISE_SELECT = "CheckpointLoaderSimpleWithNoiseSelect"
LOAD_MOTION_MODEL, LOAD_I2V = "ADE_LoadAnimateDiffModel", "ADE_LoadAnimateLCMI2VModel"
INJECT_PIA, INJECT_I2V = "ADE_InjectPIAIntoAnimateDiffModel", "ADE_InjectI2VIntoAnimateDiffModel"
MOTION_LOADERS = (LOAD_MOTION_MODEL, LOAD_I2V, INJECT_PIA, INJECT_I2V)

PARTS = frozenset({
    "ad_keyframes", "ad_settings", "ancestral_opts", "cfg_extras", "context_opts", "context_options", "custom_cfg",
    "effect_multival", "image_inject", "iteration_opts", "lora_stack", "m_models", "motion_lora", "motion_model",
    "motion_module", "noise_layers", "pe_adjust", "per_block", "prev_ad_keyframes", "prev_context", "prev_custom_cfg",
    "mult_multival", "multival", "pia_input", "prev_m_models", "prev_motion_lora", "prev_pe_adjust", "prev_weight_adjust", "sample_settings", "scale_multival",
    "sigma_schedule", "sliding_window_opts", "view_opts", "view_opts_req", "weight_adjust",
})  # fmt: skip
"""Inputs that take what only nodes of the same pack give: in 371 public workflows nothing else feeds one."""

SOCKETS = frozenset({
    "CONTEXT_OPTIONS", "CONTEXT_OPTS", "MOTION_LORA", "M_MODELS", "MOTION_MODEL_ADE", "SAMPLE_SETTINGS", "AD_SETTINGS",
    "AD_KEYFRAMES", "MULTIVAL", "ITERATION_OPTS", "CUSTOM_CFG", "SIGMA_SCHEDULE", "PE_ADJUST", "WEIGHT_ADJUST", "VIEW_OPTS", "NOISE_LAYERS",
    "IMAGE_INJECT", "MOTION_MODULE", "MOTION_LORA_STACK", "PER_BLOCK", "CONTEXT_EXTRAS", "PIA_INPUT",
})  # fmt: skip
"""What only nodes of these packs take and give."""

OLDER_INPUTS = {"motion_model_settings": "ad_settings"}

UNLOADS = ("ADE_AnimateDiffUnload", "AnimateDiffUnload", "AnimatedDiffUnload")
COMBINES = ("ADE_AnimateDiffCombine", "ADE_AnimateDiffCombineVideo", "AnimateDiffCombine", "AnimateDiffCombile")
"""Nodes that save animations."""

AVX_SAMPLER = "AnimateDiffSampler"

EMPTY_LATENTS = ("EmptyLatentImage", "ADE_EmptyLatentImageLarge", "LoomEmptyAnimationLatent")
"""Latents of a width and a height that are known."""

SAMPLERS = {
    "KSampler": "seed",
    "KSampler (Efficient)": "seed",
    "KSamplerAdvanced": "noise_seed",
    "KSampler Adv. (Efficient)": "noise_seed",
    "SamplerCustom": "noise_seed",
    "CFGGuider": "",
}
"""Nodes that sample a MODEL with a ``cfg``, and the names of their seeds."""

NO_COUNTERPART = {
    "image_inject": "Injecting images into the noise has no counterpart.",
    "ancestral_opts": "Options of ancestral noise have no counterpart.",
    "noise_layers": "Layers of noise have no counterpart.",
}
"""Inputs of Sampling Settings that are lost where something is linked to them."""

_FIRST_DAYS = "This node of the pack's first days has no counterpart: use Load Motion Model and Apply Motion Model."

_CAMERA = "CameraCtrl is not translated. Put Apply CameraCtrl between Load Motion Model and Apply Motion Model."

LOST_NODES = {
    **dict.fromkeys(
        ("AnimateDiffInject", "AnimateDiffLoader", "AnimateDiffLoader_v2", "AnimateDiffMotionModuleLoader"), _FIRST_DAYS
    ),
    "ADE_ApplyAnimateDiffModelWithCameraCtrl": _CAMERA,
    "ADE_LoadAnimateDiffModelWithCameraCtrl": _CAMERA,
    "ADE_ApplyAnimateDiffModelWithMotionCtrl": "MotionCtrl is not supported.",
    "ADE_ApplyAnimateDiffFancyVideo": "FancyVideo is not supported.",
}
"""Nodes that stay, and why."""

NEED_EVOLVED = dict.fromkeys(
    ("ACN_SparseCtrlLoaderAdvanced", "ACN_SparseCtrlMergedLoaderAdvanced"),
    "Advanced-ControlNet loads SparseCtrl with parts of AnimateDiff-Evolved: have that pack installed, too, or use Load SparseCtrl "
    "and SparseCtrl Frames.",
)
"""Nodes of other packs that stay and do not run without AnimateDiff-Evolved, and why."""

OURS = frozenset(
    name for name in WIDGETS if name.startswith(("ADE_", "Animate", "CheckpointLoaderSimpleWithNoise"))
)
"""Types of the packs that are translated."""

DISPLAY_NAMES = {
    "LoomLoadMotionModel": "Load Motion Model (AnimateDiff)",
    "LoomLoadMotionLora": "Load Motion LoRA",
    "LoomRetimeMotion": "Retime Motion",
    "LoomApplyMotionModel": "Apply Motion Model (AnimateDiff)",
    "LoomAnimateLcmImage": "AnimateLCM-I2V Image",
    "LoomContextWindows": "Context Windows (Loom)",
    "LoomViewWindows": "View Windows",
    "LoomFreeInit": "FreeInit",
    "LoomStartingNoise": "Starting Noise",
    "LoomApplyFreeNoise": "Apply FreeNoise",
    "LoomSharedNoise": "Shared Noise",
    "LoomStepCurve": "Step Curve",
    "LoomPromptSchedule": "Prompt Schedule",
    "LoomValueSchedule": "Value Schedule",
    "LoomNoiseSchedule": "Noise Schedule",
    "LoomPiaImage": "PIA Image",
    "LoomMergeMotionModels": "Merge Motion Models",
    "LoomEmptyAnimationLatent": "Empty Animation Latent",
    "LoomRepeatLastFrame": "Repeat Last Frame",
    "LoomPingPong": "Ping-Pong",
}


def is_foreign(type: str) -> bool:
    """Whether a node is of a pack that is translated; AnimateDiff-Evolved's ids begin alike."""
    return type.startswith("ADE_") or type in OURS or type in LOST_NODES
