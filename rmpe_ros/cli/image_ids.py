# SPDX-License-Identifier: Apache-2.0
"""The ids that COCO annotations give to pictures, by the paths of these."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmpe_ros.evaluation.coco_file import CocoImage


class ImageIds:
    """Image ids by file name; of equal names the one whose folders fit the path best."""

    def __init__(self, images: Iterable[CocoImage]) -> None:
        self._by_name: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for image in images:
            parts = Path(image.file).parts
            self._by_name.setdefault(parts[-1], []).append((parts, image.id))

    def find(self, path: Path) -> int | None:
        """None where no picture of the annotations is meant."""
        parts = path.resolve().parts
        matches = [
            (len(wanted), image_id)
            for wanted, image_id in self._by_name.get(path.name, ())
            if parts[-len(wanted) :] == wanted
        ]
        return max(matches)[1] if matches else None


def read_image_ids(path: Path) -> ImageIds:
    """Of a COCO file. Raises ValueError."""
    from rmpe_ros.evaluation.coco_file import read_images
    from rmpe_ros.evaluation.labels import LabelsError
    from rmpe_ros.evaluation.labels.label_files import read_json

    try:
        return ImageIds(read_images(read_json(path), path).values())
    except LabelsError as error:
        raise ValueError(
            f'--annotations {error}; expected COCO annotations, a JSON object with "images" that '
            'have file_name and id'
        ) from error
