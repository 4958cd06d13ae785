"""The training run: what one step does, and that it does not matter how a step's clips are dealt out."""

from __future__ import annotations

import math

import pytest
import torch
from pack.motion_models.training.engine import OneDevice, sample_numbers
from pack.motion_models.training.errors import InvalidSettings
from pack.motion_models.training.losses import NoiseSchedule
from pack.motion_models.training.settings import TrainingSettings
from pack.motion_models.training.trainer import Trainer
from pack.motion_models.training.training_state import hash_of

from .toy_training import FRAMES, SIZE, ToyBase, ToyClips, make_trainer, same_weights, settings, toy_model, train

# --- one step -----------------------------------------------------------------------------------------------------------


def drawn_by(trainer: Trainer, numbers: range):
    """What a step's UNet call got: seen from outside, through ``predict``."""
    seen = []
    predict = trainer._network.predict
    trainer._network.predict = lambda *args: seen.append(args) or predict(*args)
    trainer._loss(numbers)
    trainer._network.predict = predict
    return seen[0]


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_step_is_adamw_on_the_squared_error(prediction):
    """Written out from the recipe, with AdamW's own formula: Loshchilov and Hutter 2019, arXiv:1711.05101."""
    trainer = make_trainer(prediction=prediction, weight_decay=0.1, gradient_clip=0.0)
    noisy, timesteps, context = drawn_by(trainer, range(2))
    latents = torch.stack([ToyClips().sample(number, 0).latents for number in range(2)])
    schedule = NoiseSchedule(trainer.settings.beta_schedule)
    signal, spread = (part[timesteps].view(-1, 1, 1, 1) for part in (schedule.signal, schedule.noise))
    noise = (noisy - signal * latents.flatten(0, 1)) / spread
    target = noise if prediction == "eps" else signal * noise - spread * latents.flatten(0, 1)

    motion_model = toy_model()
    loss = (ToyBase(motion_model)(noisy, timesteps, context) - target).square().mean()
    loss.backward()
    result = next(trainer.run())
    assert result.loss == pytest.approx(loss.item(), rel=1e-4)
    squares = sum(parameter.grad.square().sum() for parameter in motion_model.parameters())
    assert result.gradient_norm == pytest.approx(math.sqrt(squares), rel=1e-3)
    for (name, before), after in zip(motion_model.named_parameters(), trainer.motion_model.parameters(), strict=True):
        first, second = 0.1 * before.grad / (1 - 0.9), 0.001 * before.grad**2 / (1 - 0.999)
        expected = before * (1 - 1e-2 * 0.1) - 1e-2 * first / (second.sqrt() + 1e-8)
        # Where there is next to no gradient, the quotient is rounding.
        certain = before.grad.abs() > 1e-5
        torch.testing.assert_close(after[certain], expected[certain], atol=2e-4, rtol=0, msg=name)


def test_one_timestep_for_each_clip_and_noise_for_each_pixel():
    trainer = make_trainer()
    noisy, timesteps, context = drawn_by(trainer, range(40))
    assert noisy.shape == (40 * FRAMES, 4, SIZE, SIZE)
    assert torch.equal(timesteps, timesteps[::FRAMES].repeat_interleave(FRAMES))
    assert torch.equal(context, context[::FRAMES].repeat_interleave(FRAMES, dim=0))
    drawn = timesteps[::FRAMES]
    assert drawn.unique().numel() > 35
    assert drawn.min() < 150
    assert drawn.max() > 850
    latents = torch.stack([ToyClips().sample(number, 0).latents for number in range(40)]).flatten(0, 1)
    schedule = NoiseSchedule(trainer.settings.beta_schedule)
    noise = noisy - schedule.signal[timesteps].view(-1, 1, 1, 1) * latents
    noise /= schedule.noise[timesteps].view(-1, 1, 1, 1)
    assert noise.mean().abs() < 0.05
    assert noise.std() == pytest.approx(1, abs=0.05)
    frames = noise.view(40, FRAMES, -1)
    for first, second in ((frames[:, 0], frames[:, 1]), (frames[0], frames[1])):
        correlation = (first * second).mean()
        assert correlation.abs() < 0.1


def test_texts_of_several_lengths_are_repeated():
    class Clips(ToyClips):
        def sample(self, position, seed, text_dropout=0.0):
            clip = super().sample(position, seed, text_dropout)
            return type(clip)(clip.latents, clip.context.repeat(1 + position, 1))

    _, _, context = drawn_by(make_trainer(clips=Clips()), range(2))
    assert context.shape[1] == 6
    assert torch.equal(context[0], ToyClips().sample(0, 0).context.repeat(2, 1))


def test_learning_rate_warms_up_and_goes_down():
    rates = [settings(steps=12, warmup_steps=3, learning_rate_schedule="cosine").learning_rate_at(step) for step in range(12)]
    assert rates[:3] == pytest.approx([0.0025, 0.005, 0.0075])
    assert rates[3] == pytest.approx(0.01)
    assert rates[3 + 3] == pytest.approx(0.005 * (1 + math.cos(math.pi / 3)))
    assert sorted(rates[3:], reverse=True) == rates[3:]
    assert 0 < rates[-1] < 0.001
    trainer = make_trainer(steps=3, warmup_steps=1)
    assert [result.learning_rate for result in trainer.run()] == pytest.approx([0.005, 0.01, 0.01])


def test_the_gradient_is_clipped_as_a_whole():
    free, clipped = (make_trainer(gradient_clip=clip) for clip in (0.0, 1e-9))
    before = free.weights()
    norms = [next(trainer.run()).gradient_norm for trainer in (free, clipped)]
    assert norms[0] == norms[1] > 1e-3
    # Adam divides a gradient by its own size; by no more than its epsilon of 1e-8 where it was clipped to less.
    moved = {name: (clipped.weights()[name] - before[name]).abs().max() for name in before if "norm" not in name}
    assert max(moved.values()) < 0.2 * 1e-2
    assert max((free.weights()[name] - before[name]).abs().max() for name in before) > 0.9 * 1e-2


def test_the_average_follows_the_weights():
    trainer = make_trainer(steps=5, ema_decay=0.3)
    expected = trainer.weights()
    for result in trainer.run():
        decay = min(0.3, (1 + result.step) / (10 + result.step))
        for name, parameter in trainer.motion_model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    for name, tensor in trainer.weights().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)
    assert not same_weights(trainer.weights(), dict(trainer.motion_model.named_parameters()))


def test_it_learns():
    """One clip, over and over: the loss falls far below that of a model that says nothing, which is 1."""
    trainer = train(make_trainer(steps=150, clips=ToyClips(count=1), ema_decay=0.9))
    assert sum(trainer.losses[:10]) / 10 > 0.9
    assert sum(trainer.losses[-20:]) / 20 < 0.6


def test_captions_are_dropped_as_asked():
    clips = ToyClips()
    train(make_trainer(steps=2, clips=clips, text_dropout=0.25, seed=7))
    assert clips.asked == [(number, 7, 0.25) for number in range(4)]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_autocast_trains_float32_weights(dtype):
    exact, trainer = (make_trainer(steps=3, learning_rate=1e-4, dtype=kind) for kind in ("fp32", dtype))
    losses = [result.loss for result in exact.run()]
    results = list(trainer.run())
    assert [result.loss for result in results] == pytest.approx(losses, rel=0.02)
    assert [result.loss for result in results] != losses
    assert all(parameter.dtype == torch.float32 for parameter in trainer.motion_model.parameters())
    if dtype == "fp16":  # unscaled before it is clipped and reported
        assert results[0].gradient_norm == pytest.approx(next(make_trainer().run()).gradient_norm, rel=0.05)


# --- the same clips, dealt out in other ways ----------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 4), (2, 2)])
def test_accumulation_is_a_larger_batch(batch_size, accumulation):
    whole = train(make_trainer(steps=3, batch_size=4, gradient_clip=0.5))
    parts = train(make_trainer(steps=3, batch_size=batch_size, accumulation=accumulation, gradient_clip=0.5))
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)
    for name, tensor in whole.weights().items():
        torch.testing.assert_close(parts.weights()[name], tensor, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("processes", "accumulation", "batch_size"), [(1, 1, 12), (2, 3, 2), (4, 1, 3), (3, 4, 1)])
def test_every_sample_of_a_step_is_taken_once(processes, accumulation, batch_size):
    taken = []
    for process in range(processes):
        engine = OneDevice()
        engine.num_processes, engine.process_index = processes, process
        taken += [number for numbers in sample_numbers(engine, 5, accumulation, batch_size) for number in numbers]
    assert sorted(taken) == list(range(60, 72))


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0. Expected 1 to 10000000"),
        ({"learning_rate": math.nan}, "learning_rate is nan. Expected 0.0 to 1.0"),
        ({"loss_on": "noise"}, "loss_on is 'noise'. Expected one of: prediction, velocity"),
        ({"timestep_shift": 0.0}, "timestep_shift is 0.0. Expected 0.1 to 10.0"),
        ({"text_dropout": 1.5}, "text_dropout is 1.5. Expected 0.0 to 1.0"),
        ({"seed": -1}, "seed is -1. Expected 0 to"),
        ({"prediction": "flow"}, "prediction is 'flow'. Expected one of: eps, v"),
        ({"dtype": "fp8"}, "dtype is 'fp8'. Expected one of: bf16, fp16, fp32"),
        ({"beta_schedule": "linear"}, r"beta_schedule is 'linear'. Expected one of: linear \(AnimateDiff\)"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0. Expected 0.0 to 0.99999"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(InvalidSettings, match=message):
        TrainingSettings(**changes)


# --- hashes -------------------------------------------------------------------------------------------------------------


def test_a_hash_tells_models_apart_but_not_dtypes():
    weights = {name: tensor.half() for name, tensor in toy_model().state_dict().items()}
    hashed = hash_of(weights.items())
    assert hashed == hash_of((name, tensor.float()) for name, tensor in weights.items())
    assert hashed == hash_of((name, tensor.bfloat16()) for name, tensor in weights.items())
    changed = {**weights, "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.bias": torch.ones(32)}
    assert hash_of(changed.items()) != hashed
    assert hash_of({f"{name}.": tensor for name, tensor in weights.items()}.items()) != hashed
    assert len({hash_of(toy_model(seed).named_parameters()) for seed in range(3)}) == 3
