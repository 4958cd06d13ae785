"""Records what AnimateDiff-Evolved gives for ``evolved_pia.py``, for tests/host/test_evolved_pia.py.

Run aside, as ``record_evolved_families.py`` says:

    EVOLVED=FOLDER COMFYUI_PATH=... python -m pytest tests/host/record_evolved_pia.py
"""

from __future__ import annotations

from pathlib import Path

import folder_paths
from safetensors.torch import save_file

from .evolved_pia import Runner, cases, write_motion_models
from .record_evolved_families import evolved_nodes


def test_record(tmp_path):
    classes = evolved_nodes()
    folder_paths.folder_names_and_paths["animatediff_models"][0].append(str(tmp_path))
    write_motion_models(tmp_path)
    runner = Runner(classes)
    save_file({name: runner.run(prompt) for name, prompt in cases()}, Path(__file__).with_name("evolved_pia.safetensors"))
