# SPDX-License-Identifier: Apache-2.0
"""From an ONNX model to a TensorRT plan.

Through what `tensorrt` 10.3 to 11.x and `tensorrt_rtx` 1.x have in common: strongly typed networks,
whose precision is that of the ONNX graph.
"""

from __future__ import annotations

import importlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.profiles import Profile

Report = Callable[[float], None]
"""Told the share of a build that is done, 0 to 1, from a thread of the builder."""

_LOG = logging.getLogger(__name__)
_OLDEST = {'tensorrt': (10, 3), 'tensorrt_rtx': (1, 0)}
INSTALL = {
    'tensorrt': 'on a Jetson it comes with JetPack 6 or later (apt install python3-libnvinfer, and '
    'a virtual environment needs --system-site-packages), elsewhere: pip install tensorrt',
    'tensorrt_rtx': 'pip install tensorrt-rtx-cu13 (PCs with an RTX GPU; not for Jetson)',
}

# Options of every build, part of the key of cached engines. TF32 would round the inputs of float32
# convolutions to 10 bits, which moves keypoints by more than an fp32 engine may.
OPTIONS = 'strongly typed, no TF32'


def load_bindings(backend: str) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`. Raises EngineError saying what to install."""
    try:
        module = importlib.import_module(backend)
        version = str(module.__version__)
    except ImportError as error:
        raise EngineError(f'{backend} cannot be imported ({error}): {INSTALL[backend]}') from error
    except Exception as error:
        # The stub of `tensorrt` without its libraries, or libraries of another CUDA version.
        raise EngineError(f'{backend} is broken ({error}): {INSTALL[backend]}') from error
    numbers = tuple(int(part) for part in version.split('.')[:2])
    if numbers < _OLDEST[backend]:
        oldest = '.'.join(map(str, _OLDEST[backend]))
        raise EngineError(f'{backend} {version} is too old, {oldest} is needed: {INSTALL[backend]}')
    return module


def rtx_targets(trt: Any) -> tuple[str, ...]:
    """Architectures such as 'sm86' that TensorRT-RTX compiles for; empty for other bindings."""
    members = getattr(getattr(trt, 'ComputeCapability', None), '__members__', {})
    return tuple(name.lower() for name in members if name.startswith('SM'))


def build_plan(
    trt: Any,
    model: bytes,
    profiles: tuple[Profile, ...],
    *,
    name: str,
    targets: Sequence[str] = (),
    report: Report | None = None,
) -> bytes:
    """Compile an ONNX model for this machine's GPU or, with TensorRT-RTX, for `targets` ('sm86'):
    one plan that runs on each of them.

    trt: the module of `load_bindings`. Raises EngineError that names the operator when the model
    cannot be compiled, and what `report` raised, for example KeyboardInterrupt.
    """
    log = open_log(trt)
    builder = _make_builder(trt, log, name)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise EngineError(_explain_parser(parser, name, trt))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    for profile in profiles:
        ranges = builder.create_optimization_profile()
        for tensor, sides in profile.items():
            ranges.set_shape(tensor, sides.minimum, sides.optimum, sides.maximum)
        if config.add_optimization_profile(ranges) < 0:
            raise EngineError(f'{name}: {_told(log)}; TensorRT refuses the input shapes {profile}')
    if targets:
        config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(trt.ComputeCapability, target.upper())
        if not config.set_compute_capability(capability, index):
            raise EngineError(f'{name}: {trt.__name__} does not compile for {target}: {_told(log)}')
    monitor = _make_monitor(trt, report or (lambda share: None))
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise EngineError(
            f'{name} cannot be compiled by {trt.__name__} {trt.__version__}: {_told(log)}'
        )
    return bytes(plan)


def open_log(trt: Any) -> Any:
    """The logger of TensorRT, which passes warnings on, and keeps the last errors in `errors`: none
    as yet.

    There is one for the process, as TensorRT goes on with the first that it was given and tells any
    other nothing.
    """
    log = _the_log(trt)
    log.errors.clear()
    return log


@cache
def _the_log(trt: Any) -> Any:
    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message.strip())
                _LOG.debug('%s: %s', trt.__name__, message)
            elif severity == trt.ILogger.WARNING:
                _LOG.debug('%s: %s', trt.__name__, message)

    return Log()


def _make_builder(trt: Any, log: Any, name: str) -> Any:
    try:
        builder = trt.Builder(log)
    except Exception as error:
        # pybind11 raises TypeError when the native constructor gives nothing.
        raise EngineError(
            f'{name}: {trt.__name__} cannot start a build ({_told(log) or error}); it needs an '
            'NVIDIA GPU with its driver (only tensorrt_rtx compiles without one)'
        ) from error
    return builder


def _explain_parser(parser: Any, name: str, trt: Any) -> str:
    """What the parser did not understand, operators first."""
    problems = [parser.get_error(index) for index in range(parser.num_errors)]
    operators = sorted({problem.node_operator() for problem in problems if problem.node_operator()})
    details = '; '.join(
        f'node {problem.node_name()!r}: {_first_line(problem.desc())}'
        if problem.node_name()
        else _first_line(problem.desc())
        for problem in problems[:3]
    )
    if operators:
        return (
            f'{name}: {trt.__name__} {trt.__version__} cannot compile the operator'
            f'{"s" if len(operators) > 1 else ""} {", ".join(operators)} ({details}); '
            'export the model without, or run it with backend onnxruntime'
        )
    return f'{name} cannot be read by {trt.__name__} {trt.__version__}: {details or "no reason"}'


def _make_monitor(trt: Any, report: Report) -> Any:
    """Turns the builder's nested phases into one share, which never falls."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self._phases = Phases()

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._phases.start(phase, parent, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            # An exception must not travel through the native builder: stop it and raise later.
            try:
                self._phases.step(phase, step)
                report(self._phases.share)
            except BaseException as error:
                self.error = error
            return self.error is None

        def phase_finish(self, phase: str) -> None:
            self._phases.finish(phase)

    return Monitor()


class Phases:
    """Nested phases of known numbers of steps, as one share from 0 to 1."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self.share = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        self._open[phase] = (parent, max(steps, 1), 0)

    def step(self, phase: str, step: int) -> None:
        """Step number `step`, counted from 0, of the phase is done."""
        if phase not in self._open:
            return
        parent, steps, _ = self._open[phase]
        self._open[phase] = (parent, steps, min(step + 1, steps))
        self.share = max(self.share, self._share_at(phase))

    def finish(self, phase: str) -> None:
        self._open.pop(phase, None)

    def _share_at(self, phase: str) -> float:
        """The share when everything up to the current step of this phase is done."""
        inner = 0.0
        seen: set[str] = set()
        current: str | None = phase
        while current is not None and current in self._open and current not in seen:
            seen.add(current)
            parent, steps, done = self._open[current]
            inner = min((done + inner) / steps, 1.0)
            current = parent
        return inner


def _told(log: Any) -> str:
    return ' / '.join(_first_line(message) for message in log.errors)


def _first_line(text: str) -> str:
    return text.strip().partition('\n')[0]
