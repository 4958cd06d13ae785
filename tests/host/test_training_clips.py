"""Load Training Clips, with a real VAE and a real text encoder of a few channels."""

from __future__ import annotations

import functools
import os
import shutil
import types
from pathlib import Path

import comfy.lora
import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import comfy.taesd.taesd
import folder_paths
import numpy as np
import pytest
import torch
from comfy.sdxl_clip import SDXLClipModel
from pack.motion_models.training.errors import TrainingDataError
from pack.nodes.host.training import encoders as encoders
from pack.nodes.training_clips import LoadTrainingClipsNode
from PIL import Image

TEXT_WIDTH = 16


def make_vae(seed: int = 0) -> comfy.sd.VAE:
    """TAESD, with random weights."""
    torch.manual_seed(seed)
    weights = comfy.taesd.taesd.TAESD().state_dict()
    return comfy.sd.VAE({
        name: torch.randn(tensor.shape) * (tensor[0].numel() ** -0.5 if tensor.ndim == 4 else 0.1) if tensor.ndim else tensor
        for name, tensor in weights.items()
    })


def make_clip(seed: int = 0) -> comfy.sd.CLIP:
    """A CLIP-L of two layers, with random weights."""
    config = {
        "hidden_size": TEXT_WIDTH, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2,
        "hidden_act": "quick_gelu", "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407,
    }  # fmt: skip
    model = functools.partial(comfy.sd1_clip.SD1ClipModel, textmodel_json_config=config, clip_model=comfy.sd1_clip.SDClipModel)
    target = types.SimpleNamespace(params={}, clip=model, tokenizer=comfy.sd1_clip.SD1Tokenizer)
    clip = comfy.sd.CLIP(target)
    torch.manual_seed(seed)
    for parameter in clip.cond_stage_model.parameters():
        parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return clip


@pytest.fixture(scope="module")
def vae():
    with torch.inference_mode():
        return make_vae()


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():
        return make_clip()


def picture(number: int) -> Image.Image:
    """As wide as twice its height: what is cut off is white, what is left shows the number and a bar at its left."""
    pixels = np.full((64, 128, 3), 255, np.uint8)
    pixels[:, 32:96] = 20 * number
    pixels[:, 32:48] = 128
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """ComfyUI's input folder, with a folder of two clips in it."""
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    folder = tmp_path / "input" / "videos"
    for name, frames in {"one": 6, "two": 9}.items():
        (folder / name).mkdir(parents=True)
        for number in range(frames):
            picture(number).save(folder / name / f"{number}.png")
        (folder / f"{name}.txt").write_text(f"caption {name}")
    return folder


def load(vae, clip, **changes):
    inputs = {"folder": "videos", "width": 64, "height": 64, "frames": 4, "stride": 1, "flip": False, **changes}
    return LoadTrainingClipsNode.execute(vae=vae, clip=clip, **inputs).args


def test_samples_are_what_comfyui_encodes(folder, vae, clip):
    clips, report, preview = load(vae, clip)
    assert (len(clips), clips.latent_size) == (2, (4, 8, 8))
    images = torch.stack([torch.from_numpy(np.array(picture(n).crop((32, 0, 96, 64)))) for n in range(9)]) / 255
    latents = vae.encode(images).half().float()
    texts = {name: clip.encode_from_tokens(clip.tokenize(f"caption {name}")) for name in ("one", "two")}
    for position in range(20):
        sample = clips.sample(position, 0)
        # A batch's size may change how its sums are rounded.
        assert any(torch.allclose(sample.latents, latents[i : i + 4], rtol=2e-3, atol=1e-4) for i in range(6))
        assert torch.equal(sample.context, texts[sample.caption.removeprefix("caption ")][0].half().float())
    assert torch.equal(preview, images[:4])
    assert report.startswith("2 clips, 9 samples of 4 frames at a stride of 1, 64 x 64 pixels; 0 of the clips are also mirrored")


def test_names_of_folders_need_not_be_utf8(folder, vae, clip, monkeypatch):
    expected, *_ = load(vae, clip)
    name = os.fsdecode(b"caf\xe9")
    monkeypatch.setattr(folder_paths, "output_directory", str(folder.parents[1] / name))
    (folder / "one").rename(folder / name)
    (folder / "one.txt").rename(folder / f"{name}.txt")
    folder.rename(folder.with_name(name))
    for _ in ("encoded", "found encoded"):
        clips, *_ = load(vae, clip, folder=name)
        assert name in clips.names
        assert {clips.sample(0, 0).caption, clips.sample(1, 0).caption} == {"caption one", "caption two"}
    assert sum(file.stat().st_size for file in clips.folder.rglob("*.safetensors")) == sum(
        file.stat().st_size for file in expected.folder.rglob("*.safetensors")
    )


def test_the_cache_is_in_the_output_folder_and_survives(folder, vae, clip, monkeypatch):
    first, report, _ = load(vae, clip)
    assert first.folder.is_relative_to(Path(folder_paths.get_output_directory()) / "loom_training" / "clips")
    assert first.folder.name.startswith("videos-64x64-")
    assert str(first.folder) in report
    encoded = []
    monkeypatch.setattr(vae, "encode", lambda pixels: encoded.append(pixels))
    # As after a restart: the same weights, loaded anew.
    assert load(vae, make_clip())[0].data_hash == first.data_hash
    assert encoded == []


@pytest.mark.parametrize("changes", [{"width": 72}, {"frames": 5}, {"stride": 2, "frames": 3}, {"flip": True}, {"default_caption": "x"}])
def test_sets_of_different_settings_lie_apart(folder, vae, clip, changes):
    first = load(vae, clip)[0]
    assert (load(vae, clip, **changes)[0].folder == first.folder) == ("default_caption" in changes)


def test_clips_of_another_vae_or_text_encoder_lie_apart(folder, vae, clip):
    later = clip.clone()
    later.clip_layer(-2)
    folders = [load(v, c)[0].folder for v, c in [(vae, clip), (make_vae(1), clip), (vae, make_clip(1)), (vae, later)]]
    assert len(set(folders)) == 4


def test_a_lora_of_the_text_encoder_counts_even_while_it_is_loaded(clip):
    plain = encoders.text_encoder_id(clip)
    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"

    def patched(strength: float, seed: int) -> comfy.sd.CLIP:
        generator = torch.Generator().manual_seed(seed)
        up, down = torch.randn(32, 2, generator=generator), torch.randn(2, TEXT_WIDTH, generator=generator)
        lora = comfy.lora.load_lora({"x.lora_up.weight": up, "x.lora_down.weight": down}, {"x": key})
        other = clip.clone()
        assert other.add_patches(lora, strength) == [key]
        return other

    with_lora = patched(1.0, 0)
    identities = [encoders.text_encoder_id(each) for each in (with_lora, patched(0.9, 0), patched(1.0, 1))]
    assert len({plain, *identities}) == 4
    comfy.model_management.load_models_gpu([with_lora.patcher])
    assert encoders.text_encoder_id(with_lora) == identities[0]
    assert encoders.text_encoder_id(clip) == plain
    comfy.model_management.unload_all_models()


def test_flip_mirrors_the_picture(folder, vae, clip):
    clips = load(vae, clip, flip=True)[0]
    assert clips.mirrored == 2
    images = torch.stack([torch.from_numpy(np.array(picture(n).crop((32, 0, 96, 64)))) for n in range(9)]) / 255
    mirrored, plain = vae.encode(images.flip(2)), vae.encode(images)
    found = []
    for position in range(40):
        latents = clips.sample(position, 0).latents
        found.append(any(torch.allclose(latents, mirrored[i : i + 4], rtol=2e-3, atol=1e-3) for i in range(6)))
        assert found[-1] or any(torch.allclose(latents, plain[i : i + 4], rtol=2e-3, atol=1e-3) for i in range(6))
    assert 5 < sum(found) < 35


def test_parentheses_in_a_caption_weigh_nothing(folder, vae, clip):
    encode = encoders.text_encoder(clip)
    assert torch.equal(encode("(a dog:1.5)"), clip.encode_from_tokens(clip.tokenize(r"\(a dog:1.5\)"))[0])
    assert not torch.equal(encode("(a dog:1.5)"), clip.encode_from_tokens(clip.tokenize("(a dog:1.5)"))[0])


def test_sdxls_pooled_embedding_is_kept(clip):
    class Encoder:
        cond_stage_model = object.__new__(SDXLClipModel)

        def tokenize(self, text, disable_weights):
            return text

        def encode_from_tokens(self, tokens, return_pooled):
            return torch.zeros(1, 80, 4), torch.ones(1, 3)

    context, pooled = encoders.text_encoder(Encoder())("a dog")
    assert context.shape == (77, 4)
    assert torch.equal(pooled, torch.ones(3))


def test_a_long_caption_is_cut_and_told(folder, vae, clip):
    caption = " ".join(f"word{number}" for number in range(60))
    (folder / "two.txt").write_text(caption)
    clips, report, _ = load(vae, clip)
    whole = clip.encode_from_tokens(clip.tokenize(caption))[0]
    assert whole.shape[0] > 77
    found = next(sample for sample in (clips.sample(position, 0) for position in range(9)) if sample.caption == caption)
    assert torch.equal(found.context, whole[:77].half().float())
    assert f"Captions that are too long for the text encoder and get cut off: '{caption[:60]}" in report


def test_a_skipped_clip_whose_name_is_no_utf8_can_be_told(folder, vae, clip):
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_text("This is no video.")
    _, report, _ = load(vae, clip)
    assert report.encode().count(rb"'caf\udce9.mp4' cannot be read as a video") == 1


def test_what_is_skipped_is_told(folder, vae, clip):
    (folder / "broken.mp4").write_text("This is no video.")
    (folder / "broken.txt").write_text("a song")
    shutil.copytree(folder / "one", folder / "three")
    (folder / "three" / "5.png").unlink()
    clips, report, _ = load(vae, clip, frames=6)
    assert len(clips) == 2
    assert "Clips without a caption: 'three'. They use an empty caption." in report
    assert "Skipped:\n  'broken.mp4' cannot be read as a video" in report
    assert "\n  'three' has 5 frames; at least 6 are needed." in report


def test_a_gif_is_a_clip(folder, vae, clip):
    first, *rest = [picture(number) for number in range(8)]
    first.save(folder / "three.gif", save_all=True, append_images=rest)
    assert load(vae, clip, default_caption="x")[0].captions == ("caption one", "x", "caption two")


@pytest.mark.parametrize("name", ["..", "../input/videos", "videos/..", "/", "", "elsewhere", ".", "videos/../../secret"])
def test_folders_outside_the_input_folder_are_refused(folder, vae, clip, name):
    (folder.parent.parent / "secret").mkdir()
    with pytest.raises(TrainingDataError, match="is not a folder in ComfyUI's input folder"):
        load(vae, clip, folder=name)
    with pytest.raises(TrainingDataError, match="is not a folder in ComfyUI's input folder"):
        LoadTrainingClipsNode.fingerprint_inputs(folder=name)


def test_only_folders_of_the_input_folder_are_offered(folder):
    (choices,) = (part.options for part in LoadTrainingClipsNode.define_schema().inputs if part.id == "folder")
    assert choices == ["videos", "videos/one", "videos/two"]
    assert LoadTrainingClipsNode.fingerprint_inputs() == ""


def test_a_change_in_the_folder_is_seen(folder):
    states = [LoadTrainingClipsNode.fingerprint_inputs(folder="videos")]
    assert LoadTrainingClipsNode.fingerprint_inputs(folder="videos") == states[0]
    (folder / "one.txt").write_text("another")
    states.append(LoadTrainingClipsNode.fingerprint_inputs(folder="videos"))
    os.utime(folder / "two" / "3.png", (1, 1))
    states.append(LoadTrainingClipsNode.fingerprint_inputs(folder="videos"))
    (folder / "two" / "3.png").unlink()
    states.append(LoadTrainingClipsNode.fingerprint_inputs(folder="videos"))
    assert len(set(states)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 65}, "width 65 and height 64 must be multiples of 8"),
        ({"frames": 128, "stride": 64}, "span 8129 frames"),
        ({"frames": 10}, r"None of the 2 clips can be used. 'one' has 6 frames; at least 10 are needed"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(folder, vae, clip, changes, message):
    with pytest.raises(TrainingDataError, match=message):
        load(**{"vae": vae, "clip": clip, **changes})


def test_a_vae_that_is_invalid_is_refused(folder, clip):
    """What CheckpointLoaderSimple gives for a checkpoint without a VAE."""
    with pytest.raises(TrainingDataError, match="vae is empty"):
        load(comfy.sd.VAE({}), clip)


def test_an_empty_folder_is_refused(folder, vae, clip):
    (folder / "empty").mkdir()
    with pytest.raises(TrainingDataError, match=r"holds no clips\. Put videos in it"):
        load(vae, clip, folder="videos/empty")


def test_an_interrupt_stops_it_and_the_next_run_goes_on(folder, vae, clip, monkeypatch):
    encode, encoded = vae.encode, []

    def interrupted_encode(pixels):
        encoded.append(pixels)
        comfy.model_management.interrupt_current_processing()
        return encode(pixels)

    monkeypatch.setattr(vae, "encode", interrupted_encode)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        load(vae, clip)
    assert len(encoded) == 1
    monkeypatch.setattr(vae, "encode", lambda pixels: encoded.append(pixels) or encode(pixels))
    assert len(load(vae, clip, stride=1)[0]) == 2
    assert not list(Path(folder_paths.get_output_directory()).rglob("*.part"))
