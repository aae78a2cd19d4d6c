# SPDX-License-Identifier: Apache-2.0
"""How to install what some commands need beyond the run time, from where this package came."""

from pathlib import Path


def how_to_install(extra: str) -> str:
    """What to type for an extra of setup.py, such as 'train'.

    The package is in no registry: only a checkout of its repository can be installed.
    """
    root = Path(__file__).resolve().parents[2]
    if not ((root / 'setup.py').is_file() and (root / 'requirements').is_dir()):
        return f'pip install ".[{extra}]" in a checkout of this package'
    where = '.' if root == Path.cwd() else root
    return f'pip install "{where}[{extra}]"'
