"""Which frames of a clip images are for, and which of them a window of its frames sees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from .errors import InvalidInput

_MOST_FRAMES = 4096  # of a list: what a text makes must stay little


class Placing(Enum):
    """How images are placed; the values are part of saved workflows, so never renamed."""

    EVENLY = "spread evenly"
    LISTED = "at frames"
    ENDS = "first and last frame"
    FROM_FIRST = "spread from the first frame"
    TO_LAST = "spread to the last frame"
    MIDDLE = "spread between the ends"


class Unguided(Enum):
    """What a window sees that has no image; the values are part of saved workflows, so never renamed."""

    NEAREST = "nearest image"
    NOTHING = "no image"


class PlacedImage(NamedTuple):
    """An image by its number, and the place in a window of the frame that it is for."""

    image: int
    place: int


@dataclass(frozen=True)
class Placement:
    """Where in a clip images are, whatever its length."""

    placing: Placing = Placing.EVENLY
    frames: tuple[int, ...] = ()  # of ``LISTED``; negative ones count from the clip's end
    unguided: Unguided = Unguided.NEAREST

    def check_images(self, images: int) -> None:
        """Raise ``InvalidInput`` where so many images cannot be placed in a clip of any length."""
        if self.placing is Placing.LISTED and images not in (1, len(self.frames)):
            raise InvalidInput(
                f"There are {images} images for {_count(len(self.frames), 'frame')}: {', '.join(map(str, self.frames))}. "
                "Give one image for each frame, or one for all of them."
            )
        if self.placing is Placing.ENDS and images > 2:
            raise InvalidInput(
                f"There are {images} images for the first and the last frame. Give one or two, or choose another placement."
            )

    def frames_of(self, images: int, total_frames: int) -> list[tuple[int, int]]:
        """Pairs of an image's number and its frame, counted from 0; ``InvalidInput`` where a clip is too short for them."""
        self.check_images(images)
        frames = self._frames(images, total_frames)
        outside = [frame for frame in frames if not -total_frames <= frame < total_frames]
        if outside:
            raise InvalidInput(
                f"An image is placed at frame {outside[0]}, but the clip has {_count(total_frames, 'frame')}, "
                f"0 to {total_frames - 1}. Change the frames, or make a longer clip."
            )
        frames = [frame % total_frames for frame in frames]
        if len(set(frames)) < len(frames):
            twice = next(frame for number, frame in enumerate(frames) if frame in frames[:number])
            raise InvalidInput(
                f"Two images are placed at frame {twice} of a clip of {_count(total_frames, 'frame')}. "
                "Place each at a frame of its own, or make a longer clip."
            )
        return [(number if images > 1 else 0, frame) for number, frame in enumerate(frames)]

    def _frames(self, images: int, total_frames: int) -> list[int]:
        def evenly(count: int) -> list[int]:
            return np.linspace(0, total_frames - 1, count).astype(int).tolist()

        if self.placing is Placing.LISTED:
            return list(self.frames)
        if self.placing is Placing.ENDS:
            return [0, total_frames - 1] if total_frames > 1 or images > 1 else [0]
        if images == total_frames:
            return list(range(images))
        if self.placing is Placing.FROM_FIRST:
            return evenly(images + 1)[:-1]
        if self.placing is Placing.TO_LAST:
            return evenly(images + 1)[1:]
        if self.placing is Placing.MIDDLE:
            return evenly(images + 2)[1:-1]
        return evenly(images)

    def in_window(self, images: int, window: Sequence[int], total_frames: int) -> list[PlacedImage]:
        """The images that a window sees, whose frames in the clip are given in the window's order.

        Where none is for one of its frames, that is the nearest one at the window's nearest frame, or several that are equally
        near, or none, as ``unguided`` says.
        """
        placed = self.frames_of(images, total_frames)
        places = {frame: place for place, frame in enumerate(window)}
        seen = [PlacedImage(image, places[frame]) for image, frame in placed if frame in places]
        if seen or self.unguided is Unguided.NOTHING:
            return seen
        near = [min((abs(frame - own), place, image) for place, own in enumerate(window)) for image, frame in placed]
        least = min(distance for distance, _, _ in near)
        by_place = {place: image for distance, place, image in reversed(near) if distance == least}
        return [PlacedImage(image, place) for place, image in sorted(by_place.items())]


def frames_of_text(text: str, input_name: str = "frames") -> tuple[int, ...]:
    """Read an input's ``0, 8, -1``: whole numbers, each once; raises ``InvalidInput``."""
    words = re.split(r"[\s,]+", text.strip(" \t\r\n,"))
    wrong = next((word for word in words if not re.fullmatch(r"[+-]?[0-9]{1,9}", word)), None)
    if wrong is not None or len(words) > _MOST_FRAMES:
        found = "no frame" if not text.strip() else f"'{(text if wrong is None else wrong)[:40]}'"
        raise InvalidInput(
            f"{input_name} holds {found}. Expected whole numbers with commas between, such as 0, 8, -1: 0 is the first frame, "
            "-1 the last."
        )
    frames = tuple(map(int, words))
    twice = next((frame for number, frame in enumerate(frames) if frame in frames[:number]), None)
    if twice is not None:
        raise InvalidInput(f"{input_name} holds {twice} twice. A frame can have one image.")
    return frames


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
