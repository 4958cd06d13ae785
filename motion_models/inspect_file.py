"""What any file in ComfyUI's model folders is, from names, shapes and dtypes alone: nothing of it need be in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from .companions import companions_in
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
    """What a file is.

    Attributes:
        name: of the file.
        kind: what it is, in a few words, with an article.
        folder: where it belongs; empty if nowhere, or if that is not known.
        usage: what to do with it; may be empty.
        config: of a whole motion model.
        layout: of a whole motion model.
        rank: of a LoRA; None if it is none, or has no rank that its shapes tell.
        dtypes: names of the dtypes, with how many tensors have each, most frequent first.
        parameters: numbers in all tensors.
        num_bytes: of the file.
        problem: why it cannot be used, or empty.
        notes: more sentences.
    """

    name: str
    kind: str
    folder: str = ""
    usage: str = ""
    config: MotionModelConfig | None = None
    layout: Layout | None = None
    rank: int | None = None
    dtypes: tuple[tuple[str, int], ...] = ()
    parameters: int = 0
    num_bytes: int = 0
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What it is and where it belongs, for the error of a node that it is not for."""
        place = f", which belongs in {self.folder}" if self.folder else ""
        if self.problem and self.config is None:  # what is wrong with a motion model is said where one is loaded
            return f"it is {self.kind}{place}: {self.problem}"
        return f"it is {self.kind}{place}{f'; {self.usage}' if self.usage else ''}."

    @property
    def text(self) -> str:
        """The report in a few lines."""
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
    """Say what a file is.

    Args:
        state_dict: what it holds, wrappings and all; tensors may be on the meta device, position tables had better not.
        name: of the file.
        num_bytes: of the file.
        metadata: of a safetensors file.

    Raises:
        UnreadableFile: see ``unwrap``.
    """
    tensors, metadata = unwrap(state_dict), metadata or {}
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    report = FileReport(
        name=name,
        kind="nothing that Loom knows",
        dtypes=tuple(dtypes.most_common()),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        num_bytes=num_bytes,
        notes=tuple(
            f"{shorten(key)}: {shorten(value, 200)}" for key, value in metadata.items() if key not in {"format", *METADATA_KEYS}
        )[:_MOST_NOTES],
    )
    if not tensors:
        return replace(report, kind="a file without tensors", problem="there is nothing to load.")
    kind = kind_with_motion_modules(tensors)
    return _of_a_motion_model(report, tensors, metadata) if kind is None else _of_another_kind(report, tensors, kind)


def not_a(wanted: str, tensors: Mapping[str, Tensor], file_name: str) -> UnknownMotionModelFormat:
    """Make the error of a node that was given a file of another kind than it is for.

    Args:
        wanted: what the node is for, without an article.
        tensors: the file's.
        file_name: see ``checkpoint.convert``.
    """
    return UnknownMotionModelFormat(f"not a {wanted}: {inspect_file(tensors, file_name).sentence}")


def _of_a_motion_model(report: FileReport, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FileReport:
    try:
        layout, weights, positions = motion_weights(tensors)
        if not weights:
            return _of_another_kind(report, tensors, kind_without_motion_modules(tensors))
        report = replace(report, kind="part of a motion model", folder="models/animatediff_models")
        config, notices = detect_config(weights, positions, layout, report.name).with_metadata(metadata)
        kind = f"{_article(config.family.title)} motion model"
        report = replace(report, kind=kind, usage="load it with Load Motion Model", config=config, layout=layout)
        check_shapes(config, weights)
        check_positions(positions)
    except MotionModelError as error:
        text = str(error)
        return replace(report, usage="", problem=text if text.endswith(".") else f"{text}.")
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
        f"Noise schedule {config.family.beta_schedule}. Layout of {layout.title if layout else 'no file'}.",
    ]


def _family_notes(config: MotionModelConfig, name: str) -> tuple[str, ...]:
    if config.family is Family.LCM:
        return ("Sample with the sampler lcm, the scheduler simple, 4 to 8 steps and cfg 1 to 2.",)
    if config.family is Family.V2 and "lightning" in name.lower():
        return ("AnimateDiff-Lightning, judging by its name: sampler euler, scheduler sgm_uniform, cfg 1, and the number of steps in its name.",)
    return ()


def _article(title: str) -> str:
    return f"{'an' if title[0] in 'AEIOU' else 'a'} {title}"
