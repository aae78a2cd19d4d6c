# SPDX-License-Identifier: Apache-2.0
"""Batches of people whose photos lie in the device's memory, cut and distorted there.

Decoding and cropping on the host feeds a GPU with some hundred examples a second and core; from
its own memory it makes them by the thousand. What an example shows is drawn on the host by the
same functions and from the same random numbers as `PoseExamples` draws: both give the same labels
exactly, and the same picture but for how pixels are interpolated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmpe_ros.core.boxes import grow_boxes, invert_transforms
from rmpe_ros.training.augment import (
    Augmentation,
    View,
    draw_view,
    jitter_box,
    place_people,
)
from rmpe_ros.training.datasets import (
    LabelledPerson,
    draw_index,
    mixing_probabilities,
    read_photo,
)
from rmpe_ros.training.device_pixels import PixelStore, distort_batch, hide_beyond
from rmpe_ros.training.distortions import Distortion, draw_distortion
from rmpe_ros.training.pose_training import BOX_GROWTH

# Regions are kept at no more than this many pixels for a crop's pixel: half bodies are zoomed.
DETAIL = 1.6
# How far from the true box a crop may look, in half diagonals of the plain crop.
REACH = 1.5
# Crops made at once: what is in between takes some 100 bytes for each of their pixels.
_CHUNK = 128
_SAMPLED_PHOTOS = 200

Propose = Callable[[LabelledPerson, np.random.Generator], np.ndarray]
ReadPhoto = Callable[[Path], NDArray[np.uint8]]


class DeviceMemoryError(ValueError):
    """The photos do not fit into the memory allowed for them; says how much would be needed."""


@dataclass(frozen=True)
class Region:
    """The part of a photo that a person's crops may show.

    pixels: (H, W, 3) uint8, reduced where it is finer than crops will be. from_photo: (2, 3)
    float64, photo pixels → region pixels.
    """

    pixels: NDArray[np.uint8]
    from_photo: NDArray[np.float64]


class DevicePoseBatches:
    """A `BatchSource` of pose examples with the people's surroundings in the device's memory.

    Takes what `PoseExamples` takes and gives the same keys: crops, joints, weights, centred,
    centred_weights, theta, all on `device`. Example (seed, step, position) is the one that
    `ExampleBatches(PoseExamples(...))` makes, so processes may share the positions of a batch in
    any way, and a stopped run may go on with either of the two.

        try:
            batches = DevicePoseBatches(people, data.people_mix, network.size, device, propose=…)
        except DeviceMemoryError as error:
            log(f'{error}; crops are made on the host')
            batches = ExampleBatches(PoseExamples(people, data.people_mix, network.size, propose=…))

    With the CPU as the device it makes the same, some ten times slower than `PoseExamples` does.
    limit_bytes: device memory that the photos may take; by default half of what is free.
    Reads all photos once. Raises DeviceMemoryError when they take more, after a look at some of
    them where that is plain already; ValueError naming a photo that cannot be read.
    """

    def __init__(
        self,
        people: Sequence[LabelledPerson],
        weights: Mapping[str, float],
        size: tuple[int, int],
        device: torch.device | str,
        *,
        augmentation: Augmentation | None = None,
        propose: Propose | None = None,
        growth: float = BOX_GROWTH,
        limit_bytes: int | None = None,
        read: ReadPhoto = read_photo,
    ):
        self.people, self.size, self.growth = people, size, growth
        self.device = torch.device(device)
        self.stream: torch.cuda.Stream | None = None
        if self.device.type == 'cuda':
            # By number: threads that ask for batches may have another current GPU.
            index = self.device.index
            self.device = torch.device(
                'cuda', torch.cuda.current_device() if index is None else index
            )
            self.stream = torch.cuda.Stream(self.device)
        self.cumulative = np.cumsum(mixing_probabilities([p.source for p in people], weights))
        self.augmentation = augmentation or Augmentation()
        self.propose = propose or (lambda person, rng: jitter_box(person.box, rng))
        limit = memory_allowed(self.device) if limit_bytes is None else limit_bytes
        needed = estimate_bytes(people, size, growth=growth, read=read)
        # The estimate is of some photos: only what is far beyond the limit is not tried.
        if needed > 1.3 * limit:
            raise _too_large(len(people), needed, limit, self.device)
        regions = load_regions(people, size, growth=growth, limit_bytes=limit, read=read)
        if regions is None:
            raise _too_large(len(people), max(needed, limit), limit, self.device)
        self.store = PixelStore.upload([region.pixels for region in regions], self.device)
        if self.stream is not None:
            torch.cuda.synchronize(self.device)
        self.from_photo = np.stack([region.from_photo for region in regions])

    @property
    def nbytes(self) -> int:
        """Device memory that the photos take."""
        return self.store.nbytes

    def batch(self, seed: int, step: int, positions: range) -> dict[str, Tensor]:
        """The examples `positions` of step `step`, on the device, ready for the current stream."""
        if self.stream is None:
            return self._make(seed, step, positions)
        # In a stream of its own the next batch is made while the last one trains.
        consumer = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.stream):
            batch = self._make(seed, step, positions)
        self.stream.synchronize()
        for values in batch.values():
            values.record_stream(consumer)
        return batch

    def _make(self, seed: int, step: int, positions: range) -> dict[str, Tensor]:
        chosen: list[int] = []
        views: list[View] = []
        distortions: list[Distortion] = []
        for position in positions:
            rng = np.random.default_rng((seed, step, position))
            index = draw_index(self.cumulative, rng)
            person = self.people[index]
            proposal = self.propose(person, rng)
            views.append(draw_view(person, self.augmentation, rng, proposal=proposal))
            distortions.append(draw_distortion(self.size, self.augmentation, rng))
            chosen.append(index)
        placed = place_people(
            [self.people[i] for i in chosen], views, self.size, growth=self.growth
        )
        which = np.array(chosen, np.int64)
        to_region = compose(self.from_photo[which], invert_transforms(placed.to_crop))
        crops = []
        for part in (slice(i, i + _CHUNK) for i in range(0, len(which), _CHUNK)):
            cut = self.store.crop(which[part], to_region[part], self.size)
            hide_beyond(cut, placed.edges[part])
            crops.append(distort_batch(cut, distortions[part]))
        labels = {
            name: torch.from_numpy(getattr(placed, name)).to(self.device)
            for name in ('joints', 'weights', 'centred', 'centred_weights', 'theta')
        }
        return {'crops': torch.cat(crops), **labels}


def memory_allowed(device: torch.device) -> int:
    """Bytes of photos that a device may hold: half of a GPU's free memory, 8 GiB on the host."""
    if device.type != 'cuda':
        return 8 << 30
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) // 2


def estimate_bytes(
    people: Sequence[LabelledPerson],
    size: tuple[int, int],
    *,
    growth: float = BOX_GROWTH,
    read: ReadPhoto = read_photo,
) -> int:
    """About how many bytes the regions of all people take, from those of some, evenly chosen."""
    some = people[:: max(len(people) // _SAMPLED_PHOTOS, 1)]
    regions = load_regions(some, size, growth=growth, limit_bytes=None, read=read)
    assert regions is not None
    return sum(region.pixels.size for region in regions) * len(people) // max(len(some), 1)


def load_regions(
    people: Sequence[LabelledPerson],
    size: tuple[int, int],
    *,
    growth: float = BOX_GROWTH,
    limit_bytes: int | None,
    read: ReadPhoto = read_photo,
) -> list[Region] | None:
    """Each person's region, every photo read once; None as soon as they exceed `limit_bytes`."""
    in_photo: dict[Path, list[int]] = {}
    for index, person in enumerate(people):
        in_photo.setdefault(person.image, []).append(index)

    def cut(photo: Path) -> list[tuple[int, Region]]:
        image = read(photo)
        return [
            (index, cut_region(image, people[index].box, size, growth=growth))
            for index in in_photo[photo]
        ]

    found: dict[int, Region] = {}
    total = 0
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16), 'photos') as pool:
        # As many at a time as keep the threads busy, so that a limit ends the work soon.
        photos = list(in_photo)
        for start in range(0, len(photos), 256):
            for regions in pool.map(cut, photos[start : start + 256]):
                found.update(regions)
                total += sum(region.pixels.size for _, region in regions)
            if limit_bytes is not None and total > limit_bytes:
                return None
    return [found[index] for index in range(len(people))]


def cut_region(
    image: NDArray[np.uint8], box: NDArray[np.floating], size: tuple[int, int], *, growth: float
) -> Region:
    """The surroundings of a box (4,) that crops of (height, width) around it may show."""
    height, width = size
    grown = grow_boxes(box[None], growth)[0]
    scale = float(((grown[2:] - grown[:2]) / [width, height]).max())  # photo pixels a crop pixel
    radius = REACH * scale * np.hypot(height, width) / 2
    centre = (grown[:2] + grown[2:]) / 2
    limits = [image.shape[1], image.shape[0]]
    low = np.clip(np.floor(centre - radius), 0, np.array(limits) - 1).astype(int)
    high = np.clip(np.ceil(centre + radius), low + 1, limits).astype(int)
    pixels = image[low[1] : high[1], low[0] : high[0]]
    factors = np.ones(2)
    if scale > DETAIL:
        sides = np.maximum(np.rint((high - low) * DETAIL / scale), 1).astype(int)
        factors = sides / (high - low)
        pixels = np.asarray(
            cv2.resize(pixels, (int(sides[0]), int(sides[1])), interpolation=cv2.INTER_AREA),
            np.uint8,
        )
    # Edge coordinates are scaled: half a pixel on both sides of the scale.
    shift = (0.5 - low) * factors - 0.5
    return Region(
        np.ascontiguousarray(pixels),
        np.array([[factors[0], 0, shift[0]], [0, factors[1], shift[1]]]),
    )


def compose(outer: NDArray[np.float64], inner: NDArray[np.float64]) -> NDArray[np.float64]:
    """Affine maps (N, 2, 3): first `inner`, then `outer`."""
    composed = outer[:, :, :2] @ inner
    composed[:, :, 2] += outer[:, :, 2]
    return composed


def _too_large(people: int, needed: int, limit: int, device: torch.device) -> DeviceMemoryError:
    return DeviceMemoryError(
        f'the surroundings of {people} people take about {needed / 2**30:.1f} GiB, more than the '
        f'{limit / 2**30:.1f} GiB they may have on {device}'
    )
