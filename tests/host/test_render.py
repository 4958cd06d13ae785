"""``loom.py render``: chunks without seams, in the same frames whether or not it was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import comfy.sample
import numpy as np
import pytest
import torch
from launcher import render
from launcher.comfyui import find_comfyui, program_environment
from launcher.demo_models import demo_models
from launcher.errors import LoomError
from launcher.pack import RUN
from pack.animation.chunks import Chunk, plan_chunks
from pack.animation.noise_shuffle import FreeNoise
from pack.animation.shared_noise import SharedNoise
from pack.demo.render_claims import RenderClaims
from pack.demo.studio import Shot, Studio
from pack.nodes.host.runs.chunk_sampling import ChunkNoise, sample_chunk
from pack.nodes.host.runs.clip_sampling import SamplerSettings
from PIL import Image

from . import world

FRAMES, SIZE = 8, 32
COMFYUI = Path(os.environ.get("COMFYUI_PATH", "."))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a video."""
    folder = tmp_path_factory.mktemp("render")
    frames = [Image.new("RGB", (SIZE, SIZE), (10 * number, 90, 40)) for number in range(FRAMES)]
    frames[0].save(folder / "video.webp", save_all=True, append_images=frames[1:], lossless=True)
    return folder


@pytest.fixture(scope="module")
def write(folder):
    """Write a job; returns its file and the video that it makes."""
    models = demo_models(find_comfyui(str(COMFYUI)), Path(sys.executable))

    def write(name: str, sampling: str = "", video: str = 'file = "video.webp"') -> tuple[Path, Path]:
        (folder / f"{name}.toml").write_text(f"""
[model]
checkpoint = "{models.checkpoint.as_posix()}"
motion_model = "{models.motion_model.as_posix()}"
{f'[video]{chr(10)}{video}' if video else ''}
[sampling]
prompt = "a blue square moving down"
steps = 2
cfg = 1.0
sampler = "euler_ancestral"
{sampling}
[chunks]
chunk = 4
overlap = 2
context_length = 4
[output]
file = "{name}.mkv"
width = {SIZE}
height = {SIZE}
{'' if video else f'frames = {FRAMES}'}
""")
        return folder / f"{name}.toml", folder / f"{name}.mkv"

    return write


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_after_kill_9_it_goes_on_and_gives_the_same_frames(write, capsys):
    job, killed = write("killed")
    command = [sys.executable, str(RUN), "launcher.render", str(job)]
    environment = {**program_environment(COMFYUI), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("chunk 1/3"):
                process.send_signal(signal.SIGKILL)
    assert "Rendering starts of 3: 8 frames" in said
    assert "chunk 1/3" in said
    assert not killed.exists()

    render.render(job)
    assert "goes on with chunk" in capsys.readouterr().out
    job, whole = write("whole")
    render.render(job)
    assert len(frames_of(whole)) == FRAMES
    assert (frames_of(killed) == frames_of(whole)).all()
    assert sorted(path.name for path in whole.parent.glob("*.parts")) == []


def test_from_text_alone_with_prompts_over_time(write):
    job, made = write("text", "", video="")
    text = job.read_text().replace('prompt = "a blue square moving down"', 'prompt_schedule = "0: a blue square\\n7: a red circle"')
    job.write_text(text)
    render.render(job)
    assert frames_of(made).shape == (FRAMES, SIZE, SIZE, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({'sampler = "euler_ancestral"': 'sampler = "best"'}, "sampling.sampler is 'best'. Expected one of: euler, "),
        ({'sampler = "euler_ancestral"': 'sampler = "dpm_adaptive"'}, "'dpm_adaptive', which takes other steps for each chunk"),
        ({'"video.webp"': '"none.mp4"'}, "video.file: there is no file"),
        ({'"video.webp"': '"bad.toml"'}, "video.file: '.*' (cannot be read as a|holds no) video"),
        ({'"video.webp"': '"video.webp"\nfirst_frame = 99'}, "has no frame 99"),
        ({"motion_model =": 'motion_model = "video.webp"\n#'}, "video.webp"),
        ({"checkpoint =": 'checkpoint = "bad.toml"\n#'}, "bad.toml"),
    ],
)
def test_a_job_that_can_not_be_done_gets_one_sentence(write, changes, message):
    job, made = write("bad")
    text = job.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    job.write_text(text)
    with pytest.raises(LoomError, match=message) as caught:
        render.render(job)
    assert "\n" not in str(caught.value)
    assert not made.exists()


# --- one chunk after the other ---------------------------------------------------------------------------------------


def test_noise_belongs_to_the_frame_and_not_to_the_chunk():
    noise = ChunkNoise.of(5, 40, FreeNoise(8, 2), SharedNoise())
    early, late = Chunk(0, 20), Chunk(12, 32)
    assert torch.equal(noise.draw(early, (4, 8, 8))[12:], noise.draw(late, (4, 8, 8))[:8])
    assert noise.seeds(early, "steps")[12:] == noise.seeds(late, "steps")[:8]
    assert len({*noise.seeds(early, "steps"), *noise.seeds(early, "start")}) == 40
    other = ChunkNoise.of(6, 40, FreeNoise(8, 2), SharedNoise())
    assert not torch.allclose(noise.draw(early, (4, 8, 8))[1:], other.draw(early, (4, 8, 8))[:-1], atol=0.1)


def test_a_clip_of_one_chunk_is_sampled_as_ever():
    model = world.make_model(**world.SMALLEST_UNET)
    noise, chunk = ChunkNoise.of(5, 6), Chunk(0, 6)
    settings = SamplerSettings(0, 3, 2.0, "dpmpp_2m", "normal")
    sampled, _ = sample_chunk(model, world.POSITIVE, world.NEGATIVE, torch.zeros(6, 4, 8, 8), chunk, noise, settings)
    expected = comfy.sample.sample(
        model, noise.draw(chunk, (4, 8, 8)), 3, 2.0, "dpmpp_2m", "normal", world.POSITIVE, world.NEGATIVE, torch.zeros(6, 4, 8, 8),
        disable_pbar=True, seed=0,
    )  # fmt: skip
    assert torch.equal(sampled, expected)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m_sde", "euler_ancestral"])
def test_frames_of_the_overlap_go_the_way_they_went_before(sampler):
    """Without a motion model frames know nothing of one another: then the chunks agree, and so do they with the whole clip."""
    model = world.make_model(**world.SMALLEST_UNET)
    noise, settings = ChunkNoise.of(5, 10), SamplerSettings(0, 3, 2.0, sampler, "normal")

    def sample(chunk, carried=None):
        return sample_chunk(model, world.POSITIVE, world.NEGATIVE, torch.zeros(chunk.frames, 4, 8, 8), chunk, noise, settings, carried)

    whole, _ = sample(Chunk(0, 10))
    first, second = plan_chunks(10, 6, 2)
    early, carried = sample(first)
    late, _ = sample(second, carried)
    assert (torch.cat([early[: first.finished], late]) - whole).abs().max() < 1e-4 * whole.abs().max()
    moved = carried._replace(denoised=carried.denoised + 1)
    pulled, _ = sample(second, moved)
    assert ((pulled - late).flatten(1).abs().mean(1)[:2] > 0.01).all()
    assert torch.equal(pulled[2:], late[2:])


def test_seams_are_measured_on_the_demo_world():
    models = demo_models(find_comfyui(str(COMFYUI)), Path(sys.executable)).checkpoint.parents[1]
    claims = RenderClaims(Studio(models), 6, 4, 2, Shot(steps=1, denoise=0.6))
    made = claims.render("red", "circle", 1)
    assert list(made) == ["one run", "chunks", "chunks by themselves"]
    assert all(claims.measure(frames).edges == (2, 3, 4) for frames in made.values())
    assert torch.equal(made["chunks"][:2], made["chunks by themselves"][:2])
    assert not torch.equal(made["chunks"][2:4], made["chunks by themselves"][2:4])


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.7, "1 min 00 s"), (754, "12 min 34 s"), (7265, "2 h 01 min")])
def test_time_left_is_said_in_words(seconds, words):
    assert render.time_in_words(seconds) == words
