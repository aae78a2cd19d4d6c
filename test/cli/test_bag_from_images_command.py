# SPDX-License-Identifier: Apache-2.0
"""`rmpe bag-from-images`: stamps and pixels of photos in a bag, and photos that cannot be read."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.cli.main import main
from rmpe_ros.io.bags.frames import FRAMES_KEY
from rmpe_ros.io.bags.image_topic import find_image_topic
from rmpe_ros.io.bags.reader import Bag
from rmpe_ros.io.images import load_image
from rmpe_ros.io.messages import message_to_rgb

NAMES = ('b/second.png', 'first.jpg', 'a/third.webp')


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / 'photos'
    for index, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 30, 3), np.uint8)
        cv2.imwrite(str(folder / name), pixels)
    return folder


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    file = tmp_path / 'labels.json'
    images = [{'id': 5 + index, 'file_name': name} for index, name in enumerate(NAMES)]
    file.write_text(json.dumps({'images': images, 'annotations': []}))
    return file


def read(path: Path) -> list[tuple[int, int, str, np.ndarray]]:
    """Stamp and time of receiving in ns, frame_id and pixels."""
    with Bag(path) as bag:
        assert not bag.warnings
        found = []
        for item in bag.messages([find_image_topic(bag)]):
            header = item.message.header
            stamp = header.stamp.sec * 10**9 + header.stamp.nanosec
            found.append((stamp, item.received, header.frame_id, message_to_rgb(item.message)))
        return found


@pytest.mark.parametrize('options', [[], ['--storage', 'sqlite3'], ['--compressed']])
def test_labelled_photos_come_in_the_order_of_the_labels(
    photos, annotations, tmp_path, options, capsys
):
    arguments = [str(photos), '--annotations', str(annotations), '--out', str(tmp_path / 'bag')]
    arguments += ['--rate', '30', '--start', '1000.5', '--frame-id', 'eye', *options]
    assert main(['bag-from-images', *arguments]) == 0
    assert '3 photos on /image_raw' in capsys.readouterr().out
    stamps = [1_000_500_000_000, 1_000_533_333_333, 1_000_566_666_667]
    messages = read(tmp_path / 'bag')
    assert [message[:3] for message in messages] == [(each, each, 'eye') for each in stamps]
    for name, message in zip(NAMES, messages, strict=True):
        np.testing.assert_array_equal(message[3], load_image(photos / name))
    with Bag(tmp_path / 'bag') as bag:
        table = json.loads(bag.custom_data[FRAMES_KEY])
    assert table == dict(zip(map(str, stamps), NAMES, strict=True))


def test_compressed_photos_are_the_files_themselves(photos, annotations, tmp_path):
    out = tmp_path / 'bag'
    arguments = [str(photos), '--annotations', str(annotations), '--out', str(out), '--compressed']
    assert main(['bag-from-images', *arguments]) == 0
    with Bag(out) as bag:
        items = list(bag.messages(bag.topics))
    assert {item.topic for item in items} == {'/image_raw/compressed'}
    assert [item.message.format for item in items] == [
        *('rgb8; png compressed bgr8', 'rgb8; jpeg compressed bgr8', 'rgb8; png compressed bgr8')
    ]
    for name, item in list(zip(NAMES, items, strict=True))[:2]:
        assert bytes(item.message.data) == (photos / name).read_bytes()


def test_without_labels_photos_come_by_name(photos, tmp_path):
    (photos / '.hidden').write_text('')
    (photos / 'zebra.png').write_bytes((photos / NAMES[0]).read_bytes())
    assert main(['bag-from-images', str(photos), '--out', str(tmp_path / 'bag')]) == 0
    messages = read(tmp_path / 'bag')
    assert [message[0] for message in messages] == [1_577_836_800 * 10**9, 15_778_368_001 * 10**8]
    np.testing.assert_array_equal(messages[0][3], load_image(photos / 'first.jpg'))


def test_a_photo_that_cannot_be_read_leaves_its_stamp_free(photos, annotations, tmp_path, capsys):
    (photos / NAMES[1]).write_bytes(b'\xff\xd8 no more')
    out = tmp_path / 'bag'
    arguments = [str(photos), '--annotations', str(annotations), '--out', str(out), '--start', '7']
    assert main(['bag-from-images', *arguments]) == 1
    assert [message[0] for message in read(out)] == [7_000_000_000, 7_200_000_000]
    captured = capsys.readouterr()
    assert f'error: {photos / NAMES[1]}: truncated' in captured.err
    assert '2 photos on /image_raw at 10 Hz, 1 could not be read' in captured.out


def test_the_same_photos_are_the_same_bytes(photos, annotations, tmp_path):
    contents = []
    for run in ('one', 'two'):
        out = tmp_path / run / 'bag'
        arguments = [str(photos), '--annotations', str(annotations), '--out', str(out)]
        assert main(['bag-from-images', *arguments]) == 0
        contents.append({file.name: file.read_bytes() for file in out.iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2


def test_nothing_to_read(photos, annotations, tmp_path, capsys):
    empty, out = tmp_path / 'empty', tmp_path / 'bag'
    empty.mkdir()
    cases = {
        (str(tmp_path / 'none'),): 'none is not a folder',
        (str(empty),): f'{empty}: there are no photos in it',
        (str(empty), '--annotations', str(annotations)): 'not one photo could be read',
        (str(photos), '--annotations', str(photos / NAMES[0])): 'is not JSON',
    }
    for arguments, reason in cases.items():
        assert main(['bag-from-images', *arguments, '--out', str(out)]) == 2
        assert reason in capsys.readouterr().err
        assert {each.name for each in tmp_path.iterdir()} == {'photos', 'labels.json', 'empty'}


def test_an_existing_bag_is_kept(photos, tmp_path, capsys):
    (tmp_path / 'bag').write_text('precious')
    assert main(['bag-from-images', str(photos), '--out', str(tmp_path / 'bag')]) == 1
    assert 'bag: exists already; a bag is never overwritten' in capsys.readouterr().err
    assert (tmp_path / 'bag').read_text() == 'precious'


@pytest.mark.parametrize(
    'options', [['--rate', '0'], ['--rate', 'nan'], ['--start', '-1'], ['--start', '1e12']]
)
def test_impossible_numbers_are_wrong_usage(photos, tmp_path, options, capsys):
    with pytest.raises(SystemExit) as caught:
        main(['bag-from-images', str(photos), '--out', str(tmp_path / 'bag'), *options])
    assert caught.value.code == 2
    assert 'expected' in capsys.readouterr().err
