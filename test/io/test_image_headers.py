# SPDX-License-Identifier: Apache-2.0
"""The size that a picture's header declares, of real files of every kind."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from rmpe_ros.io.image_headers import lacks_data, read_size

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
