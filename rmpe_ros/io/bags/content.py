# SPDX-License-Identifier: Apache-2.0
"""What a bag holds, in short: for the demo, which reads back what it has recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rmpe_ros.io.bags.message_types import POSES
from rmpe_ros.io.bags.reader import Bag

HeaderKey = tuple[int, int, str]


@dataclass
class BagContent:
    """Messages by topic; headers (sec, nanosec, frame_id) by topic; people by header of poses."""

    counts: dict[str, int] = field(default_factory=dict)
    headers: dict[str, list[HeaderKey]] = field(default_factory=dict)
    people: dict[HeaderKey, int] = field(default_factory=dict)


def read_bag(path: Path) -> BagContent:
    """Read a whole bag; raises BagError when it cannot be read."""
    content = BagContent()
    with Bag(path) as bag:
        content.counts = {topic.name: 0 for topic in bag.topics}
        for item in bag.messages(bag.topics):
            content.counts[item.topic] += 1
            header = getattr(item.message, 'header', None)
            if header is None:
                continue
            key = (header.stamp.sec, header.stamp.nanosec, header.frame_id)
            content.headers.setdefault(item.topic, []).append(key)
            if item.type == POSES:
                content.people[key] = len(item.message.people)
    return content
