"""What the demo is to do, handed from the Python that sets up to the one that runs it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class DemoSettings:
    """All that ``launcher.demo`` needs to know; paths are absolute.

    ``prompt``, ``negative``, ``steps``, ``cfg`` and ``size``, the width and height in pixels, may be
    None, which leaves the workflow's own. ``setup_seconds`` is what the set-up took.
    """

    comfyui: str
    python: str
    checkpoint: str
    motion_model: str
    output: str
    seed: int
    frames: int
    prompt: str | None = None
    negative: str | None = None
    steps: int | None = None
    cfg: float | None = None
    size: int | None = None
    port: int | None = None
    is_demo_world: bool = False
    setup_seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DemoSettings:
        return cls(**json.loads(text))
