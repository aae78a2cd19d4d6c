# SPDX-License-Identifier: Apache-2.0
"""Our messages and ROS 2's standard ones for rosbags, from the .msg files of this package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from rmpe_ros.core.share_folders import share_folders
from rmpe_ros.io.messages import MessageClasses

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
POSES = 'rmpe_ros/msg/PersonPoseArray'
SKELETON = 'rmpe_ros/msg/SkeletonInfo'


@cache
def bag_types() -> Typestore:
    """The standard message types and ours, as rosbags needs them.

    Raises OSError when our definitions cannot be found.
    """
    types = get_typestore(Stores.LATEST)
    folder = message_folder(os.environ)
    for file in sorted(folder.glob('*.msg')):
        types.register(
            get_types_from_msg(file.read_text(encoding='utf-8'), f'rmpe_ros/msg/{file.stem}')
        )
    return types


@cache
def bag_classes() -> MessageClasses:
    """The message classes of rosbags; what is made of them can be serialised with `bag_types`."""
    types = bag_types().types
    return MessageClasses(
        time=types['builtin_interfaces/msg/Time'],
        header=types['std_msgs/msg/Header'],
        image=types[IMAGE],
        compressed_image=types[COMPRESSED_IMAGE],
        point=types['geometry_msgs/msg/Point'],
        keypoint=types['rmpe_ros/msg/Keypoint'],
        person_pose=types['rmpe_ros/msg/PersonPose'],
        person_pose_array=types[POSES],
        skeleton_info=types[SKELETON],
        pack=np.array,
    )


def message_folder(environment: Mapping[str, str]) -> Path:
    """The folder of our .msg files: in the wheel, the source tree or the ROS installs.

    Raises OSError naming the folders searched.
    """
    folders = share_folders('msg', environment)
    for folder in folders:
        if (folder / 'PersonPoseArray.msg').is_file():
            return folder
    raise OSError(
        'the message definitions of rmpe_ros are in none of '
        f'{", ".join(map(str, folders))}; install the package again'
    )
