# SPDX-License-Identifier: Apache-2.0
"""Gives a pose model that was exported before the decoding of Gaussian maps that exports have now.

Models hold how they are decoded. Those exported up to lite 0.5.1 and standard 0.5.0 smooth whole
maps of which they look at nine cells: a twentieth of a crop's time. Weights, metadata, covariances
and scores stay; keypoints, but for rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.networks.decode import BINOMIAL, gaussian_peaks
from rmpe_ros.networks.export import traced

_PREFIX = 'peaks/'


class _Peaks(nn.Module):
    def forward(self, heatmaps: Tensor) -> Tensor:
        return gaussian_peaks(heatmaps)


def renew_decoding(model: Any) -> bool:
    """Exchange the decoding of an onnx.ModelProto; False, and nothing is changed, where it has no
    such old one.
    """
    import onnx

    graph = model.graph
    found = _smoothed_maps(graph)
    if found is None:
        return False
    maps, joints, cells, place = found
    shapes = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    rows, columns = next(
        [side.dim_value for side in each.type.tensor_type.shape.dim[2:]]
        for each in shapes
        if each.name == maps
    )
    part = traced(
        _Peaks(),
        (torch.rand(2, joints, rows, columns),),
        ['maps'],
        ['cells'],
        dynamic={'maps': {0: 'people'}, 'cells': {0: 'people'}},
        name='peaks',
        opset=next(each.version for each in model.opset_import if each.domain in ('', 'ai.onnx')),
    ).graph
    names = {'maps': maps, 'cells': cells, '': ''}
    for node in part.node:
        node.name = _PREFIX + node.name
        node.input[:] = [names.get(each, _PREFIX + each) for each in node.input]
        node.output[:] = [names.get(each, _PREFIX + each) for each in node.output]
    for constant in part.initializer:
        constant.name = _PREFIX + constant.name
    nodes = list(graph.node)
    nodes[place : place + 1] = part.node
    kept, used = [], {output.name for output in graph.output}
    for node in reversed(nodes):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [each for each in (*graph.initializer, *part.initializer) if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return True


def _smoothed_maps(graph: Any) -> tuple[str, int, str, int] | None:
    """The tensor of the maps that a binomial filter smooths as a whole, how many there are, and the
    tensor of the cells that decoding found, with the place of the node that makes it.
    """
    import onnx

    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == 'Constant' and node.attribute[0].name == 'value':
            constants[node.output[0]] = node.attribute[0].t
    kernel = np.outer(BINOMIAL, BINOMIAL)
    smoothed, found = set[str](), None
    for place, node in enumerate(graph.node):
        if found is None and node.op_type == 'Conv' and node.input[1] in constants:
            weights = onnx.numpy_helper.to_array(constants[node.input[1]])
            if weights.shape[1:] == (1, 5, 5) and np.allclose(weights, kernel, atol=1e-6):
                found = str(node.input[0]), len(weights)
                smoothed.update(node.output)
        elif smoothed.intersection(node.input):
            # What is made of the values is put together again for the first time: x and y.
            if node.op_type == 'Concat' and len(node.input) == 2 and found is not None:
                return (*found, str(node.output[0]), place)
            if node.op_type != 'Shape':
                smoothed.update(node.output)
    return None
