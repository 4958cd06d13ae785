"""Errors for users: one line, which any log can write, whatever they quote."""

from __future__ import annotations

import os

import pytest
from pack.animation.schedule import ScheduleError
from pack.motion_models.errors import InvalidInput, UnreadableFile, one_line
from pack.motion_models.training.errors import TrainingDataError

ODD_NAMES = {
    "Latin-1 bytes": (os.fsdecode(b"caf\xe9.safetensors"), r"caf\udce9.safetensors"),
    "half a pair": ("\ud800", r"\ud800"),
    "line break": ("a\nb\r\n", r"a\nb\r\n"),
    "bell": ("a\x07", r"a\x07"),
    "right to left": ("\u202egpj.exe", r"\u202egpj.exe"),
    "what is shown as it is": ("モーション 🦊 'é' 100%", "モーション 🦊 'é' 100%"),
}


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("kind", [ScheduleError, InvalidInput, UnreadableFile, TrainingDataError])
def test_any_log_can_write_an_error(name, kind):
    text, shown = ODD_NAMES[name]
    said = str(kind(f"'{text}' is damaged."))
    assert said == f"'{shown}' is damaged."
    said.encode("utf-8")
    assert one_line(said) == said


def test_the_dialog_shows_a_name_and_no_folder():
    """ComfyUI imports packs by their path, and shows module and class of an error."""
    assert f"{UnreadableFile.__module__}.{UnreadableFile.__qualname__}" == "animatediff_loom.UnreadableFile"
    assert TrainingDataError.__module__ == ScheduleError.__module__ == "animatediff_loom"
