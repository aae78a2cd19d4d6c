# SPDX-License-Identifier: Apache-2.0
"""`rmpe benchmark`: how long each stage of the pipeline takes, also against another network."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.benchmark_inputs import (
    made_boxes,
    made_picture,
    make_input,
    parse_size,
    rival_size,
)
from rmpe_ros.cli.errors import fail
from rmpe_ros.cli.machine_load import LoadMeter
from rmpe_ros.cli.predict_command import add_pipeline_options, open_pipeline
from rmpe_ros.core.limits import DETECT_EVERY
from rmpe_ros.io.file_guard import reads, writes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rmpe_ros.engines import Engine
    from rmpe_ros.pipeline import PosePipeline

Times = dict[str, list[float]]
_WARM_UP = 3


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'benchmark',
        help='time of each stage for 1, 4, 8 people, also against another ONNX network',
        description='Time the pipeline stage by stage. All contenders take turns in one run, so '
        'that their ratios hold on a machine that is busy with other things as well. With '
        '--backend, also each engine alone: its memory, its time for every batch size, and how far '
        'that is from the floor that arithmetic and bytes set.',
    )
    parser.add_argument(
        '--people',
        type=int,
        nargs='+',
        default=[1, 4, 8],
        metavar='N',
        help='how many people there are (default: 1 4 8)',
    )
    parser.add_argument('--image', type=Path, help='photo to run on (default: a made-up one)')
    parser.add_argument(
        '--size',
        nargs='+',
        default=['640x480'],
        metavar='WxH',
        help='of the picture (default: 640x480)',
    )
    parser.add_argument(
        '--repeat', type=int, default=50, metavar='N', help='how often (default: %(default)s)'
    )
    parser.add_argument(
        '--against', type=Path, metavar='FILE.onnx', help='another network, its bare graph'
    )
    parser.add_argument(
        '--against-size',
        metavar='WxH',
        help="its input, where not fixed (default: the picture's size in steps of 32, as YOLO's "
        'run time does it)',
    )
    parser.add_argument('--nms', action='store_true', help='time only the pose NMS')
    parser.add_argument(
        '--ros',
        action='store_true',
        help='time only what pose_node adds to the pipeline, with each transport of Fast DDS',
    )
    parser.add_argument(
        '--plot',
        type=Path,
        metavar='FILE',
        help='instead, draw time and memory against people (1-50), size of the image (VGA to 8K) '
        'and cameras (1-4), with the floor of this machine (.png, .svg, .pdf)',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers')
    parser.add_argument('--html', type=Path, metavar='FILE', help='write a page with bars')
    add_pipeline_options(parser, most=None)
    reads(parser, '--image', '--against')
    writes(parser, '--json', '--html', '--plot')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, write JSON."""
    from rmpe_ros.io.files import write_file

    if args.html and args.ros:
        return fail('--html does not go with --ros', 2, 'benchmark')
    if args.repeat < 1 or min(args.people) < 1:
        return fail('--repeat and --people must be 1 or more', 2, 'benchmark')
    try:
        if args.ros:
            return _measure_ros(args)
        meter = LoadMeter()
        if args.plot:
            return _plot(args, meter)
        report = _nms_report(args.repeat) if args.nms else _pipeline_report(args)
    except ValueError as error:
        return fail(error, 2, 'benchmark')
    load = meter.read()
    if load is not None:
        report['load'] = asdict(load)
        print(load)
    _print_table(report)
    if 'engines' in report:
        _print_engines(report['engines'])
    if args.json:
        write_file(args.json, json.dumps(report, indent=2))
    if args.html:
        write_file(args.html, _page(report))
    return 0


def _plot(args: argparse.Namespace, meter: LoadMeter) -> int:
    import matplotlib  # noqa: F401  missing? better known before the work than after

    from rmpe_ros.cli.benchmark_curves import draw_curves, measure_curves
    from rmpe_ros.io.files import write_file

    with open_pipeline(args) as pipeline:
        report = measure_curves(pipeline, args)
    load = meter.read()
    if load is not None:
        report['load'] = asdict(load)
        print(load)
    report['title'] = str(load or '')
    draw_curves(report, args.plot)
    print(f'curves in {args.plot}')
    if args.json:
        write_file(args.json, json.dumps(report, indent=2))
    return 0


def _page(report: dict[str, Any]) -> str:
    from rmpe_ros.evaluation.page import html_table, page, section
    from rmpe_ros.evaluation.page.charts import bars

    results = report['results']
    stages = {
        name: {
            stage: each['p50']
            for stage, each in result.items()
            if isinstance(each, dict)
            and stage != 'video'
            and (stage != 'total' or len(result) == 2)
        }
        for name, result in results.items()
    }
    rows = [['', 'total p50 ms', 'total p95 ms', 'per second']]
    rows += [
        [name, f'{r["total"]["p50"]:.2f}', f'{r["total"]["p95"]:.2f}', f'{r["per_second"]:.1f}']
        for name, r in results.items()
    ]
    facts = [['of the run', '']]
    facts += [[k, str(v)] for k, v in report.items() if isinstance(v, str | int | float)]
    return page(
        'rmpe benchmark',
        [
            section('Milliseconds by stage, p50', bars(list(stages.items()), 'ms', digits=2)),
            html_table(rows),
            html_table(facts),
        ],
    )


def _measure_ros(args: argparse.Namespace) -> int:
    if len(args.size) > 1:
        raise ValueError('--ros measures one --size at a time')
    from rmpe_ros.cli.processes.node_benchmark import measure_ros, print_ros
    from rmpe_ros.io.files import write_file

    models = {'detector': args.detector, 'pose_model': args.pose}
    report = measure_ros(
        size=parse_size(args.size[0]),
        repeat=args.repeat,
        models={name: str(model) for name, model in models.items() if model},
    )
    print_ros(report)
    if args.json:
        write_file(args.json, json.dumps(report, indent=2))
    return 0


def _pipeline_report(args: argparse.Namespace) -> dict[str, Any]:
    import cv2

    from rmpe_ros.engines import open_engine
    from rmpe_ros.engines.onnxruntime import physical_cores

    pictures = [made_picture(args.image, *parse_size(size)) for size in args.size]
    contenders: dict[str, Callable[[], dict[str, float]]] = {}
    with open_pipeline(args) as pipeline:
        for size, image in zip(args.size, pictures, strict=True):
            # Detected once: the boxes, not the detector, decide how many people there are.
            found = pipeline.detector(image)[0] if args.image else None
            for people in args.people:
                boxes = made_boxes(people, image.shape[1], image.shape[0], found)
                name = f'{people} people' if people > 1 else '1 person'
                name += f', {size}' if len(pictures) > 1 else ''
                contenders[name] = _stages(pipeline, image, boxes)
        if args.against:
            rival = open_engine(args.against, args.backend or 'auto', threads=args.threads)
            size = rival_size(args.against_size, pictures[0])
            inputs = {
                name: make_input(info, size, pictures[0]) for name, info in rival.inputs.items()
            }
            contenders[rival.name] = _network(rival, inputs)
        times = measure(contenders, args.repeat)
        engines = _engine_reports(args, pipeline) if args.backend else None
    report: dict[str, Any] = {
        'image': ', '.join(args.size),
        'repeat': args.repeat,
        'threads': args.threads or physical_cores(),
        'opencv': cv2.__version__,
        'results': {name: summarise(stages) for name, stages in times.items()},
    }
    if engines:
        report['engines'] = engines
    if args.against:
        theirs = report['results'][rival.name]['total']['p50']
        report['against'] = rival.name
        for result in report['results'].values():
            result['ratio'] = round(result['total']['p50'] / theirs, 3)
            if 'video' in result:
                result['video_ratio'] = round(result['video']['p50'] / theirs, 3)
    return report


def _engine_reports(args: argparse.Namespace, pipeline: 'PosePipeline') -> dict[str, Any]:
    """Each engine alone, and the device they are compared with."""
    from rmpe_ros.engines import EngineError
    from rmpe_ros.engines.speed import device_peak, measure_engine
    from rmpe_ros.models import DEFAULT_DETECTOR, DEFAULT_POSE, find_model

    try:
        peak = device_peak(pipeline.estimator.engine, args.threads)
        device = peak.source if peak else 'the peak of this device is not known'
    except EngineError as error:
        peak, device = None, str(error)
    names = (args.detector or DEFAULT_DETECTOR, args.pose or DEFAULT_POSE)
    engines = (pipeline.detector.engine, pipeline.estimator.engine)
    return {
        'device': device,
        'models': [
            measure_engine(
                engine, find_model(name), peak=peak, precision=args.precision, repeat=args.repeat
            )
            for name, engine in zip(names, engines, strict=True)
        ],
    }


def _nms_report(repeat: int) -> dict[str, Any]:
    contenders = {f'{n} poses x 19 joints': _nms(n) for n in (5, 30, 100, 500)}
    times = measure(contenders, repeat)
    return {
        'repeat': repeat,
        'results': {name: summarise(stages) for name, stages in times.items()},
    }


def measure(contenders: dict[str, Callable[[], dict[str, float]]], repeat: int) -> dict[str, Times]:
    """Milliseconds per stage of each contender; they take turns, after a few rounds to warm up."""
    times: dict[str, Times] = {name: {} for name in contenders}
    for turn in range(-_WARM_UP, repeat):
        for name, contender in contenders.items():
            stages = contender()
            for stage, milliseconds in stages.items():
                if turn >= 0:
                    times[name].setdefault(stage, []).append(milliseconds)
    return times


def summarise(times: Times) -> dict[str, Any]:
    """Per stage p50 and p95 in milliseconds; and the total's frames per second."""
    import numpy as np

    summary: dict[str, Any] = {
        stage: {
            'p50': round(float(np.percentile(values, 50)), 3),
            'p95': round(float(np.percentile(values, 95)), 3),
        }
        for stage, values in times.items()
    }
    summary['per_second'] = round(1e3 / max(summary['total']['p50'], 1e-6), 1)
    return summary


def _stages(
    pipeline: 'PosePipeline', image: 'NDArray[np.uint8]', boxes: 'NDArray[np.floating]'
) -> Callable[[], dict[str, float]]:
    """Detection in the image, then the rest of the pipeline with the given people; and the mean of
    a video's images, in which people are detected now and then.
    """

    def once() -> dict[str, float]:
        start = perf_counter()
        pipeline.detector(image)
        detect = (perf_counter() - start) * 1e3
        pipeline(image, boxes=boxes)
        timings = pipeline.timings
        rest = timings['total']
        video = detect / DETECT_EVERY + rest
        return {**timings, 'detect': detect, 'total': rest + detect, 'video': video}

    return once


def _network(engine: 'Engine', inputs: dict[str, Any]) -> Callable[[], dict[str, float]]:
    return lambda: {'total': milliseconds(lambda: engine(inputs))}


def _nms(count: int) -> Callable[[], dict[str, float]]:
    """Pose NMS of `count` poses in small groups of near duplicates."""
    import numpy as np

    from rmpe_ros.core.pose_nms import PoseNmsParameters, parametric_pose_nms

    random = np.random.default_rng(0)
    people = random.uniform(100, 900, (max(1, count // 5), 1, 2)) + random.normal(0, 40, (1, 19, 2))
    keypoints = np.resize(people, (count, 19, 2)) + random.normal(0, 3, (count, 19, 2))
    keypoints = keypoints.astype(np.float32)
    scores = random.uniform(0.2, 0.9, (count, 19)).astype(np.float32)
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    arrays = keypoints, scores, boxes, scores.mean(axis=1), PoseNmsParameters()
    return lambda: {'total': milliseconds(lambda: parametric_pose_nms(*arrays))}


def milliseconds(action: Callable[[], Any]) -> float:
    start = perf_counter()
    action()
    return (perf_counter() - start) * 1e3


def _print_table(report: dict[str, Any]) -> None:
    """p50 (p95) of each stage in milliseconds, one contender a line."""
    results = report['results']
    stages = list(dict.fromkeys(s for r in results.values() for s in r if isinstance(r[s], dict)))
    name_width = max(12, *(len(name) for name in results))
    print('milliseconds, p50 (p95)' + (f', image {report["image"]}' if 'image' in report else ''))
    print(''.ljust(name_width) + ''.join(f'{stage:>18}' for stage in stages) + f'{"per s":>9}')
    for name, result in results.items():
        cells = ''
        for stage in stages:
            times = result.get(stage)
            cell = f'{times["p50"]:.2f} ({times["p95"]:.2f})' if times else ''
            cells += cell.rjust(18)
        ratio = f'   {result["ratio"]:.2f} x {report["against"]}' if 'ratio' in result else ''
        ratio += f', on video {result["video_ratio"]:.2f}' if 'video_ratio' in result else ''
        print(f'{name:<{name_width}}{cells}{result["per_second"]:>9}{ratio}')


def _print_engines(report: dict[str, Any]) -> None:
    """One line for each batch size of each engine."""
    print(f'\ndevice: {report["device"]}')
    for model in report['models']:
        sizes = [f'model {model["model_bytes"] / 1e6:.1f} MB']
        if model['engine_bytes']:
            sizes.append(f'engine {model["engine_bytes"] / 1e6:.1f} MB')
        if model['gpu_memory_bytes']:
            sizes.append(f'GPU buffers {model["gpu_memory_bytes"] / 1e6:.0f} MB')
        print(f'{model["model"]} on {model["backend"]}: {", ".join(sizes)}')
        if model['passed_over']:
            print(f'  passed over: {model["passed_over"]}')
        if 'floor_missing' in model:
            print(f'  no floor: {model["floor_missing"]}')
        print(f'  batch{"p50 ms":>10}{"p95 ms":>10}{"per s":>10}{"floor ms":>10}{"x floor":>9}')
        for bucket, result in model['buckets'].items():
            floor = (
                f'{result["floor"]:>10.3f}{result["times_floor"]:>9}' if 'floor' in result else ''
            )
            line = f'{bucket:>7}{result["p50"]:>10}{result["p95"]:>10}{result["per_second"]:>10}'
            print(line + floor)
