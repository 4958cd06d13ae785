"""The demo: one animation from a prompt, through ComfyUI's API. ComfyUI's Python runs this."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import IO, Any

from PIL import Image

from .client import ComfyClient, NodeStates, Prompt
from .demo_settings import DemoSettings
from .errors import ConnectionLostError, LoomError
from .pack import PACK_ROOT
from .progress_bar import ProgressBar
from .server import ComfyServer
from .workflow import to_prompt

WORKFLOW = PACK_ROOT / "example_workflows" / "AnimateDiff - Text to Animation.json"
_SAMPLERS = ("LoomSampler", "KSampler")
_DEMO_CUTOFF = 0.1


class Stages:
    """How long each stage of the run took, in order."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        self._since = time.monotonic()

    def finish(self, name: str) -> None:
        """Time since the last stage belongs to this one."""
        self.add(name, time.monotonic() - self._since)

    def table(self) -> str:
        rows = {**self._seconds, "Total": sum(self._seconds.values())}
        width = max(map(len, rows))
        return "\n".join(f"  {name:<{width}}  {value:7.1f} s" for name, value in rows.items())


class NodeProgress:
    """Shows the running node and adds each finished one to the stages."""

    def __init__(self, prompt: Prompt, stages: Stages) -> None:
        self._titles = {node_id: node["_meta"]["title"] for node_id, node in prompt.items()}
        self._stages = stages
        self._started: dict[str, float] = {}
        self._done: set[str] = set()
        self.bar = ProgressBar()

    def __call__(self, nodes: NodeStates) -> None:
        now = time.monotonic()
        for node_id, node in nodes.items():
            title = self._titles.get(node_id, node_id)
            started = self._started.setdefault(node_id, now)
            if node["state"] == "running":
                self.bar.show(title, node["value"], node["max"])
            elif node_id not in self._done:
                self._done.add(node_id)
                self._stages.add(title, now - started)


def run(settings: DemoSettings) -> None:
    workflow = load_workflow(WORKFLOW)
    stages = Stages()
    stages.add("Set-up", settings.setup_seconds)
    print("Starting ComfyUI ...", flush=True)
    checkpoint, motion_model = Path(settings.checkpoint), Path(settings.motion_model)
    files = {"checkpoints": [checkpoint], "animatediff_models": [motion_model]}
    comfyui, python = Path(settings.comfyui), Path(settings.python)
    server = ComfyServer(comfyui, python, model_files=files, port=settings.port)
    with server, ComfyClient(server.url) as client:
        stages.finish("Server start")
        prompt = to_prompt(workflow, client.object_info())
        fill_in(prompt, settings)
        if settings.is_demo_world:
            share_noise(prompt)
        progress = NodeProgress(prompt, stages)
        prompt_id = client.queue(prompt)
        stages.finish("Queueing")
        try:
            entry = client.wait(prompt_id, progress)
        except ConnectionLostError:
            server.wait(2)  # says why, if ComfyUI has ended
            raise
        finally:
            progress.bar.clear()
        paths = save(animation_in(entry, client), Path(settings.output))
        stages.finish("Saving")
    report(paths, settings, stages)


def load_workflow(path: Path) -> dict[str, Any]:
    try:
        workflow: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoomError(f"The example workflow '{path}' is missing.") from error
    except ValueError as error:
        raise LoomError(f"The example workflow '{path}' is not JSON: {error}.") from error
    return workflow


def fill_in(prompt: Prompt, settings: DemoSettings) -> None:
    """Put the settings into the workflow's nodes, which are found by their class.

    Raises:
        LoomError: The workflow has no node for a setting.
    """
    sampler = find_node(prompt, *_SAMPLERS)
    latent = find_node(prompt, "LoomEmptyAnimationLatent")
    checkpoint = find_node(prompt, "CheckpointLoaderSimple")
    checkpoint["ckpt_name"] = Path(settings.checkpoint).name
    motion_model = find_node(prompt, "LoomLoadMotionModel")
    motion_model["motion_model_name"] = Path(settings.motion_model).name
    sampler["seed"] = settings.seed
    latent["frames"] = settings.frames
    if settings.steps is not None:
        sampler["steps"] = settings.steps
    if settings.size is not None:
        latent["width"] = latent["height"] = settings.size
    if settings.cfg is not None:
        sampler["cfg"] = settings.cfg
    for name, text in (("positive", settings.prompt), ("negative", settings.negative)):
        if text is not None:
            encode = prompt[sampler[name][0]]
            if encode["class_type"] != "CLIPTextEncode":
                raise LoomError(f"The workflow's {name} prompt doesn't come from a CLIPTextEncode.")
            encode["inputs"]["text"] = text


def share_noise(prompt: Prompt) -> None:
    """Put Shared Noise before the sampler: in pictures as small as the demo world's, noise tints each frame by itself.

    Raises:
        LoomError: The workflow has no sampler, or more than one.
    """
    sampler = find_node(prompt, *_SAMPLERS)
    new_id = str(max(map(int, prompt)) + 1)
    inputs = {"model": sampler["model"], "cutoff": _DEMO_CUTOFF}
    prompt[new_id] = {"class_type": "LoomSharedNoise", "inputs": inputs, "_meta": {"title": "Shared Noise"}}
    sampler["model"] = [new_id, 0]


def find_node(prompt: Prompt, *classes: str) -> dict[str, Any]:
    """The inputs of the one node of a class."""
    found = [node for node in prompt.values() if node["class_type"] in classes]
    if len(found) != 1:
        names = " or ".join(classes)
        raise LoomError(f"The demo's workflow has {len(found)} nodes {names}, but should have 1.")
    inputs: dict[str, Any] = found[0]["inputs"]
    return inputs


def animation_in(entry: dict[str, Any], client: ComfyClient) -> bytes:
    """The animated WEBP among a prompt's outputs."""
    for output in entry["outputs"].values():
        for image in output.get("images", []):
            if image["filename"].endswith(".webp") and image["type"] == "output":
                return client.view(image["filename"], image["subfolder"], image["type"])
    raise LoomError("The workflow saved no animated WEBP.")


def save(animation: bytes, folder: Path) -> list[Path]:
    """Save the animation and its first, middle and last frame under the next free number.

    Raises:
        LoomError: The disk is full, or the like; no half a file is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    try:
        with _next_free(folder) as file:
            paths.append(Path(file.name))
            file.write(animation)
        with Image.open(io.BytesIO(animation)) as image:
            frames = getattr(image, "n_frames", 1)
            for frame in sorted({0, frames // 2, frames - 1}):
                image.seek(frame)
                paths.append(paths[0].with_name(f"{paths[0].stem}_frame_{frame + 1:02}.png"))
                image.convert("RGB").save(paths[-1])
    except OSError as error:
        if not paths:
            raise
        paths[-1].unlink(missing_ok=True)
        raise LoomError(f"'{paths[-1]}' can't be saved: {error.strerror or error}.") from error
    return paths


def _next_free(folder: Path) -> IO[bytes]:
    number = 1
    while True:
        try:
            return (folder / f"animation_{number:04}.webp").open("xb")
        except FileExistsError:
            number += 1


def report(paths: list[Path], settings: DemoSettings, stages: Stages) -> None:
    print("Saved:")
    for path in paths:
        inside = path.is_relative_to(Path.cwd())
        print(f"  {path.relative_to(Path.cwd()) if inside else path}")
    print(f"Seed: {settings.seed}\nTime:\n{stages.table()}")
    if settings.is_demo_world:
        print('(Rendered with the demo world\'s tiny models, which know prompts such as "a red circle')
        print(' moving left". Use your own with --checkpoint and --motion-model.)')


def main() -> None:
    run(DemoSettings.from_json(sys.argv[1]))
