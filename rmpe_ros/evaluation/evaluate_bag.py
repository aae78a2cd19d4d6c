# SPDX-License-Identifier: Apache-2.0
"""A recorded bag against labels: which frames got poses, how good these are, how late they came."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import SKELETONS, Skeleton
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import Labels
from rmpe_ros.io.bags.image_topic import find_image_topic
from rmpe_ros.io.bags.message_types import POSES, SKELETON
from rmpe_ros.io.bags.reader import Bag, TopicInfo
from rmpe_ros.io.bags.storage import BagError
from rmpe_ros.io.messages import message_to_poses, message_to_skeleton, stamp_nanoseconds

STAGES = ('detector', 'pose', 'nms', 'total')
# Beyond this, stamps and times of receiving are of unrelated clocks (a bag played without /clock).
_CREDIBLE_LATENCY_MS = 60_000.0


@dataclass(frozen=True, eq=False)
class PoseFrame:
    """One PersonPoseArray: its header's stamp and its time of receiving in ns since 1970.

    stages_ms: milliseconds of detector, pose, nms, total, as the message says.
    """

    stamp: int
    frame_id: str
    received: int
    poses: Poses
    stages_ms: tuple[float, ...]

    @property
    def latency_ms(self) -> float:
        return (self.received - self.stamp) / 1e6


@dataclass(frozen=True, eq=False)
class Recording:
    """What was recorded: pose messages in the order of receiving, stamp → frame_id of images.

    images: None when the bag has no images. broken: pose messages that cannot be used.
    """

    frames: list[PoseFrame]
    images: dict[int, str] | None
    broken: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames.

    labelled: pictures with labels that were to be seen. recorded: of these, how many are among the
    images in the bag, None without images. answered, dropped: with and without poses.
    late: answered after the deadline, None when latency cannot be measured. duplicate: further
    messages with a stamp that was answered already; the first one counts. unmatched: messages
    whose stamp is of no labelled frame. broken: messages that cannot be used.
    """

    labelled: int
    recorded: int | None
    answered: int
    dropped: int
    late: int | None
    duplicate: int
    unmatched: int
    broken: int


@dataclass(frozen=True, eq=False)
class Matching:
    """Poses by labelled file; `answers` are the messages that count, one for each stamp."""

    by_file: dict[str, PoseFrame]
    answers: list[PoseFrame]
    counts: FrameCounts
    deadline_ms: float | None


def find_pose_topic(bag: Bag, name: str | None = None) -> TopicInfo:
    """The topic called `name`, or the only one with poses. Raises BagError."""
    topics = bag.topics_of(POSES)
    if name is not None:
        topics = [each for each in topics if each.name.lstrip('/') == name.lstrip('/')]
    if len(topics) == 1:
        return topics[0]
    if topics:
        names = ', '.join(each.name for each in topics)
        raise BagError(f'{bag.path} has poses on {names}; choose one with --poses-topic')
    where = f' on {name}' if name else ''
    raise BagError(
        f'{bag.path} has no poses ({POSES}){where}; in it are: {bag.contents()}. Record them with '
        'ros2 bag record, or make them with rmpe replay'
    )


def read_recording(bag: Bag, topic: TopicInfo, image_topic: str | None = None) -> Recording:
    """The poses on `topic`, and the headers of the images if there are any."""
    skeletons = dict(SKELETONS)
    for item in bag.messages(bag.topics_of(SKELETON)):
        try:
            skeleton = message_to_skeleton(item.message)
        except ValueError as error:
            raise BagError(f'{bag.path}: the skeleton on {item.topic}: {error}') from error
        skeletons[skeleton.name] = skeleton
    recording = Recording([], _image_stamps(bag, image_topic))
    for item in bag.messages([topic]):
        message = item.message
        try:
            poses = message_to_poses(message, _skeleton(message.skeleton, skeletons))
        except ValueError as error:
            recording.broken[str(error)] += 1
            continue
        stages = tuple(float(getattr(message, f'{stage}_ms')) for stage in STAGES)
        header = message.header
        recording.frames.append(
            PoseFrame(stamp_nanoseconds(header), header.frame_id, item.received, poses, stages)
        )
    if not recording.frames:
        raise BagError(
            f'{bag.path}: not one message on {topic.name} can be used: '
            + '; '.join([*recording.broken, *bag.warnings])
        )
    return recording


def frames_from_names(recording: Recording, files: Sequence[str]) -> dict[int, str] | None:
    """Stamp → file when every frame_id is the name of a labelled file, as image_source_node
    makes them with frame_id {name}; None otherwise.
    """
    names = {file.rpartition('/')[2]: file for file in files}
    headers = recording.images or {each.stamp: each.frame_id for each in recording.frames}
    if len(names) < len(files) or not all(name in names for name in headers.values()):
        return None
    return {stamp: names[name] for stamp, name in headers.items()}


def match_frames(
    recording: Recording,
    frames: Mapping[int, str],
    files: Iterable[str],
    *,
    deadline_ms: float | None = None,
) -> Matching:
    """Bring poses and labelled files together by stamp.

    frames: stamp → file of all frames that there were. files: the labelled ones; those without a
    stamp count as one dropped frame each. deadline_ms: from stamp to receiving, by default the
    median distance of two frames; later is late, and is counted for accuracy all the same.
    """
    files = set(files)
    frames = {stamp: file for stamp, file in frames.items() if file in files}
    never_shown = len(files - set(frames.values()))
    answers: dict[int, PoseFrame] = {}
    duplicate = unmatched = 0
    for frame in recording.frames:
        if frame.stamp not in frames:
            unmatched += 1
        elif frame.stamp in answers:
            duplicate += 1
        else:
            answers[frame.stamp] = frame
    by_file: dict[str, PoseFrame] = {}
    for frame in answers.values():
        by_file.setdefault(frames[frame.stamp], frame)
    measured = list(answers.values())
    if deadline_ms is None and len(frames) > 1:
        deadline_ms = float(np.median(np.diff(sorted(frames)))) / 1e6
    late = None
    if measured and deadline_ms is not None and clock_problem(measured) is None:
        late = sum(frame.latency_ms > deadline_ms for frame in measured)
    labelled = len(frames) + never_shown
    counts = FrameCounts(
        labelled=labelled,
        recorded=None
        if recording.images is None
        else sum(stamp in frames for stamp in recording.images),
        answered=len(answers),
        dropped=labelled - len(answers),
        late=late,
        duplicate=duplicate,
        unmatched=unmatched,
        broken=recording.broken.total(),
    )
    return Matching(by_file, measured, counts, deadline_ms)


def found_people(matching: Matching, labels: Labels) -> dict[int, FoundPeople]:
    """Picture id → people, of the answered pictures."""
    found = {}
    for image in labels.images:
        frame = matching.by_file.get(image.file)
        if frame is not None:
            found[image.id] = FoundPeople.from_poses(frame.poses, labels.skeleton)
    return found


def clock_problem(frames: Sequence[PoseFrame]) -> str | None:
    """Why latency cannot be told from these messages; None when it can."""
    if not any(any(frame.stages_ms) for frame in frames):
        return 'all stage times are 0: the poses are of rmpe replay, which has no clock'
    if not 0 <= float(np.median([frame.latency_ms for frame in frames])) <= _CREDIBLE_LATENCY_MS:
        return (
            'stamps and times of receiving are of different clocks; play with --clock 1000, run '
            'the node with use_sim_time and record with --use-sim-time'
        )
    return None


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and max (NaN of nothing)."""
    if not values:
        return dict.fromkeys(('p50', 'p95', 'max'), math.nan)
    p50, p95 = np.percentile(values, [50, 95]).tolist()
    return {'p50': p50, 'p95': p95, 'max': max(values)}


def _image_stamps(bag: Bag, name: str | None) -> dict[int, str] | None:
    try:
        topic = find_image_topic(bag, name)
    except BagError:
        if name is not None:
            raise
        return None
    headers = (item.message.header for item in bag.messages([topic]))
    return {stamp_nanoseconds(header): header.frame_id for header in headers}


def _skeleton(name: str, known: Mapping[str, Skeleton]) -> Skeleton:
    if name not in known:
        raise ValueError(
            f'skeleton {name!r} is not known, and the bag has no {SKELETON} of it; '
            'record the topic skeleton, too'
        )
    return known[name]
