"""ComfyUI's VAE and text encoder as plain functions, for making training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy.sdxl_clip import SDXLClipModel
from torch import Tensor

from ....motion_models.training.errors import TrainingDataError
from ....motion_models.training.latent_clips import Text
from ....motion_models.training.training_state import hash_of

TOKENS = 77
"""What one run of CLIP takes of a caption, first and last included; the rest is cut, as in the original training."""


def frame_encoder(vae: comfy.sd.VAE) -> Callable[[Tensor], Tensor]:
    """The VAE (else TrainingDataError) as a function from ``(n, 3, h, w)`` frames, 0 to 1, to unscaled latents.

    It gives the mean of the distribution that the original training drew from, whose spread is far below a latent's.
    """
    if vae is None or getattr(vae, "first_stage_model", None) is None:
        raise TrainingDataError("vae is empty: the checkpoint has no VAE. Connect one from Load VAE.")
    return lambda frames: vae.encode(frames.movedim(1, -1))


def text_encoder(clip: comfy.sd.CLIP) -> Callable[[str], Text]:
    """The text encoder (else TrainingDataError) as a function from a caption to a ``Text``, pooled for SDXL.

    Parentheses in a caption are just that, not weights as in a prompt.
    """
    if clip is None:
        raise TrainingDataError("clip is empty: the checkpoint has no text encoder. Connect one from Load CLIP.")

    def encode(caption: str) -> Text:
        context, pooled = clip.encode_from_tokens(clip.tokenize(caption, disable_weights=True), return_pooled=True)
        return (context[0, :TOKENS], pooled[0]) if _pools(clip) else context[0, :TOKENS]

    return encode


def _pools(clip: comfy.sd.CLIP) -> bool:
    # SD1.5's encoder gives a pooled embedding, too, but its UNet has no use for it.
    return isinstance(clip.cond_stage_model, SDXLClipModel)


def too_long(clip: comfy.sd.CLIP, captions: Iterable[str]) -> list[str]:
    """Return the captions whose end is cut off."""
    return [
        caption for caption in captions
        if any(len(batches) > 1 for batches in clip.tokenize(caption, disable_weights=True).values())
    ]  # fmt: skip


def vae_id(vae: comfy.sd.VAE) -> str:
    """Tells a VAE from others, by its weights."""
    return hash_of(_weights(vae.patcher))


def text_encoder_id(clip: comfy.sd.CLIP) -> str:
    """Tells a text encoder from others, by its weights, LoRAs and settings."""
    pooled = " pooled" if _pools(clip) else ""
    return f"{hash_of(_weights(clip.patcher))} {clip.layer_idx} {sorted(clip.tokenizer_options.items())}{pooled}"


def _weights(patcher: ModelPatcher) -> Iterator[tuple[str, Tensor]]:
    # Not the state dict: while a LoRA's model is loaded, that has the LoRA in it.
    for name, ((weight, _), *patches) in patcher.get_key_patches().items():
        yield name, weight
        for strength, patch, strength_model, *_ in patches:
            label = f"{name} {strength} {strength_model}"
            yield from ((label, tensor) for tensor in _tensors(getattr(patch, "weights", patch)))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
