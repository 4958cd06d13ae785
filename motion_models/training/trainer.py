"""The training run: the recipe of AnimateDiff, step by step, with checkpoints to go on from.

Source of the recipe: Guo et al. 2023, arXiv:2307.04725, section 4, and its released ``train.py``: the base is frozen,
one timestep for each video, the mean squared error of the predicted noise, AdamW.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..motion_model import MotionModel
from .engine import Engine, OneDevice, sample_numbers
from .errors import CheckpointNotSaved, TrainingDiverged
from .latent_clips import LatentClips
from .losses import NoiseSchedule, draw_timestep, squared_error
from .settings import COSINE, VELOCITY, TrainingSettings
from .training_state import Fingerprint, TrainingState, check_disk_space, hash_of

Predict = Callable[..., Tensor]
"""``(noisy, timesteps, context[, pooled]) -> prediction``: the frozen base with the motion modules in it. Shapes:
``(b*f, c, h, w)``, ``(b*f,)``, ``(b*f, t, d)``, ``(b*f, p)`` and ``(b*f, c, h, w)``; frames of one clip lie next to each
other. ``pooled`` comes if the samples have it."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SMALLEST_SCALE = 2.0**-10
_STATES_PER_WEIGHT = 3  # a checkpoint holds the weights and AdamW's two averages


@dataclass(frozen=True)
class StepResult:
    """One optimizer step: its number from 1, mean loss, learning rate, norm of the gradient before clipping."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


class _Network(nn.Module):
    """Gives the motion model a forward, into which engines for several processes hook."""

    def __init__(self, motion_model: MotionModel, predict: Predict):
        super().__init__()
        self.motion_model = motion_model
        self.predict = predict

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.predict(*inputs)


class Trainer:
    """Trains a motion model's float32 weights in place, on clips with latents as the UNet sees them.

    Checkpoints go to ``folder``, from where one of the same run (and ``base_hash``) is resumed; None keeps none. Without an
    engine it runs wherever the motion model is. ``step`` and ``losses`` are those done.

    Raises:
        TrainingError: the folder holds another run's checkpoint, or one that cannot be read.
        CheckpointNotSaved: the folder's disk has no room for one.
    """

    def __init__(
        self, motion_model: MotionModel, predict: Predict, clips: LatentClips, settings: TrainingSettings,
        folder: Path | None = None, engine: Engine | None = None, base_hash: str = "",
    ):  # fmt: skip
        self.settings, self.clips, self.folder = settings, clips, folder
        self.engine = engine or OneDevice(next(motion_model.parameters()).device)
        self.motion_model = motion_model.requires_grad_(True)
        self.step = 0
        self.losses: list[float] = []
        self._schedule = NoiseSchedule(settings.beta_schedule, settings.zero_terminal_snr)
        self._fingerprint = self._make_fingerprint(base_hash)
        self._network = self.engine.prepare(_Network(motion_model, predict))
        self._parameters = list(motion_model.parameters())
        # Fused, a step on a graphics card needs no memory of its own; else it takes as much as the weights once more.
        fused = self.engine.device.type == "cuda" or None
        self._optimizer = torch.optim.AdamW(
            self._parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=fused
        )
        self._scaler = torch.amp.GradScaler(self.engine.device.type, enabled=settings.dtype == "fp16")
        self._average = {name: p.detach().clone() for name, p in self._named()} if settings.ema_decay else None
        self._is_whole = True  # False while an update is half done
        self._saved_step = 0
        self._stop_asked = self._stop_agreed = False
        if folder is not None:
            self._resume(folder)

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[StepResult]:
        """Train to the last step, one result for each.

        However it ends, be it that the iterator is closed, an interrupt or an error, the last whole step is saved.

        Raises:
            TrainingDiverged: the loss or the gradient is not finite; neither updates the weights nor saves them.
            CheckpointNotSaved: for example because the disk is full.
        """
        can_save = True
        try:
            while self.step < self.settings.steps and not self._must_stop():
                yield self._train_step()
                if self.step % self.settings.checkpoint_every == 0:
                    self.save()
        except (TrainingDiverged, CheckpointNotSaved):
            can_save = False
            raise
        finally:
            if can_save and self._is_whole:
                self.save()

    def stop(self) -> None:
        """End the run after the step it is in, or one more; to be called from a signal handler or another thread."""
        self._stop_asked = True

    def weights(self) -> dict[str, Tensor]:
        """The trained weights: their running average where there is one; float32, on the CPU."""
        source = self._average if self._average is not None else dict(self._named())
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in source.items()}

    def save(self) -> None:
        """Write a checkpoint, unless this step's is there already; one process does it for all."""
        if self.folder is None or self._saved_step == self.step or not self.engine.is_main_process:
            return
        TrainingState(
            fingerprint=self._fingerprint,
            step=self.step,
            losses=self.losses,
            weights={name: parameter.detach() for name, parameter in self._named()},
            average=self._average,
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
        ).save(self.folder)
        self._saved_step = self.step

    def _must_stop(self) -> bool:
        # A process that stopped by itself would leave the others waiting for it.
        return self._stop_agreed or (self._stop_asked and self.engine.num_processes == 1)

    # --- one step -----------------------------------------------------------------------------------------------------

    def _train_step(self) -> StepResult:
        settings = self.settings
        learning_rate = settings.learning_rate_at(self.step)
        loss = self._add_gradients()
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, settings.gradient_clip or math.inf).item()
        if not math.isfinite(loss) or not (math.isfinite(norm) or self._can_scale_by_less()):
            raise TrainingDiverged(self._describe_divergence(loss))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._is_whole = False
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.losses.append(loss)
        self._update_average()
        self._is_whole = True
        return StepResult(self.step, loss, learning_rate, norm)

    def _add_gradients(self) -> float:
        """Add up the gradients of a step's batches; returns the mean loss over all batches and processes."""
        settings, engine = self.settings, self.engine
        self._optimizer.zero_grad(set_to_none=True)
        # What all processes must agree on: the loss, and whether one of them was asked to stop.
        shared = torch.zeros(2, device=engine.device)
        for batch, numbers in enumerate(sample_numbers(engine, self.step, settings.accumulation, settings.batch_size)):
            is_last = batch == settings.accumulation - 1
            with nullcontext() if is_last else engine.no_sync(self._network):
                loss = self._loss(numbers) / settings.accumulation
                self._scaler.scale(loss).backward()
            shared[0] += loss.detach()
        shared[1] = float(self._stop_asked)
        loss_value, stop_asked = engine.reduce(shared, "mean").tolist()
        self._stop_agreed = stop_asked > 0
        return loss_value

    def _loss(self, numbers: range) -> Tensor:
        latents, noise, timesteps, *texts = (part.to(self.engine.device) for part in self._batch(numbers))
        frames = latents.shape[1]
        noisy = self._schedule.add_noise(latents, noise, timesteps)
        target = self._schedule.target(self.settings.prediction, latents, noise, timesteps)
        dtype = _DTYPES.get(self.settings.dtype)
        with nullcontext() if dtype is None else torch.autocast(self.engine.device.type, dtype):
            per_frame = (part.repeat_interleave(frames, dim=0) for part in (timesteps, *texts))
            prediction = self._network(noisy.flatten(0, 1), *per_frame)
        weight = None
        if self.settings.loss_on == VELOCITY:
            weight = self._schedule.velocity_weight(self.settings.prediction, timesteps).repeat_interleave(frames)
        return squared_error(prediction, target.flatten(0, 1), weight)

    def _batch(self, numbers: range) -> list[Tensor]:
        """Latents ``(b, f, c, h, w)``, noise like them, timesteps ``(b,)``, context ``(b, t, d)``, pooled ``(b, p)`` if any."""
        seed = self.settings.seed
        clips = [self.clips.sample(number, seed, self.settings.text_dropout) for number in numbers]
        latents = torch.stack([clip.latents for clip in clips])
        noise, timesteps = torch.empty_like(latents), torch.empty(len(clips), dtype=torch.long)
        for place, number in enumerate(numbers):
            generator = torch.Generator().manual_seed(_seed_of(seed, number))
            timesteps[place] = draw_timestep(self.settings.timestep_shift, generator)
            noise[place] = torch.randn(latents.shape[1:], generator=generator)
        pooled = [clip.pooled for clip in clips if clip.pooled is not None]
        texts = [_stack_contexts([clip.context for clip in clips]), *([torch.stack(pooled)] if pooled else [])]
        return [latents, noise, timesteps, *texts]

    @torch.no_grad()
    def _update_average(self) -> None:
        if self._average is None:
            return
        # As short as the run is young, or the first weights would stay in it for long.
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        for name, parameter in self._named():
            self._average[name].lerp_(parameter.to(self._average[name].device), 1 - decay)

    def _can_scale_by_less(self) -> bool:
        """Whether an overflow is one that fp16 has now and then: the scaler leaves that step out and scales by less."""
        return self._scaler.is_enabled() and self._scaler.get_scale() >= _SMALLEST_SCALE

    def _describe_divergence(self, loss: float) -> str:
        what = "gradient" if math.isfinite(loss) else "loss"
        kept = "No checkpoint was written yet."
        if self.folder is not None and self._saved_step:
            kept = f"The checkpoint of step {self._saved_step} is kept in '{self.folder}'."
        remedy = "Try a lower learning rate, a longer warm-up, or a smaller gradient_clip"
        if self.settings.dtype != "fp32":
            remedy += f", or fp32 instead of {self.settings.dtype}"
        return f"The {what} became NaN or infinite at step {self.step + 1}, so training stopped. {kept} {remedy}."

    # --- what resuming takes ------------------------------------------------------------------------------------------

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.motion_model.named_parameters()

    def _make_fingerprint(self, base_hash: str) -> Fingerprint:
        settings = asdict(self.settings)
        # Dealing a step's clips out in another way changes nothing, nor does saving more often, nor computing twice.
        for name in ("batch_size", "accumulation", "checkpoint_every", "gradient_checkpointing"):
            del settings[name]
        if self.settings.learning_rate_schedule != COSINE:
            del settings["steps"]
        config = {**asdict(self.motion_model.config), "family": self.motion_model.config.family.name}
        del config["trained_frames"]  # said by the clips, and not known to older checkpoints
        return {
            "motion model": str(config),
            "first weights": hash_of(self._named()),
            "base model": base_hash,
            "clips": self.clips.data_hash,
            "clips in each step": self.settings.batch_size * self.settings.accumulation * self.engine.num_processes,
            **settings,
        }

    def _resume(self, folder: Path) -> None:
        weight_bytes = sum(parameter.nbytes for parameter in self._parameters)
        check_disk_space(folder, weight_bytes * (_STATES_PER_WEIGHT + (self._average is not None)))
        state = TrainingState.load(folder)
        if state is None:
            return
        state.check_same_run(self._fingerprint, folder)
        self.step = self._saved_step = state.step
        self.losses = state.losses
        self.motion_model.load_state_dict(state.weights)
        self._optimizer.load_state_dict(state.optimizer)
        self._scaler.load_state_dict(state.scaler)
        if self._average is not None and state.average is not None:
            for name, tensor in state.average.items():
                self._average[name].copy_(tensor)


def _seed_of(seed: int, number: int) -> int:
    """A seed for one sample's noise that has nothing to do with its neighbours'."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big")


def _stack_contexts(contexts: list[Tensor]) -> Tensor:
    """Stack texts ``(t, d)`` of several lengths by repeating them, as ComfyUI does: attention to twice is attention to once."""
    length = math.lcm(*(context.shape[0] for context in contexts))
    return torch.stack([context.repeat(length // context.shape[0], 1) for context in contexts])
