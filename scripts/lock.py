# SPDX-License-Identifier: Apache-2.0
"""Pin requirements/*.in in requirements/*.txt for every Python from 3.10 on; needs uv.

All sets are resolved together once, so that any of them fit into one environment; each further
ROS 2 is resolved beside them.
"""

import re
import subprocess
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements'
LOCKED = ('runtime', 'ros-kilted', 'colcon', 'test', 'torch')
OTHER_ROS = ('ros-jazzy',)
HEADER = '# Made from {name}.in by scripts/lock.py; edit that, not this.\n'
OPTIONS = ['--quiet', '--universal', '--python-version', '3.10', '--no-header', '--no-annotate']
# Whether PyTorch needs gigabytes of CUDA packages depends on its wheel, so pip decides that.
LEFT_TO_PIP = re.compile(r'^(nvidia-|cuda-|triton)')


def compile_pins(*names: str, constraints: list[str]) -> str:
    """Pinned requirements of some .in files that agree with the .txt files in `constraints`."""
    command = ['uv', 'pip', 'compile', *OPTIONS, *(f'{name}.in' for name in names)]
    for constraint in constraints:
        command += ['--constraint', constraint]
    done = subprocess.run(command, cwd=REQUIREMENTS, check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    return ''.join(f'{line}\n' for line in lines if not LEFT_TO_PIP.match(line))


def write_pins(name: str, constraint: str) -> None:
    """Write the .txt of one .in."""
    pins = compile_pins(name, constraints=[constraint])
    (REQUIREMENTS / f'{name}.txt').write_text(HEADER.format(name=name) + pins, encoding='utf-8')
    print(f'{name}.txt: {len(pins.splitlines())} pins')


def main() -> None:
    """Write one .txt beside each locked .in."""
    together = REQUIREMENTS / 'together.tmp'
    try:
        pins = compile_pins(*LOCKED, constraints=[])
        together.write_text(pins, encoding='utf-8')
        for name in LOCKED:
            write_pins(name, together.name)
        # A ROS 2 of its own, beside the same of all else.
        lines = pins.splitlines(keepends=True)
        together.write_text(
            ''.join(line for line in lines if not line.startswith('ros-')), encoding='utf-8'
        )
        for name in OTHER_ROS:
            write_pins(name, together.name)
    finally:
        together.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
