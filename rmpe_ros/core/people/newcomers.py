# SPDX-License-Identifier: Apache-2.0
"""Whether somebody new is somebody who was out of sight.

Who comes back is half seen at first, with the depth of what hides her: too far from where she was
expected, so that somebody new begins. A few sights later her place is clear: then it is asked again
who she is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.clothing import same_clothes
from rmpe_ros.core.people.people_state import ARRAYS, CONFIRMED, People

if TYPE_CHECKING:
    from rmpe_ros.core.people.matching import Chances
    from rmpe_ros.core.people.people_filter import CameraPose
    from rmpe_ros.core.people.sights import Sights

# After so many sights it is asked who somebody new is, if that takes no longer than this, seconds.
_ASKED, _YOUNG = (2, 5, 9), 2.0
# Somebody is known to be where she was seen, within so many metres, so many seconds ago at most.
_BESIDE, _STILL_THERE = 0.4, 1.0
# What was known of her before still holds.
_LASTING = (
    'ids',
    'first_seen',
    'sights',
    'heights',
    'height_variances',
    'colours',
    'colour_variances',
)


def recognised(
    people: People, chances: Chances, tracks: NDArray[np.intp], seen: NDArray[np.intp]
) -> list[tuple[float, int, int]]:
    """Who may be who, if `tracks` are seen as the sights `seen`: how much likelier that is (a
    logarithm), the row of somebody new and the row of whom she would be.
    """
    young = people.stamp - people.first_seen[tracks] < _YOUNG
    if not young.any():
        return []
    young &= np.isin(people.sights[tracks], _ASKED)
    away = people.lost & (people.sights >= CONFIRMED)
    away[tracks] = False
    found = []
    for new, sight in zip(tracks[young].tolist(), seen[young].tolist(), strict=True):
        gains = chances.returns[:, sight] + people.sights[new] * chances.missing
        before = away & (people.last_seen < people.first_seen[new])
        olds = np.flatnonzero(before & np.isfinite(gains))
        worn = people.clothing[np.array([new])].as_seen()
        gains = gains[olds] + same_clothes(people.clothing[olds], worn)
        found += [(gain, new, old) for gain, old in zip(gains.tolist(), olds.tolist(), strict=True)]
    return found


def renamed(people: People, new: int, old: int) -> People:
    """The same, but that the person with the number `new` is the one with the number `old`."""
    now = int(np.flatnonzero(people.ids == new)[0])
    before = int(np.flatnonzero(people.ids == old)[0])
    changed = {name: getattr(people, name).copy() for name in ARRAYS}
    for name, values in changed.items():
        if name not in _LASTING:
            values[before] = values[now]
    changed['sights'][before] += people.sights[now]
    return people.changed(**changed)[np.arange(len(people)) != now]


def somebody_there(
    people: People, tracks: NDArray[np.intp], sights: Sights, camera: CameraPose
) -> NDArray[np.bool_]:
    """(N,) whether the depth of each of sights, of who is that one of `tracks`, may be of somebody
    else, who is known to be there: so the place that was hers is not wrong.
    """
    line = np.concatenate([sights.rays, np.ones((len(sights), 1))], axis=1)
    places = camera.from_camera(line * sights.measured_depths[:, None])
    others = (people.sights >= CONFIRMED) & (people.unseen < _STILL_THERE)
    near = (np.linalg.norm(places[:, None] - people.positions, axis=2) < _BESIDE) & others
    near[np.arange(len(tracks)), tracks] = False
    return np.asarray(near.any(axis=1))
