# SPDX-License-Identifier: Apache-2.0
"""Reading photos, folders and videos, whole and broken ones."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.io.images import ImageError, count_images, decode_image, iter_images, load_image


def photo(height: int = 60, width: int = 80) -> np.ndarray:
    """A smooth RGB picture: red grows to the right, green downwards, blue is constant."""
    y, x = np.indices((height, width))
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 40)], -1).astype(np.uint8)


def encode(image: np.ndarray, suffix: str) -> bytes:
    """RGB to the bytes of a file."""
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def with_exif(jpeg: bytes, orientation: int, extra: bytes = b'') -> bytes:
    """A JPEG with an EXIF segment that holds the orientation (tag 0x0112) and `extra` bytes."""
    tiff = b'MM\0*\0\0\0\x08' + struct.pack('>HHHIHHI', 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b'Exif\0\0' + tiff + extra
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tiff'])
def test_lossless_formats_come_back_as_rgb(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f'a{suffix}').write_bytes(encode(photo(), suffix))
    np.testing.assert_array_equal(load_image(tmp_path / f'a{suffix}'), photo())


def test_jpeg_is_nearly_the_same(tmp_path: Path) -> None:
    image = decode_image(encode(photo(), '.jpg'))
    assert np.abs(image.astype(int) - photo()).mean() < 3


def test_exif_orientation_turns_upright() -> None:
    """Orientation 6: the camera was held with its right side up; turned by a quarter clockwise."""
    jpeg = encode(photo(), '.jpg')
    turned = decode_image(with_exif(jpeg, 6))
    np.testing.assert_array_equal(turned, np.rot90(decode_image(jpeg), -1))


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (np.full((5, 6), 77, np.uint8), [77, 77, 77]),
        (np.full((5, 6), 0x4D12, np.uint16), [77, 77, 77]),
        (np.full((5, 6, 3), 0x4D12, np.uint16), [77, 77, 77]),
        (np.full((5, 6, 4), [30, 20, 10, 128], np.uint8), [10, 20, 30]),
        (np.full((1, 1, 3), [30, 20, 10], np.uint8), [10, 20, 30]),
    ],
    ids=['grey', 'grey 16 bit', 'colour 16 bit', 'transparent', 'one pixel'],
)
def test_odd_pngs_become_8_bit_rgb(array: np.ndarray, expected: list[int]) -> None:
    image = decode_image(cv2.imencode('.png', array)[1].tobytes())
    assert image.dtype == np.uint8
    assert image.shape == (*array.shape[:2], 3)
    np.testing.assert_allclose(
        image.reshape(-1, 3).astype(int),
        [expected] * array[..., 0].size if array.ndim == 3 else [expected] * array.size,
        atol=1,
    )


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'empty file'),
        (b'hello, this is a text file\n' * 20, 'not an image'),
        (encode(photo(), '.jpg')[:600], 'truncated'),
        (encode(photo(), '.png')[:-30], 'truncated'),
        (with_exif(encode(photo(), '.jpg'), 1, extra=encode(photo(), '.jpg'))[:1200], 'truncated'),
        (b'\xff\xd8\xff\xd9', 'not an image'),
        (encode(photo(), '.bmp')[:40], 'not an image'),
    ],
    ids=['empty', 'text', 'jpeg', 'png', 'jpeg with a whole thumbnail', 'no picture', 'bmp'],
)
def test_broken_files_say_what_is_wrong(
    content: bytes, message: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / 'broken.jpg'
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert capfd.readouterr().err == '', "OpenCV's own complaints must not reach the user"


def test_whole_jpegs_are_not_called_truncated() -> None:
    """With bytes after the end, progressive, and with restart markers."""
    array = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for options in ([cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2], []):
        data = cv2.imencode('.jpg', array, options)[1].tobytes()
        assert decode_image(data + b'\0' * 100).shape == (64, 64, 3)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r'nowhere.jpg.*No such file'):
        load_image(tmp_path / 'nowhere.jpg')
    with pytest.raises(ImageError, match='directory'):
        load_image(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, a text file, an empty one, a hidden one and a sub-folder."""
    (tmp_path / 'b.png').write_bytes(encode(photo(), '.png'))
    (tmp_path / 'a.jpg').write_bytes(encode(photo(), '.jpg'))
    (tmp_path / 'c.txt').write_text('notes')
    (tmp_path / 'd.jpg').touch()
    (tmp_path / '.hidden').touch()
    (tmp_path / 'sub').mkdir()
    return tmp_path


def test_folder_in_order_with_errors_in_place(folder: Path) -> None:
    items = list(iter_images([folder]))
    assert [item.name for item in items] == ['a.jpg', 'b.png', 'c.txt', 'd.jpg']
    assert [item.image is None for item in items] == [False, False, True, True]
    assert [item.path for item in items] == [folder / item.name for item in items]
    assert 'c.txt: not an image' in (items[2].error or '')
    assert 'd.jpg: empty file' in (items[3].error or '')
    assert items[0].error is items[0].frame is None
    assert count_images([folder]) == 4


def test_empty_folder_and_missing_file_are_items(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    sources = [tmp_path / 'empty', tmp_path / 'none.jpg', tmp_path / 'none.mp4']
    items = list(iter_images(sources))
    assert [item.image for item in items] == [None, None, None]
    errors = [item.error or '' for item in items]
    assert 'folder without files' in errors[0]
    assert 'No such file' in errors[1]
    assert 'no such file' in errors[2]
    assert count_images(sources[:2]) == 2


def write_video(path: Path, frames: int, rate: float = 10) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), rate, (80, 60))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((60, 80, 3), number * 20, np.uint8))
    writer.release()


@pytest.mark.usefixtures('video_library')
def test_video_frames(tmp_path: Path) -> None:
    write_video(tmp_path / 'clip.avi', 5)
    items = list(iter_images([tmp_path / 'clip.avi']))
    assert [item.name for item in items] == [f'clip.avi#{n:06d}' for n in range(5)]
    assert [item.frame for item in items] == list(range(5))
    assert {item.rate for item in items} == {10.0}
    means = [item.image.mean() for item in items if item.image is not None]
    np.testing.assert_allclose(means, [0, 20, 40, 60, 80], atol=3)
    assert count_images([tmp_path / 'clip.avi']) is None


@pytest.mark.usefixtures('video_library')
@pytest.mark.parametrize(
    ('suffix', 'codec', 'damage'),
    [
        ('.avi', 'MJPG', 'cut short'),
        ('.mkv', 'mp4v', 'cut short'),
        ('.mkv', 'mp4v', 'hole in the middle'),
        ('.mp4', 'mp4v', 'hole in the middle'),
    ],
)
def test_a_video_with_fewer_frames_than_it_says(
    tmp_path: Path, suffix: str, codec: str, damage: str
) -> None:
    path = tmp_path / f'clip{suffix}'
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    picture = cv2.resize(noise, (640, 480))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (640, 480))
    for number in range(20):
        writer.write(np.roll(picture, 7 * number, axis=1))
    writer.release()
    assert [item.error for item in iter_images([path])] == [None] * 20
    data = path.read_bytes()
    middle = len(data) // 2
    cut = data[:middle] if damage == 'cut short' else data[:middle] + bytes(8000)
    path.write_bytes(cut if damage == 'cut short' else cut + data[middle + 8000 :])
    *frames, last = iter_images([path])
    assert all(item.image is not None for item in frames)
    assert 5 < len(frames) < 20
    assert last.image is None
    assert f'clip{suffix}: ends after {len(frames)} of 20 frames' in (last.error or '')


@pytest.mark.usefixtures('video_library')
def test_times_are_those_of_the_container(tmp_path: Path) -> None:
    write_video(tmp_path / 'clip.avi', 4, rate=8)
    items = list(iter_images([tmp_path / 'clip.avi']))
    assert [item.time for item in items] == pytest.approx([0, 0.125, 0.25, 0.375])


@pytest.mark.usefixtures('video_library')
def test_times_of_a_video_of_variable_rate(tmp_path: Path) -> None:
    """Three frames of Motion JPEG in a Matroska file made by hand, at 0, 40 and 940 ms."""
    path = tmp_path / 'clip.mkv'
    path.write_bytes(matroska([0, 40, 940]))
    assert [item.time for item in iter_images([path])] == pytest.approx([0, 0.04, 0.94])


def matroska(milliseconds: list[int]) -> bytes:
    """A Matroska file with a JPEG at each of these times."""

    def element(name: str, content: bytes) -> bytes:
        return bytes.fromhex(name) + (len(content) | 1 << 56).to_bytes(8, 'big') + content

    def number(name: str, value: int) -> bytes:
        return element(name, value.to_bytes(4, 'big'))

    frame = encode(photo(), '.jpg')
    header = element('1A45DFA3', element('4282', b'matroska') + number('4287', 4))
    info = element('1549A966', number('2AD7B1', 1_000_000))
    video = element('E0', number('B0', 80) + number('BA', 60))
    track = (
        number('D7', 1) + number('73C5', 1) + number('83', 1) + element('86', b'V_MJPEG') + video
    )
    blocks = b''.join(
        element('A3', b'\x81' + time.to_bytes(2, 'big') + b'\x80' + frame) for time in milliseconds
    )
    cluster = element('1F43B675', number('E7', 0) + blocks)
    return header + element('18538067', info + element('1654AE6B', element('AE', track)) + cluster)


def test_natural_order(tmp_path: Path) -> None:
    names = ['frame_1', 'frame_2', 'frame_2b', 'frame_10', 'frame_12', 'frame_012', 'x']
    wanted = ['frame_1', 'frame_2', 'frame_2b', 'frame_10', 'frame_012', 'frame_12', 'x']
    for name in names:
        (tmp_path / f'{name}.png').write_bytes(encode(photo(), '.png'))
    (tmp_path / '7').write_bytes(encode(photo(), '.png'))
    assert [item.name for item in iter_images([tmp_path])] == [
        '7', *(f'{name}.png' for name in wanted)
    ]  # fmt: skip


@pytest.mark.usefixtures('video_library')
def test_a_video_that_declares_too_much_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / 'clip.avi', 3)
    (item,) = iter_images([tmp_path / 'clip.avi'], max_megapixels=0.001)
    assert 'clip.avi: declares 80x60 pixels' in (item.error or '')


@pytest.mark.usefixtures('video_library')
def test_broken_video_is_one_error(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / 'clip.mp4').write_bytes(b'no video' * 100)
    (item,) = iter_images([tmp_path])
    assert item.image is None
    assert 'clip.mp4: not a video' in (item.error or '')
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('source', ['webcam:97', '/dev/video97', '97'])
def test_missing_camera_is_one_error(source: str, capfd: pytest.CaptureFixture) -> None:
    (item,) = iter_images([source])
    assert item.error == 'webcam:97: no such camera, or another program is using it'
    assert count_images([source]) is None
    assert capfd.readouterr().err == ''
