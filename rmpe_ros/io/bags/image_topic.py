# SPDX-License-Identifier: Apache-2.0
"""The pictures of a bag: which topic they are on, and each one's pixels."""

from __future__ import annotations

from rmpe_ros.io.bags.message_types import COMPRESSED_IMAGE, IMAGE
from rmpe_ros.io.bags.reader import Bag, TopicInfo
from rmpe_ros.io.bags.storage import BagError

_USUAL_TOPIC = '/image_raw'


def find_image_topic(bag: Bag, name: str | None = None) -> TopicInfo:
    """The topic called `name`, or the one that has images.

    Of several, `/image_raw` is the one. Raises BagError that tells what is there instead.
    """
    images = bag.topics_of(IMAGE, COMPRESSED_IMAGE)
    if name is not None:
        found = [each for each in bag.topics if each.name.lstrip('/') == name.lstrip('/')]
        if not found:
            raise BagError(f'{bag.path} has no topic {name}; in it are: {bag.contents()}')
        if not set(found) & set(images):
            raise BagError(
                f'{name} in {bag.path} has {found[0].count} messages of type {found[0].type}; '
                f'expected {IMAGE} or {COMPRESSED_IMAGE}'
            )
        images = [each for each in images if each in found]
    if not images:
        raise BagError(f'{bag.path} has no images; in it are: {bag.contents()}')
    usual = [each for each in images if each.name == _USUAL_TOPIC]
    if len(images) > 1 and len(usual) != 1:
        names = ', '.join(each.name for each in images)
        raise BagError(
            f'{bag.path} has images on several topics: {names}; choose one with --image-topic'
        )
    return (usual or images)[0]
