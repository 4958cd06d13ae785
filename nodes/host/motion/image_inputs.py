"""The image that a motion model animates: PIA's, given to the UNet's first convolution at each call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.latent_formats
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....animation.image_similarity import PRESETS as _PRESETS
from ....animation.image_similarity import Similarity
from ....motion_models.companions import IMAGE_INPUT
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput
from ....motion_models.motion_model import Place
from ..provenance import file_name
from ..types import PICTURE_KEY
from .companions import companions_of
from .fitted_images import PIXELS_PER_LATENT, cut, encode_sd15, fit
from .frame_values import Picture
from .steered import FrameInput, Steered, SteeredInCall
from .unet_call import UNetCall

PRESETS = list(_PRESETS)  # what nodes offer; frozen, as part of saved workflows

_IMAGE_KEY = "animatediff_loom_animated_image"
_FIRST = Place("down", 0)


@dataclass(frozen=True)
class AnimatedImage:
    """An image ``(1, h, w, 3)``, and how similar each frame is to be to it: ``similarity``, whose values may be a preset's."""

    pixels: Tensor
    vae: Any
    preset: Similarity
    similarity: Steered  # without values over frames, those are the preset's

    def check_frame_count(self, total_frames: int) -> None:
        if self.similarity.frames is not None:
            self.similarity.check_frame_count(total_frames, "similarity")
        elif not -total_frames <= self.preset.frame < total_frames:
            raise InvalidInput(
                f"frame of PIA Image is {self.preset.frame}, but the clip has {total_frames} frames, 0 to {total_frames - 1}. "
                "Choose one of these, or -1 for the last."
            )

    def similarity_in_call(self, call: UNetCall) -> SteeredInCall:
        if self.similarity.frames is not None:
            return self.similarity.in_call(call)
        return Steered.of("similarity", self.similarity.number, self.preset.over(call.total_frames)).in_call(call)

    @property
    def similarity_in_words(self) -> str:
        times = "" if self.similarity.number == 1.0 else f", times {self.similarity.number:g}"
        how = "similarity_values" if self.similarity.frames is not None else f"{self.preset.preset}, from frame {self.preset.frame}"
        return how + times


class EncodedImages(NamedTuple):
    """A run's images as latents ``(1, 4, h, w)``, one or none for each motion model in order; in its ``transformer_options``."""

    latents: tuple[Tensor | None, ...]


def animated_image(
    pixels: Tensor, vae: Any, frame: int, preset: str, values: FrameInput, similarity: float = 1.0, hold_last_value: bool = False
) -> AnimatedImage:
    """Make one of a node's inputs; raises ``InvalidInput`` where they are no single image, or no similarity."""
    if pixels.ndim != 4 or len(pixels) != 1 or pixels.shape[-1] < 3:
        raise InvalidInput(f"image has shape {tuple(pixels.shape)}, but expected is one image in colour. Connect a single image.")
    steered = Steered.of("similarity", similarity, values, hold_last=hold_last_value)
    return AnimatedImage(pixels[..., :3], vae, Similarity(preset, frame), steered)


def set_image(motion_patcher: ModelPatcher, image: AnimatedImage) -> ModelPatcher:
    """A clone of a motion model that animates this image; ``IncompatibleMotionModel`` if it takes none."""
    if not companions_of(motion_patcher, IMAGE_INPUT):
        raise IncompatibleMotionModel(
            f"'{file_name(motion_patcher)}' is {motion_patcher.model.config.family.title}, which takes no image. Load a PIA motion model."
        )
    motion_patcher = motion_patcher.clone()
    motion_patcher.set_attachments(_IMAGE_KEY, image)
    return motion_patcher


def image_of(motion_patcher: ModelPatcher) -> AnimatedImage | None:
    return motion_patcher.get_attachment(_IMAGE_KEY)


def image_in_words(motion_patcher: ModelPatcher) -> str:
    """For a plan; "" of a motion model that takes no image."""
    image = image_of(motion_patcher)
    if image is None:
        return "no image: connect PIA Image" if companions_of(motion_patcher, IMAGE_INPUT) else ""
    height, width = image.pixels.shape[1:3]
    return f"animates an image of {width} x {height} pixels: {image.similarity_in_words}"


def encode_images(motion_patchers: list[ModelPatcher], latent: Tensor, total_frames: int) -> EncodedImages:
    """Encode the images of a run that begins, at the size of its ``latent``; ``InvalidInput`` where one is missing or unfit."""
    latents: list[Tensor | None] = []
    for patcher in motion_patchers:
        if not companions_of(patcher, IMAGE_INPUT):
            latents.append(None)
            continue
        image = image_of(patcher)
        if image is None:
            raise InvalidInput(
                f"'{file_name(patcher)}' animates an image, but has none. Put PIA Image between Load Motion Model and "
                "Apply Motion Model."
            )
        image.check_frame_count(total_frames)
        height, width = (size * PIXELS_PER_LATENT for size in latent.shape[-2:])
        encoded = encode_sd15(image.vae, fit(image.pixels.movedim(-1, 1).float(), height, width), "PIA's image")
        latents.append(comfy.latent_formats.SD15().process_in(encoded))
    return EncodedImages(tuple(latents))


@dataclass(frozen=True)
class ImageStep:
    """A ``Step`` after the UNet's first convolution that adds what an image adds there."""

    network: nn.Module
    image: Tensor  # 1 c h w, of the whole picture
    similarity: SteeredInCall
    call: UNetCall

    def __call__(self, x: Tensor, call: Any, options: dict[str, Any]) -> Tensor:
        num_frames = self.call.num_frames
        value = self.similarity.at(_FIRST, x, num_frames)
        if not isinstance(value, Tensor):
            value = x.new_full((1, 1, 1), value)
        value = value.expand(-1, *x.shape[-2:])
        similarity = value.repeat(len(x) // len(value), 1, 1)[:, None]
        picture = options.get(PICTURE_KEY) or Picture(*self.image.shape[-2:], {})
        areas = self.call.areas_of(picture, "PIA's image is")
        image = self.image.to(device=x.device, dtype=x.dtype)
        each = len(x) // len(areas)
        images = torch.cat([cut(image, picture, area).expand(each, -1, -1, -1) for area in areas])
        return x + self.network(similarity, images)


def image_step(motion_patcher: ModelPatcher, call: UNetCall, latent: Tensor | None) -> ImageStep | None:
    """What adds a motion model's image, as ``encode_images`` made it, in one call of the UNet; None where there is none."""
    networks, image = companions_of(motion_patcher, IMAGE_INPUT), image_of(motion_patcher)
    if not networks or image is None or latent is None:
        return None
    return ImageStep(networks[0].model, latent, image.similarity_in_call(call), call)
