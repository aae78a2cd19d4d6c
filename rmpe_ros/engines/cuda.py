# SPDX-License-Identifier: Apache-2.0
"""The few CUDA calls that engines need, through cuda-python: memory, one stream, graphs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.engines import EngineError

INSTALL_CUDA_PYTHON = (
    'pip install cuda-bindings, of the CUDA version that nvidia-smi shows '
    "(for example 'cuda-bindings==12.*')"
)


@dataclass(frozen=True)
class Gpu:
    """The GPU that this process uses.

    capability: compute capability such as '8.7'. memory, bandwidth, clock: bytes, bytes per second
    and Hz; bandwidth is 0 where the driver does not tell.
    """

    name: str
    capability: str
    memory: int
    multiprocessors: int = 0
    clock: float = 0.0
    bandwidth: float = 0.0

    @property
    def sm(self) -> str:
        """The architecture as compilers name it, such as 'sm87'."""
        return f'sm{self.capability.replace(".", "")}'


def load_cuda() -> Any:
    """cuda-python's `cuda.bindings.runtime`. Raises EngineError saying what to install."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(f'CUDA for Python is missing ({error}): {INSTALL_CUDA_PYTHON}') from error
    return runtime


def find_gpu(runtime: Any = None) -> Gpu:
    """The current GPU. Raises EngineError when there is none, or no driver for it."""
    cuda = Cuda(runtime or load_cuda())
    try:
        count = cuda.call('cudaGetDeviceCount')
    except CudaError as error:
        raise EngineError(
            f'no NVIDIA GPU can be used here ({error}): install or update its driver, and in a '
            'container start it with --gpus all (--runtime nvidia on a Jetson)'
        ) from error
    if count < 1:
        raise EngineError('no NVIDIA GPU can be used here: the driver lists none')
    device = cuda.call('cudaGetDevice')
    properties = cuda.call('cudaGetDeviceProperties', device)

    def attribute(name: str) -> int:
        number = getattr(cuda.runtime.cudaDeviceAttr, name, None)
        return int(cuda.call('cudaDeviceGetAttribute', number, device)) if number is not None else 0

    # Two transfers a clock (DDR), kHz, and bits.
    memory_clock = attribute('cudaDevAttrMemoryClockRate') * 1e3
    return Gpu(
        name=_text(properties.name),
        capability=f'{properties.major}.{properties.minor}',
        memory=int(properties.totalGlobalMem),
        multiprocessors=int(properties.multiProcessorCount),
        clock=attribute('cudaDevAttrClockRate') * 1e3,
        bandwidth=2 * memory_clock * attribute('cudaDevAttrGlobalMemoryBusWidth') / 8,
    )


class CudaError(EngineError):
    """A CUDA call failed."""


class Cuda:
    """CUDA calls on one stream of its own, with errors as exceptions.

    runtime: the module of `load_cuda`.
    """

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the CUDA run time and return what it gives besides the error code."""
        error, *values = getattr(self.runtime, function)(*arguments)
        if int(error) != 0:
            code = self.runtime.cudaError_t(int(error))
            _, text = self.runtime.cudaGetErrorString(code)
            raise CudaError(f'{function}: {_text(text)} ({getattr(code, "name", int(error))})')
        return values[0] if len(values) == 1 else values

    def make_stream(self) -> Any:
        """A stream that does not wait for the default one."""
        return self.call('cudaStreamCreateWithFlags', self.runtime.cudaStreamNonBlocking)

    def synchronize(self, stream: Any) -> None:
        """Wait until all that was put on the stream is done."""
        self.call('cudaStreamSynchronize', stream)

    def allocate(self, size: int, purpose: str) -> DeviceMemory:
        """GPU memory of `size` bytes. Raises EngineError saying how much is free."""
        try:
            return DeviceMemory(self, self.call('cudaMalloc', max(size, 1)), size)
        except CudaError as error:
            try:
                free, total = self.call('cudaMemGetInfo')
                state = f'{free / 1e6:.0f} of {total / 1e6:.0f} MB are free'
            except CudaError:
                state = 'how much is free is unknown'
            raise EngineError(
                f'{size / 1e6:.0f} MB of GPU memory for {purpose} cannot be had, {state} '
                f'({error}); close other programs, or use a smaller model or precision fp16'
            ) from error

    def pin(self, shape: tuple[int, ...], dtype: np.dtype) -> PinnedArray:
        """Host memory that the GPU copies from and to by itself, as an array."""
        size = int(np.prod(shape)) * dtype.itemsize
        pointer = self.call('cudaHostAlloc', max(size, 1), self.runtime.cudaHostAllocDefault)
        memory = (ctypes.c_uint8 * max(size, 1)).from_address(int(pointer))
        array = np.ctypeslib.as_array(memory)[:size].view(dtype).reshape(shape)
        return PinnedArray(self, pointer, array)

    def copy_to_device(self, target: DeviceMemory, source: PinnedArray, stream: Any) -> None:
        """Put a copy onto the stream."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        size = source.array.nbytes
        self.call('cudaMemcpyAsync', target.pointer, source.pointer, size, kind, stream)

    def copy_to_host(self, target: PinnedArray, source: DeviceMemory, stream: Any) -> None:
        """Put a copy onto the stream."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        size = target.array.nbytes
        self.call('cudaMemcpyAsync', target.pointer, source.pointer, size, kind, stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Graph:
        """Record what `work` puts onto the stream, without doing it, as a graph."""
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call('cudaStreamBeginCapture', stream, mode)
        try:
            work()
        except Exception:
            # The capture must be ended in any case; its error is that of `work`.
            self.runtime.cudaStreamEndCapture(stream)
            raise
        template = self.call('cudaStreamEndCapture', stream)
        try:
            return Graph(self, self.call('cudaGraphInstantiate', template, 0))
        finally:
            self.call('cudaGraphDestroy', template)


@dataclass
class DeviceMemory:
    """Memory of the GPU."""

    cuda: Cuda
    pointer: Any
    size: int

    def free(self) -> None:
        self.cuda.call('cudaFree', self.pointer)


@dataclass
class PinnedArray:
    """An array in pinned host memory."""

    cuda: Cuda
    pointer: Any
    array: NDArray[Any]

    def free(self) -> None:
        self.cuda.call('cudaFreeHost', self.pointer)


@dataclass
class Graph:
    """Recorded work, which starts in one call."""

    cuda: Cuda
    handle: Any

    def launch(self, stream: Any) -> None:
        """Put the whole graph onto the stream."""
        self.cuda.call('cudaGraphLaunch', self.handle, stream)

    def free(self) -> None:
        self.cuda.call('cudaGraphExecDestroy', self.handle)


def _text(text: bytes | str) -> str:
    return text.decode(errors='replace').rstrip('\0') if isinstance(text, bytes) else str(text)
