# SPDX-License-Identifier: Apache-2.0
"""Parametric pose NMS: worked values, a slow literal reference, and properties that must hold."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rmpe_ros.core.pose_nms import (
    RELEASED_COCO,
    RELEASED_MPII,
    PoseNmsParameters,
    keep_distinct_poses,
    merge_poses,
    oks_nms,
    parametric_pose_nms,
    pose_similarity,
    suppress_poses,
)
from rmpe_ros.core.skeletons import BODY19

Scene = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
PAPER = PoseNmsParameters()
VARIANTS = pytest.mark.parametrize(
    'params', [PAPER, PAPER.with_variant('released')], ids=lambda params: params.variant
)


def literal_similarity(i: int, j: int, scene: Scene, params: PoseNmsParameters) -> float:
    """Eqs. 8-10 as they stand: d of pose j to the reference i, one joint after the other."""
    keypoints, scores, boxes, _ = scene
    width, height = (float(boxes[i, 2] - boxes[i, 0]), float(boxes[i, 3] - boxes[i, 1]))
    unit = 0.1 * max(width, height)
    k_sim = h_sim = 0.0
    for n in range(keypoints.shape[1]):
        dx, dy = (float(each) for each in keypoints[j, n] - keypoints[i, n])
        distance = math.hypot(dx, dy) / unit
        if params.variant == 'paper':
            near = abs(dx) <= width / 10 / 2 and abs(dy) <= height / 10 / 2
            h_sim += math.exp(-(distance**2) / params.sigma2)
        else:
            near = distance <= 1
            h_sim += math.exp(-distance / params.sigma2)
        if near:
            k_sim += math.tanh(scores[i, n] / params.sigma1) * math.tanh(
                scores[j, n] / params.sigma1
            )
    return k_sim + params.lambda_ * h_sim


def literal_nms(scene: Scene, params: PoseNmsParameters) -> list[int]:
    """The scheme of sec. 3.2 in its own words, with the sign of Eq. 7 the right way round."""
    eta = params.eta * scene[0].shape[1] / params.num_keypoints
    remaining = sorted(range(len(scene[3])), key=lambda index: -scene[3][index])
    kept = []
    while remaining:
        reference = remaining.pop(0)
        kept.append(reference)
        remaining = [
            other
            for other in remaining
            if not literal_similarity(reference, other, scene, params) > eta
        ]
    return kept


def literal_merge(
    scene: Scene, kept: np.ndarray, representative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weighted means that `merge_poses` describes, one joint after the other."""
    keypoints, scores, boxes, _ = scene
    merged, merged_scores = keypoints[kept].copy(), scores[kept].copy()
    for row, reference in enumerate(kept):
        members = [i for i in range(len(boxes)) if representative[i] == reference]
        radius = max(boxes[reference, 2:] - boxes[reference, :2]) / 20
        for n in range(keypoints.shape[1]):
            weights = []
            for i in members:
                distance = math.dist(keypoints[i, n], keypoints[reference, n])
                weights.append(scores[i, n] * math.exp(-((distance / radius) ** 2)))
            if sum(weights) > 0:
                merged[row, n] = np.average(keypoints[members, n], axis=0, weights=weights)
                merged_scores[row, n] = np.average(scores[members, n], weights=weights)
    return merged, merged_scores


def random_scene(random: np.random.Generator, joints: int = 19) -> Scene:
    """People in a picture with several noisy poses each, some of them overlapping."""
    people, copies = random.integers(1, 6), random.integers(1, 5)
    size = random.uniform(20, 400, (people, 1, 1)) * random.uniform(0.3, 1, (people, 1, 2))
    person = random.uniform(0, 640, (people, 1, 2)) + size * random.uniform(-0.5, 0.5, (joints, 2))
    noise = size * random.normal(0, random.uniform(0.005, 0.15), (copies, people, joints, 2))
    keypoints = (person + noise).reshape(-1, joints, 2)
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    scores = random.uniform(0, 1, keypoints.shape[:2])
    return keypoints, scores, boxes, scores.mean(axis=1)


def shifted_pose(params: PoseNmsParameters, confidence: float, shift: float) -> float:
    """d of a pose whose joints are all moved along x by `shift` tenths of a square box."""
    joints = params.num_keypoints
    keypoints = np.random.default_rng(0).uniform(100, 300, (1, joints, 2)).repeat(2, axis=0)
    keypoints[1, :, 0] += shift * 20
    scores = np.full((2, joints), confidence)
    boxes = np.array([[100.0, 100, 300, 300]]).repeat(2, axis=0)
    return float(pose_similarity(0, keypoints, scores, boxes, params)[1])


@pytest.mark.parametrize(
    ('params', 'confidence', 'expected'),
    [
        # n * (tanh(c / sigma1)^2 [r <= 1] + lambda * exp(-r / sigma2))
        (RELEASED_MPII, 1.0, [49.28, 42.17, 36.58, 20.58, 12.72, 3.01]),
        (RELEASED_COCO, 1.0, [38.76, 33.79, 29.68, 19.82, 13.59, 4.38]),
        (RELEASED_COCO, 0.5, [32.53, 27.56, 23.45, 19.82, 13.59, 4.38]),
        (RELEASED_COCO, 0.3, [30.34, 25.37, 21.26, 19.82, 13.59, 4.38]),
        # The paper's: K within half a tenth only, exp(-r^2 / sigma2); the same at 0 and beyond 1.
        (RELEASED_MPII.with_variant('paper'), 1.0, [49.28, 45.51, 20.58, 20.58, 4.86, 0.0]),
        (RELEASED_COCO.with_variant('paper'), 1.0, [38.76, 36.16, 19.82, 19.82, 6.39, 0.0]),
    ],
)
def test_worked_values(params: PoseNmsParameters, confidence: float, expected: list[float]) -> None:
    shifts = (0, 0.4999, 0.9999, 1.0001, 2, 5)
    values = [shifted_pose(params, confidence, shift) for shift in shifts]
    np.testing.assert_allclose(values, expected, atol=0.01)


def test_k_region_has_the_shape_of_the_box() -> None:
    """Half a tenth of the width in x and of the height in y; the released circle has the longer."""
    boxes = np.array([[0.0, 0, 100, 400]]).repeat(2, axis=0)
    strict = replace(PAPER, lambda_=0, sigma1=0.01, num_keypoints=1)
    for variant, inside, outside in (
        ('paper', [(4.9, 0), (0, 19.9), (-4.9, -19.9)], [(5.1, 0), (0, 20.1)]),
        ('released', [(39.9, 0), (0, -39.9), (28, 28)], [(40.1, 0), (28.5, 28.5)]),
    ):
        for offsets, expected in ((inside, 1), (outside, 0)):
            for offset in offsets:
                keypoints = np.array([[[50, 50]], [np.add([50, 50], offset)]], float)
                params = replace(strict, variant=variant)
                d = pose_similarity(0, keypoints, np.ones((2, 1)), boxes, params)[1]
                assert d == pytest.approx(expected), (variant, offset)


def two_far_people_and_a_duplicate() -> Scene:
    """0 and 2 are the same person (0 surer), 1 is someone else far away."""
    random = np.random.default_rng(0)
    person = random.uniform(0, 100, (19, 2))
    keypoints = person + np.array([[[0, 0]], [[400, 0]], [[1, 1]]])
    boxes = np.array([[0, 0, 100, 100], [400, 0, 500, 100], [1, 1, 101, 101]], float)
    scores = np.array([0.9, 0.7, 0.8])
    return keypoints, np.repeat(scores[:, None], 19, axis=1), boxes, scores


@VARIANTS
def test_the_duplicate_goes_and_the_far_person_stays(params: PoseNmsParameters) -> None:
    """Eq. 7 as printed would keep the duplicate and delete the other person."""
    assert parametric_pose_nms(*two_far_people_and_a_duplicate(), params).tolist() == [0, 1]


@VARIANTS
def test_equals_the_literal_reference(params: PoseNmsParameters) -> None:
    random = np.random.default_rng(7)
    removed = kept = 0
    for _ in range(300):
        scene = random_scene(random)
        result = parametric_pose_nms(*scene, params).tolist()
        assert result == literal_nms(scene, params)
        kept += len(result)
        removed += len(scene[3]) - len(result)
    assert min(kept, removed) > 300, 'the scenes must have something to decide'


@VARIANTS
def test_similarity_equals_the_literal_reference(params: PoseNmsParameters) -> None:
    random = np.random.default_rng(8)
    for _ in range(20):
        scene = random_scene(random)
        count = len(scene[3])
        for i in range(count):
            expected = [literal_similarity(i, j, scene, params) for j in range(count)]
            actual = pose_similarity(i, *scene[:3], params)
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large scenes are compared in blocks of references."""
    random = np.random.default_rng(3)
    scenes = [random_scene(random) for _ in range(50)]
    whole = [suppress_poses(*scene, PAPER) for scene in scenes]
    monkeypatch.setattr('rmpe_ros.core.pose_nms._BLOCK_ELEMENTS', 1)
    for scene, (kept, representative) in zip(scenes, whole, strict=True):
        one_by_one = suppress_poses(*scene, PAPER)
        np.testing.assert_array_equal(one_by_one[0], kept)
        np.testing.assert_array_equal(one_by_one[1], representative)


@VARIANTS
def test_order_of_the_poses_does_not_matter(params: PoseNmsParameters) -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        scene = random_scene(random)
        shuffle = random.permutation(len(scene[3]))
        shuffled = [array[shuffle] for array in scene]
        result = shuffle[parametric_pose_nms(*shuffled, params)]
        np.testing.assert_array_equal(result, parametric_pose_nms(*scene, params))


@VARIANTS
def test_a_second_time_changes_nothing(params: PoseNmsParameters) -> None:
    random = np.random.default_rng(2)
    for _ in range(100):
        scene = random_scene(random)
        kept = parametric_pose_nms(*scene, params)
        again = parametric_pose_nms(*(array[kept] for array in scene), params)
        assert again.tolist() == list(range(len(kept)))


@VARIANTS
@pytest.mark.parametrize('scale', [0.125, 8.0])
def test_size_and_place_of_the_image_do_not_matter(params: PoseNmsParameters, scale: float) -> None:
    random = np.random.default_rng(4)
    for _ in range(100):
        keypoints, keypoint_scores, boxes, scores = random_scene(random)
        moved = keypoints * scale + [300, -200], boxes * scale + [300, -200, 300, -200]
        kept = parametric_pose_nms(moved[0], keypoint_scores, moved[1], scores, params)
        np.testing.assert_array_equal(
            kept, parametric_pose_nms(keypoints, keypoint_scores, boxes, scores, params)
        )


def test_every_pose_knows_who_represents_it() -> None:
    random = np.random.default_rng(5)
    scene = random_scene(random)
    kept, representative = suppress_poses(*scene, PAPER)
    assert set(representative) == set(kept)
    np.testing.assert_array_equal(representative[kept], kept)
    for pose, reference in enumerate(representative):
        if pose != reference:
            assert pose_similarity(reference, *scene[:3], PAPER)[pose] > PAPER.eta
            assert scene[3][reference] >= scene[3][pose]


def test_unsure_joints_count_little() -> None:
    assert math.tanh(0.1 / PAPER.sigma1) ** 2 == pytest.approx(0.10, abs=0.01)
    assert math.tanh(0.3 / PAPER.sigma1) ** 2 == pytest.approx(0.58, abs=0.01)
    assert math.tanh(0.6 / PAPER.sigma1) ** 2 == pytest.approx(0.93, abs=0.01)


def test_what_the_defaults_call_the_same_person() -> None:
    pose = np.random.default_rng(0).uniform(0, 1, (19, 2)) * [60, 160]
    box = np.array([0, 0, 60, 160], float)

    def kept(other: np.ndarray) -> int:
        scores = np.full((2, 19), 0.6)
        arrays = np.stack([pose, other]), scores, np.stack([box, box]), np.array([0.9, 0.8])
        return len(parametric_pose_nms(*arrays, PAPER))

    assert kept(pose + np.array([0.047 * 160, 0])) == 1
    assert kept(pose + np.array([0.05 * 160, 0])) == 2
    far = pose + 1e4
    assert kept(np.concatenate([pose[:12], far[12:]])) == 1
    assert kept(np.concatenate([pose[:11], far[11:]])) == 2


def test_eta_grows_with_the_joints() -> None:
    """The same decision for 19 joints and for the same pose with only 10 of them."""
    assert PAPER.eta_for(19) == PAPER.eta
    assert PAPER.eta_for(38) == 2 * PAPER.eta
    keypoints, keypoint_scores, boxes, scores = two_far_people_and_a_duplicate()
    few = keypoints[:, :10], keypoint_scores[:, :10], boxes, scores
    assert parametric_pose_nms(*few, PAPER).tolist() == [0, 1]


@VARIANTS
@pytest.mark.parametrize('count', [0, 1, 500])
def test_any_number_of_poses(params: PoseNmsParameters, count: int) -> None:
    random = np.random.default_rng(6)
    people = max(1, count // 5)
    person = random.uniform(0, 1000, (people, 1, 2)) + random.uniform(-50, 50, (people, 19, 2))
    keypoints = np.resize(person, (count, 19, 2)) + random.normal(0, 0.5, (count, 19, 2))
    low, high = keypoints.min(axis=1), keypoints.max(axis=1)
    scores = random.uniform(0.5, 1, (count, 19))
    scene = keypoints, scores, np.concatenate([low, high], axis=1), scores.mean(axis=1)
    assert len(parametric_pose_nms(*scene, params)) == min(people, count)


@VARIANTS
def test_zero_scores_nan_and_empty_boxes(params: PoseNmsParameters) -> None:
    keypoints, keypoint_scores, boxes, scores = two_far_people_and_a_duplicate()
    with np.errstate(all='raise'):
        # All scores zero: H_sim alone decides, 19 * 1.7 > eta, and the reference still leaves.
        zero = keypoints, keypoint_scores * 0, boxes, scores * 0
        assert parametric_pose_nms(*zero, params).tolist() == [0, 1]
        # A person without any finite joint resembles nobody, not even itself.
        lost = keypoints.copy()
        lost[1] = np.nan
        lost[2, 3:5] = np.inf
        assert parametric_pose_nms(lost, keypoint_scores, boxes, scores, params).tolist() == [0, 1]
        twins = np.full((2, 19, 2), np.nan), keypoint_scores[:2], boxes[:2], scores[:2]
        assert parametric_pose_nms(*twins, params).tolist() == [0, 1]
        # Boxes without size: only identical poses are the same.
        flat = np.stack([keypoints[0], keypoints[1], keypoints[0]])
        nothing = np.zeros((3, 4))
        assert parametric_pose_nms(flat, keypoint_scores, nothing, scores, params).tolist() == [
            0,
            1,
        ]
        broken = np.full((3, 4), np.nan)
        assert parametric_pose_nms(flat, keypoint_scores, broken, scores, params).tolist() == [0, 1]
        # NaN confidence comes last; NaN keypoint scores count as zero.
        unknown = np.array([np.nan, 0.5, 0.4])
        kept = parametric_pose_nms(keypoints, keypoint_scores * np.nan, boxes, unknown, params)
        assert kept.tolist() == [1, 2]


def test_shapes_are_checked() -> None:
    keypoints, keypoint_scores, boxes, scores = two_far_people_and_a_duplicate()
    with pytest.raises(ValueError, match=r'boxes \(N, 4\)'):
        parametric_pose_nms(keypoints, keypoint_scores, boxes[:2], scores, PAPER)


@pytest.mark.parametrize(
    'changes', [{'sigma1': 0}, {'sigma2': -1}, {'eta': math.nan}, {'lambda_': -1}, {'variant': 'x'}]
)
def test_parameters_out_of_range(changes: dict) -> None:
    with pytest.raises(ValueError, match=r'of pose NMS'):
        PoseNmsParameters(**changes)


def test_merge_weighs_by_score_and_nearness() -> None:
    keypoints = np.zeros((2, 4, 2))
    keypoints[1, 0] = 3, 4
    keypoints[1, 1] = 50, 0
    keypoints[1, 3] = np.nan
    keypoint_scores = np.array([[0.6, 0.5, 0.0, 0.7], [0.3, 0.9, 0.0, 0.9]])
    boxes = np.array([[0, 0, 100, 100.0]] * 2)
    merged, scores = merge_poses(keypoints, keypoint_scores, boxes, np.array([0]), np.array([0, 0]))
    # Joint 0 is a twentieth of the box away: weights 0.6 and 0.3 / e. Joint 1 is far away.
    second = 0.3 / math.e
    share = second / (0.6 + second)
    np.testing.assert_allclose(merged[0, :3], [[3 * share, 4 * share], [0, 0], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(merged[0, 3], 0)
    np.testing.assert_allclose(scores[0], [0.6 * (1 - share) + 0.3 * share, 0.5, 0, 0.7])


def test_merge_equals_the_literal_reference() -> None:
    random = np.random.default_rng(9)
    merged = 0
    for _ in range(30):
        scene = random_scene(random)
        kept, representative = suppress_poses(*scene, PAPER)
        found = merge_poses(*scene[:3], kept, representative)
        for actual, expected in zip(found, literal_merge(scene, kept, representative), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-9)
        merged += len(scene[3]) - len(kept)
    assert merged > 30


def test_merge_of_identical_poses_changes_nothing() -> None:
    scene = two_far_people_and_a_duplicate()
    keypoints = np.stack([scene[0][0], scene[0][1], scene[0][0]])
    keypoint_scores = np.full((3, 19), 0.5)
    kept, representative = suppress_poses(keypoints, keypoint_scores, scene[2], scene[3], PAPER)
    merged, scores = merge_poses(keypoints, keypoint_scores, scene[2], kept, representative)
    np.testing.assert_allclose(merged, keypoints[kept])
    np.testing.assert_allclose(scores, 0.5)


def test_poses_are_kept_as_they_are_or_merged_as_the_parameters_say() -> None:
    scene = random_scene(np.random.default_rng(0))
    kept, representative = suppress_poses(*scene, PAPER)
    assert 1 < len(kept) < len(scene[3])

    same, keypoints, scores = keep_distinct_poses(*scene, PAPER)
    np.testing.assert_array_equal(same, kept)
    np.testing.assert_array_equal(keypoints, scene[0][kept])
    np.testing.assert_array_equal(scores, scene[1][kept])

    same, keypoints, scores = keep_distinct_poses(*scene, replace(PAPER, merge=True))
    np.testing.assert_array_equal(same, kept)
    merged, merged_scores = merge_poses(*scene[:3], kept, representative)
    np.testing.assert_array_equal(keypoints, merged)
    np.testing.assert_array_equal(scores, merged_scores)
    assert np.abs(keypoints - scene[0][kept]).max() > 0.1


def test_oks_nms() -> None:
    keypoints, keypoint_scores, boxes, scores = two_far_people_and_a_duplicate()
    scene = keypoints, keypoint_scores, boxes, scores
    assert oks_nms(*scene, BODY19.sigmas, threshold=0.5).tolist() == [0, 1]
    # OKS by hand for a shift of (1, 1) and an area of 100 * 100.
    oks = np.mean([math.exp(-2 / (2 * (2 * sigma) ** 2 * 10_000)) for sigma in BODY19.sigmas])
    assert oks_nms(*scene, BODY19.sigmas, threshold=oks - 1e-6).tolist() == [0, 1]
    assert oks_nms(*scene, BODY19.sigmas, threshold=oks + 1e-6).tolist() == [0, 2, 1]
    nobody = [array[:0] for array in scene]
    assert len(oks_nms(*nobody, BODY19.sigmas)) == 0
    lost = keypoints * np.nan, keypoint_scores, boxes, scores
    assert oks_nms(*lost, BODY19.sigmas).tolist() == [0, 2, 1]
