# SPDX-License-Identifier: Apache-2.0
"""Work of an earlier run is taken only where every option that makes a difference is the same."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('pycocotools')

from rmpe_ros.cli.ablate_command import _Ablation
from rmpe_ros.cli.main import make_parser
from rmpe_ros.cli.tune_nms_command import _find_candidates, _open_labels

SHIPPED_DETECTOR = Path(__file__).parents[2] / 'models' / 'detector.onnx'  # of free input size

# Where results go, where inputs lie, and how fast it is; what is refused is not evaluated at all.
NO_DIFFERENCE = {
    'help', 'out', 'html', 'plot', 'rows', 'data_root', 'images', 'device', 'threads',
    'max_megapixels',
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures with labels, a data file, and copies that differ."""
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    people = []
    for number in range(2):
        picture = np.full((240, 320, 3), 20 + number, np.uint8)
        picture[40:200, 100:160] = 255
        cv2.imwrite(str(tmp_path / f'{number}.png'), picture)
        people.append(
            {
                'id': number,
                'image_id': number,
                'category_id': 1,
                'iscrowd': 0,
                'bbox': [100, 40, 60, 160],
                'area': 9600.0,
                'num_keypoints': 19,
                'keypoints': [120.0, 90.0, 2] * 19,
            }
        )
    images = [
        {'id': n, 'file_name': f'{n}.png', 'width': 320, 'height': 240, 'source': 'ab'[n]}
        for n in range(2)
    ]
    data = {'images': images, 'annotations': people, 'categories': [{'id': 1, 'name': 'person'}]}
    (tmp_path / 'labels.json').write_text(json.dumps(data))
    (tmp_path / 'other.json').write_text(json.dumps(data, indent=1))
    for name, weight in (('data', 0.5), ('other', 0.25)):
        (tmp_path / f'{name}.yaml').write_text(
            'train: [{annotations: labels.json, images: .}]\n'
            f'validation: {{annotations: labels.json, images: .}}\nteacher_weight: {weight}\n'
        )
    for name in ('weights.pt', 'pgpg.json'):
        (tmp_path / name).write_text(name)
    return tmp_path


def arguments(*options: object) -> argparse.Namespace:
    return make_parser().parse_args([str(each) for each in options])


def options_of(command: str) -> dict[str, str]:
    """The options of a command by the names of their values, without those of NO_DIFFERENCE."""
    choices = next(
        each.choices
        for each in make_parser()._actions
        if isinstance(each, argparse._SubParsersAction)
    )
    assert choices is not None
    return {
        action.dest: action.option_strings[0]
        for action in choices[command]._actions
        if action.dest not in NO_DIFFERENCE
    }


def test_whatever_makes_another_ablation_starts_afresh(folder: Path) -> None:
    command = (
        'ablate', '--data', folder / 'data.yaml', '--images', folder,
        '--annotations', folder / 'labels.json', '--out', folder / 'out', '--steps', 5,
    )  # fmt: skip
    _Ablation(arguments(*command)).kept.add({'full': {'AP': 0.5}})
    assert _Ablation(arguments(*command)).kept.scores
    assert _Ablation(arguments(*command, '--threads', 1, '--rows', 'full')).kept.scores
    changes: dict[str, Any] = {
        'data': folder / 'other.yaml', 'annotations': folder / 'other.json', 'sources': 'a',
        'limit': 1, 'model': 'base', 'pretrained': folder / 'weights.pt',
        'init': folder / 'weights.pt', 'init_stn': folder / 'weights.pt', 'steps': 6,
        'minutes': 1, 'batch': 8, 'learning_rate': 0.1, 'seed': 1, 'frozen_blocks': 1,
        'pgpg': folder / 'pgpg.json', 'incomplete': None, 'detector_noise': 0.1, 'box_nms': 0.5,
        'score_threshold': 0.5, 'detector': SHIPPED_DETECTOR, 'detector_size': 320,
        'backend': 'onnxruntime', 'precision': 'fp16', 'min_score': 0.5, 'max_people': 3,
        'pose_nms': None, 'box_growth': 0.2, 'stn_pretrained': SHIPPED_DETECTOR,
    }  # fmt: skip
    # Of the only model whose localisation network can start from a detector.
    standard = [*command, '--model', 'standard']
    _Ablation(arguments(*standard)).kept.add({'full': {'AP': 0.5}})
    options = options_of('ablate')
    del options['pose']  # the networks are those that are trained
    assert set(options) == set(changes), 'does a new option make another result?'
    del changes['pose_nms']  # a file; its numbers are what is compared
    for name, value in changes.items():
        option = [options[name]] if value is None else [options[name], value]
        before = standard if name == 'stn_pretrained' else command
        assert _Ablation(arguments(*before)).kept.scores
        assert not _Ablation(arguments(*before, *option)).kept.scores, name


def test_whatever_makes_other_poses_computes_them_anew(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    command = (
        'tune-nms', '--images', folder, '--annotations', folder / 'labels.json',
        '--candidates', folder / 'kept.npz',
    )  # fmt: skip

    def are_kept(*options: object) -> bool:
        args = arguments(*command, *options)
        _find_candidates(args, _open_labels(args))
        return 'poses are those kept' in capsys.readouterr().out

    assert not are_kept()
    assert are_kept('--threads', 1)
    detector = ['--detector', SHIPPED_DETECTOR]
    for before, option in (
        ([], ['--score-threshold', 0.5]),
        ([], ['--max-people', 1]),
        ([], ['--box-nms', 0.5]),
        ([], ['--compare']),
        ([], ['--annotations', folder / 'other.json']),
        ([], ['--backend', 'onnxruntime']),
        ([], detector),
        (detector, ['--detector-size', 320]),
    ):
        are_kept(*before)
        assert not are_kept(*before, *option), option
