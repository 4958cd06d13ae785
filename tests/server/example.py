"""The example workflow, and how to make it small enough for a CPU."""

from __future__ import annotations

import json
from typing import Any

from launcher.client import Prompt
from launcher.pack import PACK_ROOT

from .world import CHECKPOINT, MOTION_MODEL

FOLDER = PACK_ROOT / "example_workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load_example(name: str = "text_to_animation") -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def find(prompt: Prompt, class_type: str) -> str:
    """The id of the one node of a class."""
    (node_id,) = [node_id for node_id, node in prompt.items() if node["class_type"] == class_type]
    return node_id


def shrink(prompt: Prompt) -> Prompt:
    """Put in the tiny models, 64 pixels and two steps; leave everything else as users get it."""
    prompt[find(prompt, "CheckpointLoaderSimple")]["inputs"]["ckpt_name"] = CHECKPOINT
    prompt[find(prompt, "LoomLoadMotionModel")]["inputs"]["motion_model_name"] = MOTION_MODEL
    prompt[find(prompt, "LoomEmptyAnimationLatent")]["inputs"] |= {"width": 64, "height": 64}
    prompt[find(prompt, "LoomSampler")]["inputs"]["steps"] = 2
    return prompt
