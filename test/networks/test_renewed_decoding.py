# SPDX-License-Identifier: Apache-2.0
"""Models of before get the decoding of now, and nothing else changes."""

import numpy as np
import onnx
import pytest

torch = pytest.importorskip('torch')

from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.engines import open_engine
from rmpe_ros.networks.decode import BINOMIAL, decode_gaussians
from rmpe_ros.networks.export import make_onnx
from rmpe_ros.networks.renewed_decoding import renew_decoding

SIZE = (96, 64)


def decode_whole_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Joints and heights as models up to lite 0.5.1 and standard 0.5.0 have it in their graphs."""
    joints, columns = int(maps.shape[1]), int(maps.shape[3])
    flat = maps.flatten(2)
    peak = flat.argmax(dim=2)
    y = torch.div(peak, columns, rounding_mode='floor')
    x = peak - y * columns
    row = maps.new_tensor(BINOMIAL)
    kernel = (row[:, None] * row).expand(joints, 1, 5, 5)
    smoothed = F.conv2d(maps, kernel, padding=2, groups=joints)
    logs = F.pad(torch.log(smoothed.clamp_min(1e-6)), (1, 1, 1, 1), mode='replicate')
    at = (y + 1) * (columns + 2) + x + 1
    around = [at + down * (columns + 2) + right for down in (-1, 0, 1) for right in (-1, 0, 1)]
    values = logs.flatten(2).gather(2, torch.stack(around, dim=2)).unbind(dim=2)
    up_left, up, up_right, left, middle, right, down_left, down, down_right = values
    dx, dy = (right - left) / 2, (down - up) / 2
    dxx, dyy = right - 2 * middle + left, down - 2 * middle + up
    dxy = (down_right - down_left - up_right + up_left) / 4
    determinant = dxx * dyy - dxy * dxy
    hill = ((determinant > 1e-6) & (dxx < 0)).float()
    divisor = determinant * hill + (1 - hill)
    step_x = (hill * (dxy * dy - dyy * dx) / divisor).clamp(-1, 1)
    step_y = (hill * (dxy * dx - dxx * dy) / divisor).clamp(-1, 1)
    points = torch.stack([x.float() + step_x, y.float() + step_y], dim=2) * 4
    return points, flat.max(dim=2).values.clamp(0, 1)


class _Network(nn.Module):
    """Maps of five joints by one convolution, decoded in one way or the other."""

    def __init__(self, decode):
        super().__init__()
        torch.manual_seed(0)
        self.maps, self.decode = nn.Conv2d(3, 5, 7, 4, 3), decode

    def forward(self, crops: Tensor) -> Tensor:
        points, heights = self.decode(self.maps(crops.float().permute(0, 3, 1, 2) / 255))
        # Onwards to another frame, as the SDTN does: constants are folded into the stride.
        return torch.cat([(points * 2 + 1) / 3, heights.unsqueeze(2)], dim=2)


def exported(decode) -> onnx.ModelProto:
    return onnx.load_model_from_string(
        make_onnx(
            _Network(decode),
            torch.zeros(2, *SIZE, 3, dtype=torch.uint8),
            input_name='crops',
            output_names=('keypoints',),
            dynamic={'crops': {0: 'people'}, 'keypoints': {0: 'people'}},
            metadata={'rmpe.task': 'pose', 'rmpe.name': 'old'},
        )
    )


def answers(model: onnx.ModelProto) -> np.ndarray:
    coarse = torch.rand(6, 3, 9, 7, generator=torch.Generator().manual_seed(2)) * 255
    crops = F.interpolate(coarse, SIZE, mode='bicubic').clamp(0, 255).byte().permute(0, 2, 3, 1)
    return open_engine(model.SerializeToString())({'crops': crops.numpy()})['keypoints']


def test_an_old_model_decodes_as_a_new_one_and_keeps_the_rest() -> None:
    model = exported(decode_whole_maps)
    before, metadata = answers(model), list(model.metadata_props)
    assert renew_decoding(model)
    assert np.ptp(before[..., :2]) > 10, 'the joints are all over the crops'
    np.testing.assert_allclose(answers(model), before, atol=1e-3)
    np.testing.assert_array_equal(answers(model), answers(exported(decode_gaussians)))
    assert list(model.metadata_props) == metadata
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count('Conv'), kinds.count('ArgMax')) == (1, 1), 'the old decoding is gone'


def test_a_new_model_stays_as_it_is() -> None:
    model = exported(decode_whole_maps)
    renew_decoding(model)
    for each in (model, exported(decode_gaussians)):
        before = each.SerializeToString()
        assert not renew_decoding(each)
        assert each.SerializeToString() == before
