"""LoRAs run along with linear layers against LoRAs merged into their weights, and against a sum written out here."""

from __future__ import annotations

import pytest
import torch
from pack.motion_models.attention_inputs import AttentionInputs
from pack.motion_models.companions.low_rank import LoraBranches, LoraNetwork, LowRank
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.motion_lora import linear_shapes

from .conftest import make_motion_model
from .test_temporal_transformer import encoding

CONFIG = MotionModelConfig(Family.V3, (32,), layers_per_block=1)
RANK, FRAMES, SIZE = 4, 6, 3


@pytest.fixture
def motion_model():
    return make_motion_model(CONFIG)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2 * FRAMES, CONFIG.block_channels[0], SIZE, SIZE)


def make_lora(seed: int = 0, alpha: float | None = None) -> dict[str, LowRank]:
    """A LoRA for every linear layer."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for name, (out, inside) in linear_shapes(CONFIG).items():
        down, up = torch.randn(RANK, inside, generator=generator), torch.randn(out, RANK, generator=generator)
        layers[name] = LowRank(down * 0.1, up * 0.1, alpha)
    return layers


def branches_of(layers, motion_model) -> dict:
    network = LoraNetwork(layers, operations=torch.nn)
    network.load_state_dict(LoraNetwork.weights(layers))
    return network.requires_grad_(False).by_layer(motion_model)


def run(motion_model, features, block_tokens=None, **inputs) -> torch.Tensor:
    inputs = AttentionInputs(encoding(FRAMES, channels=features.shape[1]), **inputs)
    return motion_model.modules_by_part["down"][0](features, inputs, block_tokens=block_tokens)


def merged(*loras: tuple[dict[str, LowRank], float], alpha: float = RANK):
    """A motion model with LoRAs in its weights, by the formula."""
    model = make_motion_model(CONFIG)
    weights = model.state_dict()
    for layers, strength in loras:
        for name, layer in layers.items():
            weights[name] = weights[name] + strength * alpha / RANK * layer.up @ layer.down
    model.load_state_dict(weights)
    return model


def is_near(out: torch.Tensor, expected: torch.Tensor) -> bool:
    return (out - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("strength", [1.0, -0.5, 2.5])
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_at_one_strength_it_is_the_merged_one(motion_model, features, strength, alpha):
    layers = make_lora(alpha=alpha)
    expected = run(merged((layers, strength), alpha=RANK if alpha is None else alpha), features)
    branches = branches_of(layers, motion_model)
    everywhere = torch.full((FRAMES, SIZE, SIZE), strength)
    for value in (strength, everywhere, everywhere[:, :1, :1]):
        out = run(motion_model, features, loras=(LoraBranches(branches, value),))
        assert is_near(out, expected)
    assert not is_near(run(motion_model, features), expected)


def test_several_add_up(motion_model, features):
    first, second = make_lora(1), make_lora(2)
    sides = [LoraBranches(branches_of(first, motion_model), 0.7), LoraBranches(branches_of(second, motion_model), -0.4)]
    assert is_near(run(motion_model, features, loras=sides), run(merged((first, 0.7), (second, -0.4)), features))


def test_pixels_have_strengths_of_their_own(motion_model, features):
    """Pixels do not see one another, so each is as if merged with its own strength."""
    layers = make_lora()
    mask = torch.rand(SIZE, SIZE) * 2 - 0.5
    side = LoraBranches(branches_of(layers, motion_model), mask.expand(FRAMES, -1, -1))
    out = run(motion_model, features, loras=(side,))
    for row in range(SIZE):
        for column in range(SIZE):
            expected = run(merged((layers, mask[row, column].item())), features)
            assert is_near(out[:, :, row, column], expected[:, :, row, column])


def test_frames_have_strengths_of_their_own(motion_model, features):
    """Every linear layer adds what the formula says to each token of a frame, whatever clip and pixel it is of."""
    layers = make_lora()
    strengths = torch.rand(FRAMES) * 2 - 0.5
    side = LoraBranches(branches_of(layers, motion_model), strengths[:, None, None])
    out = run(motion_model, features, loras=(side,))
    called = []

    def add(name):
        def hook(layer, arguments, y):
            called.append(name)
            y = y.clone()
            for frame in range(FRAMES):  # tokens are (b n) f c
                y[:, frame] += strengths[frame] * arguments[0][:, frame] @ layers[name].down.T @ layers[name].up.T
            return y

        return hook

    for name in layers:
        motion_model.get_submodule(name.removesuffix(".weight")).register_forward_hook(add(name))
    assert is_near(out, run(motion_model, features))
    assert len(called) == len(set(called)) == 12  # of this module: in and out, twice four of attention, two of the feed-forward


@pytest.mark.parametrize("block_tokens", [1, FRAMES, 4 * FRAMES + 1, 1000])
@pytest.mark.parametrize("kind", ["number", "frames", "pixels"])
def test_blocks_of_pixels_change_nothing(motion_model, features, block_tokens, kind):
    shape = {"number": (), "frames": (FRAMES, 1, 1), "pixels": (FRAMES, SIZE, SIZE)}[kind]
    value = 0.5 if kind == "number" else torch.rand(shape)
    sides = [LoraBranches(branches_of(make_lora(seed), motion_model), value) for seed in (1, 2)]
    scale = torch.rand(FRAMES, SIZE, SIZE) + 0.5
    expected = run(motion_model, features, loras=sides, motion_scale=scale)
    out = run(motion_model, features, loras=sides, motion_scale=scale, block_tokens=block_tokens)
    assert is_near(out, expected)


def test_strength_0_and_layers_without_a_branch_are_as_ever(motion_model, features):
    expected = run(motion_model, features)
    branches = branches_of(make_lora(), motion_model)
    assert torch.equal(run(motion_model, features, loras=[LoraBranches(branches, 0.0)]), expected)
    elsewhere = {name: layer for name, layer in make_lora().items() if name.startswith("up_blocks")}
    sides = [LoraBranches(branches_of(elsewhere, motion_model), 1.0)]
    assert torch.equal(run(motion_model, features, loras=sides), expected)
