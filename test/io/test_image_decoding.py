# SPDX-License-Identifier: Apache-2.0
"""Decoding: damage, missing ends, sizes that cannot be, and content of more than 8 bits."""

import os
import re
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from rmpe_ros.io.image_decoding import ImageError, decode_image, load_image, pixel_limit, to_8_bit
from rmpe_ros.io.native_output import captured_lines

RNG = np.random.default_rng(3)
PICTURE = cv2.resize(RNG.integers(0, 255, (24, 32, 3), np.uint8), (640, 480))
END = b'\xff\xd9'


def jpeg(*options: int) -> bytes:
    return cv2.imencode('.jpg', PICTURE, options)[1].tobytes()


def damaged() -> dict[str, bytes]:
    """JPEGs with their end marker, of which something in the middle or before the end is lost."""
    whole, middle = jpeg(), len(jpeg()) // 2
    noise = RNG.integers(0, 255, 2000, np.uint8).tobytes()
    restarts = jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 20)
    progressive = jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    return {
        'second half lost': whole[:middle] + END,
        'last 200 bytes lost': whole[:-202] + END,
        'piece cut out': whole[:middle] + whole[middle + 2000 :],
        'piece is zeros': whole[:middle] + bytes(2000) + whole[middle + 2000 :],
        'piece is noise': whole[:middle] + noise + whole[middle + 2000 :],
        'with restart markers': restarts[:middle] + restarts[middle + 2000 :],
        'progressive': progressive[: len(progressive) // 2] + END,
    }


@pytest.mark.parametrize('name', damaged())
def test_lost_data_behind_an_end_marker(name: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(ImageError, match='damaged: a part of the picture is lost'):
        decode_image(damaged()[name])
    assert capfd.readouterr().err == '', 'what libjpeg says is said once, by us'


def test_a_whole_picture_without_an_end_marker(tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').write_bytes(jpeg()[:-2])
    warnings: list[str] = []
    image = load_image(tmp_path / 'a.jpg', warn=warnings.append)
    np.testing.assert_array_equal(image, decode_image(jpeg()))
    (warning,) = warnings
    assert 'a.jpg: has no end marker, but is whole' in warning
    for end in range(3, len(jpeg()) - 4, 5000):
        with pytest.raises(ImageError, match='truncated'):
            decode_image(jpeg()[:end])


@pytest.mark.parametrize('padding', [b'\0', b'\xab' * 7, bytes(5000)])
def test_padding_before_the_end_marker_is_no_damage(padding: bytes) -> None:
    decode_image(jpeg()[:-2] + padding + END)


@pytest.mark.parametrize('side', [20_000, 32_000, 65_500])
def test_decompression_bombs_are_not_decoded(side: int) -> None:
    start = jpeg().index(b'\xff\xc0') + 5
    bomb = jpeg()[:start] + struct.pack('>HH', side, side) + jpeg()[start + 4 : 333] + END
    with pytest.raises(ImageError, match=rf'declares {side}x{side} pixels, \d+ megapixels'):
        decode_image(bomb)
    # Below the limit, and still far more than so few bytes can hold.
    small = jpeg()[:start] + struct.pack('>HH', 7000, 7000) + jpeg()[start + 4 : 700] + END
    with pytest.raises(ImageError, match='truncated'):
        decode_image(small)


def test_the_limit_can_be_chosen() -> None:
    with pytest.raises(ImageError, match=r'at most 0\.3 are decoded'):
        decode_image(jpeg(), max_megapixels=0.3)
    with pixel_limit(0.1), pytest.raises(ImageError, match=r'at most 0\.1 '):
        decode_image(jpeg())
    with pixel_limit(0.1):
        assert decode_image(jpeg(), max_megapixels=0.4).shape == (480, 640, 3)
    decode_image(jpeg())


def test_twelve_bits_are_as_bright_as_eight() -> None:
    ramp = np.array([[0, 1024, 2048, 4095]], np.uint16)
    np.testing.assert_array_equal(to_8_bit(ramp), [[0, 64, 128, 255]])
    thermal = np.array([[7000, 7500, 8000, 9000]], np.uint16)
    np.testing.assert_array_equal(to_8_bit(thermal), [[0, 64, 128, 255]])
    np.testing.assert_array_equal(to_8_bit(thermal.astype('>u2')), [[0, 64, 128, 255]])
    np.testing.assert_array_equal(to_8_bit(thermal.astype(np.float32)), [[0, 64, 128, 255]])


def test_full_and_single_and_narrow_ranges() -> None:
    full = np.array([[0, 0x12F0, 0x8000, 0xFFFF]], np.uint16)
    np.testing.assert_array_equal(to_8_bit(full), [[0, 0x12, 0x80, 0xFF]])
    np.testing.assert_array_equal(to_8_bit(np.full((2, 2), 0x4D12, np.uint16)), 0x4D)
    # A covered lens is not spread to all brightnesses.
    np.testing.assert_array_equal(to_8_bit(np.array([[500, 503]], np.uint16)), [[0, 3]])


def test_hot_pixels_do_not_darken_the_rest() -> None:
    picture = np.tile(np.arange(4096, dtype=np.uint16), (100, 1))
    picture[::10, 77] = 65535
    result = to_8_bit(picture)
    assert result[1, 2048] in (127, 128) and result[1, 4095] == 255


def test_a_16_bit_png_with_12_bits_of_content() -> None:
    deep = PICTURE.astype(np.uint16) * 16
    data = cv2.imencode('.png', deep)[1].tobytes()
    difference = decode_image(data).astype(int) - PICTURE[:, :, ::-1]
    assert np.abs(difference).mean() < 4


def test_lines_of_others_are_passed_on(capfd: pytest.CaptureFixture) -> None:
    with captured_lines() as said:
        os.write(2, b'Corrupt JPEG data: 3 extraneous bytes before marker 0xd9\nours: hello\n')
    assert said == ['Corrupt JPEG data: 3 extraneous bytes before marker 0xd9']
    assert capfd.readouterr().err == 'ours: hello\n'
    with captured_lines() as said:
        pass
    assert said == []


def test_threads_get_the_damage_of_their_own_pictures() -> None:
    pictures = [jpeg(), damaged()['second half lost']]
    wrong: list[int] = []

    def decode(which: int) -> None:
        for _ in range(40):
            try:
                decode_image(pictures[which])
                is_damaged = False
            except ImageError:
                is_damaged = True
            if is_damaged != bool(which):
                wrong.append(which)

    threads = [threading.Thread(target=decode, args=[number % 2]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_limit_is_in_the_help() -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(jpeg(), max_megapixels=0.1)
    assert re.search('--max-megapixels.*parameter max_megapixels', str(caught.value))
