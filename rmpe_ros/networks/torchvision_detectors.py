# SPDX-License-Identifier: Apache-2.0
"""torchvision's SSD detectors by our contract: SSD300 with VGG-16, the family that the paper used
(RMPE section 4.2), and SSDLite320 with MobileNetV3.

The networks, their official COCO weights (BSD-3-Clause) and the decoding of boxes are
torchvision's; its NMS is left out, as RMPE wants redundant boxes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.core.odd_paths import why_unreadable
from rmpe_ros.engines.example_pictures import example_scene
from rmpe_ros.io.files import write_file
from rmpe_ros.networks.export import make_onnx

PERSON = 1  # of COCO's 91 classes, 0 is the background
# Builder and weights of each, by their names in torchvision.models.detection.
NETWORKS = {
    'ssd300_vgg16': 'SSD300_VGG16_Weights',
    'ssdlite320_mobilenet_v3_large': 'SSDLite320_MobileNet_V3_Large_Weights',
}
# Declarations of operators go when this object goes.
_DECLARATIONS = torch.library.Library('torchvision', 'FRAGMENT')


@cache
def import_torchvision_detection() -> Any:
    """The module torchvision.models.detection.

    Raises ImportError when torchvision is missing or does not fit torch.
    """
    spec = find_spec('torchvision')
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'torchvision'", name='torchvision')
    try:
        torch.ops.load_library(Path(spec.origin).with_name('_C.so'))
    except OSError:
        # PyPI's torchvision has its compiled part for the CUDA build of torch only, and a torch
        # for CPUs cannot load it. Its Python part is all that is needed, and only misses the
        # declarations of two operators, which are never run here.
        for operator in ('nms', 'qnms'):
            _DECLARATIONS.define(
                f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
            )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it warns that it cannot read pictures: no matter here
        try:
            return import_module('torchvision.models.detection')
        except RuntimeError as error:
            raise ImportError(
                f'torchvision does not fit PyTorch {torch.__version__} ({error})',
                name='torchvision',
            ) from error


def build_ssd(name: str, *, seed: int | None = None) -> nn.Module:
    """One of torchvision's SSD networks with random weights, in evaluation mode."""
    detection = import_torchvision_detection()
    if seed is not None:
        torch.manual_seed(seed)
    network: nn.Module = getattr(detection, name)(weights=None, weights_backbone=None)
    return network.eval()


def load_weights(network: nn.Module, name: str, file: Path | None = None) -> None:
    """Load weights from a file, or the official ones, which are downloaded and kept.

    Raises ValueError that says what to do when they cannot be had or do not fit.
    """
    if file is None:
        state = _official_weights(name)
    else:
        try:
            state = torch.load(file, map_location='cpu', weights_only=True)
        except OSError as error:
            raise ValueError(f'{file} cannot be read: {why_unreadable(error, file)}') from error
        except Exception as error:
            # pickle, zipfile and torch raise unrelated classes for files that are none.
            raise ValueError(f'{file} is no file of PyTorch weights: {error}') from error
        # torchvision's training script saves {'model': …, 'optimizer': …}.
        state = state.get('model', state) if isinstance(state, dict) else {}
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        lines = str(error).splitlines()
        raise ValueError(
            f'{file or "the official file"} has no weights of {name}: {" ".join(lines[:2])} …'
        ) from error


def _official_weights(name: str) -> Mapping[str, Tensor]:
    weights = getattr(import_torchvision_detection(), NETWORKS[name]).COCO_V1
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / 'checkpoints'
        raise ValueError(
            f'the official weights cannot be downloaded ({error}); fetch {weights.url} on another '
            f'machine and put it into {folder}, or give the file with --weights'
        ) from error
    return state


class SsdGraph(nn.Module):
    """The contract: uint8 (1, S, S, 3) RGB → boxes (1, Q, 4) in input pixels, scores (1, Q).

    The `queries` anchors that are most likely a person, best first, no NMS.
    """

    mean: Tensor
    deviation: Tensor
    anchors: Tensor

    def __init__(self, network: Any, queries: int = 300) -> None:
        super().__init__()
        self.network = network
        self.queries = queries
        (self.side,) = set(network.transform.fixed_size)
        channels = {'image_mean': 'mean', 'image_std': 'deviation'}
        for theirs, ours in channels.items():
            values = torch.tensor(getattr(network.transform, theirs)).reshape(1, 3, 1, 1)
            self.register_buffer(ours, values)
        self.register_buffer('anchors', self._make_anchors())

    def _make_anchors(self) -> Tensor:
        image_list = import_module('torchvision.models.detection.image_list').ImageList
        image = torch.zeros(1, 3, self.side, self.side)
        with torch.no_grad():
            features = list(self.network.backbone(image).values())
        images = image_list(image, [(self.side, self.side)])
        (anchors,) = self.network.anchor_generator(images, features)
        return anchors

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        # The cast comes first: TensorRT does not transpose uint8.
        planes = image.float().permute(0, 3, 1, 2) / 255
        features = self.network.backbone((planes - self.mean) / self.deviation)
        found = self.network.head(list(features.values()))
        person = torch.softmax(found['cls_logits'], dim=2)[:, :, PERSON]
        scores, places = torch.topk(person, self.queries, dim=1)
        codes, anchors = found['bbox_regression'][0, places[0]], self.anchors[places[0]]
        return self.network.box_coder.decode_single(codes, anchors).unsqueeze(0), scores


def export_ssd(
    network: nn.Module, path: Path, *, metadata: Mapping[str, str], queries: int = 300
) -> float:
    """Write the model, and return how far its boxes are from PyTorch's, in pixels of the input."""
    import onnxruntime

    graph = SsdGraph(network, queries).eval()
    image = example_scene(3, (graph.side, graph.side))[None]
    model = make_onnx(
        graph,
        torch.from_numpy(image),
        input_name='image',
        output_names=('boxes', 'scores'),
        dynamic={},
        metadata={'rmpe.task': 'detector', **metadata},
        name=path.name,
    )
    write_file(path, model)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    (boxes,) = session.run(['boxes'], {'image': image})
    with torch.no_grad():
        expected, likely = (each[0].numpy() for each in graph(torch.from_numpy(image)))
    # Anchors of equal score may change places, and the last ones may be others.
    sure = likely > likely[-1] + 1e-5
    apart = np.abs(expected[sure][:, None] - boxes[0][None]).max(axis=2).min(axis=1)
    return float(apart.max(initial=0))
