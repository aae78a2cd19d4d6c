# SPDX-License-Identifier: Apache-2.0
"""The curves of `rmpe benchmark --plot`: time and memory against people, image size and cameras."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.benchmark_inputs import made_boxes, made_picture, parse_size
from rmpe_ros.io.process_memory import resident_megabytes

if TYPE_CHECKING:
    from rmpe_ros.pipeline import PosePipeline

PEOPLE = (1, 2, 4, 8, 16, 32, 50)
SIZES = ('640x480', '1280x720', '1920x1080', '3840x2160', '7680x4320')
CAMERAS = (1, 2, 3, 4)
# Where another thing varies.
_USUAL_PEOPLE, _USUAL_SIZE = 4, SIZES[0]


def measure_curves(pipeline: PosePipeline, args: argparse.Namespace) -> dict[str, Any]:
    """Three curves (JSON types): for each value p50 and p95 in milliseconds, resident megabytes
    and, where it can be told, the floor of this machine. All points take turns.
    """
    from rmpe_ros.cli.benchmark_command import measure, summarise

    pipeline.max_people = None
    points: dict[tuple[str, str], tuple[int, str, int]] = {
        **{('people', str(n)): (n, _USUAL_SIZE, 1) for n in PEOPLE},
        **{('image', size): (_USUAL_PEOPLE, size, 1) for size in SIZES},
        **{('cameras', str(n)): (_USUAL_PEOPLE, _USUAL_SIZE, n) for n in CAMERAS},
    }
    floor = _floor(pipeline, args)
    curves: dict[str, dict[str, Any]] = {'people': {}, 'image': {}, 'cameras': {}}
    for curve in curves:
        mine = {name: point for name, point in points.items() if name[0] == curve}
        memory: dict[str, float] = {}
        contenders = {
            name[1]: _frames(pipeline, name[1], *point, memory) for name, point in mine.items()
        }
        for value, times in measure(contenders, args.repeat).items():
            people, size, cameras = points[curve, value]
            curves[curve][value] = {
                **summarise(times)['total'],
                'resident_mb': round(memory[value], 1),
                **({'floor': round(floor(people, size, cameras), 3)} if callable(floor) else {}),
            }
    report: dict[str, Any] = {'repeat': args.repeat, 'curves': curves}
    if isinstance(floor, str):
        report['floor_missing'] = floor
    return report


def draw_curves(report: dict[str, Any], path: Path) -> None:
    """A picture with three panels: milliseconds and the floor on the left, memory on the right."""
    from matplotlib.figure import Figure

    names = {
        'people': f'people, {_USUAL_SIZE}',
        'image': f'image, {_USUAL_PEOPLE} people',
        'cameras': f'cameras, {_USUAL_PEOPLE} people each',
    }
    figure = Figure(figsize=(15, 4.5), layout='constrained')
    figure.suptitle(report['title'], fontsize=10)
    for axes, (curve, points) in zip(
        figure.subplots(1, len(names)), report['curves'].items(), strict=True
    ):
        where = [float(value) if curve == 'people' else n for n, value in enumerate(points)]
        axes.plot(where, [p['p50'] for p in points.values()], 'o-', color='C0', label='median')
        axes.plot(where, [p['p95'] for p in points.values()], ':', color='C0', label='95 %')
        if 'floor_missing' not in report:
            floors = [point['floor'] for point in points.values()]
            axes.plot(where, floors, '--', color='C2', label='floor of arithmetic and bytes')
        axes.set_xticks(where, list(points), fontsize=8)
        axes.set_xlabel(names[curve])
        axes.set_ylabel('milliseconds a frame')
        axes.set_ylim(bottom=0)
        memory = axes.twinx()
        memory.plot(where, [p['resident_mb'] for p in points.values()], 's-', color='C3', alpha=0.5)
        memory.set_ylabel('resident MB of this process', color='C3')
        memory.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _frames(
    pipeline: PosePipeline,
    value: str,
    people: int,
    size: str,
    cameras: int,
    memory: dict[str, float],
) -> Callable[[], dict[str, float]]:
    """One frame of each camera: detection in it, then the given people."""
    from rmpe_ros.cli.benchmark_command import milliseconds

    width, height = parse_size(size)
    image = made_picture(None, width, height)
    boxes = made_boxes(people, width, height, None)

    def frame() -> None:
        for _ in range(cameras):
            pipeline.detector(image)
        pipeline.batch([image] * cameras, boxes=[(boxes, None)] * cameras)

    def once() -> dict[str, float]:
        times = {'total': milliseconds(frame)}
        memory[value] = resident_megabytes() or float('nan')
        return times

    return once


def _floor(
    pipeline: PosePipeline, args: argparse.Namespace
) -> Callable[[int, str, int], float] | str:
    """Milliseconds that both networks need at least, for (people, image size, cameras); or why that
    is not known.
    """
    from rmpe_ros.engines import EngineError
    from rmpe_ros.engines.cost import count_cost
    from rmpe_ros.engines.speed import device_peak
    from rmpe_ros.models import DEFAULT_DETECTOR, DEFAULT_POSE, find_model

    detector, estimator = pipeline.detector, pipeline.estimator
    models = [
        find_model(args.detector or DEFAULT_DETECTOR).read_bytes(),
        find_model(args.pose or DEFAULT_POSE).read_bytes(),
    ]
    try:
        peak = device_peak(estimator.engine, args.threads)
        if peak is None:
            return 'the peak of this device is not known'
        known = peak
        crop = count_cost(models[1], {'crops': (1, *estimator.crop_size, 3)}).floor_seconds(known)
    except EngineError as error:
        return str(error)

    def floor(people: int, size: str, cameras: int) -> float:
        width, height = parse_size(size)
        shape = (1, *detector.input_size((height, width)), 3)
        picture = count_cost(models[0], {'image': shape}).floor_seconds(known)
        return cameras * (picture + people * crop) * 1e3

    return floor
