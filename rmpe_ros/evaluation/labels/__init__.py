# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures in one form, whether they came as COCO, MPII or LSP."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.core.skeletons import BODY19, COCO17, MPII16, Skeleton

Layout = Literal['coco', 'mpii', 'lsp']


class LabelsError(ValueError):
    """A file does not hold labels that can be read, or pictures are missing; says what to do."""


@dataclass(frozen=True)
class LabelledImage:
    """One picture.

    file: relative to the folder of pictures. source: where it is from, for breakdowns.
    complete: all people in it are labelled, so that whatever else is found there is wrong.
    drawn_boxes: its boxes were drawn by a person, not derived from joints: fit for a detector.
    """

    id: int
    file: str
    source: str
    complete: bool = True
    drawn_boxes: bool = True


@dataclass(frozen=True, eq=False)
class Labels:
    """N labelled people in some pictures.

    image_ids: (N,) int64, the picture each is in. boxes: (N, 4) x1, y1, x2, y2 edge pixels.
    keypoints: (N, K, 2) pixels, (0, 0) the centre of the top-left pixel. labelled: (N, K).
    areas: (N,) px², the scale of OKS. crowd: (N,) groups that are not told apart.
    head_sizes: (N,) px, MPII's 0.6 times the diagonal of the head's box; NaN without one.
    notes: sentences about what was left out of the file, and what was made of its oddities.
    """

    layout: Layout
    skeleton: Skeleton
    images: tuple[LabelledImage, ...]
    image_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    head_sizes: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(N,) people that a pose can be compared with: no crowd, one labelled joint or more."""
        return np.asarray(self.labelled.any(axis=1) & ~self.crowd)

    @property
    def sources(self) -> NDArray[np.str_]:
        """(N,) the source of each person's picture."""
        source = {image.id: image.source for image in self.images}
        return np.array([source[i] for i in self.image_ids.tolist()], dtype=str)

    def people_of(self) -> dict[int, NDArray[np.intp]]:
        """Picture id → indices of its people (none for an empty picture)."""
        order = np.argsort(self.image_ids, kind='stable')
        ids, starts = np.unique(self.image_ids[order], return_index=True)
        groups = np.split(order, starts[1:])
        found = dict(zip(ids.tolist(), groups, strict=False))
        nobody = np.zeros(0, np.intp)
        return {image.id: found.get(image.id, nobody) for image in self.images}

    def select(self, wanted: Callable[[LabelledImage], bool]) -> Labels:
        """Only the pictures for which `wanted` is true, and their people."""
        images = tuple(image for image in self.images if wanted(image))
        inside = np.isin(self.image_ids, [image.id for image in images])
        arrays = (
            'image_ids', 'boxes', 'keypoints', 'labelled', 'areas', 'crowd', 'head_sizes'
        )  # fmt: skip
        return replace(
            self, images=images, **{name: getattr(self, name)[inside] for name in arrays}
        )

    def to_coco(self) -> dict[str, Any]:
        """COCO annotations with this skeleton's joints, for `coco.coco_api`."""
        people = []
        for index in range(len(self.image_ids)):
            x1, y1, x2, y2 = self.boxes[index].tolist()
            joints = np.concatenate(
                [self.keypoints[index], 2.0 * self.labelled[index][:, None]], axis=1
            )
            people.append(
                {
                    'id': index + 1,
                    'image_id': int(self.image_ids[index]),
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'area': float(self.areas[index]),
                    'iscrowd': int(self.crowd[index]),
                    'keypoints': joints.ravel().tolist(),
                }
            )
        images = [{'id': image.id, 'file_name': image.file} for image in self.images]
        return {'images': images, 'annotations': people}


def boxes_around(
    keypoints: NDArray[np.float64], labelled: NDArray[np.bool_], margin: float = 0.1
) -> NDArray[np.float64]:
    """(N, 4) boxes of labelled joints, widened on each side by `margin` of the longer side.

    Joints lie inside the body's outline, so their extent alone is too tight for a person's box.
    People without labelled joints get a box without extent.
    """
    masked = np.where(labelled[..., None], keypoints, np.nan)
    boxes = np.zeros((len(keypoints), 4))
    some = labelled.any(axis=1)
    low, high = np.nanmin(masked[some], axis=1), np.nanmax(masked[some], axis=1)
    reach = margin * (high - low).max(axis=1, initial=0)[:, None]
    # Joints are in pixel centres, boxes in edge coordinates: half a pixel further.
    boxes[some] = np.concatenate([low - reach, high + reach], axis=1) + 0.5
    return boxes


def skeleton_with(joints: Collection[str], path: Path) -> Skeleton:
    """The first of COCO's, body19 and MPII's that has all these joints; raises LabelsError naming
    `path`, the file that has them.
    """
    for skeleton in (COCO17, BODY19, MPII16):
        if set(joints) <= set(skeleton.keypoints):
            return skeleton
    odd = sorted(set(joints) - set(BODY19.keypoints))
    raise LabelsError(
        f'{path} has points called {", ".join(odd[:5])}; expected the names of '
        f'{COCO17.name}, {BODY19.name} or {MPII16.name}: {", ".join(BODY19.keypoints)}'
    )


def coco_content(
    images: list[dict[str, Any]], people: list[dict[str, Any]], skeleton: Skeleton
) -> dict[str, Any]:
    """What a COCO file of these pictures and annotations of people holds."""
    category = {'id': 1, 'name': 'person', 'keypoints': list(skeleton.keypoints)}
    return {'images': images, 'annotations': people, 'categories': [category]}


def find_images(labels: Labels, folder: Path) -> dict[int, Path]:
    """The file of each picture. Raises LabelsError saying how many are missing, and the first."""
    if not folder.is_dir():
        hint = '' if folder.exists() else path_hint(folder)
        raise LabelsError(f'{folder} is not a folder{hint}; --images is the folder of the pictures')
    paths = {image.id: folder / image.file for image in labels.images}
    missing = [path for path in paths.values() if not os.path.isfile(path)]
    if missing:
        raise LabelsError(
            f'{len(missing)} of {len(paths)} labelled pictures are not in {folder}, the first is '
            f'{missing[0]}; give the folder that the file names are relative to'
        )
    return paths
