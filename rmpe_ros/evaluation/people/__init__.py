# SPDX-License-Identifier: Apache-2.0
"""Simulated rooms with people, and how well they are placed and followed."""
