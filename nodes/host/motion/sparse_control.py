"""SparseCtrl as one of ComfyUI's ControlNets: images of a few frames, placed in the clip whatever part of it a call holds."""

from __future__ import annotations

from typing import Any

import comfy.latent_formats
import comfy.model_management
import torch
from comfy.controlnet import ControlNet
from torch import Tensor

from ....animation.placed_images import PlacedImage, Placement, Placing, Unguided, frames_of_text
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput
from ..types import PICTURE_KEY
from .fitted_images import PIXELS_PER_LATENT, cut, encode_sd15, fit
from .frame_values import Picture
from .sparse_network import SparseControlNetwork
from .unet import base_model_name, down_widths
from .unet_call import UNetCall
from .view_windows import frames_in_view, views_of

# What nodes offer; frozen, as part of saved workflows.
PLACINGS = [placing.value for placing in Placing]
UNGUIDED = [unguided.value for unguided in Unguided]

def placement_of(placing: str, frames: str, unguided: str = UNGUIDED[0]) -> Placement:
    """Make a ``Placement`` of a node's inputs; ``frames`` are only read where they are listed, and raise ``InvalidInput``."""
    listed = frames_of_text(frames) if Placing(placing) is Placing.LISTED else ()
    return Placement(Placing(placing), listed, Unguided(unguided))


def place_images(control: object, placement: Placement) -> SparseControl:
    """A copy of a CONTROL_NET whose images are placed so; ``InvalidInput`` where it is no SparseCtrl."""
    if not isinstance(control, SparseControl):
        raise InvalidInput(
            f"control_net is a {type(control).__name__}, which takes an image for every frame. Connect Load SparseCtrl."
        )
    return control.placed(placement)


class SparseControl(ControlNet):
    """A CONTROL_NET whose hint is one image for each of the frames that ``placement`` names; each clip of a batch has them all.

    ComfyUI applies, loads, casts and frees it as its own. Context windows need not cut its hint.
    """

    def __init__(self, network: SparseControlNetwork | None, file_name: str, placement: Placement, **options: Any):
        super().__init__(network, extra_conds=[], **options)
        self.file_name, self.placement = file_name, placement
        self._base: Any = None  # the model that is sampled, as ComfyUI's own keep its model_sampling

    def copy(self) -> SparseControl:
        clone = SparseControl(
            None, self.file_name, self.placement, load_device=self.load_device, manual_cast_dtype=self.manual_cast_dtype
        )
        clone.control_model, clone.control_model_wrapped = self.control_model, self.control_model_wrapped
        self.copy_to(clone)
        return clone

    def placed(self, placement: Placement) -> SparseControl:
        """A copy that places its images so."""
        clone = self.copy()
        clone.placement = placement
        return clone

    def set_cond_hint(self, cond_hint: Tensor, *args: Any, **options: Any) -> SparseControl:
        """Take images ``(n, 3, h, w)``, as Apply ControlNet gives them; ``InvalidInput`` where they cannot be placed."""
        if cond_hint.ndim != 4 or cond_hint.shape[1] < 3 or not len(cond_hint):
            raise InvalidInput(f"The images for SparseCtrl have shape {tuple(cond_hint.shape)}. Connect images in colour.")
        self.placement.check_images(len(cond_hint))
        super().set_cond_hint(cond_hint[:, :3], *args, **options)
        if self.takes_latents and self.vae is None:
            raise InvalidInput(
                f"SparseCtrl '{self.file_name}' is for RGB images and needs a VAE. Connect the checkpoint's to vae of "
                "Apply ControlNet."
            )
        return self

    @property
    def takes_latents(self) -> bool:
        return self.control_model.config.takes_latents

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._base = model
        base, config = base_model_name(model.current_patcher), self.control_model.config
        if base != config.base_model:
            raise IncompatibleMotionModel(
                f"SparseCtrl '{self.file_name}' is for {config.base_model}, but the model is {base}. "
                f"Load an {config.base_model} checkpoint."
            )
        if down_widths(model.diffusion_model) != config.down_channels:
            raise IncompatibleMotionModel(
                f"SparseCtrl '{self.file_name}' does not fit the model's UNet: its blocks are {config.down_channels} wide, but the "
                f"UNet's are {down_widths(model.diffusion_model)}. Use one that was made for this checkpoint."
            )

    def cleanup(self) -> None:
        super().cleanup()
        self._base = None

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict) -> dict | None:
        """What is added to the UNet's features in one call, after what an earlier ControlNet adds."""
        previous = self.previous_controlnet
        before = None if previous is None else previous.get_control(x_noisy, t, cond, batched_number, transformer_options)
        if self.timestep_range is not None and not self.timestep_range[1] <= t[0] <= self.timestep_range[0]:
            return before
        comfy.model_management.throw_exception_if_processing_interrupted()
        dtype = self.control_model.dtype if self.manual_cast_dtype is None else self.manual_cast_dtype
        call = UNetCall.of(x_noisy, transformer_options)
        views = views_of(self._base.current_patcher, x_noisy, call.num_frames)
        self._check_frames(call)
        context = cond.get("crossattn_controlnet", cond["c_crossattn"])
        control = self.control_model(
            hint=self._hint(x_noisy, call, dtype),
            timesteps=self.model_sampling_current.timestep(t).float(),
            context=comfy.model_management.cast_to_device(context, x_noisy.device, dtype),
            num_frames=call.num_frames,
            views=views,
        )
        return self.control_merge(control, before, output_dtype=None)

    def _check_frames(self, call: UNetCall) -> None:
        seen, most = frames_in_view(self._base.current_patcher, call.num_frames), self.control_model.config.max_frames
        if seen > most:
            raise InvalidInput(
                f"SparseCtrl '{self.file_name}' has positions for {most} frames, but here it sees {seen} at a time. "
                f"Add Context Windows (Loom) with a context_length of {most} or less."
            )

    def _hint(self, x: Tensor, call: UNetCall, dtype: torch.dtype) -> Tensor:
        """The hint ``(b f) c h w`` of a call's frames: images or their latents, zeros between, and the mask."""
        picture = call.options.get(PICTURE_KEY) or Picture(*call.size, {})
        areas = call.areas_of(picture, "SparseCtrl's images are")
        images = self._images(picture, x, dtype)
        window = call.window or range(call.num_frames)
        placed = self.placement.in_window(len(images), window, call.total_frames)
        by_area = {area: _on_frames(cut(images, picture, area), placed, call.num_frames) for area in dict.fromkeys(areas)}
        each = len(x) // (len(areas) * call.num_frames)  # clips of a cond
        return torch.cat([by_area[area].repeat(each, 1, 1, 1) for area in areas])

    def _images(self, picture: Picture, x: Tensor, dtype: torch.dtype) -> Tensor:
        """The images at the picture's size, or their latents: made once a run, as ComfyUI's own ControlNets do."""
        side = 1 if self.takes_latents else PIXELS_PER_LATENT
        size = (picture.height * side, picture.width * side)
        if self.cond_hint is None or self.cond_hint.shape[-2:] != size:
            pixels = fit(self.cond_hint_original.float(), picture.height * PIXELS_PER_LATENT, picture.width * PIXELS_PER_LATENT)
            self.cond_hint = self._encode(pixels) if self.takes_latents else _as_drawing(pixels)
        self.cond_hint = self.cond_hint.to(device=x.device, dtype=dtype)
        return self.cond_hint

    def _encode(self, pixels: Tensor) -> Tensor:
        loaded = comfy.model_management.loaded_models(only_currently_used=True)
        latents = encode_sd15(self.vae, pixels, "SparseCtrl's images")
        comfy.model_management.load_models_gpu(loaded)
        return comfy.latent_formats.SD15().process_in(latents)


def _on_frames(images: Tensor, placed: list[PlacedImage], num_frames: int) -> Tensor:
    """Put images ``(n, c, h, w)`` on their frames, with a mask as one channel more: ``f c+1 h w``."""
    hint = images.new_zeros(num_frames, images.shape[1] + 1, *images.shape[2:])
    for image, place in placed:
        hint[place, :-1] = images[image]
        hint[place, -1] = 1.0
    return hint


def _as_drawing(pixels: Tensor) -> Tensor:
    """Make images grey and each as bright as can be, which AnimateDiff's script calls ``normalize_condition_images``."""
    grey = pixels.mean(dim=1, keepdim=True)
    grey = grey - grey.amin(dim=(2, 3), keepdim=True)
    brightest = grey.amax(dim=(2, 3), keepdim=True)
    return (grey / brightest.where(brightest > 0, 1.0)).expand(-1, 3, -1, -1)
