# SPDX-License-Identifier: Apache-2.0
"""`rmpe evaluate` and `rmpe tune-nms` with real pictures, models and files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('pycocotools')
pytest.importorskip('matplotlib')

from rmpe_ros.cli.main import main
from rmpe_ros.core.boxes import crop_transforms, grow_boxes, map_points
from rmpe_ros.core.pose_nms import DEFAULT_POSE_NMS, PoseNmsParameters
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.tune_nms import GRIDS
from rmpe_ros.io.pose_nms_file import load_pose_nms

# The bright rectangles of the fixture two_people.
BOXES = np.array([[50, 60, 100, 210], [400, 250, 500, 450]], float)


@pytest.fixture
def labelled(
    tmp_path: Path,
    two_people: np.ndarray,
    models_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """--images and --annotations of two pictures, labelled where the test pose model sees joints:
    about the middle of the brightness, in a fixed pattern of crop pixels.
    """
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    index = np.arange(19)
    pattern = np.stack([index % 5 - 2, index // 5 - 1], axis=1) * 3.0
    # The middle of a crop of 48 x 64 pixels, in pixel centres.
    transforms = crop_transforms(grow_boxes(BOXES, 0.3), (64, 48))
    joints = map_points(np.array([23.5, 31.5]) + pattern[None].repeat(2, axis=0), transforms)
    people = [
        {
            'id': n + 1,
            'image_id': 1,
            'bbox': [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            'area': float(np.prod(box[2:] - box[:2])),
            'keypoints': np.concatenate([joint, np.full((19, 1), 2)], axis=1).ravel().tolist(),
        }
        for n, (box, joint) in enumerate(zip(BOXES, joints, strict=True))
    ]
    images = tmp_path / 'images'
    images.mkdir()
    cv2.imwrite(str(images / 'two.png'), two_people)
    cv2.imwrite(str(images / 'none.png'), np.zeros((200, 200, 3), np.uint8))
    data = {
        'images': [
            {'id': 1, 'file_name': 'two.png', 'source': 'yard'},
            {'id': 2, 'file_name': 'none.png', 'source': 'night'},
        ],
        'annotations': people,
        'categories': [{'id': 1, 'name': 'person', 'keypoints': list(BODY19.keypoints)}],
    }
    (tmp_path / 'labels.json').write_text(json.dumps(data))
    return ['--images', str(images), '--annotations', str(tmp_path / 'labels.json')]


def test_pipeline_to_numbers_and_report(
    labelled: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, page = tmp_path / 'numbers.json', tmp_path / 'report.html'
    assert main(['evaluate', *labelled, '--json', str(out), '--html', str(page)]) == 0
    numbers = json.loads(out.read_text())
    assert numbers['oks']['AP'] == pytest.approx(1)
    assert 0.98 < numbers['oks']['mean'] <= 1
    assert numbers['pck']['mean'] == 1 and numbers['pck']['left_wrist'] == 1
    assert numbers['detector'] == pytest.approx({'AP': 1, 'AP50': 1, 'recall': 1})
    assert (numbers['images'], numbers['people']) == (2, 2)
    assert numbers['models']['pose']['name'] == 'middle'
    assert len(numbers['models']['detector']['sha256']) == 64
    assert numbers['seconds'] > 0
    assert numbers['mpii'] is None and numbers['pckh'] is None
    shown = capsys.readouterr().out
    assert 'OKS (COCO)' in shown and 'left_wrist' in shown
    text = page.read_text()
    assert text.count('data:image/jpeg') == 2 and 'data:image/png' in text
    assert 'two.png, mean OKS' in text


def test_pictures_with_more_people_than_are_looked_at_are_told(
    labelled: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    labels = json.loads(Path(labelled[3]).read_text())
    person = labels['annotations'][0]
    labels['annotations'] += [{**person, 'id': 100 + number} for number in range(60)]
    crowd = tmp_path / 'crowd.json'
    crowd.write_text(json.dumps(labels))
    for options, told in (([], True), (['--max-people', '0'], False), (['--gt-boxes'], False)):
        assert (
            main(['evaluate', labelled[0], labelled[1], '--annotations', str(crowd), *options]) == 0
        )
        assert ('1 pictures have more than 60 labelled people' in capsys.readouterr().out) == told


def test_true_boxes_and_sources(labelled: list[str], tmp_path: Path) -> None:
    out = tmp_path / 'numbers.json'
    options = ['--gt-boxes', '--sources', 'yard', '--json', str(out)]
    assert main(['evaluate', *labelled, *options]) == 0
    numbers = json.loads(out.read_text())
    assert numbers['detector'] is None and numbers['images'] == 1
    assert numbers['oks']['AP'] == pytest.approx(1)


def test_results_of_predict_are_evaluated_alike(labelled: list[str], tmp_path: Path) -> None:
    results, direct, again = (tmp_path / f'{name}.json' for name in 'abc')
    predict = ['predict', labelled[1], '--json', str(results), *labelled[2:], '--min-score', '0']
    assert main(predict) == 0
    assert main(['evaluate', *labelled, '--json', str(direct)]) == 0
    arguments = [*labelled, '--results', str(results), '--json', str(again)]
    assert main(['evaluate', *arguments]) == 0
    first, second = (json.loads(path.read_text()) for path in (direct, again))
    assert second['oks'] == pytest.approx(first['oks'], abs=1e-3, nan_ok=True)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (['--sources', 'moon'], "source 'moon'; it has night, yard"),
        (['--annotations', 'no.json'], 'no.json cannot be read'),
        (['--images', 'nowhere'], 'nowhere is not a folder'),
        (['--limit', '0'], 'no pictures are left'),
        (['--results', 'labels'], 'is no COCO results file'),
    ],
)
def test_wrong_use_is_a_sentence(
    labelled: list[str], options: list[str], says: str, capsys: pytest.CaptureFixture
) -> None:
    options = [labelled[3] if option == 'labels' else option for option in options]
    assert main(['evaluate', *labelled, *options]) == 2
    assert says in capsys.readouterr().err


def test_results_of_another_data_set(
    labelled: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results = tmp_path / 'results.json'
    results.write_text(json.dumps([{'image_id': 77, 'keypoints': [0.0] * 51, 'score': 1}]))
    assert main(['evaluate', *labelled, '--results', str(results)]) == 2
    assert 'image_id 77' in capsys.readouterr().err


def test_tuned_parameters_are_written_kept_and_used(
    labelled: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    few = {name: values[::4] for name, values in GRIDS.items()}
    few['eta'] = np.array([31.0, 40.0, 60.0])
    monkeypatch.setattr('rmpe_ros.evaluation.tune_nms.GRIDS', few)
    out, plot = tmp_path / 'nms.json', tmp_path / 'planes.png'
    command = ['tune-nms', *labelled, '--out', str(out)]
    assert main([*command, '--plot', str(plot), '--compare']) == 0
    assert cv2.imread(str(plot)) is not None
    shown, told = capsys.readouterr()
    assert 'AP / duplicates after box NMS at' in shown and 'box NMS only' in shown
    written = json.loads(out.read_text())
    assert written['provenance']['most_duplicates'] == 0.1
    # All is found from the start on, so the shipped eta stays, where the grid begins.
    assert 'eta 31 is at the edge of what was tried, 31 to ' in told
    assert told.count('at the edge') == 1
    assert written['provenance']['models']['pose']['name'] == 'middle'
    assert written['provenance']['ap_after'] >= written['provenance']['ap_before']
    assert isinstance(load_pose_nms(out), PoseNmsParameters)
    assert main([*command, '--compare']) == 0
    assert 'poses are those kept in' in capsys.readouterr().out
    assert main(['evaluate', *labelled, '--pose-nms', str(out)]) == 0


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ('{}', 'is not complete'),
        ('[1]', 'is not complete'),
        ('x', 'is not JSON'),
        ('[' * 100_000 + ']' * 100_000, 'is not JSON: it is nested too deeply'),
        ('{"sigma1": 0, "sigma2": 1, "lambda": 1, "eta": 1, "num_keypoints": 19}', 'positive'),
        ('{"sigma1": "1", "sigma2": 1, "lambda": 1, "eta": 1, "num_keypoints": 19}', 'a number'),
        ('{"sigma1": 1, "sigma2": 1, "lambda": 1, "eta": 1, "num_keypoints": 19, "x": 1}', "'x'"),
    ],
)
def test_broken_parameter_files(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / 'nms.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'nms\.json') as error:
        load_pose_nms(path)
    assert says in str(error.value)


def test_the_shipped_file_holds_the_defaults() -> None:
    shipped = Path(__file__).parents[2] / 'config' / 'pose_nms.json'
    assert load_pose_nms(shipped) == DEFAULT_POSE_NMS
