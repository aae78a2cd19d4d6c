# SPDX-License-Identifier: Apache-2.0
"""Limits that the nodes and the command line share."""

MAX_PEOPLE = 30
"""Of a picture: so many boxes get a pose, the best ones, which bounds its time."""
