# SPDX-License-Identifier: Apache-2.0
"""FastPose has the parameters of AlphaPose's checkpoints, and computes what it is described to."""

import argparse
import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('onnx')

from rmpe_ros.cli.import_pose import add_options, run
from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.engines import open_engine
from rmpe_ros.engines.example_pictures import example_crops
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.importing.fastpose_checkpoint import heatmap_graph, read_fastpose
from rmpe_ros.networks.deformable import deformable_convolution
from rmpe_ros.networks.fastpose import (
    FastPose,
    FastPoseArchitecture,
    FastPoseError,
    fastpose_from_state,
    read_architecture,
)

FAST_RES50 = FastPoseArchitecture(joints=17)
FAST_421_RES152 = FastPoseArchitecture(17, 152, 256, convolutions=(4, 2, 1))
FAST_421_SHUFFLE = FastPoseArchitecture(17, 50, 256, convolutions=(4, 2, 1), unshuffle=True)

# Of AlphaPose's own networks for fast_res50_256x192.pth, fast_421_res152_256x192.pth and
# fast_421_res50-shuffle_256x192.pth: how many tensors and numbers their state has, and the start
# of the SHA-256 of the sorted lines "name [shape]". Then some of these by themselves.
CHECKPOINTS = {
    'fast_res50': (FAST_RES50, 348, 40_633_992, 'ed847a7fe598822a'),
    'halpe26_fast_res50': (FastPoseArchitecture(26), 348, 40_644_369, 'd439d6479e751397'),
    'fast_res152': (FastPoseArchitecture(17, 152), 960, 75_368_174, 'f820a6cb949b7bc6'),
    'fast_421_res152': (FAST_421_RES152, 990, 83_358_579, 'a8dce392c0dfbf78'),
    'fast_421_res50-shuffle': (FAST_421_SHUFFLE, 378, 57_914_125, 'fb42af6295874c92'),
    'fast_dcn_res50': (
        FastPoseArchitecture(17, offsets=(0, 18, 18, 18)),
        374,
        41_214_834,
        '83b479a2bde200e0',
    ),
    'multi_domain_fast50_dcn_combined': (
        FastPoseArchitecture(136, features=256, offsets=(0, 18, 18, 18)),
        374,
        42_690_409,
        'ecf17d248d1ab94d',
    ),
    'fast_421_res50-plain': (
        FastPoseArchitecture(17, 50, 256, convolutions=(4, 2, 1), squeeze=False),
        362,
        37_475_597,
        'af5b7586c5d3f6e3',
    ),
}
SHAPES = {
    'fast_res50': {
        'preact.conv1.weight': (64, 3, 7, 7),
        'preact.bn1.running_var': (64,),
        'preact.layer1.0.se.fc.0.weight': (256, 256),
        'preact.layer1.0.downsample.0.weight': (256, 64, 1, 1),
        'preact.layer3.5.conv2.weight': (256, 256, 3, 3),
        'preact.layer4.0.se.fc.2.bias': (2048,),
        'duc1.conv.weight': (1024, 512, 3, 3),
        'duc2.bn.weight': (512,),
        'conv_out.weight': (17, 128, 3, 3),
    },
    'fast_421_res152': {
        'preact.layer2.7.conv3.weight': (512, 128, 1, 1),
        'preact.layer3.35.bn3.bias': (1024,),
        'duc1.1.weight': (512, 512, 3, 3),
        'duc1.10.weight': (1024, 512, 3, 3),
        'duc2.4.weight': (512, 256, 3, 3),
        'duc3.2.running_mean': (256,),
        'conv_out.weight': (17, 256, 3, 3),
    },
    'fast_421_res50-shuffle': {'preact.layer2.0.conv2.1.weight': (128, 512, 3, 3)},
    'fast_dcn_res50': {
        'preact.layer2.0.conv2_offset.weight': (18, 128, 3, 3),
        'preact.layer4.2.conv2_offset.bias': (18,),
        'preact.layer4.2.conv2.weight': (512, 512, 3, 3),
    },
}

# The same names, 1/16 of the channels.
NARROW = {
    'FastPose': FastPoseArchitecture(17, 50, features=12, base=4),
    'FastPose-DUC': FastPoseArchitecture(5, 50, features=8, convolutions=(4, 2, 1), base=4),
    'shuffle': FastPoseArchitecture(17, 50, 8, convolutions=(2, 1, 1), base=4, unshuffle=True),
    'plain': FastPoseArchitecture(17, 50, 8, convolutions=(1, 1, 2), base=4, squeeze=False),
    'DCN': FastPoseArchitecture(17, 50, features=12, base=4, offsets=(0, 18, 18, 18)),
    'modulated': FastPoseArchitecture(17, 50, features=12, base=4, offsets=(0, 0, 27, 27)),
    '101 layers': FastPoseArchitecture(26, 101, features=8, base=2),
}


def random_network(architecture: FastPoseArchitecture, seed: int = 0) -> FastPose:
    """Weights by chance that keep the size of what goes through; batch norm as after training."""
    generator = torch.Generator().manual_seed(seed)
    network = FastPose(architecture).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (1.5 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
    return network


class SlowFastPose:
    """FastPose from its description, with NumPy in double precision, by the weights' names."""

    def __init__(self, state: dict, strides: tuple[int, ...] = (1, 2, 2, 2)) -> None:
        self.state = {name: tensor.double().numpy() for name, tensor in state.items()}
        self.strides = strides

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(3, H, W) → heatmaps (K, H / 4, W / 4)."""
        x = np.maximum(self.norm('preact.bn1', self.conv('preact.conv1', image, 2)), 0)
        x = self.max_pool(x)
        for stage, stride in enumerate(self.strides, start=1):
            block = 0
            while f'preact.layer{stage}.{block}.conv1.weight' in self.state:
                name = f'preact.layer{stage}.{block}'
                x = self.block(name, x, stride if block == 0 else 1)
                block += 1
        if 'duc1.conv.weight' in self.state:
            x = self.shuffle(x)
            for name in ('duc1', 'duc2'):
                x = self.shuffle(
                    np.maximum(self.norm(f'{name}.bn', self.conv(f'{name}.conv', x)), 0)
                )
        else:
            for stage in (1, 2, 3):
                x, layer = self.shuffle(x), 1
                while f'duc{stage}.{layer}.weight' in self.state:
                    x = self.norm(f'duc{stage}.{layer + 1}', self.conv(f'duc{stage}.{layer}', x))
                    x, layer = np.maximum(x, 0), layer + 3
        return self.conv('conv_out', x)

    def block(self, name: str, x: np.ndarray, stride: int) -> np.ndarray:
        y = np.maximum(self.norm(f'{name}.bn1', self.conv(f'{name}.conv1', x)), 0)
        if f'{name}.conv2.1.weight' in self.state:
            y = self.conv(f'{name}.conv2.1', self.unshuffle(y))
        elif f'{name}.conv2_offset.weight' in self.state:
            offsets = self.conv(f'{name}.conv2_offset', y, stride)
            y = slow_deformable(y, offsets, self.state[f'{name}.conv2.weight'], stride)
        else:
            y = self.conv(f'{name}.conv2', y, stride)
        y = np.maximum(self.norm(f'{name}.bn2', y), 0)
        y = self.norm(f'{name}.bn3', self.conv(f'{name}.conv3', y))
        if f'{name}.se.fc.0.weight' in self.state:
            mean = y.mean(axis=(1, 2))
            hidden = np.maximum(self.linear(f'{name}.se.fc.0', mean), 0)
            y = y / (1 + np.exp(-self.linear(f'{name}.se.fc.2', hidden)))[:, None, None]
        if f'{name}.downsample.0.weight' in self.state:
            x = self.norm(f'{name}.downsample.1', self.conv(f'{name}.downsample.0', x, stride))
        return np.maximum(y + x, 0)

    def conv(self, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        weight = self.state[f'{name}.weight']
        side = weight.shape[2]
        margin = side // 2
        padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
        y = np.tensordot(weight, windows[:, ::stride, ::stride], axes=([1, 2, 3], [0, 3, 4]))
        return y + self.state.get(f'{name}.bias', np.zeros(len(weight)))[:, None, None]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        weight, bias, mean, variance = (
            self.state[f'{name}.{part}'][:, None, None]
            for part in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.state[f'{name}.weight'] @ x + self.state[f'{name}.bias']

    @staticmethod
    def max_pool(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return windows[:, ::2, ::2].max(axis=(3, 4))

    @staticmethod
    def shuffle(x: np.ndarray) -> np.ndarray:
        """Four channels become the four pixels of a square."""
        y = np.zeros((len(x) // 4, 2 * x.shape[1], 2 * x.shape[2]))
        for channel, plane in enumerate(x):
            row, column = divmod(channel % 4, 2)
            y[channel // 4, row::2, column::2] = plane
        return y

    @staticmethod
    def unshuffle(x: np.ndarray) -> np.ndarray:
        """The reverse of shuffle."""
        return np.stack([plane[r::2, c::2] for plane in x for r in (0, 1) for c in (0, 1)])


def slow_deformable(
    x: np.ndarray, offsets: np.ndarray, weight: np.ndarray, stride: int
) -> np.ndarray:
    """Each tap of each output cell by itself: x (C, H, W), offsets (18 or 27, h, w)."""
    result = np.zeros((len(weight), *offsets.shape[1:]))
    for row, column in np.ndindex(*result.shape[1:]):
        for tap in range(9):
            y = row * stride + tap // 3 - 1 + offsets[2 * tap, row, column]
            x_at = column * stride + tap % 3 - 1 + offsets[2 * tap + 1, row, column]
            seen = np.zeros(len(x))
            for cell_y in (int(np.floor(y)), int(np.floor(y)) + 1):
                for cell_x in (int(np.floor(x_at)), int(np.floor(x_at)) + 1):
                    if 0 <= cell_y < x.shape[1] and 0 <= cell_x < x.shape[2]:
                        share = (1 - abs(y - cell_y)) * (1 - abs(x_at - cell_x))
                        seen += share * x[:, cell_y, cell_x]
            if len(offsets) == 27:
                seen /= 1 + np.exp(-offsets[18 + tap, row, column])
            result[:, row, column] += weight[:, :, tap // 3, tap % 3] @ seen
    return result


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('channels', [18, 27])
def test_deformable_convolution_is_the_slow_one(stride, channels):
    generator = torch.Generator().manual_seed(stride)
    x = torch.randn(2, 3, 10, 8, generator=generator)
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    # Two cells on average: some taps leave the map, some go a whole cell.
    offsets = 2 * torch.randn(2, channels, 10 // stride, 8 // stride, generator=generator)
    offsets[0, :4] = torch.tensor([1.0, -2.0, 0.0, 20.0]).reshape(4, 1, 1)
    found = deformable_convolution(x, offsets, weight, stride).numpy()
    for person in range(2):
        arrays = (each.double().numpy() for each in (x[person], offsets[person], weight))
        np.testing.assert_allclose(found[person], slow_deformable(*arrays, stride), atol=2e-5)


def test_deformable_convolution_that_moves_nothing_is_a_convolution():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 7, 9, generator=generator)
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    found = deformable_convolution(x, torch.zeros(1, 18, 7, 9), weight)
    expected = torch.nn.functional.conv2d(x, weight, padding=1)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize('checkpoint', CHECKPOINTS)
def test_parameters_are_those_of_the_checkpoints(checkpoint):
    architecture, tensors, numbers, digest = CHECKPOINTS[checkpoint]
    with torch.device('meta'):
        state = FastPose(architecture).state_dict()
    lines = sorted(f'{name} {list(tensor.shape)}' for name, tensor in state.items())
    for name, shape in SHAPES.get(checkpoint, {}).items():
        assert tuple(state[name].shape) == shape, name
    assert (len(state), sum(tensor.numel() for tensor in state.values())) == (tensors, numbers)
    assert hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16] == digest
    assert read_architecture({n: tuple(t.shape) for n, t in state.items()}) == architecture


SLOW = ('FastPose', 'FastPose-DUC', 'shuffle', 'plain', 'DCN', 'modulated')


@pytest.mark.parametrize('name', SLOW)
def test_heatmaps_are_those_of_the_slow_reference(name):
    network = random_network(NARROW[name])
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1)) - 0.45
    with torch.no_grad():
        maps = network(images).numpy()
    assert maps.shape == (2, NARROW[name].joints, 24, 16)
    assert maps.std() > 0.02
    for image, found in zip(images.double().numpy(), maps, strict=True):
        np.testing.assert_allclose(found, SlowFastPose(network.state_dict())(image), atol=1e-5)


@pytest.mark.parametrize('name', NARROW)
def test_weights_are_recognised_and_loaded(name):
    network = random_network(NARROW[name])
    # As several GPUs and an old PyTorch wrote them.
    state = {
        f'module.{key}': tensor
        for key, tensor in network.state_dict().items()
        if not key.endswith('num_batches_tracked')
    }
    loaded = fastpose_from_state(state)
    assert loaded.architecture == NARROW[name]
    assert not loaded.training
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))


def changed(**changes: object) -> dict:
    state = dict(random_network(NARROW['FastPose']).state_dict())
    for name, tensor in changes.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    return state


@pytest.mark.parametrize(
    'state, message',
    [
        (lambda: {}, 'its parameters begin with nothing'),
        (lambda: {'backbone.conv1.weight': torch.zeros(8, 3, 7, 7)}, 'begin with backbone.conv1'),
        (
            lambda: changed(**{'preact.layer2.0.conv2_offset.weight': torch.zeros(72, 8, 3, 3)}),
            'have 72 channels of offsets; only those of one group',
        ),
        (
            lambda: changed(**{'preact.layer2.0.conv2_offset.weight': torch.zeros(18, 8, 3, 3)}),
            r'FastPose-DCN on SE-ResNet-50 .* 7 missing: preact.layer2.0.conv2_offset.bias',
        ),
        (
            lambda: changed(**{'preact.layer2.0.conv2.1.conv_offset.weight': torch.zeros(18, 32)}),
            'deformable convolutions behind a pixel unshuffle, which are not supported',
        ),
        (lambda: changed(**{'final_layer.weight': torch.zeros(17, 8, 1, 1)}), '--format heatmap'),
        (lambda: changed(**{'duc_dense.0.1.weight': torch.zeros(8, 8, 3, 3)}), 'dense decoder'),
        (lambda: changed(**{'duc2.bn.bias': None}), '1 missing: duc2.bn.bias'),
        (lambda: changed(**{'aux.weight': torch.zeros(3)}), '1 unknown: aux.weight'),
        (
            lambda: changed(**{'duc2.conv.weight': torch.zeros(48, 9, 3, 3)}),
            r'duc2.conv.weight is \[48, 9, 3, 3\], expected \[48, 16, 3, 3\]',
        ),
        (
            lambda: changed(**{'preact.layer4.3.conv1.weight': torch.zeros(32, 128, 1, 1)}),
            'has 3, 4, 6, 4 blocks',
        ),
    ],
)
def test_weights_of_other_networks_are_refused(state, message):
    with pytest.raises(FastPoseError, match=message):
        fastpose_from_state(state())


class Trap:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / 'net.pth'
    path.write_bytes(b'no checkpoint at all')
    with pytest.raises(ValueError, match='no PyTorch checkpoint'):
        read_fastpose(path)
    path.write_bytes(pickle.dumps({'weight': Trap(tmp_path / 'sprung')}, protocol=2))
    with pytest.raises(ValueError, match='holds only tensors'):
        read_fastpose(path)
    assert not (tmp_path / 'sprung').exists()
    torch.save([torch.zeros(2)], path)
    with pytest.raises(ValueError, match='holds a list, no named weights'):
        read_fastpose(path)
    torch.save({'epoch': 3}, path)
    with pytest.raises(ValueError, match="more than weights, for example 'epoch'"):
        read_fastpose(path)


def test_crop_sizes_are_multiples_of_32():
    with pytest.raises(ValueError, match='multiples of 32 pixels, not 250x192'):
        heatmap_graph(random_network(NARROW['FastPose']), (250, 192))


# Deformable in its last three blocks: each of them takes a second to trace and to simplify.
LESS_DEFORMABLE = replace(NARROW['DCN'], offsets=(0, 0, 0, 18))


@pytest.mark.parametrize(
    'architecture', [NARROW['FastPose'], LESS_DEFORMABLE], ids=['FastPose', 'DCN']
)
def test_checkpoint_becomes_a_pose_model(tmp_path, capsys, architecture):
    network = random_network(architecture, seed=3)
    torch.save({'state_dict': network.state_dict(), 'epoch': 7}, tmp_path / 'fast.pth')
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = [str(tmp_path / 'fast.pth'), str(tmp_path / 'out.onnx'), '--size', '128x96']
    assert run(parser.parse_args(options)) == 0
    said = capsys.readouterr().out
    assert network.architecture.name in said
    assert 'compared with the original on 8 crops of a photo' in said
    estimator = PoseEstimator(open_engine(tmp_path / 'out.onnx'))
    assert estimator.skeleton == COCO17
    assert estimator.info.box_growth == 0.25
    assert estimator.crop_size == (128, 96)
    # Their preprocessing: RGB in 0 to 1, less the means of B, G and R; no deviation.
    crops = example_crops(3, (128, 96))
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).double() / 255
    images -= torch.tensor([0.406, 0.457, 0.480]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        maps = network(images.float()).numpy()
    found = estimator.engine({'crops': crops})['keypoints']
    for person, joint in np.ndindex(3, 17):
        y, x = np.unravel_index(maps[person, joint].argmax(), (32, 24))
        # The highest cell, give or take the quarter.
        assert np.abs(found[person, joint, :2] - [4 * x, 4 * y]).max() <= 1 + 1e-4
        assert found[person, joint, 2] == pytest.approx(
            maps[person, joint].max().clip(0, 1), abs=1e-4
        )
