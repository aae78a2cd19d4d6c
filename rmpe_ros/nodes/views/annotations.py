# SPDX-License-Identifier: Apache-2.0
"""Skeletons as foxglove_msgs/ImageAnnotations, which Foxglove draws on the camera image itself."""

from __future__ import annotations

from typing import Any

from rmpe_ros.core.drawing import PERSON_COLORS
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.msg import PersonPose, PersonPoseArray

# In shares of the longer side of a person's box, as pictures have it; pixels at least.
_LIMB_WIDTH, _LEAST_WIDTH = 0.012, 1.5
_FONT_SIZE = 14.0
# foxglove_msgs/PointsAnnotation: POINTS and LINE_LIST.
_POINTS, _LINE_LIST = 1, 4


def foxglove_classes() -> Any | None:
    """The module foxglove_msgs.msg, or None where it is not installed."""
    try:
        import foxglove_msgs.msg as classes
    except ImportError:
        return None
    return classes


def image_annotations(
    message: PersonPoseArray, skeleton: Skeleton, classes: Any, *, min_score: float = 0.3
) -> Any:
    """An ImageAnnotations of all people: limbs, joints, and `number: score` above the box.

    classes: the module foxglove_msgs.msg. Joints below min_score and their limbs are left out; an
    empty message is what clears the picture. Foxglove counts pixels from the corner of the
    top-left one, our keypoints from its centre.
    """
    points, texts = [], []
    for index, person in enumerate(message.people):
        shade = PERSON_COLORS[
            (person.track_id if person.track_id >= 0 else index) % len(PERSON_COLORS)
        ]
        color = _color(classes, shade)
        width = _width(person)
        seen = [joint.score >= min_score for joint in person.keypoints]
        corners = [classes.Point2(x=joint.x + 0.5, y=joint.y + 0.5) for joint in person.keypoints]
        limbs = [
            corners[joint]
            for edge in skeleton.edges
            if seen[edge[0]] and seen[edge[1]]
            for joint in edge
        ]
        joints = [corner for corner, visible in zip(corners, seen, strict=True) if visible]
        for kind, parts, thickness in ((_LINE_LIST, limbs, width), (_POINTS, joints, 2 * width)):
            if parts:
                points.append(
                    classes.PointsAnnotation(
                        timestamp=message.header.stamp,
                        type=kind,
                        points=parts,
                        outline_color=color,
                        fill_color=color,
                        thickness=thickness,
                    )
                )
        number = f'{person.track_id}: ' if person.track_id >= 0 else ''
        texts.append(
            classes.TextAnnotation(
                timestamp=message.header.stamp,
                position=classes.Point2(x=float(person.box[0]), y=float(person.box[1])),
                text=f'{number}{person.score:.2f}',
                font_size=_FONT_SIZE,
                text_color=color,
                background_color=_color(classes, (0, 0, 0), alpha=0.5),
            )
        )
    return classes.ImageAnnotations(points=points, texts=texts)


def _color(classes: Any, shade: tuple[int, int, int], *, alpha: float = 1.0) -> Any:
    red, green, blue = (part / 255 for part in shade)
    return classes.Color(r=red, g=green, b=blue, a=alpha)


def _width(person: PersonPose) -> float:
    x1, y1, x2, y2 = (float(edge) for edge in person.box)
    return max(_LIMB_WIDTH * max(x2 - x1, y2 - y1), _LEAST_WIDTH)
