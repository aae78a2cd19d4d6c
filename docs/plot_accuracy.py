# SPDX-License-Identifier: Apache-2.0
"""Draws accuracy against time for pose models, which is how the default is chosen.

    rmpe evaluate --images images --annotations val.json --pose lite --json lite.json
    rmpe evaluate --images images --annotations val.json --pose lite --json true.json --gt-boxes
    python3 docs/plot_accuracy.py lite=lite.json,true.json … --out docs/images/accuracy.svg

AP is that of the two files; time is measured here, all models taking turns in one run, and drawn
as a multiple of the first model's: of one crop, and of a 640x480 frame with four people, the
detector included. `--against` is another network's bare graph with its AP, for the frame only.
Needs `pip install ".[evaluate]"`.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rmpe_ros import PosePipeline
from rmpe_ros.cli.benchmark_command import measure, milliseconds
from rmpe_ros.cli.benchmark_inputs import made_boxes, made_picture, make_input
from rmpe_ros.engines import open_engine

WIDTH, HEIGHT, PEOPLE = 640, 480, 4


@dataclass(frozen=True)
class Point:
    """A model's name, its AP end to end and in true boxes; NaN where there is none."""

    name: str
    end_to_end: float
    true_boxes: float


def read_point(name: str, files: str) -> Point:
    """Of the JSON files that `rmpe evaluate` wrote; the first may be left out."""
    found = [json.loads(Path(file).read_text()) if file else None for file in files.split(',')]
    end_to_end, true_boxes = (each['oks']['AP'] if each else float('nan') for each in found)
    return Point(name, end_to_end, true_boxes)


def contenders(models: list[str], against: str | None, threads: int) -> dict[str, Callable]:
    """What takes turns: a crop and a frame of each model, and the other network."""
    image = made_picture(None, WIDTH, HEIGHT)
    boxes = made_boxes(PEOPLE, WIDTH, HEIGHT, None)
    result: dict[str, Callable] = {}
    for number, model in enumerate(models):
        pipeline = PosePipeline(pose=model, threads=threads)
        crops = pipeline.estimator.crop(image, boxes[:1])

        def crop(pipeline: PosePipeline = pipeline, crops: tuple = crops) -> None:
            pipeline.estimator.estimate(*crops)

        def frame(pipeline: PosePipeline = pipeline) -> None:
            pipeline.detector(image)
            pipeline(image, boxes=boxes)

        result[f'crop {number}'], result[f'frame {number}'] = crop, frame
    if against:
        rival = open_engine(against, threads=threads)
        inputs = {n: make_input(i, (WIDTH, HEIGHT), image) for n, i in rival.inputs.items()}
        result['against'] = lambda: rival(inputs)
    return {name: lambda a=action: {'total': milliseconds(a)} for name, action in result.items()}


def draw(
    points: list[Point], crops: list[float], frames: list[float], note: str, path: Path
) -> None:
    """crops, frames: multiples of the first model's time."""
    figure = Figure(figsize=(9.5, 4.2), layout='constrained')
    panels = (
        (crops, [p.true_boxes for p in points], 'one crop', 'OKS AP, true boxes'),
        (frames, [p.end_to_end for p in points], f'a frame, {PEOPLE} people', 'OKS AP, end to end'),
    )
    figure.supxlabel(note, fontsize=8)
    for axes, (times, values, of, what) in zip(figure.subplots(1, 2), panels, strict=True):
        for number, (point, time, value) in enumerate(zip(points, times, values, strict=True)):
            if np.isnan(time + value):
                continue
            axes.plot(time, value, 'o', color=f'C{number}', markersize=9)
            axes.annotate(
                f'{point.name}\n{value:.3f}, {time:.2f}', (time, value), (0, 9),
                textcoords='offset points', ha='center', fontsize=8,
            )  # fmt: skip
        axes.set(xlabel=f'time of {of}, {points[0].name} = 1', ylabel=what)
        axes.set_xlim(0, 1.25 * np.nanmax(times))
        low, high = np.nanmin(values), np.nanmax(values)
        axes.set_ylim(low - 0.02, high + max(0.02, 0.2 * (high - low)))
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('models', nargs='+', metavar='MODEL=END_TO_END.json,TRUE_BOXES.json')
    parser.add_argument('--against', metavar='FILE.onnx=AP')
    parser.add_argument('--note', default='', help='a line below: which photos the APs are of')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--repeat', type=int, default=40)
    args = parser.parse_args()
    pairs = [each.rsplit('=', 1) for each in args.models]
    points = [read_point(Path(model).stem, files) for model, files in pairs]
    file, ap = args.against.rsplit('=', 1) if args.against else (None, 'nan')
    times = measure(contenders([model for model, _ in pairs], file, args.threads), args.repeat)
    median = {name: float(np.median(each['total'])) for name, each in times.items()}
    crops = [median[f'crop {n}'] / median['crop 0'] for n in range(len(points))]
    frames = [median[f'frame {n}'] / median['frame 0'] for n in range(len(points))]
    if file:
        points.append(Point(Path(file).stem, float(ap), float('nan')))
        crops.append(float('nan'))
        frames.append(median['against'] / median['frame 0'])
    draw(points, crops, frames, args.note, args.out)
    for point, crop, frame in zip(points, crops, frames, strict=True):
        print(
            f'{point.name}: AP {point.end_to_end:.3f}, in true boxes {point.true_boxes:.3f}; '
            f'crop {crop:.2f}, frame {frame:.2f} of {points[0].name}'
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
