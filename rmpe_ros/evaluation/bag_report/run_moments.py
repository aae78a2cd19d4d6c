# SPDX-License-Identifier: Apache-2.0
"""The moments worth a look: slowest, worst, longest without an answer; and two runs compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmpe_ros.evaluation.bag_report.recorded_run import (
    RecordedRun,
    RunFrame,
    people_likeness,
    same_people,
)

_OF_A_KIND = 5
# Nanoseconds between two moments of a kind: frames that follow each other show the same.
_APART = 1_000_000_000
# Below this, a frame of two runs is marked as different.
_ALIKE = 0.9


@dataclass(frozen=True, eq=False)
class Moment:
    """A frame and why it is worth a look."""

    kind: str
    frame: RunFrame
    text: str


def find_moments(run: RecordedRun) -> list[Moment]:
    """At most a handful of each kind, the worst first."""
    moments = []
    answered = run.answers
    totals = [frame.answer.stages_ms[-1] for frame in answered if frame.answer]
    if any(totals):
        slowest = [
            Moment('slowest', answered[index], f'{totals[index]:.0f} ms')
            for index in np.argsort(totals)[::-1]
        ]
        moments += apart(slowest)
    moments += [
        Moment('no answer for long', frame, f'{count} frame{"s" * (count > 1)}')
        for count, frame in sorted(_gaps(run), key=lambda gap: -gap[0])[:_OF_A_KIND]
    ]
    people = [frame for frame in answered if frame.answer and len(frame.answer.poses)]
    scores = [float(f.answer.poses.scores.max()) for f in people if f.answer]
    moments += apart(
        [
            Moment('least sure', people[index], f'best score {scores[index]:.2f}')
            for index in np.argsort(scores)
        ]
    )
    changed = [frame for frame in answered if frame.changes]
    for frame in changed[:_OF_A_KIND]:
        text = ', '.join(f'{old} → {new}' for old, new in frame.changes)
        moments.append(Moment('another id', frame, text))
    labelled = [frame for frame in run.frames if not np.isnan(frame.accuracy)]
    moments += apart(
        [
            Moment('least accurate', frame, f'OKS {frame.accuracy:.2f}')
            for frame in sorted(labelled, key=lambda each: each.accuracy)
        ]
    )
    return moments


def apart(moments: Sequence[Moment]) -> list[Moment]:
    """The first few of them, each some time away from those before it."""
    chosen: list[Moment] = []
    for moment in moments:
        stamp = moment.frame.stamp
        if all(abs(stamp - each.frame.stamp) >= _APART for each in chosen):
            chosen.append(moment)
        if len(chosen) == _OF_A_KIND:
            break
    return chosen


def _gaps(run: RecordedRun) -> list[tuple[int, RunFrame]]:
    """Rows of frames without an answer: how many, and the first of them."""
    gaps: list[tuple[int, RunFrame]] = []
    count = 0
    for frame in run.frames:
        count = 0 if frame.answer else count + 1
        if count == 1:
            gaps.append((1, frame))
        elif count:
            gaps[-1] = (count, gaps[-1][1])
    return gaps


@dataclass(frozen=True)
class Difference:
    """Of one image in two runs. likeness: mean OKS over everybody in either, 0 for one who is in
    only one of them; shift: the largest way of a joint of the same person, in pixels.
    """

    likeness: float
    shift: float
    people: tuple[int, int]

    @property
    def marked(self) -> bool:
        return self.likeness < _ALIKE

    def text(self) -> str:
        if self.people[0] != self.people[1]:
            return f'{self.people[0]} → {self.people[1]} people'
        return f'joints moved by up to {self.shift:.0f} px'


def compare_runs(a: RecordedRun, b: RecordedRun) -> dict[int, Difference]:
    """Stamp → difference, of the images that both have answered."""
    theirs = {frame.stamp: frame.answer for frame in b.answers}
    differences = {}
    for frame in a.answers:
        other = theirs.get(frame.stamp)
        if frame.answer is None or other is None:
            continue
        first, second = frame.answer.poses, other.poses.to_skeleton(frame.answer.poses.skeleton)
        pairs = same_people(frame.answer, other) if len(first) and len(second) else []
        alike = people_likeness(frame.answer, other) if pairs else np.zeros((0, 0))
        everybody = len(first) + len(second) - len(pairs)
        total = sum(float(alike[pair]) for pair in pairs)
        shifts = [
            float(np.linalg.norm(first.keypoints[i] - second.keypoints[j], axis=1).max())
            for i, j in pairs
        ]
        differences[frame.stamp] = Difference(
            total / everybody if everybody else 1.0,
            max(shifts, default=0.0),
            (len(first), len(second)),
        )
    return differences
