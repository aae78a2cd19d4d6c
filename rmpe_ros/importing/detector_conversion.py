# SPDX-License-Identifier: Apache-2.0
"""Somebody's detector to a detector by our contract, compared with the original on a picture.

The image input is put before the network, decoding and the choice of the best boxes behind it; NMS
is left to `PersonDetector`, as RMPE wants redundant boxes. Needs the package `onnx`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from rmpe_ros.detector import FEWEST_STEPS
from rmpe_ros.engines.example_pictures import example_scene
from rmpe_ros.importing.detector_classes import class_names, person_class, read_literal
from rmpe_ros.importing.detector_formats import (
    PREPROCESSINGS,
    Chosen,
    Preprocessing,
    Reading,
    recognise,
)
from rmpe_ros.importing.graphs import (
    GraphSurgery,
    describe_network,
    network_inputs,
    normalise,
    read_metadata,
    run_network,
    tensor_shape,
)
from rmpe_ros.importing.photo_check import try_on_photo

# How far the imported model may be from the original, in pixels of its input and in score.
MOST_PIXELS = 0.05
MOST_SCORE = 1e-3
_LONG_SIDE = 640
_STEP = 32

Boxes = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class ImportedDetector:
    """A model by the contract, and lines that say what was done and compared."""

    model: onnx.ModelProto
    report: list[str]


@dataclass(frozen=True)
class BoxDifference:
    """The largest differences of boxes (pixels) and scores, and how many boxes were compared."""

    pixels: float
    score: float
    boxes: int


@dataclass(frozen=True)
class ImageInput:
    """A network's image input. height, width: None where they are free, and then long_side and
    step are how to choose them.
    """

    name: str
    dtype: Any
    height: int | None
    width: int | None
    long_side: int
    step: int

    @property
    def example_size(self) -> tuple[int, int]:
        """Of a picture to try it on: not square where it may be, so that mixed-up sides show."""
        free = self.step * max(FEWEST_STEPS, round(self.long_side * 0.75 / self.step))
        return self.height or free, self.width or self.long_side

    @property
    def smallest_size(self) -> tuple[int, int]:
        """The flattest picture that the run-time makes."""
        return self.height or self.step * FEWEST_STEPS, self.width or self.long_side

    def tensor(self, picture: NDArray[np.uint8], preprocessing: Preprocessing) -> dict[str, Any]:
        """The network's own input for a picture uint8 (H, W, 3) RGB."""
        images = normalise(
            picture[None], preprocessing.mean, preprocessing.deviation, bgr=preprocessing.bgr
        )
        return {self.name: images.astype(self.dtype)}


def convert_detector(
    network: onnx.ModelProto,
    *,
    wanted: str = 'auto',
    queries: int = 300,
    long_side: int | None = None,
    person: int | None = None,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    color: str | None = None,
    metadata: Mapping[str, str],
) -> ImportedDetector:
    """Make a detector by the contract; the arguments are the options of `rmpe import detector`.

    Raises ValueError when the network cannot be used, or when the result is not the same.
    """
    said = read_metadata(network)
    if 'rmpe.format' in said:
        raise ValueError('this model keeps the contract already; give it to rmpe as it is')
    if said.get('task') == 'obb':
        raise ValueError('it finds rotated boxes (task obb), which are no boxes of the contract')
    source = find_image_input(network, long_side)
    person = person_class(network, person)
    reading = _read_outputs(network, source, wanted)
    if reading.fixed_size and not source.height:
        source = replace(source, height=source.long_side, width=source.long_side)
        reading = _read_outputs(network, source, wanted)
    usual = PREPROCESSINGS[reading.preprocessing if wanted == 'auto' else wanted]
    preprocessing = Preprocessing(
        mean=mean or usual.mean,
        deviation=deviation or usual.deviation,
        bgr=usual.bgr if color is None else color == 'bgr',
    )
    picture = example_scene(3, source.example_size)
    original = run_network(network, source.tensor(picture, preprocessing))
    try:
        expected = reading.read(original, person)
    except IndexError as error:
        raise ValueError(
            f'there is no class {person} in {describe_network(network)}; see --person-class'
        ) from error
    queries = min(queries, reading.count(original, source.smallest_size))

    surgery = GraphSurgery(network)
    surgery.take_images(
        'image',
        [1, source.height or 'height', source.width or 'width', 3],
        mean=preprocessing.mean,
        deviation=preprocessing.deviation,
        bgr=preprocessing.bgr,
    )
    keep_best(surgery, *reading.decode(surgery, person), queries)
    size = {'rmpe.long_side': str(source.long_side), 'rmpe.size_step': str(source.step)}
    model = surgery.finish(
        {
            'rmpe.task': 'detector',
            'rmpe.training_data': 'not stated',
            'rmpe.license': said.get('license', 'not stated'),
            **({} if source.height and source.width else size),
            **metadata,
        }
    )
    outputs = run_network(model, {'image': picture[None]})
    found = outputs['boxes'][0], outputs['scores'][0]
    difference = largest_difference(expected, found, complete=reading.complete)
    return ImportedDetector(
        model,
        [
            f'{reading.said}, person is class {person}'
            + ('' if class_names(network) else ' (the file names no classes)')
            + f'; the network takes {_describe_preprocessing(preprocessing)}',
            describe_network(model)
            + ('' if source.height and source.width else f', longer side {source.long_side}'),
            *_remarks(reading, said),
            _compare(difference, source.example_size),
            try_on_photo(model.SerializeToString()),
        ],
    )


def _read_outputs(network: onnx.ModelProto, source: ImageInput, wanted: str) -> Reading:
    """What the outputs mean, which does not depend on how the picture is normalised."""
    picture = example_scene(3, source.example_size)
    outputs = run_network(network, source.tensor(picture, PREPROCESSINGS['yolo']))
    return recognise(network, outputs, source.example_size, wanted)


def find_image_input(network: onnx.ModelProto, long_side: int | None = None) -> ImageInput:
    """The one image input of a network, and its size.

    Raises ValueError when it has another kind of input.
    """
    inputs = list(network_inputs(network).values())
    shape = tensor_shape(inputs[0]) if inputs else ()
    dtype = inputs[0].type.tensor_type.elem_type if inputs else 0
    if len(inputs) != 1 or len(shape) != 4 or dtype not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise ValueError(
            f'expected one input, float (1, 3, H, W), but it is {describe_network(network)}'
        )
    batch, channels, height, width = shape
    if batch not in (1, -1) and isinstance(batch, int):
        raise ValueError(f'the network takes {batch} images at once: export it with batch 1')
    if isinstance(channels, int) and channels != 3:
        raise ValueError(
            f'expected an input (1, 3, H, W), channels first, got {describe_network(network)}'
        )
    sides = [side if isinstance(side, int) else None for side in (height, width)]
    if any(sides):
        if long_side is not None and long_side not in sides:
            raise ValueError(
                f'--long-side {long_side} does not go with the fixed size of the input: '
                f'{describe_network(network)}; export it with a dynamic size'
            )
        sides = [side or max(filter(None, sides)) for side in sides]
    step = _largest(read_literal(network, 'stride')) or _STEP
    long_side = long_side or _largest(read_literal(network, 'imgsz')) or _LONG_SIDE
    if not any(sides) and long_side % step:
        raise ValueError(f'--long-side {long_side} is no multiple of the step, {step} pixels')
    dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return ImageInput(inputs[0].name, dtype, sides[0], sides[1], long_side, step)


def _largest(value: Any) -> int:
    """The largest of a number or a list of them; 0 for anything else."""
    numbers = value if isinstance(value, list | tuple) else [value]
    return max((each for each in numbers if isinstance(each, int) and each > 0), default=0)


def keep_best(surgery: GraphSurgery, boxes: str, scores: str, queries: int) -> None:
    """Give the contract's outputs: the best `queries` of boxes [1, P, 4] and scores [1, P]."""
    count = surgery.constant(np.array([queries], np.int64))
    best, places = surgery.nodes('TopK', scores, count, results=2, axis=1)
    chosen = surgery.node('Gather', boxes, surgery.reshape(places, [-1]), axis=1)
    surgery.give(chosen, 'boxes', [1, queries, 4])
    surgery.give(best, 'scores', [1, queries])


def largest_difference(expected: Boxes, found: Boxes, *, complete: bool) -> BoxDifference:
    """How far a model's boxes and scores are from those of the original network.

    Both: boxes (P, 4), scores (P,), found: the best ones. complete: the original gives all boxes,
    so that those found must be among them, the best ones; else it gives a choice, which must be
    among those found, as far as their scores allow.
    """
    if not len(expected[0]):
        return BoxDifference(0.0, 0.0, 0)
    # The very best box outlives any NMS, so its score must be there in both cases.
    count = len(found[1]) if complete else 1
    highest, ours = (np.sort(each[1])[::-1][:count] for each in (expected, found))
    best = float(np.abs(highest - ours).max())
    least = min(found[1].min(), highest[-1])
    kept = expected[1] >= (least - MOST_SCORE if complete else least)
    expected = expected[0][kept], expected[1][kept]
    few, many = (found, expected) if complete else (expected, found)
    pixels = np.abs(few[0][:, None] - many[0][None]).max(axis=2)
    apart = np.abs(few[1][:, None] - many[1][None])
    nearest = (pixels / MOST_PIXELS + apart / MOST_SCORE).argmin(axis=1)
    rows = np.arange(len(nearest))
    score = max(best, float(apart[rows, nearest].max()))
    return BoxDifference(float(pixels[rows, nearest].max()), score, len(nearest))


def _compare(difference: BoxDifference, size: tuple[int, int]) -> str:
    """The difference in words. Raises ValueError when it is too much."""
    place = f'on an example of {size[1]}x{size[0]}'
    if not difference.boxes:
        return f'the original finds nobody {place}: nothing could be compared'
    text = (
        f'largest difference from the original {place}: {difference.pixels:.1e} px, '
        f'{difference.score:.1e} in score ({difference.boxes} boxes)'
    )
    # So that a difference that is no number is refused, too.
    if not (difference.pixels <= MOST_PIXELS and difference.score <= MOST_SCORE):
        raise ValueError(
            f'{text}; at most {MOST_PIXELS} px and {MOST_SCORE} are allowed, so this network is '
            'not what it looks like: say what it is with --format'
        )
    return text


def _remarks(reading: Reading, said: Mapping[str, str]) -> list[str]:
    """What a user had better know."""
    remarks = []
    if isinstance(reading, Chosen):
        remarks.append(
            'note: this network chooses its boxes itself, one a person; pose NMS chooses better '
            'among redundant boxes: export it without (nms=False, end2end=False)'
        )
    if 'AGPL' in said.get('license', ''):
        remarks.append(
            f'warning: the network is under {said["license"]}: so is what is made of it, and a '
            'product or service around it has to be, too'
        )
    return remarks


def _describe_preprocessing(preprocessing: Preprocessing) -> str:
    mean, deviation = preprocessing.mean, preprocessing.deviation
    order = 'BGR' if preprocessing.bgr else 'RGB'
    if not any(mean) and set(deviation) == {1.0}:
        return f'{order} 0-255'
    if not any(mean) and set(deviation) == {255.0}:
        return f'{order} 0-1'
    return f'{order}, less {mean} divided by {deviation} (of R, G, B)'
