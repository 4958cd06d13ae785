"""Activation memory: what ComfyUI reserves for the UNet is enough for the UNet with motion modules, too."""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager, nullcontext

import comfy.ops
import pytest
import torch
import torch._dynamo
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.motion_model import MotionModel
from pack.nodes.host.motion import injection as injection
from pack.nodes.host.motion.norms import NormsOverFrames
from pack.nodes.host.motion.unet import modules_by_layer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .world import UNET_CONFIG

FRAMES, SIZE = 16, 64  # 512 x 512 pixels
MIB = 2**20


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, and their most at one time."""

    def __init__(self, weights):
        super().__init__()
        self.live = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in weights}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key, size):
        self._known.discard(key)
        self.live -= size


def attention(q, k, v, *args, **kwargs):
    """Flash attention makes its output and nothing else of that size."""
    return torch.empty_like(q)


def override(function, q, k, v, *args, **kwargs):
    return torch.empty_like(q)


def peak_memory(family: Family | None) -> float:
    """MiB that activations of one call of the full-size UNet take, with cond and uncond, in float16."""
    made = {"dtype": torch.float16, "device": "meta"}
    config = {**UNET_CONFIG, "model_channels": 320, "context_dim": 768, "num_heads": 8}
    network = UNetModel(**config, **made, operations=comfy.ops.disable_weight_init)
    weights = list(network.parameters())
    options = {"optimized_attention_override": override, "patches": {}}
    norms = NormsOverFrames(FRAMES) if family is Family.V1 else None
    if family is not None:
        motion = MotionModel(
            MotionModelConfig(family, has_mid_block=family is Family.V2), operations=comfy.ops.manual_cast,
            attention=attention, **made,
        )
        weights += motion.parameters()
        modules, how = modules_by_layer(network, motion), injection.ModelInCall()
        after = {layer: [injection.MotionStep(module, how)] for layer, module in modules.items()}
        options[injection.KEY] = injection.MotionCall(FRAMES, after, norms)
        options = injection.with_layer_handler(options)
    batch = 2 * FRAMES
    with PeakMemory(weights) as memory:
        x, context = torch.empty(batch, 4, SIZE, SIZE, **made), torch.empty(batch, 77, 768, **made)
        timesteps = torch.empty(batch, device="meta")
        with norms or nullcontext():
            network(x, timesteps, context=context, transformer_options=options)
    return memory.peak / MIB


@pytest.mark.parametrize("family", [Family.V1, Family.V2, Family.V3], ids=lambda family: family.name)
def test_motion_modules_do_not_raise_the_peak(family):
    alone, animated = peak_memory(None), peak_memory(family)
    estimate = 2 * FRAMES * SIZE * SIZE * 2 * 0.01  # comfy.model_base.BaseModel.memory_required, SD1.5 in float16
    assert 0.7 * estimate < alone < estimate
    assert animated < 1.01 * alone


def test_nor_do_they_where_torch_compile_is_at_work():
    """It takes over Python's calls in all threads, and for good once it has failed; callers then keep their arguments."""
    with torch_compile_at_work():
        assert callers_keep_arguments()
        alone, animated = peak_memory(None), peak_memory(Family.V3)
    assert animated < 1.01 * alone


@contextmanager
def torch_compile_at_work():
    """In another thread, which waits for this one."""
    began, end = threading.Event(), threading.Event()

    @torch._dynamo.run
    def wait():
        began.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    began.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


def callers_keep_arguments() -> bool:
    def keeps(tensor):
        passed = weakref.ref(tensor)
        tensor = None
        return passed() is not None

    return keeps(torch.empty(1))
