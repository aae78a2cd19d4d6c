# SPDX-License-Identifier: Apache-2.0
"""Variants of the test models that answer the same, but take time or memory, or fail."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def slow_detector(source: Path, target: Path, *, products: int = 3) -> Path:
    """The test detector, with a chain of large matrix products that delays its scores."""
    model = onnx.load(source)
    graph, side = model.graph, 1500
    ones = np.full((side, side), 1e-3, np.float32)
    graph.initializer.append(numpy_helper.from_array(ones, 'big'))
    graph.initializer.append(numpy_helper.from_array(np.float32(0), 'nothing'))
    nodes = [
        helper.make_node('ReduceMean', ['image_as_float'], ['level'], keepdims=0),
        helper.make_node('Cast', ['image'], ['image_as_float'], to=TensorProto.FLOAT),
        helper.make_node('Mul', ['level', 'big'], ['product0']),
    ]
    nodes[:2] = nodes[1::-1]
    for index in range(products):
        inputs = [f'product{index}', 'big']
        nodes.append(helper.make_node('MatMul', inputs, [f'product{index + 1}']))
    nodes += [
        helper.make_node('ReduceMean', [f'product{products}'], ['late'], keepdims=0),
        helper.make_node('Mul', ['late', 'nothing'], ['late_zero']),
        helper.make_node('Add', ['scores_at_once', 'late_zero'], ['scores']),
    ]
    for node in graph.node:
        node.output[:] = ['scores_at_once' if name == 'scores' else name for name in node.output]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target


def heavy_detector(source: Path, target: Path, *, megabytes: int) -> Path:
    """The test detector, with a table of so many MB of which it reads one row."""
    model = onnx.load(source)
    graph, columns = model.graph, 1000
    table = np.full((megabytes * 250, columns), 1e-3, np.float32)
    graph.initializer.append(numpy_helper.from_array(table, 'table'))
    graph.initializer.append(numpy_helper.from_array(np.float32(0), 'nothing'))
    for node in graph.node:
        node.output[:] = ['scores_at_once' if name == 'scores' else name for name in node.output]
    graph.node.extend(
        [
            helper.make_node('ReduceMax', ['scores_at_once'], ['best'], keepdims=0),
            helper.make_node('Mul', ['best', 'nothing'], ['no_row']),
            helper.make_node('Cast', ['no_row'], ['row'], to=TensorProto.INT64),
            helper.make_node('Gather', ['table', 'row'], ['values']),
            helper.make_node('ReduceMean', ['values'], ['value'], keepdims=0),
            helper.make_node('Mul', ['value', 'nothing'], ['still_zero']),
            helper.make_node('Add', ['scores_at_once', 'still_zero'], ['scores']),
        ]
    )
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target


def picky_pose(source: Path, target: Path) -> Path:
    """The test pose model, which fails for a person who is lighter than 230."""
    model = onnx.load(source)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.float32([0]), 'one_number'))
    graph.initializer.append(numpy_helper.from_array(np.float32(230), 'too_light'))
    for node in graph.node:
        node.output[:] = ['theta_of_all' if name == 'theta' else name for name in node.output]
    graph.node.extend(
        [
            helper.make_node('Cast', ['crops'], ['crops_as_float'], to=TensorProto.FLOAT),
            helper.make_node('ReduceMax', ['crops_as_float'], ['lightest'], keepdims=0),
            helper.make_node('Greater', ['lightest', 'too_light'], ['is_too_light']),
            # Of one number there is no second.
            helper.make_node('Cast', ['is_too_light'], ['which'], to=TensorProto.INT64),
            helper.make_node('Gather', ['one_number', 'which'], ['no_number']),
            helper.make_node('Add', ['theta_of_all', 'no_number'], ['theta']),
        ]
    )
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target
