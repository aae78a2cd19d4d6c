# SPDX-License-Identifier: Apache-2.0
"""What starts other processes: nodes for the demo and for measurements."""
