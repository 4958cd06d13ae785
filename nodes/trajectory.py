"""The node that lets a subject go along a path."""

from __future__ import annotations

from comfy_api.latest import io

from .host.charts.path_chart import draw_paths, empty_frames
from .host.motion.box_attention import Trajectory
from .host.motion.curves import EASINGS
from .host.motion.fitted_images import PIXELS_PER_LATENT
from .host.motion.frame_values import frames_of_latent
from .host.motion.prompt_words import find_words
from .host.runs.trajectory_runs import paths_of, set_trajectory
from .host.types import CATEGORY, InvalidInput
from .loom_node import LoomNode

_FRAMES, _SQUARE = 16, (64, 64)  # of a preview without a latent, in latent pixels
_PATH = "0: 0.25, 0.25\n50%: 0.25, 0.75\n-1: 0.75, 0.75"


class TrajectoryNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def share(name: str, default: float, least: float = 0.0, **options) -> io.Float.Input:
            return io.Float.Input(name, default=default, min=least, max=1.0, step=0.01, round=0.001, **options)

        return io.Schema(
            node_id="LoomTrajectory",
            category=f"{CATEGORY}/steering",
            search_aliases=["freetraj", "path", "drag", "bounding box", "move along a path", "motion path", "trailblazer"],
            inputs=[
                io.Model.Input("model"),
                io.String.Input("path", default=_PATH, multiline=True),
                share("width", 0.4, 0.01),
                share("height", 0.4, 0.01),
                io.Combo.Input("easing", options=EASINGS, default=EASINGS[0]),
                io.String.Input("words", default=""),
                io.String.Input("prompt", default="", multiline=True),
                io.Float.Input("strength", default=30.0, min=0.0, max=100.0, step=1.0, round=0.001),
                io.Float.Input("word_strength", default=30.0, min=0.0, max=100.0, step=1.0, round=0.001),
                share("noise", 1.0),
                io.Boolean.Input("carry", default=True),
                share("end_percent", 0.75),
                io.Clip.Input("clip", optional=True),
                io.Latent.Input("latent", optional=True),
                io.Image.Input("images", optional=True),
            ],
            outputs=[io.Model.Output("model"), io.Image.Output("preview")],
        )

    @classmethod
    def validate_inputs(cls, path: str = _PATH, width: float = 0.4, height: float = 0.4) -> bool:
        Trajectory(path, (width, height))  # checks them
        return True

    @classmethod
    def execute(
        cls, model: io.Model.Type, path: str = _PATH, width: float = 0.4, height: float = 0.4, easing: str = EASINGS[0],
        words: str = "", prompt: str = "", strength: float = 30.0, word_strength: float = 30.0, noise: float = 1.0,
        carry: bool = True, end_percent: float = 0.75, clip: io.Clip.Type | None = None, latent: io.Latent.Type | None = None,
        images: io.Image.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        if words.strip() and clip is None:
            raise InvalidInput("words are found in the prompt by the CLIP that encodes it. Connect it to clip, or leave words empty.")
        found = find_words(clip, prompt, words) if words.strip() else None
        model = model.clone()
        set_trajectory(
            model, Trajectory(path, (width, height), easing, strength, word_strength, noise, carry, end_percent, found)
        )
        return io.NodeOutput(model, _preview(model, latent, images))


def _preview(model: io.Model.Type, latent: io.Latent.Type | None, images: io.Image.Type | None):
    """All paths of a MODEL over images or, without those, over empty frames as a latent has them."""
    if images is None:
        frames, size = (_FRAMES, _SQUARE) if latent is None else (frames_of_latent(latent), latent["samples"].shape[-2:])
        images = empty_frames(frames, *(side * PIXELS_PER_LATENT for side in size))
    paths = paths_of(model, len(images), latent is not None)
    return draw_paths(images, paths) if isinstance(paths, list) else paths


NODES = [TrajectoryNode]
