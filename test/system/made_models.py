# SPDX-License-Identifier: Apache-2.0
"""Variants of the test detector that answer the same, but take time or memory."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def slow_detector(source: Path, target: Path, *, products: int = 6) -> Path:
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


def lone_pose(source: Path, target: Path) -> Path:
    """The test pose model, which fails for more than one person at a time."""
    model = onnx.load(source)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1], np.int64), 'one_person'))
    for node in graph.node:
        node.output[:] = ['theta_of_all' if name == 'theta' else name for name in node.output]
    graph.node.extend(
        [
            helper.make_node('ReduceMax', ['crops'], ['lightest'], axes=[1, 2, 3], keepdims=0),
            helper.make_node('Cast', ['lightest'], ['lightest_as_float'], to=TensorProto.FLOAT),
            helper.make_node('Reshape', ['lightest_as_float', 'one_person'], ['of_one']),
            helper.make_node('ReduceMax', ['of_one'], ['a_number'], keepdims=0),
            helper.make_node('Mul', ['a_number', 'nothing_of_it'], ['no_number']),
            helper.make_node('Add', ['theta_of_all', 'no_number'], ['theta']),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.float32(0), 'nothing_of_it'))
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target
