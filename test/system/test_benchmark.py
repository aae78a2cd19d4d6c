# SPDX-License-Identifier: Apache-2.0
"""`rmpe benchmark --ros` with real processes; nothing is asserted about how long things take."""

import json
import re
import subprocess
import sys

# Runs a command with a /dev/shm of its own, and tells on stderr what the command leaves there.
IN_PRIVATE_MEMORY = [
    *('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c'),
    'mount -t tmpfs none /dev/shm && "$@"; code=$?; ls /dev/shm >&2; exit $code',
    'sh',
]


def test_the_overhead_of_ros_is_measured_with_each_transport(environment, tmp_path):
    file = tmp_path / 'report.json'
    command = [sys.executable, '-m', 'rmpe_ros.cli', 'benchmark', '--ros', '--repeat', '8']
    command += ['--size', '160x120', '--json', str(file)]
    if subprocess.run([*IN_PRIVATE_MEMORY, 'true'], capture_output=True).returncode == 0:
        command = [*IN_PRIVATE_MEMORY, *command]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert 'default' in report
    assert set(report) <= {'default', 'shared memory'}
    for measured in report.values():
        assert measured['images'] == 8
        assert measured['lost'] < 8
        times = measured['times']
        for name in ('node less pipeline', 'camera publishing', 'and back'):
            assert times[name][0] > 0
        assert times['less camera, too'][0] < times['node less pipeline'][0]
        assert times['message of 20 people'][1] >= times['message of 20 people'][0] > 0
        assert times['pipeline'][0] > 0
        assert times['plain subscription'][0] > 0
    assert 'node less pipeline' in done.stdout
    assert 'images lost' in done.stdout
    assert not re.findall('fast(?:dds|rtps)_[0-9a-z]{16}', done.stderr), 'it leaves no memory taken'


def test_a_node_that_cannot_start_is_explained(environment):
    command = [sys.executable, '-m', 'rmpe_ros.cli', 'benchmark', '--ros', '--detector', 'nonsense']
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 2
    assert "there is no model 'nonsense'" in done.stderr
    assert 'Traceback' not in done.stderr
