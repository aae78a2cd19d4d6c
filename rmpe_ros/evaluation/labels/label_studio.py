# SPDX-License-Identifier: Apache-2.0
"""What Label Studio exports as JSON, as the content of a COCO file.

Format: https://labelstud.io/guide/export (tasks with `annotations`, whose `result` holds
rectangles and points in percent of the picture). Points belong to the rectangle in their
`parentID`, or else to the only rectangle that they lie in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from rmpe_ros.evaluation.labels import LabelsError, coco_content, skeleton_with

# Label Studio puts eight digits in front of the names of uploads.
_UPLOAD = re.compile(r'^[0-9a-f]{8}-')


def is_label_studio(data: Any) -> bool:
    """Whether JSON is an export of Label Studio, with or without annotations."""
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(task, dict) and isinstance(task.get('data'), dict) for task in data)
    )


def coco_of_tasks(tasks: list[Any], path: Path) -> dict[str, Any]:
    """The content of a COCO file with what people have labelled or corrected.

    Predictions that nobody has looked at are left out, with their pictures. Raises LabelsError.
    """
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    found: set[str] = set()
    entries = []
    for number, task in enumerate(tasks):
        done = [a for a in task.get('annotations') or () if not a.get('was_cancelled')]
        if not done:
            continue
        where = f'{path}: task {task.get("id", number)}'
        images.append({'id': len(images) + 1, 'file_name': _file_name(task['data'], where)})
        try:
            group = _people(done[-1].get('result') or [])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LabelsError(
                f'{where}: not a result of rectangles and points as Label Studio exports it: '
                f'{type(error).__name__} {error}'
            ) from error
        entries += [(len(images), box, joints) for box, joints in group]
        found |= {name for _, joints in group for name in joints}
    if not images:
        raise LabelsError(
            f'{path}: nobody has annotated any of its {len(tasks)} tasks; predictions alone are no '
            'labels'
        )
    skeleton = skeleton_with(found, path)
    for image, (x, y, width, height), joints in entries:
        triples = [v for name in skeleton.keypoints for v in joints.get(name, (0.0, 0.0, 0))]
        people.append(
            {
                'id': len(people) + 1,
                'image_id': image,
                'category_id': 1,
                'bbox': [x, y, width, height],
                'keypoints': triples,
            }
        )
    return coco_content(images, people, skeleton)


def _people(results: list[dict[str, Any]]) -> list[tuple[tuple[float, ...], dict[str, Any]]]:
    """Box x, y, width, height and joints x, y, v by name, in pixels, of each person."""
    boxes: dict[str, tuple[float, ...]] = {}
    joints: dict[str, dict[str, Any]] = {}
    for result in results:
        if result['type'] == 'rectanglelabels':
            value, (wide, high) = result['value'], _sides(result)
            boxes[result['id']] = (
                value['x'] * wide, value['y'] * high, value['width'] * wide, value['height'] * high,
            )  # fmt: skip
            joints[result['id']] = {}
    for result in results:
        if result['type'] != 'keypointlabels':
            continue
        value, (wide, high) = result['value'], _sides(result)
        x, y = value['x'] * wide, value['y'] * high
        owner = result.get('parentID')
        if owner not in boxes:
            around = [
                name
                for name, (left, top, width, height) in boxes.items()
                if left <= x <= left + width and top <= y <= top + height
            ]
            if len(around) != 1:
                raise ValueError(
                    f'point {result["id"]} belongs to no rectangle: it has no parentID, and lies '
                    f'in {len(around)} of them'
                )
            owner = around[0]
        joints[owner][value['keypointlabels'][0]] = (x - 0.5, y - 0.5, 2)
    return [(box, joints[name]) for name, box in boxes.items()]


def _sides(result: dict[str, Any]) -> tuple[float, float]:
    """Pixels of one percent."""
    return float(result['original_width']) / 100, float(result['original_height']) / 100


def _file_name(data: dict[str, Any], where: str) -> str:
    address = next((v for v in data.values() if isinstance(v, str)), None)
    if address is None:
        raise LabelsError(f'{where} names no picture in "data"')
    parts = urlsplit(address)
    local = parse_qs(parts.query).get('d')
    if local:
        return unquote(local[0])
    name = unquote(parts.path).rpartition('/')[2]
    return _UPLOAD.sub('', name) if '/upload/' in parts.path else name
