"""What the training scripts share: where results lie, resuming after a stop, the loss curve."""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn


def argument_parser(description: str | None, steps: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--steps", type=int, default=steps, help=f"training steps in all ({steps})")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (all)")
    return parser


class Stage:
    """One training: its step counter, optimizer, learning rate and running average of weights, saved every two minutes.

    Warm-up over 100 steps, then a cosine down to a hundredth. A stop loses two minutes at most: run the same command again.
    The average follows the weights with a time constant of ``min(step / 10, 1000)`` steps.
    """

    def __init__(self, name: str, model: nn.Module, work: Path, steps: int, learning_rate: float, weight_decay: float = 1e-3):
        self.name, self.model, self.work, self.steps, self.learning_rate = name, model, work, steps, learning_rate
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, learning_rate, (0.9, 0.99), weight_decay=weight_decay, fused=True)
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.step, self.losses, self._saved = 0, [], time.monotonic()
        work.mkdir(parents=True, exist_ok=True)
        if self._state_path.is_file():
            self._resume()

    @property
    def _state_path(self) -> Path:
        return self.work / f"{self.name}.state.pt"

    def _resume(self) -> None:
        state = torch.load(self._state_path, weights_only=True)
        with torch.no_grad():
            for parameter, average, saved, saved_average in zip(
                self.parameters, self.average, state["weights"], state["average"], strict=True
            ):
                parameter.copy_(saved)
                average.copy_(saved_average)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses = state["step"], state["losses"]
        print(f"{self.name}: resumed at step {self.step}", flush=True)

    def run(self, loss_at: Callable[[torch.Generator], torch.Tensor]) -> Iterator[int]:
        """Train to the last step; yields after each step. Step n draws from its own seed, so a resumed run is the same run."""
        began, first, running = time.monotonic(), self.step, 0.0
        while self.step < self.steps:
            loss = loss_at(torch.Generator().manual_seed(1_000_003 * self.step + 17))
            if not math.isfinite(loss.item()):
                raise RuntimeError(f"{self.name}: the loss is {loss.item()} at step {self.step}; the last good state is kept.")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * self._schedule()
            self.optimizer.step()
            self.step += 1
            with torch.no_grad():
                torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 / min(1 + self.step / 10, 1000))
            running = loss.item() if self.step == first + 1 else 0.98 * running + 0.02 * loss.item()
            if self.step % 50 == 0:
                self.losses.append((self.step, running))
                print(f"{self.name} {self.step}/{self.steps} {time.monotonic() - began:.0f} s loss {running:.5f}", flush=True)
            if time.monotonic() - self._saved > 120:
                self.save()
            yield self.step
        self.save()

    def _schedule(self) -> float:
        progress = self.step / self.steps
        return min(1.0, (self.step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def save(self) -> None:
        state = {
            "step": self.step, "losses": self.losses, "optimizer": self.optimizer.state_dict(),
            "weights": [parameter.detach() for parameter in self.parameters], "average": self.average,
        }
        unfinished = self._state_path.with_suffix(".partial")
        torch.save(state, unfinished)
        unfinished.replace(self._state_path)
        with open(self.work / f"{self.name}.losses.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("step", "loss"), *self.losses])
        self._saved = time.monotonic()

    def use_average(self) -> None:
        """Put the running average into the model."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                parameter.copy_(average)
