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
    Shutdown,
)
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackagePrefix

from rmpe_ros.nodes.launching import (
    BOOLEAN,
    beside,
    config_file,
    declare,
    full_name,
    is_true,
    overrides,
    rmpe_node,
    shared_memory_actions,
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; start_processes() decides what runs, once their values are known."""
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
            'source', default_value='',
            description='Photo, folder, video file or webcam (webcam:0) to publish on image_topic. '
                        'Empty: images come from elsewhere, such as a camera driver or a bag.'),
        DeclareLaunchArgument(
            'rviz_frame', default_value='camera_optical_frame',
            description='Fixed frame of RViz: the frame_id of the images, or one TF links to it.'),
        DeclareLaunchArgument(
            'build_only', default_value='false', choices=BOOLEAN,
            description='Start nothing: compile the TensorRT engines of detector and pose_model '
                        '(of all shipped models when both are empty) and exit.'),
        *declare(
            'params_file', 'detector', 'pose_model', 'compressed', 'visualizer', 'rviz', 'record',
            'record_dir', 'use_sim_time', 'log_level', 'shared_memory'),
        OpaqueFunction(function=start_processes),
    ])  # fmt: skip


def start_processes(context: LaunchContext) -> list[Action]:
    """Return the actions that the values of the arguments ask for."""
    arguments = context.launch_configurations
    if is_true(arguments['build_only']):
        return build_engines(context, arguments)
    # A launch file that includes this one may have pushed a namespace.
    namespace = full_name(arguments.get('ros_namespace', ''), arguments['namespace'])
    image_topic = arguments['image_topic'].removesuffix('/compressed')
    depth_topic = arguments['depth_topic']
    camera_info = beside(image_topic, 'camera_info')
    visualizer = is_true(arguments['visualizer']) or is_true(arguments['rviz'])
    topics = [('image_raw', image_topic), ('camera_info', camera_info)]

    def node(executable: str, fixed: dict | None = None, **parameters: type) -> Node:
        extra = [('depth', depth_topic)] if executable == 'lift_node' else []
        return rmpe_node(executable, arguments, namespace, topics + extra, fixed, **parameters)

    actions = shared_memory_actions(context)
    actions.append(node('pose_node', detector=str, pose_model=str, compressed=bool))
    if visualizer:
        actions.append(node('visualizer_node', compressed=bool))
    if depth_topic:
        actions.append(node('lift_node'))
    if is_true(arguments['people']):
        taken = {'source': 'poses_3d' if depth_topic else 'poses'}
        actions.append(node('people_node', taken))
    if arguments['source']:
        # Photos that were published before everybody was there would be missing in the end.
        viewers = {'wait_for_subscribers': 1 + visualizer + is_true(arguments['record'])}
        actions.append(node('image_source_node', viewers, source=str, compressed=bool))
    if is_true(arguments['rviz']):
        displays = ['poses/image', 'poses/markers', 'poses_3d/markers', 'people/markers']
        rviz = Node(
            package='rviz2',
            executable='rviz2',
            parameters=[overrides(arguments, use_sim_time=bool)],
            arguments=['-d', config_file(context, 'rmpe.rviz'), '-f', arguments['rviz_frame']],
            remappings=[(f'/{topic}', full_name(namespace, topic)) for topic in displays],
        )
        actions.append(rviz)
    if is_true(arguments['record']):
        image = f'{image_topic}/compressed' if is_true(arguments['compressed']) else image_topic
        recorded = [image, camera_info, 'poses', 'skeleton']
        recorded += [depth_topic, 'poses_3d'] if depth_topic else []
        recorded += ['people'] if is_true(arguments['people']) else []
        actions += record(arguments, namespace, recorded)
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
