# SPDX-License-Identifier: Apache-2.0
"""RMPE's Table 3 on any data set: the full system, and without one of its parts at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_iou, box_nms, boxes_with_area
from rmpe_ros.core.json_text import parse_json
from rmpe_ros.core.pose_nms import PoseNmsParameters, keep_distinct_poses, oks_nms
from rmpe_ros.evaluation.candidates import LEAST_OVERLAP
from rmpe_ros.evaluation.evaluate import Evaluation, evaluate
from rmpe_ros.evaluation.found_people import FoundPeople, find_people
from rmpe_ros.evaluation.labels import Labels
from rmpe_ros.evaluation.labels.mpii import JOINT_GROUPS
from rmpe_ros.io.files import unused_path, write_file
from rmpe_ros.io.images import load_image

if TYPE_CHECKING:
    from rmpe_ros.detector import PersonDetector
    from rmpe_ros.pipeline import PosePipeline

Proposals = Literal['pgpg', 'jitter', 'true']
Network = Literal['sstn', 'no_parallel', 'sppe']
Nms = Literal['pose', 'none', 'box', 'oks']
Detections = Mapping[int, tuple[NDArray[np.float32], NDArray[np.float32]]]

# Box NMS where it has to do without pose NMS; and OKS NMS at its usual threshold.
STRICT_BOX_IOU = 0.5
_OKS_THRESHOLD = 0.9


@dataclass(frozen=True)
class Row:
    """One row: how the pose network is trained, and what follows it.

    proposals: the boxes that training sees. network: with the SSTN and the parallel SPPE, with the
    SSTN alone, or the SPPE alone. paper: the paper's mAP on MPII's validation set for it, if any.
    """

    name: str
    title: str
    proposals: Proposals = 'pgpg'
    network: Network = 'sstn'
    nms: Nms = 'pose'
    gt_boxes: bool = False
    paper: float | None = None

    @property
    def training(self) -> str:
        """The name of the training run whose network this row needs."""
        return f'{self.network}-{self.proposals}'


# RMPE Table 3, columns Total. The paper compares two published pose NMS, [5] 79.9 and [7] 79.1;
# ours are box NMS and OKS NMS, for which it has no numbers.
ROWS = (
    Row('full', 'full', paper=80.8),
    Row('no-sstn', 'without SSTN and parallel SPPE', network='sppe', paper=78.2),
    Row('no-parallel', 'without parallel SPPE', network='no_parallel', paper=79.1),
    Row('no-pgpg', 'without PGPG', proposals='true', paper=73.0),
    Row('jitter', 'random jitter for PGPG', proposals='jitter', paper=77.9),
    Row('no-pose-nms', 'without pose NMS', nms='none', paper=75.7),
    Row('box-nms', 'box NMS for pose NMS', nms='box'),
    Row('oks-nms', 'OKS NMS for pose NMS', nms='oks'),
    Row('two-step', 'plain two-step', proposals='true', network='sppe', nms='box', paper=71.7),
    Row('true-boxes', 'true boxes', gt_boxes=True, paper=84.2),
)


def choose_rows(names: Sequence[str] | None) -> tuple[Row, ...]:
    """Rows by name, all by default; the full system always, to compare with."""
    if names is None:
        return ROWS
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        raise ValueError(
            f'there is no row {min(unknown)!r}; there are {", ".join(row.name for row in ROWS)}'
        )
    return tuple(row for row in ROWS if row.name in {*names, 'full'})


def detect(
    labels: Labels,
    paths: Mapping[int, Path],
    detector: PersonDetector,
    *,
    noise: float = 0.0,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Detections:
    """The detector's boxes and scores in each picture; where not everyone is labelled, only those
    near labelled people, because the others may be right without a label.

    noise: see `move_edges`.
    """
    rng = np.random.default_rng(seed)
    people_of = labels.people_of()
    found = {}
    for image in labels.images:
        boxes, scores = detector(load_image(paths[image.id]))
        moved = move_edges(boxes, noise, rng)
        usable = boxes_with_area(moved)
        if not image.complete:
            overlap = box_iou(moved, labels.boxes[people_of[image.id]])
            usable &= overlap.max(axis=1, initial=0) >= LEAST_OVERLAP
        found[image.id] = moved[usable], scores[usable]
        progress()
    return found


def move_edges(
    boxes: NDArray[np.float32], noise: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Boxes (N, 4) as a worse detector finds them: each edge moved by N(0, noise) of its side."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return (boxes + noise * rng.standard_normal(boxes.shape) * sides).astype(np.float32)


def estimate(
    labels: Labels,
    paths: Mapping[int, Path],
    pipeline: PosePipeline,
    detections: Detections,
    progress: Callable[[], None] = lambda: None,
) -> dict[int, FoundPeople]:
    """A pose for each detection, without pose NMS."""
    pipeline.pose_nms, pipeline.min_score = None, 0.0
    found = {}
    for image in labels.images:
        boxes, scores = detections[image.id]
        poses = pipeline(load_image(paths[image.id]), boxes=boxes, box_scores=scores)
        found[image.id] = FoundPeople.from_poses(poses, labels.skeleton, boxes, scores)
        progress()
    return found


def suppress(
    found: Mapping[int, FoundPeople], nms: Nms, parameters: PoseNmsParameters, labels: Labels
) -> dict[int, FoundPeople]:
    """What a way of NMS leaves of the poses in each picture; pose NMS merges where the parameters
    say so, as in the pipeline.
    """

    def left(each: FoundPeople) -> FoundPeople:
        if nms == 'none':
            return each
        if nms == 'box':
            return each[box_nms(each.boxes, each.box_scores, STRICT_BOX_IOU)]
        arrays = each.keypoints, each.keypoint_scores, each.boxes, each.scores
        if nms == 'oks':
            sigmas = labels.skeleton.sigmas
            return each[oks_nms(*arrays, sigmas, threshold=_OKS_THRESHOLD)]
        kept, keypoints, scores = keep_distinct_poses(*arrays, parameters)
        return replace(each[kept], keypoints=keypoints, keypoint_scores=scores)

    return {image: left(each) for image, each in found.items()}


def evaluate_rows(
    rows: Sequence[Row],
    labels: Labels,
    paths: Mapping[int, Path],
    detections: Detections,
    pipeline: PosePipeline,
    parameters: PoseNmsParameters,
    progress: Callable[[], None] = lambda: None,
    *,
    incomplete: bool = False,
) -> dict[str, dict[str, float]]:
    """Scores of rows that share one trained network, which is the pipeline's. incomplete: see
    `evaluate`.
    """
    results = {}
    found: dict[int, FoundPeople] | None = None
    for row in rows:
        if row.gt_boxes:
            poses = find_people(labels, paths, pipeline, gt_boxes=True, progress=progress)
        else:
            if found is None:
                found = estimate(labels, paths, pipeline, detections, progress)
            poses = suppress(found, row.nms, parameters, labels)
        results[row.name] = scores_of(
            evaluate(labels, poses, gt_boxes=row.gt_boxes, incomplete=incomplete)
        )
    return results


def scores_of(evaluation: Evaluation) -> dict[str, float]:
    """The columns of the table, the first of them the one to compare: MPII's mAP and joint groups,
    COCO's AP, or LSP's PCK.
    """
    if evaluation.mpii is not None:
        return {name: evaluation.mpii[name] for name in ('mAP', *JOINT_GROUPS)}
    pck = evaluation.pck or {'mean': math.nan}
    if evaluation.oks is None or math.isnan(evaluation.oks['AP']):
        return {'PCK': pck['mean']}
    oks = evaluation.oks
    return {
        'AP': oks['AP'],
        'AP50': oks['AP50'],
        'AR': oks['AR'],
        'mean OKS': oks['mean'],
        'PCK': pck['mean'],
    }


def ablation_table(rows: Sequence[Row], results: Mapping[str, Mapping[str, float]]) -> list[Any]:
    """Text cells: our scores and difference from the full system in points, then the paper's."""
    columns = list(next(iter(results.values())))
    full, paper_full = results['full'][columns[0]], ROWS[0].paper or math.nan
    table = [['', *columns, f'Δ {columns[0]}', 'paper mAP', 'Δ paper']]
    for row in rows:
        scores = results[row.name]
        cells = [f'{100 * scores[name]:.1f}' for name in columns]
        cells.append(f'{100 * (scores[columns[0]] - full):+.1f}')
        cells.append('–' if row.paper is None else f'{row.paper:.1f}')
        cells.append('–' if row.paper is None else f'{row.paper - paper_full:+.1f}')
        table.append([row.title, *cells])
    return table


_RUN = ('settings', 'scores', 'rows')


class KeptResults:
    """Scores of rows in a JSON file, so that an interrupted ablation goes on where it was.

    settings: whatever the scores depend on; with other settings it starts afresh, and the file
    keeps what it had under "earlier".
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self.scores: dict[str, dict[str, float]] = {}
        self._earlier: list[dict[str, Any]] = []
        self._is_ours = True
        if not path.exists():
            return
        try:
            data = parse_json(path.read_bytes())
            runs = [{key: data[key] for key in _RUN}, *data.get('earlier', [])]
            self._earlier = [run for run in runs if run['settings'] != self._settings]
            for run in reversed(runs):
                if run['settings'] == self._settings:
                    self.scores = dict(run['scores'])
        except (OSError, ValueError, KeyError, TypeError):
            self._is_ours = False

    def add(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Take over some rows' scores, and write all to the file."""
        self.scores |= {name: dict(each) for name, each in scores.items()}
        rows = {row.name: asdict(row) for row in ROWS if row.name in self.scores}
        data = {'settings': self._settings, 'scores': self.scores, 'rows': rows}
        if self._earlier:
            data['earlier'] = self._earlier
        if not self._is_ours:
            self._path.rename(unused_path(self._path))
            self._is_ours = True
        write_file(self._path, json.dumps(data, indent=1) + '\n')
