# SPDX-License-Identifier: Apache-2.0
"""Poses of the people one camera sees: pose_node and, as asked, visualizer, RViz, source and bag.

    ros2 launch rmpe_ros rmpe.launch.py image_topic:=/camera/color/image_raw rviz:=true
    ros2 launch rmpe_ros rmpe.launch.py source:=/path/to/photos visualizer:=true record:=true
    ros2 launch rmpe_ros rmpe.launch.py --show-args

Works from ROS 2 Humble on. Arguments left empty are taken from `params_file`.
"""

import os
import re
from datetime import datetime

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

BOOLEAN = ['true', 'false', 'True', 'False']


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; start_processes() decides what runs, once their values are known."""
    share = FindPackageShare('rmpe_ros')
    return LaunchDescription([
        DeclareLaunchArgument(
            'image_topic', default_value='image_raw',
            description='Topic of the camera image, in the namespace unless it begins with "/"; '
                        'camera_info is expected next to it.'),
        DeclareLaunchArgument(
            'depth_topic', default_value='',
            description='Topic of the depth image registered to the image: starts lift_node, which '
                        'publishes poses_3d. Empty: no positions in space.'),
        DeclareLaunchArgument(
            'people', default_value='false', choices=BOOLEAN,
            description='Start people_node, which publishes people: place, velocity and heading in '
                        'space, from depth_topic if there is one, else from the camera alone.'),
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of all nodes, for example the name of the camera.'),
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
            'source', default_value='',
            description='Photo, folder, video file or webcam (webcam:0) to publish on image_topic. '
                        'Empty: images come from elsewhere, such as a camera driver or a bag.'),
        DeclareLaunchArgument(
            'visualizer', default_value='false', choices=BOOLEAN,
            description='Start visualizer_node: the picture with skeletons on poses/image, '
                        'markers on poses/markers.'),
        DeclareLaunchArgument(
            'rviz', default_value='false', choices=BOOLEAN,
            description='Start RViz with config/rmpe.rviz, and the visualizer_node that it needs.'),
        DeclareLaunchArgument(
            'rviz_frame', default_value='camera_optical_frame',
            description='Fixed frame of RViz: the frame_id of the images, or one TF links to it.'),
        DeclareLaunchArgument(
            'record', default_value='false', choices=BOOLEAN,
            description='Record image, camera_info, poses and skeleton into an mcap bag with '
                        '`ros2 bag record`; the compressed image with compressed:=true.'),
        DeclareLaunchArgument(
            'record_dir', default_value='bags',
            description='Folder in which each recording makes its own, '
                        'rmpe_<namespace>_<date>_<time>.'),
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
        DeclareLaunchArgument(
            'build_only', default_value='false', choices=BOOLEAN,
            description='Start nothing: compile the TensorRT engines of detector and pose_model '
                        '(of all shipped models when both are empty) and exit.'),
        OpaqueFunction(function=start_processes, args=[share]),
    ])  # fmt: skip


def start_processes(context: LaunchContext, share: FindPackageShare) -> list[Action]:
    """Return the actions that the values of the arguments ask for."""
    arguments = context.launch_configurations
    if is_true(arguments['build_only']):
        return build_engines(context, arguments)
    config = os.path.join(share.perform(context), 'config')
    # A launch file that includes this one may have pushed a namespace.
    namespace = full_name(arguments.get('ros_namespace', ''), arguments['namespace'])
    image_topic = arguments['image_topic'].removesuffix('/compressed')
    depth_topic = arguments['depth_topic']
    camera_info = '/'.join([*image_topic.split('/')[:-1], 'camera_info'])
    visualizer = is_true(arguments['visualizer']) or is_true(arguments['rviz'])
    if not os.path.isfile(arguments['params_file']):  # launch_ros would go on without it
        raise FileNotFoundError(f'there is no params_file {arguments["params_file"]}')

    def rmpe_node(executable: str, *fixed: dict, **parameters: type) -> Node:
        return Node(
            package='rmpe_ros',
            executable=executable,
            namespace=namespace,
            parameters=[
                arguments['params_file'],
                overrides(arguments, **parameters, use_sim_time=bool),
                *fixed,
            ],
            remappings=[
                ('image_raw', image_topic),
                ('camera_info', camera_info),
                *([('depth', depth_topic)] if executable == 'lift_node' else []),
            ],
            ros_arguments=['--log-level', arguments['log_level']],
            output='screen',
        )

    actions: list[Action] = []
    if is_true(arguments['shared_memory']):
        actions += shared_memory(context, os.path.join(config, 'fastdds_shared_memory.xml'))
    actions.append(rmpe_node('pose_node', detector=str, pose_model=str, compressed=bool))
    if visualizer:
        actions.append(rmpe_node('visualizer_node', compressed=bool))
    if depth_topic:
        actions.append(rmpe_node('lift_node'))
    if is_true(arguments['people']):
        taken = {'source': 'poses_3d' if depth_topic else 'poses'}
        actions.append(rmpe_node('people_node', taken))
    if arguments['source']:
        # Photos that were published before everybody was there would be missing in the end.
        viewers = {'wait_for_subscribers': 1 + visualizer + is_true(arguments['record'])}
        actions.append(rmpe_node('image_source_node', viewers, source=str, compressed=bool))
    if is_true(arguments['rviz']):
        displays = ['poses/image', 'poses/markers', 'poses_3d/markers', 'people/markers']
        rviz = Node(
            package='rviz2',
            executable='rviz2',
            parameters=[overrides(arguments, use_sim_time=bool)],
            arguments=['-d', os.path.join(config, 'rmpe.rviz'), '-f', arguments['rviz_frame']],
            remappings=[(f'/{topic}', full_name(namespace, topic)) for topic in displays],
        )
        actions.append(rviz)
    if is_true(arguments['record']):
        image = f'{image_topic}/compressed' if is_true(arguments['compressed']) else image_topic
        topics = [image, camera_info, 'poses', 'skeleton']
        topics += [depth_topic, 'poses_3d'] if depth_topic else []
        topics += ['people'] if is_true(arguments['people']) else []
        actions += record(arguments, namespace, topics)
    return actions


def build_engines(context: LaunchContext, arguments: dict[str, str]) -> list[Action]:
    """Compile the models once, so that no node has to wait for it, and end the launch."""
    rmpe = os.path.join(FindPackagePrefix('rmpe_ros').perform(context), 'lib', 'rmpe_ros', 'rmpe')
    models = [arguments[name] for name in ('detector', 'pose_model') if arguments[name]]
    ended = Shutdown(reason='rmpe compile has ended')
    command = [rmpe, 'compile', *models]
    return [ExecuteProcess(cmd=command, name='rmpe', output='screen', on_exit=ended)]


def record(arguments: dict[str, str], namespace: str, topics: list[str]) -> list[Action]:
    """Write the topics of a namespace into a new bag."""
    name = '_'.join(['rmpe', *namespace.split('/'), f'{datetime.now():%Y-%m-%d_%H-%M-%S}'])
    bag = os.path.join(os.path.expanduser(arguments['record_dir']), re.sub('_+', '_', name))
    topics = [full_name(namespace, topic) for topic in topics]
    command = ['ros2', 'bag', 'record', '--storage', 'mcap', '--output', bag]
    # Topics are positional in Humble and follow --topics later; all take a regular expression.
    command += ['--regex', f'^({"|".join(topics)})$']
    if is_true(arguments['use_sim_time']):
        command.append('--use-sim-time')
    return [
        LogInfo(msg=f'Recording {", ".join(topics)} into {bag}'),
        ExecuteProcess(cmd=command, name='rosbag2', output='screen'),
    ]


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
