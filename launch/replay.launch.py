# SPDX-License-Identifier: Apache-2.0
"""Poses of the people in a recorded bag: `ros2 bag play` with /clock, and rmpe.launch.py on it.

    ros2 launch rmpe_ros replay.launch.py bag:=bags/walk image_topic:=/image_raw rviz:=true
    ros2 launch rmpe_ros replay.launch.py bag:=old image_topic:=/image_raw record:=true
    ros2 launch rmpe_ros replay.launch.py --show-args

All nodes take their time from the bag (use_sim_time). Only the images and camera_info are played,
so that poses which the bag may hold do not mix with the new ones. Everything ends with the bag.
Works from ROS 2 Humble on.
"""

import os

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.substitutions import FindPackageShare

from rmpe_ros.nodes.launching import BOOLEAN, beside, declare, is_true


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; start_processes() decides what runs, once their values are known."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'bag', default_value='',
            description='Bag to play: a folder with metadata.yaml, or a .mcap or .db3 file.'),
        DeclareLaunchArgument(
            'image_topic', default_value='/image_raw',
            description='Topic of the images in the bag; camera_info is expected next to it.'),
        DeclareLaunchArgument(
            'compressed', default_value='false', choices=BOOLEAN,
            description='The bag has <image_topic>/compressed (CompressedImage) instead.'),
        DeclareLaunchArgument(
            'rate', default_value='1.0',
            description='Speed of the replay: 0.5 is half as fast as it was recorded.'),
        DeclareLaunchArgument(
            'loop', default_value='false', choices=BOOLEAN,
            description='Play the bag again and again, until Ctrl-C.'),
        DeclareLaunchArgument(
            'delay', default_value='5.0',
            description='Seconds before the first image, in which the nodes load their models.'),
        *declare('params_file', 'visualizer', 'rviz', 'record', 'record_dir'),
        OpaqueFunction(function=start_processes),
    ])  # fmt: skip


def start_processes(context: LaunchContext) -> list[Action]:
    """Return the actions that the values of the arguments ask for."""
    arguments = context.launch_configurations
    bag = os.path.expanduser(arguments['bag'])
    if not bag or not os.path.exists(bag):
        raise FileNotFoundError(f'there is no bag {bag!r}; give one with bag:=path')
    image_topic = '/' + arguments['image_topic'].removesuffix('/compressed').strip('/')
    passed = ('compressed', 'params_file', 'visualizer', 'rviz', 'record', 'record_dir')
    share = FindPackageShare('rmpe_ros').perform(context)
    nodes = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'rmpe.launch.py')),
        launch_arguments=[
            ('image_topic', image_topic),
            ('use_sim_time', 'true'),
            *((name, arguments[name]) for name in passed),
        ],
    )
    image = f'{image_topic}/compressed' if is_true(arguments['compressed']) else image_topic
    command = ['ros2', 'bag', 'play', bag, '--clock', '100']
    command += ['--rate', arguments['rate'], '--delay', arguments['delay']]
    if is_true(arguments['loop']):
        command.append('--loop')
    command += ['--topics', image, beside(image_topic, 'camera_info')]
    play = ExecuteProcess(
        cmd=command,
        name='rosbag2_play',
        output='screen',
        on_exit=[EmitEvent(event=Shutdown(reason='the bag has ended'))],
    )
    return [nodes, play]
