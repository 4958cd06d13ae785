"""Windows inside the temporal attention alone: the UNet's other layers see all frames of a clip at once."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....animation.windowing import Windowing
from ....motion_models.views import Views, place_windows

_VIEWS_KEY = "animatediff_loom_views"


def set_view_windows(model: ModelPatcher, windowing: Windowing) -> None:
    """Let motion modules in ``model``, the caller's own clone, see a window of frames at a time; an earlier one is replaced."""
    model.set_attachments(_VIEWS_KEY, windowing)


def views_of(model: ModelPatcher, x: Tensor, num_frames: int) -> Views | None:
    """The views of one call of the UNet, on the device of its batch ``x``; None where all frames see one another."""
    windowing: Windowing | None = model.get_attachment(_VIEWS_KEY)
    if windowing is None or not windowing.cuts(num_frames):
        return None
    windows = windowing.windows(num_frames)
    return Views(num_frames, place_windows(windows, windowing.weights(windows, num_frames), x.device))


def frames_in_view(model: ModelPatcher, num_frames: int) -> int:
    """Number of frames that see one another, of ``num_frames`` that the UNet gets."""
    windowing: Windowing | None = model.get_attachment(_VIEWS_KEY)
    return num_frames if windowing is None else min(num_frames, windowing.length)
