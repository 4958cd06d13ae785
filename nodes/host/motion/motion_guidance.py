"""Motion guidance: away from what the model predicts without some of its motion modules, as PAG goes away from blurred attention.

Source: Hyung et al. 2024, "Spatiotemporal Skip Guidance", arXiv:2411.18664, with motion modules as the layers that are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.samplers
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....motion_models.errors import InvalidInput
from ..types import WITHOUT_KEY
from .steered import applied_motion_models
from .unet_call import check_range, is_in_range

PARTS = {"all": ("down", "mid", "up"), "down": ("down",), "mid": ("mid",), "up": ("up",)}
"""The parts of the UNet whose motion modules are left out, by their names in the node; frozen, as part of saved workflows."""


@dataclass(frozen=True)
class MotionGuidance:
    """A function for ``set_model_sampler_post_cfg_function``: adds ``scale`` times what the motion modules bring.

    That is the prediction for the positive prompt, less the same without the motion modules of ``parts``. It takes one more
    evaluation of the positive prompt in each step from ``start_percent`` to ``end_percent`` in which such modules run.
    """

    scale: float
    parts: tuple[str, ...] = PARTS["all"]
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        check_range(self.start_percent, self.end_percent, "motion guidance would never act")

    def __call__(self, args: dict[str, Any]) -> Tensor:
        model, sigma, options = args["model"], args["sigma"], args["model_options"]
        if self.scale == 0.0 or not self._acts(model, sigma):
            return args["denoised"]
        without = {**options["transformer_options"], WITHOUT_KEY: self.parts}
        # Goes through the context windows that are set, as the step's own evaluations did.
        (still,) = comfy.samplers.calc_cond_batch(
            model, [args["cond"]], args["input"], sigma, {**options, "transformer_options": without}
        )
        return args["denoised"] + (args["cond_denoised"] - still) * self.scale

    def _acts(self, model: BaseModel, sigma: Tensor) -> bool:
        applied = applied_motion_models(model.current_patcher)
        if applied and not any(self._has_modules(patcher) for patcher, _ in applied):
            raise InvalidInput(
                f"Motion Guidance leaves out the motion modules of the UNet's {self.parts[0]} blocks, but the motion model has none "
                "there. Choose other blocks."
            )
        ranges = [(self.start_percent, self.end_percent)]
        ranges_of_motion = [(each.start_percent, each.end_percent) for patcher, each in applied if self._has_modules(patcher)]
        if all(start <= 0.0 and end >= 1.0 for start, end in ranges + ranges_of_motion):
            return bool(ranges_of_motion)  # without waiting for the device
        now = sigma.max().item()
        return is_in_range(now, *ranges[0], model.model_sampling) and any(
            is_in_range(now, *each, model.model_sampling) for each in ranges_of_motion
        )

    def _has_modules(self, motion_patcher: ModelPatcher) -> bool:
        return any(motion_patcher.model.modules_by_part[part] for part in self.parts)


def set_motion_guidance(model: ModelPatcher, guidance: MotionGuidance) -> None:
    """Let ``model``, the caller's own clone, be sampled with motion guidance, in place of an earlier one."""
    others = model.model_options.get("sampler_post_cfg_function", [])
    model.model_options["sampler_post_cfg_function"] = [each for each in others if not isinstance(each, MotionGuidance)]
    model.set_model_sampler_post_cfg_function(guidance)
