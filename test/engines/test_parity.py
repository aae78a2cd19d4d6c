# SPDX-License-Identifier: Apache-2.0
"""The comparison that decides whether a new engine may be used."""

from pathlib import Path

import numpy as np
import pytest

from rmpe_ros.engines.example_pictures import example_crops, example_scene
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.parity import compare_engines, compare_outputs, example_inputs


@pytest.fixture
def pose_outputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    keypoints = np.dstack([random.uniform(0, 160, (16, 19, 2)), random.uniform(0, 1, (16, 19))])
    theta = np.tile(np.eye(2, 3), (16, 1, 1))
    return {'keypoints': keypoints.astype(np.float32), 'theta': theta.astype(np.float32)}


def shifted(outputs: dict[str, np.ndarray], pixels: float, joints: int) -> dict[str, np.ndarray]:
    """A copy with the first so many of the 304 joints moved."""
    keypoints = outputs['keypoints'].copy()
    keypoints.reshape(-1, 3)[:joints, 0] += pixels
    return {**outputs, 'keypoints': keypoints}


@pytest.mark.parametrize(
    ('precision', 'pixels', 'joints', 'status'),
    [
        ('fp32', 0.0, 304, 'passed'),
        ('fp32', 0.04, 304, 'passed'),
        ('fp32', 0.06, 304, 'refused'),
        ('fp32', 3.0, 6, 'passed'),
        ('fp32', 3.0, 7, 'refused'),
        ('fp16', 0.45, 304, 'passed'),
        ('fp16', 0.6, 304, 'refused'),
        ('fp16', 3.0, 30, 'passed'),
        ('fp16', 3.0, 31, 'refused'),
    ],
)
def test_limits(
    pose_outputs: dict, precision: str, pixels: float, joints: int, status: str
) -> None:
    parity = compare_outputs(
        'pose', pose_outputs, shifted(pose_outputs, pixels, joints), precision, 224
    )
    assert parity.status == status, parity.detail
    assert parity.largest_jump_px == pytest.approx(pixels, abs=1e-4)
    assert parity.points == 304
    if status == 'refused':
        assert f'the worst is {pixels:.2f} px off' in parity.detail


def test_nan_is_refused(pose_outputs: dict) -> None:
    broken = shifted(pose_outputs, np.nan, 1)
    parity = compare_outputs('pose', pose_outputs, broken, 'fp16', 224)
    assert (parity.status, 'no numbers' in parity.detail) == ('refused', True)


def test_theta_counts_in_pixels(pose_outputs: dict) -> None:
    theta = pose_outputs['theta'].copy()
    theta[0, 0, 2] += 0.01  # of half the crop's width
    wrong = {**pose_outputs, 'theta': theta}
    parity = compare_outputs('pose', pose_outputs, wrong, 'fp16', 224)
    assert parity.status == 'refused'
    assert 'theta moves the crop by 2.240 px' in parity.detail


def test_missing_outputs_are_refused(pose_outputs: dict) -> None:
    found = compare_outputs('pose', pose_outputs, {'theta': pose_outputs['theta']}, 'fp32', 224)
    assert (found.status, 'keypoints' in found.detail) == ('refused', True)


def test_boxes_may_change_places(detector_model: Path) -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 300, (1, 200, 4)).astype(np.float32)
    scores = np.sort(random.uniform(0, 1, (1, 200)).astype(np.float32))[:, ::-1]
    order = random.permutation(200)
    same = {'boxes': boxes[:, order] + 0.02, 'scores': scores[:, order]}
    reference = {'boxes': boxes, 'scores': scores}
    assert compare_outputs('detector', reference, same, 'fp32', 320).status == 'passed'
    moved = {'boxes': boxes * 1.02 + 1, 'scores': scores}
    assert compare_outputs('detector', reference, moved, 'fp16', 320).status == 'refused'


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_an_engine_equals_itself(pose_model: Path, detector_model: Path, precision: str) -> None:
    for model, points in ((pose_model, 16 * 19), (detector_model, 8)):
        engine = OnnxRuntimeEngine(model)
        parity = compare_engines(engine, engine, precision)
        assert (parity.status, parity.largest_px, parity.points) == ('passed', 0, points)


def test_models_of_no_known_task(pose_model: Path) -> None:
    engine = OnnxRuntimeEngine(pose_model)
    engine.metadata['rmpe.task'] = 'depth'
    assert example_inputs(engine.inputs, engine.metadata) is None
    assert compare_engines(engine, engine, 'fp32').status == 'not run'


def test_pictures_are_the_same_every_time() -> None:
    crops = example_crops(3, (96, 64))
    assert crops.shape == (3, 96, 64, 3) and crops.dtype == np.uint8
    np.testing.assert_array_equal(crops, example_crops(3, (96, 64)))
    assert not np.array_equal(crops[0], crops[1])
    assert example_scene(2, (96, 128)).shape == (96, 128, 3)


def test_a_crop_shows_the_person() -> None:
    """Lost pixels, a wrong order of colours or a box beside her would leave networks to noise."""
    found = np.asarray(example_crops(4, (256, 192))).reshape(4, -1, 3).astype(int)
    orange = (found[..., 0] > 180) & (found[..., 1] < 120) & (found[..., 2] < 100)
    assert (orange.mean(axis=1) > 0.1).all(), "the astronaut's suit fills a part of each crop"
