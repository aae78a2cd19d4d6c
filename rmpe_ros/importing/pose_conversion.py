# SPDX-License-Identifier: Apache-2.0
"""From a pose network to a pose model by our contract, compared with the network it was made of."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rmpe_ros.engines.example_pictures import example_crops
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.engines.parity import JUMPS, LIMITS
from rmpe_ros.importing.graphs import GraphSurgery, describe_network, normalise
from rmpe_ros.importing.layouts import find_skeleton
from rmpe_ros.importing.peaks import Decoding, find_heatmaps, find_simcc
from rmpe_ros.importing.photo_check import try_pose_on_photo
from rmpe_ros.importing.pose_networks import PoseNetwork, batches, free_batch, open_pose_network

_CROPS = 8
# How far scores of the imported model may be from the original's.
_MOST_SCORE = 1e-3


@dataclass(frozen=True)
class _Surroundings:
    """What is put around a network. joints: which of its joints are kept, in this order."""

    size: tuple[int, int]
    mean: Sequence[float]
    deviation: Sequence[float]
    bgr: bool
    decoding: Decoding
    joints: Sequence[int]
    metadata: Mapping[str, str]

    def put_around(self, model: onnx.ModelProto, batch: int | str) -> onnx.ModelProto:
        """The model by the contract. Raises ValueError when the graph is not sound."""
        surgery = GraphSurgery(model)
        surgery.take_images(
            'crops', [batch, *self.size, 3], mean=self.mean, deviation=self.deviation, bgr=self.bgr
        )
        points, scores = self.decoding.add(surgery)
        keypoints = surgery.node('Concat', points, scores, axis=2)
        if list(self.joints) != list(range(self.decoding.joints)):
            kept = surgery.constant(np.array(self.joints, np.int64))
            keypoints = surgery.node('Gather', keypoints, kept, axis=1)
        # The identity, once for each crop: of nothing but the input, as half precision keeps all
        # that θ depends on in float32.
        people = surgery.slice(surgery.node('Shape', 'crops'), 0, 1, axis=0)
        shape = surgery.node('Concat', people, surgery.constant(np.array([2, 3])), axis=0)
        identity = surgery.constant(np.eye(2, 3, dtype=np.float32)[None])
        surgery.give(keypoints, 'keypoints', [batch, len(self.joints), 3])
        surgery.give(surgery.node('Expand', identity, shape), 'theta', [batch, 2, 3])
        return surgery.finish(self.metadata)


def build_pose(args: argparse.Namespace) -> tuple[onnx.ModelProto, list[str]]:
    """Read, convert and compare a pose network, by the options of `rmpe import pose`.

    Returns the model, and lines that say what was done and compared.
    Raises ValueError when the network cannot be used.
    """
    network = open_pose_network(args)
    mean, deviation = args.mean or network.mean, args.std or network.deviation
    _check_scale(mean, deviation)
    bgr = args.color == 'bgr'
    crops = example_crops(_CROPS, network.size)
    outputs = network.outputs(normalise(crops, mean, deviation, bgr=bgr))
    decoding = _find_decoding(args, network.size, outputs)
    joints = args.joints or range(decoding.joints)
    if max(joints) >= decoding.joints:
        raise ValueError(
            f'--joints asks for number {max(joints)}, but {args.file} has {decoding.joints} joints,'
            f' 0 to {decoding.joints - 1}'
        )
    try:
        skeleton = find_skeleton(args.skeleton, len(joints))
    except ValueError as error:
        raise ValueError(f'{args.file}: {error}') from error
    metadata = {
        'rmpe.task': 'pose',
        'rmpe.name': args.name or args.output.stem,
        'rmpe.version': args.model_version,
        'rmpe.skeleton': skeleton.to_json(),
        'rmpe.box_growth': str(args.box_growth),
        'rmpe.training_data': args.training_data,
        'rmpe.license': args.license,
    }
    around = _Surroundings(network.size, mean, deviation, bgr, decoding, joints, metadata)
    expected = decoding.decode(outputs)[:, list(joints)]
    model, comparison = _convert(network, around, crops, expected)
    means, deviations = (', '.join(f'{each:g}' for each in side) for side in (mean, deviation))
    report = [
        f'{args.file.name}: {network.said}',
        f'{args.output.name}: {describe_network(model)}, {skeleton.name}',
        f'input: values 0-255 less {means}, divided by {deviations}, '
        f'{"blue" if bgr else "red"} first; boxes widened by {args.box_growth:.0%}',
        f'decoding: {decoding}',
        comparison,
        try_pose_on_photo(model.SerializeToString()),
    ]
    return model, report


def _convert(
    network: PoseNetwork,
    around: _Surroundings,
    crops: NDArray[np.uint8],
    expected: NDArray[np.float64],
) -> tuple[onnx.ModelProto, str]:
    """The model for any number of crops if it can be had, else for as many as the network takes.

    expected: keypoints (N, K, 3) of the original for the crops. Also gives the line that says how
    it compares. Raises ValueError when it differs.
    """
    if network.batch is None:
        model = around.put_around(network.model, 'people')
        return model, _compare(model, crops, expected, len(crops))
    fixed = network.batch
    try:
        model = around.put_around(free_batch(network.model, fixed), 'people')
        line = _compare(model, crops, expected, len(crops))
        return model, f'{line}; made for {fixed} at a time, it now takes any number'
    except ValueError:
        model = around.put_around(network.model, fixed)
        line = _compare(model, crops, expected, fixed)
        return model, (
            f'{line}; it takes only {fixed} at a time, which is slow for many people: export it '
            'again with a dynamic batch if you can'
        )


def _compare(
    model: onnx.ModelProto,
    crops: NDArray[np.uint8],
    expected: NDArray[np.float64],
    batch: int,
) -> str:
    """How far the model is from the original. Raises ValueError when it is too far."""
    engine = OnnxRuntimeEngine(model.SerializeToString())
    parts = [engine({'crops': part})['keypoints'] for part in batches(crops, batch)]
    engine.close()
    found = np.concatenate(parts)[: len(crops)]
    if found.shape != expected.shape:
        raise ValueError(f'its keypoints are {found.shape}, expected {expected.shape}')
    difference = np.abs(found - expected)
    pixels, score = difference[..., :2].max(axis=-1), float(difference[..., 2].max())
    # Where two cells tie for the peak, the last bit decides between them.
    ties = pixels > LIMITS['fp32']
    if not np.isfinite(difference).all() or ties.mean() > JUMPS['fp32'] or score > _MOST_SCORE:
        raise ValueError(
            f'the model would be up to {pixels.max():.2g} px and {score:.2g} in score from the '
            f'original network, {ties.mean():.0%} of the keypoints being off; please report this'
        )
    left_out = f', {ties.sum()} ties decided otherwise left out' if ties.any() else ''
    return (
        f'compared with the original on {len(crops)} crops of a photo: keypoints within '
        f'{pixels[~ties].max(initial=0):.1e} px{left_out}, scores within {score:.1e}'
    )


def _find_decoding(
    args: argparse.Namespace, size: tuple[int, int], outputs: Mapping[str, NDArray[Any]]
) -> Decoding:
    """How to decode the outputs. Raises ValueError when that is not clear."""
    shapes = {name: outputs[name].shape for name in args.outputs or outputs}
    if args.format in ('auto', 'simcc'):
        simcc = find_simcc(shapes, size)
        if simcc is not None:
            return simcc
    heatmaps = []
    if args.format != 'simcc':
        heatmaps = find_heatmaps(
            shapes,
            size,
            grid=args.grid,
            logits=args.logits or args.integral,
            integral=args.integral,
        )
    if len(heatmaps) == 1:
        return heatmaps[0]
    height, width = size
    given = f'for {_CROPS} crops of {height}x{width} it gives ' + ', '.join(
        f'{name} {list(shape)}' for name, shape in shapes.items()
    )
    if heatmaps:
        raise ValueError(f'{args.file} has several heatmaps, choose with --outputs: {given}')
    wanted = []
    if args.format != 'heatmap':
        wanted.append(f'SimCC vectors [N, K, {width} r] and [N, K, {height} r] with the same r')
    if args.format != 'simcc':
        wanted.append(f'heatmaps [N, K, h, w] with h : w = {height} : {width}')
    raise ValueError(
        f'{args.file} has no {", and no ".join(wanted)}; {given}. If a tensor inside the network '
        'is what is needed, name it with --outputs'
    )


def _check_scale(mean: Sequence[float], deviation: Sequence[float]) -> None:
    if min(deviation) <= 0:
        raise ValueError(f'--std {list(deviation)} must be positive')
    if 0 < max(map(abs, mean)) <= 1 and max(deviation) <= 1:
        raise ValueError(
            f'--mean {list(mean)} and --std {list(deviation)} seem to be meant for values 0-1; '
            'give them for values 0-255, that is 255 times as large'
        )
