# SPDX-License-Identifier: Apache-2.0
"""What a node tells of itself: diagnostics, faults, debug topics."""
