# SPDX-License-Identifier: Apache-2.0
"""Where the package's own files (models, config, msg) lie, however it was installed."""

import os
from collections.abc import Mapping
from pathlib import Path


def share_folders(kind: str, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Where files of a `kind` ('models', 'config', 'msg') may lie: in the wheel, in the source
    tree, in the ROS installs that are there.
    """
    package = Path(__file__).resolve().parents[1]
    variable = environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    # An ament install has its Python in <prefix>/lib/pythonX.Y/site-packages/rmpe_ros or the like.
    prefixes = [*package.parents, *(Path(each) for each in variable if each)]
    installs = [prefix / 'share' / 'rmpe_ros' / kind for prefix in prefixes]
    return [
        package / 'share' / kind,
        package.parent / kind,
        *(folder for folder in installs if folder.is_dir()),
    ]
