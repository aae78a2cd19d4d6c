# SPDX-License-Identifier: Apache-2.0
"""Runs ONNX models with ONNX Runtime, by default on the CPU."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rmpe_ros.core.odd_paths import why_unreadable
from rmpe_ros.engines import EngineError, TensorInfo, check_inputs
from rmpe_ros.engines.contest import Contest
from rmpe_ros.engines.cuda_provider import (
    CUDA,
    PEOPLE,
    SessionsByShape,
    load_cuda_libraries,
    provider_options,
    run_in_batches,
)
from rmpe_ros.engines.parity import example_inputs
from rmpe_ros.engines.side_by_side import SideBySide
from rmpe_ros.models import PRODUCER

_LOG = logging.getLogger(__name__)

# Crops of a call on the CPU; they are small, and none waits for the end of a batch.
_MANY_PEOPLE = 64
# Optimizers that make models exported or imported here neither faster nor other by a bit, while
# ONNX Runtime checks the whole graph anew after each: a quarter of the time to open a network.
_GAIN_NOTHING = (
    'CommonSubexpressionElimination',
    'ConstantSharing',
    'GatherSliceToSplitFusion',
    'GemmActivationFusion',
)

_DTYPES = {
    'tensor(float)': np.float32,
    'tensor(float16)': np.float16,
    'tensor(double)': np.float64,
    'tensor(uint8)': np.uint8,
    'tensor(int8)': np.int8,
    'tensor(int32)': np.int32,
    'tensor(int64)': np.int64,
    'tensor(bool)': np.bool_,
}


class OnnxRuntimeEngine:
    """An `Engine` on ONNX Runtime.

    model: a file, or the bytes of one.
    threads: how many compute one model; all physical cores that the process may use by default,
        all of its CPUs at most.
    providers: ONNX Runtime's execution providers, in order of preference.
    Raises EngineError when the model cannot be loaded or a provider is not there.

    On the CPU, the people of a pose model's batch are computed side by side, one thread each: two
    threads inside a layer wait for each other at its end, and on a busy machine for the one whose
    core is taken. A detector's picture and a lone person are computed by all threads or by one,
    whichever was faster lately. Threads spin while a model runs, and sleep as soon as it is done,
    so that neither the other model of a pipeline nor the rest of a robot loses cores to waiting.
    The answers are the same bits with any number of threads, and do not depend on the rest of a
    batch.

    On a GPU, a pose model's batches are padded to one of two sizes, for which cuDNN chooses its
    kernels when the engine is opened; for a picture of a new size it does so when that comes.
    """

    preferred_batch = 8
    takes_rows = False
    """Whether the rows of a batch may be arrays only when they are asked for, each by the thread
    that computes it: an input is then anything with `shape`, `dtype`, `len` and slices of which
    `numpy.asarray` makes arrays, such as `PeopleCrops`.
    """

    reason = ''
    state = ''

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        threads: int | None = None,
        providers: Sequence[str] = ('CPUExecutionProvider',),
    ) -> None:
        self.name = 'model' if isinstance(model, bytes) else Path(model).name
        if threads is not None and threads < 1:
            raise EngineError(f'threads must be 1 or more, got {threads}')
        available = onnxruntime.get_available_providers()
        for provider in set(providers) - set(available):
            raise EngineError(
                f'ONNX Runtime has no {provider} here, only {", ".join(available)}; '
                'a GPU needs another build of it (for example pip install onnxruntime-gpu)'
            )
        self._data = read_model(model)
        self._providers = list(providers)
        self.threads = bounded_threads(threads) or physical_cores()
        on_cpu = self._providers[0] == 'CPUExecutionProvider'
        first = 1 if on_cpu else self.threads
        session = self._open(first)
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self.inputs = {info.name: _tensor_info(info) for info in session.get_inputs()}
        self.outputs = {info.name: _tensor_info(info) for info in session.get_outputs()}
        device = session.get_providers()[0].removesuffix('ExecutionProvider')
        self.backend = f'ONNX Runtime {onnxruntime.__version__} on {device}'
        self._sessions = {first: session}
        self._contest = Contest(sorted({first, self.threads}))
        self._batches: tuple[int, ...] = ()
        self._by_shape: SessionsByShape | None = None
        # The contract of a pose model: every row is a person, whoever else is in the batch.
        batched = not any(isinstance(info.shape[0], int) for info in self.inputs.values())
        self._people: SideBySide | None = None
        if on_cpu and self.metadata.get('rmpe.task') == 'pose' and batched:
            self._people = SideBySide(self.threads, f'{self.name}_people')
            self.preferred_batch = _MANY_PEOPLE
            self.takes_rows = True
        self._closed = False
        if self._providers[0] == CUDA:
            self._by_shape = SessionsByShape(lambda: self._open(first), session)
            self._warm_up(batched=batched)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model on all its inputs. Raises EngineError for other names, types or shapes."""
        if self._closed:
            raise EngineError(f'{self.name} has been closed; open it again to run it')
        check_inputs(self.name, self.inputs, inputs)
        rows = {len(array) for array in inputs.values()} if self._people else {1}
        try:
            if self._people and len(rows) == 1 and rows != {1}:
                arrays = self._run_people(dict(inputs), rows.pop())
            elif self._batches:
                arrays = run_in_batches(self._run_alone, inputs, self._batches)
            else:
                arrays = self._run_alone({key: np.asarray(each) for key, each in inputs.items()})
        except Exception as error:
            shapes = ', '.join(f'{name} {list(array.shape)}' for name, array in inputs.items())
            raise EngineError(f'{self.name} failed on {shapes}: {_first_line(error)}') from error
        return dict(zip(self.outputs, arrays, strict=True))

    def _warm_up(self, *, batched: bool) -> None:
        """Let cuDNN choose its kernels now, for a model of the contract."""
        inputs = example_inputs(self.inputs, self.metadata)
        if inputs is None:
            return
        sizes: tuple[int, ...] = (1,)
        if batched and self.metadata.get('rmpe.task') == 'pose':
            self._batches = sizes = PEOPLE
            self.preferred_batch = sizes[-1]
        _LOG.info('%s: choosing kernels for the GPU, which may take half a minute', self.name)
        for size in sizes:
            self(
                {name: np.resize(array, (size, *array.shape[1:])) for name, array in inputs.items()}
            )

    def _run_people(self, inputs: dict[str, NDArray[Any]], people: int) -> list[NDArray[Any]]:
        """The outputs for `people` rows, each computed by one thread."""
        assert self._people is not None
        session = self._sessions[1]

        def run(row: int) -> list[NDArray[Any]]:
            return session.run(
                None, {name: np.asarray(rows[row : row + 1]) for name, rows in inputs.items()}
            )

        answers = self._people(run, people)
        return [np.concatenate(rows) for rows in zip(*answers, strict=True)]

    def _run_alone(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for one picture or person, with as many threads as is fastest now, or of a
        GPU.
        """
        if self._by_shape is not None:
            return self._by_shape(inputs)
        threads = self._contest.choose()
        session = self._sessions.get(threads)
        if session is None:
            session = self._sessions[threads] = self._open(threads)
            session.run(None, inputs)  # the first run allocates: no measure of the others
        start = perf_counter()
        arrays: list[NDArray[Any]] = session.run(None, inputs)
        size = sum(array.size for array in inputs.values())
        self._contest.report(threads, (perf_counter() - start) / max(size, 1))
        return arrays

    def _open(self, threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry('session.force_spinning_stop', '1')
        providers = self._providers
        said = load_cuda_libraries() if CUDA in providers else ''
        configured = [(each, provider_options() if each == CUDA else {}) for each in providers]
        try:
            session = onnxruntime.InferenceSession(
                self._data, options, providers=configured, disabled_optimizers=self._skipped()
            )
        except Exception as error:
            # ONNX Runtime raises a dozen unrelated classes here, all of which mean the same to us.
            raise EngineError(
                f'{self.name} cannot be loaded: it is damaged, no ONNX model, or newer than '
                f'ONNX Runtime {onnxruntime.__version__}; download or export it again '
                f'({_first_line(error)})'
            ) from error
        if session.get_providers()[0] != providers[0]:
            # It only prints a warning when, for example, CUDA's libraries are of another version.
            raise EngineError(
                f'{self.name}: ONNX Runtime {onnxruntime.__version__} cannot start '
                f'{providers[0]} here and would fall back to {session.get_providers()[0]}; check '
                'that the driver is there, and CUDA and cuDNN of the versions that this build of '
                'it wants: pip install "onnxruntime-gpu[cuda,cudnn]" brings them'
                f'{f" ({said})" if said else ""}'
            )
        return session

    def _skipped(self) -> Sequence[str]:
        """Optimizers that gain nothing: the producer's name is in a model's first bytes."""
        is_own = PRODUCER.encode() in self._data[:32]
        on_cpu = self._providers == ['CPUExecutionProvider']
        return _GAIN_NOTHING if is_own and on_cpu else ()

    def close(self) -> None:
        """Free the model's memory."""
        self._closed = True
        self._sessions, self._data, self._by_shape = {}, b'', None
        if self._people is not None:
            self._people.close()


def usable_cpus() -> int:
    """How many CPUs, hyper-threads included, this process may use: its affinity and quota count."""
    if not hasattr(os, 'sched_getaffinity'):
        return os.cpu_count() or 1
    cpus = len(os.sched_getaffinity(0))
    return max(1, min(cpus, math.ceil(_quota() or cpus)))


def bounded_threads(threads: int | None) -> int | None:
    """`threads`, but no more than there are CPUs, with a warning: more only wait for each other."""
    most = usable_cpus()
    if threads is None or threads <= most:
        return threads
    _LOG.warning('threads is %d, but there are %d CPUs here: %d are used', threads, most, most)
    return most


def physical_cores() -> int:
    """How many physical cores this process may use: its CPU affinity and cgroup quota count.

    Two hyper-threads of a core share its arithmetic units, so that more threads only get in each
    other's way.
    """
    if not hasattr(os, 'sched_getaffinity'):
        return os.cpu_count() or 1
    cpus = os.sched_getaffinity(0)
    siblings = {
        _read(Path(f'/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list')) or str(cpu)
        for cpu in cpus
    }
    return max(1, min(len(siblings), round(_quota() or len(siblings))))


def _quota() -> float | None:
    """CPUs' worth of time that the cgroup of this process may use; None where it is not limited."""
    quota, _, period = _read(Path('/sys/fs/cgroup/cpu.max')).partition(' ')
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(path: Path) -> str:
    """A small system file's text; empty where the system has none."""
    try:
        return path.read_text(encoding='utf-8').strip()
    except OSError:
        return ''


def read_model(model: Path | str | bytes) -> bytes:
    """The bytes of an ONNX file. Raises EngineError when it cannot be one."""
    if isinstance(model, bytes):
        return model
    try:
        data = Path(model).read_bytes()
    except OSError as error:
        raise EngineError(
            f'model {model} cannot be read: {why_unreadable(error, model)}'
        ) from error
    if not data:
        raise EngineError(f'model {model} is an empty file; download or export it again')
    if data.startswith(b'version https://git-lfs'):
        raise EngineError(f'model {model} is only a Git LFS pointer; run: git lfs pull')
    return data


def _tensor_info(info: Any) -> TensorInfo:
    if info.type not in _DTYPES:
        raise EngineError(f'{info.name!r} is a {info.type}, which is not supported')
    return TensorInfo(tuple(info.shape), np.dtype(_DTYPES[info.type]))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__
