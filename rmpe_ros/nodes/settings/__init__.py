# SPDX-License-Identifier: Apache-2.0
"""The parameters of all nodes: declared, checked and described in one table."""
