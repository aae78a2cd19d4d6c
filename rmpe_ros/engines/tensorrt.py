# SPDX-License-Identifier: Apache-2.0
"""Runs a compiled plan with `tensorrt` or `tensorrt_rtx`: one stream, pinned memory, CUDA graphs.

Every input shape in use has a context, buffers and a captured graph (upload, run, download) of its
own, so that a call is: copy into pinned memory, launch one graph, wait. All contexts share one
scratch memory, because one stream runs them one after the other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.engines import EngineError, TensorInfo, check_inputs
from rmpe_ros.engines.builder import open_log
from rmpe_ros.engines.cache import PlanError
from rmpe_ros.engines.cuda import Cuda, CudaError, DeviceMemory, Graph, PinnedArray
from rmpe_ros.engines.profiles import (
    BUCKETS,
    Profile,
    Shape,
    ShapeRange,
    find_profile,
    split_batch,
)

# Input shapes kept ready at a time; a stream of pictures has one or two, a batch six.
_MOST_SHAPES = 16


class TensorRtEngine:
    """An `Engine` on TensorRT or TensorRT-RTX.

    plan: what `builder.build_plan` made. trt: the module of `builder.load_bindings`. runtime: the
    module of `cuda.load_cuda`. metadata: of the ONNX model. jit: what TensorRT-RTX compiled for
    this GPU in an earlier run (`jit_cache`), empty the first time.
    A free first side is a batch of any size: it is cut into buckets (`profiles.BUCKETS`).
    Raises PlanError when the plan cannot be loaded here, EngineError when the GPU is out of memory.
    """

    preferred_batch = BUCKETS[-1]
    reason = ''
    state = ''

    def __init__(
        self,
        plan: bytes,
        *,
        trt: Any,
        runtime: Any,
        name: str,
        metadata: Mapping[str, str],
        backend: str = '',
        jit: bytes = b'',
    ) -> None:
        self.name = name
        self.metadata = dict(metadata)
        self.backend = backend or f'{trt.__name__} {trt.__version__}'
        self.plan_bytes = len(plan)
        self._trt, self._cuda = trt, Cuda(runtime)
        self._shapes: OrderedDict[tuple[Shape, ...], _PreparedShape] = OrderedDict()
        self._log = open_log(trt)
        self._runtime = trt.Runtime(self._log)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanError(
                f'{name}: {trt.__name__} {trt.__version__} cannot load this plan: '
                f'{" / ".join(self._log.errors) or "it does not say why"}'
            )
        self._engine: Any = engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        kinds = {each: engine.get_tensor_mode(each) for each in names}
        self.inputs = {
            each: self._info(each) for each in names if kinds[each] == trt.TensorIOMode.INPUT
        }
        self.outputs = {each: self._info(each) for each in names if each not in self.inputs}
        self._profiles = tuple(
            self._read_profile(index) for index in range(engine.num_optimization_profiles)
        )
        self._batched = all(info.shape[:1] == (None,) for info in self.inputs.values())
        try:
            self._stream = self._cuda.make_stream()
            self._config = _RuntimeConfig(trt, engine, jit)
            self._scratch = self._cuda.allocate(engine.device_memory_size_v2, f'running {name}')
        except CudaError as error:
            raise EngineError(f'{name}: the GPU cannot be used: {error}') from error

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model. Raises EngineError naming the input, its shape and the limit."""
        if self._engine is None:
            raise EngineError(f'{self.name} has been closed; open it again to run it')
        check_inputs(self.name, self.inputs, inputs)
        if not self._batched:
            return self._run_pieces(inputs, [(slice(None), None)])
        counts = {key: len(array) for key, array in inputs.items()}
        if len(set(counts.values())) > 1:
            raise EngineError(f'{self.name}: the inputs are batches of different sizes: {counts}')
        count = next(iter(counts.values()))
        if count == 0:
            return {key: _empty(info) for key, info in self.outputs.items()}
        pieces = split_batch(count, self._buckets())
        return self._run_pieces(
            inputs, [(slice(piece.start, piece.stop), piece.bucket) for piece in pieces]
        )

    def warm_up(self) -> None:
        """Prepare every bucket now, so that no frame waits for it; a no-op for other models."""
        if self._batched:
            for bucket in self._buckets():
                shapes = {key: self._full(info, bucket) for key, info in self.inputs.items()}
                self._prepare(shapes)

    @property
    def gpu_bytes(self) -> int:
        """GPU memory this engine asked for: scratch and buffers; the weights (the plan) besides."""
        buffers = sum(prepared.device_bytes for prepared in self._shapes.values())
        return self._scratch.size + buffers

    def jit_cache(self) -> bytes:
        """What TensorRT-RTX has compiled for this GPU so far; empty for TensorRT."""
        return self._config.serialize()

    def close(self) -> None:
        """Free all memory on the GPU."""
        if self._engine is None:
            return
        self._cuda.synchronize(self._stream)
        for prepared in self._shapes.values():
            prepared.free()
        self._shapes.clear()
        self._scratch.free()
        self._cuda.call('cudaStreamDestroy', self._stream)
        self._config = self._engine = self._runtime = None  # type: ignore[assignment]

    def _run_pieces(
        self,
        inputs: Mapping[str, NDArray[Any]],
        pieces: list[tuple[slice, int | None]],
    ) -> dict[str, NDArray[Any]]:
        """Run pieces of a batch; while the GPU computes one, the next goes to pinned memory."""
        running: list[tuple[_PreparedShape, int]] = []
        results: list[dict[str, NDArray[Any]]] = []

        def collect() -> None:
            self._cuda.synchronize(self._stream)
            results.extend(prepared.read(rows) for prepared, rows in running)
            running.clear()

        try:
            for rows, bucket in pieces:
                arrays = {key: array[rows] for key, array in inputs.items()}
                shapes = {
                    key: array.shape if bucket is None else (bucket, *array.shape[1:])
                    for key, array in arrays.items()
                }
                prepared = self._prepare(shapes)
                if any(prepared is other for other, _ in running):
                    collect()
                prepared.write(arrays)
                prepared.launch()
                count = -1 if bucket is None else len(next(iter(arrays.values())))
                running.append((prepared, count))
            collect()
        except CudaError as error:
            shown = ', '.join(f'{key} {list(array.shape)}' for key, array in inputs.items())
            raise EngineError(f'{self.name} failed on {shown}: {error}') from error
        if len(results) == 1:
            return results[0]
        return {key: np.concatenate([each[key] for each in results]) for key in self.outputs}

    def _prepare(self, shapes: Mapping[str, Shape]) -> _PreparedShape:
        key = tuple(shapes.values())
        if key not in self._shapes:
            profile = find_profile(self._profiles, shapes)
            if profile is None:
                limits = ' or '.join(
                    ', '.join(f'{name} {each[name]}' for name in each) for each in self._profiles
                )
                given = ', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())
                raise EngineError(f'{self.name} was compiled for {limits}; {given} is outside')
            if len(self._shapes) >= _MOST_SHAPES:
                self._cuda.synchronize(self._stream)
                self._shapes.popitem(last=False)[1].free()
            self._shapes[key] = _PreparedShape(self, shapes, profile)
        self._shapes.move_to_end(key)
        return self._shapes[key]

    def _info(self, tensor: str) -> TensorInfo:
        shape = tuple(self._engine.get_tensor_shape(tensor))
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(tensor)))
        return TensorInfo(tuple(None if side < 0 else side for side in shape), dtype)

    def _read_profile(self, index: int) -> Profile:
        ranges = {}
        for key in self.inputs:
            low, usual, high = self._engine.get_tensor_profile_shape(key, index)
            ranges[key] = ShapeRange(tuple(low), tuple(usual), tuple(high))
        return ranges

    def _buckets(self) -> tuple[int, ...]:
        """The buckets that every profile allows, and its own maximum."""
        most = min(sides.maximum[0] for profile in self._profiles for sides in profile.values())
        return (*(bucket for bucket in BUCKETS if bucket < most), most)

    @staticmethod
    def _full(info: TensorInfo, batch: int) -> Shape:
        return tuple(side if isinstance(side, int) else batch for side in info.shape)


class _PreparedShape:
    """Context, buffers and graph for one set of input shapes."""

    def __init__(self, owner: TensorRtEngine, shapes: Mapping[str, Shape], profile: int) -> None:
        self._owner, self._cuda, self._stream = owner, owner._cuda, owner._stream
        self._host: dict[str, PinnedArray] = {}
        self._device: dict[str, DeviceMemory] = {}
        self._graph: Graph | None = None
        context = self._context = owner._config.make_context()
        if context is None:
            raise EngineError(
                f'{owner.name}: no execution context: {" / ".join(owner._log.errors)}'
            )
        try:
            self._set_up(shapes, profile)
        except Exception:
            self.free()
            raise

    def _set_up(self, shapes: Mapping[str, Shape], profile: int) -> None:
        owner, context = self._owner, self._context
        self._require(
            context.set_optimization_profile_async(profile, int(self._stream)),
            f'profile {profile} cannot be chosen',
        )
        self._cuda.synchronize(self._stream)
        for name, shape in shapes.items():
            self._require(context.set_input_shape(name, shape), f'{name} {list(shape)} is refused')
        unknown = context.infer_shapes()
        self._require(not unknown, f'the shape of {", ".join(unknown)} is unknown')
        context.set_device_memory(int(owner._scratch.pointer), owner._scratch.size)
        for name, info in {**owner.inputs, **owner.outputs}.items():
            shape = tuple(context.get_tensor_shape(name))
            self._host[name] = self._cuda.pin(shape, info.dtype)
            size = self._host[name].array.nbytes
            self._device[name] = self._cuda.allocate(size, f'{name} {list(shape)}')
            self._require(
                context.set_tensor_address(name, int(self._device[name].pointer)),
                f'the buffer of {name} is refused',
            )
        for name in owner.inputs:
            self._host[name].array[...] = 0
        # The first run allocates and compiles what may not be captured.
        self._enqueue()
        self._cuda.synchronize(self._stream)
        capturable = getattr(context, 'is_stream_capturable', lambda stream: True)
        if capturable(int(self._stream)):
            self._graph = self._cuda.capture(self._stream, self._enqueue)

    @property
    def device_bytes(self) -> int:
        return sum(memory.size for memory in self._device.values())

    def write(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy inputs to pinned memory. Rows beyond them keep what was there: nobody looks."""
        for name, array in arrays.items():
            target = self._host[name].array
            target[: len(array)] = array if array.ndim else array[None]

    def launch(self) -> None:
        """Start upload, run and download without waiting for them."""
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()

    def read(self, rows: int) -> dict[str, NDArray[Any]]:
        """Copies of the first `rows` rows of the outputs, of all of them when it is negative."""
        return {
            name: self._host[name].array[: rows if rows >= 0 else None].copy()
            for name in self._owner.outputs
        }

    def free(self) -> None:
        """Free graph and buffers."""
        if self._graph is not None:
            self._graph.free()
        for pinned in self._host.values():
            pinned.free()
        for memory in self._device.values():
            memory.free()
        self._host.clear()
        self._device.clear()
        self._graph = self._context = None

    def _enqueue(self) -> None:
        for name in self._owner.inputs:
            self._cuda.copy_to_device(self._device[name], self._host[name], self._stream)
        self._require(self._context.execute_async_v3(int(self._stream)), 'the run failed')
        for name in self._owner.outputs:
            self._cuda.copy_to_host(self._host[name], self._device[name], self._stream)

    def _require(self, done: bool, problem: str) -> None:
        if not done:
            errors = ' / '.join(self._owner._log.errors)
            raise EngineError(f'{self._owner.name}: {problem} by {self._owner.backend}: {errors}')


class _RuntimeConfig:
    """Makes contexts that take their scratch memory from the engine.

    TensorRT-RTX compiles kernels for this GPU when a context first runs. EAGER, because a captured
    graph would keep the slow fall-back kernels that LAZY starts with.
    """

    def __init__(self, trt: Any, engine: Any, jit: bytes) -> None:
        self._engine = engine
        self._strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._config = self._cache = None
        if hasattr(trt, 'IRuntimeCache'):
            self._config = engine.create_runtime_config()
            self._config.set_execution_context_allocation_strategy(self._strategy)
            self._config.dynamic_shapes_kernel_specialization_strategy = (
                trt.DynamicShapesKernelSpecializationStrategy.EAGER
            )
            self._cache = self._config.create_runtime_cache()
            if jit:
                # Of another driver or GPU, it is refused here and everything compiled anew.
                self._cache.deserialize(jit)
            self._config.set_runtime_cache(self._cache)

    def make_context(self) -> Any:
        return self._engine.create_execution_context(
            self._strategy if self._config is None else self._config
        )

    def serialize(self) -> bytes:
        if self._cache is None:
            return b''
        memory = self._cache.serialize()
        return bytes(memory) if memory is not None else b''


def _empty(info: TensorInfo) -> NDArray[Any]:
    sides = [side if isinstance(side, int) else 0 for side in info.shape]
    return np.zeros((0, *sides[1:]), info.dtype)
