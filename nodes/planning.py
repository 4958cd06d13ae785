"""Nodes that say what will happen."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.charts.plan_plot import draw_plan
from .host.runs.run_plan import describe_plan, plan_animation
from .host.types import CATEGORY
from .loom_node import LoomNode


class AnimationPlanNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomPlan",
            category=CATEGORY,
            search_aliases=["dry run", "memory estimate", "check settings", "preflight"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model"),
                io.Latent.Input("latent"),
                io.Int.Input("steps", default=20, min=1, max=10000),
                io.Float.Input("cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01),
                io.Conditioning.Input("positive", optional=True),
            ],
            outputs=[io.String.Output("text"), io.Image.Output("picture")],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, latent: io.Latent.Type, steps: int = 20, cfg: float = 7.5,
        positive: io.Conditioning.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        plan = plan_animation(model, latent, steps, cfg, positive)
        text, picture = describe_plan(plan), draw_plan(plan)
        shown = {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput(text, picture, ui=shown)


NODES = [AnimationPlanNode]
