"""Train a motion model: what ``loom.py train CONFIG.toml`` has ComfyUI's Python run, once or in several processes.

Started as ``python -m launcher.run launcher.train CONFIG.toml``, by itself, by ``torch.distributed.run`` or by
``accelerate launch``; the last two set the variable WORLD_SIZE, and then ``accelerate`` brings the processes together.
"""

from __future__ import annotations

import csv
import datetime
import math
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from .comfy_device import choose_device
from .errors import LoomError, exit_code
from .pack import pack_module as _pack
from .progress_bar import ProgressBar
from .training_config import ModelSection, TrainingConfig, read_config

_REPORT_SECONDS = 30


def main() -> None:
    sys.exit(exit_code(lambda: _train(Path(sys.argv[1]))))


def _train(path: Path) -> None:
    clip_settings = _pack("motion_models.training.clips").ClipSettings
    config = read_config(path, _pack("motion_models.training.settings").TrainingSettings, clip_settings)
    _check_files(config)
    engine = _make_engine()
    errors = _pack("motion_models.errors")
    try:
        _run(config, engine)
    except errors.UserError as error:
        raise LoomError(str(error)) from error
    finally:
        if engine is not None:
            engine.end_training()


def _check_files(config: TrainingConfig) -> None:
    files = {"checkpoint": config.model.checkpoint, "motion_model": config.model.motion_model}
    files |= {f"loras[{place}]": lora.file for place, lora in enumerate(config.model.loras)}
    for name, file in files.items():
        if file is not None and not file.is_file():
            raise LoomError(f"model.{name}: there is no file '{file}'.")
    if config.data.folder is not None and not config.data.folder.is_dir():
        raise LoomError(f"data.folder: there is no folder '{config.data.folder}'.")


def _make_engine() -> Any:
    """``accelerate``'s engine where there are several processes, else None; picks the device before ComfyUI asks."""
    uses_cpu = choose_device()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    import accelerate

    # Others wait while the first encodes the clips. The precision is the configuration's, not accelerate's.
    patience = accelerate.InitProcessGroupKwargs(timeout=datetime.timedelta(days=1))
    return accelerate.Accelerator(
        cpu=uses_cpu, mixed_precision="no", kwargs_handlers=[patience]
    )


# --- getting ready --------------------------------------------------------------------------------


def _run(config: TrainingConfig, engine: Any) -> None:
    import comfy.sd

    runs = _pack("nodes.host.training.training_run")
    is_main = engine is None or engine.is_main_process
    encodes = config.data.folder is not None and is_main
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
        str(config.model.checkpoint), output_vae=encodes, output_clip=encodes
    )
    model, clip = _with_loras(model, clip, config.model)
    start = _starting_point(config.model)
    runs.check_start(model, getattr(start, "config", start))
    if encodes:
        _encode_clips(config, vae, clip)
    if engine is not None:
        engine.wait_for_everyone()
    clips = _pack("motion_models.training.latent_clips").LatentClips(_latents_folder(config))
    trainer = runs.make_trainer(
        model,
        clips,
        start,
        config.training,
        folder=config.output.checkpoints,
        engine=engine,
    )
    _train_and_report(trainer, is_main)
    if is_main:
        _save(config, trainer, runs.training_metadata(trainer, start))
    if engine is not None:
        engine.wait_for_everyone()  # who leaves while another still writes may be ended by a signal


def _with_loras(model: Any, clip: Any, section: ModelSection) -> tuple[Any, Any]:
    import comfy.sd
    import comfy.utils

    if model is None:
        raise LoomError(f"'{section.checkpoint}' is no checkpoint of a model that ComfyUI knows.")
    for lora in section.loras:
        weights = comfy.utils.load_torch_file(str(lora.file), safe_load=True)
        model, clip = comfy.sd.load_lora_for_models(
            model, clip, weights, lora.strength, lora.strength
        )
    return model, clip


def _latents_folder(config: TrainingConfig) -> Path:
    return config.data.latents or config.output.folder / f"{config.output.name}_latents"


def _encode_clips(config: TrainingConfig, vae: Any, clip: Any) -> None:
    data = config.data
    clips, encoders = _pack("motion_models.training.clips"), _pack("nodes.host.training.encoders")
    settings = clips.ClipSettings(data.width, data.height, data.frames, data.stride)
    found = clips.find_clips(data.folder, settings, data.default_caption)
    bar = ProgressBar()
    encoded = _pack("motion_models.training.latent_clips").write_latent_clips(
        _latents_folder(config),
        found.clips,
        encoders.frame_encoder(vae),
        encoders.text_encoder(clip),
        frames=data.frames,
        flip=data.flip,
        vae_id=encoders.vae_id(vae),
        text_encoder_id=encoders.text_encoder_id(clip),
        progress=lambda done: bar.show("encoding the clips", done, len(found.clips)),
    )
    bar.clear()
    for skipped in encoded.skipped:
        print(f"Left out: '{skipped.name}' {skipped.reason}")
    print(f"{len(encoded)} clips, {encoded.starts} samples of {encoded.frames} frames.", flush=True)


def _starting_point(section: ModelSection) -> Any:
    if section.motion_model is None:
        return _pack("motion_models.config").Family[section.family.upper()]
    config, weights, _ = _pack("nodes.host.files.loading").read_motion_model(str(section.motion_model))
    name = section.motion_model.name
    return _pack("nodes.host.training.training_run").StartingPoint(name, config, weights)


# --- the run --------------------------------------------------------------------------------------


def _train_and_report(trainer: Any, is_main: bool) -> None:
    """Train to the end, or to the end of the step in which Ctrl-C or SIGTERM came."""
    total = trainer.settings.steps
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: trainer.stop())
    if is_main:
        begin = f"goes on from step {trainer.step}" if trainer.step else "starts"
        print(f"Training {begin}, to step {total}. Ctrl-C saves and ends it.", flush=True)
    bar, is_terminal = ProgressBar(), sys.stdout.isatty()
    first_step, began, reported = trainer.step, time.monotonic(), -math.inf
    with closing(trainer.run()) as results:
        for result in results:
            now = time.monotonic()
            is_due = is_terminal or now - reported > _REPORT_SECONDS or result.step == total
            if not is_main or not is_due:
                continue
            reported = now
            recent = trainer.losses[-100:]
            rate = (now - began) / (result.step - first_step)
            text = f"loss {sum(recent) / len(recent):.5f}, {rate:.2f} s a step"
            if is_terminal:
                bar.show(text, result.step, total)
            else:
                print(f"step {result.step}/{total}, {text}", flush=True)
    bar.clear()


def _save(config: TrainingConfig, trainer: Any, metadata: dict[str, str]) -> None:
    import torch

    output = config.output
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[output.dtype]
    weights = {name: tensor.to(dtype) for name, tensor in trainer.weights().items()}
    output.folder.mkdir(parents=True, exist_ok=True)
    _pack("motion_models.checkpoint").save(
        output.file, trainer.motion_model.config, weights, metadata
    )
    with output.losses.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("step", "loss"), *enumerate(trainer.losses, 1)])
    if trainer.step < trainer.settings.steps:
        print(f"Stopped after step {trainer.step}; the same command goes on from there.")
    print(f"Saved '{output.file}' and '{output.losses.name}'.", flush=True)
