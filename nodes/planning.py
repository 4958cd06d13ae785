"""Nodes that say what will happen."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.charts.plan_plot import draw_plan
from .host.runs.run_plan import describe_plan, plan_animation
from .host.types import CATEGORY
from .loom_node import LoomNode


class AnimationPlanNode(LoomNode):
    """What sampling an animation will do, and what is likely to go wrong."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomPlan",
            display_name="Animation Plan",
            category=CATEGORY,
            description="Shows what sampling will do before you start it: which motion models run when, frames and context "
            "windows, noise schedule, cost and memory. Warns of likely problems.",
            search_aliases=["animatediff", "animate diff", "motion module", "dry run", "memory estimate", "check settings", "preflight"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model as the sampler gets it, after all nodes that change it."),
                io.Latent.Input("latent", tooltip="The latent as the sampler gets it: the frames of one clip."),
                io.Int.Input(
                    "steps", default=20, min=1, max=10000,
                    tooltip="Number of denoising steps, as in the sampler. Used for the number of UNet calls and for warnings.",
                ),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Classifier-free guidance, as in the sampler. Used for the memory estimate and for warnings.",
                ),
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="The plan as text. Connect to Preview as Text."),
                io.Image.Output(
                    "picture", display_name="picture",
                    tooltip="A chart of the windows over the frames and of the motion models over the sampling.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, latent: io.Latent.Type, steps: int = 20, cfg: float = 7.5) -> io.NodeOutput:
        plan = plan_animation(model, latent, steps, cfg)
        text, picture = describe_plan(plan), draw_plan(plan)
        shown = {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput(text, picture, ui=shown)


NODES = [AnimationPlanNode]
