# SPDX-License-Identifier: Apache-2.0
"""Which input shapes an engine is built for, and how a batch of people is cut to fit them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rmpe_ros.engines import EngineError, TensorInfo

# Batch sizes that get buffers and a CUDA graph of their own; a batch is padded to the next one.
BUCKETS = (1, 2, 4, 8, 16, 32)
_USUAL_BATCH = 4

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that one input may have: from minimum to maximum, fastest at optimum."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def holds(self, shape: Shape) -> bool:
        """Whether `shape` is inside the range."""
        return len(shape) == len(self.minimum) and all(
            low <= side <= high
            for low, side, high in zip(self.minimum, shape, self.maximum, strict=True)
        )

    def __str__(self) -> str:
        return f'{list(self.minimum)} to {list(self.maximum)}'


Profile = Mapping[str, ShapeRange]


@dataclass(frozen=True)
class Piece:
    """Rows start to stop of a batch, which are run as a batch of `bucket`, padded at its end."""

    start: int
    stop: int
    bucket: int


def split_batch(count: int, buckets: tuple[int, ...] = BUCKETS) -> tuple[Piece, ...]:
    """Cut a batch into as few pieces as the largest bucket allows, and pad the last one least."""
    pieces = []
    for start in range(0, count, buckets[-1]):
        rows = min(count - start, buckets[-1])
        pieces.append(Piece(start, start + rows, choose_bucket(rows, buckets)))
    return tuple(pieces)


def choose_bucket(rows: int, buckets: tuple[int, ...] = BUCKETS) -> int:
    """The smallest bucket that holds so many rows. Raises ValueError when none does."""
    if not 1 <= rows <= buckets[-1]:
        raise ValueError(f'a batch of {rows} fits no bucket: 1 to {buckets[-1]} rows do')
    return next(bucket for bucket in buckets if bucket >= rows)


def plan_profiles(
    name: str, inputs: Mapping[str, TensorInfo], metadata: Mapping[str, str]
) -> tuple[Profile, ...]:
    """The optimisation profiles of the model `name`.

    A free first side is the batch: 1 to the largest bucket. An image with free height and width
    needs `rmpe.long_side` and `rmpe.size_step` in the metadata and gets two profiles, landscape
    and portrait, whose longer side is fixed.
    Raises EngineError for any other free side, because nothing says how large it may get.
    """
    images = [key for key, info in inputs.items() if _free_sides(info) - {0}]
    if not images:
        return ({key: _batch_range(info) for key, info in inputs.items()},)
    for key in images:
        if _free_sides(inputs[key]) - {0} != {1, 2} or len(inputs[key].shape) != 4:
            raise EngineError(
                f'{name}: input {key!r} is {inputs[key]}, but TensorRT needs to know how large '
                'its sides get: only the batch, or height and width of an image [N, H, W, 3], may '
                'be free; export the model with the other sides fixed'
            )
    long_side, step = _size_rule(name, metadata)
    return tuple(
        {
            key: _image_range(info, long_side, step, landscape=landscape)
            if key in images
            else _batch_range(info)
            for key, info in inputs.items()
        }
        for landscape in (True, False)
    )


def find_profile(profiles: tuple[Profile, ...], shapes: Mapping[str, Shape]) -> int | None:
    """Index of the first profile that holds all these input shapes, None when none does."""
    for index, profile in enumerate(profiles):
        if all(key in profile and profile[key].holds(shape) for key, shape in shapes.items()):
            return index
    return None


def _free_sides(info: TensorInfo) -> set[int]:
    return {axis for axis, side in enumerate(info.shape) if not isinstance(side, int)}


def _batch_range(info: TensorInfo) -> ShapeRange:
    def shape(batch: int) -> Shape:
        return tuple(side if isinstance(side, int) else batch for side in info.shape)

    return ShapeRange(shape(1), shape(_USUAL_BATCH), shape(BUCKETS[-1]))


def _image_range(info: TensorInfo, long_side: int, step: int, *, landscape: bool) -> ShapeRange:
    batch = _batch_range(info)

    def shape(base: Shape, short_side: int) -> Shape:
        height, width = (short_side, long_side) if landscape else (long_side, short_side)
        return (base[0], height, width, *base[3:])

    # Pictures of robots are 4:3 to 16:9; two steps is as flat as a picture may become.
    usual = step * math.ceil(long_side * 0.7 / step)
    return ShapeRange(
        shape(batch.minimum, min(2 * step, long_side)),
        shape(batch.optimum, min(usual, long_side)),
        shape(batch.maximum, long_side),
    )


def _size_rule(name: str, metadata: Mapping[str, str]) -> tuple[int, int]:
    try:
        long_side = int(metadata.get('rmpe.long_side', 0))
        step = int(metadata.get('rmpe.size_step', 32))
    except ValueError as error:
        raise EngineError(f'{name} has unreadable metadata: {error}') from error
    if long_side < 1 or step < 1:
        raise EngineError(
            f'{name}: height and width are free, so the metadata must say rmpe.long_side and '
            'rmpe.size_step in pixels; export the model again'
        )
    return step * math.ceil(long_side / step), step
