# SPDX-License-Identifier: Apache-2.0
"""Several cameras through one pose_node: each its own poses, the pose network shared.

    ros2 launch rmpe_ros multi_camera.launch.py cameras:=front,rear image_topic:=color/image_raw
    ros2 launch rmpe_ros multi_camera.launch.py --show-args

For a camera `front` the image `front/<image_topic>` becomes `front/poses` and `front/skeleton`.
Works from ROS 2 Humble on. Arguments left empty are taken from `params_file`.
"""

import os

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

BOOLEAN = ['true', 'false', 'True', 'False']


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; start_processes() decides what runs, once their values are known."""
    share = FindPackageShare('rmpe_ros')
    return LaunchDescription([
        DeclareLaunchArgument(
            'cameras', default_value='front,rear',
            description='Names of the cameras, separated by commas; each is also a namespace.'),
        DeclareLaunchArgument(
            'image_topic', default_value='image_raw',
            description='Topic of the images in the namespace of each camera; camera_info is '
                        'expected next to it.'),
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of everything, for example the name of the robot.'),
        DeclareLaunchArgument(
            'params_file', default_value=[share, '/config/rmpe.yaml'],
            description='YAML file with the parameters of the nodes.'),
        DeclareLaunchArgument(
            'detector', default_value='',
            description='Person detector: the name of a shipped model or a path to an ONNX file. '
                        'Empty: as in params_file.'),
        DeclareLaunchArgument(
            'pose_model', default_value='',
            description='Pose network: the name of a shipped model or a path to an ONNX file. '
                        'Empty: as in params_file.'),
        DeclareLaunchArgument(
            'compressed', default_value='', choices=['', *BOOLEAN],
            description='Subscribe to <image_topic>/compressed (CompressedImage). '
                        'Empty: as in params_file.'),
        DeclareLaunchArgument(
            'visualizer', default_value='false', choices=BOOLEAN,
            description='Start a visualizer_node for each camera: the picture with skeletons on '
                        '<camera>/poses/image, markers on <camera>/poses/markers.'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='', choices=['', *BOOLEAN],
            description='Take the time from /clock, as for a bag. Empty: as in params_file.'),
        DeclareLaunchArgument(
            'log_level', default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='Least severe log messages of the nodes that are shown.'),
        DeclareLaunchArgument(
            'shared_memory', default_value='true', choices=BOOLEAN,
            description='Give Fast DDS the profile config/fastdds_shared_memory.xml, which makes '
                        'images several times faster; a profile set in the environment is kept.'),
        OpaqueFunction(function=start_processes, args=[share]),
    ])  # fmt: skip


def start_processes(context: LaunchContext, share: FindPackageShare) -> list[Action]:
    """Return the actions that the values of the arguments ask for."""
    arguments = context.launch_configurations
    cameras = [name.strip(' /') for name in arguments['cameras'].split(',') if name.strip(' /')]
    if not cameras:
        raise ValueError('cameras must have at least one name, such as cameras:=front,rear')
    image_topic = arguments['image_topic'].removesuffix('/compressed').strip('/')
    if not os.path.isfile(arguments['params_file']):  # launch_ros would go on without it
        raise FileNotFoundError(f'there is no params_file {arguments["params_file"]}')

    def rmpe_node(
        executable: str, namespace: str, remappings: list, *fixed: dict, **parameters: type
    ) -> Node:
        return Node(
            package='rmpe_ros',
            executable=executable,
            namespace=namespace,
            parameters=[
                arguments['params_file'],
                overrides(arguments, **parameters, use_sim_time=bool),
                *fixed,
            ],
            remappings=remappings,
            ros_arguments=['--log-level', arguments['log_level']],
            output='screen',
        )

    actions: list[Action] = []
    if is_true(arguments['shared_memory']):
        profile = os.path.join(share.perform(context), 'config', 'fastdds_shared_memory.xml')
        actions += shared_memory(context, profile)
    # A launch file that includes this one may have pushed a namespace.
    namespace = full_name(arguments.get('ros_namespace', ''), arguments['namespace'])
    images = [(f'{name}/image_raw', f'{name}/{image_topic}') for name in cameras]
    names = {'cameras': cameras}
    actions.append(
        rmpe_node(
            'pose_node', namespace, images, names, detector=str, pose_model=str, compressed=bool
        )
    )
    if is_true(arguments['visualizer']):
        camera_info = '/'.join([*image_topic.split('/')[:-1], 'camera_info'])
        topics = [('image_raw', image_topic), ('camera_info', camera_info)]
        actions += [
            rmpe_node('visualizer_node', full_name(namespace, name), topics, compressed=bool)
            for name in cameras
        ]
    return actions


def shared_memory(context: LaunchContext, profile: str) -> list[Action]:
    """Set the profile for Fast DDS, under the name that the installed version reads."""
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
    if any(context.environment.get(name) for name in names):
        return []
    # Fast DDS 2 knows the second name only, and Fast DDS 3 (from Kilted on) warns about it.
    fast_dds_2 = context.environment.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    return [SetEnvironmentVariable(names[1] if fast_dds_2 else names[0], profile)]


def overrides(arguments: dict[str, str], **types: type) -> dict:
    """Return the node parameters, named as the arguments, of those arguments that are not empty."""
    return {
        name: is_true(value) if types[name] is bool else ParameterValue(value, value_type=str)
        for name, value in arguments.items()
        if name in types and value
    }


def full_name(namespace: str, name: str) -> str:
    """Return the absolute name of a topic or namespace that is given relative to `namespace`."""
    parts = name.split('/') if name.startswith('/') else f'{namespace}/{name}'.split('/')
    return '/' + '/'.join(part for part in parts if part)


def is_true(value: str) -> bool:
    """Whether the text of a boolean argument says yes."""
    return value.lower() == 'true'
