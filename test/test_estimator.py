# SPDX-License-Identifier: Apache-2.0
"""From boxes to keypoints in the image, with a model that finds the bright middle of a crop."""

from pathlib import Path

import numpy as np
import pytest

from rmpe_ros.core.boxes import PeopleCrops, crop_transforms, grow_boxes
from rmpe_ros.core.skeletons import BODY19, COCO17, Skeleton
from rmpe_ros.engines import Engine, TensorInfo, open_engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.models import ModelError

BOXES = np.array([[50, 60, 100, 210], [400, 250, 500, 450]], float)
# The middle in pixel-centre coordinates, half a pixel less than in edge coordinates.
MIDDLES = np.array([[75, 135], [450, 350]]) - 0.5
CROP_SIZE = (64, 48)


def expected_keypoints(skeleton: Skeleton) -> np.ndarray:
    """What the test model of conftest.py says, mapped by hand: middle + scale * offset."""
    index = np.arange(skeleton.num_keypoints)
    offsets = np.stack([index % 5 - 2, index // 5 - 1], axis=1) * 3
    scales = crop_transforms(grow_boxes(BOXES, 0.3), CROP_SIZE)[:, 0, 0]
    return MIDDLES[:, None] + scales[:, None, None] * offsets


def test_keypoints_come_back_in_pixels_of_the_image(
    pose_model: Path, two_people: np.ndarray
) -> None:
    estimator = PoseEstimator(open_engine(pose_model))
    keypoints, scores = estimator(two_people, BOXES)
    assert estimator.skeleton == BODY19
    np.testing.assert_allclose(keypoints, expected_keypoints(BODY19), atol=0.1)
    np.testing.assert_allclose(scores, np.repeat([[1.0], [0.8]], 19, axis=1), atol=1e-6)
    assert keypoints.dtype == scores.dtype == np.float32


@pytest.mark.parametrize('batch', [1, 2, 3, 8])
def test_batches_do_not_change_the_result(
    pose_model: Path, two_people: np.ndarray, batch: int
) -> None:
    boxes = np.concatenate([BOXES, BOXES + 7, BOXES - 5, BOXES[:1]])
    one_by_one = PoseEstimator(open_engine(pose_model), batch=1)(two_people, boxes)
    keypoints, scores = PoseEstimator(open_engine(pose_model), batch=batch)(two_people, boxes)
    np.testing.assert_allclose(keypoints, one_by_one[0], atol=1e-4)
    np.testing.assert_allclose(scores, one_by_one[1], atol=1e-6)


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('people', [1, 2, 5])
def test_crops_cut_by_the_threads_of_the_engine_give_the_same_bits(
    pose_model: Path, two_people: np.ndarray, threads: int, people: int
) -> None:
    engine = open_engine(pose_model, 'onnxruntime', threads=threads)
    estimator = PoseEstimator(engine)
    boxes = np.resize(np.concatenate([BOXES, BOXES + 7.3, BOXES - 5.1]), (people, 4))
    before, transforms = estimator.crop(two_people, boxes)
    later = estimator.cut([two_people], [transforms])
    assert isinstance(before, np.ndarray)
    assert isinstance(later, PeopleCrops)
    for first, second in zip(
        estimator.estimate(before, transforms), estimator.estimate(later, transforms), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    cut = PoseEstimator(_NanEngine(engine)).cut([two_people], [transforms])
    np.testing.assert_array_equal(cut, before)
    assert isinstance(cut, np.ndarray), 'other engines get arrays'


def test_fixed_batch_is_filled_up(
    models_folder: Path, two_people: np.ndarray, make_pose_model
) -> None:
    model = make_pose_model(COCO17, batch=3)
    estimator = PoseEstimator(open_engine(model))
    assert estimator.batch == 3
    boxes = np.concatenate([BOXES, BOXES])
    keypoints, _ = estimator(two_people, boxes)
    expected = expected_keypoints(COCO17)
    np.testing.assert_allclose(keypoints, np.concatenate([expected, expected]), atol=0.1)


def test_box_growth_of_the_model_is_used(two_people: np.ndarray, make_pose_model) -> None:
    estimator = PoseEstimator(open_engine(make_pose_model(BODY19, growth='1.0')))
    _, transforms = estimator.crop(two_people, BOXES)
    np.testing.assert_allclose(transforms, crop_transforms(grow_boxes(BOXES, 1.0), CROP_SIZE))


def test_nobody(pose_model: Path, two_people: np.ndarray) -> None:
    keypoints, scores = PoseEstimator(open_engine(pose_model))(two_people, np.zeros((0, 4)))
    assert keypoints.shape == (0, 19, 2)
    assert scores.shape == (0, 19)


class _NanEngine:
    """A real engine whose second keypoint went wrong, as in an overflowing fp16 network."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.metadata = engine.metadata
        self.inputs: dict[str, TensorInfo] = dict(engine.inputs)
        self.outputs: dict[str, TensorInfo] = dict(engine.outputs)
        self.backend, self.reason, self.state = engine.backend, engine.reason, engine.state
        self.preferred_batch = engine.preferred_batch

    def __call__(self, inputs: dict) -> dict:
        outputs = self._engine(inputs)
        outputs['keypoints'][:, 1, 0] = np.nan
        outputs['keypoints'][:, 2, 2] = 3
        return outputs

    def close(self) -> None:
        self._engine.close()


def test_nan_becomes_an_unseen_keypoint(pose_model: Path, two_people: np.ndarray) -> None:
    keypoints, scores = PoseEstimator(_NanEngine(open_engine(pose_model)))(two_people, BOXES)
    assert np.isfinite(keypoints).all()
    assert (scores[:, 1] == 0).all()
    assert (scores[:, 2] == 1).all(), 'scores are clipped to [0, 1]'
    assert (scores[:, 3] > 0.7).all()


def test_models_that_are_no_pose_networks(detector_model: Path, make_pose_model) -> None:
    with pytest.raises(ModelError, match='is a detector model'):
        PoseEstimator(open_engine(detector_model))
    with pytest.raises(ModelError, match='does not say its skeleton'):
        PoseEstimator(open_engine(make_pose_model(BODY19, told=None)))
    wrong = PoseEstimator(open_engine(make_pose_model(BODY19, told=COCO17)))
    with pytest.raises(
        ModelError, match=r'\(2, 19, 3\), but its skeleton coco17 needs \(2, 17, 3\)'
    ):
        wrong(np.zeros((480, 640, 3), np.uint8), BOXES)
    with pytest.raises(ValueError, match='batch must be 1'):
        PoseEstimator(open_engine(make_pose_model(BODY19)), batch=0)
