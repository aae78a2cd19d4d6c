# SPDX-License-Identifier: Apache-2.0
"""Two minutes of what `make stress` runs for longer, with small networks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rmpe_ros.msg', reason='needs the built messages of this package')

HERE = Path(__file__).parent
# With hri_bridge_node where hri_msgs is installed.
EVERY_NODE = ('5 of 5', '6 of 6')
pytestmark = [pytest.mark.ros, pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1200)]


Run = Callable[..., dict]


@pytest.fixture
def run(models_folder: Path, tmp_path: Path, choose_domain: Callable[[], str]) -> Run:
    """Gives the figures of a script that finds nothing wrong: nobody died, no memory was lost,
    no older image was answered after a newer one, nothing raised, and all nodes still answer.
    """
    figures = tmp_path / 'figures.json'
    domain = {'RMPE_MODELS': str(models_folder), 'ROS_DOMAIN_ID': choose_domain()}

    def figures_of(script: str, *options: str) -> dict:
        command = [sys.executable, str(HERE / f'{script}.py'), '--json', str(figures), *options]
        done = subprocess.run(
            command, env={**os.environ, **domain}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(figures.read_text())

    return figures_of


def test_soak(run: Run) -> None:
    """300 images of each raw camera are 280 MB: a leak of a part of them would be seen."""
    figures = run('soak', '--minutes', '0.4', '--rate', '12.5')
    assert figures['nodes alive'] in EVERY_NODE
    assert figures['odd messages'] > 10
    assert all(each['answered'] > 0 for each in figures['cameras'].values())
    assert all(figures['seen'].values())


def test_overload(run: Run) -> None:
    figures = run('overload', '--minutes', '0.35')
    kinds = figures['overload']
    assert figures['nodes alive'] == '4 of 4'
    assert figures['counted']['bad'] > 0, 'bombs were refused'
    assert kinds['requests'] == {'sent': 360, 'answered': 360}
    assert kinds['crowds']['people'] >= 1000
    assert all(kinds[name]['slow_answered'] > 0 for name in ('flood of images', 'bombs'))


def test_faults(run: Run) -> None:
    figures = run('faults', '--minutes', '0.2')
    kinds = {'signals', 'damaged models', 'lifecycle cycles', 'parameters set', 'viewers killed'}
    assert set(figures['done']) == kinds
    assert all(figures['answers'].values())


def test_fuzz(run: Run) -> None:
    figures = run('fuzz', '--minutes', '0.1')
    assert figures['odd messages'] >= 700
    assert figures['counted']['refused'] > 100
    assert figures['nodes alive'] in EVERY_NODE
