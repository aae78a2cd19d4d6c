# SPDX-License-Identifier: Apache-2.0
"""MPII's multi-person mAP: worked scenes, and against the protocol written out step by step."""

import numpy as np
import pytest

from rmpe_ros.core.skeletons import MPII16
from rmpe_ros.evaluation.labels import LabelledImage, Labels, boxes_around
from rmpe_ros.evaluation.labels.mpii import JOINT_GROUPS, average_precision, multi_person_ap

HEAD = 20.0


def make_labels(people: list[tuple[int, np.ndarray, np.ndarray]], images: int) -> Labels:
    keypoints = np.array([p[1] for p in people], float).reshape(-1, 16, 2)
    labelled = np.array([p[2] for p in people], bool).reshape(-1, 16)
    return Labels(
        'mpii',
        MPII16,
        tuple(LabelledImage(i, f'{i}.jpg', 'mpii') for i in range(images)),
        np.array([p[0] for p in people], np.int64),
        boxes_around(keypoints, labelled),
        keypoints,
        labelled,
        np.ones(len(people)),
        np.zeros(len(people), bool),
        np.full(len(people), HEAD),
    )


BODY = np.stack([np.arange(16) * 9.0, np.arange(16) * 30.0], axis=1)
ALL = np.ones(16, bool)


def test_perfect_people_and_a_duplicate() -> None:
    labels = make_labels([(0, BODY, ALL), (0, BODY + 500, ALL)], 1)
    both = np.stack([BODY, BODY + 500])
    result = multi_person_ap(labels, {0: both}, {0: np.ones((2, 16))})
    assert result['mAP'] == pytest.approx(1) and result['wrist'] == pytest.approx(1)
    # A third, more confident pose of the first person: one of the two is wrong in every joint.
    three = np.concatenate([both, BODY[None] + 1])
    scores = np.repeat([[0.8], [0.7], [0.9]], 16, axis=1)
    result = multi_person_ap(labels, {0: three}, {0: scores})
    # Order: the duplicate (wrong), then right, right: precision 2/3 throughout.
    assert result['mAP'] == pytest.approx(2 / 3)


def test_half_a_head_is_the_limit() -> None:
    labels = make_labels([(0, BODY, ALL)], 1)
    shifted = BODY.copy()
    shifted[MPII16.index('left_wrist'), 0] += HEAD / 2
    shifted[MPII16.index('right_wrist'), 0] += HEAD / 2 + 0.01
    result = multi_person_ap(labels, {0: shifted[None]}, {0: np.ones((1, 16))})
    assert (result['left_wrist'], result['right_wrist']) == (1, 0)
    assert result['wrist'] == pytest.approx(0.5)
    assert result['mAP'] == pytest.approx(13 / 14)


def test_average_precision() -> None:
    right = np.array([True, False, True])
    # Recall 1/2 at precision 1, recall 1 at precision 2/3.
    assert average_precision(np.array([0.9, 0.8, 0.7]), right, 2) == pytest.approx(1 / 2 + 1 / 3)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0
    assert np.isnan(average_precision(np.ones(1), np.ones(1, bool), 0))


def literal_protocol(labels: Labels, keypoints: dict, scores: dict) -> np.ndarray:
    """AP of each joint, by loops, as the published evaluation goes about it."""
    pairs: list[list[tuple[float, bool]]] = [[] for _ in range(16)]
    positives = np.zeros(16)
    for image in sorted(keypoints):
        people = [p for p in range(len(labels.image_ids)) if labels.image_ids[p] == image]
        hits = {}
        for pose in range(len(keypoints[image])):
            for person in people:
                for joint in range(16):
                    distance = np.hypot(
                        *(keypoints[image][pose][joint] - labels.keypoints[person][joint])
                    )
                    near = distance / labels.head_sizes[person] <= 0.5
                    hits[pose, person, joint] = bool(near and labels.labelled[person][joint])
        pck = {}
        for pose in range(len(keypoints[image])):
            shares = [
                sum(hits[pose, person, j] for j in range(16)) / labels.labelled[person].sum()
                for person in people
            ]
            if people:
                best = int(np.argmax(shares))
                pck[pose] = (people[best], shares[best])
        winner = {}
        for person in people:
            rivals = [
                (share, -pose)
                for pose, (chosen, share) in pck.items()
                if chosen == person and share > 0
            ]
            if rivals:
                winner[-max(rivals)[1]] = person
        for pose in range(len(keypoints[image])):
            for joint in range(16):
                right = pose in winner and hits[pose, winner[pose], joint]
                pairs[joint].append((scores[image][pose][joint], right))
        for person in people:
            positives += labels.labelled[person]
    result = []
    for joint in range(16):
        ranked = sorted(pairs[joint], key=lambda pair: -pair[0])
        area, found, points = 0.0, 0, [(0.0, 1.0)]
        for rank, (_, right) in enumerate(ranked, 1):
            found += right
            points.append((found / positives[joint], found / rank))
        for n in range(1, len(points)):
            best = max(precision for _, precision in points[n:])
            area += (points[n][0] - points[n - 1][0]) * best
        result.append(area)
    return np.array(result)


def test_against_the_protocol_written_out() -> None:
    rng = np.random.default_rng(3)
    people, keypoints, scores = [], {}, {}
    for image in range(25):
        here = []
        for _ in range(rng.integers(0, 4)):
            labelled = rng.random(16) < 0.8
            labelled[0] = True
            here.append(BODY + rng.uniform(0, 60, 2))
            people.append((image, here[-1], labelled))
        poses = [
            body + rng.normal(0, rng.choice([2.0, 8.0, 20.0]), (16, 2))
            for body in here
            for _ in range(rng.integers(0, 3))
        ] + [BODY + rng.uniform(0, 400, 2) for _ in range(rng.integers(0, 2))]
        keypoints[image] = np.array(poses).reshape(-1, 16, 2)
        scores[image] = rng.random((len(poses), 16))
    labels = make_labels(people, 25)
    expected = literal_protocol(labels, keypoints, scores)
    result = multi_person_ap(labels, keypoints, scores)
    np.testing.assert_allclose([result[name] for name in MPII16.keypoints], expected, atol=1e-12)
    assert 0.1 < result['mAP'] < 0.9
    counted = [MPII16.index(name) for names in JOINT_GROUPS.values() for name in names]
    assert result['mAP'] == pytest.approx(expected[counted].mean())
