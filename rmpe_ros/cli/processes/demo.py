# SPDX-License-Identifier: Apache-2.0
"""The demo: camera, pose and visualizer nodes as separate processes on real photos, with proof.

Prints people and latency as they come, leaves annotated pictures and an mcap bag, reads that bag
back, and says in one table what was found. Needs ROS 2 and this package's messages.
"""

from __future__ import annotations

import importlib
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rmpe_ros.cli.errors import fail
from rmpe_ros.cli.processes.demo_folder import DemoError, DemoFolder, prepare_folder
from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.core.percentile import percentile
from rmpe_ros.io.images import ImageError, count_images, list_folder, list_sources, load_image
from rmpe_ros.io.interruption import interrupted_by_signals

if TYPE_CHECKING:
    from rmpe_ros.cli.processes.child_process import NodeProcess
    from rmpe_ros.cli.processes.demo_recorder import Answers, DemoRecorder

_STREAM_LIMIT = 300
_PHOTO_REPEATS = 3
_RATE = 10.0
_ANSWER_TIMEOUT = 20.0
_START_TIMEOUT = 90.0
# visualizer_node, image_source_node and the recorder. pose_node publishes last, with its models
# loaded, and each finds that out in its own time: earlier answers would reach only some of them.
_ANSWER_SUBSCRIBERS = 3
_LAST_PICTURES_TIMEOUT = 20.0
# A machine that is busy takes messages one by one, long after they came: so many times nothing.
_QUIET_SPINS = 5
_INTERRUPTED = 130

_NO_ROS = """\
The demo needs ROS 2 and the messages of this package ({reason}). Either
  make demo                         sets up everything by itself, ROS 2 included, or
  source /opt/ros/<distro>/setup.bash && colcon build && source install/setup.bash && rmpe demo
Without ROS: rmpe predict photo.jpg"""


@dataclass(frozen=True)
class DemoOptions:
    """source: photo, folder, video or webcam; out: folder for the results.

    max_images: of a video or webcam, 0 for all of it; parameters: of pose_node.
    """

    source: str
    out: Path
    max_images: int = _STREAM_LIMIT
    parameters: Mapping[str, object] = field(default_factory=dict)


def run_demo(options: DemoOptions) -> int:
    """Run it; returns the exit code: 0, 1 when something went wrong, 130 after Ctrl-C, SIGTERM or
    SIGHUP.

    Raises TargetError when the results would replace the source.
    """
    try:
        with interrupted_by_signals() as interrupted:
            _check_ros()
            _check_source(options.source)
            files = [path for path, camera in list_sources([options.source]) if camera is None]
            folder = prepare_folder(options.out, files)
            return _Demo(options, folder, interrupted).run()
    except DemoError as error:
        return fail(error, 1, 'demo')
    except KeyboardInterrupt:
        print('interrupted, all nodes have been ended', file=sys.stderr)
        return _INTERRUPTED


class _Demo:
    """One run: folders, child processes, recorder, checks, table."""

    def __init__(
        self, options: DemoOptions, folder: DemoFolder, interrupted: Callable[[], bool]
    ) -> None:
        from rmpe_ros.cli.processes.dds_environment import local_environment

        self.options = options
        self.interrupted = interrupted
        self.is_stream = count_images([options.source]) is None
        self.folder = folder
        self.pictures, self.logs, self.bag = folder.pictures, folder.logs, folder.bag
        package_root = Path(__file__).resolve().parents[3]
        self.environment = local_environment(os.environ, processes=4, packages=package_root)
        self.environment.setdefault('ROS_LOG_DIR', str(self.logs.resolve() / 'ros'))
        self.environment.setdefault('RCUTILS_COLORIZED_OUTPUT', '0')
        self.children: dict[str, NodeProcess] = {}
        self.problems: list[str] = []
        self.last_line = 0.0
        self.has_images = False

    def run(self) -> int:
        started = time.monotonic()
        print(
            f'Starting image_source_node, pose_node and visualizer_node '
            f'(ROS_DOMAIN_ID {self.environment["ROS_DOMAIN_ID"]}), logs in {self.logs}'
        )
        with ExitStack() as stack:
            for name, parameters in self._parameters().items():
                self._start(stack, name, parameters)
            recorder = self._record(stack)
            self._wait_for_nodes(recorder)
            recorder.listen_to_images()
            print(f'Ready after {time.monotonic() - started:.1f} s')
            self._wait_for_source(recorder)
            self._wait_for_pictures(recorder)
            self._stop_children()
        self._check(recorder)
        self._check_bag(recorder)
        print(summary_table(recorder.answers, recorder.latencies_ms))
        for problem in self.problems:
            print(f'problem: {problem}', file=sys.stderr)
        self._write_report()
        print(f'Pictures: {self.pictures}  bag: {self.bag}')
        return 1 if self.problems else 0

    def _parameters(self) -> dict[str, dict[str, object]]:
        return {
            'pose_node': dict(self.options.parameters),
            'visualizer_node': {},
            'image_source_node': {
                'source': self.options.source,
                'frame_id': '{name}',
                'rate': 0.0 if self.is_stream else _RATE,
                'repeat': 1 if self.is_stream else _PHOTO_REPEATS,
                'max_images': self.options.max_images if self.is_stream else 0,
                # pose_node, visualizer_node and the recorder.
                'wait_for_subscribers': 3,
                'wait_for_answer': _ANSWER_TIMEOUT,
                'retry_period': 0.0,
            },
        }

    def _start(self, stack: ExitStack, name: str, parameters: Mapping[str, object]) -> None:
        from rmpe_ros.cli.processes.child_process import NodeProcess

        child = NodeProcess(
            name, self.folder.log(name), environment=self.environment, parameters=parameters
        )
        self.children[name] = stack.enter_context(child)

    def _record(self, stack: ExitStack) -> DemoRecorder:
        """Start ROS in this process, meanwhile the children start in theirs."""
        os.environ.update(self.environment)
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        from rmpe_ros.cli.processes.demo_recorder import DemoRecorder

        # No arguments: those on the command line are the demo's, not ROS's.
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        recorder = DemoRecorder(
            self.bag,
            self.pictures,
            numbered=self.is_stream,
            on_answer=self._tell,
            on_file=self.folder.note,
        )
        stack.callback(recorder.destroy_node)
        stack.callback(recorder.close)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(recorder)
        stack.callback(self.executor.shutdown)
        return recorder

    def _wait_for_nodes(self, recorder: DemoRecorder) -> None:
        """Until answers reach everybody and pictures the recorder, as their senders say."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            if not recorder.hears_answers:
                name, trouble = 'pose_node', 'come up'
            elif recorder.answer_subscribers < _ANSWER_SUBSCRIBERS:
                name, trouble = 'pose_node', 'reach the other nodes'
            elif not recorder.picture_subscribers:
                name, trouble = 'visualizer_node', 'reach the demo'
            else:
                return
            self._spin_while_alive()
            if time.monotonic() > deadline:
                raise DemoError(
                    f'{name} did not {trouble} in {_START_TIMEOUT:.0f} s; its log ends with\n'
                    + self.children[name].log_tail()
                )

    def _wait_for_source(self, recorder: DemoRecorder) -> None:
        """Until it has played everything, which it does at the pace of the answers."""
        source = self.children['image_source_node']
        deadline = time.monotonic() + _START_TIMEOUT
        while source.exit_code is None:
            self.has_images = bool(recorder.images)
            self._spin_while_alive()
            if not recorder.images and time.monotonic() > deadline:
                raise DemoError(
                    f'no image came in {_START_TIMEOUT:.0f} s; the log of image_source_node ends '
                    f'with\n{source.log_tail()}'
                )

    def _wait_for_pictures(self, recorder: DemoRecorder) -> None:
        """The last answers and pictures may still be on their way, or wait here to be taken."""
        deadline = time.monotonic() + _LAST_PICTURES_TIMEOUT
        received, quiet = recorder.received, 0
        while time.monotonic() < deadline:
            self._spin_while_alive()
            quiet = quiet + 1 if received == recorder.received else 0
            received = recorder.received
            if quiet >= _QUIET_SPINS and recorder.answers.keys() <= recorder.pictures.keys():
                break

    def _spin_while_alive(self) -> None:
        self.executor.spin_once(timeout_sec=0.1)
        if self.interrupted():
            raise KeyboardInterrupt
        for name, child in self.children.items():
            # It ends with 1 when a video ends too early: told at the end, beside what was found.
            is_expected = name == 'image_source_node' and (
                child.exit_code == 0 or (child.exit_code == 1 and self.has_images)
            )
            if child.exit_code is not None and not is_expected:
                raise DemoError(
                    f'{name} ended with exit code {child.exit_code}; its log ends with\n'
                    + child.log_tail()
                )

    def _stop_children(self) -> None:
        for name, child in self.children.items():
            exit_code = child.stop()
            if exit_code != 0:
                self.problems.append(
                    f'{name} ended with exit code {exit_code}:\n{child.log_tail()}'
                )

    def _tell(self, name: str, answers: Answers) -> None:
        """A line for each new photo, and at most one a second of a video."""
        now = time.monotonic()
        if (self.is_stream or len(answers.people) > 1) and now < self.last_line + 1.0:
            return
        if not self.is_stream and len(answers.people) > 1:
            return
        self.last_line = now
        print(
            f'  {name}: {answers.people[-1]} people, best score {answers.best_scores[-1]:.2f}, '
            f'{answers.latencies_ms[-1]:.0f} ms after its stamp ('
            f'p50 {percentile(answers.latencies_ms, 50):.0f}, '
            f'p95 {percentile(answers.latencies_ms, 95):.0f})',
            flush=True,
        )

    def _check(self, recorder: DemoRecorder) -> None:
        """Every photo is answered, and every answer has a picture and the header of an image."""
        if not recorder.answers:
            self.problems.append('not one image was answered')
        for path in [] if self.is_stream else photo_files(Path(self.options.source)):
            if path.name in recorder.answers:
                continue
            try:
                load_image(path)
            except ImageError as error:
                print(f'  skipped {error}')
            else:
                self.problems.append(f'{path.name} got no answer')
        strange = recorder.poses - recorder.images
        if strange:
            self.problems.append(f'{len(strange)} answers have a header that no image has')
        for name in recorder.answers.keys() - recorder.pictures.keys():
            self.problems.append(f'there is no annotated picture of {name}')

    def _check_bag(self, recorder: DemoRecorder) -> None:
        """Read the bag with nothing but itself: as many messages as written, the same headers."""
        from rmpe_ros.io.bags.content import read_bag

        content = read_bag(self.bag)
        expected = {
            '/image_raw': recorder.images,
            '/poses': recorder.poses,
        }
        for topic, headers in expected.items():
            if set(content.headers.get(topic, [])) != headers:
                self.problems.append(f'the bag does not hold the headers received on {topic}')
        if not content.counts.get('/skeleton'):
            self.problems.append('the bag has no skeleton')
        found = sum(content.people.values())
        print(
            'Bag read back: '
            + ', '.join(f'{count} {topic}' for topic, count in content.counts.items())
            + f'; {found} people'
        )

    def _write_report(self) -> None:
        """The page of the bag, which shows in a browser what was found and how long it took."""
        from rmpe_ros.evaluation.bag_report.run_page import run_page
        from rmpe_ros.evaluation.bag_report.shown_run import show_run
        from rmpe_ros.io.bags.reader import Bag
        from rmpe_ros.io.files import write_file

        page = self.folder.report
        if page.exists():  # not the demo's: what it made was removed at its beginning
            print(f'Report: left out, as {page} is there and not of a demo')
            return
        with Bag(self.bag) as bag:
            write_file(page, run_page([show_run(bag, 'demo')]))
        self.folder.note(page)
        print(f'Report: {page}  (a page with player and latencies, for any browser)')


def photo_files(source: Path) -> list[Path]:
    """The files that image_source_node plays: the photo, or what lies in the folder."""
    if not source.is_dir():
        return [source]
    return list_folder(source)


def summary_table(answers: Mapping[str, Answers], latencies_ms: list[float]) -> str:
    """Image, people, best score and latency, a row for each name, and the latency of all."""
    width = max([len('image'), *map(len, answers)])
    lines = [f'{"image":{width}}  frames  people  best score  latency p50']
    for name, answer in answers.items():
        lines.append(
            f'{name:{width}}  {len(answer.people):6d}  {statistics.median(answer.people):6.0f}  '
            f'{max(answer.best_scores):10.2f}  {percentile(answer.latencies_ms, 50):8.0f} ms'
        )
    if latencies_ms:
        lines.append(
            f'{len(latencies_ms)} frames answered, latency from stamp to received poses: '
            f'p50 {percentile(latencies_ms, 50):.0f} ms, p95 {percentile(latencies_ms, 95):.0f} ms'
        )
    return '\n'.join(lines)


def _check_ros() -> None:
    for module in ('rclpy', 'rmpe_ros.msg', 'rosbags'):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise DemoError(_NO_ROS.format(reason=error)) from error


def _check_source(source: str) -> None:
    is_camera = re.fullmatch(r'(webcam:|/dev/video)?\d+', source)
    if not is_camera and not Path(source).exists():
        raise DemoError(
            f'source {source} does not exist{path_hint(source)}; '
            'expected a photo, folder, video or webcam:0'
        )
