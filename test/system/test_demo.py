# SPDX-License-Identifier: Apache-2.0
"""`rmpe demo` from start to end, and its ways to fail."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.cli.main import main
from rmpe_ros.cli.processes.demo import DemoError, prepare_folder
from rmpe_ros.io.bags.content import read_bag
from rmpe_ros.io.images import load_image

from .conftest import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(environment, tmp_path):
    """Start `rmpe demo` with these arguments in an empty folder; everything it starts is marked."""
    mark = f'RMPE_TEST_MARK={uuid.uuid4()}'
    name, _, value = mark.partition('=')
    started = []

    def start(*arguments, code='from rmpe_ros.cli.main import main; sys.exit(main())', **variables):
        # A domain of its own: the demo chooses one.
        chosen = {key: each for key, each in environment.items() if key != 'ROS_DOMAIN_ID'}
        process = subprocess.Popen(
            [sys.executable, '-c', f'import sys; {code}', 'demo', *map(str, arguments)],
            cwd=tmp_path,
            env={**chosen, name: value, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    start.mark = mark
    yield start
    for process in started:
        process.kill()
        process.wait()


def marked_processes(mark):
    """Ids of the running processes that inherited the mark."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            if mark.encode() in (folder / 'environ').read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def photos(tmp_path, two_people):
    folder = tmp_path / 'photos'
    folder.mkdir()
    cv2.imwrite(str(folder / 'two.png'), two_people)
    cv2.imwrite(str(folder / 'one.jpg'), two_people[:, :320])
    cv2.imwrite(str(folder / 'nobody.jpg'), np.full((200, 300, 3), 30, np.uint8))
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 no more')
    return folder


# On a busy machine the recorder is slow to take images, which has to be waited for, and finds the
# pictures late, as visualizer_node does the poses: before that no image may come.
BUSY_RECORDER = """
import threading
import time
from rclpy.node import Node
from rmpe_ros.cli.main import main
from rmpe_ros.cli.processes.demo_recorder import DemoRecorder

subscribe, note = Node.create_subscription, DemoRecorder._on_image

def create_subscription(self, kind, topic, *rest, **options):
    if topic == 'poses/image':
        threading.Timer(5, subscribe, (self, kind, topic, *rest), options).start()
    else:
        return subscribe(self, kind, topic, *rest, **options)

DemoRecorder.create_subscription = create_subscription
DemoRecorder._on_image = lambda self, image: (time.sleep(0.5), note(self, image))
sys.exit(main())
"""
BUSY_VISUALIZER = """
import sys
import threading

if 'rmpe_ros.nodes.visualizer_node' in sys.orig_argv:
    from rmpe_ros.nodes.inputs.pose_topics import PoseTopics

    subscribe = PoseTopics.subscribe

    def late(self, topic, callback, *, depth):
        threading.Timer(5, subscribe, (self, topic, callback), {'depth': depth}).start()

    PoseTopics.subscribe = late
"""


def busy_machine(folder, environment):
    """Options of a demo as there."""
    (folder / 'late').mkdir()
    (folder / 'late' / 'sitecustomize.py').write_text(BUSY_VISUALIZER)
    paths = f'{folder / "late"}{os.pathsep}{environment["PYTHONPATH"]}'
    return {'code': BUSY_RECORDER, 'PYTHONPATH': paths}


def test_photos_become_pictures_a_bag_and_a_table(demo, photos, environment, tmp_path):
    busy = busy_machine(tmp_path, environment)
    for options in (busy, {}):  # the second run replaces what the first one left
        process = demo('--source', photos, '--out', 'out', **options)
        output, _ = process.communicate(timeout=3 * PATIENCE)
        assert process.returncode == 0, output
        assert 'problem' not in output
        bag = read_bag(tmp_path / 'out' / 'bag')
        assert (bag.counts['/image_raw'], bag.counts['/poses']) == (9, 9)
        assert len(list((tmp_path / 'out' / 'pictures').iterdir())) == 3
    table = {line.split()[0]: line.split()[1:4] for line in output.splitlines() if line.strip()}
    assert table['two.png'][:2] == ['3', '2']
    assert table['one.jpg'][:2] == ['3', '1']
    assert table['nobody.jpg'] == ['3', '0', '0.00']
    assert 'skipped' in output
    assert 'broken.jpg' in output

    pictures = {path.name: load_image(path) for path in (tmp_path / 'out/pictures').iterdir()}
    assert sorted(pictures) == ['nobody.jpg', 'one.jpg', 'two.png']
    assert (pictures['two.png'] != load_image(photos / 'two.png')).any()

    assert set(bag.counts) == {'/image_raw', '/poses', '/skeleton'}
    assert set(bag.headers['/poses']) <= set(bag.headers['/image_raw'])
    people = {key[2]: count for key, count in bag.people.items()}
    assert people == {'two.png': 2, 'one.jpg': 1, 'nobody.jpg': 0}
    assert 'Report: out/report.html' in output
    report = (tmp_path / 'out' / 'report.html').read_text()
    assert report.count('"picture":') == 9 and 'rmpe report: demo' in report
    assert marked_processes(demo.mark) == []


def test_a_video_is_answered_frame_by_frame(demo, two_people, tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10.0, (640, 480)
    )
    for shift in range(9):
        writer.write(np.roll(two_people, 4 * shift, axis=1))
    writer.release()
    process = demo('--source', 'clip.avi', '--max-images', '7')
    output, _ = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, output
    bag = read_bag(tmp_path / 'out' / 'bag')
    assert bag.counts['/poses'] == 7
    assert set(bag.people.values()) == {2}
    assert '7 frames answered' in output


def test_a_child_that_dies_is_named_with_its_last_words(demo, photos, tmp_path):
    (tmp_path / 'corrupt.onnx').write_bytes(b'nothing' * 100)
    process = demo('--source', photos, '--detector', tmp_path / 'corrupt.onnx')
    output, _ = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 1
    assert 'pose_node ended with exit code 1' in output
    assert 'corrupt.onnx cannot be loaded' in output
    assert 'Traceback' not in output
    assert marked_processes(demo.mark) == []


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM', 'SIGHUP'])
def test_signals_end_all_children(demo, photos, tmp_path, name):
    process = demo('--source', photos)
    log = tmp_path / 'out' / 'log' / 'pose_node.log'
    deadline = time.monotonic() + PATIENCE
    while not (log.exists() and 'ready' in log.read_text()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    assert len(marked_processes(demo.mark)) == 4
    process.send_signal(signal.Signals[name])
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, output
    assert 'Traceback' not in output
    assert marked_processes(demo.mark) == []
    assert not list((tmp_path / 'out').glob('.bag.*'))


def test_children_do_not_outlive_a_killed_demo(demo, photos, tmp_path):
    process = demo('--source', photos)
    deadline = time.monotonic() + PATIENCE
    while len(marked_processes(demo.mark)) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    while marked_processes(demo.mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_ros_it_says_what_to_do(photos, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert main(['demo', '--source', str(photos)]) == 1
    error = capsys.readouterr().err
    assert 'make demo' in error
    assert 'setup.bash' in error


def test_the_source_is_not_taken_for_an_earlier_result(photos, tmp_path, monkeypatch, capsys):
    photos.rename(tmp_path / 'pictures')
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / 'pictures').iterdir()}
    assert main(['demo', '--source', 'pictures', '--out', '.']) == 2
    assert '--out would replace' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / 'pictures').iterdir()} == before


def test_a_missing_source(capsys):
    assert main(['demo', '--source', 'nowhere']) == 1
    assert 'source nowhere does not exist' in capsys.readouterr().err


def test_a_strangers_folder_is_left_alone(tmp_path):
    (tmp_path / 'bag').mkdir()
    precious = tmp_path / 'bag' / 'precious.txt'
    precious.write_text('mine')
    with pytest.raises(DemoError, match='not a bag of the demo'):
        prepare_folder(tmp_path)
    assert precious.read_text() == 'mine'
