"""Showing an animation while it is sampled: ComfyUI's own preview shows the first frame only."""

from __future__ import annotations

import math
from collections.abc import Callable

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

_SHEET_FRAMES = 16


def animation_preview(model: ModelPatcher, steps: int, runs: int = 1) -> Callable[[int], Callable]:
    """Make sampler callbacks that report progress with a picture of the animation so far.

    With ComfyUI's quick previews that is a contact sheet of up to 16 frames; with TAESD, which takes a while for each
    picture, another frame of the animation at each step.

    Args:
        model: being sampled.
        steps: in one run.
        runs: sampler runs that share the progress bar.

    Returns:
        A function that gives the callback ``(step, x0, x, total_steps)`` for run i.
    """
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    is_quick = isinstance(previewer, latent_preview.Latent2RGBPreviewer)
    progress = comfy.utils.ProgressBar(steps * runs)

    def for_run(run: int) -> Callable:
        def callback(step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
            picture = None
            if previewer is not None:
                frames = _spread(x0.shape[0]) if is_quick else [step % x0.shape[0]]
                pictures = [previewer.decode_latent_to_preview_image("JPEG", x0[i : i + 1]) for i in frames]
                image_format, _, max_size = pictures[0]
                picture = (image_format, contact_sheet([image for _, image, _ in pictures]), max_size)
            progress.update_absolute(run * total_steps + step + 1, runs * total_steps, picture)

        return callback

    return for_run


def contact_sheet(images: list[Image.Image]) -> Image.Image:
    """Put images of one size in rows from the top left, in a sheet as near to square as their number allows."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet


def _spread(count: int) -> list[int]:
    """Up to 16 indices spread evenly over ``count``."""
    shown = min(count, _SHEET_FRAMES)
    return [i * count // shown for i in range(shown)]
