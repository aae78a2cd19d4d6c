# SPDX-License-Identifier: Apache-2.0
"""Convert between messages and the arrays of the core: images, poses, skeletons. No ROS needed.

A message here is anything with the fields of its .msg file: rclpy's, or those of rosbags when a bag
is read or written without ROS. What makes messages is told by `MessageClasses` which ones to make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.poses import COLOURS, Poses
from rmpe_ros.core.skeletons import SKELETONS, Skeleton
from rmpe_ros.io.image_decoding import ImageError, decode_image, to_8_bit

NANOSECONDS = 1_000_000_000
# More people or joints farther away are in no image: such a message is a mistake.
MAX_PEOPLE = 1000
MAX_COORDINATE = 1e6
# L*, a* and b* of what a screen can show are nearer to 0.
MAX_COLOUR = 150
_NO_COLOURS = (0.0,) * COLOURS


class MessageError(ValueError):
    """A message that cannot be used; the text says what is wrong with it."""


class ImageConversionError(MessageError):
    """An image message that cannot be read; the text says what is wrong with it."""


@dataclass(frozen=True)
class MessageClasses:
    """The classes to make messages of; each is called with all its fields as keywords.

    pack: copies an array of uint8, uint16 or float32 into what such a sequence field takes.
    """

    time: Callable[..., Any]
    header: Callable[..., Any]
    image: Callable[..., Any]
    compressed_image: Callable[..., Any]
    point: Callable[..., Any]
    keypoint: Callable[..., Any]
    person_pose: Callable[..., Any]
    person_pose_array: Callable[..., Any]
    skeleton_info: Callable[..., Any]
    pack: Callable[[NDArray[Any]], Any]


@dataclass(frozen=True)
class Encoding:
    """How one `sensor_msgs/Image` encoding lies in memory and becomes RGB.

    channels: interleaved values per pixel; depth: bytes per value; conversion: cv2 colour code,
    or None when the pixels are RGB already; rows: rows in memory per image row (1.5 for NV21).
    """

    channels: int
    depth: int = 1
    conversion: int | None = None


# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row.
ENCODINGS: Mapping[str, Encoding] = {
    'rgb8': Encoding(3),
    'bgr8': Encoding(3, 1, cv2.COLOR_BGR2RGB),
    'rgba8': Encoding(4, 1, cv2.COLOR_RGBA2RGB),
    'bgra8': Encoding(4, 1, cv2.COLOR_BGRA2RGB),
    'mono8': Encoding(1, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': Encoding(1, 1, cv2.COLOR_GRAY2RGB),
    '8UC3': Encoding(3, 1, cv2.COLOR_BGR2RGB),
    '8UC4': Encoding(4, 1, cv2.COLOR_BGRA2RGB),
    'rgb16': Encoding(3, 2),
    'bgr16': Encoding(3, 2, cv2.COLOR_BGR2RGB),
    'rgba16': Encoding(4, 2, cv2.COLOR_RGBA2RGB),
    'bgra16': Encoding(4, 2, cv2.COLOR_BGRA2RGB),
    'mono16': Encoding(1, 2, cv2.COLOR_GRAY2RGB),
    'bayer_rggb8': Encoding(1, 1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': Encoding(1, 1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': Encoding(1, 1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': Encoding(1, 1, cv2.COLOR_BayerGB2RGB),
    'bayer_rggb16': Encoding(1, 2, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr16': Encoding(1, 2, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg16': Encoding(1, 2, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg16': Encoding(1, 2, cv2.COLOR_BayerGB2RGB),
    'yuv422': Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': Encoding(2, 1, cv2.COLOR_YUV2RGB_YUYV),
    'yuyv': Encoding(2, 1, cv2.COLOR_YUV2RGB_YUYV),
}


def message_to_rgb(
    message: Any,
    *,
    max_megapixels: float | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """RGB uint8 (H, W, 3) of an Image or a CompressedImage; raises ImageConversionError.

    max_megapixels: a compressed image that declares more is not decoded. warn: gets a sentence
    about what is odd with one that can be used.
    """
    if hasattr(message, 'encoding'):
        return image_to_rgb(message)
    return compressed_to_rgb(message, max_megapixels=max_megapixels, warn=warn)


def image_to_rgb(message: Any) -> np.ndarray:
    """The pixels of a sensor_msgs/Image as an RGB array.

    Returns uint8 (H, W, 3). For `rgb8` it is a view of the message's own buffer (also when `step`
    pads the rows); other encodings are converted once, 16-bit values as `to_8_bit` says.
    Raises ImageConversionError for an encoding without a meaning as colour, and for a size,
    `step` and data length that contradict each other.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageConversionError(
            f'encoding {message.encoding!r} is not a colour or grey image; '
            f'publish one of {", ".join(ENCODINGS)}'
        )
    pixels = _pixel_view(message, encoding)
    if encoding.depth == 2:
        pixels = to_8_bit(pixels[:, :, :3])  # without alpha, which is no brightness
        if encoding.channels == 4:
            pixels = np.dstack([pixels, pixels[:, :, 0]])
    if encoding.conversion is None:
        return pixels
    if encoding.channels == 2 and pixels.shape[1] % 2:
        raise ImageConversionError(
            f'{message.encoding} needs an even width, this image has {message.width} columns'
        )
    if encoding.channels == 1:
        pixels = pixels[:, :, 0]
        if message.encoding.startswith('bayer') and min(pixels.shape) < 4:
            raise ImageConversionError(
                f'{message.encoding} needs at least 4x4 pixels, '
                f'this image has {message.width}x{message.height}'
            )
    return cv2.cvtColor(pixels, encoding.conversion)


def _pixel_view(message: Any, encoding: Encoding) -> np.ndarray:
    """The message's buffer as (H, W, C) without a copy; raises ImageConversionError."""
    height, width, step = message.height, message.width, message.step
    row_bytes = width * encoding.channels * encoding.depth
    if height < 1 or width < 1:
        raise ImageConversionError(f'the image is empty: width {width}, height {height}')
    if step < row_bytes:
        raise ImageConversionError(
            f'step is {step} bytes, but a row of {width} {message.encoding} pixels '
            f'takes {row_bytes} bytes'
        )
    needed = step * (height - 1) + row_bytes
    if len(message.data) < needed:
        raise ImageConversionError(
            f'data has {len(message.data)} bytes, but {width}x{height} {message.encoding} '
            f'with step {step} takes {needed} bytes: the message is cut off'
        )
    order = '>' if message.is_bigendian else '<'
    dtype = np.dtype(np.uint8) if encoding.depth == 1 else np.dtype(f'{order}u2')
    strides = (step, encoding.channels * encoding.depth, encoding.depth)
    shape = (height, width, encoding.channels)
    return np.ndarray(shape, dtype, buffer=message.data, strides=strides)


def compressed_to_rgb(
    message: Any,
    *,
    max_megapixels: float | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage (JPEG, PNG, …) into RGB uint8 (H, W, 3).

    max_megapixels, warn: as for `load_image`.
    Raises ImageConversionError when there is no data, when it is a compressed depth image, or
    when it cannot be decoded.
    """
    if 'compressedDepth' in message.format:
        raise ImageConversionError('this is a compressed depth image, a colour image is expected')
    try:
        return decode_image(bytes(message.data), max_megapixels=max_megapixels, warn=warn)
    except ImageError as error:
        raise ImageConversionError(
            f'compressed image of {len(message.data)} bytes, format {message.format!r}: {error}'
        ) from error


def make_header(nanoseconds: int, frame_id: str, classes: MessageClasses) -> Any:
    """A header with a time of so many nanoseconds since 1970."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return classes.header(stamp=classes.time(sec=seconds, nanosec=rest), frame_id=frame_id)


def stamp_nanoseconds(header: Any) -> int:
    """The stamp of a header as nanoseconds since 1970."""
    return int(header.stamp.sec) * NANOSECONDS + int(header.stamp.nanosec)


def rgb_to_image(image: np.ndarray, header: Any, classes: MessageClasses) -> Any:
    """An `rgb8` message of `image`, uint8 (H, W, 3) RGB, with a copy of its pixels."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'expected RGB uint8 (H, W, 3), got {image.dtype} {image.shape}')
    return classes.image(
        header=header,
        height=image.shape[0],
        width=image.shape[1],
        encoding='rgb8',
        is_bigendian=0,
        step=image.shape[1] * 3,
        data=classes.pack(np.ascontiguousarray(image).reshape(-1)),
    )


def rgb_to_compressed(
    image: np.ndarray, header: Any, classes: MessageClasses, *, quality: int = 90
) -> Any:
    """A JPEG message of `image`, uint8 (H, W, 3) RGB; quality 1…100."""
    _, encoded = cv2.imencode(
        '.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return classes.compressed_image(
        header=header, format='rgb8; jpeg compressed bgr8', data=classes.pack(encoded.reshape(-1))
    )


def message_to_poses(message: Any, skeleton: Skeleton) -> Poses:
    """The people of a PersonPoseArray as arrays.

    Raises MessageError when the message was made with another skeleton, says no size of the image,
    or has people who cannot be: of more or fewer joints, too many, too far away, NaN.
    """
    if message.skeleton != skeleton.name:
        raise MessageError(
            f'the poses are of skeleton {message.skeleton!r}, {skeleton.name!r} is expected'
        )
    if message.image_width < 1 or message.image_height < 1:
        raise MessageError(
            f'image_width and image_height are {message.image_width} and {message.image_height}; '
            'give the size of the image in pixels'
        )
    if len(message.people) > MAX_PEOPLE:
        raise MessageError(
            f'{len(message.people)} people in one image, {MAX_PEOPLE} at most are expected'
        )
    for person in message.people:
        if len(person.keypoints) != skeleton.num_keypoints:
            raise MessageError(
                f'a person has {len(person.keypoints)} keypoints, '
                f'skeleton {skeleton.name!r} has {skeleton.num_keypoints}'
            )
    if not message.people:
        return Poses.empty(skeleton)
    joints = np.array(
        [
            [(joint.x, joint.y, joint.score) for joint in person.keypoints]
            for person in message.people
        ],
        np.float32,
    )
    boxes = np.array([person.box for person in message.people], np.float32)
    spreads = np.array(
        [[joint.covariance for joint in person.keypoints] for person in message.people], np.float32
    )
    # Zeros are what nobody has filled in.
    positive = (spreads[..., [0, 2]] > 0).all(axis=2) & np.isfinite(spreads[..., 1])
    spreads[~positive] = np.nan
    # Older bags have no such field.
    colours = np.array(
        [getattr(person, 'colours', _NO_COLOURS) for person in message.people], np.float32
    )
    colours[~colours.any(axis=1)] = np.nan
    colours[~(np.abs(colours) <= MAX_COLOUR)] = np.nan
    if max(np.abs(joints[:, :, :2]).max(), np.abs(boxes).max()) > MAX_COORDINATE:
        raise MessageError(
            f'a joint or box is more than {MAX_COORDINATE:.0f} pixels away from the image'
        )
    try:
        return Poses(
            skeleton=skeleton,
            keypoints=np.ascontiguousarray(joints[:, :, :2]),
            keypoint_scores=np.ascontiguousarray(joints[:, :, 2]),
            boxes=boxes,
            scores=np.array([person.score for person in message.people], np.float32),
            track_ids=np.array([person.track_id for person in message.people], np.int32),
            covariances=None if np.isnan(spreads).all() else spreads,
            colours=None if np.isnan(colours).all() else colours,
        )
    except ValueError as error:
        raise MessageError(str(error)) from error


def skeleton_to_message(skeleton: Skeleton, header: Any, classes: MessageClasses) -> Any:
    """The latched description of the joints: names, limbs, left/right pairs and OKS sigmas."""
    return classes.skeleton_info(
        header=header,
        name=skeleton.name,
        keypoint_names=list(skeleton.keypoints),
        edges=classes.pack(_flat_pairs(skeleton.edges)),
        flip_pairs=classes.pack(_flat_pairs(skeleton.flip_pairs)),
        sigmas=classes.pack(np.array(skeleton.sigmas, np.float32)),
    )


def message_to_skeleton(message: Any) -> Skeleton:
    """The skeleton of a SkeletonInfo.

    Raises MessageError when it has no name, contradicts itself, or gives the name of a skeleton
    of this package to other joints.
    """
    if not message.name:
        raise MessageError('a skeleton without a name')
    try:
        skeleton = Skeleton(
            name=message.name,
            keypoints=tuple(message.keypoint_names),
            edges=_pairs(message.edges, 'edges'),
            flip_pairs=_pairs(message.flip_pairs, 'flip_pairs'),
            sigmas=tuple(float(sigma) for sigma in message.sigmas),
        )
    except ValueError as error:
        raise MessageError(f'skeleton {message.name!r} cannot be used: {error}') from error
    known = SKELETONS.get(skeleton.name)
    if known is not None and known.keypoints != skeleton.keypoints:
        raise MessageError(
            f'skeleton {skeleton.name!r} with other joints than {skeleton.name} has here; '
            'give it a name of its own'
        )
    return skeleton


def _flat_pairs(pairs: tuple[tuple[int, int], ...]) -> NDArray[np.uint16]:
    return np.array(pairs, np.uint16).reshape(-1)


def _pairs(flat: Sequence[int], field: str) -> tuple[tuple[int, int], ...]:
    if len(flat) % 2:
        raise ValueError(f'{field} has {len(flat)} values, pairs of joints are expected')
    return tuple((int(a), int(b)) for a, b in zip(flat[::2], flat[1::2], strict=True))
