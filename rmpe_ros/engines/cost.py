# SPDX-License-Identifier: Apache-2.0
"""What a model costs at least: its arithmetic and its bytes, and the time that hardware needs for
them. The floor that measured times are compared with. Counting needs the package `onnx`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.cuda import Gpu
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.profiles import Shape

# Floating-point operations for one element of the output; what is not named moves data only.
_PER_OUTPUT = {
    **dict.fromkeys(('Add', 'Sub', 'Mul', 'Div', 'Relu', 'Abs', 'Neg', 'Max', 'Min', 'Sqrt'), 1),
    **dict.fromkeys(('Clip', 'LeakyRelu', 'PRelu', 'BatchNormalization', 'HardSigmoid'), 2),
    **dict.fromkeys(('Sigmoid', 'Tanh', 'Exp', 'Log', 'Softplus', 'HardSwish', 'Softmax'), 4),
    'GridSample': 14,  # two coordinates to pixels, four weights, four products, three sums
}
_HEAVY = ('Conv', 'ConvTranspose', 'MatMul', 'Gemm', 'GridSample')
# And for one element of the first input.
_PER_INPUT = dict.fromkeys(
    ('ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'GlobalAveragePool', 'ArgMax', 'TopK'), 1
)


@dataclass(frozen=True)
class GraphCost:
    """Arithmetic and memory of one run.

    flops: floating-point operations by precision ('fp32', 'fp16'); a multiply-add counts two.
    weight_bytes: of all constants. io_bytes: of the model's inputs and outputs. traffic_bytes: if
    every node read its inputs from memory and wrote its outputs there; fused kernels need less.
    uncounted: small nodes whose shapes only a run would tell; their bytes are missing, too.
    """

    flops: Mapping[str, int]
    weight_bytes: int
    io_bytes: int
    traffic_bytes: int
    uncounted: int = 0

    def floor_seconds(self, peak: Peak) -> float:
        """The least time for one run: arithmetic at full speed, or weights, inputs and outputs
        through the memory once, whichever takes longer.
        """
        arithmetic = sum(count / peak.flops[kind] for kind, count in self.flops.items() if count)
        memory = self.weight_bytes + self.io_bytes
        moving = memory / peak.bytes_per_second if peak.bytes_per_second else 0.0
        return max(arithmetic, moving)


@dataclass(frozen=True)
class Peak:
    """What a device can do at best: operations per second by precision, memory bytes per second
    (0: unknown), and where these numbers come from.
    """

    flops: Mapping[str, float]
    bytes_per_second: float
    source: str


def count_cost(model: bytes, shapes: Mapping[str, Shape], *, name: str = 'model') -> GraphCost:
    """Count one run of an ONNX model with inputs of these shapes.

    Raises EngineError when `onnx` is missing, the model takes no such inputs, or the shape of a
    convolution depends on data.
    """
    onnx = _import_onnx()
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's, which this package knows only through onnx
        raise EngineError(f'{name} is not an ONNX model: {error}') from error
    named: dict[str, int] = {}
    for value in proto.graph.input:
        sides, sizes = value.type.tensor_type.shape.dim, shapes.get(value.name, ())
        if value.name in shapes and len(sides) != len(sizes):
            raise EngineError(f'{name}: {value.name!r} has {len(sides)} axes, not {len(sizes)}')
        for side, size in zip(sides, sizes, strict=False):
            if side.dim_param:
                named[side.dim_param] = size
            side.dim_value = size
    for value in proto.graph.output:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in named:
                side.dim_value = named[side.dim_param]
    del proto.graph.value_info[:]
    _fold_ranges(proto, name)
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    tensors = _tensors(proto)
    flops = {'fp32': 0, 'fp16': 0}
    traffic = uncounted = 0
    for node in proto.graph.node:
        if node.op_type == 'Constant':
            continue
        touched = {tensor for tensor in (*node.input, *node.output) if tensor}
        traffic += sum(tensors[tensor].bytes for tensor in touched & tensors.keys())
        if not touched <= tensors.keys():
            if node.op_type in _HEAVY:
                raise EngineError(
                    f'{name}: the shapes at {node.name!r} ({node.op_type}) cannot be told before '
                    'the model runs, so its cost cannot be counted'
                )
            uncounted += 1
            continue
        kind = 'fp16' if tensors[node.output[0]].dtype == np.float16 else 'fp32'
        flops[kind] += _count_node(node, tensors)
    constants = {each.name for each in proto.graph.initializer}
    constants |= {node.output[0] for node in proto.graph.node if node.op_type == 'Constant'}
    outside = {each.name for each in (*proto.graph.input, *proto.graph.output)} - constants
    return GraphCost(
        flops=flops,
        weight_bytes=sum(tensors[each].bytes for each in constants),
        io_bytes=sum(tensors[each].bytes for each in outside & tensors.keys()),
        traffic_bytes=traffic,
        uncounted=uncounted,
    )


def gpu_peak(gpu: Gpu) -> Peak | None:
    """The peak of a GPU by its architecture and clocks; None for an architecture not listed.

    fp32: of the ordinary cores; fp16: of the tensor cores, dense. Sources: NVIDIA's architecture
    whitepapers (operations per clock and multiprocessor), clocks and bus width as the driver says.
    """
    per_clock = {
        '7.5': (128, 1024),
        '8.0': (128, 2048),
        '8.6': (256, 1024),
        '8.7': (256, 2048),
        '8.9': (256, 1024),
        '9.0': (256, 4096),
        '10.0': (256, 8192),
        '11.0': (256, 8192),
        '12.0': (256, 1024),
        '12.1': (256, 1024),
    }.get(gpu.capability)
    if per_clock is None or not gpu.clock or not gpu.multiprocessors:
        return None
    rate = gpu.multiprocessors * gpu.clock
    return Peak(
        {'fp32': per_clock[0] * rate, 'fp16': per_clock[1] * rate},
        gpu.bandwidth,
        f'{gpu.name}: {gpu.multiprocessors} multiprocessors at {gpu.clock / 1e9:.2f} GHz'
        + (f', {gpu.bandwidth / 1e9:.0f} GB/s' if gpu.bandwidth else ', bandwidth unknown'),
    )


def measure_cpu_peak(threads: int) -> Peak:
    """The peak of this CPU as measured now: a large float32 matrix product in ONNX Runtime with so
    many threads, and a copy of memory.
    """
    onnx = _import_onnx()
    helper, size = onnx.helper, 1024
    matrices = [
        helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, [size, size]) for each in 'abc'
    ]
    product = helper.make_node('MatMul', ['a', 'b'], ['c'])
    graph = helper.make_graph([product], 'product', matrices[:2], matrices[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    engine = OnnxRuntimeEngine(model.SerializeToString(), threads=threads)
    factor = np.random.default_rng(0).random((size, size), np.float32)
    flops = 2 * size**3 / _best_time(lambda: engine({'a': factor, 'b': factor}))
    engine.close()
    source, target = np.ones(2**26, np.uint8), np.zeros(2**26, np.uint8)
    bandwidth = 2 * source.nbytes / _best_time(lambda: np.copyto(target, source))
    return Peak(
        {'fp32': flops, 'fp16': flops},
        bandwidth,
        f'measured on {threads} CPU threads: {flops / 1e9:.0f} GFLOP/s in a matrix product, '
        f'{bandwidth / 1e9:.0f} GB/s in a copy',
    )


@dataclass(frozen=True)
class _Tensor:
    shape: Shape
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def _fold_ranges(model: Any, name: str) -> None:
    """Make constants of ranges as long as some shape says, which inference does not follow.

    Raises EngineError when ONNX Runtime cannot tell how long they are.
    """
    onnx = _import_onnx()
    makers = {output: node for node in model.graph.node for output in node.output}
    inputs = {each.name for each in model.graph.input}

    def by_shapes(node: Any) -> bool:
        waiting, seen = [node], set[str]()
        while waiting:
            node = waiting.pop()
            names = () if node.op_type == 'Shape' else set(node.input) - seen
            if not inputs.isdisjoint(names):
                return False
            seen.update(names)
            waiting.extend(makers[each] for each in names if each in makers)
        return True

    ranges = [node for node in model.graph.node if node.op_type == 'Range' and by_shapes(node)]
    if not ranges:
        return
    short = onnx.ModelProto()
    short.CopyFrom(model)
    del short.graph.output[:]
    short.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in ranges)
    try:
        engine = OnnxRuntimeEngine(short.SerializeToString(), threads=1)
        folded = engine(
            {
                each: np.zeros([s if isinstance(s, int) else 0 for s in info.shape], info.dtype)
                for each, info in engine.inputs.items()
            }
        )
    except EngineError as error:
        raise EngineError(
            f'{name}: how long its ranges are cannot be told before the model runs, so its cost '
            f'cannot be counted: {error}'
        ) from error
    for node in ranges:
        values = onnx.numpy_helper.from_array(folded[node.output[0]], node.output[0])
        model.graph.initializer.append(values)
        model.graph.node.remove(node)


def _tensors(model: Any) -> dict[str, _Tensor]:
    """Shape and type of every tensor whose shape has been inferred."""
    onnx = _import_onnx()
    found: dict[str, _Tensor] = {}
    for each in model.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(each.data_type)
        found[each.name] = _Tensor(tuple(each.dims), np.dtype(dtype))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        kind = value.type.tensor_type
        sides = [side.dim_value if side.HasField('dim_value') else -1 for side in kind.shape.dim]
        if kind.HasField('shape') and min(sides, default=0) >= 0:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            found.setdefault(value.name, _Tensor(tuple(sides), np.dtype(dtype)))
    return found


def _count_node(node: Any, tensors: Mapping[str, _Tensor]) -> int:
    """Floating-point operations of one node; integers count nothing."""
    out = tensors[node.output[0]]
    first = tensors[node.input[0]] if node.input and node.input[0] else out
    if not np.issubdtype(first.dtype, np.floating):
        return 0
    elements = prod(out.shape)
    if node.op_type in ('Conv', 'ConvTranspose'):
        weight = tensors[node.input[1]].shape
        # Both have [.., channels per group, *kernel]: a Conv of its inputs, the other of outputs.
        places = elements if node.op_type == 'Conv' else prod(first.shape)
        bias = elements if len(node.input) > 2 and node.input[2] else 0
        return 2 * places * prod(weight[1:]) + bias
    if node.op_type in ('MatMul', 'Gemm'):
        transposed = any(each.name == 'transA' and each.i for each in node.attribute)
        inner = first.shape[0] if transposed else first.shape[-1]
        bias = elements if len(node.input) > 2 and node.input[2] else 0
        return 2 * elements * inner + bias
    if node.op_type in ('MaxPool', 'AveragePool'):
        kernel = next(each.ints for each in node.attribute if each.name == 'kernel_shape')
        return elements * prod(kernel)
    if node.op_type == 'Resize':
        modes = [each.s for each in node.attribute if each.name == 'mode']
        return 7 * elements if modes and modes[0] in (b'linear', b'cubic') else 0
    return _PER_OUTPUT.get(node.op_type, 0) * elements + _PER_INPUT.get(node.op_type, 0) * prod(
        first.shape
    )


def _best_time(action: Callable[[], Any], repeat: int = 7) -> float:
    times = []
    for _ in range(repeat):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return min(times)


def _import_onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as error:
        raise EngineError(
            "counting a model's operations needs the Python package onnx: pip install onnx"
        ) from error
    return onnx
