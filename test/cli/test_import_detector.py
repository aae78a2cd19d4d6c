# SPDX-License-Identifier: Apache-2.0
"""Other people's detectors, imported, give the boxes that a slow reading of their outputs gives.

The networks have the true shapes and output formats, and random weights.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.cli.main import main
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import open_engine
from rmpe_ros.models import find_model
from rmpe_ros.pipeline import PosePipeline

STRIDES = (8, 16, 32)
SIDE = 160
CELLS = sum((SIDE // stride) ** 2 for stride in STRIDES)
KEEP = 50


class Network:
    """An ONNX graph under construction; `features` are random numbers for each cell."""

    def __init__(self, channels: int, size: tuple = (SIDE, SIDE), *, name: str = 'images') -> None:
        self.random = np.random.default_rng(channels)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *size])
        self.image, self.channels = name, channels

    def add(self, operator: str, *inputs: str, name: str = '', count: int = 1, **attributes) -> str:
        outputs = [name or f't{len(self.nodes)}'] + [f'more{i}' for i in range(1, count)]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs[0]

    def constant(self, values, dtype=np.float32) -> str:
        name = f'c{len(self.weights)}'
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def features(self) -> str:
        """[1, channels, cells], about 0 ± 1 for pictures of values 0 to 1 or normalised ones."""
        levels = []
        for stride in STRIDES:
            weight = self.random.normal(0, 1.5 / stride, (self.channels, 3, stride, stride))
            bias = self.random.normal(0, 0.3, self.channels)
            level = self.add(
                'Conv', self.image, self.constant(weight), self.constant(bias), strides=[stride] * 2
            )
            shape = self.constant([0, self.channels, -1], np.int64)
            levels.append(self.add('Reshape', level, shape))
        return self.add('Concat', *levels, axis=2)

    def part(self, tensor: str, start: int, end: int, axis: int = 1) -> str:
        bounds = [self.constant([each], np.int64) for each in (start, end, axis)]
        return self.add('Slice', tensor, *bounds)

    def scaled(self, tensor: str, factor: float, offset: float = 0.0) -> str:
        product = self.add('Mul', tensor, self.constant(factor))
        return self.add('Add', product, self.constant(offset)) if offset else product

    def save(self, path: Path, outputs: dict[str, list], *, opset: int = 17, **metadata) -> Path:
        values = [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name == 'labels' else TensorProto.FLOAT, shape
            )
            for name, shape in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, 'theirs', [self.input], values, self.weights)
        imports = [helper.make_opsetid('', opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path


def cell_table() -> np.ndarray:
    """Column, row, stride of each cell, by counting."""
    return np.array(
        [
            (column, row, stride)
            for stride in STRIDES
            for row in range(SIDE // stride)
            for column in range(SIDE // stride)
        ],
        np.float32,
    )


def pixel_boxes(net: Network, features: str) -> str:
    """Centre and size in pixels [1, 4, cells]: within the cell, 8 to 40 pixels large."""
    table = cell_table()
    offset = net.add('Sigmoid', net.part(features, 0, 2))
    place = net.add('Add', offset, net.constant(table[:, :2].T[None]))
    centre = net.add('Mul', place, net.constant(table[:, 2]))
    size = net.scaled(net.add('Sigmoid', net.part(features, 2, 4)), 32, 8)
    return net.add('Concat', centre, size, axis=1)


def yolov8(
    path: Path,
    classes: int = 80,
    extra: int = 0,
    *,
    turned: bool = False,
    shares: bool = False,
    **metadata,
) -> Path:
    """turned: a row for each box. shares: boxes as shares of the picture."""
    net = Network(4 + classes + extra)
    features = net.features()
    scores = net.add('Sigmoid', net.part(features, 4, 4 + classes))
    boxes = pixel_boxes(net, features)
    parts = [net.scaled(boxes, 1 / SIDE) if shares else boxes, scores]
    parts += [net.part(features, 4 + classes, 4 + classes + extra)] if extra else []
    shape = [1, 4 + classes + extra, CELLS]
    if turned:
        net.add('Transpose', net.add('Concat', *parts, axis=1), name='output0', perm=[0, 2, 1])
        shape[1:] = shape[:0:-1]
    else:
        net.add('Concat', *parts, name='output0', axis=1)
    return net.save(path, {'output0': shape}, **metadata)


def yolov8_turned(path: Path) -> Path:
    return yolov8(path, turned=True)


def yolov8_pose(path: Path) -> Path:
    return yolov8(path, 1, 51, task='pose', names="{0: 'person'}", kpt_shape='[17, 3]')


def yolov5(path: Path) -> Path:
    """Three anchors a cell, (1, 3 cells, 5 + classes) in pixels."""
    net = Network(3 * 7)
    features = net.features()
    tables = []
    for anchor in range(3):
        mine = net.part(features, 7 * anchor, 7 * anchor + 7)
        sure = net.add('Sigmoid', net.part(mine, 4, 7))
        tables.append(net.add('Concat', pixel_boxes(net, mine), sure, axis=1))
    net.add('Transpose', net.add('Concat', *tables, axis=2), name='output', perm=[0, 2, 1])
    return net.save(path, {'output': [1, 3 * CELLS, 7]})


def yolox(path: Path, size: tuple = (SIDE, SIDE)) -> Path:
    """Offsets and logarithms as they come out of the head, scores through a sigmoid."""
    net = Network(5 + 3, size)
    features = net.scaled(net.features(), 0.01)  # it takes values 0-255
    table = [net.part(features, 0, 4), net.add('Sigmoid', net.part(features, 4, 8))]
    net.add('Transpose', net.add('Concat', *table, axis=1), name='output', perm=[0, 2, 1])
    return net.save(path, {'output': [1, 'cells', 8]})


def yolox_decoded(path: Path, classes: int = 80, *, shares: bool = False) -> Path:
    net = Network(5 + classes)
    features = net.scaled(net.features(), 0.01)
    boxes = pixel_boxes(net, features)
    sure = net.add('Sigmoid', net.part(features, 4, 5 + classes))
    table = [net.scaled(boxes, 1 / SIDE) if shares else boxes, sure]
    net.add('Transpose', net.add('Concat', *table, axis=1), name='output', perm=[0, 2, 1])
    return net.save(path, {'output': [1, CELLS, 5 + classes]})


def yolov6(path: Path) -> Path:
    """A row for each box with a score of 1 before those of the classes."""
    net = Network(4 + 3)
    features = net.features()
    scores = net.add('Sigmoid', net.part(features, 4, 7))
    one = net.add('Exp', net.scaled(net.part(features, 4, 5), 0))
    table = net.add('Concat', pixel_boxes(net, features), one, scores, axis=1)
    net.add('Transpose', table, name='outputs', perm=[0, 2, 1])
    return net.save(path, {'outputs': [1, CELLS, 8]})


def shipped_detector(path: Path, person: int = 0, **metadata) -> Path:
    """Our own detector as an end-to-end YOLO: a network that finds people in photos."""
    model = onnx.load(find_model('detector'))
    (image,) = model.graph.input
    side, queries = 448, model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    planes = helper.make_tensor_value_info('planes', TensorProto.FLOAT, [1, 3, side, side])
    for name, value in (('scale', [255.0]), ('half', [0.5]), ('class', [float(person)])):
        array = np.array(value, np.float32).reshape((1, 1, 1) if name == 'class' else ())
        model.graph.initializer.append(numpy_helper.from_array(array, f'their_{name}'))
    axis = numpy_helper.from_array(np.array([2], np.int64), 'their_axis')
    model.graph.initializer.append(axis)
    before = [
        helper.make_node('Mul', ['planes', 'their_scale'], ['their_0']),
        helper.make_node('Add', ['their_0', 'their_half'], ['their_1']),
        helper.make_node('Transpose', ['their_1'], ['their_2'], perm=[0, 2, 3, 1]),
        helper.make_node('Cast', ['their_2'], [image.name], to=TensorProto.UINT8),
    ]
    after = [
        helper.make_node('Unsqueeze', ['scores', 'their_axis'], ['their_scores']),
        helper.make_node('Mul', ['their_scores', 'their_scale'], ['their_large']),
        helper.make_node('Sub', ['their_large', 'their_large'], ['their_zero']),
        helper.make_node('Add', ['their_zero', 'their_class'], ['their_kind']),
        helper.make_node('Concat', ['boxes', 'their_scores', 'their_kind'], ['out'], axis=2),
    ]
    nodes = [*before, *model.graph.node, *after]
    out = helper.make_tensor_value_info('out', TensorProto.FLOAT, [1, queries, 6])
    for field, values in (('node', nodes), ('input', [planes]), ('output', [out])):
        del getattr(model.graph, field)[:]
        getattr(model.graph, field).extend(values)
    del model.graph.value_info[:]
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def end_to_end(path: Path) -> Path:
    """(1, 300, 6): corners, score and class of 300 cells."""
    net = Network(4 + 3)
    features = net.features()
    boxes = pixel_boxes(net, features)
    centre, half = net.part(boxes, 0, 2), net.scaled(net.part(boxes, 2, 4), 0.5)
    scores = net.add('Sigmoid', net.part(features, 4, 7))
    best = net.add('ReduceMax', scores, axes=[1])
    kind = net.add('Cast', net.add('ArgMax', scores, axis=1), to=TensorProto.FLOAT)
    corners = [net.add('Sub', centre, half), net.add('Add', centre, half)]
    table = net.add('Concat', *corners, best, kind, axis=1)
    net.add('Transpose', net.part(table, 0, 300, 2), name='output0', perm=[0, 2, 1])
    return net.save(path, {'output0': [1, 300, 6]})


def openmmlab(
    path: Path, *, first_choice: bool = True, focus: bool = False, doubt: float = 1.0
) -> Path:
    """RTMDet or YOLOX with NMS: `dets` (1, N, 5), `labels` (1, N). The tensors before NMS have the
    contract's own names, as in real files.
    """
    net = Network(4 + 2, name='image')
    if focus:  # YOLOX's first convolution sees every second pixel four times
        net.add('SpaceToDepth', 'image', name='folded', blocksize=2)
        weight = net.constant(net.random.normal(0, 0.3, (3, 12, 1, 1)))
        smaller = net.add('Conv', 'folded', weight)
        # Twice as large again, so that the rest finds its strides.
        large = net.add('Concat', *[smaller] * 4, axis=1)
        net.image = net.scaled(net.add('DepthToSpace', large, blocksize=2), 0.01)
    features = net.features()
    boxes = pixel_boxes(net, features)
    centre, half = net.part(boxes, 0, 2), net.scaled(net.part(boxes, 2, 4), 0.5)
    corners = net.add('Concat', net.add('Sub', centre, half), net.add('Add', centre, half), axis=1)
    all_boxes = net.add('Transpose', corners, perm=[0, 2, 1])
    all_scores = net.add('Transpose', net.part(features, 4, 6), perm=[0, 2, 1])
    all_scores = net.add('Sigmoid', all_scores)
    all_boxes = net.add('Concat', all_boxes, axis=1)
    if first_choice:  # the 400 best cells only
        best = net.add('ReduceMax', all_scores, axes=[2], keepdims=0)
        net.nodes.append(
            helper.make_node('TopK', [best, net.constant([400], np.int64)], ['top', 'cells'])
        )
        cells = net.add('Reshape', 'cells', net.constant([-1], np.int64))
        all_boxes = net.add('Gather', all_boxes, cells, axis=1)
        all_scores = net.add('Gather', all_scores, cells, axis=1)
    net.add('Reshape', all_boxes, net.constant([1, -1, 4], np.int64), name='boxes')
    net.add('Transpose', all_scores, name='scores', perm=[0, 2, 1])
    limits = [net.constant([100], np.int64), net.constant([0.5]), net.constant([0.05])]
    chosen = net.add('NonMaxSuppression', 'boxes', 'scores', *limits)
    place = net.add('Gather', chosen, net.constant(2, np.int64), axis=1)
    scores = net.add('GatherND', 'scores', chosen)
    scores = net.add('Unsqueeze', net.scaled(scores, doubt), net.constant([0, 2], np.int64))
    net.add('Concat', net.add('Gather', 'boxes', place, axis=1), scores, name='dets', axis=2)
    kind = net.add('Gather', chosen, net.constant(1, np.int64), axis=1)
    net.add('Unsqueeze', kind, net.constant([0], np.int64), name='labels')
    return net.save(path, {'dets': [1, 'n', 5], 'labels': [1, 'n']})


def original(path: Path, image: np.ndarray) -> list[np.ndarray]:
    """The outputs of the network as it came, for an image (3, H, W)."""
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    inputs = {session.get_inputs()[0].name: np.ascontiguousarray(image[None], np.float32)}
    return session.run(None, inputs)


def picture(seed: int = 5, size: tuple = (SIDE, SIDE)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def best(candidates: list) -> tuple[np.ndarray, np.ndarray]:
    candidates = sorted(candidates, key=lambda each: -each[1])[:KEEP]
    return np.array([box for box, _ in candidates]), np.array([score for _, score in candidates])


def read_yolov8(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (table,) = original(path, image.transpose(2, 0, 1) / 255)
    return best([(corners(*column[:4]), column[4]) for column in table[0].T])


def read_yolov5(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (table,) = original(path, image.transpose(2, 0, 1) / 255)
    return best([(corners(*row[:4]), row[4] * row[5]) for row in table[0]])


def read_yolox(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (table,) = original(path, image[:, :, ::-1].transpose(2, 0, 1))
    found = []
    for row, (column, line, stride) in zip(table[0], cell_table(), strict=True):
        centre = ((row[0] + column) * stride, (row[1] + line) * stride)
        size = (math.exp(row[2]) * stride, math.exp(row[3]) * stride)
        found.append((corners(*centre, *size), row[4] * row[5]))
    return best(found)


def read_yolox_decoded(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (table,) = original(path, image[:, :, ::-1].transpose(2, 0, 1))
    return best([(corners(*row[:4]), row[4] * row[5]) for row in table[0]])


def read_end_to_end(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (table,) = original(path, image.transpose(2, 0, 1) / 255)
    return best([(row[:4], row[4]) for row in table[0] if row[5] == 0])


def read_yolov6(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (table,) = original(path, image.transpose(2, 0, 1) / 255)
    return best([(corners(*row[:4]), row[5]) for row in table[0]])


def read_yolov8_turned(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (table,) = original(path, image.transpose(2, 0, 1) / 255)
    return best([(corners(*row[:4]), row[4]) for row in table[0]])


COMPLETE: dict[str, tuple[Callable, Callable]] = {
    'yolov8': (yolov8, read_yolov8),
    'yolov8_pose': (yolov8_pose, read_yolov8),
    'yolov8_turned': (yolov8_turned, read_yolov8_turned),
    'yolov6': (yolov6, read_yolov6),
    'yolov5': (yolov5, read_yolov5),
    'yolox': (yolox, read_yolox),
    'yolox_decoded': (yolox_decoded, read_yolox_decoded),
    'end_to_end': (end_to_end, read_end_to_end),
}


def run_import(file: Path, output: Path, *options: str) -> int:
    return main(['import', 'detector', str(file), str(output), '--boxes', str(KEEP), *options])


@pytest.mark.parametrize('kind', COMPLETE)
def test_boxes_are_those_of_a_slow_reading(kind, tmp_path, capsys):
    make, read = COMPLETE[kind]
    file = make(tmp_path / 'theirs.onnx')
    assert run_import(file, tmp_path / 'ours.onnx') == 0
    assert 'largest difference from the original' in capsys.readouterr().out
    engine = open_engine(tmp_path / 'ours.onnx')
    assert engine.inputs['image'].shape == (1, SIDE, SIDE, 3)
    assert {name: info.shape for name, info in engine.outputs.items()} == {
        'boxes': (1, KEEP, 4),
        'scores': (1, KEEP),
    }
    image = picture()
    outputs = engine({'image': image[None]})
    boxes, scores = read(file, image)
    np.testing.assert_allclose(outputs['scores'][0, : len(scores)], scores, atol=1e-5)
    np.testing.assert_allclose(outputs['boxes'][0, : len(scores)], boxes, atol=1e-3)
    assert (outputs['scores'][0, len(scores) :] == 0).all()  # of other classes
    assert len(scores) > 10 and np.ptp(scores) > 0.01  # else the order would be by chance


@pytest.mark.parametrize('first_choice', [True, False])
@pytest.mark.parametrize('focus', [False, True], ids=['rtmdet', 'yolox'])
def test_openmmlab_networks_keep_the_boxes_that_their_nms_removes(
    focus, first_choice, tmp_path, capsys
):
    file = openmmlab(tmp_path / 'theirs.onnx', first_choice=first_choice, focus=focus)
    assert run_import(file, tmp_path / 'ours.onnx', '--boxes', '400') == 0
    assert ('YOLOX' if focus else 'RTMDet') in capsys.readouterr().out
    image = picture()
    planes = image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
    if not focus:
        mean, deviation = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
        planes = (planes - np.reshape(mean, (3, 1, 1))) / np.reshape(deviation, (3, 1, 1))
    dets, labels = original(file, planes)
    people = dets[0][labels[0] == 0]
    engine = open_engine(tmp_path / 'ours.onnx')
    outputs = engine({'image': image[None]})
    ours = np.concatenate([outputs['boxes'][0], outputs['scores'][0][:, None]], axis=1)
    assert 20 < len(people) < 200
    apart = np.abs(people[:, None] - ours[None]).max(axis=2).min(axis=1)
    assert apart[people[:, 4] > ours[:, 4].min() + 1e-5].max() < 1e-3
    # NMS at IoU 0.5, as theirs, leads to the same people.
    detector = PersonDetector(engine, score_threshold=0.6, nms_iou=0.5)
    found = detector(image)[1]
    inside = (people[:, :4] > -1).all(axis=1) & (people[:, :4] < SIDE + 1).all(axis=1)
    assert inside.sum() > 5 and len(found) < 400
    for score in people[inside & (people[:, 4] > 0.6), 4][:5]:
        assert np.abs(found - score).min() < 1e-4


def test_a_network_that_is_not_what_it_looks_like_is_refused(tmp_path, capsys):
    """Its scores are halved after NMS: taking them from before would be wrong."""
    file = openmmlab(tmp_path / 'theirs.onnx', doubt=0.5)
    assert run_import(file, tmp_path / 'ours.onnx') == 2
    assert 'not what it looks like' in capsys.readouterr().err
    assert not (tmp_path / 'ours.onnx').exists()


def test_free_input_size(tmp_path, capsys):
    net = Network(4 + 2, ('height', 'width'))
    features = net.features()
    boxes = net.scaled(net.part(features, 0, 4), 50, 100)
    scores = net.add('Sigmoid', net.part(features, 4, 6))
    net.add('Concat', boxes, scores, name='output0', axis=1)
    file = net.save(tmp_path / 'theirs.onnx', {'output0': [1, 6, 'cells']}, imgsz='[320, 320]')
    assert run_import(file, tmp_path / 'ours.onnx') == 0
    assert 'longer side 320' in capsys.readouterr().out
    detector = PersonDetector(open_engine(tmp_path / 'ours.onnx'))
    assert detector.input_size((480, 640)) == (256, 320)
    for size in ((256, 320), (64, 320), (320, 192)):
        image = picture(size=size)
        outputs = detector.engine({'image': image[None]})
        boxes, scores = read_yolov8(file, image)
        np.testing.assert_allclose(outputs['scores'][0], scores, atol=1e-5)
        np.testing.assert_allclose(outputs['boxes'][0], boxes, atol=1e-3)
    assert run_import(file, tmp_path / 'large.onnx', '--long-side', '640', '--boxes', '9999') == 0
    # As many as the flattest picture has cells: 8 · 80 + 4 · 40 + 2 · 20.
    assert open_engine(tmp_path / 'large.onnx').outputs['boxes'].shape == (1, 840, 4)
    assert run_import(file, tmp_path / 'odd.onnx', '--long-side', '333') == 2
    assert 'no multiple of the step, 32' in capsys.readouterr().err


def test_yolox_of_free_size_becomes_square(tmp_path):
    file = yolox(tmp_path / 'theirs.onnx', ('height', 'width'))
    assert run_import(file, tmp_path / 'ours.onnx', '--long-side', str(SIDE)) == 0
    detector = PersonDetector(open_engine(tmp_path / 'ours.onnx'))
    assert detector.input_size((480, 640)) == (SIDE, SIDE)
    outputs = detector.engine({'image': picture()[None]})
    boxes, scores = read_yolox(file, picture())
    np.testing.assert_allclose(outputs['scores'][0], scores, atol=1e-5)
    np.testing.assert_allclose(outputs['boxes'][0], boxes, atol=1e-3)


def test_person_class_by_name_or_number(tmp_path, capsys):
    file = yolov8(tmp_path / 'theirs.onnx', 3, names="{0: 'cat', 1: 'Person', 2: 'dog'}")
    image = picture()
    (table,) = original(file, image.transpose(2, 0, 1) / 255)
    for options, row in (((), 5), (('--person-class', '2'), 6)):
        assert run_import(file, tmp_path / 'ours.onnx', *options) == 0
        scores = open_engine(tmp_path / 'ours.onnx')({'image': image[None]})['scores'][0]
        np.testing.assert_allclose(scores, np.sort(table[0, row])[::-1][:KEEP], atol=1e-5)
    assert run_import(file, tmp_path / 'none.onnx', '--person-class', '3') == 2
    assert 'no class 3 among its 3' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('names', 'says', 'number'),
    [
        ("['helmet', 'car', 'Person']", 'person is class 2;', 2),
        ("{'0': 'car', '1': 'pedestrian', '2': 'dog'}", 'person is class 1;', 1),
        ('["cat", "person", "dog"]', 'person is class 1;', 1),
        ("{0: 'people', 1: 'person', 2: 'dog'}", 'person is class 1;', 1),
    ],
)
def test_the_person_is_found_among_the_names(tmp_path, capsys, names, says, number):
    file = yolov8(tmp_path / 'theirs.onnx', 3, names=names)
    assert run_import(file, tmp_path / 'ours.onnx') == 0
    assert says in capsys.readouterr().out
    (table,) = original(file, picture().transpose(2, 0, 1) / 255)
    scores = open_engine(tmp_path / 'ours.onnx')({'image': picture()[None]})['scores'][0]
    np.testing.assert_allclose(scores, np.sort(table[0, 4 + number])[::-1][:KEEP], atol=1e-5)


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ('helmet, car, person', r"\"names\" is 'helmet, car, person', expected a list of names"),
        ('[' * 3000, 'expected a list of names, or numbers with names'),
        ("['pedestrian', 'human', 'car']", '2 of its 3 classes is called "person"'),
        ("['cat', 'person']", 'place for 3 classes, but the file names 2'),
    ],
)
def test_names_that_leave_it_open_are_refused(tmp_path, capsys, names, message):
    file = yolov8(tmp_path / 'theirs.onnx', 3, names=names)
    assert run_import(file, tmp_path / 'ours.onnx') == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_row_a_box_is_read_by_names_and_columns(tmp_path, capsys):
    """8 columns are 4 classes of YOLOv8, or 3 of YOLOX behind the score of the box."""
    plain = yolov8(tmp_path / 'plain.onnx', 4, turned=True)
    assert run_import(plain, tmp_path / 'ours.onnx') == 2
    error = capsys.readouterr().err
    assert 'may be 4 classes of YOLOv8 or later or 3 of YOLOX' in error
    assert '--format yolo or --format yolox' in error
    named = yolov8(tmp_path / 'named.onnx', 4, turned=True, names="['a', 'b', 'c', 'person']")
    for file, options, says in (
        (plain, ('--format', 'yolo'), 'YOLOv8 or later, 525 boxes in rows, person is class 0'),
        (named, (), 'YOLOv8 or later, 525 boxes in rows, person is class 3'),
        (plain, ('--format', 'yolox'), 'YOLOX, 525 boxes in pixels, person is class 0'),
    ):
        assert run_import(file, tmp_path / 'ours.onnx', *options) == 0
        assert says in capsys.readouterr().out
    assert run_import(named, tmp_path / 'ours.onnx', '--format', 'yolox') == 2
    assert 'it looks like --format yolo' in capsys.readouterr().err


@pytest.mark.parametrize('make', [yolov8, yolox_decoded])
def test_boxes_that_are_shares_of_the_picture_are_refused(tmp_path, capsys, make):
    file = make(tmp_path / 'theirs.onnx', 80, shares=True)
    assert run_import(file, tmp_path / 'ours.onnx') == 2
    assert 'its boxes are shares of the picture, 0 to 1' in capsys.readouterr().err


def test_what_finds_people_is_tried_on_a_photo(tmp_path, capsys):
    file = shipped_detector(tmp_path / 'theirs.onnx', 2, names="['helmet', 'car', 'person']")
    assert run_import(file, tmp_path / 'ours.onnx', '--boxes', '300') == 0
    out = capsys.readouterr().out
    assert 'person is class 2' in out
    score, overlap = re.search(
        r'finds her, with a score of (\S+) and an overlap of (\S+)', out
    ).groups()
    assert float(score) > 0.5 and float(overlap) > 0.8
    assert run_import(file, tmp_path / 'ours.onnx', '--person-class', '1') == 0
    assert 'warning: on a photo of a person it does not find her' in capsys.readouterr().out


def test_other_preprocessing(tmp_path):
    file = yolov8(tmp_path / 'theirs.onnx', 1)
    options = '--color bgr --mean 10 20 30 --std 50 60 70'.split()
    assert run_import(file, tmp_path / 'ours.onnx', *options) == 0
    image = picture()
    planes = (image.astype(np.float32) - [10, 20, 30]) / [50, 60, 70]
    (table,) = original(file, planes[:, :, ::-1].transpose(2, 0, 1))
    scores = open_engine(tmp_path / 'ours.onnx')({'image': image[None]})['scores'][0]
    np.testing.assert_allclose(scores, np.sort(table[0, 4])[::-1][:KEEP], atol=1e-5)


def test_half_precision_network(tmp_path):
    file = yolov8(tmp_path / 'theirs.onnx', 2)
    model = onnx.load(file)
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(numpy_helper.from_array(half, weight.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, tmp_path / 'half.onnx')
    assert run_import(tmp_path / 'half.onnx', tmp_path / 'ours.onnx') == 0
    outputs = open_engine(tmp_path / 'ours.onnx')({'image': picture()[None]})
    boxes, scores = read_yolov8(file, picture())
    assert outputs['boxes'].dtype == outputs['scores'].dtype == np.float32
    np.testing.assert_allclose(outputs['scores'][0], scores, atol=3e-3)
    sure = np.abs(outputs['boxes'][0][:, None] - boxes[None]).max(axis=2).min(axis=0)
    assert np.median(sure) < 0.3


def test_metadata_and_the_pipeline(tmp_path, pose_model, capsys):
    said = {'license': 'AGPL-3.0 License', 'names': "{0: 'person'}", 'author': 'somebody'}
    file = yolov8(tmp_path / 'theirs.onnx', 1, **said)
    options = '--name seen --training-data COCO --score-threshold 0.8 --nms-iou 0.7'.split()
    assert run_import(file, tmp_path / 'ours.onnx', *options) == 0
    assert 'warning: the network is under AGPL-3.0' in capsys.readouterr().out
    with PosePipeline(tmp_path / 'ours.onnx', pose_model) as pipeline:
        info = pipeline.detector.info
        assert (info.name, info.training_data, info.license) == ('seen', 'COCO', said['license'])
        assert (info.score_threshold, info.nms_iou) == (0.8, 0.7)
        assert 'author' not in pipeline.detector.engine.metadata
        assert len(pipeline.detector(picture(size=(120, 200)))[0]) > 0
        pipeline(picture(size=(120, 200)))


def wrong_network(tmp_path: Path, kind: str) -> Path:
    file = tmp_path / f'{kind}.onnx'
    if kind == 'text':
        file.write_text('not a network')
    elif kind == 'classifier':
        net = Network(10)
        net.add('ReduceMean', net.features(), name='classes', axes=[2], keepdims=0)
        net.save(file, {'classes': [1, 10]})
    elif kind == 'queries':  # DETR gives boxes and scores of other kinds
        net = Network(84)
        net.add('Transpose', net.part(net.features(), 0, 300, 2), name='out', perm=[0, 2, 1])
        net.save(file, {'out': [1, 300, 84]})
    elif kind == 'rotated':
        yolov8(file, 15, 1, task='obb')
    elif kind == 'nameless':
        yolov8(file, 2, names="{0: 'cat', 1: 'dog'}")
    elif kind == 'contract':
        assert run_import(yolov8(tmp_path / 'theirs.onnx'), file) == 0
    elif kind == 'old':
        model = onnx.load(yolov8(file))
        model.opset_import[0].version = 9
        onnx.save(model, file)
    elif kind == 'batch':
        model = onnx.load(yolov8(file))
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
        onnx.save(model, file)
    elif kind == 'channels_last':
        net = Network(6, name='planes')
        features = net.features()
        net.nodes.insert(0, helper.make_node('Transpose', ['x'], ['planes'], perm=[0, 3, 1, 2]))
        net.add('Identity', features, name='out')
        net.input = helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, SIDE, SIDE, 3])
        net.save(file, {'out': [1, 6, CELLS]})
    return file


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('missing', 'cannot be read: No such file'),
        ('text', 'is no ONNX model'),
        ('classifier', r'no detector.*images float32 \[1, 3, 160, 160\] → classes .*expected yolo'),
        ('queries', r'no detector.*gives out \[1, 300, 84\]; expected yolo'),
        ('rotated', 'rotated boxes'),
        ('nameless', r'none of its 2 classes is called "person" \(0 cat, 1 dog .*--person-class'),
        ('contract', 'keeps the contract already'),
        ('old', 'opset 9, at least 11'),
        ('batch', 'takes 8 images at once'),
        ('channels_last', r'channels first, got x float32 \[1, 160, 160, 3\]'),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(kind, message, tmp_path, capsys):
    file = wrong_network(tmp_path, kind)
    capsys.readouterr()
    assert run_import(file, tmp_path / 'ours.onnx') == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and file.name in error
    assert re.search(message, error), error
    assert not (tmp_path / 'ours.onnx').exists()


def test_a_format_that_does_not_fit_is_refused(tmp_path, capsys):
    file = yolov8(tmp_path / 'theirs.onnx')
    assert run_import(file, tmp_path / 'ours.onnx', '--format', 'rtmdet') == 2
    assert 'no rtmdet that can be imported (it looks like --format yolo)' in capsys.readouterr().err
    assert run_import(file, tmp_path / 'ours.onnx', '--long-side', '320') == 2
    assert 'does not go with the fixed size' in capsys.readouterr().err


def test_end_to_end_says_that_redundant_boxes_are_missing(tmp_path, capsys):
    assert run_import(end_to_end(tmp_path / 'theirs.onnx'), tmp_path / 'ours.onnx') == 0
    assert 'chooses its boxes itself' in capsys.readouterr().out


def test_import_alone_explains_itself(capsys):
    assert main(['import']) == 2
    out = capsys.readouterr().out
    assert 'detector' in out and 'pose' in out and 'torchvision' in out
