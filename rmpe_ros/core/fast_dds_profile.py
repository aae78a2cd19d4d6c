# SPDX-License-Identifier: Apache-2.0
"""The shared-memory profile of this package, and the variables by which Fast DDS reads one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rmpe_ros.core.share_folders import share_folders

# Of Fast DDS 3 (ROS 2 Kilted and later) and of Fast DDS 2.
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
_WITH_FAST_DDS_2 = ('humble', 'iron', 'jazzy')


def profile_variable(environment: Mapping[str, str] = os.environ) -> str:
    """The one of `PROFILE_VARIABLES` that the ROS 2 of this environment reads."""
    return PROFILE_VARIABLES[environment.get('ROS_DISTRO') in _WITH_FAST_DDS_2]


def shared_memory_profile(environment: Mapping[str, str] = os.environ) -> Path | None:
    """config/fastdds_shared_memory.xml of this package, wherever it is installed."""
    for folder in share_folders('config', environment):
        if (folder / 'fastdds_shared_memory.xml').is_file():
            return folder / 'fastdds_shared_memory.xml'
    return None
