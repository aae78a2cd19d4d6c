# SPDX-License-Identifier: Apache-2.0
"""`rmpe export` says what is missing; what it writes is tested in test/networks/test_export.py."""

import pytest

pytest.importorskip('torch')

from rmpe_ros.cli.main import main


@pytest.mark.parametrize('options', [[], ['--data', 'people.yaml', '--calibration', '5']])
def test_8_bits_need_photos(options, tmp_path, capsys):
    output = tmp_path / 'lite.onnx'
    command = ['export', 'pose', str(tmp_path / 'checkpoint.pt'), str(output)]
    assert main([*command, '--precision', 'int8', *options]) == 2
    assert 'give --data, and at least 20 of them with --calibration' in capsys.readouterr().err
    assert not output.exists()


def test_a_missing_checkpoint_is_named(tmp_path, capsys):
    checkpoint = tmp_path / 'checkpoint.pt'
    assert main(['export', 'detector', str(checkpoint), str(tmp_path / 'detector.onnx')]) == 1
    assert str(checkpoint) in capsys.readouterr().err
