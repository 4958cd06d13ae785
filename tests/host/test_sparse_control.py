"""SparseCtrl: equal to AnimateDiff's official code, and its images at the right frames whatever part of a clip a call holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import comfy.controlnet
import comfy.model_management
import comfy.sd
import comfy.supported_models
import nodes
import pytest
import torch
from pack.demo.models import new_vae
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput, MotionModelError
from pack.motion_models.inspect_file import inspect_file
from pack.motion_models.sparse_control_layout import SparseControlConfig, split_sparse_control
from pack.nodes.host.files.sparse_control_files import PLAIN, load_sparse_control
from pack.nodes.host.motion.fitted_images import fit
from pack.nodes.host.motion.injection import set_hooks
from pack.nodes.host.motion.sparse_control import placement_of
from pack.nodes.host.motion.sparse_network import SparseControlNetwork, spatial_names
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.run_plan import describe_plan, plan_animation
from pack.nodes.sparsectrl import SparseControlFramesNode
from pack.nodes.windows import ContextWindowsNode, ViewWindowsNode
from safetensors.torch import load_file, save_file

from .world import BOTH, CONTEXT, SDXL_SHAPE, SMALLEST_UNET, cond, make_model, sample

TESTS = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("seeded", TESTS / "official" / "seeded.py")
seeds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seeds)

KINDS = pytest.mark.parametrize("kind", seeds.SPARSE)
FRAMES, LENGTH, SIZE = 12, 6, 8
SCALE = 0.18215


# --- files --------------------------------------------------------------------------------------------------------------


def tiny_config(kind: str) -> SparseControlConfig:
    return SparseControlConfig(kind == "rgb", seeds.BLOCK_CHANNELS, CONTEXT)


def shapes_of(config: SparseControlConfig) -> dict[str, torch.Size]:
    """Names in a file, and shapes."""
    network = SparseControlNetwork(config, operations=PLAIN, attention=None, device="meta")
    theirs = {ours: name for name, ours in spatial_names(config).items()}
    return {theirs.get(name, name): tensor.shape for name, tensor in network.state_dict().items()}


def file_tensors(config: SparseControlConfig) -> dict[str, torch.Tensor]:
    shapes = shapes_of(config)
    return {name: seeds.seeded(name, tuple(shape), seeds.is_norm_weight(name)) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controlnet")
    configs = {kind: tiny_config(kind) for kind in seeds.SPARSE}
    configs |= {name: SparseControlConfig(name == "small rgb", (32, 64), CONTEXT) for name in ("small", "small rgb")}
    for kind, config in configs.items():
        save_file(file_tensors(config), folder / f"{kind}.safetensors")
    return {kind: str(folder / f"{kind}.safetensors") for kind in configs}


def released(kind: str) -> dict[str, torch.Tensor]:
    """Names and shapes that the official code gives at full size."""
    lines = (TESTS / "data" / f"v3_sd15_sparsectrl_{kind}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#"))
    return {name: torch.empty(tuple(map(int, shape.split("x"))), device="meta") for name, shape in pairs}


@KINDS
@pytest.mark.parametrize("wrap", ["{}", "controlnet.{}", "module.{}"])
def test_released_files_are_recognised_to_the_last_key(kind, wrap):
    tensors = {wrap.format(name): tensor for name, tensor in released(kind).items()}
    assert inspect_file(tensors, "file.ckpt").sentence == (
        f"it is a SparseCtrl for {'RGB images' if kind == 'rgb' else 'scribbles'}, which belongs in models/controlnet; "
        "load it with Load SparseCtrl."
    )
    config, spatial, temporal = split_sparse_control(tensors)
    assert config == SparseControlConfig(kind == "rgb")
    assert {name: tensor.shape for name, tensor in (spatial | temporal).items()} == shapes_of(config)


def test_the_layout_of_diffusers_is_read_too(files, tmp_path):
    names = {".temporal_transformer.": ".", ".attention_blocks.0.": ".attn1.", ".norms.0.": ".norm1.", ".ff_norm.": ".norm3."}
    tensors = {}
    for name, tensor in load_file(files["rgb"]).items():
        if "motion_modules" in name:
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
        tensors[name] = tensor
    save_file(tensors, tmp_path / "diffusers.safetensors")
    there, here = (load_sparse_control(path).control_model.state_dict() for path in (tmp_path / "diffusers.safetensors", files["rgb"]))
    assert all(torch.equal(there[name], tensor) for name, tensor in here.items())


BAD_FILES = {
    "missing": lambda t: t.pop("controlnet_mid_block.weight"),
    "spare": lambda t: t.update({"controlnet_down_blocks.40.weight": torch.zeros(3)}),
    "misshapen": lambda t: t.update({"time_embedding.linear_1.weight": torch.zeros(3, 3)}),
    "one level": lambda t: [t.pop(name) for name in list(t) if name.startswith("down_blocks.1.")],
    "no mid block": lambda t: [t.pop(name) for name in list(t) if name.startswith("mid_block.")],
    "odd widths": lambda t: t.update({"down_blocks.1.resnets.0.conv2.bias": torch.zeros(48)}),
    "NaN": lambda t: t["conv_in.bias"].fill_(torch.nan),
}


@pytest.mark.parametrize("damage", BAD_FILES)
def test_damaged_files_are_named(damage, files, tmp_path):
    tensors = load_file(files["scribble"])
    BAD_FILES[damage](tensors)
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(MotionModelError, match=r"^'bad.safetensors': ") as error:
        load_sparse_control(tmp_path / "bad.safetensors")
    assert "\n" not in str(error.value)


def test_other_files_are_refused(files, tmp_path):
    tensors = {name: tensor for name, tensor in load_file(files["scribble"]).items() if "motion_modules" not in name}
    save_file(tensors, tmp_path / "canny.safetensors")
    with pytest.raises(MotionModelError, match=r"not a SparseCtrl: it is a ControlNet, .* load it with Load ControlNet Model"):
        load_sparse_control(tmp_path / "canny.safetensors")


# --- numbers ------------------------------------------------------------------------------------------------------------


def official(kind: str) -> list[torch.Tensor]:
    found = load_file(TESTS / "official" / "sparse_control_outputs.safetensors")
    return [found[f"{kind}.{i}"] for i in range(13)]


@BOTH
@KINDS
def test_equals_the_official_network(kind, files, patchers):
    control = load_sparse_control(files[kind])
    comfy.model_management.load_models_gpu(control.get_models())
    _, images, mask, context, timestep = seeds.sparse_inputs(kind)
    frames = seeds.SPARSE_FRAMES
    hint = torch.cat([images, mask], dim=2)[0]
    out = control.control_model(hint, timestep.expand(frames).float(), context.expand(frames, -1, -1), frames)
    for found, wanted in zip((*out["output"], *out["middle"]), official(kind), strict=True):
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


class LatentsAre:
    """A VAE whose latents of the images are given, each ``(4, h, w)`` or one value for all pixels."""

    def __init__(self, *latents: torch.Tensor):
        self.latents, self.seen = torch.stack(latents), []

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError  # it tells a VAE from other inputs

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(pixels)
        height, width = (size // 8 for size in pixels.shape[1:3])
        return self.latents.expand(-1, -1, height, width)


def apply(control, images, vae=None, strength=1.0, start=0.0, end=1.0, positive=None, negative=None):
    """As core's node does."""
    inputs = (positive or cond(1), negative or cond(2), control, images, strength, start, end)
    conds = nodes.ControlNetApplyAdvanced().apply_controlnet(*inputs, vae=vae)
    return dict(zip(("positive", "negative"), conds, strict=True))


def test_a_run_gives_the_network_what_the_official_script_does(files):
    """Images by way of Apply ControlNet, at frames counted from either end, for two conds in one batch."""
    model, frames = make_model(), seeds.SPARSE_FRAMES
    control = load_sparse_control(files["rgb"]).placed(placement_of("at frames", "1, -1"))
    latents, images, _, context, _ = seeds.sparse_inputs("rgb")
    vae = LatentsAre(*(images[0, list(seeds.SPARSE_PLACES)] / SCALE))
    control = apply(control, torch.zeros(2, 64, 64, 3), vae)["positive"][0][1]["control"]
    sampling = model.get_model_object("model_sampling")
    comfy.model_management.load_models_gpu([model, *control.get_models()])
    model.pre_run()
    control.pre_run(model.model, sampling.percent_to_sigma)
    x, t = latents[0].repeat(2, 1, 1, 1), sampling.sigmas[seeds.TIMESTEP].expand(2 * frames)
    out = control.get_control(x, t, {"c_crossattn": context.expand(2 * frames, -1, -1)}, 2, {"cond_or_uncond": [0, 1]})
    for found, wanted in zip((*out["output"], *out["middle"]), official("rgb"), strict=True):
        assert (found - wanted.repeat(2, 1, 1, 1)).abs().max() < 1e-5 * wanted.abs().max()


# --- which frames a call sees -------------------------------------------------------------------------------------------


class Recorder(torch.nn.Module):
    """In the place of the network: adds the hints to the middle of the UNet and remembers them."""

    dtype = torch.float32

    def __init__(self, config: SparseControlConfig):
        super().__init__()
        self.config, self.hints, self.frames, self.views = config, [], [], []

    def forward(self, hint, timesteps, context, num_frames, views):
        self.hints.append(hint)
        self.frames.append(num_frames)
        self.views.append(views)
        return {"output": [], "middle": [hint.mean((1, 2, 3)).view(-1, 1, 1, 1).clone()]}

    @property
    def images(self) -> list[list[int]]:
        """For each call the number of each frame's image, 0 for none; its mask must say the same."""
        for hint in self.hints:
            assert torch.equal(hint[:, -1] > 0, hint[:, 0] > 0)
        return [hint[:, 0].amax((1, 2)).round().int().tolist() for hint in self.hints]


CONFIG = SparseControlConfig(True, (32,), CONTEXT, layers_per_block=1)


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


@pytest.fixture
def recorder():
    return Recorder(CONFIG)


@pytest.fixture
def placed(files, recorder):
    """Make a SparseCtrl that places images numbered from 1, and records what it sees."""
    control = load_sparse_control(files["rgb"])
    control.control_model = recorder

    def place(images: int, placing="spread evenly", frames="0", unguided="nearest image", **options) -> dict:
        vae = LatentsAre(*(torch.full((4, 1, 1), (number + 1) / SCALE) for number in range(images)))
        one = SparseControlFramesNode.execute(control, placing, frames, unguided)[0]
        return apply(one, torch.zeros(images, 64, 64, 3), vae, **options)

    return place


def on(frames=FRAMES, **images) -> list[int]:
    return [images.get(f"f{frame}", 0) for frame in range(frames)]


@pytest.mark.parametrize(
    ("images", "placing", "frames", "expected"),
    [
        (1, "spread evenly", "", on(f0=1)),
        (3, "spread evenly", "", on(f0=1, f5=2, f11=3)),
        (2, "at frames", "8, 2", on(f8=1, f2=2)),
        (1, "at frames", "0 -1", on(f0=1, f11=1)),
        (2, "first and last frame", "", on(f0=1, f11=2)),
        (1, "first and last frame", "", on(f0=1, f11=1)),
    ],
)
def test_images_lie_at_their_frames_in_both_conds(model, placed, recorder, images, placing, frames, expected):
    sample(model, FRAMES, 1, **placed(images, placing, frames))
    assert recorder.images == [expected * 2]
    assert recorder.frames == [FRAMES]


def windowed(model, length=LENGTH, overlap=2, **options):
    return ContextWindowsNode.execute(model, length, overlap, **options)[0]


def test_frames_are_counted_in_the_clip_not_in_the_window(model, placed, recorder):
    """Of windows 0-5, 4-9 and 6-11, the images of frames 5 and 8 are in two each, at other places of them."""
    sample(windowed(model), FRAMES, 1, cfg=1.0, **placed(2, "at frames", "5, 8"))
    assert recorder.images == [on(6, f5=1), on(6, f1=1, f4=2), on(6, f2=2)]


@pytest.mark.parametrize(
    ("images", "frames", "unguided", "expected"),
    [
        (1, "0", "nearest image", [on(6, f0=1), on(6, f0=1), on(6, f0=1)]),
        (1, "0", "no image", [on(6, f0=1), on(6), on(6)]),
        (2, "3, 10", "nearest image", [on(6, f3=1), on(6, f0=1, f5=2), on(6, f4=2)]),  # 4-9 lies just between
        (2, "0, -1", "nearest image", [on(6, f0=1), on(6, f5=2), on(6, f5=2)]),
    ],
)
def test_a_window_without_an_image_gets_the_nearest_or_none(model, placed, recorder, images, frames, unguided, expected):
    sample(windowed(model), FRAMES, 1, cfg=1.0, **placed(images, "at frames", frames, unguided))
    assert recorder.images == expected


def test_windows_that_go_round_a_loop(model, placed, recorder):
    """Where frame 1 comes after the clip's last ones, the image lies there, too."""
    looped = windowed(model, context_schedule="looped_uniform", closed_loop=True)
    sample(looped, FRAMES, 1, cfg=1.0, **placed(1, "at frames", "1", "no image"))
    assert sorted(image.index(1) if any(image) else -1 for image in recorder.images) == [-1, 1, 5]


def test_each_clip_of_a_batch_has_the_images(model, placed, recorder):
    latent = {"samples": torch.zeros(2 * FRAMES, 4, SIZE, SIZE)}
    conds = placed(2, "first and last frame")
    sample_clips(model, conds["positive"], conds["negative"], latent, 2, SamplerSettings(1, 1, 2.0, "euler", "normal"))
    assert recorder.images == [on(f0=1, f11=2) * 4]
    assert recorder.frames == [FRAMES]
    recorder.hints.clear()
    cut = windowed(model)
    sample_clips(cut, conds["positive"], conds["negative"], latent, 2, SamplerSettings(1, 1, 1.0, "euler", "normal"))
    assert recorder.images == [on(6, f0=1), on(6, f5=2), on(6, f5=2)] * 2


def test_views_are_those_of_the_motion_modules(model, placed, recorder):
    sample(ViewWindowsNode.execute(model, LENGTH, 2)[0], FRAMES, 1, cfg=1.0, **placed(1))
    (views,) = recorder.views
    assert [len(window.frames) for window in views.windows] == [LENGTH] * 3


def test_a_prompt_for_a_part_sees_that_part_of_the_image(model, files):
    """Left and right half of the picture in one batch, of a drawing that is white on the left."""
    control = load_sparse_control(files["scribble"])
    recorder = control.control_model = Recorder(SparseControlConfig(False, (32,), CONTEXT, layers_per_block=1))
    image = torch.zeros(1, 64, 64, 3)
    image[:, :, :32] = 1.0
    halves = [entry for x in (0, 4) for entry in cond(1, area=(8, 4, 0, x))]
    animated = model.clone()
    set_hooks(animated)
    sample(animated, 2, 1, cfg=1.0, **apply(control, image, positive=halves))
    found = sorted(tuple(hint[:, 0].amax((1, 2)).tolist()) for call in recorder.hints for hint in call.split(2))
    assert all(hint.shape[-2:] == (64, 32) for hint in recorder.hints)
    assert found == [(0.0, 0.0), (1.0, 0.0)]


def test_images_are_fitted_as_the_official_script_does(model, files):
    control = load_sparse_control(files["rgb"])
    control.control_model = Recorder(CONFIG)
    ramp = torch.linspace(0, 1, 128)
    image = torch.zeros(1, 128, 512, 3)
    image[:, :, 192:320] = ramp[None, None, :, None]  # the middle, which is kept
    vae = LatentsAre(torch.ones(4, 1, 1))
    sample(model, 2, 2, **apply(control, image, vae))
    (pixels,) = vae.seen  # encoded once a run
    assert pixels.shape == (1, 64, 64, 3)
    assert torch.allclose(pixels[0, 0, 1:-1, 0], ramp.view(64, 2).mean(1)[1:-1], atol=5e-3)


# --- in a run -----------------------------------------------------------------------------------------------------------


def scribbled(control, **options):
    drawing = torch.zeros(1, 64, 64, 3)
    drawing[:, 20:40, 20:40] = 1.0
    return apply(control, drawing, **options)


TWO_LEVELS = {
    "channel_mult": [1, 2], "num_res_blocks": [2, 2], "transformer_depth": [1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 0, 0, 0],
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    with torch.inference_mode():
        return make_model(**TWO_LEVELS)


@BOTH
def test_strength_and_range_are_cores(files, patchers):
    small, control = make_model(**TWO_LEVELS), load_sparse_control(files["small"])
    plain = sample(small, 3)
    assert torch.equal(sample(small, 3, **scribbled(control, start=0.0, end=0.0)), plain)
    assert torch.equal(sample(small, 3, **scribbled(control, strength=0.0)), plain)
    full, half = (sample(small, 3, **scribbled(control, strength=strength)) for strength in (0.002, 0.001))
    assert (full - plain).abs().max() > 1e-3
    assert 0.4 < (half - plain).norm() / (full - plain).norm() < 0.6
    assert torch.equal(sample(small, 3, **scribbled(control, strength=0.002)), full)


def test_an_interrupt_leaves_nothing(small, files, monkeypatch):
    conds = scribbled(load_sparse_control(files["small"]), strength=0.1)
    before = sample(small, 3, **conds)
    calls = iter(range(100))

    def interrupt():
        if next(calls) == 1:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(small, 3, **conds)
    monkeypatch.undo()
    assert torch.equal(sample(small, 3, **conds), before)


@BOTH
def test_a_vae_encodes_in_mid_run(files, patchers):
    """ComfyUI's own, which it loads, when the models of the run are loaded already, which must stay so."""
    model, control, vae = make_model(**TWO_LEVELS), load_sparse_control(files["small rgb"]), comfy.sd.VAE(sd=new_vae(0).state_dict())
    images = torch.rand(2, 32, 64, 3)
    conds = apply(control, images, vae, strength=0.05)
    out = sample(model, 3, **conds)
    assert out.isfinite().all()
    assert torch.equal(sample(model, 3, **conds), out)
    latents = vae.encode(fit(images.movedim(-1, 1), 64, 64).movedim(1, -1))
    assert torch.allclose(sample(model, 3, **apply(control, images, LatentsAre(*latents), strength=0.05)), out, atol=1e-5)


def test_it_chains_with_other_controlnets(small, files):
    one, other = load_sparse_control(files["small"]), load_sparse_control(files["small"])
    first = scribbled(one, strength=0.02)
    both = apply(other, torch.rand(1, 64, 64, 3), strength=0.02, **first)
    assert both["positive"][0][1]["control"].previous_controlnet is first["positive"][0][1]["control"]
    alone, together = sample(small, 3, **first), sample(small, 3, **both)
    assert (together - alone).abs().max() > 1e-3
    assert torch.equal(sample(small, 3, **first), alone)


# --- what is wrong is said ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placing", "frames", "images", "error"),
    [
        ("at frames", "", 1, "frames holds no frame. Expected whole numbers"),
        ("at frames", "0, x", 1, "frames holds 'x'"),
        ("at frames", "0, 1.5", 1, "frames holds '1.5'"),
        ("at frames", "3, 3", 2, "frames holds 3 twice"),
        ("at frames", "0, 4", 3, "There are 3 images for 2 frames: 0, 4."),
        ("at frames", "0, 12", 2, "placed at frame 12, but the clip has 12 frames, 0 to 11"),
        ("at frames", "0, -12", 2, "Two images are placed at frame 0 of a clip of 12 frames"),
        ("first and last frame", "", 3, "There are 3 images for the first and the last frame"),
        ("spread evenly", "", 13, "Two images are placed at frame"),
    ],
)
def test_what_cannot_be_placed_is_said(model, placed, placing, frames, images, error):
    with pytest.raises(InvalidInput, match=error):
        sample(model, FRAMES, 1, **placed(images, placing, frames))


def test_validation_says_it_before_a_run():
    assert SparseControlFramesNode.validate_inputs(placement="spread evenly", frames="nonsense") is True
    assert "frames holds 'x'" in SparseControlFramesNode.validate_inputs(placement="at frames", frames="x")


def test_other_controlnets_place_no_images():
    with pytest.raises(InvalidInput, match=r"takes an image for every frame. Connect Load SparseCtrl"):
        SparseControlFramesNode.execute(comfy.controlnet.ControlNet(), "spread evenly", "0", "no image")


def test_a_vae_is_asked_for_and_must_fit(model, files):
    control = load_sparse_control(files["rgb"])
    with pytest.raises(InvalidInput, match="needs a VAE. Connect the checkpoint's to vae of Apply ControlNet"):
        apply(control, torch.zeros(1, 64, 64, 3))
    control.control_model = Recorder(CONFIG)
    with pytest.raises(InvalidInput, match="Connect the VAE of an SD1.5 checkpoint"):
        sample(model, 2, 1, **apply(control, torch.zeros(1, 64, 64, 3), LatentsAre(torch.ones(16, 1, 1))))


def test_other_bases_are_refused(model, files):
    control = load_sparse_control(files["scribble"])
    sdxl = make_model(kind=comfy.supported_models.SDXL, **SDXL_SHAPE)
    with pytest.raises(IncompatibleMotionModel, match="is for SD1.5, but the model is SDXL. Load an SD1.5 checkpoint"):
        sample(sdxl, 3, **scribbled(control))
    with pytest.raises(IncompatibleMotionModel, match=r"does not fit the model's UNet: its blocks are \(32, 32, 64,"):
        sample(model, 3, **scribbled(control))


def test_more_frames_than_it_has_positions_for_need_windows(model, placed):
    with pytest.raises(InvalidInput, match=r"has positions for 32 frames, but here it sees 33 at a time. Add Context Windows"):
        sample(model, 33, 1, **placed(1))
    sample(windowed(model, 16, 4), 33, 1, **placed(1))


# --- what is said of it -------------------------------------------------------------------------------------------------


def test_a_plan_says_where_the_images_are(model, placed):
    latent = {"samples": torch.zeros(FRAMES, 4, SIZE, SIZE)}
    positive = placed(2, "at frames", "0, 2", "no image", strength=0.5, end=0.8)["positive"]
    lines = describe_plan(plan_animation(windowed(model), latent, 20, 7.5, positive)).splitlines()
    assert "SparseCtrl rgb.safetensors: 2 images at frames 0, 2; strength 0.5; from 0% to 80% of the sampling" in lines
    assert "   windows without an image, which see no image: 4-9, 6-11" in lines
    assert "SparseCtrl" not in describe_plan(plan_animation(model, latent, 20, 7.5, cond(1)))
    with pytest.raises(InvalidInput, match="An image is placed at frame 2, but the clip has 2 frames"):
        plan_animation(model, {"samples": torch.zeros(2, 4, SIZE, SIZE)}, 20, 7.5, positive)


@pytest.mark.slow
def test_a_full_size_file_loads_and_runs(tmp_path):
    tensors = {name: torch.full(tensor.shape, 1e-3, dtype=torch.float16) for name, tensor in released("rgb").items()}
    save_file(tensors, tmp_path / "full.safetensors")
    control = load_sparse_control(tmp_path / "full.safetensors")
    comfy.model_management.load_models_gpu(control.get_models())
    out = control.control_model(torch.rand(2, 5, 8, 8), torch.tensor([601.0, 601.0]), torch.rand(2, 77, 768), 2)
    assert [tensor.shape[1] for tensor in out["output"]] == [320] * 4 + [640] * 3 + [1280] * 5
    assert all(torch.isfinite(tensor).all() for tensor in (*out["output"], *out["middle"]))
