# SPDX-License-Identifier: Apache-2.0
"""What happens in simulated rooms: people who walk, cross, sit, leave, before a moving camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmpe_ros.evaluation.people.simulated_bodies import Build
from rmpe_ros.evaluation.people.simulated_motion import Stop, Walker
from rmpe_ros.evaluation.people.simulated_ways import APART, CLEAR, Pillar, Table

SCENES = ('walking', 'crossing', 'sitting', 'leaving', 'moving camera')


@dataclass(frozen=True)
class Scene:
    """Walkers among pillars (x, y, radius) and tables (x1, y1, x2, y2, height).

    drive: the camera's (x, y, yaw) at a time is drive(seconds).
    """

    name: str
    walkers: tuple[Walker, ...]
    pillars: tuple[Pillar, ...] = ()
    tables: tuple[Table, ...] = ()
    moving: bool = False
    height: float = 1.2
    tilt: float = 0.12


def make_scene(name: str, rng: np.random.Generator, seconds: float) -> Scene:
    """A scene by its name, one of SCENES, with other people each time. The camera looks along x."""

    taken: list[tuple[float, float]] = []  # where others begin, or have a chair

    def anywhere(table: Table | None = None) -> tuple[float, float]:
        while True:
            far = float(rng.uniform(1.6, 5.2))
            place = far, float(rng.uniform(-0.45, 0.45) * far)
            if table is not None:
                x1, y1, x2, y2 = table[:4]
                if x1 - CLEAR < far < x2 + CLEAR and y1 - CLEAR < place[1] < y2 + CLEAR:
                    continue
            if all(np.hypot(far - x, place[1] - y) > 1.2 * APART for x, y in taken):
                return place

    def walker(stops: list[Stop]) -> Walker:
        return Walker(Build.random(rng), tuple(stops), float(rng.uniform(0.8, 1.4)))

    number = int(seconds / 2) + 4
    if name in ('walking', 'moving camera'):
        people, stays = [], [0.0, 2.0]
        for _ in range(3):
            taken.append(anywhere())
        for place in taken[:]:
            stops = [Stop(place, rng.choice(stays, p=[0.6, 0.4]))]
            taken.clear()
            stops += [Stop(anywhere(), rng.choice(stays, p=[0.6, 0.4])) for _ in range(number - 1)]
            people.append(walker(stops))
        return Scene(name, tuple(people), moving=name == 'moving camera')
    if name == 'crossing':
        people = []
        for lane in (2.2, 3.0, 3.8, 4.6):
            side = 0.42 * lane * rng.choice([-1, 1])
            stops = [Stop((lane, side * (-1) ** i), rng.uniform(0, 1.5)) for i in range(number)]
            people.append(walker(stops))
        return Scene(name, tuple(people), pillars=((1.7, 0.35, 0.15),))
    if name == 'sitting':
        people, table = [], (2.5, -0.7, 2.95, 0.7, 0.74)
        taken += [(3.3 + float(rng.uniform(-0.2, 0.4)), seat) for seat in (-1.2, 0.1, 1.3)]
        for chair in taken:
            facing = np.pi + rng.uniform(-0.7, 0.7)
            stops = [Stop((rng.uniform(1.6, 2.2), chair[1] + rng.uniform(-0.3, 0.3)))]
            for _ in range(number):
                stops += [Stop(chair, rng.uniform(5, 10), True, facing)]
                stops += [Stop(anywhere(table), 1.0)]
            people.append(walker(stops))
        return Scene(name, tuple(people), tables=(table,))
    if name == 'leaving':
        people = []
        for _ in range(3):
            taken.append(anywhere())
        for place in taken[:]:
            stops = [Stop(place, rng.uniform(0, 2))]
            taken.clear()
            for _ in range(number):
                far = rng.uniform(2, 4.5)
                door = (far, float(rng.choice([-1, 1]) * (1.1 * far + 1)))
                stops += [Stop(door, rng.uniform(6, 10)), Stop(anywhere(), rng.uniform(0, 3))]
            people.append(walker(stops))
        return Scene(name, tuple(people))
    raise ValueError(f'unknown scene {name!r}; known are {", ".join(SCENES)}')
