# SPDX-License-Identifier: Apache-2.0
"""The conversions of `rmpe_ros.io.messages` that make messages, with rclpy's message classes.

Pure functions: they need the message classes, and no node, context or graph.
"""

from __future__ import annotations

import array
from functools import partial
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.io import messages, pose_messages
from rmpe_ros.msg import Keypoint, PersonPose, PersonPoseArray, SkeletonInfo


def _pack(values: NDArray) -> array.array:
    # Only array.array is copied at once by rclpy; bytes and lists are checked value by value.
    packed = array.array(values.dtype.char)
    packed.frombytes(values.data.cast('B'))
    return packed


_CLASSES = messages.MessageClasses(
    time=Time,
    header=Header,
    image=Image,
    compressed_image=CompressedImage,
    point=Point,
    keypoint=Keypoint,
    person_pose=PersonPose,
    person_pose_array=PersonPoseArray,
    skeleton_info=SkeletonInfo,
    pack=_pack,
)

rgb_to_image = partial(messages.rgb_to_image, classes=_CLASSES)
rgb_to_compressed = partial(messages.rgb_to_compressed, classes=_CLASSES)
poses_to_message = partial(pose_messages.poses_to_message, classes=_CLASSES)


def deserialized(data: bytes, kind: Any) -> Any:
    """The message of class `kind` that these bytes are; raises MessageError."""
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # rclpy's own class has no public name
        sentence = f'{len(data)} bytes that are no {kind.__name__}: {error}'
        raise messages.MessageError(sentence) from error


def skeleton_to_message(skeleton: Skeleton, header: Header | None = None) -> SkeletonInfo:
    """See `rmpe_ros.io.messages`."""
    return messages.skeleton_to_message(skeleton, header or Header(), _CLASSES)
