"""``loom.py migrate``: workflows out of every kind of file they are shared in, and what the command says and returns."""

from __future__ import annotations

import argparse
import json

import av
import numpy as np
import pytest
from launcher.errors import LoomError
from launcher.migrate import migrate
from pack.migration.forms import UnknownWorkflow
from pack.migration.media import workflow_in
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .workflows import Workflow, node_of

PICTURE = Image.new("RGB", (8, 8))


def workflow(beta: str = "sqrt_linear (AnimateDiff)", effect: float = 1.0) -> dict:
    made = Workflow()
    checkpoint = made.add("CheckpointLoaderSimple", ["a.safetensors"])
    loader = made.add("ADE_AnimateDiffLoaderWithContext", ["v3_sd15_mm.ckpt", beta, effect, True], model=checkpoint)
    made.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=loader)
    return made.json


PROMPT = {"1": {"class_type": "KSampler", "inputs": {"seed": 1}}}


def png(path, compress=False, **texts):
    info = PngInfo()
    for name, value in texts.items():
        (info.add_itxt if name == "international" else info.add_text)(name, json.dumps(value), zip=compress)
    PICTURE.save(path, pnginfo=info)


def test_json_wrapped_or_not(tmp_path):
    for number, value in enumerate([workflow(), {"workflow": workflow()}, {"output": json.dumps(workflow()), "x": 1}]):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        assert workflow_in(path) == workflow()


def test_nan_which_comfyui_writes_into_prompts_becomes_null(tmp_path):
    prompt = {"1": {**PROMPT["1"], "is_changed": [float("nan")]}}
    png(tmp_path / "a.png", prompt=prompt)
    assert workflow_in(tmp_path / "a.png") == {"1": {**PROMPT["1"], "is_changed": [None]}}


@pytest.mark.parametrize("compress", [False, True])
def test_png_as_comfyui_saves_it(tmp_path, compress):
    png(tmp_path / "a.png", compress, prompt=PROMPT, workflow=workflow())
    assert workflow_in(tmp_path / "a.png") == workflow()
    png(tmp_path / "b.png", compress, prompt=PROMPT)
    assert workflow_in(tmp_path / "b.png") == PROMPT
    png(tmp_path / "c.png", compress, international=workflow())
    assert workflow_in(tmp_path / "c.png") == workflow()


def test_webp_as_comfyui_saves_it(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(PROMPT)}"
    exif[0x010F] = f"workflow:{json.dumps(workflow())}"
    PICTURE.save(tmp_path / "a.webp", exif=exif)
    assert workflow_in(tmp_path / "a.webp") == workflow()


def test_mp4_as_comfyui_and_as_videohelpersuite_save_it(tmp_path):
    texts = {"prompt": json.dumps(PROMPT), "workflow": json.dumps(workflow())}
    together = {"comment": json.dumps({"prompt": json.dumps(PROMPT), "workflow": workflow()})}
    for name, metadata in (("comfyui.mp4", texts), ("vhs.mp4", together)):
        with av.open(str(tmp_path / name), "w", options={"movflags": "use_metadata_tags"}) as file:
            file.metadata.update(metadata)
            stream = file.add_stream("mpeg4", rate=8)
            stream.width = stream.height = 16
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
            file.mux(stream.encode(frame))
            file.mux(stream.encode())
        assert workflow_in(tmp_path / name) == workflow()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{}" * 5000, b"[" * 100_000, b'{"a":' * 20_000, b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXtx", b"\x00" * 100]
)
def test_files_without_a_workflow_are_named(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(UnknownWorkflow, match="'a.json' holds no workflow"):
        workflow_in(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnknownWorkflow, match="'gone.json' cannot be read"):
        workflow_in(tmp_path / "gone.json")


# --- the command -------------------------------------------------------------------------------------------------------------


def run(*files, out=None, counts=False) -> int:
    with pytest.raises(SystemExit) as ended:
        migrate(argparse.Namespace(files=list(files), out=out, counts=counts))
    return ended.value.code


def test_the_exit_status_is_the_worst_files(tmp_path, capsys):
    paths = {}
    for name, beta in (("same", "autoselect"), ("near", "lcm[25_ots]"), ("lost", "squaredcos_cap_v2")):
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(workflow(beta)), encoding="utf-8")
    assert run(paths["same"]) == 0
    assert run(paths["near"], paths["same"]) == 3
    assert run(paths["near"], paths["lost"], paths["same"]) == 4
    said = capsys.readouterr().out
    assert "'squaredcos_cap_v2' has no counterpart" in said
    assert said.endswith("3 workflows: 1 same, 1 near, 1 lost\n")
    assert run(paths["same"], tmp_path / "gone.json") == 1
    assert "cannot be read" in capsys.readouterr().err


def test_counts_are_a_table_of_words_and_reasons(tmp_path, capsys):
    paths = []
    for number, beta in enumerate(("autoselect", "cosine of 5", "cosine of 6")):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(workflow(beta)), encoding="utf-8")
    (tmp_path / "other.json").write_text(json.dumps(PROMPT), encoding="utf-8")
    assert run(*paths, tmp_path / "other.json", counts=True) == 4
    assert capsys.readouterr().out == (
        "| result | workflows |\n|---|---|\n| same | 1 |\n| near | 0 |\n| lost | 2 |\n\n| what changes | workflows |\n|---|---|\n"
        "| The noise schedule … has no counterpart; the motion model's own is used. | 2 |\n"
    )


def test_translated_workflows_are_written_where_out_says(tmp_path, capsys):
    png(tmp_path / "film.png", workflow=workflow())
    assert run(tmp_path / "film.png", out=tmp_path / "new" / "folder") == 0
    written = json.loads((tmp_path / "new" / "folder" / "film.json").read_text(encoding="utf-8"))
    assert node_of(written, "LoomApplyMotionModel")["id"] == 2
    assert "written to" in capsys.readouterr().out


def test_the_file_itself_is_never_overwritten(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(workflow()), encoding="utf-8")
    with pytest.raises(LoomError, match="would be overwritten"):
        migrate(argparse.Namespace(files=[path], out=tmp_path, counts=False))
    assert json.loads(path.read_text(encoding="utf-8")) == workflow()
    with pytest.raises(LoomError, match="is a file"):
        migrate(argparse.Namespace(files=[path], out=path, counts=False))


def test_a_workflow_with_nothing_to_translate_says_so(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(PROMPT), encoding="utf-8")
    assert run(path) == 0
    assert "nothing to translate" in capsys.readouterr().out
