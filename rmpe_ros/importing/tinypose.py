# SPDX-License-Identifier: Apache-2.0
"""PP-TinyPose's published weights (PaddleDetection, Apache-2.0) for our own Lite-HRNet."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe


def load_tinypose(sppe: LiteHrnetSppe, path: Path) -> None:
    """Fill `sppe` from an ONNX file of PP-TinyPose whose batch norm is folded.

    The file's convolutions lie in the order of execution, and so do the network's. Of the heatmaps
    the file's 17, COCO's, are filled; others start as nothing.
    Raises ValueError when the file is of another network.
    """
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # whatever protobuf or the file system says
        raise ValueError(f'{path} is no ONNX file: {error}') from error
    arrays = {each.name: each for each in graph.initializer}
    published = [
        [torch.from_numpy(numpy_helper.to_array(arrays[name]).copy()) for name in node.input[1:]]
        for node in graph.node
        if node.op_type == 'Conv' and all(name in arrays for name in node.input[1:])
    ]
    own = [(name, each) for name, each in sppe.named_modules() if isinstance(each, nn.Conv2d)]
    if len(own) != len(published):
        raise ValueError(
            f'{path} is not PP-TinyPose: it has {len(published)} convolutions with weights, '
            f'expected {len(own)}'
        )
    with torch.no_grad():
        for (name, convolution), tensors in zip(own, published, strict=True):
            parameters = list(convolution.parameters())  # weight and bias
            joints = convolution is sppe.heatmaps
            if len(tensors) != len(parameters) or any(
                len(p) < len(t) if joints else p.shape != t.shape
                for p, t in zip(parameters, tensors, strict=True)
            ):
                shapes = ', '.join(str(tuple(t.shape)) for t in tensors)
                raise ValueError(
                    f'{path} is not PP-TinyPose: {name} expects weights of shape '
                    f'{tuple(convolution.weight.shape)}, found {shapes}'
                )
            for parameter, tensor in zip(parameters, tensors, strict=True):
                parameter.zero_()
                parameter[: len(tensor)] = tensor
