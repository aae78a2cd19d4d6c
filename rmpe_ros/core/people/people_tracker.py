# SPDX-License-Identifier: Apache-2.0
"""People in space: who is who, where, going where, facing where, and how sure that is.

A sight belongs to a person if both agree in place; the number that the image tracker gave adds to
it, so that it decides where places do not, and a number that jumps to somebody else does not carry
the person along. Where two answers are possible, both are followed for a while. Who is not seen
moves on at constant velocity, with growing spread, until `max_occlusion`: who then comes into view
where the person may be is that person.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.assignment import good_assignments
from rmpe_ros.core.people.clothing import Clothing
from rmpe_ros.core.people.hypotheses import UNLIKELY, Hypothesis, pruned, room_for, told
from rmpe_ros.core.people.matching import CLEAR, among, compare
from rmpe_ros.core.people.newcomers import renamed, somebody_there
from rmpe_ros.core.people.people_filter import (
    METHODS,
    Array,
    CameraPose,
    Expected,
    ExpectedHeads,
    MotionModel,
    first_states,
    predict,
    update,
)
from rmpe_ros.core.people.people_state import CONFIRMED, MISS_TIME, Axes, People, joined
from rmpe_ros.core.people.places import with_turns
from rmpe_ros.core.people.sights import Sights
from rmpe_ros.core.people.statures import Statures
from rmpe_ros.core.people.ways import DOUBTED, Way, doubtful_sights
from rmpe_ros.core.people.yaw import YawFilter, unknown_yaws

# Seconds after which a tentative person who is not seen again is forgotten.
_TENTATIVE_TIME = 0.5
# After so many clear sights in a row at another distance, it is the person's place that was wrong.
_WRONG_PLACE = 5
# Squared distances in standard deviations beyond which a distance is another one; and of who is
# tentative, whose place one sight proves wrong.
_OFF, _OFF_FIRST = 20.0, 12.0
# So many sights more than others until somebody is a person who may be one who is known: it is
# asked who she is first.
_OWNED_SIGHTS = 3
# Standard deviation of the logarithm of the first distance of somebody of whom little is seen.
_FIRST_SD = 0.3
# A filter that is ready for turns holds velocities for less sure than they are on the whole: of
# their standard deviations, so much is told.
_SURER = np.repeat([1.0, 0.85, 1.0], [3, 3, len(METHODS) + 3])
_TOLD = np.outer(_SURER, _SURER)


@dataclass(frozen=True)
class PeopleParameters:
    """max_occlusion: seconds that a person may be out of sight. start_score: a person with a lower
    score does not begin. speed_sd: m/s, how fast people are before they were watched.

    Raises ValueError when a number is out of range.
    """

    max_occlusion: float = 5.0
    start_score: float = 0.2
    speed_sd: float = 0.8
    motion: MotionModel = field(default_factory=MotionModel)

    def __post_init__(self) -> None:
        if not 0 < self.max_occlusion < np.inf:
            raise ValueError(f'max_occlusion must be positive seconds, got {self.max_occlusion}')
        if not 0 <= self.start_score <= 1:
            raise ValueError(f'start_score must be in [0, 1], got {self.start_score}')
        if not 0 < self.speed_sd < np.inf:
            raise ValueError(f'speed_sd must be positive, got {self.speed_sd}')


class PeopleTracker:
    """Follows people in the target frame from image to image. Not thread-safe."""

    def __init__(self, parameters: PeopleParameters | None = None) -> None:
        self.parameters = parameters or PeopleParameters()
        self._yaw = YawFilter()
        self._hypotheses: list[Hypothesis] = []
        self._told: People | None = None
        self._next_id = 0
        self._next_choice = 0

    def reset(self) -> None:
        """Forget everybody; numbers go on."""
        self._hypotheses, self._told = [], None

    def update(
        self, sights: Sights | None, stamp_seconds: float, camera: CameraPose, axes: Axes
    ) -> People:
        """Everybody at the time of an image, after it was looked at.

        sights: in the image, None when it could not be looked at: then people only move on.
        camera: where it was at that time. An earlier stamp than the last one is a new beginning.
        Raises ValueError when the stamp is not finite.
        """
        if not isfinite(stamp_seconds):
            raise ValueError(f'the stamp must be a number of seconds, got {stamp_seconds}')
        if self._told is None or stamp_seconds < self._told.stamp:
            self._hypotheses = [Hypothesis(People.nobody(stamp_seconds))]
            self._told = None
        hypotheses = [
            Hypothesis(self._predicted(each.people, stamp_seconds, axes), each.score, each.choices)
            for each in self._hypotheses
        ]
        if sights is not None:
            hypotheses = pruned(self._looked(hypotheses, sights, camera, axes))
        self._hypotheses = hypotheses
        self._told = told(hypotheses, self._told)
        return self._told.changed(covariances=self._told.covariances * _TOLD)

    def _looked(
        self, hypotheses: list[Hypothesis], sights: Sights, camera: CameraPose, axes: Axes
    ) -> list[Hypothesis]:
        """What may be after an image was looked at: each hypothesis with its best assignments."""
        found: list[Way] = []
        for each in hypotheses:
            chances = compare(each.people, sights, camera, axes.up)
            most = room_for(len(each.people))
            for gain, tracks, seen in good_assignments(chances.gains, most=most, within=UNLIKELY):
                gain -= chances.too_much(tracks, seen)
                way = Way(each.score + chances.unseen + gain, each, chances, tracks, seen)
                found.append(way)
                if most > 1:
                    found += way.doubts()
        found.sort(key=lambda way: -way.score)
        most = room_for(len(found[0].before.people))
        found = [way for way in found[:most] if way.score >= found[0].score - UNLIKELY]
        begun: dict[int, int] = {}  # the number of somebody new is the same in all hypotheses
        result = []
        for way in found:
            people = self._after(way, sights, camera, axes, begun)
            choices = way.before.choices
            if len(found) > 1:
                self._next_choice += 1
                choices = (*choices, (people.stamp, self._next_choice))
            result.append(Hypothesis(people, way.score, choices))
        return result

    def _after(
        self, way: Way, sights: Sights, camera: CameraPose, axes: Axes, begun: dict[int, int]
    ) -> People:
        """People after an image was looked at, if it went that `way`."""
        people, chances, tracks, seen = way.before.people, way.chances, way.tracks, way.seen
        people = people.changed(missed=people.missed + 1)
        if not len(sights):
            return people
        mine = sights[seen]
        off = chances.off_depth[tracks, seen]
        begins = (people.sights[tracks] < CONFIRMED) & ~people.lost[tracks]
        stray = off > np.where(begins, _OFF_FIRST, _OFF)
        strays, wrong = np.zeros(len(tracks), np.int64), tracks == way.misplaced
        if stray.any():
            # A sight of little of a person neither proves the place wrong nor right.
            strays[stray] = (people.strays[tracks] + (mine.clarity > CLEAR))[stray]
            far = strays >= np.where(begins, 1, _WRONG_PLACE)
            if far.any():
                far &= ~somebody_there(people, tracks, mine, camera)
            wrong |= far
        hidden = chances.hidden[tracks, seen] & ~wrong
        hiders = np.where(hidden, mine.measured_depths, np.nan)
        if hidden.any():
            mine = mine.without_depth(hidden)
        foreseen = chances.expected, chances.of_heads
        if len(tracks) < len(people):  # all of them, else: tracks are in order
            foreseen = foreseen[0][tracks], foreseen[1][tracks]
        turned = tracks[chances.turned[tracks, seen]]
        if len(turned):
            covariances = people.covariances.copy()
            covariances[turned] = with_turns(people[turned], axes.up)
            people = people.changed(covariances=covariances)
        if chances.shared is not None:  # whose number it is, such a box does not say
            shares = chances.shared[tracks, seen]
            mine = replace(
                mine, image_ids=np.where(shares, people.image_ids[tracks], mine.image_ids)
            )
        doubtful = doubtful_sights(people, tracks, mine, chances.owners[seen])
        told = {'hiders': hiders, 'strays': np.where(wrong, 0, strays), 'doubtful': doubtful}
        people = self._measure(
            people, tracks, mine, camera, axes, wrong=wrong, foreseen=foreseen, told=told
        )
        if way.same is not None:
            people = renamed(people, *way.same)
        if len(seen) == len(sights):
            return people
        # One strange sight of somebody who was here a moment ago is not yet somebody else.
        before = way.before.people
        recent = before.image_ids[~before.lost & ~chances.gone(tracks)]
        new = ~among(sights.image_ids, recent[recent >= 0])
        new[seen] = False
        new &= ~chances.unclear & sights.known
        new &= sights.scores >= self.parameters.start_score
        if not new.any():
            return people
        for sight in np.flatnonzero(new).tolist():
            if sight not in begun:
                begun[sight] = self._next_id
                self._next_id += 1
        numbers = np.array([begun[sight] for sight in np.flatnonzero(new).tolist()])
        handed_on = among(people.image_ids, sights.image_ids[new & (sights.image_ids >= 0)])
        if handed_on.any():
            people = people.changed(image_ids=np.where(handed_on, -1, people.image_ids))
        # Who has somebody's number is a person when that one counts as out of sight: then it is
        # asked who she is.
        owned = among(sights.image_ids[new], before.image_ids[chances.gone(tracks)])
        # So is who begins half hidden, by the depth of a trunk without a head, while somebody is
        # out of sight: half of these depths are of what hides her, who may be coming back.
        hidden = (sights.with_depth & ~sights.by_head & (sights.doubts > DOUBTED))[new]
        owing = np.where(owned | (hidden & before.lost.any()), -_OWNED_SIGHTS, 0)
        return self._begin(people, numbers, sights[new], camera, axes, owing)

    def _predicted(self, people: People, stamp: float, axes: Axes) -> People:
        unseen = stamp - people.last_seen
        longest = np.where(
            people.sights < CONFIRMED, _TENTATIVE_TIME, self.parameters.max_occlusion
        )
        interval, here = stamp - people.stamp, unseen <= longest
        if not here.all():
            people, unseen = people[here], unseen[here]
        states, covariances = predict(
            people.states,
            people.covariances,
            interval,
            self.parameters.motion,
            axes.up,
            lost=unseen > MISS_TIME,
        )
        variances = self._yaw.predict(people.yaw_variances, interval)
        return people.changed(
            stamp=stamp,
            interval=interval,
            states=states,
            covariances=covariances,
            yaw_variances=variances,
            height_variances=people.statures.later(interval).variances,
            colour_variances=people.clothing.later(interval).variances,
        )

    def _measure(
        self,
        people: People,
        tracks: NDArray[np.intp],
        sights: Sights,
        camera: CameraPose,
        axes: Axes,
        *,
        wrong: NDArray[np.bool_],
        foreseen: tuple[Expected, ExpectedHeads] | None = None,
        told: dict[str, Any] | None = None,
    ) -> People:
        """People after each of `tracks` was seen as the sight of the same place in the list.

        wrong: whose places were wrong: they are where the sights are. told: what else is known of
        `tracks` now, by the names that it has in `People`.
        """
        everybody = len(tracks) == len(people)  # tracks are in order
        some = people if everybody else people[tracks]
        states, covariances = some.states, some.covariances
        if wrong.any():
            foreseen = None
            states, covariances = states.copy(), covariances.copy()
            states[wrong], covariances[wrong] = self._first(sights[wrong], camera, axes)
        states, covariances = update(
            states,
            covariances,
            camera,
            axes.up,
            rays=sights.rays,
            ray_covariances=sights.ray_covariances,
            log_depths=sights.log_depths,
            log_depth_variances=sights.log_depth_variances,
            heads=sights.heads,
            foreseen=foreseen,
        )
        left, forward = axes.level(states[:, 3:6]).T
        yaws, yaw_variances = self._yaw.follow_walking(
            *self._yaw.update(
                some.yaws,
                some.yaw_variances,
                axes.yaw(sights.facing @ camera.rotation.T),
                sights.facing_variances,
            ),
            np.arctan2(left, forward),
            np.hypot(left, forward),
            np.minimum(people.stamp - some.last_seen, 0.2),
        )
        statures = some.statures.updated(*sights.measured_heights.T)
        clothing = some.clothing.updated(sights.clothing, sights.doubts)
        measured: dict[str, Any] = {
            'states': states,
            'covariances': covariances,
            'yaws': yaws,
            'yaw_variances': yaw_variances,
            'last_seen': np.zeros(len(tracks)) + people.stamp,
            'sights': some.sights + 1,
            'missed': np.zeros(len(tracks), np.int64),
            'heights': statures.values,
            'height_variances': statures.variances,
            'last_heights': statures.last,
            'colours': clothing.values,
            'colour_variances': clothing.variances,
            **_appearance(sights),
            **(told or {}),
        }
        if everybody:
            return people.changed(**measured)
        changed: dict[str, Any] = {name: getattr(people, name).copy() for name in measured}
        # A number that is somebody's now is nobody else's any more.
        changed['image_ids'][among(people.image_ids, sights.image_ids)] = -1
        for name, values in measured.items():
            changed[name][tracks] = values
        return people.changed(**changed)

    def _first(self, sights: Sights, camera: CameraPose, axes: Axes) -> tuple[Array, Array]:
        """States and covariances of people who were nowhere before, at the place of the sights."""
        count, parameters = len(sights), self.parameters
        states, covariances = first_states(count, parameters.motion, parameters.speed_sd)
        depths = np.exp(sights.log_depths[np.arange(count), sights.best])
        line = np.concatenate([sights.rays, np.ones((count, 1))], axis=1)
        states[:, :3] = camera.from_camera(line * depths[:, None])
        # Nobody rises from the ground at the speed of walking.
        rising = np.outer(axes.up, axes.up) * 0.96 * parameters.speed_sd**2
        covariances[:, 3:6, 3:6] -= rising
        return states, covariances

    def _begin(
        self,
        people: People,
        numbers: NDArray[np.int64],
        sights: Sights,
        camera: CameraPose,
        axes: Axes,
        before: NDArray[np.int64],
    ) -> People:
        """People and those who are new, who get `numbers` and count as seen `before` so often."""
        count = len(sights)
        states, covariances = self._first(sights, camera, axes)
        unsure = (_FIRST_SD * (1 - sights.clarity)) ** 2
        heads = sights.heads
        head_variances = heads.depth_variances + unsure * heads.depths**2
        sights = replace(
            sights,
            log_depth_variances=sights.log_depth_variances + unsure[:, None],
            heads=replace(heads, depth_variances=head_variances),
        )
        unknown, undressed = Statures.unknown(count), Clothing.unknown(count)
        new = People(
            people.stamp,
            numbers,
            states,
            covariances,
            *unknown_yaws(count),
            np.full(count, people.stamp),
            np.full(count, people.stamp),
            before,
            **_appearance(sights),
            missed=np.zeros(count, np.int64),
            strays=np.zeros(count, np.int64),
            heights=unknown.values,
            height_variances=unknown.variances,
            last_heights=unknown.last,
            hiders=np.full(count, np.nan),
            doubtful=np.zeros(count, bool),
            colours=undressed.values,
            colour_variances=undressed.variances,
        )
        new = self._measure(
            new, np.arange(count), sights, camera, axes, wrong=np.zeros(count, bool)
        )
        return joined(people, new)


def _appearance(sights: Sights) -> dict[str, Any]:
    """What a person keeps of the last sight."""
    return {
        'image_ids': sights.image_ids,
        'boxes': sights.boxes,
        'scores': sights.scores,
        'methods': np.where(sights.known, sights.best, -1),
    }
