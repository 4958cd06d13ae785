"""DynamicVRAM on a CPU: ComfyUI's own patcher class and casting of weights, on plain memory for the card's.

With DynamicVRAM, weights stay in the file and are copied to the card when a layer runs, into addresses that comfy-aimdo may take
back at any time. Here, a tensor stands for those addresses; what is taken back turns into NaN.
"""

from __future__ import annotations

import ctypes

import comfy.cli_args
import comfy.memory_management
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import comfy_aimdo.torch
import pytest
import safetensors
import torch

CARD = torch.device("cpu", 0)
"""Another device than ``cpu`` for those who compare, the same for PyTorch."""


class Patcher(comfy.model_patcher.ModelPatcherDynamic):
    """The class that ComfyUI uses on NVIDIA cards, which turns into the plain one for a model on the CPU."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)


class Memory:
    """The part of ``comfy_aimdo.model_vbar.ModelVBAR`` that ComfyUI calls."""

    def __init__(self, size: int, device: int):
        with torch.inference_mode(False):  # threads write to it, too
            self._bytes = torch.empty(size, dtype=torch.uint8)
        self._used = 0
        self._resident: dict[int, int] = {}
        self._times_taken_back = 0

    def prioritize(self) -> None:
        pass

    def alloc(self, size: int) -> tuple[Memory, int, int]:
        place = (self._used + 511) // 512 * 512
        self._used = place + size
        return self, place, size

    def fault(self, place: int, size: int) -> ctypes.Array:
        """Bring an allocation in. The signature differs from the last one where it was taken back since then."""
        self._resident[place] = size
        return (ctypes.c_uint32 * 1)(self._times_taken_back)

    def unpin(self, place: int, size: int) -> None:
        pass

    def loaded_size(self) -> int:
        return sum(self._resident.values())

    def free_memory(self, size: int) -> int:
        freed = self.loaded_size()
        for place, length in self._resident.items():
            self._bytes[place : place + length] = 255
        self._resident.clear()
        self._times_taken_back += 1
        return freed

    def tensor(self, place: int, size: int) -> torch.Tensor:
        return self._bytes[place : place + size]


class HostBuffer:
    """Stands for ``comfy_aimdo.host_buffer.HostBuffer``; stays empty, for nothing is pinned."""

    size = 0

    def __init__(self, *sizes: int):
        pass

    def truncate(self, size: int, do_unregister: bool = True) -> None:
        pass


def cast_bias_weight(s, input=None, dtype=None, device=None, bias_dtype=None, offloadable=False, compute_dtype=None, want_requant=False):
    """What ``comfy.ops.cast_bias_weight`` does for a layer on a card; on the CPU it would leave LoRAs out."""
    if not hasattr(s, "_v"):
        return _cast(s, input, dtype, device, bias_dtype, offloadable, compute_dtype, want_requant)
    dtype = input.dtype if dtype is None else dtype
    bias_dtype = dtype if bias_dtype is None else bias_dtype
    device = input.device if device is None else device
    comfy.ops.cast_modules_with_vbar([s], dtype, device, bias_dtype, False)
    weight, bias = comfy.ops.resolve_cast_module_with_vbar(s, dtype, device, bias_dtype, compute_dtype, want_requant)
    for name in ("weight", "bias"):
        patch = getattr(s, f"{name}_lowvram_function", None)
        if patch is not None:
            patch.clear_prepared()
    del s._prefetch
    return (weight, bias, (None, device, None)) if offloadable else (weight, bias)


_cast = comfy.ops.cast_bias_weight


def _load_safetensors(path: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """As ComfyUI's reader for DynamicVRAM, which needs a card: the tensors are the file's own memory."""
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def switch_on(patch: pytest.MonkeyPatch) -> None:
    """Do as ``main.py`` does where there is an NVIDIA card."""
    patch.setattr(comfy.model_patcher, "CoreModelPatcher", Patcher)
    patch.setattr(comfy.memory_management, "aimdo_enabled", True)
    patch.setattr(comfy.model_management, "get_torch_device", lambda: CARD)
    patch.setattr(comfy.cli_args.args, "disable_pinned_memory", True)
    patch.setattr(comfy.ops, "cast_bias_weight", cast_bias_weight)
    patch.setattr(comfy.utils, "load_safetensors", _load_safetensors)
    patch.setattr(comfy_aimdo.host_buffer, "HostBuffer", HostBuffer)
    patch.setattr(comfy_aimdo.model_vbar, "ModelVBAR", Memory)
    patch.setattr(comfy_aimdo.torch, "aimdo_to_tensor", lambda allocation, device: allocation[0].tensor(*allocation[1:]))
