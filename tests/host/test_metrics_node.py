"""The node that measures: its numbers, its texts and its picture, in a real ComfyUI."""

from __future__ import annotations

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy.context_windows import ContextSchedules, IndexListContextHandler, create_windows_static_standard
from pack.animation.metrics import measure, window_edges
from pack.nodes.animation_metrics import AnimationMetricsNode
from pack.nodes.host.charts.metrics_plot import draw_metrics
from PIL import Image


@pytest.fixture(autouse=True)
def temp_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    return tmp_path


def moving_square(frames: int = 6, step: int = 2, size: int = 32, jump_at: int | None = None) -> torch.Tensor:
    images = torch.full((frames, size, size, 3), 0.2)
    for i in range(frames):
        left = 4 + i * step
        top = 10 if jump_at is None or i < jump_at else 17
        images[i, top : top + 8, left : left + 8] = torch.tensor([0.9, 0.6, 0.1])
    return images


def run(images: torch.Tensor, **inputs) -> dict:
    output = AnimationMetricsNode.execute(images, **inputs)
    names = [part.id for part in AnimationMetricsNode.define_schema().outputs]
    return dict(zip(names, output.args, strict=True)) | {"ui": output.ui}


def test_outputs_are_the_measures():
    images = moving_square()
    found, metrics = run(images), measure(images)
    for name in ("flicker", "motion_amount", "motion_direction", "frame_consistency", "loop_closure", "worst_seam", "colour_drift"):
        assert isinstance(found[name], float)
        assert found[name] == getattr(metrics, name)
    assert found["motion_amount"] == pytest.approx(100 * 2 / 32, rel=0.05)
    assert "motion direction: 0 (degrees: right)" in found["report"]
    assert "not measured" in found["report"]


def test_seams_of_context_windows():
    images = moving_square(9, step=1, jump_at=4)
    found = run(images, context_length=4, context_overlap=0)
    assert found["worst_seam"] > 2
    assert f"seam at frame 4: {found['worst_seam']:.2f}" in found["report"]
    assert run(images, context_length=7, context_overlap=5)["worst_seam"] < 2  # no window begins or ends at 4


def test_the_node_shows_its_picture_and_tells_its_report(temp_folder):
    found = run(moving_square())
    (shown,) = found["ui"]["images"]
    assert shown["type"] == "temp"
    with Image.open(temp_folder / shown["filename"]) as picture:
        assert picture.size == (640, 360)
        pixels = torch.tensor(list(picture.convert("RGB").getdata())).view(1, 360, 640, 3)
    assert found["plot"].shape == (1, 360, 640, 3)
    assert found["plot"].dtype == torch.float32
    torch.testing.assert_close(found["plot"], pixels / 255, atol=1 / 255, rtol=0)
    assert found["ui"]["text"] == (found["report"],)


def orange(plot: torch.Tensor) -> int:
    return int(((plot[..., 0] > 0.4) & (plot[..., 2] < 0.6 * plot[..., 0])).sum())


@pytest.mark.parametrize("frames", [2, 16, 700])
def test_the_picture_marks_window_edges(frames):
    images = torch.rand(frames, 8, 8, 3)
    assert orange(draw_metrics(measure(images))) == 0
    assert orange(draw_metrics(measure(images, edges=[1]))) > 0


def test_a_picture_of_nothing_and_of_very_much():
    assert torch.isfinite(draw_metrics(measure(torch.zeros(3, 16, 16, 3)))).all()
    black_and_white = torch.tensor([0.0, 1.0, 0.0])[:, None, None, None].expand(3, 16, 16, 3)
    assert torch.isfinite(draw_metrics(measure(black_and_white))).all()


@pytest.mark.parametrize("frames", [8, 16, 17, 31, 32, 40])
@pytest.mark.parametrize(("length", "overlap"), [(16, 4), (16, 0), (8, 6), (12, 5)])
def test_edges_are_those_of_comfyuis_windows(frames, length, overlap):
    handler = IndexListContextHandler(
        context_schedule=ContextSchedules.STATIC_STANDARD, fuse_method=None, context_length=length, context_overlap=overlap
    )
    windows = create_windows_static_standard(frames, handler, {})
    edges = {edge for window in windows for edge in (window[0], window[-1] + 1)} - {0, frames}
    assert set(window_edges(frames, length, overlap)) == edges


def test_bad_windows_are_refused_before_and_while_it_runs():
    said = AnimationMetricsNode.validate_inputs(context_length=8, context_overlap=8)
    assert said.startswith("Context windows of 8 frames can't overlap by 8.")
    assert AnimationMetricsNode.validate_inputs(context_length=0, context_overlap=8) is True
    assert AnimationMetricsNode.validate_inputs(context_length=8, context_overlap=None) is True
    with pytest.raises(ValueError, match="windows of 8 frames can't overlap by 8"):
        run(moving_square(), context_length=8, context_overlap=8)


def test_one_image_is_no_clip():
    with pytest.raises(ValueError, match="needs at least 2 frames"):
        run(moving_square(1))


def test_it_can_be_interrupted():
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(moving_square())
    assert run(moving_square())["flicker"] >= 0
