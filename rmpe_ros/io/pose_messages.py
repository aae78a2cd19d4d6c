# SPDX-License-Identifier: Apache-2.0
"""Turn poses into messages, or at once into their bytes, which costs little for each image."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np

from rmpe_ros.core.poses import COLOURS, Poses
from rmpe_ros.io.messages import MessageClasses

_UNKNOWN = np.full(3, np.nan, np.float32)
_UNKNOWN_COLOURS = np.full(COLOURS, np.nan, np.float32)

# PersonPose and Keypoint in words of four bytes.
_JOINTS = 7 + COLOURS  # behind track_id, score, box, colours and the number of joints
_FLAT = 6  # x, y, score and covariance, before a position of three numbers of two words
_JOINT = _FLAT + 6
_GAP = _JOINTS + _FLAT  # what is left empty, lest the first position begin in mid-number
_NAN_HIGH = 0x7FF80000  # the upper word of a NaN of eight bytes; the lower one is 0


def poses_to_message(
    poses: Poses,
    header: Any,
    classes: MessageClasses,
    *,
    image_size: tuple[int, int],
    timings: Mapping[str, float] | None = None,
) -> Any:
    """All people of one image as one PersonPoseArray, also when nobody is there.

    header: the image's own, used unchanged; image_size: (height, width) in pixels; timings:
    milliseconds by stage as `PosePipeline.timings` has them; 0 where left out. All joints of a
    person share one position, which says "unknown".
    """
    nowhere = classes.point(x=float('nan'), y=float('nan'), z=float('nan'))
    spreads: Any = repeat(repeat(_UNKNOWN)) if poses.covariances is None else poses.covariances
    colours: Any = repeat(_UNKNOWN_COLOURS) if poses.colours is None else poses.colours
    people = [
        classes.person_pose(
            track_id=track_id,
            score=person_score,
            box=box.copy(),
            colours=worn.copy(),
            keypoints=[
                classes.keypoint(x=x, y=y, score=score, covariance=spread.copy(), position=nowhere)
                for (x, y), score, spread in zip(*of_joints, strict=False)
            ],
        )
        for track_id, person_score, box, worn, *of_joints in zip(
            poses.track_ids.tolist(),
            poses.scores.tolist(),
            poses.boxes,
            colours,
            poses.keypoints.tolist(),
            poses.keypoint_scores.tolist(),
            spreads,
            strict=False,
        )
    ]
    names = ('detector_ms', 'pose_ms', 'nms_ms', 'total_ms')
    return classes.person_pose_array(
        header=header,
        skeleton=poses.skeleton.name,
        image_width=image_size[1],
        image_height=image_size[0],
        people=people,
        **dict(zip(names, _times(timings), strict=True)),
    )


def serialize_poses(
    poses: Poses,
    header: Any,
    *,
    image_size: tuple[int, int],
    timings: Mapping[str, float] | None = None,
) -> bytes:
    """What `poses_to_message` says, as a publisher sends and a bag keeps it: in CDR, little endian.

    OMG's DDSI-RTPS, clause 10, CDR_LE: numbers lie at multiples of their size. rclpy asks each of
    the 400 objects that tell of twenty people for each number, which takes thirty times as long.
    """
    frame = _string(header.frame_id)
    start = _padded(struct.pack('<iI', header.stamp.sec, header.stamp.nanosec) + frame)
    start = _padded(start + _string(poses.skeleton.name))
    start += struct.pack('<III', image_size[1], image_size[0], len(poses))
    people = _people(poses, at=len(start)) if len(poses) else b''
    end = struct.pack('<4f', *_times(timings))
    return b'\x00\x01\x00\x00' + start + people + end


def _people(poses: Poses, at: int) -> bytes:
    """The PersonPose of each, of at least one, behind so many bytes."""
    count, joint_count = poses.keypoint_scores.shape
    # Of who begins at a multiple of eight, as all do but perhaps the first, there is a gap before
    # the first joint's position; those of the other joints lie right without.
    words = np.empty((count, _JOINTS + 1 + joint_count * _JOINT), '<f4')
    integers = words.view('<i4')
    integers[:, 0] = poses.track_ids
    words[:, 1] = poses.scores
    words[:, 2:6] = poses.boxes
    words[:, 6 : _JOINTS - 1] = _UNKNOWN_COLOURS if poses.colours is None else poses.colours
    integers[:, _JOINTS - 1] = joint_count
    joints = words[:, _JOINTS + 1 :].reshape(count, joint_count, _JOINT)
    joints[..., :2] = poses.keypoints
    joints[..., 2] = poses.keypoint_scores
    joints[..., 3:_FLAT] = _UNKNOWN if poses.covariances is None else poses.covariances
    positions = joints.view('<i4')[..., _FLAT:]
    positions[..., 0::2], positions[..., 1::2] = 0, _NAN_HIGH
    words[:, _JOINTS:_GAP] = joints[:, 0, :_FLAT]
    integers[:, _GAP] = 0
    if at % 8:
        return words[0, :_GAP].tobytes() + words[0, _GAP + 1 :].tobytes() + words[1:].tobytes()
    return words.tobytes()


def _string(text: str) -> bytes:
    encoded = text.encode() + b'\x00'
    return struct.pack('<I', len(encoded)) + encoded


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _times(timings: Mapping[str, float] | None) -> tuple[float, float, float, float]:
    """Milliseconds of the detector, of crops and poses, of pose NMS and of all together."""
    timings = timings or {}
    return (
        float(timings.get('detect', 0.0)),
        float(timings.get('crop', 0.0) + timings.get('estimate', 0.0)),
        float(timings.get('nms', 0.0)),
        float(timings.get('total', 0.0)),
    )
