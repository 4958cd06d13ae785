"""PIA and AnimateLCM-I2V in translated prompts, beside what AnimateDiff-Evolved gave for them.

``record_evolved_images.py`` recorded that.
"""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
from pack.migration.migrate import migrate
from pack.migration.report import Word
from pack.nodes import animatelcm_i2v, apply, loaders, merging, pia, prompts, windows
from safetensors.torch import load_file

from . import evolved_i2v, evolved_pia
from .evolved_pia import Runner

NODES = [kind for subject in (animatelcm_i2v, apply, loaders, merging, pia, prompts, windows) for kind in subject.NODES]
CASES = [
    pytest.param(module, name, prompt, id=name) for module in (evolved_pia, evolved_i2v) for name, prompt in module.cases()
]


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> Runner:
    folder = tmp_path_factory.mktemp("models")
    evolved_pia.write_motion_models(folder)
    evolved_i2v.write_motion_models(folder)
    with pytest.MonkeyPatch.context() as patch:
        folders, extensions = folder_paths.folder_names_and_paths["animatediff_models"]
        patch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([*folders, str(folder)], extensions))
        yield Runner({kind.GET_SCHEMA().node_id: kind for kind in NODES})


@pytest.mark.parametrize(("module", "name", "prompt"), CASES)
def test_it_is_what_was_recorded(runner, module, name, prompt):
    translated, report = migrate(prompt)
    assert report.word is Word.SAME, str(report)
    recorded = load_file(Path(module.__file__).with_suffix(".safetensors"))[name]
    assert (runner.run(translated) - recorded).norm() / recorded.norm() < 1e-4
