# SPDX-License-Identifier: Apache-2.0
"""The whole way of a frame, from pixels to poses after NMS, with models that look at the pixels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from rmpe_ros import PosePipeline
from rmpe_ros.core.oks import expected_similarity
from rmpe_ros.core.person_score import Logistic, PersonScore
from rmpe_ros.core.pose_nms import DEFAULT_POSE_NMS
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import EngineError, open_engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.models import ModelError

BOXES = np.array([[50, 60, 100, 210], [400, 250, 500, 450]], float)


@pytest.fixture
def pipeline(detector_model: Path, pose_model: Path) -> PosePipeline:
    return PosePipeline(detector_model, pose_model)


def test_finds_the_people(pipeline: PosePipeline, two_people: np.ndarray) -> None:
    poses = pipeline(two_people)
    assert poses.skeleton == pipeline.skeleton == BODY19
    np.testing.assert_allclose(poses.boxes, BOXES, atol=0.01)
    # Box score times mean keypoint score: 1 * 1 and 0.8 * 0.8.
    np.testing.assert_allclose(poses.scores, [1, 0.64], atol=1e-5)
    middle = poses.keypoints[:, [7]].mean(axis=1)
    np.testing.assert_allclose(middle, [[74.5, 134.5], [449.5, 349.5]], atol=0.1)
    assert poses.track_ids.tolist() == [-1, -1]


def test_a_pose_model_can_say_what_makes_a_person(
    detector_model: Path, make_pose_model: Callable[..., Path], two_people: np.ndarray
) -> None:
    """Scores are the model's probabilities then, and its threshold is the default."""
    # The boxes' scores are 1 and 0.8, and so are all of their joints'.
    score = PersonScore(Logistic(-1.0, 0.1, 1.0, 0.0, 0.0), 0.6)
    model = make_pose_model(BODY19, score=score.to_json())
    pipeline = PosePipeline(detector_model, model)
    assert pipeline.min_score == pipeline.suggested_min_score == 0.6
    sure = 1 / (1 + np.exp(-0.1 * np.log(9999)))
    np.testing.assert_allclose(pipeline(two_people).scores, [sure], rtol=1e-3)
    pipeline.min_score = 0.0
    unsure = 1 / (1 + np.exp(0.2 - 0.1 * np.log(4)))
    np.testing.assert_allclose(pipeline(two_people).scores, [sure, unsure], rtol=1e-3)
    assert PosePipeline(detector_model, model, min_score=0.5).min_score == 0.5


def test_a_pose_model_can_weigh_how_exact_joints_are(
    detector_model: Path, make_pose_model: Callable[..., Path], two_people: np.ndarray
) -> None:
    score = PersonScore(Logistic(-1.0, 0.1, 1.0, 0.0, 0.0, exact=2.0, sure=-1.0), 0.0)
    path = make_pose_model(BODY19, score=score.to_json())
    with pytest.raises(ModelError, match='has no output covariance; export it again'):
        PosePipeline(detector_model, path)
    model = onnx.load(str(path))
    for name, values in {'no_spread': [0, 0, 0], 'some_spread': [40, 5, 20]}.items():
        array = np.array(values, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model.graph.node.append(onnx.helper.make_node('Mul', ['keypoints', 'no_spread'], ['unspread']))
    model.graph.node.append(
        onnx.helper.make_node('Add', ['unspread', 'some_spread'], ['covariance'])
    )
    spread = onnx.helper.make_tensor_value_info('covariance', onnx.TensorProto.FLOAT, ['N', 19, 3])
    model.graph.output.append(spread)
    onnx.save(model, str(path))
    pipeline = PosePipeline(detector_model, path, pose_nms=None)
    poses = pipeline(two_people)
    closeness = expected_similarity(poses.covariances, poses.boxes, BODY19.sigmas)
    assert 0 < closeness.min() < closeness.max() <= 1
    expected = score(pipeline.box_scores[0], poses.keypoint_scores, closeness)
    np.testing.assert_allclose(poses.scores, expected, rtol=1e-6)


def test_pose_nms_removes_what_box_nms_leaves(
    detector_model: Path, pose_model: Path, two_people: np.ndarray
) -> None:
    detector = PersonDetector(open_engine(detector_model), nms_iou=1.0)
    estimator = PoseEstimator(open_engine(pose_model))
    everything = PosePipeline(detector, estimator, pose_nms=None)(two_people)
    np.testing.assert_allclose(everything.scores, [1, 0.9, 0.64, 0.576], atol=1e-5)
    assert DEFAULT_POSE_NMS.merge
    alone = replace(DEFAULT_POSE_NMS, merge=False)
    for parameters in (DEFAULT_POSE_NMS, DEFAULT_POSE_NMS.with_variant('released'), alone):
        poses = PosePipeline(detector, estimator, pose_nms=parameters)(two_people)
        np.testing.assert_allclose(poses.scores, [1, 0.64], atol=1e-5)
        np.testing.assert_allclose(poses.boxes, BOXES, atol=0.01)


def test_given_boxes_replace_the_detector(pipeline: PosePipeline, two_people: np.ndarray) -> None:
    boxes = np.array(
        [BOXES[1], [np.nan, 0, 1, 1], [9, 9, 9, 20], [700, 0, 800, 90], [390, 240, 2000, 460]]
    )
    poses = pipeline(two_people, boxes=boxes[:4])
    np.testing.assert_allclose(poses.boxes, BOXES[1:])
    np.testing.assert_allclose(poses.scores, [0.8], atol=1e-5)
    wide = pipeline(two_people, boxes=boxes[4:], box_scores=np.array([0.5]))
    np.testing.assert_allclose(wide.boxes, [[390, 240, 640, 460]])
    np.testing.assert_allclose(wide.scores, [0.4], atol=1e-5)
    assert len(pipeline(two_people, boxes=np.zeros((0, 4)))) == 0
    with pytest.raises(ValueError, match='2 boxes need as many box_scores'):
        pipeline(two_people, boxes=BOXES, box_scores=np.ones(3))


@pytest.mark.parametrize(
    ('boxes', 'says'),
    [
        (np.ones((4, 5)), r'got shape \(4, 5\)'),
        (np.ones((2, 6)), r'got shape \(2, 6\)'),
        (np.ones((2, 2, 4)), r'got shape \(2, 2, 4\)'),
        (np.zeros((0, 5)), r'got shape \(0, 5\)'),
        (BOXES[0], r'got shape \(4,\); a single box is boxes\[None\]'),
        ([[1, 2, 3, 4], [5, 6]], 'boxes are an'),
        ([['1', '2', '3', '4']], 'boxes are an'),
        (
            [[50, 60, 50, 150], [400, 250, 100, 200]],
            r'1 of 2 end before they begin, as \[400.*x, y',
        ),
        (
            [[0.1, 0.2, 0.3, 0.9], [0.6, 0.5, 1.02, 1]],
            r'the largest number in them is 1\.02.*640',
        ),
    ],
)
def test_boxes_of_another_form_are_refused(
    pipeline: PosePipeline, two_people: np.ndarray, boxes: Any, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        pipeline(two_people, boxes=boxes)


def test_infinite_boxes_and_scores_are_left_out(
    pipeline: PosePipeline, two_people: np.ndarray
) -> None:
    boxes = np.array([[-np.inf, 0, np.inf, np.inf], *BOXES, [0, 0, np.inf, 480]])
    poses = pipeline(two_people, boxes=boxes, box_scores=[0.9, 0.8, np.nan, 0.7])
    np.testing.assert_allclose(poses.boxes, BOXES[:1])
    assert len(pipeline(two_people, boxes=[])) == 0
    for scores in ([87.0, 60.0], [0.5, -0.5]):
        with pytest.raises(ValueError, match='box_scores are from 0 to 1'):
            pipeline(two_people, boxes=BOXES, box_scores=scores)


def test_boxes_that_find_nobody_are_told(pipeline: PosePipeline, two_people: np.ndarray) -> None:
    with pytest.warns(UserWarning, match='none of the 2 boxes lies in the image of 640x480'):
        assert len(pipeline(two_people, boxes=BOXES + 2000)) == 0
    with pytest.warns(UserWarning, match='1 of 3 boxes end before they begin') as told:
        assert len(pipeline(two_people, boxes=[*BOXES, [90, 90, 80, 99]])) == 2
    assert told[0].filename == __file__


def test_of_given_boxes_the_best_are_taken(
    detector_model: Path, pose_model: Path, two_people: np.ndarray
) -> None:
    single = PosePipeline(detector_model, pose_model, max_people=1)
    np.testing.assert_allclose(single(two_people, boxes=BOXES).boxes, BOXES[:1])
    for scores, best in (([0.4, 0.6], 1), ([0.6, 0.4], 0), ([0.5, 0.5], 0)):
        poses = single(two_people, boxes=BOXES, box_scores=scores)
        np.testing.assert_allclose(poses.boxes, BOXES[best][None])


def test_min_score_and_max_people(
    detector_model: Path, pose_model: Path, two_people: np.ndarray
) -> None:
    strict = PosePipeline(detector_model, pose_model, min_score=0.7)
    np.testing.assert_allclose(strict(two_people).scores, [1])
    single = PosePipeline(detector_model, pose_model, max_people=1)
    np.testing.assert_allclose(single(two_people).boxes, BOXES[:1], atol=0.01)
    for options in ({'min_score': 1.5}, {'max_people': 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            PosePipeline(detector_model, pose_model, **options)


def test_nobody_there(pipeline: PosePipeline) -> None:
    for image in (np.zeros((480, 640, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)):
        poses = pipeline(image)
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 19, 2)
    assert pipeline.timings['total'] > 0


def test_timings_add_up(pipeline: PosePipeline, two_people: np.ndarray) -> None:
    pipeline(two_people)
    assert list(pipeline.timings) == ['detect', 'crop', 'estimate', 'nms', 'total']
    *stages, total = pipeline.timings.values()
    assert sum(stages) == pytest.approx(total)
    assert min(stages) >= 0


def test_a_batch_gives_what_single_calls_give(
    pipeline: PosePipeline, two_people: np.ndarray
) -> None:
    nobody, one = np.zeros((120, 160, 3), np.uint8), two_people.copy()
    one[:, :320] = 0
    images = [two_people, nobody, one[::2, ::2], two_people]
    singly = [pipeline(image) for image in images]
    assert [len(poses) for poses in singly] == [2, 0, 1, 2]
    batch = pipeline.batch(images)
    for together, alone in zip(batch, singly, strict=True):
        np.testing.assert_allclose(together.keypoints, alone.keypoints, atol=1e-3)
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-6)
        np.testing.assert_array_equal(together.boxes, alone.boxes)
    assert list(pipeline.timings) == ['detect', 'crop', 'estimate', 'nms', 'total']
    *stages, total = pipeline.timings.values()
    assert sum(stages) == pytest.approx(total)
    pipeline.max_people = 1
    assert [len(poses) for poses in pipeline.batch(images)] == [1, 0, 1, 1]
    assert pipeline.batch([]) == []
    with pytest.raises(ValueError, match='COLOR_GRAY2RGB'):
        pipeline.batch([two_people, two_people[..., 0]])


def test_same_image_same_poses(pipeline: PosePipeline, two_people: np.ndarray) -> None:
    original = two_people.copy()
    first, second = pipeline(two_people), pipeline(two_people)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    np.testing.assert_array_equal(two_people, original)


def test_images_that_are_views(pipeline: PosePipeline, two_people: np.ndarray) -> None:
    """BGR turned to RGB by a negative stride, and a region of a larger image."""
    plain = pipeline(two_people)
    np.testing.assert_array_equal(pipeline(two_people[..., ::-1]).keypoints, plain.keypoints)
    larger = np.zeros((500, 700, 3), np.uint8)
    larger[10:490, 30:670] = two_people
    np.testing.assert_array_equal(pipeline(larger[10:490, 30:670]).keypoints, plain.keypoints)
    two_people.setflags(write=False)
    np.testing.assert_array_equal(pipeline(two_people).keypoints, plain.keypoints)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((4, 4), np.uint8), 'COLOR_GRAY2RGB'),
        (np.zeros((4, 4, 3), np.float32), r'astype\(numpy.uint8\)'),
        (np.zeros((4, 4, 4), np.uint8), r'got uint8 \(4, 4, 4\)'),
        (np.zeros((0, 4, 3), np.uint8), r'got uint8 \(0, 4, 3\)'),
        ([[1, 2]], 'numpy array'),
    ],
)
def test_what_is_no_image(pipeline: PosePipeline, image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(image)


def test_default_models_by_name(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch, two_people: np.ndarray
) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    with PosePipeline(threads=1) as pipeline:
        assert len(pipeline(two_people)) == 2
    with pytest.raises(EngineError, match='closed'):
        pipeline(two_people)


def test_swapped_models(detector_model: Path, pose_model: Path) -> None:
    with pytest.raises(ModelError, match='swapped'):
        PosePipeline(pose_model, detector_model)


def test_the_first_model_is_closed_when_the_second_is_refused(
    detector_model: Path, tmp_path: Path, two_people: np.ndarray
) -> None:
    broken = tmp_path / 'broken.onnx'
    broken.write_bytes(b'no network')
    with pytest.raises(EngineError, match='broken') as refused:
        PosePipeline(detector_model, broken)
    # Whoever keeps the error keeps its frames, and what they hold.
    held = [entry.frame.f_locals.get('detector') for entry in refused.traceback]
    (detector,) = (each for each in held if isinstance(each, PersonDetector))
    with pytest.raises(EngineError, match='closed'):
        detector(two_people)
