# SPDX-License-Identifier: Apache-2.0
"""Finds a sourced ROS 2, repairs the one from PyPI, and makes the environment that uses either."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Those on PyPI that this package is tested with; the first one is what is installed by default.
WHEELS_DISTROS = ('kilted', 'jazzy')
MESSAGES = (
    'diagnostic_msgs',
    'geometry_msgs',
    'lifecycle_msgs',
    'sensor_msgs',
    'std_msgs',
    'visualization_msgs',
)
# What a shell may have set for another Python or another ROS 2, and what must not reach ours.
FOREIGN = (
    'PYTHONHOME',
    'PYTHONPATH',
    'CMAKE_PREFIX_PATH',
    'COLCON_PREFIX_PATH',
    'AMENT_PREFIX_PATH',
    'LD_LIBRARY_PATH',
)


def sourced_prefixes(environ: Mapping[str, str], root: Path) -> list[str]:
    """Prefixes of the ROS 2 that the user has sourced; those inside `root` are our own."""
    prefixes = [
        prefix for prefix in environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix
    ]
    return [prefix for prefix in prefixes if not Path(prefix).is_relative_to(root)]


def find_ros_python(candidates: list[str]) -> str | None:
    """The first Python that imports the sourced ROS 2's rclpy, or None."""
    for candidate in candidates:
        with_rclpy = subprocess.run(
            [candidate, '-c', 'import rclpy'], capture_output=True, check=False
        )
        if with_rclpy.returncode == 0:
            return candidate
    return None


def repair_wheels(prefix: Path, python_include: str, numpy_include: str) -> int:
    """Let the CMake files of the ROS 2 wheels name this environment.

    They name the machine that they were built on: the folder of its Python (for Python 3.11
    /opt/python/cp311-cp311), that Python's headers and NumPy's. Repairing twice changes nothing.
    Returns the number of files changed.
    """
    changed = 0
    for path in sorted((prefix / 'share').rglob('*')):
        if path.suffix != '.cmake' and path.parent.name != 'parent_prefix_path':
            continue
        text = path.read_text(encoding='utf-8')
        repaired = point_to(
            text, prefix=str(prefix), python_include=python_include, numpy_include=numpy_include
        )
        if repaired != text:
            path.write_text(repaired, encoding='utf-8')
            changed += 1
    return changed


def point_to(text: str, *, prefix: str, python_include: str, numpy_include: str) -> str:
    """`text` with every path below /opt/python/ replaced by its place in this environment."""
    build_machine = '/opt/python/'
    pieces = text.split(build_machine)
    result = [pieces[0]]
    for piece in pieces[1:]:
        length = next((i for i, character in enumerate(piece) if character in '";\n >'), len(piece))
        path, rest = piece[:length], piece[length:]
        if '/numpy/' in path:
            result.append(numpy_include + rest)
        elif '/include/' in path:
            result.append(python_include + rest)
        else:
            _python, _slash, inside = path.partition('/')
            result.append((f'{prefix}/{inside}' if inside else prefix) + rest)
    return ''.join(result)


def environment(
    *,
    root: Path,
    venv: Path,
    install: Path,
    sourced: bool,
    environ: Mapping[str, str],
    distro: str = WHEELS_DISTROS[0],
) -> dict[str, str]:
    """Variables that use the virtual environment, ROS 2 and, once built, this package.

    The paths of a sourced ROS 2 stay, behind ours. Without one, paths of another Python or ROS 2
    are left out.
    """
    inherited = {name: environ.get(name, '') if sourced else '' for name in FOREIGN}
    ours = {name: without(inherited[name], root) for name in FOREIGN}
    prefixes = [install] if install.is_dir() else []
    libraries = [prefix / 'lib' for prefix in prefixes]
    if not sourced:
        prefixes.append(venv)
        libraries += [venv / 'lib', *sorted(venv.glob('lib/python3*/site-packages/ros_*.libs'))]
    modules = [package.parent.parent for package in sorted(install.glob('**/rmpe_ros/__init__.py'))]
    variables = {
        'VIRTUAL_ENV': str(venv),
        'PATH': joined(
            [install / 'bin', venv / 'bin'], without(environ.get('PATH', os.defpath), root)
        ),
        'PYTHONPATH': joined(modules, ours['PYTHONPATH']),
        'AMENT_PREFIX_PATH': joined(prefixes, ours['AMENT_PREFIX_PATH']),
        'CMAKE_PREFIX_PATH': joined(prefixes, ours['CMAKE_PREFIX_PATH']),
        'LD_LIBRARY_PATH': joined(libraries, ours['LD_LIBRARY_PATH']),
        'RMW_IMPLEMENTATION': environ.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp',
    }
    if not sourced:
        variables |= {
            'PYTHONNOUSERSITE': '1',
            'ROS_DISTRO': distro,
            'ROS_VERSION': '2',
            'ROS_PYTHON_VERSION': '3',
            # Else the wheels restart every Python once, to set LD_LIBRARY_PATH.
            '_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1',
        }
    profile = root / 'config' / 'fastdds_shared_memory.xml'
    if profile.is_file():
        variables[profile_variable(dict(environ) | variables)] = str(profile)
    return variables


def profile_variable(environ: Mapping[str, str]) -> str:
    """The variable that names Fast DDS's profile. Fast DDS 3 (Kilted) warns about the old name."""
    old = environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    return 'FASTRTPS_DEFAULT_PROFILES_FILE' if old else 'FASTDDS_DEFAULT_PROFILES_FILE'


def joined(ours: list[Path], others: str) -> str:
    """A search path: ours first, then the others."""
    return os.pathsep.join([*map(str, ours), *filter(None, [others])])


def without(search_path: str, root: Path) -> str:
    """A search path without what lies inside `root`, as it is set again in the right order."""
    kept = [
        entry
        for entry in search_path.split(os.pathsep)
        if entry and not Path(entry).is_relative_to(root)
    ]
    return os.pathsep.join(kept)


def shell_script(variables: Mapping[str, str], *, folders: list[Path]) -> str:
    """The variables as a script for `source` in sh, bash or zsh.

    folders: what goes before the PATH that the shell has by then.
    """
    lines = [
        '# Made by scripts/bootstrap.py; source it to use rmpe_ros in this shell.',
        'unset PYTHONHOME',
    ]
    for name, value in variables.items():
        value = (
            f'{shlex.quote(joined(folders, ""))}:"$PATH"' if name == 'PATH' else shlex.quote(value)
        )
        lines.append(f'export {name}={value}')
    return '\n'.join(lines) + '\n'
