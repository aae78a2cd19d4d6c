# SPDX-License-Identifier: Apache-2.0
"""Surgery on other people's ONNX graphs: our image input before them, our outputs behind them.

Only operators are added that are the same in every opset from 11 on, so that a network keeps its
opset. Needs the package `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine, read_model
from rmpe_ros.models import FORMAT, PRODUCER

_OLDEST_OPSET = 11

Shape = Sequence[int | str]


def load_network(path: Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises ValueError when it is none, or of an opset that is too old; EngineError (a ValueError)
    when it cannot be read.
    """
    try:
        model = onnx.load_model_from_string(read_model(path))
    except Exception as error:
        # onnx and protobuf raise unrelated classes for bytes that are no model.
        if isinstance(error, ValueError):
            raise
        raise ValueError(f'{path} is no ONNX model: {error}') from error
    try:
        # The weights may lie in a file beside it, as PyTorch's newer exporter has it.
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, onnx.checker.ValidationError) as error:
        raise ValueError(f'{path} comes with a file of its weights: {error}') from error
    if not model.graph.node or not model.graph.output:
        raise ValueError(f'{path} is no ONNX model: it has no graph')
    opset = max((each.version for each in model.opset_import if not each.domain), default=0)
    if opset < _OLDEST_OPSET:
        raise ValueError(
            f'{path} is of ONNX opset {opset}, at least {_OLDEST_OPSET} is needed: export it again '
            'with opset_version=17'
        )
    return model


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """What a network says of itself: its metadata."""
    return {each.key: each.value for each in model.metadata_props}


def network_inputs(model: onnx.ModelProto) -> dict[str, Any]:
    """The inputs that a caller gives; old files list the weights among the inputs, too."""
    weights = {each.name for each in model.graph.initializer}
    return {each.name: each for each in model.graph.input if each.name not in weights}


def tensor_shape(value: Any) -> tuple[int | str, ...]:
    """Sizes of an input or output; free ones by name, '?' without one."""
    dimensions = value.type.tensor_type.shape.dim
    return tuple(
        each.dim_value if each.HasField('dim_value') else (each.dim_param or '?')
        for each in dimensions
    )


def describe_tensor(value: Any) -> str:
    """For messages: `images float32 [1, 3, 640, 640]`."""
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return f'{value.name} {dtype} [{", ".join(map(str, tensor_shape(value)))}]'


def describe_network(model: onnx.ModelProto) -> str:
    """For messages: all inputs and outputs with types and shapes."""
    inputs = ', '.join(map(describe_tensor, network_inputs(model).values()))
    return f'{inputs} → {", ".join(map(describe_tensor, model.graph.output))}'


def run_network(
    model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """All outputs for these inputs, by ONNX Runtime.

    Raises EngineError (a ValueError) when ONNX Runtime cannot do it.
    """
    with closing(OnnxRuntimeEngine(model.SerializeToString())) as engine:
        return engine(inputs)


def normalise(
    pictures: NDArray[np.uint8], mean: Sequence[float], deviation: Sequence[float], *, bgr: bool
) -> NDArray[np.float32]:
    """Pictures (N, H, W, 3) RGB as the network itself takes them; see `take_images`."""
    images = (pictures - np.array(mean, np.float32)) / np.array(deviation, np.float32)
    return np.ascontiguousarray(images[..., :: -1 if bgr else 1].transpose(0, 3, 1, 2))


class GraphSurgery:
    """A copy of a network while our input and outputs are put around it.

    Nodes are added behind the network in the order of their calls; each gives the name of the
    tensor that it makes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self._names = set(_all_names(self.graph))
        self._before: list[onnx.NodeProto] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._half = any(each.data_type == TensorProto.FLOAT16 for each in self.graph.initializer)

    def take_images(
        self,
        name: str,
        shape: Shape,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        deviation: Sequence[float] = (1.0, 1.0, 1.0),
        bgr: bool = False,
    ) -> None:
        """Replace the network's only input, float (N, 3, H, W), by uint8 RGB images.

        name, shape: of the new input (N, H, W, 3). mean, deviation: of red, green and blue on the
        scale 0-255. bgr: the network takes blue first.
        """
        (theirs,) = network_inputs(self.model).values()
        target, type_ = theirs.name, theirs.type.tensor_type.elem_type
        self.graph.input.remove(theirs)
        target = self._make_free(name, target)
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, list(shape)))
        # The cast comes first: TensorRT does not transpose uint8.
        steps: list[tuple[str, Sequence[str], dict[str, Any]]] = [
            ('Cast', (), {'to': TensorProto.FLOAT}),
            ('Transpose', (), {'perm': [0, 3, 1, 2]}),
        ]
        if any(mean):
            steps.append(('Sub', (self.constant(_per_channel(mean)),), {}))
        if any(each != 1 for each in deviation):
            steps.append(('Div', (self.constant(_per_channel(deviation)),), {}))
        if bgr:
            channels = self.constant(np.array([2, 1, 0], np.int64))
            steps.append(('Gather', (channels,), {'axis': 1}))
        if type_ == TensorProto.FLOAT16:
            steps.append(('Cast', (), {'to': type_}))
        tensor = name
        for index, (operator, others, attributes) in enumerate(steps):
            result = target if index == len(steps) - 1 else self._new_name(operator)
            self._before.append(
                helper.make_node(operator, [tensor, *others], [result], **attributes)
            )
            tensor = result

    def constant(self, values: ArrayLike) -> str:
        """A constant tensor, of the array's own type; Python numbers become float32."""
        array = values if isinstance(values, np.ndarray) else np.asarray(values, np.float32)
        name = self._new_name('constant')
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result."""
        return self.nodes(operator, *inputs, results=1, **attributes)[0]

    def nodes(
        self, operator: str, *inputs: str, results: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several results."""
        names = tuple(self._new_name(operator) for _ in range(results))
        self.graph.node.append(helper.make_node(operator, list(inputs), list(names), **attributes))
        return names

    def slice(self, tensor: str, start: int, end: int, *, axis: int) -> str:
        """The part [start, end) of one axis."""
        bounds = (self.constant(np.array([each], np.int64)) for each in (start, end, axis))
        return self.node('Slice', tensor, *bounds)

    def take(self, tensor: str, index: int, *, axis: int) -> str:
        """One entry of an axis, which is gone afterwards."""
        return self.node('Gather', tensor, self.constant(np.array(index, np.int64)), axis=axis)

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        return self.node('Reshape', tensor, self.constant(np.array(shape, np.int64)))

    def as_float(self, tensor: str) -> str:
        """The tensor in float32, also of networks in half precision."""
        return self.node('Cast', tensor, to=TensorProto.FLOAT) if self._half else tensor

    def give(self, tensor: str, name: str, shape: Shape) -> None:
        """Declare a float32 output of the model."""
        tensor = self._make_free(name, tensor)
        self.graph.node.append(helper.make_node('Identity', [tensor], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def finish(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The checked model with these inputs and outputs, without what they do not need.

        metadata: replaces what the network said of itself. Raises ValueError when the graph is
        not sound.
        """
        nodes = [*self._before, *self.graph.node]
        kept, needed = [], {each.name for each in self._outputs}
        for node in reversed(nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(_names_read(node))
        weights = [each for each in self.graph.initializer if each.name in needed]
        for field, entries in (
            ('node', kept[::-1]),
            ('initializer', weights),
            ('input', self._inputs),
            ('output', self._outputs),
            # They tell of the sizes before; every tool infers them anew.
            ('value_info', []),
        ):
            del getattr(self.graph, field)[:]
            getattr(self.graph, field).extend(entries)
        helper.set_model_props(self.model, {'rmpe.format': FORMAT, 'rmpe.color': 'RGB', **metadata})
        self.model.producer_name = PRODUCER
        self.model.doc_string = ''
        try:
            onnx.checker.check_model(self.model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ValueError(f'the network cannot be taken over: {error}') from error
        return self.model

    def _new_name(self, operator: str) -> str:
        number = len(self._names)
        while (name := f'rmpe/{operator.lower()}_{number}') in self._names:
            number += 1
        self._names.add(name)
        return name

    def _make_free(self, name: str, tensor: str) -> str:
        """Rename a tensor of the network that has a name of the contract; gives what `tensor` is
        called afterwards.
        """
        if name not in self._names:
            self._names.add(name)
            return tensor
        theirs = self._new_name(f'their_{name}')
        _rename(self.graph, name, theirs)
        for node in self._before:
            _rename_node(node, name, theirs)
        return theirs if tensor == name else tensor


def _per_channel(values: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape(1, 3, 1, 1)


def _subgraphs(node: onnx.NodeProto) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField('g'):
            yield attribute.g
        yield from attribute.graphs


def _names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node reads, also in the branches of an If or the body of a Loop."""
    yield from (name for name in node.input if name)
    for graph in _subgraphs(node):
        yield from (each.name for each in graph.output)
        for inner in graph.node:
            yield from _names_read(inner)


def _all_names(graph: Any) -> Iterator[str]:
    for values in (graph.input, graph.output, graph.initializer):
        yield from (each.name for each in values)
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in _subgraphs(node):
            yield from _all_names(inner)


def _rename(graph: Any, old: str, new: str) -> None:
    for values in (graph.input, graph.output, graph.initializer):
        for each in values:
            if each.name == old:
                each.name = new
    for node in graph.node:
        _rename_node(node, old, new)


def _rename_node(node: onnx.NodeProto, old: str, new: str) -> None:
    for names in (node.input, node.output):
        names[:] = [new if name == old else name for name in names]
    for graph in _subgraphs(node):
        _rename(graph, old, new)
