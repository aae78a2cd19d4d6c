# SPDX-License-Identifier: Apache-2.0
"""How a node starts, is guarded, managed and ended."""
