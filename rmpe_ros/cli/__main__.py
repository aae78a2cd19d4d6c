# SPDX-License-Identifier: Apache-2.0
"""`python -m rmpe_ros.cli` is `rmpe`, for torchrun and the like."""

import sys

from rmpe_ros.cli.main import main

sys.exit(main())
