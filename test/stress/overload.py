# SPDX-License-Identifier: Apache-2.0
"""Overload: far more images, pixels, people and requests than the nodes can do anything with.

The freshest frame wins, each camera keeps its share, requests are answered, and memory stays.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import growth, memory_figures, options_of, tell
from stressed_nodes import Stand, stand
from traffic import Camera, compressed_message, image_message, jpeg_message, pictures

from rclpy.qos import QoSProfile  # isort: skip
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.srv import EstimatePoses
from std_srvs.srv import SetBool

# Answers that may come when the flood is over: the frame at hand, the one that waits for its turn,
# and what is between the processes. A queue of old images would give many more.
MOST_LATE = 8
LARGE = (6000, 4000)
BOMB_SIDE = 32_000
CROWD = 1000


class Overload:
    """Two pose nodes of two cameras each, raw and compressed, and a viewer."""

    def __init__(self, place: Stand, photos: list[np.ndarray]) -> None:
        self.place, self.photos = place, photos
        self.faults: list[str] = []
        pair = '[fast, slow]'
        place.start('pose_node', '-r', '__ns:=/raw', '-p', f'cameras:={pair}', name='raw')
        place.start(
            'pose_node', '-r', '__ns:=/jpeg', '-p', f'cameras:={pair}', name='jpeg', compressed=True
        )
        place.start('visualizer_node', '-r', '__ns:=/raw/slow')
        place.start('lift_node', '-r', '__ns:=/raw/slow')
        node = place.node
        self.raw = {name: Camera(node, f'/raw/{name}/image_raw', f'/raw/{name}/poses')
                    for name in ('fast', 'slow')}  # fmt: skip
        self.jpeg = {
            name: Camera(node, f'/jpeg/{name}/image_raw', f'/jpeg/{name}/poses', compressed=True)
            for name in ('fast', 'slow')
        }
        for camera in (*self.raw.values(), *self.jpeg.values()):
            publisher = camera.publisher
            place.wait_for(publisher.get_subscription_count, publisher.topic_name)
        self._burst = QoSProfile(depth=1000)
        self._estimate, self._enable = (
            node.create_client(kind, f'/raw/raw/{name}', qos_profile=self._burst)
            for kind, name in ((EstimatePoses, 'estimate_poses'), (SetBool, 'enable'))
        )
        self._crowd = node.create_publisher(PersonPoseArray, '/raw/slow/poses', 10)

    def photo(self, camera: Camera) -> Any:
        return image_message(self.photos[camera.sent % len(self.photos)], camera.header())

    def both(
        self,
        cameras: dict[str, Camera],
        seconds: float,
        many: Callable[[], Any],
        few: Callable[[], Any],
        pause: float,
    ) -> dict[str, Any]:
        """Send `many` on the fast camera every `pause` seconds and `few` on the slow one twice a
        second; whether the slow one has its share and no old frame comes at the end.
        """
        fast, slow = cameras['fast'], cameras['slow']
        before = {name: (each.sent, each.answered) for name, each in cameras.items()}
        begin = last = time.monotonic()
        while time.monotonic() < begin + seconds:
            fast.send(many())
            if time.monotonic() > last + 0.5:
                last = time.monotonic()
                slow.send(few())
            self.place.spin(pause)
        at_end = fast.answered
        self.place.settle(lambda: fast.answered)
        late = fast.answered - at_end
        figures: dict[str, Any] = {}
        for name, each in cameras.items():
            sent, answered = each.sent - before[name][0], each.answered - before[name][1]
            figures |= {f'{name}_sent': sent, f'{name}_answered': answered}
            if each.out_of_order:
                self.faults.append(f'{name}: an older image was answered after a newer one')
        if late > MOST_LATE:
            self.faults.append(f'{late} answers after the end of the flood: old images waited')
        if not figures['slow_answered']:
            self.faults.append('the slow camera was not answered at all')
        return {**figures, 'late': late}

    def requests(self) -> dict[str, int]:
        """A burst of requests; all must be answered."""
        header = self.raw['slow'].header()
        request = EstimatePoses.Request(image=image_message(self.photos[0], header))
        jobs = [self._estimate.call_async(request) for _ in range(60)]
        jobs += [self._enable.call_async(SetBool.Request(data=True)) for _ in range(300)]
        try:
            self.place.wait_for(lambda: all(job.done() for job in jobs), 'the answers', 240)
        except TimeoutError as error:
            self.faults.append(f'a burst of requests: {error}')
        return {'sent': len(jobs), 'answered': sum(job.done() for job in jobs)}

    def crowds(self, seconds: float) -> dict[str, int]:
        """Messages of a thousand people to all who draw and lift them."""
        message = self.raw['slow'].last_answer
        if message is None or not message.people:
            return {'sent': 0}
        crowd = PersonPoseArray(header=message.header, skeleton=message.skeleton)
        crowd.image_width, crowd.image_height = message.image_width, message.image_height
        crowd.people = [message.people[0]] * CROWD
        sent, begin = 0, time.monotonic()
        while time.monotonic() < begin + seconds:
            self._crowd.publish(crowd)
            sent += 1
            self.place.spin(0.1)
        return {'sent': sent, 'people': sent * CROWD}


def bomb(picture: np.ndarray, camera: Camera) -> Any:
    """A JPEG of a few kB that declares a thousand megapixels."""
    data = jpeg_message(picture, camera.header()).data.tobytes()
    start = data.index(b'\xff\xc0') + 5
    sides = struct.pack('>HH', BOMB_SIDE, BOMB_SIDE)
    return compressed_message(data[:start] + sides + data[start + 4 :], camera.header())


def run(load: Overload, seconds: float, large_photos: Path | None) -> dict[str, Any]:
    """All kinds of overload, so many seconds each; the figures of each."""
    raw, jpeg = load.raw, load.jpeg
    small = load.photos[0]
    large = jpeg_message(pictures(large_photos, size=LARGE)[0], jpeg['fast'].header())

    def large_photo() -> Any:
        large.header = jpeg['fast'].header()
        return large

    def few() -> Any:
        return jpeg_message(small, jpeg['slow'].header())

    flood = load.both(
        raw, seconds, lambda: load.photo(raw['fast']), lambda: load.photo(raw['slow']), 0.005
    )
    return {
        'flood of images': flood,
        '24 megapixels': load.both(jpeg, seconds, large_photo, few, 0.1),
        'bombs': load.both(jpeg, seconds, lambda: bomb(small, jpeg['fast']), few, 1.0),
        'requests': load.requests(),
        'crowds': load.crowds(seconds),
    }


def main() -> int:
    parser = options_of((__doc__ or '').splitlines()[0], minutes=5)
    parser.add_argument('--most-growth', type=float, default=700, help='MB at most, at any time')
    options = parser.parse_args()
    with stand() as place:
        load = Overload(place, pictures(options.photos))
        kinds = run(load, options.minutes * 60 / 4, options.photos)
        flood = load.both(
            load.raw, 3, lambda: load.photo(load.raw['fast']), lambda: load.photo(load.raw['slow']),
            0.2,
        )  # fmt: skip
        memory = {name: memory_figures(each) for name, each in place.memory.items()}
        figures = {
            'overload': {**kinds, 'afterwards': flood},
            'memory': memory,
            'counted': place.counts(),
            'nodes alive': place.alive(),
        }
        faults = load.faults + place.faults()
        faults += [
            f'{name} took {each["most_mb"] - each["start_mb"]:.0f} MB, {growth(each):.0f} stayed'
            for name, each in memory.items()
            if each and each['most_mb'] - each['start_mb'] > options.most_growth
        ]
    return tell(figures, faults, options.json)


if __name__ == '__main__':
    sys.exit(main())
