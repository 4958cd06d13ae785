"""Record what the official motion modules of other families give, and how their files name the weights.

Run aside, once for each family, with a checkout of its repository on the path; nothing of these is part of this repository:

    PYTHONPATH=CHECKOUT python tests/official/record_modules.py sdxl     # guoyww/AnimateDiff, branch sdxl, 8d191074a10a
    PYTHONPATH=CHECKOUT python tests/official/record_modules.py hotshot  # hotshotco/Hotshot-XL, main, cc01f7f82acf
    PYTHONPATH=CHECKOUT/animatelcm_sd15:FOLDER_OF_DIFFUSERS_0_11_1 python tests/official/record_modules.py lcm
                                                                         # G-U-N/AnimateLCM, master, f873122358c1

The first two with the diffusers of tests/requirements.txt. Each adds to ``module_outputs.safetensors``, and writes the file's
keys and shapes into ``tests/data``.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
if sys.argv[1] == "lcm":  # diffusers 0.11.1 imports whatever of these it finds, and needs none of them here
    for name in ("transformers", "flax", "jax"):
        sys.modules[name] = None

import torch
from safetensors.torch import load_file, save_file
from seeded import BATCH, FRAMES, MODULE_CHANNELS, is_norm_weight, module_input, seeded


def load(path: str):
    """A module of a repository by itself: its package would import what isn't needed here."""
    found = next(Path(folder) / path for folder in sys.path if (Path(folder) / path).is_file())
    spec = importlib.util.spec_from_file_location(found.stem, found)
    module = importlib.util.module_from_spec(spec)
    sys.modules[found.stem] = module
    spec.loader.exec_module(module)
    return module


def sdxl(channels: int) -> torch.nn.Module:
    util = types.ModuleType("animatediff.utils.util")
    util.zero_rank_print = print
    sys.modules["animatediff.utils.util"] = util
    made = load("animatediff/models/motion_module.py").VanillaTemporalModule
    return made(
        channels, num_attention_heads=8, num_transformer_block=1, attention_block_types=("Temporal_Self", "Temporal_Self"),
        temporal_position_encoding=True, temporal_position_encoding_max_len=32,
    )


def hotshot(channels: int) -> torch.nn.Module:
    return load("hotshot_xl/models/transformer_temporal.py").TransformerTemporal(8, channels // 8, channels)


def lcm(channels: int) -> torch.nn.Module:
    made = load("animatelcm/models/motion_module.py").get_motion_module
    settings = {
        "num_attention_heads": 8, "num_transformer_block": 1, "attention_block_types": ["Temporal_Self", "Temporal_Self"],
        "temporal_position_encoding": True, "temporal_attention_dim_div": 1,
    }
    return made(channels, motion_module_type="Vanilla", motion_module_kwargs=settings)


FAMILIES = {
    "sdxl": (sdxl, "mm_sdxl_v10_beta.txt", "AnimateDiff-SDXL (mm_sdxl_v10_beta.ckpt)", (320, 640, 1280), False, "motion_modules"),
    "hotshot": (hotshot, "hsxl_temporal_layers.txt", "HotshotXL (hsxl_temporal_layers.f16.safetensors)", (320, 640, 1280), False, "temporal_attentions"),
    "lcm": (lcm, "AnimateLCM_sd15_t2v.txt", "AnimateLCM (AnimateLCM_sd15_t2v.ckpt)", (320, 640, 1280, 1280), True, "motion_modules"),
}


def record(family: str) -> None:
    make = FAMILIES[family][0]
    module = make(MODULE_CHANNELS).eval()
    for name, parameter in module.named_parameters():
        short = name.removeprefix("temporal_transformer.")
        parameter.data = seeded(short, tuple(parameter.shape), is_norm_weight(short))
    features = module_input()  # b f c h w
    with torch.inference_mode():
        if family == "lcm":
            out = module(features.transpose(1, 2), None, None)
        else:
            out = module(features.transpose(1, 2))
    path = HERE / "module_outputs.safetensors"
    outputs = load_file(path) if path.is_file() else {}
    assert out.shape == (BATCH, MODULE_CHANNELS, FRAMES, *features.shape[-2:])
    save_file({**outputs, family: out.transpose(1, 2).contiguous()}, path)


def write_layout(family: str) -> None:
    make, file, title, widths, has_mid_block, modules = FAMILIES[family]
    levels = range(len(widths))
    seats = [(f"down_blocks.{i}.{modules}.{j}", widths[i]) for i in levels for j in range(2)]
    seats += [(f"up_blocks.{i}.{modules}.{j}", widths[::-1][i]) for i in levels for j in range(3)]
    seats += [(f"mid_block.{modules}.0", widths[-1])] if has_mid_block else []
    lines = []
    for seat, channels in seats:
        for key, tensor in make(channels).state_dict().items():
            if family == "lcm" and "pos_encod" in key:  # the released file has no buffers
                continue
            lines.append(f"{seat}.{key} {'x'.join(map(str, tensor.shape))}")
    header = f"# Key and shape of every tensor of {title}: {len(lines)} tensors."
    (DATA / file).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(sys.argv[1])
    write_layout(sys.argv[1])
