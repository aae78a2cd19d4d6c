# SPDX-License-Identifier: Apache-2.0
"""Where a detector gives one box to two people who overlap.

The image tracker gives such a box the number of one of them, as often the wrong one: which of the
two it is, the number does not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_iou, iou_of_pairs
from rmpe_ros.core.people.people_state import CONFIRMED

if TYPE_CHECKING:
    from rmpe_ros.core.people.people_state import People
    from rmpe_ros.core.people.sights import Sights

# Boxes of so many seconds ago tell how large people are and where.
_RECENT = 0.5
# The box of both fits by so much better (IoU) than that of one.
_BETTER = 0.02


def same_numbers(people: People, sights: Sights) -> NDArray[np.bool_]:
    """(T, N) whether the image tracker gave a sight the number that it gave a person before."""
    return np.asarray((people.image_ids[:, None] == sights.image_ids) & (sights.image_ids >= 0))


def shared_boxes(
    people: People, sights: Sights, same: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """(T, N) whether a sight is in a box that is of this person and of another one.

    One of them has its number, the other's number is not in the image; the box covers both rather
    than one. same: of `same_numbers`. None where no two people may share one.
    """
    unseen = ~same.any(axis=1)
    if not unseen.any():
        return None
    recent = people.unseen < _RECENT
    # Who is perhaps nobody is in no box of others.
    known = people.sights >= CONFIRMED
    missing = np.flatnonzero(known & recent & (people.image_ids >= 0) & unseen)
    owners, taken = np.nonzero(same & recent[:, None])
    if not len(owners) or not len(missing):
        return None
    sight, owner, other = sights.boxes[taken], people.boxes[owners], people.boxes[missing]
    low = np.minimum(owner[:, None, :2], other[:, :2])
    high = np.maximum(owner[:, None, 2:], other[:, 2:])
    both = np.concatenate([low, high], axis=2).reshape(-1, 4)
    alone = np.maximum(iou_of_pairs(sight, owner)[:, None], box_iou(sight, other))
    united = iou_of_pairs(sight.repeat(len(missing), axis=0), both).reshape(alone.shape)
    shared = np.zeros(same.shape, bool)
    pair, index = np.nonzero(united > alone + _BETTER)
    shared[owners[pair], taken[pair]] = True
    shared[missing[index], taken[pair]] = True
    return shared
