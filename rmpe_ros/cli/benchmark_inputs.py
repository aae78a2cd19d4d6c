# SPDX-License-Identifier: Apache-2.0
"""What the benchmark runs on: pictures, boxes of people, and inputs of other networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rmpe_ros.engines import TensorInfo


def made_picture(path: Path | None, width: int, height: int) -> 'NDArray[np.uint8]':
    """The photo, or smooth noise, at the size asked for."""
    import cv2
    import numpy as np

    from rmpe_ros.io.images import load_image

    if path is not None:
        return np.asarray(cv2.resize(load_image(path), (width, height)), np.uint8)
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


def made_boxes(
    count: int, width: int, height: int, found: 'NDArray[np.floating] | None'
) -> 'NDArray[np.floating]':
    """`count` boxes: those found in the photo, repeated where they are fewer; or a row of them."""
    import numpy as np

    if found is not None and len(found):
        return np.resize(found, (count, 4))
    left = np.linspace(0, width * 0.8, count)
    top = np.full(count, height * 0.2)
    return np.stack([left, top, left + width * 0.2, top + height * 0.6], axis=1)


def rival_size(text: str | None, image: 'NDArray[np.uint8]') -> tuple[int, int]:
    """Width and height of another network's input, where that is free."""
    if text is not None:
        return parse_size(text if 'x' in text.lower() else f'{text}x{text}')
    height, width = image.shape[:2]
    return -(-width // 32) * 32, -(-height // 32) * 32


def make_input(info: 'TensorInfo', size: tuple[int, int], image: 'NDArray[np.uint8]') -> Any:
    """The picture, or noise, in the shape of another network's input; free sides become those of
    `size`, its width and height.
    """
    import cv2
    import numpy as np

    width, height = size
    names = list(info.shape)
    # Channels last, or first, which is also what wholly free sides are taken for.
    free = [1, height, width, 3] if len(names) == 4 and names[3] == 3 else [1, 3, height, width]
    free = free if len(names) == 4 else [1, *[height] * (len(names) - 1)]
    shape = (
        [side if isinstance(side, int) else other for side, other in zip(names, free, strict=True)]
        if names
        else []
    )
    is_image = len(shape) == 4 and 3 in (shape[1], shape[3])
    if is_image and shape[1] == 3:
        array = cv2.resize(image, (shape[3], shape[2])).transpose(2, 0, 1)[None]
    elif is_image:
        array = cv2.resize(image, (shape[2], shape[1]))[None]
    else:
        array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    array = np.repeat(array, shape[0], axis=0) if shape and len(array) != shape[0] else array
    if np.issubdtype(info.dtype, np.floating):
        array = array / 255
    return np.ascontiguousarray(array, dtype=info.dtype)


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition('x')
    if not (width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0):
        raise ValueError(f'--size is width x height in pixels such as 640x480, got {text!r}')
    return int(width), int(height)
