"""The nodes that a translation is made of: their inputs in the order of their schemas, and what they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_FRAMES = "LOOM_FRAME_VALUES,MASK,FLOAT,CURVE"


@dataclass(frozen=True)
class TargetInput:
    """An input: a socket, or a widget with its default."""

    name: str
    type: str
    default: Any = None
    is_widget: bool = False


@dataclass(frozen=True)
class Target:
    """A node's schema; ``extra_widgets`` are values that the editor keeps behind another one, by that one's name."""

    inputs: tuple[TargetInput, ...]
    outputs: tuple[tuple[str, str], ...]
    extra_widgets: tuple[tuple[str, Any], ...] = ()
    pack: str = "comfy-core"


def _target(sockets: dict[str, str], widgets: dict[str, tuple[str, Any]], outputs: dict[str, str], **more: Any) -> Target:
    entries = [TargetInput(name, kind) for name, kind in sockets.items()]
    entries += [TargetInput(name, kind, default, True) for name, (kind, default) in widgets.items()]
    return Target(tuple(entries), tuple(outputs.items()), **more)


_LOOM: dict[str, Any] = {"pack": "comfyui-animatediff-loom"}
_MODEL = {"model": "MODEL"}
_MOTION = {"motion_model": "LOOM_MOTION_MODEL"}
_CONTROL = (("seed", "fixed"), ("noise_seed", "fixed"))

TARGETS: dict[str, Target] = {
    "LoomLoadMotionModel": _target(
        {}, {"motion_model_name": ("COMBO", ""), "weight_scale": ("FLOAT", 1.0)}, _MOTION, **_LOOM
    ),
    "LoomLoadMotionLora": _target(
        {**_MOTION, "strength_values": _FRAMES, "strength_steps": "CURVE"},
        {"motion_lora_name": ("COMBO", ""), "strength": ("FLOAT", 1.0)},
        _MOTION, **_LOOM,
    ),
    "LoomRetimeMotion": _target(
        {**_MOTION, "ease": "CURVE"},
        {
            "speed": ("FLOAT", 1.0), "offset": ("FLOAT", 0.0), "repeat": ("COMBO", "none"), "repeat_frames": ("INT", 16),
            "extend": ("BOOLEAN", False), "across_windows": ("BOOLEAN", False), "stretch": ("INT", 0), "stretch_from": ("INT", 0),
        },
        _MOTION, **_LOOM,
    ),
    "LoomApplyMotionModel": _target(
        {
            **_MODEL, **_MOTION, "motion_scale_values": _FRAMES, "strength_values": _FRAMES, "motion_scale_steps": "CURVE",
            "strength_steps": "CURVE", "motion_scale_blocks": "LOOM_BLOCK_VALUES", "strength_blocks": "LOOM_BLOCK_VALUES",
        },
        {
            "beta_schedule": ("COMBO", "auto"), "motion_scale": ("FLOAT", 1.0), "strength": ("FLOAT", 1.0),
            "start_percent": ("FLOAT", 0.0), "end_percent": ("FLOAT", 1.0), "group_norms": ("COMBO", "as trained"),
            "hold_last_value": ("BOOLEAN", False), "curves_over": ("COMBO", "steps"), "compile": ("BOOLEAN", False),
        },
        _MODEL, **_LOOM,
    ),
    "LoomMergeMotionModels": _target(
        {"motion_model_1": "LOOM_MOTION_MODEL", "motion_model_2": "LOOM_MOTION_MODEL", "ratio_blocks": "LOOM_BLOCK_VALUES"},
        {"ratio": ("FLOAT", 0.5)}, _MOTION, **_LOOM,
    ),
    "LoomPiaImage": _target(
        {**_MOTION, "image": "IMAGE", "vae": "VAE", "similarity_values": _FRAMES},
        {
            "frame": ("INT", 0), "motion": ("COMBO", "medium motion"), "similarity": ("FLOAT", 1.0), "hold_last_value": ("BOOLEAN", False),
        },
        _MOTION, **_LOOM,
    ),
    "LoomAnimateLcmImage": _target(
        {**_MOTION, "image": "IMAGE,LATENT", "vae": "VAE", "strength_values": _FRAMES, "image_encoder": "LOOM_MOTION_MODEL"},
        {
            "drift": ("FLOAT", 0.8), "strength": ("FLOAT", 1.0), "start_percent": ("FLOAT", 0.0), "end_percent": ("FLOAT", 1.0),
        },
        _MOTION, **_LOOM,
    ),
    "LoomContextWindows": _target(
        _MODEL,
        {
            "context_length": ("INT", 16), "context_overlap": ("INT", 4), "context_schedule": ("COMBO", "standard_static"),
            "fuse_method": ("COMBO", "pyramid"), "context_stride": ("INT", 1), "closed_loop": ("BOOLEAN", False),
            "freenoise": ("BOOLEAN", False), "freenoise_order": ("COMBO", "any window"),
            "cut_equal_length": ("COMBO", "closed loops"), "wide_windows": ("COMBO", "leave out"),
            "count_steps_of": ("COMBO", "the whole schedule"),
        },
        _MODEL, **_LOOM,
    ),
    "LoomViewWindows": _target(
        _MODEL,
        {
            "view_length": ("INT", 16), "view_overlap": ("INT", 4), "fuse_method": ("COMBO", "pyramid"),
            "closed_loop": ("BOOLEAN", False),
        },
        _MODEL, **_LOOM,
    ),
    "LoomFreeInit": _target(
        _MODEL,
        {
            "iterations": ("INT", 3), "filter": ("COMBO", "butterworth"), "spatial_cutoff": ("FLOAT", 0.25),
            "temporal_cutoff": ("FLOAT", 0.25), "order": ("INT", 4), "coarse_to_fine": ("BOOLEAN", False),
            "restart_from": ("COMBO", "first noise"), "method": ("COMBO", "FreeInit"),
        },
        _MODEL, **_LOOM,
    ),
    "LoomStartingNoise": _target(
        {**_MODEL, "seed": "INT"},
        {
            "seed_offset": ("INT", 0), "seeding": ("COMBO", "one seed"), "first_frame": ("INT", 0),
            "noise": ("COMBO", "each frame its own"), "context_length": ("INT", 16),
        },
        _MODEL, **_LOOM,
    ),
    "LoomApplyFreeNoise": _target(
        _MODEL,
        {
            "context_length": ("INT", 16), "context_overlap": ("INT", 4), "closed_loop": ("BOOLEAN", False),
            "freenoise_order": ("COMBO", "any window"),
        },
        _MODEL, **_LOOM,
    ),
    "LoomSharedNoise": _target(_MODEL, {"cutoff": ("FLOAT", 0.1)}, _MODEL, **_LOOM),
    "LoomStepCurve": _target(
        {}, {"text": ("STRING", "0%: 1.0\n100%: 1.0"), "easing": ("COMBO", "linear")}, {"curve": "CURVE"}, **_LOOM
    ),
    "LoomValueSchedule": _target(
        {"latent": "LATENT"},
        {
            "text": ("STRING", "0: 1.0"), "frames": ("INT", 16), "easing": ("COMBO", "linear"), "hold": ("FLOAT", 0.0),
            "closed_loop": ("BOOLEAN", False),
        },
        {"values": "LOOM_FRAME_VALUES", "floats": "FLOATS", "chart": "IMAGE"}, **_LOOM,
    ),
    "LoomPromptSchedule": _target(
        {"clip": "CLIP", **{f"pw_{x}": "LOOM_FRAME_VALUES,FLOAT" for x in "abcd"}, "latent": "LATENT"},
        {
            "text": ("STRING", "0: a calm sea\n8: a storm"), "frames": ("INT", 16), "easing": ("COMBO", "linear"),
            "hold": ("FLOAT", 0.0), "interpolation": ("COMBO", "linear"), "closed_loop": ("BOOLEAN", False),
            "joining": ("COMBO", "comma"), "padding": ("COMBO", "repeat"), "start_frame": ("INT", 0), "end_frame": ("INT", 0),
        },
        {"conditioning": "CONDITIONING", "negative": "CONDITIONING", "chart": "IMAGE"}, **_LOOM,
    ),
    "StringConcatenate": _target(
        {}, {"string_a": ("STRING", ""), "string_b": ("STRING", ""), "delimiter": ("STRING", "")}, {"STRING": "STRING"}
    ),
    "LoomEmptyAnimationLatent": _target(
        {}, {"width": ("INT", 512), "height": ("INT", 512), "frames": ("INT", 16)}, {"latent": "LATENT"}, **_LOOM
    ),
    "LoomNoiseSchedule": _target(
        _MODEL, {"beta_schedule": ("COMBO", "keep model's"), "prediction": ("COMBO", "as connected")}, _MODEL, **_LOOM
    ),
    "LoomRepeatLastFrame": _target({"latent": "LATENT"}, {"frames": ("INT", 16)}, {"latent": "LATENT"}, **_LOOM),
    "LoomPingPong": _target({"images": "IMAGE"}, {}, {"images": "IMAGE"}, **_LOOM),
    "CheckpointLoaderSimple": _target(
        {}, {"ckpt_name": ("COMBO", "")}, {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE"}
    ),
    "ModelSamplingDiscrete": _target(
        _MODEL, {"sampling": ("COMBO", "eps"), "zsnr": ("BOOLEAN", False)}, {"MODEL": "MODEL"}
    ),
    "KSampler": _target(
        {**_MODEL, "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"},
        {
            "seed": ("INT", 0), "steps": ("INT", 20), "cfg": ("FLOAT", 8.0), "sampler_name": ("COMBO", "euler"),
            "scheduler": ("COMBO", "normal"), "denoise": ("FLOAT", 1.0),
        },
        {"LATENT": "LATENT"}, extra_widgets=_CONTROL,
    ),
    "KSamplerAdvanced": _target(
        {**_MODEL, "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"},
        {
            "add_noise": ("COMBO", "enable"), "noise_seed": ("INT", 0), "steps": ("INT", 20), "cfg": ("FLOAT", 8.0),
            "sampler_name": ("COMBO", "euler"), "scheduler": ("COMBO", "normal"), "start_at_step": ("INT", 0),
            "end_at_step": ("INT", 10000), "return_with_leftover_noise": ("COMBO", "disable"),
        },
        {"LATENT": "LATENT"}, extra_widgets=_CONTROL,
    ),
    "PrimitiveFloat": _target({}, {"value": ("FLOAT", 0.0)}, {"FLOAT": "FLOAT"}),
    "ComfyNumberConvert": _target({"value": "INT,FLOAT,STRING,BOOLEAN"}, {}, {"FLOAT": "FLOAT", "INT": "INT"}),
    "EmptyLatentImage": _target(
        {}, {"width": ("INT", 512), "height": ("INT", 512), "batch_size": ("INT", 1)}, {"LATENT": "LATENT"}
    ),
    "ImageScale": _target(
        {"image": "IMAGE"},
        {
            "upscale_method": ("COMBO", "nearest-exact"), "width": ("INT", 512), "height": ("INT", 512), "crop": ("COMBO", "disabled"),
        },
        {"IMAGE": "IMAGE"},
    ),
    "GetImageSize": _target({"image": "IMAGE"}, {}, {"width": "INT", "height": "INT", "batch_size": "INT"}),
    "VAEEncode": _target({"pixels": "IMAGE", "vae": "VAE"}, {}, {"LATENT": "LATENT"}),
    "VAEDecode": _target({"samples": "LATENT", "vae": "VAE"}, {}, {"IMAGE": "IMAGE"}),
    "SaveAnimatedWEBP": _target(
        {"images": "IMAGE"},
        {
            "filename_prefix": ("STRING", "ComfyUI"), "fps": ("FLOAT", 6.0), "lossless": ("BOOLEAN", True),
            "quality": ("INT", 80), "method": ("COMBO", "default"),
        },
        {"IMAGE": "IMAGE"},
    ),
    "CreateVideo": _target(
        {"images": "IMAGE", "audio": "AUDIO"}, {"fps": ("FLOAT", 30.0), "bit_depth": ("INT", 8)}, {"VIDEO": "VIDEO"}
    ),
    "SaveVideo": _target(
        {"video": "VIDEO"},
        {
            "filename_prefix": ("STRING", "video/ComfyUI"), "format": ("COMBO", "auto"),
            "codec": ("COMFY_DYNAMICCOMBO_V3", "auto"),
        },
        {"VIDEO": "VIDEO"},
    ),
}

_SEED = (0, 2**64 - 1)
_FRAME_COUNT = (1, 4096)
_SHARE = (0.0, 1.0)

BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "LoomLoadMotionModel": {"weight_scale": (0.0, 2.0)},
    "LoomLoadMotionLora": {"strength": (-10.0, 10.0)},
    "LoomRetimeMotion": {
        "speed": (0.0, 8.0), "offset": (0.0, 4096.0), "repeat_frames": (2, 4096), "stretch": (-4095, 4096), "stretch_from": (0, 4096),
    },
    "LoomApplyMotionModel": {
        "motion_scale": (0.0, 10.0), "strength": (0.0, 10.0), "start_percent": _SHARE, "end_percent": _SHARE,
    },
    "PrimitiveFloat": {"value": (-(2**63 - 1), 2**63 - 1)},
    "LoomMergeMotionModels": {"ratio": _SHARE},
    "LoomPiaImage": {"frame": (-4096, 4095), "similarity": (0.0, 2.0)},
    "LoomAnimateLcmImage": {"drift": (0.0, 10.0), "strength": (0.0, 10.0), "start_percent": _SHARE, "end_percent": _SHARE},
    "LoomContextWindows": {"context_length": _FRAME_COUNT, "context_overlap": (0, 4095), "context_stride": (1, 16)},
    "LoomViewWindows": {"view_length": _FRAME_COUNT, "view_overlap": (0, 4095)},
    "LoomFreeInit": {"iterations": (1, 100), "spatial_cutoff": _SHARE, "temporal_cutoff": _SHARE, "order": (1, 64)},
    "LoomSharedNoise": {"cutoff": _SHARE},
    "LoomStartingNoise": {
        "seed_offset": (1 - 2**53, 2**53 - 1), "first_frame": (0, 4096), "context_length": _FRAME_COUNT,
    },
    "LoomApplyFreeNoise": {"context_length": _FRAME_COUNT, "context_overlap": (0, 4095)},
    "LoomEmptyAnimationLatent": {"width": (16, 16384), "height": (16, 16384), "frames": _FRAME_COUNT},
    "LoomRepeatLastFrame": {"frames": _FRAME_COUNT},
    "LoomValueSchedule": {"frames": (0, 4096), "hold": _SHARE},
    "LoomPromptSchedule": {"frames": (0, 4096), "hold": _SHARE, "start_frame": (0, 4096), "end_frame": (0, 4096)},
    "KSampler": {"seed": _SEED, "steps": (1, 10000), "cfg": (0.0, 100.0), "denoise": _SHARE},
    "KSamplerAdvanced": {
        "noise_seed": _SEED, "steps": (1, 10000), "cfg": (0.0, 100.0), "start_at_step": (0, 10000), "end_at_step": (0, 10000),
    },
    "EmptyLatentImage": {"width": (16, 16384), "height": (16, 16384), "batch_size": _FRAME_COUNT},
    "ImageScale": {"width": (0, 16384), "height": (0, 16384)},
    "SaveAnimatedWEBP": {"fps": (0.01, 1000.0), "quality": (0, 100)},
    "CreateVideo": {"fps": (1.0, 120.0), "bit_depth": (8, 10)},
}
"""The least and the most of their numbers; ComfyUI refuses a prompt with others."""


def fitted(type: str, entry: TargetInput, value: Any) -> Any:
    """The value of a widget as its node takes it: within its bounds, and the default where it is of another kind."""
    if entry.type in ("INT", "FLOAT"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return entry.default
        least, most = BOUNDS.get(type, {}).get(entry.name, (value, value))
        value = min(max(value, least), most)
        return int(value) if entry.type == "INT" else value
    kind = bool if entry.type == "BOOLEAN" else str
    return value if isinstance(value, kind) else entry.default
