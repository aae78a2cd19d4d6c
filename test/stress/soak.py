# SPDX-License-Identifier: Apache-2.0
"""Soak: all nodes for a long time at a camera's rate, with an odd message a second in between.

Nothing may end, leak, become slower, or answer an older image after a newer one.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from figures import cpu_figures, growth, latency_figures, memory_figures, options_of, tell
from scene import Scene
from stressed_nodes import stand
from traffic import pictures

ODD_PERIOD = 1.0


def soak(scene: Scene, minutes: float, rate: float) -> float:
    """Send until the time is over or a node is; returns the seconds it took."""
    begin = time.monotonic()
    due = dict.fromkeys((*scene.cameras, 'odd'), begin)
    while (now := time.monotonic()) < begin + minutes * 60 and not scene.place.dead():
        for name, at in due.items():
            if now >= at:
                due[name] = max(at + (ODD_PERIOD if name == 'odd' else 1 / rate), now - 1)
                scene.send_odd() if name == 'odd' else scene.send(name)
        scene.place.spin(max(min(due.values()) - time.monotonic(), 0))
    seconds = time.monotonic() - begin
    # The answers that are still on their way.
    scene.place.settle(lambda: sum(scene.answers().values()))
    return seconds


def main() -> int:
    parser = options_of((__doc__ or '').splitlines()[0], minutes=10)
    parser.add_argument('--rate', type=float, default=2, help='images a second of each camera')
    parser.add_argument('--most-growth', type=float, default=64, help='MB that are no leak')
    options = parser.parse_args()
    with stand() as place:
        scene = Scene(place, pictures(options.photos), np.random.default_rng(options.seed))
        scene.start_nodes()
        loads = [round(os.getloadavg()[1], 1)]
        seconds = soak(scene, options.minutes, options.rate)
        loads.append(round(os.getloadavg()[1], 1))
        memory = {name: memory_figures(each) for name, each in place.memory.items()}
        figures = {
            'seconds': round(seconds),
            'odd messages': scene.odd,
            'cameras': {
                name: each.figures() | latency_figures(each.latencies)
                for name, each in scene.cameras.items()
            },
            'computed for an answer': {
                name: cpu_figures(place.cpu[name], scene.answer_times(*cameras))
                for name, cameras in (('pose_node', ('left', 'right')), ('jpeg_node', ('jpeg',)))
            },
            'load of the machine': loads,
            'seen': scene.seen,
            'memory': memory,
            'counted': place.counts(),
            'nodes alive': place.alive(),
        }
        faults = [*place.faults(), *(f'no {name} any more' for name in scene.silent())]
        faults += [
            f'{name} grew by {growth(each):.0f} MB'
            for name, each in memory.items()
            if growth(each) > options.most_growth
        ]
        faults += [
            f'{name}: {each.out_of_order} answers to an older image after a newer one'
            for name, each in scene.cameras.items()
            if each.out_of_order
        ]
    return tell(figures, faults, options.json)


if __name__ == '__main__':
    sys.exit(main())
