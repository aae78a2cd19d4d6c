# SPDX-License-Identifier: Apache-2.0
"""A bag appears whole or not at all, and looks like those of `ros2 bag record`."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rosbags.highlevel import AnyReader

from rmpe_ros.io.bags.frames import frame_stamp, frames_from_custom_data, frames_to_custom_data
from rmpe_ros.io.bags.message_types import IMAGE, POSES, SKELETON, bag_types, message_folder
from rmpe_ros.io.bags.reader import Bag
from rmpe_ros.io.bags.writer import BagTopic, BagWriter

from .conftest import image

TOPICS = [BagTopic('/image_raw', IMAGE), BagTopic('/skeleton', SKELETON, latched=True)]


def fill(bag: BagWriter, count: int = 3) -> None:
    for index in range(count):
        bag.write('/image_raw', index, bag_types().serialize_cdr(image(index), IMAGE))


def test_the_layout_is_that_of_ros2_bag(tmp_path, storage):
    with BagWriter(
        tmp_path / 'deep' / 'bag', TOPICS, storage=storage, custom_data={'a': 'b: c'}
    ) as bag:
        fill(bag)
        assert not (tmp_path / 'deep' / 'bag').exists()
    assert [each.name for each in (tmp_path / 'deep').iterdir()] == ['bag']
    info = yaml.safe_load((tmp_path / 'deep' / 'bag' / 'metadata.yaml').read_text())
    info = info['rosbag2_bagfile_information']
    assert info['storage_identifier'] == storage
    assert info['message_count'] == 3
    assert info['custom_data'] == {'a': 'b: c'}
    name = 'bag.mcap' if storage == 'mcap' else 'bag.db3'
    assert info['relative_file_paths'] == [name]
    assert (tmp_path / 'deep' / 'bag' / name).is_file()
    with AnyReader([tmp_path / 'deep' / 'bag']) as reader:
        definitions = {each.topic: each.msgdef.data for each in reader.connections}
        durability = {
            each.topic: each.ext.offered_qos_profiles[0].durability.name
            for each in reader.connections
        }
    assert 'float32[] sigmas' in definitions['/skeleton']
    assert durability == {'/image_raw': 'VOLATILE', '/skeleton': 'TRANSIENT_LOCAL'}


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_nothing(tmp_path, storage, error):
    with pytest.raises(error), BagWriter(tmp_path / 'bag', TOPICS, storage=storage) as bag:
        fill(bag, 60)
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_bag_is_never_overwritten(tmp_path):
    with BagWriter(tmp_path / 'bag', TOPICS) as bag:
        fill(bag)
    with pytest.raises(OSError, match='exists already'):
        BagWriter(tmp_path / 'bag', TOPICS)
    with Bag(tmp_path / 'bag') as kept:
        assert kept.topics_of(IMAGE)[0].count == 3
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    with pytest.raises(OSError, match='exists already'):
        BagWriter(tmp_path / 'link', TOPICS)


def test_a_bag_that_appears_meanwhile_is_kept(tmp_path, storage):
    with (
        pytest.raises(OSError, match='exists already'),
        BagWriter(tmp_path / 'bag', TOPICS, storage=storage) as bag,
    ):
        fill(bag)
        (tmp_path / 'bag').mkdir()
    assert [each.name for each in tmp_path.iterdir()] == ['bag']


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='the bag cannot be written') as caught:
        BagWriter(tmp_path / 'file' / 'bag', TOPICS)
    assert caught.value.filename == str(tmp_path / 'file' / 'bag')


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, storage):
    """The kernel refuses to let any file grow beyond 3 MB, as a full disk would."""
    photos = tmp_path / 'photos'
    photos.mkdir()
    import cv2

    for index in range(12):
        cv2.imwrite(str(photos / f'{index}.png'), image(index, size=360).data.reshape(360, 360, 3))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    command = [sys.executable, '-m', 'rmpe_ros.cli', 'bag-from-images', photos, '--out']
    done = subprocess.run(
        [*map(str, command), str(tmp_path / 'bag'), '--storage', storage],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 1
    assert f'{tmp_path / "bag"}: the bag cannot be written: ' in done.stderr
    assert 'Traceback' not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ['photos']


def test_our_definitions_are_found_in_an_install_too(tmp_path):
    # The source tree comes first; a prefix is found when there is none.
    assert message_folder({}) == Path(__file__).resolve().parents[3] / 'msg'
    assert 'people' in [field[0] for field in bag_types().fielddefs[POSES][1]]


def test_the_table_of_frames_goes_through_metadata(tmp_path):
    frames = {frame_stamp(i, rate=30, start=5): f'folder/ä {i}.jpg' for i in range(3)}
    assert list(frames) == [5_000_000_000, 5_033_333_333, 5_066_666_667]
    with BagWriter(tmp_path / 'bag', TOPICS, custom_data=frames_to_custom_data(frames)) as bag:
        fill(bag)
    with Bag(tmp_path / 'bag') as written:
        assert frames_from_custom_data(written.custom_data) == frames
    assert frames_from_custom_data({}) is None
    with pytest.raises(ValueError, match='no JSON object'):
        frames_from_custom_data({'rmpe_ros.frames': '[1]'})
