# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: they move data between topics and the pipeline, and nothing else imports rclpy."""
