"""What distinguishes one motion model from another, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from .beta_schedules import LINEAR, LINEAR_I2V, SCALED_LINEAR, SCALED_LINEAR_XL
from .errors import shorten


@dataclass(frozen=True)
class Traits:
    """What a family of motion models has in common.

    With ``norm_over_frames``, the UNet's resnets and its last norm took their statistics over all frames of a clip in
    training (``use_inflated_groupnorm: false``), with ``motion_norm_over_frames`` the motion modules' own group norm;
    spatial transformers' norms never do.
    """

    title: str
    beta_schedule: str = LINEAR  # a key into BETA_SCHEDULES
    trained_frames: int = 16  # of a clip
    norm_over_frames: bool = False
    motion_norm_over_frames: bool = False
    distilled_timesteps: int | None = None  # that a latent consistency model was distilled on, out of 1000
    takes_image: bool = False  # that it animates
    stores_positions: bool = True  # in its files; else its code makes them


SDXL_LEVELS = 3  # of the UNet; SD1.5's has four


class Family(Enum):
    """A released line of motion models, with its ``Traits`` as attributes. Source: its inference yaml and code."""

    V1 = Traits("AnimateDiff v1", norm_over_frames=True)
    V2 = Traits("AnimateDiff v2")
    V3 = Traits("AnimateDiff v3")
    LONG = Traits("LongAnimateDiff", trained_frames=32)
    LCM = Traits("AnimateLCM", distilled_timesteps=100, stores_positions=False)
    SDXL = Traits("AnimateDiff-SDXL", SCALED_LINEAR_XL, motion_norm_over_frames=True)
    HOTSHOT = Traits("HotshotXL", SCALED_LINEAR, trained_frames=8, norm_over_frames=True)
    PIA = Traits("PIA", norm_over_frames=True, takes_image=True)
    LCM_I2V = Traits("AnimateLCM-I2V", LINEAR_I2V, distilled_timesteps=200, takes_image=True, stores_positions=False)

    def __init__(self, traits: Traits):
        self.title = traits.title
        self.beta_schedule = traits.beta_schedule
        self.trained_frames = traits.trained_frames
        self.norm_over_frames = traits.norm_over_frames
        self.motion_norm_over_frames = traits.motion_norm_over_frames
        self.distilled_timesteps = traits.distilled_timesteps
        self.takes_image = traits.takes_image
        self.stores_positions = traits.stores_positions


_ALIKE = ({Family.V1, Family.V3}, {Family.V2, Family.LONG, Family.LCM, Family.LCM_I2V}, {Family.SDXL, Family.HOTSHOT}, {Family.PIA})
"""Families whose weights have the same names and shapes."""

_FAMILY_KEY, _TRAINED_FRAMES_KEY = "loom_family", "loom_trained_frames"
METADATA_KEYS = frozenset({_FAMILY_KEY, _TRAINED_FRAMES_KEY})


@dataclass(frozen=True)
class MotionModelConfig:
    """Shape of a motion model, and the family whose traits it has in use."""

    family: Family
    block_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # width of each level of the UNet, outermost first
    layers_per_block: int = 2  # motion modules in each down block; an up block has one more
    has_mid_block: bool = False  # whether a motion module follows the middle block
    max_frames: int = 32  # for which the file has positions; of AnimateLCM, which stores none, those its code makes
    trained_frames: int = 0  # of a clip in training; unless given, those of its family
    num_heads: int = 8  # in every release

    def __post_init__(self) -> None:
        if not self.trained_frames:
            # LongAnimateDiff was trained on clips of half the frames that it has positions for.
            usual = self.max_frames // 2 if self.family is Family.LONG else self.family.trained_frames
            object.__setattr__(self, "trained_frames", usual)

    def to_metadata(self) -> dict[str, str]:
        """What a file says of itself that its weights don't tell."""
        return {_FAMILY_KEY: self.family.name.lower(), _TRAINED_FRAMES_KEY: str(self.trained_frames)}

    def with_metadata(self, metadata: Mapping[str, str]) -> tuple[MotionModelConfig, tuple[str, ...]]:
        """Add what a file's metadata says; also returns a sentence for each thing in it that cannot be true."""
        config, notices = self, []
        name, frames = metadata.get(_FAMILY_KEY), metadata.get(_TRAINED_FRAMES_KEY)
        alike = {family.name.lower(): family for families in _ALIKE if self.family in families for family in families}
        if name in alike:
            config = replace(self, family=alike[name], trained_frames=0)
        elif name is not None:
            notices.append(
                f"its metadata says that it is '{shorten(name, 40)}', but its weights are not. "
                f"It is treated as {self.family.title}."
            )
        possible = {str(number): number for number in range(1, self.max_frames + 1)}
        if frames in possible:
            config = replace(config, trained_frames=possible[frames])
        elif frames is not None:
            notices.append(
                f"its metadata says that it was trained on '{shorten(frames, 40)}' frames; expected 1 to "
                f"{self.max_frames}. {config.trained_frames} are assumed, as for any {config.family.title}."
            )
        return config, tuple(notices)

    @property
    def base_model(self) -> str:
        """The kind of Stable Diffusion this motion model was made for, told by its widths."""
        return "SDXL" if len(self.block_channels) == SDXL_LEVELS else "SD1.5"

    @property
    def down_channels(self) -> tuple[int, ...]:
        """Width of each motion module in the down blocks, in the UNet's order."""
        return tuple(c for c in self.block_channels for _ in range(self.layers_per_block))

    @property
    def up_channels(self) -> tuple[int, ...]:
        """Width of each motion module in the up blocks, in the UNet's order."""
        return tuple(c for c in reversed(self.block_channels) for _ in range(self.layers_per_block + 1))

    @property
    def mid_channels(self) -> tuple[int, ...]:
        return self.block_channels[-1:] if self.has_mid_block else ()
