# SPDX-License-Identifier: Apache-2.0
"""Skeletons as data: keypoint names, edges, left/right pairs and OKS sigmas, and how to convert.

Left and right are the person's own. Names are COCO's; `neck` is the base of the neck.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.json_text import parse_json


@dataclass(frozen=True)
class Skeleton:
    """Which keypoints a pose has, in which order, and how they relate.

    keypoints: K unique names. edges: index pairs to draw as limbs. flip_pairs: (left, right) index
    pairs that swap when an image is mirrored. sigmas: K OKS standard deviations (COCO evaluation),
    in units of the square root of the person's area.
    Raises ValueError when these do not fit together.
    """

    name: str
    keypoints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        if count == 0 or len(set(self.keypoints)) != count:
            raise ValueError(f'skeleton {self.name!r}: keypoint names must be unique, one or more')
        if len(self.sigmas) != count or not all(0 < sigma < math.inf for sigma in self.sigmas):
            raise ValueError(
                f'skeleton {self.name!r}: {len(self.sigmas)} sigmas for {count} keypoints; '
                'there must be one positive sigma for each'
            )
        for field in ('edges', 'flip_pairs'):
            for pair in getattr(self, field):
                if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= i < count for i in pair):
                    raise ValueError(
                        f'skeleton {self.name!r}: {field} holds {pair}; '
                        f'expected two different indices from 0 to {count - 1}'
                    )
        paired = [index for pair in self.flip_pairs for index in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f'skeleton {self.name!r}: a keypoint is in two flip_pairs')

    @property
    def num_keypoints(self) -> int:
        """K, the number of keypoints of a pose."""
        return len(self.keypoints)

    @cached_property
    def flip_permutation(self) -> NDArray[np.intp]:
        """(K,) indices: `pose[permutation]` gives a mirrored person's keypoints their names."""
        permutation = np.arange(self.num_keypoints)
        for left, right in self.flip_pairs:
            permutation[[left, right]] = right, left
        permutation.setflags(write=False)
        return permutation

    def index(self, name: str) -> int:
        """Index of the keypoint called `name`. Raises ValueError naming the known ones."""
        if name not in self.keypoints:
            raise ValueError(
                f'skeleton {self.name!r} has no keypoint {name!r}; '
                f'it has {", ".join(self.keypoints)}'
            )
        return self.keypoints.index(name)

    def to_json(self) -> str:
        """The skeleton as one JSON object, as it travels in a model's metadata."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> 'Skeleton':
        """Inverse of `to_json`. Raises ValueError when the text is not such an object."""
        try:
            fields = parse_json(text)
            name = str(fields['name'])
            keypoints = tuple(str(each) for each in fields['keypoints'])
            edges, flip_pairs = (
                tuple((int(a), int(b)) for a, b in fields[key]) for key in ('edges', 'flip_pairs')
            )
            sigmas = tuple(float(sigma) for sigma in fields['sigmas'])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                'a skeleton is a JSON object with name, keypoints, edges, flip_pairs and sigmas; '
                f'got {text[:80]!r}'
            ) from error
        return Skeleton(name, keypoints, edges, flip_pairs, sigmas)


def skeleton_from_names(
    name: str, sigmas: Mapping[str, float], edges: tuple[tuple[str, str], ...]
) -> Skeleton:
    """A skeleton from named parts; left_x and right_x become flip pairs by their names.

    sigmas: keypoint name → OKS sigma, in the order of the keypoints.
    """
    keypoints = tuple(sigmas)
    index = {keypoint: i for i, keypoint in enumerate(keypoints)}
    return Skeleton(
        name=name,
        keypoints=keypoints,
        edges=tuple((index[a], index[b]) for a, b in edges),
        flip_pairs=tuple(
            (i, index['right_' + keypoint.removeprefix('left_')])
            for keypoint, i in index.items()
            if keypoint.startswith('left_')
        ),
        sigmas=tuple(sigmas.values()),
    )


# Sigmas: cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py, Params.setKpParams.
_COCO_SIGMAS = {
    'nose': 0.026,
    'left_eye': 0.025,
    'right_eye': 0.025,
    'left_ear': 0.035,
    'right_ear': 0.035,
    'left_shoulder': 0.079,
    'right_shoulder': 0.079,
    'left_elbow': 0.072,
    'right_elbow': 0.072,
    'left_wrist': 0.062,
    'right_wrist': 0.062,
    'left_hip': 0.107,
    'right_hip': 0.107,
    'left_knee': 0.087,
    'right_knee': 0.087,
    'left_ankle': 0.089,
    'right_ankle': 0.089,
}
# COCO has neither; both get the shoulders' sigma.
_NECK_SIGMAS = {'neck': 0.079, 'head_top': 0.079}

_LIMBS = (
    ('left_shoulder', 'left_elbow'),
    ('left_elbow', 'left_wrist'),
    ('right_shoulder', 'right_elbow'),
    ('right_elbow', 'right_wrist'),
    ('left_hip', 'left_knee'),
    ('left_knee', 'left_ankle'),
    ('right_hip', 'right_knee'),
    ('right_knee', 'right_ankle'),
)
_TORSO = (
    ('left_shoulder', 'right_shoulder'),
    ('left_shoulder', 'left_hip'),
    ('right_shoulder', 'right_hip'),
    ('left_hip', 'right_hip'),
)
_FACE = (
    ('nose', 'left_eye'),
    ('nose', 'right_eye'),
    ('left_eye', 'left_ear'),
    ('right_eye', 'right_ear'),
)

COCO17 = skeleton_from_names('coco17', _COCO_SIGMAS, _LIMBS + _TORSO + _FACE)

BODY19 = skeleton_from_names(
    'body19',
    {**_COCO_SIGMAS, **_NECK_SIGMAS},
    (
        *_LIMBS,
        ('neck', 'left_shoulder'),
        ('neck', 'right_shoulder'),
        ('left_shoulder', 'left_hip'),
        ('right_shoulder', 'right_hip'),
        ('left_hip', 'right_hip'),
        ('neck', 'nose'),
        ('neck', 'head_top'),
        *_FACE,
    ),
)

_ALL_SIGMAS = {
    **_COCO_SIGMAS,
    **_NECK_SIGMAS,
    'pelvis': 0.107,
    'thorax': 0.079,
    'upper_neck': 0.079,
}
_MPII_ORDER = (
    'right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck '
    'head_top right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist'
).split()

MPII16 = skeleton_from_names(
    'mpii16',
    {name: _ALL_SIGMAS[name] for name in _MPII_ORDER},
    (
        *_LIMBS,
        ('pelvis', 'left_hip'),
        ('pelvis', 'right_hip'),
        ('pelvis', 'thorax'),
        ('thorax', 'left_shoulder'),
        ('thorax', 'right_shoulder'),
        ('thorax', 'upper_neck'),
        ('upper_neck', 'head_top'),
    ),
)

SKELETONS: Mapping[str, Skeleton] = MappingProxyType(
    {skeleton.name: skeleton for skeleton in (BODY19, COCO17, MPII16)}
)


def get_skeleton(name: str) -> Skeleton:
    """The skeleton called `name`. Raises ValueError naming the known ones."""
    if name not in SKELETONS:
        raise ValueError(f'unknown skeleton {name!r}; known are {", ".join(SKELETONS)}')
    return SKELETONS[name]


# How to make a keypoint that the source lacks: the first alternative whose keypoints all exist; the
# result is their mean. MPII marks the neck's both ends (thorax, upper_neck), body19 one point
# between them, so both ends become that point, and it becomes their middle.
_SUBSTITUTES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    'pelvis': (('left_hip', 'right_hip'),),
    'thorax': (('neck',), ('left_shoulder', 'right_shoulder')),
    'upper_neck': (('neck',),),
    'neck': (('thorax', 'upper_neck'), ('left_shoulder', 'right_shoulder')),
}


@dataclass(frozen=True)
class Conversion:
    """Turns poses of one skeleton into another; make it with `conversion`.

    parts: for each target keypoint the source indices it is the mean of; none when it is missing.
    """

    source: Skeleton
    target: Skeleton
    parts: tuple[tuple[int, ...], ...]

    def __call__(
        self, keypoints: NDArray[np.floating], scores: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """keypoints (N, Ks, 2) and scores (N, Ks) of the source → (N, Kt, 2) and (N, Kt).

        A mean's score is the least of its parts'; a missing keypoint is (0, 0) with score 0.
        Raises ValueError when the shapes are not the source's.
        """
        people = len(keypoints)
        expected = (people, self.source.num_keypoints)
        if keypoints.shape != (*expected, 2) or scores.shape != expected:
            raise ValueError(
                f'{self.source.name} poses have keypoints (N, {expected[1]}, 2) and scores '
                f'(N, {expected[1]}); got {keypoints.shape} and {scores.shape}'
            )
        points = np.zeros((people, self.target.num_keypoints, 2), keypoints.dtype)
        target_scores = np.zeros(points.shape[:2], scores.dtype)
        for index, part in enumerate(self.parts):
            if part:
                points[:, index] = keypoints[:, part].mean(axis=1)
                target_scores[:, index] = scores[:, part].min(axis=1)
        return points, target_scores


def conversion(source: Skeleton, target: Skeleton) -> Conversion:
    """How to turn `source` poses into `target` poses, by keypoint names.

    Of what the source lacks, the pelvis becomes the middle of the hips, MPII's thorax and
    upper_neck become the neck (and the neck their middle), and a neck or thorax without any of
    these the middle of the shoulders. Everything else that is missing gets score 0.
    """

    def part(name: str) -> tuple[int, ...]:
        for names in ((name,), *_SUBSTITUTES.get(name, ())):
            if all(each in source.keypoints for each in names):
                return tuple(source.keypoints.index(each) for each in names)
        return ()

    return Conversion(source, target, tuple(part(name) for name in target.keypoints))
