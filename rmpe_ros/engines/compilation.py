# SPDX-License-Identifier: Apache-2.0
"""Compiles ONNX models to TensorRT engines and opens them, through the cache of engines."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmpe_ros.engines import EngineError, TensorInfo, builder
from rmpe_ros.engines.cache import EngineCache, EngineKey, Entry
from rmpe_ros.engines.cuda import Gpu, find_gpu, load_cuda
from rmpe_ros.engines.half_precision import CONVERSION, to_half_precision
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine, read_model
from rmpe_ros.engines.parity import Parity, compare_engines
from rmpe_ros.engines.profiles import Profile, plan_profiles
from rmpe_ros.engines.tensorrt import TensorRtEngine
from rmpe_ros.io.files import write_file

PRECISIONS = ('fp32', 'fp16')

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One model to be compiled: all that the key of the cache is made of.

    target: 'sm86' for TensorRT-RTX, the GPU's name and architecture for TensorRT.
    """

    name: str
    model: bytes
    trt: Any
    target: str
    precision: str
    profiles: tuple[Profile, ...]
    inputs: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]

    @property
    def key(self) -> EngineKey:
        shapes = [
            {name: [sides.minimum, sides.optimum, sides.maximum] for name, sides in each.items()}
            for each in self.profiles
        ]
        conversion = f', conversion {CONVERSION}' if self.precision == 'fp16' else ''
        return EngineKey(
            model=self.name,
            onnx_sha256=hashlib.sha256(self.model).hexdigest(),
            backend=self.trt.__name__,
            version=str(self.trt.__version__),
            target=self.target,
            precision=self.precision,
            profiles=json.dumps(shapes, sort_keys=True),
            options=builder.OPTIONS + conversion,
        )

    def build(self, report: builder.Report | None = None) -> tuple[bytes, Mapping[str, Any]]:
        """The plan, and the facts that `TensorRtEngine` wants besides."""
        model = self.model
        if self.precision == 'fp16':
            model = to_half_precision(model, name=self.name)
        plan = builder.build_plan(
            self.trt,
            model,
            self.profiles,
            name=self.name,
            targets=[self.target] if self.trt.__name__ == 'tensorrt_rtx' else [],
            report=report,
        )
        return plan, {'metadata': dict(self.metadata)}


def plan_job(
    model: Path | str | bytes, *, backend: str, precision: str, target: str = '', gpu: Gpu | None
) -> Job:
    """What compiling `model` would be. target: 'sm86' to compile for another machine.

    Raises EngineError when the bindings are missing, or do not know the architecture.
    """
    if precision not in PRECISIONS:
        raise EngineError(f'unknown precision {precision!r}; known are {", ".join(PRECISIONS)}')
    trt = builder.load_bindings(backend)
    known = builder.rtx_targets(trt)
    if backend == 'tensorrt_rtx':
        target = target or (gpu.sm if gpu else '')
        if target not in known:
            gpu_name = f' ({gpu.name})' if gpu and gpu.sm == target else ''
            raise EngineError(
                f'tensorrt_rtx {trt.__version__} does not compile for {target or "no GPU"}'
                f'{gpu_name}, only for {", ".join(known)}; other GPUs, Jetsons among them, need '
                'backend tensorrt'
            )
    else:
        if target:
            raise EngineError(
                f'tensorrt compiles only for the GPU of this machine, not for {target}: run '
                '"rmpe compile" there, or use --backend tensorrt_rtx'
            )
        gpu = gpu or find_gpu()
        target = f'{gpu.name} {gpu.sm} {platform.system()} {platform.machine()}'
    data = read_model(model)
    source = OnnxRuntimeEngine(model, threads=1)
    try:
        inputs, metadata, name = source.inputs, source.metadata, source.name
    finally:
        source.close()
    profiles = plan_profiles(name, inputs, metadata)
    return Job(name, data, trt, target, precision, profiles, inputs, metadata)


def compile_model(
    job: Job,
    *,
    cache: EngineCache,
    report: builder.Report | None = None,
    rebuild: bool = False,
) -> Entry:
    """Put the engine of `job` into the cache without running it; its parity stays 'not run'.

    Raises EngineError when the model cannot be compiled.
    """
    why = 'compiled ahead of time: compared with ONNX Runtime where it is first loaded'
    _, entry = cache.obtain(
        job.key,
        build=lambda: job.build(report),
        load=lambda entry: entry,
        verify=lambda entry: Parity.not_run(why),
        rebuild=rebuild,
    )
    return entry


def open_compiled(
    model: Path | str | bytes,
    *,
    backend: str,
    precision: str = 'fp32',
    cache: EngineCache | None = None,
    report: builder.Report | None = None,
    rebuild: bool = False,
) -> TensorRtEngine:
    """The engine of `model` for this machine's GPU, from the cache or built now (minutes).

    Raises EngineError when TensorRT or the GPU is missing, or the engine cannot be built or is
    refused because it answers otherwise than ONNX Runtime.
    """
    cache = cache or EngineCache()
    trt = builder.load_bindings(backend)
    runtime = load_cuda()
    gpu = find_gpu(runtime)
    job = plan_job(model, backend=backend, precision=precision, gpu=gpu)
    jit_path = cache.plan_path(job.key).with_suffix(f'.{gpu.sm}.jit')

    def load(entry: Entry) -> TensorRtEngine:
        return TensorRtEngine(
            entry.plan,
            trt=trt,
            runtime=runtime,
            name=job.name,
            metadata=dict(entry.facts['metadata']),
            backend=f'{backend} {trt.__version__} {precision} on {gpu.name}',
            jit=_read_if_there(jit_path),
        )

    def verify(engine: TensorRtEngine) -> Parity:
        reference = OnnxRuntimeEngine(model)
        try:
            return compare_engines(reference, engine, precision)
        finally:
            reference.close()

    def build() -> tuple[bytes, Mapping[str, Any]]:
        if report is None:
            _LOG.warning(
                '%s: building the %s engine for %s, which may take minutes; "rmpe compile" does it '
                'ahead of time',
                *(job.name, precision, job.target),
            )
        return job.build(report)

    engine, _ = cache.obtain(job.key, build=build, load=load, verify=verify, rebuild=rebuild)
    engine.warm_up()
    _keep_jit(engine, jit_path)
    return engine


def _read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b''


def _keep_jit(engine: TensorRtEngine, path: Path) -> None:
    """Save what TensorRT-RTX compiled for this GPU, so that the next start need not do it again."""
    jit = engine.jit_cache()
    if not jit or jit == _read_if_there(path):
        return
    try:
        write_file(path, jit)
    except OSError as error:
        _LOG.warning('%s: %s; the next start compiles again for a while', path, error.strerror)
