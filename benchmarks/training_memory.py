"""Memory that training takes at full size, counted without a graphics card.

    python3 loom.py run benchmarks.training_memory [--size 256] [--frames 16] [--batch 1]

One training step of a full-size SD1.5 UNet with a full-size v3 motion model is run on tensors that have a shape but no
contents (PyTorch's FakeTensorMode), while every storage is counted from when it is made to when it is freed. So the
numbers are exact for what PyTorch's tensors take; a card needs more on top: its context (about half a gigabyte), what
the allocator cannot use, and the work spaces of its kernels. Attention is counted as fused, as it is on a card.
"""

from __future__ import annotations

import argparse
import weakref

import comfy.cli_args

comfy.cli_args.args.cpu = True  # before anything asks for a device

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..motion_models.config import Family
from ..motion_models.training.initialise import new_motion_model
from ..motion_models.training.losses import squared_error
from ..nodes.host.files.loading import temporal_attention
from ..nodes.host.training import frozen_base as training

GIB = 1024**3
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SD15 = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4], "num_heads": 8, "num_head_channels": -1, "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1, "context_dim": 768, "legacy": False, "use_linear_in_transformer": False,
    "adm_in_channels": None, "dropout": 0, "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
TINY = {"model_channels": 32}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made in it, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


class LoadedPatcher(comfy.model_patcher.ModelPatcher):
    """Has nothing to load: tensors without contents cannot be moved."""

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        return 0

    def detach(self, unpatch_all=True):
        return self.model


def sd15(dtype: torch.dtype, **changes) -> comfy.model_patcher.ModelPatcher:
    config = comfy.supported_models.SD15({**SD15, **changes, "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    device = torch.device("cpu")
    return LoadedPatcher(comfy.model_base.BaseModel(config, device=device), device, device)


def one_step(dtype: str, checkpointing: bool, size: int, frames: int, batch: int, **changes) -> dict[str, int]:
    """Bytes of one step, by what they are; ``changes`` are the UNet's."""
    with LiveBytes() as live:
        model = sd15(DTYPES[dtype], **changes)
        sizes = {"base": live.now}
        motion_model = new_motion_model(training.config_for(model, Family.V3, frames), temporal_attention())
        sizes["motion model"] = live.now - sizes["base"]
        base = training.FrozenBase(model, motion_model, frames, dtype, checkpointing)
        latents = torch.zeros(batch * frames, 4, size // 8, size // 8)
        timesteps = torch.zeros(batch * frames, dtype=torch.long)
        context = torch.zeros(batch * frames, 77, SD15["context_dim"])
        at_rest = live.now
        live.peak = at_rest
        with torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "fp32"):
            answer = base(latents, timesteps, context)
        squared_error(answer, latents).backward()
        gradients = sum(parameter.grad.numel() * 4 for parameter in motion_model.parameters())
        base_gradients = sum(parameter.grad is not None for parameter in model.model.parameters())
        assert not base_gradients, "the base has gradients"
        sizes |= {"gradients": gradients, "optimizer": 2 * sizes["motion model"]}
        sizes["features"] = live.peak - at_rest - gradients
        sizes["peak"] = live.peak + sizes["optimizer"]
        return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (256)")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1, help="clips at a time (1)")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16", "fp32"])
    parser.add_argument("--check", action="store_true", help="of a tiny UNet, with contents, too: the two should agree")
    arguments = parser.parse_args()
    training._MOST_SCORES = 0  # fused attention, as on a card
    print(f"{arguments.batch} x {arguments.frames} frames of {arguments.size} x {arguments.size} pixels; GiB")
    for dtype in arguments.dtypes:
        for checkpointing in (True, False):
            settings = (dtype, checkpointing, arguments.size, arguments.frames, arguments.batch)
            with FakeTensorMode():
                sizes = one_step(*settings, **(TINY if arguments.check else {}))
            parts = ", ".join(f"{name} {count / GIB:.2f}" for name, count in sizes.items())
            print(f"{dtype}, {'with' if checkpointing else 'without'} gradient checkpointing: {parts}", flush=True)
            if arguments.check:
                real = one_step(*settings, **TINY)
                print(f"    with contents: peak {real['peak']:,} bytes, without {sizes['peak']:,}", flush=True)


if __name__ == "__main__":
    main()
