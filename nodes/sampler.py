"""The sampler."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from .host.runs.clip_sampling import SamplerSettings, sample_clips
from .host.runs.clip_seeds import MAX_SEED
from .host.types import CATEGORY
from .loom_node import LoomNode


class AnimateDiffSamplerNode(LoomNode):
    """KSampler for clips: several animations in one batch, and a preview that shows them move."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSampler",
            display_name="AnimateDiff Sampler",
            category=CATEGORY,
            description="Samples one animation, or several at once, and shows the frames as they form (if Live preview "
            "method is on in the settings). With one clip, the result is exactly KSampler's; animated models work with any "
            "other sampler, too.",
            search_aliases=["animatediff", "animate diff", "motion module", "ksampler", "sample animation"],
            inputs=[
                io.Model.Input("model", tooltip="The animated model, from Apply Motion Model."),
                io.Conditioning.Input("positive", tooltip="What the animation should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show."),
                io.Latent.Input("latent_image", tooltip="The frames to start from; all clips, one after the other."),
                io.Int.Input(
                    "clips", default=1, min=1, max=1024,
                    tooltip="Splits the latent's frames evenly into this many separate animations: 64 frames and 4 clips are "
                    "four animations of 16 frames. The first clip uses the seed, the second the seed plus 1, and so on.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=MAX_SEED, control_after_generate=True,
                    tooltip="Seed of the noise. The same seed gives the same animation.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Number of denoising steps."),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Classifier-free guidance: how closely the prompt is followed. 7 to 8 is usual; 1 turns it off.",
                ),
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler",
                    tooltip="Sampling algorithm.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="normal",
                    tooltip="How noise is removed over the steps.",
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="1 starts from pure noise; lower values keep the look of the given frames.",
                ),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="latent", tooltip="The frames of all clips, one after the other."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        positive,
        negative,
        latent_image: io.Latent.Type,
        clips: int = 1,
        seed: int = 0,
        steps: int = 20,
        cfg: float = 7.5,
        sampler_name: str = "euler",
        scheduler: str = "normal",
        denoise: float = 1.0,
    ) -> io.NodeOutput:
        settings = SamplerSettings(seed, steps, cfg, sampler_name, scheduler, denoise)
        return io.NodeOutput(sample_clips(model, positive, negative, latent_image, clips, settings))


NODES = [AnimateDiffSamplerNode]
