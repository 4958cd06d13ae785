"""Paths of a camera: what each movement does, how they join, and what texts say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pack.animation.camera_path import MOVES, QUANTITIES, Amounts, CameraPath, Cameras, Lens, Move, MoveEasing, Poses
from pack.animation.camera_rays import fitted_intrinsics, plucker_rays
from pack.animation.camera_text import path_part_of_text
from pack.animation.schedule import Easing, Pace
from pack.motion_models.errors import UserError

STILL = CameraPath()
FORWARD, UP, RIGHT = (0, 0, 1), (0, -1, 0), (1, 0, 0)


def path_of(*parts) -> CameraPath:
    return CameraPath(tuple(Move(part) if isinstance(part, str) else part for part in parts))


def ways(path: CameraPath, frames: int = 16) -> np.ndarray:
    return path.over(frames).poses[:, :3, 3]


# --- movements ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("move", "axis", "towards"),
    [
        ("pan right", FORWARD, RIGHT), ("tilt up", FORWARD, UP), ("roll clockwise", UP, RIGHT),
        ("pan left", FORWARD, (-1, 0, 0)), ("tilt down", FORWARD, (0, 1, 0)), ("roll counterclockwise", UP, (-1, 0, 0)),
    ],
)  # fmt: skip
def test_turns_go_where_their_names_say(move, axis, towards):
    """At speed 1 by 30 degrees from the first of 16 frames to the last, and nowhere else."""
    poses, _ = path_of(move).over(16)
    turned = poses[-1, :3, :3] @ axis
    assert np.allclose(turned, np.cos(np.pi / 6) * np.array(axis) + np.sin(np.pi / 6) * np.array(towards))
    assert np.allclose(ways(path_of(move)), 0)


@pytest.mark.parametrize(
    ("move", "way"),
    [
        ("dolly in", FORWARD), ("truck right", RIGHT), ("pedestal up", UP),
        ("dolly out", (0, 0, -1)), ("truck left", (-1, 0, 0)), ("pedestal down", (0, 1, 0)), ("still", (0, 0, 0)),
    ],
)  # fmt: skip
def test_ways_go_where_their_names_say(move, way):
    assert np.allclose(ways(path_of(move))[-1], way)
    assert np.allclose(path_of(move).over(16).poses[:, :3, :3], np.eye(3))


def test_zoom_changes_the_lens_alone():
    cameras = path_of("zoom in").over(16)
    assert np.allclose(cameras.poses, np.eye(4))
    ratio = cameras.lens.intrinsics[-1] / cameras.lens.intrinsics[0]
    assert np.allclose(ratio, [1.5, 1.5, 1, 1])
    assert np.allclose(path_of("zoom in", "zoom out").over(16).lens.intrinsics, STILL.over(16).lens.intrinsics)


def test_every_movement_is_of_a_quantity_and_has_its_opposite():
    assert {quantity for quantity, _ in MOVES.values()} == set(QUANTITIES)
    for quantity in QUANTITIES:
        assert sum(amount for its, amount in MOVES.values() if its == quantity) == 0


def test_speed_is_per_frame_and_easing_keeps_the_way():
    assert np.allclose(ways(path_of(Move("dolly in", 2.0)), 31)[-1], (0, 0, 4))
    eased = {easing: ways(path_of(Move("dolly in", 1.0, easing)))[:, 2] for easing in MoveEasing}
    steps = {easing: np.diff(way) for easing, way in eased.items()}
    assert all(np.isclose(way[-1], 1) for way in eased.values())
    assert np.allclose(steps[MoveEasing.LINEAR], 1 / 15)
    assert (np.diff(steps[MoveEasing.IN]) > 0).all()
    assert (np.diff(steps[MoveEasing.OUT]) < 0).all()
    assert np.allclose(steps[MoveEasing.IN_OUT], steps[MoveEasing.IN_OUT][::-1])
    assert steps[MoveEasing.IN_OUT][7] > 1 / 15 > steps[MoveEasing.IN_OUT][0]


def test_a_movement_rests_outside_of_its_frames():
    way = ways(path_of(Move("truck right", 1.0, start_frame=4, end_frame=-5)))[:, 0]
    assert np.allclose(way[:5], 0)
    assert np.allclose(way[11:], 7 / 15)
    assert np.allclose(np.diff(way[4:12]), 1 / 15)
    assert np.allclose(ways(path_of("truck right"), 1), 0)


# --- joining ------------------------------------------------------------------------------------------------------------


def test_a_movement_goes_on_from_where_the_one_before_it_has_led():
    """A quarter turn to the right, then forward: forward is then where right was."""
    quarter = Move("pan right", 3.0, end_frame=15)
    path = path_of(quarter, Move("dolly in", 1.0, start_frame=15))
    cameras = path.over(31)
    assert np.allclose(cameras.poses[15], path_of(quarter).over(16).poses[-1])
    assert np.allclose(cameras.poses[-1, :3, 3], RIGHT)
    first, second = path_of(quarter).over(31).poses, path_of(Move("dolly in", start_frame=15)).over(31).poses
    assert np.allclose(cameras.poses, first @ second)


def test_movements_at_the_same_time_make_an_arc():
    """Sideways while it turns the other way: an orbit about a point ahead, which stays in the middle of the picture."""
    radius = 1 / np.radians(30)
    for moves in (("truck left", "pan right"), ("pan right", "truck left")):
        cameras = path_of(*moves).over(16)
        centres = cameras.poses[:, :3, :3] @ np.array([0, 0, radius]) + cameras.poses[:, :3, 3]
        assert np.abs(centres - [0, 0, radius]).max() < 0.02 * radius


def test_paths_of_any_kind_join():
    recorded = path_part_of_text(POSES)
    cameras = path_of(recorded, Move("pan right", start_frame=0)).over(3)
    steps = [np.linalg.inv(each[:-1]) @ each[1:] for each in (recorded.over(3).poses, path_of("pan right").over(3).poses)]
    assert np.allclose(cameras.poses[1], steps[0][0] @ steps[1][0])
    assert np.allclose(cameras.poses[2], cameras.poses[1] @ steps[0][1] @ steps[1][1])
    # The recorded lens stays; others' zoom comes in addition.
    zoomed = path_of("zoom in", recorded).over(3).lens
    assert np.allclose(zoomed.intrinsics[:, 0], [0.5, 0.5 * 1.5 ** (1 / 15), 0.6 * 1.5 ** (2 / 15)])


# --- texts --------------------------------------------------------------------------------------------------------------

POSES = """https://example.org/video
0 0.5 0.9 0.5 0.5 0 0 1 0 0 0.0 0 1 0 0 0 0 1 0
33 0.5 0.9 0.5 0.5 0 0 1 0 0 -1.0 0 1 0 0 0 0 1 0

66 0.6 0.9 0.5 0.5 0 0 0 0 -1 0 0 1 0 0 1 0 0 0
"""


def test_keyframes_are_how_the_camera_stands():
    """Turned, then seen from where it stands: ways are along the axes of the first frame, and values of 0 lead back."""
    text = "pan: 0: 0, 15: 90, 30: 0\n  # comment\ndolly: 0: 0\n  15: 2\n  30: 0\nPedestal = 0: 0, 50%: 1, -1: 0"
    cameras = path_of(path_part_of_text(text)).over(31)
    assert np.allclose(cameras.poses[15, :3, 3], (0, -1, 2))
    assert np.allclose(cameras.poses[15, :3, :3] @ FORWARD, RIGHT)
    assert np.allclose(cameras.poses[30], np.eye(4))
    eased = path_of(path_part_of_text("truck: 0: 0, 10: 1", Pace(Easing.HOLD))).over(11)
    assert np.allclose(eased.poses[:10, 0, 3], 0)
    assert np.allclose(path_of(path_part_of_text("zoom: 1 + t / 10")).over(11).lens.intrinsics[10], STILL.over(1).lens.intrinsics[0] * [2, 2, 1, 1])


def test_realestate10k():
    """World to camera; with a stride or spread over the clip, whole poses to the last bit."""
    part = path_part_of_text(POSES)
    poses, lens = path_of(part).over(3)
    assert np.allclose(poses[:, :3, 3], [(0, 0, 0), (1, 0, 0), (0, 0, 0)])
    assert np.array_equal(lens.intrinsics[:, 0], [0.5, 0.5, 0.6])
    assert lens.aspect == 16 / 9
    halfway = path_of(part).over(5).poses
    assert np.allclose(halfway[[0, 2, 4]], poses)
    assert np.allclose(halfway[3, :3, :3] @ halfway[3, :3, :3].T, np.eye(3))
    assert np.isclose(np.trace(halfway[3, :3, :3]), 1 + 2 * np.cos(np.pi / 4))  # half of a quarter turn
    by_two = path_of(path_part_of_text(POSES, stride=2)).over(4)
    assert np.allclose(by_two.poses, poses[[0, 2, 2, 2]])
    evolved = POSES.replace(" 0.5 0.5 0 0 ", " 0.5 0.5 640 640 ")
    assert path_of(path_part_of_text(evolved)).over(3).lens.aspect == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The text is empty"),
        ("pann: 0: 0", "Line 1: 'pann' is not one of pan, tilt, roll"),
        ("0: 0, 15: 30", "Line 1: '0: 0, 15: 30' is for nothing. Begin with pan, tilt"),
        ("pan: 0: 0\ntilt: 0: 0\npan: 3: 1", "Line 3: pan has keyframes already"),
        ("pan: 0: 0\ntilt: 0: 1, 0: 2", "Line 2, character 13: '0' and '0' are for the same position"),
        ("pan: 0: sin(", "Line 1, character 12"),
        (POSES.replace("33 ", ""), "Line 3: a pose of RealEstate10K has 19 numbers, but this line has 18"),
        (POSES.replace("-1.0", "1e99"), "Line 3: this is not a pose: expected plain numbers"),
        (POSES.replace("0.6 0.9", "-0.6 0.9"), "Line 5: the second and third number are focal lengths"),
        (POSES.replace("1 0 0 -1.0", "2 0 0 -1.0"), "Line 3: .* but the rotation is none"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_text_is_said_with_its_line(text, message):
    with pytest.raises(UserError, match=message):
        path_part_of_text(text)


def test_what_is_wrong_for_a_clip_is_said():
    with pytest.raises(UserError, match="zoom is -1 at frame 15, but it is a factor above 0"):
        path_of(path_part_of_text("zoom: 0: 1, 15: -1")).over(16)
    with pytest.raises(UserError, match="Make start_frame the earlier one"):
        Move("pan left", start_frame=8, end_frame=8)
    with pytest.raises(UserError, match="but the clip has 16 frames, 0 to 15"):
        path_of(Move("pan left", start_frame=20)).over(16)
    assert path_of(Move("pan left", start_frame=20), "still").least_frames == 21
    for move, message in (("dolly in", "units away from where it began"), ("zoom out", "zoom less"), ("zoom in", "zoom less")):
        with pytest.raises(UserError, match=message):
            path_of(Move(move, 10.0)).over(4096)


# --- rays ---------------------------------------------------------------------------------------------------------------


def test_rays_are_lines_that_a_point_lies_on():
    """Moment and direction: a point that is seen in a pixel lies on that pixel's ray, at any frame."""
    cameras = path_of("truck right", "pan left", "zoom in").over(4)
    rays = plucker_rays(cameras, 18, 32).double().numpy()
    moment, direction = rays[:, :3], rays[:, 3:]
    assert np.allclose(np.linalg.norm(direction, axis=1), 1, atol=1e-6)
    assert np.abs((moment * direction).sum(1)).max() < 1e-6
    point = np.array([0.3, -0.2, 3.0, 1.0])
    for frame in range(4):
        x, y, z, _ = np.linalg.inv(cameras.poses[frame]) @ point
        fx, fy, cx, cy = cameras.lens.intrinsics[frame]
        column, row = int((fx * x / z + cx) * 32), int((fy * y / z + cy) * 18)
        distance = np.linalg.norm(np.cross(point[:3], direction[frame, :, row, column]) - moment[frame, :, row, column])
        assert distance < z / (fx * 32)  # within a pixel's width


def test_a_picture_of_another_shape_is_cut_out_of_the_lenss():
    """Of a square one, the height is seen whole, and 9/16 of the width; of a strip, the width."""
    cameras = path_of("still").over(1)
    own = STILL.over(1).lens.intrinsics[0]
    assert np.allclose(fitted_intrinsics(cameras, 720, 1280), own)
    assert np.allclose(fitted_intrinsics(cameras, 512, 512), own * [16 / 9, 1, 1, 1])
    assert np.allclose(fitted_intrinsics(cameras, 512, 2048), own * [1, 4 * 9 / 16, 1, 1])


def test_rays_are_relative_to_the_first_camera():
    path = Poses(np.linalg.inv(Amounts(pan=np.linspace(40, 60, 4), truck=3.0).course(4).poses), Lens(np.full((4, 4), 0.5), 1.0))
    poses, lens = path_of(path).over(4)
    later = plucker_rays(Cameras(poses[1:], lens._replace(intrinsics=lens.intrinsics[1:])), 4, 4)
    assert later[0, :3].abs().max() < 1e-12
    assert torch.allclose(later[0], plucker_rays(STILL.over(1)._replace(lens=Lens(lens.intrinsics[:1], 1.0)), 4, 4)[0], atol=1e-6)
