"""The example workflow, and how to make it small enough for a CPU."""

from __future__ import annotations

import json
from typing import Any

from launcher.client import Prompt
from launcher.pack import PACK_ROOT

from .world import CHECKPOINT, MOTION_MODEL

FOLDER = PACK_ROOT / "example_workflows"
NAMES = sorted(path.stem.removeprefix("AnimateDiff - ") for path in FOLDER.glob("*.json"))


def load_example(name: str = "Text to Animation") -> dict[str, Any]:
    return json.loads((FOLDER / f"AnimateDiff - {name}.json").read_text(encoding="utf-8"))


def find(prompt: Prompt, class_type: str) -> str:
    """The id of the one node of a class."""
    (node_id,) = [node_id for node_id, node in prompt.items() if node["class_type"] == class_type]
    return node_id


_SMALL = {
    "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
    "LoomLoadMotionModel": {"motion_model_name": MOTION_MODEL},
    "LoomEmptyAnimationLatent": {"width": 32, "height": 32},
    "ImageScaleToTotalPixels": {"megapixels": 0.01},
    "LoomSampler": {"steps": 1},
    "BasicScheduler": {"steps": 1},
    "LoomInspectFile": {"file": f"animatediff_models/{MOTION_MODEL}"},
}


def shrink(prompt: Prompt) -> Prompt:
    """Put in the tiny models, 32 pixels and one step; leave everything else as users get it.

    But for LoRAs on the checkpoint, which are left out: there are none for the tiny one. All run on SD1.5; that motion
    models for SDXL run on an SDXL is tested in tests/host.
    """
    loras = ("LoraLoaderModelOnly", "LoomLoadDomainAdapter")
    for node_id in [node_id for node_id, node in prompt.items() if node["class_type"] in loras]:
        _leave_out(prompt, node_id, "model")
    for node in prompt.values():
        node["inputs"] |= _SMALL.get(node["class_type"], {})
    return prompt


def _leave_out(prompt: Prompt, node_id: str, passed_on: str) -> None:
    """Take a node away and give those behind its first output what it got for an input."""
    source = prompt.pop(node_id)["inputs"][passed_on]
    for node in prompt.values():
        node["inputs"] |= {name: source for name, value in node["inputs"].items() if value == [node_id, 0]}
