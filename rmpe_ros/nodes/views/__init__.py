# SPDX-License-Identifier: Apache-2.0
"""What people look at: markers for RViz, annotations for Foxglove, clouds of joints."""
