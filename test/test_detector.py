# SPDX-License-Identifier: Apache-2.0
"""The detector's letterbox, thresholds and box NMS, with a model that finds bright rectangles."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros import PosePipeline
from rmpe_ros.core.boxes import box_iou
from rmpe_ros.detector import PersonDetector, letterbox
from rmpe_ros.engines import open_engine
from rmpe_ros.engines.example_pictures import PERSON, example_photo
from rmpe_ros.models import ModelError, find_model

SHIPPED = PersonDetector(open_engine(find_model('detector')))


@pytest.fixture
def detector(detector_model: Path) -> PersonDetector:
    return PersonDetector(open_engine(detector_model))


def test_boxes_come_back_in_pixels_of_the_image(
    detector: PersonDetector, two_people: np.ndarray
) -> None:
    boxes, scores = detector(two_people)
    np.testing.assert_allclose(boxes, [[50, 60, 100, 210], [400, 250, 500, 450]], atol=0.01)
    np.testing.assert_allclose(scores, [1, 0.8], atol=1e-6)
    assert boxes.dtype == scores.dtype == np.float32


def test_redundant_boxes_go_only_by_nms(detector_model: Path, two_people: np.ndarray) -> None:
    """The model gives every box twice; the second time half its pixels larger and less sure."""
    everything = PersonDetector(open_engine(detector_model), nms_iou=1.0)
    boxes, scores = everything(two_people)
    assert len(boxes) == 4
    np.testing.assert_allclose(scores, [1, 0.9, 0.8, 0.72], atol=1e-6)
    np.testing.assert_allclose(boxes[1], [47.5, 57.5, 102.5, 212.5], atol=0.01)


def test_threshold_and_max_people(detector_model: Path, two_people: np.ndarray) -> None:
    engine = open_engine(detector_model)
    assert len(PersonDetector(engine, score_threshold=0.85)(two_people)[0]) == 1
    assert len(PersonDetector(engine, score_threshold=0.01, nms_iou=0.6)(two_people)[0]) == 2
    best, scores = PersonDetector(engine, max_people=1)(two_people)
    assert scores.tolist() == [1]
    np.testing.assert_allclose(best, [[50, 60, 100, 210]], atol=0.01)


def test_suggestions_of_the_model_are_the_defaults(detector: PersonDetector) -> None:
    assert (detector.score_threshold, detector.nms_iou) == (0.6, 0.6)


@pytest.mark.parametrize('size', [(480, 640), (960, 1280), (30, 40), (600, 200), (200, 900)])
def test_any_shape_of_image(detector: PersonDetector, size: tuple[int, int]) -> None:
    """A rectangle of a tenth to a fifth of the image, whatever the scale of the letterbox."""
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    box = np.array([width // 10, height // 10, width // 3, height // 3])
    image[box[1] : box[3], box[0] : box[2]] = 255
    boxes, _ = detector(image)
    pixel = max(width / 128, height / 96)
    np.testing.assert_allclose(boxes, box[None], atol=1.01 * pixel)


def test_boxes_are_clipped_to_the_image(detector_model: Path) -> None:
    image = np.full((96, 128, 3), 255, np.uint8)
    boxes, _ = PersonDetector(open_engine(detector_model), nms_iou=1.0)(image)
    assert boxes.min() == 0
    assert boxes[:, 2].max() == 128
    assert boxes[:, 3].max() == 96


def test_nobody_and_smallest_image(detector: PersonDetector) -> None:
    for image in (np.zeros((480, 640, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)):
        boxes, scores = detector(image)
        assert boxes.shape == (0, 4)
        assert scores.shape == (0,)


def test_letterbox_keeps_the_aspect_and_pads_with_grey() -> None:
    canvas, scale = letterbox(np.full((100, 300, 3), 7, np.uint8), (96, 128))
    assert canvas.shape == (96, 128, 3)
    assert (canvas[:43] == 7).all()
    assert (canvas[43:] == 114).all()
    np.testing.assert_allclose(scale, [128 / 300, 43 / 100])


@pytest.mark.parametrize('size', [(1080, 1920), (540, 960), (2160, 3840), (1536, 2048), (541, 959)])
def test_letterbox_keeps_every_pixel_where_it_is(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = np.sin(columns / size[1] * 9) + np.cos(rows / size[0] * 7)
    image = np.repeat((waves * 60 + 128).astype(np.uint8)[..., None], 3, axis=2)
    canvas, scale = letterbox(image, (448, 448))
    height = round(size[0] * scale[1])
    assert round(size[1] * scale[0]) == 448
    expected = cv2.resize(image, (448, height), interpolation=cv2.INTER_AREA)
    assert np.abs(canvas[:height].astype(int) - expected).max() <= 2


def test_letterbox_shrinks_without_aliasing() -> None:
    """The mean of 100 pixels of noise has a tenth of its spread; a sample has nearly all of it."""
    noise = np.random.default_rng(0).integers(0, 255, (960, 1280, 3), dtype=np.uint8)
    canvas, _ = letterbox(noise, (96, 128))
    assert canvas.std() < 0.12 * noise.std()


@pytest.fixture
def free_size_model(tmp_path: Path) -> Path:
    """A detector of any input size: one box around all pixels > 128, sure by 0.9."""
    node = helper.make_node
    nodes = [
        node('Cast', ['image'], ['float'], to=TensorProto.FLOAT),
        node('ReduceMean', ['float'], ['grey'], axes=[0, 3], keepdims=0),
        node('Greater', ['grey', 'threshold'], ['bright']),
        node('NonZero', ['bright'], ['rows_columns']),
        node('Cast', ['rows_columns'], ['places'], to=TensorProto.FLOAT),
        node('ReduceMin', ['places'], ['low'], axes=[1], keepdims=0),
        node('ReduceMax', ['places'], ['last'], axes=[1], keepdims=0),
        node('Add', ['last', 'one'], ['high']),
        node('Concat', ['low', 'high'], ['y1x1y2x2'], axis=0),
        node('Gather', ['y1x1y2x2', 'order'], ['box'], axis=0),
        node('Reshape', ['box', 'shape'], ['boxes']),
        node('Constant', [], ['scores'], value=numpy_helper.from_array(np.full((1, 1), 0.9, 'f4'))),
    ]
    constants = {
        'threshold': np.array(128, np.float32),
        'one': np.ones(1, np.float32),
        'order': np.array([1, 0, 3, 2], np.int64),
        'shape': np.array([1, 1, 4], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        'free',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, 'height', 'width', 3])],
        [
            helper.make_tensor_value_info('boxes', TensorProto.FLOAT, [1, 1, 4]),
            helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    metadata = {'rmpe.format': '1', 'rmpe.task': 'detector'}
    helper.set_model_props(model, {**metadata, 'rmpe.long_side': '320', 'rmpe.size_step': '32'})
    onnx.save(model, tmp_path / 'free.onnx')
    return tmp_path / 'free.onnx'


@pytest.mark.parametrize(
    ('image_size', 'input_size'),
    [
        ((480, 640), (256, 320)),
        ((640, 480), (320, 256)),
        ((1080, 1920), (192, 320)),
        ((100, 100), (320, 320)),
        ((1, 5000), (64, 320)),
    ],
)
def test_free_input_size_follows_the_image(
    free_size_model: Path, image_size: tuple[int, int], input_size: tuple[int, int]
) -> None:
    detector = PersonDetector(open_engine(free_size_model))
    assert detector.input_size(image_size) == input_size
    height, width = image_size
    image = np.zeros((height, width, 3), np.uint8)
    box = [width // 4, height // 4, width // 2, max(1, height // 2)]
    image[box[1] : box[3], box[0] : box[2]] = 255
    boxes, _ = detector(image)
    np.testing.assert_allclose(boxes, [box], atol=max(1, 1.01 * max(image_size) / 320))


def test_free_input_size_must_be_explained(free_size_model: Path) -> None:
    model = onnx.load(free_size_model)
    helper.set_model_props(model, {'rmpe.format': '1', 'rmpe.task': 'detector'})
    with pytest.raises(ModelError, match=r'rmpe\.long_side'):
        PersonDetector(open_engine(model.SerializeToString()))


def test_a_pose_model_is_no_detector(pose_model: Path) -> None:
    with pytest.raises(ModelError, match=r'lite.onnx is a pose model.*swapped'):
        PersonDetector(open_engine(pose_model))


@pytest.mark.parametrize('size', [64, 160, 320, 640])
@pytest.mark.parametrize('image_size', [(480, 640), (640, 480), (90, 1000), (1000, 90)])
def test_the_size_may_change_from_image_to_image(size: int, image_size: tuple[int, int]) -> None:
    """The shipped detector takes every size, for pictures of every shape."""
    detector = SHIPPED
    detector.size = size
    height, width = detector.input_size(image_size)
    assert max(height, width) >= size
    assert height % 32 == width % 32 == 0
    boxes, scores = detector(np.zeros((*image_size, 3), np.uint8))
    assert boxes.shape == (len(scores), 4)


def test_a_person_is_found_at_every_sensible_size() -> None:
    image = np.full((480, 640, 3), 127, np.uint8)
    image[40:360, 60:380] = example_photo()
    sides = []
    for size in (None, 256, 640):
        SHIPPED.size = size
        sides.append(SHIPPED.input_size((480, 640)))
        boxes, _ = SHIPPED(image)
        person = np.array([PERSON]) + np.array([60, 40, 60, 40])
        assert box_iou(boxes[:1], person).item() > 0.7
    assert sides == [(352, 448), (192, 256), (480, 640)]


@pytest.mark.parametrize('size', [0, 63, 5000])
def test_sizes_that_cannot_be(size: int) -> None:
    with pytest.raises(ValueError, match=f'is from 64 to 4096 pixels, got {size}'):
        SHIPPED.size = size


def test_a_fixed_input_has_no_other_size(detector_model: Path, pose_model: Path) -> None:
    with pytest.raises(ValueError, match='is fixed at 128x96; use a detector with a free input'):
        PersonDetector(open_engine(detector_model), size=320)
    with pytest.raises(ValueError, match='is fixed at 128x96'):
        PosePipeline(detector_model, pose_model, detector_size=320)
    PersonDetector(open_engine(detector_model), size=None)
