"""First weights of motion models."""

from __future__ import annotations

import math

import pytest
import torch
from pack.motion_models.attention_inputs import AttentionInputs
from pack.motion_models.layers import sinusoidal_positions
from pack.motion_models.recognise import expected_shapes
from pack.motion_models.training.initialise import motion_model_to_continue, new_motion_model

from .conftest import random_weights, sdpa


def test_an_untrained_motion_model_changes_nothing(config):
    motion_model = new_motion_model(config, sdpa)
    modules = [module for part in motion_model.modules_by_part.values() for module in part]
    for module in modules:
        x = torch.randn(2 * 8, module.channels, 4, 4)
        encoding = sinusoidal_positions(torch.arange(8), module.channels)
        assert torch.equal(module(x, AttentionInputs(encoding)), x)


def test_but_for_the_output_the_weights_are_pytorchs_usual_ones(config):
    weights = dict(new_motion_model(config, sdpa).named_parameters())
    for name, parameter in weights.items():
        if "proj_out" in name:
            assert not parameter.any()
        elif "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))
        else:
            # PyTorch's linear layers: weights and biases uniform within 1/sqrt(inputs).
            weight = name.rpartition(".")[0] + ".weight"
            bound = 1 / math.sqrt(weights[weight].shape[1])
            least = 0.9 if parameter.ndim > 1 else 0.5  # of few numbers the largest may well lie lower
            assert least * bound < parameter.abs().max().item() <= bound


def test_the_seed_decides_and_nothing_else_is_drawn_from(config):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = new_motion_model(config, sdpa, seed=1).state_dict()
    assert torch.equal(torch.rand(4), expected)
    again, other = (new_motion_model(config, sdpa, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_continuing_copies_weights_of_any_dtype(config, dtype):
    weights = {name: tensor.to(dtype) for name, tensor in random_weights(config).items()}
    motion_model = motion_model_to_continue(config, weights, sdpa)
    for name, parameter in motion_model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.requires_grad
        assert torch.equal(parameter, weights[name].float())
    with torch.no_grad():
        next(motion_model.parameters()).zero_()
    assert all(weight.any() for weight in weights.values())
    assert expected_shapes(config).keys() == motion_model.state_dict().keys()
