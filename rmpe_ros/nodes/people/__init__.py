# SPDX-License-Identifier: Apache-2.0
"""What people_node and hri_bridge_node make of people: messages of ours and of others."""
