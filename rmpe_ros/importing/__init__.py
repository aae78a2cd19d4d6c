# SPDX-License-Identifier: Apache-2.0
"""Makes models by this package's contracts out of other people's networks (`rmpe import`)."""
