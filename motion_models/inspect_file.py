"""What any file in ComfyUI's model folders is, from names, shapes and dtypes alone: nothing of it need be in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from .companions import companions_in, with_family_of
from .config import METADATA_KEYS, Family, MotionModelConfig
from .errors import MotionModelError, UnknownMotionModelFormat, one_line, shorten
from .identify import FileKind, kind_with_motion_modules, kind_without_motion_modules
from .layouts import Layout, motion_weights
from .recognise import check_positions, check_shapes, detect_config, unwrap

_DOWN = (
    *("lora_down.weight", "lora_A.weight", "_lora.down.weight", "lora.down.weight", "lora_linear_layer.down.weight"),
    *("hada_w1_b", "lokr_w1_b", "lokr_w2_b"),
)
_MOST_NOTES = 20


@dataclass(frozen=True)
class FileReport:
    """What a file is; config and layout are those of a whole motion model, the rank a LoRA's if its shapes tell one."""

    name: str
    kind: str  # with an article
    folder: str = ""  # where it belongs
    usage: str = ""
    config: MotionModelConfig | None = None
    layout: Layout | None = None
    rank: int | None = None
    dtypes: tuple[tuple[str, int], ...] = ()  # with how many tensors have each, most frequent first
    parameters: int = 0
    num_bytes: int = 0
    problem: str = ""  # why it cannot be used
    notes: tuple[str, ...] = ()  # more sentences

    @property
    def sentence(self) -> str:
        """What it is and where it belongs, for the error of a node that it is not for."""
        place = f", which belongs in {self.folder}" if self.folder else ""
        if self.problem and self.config is None:  # what is wrong with a motion model is said where one is loaded
            return f"it is {self.kind}{place}: {self.problem}"
        return f"it is {self.kind}{place}{f'; {self.usage}' if self.usage else ''}."

    @property
    def text(self) -> str:
        lines = [f"{shorten(self.name)}: {self.kind}"]
        if self.config is not None:
            lines += _config_lines(self.config, self.layout)
        if self.rank is not None:
            lines.append(f"Rank {self.rank}.")
        if self.dtypes:
            dtypes = ", ".join(f"{name} ({count} tensors)" for name, count in self.dtypes)
            lines.append(f"{self.parameters:,} parameters in {dtypes}; {self.num_bytes / 1e6:,.1f} MB.")
        if self.problem:
            lines.append(f"Cannot be used: {self.problem}")
        if self.folder:
            lines.append(f"Belongs in {self.folder}{f'; {self.usage}' if self.usage else ''}.")
        return "\n".join(map(one_line, (*lines, *self.notes)))


def inspect_file(
    state_dict: Mapping[str, object], name: str, num_bytes: int = 0, metadata: Mapping[str, str] | None = None
) -> FileReport:
    """Say what a file is that holds ``state_dict``, wrappings and all; raises ``UnreadableFile`` as ``unwrap`` does.

    Tensors may be on the meta device; position tables there are not checked.
    """
    tensors, metadata = unwrap(state_dict), metadata or {}
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    others = [(key, value) for key, value in metadata.items() if key not in {"format", *METADATA_KEYS}]
    report = FileReport(
        name,
        kind="nothing that Loom knows",
        dtypes=tuple(dtypes.most_common()),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        num_bytes=num_bytes,
        notes=tuple(f"{shorten(key)}: {shorten(value, 200)}" for key, value in others[:_MOST_NOTES]),
    )
    if not tensors:
        return replace(report, kind="a file without tensors", problem="there is nothing to load.")
    kind = kind_with_motion_modules(tensors)
    return _of_a_motion_model(report, tensors, metadata) if kind is None else _of_another_kind(report, tensors, kind)


def not_a(wanted: str, tensors: Mapping[str, Tensor], file_name: str) -> UnknownMotionModelFormat:
    """Make the error of a node for ``wanted`` (without an article) that was given a file of another kind."""
    return UnknownMotionModelFormat(f"not a {wanted}: {inspect_file(tensors, file_name).sentence}")


def _of_a_motion_model(report: FileReport, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FileReport:
    try:
        layout, weights, positions = motion_weights(tensors)
        if not weights:
            return _of_another_kind(report, tensors, kind_without_motion_modules(tensors))
        report = replace(report, kind="part of a motion model", folder="models/animatediff_models")
        found = with_family_of(companions_in(tensors), detect_config(weights, positions, layout, report.name))
        config, notices = found.with_metadata(metadata)
        title = config.family.title
        kind = f"{'an' if title[0] in 'AEIOU' else 'a'} {title} motion model"
        report = replace(report, kind=kind, usage="load it with Load Motion Model", config=config, layout=layout)
        check_shapes(config, weights)
        check_positions(positions)
    except MotionModelError as error:
        return replace(report, usage="", problem=f"{str(error).removesuffix('.')}.")
    companions = [f"It also contains {companion.title}." for companion in companions_in(tensors)]
    return replace(report, notes=(*_family_notes(config, report.name), *companions, *notices, *report.notes))


def _of_another_kind(report: FileReport, tensors: Mapping[str, Tensor], kind: FileKind | None) -> FileReport:
    if kind is None:
        return replace(report, kind=f"nothing that Loom knows; its first key is '{shorten(next(iter(tensors)))}'")
    ranks = Counter(tensor.shape[0] for key, tensor in tensors.items() if key.endswith(_DOWN) and tensor.ndim > 1)
    rank = ranks.most_common(1)[0][0] if ranks else None
    if len(ranks) > 1:
        report = replace(report, notes=(f"Ranks from {min(ranks)} to {max(ranks)}; most are {rank}.", *report.notes))
    return replace(report, kind=kind.title, folder=kind.folder, usage=kind.usage, problem=kind.problem, rank=rank)


def _config_lines(config: MotionModelConfig, layout: Layout | None) -> list[str]:
    modules = len(config.down_channels) + len(config.mid_channels) + len(config.up_channels)
    middle = ", one of them in the mid block" if config.has_mid_block else ""
    return [
        f"For {config.base_model} models {config.block_channels} wide: {modules} motion modules{middle}.",
        f"Trained on clips of {config.trained_frames} frames, positions for {config.max_frames}.",
        f"Noise schedule {config.family.beta_schedule}. Layout of {layout.value if layout else 'no file'}.",
    ]


def _family_notes(config: MotionModelConfig, name: str) -> tuple[str, ...]:
    notes = ("Sample with the sampler lcm, the scheduler simple, 4 to 8 steps and cfg 1 to 2.",) if config.family.distilled_timesteps else ()
    if config.family.takes_image:
        node = "PIA Image" if config.family is Family.PIA else "AnimateLCM-I2V Image"
        return (*notes, f"Give it its image with {node}, between Load Motion Model and Apply Motion Model.")
    if config.family is Family.V2 and "lightning" in name.lower():
        return (
            "AnimateDiff-Lightning, judging by its name: sampler euler, scheduler sgm_uniform, cfg 1, "
            "and the number of steps in its name.",
        )
    return notes
