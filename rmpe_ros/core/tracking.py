# SPDX-License-Identifier: Apache-2.0
"""Tracking: the same number for the same person from image to image.

A track moves on at a constant velocity until it is seen again. People are compared with predicted
tracks by pose (the similarity of the paper's pose NMS, Eqs. 8-10, as a share of its greatest
value) and by overlap of boxes, and assigned one to one for the greatest total. Nothing looks at
clothes or faces: who is away for longer than `max_age` comes back as somebody new.
"""

from copy import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.assignment import best_assignment
from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.one_euro import OneEuroFilter, OneEuroParameters
from rmpe_ros.core.pose_nms import PoseNmsParameters, pose_similarities
from rmpe_ros.core.poses import Poses

# Seconds over which a person's velocity is averaged.
_VELOCITY_TIME = 0.4
# Box sizes per second by which a prediction may have gone wrong after a person was last seen.
_DRIFT = 0.3
# A sight this alike to what was expected counts in full for the velocity.
_FULL_TRUST = 0.6
# Sights after which a velocity can be relied on.
_SETTLED = 5
# Seconds out of sight after which a track counts 1/e: who was just seen has the better claim.
_FADE_TIME = 3.0
# `track_id` is an int32 in messages.
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class TrackingParameters:
    """How people are followed.

    max_age: seconds that a person may be out of sight, by the stamps of the images.
    min_affinity: at least so alike, in [0, 1], are a track and a person: the mean of the share of
        pose similarity and the IoU of the boxes.
    start_score: a person with a lower score continues a track and does not begin one.
    pose: constants of the similarity. sigma2 is wider than in NMS, since people move.
    smoothing: of the keypoints along each track; None leaves them as they were measured.
    Raises ValueError when a number is out of range.
    """

    max_age: float = 2.0
    min_affinity: float = 0.2
    start_score: float = 0.2
    pose: PoseNmsParameters = field(default_factory=lambda: PoseNmsParameters(sigma2=6.0))
    smoothing: OneEuroParameters | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_age < np.inf:
            raise ValueError(f'max_age must be a positive number of seconds, got {self.max_age}')
        for name in ('min_affinity', 'start_score'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} must be in [0, 1], got {getattr(self, name)}')


class PoseTracker:
    """Gives people their `track_ids`, from 0 on, each given once in 2^31 people.

    One tracker is for one camera. Not thread-safe.
    """

    def __init__(self, parameters: TrackingParameters | None = None) -> None:
        self.parameters = parameters or TrackingParameters()
        self._tracks: list[_Track] = []
        self._stamp: float | None = None
        self._next_id = 0

    def reset(self) -> None:
        """Forget everybody; numbers go on."""
        self._tracks = []
        self._stamp = None

    def update(self, poses: Poses, stamp_seconds: float) -> Poses:
        """The people of the next image, in the same order, with `track_ids` (-1 where none yet).

        stamp_seconds: time of the image. Earlier than the last one (a bag that starts again) means
        a new beginning, as does another skeleton. With `smoothing` the keypoints of the result are
        the smoothed ones. Raises ValueError when the stamp is not finite.
        """
        if not np.isfinite(stamp_seconds):
            raise ValueError(f'the stamp must be a number of seconds, got {stamp_seconds}')
        stamp = float(stamp_seconds)
        if self._stamp is not None and stamp < self._stamp:
            self.reset()
        if self._tracks and len(self._tracks[0].keypoints) != poses.skeleton.num_keypoints:
            self.reset()
        self._stamp = stamp
        self._tracks = [
            track for track in self._tracks if stamp - track.seen <= self.parameters.max_age
        ]
        # Without the checks of new ones: numbers apart, they hold what these hold.
        numbered = copy(poses)
        if not len(poses):
            return numbered
        track_of: dict[int, _Track] = {}
        trust: dict[int, float] = {}
        if self._tracks:
            affinity = self._affinity(poses, stamp)
            affinity[affinity < self.parameters.min_affinity] = 0
            for row, person in zip(*best_assignment(affinity), strict=True):
                track_of[int(person)] = self._tracks[row]
                trust[int(person)] = float(affinity[row, person])
        for person in _by_confidence(poses):
            if person not in track_of and poses.scores[person] >= self.parameters.start_score:
                track_of[person] = _Track(self._new_id())
                self._tracks.append(track_of[person])
        numbered.keypoints = poses.keypoints.copy()
        numbered.track_ids = np.full(len(poses), -1, np.int32)
        for person, track in track_of.items():
            numbered.track_ids[person] = track.track_id
            numbered.keypoints[person] = track.follow(
                poses.keypoints[person].astype(np.float64),
                poses.keypoint_scores[person].copy(),
                poses.boxes[person].astype(np.float64),
                stamp,
                trust=trust.get(person, 1.0),
                smoothing=self.parameters.smoothing,
            )
        return numbered

    def velocities(self, track_ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """(N, 2) pixels per second of the people with these numbers, NaN where it is not known."""
        known = {track.track_id: track.velocity for track in self._tracks if track.sights > 1}
        unknown = np.full(2, np.nan)
        return np.array([known.get(int(each), unknown) for each in track_ids]).reshape(-1, 2)

    def _new_id(self) -> int:
        """The next number; after the largest that a message can hold, the first that is free."""
        used = {track.track_id for track in self._tracks}
        while self._next_id > _LARGEST_ID or self._next_id in used:
            self._next_id = 0 if self._next_id >= _LARGEST_ID else self._next_id + 1
        self._next_id += 1
        return self._next_id - 1

    def _affinity(self, poses: Poses, stamp: float) -> NDArray[np.float64]:
        """(tracks, people) in [0, 1]."""
        tracks = self._tracks
        shifts = np.array([track.velocity * (stamp - track.seen) for track in tracks])
        points = np.array([track.keypoints for track in tracks]) + shifts[:, None]
        boxes = np.array([track.box for track in tracks]) + np.tile(shifts, 2)
        overlap = box_iou(boxes, poses.boxes)

        # The unit of the similarity is the reference's box: the longer somebody was out of sight,
        # the larger the box, the more tolerant the comparison.
        gaps = np.array([stamp - track.seen for track in tracks])
        grown = _grow(boxes, 1 + _DRIFT * np.maximum(gaps - 0.1, 0))
        scores = np.concatenate(
            [np.array([track.keypoint_scores for track in tracks]), poses.keypoint_scores]
        )
        similarity = pose_similarities(
            np.arange(len(tracks)),
            np.concatenate([points, poses.keypoints]),
            scores,
            np.concatenate([grown, poses.boxes]),
            self.parameters.pose,
        )[:, len(tracks) :]
        certainty = np.tanh(scores / self.parameters.pose.sigma1)
        greatest = certainty[: len(tracks)] @ certainty[len(tracks) :].T
        greatest = greatest + self.parameters.pose.lambda_ * points.shape[1]
        # With lambda 0, of people without one joint that is seen, poses say nothing.
        alike = np.divide(similarity, greatest, out=np.zeros(similarity.shape), where=greatest > 0)
        fading = np.exp((gaps.min() - gaps) / _FADE_TIME)
        return fading[:, None] * (alike + overlap) / 2


class _Track:
    """What is remembered of one person: the last sight of them, as measured, and how they move."""

    def __init__(self, track_id: int) -> None:
        self.track_id = track_id
        self.seen = -np.inf
        self.sights = 0
        self.velocity: NDArray[np.float64] = np.zeros(2)
        self.keypoints: NDArray[np.float64] = np.zeros((0, 2))
        self.keypoint_scores: NDArray[np.float32] = np.zeros(0, np.float32)
        self.box: NDArray[np.float64] = np.zeros(4)
        self._filter: OneEuroFilter | None = None

    def follow(
        self,
        points: NDArray[np.float64],
        scores: NDArray[np.float32],
        box: NDArray[np.float64],
        stamp: float,
        *,
        trust: float,
        smoothing: OneEuroParameters | None,
    ) -> NDArray[np.floating]:
        """Take in a sight of the person: keypoints (K, 2), their scores (K,) and the box (4,), all
        of which it keeps; returns the keypoints to show.

        trust: in [0, 1], how well the sight was expected. Of who is half hidden, joints and box
        jump about: that says little about where the person is going.
        """
        interval = stamp - self.seen
        if self.sights and interval > 0:
            # What numpy.average does, without its checks: they took a third of the update.
            weights = (np.minimum(scores, self.keypoint_scores) + 1e-6)[:, None]
            moved = ((points - self.keypoints) * weights).sum(axis=0)
            moved /= weights.sum(axis=0, dtype=np.float64)
            # The first velocities are averaged plainly, later ones over _VELOCITY_TIME.
            share = max(1 - np.exp(-interval / _VELOCITY_TIME), 1 / (self.sights + 1))
            # Nothing was expected yet of who is new.
            step = share * (min(trust / _FULL_TRUST, 1) ** 2 if self.sights >= _SETTLED else 1)
            self.velocity = self.velocity + step * (moved / interval - self.velocity)
        self.keypoints, self.keypoint_scores, self.box = points, scores, box
        self.seen = stamp
        self.sights += 1
        if smoothing is None:
            self._filter = None
            return points
        if self._filter is None or self._filter.parameters != smoothing:
            self._filter = OneEuroFilter(smoothing)
        size = float(max(box[2:] - box[:2]))
        return self._filter(points, stamp, size=size, velocity=self.velocity)


def _grow(boxes: NDArray[np.float64], factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (N, 4) scaled about their centres."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * factors[:, None]
    return np.concatenate([centres - half, centres + half], axis=1)


def _by_confidence(poses: Poses) -> list[int]:
    """Indices from the best score down, the same people first in whatever order they came."""
    keys = (*poses.boxes.T[::-1], -poses.scores)
    return [int(index) for index in np.lexsort(keys)]
