"""Letting a run reuse what earlier steps gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher

from ..motion.reuse import DEEP, MOTION, KeptFeatures, Reuse
from ..types import KEY, REUSE_KEY, logger
from .run_wrappers import wrap_run


def set_reuse(model: ModelPatcher, reuse: Reuse) -> None:
    """Let runs of ``model``, the caller's own clone, reuse features as ``reuse`` says, in place of an earlier setting."""
    wrap_run(model, REUSE_KEY, _ReuseInRun(reuse))


@dataclass(frozen=True)
class _ReuseInRun:
    """The ``OUTER_SAMPLE`` wrapper."""

    setting: Reuse

    def __call__(self, executor, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        options = guider.model_options["transformer_options"]  # the run's own
        if not guider.model_patcher.get_additional_models_with_key(KEY):
            logger.warning("Reuse Motion has no effect: the model has no motion model. Add Apply Motion Model.")
        options[REUSE_KEY] = kept = KeptFeatures(self.setting)
        try:
            result = executor(*args, **kwargs)
        finally:
            options.pop(REUSE_KEY, None)
        _report(kept)
        return result


def _report(kept: KeptFeatures) -> None:
    for part, interval in ((MOTION, kept.reuse.interval), (DEEP, kept.reuse.deep_interval)):
        made, reused = kept.made[part], kept.reused[part]
        if reused:
            logger.info("Reuse Motion: %d of %d calls of %s were reused.", reused, made + reused, part)
        elif interval > 1 and made:
            logger.warning(
                "Reuse Motion found nothing to reuse for the %s. Prompts, windows, sizes and settings must be the same at several "
                "steps in a row: choose a context_schedule whose windows stay in place, such as standard_static, settings that "
                "do not vary over the steps, or a wider range of steps.", part,
            )  # fmt: skip
