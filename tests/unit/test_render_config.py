"""The file that tells ``loom.py render`` what to do: what it may say, and what is wrong with it."""

from __future__ import annotations

import re

import pytest
from launcher.errors import LoomError
from launcher.pack import PACK_ROOT
from launcher.render_config import RenderJob, read_job

LEAST = """
[model]
checkpoint = "models/base.safetensors"
motion_model = "motion.safetensors"
[video]
file = "dance.mp4"
[sampling]
[output]
file = "out.mp4"
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> RenderJob:
        (tmp_path / "job.toml").write_text(text, encoding="utf-8")
        return read_job(tmp_path / "job.toml")

    return read


def test_paths_are_relative_to_the_file(read, tmp_path):
    job = read(LEAST)
    assert job.files() == {
        "model.checkpoint": tmp_path / "models" / "base.safetensors", "model.motion_model": tmp_path / "motion.safetensors",
        "video.file": tmp_path / "dance.mp4",
    }  # fmt: skip
    assert job.output.file == tmp_path / "out.mp4"


def test_without_a_video_all_is_denoised(read):
    assert read(LEAST).denoise == 0.5
    assert read(LEAST.replace('[video]\nfile = "dance.mp4"\n', "") + "frames = 100\n").denoise == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model\n", "is no valid TOML"),
        ("", "model.checkpoint is missing. Expected an SD1.5 or SDXL checkpoint file"),
        (LEAST.replace('motion_model = "motion.safetensors"', ""), "model.motion_model is missing. Expected a motion model's file"),
        (LEAST.replace('file = "dance.mp4"', ""), "video.file is missing. Expected a video's file"),
        (LEAST.replace('file = "out.mp4"', ""), "output.file is missing. Expected the file to make, NAME.mp4 or NAME.mkv"),
        (LEAST + "size = 64\n", "'output.size' is unknown. Known are: file, width, height"),
        (LEAST + "width = 100\n", "output.width is 100. Expected a multiple of 8"),
        (LEAST + "width = 1\n", "output.width is 1. Expected 16 to 8192"),
        (LEAST + "quality = 52\n", "output.quality is 52. Expected 0 to 51"),
        (LEAST + "frame_rate = 'fast'\n", "output.frame_rate is 'fast'. Expected a number"),
        (LEAST + "frame_rate = nan\n", "output.frame_rate is nan. Expected 0.1 to 1000"),
        (LEAST.replace("out.mp4", "out.gif"), r"output.file is 'out.gif'. Expected a name that ends in .mp4 \(H.264\) or .mkv"),
        (LEAST + "[chunks]\nchunk = 16\noverlap = 9\n", "chunks.overlap is 9. Expected at most half of chunks.chunk, 8"),
        (LEAST + "[chunks]\ncontext_length = 8\ncontext_overlap = 8\n", "chunks.context_overlap is 8. Expected less than context_length, 8"),
        (LEAST.replace("[sampling]", "[sampling]\ndenoise = 0"), "sampling.denoise is 0.* Expected 0.01 to 1"),
        (LEAST.replace("[sampling]", "[sampling]\nprompt = 'a'\nprompt_schedule = '0: a'"), "Give one of them"),
        (LEAST.replace('[video]\nfile = "dance.mp4"\n', ""), "output.frames is missing. Expected how many frames to make"),
        (LEAST.replace("[video]", "loras = [3]\n[video]"), r"model.loras\[0\].file is 3. Expected a path in quotes"),
    ],
)
def test_what_is_wrong_is_named(read, tmp_path, text, message):
    with pytest.raises(LoomError, match=message) as caught:
        read(text)
    assert str(tmp_path / "job.toml") in str(caught.value)


def test_the_documented_file_is_read_and_shows_the_defaults(read):
    page = (PACK_ROOT / "docs" / "rendering.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.+?)```", page, re.DOTALL)
    job, least = read(text), read(LEAST)
    differing = {
        "model": {"checkpoint", "vae", "loras", "motion_model"}, "video": {"file"},
        "sampling": {"prompt", "negative", "denoise"}, "chunks": {"context_length", "context_overlap"},
        "output": {"file", "frames", "frame_rate"},
    }  # fmt: skip
    for section, names in differing.items():
        shown, defaults = (dict(vars(getattr(each, section))) for each in (job, least))
        assert {name for name in shown if shown[name] != defaults[name]} <= names
        for name in shown:
            assert re.search(rf"^(# )?{name} = ", text, re.MULTILINE), f"{section}.{name}"
