# SPDX-License-Identifier: Apache-2.0
"""What the outputs of other people's detectors mean, and the nodes that turn them into ours.

Each reading can do the same twice: `read` with numpy on the outputs of the original network, which
is what the imported model is compared with, and `decode` as nodes of the graph. Needs `onnx`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rmpe_ros.importing.detector_classes import appended_numbers, check_classes, first_scores
from rmpe_ros.importing.graphs import GraphSurgery, describe_network

Arrays = Mapping[str, NDArray[Any]]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
# Six numbers a box, and what segmentation (32) and COCO pose models (17 × 3) append to them.
_CHOSEN_COLUMNS = (6, 6 + 32, 6 + 51)
_MOST_CHOSEN = 1000
# Channels of YOLOX's first convolution, which sees every second pixel four times.
_FOCUS_CHANNELS = 12
# Operators that choose the best cells for NMS, or only change the order of values.
_MOVES = ('Reshape', 'Gather', 'Flatten', 'Transpose')


@dataclass(frozen=True, kw_only=True)
class Reading(ABC):
    """One way to read a detector's outputs.

    said: what was recognised, for people. preprocessing: which of `PREPROCESSINGS` such networks
    want.
    """

    said: str
    preprocessing: str

    @property
    def fixed_size(self) -> bool:
        """Whether `decode` holds only for the size of the example."""
        return False

    @property
    def complete(self) -> bool:
        """Whether `read` gives all the boxes that `decode` gives; else it gives some of them."""
        return True

    def count(self, outputs: Arrays, size: tuple[int, int]) -> int:
        """How many boxes there are at least in pictures of (height, width)."""
        return _count_cells(size, _STRIDES[0])

    @abstractmethod
    def read(self, outputs: Arrays, person: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Boxes (P, 4) x1, y1, x2, y2 in pixels and person scores (P,) of the original network.

        Raises IndexError when there is no such class.
        """

    @abstractmethod
    def decode(self, surgery: GraphSurgery, person: int) -> tuple[str, str]:
        """Add nodes that give all boxes [1, P, 4] and all person scores [1, P]."""


@dataclass(frozen=True)
class Preprocessing:
    """What a network wants to see. mean, deviation: of red, green and blue on the scale 0-255."""

    mean: Sequence[float] = (0.0, 0.0, 0.0)
    deviation: Sequence[float] = (1.0, 1.0, 1.0)
    bgr: bool = False


PREPROCESSINGS = {
    'yolo': Preprocessing(deviation=(255.0, 255.0, 255.0)),
    'yolox': Preprocessing(bgr=True),
    'rtmdet': Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), bgr=True),
}


@dataclass(frozen=True, kw_only=True)
class Columns(Reading):
    """YOLOv8 and later, (1, 4 + classes + …, P): centre, size, scores; a column for each box.

    turned: (1, P, 4 + classes + …), a row for each box.
    """

    output: str
    turned: bool = False

    def read(self, outputs: Arrays, person: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rows = outputs[self.output][0].astype(np.float64)
        rows = rows.T if self.turned else rows
        return _corners(rows[:4].T), rows[4 + person]

    def decode(self, surgery: GraphSurgery, person: int) -> tuple[str, str]:
        output = surgery.as_float(self.output)
        if self.turned:
            output = surgery.node('Transpose', output, perm=[0, 2, 1])
        table = surgery.node('Transpose', surgery.slice(output, 0, 4, axis=1), perm=[0, 2, 1])
        return _add_corners(surgery, table), surgery.take(output, 4 + person, axis=1)


@dataclass(frozen=True, kw_only=True)
class Rows(Reading):
    """YOLOv5, YOLOv7 and YOLOX, (1, P, 5 + classes): centre, size, box score, class scores.

    cells: column, row and stride (P, 3) of each box's cell where the network gives offsets from
    the cell and logarithms of sizes, in strides (YOLOX); None where it gives pixels.
    """

    output: str
    cells: NDArray[np.float32] | None = None

    @property
    def fixed_size(self) -> bool:
        return self.cells is not None

    def read(self, outputs: Arrays, person: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rows = outputs[self.output][0].astype(np.float64)
        boxes = rows[:, :4].copy()
        if self.cells is not None:
            boxes[:, :2] = (boxes[:, :2] + self.cells[:, :2]) * self.cells[:, 2:]
            boxes[:, 2:] = np.exp(boxes[:, 2:]) * self.cells[:, 2:]
        return _corners(boxes), rows[:, 4] * rows[:, 5 + person]

    def decode(self, surgery: GraphSurgery, person: int) -> tuple[str, str]:
        output = surgery.as_float(self.output)
        table = surgery.slice(output, 0, 4, axis=2)
        if self.cells is not None:
            stride = surgery.constant(self.cells[None, :, 2:])
            offsets = surgery.slice(table, 0, 2, axis=2)
            places = surgery.node('Add', offsets, surgery.constant(self.cells[None, :, :2]))
            sizes = surgery.node('Exp', surgery.slice(table, 2, 4, axis=2))
            parts = [surgery.node('Mul', each, stride) for each in (places, sizes)]
            table = surgery.node('Concat', *parts, axis=2)
        scores = [surgery.take(output, column, axis=2) for column in (4, 5 + person)]
        return _add_corners(surgery, table), surgery.node('Mul', *scores)


@dataclass(frozen=True, kw_only=True)
class Chosen(Reading):
    """YOLO with its choice of boxes inside, (1, P, 6 + …): corners, score, class; best first."""

    output: str

    def count(self, outputs: Arrays, size: tuple[int, int]) -> int:
        return outputs[self.output].shape[1]

    def read(self, outputs: Arrays, person: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rows = outputs[self.output][0].astype(np.float64)
        return rows[:, :4], np.where(np.rint(rows[:, 5]) == person, rows[:, 4], 0)

    def decode(self, surgery: GraphSurgery, person: int) -> tuple[str, str]:
        output = surgery.as_float(self.output)
        score, kind = (surgery.take(output, column, axis=2) for column in (4, 5))
        # 1 for the person's class, 0 for all others: their distance is 1 and more.
        distance = surgery.node(
            'Abs', surgery.node('Sub', kind, surgery.constant(np.float32(person)))
        )
        is_person = surgery.node(
            'Relu', surgery.node('Sub', surgery.constant(np.float32(1)), distance)
        )
        boxes = surgery.slice(output, 0, 4, axis=2)
        return boxes, surgery.node('Mul', score, is_person)


@dataclass(frozen=True, kw_only=True)
class BeforeNms(Reading):
    """An OpenMMLab export, `dets` (1, N, 5) and `labels` (1, N): cut open before its NMS.

    boxes, scores: tensors within the graph. class_axis: of the scores.
    """

    dets: str
    labels: str
    boxes: str
    scores: str
    class_axis: int

    @property
    def complete(self) -> bool:
        return False

    def read(self, outputs: Arrays, person: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rows = outputs[self.dets][0].astype(np.float64)
        wanted = (outputs[self.labels][0] == person) & (rows[:, 4] > 0)
        return rows[wanted, :4], rows[wanted, 4]

    def decode(self, surgery: GraphSurgery, person: int) -> tuple[str, str]:
        scores = surgery.take(surgery.as_float(self.scores), person, axis=self.class_axis)
        return surgery.as_float(self.boxes), scores


def recognise(
    model: onnx.ModelProto, outputs: Arrays, size: tuple[int, int], wanted: str = 'auto'
) -> Reading:
    """Find out how a detector's outputs are to be read.

    outputs: of the network for an example of `size` (height, width). wanted: 'yolo', 'yolox',
    'rtmdet' or 'auto'. Raises ValueError naming what the network has when it is none of these.
    """
    reading = _find_reading(model, outputs, size, wanted)
    kinds = _kinds(reading)
    if not kinds or (wanted != 'auto' and wanted not in kinds):
        found = ', '.join(f'{name} {list(array.shape)}' for name, array in outputs.items())
        other = f' (it looks like --format {kinds[0]})' if kinds else ''
        raise ValueError(
            f'this is no {"detector" if wanted == "auto" else wanted} that can be imported{other}: '
            f'{describe_network(model)}; for an image of {size[0]}x{size[1]} it gives {found}; '
            'expected yolo (1, 4 + classes, boxes), (1, boxes, 5 + classes) or (1, N, 6); '
            'yolox (1, boxes, 5 + classes); rtmdet or yolox dets (1, N, 5) and labels (1, N)'
        )
    assert reading is not None
    return reading


def _kinds(reading: Reading | None) -> tuple[str, ...]:
    """The formats that a reading may be asked for as."""
    if reading is None:
        return ()
    if isinstance(reading, BeforeNms):
        other = 'yolox' if reading.preprocessing == 'rtmdet' else 'rtmdet'
        return reading.preprocessing, other
    return (reading.preprocessing,)


def _find_reading(
    model: onnx.ModelProto, outputs: Arrays, size: tuple[int, int], wanted: str
) -> Reading | None:
    dets = [name for name, each in outputs.items() if each.ndim == 3 and each.shape[2] == 5]
    labels = [name for name, each in outputs.items() if each.ndim == 2]
    if dets and labels:
        _check_pixels(outputs[dets[0]][0, :, :4], size)
        return _before_nms(model, dets[0], labels[0])
    tables = [name for name, each in outputs.items() if each.ndim == 3 and each.shape[0] == 1]
    if not tables:
        return None
    name = max(tables, key=lambda each: outputs[each].size)
    _, rows, columns = outputs[name].shape
    counts = [_count_cells(size, strides) for strides in _STRIDES]
    if columns in counts and 5 <= rows < columns:
        check_classes(model, rows, 4, f'{rows} rows of YOLOv8 or later')
        _check_pixels(outputs[name][0, :4], size)
        return Columns(said=f'YOLOv8 or later, {columns} boxes', preprocessing='yolo', output=name)
    if rows in [3 * count for count in counts] and columns >= 6:
        check_classes(model, columns, 5, f'{columns} columns of YOLOv5 or YOLOv7')
        _check_pixels(outputs[name][0, :, :4], size)
        return Rows(said=f'YOLOv5 or YOLOv7, {rows} boxes', preprocessing='yolo', output=name)
    if rows in counts and columns >= 5:
        cells = _cells(size, _STRIDES[counts.index(rows)])
        return _read_rows(model, name, outputs[name][0].astype(np.float64), cells, size, wanted)
    if rows <= _MOST_CHOSEN and columns in _chosen_columns(model):
        _check_pixels(outputs[name][0, :, :4], size)
        inside = any(node.op_type == 'NonMaxSuppression' for node in model.graph.node)
        how = 'NMS' if inside else 'its choice of boxes'
        return Chosen(
            said=f'YOLO with {how} inside, {rows} boxes', preprocessing='yolo', output=name
        )
    return None


def _read_rows(
    model: onnx.ModelProto,
    name: str,
    table: NDArray[np.float64],
    cells: NDArray[np.float32],
    size: tuple[int, int],
    wanted: str,
) -> Reading:
    """One row a cell: YOLOX, YOLOv6 or YOLOv8 turned; raises ValueError where two of them fit."""
    rows, columns = table.shape
    # Centres in pixels spread over the picture as the cells do; offsets stay near 0.
    places = (cells[:, :2] * cells[:, 2:]).astype(np.float64)
    if not (table[:, :2].std(axis=0) > 0.5 * places.std(axis=0)).all():
        if _follows(table[:, :2], places / (size[1], size[0])):
            _check_pixels(table[:, :4], size)
        check_classes(model, columns, 5, f'{columns} columns of YOLOX')
        return Rows(
            said=f'YOLOX, {rows} boxes as offsets from their cells',
            preprocessing='yolox',
            output=name,
            cells=cells,
        )
    # YOLOv6 keeps the place of YOLOX's box score, and is shown pictures as a YOLO is.
    always = bool((table[:, 4] == 1).all())
    fitting = {5} if always else first_scores(model, columns, wanted)
    if fitting == {4}:
        said = f'YOLOv8 or later, {rows} boxes in rows'
        return Columns(said=said, preprocessing='yolo', output=name, turned=True)
    if fitting == {5}:
        check_classes(model, columns, 5, f'{columns} columns')
        said = f'{"YOLOv6" if always else "YOLOX"}, {rows} boxes in pixels'
        return Rows(said=said, preprocessing='yolo' if always else 'yolox', output=name)
    if not fitting:
        check_classes(model, columns, 5, f'{columns} columns')
    raise ValueError(
        f'{name} [1, {rows}, {columns}] may be {columns - 4} classes of YOLOv8 or later or '
        f'{columns - 5} of YOLOX, and the file names no classes: say which it is with '
        '--format yolo or --format yolox'
    )


def _check_pixels(boxes: NDArray[Any], size: tuple[int, int]) -> None:
    """Raises ValueError for boxes that are shares of the picture: none reaches two pixels."""
    largest = float(np.abs(boxes.astype(np.float64)).max(initial=0))
    if 0 < largest <= 2:
        raise ValueError(
            f'its boxes are shares of the picture, 0 to 1 (the largest number is {largest:.3g}); '
            f'expected pixels of its input of {size[1]}x{size[0]}: export it with boxes in pixels'
        )


def _follows(centres: NDArray[np.float64], places: NDArray[np.float64]) -> bool:
    """Whether centres (P, 2) lie as their cells' do, in units of the cells' places (P, 2)."""
    spread = (centres.std(axis=0) > 0.5 * places.std(axis=0)).all()
    return bool(spread) and all(
        np.corrcoef(centres[:, axis], places[:, axis])[0, 1] > 0.9 for axis in (0, 1)
    )


def _chosen_columns(model: onnx.ModelProto) -> tuple[int, ...]:
    """How long the rows of an end-to-end YOLO may be; Ultralytics' metadata tells of keypoints."""
    return (*_CHOSEN_COLUMNS, *(6 + each for each in appended_numbers(model)))


def _before_nms(model: onnx.ModelProto, dets: str, labels: str) -> BeforeNms:
    nodes = [node for node in model.graph.node if node.op_type == 'NonMaxSuppression']
    if len(nodes) != 1:
        operators = sorted({node.op_type for node in model.graph.node if node.domain})
        raise ValueError(
            f'the outputs {dets} and {labels} have been through NMS, but the graph has '
            f'{len(nodes)} NonMaxSuppression nodes, expected 1'
            + (f' (foreign operators: {", ".join(operators)})' if operators else '')
            + ": export it for ONNX Runtime (MMDeploy's detection_onnxruntime configuration)"
        )
    producer = {name: node for node in model.graph.node for name in node.output}
    boxes, scores = (_before_choice(producer, name) for name in nodes[0].input[:2])
    chosen = boxes != nodes[0].input[0]
    weights = {each.name: each.dims for each in model.graph.initializer}
    convolutions = (node.input[1] for node in model.graph.node if node.op_type == 'Conv')
    channels = weights.get(next(convolutions, ''), (0, 0))[1]
    kind = 'yolox' if channels == _FOCUS_CHANNELS else 'rtmdet'
    name = {'yolox': 'YOLOX', 'rtmdet': 'RTMDet'}[kind]
    return BeforeNms(
        said=f'{name}, an OpenMMLab export; all boxes from before its NMS are kept',
        preprocessing=kind,
        dets=dets,
        labels=labels,
        boxes=boxes,
        scores=scores,
        # ONNX's NMS takes scores (1, classes, boxes); OpenMMLab's heads give (1, boxes, classes).
        class_axis=2 if chosen else 1,
    )


def _before_choice(producer: Mapping[str, Any], tensor: str) -> str:
    """The tensor of all cells, of which the best ones are handed to NMS; `tensor` if all are."""
    name, passed = tensor, []
    while name in producer and producer[name].op_type in _MOVES:
        passed.append(producer[name].op_type)
        name = producer[name].input[0]
    return name if 'Gather' in passed else tensor


def _count_cells(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def _cells(size: tuple[int, int], strides: tuple[int, ...]) -> NDArray[np.float32]:
    """Column, row and stride (P, 3) of all cells: fine to coarse, row by row."""
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride].reshape(2, -1)
        levels.append(np.stack([columns, rows, np.full_like(rows, stride)], axis=1))
    return np.concatenate(levels).astype(np.float32)


def _corners(boxes: NDArray[Any]) -> NDArray[Any]:
    centre, size = boxes[:, :2], boxes[:, 2:4]
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def _add_corners(surgery: GraphSurgery, table: str) -> str:
    """Boxes [1, P, 4] from centre and size to corners."""
    centre = surgery.slice(table, 0, 2, axis=2)
    half = surgery.node(
        'Mul', surgery.slice(table, 2, 4, axis=2), surgery.constant(np.float32(0.5))
    )
    corners = [surgery.node(operator, centre, half) for operator in ('Sub', 'Add')]
    return surgery.node('Concat', *corners, axis=2)
