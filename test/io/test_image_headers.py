# SPDX-License-Identifier: Apache-2.0
"""The size that a picture's header declares, of real files of every kind."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.io.image_decoding import load_image
from rmpe_ros.io.image_headers import count_pictures, lacks_data, read_size, read_upright_size
from rmpe_ros.io.images import iter_images

PICTURE = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)


@pytest.mark.parametrize(
    ('suffix', 'options'),
    [
        ('.jpg', []),
        ('.jpg', [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ('.png', []),
        ('.bmp', []),
        ('.tiff', []),
        ('.webp', []),
        ('.webp', [cv2.IMWRITE_WEBP_QUALITY, 101]),
        ('.jp2', []),
        ('.ppm', []),
        ('.pam', []),
        ('.ras', []),
        ('.gif', []),
    ],
)
def test_sizes_of_files_that_opencv_writes(suffix: str, options: list[int]) -> None:
    if not cv2.haveImageWriter(f'a{suffix}'):
        pytest.skip(f'this OpenCV writes no {suffix}')
    data = cv2.imencode(suffix, PICTURE, options)[1].tobytes()
    assert read_size(data) == (53, 37)
    assert not lacks_data(data)
    for end in range(0, len(data), 7):
        assert read_size(data[:end]) in (None, (53, 37))


def test_sizes_of_grey_deep_and_float_pictures() -> None:
    for suffix, picture in (
        ('.png', PICTURE[:, :, 0].astype(np.uint16)),
        ('.tiff', PICTURE.astype(np.uint16)),
        ('.tiff', PICTURE.astype(np.float32)),
        ('.pgm', PICTURE[:, :, 0]),
        ('.hdr', PICTURE.astype(np.float32)),
    ):
        assert read_size(cv2.imencode(suffix, picture)[1].tobytes()) == (53, 37), suffix


def test_hand_made_headers() -> None:
    webp = b'RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0' + b'\x1f\x4e\0' + b'\x0f\x27\0'
    assert read_size(webp) == (0x4E1F + 1, 0x270F + 1)
    entries = struct.pack('>HHIIHHII', 256, 4, 1, 70_000, 257, 4, 1, 80_000)
    assert read_size(b'MM\0*\0\0\0\x08\0\x02' + entries + b'\0' * 4) == (70_000, 80_000)
    assert read_size(b'P5 # made by hand\n123 456\n255\n') == (123, 456)
    assert read_size(b'BM' + bytes(12) + struct.pack('<Iii', 40, 640, -480)) == (640, 480)
    for data in (b'', b'\xff\xd8', b'\x89PNG', b'BM', b'II*\0', b'no picture', b'P6 x'):
        assert read_size(data) is None


def test_pictures_that_cannot_be_whole() -> None:
    """A JPEG needs a bit for each 8x8 block; deflate packs 1032 bytes into one at best."""
    grey = cv2.imencode('.jpg', np.full((2048, 2048), 99, np.uint8))[1].tobytes()
    assert not lacks_data(grey)
    at = grey.index(b'\xff\xc0') + 5
    assert lacks_data(grey[:at] + struct.pack('>HH', 7000, 7000) + grey[at + 4 :][:2000])
    black = cv2.imencode('.png', np.zeros((2048, 2048, 3), np.uint8))[1].tobytes()
    assert not lacks_data(black)
    header = b'IHDR' + struct.pack('>IIBBBBB', 7000, 7000, 8, 2, 0, 0, 0)
    chunk = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    assert lacks_data(b'\x89PNG\r\n\x1a\n' + chunk + black[33:])


@pytest.mark.parametrize('suffix', ['.tiff', '.png', '.webp'])
def test_pages_and_frames_are_counted(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f'many{suffix}'
    pictures = [np.roll(PICTURE, 9 * shift, axis=1) for shift in range(3)]
    if suffix == '.tiff':
        assert cv2.imwritemulti(str(path), pictures)
    else:
        animation = cv2.Animation()
        animation.frames = [cv2.cvtColor(each, cv2.COLOR_BGR2BGRA) for each in pictures]
        animation.durations = np.full(3, 100)
        assert cv2.imwriteanimation(str(path), animation)
    assert count_pictures(path.read_bytes()) == 3
    warnings: list[str] = []
    assert load_image(path, warn=warnings.append).shape == PICTURE.shape
    assert 'has 3 pictures' in warnings[0] and 'as a video or GIF' in warnings[0]
    (item,) = iter_images([path])
    assert item.warning == warnings[0]
    assert count_pictures(cv2.imencode(suffix, PICTURE)[1].tobytes()) == 1


def test_smaller_copies_and_endless_pages_of_a_tiff() -> None:
    def directory(at: int, following: int, subfile: int) -> bytes:
        return struct.pack('<HHHIII', 1, 254, 4, 1, subfile, following)

    chain = b'II*\0' + struct.pack('<I', 8) + directory(8, 26, 0)
    assert count_pictures(chain + directory(26, 44, 1) + directory(44, 0, 0)) == 2
    assert count_pictures(chain + directory(26, 8, 0)) == 2
    for end in range(60):
        assert count_pictures((chain + directory(26, 0, 0))[:end]) >= 1


@pytest.mark.parametrize('orientation', range(1, 9))
def test_upright_sizes_are_those_of_the_decoded_picture(orientation: int, tmp_path: Path) -> None:
    jpeg = cv2.imencode('.jpg', PICTURE)[1].tobytes()
    tags = struct.pack('>HHHIHHI', 1, 274, 3, 1, orientation, 0, 0)
    exif = b'Exif\0\0MM\0*' + struct.pack('>I', 8) + tags
    path = tmp_path / 'turned.jpg'
    path.write_bytes(jpeg[:2] + struct.pack('>HH', 0xFFE1, len(exif) + 2) + exif + jpeg[2:])
    height, width = load_image(path).shape[:2]
    assert read_upright_size(path.read_bytes()) == (width, height)
