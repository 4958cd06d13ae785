"""Showing an animation while it is sampled: ComfyUI's own preview shows the first frame only."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor


def animation_preview(model: ModelPatcher, steps: int, runs: int = 1) -> Callable[[int], Callable]:
    """Make the sampler's callback for run i of ``runs``, ``steps`` each: it shows the animation so far, and their progress.

    With ComfyUI's quick previews that is a contact sheet of up to 16 frames; with TAESD, which takes a while for each
    picture, another frame of the animation at each step. Another pack's previews are given all frames, as by ComfyUI.
    """
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    progress = comfy.utils.ProgressBar(steps * runs)

    def callback(run: int, step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
        picture = None if previewer is None else picture_of_step(previewer, step, x0)
        progress.update_absolute(run * total_steps + step + 1, runs * total_steps, picture)

    return lambda run: functools.partial(callback, run)


def picture_of_step(previewer: latent_preview.LatentPreviewer, step: int, x0: Tensor) -> tuple[str, Image.Image, int] | None:
    """What a step's progress shows of latents ``f c h w``: format, picture and the longest side to show it at, if anything."""
    kind, count = type(previewer), len(x0)
    if kind is latent_preview.Latent2RGBPreviewer:
        shown = min(count, 16)
        pictures = [previewer.decode_latent_to_preview_image("JPEG", x0[i : i + 1]) for i in (i * count // shown for i in range(shown))]
        image_format, _, max_size = pictures[0]
        return image_format, contact_sheet([image for _, image, _ in pictures]), max_size
    if kind is latent_preview.TAESDPreviewerImpl:
        frame = step % count
        x0 = x0[frame : frame + 1]
    # VideoHelperSuite's plays the frames itself, and returns nothing.
    return previewer.decode_latent_to_preview_image("JPEG", x0)


def contact_sheet(images: list[Image.Image]) -> Image.Image:
    """Put images of one size in rows from the top left, in a sheet as near to square as their number allows."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet
