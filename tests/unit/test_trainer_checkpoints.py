"""Checkpoints of training runs: stopping and going on changes nothing, and what goes wrong costs no more than it must."""

from __future__ import annotations

import math

import pytest
import torch
from pack.motion_models.training.errors import CheckpointNotSaved, OtherTrainingRun, TrainingDiverged, TrainingError
from pack.motion_models.training.training_state import FILE_NAME, TrainingState, check_disk_space

from .toy_training import ToyBase, ToyClips, make_trainer, same_weights, train

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
    (tmp_path / "other").touch()
    assert (tmp_path / FILE_NAME).stat().st_mode == (tmp_path / "other").stat().st_mode


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
    "learning_rate is 0.02, in the checkpoint 0.01": {"learning_rate": 2e-2},
    "seed is 1, in the checkpoint 0": {"seed": 1},
    "clips in each step is 3, in the checkpoint 2": {"batch_size": 3},
    "prediction is v, in the checkpoint eps": {"prediction": "v"},
    "ema_decay is 0.9, in the checkpoint 0.0": {"ema_decay": 0.9},
    "first weights is": {"model_seed": 1},
    "clips is other, in the checkpoint toy": {"clips": ToyClips(data_hash="other")},
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
    with pytest.raises(OtherTrainingRun, match="steps is 9, in the checkpoint 6"):
        make_trainer(tmp_path, learning_rate_schedule="cosine", steps=9)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x02.", b"no checkpoint"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(TrainingError, match=FILE_NAME):
        make_trainer(tmp_path)


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / FILE_NAME)
    with pytest.raises(TrainingError, match="not a training checkpoint of this version"):
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
    assert "the previous one is kept" in message
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
