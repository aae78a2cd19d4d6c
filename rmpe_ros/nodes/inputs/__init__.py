# SPDX-License-Identifier: Apache-2.0
"""What nodes listen to: images, poses, frames, and which of them belong together."""
