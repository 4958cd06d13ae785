"""Where a training run computes: on one device, or through ``accelerate`` on several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Engine(Protocol):
    """What the trainer asks of an engine; ``accelerate.Accelerator`` is one as it stands."""

    device: torch.device
    num_processes: int
    process_index: int
    is_main_process: bool

    def prepare(self, network: nn.Module) -> Any:
        """Bring the network to the device and make its gradients the mean over all processes'."""

    def no_sync(self, network: nn.Module) -> AbstractContextManager[Any]:
        """A context in which gradients are not shared yet, because more will be added to them."""

    def reduce(self, tensor: Tensor, reduction: str) -> Any:
        """Return the mean (``"mean"``) of a tensor over all processes."""


class OneDevice:
    """The engine of a single process."""

    num_processes = 1
    process_index = 0
    is_main_process = True

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)

    def prepare(self, network: nn.Module) -> nn.Module:
        return network.to(self.device)

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor


def sample_numbers(engine: Engine, step: int, accumulation: int, batch_size: int) -> Iterator[range]:
    """Yield this process's samples in each batch of a step, which has the same ones however they are dealt out."""
    per_batch = batch_size * engine.num_processes
    for batch in range(accumulation):
        first = (step * accumulation + batch) * per_batch + engine.process_index * batch_size
        yield range(first, first + batch_size)
