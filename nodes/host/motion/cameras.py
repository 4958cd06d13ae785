"""CameraCtrl on a motion model: what a camera's path merges into the attention over frames, in one call of the UNet."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn
from torch.nn import functional

from ....animation.camera_path import CameraPath, Cameras
from ....animation.camera_rays import plucker_rays
from ....animation.schedule import ScheduleError
from ....animation.windowing import Windowing
from ....motion_models.attention_inputs import Merge
from ....motion_models.camera_control import CAMERA_CONTROL, PIXELS_PER_FEATURE, CameraControl
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput
from ....motion_models.motion_model import MotionModule
from ....motion_models.views import Views, place_windows
from ..provenance import file_name
from ..types import KEY, PICTURE_KEY
from .companions import companions_of, set_companion
from .frame_values import Area, Picture
from .steered import Steered, SteeredInCall
from .unet_call import UNetCall, check_range

_CAMERA_KEY = f"{KEY}_camera"
_MOST_KEPT = 64  # frames whose features a run keeps: about 5 MB each at 512 x 512 in half precision


@dataclass(frozen=True)
class CameraSettings:
    """A camera's path, and how strongly it counts; ``LoomApplyCameraControl``'s inputs."""

    path: CameraPath
    strength: Steered = field(default_factory=Steered)
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        check_range(self.start_percent, self.end_percent, "the camera would never move")

    def check_frame_count(self, total_frames: int) -> None:
        try:
            self.path.over(total_frames)
        except ScheduleError as error:
            raise InvalidInput(f"The camera's path, for the clip's {total_frames} frames: {error}") from None
        self.strength.check_frame_count(total_frames, "Apply CameraCtrl's strength")


def apply_camera_control(motion_patcher: ModelPatcher, camera: ModelPatcher, settings: CameraSettings) -> ModelPatcher:
    """A clone of a motion model whose camera goes along a path; an earlier path is replaced.

    ``IncompatibleMotionModel`` if the CameraCtrl was not made for it.
    """
    config, wanted = motion_patcher.model.config, camera.model.config
    if config.base_model != wanted.base_model:
        raise IncompatibleMotionModel(
            f"CameraCtrl '{file_name(camera)}' is for {wanted.base_model}, but motion model '{file_name(motion_patcher)}' is for "
            f"{config.base_model}. Use a motion model for {wanted.base_model}, such as v3_sd15_mm."
        )
    if (config.block_channels, config.layers_per_block) != (wanted.block_channels, wanted.layers_per_block):
        raise IncompatibleMotionModel(
            f"CameraCtrl '{file_name(camera)}' does not fit motion model '{file_name(motion_patcher)}': its levels are "
            f"{wanted.block_channels} wide, but the motion model's are {config.block_channels}. Use one that was made for it."
        )
    motion_patcher = motion_patcher.clone()
    set_companion(motion_patcher, CAMERA_CONTROL, camera)
    motion_patcher.set_attachments(_CAMERA_KEY, settings)
    return motion_patcher


def camera_of(motion_patcher: ModelPatcher) -> CameraSettings | None:
    return motion_patcher.get_attachment(_CAMERA_KEY)


def camera_in_words(motion_patcher: ModelPatcher) -> str:
    """For a plan; "" of a motion model whose camera goes along no path."""
    settings = camera_of(motion_patcher)
    if settings is None:
        return ""
    (camera,) = companions_of(motion_patcher, CAMERA_CONTROL)
    return (
        f"CameraCtrl {file_name(camera)}: strength {settings.strength.in_words}; "
        f"from {settings.start_percent:.0%} to {settings.end_percent:.0%} of the sampling"
    )


class KeptCameras:
    """What one run has worked out of its cameras' paths; it lives in the run's ``transformer_options``."""

    def __init__(self) -> None:
        self._cameras: dict[Hashable, Cameras] = {}
        self._features: dict[Hashable, list[Tensor]] = {}
        self._frames = 0

    def cameras(self, path: CameraPath, total_frames: int) -> Cameras:
        key = (id(path), total_frames)
        if key not in self._cameras:
            self._cameras[key] = path.over(total_frames)
        return self._cameras[key]

    def features(self, key: Hashable, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Features for a key, made if they were not kept. Of a clip with many windows the first ones are."""
        if key in self._features:
            return self._features[key]
        features = make()
        if self._frames + len(features[0]) <= _MOST_KEPT or not self._features:
            self._frames += len(features[0])
            self._features[key] = features
        return features


@dataclass(frozen=True)
class CameraInCall:
    """A motion model's camera in one call of the UNet."""

    network: CameraControl
    layers: dict[MotionModule, nn.Module]
    strength: SteeredInCall
    path: CameraPath
    call: UNetCall
    kept: KeptCameras
    _placed: dict[Hashable, list[Tensor]] = field(default_factory=dict, compare=False)

    @property
    def depends_on(self) -> Hashable:
        return self.network, self.strength.number

    def merges(self, module: MotionModule, x: Tensor, options: dict[str, Any]) -> dict[int, Merge]:
        """What goes into a motion module's attentions, for its features ``(b f) c h w``; nothing in the mid block."""
        if module not in self.layers:
            return {}
        features = self._features(x, options)[module.place.level]
        if features.shape[-2:] != x.shape[-2:]:  # levels of odd sizes are rounded up in the UNet
            features = functional.interpolate(features, size=x.shape[-2:], mode="bilinear")
        return {0: Merge(self.layers[module], features, self.strength.at(module.place, x, self.call.num_frames))}

    def _features(self, x: Tensor, options: dict[str, Any]) -> list[Tensor]:
        """Features of each level, ``f c h w``, or ``(b f) c h w`` where prompts are for different parts of the picture."""
        picture = options.get(PICTURE_KEY) or Picture(*self.call.size, {})
        areas = self.call.areas_of(picture, "CameraCtrl's path is")
        window = tuple(self.call.window or range(self.call.num_frames))
        clips = max(1, len(x) // (len(areas) * self.call.num_frames))
        key = (len(x), x.dtype, x.device)
        if key not in self._placed:
            of_area = {
                area: self.kept.features(
                    (self.network, id(self.path), window, self.call.total_frames, picture.height, picture.width, area, x.dtype, x.device),
                    lambda area=area: self._encode(window, picture, area, x),
                )
                for area in dict.fromkeys(areas)
            }
            if len(of_area) == 1:
                (self._placed[key],) = of_area.values()
            else:
                each = [of_area[area] for area in areas for _ in range(clips)]
                self._placed[key] = [torch.cat(level) for level in zip(*each, strict=True)]
        return self._placed[key]

    def _encode(self, window: tuple[int, ...], picture: Picture, area: Area | None, x: Tensor) -> list[Tensor]:
        """Encode a window's cameras as a clip of their own, which begins where its first one is: so it was in training."""
        poses, lens = self.kept.cameras(self.path, self.call.total_frames)
        frames = list(window)
        cameras = Cameras(poses[frames], lens._replace(intrinsics=lens.intrinsics[frames]))
        rays = plucker_rays(cameras, picture.height * PIXELS_PER_FEATURE, picture.width * PIXELS_PER_FEATURE, x.device)
        if area is not None:
            top, left, height, width = (PIXELS_PER_FEATURE * size for size in (area.top, area.left, area.height, area.width))
            rays = rays[..., top : top + height, left : left + width]
        return self.network(rays.to(x.dtype), _views(len(frames), self.network.config.max_frames, x.device))


def _views(frames: int, most: int, device: torch.device) -> Views | None:
    """Windows in which the encoder sees more frames than it has positions for."""
    if frames <= most:
        return None
    windowing = Windowing(most, most // 2)
    windows = windowing.windows(frames)
    return Views(frames, place_windows(windows, windowing.weights(windows, frames), device))


def camera_in_call(
    motion_patcher: ModelPatcher, call: UNetCall, model_sampling: Any, kept: KeptCameras | None
) -> CameraInCall | None:
    """A motion model's camera in one call of the UNet; None where none counts there."""
    settings = camera_of(motion_patcher)
    if settings is None or not call.is_in_range(settings.start_percent, settings.end_percent, model_sampling):
        return None
    strength = settings.strength.in_call(call)
    if strength.number == 0.0:
        return None
    network = companions_of(motion_patcher, CAMERA_CONTROL)[0].model
    return CameraInCall(network, network.merge_layers(motion_patcher.model), strength, settings.path, call, kept or KeptCameras())
