# SPDX-License-Identifier: Apache-2.0
"""`rmpe export` says what is missing; what it writes is tested in test/networks/test_export.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.cli.main import main
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import open_engine
from rmpe_ros.networks.person_detector import DetectorNetwork
from rmpe_ros.training.stages import load_checkpoint


def test_a_missing_checkpoint_is_named(tmp_path, capsys):
    checkpoint = tmp_path / 'checkpoint.pt'
    assert main(['export', 'detector', str(checkpoint), str(tmp_path / 'detector.onnx')]) == 2
    assert str(checkpoint) in capsys.readouterr().err


def not_a_checkpoint(path: Path, content: Any) -> Path:
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'is damaged or no checkpoint'),
        (b'PK\x03\x04' + bytes(400), 'is damaged or no checkpoint'),
        ([1, 2], r'no averaged weights \("ema"\) in it \(list\)'),
        ({'network': {}}, r"no averaged weights \(\"ema\"\) in it \(\['network'\]\)"),
        ({'ema': None}, 'no averaged weights'),
        ({'ema': {}}, 'no averaged weights'),
        ({'ema': [1]}, 'no averaged weights'),
        ({'ema': {'stem': 3}}, "hold 'stem', which is no named tensor"),
        ({'ema': {3: torch.zeros(1)}}, 'hold 3, which is no named tensor'),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, says, tmp_path, capsys):
    path = not_a_checkpoint(tmp_path / 'checkpoint.pt', content)
    for task in ('detector', 'pose'):
        assert main(['export', task, str(path), str(tmp_path / 'out.onnx')]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and str(path) in error
    with pytest.raises(ValueError, match=says):
        load_checkpoint(DetectorNetwork(), path)


def test_a_checkpoint_of_another_network_is_a_sentence(tmp_path, capsys):
    checkpoint = not_a_checkpoint(tmp_path / 'checkpoint.pt', {'ema': {'stem': torch.zeros(3)}})
    for task in ('detector', 'pose'):
        assert main(['export', task, str(checkpoint), str(tmp_path / 'out.onnx')]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and 'is not a checkpoint of this network' in error


def test_a_detector_hands_on_no_more_boxes_than_its_flattest_picture_has_cells(tmp_path):
    torch.manual_seed(1)
    checkpoint, output = tmp_path / 'checkpoint.pt', tmp_path / 'small.onnx'
    torch.save({'ema': DetectorNetwork().state_dict()}, checkpoint)
    command = ['export', 'detector', str(checkpoint), str(output), '--long-side']
    assert main([*command, '256']) == 0
    detector = PersonDetector(open_engine(output, 'onnxruntime'))
    flat = detector.input_size((100, 1000))
    assert flat == (64, 256)
    outputs = detector.engine({'image': np.zeros((1, *flat, 3), np.uint8)})
    # 8 x 32 + 4 x 16 + 2 x 8 cells.
    assert outputs['boxes'].shape == (1, 336, 4)


@pytest.mark.parametrize('pixels', ['0', '-32', '32', '300', '1000000'])
def test_a_long_side_that_is_no_picture_is_refused(pixels, tmp_path, capsys):
    output = tmp_path / 'small.onnx'
    command = ['export', 'detector', str(tmp_path / 'checkpoint.pt'), str(output)]
    assert main([*command, '--long-side', pixels]) == 2
    assert 'expected a multiple of 32 pixels from 64 to 4096' in capsys.readouterr().err
