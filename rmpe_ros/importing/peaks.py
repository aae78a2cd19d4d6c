# SPDX-License-Identifier: Apache-2.0
"""From the heatmaps or SimCC vectors of a pose network to keypoints, as nodes of its ONNX graph.

Each decoding comes twice: `add` puts it behind the network, `decode` does the same joint by joint
in NumPy, to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rmpe_ros.importing.graphs import GraphSurgery

Arrays = Mapping[str, NDArray[Any]]

# Where heatmap cell i lies in the crop, in pixel-centre coordinates.
GRIDS = {
    'origin': 'cell i is pixel i * stride: HRNet, SimpleBaseline, AlphaPose, MMPose (MSRA)',
    'corners': 'the outer cells are the outer pixels: UDP, so ViTPose and HRNet-UDP',
    'centres': 'cell i is the middle of the pixels that it covers: TensorFlow, our own networks',
}


@dataclass(frozen=True)
class SimccDecoding:
    """SimCC (Li et al., ECCV 2022; RTMPose): for each joint one vector over x and one over y.

    x, y: the two tensors' names, (N, K, bins). joints: K. bins: of x and y per pixel, bin i being
    pixel i / bins. The score is the lesser of the two peaks, as MMPose has it, cut to [0, 1].
    """

    x: str
    y: str
    joints: int
    bins: float

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of what is decoded."""
        return self.x, self.y

    def __str__(self) -> str:
        return f'SimCC, {self.bins:g} bins per pixel; score: the lesser of the peaks in x and y'

    def add(self, graph: GraphSurgery) -> tuple[str, str]:
        """Nodes for points (N, K, 2) in crop pixels and scores (N, K, 1): their names."""
        places, peaks = [], []
        for name in self.tensors:
            vector = graph.as_float(name)
            place = graph.node('ArgMax', vector, axis=2, keepdims=1)
            peaks.append(graph.node('GatherElements', vector, place, axis=2))
            places.append(graph.node('Cast', place, to=_FLOAT))
        points = graph.node('Concat', *places, axis=2)
        points = graph.node('Div', points, graph.constant(self.bins))
        return points, _clip(graph, graph.node('Min', *peaks), 0, 1)

    def decode(self, arrays: Arrays) -> NDArray[np.float64]:
        """Keypoints (N, K, 3), slowly."""
        along_x, along_y = arrays[self.x], arrays[self.y]
        keypoints = np.zeros((*along_x.shape[:2], 3))
        for person, joint in _joints(along_x):
            x, y = along_x[person, joint], along_y[person, joint]
            score = min(x.max(), y.max())
            keypoints[person, joint] = x.argmax() / self.bins, y.argmax() / self.bins, score
        keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
        return keypoints


@dataclass(frozen=True)
class HeatmapDecoding:
    """Heatmaps: the highest cell, and a quarter of a cell towards its higher neighbour in x and y.

    From Newell et al., ECCV 2016, as SimpleBaseline, HRNet and AlphaPose do it; DARK is not done.

    maps: the tensor's name. joints: K. cells, crop: (height, width) of the maps and of the crop.
    grid: of GRIDS. logits: a sigmoid makes probabilities of the cells. integral: the mean of all
    cells, weighted by these, instead of the highest one (Sun et al., ECCV 2018, with a sigmoid as
    AlphaPose has it). channels_last: (N, h, w, K).
    """

    maps: str
    joints: int
    cells: tuple[int, int]
    crop: tuple[int, int]
    grid: str = 'origin'
    logits: bool = False
    integral: bool = False
    channels_last: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of what is decoded."""
        return (self.maps,)

    def __str__(self) -> str:
        place = 'their mean' if self.integral else 'the highest and a quarter more'
        score = 'the peak through a sigmoid' if self.logits else 'the peak'
        return (
            f'heatmaps of {self.cells[0]}x{self.cells[1]} cells, {place}; {GRIDS[self.grid]}; '
            f'score: {score}'
        )

    def place(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(scale, offset) in x and y, from cells to pixels."""
        cells, crop = np.array(self.cells[::-1]), np.array(self.crop[::-1])
        stride = (crop - 1) / (cells - 1) if self.grid == 'corners' else crop / cells
        offset = stride / 2 - 0.5 if self.grid == 'centres' else 0 * stride
        return stride.astype(np.float32), offset.astype(np.float32)

    def add(self, graph: GraphSurgery) -> tuple[str, str]:
        """Nodes for points (N, K, 2) in crop pixels and scores (N, K, 1): their names."""
        height, width = self.cells
        maps = graph.as_float(self.maps)
        if self.channels_last:
            maps = graph.node('Transpose', maps, perm=[0, 3, 1, 2])
        flat = graph.reshape(maps, (0, self.joints, height * width))
        place = graph.node('ArgMax', flat, axis=2, keepdims=1)
        peak = graph.node('GatherElements', flat, place, axis=2)
        scale, offset = self.place()
        cell = self._add_mean(graph, flat) if self.integral else self._add_peak(graph, flat, place)
        points = graph.node('Mul', cell, graph.constant(scale))
        points = graph.node('Add', points, graph.constant(offset))
        if self.logits:
            return points, graph.node('Sigmoid', peak)
        return points, _clip(graph, peak, 0, 1)

    def _add_mean(self, graph: GraphSurgery, flat: str) -> str:
        """The mean cell (N, K, 2)."""
        y, x = np.divmod(np.arange(self.cells[0] * self.cells[1], dtype=np.float32), self.cells[1])
        moments = graph.constant(np.stack([x, y, np.ones_like(x)], axis=1))
        sums = graph.node('MatMul', graph.node('Sigmoid', flat), moments)
        return graph.node('Div', *(graph.slice(sums, a, b, axis=2) for a, b in ((0, 2), (2, 3))))

    def _add_peak(self, graph: GraphSurgery, flat: str, place: str) -> str:
        """The highest cell and the quarter (N, K, 2). place: its index (N, K, 1)."""
        height, width = self.cells
        # In float32 from here on: exact below 2^24, and every engine has it.
        index = graph.node('Cast', place, to=_FLOAT)
        columns = graph.constant(width)
        y = graph.node('Floor', graph.node('Div', index, columns))
        x = graph.node('Sub', index, graph.node('Mul', y, columns))
        cell = graph.node('Concat', x, y, axis=2)
        # Right, below, left and above. Clipped, because a peak at the edge has no such neighbour.
        around = graph.node('Add', index, graph.constant([1, width, -1, -width]))
        around = graph.node('Cast', _clip(graph, around, 0, height * width - 1), to=_INT64)
        around = graph.node('GatherElements', flat, around, axis=2)
        after, before = (graph.slice(around, start, start + 2, axis=2) for start in (0, 2))
        step = graph.node('Sign', graph.node('Sub', after, before))
        for each, side in ((x, width), (y, height)):
            for operator, bound in (('Greater', 1), ('Less', side - 1)):
                inside = graph.node(operator, each, graph.constant(bound))
                step = graph.node('Mul', step, graph.node('Cast', inside, to=_FLOAT))
        return graph.node('Add', cell, graph.node('Mul', step, graph.constant(0.25)))

    def decode(self, arrays: Arrays) -> NDArray[np.float64]:
        """Keypoints (N, K, 3), slowly."""
        maps = arrays[self.maps]
        if self.channels_last:
            maps = maps.transpose(0, 3, 1, 2)
        height, width = self.cells
        scale, offset = self.place()
        keypoints = np.zeros((*maps.shape[:2], 3))
        for person, joint in _joints(maps):
            heat = maps[person, joint]
            y, x = divmod(int(heat.argmax()), width)
            cell = np.array([x, y], float)
            if self.integral:
                weights = 1 / (1 + np.exp(-heat.astype(np.float64)))
                cell[0] = (weights * np.arange(width)).sum() / weights.sum()
                cell[1] = (weights * np.arange(height)[:, None]).sum() / weights.sum()
            elif 1 < x < width - 1 and 1 < y < height - 1:
                cell[0] += 0.25 * np.sign(heat[y, x + 1] - heat[y, x - 1])
                cell[1] += 0.25 * np.sign(heat[y + 1, x] - heat[y - 1, x])
            score = 1 / (1 + np.exp(-float(heat[y, x]))) if self.logits else heat[y, x]
            keypoints[person, joint] = *(cell * scale + offset), score
        keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
        return keypoints


Decoding = SimccDecoding | HeatmapDecoding


def find_simcc(shapes: Mapping[str, Sequence[int]], crop: tuple[int, int]) -> SimccDecoding | None:
    """How to decode these outputs if they are SimCC vectors of a crop (height, width), else None.

    shapes: output name → shape for one crop.
    """
    vectors = [(name, shape) for name, shape in shapes.items() if len(shape) == 3]
    # By name where names tell; the two widths must fit in any case, and do so only in one order
    # unless the crop is square.
    vectors.sort(key=lambda each: each[0].endswith('y'))
    for (x, shape_x), (y, shape_y) in product(vectors, vectors):
        bins = shape_x[2] / crop[1]
        if x != y and shape_x[:2] == shape_y[:2] and bins >= 1 and bins == shape_y[2] / crop[0]:
            return SimccDecoding(x, y, shape_x[1], bins)
    return None


def find_heatmaps(
    shapes: Mapping[str, Sequence[int]], crop: tuple[int, int], **options: Any
) -> list[HeatmapDecoding]:
    """How to decode each of these outputs that are heatmaps of a crop (height, width).

    shapes: output name → shape for one crop. options: of `HeatmapDecoding`.
    """
    found = []
    for name, shape in shapes.items():
        for channels_last in (False, True) if len(shape) == 4 else ():
            height, width = shape[1:3] if channels_last else shape[2:]
            joints = shape[3] if channels_last else shape[1]
            if min(height, width) > 1 and height * crop[1] == width * crop[0]:
                cells = (height, width)
                found.append(
                    HeatmapDecoding(
                        name, joints, cells, crop, channels_last=channels_last, **options
                    )
                )
                break
    return found


# onnx.TensorProto.FLOAT and INT64: this file does without the package.
_FLOAT, _INT64 = 1, 7


def _clip(graph: GraphSurgery, tensor: str, low: float, high: float) -> str:
    return graph.node('Clip', tensor, graph.constant(low), graph.constant(high))


def _joints(array: NDArray[Any]) -> Iterator[tuple[int, int]]:
    return product(range(array.shape[0]), range(array.shape[1]))
