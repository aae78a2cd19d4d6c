# SPDX-License-Identifier: Apache-2.0
"""ONNX files by the package's two contracts, with the metadata that makes them explain themselves.

Pose: `crops` uint8 (N, h, w, 3) RGB → `keypoints` float32 (N, K, 3) (x, y in crop pixels, score in
[0, 1]) and `theta` (N, 2, 3). Detector: `image` uint8 (1, H, W, 3) RGB → `boxes` float32 (1, Q, 4)
and `scores` (1, Q).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.networks.person_detector import DetectorGraph, PersonDetector
from rmpe_ros.networks.sstn_sppe import SstnSppe
from rmpe_ros.skeletons import BODY19, Skeleton

OPSET = 17
FORMAT = '1'
# Pixels of a detector's input; 416 gave AP50 0.66 where 320 gave 0.58 (models/detector.md).
DETECTOR_LONG_SIDE = 416


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
        # The cast comes first: TensorRT does not transpose uint8.
        image = crops.float().permute(0, 3, 1, 2) / 127.5 - 1.0
        points, mass, theta = self.network.predict(image)
        mass = mass.clamp(1e-4, 1 - 1e-4)
        score = torch.sigmoid(self.slope * torch.log(mass / (1 - mass)) + self.offset)
        return torch.cat([points, score.unsqueeze(2)], dim=2), theta


def fit_score_calibration(
    mass: np.ndarray, correct: np.ndarray, *, steps: int = 500
) -> tuple[float, float]:
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
    optimizer = torch.optim.LBFGS([parameters], max_iter=steps, line_search_fn='strong_wolfe')

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


def export_onnx(
    graph: nn.Module,
    example: Tensor,
    path: Path,
    *,
    input_name: str,
    output_names: tuple[str, ...],
    dynamic: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, str],
) -> None:
    """Write, simplify and check one ONNX file; it appears at `path` whole or not at all."""
    import onnx
    import onnxsim

    partial = path.with_suffix('.partial.onnx')
    with warnings.catch_warnings():
        warnings.simplefilter(
            'ignore'
        )  # the tracer warns of shape arithmetic that is constant here
        torch.onnx.export(
            graph.eval(),
            (example,),
            str(partial),
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    model, simplified = onnxsim.simplify(onnx.load(str(partial)))
    if not simplified:
        raise RuntimeError(f'{path.name}: the simplified graph does not give the same results')
    del model.metadata_props[:]
    for key, value in {'rmpe.format': FORMAT, 'rmpe.color': 'RGB', **metadata}.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = 'rmpe_ros'
    model.doc_string = ''
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(partial))
    os.replace(partial, path)


def export_pose(
    network: SstnSppe,
    path: Path,
    *,
    calibration: tuple[float, float],
    metadata: Mapping[str, str],
    skeleton: Skeleton = BODY19,
    box_growth: float = 0.3,
) -> None:
    """The fused pose graph with a dynamic batch, and all that the run-time has to know in its
    metadata.
    """
    export_onnx(
        PoseGraph(network, calibration),
        example_crops(network, 2),
        path,
        input_name='crops',
        output_names=('keypoints', 'theta'),
        dynamic={'crops': {0: 'people'}, 'keypoints': {0: 'people'}, 'theta': {0: 'people'}},
        metadata={
            'rmpe.task': 'pose',
            'rmpe.skeleton': json.dumps(asdict(skeleton)),
            'rmpe.box_growth': str(box_growth),
            **metadata,
        },
    )


def export_detector(
    network: PersonDetector,
    path: Path,
    *,
    metadata: Mapping[str, str],
    long_side: int = DETECTOR_LONG_SIDE,
    queries: int = 200,
    score_threshold: float = 0.3,
    nms_iou: float = 0.6,
) -> None:
    """The detector graph; height and width are dynamic in steps of 32, so that no picture is padded
    to a square.
    """
    export_onnx(
        DetectorGraph(network, queries),
        torch.randint(0, 256, (1, long_side, long_side, 3), dtype=torch.uint8),
        path,
        input_name='image',
        output_names=('boxes', 'scores'),
        dynamic={'image': {1: 'height', 2: 'width'}},
        metadata={
            'rmpe.task': 'detector',
            'rmpe.long_side': str(long_side),
            'rmpe.size_step': '32',
            'rmpe.score_threshold': str(score_threshold),
            'rmpe.nms_iou': str(nms_iou),
            **metadata,
        },
    )


def example_crops(network: SstnSppe, count: int, seed: int = 0) -> Tensor:
    """Smooth random pictures, uint8 (count, h, w, 3): noise alone would excite a network as no
    photo does.
    """
    height, width = network.size
    coarse = torch.rand(count, 3, 8, 6, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(
        coarse, (height, width), mode='bilinear', align_corners=False
    )
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def pose_parity(network: SstnSppe, path: Path, count: int = 8) -> float:
    """Largest distance in crop pixels between the ONNX file's keypoints and PyTorch's, on
    `example_crops`.
    """
    import onnxruntime

    crops = example_crops(network, count)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    found = session.run(['keypoints'], {'crops': crops.numpy()})[0]
    with torch.no_grad():
        expected, _ = PoseGraph(network.eval())(crops)
    return float(np.abs(found[..., :2] - expected[..., :2].numpy()).max())
