# SPDX-License-Identifier: Apache-2.0
"""Makes a half-precision model of a float32 one: the convolutional trunk, and nothing else.

TensorRT 11 and TensorRT-RTX take the precision from the types in the ONNX graph. Inputs, outputs,
θ, the sampling grid and the decoding of heatmaps stay float32: half precision would move a grid of
256 pixels by up to a quarter of a pixel. Needs the package `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from rmpe_ros.engines import EngineError

if TYPE_CHECKING:
    import onnx

# Part of the key of cached engines: count it up when the conversion gives other graphs.
CONVERSION = 2

_CONVOLUTIONS = ('Conv', 'ConvTranspose')
# What may lie between two convolutions in half precision. Other operators there stay float32.
_TRUNK = (
    *_CONVOLUTIONS,
    *('Add', 'Mul', 'Sub', 'Concat', 'Pad', 'Identity', 'BatchNormalization', 'Resize'),
    *('Relu', 'LeakyRelu', 'PRelu', 'Clip', 'Sigmoid', 'HardSigmoid', 'HardSwish'),
    *('MaxPool', 'AveragePool', 'GlobalAveragePool', 'DepthToSpace'),
)
# Inputs (by position) whose type is not that of the data: sizes, scales, axes.
_OTHER_TYPES = {'Resize': (1, 2, 3), 'Pad': (1, 3)}
_LARGEST_HALF = float(np.finfo(np.float16).max)


def to_half_precision(model: bytes, *, name: str = 'model') -> bytes:
    """The ONNX model with its convolutional trunk in float16 and the same inputs and outputs.

    Raises EngineError when `onnx` is missing, the model has no such trunk, or a weight does not fit
    into float16.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            f'{name}: half precision is made with the Python package onnx, which is not installed: '
            'pip install onnx, or compile with precision fp32'
        ) from error
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:
        raise EngineError(f'{name} is no ONNX model: {error}; export it again') from error
    _Conversion(proto, name).run()
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def find_trunk(model: onnx.ModelProto) -> set[int]:
    """Where in `model.graph.node` the convolutional trunk is, which bears less precision than
    float32.

    Convolutions, and what lies between two of them; never what θ and the grid depend on.
    """
    import onnx

    graph = model.graph
    nodes = list(graph.node)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {
        each.name: each.type.tensor_type.elem_type
        for each in (*inferred.value_info, *inferred.output)
    }
    producer = {tensor: i for i, node in enumerate(nodes) for tensor in node.output if tensor}

    def ancestors(tensors: Iterable[str]) -> set[int]:
        """The nodes that these tensors are computed by."""
        found: set[int] = set()
        waiting = [tensor for tensor in tensors if tensor in producer]
        while waiting:
            index = producer[waiting.pop()]
            if index not in found:
                found.add(index)
                waiting += [each for each in nodes[index].input if each in producer]
        return found

    precise = ancestors(
        [out.name for out in graph.output if out.name == 'theta']
        + [node.input[1] for node in nodes if node.op_type == 'GridSample']
    )
    convolutions = {
        index
        for index, node in enumerate(nodes)
        if node.op_type in _CONVOLUTIONS and index not in precise
    }
    above = ancestors(tensor for index in convolutions for tensor in nodes[index].input)
    below: set[int] = set()
    for index, node in enumerate(nodes):
        sources = {producer[tensor] for tensor in node.input if tensor in producer}
        if sources & (below | convolutions):
            below.add(index)
    between = {
        index
        for index in above & below
        if nodes[index].op_type in _TRUNK
        # Sizes are computed with the same operators.
        and types.get(nodes[index].output[0]) == onnx.TensorProto.FLOAT
    }
    return convolutions | between


class _Conversion:
    """One model while its trunk becomes float16."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.model, self.name, self.graph = model, name, model.graph
        self.nodes = list(self.graph.node)
        self.constants = _constants(self.graph)
        self.trunk = find_trunk(self.model)
        if not self.trunk:
            raise EngineError(
                f'{name} has no convolutions that could be half precision; '
                'compile it with precision fp32'
            )

    def run(self) -> None:
        """Rewrite the graph: half names for the trunk's tensors, casts at its borders."""
        from onnx import TensorProto, helper

        float_outputs = self._read_elsewhere()
        halves: set[str] = set()
        rewritten = []
        for index, node in enumerate(self.nodes):
            if index not in self.trunk:
                rewritten.append(node)
                continue
            for position, tensor in enumerate(node.input):
                if not tensor or position in _OTHER_TYPES.get(node.op_type, ()):
                    continue
                half = _half_name(tensor)
                if tensor not in halves:
                    if tensor in self.constants:
                        self.graph.initializer.append(self._half_constant(tensor, half))
                    else:
                        rewritten.append(
                            helper.make_node('Cast', [tensor], [half], half, to=TensorProto.FLOAT16)
                        )
                    halves.add(tensor)
                node.input[position] = half
            rewritten.append(node)
            for position, tensor in enumerate(node.output):
                if not tensor:
                    continue
                half = node.output[position] = _half_name(tensor)
                halves.add(tensor)
                if tensor in float_outputs:
                    rewritten.append(
                        helper.make_node(
                            'Cast', [half], [tensor], f'{tensor}_float', to=TensorProto.FLOAT
                        )
                    )
        del self.graph.node[:]
        self.graph.node.extend(rewritten)
        # They would tell the old types, and every tool infers them anew.
        del self.graph.value_info[:]
        self._drop_unused_constants()
        said = {entry.key: entry.value for entry in self.model.metadata_props}
        helper.set_model_props(self.model, {**said, 'rmpe.precision': 'fp16'})

    def _read_elsewhere(self) -> set[str]:
        """Tensors that something outside the trunk reads, the model's user included."""
        read = {out.name for out in self.graph.output}
        for index, node in enumerate(self.nodes):
            ignored = _OTHER_TYPES.get(node.op_type, ()) if index in self.trunk else None
            for position, tensor in enumerate(node.input):
                if ignored is None or position in ignored:
                    read.add(tensor)
        return read

    def _half_constant(self, tensor: str, half: str) -> onnx.TensorProto:
        from onnx import numpy_helper

        values = numpy_helper.to_array(self.constants[tensor])
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
        if largest > _LARGEST_HALF:
            raise EngineError(
                f'{self.name}: {tensor} holds {largest:.3g}, and half precision ends at '
                f'{_LARGEST_HALF:.0f}; compile it with precision fp32'
            )
        return numpy_helper.from_array(values.astype(np.float16), half)

    def _drop_unused_constants(self) -> None:
        used = {tensor for node in self.graph.node for tensor in node.input}
        kept = [each for each in self.graph.initializer if each.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        nodes = [
            node
            for node in self.graph.node
            if node.op_type != 'Constant' or set(node.output) & used
        ]
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def _half_name(tensor: str) -> str:
    return f'{tensor}_half'


def _constants(graph: Any) -> dict[str, Any]:
    """Tensors by name that do not depend on the input: initializers and Constant nodes."""
    found = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == 'Constant':
            values = [each.t for each in node.attribute if each.name == 'value']
            if values:
                found[node.output[0]] = values[0]
    return found
