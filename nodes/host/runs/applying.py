"""Applying a motion model to a MODEL, and what is checked and said once when a run begins."""

from __future__ import annotations

from itertools import chain

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..motion.cameras import KeptCameras, camera_of
from ..motion.compiled_tokens import CompiledTokens
from ..motion.context_windows import estimate_memory_of_a_window, frames_at_a_time, set_automatic_windows
from ..motion.image_inputs import encode_images
from ..motion.injection import set_hooks
from ..motion.lora_branches import steered_loras
from ..motion.reference_images import encode_references
from ..motion.retiming import check_positions
from ..motion.steered import MotionSettings, applied_motion_models
from ..motion.unet import check_compatible, misfit_of_pooled
from ..provenance import file_name
from ..types import (
    CAMERAS_KEY,
    CLIPS_KEY,
    COMPILED_KEY,
    FRAMES_KEY,
    IMAGES_KEY,
    KEY,
    REFERENCES_KEY,
    WARNED_KEY,
    InvalidInput,
    logger,
)
from .moving_preview import with_moving_preview
from .prompt_conds import place_prompts
from .run_plan import warnings_of_run


def apply_motion_model(model: ModelPatcher, motion_patcher: ModelPatcher, settings: MotionSettings) -> ModelPatcher:
    """A clone of MODEL that is animated by a motion model, if that is for it: see ``check_compatible``.

    The motion model is an additional model of the clone, so that ComfyUI loads and frees it with it; its settings are an
    attachment. Several motion models run in the order they were applied, each on the output of the one before. Applying one
    that is there already replaces its settings, in its place.
    """
    check_compatible(model, motion_patcher.model.config, file_name(motion_patcher))
    model = model.clone()
    entries = applied_motion_models(model)
    place = next((i for i, (patcher, _) in enumerate(entries) if patcher.model is motion_patcher.model), len(entries))
    # As ComfyUI's TorchCompileModel does: weights of DynamicVRAM come and go at each use.
    entries[place : place + 1] = [(motion_patcher.clone(disable_dynamic=settings.compile), settings)]
    model.set_additional_models(KEY, [patcher for patcher, _ in entries])
    model.set_attachments(KEY, tuple(entry_settings for _, entry_settings in entries))
    set_hooks(model)
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _outer_sample)
    estimate_memory_of_a_window(model)
    return model


def _outer_sample(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, *args, **kwargs):
    """Say once a run what is wrong or likely to go wrong, before anything is loaded."""
    guider = executor.class_obj
    options = guider.model_options["transformer_options"]
    options[FRAMES_KEY] = total_frames = noise.shape[0] // options.get(CLIPS_KEY, 1)
    _check_prompts(guider)
    place_prompts(guider.conds, total_frames)
    set_automatic_windows(guider.model_patcher, guider.model_options, total_frames)
    seen = frames_at_a_time(guider.model_patcher, guider.model_options, total_frames)
    for patcher, settings in applied_motion_models(guider.model_patcher):
        check_positions(patcher, seen, total_frames)
        settings.check_frame_count(total_frames)
        for _, strength in steered_loras(patcher):
            strength.check_frame_count(total_frames, "Load Motion LoRA's strength")
        camera = camera_of(patcher)
        if camera is not None:
            camera.check_frame_count(total_frames)
    options[CAMERAS_KEY] = KeptCameras()
    if IMAGES_KEY not in options:  # the run's own copy: FreeInit may repeat the run from here
        motion_patchers = [patcher for patcher, _ in applied_motion_models(guider.model_patcher)]
        options[IMAGES_KEY] = encode_images(motion_patchers, noise, total_frames)
        options[REFERENCES_KEY] = encode_references(motion_patchers, noise, total_frames, options)
    if not options.get(WARNED_KEY):
        for warning in warnings_of_run(guider, noise[:total_frames], sampler, sigmas):
            logger.warning(warning)
        options[WARNED_KEY] = True
    callback = with_moving_preview(callback, guider.model_patcher, options.get(CLIPS_KEY, 1))
    if not any(settings.compile for _, settings in applied_motion_models(guider.model_patcher)):
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
    options[COMPILED_KEY] = compiled = CompiledTokens()
    result = executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
    compiled.report()
    return result


def _check_prompts(guider) -> None:
    unet = guider.model_patcher.get_model_object("diffusion_model")
    for prompt in chain.from_iterable(prompts or [] for prompts in guider.conds.values()):  # other packs' guiders may have none
        misfit = misfit_of_pooled(unet, prompt.get("pooled_output"))
        if misfit and "unclip_conditioning" not in prompt:  # whose image embedding stands for it
            raise InvalidInput(f"A prompt's {misfit}. Encode it with CLIP Text Encode and the checkpoint's own text encoder.")
