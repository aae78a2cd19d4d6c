# SPDX-License-Identifier: Apache-2.0
"""`rmpe replay`: every frame, the same bytes each time, and bags that are broken or foreign."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.cli.main import main
from rmpe_ros.core.clothes import clothes_colours
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.io.bags.message_types import IMAGE, POSES, SKELETON, bag_classes, bag_types
from rmpe_ros.io.bags.reader import Bag
from rmpe_ros.io.bags.writer import BagTopic, BagWriter
from rmpe_ros.io.messages import (
    make_header,
    message_to_poses,
    message_to_skeleton,
    rgb_to_compressed,
    rgb_to_image,
)
from rmpe_ros.pipeline import PosePipeline

STAMPS = [3_000_000_007, 5_000_000_000, 5_000_000_000, 4_000_000_000]
ROOT = Path(__file__).parents[2]
ARRAYS = ('keypoints', 'keypoint_scores', 'boxes', 'scores', 'track_ids')


@pytest.fixture(autouse=True)
def _test_models(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))


@pytest.fixture
def pictures(two_people: np.ndarray) -> list[np.ndarray]:
    """Two people, one, nobody, two: frames with stamps STAMPS, of which two are the same."""
    nobody = np.full((240, 320, 3), 20, np.uint8)
    return [two_people, two_people[:, :320], nobody, np.roll(two_people, 7, axis=1)]


Maker = Callable[..., Path]


@pytest.fixture
def camera_bag(tmp_path: Path, pictures: list[np.ndarray]) -> Maker:
    """Makes a bag with the pictures on each topic; received a second after their stamps."""

    def make(
        *topics: str,
        encoding: str = 'rgb8',
        storage: str = 'mcap',
        stamps: list[int] = STAMPS,
        frame_ids: Sequence[str] = ('eye',) * 4,
    ) -> Path:
        classes, types = bag_classes(), bag_types()
        kinds = [
            BagTopic(
                each, IMAGE.replace('Image', 'CompressedImage') if 'compressed' in each else IMAGE
            )
            for each in topics or ('/image_raw',)
        ]
        path = tmp_path / 'camera'
        with BagWriter(path, kinds, storage=storage, custom_data={'key': 'value'}) as bag:
            for stamp, picture, frame_id in zip(stamps, pictures, frame_ids, strict=True):
                header = make_header(stamp, frame_id, classes)
                for kind in kinds:
                    convert = rgb_to_image if kind.type == IMAGE else rgb_to_compressed
                    message = convert(picture, header, classes)
                    if kind.type == IMAGE:
                        message.encoding = encoding
                    data = types.serialize_cdr(message, kind.type)
                    bag.write(kind.name, stamp + 10**9, data)
        return path

    return make


def test_every_frame_gets_the_poses_of_the_pipeline(camera_bag, pictures, tmp_path, capsys):
    out = tmp_path / 'poses'
    assert main(['replay', str(camera_bag()), '--out', str(out)]) == 0
    assert capsys.readouterr().out == f'4 images of /image_raw, 5 people, poses in {out}\n'
    with Bag(out) as bag:
        assert bag.custom_data == {'key': 'value'}
        (skeleton,) = bag.messages(bag.topics_of(SKELETON))
        messages = list(bag.messages(bag.topics_of(POSES)))
        assert bag.contents().count('/') == 2 + 2 * 2
    assert message_to_skeleton(skeleton.message).keypoints == BODY19.keypoints
    assert skeleton.received <= messages[0].received
    # A bag is read in the order of receiving.
    order = np.argsort(STAMPS, kind='stable')
    with PosePipeline() as pipeline:
        for item, index in zip(messages, order, strict=True):
            header = item.message.header
            assert header.stamp.sec * 10**9 + header.stamp.nanosec == STAMPS[index]
            assert header.frame_id == 'eye'
            assert item.received == STAMPS[index] + 10**9
            assert (item.message.image_height, item.message.image_width) == pictures[index].shape[
                :2
            ]
            assert item.message.total_ms == 0
            expected = pipeline(pictures[index])
            found = message_to_poses(item.message, BODY19)
            for name in ARRAYS:
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
            if len(found):
                worn = clothes_colours(pictures[index], expected)
                np.testing.assert_array_equal(found.colours, worn)


@pytest.mark.parametrize(('storage', 'options'), [('mcap', []), ('sqlite3', ['--with-images'])])
def test_it_is_bit_identical_from_run_to_run(camera_bag, tmp_path, storage, options):
    source, contents = camera_bag(storage=storage), []
    for run in ('one', 'two'):
        out = tmp_path / run / 'poses'
        command = ['replay', str(source), '--out', str(out), '--storage', storage, *options]
        # Processes of their own: nothing is shared but the files.
        done = subprocess.run(
            [sys.executable, '-m', 'rmpe_ros.cli', *command], cwd=ROOT, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        contents.append({file.name: file.read_bytes() for file in out.iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2
    with Bag(out) as bag:
        assert len(bag.topics_of(IMAGE)) == bool(options)


def test_people_are_detected_in_every_nth_image(camera_bag, pictures, tmp_path, capsys):
    """Somebody new is found at the next detection, and the others are followed until then."""
    pictures[:] = [pictures[0].copy(), pictures[0], pictures[0], pictures[0]]
    pictures[0][:, 320:] = 20
    bag = camera_bag(stamps=[index * 10**8 for index in range(4)])
    for every, people in ((1, 7), (2, 6), (3, 5)):
        out = tmp_path / f'poses-{every}'
        assert main(['replay', str(bag), '--out', str(out), '--detect-every', str(every)]) == 0
        assert f'4 images of /image_raw, {people} people' in capsys.readouterr().out


def test_images_of_another_frame_id_are_detected_in_at_once(camera_bag, pictures, tmp_path, capsys):
    """Nobody can be followed from one photo of `rmpe demo` to the next one."""
    pictures[:] = [pictures[0].copy(), pictures[0], pictures[0], pictures[0]]
    pictures[0][:, 320:] = 20
    bag = camera_bag(stamps=[index * 10**8 for index in range(4)], frame_ids='abbb')
    command = ['replay', str(bag), '--out', str(tmp_path / 'poses'), '--detect-every', '3']
    assert main(command) == 0
    assert '4 images of /image_raw, 7 people' in capsys.readouterr().out


def test_images_are_copied_as_they_are(camera_bag, tmp_path):
    source = camera_bag('/eye/compressed')
    assert main(['replay', str(source), '--out', str(tmp_path / 'out'), '--with-images']) == 0
    copies = []
    for path in (source, tmp_path / 'out'):
        with Bag(path) as bag:
            topics = [each for each in bag.topics if each.name == '/eye/compressed']
            copies.append([(each.received, each.data) for each in bag.messages(topics)])
    assert copies[0] == copies[1]
    assert len(copies[0]) == 4


@pytest.mark.parametrize(
    ('topics', 'options', 'chosen'),
    [
        (['/front/image'], [], '/front/image'),
        (['/depth', '/image_raw'], [], '/image_raw'),
        (['/left', '/right'], ['--image-topic', 'right'], '/right'),
        (['/left', '/right'], [], None),
        (['/left'], ['--image-topic', '/middle'], None),
    ],
)
def test_the_image_topic(camera_bag, tmp_path, topics, options, chosen, capsys):
    code = main(['replay', str(camera_bag(*topics)), '--out', str(tmp_path / 'out'), *options])
    captured = capsys.readouterr()
    assert code == (0 if chosen else 2)
    assert (f'4 images of {chosen},' in captured.out) == bool(chosen)
    if not chosen:
        assert all(topic in captured.err for topic in topics)
        assert not (tmp_path / 'out').exists()


def test_images_of_an_unknown_encoding_are_left_out(camera_bag, tmp_path, pictures, capsys):
    assert main(['replay', str(camera_bag(encoding='16SC7')), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert 'not one image on /image_raw can be used' in error
    assert "'16SC7' is not a colour or grey image" in error
    assert not (tmp_path / 'out').exists()


def test_some_images_that_cannot_be_used_are_counted(camera_bag, tmp_path, capsys):
    source = camera_bag(storage='sqlite3')
    file = source / 'camera.db3'
    data = file.read_bytes()
    place = data.index(b'rgb8', data.index(b'eye'))
    file.write_bytes(data[:place] + b'rgb9' + data[place + 4 :])
    assert main(['replay', str(source), '--out', str(tmp_path / 'out')]) == 1
    captured = capsys.readouterr()
    assert "1 images left out: encoding 'rgb9' is not" in captured.err
    assert captured.out.startswith('3 images of /image_raw')


def test_a_cut_bag_is_replayed_as_far_as_it_goes(camera_bag, tmp_path, capsys):
    source = camera_bag(storage='mcap')
    (file,) = (each for each in source.iterdir() if each.name != 'metadata.yaml')
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.7)])
    assert main(['replay', str(source), '--out', str(tmp_path / 'out')]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f'rmpe replay: warning: {file} is damaged')
    assert 'Traceback' not in captured.err
    count = int(captured.out.split()[0])
    assert 1 <= count < 4
    with Bag(tmp_path / 'out') as bag:
        assert bag.topics_of(POSES)[0].count == count


def test_a_foreign_bag_is_refused(tmp_path, capsys):
    kind = 'std_msgs/msg/String'
    with BagWriter(tmp_path / 'bag', [BagTopic('/chatter', kind)]) as bag:
        bag.write('/chatter', 1, bag_types().serialize_cdr(bag_types().types[kind]('hi'), kind))
    for options, reason in {
        (): 'has no images; in it are: /chatter (std_msgs/msg/String, 1)',
        ('--image-topic', '/chatter'): '1 messages of type std_msgs/msg/String; expected',
    }.items():
        command = ['replay', str(tmp_path / 'bag'), '--out', str(tmp_path / 'out'), *options]
        assert main(command) == 2
        assert reason in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ['bag']


def test_ctrl_c_leaves_no_bag(tmp_path, two_people):
    photos = tmp_path / 'photos'
    photos.mkdir()
    png = cv2.imencode('.png', two_people)[1].tobytes()
    for index in range(150):
        (photos / f'{index:03}.png').write_bytes(png)
    source = tmp_path / 'source'
    assert main(['bag-from-images', str(photos), '--out', str(source), '--compressed']) == 0
    process = subprocess.Popen(
        [sys.executable, '-m', 'rmpe_ros.cli', 'replay', source, '--out', tmp_path / 'out'],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob('.out.*/out/out.mcap')) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == 'rmpe: interrupted\n'
    assert sorted(each.name for each in tmp_path.iterdir()) == ['photos', 'source']


def test_odd_and_damaged_jpegs_are_told(
    tmp_path: Path, two_people: np.ndarray, capsys: pytest.CaptureFixture
) -> None:
    classes, types = bag_classes(), bag_types()
    kind = IMAGE.replace('Image', 'CompressedImage')
    whole = cv2.imencode('.jpg', two_people)[1]
    cuts = [whole, whole[:-2], np.concatenate([whole[: len(whole) // 2], whole[-2:]])]
    with BagWriter(tmp_path / 'camera', [BagTopic('/image_raw', kind)]) as bag:
        for number, data in enumerate(cuts):
            header = make_header(STAMPS[0] + number, 'eye', classes)
            message = classes.compressed_image(
                header=header, format='jpeg', data=classes.pack(data.reshape(-1))
            )
            bag.write('/image_raw', STAMPS[0] + number, types.serialize_cdr(message, kind))
    out = tmp_path / 'out'
    assert main(['replay', str(tmp_path / 'camera'), '--out', str(out)]) == 1
    error = capsys.readouterr().err
    assert 'warning: 1 images: has no end marker, but is whole' in error
    assert '1 images left out' in error and 'a part of the picture is lost' in error
    with Bag(out) as replayed:
        people = [len(each.message.people) for each in replayed.messages(replayed.topics_of(POSES))]
    assert people == [2, 2]
    assert main(['replay', str(out), '--out', str(tmp_path / 'more')]) == 2
