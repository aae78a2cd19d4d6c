# SPDX-License-Identifier: Apache-2.0
"""The poses of a recorded run against labels of its frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmpe_ros.evaluation.bag_report.recorded_run import RecordedRun
from rmpe_ros.evaluation.evaluate import evaluate
from rmpe_ros.evaluation.evaluate_bag import found_people, match_frames
from rmpe_ros.evaluation.labels import Labels
from rmpe_ros.evaluation.report import number


def measure_run(
    run: RecordedRun, labels: Labels, table: Mapping[int, str]
) -> list[tuple[str, str]] | None:
    """Names and values of numbers, None when no pose is of a labelled frame; each labelled frame
    gets its `accuracy`.

    table: stamp in nanoseconds → file of the frame.
    """
    matching = match_frames(run.recording, table, [image.file for image in labels.images])
    if not matching.answers:
        return None
    evaluation = evaluate(labels, found_people(matching, labels))
    ids = {image.file: image.id for image in labels.images}
    people = labels.people_of()
    for frame in run.frames:
        which = people.get(ids.get(table.get(frame.stamp, ''), -1))
        oks = evaluation.person_oks[which] if which is not None else np.zeros(0)
        if len(oks) and not np.isnan(oks).all():
            frame.accuracy = float(np.nanmean(oks))
    rows: list[tuple[str, str]] = []
    if evaluation.oks is not None:
        rows.append(('OKS AP', number(evaluation.oks['AP'])))
        rows.append(('mean OKS', number(evaluation.oks['mean'])))
    if evaluation.pck is not None:
        rows.append(('mean PCK', number(evaluation.pck['mean'])))
    return rows
