# SPDX-License-Identifier: Apache-2.0
"""Multi-person pose estimation for ROS 2 with RMPE (Fang et al., ICCV 2017).

`import rmpe_ros` is cheap: the public names below are imported when first used, and neither
rclpy nor torch is needed for any of them.
"""

import os
from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# In a ROS 2 workspace the generated messages (`rmpe_ros.msg`) may live in another directory of the
# same name on PYTHONPATH than this code (build space, symlink install): search all of them.
__path__ = extend_path(__path__, __name__)

# ONNX Runtime writes a device id and a database below the user's cache at every start, unless this
# is set before it is imported; its own Python call comes too late. Whoever wants it sets 0.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')

__version__ = '0.1.0'

_HOMES = {
    'PosePipeline': 'pipeline',
    'PoseStream': 'pipeline',
    'PersonDetector': 'detector',
    'PoseEstimator': 'estimator',
    'Poses': 'core.poses',
    'PoseNmsParameters': 'core.pose_nms',
    'Skeleton': 'core.skeletons',
    'get_skeleton': 'core.skeletons',
    'draw_poses': 'core.drawing',
    'load_image': 'io.images',
    'iter_images': 'io.images',
    'find_model': 'models',
}

__all__ = [
    'PersonDetector',
    'PoseEstimator',
    'PoseNmsParameters',
    'PosePipeline',
    'PoseStream',
    'Poses',
    'Skeleton',
    '__version__',
    'draw_poses',
    'find_model',
    'get_skeleton',
    'iter_images',
    'load_image',
]

if TYPE_CHECKING:
    from rmpe_ros.core.drawing import draw_poses
    from rmpe_ros.core.pose_nms import PoseNmsParameters
    from rmpe_ros.core.poses import Poses
    from rmpe_ros.core.skeletons import Skeleton, get_skeleton
    from rmpe_ros.detector import PersonDetector
    from rmpe_ros.estimator import PoseEstimator
    from rmpe_ros.io.images import iter_images, load_image
    from rmpe_ros.models import find_model
    from rmpe_ros.pipeline import PosePipeline, PoseStream


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
