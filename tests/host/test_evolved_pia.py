"""PIA in translated prompts, beside what AnimateDiff-Evolved gave for them, which ``record_evolved_pia.py`` recorded."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest
from pack.migration.migrate import migrate
from pack.migration.report import Word
from pack.nodes import apply, loaders, merging, pia, prompts, windows
from safetensors.torch import load_file

from .evolved_pia import Runner, cases, write_motion_models

RECORDED = load_file(Path(__file__).with_name("evolved_pia.safetensors"))


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> Runner:
    folder = tmp_path_factory.mktemp("models")
    write_motion_models(folder)
    with pytest.MonkeyPatch.context() as patch:
        folders, extensions = folder_paths.folder_names_and_paths["animatediff_models"]
        patch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([*folders, str(folder)], extensions))
        yield Runner({kind.GET_SCHEMA().node_id: kind for subject in (apply, loaders, merging, pia, prompts, windows) for kind in subject.NODES})


def difference(name, latents):
    return ((latents - RECORDED[name]).norm() / RECORDED[name].norm()).item()


@pytest.mark.parametrize(("name", "prompt"), cases(), ids=lambda value: value if isinstance(value, str) else "")
def test_it_is_what_was_recorded(runner, name, prompt):
    translated, report = migrate(prompt)
    assert report.word is Word.SAME, str(report)
    assert difference(name, runner.run(translated)) < 1e-4
