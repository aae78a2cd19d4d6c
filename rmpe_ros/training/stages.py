# SPDX-License-Identifier: Apache-2.0
"""The stages of training by name, each with its network, loss, examples and validation."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.person_detector import DetectorNetwork, load_rtmdet
from rmpe_ros.networks.sstn_sppe import SstnSppe
from rmpe_ros.training.augment import SAME_FRAME, misplaced_box
from rmpe_ros.training.batches import ExampleBatches
from rmpe_ros.training.checkpoints import read_checkpoint
from rmpe_ros.training.data_config import DataConfig
from rmpe_ros.training.datasets import LabelledPerson, LabelledScene, load_scenes
from rmpe_ros.training.detector_training import SceneExamples, detector_loss
from rmpe_ros.training.detector_validation import DetectorValidation
from rmpe_ros.training.new_joints import fit_new_joints
from rmpe_ros.training.pictures import people_pictures, photo_pictures
from rmpe_ros.training.pose_losses import localisation_loss, sppe_loss, sstn_loss, taught_by
from rmpe_ros.training.pose_training import (
    PoseExamples,
    PoseValidation,
    build_pose_network,
    freeze_encoder,
    load_sppe,
    load_teacher,
    start_localisation,
)

Propose = Callable[[LabelledPerson, np.random.Generator], np.ndarray]

POSE_STAGES = ('sppe', 'localisation', 'sstn')
STAGES = (*POSE_STAGES, 'detector')
# Options of `rmpe train` that say nothing to the other stages, which therefore refuse them. The
# localisation stage trains nothing of the SPPE, whatever is frozen.
_ONLY_FOR: Mapping[str, Sequence[str]] = {
    '--model': POSE_STAGES,
    '--pgpg': POSE_STAGES,
    '--box-growth': POSE_STAGES,
    '--validation-people': POSE_STAGES,
    '--frozen-blocks': ('sppe', 'sstn'),
    '--stn-pretrained': ('localisation', 'sstn'),
    '--teacher': ('sppe',),
    '--parallel': ('sstn',),
}
DEFAULT_MODEL = 'lite'
DETECTOR_SIZE = (320, 320)
# Of the stages with a transformer: how far validation boxes are off, in their sides.
MOVED_BOXES = 0.1
_MOST_WORKERS = 16
# Batches of 16 crops that new joints are fitted to: of a network that goes on to learn, and of one
# that does not.
_START_BATCHES, _MEAN_BATCHES = 20, 60


@dataclass(frozen=True)
class Stage:
    """What `Trainer` needs. evaluate, pictures: None without validation. data: a fingerprint of the
    examples, another one when they or their mixture are others.
    """

    network: nn.Module
    loss: Callable[..., dict[str, Tensor]]
    batches: ExampleBatches
    evaluate: Callable[[nn.Module], dict[str, float]] | None
    pictures: Callable[[nn.Module], dict[str, np.ndarray]] | None
    data: str


def build_stage(
    stage: str,
    data: DataConfig,
    *,
    model: str | None = None,
    pretrained: Path | None = None,
    stn_pretrained: Path | None = None,
    init: Path | None = None,
    propose: Propose | None = None,
    parallel: bool | Path = True,
    teacher: Path | None = None,
    validation_people: int | None = None,
    frozen_blocks: int = 0,
    growth: float | None = None,
    device: str | torch.device = 'cpu',
    validate: bool = True,
) -> Stage:
    """One stage of STAGES on `data`.

    model: of POSE_MODELS, lite when None. pretrained: the ONNX file that the weights start from,
    PP-TinyPose's for the pose stages, RTMDet's for the detector. stn_pretrained: the ONNX file of
    an RTMDet, whose backbone the localisation network starts from where it has one. init:
    checkpoint of an earlier stage, whose averaged weights the network starts from instead. propose:
    which boxes the pose stages see (a person, a random generator → a box), jittered true ones by
    default, of the localisation stage jittered as little or as much as boxes ever are. parallel:
    train the sstn stage with the parallel SPPE; a path is the checkpoint of the network that it is
    to be, by default the SPPE's own start. teacher: ONNX file of PP-TinyPose, whose heatmaps the
    sppe stage keeps to. validation_people: validate the pose stages on so many people of each
    source at most.
    frozen_blocks: how many of the encoder's first blocks stay as they are. growth: of boxes in what
    the SPPE sees, the model's own when None. device: that will train.
    validate: with validation data.
    Raises ValueError when a name is unknown, `init` is of another network, or something is told
    that the stage has no use for.
    """
    if stage not in STAGES:
        raise ValueError(f'no training stage {stage!r}: there are {", ".join(STAGES)}')
    told = {
        '--model': model is not None,
        '--pgpg': propose is not None,
        '--box-growth': growth is not None,
        '--validation-people': validation_people is not None,
        '--frozen-blocks': frozen_blocks > 0,
        '--stn-pretrained': stn_pretrained is not None,
        '--teacher': teacher is not None,
        '--parallel': isinstance(parallel, Path),
    }
    for option, stages in _ONLY_FOR.items():
        if told[option] and stage not in stages:
            raise ValueError(
                f'{option} is for {" and ".join(stages)}; {stage} has no use for it: leave it out'
            )
    if pretrained and init:
        raise ValueError(
            f'all weights are in {init}, and nothing would be left of {pretrained}: give --init '
            'or --pretrained'
        )
    device = torch.device(device)
    if stage == 'detector':
        return _detector_stage(data, pretrained, init, device, validate)
    name = model or DEFAULT_MODEL
    network = build_pose_network(name, sstn=stage != 'sppe', pretrained=pretrained)
    if growth is not None:
        network.sppe_growth = growth
    if init:
        load_checkpoint(network, init, may_lack='localisation.')
    if stn_pretrained:
        start_localisation(network, name, stn_pretrained)
    if frozen_blocks:
        freeze_encoder(network, frozen_blocks)
    losses = {'sppe': sppe_loss, 'localisation': localisation_loss, 'sstn': sstn_loss}
    loss = taught_by(load_teacher(teacher).to(device)) if teacher else losses[stage]
    if stage == 'localisation':
        network.sppe.requires_grad_(False)
    if stage == 'sstn' and parallel:
        network.attach_parallel(load_sppe(parallel) if isinstance(parallel, Path) else None)
    people = data.people()
    alone = stage == 'localisation'
    examples = PoseExamples(
        people,
        data.people_mix,
        network.size,
        growth=network.growth,
        propose=propose or (misplaced_box if alone else None),
        augmentation=SAME_FRAME if alone else None,
    )
    batches = ExampleBatches(examples, workers=_workers(device))
    if pretrained and isinstance(network.sppe, LiteHrnetSppe):
        _fit_joints(network.sppe, batches, _START_BATCHES)
    validation = data.validation
    check = (
        PoseValidation(
            validation.annotations,
            validation.images,
            network.size,
            growth=network.growth,
            most=validation_people,
            # What the spatial transformer is for shows only where boxes are off.
            moved=0.0 if stage == 'sppe' else MOVED_BOXES,
        )
        if validate
        else None
    )
    return Stage(
        network,
        loss,
        batches,
        check,
        partial(people_pictures, check) if check else None,
        fingerprint(people, data.people_mix),
    )


def _detector_stage(
    data: DataConfig,
    pretrained: Path | None,
    init: Path | None,
    device: torch.device,
    validate: bool,
) -> Stage:
    detector = DetectorNetwork()
    if pretrained:
        load_rtmdet(detector, pretrained)
    if init:
        load_checkpoint(detector, init)
    scenes = data.scenes()
    validation = data.validation
    check = None
    if validate:
        labelled = load_scenes(
            validation.annotations, validation.images, file_format=validation.file_format
        )
        check = DetectorValidation(labelled, DETECTOR_SIZE)
    return Stage(
        detector,
        detector_loss,
        ExampleBatches(
            SceneExamples(scenes, data.scenes_mix, DETECTOR_SIZE), workers=_workers(device)
        ),
        check,
        partial(photo_pictures, check) if check else None,
        fingerprint(scenes, data.scenes_mix),
    )


def _workers(device: torch.device) -> int:
    """Threads that draw examples: on a CPU one, the cores have the network to compute."""
    if device.type == 'cpu':
        return 1
    here = int(os.environ.get('LOCAL_WORLD_SIZE', '1'))  # torchrun's, on this machine
    return max(1, min((os.cpu_count() or 1) // here, _MOST_WORKERS))


def fingerprint(
    examples: Sequence[LabelledPerson] | Sequence[LabelledScene], mix: Mapping[str, float]
) -> str:
    """A short text that is another one when labels, their order or the mixture are others.

    Where the photos lie does not count, nor what is in them.
    """
    digest = hashlib.sha256(json.dumps(dict(mix), sort_keys=True).encode())
    for example in examples:
        digest.update(f'{example.image.name} {example.source}'.encode())
        arrays = (
            (example.box, example.joints, example.weights)
            if isinstance(example, LabelledPerson)
            else (example.boxes, example.ignore, np.array(example.complete))
        )
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
    return f'{len(examples)} examples, {digest.hexdigest()[:8]}'


def open_pose_network(model: str, checkpoint: Path, *, growth: float | None = None) -> SstnSppe:
    """The averaged network of a run, without the parallel SPPE, which is discarded at test (RMPE
    sec. 3.1). growth: of boxes in what the SPPE sees, the model's own when None. Raises ValueError
    when it is of another model.
    """
    sstn = any(name.startswith('localisation.') for name in read_checkpoint(checkpoint)['ema'])
    network = build_pose_network(model, sstn=sstn)
    if growth is not None:
        network.sppe_growth = growth
    load_checkpoint(network, checkpoint)
    return network.eval()


def with_fitted_joints(
    weights: Mapping[str, Tensor], data: DataConfig, *, model: str, growth: float | None = None
) -> dict[str, Tensor]:
    """A checkpoint's weights with the joints that PP-TinyPose lacks fitted to people of `data`.
    Raises ValueError when they are not of the pose model, or that is no Lite-HRNet.
    """
    stage = build_stage('sppe', data, model=model, growth=growth, validate=False)
    network = stage.network
    if not isinstance(network, SstnSppe) or not isinstance(network.sppe, LiteHrnetSppe):
        raise ValueError(f'PP-TinyPose has nothing to do with {model}: leave --data out')
    of_sppe = {name: tensor for name, tensor in weights.items() if name.startswith('sppe.')}
    load_weights(network, of_sppe, 'the mean')
    _fit_joints(network.sppe, stage.batches, _MEAN_BATCHES)
    fitted = network.state_dict()
    return {name: fitted.get(name, tensor) for name, tensor in weights.items()}


def _fit_joints(sppe: LiteHrnetSppe, batches: ExampleBatches, count: int) -> None:
    """Fit the joints that PP-TinyPose lacks to the first `count` batches of 16 people."""
    new = slice(COCO17.num_keypoints, None)
    fit_new_joints(sppe, (batches.batch(0, s, range(16)) for s in range(count)), new)


def load_checkpoint(network: nn.Module, path: Path, *, may_lack: str | None = None) -> None:
    """Fill `network` with a checkpoint's averaged weights; only names that start with `may_lack`
    may be missing there, and a parallel SPPE is left out. Raises ValueError naming what differs.
    """
    state = {k: v for k, v in read_checkpoint(path)['ema'].items() if not k.startswith('parallel.')}
    load_weights(network, state, str(path), may_lack=may_lack)


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], path: str, *, may_lack: str | None = None
) -> None:
    """`load_checkpoint` of weights by name; path: what they are called in the error."""
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
