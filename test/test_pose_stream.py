# SPDX-License-Identifier: Apache-2.0
"""Videos through the pipeline: shipped networks, a photo that moves, and detections in between."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros import PosePipeline, PoseStream
from rmpe_ros.core.oks import keypoint_similarity
from rmpe_ros.core.tracking import TrackingParameters
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import open_engine
from rmpe_ros.engines.example_pictures import example_photo

MODELS = Path(__file__).resolve().parents[1] / 'models'


class CountingDetector(PersonDetector):
    """The detector, and how often it was asked."""

    calls = 0

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        return super().__call__(image)


@pytest.fixture(scope='module')
def pipeline() -> Iterator[PosePipeline]:
    # As files: tests of nodes leave models of their own under these names.
    detector = CountingDetector(open_engine(MODELS / 'detector.onnx'))
    # Corners of the photo are no people.
    with PosePipeline(detector, MODELS / 'lite.onnx', min_score=0.3) as pipeline:
        yield pipeline


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    """A photo of a person that moves to the right over a grey picture, 200 pixels a second."""
    photo = cv2.resize(example_photo(), (240, 240))
    images = []
    for number in range(11):
        image = np.full((300, 480, 3), 127, np.uint8)
        image[40:280, 20 + 20 * number :][:, :240] = photo
        images.append(image)
    return images


def detections(pipeline: PosePipeline, action: Callable[[], object]) -> int:
    detector = pipeline.detector
    assert isinstance(detector, CountingDetector)
    before = detector.calls
    action()
    return detector.calls - before


def test_the_poses_are_nearly_those_of_detecting_every_time(
    pipeline: PosePipeline, frames: list[np.ndarray]
) -> None:
    stream, found = PoseStream(pipeline, detect_every=5), []

    def run() -> None:
        found.extend(stream(image, number / 10) for number, image in enumerate(frames))

    assert detections(pipeline, run) == 3
    for image, poses in zip(frames, found, strict=True):
        alone = pipeline(image)
        assert len(poses) == len(alone) == 1
        similarity = keypoint_similarity(
            poses.keypoints,
            alone.keypoints,
            alone.keypoint_scores > 0.3,
            np.prod(alone.boxes[:, 2:] - alone.boxes[:, :2], axis=1) * 0.53,
            np.array(poses.skeleton.sigmas),
        )
        assert similarity.min() > 0.9
        np.testing.assert_allclose(poses.scores, alone.scores, atol=0.2)
        assert poses.track_ids.tolist() == [-1]


def test_detecting_in_every_image_is_the_pipeline_itself(
    pipeline: PosePipeline, frames: list[np.ndarray]
) -> None:
    stream = PoseStream(pipeline, detect_every=1)
    for number, image in enumerate(frames[:3]):
        poses, alone = stream(image, number / 10), pipeline(image)
        for name in ('keypoints', 'keypoint_scores', 'boxes', 'scores', 'track_ids'):
            np.testing.assert_array_equal(getattr(poses, name), getattr(alone, name))


def test_tracked_people_have_numbers_and_another_video_has_others(
    pipeline: PosePipeline, frames: list[np.ndarray]
) -> None:
    stream = PoseStream(pipeline, tracking=TrackingParameters())
    first = [stream(image, number / 10).track_ids.tolist() for number, image in enumerate(frames)]
    assert first == [[0]] * len(frames)
    stream.reset()
    assert stream(frames[0], 2.0).track_ids.tolist() == [1]
    assert stream(frames[0], 2.1, 'another').track_ids.tolist() == [2]


def test_the_same_images_give_the_same_bits(
    pipeline: PosePipeline, frames: list[np.ndarray]
) -> None:
    runs = [PoseStream(pipeline, detect_every=3) for _ in range(2)]
    for number, image in enumerate(frames[:5]):
        one, two = (stream(image, number / 10) for stream in runs)
        np.testing.assert_array_equal(one.keypoints, two.keypoints)
        np.testing.assert_array_equal(one.scores, two.scores)


def test_what_is_no_number_of_images(pipeline: PosePipeline) -> None:
    with pytest.raises(ValueError, match='detect_every must be 1 or more, got 0'):
        PoseStream(pipeline, detect_every=0)
