# SPDX-License-Identifier: Apache-2.0
"""What of a recorded run goes into a page, so that the page stays small enough to be mailed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rmpe_ros.evaluation.bag_report.recorded_run import (
    RecordedRun,
    RunFrame,
    image_size,
    read_pictures,
    read_run,
)
from rmpe_ros.evaluation.bag_report.run_moments import find_moments
from rmpe_ros.io.bags.reader import Bag

MOST_FRAMES = 900
# Of all pictures, in bytes; base64 adds a third.
PICTURE_BYTES = 24_000_000
# Wide pictures are for short recordings.
_FEW, _WIDE, _NARROW, _QUALITY = 300, 640, 480, 72


@dataclass(eq=False)
class Shown:
    """A run on the page. name: what it is called there; size: width and height of its images.

    accuracy: rows of (measure, value) where there are labels. notes: sentences about it.
    """

    run: RecordedRun
    name: str
    size: tuple[int, int]
    pictures: dict[int, bytes]
    frames: list[RunFrame]
    accuracy: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def choose_frames(run: RecordedRun, most: int = MOST_FRAMES) -> list[RunFrame]:
    """All frames, or as many evenly spread ones and those worth a look."""
    frames = run.frames
    if len(frames) <= most:
        return list(frames)
    chosen = {moment.frame.number for moment in find_moments(run)}
    room = max(1, most - len(chosen))
    chosen |= {int(number) for number in np.linspace(0, len(frames) - 1, room)}
    return [frames[number] for number in sorted(chosen)]


def fit_pictures(
    frames: Sequence[RunFrame], pictures: Mapping[int, bytes], room: int = PICTURE_BYTES
) -> list[RunFrame]:
    """The frames, or every other and so on until their pictures need no more than `room` bytes."""
    step = 1
    while step < len(frames) and _bytes(frames[::step], pictures) > room:
        step += 1
    return list(frames[::step])


def _bytes(frames: Sequence[RunFrame], pictures: Mapping[int, bytes]) -> int:
    return sum(len(pictures.get(each.stamp, b'')) for each in frames)


def show_run(
    bag: Bag,
    name: str,
    *,
    poses_topic: str | None = None,
    image_topic: str | None = None,
    most: int | None = None,
    share: int = 1,
    measure: Callable[[RecordedRun], list[tuple[str, str]]] | None = None,
) -> Shown:
    """Read a bag for a page. Raises BagError.

    most: frames in the player; share: among so many runs, as are the bytes of the pictures.
    measure: gives the rows of `accuracy`, and puts into the frames what is theirs.
    """
    run = read_run(bag, poses_topic=poses_topic, image_topic=image_topic)
    accuracy = measure(run) if measure else []
    frames = choose_frames(run, max(1, (most or MOST_FRAMES) // share))
    pictures = read_pictures(
        bag,
        {frame.stamp for frame in frames},
        image_topic,
        width=_WIDE if len(frames) <= _FEW else _NARROW,
        quality=_QUALITY,
    )
    frames = fit_pictures(frames, pictures, PICTURE_BYTES // share)
    kept = {frame.stamp for frame in frames}
    shown = Shown(
        run,
        name,
        image_size(run, bag, image_topic),
        {stamp: data for stamp, data in pictures.items() if stamp in kept},
        frames,
        accuracy,
    )
    shown.notes += [f'{name}: {warning}' for warning in run.warnings]
    shown.notes += [f'{name}: {n} messages left out: {e}' for e, n in run.recording.broken.items()]
    if run.clock_problem:
        shown.notes.append(f'{name}: no latency: {run.clock_problem}')
    if not run.recording.images:
        shown.notes.append(f'{name} has no images: people are shown on a dark ground')
    if len(frames) < len(run.frames):
        shown.notes.append(
            f'{name}: the player shows {len(frames)} of {len(run.frames)} frames, evenly spread, '
            'and those worth a look; the curves and numbers are of all frames'
        )
    return shown
