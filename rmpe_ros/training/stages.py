# SPDX-License-Identifier: Apache-2.0
"""The stages of training by name, each with its network, loss, examples and validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.networks.person_detector import PersonDetector, load_rtmdet
from rmpe_ros.training.data_config import DataConfig
from rmpe_ros.training.datasets import LabelledPerson
from rmpe_ros.training.detector import SceneExamples, detector_loss
from rmpe_ros.training.pose import (
    PoseExamples,
    PoseValidation,
    build_pose_network,
    sppe_loss,
    sstn_loss,
)

Propose = Callable[[LabelledPerson, np.random.Generator], np.ndarray]

STAGES = ('sppe', 'sstn', 'detector')
DETECTOR_SIZE = (320, 320)


@dataclass(frozen=True)
class Stage:
    """What `Trainer` needs. evaluate: None where a stage has no validation of its own."""

    network: nn.Module
    loss: Callable[..., dict[str, Tensor]]
    examples: Callable[[np.random.Generator], dict[str, np.ndarray]]
    evaluate: Callable[[nn.Module], dict[str, float]] | None


def build_stage(
    stage: str,
    data: DataConfig,
    *,
    model: str = 'lite',
    pretrained: Path | None = None,
    init: Path | None = None,
    propose: Propose | None = None,
    parallel: bool = True,
    frozen_blocks: int = 0,
) -> Stage:
    """One stage of STAGES on `data`.

    pretrained: the ONNX file that the weights start from, MoveNet's for the pose stages, RTMDet's
    for the detector. init: checkpoint of an earlier stage,
    whose averaged weights the network starts from instead.
    propose: which boxes the pose stages see (a person, a random generator → a box), jittered true
    ones by default. parallel: train the sstn stage with the parallel SPPE. frozen_blocks: how many
    of the encoder's first blocks stay as they are.
    Raises ValueError when a name is unknown or `init` is of another network.
    """
    if stage == 'detector':
        detector = PersonDetector()
        if pretrained:
            load_rtmdet(detector, pretrained)
        if init:
            load_checkpoint(detector, init)
        examples = SceneExamples(data.scenes(), data.scenes_mix, DETECTOR_SIZE)
        return Stage(detector, detector_loss, examples, None)
    if stage not in STAGES:
        raise ValueError(f'no training stage {stage!r}: there are {", ".join(STAGES)}')
    network = build_pose_network(model, sstn=stage == 'sstn', pretrained=pretrained)
    if init:
        load_checkpoint(network, init, may_lack='localisation.')
    if frozen_blocks:
        network.sppe.encoder.freeze(frozen_blocks)  # type: ignore[operator, union-attr]
    if stage == 'sstn' and parallel:
        network.attach_parallel()
    return Stage(
        network,
        sstn_loss if stage == 'sstn' else sppe_loss,
        PoseExamples(data.people(), data.people_mix, network.size, propose=propose),
        PoseValidation(data.validation.annotations, data.validation.images, network.size),
    )


def load_checkpoint(network: nn.Module, path: Path, *, may_lack: str | None = None) -> None:
    """Fill `network` with a checkpoint's averaged weights; only names that start with `may_lack`
    may be missing there. Raises ValueError naming what differs.
    """
    state = torch.load(path, map_location='cpu', weights_only=True)['ema']
    own = network.state_dict()
    differing = [
        name
        for name in own.keys() | state.keys()
        if name not in own
        or (name not in state and not (may_lack and name.startswith(may_lack)))
        or (name in state and own[name].shape != state[name].shape)
    ]
    if differing:
        raise ValueError(
            f'{path} is not a checkpoint of this network: '
            f'{", ".join(sorted(differing)[:3])} and {len(differing) - 3} more differ'
            if len(differing) > 3
            else f'{path} is not a checkpoint of this network: {", ".join(differing)} differ'
        )
    network.load_state_dict(state, strict=False)
