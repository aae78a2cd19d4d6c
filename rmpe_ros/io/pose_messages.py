# SPDX-License-Identifier: Apache-2.0
"""Turn poses into messages, at little cost for each image."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np

from rmpe_ros.core.poses import COLOURS, Poses
from rmpe_ros.io.messages import MessageClasses

_UNKNOWN = np.full(3, np.nan, np.float32)
_UNKNOWN_COLOURS = np.full(COLOURS, np.nan, np.float32)


class PoseMessages:
    """Makes one PersonPoseArray after another out of the same parts: to make the 400 objects that
    tell of twenty people costs six times as much as to fill them.
    """

    def __init__(self, classes: MessageClasses) -> None:
        self._classes = classes
        self._people: list[Any] = []
        # Of each person the joints, each beside its covariance, an array of the message's own.
        self._joints: list[list[tuple[Any, Any]]] = []
        self._joint_count = 0

    def make(
        self,
        poses: Poses,
        header: Any,
        *,
        image_size: tuple[int, int],
        timings: Mapping[str, float] | None = None,
    ) -> Any:
        """All people of one image as one message, also when nobody is there.

        header: the image's own, used unchanged; image_size: (height, width) in pixels;
        timings: milliseconds by stage as `PosePipeline.timings` has them; 0 where left out.
        The message of before is written over: publish or write it first. All joints of a person
        share one position, which says "unknown".
        """
        timings = timings or {}
        count, joint_count = poses.keypoint_scores.shape
        if joint_count != self._joint_count:
            self._people, self._joints, self._joint_count = [], [], joint_count
        while len(self._people) < count:
            self._add_person()
        spreads: Any = repeat(repeat(_UNKNOWN))
        if poses.covariances is not None:
            spreads = poses.covariances
        colours: Any = repeat(_UNKNOWN_COLOURS)
        if poses.colours is not None:
            colours = poses.colours
        rows = zip(
            self._people,
            self._joints,
            poses.scores.tolist(),
            poses.track_ids.tolist(),
            poses.boxes,
            colours,
            poses.keypoints.tolist(),
            poses.keypoint_scores.tolist(),
            spreads,
            strict=False,
        )
        for person, joints, person_score, track_id, box, worn, *of_joints in rows:
            person.score, person.track_id = person_score, track_id
            person.box[:] = box
            person.colours[:] = worn
            for (joint, covariance), (x, y), score, spread in zip(joints, *of_joints, strict=False):
                joint.x, joint.y, joint.score = x, y, score
                covariance[:] = spread
        return self._classes.person_pose_array(
            header=header,
            skeleton=poses.skeleton.name,
            image_width=image_size[1],
            image_height=image_size[0],
            people=self._people[:count],
            detector_ms=float(timings.get('detect', 0.0)),
            pose_ms=float(timings.get('crop', 0.0) + timings.get('estimate', 0.0)),
            nms_ms=float(timings.get('nms', 0.0)),
            total_ms=float(timings.get('total', 0.0)),
        )

    def _add_person(self) -> None:
        make = self._classes
        nowhere = make.point(x=float('nan'), y=float('nan'), z=float('nan'))
        joints = [
            make.keypoint(x=0.0, y=0.0, score=0.0, covariance=_UNKNOWN.copy(), position=nowhere)
            for _ in range(self._joint_count)
        ]
        box = np.zeros(4, np.float32)
        self._people.append(
            make.person_pose(
                track_id=-1,
                score=0.0,
                box=box,
                colours=_UNKNOWN_COLOURS.copy(),
                keypoints=joints,
            )
        )
        self._joints.append([(joint, joint.covariance) for joint in joints])


def poses_to_message(
    poses: Poses,
    header: Any,
    classes: MessageClasses,
    *,
    image_size: tuple[int, int],
    timings: Mapping[str, float] | None = None,
) -> Any:
    """A message that stays; see `PoseMessages.make`, which is faster for one after another."""
    return PoseMessages(classes).make(poses, header, image_size=image_size, timings=timings)
