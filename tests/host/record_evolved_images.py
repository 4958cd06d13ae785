"""Records what AnimateDiff-Evolved gives for ``evolved_pia.py`` and ``evolved_i2v.py``, for tests/host/test_evolved_images.py.

Run aside, as ``record_evolved_families.py`` says:

    EVOLVED=FOLDER COMFYUI_PATH=... python -m pytest tests/host/record_evolved_images.py
"""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
from safetensors.torch import save_file

from . import evolved_i2v, evolved_pia
from .evolved_pia import Runner
from .record_evolved_families import evolved_nodes


@pytest.mark.parametrize("module", [evolved_pia, evolved_i2v])
def test_record(tmp_path, module):
    classes = evolved_nodes()
    folder_paths.folder_names_and_paths["animatediff_models"][0].append(str(tmp_path))
    module.write_motion_models(tmp_path)
    runner = Runner(classes)
    save_file({name: runner.run(prompt) for name, prompt in module.cases()}, Path(module.__file__).with_suffix(".safetensors"))
