# SPDX-License-Identifier: Apache-2.0
"""How unsure a pose network is of each joint: covariances beside keypoints, from the heatmaps.

A further output of an ONNX model of the pose contract, `covariance` float32 (N, K, 3): xx, xy, yy
in crop pixels². Whatever made the model, its heatmaps are what its last ArgMax looks at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.models import ModelError, ModelInfo
from rmpe_ros.networks.decode import GAUSSIAN_STRIDE, heatmap_moments
from rmpe_ros.networks.export import traced
from rmpe_ros.networks.stn import invert_affine, map_points

OUTPUT = 'covariance'
METADATA = 'rmpe.joint_covariance'
# Between heatmaps and the ArgMax that finds their peaks.
_ON_THE_WAY = ('Reshape', 'Flatten', 'AveragePool', 'Cast', 'Identity')


@dataclass(frozen=True)
class CovarianceScale:
    """From the moments of a map and the joint's score to its covariance:

        scale · moments + ((offset + doubt · (1 - score)) · sigma · crop height)² · identity

    with the joint's OKS sigma. `rmpe fit-covariance` fits the three numbers to labelled people.
    """

    scale: float
    offset: float
    doubt: float

    def to_json(self) -> str:
        return json.dumps({name: round(value, 5) for name, value in asdict(self).items()})


# The bare moments.
MOMENTS = CovarianceScale(1.0, 0.0, 0.0)


class JointCovariance(nn.Module):
    """Heatmaps, keypoints and θ of a pose network to covariances; size: of its crops (H, W).

    Gaussian maps tell of how many pixels they are, and so by how much θ zooms.
    """

    sigmas: Tensor

    def __init__(
        self, skeleton: Skeleton, size: tuple[int, int], fit: CovarianceScale, *, gaussian: bool
    ) -> None:
        super().__init__()
        self.size, self.fit, self.gaussian = size, fit, gaussian
        self.register_buffer('sigmas', torch.tensor(skeleton.sigmas, dtype=torch.float32))

    def forward(self, maps: Tensor, keypoints: Tensor, theta: Tensor) -> Tensor:
        """maps: (N, K, h, w); keypoints: (N, K, 3); theta: (N, 2, 3). Returns (N, K, 3)."""
        height, width = self.size
        seen = (height, width)
        if self.gaussian:
            seen = (GAUSSIAN_STRIDE * int(maps.shape[2]), GAUSSIAN_STRIDE * int(maps.shape[3]))
        points = map_points(
            keypoints[:, :, :2].float(), invert_affine(theta.float()), self.size, seen
        )
        if self.gaussian:
            stride_x = stride_y = float(GAUSSIAN_STRIDE)
            cells = points / GAUSSIAN_STRIDE
        else:
            stride_x, stride_y = width / int(maps.shape[3]), height / int(maps.shape[2])
            cells = (points + 0.5) / points.new_tensor([stride_x, stride_y]) - 0.5
        xx, xy, yy = heatmap_moments(maps, cells).unbind(dim=2)
        xx, xy, yy = xx * stride_x**2, xy * (stride_x * stride_y), yy * stride_y**2
        # The SDTN on covariances: θ without its shift, in pixels instead of halves of the crop.
        a, b = (theta[:, 0, i : i + 1].float() * (width / seen[1 - i]) for i in (0, 1))
        c, d = (theta[:, 1, i : i + 1].float() * (height / seen[1 - i]) for i in (0, 1))
        turned_xx = a * a * xx + 2 * a * b * xy + b * b * yy
        turned_xy = a * c * xx + (a * d + b * c) * xy + b * d * yy
        turned_yy = c * c * xx + 2 * c * d * xy + d * d * yy
        unsure = self.fit.offset + self.fit.doubt * (1 - keypoints[:, :, 2].float())
        every_way = (unsure * self.sigmas * height) ** 2
        scale = self.fit.scale
        return torch.stack(
            [scale * turned_xx + every_way, scale * turned_xy, scale * turned_yy + every_way], dim=2
        )


def add_covariance(model: Any, fit: CovarianceScale = MOMENTS) -> Any:
    """An onnx.ModelProto of the pose contract with the output `covariance`, or with another `fit`.

    Raises ModelError when it is no pose model, or has no heatmaps (SimCC networks have none).
    """
    import onnx

    metadata = {each.key: each.value for each in model.metadata_props}
    name = metadata.get('rmpe.name', 'the model')
    skeleton = ModelInfo.from_metadata(metadata, task='pose', model=name).skeleton
    bare = _without_covariance(model)
    outputs = [each.name for each in bare.graph.output]
    dims = [each.dim_value for each in bare.graph.input[0].type.tensor_type.shape.dim]
    if skeleton is None or outputs[:2] != ['keypoints', 'theta'] or len(dims) != 4:
        raise ModelError(f'{name}: a pose model has outputs keypoints and theta, it has {outputs}')
    maps, gaussian = _find_heatmaps(bare, name)
    shapes = onnx.shape_inference.infer_shapes(bare).graph.value_info
    shape = next((s.type.tensor_type.shape.dim for s in shapes if s.name == maps), ())
    rows, columns = (each.dim_value for each in list(shape)[2:]) if len(shape) == 4 else (0, 0)
    if rows < 1 or columns < 1:
        raise ModelError(f'{name}: the size of its heatmaps {maps} is not known')
    joints, size = skeleton.num_keypoints, (dims[1], dims[2])
    part = JointCovariance(skeleton, size, fit, gaussian=gaussian)
    example = (
        torch.rand(2, joints, rows, columns),
        torch.rand(2, joints, 3) * 0.5,
        torch.eye(2, 3).expand(2, 2, 3),
    )
    inputs = ('maps', 'keypoints', 'theta')
    added = traced(
        part,
        example,
        inputs,
        [OUTPUT],
        dynamic={key: {0: 'people'} for key in (*inputs, OUTPUT)},
        name=f'{name}: covariance',
        opset=next(each.version for each in bare.opset_import if each.domain in ('', 'ai.onnx')),
    )
    return _joined(bare, added, maps, {**metadata, METADATA: fit.to_json()})


def _find_heatmaps(model: Any, name: str) -> tuple[str, bool]:
    """The tensor of the maps, and whether they are Gaussians and no probabilities."""
    maker = {output: node for node in model.graph.node for output in node.output}
    peaks = [node for node in model.graph.node if node.op_type == 'ArgMax']
    tensor = peaks[-1].input[0] if peaks else ''
    while tensor in maker and maker[tensor].op_type in _ON_THE_WAY:
        tensor = maker[tensor].input[0]
    if tensor not in maker:
        raise ModelError(f'{name} has no heatmaps, so that nothing tells how unsure a joint is')
    if maker[tensor].op_type != 'Softmax':
        return tensor, True
    # Probabilities are a softmax over a flattened map, which is then given its rows again.
    for node in model.graph.node:
        if node.op_type == 'Reshape' and node.input[0] == tensor:
            return str(node.output[0]), False
    raise ModelError(f'{name}: its softmax {tensor} is not over heatmaps')


def _without_covariance(model: Any) -> Any:
    """A copy without what `add_covariance` has added before."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for kept in (bare.graph.node, bare.graph.initializer, bare.graph.value_info):
        rest = [each for each in kept if not _added(each)]
        del kept[:]
        kept.extend(rest)
    outputs = [each for each in bare.graph.output if each.name != OUTPUT]
    del bare.graph.output[:]
    bare.graph.output.extend(outputs)
    return bare


def _added(part: Any) -> bool:
    names = [part.name, *getattr(part, 'output', ())]
    return any(each.startswith(f'{OUTPUT}/') or each == OUTPUT for each in names)


def _joined(bare: Any, added: Any, maps: str, metadata: Mapping[str, str]) -> Any:
    """One model of both; the names of what is added begin with `covariance/`."""
    import onnx

    graph = bare.graph
    given = {'maps': maps, 'keypoints': 'keypoints', 'theta': 'theta', OUTPUT: OUTPUT, '': ''}

    def renamed(each: str) -> str:
        return given.get(each, f'{OUTPUT}/{each}')

    for node in added.graph.node:
        made = graph.node.add()
        made.CopyFrom(node)
        made.name = f'{OUTPUT}/{node.name}'
        made.input[:] = [renamed(each) for each in node.input]
        made.output[:] = [renamed(each) for each in node.output]
    for constant in added.graph.initializer:
        made = graph.initializer.add()
        made.CopyFrom(constant)
        made.name = renamed(constant.name)
    output = graph.output.add()
    output.CopyFrom(graph.output[0])
    output.name = OUTPUT
    onnx.helper.set_model_props(bare, dict(metadata))
    onnx.checker.check_model(bare, full_check=True)
    return bare
