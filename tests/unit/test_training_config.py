"""The file that tells ``loom.py train`` what to do: what it may say, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import re

import pytest
from launcher.config_file import Lora
from launcher.errors import LoomError
from launcher.pack import PACK_ROOT
from launcher.training_config import read_config
from pack.motion_models.training.clips import ClipSettings
from pack.motion_models.training.settings import TrainingSettings

LEAST = """
[model]
checkpoint = "models/base.safetensors"
[data]
latents = "clips"
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, name: str = "train.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_config(tmp_path / name, TrainingSettings, ClipSettings)

    return read


def test_what_is_not_said_is_as_animatediff_did_it(read, tmp_path):
    config = read(LEAST)
    assert config.model.checkpoint == tmp_path / "models" / "base.safetensors"
    assert config.model.motion_model is None
    assert config.model.family == "v3"
    assert config.data.latents == tmp_path / "clips"
    assert (config.data.width, config.data.height, config.data.frames, config.data.stride) == (256, 256, 16, 4)
    assert config.training == TrainingSettings()
    assert config.output.file == tmp_path / "output" / "motion_model.safetensors"
    assert config.output.checkpoints == tmp_path / "output" / "motion_model_checkpoint"
    assert config.output.losses == tmp_path / "output" / "motion_model_losses.csv"


def test_everything_is_read(read, tmp_path):
    config = read(f"""
[model]
checkpoint = "{tmp_path.as_posix()}/base.safetensors"
loras = ["look.safetensors", {{file = "other.safetensors", strength = 0.5}}, {{file = "third.safetensors", strength = 2}}]
motion_model = "start.safetensors"
family = "v1"
[data]
folder = "videos"
width = 128
flip = false
default_caption = "a clip"
[training]
steps = 10
learning_rate = 1
learning_rate_schedule = "cosine"
gradient_checkpointing = true
[output]
folder = "results"
name = "mine"
dtype = "fp32"
""")
    assert config.model.checkpoint == tmp_path / "base.safetensors"
    assert config.model.loras == [
        Lora.model_construct(file=tmp_path / f"{name}.safetensors", strength=strength)
        for name, strength in (("look", 1.0), ("other", 0.5), ("third", 2.0))
    ]
    assert config.model.motion_model == tmp_path / "start.safetensors"
    assert (config.data.folder, config.data.width, config.data.flip) == (tmp_path / "videos", 128, False)
    assert (config.training.learning_rate, config.training.gradient_checkpointing) == (1.0, True)
    assert config.output.file == tmp_path / "results" / "mine.safetensors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model\n", "is no valid TOML"),
        ("", r"model.checkpoint is missing. Expected an SD1.5 or SDXL checkpoint file"),
        ("model = 1\n", r"'model' is no section. Expected a line \[model\]"),
        (LEAST + "[trainer]\n", "'trainer' is unknown. Known are: model, data, training, output"),
        (LEAST + "[training]\nstep = 1\n", "'training.step' is unknown. Known are: steps, batch_size, .*"),
        (LEAST + "[training]\nsteps = 1.5\n", "training.steps is 1.5. Expected a whole number"),
        (LEAST + "[training]\nsteps = true\n", "training.steps is True. Expected a whole number"),
        (LEAST + "[training]\nsteps = '10'\n", "training.steps is '10'. Expected a whole number"),
        (LEAST + "[training]\nlearning_rate = 'high'\n", "training.learning_rate is 'high'. Expected a number"),
        (LEAST + "[training]\ngradient_checkpointing = 1\n", "gradient_checkpointing is 1. Expected true or false"),
        (LEAST + "[training]\ndtype = 'fp8'\n", "training.dtype is 'fp8'. Expected one of"),
        (LEAST + "[training]\nbatch_size = 0\n", "training.batch_size is 0. Expected 1 to 1024"),
        (LEAST + "[training]\nprediction = 'v'\n", "'training.prediction' is unknown"),
        (LEAST + "[output]\ndtype = 'half'\n", "output.dtype is 'half'. Expected one of: fp32, bf16 or fp16"),
        (LEAST + "[output]\nfolder = 3\n", "output.folder is 3. Expected a path in quotes"),
        (LEAST + "[output]\nname = 'a/b'\n", "output.name is 'a/b'. Expected a name without folders"),
        (LEAST.replace("latents", "width = 64 #"), r"\[data\] names no clips"),
        (LEAST.replace("[data]", "family = 'v9'\n[data]"), "model.family is 'v9'. Expected one of: v1, v2 or v3"),
        (LEAST.replace("[data]", "loras = 'x'\n[data]"), "model.loras is 'x'. Expected a list of files"),
        (LEAST.replace("models/", "~nobody-of-this-name/"), "model.checkpoint: '~nobody-of-this-name/base.safetensors' begins with"),
        (LEAST.replace("[data]", "loras = ['~nobody-of-this-name/x']\n[data]"), r"model.loras\[0\].file: .* home folder that can't be found"),
        (LEAST.replace("[data]", "loras = [3]\n[data]"), r"model.loras\[0\].file is 3. Expected a path in quotes"),
        (LEAST.replace("[data]", "loras = [{file = 'x', weight = 1}]\n[data]"), r"'model.loras\[0\].weight' is unknown"),
    ],
)
def test_what_is_wrong_is_named(read, tmp_path, text, message):
    with pytest.raises(LoomError, match=message) as caught:
        read(text)
    assert str(tmp_path / "train.toml") in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LoomError, match=r"There is no configuration '.*none.toml'"):
        read_config(tmp_path / "none.toml", TrainingSettings, ClipSettings)


def test_the_documented_file_is_read_and_shows_the_defaults(read):
    page = (PACK_ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.+?)```", page, re.DOTALL)
    config, least = read(text), read(LEAST)
    for section, differing in (
        ("model", {"checkpoint", "loras", "motion_model"}), ("data", {"folder", "latents"}),
        ("training", {"steps", "batch_size"}), ("output", set()),
    ):  # fmt: skip
        shown, defaults = (dict(vars(getattr(each, section))) for each in (config, least))
        if section == "training":
            offered = [part.name for part in dataclasses.fields(TrainingSettings) if not part.metadata.get("is_hidden")]
            shown = {name: shown[name] for name in offered}
        assert {name for name in shown if shown[name] != defaults[name]} == differing
        for name in shown:
            assert f"\n{name} = " in text, f"{section}.{name}"
