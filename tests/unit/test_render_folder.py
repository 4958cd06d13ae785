"""What a render keeps until it is finished: frames come back as they were, and other jobs don't go on with it."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from launcher.errors import LoomError
from launcher.render_folder import RenderFolder

JOB = {"sampling.seed": 1, "frames": 9}
COUNTS = [4, 2, 3]


def pictures(count: int, start: int = 0) -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    return [np.roll(noise, start + number, axis=1) for number in range(count)]


def finish(folder: RenderFolder, number: int, rate: Fraction = Fraction(8)) -> None:
    frames = pictures(COUNTS[number], sum(COUNTS[:number]))
    folder.finish(number, frames, {"latents": torch.full((2, 3), float(number))}, rate, quality=4)


@pytest.mark.parametrize("rate", [Fraction(8), Fraction(24000, 1001)])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_chunks_become_one_video_of_evenly_spaced_frames(tmp_path, ending, rate):
    folder = RenderFolder(tmp_path / "new" / f"out.{ending}")
    folder.claim(JOB)
    for number in range(3):
        finish(folder, number, rate)
    folder.join(rate, COUNTS)
    assert [path.name for path in folder.output.parent.iterdir()] == [f"out.{ending}"]
    with av.open(str(folder.output)) as container:
        frames = list(container.decode(video=0))
    assert [float(frame.time) for frame in frames] == pytest.approx([number / float(rate) for number in range(9)], abs=1e-3)
    found = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    if ending == "mkv":
        assert (found == np.stack(pictures(9))).all()
    else:
        means = [picture[:, :8].mean() for picture in pictures(9)]  # chroma is coarser than the pixels
        assert found[:, :, :8].mean((1, 2, 3)) == pytest.approx(means, abs=4)


def test_what_is_half_written_does_not_count(tmp_path):
    folder = RenderFolder(tmp_path / "out.mkv")
    folder.claim(JOB)
    finish(folder, 0)

    def broken():
        yield from pictures(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.finish(1, broken(), {"latents": torch.zeros(1)}, Fraction(8), quality=4)
    again = RenderFolder(tmp_path / "out.mkv")
    again.claim(JOB)
    assert again.finished() == 1
    assert again.carried(0)["latents"].tolist() == [[0.0] * 3] * 2
    finish(again, 1)
    assert again.finished() == 2
    assert again.carried(1)["latents"].unique().tolist() == [1.0]


def test_another_job_does_not_go_on_with_it(tmp_path):
    folder = RenderFolder(tmp_path / "out.mkv")
    folder.claim({**JOB, "sampling.seed": 3})
    folder.claim(JOB)  # nothing is lost yet
    finish(folder, 0)
    with pytest.raises(LoomError, match=r"another job has done so far: sampling.seed differ"):
        RenderFolder(tmp_path / "out.mkv").claim({**JOB, "sampling.seed": 2})


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out.mkv").write_bytes(b"somebody's film")
    with pytest.raises(LoomError, match="is there already"):
        RenderFolder(tmp_path / "out.mkv").claim(JOB)
    assert (tmp_path / "out.mkv").read_bytes() == b"somebody's film"
