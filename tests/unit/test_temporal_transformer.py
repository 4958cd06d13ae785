"""The network against formulas written out here, and against diffusers'."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from pack.motion_models.attention_inputs import AttentionInputs, Merge
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.layers import sinusoidal_positions
from pack.motion_models.temporal_transformer import TemporalTransformer
from pack.motion_models.views import Views, place_windows
from safetensors.torch import load_file
from torch.nn import functional

from .conftest import make_motion_model, sdpa

CHANNELS, HEADS = 64, 8
OFFICIAL = Path(__file__).parent.parent / "official"
spec = importlib.util.spec_from_file_location("seeded", OFFICIAL / "seeded.py")
seeds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seeds)


@pytest.fixture
def transformer() -> TemporalTransformer:
    config = MotionModelConfig(Family.V3, block_channels=(CHANNELS,), layers_per_block=1)
    return make_motion_model(config).modules_by_part["down"][0].temporal_transformer


def encoding(frames: int, start: int = 0, channels: int = CHANNELS) -> torch.Tensor:
    return sinusoidal_positions(torch.arange(start, start + frames), channels)


def run(transformer, x: torch.Tensor, encoding: torch.Tensor, strength=1.0, block_tokens=None, **inputs) -> torch.Tensor:
    return transformer(x, AttentionInputs(encoding, **inputs), strength=strength, block_tokens=block_tokens)


def reference(
    weights: dict[str, torch.Tensor],
    x: torch.Tensor,
    frames: int,
    motion_scale: float | torch.Tensor = 1.0,
    views=None,
    merge: Merge | None = None,
) -> torch.Tensor:
    """One pixel and one head at a time, from the published formulas, with nothing of the pack.

    ``views`` are pairs of frame numbers and weights: out_f = sum_v weight_v(f) view_v(f) / sum_v weight_v(f). ``merge``, of
    the shape of ``x``, goes into the first attention's tokens.
    """

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        out = value @ weights[f"{name}.weight"].T
        return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out

    def layer_norm(name: str, value: torch.Tensor) -> torch.Tensor:
        mean, var = value.mean(-1, keepdim=True), value.var(-1, unbiased=False, keepdim=True)
        return (value - mean) / (var + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    bf, c, h, w = x.shape
    groups = x.reshape(bf, 32, -1)
    mean, var = groups.mean(-1, keepdim=True), groups.var(-1, unbiased=False, keepdim=True)
    normed = ((groups - mean) / (var + 1e-6).sqrt()).reshape(x.shape)
    normed = normed * weights["norm.weight"][:, None, None] + weights["norm.bias"][:, None, None]
    pe = torch.zeros(frames, c)
    for k in range(frames):
        for i in range(0, c, 2):
            pe[k, i] = math.sin(k * 10000 ** (-i / c))
            pe[k, i + 1] = math.cos(k * 10000 ** (-i / c))

    def attend(t: torch.Tensor, scale: float | torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        for a in (0, 1):
            u = layer_norm(f"{block}.norms.{a}", t) + pe[: len(t)]
            if a == 0 and extra is not None:
                u = u + merge.strength * ((u + extra) @ merge.layer.weight.T + merge.layer.bias)
            name = f"{block}.attention_blocks.{a}"
            q, k, v = (linear(f"{name}.to_{part}", u) for part in "qkv")
            heads = []
            for q_i, k_i, v_i in zip(*(part.chunk(HEADS, -1) for part in (q, k * scale, v)), strict=True):
                scores = q_i @ k_i.T / math.sqrt(c // HEADS)
                heads.append(scores.exp() / scores.exp().sum(-1, keepdim=True) @ v_i)
            t = t + linear(f"{name}.to_out.0", torch.cat(heads, -1))
        return t

    def attend_in_views(t: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
        total, count = torch.zeros_like(t), torch.zeros(frames, 1)
        for numbers, shares in views:
            scale = motion_scale[numbers] if isinstance(motion_scale, torch.Tensor) else motion_scale
            part = attend(t[numbers], scale, None if extra is None else extra[numbers])
            for place, frame in enumerate(numbers):
                total[frame] += shares[place] * part[place]
                count[frame] += shares[place]
        return total / count

    out = x.clone()
    block = "transformer_blocks.0"
    for clip in range(bf // frames):
        for row in range(h):
            for column in range(w):
                t = linear("proj_in", normed[clip * frames : (clip + 1) * frames, :, row, column])
                extra = None if merge is None else merge.features[clip * frames : (clip + 1) * frames, :, row, column]
                t = attend(t, motion_scale, extra) if views is None else attend_in_views(t, extra)
                value, gate = linear(f"{block}.ff.net.0.proj", layer_norm(f"{block}.ff_norm", t)).chunk(2, -1)
                gate = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
                t = t + linear(f"{block}.ff.net.2", value * gate)
                out[clip * frames : (clip + 1) * frames, :, row, column] += linear("proj_out", t)
    return out


@pytest.mark.parametrize("motion_scale", [1.0, 1.3])
@pytest.mark.parametrize(("batch", "frames", "height", "width"), [(1, 16, 3, 2), (2, 5, 2, 4), (3, 1, 1, 1)])
def test_equals_a_loop_over_pixels(transformer, batch, frames, height, width, motion_scale):
    x = torch.randn(batch * frames, CHANNELS, height, width)
    out = run(transformer, x, encoding(frames), motion_scale=motion_scale)
    expected = reference(dict(transformer.state_dict()), x, frames, motion_scale)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    assert (out - x).abs().max() > 0.1


VIEWS = {
    "two": [([0, 1, 2, 3], [1, 2, 2, 1]), ([2, 3, 4, 5], [1, 2, 2, 1])],
    "round the end": [([0, 1, 2, 3], [1, 1, 1, 1]), ([3, 4, 5, 0], [3, 1, 2, 5])],
}


def views_of(views, frames: int) -> Views:
    totals = torch.zeros(frames)
    for numbers, shares in views:
        totals[numbers] += torch.tensor(shares, dtype=torch.float32)
    shares = [(torch.tensor(shares) / totals[numbers]).tolist() for numbers, shares in views]
    return Views(frames, place_windows([numbers for numbers, _ in views], shares, torch.device("cpu")))


@pytest.mark.parametrize("scaled", [False, True], ids=["number", "frames"])
@pytest.mark.parametrize("kind", VIEWS)
def test_views_equal_a_loop_over_pixels(transformer, kind, scaled):
    """Both attentions run over each view, positions begin anew in each, and the feed-forward sees what they come to."""
    x, views = torch.randn(2 * 6, CHANNELS, 2, 3), VIEWS[kind]
    scale = 1 + torch.arange(6.0)[:, None, None] / 6 if scaled else 1.3
    out = run(transformer, x, encoding(4), motion_scale=scale, views=views_of(views, 6))
    expected = reference(dict(transformer.state_dict()), x, 6, scale.flatten(1) if scaled else scale, views)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    assert (out - run(transformer, x, encoding(6), motion_scale=scale)).abs().max() > 1e-2


def test_views_may_have_the_clips_positions(transformer):
    """Where all positions are alike, it's no matter whether they are a view's or the clip's; else it is."""
    x, views = torch.randn(6, CHANNELS, 2, 3), views_of(VIEWS["two"], 6)
    same = encoding(1).expand(6, -1)
    torch.testing.assert_close(run(transformer, x, same, views=views), run(transformer, x, same[:4], views=views), atol=1e-6, rtol=0)
    assert (run(transformer, x, encoding(6), views=views) - run(transformer, x, encoding(4), views=views)).abs().max() > 1e-3
    # The first view alone counts for frames 0 and 1, and has the same positions either way.
    assert torch.equal(run(transformer, x, encoding(6), views=views)[:2], run(transformer, x, encoding(4), views=views)[:2])


def test_views_do_not_mix_blocks_of_tokens(transformer):
    x, views = torch.randn(2 * 6, CHANNELS, 4, 3), views_of(VIEWS["round the end"], 6)
    strength = torch.rand(6, 4, 3)
    whole = run(transformer, x, encoding(4), motion_scale=strength, strength=strength, views=views)
    parts = run(transformer, x, encoding(4), motion_scale=strength, strength=strength, views=views, block_tokens=24)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("block_tokens", [None, 12])
@pytest.mark.parametrize("kind", [None, "two"])
def test_what_is_merged_into_the_first_attentions_tokens_equals_a_loop(transformer, kind, block_tokens):
    """As a camera's features are: after the encoding, so for queries, keys and values, of this attention block alone."""
    x, merge = torch.randn(2 * 6, CHANNELS, 2, 3), Merge(torch.nn.Linear(CHANNELS, CHANNELS), torch.randn(2 * 6, CHANNELS, 2, 3), 0.7)
    views, length = (VIEWS[kind], 4) if kind else (None, 6)
    inputs = {"merges": {0: merge}, "views": views_of(views, 6) if kind else None}
    with torch.inference_mode():
        out = run(transformer, x, encoding(length), block_tokens=block_tokens, **inputs)
    expected = reference(dict(transformer.state_dict()), x, 6, views=views, merge=merge)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def diffusers_twin(transformer: TemporalTransformer) -> AnimateDiffTransformer3D:
    """Diffusers' network with the same weights under its own names."""
    twin = AnimateDiffTransformer3D(
        num_attention_heads=HEADS, attention_head_dim=CHANNELS // HEADS, in_channels=CHANNELS,
        positional_embeddings="sinusoidal", num_positional_embeddings=32,
    )
    names = {"attention_blocks.0": "attn1", "attention_blocks.1": "attn2", "norms.0": "norm1", "norms.1": "norm2", "ff_norm": "norm3"}
    weights = {}
    for name, tensor in transformer.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(f"transformer_blocks.0.{ours}", f"transformer_blocks.0.{theirs}")
        weights[name] = tensor
    missing, unexpected = twin.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all("pos_embed" in name for name in missing)
    return twin.eval().requires_grad_(False)


def test_equals_diffusers_behind_the_group_norm(transformer):
    """Everything but the norm's axes: diffusers takes the group norm over all frames, AnimateDiff over each frame."""
    frames, batch = 16, 2
    x = torch.randn(batch * frames, CHANNELS, 3, 4)
    twin = diffusers_twin(transformer)
    twin.norm, transformer.norm = torch.nn.Identity(), torch.nn.Identity()
    out = run(transformer, x, encoding(frames))
    torch.testing.assert_close(out, twin(x, num_frames=frames), atol=1e-5, rtol=0)


def test_equals_diffusers_where_all_frames_have_the_same_statistics(transformer):
    """With the same frame throughout, statistics over one frame and over all are the same, so the norm compares too."""
    frames = 16
    x = torch.randn(1, CHANNELS, 3, 4).expand(frames, -1, -1, -1).contiguous()
    out = run(transformer, x, encoding(frames))
    torch.testing.assert_close(out, diffusers_twin(transformer)(x, num_frames=frames), atol=1e-5, rtol=0)


def test_group_norm_sees_one_frame_only(transformer):
    """A frame far brighter than the others must not change what the others' norm gives (diffusers' would)."""
    frames = 4
    x = torch.randn(frames, CHANNELS, 2, 2)
    brighter = x.clone()
    brighter[3] *= 50
    torch.testing.assert_close(transformer.norm(x)[:3], transformer.norm(brighter)[:3])


@pytest.mark.parametrize(("name", "family"), [("sdxl", Family.SDXL), ("hotshot", Family.HOTSHOT), ("lcm", Family.LCM)])
def test_equals_the_official_module(name, family):
    """Numbers recorded from each release's own code, see tests/official; frames differ in brightness."""
    config = MotionModelConfig(family, (seeds.MODULE_CHANNELS,), layers_per_block=1)
    transformer = make_motion_model(config).modules_by_part["down"][0].temporal_transformer
    for key, parameter in transformer.named_parameters():
        parameter.copy_(seeds.seeded(key, tuple(parameter.shape), seeds.is_norm_weight(key)))
    features = seeds.module_input()
    out = run(transformer, features.flatten(0, 1), encoding(seeds.FRAMES, channels=seeds.MODULE_CHANNELS)).view(features.shape)
    expected = load_file(OFFICIAL / "module_outputs.safetensors")[name]
    torch.testing.assert_close(out, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)
    transformer.norm_over_frames = not transformer.norm_over_frames
    other = run(transformer, features.flatten(0, 1), encoding(seeds.FRAMES, channels=seeds.MODULE_CHANNELS)).view(features.shape)
    assert (other - expected).abs().max() > 0.01


def test_norm_over_frames_equals_diffusers():
    """Of all families only AnimateDiff-SDXL's motion modules norm over all frames, as diffusers' do for every family."""
    config = MotionModelConfig(Family.SDXL, block_channels=(CHANNELS,), layers_per_block=1)
    transformer = make_motion_model(config).modules_by_part["down"][0].temporal_transformer
    x = torch.randn(2 * 16, CHANNELS, 3, 4) * torch.linspace(0.2, 3, 32).view(-1, 1, 1, 1)
    out = run(transformer, x, encoding(16))
    torch.testing.assert_close(out, diffusers_twin(transformer)(x, num_frames=16), atol=1e-5, rtol=0)


def test_zero_output_projection_is_the_identity(transformer):
    torch.nn.init.zeros_(transformer.proj_out.weight)
    torch.nn.init.zeros_(transformer.proj_out.bias)
    x = torch.randn(32, CHANNELS, 2, 3)
    assert torch.equal(run(transformer, x, encoding(16)), x)


def test_strength_blends_output_with_input(transformer):
    x = torch.randn(16, CHANNELS, 2, 3)
    full = run(transformer, x, encoding(16))
    assert torch.equal(run(transformer, x, encoding(16), strength=0.0), x)
    torch.testing.assert_close(run(transformer, x, encoding(16), strength=0.25), x * 0.75 + full * 0.25)


def test_values_for_each_frame_and_pixel_equal_numbers(transformer):
    frames, x = 6, torch.randn(12, CHANNELS, 2, 3)
    for shape in ((frames, 1, 1), (frames, 2, 3)):
        out = run(transformer, x, encoding(frames), motion_scale=torch.full(shape, 1.2), strength=torch.full(shape, 0.5))
        torch.testing.assert_close(out, run(transformer, x, encoding(frames), motion_scale=1.2, strength=0.5))


def test_strength_mask_acts_where_it_is(transformer):
    frames, x = 4, torch.randn(4, CHANNELS, 2, 2)
    mask = torch.zeros(frames, 2, 2)
    mask[2, 0, 1] = 1.0
    out = run(transformer, x, encoding(frames), strength=mask)
    full = run(transformer, x, encoding(frames))
    changed = torch.zeros_like(x, dtype=torch.bool)
    changed[2, :, 0, 1] = True
    torch.testing.assert_close(out[changed], full[changed])
    assert torch.equal(out[~changed], x[~changed])


def test_motion_scale_of_a_frame_is_that_of_its_key(transformer):
    """A key scaled to 0 gives that frame the same score from every query; written out with the reference's attention."""
    attention = transformer.transformer_blocks[0].attention_blocks[0]
    x = torch.randn(3, 5, CHANNELS)
    scale = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.5])[None, :, None]
    q, k, v = attention.to_q(x), attention.to_k(x) * scale, attention.to_v(x)
    expected = attention.to_out[0](sdpa(q, k, v, HEADS))
    torch.testing.assert_close(attention(x, AttentionInputs(encoding(5), scale)), expected)


@pytest.mark.parametrize("block_tokens", [1, 7, 100, 360, 10_000])
@pytest.mark.parametrize("values", [False, True])
def test_blocks_of_tokens_change_nothing(transformer, block_tokens, values):
    frames, x = 8, torch.randn(24, CHANNELS, 3, 5)
    scale = torch.rand(frames, 3, 5) + 0.5 if values else 1.1
    strength = torch.rand(frames, 3, 5) if values else 0.9
    whole = run(transformer, x, encoding(frames), motion_scale=scale, strength=strength)
    parts = run(transformer, x, encoding(frames), motion_scale=scale, strength=strength, block_tokens=block_tokens)
    torch.testing.assert_close(parts, whole)


def test_without_positions_frames_have_no_order(transformer):
    x = torch.randn(6, CHANNELS, 2, 2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    none = torch.zeros(6, CHANNELS)
    torch.testing.assert_close(run(transformer, x, none)[order], run(transformer, x[order], none), atol=1e-5, rtol=0)
    with_positions = run(transformer, x, encoding(6))
    assert (with_positions[order] - run(transformer, x[order], encoding(6))).abs().max() > 1e-3


def test_clips_of_a_batch_do_not_mix(transformer):
    x = torch.randn(2, 6, CHANNELS, 2, 2)
    both = run(transformer, x.flatten(0, 1), encoding(6))
    for clip in (0, 1):
        torch.testing.assert_close(both.view(x.shape)[clip], run(transformer, x[clip], encoding(6)))


def test_positions_hold_between_frames_and_beyond_the_table():
    at_half = sinusoidal_positions(torch.tensor([0.5, 1000.0]), 64)
    for row, k in zip(at_half, (0.5, 1000.0), strict=True):
        for i in (0, 20, 62):
            assert row[i].item() == pytest.approx(math.sin(k * 10000 ** (-i / 64)), abs=2e-4)
            assert row[i + 1].item() == pytest.approx(math.cos(k * 10000 ** (-i / 64)), abs=2e-4)


def test_channels_last_features_give_the_same(transformer):
    x = torch.randn(8, CHANNELS, 4, 4)
    out = run(transformer, x.to(memory_format=torch.channels_last), encoding(8))
    torch.testing.assert_close(out, run(transformer, x, encoding(8)))


def test_gradients_reach_every_weight_and_the_input(transformer):
    """Training uses the same forward."""
    transformer.requires_grad_(True)
    x = torch.randn(8, CHANNELS, 4, 4, requires_grad=True)
    run(transformer, x, encoding(4), block_tokens=32).square().mean().backward()
    assert x.grad is not None
    assert all(p.grad is not None and functional.normalize(p.grad.flatten(), dim=0).isfinite().all() for p in transformer.parameters())
