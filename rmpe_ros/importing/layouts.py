# SPDX-License-Identifier: Apache-2.0
"""Which skeleton the joints of somebody's network are."""

from __future__ import annotations

from pathlib import Path

from rmpe_ros.core.odd_paths import why_unreadable
from rmpe_ros.core.skeletons import BODY19, MPII16, SKELETONS, Skeleton, skeleton_from_names

_FEET = ('big_toe', 'small_toe', 'heel')
# Halpe (AlphaPose) and the 26 joints of RTMPose: COCO's, head, neck and hips, and the feet. The
# feet's sigma is MMPose's for Halpe.
HALPE26 = skeleton_from_names(
    'halpe26',
    {
        **dict(zip(BODY19.keypoints[:17], BODY19.sigmas[:17], strict=True)),
        'head_top': BODY19.sigmas[BODY19.index('head_top')],
        'neck': BODY19.sigmas[BODY19.index('neck')],
        'pelvis': MPII16.sigmas[MPII16.index('pelvis')],
        **{f'{side}_{part}': 0.079 for part in _FEET for side in ('left', 'right')},
    },
    (
        *((BODY19.keypoints[a], BODY19.keypoints[b]) for a, b in BODY19.edges),
        *((f'{side}_ankle', f'{side}_{part}') for side in ('left', 'right') for part in _FEET),
    ),
)

_KNOWN = {**SKELETONS, HALPE26.name: HALPE26}


def find_skeleton(name: str | None, joints: int) -> Skeleton:
    """The skeleton of this name or JSON file, or by default a known one with so many joints.

    Raises ValueError when there is none, or it has another number of joints.
    """
    options = ', '.join(f'{each} ({known.num_keypoints})' for each, known in _KNOWN.items())
    if name is None:
        for skeleton in _KNOWN.values():
            if skeleton.num_keypoints == joints:
                return skeleton
        raise ValueError(
            f'{joints} joints are of no known skeleton, which are {options}; describe them with '
            '--skeleton FILE.json, or keep those of a known one with --joints, as in --joints 0-16 '
            'for the 133 of COCO-WholeBody'
        )
    skeleton = _read(name, options)
    if skeleton.num_keypoints != joints:
        raise ValueError(
            f'it has {joints} joints, but {skeleton.name} {skeleton.num_keypoints}; known are '
            f'{options}, others are described in a --skeleton FILE.json; --joints keeps some'
        )
    return skeleton


def _read(name: str, options: str) -> Skeleton:
    if name in _KNOWN:
        return _KNOWN[name]
    if not name.endswith('.json'):
        raise ValueError(f'unknown skeleton {name!r}; known are {options}, or give a FILE.json')
    try:
        return Skeleton.from_json(Path(name).read_text(encoding='utf-8-sig'))
    except OSError as error:
        raise ValueError(
            f'--skeleton {name} cannot be read: {why_unreadable(error, name)}'
        ) from error
    except ValueError as error:
        raise ValueError(f'--skeleton {name}: {error}') from error
