# SPDX-License-Identifier: Apache-2.0
"""The environment in which several nodes of ours talk on one machine, undisturbed and quickly.

Needs no ROS: it is made before the first process starts.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from rmpe_ros.cli.processes.abandoned_segments import SHARED_MEMORY
from rmpe_ros.core.fast_dds_profile import (
    PROFILE_VARIABLES,
    profile_variable,
    shared_memory_profile,
)

# Domain ids whose ports lie below the ports that Linux gives away by itself (from 32768 on).
_DOMAIN_IDS = range(1, 101)
_SEGMENT_BYTES = 32 * 1024 * 1024


def local_environment(
    base: Mapping[str, str], *, processes: int, packages: Path | None = None
) -> dict[str, str]:
    """`base` with what the nodes need; everything that the user has set stays as it is.

    ROS_DOMAIN_ID: one that nobody on this machine uses; discovery: this machine only; Fast DDS with
    the shared-memory profile when /dev/shm has room for so many `processes`, in which case
    FASTDDS_DEFAULT_PROFILES_FILE (FASTRTPS_… before Kilted) is set. packages: a folder put on
    PYTHONPATH, so that children import the same code.
    """
    environment = dict(base)
    environment.setdefault('ROS_DOMAIN_ID', str(choose_domain_id()))
    distribution = environment.get('ROS_DISTRO', '')
    if distribution == 'humble':
        environment.setdefault('ROS_LOCALHOST_ONLY', '1')
    else:
        environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    environment.setdefault('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    environment.setdefault('PYTHONUNBUFFERED', '1')
    profile = shared_memory_profile(environment)
    if profile is not None and not any(name in environment for name in PROFILE_VARIABLES):
        if has_shared_memory(processes):
            environment[profile_variable(environment)] = str(profile)
    if packages is not None:
        paths = [str(packages), environment.get('PYTHONPATH', '')]
        environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    return environment


def choose_domain_id(among: Sequence[int] | None = None) -> int:
    """A domain id whose first participant's port is free, so that nobody on this machine has it.

    Raises OSError when all are taken.
    """
    domain_ids = _DOMAIN_IDS if among is None else among
    for domain_id in random.sample(domain_ids, len(domain_ids)):
        # Port of unicast discovery of participant 0: DDSI-RTPS 2.5, section 9.6.2.1.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain_id + 10))
            except OSError:
                continue
            return domain_id
    raise OSError('every ROS domain id is in use on this machine; set ROS_DOMAIN_ID')


def has_shared_memory(processes: int) -> bool:
    """Whether /dev/shm has room for a segment of each process (a container has 64 MB at first)."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free > (processes + 1) * _SEGMENT_BYTES
    except OSError:
        return False
