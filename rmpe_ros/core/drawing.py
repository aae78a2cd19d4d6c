# SPDX-License-Identifier: Apache-2.0
"""Draws poses into an image; the one drawing function of command line, node and docs."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.label_places import Rectangle, place_labels
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton

Color = tuple[int, int, int]

# RGB, far apart in hue and all bright enough to stand out on photos.
PERSON_COLORS: tuple[Color, ...] = (
    (0, 200, 255),
    (255, 140, 0),
    (120, 230, 60),
    (255, 80, 160),
    (170, 120, 255),
    (255, 220, 40),
    (0, 220, 170),
    (255, 100, 80),
    (100, 160, 255),
    (210, 240, 120),
)
SIDE_COLORS: dict[str, Color] = {
    'left': (0, 190, 255),
    'right': (255, 130, 0),
    'centre': (240, 240, 240),
}
_SIDES = ('left', 'centre', 'right')
_STRENGTHS = {'left': 1.0, 'centre': 0.85, 'right': 0.62}
# cv2 takes coordinates as integers with this many fractional bits.
_SHIFT = 4


def draw_poses(
    image: NDArray[np.uint8],
    poses: Poses,
    *,
    min_score: float = 0.3,
    color_by: Literal['person', 'side'] = 'person',
    boxes: bool = False,
    labels: bool = False,
    only_sure: bool = True,
) -> NDArray[np.uint8]:
    """A copy of an image uint8 (H, W, 3) RGB with skeletons drawn on it.

    min_score: keypoints below it, and limbs that end in one, are left out.
    color_by: 'person' gives each track (or person, where nobody is tracked) a colour of its own,
        with the right side of the body darker; 'side' paints left limbs blue, right ones orange
        and the middle white.
    boxes: draw the person's box. labels: write the track's number and the person's score, where
        that covers neither faces nor other labels.
    only_sure: draw nothing of a person who has not one keypoint of at least min_score.
    Widths follow the size of each person, so that children in the back stay recognisable.
    """
    canvas = image.copy()
    people = [
        person
        for person in range(len(poses))
        if not only_sure or (poses.keypoint_scores[person] >= min_score).any()
    ]
    colors = {person: _person_color(poses, person) for person in people}
    # The surest person is drawn last and lies on top.
    for person in reversed(people):
        color = colors[person]
        _draw_skeleton(canvas, poses, person, min_score, None if color_by == 'side' else color)
        if boxes:
            _draw_box(canvas, poses.boxes[person], color)
    if labels:
        _draw_labels(canvas, poses, people, min_score, colors)
    return canvas


def _person_color(poses: Poses, person: int) -> Color:
    track = int(poses.track_ids[person])
    return PERSON_COLORS[(track if track >= 0 else person) % len(PERSON_COLORS)]


def _draw_skeleton(
    canvas: NDArray[np.uint8], poses: Poses, person: int, min_score: float, color: Color | None
) -> None:
    """One person, in shades of `color`, or by sides where it is None."""
    names = poses.skeleton.keypoints
    is_seen = poses.keypoint_scores[person] >= min_score
    seen = np.flatnonzero(is_seen).tolist()
    widest = max(12, max(canvas.shape[:2]) // 110)
    width = _line_width(poses.boxes[person], poses.keypoints[person][is_seen], widest)
    points = _to_fixed(poses.keypoints[person])
    limbs = [(a, b) for a, b in poses.skeleton.edges if a in seen and b in seen]
    # First a dark rim around everything, which keeps light colours readable on a light ground.
    rim = max(1, round(width * 0.25))
    for a, b in limbs:
        _draw_line(canvas, points[a], points[b], (20, 20, 20), width + 2 * rim)
    for a, b in limbs:
        _draw_line(canvas, points[a], points[b], _shade(color, names[a], names[b]), width)
    radius = max(1.0, width * 0.7)
    for index in seen:
        _draw_dot(canvas, points[index], (20, 20, 20), radius + max(0.6, rim * 0.7))
        _draw_dot(canvas, points[index], _tint(_shade(color, names[index], names[index])), radius)


def _line_width(box: NDArray[np.floating], points: NDArray[np.floating], widest: int = 12) -> int:
    """Pixels, from the larger of the person's box and the extent of the keypoints."""
    size = float(max(box[2:] - box[:2]))
    if len(points):
        size = max(size, float(np.ptp(points, axis=0).max()))
    return int(np.clip(round(size / 70), 1, widest))


def drawing_rules(skeleton: Skeleton) -> dict[str, Any]:
    """The same look as numbers, for who draws elsewhere: colours of people, edges as (a, b, side),
    sides of the keypoints, which are in the face, and how bright each side is (0 left, 1 centre,
    2 right).
    """
    names = skeleton.keypoints
    return {
        'colors': PERSON_COLORS,
        'edges': [(a, b, _SIDES.index(_side(names[a], names[b]))) for a, b in skeleton.edges],
        'sides': [_SIDES.index(_side(name, name)) for name in names],
        'face': face_joints(skeleton),
        'strengths': [_STRENGTHS[side] for side in _SIDES],
    }


def _side(a: str, b: str) -> str:
    """Of a limb from keypoint `a` to `b`, the side of the body it is on."""
    sides = {name.partition('_')[0] for name in (a, b)} & {'left', 'right'}
    return sides.pop() if len(sides) == 1 else 'centre'


@cache
def _shade(color: Color | None, a: str, b: str) -> Color:
    """The colour of a limb from keypoint `a` to `b`, by the side of the body it is on."""
    side = _side(a, b)
    return SIDE_COLORS[side] if color is None else _mix(color, (0, 0, 0), _STRENGTHS[side])


@cache
def _tint(color: Color) -> Color:
    """A lighter colour, for the dots on a limb."""
    return _mix(color, (255, 255, 255), 0.55)


def _mix(a: Color, b: Color, share: float) -> Color:
    """`share` of colour `a`, the rest of `b`."""
    red, green, blue = (round(share * x + (1 - share) * y) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _to_fixed(points: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Points as cv2 wants them; far outside the image they are only kept from overflowing."""
    fixed = np.rint(np.clip(points, -1e5, 1e5) * (1 << _SHIFT)).astype(int)
    return [(x, y) for x, y in fixed.tolist()]


def _draw_line(
    canvas: NDArray[np.uint8], a: tuple[int, int], b: tuple[int, int], color: Color, width: int
) -> None:
    cv2.line(canvas, a, b, color, width, cv2.LINE_AA, _SHIFT)


def _draw_dot(
    canvas: NDArray[np.uint8], centre: tuple[int, int], color: Color, radius: float
) -> None:
    cv2.circle(
        canvas, centre, round(radius * (1 << _SHIFT)), color, cv2.FILLED, cv2.LINE_AA, _SHIFT
    )


def _draw_box(canvas: NDArray[np.uint8], box: NDArray[np.floating], color: Color) -> None:
    # Boxes are in edge coordinates, cv2 draws in pixel-centre coordinates.
    top_left, bottom_right = _to_fixed(box.reshape(2, 2) - 0.5)
    width = (_line_width(box, box[:0]) + 1) // 2
    cv2.rectangle(canvas, top_left, bottom_right, color, width, cv2.LINE_AA, _SHIFT)


def _draw_labels(
    canvas: NDArray[np.uint8],
    poses: Poses,
    people: Sequence[int],
    min_score: float,
    colors: Mapping[int, Color],
) -> None:
    """Dark text on a bar of each person's colour."""
    height, width = canvas.shape[:2]
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(height, width) / 1600 + 0.2
    texts = [_label_text(poses, person) for person in people]
    thick = max(1, round(1.5 * scale))
    measured = [cv2.getTextSize(text, font, scale, thick) for text in texts]
    sizes = [(text[0] + 4, text[1] + below + 2) for text, below in measured]
    limits = np.clip(poses.boxes, -1e5, 1e5).astype(float)
    faces = [face for person in people if (face := _face(poses, person, min_score))]
    boxes = [limits[person].tolist() for person in people]
    places = place_labels(sizes, boxes, faces, (width, height))
    for person, text, place, size, (_, below) in zip(
        people, texts, places, sizes, measured, strict=True
    ):
        left, top = round(place[0]), round(place[1])
        corner = (left + size[0], top + size[1])
        cv2.rectangle(canvas, (left, top), corner, colors[person], cv2.FILLED)
        base = (left + 2, top + size[1] - below)
        cv2.putText(canvas, text, base, font, scale, (0, 0, 0), thick, cv2.LINE_AA)


def _label_text(poses: Poses, person: int) -> str:
    track = int(poses.track_ids[person])
    return f'{f"{track}: " if track >= 0 else ""}{poses.scores[person]:.2f}'


def face_joints(skeleton: Skeleton) -> list[int]:
    """The keypoints that are in a face, by their names."""
    names = ('nose', 'eye', 'ear')
    return [i for i, joint in enumerate(skeleton.keypoints) if joint.endswith(names)]


def _face(poses: Poses, person: int, min_score: float) -> Rectangle | None:
    """The rectangle around the face that can be seen."""
    joints = face_joints(poses.skeleton)
    points = poses.keypoints[person, joints]
    points = points[poses.keypoint_scores[person, joints] >= min_score]
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    # Eyes and ears are in the middle of a head.
    margin = max(0.4 * float((high - low).max()), 4.0)
    (x, y), (wide, tall) = low - margin, high - low + 2 * margin
    return float(x), float(y), float(wide), float(tall)
