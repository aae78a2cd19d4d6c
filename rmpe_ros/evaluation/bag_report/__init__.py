# SPDX-License-Identifier: Apache-2.0
"""A recorded bag as a page to look at: a player, lanes on one time axis, the worst frames."""
