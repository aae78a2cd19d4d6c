# SPDX-License-Identifier: Apache-2.0
"""Bags of `ros2 bag`, written and read with rosbags: no ROS installation is needed."""
