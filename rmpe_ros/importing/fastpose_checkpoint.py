# SPDX-License-Identifier: Apache-2.0
"""AlphaPose's FastPose checkpoints (.pth): read, rebuilt, and traced to ONNX heatmaps.

Needs PyTorch; the checkpoint is read as plain tensors, nothing in it is executed.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor

from rmpe_ros.networks.export import OPSET
from rmpe_ros.networks.fastpose import FastPose, FastPoseError, fastpose_from_state

# Wrappings of the weights in the checkpoints of various trainers.
_WRAPPINGS = ('state_dict', 'model', 'model_state_dict')


def read_fastpose(path: Path) -> FastPose:
    """The network of a checkpoint, in evaluation mode.

    Raises ValueError when the file is no checkpoint of tensors, or not of a FastPose.
    """
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(
            f'{path} is no PyTorch checkpoint that holds only tensors: '
            f'{str(error).strip().partition(chr(10))[0]}'
        ) from error
    for key in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{path} holds a {type(content).__name__}, no named weights')
    strangers = [name for name, each in content.items() if not isinstance(each, Tensor)]
    if strangers:
        raise ValueError(f'{path} holds more than weights, for example {strangers[0]!r}')
    try:
        return fastpose_from_state(content)
    except FastPoseError as error:
        raise ValueError(f'{path}: {error}') from error


def heatmap_graph(network: FastPose, size: tuple[int, int]) -> onnx.ModelProto:
    """The network as ONNX: `image` float (N, 3, H, W) → `heatmaps` (N, K, H/4, W/4), N free.

    size: (H, W), multiples of 32.
    """
    if any(side < 32 or side % 32 for side in size):
        raise ValueError(f'FastPose takes crops in multiples of 32 pixels, not {size[0]}x{size[1]}')
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # this exporter is deprecated, and says so at each call
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, *size),),
            buffer,  # type: ignore[arg-type]  # this exporter takes it
            input_names=['image'],
            output_names=['heatmaps'],
            dynamic_axes={'image': {0: 'people'}, 'heatmaps': {0: 'people'}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_model_from_string(buffer.getvalue())
