"""Which device ComfyUI is to use where nobody gave it options."""

from __future__ import annotations


def choose_device() -> bool:
    """Have ComfyUI use the CPU where there is no graphics card, and say so; to be called before it looks for a device."""
    import comfy.cli_args
    import torch

    if not (torch.cuda.is_available() or torch.xpu.is_available() or torch.mps.is_available()):
        comfy.cli_args.args.cpu = True
    return comfy.cli_args.args.cpu
