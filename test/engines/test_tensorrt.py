# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engine on a simulated GPU: the way of the data, the order of calls, the errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmpe_ros.engines import EngineError
from rmpe_ros.engines.cache import PlanError
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.profiles import plan_profiles
from rmpe_ros.engines.tensorrt import TensorRtEngine
from rmpe_ros.estimator import PoseEstimator


@pytest.fixture
def make_engine(simulated_tensorrt: Any) -> Any:
    def make(model: Path, plan: bytes | None = None) -> TensorRtEngine:
        source = OnnxRuntimeEngine(model)
        if plan is None:
            profiles = [
                {key: [s.minimum, s.optimum, s.maximum] for key, s in profile.items()}
                for profile in plan_profiles(model.name, source.inputs, source.metadata)
            ]
            header = json.dumps({'version': simulated_tensorrt.__version__, 'profiles': profiles})
            plan = header.encode() + b'\0' + model.read_bytes()
        return TensorRtEngine(
            plan,
            trt=simulated_tensorrt,
            runtime=simulated_tensorrt.cuda,
            name=model.name,
            metadata=source.metadata,
        )

    return make


def crops(count: int) -> np.ndarray:
    """Each crop has a bright spot of its own."""
    pictures = np.zeros((count, 64, 48, 3), np.uint8)
    for index, picture in enumerate(pictures):
        y, x = 4 + index % 50, 4 + (index * 7) % 40
        picture[y : y + 3, x : x + 3] = 100 + index % 150
    return pictures


@pytest.mark.parametrize('count', [1, 2, 3, 5, 31, 32, 33, 70, 128])
def test_batches_of_any_size_equal_onnx_runtime(
    make_engine: Any, pose_model: Path, count: int
) -> None:
    engine, reference = make_engine(pose_model), OnnxRuntimeEngine(pose_model)
    for batch in (crops(count), crops(count)[::-1]):
        found, expected = engine({'crops': batch}), reference({'crops': batch})
        assert list(found) == list(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_rows_of_an_earlier_larger_batch_do_not_show(make_engine: Any, pose_model: Path) -> None:
    engine = make_engine(pose_model)
    engine({'crops': crops(8)})
    found = engine({'crops': crops(8)[5:]})['keypoints']
    assert len(found) == 3
    expected = OnnxRuntimeEngine(pose_model)({'crops': crops(8)[5:]})['keypoints']
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_results_are_copies(make_engine: Any, pose_model: Path) -> None:
    engine = make_engine(pose_model)
    first = engine({'crops': crops(4)})['keypoints']
    kept = first.copy()
    engine({'crops': crops(8)[4:]})
    np.testing.assert_array_equal(first, kept)


def test_one_graph_launch_for_a_call_and_one_context_for_a_bucket(
    make_engine: Any, pose_model: Path, simulated_cuda: Any
) -> None:
    engine = make_engine(pose_model)
    engine.warm_up()
    prepared, memory = len(simulated_cuda.graphs), len(simulated_cuda.device)
    assert prepared == 6
    for count in (1, 3, 4, 30):
        before = simulated_cuda.launches
        engine({'crops': crops(count)})
        assert simulated_cuda.launches == before + 1
    assert (len(simulated_cuda.graphs), len(simulated_cuda.device)) == (prepared, memory)


def test_nobody(make_engine: Any, pose_model: Path) -> None:
    found = make_engine(pose_model)({'crops': crops(0)})
    assert found['keypoints'].shape == (0, 19, 3)
    assert found['theta'].shape == (0, 2, 3)


def test_fixed_shapes(make_engine: Any, detector_model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 96, 128, 3), dtype=np.uint8)
    engine = make_engine(detector_model)
    engine.warm_up()
    found, expected = engine({'image': image}), OnnxRuntimeEngine(detector_model)({'image': image})
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_wrong_inputs_are_named(make_engine: Any, pose_model: Path) -> None:
    engine = make_engine(pose_model)
    with pytest.raises(EngineError, match=r"'crops' must be uint8 \[\?, 64, 48, 3\], got float32"):
        engine({'crops': crops(1).astype(np.float32)})
    with pytest.raises(EngineError, match=r'got uint8 \[1, 32, 48, 3\]'):
        engine({'crops': crops(1)[:, :32]})
    with pytest.raises(EngineError, match=r"input 'crops'.*is missing"):
        engine({})


def test_a_plan_of_another_version(make_engine: Any, pose_model: Path) -> None:
    with pytest.raises(PlanError, match='plan of version 9'):
        make_engine(pose_model, b'{"version": "9", "profiles": []}\0')
    with pytest.raises(PlanError, match='magic tag'):
        make_engine(pose_model, b'garbage')


def test_the_reason_is_told_while_other_engines_are_there(
    make_engine: Any, pose_model: Path
) -> None:
    others = [make_engine(pose_model), make_engine(pose_model)]
    for _ in range(2):
        with pytest.raises(PlanError, match=r'cannot load this plan: magic tag does not match$'):
            make_engine(pose_model, b'garbage')
    others[0]({'crops': crops(1)})


def test_all_memory_is_given_back(make_engine: Any, pose_model: Path, simulated_cuda: Any) -> None:
    engine = make_engine(pose_model)
    engine({'crops': crops(70)})
    assert engine.gpu_bytes > 0
    engine.close()
    engine.close()
    left = simulated_cuda.device, simulated_cuda.host, simulated_cuda.graphs, simulated_cuda.streams
    assert left == ({}, {}, {}, {})
    with pytest.raises(EngineError, match='closed'):
        engine({'crops': crops(1)})


def test_a_full_gpu_is_explained_and_leaves_nothing(
    make_engine: Any, pose_model: Path, simulated_cuda: Any
) -> None:
    engine = make_engine(pose_model)
    before = len(simulated_cuda.device)
    simulated_cuda.failing['cudaMalloc'] = simulated_cuda.cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(EngineError, match='cannot be had, 12 of 8000 MB are free'):
        engine({'crops': crops(4)})
    simulated_cuda.failing.clear()
    assert (len(simulated_cuda.device), len(simulated_cuda.host)) == (before, 0)
    assert len(engine({'crops': crops(4)})['keypoints']) == 4, 'it works again when memory is free'


def test_a_failing_run_names_the_shapes(
    make_engine: Any, pose_model: Path, simulated_cuda: Any
) -> None:
    engine = make_engine(pose_model)
    engine({'crops': crops(4)})
    simulated_cuda.failing['cudaGraphLaunch'] = simulated_cuda.cudaError_t(900)
    with pytest.raises(EngineError, match=r'failed on crops \[4, 64, 48, 3\]: cudaGraphLaunch'):
        engine({'crops': crops(4)})


def test_old_shapes_make_room(make_engine: Any, pose_model: Path, simulated_cuda: Any) -> None:
    from rmpe_ros.engines import tensorrt

    engine = make_engine(pose_model)
    engine.warm_up()
    most = len(simulated_cuda.graphs)
    for count in (1, 2, 4, 8, 16, 32) * 4:
        assert len(engine({'crops': crops(count)})['keypoints']) == count
    assert len(simulated_cuda.graphs) == most <= tensorrt._MOST_SHAPES


def test_an_estimator_uses_the_largest_bucket(
    make_engine: Any, pose_model: Path, simulated_cuda: Any, two_people: np.ndarray
) -> None:
    estimator = PoseEstimator(make_engine(pose_model))
    boxes = np.tile([[50.0, 60, 100, 210], [400, 250, 500, 450]], (10, 1))
    expected = PoseEstimator(OnnxRuntimeEngine(pose_model))(two_people, boxes)
    estimator(two_people, boxes)
    before = simulated_cuda.launches
    found = estimator(two_people, boxes)
    assert simulated_cuda.launches == before + 1
    np.testing.assert_allclose(found[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
