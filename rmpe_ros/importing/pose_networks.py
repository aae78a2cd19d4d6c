# SPDX-License-Identifier: Apache-2.0
"""Somebody's pose network, opened: its graph, what it wants to see, and itself to compare with."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.importing.graphs import describe_network, load_network, network_inputs, tensor_shape

# What most pose networks are trained with: ImageNet's means and deviations of R, G and B.
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_FASTPOSE_SIZE = (256, 192)


@dataclass(frozen=True)
class PoseNetwork:
    """A pose network of single people.

    model: with one input, float (N, 3, H, W). said: what it is, for people. size: (H, W). batch:
    how many crops it takes at a time, None for any number. mean, deviation: of red, green and blue
    on the scale 0-255, what it expects unless told otherwise. run: the original, on normalised
    images; gives all tensors that may be decoded.
    """

    model: onnx.ModelProto
    said: str
    size: tuple[int, int]
    batch: int | None
    mean: Sequence[float]
    deviation: Sequence[float]
    run: Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]]

    def outputs(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """What the original gives for any number of normalised images (N, 3, H, W)."""
        parts = [self.run(part) for part in batches(images, self.batch or len(images))]
        return {
            # Scalars have no people, and are of no use, but may be there.
            name: np.concatenate([np.atleast_1d(part[name]) for part in parts])[: len(images)]
            for name in parts[0]
        }


def open_pose_network(args: argparse.Namespace) -> PoseNetwork:
    """The network of the file, by the options of `rmpe import pose`.

    Raises ValueError when it is no pose network that can be used.
    """
    if args.format == 'fastpose' or (args.format == 'auto' and _is_checkpoint(args.file)):
        return _open_fastpose(args)
    return _open_onnx(args)


def batches(array: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """Parts of `size` entries, the last one filled up with copies of its first."""
    parts = [array[start : start + size] for start in range(0, len(array), size)]
    missing = size - len(parts[-1])
    parts[-1] = np.concatenate([parts[-1], *[parts[-1][:1]] * missing])
    return parts


def free_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy for any number of people of a network that was exported for `batch`.

    Reshapes to a constant shape keep the number that comes in. Other operators may still count on
    `batch`: whether the copy works has to be tried.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {each.name: each for each in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == 'Constant' and node.attribute[0].name == 'value':
            constants[node.output[0]] = node.attribute[0].t
    for index, node in enumerate(copy.graph.node):
        if node.op_type != 'Reshape' or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if shape.size > 1 and shape[0] == batch and 0 not in shape:
            shape[0] = 0  # as many as come in, which it means without allowzero
            del node.attribute[:]
            name = f'{node.input[1]}/people_{index}'
            copy.graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name
    for value in (*copy.graph.input, *copy.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions) > 1 and dimensions[0].dim_value == batch:
            dimensions[0].dim_param = 'people'
    del copy.graph.value_info[:]
    return copy


def _open_onnx(args: argparse.Namespace) -> PoseNetwork:
    model = load_network(args.file)
    if any(each.key == 'rmpe.format' for each in model.metadata_props):
        raise ValueError(f'{args.file} is a model by the contract already')
    said = describe_network(model)
    inputs = network_inputs(model)
    shape = tensor_shape(next(iter(inputs.values()))) if len(inputs) == 1 else ()
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        model, shape = _channels_first(model), (shape[0], 3, *shape[1:3])
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise ValueError(
            f'{args.file}: a pose network of single people has one input, images [N, 3, H, W] or '
            f'[N, H, W, 3]; this is {said}'
        )
    produced = {name for node in model.graph.node for name in node.output}
    unknown = sorted(set(args.outputs) - produced)
    if unknown:
        raise ValueError(f'{args.file} has no tensor {unknown[0]!r} (--outputs); it is {said}')
    outside = {each.name for each in model.graph.output}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in args.outputs if name not in outside
    )
    engine = OnnxRuntimeEngine(watched.SerializeToString())
    ((name, info),) = engine.inputs.items()

    def run(images: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        return engine({name: images.astype(info.dtype)})

    batch = shape[0] if isinstance(shape[0], int) else None
    return PoseNetwork(model, said, _crop_size(args, shape[2:], said), batch, *_IMAGENET, run)


def _crop_size(
    args: argparse.Namespace, sides: tuple[int | str, ...], said: str
) -> tuple[int, int]:
    height, width = sides
    if isinstance(height, int) and isinstance(width, int):
        if args.size not in (None, (height, width)):
            raise ValueError(f'{args.file} takes crops of {height}x{width} only, not --size')
        return height, width
    if args.size is None:
        raise ValueError(f'{args.file} takes crops of any size: say which, with --size ({said})')
    size: tuple[int, int] = args.size
    return size


def _channels_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that takes float (N, 3, H, W) where the network takes (N, H, W, 3) of any type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (theirs,) = network_inputs(copy).values()
    batch, height, width, _ = tensor_shape(theirs)
    turned, images = f'{theirs.name}/channels_last', f'{theirs.name}/channels_first'
    nodes = [
        helper.make_node('Transpose', [images], [turned], perm=[0, 2, 3, 1]),
        helper.make_node('Cast', [turned], [theirs.name], to=theirs.type.tensor_type.elem_type),
        *copy.graph.node,
    ]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    copy.graph.input.remove(theirs)
    ours = helper.make_tensor_value_info(images, TensorProto.FLOAT, [batch, 3, height, width])
    copy.graph.input.insert(0, ours)
    return copy


def _open_fastpose(args: argparse.Namespace) -> PoseNetwork:
    import torch

    from rmpe_ros.importing.fastpose_checkpoint import heatmap_graph, read_fastpose

    if args.outputs:
        raise ValueError('--outputs is for ONNX files; FastPose has its heatmaps only')
    network = read_fastpose(args.file)
    size = args.size or _FASTPOSE_SIZE

    def run(images: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        with torch.no_grad():
            return {'heatmaps': network(torch.from_numpy(images)).numpy()}

    return PoseNetwork(
        heatmap_graph(network, size),
        network.architecture.name,
        size,
        None,
        tuple(255 * each for each in network.MEAN),
        (255.0, 255.0, 255.0),
        run,
    )


def _is_checkpoint(path: Path) -> bool:
    """Whether the file is PyTorch's: a zip archive, or a pickle of older versions."""
    return path.suffix in ('.pth', '.pt', '.pkl') or (path.is_file() and zipfile.is_zipfile(path))
