# SPDX-License-Identifier: Apache-2.0
"""Launch files, configuration and nodes name the same things.

The first half reads the files and needs no ROS. The second half starts the launch file for real,
with executables that write down how they were called, wherever `launch_ros` can be imported.
"""

import ast
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from rmpe_ros.nodes.settings.parameter_tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
RMPE_LAUNCH = ROOT / 'launch' / 'rmpe.launch.py'
MULTI_CAMERA_LAUNCH = ROOT / 'launch' / 'multi_camera.launch.py'
REPLAY_LAUNCH = ROOT / 'launch' / 'replay.launch.py'
LAUNCHING = ROOT / 'rmpe_ros' / 'nodes' / 'launching.py'
NODES = ('pose_node', 'visualizer_node', 'image_source_node', 'lift_node', 'people_node')


def calls(path: Path, function: str) -> list[ast.Call]:
    """Every call of the plain name `function` in the file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        node
        for node in nodes
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == function
    ]


def declared_arguments(path: Path) -> dict[str, dict[str, ast.expr]]:
    """Keywords of each DeclareLaunchArgument by the argument's name, shared ones included."""
    own = {
        ast.literal_eval(call.args[0]): {str(each.arg): each.value for each in call.keywords}
        for call in calls(path, 'DeclareLaunchArgument')
    }
    named = [ast.literal_eval(name) for call in calls(path, 'declare') for name in call.args]
    shared = shared_arguments()
    assert not set(own) & set(named)
    return own | {name: shared[name] for name in named}


def shared_arguments() -> dict[str, dict[str, ast.expr]]:
    """Keywords of the arguments in `launching.ARGUMENTS`."""
    table = next(
        node.value
        for node in ast.parse(LAUNCHING.read_text()).body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, 'id', '') == 'ARGUMENTS'
    )
    assert isinstance(table, ast.Dict)
    found = {}
    for name, options in zip(table.keys, table.values, strict=True):
        assert name is not None and isinstance(options, ast.Dict)
        keys = [ast.literal_eval(key) for key in options.keys if key is not None]
        found[ast.literal_eval(name)] = dict(zip(keys, options.values, strict=True))
    return found


def started_nodes(path: Path) -> dict[str, dict[str, str]]:
    """Parameters (name: Python type) that the launch file can set, by executable."""
    found = {}
    for call in ast.walk(ast.parse(path.read_text())):
        first = call.args[0] if isinstance(call, ast.Call) and call.args else None
        if isinstance(first, ast.Constant) and first.value in TABLES:
            found[first.value] = {str(each.arg): ast.unparse(each.value) for each in call.keywords}
    return found


def words(path: Path) -> list[str]:
    """All texts in a launch file, and the names that arguments of calls are given by."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    texts = [each.value for each in nodes if isinstance(each, ast.Constant)]
    return [str(each) for each in texts] + [
        str(each.arg) for each in nodes if isinstance(each, ast.keyword)
    ]


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_nothing_happens_when_a_launch_file_is_imported(path: Path) -> None:
    tree = ast.parse(path.read_text())
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign, ast.Expr)
    for statement in tree.body:
        assert isinstance(statement, allowed), f'line {statement.lineno} of {path.name}'
        if isinstance(statement, ast.Assign | ast.Expr):
            ast.literal_eval(statement.value)  # a constant or the docstring
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    assert not imported & {'subprocess', 'rclpy', 'rmpe_ros'}
    origins = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    ours = {name for name in origins if name and name.startswith('rmpe_ros')}
    assert ours == {'rmpe_ros.nodes.launching'}
    assert 'import rclpy' not in LAUNCHING.read_text()


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_arguments_have_a_default_and_a_description(path: Path) -> None:
    names = [ast.literal_eval(call.args[0]) for call in calls(path, 'DeclareLaunchArgument')]
    names += [ast.literal_eval(name) for call in calls(path, 'declare') for name in call.args]
    assert names and len(names) == len(set(names))
    for name, keywords in declared_arguments(path).items():
        assert 'default_value' in keywords, name
        assert len(ast.literal_eval(keywords['description'])) > 20, name


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_used(path: Path) -> None:
    found = words(path) + words(LAUNCHING)
    assert [name for name in declared_arguments(path) if found.count(name) < 2] == []


def test_what_replay_and_the_nodes_share_is_called_alike() -> None:
    shared = set(declared_arguments(REPLAY_LAUNCH)) & set(declared_arguments(RMPE_LAUNCH))
    assert shared >= {
        *('image_topic', 'compressed', 'params_file'),
        *('visualizer', 'rviz', 'record', 'record_dir'),
    }


def test_the_cameras_of_the_launch_file_are_a_parameter() -> None:
    for node, parameters in started_nodes(MULTI_CAMERA_LAUNCH).items():
        declared = {parameter.name: parameter.type_name for parameter in TABLES[node]}
        for name, type_ in parameters.items():
            assert declared.get(name) == {'str': 'string', 'bool': 'bool'}[type_], f'{node}: {name}'
    types = {parameter.name: parameter.type_name for parameter in TABLES['pose_node']}
    assert types['cameras'] == 'string[]'


def test_arguments_for_parameters_fit_the_declared_parameters() -> None:
    started = started_nodes(RMPE_LAUNCH)
    assert set(started) == set(NODES) <= set(TABLES)
    for node, parameters in started.items():
        declared = {parameter.name: parameter.type_name for parameter in TABLES[node]}
        for name, type_ in parameters.items():
            assert declared.get(name) == {'str': 'string', 'bool': 'bool'}[type_], f'{node}: {name}'
    assert "'wait_for_subscribers'" in RMPE_LAUNCH.read_text()
    sources = {parameter.name: parameter.type_name for parameter in TABLES['image_source_node']}
    assert sources['wait_for_subscribers'] == 'int'


def test_executables_exist_and_are_installed() -> None:
    installed = dict(
        re.findall(r'install_executable\((\w+) ([\w.]+)\)', (ROOT / 'CMakeLists.txt').read_text())
    )
    for executable in started_nodes(RMPE_LAUNCH):
        module = ROOT / (installed[executable].replace('.', '/') + '.py')
        assert module.is_file(), f'{executable} runs {module}'
        assert 'main' in {
            node.name
            for node in ast.parse(module.read_text()).body
            if isinstance(node, ast.FunctionDef)
        }


def test_config_files_exist() -> None:
    texts = RMPE_LAUNCH.read_text() + LAUNCHING.read_text()
    named = re.findall(r'[\w-]+\.(?:yaml|xml|rviz)\b', texts)
    assert {'rmpe.yaml', 'rmpe.rviz', 'fastdds_shared_memory.xml'} <= set(named)
    for name in named:
        assert (ROOT / 'config' / name).is_file(), name


def test_rviz_shows_what_the_nodes_publish_and_the_launch_file_remaps() -> None:
    rviz = yaml.safe_load((ROOT / 'config' / 'rmpe.rviz').read_text())['Visualization Manager']
    shown = {each['Topic']['Value'] for each in rviz['Displays'] if 'Topic' in each}
    assert shown <= {f'/{word}' for word in words(RMPE_LAUNCH)}
    nodes = ('visualizer_node', 'people_node')
    source = ''.join((ROOT / 'rmpe_ros' / 'nodes' / f'{each}.py').read_text() for each in nodes)
    for topic in shown:
        assert f"'{topic[1:]}'" in source, topic
    frame = next(each for each in TABLES['image_source_node'] if each.name == 'frame_id').default
    assert rviz['Global Options']['Fixed Frame'] == frame
    assert ast.literal_eval(declared_arguments(RMPE_LAUNCH)['rviz_frame']['default_value']) == frame


def test_shared_memory_profile_is_the_default_and_keeps_udp_for_other_machines() -> None:
    space = '{http://www.eprosima.com}'
    root = ElementTree.parse(ROOT / 'config' / 'fastdds_shared_memory.xml').getroot()
    transports = {}
    for each in root.iter(f'{space}transport_descriptor'):
        fields = {child.tag.removeprefix(space): child.text or '' for child in each}
        transports[fields['transport_id']] = fields
    assert {each['type'] for each in transports.values()} == {'SHM', 'UDPv4'}
    (segment,) = (
        int(each['segment_size']) for each in transports.values() if each['type'] == 'SHM'
    )
    assert segment >= 5 * 1920 * 1080 * 3  # five full-HD pictures under way
    (participant,) = root.iter(f'{space}participant')
    assert participant.get('is_default_profile') == 'true'
    used = participant.find(f'{space}rtps/{space}userTransports')
    assert used is not None and [each.text for each in used] == list(transports)
    assert participant.findtext(f'{space}rtps/{space}useBuiltinTransports') == 'false'


# ---- the launch file started for real ------------------------------------------------------------

needs_launch = pytest.mark.skipif(
    find_spec('launch_ros') is None, reason='needs a ROS 2 with launch_ros (not on PyPI)'
)
RECORDER = """#!{python}
import json, os, pathlib, sys, time
environment = {{name: value for name, value in os.environ.items() if 'PROFILES_FILE' in name}}
called = {{'arguments': sys.argv[1:], 'environment': environment}}
parameters = [sys.argv[i + 1] for i, text in enumerate(sys.argv) if text == '--params-file']
called['parameters'] = [pathlib.Path(each).read_text() for each in parameters]
folder = pathlib.Path({folder!r})
file = folder / (os.path.basename(sys.argv[0]) + '.' + str(os.getpid()) + '.json')
file.with_suffix('.part').write_text(json.dumps(called))
file.with_suffix('.part').rename(file)
if 'play' in sys.argv:  # its end is the end of all others
    deadline = time.monotonic() + 20
    while not list(folder.glob('pose_node.*.json')) and time.monotonic() < deadline:
        time.sleep(0.05)
"""
RUNNER = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace
path, pushed, *given = sys.argv[1:]
arguments = [tuple(each.split(':=', 1)) for each in given]
include = IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=arguments)
service = LaunchService()
entities = [PushRosNamespace(pushed), include] if pushed else [include]
service.include_launch_description(LaunchDescription(entities))
sys.exit(service.run())
"""
LaunchAll = Callable[..., list[tuple[str, dict]]]
Launch = Callable[..., dict[str, dict]]


@pytest.fixture
def launch_all(tmp_path: Path) -> LaunchAll:
    """Run a launch file with arguments and return every executable called, and how."""
    prefix, calls_folder = tmp_path / 'prefix', tmp_path / 'calls'
    calls_folder.mkdir()
    for package, executables in {'rmpe_ros': NODES, 'rviz2': ('rviz2',)}.items():
        marker = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        (prefix / 'share' / package).mkdir()
        for name in executables:
            write_recorder(prefix / 'lib' / package / name, calls_folder)
    for folder in ('config', 'launch'):
        (prefix / 'share' / 'rmpe_ros' / folder).symlink_to(ROOT / folder)
    write_recorder(prefix / 'bin' / 'ros2', calls_folder)

    def run(
        path: Path, *arguments: str, pushed: str = '', **environment: str
    ) -> list[tuple[str, dict]]:
        env = {name: value for name, value in os.environ.items() if 'PROFILES_FILE' not in name}
        env['AMENT_PREFIX_PATH'] = f'{prefix}:{env.get("AMENT_PREFIX_PATH", "")}'
        env['PATH'] = f'{prefix / "bin"}:{env["PATH"]}'
        env['ROS_LOG_DIR'] = str(tmp_path / 'log')
        command = [sys.executable, '-c', RUNNER, str(path), pushed, *arguments]
        done = subprocess.run(
            command, env={**env, **environment}, cwd=tmp_path, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        files = sorted(calls_folder.glob('*.json'))
        called = [(each.name.split('.')[0], json.loads(each.read_text())) for each in files]
        for each in calls_folder.iterdir():
            each.unlink()
        return called

    return run


@pytest.fixture
def launch(launch_all: LaunchAll) -> Launch:
    """Run rmpe.launch.py; each executable is called once."""

    def run(*arguments: str, pushed: str = '', **environment: str) -> dict[str, dict]:
        called = launch_all(RMPE_LAUNCH, *arguments, pushed=pushed, **environment)
        assert len(dict(called)) == len(called)
        return dict(called)

    return run


def write_recorder(path: Path, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RECORDER.format(python=sys.executable, folder=str(folder)))
    path.chmod(0o755)


def remappings(called: dict) -> dict[str, str]:
    return dict(each.split(':=', 1) for each in called['arguments'] if ':=' in each)


def set_parameters(called: dict) -> dict:
    """The parameters set on top of params_file, which comes first."""
    # launch_ros marks lists as Python's tuples, which ROS does not mind.
    texts = [text.replace('!!python/tuple', '') for text in called['parameters'][1:]]
    files = [yaml.safe_load(text) for text in texts]
    return {
        k: v for file in files for node in file.values() for k, v in node['ros__parameters'].items()
    }


@needs_launch
def test_without_arguments_only_the_pose_node_runs_with_the_shipped_parameters(
    launch: Launch,
) -> None:
    called = launch()
    assert set(called) == {'pose_node'}
    assert called['pose_node']['parameters'][0] == (ROOT / 'config' / 'rmpe.yaml').read_text()
    assert set_parameters(called['pose_node']) == {}
    assert remappings(called['pose_node'])['image_raw'] == 'image_raw'


@needs_launch
def test_all_arguments_reach_their_nodes(launch: Launch, tmp_path: Path) -> None:
    parameters = tmp_path / 'own.yaml'
    parameters.write_text('/**:\n  ros__parameters: {max_people: 3}\n')
    called = launch(
        'namespace:=front', 'image_topic:=color/image', f'params_file:={parameters}',
        'detector:=1.5', 'pose_model:=standard', 'compressed:=true', 'source:=a b.jpg',
        'rviz:=True', 'rviz_frame:=map', 'use_sim_time:=true', 'log_level:=debug',
        'depth_topic:=depth/image', 'people:=true',
    )  # fmt: skip
    assert set(called) == {*NODES, 'rviz2'}
    for node in NODES:
        assert called[node]['parameters'][0] == parameters.read_text()
        names = remappings(called[node])
        assert names['__ns'] == '/front'
        assert names['image_raw'] == 'color/image'
        assert names['camera_info'] == 'color/camera_info'
        assert called[node]['arguments'][1:3] == ['--log-level', 'debug']
    shared = {'compressed': True, 'use_sim_time': True}
    models = {'detector': '1.5', 'pose_model': 'standard'}
    assert set_parameters(called['pose_node']) == {**models, **shared}
    assert set_parameters(called['visualizer_node']) == shared
    source = {'source': 'a b.jpg', 'wait_for_subscribers': 2}
    assert set_parameters(called['image_source_node']) == {**source, **shared}
    assert set_parameters(called['lift_node']) == {'use_sim_time': True}
    assert remappings(called['lift_node'])['depth'] == 'depth/image'
    assert set_parameters(called['people_node']) == {'source': 'poses_3d', 'use_sim_time': True}
    assert called['rviz2']['arguments'][::2][:2] == ['-d', '-f']
    config, frame = called['rviz2']['arguments'][1:4:2]
    assert (Path(config).resolve(), frame) == (ROOT / 'config' / 'rmpe.rviz', 'map')
    assert remappings(called['rviz2'])['/poses/image'] == '/front/poses/image'


@needs_launch
@pytest.mark.parametrize(
    ('pushed', 'arguments', 'bag', 'topics'),
    [
        ('', [], 'rmpe', ['/image_raw', '/camera_info', '/poses', '/skeleton']),
        (
            '',
            ['namespace:=/front/', 'image_topic:=color/image'],
            'rmpe_front',
            ['/front/color/image', '/front/color/camera_info', '/front/poses', '/front/skeleton'],
        ),
        (
            '',
            ['depth_topic:=/depth'],
            'rmpe',
            ['/image_raw', '/camera_info', '/poses', '/skeleton', '/depth', '/poses_3d'],
        ),
        (
            'robot',
            ['namespace:=left', 'image_topic:=/cam/image/compressed', 'compressed:=true'],
            'rmpe_robot_left',
            [
                '/cam/image/compressed',
                '/cam/camera_info',
                '/robot/left/poses',
                '/robot/left/skeleton',
            ],
        ),
    ],
)
def test_record_names_the_topics_in_full(
    launch: Launch, tmp_path: Path, pushed: str, arguments: list[str], bag: str, topics: list[str]
) -> None:
    called = launch('record:=true', f'record_dir:={tmp_path}/bags', *arguments, pushed=pushed)
    command = called['ros2']['arguments']
    assert command[:4] == ['bag', 'record', '--storage', 'mcap']
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert set(options) == {'--output', '--regex'}
    assert re.fullmatch(rf'{tmp_path}/bags/{bag}_20\d\d-[\d_-]+', options['--output'])
    assert options['--regex'] == f'^({"|".join(topics)})$'
    assert topics[2] == remappings(called['pose_node'])['__ns'].rstrip('/') + '/poses'


@needs_launch
@pytest.mark.parametrize(
    ('distro', 'name'),
    [
        ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
        ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
        ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'),
    ],
)
def test_shared_memory_profile_is_set_unless_there_is_one(
    launch: Launch, distro: str, name: str
) -> None:
    environment = launch(ROS_DISTRO=distro)['pose_node']['environment']
    assert set(environment) == {name}
    assert Path(environment[name]).resolve() == ROOT / 'config' / 'fastdds_shared_memory.xml'
    assert launch('shared_memory:=false', ROS_DISTRO=distro)['pose_node']['environment'] == {}
    for own in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        kept = launch(ROS_DISTRO=distro, **{own: '/mine.xml'})['pose_node']['environment']
        assert kept == {own: '/mine.xml'}


@needs_launch
def test_a_value_that_is_no_choice_is_refused(launch: Launch) -> None:
    with pytest.raises(AssertionError, match='"visualizer" provided value "maybe" is not valid'):
        launch('visualizer:=maybe')


@needs_launch
def test_a_parameters_file_that_does_not_exist_stops_the_launch(launch: Launch) -> None:
    with pytest.raises(AssertionError, match=r'there is no params_file /nowhere\.yaml'):
        launch('params_file:=/nowhere.yaml')


@needs_launch
def test_several_cameras_share_a_pose_node(launch_all: LaunchAll) -> None:
    called = launch_all(
        MULTI_CAMERA_LAUNCH, 'cameras:=front, rear/left', 'image_topic:=color/image',
        'namespace:=robot', 'visualizer:=true', 'detector:=1.5', pushed='site',
    )  # fmt: skip
    names = [name for name, _ in called]
    assert sorted(names) == ['pose_node', 'visualizer_node', 'visualizer_node']
    pose_node = dict(called)['pose_node']
    assert set_parameters(pose_node) == {'cameras': ['front', 'rear/left'], 'detector': '1.5'}
    assert remappings(pose_node) == {
        '__ns': '/site/robot',
        'front/image_raw': 'front/color/image',
        'rear/left/image_raw': 'rear/left/color/image',
    }
    viewers = {
        remappings(each)['__ns']: remappings(each)
        for name, each in called
        if name == 'visualizer_node'
    }
    assert set(viewers) == {'/site/robot/front', '/site/robot/rear/left'}
    for names_of_topics in viewers.values():
        assert names_of_topics['image_raw'] == 'color/image'
        assert names_of_topics['camera_info'] == 'color/camera_info'
    with pytest.raises(AssertionError, match='cameras must have at least one name'):
        launch_all(MULTI_CAMERA_LAUNCH, 'cameras:=, ')


@needs_launch
def test_a_bag_is_played_into_nodes_that_follow_its_time(
    launch_all: LaunchAll, tmp_path: Path
) -> None:
    bag = tmp_path / 'bag'
    bag.mkdir()
    called = launch_all(
        REPLAY_LAUNCH, f'bag:={bag}', 'image_topic:=cam/image', 'compressed:=true', 'rate:=0.5',
        'loop:=true', 'record:=true', f'record_dir:={tmp_path}/bags',
    )  # fmt: skip
    ros2 = {each['arguments'][1]: each['arguments'] for name, each in called if name == 'ros2'}
    assert ros2['play'][2:] == [
        *(str(bag), '--clock', '100', '--rate', '0.5', '--delay', '5.0', '--loop'),
        *('--topics', '/cam/image/compressed', '/cam/camera_info'),
    ]
    assert '--use-sim-time' in ros2['record']
    assert '/cam/image/compressed' in ros2['record'][-2]
    pose_node = dict(called)['pose_node']
    assert set_parameters(pose_node) == {'compressed': True, 'use_sim_time': True}
    assert remappings(pose_node)['image_raw'] == '/cam/image'
    with pytest.raises(AssertionError, match='there is no bag'):
        launch_all(REPLAY_LAUNCH, 'bag:=/nowhere')
