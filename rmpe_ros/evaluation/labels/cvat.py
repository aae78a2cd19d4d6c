# SPDX-License-Identifier: Apache-2.0
"""What CVAT exports as "CVAT for images 1.1" (XML), as the content of a COCO file.

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/. Its export "COCO
Keypoints 1.0" is a COCO file already.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rmpe_ros.core.person_names import is_person
from rmpe_ros.evaluation.labels import LabelsError, coco_content, skeleton_with


def coco_of_cvat(path: Path) -> dict[str, Any]:
    """The content of a COCO file with the skeletons of people. Raises LabelsError."""
    text = path.read_bytes()
    if b'<!DOCTYPE' in text or b'<!ENTITY' in text:
        raise LabelsError(f'{path} declares a document type, which no export of CVAT does')
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise LabelsError(f'{path} is not XML: {error}') from error
    if root.tag != 'annotations':
        raise LabelsError(f'{path} holds <{root.tag}>; expected an export "CVAT for images 1.1"')
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for element in root.iter('image'):
        where = f'{path}: image {element.get("name")}'
        images.append({'id': len(images) + 1, 'file_name': element.get('name', '')})
        for skeleton in element.iter('skeleton'):
            if not is_person(skeleton.get('label', '')):
                continue
            try:
                joints = dict(map(_joint, skeleton.iter('points')))
            except (ValueError, TypeError) as error:
                raise LabelsError(f'{where}: points that are no x,y: {error}') from error
            names |= dict.fromkeys(joints)
            people.append({'id': len(people) + 1, 'image_id': len(images), 'joints': joints})
    known = skeleton_with(names, path)
    for person in people:
        joints = person.pop('joints')
        person['keypoints'] = [v for n in known.keypoints for v in joints.get(n, (0.0, 0.0, 0))]
    return coco_content(images, people, known)


def _joint(element: ElementTree.Element) -> tuple[str, tuple[float, float, int]]:
    """Name and x, y, v: 0 where it is outside of the picture or not set, 1 where it is occluded."""
    if element.get('outside') == '1':
        return element.get('label', ''), (0.0, 0.0, 0)
    x, y = map(float, element.get('points', '').split(','))
    return element.get('label', ''), (x, y, 1 if element.get('occluded') == '1' else 2)
