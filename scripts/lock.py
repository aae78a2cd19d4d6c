# SPDX-License-Identifier: Apache-2.0
"""Pin requirements/*.in in requirements/*.txt, with hashes, for every Python from 3.10 on.

Needs uv. All sets are resolved together once, so that any of them fit into one environment; each
further ROS 2 is resolved beside them. The hashes are those of all files of a release, so that the
pins serve every Python and processor that it has wheels for.
"""

import re
import subprocess
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements'
LOCKED = ('runtime', 'ros-kilted', 'colcon', 'test', 'torch')
OTHER_ROS = ('ros-jazzy',)
DOWNLOADED = 'photos'  # for what is in the wheels, which are never installed
HEADER = '# Made from {name}.in by scripts/lock.py; edit that, not this.\n'
OPTIONS = ['--quiet', '--universal', '--python-version', '3.10', '--no-header', '--no-annotate']
# PyTorch has several builds of one version, and whether it needs gigabytes of CUDA packages depends
# on the build: pip decides that, see Bootstrap.install_torch.
LEFT_TO_PIP = re.compile(r'(nvidia-|cuda-|triton|torch==|torchvision==)')


def compile_pins(name: str, *options: str, constraints: list[str]) -> str:
    """Pinned requirements of a .in file that agree with the pins in the files `constraints`."""
    command = ['uv', 'pip', 'compile', *OPTIONS, *options, f'{name}.in']
    for constraint in constraints:
        command += ['--constraint', constraint]
    done = subprocess.run(command, cwd=REQUIREMENTS, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def without_what_pip_decides(pins: str) -> str:
    """The pins, each with its lines of hashes, less those that `LEFT_TO_PIP` matches."""
    each = re.findall(r'^\S.*\n(?:[ \t].*\n)*', pins, re.MULTILINE)
    return ''.join(pin for pin in each if not LEFT_TO_PIP.match(pin))


def write_pins(name: str, constraints: list[str]) -> None:
    """Write the .txt of one .in."""
    options = ['--generate-hashes', *(['--no-deps'] if name == DOWNLOADED else [])]
    pins = without_what_pip_decides(compile_pins(name, *options, constraints=constraints))
    (REQUIREMENTS / f'{name}.txt').write_text(HEADER.format(name=name) + pins, encoding='utf-8')
    count = len(re.findall(r'^\S+==', pins, re.MULTILINE))
    print(f'{name}.txt: {count} pins, {pins.count("--hash=")} hashes')


def lock(constraints: list[str]) -> None:
    """Write one .txt beside each locked .in. constraints: files of requirements to agree with."""
    everything, together = REQUIREMENTS / 'everything.in', REQUIREMENTS / 'together.tmp'
    try:
        everything.write_text(''.join(f'-r {name}.in\n' for name in LOCKED), encoding='utf-8')
        pins = compile_pins('everything', constraints=constraints)
        together.write_text(pins, encoding='utf-8')
        for name in (*LOCKED, DOWNLOADED):
            write_pins(name, [together.name, *constraints])
        # A ROS 2 of its own, beside the same of all else.
        together.write_text(re.sub(r'^ros-.*\n', '', pins, flags=re.MULTILINE), encoding='utf-8')
        for name in OTHER_ROS:
            write_pins(name, [together.name, *constraints])
    finally:
        together.unlink(missing_ok=True)
        everything.unlink(missing_ok=True)


if __name__ == '__main__':
    lock(constraints=[])
