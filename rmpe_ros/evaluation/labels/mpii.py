# SPDX-License-Identifier: Apache-2.0
"""MPII Human Pose: its labels, PCKh's head sizes, and multi-person mAP by the published protocol.

Protocol: Pishchulin et al., DeepCut (CVPR 2016), and the toolkit of human-pose.mpi-inf.mpg.de.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.skeletons import MPII16
from rmpe_ros.evaluation.labels import LabelledImage, Labels, LabelsError, boxes_around
from rmpe_ros.evaluation.records import are_places

PCKH_THRESHOLD = 0.5
# What a field that is missing or of another kind leads to.
_MISTAKES = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
_BROKEN = 'joints without a finite place, taken as not labelled'
# PCKh's unit is this share of the diagonal of the head's box (the toolkit's SC_BIAS).
_HEAD_SHARE = 0.6
# The joints of the published tables: pelvis and thorax are not among them.
JOINT_GROUPS: Mapping[str, tuple[str, ...]] = {
    'head': ('upper_neck', 'head_top'),
    'shoulder': ('left_shoulder', 'right_shoulder'),
    'elbow': ('left_elbow', 'right_elbow'),
    'wrist': ('left_wrist', 'right_wrist'),
    'hip': ('left_hip', 'right_hip'),
    'knee': ('left_knee', 'right_knee'),
    'ankle': ('left_ankle', 'right_ankle'),
}


def labels_from_release(release: Sequence[Mapping[str, Any]], path: Path) -> Labels:
    """Labels of the release's annolist, as `read_release` gives it or as JSON.

    Pictures without anybody's joints (the test set) are left out. One in which somebody has none
    is not `complete`.
    """
    images, people = [], []
    if isinstance(release, str | bytes | Mapping) or not isinstance(release, Sequence):
        raise LabelsError(f'{path} is no MPII release: its annolist is no list of pictures')
    for number, entry in enumerate(release, 1):
        try:
            rectangles = _listed(entry.get('annorect'))
            found = [_person(rectangle, number) for rectangle in rectangles]
            known = [person for person in found if person is not None]
            if known:
                name = _file_name(_first(_first(entry['image'])['name']))
                complete = len(known) == len(found)
                images.append(LabelledImage(number, name, 'mpii', complete, drawn_boxes=False))
                people += known
        except _MISTAKES as error:
            raise LabelsError(
                f'{path} is no MPII release: entry {number} of annolist{_named(entry)} has '
                f'{type(error).__name__} {error}; it has image.name and annorect with '
                'annopoints.point of id (0 to 15), x and y'
            ) from error
    if not people:
        raise LabelsError(f'{path} holds no labelled joints (of the test set MPII keeps them)')
    return _labels(images, people)


def labels_from_people(entries: Sequence[Mapping[str, Any]], path: Path) -> Labels:
    """Labels of the JSON list of people with image, joints and joints_vis (16 each) that pose
    repositories pass around.

    It has no heads' boxes; where an entry has neither `head_size` nor `headbox` (x1, y1, x2, y2),
    PCKh's unit is the distance from upper_neck to head_top.
    """
    names: dict[str, int] = {}
    people = []
    for number, entry in enumerate(entries):
        try:
            joints = _numbers(entry['joints'], (16, 2)) - 1
            labelled = _numbers(entry['joints_vis'], (16,)) > 0
            image = names.setdefault(_file_name(entry['image']), len(names) + 1)
            if 'head_size' in entry:
                head = float(_numbers(entry['head_size'], ()))
            elif 'headbox' in entry:
                head = head_size(_numbers(entry['headbox'], (4,)))
            else:
                head = _head_segment(joints, labelled)
            people.append((image, joints, labelled, head))
        except _MISTAKES as error:
            raise LabelsError(
                f'{path} is no MPII list: entry {number}{_named(entry)} has '
                f'{type(error).__name__} {error}; it has image, joints (16 x 2) and joints_vis (16)'
            ) from error
    return _labels(
        [LabelledImage(i, name, 'mpii', drawn_boxes=False) for name, i in names.items()], people
    )


def head_size(box: NDArray[np.float64]) -> float:
    """PCKh's unit for a head's box x1, y1, x2, y2: 0.6 times its diagonal."""
    return _HEAD_SHARE * float(np.hypot(box[2] - box[0], box[3] - box[1]))


def read_release(release: Any, path: Path) -> list[dict[str, Any]]:
    """The `annolist` of the RELEASE structure of MPII's .mat, as dictionaries and lists.

    Raises LabelsError when there is none; `path` for the message.
    """
    if not hasattr(release, 'annolist'):
        raise LabelsError(f'{path}: RELEASE is empty or no structure; expected one with annolist')
    return [_plain(entry) for entry in np.atleast_1d(release.annolist)]


def multi_person_ap(
    labels: Labels,
    keypoints: Mapping[int, NDArray[np.floating]],
    scores: Mapping[int, NDArray[np.floating]],
) -> dict[str, float]:
    """AP of each of MPII_16's joints at PCKh 0.5, of the groups of the published tables, and `mAP`.

    keypoints: picture id → (M, 16, 2) predicted people; scores: → (M, 16), the joints' confidences.
    A predicted person may only be matched with the true person of whom it gets the largest share of
    joints right; each true person takes the best of those. All other predicted joints are wrong.
    True people without a head size cannot be matched, nor counted.
    """
    joints = MPII16.num_keypoints
    found: list[list[NDArray[np.floating]]] = [[] for _ in range(joints)]
    right: list[list[NDArray[np.bool_]]] = [[] for _ in range(joints)]
    positives = np.zeros(joints, np.int64)
    for image, people in labels.people_of().items():
        people = people[labels.counted[people] & np.isfinite(labels.head_sizes[people])]
        positives += labels.labelled[people].sum(axis=0)
        predicted = keypoints.get(image, np.zeros((0, joints, 2)))
        correct = _correct_joints(
            predicted,
            labels.keypoints[people],
            labels.labelled[people],
            labels.head_sizes[people],
        )
        for joint in range(joints):
            if len(predicted):
                found[joint].append(scores[image][:, joint])
                right[joint].append(correct[:, joint])
    nothing = [np.zeros(0)]
    result = {
        name: average_precision(
            np.concatenate(found[j] or nothing),
            np.concatenate(right[j] or nothing).astype(bool),
            int(positives[j]),
        )
        for j, name in enumerate(MPII16.keypoints)
    }
    groups = {
        group: float(np.mean([result[name] for name in names]))
        for group, names in JOINT_GROUPS.items()
    }
    counted = [result[name] for names in JOINT_GROUPS.values() for name in names]
    return {'mAP': float(np.mean(counted)), **groups, **result}


def average_precision(
    scores: NDArray[np.floating], right: NDArray[np.bool_], positives: int
) -> float:
    """Area under the precision-recall curve made monotone, as PASCAL VOC 2010 and MPII do it.

    positives: how many there are to find; NaN when there are none.
    """
    if positives == 0:
        return float('nan')
    hits = np.cumsum(right[np.argsort(-scores, kind='stable')])
    if not len(hits):
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / positives])
    return float((np.diff(recall) * precision).sum())


def _correct_joints(
    predicted: NDArray[np.floating],
    joints: NDArray[np.float64],
    labelled: NDArray[np.bool_],
    heads: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """(M, K) joints of predicted people (M, K, 2) that count as right after the assignment."""
    correct = np.zeros(predicted.shape[:2], bool)
    if not len(predicted) or not len(joints):
        return correct
    distance = np.linalg.norm(predicted[:, None] - joints[None], axis=3)
    match = (distance <= PCKH_THRESHOLD * heads[None, :, None]) & labelled[None]
    share = match.sum(axis=2) / labelled.sum(axis=1)
    best = share.argmax(axis=1)
    only = np.zeros_like(share)
    only[np.arange(len(share)), best] = share[np.arange(len(share)), best]
    for person in range(len(joints)):
        winner = int(only[:, person].argmax())
        if only[winner, person] > 0:
            correct[winner] = match[winner, person]
    return correct


def _labels(
    images: list[LabelledImage], people: list[tuple[int, np.ndarray, np.ndarray, float]]
) -> Labels:
    keypoints = np.array([person[1] for person in people], np.float64).reshape(-1, 16, 2)
    labelled = np.array([person[2] for person in people], bool).reshape(-1, 16)
    broken = labelled & ~are_places(keypoints).all(axis=2)
    labelled &= ~broken
    keypoints[~labelled] = 0
    heads = np.array([person[3] for person in people], np.float64)
    heads[~(np.isfinite(heads) & (heads > 0))] = np.nan
    boxes = boxes_around(keypoints, labelled)
    return Labels(
        'mpii',
        MPII16,
        tuple(images),
        np.array([person[0] for person in people], np.int64),
        boxes,
        keypoints,
        labelled,
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
        np.zeros(len(people), bool),
        heads,
        (f'{_BROKEN}: {broken.sum()}',) if broken.any() else (),
    )


def _person(
    rectangle: Mapping[str, Any], image: int
) -> tuple[int, np.ndarray, np.ndarray, float] | None:
    """(image, joints, labelled, head size) of an annorect; None without joints."""
    annotated = _listed(rectangle.get('annopoints'))
    points = _listed(annotated[0].get('point')) if annotated else []
    if not points:
        return None
    joints, labelled = np.zeros((16, 2)), np.zeros(16, bool)
    for point in points:
        index = int(_first(point['id']))
        if not 0 <= index < 16:
            raise ValueError(f'a joint with the id {index}')
        joints[index] = float(_first(point['x'])) - 1, float(_first(point['y'])) - 1
        labelled[index] = True
    head = float('nan')
    if all(name in rectangle for name in ('x1', 'y1', 'x2', 'y2')):
        corners = [float(_first(rectangle[name])) for name in ('x1', 'y1', 'x2', 'y2')]
        head = head_size(np.array(corners))
    return image, joints, labelled, head


def _numbers(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """An array of numbers; raises ValueError or TypeError for anything else, text included."""
    array = np.asarray(value)
    if array.dtype.kind not in 'iufb':
        raise TypeError(f'with {array.dtype.name} where numbers are expected')
    return array.astype(np.float64).reshape(shape)


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f'with a picture called {value!r}')
    return str(value)


def _named(entry: Any) -> str:
    """The picture of an entry in brackets, where it says one."""
    image = entry.get('image') if isinstance(entry, Mapping) else None
    name = image.get('name') if isinstance(image, Mapping) else image
    return f' ({name})' if isinstance(name, str) else ''


def _head_segment(joints: np.ndarray, labelled: np.ndarray) -> float:
    neck, top = MPII16.index('upper_neck'), MPII16.index('head_top')
    if not (labelled[neck] and labelled[top]):
        return float('nan')
    return float(np.linalg.norm(joints[neck] - joints[top]))


def _plain(value: Any) -> Any:
    """SciPy's MATLAB structures as dictionaries, arrays of structures as lists."""
    if hasattr(value, '_fieldnames'):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(each) for each in value.ravel()]
    return value


def _listed(value: Any) -> list[Any]:
    """A list, however MATLAB and jsonlab wrote none, one or several."""
    if value is None or (isinstance(value, np.ndarray) and value.size == 0):
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _first(value: Any) -> Any:
    """What is in a list of one, or the value itself."""
    return value[0] if isinstance(value, (list, tuple, np.ndarray)) and np.size(value) else value
