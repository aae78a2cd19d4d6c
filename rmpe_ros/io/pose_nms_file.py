# SPDX-License-Identifier: Apache-2.0
"""The file of pose NMS parameters: `rmpe tune-nms` writes it; CLI, node and pipeline load it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmpe_ros.core.json_text import parse_json
from rmpe_ros.core.odd_paths import why_unreadable
from rmpe_ros.core.pose_nms import PoseNmsParameters
from rmpe_ros.io.files import write_file

# Keys of the file, beside "provenance". In Python lambda is a reserved word.
_FIELDS = {
    'sigma1': 'sigma1',
    'sigma2': 'sigma2',
    'lambda': 'lambda_',
    'eta': 'eta',
    'num_keypoints': 'num_keypoints',
    'variant': 'variant',
    'merge': 'merge',
}
_REQUIRED = {'sigma1', 'sigma2', 'lambda', 'eta', 'num_keypoints'}


def load_pose_nms(path: str | Path) -> PoseNmsParameters:
    """Parameters of a JSON file with sigma1, sigma2, lambda, eta and num_keypoints.

    Raises ValueError naming the file and what is wrong with it.
    """
    expected = (
        'expected the JSON that "rmpe tune-nms" writes: sigma1, sigma2, lambda, eta, num_keypoints'
    )
    try:
        data = parse_json(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(
            f'pose NMS file {path} cannot be read: {why_unreadable(error, path)}'
        ) from error
    except ValueError as error:
        raise ValueError(f'pose NMS file {path} is not JSON: {error}; {expected}') from error
    if not isinstance(data, dict) or _REQUIRED - set(data):
        raise ValueError(f'pose NMS file {path} is not complete; {expected}')
    unknown = set(data) - set(_FIELDS) - {'provenance'}
    if unknown:
        raise ValueError(
            f'pose NMS file {path} has unknown keys {sorted(unknown)}; '
            f'known are {", ".join(_FIELDS)} and provenance'
        )
    for key in ('sigma1', 'sigma2', 'lambda', 'eta', 'num_keypoints'):
        if isinstance(data[key], bool) or not isinstance(data[key], int | float):
            raise ValueError(f'pose NMS file {path}: {key} must be a number, got {data[key]!r}')
    try:
        return PoseNmsParameters(**{_FIELDS[key]: data[key] for key in data if key in _FIELDS})
    except ValueError as error:
        raise ValueError(f'pose NMS file {path}: {error}') from error


def save_pose_nms(
    path: str | Path, parameters: PoseNmsParameters, provenance: Mapping[str, Any]
) -> None:
    """Write parameters, and where they come from, for `load_pose_nms`.

    Raises OSError when that cannot be done.
    """
    data = {key: getattr(parameters, name) for key, name in _FIELDS.items()}
    text = json.dumps({**data, 'provenance': dict(provenance)}, indent=2, ensure_ascii=False)
    write_file(path, text + '\n')
