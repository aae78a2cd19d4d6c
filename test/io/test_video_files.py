# SPDX-License-Identifier: Apache-2.0
"""What is written as a video is what is seen in it."""

from pathlib import Path

import numpy as np
import pytest

from rmpe_ros.io import video_files
from rmpe_ros.io.images import iter_images

COLOURS = ((200, 40, 30), (30, 180, 60), (40, 60, 210), (240, 240, 240), (15, 15, 15))


@pytest.mark.parametrize('with_av', [True, False])
@pytest.mark.parametrize('size', [(64, 48), (63, 47), (2, 2)])
def test_colours_stay_what_they_are_at_even_and_odd_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], with_av: bool
) -> None:
    if with_av:
        pytest.importorskip('av')
    monkeypatch.setattr(video_files, 'has_av', lambda: with_av)
    width, height = size
    path = tmp_path / 'colours.mp4'
    video = video_files.open_video(path, size, 10.0)
    for colour in COLOURS:
        video.write(np.full((height, width, 3), colour, np.uint8), None)
    video.close()
    shown = [item.image for item in iter_images([path])]
    assert len(shown) == len(COLOURS)
    for image, colour in zip(shown, COLOURS, strict=True):
        assert image is not None
        if with_av:
            assert image.shape == (height + height % 2, width + width % 2, 3)
        assert np.abs(image.reshape(-1, 3).mean(axis=0) - colour).max() < 12
