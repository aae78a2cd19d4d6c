# SPDX-License-Identifier: Apache-2.0
"""`python -m rmpe_ros` is `rmpe`, for where no such command is on the PATH."""

import sys

from rmpe_ros.cli.main import main

sys.exit(main())
