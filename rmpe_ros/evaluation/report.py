# SPDX-License-Identifier: Apache-2.0
"""What was measured, as plain text for a terminal and as one HTML page with curves and pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.drawing import draw_poses
from rmpe_ros.core.poses import Poses
from rmpe_ros.evaluation.coco import coco_api, precision_curves
from rmpe_ros.evaluation.evaluate import PCK_THRESHOLD, Evaluation
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import Labels
from rmpe_ros.evaluation.labels.mpii import JOINT_GROUPS
from rmpe_ros.evaluation.page import (
    headline,
    html_table,
    notes_list,
    page,
    paragraph,
    section,
)
from rmpe_ros.evaluation.page import picture as embedded
from rmpe_ros.evaluation.page.charts import bars
from rmpe_ros.io.images import load_image

# So many of the best and of the worst pictures, this many pixels high.
_PICTURES = 6
_HEIGHT = 320
Table = tuple[str, list[list[str]]]


def number(value: float, digits: int = 3) -> str:
    """A number for people, '–' where there is none."""
    return '–' if math.isnan(value) else f'{value:.{digits}f}'


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text with the first column flush left and the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append('  '.join(cells).rstrip())
    return '\n'.join(lines)


def tables(evaluation: Evaluation) -> list[Table]:
    """The numbers as titled tables, their first row the headings."""
    result: list[Table] = []
    if evaluation.oks is not None:
        result.append(('OKS (COCO)', _one_row(evaluation.oks)))
    if evaluation.detector is not None:
        result.append(('Detector, boxes', _one_row(evaluation.detector)))
    if evaluation.mpii is not None:
        groups = ('mAP', *JOINT_GROUPS)
        row = {name: evaluation.mpii[name] for name in groups}
        result.append(('MPII multi-person AP at PCKh 0.5', _one_row(row)))
    columns = {
        f'PCK@{PCK_THRESHOLD} torso': evaluation.pck,
        'PCKh@0.5': evaluation.pckh,
    }
    shown = {name: values for name, values in columns.items() if values is not None}
    if shown:
        joints = next(iter(shown.values()))
        rows = [['joint', *shown]]
        for joint in joints:
            values = [values[joint] for values in shown.values()]
            if not all(math.isnan(value) for value in values):
                rows.append([joint, *map(number, values)])
        result.append(('Joints', rows))
    if len(evaluation.sources) > 1:
        rows = [['source', 'people', 'mean OKS', 'mean PCK']]
        rows += [
            [name, str(int(row['people'])), number(row['oks']), number(row['pck'])]
            for name, row in evaluation.sources.items()
        ]
        result.append(('Sources', rows))
    return result


def text_report(evaluation: Evaluation) -> str:
    """Everything for the terminal."""
    parts = [f'{title}\n{align(rows)}' for title, rows in tables(evaluation)]
    people = 'person' if evaluation.people == 1 else 'people'
    closing = (
        f'{evaluation.images} picture{"s" * (evaluation.images != 1)}, '
        f'{evaluation.people} labelled {people}'
    )
    if evaluation.seconds:
        closing += f', {evaluation.seconds:.1f} s'
    return '\n\n'.join([*parts, '\n'.join([closing, *(f'- {n}' for n in evaluation.notes)])])


def html_report(
    evaluation: Evaluation,
    labels: Labels,
    found: Mapping[int, FoundPeople],
    paths: Mapping[int, Path] | None,
    *,
    title: str,
) -> str:
    """One HTML page, without other files: the tables, the curves, the best and worst pictures.

    paths: the picture files by id; None leaves the pictures out. Needs matplotlib.
    """
    parts = [headline(main_numbers(evaluation)), notes_list(evaluation.notes)]
    if evaluation.models:
        rows = [['model', 'name', 'version', 'SHA-256']]
        rows += [
            [part, each['name'], each['version'], each['sha256'][:16]]
            for part, each in evaluation.models.items()
        ]
        parts.append(html_table(rows))
    parts += [section(name, html_table(rows)) for name, rows in tables(evaluation)]
    parts.append(section('Curves', _curves(evaluation, labels, found)))
    if paths is not None:
        parts += _pictures(evaluation, labels, found, paths)
    return page(title, parts)


def main_numbers(evaluation: Evaluation) -> list[tuple[str, str]]:
    """The numbers to begin with, for `headline`."""
    numbers = [
        (number(values[key], 3), name)
        for name, values, key in (
            ('OKS AP', evaluation.oks, 'AP'),
            ('mean OKS', evaluation.oks, 'mean'),
            (f'PCK@{PCK_THRESHOLD} torso', evaluation.pck, 'mean'),
            ('PCKh@0.5', evaluation.pckh, 'mean'),
            ('detector AP', evaluation.detector, 'AP'),
        )
        if values is not None and not math.isnan(values[key])
    ]
    return [*numbers, (str(evaluation.images), 'pictures'), (str(evaluation.people), 'people')]


def bag_page(
    name: str,
    evaluation: Evaluation,
    *,
    frames: list[list[str]],
    latency: list[list[str]],
    notes: Sequence[str],
) -> str:
    """One HTML page of a recorded bag against labels: rows of tables, their first the headings."""
    parts = [headline(main_numbers(evaluation)), section('Frames', html_table(frames))]
    if latency:
        spans = [(row[0], {'p50': float(row[1])}) for row in latency[1:] if row[1] != '–']
        parts.append(section('Latency', bars(spans, 'ms, p50'), html_table(latency)))
    parts += [section(title, html_table(rows)) for title, rows in tables(evaluation)]
    parts.append(notes_list([*notes, *evaluation.notes]))
    return page(f'rmpe evaluate-bag: {name}', parts)


def _one_row(values: Mapping[str, float]) -> list[list[str]]:
    return [list(values), [number(value, 4) for value in values.values()]]


def _curves(evaluation: Evaluation, labels: Labels, found: Mapping[int, FoundPeople]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout='constrained')
    axes = figure.subplots(1, 3)
    complete = [image.id for image in labels.images if image.complete]
    recall = np.linspace(0, 1, 101)
    if evaluation.oks is not None and complete:
        truth = coco_api(labels.to_coco(), complete)
        entries = [e for i in complete if i in found for e in found[i].to_coco_results(i)]
        for threshold, precision in precision_curves(truth, entries).items():
            axes[0].plot(recall, precision, label=f'OKS {threshold}')
        axes[0].legend()
    axes[0].set(title='precision of poses', xlabel='recall', xlim=(0, 1), ylim=(0, 1.02))
    known = evaluation.distances[~np.isnan(evaluation.distances)]
    if len(known):
        limits = np.linspace(0, 0.5, 101)
        axes[1].plot(limits, [float((known <= limit).mean()) for limit in limits])
    unit = 'head sizes' if labels.layout == 'mpii' else 'torso lengths'
    axes[1].set(title='joints found within', xlabel=unit, xlim=(0, 0.5), ylim=(0, 1.02))
    oks = evaluation.person_oks[~np.isnan(evaluation.person_oks)]
    axes[2].hist(oks, bins=np.linspace(0, 1, 21).tolist())
    axes[2].set(title='people by OKS', xlabel='OKS', xlim=(0, 1))
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=110)
    return embedded(stream.getvalue(), 'png', 'Precision over recall, joints over distance, people')


def _pictures(
    evaluation: Evaluation,
    labels: Labels,
    found: Mapping[int, FoundPeople],
    paths: Mapping[int, Path],
) -> list[str]:
    """Pictures with the highest and the lowest mean OKS of their people, truth beside result."""
    means = {}
    for image, people in labels.people_of().items():
        oks = evaluation.person_oks[people]
        if not np.isnan(oks).all():
            means[image] = float(np.nanmean(oks))
    ranked = sorted(means, key=lambda image: means[image])
    names = {image.id: image.file for image in labels.images}
    parts = []
    for title, chosen in (
        ('Worst pictures', ranked[:_PICTURES]),
        ('Best pictures', ranked[::-1][:_PICTURES]),
    ):
        shown = [paragraph('Left the labels, right what was found; a colour for each person.')]
        for image in chosen:
            drawn = _side_by_side(labels, image, found, load_image(paths[image]))
            caption = f'{names[image]}, mean OKS {means[image]:.2f}'
            data = cv2.imencode('.jpg', drawn[..., ::-1])[1].tobytes()
            shown.append(embedded(data, 'jpeg', caption))
        parts.append(section(title, *shown))
    return parts


def _side_by_side(
    labels: Labels, image: int, found: Mapping[int, FoundPeople], picture: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    people = labels.people_of()[image]
    truth = Poses(
        labels.skeleton,
        labels.keypoints[people].astype(np.float32),
        labels.labelled[people].astype(np.float32),
        labels.boxes[people].astype(np.float32),
        np.ones(len(people), np.float32),
    )
    each = found.get(image)
    result = Poses.empty(labels.skeleton)
    if each is not None and len(each.scores):
        result = Poses(
            labels.skeleton,
            np.nan_to_num(each.keypoints).astype(np.float32),
            np.clip(np.nan_to_num(each.keypoint_scores), 0, 1).astype(np.float32),
            each.boxes.astype(np.float32),
            np.clip(each.scores, 0, 1).astype(np.float32),
        )[each.scores >= min(0.1, float(each.scores.max()))]
    both = np.concatenate([draw_poses(picture, truth), draw_poses(picture, result)], axis=1)
    scale = _HEIGHT / both.shape[0]
    return np.asarray(
        cv2.resize(both, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
