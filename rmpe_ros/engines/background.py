# SPDX-License-Identifier: Apache-2.0
"""An engine that is built while another one serves, and takes over when it is ready."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from rmpe_ros.engines import Engine, EngineError, TensorInfo
from rmpe_ros.engines.builder import Report

_LOG = logging.getLogger(__name__)


class BackgroundEngine:
    """An `Engine` that becomes the one that `build` returns.

    substitute: describes the model from the start, and answers calls until the new engine is ready
        when serve_meanwhile; otherwise calls wait for it. It also serves when the build fails, if
        serve_meanwhile; calls raise the build's EngineError otherwise.
    build: makes the new engine, in a thread of its own; it is given where to report progress.
    A call at the moment of the change is answered by one of the two, never by both.
    """

    def __init__(
        self,
        substitute: Engine,
        build: Callable[[Report], Engine],
        *,
        serve_meanwhile: bool,
    ) -> None:
        self.name = substitute.name
        self.reason = ''
        self.inputs: Mapping[str, TensorInfo] = substitute.inputs
        self.outputs: Mapping[str, TensorInfo] = substitute.outputs
        self.metadata: Mapping[str, str] = substitute.metadata
        self.progress = 0.0
        self.error: EngineError | None = None
        self._substitute: Engine | None = substitute
        self._serve_meanwhile = serve_meanwhile
        self._build = build
        self._engine: Engine | None = None
        self._closed = False
        # Held while an engine runs or is exchanged, so that none is closed under a call.
        self._lock = threading.RLock()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f'build {self.name}', daemon=True)
        self._thread.start()

    @property
    def building(self) -> bool:
        """Whether the new engine is still being built."""
        return not self._finished.is_set()

    @property
    def backend(self) -> str:
        """What runs the model now, and how far the new engine is."""
        with self._lock:
            if self._engine is not None:
                return self._engine.backend
            if self._serve_meanwhile and self._substitute is not None:
                return f'{self._substitute.backend} ({self.state})'
            return self.state

    @property
    def state(self) -> str:
        """How far the new engine is, or why there is none; empty when it is in charge."""
        with self._lock:
            if self._engine is not None:
                return self._engine.state
            if self.error is not None:
                return f'building the engine failed: {self.error}'
            return f'building engine, {self.progress:.0%}'

    @property
    def preferred_batch(self) -> int:
        """That of the engine in charge."""
        with self._lock:
            engine = self._engine or self._substitute
            return engine.preferred_batch if engine is not None else 1

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the engine in charge. Raises EngineError as it does, or as the build did."""
        if not self._serve_meanwhile:
            self._finished.wait()
        with self._lock:
            if self._closed:
                raise EngineError(f'{self.name} has been closed; open it again to run it')
            if self._engine is not None:
                return self._engine(inputs)
            if self.error is not None and not self._serve_meanwhile:
                raise EngineError(str(self.error)) from self.error
            assert self._substitute is not None, 'freed only when the new engine is in charge'
            return self._substitute(inputs)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the build; whether it has ended after `timeout` seconds."""
        return self._finished.wait(timeout)

    def close(self) -> None:
        """Free both engines and stop the build, which ends at its next step."""
        with self._lock:
            self._closed = True
            for engine in (self._engine, self._substitute):
                if engine is not None:
                    engine.close()
            self._engine = self._substitute = None
        self._finished.set()

    def _work(self) -> None:
        try:
            engine = self._build(self._report)
        except _Stopped:
            return
        except Exception as error:
            # Whatever stops the build, calls must be answered: with the substitute or with this.
            problem = error if isinstance(error, EngineError) else EngineError(f'{error!r}')
            _LOG.error('%s: building the engine failed: %s', self.name, problem)
            with self._lock:
                self.error = problem
            self._finished.set()
            return
        with self._lock:
            if self._closed:
                engine.close()
                return
            self._engine = engine
            substitute, self._substitute = self._substitute, None
            if substitute is not None:
                substitute.close()
        _LOG.info('%s now runs on %s', self.name, engine.backend)
        self._finished.set()

    def _report(self, share: float) -> None:
        self.progress = share
        if self._closed:
            raise _Stopped


class _Stopped(BaseException):
    """The engine was closed while it was being built."""
