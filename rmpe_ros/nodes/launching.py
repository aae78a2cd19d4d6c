# SPDX-License-Identifier: Apache-2.0
"""What the launch files share: arguments, how a node is started, the profile for shared memory."""

from __future__ import annotations

import os
from typing import Any

from launch import LaunchContext
from launch.action import Action
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from rmpe_ros.core.fast_dds_profile import PROFILE_VARIABLES, profile_variable

BOOLEAN = ['true', 'false', 'True', 'False']
ARGUMENTS: dict[str, dict[str, Any]] = {
    'params_file': {
        'default_value': [FindPackageShare('rmpe_ros'), '/config/rmpe.yaml'],
        'description': 'YAML file with the parameters of the nodes.',
    },
    'detector': {
        'default_value': '',
        'description': 'Person detector: the name of a shipped model or a path to an ONNX file. '
        'Empty: as in params_file.',
    },
    'pose_model': {
        'default_value': '',
        'description': 'Pose network: the name of a shipped model or a path to an ONNX file. '
        'Empty: as in params_file.',
    },
    'compressed': {
        'default_value': '',
        'choices': ['', *BOOLEAN],
        'description': 'Subscribe to <image_topic>/compressed (CompressedImage). '
        'Empty: as in params_file.',
    },
    'visualizer': {
        'default_value': 'false',
        'choices': BOOLEAN,
        'description': 'Start visualizer_node: the picture with skeletons on poses/image, markers '
        'on poses/markers; for several cameras one each, in its namespace.',
    },
    'rviz': {
        'default_value': 'false',
        'choices': BOOLEAN,
        'description': 'Start RViz with config/rmpe.rviz, and the visualizer_node that it needs.',
    },
    'record': {
        'default_value': 'false',
        'choices': BOOLEAN,
        'description': 'Record image, camera_info, poses and skeleton into an mcap bag with '
        '`ros2 bag record`; the compressed image with compressed:=true.',
    },
    'record_dir': {
        'default_value': 'bags',
        'description': 'Folder in which each recording makes its own, '
        'rmpe_<namespace>_<date>_<time>.',
    },
    'use_sim_time': {
        'default_value': '',
        'choices': ['', *BOOLEAN],
        'description': 'Take the time from /clock, as for a bag. Empty: as in params_file.',
    },
    'log_level': {
        'default_value': 'info',
        'choices': ['debug', 'info', 'warn', 'error', 'fatal'],
        'description': 'Least severe log messages of the nodes that are shown.',
    },
    'shared_memory': {
        'default_value': 'true',
        'choices': BOOLEAN,
        'description': 'Give Fast DDS the profile config/fastdds_shared_memory.xml, which makes '
        'images several times faster; a profile set in the environment is kept.',
    },
}


def declare(*names: str) -> list[DeclareLaunchArgument]:
    """The arguments of these names."""
    return [DeclareLaunchArgument(name, **ARGUMENTS[name]) for name in names]


def rmpe_node(
    executable: str,
    arguments: dict[str, str],
    namespace: str,
    remappings: list[tuple[str, str]],
    fixed: dict[str, Any] | None = None,
    **parameters: type,
) -> Node:
    """A node with params_file, on top of it the arguments in `parameters` (name: str or bool) that
    are not empty, and `fixed`. Raises FileNotFoundError where there is no such file.
    """
    if not os.path.isfile(arguments['params_file']):  # launch_ros would go on without it
        raise FileNotFoundError(f'there is no params_file {arguments["params_file"]}')
    return Node(
        package='rmpe_ros',
        executable=executable,
        namespace=namespace,
        parameters=[
            arguments['params_file'],
            overrides(arguments, **parameters, use_sim_time=bool),
            *([fixed] if fixed else []),
        ],
        remappings=remappings,
        ros_arguments=['--log-level', arguments['log_level']],
        output='screen',
    )


def overrides(arguments: dict[str, str], **types: type) -> dict[str, Any]:
    """The node parameters, named as the arguments, of those arguments that are not empty."""
    return {
        name: is_true(value) if types[name] is bool else ParameterValue(value, value_type=str)
        for name, value in arguments.items()
        if name in types and value
    }


def shared_memory_actions(context: LaunchContext) -> list[Action]:
    """Set the profile for Fast DDS where shared_memory says so, under the name that the installed
    version reads.
    """
    wanted = is_true(context.launch_configurations['shared_memory'])
    if not wanted or any(map(context.environment.get, PROFILE_VARIABLES)):
        return []
    # Fast DDS 2 knows the second name only, and Fast DDS 3 (from Kilted on) warns about it.
    profile = config_file(context, 'fastdds_shared_memory.xml')
    return [SetEnvironmentVariable(profile_variable(context.environment), profile)]


def config_file(context: LaunchContext, name: str) -> str:
    """A file in the package's folder config."""
    return os.path.join(FindPackageShare('rmpe_ros').perform(context), 'config', name)


def full_name(namespace: str, name: str) -> str:
    """The absolute name of a topic or namespace that is given relative to `namespace`."""
    parts = name.split('/') if name.startswith('/') else f'{namespace}/{name}'.split('/')
    return '/' + '/'.join(part for part in parts if part)


def beside(topic: str, name: str) -> str:
    """The topic `name` in the namespace of another."""
    return '/'.join([*topic.split('/')[:-1], name])


def is_true(value: str) -> bool:
    """Whether the text of a boolean argument says yes."""
    return value.lower() == 'true'
