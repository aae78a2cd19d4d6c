# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: one version, complete dependencies, documented messages, real wheels."""

import ast
import re
import subprocess
import sys
import venv
from pathlib import Path
from xml.etree import ElementTree

import pytest

import rmpe_ros
from rmpe_ros.io.extras import how_to_install

ROOT = Path(__file__).resolve().parents[1]
ROSDEP_KEYS = {
    'cv2': 'python3-opencv',
    'numpy': 'python3-numpy',
    'onnxruntime': 'python3-onnxruntime-pip',
    'rich': 'python3-rich',
    # It requires the other two, which have no keys of their own.
    'rosbags': 'python3-rosbags-pip',
    'lz4': 'python3-rosbags-pip',
    'backports': 'python3-rosbags-pip',
    'tqdm': 'python3-tqdm',
    'yaml': 'python3-yaml',
}
OUTSIDE_ROS = ('networks', 'importing', 'training', 'evaluation')
# Extras of pip, or ROS 2.
OUTSIDE_PIP = ('networks', 'importing', 'training', 'evaluation', 'nodes', 'cli/processes')
# rclpy depends on the first three; the others are optional.
NOT_DECLARED = {
    'builtin_interfaces',
    'rcl_interfaces',
    'ament_index_python',
    'cv_bridge',
}


def top_level_imports(tree: ast.Module) -> set[str]:
    """Names of the modules that a file imports when it is imported itself."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition('.')[0])
    return names


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def test_version_is_the_same_everywhere():
    assert package_xml().findtext('version') == rmpe_ros.__version__
    command = [sys.executable, 'setup.py', '--version']
    setup = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert setup.stdout.splitlines()[-1] == rmpe_ros.__version__


def test_package_xml_is_an_interface_package_of_format_3():
    package = package_xml()
    assert package.get('format') == '3'
    assert package.findtext('name') == 'rmpe_ros'
    assert package.findtext('member_of_group') == 'rosidl_interface_packages'
    assert package.findtext('export/build_type') == 'ament_cmake'


def test_package_xml_names_what_the_nodes_import():
    declared = {node.text for tag in ('depend', 'exec_depend') for node in package_xml().iter(tag)}
    files = [*(ROOT / 'rmpe_ros').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]
    package = ROOT / 'rmpe_ros'
    undeclared = {}
    for path in files:
        if any(path.is_relative_to(package / folder) for folder in OUTSIDE_ROS):
            continue
        imported = top_level_imports(ast.parse(path.read_text()))
        imported -= {'rmpe_ros', '__future__', *sys.stdlib_module_names, *NOT_DECLARED}
        missing = {ROSDEP_KEYS.get(name, name) for name in imported} - declared
        if missing:
            undeclared[path.relative_to(ROOT).as_posix()] = missing
    assert not undeclared


def test_text_files_are_read_and_written_as_utf_8():
    """Not as the machine's locale says; what is open as bytes has no encoding."""
    files = [*(ROOT / 'rmpe_ros').rglob('*.py'), *(ROOT / 'scripts').rglob('*.py')]
    found = []
    for path in [*files, ROOT / 'setup.py']:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            if name not in ('read_text', 'write_text', 'open'):
                continue
            if ast.unparse(node.func) == 'av.open':  # a video, not a text
                continue
            modes = [each.value for each in node.args if isinstance(each, ast.Constant)]
            is_text = name != 'open' or any(mode in ('r', 'w', 'a', 'x') for mode in modes)
            if is_text and 'encoding' not in {keyword.arg for keyword in node.keywords}:
                found.append(f'{path.relative_to(ROOT)}:{node.lineno}')
    assert found == []


def test_nobody_is_sent_to_a_registry_that_does_not_have_this_package():
    folders = [ROOT / name for name in ('rmpe_ros', 'docs', 'launch', 'config', 'scripts')]
    files = [ROOT / 'README.md', *(path for folder in folders for path in folder.rglob('*.*'))]
    found = [
        str(path.relative_to(ROOT))
        for path in files
        if path.suffix in ('.py', '.md', '.sh', '.yaml')
        and re.search(r'pip install [^`\n]*rmpe[_-]ros\b(?!/)', path.read_text(encoding='utf-8'))
    ]
    assert found == []


@pytest.mark.parametrize(('here', 'expected'), [(True, '".[train]"'), (False, f'"{ROOT}[train]"')])
def test_the_hint_for_an_extra_is_a_command_that_works(tmp_path, monkeypatch, here, expected):
    monkeypatch.chdir(ROOT if here else tmp_path)
    assert how_to_install('train') == f'pip install {expected}'


def test_requirements_name_what_the_library_imports():
    lines = (ROOT / 'requirements' / 'runtime.in').read_text().splitlines()
    declared = {re.split('[<>=]', line)[0] for line in lines if not line.startswith('#')}
    modules = {'opencv-python-headless': 'cv2', 'pyyaml': 'yaml'}
    provided = {modules.get(name, name) for name in declared}
    package = ROOT / 'rmpe_ros'
    undeclared = {}
    for path in package.rglob('*.py'):
        if any(path.is_relative_to(package / folder) for folder in OUTSIDE_PIP):
            continue
        imported = top_level_imports(ast.parse(path.read_text()))
        missing = imported - {'rmpe_ros', '__future__', *sys.stdlib_module_names} - provided
        if missing:
            undeclared[path.relative_to(ROOT).as_posix()] = missing
    assert not undeclared


def test_package_xml_names_the_packages_of_cmake():
    package = package_xml()
    tags = ('depend', 'build_depend', 'buildtool_depend', 'test_depend')
    declared = {node.text for tag in tags for node in package.iter(tag)}
    found = set(re.findall(r'find_package\((\w+)', (ROOT / 'CMakeLists.txt').read_text()))
    assert found - {'Python3'} <= declared


INTERFACES = sorted([*(ROOT / 'msg').glob('*.msg'), *(ROOT / 'srv').glob('*.srv')])


@pytest.mark.parametrize('path', INTERFACES, ids=lambda path: path.stem)
def test_message_is_documented_and_built(path: Path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith('# ')
    fields = [line for line in lines if line and line != '---' and not line.startswith('#')]
    assert fields
    for field in fields:
        assert re.fullmatch(r'[\w/\[\]]+ \w+(=\d+)? +# .{10,}', field), f'undocumented: {field}'
    assert f'{path.parent.name}/{path.name}' in (ROOT / 'CMakeLists.txt').read_text()


@pytest.mark.ros
def test_built_messages_are_those_of_the_contract():
    from rmpe_ros.msg import Keypoint, PersonPose, PersonPoseArray, SkeletonInfo

    assert Keypoint.get_fields_and_field_types() == {
        'x': 'float',
        'y': 'float',
        'score': 'float',
        'covariance': 'float[3]',
        'position': 'geometry_msgs/Point',
    }
    assert PersonPose.get_fields_and_field_types() == {
        'track_id': 'int32',
        'score': 'float',
        'box': 'float[4]',
        'colours': 'float[6]',
        'keypoints': 'sequence<rmpe_ros/Keypoint>',
    }
    assert list(PersonPoseArray.get_fields_and_field_types()) == [
        *('header', 'skeleton', 'image_width', 'image_height', 'people'),
        *('detector_ms', 'pose_ms', 'nms_ms', 'total_ms'),
    ]
    assert SkeletonInfo.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'name': 'string',
        'keypoint_names': 'sequence<string>',
        'edges': 'sequence<uint16>',
        'flip_pairs': 'sequence<uint16>',
        'sigmas': 'sequence<float>',
    }


@pytest.mark.slow
def test_wheel_brings_library_models_and_command(tmp_path: Path):
    """`pip install .` from the source distribution, used from another folder without ROS."""
    build = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob('*.whl')
    environment = tmp_path / 'environment'
    venv.create(environment, with_pip=False)
    site = next(environment.glob('lib/python3*/site-packages'))
    pip = [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--ignore-installed']
    pip += ['--no-compile', '--prefix', str(environment), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # The dependencies are those of this environment: what is tested is what the wheel brings.
    outer = {path for path in sys.path if path.endswith('site-packages') and '.venv' in path}
    (site / 'outer.pth').write_text('\n'.join(sorted(outer)))
    clean = {'PATH': '/usr/bin:/bin', '_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1'}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=tmp_path, env=clean
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    python = str(environment / 'bin' / 'python')
    assert rmpe_ros.__version__ in run(python, str(environment / 'bin' / 'rmpe'), '--version')
    models = sorted((ROOT / 'models').glob('*.onnx'))
    names = [model.stem for model in models]
    code = (
        'import rmpe_ros; from rmpe_ros.engines.example_pictures import example_photo; '
        'from rmpe_ros.io.bags.message_types import message_folder; '
        'from rmpe_ros.models import find_model; assert example_photo().size; '
        f'print(rmpe_ros.__file__, message_folder({{}}), *map(find_model, {names}), sep="\\n")'
    )
    files = [Path(line) for line in run(python, '-c', code).splitlines()]
    assert all(each.is_relative_to(environment) for each in files)
    for model, found in zip(models, files[2:], strict=True):
        assert found.read_bytes() == model.read_bytes()
