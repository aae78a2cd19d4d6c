# SPDX-License-Identifier: Apache-2.0
"""PGPG: what is sampled has the distribution that was fitted, and poses find their atoms."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if find_spec('sklearn') is None:  # importing it takes a second, in every worker
    pytest.skip('needs scikit-learn', allow_module_level=True)

from rmpe_ros.cli.main import main
from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.training.datasets import LabelledPerson
from rmpe_ros.training.pgpg import (
    MIN_IOU,
    Mixture,
    ProposalGenerator,
    align_poses,
    box_offsets,
    fit_mixture,
    fit_proposals,
    load_proposals,
    save_proposals,
)

BOX = np.array([100.0, 50.0, 160.0, 210.0])


def figure(arms: float) -> np.ndarray:
    """A body of 19 joints in BOX, wrists `arms` of a torso above (-) or below (+) the shoulders."""
    where = {
        'left_shoulder': (0.4, 0), 'right_shoulder': (-0.4, 0), 'left_elbow': (0.6, arms / 2),
        'right_elbow': (-0.6, arms / 2), 'left_wrist': (0.6, arms), 'right_wrist': (-0.6, arms),
        'left_hip': (0.3, 1), 'right_hip': (-0.3, 1), 'left_knee': (0.3, 1.7),
        'right_knee': (-0.3, 1.7), 'left_ankle': (0.3, 2.4), 'right_ankle': (-0.3, 2.4),
    }  # fmt: skip
    joints = np.zeros((19, 2))
    for name, (x, y) in where.items():
        joints[BODY19.index(name)] = 130 + 45 * x, 80 + 45 * y
    return joints


KNOWN = np.array([name not in ('neck', 'head_top', 'nose') for name in BODY19.keypoints])
KNOWN[:5] = False


def people(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Half with their arms up, half with them down, each a little different."""
    rng = np.random.default_rng(0)
    up = np.arange(count) % 2 == 0
    joints = np.stack([figure(-0.9 if each else 0.9) for each in up])
    return joints + rng.normal(0, 1.5, joints.shape), up


def test_alignment_removes_place_and_size() -> None:
    joints, known = figure(0.9)[None], KNOWN[None]
    first, seen = align_poses(joints, known, BOX[None], BODY19)
    second, _ = align_poses(joints * 3 + 40, known, BOX[None] * 3, BODY19)
    np.testing.assert_allclose(first, second, atol=1e-9)
    assert seen.all()
    # From the middle of the shoulders to that of the hips is 1.
    torso = first[0, :2].mean(axis=0) - first[0, 6:8].mean(axis=0)
    assert np.linalg.norm(torso) == pytest.approx(1)
    hidden = known.copy()
    hidden[:, [11, 12]] = False
    assert not align_poses(joints, hidden, BOX[None], BODY19)[1].any()


def test_offsets_are_in_sides_of_the_true_box() -> None:
    far = np.array([500.0, 500.0, 560.0, 660.0])
    detected = np.stack([BOX + np.array([6, -16, 12, 32]), far - [3, 0, 0, 0], far + 400])
    offsets, person = box_offsets(detected, np.stack([BOX, far]))
    # The third one is nobody's.
    assert person.tolist() == [0, 1]
    np.testing.assert_allclose(offsets, [[0.1, -0.1, 0.2, 0.2], [-0.05, 0, 0, 0]])
    assert box_offsets(np.zeros((0, 4)), BOX[None])[0].shape == (0, 4)


def test_samples_have_the_mean_and_covariance_of_the_fit() -> None:
    rng = np.random.default_rng(1)
    spread = np.array([[3, 1, 0, 0], [1, 2, 0, 0], [0, 0, 2, -1], [0, 0, -1, 3]]) * 1e-3
    data = np.concatenate(
        [
            rng.multivariate_normal([-0.1, 0.05, 0.1, 0], spread, 1500),
            rng.multivariate_normal([0.15, 0, -0.1, -0.2], spread / 2, 500),
        ]
    )
    mixture = fit_mixture(data, 4)
    np.testing.assert_allclose(mixture.mean, data.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(mixture.covariance, np.cov(data.T), atol=1e-4)
    # One Gaussian would not do: BIC sees the two heaps.
    assert len(mixture.weights) == 2
    drawn = np.stack([mixture.sample(rng) for _ in range(20_000)])
    np.testing.assert_allclose(drawn.mean(axis=0), mixture.mean, atol=4e-3)
    np.testing.assert_allclose(np.cov(drawn.T), mixture.covariance, atol=6e-4)


def test_each_atomic_pose_has_its_own_offsets(tmp_path: Path) -> None:
    joints, up = people(400)
    known, boxes = KNOWN[None].repeat(400, axis=0), BOX[None].repeat(400, axis=0)
    rng = np.random.default_rng(2)
    # Of people with raised arms the detector cuts off the arms: y1 is 20 % too low.
    person = np.arange(400).repeat(3)
    mean = np.where(up[person, None], [0.0, 0.2, 0, 0], [0.05, 0, 0.05, 0])
    offsets = mean + rng.normal(0, 0.03, (1200, 4))
    fitted = fit_proposals(joints, known, boxes, BODY19, offsets, person, atoms=2)
    save_proposals(tmp_path / 'pgpg.json', fitted, {'detector': 'test'})
    generator = load_proposals(tmp_path / 'pgpg.json')
    atom = generator.atom_of(joints, known, boxes, BODY19)
    assert len(set(atom[up])) == len(set(atom[~up])) == 1 and atom[0] != atom[1]
    for index in (0, 1):
        drawn = []
        body = LabelledPerson(Path(), BOX, joints[index], KNOWN.astype(np.float32), 'test')
        for _ in range(3000):
            box = generator.propose(body, rng)
            assert box_iou(box[None], BOX[None])[0, 0] >= MIN_IOU
            drawn.append((box - BOX) / np.tile(BOX[2:] - BOX[:2], 2))
        mine = offsets[up[person] == up[index]]
        np.testing.assert_allclose(np.mean(drawn, axis=0), mine.mean(axis=0), atol=4e-3)
        np.testing.assert_allclose(np.cov(np.transpose(drawn)), np.cov(mine.T), atol=2e-4)
    # Without a torso nobody knows the atom: everybody's mixture.
    hidden = np.zeros_like(known)
    assert (generator.atom_of(joints, hidden, boxes, BODY19) == 2).all()


def test_boxes_that_miss_the_person_are_not_proposed() -> None:
    wild = Mixture(np.ones(1), np.array([[3.0, 3, 3, 3]]), 1e-4 * np.eye(4)[None])
    generator = ProposalGenerator(np.zeros((0, 12, 2)), (wild,))
    np.testing.assert_array_equal(generator.sample(BOX, 0, np.random.default_rng(0)), BOX)


def test_too_little_to_fit() -> None:
    joints, _ = people(10)
    known, boxes = KNOWN[None].repeat(10, axis=0), BOX[None].repeat(10, axis=0)
    with pytest.raises(ValueError, match='found 5 boxes'):
        fit_proposals(joints, known, boxes, BODY19, np.zeros((5, 4)), np.zeros(5, int))


@pytest.mark.parametrize('content', ['{}', 'x', '{"joints": ["a"], "atoms": [], "mixtures": []}'])
def test_broken_files(tmp_path: Path, content: str) -> None:
    (tmp_path / 'pgpg.json').write_text(content)
    with pytest.raises(ValueError, match=r'pgpg\.json is no file of'):
        load_proposals(tmp_path / 'pgpg.json')


def test_the_command_fits_results_of_any_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    joints, _ = people(60)
    rng = np.random.default_rng(4)
    size = [*BOX[:2].tolist(), *(BOX[2:] - BOX[:2]).tolist()]
    labels = {
        'images': [{'id': i, 'file_name': f'{i}.jpg'} for i in range(60)],
        'annotations': [
            {
                'id': i,
                'image_id': i,
                'bbox': size,
                'keypoints': np.concatenate([joints[i], 2.0 * KNOWN[:, None]], 1).ravel().tolist(),
            }
            for i in range(60)
        ],
    }
    results = [
        {'image_id': i % 60, 'bbox': (size + rng.normal(0, 4, 4)).tolist(), 'score': 0.5}
        for i in range(180)
    ]
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    (tmp_path / 'results.json').write_text(json.dumps(results))
    options = ['--annotations', str(tmp_path / 'labels.json'), '--out', str(tmp_path / 'out.json')]
    options += ['--results', str(tmp_path / 'results.json'), '--atoms', '2']
    assert main(['fit-pgpg', *options]) == 0
    assert '180 boxes of 60 people, 2 atomic poses' in capsys.readouterr().out
    assert len(load_proposals(tmp_path / 'out.json').mixtures) == 3
    assert main(['fit-pgpg', *options, '--score-threshold', '0.9']) == 2
    assert 'found 0 boxes' in capsys.readouterr().err
