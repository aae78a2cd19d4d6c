# SPDX-License-Identifier: Apache-2.0
"""What a robot knows of the people around it: where they are, where they go, and how surely."""
