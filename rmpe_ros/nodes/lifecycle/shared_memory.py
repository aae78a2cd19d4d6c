# SPDX-License-Identifier: Apache-2.0
"""Images that do not fit into Fast DDS's shared memory are told: they are lost without a word."""

from __future__ import annotations

import os
import xml.etree.ElementTree as xml
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.utilities import get_rmw_implementation_identifier

from rmpe_ros.core.fast_dds_profile import (
    PROFILE_VARIABLES,
    profile_variable,
    shared_memory_profile,
)
from rmpe_ros.nodes.health.faults import Faults

# What is in flight between two processes at a time, as experience has it.
IMAGES_IN_FLIGHT = 3
# The segment of config/fastdds_shared_memory.xml: what no profile is taken to do better than.
USUAL_SEGMENT = 32 << 20


def is_fast_dds() -> bool:
    """Whether that is the middleware of this process."""
    return 'fastrtps' in get_rmw_implementation_identifier()


def advice_on_lost_images(environment: Mapping[str, str] = os.environ) -> str:
    """What may be wrong where a camera publishes and no image comes; empty when nothing is known.

    An image of more than Fast DDS's own segment of 0.5 MB gets through only where the subscriber
    takes its parts as fast as they are written.
    """
    profile = shared_memory_profile(environment)
    if profile is None or not is_fast_dds():
        return ''
    return (
        f'if it was started without {profile_variable(environment)}={profile}, Fast DDS loses '
        'images of more than 0.5 MB'
    )


def segment_bytes(environment: Mapping[str, str]) -> int:
    """The shared-memory segment of the Fast DDS profile that `environment` names, or the usual."""
    for variable in PROFILE_VARIABLES:
        try:
            sizes = xml.parse(environment.get(variable, '')).iterfind('.//{*}segment_size')
            return min(int(size.text or '') for size in sizes)
        except (OSError, ValueError, xml.ParseError):
            continue  # none, not readable, without such a segment: what Fast DDS says of it counts
    return USUAL_SEGMENT


def room_for_images(faults: Faults, topic: str) -> Callable[[Any], None]:
    """A function that takes each image message of `topic`, and lets `faults` tell of large ones."""
    fast_dds = is_fast_dds()  # other middlewares have other limits
    segment = segment_bytes(os.environ)

    def check(message: Any) -> None:
        size = len(message.data)
        trouble = ''
        if fast_dds and size * IMAGES_IN_FLIGHT > segment:
            trouble = (
                f'images on {topic} have {size / 1e6:.0f} MB, the shared memory of a process has '
                f'{segment / 1e6:.0f} MB: some are lost or late; set segment_size in a copy of '
                f'fastdds_shared_memory.xml to {size * IMAGES_IN_FLIGHT} or more, or publish '
                'compressed images (compressed:=true)'
            )
        faults.lasts(topic, trouble)

    return check
