# SPDX-License-Identifier: Apache-2.0
"""Whether a new engine gives the same answers as ONNX Runtime, before anybody relies on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.engines import Engine, TensorInfo
from rmpe_ros.engines.example_pictures import example_crops, example_scene
from rmpe_ros.models import check_sides

Arrays = Mapping[str, NDArray[Any]]

# How far, in pixels of the network's input, an answer may be from ONNX Runtime's float32 one.
LIMITS = {'fp32': 0.05, 'fp16': 0.5}
# Where two cells of a heatmap tie for the peak, the last bit decides between positions a few pixels
# apart: 4 % of joints in half precision, hardly any in float32. More than this share is a fault.
JUMPS = {'fp32': 0.02, 'fp16': 0.1}

_CROPS = 16
_PEOPLE = 3
_BOXES = 20


@dataclass(frozen=True)
class Parity:
    """The comparison of one engine with ONNX Runtime.

    status: 'passed', 'refused', or 'not run'. detail: why, in words.
    largest_px: the largest difference of a keypoint or box edge, jumps left out.
    largest_jump_px: the largest difference of all. jumps: share of points beyond the limit.
    """

    status: str
    detail: str
    limit_px: float | None = None
    largest_px: float | None = None
    largest_jump_px: float | None = None
    jumps: float | None = None
    points: int = 0

    @staticmethod
    def not_run(why: str) -> Parity:
        """No comparison could be made."""
        return Parity('not run', why)


def compare_engines(reference: Engine, engine: Engine, precision: str) -> Parity:
    """Run both on the same pictures of a person.

    precision: 'fp32' or 'fp16', which decides the limit. Raises EngineError when one of them fails.
    """
    task = reference.metadata.get('rmpe.task', '')
    inputs = example_inputs(reference.inputs, reference.metadata)
    if inputs is None:
        return Parity.not_run(f'there is nothing to compare models of task {task!r} on')
    return compare_outputs(task, reference(inputs), engine(inputs), precision, _side(inputs))


def example_inputs(
    inputs: Mapping[str, TensorInfo], metadata: Mapping[str, str]
) -> dict[str, NDArray[np.uint8]] | None:
    """Crops for a pose model, a scene for a detector; None for other models."""
    task = metadata.get('rmpe.task')
    if task == 'pose' and list(inputs) == ['crops']:
        batch, height, width = inputs['crops'].shape[:3]
        if isinstance(height, int) and isinstance(width, int):
            check_sides('the model', 'crops', {'height': height, 'width': width})
            count = batch if isinstance(batch, int) else _CROPS
            return {'crops': example_crops(count, (height, width))}
    if task == 'detector' and list(inputs) == ['image']:
        long_side = int(metadata.get('rmpe.long_side') or 320)
        step = int(metadata.get('rmpe.size_step') or 32)
        free = (step * round(long_side * 0.75 / step), long_side)
        height, width = (
            side if isinstance(side, int) else size
            for side, size in zip(inputs['image'].shape[1:3], free, strict=True)
        )
        check_sides('the model', 'image', {'height': height, 'width': width})
        return {'image': example_scene(_PEOPLE, (height, width))[None]}
    return None


def compare_outputs(
    task: str, reference: Arrays, candidate: Arrays, precision: str, side: float
) -> Parity:
    """Compare the outputs of two engines for the same inputs.

    side: of the network's input in pixels, to which θ is relative.
    """
    limit, allowed = LIMITS[precision], JUMPS[precision]
    for name, array in reference.items():
        if name not in candidate or candidate[name].shape != array.shape:
            got = list(candidate[name].shape) if name in candidate else 'nothing'
            return Parity('refused', f'output {name!r} is {got}, expected {list(array.shape)}')
        if not np.isfinite(candidate[name]).all():
            return Parity('refused', f'output {name!r} has values that are no numbers', limit)
    if task == 'pose':
        shift = (
            _largest(candidate['theta'] - reference['theta']) * side if 'theta' in reference else 0
        )
        if shift > limit:
            detail = f'theta moves the crop by {shift:.3f} px, at most {limit} px are allowed'
            return Parity('refused', detail, limit, points=reference['keypoints'][..., 0].size)
    difference = point_differences(task, reference, candidate)
    jumped = difference > limit
    jumps = float(jumped.mean()) if difference.size else 0.0
    passed = jumps <= allowed
    largest = _largest(difference[~jumped]) if passed else _largest(difference)
    what = 'keypoints' if task == 'pose' else 'boxes'
    detail = f'{1 - jumps:.1%} of {difference.size} {what} are within {limit} px of ONNX Runtime'
    if not passed:
        detail += f', at least {1 - allowed:.0%} must be; the worst is {largest:.2f} px off'
    return Parity(
        'passed' if passed else 'refused',
        detail,
        limit,
        largest,
        _largest(difference),
        jumps,
        difference.size,
    )


def point_differences(task: str, reference: Arrays, candidate: Arrays) -> NDArray[np.float32]:
    """How far, in pixels of the network's input, each keypoint is off, or each of the best boxes of
    a detector's picture: any shape.
    """
    if task == 'pose':
        return np.abs(candidate['keypoints'] - reference['keypoints'])[..., :2].max(axis=-1)
    boxes = reference['boxes'][0][np.argsort(-reference['scores'][0])[:_BOXES]]
    # Boxes of nearly equal score may change places, so each is compared with the nearest one.
    pairs = np.abs(boxes[:, None] - candidate['boxes'][0][None]).max(axis=-1)
    return pairs.min(axis=1)


def _largest(array: NDArray[Any]) -> float:
    return float(np.abs(array).max(initial=0))


def _side(inputs: Arrays) -> float:
    return float(max(next(iter(inputs.values())).shape[1:3]))
