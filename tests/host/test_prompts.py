"""Prompt Schedule and Value Schedule: what is encoded, what the UNet gets for each frame, and LoRA schedules by core's hooks."""

from __future__ import annotations

from contextlib import contextmanager

import comfy.model_base
import comfy.model_management
import comfy.sd
import comfy.supported_models
import comfy_extras.nodes_hooks as core_hooks
import folder_paths
import nodes
import pytest
import torch
from pack.animation.schedule import ScheduleError
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.charts.schedule_chart import draw_values, draw_weights
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.prompts import PromptScheduleNode, ValueScheduleNode
from pack.nodes.steering import FrameValuesNode
from safetensors.torch import save_file

from .steering_world import windowed
from .test_sampler import difference, loom
from .test_training_clips import make_clip
from .world import (
    CONTEXT,
    SDXL_SHAPE,
    SMALL_MOTION,
    SMALL_UNET,
    animate,
    make_model,
    motion_file,
    same_state,
    sample,
    state_of,
)

FRAMES = 8


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():
        return make_clip()


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALL_MOTION))


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture
def texts(clip, monkeypatch) -> list[str]:
    """What is encoded, text by text."""
    record, tokenize, encode = [], clip.tokenize, clip.encode_from_tokens_scheduled
    monkeypatch.setattr(clip, "tokenize", lambda text: (text, tokenize(text)))

    def noted(tokens):
        record.append(tokens[0])
        return encode(tokens[1])

    monkeypatch.setattr(clip, "encode_from_tokens_scheduled", noted)
    return record


def schedule(clip, text: str, frames: int = FRAMES, **inputs):
    """Conditioning, negative and chart, by the node."""
    return PromptScheduleNode.execute(clip, text, frames, **inputs).args


def encoded(clip, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding and pooled vector as CLIP Text Encode makes them."""
    ((embedding, options),) = nodes.CLIPTextEncode().encode(clip, text)[0]
    return embedding, options["pooled_output"]


@contextmanager
def unet_inputs(model):
    """For each call of the UNet, (context, y, cond_or_uncond)."""
    record = []

    def note(unet, args, kwargs):
        context = args[2] if len(args) > 2 else kwargs["context"]
        record.append((context.clone(), kwargs.get("y"), kwargs["transformer_options"]["cond_or_uncond"]))

    hook = model.model.diffusion_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield record
    finally:
        hook.remove()


# --- encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [3, 200])
def test_each_text_is_encoded_once_whatever_the_number_of_frames(clip, texts, frames):
    schedule(clip, "0: a\n1: b\n100%: a --neg ugly", frames)
    assert sorted(texts) == ["", "a", "b", "ugly"]


def test_texts_without_weight_are_not_encoded(clip, texts):
    schedule(clip, "0:: a\n4: b\n30: c", 4)
    assert sorted(texts) == ["", "a"]


def test_expressions_make_a_text_for_each_value(clip, texts):
    (values,) = ValueScheduleNode.execute("0: 0.5, 2: 1.5", 4).args[:1]
    schedule(clip, "(fog:`pw_a`), `floor(t / 2)`", 4, pw_a=values)
    assert sorted(texts) == ["", "(fog:0.5), 0", "(fog:1), 0", "(fog:1.5), 1"]


def test_one_prompt_is_clip_text_encode_bit_for_bit(clip):
    conditioning, negative, _ = schedule(clip, "a (calm:1.2) sea\nat night")
    for made, text in ((conditioning, "a (calm:1.2) sea\nat night"), (negative, "")):
        ((embedding, options),) = made
        expected, pooled = encoded(clip, text)
        assert torch.equal(embedding, expected)
        assert torch.equal(options["pooled_output"], pooled)


def test_embeddings_and_pooled_vectors_have_the_weights_that_are_stated(clip):
    ((embedding, options),), ((negative, _),), chart = schedule(clip, "0: a calm sea --neg rain\n4: a storm", 8, closed_loop=True)
    sea, storm = encoded(clip, "a calm sea"), encoded(clip, "a storm")
    shares = torch.tensor([0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25])
    assert embedding.shape == (8, 77, CONTEXT)
    torch.testing.assert_close(embedding, sea[0] * (1 - shares)[:, None, None] + storm[0] * shares[:, None, None])
    torch.testing.assert_close(options["pooled_output"], sea[1] * (1 - shares)[:, None] + storm[1] * shares[:, None])
    assert torch.equal(embedding[[0, 4]], torch.cat([sea[0], storm[0]]))
    assert torch.equal(negative[[0, 4]], torch.cat([encoded(clip, "rain")[0], encoded(clip, "")[0]]))
    assert chart.shape[0] == 1
    assert chart.shape[3] == 3


def test_slerp_keeps_lengths_of_tokens_and_pooled_vector(clip):
    ((embedding, options),), _, _ = schedule(clip, "0: a calm sea\n-1: a storm", 3, interpolation="slerp")
    for made, first, last in ((embedding, *(encoded(clip, text)[0] for text in ("a calm sea", "a storm"))), (options["pooled_output"], *(encoded(clip, text)[1] for text in ("a calm sea", "a storm")))):
        assert torch.equal(made[[0, 2]], torch.cat([first, last]))
        u, v = (torch.nn.functional.normalize(vector, dim=-1) for vector in (first, last))
        middle = torch.nn.functional.normalize(made[1:2], dim=-1)
        torch.testing.assert_close((middle * u).sum(-1), (middle * v).sum(-1), atol=2e-3, rtol=0)


def test_a_long_prompt_and_a_short_one(clip, model, motion):
    long = ", ".join(["a calm sea"] * 30)
    ((embedding, _),), _, _ = schedule(clip, f"0: a storm\n-1: {long}", 4)
    assert embedding.shape == (4, 154, CONTEXT)
    short, _ = encoded(clip, "a storm")
    assert torch.equal(embedding[0], short[0].repeat(2, 1))
    animated = animate(model, motion)
    repeated = [[short.repeat(1, 2, 1), {"pooled_output": None}]]
    plain = [[short, {"pooled_output": None}]]
    assert difference(sample(animated, positive=repeated), sample(animated, positive=plain)) < 1e-5


# --- as FizzNodes has it ----------------------------------------------------------------------------------------------


class Words:
    """A text encoder of one token for each word, its length; so that a test can name what comes out."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        return [[torch.tensor([float(len(word)) for word in text.split()] or [0.5]).view(1, -1, 1), {}]]


PAIRS = '"0": "a calm sea --neg rain", "4": "a storm with very high waves --neg fog", "6": "night"'
# What BatchPromptSchedule of ComfyUI_FizzNodes 7d6ea60 gives for 8 frames of PAIRS with that encoder, pre_text "soft light,"
# and app_text "best quality --neg blurry": run aside, its code is not here.
FIZZ = [
    [0.0, 4.0, 6.0, 1.0, 4.0, 3.0, 4.0, 7.0, 0.0, 0.0],
    [1.0, 4.5, 4.75, 2.0, 4.0, 3.25, 4.0, 6.5, 1.0, 1.75],
    [2.0, 5.0, 3.5, 3.0, 4.0, 3.5, 4.0, 6.0, 2.0, 3.5],
    [3.0, 5.5, 2.25, 4.0, 4.0, 3.75, 4.0, 5.5, 3.0, 5.25],
    [4.0, 6.0, 1.0, 5.0, 4.0, 4.0, 4.0, 5.0, 4.0, 7.0],
    [2.0, 3.0, 2.5, 5.5, 4.5, 4.0, 5.5, 2.5, 2.0, 3.5],
    [0.0, 0.0, 4.0, 6.0, 5.0, 4.0, 7.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 4.0, 6.0, 5.0, 4.0, 7.0, 0.0, 0.0, 0.0],
]
FIZZ_NEGATIVE = [[4.0, 6.0], [3.75, 6.0], [3.5, 6.0], [3.25, 6.0], [3.0, 6.0], [4.5, 3.0], [6.0, 0.0], [6.0, 0.0]]


@pytest.mark.parametrize(("start", "end", "part"), [(0, 0, slice(None)), (2, 5, slice(2, 5)), (3, 100, slice(3, None))])
def test_schedules_are_those_of_fizznodes(start, end, part):
    text = f"soft light,\n{PAIRS}\nbest quality --neg blurry"
    made = schedule(Words(), text, 8, joining="space", padding="zeros", start_frame=start, end_frame=end)
    for ((embedding, _),), expected in zip(made, (FIZZ, FIZZ_NEGATIVE), strict=False):
        torch.testing.assert_close(embedding.squeeze(-1), torch.tensor(expected[part]))


@pytest.mark.parametrize(("start", "end", "frames"), [(8, 0, 8), (5, 5, 8), (6, 2, 8), (1, 0, 0), (0, 4, 0)])
def test_a_part_without_frames_is_refused(start, end, frames):
    with pytest.raises(ScheduleError, match="start_frame"):
        schedule(Words(), PAIRS, frames, start_frame=start, end_frame=end)


# --- what the UNet gets -----------------------------------------------------------------------------------------------

TRAVEL = "0: a calm sea\n7: a storm"


def chunk(call, kind: int) -> torch.Tensor:
    context, _, chunks = call
    return context.chunk(len(chunks))[chunks.index(kind)]


def test_each_frame_gets_its_prompt(clip, model, motion):
    positive, negative, _ = schedule(clip, TRAVEL)
    with unet_inputs(model) as calls:
        out = sample(animate(model, motion), FRAMES, positive=positive, negative=negative)
    assert len(calls) == 2
    for call in calls:
        assert torch.equal(chunk(call, 0), positive[0][0])
        assert torch.equal(chunk(call, 1), negative[0][0].expand(FRAMES, -1, -1))
    assert out.isfinite().all()


def test_context_windows_take_their_frames(clip, model, motion):
    positive, negative, _ = schedule(clip, "0: a calm sea --neg rain\n11: a storm", 12)
    with unet_inputs(model) as calls:
        sample(windowed(animate(model, motion)), 12, 1, positive=positive, negative=negative)
    for call, window in zip(calls, [list(range(8)), list(range(4, 12))], strict=True):
        assert torch.equal(chunk(call, 0), positive[0][0][window])
        assert torch.equal(chunk(call, 1), negative[0][0][window])


def test_each_clip_of_a_batch_gets_the_schedule(clip, model, motion):
    positive, negative, _ = schedule(clip, TRAVEL)
    with unet_inputs(model) as calls:
        loom(animate(model, motion), {"samples": torch.zeros(2 * FRAMES, 4, 8, 8)}, 2, positive=positive, negative=negative, steps=1)
    assert torch.equal(chunk(calls[0], 0), positive[0][0].repeat(2, 1, 1))


def test_sdxl_gets_a_pooled_vector_for_each_frame(clip):
    sizes = {"num_classes": "sequential", "adm_in_channels": CONTEXT + 6 * 256}
    model = make_model(kind=comfy.supported_models.SDXL, base=comfy.model_base.SDXL, **SDXL_SHAPE, **sizes)
    positive, negative, _ = schedule(clip, TRAVEL)
    with unet_inputs(model) as calls:
        sample(model, FRAMES, 1, positive=positive, negative=negative)
    ((_, y, chunks),) = calls
    sides = dict(zip(chunks, y.chunk(2), strict=True))
    assert torch.equal(sides[0][:, :CONTEXT], positive[0][1]["pooled_output"])
    assert torch.equal(sides[1][:, :CONTEXT], negative[0][1]["pooled_output"].expand(FRAMES, -1))


# --- as many frames as the clip has -----------------------------------------------------------------------------------


def test_a_latent_sets_the_number_of_frames(clip):
    latent = {"samples": torch.zeros(FRAMES, 4, 8, 8)}
    made, expected = schedule(clip, TRAVEL, 3, latent=latent)[0], schedule(clip, TRAVEL)[0]
    assert torch.equal(made[0][0], expected[0][0])
    assert ValueScheduleNode.execute("0: 1, -1: 0", 3, latent=latent).args[1] == ValueScheduleNode.execute("0: 1, -1: 0", FRAMES).args[1]
    with pytest.raises(InvalidInput, match="it is not a batch of frames"):
        schedule(clip, TRAVEL, latent={"samples": torch.zeros(1, 16, 5, 8, 8)})


@pytest.mark.parametrize("frames", [FRAMES, 12])
def test_with_0_frames_the_prompts_are_for_the_clip_of_the_run(clip, model, motion, frames):
    """Also of one in context windows, and of several clips."""
    animated = animate(model, motion)
    animated = animated if frames == FRAMES else windowed(animated)
    latent = {"samples": torch.zeros(2 * frames, 4, 8, 8)}
    outs = []
    for number in (frames, 0):
        positive, negative, _ = schedule(clip, "0: a calm sea --neg rain\n-1: a storm\n50%: fog", number)
        outs.append(sample(animated, frames, 1, positive=positive, negative=negative))
        outs.append(loom(animated, latent, 2, positive=positive, negative=negative, steps=1))
    assert torch.equal(outs[0], outs[2])
    assert torch.equal(outs[1], outs[3])


def test_with_0_frames_a_mistake_is_told_where_it_is(clip, model, motion):
    positive, negative, chart = schedule(clip, "0: a\n-12: b", 0)
    with pytest.raises(ScheduleError, match="Line 2, character 1: a clip of 8 frames has none before -8"):
        sample(animate(model, motion), FRAMES, positive=positive, negative=negative)
    with pytest.raises(InvalidInput, match="without Apply Motion Model on the sampler's MODEL that is not known. Connect the clip's latent"):
        sample(model, FRAMES, positive=positive, negative=negative)
    (averaged,) = nodes.ConditioningAverage().addWeighted(positive, negative, 0.5)
    with pytest.raises(InvalidInput, match="A node between Prompt Schedule, whose frames is 0, and the sampler changes the embedding"):
        sample(animate(model, motion), FRAMES, positive=averaged)
    with pytest.raises(ScheduleError, match="The prompts contain formulas"):
        schedule(clip, "0: `t`", 0)
    assert chart.message.startswith("With frames 0, as many as the clip has, this output is not known before the run.")


@pytest.mark.parametrize("node", [ValueScheduleNode, FrameValuesNode])
def test_with_0_frames_values_are_for_the_clip_of_the_run(clip, model, motion, node):
    text = "0: 1\n-1: 0.2"
    outs = []
    for frames in (FRAMES, 0):
        (values,) = node.execute(text, frames).args[:1]
        outs.append(sample(animate(model, motion, strength_values=values), FRAMES))
        outs.append(schedule(clip, "(fog:`pw_a`)", 4, pw_a=values if frames == 0 else node.execute(text, 4).args[0])[0][0][0])
    assert torch.equal(outs[0], outs[2])
    assert torch.equal(outs[1], outs[3])
    (values,) = node.execute("0: 1\n-12: 0", 0).args[:1]
    with pytest.raises(InvalidInput, match="strength_values, for the clip's 8 frames: Line 2, character 1: a clip of 8 frames has none"):
        sample(animate(model, motion, strength_values=values), FRAMES)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "inputs", "wrong"),
    [
        (PromptScheduleNode, {"text": "0: a\n8: b\n8: c", "frames": 16}, "Line 3, character 1: '8' and '8' are for the same position"),
        (PromptScheduleNode, {"text": " "}, "The text is empty"),
        (PromptScheduleNode, {"text": "0: a `x`"}, "Line 1, character 7: 'x' is not known"),
        (ValueScheduleNode, {"text": "0: 1\n8: foo(t)"}, "Line 2, character 4: there is no function 'foo'"),
        (ValueScheduleNode, {"text": "0: 1\n8: 2\n8: 3"}, "Line 3, character 1: '8' and '8' are for the same position"),
    ],
)
def test_a_bad_text_is_refused_before_the_run_and_in_it(clip, node, inputs, wrong):
    assert node.validate_inputs(inputs["text"]).startswith(wrong)
    for frames in (inputs.get("frames", 16), 0):
        with pytest.raises(ScheduleError) as caught:
            node.execute(**({"clip": clip} if node is PromptScheduleNode else {}), **{**inputs, "frames": frames})
        assert str(caught.value).startswith(wrong)


@pytest.mark.parametrize(
    ("node", "inputs", "wrong"),
    [
        (PromptScheduleNode, {"text": "0: a\n16: b", "closed_loop": True}, "Line 2, character 1: '16' is after the clip's last frame, 15."),
        (PromptScheduleNode, {"text": "0: a\n50%: b\n8: c", "frames": 17}, "Line 3, character 1: '50%' and '8' are for the same position"),
        (ValueScheduleNode, {"text": "0: 1\n-20: 2"}, "Line 2, character 1: a clip of 16 frames has none before -16."),
        (ValueScheduleNode, {"text": "0: 1 / t"}, "Line 1, character 4: '1 / t' has no value for t = 0."),
    ],
)
def test_what_depends_on_the_number_of_frames_is_refused_in_the_run(clip, node, inputs, wrong):
    assert node.validate_inputs(inputs["text"]) is True
    with pytest.raises(ScheduleError) as caught:
        node.execute(**({"clip": clip} if node is PromptScheduleNode else {}), **inputs)
    assert str(caught.value).startswith(wrong)


def test_what_comes_over_a_link_is_not_judged_before_the_run():
    assert PromptScheduleNode.validate_inputs(text=None) is True
    assert ValueScheduleNode.validate_inputs(text=None) is True


def test_other_bad_input(clip):
    with pytest.raises(InvalidInput, match="clip is empty, but it must be of type CLIP. .* Some checkpoints come without one: Load CLIP"):
        PromptScheduleNode.execute(None)
    with pytest.raises(ScheduleError, match="pw_b has 3 values for 8 frames. Give one, or 8."):
        schedule(clip, "a `pw_b`", pw_b=[1.0, 2.0, 3.0])
    too_long, long = (", ".join(["a calm sea"] * number) for number in (130, 100))
    with pytest.raises(ScheduleError, match="tokens cannot be blended. Make their lengths more similar."):
        schedule(clip, f"0: {too_long}\n1: {long}")


# --- values -----------------------------------------------------------------------------------------------------------


def test_values_for_apply_and_for_core(model, motion):
    values, floats, chart = ValueScheduleNode.execute("0:(1 - t / 8)", 4).args
    assert values == floats == [1.0, 0.875, 0.75, 0.625]
    assert chart.shape == (1, 254, 640, 3)
    animated = animate(model, motion, strength_values=values)
    assert torch.equal(sample(animated, 4), sample(animate(model, motion, strength_values=torch.tensor(values).view(4, 1, 1)), 4))
    (keyframes,) = core_hooks.CreateHookKeyframesFromFloats().create_hook_keyframes(floats, 0.0, 1.0)
    assert [keyframe.strength for keyframe in keyframes.keyframes] == floats


# --- charts -----------------------------------------------------------------------------------------------------------

BLUE = torch.tensor([0x5A, 0xA9, 0xF0]) / 255


def drawn_heights(chart: torch.Tensor, frames: int) -> list[float]:
    """Where the first line is at each frame, as a share of the plot's height: 0 at its floor, 1 at its ceiling."""
    plot = chart[0, 50:212]
    heights = []
    for frame in range(frames):
        near = (plot[:, round(72 + 528 * frame / (frames - 1))] - BLUE).abs().amax(-1) < 0.15
        heights.append(1 - (near.nonzero().float().mean().item() + 50 - 56) / 150)
    return heights


def test_charts_show_the_numbers(clip):
    chart = schedule(clip, "0: a\n4: b", 5, easing="ease-in-out")[2]
    heights = drawn_heights(chart, 5)
    assert [heights[0], heights[1], heights[3]] == pytest.approx([1, 27 / 32, 5 / 32], abs=0.02)  # at 2 the other one covers it
    values, _, plot = ValueScheduleNode.execute("0: 2, 2: 6, 4: 3", 5).args
    assert drawn_heights(plot, 5) == pytest.approx([(value - 2) / 4 for value in values], abs=0.02)


@pytest.mark.parametrize("values", [[1e30, -1e30], [1e-320, 2e-320], [5.0], [0.0] * 4096, [1e16, 1e16 + 2]])
def test_any_numbers_can_be_drawn(values):
    assert draw_values(values).shape == (1, 254, 640, 3)


def test_any_prompts_can_be_drawn():
    prompts = ["", "x" * 500, "\u6d77", "\0\t", *map(str, range(20))]
    shown = draw_weights({prompt: {0: 1.0} for prompt in prompts}, 2, ("before", "after"))
    assert shown.shape[1] > draw_weights({"a": {0: 1.0}}, 1).shape[1]


# --- LoRA schedules by core's hooks -----------------------------------------------------------------------------------


@pytest.fixture
def lora_name(tmp_path, monkeypatch) -> str:
    """A LoRA of one spatial layer of the UNet, in ComfyUI's folder for them."""
    generator = torch.Generator().manual_seed(1)
    layer = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v"
    up, down = torch.randn(32, 2, generator=generator), torch.randn(2, CONTEXT, generator=generator)
    save_file({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, tmp_path / "style.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    return "style.safetensors"


def hooked(conditioning, lora_name: str, keyframes=None):
    (hooks,) = core_hooks.CreateHookLora().create_hook(lora_name, 1.0, 0.0)
    if keyframes is not None:
        (hooks,) = core_hooks.SetHookKeyframes().set_hook_keyframes(hooks, keyframes)
    return core_hooks.ConditioningSetProperties().set_properties(conditioning, 1.0, "default", hooks=hooks)[0]


def test_a_lora_as_hook_goes_with_motion_and_prompts(clip, model, motion, lora_name):
    before = state_of(model)
    positive, negative, _ = schedule(clip, TRAVEL)
    animated = animate(model, motion)
    run = {"frames": FRAMES, "steps": 2}
    with_lora = hooked(positive, lora_name), hooked(negative, lora_name)
    out = sample(animated, positive=with_lora[0], negative=with_lora[1], **run)
    (merged,) = nodes.LoraLoaderModelOnly().load_lora_model_only(model, lora_name, 1.0)
    expected = sample(animate(merged, motion), positive=positive, negative=negative, **run)
    plain = sample(animated, positive=positive, negative=negative, **run)
    assert difference(out, expected) < 1e-5
    assert difference(out, plain) > 1e-3
    assert same_state(model, before)


def test_keyframes_of_a_hook_are_over_the_run_not_over_frames(clip, model, motion, lora_name):
    """Off in the first of two steps and on in the second, for all frames: as two samplers one behind the other."""
    positive, negative, _ = schedule(clip, TRAVEL)
    floats = ValueScheduleNode.execute("0: 0, 1: 1", 2).args[1]
    (keyframes,) = core_hooks.CreateHookKeyframesFromFloats().create_hook_keyframes(floats, 0.0, 0.4)
    with_lora = hooked(positive, lora_name, keyframes), hooked(negative, lora_name, keyframes)
    out = sample(animate(model, motion), FRAMES, 2, positive=with_lora[0], negative=with_lora[1])
    (merged,) = nodes.LoraLoaderModelOnly().load_lora_model_only(model, lora_name, 1.0)
    source = {"samples": torch.zeros(FRAMES, 4, 8, 8)}
    two_steps = (3, 2, 2.0, "euler", "normal", positive, negative)
    advanced = nodes.KSamplerAdvanced()
    (half,) = advanced.sample(animate(model, motion), "enable", *two_steps, source, 0, 1, "enable")
    (done,) = advanced.sample(animate(merged, motion), "disable", *two_steps, half, 1, 2, "disable")
    assert difference(out, done["samples"]) < 1e-5


def test_a_text_encoder_with_a_scheduled_lora_gives_an_entry_for_each_keyframe(clip, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    layer = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1"
    up, down = torch.randn(32, 2, generator=generator), torch.randn(2, CONTEXT, generator=generator)
    save_file({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, tmp_path / "text.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    (hooks,) = core_hooks.CreateHookLora().create_hook("text.safetensors", 0.0, 1.0)
    (keyframes,) = core_hooks.CreateHookKeyframesFromFloats().create_hook_keyframes([1.0, 0.0], 0.0, 0.5)
    (hooks,) = core_hooks.SetHookKeyframes().set_hook_keyframes(hooks, keyframes)
    (scheduled,) = core_hooks.SetClipHooks().apply_hooks(clip, True, True, hooks)
    conditioning = schedule(scheduled, TRAVEL)[0]
    alone = {text: nodes.CLIPTextEncode().encode(scheduled, text)[0] for text in ("a calm sea", "a storm")}
    assert len(conditioning) == 2
    for number, (embedding, options) in enumerate(conditioning):
        assert torch.equal(embedding[[0, 7]], torch.cat([alone[text][number][0] for text in alone]))
        kept = {key: value for key, value in alone["a storm"][number][1].items() if key != "pooled_output"}
        assert {key: options[key] for key in kept if key != "hooks"} == {key: kept[key] for key in kept if key != "hooks"}
        assert "hooks" in options
    assert not torch.equal(conditioning[0][0], conditioning[1][0])
    assert torch.equal(conditioning[1][0][0], encoded(clip, "a calm sea")[0][0])
