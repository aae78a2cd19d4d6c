# SPDX-License-Identifier: Apache-2.0
"""`rmpe doctor`: what works on this machine, and what to install for what is missing."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from rmpe_ros.cli.processes.abandoned_segments import SHARED_MEMORY, abandoned_segments
from rmpe_ros.io.extras import how_to_install


@dataclass(frozen=True)
class Check:
    """The result of looking at one thing.

    group: heading it is shown under. ok: whether it works. detail: version, place or reason.
    advice: what to do when it does not work. needed: the core pipeline cannot do without it.
    """

    group: str
    name: str
    ok: bool
    detail: str
    advice: str = ''
    needed: bool = False


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'doctor',
        help='what works on this machine, and what to install for what is missing',
        description='Look at everything that rmpe can use. Exit code 1 only when poses cannot be '
        'estimated at all; ROS 2, GPU and training are optional.',
    )
    parser.add_argument('--json', action='store_true', help='print the checks as JSON')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print all checks: 0, or 1 when the core pipeline cannot run."""
    checks = list(examine())
    healthy = all(check.ok for check in checks if check.needed)
    if args.json:
        print(json.dumps({'ok': healthy, 'checks': [asdict(check) for check in checks]}, indent=2))
        return 0 if healthy else 1
    group = ''
    for check in checks:
        if check.group != group:
            group = check.group
            print(f'\n{group}' if group != checks[0].group else group)
        mark = ' ok ' if check.ok else 'FAIL' if check.needed else ' -- '
        advice = f'\n{"":26}→ {check.advice}' if check.advice and not check.ok else ''
        print(f'  [{mark}] {check.name:16} {check.detail}{advice}')
    missing = [check.name for check in checks if check.needed and not check.ok]
    print(
        '\nPoses can be estimated on this machine.'
        if healthy
        else f'\nPoses cannot be estimated yet: {", ".join(missing)} must work first.'
    )
    return 0 if healthy else 1


def examine() -> Iterator[Check]:
    """All checks, one after the other."""
    yield from _core()
    yield from _models()
    yield from _ros()
    yield from _gpu()
    yield from _extras()


def _core() -> Iterator[Check]:
    version = platform.python_version()
    yield Check(
        'Core', 'Python', sys.version_info >= (3, 10), version, 'install Python 3.10 or newer', True
    )
    for name, module, package in (
        ('NumPy', 'numpy', 'numpy'),
        ('OpenCV', 'cv2', 'opencv-python-headless'),
        ('ONNX Runtime', 'onnxruntime', 'onnxruntime'),
    ):
        yield _import('Core', name, module, f'pip install {package}', needed=True)


def _models() -> Iterator[Check]:
    try:
        from rmpe_ros.detector import PersonDetector
        from rmpe_ros.engines import EngineError, open_engine
        from rmpe_ros.estimator import PoseEstimator
        from rmpe_ros.models import (
            DEFAULT_DETECTOR,
            DEFAULT_POSE,
            SHIPPED_MODELS,
            ModelError,
            find_model,
        )
        from rmpe_ros.pipeline import PosePipeline
    except ImportError as error:
        yield Check('Models', 'pipeline', False, str(error), 'repair the core first', True)
        return
    import numpy as np

    advice = 'reinstall rmpe_ros, or set RMPE_MODELS to the folder with its .onnx files'
    for name in SHIPPED_MODELS:
        needed = name in (DEFAULT_DETECTOR, DEFAULT_POSE)
        try:
            path = find_model(name)
            # Not 'auto', which might build engines for minutes.
            engine = open_engine(path, 'onnxruntime', threads=1)
            wrap = PersonDetector if name == DEFAULT_DETECTOR else PoseEstimator
            info = wrap(engine).info
            detail = f'{info.name} {info.version}, {path.stat().st_size / 1e6:.1f} MB, {path}'
            yield Check('Models', name, True, detail, needed=needed)
        except (EngineError, ModelError) as error:
            yield Check('Models', name, False, _short(error), advice, needed)
    try:
        with PosePipeline(backend='onnxruntime') as pipeline:
            image = np.full((480, 640, 3), 127, np.uint8)
            pipeline(image)
            pipeline(image, boxes=np.array([[200.0, 100.0, 400.0, 400.0]]))
            times = f'640x480 with one person in {pipeline.timings["total"]:.0f} ms, plus detection'
        yield Check('Models', 'pipeline', True, times, needed=True)
    except (EngineError, ModelError) as error:
        yield Check('Models', 'pipeline', False, _short(error), advice, True)


def _ros() -> Iterator[Check]:
    source = 'source /opt/ros/<distro>/setup.bash and the workspace of rmpe_ros'
    distro = os.environ.get('ROS_DISTRO', '')
    yield Check('ROS 2', 'environment', bool(distro), distro or 'ROS_DISTRO is not set', source)
    launch = 'install ros-<distro>-launch-ros; without it start the nodes one by one'
    build = 'build the package with colcon and source its install/setup.bash'
    yield _import('ROS 2', 'rclpy', 'rclpy', source, show=lambda module: str(module.__file__))
    yield _import('ROS 2', 'messages', 'rmpe_ros.msg', build, show=_messages)
    yield _import('ROS 2', 'middleware', 'rclpy.utilities', source, show=_middleware)
    yield _import('ROS 2', 'launch', 'launch_ros', launch, show=lambda _: 'ros2 launch works')
    yield _import(
        'ROS 2', 'bags', 'rosbags', 'pip install rosbags', show=lambda _: _version('rosbags')
    )
    yield _shared_memory()


def _shared_memory() -> Check:
    left = abandoned_segments()
    megabytes = sum(each.stat().st_size for each in left if each.exists()) / 1e6
    detail = f'{megabytes:.0f} MB of {len(left)} killed processes in {SHARED_MEMORY}'
    return Check(
        'ROS 2',
        'shared memory',
        not left,
        detail if left else 'nothing of killed processes',
        'fastdds shm clean frees it; Fast DDS itself never does',
    )


def _gpu() -> Iterator[Check]:
    if shutil.which('nvidia-smi'):
        query = '--query-gpu=name,memory.total,driver_version'
        command = ['nvidia-smi', query, '--format=csv,noheader']
        try:
            answer = subprocess.check_output(
                command, text=True, timeout=20, stderr=subprocess.DEVNULL
            ).strip()
            yield Check('GPU', 'NVIDIA', bool(answer), answer.replace('\n', '; ') or 'none')
        except (OSError, subprocess.SubprocessError) as error:
            yield Check('GPU', 'NVIDIA', False, str(error), 'repair the NVIDIA driver')
    else:
        yield Check(
            'GPU', 'NVIDIA', False, 'no nvidia-smi', 'needed only for a GPU; CPUs do without'
        )
    onnx = 'pip install onnxruntime-gpu in place of onnxruntime'
    yield _import('GPU', 'ONNX Runtime', 'onnxruntime', onnx, show=_gpu_providers)
    try:
        from rmpe_ros.engines.builder import INSTALL
        from rmpe_ros.engines.cuda import INSTALL_CUDA_PYTHON
        from rmpe_ros.engines.selection import find_obstacle
    except ImportError:
        return  # without the core there is nothing that could run on a GPU
    for name, module in (('TensorRT', 'tensorrt'), ('TensorRT-RTX', 'tensorrt_rtx')):
        check = _installed('GPU', name, module, INSTALL[module])
        obstacle = find_obstacle(module) if check.ok else ''
        if obstacle:
            detail, advice = f'{check.detail}, but {obstacle}', 'see docs/tensorrt.md'
            check = replace(check, ok=False, detail=detail, advice=advice)
        yield check
    yield _import(
        'GPU',
        'CUDA for Python',
        'cuda.bindings.runtime',
        INSTALL_CUDA_PYTHON,
        show=lambda _: _version('cuda-bindings'),
    )
    yield from _engines()


def _engines() -> Iterator[Check]:
    """What runs models by default, and the compiled engines that are there."""
    from rmpe_ros.engines.cache import default_folder, list_entries
    from rmpe_ros.engines.selection import survey

    best = next(backend for backend, obstacle in survey() if not obstacle)
    yield Check('GPU', 'backend: auto', True, f'takes {best} here')
    folder = default_folder()
    entries = list(list_entries(folder))
    size = sum(int(entry.get('plan_bytes') or 0) for entry in entries)
    there = folder if folder.exists() else folder.parent
    while not there.exists():
        there = there.parent
    writable = os.access(there, os.W_OK)
    yield Check(
        'GPU',
        'engines',
        writable,
        f'{len(entries)} compiled, {size / 1e6:.0f} MB, in {folder}'
        + ('' if writable else ', which is not writable'),
        'set RMPE_ENGINE_CACHE to a folder that can be written, or engines are built at each start',
    )


def _extras() -> Iterator[Check]:
    yield _installed('Extras', 'PyTorch', 'torch', f'{how_to_install("train")}, only for training')
    yield _installed(
        'Extras', 'PyAV', 'av', f'{how_to_install("video")}, for streams and H.264 videos'
    )
    yield _installed(
        'Extras', 'pycocotools', 'pycocotools', 'pip install pycocotools, for evaluation'
    )


def _import(
    group: str,
    name: str,
    module: str,
    advice: str,
    *,
    show: Callable[[Any], str] = lambda module: str(module.__version__),
    needed: bool = False,
) -> Check:
    """Whether a module can really be imported, which tells more than whether it is installed."""
    try:
        return Check(group, name, True, show(import_module(module)), advice, needed)
    except ModuleNotFoundError as error:
        return Check(group, name, False, f'{error.name} is not installed', advice, needed)
    except Exception as error:
        # Binary modules fail in many ways: wrong ABI, missing libraries, another Python.
        return Check(group, name, False, f'{type(error).__name__}: {error}', advice, needed)


def _short(error: Exception) -> str:
    """What is wrong, without what to do about it: `Check.advice` says that."""
    return str(error).partition(';')[0]


def _installed(group: str, name: str, module: str, advice: str) -> Check:
    """Whether a heavy module is there, without the seconds that importing it takes."""
    found = find_spec(module) is not None
    return Check(group, name, found, _version(module) if found else 'not installed', advice)


def _version(package: str) -> str:
    try:
        return metadata.version(package.replace('_', '-'))
    except metadata.PackageNotFoundError:
        # TensorRT-RTX and others are packaged under the name of their CUDA version.
        packages = metadata.packages_distributions().get(package, ())
        return metadata.version(packages[0]) if packages else 'installed'


def _messages(module: Any) -> str:
    return f'rmpe_ros.msg.PersonPoseArray of {module.PersonPoseArray.__module__}'


def _middleware(module: Any) -> str:
    return str(module.get_rmw_implementation_identifier())


def _gpu_providers(module: Any) -> str:
    providers = [each for each in module.get_available_providers() if 'CPU' not in each]
    gpu = [each for each in providers if 'Azure' not in each]
    if not gpu:
        raise RuntimeError('only the CPU provider')
    return ', '.join(gpu)
