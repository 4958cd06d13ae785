"""Records what AnimateDiff-Evolved gives for ``evolved_families.py``, for tests/host/test_evolved_families.py.

Run aside, with a copy of ComfyUI-AnimateDiff-Evolved d8d163c (1.5.7), in which a few lines are changed so that it takes motion
models of any width. Its code is not part of this repository.

    EVOLVED=FOLDER COMFYUI_PATH=... python -m pytest tests/host/record_evolved_families.py
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import folder_paths
from safetensors.torch import save_file

from .evolved_families import FAMILIES, OVERLAP, WINDOW, base, clip, write_motion_model


def evolved_nodes():
    folder = Path(os.environ["EVOLVED"])
    spec = importlib.util.spec_from_file_location("evolved", folder / "__init__.py", submodule_search_locations=[str(folder)])
    pack = sys.modules["evolved"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    return pack.NODE_CLASS_MAPPINGS


def test_record(tmp_path):
    nodes = evolved_nodes()
    folder_paths.folder_names_and_paths["animatediff_models"][0].append(str(tmp_path))
    recorded = {}
    for name in FAMILIES:
        file = write_motion_model(name, tmp_path).name
        (windows,) = nodes["ADE_StandardStaticContextOptions"]().create_options(WINDOW, OVERLAP, "pyramid")
        for kind, context in (("whole", None), ("windows", windows)):
            loader = nodes["ADE_AnimateDiffLoaderGen1"]()
            (model,) = loader.load_mm_and_inject_params(base(), file, "autoselect", context_options=context)
            recorded[f"{name}, {kind}"] = clip(model)
    save_file(recorded, Path(__file__).with_name("evolved_families.safetensors"))
