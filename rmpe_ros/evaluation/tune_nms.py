# SPDX-License-Identifier: Apache-2.0
"""Finds the pose NMS parameters of the highest AP on a validation set (RMPE sec. 3.2).

Two parameters at a time on a grid, the other two fixed, in turn until nothing is gained. The paper
names neither pairs nor starts: we go through three pairs, from several starts.

AP alone likes duplicates: they rank low, cost little, and one of them may fit better than the
first. `Goal` can therefore limit how many are left.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.pose_nms import RELEASED_COCO, RELEASED_MPII, PoseNmsParameters
from rmpe_ros.evaluation.candidates import Candidates, Left, Mask, PoseNmsScenes

GRIDS: Mapping[str, NDArray[np.float64]] = {
    'sigma1': np.geomspace(0.02, 2.0, 13),
    'sigma2': np.geomspace(0.3, 100.0, 15),
    'lambda_': np.array([0, 0.25, 0.5, 0.75, 1, 1.35, 1.7, 2.1, 2.6, 3.2, 4, 5, 6.5]),
    # In joints of which each counts 1; as a share of all joints it serves any skeleton.
    'eta': np.array([*np.arange(1, 30, 1.0), *np.arange(30, 60, 2.0), *np.arange(60, 105, 5.0)]),
}
PLANES = (('lambda_', 'eta'), ('sigma1', 'sigma2'), ('sigma2', 'eta'))
# Differences of AP below this are no gain: a single pose that moves changes more.
_TOLERANCE = 1e-4
_MOST_ROUNDS = 6
BOX_IOUS = (0.6, 0.7, 0.8, 0.9)
_OKS_THRESHOLDS = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class Goal:
    """What is maximised: AP, less what duplicates exceed their limit by.

    most_duplicates: poses too many a person, None for no limit (the paper's goal). shown_score:
    duplicates below it are nobody's trouble.
    """

    most_duplicates: float | None = None
    shown_score: float = 0.0

    def __call__(self, scenes: PoseNmsScenes, parameters: PoseNmsParameters) -> float:
        """The value of parameters, at most their AP."""
        left = scenes.leave(parameters)
        ap = scenes.candidates.average_precision(*left)
        if self.most_duplicates is None:
            return ap
        duplicates = scenes.candidates.duplicates(left[0], self.shown_score)
        return ap - max(0.0, duplicates - self.most_duplicates)


AP_ALONE = Goal()


@dataclass(frozen=True, eq=False)
class Plane:
    """The goal over two parameters: values (len(first), len(second)) on the grids of `names`."""

    names: tuple[str, str]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tuning:
    """What a search found: the goal's value at its start and of `parameters`, the last planes."""

    parameters: PoseNmsParameters
    value: float
    start: PoseNmsParameters
    value_start: float
    planes: tuple[Plane, ...]


def tune(
    scenes: PoseNmsScenes,
    start: PoseNmsParameters,
    goal: Goal = AP_ALONE,
    progress: Callable[[str], None] = lambda note: None,
) -> Tuning:
    """The best that the search finds from `start` and from the released constants.

    progress is called with a line after each plane.
    """
    starts = [start]
    for released in (RELEASED_COCO, RELEASED_MPII):
        eta = released.eta_for(start.num_keypoints)
        same = replace(released, eta=eta, num_keypoints=start.num_keypoints, merge=start.merge)
        starts.append(same.with_variant(start.variant))
    tunings = [_alternate(scenes, each, goal, progress) for each in starts]
    best = max(tunings, key=lambda tuning: tuning.value)
    return replace(best, start=start, value_start=tunings[0].value_start)


def edges(parameters: PoseNmsParameters) -> list[str]:
    """Sentences about parameters at the end of their grid, beyond which nobody has looked."""
    found = []
    for name, grid in GRIDS.items():
        value = getattr(parameters, name)
        # Nothing lies below a lambda of 0.
        if grid[0] < value < grid[-1] or value == 0:
            continue
        found.append(
            f'{name.rstrip("_")} {value:g} is at the edge of what was tried, {grid[0]:g} to '
            f'{grid[-1]:g}: a better one may lie beyond it'
        )
    return found


def _alternate(
    scenes: PoseNmsScenes,
    start: PoseNmsParameters,
    goal: Goal,
    progress: Callable[[str], None],
) -> Tuning:
    """Go from plane to plane until nothing is gained."""
    current, value_start = start, goal(scenes, start)
    best = value_start
    last: dict[tuple[str, str], Plane] = {}
    for turn in range(_MOST_ROUNDS):
        before = best
        for names in PLANES:
            plane = _measure(scenes, current, goal, names)
            last[names] = plane
            if plane.values.max() > best + (_TOLERANCE if turn else 0):
                current = _at(current, names, pick_cell(plane.values))
                best = goal(scenes, current)
            progress(f'{" and ".join(n.rstrip("_") for n in names)}: {best:.4f}')
        if best <= before + _TOLERANCE:
            break
    return Tuning(current, best, start, value_start, tuple(last[n] for n in PLANES))


def pick_cell(values: NDArray[np.float64]) -> tuple[int, int]:
    """The highest cell; of several as good as that, the one with the best surroundings.

    Poses are few, so AP has plateaus; their middle is safer than their edge.
    """
    padded = np.pad(values, 2, mode='edge')
    rows, columns = values.shape
    around = np.mean(
        [padded[i : i + rows, j : j + columns] for i in range(5) for j in range(5)], axis=0
    )
    good = values >= values.max() - _TOLERANCE
    index = int(np.where(good, around, -np.inf).argmax())
    return index // columns, index % columns


def cross_validate(
    candidates: Candidates, among: Mask, start: PoseNmsParameters, goal: Goal = AP_ALONE
) -> float:
    """AP of parameters on pictures that they were not tuned on, mean over two folds.

    Pictures are dealt to the folds in turn, each source by itself. NaN where a fold has nobody.
    """
    rank: dict[str, int] = {}
    fold_of = {}
    for image in candidates.labels.images:
        rank[image.source] = rank.get(image.source, -1) + 1
        fold_of[image.id] = rank[image.source] % 2
    fold = np.repeat([fold_of[i] for i in candidates.ids], np.diff(candidates.starts))

    def scenes(wanted: int) -> PoseNmsScenes:
        labels = candidates.labels.select(lambda image: fold_of[image.id] == wanted)
        part = Candidates(labels, candidates.found())
        return PoseNmsScenes(part, among[fold == wanted], start.variant)

    halves = scenes(0), scenes(1)
    tuned = [tune(each, start, goal).parameters for each in halves]
    return float(np.mean([halves[1 - i].average_precision(tuned[i]) for i in (0, 1)]))


def compare(
    candidates: Candidates,
    tuned: PoseNmsParameters,
    ious: Sequence[float] = BOX_IOUS,
    *,
    shown_score: float = 0.0,
) -> list[list[str]]:
    """A table of AP and duplicates: ways of pose NMS (rows) over box NMS at several IoUs (columns).

    Duplicates are poses too many a person, of those with shown_score and more.
    """
    boxes = [candidates.after_box_nms(iou) for iou in ious]

    def parametric(parameters: PoseNmsParameters) -> list[Left]:
        variant = parameters.variant
        return [PoseNmsScenes(candidates, mask, variant).leave(parameters) for mask in boxes]

    def ap(ways: Sequence[Left]) -> list[float]:
        return [candidates.average_precision(*left) for left in ways]

    def duplicates(ways: Sequence[Left]) -> list[float]:
        return [candidates.duplicates(kept, shown_score) for kept, _ in ways]

    oks: dict[float, list[Left]] = {
        threshold: [(candidates.after_oks_nms(mask, threshold), None) for mask in boxes]
        for threshold in _OKS_THRESHOLDS
    }
    ours = parametric(tuned)
    best = max(oks, key=lambda threshold: max(ap(oks[threshold])))
    # The fair opponent leaves no more duplicates on average than we do.
    limit = np.mean(duplicates(ours))
    like = [t for t in oks if np.mean(duplicates(oks[t])) <= limit] or [min(oks)]
    alike = max(like, key=lambda threshold: np.mean(ap(oks[threshold])))
    rows: list[tuple[str, list[Left]]] = [
        ('box NMS only', [(mask, None) for mask in boxes]),
        ('OKS NMS at 0.9', oks[0.9]),
        (f'OKS NMS at {best} (best AP)', oks[best]),
        (f'OKS NMS at {alike} (as few duplicates)', oks[alike]),
        ('released constants, MPII', parametric(RELEASED_MPII)),
        ('released constants, COCO', parametric(RELEASED_COCO)),
    ]
    if tuned.merge:
        rows.append(('these, without merging', parametric(replace(tuned, merge=False))))
    rows.append(('these', ours))
    table = [['AP / duplicates after box NMS at', *(f'{iou:g}' for iou in ious)]]
    table.append(['poses before pose NMS', *(str(int(mask.sum())) for mask in boxes)])
    for name, ways in rows:
        numbers = zip(ap(ways), duplicates(ways), strict=True)
        table.append([name, *(f'{value:.4f} / {extra:.2f}' for value, extra in numbers)])
    return table


def plot_planes(tuning: Tuning) -> bytes:
    """The planes as a PNG, the chosen cells marked. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(tuning.planes), 4.4), layout='constrained')
    for axis, plane in zip(figure.subplots(1, len(tuning.planes)), tuning.planes, strict=True):
        x, y = (GRIDS[name] for name in plane.names)
        # The colours are for the top, where the choice is made; far below all is as bad.
        image = axis.pcolormesh(
            np.arange(len(x)),
            np.arange(len(y)),
            plane.values.T,
            shading='nearest',
            vmin=max(plane.values.min(), plane.values.max() - 0.03),
        )
        for values, ticks in ((x, axis.set_xticks), (y, axis.set_yticks)):
            shown = np.arange(0, len(values), max(1, len(values) // 6))
            ticks(shown, [f'{values[i]:.3g}' for i in shown])
        chosen = [
            int(np.abs(GRIDS[name] - getattr(tuning.parameters, name)).argmin())
            for name in plane.names
        ]
        axis.plot(*chosen, 'r+', markersize=14, markeredgewidth=2)
        axis.set(
            xlabel=plane.names[0].rstrip('_'),
            ylabel=plane.names[1],
            title='OKS AP, less duplicates',
        )
        figure.colorbar(image, ax=axis)
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=110)
    return stream.getvalue()


def _measure(
    scenes: PoseNmsScenes, fixed: PoseNmsParameters, goal: Goal, names: tuple[str, str]
) -> Plane:
    first, second = (GRIDS[name] for name in names)
    values = [
        [goal(scenes, _at(fixed, names, (i, j))) for j in range(len(second))]
        for i in range(len(first))
    ]
    return Plane(names, np.array(values))


def _at(
    parameters: PoseNmsParameters, names: tuple[str, str], cell: tuple[int, int]
) -> PoseNmsParameters:
    values = {name: round(float(GRIDS[name][i]), 4) for name, i in zip(names, cell, strict=True)}
    return replace(parameters, **values)  # type: ignore[arg-type]
