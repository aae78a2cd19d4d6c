# SPDX-License-Identifier: Apache-2.0
"""The zstd module: Python's own from 3.14 on, before that the backport that rosbags brings."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

__all__ = ['zstd']
