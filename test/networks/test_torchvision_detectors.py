# SPDX-License-Identifier: Apache-2.0
"""torchvision's SSD detectors, exported, give the boxes that torchvision's own model gives."""

from importlib import import_module
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')
if find_spec('onnxsim') is None:  # importing it takes a second, in every worker
    pytest.skip('needs onnxsim', allow_module_level=True)
if find_spec('torchvision') is None:
    pytest.skip('torchvision is not installed', allow_module_level=True)

from rmpe_ros.cli.main import main
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import open_engine
from rmpe_ros.networks.torchvision_detectors import (
    build_ssd,
    export_ssd,
    import_torchvision_detection,
    load_weights,
)
from rmpe_ros.pipeline import PosePipeline

SMALL = 'ssdlite320_mobilenet_v3_large'
LARGE = 'ssd300_vgg16'
# VGG-16 as the SSD has it from its fourth block on, and an eighth as wide before.
THIN_VGG = [8, 8, 'M', 16, 16, 'M', 32, 32, 32, 'M', 64, 64, 512, 'M', 64, 64, 512, 'M']
QUERIES = 250


def picture(size: tuple[int, int]) -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


@pytest.fixture(autouse=True, scope='module')
def open_nms():
    """What NMS at IoU 1 comes to; the compiled one needs a torchvision that fits torch's build."""
    with pytest.MonkeyPatch.context() as patch:
        import_torchvision_detection()
        patch.setattr(
            'torchvision.ops.boxes.batched_nms',
            lambda boxes, scores, labels, iou: torch.argsort(scores, descending=True),
        )
        yield


def build_lively_ssd(name: str):
    """Random weights whose last layers answer to pictures: fresh ones give the same everywhere."""
    network = build_ssd(name, seed=0)
    for head in (network.head.classification_head, network.head.regression_head):
        for layer in head.module_list:
            last = [each for each in layer.modules() if isinstance(each, torch.nn.Conv2d)][-1]
            last.register_forward_hook(_scale_to_one)
    with torch.no_grad():
        network([torch.from_numpy(picture((300, 300))).permute(2, 0, 1) / 255])
    return network


def _scale_to_one(layer, inputs, output):
    """Once: scale the weights so that outputs spread by 1."""
    layer.weight.div_((output - layer.bias[:, None, None]).std())
    layer._forward_hooks.clear()


@pytest.fixture(scope='module')
def small_network():
    return build_lively_ssd(SMALL)


@pytest.fixture(scope='module')
def small_model(small_network, tmp_path_factory):
    path = tmp_path_factory.mktemp('ssd') / 'small.onnx'
    difference = export_ssd(small_network, path, metadata={'rmpe.name': 'small'}, queries=QUERIES)
    assert difference < 1e-2
    return path


@pytest.fixture(params=[SMALL, pytest.param(LARGE, marks=pytest.mark.slow)])
def network_and_model(request, tmp_path, monkeypatch):
    """The network in PyTorch, and its ONNX model."""
    if request.param == SMALL:
        return request.getfixturevalue('small_network'), request.getfixturevalue('small_model')
    monkeypatch.setitem(import_module('torchvision.models.vgg').cfgs, 'D', THIN_VGG)
    network = build_lively_ssd(LARGE)
    export_ssd(network, tmp_path / 'large.onnx', metadata={}, queries=QUERIES)
    return network, tmp_path / 'large.onnx'


def torchvision_people(network, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Person boxes and scores by the whole model of torchvision, its thresholds and NMS open."""
    network.score_thresh, network.nms_thresh = -1.0, 1.0
    network.topk_candidates, network.detections_per_img = QUERIES, 10**6
    with torch.no_grad():
        (found,) = network([torch.from_numpy(image).permute(2, 0, 1) / 255])
    people = found['labels'] == 1
    return found['boxes'][people].numpy(), found['scores'][people].numpy()


def test_boxes_are_those_of_torchvision(network_and_model):
    network, model = network_and_model
    engine = open_engine(model)
    side = engine.inputs['image'].shape[1]
    assert engine.inputs['image'].shape == (1, side, side, 3) and side in (300, 320)
    image = picture((side, side))
    boxes, scores = torchvision_people(network, image)
    outputs = engine({'image': image[None]})
    assert outputs['boxes'].shape == (1, QUERIES, 4) and len(scores) == QUERIES
    np.testing.assert_allclose(outputs['scores'][0], scores, atol=1e-5)
    # Equal scores may have changed places, and the last ones may be of other anchors.
    sure = scores > scores[-1] + 1e-5
    clipped = outputs['boxes'][0].clip(0, side)
    apart = np.abs(boxes[sure][:, None] - clipped[None]).max(axis=2).min(axis=1)
    assert sure.sum() > 100
    assert apart.max() < 1e-3 * side / 100
    assert np.ptp(boxes, axis=0).min() > side / 2  # all over the picture


def test_model_finds_its_way_into_the_pipeline(small_model, pose_model):
    detector = PersonDetector(open_engine(small_model), score_threshold=0.0)
    assert detector.input_size((480, 640)) == (320, 320)
    boxes, scores = detector(picture((480, 640)))
    assert len(boxes) > 10 and (np.diff(scores) <= 0).all()
    with PosePipeline(small_model, pose_model) as pipeline:
        pipeline(picture((480, 640)))


def test_command_with_a_file_of_weights(small_network, tmp_path, capsys):
    weights, output = tmp_path / 'weights.pth', tmp_path / 'made' / 'ours.onnx'
    torch.save({'model': small_network.state_dict(), 'epoch': 3}, weights)
    options = ['--weights', str(weights), '--license', 'mine', '--boxes', '40']
    assert main(['import', 'torchvision', SMALL, str(output), *options]) == 0
    assert 'largest difference from PyTorch' in capsys.readouterr().out
    engine = open_engine(output)
    assert engine.outputs['scores'].shape == (1, 40)
    info = PersonDetector(engine).info
    assert (info.name, info.license, info.training_data) == ('ours', 'mine', 'not stated')


def test_weights_that_do_not_fit_are_refused(small_network, tmp_path):
    wrong = tmp_path / 'wrong.pth'
    torch.save({'layer.weight': torch.zeros(3)}, wrong)
    with pytest.raises(ValueError, match=r'wrong\.pth has no weights of ssdlite320'):
        load_weights(small_network, SMALL, wrong)
    wrong.write_text('no weights')
    with pytest.raises(ValueError, match='no file of PyTorch weights'):
        load_weights(small_network, SMALL, wrong)
    with pytest.raises(ValueError, match='cannot be read: No such file'):
        load_weights(small_network, SMALL, tmp_path / 'none.pth')


def test_without_a_network_the_address_of_the_weights_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    for name in ('http_proxy', 'https_proxy', 'HTTPS_PROXY', 'HTTP_PROXY'):
        monkeypatch.setenv(name, 'http://127.0.0.1:9')  # nobody listens at the discard port
    assert main(['import', 'torchvision', SMALL, str(tmp_path / 'ours.onnx')]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-' in error
    assert f'put it into {tmp_path}/hub/checkpoints' in error and '--weights' in error
    assert not (tmp_path / 'ours.onnx').exists()
