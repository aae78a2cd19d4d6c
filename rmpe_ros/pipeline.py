# SPDX-License-Identifier: Apache-2.0
"""`PosePipeline`: an image to the poses of everybody in it; the way of a frame, without ROS.

`PoseStream`: the images of one camera or video, with a detection now and then.
"""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.given_boxes import check_boxes
from rmpe_ros.core.limits import DETECT_EVERY
from rmpe_ros.core.pose_nms import DEFAULT_POSE_NMS, PoseNmsParameters, keep_distinct_poses
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.seldom_detection import SeldomDetection
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.core.tracking import PoseTracker, TrackingParameters
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import Engine, open_engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.models import DEFAULT_DETECTOR, DEFAULT_POSE, find_model

_Boxes = tuple[NDArray[np.float32], NDArray[np.float32]]
GivenBoxes = tuple[NDArray[np.floating], NDArray[np.floating] | None]
"""Boxes (N, 4) and their scores (N,), see `PosePipeline.__call__`."""
STAGES = ('detect', 'crop', 'estimate', 'nms')
DEFAULT_MIN_SCORE = 0.1


class PosePipeline:
    """Detects people, estimates each one's pose, and removes poses of the same person.

    detector, pose: name of a shipped model, path of an .onnx file, or a ready `PersonDetector` /
        `PoseEstimator`; the shipped defaults when left out.
    detector_size: longer side of the detector's input in pixels, see `PersonDetector.size`.
    pose_nms: None keeps all poses, one per detected box.
    min_score: people below it are left out; None means where the pose model puts the threshold,
        or 0.1 where it does not say. A person's score is in [0, 1]: the pose model's own
        `PersonScore`, else the detector's score of the box times the mean keypoint score.
    max_people: look at no more than so many boxes, the best ones; bounds the time of a frame.
    threads: for each model; all physical cores by default. backend, precision,
        serve_while_building: what runs the models, see `engines.selection.open_engine`.
    Raises ModelError or EngineError when a model cannot be found, loaded or used here.

    Not thread-safe: use one pipeline per thread. `with PosePipeline() as pipeline:` closes it.
    """

    timings: dict[str, float]
    """Milliseconds that the stages of the last call took: detect, crop, estimate, nms, total.

    On the CPU, people are cut by the threads that compute them: crop is next to nothing there, and
    estimate is both.
    """

    box_scores: list[NDArray[np.float32]]
    """Of each image of the last call, (N,) how sure the detector was of each person's box."""

    def __init__(
        self,
        detector: str | Path | PersonDetector | None = None,
        pose: str | Path | PoseEstimator | None = None,
        *,
        detector_size: int | None = None,
        pose_nms: PoseNmsParameters | None = DEFAULT_POSE_NMS,
        min_score: float | None = None,
        max_people: int | None = None,
        threads: int | None = None,
        backend: str = 'auto',
        precision: str = 'fp32',
        serve_while_building: bool | None = None,
    ) -> None:
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f'min_score must be in [0, 1], got {min_score}')
        if max_people is not None and max_people < 1:
            raise ValueError(f'max_people must be 1 or more, got {max_people}')
        self.pose_nms = pose_nms
        self.max_people = max_people
        self.timings = dict.fromkeys((*STAGES, 'total'), 0.0)
        self.box_scores = []
        self._opened: list[Engine] = []

        def engine(model: str | Path) -> Engine:
            self._opened.append(
                open_engine(
                    find_model(model),
                    backend,
                    threads=threads,
                    precision=precision,
                    serve_while_building=serve_while_building,
                )
            )
            return self._opened[-1]

        try:
            if not isinstance(detector, PersonDetector):
                detector = PersonDetector(engine(detector or DEFAULT_DETECTOR))
            if detector_size is not None:
                detector.size = detector_size
            if not isinstance(pose, PoseEstimator):
                pose = PoseEstimator(engine(pose or DEFAULT_POSE))
        except BaseException:
            self.close()
            raise
        self.detector = detector
        self.estimator = pose
        self.min_score = self.suggested_min_score if min_score is None else min_score

    @property
    def suggested_min_score(self) -> float:
        """Where the pose model puts the threshold of people, or 0.1 where it does not say."""
        score = self.estimator.info.person_score
        return DEFAULT_MIN_SCORE if score is None else score.threshold

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the poses, as the pose model says."""
        return self.estimator.skeleton

    @property
    def engines(self) -> dict[str, str]:
        """What runs each model now, and why nothing better does, as text by the model's name.

        An engine that is still being built says how far it is.
        """
        return {
            engine.name: f'{engine.backend} (passed over: {engine.reason})'
            if engine.reason
            else engine.backend
            for engine in (self.detector.engine, self.estimator.engine)
        }

    @property
    def engine_state(self) -> str:
        """Empty when the models run on the engines that were wanted, see `Engine.state`."""
        engines = self.detector.engine, self.estimator.engine
        return '; '.join(f'{each.name}: {each.state}' for each in engines if each.state)

    def __call__(
        self,
        image: NDArray[np.uint8],
        *,
        boxes: NDArray[np.floating] | None = None,
        box_scores: NDArray[np.floating] | None = None,
    ) -> Poses:
        """Poses of the people in an image uint8 (H, W, 3) RGB, best first.

        boxes: (N, 4) x1, y1, x2, y2 in edge coordinates, pixels of the image: take these people
            instead of detecting. Boxes that are not finite or have no area in the image are left
            out.
        box_scores: (N,) in [0, 1], how sure each of them is; 1 by default. `max_people` takes the
            boxes with the highest; without scores, or of equal ones, the first.
        The boxes of the result are these or the detector's, clipped to the image.
        Raises ValueError for anything else than such an image, boxes of another shape, or that look
        like x, y, width, height or shares of the image, and scores that do not go with them.
        """
        check_image(image)
        given = None if boxes is None else check_boxes(boxes, box_scores, image.shape[:2])
        return self._run([image], [given])[0]

    def batch(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        boxes: Sequence[GivenBoxes | None] | None = None,
    ) -> list[Poses]:
        """Poses in each of several images, of any sizes, as a call for each one would give.

        The crops of all images go through the pose network together, which pays for several
        cameras. boxes: for each image None, or boxes and their scores (or None) as in a call.
        `timings` are those of all images. Raises ValueError as a call does.
        """
        for image in images:
            check_image(image)
        checked: list[_Boxes | None] = []
        for image, given in zip(images, boxes or [None] * len(images), strict=True):
            checked.append(None if given is None else check_boxes(*given, image.shape[:2]))
        return self._run(images, checked)

    def _run(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[_Boxes | None]
    ) -> list[Poses]:
        clock = _Clock()
        found, transforms = [], []
        for image, given in zip(images, boxes, strict=True):
            people, sure = self.detector(image) if given is None else given
            found.append((people[: self.max_people], sure[: self.max_people]))
            clock.lap('detect')
            transforms.append(self.estimator.transforms(found[-1][0]))
            clock.lap('crop')
        result: list[Poses] = []
        self.box_scores = []
        if found:
            crops = self.estimator.cut(images, transforms)
            clock.lap('crop')
            keypoints, keypoint_scores, covariances = self.estimator.estimate(
                crops, np.concatenate(transforms)
            )
            clock.lap('estimate')
            end = 0
            for people, sure in found:
                start, end = end, end + len(people)
                spread = None if covariances is None else covariances[start:end]
                joints = keypoints[start:end], keypoint_scores[start:end], spread
                poses, kept = self._select(*joints, people, sure)
                result.append(poses)
                self.box_scores.append(sure[kept])
            clock.lap('nms')
        self.timings = {**dict.fromkeys(STAGES, 0.0), **clock.finish()}
        return result

    def _select(
        self,
        keypoints: NDArray[np.float32],
        keypoint_scores: NDArray[np.float32],
        covariances: NDArray[np.float32] | None,
        boxes: NDArray[np.float32],
        box_scores: NDArray[np.float32],
    ) -> tuple[Poses, NDArray[np.intp]]:
        """The poses of one image that are to be told, best first: pose NMS and min_score; and which
        they are.
        """
        scores = self.estimator.score(box_scores, keypoint_scores, covariances, boxes)
        kept = np.argsort(-scores, kind='stable')
        if self.pose_nms is not None:
            kept, joints, joint_scores = keep_distinct_poses(
                keypoints, keypoint_scores, boxes, scores, self.pose_nms
            )
            keypoints[kept], keypoint_scores[kept] = joints, joint_scores
        kept = kept[scores[kept] >= self.min_score]
        poses = Poses(
            self.skeleton,
            keypoints[kept],
            keypoint_scores[kept],
            boxes[kept],
            scores[kept],
            covariances=None if covariances is None else covariances[kept],
        )
        return poses, kept

    def close(self) -> None:
        """Free the models that this pipeline has opened itself."""
        for engine in self._opened:
            engine.close()

    def __enter__(self) -> 'PosePipeline':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise ValueError unless `image` is uint8 (H, W, 3) with at least one pixel."""
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f'an image is a numpy array uint8 (H, W, 3) RGB, got {type(image).__name__}'
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        advice = ''
        if image.ndim == 2:
            advice = '; a grey image becomes RGB with cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)'
        elif image.dtype != np.uint8 and image.ndim == 3:
            advice = '; scale its values to 0-255 and convert with .astype(numpy.uint8)'
        raise ValueError(
            f'an image is uint8 (H, W, 3) RGB, got {image.dtype} {image.shape}{advice}'
        )


class _Clock:
    """Milliseconds between laps, summed by stage."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now

    def finish(self) -> dict[str, float]:
        return {**self._laps, 'total': (self._last - self._start) * 1e3}


class PoseStream:
    """A pipeline over the images of one camera or video, in their order.

    detect_every: detect people in every such image; in the others they are looked for where they
        should have gone. 1 is what the pipeline does by itself.
    tracking: give people their `track_ids`; None leaves them out.
    Raises ValueError when detect_every is less than 1.
    """

    def __init__(
        self,
        pipeline: PosePipeline,
        *,
        detect_every: int = DETECT_EVERY,
        tracking: TrackingParameters | None = None,
    ) -> None:
        if detect_every < 1:
            raise ValueError(f'detect_every must be 1 or more, got {detect_every}')
        self.pipeline = pipeline
        self._tracking = tracking
        self._detection = SeldomDetection(detect_every, PoseTracker(tracking))

    def reset(self) -> None:
        """Forget everybody, for another video; numbers go on."""
        self._detection.reset()

    def __call__(self, image: NDArray[np.uint8], stamp_seconds: float, source: str = '') -> Poses:
        """The people in the next image, uint8 (H, W, 3) RGB, best first.

        stamp_seconds: time of the image, see `PoseTracker.update`. source: where another one shows
        other people, such as a frame_id. Raises ValueError as the tracker and the pipeline do.
        """
        if self._detection.every == 1 and self._tracking is None:
            return self.pipeline(image)
        height, width = image.shape[:2]
        boxes = self._detection.forecast(stamp_seconds, (height, width), source)
        poses = self.pipeline.batch([image], boxes=[boxes])[0]
        numbered = self._detection.update(
            poses, self.pipeline.box_scores[0], stamp_seconds, detected=boxes is None
        )
        return poses if self._tracking is None else numbered
