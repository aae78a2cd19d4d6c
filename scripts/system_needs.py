# SPDX-License-Identifier: Apache-2.0
"""What the system must have before anything is installed, and which packages bring it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

OLDEST_PYTHON = (3, 10)
NEWEST_WHEELS_PYTHON = (3, 14)


def find_problem(*, sourced: bool) -> str | None:
    """One sentence about what is missing and how to get it, or None when all is there.

    sourced: whether a ROS 2 installation is used, not the wheels from PyPI.
    """
    version = sys.version_info[:2]
    name = f'Python {version[0]}.{version[1]}'
    if version < OLDEST_PYTHON:
        return f'{name} is too old: name one from 3.10 on, as in `make demo PYTHON=python3.12`.'
    if not sourced:
        if version > NEWEST_WHEELS_PYTHON:
            return (
                f'{name} is too new: ROS 2 wheels exist up to 3.14. Name an older one, as in '
                '`make demo PYTHON=python3.12`.'
            )
        system, machine = platform.system(), platform.machine()
        if (system, machine) != ('Linux', 'x86_64'):
            return (
                f'ROS 2 wheels exist only for Linux on x86-64, and this is {system} on {machine}: '
                'install ROS 2, source its setup.bash and run this again.'
            )
    missing = find_missing()
    if missing:
        packages = ' '.join(missing.values())
        return (
            f'Missing on this machine: {" and ".join(missing)}. '
            f'On Debian or Ubuntu: sudo apt install {packages}'
        )
    return None


def find_missing() -> dict[str, str]:
    """What is missing, each with the name of the Debian or Ubuntu package that has it."""
    python = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    missing = {}
    if importlib.util.find_spec('venv') is None or importlib.util.find_spec('ensurepip') is None:
        missing[f'the venv module of {python}'] = f'{python}-venv'
    if not (Path(sysconfig.get_path('include')) / 'Python.h').is_file():
        missing[f'the C headers of {python}'] = f'{python}-dev'
    compilers = {'CC': ('cc', 'gcc', 'clang'), 'CXX': ('c++', 'g++', 'clang++')}
    for variable, names in compilers.items():
        if not any(map(shutil.which, filter(None, [os.environ.get(variable), *names]))):
            missing['a C and C++ compiler'] = 'g++'
    if shutil.which('make') is None:
        missing['make'] = 'make'
    return missing
