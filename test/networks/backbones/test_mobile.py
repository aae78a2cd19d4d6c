# SPDX-License-Identifier: Apache-2.0
"""The mobile family: shapes, padding, widening."""

import pytest

torch = pytest.importorskip('torch')
onnx = pytest.importorskip('onnx')

from rmpe_ros.networks.backbones.mobile import (
    MobileNetV2,
    MobileSppe,
    SameConv,
    fill_leading_channels,
    movenet_tensors,
    scaled_channels,
)


def test_shapes_and_strides():
    features = MobileNetV2(0.5)(torch.zeros(1, 3, 96, 64))
    assert [f.shape[-2:] for f in features] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    (logits,) = MobileSppe(19, width=0.5)(torch.zeros(2, 3, 96, 64))
    assert logits.shape == (2, 19, 24, 16)


@pytest.mark.parametrize(
    ('channels', 'width', 'expected'), [(32, 1.0, 32), (24, 1.75, 40), (16, 0.35, 8), (64, 1.4, 88)]
)
def test_channels_are_rounded_to_eights(channels, width, expected):
    assert scaled_channels(channels, width) == expected


def test_strided_convolution_pads_below_and_right():
    """TensorFlow's SAME on an even size: output (0, 0) sees input (0..2, 0..2), without a row
    above.
    """
    conv = SameConv(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = 1
    assert conv(image).flatten().tolist() == [1, 0, 0, 0]
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 2, 2] = 1
    assert conv(image).flatten().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize('size', [(16, 12), (15, 11)])
def test_the_training_path_of_strided_depthwise_convolutions_is_the_same(size):
    torch.manual_seed(0)
    conv = SameConv(4, 4, 3, 2, groups=4)
    image = torch.rand(2, 4, *size)
    trained = conv.train()(image)
    assert torch.allclose(trained, conv.eval()(image), atol=1e-6)


def test_frozen_blocks_keep_their_weights_and_pass_gradients_on():
    network = MobileNetV2(0.35)
    network.freeze(3)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    sum(f.sum() for f in network(image)).backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert not any(name.startswith(('stem', 'blocks.0.', 'blocks.2.')) for name in learning)
    assert any(name.startswith('blocks.3.') for name in learning)
    assert image.grad.abs().max() > 0


def test_a_widened_convolution_computes_the_same_in_its_first_channels():
    torch.manual_seed(0)
    narrow, wide = torch.nn.Conv2d(4, 5, 1), torch.nn.Conv2d(7, 9, 1)
    assert fill_leading_channels(wide.weight, narrow.weight.data) and fill_leading_channels(
        wide.bias, narrow.bias.data
    )
    x = torch.rand(1, 7, 3, 3)
    assert torch.allclose(wide(x)[:, :5], narrow(x[:, :4]), atol=1e-6)
    assert wide.weight[5:].abs().max() > 0  # the new outputs have a start of their own
    assert not fill_leading_channels(narrow.weight, wide.weight.data)


def test_another_graph_is_not_taken_for_movenet(tmp_path):
    graph = onnx.helper.make_graph([], 'empty', [], [])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / 'other.onnx'))
    with pytest.raises(ValueError, match=r'other\.onnx is no MoveNet'):
        movenet_tensors(tmp_path / 'other.onnx')
