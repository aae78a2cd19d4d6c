# SPDX-License-Identifier: Apache-2.0
"""Fuzz: messages that no sound publisher sends, on every topic of every node, as fast as it goes.

Afterwards every node must still answer, and nothing it did may have raised.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import numpy as np
from figures import memory_figures, options_of, tell
from scene import Scene
from stressed_nodes import stand
from traffic import pictures

# A burst that no queue holds would be lost, and nothing be shown.
PAUSE = 0.01
# Odd messages between two looks at whether all nodes still answer.
ROUND = 700


def main() -> int:
    parser = options_of((__doc__ or '').splitlines()[0], minutes=5)
    options = parser.parse_args()
    with stand() as place:
        scene = Scene(place, pictures(options.photos), np.random.default_rng(options.seed))
        scene.start_nodes()
        silent = scene.silent()
        sent: Counter[str] = Counter()
        begin = time.monotonic()
        while time.monotonic() < begin + options.minutes * 60 and not (silent or place.dead()):
            for _ in range(ROUND):
                sent[scene.send_odd()] += 1
                place.spin(PAUSE)
            silent = scene.silent()
        place.spin(2)
        figures = {
            'seconds': round(time.monotonic() - begin),
            'odd messages': sent.total(),
            'by topic': dict(sent),
            'answers': scene.answers(),
            'counted': place.counts(),
            'memory': {name: memory_figures(each) for name, each in place.memory.items()},
            'nodes alive': place.alive(),
        }
        faults = [*place.faults(), *(f'no {name} any more' for name in silent)]
    return tell(figures, faults, options.json)


if __name__ == '__main__':
    sys.exit(main())
