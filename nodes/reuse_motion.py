"""The node that makes sampling faster by reusing what earlier steps gave."""

from __future__ import annotations

from comfy_api.latest import io

from .host.motion.reuse import Reuse
from .host.runs.reuse_runs import set_reuse
from .host.types import CATEGORY
from .loom_node import LoomNode

_STORAGE = ["device", "RAM"]


class ReuseMotionNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomReuseMotion",
            category=CATEGORY,
            search_aliases=["faster", "speed up", "cache", "deepcache", "pyramid attention broadcast"],
            inputs=[
                io.Model.Input("model"),
                io.Int.Input("interval", default=3, min=1, max=20),
                io.Int.Input("deep_interval", default=1, min=1, max=20),
                io.Float.Input("start_percent", default=0.04, min=0.0, max=1.0, step=0.001),
                io.Float.Input("end_percent", default=0.95, min=0.0, max=1.0, step=0.001),
                io.Combo.Input("keep_on", options=_STORAGE, default=_STORAGE[0], advanced=True),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float = 0.04, end_percent: float = 0.95) -> bool:
        Reuse(start_percent=start_percent, end_percent=end_percent)  # checks them
        return True

    @classmethod
    def execute(
        cls, model: io.Model.Type, interval: int = 3, deep_interval: int = 1, start_percent: float = 0.04,
        end_percent: float = 0.95, keep_on: str = _STORAGE[0],
    ) -> io.NodeOutput:  # fmt: skip
        reuse = Reuse(interval, deep_interval, start_percent, end_percent, keep_on == "RAM")
        model = model.clone()
        set_reuse(model, reuse)
        return io.NodeOutput(model)


NODES = [ReuseMotionNode]
