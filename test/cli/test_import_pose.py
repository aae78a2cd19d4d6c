# SPDX-License-Identifier: Apache-2.0
"""Pose networks of the true shapes become pose models that find what was planted in them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip('onnx')

from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.cli import import_pose
from rmpe_ros.core.boxes import crop_transforms, grow_boxes, map_points
from rmpe_ros.core.skeletons import COCO17, SKELETONS, Skeleton
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import open_engine
from rmpe_ros.engines.example_pictures import example_crops
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.importing.peaks import GRIDS
from rmpe_ros.pipeline import PosePipeline

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
CROP = (256, 192)
node = helper.make_node


def save_network(
    path: Path,
    nodes: list,
    constants: dict[str, np.ndarray],
    outputs: dict[str, list],
    *,
    shape: list | None = None,
    dtype: int = TensorProto.FLOAT,
    opset: int = 11,
) -> Path:
    """An ONNX file with the one input `input`, as tools of these networks write it."""
    out_type = TensorProto.FLOAT16 if dtype == TensorProto.FLOAT16 else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        'network',
        [helper.make_tensor_value_info('input', dtype, shape or ['batch', 3, *CROP])],
        [helper.make_tensor_value_info(name, out_type, size) for name, size in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def planted(path: Path, dtype: type = np.float32, **outputs: np.ndarray) -> Path:
    """A network that gives these arrays (1, K, …) for every crop, whatever is on it."""
    nodes = [
        node('ReduceMean', ['input'], ['mean4'], axes=[1, 2, 3], keepdims=1),
        node('Mul', ['mean4', 'nothing'], ['zero4']),
        node('Flatten', ['zero4'], ['zero2']),
        node('Unsqueeze', ['zero2'], ['zero3'], axes=[2]),
    ]
    constants = {'nothing': np.zeros((), dtype)}
    for name, array in outputs.items():
        nodes.append(node('Add', [f'{name}_planted', f'zero{array.ndim}'], [name]))
        constants[f'{name}_planted'] = array.astype(dtype)
    shapes = {name: ['batch', *array.shape[1:]] for name, array in outputs.items()}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return save_network(path, nodes, constants, shapes, dtype=kind)


def seeing(
    path: Path,
    *,
    bgr: bool = False,
    joints: int = 17,
    batch: int | str = 'batch',
    reshape: str = '',
) -> Path:
    """A heatmap network: joint k's map is channel k mod 3 of every fourth pixel, 0 to 1.

    It undoes ImageNet's normalisation, so any other one in front of it shows. reshape: 'constant'
    and 'merged' have a shape in them that was traced for one crop.
    """
    weight, bias = np.zeros((joints, 3, 1, 1), np.float32), np.zeros(joints, np.float32)
    for joint in range(joints):
        channel = joint % 3
        weight[joint, 2 - channel if bgr else channel] = DEVIATION[channel] / 255
        bias[joint] = MEAN[channel] / 255
    constants = {'weight': weight, 'bias': bias}
    result = 'maps' if reshape else 'output'
    nodes = [node('Conv', ['input', 'weight', 'bias'], [result], strides=[4, 4])]
    if reshape:
        flat = [1, joints, -1] if reshape == 'constant' else [joints, 64 * 48]
        constants |= {'flat': np.array(flat), 'shape': np.array([1, joints, 64, 48])}
        nodes += [
            node('Reshape', ['maps', 'flat'], ['row']),
            node('Reshape', ['row', 'shape'], ['output']),
        ]
    return save_network(
        path, nodes, constants, {'output': [batch, joints, 64, 48]}, shape=[batch, 3, *CROP]
    )


def blobs(size: tuple[int, int], centres: np.ndarray, sigma: float = 9) -> np.ndarray:
    """A picture with one bump in each of R, G and B. centres: (3, 2) x, y in pixels."""
    y, x = np.mgrid[: size[0], : size[1]]
    squares = (x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2
    return np.round(230 * np.exp(-squares / (2 * sigma**2))).astype(np.uint8)


def bumps(centres: np.ndarray, length: int, sigma: float = 4.0) -> np.ndarray:
    """(K, length) vectors, each with a peak of 1 at its centre."""
    return np.exp(-((np.arange(length) - centres[:, None]) ** 2) / (2 * sigma**2))


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    import_pose.add_options(parser)
    return import_pose.run(parser.parse_args([str(each) for each in arguments]))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / 'out.onnx'


@pytest.mark.parametrize('crop', [(256, 192), (384, 288), (256, 256)])
def test_simcc_peaks_come_back_within_a_quarter_of_a_pixel(tmp_path, out, crop, capsys):
    rng = np.random.default_rng(0)
    joints = rng.uniform(2, np.array(crop[::-1]) - 3, (17, 2))
    heights = np.linspace(0.1, 1.3, 17)
    x, y = (
        bumps(2 * joints[:, axis], 2 * crop[1 - axis])[None] * level[:, None]
        for axis, level in ((0, heights), (1, np.full(17, 0.9)))
    )
    network = planted(tmp_path / 'rtm.onnx', simcc_x=x, simcc_y=y)
    set_input(network, crop)
    assert run(network, out) == 0
    said = capsys.readouterr().out
    assert 'SimCC, 2 bins per pixel' in said and 'coco17' in said
    engine = open_engine(out)
    assert engine.inputs['crops'].shape == ('people', *crop, 3)
    outputs = engine({'crops': example_crops(3, crop)})
    assert np.abs(outputs['keypoints'][..., :2] - joints).max() <= 0.25 + 1e-4
    # The lesser of the two peaks, as MMPose has it, and at most 1.
    peak = heights * bumps(2 * joints[:, 0], 2 * crop[1]).max(axis=1)
    other = 0.9 * bumps(2 * joints[:, 1], 2 * crop[0]).max(axis=1)
    expected = np.minimum(peak, other).clip(0, 1)
    np.testing.assert_allclose(outputs['keypoints'][0, :, 2], expected, atol=1e-5)
    np.testing.assert_array_equal(outputs['theta'], np.broadcast_to(np.eye(2, 3), (3, 2, 3)))


def set_input(network: Path, crop: tuple[int, int]) -> None:
    """Change the height and width that a file says of its input."""
    model = onnx.load(network)
    for dimension, side in zip(
        model.graph.input[0].type.tensor_type.shape.dim[2:], crop, strict=True
    ):
        dimension.dim_value = side
    onnx.save(model, network)


def test_scores_above_one_and_below_zero_are_cut(tmp_path, out):
    x, y = np.zeros((1, 17, 384)), np.zeros((1, 17, 512))
    x[0, :, 100], y[0, :, 200] = 2, 3
    x[0, 4], y[0, 5] = -1, -2
    assert run(planted(tmp_path / 'rtm.onnx', simcc_x=x, simcc_y=y), out) == 0
    keypoints = open_engine(out)({'crops': example_crops(1, CROP)})['keypoints'][0]
    assert keypoints[0].tolist() == [50, 100, 1]
    assert keypoints[4:6, 2].tolist() == [0, 0]


def test_simcc_is_told_by_shape_where_names_do_not_tell(tmp_path, out):
    """Outputs in the order y, x, named as an exporter without a config names them."""
    joints = np.linspace([20, 30], [150, 200], 17).round()
    first, second = bumps(2 * joints[:, 1], 512)[None], bumps(2 * joints[:, 0], 384)[None]
    assert run(planted(tmp_path / 'rtm.onnx', output_0=first, output_1=second), out) == 0
    keypoints = open_engine(out)({'crops': example_crops(1, CROP)})['keypoints'][0]
    np.testing.assert_allclose(keypoints[:, :2], joints, atol=1e-4)


def slow_heatmap_decode(maps: np.ndarray, grid: str) -> np.ndarray:
    """(K, h, w) → (K, 3): SimpleBaseline's arg-max with a quarter offset, for crops of 256x192."""
    keypoints = []
    for heat in maps:
        best = (-np.inf, 0, 0)
        for y in range(heat.shape[0]):
            for x in range(heat.shape[1]):
                if heat[y, x] > best[0]:
                    best = (heat[y, x], x, y)
        score, x, y = best
        right = below = 0.0
        if 1 < x < heat.shape[1] - 1 and 1 < y < heat.shape[0] - 1:
            right = 0.25 * np.sign(heat[y, x + 1] - heat[y, x - 1])
            below = 0.25 * np.sign(heat[y + 1, x] - heat[y - 1, x])
        if grid == 'origin':
            point = 4 * (x + right), 4 * (y + below)
        elif grid == 'centres':
            point = 4 * (x + right) + 1.5, 4 * (y + below) + 1.5
        else:
            point = (x + right) * 191 / 47, (y + below) * 255 / 63
        keypoints.append((*point, min(max(score, 0), 1)))
    return np.array(keypoints)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('dtype', [np.float32, np.float16])
def test_heatmaps_are_decoded_as_by_the_slow_reference(tmp_path, out, grid, dtype):
    rng = np.random.default_rng(1)
    maps = rng.normal(0.3, 0.1, (1, 17, 64, 48)).astype(dtype)
    # Peaks in corners, at edges, one cell from them, with level neighbours, tied, and none at all.
    for joint, (x, y) in enumerate(
        [(0, 0), (47, 0), (0, 63), (47, 63), (1, 20), (46, 20), (20, 62)]
    ):
        maps[0, joint, y, x] = 1
    maps[0, 7, 29:32, 19:22] = 0.5
    maps[0, 7, 30, 20] = 1
    maps[0, 8, 10, 10] = maps[0, 8, 40, 30] = 1
    maps[0, 9], maps[0, 10] = 0, -1
    assert run(planted(tmp_path / 'hr.onnx', dtype, output=maps), out, '--grid', grid) == 0
    found = open_engine(out)({'crops': example_crops(2, CROP)})['keypoints']
    expected = slow_heatmap_decode(maps[0].astype(np.float64), grid)
    np.testing.assert_allclose(
        found, [expected, expected], atol=1e-3 if dtype == np.float16 else 2e-5
    )


@pytest.mark.parametrize('grid', GRIDS)
def test_planted_peaks_come_back_within_a_quarter_of_a_cell(tmp_path, out, grid):
    """Gaussians as these networks are trained with, where their grid has them."""
    rng = np.random.default_rng(2)
    joints = rng.uniform(12, np.array(CROP[::-1]) - 13, (17, 2))
    stride = np.array([191 / 47, 255 / 63]) if grid == 'corners' else np.array([4.0, 4.0])
    cells = (joints - (1.5 if grid == 'centres' else 0)) / stride
    maps = np.stack(
        [
            np.outer(a, b)
            for a, b in zip(bumps(cells[:, 1], 64, 2), bumps(cells[:, 0], 48, 2), strict=True)
        ]
    )[None]
    assert run(planted(tmp_path / 'hr.onnx', output=maps), out, '--grid', grid) == 0
    found = open_engine(out)({'crops': example_crops(1, CROP)})['keypoints'][0]
    assert np.abs(found[:, :2] - joints).max() <= 0.25 * stride.max() + 1e-3
    assert np.abs(found[:, :2] - joints).mean() < 0.6


def test_logits_become_scores(tmp_path, out):
    maps = np.full((1, 17, 64, 48), -8.0)
    maps[0, :, 30, 20] = np.linspace(-3, 3, 17)
    assert run(planted(tmp_path / 'hr.onnx', output=maps), out, '--logits') == 0
    found = open_engine(out)({'crops': example_crops(1, CROP)})['keypoints'][0]
    np.testing.assert_allclose(found[:, 2], 1 / (1 + np.exp(-np.linspace(-3, 3, 17))), atol=1e-6)


@pytest.mark.parametrize('grid', GRIDS)
def test_integral_is_the_mean_of_the_cells(tmp_path, out, grid):
    """As AlphaPose decodes its networks with the symmetric integral loss, cell by cell."""
    maps = np.random.default_rng(3).normal(-6, 3, (1, 17, 64, 48))
    maps[0, 3, 20, 11] = 9
    maps[0, 4] = -30
    maps[0, 4, 10, 40], maps[0, 4, 10, 41] = 4, 4
    assert run(planted(tmp_path / 'hr.onnx', output=maps), out, '--integral', '--grid', grid) == 0
    found = open_engine(out)({'crops': example_crops(2, CROP)})['keypoints']
    for joint, heat in enumerate(maps[0]):
        total = x_sum = y_sum = 0.0
        for y in range(64):
            for x in range(48):
                weight = 1 / (1 + np.exp(-heat[y, x]))
                total, x_sum, y_sum = total + weight, x_sum + x * weight, y_sum + y * weight
        x, y, top = x_sum / total, y_sum / total, 1 / (1 + np.exp(-heat.max()))
        if grid == 'corners':
            expected = x * 191 / 47, y * 255 / 63, top
        else:
            shift = 1.5 if grid == 'centres' else 0
            expected = 4 * x + shift, 4 * y + shift, top
        np.testing.assert_allclose(found[:, joint], [expected] * 2, atol=2e-3)
    if grid == 'origin':
        np.testing.assert_allclose(found[0, 4, :2], [162, 40], atol=1e-3)


@pytest.mark.parametrize('color', ['rgb', 'bgr'])
def test_network_sees_the_picture_as_it_was_trained_to(tmp_path, out, color):
    """The normalisation and the order of colours are the ones that the test network undoes."""
    assert run(seeing(tmp_path / 'hr.onnx', bgr=color == 'bgr'), out, '--color', color) == 0
    centres = np.array([[60, 40], [120.8, 100], [90, 201.2]])
    crop = blobs(CROP, centres)
    keypoints = open_engine(out)({'crops': crop[None]})['keypoints'][0]
    expected = centres[np.arange(17) % 3]
    assert np.abs(keypoints[:, :2] - expected).max() <= 1.01
    peaks = crop[::4, ::4].reshape(-1, 3).max(axis=0)[np.arange(17) % 3] / 255
    np.testing.assert_allclose(keypoints[:, 2], peaks, atol=1e-5)


def test_other_means_are_used(tmp_path, out):
    network = seeing(tmp_path / 'hr.onnx')
    assert run(network, out, '--mean', *MEAN + 10, '--std', *DEVIATION) == 0
    crop = blobs(CROP, np.array([[60, 40], [120, 100], [92, 200]]))
    keypoints = open_engine(out)({'crops': crop[None]})['keypoints'][0]
    np.testing.assert_allclose(keypoints[:, 2], 220 / 255, atol=1e-5)


def test_pose_in_a_picture(tmp_path, out):
    """From a box in a picture to keypoints in its pixels, through the imported network."""
    assert run(seeing(tmp_path / 'hr.onnx'), out, '--box-growth', '0.4', '--name', 'seen') == 0
    centres = np.array([[200, 150], [260, 210], [230, 290]], float)
    picture = blobs((480, 640), centres, sigma=14)
    box = np.array([[150, 90, 310, 350]], float)
    estimator = PoseEstimator(open_engine(out))
    assert (estimator.info.name, estimator.info.box_growth) == ('seen', 0.4)
    keypoints, scores = estimator(picture, box)
    scale = crop_transforms(grow_boxes(box, 0.4), CROP)[0, 0, 0]
    assert np.abs(keypoints[0] - centres[np.arange(17) % 3]).max() < 1.2 * scale
    assert scores.min() > 0.8


@pytest.mark.parametrize('crop_pixel', [(0, 0), (37, 111), (188, 252)])
def test_point_zero_is_the_centre_of_the_first_pixel(tmp_path, out, crop_pixel):
    """A cell of the grid `origin` is one pixel: exactly that one, back in the picture, too."""
    assert run(seeing(tmp_path / 'hr.onnx'), out, '--box-growth', '0') == 0
    x, y = (4 * round(each / 4) for each in crop_pixel)
    picture = np.zeros((*CROP, 3), np.uint8)
    picture[y, x] = 255
    keypoints, _ = PoseEstimator(open_engine(out))(picture, np.array([[0, 0, 192, 256.0]]))
    np.testing.assert_allclose(keypoints[0], np.broadcast_to([x, y], (17, 2)), atol=1e-3)


def test_crops_are_those_of_mmpose():
    """MMPose widens a box by 1.25 and its short side to the crop's shape; so do we with 0.25."""
    for box in ([40, 30, 140, 330], [40, 30, 340, 130]):
        width, height = (box[2] - box[0]) * 1.25, (box[3] - box[1]) * 1.25
        width, height = max(width, height * 0.75), max(height, width / 0.75)
        transform = crop_transforms(grow_boxes(np.array([box], float), 0.25), CROP)
        corners = map_points(np.array([[[-0.5, -0.5], [191.5, 255.5]]]), transform)[0] + 0.5
        centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
        np.testing.assert_allclose(corners[1] - corners[0], [width, height])
        np.testing.assert_allclose(corners.mean(axis=0), centre)


def test_network_for_one_crop_takes_any_number(tmp_path, out, capsys):
    fixed = seeing(tmp_path / 'one.onnx', batch=1, reshape='constant')
    assert run(fixed, out) == 0
    assert 'made for 1 at a time, it now takes any number' in capsys.readouterr().out
    engine = open_engine(out)
    assert engine.inputs['crops'].shape[0] == 'people'
    crops = example_crops(5, CROP)
    together = engine({'crops': crops})
    for crop, keypoints in zip(crops, together['keypoints'], strict=True):
        np.testing.assert_allclose(
            engine({'crops': crop[None]})['keypoints'][0], keypoints, atol=1e-4
        )
    assert together['theta'].shape == (5, 2, 3)


def test_reshape_of_the_newer_exporter(tmp_path, out, capsys):
    """It says allowzero=1, with which 0 would mean a side of 0."""
    path = seeing(tmp_path / 'one.onnx', batch=1, reshape='constant')
    model = onnx.load(path)
    for each in model.graph.node:
        if each.op_type == 'Reshape':
            each.attribute.append(helper.make_attribute('allowzero', 1))
    model.graph.node[1].input[1] = 'flat_sides'
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([1, 17, 64 * 48]), 'flat_sides')
    )
    model.opset_import[0].version = 14
    onnx.save(model, path)
    assert run(path, out) == 0
    assert 'it now takes any number' in capsys.readouterr().out
    assert open_engine(out)({'crops': example_crops(3, CROP)})['keypoints'].shape == (3, 17, 3)


def test_weights_in_a_file_beside_the_network(tmp_path, out, capsys):
    path = seeing(tmp_path / 'hr.onnx')
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location='hr.data', size_threshold=0)
    assert run(path, out) == 0
    (tmp_path / 'hr.data').unlink()
    assert open_engine(out)({'crops': example_crops(1, CROP)})['keypoints'].shape == (1, 17, 3)
    assert run(path, out) == 2
    assert_says(capsys, 'a file of its weights')


def test_network_for_any_size_of_crop(tmp_path, out):
    nodes = [node('Conv', ['input', 'weight'], ['output'], strides=[4, 4])]
    weight = np.ones((17, 3, 1, 1), np.float32)
    free = ['N', 3, 'height', 'width']
    network = save_network(
        tmp_path / 'any.onnx',
        nodes,
        {'weight': weight},
        {'output': ['N', 17, 'h', 'w']},
        shape=free,
    )
    assert run(network, out, '--size', '128x96') == 0
    assert PoseEstimator(open_engine(out)).crop_size == (128, 96)


def test_network_that_takes_one_crop_only(tmp_path, out, capsys):
    """Crops and joints are one dimension inside: that cannot be undone, and is done one by one."""
    assert run(seeing(tmp_path / 'one.onnx', batch=1, reshape='merged'), out) == 0
    assert 'it takes only 1 at a time' in capsys.readouterr().out
    estimator = PoseEstimator(open_engine(out))
    assert estimator.batch == 1
    picture = blobs((480, 640), np.array([[200, 150], [260, 210], [230, 290]]), sigma=14)
    boxes = np.array([[150, 90, 310, 350], [160, 80, 300, 360]], float)
    keypoints, _ = estimator(picture, boxes)
    assert np.abs(keypoints[0] - keypoints[1]).max() < 4


def test_whole_pipeline(tmp_path, out, detector_model, two_people):
    assert run(seeing(tmp_path / 'hr.onnx'), out) == 0
    pipeline = PosePipeline(
        PersonDetector(open_engine(detector_model)), PoseEstimator(open_engine(out))
    )
    poses = pipeline(two_people)
    assert poses.keypoints.shape == (2, 17, 2)
    for keypoints, (x1, y1, x2, y2) in zip(poses.keypoints, sorted_boxes(poses.boxes), strict=True):
        # The brightest cell is in the person, or on the half-grey edge of it.
        assert (keypoints >= [x1 - 3, y1 - 3]).all() and (keypoints <= [x2 + 3, y2 + 3]).all()


def sorted_boxes(boxes: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The true boxes of `two_people` in the order of the ones that were found."""
    true = [(50, 60, 100, 210), (400, 250, 500, 450)]
    return [min(true, key=lambda each: abs(each[0] - box[0])) for box in boxes]


def test_channels_last_and_whole_numbers(tmp_path, out):
    """As TensorFlow's networks come: int32 pixels (1, H, W, 3), heatmaps (1, h, w, K)."""
    nodes = [
        node('Cast', ['input'], ['float'], to=TensorProto.FLOAT),
        node('Transpose', ['float'], ['image'], perm=[0, 3, 1, 2]),
        node('Conv', ['image', 'weight'], ['maps'], strides=[4, 4]),
        node('Transpose', ['maps'], ['output'], perm=[0, 2, 3, 1]),
    ]
    weight = np.zeros((17, 3, 1, 1), np.float32)
    weight[np.arange(17), np.arange(17) % 3] = 1 / 255
    network = save_network(
        tmp_path / 'tf.onnx',
        nodes,
        {'weight': weight},
        {'output': [1, 64, 64, 17]},
        shape=[1, 256, 256, 3],
        dtype=TensorProto.INT32,
    )
    assert run(network, out, '--mean', 0, 0, 0, '--std', 1, 1, 1) == 0
    centres = np.array([[60, 40], [120, 100], [92, 200]])
    crop = blobs((256, 256), centres)
    keypoints = open_engine(out)({'crops': crop[None]})['keypoints'][0]
    assert np.abs(keypoints[:, :2] - centres[np.arange(17) % 3]).max() < 1e-3


def test_tensor_inside_the_network(tmp_path, out, capsys):
    """A network that decodes by itself, in its own way, is cut where its heatmaps are."""
    network = seeing(tmp_path / 'hr.onnx')
    model = onnx.load(network)
    model.graph.node.append(node('ReduceMax', ['output'], ['peaks'], axes=[2, 3], keepdims=0))
    model.graph.output.append(
        helper.make_tensor_value_info('peaks', TensorProto.FLOAT, ['batch', 17])
    )
    del model.graph.output[0]
    onnx.save(model, network)
    assert run(network, out) == 2
    assert 'peaks [8, 17]. If a tensor inside' in capsys.readouterr().err
    assert run(network, out, '--outputs', 'no_such') == 2
    assert "has no tensor 'no_such'" in capsys.readouterr().err
    assert run(network, out, '--outputs', 'output') == 0
    assert 'ReduceMax' not in [each.op_type for each in onnx.load(out).graph.node]


def test_joints_are_chosen(tmp_path, out):
    """The first 17 of COCO-WholeBody are COCO's; body19 is in Halpe's 26 in another order."""
    x, y = (np.zeros((1, 133, length)) for length in (384, 512))
    x[0, np.arange(133), np.arange(133)] = y[0, np.arange(133), 2 * np.arange(133)] = 1
    whole = planted(tmp_path / 'whole.onnx', simcc_x=x, simcc_y=y)
    assert run(whole, out, '--joints', '0-16') == 0
    engine = open_engine(out)
    assert PoseEstimator(engine).skeleton == COCO17
    found = engine({'crops': example_crops(1, CROP)})['keypoints'][0]
    np.testing.assert_allclose(found[:, 0], np.arange(17) / 2)
    assert run(whole, out, '--joints', '0-16,18,17', '--skeleton', 'body19') == 0
    found = open_engine(out)({'crops': example_crops(1, CROP)})['keypoints'][0]
    np.testing.assert_allclose(found[-3:, 0], [8, 9, 8.5])


@pytest.mark.parametrize(
    'joints, name', [(17, 'coco17'), (16, 'mpii16'), (19, 'body19'), (26, 'halpe26')]
)
def test_skeleton_by_the_number_of_joints(tmp_path, out, joints, name):
    assert run(seeing(tmp_path / 'hr.onnx', joints=joints), out) == 0
    skeleton = PoseEstimator(open_engine(out)).skeleton
    assert (skeleton.name, skeleton.num_keypoints) == (name, joints)
    if name == 'halpe26':
        assert skeleton.keypoints[17:22] == (
            'head_top', 'neck', 'pelvis', 'left_big_toe', 'right_big_toe'
        )  # fmt: skip
        assert len(skeleton.flip_pairs) == 11


def test_skeleton_of_a_file(tmp_path, out):
    arm = Skeleton('arm', ('shoulder', 'elbow', 'wrist'), ((0, 1), (1, 2)), (), (0.08, 0.07, 0.06))
    (tmp_path / 'arm.json').write_text(arm.to_json())
    network = seeing(tmp_path / 'hr.onnx', joints=3)
    assert run(network, out, '--skeleton', tmp_path / 'arm.json') == 0
    assert PoseEstimator(open_engine(out)).skeleton == arm


@pytest.mark.parametrize(
    'joints, options, message',
    [
        (14, [], r'14 joints are of no known skeleton, which are .*coco17 \(17\)'),
        (17, ['--skeleton', 'body19'], 'it has 17 joints, but body19 19'),
        (17, ['--skeleton', 'coco18'], "unknown skeleton 'coco18'; known are .*halpe26"),
        (17, ['--skeleton', 'none.json'], 'none.json cannot be read: No such file'),
        (17, ['--joints', '0-17'], r'asks for number 17, but .* has 17 joints, 0 to 16'),
        (17, ['--mean', '0.485', '0.456', '0.406', '--std', '0.2', '0.2', '0.2'], '255 times'),
        (17, ['--std', '0', '1', '1'], 'must be positive'),
        (17, ['--size', '128x96'], '256x192 only, not --size'),
        (
            17,
            ['--format', 'simcc'],
            r'no SimCC vectors \[N, K, 192 r\] and .*output \[8, 17, 64, 48\]',
        ),
    ],
)
def test_options_that_do_not_fit(tmp_path, out, capsys, joints, options, message):
    assert run(seeing(tmp_path / 'hr.onnx', joints=joints), out, *options) == 2
    assert_says(capsys, message)
    assert not out.exists()


def assert_says(capsys, message: str) -> None:
    said = capsys.readouterr().err
    assert said.startswith('rmpe import pose: ')
    assert re.search(message, said), said


@pytest.mark.parametrize('text', ['0-', '0,0', '', 'a', '3-1'])
def test_lists_of_joints_that_are_none(tmp_path, out, text):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / 'hr.onnx', out, '--joints', text)
    assert stop.value.code == 2


def test_wrong_files(tmp_path, out, capsys, pose_model, detector_model):
    path = tmp_path / 'net.onnx'
    path.write_text('<html>404</html>')
    assert run(path, out) == 2
    assert_says(capsys, 'no ONNX model')
    assert run(tmp_path / 'missing.onnx', out) == 2
    assert_says(capsys, 'cannot be read: No such file')
    assert run(pose_model, out) == 2
    assert_says(capsys, 'by the contract already')
    several = planted(path, one=np.zeros((1, 17, 64, 48)), two=np.zeros((1, 38, 64, 48)))
    assert run(several, out) == 2
    assert_says(capsys, r'several heatmaps, choose with --outputs: .*two \[8, 38, 64, 48\]')
    assert run(several, out, '--outputs', 'one') == 0
    grey = save_network(
        path,
        [node('Relu', ['input'], ['output'])],
        {},
        {'output': ['N', 1, 64, 48]},
        shape=['N', 1, 64, 48],
    )
    assert run(grey, out) == 2
    assert_says(capsys, r'one input, images \[N, 3, H, W\]')
    free = save_network(
        path,
        [node('Relu', ['input'], ['output'])],
        {},
        {'output': ['N', 3, 'h', 'w']},
        shape=['N', 3, 'h', 'w'],
    )
    assert run(free, out) == 2
    assert_says(capsys, 'say which, with --size')


def test_old_model_stays_when_the_new_one_fails(tmp_path, out):
    out.write_bytes(b'old')
    assert run(seeing(tmp_path / 'hr.onnx', joints=14), out) == 2
    assert out.read_bytes() == b'old'


def test_known_skeletons_are_the_packages_and_halpe():
    from rmpe_ros.importing.layouts import HALPE26, find_skeleton

    for name, skeleton in SKELETONS.items():
        assert find_skeleton(name, skeleton.num_keypoints) is skeleton
    assert find_skeleton(None, 26) is HALPE26
