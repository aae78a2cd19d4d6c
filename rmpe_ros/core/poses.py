# SPDX-License-Identifier: Apache-2.0
"""`Poses`: all people found in one image, as arrays that are checked when they are put together."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.skeletons import Skeleton, conversion

COLOURS = 6  # L*, a*, b* of the trunk and of the thighs


@dataclass(eq=False)
class Poses:
    """N people with K keypoints each, best first when they come from the pipeline.

    skeleton: names and order of the K keypoints.
    keypoints: (N, K, 2) float32, pixels of the image; (0, 0) is the top-left pixel's centre.
    keypoint_scores: (N, K) float32 in [0, 1].
    boxes: (N, 4) float32 x1, y1, x2, y2, pixels in edge coordinates (see `boxes.py`).
    scores: (N,) float32 in [0, 1], how sure the person is.
    track_ids: (N,) int32, -1 where there is none (the default).
    covariances: (N, K, 3) float32 xx, xy, yy in pixels² of each keypoint, NaN where unknown; None
        where the pose network does not tell them.
    colours: (N, 6) float32 of the clothes, see `clothes.clothes_colours`, NaN where unknown; None
        where nobody looked.
    Raises ValueError when shapes disagree, a value is not finite or a score is not in [0, 1].
    """

    skeleton: Skeleton
    keypoints: NDArray[np.float32]
    keypoint_scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    track_ids: NDArray[np.int32] = field(default_factory=lambda: np.full(0, -1, np.int32))
    covariances: NDArray[np.float32] | None = None
    colours: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        people, joints = len(np.atleast_1d(self.scores)), self.skeleton.num_keypoints
        if np.size(self.track_ids) == 0:
            self.track_ids = np.full(people, -1, np.int32)
        expected: dict[str, tuple[tuple[int, ...], type]] = {
            'keypoints': ((people, joints, 2), np.float32),
            'keypoint_scores': ((people, joints), np.float32),
            'boxes': ((people, 4), np.float32),
            'scores': ((people,), np.float32),
            'track_ids': ((people,), np.int32),
        }
        for name, (shape, dtype) in expected.items():
            array: NDArray[Any] = np.asarray(getattr(self, name), dtype)
            if array.shape != shape:
                raise ValueError(
                    f'{name} of {people} {self.skeleton.name} poses must have shape {shape}, '
                    f'got {array.shape}'
                )
            if dtype is np.float32 and not np.isfinite(array).all():
                raise ValueError(f'{name} must be finite; leave out people with NaN or infinity')
            setattr(self, name, array)
        if self.covariances is not None:
            self.covariances = np.asarray(self.covariances, np.float32)
            if self.covariances.shape != (people, joints, 3):
                raise ValueError(
                    f'covariances of {people} {self.skeleton.name} poses must have shape '
                    f'{(people, joints, 3)}, got {self.covariances.shape}'
                )
        if self.colours is not None:
            self.colours = np.asarray(self.colours, np.float32)
            if self.colours.shape != (people, COLOURS):
                raise ValueError(
                    f'colours of {people} people must have shape {(people, COLOURS)}, '
                    f'got {self.colours.shape}'
                )
        for name in ('keypoint_scores', 'scores'):
            array = getattr(self, name)
            if array.size and (array.min() < 0 or array.max() > 1):
                raise ValueError(
                    f'{name} must be in [0, 1], got {array.min():.4g} to {array.max():.4g}'
                )

    @staticmethod
    def empty(skeleton: Skeleton) -> 'Poses':
        """Nobody."""
        return Poses(
            skeleton,
            np.zeros((0, skeleton.num_keypoints, 2), np.float32),
            np.zeros((0, skeleton.num_keypoints), np.float32),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
        )

    def __len__(self) -> int:
        """N, the number of people."""
        return len(self.scores)

    def __getitem__(self, people: Any) -> 'Poses':
        """The people selected by a mask, indices, a slice or one index; always `Poses`."""
        if isinstance(people, int | np.integer):
            # IndexError for an index beyond the end, which also ends a for loop over people.
            people = [range(len(self))[people]]
        return Poses(
            self.skeleton,
            self.keypoints[people],
            self.keypoint_scores[people],
            self.boxes[people],
            self.scores[people],
            self.track_ids[people],
            None if self.covariances is None else self.covariances[people],
            None if self.colours is None else self.colours[people],
        )

    def to_skeleton(self, target: Skeleton) -> 'Poses':
        """The same people with another skeleton's keypoints, without covariances; see
        `skeletons.conversion`.
        """
        if target == self.skeleton:
            return self
        keypoints, scores = conversion(self.skeleton, target)(self.keypoints, self.keypoint_scores)
        return Poses(
            target,
            keypoints,
            scores,
            self.boxes,
            self.scores,
            self.track_ids,
            colours=self.colours,
        )

    def to_coco_results(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        """One COCO-results dictionary per person, ready for `json.dump` and pycocotools.

        `keypoints` is x, y, score flattened; `bbox` is x, y, width, height. `track_id` is added
        where there is one. Convert to COCO17 first for the official evaluation.
        """
        triples = np.concatenate([self.keypoints, self.keypoint_scores[..., None]], axis=-1)
        extents = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)
        results = []
        for triple, extent, score, track_id in zip(
            triples, extents, self.scores, self.track_ids, strict=True
        ):
            result: dict[str, Any] = {
                'image_id': image_id,
                'category_id': category_id,
                'keypoints': _rounded(triple.ravel()),
                'score': round(float(score), 5),
                'bbox': _rounded(extent),
            }
            if track_id >= 0:
                result['track_id'] = int(track_id)
            results.append(result)
        return results


def _rounded(values: Iterable[float]) -> list[float]:
    """Three decimals: a thousandth of a pixel, and files a third of the size."""
    return [round(float(value), 3) for value in values]
