# SPDX-License-Identifier: Apache-2.0
"""The ablation: its rows are the paper's, its NMS differ as they should, and it really trains."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

pytest.importorskip('pycocotools')

from rmpe_ros.cli.main import main
from rmpe_ros.core.pose_nms import PoseNmsParameters
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.ablation import (
    ROWS,
    KeptResults,
    ablation_table,
    choose_rows,
    detect,
    scores_of,
    suppress,
)
from rmpe_ros.evaluation.evaluate import Evaluation
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import LabelledImage, Labels


def no_labels(images: tuple[LabelledImage, ...] = ()) -> Labels:
    return Labels(
        'coco',
        BODY19,
        images,
        np.zeros(0, np.int64),
        np.zeros((0, 4)),
        np.zeros((0, 19, 2)),
        np.zeros((0, 19), bool),
        np.zeros(0),
        np.zeros(0, bool),
        np.zeros(0),
    )


def test_rows_train_what_they_need_and_no_more() -> None:
    assert len({row.name for row in ROWS}) == 10
    # Six networks serve ten rows.
    assert len({row.training for row in ROWS}) == 6
    assert [row.name for row in choose_rows(['jitter'])] == ['full', 'jitter']
    with pytest.raises(ValueError, match="no row 'x'; there are full, no-sstn"):
        choose_rows(['x'])


def test_ways_of_nms() -> None:
    body = np.stack([np.arange(19) * 5.0, np.arange(19) * 10.0], axis=1)
    # Three poses of one person: the same, in a smaller box, and 6 px off; and another person.
    keypoints = np.stack([body, body, body + np.array([6, 0]), body + 400])
    boxes = np.array(
        [[0, 0, 90, 180], [0, 0, 90, 80], [0, 0, 90, 175], [400, 400, 490, 580]], float
    )
    joint_scores = np.full((4, 19), 0.8)
    found = {1: FoundPeople(keypoints, joint_scores, boxes, np.array([0.8, 0.7, 0.6, 0.5]))}
    parameters = PoseNmsParameters()

    def left(nms: str) -> list[float]:
        return sorted(suppress(found, nms, parameters, no_labels())[1].scores.tolist())  # type: ignore[arg-type]

    assert left('none') == [0.5, 0.6, 0.7, 0.8]
    assert left('box') == [0.5, 0.7, 0.8]
    assert left('oks') == [0.5, 0.6, 0.8]
    assert left('pose') == [0.5, 0.8]


def test_pose_nms_merges_where_the_parameters_say_so() -> None:
    body = np.stack([np.arange(19) * 5.0, np.arange(19) * 10.0], axis=1)
    found = {
        1: FoundPeople(
            np.stack([body, body + 2]),
            np.full((2, 19), 0.8),
            np.array([[0, 0, 90, 180], [2, 2, 92, 182]], float),
            np.array([0.8, 0.7]),
        )
    }
    kept = suppress(found, 'pose', PoseNmsParameters(), no_labels())[1]
    np.testing.assert_array_equal(kept.keypoints, [body])
    merged = suppress(found, 'pose', PoseNmsParameters(merge=True), no_labels())[1]
    assert merged.scores.tolist() == [0.8]
    # Between both, nearer to the better one.
    assert (merged.keypoints > body + 0.5).all() and (merged.keypoints < body + 1).all()


def test_noise_moves_boxes_by_their_sides(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    labels = no_labels((LabelledImage(3, 'a.png', 'all'),))
    boxes = np.tile(np.float32([[100, 100, 200, 500]]), (4000, 1))

    def detector(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return boxes, np.ones(4000, np.float32)

    paths = {3: tmp_path / 'a.png'}
    found, _ = detect(labels, paths, detector, noise=0.05)[3]  # type: ignore[arg-type]
    np.testing.assert_allclose((found - boxes[: len(found)]).std(axis=0), [5, 20, 5, 20], rtol=0.05)
    np.testing.assert_array_equal(detect(labels, paths, detector)[3][0], boxes)  # type: ignore[arg-type]


def test_boxes_far_from_labelled_people_count_only_where_everyone_is_labelled(
    tmp_path: Path,
) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    paths = dict.fromkeys((1, 2), tmp_path / 'a.png')
    images = (LabelledImage(1, 'a.png', 'all'), LabelledImage(2, 'a.png', 'all', complete=False))
    labels = replace(
        no_labels(images),
        image_ids=np.array([1, 2]),
        boxes=np.tile([10.0, 10, 50, 90], (2, 1)),
        keypoints=np.zeros((2, 19, 2)),
        labelled=np.ones((2, 19), bool),
        areas=np.full(2, 3200.0),
        crowd=np.zeros(2, bool),
        head_sizes=np.full(2, np.nan),
    )
    boxes = np.float32([[12, 10, 50, 90], [200, 10, 240, 90]])
    found = detect(labels, paths, lambda image: (boxes, np.float32([0.9, 0.8])))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[1][0], boxes)
    np.testing.assert_array_equal(found[2][0], boxes[:1])
    np.testing.assert_array_equal(found[2][1], np.float32([0.9]))


def test_table_compares_with_the_full_system_and_the_paper() -> None:
    rows = choose_rows(['no-pgpg', 'oks-nms'])
    results = {name: {'AP': value, 'PCK': 0.5} for name, value in
               {'full': 0.6, 'no-pgpg': 0.55, 'oks-nms': 0.61}.items()}  # fmt: skip
    table = ablation_table(rows, results)
    assert table[0] == ['', 'AP', 'PCK', 'Δ AP', 'paper mAP', 'Δ paper']
    assert table[2] == ['without PGPG', '55.0', '50.0', '-5.0', '73.0', '-7.8']
    assert table[3][3:] == ['+1.0', '–', '–']


def test_columns_follow_the_labels() -> None:
    numbers = {'mean': 0.7}
    lsp = Evaluation(None, numbers, None, None, None, 1, 1, {})
    assert scores_of(lsp) == {'PCK': 0.7}
    oks = {'AP': math.nan, 'AP50': 0.1, 'AR': 0.1, 'mean': 0.4}
    assert list(scores_of(Evaluation(oks, numbers, None, None, None, 1, 1, {}))) == ['PCK']
    oks['AP'] = 0.3
    assert 'AP' in scores_of(Evaluation(oks, numbers, None, None, None, 1, 1, {}))


def test_results_are_kept_for_the_same_settings_only(tmp_path: Path) -> None:
    file = tmp_path / 'results.json'
    KeptResults(file, {'steps': 5}).add({'full': {'AP': 0.5}})
    again = KeptResults(file, {'steps': 5})
    again.add({'jitter': {'AP': 0.4}})
    assert KeptResults(file, {'steps': 5}).scores == {'full': {'AP': 0.5}, 'jitter': {'AP': 0.4}}
    assert KeptResults(file, {'steps': 6}).scores == {}
    KeptResults(file, {'steps': 6}).add({'full': {'AP': 0.6}})
    # Nothing of the other settings is lost.
    assert KeptResults(file, {'steps': 5}).scores == {'full': {'AP': 0.5}, 'jitter': {'AP': 0.4}}
    assert json.loads(file.read_text())['scores'] == {'full': {'AP': 0.6}}
    file.write_text('{')
    strange = KeptResults(file, {'steps': 5})
    assert strange.scores == {}
    strange.add({'full': {'AP': 0.7}})
    assert (tmp_path / 'results-2.json').read_text() == '{', "somebody's own file is kept"


@pytest.fixture
def command(
    tmp_path: Path, models_folder: Path, small_sppe: type, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """`rmpe ablate` on two pictures, with a small network."""
    from rmpe_ros.training.pose_training import POSE_MODELS, PoseModel

    monkeypatch.setitem(POSE_MODELS, 'small', PoseModel((64, 48), small_sppe))  # type: ignore[arg-type]
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    rng = np.random.default_rng(0)
    images, people = [], []
    for number in range(2):
        picture = np.full((240, 320, 3), 20, np.uint8)
        picture[40:200, 100:160] = 255
        cv2.imwrite(str(tmp_path / f'{number}.png'), picture)
        joints = rng.uniform([100, 40], [160, 200], (19, 2))
        triples = np.concatenate([joints, np.full((19, 1), 2)], axis=1)
        images.append({'id': number, 'file_name': f'{number}.png'})
        people.append(
            {
                'id': number,
                'image_id': number,
                'bbox': [100, 40, 60, 160],
                'area': 9600.0,
                'num_keypoints': 19,
                'keypoints': triples.ravel().tolist(),
            }
        )
    labels = tmp_path / 'labels.json'
    labels.write_text(json.dumps({'images': images, 'annotations': people}))
    (tmp_path / 'data.yaml').write_text(
        'train: [{annotations: labels.json, images: .}]\n'
        'validation: {annotations: labels.json, images: .}\n'
    )
    return [
        'ablate', '--data', str(tmp_path / 'data.yaml'), '--images', str(tmp_path),
        '--annotations', str(labels), '--out', str(tmp_path / 'out'), '--steps', '1',
        '--batch', '2', '--model', 'small', '--threads', '1', '--box-growth', '0.1',
    ]  # fmt: skip


@pytest.fixture
def pgpg(tmp_path: Path) -> Path:
    """A mixture of boxes that are a little off."""
    from rmpe_ros.training.pgpg import ATOM_JOINTS

    mixture = {
        'weights': [1.0], 'means': [[0.0] * 4], 'covariances': [(np.eye(4) * 0.01).tolist()]
    }  # fmt: skip
    file = tmp_path / 'pgpg.json'
    file.write_text(
        json.dumps(
            {
                'joints': ATOM_JOINTS,
                'atoms': np.zeros((1, 12, 2)).tolist(),
                'mixtures': [mixture, mixture],
            }
        )
    )
    return file


@pytest.mark.slow
def test_two_rows_from_pictures_to_the_table(
    command: list[str], pgpg: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command += ['--rows', 'full', 'true-boxes', 'two-step']
    # Two people are too few to learn how boxes are off.
    assert main(command) == 2
    assert '40 or more are needed' in capsys.readouterr().err
    plot = tmp_path / 'ablation.png'
    assert main([*command, '--pgpg', str(pgpg), '--plot', str(plot)]) == 0
    picture = cv2.imread(str(plot))
    assert picture is not None and picture.std() > 5
    shown = capsys.readouterr().out
    # The transformer learns by regression before the parallel SPPE looks after it.
    assert len(list((tmp_path / 'out').glob('localisation-pgpg-*/checkpoint.pt'))) == 1
    assert 'plain two-step' in shown and 'paper mAP' in shown
    kept = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert set(kept['scores']) == {'full', 'two-step', 'true-boxes'}
    # All is there: nothing is trained again, and that is said.
    assert main([*command, '--pgpg', str(pgpg)]) == 0
    shown = capsys.readouterr().out.split('paper mAP')[0]
    assert 'step' not in shown
    assert '3 of 3 rows: taken from an earlier run with the same settings' in shown

    networks = set((tmp_path / 'out').glob('*/pose.onnx'))
    assert len(networks) == 2
    growths = {
        prop.value
        for file in networks
        for prop in onnx.load(file).metadata_props
        if prop.key == 'rmpe.box_growth'
    }
    assert growths == {'0.1'}
    # Only the evaluation is another one: the networks are taken, and that is said, too.
    assert main([*command, '--pgpg', str(pgpg), '--limit', '1']) == 0
    assert capsys.readouterr().out.count('the network') == 2
    assert set((tmp_path / 'out').glob('*/pose.onnx')) == networks

    # Whatever makes another network trains one, and leaves the earlier ones where they are.
    command[command.index('full') :] = ['full', '--pgpg', str(pgpg)]
    (checkpoint,) = (tmp_path / 'out').glob('sppe-pgpg-first-*/checkpoint.pt')
    copy = tmp_path / 'init.pt'
    copy.write_bytes(checkpoint.read_bytes())
    (checkpoint,) = (tmp_path / 'out').glob('localisation-pgpg-*/checkpoint.pt')
    stn = tmp_path / 'stn.pt'
    stn.write_bytes(checkpoint.read_bytes())

    def change_a_picture() -> None:
        cv2.imwrite(str(tmp_path / '0.png'), np.full((240, 320, 3), 90, np.uint8))

    def change_the_mixture() -> None:
        with (tmp_path / 'data.yaml').open('a') as data:
            data.write('teacher_weight: 0.25\n')

    def change_pgpg() -> None:
        pgpg.write_text(pgpg.read_text().replace('0.01', '0.02'))

    for options, change in (
        (['--steps', '2'], None),
        (['--init', str(copy)], None),
        (one_stage := ['--init', str(copy), '--init-stn', str(stn)], None),
        (one_stage, change_a_picture),
        (one_stage, change_the_mixture),
        (one_stage, change_pgpg),
    ):
        if change:
            change()
        assert main([*command, *options]) == 0
        assert 'taken from' not in capsys.readouterr().out
        grown = set((tmp_path / 'out').glob('*/pose.onnx'))
        assert grown > networks
        networks = grown


@pytest.mark.slow
def test_a_localisation_network_starts_from_a_detector(
    command: list[str],
    pgpg: Path,
    small_sppe: type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    import torch

    from rmpe_ros.networks.localisation import DetectorFeatures, ZoomLocalisation
    from rmpe_ros.training.checkpoints import read_checkpoint, write_checkpoint
    from rmpe_ros.training.pose_training import POSE_MODELS, PoseModel

    detector = Path(__file__).parents[2] / 'models' / 'detector.onnx'
    command += ['--rows', 'full', '--pgpg', str(pgpg), '--stn-pretrained', str(detector)]
    # What is of no use is told before the stage that comes first has been trained.
    for options, message in (
        ([], 'the localisation network of small is not a detector'),
        (['--init-stn', str(detector)], 'give --init-stn or --stn-pretrained'),
    ):
        assert main([*command, *options]) == 2
        assert message in capsys.readouterr().err
    watching = PoseModel(
        (64, 48), small_sppe, lambda size: ZoomLocalisation(size, DetectorFeatures())
    )
    monkeypatch.setitem(POSE_MODELS, 'watching', watching)  # type: ignore[arg-type]
    weights = {f'sppe.{name}': each for name, each in small_sppe().state_dict().items()}
    write_checkpoint(tmp_path / 'sppe.pt', {'ema': weights, 'step': 1, 'settings': {}})
    assert main([*command, '--model', 'watching', '--init', str(tmp_path / 'sppe.pt')]) == 0
    (checkpoint,) = (tmp_path / 'out').glob('localisation-*/checkpoint.pt')
    trained = read_checkpoint(checkpoint)['ema']
    expected = DetectorFeatures()
    expected.load_detector(detector)
    for name, parameter in expected.backbone.named_parameters():
        one_step_later = trained[f'localisation.features.backbone.{name}']
        torch.testing.assert_close(one_step_later, parameter.data, atol=1e-3, rtol=0)
