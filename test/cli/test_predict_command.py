# SPDX-License-Identifier: Apache-2.0
"""`rmpe predict` on real files: results, broken inputs, interruptions and full disks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.cli.main import main
from rmpe_ros.io.images import iter_images


@pytest.fixture(autouse=True)
def _test_models(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))


@pytest.fixture
def photos(tmp_path: Path, two_people: np.ndarray) -> Path:
    """A folder with one photo of two people and one of nobody."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    cv2.imwrite(str(folder / 'two.png'), two_people)
    cv2.imwrite(str(folder / 'none.jpg'), np.zeros((480, 640, 3), np.uint8))
    return folder


def test_folder_to_json_and_pictures(
    photos: Path, tmp_path: Path, two_people: np.ndarray, capsys: pytest.CaptureFixture
) -> None:
    out, results = tmp_path / 'deep' / 'out', tmp_path / 'results' / 'poses.json'
    assert main(['predict', str(photos), '--out', str(out), '--json', str(results)]) == 0
    people = json.loads(results.read_text())
    assert [person['image_id'] for person in people] == ['two.png', 'two.png']
    assert [len(person['keypoints']) for person in people] == [51, 51]
    np.testing.assert_allclose(people[0]['bbox'], [50, 60, 50, 150], atol=0.01)
    assert sorted(path.name for path in out.iterdir()) == ['none.jpg', 'two.png']
    drawn = cv2.imread(str(out / 'two.png'))
    assert (drawn != two_people).any()
    summary = capsys.readouterr().out
    assert summary.startswith('2 images, 2 people, ')
    assert 'ms per image (p50)' in summary


def test_without_outputs_it_names_the_people(photos: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['predict', str(photos)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ['none.jpg: 0 people', 'two.png: 2 people']


def test_a_photo_needs_no_slow_imports(photos: Path, tmp_path: Path) -> None:
    """Half of a first pose's time are imports, and these creep in unseen."""
    code = (
        'import sys; from rmpe_ros.cli.main import main; status = main(sys.argv[1:]); '
        'print(*{"numpy.random", "numpy.ma", "statistics", "difflib", "onnx", "torch", "scipy"} '
        '& sys.modules.keys()); sys.exit(status)'
    )
    arguments = ['predict', str(photos / 'two.png'), '--json', str(tmp_path / 'poses.json')]
    result = subprocess.run(
        [sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == ''


def test_broken_inputs_have_a_line_each_and_the_rest_is_done(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (photos / 'broken.jpg').write_bytes((photos / 'none.jpg').read_bytes()[:700])
    (photos / 'empty.jpg').touch()
    (photos / 'notes.txt').write_text('hello')
    cv2.imwrite(str(photos / 'pixel.png'), np.zeros((1, 1, 3), np.uint8))
    results = tmp_path / 'poses.json'
    assert main(['predict', str(photos), str(tmp_path / 'gone'), '--json', str(results)]) == 1
    captured = capsys.readouterr()
    for name, reason in (
        ('broken.jpg', 'truncated'),
        ('empty.jpg', 'empty file'),
        ('notes.txt', 'not an image'),
        ('pixel.png', '1x1 pixels is too small for a person'),
        ('gone', 'No such file'),
    ):
        lines = [line for line in captured.err.splitlines() if name in line]
        assert len(lines) == 1, captured.err
        assert reason in lines[0]
    assert len(captured.err.splitlines()) == 5
    assert captured.out.startswith('3 images, 2 people, 4 failed, ')
    assert len(json.loads(results.read_text())) == 2


def test_ids_of_annotations(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    annotations, results = tmp_path / 'val.json', tmp_path / 'poses.json'
    images = [
        {'file_name': 'elsewhere/two.png', 'id': 1},
        {'file_name': 'photos/two.png', 'id': 2},
        {'file_name': 'two.png', 'id': 3},
    ]
    annotations.write_text(json.dumps({'images': images}))
    options = ['--annotations', str(annotations), '--json', str(results)]
    assert main(['predict', str(photos / 'two.png'), *options]) == 0
    assert {person['image_id'] for person in json.loads(results.read_text())} == {2}
    capsys.readouterr()
    assert main(['predict', str(photos), *options]) == 1
    assert 'none.jpg: not an image of' in capsys.readouterr().err


def test_skeletons_and_limits(photos: Path, tmp_path: Path) -> None:
    results = tmp_path / 'poses.json'
    command = ['predict', str(photos), '--json', str(results)]
    for skeleton, joints in (('body19', 19), ('mpii16', 16)):
        assert main([*command, '--skeleton', skeleton]) == 0
        assert {len(each['keypoints']) for each in json.loads(results.read_text())} == {joints * 3}
    for options in (['--max-people', '1'], ['--min-score', '0.7']):
        assert main([*command, '--threads', '1', *options]) == 0
        assert len(json.loads(results.read_text())) == 1


def test_equal_names_do_not_overwrite_each_other(
    photos: Path, tmp_path: Path, two_people: np.ndarray
) -> None:
    (tmp_path / 'other').mkdir()
    cv2.imwrite(str(tmp_path / 'other' / 'two.png'), two_people)
    cv2.imwrite(str(tmp_path / 'other' / 'scan.bmp'), two_people)
    out, results = tmp_path / 'out', tmp_path / 'poses.json'
    sources = [str(photos), str(tmp_path / 'other')]
    assert main(['predict', *sources, '--out', str(out), '--json', str(results)]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ['none.jpg', 'scan.bmp.jpg', 'two-2.png', 'two.png']
    ids = {person['image_id'] for person in json.loads(results.read_text())}
    assert ids == {'two.png', 'scan.bmp', str(tmp_path / 'other' / 'two.png')}


@pytest.mark.usefixtures('video_library')
def test_video_becomes_a_video(tmp_path: Path, two_people: np.ndarray) -> None:
    clip, out, results = tmp_path / 'clip.avi', tmp_path / 'out', tmp_path / 'poses.json'
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*'MJPG'), 10, (640, 480))
    for _ in range(3):
        writer.write(two_people)
    writer.release()
    assert main(['predict', str(clip), '--out', str(out), '--json', str(results), '--boxes']) == 0
    people = json.loads(results.read_text())
    assert [person['image_id'] for person in people[::2]] == [f'clip.avi#{n:06d}' for n in range(3)]
    video = cv2.VideoCapture(str(out / 'clip.mp4'))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 3
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_wrong_arguments(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'file').write_text('[]')
    for options in (
        ['--out', str(tmp_path / 'file')],
        ['--annotations', str(tmp_path / 'file')],
        ['--annotations', str(tmp_path / 'none')],
    ):
        assert main(['predict', str(photos), *options]) == 2
        assert options[0] in capsys.readouterr().err


def test_results_that_cannot_be_written(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'file').touch()
    assert main(['predict', str(photos), '--json', str(tmp_path / 'file' / 'poses.json')]) == 1
    error = capsys.readouterr().err
    assert 'cannot be written' in error
    assert 'poses.json' in error
    assert 'Traceback' not in error


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_complete_files(photos: Path, tmp_path: Path, number: signal.Signals) -> None:
    """A real process, interrupted in the middle of many photos."""
    for index in range(2000):
        os.link(photos / 'two.png', photos / f'{index:04d}.png')
    out, results = tmp_path / 'out', tmp_path / 'poses.json'
    command = [sys.executable, '-m', 'rmpe_ros.cli', 'predict', str(photos)]
    process = subprocess.Popen(
        [*command, '--out', str(out), '--json', str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    while not (out.is_dir() and len(list(out.glob('*.png'))) > 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert 'Traceback' not in error
    people = json.loads(results.read_text())
    assert 2 <= len(people) < 4000
    done = int(output.split()[0])
    assert done - 1 <= len(people) // 2 <= done
    files = list(out.iterdir())
    assert all(path.suffix == '.png' and cv2.imread(str(path)) is not None for path in files)


@pytest.fixture(scope='module')
def long_clip(drawn_people: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 s that nothing has read to its end when it is interrupted."""
    path = tmp_path_factory.mktemp('long') / 'clip.avi'
    small = cv2.resize(drawn_people, (320, 240), interpolation=cv2.INTER_AREA)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10.0, (320, 240))
    random = np.random.default_rng(0)
    for _ in range(400):  # they glitter, or nothing is left to compress
        writer.write(small - (small > 128) * random.integers(0, 70, small.shape, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_video_can_be_played(
    long_clip: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out, results = tmp_path / 'out', tmp_path / 'poses.json'
    command = [sys.executable, '-m', 'rmpe_ros.cli', 'predict', str(long_clip), '--out', str(out)]
    process = subprocess.Popen(
        [*command, '--json', str(results)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    )
    while not any(path.stat().st_size > 9999 for path in out.glob('.clip.mp4.*')):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    done = int(output.split()[0])
    assert 0 < done < 400
    assert os.listdir(out) == ['clip.mp4']
    frames = list(iter_images([out / 'clip.mp4']))
    assert all(frame.image is not None for frame in frames)
    assert done - 1 <= len(frames) <= done
    assert len(json.loads(results.read_text())) // 2 in (len(frames), len(frames) + 1)


def test_a_killed_run_leaves_the_earlier_video(long_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'clip.mp4').write_text('of an earlier run')
    process = subprocess.Popen(
        [sys.executable, '-m', 'rmpe_ros.cli', 'predict', str(long_clip), '--out', str(out)],
        cwd=Path(__file__).parents[2],
    )
    while not any(path.stat().st_size > 9999 for path in out.glob('.clip.mp4.*')):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (out / 'clip.mp4').read_text() == 'of an earlier run'


@pytest.mark.usefixtures('video_library')
def test_a_video_that_was_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    clip, results = tmp_path / 'clip.avi', tmp_path / 'poses.json'
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*'MJPG'), 10.0, (320, 240))
    for _ in range(20):
        writer.write(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    out = tmp_path / 'out'
    assert main(['predict', str(clip), '--json', str(results), '--out', str(out)]) == 1
    captured = capsys.readouterr()
    assert 'of 20 frames: cut short, or damaged there' in captured.err
    assert '1 failed' in captured.out
    assert os.listdir(out) == ['clip.mp4']


def test_photos_have_nobody_to_follow(photos: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['predict', str(photos), '--track']) == 0
    assert capsys.readouterr().err.count('photos are left without numbers') == 1


def test_oddities_and_limits_of_photos(photos: Path, capsys: pytest.CaptureFixture) -> None:
    path = photos / 'none.jpg'
    path.write_bytes(path.read_bytes()[:-2])
    assert main(['predict', str(photos)]) == 0
    assert 'warning: ' in (error := capsys.readouterr().err)
    assert 'none.jpg: has no end marker' in error
    assert main(['predict', str(photos), '--max-megapixels', '0.3']) == 1
    assert 'declares 640x480 pixels' in capsys.readouterr().err


def test_deep_photos_have_the_same_people(
    tmp_path: Path, two_people: np.ndarray, capsys: pytest.CaptureFixture
) -> None:
    for name, picture in (
        ('8.png', two_people),
        ('12.png', two_people.astype(np.uint16) * 16),
        ('thermal.png', 7000 + two_people[:, :, 1].astype(np.uint16) * 8),
        ('16.png', two_people.astype(np.uint16) * 257),
    ):
        cv2.imwrite(str(tmp_path / name), picture)
    assert main(['predict', str(tmp_path)]) == 0
    assert capsys.readouterr().err.count('2 people') == 4


@pytest.mark.parametrize('option', ['--track', '--smooth'])
def test_people_of_a_video_are_numbered(tmp_path: Path, option: str) -> None:
    clip = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*'MJPG'), 10, (320, 240))
    for frame in range(8):
        image = np.full((240, 320, 3), 20, np.uint8)
        # One walks to the right, the other one is there from the third frame on.
        cv2.rectangle(image, (20 + 8 * frame, 20), (50 + 8 * frame, 100), (255,) * 3, -1)
        if frame > 2:
            cv2.rectangle(image, (220, 140), (260, 220), (220,) * 3, -1)
        writer.write(image)
    writer.release()
    results = tmp_path / 'poses.json'
    for path in ([clip], [clip, clip]):
        # The test network sees the middle of its crop, and cannot follow anybody.
        command = ['predict', *map(str, path), option, '--json', str(results)]
        command += ['--detect-every', '1']
        assert main([*command, '--out', str(tmp_path / 'out')]) == 0
        people = json.loads(results.read_text())
        assert len(people) == 13 * len(path)
        for person in people[:13]:
            assert person['track_id'] == (0 if person['bbox'][0] < 150 else 1)
        # The second video is of other people.
        assert {person['track_id'] for person in people[13:]} == (
            {2, 3} if len(path) == 2 else set()
        )
    assert main(['predict', str(clip), '--json', str(results)]) == 0
    assert all('track_id' not in person for person in json.loads(results.read_text()))


def test_people_of_a_video_are_detected_in_every_nth_image(tmp_path: Path) -> None:
    """Somebody who comes is found at the next detection; each photo has one of its own."""
    pictures = [np.full((240, 320, 3), 20, np.uint8) for _ in range(6)]
    for number, picture in enumerate(pictures):
        cv2.rectangle(picture, (20, 20), (60, 100), (255,) * 3, -1)
        if number:
            cv2.rectangle(picture, (220, 140), (260, 220), (220,) * 3, -1)
    clip, photos, results = tmp_path / 'clip.avi', tmp_path / 'photos', tmp_path / 'poses.json'
    photos.mkdir()
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*'MJPG'), 10, (320, 240))
    for number, picture in enumerate(pictures):
        writer.write(picture)
        cv2.imwrite(str(photos / f'{number}.png'), picture)
    writer.release()
    for source, every, people in ((clip, 1, 11), (clip, 2, 10), (clip, 3, 9), (photos, 3, 11)):
        command = ['predict', str(source), '--json', str(results), '--detect-every', str(every)]
        assert main(command) == 0
        assert len(json.loads(results.read_text())) == people


def test_labels_that_are_not_ascii_in_a_plain_locale(photos: Path, tmp_path: Path) -> None:
    """Labels are UTF-8, also with a byte order mark, whatever the locale is."""
    (photos / 'none.jpg').unlink()
    labels, results = tmp_path / 'labels.json', tmp_path / 'poses.json'
    images = [{'file_name': 'two.png', 'id': 7, 'photographer': 'Müller'}]
    text = json.dumps({'images': images, 'annotations': []}, ensure_ascii=False)
    labels.write_text(text, encoding='utf-8-sig')
    command = [sys.executable, '-X', 'utf8=0', '-m', 'rmpe_ros.cli', 'predict', str(photos)]
    done = subprocess.run(
        [*command, '--annotations', str(labels), '--json', str(results)],
        env={**os.environ, 'LC_ALL': 'POSIX', 'PYTHONCOERCECLOCALE': '0'},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [person['image_id'] for person in json.loads(results.read_text())] == [7, 7]
