"""The training run: what one step does, and that stopping and going on changes nothing."""

from __future__ import annotations

import math
from contextlib import closing

import pytest
import torch
from pack.motion_models.training.engine import OneDevice, sample_numbers
from pack.motion_models.training.errors import (
    CheckpointNotSaved,
    InvalidSettings,
    OtherTrainingRun,
    TrainingDiverged,
    TrainingError,
)
from pack.motion_models.training.losses import NoiseSchedule
from pack.motion_models.training.settings import TrainingSettings
from pack.motion_models.training.trainer import Trainer
from pack.motion_models.training.training_state import FILE_NAME, TrainingState, check_disk_space, hash_of

from .toy_training import FRAMES, SIZE, ToyBase, ToyClips, settings, toy_model


def make_trainer(folder=None, model_seed=0, base=ToyBase, clips=None, base_hash="", engine=None, **changes) -> Trainer:
    motion_model = toy_model(model_seed)
    return Trainer(
        motion_model, base(motion_model), clips or ToyClips(), settings(**changes), folder, engine, base_hash
    )


def train(trainer: Trainer, steps: int | None = None) -> Trainer:
    """Run to the end, or stop after some steps as a closed window would."""
    with closing(trainer.run()) as results:
        for result in results:
            if result.step == steps:
                break
    return trainer


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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


# --- stopping and going on ----------------------------------------------------------------------------------------------

STOPS = {
    "closed": lambda trainer: train(trainer, 3),
    "asked": lambda trainer: [trainer.stop() if result.step == 3 else None for result in trainer.run()],
}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, stop, dtype):
    changes = {"ema_decay": 0.5, "learning_rate_schedule": "cosine", "warmup_steps": 2, "dtype": dtype}
    whole = train(make_trainer(**changes))
    STOPS[stop](make_trainer(tmp_path, **changes))
    resumed = make_trainer(tmp_path, **changes)
    assert resumed.step == 3
    train(resumed)
    assert resumed.losses == whole.losses
    assert len(whole.losses) == 6
    assert same_weights(resumed.weights(), whole.weights())
    assert same_weights(resumed.motion_model.state_dict(), whole.motion_model.state_dict())


class Interrupted(BaseException):
    pass


class InterruptingBase(ToyBase):
    """Is interrupted in its sixth call: in the middle of a step, if a step takes two."""

    def __call__(self, *args):
        if self.calls == 5:
            raise Interrupted
        return super().__call__(*args)


def test_an_interrupt_in_the_middle_of_a_step_leaves_it_out(tmp_path):
    changes = {"batch_size": 1, "accumulation": 2}
    with pytest.raises(Interrupted):
        train(make_trainer(tmp_path, base=InterruptingBase, **changes))
    resumed = make_trainer(tmp_path, **changes)
    assert resumed.step == 2
    assert same_weights(train(resumed).weights(), train(make_trainer(**changes)).weights())


def test_checkpoints_are_written_as_often_as_asked(tmp_path):
    """Seen at each step from the file, as if the power went off."""
    steps = []
    for _ in make_trainer(tmp_path, steps=7, checkpoint_every=3).run():
        state = TrainingState.load(tmp_path)
        steps.append(state.step if state else 0)
    assert steps == [0, 0, 0, 3, 3, 3, 6]
    assert TrainingState.load(tmp_path).step == 7
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_finished_run_stays_finished(tmp_path):
    first = train(make_trainer(tmp_path))
    again = make_trainer(tmp_path)
    assert list(again.run()) == []
    assert again.losses == first.losses
    assert same_weights(again.weights(), first.weights())


def test_what_changes_nothing_may_change(tmp_path):
    whole = train(make_trainer(steps=8, batch_size=4))
    train(make_trainer(tmp_path, steps=4, batch_size=4))
    resumed = make_trainer(tmp_path, steps=8, batch_size=2, accumulation=2, checkpoint_every=1)
    assert resumed.step == 4
    assert train(resumed).losses == pytest.approx(whole.losses, rel=1e-4)


OTHER_RUNS = {
    "learning_rate is 0.02, there 0.01": {"learning_rate": 2e-2},
    "seed is 1, there 0": {"seed": 1},
    "clips in each step is 3, there 2": {"batch_size": 3},
    "prediction is v, there eps": {"prediction": "v"},
    "ema_decay is 0.9, there 0.0": {"ema_decay": 0.9},
    "first weights is": {"model_seed": 1},
    "clips is other, there toy": {"clips": ToyClips(data_hash="other")},
    "base model is other": {"base_hash": "other"},
}


@pytest.mark.parametrize("message", OTHER_RUNS)
def test_another_runs_checkpoint_is_refused(tmp_path, message):
    train(make_trainer(tmp_path), 2)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(OtherTrainingRun, match=message) as caught:
        make_trainer(tmp_path, **OTHER_RUNS[message])
    assert str(tmp_path) in str(caught.value)
    assert "at step 2" in str(caught.value)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_cosine_ends_where_it_was_to_end(tmp_path):
    train(make_trainer(tmp_path, learning_rate_schedule="cosine"), 2)
    with pytest.raises(OtherTrainingRun, match="steps is 9, there 6"):
        make_trainer(tmp_path, learning_rate_schedule="cosine", steps=9)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x02.", b"no checkpoint"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(TrainingError, match=FILE_NAME):
        make_trainer(tmp_path)


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / FILE_NAME)
    with pytest.raises(TrainingError, match="no training checkpoint of this version"):
        make_trainer(tmp_path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'harmed')!r}, 'w')",)

    torch.save({"format": 1, "step": Harmful()}, tmp_path / FILE_NAME)
    with pytest.raises(TrainingError, match="cannot be read"):
        make_trainer(tmp_path)
    assert not (tmp_path / "harmed").exists()


# --- what goes wrong ----------------------------------------------------------------------------------------------------


class DivergingBase(ToyBase):
    """Answers NaN from its fifth call on."""

    def __call__(self, *args):
        return super().__call__(*args) * (math.nan if self.calls >= 5 else 1.0)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path, dtype):
    trainer = make_trainer(tmp_path, base=DivergingBase, checkpoint_every=2, dtype=dtype)
    with pytest.raises(TrainingDiverged) as caught:
        train(trainer)
    message = str(caught.value)
    assert "The loss became NaN or infinite at step 5" in message
    assert f"The checkpoint of step 4 is kept in '{tmp_path}'" in message
    assert "lower learning rate" in message
    assert trainer.step == 4
    state = TrainingState.load(tmp_path)
    assert state.step == 4
    assert all(tensor.isfinite().all() for tensor in state.weights.values())
    assert same_weights(train(make_trainer(tmp_path, dtype=dtype)).weights(), train(make_trainer(dtype=dtype)).weights())


class ExplodingBase(ToyBase):
    """Has an infinite gradient, though its answers are finite."""

    def __call__(self, *args):
        answer = super().__call__(*args)
        answer.register_hook(lambda gradient: gradient * math.inf)
        return answer


def test_a_gradient_that_is_no_number_stops_before_it_does_harm():
    trainer = make_trainer(base=ExplodingBase)
    before = trainer.weights()
    with pytest.raises(TrainingDiverged, match="The gradient became NaN or infinite at step 1, .* No checkpoint"):
        train(trainer)
    assert same_weights(trainer.weights(), before)


def test_an_overflow_of_fp16_is_left_out_until_there_are_too_many():
    trainer = make_trainer(base=ExplodingBase, dtype="fp16", steps=1000)
    before = trainer.weights()
    with pytest.raises(TrainingDiverged, match="The gradient .* or fp32 instead of fp16"):
        train(trainer)
    assert 20 < trainer.step < 40  # the scale starts at 2^16 and halves each time
    assert same_weights(trainer.weights(), before)


@pytest.fixture
def small_files():
    """From its call on, the system lets this process write no file beyond some bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_and_keeps_the_last_checkpoint(tmp_path, small_files):
    results = make_trainer(tmp_path, checkpoint_every=2).run()
    assert [next(results).step for _ in range(3)] == [1, 2, 3]
    small_files(100_000)
    with pytest.raises(CheckpointNotSaved) as caught:
        list(results)
    small_files(2**30)
    message = str(caught.value)
    assert f"checkpoint of step 4 could not be written to '{tmp_path / FILE_NAME}'" in message
    assert "the one before is kept" in message
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    resumed = make_trainer(tmp_path)
    assert resumed.step == 2
    assert same_weights(train(resumed).weights(), train(make_trainer()).weights())


def test_too_small_a_disk_is_seen_before_the_work(tmp_path):
    with pytest.raises(CheckpointNotSaved, match=r"GB left, but each checkpoint of this training takes 1048576.0 GB"):
        check_disk_space(tmp_path / "not" / "there yet", 2**50)
    check_disk_space(tmp_path, 1)


def test_a_folder_that_is_a_file_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    trainer = make_trainer(file / "checkpoints")
    with pytest.raises(CheckpointNotSaved, match="checkpoints"):
        train(trainer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0. Expected 1 or more"),
        ({"learning_rate": math.nan}, "learning_rate is nan. Expected 0 or more"),
        ({"text_dropout": 1.5}, "text_dropout is 1.5. Expected 0 to 1"),
        ({"seed": -1}, "seed is -1. Expected 0 to"),
        ({"prediction": "flow"}, "prediction is 'flow'. Expected one of: eps, v"),
        ({"dtype": "fp8"}, "dtype is 'fp8'. Expected one of: fp32, bf16, fp16"),
        ({"beta_schedule": "linear"}, r"beta_schedule is 'linear'. Expected one of: linear \(AnimateDiff\)"),
        ({"ema_decay": 1.0}, "keep the first weights for ever"),
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
