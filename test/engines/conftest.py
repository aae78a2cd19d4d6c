# SPDX-License-Identifier: Apache-2.0
"""A GPU and a TensorRT in Python, as strict as the real ones about order, lifetime and shapes.

They stand in for `cuda.bindings.runtime` and `tensorrt`, which cannot run without a GPU. Work put
onto a stream is done when the stream is waited for and not before, so that a buffer that is used
too early or overwritten too soon gives wrong results here, too. Networks run in ONNX Runtime.
"""

import ctypes
import json
from collections.abc import Callable, Iterator
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900


class SimulatedCuda:
    """`cuda.bindings.runtime`. `failing`: function name → error that its next calls give."""

    cudaError_t = Error
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice='up', cudaMemcpyDeviceToHost='down')
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(
        cudaDevAttrMemoryClockRate='memory',
        cudaDevAttrGlobalMemoryBusWidth='bus',
        cudaDevAttrClockRate='clock',
    )

    def __init__(self) -> None:
        self.device: dict[int, np.ndarray] = {}
        self.host: dict[int, np.ndarray] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.failing: dict[str, Error] = {}
        self.launches = 0
        self.sm = (8, 6)
        self._next = 4096

    def __getattribute__(self, name: str) -> Any:
        if name.startswith('cuda') and name in object.__getattribute__(self, 'failing'):
            error = object.__getattribute__(self, 'failing')[name]
            return lambda *_: (error, None)
        return object.__getattribute__(self, name)

    def handle(self) -> int:
        self._next += 4096
        return self._next

    def cudaGetErrorString(self, code: Error) -> tuple[Error, bytes]:
        return Error.cudaSuccess, code.name.encode()

    def cudaGetDeviceCount(self) -> tuple[Error, int]:
        return Error.cudaSuccess, 1

    def cudaGetDevice(self) -> tuple[Error, int]:
        return Error.cudaSuccess, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[Error, Any]:
        major, minor = self.sm
        return Error.cudaSuccess, SimpleNamespace(
            name=b'Simulated GPU\0\0',
            major=major,
            minor=minor,
            totalGlobalMem=8 * 10**9,
            multiProcessorCount=20,
        )

    def cudaDeviceGetAttribute(self, attribute: str, device: int) -> tuple[Error, int]:
        return Error.cudaSuccess, {'memory': 7_000_000, 'bus': 128, 'clock': 1_500_000}[attribute]

    def cudaMemGetInfo(self) -> tuple[Error, int, int]:
        return Error.cudaSuccess, 12_000_000, 8_000_000_000

    def cudaMalloc(self, size: int) -> tuple[Error, int]:
        pointer = self.handle() * 1000
        # Memory of a GPU holds anything at first.
        self.device[pointer] = np.full(size, 0xA5, np.uint8)
        return Error.cudaSuccess, pointer

    def cudaFree(self, pointer: int) -> tuple[Error]:
        assert not any(self.streams.values()), 'memory is freed while work that uses it waits'
        del self.device[pointer]
        return (Error.cudaSuccess,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Error, int]:
        memory = np.full(size, 0x5A, np.uint8)
        self.host[memory.ctypes.data] = memory
        return Error.cudaSuccess, memory.ctypes.data

    def cudaFreeHost(self, pointer: int) -> tuple[Error]:
        del self.host[pointer]
        return (Error.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Error, int]:
        stream = self.handle()
        self.streams[stream] = []
        return Error.cudaSuccess, stream

    def cudaStreamSynchronize(self, stream: int) -> tuple[Error]:
        assert stream not in self.capturing, 'a stream that captures cannot be waited for'
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()
        return (Error.cudaSuccess,)

    def cudaStreamDestroy(self, stream: int) -> tuple[Error]:
        assert not self.streams.pop(stream), 'the stream still has work'
        return (Error.cudaSuccess,)

    def put(self, stream: int, step: Callable[[], None]) -> None:
        self.capturing.get(stream, self.streams[stream]).append(step)

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: str, stream: int
    ) -> tuple[Error]:
        places = (self.device, self.host) if kind == 'up' else (self.host, self.device)

        def copy() -> None:
            places[0][target][:size] = places[1][source][:size]

        assert len(places[0][target]) >= size and len(places[1][source]) >= size
        self.put(stream, copy)
        return (Error.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Error]:
        assert not self.streams[stream], 'captured while earlier work waits'
        self.capturing[stream] = []
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Error, Any]:
        return Error.cudaSuccess, self.capturing.pop(stream)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Error, int]:
        handle = self.handle()
        self.graphs[handle] = list(graph)
        return Error.cudaSuccess, handle

    def cudaGraphDestroy(self, graph: Any) -> tuple[Error]:
        return (Error.cudaSuccess,)

    def cudaGraphExecDestroy(self, handle: int) -> tuple[Error]:
        del self.graphs[handle]
        return (Error.cudaSuccess,)

    def cudaGraphLaunch(self, handle: int, stream: int) -> tuple[Error]:
        self.launches += 1
        for step in self.graphs[handle]:
            self.put(stream, step)
        return (Error.cudaSuccess,)


class _Log:
    """`ILogger` and its severities."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class SimulatedTensorRt:
    """The module `tensorrt`: builds "plans" that hold the ONNX model, and runs them.

    fault: is applied to the outputs of every run, as a bug in TensorRT would be.
    """

    ILogger = _Log
    IProgressMonitor = type('IProgressMonitor', (), {})
    TensorIOMode = SimpleNamespace(INPUT='input', OUTPUT='output')
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED='user')
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32='tf32')

    def __init__(self, cuda: SimulatedCuda) -> None:
        self.__name__ = 'tensorrt'
        self.__version__ = '10.3.0'
        self.cuda = cuda
        self.builds = 0
        self.fault: Callable[[dict[str, np.ndarray]], None] = lambda outputs: None
        self.log: Any = None
        self.OnnxParser = _Parser

    def Runtime(self, log: Any) -> Any:
        # The first logger stays in use: a later one is told nothing.
        self.log = self.log or log
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: _load(self, self.log, plan))

    def Builder(self, log: Any) -> '_Builder':
        self.log = self.log or log
        return _Builder(self)

    @staticmethod
    def nptype(dtype: np.dtype) -> np.dtype:
        return dtype


class _Network:
    model = b''


class _Parser:
    num_errors = 0

    def __init__(self, network: _Network, log: Any) -> None:
        self._network = network

    def parse(self, model: bytes) -> bool:
        self._network.model = model
        return True


class _Builder:
    def __init__(self, trt: SimulatedTensorRt) -> None:
        self._trt = trt

    def create_network(self, flags: int) -> _Network:
        assert flags == 1 << 1, 'networks are strongly typed'
        return _Network()

    def create_builder_config(self) -> Any:
        profiles: list[dict] = []
        return SimpleNamespace(
            profiles=profiles,
            clear_flag=lambda flag: None,
            add_optimization_profile=lambda each: profiles.append(each.shapes) or len(profiles) - 1,
        )

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, list] = {}
        return SimpleNamespace(
            shapes=shapes, set_shape=lambda name, *sides: shapes.__setitem__(name, sides)
        )

    def build_serialized_network(self, network: _Network, config: Any) -> bytes | None:
        self._trt.builds += 1
        monitor = config.progress_monitor
        monitor.phase_start('building', None, 4)
        for step in range(4):
            if not monitor.step_complete('building', step):
                return None
        monitor.phase_finish('building')
        header = json.dumps({'version': self._trt.__version__, 'profiles': config.profiles})
        return header.encode() + b'\0' + network.model


def _load(trt: SimulatedTensorRt, log: Any, plan: bytes) -> Any:
    header, _, model = plan.partition(b'\0')
    try:
        said = json.loads(header)
        if said['version'] != trt.__version__:
            log.log(_Log.ERROR, f'plan of version {said["version"]}')
            return None
        return _Engine(trt, model, said['profiles'])
    except ValueError:
        log.log(_Log.ERROR, 'magic tag does not match')
        return None


class _Engine:
    device_memory_size_v2 = 1 << 20

    def __init__(self, trt: SimulatedTensorRt, model: bytes, profiles: list[dict]) -> None:
        self.trt = trt
        self.session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
        self.profiles = profiles
        graph = onnx.load_model_from_string(model).graph
        self.tensors = {}
        for kind, values in (('input', graph.input), ('output', graph.output)):
            for value in values:
                tensor = value.type.tensor_type
                sides = [d.dim_value if d.HasField('dim_value') else -1 for d in tensor.shape.dim]
                dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
                self.tensors[value.name] = (kind, sides, dtype)
        self.num_io_tensors = len(self.tensors)
        self.num_optimization_profiles = len(profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return self.tensors[name][0]

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.tensors[name][1]

    def get_tensor_dtype(self, name: str) -> np.dtype:
        return self.tensors[name][2]

    def get_tensor_profile_shape(self, name: str, index: int) -> list:
        return self.profiles[index][name]

    def create_execution_context(self, strategy: str) -> '_Context':
        assert strategy == 'user'
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine, self.cuda = engine, engine.trt.cuda
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.outputs: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch = 0
        self.runs = 0

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return index < len(self.engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None, 'a profile is chosen before shapes'
        low, _, high = self.engine.profiles[self.profile][name]
        self.shapes[name] = tuple(shape)
        return all(a <= side <= b for a, side, b in zip(low, shape, high, strict=True))

    def infer_shapes(self) -> list[str]:
        inputs = {name for name, each in self.engine.tensors.items() if each[0] == 'input'}
        if missing := inputs - self.shapes.keys():
            return sorted(missing)
        zeros = {n: np.zeros(s, self.engine.tensors[n][2]) for n, s in self.shapes.items()}
        names = [each.name for each in self.engine.session.get_outputs()]
        results = self.engine.session.run(None, zeros)
        self.outputs = {n: r.shape for n, r in zip(names, results, strict=True)}
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name) or self.outputs[name]

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.scratch = pointer

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert self.addresses.keys() == self.engine.tensors.keys(), 'a tensor has no memory'
        assert self.scratch in self.cuda.device, 'no scratch memory'
        assert not self.cuda.capturing.get(stream) or self.runs, 'captured before the first run'
        self.runs += 1
        self.cuda.put(stream, self._run)
        return True

    def _run(self) -> None:
        device, tensors = self.cuda.device, self.engine.tensors
        inputs = {
            name: _view(device[self.addresses[name]], tensors[name][2], shape)
            for name, shape in self.shapes.items()
        }
        results = self.engine.session.run(None, {n: a.copy() for n, a in inputs.items()})
        outputs = dict(zip(self.outputs, results, strict=True))
        self.engine.trt.fault(outputs)
        for name, result in outputs.items():
            _view(device[self.addresses[name]], result.dtype, result.shape)[...] = result


def _view(memory: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    assert len(memory) >= size, 'the buffer is too small'
    return memory[:size].view(dtype).reshape(shape)


@pytest.fixture
def simulated_cuda() -> Iterator[SimulatedCuda]:
    """A GPU on which nothing is left allocated at the end of a test that closes its engines."""
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    yield SimulatedCuda()


@pytest.fixture
def simulated_tensorrt(simulated_cuda: SimulatedCuda) -> SimulatedTensorRt:
    """A TensorRT 10.3 for that GPU."""
    return SimulatedTensorRt(simulated_cuda)
