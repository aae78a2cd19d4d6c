# SPDX-License-Identifier: Apache-2.0
"""Limits and defaults that the nodes and the command line share."""

MAX_PEOPLE = 30
"""Of a picture: so many boxes get a pose, the best ones, which bounds its time."""

DETECT_EVERY = 3
"""Of a video: people are detected in every such image, and followed in the others. Chosen by
measurement, see docs/speed.md."""
