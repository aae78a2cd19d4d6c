# SPDX-License-Identifier: Apache-2.0
"""8-bit models answer nearly as the float ones do, however unlike the channels are."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('onnxsim')
onnx = pytest.importorskip('onnx')

from torch import nn

from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.networks.backbones.mobile import MobileSppe
from rmpe_ros.networks.export import PoseGraph, example_crops, make_onnx
from rmpe_ros.networks.quantization import equalise_channels, to_int8
from rmpe_ros.networks.sstn_sppe import SstnSppe

SIZE = (64, 32)


class Filters(nn.Module):
    """Convolutions in the ways that our networks join them: ReLU, ReLU6, a sum, depthwise."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.side = nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.middle = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, crops):
        x = torch.relu(self.first(crops.float().permute(0, 3, 1, 2) / 255))
        x = x + self.side(x)
        return self.last(nn.functional.relu6(self.middle(self.depthwise(x))))


def spread_channels(filters):
    """Make some channels a hundred times as large as others without changing the answer."""
    factor = torch.logspace(-2, 0, 8).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        for conv in (filters.first, filters.side, filters.depthwise):
            conv.weight *= factor
            conv.bias *= factor.flatten()
        filters.side.weight /= factor.reshape(1, -1, 1, 1)
        filters.depthwise.weight /= factor
        filters.middle.weight /= factor.reshape(1, -1, 1, 1)


def onnx_of(graph, crops, outputs):
    return make_onnx(
        graph,
        crops,
        input_name='crops',
        output_names=outputs,
        dynamic={'crops': {0: 'people'}, outputs[0]: {0: 'people'}},
        metadata={'rmpe.task': 'pose', 'rmpe.name': 'tiny'},
    )


@pytest.fixture(scope='module')
def crops():
    network = SstnSppe(nn.Identity(), SIZE, sstn=False)
    return example_crops(network, 12)


@pytest.fixture(scope='module')
def examples(crops):
    return [{'crops': crops[i : i + 1].numpy()} for i in range(len(crops))]


@pytest.fixture(scope='module')
def uneven(crops):
    """The bytes of a network whose channels differ a hundredfold."""
    torch.manual_seed(0)
    filters = Filters()
    even = filters(crops)
    spread_channels(filters)
    with torch.no_grad():
        assert torch.allclose(filters(crops), even, atol=1e-4)
    return onnx_of(filters, crops, ('answer',))


@pytest.fixture(scope='module')
def pose_model(crops):
    torch.manual_seed(0)
    network = SstnSppe(MobileSppe(19, width=0.35, last=64), SIZE).eval()
    nn.init.normal_(network.localisation.theta.weight, std=0.5)
    return onnx_of(PoseGraph(network), crops[:2], ('keypoints', 'theta'))


def test_equalising_changes_the_ranges_and_not_the_answer(uneven, crops, examples):
    model = onnx.load_model_from_string(uneven)
    before = OnnxRuntimeEngine(uneven)({'crops': crops.numpy()})['answer']
    assert equalise_channels(model, examples) == 2  # around the sum, and after depthwise
    after = OnnxRuntimeEngine(model.SerializeToString())({'crops': crops.numpy()})['answer']
    assert np.abs(after - before).max() < 1e-4
    graph = onnx.load_model_from_string(uneven).graph
    for conv in ('/side/Conv', '/middle/Conv'):
        old, new = (weights_of(each, conv) for each in (graph, model.graph))
        assert spread(new) < 0.2 * spread(old)


def weights_of(graph, conv):
    name = next(node.input[1] for node in graph.node if node.name == conv)
    return onnx.numpy_helper.to_array(next(e for e in graph.initializer if e.name == name))


def spread(weights):
    """How unlike the largest weights of the channels of its input are."""
    largest = np.abs(weights).max(axis=(0, 2, 3))
    return largest.max() / largest.min()


def test_uneven_channels_keep_their_accuracy_in_8_bits(uneven, crops, examples):
    expected = OnnxRuntimeEngine(uneven)({'crops': crops.numpy()})['answer']
    found = OnnxRuntimeEngine(to_int8(uneven, examples))({'crops': crops.numpy()})['answer']
    assert 0 < np.abs(found - expected).max() < 0.02 * np.ptp(expected)  # 0.05 unequalised


def test_an_8_bit_pose_model_keeps_contract_and_theta(pose_model, crops, examples):
    quantised = to_int8(pose_model, examples)
    engine, reference = OnnxRuntimeEngine(quantised), OnnxRuntimeEngine(pose_model)
    assert engine.inputs == reference.inputs and engine.outputs == reference.outputs
    assert engine.metadata == {**reference.metadata, 'rmpe.precision': 'int8'}
    inputs = {'crops': crops[:5].numpy()}
    found, expected = engine(inputs), reference(inputs)
    # Not even equalising may touch what θ hangs on, but for the last bits of its own scaling.
    assert np.abs(found['theta'] - expected['theta']).max() < 1e-5
    assert np.isfinite(found['keypoints']).all()
    assert len(quantised) < 0.6 * len(pose_model)


def test_ends_of_the_trunk_and_what_follows_stay_float(pose_model, examples):
    graph = onnx.load_model_from_string(to_int8(pose_model, examples)).graph
    producer = {tensor: node for node in graph.node for tensor in node.output}
    weights = {
        node.name: producer.get(node.input[1]) for node in graph.node if node.op_type == 'Conv'
    }
    floating = {name for name, source in weights.items() if source is None}
    assert len(weights) - len(floating) > 50
    named = ('stem', 'blocks.0/layers/layers.0', 'localisation', 'logits')
    assert all(any(part in name for part in named) for name in floating) and len(floating) == 7
    eight_bit = {node.op_type for node in graph.node if node.output[0].endswith('QuantizeLinear')}
    assert not eight_bit & {'Softmax', 'GridSample', 'MatMul'}


def test_quantising_needs_examples_and_a_trunk(pose_model, crops, examples):
    with pytest.raises(ValueError, match='need example pictures'):
        to_int8(pose_model, [])
    torch.manual_seed(0)

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, crops):
            return self.conv(crops.float().permute(0, 3, 1, 2))

    with pytest.raises(ValueError, match='one has no convolutional trunk'):
        to_int8(onnx_of(One(), crops, ('answer',)), examples, name='one')
