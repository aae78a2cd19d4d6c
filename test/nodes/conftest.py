# SPDX-License-Identifier: Apache-2.0
"""Messages of packages that need not be installed: theirs where they are, and always such as are
made of the fields of their .msg files, whose types are checked as they become bytes.
"""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

_FIELDS = {
    'foxglove_msgs': {
        'ImageAnnotations': 'CircleAnnotation[] circles|PointsAnnotation[] points|'
        'TextAnnotation[] texts',
        'CircleAnnotation': 'builtin_interfaces/Time timestamp|Point2 position|float64 diameter|'
        'float64 thickness|Color fill_color|Color outline_color',
        'PointsAnnotation': 'uint8 POINTS=1|uint8 LINE_LIST=4|builtin_interfaces/Time timestamp|'
        'uint8 type|Point2[] points|Color outline_color|Color[] outline_colors|Color fill_color|'
        'float64 thickness',
        'TextAnnotation': 'builtin_interfaces/Time timestamp|Point2 position|string text|'
        'float64 font_size|Color text_color|Color background_color',
        'Point2': 'float64 x|float64 y',
        'Color': 'float64 r|float64 g|float64 b|float64 a',
    },
    'hri_msgs': {'IdsList': 'std_msgs/Header header|string[] ids'},
    'people_msgs': {
        'People': 'std_msgs/Header header|Person[] people',
        'Person': 'string name|geometry_msgs/Point position|geometry_msgs/Point velocity|'
        'float64 reliability|string[] tagnames|string[] tags',
    },
    'tf2_msgs': {'TFMessage': 'geometry_msgs/TransformStamped[] transforms'},
    'vision_msgs': {
        'Detection2DArray': 'std_msgs/Header header|Detection2D[] detections',
        'Detection2D': 'std_msgs/Header header|ObjectHypothesisWithPose[] results|'
        'BoundingBox2D bbox|string id',
        'BoundingBox2D': 'Pose2D center|float64 size_x|float64 size_y',
        'Pose2D': 'Point2D position|float64 theta',
        'Point2D': 'float64 x|float64 y',
        'Detection3DArray': 'std_msgs/Header header|Detection3D[] detections',
        'Detection3D': 'std_msgs/Header header|ObjectHypothesisWithPose[] results|'
        'BoundingBox3D bbox|string id',
        'BoundingBox3D': 'geometry_msgs/Pose center|geometry_msgs/Vector3 size',
        'ObjectHypothesisWithPose': 'ObjectHypothesis hypothesis|'
        'geometry_msgs/PoseWithCovariance pose',
        'ObjectHypothesis': 'string class_id|float64 score',
    },
}


class MadeClass:
    """A message's class as rclpy has it: called with some of the fields, the others are empty."""

    def __init__(self, store: Any, name: str) -> None:
        self._store, self._name = store, name

    def __call__(self, **fields: Any) -> Any:
        return _make(self._store, self._name, fields)

    def __getattr__(self, constant: str) -> Any:
        return getattr(self._store.types[self._name], constant)


def _make(store: Any, name: str, fields: dict[str, Any]) -> Any:
    _, definitions = store.fielddefs[name]
    return store.types[name](**{key: _empty(store, kind) for key, kind in definitions} | fields)


def _empty(store: Any, kind: Any) -> Any:
    node, detail = kind
    if node == Nodetype.NAME:
        return _make(store, detail, {})
    if node == Nodetype.BASE:
        return {'string': '', 'bool': False}.get(detail[0], 0)
    item, count = detail
    if item[0] == Nodetype.BASE and item[1][0] != 'string':
        return np.zeros(count, item[1][0])
    return [_empty(store, item) for _ in range(count)]


def _made_messages(package: str) -> tuple[Any, Any]:
    """Like the module `package`.msg, and a function that makes bytes of a message, or raises."""
    store = get_typestore(Stores.LATEST)
    types = {}
    for name, fields in _FIELDS[package].items():
        types |= get_types_from_msg(fields.replace('|', '\n'), f'{package}/msg/{name}')
    store.register({name: kind for name, kind in types.items() if name not in store.fielddefs})
    made = {name: MadeClass(store, f'{package}/msg/{name}') for name in _FIELDS[package]}

    def to_bytes(message: Any) -> bytes:
        return bytes(store.serialize_cdr(message, message.__msgtype__))

    return SimpleNamespace(**made), to_bytes


def _installed_messages(package: str) -> tuple[Any, Any]:
    from rclpy.serialization import serialize_message

    module = pytest.importorskip(f'{package}.msg', reason='its messages are not installed')
    return import_module(module.__name__), serialize_message


@pytest.fixture(params=['made', 'installed'])
def foreign_messages(request: pytest.FixtureRequest) -> Any:
    """Gives, for a package, its messages and a function that makes bytes of one of them."""
    return _made_messages if request.param == 'made' else _installed_messages
