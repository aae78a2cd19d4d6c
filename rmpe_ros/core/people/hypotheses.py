# SPDX-License-Identifier: Apache-2.0
"""Who is who, as long as it is not clear: several answers side by side until images decide.

Of two people who pass each other one is hidden, half of her is seen, and the image tracker mixes up
their numbers: which of them comes out where is clear half a second later. Until then each answer is
followed as if it were the truth (multiple hypothesis tracking: Reid, An algorithm for tracking
multiple targets, 1979; best assignments only, as Cox and Hingorani do, 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.people_state import CONFIRMED, People

# Answers that are less likely than the best by this logarithm are given up.
UNLIKELY = 8.0
# So many people at most are followed in all answers together, and so many answers at most: what
# they cost is bounded.
_PEOPLE, _ANSWERS = 48, 8
# After so many seconds the best answer is the truth.
_PATIENCE = 1.5
# Answers in which everybody has the same number and is within so many metres are one.
_SAME_PLACE = 0.1
# A sight is told to be of a person when that is as likely as this. Images say the same one after
# another: of the logarithm of how likely an answer is, so much counts for what is told.
_SURE, _OWN = 0.97, 0.35
# Standard deviation of somebody's place of whom an answer knows nothing, metres.
_ANYWHERE = 3.0


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One answer. score: logarithm of how likely it is. choices: when answers parted and which way
    this one went.
    """

    people: People
    score: float = 0.0
    choices: tuple[tuple[float, int], ...] = ()


def room_for(people: int) -> int:
    """How many answers may be followed of so many people."""
    return max(1, min(_PEOPLE // max(people, 1), _ANSWERS))


def pruned(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """The likeliest first, without those that are unlikely, the same, too many or too late."""
    if len(hypotheses) == 1:
        return [Hypothesis(hypotheses[0].people)]
    ordered = sorted(hypotheses, key=lambda each: -each.score)
    best = ordered[0]
    stamp = best.people.stamp
    decided = [choice for choice in best.choices if choice[0] < stamp - _PATIENCE]
    kept: list[Hypothesis] = []
    for each in ordered:
        if each.score < best.score - UNLIKELY or not set(decided) <= set(each.choices):
            continue
        if not any(_same(each.people, other.people) for other in kept):
            kept.append(each)
    kept = kept[: room_for(len(best.people))]
    if len(kept) == 1:
        return [Hypothesis(best.people)]
    choices = [tuple(choice for choice in each.choices if choice not in decided) for each in kept]
    return [
        Hypothesis(each.people, each.score - best.score, left)
        for each, left in zip(kept, choices, strict=True)
    ]


def _same(people: People, others: People) -> bool:
    if not np.array_equal(people.ids, others.ids):
        return False
    apart = np.abs(people.positions - others.positions).max(initial=0)
    return bool(apart < _SAME_PLACE and np.array_equal(people.last_seen, others.last_seen))


def told(hypotheses: Sequence[Hypothesis], before: People | None) -> People:
    """The people of the best answer, with the spread of all; who of them was seen is what the
    answers agree on, and no doubtful sight of her, else it is what was told `before`.
    """
    people = hypotheses[0].people
    doubtful = people.doubtful & (people.last_seen == people.stamp)
    if len(hypotheses) == 1 and not doubtful.any():
        return people
    weights = np.exp([_OWN * each.score for each in hypotheses])
    weights /= weights.sum()
    agreed, shares = np.full(len(people), weights[0]), np.full(len(people), weights[0])
    covariances = weights[0] * people.covariances
    for weight, other in zip(weights[1:], hypotheses[1:], strict=True):
        mine, others = _common(people, other.people)
        apart = other.people.states[others] - people.states[mine]
        spread = other.people.covariances[others] + apart[:, :, None] * apart[:, None]
        covariances[mine] += weight * spread
        shares[mine] += weight
        same_sight = people.last_seen[mine] == other.people.last_seen[others]
        same_sight &= (people.boxes[mine] == other.people.boxes[others]).all(axis=1)
        agreed[mine] += weight * same_sight
    covariances /= shares[:, None, None]
    changed = {
        name: getattr(people, name).copy()
        for name in ('last_seen', 'image_ids', 'boxes', 'scores', 'methods', 'sights')
    }
    unsure = (agreed < _SURE) | doubtful
    if before is not None:
        mine, earlier = _common(people, before)
        known = unsure[mine]
        for name, values in changed.items():
            values[mine[known]] = getattr(before, name)[earlier[known]]
        # In an answer that knows nothing of her, she may be anywhere.
        unknown = np.where(unsure, np.maximum(1 - shares, 0), 0)
        covariances[:, :3, :3] += (unknown * _ANYWHERE**2)[:, None, None] * np.eye(3)
        unsure[mine] = False
    # Perhaps nobody new.
    changed['sights'][unsure] = np.minimum(changed['sights'][unsure], CONFIRMED - 1)
    return people.changed(covariances=covariances, **changed)


def _common(people: People, others: People) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of those that both know."""
    mine, theirs = np.nonzero(people.ids[:, None] == others.ids)
    return mine, theirs
