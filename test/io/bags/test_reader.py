# SPDX-License-Identifier: Apache-2.0
"""Whole bags are read whole, damaged ones as far as they go, and what is no bag is refused."""

import os
import sqlite3
import struct
import zlib
from contextlib import closing
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.io.bags import zstandard
from rmpe_ros.io.bags.message_types import IMAGE, POSES, bag_classes, message_folder
from rmpe_ros.io.bags.reader import Bag
from rmpe_ros.io.bags.storage import BagError
from rmpe_ros.io.messages import make_header, message_to_poses
from rmpe_ros.io.pose_messages import poses_to_message

from .conftest import (
    MESSAGES,
    SECOND,
    STORAGES,
    cut,
    image,
    leave_journal,
    storage_file,
    text,
    write_bag,
)


def read_images(path: Path) -> tuple[list[int], Bag]:
    """The numbers of the pictures in a bag; their pixels and times must be right."""
    numbers = []
    with Bag(path) as bag:
        for item in bag.messages(bag.topics_of(IMAGE)):
            number = item.message.header.stamp.nanosec
            assert item.topic == '/image_raw'
            assert item.received == (200 + 2 * number) * SECOND
            np.testing.assert_array_equal(item.message.data, image(number).data)
            numbers.append(number)
    return numbers, bag


@pytest.mark.parametrize(
    ('storage', 'compression'),
    [
        ('mcap', CompressionMode.NONE),
        ('mcap', CompressionMode.STORAGE),
        ('mcap', CompressionMode.FILE),
        ('mcap', CompressionMode.MESSAGE),
        ('sqlite3', CompressionMode.NONE),
        ('sqlite3', CompressionMode.FILE),
        ('sqlite3', CompressionMode.MESSAGE),
    ],
)
@pytest.mark.parametrize('metadata', [True, False])
def test_every_way_of_recording_is_read_whole(images_bag, storage, compression, metadata):
    path = images_bag(storage, compression=compression)
    if not metadata:
        (path / 'metadata.yaml').unlink()
    numbers, bag = read_images(path)
    assert numbers == list(range(MESSAGES))
    assert not bag.damaged
    assert len(bag.warnings) == (not metadata)
    if compression == CompressionMode.FILE:  # no temporary file is left
        assert storage_file(path).suffix == '.zstd' or not metadata


def test_a_file_out_of_a_bag_is_a_bag(images_bag, storage):
    assert read_images(storage_file(images_bag(storage)))[0] == list(range(MESSAGES))


def test_files_of_a_split_recording_follow_one_another(tmp_path):
    folder = tmp_path / 'split'
    folder.mkdir()
    for number in (0, 1, 2, 10):  # by their names, 10 would come before 2
        part = write_bag(tmp_path / f'part{number}', [('/image_raw', image(number, size=4))])
        storage_file(part).rename(folder / f'split_{number}.mcap')
    with Bag(folder) as bag:
        stamps = [each.message.header.stamp.nanosec for each in bag.messages(bag.topics)]
    assert stamps == [0, 1, 2, 10]
    assert bag.topics[0].count == 4


@pytest.mark.parametrize(
    'content', ['', '{', '[1, 2]', 'rosbag2_bagfile_information: 3', '\0\xff', '[' * 1000]
)
def test_garbage_for_metadata_is_a_warning(images_bag, content):
    path = images_bag()
    (path / 'metadata.yaml').write_text(content, encoding='latin-1')
    numbers, bag = read_images(path)
    assert numbers == list(range(MESSAGES))
    assert 'metadata.yaml cannot be read' in bag.warnings[0]
    assert not bag.damaged


def test_a_listed_file_that_is_missing_is_damage(images_bag):
    path = images_bag()
    file = path / 'metadata.yaml'
    text = file.read_text()
    file.write_text(text.replace('- bag.mcap', '- bag.mcap\n  - bag_1.mcap'))
    numbers, bag = read_images(path)
    assert numbers == list(range(MESSAGES))
    assert bag.damaged
    assert 'bag_1.mcap: missing' in bag.warnings[0]


@pytest.mark.parametrize('compression', [CompressionMode.NONE, CompressionMode.STORAGE])
@pytest.mark.parametrize('share', [0.1, 0.37, 0.5, 0.93, 0.999])
def test_a_cut_mcap_gives_what_lies_before_the_cut(images_bag, compression, share):
    path = images_bag('mcap', compression=compression)
    cut(storage_file(path), share)
    numbers, bag = read_images(path)
    assert numbers == list(range(len(numbers)))
    # Messages are of one size, and even half a compressed chunk is not lost.
    assert len(numbers) >= int(share * MESSAGES) - (6 if compression else 1)
    assert bag.damaged
    assert 'is damaged' in bag.warnings[0]
    count = {topic.name: topic.count for topic in bag.topics}
    assert count['/image_raw'] == len(numbers)


def test_a_cut_database_is_refused_with_what_repairs_it(images_bag):
    path = images_bag('sqlite3')
    cut(storage_file(path), 0.5)
    with pytest.raises(BagError, match=r'no sqlite3 bag that can be read .*\.recover'):
        Bag(path)


def test_a_cut_compressed_file_gives_what_lies_before_the_cut(images_bag):
    path = images_bag('mcap', compression=CompressionMode.FILE)
    cut(storage_file(path), 0.6)
    numbers, bag = read_images(path)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 0.4 * MESSAGES
    assert bag.damaged


def test_the_journal_of_a_killed_recorder_is_not_overlooked(images_bag):
    path = images_bag('sqlite3')
    file = storage_file(path)
    leave_journal(file)
    with pytest.raises(BagError, match='journal') as caught:
        Bag(path)
    assert f'sqlite3 {file} "PRAGMA wal_checkpoint(TRUNCATE)"' in str(caught.value)
    with closing(sqlite3.connect(file)) as database:  # as the tool does it
        database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    assert read_images(path)[0] == list(range(MESSAGES))


def test_a_chunk_with_a_wrong_checksum_is_left_out(images_bag):
    path = images_bag('mcap')
    file = storage_file(path)
    data = bytearray(file.read_bytes())
    # Give every chunk its checksum, which rosbags does not write, and break the first one.
    position, chunks = 8, 0
    while position < len(data) - 8:
        opcode, length = struct.unpack_from('<BQ', data, position)
        if opcode == 6:
            start = position + 9 + 28 + 4 + 8
            checksum = zlib.crc32(data[start : position + 9 + length])
            struct.pack_into('<I', data, position + 9 + 24, checksum)
            data[start + 20_000] ^= 0 if chunks else 0xFF
            chunks += 1
        position += 9 + length
    assert chunks == 2
    file.write_bytes(data)
    numbers, bag = read_images(path)
    # The channels are known from the end of the file.
    assert numbers == list(range(numbers[0], MESSAGES))
    assert numbers[0] > 30
    assert 'checksum' in bag.warnings[0]


def test_a_broken_message_is_left_out_and_counted(images_bag, storage):
    path = images_bag(storage)
    file = storage_file(path)
    data = file.read_bytes()
    frame_id = b'\7\0\0\0camera\0'
    assert data.count(frame_id) == MESSAGES
    # The text of the fourth header becomes longer than the message.
    place = -1
    for _ in range(4):
        place = data.index(frame_id, place + 1)
    file.write_bytes(data[:place] + b'\xff\xff\xff\x7f' + data[place + 4 :])
    numbers, bag = read_images(path)
    assert numbers == [0, 1, 2, *range(4, MESSAGES)]
    assert bag.damaged
    assert bag.warnings[0].startswith('1 messages on /image_raw are broken')


@pytest.mark.parametrize('seed', range(30))
def test_random_damage_is_survived(tmp_path, storage, seed):
    """Whatever happens to a file, it is read as far as it goes or refused in a sentence."""
    rng = np.random.default_rng(seed)
    messages = [('/image_raw', image(number, size=8)) for number in range(20)]
    modes = [CompressionMode.NONE, CompressionMode.MESSAGE]
    modes += [CompressionMode.STORAGE] * (storage == 'mcap')
    path = write_bag(
        tmp_path / 'bag', messages, storage=storage, compression=modes[seed % len(modes)]
    )
    file = storage_file(path)
    data = bytearray(file.read_bytes())
    for _ in range(rng.integers(1, 12)):
        data[rng.integers(len(data))] = rng.integers(256)
    file.write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])
    try:
        with Bag(path) as bag:
            assert len(list(bag.messages(bag.topics_of(IMAGE)))) <= 20
    except BagError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ('name', 'content', 'reason'),
    [
        ('bag.mcap', b'', 'is empty: 0 bytes'),
        ('bag.db3', b'', 'is empty: 0 bytes'),
        ('bag.mcap', b'no bag at all' * 9, 'this is no mcap file'),
        ('bag.mcap', b'\x89MCAP0\r\n', 'not one whole message'),
        ('bag.db3', b'no bag at all' * 9, 'no sqlite3 bag that can be read'),
        ('bag.db3', b'SQLite format 3\0' + bytes(500), 'no sqlite3 bag that can be read'),
        ('bag.db3.zstd', b'no bag at all' * 9, 'is empty: 0 bytes'),
        ('bag.bag', b'#ROSBAG V2.0', 'a bag of ROS 1'),
        ('photo.jpg', b'\xff\xd8', 'is no bag'),
    ],
)
@pytest.mark.parametrize('in_folder', [True, False])
def test_what_is_no_bag_is_refused_by_name(tmp_path, name, content, reason, in_folder):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(BagError) as caught:
        Bag(tmp_path if in_folder else file)
    if in_folder and name in ('bag.bag', 'photo.jpg'):
        reason = 'no .mcap or .db3 file in it'
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_no_file_and_no_folder(tmp_path):
    with pytest.raises(BagError, match='does not exist'):
        Bag(tmp_path / 'nothing')


def test_a_bag_without_messages_is_empty(tmp_path, storage):
    path = write_bag(tmp_path / 'bag', [], storage=storage)
    with Bag(path) as bag:
        assert bag.contents() == 'nothing'
        assert list(bag.messages(bag.topics)) == []


def test_a_foreign_bag_says_what_is_in_it(tmp_path, storage):
    path = write_bag(tmp_path / 'bag', [('/chatter', text('hello'))] * 3, storage=storage)
    with Bag(path) as bag:
        assert bag.topics_of(IMAGE) == []
        assert bag.contents() == '/chatter (std_msgs/msg/String, 3)'


def test_a_type_of_the_same_name_but_other_fields_is_refused(tmp_path, storage):
    path = write_bag(tmp_path / 'bag', [('/image_raw', image(0, size=4))], storage=storage)
    file = storage_file(path)
    data = file.read_bytes()
    assert b'uint32 height' in data
    file.write_bytes(data.replace(b'uint32 height', b'uint64 height'))
    with (
        Bag(path) as bag,
        pytest.raises(BagError, match='another definition than here: height is missing'),
    ):
        list(bag.messages(bag.topics))


@pytest.mark.parametrize('storage', ['sqlite3', 'mcap'])
def test_poses_of_before_there_were_colours_are_read(tmp_path, storage):
    poses = Poses(BODY19, *(np.ones((2, *size)) for size in ((19, 2), (19,), (4,), ())))
    header = make_header(0, 'camera', bag_classes())
    message = poses_to_message(poses, header, bag_classes(), image_size=(480, 640))
    store = get_typestore(Stores.LATEST)
    for file in message_folder({}).glob('*.msg'):
        lines = [line for line in file.read_text().splitlines() if ' colours ' not in line]
        store.register(get_types_from_msg('\n'.join(lines), f'rmpe_ros/msg/{file.stem}'))
    old = store.types['rmpe_ros/msg/PersonPose']
    assert 'colours' not in old.__dataclass_fields__
    message.people = [
        old(track_id=each.track_id, score=each.score, box=each.box, keypoints=each.keypoints)
        for each in message.people
    ]
    path = tmp_path / 'bag'
    with Writer(path, version=9, storage_plugin=STORAGES[storage]) as writer:
        topic = writer.add_connection('/poses', POSES, typestore=store)
        writer.write(topic, 1, store.serialize_cdr(message, POSES))
    with Bag(path) as bag:
        (item,) = bag.messages(bag.topics)
    back = message_to_poses(item.message, BODY19)
    np.testing.assert_array_equal(back.keypoints, poses.keypoints)
    assert back.colours is None


def test_a_definition_that_makes_no_sense_is_replaced(tmp_path, storage):
    path = write_bag(tmp_path / 'bag', [('/image_raw', image(0, size=4))], storage=storage)
    file = storage_file(path)
    file.write_bytes(file.read_bytes().replace(b'uint32 height', b'!!int32(heigh'))
    with Bag(path) as bag:
        assert len(list(bag.messages(bag.topics))) == 1
    assert 'using ours' in bag.warnings[-1]


@pytest.mark.parametrize('known', [True, False])
@pytest.mark.parametrize(
    'statement',
    [
        "UPDATE message_definitions SET encoded_message_definition = ''",
        'DELETE FROM message_definitions',
        'UPDATE schema SET schema_version = 3',  # ROS 2 Humble: there is no such table then
    ],
)
def test_without_definitions_the_known_ones_serve(tmp_path, statement, known):
    path = write_bag(tmp_path / 'bag', [('/image_raw', image(0, size=4))], storage='sqlite3')
    with sqlite3.connect(storage_file(path)) as database:
        database.execute(statement)
        if not known:
            database.execute("UPDATE topics SET type = 'foreign_msgs/msg/Image'")
    (path / 'metadata.yaml').unlink()
    with Bag(path) as bag:
        if known:
            (item,) = bag.messages(bag.topics)
            np.testing.assert_array_equal(item.message.data, image(0, size=4).data)
            assert len(bag.warnings) == 1
        else:
            with pytest.raises(BagError, match='no usable definition of foreign_msgs/msg/Image'):
                list(bag.messages(bag.topics))


def test_reading_leaves_nothing_behind(images_bag, tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path / 'temporary'))
    monkeypatch.setattr('tempfile.tempdir', None)
    os.mkdir(tmp_path / 'temporary')
    read_images(images_bag('sqlite3', compression=CompressionMode.FILE))
    assert list((tmp_path / 'temporary').iterdir()) == []


@pytest.mark.parametrize('compression', ['zstd', 'lz4'])
def test_a_piece_is_unpacked_to_its_limit_only(compression):
    packed = {'zstd': zstandard.zstd.compress, 'lz4': lz4.frame.compress}[compression](bytes(9999))
    assert zstandard.decompress(packed, compression, limit=9999) == bytes(9999)
    with pytest.raises(zstandard.PieceError, match='becomes larger than'):
        zstandard.decompress(packed, compression, limit=9998)
    with pytest.raises(zstandard.PieceError, match='cut off'):
        zstandard.decompress(packed[:-3], compression)
    assert zstandard.decompress(packed * 2, compression) == bytes(2 * 9999)


def test_messages_that_become_too_large_are_left_out(images_bag, monkeypatch):
    path = images_bag('sqlite3', compression=CompressionMode.MESSAGE)
    monkeypatch.setattr(zstandard, 'LARGEST_PIECE', 20_000)
    numbers, bag = read_images(path)
    assert numbers == []
    assert 'messages on /image_raw are broken' in bag.warnings[-1]
    assert 'becomes larger than' in bag.warnings[-1]


def test_chunks_that_become_too_large_are_left_out(images_bag, monkeypatch):
    path = images_bag('mcap', compression=CompressionMode.STORAGE)
    monkeypatch.setattr(zstandard, 'LARGEST_PIECE', 20_000)
    monkeypatch.setattr('rmpe_ros.io.bags.salvage_mcap.LARGEST_PIECE', 20_000)
    numbers, bag = read_images(path)
    assert numbers == []
    assert bag.damaged
    assert any('becomes larger than' in warning for warning in bag.warnings)


def test_a_file_that_becomes_too_large_is_refused(images_bag, monkeypatch):
    path = images_bag('sqlite3', compression=CompressionMode.FILE)
    monkeypatch.setattr('rmpe_ros.io.bags.reader.LARGEST_PIECE', 1 << 20)
    monkeypatch.setattr('rmpe_ros.io.bags.reader._MOST_PACKED', 0)
    with pytest.raises(BagError, match='becomes larger than 1 MiB; it is not unpacked'):
        Bag(path)
