"""FreeInit around any sampler: whole runs, each of which starts from what the one before arrived at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import comfy.model_management
import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....animation.drawn_noise import DrawnNoise
from ....animation.freeinit import FreeInit, LowPass, Method, Restart
from ....motion_models.errors import InvalidInput
from ..types import logger
from .clip_seeds import clip_seed
from .run_wrappers import (
    DRAWN_NOISE_KEY,
    FREEINIT_KEY,
    NOISE_KEYS,
    check_is_batch_of_frames,
    clips_of,
    setting_of,
    wrap_run,
)
from .starting_noise import change_clips

# What a node offers; frozen, as part of saved workflows.
LOW_PASSES = [low_pass.value for low_pass in LowPass]
RESTARTS = [restart.value for restart in Restart]
METHODS = [method.value for method in Method]


def set_freeinit(
    model: ModelPatcher, iterations: int, low_pass: str, spatial_cutoff: float, temporal_cutoff: float, order: int,
    coarse_to_fine: bool, restart: str = RESTARTS[0], method: str = METHODS[0],
) -> None:  # fmt: skip
    """Let ``model``, the caller's own clone, be sampled with FreeInit, in place of an earlier setting; see ``FreeInit``."""
    freeinit = FreeInit(
        iterations, LowPass(low_pass), spatial_cutoff, temporal_cutoff, order, coarse_to_fine, Restart(restart), Method(method)
    )
    wrap_run(model, FREEINIT_KEY, _SampleWithFreeInit(freeinit))


@dataclass(frozen=True)
class _SampleWithFreeInit:
    """The ``OUTER_SAMPLE`` wrapper."""

    setting: FreeInit

    def __call__(
        self, executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False,
        seed=None, **kwargs,
    ):  # fmt: skip
        guider = executor.class_obj
        runs = self.setting.sigmas_of_runs(sigmas)
        if len(runs) > 1:
            _check_run(guider, noise, sigmas)
            _check_method(guider, self.setting.method)
            logger.info("%s: %d runs of %s steps.", self.setting.method.value, len(runs), ", ".join(str(len(run) - 1) for run in runs))
        restart = _Restart(self.setting, guider, noise, latent_image, sampler, sigmas, seed or 0)
        conds, result = guider.conds, None
        for number, run in enumerate(runs):
            start = noise if result is None else restart.noise_after(result, number, runs[number - 1][-1])
            # A run changes its conditioning into what its steps need; the next run needs what was there before.
            guider.conds = {name: [cond.copy() for cond in conds[name] or ()] for name in conds}
            comfy.model_management.throw_exception_if_processing_interrupted()
            report = callback and _counting_all(callback, [len(run) - 1 for run in runs], number)
            result = executor(start, latent_image, sampler, run, denoise_mask, report, disable_pbar, seed, **kwargs)
        return result


def _check_run(guider, noise: Tensor, sigmas: Tensor) -> None:
    """Refuse a run that does not go from the noise that it is given to finished frames."""
    check_is_batch_of_frames(noise, "FreeInit")
    if float(sigmas[-1]) > 0.0:
        raise InvalidInput(
            "FreeInit starts again from finished frames, but this run leaves noise in them. Let one sampler run all "
            "steps: return_with_leftover_noise off, no end_at_step, no split sigmas."
        )
    if not torch.count_nonzero(noise):
        raise InvalidInput(
            "FreeInit modifies the noise that a run starts from, but this run has none. Let the sampler add noise: "
            "add_noise on, or RandomNoise instead of DisableNoise."
        )
    shuffles_itself = guider.model_patcher.get_wrappers(WrappersMP.SAMPLER_SAMPLE, "ContextWindows_sampler_sample")
    if shuffles_itself and getattr(guider.model_options.get("context_handler"), "freenoise", False):
        raise InvalidInput(
            "ComfyUI's Context Windows node has freenoise on, which would shuffle what FreeInit keeps from run to run. "
            "Turn it off there, and use Apply FreeNoise."
        )


def _check_method(guider, method: Method) -> None:
    sampling = guider.model_patcher.get_model_object("model_sampling")
    if method is Method.FREQPRIOR and not isinstance(sampling, comfy.model_sampling.EPS):
        raise InvalidInput(
            f"FreqPrior adds noise to half-finished frames as Stable Diffusion does; the connected model samples as "
            f"{type(sampling).__name__}. Set method to {Method.FREEINIT.value}."
        )


def _counting_all(callback: Callable, steps: list[int], number: int) -> Callable:
    """The sampler's callback for one run: it counts that run's steps as steps of all."""
    before, total = sum(steps[:number]), sum(steps)
    return lambda step, x0, x, _: callback(before + step, x0, x, total)


class _Restart:
    """Noise for the second and further runs; each clip of a batch is for itself."""

    def __init__(self, freeinit: FreeInit, guider, noise: Tensor, latent: Tensor, sampler, sigmas: Tensor, seed: int):
        patcher = guider.model_patcher
        self.freeinit = freeinit
        self.noise_settings = [setting_of(patcher, key) for key in NOISE_KEYS]
        self.drawn: DrawnNoise | None = setting_of(patcher, DRAWN_NOISE_KEY)
        self.scale_factor = getattr(patcher.model.latent_format, "scale_factor", 1.0)
        self.model_sampling = patcher.get_model_object("model_sampling")
        self.process_latent_in = patcher.get_model_object("process_latent_in")
        self.clips = clips_of(guider)
        self.noise, self.latent = noise.float(), latent
        self.seed, self.sigma = seed, sigmas[0].to(noise.device)
        # A guider has its inner_model only while a run lasts.
        model = SimpleNamespace(inner_model=SimpleNamespace(model_sampling=self.model_sampling))
        self.max_denoise = sampler.max_denoise(model, sigmas)
        self.generators = [torch.Generator().manual_seed(clip_seed(seed, clip)) for clip in range(self.clips)]
        self._draw()  # the numbers that the first run's noise is made of

    def noise_after(self, result: Tensor, number: int, arrived: Tensor) -> Tensor:
        """Noise for run ``number``, from 1, that goes on from a result, ``(clips f) c h w`` in the VAE's scale, as the caller's noise.

        ``arrived`` is the noise level of the result, which is 0 but for FreqPrior's.

        The result is brought to the run's first noise level with the first run's noise. What is mixed is the noise which
        leads a sampler there. With pure noise to begin with, sampler and paper agree:
        sqrt(abar) z_0 + sqrt(1 - abar) noise is the sampler's start, divided by sqrt(1 + sigma^2). With frames to begin
        with, their part of the start stays, and only the noise is mixed.
        """
        result = result.to(self.noise)
        if self.freeinit.restart is Restart.PREVIOUS:
            sigma = self.model_sampling.sigmas[-1].to(self.noise) / self.scale_factor
            low = (result + sigma * self.noise) / (1 + sigma**2).sqrt()
        else:
            is_midway = self.freeinit.method is Method.FREQPRIOR
            missing = (self.sigma**2 - arrived.to(self.sigma) ** 2).sqrt() if is_midway else self.sigma
            start = self.model_sampling.noise_scaling(missing, self.noise, self.process_latent_in(result))
            low = self._noise_that_leads_to(start)
        given = [low, self._fresh(number)]
        mix = self.freeinit.mix
        if self.freeinit.method is Method.FREQPRIOR:
            given.append(self._fresh(number + self.freeinit.iterations))
            mix = self.freeinit.mix_keeping_variance
        mixed = torch.cat([*map(mix, *(noise.chunk(self.clips) for noise in given))])
        if self.freeinit.restart is Restart.PREVIOUS:
            self.noise = mixed
        return mixed

    def _fresh(self, number: int) -> Tensor:
        """New noise for run ``number``, as the first run's was made."""
        drawn = self.drawn or DrawnNoise()
        seed = drawn.seed_of(self.seed)
        if self.drawn is None and self.freeinit.restart is Restart.FIRST:
            high = self._draw().to(self.noise)
        else:
            seed = clip_seed(seed, number)
            high = change_clips(drawn, self.noise, self.clips, seed)
        for setting in filter(None, self.noise_settings):
            high = change_clips(setting, high, self.clips, seed)
        return high

    def _noise_that_leads_to(self, start: Tensor) -> Tensor:
        """The noise for which a sampler, with what else it is given, begins at ``start``."""
        latent = self.latent.to(self.noise)
        if torch.count_nonzero(latent):  # as ComfyUI does: empty frames are not shifted
            latent = self.process_latent_in(latent)
        nothing, one = torch.zeros_like(latent), torch.ones_like(latent)

        def scaled(noise: Tensor, latent: Tensor) -> Tensor:
            return self.model_sampling.noise_scaling(self.sigma, noise, latent, self.max_denoise)

        return (start - scaled(nothing, latent)) / scaled(one, nothing)

    def _draw(self) -> Tensor:
        shape = (len(self.noise) // self.clips, *self.noise.shape[1:])
        return torch.cat([torch.randn(shape, generator=generator) for generator in self.generators])
