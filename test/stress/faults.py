# SPDX-License-Identifier: Apache-2.0
"""Faults: signals at any time, kill -9, lifecycle cycles, odd parameters, damaged models.

What has to end ends in time, with its exit code and without a traceback; what goes on answers.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from figures import growth, memory_figures, options_of, tell
from scene import Scene
from stressed_nodes import ROOT, stand
from traffic import pictures

from lifecycle_msgs.msg import Transition  # isort: skip
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters

KINDS = ('pose_node', 'visualizer_node', 'lift_node', 'people_node', 'image_source_node')
# Those ignored here, as SIGHUP is under nohup, are ignored by the nodes started from here, too.
SIGNALS = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if signal.getsignal(number) != signal.SIG_IGN
)
# Down from active, and up again.
CYCLE = (
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
)
# On a busy machine.
PATIENCE = 120.0
_ODD = {
    ParameterType.PARAMETER_BOOL: ('bool_value', (True, False)),
    ParameterType.PARAMETER_INTEGER: ('integer_value', (0, 1, -1, 7, 2**31, -(2**63), 2**63 - 1)),
    ParameterType.PARAMETER_DOUBLE: (
        'double_value',
        (0.0, 0.5, 1.0, -1.0, 1e30, 1e-30, float('nan'), float('inf')),
    ),
    ParameterType.PARAMETER_STRING: ('string_value', ('', 'x', 'lite', '/', 'ä' * 99, '../..')),
}


class Faults:
    """Counts what was done, and keeps sentences on what went wrong."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.place, self.rng, self.folder = scene, scene.place, scene.rng, folder
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def signal_at_some_time(self, kind: str, number: signal.Signals) -> None:
        """A node ends with 0 and without a traceback, whatever it is just doing."""
        arguments = ('-r', '__ns:=/short')
        if kind == 'image_source_node':
            arguments += ('-p', f'source:={self.folder}', '-p', 'wait_for_subscribers:=1')
        node = self.place.start(kind, *arguments, name='short', ready=False)
        self.place.spin(float(self.rng.uniform(0, 3)))
        node.signal(number)
        self._expect_end(node, (0,), f'{kind} after {number.name}')
        self.done['signals'] += 1

    def kill_viewer(self) -> None:
        """A viewer that is killed takes nothing with it."""
        node = self.place.nodes.pop('visualizer_node')
        node.signal(signal.SIGKILL)
        self.place.wait_for(lambda: node.exit_code is not None, 'the end of the viewer')
        self.place.start('visualizer_node', '-r', '__ns:=/left')
        self.done['viewers killed'] += 1

    def cycle(self) -> None:
        """Give everything back and take it again."""
        for transition in CYCLE:
            request = ChangeState.Request(transition=Transition(id=transition))
            if not self._call(ChangeState, '/pose_node/change_state', request).success:
                self.wrong.append(f'transition {transition} of pose_node was refused')
        self.done['lifecycle cycles'] += 1

    def odd_parameters(self, node: str) -> None:
        """Every parameter of a node gets some value of its type, is answered, and is put back."""
        names = self._call(ListParameters, f'{node}/list_parameters', ListParameters.Request())
        names = [name for name in names.result.names if name != 'use_sim_time']
        before = self._call(
            GetParameters, f'{node}/get_parameters', GetParameters.Request(names=names)
        )
        for name, value in zip(names, before.values, strict=True):
            if value.type not in _ODD:
                continue
            field, choices = _ODD[value.type]
            odd = ParameterValue(type=value.type)
            setattr(odd, field, choices[self.rng.integers(len(choices))])
            for each in (odd, value):
                request = SetParameters.Request(parameters=[Parameter(name=name, value=each)])
                self._call(SetParameters, f'{node}/set_parameters', request)
            self.done['parameters set'] += 1

    def damaged_model(self) -> None:
        """A network of which a part is lost or changed: the node starts, or says why it cannot."""
        source = ROOT / 'models' / ('lite.onnx', 'detector.onnx')[self.rng.integers(2)]
        data = bytearray(source.read_bytes())
        if self.rng.random() < 0.5:
            data = data[: self.rng.integers(len(data))]
        for _ in range(self.rng.integers(1, 200)):
            if data:
                data[self.rng.integers(len(data))] = self.rng.integers(256)
        (model := self.folder / 'damaged.onnx').write_bytes(data)
        parameter = 'pose_model' if source.stem == 'lite' else 'detector'
        node = self.place.start(
            'pose_node', '-r', '__ns:=/short', name='short', ready=False, **{parameter: str(model)}
        )
        try:
            self.place.wait_for(
                lambda: node.exit_code is not None or 'ready' in node.log_text(), 'a word', PATIENCE
            )
        except TimeoutError as error:
            self.wrong.append(f'a damaged model: {error}')
        node.signal(signal.SIGINT)
        self._expect_end(node, (0, 1), 'a damaged model')
        self.done['damaged models'] += 1

    def _expect_end(self, node: Any, codes: tuple[int, ...], what: str) -> None:
        self.place.nodes.pop('short')
        try:
            self.place.wait_for(lambda: node.exit_code is not None, 'its end', PATIENCE)
        except TimeoutError as error:
            self.wrong.append(f'{what}: {error}')
        if node.exit_code not in codes or 'Traceback' in node.log_text():
            self.wrong.append(f'{what}: exit code {node.exit_code}\n{node.log_tail(30)}')

    def _call(self, kind: Any, service: str, request: Any) -> Any:
        client = self.place.node.create_client(kind, service)
        self.place.wait_for(client.service_is_ready, service)
        future = client.call_async(request)
        self.place.wait_for(future.done, f'the answer of {service}')
        self.place.node.destroy_client(client)
        return future.result()


def run_round(faults: Faults, turn: int) -> None:
    """Some of everything; all kinds of nodes and signals come up in turn."""
    faults.signal_at_some_time(KINDS[turn % len(KINDS)], SIGNALS[turn % len(SIGNALS)])
    faults.damaged_model()
    faults.cycle()
    faults.odd_parameters(('/pose_node', '/left/visualizer_node', '/left/lift_node')[turn % 3])
    faults.kill_viewer()
    faults.wrong += [f'no {name} any more' for name in faults.scene.silent()]


def main() -> int:
    parser = options_of((__doc__ or '').splitlines()[0], minutes=5)
    options = parser.parse_args()
    with stand() as place, tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / 'rmpe_ros' / 'engines' / 'astronaut.jpg', folder)
        scene = Scene(place, pictures(options.photos), np.random.default_rng(options.seed))
        scene.start_nodes()
        faults = Faults(scene, Path(folder))
        begin, turn = time.monotonic(), 0
        while turn == 0 or time.monotonic() < begin + options.minutes * 60:
            run_round(faults, turn)
            turn += 1
            if faults.wrong or place.dead():
                break
        memory = {name: memory_figures(place.memory[name]) for name in ('pose_node', 'lift_node')}
        figures = {
            'seconds': round(time.monotonic() - begin),
            'done': dict(faults.done),
            'answers': scene.answers(),
            'memory': memory,
            'counted': place.counts(),
            'nodes alive': place.alive(),
        }
        wrong = faults.wrong + place.faults()
        wrong += [f'{name} grew by {growth(each):.0f} MB' for name, each in memory.items()
                  if growth(each) > 150]  # fmt: skip
    return tell(figures, wrong, options.json)


if __name__ == '__main__':
    sys.exit(main())
