# SPDX-License-Identifier: Apache-2.0
"""Tuning: its fast AP and NMS are pycocotools' and the pipeline's, and it finds what there is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('pycocotools')

from rmpe_ros.cli.main import main
from rmpe_ros.core.pose_nms import (
    DEFAULT_POSE_NMS,
    RELEASED_COCO,
    PoseNmsParameters,
    merge_poses,
    parametric_pose_nms,
    suppress_poses,
)
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.candidates import (
    Candidates,
    PoseNmsScenes,
    holds_candidates,
    load_candidates,
    save_candidates,
)
from rmpe_ros.evaluation.coco import coco_api, evaluate_keypoints
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import LabelledImage, Labels
from rmpe_ros.evaluation.tune_nms import (
    GRIDS,
    Goal,
    compare,
    cross_validate,
    edges,
    pick_cell,
    tune,
)

JOINTS = BODY19.num_keypoints


def scenes(seed: int, images: int = 40, *, complete: bool = True) -> tuple[Labels, dict]:
    """Pictures of 0 to 4 people of 60 x 150 px, each found 1 to 5 times, and false alarms."""
    rng = np.random.default_rng(seed)
    rows, found = [], {}
    for image in range(images):
        poses = []
        for _ in range(rng.integers(0, 5)):
            body = rng.uniform([0, 0], [60, 150], (JOINTS, 2)) + rng.uniform(0, 250, 2)
            labelled = rng.random(JOINTS) < rng.choice([0.9, 0.9, 0.0])
            rows.append((image, body, labelled, rng.random() < 0.1))
            best = rng.uniform(0.4, 0.9)
            for again in range(rng.integers(1, 6)):
                spread = rng.choice([1.0, 3.0, 8.0])
                poses.append((body + rng.normal(0, spread, body.shape), best * 0.9**again))
        for _ in range(rng.integers(0, 3)):
            body = rng.uniform([0, 0], [60, 150], (JOINTS, 2)) + rng.uniform(0, 250, 2)
            poses.append((body, rng.uniform(0.1, 0.7)))
        keypoints = np.array([p[0] for p in poses]).reshape(-1, JOINTS, 2)
        scores = np.clip(
            np.array([p[1] for p in poses])[:, None] + rng.normal(0, 0.1, (len(poses), JOINTS)),
            0.01,
            1,
        ).reshape(-1, JOINTS)
        boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
        found[image] = FoundPeople(keypoints, scores, boxes, scores.mean(axis=1))
    keypoints = np.array([row[1] for row in rows])
    labelled = np.array([row[2] for row in rows])
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    labels = Labels(
        'coco',
        BODY19,
        tuple(LabelledImage(i, f'{i}.jpg', 'ab'[i % 2], complete) for i in range(images)),
        np.array([row[0] for row in rows], np.int64),
        boxes,
        keypoints,
        labelled,
        np.full(len(rows), 5000.0),
        np.array([row[3] for row in rows]),
        np.full(len(rows), np.nan),
    )
    return labels, found


@pytest.mark.parametrize('seed', range(4))
def test_ap_is_that_of_pycocotools(seed: int) -> None:
    labels, found = scenes(seed)
    candidates = Candidates(labels, found)
    rng = np.random.default_rng(seed)
    truth = coco_api(labels.to_coco())
    for share in (1.0, 0.6):
        kept = rng.random(len(candidates)) < share
        results = []
        for n, image in enumerate(candidates.ids):
            chosen = candidates.starts[n] + np.flatnonzero(
                kept[candidates.starts[n] : candidates.starts[n + 1]]
            )
            part = FoundPeople(
                candidates.keypoints[chosen],
                candidates.keypoint_scores[chosen],
                candidates.boxes[chosen],
                candidates.scores[chosen],
            )
            results += part.to_coco_results(image)
        expected = evaluate_keypoints(truth, results)['AP']
        assert 0.05 < expected < 0.95
        assert candidates.average_precision(kept) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('variant', ['paper', 'released'])
def test_nms_is_that_of_the_pipeline(variant: str) -> None:
    labels, found = scenes(11)
    candidates = Candidates(labels, found)
    among = candidates.after_box_nms(0.8)
    assert 0 < among.sum() < len(candidates)
    fast = PoseNmsScenes(candidates, among, variant)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        parameters = PoseNmsParameters(
            float(rng.uniform(0.05, 1)),
            float(rng.uniform(0.3, 8)),
            float(rng.uniform(0, 4)),
            float(rng.uniform(1, 60)),
            variant=variant,  # type: ignore[arg-type]
        )
        expected = np.zeros(len(candidates), bool)
        for start, end in zip(candidates.starts[:-1], candidates.starts[1:], strict=True):
            index = start + np.flatnonzero(among[start:end])
            expected[
                index[
                    parametric_pose_nms(
                        candidates.keypoints[index],
                        candidates.keypoint_scores[index],
                        candidates.boxes[index],
                        candidates.scores[index],
                        parameters,
                    )
                ]
            ] = True
        kept, representative = fast.leave(parameters)
        np.testing.assert_array_equal(kept, expected)
        assert representative is None
        seen.add(int(expected.sum()))
    assert len(seen) > 5


@pytest.mark.parametrize('complete', [True, False])
def test_ap_is_that_of_merged_poses(complete: bool) -> None:
    labels, found = scenes(13, 30, complete=complete)
    candidates = Candidates(labels, found)
    fast = PoseNmsScenes(candidates, np.ones(len(candidates), bool))
    truth = coco_api(labels.to_coco())
    seen = set()
    # Little changes and much, and what has been asked before: only what changes is computed.
    for eta, sigma2 in ((3.0, 5.5), (4.0, 5.5), (21.0, 5.5), (12.0, 2.0), (3.0, 5.5), (6.0, 40.0)):
        parameters = PoseNmsParameters(eta=eta, sigma2=sigma2, merge=True)
        results = []
        for picture, (image, poses) in enumerate(candidates.found().items()):
            arrays = poses.keypoints, poses.keypoint_scores, poses.boxes
            kept, representative = suppress_poses(*arrays, poses.scores, parameters)
            keypoints, scores = merge_poses(*arrays, kept, representative)
            counted = candidates.counts[candidates.starts[picture] + kept]
            merged = FoundPeople(keypoints, scores, poses.boxes[kept], poses.scores[kept])
            results += merged[np.flatnonzero(counted)].to_coco_results(image)
        expected = evaluate_keypoints(truth, results)['AP']
        assert fast.average_precision(parameters) == pytest.approx(expected, abs=1e-12)
        alone = fast.average_precision(replace(parameters, merge=False))
        assert abs(alone - expected) > 1e-4
        seen.add(round(expected, 6))
    assert len(seen) > 2


@pytest.fixture
def coarse_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third value of each parameter, a ninth of the cells of each plane."""
    coarse = {name: values[::3] for name, values in GRIDS.items()}
    monkeypatch.setattr('rmpe_ros.evaluation.tune_nms.GRIDS', coarse)


@pytest.mark.usefixtures('coarse_grids')
def test_tuning_gains_on_scenes_with_duplicates() -> None:
    candidates = Candidates(*scenes(5, 30))
    everything = np.ones(len(candidates), bool)
    fast = PoseNmsScenes(candidates, everything)
    # Nothing is similar enough to be eliminated.
    useless = PoseNmsParameters(0.3, 2.65, 1.0, 80.0)
    tuning = tune(fast, useless)
    assert tuning.value_start == candidates.average_precision(everything)
    assert tuning.value > tuning.value_start + 0.02
    assert tuning.value == fast.average_precision(tuning.parameters)
    assert tuning.value >= max(plane.values.max() for plane in tuning.planes) - 1e-4
    assert cross_validate(candidates, everything, useless) > tuning.value_start
    # The same again: the search has no randomness.
    assert tune(fast, useless).parameters == tuning.parameters


@pytest.mark.usefixtures('coarse_grids')
def test_a_limit_on_duplicates_is_kept_to() -> None:
    candidates = Candidates(*scenes(5, 30))
    fast = PoseNmsScenes(candidates, np.ones(len(candidates), bool))
    start = PoseNmsParameters(0.3, 2.65, 1.0, 80.0)

    def duplicates(parameters: PoseNmsParameters) -> float:
        return candidates.duplicates(fast.leave(parameters)[0], 0.1)

    free = tune(fast, start)
    limited = tune(fast, start, Goal(most_duplicates=0.02, shown_score=0.1))
    assert duplicates(start) > duplicates(free.parameters) > 0.03
    assert duplicates(limited.parameters) <= 0.021
    assert limited.value <= free.value


def test_duplicates_are_poses_too_many() -> None:
    labels, _ = scenes(5, 4)
    person = int(np.flatnonzero(labels.counted)[0])
    image = int(labels.image_ids[person])
    alone = Labels(
        'coco', BODY19, labels.images[image : image + 1],
        *(getattr(labels, name)[person : person + 1] for name in (
            'image_ids', 'boxes', 'keypoints', 'labelled', 'areas', 'crowd', 'head_sizes')),
    )  # fmt: skip
    keypoints = np.repeat(labels.keypoints[person][None], 4, axis=0)
    keypoints[3] += 500
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    scores = np.array([0.9, 0.5, 0.05, 0.8])
    poses = FoundPeople(keypoints, np.repeat(scores[:, None], JOINTS, axis=1), boxes, scores)
    candidates = Candidates(alone, {image: poses})
    everything = np.ones(4, bool)
    # The third is below 0.1, the fourth elsewhere.
    assert candidates.duplicates(everything, 0.1) == 1
    assert candidates.duplicates(everything, 0.01) == 2
    assert candidates.duplicates(np.zeros(4, bool), 0.1) == 0


def test_in_incomplete_pictures_poses_elsewhere_do_not_count() -> None:
    labels, found = scenes(8)
    strict = Candidates(labels, found)
    lenient = Candidates(*scenes(8, complete=False))
    everything = np.ones(len(strict), bool)
    assert lenient.counts.sum() < len(lenient) == strict.counts.sum()
    assert lenient.average_precision(everything) > strict.average_precision(everything)


def test_of_equal_cells_the_middle_is_picked() -> None:
    ap = np.zeros((9, 11))
    ap[3:8, 4:9] = 0.5
    assert pick_cell(ap) == (5, 6)
    ap[0, 0] = 0.6
    assert pick_cell(ap) == (0, 0)


def test_parameters_at_the_end_of_their_grid_are_told() -> None:
    assert not edges(DEFAULT_POSE_NMS)
    for parameters, name in (
        (PoseNmsParameters(sigma1=2.0), 'sigma1 2 '),
        (PoseNmsParameters(sigma2=0.3), 'sigma2 0.3 '),
        (PoseNmsParameters(lambda_=7.0), 'lambda 7 '),
        (PoseNmsParameters(eta=1.0), 'eta 1 '),
    ):
        (told,) = edges(parameters)
        assert told.startswith(name)
    # A lambda of 0 is an end in itself.
    assert not edges(PoseNmsParameters(lambda_=0))


def test_table_has_all_ways_of_nms() -> None:
    candidates = Candidates(*scenes(2, 15))
    table = compare(candidates, RELEASED_COCO, [0.5, 0.9])
    assert [row[0].split(',')[0].split(' at')[0] for row in table[1:]] == [
        'poses before pose NMS', 'box NMS only', 'OKS NMS', 'OKS NMS', 'OKS NMS',
        'released constants', 'released constants', 'these',
    ]  # fmt: skip
    # "These" were the released ones here, in their own form.
    assert table[-1][1:] == table[-2][1:]
    assert int(table[1][1]) < int(table[1][2]) <= len(candidates)
    merging = compare(candidates, DEFAULT_POSE_NMS, [0.5, 0.9])
    assert [row[0] for row in merging[-2:]] == ['these, without merging', 'these']
    assert merging[-1][1:] != merging[-2][1:]


def test_candidates_are_kept_for_what_they_were_made_with(tmp_path: Path) -> None:
    _, found = scenes(1, 6)
    path = tmp_path / 'candidates.npz'
    assert load_candidates(path, 'a') is None
    save_candidates(path, found, 'a')
    again = load_candidates(path, 'a')
    assert again is not None and list(again) == list(found)
    for image, part in found.items():
        np.testing.assert_array_equal(again[image].keypoints, part.keypoints)
        np.testing.assert_array_equal(again[image].scores, part.scores)
    assert load_candidates(path, 'b') is None
    assert holds_candidates(path)
    path.write_bytes(path.read_bytes()[:100])
    assert load_candidates(path, 'a') is None
    assert not holds_candidates(path)


def test_a_file_that_holds_something_else_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    joints = [40.0, 40.0, 2.0] * 17
    person = {
        'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [10, 10, 80, 80], 'area': 3000.0,
        'num_keypoints': 17, 'keypoints': joints, 'iscrowd': 0,
    }  # fmt: skip
    images = [{'id': 1, 'file_name': 'a.png', 'width': 100, 'height': 100}]
    labels, mine = tmp_path / 'labels.json', tmp_path / 'mine.npz'
    labels.write_text(
        json.dumps(
            {'images': images, 'annotations': [person], 'categories': [{'id': 1, 'name': 'person'}]}
        )
    )
    np.savez(mine, precious=np.arange(3))
    before = mine.read_bytes()
    command = ['tune-nms', '--images', str(tmp_path), '--annotations', str(labels)]
    assert main([*command, '--candidates', str(mine)]) == 2
    assert 'holds no poses that rmpe tune-nms kept' in capsys.readouterr().err
    assert mine.read_bytes() == before
