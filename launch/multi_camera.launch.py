# SPDX-License-Identifier: Apache-2.0
"""Several cameras through one pose_node: each its own poses, the pose network shared.

    ros2 launch rmpe_ros multi_camera.launch.py cameras:=front,rear image_topic:=color/image_raw
    ros2 launch rmpe_ros multi_camera.launch.py --show-args

For a camera `front` the image `front/<image_topic>` becomes `front/poses` and `front/skeleton`.
Works from ROS 2 Humble on. Arguments left empty are taken from `params_file`.
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from rmpe_ros.nodes.launching import (
    beside,
    declare,
    full_name,
    is_true,
    rmpe_node,
    shared_memory_actions,
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; start_processes() decides what runs, once their values are known."""
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
        *declare(
            'params_file', 'detector', 'pose_model', 'compressed', 'visualizer', 'use_sim_time',
            'log_level', 'shared_memory'),
        OpaqueFunction(function=start_processes),
    ])  # fmt: skip


def start_processes(context: LaunchContext) -> list[Action]:
    """Return the actions that the values of the arguments ask for."""
    arguments = context.launch_configurations
    cameras = [name.strip(' /') for name in arguments['cameras'].split(',') if name.strip(' /')]
    if not cameras:
        raise ValueError('cameras must have at least one name, such as cameras:=front,rear')
    image_topic = arguments['image_topic'].removesuffix('/compressed').strip('/')
    # A launch file that includes this one may have pushed a namespace.
    namespace = full_name(arguments.get('ros_namespace', ''), arguments['namespace'])
    images = [(f'{name}/image_raw', f'{name}/{image_topic}') for name in cameras]
    names = {'cameras': cameras}
    actions = shared_memory_actions(context)
    actions.append(
        rmpe_node(
            'pose_node',
            arguments,
            namespace,
            images,
            names,
            detector=str,
            pose_model=str,
            compressed=bool,
        )
    )
    if is_true(arguments['visualizer']):
        topics = [('image_raw', image_topic), ('camera_info', beside(image_topic, 'camera_info'))]
        actions += [
            rmpe_node(
                'visualizer_node', arguments, full_name(namespace, name), topics, compressed=bool
            )
            for name in cameras
        ]
    return actions
