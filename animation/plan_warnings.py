"""What is likely to go wrong with a run of an animation: what is wrong, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from .plan import Plan

_FEWEST_FRAMES = 12  # with fewer, motion models come out poor, but for those trained on fewer


def warnings_of(plan: Plan) -> list[str]:
    """All warnings about a run, the gravest first."""
    parts = (_frames, _ranges, _images, _prompts, _windows, _noise_schedules, _sampling, _size, _loras)
    return [warning for part in parts for warning in part(plan)]


def _frames(plan: Plan) -> Iterator[str]:
    if plan.frames == 1:
        yield "A single frame will not move. Most motion models were trained on 16 frames."
        return
    for model in plan.models:
        first, last = plan.positions_of(model)
        frames, trained = plan.frames_at_once, model.trained_frames
        if not model.may_extend and (first < 0 or last >= model.max_frames):
            yield (
                f"{frames} frames at a time are too many for '{model.file_name}': they use positions {first:g} to {last:g}, "
                f"but it has positions for {model.max_frames}. The run will stop with an error. Use fewer frames, or add "
                f"context windows of {trained} frames after Apply Motion Model."
            )
        elif plan.windows is not None or plan.view_length is not None:
            continue
        elif frames < min(_FEWEST_FRAMES, trained):
            wrong = f"{frames} frames are few for '{model.file_name}', which was trained on {trained}; quality will suffer."
            yield f"{wrong} Use {trained} frames."
        elif frames > trained and last >= trained:
            yield (
                f"{frames} frames at a time are many for '{model.file_name}', which was trained on {trained}: motion gets "
                f"weaker or starts over. Use {trained} frames, or add context windows of {trained} after Apply Motion Model."
            )


def _ranges(plan: Plan) -> Iterator[str]:
    for model in plan.models:
        if model.has_no_steps:
            yield (
                f"'{model.file_name}' is set to run from {model.start_percent:.0%} to {model.end_percent:.0%} of the sampling, but "
                "no step of this run lies there, so it has no effect in it. Change start_percent or end_percent; with a denoise below "
                "1, or a later start_at_step, the first part of the sampling does not come."
            )


def _images(plan: Plan) -> Iterator[str]:
    for model in plan.models:
        if model.lacks_image:
            yield (
                f"'{model.file_name}' was trained to animate an image, but has none, so that it animates the prompt alone. Put "
                "AnimateLCM-I2V Image between Load Motion Model and Apply Motion Model."
            )


def _prompts(plan: Plan) -> Iterator[str]:
    for frames in plan.prompt_frames:
        fate = "starts over" if frames < plan.frames else "is cut off"
        wrong = f"A prompt is for {frames} frames, but the clip has {plan.frames}: it {fate}."
        yield f"{wrong} Connect the clip's latent to Prompt Schedule, or set its frames to {plan.frames}."


def _windows(plan: Plan) -> Iterator[str]:
    if plan.windows is None:
        return
    length = plan.windows.length
    if plan.windows.has_anchor:
        wrong = "Each context window begins with an extra frame, which is meant for other video models."
        yield f"{wrong} Turn causal_window_fix off."
    for model in plan.models:
        trained = model.trained_frames
        fits_retimed = length > trained > plan.positions_of(model)[1]
        if length != trained and not fits_retimed:
            wrong = f"A context window has {length} frames, but '{model.file_name}' was trained on {trained}."
            yield f"{wrong} Set context_length to {trained}."
        if model.norm_over_frames:
            yield (
                f"'{model.file_name}' ({model.family}) balances light and colours over all frames it sees, so they may jump "
                "where context windows meet. Give the windows more overlap, or use a v2 or v3 motion model."
            )


def _noise_schedules(plan: Plan) -> Iterator[str]:
    in_force = plan.betas or "none of AnimateDiff's"
    if len({model.betas for model in plan.models}) > 1:
        trained = ", ".join(f"'{model.file_name}' on {model.betas}" for model in plan.models)
        yield (
            f"The motion models were trained on different noise schedules: {trained}. Only one can be used, now "
            f"{in_force}. Combine motion models with the same schedule."
        )
        return
    for model in plan.models:
        if plan.changed_after and model.distilled_timesteps and plan.timesteps < 1000:
            continue  # ModelSamplingDiscrete's lcm for a model that is one: somebody chose how to sample it
        wrong = f"The noise schedule is {in_force}, but '{model.file_name}' was trained on {model.betas}"
        if plan.changed_after and model.betas != plan.betas:
            yield (
                f"{wrong}: a node after Apply Motion Model, such as ModelSamplingDiscrete, replaced it. Put that node before "
                "Apply Motion Model, which changes the schedule only and keeps the rest of what that node sets."
            )
        elif model.betas != plan.betas:
            yield f"{wrong}. Set beta_schedule of Apply Motion Model to auto."
        elif model.distilled_timesteps not in (None, plan.timesteps):
            yield (
                f"Sampling uses {plan.timesteps} timesteps, but '{model.file_name}' ({model.family}) was distilled on "
                f"{model.distilled_timesteps}. Set beta_schedule of its Apply Motion Model to auto."
            )


def _sampling(plan: Plan) -> Iterator[str]:
    for model in plan.models:
        advice, wrong = model.advice, []
        if advice is None:
            continue
        if plan.sampler not in (None, advice.sampler):
            wrong.append(f"the sampler {plan.sampler}")
        if plan.steps is not None and not advice.steps[0] <= plan.steps <= advice.steps[1]:
            wrong.append(f"{plan.steps} steps")
        if plan.cfg is not None and not advice.cfg[0] <= plan.cfg <= advice.cfg[1]:
            wrong.append(f"cfg {plan.cfg:g}")
        if wrong:
            yield f"'{model.file_name}' is made for {advice}, but the settings are {' and '.join(wrong)}."


def _size(plan: Plan) -> Iterator[str]:
    width, height = plan.size
    for model in plan.models:
        side = model.trained_side
        if side is not None and width * height < (0.75 * side) ** 2:
            yield (
                f"{width} x {height} pixels are too small for '{model.file_name}' ({model.family}), which was trained at "
                f"{side} x {side}: the image will be broken. Make the frames larger."
            )


def _loras(plan: Plan) -> Iterator[str]:
    for model in plan.models:
        for lora in model.loras:
            yield from (f"Motion LoRA '{lora.file_name}' on '{model.file_name}': {notice}" for notice in lora.notices)
