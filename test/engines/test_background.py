# SPDX-License-Identifier: Apache-2.0
"""Engines that are built while another one serves; real threads, real ONNX Runtime."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rmpe_ros.engines import Engine, EngineError
from rmpe_ros.engines.background import BackgroundEngine
from rmpe_ros.engines.builder import Report
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine

CROPS = {'crops': np.zeros((2, 64, 48, 3), np.uint8)}


class Site:
    """A build that goes on when told, and may fail."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.at_half, self.may_end = threading.Event(), threading.Event()
        self.problem: Exception | None = None
        self.opened: list[BackgroundEngine] = []

    def build(self, report: Report) -> Engine:
        report(0.35)
        self.at_half.set()
        assert self.may_end.wait(60)
        report(0.9)
        if self.problem:
            raise self.problem
        engine = OnnxRuntimeEngine(self.model)
        engine.backend, engine.preferred_batch = 'the new one', 32
        return engine

    def open(self, *, serve_meanwhile: bool) -> BackgroundEngine:
        engine = BackgroundEngine(
            OnnxRuntimeEngine(self.model), self.build, serve_meanwhile=serve_meanwhile
        )
        self.opened.append(engine)
        assert self.at_half.wait(60)
        return engine


@pytest.fixture
def site(pose_model: Path) -> Iterator[Site]:
    site = Site(pose_model)
    yield site
    site.may_end.set()
    for engine in site.opened:
        engine.close()


def in_thread(action: Callable[[], object]) -> tuple[threading.Thread, list]:
    results: list = []

    def run() -> None:
        try:
            results.append(action())
        except EngineError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_serves_meanwhile_and_then_changes(site: Site) -> None:
    engine = site.open(serve_meanwhile=True)
    assert engine.building and engine.progress == 0.35
    assert engine.backend.startswith('ONNX Runtime')
    assert engine.backend.endswith('(building engine, 35%)')
    assert engine.state == 'building engine, 35%'
    assert len(engine(CROPS)['keypoints']) == 2
    assert engine.preferred_batch == 64
    site.may_end.set()
    assert engine.wait(60)
    assert (engine.backend, engine.building, engine.preferred_batch) == ('the new one', False, 32)
    assert engine.state == ''
    assert len(engine(CROPS)['keypoints']) == 2
    assert (engine.name, engine.metadata['rmpe.task']) == ('lite.onnx', 'pose')


def test_or_waits(site: Site) -> None:
    engine = site.open(serve_meanwhile=False)
    assert engine.backend == 'building engine, 35%'
    thread, results = in_thread(lambda: engine(CROPS))
    thread.join(0.1)
    assert thread.is_alive() and not results
    site.may_end.set()
    thread.join(60)
    assert len(results[0]['keypoints']) == 2


@pytest.mark.parametrize('problem', [EngineError('no operator Det'), OSError('disk')])
def test_a_failed_build(site: Site, problem: Exception) -> None:
    site.problem = problem
    site.may_end.set()
    serving = site.open(serve_meanwhile=True)
    waiting = site.open(serve_meanwhile=False)
    assert serving.wait(60) and waiting.wait(60)
    assert len(serving(CROPS)['keypoints']) == 2
    assert 'building the engine failed' in serving.backend
    with pytest.raises(EngineError, match=r'Det|disk'):
        waiting(CROPS)


def test_closed_while_building(site: Site) -> None:
    engine = site.open(serve_meanwhile=True)
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine(CROPS)
    site.may_end.set()
    engine._thread.join(60)
    assert not engine._thread.is_alive()
    with pytest.raises(EngineError, match='closed'):
        engine(CROPS)


def test_closing_frees_those_who_wait(site: Site) -> None:
    engine = site.open(serve_meanwhile=False)
    thread, results = in_thread(lambda: engine(CROPS))
    engine.close()
    thread.join(60)
    assert isinstance(results[0], EngineError)


def test_calls_during_the_change_are_all_answered(site: Site) -> None:
    engine = site.open(serve_meanwhile=True)
    stop = threading.Event()
    answers: list[int] = []

    def keep_calling() -> None:
        while not stop.is_set():
            answers.append(len(engine(CROPS)['keypoints']))

    threads = [in_thread(keep_calling) for _ in range(2)]
    site.may_end.set()
    assert engine.wait(60)
    before = len(answers)
    while len(answers) < before + 5:
        pass
    stop.set()
    for thread, results in threads:
        thread.join(60)
        assert results == [None]
    assert set(answers) == {2}
