"""Images that AnimateLCM-I2V's encoder adds to the UNet's features on the way down, with any motion model for SD1.5."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import comfy.latent_formats
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....animation.retime import Retime
from ....motion_models.companions import IMAGE_ENCODER
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput
from ....motion_models.motion_model import Place
from ..provenance import file_name
from ..types import CLIPS_KEY, PICTURE_KEY, SHARE_KEY
from .companions import companions_of, set_companion
from .fitted_images import PIXELS_PER_LATENT, cut, encode_sd15, fit
from .frame_values import Picture, frames_of_latent
from .retiming import retime_of
from .steered import Steered, SteeredInCall
from .unet_call import UNetCall, check_range

_REFERENCE_KEY = "animatediff_loom_reference_images"
_NODE = "AnimateLCM-I2V Image"
NEVER_USED = "the image would never be used"
_CHANNELS = 4  # of SD1.5's latents


@dataclass(frozen=True)
class ReferenceImages:
    """Images ``(n, h, w, 3)`` with their VAE, or latents ``(n, 4, h, w)`` without one, and how they are applied."""

    images: Tensor
    vae: Any = None
    drift: float = 0.8  # how far frames move away from their image with time; 0.8 is the authors'
    strength: Steered = field(default_factory=Steered)
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        check_range(self.start_percent, self.end_percent, NEVER_USED)

    def encode(self, height: int, width: int) -> Tensor:
        """Latents ``(n, 4, h, w)`` of that size, as a UNet of SD1.5 sees them."""
        if self.vae is not None:
            pixels = fit(self.images.movedim(-1, 1).float(), height * PIXELS_PER_LATENT, width * PIXELS_PER_LATENT)
            latents = encode_sd15(self.vae, pixels, f"the image of {_NODE}")
        elif self.images.shape[-2:] != (height, width):
            given = tuple(side * PIXELS_PER_LATENT for side in self.images.shape[:-3:-1])
            raise InvalidInput(
                f"The latent in image of {_NODE} is for {given[0]} x {given[1]} pixels, but the animation has "
                f"{width * PIXELS_PER_LATENT} x {height * PIXELS_PER_LATENT}. Encode an image of that size, or connect the image "
                "itself and its VAE: it is fitted then."
            )
        else:
            latents = self.images
        return comfy.latent_formats.SD15().process_in(latents.float())


def reference_images(image: Any, vae: Any, drift: float, strength: Steered, start_percent: float, end_percent: float) -> ReferenceImages:
    """Make them of a node's inputs; ``image`` is an IMAGE or a LATENT. Raises ``InvalidInput`` where it is neither."""
    applied = (drift, strength, start_percent, end_percent)
    if isinstance(image, dict) and "samples" in image:
        frames_of_latent(image)
        latents = image["samples"]
        if latents.shape[1] != _CHANNELS:
            raise InvalidInput(f"image is a latent of {latents.shape[1]} channels, but SD1.5's have {_CHANNELS}. Encode it with an SD1.5 VAE.")
        return ReferenceImages(latents, None, *applied)
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[-1] < 3:
        given = f"has shape {tuple(image.shape)}" if isinstance(image, Tensor) else f"is of type {type(image).__name__}"
        raise InvalidInput(f"image {given}, but expected are images in colour, or a latent. Connect one of these.")
    if vae is None:
        raise InvalidInput("image is an IMAGE, which needs a VAE to become a latent. Connect the checkpoint's VAE to vae.")
    return ReferenceImages(image[..., :3], vae, *applied)


def set_reference(motion_patcher: ModelPatcher, references: ReferenceImages, of_encoder: ModelPatcher | None = None) -> ModelPatcher:
    """A clone of a motion model with images for its encoder, or for that of another one; ``IncompatibleMotionModel`` if none fits."""
    source = motion_patcher if of_encoder is None else of_encoder
    encoders, config = companions_of(source, IMAGE_ENCODER), motion_patcher.model.config
    if not encoders:
        advice = " to image_encoder" if of_encoder is None else ""
        raise IncompatibleMotionModel(
            f"'{file_name(source)}' is {source.model.config.family.title}, which has no image encoder. Connect AnimateLCM_sd15_i2v, from "
            f"Load Motion Model{advice}."
        )
    if encoders[0].model.widths != config.block_channels:
        raise IncompatibleMotionModel(
            f"'{file_name(motion_patcher)}' is for {config.base_model} models {config.block_channels} wide, but the image encoder of "
            f"'{file_name(source)}' is for SD1.5 models {encoders[0].model.widths} wide. Use a motion model for SD1.5."
        )
    motion_patcher = motion_patcher.clone()
    set_companion(motion_patcher, IMAGE_ENCODER, encoders[0])
    motion_patcher.set_attachments(_REFERENCE_KEY, references)
    return motion_patcher


def references_of(motion_patcher: ModelPatcher) -> ReferenceImages | None:
    return motion_patcher.get_attachment(_REFERENCE_KEY)


def references_in_words(motion_patcher: ModelPatcher) -> str:
    """For a plan; "" of a motion model that has none."""
    references = references_of(motion_patcher)
    if references is None:
        return ""
    count, sides = len(references.images), references.images.shape[1:3]
    if references.vae is None:
        sides = [side * PIXELS_PER_LATENT for side in references.images.shape[-2:]]
    what = f"{count} images" if count > 1 else "an image"
    return (
        f"animates {what} of {sides[1]} x {sides[0]} pixels: drift {references.drift:g}, strength {references.strength.in_words}, "
        f"from {references.start_percent:.0%} to {references.end_percent:.0%} of the sampling"
    )


class EncodedReferences(NamedTuple):
    """A run's images, one ``EncodedReference`` or none for each motion model in order; in its ``transformer_options``."""

    images: tuple[EncodedReference | None, ...]


@dataclass
class EncodedReference:
    """Latents ``(b, f, 4, h, w)``: b 1 or the run's clips, f 1 or its frames; and what the encoder made of them last."""

    latents: Tensor
    _made: dict[torch.device, tuple[Hashable, list[Tensor]]] = field(default_factory=dict)

    def features(self, device: torch.device, key: Hashable, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        """What ``make`` gives, once for calls in a row that have the same key: mostly, for all of a run."""
        if self._made.get(device, (None,))[0] != key:
            self._made[device] = (key, make())
        return self._made[device][1]


def encode_references(motion_patchers: list[ModelPatcher], latent: Tensor, total_frames: int, options: dict[str, Any]) -> EncodedReferences:
    """Encode the images of a run that begins, at the size of its ``latent``; ``InvalidInput`` where they do not fit it."""
    images: list[EncodedReference | None] = []
    for patcher in motion_patchers:
        references = references_of(patcher)
        if references is None:
            images.append(None)
            continue
        references.strength.check_frame_count(total_frames, "strength")
        clips = options.get(CLIPS_KEY, 1)
        first, all_clips = options.get(SHARE_KEY, (0, clips))
        latents = _arranged(references.encode(*latent.shape[-2:]), all_clips, total_frames)
        images.append(EncodedReference(latents if len(latents) == 1 else latents[first : first + clips]))
    return EncodedReferences(tuple(images))


def _arranged(latents: Tensor, clips: int, frames: int) -> Tensor:
    """One image, one for each clip, one for each frame of a clip or of all clips, as ``(b, f, 4, h, w)``."""
    shapes = {clips * frames: (clips, frames), frames: (1, frames), clips: (clips, 1), 1: (1, 1)}
    if len(latents) not in shapes:
        of_clips = f"one for each of the {clips} clips, " if clips > 1 else ""
        raise InvalidInput(
            f"image of {_NODE} holds {len(latents)} images, but the clip has {frames} frames. Give one image, {of_clips}or {frames}, "
            "one for each frame."
        )
    return latents.unflatten(0, shapes[len(latents)])


@dataclass(frozen=True)
class ReferencesInCall:
    """A motion model's images in one call of the UNet; a ``Step`` for each level adds what the encoder makes of them."""

    network: nn.Module
    encoded: EncodedReference
    drift: float
    strength: SteeredInCall
    retime: Retime
    call: UNetCall

    def step(self, place: Place) -> ReferenceStep:
        return ReferenceStep(self, place)

    def features(self, x: Tensor, call: Any, options: dict[str, Any]) -> list[Tensor]:
        """Features of each level, ``(a b f c h w)``: a areas, or 1; b clips, or 1; f frames, or 1."""
        latents, window = self.encoded.latents, self.call.window or list(range(self.call.num_frames))
        picture = options.get(PICTURE_KEY) or Picture(*latents.shape[-2:], {})
        areas = self.call.areas_of(picture, f"The image of {_NODE} is")
        areas = areas[:1] if len(set(areas)) == 1 else areas
        has_one_a_frame = latents.shape[1] > 1
        # In all windows alike, mostly: an image for all frames, whose positions begin anew in each.
        frames = tuple(window) if has_one_a_frame or self.retime.across_windows else len(window)

        def make() -> list[Tensor]:
            encoding = call.encoding(self.retime, self.drift, self.network.widths[0], x, whole=True) if self.drift else None
            images = (latents[:, window] if has_one_a_frame else latents).to(device=x.device, dtype=x.dtype)
            by_area = {
                area: self.network(cut(images.flatten(0, 1), picture, area).unflatten(0, images.shape[:2]), encoding)
                for area in dict.fromkeys(areas)
            }
            return [torch.stack(levels) for levels in zip(*(by_area[area] for area in areas), strict=True)]

        return self.encoded.features(x.device, (x.dtype, tuple(areas), frames), make)


def references_in_call(
    motion_patcher: ModelPatcher, call: UNetCall, encoded: EncodedReference | None, model_sampling: Any
) -> ReferencesInCall | None:
    """A motion model's images in one call of the UNet; None where it has none, or they do not act."""
    references = references_of(motion_patcher)
    if encoded is None or references is None or not call.is_in_range(references.start_percent, references.end_percent, model_sampling):
        return None
    strength = references.strength.in_call(call)
    if strength.number == 0.0:
        return None
    (encoder,) = companions_of(motion_patcher, IMAGE_ENCODER)
    return ReferencesInCall(encoder.model, encoded, references.drift, strength, retime_of(motion_patcher), call)


@dataclass(frozen=True)
class ReferenceStep:
    """A ``Step`` after the last layer of a level on the way down, before a motion module there."""

    in_call: ReferencesInCall
    place: Place

    def __call__(self, x: Tensor, call: Any, options: dict[str, Any]) -> Tensor:
        unet_call = self.in_call.call
        frames, clips = unet_call.num_frames, options.get(CLIPS_KEY, 1)
        strength = self.in_call.strength.at(self.place, x, frames)
        if isinstance(strength, float) and strength == 0.0:
            return x
        feature = self.in_call.features(x, call, options)[self.place.level]
        if feature.shape[-2:] != x.shape[-2:]:  # nodes that make the UNet's features smaller for the first steps
            shape = feature.shape
            feature = nn.functional.interpolate(feature.flatten(0, 2), size=x.shape[-2:], mode="bilinear").unflatten(0, shape[:3])
        each = x.unflatten(0, (-1, len(feature), clips, frames))
        if isinstance(strength, Tensor):
            strength = strength.repeat(len(x) // len(strength), 1, 1)[:, None].unflatten(0, each.shape[:4])
        return (each + feature * strength).flatten(0, 3)
