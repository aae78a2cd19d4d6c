# SPDX-License-Identifier: Apache-2.0
"""Joints in space as a sensor_msgs/PointCloud2."""

from __future__ import annotations

import array
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from rmpe_ros.core.poses import Poses

_FIELDS = (
    ('x', np.float32, PointField.FLOAT32),
    ('y', np.float32, PointField.FLOAT32),
    ('z', np.float32, PointField.FLOAT32),
    ('score', np.float32, PointField.FLOAT32),
    ('track_id', np.int32, PointField.INT32),
    ('joint', np.uint32, PointField.UINT32),
)
_POINT = np.dtype([(name, kind) for name, kind, _ in _FIELDS])


def joint_cloud(positions: NDArray[np.floating], poses: Poses, header: Header) -> PointCloud2:
    """One point for each joint with a known position (N, K, 3), metres in the header's frame.

    Fields: x, y, z, score (float32), track_id (int32), joint (uint32, its index in the skeleton).
    The buffer is filled from one structured array, for which `sensor_msgs_py` is not needed.
    """
    person, joint = np.nonzero(np.isfinite(positions).all(axis=-1))
    points = np.zeros(len(person), _POINT)
    for axis, name in enumerate('xyz'):
        points[name] = positions[person, joint, axis]
    points['score'] = poses.keypoint_scores[person, joint]
    points['track_id'] = poses.track_ids[person]
    points['joint'] = joint
    data: array.array[Any] = array.array('B')
    data.frombytes(points.tobytes())
    # All fields take four bytes.
    fields = [
        PointField(name=name, offset=4 * index, datatype=code, count=1)
        for index, (name, _, code) in enumerate(_FIELDS)
    ]
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=sys.byteorder == 'big',
        point_step=_POINT.itemsize,
        row_step=_POINT.itemsize * len(points),
        data=data,
        is_dense=True,
    )
