"""The demo world's clips: a shape of one colour that moves before a plain background, and what is said of it.

A caption names colour, shape and motion, and mostly the background: "a red circle moving right on a dark background".
Positions and sizes are in half image widths, ``x`` to the right and ``y`` down, so a scene looks the same at any size.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

COLOURS = {
    "red": (0.90, 0.12, 0.12),
    "green": (0.10, 0.70, 0.22),
    "blue": (0.15, 0.30, 0.95),
    "yellow": (0.98, 0.85, 0.10),
    "purple": (0.62, 0.16, 0.85),
    "white": (0.97, 0.97, 0.97),
}
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
BACKGROUNDS = {"dark": 0.14, "grey": 0.45, "light": 0.82}
PAPER = (0.07, 0.08, 0.14)

FRAMES = 16
_DIRECTED = 0.76  # share of clips that move in a direction; the others grow, shrink or stand still


class Look(Enum):
    """How shapes are drawn: what a personalised checkpoint or LoRA is about."""

    FILLED = "filled"
    OUTLINED = "outlined"  # thin coloured lines on dark paper


@dataclass(frozen=True)
class Scene:
    """One clip before it is drawn.

    Attributes:
        motion: a key of ``DIRECTIONS``, or "growing", "shrinking", "standing still".
        start, end: centre ``(x, y)`` in the first and in the last frame.
        start_radius, end_radius: size in the first and in the last frame.
        background: a key of ``BACKGROUNDS``, or None to leave it unsaid.
        paint: the shape's RGB, near its named colour.
        ground: the background's RGB, in the middle of its gradient.
        gradient: change of the background's brightness per half width, ``(x, y)``.
    """

    colour: str
    shape: str
    motion: str
    start: tuple[float, float]
    end: tuple[float, float]
    start_radius: float
    end_radius: float
    background: str | None
    paint: tuple[float, float, float]
    ground: tuple[float, float, float]
    gradient: tuple[float, float]
    look: Look = Look.FILLED

    @property
    def caption(self) -> str:
        motion = f"moving {self.motion}" if self.motion in DIRECTIONS else self.motion
        where = f" on a {self.background} background" if self.background else ""
        return f"a {self.colour} {self.shape} {motion}{where}"


def is_held_back(colour: str, shape: str, motion: str) -> bool:
    """Whether a combination is kept from all training, to test with: one direction for each colour and shape."""
    if motion not in DIRECTIONS:
        return False
    number = list(COLOURS).index(colour) + SHAPES.index(shape)
    return list(DIRECTIONS).index(motion) == number % len(DIRECTIONS)


def held_back_prompts() -> list[str]:
    """The 18 prompts that no model of the demo world has seen."""
    combinations = itertools.product(COLOURS, SHAPES, DIRECTIONS)
    return [f"a {colour} {shape} moving {motion}" for colour, shape, motion in combinations if is_held_back(colour, shape, motion)]


def random_scene(generator: torch.Generator, look: Look = Look.FILLED) -> Scene:
    """Draw a scene that is not held back; colours, shapes and directions are equally frequent."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    def choice(options: list[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    colour, shape = choice(list(COLOURS)), choice(list(SHAPES))
    directed = uniform(0, 1) < _DIRECTED
    motions = DIRECTIONS if directed else ("growing", "shrinking", "standing still")
    motion = choice([name for name in motions if not is_held_back(colour, shape, name)])
    radius = uniform(0.34, 0.44)
    start_radius = end_radius = radius
    if directed:
        dx, dy = DIRECTIONS[motion]
        travel, along, across = uniform(0.75, 1.1), uniform(-0.1, 0.1), uniform(-0.45, 0.45)
        middle = (along, across) if dx else (across, along)
        start = (middle[0] - dx * travel / 2, middle[1] - dy * travel / 2)
        end = (middle[0] + dx * travel / 2, middle[1] + dy * travel / 2)
    else:
        start = end = (uniform(-0.45, 0.45), uniform(-0.45, 0.45))
        if motion != "standing still":
            small, large = uniform(0.22, 0.28), uniform(0.42, 0.50)
            start_radius, end_radius = (small, large) if motion == "growing" else (large, small)

    paint = tuple(min(max(value + uniform(-0.03, 0.03), 0.0), 1.0) for value in COLOURS[colour])
    background = choice([name for name in BACKGROUNDS if (colour, name) != ("white", "light")])
    tint, angle, slope = uniform(0, 2 * math.pi), uniform(0, 2 * math.pi), uniform(0.0, 0.06)
    if look is Look.OUTLINED:
        ground, slope = PAPER, slope / 3
    else:
        level = BACKGROUNDS[background] + uniform(-0.05, 0.05)
        ground = tuple(level + 0.04 * math.cos(tint + 2 * math.pi * channel / 3) for channel in range(3))
    said = background if look is Look.FILLED and uniform(0, 1) < 0.6 else None
    return Scene(
        colour, shape, motion, start, end, start_radius, end_radius, said, paint, ground,
        (slope * math.cos(angle), slope * math.sin(angle)), look,
    )


def render(scene: Scene, size: int, moments: Tensor | None = None, window: tuple[int, int, int] | None = None) -> Tensor:
    """Draw a scene.

    Args:
        scene: what to draw.
        size: width and height of the whole image in pixels.
        moments: ``(f,)`` points in time, 0 is the first frame, 1 the last; 16 evenly spaced if None.
        window: ``(left, top, side)`` in pixels, to draw a part of the image only.

    Returns:
        ``(f, 3, h, w)`` RGB from 0 to 1.
    """
    moments = torch.linspace(0, 1, FRAMES) if moments is None else moments
    left, top, side = window or (0, 0, size)
    xs = ((torch.arange(left, left + side) + 0.5) / size * 2 - 1)[None, None, :]
    ys = ((torch.arange(top, top + side) + 0.5) / size * 2 - 1)[None, :, None]

    def at(first: float, last: float) -> Tensor:
        return (first + (last - first) * moments)[:, None, None]

    x, y = xs - at(scene.start[0], scene.end[0]), ys - at(scene.start[1], scene.end[1])
    distance = signed_distance(scene.shape, x, y, at(scene.start_radius, scene.end_radius))
    if scene.look is Look.OUTLINED:
        distance = distance.abs() - 0.055
    coverage = (0.5 - distance * size / 2).clamp(0, 1)[:, None]  # one pixel wide edges
    shade = xs * scene.gradient[0] + ys * scene.gradient[1]
    ground = torch.tensor(scene.ground)[None, :, None, None] + shade[:, None]
    return (ground * (1 - coverage) + torch.tensor(scene.paint)[None, :, None, None] * coverage).clamp(0, 1)


def signed_distance(shape: str, x: Tensor, y: Tensor, radius: Tensor | float) -> Tensor:
    """Distance to a shape's edge around (0, 0), negative inside. ``radius`` is the circle's; the others match its size."""
    if shape == "circle":
        return (x * x + y * y).sqrt() - radius
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.89 * radius
    if shape == "triangle":  # pointing up: three half planes around the centre
        slanted = math.sqrt(0.75) * x.abs() - 0.5 * y
        return torch.maximum(y, slanted) - 0.72 * radius
    raise ValueError(f"'{shape}' is none of {', '.join(SHAPES)}.")
