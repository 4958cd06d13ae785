"""Whatever is wrong is said at the node, in a sentence, and the next good prompt is as good as before."""

from __future__ import annotations

import pickle
import re
import shutil

import pytest
import torch
from launcher.errors import PromptFailedError, PromptRejectedError

from . import bad_files
from .world import TIMEOUT, animation, base_only, changed, loom_sampler, node, rerun, run


@pytest.fixture(autouse=True)
def _the_next_good_prompt_is_as_before(client, good_latents):
    yield
    after = rerun(client, animation(), "motion_model")
    assert {"motion_model", "animated", "sampled"} <= after.executed()
    assert torch.equal(after.latents(), good_latents)


def failure(client, prompt) -> PromptFailedError:
    with pytest.raises(PromptFailedError) as caught:
        run(client, prompt)
    return caught.value


def rejection(client, prompt, node_id: str) -> dict:
    """What ComfyUI says, at the node where it belongs, about a prompt that it did not even start."""
    with pytest.raises(PromptRejectedError) as caught:
        run(client, prompt)
    assert caught.value.error["type"] == "prompt_outputs_failed_validation"
    assert caught.value.node_errors.keys() == {node_id}
    errors = caught.value.node_errors[node_id]["errors"]
    assert len({error["type"] for error in errors}) == 1  # one mistake, told for each input that takes part in it
    return errors[0]


# --- files -----------------------------------------------------------------------------------------------------------

BAD_FILES = {
    # what it is: (how it is made, the ending of its name, what is wrong, what to do)
    "truncated": (bad_files.truncated, "safetensors", "is cut short: it has .* bytes of at least", "Download it again"),
    "web page": (bad_files.web_page, "ckpt", "is a web page, not a weights file", "site's own download button"),
    "NaN": (bad_files.with_nan, "safetensors", "1 weights hold NaN or infinity: '.*proj_in.weight'", "The file is damaged"),
    "LoRA": (bad_files.lora, "safetensors", "not a motion model: it is a LoRA", "models/loras; .*Load LoRA"),
    "ControlNet": (bad_files.controlnet, "safetensors", "it is a ControlNet", "models/controlnet; .*Load ControlNet Model"),
    "checkpoint": (bad_files.sd_checkpoint, "safetensors", "it is a whole checkpoint", "models/checkpoints; .*Load Checkpoint"),
    "VAE": (bad_files.vae, "safetensors", "it is a VAE", "models/vae; .*Load VAE"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_are_no_motion_models(client, models, motion_folder, kind):
    make, ending, wrong, remedy = BAD_FILES[kind]
    make(motion_folder / f"chosen.{ending}", models)
    error = failure(client, animation(f"chosen.{ending}"))
    assert (error.node_id, error.node_type) == ("motion_model", "LoomLoadMotionModel")
    assert re.search(rf"'chosen\.{ending}'.*{wrong}.*{remedy}", error.exception_message, re.DOTALL)
    assert "\n" not in error.exception_message


@pytest.mark.parametrize("write", [bad_files.pickle_with_code, bad_files.torch_file_with_code], ids=["pickle", "torch"])
def test_code_in_a_file_is_never_run(client, models, motion_folder, tmp_path, write):
    marker = tmp_path / "marker"
    chosen = motion_folder / "chosen.ckpt"
    write(chosen, marker, bad_files.motion_weights(models))
    error = failure(client, animation("chosen.ckpt"))
    assert (error.node_id, error.node_type) == ("motion_model", "LoomLoadMotionModel")
    assert re.search(
        r"'chosen\.ckpt' was not loaded: .* carries program code, which Loom never runs\. "
        r"Use a \.safetensors version of the file, from a source you trust",
        error.exception_message,
    )
    assert not marker.exists()
    # And this is what it would have done:
    if write is bad_files.pickle_with_code:
        pickle.loads(chosen.read_bytes())
    else:
        torch.load(chosen, weights_only=False)
    assert marker.exists()


def test_a_file_that_is_not_in_the_list(client):
    error = rejection(client, animation("no_such_file.safetensors"), "motion_model")
    assert error["type"] == "value_not_in_list"
    assert "motion_model_name: 'no_such_file.safetensors' not in" in error["details"]


def test_a_file_that_was_deleted_after_it_was_listed(client, models, motion_folder):
    shutil.copy(models.motion_model, motion_folder / "chosen.safetensors")
    info = client.object_info("LoomLoadMotionModel")["LoomLoadMotionModel"]
    assert "chosen.safetensors" in info["input"]["required"]["motion_model_name"][1]["options"]
    (motion_folder / "chosen.safetensors").unlink()
    error = rejection(client, animation("chosen.safetensors"), "motion_model")
    assert error["type"] == "value_not_in_list"
    assert "'chosen.safetensors'" in error["details"]


def test_a_file_that_was_deleted_while_its_prompt_waited(client, models, motion_folder):
    shutil.copy(models.motion_model, motion_folder / "chosen.safetensors")
    first = client.queue(changed(animation(), "sampled", steps=6, seed=99))
    waiting = client.queue(animation("chosen.safetensors"))
    (motion_folder / "chosen.safetensors").unlink()
    client.wait(first, timeout=TIMEOUT)
    with pytest.raises(PromptFailedError) as caught:
        client.wait(waiting, timeout=TIMEOUT)
    assert (caught.value.node_id, caught.value.node_type) == ("motion_model", "LoomLoadMotionModel")
    assert re.search(
        r"'chosen\.safetensors' was not found in models/animatediff_models\. Put the file there, or choose another one",
        caught.value.exception_message,
    )


# --- what does not go together ---------------------------------------------------------------------------------------


def test_a_motion_model_of_other_widths(client, models, motion_folder):
    bad_files.other_widths(motion_folder / "narrow.safetensors", models)
    error = failure(client, animation("narrow.safetensors"))
    assert (error.node_id, error.node_type) == ("animated", "LoomApplyMotionModel")
    assert re.search(
        r"'narrow\.safetensors' does not fit the connected model's UNet: its down blocks are \(64,\) wide, "
        r"but the UNet's are \(320,\)\. Load the motion model that was made for this checkpoint",
        error.exception_message,
    )


def test_a_motion_model_for_sdxl(client, models, motion_folder):
    bad_files.animatediff_sdxl(motion_folder / "xl.safetensors", models)
    error = failure(client, animation("xl.safetensors"))
    assert (error.node_id, error.node_type) == ("animated", "LoomApplyMotionModel")
    assert "'xl.safetensors' is for SDXL, but the connected model is SD1.5" in error.exception_message


def on_another_unet(file_name: str):
    prompt = animation()
    prompt["unet"] = node("UNETLoader", unet_name=file_name, weight_dtype="default")
    return changed(prompt, "animated", model=["unet", 0])


def test_a_model_for_another_base(client, models):
    bad_files.sd2(models.unet_folder / "sd2.safetensors", models)
    error = failure(client, on_another_unet("sd2.safetensors"))
    assert (error.node_id, error.node_type) == ("animated", "LoomApplyMotionModel")
    assert re.search(
        r"'tiny_v3\.safetensors' is for SD1\.5, but the connected model is SD2\.x\. "
        r"Load a SD1\.5 checkpoint, or a motion model made for SD2\.x",
        error.exception_message,
    )


def test_a_model_that_is_no_stable_diffusion(client, models):
    bad_files.flux(models.unet_folder / "flux.safetensors")
    error = failure(client, on_another_unet("flux.safetensors"))
    assert (error.node_id, error.node_type) == ("animated", "LoomApplyMotionModel")
    assert re.search(
        r"The connected model is Flux, which has no Stable Diffusion UNet; 'tiny_v3\.safetensors' is for SD1\.5\. "
        r"Load a SD1\.5 checkpoint",
        error.exception_message,
    )


# --- frames and ranges -----------------------------------------------------------------------------------------------


def in_windows(prompt: dict, context_length: int) -> dict:
    windows = node(
        "LoomContextWindows", model=["animated", 0], context_length=context_length, context_overlap=4,
        context_schedule="standard_static", fuse_method="pyramid", context_stride=1, closed_loop=False, freenoise=False,
    )  # fmt: skip
    return changed({**prompt, "windowed": windows}, "sampled", model=["windowed", 0])


def test_windows_of_more_frames_than_positions(client):
    error = failure(client, in_windows(changed(animation(), "frames", frames=33), 40))
    assert (error.node_id, error.node_type) == ("sampled", "LoomSampler")
    assert re.search(
        r"33 frames at a time are too many for motion model 'tiny_v3\.safetensors', which has positions for 32\. "
        r"Lower context_length of Context Windows",
        error.exception_message,
    )


def test_windows_of_more_frames_than_positions_with_core_sampler(client):
    prompt = {**changed(animation(), "frames", frames=33), "sampled": base_only()["sampled"]}
    error = failure(client, in_windows(prompt, 40))
    assert (error.node_id, error.node_type) == ("sampled", "KSampler")
    assert "33 frames at a time are too many" in error.exception_message


def test_frames_that_clips_do_not_divide(client):
    error = failure(client, changed({**animation(), "sampled": loom_sampler("animated", clips=3)}, "frames", frames=7))
    assert (error.node_id, error.node_type) == ("sampled", "LoomSampler")
    assert re.search(
        r"7 frames cannot be split evenly into 3 clips\. Make the latent's number of frames a multiple of clips",
        error.exception_message,
    )


def test_one_frame_works_and_is_warned_of_once(client, server):
    before = len(server.log_text())
    latents = rerun(client, changed(animation(), "frames", frames=1)).latents()
    assert latents.shape[0] == 1
    assert torch.isfinite(latents).all()
    assert server.log_text()[before:].count("A single frame will not move") == 1


def test_a_range_that_ends_before_it_starts(client):
    error = rejection(client, changed(animation(), "animated", start_percent=0.8, end_percent=0.2), "animated")
    assert error["type"] == "custom_validation_failed"
    assert "start_percent 0.8 is after end_percent 0.2" in error["details"]
    assert "Make start_percent the smaller one" in error["details"]


def test_numbers_outside_their_limits(client):
    error = rejection(client, changed(animation(), "animated", strength=-1.0), "animated")
    assert error["type"] == "value_smaller_than_min"
    assert "strength" in error["details"]
