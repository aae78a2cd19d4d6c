# SPDX-License-Identifier: Apache-2.0
"""Two minutes of what `make stress` runs for longer, with small networks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rmpe_ros.msg', reason='needs the built messages of this package')

HERE = Path(__file__).parent
# With hri_bridge_node where hri_msgs is installed.
EVERY_NODE = ('5 of 5', '6 of 6')
pytestmark = [pytest.mark.ros, pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1200)]


def run(script: str, models: Path, folder: Path, *options: str) -> dict:
    """The figures of a script in whose eyes nothing is wrong: nobody died, no memory was lost, no
    older image was answered after a newer one, nothing raised, and all nodes still answer.
    """
    environment = {**os.environ, 'RMPE_MODELS': str(models)}
    environment.pop('ROS_DOMAIN_ID', None)
    figures = folder / 'figures.json'
    command = [sys.executable, str(HERE / f'{script}.py'), '--json', str(figures), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(figures.read_text())


def test_soak(models_folder: Path, tmp_path: Path) -> None:
    """300 images of each raw camera are 280 MB: a leak of a part of them would be seen."""
    figures = run('soak', models_folder, tmp_path, '--minutes', '0.5', '--rate', '10')
    assert figures['nodes alive'] in EVERY_NODE
    assert figures['odd messages'] > 10
    assert all(each['answered'] > 0 for each in figures['cameras'].values())
    assert all(figures['seen'].values())


def test_overload(models_folder: Path, tmp_path: Path) -> None:
    figures = run('overload', models_folder, tmp_path, '--minutes', '0.5')
    kinds = figures['overload']
    assert figures['nodes alive'] == '4 of 4'
    assert figures['counted']['bad'] > 0, 'bombs were refused'
    assert kinds['requests'] == {'sent': 360, 'answered': 360}
    assert kinds['crowds']['people'] >= 1000
    assert all(kinds[name]['slow_answered'] > 0 for name in ('flood of images', 'bombs'))


def test_faults(models_folder: Path, tmp_path: Path) -> None:
    figures = run('faults', models_folder, tmp_path, '--minutes', '0.4')
    kinds = {'signals', 'damaged models', 'lifecycle cycles', 'parameters set', 'viewers killed'}
    assert set(figures['done']) == kinds
    assert all(figures['answers'].values())


def test_fuzz(models_folder: Path, tmp_path: Path) -> None:
    figures = run('fuzz', models_folder, tmp_path, '--minutes', '0.3')
    assert figures['odd messages'] >= 700
    assert figures['counted']['refused'] > 100
    assert figures['nodes alive'] in EVERY_NODE
