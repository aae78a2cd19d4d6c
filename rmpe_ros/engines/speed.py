# SPDX-License-Identifier: Apache-2.0
"""How fast an engine is for every batch size, and how far from what its device could do at best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.engines import Engine, EngineError
from rmpe_ros.engines.cost import GraphCost, Peak, count_cost, gpu_peak, measure_cpu_peak
from rmpe_ros.engines.half_precision import to_half_precision
from rmpe_ros.engines.onnxruntime import physical_cores
from rmpe_ros.engines.parity import example_inputs
from rmpe_ros.engines.profiles import BUCKETS

_WARM_UP = 3
# A large batch on a CPU takes long, and a few runs of it are enough.
_FEWEST = 5
_LONGEST_MS = 5000.0


def measure_engine(
    engine: Engine,
    model: Path,
    *,
    peak: Peak | None,
    precision: str = 'fp32',
    repeat: int = 50,
) -> dict[str, Any]:
    """Times of one engine (JSON types): for each bucket p50 and p95 in milliseconds, rows (people)
    per second, and p50 as a multiple of the floor.

    model: the ONNX file that the engine was made of. The floor is None where peak is, or where
    `onnx` is missing ('floor_missing' says so).
    """
    data = model.read_bytes()
    report: dict[str, Any] = {
        'model': engine.name,
        'backend': engine.backend,
        'passed_over': engine.reason,
        'model_bytes': len(data),
        'engine_bytes': getattr(engine, 'plan_bytes', None),
        'buckets': {},
    }
    inputs = example_inputs(engine.inputs, engine.metadata)
    if inputs is None:
        raise EngineError(f'{engine.name} is neither a pose model nor a detector of the contract')
    batched = all(not isinstance(info.shape[0], int) for info in engine.inputs.values())
    size = len(next(iter(inputs.values())))
    for bucket in BUCKETS if batched else (size,):
        batch = {
            name: np.resize(array, (bucket, *array.shape[1:])) for name, array in inputs.items()
        }
        times = _times(engine, batch, repeat)
        result = {
            'p50': round(float(np.percentile(times, 50)), 3),
            'p95': round(float(np.percentile(times, 95)), 3),
        }
        result['per_second'] = round(1e3 * bucket / max(result['p50'], 1e-6), 1)
        report['buckets'][str(bucket)] = result
        if 'floor_missing' in report:
            continue
        try:
            cost = _cost(data, engine.name, batch, precision)
        except EngineError as error:
            report['floor_missing'] = str(error)
            continue
        result['gflop'] = round(sum(cost.flops.values()) / 1e9, 3)
        result['megabytes'] = round((cost.weight_bytes + cost.io_bytes) / 1e6, 2)
        if peak is None:
            report['floor_missing'] = 'the peak of this device is not known'
            continue
        floor = cost.floor_seconds(peak) * 1e3
        result['floor'] = round(floor, 4)
        result['times_floor'] = round(result['p50'] / floor, 2)
    report['gpu_memory_bytes'] = getattr(engine, 'gpu_bytes', None)
    return report


def device_peak(engine: Engine, threads: int | None) -> Peak | None:
    """The peak of the device that `engine` runs on; None for a GPU whose peak is not known.

    Raises EngineError when `onnx` is missing, for a CPU.
    """
    if engine.backend.startswith('ONNX Runtime') and engine.backend.endswith('on CPU'):
        return measure_cpu_peak(threads or physical_cores())
    from rmpe_ros.engines.cuda import find_gpu

    return gpu_peak(find_gpu())


def _times(engine: Engine, batch: Mapping[str, NDArray[Any]], repeat: int) -> list[float]:
    times = []
    for turn in range(-_WARM_UP, repeat):
        start = perf_counter()
        engine(batch)
        if turn >= 0:
            times.append((perf_counter() - start) * 1e3)
        if len(times) >= _FEWEST and sum(times) > _LONGEST_MS:
            break
    return times


def _cost(model: bytes, name: str, batch: Mapping[str, NDArray[Any]], precision: str) -> GraphCost:
    if precision == 'fp16':
        model = to_half_precision(model, name=name)
    return count_cost(model, {key: array.shape for key, array in batch.items()}, name=name)
