# SPDX-License-Identifier: Apache-2.0
"""What pose_node is made of: cameras, the thread that computes, requests."""
