# SPDX-License-Identifier: Apache-2.0
"""What needs neither ROS nor a network."""
