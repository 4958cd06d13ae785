"""Motion LoRAs on motion models, and the domain adapter on a checkpoint, in ComfyUI's care."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.supported_models
import folder_paths
import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.errors import (
    IncompatibleMotionModel,
    InvalidInput,
    MotionModelError,
    UnknownMotionModelFormat,
    UnreadableFile,
)
from pack.nodes.host.files import folders as folders
from pack.nodes.host.files import lora_files as motion_lora
from pack.nodes.host.files import saving as saving
from pack.nodes.host.files.domain_adapter import load_domain_adapter
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.steered import Steered
from pack.nodes.loaders import LoadDomainAdapterNode, LoadMotionLoraNode
from safetensors.torch import load_file, save_file

from .world import (
    BOTH,
    SDXL_FAMILIES,
    SDXL_SHAPE,
    SMALL_MOTION,
    SMALL_UNET,
    animate,
    make_model,
    motion_config,
    motion_file,
    motion_weights,
    same_state,
    sample,
    saved_weights,
    state_of,
)

RANK = 4


@pytest.fixture(scope="module")
def model(patchers):
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module")
def sd15(patchers):
    """With all its levels and blocks, which a domain adapter names."""
    with torch.inference_mode():
        return make_model()


@pytest.fixture
def motion(tmp_path):
    return load_motion_model(motion_file(tmp_path, **SMALL_MOTION))


def changes(family: Family = Family.V3, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Down and up for each attention weight of a motion model, by its name."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    small = {} if family in SDXL_FAMILIES else SMALL_MOTION
    for name, weight in motion_weights(motion_config(family, **small)).items():
        if ".attention_blocks." in name and weight.ndim == 2:
            out, inside = weight.shape
            made[name] = (torch.randn(RANK, inside, generator=generator) * 0.1, torch.randn(out, RANK, generator=generator) * 0.1)
    return made


def lora_file(folder: Path, family: Family = Family.V3, seed: int = 0, alpha: float | None = None) -> str:
    """A motion LoRA in AnimateDiff's layout; with an alpha, in kohya's."""
    tensors = {}
    for name, (down, up) in changes(family, seed).items():
        path = name.removesuffix(".weight")
        if alpha is None:
            parent, layer = re.fullmatch(r"(.+)\.(to_q|to_k|to_v|to_out)(?:\.0)?", path).groups()
            path = f"{parent}.processor.{layer}_lora"
            tensors |= {f"{path}.down.weight": down, f"{path}.up.weight": up}
        else:
            tensors |= {f"{path}.lora_down.weight": down, f"{path}.lora_up.weight": up, f"{path}.alpha": torch.tensor(alpha)}
    path = folder / f"{family.name.lower()}_lora_{seed}_{alpha}.safetensors"
    save_file(tensors, path)
    return str(path)


def added(strength: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
    """What a motion LoRA is to add to each weight."""
    return {name: strength * up @ down for name, (down, up) in changes(seed=seed).items()}


def load_motion_lora(motion, path: str, strength: float):
    return motion_lora.load_motion_lora(motion, path, Steered(strength))


def is_near(out: torch.Tensor, expected: torch.Tensor) -> bool:
    """To rounding in float32: latents of an untrained UNet are hundreds large."""
    return (out - expected).abs().max() <= 1e-5 * expected.abs().max()


# --- motion LoRAs ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("strength", "alpha", "scale"), [(1.0, None, 1.0), (0.6, None, 0.6), (-1.0, None, -1.0), (1.0, 8.0, 2.0)])
def test_it_is_added_to_the_weights(motion, tmp_path, strength, alpha, scale):
    before = saved_weights(motion)
    weights = saved_weights(load_motion_lora(motion, lora_file(tmp_path, alpha=alpha), strength))
    difference = added(scale)
    assert weights.keys() == before.keys()
    for name, weight in weights.items():
        expected = before[name] + difference.get(name, 0.0)
        assert torch.allclose(weight, expected, rtol=0, atol=1e-6), name
    again = saved_weights(motion)
    assert all(torch.equal(again[name], before[name]) for name in before)


def loha(weight: torch.Tensor, rand: Callable) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    out, inside = weight.shape
    a1, b1, a2, b2 = rand(out, RANK), rand(RANK, inside), rand(out, RANK), rand(RANK, inside)
    parts = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(2.0)}
    return parts, weight + 2.0 / RANK * (a1 @ b1) * (a2 @ b2)


def lokr(weight: torch.Tensor, rand: Callable) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    out, inside = weight.shape
    whole, a, b = rand(4, 8), rand(out // 4, RANK), rand(RANK, inside // 8)
    blocks = [torch.cat([2.0 / RANK * number * (a @ b) for number in row], dim=1) for row in whole]
    return {"lokr_w1": whole, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(2.0)}, weight + torch.cat(blocks)


def dora_rows(weight: torch.Tensor, rand: Callable) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    down, up, lengths = rand(RANK, weight.shape[1]), rand(weight.shape[0], RANK), rand(weight.shape[0]).abs() + 1
    changed = weight + up @ down
    rows = torch.stack([row / row.square().sum().sqrt() * length for row, length in zip(changed, lengths, strict=True)])
    return {"lora_A.weight": down, "lora_B.weight": up, "lora_magnitude_vector": lengths}, rows


def dora_columns(weight: torch.Tensor, rand: Callable) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    down, up, lengths = rand(RANK, weight.shape[1]), rand(weight.shape[0], RANK), rand(1, weight.shape[1]).abs() + 1
    changed = weight + 0.5 * up @ down
    columns = [column / column.square().sum().sqrt() * length for column, length in zip(changed.T, lengths[0], strict=True)]
    parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(0.5 * RANK), "dora_scale": lengths}
    return parts, torch.stack(columns, dim=1)


@BOTH
@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("kind", [loha, lokr, dora_rows, dora_columns], ids=lambda kind: kind.__name__)
def test_other_kinds_are_what_their_papers_say(motion, tmp_path, kind, strength):
    """At strength 1; between, the weights are between."""
    generator = torch.Generator().manual_seed(2)
    before, tensors, expected = saved_weights(motion), {}, {}
    for name in changes():
        parts, expected[name] = kind(before[name], lambda *shape: torch.randn(shape, generator=generator) * 0.1)
        tensors |= {f"{name.removesuffix('.weight')}.{part}": tensor for part, tensor in parts.items()}
    path = str(tmp_path / f"{kind.__name__}.safetensors")
    save_file(tensors, path)
    weights = saved_weights(load_motion_lora(motion, path, strength))
    for name, weight in weights.items():
        between = torch.lerp(before[name], expected.get(name, before[name]), strength)
        assert torch.allclose(weight, between, rtol=1e-5, atol=1e-6), name
    title = kind.__name__.partition("_")[0]
    with pytest.raises(InvalidInput, match=rf"(?i)'{kind.__name__}.safetensors' is a {title}, which can only be merged, at one strength\. Disconnect strength_values"):
        motion_lora.load_motion_lora(motion, path, Steered.of("strength", 1.0, [0.0] * 8, None))


@BOTH
def test_several_add_up(motion, tmp_path):
    before = saved_weights(motion)
    once = load_motion_lora(motion, lora_file(tmp_path, seed=1), 0.5)
    weights = saved_weights(load_motion_lora(once, lora_file(tmp_path, seed=2), -0.25))
    first, second = added(0.5, seed=1), added(-0.25, seed=2)
    for name in first:
        assert torch.allclose(weights[name], before[name] + first[name] + second[name], rtol=0, atol=1e-6)


def test_strength_0_is_the_motion_model_without(model, motion, tmp_path):
    assert torch.equal(
        sample(animate(model, load_motion_lora(motion, lora_file(tmp_path), 0.0)), steps=1), sample(animate(model, motion), steps=1)
    )


@BOTH
def test_two_branches_off_one_loader(model, motion, tmp_path):
    """A LoRA on one branch is none on the other, whichever runs first."""
    with_lora, without = animate(model, load_motion_lora(motion, lora_file(tmp_path), 1.0)), animate(model, motion)
    plain, moved = sample(without, steps=1), sample(with_lora, steps=1)
    assert (plain - moved).abs().max() > 0.01
    assert torch.equal(sample(without, steps=1), plain)
    assert torch.equal(sample(with_lora, steps=1), moved)


@BOTH
def test_it_animates_as_the_merged_file_does(model, motion, tmp_path):
    tensors = load_file(motion_file(tmp_path, **SMALL_MOTION))
    for name, difference in added(0.7).items():
        tensors[name] += difference
    save_file(tensors, tmp_path / "merged.safetensors")
    expected = sample(animate(model, load_motion_model(str(tmp_path / "merged.safetensors"))))
    out = sample(animate(model, load_motion_lora(motion, lora_file(tmp_path), 0.7)))
    assert is_near(out, expected)


def test_partly_loaded_it_is_merged_where_it_is_used(model, motion, tmp_path):
    motion = load_motion_lora(motion, lora_file(tmp_path), 1.0)
    expected = sample(animate(model, motion), steps=1)
    comfy.model_management.unload_all_models()
    motion.load(motion.load_device, lowvram_model_memory=motion.model_size() // 3)
    assert 0 < motion.loaded_size() < motion.model_size()
    assert is_near(sample(animate(model, motion), steps=1), expected)


def test_a_saved_motion_model_has_it_in_its_weights(motion, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    before = saved_weights(motion)
    path = saving.save_motion_model(load_motion_lora(motion, lora_file(tmp_path), 0.5), "with_lora", "fp32")
    weights = saved_weights(load_motion_model(str(path)))
    difference = added(0.5)
    for name, weight in weights.items():
        assert torch.allclose(weight, before[name] + difference.get(name, 0.0), rtol=0, atol=1e-6), name


def test_a_v2_lora_on_a_v3_motion_model_is_told_once(motion, tmp_path, caplog):
    path = lora_file(tmp_path, Family.V2)
    loaded = load_motion_lora(motion, path, 1.0)
    (notice,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert notice.startswith(f"'{Path(path).name}': made for a motion model with a mid block (v2)")
    assert loaded.patches.keys() == changes().keys()


# --- bad input -------------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, marker: str):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (Path(self.marker), "code of a file was run")


def no_lora(path: Path) -> None:
    Path(motion_file(path.parent)).rename(path)


def cut_short(path: Path) -> None:
    path.write_bytes(Path(lora_file(path.parent)).read_bytes()[:5000])


def with_nan(path: Path) -> None:
    tensors = load_file(lora_file(path.parent))
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, path)


def for_sdxl(path: Path) -> None:
    Path(lora_file(path.parent, Family.SDXL)).rename(path)


def with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Payload(str(path.parent / "marker"))}))


BAD_FILES = {
    "motion model": (no_lora, "chosen.safetensors", UnknownMotionModelFormat, "not a motion LoRA: it is an AnimateDiff v3 motion model"),
    "truncated": (cut_short, "chosen.safetensors", UnreadableFile, "is cut short"),
    "NaN": (with_nan, "chosen.safetensors", MotionModelError, "hold NaN or infinity"),
    "SDXL": (for_sdxl, "chosen.safetensors", IncompatibleMotionModel, "made for another base model"),
    "code": (with_code, "chosen.ckpt", UnreadableFile, "carries program code, which Loom never runs"),
}


@pytest.fixture
def lora_folder(tmp_path, monkeypatch):
    """A folder of this test's own for LoRAs of either kind."""
    for folder in (folders.MOTION_LORAS, "loras"):
        path = tmp_path / folder
        path.mkdir()
        monkeypatch.setitem(
            folder_paths.folder_names_and_paths, folder, ([str(path)], set(folder_paths.supported_pt_extensions))
        )
    folder_paths.filename_list_cache.clear()
    yield tmp_path
    folder_paths.filename_list_cache.clear()


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_are_no_motion_loras(motion, lora_folder, kind):
    make, name, error, message = BAD_FILES[kind]
    folder = lora_folder / folders.MOTION_LORAS
    make(folder / name)
    with pytest.raises(error, match=rf"'{name}'.*{message}"):
        LoadMotionLoraNode.execute(motion, name, 1.0)
    assert not (folder / "marker").exists()


def test_files_that_are_not_there(motion, model, lora_folder):
    with pytest.raises(UnreadableFile, match=r"Motion LoRA 'none.ckpt' was not found in models/animatediff_motion_lora\. Put the file there"):
        LoadMotionLoraNode.execute(motion, "none.ckpt", 1.0)
    with pytest.raises(UnreadableFile, match=r"Domain adapter 'none.ckpt' was not found in models/loras or models/animatediff_motion_lora") as caught:
        LoadDomainAdapterNode.execute(model, "none.ckpt", 1.0)
    assert str(lora_folder) not in str(caught.value)  # a server's folders are not its users' business


def test_a_changed_file_is_loaded_again(lora_folder):
    path = Path(lora_file(lora_folder / folders.MOTION_LORAS))
    before = LoadMotionLoraNode.fingerprint_inputs(motion_model=None, motion_lora_name=path.name, strength=1.0)
    save_file({"a": torch.zeros(3)}, path)
    assert LoadMotionLoraNode.fingerprint_inputs(motion_model=None, motion_lora_name=path.name, strength=1.0) != before
    assert LoadMotionLoraNode.fingerprint_inputs(motion_model=None, motion_lora_name=None, strength=1.0) == ()


# --- the domain adapter ----------------------------------------------------------------------------------------------


def adapter(model) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A domain adapter under AnimateDiff's names, and what it is to add to the weights under ComfyUI's."""
    places = {f"down_blocks.{i}.attentions.{j}": f"input_blocks.{3 * i + j + 1}.1" for i in range(3) for j in range(2)}
    places |= {f"up_blocks.{i}.attentions.{j}": f"output_blocks.{3 * i + j}.1" for i in range(1, 4) for j in range(3)}
    state = model.model.state_dict()
    generator = torch.Generator().manual_seed(5)
    tensors, differences = {}, {}
    for theirs, ours in places.items():
        for attention in ("attn1", "attn2"):
            for layer in ("q", "k", "v", "out"):
                name = f"diffusion_model.{ours}.transformer_blocks.0.{attention}.to_{layer}{'.0' if layer == 'out' else ''}.weight"
                out, inside = state[name].shape
                down, up = torch.randn(RANK, inside, generator=generator) * 0.1, torch.randn(out, RANK, generator=generator) * 0.1
                path = f"{theirs}.transformer_blocks.0.{attention}.processor.to_{layer}_lora"
                tensors |= {f"{path}.down.weight": down, f"{path}.up.weight": up}
                differences[name] = up @ down
    return tensors, differences


@BOTH
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_domain_adapter_is_added_to_the_checkpoint(tmp_path, prefix):
    model = make_model()
    before = state_of(model)
    tensors, differences = adapter(model)
    path = tmp_path / "v3_sd15_adapter.ckpt"
    torch.save({"state_dict": {f"{prefix}{key}": tensor for key, tensor in tensors.items()}, "global_step": 1}, path)
    adapted = load_domain_adapter(model, str(path), 0.8)
    assert len(differences) == len(adapted.patches) == 15 * 8
    changed = make_model()
    for name, difference in differences.items():
        changed.model.state_dict()[name] += 0.8 * difference
    out = sample(adapted, steps=1, frames=2)
    assert is_near(out, sample(changed, steps=1, frames=2))
    assert not is_near(out, sample(model, steps=1, frames=2))
    comfy.model_management.unload_all_models()
    assert same_state(model, before)


def test_the_domain_adapter_is_what_load_lora_makes_of_it(sd15, tmp_path):
    tensors, _ = adapter(sd15)
    save_file(tensors, tmp_path / "adapter.safetensors")
    expected, _ = comfy.sd.load_lora_for_models(sd15, None, tensors, 0.5, 0.0)
    expected = sample(expected, steps=1, frames=2)
    out = sample(load_domain_adapter(sd15, str(tmp_path / "adapter.safetensors"), 0.5), steps=1, frames=2)
    assert torch.equal(out, expected)
    assert (out - sample(sd15, steps=1, frames=2)).abs().max() > 0.01
    none = load_domain_adapter(sd15, str(tmp_path / "adapter.safetensors"), 0.0)
    assert torch.equal(sample(none, steps=1, frames=2), sample(sd15, steps=1, frames=2))


def test_keys_of_a_domain_adapter_that_fit_nothing_are_told(sd15, lora_folder, caplog):
    tensors, _ = adapter(sd15)
    save_file(tensors | {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(8, 4)}, lora_folder / "loras" / "a.safetensors")
    LoadDomainAdapterNode.execute(sd15, "a.safetensors", 1.0)
    (notice,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert notice == (
        "'a.safetensors': 1 of its keys match no linear layer of the UNet and are left out: "
        "'lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight'."
    )


def test_files_that_are_no_domain_adapters(model, lora_folder):
    folder = lora_folder / folders.MOTION_LORAS  # where other packs' users keep theirs
    lora_file(folder)
    no_lora(folder / "mm.safetensors")
    save_file({"lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": torch.zeros(8, 4)}, folder / "flux.safetensors")
    with pytest.raises(UnknownMotionModelFormat, match=r"'v3_lora_0_None.safetensors': not a domain adapter: it is a motion LoRA.*load it with Load Motion LoRA"):
        LoadDomainAdapterNode.execute(model, "v3_lora_0_None.safetensors", 1.0)
    with pytest.raises(UnknownMotionModelFormat, match=r"'mm.safetensors': not a domain adapter: it is an AnimateDiff v3 motion model"):
        LoadDomainAdapterNode.execute(model, "mm.safetensors", 1.0)
    with pytest.raises(IncompatibleMotionModel, match=r"'flux.safetensors': none of its 1 keys is for .* which is SD1\.5: 'lora_unet_double"):
        LoadDomainAdapterNode.execute(model, "flux.safetensors", 1.0)


def test_the_domain_adapter_on_sdxl(sd15, tmp_path):
    save_file(adapter(sd15)[0], tmp_path / "adapter.safetensors")
    sdxl = make_model(kind=comfy.supported_models.SDXL, **SDXL_SHAPE)
    with pytest.raises(IncompatibleMotionModel, match=r"'adapter.safetensors': .*(made for another base model|which is SDXL)"):
        load_domain_adapter(sdxl, str(tmp_path / "adapter.safetensors"), 1.0)
