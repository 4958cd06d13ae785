"""Prompts made to break the server: wrong values for every input, names that lead elsewhere, small prompts that ask for much.

A seeded part of a longer campaign. Each prompt ends; what is wrong with it is said in a sentence, never in a Python error; the
server answers meanwhile, and renders as before afterwards.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from launcher.client import ComfyClient, Prompt
from launcher.errors import LoomError, PromptFailedError, PromptRejectedError
from launcher.pack import PACK_ROOT
from PIL import Image

from .world import CHECKPOINT, animation, changed, loom_sampler, node, rerun, save_latents

SEED = 1
MOST_SECONDS, MOST_LATENCY = 60.0, 3.0
MOST_CHARACTERS = 600
SECRET = "MARK-7f3a"
OURS = "animatediff_loom."  # of the names of errors



@pytest.fixture(autouse=True)
def _the_server_answers_and_renders_as_before(server, client, good_latents, models, _clip):
    before = files_around(server.base_directory, models.checkpoint.parent.parent)
    with asked_for_the_queue(server.url) as waited:
        yield
    assert max(waited) < MOST_LATENCY
    assert torch.equal(rerun(client, animation(), "motion_model").latents(), good_latents)
    after = files_around(server.base_directory, models.checkpoint.parent.parent)
    assert [path for path in before | after if before.get(path) != after.get(path)] == []


@pytest.fixture(scope="module")
def _clip(server):
    """A clip to train on, in the server's input folder."""
    folder = server.base_directory / "input" / CLIPS["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (Image.new("RGB", (64, 64), (level, 0, 0)) for level in (60, 160))
    first.save(folder / "red.webp", save_all=True, append_images=[second], lossless=True)
    yield
    shutil.rmtree(folder)


def files_around(base: Path, models: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files of the server, of the models and of this repository but those that are written to."""
    may_change = {"output", "temp", "user", "__pycache__", "comfyui.log"}
    found = {}
    for root in (base, models, PACK_ROOT):
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in may_change and not name.startswith(".")]
            for name in set(files) - may_change:
                state = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (state.st_size, state.st_mtime_ns)
    return found


@contextlib.contextmanager
def asked_for_the_queue(url: str) -> Iterator[list[float]]:
    """Ask for the queue again and again; yields how long each answer took."""
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    seconds, ended = [0.0], threading.Event()

    def keep_asking() -> None:
        while not ended.wait(0.05):
            start = time.monotonic()
            with contextlib.suppress(OSError):
                ask(f"{url}/queue", timeout=2 * MOST_LATENCY).close()
            seconds.append(time.monotonic() - start)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join()


def run(client: ComfyClient, prompt: Prompt) -> tuple[str, str, str]:
    """How a prompt ended: ``"ran"`` or the name of what was raised, where, and what it said."""
    try:
        prompt_id = client.queue(prompt)
        try:
            return "ran", "", json.dumps(client.wait(prompt_id, timeout=MOST_SECONDS)["outputs"])
        except PromptFailedError as error:
            return error.exception_type, error.node_type, error.exception_message
        except LoomError:
            client.cancel(prompt_id)
            return "did not end", "", ""
    except PromptRejectedError as error:
        problems = [(node["class_type"], problem) for node in error.node_errors.values() for problem in node["errors"]]
        for node_type, problem in problems:
            if "exception" in problem["type"]:
                return problem["extra_info"].get("exception_type", problem["type"]), node_type, problem["details"]
        return "rejected", "", "; ".join(f"{problem['message']}: {problem['details']}" for _, problem in problems)
    except LoomError as error:
        return "HTTP error", "", str(error)


def complaints(client: ComfyClient, prompts: Iterable[tuple[str, Prompt]]) -> list[str]:
    """What is wrong with how prompts ended, each behind a prompt's title."""
    found = []
    for title, prompt in prompts:
        kind, where, said = run(client, prompt)
        if kind in ("did not end", "HTTP error"):
            return [*found, f"{title}: {kind} {said}"]  # nothing that follows would run
        elif kind not in ("ran", "rejected") and not kind.startswith(OURS):
            found.append(f"{title}: {kind} of {where}: {said[:200]}")
        elif kind.startswith(OURS) and (len(said) > MOST_CHARACTERS or "\n" in said or said[-1] not in ".?!)'"):
            found.append(f"{title}: no sentence: {said[:200]}")
        if SECRET in said:
            found.append(f"{title}: tells a secret")
    return found


# --- wrong values for every input ------------------------------------------------------------------------------------

NUMBERS = [
    True, -1, 0, 1, 1.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf"), 10**8, -(10**9), 2**31, 2**63, 2**64,
    10**30, 10**400, "", "0", "1e999", "nan", "abc", "x" * 100_000, "\x00", None, [], {}, {"__value__": [1, 2]}, ["fuzzed", 0],
    ["positive", 0], ["values", 0],
]  # fmt: skip
TEXTS = [
    "", " ", ",", "{}", "{", "}", ":::", ",,,", "0: 1, 0: 2", "0:9**9**9", "0: t", "0:(1", "0:`t", '"0":"a"', "0:a\n99999999:b", "-99:1",
    "101%:1", "1e5:1", "0:nan", "0:inf", "0:1e999", "0: 1e308, 3: -1e308", "0:1\n" * 5000, "0:" + "(" * 5000, "0: 1;2", "max_f:1",
    "max_f/0:1", "0:1/0", "0:log(-1)", "0:a --neg b --neg c", "0" * 1000 + ":1", "\uff10:1", "\u0663:1", "\r\r0:1", "\u20280:1", "\ud800",
    "1," * 500_000, "\n" * 100_000, "../../../etc/passwd", "%s%n", "<b>", 5, None, {}, [], ["fuzzed", 0], ["blocks", 0],
]  # fmt: skip
LINKS = [["fuzzed", 0], ["frames", 0], ["positive", 0], ["image", 0], ["values", 0], ["clips", 0]]  # with others ComfyUI itself fails
CLIPS = {"folder": "clips", "width": 64, "height": 64, "frames": 2, "stride": 1, "flip": False, "default_caption": "x"}
PRIMITIVES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def sources() -> Prompt:
    """A node for each type of link."""
    prompt = {name: inputs for name, inputs in animation().items() if name not in ("sampled", "saved")}
    return prompt | {
        "image": node("EmptyImage", width=32, height=32, batch_size=4, color=0),
        "mask": node("SolidMask", value=1.0, width=32, height=32),
        "values": node("LoomFrameValues", text="0: 1", frames=4, easing="linear"),
        "curve": node("LoomStepCurve", text="0%: 1", easing="linear"),
        "blocks": node("LoomMotionBlocks", down=1.0, mid=1.0, up=1.0),
        "clips": node("LoomLoadTrainingClips", vae=["checkpoint", 2], clip=["checkpoint", 1], **CLIPS),
    }


def shown(prompt: Prompt, outputs: list[str]) -> Prompt:
    """The prompt with something behind the node ``fuzzed`` that makes it run."""
    if "MODEL" in outputs:
        return {**prompt, "sampled": changed({"sampled": loom_sampler("fuzzed")}, "sampled", steps=1)["sampled"], "saved": save_latents()}
    return {**prompt, "shown": node("PreviewAny", source=["fuzzed", 0])}


def wrong_prompts(info: dict, rng: random.Random) -> Iterator[tuple[str, Prompt]]:
    """For each node valid prompts but for one input."""
    links = {kind: [name, i] for name, source in sources().items() for i, kind in enumerate(info[source["class_type"]]["output"])}
    small = {**CLIPS, "frames": 4, "steps": 1, "file": f"checkpoints/{CHECKPOINT}"}
    for name in sorted(name for name in info if name.startswith("Loom")):
        kinds, inputs = {}, {}
        for key, (kind, *options) in {**info[name]["input"]["required"], **info[name]["input"].get("optional", {})}.items():
            kinds[key] = "COMBO" if isinstance(kind, list) else kind
            choices = kind if isinstance(kind, list) else options[0].get("options", [0]) if options else [0]
            if kinds[key] in PRIMITIVES:
                inputs[key] = small.get(key, options[0].get("default", choices[0] if choices else ""))
            elif key in info[name]["input"]["required"] or rng.random() < 0.3:
                inputs[key] = next((links[part] for part in kind.split(",") if part in links), ["frames", 0])  # of the wrong kind where no source is
        for key in rng.sample(list(kinds), min(len(kinds), 2)):
            # ComfyUI itself looks for an output where a node that has none is linked to itself.
            links_to = LINKS if info[name]["output"] else LINKS[1:]
            values = TEXTS if kinds[key] == "STRING" else NUMBERS if kinds[key] in PRIMITIVES else links_to
            value = rng.choice(values)
            prompt = {**sources(), "fuzzed": node(name, **{**inputs, key: value})}
            is_output = info[name]["output_node"] or not info[name]["output"]
            yield f"{name}, {key}={value!r:.60}", prompt if is_output else shown(prompt, info[name]["output"])


def test_wrong_inputs_of_every_node(client):
    assert complaints(client, wrong_prompts(client.object_info(), random.Random(SEED))) == []


# --- names that lead elsewhere ---------------------------------------------------------------------------------------

NAMES = [
    "../secret.safetensors", "../../secret.safetensors", "..\\secret.safetensors", "%2e%2e/secret.safetensors", "./../secret.safetensors",
    "....//secret.safetensors", "\x00../secret.safetensors", "a/../../secret.safetensors", "../", ".", "", "/", "//", "/etc/passwd",
    "/proc/self/environ", "/dev/zero", "~/x", "file:///etc/passwd", "a" * 5000, "a/" * 2000 + "b", "\ud800", "con", "x\n", "a\tb", "-rf", "*",
    "|cat", "$(id)", "%year%/../../../x", "animatediff_models/../../x", " ", 5, None, ["a", "b", "c"], {"a": 1},
]  # fmt: skip


@pytest.fixture
def _secret(server, models):
    """A file beside the folders that names are looked up in, and a link to it in none of them."""
    header = json.dumps({"__metadata__": {"of": SECRET}, SECRET: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    places = [models.motion_folder.parent, server.base_directory, server.base_directory / "models"]
    for place in places:
        place.mkdir(exist_ok=True)
        (place / "secret.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    yield
    for place in places:
        (place / "secret.safetensors").unlink()


def named(rng: random.Random) -> Iterator[tuple[str, Prompt]]:
    """For each name one of the nodes that take names, given as a constant and through a link."""
    base = {name: inputs for name, inputs in animation().items() if name in ("checkpoint", "motion_model")}
    nodes = itertools.cycle(rng.sample([
        ("LoomLoadMotionModel", "motion_model_name", {}),
        ("LoomLoadMotionLora", "motion_lora_name", {"motion_model": ["motion_model", 0], "strength": 1.0}),
        ("LoomLoadDomainAdapter", "lora_name", {"model": ["checkpoint", 0], "strength": 1.0}),
        ("LoomInspectFile", "file", {}),
        ("LoomLoadTrainingClips", "folder", {"vae": ["checkpoint", 2], "clip": ["checkpoint", 1], **CLIPS}),
        ("LoomSaveMotionModel", "filename_prefix", {"motion_model": ["motion_model", 0], "dtype": "fp16", "layout": "AnimateDiff"}),
    ], 6))  # fmt: skip
    for name, (class_type, key, inputs) in zip(NAMES * 2, nodes, strict=False):
        prompt = {**base, "named": node(class_type, **{**inputs, key: name})}
        if class_type not in ("LoomInspectFile", "LoomSaveMotionModel"):
            prompt = with_preview(prompt)
        yield f"{class_type}, {name!r:.60}", prompt
        prompt["switch"] = node("ComfySwitchNode", switch=True, on_true=name, on_false=name)
        yield f"{class_type}, {name!r:.60} through a link", changed(prompt, "named", **{key: ["switch", 0]})


def with_preview(prompt: Prompt) -> Prompt:
    return {**prompt, "shown": node("PreviewAny", source=["named", 0])}


@pytest.mark.usefixtures("_secret")
def test_names_lead_nowhere_else(client):
    assert complaints(client, named(random.Random(SEED))) == []


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_file_names_that_are_no_text(client, models, motion_folder):
    """ComfyUI's queue ends for good where such a name gets into its log."""
    good, damaged = (os.fsdecode(name) for name in (b"good\xe9.safetensors", b"damaged\xe9.safetensors"))
    shutil.copy(models.motion_model, motion_folder / good)
    (motion_folder / damaged).write_bytes(b"<html>")
    inspected = {"named": node("LoomInspectFile", file=f"animatediff_models/{good}")}
    loaded = {name: with_preview({"named": node("LoomLoadMotionModel", motion_model_name=name)}) for name in (good, damaged)}
    assert complaints(client, [("Inspect File", inspected), *loaded.items()]) == []


# --- small prompts that ask for much ---------------------------------------------------------------------------------


def values(text: str, class_type: str = "LoomFrameValues", **inputs: object) -> Prompt:
    frames = {} if class_type == "LoomStepCurve" else {"frames": 16}
    schedule = {"hold": 0.0, "closed_loop": False} if class_type.endswith("Schedule") else {}
    prompts = {"clip": ["checkpoint", 1], "interpolation": "linear"} if class_type == "LoomPromptSchedule" else {}
    shown = with_preview({"named": node(class_type, text=text, easing="linear", **{**frames, **schedule, **prompts, **inputs})})
    return {**shown, "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)} if prompts else shown


def prompts(head: str, count: int) -> Prompt:
    """Many prompts with a long head, the last of them wrong: a schedule that is read and no more, for prompts take long to encode."""
    return values("\n".join([head, *(f"{i}:a" for i in range(count)), f"{count}: `(`"]), "LoomPromptSchedule")


def applied(class_type: str, **inputs: object) -> Prompt:
    return {**changed(animation(), "sampled", model=["named", 0]), "named": node(class_type, model=["animated", 0], **inputs)}


GREEDY = {
    **{f"{name}, frames {frames:.0e}": values("0: 1", name, frames=frames) for name in ("LoomFrameValues", "LoomValueSchedule", "LoomPromptSchedule") for frames in (10**8, 5000)},
    "FreeNoise of 1e9": applied("LoomApplyFreeNoise", context_length=10**9, context_overlap=4, closed_loop=True),
    "FreeNoise of -5": applied("LoomApplyFreeNoise", context_length=-5, context_overlap=-9, closed_loop=True),
    "windows of 1e9": applied(
        "LoomContextWindows", context_length=10**9, context_overlap=4, context_schedule="standard_static", fuse_method="pyramid",
        context_stride=1, closed_loop=False, freenoise=False,
    ),
    "head of formulas": prompts(", ".join(f"`sin(t+{i})*cos(t*{i})`" for i in range(50)), 2500),
    "head of 10,000 characters": prompts("h " * 5_000, 2200),
    "value schedule of 100,000": values(",".join(f"{i}:sin(t)" for i in range(6500)), "LoomValueSchedule"),
    "brackets": values("0:" + "(" * 49_990 + "1" + ")" * 49_990, "LoomValueSchedule"),
    "a megabyte": values("0:1," * 250_000),
    "ten megabytes of blanks": values(" " * 10_000_000 + "0:1"),
    "a curve of a megabyte": values("1," * 500_000, "LoomStepCurve"),
    "nothing": values(",", "LoomValueSchedule"),
    "from 1e308 to -1e308": values("0: 1e308, 15: -1e308"),
    "chart of 1e308 to -1e308": values("0: 1e308, 15: -1e308", "LoomValueSchedule"),
    **{f"{key} {number}": changed(animation(), "animated", **{key: number}) for key in ("start_percent", "strength", "motion_scale") for number in (float("nan"), -5.0, 99.0)},
    "hold NaN": values("0: 1\n8: 2", "LoomValueSchedule", hold=float("nan")),
}  # fmt: skip


def test_small_prompts_that_ask_for_much(client):
    assert complaints(client, GREEDY.items()) == []
