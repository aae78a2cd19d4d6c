# SPDX-License-Identifier: Apache-2.0
"""ONNX files by the package's two contracts, with the metadata that makes them explain themselves.

Pose: `crops` uint8 (N, h, w, 3) RGB → `keypoints` float32 (N, K, 3) (x, y in crop pixels, score in
[0, 1]) and `theta` (N, 2, 3). Detector: `image` uint8 (1, H, W, 3) RGB → `boxes` float32 (1, Q, 4)
and `scores` (1, Q).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.engines.half_precision import to_half_precision
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.parity import example_inputs, point_differences
from rmpe_ros.io.files import write_file
from rmpe_ros.models import FORMAT, PRODUCER
from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.backbones.unshuffled import UnshuffledSppe
from rmpe_ros.networks.localisation import ZoomLocalisation
from rmpe_ros.networks.person_detector import QUERIES, DetectorGraph, DetectorNetwork
from rmpe_ros.networks.sstn_sppe import SstnSppe
from rmpe_ros.networks.zooming import ZoomingSstn

OPSET = 17
# Pixels of a detector's input (models/detector.md says what others give).
DETECTOR_LONG_SIDE = 448

PRECISIONS = ('fp32', 'fp16')

Inputs = Mapping[str, NDArray[Any]]


class ParityError(RuntimeError):
    """An exported model does not answer as the network in PyTorch does."""


@dataclass(frozen=True)
class ExportParity:
    """How far an exported model's points are from PyTorch's, in pixels of the network's input.

    Points are keypoints, or a detector's best boxes. typical, largest: of all points.
    beyond: the share of those that are farther off than `limit`.
    """

    points: int
    typical: float
    largest: float
    limit: float
    beyond: float

    def __str__(self) -> str:
        text = f'{self.points} points differ from PyTorch by {self.typical:.1e} px, '
        text += f'the worst by {self.largest:.1e} px'
        return text + (f', {self.beyond:.1%} by more than {self.limit:g} px' if self.beyond else '')


class PoseGraph(nn.Module):
    """STN → SPPE → decode → SDTN in one graph, uint8 crops in, keypoints out.

    calibration: (slope, offset) of the logistic that turns the logit of the peak's mass into the
    probability that the joint is right; see `fit_score_calibration`.
    """

    def __init__(self, network: SstnSppe, calibration: tuple[float, float] = (1.0, 0.0)):
        super().__init__()
        self.network = network
        self.slope, self.offset = calibration

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        points, mass, theta = self.network.predict_bytes(crops)
        mass = mass.clamp(1e-4, 1 - 1e-4)
        score = torch.sigmoid(self.slope * torch.log(mass / (1 - mass)) + self.offset)
        return torch.cat([points, score.unsqueeze(2)], dim=2), theta


def in_fewer_operations(network: SstnSppe) -> SstnSppe:
    """The same network, with what a run-time is slow at rewritten where that is known."""
    sppe = network.sppe
    if isinstance(sppe, LiteHrnetSppe):
        sppe = UnshuffledSppe(sppe)
    if isinstance(network.localisation, ZoomLocalisation):
        return ZoomingSstn(network, sppe).eval()
    rewritten = SstnSppe(sppe, network.sppe_size, sstn=False, growth=network.sppe_growth)
    rewritten.localisation, rewritten.zoom = network.localisation, network.zoom
    return rewritten.eval()


def fit_score_calibration(mass: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Slope and offset of a logistic from peak mass to the probability of being right (Platt
    scaling).

    mass: (M,) in (0, 1); correct: (M,) bool or NaN-free float. Raises ValueError on an empty set.
    """
    if len(mass) == 0:
        raise ValueError('no labelled joint to calibrate on')
    clipped = torch.from_numpy(np.clip(mass, 1e-4, 1 - 1e-4)).double()
    logit = torch.log(clipped / (1 - clipped))
    target = torch.from_numpy(np.asarray(correct)).double()
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=500, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            parameters[0] * logit + parameters[1], target
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    slope, offset = parameters.detach().tolist()
    return float(slope), float(offset)


def make_onnx(
    graph: nn.Module,
    example: Tensor,
    *,
    input_name: str,
    output_names: tuple[str, ...],
    dynamic: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, str],
    name: str = 'model',
) -> bytes:
    """The bytes of a simplified and checked ONNX file with the package's metadata.

    Raises RuntimeError when the simplified graph is not the same.
    """
    import onnx

    model = traced(graph, (example,), (input_name,), output_names, dynamic=dynamic, name=name)
    del model.metadata_props[:]
    for key, value in {'rmpe.format': FORMAT, 'rmpe.color': 'RGB', **metadata}.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = PRODUCER
    model.doc_string = ''
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def traced(
    graph: nn.Module,
    examples: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    dynamic: Mapping[str, Mapping[int, str]],
    name: str,
    opset: int = OPSET,
) -> Any:
    """A simplified onnx.ModelProto of a graph. Raises RuntimeError, which begins with `name`, when
    it is not the same.
    """
    import onnx
    import onnxsim

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracer warns of shape arithmetic that is constant here.
        warnings.simplefilter('ignore')
        file = Path(folder) / 'traced.onnx'
        torch.onnx.export(
            graph.eval(),
            examples,
            str(file),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={each: dict(axes) for each, axes in dynamic.items()},
            opset_version=opset,
            dynamo=False,
        )
        # It prints which arithmetic on shapes it left alone because the batch is free.
        with _silence():
            model, is_same = onnxsim.simplify(onnx.load(str(file)))
    if not is_same:
        raise RuntimeError(f'{name}: the simplified graph does not give the same results')
    return model


def export_pose(
    network: SstnSppe,
    path: Path,
    *,
    calibration: tuple[float, float],
    metadata: Mapping[str, str],
    precision: str = 'fp32',
) -> ExportParity:
    """The fused pose graph with a dynamic batch, and all that the run-time has to know in its
    metadata; see `write_checked`.
    """
    graph = PoseGraph(network, calibration)
    model = make_onnx(
        PoseGraph(in_fewer_operations(network), calibration),
        random_crops(network, 2),
        input_name='crops',
        output_names=('keypoints', 'theta'),
        dynamic={'crops': {0: 'people'}, 'keypoints': {0: 'people'}, 'theta': {0: 'people'}},
        metadata={
            'rmpe.task': 'pose',
            'rmpe.skeleton': json.dumps(asdict(BODY19)),
            'rmpe.box_growth': str(network.growth),
            **metadata,
        },
        name=path.name,
    )
    return write_checked(graph, model, path, precision=precision)


def export_detector(
    network: DetectorNetwork,
    path: Path,
    *,
    metadata: Mapping[str, str],
    long_side: int = DETECTOR_LONG_SIDE,
    queries: int = QUERIES,
    precision: str = 'fp32',
) -> ExportParity:
    """The detector graph; height and width are dynamic in steps of 32, so that no picture is padded
    to a square. See `write_checked`.
    """
    graph = DetectorGraph(network, queries)
    model = make_onnx(
        graph,
        torch.randint(0, 256, (1, long_side, long_side, 3), dtype=torch.uint8),
        input_name='image',
        output_names=('boxes', 'scores'),
        dynamic={'image': {1: 'height', 2: 'width'}},
        metadata={
            'rmpe.task': 'detector',
            'rmpe.long_side': str(long_side),
            'rmpe.size_step': '32',
            'rmpe.score_threshold': '0.3',
            'rmpe.nms_iou': '0.6',
            **metadata,
        },
        name=path.name,
    )
    return write_checked(graph, model, path, precision=precision)


def write_checked(
    graph: nn.Module,
    model: bytes,
    path: Path,
    *,
    precision: str = 'fp32',
) -> ExportParity:
    """Write the ONNX model of a graph in some precision, if it answers as PyTorch does.

    precision: 'fp32' keeps to 1e-3 px on crops of a photo, 'fp16' to 0.5 px, both but for 2 % of
    the joints, where two places tie, as they do most in a network that has hardly learned.
    Raises ParityError, and leaves what was at `path`, when the model does not keep to that.
    """
    if precision not in PRECISIONS:
        raise ValueError(f'no precision {precision!r}: there are {", ".join(PRECISIONS)}')
    engine = OnnxRuntimeEngine(model)
    drawn = example_inputs(engine.inputs, engine.metadata)
    assert drawn is not None
    limit, allowed = 1e-3, 0.02
    if precision == 'fp16':
        model = to_half_precision(model, name=path.name)
        limit = 0.5
    parity = measure_parity(graph, model, drawn, limit=limit)
    if parity.beyond > allowed:
        raise ParityError(
            f'{path.name} was not written: in {precision}, {parity.beyond:.1%} of its points are '
            f'more than {limit:g} px from where PyTorch has them, and at most {allowed:.0%} may '
            f'be (the worst is {parity.largest:.2g} px off); export it with more precision'
        )
    write_file(path, model)
    return parity


def measure_parity(graph: nn.Module, model: bytes, inputs: Inputs, *, limit: float) -> ExportParity:
    """Compare an ONNX model with the PyTorch graph that it was made of, on inputs."""
    engine = OnnxRuntimeEngine(model)
    with torch.no_grad():
        answers = graph.eval()(*(torch.from_numpy(each) for each in inputs.values()))
    expected = {name: each.numpy() for name, each in zip(engine.outputs, answers, strict=True)}
    off = point_differences(engine.metadata['rmpe.task'], expected, engine(inputs)).ravel()
    return ExportParity(
        points=off.size,
        typical=float(np.median(off)),
        largest=float(off.max()),
        limit=limit,
        beyond=float((off > limit).mean()),
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing that this process prints is seen, native code's lines included."""
    kept = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, 'wb') as nowhere:
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            yield
    finally:
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def random_crops(network: SstnSppe, count: int, seed: int = 0) -> Tensor:
    """Smooth random pictures, uint8 (count, h, w, 3): noise alone would excite a network as no
    photo does.
    """
    height, width = network.size
    coarse = torch.rand(count, 3, 8, 6, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(
        coarse, (height, width), mode='bilinear', align_corners=False
    )
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
