"""ComfyUI's TorchCompileModel and animated models."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from pack.motion_models.config import Family
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.runs.zero_shot_video import FIRST, FIRST_AND_PREVIOUS, OFF

from .world import SMALLEST_MOTION, SMALLEST_UNET, animate, make_model, motion_file, sample
from .zero_world import attention_only, difference


def compiled(model):
    """What TorchCompileModel does, with a back end that needs no compiler."""
    model = model.clone()
    set_torch_compile_wrapper(model, backend="eager", options={"guard_filter_fn": skip_torch_compile_dict})
    return model


@pytest.mark.parametrize("family", [Family.V1], ids=lambda family: family.name)
def test_compiled_models_move_as_others_do(family, tmp_path):
    """ComfyUI's node drops the guards on transformer_options, so what stands in there must not be compiled in."""
    torch._dynamo.reset()
    model, motion = make_model(**SMALLEST_UNET), load_motion_model(motion_file(tmp_path, family, **SMALLEST_MOTION))
    for settings, steps in (({}, 2), ({"strength": 0.3}, 2), ({"end_percent": 0.5}, 4)):
        expected = sample(animate(model, motion, **settings), steps=steps)
        for way in (compiled(animate(model, motion, **settings)), animate(compiled(model), motion, **settings)):
            torch.testing.assert_close(sample(way, steps=steps), expected, atol=1e-5, rtol=1e-5)


def test_compiled_models_look_at_their_anchors_as_others_do():
    torch._dynamo.reset()
    model = make_model(**SMALLEST_UNET)
    for anchor in (FIRST, FIRST_AND_PREVIOUS, OFF):
        joined = attention_only(model, anchor)
        assert difference(sample(compiled(joined), 4, steps=1), sample(joined, 4, steps=1)) < 1e-5, anchor
