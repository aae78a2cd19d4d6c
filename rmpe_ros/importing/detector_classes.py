# SPDX-License-Identifier: Apache-2.0
"""Which classes somebody's detector has, and how they show in its columns. Needs `onnx`."""

from __future__ import annotations

import ast
import math
from typing import Any

import onnx

from rmpe_ros.core.person_names import person_numbers
from rmpe_ros.importing.graphs import read_metadata

# What exporters call the names of the classes in the metadata.
_NAME_KEYS = ('names', 'class_names', 'classes', 'labels')
_COCO_CLASSES = 80
_MASKS = 32  # numbers a box that segmentation appends


def class_names(model: onnx.ModelProto) -> dict[int, str]:
    """The names of a network's classes by number, from its metadata; empty where it does not say,
    or not in a way that can be read.
    """
    names = read_literal(model, _names_key(model) or '')
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    try:
        return {int(number): str(name) for number, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def person_class(model: onnx.ModelProto, wanted: int | None = None) -> int:
    """The number of the class "person": `wanted`, or by the names in the metadata, or COCO's 0.

    Raises ValueError when the names say that there is no such class, or several, or cannot be read.
    """
    names, key = class_names(model), _names_key(model)
    if not names:
        if wanted is None and key is not None:
            raise ValueError(
                f'its metadata "{key}" is {read_metadata(model)[key][:60]!r}, expected a list of '
                'names, or numbers with names: say with --person-class which is the person'
            )
        return wanted or 0
    some = ', '.join(f'{index} {name}' for index, name in list(names.items())[:8])
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f'there is no class {wanted} among its {len(names)} ({some} …)')
        return wanted
    people = person_numbers(names)
    if len(people) == 1:
        return people[0]
    raise ValueError(
        f'{len(people) or "none"} of its {len(names)} classes is called "person" ({some} …): say '
        'which one is meant with --person-class'
    )


def _names_key(model: onnx.ModelProto) -> str | None:
    said = read_metadata(model)
    return next((key for key in _NAME_KEYS if said.get(key)), None)


def read_literal(model: onnx.ModelProto, key: str) -> Any:
    """A value of Ultralytics' metadata, written as in Python; None without it or in other words."""
    try:
        return ast.literal_eval(read_metadata(model).get(key, 'None'))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def appended_numbers(model: onnx.ModelProto) -> set[int]:
    """How many numbers may stand behind the classes of a box: none, a mask's or its keypoints'."""
    shape = read_literal(model, 'kpt_shape')
    numeric = isinstance(shape, list | tuple) and all(isinstance(each, int) for each in shape)
    return {0, _MASKS} | ({math.prod(shape)} if numeric else set())


def first_scores(model: onnx.ModelProto, columns: int, wanted: str) -> set[int]:
    """At which columns the scores of the classes may begin: 4 or, behind a score of the box, 5.

    wanted: 'yolo' or 'yolox' decides where the file names no classes.
    """
    names, more = class_names(model), appended_numbers(model)
    if names:
        return {start for start in (4, 5) if columns - start - len(names) in more}
    if wanted in ('yolo', 'yolox'):
        return {4 if wanted == 'yolo' else 5}
    coco = {start for start in (4, 5) if columns - start == _COCO_CLASSES}
    return coco or ({4} if columns == 5 else {4, 5})


def check_classes(model: onnx.ModelProto, numbers: int, start: int, what: str) -> None:
    """Raises ValueError when the names say that there are other numbers of classes."""
    names = class_names(model)
    if names and numbers - start - len(names) not in appended_numbers(model):
        raise ValueError(
            f'{what} have place for {numbers - start} classes, but the file names {len(names)}: '
            'it is another kind of network than it looks like'
        )
