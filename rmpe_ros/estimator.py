# SPDX-License-Identifier: Apache-2.0
"""`PoseEstimator`: person boxes to keypoints, through one SSTN-SPPE network (RMPE sec. 3.1)."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import (
    PeopleCrops,
    crop_people,
    crop_transforms,
    grow_boxes,
    map_covariances,
    map_points,
)
from rmpe_ros.core.person_score import joint_closeness
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.engines import Engine
from rmpe_ros.models import ModelError, ModelInfo, check_sides

# The output that a pose model may have besides its keypoints.
COVARIANCE = 'covariance'


class PoseEstimator:
    """Estimates the pose of the person in each box.

    engine: a model of the contract: `crops` uint8 [N, h, w, 3] RGB with fixed h and w →
        `keypoints` float32 [N, K, 3] (x, y in pixel-centre coordinates of the crop, score) and,
        where the model has it, `covariance` float32 [N, K, 3] (xx, xy, yy in crop pixels²).
    batch: how many crops go through the network at a time; the model's own where that is fixed,
        what suits the engine by default.
    Raises ModelError when the model is not such a pose network.
    """

    def __init__(self, engine: Engine, *, batch: int | None = None) -> None:
        if batch is not None and batch < 1:
            raise ValueError(f'batch must be 1 or more, got {batch}')
        self.engine = engine
        self.info = ModelInfo.from_metadata(engine.metadata, task='pose', model=engine.name)
        if self.info.skeleton is None:
            raise ModelError(f'{engine.name} does not say its skeleton (metadata rmpe.skeleton)')
        self.skeleton: Skeleton = self.info.skeleton
        score = self.info.person_score
        if score is not None and score.needs_closeness and COVARIANCE not in engine.outputs:
            raise ModelError(
                f'{engine.name}: its person score weighs how exact joints are, but it has no '
                f'output {COVARIANCE}; export it again, or take rmpe.person_score out of it'
            )
        shape = engine.inputs['crops'].shape if 'crops' in engine.inputs else ()
        size, height, width = shape[:3] if len(shape) == 4 else (None, None, None)
        if not isinstance(height, int) or not isinstance(width, int):
            raise ModelError(
                f'{engine.name}: a pose model has an input crops [N, h, w, 3] with fixed h and w; '
                f'it has {", ".join(f"{key} {value}" for key, value in engine.inputs.items())}'
            )
        check_sides(engine.name, 'crops', {'height': height, 'width': width})
        if isinstance(size, int):
            check_sides(engine.name, 'crops', {'number': size})
        self.crop_size = (height, width)
        self._batch = size if isinstance(size, int) else batch
        self._fixed_batch = isinstance(size, int)

    @property
    def batch(self) -> int:
        """How many crops go through the network at a time."""
        return self._batch or self.engine.preferred_batch

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Poses in boxes (N, 4), edge coordinates, of an image uint8 (H, W, 3) RGB.

        Returns keypoints (N, K, 2) float32 in pixels of the image and scores (N, K) in [0, 1].
        Raises ValueError for boxes that are not finite or have no extent.
        """
        transforms = self.transforms(boxes)
        keypoints, scores, _ = self.estimate(self.cut([image], [transforms]), transforms)
        return keypoints, scores

    def crop(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """First half of a call: the grown boxes' crops (N, h, w, 3), and crop → image (N, 2, 3)."""
        transforms = self.transforms(boxes)
        return crop_people(image, transforms, self.crop_size), transforms

    def transforms(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Crop → image (N, 2, 3) of the crops of people in boxes (N, 4). Raises ValueError as a
        call does.
        """
        return crop_transforms(grow_boxes(boxes, self.info.box_growth), self.crop_size)

    def cut(
        self, images: Sequence[NDArray[np.uint8]], transforms: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.uint8] | PeopleCrops:
        """The crops of the people of several images, one after the other, for `estimate`.

        transforms: for each image, those of its people. Where the engine computes people side by
        side, each is cut by the thread that computes it, just before.
        """
        crops = PeopleCrops(
            [image for image, each in zip(images, transforms, strict=True) for _ in each],
            np.concatenate([np.zeros((0, 2, 3)), *transforms]),
            self.crop_size,
        )
        return crops if getattr(self.engine, 'takes_rows', False) else np.asarray(crops)

    def estimate(
        self, crops: NDArray[np.uint8] | PeopleCrops, transforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
        """Second half of a call: crops and their maps to keypoints and scores in the image, and
        their covariances (N, K, 3) xx, xy, yy in pixels², None of a model that has none.

        A keypoint for which the network gives NaN is at (0, 0) with score 0 and covariance NaN.
        """
        people, joints = len(crops), self.skeleton.num_keypoints
        output = np.zeros((people, joints, 3), np.float32)
        spread = np.zeros_like(output) if COVARIANCE in self.engine.outputs else None
        batch = self.batch
        for start in range(0, people, batch):
            chunk = crops[start : start + batch]
            count = len(chunk)
            if self._fixed_batch and count < batch:
                filler = np.zeros((batch - count, *chunk.shape[1:]), np.uint8)
                chunk = np.concatenate([np.asarray(chunk), filler])
            results = self._run(chunk)
            output[start : start + count] = results['keypoints'][:count]
            if spread is not None:
                spread[start : start + count] = results[COVARIANCE][:count]
        keypoints = map_points(output[..., :2], transforms).astype(np.float32)
        scores = np.clip(output[..., 2], 0, 1)
        broken = ~(np.isfinite(keypoints).all(axis=-1) & np.isfinite(scores))
        keypoints[broken], scores[broken] = 0, 0
        if spread is None:
            return keypoints, scores, None
        covariances = map_covariances(spread, transforms).astype(np.float32)
        covariances[broken] = np.nan
        return keypoints, scores, covariances

    def score(
        self,
        box_scores: NDArray[np.floating],
        keypoint_scores: NDArray[np.floating],
        covariances: NDArray[np.floating] | None,
        boxes: NDArray[np.floating],
    ) -> NDArray[np.float32]:
        """(N,) of people in [0, 1], of what `estimate` gave and their boxes (N, 4) with the
        detector's scores (N,): by the model's `PersonScore`, else the box's times the mean joint's.
        """
        person_score = self.info.person_score
        if person_score is None:
            return box_scores * keypoint_scores.mean(axis=1)
        closeness = joint_closeness(self.skeleton, covariances, boxes)
        return person_score(box_scores, keypoint_scores, closeness)

    def _run(self, crops: NDArray[np.uint8] | PeopleCrops) -> Mapping[str, NDArray[np.float32]]:
        # Crops that are not cut yet are only for engines that take them, see `cut`.
        results = self.engine({'crops': cast(NDArray[np.uint8], crops)})
        expected = (len(crops), self.skeleton.num_keypoints, 3)
        for name in ('keypoints', COVARIANCE):
            if name in results and results[name].shape != expected:
                raise ModelError(
                    f'{self.engine.name}: output {name} has shape {results[name].shape}, but its '
                    f'skeleton {self.skeleton.name} needs {expected}'
                )
        return results
