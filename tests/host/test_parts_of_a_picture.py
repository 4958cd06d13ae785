"""Tiles that another pack puts into one batch, and masks of the whole picture where a call is for a part of it."""

from __future__ import annotations

import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.lora_files import load_motion_lora
from pack.nodes.host.motion import steered
from pack.nodes.host.motion.steered import Steered
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.zero_shot_video import FIRST_AND_PREVIOUS
from safetensors.torch import save_file

from .steering_world import FRAMES, apply_module, record_calls, resized, windowed
from .world import NEGATIVE, POSITIVE, SMALL_MOTION, SMALL_UNET, animate, cond, make_model, motion_file, sample
from .zero_world import attention_only

SIZE = 16
GENERATOR = torch.Generator().manual_seed(12)


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module")
def v1(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V1, **SMALL_MOTION))


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALL_MOTION))


# --- tiles --------------------------------------------------------------------------------------------------------------


def tiled(model, tiles_at_once: int):
    """Sample in four tiles, batched as ComfyUI-TiledDiffusion does: tile, then cond, then frame."""
    half = SIZE // 2
    boxes = [(slice(None), slice(None), slice(y, y + half), slice(x, x + half)) for y in (0, half) for x in (0, half)]

    def wrapper(apply_model, args):
        x, timestep, c = args["input"], args["timestep"], args["c"]
        out = torch.empty_like(x)
        for start in range(0, len(boxes), tiles_at_once):
            batch = boxes[start : start + tiles_at_once]
            parts = {name: torch.cat([v] * len(batch)) if isinstance(v, torch.Tensor) else v for name, v in c.items()}
            done = apply_model(torch.cat([x[box] for box in batch]), torch.cat([timestep] * len(batch)), **parts)
            for box, tile in zip(batch, done.chunk(len(batch)), strict=True):
                out[box] = tile
        return out

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


def is_near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-4 * b.abs().max())


def two_clips(model):
    latent = {"samples": torch.zeros(2 * FRAMES, 4, SIZE, SIZE)}
    return sample_clips(model, POSITIVE, NEGATIVE, latent, 2, SamplerSettings(3, 2, 2.0, "euler", "normal"))["samples"]


RUNS = {
    "frames": lambda model: sample(model, FRAMES, size=SIZE),
    "a frame": lambda model: sample(model, 1, size=SIZE),
    "a prompt for each frame": lambda model: sample(model, FRAMES, size=SIZE, positive=cond(1, batch=FRAMES)),
    "windows": lambda model: sample(windowed(model, context_length=4, context_overlap=2), 6, size=SIZE),
    "windows with an anchor": lambda model: sample(
        windowed(model, context_length=4, context_overlap=2, causal_window_fix=True), 6, size=SIZE
    ),
    "clips": two_clips,
    "cfg 1": lambda model: sample(model, FRAMES, size=SIZE, cfg=1.0),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
def test_tiles_of_one_batch_are_as_tile_by_tile(model, v1, run):
    """With a v1, whose norms see all frames, too."""
    animated = animate(model, v1)
    one_by_one = run(tiled(animated, 1))
    assert is_near(run(tiled(animated, 4)), one_by_one)
    assert not is_near(one_by_one, run(animated))


def test_cross_frame_attention_does_not_see_other_tiles(model):
    animated = attention_only(model, anchor=FIRST_AND_PREVIOUS)
    assert is_near(RUNS["frames"](tiled(animated, 4)), RUNS["frames"](tiled(animated, 1)))


def test_two_runs_in_a_row_have_their_own_frames(model, v3):
    animated = tiled(animate(model, v3), 4)
    before = RUNS["a frame"](animated)
    sample(animated, 6, size=SIZE)
    assert torch.equal(RUNS["a frame"](animated), before)


# --- areas --------------------------------------------------------------------------------------------------------------

AREAS = [(8, 8, 0, 8), (8, 8, 8, 0)]
"""Height, width, top and left; as large as one another, so that both are in one batch."""


def in_areas() -> list:
    return [entry for seed, area in enumerate(AREAS, 1) for entry in cond(seed, area=area, strength=1.0)]


def cropped(mask: torch.Tensor, area: tuple[int, ...]) -> torch.Tensor:
    factor = mask.shape[-1] // SIZE
    height, width, top, left = (number * factor for number in area)
    return mask[..., top : top + height, left : left + width]


@pytest.mark.parametrize("factor", [1, 4])
@pytest.mark.parametrize("name", ["motion_scale", "strength"])
def test_masks_are_cut_to_the_areas_of_prompts(model, v3, monkeypatch, name, factor):
    masks = torch.rand(FRAMES, SIZE * factor, SIZE * factor, generator=GENERATOR) + 0.5
    calls = record_calls(monkeypatch)
    sample(animate(model, v3, **{f"{name}_values": masks}), FRAMES, size=SIZE, steps=1, cfg=1.0, positive=in_areas())
    assert len(calls) == 6
    for call in calls:
        size = call.x.shape[-1]
        ones = torch.ones(FRAMES, size, size, dtype=torch.float64)
        assert len(call.x) == len(AREAS) * FRAMES
        # ComfyUI turns the order of prompts in a batch.
        chunks = zip(call.x.chunk(len(AREAS)), call.out.chunk(len(AREAS)), reversed(AREAS), strict=True)
        for x, out, area in chunks:
            mask = resized(cropped(masks, area), size)
            values = (mask, ones) if name == "motion_scale" else (ones, mask)
            wanted = apply_module(call.module, x, *values)
            assert (out.double() - wanted).abs().max() < 2e-5 * wanted.abs().max()


@pytest.mark.parametrize("size", [3, 8, 40])
def test_masks_of_any_size_lie_where_they_do_in_the_whole_picture(model, v3, size, monkeypatch):
    """A mask that rises from left to right gives an area what the whole picture has there."""
    mask = torch.linspace(0, 1, size).expand(size, size)
    calls = record_calls(monkeypatch)
    animated = animate(model, v3, strength_values=mask)
    sample(animated, FRAMES, size=SIZE, steps=1, cfg=1.0)
    whole = calls[0].strength[0].clone()
    calls.clear()
    sample(animated, FRAMES, size=SIZE, steps=1, cfg=1.0, positive=cond(1, area=AREAS[0], strength=1.0))
    assert (calls[0].strength[0] - whole[0:8, 8:16]).abs().max() < 0.05


def test_percentages_and_areas_over_the_edge(model, v3, monkeypatch):
    mask = torch.rand(SIZE, SIZE, generator=GENERATOR)
    calls = record_calls(monkeypatch)
    for area in (("percentage", 0.5, 0.5, 0.0, 0.5), (8, 20, 0, 8)):
        calls.clear()
        positive = cond(1, area=area, strength=1.0)
        sample(animate(model, v3, strength_values=mask), FRAMES, size=SIZE, steps=1, cfg=1.0, positive=positive)
        assert torch.equal(calls[0].strength[0], mask[0:8, 8:16])


def test_loras_masks_are_cut_to_the_areas_of_prompts(model, v3, tmp_path):
    """As if the area were a picture of its own, with the mask's part there."""
    name = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"
    down, up = (torch.randn(shape, generator=GENERATOR) for shape in ((4, 32), (32, 4)))
    save_file({f"{name}.down.weight": down, f"{name}.up.weight": up}, tmp_path / "lora.safetensors")
    mask, area = torch.rand(SIZE, SIZE, generator=GENERATOR), AREAS[0]

    def with_lora(strength):
        lora = load_motion_lora(v3, str(tmp_path / "lora.safetensors"), Steered.of("strength", 1.0, strength))
        return animate(model, lora)

    outs = []

    def keep(apply_model, args):
        outs.append((args["input"], apply_model(args["input"], args["timestep"], **args["c"])))
        return outs[-1][1]

    in_area = with_lora(mask)
    in_area.set_model_unet_function_wrapper(keep)
    sample(in_area, FRAMES, size=SIZE, steps=1, cfg=1.0, positive=cond(1, area=area, strength=1.0))
    x, out = outs.pop()

    def alone(apply_model, args):
        outs.append(apply_model(x, args["timestep"], **args["c"]))
        return outs[-1]

    for part in (cropped(mask, area), mask):
        own = with_lora(part)
        own.set_model_unet_function_wrapper(alone)
        sample(own, FRAMES, size=8, steps=1, cfg=1.0, positive=cond(1))
    assert is_near(out, outs[0])
    assert not is_near(out, outs[1])


@pytest.mark.parametrize("name", ["motion_scale", "strength"])
def test_masks_in_tiles_are_refused_and_numbers_are_not(model, v3, name):
    mask = torch.rand(SIZE, SIZE, generator=GENERATOR)
    with pytest.raises(InvalidInput, match="tiles of it .8x8 of 16x16 latent pixels. and does not say where"):
        RUNS["frames"](tiled(animate(model, v3, **{f"{name}_values": mask}), 4))
    numbers = animate(model, v3, **{f"{name}_values": [0.5, 1.0, 1.5, 0.0]})
    assert is_near(RUNS["frames"](tiled(numbers, 4)), RUNS["frames"](tiled(numbers, 1)))


def test_masks_are_sized_once_a_call_and_size(model, v3, monkeypatch):
    sizes, original = [], steered.resize

    def resize(values, height, width):
        sizes.append((height, width))
        return original(values, height, width)

    monkeypatch.setattr(steered, "resize", resize)
    mask = torch.rand(SIZE, SIZE, generator=GENERATOR)
    sample(animate(model, v3, strength_values=mask), FRAMES, size=SIZE, steps=1)
    assert sorted(sizes) == [(8, 8), (16, 16)]
