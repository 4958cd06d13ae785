"""A motion model between two others, made by patches as in ComfyUI's own merging nodes, so that nothing is copied."""

from __future__ import annotations

import json

from comfy.model_patcher import ModelPatcher

from ....motion_models.config import MotionModelConfig
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput
from ....motion_models.motion_model import MotionModule, Place
from ..motion.lora_branches import steered_loras
from ..motion.steered import BlockValues
from ..provenance import file_name, set_provenance
from ..types import logger


def merge_motion_models(
    one: ModelPatcher, other: ModelPatcher, ratio: float, blocks: BlockValues | None = None
) -> ModelPatcher:
    """Return a clone of ``one`` whose weights are ``ratio`` of its own and ``1 - ratio`` of the other's.

    ``blocks`` multiply the ratio, each in its block. Motion LoRAs that are merged into either come along, each with its
    motion model's share. All else is that of ``one``: family, noise schedule, positions.

    Raises ``IncompatibleMotionModel`` where the shapes differ or the strength of a motion LoRA varies, and
    ``InvalidInput`` where a ratio is not from 0 to 1.
    """
    _check(one, other)
    _notice_differences(one, other)
    merged = one.clone()
    theirs = other.get_key_patches()
    for name, module in merged.model.named_modules():
        if isinstance(module, MotionModule) and (share := _ratio_at(module.place, ratio, blocks)) < 1.0:
            for weight in module.state_dict(prefix=f"{name}."):
                merged.add_patches({weight: theirs[weight]}, 1.0 - share, share)
    recipe = {"motion_model_1": file_name(one), "motion_model_2": file_name(other), "ratio": ratio}
    if blocks is not None:
        recipe["ratio_blocks"] = {"down": blocks.down, "mid": blocks.mid, "up": blocks.up}
    set_provenance(merged, f"{file_name(one)} + {file_name(other)}", {"loom_merged": json.dumps(recipe)})
    return merged


def _ratio_at(place: Place, ratio: float, blocks: BlockValues | None) -> float:
    share = ratio if blocks is None else ratio * blocks.at(place)
    if not 0.0 <= share <= 1.0:
        block = "mid" if place.part == "mid" else f"{place.part}_{place.level + 1}"  # as an input of Motion Blocks
        where = "" if blocks is None else f" times {blocks.at(place):g} for block {block}"
        raise InvalidInput(
            f"ratio {ratio:g}{where} is {share:g}; expected 0 to 1. Lower ratio, or the factor of the block."
        )
    return share


def _check(one: ModelPatcher, other: ModelPatcher) -> None:
    for patcher in (one, other):
        if steered_loras(patcher):
            raise IncompatibleMotionModel(
                f"'{file_name(patcher)}' has a motion LoRA whose strength varies over frames or steps, "
                "which cannot be merged. Merge first, and connect Load Motion LoRA after it."
            )
    configs = (one.model.config, other.model.config)
    if len({(c.block_channels, c.layers_per_block, c.has_mid_block, c.num_heads) for c in configs}) > 1:
        raise IncompatibleMotionModel(
            f"'{file_name(one)}' ({_described(one.model.config)}) and '{file_name(other)}' "
            f"({_described(other.model.config)}) have different shapes and cannot be merged. "
            "Use two for the same base model, either both with a mid block or both without."
        )


def _described(config: MotionModelConfig) -> str:
    return f"{config.family.title}, {config.base_model}, with{'' if config.has_mid_block else 'out'} a mid block"


def _notice_differences(one: ModelPatcher, other: ModelPatcher) -> None:
    kept, lost = one.model.config.family, other.model.config.family
    traits = {
        "beta_schedule": "the noise schedule",
        "norm_over_frames": "whether the UNet's norms see all frames",
        "motion_norm_over_frames": "whether the motion modules' norms see all frames",
        "distilled_timesteps": "the number of steps to sample with",
    }
    differing = [text for trait, text in traits.items() if getattr(kept, trait) != getattr(lost, trait)]
    if differing:
        logger.warning(
            "Merge Motion Models: %s '%s' and %s '%s' differ in %s; the merged motion model has those of the first "
            "one, and may move badly. If it does, set ratio closer to 1, or use two of the same family.",
            *(kept.title, file_name(one), lost.title, file_name(other), ", ".join(differing)),
        )
