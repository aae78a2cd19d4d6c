# SPDX-License-Identifier: Apache-2.0
"""What poses are made of and what is done with them: numpy and OpenCV, nothing else."""
