# SPDX-License-Identifier: Apache-2.0
"""`rmpe predict`: poses of people in photos, folders, videos and webcams, to pictures and JSON."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.argument_types import (
    add_size_limit,
    natural_number,
    positive_number,
    share,
)
from rmpe_ros.cli.errors import fail
from rmpe_ros.cli.export_options import add_export_options, export_targets
from rmpe_ros.cli.image_ids import ImageIds, read_image_ids
from rmpe_ros.cli.stream_finder import StreamFinder, add_stream_option
from rmpe_ros.core.limits import MAX_PEOPLE
from rmpe_ros.core.percentile import percentile
from rmpe_ros.io.file_guard import Target, derives, reads, writes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rmpe_ros.core.poses import Poses
    from rmpe_ros.io.images import SourceImage
    from rmpe_ros.pipeline import PosePipeline

# Below this many pixels (the shorter side) nobody can be recognised; worth a remark.
_TOO_SMALL = 16


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'predict',
        help='poses of people in photos, folders, videos or a webcam',
        description='Estimate the poses of all people in photos, folders of photos, videos or a '
        'webcam (webcam:0). Exit code 1 when an input could not be read; the others are done.',
    )
    parser.add_argument(
        'path',
        nargs='+',
        metavar='PATH',
        help='photo, folder, video, webcam:0 or the address of a stream',
    )
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='write pictures and videos with skeletons drawn'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write poses as COCO results')
    parser.add_argument(
        '--skeleton',
        default='coco17',
        choices=('coco17', 'body19', 'mpii16'),
        help='keypoints in the JSON (default: %(default)s, what COCO tools expect)',
    )
    parser.add_argument(
        '--annotations',
        type=Path,
        metavar='FILE',
        help="COCO annotations: take each image's id from their file_name → id "
        '(image_id is the file name otherwise)',
    )
    parser.add_argument(
        '--color-by', default='person', choices=('person', 'side'), help='colours of the skeletons'
    )
    parser.add_argument('--boxes', action='store_true', help='draw boxes and scores, too')
    parser.add_argument(
        '--track',
        action='store_true',
        help='number the people of a video or webcam: in its JSON (track_id) and its pictures',
    )
    parser.add_argument(
        '--smooth', action='store_true', help='take the jitter off their joints; implies --track'
    )
    add_stream_option(parser)
    add_export_options(parser)
    add_pipeline_options(parser)
    reads(parser, 'path', '--annotations')
    writes(parser, '--json')
    derives(parser, targets=_pictures_to_write, inputs=_files_to_read)
    parser.set_defaults(run=run)


def add_pipeline_options(parser: argparse.ArgumentParser, *, most: int | None = MAX_PEOPLE) -> None:
    """The options of every command that runs the pipeline; see `open_pipeline`.

    most: how many people are looked at unless the user says otherwise; None: all.
    """
    group = parser.add_argument_group('pipeline')
    group.add_argument(
        '--detector',
        metavar='MODEL',
        help='person detector: shipped name or .onnx file (default: detector)',
    )
    group.add_argument(
        '--detector-size',
        type=positive_number,
        metavar='PX',
        help="longer side of the detector's input: more finds smaller people, and takes longer "
        '(default: as the detector suggests, 448)',
    )
    group.add_argument(
        '--pose',
        metavar='MODEL',
        help='pose network: shipped name (lite, standard) or .onnx file (default: lite)',
    )
    group.add_argument(
        '--threads',
        type=positive_number,
        metavar='N',
        help='CPU threads for each model (default: physical cores)',
    )
    group.add_argument(
        '--backend',
        metavar='NAME',
        help='what runs the models: tensorrt, tensorrt_rtx, onnxruntime_cuda or onnxruntime '
        '(default: the best here)',
    )
    group.add_argument(
        '--precision', choices=('fp32', 'fp16'), default='fp32', help='of TensorRT engines'
    )
    group.add_argument(
        '--min-score',
        type=share,
        metavar='S',
        help='leave out people below this score, 0 to 1 (default: as the pose model suggests)',
    )
    group.add_argument(
        '--max-people',
        type=natural_number,
        default=most,
        metavar='N',
        help=f'look at the N best boxes only, 0: all (default: {"all" if most is None else most})',
    )
    group.add_argument(
        '--pose-nms',
        action=_LoadPoseNms,
        metavar='FILE',
        help='pose NMS parameters that `rmpe tune-nms` wrote (default: the shipped ones)',
    )
    add_size_limit(group)
    parser.set_defaults(pose_nms_file=None)
    reads(parser, '--detector', '--pose', '--pose-nms-file')


def open_pipeline(args: argparse.Namespace) -> 'PosePipeline':
    """The pipeline that the options of `add_pipeline_options` ask for."""
    from rmpe_ros.core.pose_nms import DEFAULT_POSE_NMS
    from rmpe_ros.pipeline import PosePipeline

    return PosePipeline(
        args.detector,
        args.pose,
        detector_size=args.detector_size,
        pose_nms=args.pose_nms or DEFAULT_POSE_NMS,
        min_score=args.min_score,
        max_people=args.max_people or None,
        threads=args.threads,
        backend=args.backend or 'auto',
        precision=args.precision,
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 1 when an input failed, 130 when interrupted."""
    from rmpe_ros.io.images import count_images
    from rmpe_ros.io.progress import Progress

    if args.out is not None and args.out.exists() and not args.out.is_dir():
        return fail(f'--out {args.out} is a file, expected a folder', 2, 'predict')
    try:
        image_ids = read_image_ids(args.annotations) if args.annotations else None
    except ValueError as error:
        return fail(error, 2, 'predict')
    with open_pipeline(args) as pipeline, Progress(count_images(args.path), 'image') as progress:
        work = _Prediction(args, pipeline, progress, image_ids)
        try:
            work.run()
            code = 1 if work.failures else 0
        except KeyboardInterrupt:
            code = 130
        finally:
            work.finish()
    print(work.summary())
    return code


class _Prediction:
    """What has been done so far."""

    def __init__(
        self,
        args: argparse.Namespace,
        pipeline: 'PosePipeline',
        progress: Any,
        image_ids: ImageIds | None,
    ) -> None:
        from rmpe_ros.core.skeletons import get_skeleton
        from rmpe_ros.io.drawn_files import DrawnFiles
        from rmpe_ros.io.exports import open_exporters, options_of
        from rmpe_ros.io.overlap import WriteBehind

        self.args = args
        self.pipeline = pipeline
        self.progress = progress
        self.image_ids = image_ids
        self.target = get_skeleton(args.skeleton)
        self.pictures = (
            DrawnFiles(args.out, color_by=args.color_by, boxes=args.boxes) if args.out else None
        )
        self.exporters = open_exporters(self.target, **options_of(vars(args)))
        self.drawing: WriteBehind[tuple[SourceImage, Poses]] | None = None
        if self.pictures:
            add = self.pictures.add
            self.drawing = WriteBehind(lambda done: add(*done), lambda done: _bytes(done[0]))
        self.finder = StreamFinder(args, pipeline, progress.say)
        self.names: set[str] = set()
        self.results: list[dict[str, Any]] = []
        self.milliseconds: list[float] = []
        self.people = 0
        self.failures = 0

    def run(self) -> None:
        """While people are looked for in one image, the next are read, the last are drawn."""
        from rmpe_ros.io.images import iter_images
        from rmpe_ros.io.overlap import ReadAhead

        images = ReadAhead(iter_images(self.args.path), _bytes)
        try:
            self._predict(images)
        finally:
            images.close()

    def _predict(self, images: 'Iterable[SourceImage]') -> None:
        for item in images:
            if item.image is None:
                self._fail(item.error or item.name)
                continue
            height, width = item.image.shape[:2]
            if min(height, width) < _TOO_SMALL:
                self.progress.say(f'{item.path}: {width}x{height} pixels is too small for a person')
            if item.warning:
                self.progress.say(f'rmpe predict: warning: {item.warning}')
            poses = self.finder.find(item)
            self.milliseconds.append(self.pipeline.timings['total'])
            self.people += len(poses)
            if self.args.json:
                self._collect(item, poses)
            if self.drawing:
                self.drawing.put((item, poses))
            self._export(item, poses)
            if not (self.args.json or self.args.out or self.exporters):
                self.progress.say(f'{item.name}: {_count(len(poses), "person", "people")}')
            self.progress.advance(f'{self.people} people')

    def _collect(self, item: 'SourceImage', poses: 'Poses') -> None:
        if self.image_ids is None:
            # Two files of the same name in different folders are told apart by their paths.
            image_id: int | str = str(item.path) if item.name in self.names else item.name
            self.names.add(item.name)
        else:
            found = self.image_ids.find(item.path or Path(item.name))
            if found is None:
                self._fail(
                    f'{item.path}: not an image of {self.args.annotations}; left out of JSON'
                )
                return
            image_id = found
        results = poses.to_skeleton(self.target).to_coco_results(image_id)
        if item.frame is not None:
            when = {'frame': item.frame, 'time': None if item.time is None else round(item.time, 6)}
            results = [{**result, **when} for result in results]
        self.results += results

    def _export(self, item: 'SourceImage', poses: 'Poses') -> None:
        from rmpe_ros.io.exports import Picture

        if item.image is not None and self.exporters:
            picture = Picture(item.name, item.image, item.frame, item.time, item.path)
            for exporter in self.exporters:
                exporter.add(picture, poses)

    def _fail(self, line: str) -> None:
        self.failures += 1
        self.progress.say(f'rmpe predict: error: {line}')

    def finish(self) -> None:
        """Complete all files, also after an interruption."""
        from rmpe_ros.io.files import write_file

        try:
            try:
                if self.drawing:
                    self.drawing.close()
            finally:
                if self.pictures:
                    self.pictures.close()
                for exporter in self.exporters:
                    exporter.close()
        finally:
            if self.args.json:
                write_file(self.args.json, json.dumps(self.results))

    def summary(self) -> str:
        parts = [
            _count(len(self.milliseconds), 'image', 'images'),
            _count(self.people, 'person', 'people'),
        ]
        if self.failures:
            parts.append(f'{self.failures} failed')
        if self.milliseconds:
            parts.append(f'{percentile(self.milliseconds, 50):.1f} ms per image (p50)')
        parts += [f'pictures in {self.args.out}'] if self.args.out else []
        parts += [f'YOLO data set in {self.args.yolo}'] if self.args.yolo else []
        return ', '.join(parts)


def _files_to_read(args: argparse.Namespace) -> 'Iterator[Path]':
    from rmpe_ros.io.images import list_sources

    return (path for path, camera in list_sources(args.path) if camera is None)


def _pictures_to_write(args: argparse.Namespace) -> list[Target]:
    from rmpe_ros.io.drawn_files import names_of_drawn_files

    names = names_of_drawn_files(args.path) if args.out is not None else []
    return [Target(args.out / name, '--out', derived=True) for name in names] + export_targets(args)


def _bytes(item: 'SourceImage') -> int:
    return 0 if item.image is None else item.image.nbytes


def _count(number: int, one: str, many: str) -> str:
    return f'{number} {one if number == 1 else many}'


class _LoadPoseNms(argparse.Action):
    """Keeps the parameters as `pose_nms`, and the name of their file as `pose_nms_file`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        from rmpe_ros.io.pose_nms_file import load_pose_nms

        try:
            namespace.pose_nms = load_pose_nms(values)
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        namespace.pose_nms_file = Path(values)
