"""CameraCtrl: equal to its official code, each window's cameras its own frames' and relative to its first, whatever a call holds."""

from __future__ import annotations

import re

import pytest
import torch
from pack.animation.camera_path import CameraPath, Cameras
from pack.animation.camera_rays import plucker_rays
from pack.animation.camera_text import path_part_of_text
from pack.motion_models.camera_control import CameraControl
from pack.motion_models.camera_control_layout import CameraControlConfig
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput, MotionModelError
from pack.motion_models.inspect_file import inspect_file
from pack.nodes.camera import ApplyCameraControlNode, CameraKeyframesNode, CameraPathNode
from pack.nodes.host.files.camera_control_files import load_camera_control
from pack.nodes.host.files.loading import load_motion_model, temporal_attention
from pack.nodes.host.files.merged_models import merge_motion_models
from pack.nodes.host.motion.steered import MotionSettings
from pack.nodes.host.runs.applying import apply_motion_model
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.run_plan import describe_plan, plan_animation
from pack.nodes.host.training.training_run import check_has_no_camera
from pack.nodes.reuse_motion import ReuseMotionNode
from pack.nodes.windows import ContextWindowsNode
from safetensors.torch import load_file, save_file

from .test_official import OFFICIAL, make_motion_file, make_official_model, run_unet, seeds
from .test_saving import output, save  # noqa: F401 -- a fixture
from .world import BOTH, NEGATIVE, POSITIVE, SMALL_MOTION, SMALL_UNET, animate, cond, make_model, motion_file, sample

FRAMES = 12
SMALL = CameraControlConfig(block_channels=(32, 64), layers_per_block=1)
PROCESSOR = "temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.qkv_merge"


def file_weights(config: CameraControlConfig, make) -> dict[str, torch.Tensor]:
    """Weights of a CameraCtrl under the names of the pruned file, each from its name and shape."""

    def name(own: str) -> str:
        match = re.fullmatch(r"merges\.(down|up)\.(\d+)\.(\w+)", own)
        if match is None:
            return own
        layers = config.layers_per_block + (match[1] == "up")
        return f"{match[1]}_blocks.{int(match[2]) // layers}.motion_modules.{int(match[2]) % layers}.{PROCESSOR}.{match[3]}"

    network = CameraControl(config, operations=torch.nn, attention=temporal_attention(), device="meta")
    return {name(own): make(name(own), tuple(tensor.shape)) for own, tensor in network.state_dict().items()}


def seeded_weights(config: CameraControlConfig) -> dict[str, torch.Tensor]:
    return file_weights(config, lambda name, shape: seeds.seeded(name, shape, seeds.is_norm_weight(name)))


def in_two_tables(weights: dict[str, torch.Tensor], path) -> str:
    """Write a CameraCtrl as its authors do, with positions, a step and an optimizer's state."""
    encoder = {name: tensor for name, tensor in weights.items() if name.startswith("encoder")}
    positions = torch.arange(16)[:, None] * torch.exp(torch.arange(0, 32, 2) * (-torch.tensor(10000.0).log() / 32))
    table = torch.stack([positions.sin(), positions.cos()], dim=-1).flatten(1)[None]
    tables = {
        "epoch": 1, "global_step": 7, "optimizer_state_dict": {"state": {}, "param_groups": []},
        "pose_encoder_state_dict": {**encoder, "encoder_down_attention_blocks.0.0.attention_blocks.0.pos_encoder.pe": table},
        "attention_processor_state_dict": {name: tensor for name, tensor in weights.items() if name not in encoder},
    }  # fmt: skip
    torch.save(tables, path)
    return str(path)


@pytest.fixture(scope="module")
def camera_path(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("cameras") / "camera.safetensors"
    save_file(seeded_weights(SMALL), path)
    return str(path)


@pytest.fixture(scope="module")
def motion_path(tmp_path_factory) -> str:
    return motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALL_MOTION)


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


def moving(**inputs) -> CameraPath:
    return CameraPathNode.execute(**{"move": "truck right", "speed": 2.0, **inputs})[0]


def with_camera(motion_path: str, camera_path: str, path: CameraPath | None = None, **inputs):
    camera = load_camera_control(camera_path)
    return ApplyCameraControlNode.execute(load_motion_model(motion_path), camera, path or moving(), **inputs)[0]


# --- numbers ------------------------------------------------------------------------------------------------------------


@BOTH
def test_equals_the_official_unet_along_a_path(tmp_path, patchers):
    model = make_official_model()
    motion = load_motion_model(make_motion_file(tmp_path / "v3.safetensors", Family.V3))
    config = CameraControlConfig(seeds.BLOCK_CHANNELS)
    camera = load_camera_control(in_two_tables(seeded_weights(config), tmp_path / "camera.ckpt"))
    path = CameraKeyframesNode.execute(seeds.camera_text())[0]
    animated = apply_motion_model(model, ApplyCameraControlNode.execute(motion, camera, path)[0], MotionSettings())
    out = run_unet(animated)
    expected = load_file(OFFICIAL / "camera_control_outputs.safetensors")["camera_control"]
    assert (out - expected).abs().max() < 1e-5 * expected.abs().max()
    without = load_file(OFFICIAL / "unet_outputs.safetensors")["V3"]
    assert (without - expected).abs().max() > 0.05 * expected.abs().max()


def test_rays_equal_those_of_the_official_data_set():
    """In a picture that is wider than high, but less so than the videos: focal lengths are corrected for it."""
    cameras = CameraPath((path_part_of_text(seeds.camera_text()),)).over(seeds.FRAMES)
    expected = load_file(OFFICIAL / "camera_control_outputs.safetensors")["rays"]
    assert (plucker_rays(cameras, *seeds.CAMERA_PICTURE) - expected).abs().max() < 1e-5 * expected.abs().max()


# --- which cameras a call sees ------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch) -> list[torch.Tensor]:
    """Rays that are encoded."""
    calls, forward = [], CameraControl.forward

    def record(self, rays, views=None):
        calls.append(rays)
        windows = [window.frames for window in views.windows] if views else [tuple(range(len(rays)))]
        assert windows == [tuple(range(start, start + min(len(rays), 16))) for start in range(0, max(len(rays) - 8, 1), 8)]
        return forward(self, rays, views)

    monkeypatch.setattr(CameraControl, "forward", record)
    return calls


def rays_of(path: CameraPath, frames: range, total: int = FRAMES, size: int = 64) -> torch.Tensor:
    poses, lens = path.over(total)
    cameras = Cameras(poses[list(frames)], lens._replace(intrinsics=lens.intrinsics[list(frames)]))
    return plucker_rays(cameras, size, size)


def test_each_window_sees_its_frames_relative_to_its_first(model, motion_path, camera_path, seen):
    """Windows 0-5, 4-9 and 6-11, each encoded once a run, though there are two steps."""
    path = moving(easing="ease-in")
    sample(ContextWindowsNode.execute(animate(model, with_camera(motion_path, camera_path, path)), 6, 2)[0], FRAMES, 2, cfg=1.0)
    assert len(seen) == 3
    for rays, start in zip(seen, (0, 4, 6), strict=True):
        assert torch.allclose(rays, rays_of(path, range(start, start + 6)), atol=1e-6)
        assert rays[0, :3].abs().max() == 0.0
    assert (seen[0] - seen[1]).abs().max() > 0.1


def test_more_frames_than_the_encoder_has_positions_for(model, motion_path, camera_path, seen):
    """It sees them in windows of 16 that overlap by half, as ``seen`` checks."""
    sample(ContextWindowsNode.execute(animate(model, with_camera(motion_path, camera_path)), 32, 4)[0], 32, 1, cfg=1.0)
    assert [len(rays) for rays in seen] == [32]


def test_each_clip_goes_along_the_path(model, motion_path, camera_path, seen):
    animated = animate(model, with_camera(motion_path, camera_path))
    latent = {"samples": torch.zeros(8, 4, 8, 8)}
    settings = SamplerSettings(1, 1, 2.0, "euler", "normal")
    together = sample_clips(animated, POSITIVE, NEGATIVE, latent, 2, settings)["samples"]
    assert [len(rays) for rays in seen] == [4]
    for clip in range(2):
        alone = {"samples": latent["samples"][:4]}
        its_own = sample_clips(animated, POSITIVE, NEGATIVE, alone, 1, settings._replace(seed=1 + clip))["samples"]
        assert (together[4 * clip : 4 * clip + 4] - its_own).abs().max() < 1e-4 * its_own.abs().max()


def test_a_prompt_for_a_part_sees_that_part(model, motion_path, camera_path, seen):
    path = moving()
    animated = animate(model, with_camera(motion_path, camera_path, path))
    sample(animated, 2, 1, cfg=1.0, positive=[entry for x in (0, 4) for entry in cond(1, area=(8, 4, 0, x))])
    whole = rays_of(path, range(2), 2)
    assert all(any(torch.allclose(rays, part) for rays in seen) for part in whole.split(32, dim=-1))
    assert len(seen) == 2


# --- a run --------------------------------------------------------------------------------------------------------------


@BOTH
def test_the_path_counts(motion_path, camera_path, patchers):
    model = make_model(**SMALL_UNET)
    without = sample(animate(model, load_motion_model(motion_path)), 2, 1)
    assert (sample(animate(model, with_camera(motion_path, camera_path)), 2, 1) - without).abs().max() > 0.01
    assert torch.equal(sample(animate(model, load_motion_model(motion_path)), 2, 1), without)


def test_strength_and_range(model, motion_path, camera_path):
    without = sample(animate(model, load_motion_model(motion_path)), 2, 2, cfg=1.0)

    def out(**inputs):
        return sample(animate(model, with_camera(motion_path, camera_path, **inputs)), 2, 2, cfg=1.0)

    assert torch.equal(out(strength=0.0), without)
    assert torch.equal(out(start_percent=1.0), without)
    half = out(strength=0.5)
    assert not torch.equal(half, without)
    assert not torch.equal(half, out(strength=0.5, end_percent=0.4))
    mask = torch.full((2, 8, 8), 0.5)  # one value for each frame and pixel
    assert (out(strength_values=mask) - half).abs().max() < 1e-4 * half.abs().max()


def test_both_layouts_are_one(model, motion_path, camera_path, tmp_path):
    authors = in_two_tables(seeded_weights(SMALL), tmp_path / "camera.ckpt")
    one, other = (sample(animate(model, with_camera(motion_path, path)), 2, 1, cfg=1.0) for path in (camera_path, authors))
    assert torch.equal(one, other)


@pytest.mark.parametrize("family", [Family.V1, Family.V2], ids=lambda family: family.name)
def test_it_goes_with_other_families_and_odd_sizes(model, camera_path, tmp_path, family):
    """With norms over all frames, with a mid block, and where a level of the UNet is larger than the encoder's."""
    path = motion_file(tmp_path, family, **SMALL_MOTION)
    latent = torch.zeros(2, 4, 7, 9)
    paths = (moving(speed=speed) for speed in (0.0, 2.0))
    one, other = (sample(animate(model, with_camera(path, camera_path, each)), steps=1, cfg=1.0, latent=latent) for each in paths)
    assert torch.isfinite(other).all()
    assert (one - other).abs().max() > 1e-3


def test_motion_that_is_reused_is_that_of_the_same_camera(model, motion_path, camera_path):
    """Where the camera stops in mid-run, what was kept with it does not serve the steps without it."""
    def out(end_percent: float, interval: int):
        motion = with_camera(motion_path, camera_path, end_percent=end_percent)
        return sample(ReuseMotionNode.execute(animate(model, motion), interval, 1, 0.0, 1.0)[0], 2, 2, cfg=1.0)

    # Two steps, of which the camera is there for the first alone: what that one made is of no use to the second.
    assert torch.equal(out(0.4, 2), out(0.4, 1))
    assert not torch.equal(out(1.0, 2), out(1.0, 1))


def test_paths_are_drawn_of_any_length():
    """Of one frame and of thousands, of points that the camera passes or turns away from, and of frames that the picture lacks."""
    long = CameraPathNode.execute("pan left", 0.1, picture_frames=4096)[1]
    passing = CameraKeyframesNode.execute("dolly: 0: 0, 15: 6\npan: 0: 0, 15: 180")[1]
    still, turned = (CameraPathNode.execute(move, picture_frames=1, start_frame=20)[1] for move in ("still", "roll clockwise"))
    assert {picture.shape for picture in (long, passing, still, turned)} == {(1, 330, 640, 3)}
    assert torch.equal(still, turned)
    assert (passing - long).abs().max() > 0.5
    chained = CameraPathNode.execute("pan left", path=CameraPathNode.execute("pan right")[0])
    assert torch.equal(chained[1], CameraPathNode.execute("still")[1])


# --- with other things --------------------------------------------------------------------------------------------------


def test_files_of_the_motion_model_are_without_it(motion_path, camera_path, output, tmp_path):  # noqa: F811
    saved = load_file(save(with_camera(motion_path, camera_path), output, "AnimateDiff"))
    assert saved.keys() == load_file(motion_path).keys()
    other = load_motion_model(motion_file(tmp_path, Family.V3, seed=1, **SMALL_MOTION))
    merged = merge_motion_models(with_camera(motion_path, camera_path, strength=0.8, end_percent=0.5), other, 0.5)
    plan = plan_animation(animate(make_model(**SMALL_UNET), merged), {"samples": torch.zeros(4, 4, 8, 8)}, 20, 7.5)
    assert "CameraCtrl camera.safetensors: strength 0.8; from 0% to 50% of the sampling" in describe_plan(plan)
    assert plan.memory.motion_models > merged.model_size()


def test_the_inspector_knows_it(camera_path):
    text = inspect_file(load_file(camera_path), "CameraCtrl.ckpt").text
    assert text.startswith("CameraCtrl.ckpt: a CameraCtrl\n")
    assert "Belongs in models/animatediff_models; load it with Load CameraCtrl." in text


def test_it_is_not_trained(motion_path, camera_path):
    check_has_no_camera(load_motion_model(motion_path))
    with pytest.raises(IncompatibleMotionModel, match="has a camera path, which training clips do not"):
        check_has_no_camera(with_camera(motion_path, camera_path))


# --- what is wrong is said ----------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(model, motion_path, camera_path, tmp_path):
    camera = load_camera_control(camera_path)
    sdxl = load_motion_model(motion_file(tmp_path, Family.SDXL))
    with pytest.raises(IncompatibleMotionModel, match="CameraCtrl 'camera.safetensors' is for SD1.5, but motion model .* is for SDXL"):
        ApplyCameraControlNode.execute(sdxl, camera, moving())
    wide = load_motion_model(motion_file(tmp_path, Family.V3, seed=2))
    with pytest.raises(IncompatibleMotionModel, match=r"its levels are \(32, 64\) wide"):
        ApplyCameraControlNode.execute(wide, camera, moving())
    with pytest.raises(InvalidInput, match="path is 'path', but it must be of type LOOM_CAMERA_PATH"):
        ApplyCameraControlNode.execute(load_motion_model(motion_path), camera, "path")
    with pytest.raises(InvalidInput, match="start_percent 0.8 is after end_percent 0.2: the camera would never move"):
        with_camera(motion_path, camera_path, start_percent=0.8, end_percent=0.2)
    with pytest.raises(InvalidInput, match="truck right begins at frame 20 and ends at frame -1, but the clip has 8 frames"):
        sample(animate(model, with_camera(motion_path, camera_path, moving(start_frame=20))))
    late = CameraKeyframesNode.execute("pan: 1 / (t - 20)")[0]
    with pytest.raises(InvalidInput, match="The camera's path, for the clip's 24 frames: Line 1, character 6: .* for t = 20"):
        sample(animate(model, with_camera(motion_path, camera_path, late)), 24)
    with pytest.raises(InvalidInput, match="strength_values has values for 3 frames, but a clip has 8"):
        sample(animate(model, with_camera(motion_path, camera_path, strength_values=[1.0, 0.5, 0.5])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_conv_in.bias": torch.zeros(7)}, "it is no whole CameraCtrl: 'encoder_conv_in.bias' are"),
        ({"encoder_down_conv_blocks.1.0.in_conv.bias": torch.full((64,), float("nan"))}, "hold NaN or infinity"),
        ({"encoder_down_conv_blocks.0.5.block1.weight": torch.zeros(32, 32, 3, 3)}, "does not hold a whole CameraCtrl"),
    ],
)
def test_damaged_files_are_named(camera_path, tmp_path, change, message):
    path = tmp_path / "bad.safetensors"
    save_file(load_file(camera_path) | change, path)
    with pytest.raises(MotionModelError, match=f"'bad.safetensors': .*{message}"):
        load_camera_control(str(path))


def test_other_files_are_named(motion_path):
    with pytest.raises(MotionModelError, match=r"not a CameraCtrl: it is an AnimateDiff v3 motion model"):
        load_camera_control(motion_path)
