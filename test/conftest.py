# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the workers that they run on, and small ONNX models that keep the contract
and compute their answers from the image's pixels.
"""

import os

# Tests run side by side: a pool of threads in each would only wait for the others'. Nodes and other
# processes that tests start have it so, too.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.cli.processes.abandoned_segments import abandoned_segments
from rmpe_ros.cli.processes.dds_environment import choose_domain_id
from rmpe_ros.core.skeletons import BODY19, Skeleton

# Nothing is asserted about time.
hypothesis.settings.register_profile('rmpe_ros', deadline=None)
hypothesis.settings.load_profile('rmpe_ros')

# Folders of tests that wait for other processes more than they compute.
WAITING = ('stress', 'system')
# Of short tests, for the end, where a worker with a long file would be the only one.
SHORT = ('core', 'nodes')
# Above the ports that Linux gives away by itself, and none that rmpe chooses.
DOMAIN_IDS = range(215, 233)

DETECTOR_SIZE = (96, 128)
CROP_SIZE = (64, 48)
BACKGROUND = 20


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of -n auto: tests that wait leave the others a processor."""
    return min((os.cpu_count() or 1) + 2, 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of --dist loadfile, with workers that stay with what they have begun: one half take the files
    with PyTorch first, the other those that wait for other processes. So one half import what
    PyTorch and its like import only when they train and export, the other have nodes to fork, and
    at no time all compute, or all wait.
    """
    if config.getoption('dist') != 'loadfile':
        return None
    from xdist.scheduler import LoadFileScheduling

    @cache
    def kind(file: str) -> int:
        path = config.rootpath / file
        if path.relative_to(Path(__file__).parent).parts[0] in WAITING:
            return 2
        return 0 if 'torch' in path.read_text(encoding='utf-8') else 1

    class StayingWithIt(LoadFileScheduling):
        def _assign_work_unit(self, node: Any) -> None:
            waits = int(node.gateway.id.removeprefix('gw')) % 2
            order = [2, 1, 0] if waits else [0, 1, 2]
            file = min(self.workqueue, key=lambda each: order.index(kind(each)))
            self.workqueue.move_to_end(file, last=False)
            super()._assign_work_unit(node)

    return StayingWithIt(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On several workers, files with slow tests come first, so that in the end no worker is left
    alone with one, and those of the shortest tests last. Tests of several processes that talk over
    DDS get a second try, which pytest counts and names: one that needs it has met a race, of its
    own or of ours.
    """
    folder_of = {item.path: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    for item in items:
        if folder_of[item.path] in WAITING:
            item.add_marker(pytest.mark.flaky(reruns=1))
    if 'PYTEST_XDIST_WORKER' not in os.environ:
        return
    paths = list(reversed(folder_of))  # training is long
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    paths.sort(key=lambda path: (folder_of[path] in SHORT, path not in slow))
    place = {path: index for index, path in enumerate(paths)}
    items.sort(key=lambda item: place[item.path])


def pytest_sessionfinish() -> None:
    """Nodes that tests have killed leave 36 MB of shared memory each, which nobody else removes."""
    for segment in abandoned_segments():
        for file in (segment, segment.with_name(f'{segment.name}_el')):
            with suppress(OSError):
                file.unlink()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Workers send what tests have printed as UTF-8, which lone surrogates do not have."""
    report = yield
    report.sections = [
        (name, text.encode('utf-8', 'backslashreplace').decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope='session')
def choose_domain() -> Callable[[], str]:
    """Gives a ROS_DOMAIN_ID that nobody uses, and that no other worker can choose at the time."""
    number = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
    return lambda: str(choose_domain_id(DOMAIN_IDS[number % len(DOMAIN_IDS) :: workers]))


def keypoint_offsets(skeleton: Skeleton) -> np.ndarray:
    """(K, 2) where the test pose model puts keypoint k, in crop pixels from the bright middle."""
    index = np.arange(skeleton.num_keypoints)
    return np.stack([index % 5 - 2, index // 5 - 1], axis=1).astype(np.float32) * 3


def make_detector(path: Path, **metadata: str) -> Path:
    """A detector of bright blobs: one box around the pixels > 128 of each quadrant of its input.

    Its score is the quadrant's brightest pixel / 255. Each box comes a second time, half a pixel
    larger and a tenth less sure: the redundant box that box NMS is for.
    """
    height, width = DETECTOR_SIZE
    constants = {
        'threshold': np.float32(128),
        'zero': np.float32(0),
        'far': np.float32(1e4),
        'x': np.arange(width // 2, dtype=np.float32).reshape(1, 1, 1, 1, -1),
        'y': np.arange(height // 2, dtype=np.float32).reshape(1, 1, 1, -1, 1),
        'one': np.float32(1),
        'scale': np.float32(255),
        'split': np.array([1, 2, height // 2, 2, width // 2], np.int64),
        'list': np.array([1, 4, 1], np.int64),
        'shape': np.array([1, 4], np.int64),
        'origin': np.array(
            [[[x, y, x, y] for y in (0, height // 2) for x in (0, width // 2)]], np.float32
        ),
        'larger': np.array([-0.5, -0.5, 0.5, 0.5], np.float32),
        'less': np.float32(0.9),
    }
    node = helper.make_node
    nodes = [
        node('Cast', ['image'], ['float'], to=TensorProto.FLOAT),
        node('ReduceMean', ['float'], ['grey'], axes=[3], keepdims=0),
        node('Reshape', ['grey', 'split'], ['rows']),
        # (1, 2 rows of quadrants, 2 columns, height, width)
        node('Transpose', ['rows'], ['cells'], perm=[0, 1, 3, 2, 4]),
        node('Greater', ['cells', 'threshold'], ['bright']),
    ]
    for axis in ('x', 'y'):
        nodes += [
            node('Where', ['bright', axis, 'far'], [f'{axis}_low']),
            node('ReduceMin', [f'{axis}_low'], [f'{axis}1'], axes=[3, 4], keepdims=0),
            node('Add', [axis, 'one'], [f'{axis}_end']),
            node('Where', ['bright', f'{axis}_end', 'zero'], [f'{axis}_high']),
            node('ReduceMax', [f'{axis}_high'], [f'{axis}2'], axes=[3, 4], keepdims=0),
        ]
    nodes += [
        *(node('Reshape', [each, 'list'], [each + '_list']) for each in ('x1', 'y1', 'x2', 'y2')),
        node('Concat', ['x1_list', 'y1_list', 'x2_list', 'y2_list'], ['local'], axis=2),
        node('Add', ['local', 'origin'], ['once']),
        node('Add', ['once', 'larger'], ['again']),
        node('Concat', ['once', 'again'], ['boxes'], axis=1),
        node('ReduceMax', ['cells'], ['peak'], axes=[3, 4], keepdims=0),
        node('Reshape', ['peak', 'shape'], ['peaks']),
        node('Div', ['peaks', 'scale'], ['sure']),
        node('Mul', ['sure', 'less'], ['unsure']),
        node('Concat', ['sure', 'unsure'], ['scores'], axis=1),
    ]
    return save_model(
        path,
        nodes,
        constants,
        inputs={'image': (TensorProto.UINT8, [1, height, width, 3])},
        outputs={'boxes': (TensorProto.FLOAT, [1, 8, 4]), 'scores': (TensorProto.FLOAT, [1, 8])},
        metadata={
            'rmpe.format': '1',
            'rmpe.task': 'detector',
            'rmpe.name': 'blobs',
            'rmpe.version': '0',
            'rmpe.score_threshold': '0.6',
            'rmpe.nms_iou': '0.6',
            **metadata,
        },
    )


def make_pose(
    path: Path, skeleton: Skeleton = BODY19, *, batch: int | str = 'N', **metadata: str
) -> Path:
    """A pose model: keypoint k lies `keypoint_offsets` from the centre of the crop's brightness.

    Only what is brighter than BACKGROUND counts. Its scores are the crop's brightest pixel / 255.
    """
    height, width = CROP_SIZE
    constants = {
        'background': np.float32(BACKGROUND),
        'tiny': np.float32(1e-6),
        'x': np.arange(width, dtype=np.float32).reshape(1, 1, -1),
        'y': np.arange(height, dtype=np.float32).reshape(1, -1, 1),
        'scale': np.float32(255),
        'offsets': keypoint_offsets(skeleton)[None],
        'ones': np.ones((1, skeleton.num_keypoints, 1), np.float32),
        'identity': np.array([[[1, 0, 0], [0, 1, 0]]], np.float32),
        'column': np.array([-1, 1, 1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node('Cast', ['crops'], ['float'], to=TensorProto.FLOAT),
        node('ReduceMean', ['float'], ['grey'], axes=[3], keepdims=0),
        node('Sub', ['grey', 'background'], ['above']),
        node('Relu', ['above'], ['weight']),
        node('Constant', [], ['area_axes'], value_ints=[1, 2]),
        node('ReduceSum', ['weight', 'area_axes'], ['area'], keepdims=0),
        node('Add', ['area', 'tiny'], ['positive']),
    ]
    for axis in ('x', 'y'):
        nodes += [
            node('Mul', ['weight', axis], [f'{axis}_weighted']),
            node('ReduceSum', [f'{axis}_weighted', 'area_axes'], [f'{axis}_sum'], keepdims=0),
            node('Div', [f'{axis}_sum', 'positive'], [f'{axis}_mean']),
            node('Reshape', [f'{axis}_mean', 'column'], [f'{axis}_middle']),
        ]
    nodes += [
        node('Concat', ['x_middle', 'y_middle'], ['middle'], axis=2),
        node('Add', ['middle', 'offsets'], ['points']),
        node('ReduceMax', ['grey'], ['peak'], axes=[1, 2], keepdims=0),
        node('Reshape', ['peak', 'column'], ['peaks']),
        node('Div', ['peaks', 'scale'], ['sure']),
        node('Mul', ['sure', 'ones'], ['scores']),
        node('Concat', ['points', 'scores'], ['keypoints'], axis=2),
        node('Mul', ['sure', 'tiny'], ['nothing']),
        node('Add', ['nothing', 'identity'], ['theta']),
    ]
    return save_model(
        path,
        nodes,
        constants,
        inputs={'crops': (TensorProto.UINT8, [batch, height, width, 3])},
        outputs={
            'keypoints': (TensorProto.FLOAT, [batch, skeleton.num_keypoints, 3]),
            'theta': (TensorProto.FLOAT, [batch, 2, 3]),
        },
        metadata={
            'rmpe.format': '1',
            'rmpe.task': 'pose',
            'rmpe.name': 'middle',
            'rmpe.version': '0',
            'rmpe.skeleton': skeleton.to_json(),
            'rmpe.box_growth': '0.3',
            **metadata,
        },
    )


def save_model(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    *,
    inputs: dict[str, tuple[int, list]],
    outputs: dict[str, tuple[int, list]],
    metadata: dict[str, str],
) -> Path:
    """Put an ONNX graph together, check it and write it to `path`."""
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info(name, *info) for name, info in inputs.items()],
        [helper.make_tensor_value_info(name, *info) for name, info in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope='session')
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with test models under the names of the shipped ones: for RMPE_MODELS."""
    folder = tmp_path_factory.mktemp('models')
    make_detector(folder / 'detector.onnx')
    make_pose(folder / 'lite.onnx')
    make_pose(folder / 'standard.onnx')
    return folder


@pytest.fixture(scope='session')
def detector_model(models_folder: Path) -> Path:
    """The test detector of `make_detector`."""
    return models_folder / 'detector.onnx'


@pytest.fixture(scope='session')
def pose_model(models_folder: Path) -> Path:
    """The test pose model of `make_pose` for body19."""
    return models_folder / 'lite.onnx'


@pytest.fixture
def make_pose_model(tmp_path: Path) -> Callable[..., Path]:
    """Makes other test pose models; `told` is the skeleton in the metadata, None for none."""

    def make(
        skeleton: Skeleton,
        *,
        batch: int | str = 'N',
        growth: str = '0.3',
        told: Skeleton | str | None = 'the same',
        score: str | None = None,
    ) -> Path:
        said = skeleton if isinstance(told, str) else told
        return make_pose(
            tmp_path / f'{skeleton.name}-{batch}.onnx',
            skeleton,
            batch=batch,
            **{
                'rmpe.box_growth': growth,
                'rmpe.skeleton': said.to_json() if said else '',
                **({'rmpe.person_score': score} if score else {}),
            },
        )

    return make


# Two bright "people" as x1, y1, x2, y2 in `two_people`, and how bright they are.
PEOPLE = {(50, 60, 100, 210): 255, (400, 250, 500, 450): 204}


@pytest.fixture(scope='session')
def drawn_people() -> np.ndarray:
    """A dark 640x480 picture with the two rectangles of PEOPLE, not to be written to."""
    image = np.full((480, 640, 3), BACKGROUND, np.uint8)
    for (x1, y1, x2, y2), brightness in PEOPLE.items():
        image[y1:y2, x1:x2] = brightness
    image.flags.writeable = False
    return image


@pytest.fixture
def two_people(drawn_people: np.ndarray) -> np.ndarray:
    """A copy of `drawn_people` for one test."""
    return drawn_people.copy()


@pytest.fixture(params=['PyAV', 'OpenCV'])
def video_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos are read and written with PyAV, and with OpenCV where that is not installed."""
    if request.param == 'PyAV':
        pytest.importorskip('av')
    else:
        monkeypatch.setitem(sys.modules, 'av', None)


@pytest.fixture
def shallow_lite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lite-HRNets of half as many modules, of which two still follow each other: tracing a graph
    takes as long as it has operations, however small they are.
    """
    monkeypatch.setattr('rmpe_ros.networks.backbones.lite_hrnet.MODULES', (1, 2, 1))


@pytest.fixture(scope='session')
def small_sppe():
    """The class of an SPPE of a few convolutions, quick to train and to export."""
    torch = pytest.importorskip('torch')

    class SmallSppe(torch.nn.Module):
        def __init__(self, channels: int = 96) -> None:
            super().__init__()
            layers, inputs = [], 3
            for stride in (2, 2, 1, 1):
                layers += [torch.nn.Conv2d(inputs, channels, 3, stride, 1), torch.nn.ReLU()]
                inputs = channels
            self.features = torch.nn.Sequential(*layers)
            self.logits = torch.nn.Conv2d(channels, BODY19.num_keypoints, 1)

        def forward(self, x):
            return [self.logits(self.features(x))]

    return SmallSppe
