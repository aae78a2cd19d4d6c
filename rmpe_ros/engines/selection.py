# SPDX-License-Identifier: Apache-2.0
"""Chooses what runs a model: TensorRT, TensorRT-RTX, or ONNX Runtime on CUDA or the CPU."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rmpe_ros.engines import BACKENDS, Engine, EngineError
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine

_LOG = logging.getLogger(__name__)
_TITLES = {
    'tensorrt': 'TensorRT',
    'tensorrt_rtx': 'TensorRT-RTX',
    'onnxruntime_cuda': 'ONNX Runtime on CUDA',
    'onnxruntime': 'ONNX Runtime on the CPU',
}


def open_engine(
    model: Path | str | bytes,
    backend: str = 'auto',
    *,
    threads: int | None = None,
    precision: str = 'fp32',
    serve_while_building: bool | None = None,
    **options: Any,
) -> Engine:
    """Load a model with the named backend, or with the best that works here ('auto').

    threads: of ONNX Runtime on the CPU. precision: 'fp32' or 'fp16', of TensorRT engines.
    serve_while_building: None builds a missing engine before this returns. Otherwise it is built in
        the background; True answers calls with ONNX Runtime meanwhile, False lets them wait.
    options: `cache` and `report` of `compilation.open_compiled`, or ONNX Runtime's `providers`.
    Raises EngineError when the backend is unknown or not there, saying what to install, and when
    the model cannot be loaded. 'auto' says why it passed over better ones: `Engine.reason`.
    """
    if backend not in BACKENDS:
        raise EngineError(f'unknown backend {backend!r}; known are {", ".join(BACKENDS)}')
    settings: dict[str, Any] = {
        'threads': threads,
        'precision': precision,
        'meanwhile': serve_while_building,
    }
    if backend.startswith('onnxruntime') and precision != 'fp32':
        raise EngineError(
            f'precision {precision} is of TensorRT engines; ONNX Runtime runs models as they are'
        )
    if backend != 'auto':
        return _open(model, backend, **settings, **options)
    passed_over: list[str] = []
    for candidate in BACKENDS[1:-1]:
        if 'providers' in options:
            break
        obstacle = find_obstacle(candidate)
        if not obstacle:
            try:
                engine = _open(model, candidate, **settings, **options)
                return _explain(engine, passed_over)
            except EngineError as error:
                # One that is there and fails is worth more than a remark.
                _LOG.warning('%s', error)
                obstacle = re.split('[;:] ', str(error), maxsplit=1)[-1].partition(';')[0]
        passed_over.append(f'{_TITLES[candidate]}: {obstacle}')
    if precision != 'fp32':
        passed_over.append(f'{precision}: only TensorRT has it')
    return _explain(_open(model, BACKENDS[-1], **settings, **options), passed_over)


def find_obstacle(backend: str) -> str:
    """Why a backend cannot work on this machine, in a few words; empty when it should.

    Only looks, which takes milliseconds where nothing is installed.
    """
    if backend == 'onnxruntime':
        return ''
    if backend == 'onnxruntime_cuda':
        import onnxruntime

        there = 'CUDAExecutionProvider' in onnxruntime.get_available_providers()
        return '' if there else 'this build of it has no CUDA (onnxruntime-gpu has)'
    try:
        if find_spec(backend) is None:
            return 'not installed'
        from rmpe_ros.engines.builder import load_bindings, rtx_targets
        from rmpe_ros.engines.cuda import find_gpu

        gpu = find_gpu()
        if backend == 'tensorrt_rtx' and gpu.sm not in (
            known := rtx_targets(load_bindings(backend))
        ):
            return f'it knows no {gpu.sm} ({gpu.name}), only {", ".join(known)}'
    except EngineError as error:
        return re.split(' ?[(:;]', str(error))[0]
    return ''


def survey() -> Iterator[tuple[str, str]]:
    """Every backend in the order of 'auto', with the obstacle to it."""
    for backend in BACKENDS[1:]:
        yield backend, find_obstacle(backend)


def _open(
    model: Path | str | bytes,
    backend: str,
    *,
    threads: int | None,
    precision: str,
    meanwhile: bool | None,
    **options: Any,
) -> Engine:
    if backend == 'onnxruntime':
        providers = options.get('providers', ('CPUExecutionProvider',))
        return OnnxRuntimeEngine(model, threads=threads, providers=providers)
    if backend == 'onnxruntime_cuda':
        providers = ('CUDAExecutionProvider', 'CPUExecutionProvider')
        return OnnxRuntimeEngine(model, threads=threads, providers=providers)
    from rmpe_ros.engines.background import BackgroundEngine
    from rmpe_ros.engines.compilation import open_compiled

    if meanwhile is None:
        return open_compiled(model, backend=backend, precision=precision, **options)
    _check_there(backend)
    return BackgroundEngine(
        OnnxRuntimeEngine(model, threads=threads),
        lambda report: open_compiled(
            model, backend=backend, precision=precision, **{**options, 'report': report}
        ),
        serve_meanwhile=meanwhile,
    )


def _check_there(backend: str) -> None:
    """Raise EngineError now for what would only fail in the background."""
    from rmpe_ros.engines.builder import load_bindings
    from rmpe_ros.engines.cuda import find_gpu

    load_bindings(backend)
    find_gpu()


def _explain(engine: Engine, passed_over: list[str]) -> Engine:
    """Keep the reason with the engine, and log it in one line."""
    engine.reason = '; '.join(passed_over)  # type: ignore[misc]
    because = f' (passed over: {engine.reason})' if passed_over else ''
    _LOG.info('%s runs on %s%s', engine.name, engine.backend, because)
    return engine
