"""Several clips in one latent: whatever is given for each of their frames, each clip sees what it would see alone."""

from __future__ import annotations

import comfy.gligen
import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.windows import ContextWindowsNode

from .test_windows import ReadsHints, controlled
from .world import CONTEXT, cond, make_model

FRAMES, CLIPS, SIZE, SEED = 4, 2, 8, 11
TOTAL = FRAMES * CLIPS

# Frames need not see one another here: all that matters is what each clip is given.
TINY_UNET = {
    "model_channels": 64, "channel_mult": [1], "num_res_blocks": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 0,
}  # fmt: skip


def sample_toy(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """A sampler as packs add them, Euler's."""
    return comfy.k_diffusion.sampling.sample_euler(model, x, sigmas, extra_args, callback, disable)


@pytest.fixture(scope="module")
def plain():
    with torch.inference_mode():
        return make_model(**TINY_UNET)


@pytest.fixture(scope="module")
def sdxl():
    with torch.inference_mode():
        model = make_model(adm_in_channels=8, num_classes="sequential", **TINY_UNET)
        model.model.encode_adm = lambda pooled_output, **kwargs: pooled_output
        return model


@pytest.fixture(scope="module")
def inpainting():
    with torch.inference_mode():
        model = make_model(in_channels=9, **TINY_UNET)
        model.model.concat_keys = ("mask", "masked_image")
        return model


def values(seed: int, frames: int, *shape: int) -> torch.Tensor:
    return torch.randn(frames, *shape, generator=torch.Generator().manual_seed(seed))


class AddsHints(torch.nn.Module):
    """A control network that adds what it is given to the middle of the UNet."""

    dtype = torch.float32

    def forward(self, x, hint, timesteps, context, **extra):
        assert len(hint) == len(x)
        assert hint.shape[1] == 4
        return {"input": [], "middle": [torch.nn.functional.adaptive_avg_pool2d(hint, x.shape[-2:]).mean(1, True)], "output": []}


class Given:
    """Inputs that have an entry for each of so many frames; of one clip, where they are for all frames of all."""

    def __init__(self, frames: int, clip: int | None = None):
        self.frames, self.clip = frames, clip

    def __call__(self, seed: int, *shape: int) -> torch.Tensor:
        given = values(seed, self.frames, *shape)
        return given if self.clip is None or self.frames != TOTAL else given[self.clip * FRAMES :][:FRAMES]

    def prompts(self):
        return {"positive": [[self(1, 7, CONTEXT), {}]], "negative": [[self(2, 7, CONTEXT), {}]]}

    def pooled(self):
        return {name: [[cond(seed)[0][0], {"pooled_output": self(seed, 8)}]] for seed, name in enumerate(("positive", "negative"))}

    def masks(self):
        mask = self(3, SIZE, SIZE).sigmoid()
        return {"positive": [*cond(1, mask=mask), *cond(5, mask=1 - mask)], "negative": [*cond(2, mask=mask), *cond(6, mask=1 - mask)]}

    def hints(self):
        _, chained = controlled(cond(), self(5, 3, SIZE, SIZE), extra=self(6, 1, SIZE, SIZE))
        positive, control = controlled(cond(1), self(7, 3, SIZE, SIZE), previous=chained, extra=self(8, 1, SIZE, SIZE))
        control.control_model, chained.control_model = AddsHints(), AddsHints()
        return {"positive": positive, "negative": [[cond(2)[0][0], {"control": control, "control_apply_to_uncond": False}]]}

    def inpainting(self):
        def prompt(seed):
            return cond(seed, concat_latent_image=self(seed, 4, SIZE, SIZE), concat_mask=(self(3, 1, SIZE, SIZE) > 0).float())

        return {"positive": prompt(1), "negative": prompt(2)}

    def noise_masks(self):
        return {"noise_mask": (self(8, 1, SIZE, SIZE) > 0).float()}


def run(model, latent, clips=1, seed=SEED, positive=None, negative=None, noise_mask=None, **settings):
    settings = {"steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", **settings}
    latent = {"samples": latent} if noise_mask is None else {"samples": latent, "noise_mask": noise_mask}
    return sample_clips(model, positive or cond(1), negative or cond(2), latent, clips, SamplerSettings(seed, **settings))["samples"]


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, as a part of the largest value: matrix products of another size round differently."""
    return ((a - b).abs().max() / b.abs().max()).item()


WAYS = {
    "one batch": ({}, None),
    "windows": ({}, 3),
    "another pack's sampler": ({"sampler_name": "toy"}, None),
    "dpm_adaptive": ({"sampler_name": "dpm_adaptive", "denoise": 0.1}, None),
}
KINDS = {
    "prompts": "plain", "pooled": "sdxl", "masks": "plain", "hints": "plain", "inpainting": "inpainting", "noise_masks": "plain",
}  # fmt: skip


# dpm_adaptive takes many steps, and is run one clip after the other, just as another pack's sampler.
@pytest.mark.parametrize(("kind", "way"), [(kind, way) for kind in KINDS for way in WAYS if way != "dpm_adaptive" or kind == "prompts"])
def test_each_clip_is_as_if_alone(request, monkeypatch, kind, way):
    """With an entry for each frame of all clips, for each frame of a clip, or for another number that fits neither."""
    monkeypatch.setattr(comfy.k_diffusion.sampling, "sample_toy", sample_toy, raising=False)
    settings, length = WAYS[way]
    model = request.getfixturevalue(KINDS[kind])
    model = model if length is None else ContextWindowsNode.execute(model, length, 1)[0]
    latent = values(9, TOTAL, 4, SIZE, SIZE)
    for frames in (TOTAL,) if way == "dpm_adaptive" else (TOTAL, FRAMES, 2 if kind == "masks" else 3):
        together = run(model, latent, CLIPS, **getattr(Given(frames), kind)(), **settings)
        for clip in range(CLIPS):
            part = slice(clip * FRAMES, (clip + 1) * FRAMES)
            alone = run(model, latent[part], seed=SEED + clip, **getattr(Given(frames, clip), kind)(), **settings)
            assert difference(together[part], alone) < 1e-4, frames
            if frames == TOTAL and clip == 1:  # the other clip's would show
                others = run(model, latent[part], seed=SEED + clip, **getattr(Given(frames, 0), kind)(), **settings)
                assert difference(others, alone) > 1e-3


@pytest.mark.parametrize("way", [way for way in WAYS if way != "dpm_adaptive"])
def test_boxes_of_gligen_serve_every_clip(plain, monkeypatch, way):
    """Their number is none of frames, even if it is the same."""
    monkeypatch.setattr(comfy.k_diffusion.sampling, "sample_toy", sample_toy, raising=False)
    settings, length = WAYS[way]
    model = plain if length is None else ContextWindowsNode.execute(plain, length, 1)[0]

    class Boxes(torch.nn.Module):
        def set_position(self, shape, boxes, device):
            assert len(boxes) == TOTAL
            return lambda x, options: x + sum(float(box[0].mean()) for box in boxes)

        def set_empty(self, shape, device):
            return lambda x, options: x

    patcher = comfy.model_patcher.ModelPatcher(Boxes(), torch.device("cpu"), torch.device("cpu"))
    boxes = [(box, 4, 4, 0, 0) for box in values(1, TOTAL, 1, 8)]
    prompt = cond(1, gligen=("position", patcher, boxes))
    latent = values(9, TOTAL, 4, SIZE, SIZE)
    together = run(model, latent, CLIPS, positive=prompt, **settings)
    assert difference(together[FRAMES:], run(model, latent[FRAMES:], seed=SEED + 1, positive=prompt, **settings)) < 1e-4
    assert difference(together, run(model, latent, CLIPS, **settings)) > 1e-3


@pytest.mark.parametrize("failure", [None, comfy.model_management.InterruptProcessingException, RuntimeError])
@pytest.mark.parametrize("sampler_name", ["euler", "dpm_adaptive"])
def test_what_comes_in_stays_as_it_was(plain, sampler_name, failure):
    class Fails(ReadsHints):
        def forward(self, *args, **kwargs):
            if failure is not None and len(self.seen) == 2:
                raise failure("test")
            return super().forward(*args, **kwargs)

    hints = values(5, TOTAL, 3, 64, 64)
    positive, control = controlled([[values(1, TOTAL, 7, CONTEXT), {"mask": torch.ones(TOTAL, SIZE, SIZE)}]], hints)
    before = positive[0][0].clone()
    control.control_model = Fails()
    control.multigpu_clones = {torch.device("meta"): control.copy()}
    control.multigpu_clones[torch.device("meta")].control_model = None
    if failure is None:
        run(plain, values(9, TOTAL, 4, SIZE, SIZE), CLIPS, positive=positive, sampler_name=sampler_name, denoise=0.1)
    else:
        with pytest.raises(failure):
            run(plain, values(9, TOTAL, 4, SIZE, SIZE), CLIPS, positive=positive, sampler_name=sampler_name, steps=4)
    assert control.cond_hint_original is hints
    assert control.multigpu_clones[torch.device("meta")].cond_hint_original is hints
    assert torch.equal(positive[0][0], before)
    assert positive[0][1]["control"] is control
