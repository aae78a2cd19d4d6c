# SPDX-License-Identifier: Apache-2.0
"""What a bag says about a run of the node: its frames in the order of their stamps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rmpe_ros.core.oks import AREA_OF_BOX, keypoint_similarity
from rmpe_ros.evaluation.evaluate_bag import (
    PoseFrame,
    Recording,
    clock_problem,
    find_pose_topic,
    read_recording,
)
from rmpe_ros.io.bags.image_topic import find_image_topic
from rmpe_ros.io.bags.reader import Bag
from rmpe_ros.io.bags.storage import BagError
from rmpe_ros.io.messages import ImageConversionError, message_to_rgb, stamp_nanoseconds

DIAGNOSTICS = 'diagnostic_msgs/msg/DiagnosticArray'
# Counts of the node's own diagnostics that say why frames were not processed.
DROP_COUNTS = {
    'dropped_replaced': 'a newer image came while it waited',
    'dropped_too_old': 'too old when its turn came',
    'dropped_idle': 'nobody was listening, or the node was inactive',
    'bad': 'the message could not be read',
    'failed': 'its processing failed',
}
BEFORE, AFTER = 'before the first answer', 'after the last answer'
BUSY, UNKNOWN = 'the node was busy with an earlier image', 'lost on the way, or refused'
# Two poses of one person in frames that follow each other are at least so alike.
_SAME_PERSON = 0.4


@dataclass(eq=False)
class RunFrame:
    """One image, its answer or both; number: in the order of the stamps, from 0.

    drop: why there is no answer, empty where there is one. changes: (id before, id now) of people
    who seem to have got another number. accuracy: mean OKS of the labelled people, NaN without.
    """

    number: int
    stamp: int
    answer: PoseFrame | None
    has_image: bool
    drop: str = ''
    changes: list[tuple[int, int]] = field(default_factory=list)
    accuracy: float = float('nan')


@dataclass(eq=False)
class RecordedRun:
    """A bag, read. clock_problem: why its latencies mean nothing, None where they do."""

    path: Path
    recording: Recording
    frames: list[RunFrame]
    warnings: list[str]
    node_drops: dict[str, int]
    clock_problem: str | None

    @property
    def answers(self) -> list[RunFrame]:
        return [frame for frame in self.frames if frame.answer is not None]

    @property
    def drops(self) -> Counter[str]:
        return Counter(frame.drop for frame in self.frames if frame.drop)


def read_run(bag: Bag, *, poses_topic: str | None, image_topic: str | None) -> RecordedRun:
    """Everything but the pictures. Raises BagError."""
    recording = read_recording(bag, find_pose_topic(bag, poses_topic), image_topic)
    answers: dict[int, PoseFrame] = {}
    for frame in recording.frames:
        answers.setdefault(frame.stamp, frame)
    images = recording.images or {}
    frames = [
        RunFrame(number, stamp, answers.get(stamp), stamp in images)
        for number, stamp in enumerate(sorted(answers.keys() | images.keys()))
    ]
    _find_drops(frames)
    _find_changes(frames)
    return RecordedRun(
        bag.path,
        recording,
        frames,
        bag.warnings,
        _read_node_drops(bag),
        clock_problem(list(answers.values())),
    )


def read_pictures(
    bag: Bag, stamps: set[int], image_topic: str | None, *, width: int, quality: int
) -> dict[int, bytes]:
    """JPEGs of the images with these stamps, at most `width` pixels wide."""
    try:
        topic = find_image_topic(bag, image_topic)
    except BagError:
        return {}
    pictures: dict[int, bytes] = {}
    for item in bag.messages([topic]):
        stamp = stamp_nanoseconds(item.message.header)
        if stamp not in stamps or stamp in pictures:
            continue
        try:
            image = message_to_rgb(item.message)
        except ImageConversionError:
            continue
        if image.shape[1] > width:
            height = max(1, round(image.shape[0] * width / image.shape[1]))
            image = np.asarray(
                cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
            )
        encoded = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pictures[stamp] = encoded.tobytes()
    return pictures


def image_size(run: RecordedRun, bag: Bag, image_topic: str | None) -> tuple[int, int]:
    """Width and height in pixels, of the first image or of what the poses reach."""
    try:
        topic = find_image_topic(bag, image_topic)
        for item in bag.messages([topic]):
            height, width = message_to_rgb(item.message).shape[:2]
            return width, height
    except (BagError, ImageConversionError):
        pass
    reach = [
        frame.answer.poses.boxes[:, 2:].max(axis=0)
        for frame in run.frames
        if frame.answer and len(frame.answer.poses)
    ]
    width, height = np.max(reach, axis=0) if reach else (640, 480)
    return max(64, round(float(width))), max(64, round(float(height)))


def _find_drops(frames: list[RunFrame]) -> None:
    """Why images have no answer, as far as times tell it."""
    answered = [frame.number for frame in frames if frame.answer]
    busy_until = 0
    for frame in frames:
        if frame.answer:
            busy_until = max(busy_until, frame.answer.received)
        elif frame.number < answered[0]:
            frame.drop = BEFORE
        elif frame.number > answered[-1]:
            frame.drop = AFTER
        else:
            frame.drop = BUSY if frame.stamp < busy_until else UNKNOWN


def _find_changes(frames: list[RunFrame]) -> None:
    """People who are where somebody of another number was in the answer before."""
    before: PoseFrame | None = None
    for frame in frames:
        now = frame.answer
        if now is None:
            continue
        if before is not None and len(before.poses) and len(now.poses):
            tracked = (before.poses.track_ids >= 0).any() and (now.poses.track_ids >= 0).any()
            for row, column in same_people(before, now) if tracked else ():
                old, new = before.poses.track_ids[row], now.poses.track_ids[column]
                if old >= 0 and new >= 0 and old != new:
                    frame.changes.append((int(old), int(new)))
        before = now


def same_people(a: PoseFrame, b: PoseFrame) -> list[tuple[int, int]]:
    """Pairs of people that are alike enough to be the same, by OKS on the joints of `a`."""
    from rmpe_ros.core.assignment import best_assignment

    likeness = people_likeness(a, b)
    rows, columns = best_assignment(np.where(likeness >= _SAME_PERSON, likeness, 0.0))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def people_likeness(a: PoseFrame, b: PoseFrame) -> np.ndarray:
    """OKS of everybody in `a` with everybody in `b`, (A, B), in [0, 1]."""
    first, second = a.poses, b.poses.to_skeleton(a.poses.skeleton)
    sides = np.maximum(first.boxes[:, 2:] - first.boxes[:, :2], 1.0).astype(np.float64)
    areas = AREA_OF_BOX * sides.prod(axis=1)
    columns = [
        keypoint_similarity(
            first.keypoints.astype(np.float64),
            each.astype(np.float64),
            np.ones(first.keypoints.shape[:2], bool),
            areas,
            first.skeleton.sigmas,
        )
        for each in second.keypoints
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(first), 0))


def _read_node_drops(bag: Bag) -> dict[str, int]:
    """The last counts in the node's own diagnostics, where they were recorded."""
    counts: dict[str, dict[str, int]] = {}
    for item in bag.messages(bag.topics_of(DIAGNOSTICS)):
        for status in item.message.status:
            values = {each.key: each.value for each in status.values}
            if 'dropped_replaced' in values:
                counts[status.name] = {
                    key: int(values[key]) for key in DROP_COUNTS if values.get(key, '').isdigit()
                }
    total: Counter[str] = Counter()
    for each in counts.values():
        total.update(each)
    return {DROP_COUNTS[key]: count for key, count in total.items() if count}
