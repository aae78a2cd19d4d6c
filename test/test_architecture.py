# SPDX-License-Identifier: Apache-2.0
"""Imports only point down, and outside libraries stay in the rooms that are theirs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'scripts'))

import architecture
from architecture import CONTENTS, CORE_MAY_IMPORT, HOMES, ROWS, room_of

LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
# What a frame goes through, from the camera to the message.
RUN_TIME = ('nodes', 'library', 'engines', 'io', 'models', 'core')


@pytest.fixture(scope='module')
def imports():
    """What each module imports."""
    return architecture.read_imports()


def is_ours(name: str) -> bool:
    return name.partition('.')[0] == 'rmpe_ros'


def is_within(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith(f'{home}.') for home in homes)


def test_all_imports_are_seen(imports):
    """Those of packages, of names, inside of functions; and every room is drawn."""
    assert 'rmpe_ros.core.boxes' in imports['rmpe_ros.detector']
    assert 'rmpe_ros.engines' in imports['rmpe_ros.engines.selection']
    assert 'onnx' in imports['rmpe_ros.engines.half_precision'], 'it imports onnx in functions'
    assert {room_of(module) for module in imports} == set(CONTENTS) == set(LEVEL)


def test_imports_only_point_down(imports):
    upwards = [
        f'{module} imports {name}'
        for module, names in imports.items()
        for name in sorted(filter(is_ours, names))
        if room_of(name) != room_of(module) and LEVEL[room_of(name)] <= LEVEL[room_of(module)]
    ]
    assert upwards == []


def test_the_core_imports_numpy_and_opencv_only(imports):
    allowed = CORE_MAY_IMPORT | sys.stdlib_module_names
    others = {
        module: outside
        for module, names in imports.items()
        if room_of(module) == 'core'
        and (outside := {name for name in names if not is_ours(name)} - allowed)
    }
    assert others == {}


@pytest.mark.parametrize('library', HOMES)
def test_a_library_stays_at_home(imports, library: str):
    users = [module for module, names in imports.items() if library in names]
    assert users, f'nobody imports {library}: it can go from HOMES'
    assert [module for module in users if not is_within(module, HOMES[library])] == []


def test_the_run_time_imports_no_torch(imports):
    starts = {module for module in imports if room_of(module) in RUN_TIME}
    reached = architecture.reach(imports, starts)
    assert {'numpy', 'rclpy', 'onnxruntime'} <= reached
    assert 'torch' not in reached


def test_the_picture_is_of_this_package():
    drawn = architecture.PICTURE.read_text(encoding='utf-8')
    assert drawn == architecture.draw(), 'python3 scripts/architecture.py draws it anew'
