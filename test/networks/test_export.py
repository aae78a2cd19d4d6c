# SPDX-License-Identifier: Apache-2.0
"""Exported graphs keep the contracts and compute what PyTorch computes."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip('torch')
if find_spec('onnxsim') is None:  # importing it takes a second, in every worker
    pytest.skip('needs onnxsim', allow_module_level=True)

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines import open_engine
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.networks.export import (
    ParityError,
    PoseGraph,
    export_detector,
    export_pose,
    fit_score_calibration,
    make_onnx,
    random_crops,
    write_checked,
)
from rmpe_ros.networks.person_detector import DetectorGraph, DetectorNetwork, load_rtmdet
from rmpe_ros.networks.sstn_sppe import SstnSppe

METADATA = {
    'rmpe.name': 'tiny',
    'rmpe.version': '1',
    'rmpe.training_data': 'none',
    'rmpe.license': 'none',
}


@pytest.fixture(scope='module')
def pose_network(small_sppe):
    torch.manual_seed(0)
    network = SstnSppe(small_sppe(), (64, 32)).eval()
    torch.nn.init.normal_(network.localisation.theta.weight, std=0.5)  # far from the identity
    return network


def test_pose_graph_keeps_the_contract_and_parity(pose_network, tmp_path):
    path = tmp_path / 'tiny.onnx'
    parity = export_pose(pose_network, path, calibration=(1.3, 0.2), metadata=METADATA)
    assert parity.largest < 1e-3
    engine = open_engine(path)
    assert json.loads(engine.metadata['rmpe.skeleton'])['keypoints'] == list(BODY19.keypoints)
    assert PoseEstimator(engine).skeleton == BODY19
    crops = random_crops(pose_network, 5, seed=2)
    outputs = engine({'crops': crops.numpy()})
    with torch.no_grad():
        keypoints, theta = PoseGraph(pose_network, (1.3, 0.2))(crops)
    assert (theta - torch.eye(2, 3)).abs().max() > 0.05
    assert np.abs(outputs['theta'] - theta.numpy()).max() < 1e-5
    assert np.abs(outputs['keypoints'][..., 2] - keypoints[..., 2].numpy()).max() < 1e-4
    assert ((outputs['keypoints'][..., 2] >= 0) & (outputs['keypoints'][..., 2] <= 1)).all()
    one = engine({'crops': crops[:1].numpy()})
    assert np.allclose(one['keypoints'], outputs['keypoints'][:1], atol=1e-3)


def test_pose_graph_without_sstn_has_a_dynamic_batch_too(small_sppe, tmp_path):
    torch.manual_seed(0)
    network = SstnSppe(small_sppe(), (64, 32), sstn=False, growth=0.15).eval()
    path = tmp_path / 'plain.onnx'
    parity = export_pose(network, path, calibration=(1.0, 0.0), metadata=METADATA)
    assert parity.largest < 1e-3
    engine = open_engine(path)
    assert len(engine({'crops': random_crops(network, 3).numpy()})['keypoints']) == 3
    assert PoseEstimator(engine).info.box_growth == 0.15


def test_detector_graph_keeps_the_contract(tmp_path):
    torch.manual_seed(0)
    network = DetectorNetwork(width=4, channels=8).eval()
    path = tmp_path / 'detector.onnx'
    export_detector(network, path, metadata=METADATA, long_side=96, queries=126)
    engine = open_engine(path)
    for height, width in ((64, 96), (96, 64)):
        image = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)
        outputs = engine({'image': image.numpy()})
        with torch.no_grad():
            boxes, scores = DetectorGraph(network, 126)(image)
        assert outputs['boxes'].shape == (1, 126, 4) and outputs['scores'].shape == (1, 126)
        assert np.abs(outputs['scores'] - scores.numpy()).max() < 1e-4
        # All 126 cells are asked for: those with all but equal scores may change places.
        apart = np.abs(outputs['boxes'][0][:, None] - boxes[0].numpy()[None]).max(axis=2)
        assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) < 0.05
        assert (np.diff(outputs['scores'][0]) <= 1e-6).all()
    # Training can go on from the file: the strides folded into its filters are out again.
    start = DetectorNetwork(width=4, channels=8)
    load_rtmdet(start, path)
    own = network.state_dict()
    for name, values in start.state_dict().items():
        assert torch.allclose(values, own[name], atol=1e-6), name
    stage = PersonDetector(engine)
    assert stage.input_size((480, 640)) == (96, 96)  # 72 rows, padded to a multiple of 32
    assert stage.input_size((360, 640)) == (64, 96)
    assert stage.input_size((640, 320)) == (96, 64)


def test_a_failed_export_leaves_nothing_behind(pose_network, tmp_path):
    (tmp_path / 'old.onnx').write_bytes(b'old')
    with pytest.raises(TypeError):
        export_pose(
            pose_network, tmp_path / 'old.onnx', calibration=(1.0, 0.0), metadata={'rmpe.name': 3}
        )
    assert (tmp_path / 'old.onnx').read_bytes() == b'old'


@pytest.fixture(scope='module')
def pose_model(pose_network):
    return make_onnx(
        PoseGraph(pose_network),
        random_crops(pose_network, 2),
        input_name='crops',
        output_names=('keypoints', 'theta'),
        dynamic={'crops': {0: 'people'}, 'keypoints': {0: 'people'}, 'theta': {0: 'people'}},
        metadata={'rmpe.task': 'pose', **METADATA},
    )


def test_a_model_that_answers_otherwise_is_not_written(
    small_sppe, pose_network, pose_model, tmp_path
):
    path = tmp_path / 'pose.onnx'
    path.write_bytes(b'old')
    another = SstnSppe(small_sppe(), (64, 32)).eval()
    with pytest.raises(ParityError, match=r'pose.onnx was not written: in fp32, .* than 0.001 px'):
        write_checked(PoseGraph(another), pose_model, path)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]
    parity = write_checked(PoseGraph(pose_network), pose_model, path)
    assert path.read_bytes() == pose_model
    assert parity.largest <= parity.limit == 1e-3 and parity.beyond == 0
    assert 'points differ from PyTorch by' in str(parity)


def peaked(network):
    """The network with heatmaps that have clear peaks, as training gives them."""
    with torch.no_grad():
        network.sppe.logits.weight *= 30
    return network


def test_half_precision_keeps_theta_and_half_a_pixel(small_sppe, tmp_path):
    torch.manual_seed(3)
    network = peaked(SstnSppe(small_sppe(), (64, 32)).eval())
    torch.nn.init.normal_(network.localisation.theta.weight, std=0.5)
    path = tmp_path / 'half.onnx'
    parity = export_pose(network, path, calibration=(1.0, 0.0), metadata=METADATA, precision='fp16')
    assert 1e-4 < parity.largest and parity.limit == 0.5 and parity.beyond <= 0.01
    half = open_engine(path)
    assert half.metadata['rmpe.precision'] == 'fp16'
    crops = random_crops(network, 3)
    with torch.no_grad():
        _, theta = PoseGraph(network)(crops)
    assert np.abs(half({'crops': crops.numpy()})['theta'] - theta.numpy()).max() < 1e-5
    # The localisation network and what decodes keep their four bytes a number.
    assert path.stat().st_size < 0.8 * 4 * sum(each.numel() for each in network.parameters())


def test_export_prints_nothing_of_its_own(pose_network, tmp_path, capfd):
    export_pose(pose_network, tmp_path / 'q.onnx', calibration=(1.0, 0.0), metadata=METADATA)
    assert capfd.readouterr() == ('', '')


def test_calibration_recovers_the_logistic_that_made_the_data():
    rng = np.random.default_rng(0)
    mass = rng.uniform(0.01, 0.99, 40_000)
    logit = np.log(mass / (1 - mass))
    correct = rng.random(40_000) < 1 / (1 + np.exp(-(1.7 * logit - 0.4)))
    slope, offset = fit_score_calibration(mass, correct)
    assert (slope, offset) == (pytest.approx(1.7, abs=0.08), pytest.approx(-0.4, abs=0.05))
