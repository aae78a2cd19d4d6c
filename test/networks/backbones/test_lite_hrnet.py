# SPDX-License-Identifier: Apache-2.0
"""The Lite-HRNet: shapes, shuffles, what is frozen, and TinyPose's weights in it."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch')
onnx = pytest.importorskip('onnx')

from rmpe_ros.importing.tinypose import load_tinypose
from rmpe_ros.networks.backbones import lite_hrnet
from rmpe_ros.networks.backbones.lite_hrnet import (
    DepthwiseConv,
    Fusion,
    LiteHrnet,
    LiteHrnetSppe,
    ShuffleUnit,
    shuffle,
)

TINYPOSE = Path(__file__).parents[4] / 'shared/pretrained/tinypose_256x192.onnx'


def test_shapes_and_strides():
    network = LiteHrnet(8)
    branches = network(torch.zeros(1, 3, 96, 64))
    assert [b.shape[1:] for b in branches] == [(8, 24, 16), (16, 12, 8), (32, 6, 4), (64, 3, 2)]
    (maps,) = LiteHrnetSppe(19, width=8)(torch.zeros(2, 3, 96, 64))
    assert maps.shape == (2, 19, 24, 16)


def test_the_published_width_has_the_published_number_of_weights():
    assert sum(p.numel() for p in LiteHrnetSppe(17).parameters()) == 1_300_177


def test_crops_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r'100×64 do not fit.*multiples of 32'):
        LiteHrnet(8)(torch.zeros(1, 3, 100, 64))


def test_shuffle_interleaves_the_halves():
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shuffle(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_half_of_a_shuffle_unit_passes_unchanged():
    x = torch.rand(1, 8, 4, 4)
    assert torch.equal(ShuffleUnit(8)(x)[:, ::2], x[:, :4])


def test_fusion_counts_the_largest_branch_twice_and_shows_it_fused():
    """All convolutions copy or sum: worked by hand for two branches of one value each."""
    fusion = Fusion((1, 1))
    for convolution in (m for m in fusion.modules() if isinstance(m, torch.nn.Conv2d)):
        torch.nn.init.zeros_(convolution.weight)
        torch.nn.init.zeros_(convolution.bias)
        convolution.weight.data[:, :, -1 // 2, -1 // 2] = 1.0  # the middle of 3×3, or the only one
    large, small = torch.full((1, 1, 2, 2), -3.0), torch.full((1, 1, 1, 1), 5.0)
    a, b = fusion([large, small])
    assert a.flatten().tolist() == [0.0] * 4  # 2 · -3 + 5 = -1, and the ReLU
    assert b.item() == 3.0  # 2 · -1, of before the ReLU, + 5


def test_the_dense_way_to_a_strided_gradient_gives_the_same():
    torch.manual_seed(0)
    layer = DepthwiseConv(3, 2)
    x = torch.rand(2, 3, 8, 6)
    with torch.no_grad():
        plain = layer(x)
    assert torch.allclose(layer.train()(x), plain, atol=1e-6)


def test_freezing_keeps_the_first_blocks():
    network = LiteHrnet(8)
    network.freeze(0)
    assert all(p.requires_grad for p in network.parameters())
    network.freeze(2)
    frozen = {n.split('.')[0] for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {'stem', 'largest', 'stages'}
    assert not any(p.requires_grad for p in network.stages[0].parameters())
    assert all(p.requires_grad for p in network.stages[1].parameters())


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """A network like PP-TinyPose, with fewer modules, and its ONNX file."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lite_hrnet, 'MODULES', (1, 2, 1))  # as `shallow_lite`
        network = LiteHrnetSppe(17).eval()
    path = tmp_path_factory.mktemp('published') / 'published.onnx'
    crops = torch.zeros(1, 3, 64, 64)
    torch.onnx.export(network, (crops,), str(path), dynamo=False, opset_version=17)
    return network, path


@pytest.mark.usefixtures('shallow_lite')
def test_weights_come_back_from_an_onnx_file(published):
    """Of 17 joints into 19: the first 17 maps are those of the file, the new ones are empty."""
    published, path = published
    crops = torch.rand(1, 3, 64, 64) * 2 - 1
    own = LiteHrnetSppe(19).eval()
    load_tinypose(own, path)
    with torch.no_grad():
        expected, maps = published(crops)[0], own(crops)[0]
    assert torch.allclose(maps[:, :17], expected, atol=1e-6)
    assert maps[:, 17:].abs().max() == 0


@pytest.mark.parametrize('content', [b'', b'no protobuf'])
def test_no_onnx_file_is_told(tmp_path, content):
    (tmp_path / 'x.onnx').write_bytes(content)
    with pytest.raises(ValueError, match=r'x\.onnx is (no ONNX file|not PP-TinyPose)'):
        load_tinypose(LiteHrnetSppe(19), tmp_path / 'x.onnx')


@pytest.mark.usefixtures('shallow_lite')
def test_a_network_of_another_width_is_not_taken_for_tinypose(published):
    with pytest.raises(ValueError, match=r'is not PP-TinyPose: encoder\.largest.*found'):
        load_tinypose(LiteHrnetSppe(19, width=8), published[1])


@pytest.mark.skipif(not TINYPOSE.exists(), reason='needs the published TinyPose')
@pytest.mark.parametrize('size', [(256, 192), (224, 160)])
def test_the_published_network_gives_the_same_heatmaps(size):
    import onnxruntime

    network = LiteHrnetSppe(17).eval()
    load_tinypose(network, TINYPOSE)
    coarse = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    crops = torch.nn.functional.interpolate(coarse, size, mode='bilinear')
    normalised = crops * network.encoder.scale + network.encoder.shift
    session = onnxruntime.InferenceSession(str(TINYPOSE), providers=['CPUExecutionProvider'])
    (expected,) = session.run(None, {'image': normalised.numpy()})
    with torch.no_grad():
        maps = network(crops)[0].numpy()
    assert np.abs(expected).max() > 0.02
    assert np.abs(maps - expected).max() < 1e-4
