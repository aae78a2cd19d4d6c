# SPDX-License-Identifier: Apache-2.0
"""Skeletons against COCO's and MPII's published definitions, and conversions between them."""

import numpy as np
import pytest

from rmpe_ros.core.skeletons import (
    BODY19,
    COCO17,
    MPII16,
    SKELETONS,
    Skeleton,
    conversion,
    get_skeleton,
)

# cocodataset/cocoapi: annotation files' category, and Params.setKpParams.
COCO_KEYPOINTS = (
    'nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow '
    'right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle '
    'right_ankle'
).split()
COCO_SIGMAS = [
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
]
# MPII Human Pose annotation README: joint ids 0-15.
MPII_KEYPOINTS = (
    'right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck '
    'head_top right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist'
).split()


def test_coco_order_and_sigmas() -> None:
    assert list(COCO17.keypoints) == COCO_KEYPOINTS
    assert list(COCO17.sigmas) == COCO_SIGMAS


def test_body19_is_coco_then_neck_and_head_top() -> None:
    assert list(BODY19.keypoints) == [*COCO_KEYPOINTS, 'neck', 'head_top']
    assert list(BODY19.sigmas) == [*COCO_SIGMAS, 0.079, 0.079]


def test_mpii_order() -> None:
    assert list(MPII16.keypoints) == MPII_KEYPOINTS


@pytest.mark.parametrize('skeleton', SKELETONS.values(), ids=lambda each: each.name)
def test_flip_pairs_are_left_then_right_of_the_same_joint(skeleton: Skeleton) -> None:
    names = skeleton.keypoints
    pairs = {(names[left], names[right]) for left, right in skeleton.flip_pairs}
    lefts = [name for name in names if name.startswith('left_')]
    assert pairs == {(name, 'right_' + name.removeprefix('left_')) for name in lefts}
    assert len(lefts) * 2 == sum(name.startswith(('left_', 'right_')) for name in names)


@pytest.mark.parametrize('skeleton', SKELETONS.values(), ids=lambda each: each.name)
def test_flip_permutation_swaps_sides_and_undoes_itself(skeleton: Skeleton) -> None:
    swapped = [skeleton.keypoints[index] for index in skeleton.flip_permutation]
    expected = [
        name.replace('left_', '#').replace('right_', 'left_').replace('#', 'right_')
        for name in skeleton.keypoints
    ]
    assert swapped == expected
    identity = skeleton.flip_permutation[skeleton.flip_permutation]
    assert identity.tolist() == list(range(skeleton.num_keypoints))


@pytest.mark.parametrize('skeleton', SKELETONS.values(), ids=lambda each: each.name)
def test_limbs_stay_on_their_side(skeleton: Skeleton) -> None:
    names = skeleton.keypoints
    across = {
        frozenset((names[a], names[b]))
        for a, b in skeleton.edges
        if {names[a][:5], names[b][:5]} == {'left_', 'right'}
    }
    assert across <= {
        frozenset(('left_shoulder', 'right_shoulder')),
        frozenset(('left_hip', 'right_hip')),
    }
    joints = {index for edge in skeleton.edges for index in edge}
    assert joints == set(range(skeleton.num_keypoints)), 'every keypoint is in some limb'


def test_json_round_trip() -> None:
    assert Skeleton.from_json(BODY19.to_json()) == BODY19


@pytest.mark.parametrize('text', ['{}', '[1]', 'no json', '{"name": "x", "keypoints": 3}'])
def test_bad_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='a skeleton is a JSON object with name, keypoints'):
        Skeleton.from_json(text)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'keypoints': ('a', 'a', 'c')}, 'unique'),
        ({'keypoints': ()}, 'unique'),
        ({'sigmas': (0.1, 0.1)}, '2 sigmas for 3'),
        ({'sigmas': (0.1, 0.1, 0.0)}, 'positive sigma'),
        ({'edges': ((0, 3),)}, 'edges holds'),
        ({'edges': ((1, 1),)}, 'edges holds'),
        ({'flip_pairs': ((0, -1),)}, 'flip_pairs holds'),
        ({'flip_pairs': ((0, 1), (1, 2))}, 'two flip_pairs'),
    ],
)
def test_inconsistent_skeletons_are_refused(changes: dict, message: str) -> None:
    fields: dict = {
        'name': 'three',
        'keypoints': ('a', 'b', 'c'),
        'edges': ((0, 1),),
        'flip_pairs': ((0, 1),),
        'sigmas': (0.1, 0.1, 0.1),
    }
    Skeleton(**fields)
    with pytest.raises(ValueError, match=message):
        Skeleton(**{**fields, **changes})


def test_names_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match='body19, coco17, mpii16'):
        get_skeleton('coco18')
    with pytest.raises(ValueError, match="'tail'"):
        BODY19.index('tail')
    assert BODY19.index('neck') == 17


def points_named(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """One pose whose coordinates and scores are all different."""
    index = np.arange(skeleton.num_keypoints)
    points = np.stack([index * 10, index * 7 + 3], axis=-1)[None].astype(float)
    return points, (index[None] + 1) / 100


def test_body19_to_coco_drops_the_last_two() -> None:
    points, scores = points_named(BODY19)
    target, target_scores = conversion(BODY19, COCO17)(points, scores)
    np.testing.assert_array_equal(target, points[:, :17])
    np.testing.assert_array_equal(target_scores, scores[:, :17])


def test_body19_to_mpii_by_names() -> None:
    points, scores = points_named(BODY19)
    target, target_scores = conversion(BODY19, MPII16)(points, scores)
    for name in ('left_wrist', 'right_ankle', 'head_top'):
        np.testing.assert_array_equal(target[0, MPII16.index(name)], points[0, BODY19.index(name)])
    for name in ('thorax', 'upper_neck'):
        np.testing.assert_array_equal(target[0, MPII16.index(name)], points[0, 17])
    hips = [BODY19.index('left_hip'), BODY19.index('right_hip')]
    np.testing.assert_array_equal(target[0, MPII16.index('pelvis')], points[0, hips].mean(axis=0))
    assert target_scores[0, MPII16.index('pelvis')] == scores[0, hips].min()


def test_coco_to_body19_makes_a_neck_but_no_head_top() -> None:
    points, scores = points_named(COCO17)
    target, target_scores = conversion(COCO17, BODY19)(points, scores)
    np.testing.assert_array_equal(target[0, 17], points[0, [5, 6]].mean(axis=0))
    assert target_scores[0, 17] == scores[0, [5, 6]].min()
    assert target_scores[0, 18] == 0
    assert target[0, 18].tolist() == [0, 0]


def test_mpii_round_trip_through_body19() -> None:
    points, scores = points_named(BODY19)
    there = conversion(BODY19, MPII16)(points, scores)
    back, back_scores = conversion(MPII16, BODY19)(*there)
    common = [BODY19.index(name) for name in (*COCO_KEYPOINTS[5:], 'neck', 'head_top')]
    np.testing.assert_allclose(back[:, common], points[:, common])
    assert (back_scores[:, :5] == 0).all(), 'MPII has no face'


def test_conversion_checks_shapes_and_takes_nobody() -> None:
    to_coco = conversion(BODY19, COCO17)
    points, scores = to_coco(np.zeros((0, 19, 2)), np.zeros((0, 19)))
    assert points.shape == (0, 17, 2)
    assert scores.shape == (0, 17)
    with pytest.raises(ValueError, match=r'\(N, 19, 2\)'):
        to_coco(np.zeros((1, 17, 2)), np.zeros((1, 17)))
