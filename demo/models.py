"""The demo world's networks, built with ComfyUI's own classes, and their first weights."""

from __future__ import annotations

import comfy.cli_args

# Without this ComfyUI looks for a graphics card, which isn't needed here. It must be set before what follows is imported.
comfy.cli_args.args.cpu = True
comfy.cli_args.args.use_pytorch_cross_attention = True

import comfy.ops
import torch
from comfy.ldm.modules.attention import attention_basic
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.sd1_clip import SD1Tokenizer
from comfy.taesd.taesd import TAESD
from torch import Tensor, nn
from torch.nn import functional

LATENT_SCALE = 0.18215
"""SD1.5's. TAESD works on scaled latents, so what its encoder gives is what the UNet sees."""

TOKENS, TEXT_WIDTH, TEXT_LENGTH = 49408, 768, 77
_TEXT_LAYERS, _TEXT_HEADS = 12, 12
_SHARPNESS = 2.0  # so that starts and ends get a thousandth of what a word gets
_SENTENCE = 4.0  # the sentence's share in a token
_TEXT_SEED, _TIME_SEED = 7, 8


def initialise(model: nn.Module) -> None:
    """Give PyTorch's usual first weights to layers that ComfyUI leaves as the memory was."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.Conv2d.reset_parameters(module)
        elif isinstance(module, nn.Linear):
            nn.Linear.reset_parameters(module)
        elif isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def new_vae(seed: int) -> TAESD:
    """A VAE with first weights."""
    torch.manual_seed(seed)
    vae = TAESD()
    initialise(vae)
    with torch.no_grad():
        vae.vae_scale.fill_(LATENT_SCALE)
        _pass_colours_on(vae)
    return vae


def _pass_colours_on(vae: TAESD) -> None:
    """Let the VAE begin as average pooling and nearest-neighbour enlargement of colours.

    From random weights it finds brightness in minutes and colour in hours. The first three channels carry red, green and blue
    through all layers; latents are brightness, two differences of colours, and one for whatever else is learnt.
    """
    colours = slice(0, 3)
    for layer in [*vae.taesd_encoder, *vae.taesd_decoder]:
        if isinstance(layer, nn.Conv2d):
            layer.weight[colours] = 0
            if layer.bias is not None:
                layer.bias[colours] = 0
            if layer.stride == (2, 2):
                for channel in range(3):
                    layer.weight[channel, channel] = 1 / 9
            elif layer.in_channels != 4 and layer.out_channels != 4:
                nn.init.dirac_(layer.weight[colours])
        elif hasattr(layer, "conv"):  # a block; its last convolution is added to what passes
            layer.conv[4].weight[colours] = 0
            layer.conv[4].bias[colours] = 0
    to_latents = torch.tensor([[1.3, 1.3, 1.3], [3.0, 0.0, -3.0], [-1.5, 3.0, -1.5]])
    middle = torch.full((3,), 0.42)
    first, last = vae.taesd_decoder[1], vae.taesd_encoder[-1]
    last.weight[colours, colours, 1, 1] = to_latents
    last.bias[colours] = -to_latents @ middle
    first.weight[colours, colours, 1, 1] = to_latents.inverse()
    first.bias[colours] = middle
    vae.taesd_decoder[-1].weight[:, 3:] *= 0.1


UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "channel_mult": [1],
    "num_res_blocks": [1], "transformer_depth": [1], "transformer_depth_output": [0, 1], "transformer_depth_middle": -2,
    "use_spatial_transformer": True, "context_dim": TEXT_WIDTH, "num_heads": 8, "legacy": False,
}
"""One level without a middle. ComfyUI tells SD1.5 by the widths of 320 and 768; the depth is free."""


def new_unet(seed: int) -> UNetModel:
    """An SD1.5 UNet of one level, with first weights; its last layers are zero, as residual networks begin."""
    torch.manual_seed(seed)
    unet = UNetModel(**UNET, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    initialise(unet)
    for name, module in unet.named_modules():
        if name.endswith(("out_layers.3", "proj_out")) or name == "out.2":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    unet.time_embed.load_state_dict(time_embedding_weights())
    unet.time_embed.requires_grad_(False)
    return unet


def predict(unet: UNetModel, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
    """Run the UNet in bfloat16, with an attention whose gradient is twice as fast on a CPU as that of PyTorch's own."""
    options = {"optimized_attention_override": lambda _, *args, **kwargs: attention_basic(*args, **kwargs)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return unet(latents, timesteps, context, transformer_options=options).float()


def time_embedding_weights() -> dict[str, Tensor]:
    """The UNet's time embedding: random features, the same each time. Layers behind it learn; these needn't be shipped."""
    generator = torch.Generator().manual_seed(_TIME_SEED)
    weights = {}
    for name, inputs in (("0", UNET["model_channels"]), ("2", 4 * UNET["model_channels"])):
        outputs = 4 * UNET["model_channels"]
        weights[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) * (2 / inputs) ** 0.5
        weights[f"{name}.bias"] = torch.zeros(outputs)
    return weights


def text_embeddings() -> tuple[Tensor, Tensor]:
    """CLIP-L's tables of tokens ``(49408, 768)`` and positions ``(77, 768)``: random, the same each time."""
    generator = torch.Generator().manual_seed(_TEXT_SEED)
    tokens = torch.randn(TOKENS, TEXT_WIDTH, generator=generator)
    positions = 0.1 * torch.randn(TEXT_LENGTH, TEXT_WIDTH, generator=generator)
    return tokens.half().float(), positions.half().float()  # as they are stored


def text_encoder_weights() -> dict[str, Tensor]:
    """A CLIP-L that tells every token the sentence, as a trained one does.

    Its first layer adds to each token the mean of the words before it, all that are neither start nor end. The other layers
    are zero: their residuals pass everything on to the last norm. Were each token but its own word, a base of stills would
    learn not to look at words of motion, and no motion model behind it could learn from them.
    """
    tokens, positions = text_embeddings()
    width = TEXT_WIDTH
    weights = {
        "embeddings.token_embedding.weight": tokens,
        "embeddings.position_embedding.weight": positions,
        "final_layer_norm.weight": torch.ones(width),
        "final_layer_norm.bias": torch.zeros(width),
    }
    for layer in range(_TEXT_LAYERS):
        prefix = f"encoder.layers.{layer}."
        for norm in ("layer_norm1", "layer_norm2"):
            weights[f"{prefix}{norm}.weight"] = torch.ones(width)
            weights[f"{prefix}{norm}.bias"] = torch.zeros(width)
        linear = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for name, (rows, columns) in linear.items():
            weights[f"{prefix}{name}.weight"] = torch.zeros(rows, columns)
            weights[f"{prefix}{name}.bias"] = torch.zeros(rows)
    first = "encoder.layers.0.self_attn."
    for head in range(_TEXT_HEADS):
        row = head * width // _TEXT_HEADS
        weights[f"{first}q_proj.bias"][row] = _SHARPNESS
        weights[f"{first}k_proj.weight"][row] = -_ends(tokens)
    weights[f"{first}v_proj.weight"] = torch.eye(width)
    weights[f"{first}out_proj.weight"] = _SENTENCE * torch.eye(width)
    return weights


def _ends(tokens: Tensor) -> Tensor:
    """``(768,)`` along which the embeddings of a text's start and end, which also fills it up, stand out."""
    return functional.normalize(tokens[-2:], dim=1).sum(0).half().float()


class TextEncoder:
    """What ComfyUI makes of a caption with ``text_encoder_weights``, without running eleven layers of zeros."""

    def __init__(self) -> None:
        self._tokenizer = SD1Tokenizer()
        self._tokens, self._positions = text_embeddings()

    def __call__(self, caption: str) -> Tensor:
        """Encode a caption of at most 75 tokens as ``(77, 768)``."""
        (tokens,) = self._tokenizer.tokenize_with_weights(caption)["l"]
        numbers = torch.tensor([int(token) for token, _ in tokens])
        embeddings = self._tokens[numbers] + self._positions
        normed = functional.layer_norm(embeddings, (TEXT_WIDTH,))
        scores = -_SHARPNESS * (normed @ _ends(self._tokens)) / (TEXT_WIDTH // _TEXT_HEADS) ** 0.5
        before = torch.ones(len(numbers), len(numbers), dtype=torch.bool).tril()
        attention = scores.expand(len(numbers), -1).masked_fill(~before, -torch.inf).softmax(dim=1)
        return functional.layer_norm(embeddings + _SENTENCE * (attention @ normed), (TEXT_WIDTH,))
