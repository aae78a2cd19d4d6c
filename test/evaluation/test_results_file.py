# SPDX-License-Identifier: Apache-2.0
"""Results files with oddities: understood, or refused by entry and field; and what AP they get."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('pycocotools')

from rmpe_ros.cli.main import main
from rmpe_ros.evaluation.found_people import people_of_entries
from rmpe_ros.evaluation.labels import LabelsError
from rmpe_ros.evaluation.labels.label_files import read_labels
from rmpe_ros.evaluation.results_file import read_box_results, read_result_entries

JOINTS = [v for i in range(17) for v in (200.0 + 3 * i, 150.0 + 9 * i, 2)]
FAR = [v + 400 if i % 3 < 2 else v for i, v in enumerate(JOINTS)]
BOX = [190, 140, 70, 170]
POSE = {'image_id': 4, 'category_id': 1, 'keypoints': JOINTS, 'score': 0.9}
LABEL = {'id': 1, 'image_id': 4, 'bbox': BOX, 'keypoints': JOINTS}


def labels_file(folder: Path, **fields: Any) -> Path:
    images = [{'id': 4, 'file_name': 'a.jpg'}, {'id': 5, 'file_name': 'b.jpg'}]
    people = [
        {**LABEL, **fields},
        {**LABEL, 'id': 2, 'image_id': 5, 'keypoints': FAR, 'bbox': [590, 540, 70, 170], **fields},
    ]
    (folder / 'labels.json').write_text(json.dumps({'images': images, 'annotations': people}))
    return folder / 'labels.json'


def evaluate(folder: Path, labels: Path, results: list[Any]) -> dict[str, Any]:
    (folder / 'results.json').write_text(json.dumps(results))
    arguments = ['--annotations', str(labels), '--results', str(folder / 'results.json')]
    assert main(['evaluate', *arguments, '--json', str(folder / 'out.json')]) == 0
    return dict(json.loads((folder / 'out.json').read_text()))


@pytest.mark.parametrize('fields', [{}, {'area': 0}, {'area': None}, {'bbox': []}])
def test_results_that_are_the_labels_have_an_ap_of_1(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    numbers = evaluate(
        tmp_path, labels_file(tmp_path, **fields), [POSE, {**POSE, 'image_id': 5, 'keypoints': FAR}]
    )
    assert numbers['oks']['AP'] == pytest.approx(1) == numbers['oks']['mean']
    assert any('without an area that can be used' in note for note in numbers['notes'])


def test_poses_with_and_without_a_box_go_together(tmp_path: Path) -> None:
    results = [{**POSE, 'bbox': BOX}, {**POSE, 'image_id': 'b.jpg', 'keypoints': FAR}]
    assert evaluate(tmp_path, labels_file(tmp_path), results)['oks']['AP'] == pytest.approx(1)
    labels = read_labels(tmp_path / 'labels.json')
    entries = read_result_entries(tmp_path / 'results.json', labels)
    found = people_of_entries(entries, labels)
    assert found[4].boxes.tolist() == [[190, 140, 260, 310]]
    # The extent of the joints, as pycocotools has it: 600 to 648, 550 to 694.
    assert found[5].boxes.tolist() == [[600, 550, 648, 694]]


@pytest.mark.parametrize(
    ('entry', 'says'),
    [
        (None, r'entry 1 is null'),
        ({'image_id': [0]}, r'entry 1: "image_id" is \[0\]; expected a whole number'),
        ({'image_id': 7}, r'entry 1 is a pose for image_id 7'),
        ({'bbox': ['190', 140, 70, 170]}, r'entry 1 \(image 4, a\.jpg\): "bbox" is \[\'190\''),
        ({'bbox': [1, 2]}, r'"bbox" is \[1, 2\]; expected the four finite numbers'),
        ({'bbox': [1, 2, float('inf'), 4]}, 'expected the four finite numbers'),
        ({'keypoints': None}, '"keypoints" is null'),
        ({'keypoints': [float('nan'), *JOINTS[1:]]}, '"keypoints" is .*expected finite numbers'),
        ({'keypoints': ['1', *JOINTS[1:]]}, '"keypoints" is .*expected x, y, score'),
        ({'keypoints': JOINTS[:-1]}, r'a pose has 16\.6667 joints, the annotations have coco17'),
        ({'keypoints': JOINTS[3:]}, 'a pose has 16 joints'),
        ({'score': '0.9'}, '"score" is \'0.9\'; expected a number'),
        ({'score': float('nan')}, '"score" is nan; expected a number'),
        ({'score': None}, '"score" is null; expected a number'),
    ],
)
def test_an_entry_that_cannot_be_understood_is_refused(
    tmp_path: Path, entry: dict[str, Any] | None, says: str
) -> None:
    path = tmp_path / 'results.json'
    path.write_text(json.dumps([POSE, entry and {**POSE, **entry}]))
    with pytest.raises(LabelsError, match=rf'results\.json: .*{says}'):
        read_result_entries(path, read_labels(labels_file(tmp_path)))


def test_results_nested_without_end_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / 'results.json'
    path.write_text('[' * 100_000 + ']' * 100_000)
    arguments = ['--annotations', str(labels_file(tmp_path)), '--results', str(path)]
    assert main(['evaluate', *arguments]) == 2
    assert 'results.json is not JSON: it is nested too deeply' in capsys.readouterr().err


def test_boxes_of_a_detector(tmp_path: Path) -> None:
    path = tmp_path / 'boxes.json'
    box = {'image_id': '4', 'bbox': [1, 2, 3, 4], 'score': 0.5}
    others = [{**box, 'category_id': 18}, {**box, 'score': 0.1}, {**box, 'image_id': 9}]
    path.write_text(json.dumps([box, *others]))
    found = read_box_results(path, {4, 5}, min_score=0.2)
    assert {image: boxes.tolist() for image, boxes in found.items()} == {4: [[1, 2, 4, 6]]}
    path.write_text(json.dumps([box, {'image_id': 4, 'score': 0.5}]))
    with pytest.raises(LabelsError, match=r'entry 1: "bbox" is missing; expected the four'):
        read_box_results(path, {4, 5}, min_score=0.2)
