# SPDX-License-Identifier: Apache-2.0
"""How one image may be read after an answer: which sight is of whom, and what is doubtful then."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.hypotheses import Hypothesis
from rmpe_ros.core.people.matching import Chances
from rmpe_ros.core.people.newcomers import recognised
from rmpe_ros.core.people.people_state import People
from rmpe_ros.core.people.sights import Sights

# Whether a depth is of a person or of what hides her is left open, unless one is less likely by so
# much (a logarithm).
_DOUBTFUL = 4.0
# So much doubt (of `Sights`) whether what is seen is a person's own is more than not.
DOUBTED = 0.5


@dataclass(frozen=True, eq=False)
class Way:
    """What an image may say, after the hypothesis `before`: `tracks` are the sights `seen`, and of
    two numbers, the one of somebody new, who is the `same`. misplaced: the one of `tracks` whose
    place was that of what hid her, -1 for none.
    """

    score: float
    before: Hypothesis
    chances: Chances
    tracks: NDArray[np.intp]
    seen: NDArray[np.intp]
    same: tuple[int, int] | None = None
    misplaced: int = -1

    def doubts(self) -> list[Way]:
        """Others with the same assignments, but that the most doubtful depth is of somebody else,
        or is not; that somebody is where she seems to be and never was where she was expected; or
        that somebody new is somebody who was out of sight.
        """
        ways = []
        other = self.chances.other[self.tracks, self.seen]
        if other.max(initial=-np.inf) > -_DOUBTFUL:
            pair = int(np.argmax(other))
            read = self.chances.read_otherwise(self.tracks[pair], self.seen[pair])
            ways.append(replace(self, score=self.score + other[pair], chances=read))
        if self.chances.misplaced is not None:
            misplaced = self.chances.misplaced[self.tracks, self.seen]
            if misplaced.max(initial=-np.inf) > -np.inf:
                pair = int(np.argmax(misplaced))
                track = int(self.tracks[pair])
                gain = misplaced[pair] - self.chances.gains[track, self.seen[pair]]
                ways.append(replace(self, score=self.score + gain, misplaced=track))
        people = self.before.people
        for gain, new, old in recognised(people, self.chances, self.tracks, self.seen):
            same = int(people.ids[new]), int(people.ids[old])
            ways.append(replace(self, score=self.score + gain, same=same))
        return ways


def doubtful_sights(
    people: People, tracks: NDArray[np.intp], sights: Sights, owners: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """(N,) which of sights, taken to be of `tracks`, may be of who is behind these, with the depth
    that is measured of them: so little is seen there.

    That one's box is lower at this depth; or the image tracker knows whose it is: of `owners` (N,),
    -1 for nobody.
    """
    lower = people.statures[tracks].lower(*sights.measured_heights.T)
    of_others = (owners >= 0) & (owners != tracks)
    return (lower | of_others) & (sights.doubts > DOUBTED)
