# SPDX-License-Identifier: Apache-2.0
"""`rmpe evaluate-bag`: accuracy, latency and losses of recorded poses, in every kind of bag."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('pycocotools')

from rmpe_ros.cli.main import main
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17, Skeleton
from rmpe_ros.io.bags.message_types import IMAGE, POSES, SKELETON, bag_classes, bag_types
from rmpe_ros.io.bags.reader import Bag
from rmpe_ros.io.bags.writer import BagTopic, BagWriter
from rmpe_ros.io.messages import make_header, rgb_to_image, skeleton_to_message
from rmpe_ros.io.pose_messages import poses_to_message
from rmpe_ros.pipeline import PosePipeline

PHOTOS = 6
START = 1_577_836_800_000  # ms
TIMES = {'detect': 5.0, 'crop': 1.0, 'estimate': 2.0, 'nms': 0.5, 'total': 9.0}


@pytest.fixture(autouse=True)
def _test_models(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))


@pytest.fixture
def photos(tmp_path: Path, two_people: np.ndarray) -> Path:
    folder = tmp_path / 'photos'
    folder.mkdir()
    for index in range(PHOTOS):
        cv2.imwrite(str(folder / f'{index}.png'), np.roll(two_people, 9 * index, axis=1))
    return folder


@pytest.fixture
def answers(photos: Path) -> list[Poses]:
    """The poses that the pipeline finds in each photo: two people."""
    with PosePipeline() as pipeline:
        found = [
            pipeline(cv2.imread(str(photos / f'{index}.png'))[:, :, ::-1].copy())
            for index in range(PHOTOS)
        ]
    assert [len(poses) for poses in found] == [2] * PHOTOS
    return found


@pytest.fixture
def annotations(tmp_path: Path, answers: list[Poses]) -> Path:
    """Labels that are the pipeline's own answers: whatever is answered is right."""
    people = []
    for index, poses in enumerate(answers):
        for result in poses.to_coco_results(10 + index):
            joints = np.array(result['keypoints']).reshape(-1, 3)
            joints[:, 2] = 2
            area = result['bbox'][2] * result['bbox'][3]
            people.append({**result, 'keypoints': joints.ravel().tolist(), 'area': area})
            del people[-1]['score']
            people[-1] |= {'id': len(people), 'iscrowd': 0}
    images = [{'id': 10 + index, 'file_name': f'{index}.png'} for index in range(PHOTOS)]
    file = tmp_path / 'labels.json'
    file.write_text(json.dumps({'images': images, 'annotations': people}))
    return file


Recorder = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path, answers: list[Poses], photos: Path) -> Recorder:
    """Makes a bag as `ros2 bag record` does, of (frame, stamp in ms, latency in ms)."""

    def make(
        *frames: tuple[int, float, float],
        storage: str = 'mcap',
        images: bool = False,
        skeleton: Skeleton = BODY19,
        latched: bool = True,
        frame_id: str = 'camera',
    ) -> Path:
        classes, types = bag_classes(), bag_types()
        topics = [BagTopic('/poses', POSES), BagTopic('/skeleton', SKELETON, latched=True)]
        topics += [BagTopic('/image_raw', IMAGE)] * images
        path = tmp_path / 'recorded'
        with BagWriter(path, topics, storage=storage) as bag:
            if latched:
                message = skeleton_to_message(skeleton, make_header(0, '', classes), classes)
                bag.write('/skeleton', 1, types.serialize_cdr(message, SKELETON))
            for index, stamp_ms, latency_ms in frames:
                stamp = round(stamp_ms * 1000) * 1000
                header = make_header(stamp, frame_id.format(index), classes)
                if images:
                    picture = np.zeros((4, 4, 3), np.uint8)
                    data = types.serialize_cdr(rgb_to_image(picture, header, classes), IMAGE)
                    bag.write('/image_raw', stamp, data)
                poses = answers[index].to_skeleton(COCO17)
                poses = answers[index] if skeleton.num_keypoints == 19 else poses
                message = poses_to_message(
                    poses, header, classes, image_size=(480, 640), timings=TIMES
                )
                message.skeleton = skeleton.name
                data = types.serialize_cdr(message, POSES)
                bag.write('/poses', stamp + round(latency_ms * 1e6), data)
        return path

    return make


def evaluate(bag: Path, annotations: Path, *options: str) -> tuple[int, dict]:
    out = annotations.parent / 'report.json'
    out.unlink(missing_ok=True)
    command = ['evaluate-bag', str(bag), '--annotations', str(annotations), '--json', str(out)]
    code = main([*command, *options])
    return code, json.loads(out.read_text()) if out.exists() else {}


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_recording_with_losses(record, annotations, storage, capsys):
    """Of six frames, 1 and 4 are lost, 3 comes late, 0 comes twice, and one is of no photo."""
    frames = [(0, START, 10), (0, START, 15), (2, START + 200, 12), (3, START + 300, 130)]
    frames += [(5, START + 500, 14), (5, START + 550, 11)]
    page = annotations.parent / 'page.html'
    bag = record(*frames, storage=storage)
    code, report = evaluate(bag, annotations, '--html', str(page))
    assert code == 0
    text = page.read_text()
    assert 'stamp to receiving' in text and '<rect' in text and 'OKS AP' in text
    assert report['frames'] == {
        'labelled': 6,
        'recorded': None,
        'answered': 4,
        'dropped': 2,
        'late': 1,
        'duplicate': 1,
        'unmatched': 1,
        'broken': 0,
    }
    assert report['deadline_ms'] == 100
    assert report['latency_ms'] == pytest.approx({'p50': 13, 'p95': 112.6, 'max': 130})
    assert report['stages_ms']['pose'] == {'p50': 3, 'p95': 3, 'max': 3}
    assert report['stages_ms']['total']['p50'] == 9
    # Four of six pictures' people are found, and those exactly.
    assert report['oks']['AR'] == pytest.approx(4 / 6)
    assert report['oks']['mean'] == pytest.approx(4 / 6, abs=1e-4)
    assert report['pck']['mean'] == pytest.approx(4 / 6)
    assert report['answered_only']['oks']['AP'] == pytest.approx(1)
    assert report['answered_only']['pck']['mean'] == 1
    output = capsys.readouterr().out
    assert 'stamps 1577836800 + i / 10 s in the order of the annotations' in output
    assert 'stamp to receiving  13.0  112.6  130.0' in output
    assert 'Without the 2 dropped frames: OKS AP 1.000' in output


def test_replayed_poses_of_a_labelled_folder_are_right(photos, annotations, tmp_path, capsys):
    """The whole way: photos → bag → poses → evaluation; the labels are the pipeline's answers."""
    bags = [str(tmp_path / name) for name in ('images', 'poses')]
    options = ['--annotations', str(annotations), '--rate', '17', '--start', '42']
    assert main(['bag-from-images', str(photos), *options, '--out', bags[0]]) == 0
    assert main(['replay', bags[0], '--out', bags[1]]) == 0
    code, report = evaluate(Path(bags[1]), annotations)
    assert code == 0
    assert report['frames']['answered'] == 6
    assert report['frames']['late'] is None
    assert report['oks']['AP'] == pytest.approx(1)
    assert report['oks']['mean'] == pytest.approx(1, abs=1e-4)
    assert report['matched_by'] == 'the table in the bag'
    assert report['latency_ms'] is None
    assert 'rmpe replay, which has no clock' in report['latency_problem']


def test_stamps_are_explained_by_the_bag_that_was_played(
    record, photos, annotations, tmp_path, capsys
):
    played = tmp_path / 'played'
    options = ['--annotations', str(annotations), '--rate', '4', '--out', str(played)]
    assert main(['bag-from-images', str(photos), *options]) == 0
    bag = record(*((index, START + 250 * index, 10) for index in range(PHOTOS)))
    assert evaluate(bag, annotations, '--frames', str(played))[1]['frames']['answered'] == 6
    assert evaluate(bag, annotations, '--rate', '4')[1]['frames']['answered'] == 6
    assert evaluate(bag, annotations)[1]['frames']['unmatched'] > 0
    assert evaluate(bag, annotations, '--start', '5')[0] == 2
    assert 'not one of 6 poses is of a labelled frame' in capsys.readouterr().err
    assert evaluate(bag, annotations, '--frames', str(bag))[0] == 2
    assert 'does not say which picture a stamp is of' in capsys.readouterr().err


def test_frame_ids_that_name_pictures_are_enough(record, annotations):
    now = 1_800_000_000_000
    frames = [(index, now + 33.5 * index, 20) for index in range(PHOTOS)]
    code, report = evaluate(record(*frames, frame_id='{}.png', images=True), annotations)
    assert code == 0
    assert report['matched_by'].startswith('frame_ids')
    assert report['frames']['recorded'] == report['frames']['answered'] == 6
    assert report['deadline_ms'] == pytest.approx(33.5)
    assert report['oks']['AP'] == pytest.approx(1)


def test_unrelated_clocks_give_no_latency(record, annotations, capsys):
    frames = [(index, START + 100 * index, 5e9) for index in range(PHOTOS)]
    code, report = evaluate(record(*frames), annotations)
    assert code == 0
    assert report['latency_ms'] is None
    assert report['frames']['late'] is None
    assert 'use_sim_time' in capsys.readouterr().out


def test_the_bag_explains_a_skeleton_that_nobody_knows(record, annotations, capsys):
    strange = Skeleton('strange', COCO17.keypoints, COCO17.edges, COCO17.flip_pairs, COCO17.sigmas)
    frames = [(index, START + 100 * index, 10) for index in range(PHOTOS)]
    bag = record(*frames, skeleton=strange)
    assert evaluate(bag, annotations)[1]['oks']['AP'] == pytest.approx(1)
    for file in bag.iterdir():
        file.unlink()
    bag.rmdir()
    assert evaluate(record(*frames, skeleton=strange, latched=False), annotations)[0] == 2
    assert "skeleton 'strange' is not known, and the bag has no" in capsys.readouterr().err


def test_a_cut_recording_is_evaluated_as_far_as_it_goes(record, annotations, capsys):
    frames = [(index, START + 100 * index, 10) for index in range(PHOTOS)]
    bag = record(*frames)
    (file,) = (each for each in bag.iterdir() if each.name != 'metadata.yaml')
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * 0.6)])
    (bag / 'metadata.yaml').unlink()
    code, report = evaluate(bag, annotations)
    captured = capsys.readouterr()
    assert code == 1
    assert 'is damaged' in captured.err
    assert 'has no metadata.yaml' in captured.err
    assert 0 < report['frames']['answered'] < 6
    assert report['answered_only']['oks']['AP'] == pytest.approx(1)


def test_what_cannot_be_evaluated_is_refused(record, annotations, photos, tmp_path, capsys):
    images = tmp_path / 'images'
    assert main(['bag-from-images', str(photos), '--out', str(images)]) == 0
    bag = record((0, START, 10))
    broken = tmp_path / 'broken.mcap'
    broken.write_bytes(b'nothing')
    cases = [
        (images, annotations, [], 'has no poses (rmpe_ros/msg/PersonPoseArray); in it are: /image'),
        (bag, annotations, ['--poses-topic', '/image_raw'], 'has no poses'),
        (bag, annotations, ['--image-topic', '/nowhere'], 'has no topic /nowhere'),
        (broken, annotations, [], f'{broken}: this is no mcap file'),
        (tmp_path / 'none', annotations, [], 'none does not exist'),
        (bag, tmp_path / 'none.json', [], 'none.json cannot be read'),
        (bag, broken, [], 'broken.mcap is not JSON'),
    ]
    for path, labels, options, reason in cases:
        assert evaluate(path, labels, *options) == (2, {})
        error = capsys.readouterr().err
        assert error.startswith('rmpe evaluate-bag: ')
        assert reason in error
        assert error.count('\n') == 1


def test_poses_that_make_no_sense_are_left_out(record, annotations, capsys):
    bag = record(*((index, START + 100 * index, 10) for index in range(PHOTOS)))
    with Bag(bag) as content:
        scores = [
            np.float32(item.message.people[0].score).tobytes()
            for item in content.messages(content.topics_of(POSES))
        ]
    file = bag / 'recorded.mcap'
    data = file.read_bytes()
    # Not a number for the score of the first person of the first frame.
    place = data.index(b'body19')
    place = data.index(scores[0], place)
    file.write_bytes(data[:place] + np.float32(np.nan).tobytes() + data[place + 4 :])
    code, report = evaluate(bag, annotations)
    assert code == 1
    assert report['frames']['broken'] == 1
    assert report['frames']['answered'] == 5
    assert '1 messages left out: scores must be finite' in capsys.readouterr().err
